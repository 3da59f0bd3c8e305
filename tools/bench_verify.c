/* bench_verify.c - see bench_verify.h.
 *
 * The reference computes a whole world from all ranks' inputs. Each rank puts its own inputs, and
 * the rows that the reference gives it, into a window that the others map, so that they exist once
 * and not once per rank. Sections: the reference's world | comparing | operations | verdicts. */
#include "bench_verify.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ref/ref.h"

#define POISON 0xA5

struct judge {
    struct bed *bed;
    const struct bench_case *c;
    struct verdict *v;
    struct window window;
    struct sy_ref_world world;
    struct sy_ref_route ref;
    struct sy_ref_sum *sums; /* [R] */
    int64_t *ids;            /* [R, T, K] */
    float *weights;          /* [R, T, K] */
    int op;                  /* that is compared now */
};

/* --- the reference's world ------------------------------------------------------------------ */

/* Where things are in the window of a rank that receives so many rows. */
struct places {
    uint64_t scales, rows, sum_rows, bytes;
};

static uint64_t after(uint64_t at, int64_t bytes)
{
    return (at + (uint64_t)bytes + 255) / 256 * 256;
}

static struct places find_places(const struct judge *j, int32_t rank)
{
    const struct bench_case *c = j->c;
    int64_t rows = bench_case_rows(c, &j->bed->b, rank);
    struct places p;
    p.scales = after(0, c->tokens * c->x_bytes);
    p.rows = after(p.scales, c->tokens * c->x_scales * 4);
    p.sum_rows = after(p.rows, rows * c->wire_bytes);
    p.bytes = after(p.sum_rows, j->bed->sum_own ? rows * c->sum_bytes : 0);
    return p;
}

static void describe_rank(struct judge *j, int32_t rank)
{
    const struct bench_case *c = j->c;
    const struct batch *b = &j->bed->b;
    const struct places at = find_places(j, rank);
    const uint8_t *window = j->window.at[rank];
    int64_t *ids = j->ids + rank * c->tokens * c->topk;
    float *weights = j->weights + rank * c->tokens * c->topk;
    batch_weights(b, rank, weights);
    j->world.rank[rank] = (struct sy_ref_rank){
        .experts = batch_first(b, rank + 1) - batch_first(b, rank),
        .capacity = c->capacity,
        .tokens = c->tokens,
        .ids = ids,
        .x = window,
        .scales = c->x_scales ? (const uint32_t *)(const void *)(window + at.scales) : NULL,
        .weights = j->bed->out_weights ? weights : NULL};
    j->sums[rank] = (struct sy_ref_sum){.x = window + (j->bed->sum_own ? at.sum_rows : at.rows),
                                        .weights = j->bed->o->weighted ? weights : NULL};
}

static int open_judge(struct judge *j)
{
    const struct bench_case *c = j->c;
    struct bed *bed = j->bed;
    const struct places at = find_places(j, bed->w->rank);
    size_t selections = (size_t)(c->ranks * c->tokens * c->topk);
    uint8_t *own;
    if (window_open(bed->w, &j->window, at.bytes))
        return -1;
    own = j->window.at[bed->w->rank];
    if (engine_get(bed->e, own, bed->x, (size_t)(c->tokens * c->x_bytes)) ||
        (c->x_scales && engine_get(bed->e, own + at.scales, bed->x_scales,
                                   (size_t)(c->tokens * c->x_scales) * 4)) ||
        (bed->sum_own &&
         engine_get(bed->e, own + at.sum_rows, bed->sum_own, (size_t)(bed->rows * c->sum_bytes))))
        return -1;
    j->ids = bench_alloc(selections * sizeof *j->ids);
    j->weights = bench_alloc(selections * sizeof *j->weights);
    j->sums = bench_alloc(sizeof *j->sums * (size_t)c->ranks);
    j->world = (struct sy_ref_world){.ranks = c->ranks,
                                     .topk = c->topk,
                                     .layout = c->layout,
                                     .alignment = c->alignment,
                                     .type = bench_types[c->type].type,
                                     .quant = c->quant,
                                     .hidden = c->elements,
                                     .scale_words = c->x_scales,
                                     .rank = bench_alloc(sizeof *j->world.rank * (size_t)c->ranks)};
    if (!j->ids || !j->weights || !j->sums || !j->world.rank)
        return -1;
    for (int32_t r = 0; r < c->ranks; r++) {
        if (batch_ids(&bed->b, r, j->ids + r * c->tokens * c->topk))
            return bench_fail("no memory for ids");
        describe_rank(j, r);
    }
    sy_ref_route(&j->world, &j->ref);
    return world_barrier(bed->w); /* all inputs are in their windows */
}

static void close_judge(struct judge *j)
{
    if (j->ref.at)
        sy_ref_route_free(&j->ref);
    window_close(&j->window);
    free(j->ids);
    free(j->weights);
    free(j->sums);
    free(j->world.rank);
}

/* --- comparing ------------------------------------------------------------------------------ */

static void differ(struct judge *j, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void differ(struct judge *j, const char *format, ...)
{
    va_list ap;
    int n;
    j->v->verified[j->op] = 0;
    if (j->v->text[0])
        return;
    n = snprintf(j->v->text, sizeof j->v->text, "%s, rank %d: ", bench_op_names[j->op],
                 (int)j->bed->w->rank);
    va_start(ap, format);
    vsnprintf(j->v->text + n, sizeof j->v->text - (size_t)n, format, ap);
    va_end(ap);
}

/* got: memory of the engine. */
static int same(struct judge *j, const char *what, void *got, const void *want, int64_t rows,
                int64_t row_bytes)
{
    const size_t bytes = (size_t)(rows * row_bytes);
    const uint8_t *g, *w = want;
    uint8_t *host = engine_map(j->bed->e, got, bytes, 1);
    int64_t i = 0;
    if (!host)
        return -1;
    g = host;
    if (memcmp(g, w, bytes)) {
        while (g[i] == w[i])
            i++;
        differ(j, "%s differs in row %lld, byte %lld: %02x, and the reference has %02x", what,
               (long long)(i / row_bytes), (long long)(i % row_bytes), g[i], w[i]);
    }
    return engine_unmap(j->bed->e, got, host, bytes, 0);
}

static int same_counts(struct judge *j, const char *what, const sy_tensor *got, const int32_t *want,
                       int64_t n)
{
    int32_t *g = engine_map(j->bed->e, got->data, (size_t)n * sizeof *g, 1);
    if (!g)
        return n ? -1 : 0;
    for (int64_t i = 0; i < n; i++)
        if (g[i] != want[i]) {
            differ(j, "%s[%lld] is %d, and the reference has %d", what, (long long)i, (int)g[i],
                   (int)want[i]);
            break;
        }
    return engine_unmap(j->bed->e, got->data, g, (size_t)n * sizeof *g, 0);
}

/* What the route knows. */
static int compare_counts(struct judge *j)
{
    const struct sy_ref_arrivals *a = j->ref.at + j->bed->w->rank;
    const int64_t L = j->bed->locals, R = j->c->ranks;
    sy_route_info info = {.size = sizeof info};
    int64_t totals[SY_TOTALS];
    int bad;
    if (bench_check(sy_route_info_get(j->bed->route, &info), "sy_route_info_get") ||
        bench_check(sy_route_totals(j->bed->route, totals), "sy_route_totals"))
        return -1;
    for (int i = 0; i < SY_TOTALS; i++)
        if (totals[i] != a->totals[i])
            differ(j, "total %d is %lld, and the reference has %d", i, (long long)totals[i],
                   (int)a->totals[i]);
    bad = same_counts(j, "expert_counts", &info.expert_counts, a->expert_counts, L);
    bad |= same_counts(j, "expert_aligned", &info.expert_aligned, a->expert_aligned, L);
    bad |= same_counts(j, "expert_offsets", &info.expert_offsets, a->expert_offsets, L + 1);
    bad |= same_counts(j, "source_counts", &info.source_counts, a->source_counts, R);
    bad |= same_counts(j, "source_offsets", &info.source_offsets, a->source_offsets, R + 1);
    bad |= same_counts(j, "slab_begin", &info.slab_begin, a->slab_begin, L * R);
    bad |= same_counts(j, "slab_count", &info.slab_count, a->slab_count, L * R);
    return bad;
}

/* --- operations ----------------------------------------------------------------------------- */

static int judge_route(struct judge *j)
{
    if (j->c->mode == SY_LATENCY)
        return 0;
    j->op = OP_ROUTE;
    j->v->verified[OP_ROUTE] = 1;
    return bed_do(j->bed, OP_ROUTE) || compare_counts(j) ? -1 : 0;
}

/* An output of the library, and what the reference makes of one that was poisoned alike. */
struct pair {
    void *got;
    int64_t row_bytes;
    struct sy_ref_output want;
};

static int make_pair(struct judge *j, struct pair *p, void *got, int64_t rows, int64_t row_bytes)
{
    *p = (struct pair){.got = got, .row_bytes = row_bytes};
    if (!got)
        return 0;
    p->want = (struct sy_ref_output){bench_alloc((size_t)(rows * row_bytes)), rows};
    if (!p->want.data)
        return -1;
    memset(p->want.data, POISON, (size_t)(rows * row_bytes));
    return engine_fill(j->bed->e, got, POISON, (size_t)(rows * row_bytes));
}

static int end_pair(struct judge *j, const char *what, struct pair *p, int compare)
{
    int bad = 0;
    if (p->got && compare)
        bad = same(j, what, p->got, p->want.data, p->want.rows, p->row_bytes);
    free(p->want.data);
    return bad;
}

static int judge_dispatch(struct judge *j)
{
    struct bed *bed = j->bed;
    const struct bench_case *c = j->c;
    int64_t columns = sy_ref_by_expert(c->layout) ? 1 : c->topk, n = bed->rows ? bed->rows : 1;
    uint8_t *want = j->window.at[bed->w->rank] + find_places(j, bed->w->rank).rows;
    size_t bytes = (size_t)(bed->rows * c->wire_bytes);
    struct sy_ref_outputs out = {.x = {want, bed->rows}, .ids_type = SY_I32};
    struct pair scales, weights, ids;
    int bad;
    j->op = OP_DISPATCH;
    j->v->verified[OP_DISPATCH] = 1;
    bad = make_pair(j, &scales, bed->out_scales, n, c->wire_scales * 4);
    bad |= make_pair(j, &weights, bed->out_weights, n, columns * 4);
    bad |= make_pair(j, &ids, bed->out_ids, n, columns * 4);
    if (bed->rows_own)
        bad |= engine_fill(bed->e, bed->rows_own, POISON, bytes);
    bad = bad || bed_do(bed, OP_DISPATCH);
    if (!bad && c->mode == SY_LATENCY)
        bad = compare_counts(j);
    if (!bad) {
        /* What lay in a view before is not known: what may stay there is taken as it is. */
        memset(want, POISON, bytes);
        if (!bed->rows_own)
            bad = engine_get(bed->e, want, bed_rows(bed), bytes);
        out.scales = scales.want;
        out.weights = weights.want;
        out.ids = ids.want;
        sy_ref_dispatch(&j->world, &j->ref, bed->w->rank, &out);
        bad |= same(j, "out_x", bed_rows(bed), want, bed->rows, c->wire_bytes);
    }
    bad |= end_pair(j, "out_scales", &scales, !bad);
    bad |= end_pair(j, "out_weights", &weights, !bad);
    bad |= end_pair(j, "out_ids", &ids, !bad);
    return bad ? -1 : 0;
}

/* Equal terms add up to the same in any order. So here, and not while the time is taken, experts
 * change their rows: some low bits of the mantissas, differently on each rank. */
static int play_experts(struct judge *j)
{
    const struct bed *bed = j->bed;
    const uint32_t bits = ((uint32_t)bed->w->rank + 1) * 0x00010001u & 0x007f007fu;
    const int64_t bytes = bed->rows * j->c->sum_bytes;
    uint8_t *want = j->window.at[bed->w->rank] + find_places(j, bed->w->rank).rows;
    if (bed->sum_own)
        return 0;
    for (int64_t i = 0; i < bytes; i += 4) {
        uint32_t word;
        memcpy(&word, want + i, 4);
        word ^= bits;
        memcpy(want + i, &word, 4);
    }
    return engine_put(bed->e, bed_sum_rows(bed), want, (size_t)bytes);
}

static int judge_combine(struct judge *j)
{
    struct bed *bed = j->bed;
    const struct bench_case *c = j->c;
    size_t bytes = (size_t)(c->tokens * c->sum_bytes);
    void *want = bench_alloc(bytes);
    int bad = !want;
    if (bad)
        return -1;
    j->op = OP_COMBINE;
    j->v->verified[OP_COMBINE] = 1;
    bad = engine_fill(bed->e, bed->out, POISON, bytes) || play_experts(j);
    bad = bad || world_barrier(bed->w) || /* all rows are in their windows */
          bed_do(bed, OP_COMBINE);
    if (!bad) {
        j->sums[bed->w->rank].out = want;
        sy_ref_combine(&j->world, &j->ref, bed->w->rank, c->sum_type, c->hidden, j->sums);
        bad = same(j, "out", bed->out, want, c->tokens, c->sum_bytes);
    }
    free(want);
    return bad ? -1 : 0;
}

/* --- verdicts ------------------------------------------------------------------------------- */

/* The worst of all ranks' verdicts, and the first of their texts. */
static int agree(struct world *w, struct verdict *v)
{
    int32_t *flags = calloc((size_t)w->ranks, sizeof v->verified);
    char *texts = calloc((size_t)w->ranks, sizeof v->text);
    int bad = flags && texts ? 0 : bench_fail("no memory");
    bad = bad || world_gather(w, v->verified, flags, sizeof v->verified) ||
          world_gather(w, v->text, texts, sizeof v->text);
    for (int32_t r = w->ranks - 1; !bad && r >= 0; r--) {
        for (int op = 0; op < BENCH_OPS; op++)
            if (!flags[r * BENCH_OPS + op])
                v->verified[op] = 0;
        if (texts[(size_t)r * sizeof v->text])
            memcpy(v->text, texts + (size_t)r * sizeof v->text, sizeof v->text);
    }
    free(flags);
    free(texts);
    return bad ? -1 : 0;
}

/* at: memory of the engine, or NULL. */
static int hash_add(const struct bed *bed, uint64_t *hash, void *at, int64_t bytes)
{
    const uint8_t *host;
    uint8_t *mapped;
    if (!at)
        return 0;
    mapped = engine_map(bed->e, at, (size_t)bytes, 1);
    if (!mapped)
        return -1;
    host = mapped;
    for (int64_t i = 0; i < bytes; i += 4) {
        uint32_t word;
        memcpy(&word, host + i, 4);
        *hash = (*hash ^ word) * 0x100000001b3u;
        *hash ^= *hash >> 29;
    }
    return engine_unmap(bed->e, at, mapped, (size_t)bytes, 0);
}

/* Of all outputs but views, whose unused rows are anybody's. */
static int hash_outputs(const struct bed *bed, uint64_t *hash)
{
    const struct bench_case *c = bed->c;
    int64_t columns = sy_ref_by_expert(c->layout) ? 1 : c->topk;
    int bad;
    *hash = 0xcbf29ce484222325u;
    bad = hash_add(bed, hash, bed->rows_own, bed->rows * c->wire_bytes);
    bad |= hash_add(bed, hash, bed->out_scales, bed->rows * c->wire_scales * 4);
    bad |= hash_add(bed, hash, bed->out_weights, bed->rows * columns * 4);
    bad |= hash_add(bed, hash, bed->out_ids, bed->rows * columns * 4);
    if (c->ops & 1u << OP_COMBINE)
        bad |= hash_add(bed, hash, bed->out, c->tokens * c->sum_bytes);
    return bad;
}

/* Halves are one operation, verified as a whole. */
static void share_with_halves(struct verdict *v)
{
    v->verified[OP_DISPATCH_SEND] = v->verified[OP_DISPATCH_RECEIVE] = v->verified[OP_DISPATCH];
    v->verified[OP_COMBINE_SEND] = v->verified[OP_COMBINE_RECEIVE] = v->verified[OP_COMBINE];
}

/* Once more as it will be timed, with experts that do nothing: all iterations must end so. */
static int take_hash(struct bed *bed, struct verdict *v)
{
    int bad = bed->c->mode == SY_THROUGHPUT && bed_do(bed, OP_ROUTE);
    bad = bad || bed_do(bed, OP_DISPATCH);
    if (!bad && bed->c->ops & 1u << OP_COMBINE)
        bad = bed_do(bed, OP_COMBINE);
    return bad || hash_outputs(bed, &v->hash) ? -1 : world_barrier(bed->w);
}

int verify_before(struct bed *bed, struct verdict *v)
{
    struct judge j = {.bed = bed, .c = bed->c, .v = v, .window = {.fd = -1}};
    int bad = open_judge(&j) || judge_route(&j) || judge_dispatch(&j);
    if (!bad && bed->c->ops & 1u << OP_COMBINE)
        bad = judge_combine(&j);
    close_judge(&j);
    bad = bad || agree(bed->w, v);
    share_with_halves(v);
    return bad || take_hash(bed, v) ? -1 : 0;
}

int verify_after(struct bed *bed, struct verdict *v)
{
    uint64_t hash;
    if (hash_outputs(bed, &hash))
        return -1;
    if (hash != v->hash) {
        for (int op = OP_DISPATCH; op <= OP_COMBINE; op++)
            v->verified[op] = v->verified[op] < 0 ? -1 : 0;
        if (!v->text[0])
            snprintf(v->text, sizeof v->text,
                     "rank %d: what the last iteration gave differs from what the first gave",
                     (int)bed->w->rank);
    }
    if (agree(bed->w, v))
        return -1;
    share_with_halves(v);
    return 0;
}
