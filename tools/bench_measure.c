/* bench_measure.c - see bench_measure.h. Sections: buffers | the group | operations | timing |
 * results. */
#include "bench_measure.h"

#include <stdlib.h>
#include <string.h>

#include "bench_verify.h"
#include "tool.h"

/* --- buffers -------------------------------------------------------------------------------- */

static int by_expert(const struct bench_case *c)
{
    return c->layout == SY_EXPERT_PACKED || c->layout == SY_EXPERT_SLABS;
}

/* Scales that travel: any positive numbers will do, they are not looked at. */
static void fill_scales(struct bed *bed)
{
    int64_t n = bed->tokens * bed->c->x_scales;
    for (int64_t i = 0; i < n; i++)
        bed->x_scales[i] = 0x3f800000u + (uint32_t)((i * 8191 + bed->w->rank * 977) % (1 << 23));
}

static int make_inputs(struct bed *bed)
{
    const struct bench_case *c = bed->c;
    size_t selections = (size_t)(c->tokens * c->topk);
    bed->ids = bench_alloc(selections * sizeof *bed->ids);
    bed->weights = bench_alloc(selections * sizeof *bed->weights);
    bed->x = bench_alloc((size_t)(c->tokens * c->x_bytes));
    if (c->x_scales)
        bed->x_scales = bench_alloc((size_t)(c->tokens * c->x_scales) * 4);
    if (!bed->ids || !bed->weights || !bed->x || (c->x_scales && !bed->x_scales))
        return -1;
    if (batch_ids(&bed->b, bed->w->rank, bed->ids))
        return bench_fail("no memory for ids");
    batch_weights(&bed->b, bed->w->rank, bed->weights);
    batch_payload(&bed->b, bench_types[c->type].type, bed->w->rank, 0, bed->x,
                  (size_t)(c->tokens * c->x_bytes));
    if (bed->x_scales)
        fill_scales(bed);
    return 0;
}

/* Rows in the heap or in plain memory. */
static int make_rows(struct bed *bed, int heap, int64_t row_bytes, uint8_t **rows)
{
    size_t bytes = (size_t)((bed->rows ? bed->rows : 1) * row_bytes);
    void *p;
    if (!heap)
        return (*rows = bench_alloc(bytes)) ? 0 : -1;
    if (bench_check(sy_alloc(bed->group, bytes, &p), "sy_alloc"))
        return -1;
    memset(p, 0, bytes);
    *rows = p;
    return 0;
}

static int make_outputs(struct bed *bed)
{
    const struct bench_case *c = bed->c;
    size_t rows = (size_t)(bed->rows ? bed->rows : 1);
    if (c->out != OUT_VIEW && make_rows(bed, c->out == OUT_HEAP, c->wire_bytes, &bed->rows_own))
        return -1;
    if (c->sum_apart && c->ops & 1u << OP_COMBINE) {
        if (make_rows(bed, c->out != OUT_MEMORY, c->sum_bytes, &bed->sum_own))
            return -1;
        /* What experts might have made of the rows. */
        batch_payload(&bed->b, c->sum_type, c->ranks + bed->w->rank, 0, bed->sum_own,
                      (size_t)(bed->rows * c->sum_bytes));
    }
    if (c->wire_scales && !(bed->out_scales = bench_alloc(rows * (size_t)c->wire_scales * 4)))
        return -1;
    if (!bed->o->bare) {
        bed->out_weights = bench_alloc(rows * (by_expert(c) ? 1 : (size_t)c->topk) * 4);
        if (!by_expert(c))
            bed->out_ids = bench_alloc(rows * (size_t)c->topk * 4);
        if (!bed->out_weights || (!by_expert(c) && !bed->out_ids))
            return -1;
    }
    bed->out = bench_alloc((size_t)(c->tokens * c->sum_bytes));
    return bed->out ? 0 : -1;
}

/* --- the group ------------------------------------------------------------------------------ */

static void set_config(const struct bed *bed, sy_group_config *config)
{
    const struct bench_case *c = bed->c;
    int64_t in_heap = c->out == OUT_HEAP ? c->rows * c->wire_bytes + 256 : 0;
    if (c->sum_apart && c->out != OUT_MEMORY)
        in_heap += c->rows * c->sum_bytes + 256;
    memset(config, 0, sizeof *config);
    config->size = sizeof *config;
    config->boot = SY_BOOT_ENV;
    config->engine = SY_ENGINE_CPU; /* the buffers are plain memory */
    config->modes = (uint32_t)c->mode;
    config->experts = c->experts;
    config->topk_max = c->topk;
    config->tokens_max = config->latency_tokens_max = c->tokens;
    config->row_bytes_max = c->x_bytes > c->sum_bytes ? c->x_bytes : c->sum_bytes;
    config->scale_words_max = c->wire_scales;
    config->recv_rows_max = c->rows;
    config->user_bytes = in_heap;
    config->cpu_threads = c->threads;
    config->timeout_ns = bed->o->timeout_ns;
}

static int open_group(struct bed *bed)
{
    const struct bench_case *c = bed->c;
    sy_route_config route = {.size = sizeof route,
                             .mode = c->mode,
                             .layout = c->layout,
                             .topk = c->topk,
                             .alignment = c->alignment,
                             .capacity = c->capacity};
    sy_group_config config;
    set_config(bed, &config);
    return bench_check(sy_group_create(&config, &bed->group), "sy_group_create") ||
                   bench_check(sy_route_create(bed->group, &route, NULL, &bed->route),
                               "sy_route_create")
               ? -1
               : 0;
}

static sy_tensor words_of(void *data, int32_t type, int64_t rows, int64_t columns)
{
    return sy_tensor_2d(data, (sy_type)type, rows, columns);
}

static void describe(struct bed *bed)
{
    const struct bench_case *c = bed->c;
    sy_dispatch_args *d = &bed->dispatch;
    sy_combine_args *s = &bed->combine;
    d->size = sizeof *d;
    d->quant = c->quant;
    d->x = words_of(bed->x, bench_types[c->type].type, c->tokens, c->elements);
    if (bed->x_scales)
        d->scales = words_of(bed->x_scales, bench_types[c->type].scales, c->tokens, c->x_scales);
    if (bed->out_weights) {
        d->weights = words_of(bed->weights, SY_F32, c->tokens, c->topk);
        d->out_weights = by_expert(c) ? sy_tensor_1d(bed->out_weights, SY_F32, bed->rows)
                                      : words_of(bed->out_weights, SY_F32, bed->rows, c->topk);
    }
    if (bed->out_ids)
        d->out_ids = words_of(bed->out_ids, SY_I32, bed->rows, c->topk);
    if (bed->out_scales)
        d->out_scales = words_of(bed->out_scales, c->wire_scale_type, bed->rows, c->wire_scales);
    if (bed->rows_own)
        d->out_x = words_of(bed->rows_own, c->wire_type, bed->rows, c->elements);
    d->view = &bed->view;
    s->size = sizeof *s;
    s->x = words_of(bed->sum_own, c->sum_type, bed->rows, c->hidden);
    s->out = words_of(bed->out, c->sum_type, c->tokens, c->hidden);
    if (bed->o->weighted)
        s->weights = words_of(bed->weights, SY_F32, c->tokens, c->topk);
    bed->input.size = sizeof bed->input;
    bed->input.ids = words_of(bed->ids, SY_I64, c->tokens, c->topk);
}

int bed_open(struct bed *bed)
{
    bed->tokens = bed->c->tokens;
    bed->rows = bench_case_rows(bed->c, &bed->b, bed->w->rank);
    bed->locals = batch_first(&bed->b, bed->w->rank + 1) - batch_first(&bed->b, bed->w->rank);
    if (make_inputs(bed) || open_group(bed) || make_outputs(bed))
        return -1;
    describe(bed);
    return 0;
}

void bed_close(struct bed *bed)
{
    const struct bench_case *c = bed->c;
    if (bed->group && c->out == OUT_HEAP)
        sy_free(bed->group, bed->rows_own);
    else
        free(bed->rows_own);
    if (bed->group && c->out != OUT_MEMORY)
        sy_free(bed->group, bed->sum_own);
    else
        free(bed->sum_own);
    sy_route_destroy(bed->route);
    sy_group_destroy(bed->group);
    free(bed->ids);
    free(bed->weights);
    free(bed->x);
    free(bed->x_scales);
    free(bed->out_scales);
    free(bed->out_weights);
    free(bed->out_ids);
    free(bed->out);
}

/* --- operations ----------------------------------------------------------------------------- */

static int wait_for(struct bed *bed, const char *what)
{
    return bench_check(sy_stream_sync(bed->group, NULL), what);
}

int bed_route(struct bed *bed)
{
    if (bench_check(sy_route_set(bed->route, &bed->input, NULL), "sy_route_set"))
        return -1;
    return wait_for(bed, "sy_route_set");
}

static int dispatch_phase(struct bed *bed, int32_t phase)
{
    bed->dispatch.phase = phase;
    if (bed->c->mode == SY_LATENCY && phase != SY_RECEIVE &&
        bench_check(sy_route_set(bed->route, &bed->input, NULL), "sy_route_set"))
        return -1;
    if (bench_check(sy_dispatch(bed->route, &bed->dispatch, NULL), "sy_dispatch"))
        return -1;
    return wait_for(bed, "sy_dispatch");
}

static int combine_phase(struct bed *bed, int32_t phase)
{
    bed->combine.phase = phase;
    bed->combine.x.data = bed_sum_rows(bed);
    if (bench_check(sy_combine(bed->route, &bed->combine, NULL), "sy_combine"))
        return -1;
    return wait_for(bed, "sy_combine");
}

static int send_dispatch(struct bed *bed)
{
    return dispatch_phase(bed, SY_SEND);
}

static int receive_dispatch(struct bed *bed)
{
    return dispatch_phase(bed, SY_RECEIVE);
}

static int send_combine(struct bed *bed)
{
    return combine_phase(bed, SY_SEND);
}

static int receive_combine(struct bed *bed)
{
    return combine_phase(bed, SY_RECEIVE);
}

int bed_dispatch(struct bed *bed)
{
    if (bed->o->halves)
        return send_dispatch(bed) || receive_dispatch(bed) ? -1 : 0;
    return dispatch_phase(bed, SY_WHOLE);
}

int bed_combine(struct bed *bed)
{
    if (bed->o->halves)
        return send_combine(bed) || receive_combine(bed) ? -1 : 0;
    return combine_phase(bed, SY_WHOLE);
}

uint8_t *bed_rows(const struct bed *bed)
{
    return bed->rows_own ? bed->rows_own : bed->view.data;
}

uint8_t *bed_sum_rows(const struct bed *bed)
{
    return bed->sum_own ? bed->sum_own : bed_rows(bed);
}

/* --- timing --------------------------------------------------------------------------------- */

struct clocks {
    uint64_t ns[BENCH_OPS]; /* sums */
};

/* A second half follows its first one at once: a barrier between them would do its waiting. */
static int timed(struct bed *bed, int barrier, int (*op)(struct bed *), uint64_t *ns)
{
    uint64_t begin;
    if (barrier && bench_check(sy_group_barrier(bed->group), "sy_group_barrier"))
        return -1;
    begin = tool_now_ns();
    if (op(bed))
        return -1;
    *ns += tool_now_ns() - begin;
    return 0;
}

static int iterate(struct bed *bed, struct clocks *k)
{
    const uint32_t ops = bed->c->ops;
    int bad = 0;
    if (bed->c->mode == SY_THROUGHPUT)
        bad = timed(bed, 1, bed_route, &k->ns[OP_ROUTE]);
    if (!bad && ops & (1u << OP_DISPATCH | 1u << OP_COMBINE)) {
        if (!bed->o->halves)
            bad = timed(bed, 1, bed_dispatch, &k->ns[OP_DISPATCH]);
        else
            bad = timed(bed, 1, send_dispatch, &k->ns[OP_DISPATCH_SEND]) ||
                  timed(bed, 0, receive_dispatch, &k->ns[OP_DISPATCH_RECEIVE]);
    }
    if (!bad && ops & 1u << OP_COMBINE) {
        if (!bed->o->halves)
            bad = timed(bed, 1, bed_combine, &k->ns[OP_COMBINE]);
        else
            bad = timed(bed, 1, send_combine, &k->ns[OP_COMBINE_SEND]) ||
                  timed(bed, 0, receive_combine, &k->ns[OP_COMBINE_RECEIVE]);
    }
    return bad ? -1 : 0;
}

static int time_all(struct bed *bed, struct clocks *k)
{
    struct clocks dropped = {{0}};
    for (int i = 0; i < bed->c->warmup; i++)
        if (iterate(bed, &dropped))
            return -1;
    for (int i = 0; i < bed->c->iters; i++)
        if (iterate(bed, k))
            return -1;
    /* Nobody leaves a group that others still use. */
    return bench_check(sy_group_barrier(bed->group), "sy_group_barrier");
}

/* Groups are made and left again, with the ranks at a barrier before each. */
static int time_create(struct world *w, const struct bench_options *o, const struct bench_case *c,
                       struct clocks *k)
{
    struct bed bed = {.o = o, .c = c, .w = w};
    sy_group_config config;
    set_config(&bed, &config);
    for (int i = -c->warmup; i < c->iters; i++) {
        sy_group *group;
        uint64_t begin;
        if (world_barrier(w))
            return -1;
        begin = tool_now_ns();
        if (bench_check(sy_group_create(&config, &group), "sy_group_create"))
            return -1;
        k->ns[OP_CREATE] += i < 0 ? 0 : tool_now_ns() - begin;
        if (bench_check(sy_group_barrier(group), "sy_group_barrier"))
            return -1;
        sy_group_destroy(group);
    }
    return 0;
}

/* --- results -------------------------------------------------------------------------------- */

/* Minimum, average and maximum over the ranks of each one's average. */
static int gather_times(struct world *w, const struct clocks *k, int iters, double us[BENCH_OPS][3])
{
    double mine[BENCH_OPS], *all = calloc((size_t)w->ranks, sizeof mine);
    int bad = all ? 0 : bench_fail("no memory");
    for (int op = 0; op < BENCH_OPS; op++)
        mine[op] = (double)k->ns[op] / iters / 1000;
    bad = bad || world_gather(w, mine, all, sizeof mine);
    for (int op = 0; !bad && op < BENCH_OPS; op++) {
        us[op][0] = us[op][2] = all[op];
        us[op][1] = 0;
        for (int32_t r = 0; r < w->ranks; r++) {
            double v = all[r * BENCH_OPS + op];
            us[op][0] = v < us[op][0] ? v : us[op][0];
            us[op][1] += v / w->ranks;
            us[op][2] = v > us[op][2] ? v : us[op][2];
        }
    }
    free(all);
    return bad ? -1 : 0;
}

static void fill_result(const struct bench_options *o, const struct bench_case *c,
                        const struct traffic *t, int op, const double us[3], struct bench_result *r)
{
    memset(r, 0, sizeof *r);
    r->op = op;
    r->mode = c->mode;
    r->layout = c->layout;
    r->type = c->type;
    r->quant = c->quant;
    r->out = c->out;
    r->engine = SY_ENGINE_CPU;
    r->routing = (int32_t)o->routing;
    r->ranks = c->ranks;
    r->topk = c->topk;
    r->experts = c->experts;
    r->threads = c->threads;
    r->warmup = c->warmup;
    r->iters = c->iters;
    r->verified = -1;
    r->tokens = c->tokens;
    r->hidden = c->hidden;
    r->us_min = us[0];
    r->us_avg = us[1];
    r->us_max = us[2];
    if (op == OP_DISPATCH || op == OP_COMBINE) {
        struct bench_bytes bytes = bench_case_bytes(c, t, op == OP_COMBINE);
        r->bytes = bytes.moved;
        r->gbps = bytes.moved / us[1] / 1000;
        r->nccl_gbps = bytes.nccl_ep / us[1] / 1000;
        r->deepep_gbps = bytes.deepep / us[1] / 1000;
    }
}

/* What was asked for, in terms of what is timed. */
static uint32_t timed_ops(const struct bench_options *o, const struct bench_case *c)
{
    uint32_t ops = c->ops;
    if (o->halves && ops & 1u << OP_DISPATCH)
        ops |= 1u << OP_DISPATCH_SEND | 1u << OP_DISPATCH_RECEIVE;
    if (o->halves && ops & 1u << OP_COMBINE)
        ops |= 1u << OP_COMBINE_SEND | 1u << OP_COMBINE_RECEIVE;
    if (o->halves)
        ops &= ~(1u << OP_DISPATCH | 1u << OP_COMBINE);
    return ops;
}

static int measure_batch(struct bed *bed, struct clocks *k, struct verdict *v)
{
    if (bed_open(bed))
        return -1;
    if (!bed->o->verify)
        return time_all(bed, k);
    return verify_before(bed, v) || time_all(bed, k) || verify_after(bed, v) ? -1 : 0;
}

int bench_measure(struct world *w, const struct bench_options *o, const struct bench_case *c,
                  const struct traffic *t, struct bench_result results[BENCH_OPS], int *n,
                  char wrong[VERDICT_TEXT])
{
    struct bed bed = {.o = o, .c = c, .w = w, .b = bench_batch(o, c), .t = t};
    struct clocks k = {{0}};
    struct verdict v;
    double us[BENCH_OPS][3];
    uint32_t ops = timed_ops(o, c);
    int bad = 0;
    memset(&v, 0, sizeof v);
    for (int op = 0; op < BENCH_OPS; op++)
        v.verified[op] = -1;
    if (ops & 1u << OP_CREATE)
        bad = time_create(w, o, c, &k);
    if (!bad && ops & ~(1u << OP_CREATE)) {
        bad = measure_batch(&bed, &k, &v);
        if (bad && bed.group)
            sy_group_abort(bed.group); /* nobody waits for us */
        bed_close(&bed);
    }
    if (bad || gather_times(w, &k, c->iters, us))
        return -1;
    *n = 0;
    for (int op = 0; op < BENCH_OPS; op++) {
        if (!(ops >> op & 1))
            continue;
        fill_result(o, c, t, op, us[op], results + *n);
        results[(*n)++].verified = v.verified[op];
    }
    memcpy(wrong, v.text, sizeof v.text);
    return 0;
}
