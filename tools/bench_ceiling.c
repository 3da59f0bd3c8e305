/* bench_ceiling.c - see bench_ceiling.h; what is measured stands in the help of the command.
 *
 * Each rank copies the rows of its tokens, in their order, to each rank that they go to, into a
 * place of their own: what a dispatch has to move, without anything that a dispatch has to know. A
 * row for several ranks comes from memory once and then from the cache, as in a dispatch.
 */
#define _GNU_SOURCE
#include "bench_ceiling.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "tool.h"

#define REPEATS 5
#define LEAST_NS 30000000u /* of one measurement: passes are repeated until it takes so long */
#define PASSES_MAX 10000

/* ---- ways to copy a row -------------------------------------------------------------------- */

typedef void (*copy_fn)(uint8_t *to, const uint8_t *from, size_t bytes);

static void copy_plain(uint8_t *to, const uint8_t *from, size_t bytes)
{
    memcpy(to, from, bytes);
}

#if defined(__x86_64__)
/* Past the caches: `to` is aligned to 16. */
static void copy_stream16(uint8_t *to, const uint8_t *from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 16)
        _mm_stream_si128((__m128i *)(void *)(to + i),
                         _mm_loadu_si128((const __m128i *)(const void *)(from + i)));
}

__attribute__((target("avx2"))) static void copy_stream32(uint8_t *to, const uint8_t *from,
                                                          size_t bytes)
{
    size_t i = 0;
    if ((uintptr_t)to % 32) {
        copy_stream16(to, from, 16);
        i = 16;
    }
    for (; i + 128 <= bytes; i += 128) {
        __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)(from + i));
        __m256i b = _mm256_loadu_si256((const __m256i *)(const void *)(from + i + 32));
        __m256i c = _mm256_loadu_si256((const __m256i *)(const void *)(from + i + 64));
        __m256i d = _mm256_loadu_si256((const __m256i *)(const void *)(from + i + 96));
        _mm256_stream_si256((__m256i *)(void *)(to + i), a);
        _mm256_stream_si256((__m256i *)(void *)(to + i + 32), b);
        _mm256_stream_si256((__m256i *)(void *)(to + i + 64), c);
        _mm256_stream_si256((__m256i *)(void *)(to + i + 96), d);
    }
    copy_stream16(to + i, from + i, bytes - i);
}
#endif

struct way {
    const char *name;
    copy_fn copy;
};

static int find_ways(struct way ways[2])
{
    ways[0] = (struct way){"memcpy", copy_plain};
#if defined(__x86_64__)
    ways[1] = (struct way){"streaming stores, 16 bytes", copy_stream16};
    if (__builtin_cpu_supports("avx2"))
        ways[1] = (struct way){"streaming stores, 32 bytes", copy_stream32};
    return 2;
#else
    return 1;
#endif
}

/* All that was stored is on its way to memory. */
static void settle(void)
{
#if defined(__x86_64__)
    _mm_sfence();
#endif
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* ---- what to copy -------------------------------------------------------------------------- */

struct item {
    uint8_t *to;
    const uint8_t *from;
};

struct plan {
    struct world *w;
    struct window window;
    uint8_t *x;
    struct item *items;
    int64_t n, row_bytes;
    uint64_t bytes_all, bytes_first; /* of all ranks, of rank 0 */
};

/* Where this rank's rows begin in each window. */
static void set_places(const struct batch *b, const struct traffic *t, int32_t rank, int64_t *place)
{
    for (int32_t d = 0; d < b->ranks; d++) {
        place[d] = 0;
        for (int32_t r = 0; r < rank; r++)
            place[d] += t->rows[r * b->ranks + d];
    }
}

static int make_items(struct plan *p, const struct batch *b, const struct traffic *t)
{
    int64_t *ids = bench_alloc(sizeof *ids * (size_t)(b->tokens * b->topk));
    int64_t *place = bench_alloc(sizeof *place * (size_t)b->ranks);
    int32_t *dst = bench_alloc(sizeof *dst * (size_t)b->topk);
    int64_t most = 0;
    for (int32_t d = 0; d < b->ranks; d++)
        most += t->rows[p->w->rank * b->ranks + d];
    p->items = bench_alloc(sizeof *p->items * (size_t)most);
    if (!ids || !place || !dst || !p->items || batch_ids(b, p->w->rank, ids)) {
        free(ids);
        free(place);
        free(dst);
        return bench_fail("no memory for a ceiling's plan");
    }
    set_places(b, t, p->w->rank, place);
    for (int64_t i = 0; i < b->tokens; i++) {
        int32_t n = batch_ranks(b, ids + i * b->topk, dst);
        for (int32_t j = 0; j < n; j++)
            p->items[p->n++] = (struct item){p->window.at[dst[j]] + place[dst[j]]++ * p->row_bytes,
                                             p->x + i * p->row_bytes};
    }
    free(ids);
    free(place);
    free(dst);
    for (int32_t d = 0; d < b->ranks; d++)
        p->bytes_first += (uint64_t)(t->rows[d] * p->row_bytes);
    p->bytes_all = (uint64_t)(t->rows_all * p->row_bytes);
    return 0;
}

/* ---- measuring ----------------------------------------------------------------------------- */

struct span {
    uint64_t begin_ns, end_ns;
};

static struct span copy_passes(const struct plan *p, copy_fn copy, int64_t passes)
{
    struct span span = {.begin_ns = tool_now_ns()};
    for (int64_t pass = 0; pass < passes; pass++)
        for (int64_t i = 0; i < p->n; i++)
            copy(p->items[i].to, p->items[i].from, (size_t)p->row_bytes);
    settle();
    span.end_ns = tool_now_ns();
    return span;
}

/* Nanoseconds from the first begin to the last end; alone: only rank 0 copies. */
static int one_run(struct plan *p, copy_fn copy, int64_t passes, int alone, uint64_t *ns)
{
    struct span span = {UINT64_MAX, 0}, *all = calloc((size_t)p->w->ranks, sizeof *all);
    int bad = all ? world_barrier(p->w) : bench_fail("no memory");
    if (!bad && (!alone || !p->w->rank))
        span = copy_passes(p, copy, passes);
    bad = bad || world_gather(p->w, &span, all, sizeof span);
    for (int32_t r = 1; !bad && r < p->w->ranks; r++) {
        all[0].begin_ns = all[r].begin_ns < all[0].begin_ns ? all[r].begin_ns : all[0].begin_ns;
        all[0].end_ns = all[r].end_ns > all[0].end_ns ? all[r].end_ns : all[0].end_ns;
    }
    if (!bad)
        *ns = all[0].end_ns - all[0].begin_ns + 1;
    free(all);
    return bad ? -1 : 0;
}

static int best_run(struct plan *p, copy_fn copy, int alone, double *gbps)
{
    uint64_t bytes = alone ? p->bytes_first : p->bytes_all, ns, passes;
    if (one_run(p, copy, 1, alone, &ns)) /* touches every page, too */
        return -1;
    if (one_run(p, copy, 1, alone, &ns))
        return -1;
    passes = LEAST_NS / ns + 1; /* the same on all ranks, as ns is */
    passes = passes > PASSES_MAX ? PASSES_MAX : passes;
    for (int i = 0; i < REPEATS; i++) {
        double rate;
        if (one_run(p, copy, (int64_t)passes, alone, &ns))
            return -1;
        rate = (double)bytes * (double)passes / (double)ns / (alone ? 1 : p->w->ranks);
        *gbps = rate > *gbps ? rate : *gbps;
    }
    return 0;
}

static int measure(struct plan *p, struct bench_ceiling out[2])
{
    struct way ways[2];
    int n = find_ways(ways);
    for (int alone = 0; alone < 2; alone++)
        for (int i = 0; i < n; i++) {
            double gbps = 0;
            if (best_run(p, ways[i].copy, alone, &gbps))
                return -1;
            if (gbps <= out[alone].value)
                continue;
            out[alone].value = gbps;
            snprintf(out[alone].how, sizeof out[alone].how, "%s", ways[i].name);
        }
    return 0;
}

int ceiling_measure(struct world *w, const struct batch *b, const struct traffic *t,
                    int64_t row_bytes, struct bench_ceiling out[2])
{
    struct plan p = {.w = w, .row_bytes = row_bytes};
    size_t bytes = (size_t)(b->tokens * row_bytes);
    int bad;
    for (int alone = 0; alone < 2; alone++)
        out[alone] = (struct bench_ceiling){.kind = alone ? CEILING_COPY_ONE : CEILING_COPY,
                                            .ranks = w->ranks,
                                            .tokens = b->tokens,
                                            .row_bytes = row_bytes};
    p.x = bench_alloc(bytes);
    if (!p.x)
        return -1;
    memset(p.x, 1, bytes);
    bad = window_open(w, &p.window, (uint64_t)(batch_arrivals(b, t, w->rank) * row_bytes));
    bad = bad || make_items(&p, b, t) || measure(&p, out);
    window_close(&p.window);
    free(p.items);
    free(p.x);
    return bad ? -1 : 0;
}
