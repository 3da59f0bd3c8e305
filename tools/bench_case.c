/* bench_case.c - from options to cases; what a case takes and what it moves. Sections: cases | room
 * | memory | bytes. */
#include <stdlib.h>
#include <string.h>

#include "bench.h"

/* --- cases ---------------------------------------------------------------------------------- */

static int64_t type_bytes(int32_t type)
{
    switch (type) {
    case SY_F8E4M3:
        return 1;
    case SY_F32:
        return 4;
    case SY_OPAQUE16:
        return 16;
    default:
        return 2;
    }
}

static int64_t up(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

static int64_t scale_words(int32_t type, int64_t elements)
{
    int64_t blocks = (elements + 127) / 128;
    if (type == SY_NONE)
        return 0;
    return type == SY_UE8M0X4 ? (blocks + 3) / 4 : blocks;
}

static void set_types(struct bench_case *c)
{
    const struct bench_type *type = bench_types + c->type;
    /* An opaque element is 16 bytes; the row is as long as one of BF16. */
    c->elements = type->type == SY_OPAQUE16 ? c->hidden * 2 / 16 : c->hidden;
    c->x_bytes = c->elements * type_bytes(type->type);
    c->x_scales = scale_words(type->scales, c->elements);
    c->wire_type = c->quant ? SY_F8E4M3 : type->type;
    c->wire_scale_type = type->scales;
    if (c->quant)
        c->wire_scale_type = c->quant == SY_QUANT_F8_UE8M0 ? SY_UE8M0X4 : SY_F32;
    c->wire_bytes = c->elements * type_bytes(c->wire_type);
    c->wire_scales = scale_words(c->wire_scale_type, c->elements);
    c->sum_apart = c->wire_type == SY_F8E4M3;
    c->sum_type = c->sum_apart ? SY_BF16 : c->wire_type;
    c->sum_bytes = c->hidden * type_bytes(c->sum_type);
    if (c->wire_type == SY_OPAQUE16) { /* cannot be summed */
        c->ops &= ~(1u << OP_COMBINE);
        c->sum_type = SY_NONE;
        c->sum_bytes = 0;
    }
}

/* Enough for a steady average, few enough that the default run ends within a minute on two cores:
 * about two and a half gigabytes of payload are moved. GPUs move forty times as much. */
static void set_iterations(const struct bench_options *o, struct bench_case *c)
{
    double bytes = (double)c->tokens * (double)c->x_bytes * (double)c->ranks;
    double iters = (o->engine == SY_ENGINE_CUDA ? 1e11 : 2.5e9) / (bytes + 1);
    c->iters = o->iters ? o->iters : iters < 8 ? 8 : iters > 200 ? 200 : (int32_t)iters;
    c->warmup = o->warmup >= 0 ? o->warmup : c->iters / 5 + 1;
}

static uint32_t or_default(uint32_t set, uint32_t otherwise)
{
    return set ? set : otherwise;
}

static void set_ops(const struct bench_options *o, struct bench_case *c)
{
    c->ops = or_default(o->ops, 1u << OP_ROUTE | 1u << OP_DISPATCH | 1u << OP_COMBINE);
    if (c->mode == SY_LATENCY)
        c->ops &= ~(1u << OP_ROUTE);
}

/* Latency mode leaves rows where they arrive in one layout only. */
static int possible_out(const struct bench_case *c, int out)
{
    return c->mode == SY_THROUGHPUT || c->layout == SY_RANK_MAJOR || out != OUT_VIEW;
}

/* Calls `add` for each token count. */
static void add_tokens(const struct bench_options *o, struct bench_case *c,
                       struct bench_case *cases, int *n)
{
    struct bench_list tokens = o->tokens;
    if (o->total_tokens) {
        tokens.n = 1;
        tokens.at[0] = o->total_tokens / c->ranks ? o->total_tokens / c->ranks : 1;
    } else if (!tokens.n) {
        tokens.n = 1;
        tokens.at[0] = c->mode == SY_LATENCY ? 128 : 4096;
    }
    set_ops(o, c);
    set_types(c);
    for (int i = 0; c->ops && i < tokens.n; i++) {
        c->tokens = tokens.at[i];
        set_iterations(o, c);
        if (cases)
            cases[*n] = *c;
        ++*n;
    }
}

static void add_outs(const struct bench_options *o, struct bench_case *c, struct bench_case *cases,
                     int *n)
{
    uint32_t outs = or_default(o->outs, 1u << OUT_VIEW), done = 0;
    for (int i = 0; i < BENCH_OUTS; i++) {
        if (!(outs >> i & 1))
            continue;
        c->out = possible_out(c, i) ? i : OUT_MEMORY;
        if (done >> c->out & 1 || (c->out != i && outs >> c->out & 1))
            continue; /* it is in the list itself */
        done |= 1u << c->out;
        add_tokens(o, c, cases, n);
    }
}

static void add_types(const struct bench_options *o, struct bench_case *c, struct bench_case *cases,
                      int *n)
{
    for (int type = 0; type < BENCH_TYPES; type++)
        for (int quant = 0; quant < BENCH_QUANTS; quant++) {
            if (!(o->types >> type & 1) || !(o->quants >> quant & 1))
                continue;
            if (quant && bench_types[type].type != SY_BF16)
                continue;
            c->type = type;
            c->quant = quant;
            add_outs(o, c, cases, n);
        }
}

static void add_layouts(const struct bench_options *o, struct bench_case *c,
                        struct bench_case *cases, int *n)
{
    for (int mode = BENCH_MODES; mode >= 1; mode--) { /* the quick one first */
        uint32_t layouts = mode == SY_LATENCY ? 1u << (SY_RANK_MAJOR - 1) : 1u;
        if (!(or_default(o->modes, 3) >> (mode - 1) & 1))
            continue;
        layouts = or_default(o->layouts, layouts);
        for (int layout = 1; layout <= BENCH_LAYOUTS; layout++) {
            if (!(layouts >> (layout - 1) & 1))
                continue;
            c->mode = mode;
            c->layout = layout;
            c->alignment = layout == SY_EXPERT_PACKED ? o->alignment : 0;
            add_types(o, c, cases, n);
        }
    }
}

static int at_least_one(int n)
{
    return n ? n : 1;
}

/* cases NULL: only counts. */
static int add_cases(const struct bench_options *o, int32_t ranks, struct bench_case *cases)
{
    struct bench_case c = {.ranks = ranks, .experts = o->experts, .threads = o->threads};
    int n = 0;
    for (int h = 0; h < o->hidden.n; h++)
        for (int k = 0; k < o->topk.n; k++)
            for (int w = 0; w < o->skews.n; w++)
                for (int s = 0; s < at_least_one(o->sms.n); s++) {
                    c.hidden = o->hidden.at[h];
                    c.topk = (int32_t)o->topk.at[k];
                    c.skew = o->skews.at[w];
                    c.sms = o->sms.n ? (int32_t)o->sms.at[s] : 0;
                    add_layouts(o, &c, cases, &n);
                }
    return n;
}

struct bench_case *bench_cases(const struct bench_options *o, int32_t ranks, int *n)
{
    struct bench_case *cases;
    *n = add_cases(o, ranks, NULL);
    cases = calloc((size_t)*n + 1, sizeof *cases);
    if (cases)
        add_cases(o, ranks, cases);
    return cases;
}

struct batch bench_batch(const struct bench_options *o, const struct bench_case *c)
{
    struct batch b = {.ranks = c->ranks,
                      .experts = c->experts,
                      .topk = c->topk,
                      .tokens = c->tokens,
                      .routing = o->routing,
                      .skew = c->skew,
                      .seed = o->seed};
    return b;
}

/* --- room ----------------------------------------------------------------------------------- */

static int64_t experts_of(const struct batch *b, int32_t rank)
{
    return batch_first(b, rank + 1) - batch_first(b, rank);
}

static int64_t packed_rows(const struct bench_case *c, const struct batch *b,
                           const struct traffic *t, int32_t rank)
{
    int64_t rows = 0;
    for (int32_t e = batch_first(b, rank); e < batch_first(b, rank + 1); e++)
        rows += up(t->experts[e], c->alignment ? c->alignment : 1);
    return rows;
}

void bench_case_room(struct bench_case *c, const struct batch *b, const struct traffic *t)
{
    int64_t most = 1;
    for (int32_t r = 0; r < b->ranks; r++) {
        int64_t need =
            c->layout == SY_EXPERT_PACKED ? packed_rows(c, b, t, r) : batch_arrivals(b, t, r);
        most = need > most ? need : most;
    }
    if (c->layout == SY_EXPERT_SLABS) {
        most = 1;
        for (int32_t e = 0; e < b->experts; e++)
            most = t->experts[e] > most ? t->experts[e] : most;
    }
    if (c->layout == SY_RANK_MAJOR)
        most = c->tokens; /* what a view has, too */
    c->capacity = most;
    c->rows = 1;
    for (int32_t r = 0; r < b->ranks; r++) {
        int64_t rows = bench_case_rows(c, b, r);
        c->rows = rows > c->rows ? rows : c->rows;
    }
}

int64_t bench_case_rows(const struct bench_case *c, const struct batch *b, int32_t rank)
{
    if (c->layout == SY_EXPERT_SLABS)
        return c->capacity * experts_of(b, rank);
    if (c->layout == SY_RANK_MAJOR)
        return c->capacity * c->ranks;
    return c->capacity;
}

/* --- memory --------------------------------------------------------------------------------- */

uint64_t bench_case_memory(const struct bench_options *o, const struct bench_case *c,
                           const struct traffic *t)
{
    double ranks = c->ranks, tokens = (double)c->tokens * ranks;
    double crossing = (double)t->rows_all, rows = (double)c->rows * ranks;
    double wire = (double)(c->wire_bytes + c->wire_scales * 4), sum = (double)c->sum_bytes;
    double inputs = tokens * (double)(c->x_bytes + c->x_scales * 4 + c->topk * 16);
    double arrived = rows * wire, ceiling, taken;
    /* The library keeps arriving rows apart from their last place unless that is in its heap. */
    if (c->out == OUT_MEMORY || c->mode == SY_LATENCY)
        arrived += crossing * wire * (c->mode == SY_LATENCY ? 2 : 1);
    if (c->sum_apart)
        arrived += rows * sum;
    /* Rows to be summed are pushed, unless their sources can fetch them. */
    if (c->out == OUT_MEMORY || c->mode == SY_LATENCY)
        arrived += crossing * sum * (c->mode == SY_LATENCY ? 2 : 1);
    taken = inputs + arrived + tokens * sum + rows * (double)(c->topk * 8);
    if (o->verify)
        taken += inputs + rows * (wire + (c->sum_apart ? sum : 0)) + tokens * sum;
    ceiling = tokens * (double)c->x_bytes + crossing * (wire > sum ? wire : sum);
    taken = taken > ceiling ? taken : ceiling;
    return (uint64_t)(taken * 1.05 + ranks * 32e6); /* and what a process is */
}

/* --- bytes ---------------------------------------------------------------------------------- */

struct bench_bytes bench_case_bytes(const struct bench_case *c, const struct traffic *t,
                                    int combine)
{
    struct bench_bytes b;
    double row = (double)(combine ? c->sum_bytes : c->wire_bytes);
    double scales = combine ? 0 : (double)c->wire_scales * 4;
    double head = !combine && c->wire_type == SY_F8E4M3 ? 16 : 0;
    double rows = (double)t->rows_all / c->ranks, pairs = (double)t->selections_all / c->ranks;
    double stay = 0;
    for (int32_t r = 0; r < c->ranks; r++)
        stay += (double)t->rows[r * c->ranks + r] / c->ranks;
    b.moved = rows * (row + scales);
    b.remote = (rows - stay) * (row + scales);
    if (c->mode == SY_LATENCY) {
        b.nccl_ep = pairs * row;
        b.deepep = pairs * (row + scales + head);
    } else {
        b.nccl_ep = rows * row;
        b.deepep = rows * (row + scales);
    }
    return b;
}
