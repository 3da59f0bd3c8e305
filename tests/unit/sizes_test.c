/* sizes_test.c - where everything lies (src/layout/sizes.h): regions follow each other without
 * overlap, aligned, and hold what heap.def, local.def and route.def say. Random limits, and the
 * largest that a group may have.
 *
 * What a region must hold is written down here a second time, from what kernels do with it. */
#include <stdlib.h>

#include "base/maxima.h"
#include "check.h"
#include "layout/sizes.h"
#include "prng.h"

#define REGIONS_MAX 64

struct region {
    const char *name;
    sy_u64 offset, bytes;
};

static void check_regions(const char *what, const struct region *r, int count, sy_u64 bytes)
{
    sy_u64 end = 0;
    for (int i = 0; i < count; i++) {
        CHECK(r[i].offset % SY_REGION_ALIGN == 0, "%s: %s is not aligned", what, r[i].name);
        CHECK(r[i].offset >= end, "%s: %s begins at %llu, inside of what ends at %llu", what,
              r[i].name, r[i].offset, end);
        CHECK(r[i].offset - end < SY_REGION_ALIGN, "%s: %llu bytes before %s are wasted", what,
              r[i].offset - end, r[i].name);
        end = r[i].offset + r[i].bytes;
    }
    CHECK(bytes >= end && bytes - end < SY_REGION_ALIGN && bytes % SY_REGION_ALIGN == 0,
          "%s: ends at %llu, and has %llu bytes", what, end, bytes);
}

static struct sy_limits draw_limits(struct sy_prng *p)
{
    struct sy_limits m = {0};
    m.ranks = (sy_u64)sy_prng_spread(p, 1, 64);
    m.local_max = (sy_u64)sy_prng_spread(p, 1, 300);
    m.experts = m.ranks * m.local_max;
    m.route_words = (sy_u64)sy_prng_spread(p, 0, 100000);
    m.topk_max = (sy_u64)sy_prng_spread(p, 1, 64);
    m.tokens_max = sy_prng_once_in(p, 4) ? 0 : (sy_u64)sy_prng_spread(p, 1, 5000);
    m.lat_tokens_max = sy_prng_once_in(p, 4) ? 0 : (sy_u64)sy_prng_spread(p, 1, 300);
    m.recv_rows_max = sy_prng_once_in(p, 2) ? 0 : (sy_u64)sy_prng_spread(p, 1, 100000);
    m.row_bytes_max = 16 * (sy_u64)sy_prng_spread(p, 1, 4096);
    m.scale_words_max = (sy_u64)sy_prng_spread(p, 1, 512);
    m.views = m.tokens_max ? (sy_u64)sy_prng_range(p, 1, 8) : 0;
    m.lat_views = m.lat_tokens_max ? (sy_u64)sy_prng_range(p, 2, 8) : 0;
    m.user_bytes = 256 * (sy_u64)sy_prng_spread(p, 0, 100000);
    m.route_chunks = (sy_u64)sy_prng_spread(p, 0, 64);
    return m;
}

static void check_limits(const struct sy_limits *given, const struct sy_limits *m)
{
    sy_u64 rows = given->recv_rows_max ? given->recv_rows_max : m->ranks * m->tokens_max;
    CHECK(m->books == (m->ranks * (4 + m->ranks + m->experts) <= given->route_words), "books");
    CHECK(m->fan_max == (m->ranks < m->topk_max ? m->ranks : m->topk_max), "fan_max");
    CHECK(m->recv_tokens_max == m->ranks * m->tokens_max, "recv_tokens_max");
    CHECK(m->recv_rows_max == (m->tokens_max ? rows : 0), "recv_rows_max %llu", m->recv_rows_max);
    CHECK(m->side_bytes_max % 16 == 0 &&
              m->side_bytes_max >= 4 * (m->scale_words_max + m->topk_max),
          "side_bytes_max %llu", m->side_bytes_max);
    CHECK(m->tail_bytes_max % 16 == 0 &&
              m->tail_bytes_max >= 4 * (4 + 3 * m->topk_max + m->scale_words_max),
          "tail_bytes_max %llu", m->tail_bytes_max);
    CHECK(m->meta_words % 4 == 0 && m->meta_words >= 2 + m->topk_max, "meta_words");
    CHECK(m->view_bytes % SY_REGION_ALIGN == 0 &&
              m->view_bytes >= m->recv_rows_max * m->row_bytes_max,
          "view_bytes");
    CHECK(m->td_chunks * SY_CHUNK_ROWS >= m->tokens_max && m->tc_chunks == m->td_chunks, "chunks");
}

/* Bytes that kernels need, by region. */
static sy_u64 heap_needs(const char *name, const struct sy_limits *m)
{
    sy_u64 R = m->ranks, T = m->tokens_max, t = m->lat_tokens_max, K = m->topk_max, F = m->fan_max;
    const struct {
        const char *name;
        sy_u64 bytes;
    } needs[] = {
        {"stop", 16},
        {"fault", R * sizeof(struct sy_fault_record)},
        {"start", 2 * SY_CHANNELS * R * sizeof(struct sy_start)},
        {"route_count", m->books ? 2 * R * (4 + R + m->experts) * 8 : R * (4 + m->local_max) * 8},
        {"route_base", R * (2 + m->local_max) * 8},
        {"route_arrive", R * 4},
        {"route_meta", R * T * (2 + K) * 4},
        {"td_arrive", R * ((T + 63) / 64) * 4},
        {"td_side", R * T * 4 * (m->scale_words_max + K)},
        {"td_rows", m->views * m->recv_rows_max * m->row_bytes_max},
        {"tc_arrive", (T + 63) / 64 * 4},
        {"tc_done", R * 8},
        {"tc_weigh", R * 4},
        {"tc_weights", R * T * K * 4},
        {"tc_side", T * F * K * 4},
        {"tc_rows", T * F * m->row_bytes_max},
        {"ld_count", m->lat_views * R * (4 + m->local_max) * 8},
        {"ld_arrive", R * 4},
        {"ld_tail", m->lat_views * R * t * 4 * (4 + 3 * K + m->scale_words_max)},
        {"ld_rows", m->lat_views * R * t * m->row_bytes_max},
        {"lc_arrive", 2 * t * 128},
        {"lc_weigh", R * 4},
        {"lc_weights", 2 * R * t * K * 4},
        {"lc_dropped", 2 * t * F * 4},
        {"lc_side", 2 * t * F * K * 4},
        {"lc_rows", 2 * t * F * m->row_bytes_max},
        {"user", m->user_bytes},
    };
    for (size_t i = 0; i < sizeof needs / sizeof *needs; i++)
        if (!strcmp(needs[i].name, name))
            return needs[i].bytes;
    CHECK(0, "what must region %s hold?", name);
    return 0;
}

static void check_heap(const struct sy_limits *m)
{
    struct sy_heap_layout at;
    struct sy_region_info info[REGIONS_MAX];
    struct region r[REGIONS_MAX];
    sy_u64 bytes = sy_heap_layout_make(&at, m);
    int count = 0;
    sy_u32 told = sy_heap_regions(m, info, REGIONS_MAX);
#define SY_REGION(name, type, count_, meaning)                                                     \
    r[count++] = (struct region){#name, at.name, sizeof(type) * (count_)};
#include "layout/heap.def"
#undef SY_REGION
    CHECK(bytes == at.bytes, "heap: %llu bytes and %llu", bytes, at.bytes);
    check_regions("heap", r, count, bytes);
    CHECK((int)told == count, "%u regions told of %d", told, count);
    for (int i = 0; i < count && i < (int)told; i++) {
        CHECK(!strcmp(info[i].name, r[i].name) && info[i].offset == r[i].offset &&
                  info[i].bytes == r[i].bytes && info[i].meaning[0],
              "region %s is told as %s", r[i].name, info[i].name);
        CHECK(r[i].bytes >= heap_needs(r[i].name, m), "region %s has %llu bytes and needs %llu",
              r[i].name, r[i].bytes, heap_needs(r[i].name, m));
    }
    CHECK(sy_heap_regions(m, info, 3) == told, "how many there are, asked for three");
    CHECK(sy_heap_regions(m, NULL, 0) == told, "how many there are, asked for none");
}

static void check_local(const struct sy_limits *m)
{
    struct sy_local_layout at;
    struct region r[REGIONS_MAX];
    sy_u64 bytes = sy_local_layout_make(&at, m);
    int count = 0;
#define SY_LOCAL(name, type, count_, meaning)                                                      \
    r[count++] = (struct region){#name, at.name, sizeof(type) * (count_)};
#include "layout/local.def"
#undef SY_LOCAL
    check_regions("private memory", r, count, bytes);
}

static void check_route(struct sy_prng *p)
{
    struct sy_route_limits limits = {0}, *m = &limits;
    struct sy_route_layout at;
    struct region r[REGIONS_MAX];
    sy_u64 bytes;
    int count = 0;
    m->ranks = (sy_u64)sy_prng_spread(p, 1, 64);
    m->local = (sy_u64)sy_prng_spread(p, 0, 300);
    m->topk = (sy_u64)sy_prng_spread(p, 1, 64);
    m->fan = m->topk < m->ranks ? m->topk : m->ranks;
    m->tokens = (sy_u64)sy_prng_spread(p, 1, 5000);
    m->recv = m->ranks * m->tokens;
    m->chunks = (m->tokens + SY_CHUNK_ROWS - 1) >> SY_CHUNK_SHIFT;
    bytes = sy_route_layout_make(&at, m);
#define SY_ROUTE(name, type, count_, meaning)                                                      \
    r[count++] = (struct region){#name, at.name, sizeof(type) * (count_)};
#include "layout/route.def"
#undef SY_ROUTE
    check_regions("route", r, count, bytes);
}

static void random_limits(void)
{
    for (uint64_t seed = 0; seed < 2000 && !check_state.failures; seed++) {
        struct sy_prng p = sy_prng_make(seed, 0);
        struct sy_limits given = draw_limits(&p), m = given;
        sy_limits_derive(&m);
        check_limits(&given, &m);
        check_heap(&m);
        check_local(&m);
        check_route(&p);
    }
}

/* Numbers that the configuration lets through do not wrap around. */
static void largest(void)
{
    struct sy_limits m = {.ranks = 2048,
                          .experts = SY_EXPERTS_MAX,
                          .local_max = SY_EXPERTS_MAX,
                          .topk_max = 2047,
                          .tokens_max = SY_TOKENS_MAX - 1,
                          .lat_tokens_max = SY_TOKENS_MAX - 1,
                          .recv_rows_max = SY_ROWS_MAX,
                          .row_bytes_max = SY_ROW_BYTES_MAX,
                          .scale_words_max = SY_SCALE_WORDS_MAX,
                          .views = SY_VIEWS_MAX,
                          .lat_views = SY_LAT_VIEWS_MAX,
                          .user_bytes = SY_HEAP_BYTES_MAX / 256 * 256,
                          .route_chunks = 4096};
    sy_limits_derive(&m);
    check_heap(&m);
    check_local(&m);
}

/* Eight ranks and 256 experts keep books in so many words; one word less, and they ask. */
static void books(void)
{
    struct sy_limits m = {.ranks = 8, .experts = 256, .local_max = 32, .topk_max = 8};
    m.tokens_max = m.recv_rows_max = m.views = m.row_bytes_max = 16;
    m.route_words = 8 * (4 + 8 + 256);
    sy_limits_derive(&m);
    CHECK(m.books && m.told_words == 268, "%llu words", m.told_words);
    m.route_words--;
    sy_limits_derive(&m);
    CHECK(!m.books && m.told_words == 36, "%llu words", m.told_words);
}

int main(void)
{
    TEST(books);
    TEST(random_limits);
    TEST(largest);
    return check_end();
}
