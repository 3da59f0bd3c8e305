/* tune_test.c - how operations are cut (src/plan/tune.h), over random machines and works:
 * everything is covered once, fits, and is the same on all ranks. */
#include <math.h>
#include <stdlib.h>

#include "api/group.h"
#include "api/ops.h"
#include "base/maxima.h"
#include "check.h"
#include "device/prims.h"
#include "plan/tune.h"
#include "prng.h"

static struct sy_machine draw_machine(struct sy_prng *p)
{
    struct sy_machine m = {0};
    m.lanes = sy_prng_once_in(p, 2) ? 1 : 32;
    m.blocks_max = (uint32_t)sy_prng_spread(p, 1, m.lanes == 1 ? 64 : 132);
    m.warps_max = m.lanes == 1 ? 1 : 8;
    m.shared_max = m.lanes == 1 ? UINT64_MAX / 2 : (uint64_t)sy_prng_range(p, 48, 227) * 1024;
    m.pace = sy_prng_once_in(p, 2) ? (uint32_t)sy_prng_spread(p, 1, 4000) : 0;
    m.links = m.lanes > 1 && sy_prng_once_in(p, 2) ? (uint32_t)sy_prng_spread(p, 1, 4000) : 0;
    m.bulk = m.lanes > 1 && sy_prng_once_in(p, 2);
    return m;
}

static struct sy_work draw_work(struct sy_prng *p)
{
    struct sy_work w = {0};
    w.ranks = (uint32_t)sy_prng_spread(p, 1, 72);
    w.local_max = (uint32_t)sy_prng_spread(p, 1, 300);
    w.experts = w.ranks * w.local_max;
    w.topk = (uint32_t)sy_prng_spread(p, 1, 64);
    w.fan = w.topk < w.ranks ? w.topk : w.ranks;
    w.quant = sy_prng_once_in(p, 4) ? (uint32_t)sy_prng_range(p, 1, 3) : 0;
    w.row_bytes = 16 * (uint32_t)sy_prng_spread(p, 1, w.quant ? 2048 : 4096);
    w.side_bytes = 16 * (uint32_t)sy_prng_spread(p, 0, 40);
    w.tail_bytes = 16 * (uint32_t)sy_prng_spread(p, 1, 60);
    w.tokens_most = (uint32_t)sy_prng_spread(p, 1, 8192);
    w.tokens = (uint32_t)sy_prng_below(p, w.tokens_most + 1);
    w.send = w.receive = 1;
    return w;
}

/* 16 bytes of scales, so that parts of a row's side do not meet in one store. Worked out here. */
static const uint32_t quant_units[] = {128, 16 / 4 * 128, 16 / 4 * 128, 16 * 128};

/* The parts of a row and the pieces of a part. */
static void check_parts(const struct sy_machine *m, const struct sy_work *w, const struct sy_cut *c)
{
    const struct sy_shape *s = &c->shape;
    CHECK(s->parts >= 1 && s->parts <= SY_PARTS_MAX, "%u parts", s->parts);
    CHECK((uint64_t)s->parts * s->part_bytes >= w->row_bytes, "%u parts of %u bytes, a row of %u",
          s->parts, s->part_bytes, w->row_bytes);
    CHECK((uint64_t)(s->parts - 1) * s->part_bytes < w->row_bytes, "an empty part: %u of %u, %u",
          s->parts, s->part_bytes, w->row_bytes);
    CHECK(s->part_bytes % (s->parts == 1 ? 16u : quant_units[w->quant]) == 0, "parts of %u bytes",
          s->part_bytes);
    CHECK(s->piece_bytes % 16 == 0 && s->piece_bytes >= 16 && s->piece_bytes <= s->part_bytes,
          "pieces of %u of parts of %u", s->piece_bytes, s->part_bytes);
    CHECK(c->shared_bytes <= m->shared_max, "%llu bytes of shared memory, and there are %llu",
          (unsigned long long)c->shared_bytes, (unsigned long long)m->shared_max);
    CHECK(c->blocks >= 1 && c->blocks <= m->blocks_max, "%u blocks of %u", c->blocks,
          m->blocks_max);
    CHECK(c->warps == s->pushers + s->signallers + s->finishers && c->warps >= 1 && c->warps <= 16,
          "%u warps: %u + %u + %u", c->warps, s->pushers, s->signallers, s->finishers);
}

/* Every stage holds what it is for. */
static void check_stages(const struct sy_work *w, const struct sy_cut *c, uint32_t fan,
                         uint32_t side_bytes)
{
    const struct sy_shape *s = &c->shape;
    uint32_t wide = w->quant ? 2 : 1;
    if (!s->pushers)
        return;
    CHECK(s->stages >= 3, "%u stages", s->stages); /* pipe.h: more than may be leaving */
    CHECK(s->stage_bytes >= 64 + fan * 16 + side_bytes + wide * s->part_bytes,
          "a stage of %u bytes for %u destinations, %u + %u bytes", s->stage_bytes, fan, side_bytes,
          s->part_bytes);
    CHECK(c->shared_bytes >= (uint64_t)s->pushers * s->stages * s->stage_bytes, "stages overlap");
}

/* A finisher's memory is there, and one step at a time can be held. */
static void check_sums(const struct sy_work *w, const struct sy_cut *c)
{
    const struct sy_shape *s = &c->shape;
    uint64_t each =
        SY_FINISHER_BYTES((uint64_t)s->steps, w->topk, (uint64_t)s->slots, (uint64_t)s->slot_bytes);
    CHECK((uint64_t)s->splits * s->split_bytes >= w->row_bytes, "sums leave bytes out");
    CHECK(s->steps >= 1 && !(s->steps & (s->steps - 1)), "%u steps", s->steps);
    CHECK(s->slot_bytes >= 16 && s->slot_bytes % 16 == 0 && s->slot_bytes <= s->split_bytes,
          "steps of %u bytes of %u", s->slot_bytes, s->split_bytes);
    CHECK(s->slots || s->slot_bytes == s->split_bytes, "steps without slots");
    CHECK(c->shared_bytes >=
              s->finishers * each + (uint64_t)s->pushers * s->stages * s->stage_bytes,
          "finishers' memory is not there");
}

static void check_quotient(struct sy_prng *p, uint32_t by, struct sy_by scale)
{
    uint32_t n = (uint32_t)sy_prng_below(p, 1u << 31) >> sy_prng_below(p, 31);
    uint32_t multiple = n / by * by; /* the last ones before it and it are the hard ones */
    CHECK(sy_quotient(n, scale) == n / by, "%u / %u is %u", n, by, sy_quotient(n, scale));
    CHECK(sy_quotient(multiple, scale) == n / by, "%u / %u", multiple, by);
    CHECK(!multiple || sy_quotient(multiple - 1, scale) == n / by - 1, "%u / %u", multiple - 1, by);
}

static int try_cut(int op, const struct sy_machine *m, const struct sy_work *w, struct sy_cut *cut)
{
    return (op == 0 ? sy_cut_tdispatch(m, w, cut) : sy_cut_combine(m, w, cut)) == SY_OK;
}

/* Ranks and halves cut rows alike, however many tokens they have. */
static void check_equal(int op, const struct sy_machine *m, const struct sy_work *w,
                        const struct sy_cut *whole, struct sy_prng *p)
{
    struct sy_work other = *w;
    struct sy_cut cut;
    other.tokens = (uint32_t)sy_prng_below(p, w->tokens_most + 1);
    other.send = sy_prng_once_in(p, 2);
    other.receive = !other.send || sy_prng_once_in(p, 2);
    other.copies = sy_prng_once_in(p, 2);
    other.outputs = other.copies || sy_prng_once_in(p, 2);
    other.pull = op && !w->latency && sy_prng_once_in(p, 2);
    CHECK(try_cut(op, m, &other, &cut), "the half of an operation cannot be cut");
    CHECK(cut.shape.parts == whole->shape.parts && cut.shape.part_bytes == whole->shape.part_bytes,
          "ranks cut rows into %u and %u parts", cut.shape.parts, whole->shape.parts);
    CHECK(other.receive || !cut.shape.finishers, "a send half with finishers");
    CHECK((other.send && !other.pull) || !cut.shape.pushers, "pushers with nothing to push");
}

static void rows(void)
{
    int fits = 0, many = 0, quantised = 0;
    for (uint64_t seed = 0; seed < 20000 && !check_state.failures; seed++) {
        struct sy_prng p = sy_prng_make(seed, 0);
        struct sy_machine m = draw_machine(&p);
        struct sy_work w = draw_work(&p);
        struct sy_cut cut;
        int op = (int)sy_prng_below(&p, 2);
        if (op)
            w.quant = w.side_bytes = 0;
        w.latency = op && sy_prng_once_in(&p, 3);
        w.pull = op && !w.latency && sy_prng_once_in(&p, 3);
        w.by_expert = sy_prng_once_in(&p, 2);
        w.copies = w.outputs = w.by_expert || sy_prng_once_in(&p, 2);
        if (!try_cut(op, &m, &w, &cut)) { /* too much for a GPU's block: says so */
            CHECK(m.lanes > 1 && strstr(sy_last_error(), "shared memory"), "seed %llu: %s",
                  (unsigned long long)seed, sy_last_error());
            continue;
        }
        fits++;
        many += cut.shape.parts > 1;
        check_parts(&m, &w, &cut);
        check_quotient(&p, cut.shape.stages, cut.shape.by_stages);
        check_quotient(&p, cut.shape.parts, cut.shape.by_parts);
        check_quotient(&p, cut.shape.splits, cut.shape.by_splits);
        check_stages(&w, &cut, op ? w.topk : w.fan, w.side_bytes);
        check_equal(op, &m, &w, &cut, &p);
        quantised += w.quant && cut.shape.parts > 1;
        CHECK(!w.latency || w.by_expert || m.lanes > 1 || cut.shape.parts == 1,
              "latency mode with %u parts of rows that are not summed", cut.shape.parts);
        if (op)
            check_sums(&w, &cut);
    }
    CHECK(fits > 15000 && many > 500 && quantised > 200,
          "only %d works fit, %d of them in parts, %d of these to be quantised", fits, many,
          quantised);
}

static void latency(void)
{
    for (uint64_t seed = 0; seed < 5000 && !check_state.failures; seed++) {
        struct sy_prng p = sy_prng_make(seed, 1);
        struct sy_machine m = draw_machine(&p);
        struct sy_work w = draw_work(&p);
        struct sy_cut cut;
        if (sy_cut_ldispatch(&m, &w, &cut) != SY_OK) {
            CHECK(m.lanes > 1 && strstr(sy_last_error(), "latency mode"), "%s", sy_last_error());
            continue;
        }
        CHECK(cut.shared_bytes <= m.shared_max && cut.blocks >= 1 && cut.blocks <= m.blocks_max &&
                  cut.warps >= 1 && cut.warps <= 16,
              "%u blocks of %u warps, %llu bytes", cut.blocks, cut.warps,
              (unsigned long long)cut.shared_bytes);
        CHECK(cut.shared_bytes >= (2 * w.ranks + w.experts) * 4ull +
                                      SY_HEARD_BYTES((uint64_t)w.ranks, w.local_max) + w.row_bytes +
                                      w.tail_bytes + w.topk * 16ull + w.fan * 16ull,
              "counters, row and tail do not fit %llu bytes", (unsigned long long)cut.shared_bytes);
        CHECK(cut.shape.parts == 1 && cut.shape.part_bytes == w.row_bytes, "parts in latency mode");
    }
}

/* All tokens are counted once, in no more chunks than memory was taken for. */
static void routing(void)
{
    for (uint64_t seed = 0; seed < 20000 && !check_state.failures; seed++) {
        struct sy_prng p = sy_prng_make(seed, 2);
        struct sy_machine m = draw_machine(&p);
        struct sy_work w = draw_work(&p);
        uint32_t chunk = 0, chunks = 0;
        struct sy_cut cut;
        if (sy_cut_route(&m, &w, &cut, &chunk, &chunks) != SY_OK) {
            CHECK(m.lanes > 1, "%s", sy_last_error());
            continue;
        }
        CHECK((uint64_t)chunk * chunks >= w.tokens, "%u chunks of %u for %u tokens", chunks, chunk,
              w.tokens);
        CHECK(chunks == 1 || (uint64_t)chunk * (chunks - 1) < w.tokens, "an empty chunk");
        CHECK(cut.blocks - chunks <= 1, "%u chunks, %u blocks", chunks, cut.blocks);
        CHECK(chunk % SY_ROUTE_UNIT(w.topk) == 0, "units that end elsewhere");
        CHECK(chunks <= sy_route_chunks_max(&m, w.tokens_most), "%u chunks, memory for %llu",
              chunks, (unsigned long long)sy_route_chunks_max(&m, w.tokens_most));
        CHECK(cut.blocks >= 1 && cut.blocks <= m.blocks_max && cut.shared_bytes <= m.shared_max,
              "%u blocks, %llu bytes", cut.blocks, (unsigned long long)cut.shared_bytes);
    }
}

/* Where pushers keep to a rate, all together make it; dispatch does with 12 blocks, combine with
 * 24, of rows by expert with 48, if each pusher has four tokens. */
static void pace(void)
{
    int keep[3] = {0};
    for (uint64_t seed = 0; seed < 20000 && !check_state.failures; seed++) {
        struct sy_prng p = sy_prng_make(seed, 4);
        struct sy_machine m = draw_machine(&p);
        struct sy_work w = draw_work(&p);
        struct sy_cut cut;
        double rate, whole;
        int op = (int)sy_prng_below(&p, 2), wanted;
        if (op)
            w.quant = w.side_bytes = 0;
        w.latency = op && sy_prng_once_in(&p, 3);
        w.by_expert = sy_prng_once_in(&p, 2);
        if (!try_cut(op, &m, &w, &cut))
            continue;
        wanted = m.pace && m.lanes > 1 && !w.latency &&
                 cut.blocks >= (!op           ? 12u
                                : w.by_expert ? 48u
                                              : 24u) &&
                 w.tokens >= 4 * cut.blocks * cut.shape.pushers;
        CHECK(!cut.shape.pace == !wanted, "seed %llu: a pace of %u, operation %d, %u blocks",
              (unsigned long long)seed, cut.shape.pace, op, cut.blocks);
        if (cut.shape.pace < 100) /* rounded */
            continue;
        keep[op ? 1 + (int)w.by_expert : 0]++;
        whole = (double)(w.row_bytes + w.side_bytes) / w.row_bytes;
        rate = 1024.0 * 16 / cut.shape.pace * cut.blocks * cut.shape.pushers * whole;
        CHECK(fabs(rate / m.pace - 1) < 0.02, "%.1f GB/s, and %u were asked for", rate, m.pace);
    }
    CHECK(keep[0] > 100 && keep[1] > 20 && keep[2] > 5, "only %d, %d, %d keep a pace", keep[0],
          keep[1], keep[2]);
}

static const struct sy_machine hopper = {.lanes = 32,
                                         .blocks_max = 132,
                                         .warps_max = 8,
                                         .shared_max = 227 << 10,
                                         .links = 345,
                                         .bulk = 1};
static const struct sy_work common = {.ranks = 8,
                                      .experts = 256,
                                      .local_max = 32,
                                      .topk = 8,
                                      .fan = 8,
                                      .row_bytes = 14336,
                                      .tokens = 4096,
                                      .tokens_most = 4096,
                                      .send = 1,
                                      .receive = 1,
                                      .outputs = 1};

/* As many pushers, and stores as large, as the links of H100 and H200 are busy with. */
static void offers(void)
{
    static const struct {
        uint32_t blocks, pushers, piece_bytes;
    } cases[] = {{8, 2, 7168},  {16, 2, 7168}, {20, 2, 3584}, {24, 2, 2048}, {31, 2, 2048},
                 {32, 1, 7168}, {40, 1, 3584}, {48, 1, 2048}, {132, 1, 2048}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sy_machine m = hopper;
        struct sy_cut cut;
        m.blocks_max = cases[i].blocks;
        CHECK(try_cut(1, &m, &common, &cut) && cut.shape.pushers == cases[i].pushers &&
                  cut.shape.piece_bytes == cases[i].piece_bytes,
              "%u blocks: %u pushers, stores of %u bytes", m.blocks_max, cut.shape.pushers,
              cut.shape.piece_bytes);
        m.links = 0; /* other links: large stores */
        CHECK(try_cut(1, &m, &common, &cut) && cut.shape.piece_bytes == 7168 &&
                  cut.shape.pushers == (m.blocks_max < 48 ? 2 : 1),
              "%u blocks, unknown links: %u pushers, %u bytes", m.blocks_max, cut.shape.pushers,
              cut.shape.piece_bytes);
    }
}

/* Where finishers copy rows, and what is stored leaves, one pusher suffices from 24 blocks on. */
static void copies(void)
{
    for (uint32_t blocks = 12; blocks <= 132; blocks++)
        for (uint32_t ranks = 2; ranks <= 8; ranks *= 2) {
            struct sy_machine m = hopper;
            struct sy_work w = common;
            struct sy_cut cut;
            uint32_t alone = ranks == 2 ? 48 : 24;
            m.blocks_max = blocks;
            w.ranks = w.fan = ranks;
            w.by_expert = w.copies = 1;
            CHECK(try_cut(0, &m, &w, &cut) && cut.shape.parts == 2 &&
                      cut.shape.pushers == (blocks >= alone ? 1u
                                            : blocks >= 24  ? 2u
                                                            : 3u),
                  "%u ranks, %u blocks: %u pushers, %u parts", ranks, blocks, cut.shape.pushers,
                  cut.shape.parts);
        }
}

/* What a route's combine would do on such a machine; path: SY_COMBINE_PATH. */
static int asked(const struct sy_machine *m, const struct sy_work *w, uint32_t latency, int path)
{
    static sy_group group;
    sy_route route = {.group = &group};
    group.dev.ranks = w->ranks;
    group.plan.params.combine_path = path;
    route.dev.topk = w->topk;
    route.dev.latency = latency;
    route.config.layout = w->by_expert ? SY_EXPERT_PACKED : SY_TOKEN_MAJOR;
    return sy_fetch_wanted(&route, m, w->tokens, w->row_bytes);
}

/* What the sources of a combine fetch, and what is pushed. */
static void paths(void)
{
    static const struct {
        const char *what;
        uint32_t blocks, pace, ranks, topk, tokens, row_bytes, by_expert;
        int fetches;
    } cases[] = {{"large", 132, 0, 8, 8, 4096, 14336, 0, 0},
                 {"by expert", 132, 0, 8, 8, 4096, 14336, 1, 0},
                 {"two ranks", 132, 0, 2, 8, 16384, 14336, 0, 1},
                 {"three ranks", 132, 0, 3, 8, 8192, 14336, 0, 0},
                 {"tokens enough", 132, 0, 4, 8, 3200, 14336, 0, 0},
                 {"few tokens", 132, 0, 4, 8, 3100, 14336, 0, 1},
                 {"few, but wide", 132, 0, 4, 8, 2048, 32768, 0, 0},
                 {"experts enough", 132, 0, 4, 6, 4096, 14336, 0, 0},
                 {"few experts", 132, 0, 4, 4, 4096, 14336, 0, 1},
                 {"blocks enough", 32, 0, 8, 8, 4096, 14336, 0, 0},
                 {"too few", 31, 0, 8, 8, 4096, 14336, 0, 1},
                 {"enough with a pace", 24, 355, 8, 8, 4096, 14336, 0, 0},
                 {"too few", 23, 355, 8, 8, 4096, 14336, 0, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sy_machine m = hopper, cpu = {.lanes = 1, .blocks_max = 8};
        struct sy_work w = common;
        m.blocks_max = cases[i].blocks;
        m.pace = cases[i].pace;
        w.ranks = cases[i].ranks;
        w.topk = cases[i].topk;
        w.tokens = cases[i].tokens;
        w.row_bytes = cases[i].row_bytes;
        w.by_expert = cases[i].by_expert;
        CHECK(sy_combine_fetches(&m, &w) == cases[i].fetches, "%s", cases[i].what);
        CHECK(asked(&m, &w, 0, 0) == cases[i].fetches, "%s, of a route", cases[i].what);
        CHECK(!asked(&m, &w, 0, 1) && asked(&m, &w, 0, 2) && !asked(&m, &w, 1, 0),
              "%s, as somebody wants it", cases[i].what);
        m.bulk = 0; /* lanes that store do not sum meanwhile */
        CHECK(sy_combine_fetches(&m, &w) == !w.by_expert, "%s, no bulk copies", cases[i].what);
        CHECK(sy_combine_fetches(&cpu, &w), "%s, on the CPU", cases[i].what);
    }
}

/* What a group takes for the blocks of the CPU engine suffices for whatever is asked of it
 * later. */
static void most_shared(void)
{
    for (uint64_t seed = 0; seed < 3000 && !check_state.failures; seed++) {
        struct sy_prng p = sy_prng_make(seed, 3);
        struct sy_machine m = {.lanes = 1,
                               .blocks_max = (uint32_t)sy_prng_spread(&p, 1, 64),
                               .warps_max = 1,
                               .shared_max = UINT64_MAX / 2};
        struct sy_work w = draw_work(&p);
        uint64_t most = 0;
        struct sy_limits l = {.ranks = w.ranks,
                              .experts = w.experts,
                              .local_max = w.local_max,
                              .topk_max = w.topk,
                              .tokens_max = w.tokens_most,
                              .lat_tokens_max = w.tokens_most,
                              .row_bytes_max = 16 * (uint64_t)sy_prng_spread(&p, 1, 4096),
                              .scale_words_max = (uint64_t)sy_prng_spread(&p, 1, 128)};
        sy_limits_derive(&l);
        CHECK(sy_shared_bytes_max(&m, &l, SY_THROUGHPUT | SY_LATENCY, &most) == SY_OK, "%s",
              sy_last_error());
        for (int i = 0; i < 40; i++) {
            uint32_t K = (uint32_t)sy_prng_range(&p, 1, w.topk), chunk, chunks;
            struct sy_work one = w;
            struct sy_cut cut;
            sy_status status;
            int op = (int)sy_prng_below(&p, 4);
            one.topk = K;
            one.fan = K < w.ranks ? K : w.ranks;
            one.quant = op == 0 && l.row_bytes_max >= 32 && sy_prng_once_in(&p, 2);
            one.row_bytes = 16 * (uint32_t)sy_prng_range(
                                     &p, 1, (int64_t)l.row_bytes_max / (one.quant ? 32 : 16));
            one.side_bytes = 16 * (uint32_t)sy_prng_range(&p, 0, (int64_t)l.side_bytes_max / 16);
            one.tail_bytes = 16 * (uint32_t)sy_prng_range(&p, 1, (int64_t)l.tail_bytes_max / 16);
            one.tokens = (uint32_t)sy_prng_below(&p, w.tokens_most + 1);
            one.latency = op == 2 && sy_prng_once_in(&p, 2);
            one.by_expert = sy_prng_once_in(&p, 2);
            status = op == 0   ? sy_cut_tdispatch(&m, &one, &cut)
                     : op == 1 ? sy_cut_ldispatch(&m, &one, &cut)
                     : op == 2 ? sy_cut_combine(&m, &one, &cut)
                               : sy_cut_route(&m, &one, &cut, &chunk, &chunks);
            CHECK(status == SY_OK && cut.shared_bytes <= most,
                  "seed %llu: operation %d wants %llu bytes, and blocks have %llu",
                  (unsigned long long)seed, op, (unsigned long long)cut.shared_bytes,
                  (unsigned long long)most);
        }
    }
}

int main(void)
{
    TEST(rows);
    TEST(latency);
    TEST(routing);
    TEST(pace);
    TEST(offers);
    TEST(copies);
    TEST(paths);
    TEST(most_shared);
    return check_end();
}
