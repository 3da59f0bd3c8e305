/* bench_bed.c - see bench_bed.h. Sections: inputs | outputs | the group | operations. */
#include "bench_bed.h"

#include <string.h>

#include "api/probe.h"

/* --- inputs --------------------------------------------------------------------------------- */

static int by_expert(const struct bench_case *c)
{
    return c->layout == SY_EXPERT_PACKED || c->layout == SY_EXPERT_SLABS;
}

static int fill_ids(struct bed *bed)
{
    size_t bytes = (size_t)(bed->c->tokens * bed->c->topk) * sizeof *bed->ids;
    int64_t *ids = engine_map(bed->e, bed->ids, bytes, 0);
    if (!ids)
        return -1;
    if (batch_ids(&bed->b, bed->w->rank, ids)) {
        engine_unmap(bed->e, bed->ids, ids, bytes, 0);
        return bench_fail("no memory for ids");
    }
    return engine_unmap(bed->e, bed->ids, ids, bytes, 1);
}

static int fill_weights(struct bed *bed)
{
    size_t bytes = (size_t)(bed->c->tokens * bed->c->topk) * sizeof *bed->weights;
    float *weights = engine_map(bed->e, bed->weights, bytes, 0);
    if (!weights)
        return -1;
    batch_weights(&bed->b, bed->w->rank, weights);
    return engine_unmap(bed->e, bed->weights, weights, bytes, 1);
}

/* Rows that a rank with this number would hold. */
static int fill_payload(struct bed *bed, int32_t type, int32_t rank, uint8_t *to, int64_t bytes)
{
    uint8_t *rows = engine_map(bed->e, to, (size_t)bytes, 0);
    if (!rows)
        return -1;
    batch_payload(&bed->b, type, rank, 0, rows, (size_t)bytes);
    return engine_unmap(bed->e, to, rows, (size_t)bytes, 1);
}

/* Scales that travel: any positive numbers will do, they are not looked at. */
static int fill_scales(struct bed *bed)
{
    int64_t n = bed->tokens * bed->c->x_scales;
    uint32_t *scales = engine_map(bed->e, bed->x_scales, (size_t)n * 4, 0);
    if (!scales)
        return -1;
    for (int64_t i = 0; i < n; i++)
        scales[i] = 0x3f800000u + (uint32_t)((i * 8191 + bed->w->rank * 977) % (1 << 23));
    return engine_unmap(bed->e, bed->x_scales, scales, (size_t)n * 4, 1);
}

int bed_make_inputs(struct bed *bed)
{
    const struct bench_case *c = bed->c;
    size_t selections = (size_t)(c->tokens * c->topk);
    bed->tokens = c->tokens;
    bed->rows = bench_case_rows(c, &bed->b, bed->w->rank);
    bed->locals = batch_first(&bed->b, bed->w->rank + 1) - batch_first(&bed->b, bed->w->rank);
    bed->ids = engine_alloc(bed->e, selections * sizeof *bed->ids);
    bed->weights = engine_alloc(bed->e, selections * sizeof *bed->weights);
    bed->x = engine_alloc(bed->e, (size_t)(c->tokens * c->x_bytes));
    if (c->x_scales)
        bed->x_scales = engine_alloc(bed->e, (size_t)(c->tokens * c->x_scales) * 4);
    if (!bed->ids || !bed->weights || !bed->x || (c->x_scales && !bed->x_scales))
        return -1;
    if (fill_ids(bed) || fill_weights(bed) || (bed->x_scales && fill_scales(bed)))
        return -1;
    return fill_payload(bed, bench_types[c->type].type, bed->w->rank, bed->x,
                        c->tokens * c->x_bytes);
}

/* --- outputs -------------------------------------------------------------------------------- */

static int heap_alloc(struct bed *bed, size_t bytes, uint8_t **memory)
{
    void *p;
    if (bench_check(sy_alloc(bed->group, bytes, &p), "sy_alloc"))
        return -1;
    *memory = p;
    return engine_fill(bed->e, p, 0, bytes);
}

/* Rows in the heap or in the engine's memory. */
static int make_rows(struct bed *bed, int heap, int64_t row_bytes, uint8_t **rows)
{
    size_t bytes = (size_t)((bed->rows ? bed->rows : 1) * row_bytes);
    if (heap)
        return heap_alloc(bed, bytes, rows);
    *rows = engine_alloc(bed->e, bytes);
    return *rows ? 0 : -1;
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

int bed_make_outputs(struct bed *bed)
{
    const struct bench_case *c = bed->c;
    size_t rows = (size_t)(bed->rows ? bed->rows : 1);
    /* First, so that it is at the same place on all ranks. */
    if (bed->e->kind == SY_ENGINE_CUDA && heap_alloc(bed, SY_PROBE_FLAGS(c->ranks), &bed->flags))
        return -1;
    if (c->out != OUT_VIEW && make_rows(bed, c->out == OUT_HEAP, c->wire_bytes, &bed->rows_own))
        return -1;
    if (c->sum_apart && c->ops & 1u << OP_COMBINE) {
        if (make_rows(bed, c->out != OUT_MEMORY, c->sum_bytes, &bed->sum_own))
            return -1;
        /* What experts might have made of the rows. */
        if (fill_payload(bed, c->sum_type, c->ranks + bed->w->rank, bed->sum_own,
                         bed->rows * c->sum_bytes))
            return -1;
    }
    if (c->wire_scales &&
        !(bed->out_scales = engine_alloc(bed->e, rows * (size_t)c->wire_scales * 4)))
        return -1;
    if (!bed->o->bare) {
        bed->out_weights = engine_alloc(bed->e, rows * (by_expert(c) ? 1 : (size_t)c->topk) * 4);
        if (!by_expert(c))
            bed->out_ids = engine_alloc(bed->e, rows * (size_t)c->topk * 4);
        if (!bed->out_weights || (!by_expert(c) && !bed->out_ids))
            return -1;
    }
    bed->out = engine_alloc(bed->e, (size_t)(c->tokens * c->sum_bytes));
    describe(bed);
    return bed->out ? 0 : -1;
}

/* --- the group ------------------------------------------------------------------------------ */

void bed_config(const struct bed *bed, sy_group_config *config)
{
    const struct bench_case *c = bed->c;
    int64_t in_heap = c->out == OUT_HEAP ? c->rows * c->wire_bytes + 256 : 0;
    if (c->sum_apart && c->out != OUT_MEMORY)
        in_heap += c->rows * c->sum_bytes + 256;
    if (bed->e->kind == SY_ENGINE_CUDA)
        in_heap += (int64_t)SY_PROBE_FLAGS(c->ranks) + 256;
    memset(config, 0, sizeof *config);
    config->size = sizeof *config;
    config->boot = SY_BOOT_ENV;
    config->engine = bed->e->kind; /* where the buffers are */
    config->modes = (uint32_t)c->mode;
    config->experts = c->experts;
    config->topk_max = c->topk;
    config->tokens_max = config->latency_tokens_max = c->tokens;
    config->row_bytes_max = c->x_bytes > c->sum_bytes ? c->x_bytes : c->sum_bytes;
    config->scale_words_max = c->wire_scales;
    config->recv_rows_max = c->rows;
    config->user_bytes = in_heap;
    config->cpu_threads = c->threads;
    config->sms = c->sms;
    config->timeout_ns = bed->o->timeout_ns;
}

int bed_make_group(struct bed *bed)
{
    const struct bench_case *c = bed->c;
    sy_route_config route = {.size = sizeof route,
                             .mode = c->mode,
                             .layout = c->layout,
                             .topk = c->topk,
                             .alignment = c->alignment,
                             .capacity = c->capacity};
    sy_group_config config;
    bed_config(bed, &config);
    return bench_check(sy_group_create(&config, &bed->group), "sy_group_create") ||
                   bench_check(sy_route_create(bed->group, &route, NULL, &bed->route),
                               "sy_route_create")
               ? -1
               : 0;
}

int bed_open(struct bed *bed)
{
    return bed_make_inputs(bed) || bed_make_group(bed) || bed_make_outputs(bed) ? -1 : 0;
}

void bed_close(struct bed *bed)
{
    const struct bench_case *c = bed->c;
    if (bed->group && bed->flags)
        sy_free(bed->group, bed->flags);
    if (bed->group && c->out == OUT_HEAP)
        sy_free(bed->group, bed->rows_own);
    else
        engine_free(bed->e, bed->rows_own);
    if (bed->group && c->out != OUT_MEMORY)
        sy_free(bed->group, bed->sum_own);
    else
        engine_free(bed->e, bed->sum_own);
    sy_route_destroy(bed->route);
    sy_group_destroy(bed->group);
    engine_free(bed->e, bed->ids);
    engine_free(bed->e, bed->weights);
    engine_free(bed->e, bed->x);
    engine_free(bed->e, bed->x_scales);
    engine_free(bed->e, bed->out_scales);
    engine_free(bed->e, bed->out_weights);
    engine_free(bed->e, bed->out_ids);
    engine_free(bed->e, bed->out);
}

/* --- operations ----------------------------------------------------------------------------- */

static int put_dispatch(struct bed *bed, int32_t phase)
{
    bed->dispatch.phase = phase;
    if (bed->c->mode == SY_LATENCY && phase != SY_RECEIVE &&
        bench_check(sy_route_set(bed->route, &bed->input, bed->e->stream), "sy_route_set"))
        return -1;
    return bench_check(sy_dispatch(bed->route, &bed->dispatch, bed->e->stream), "sy_dispatch");
}

static int put_combine(struct bed *bed, int32_t phase)
{
    bed->combine.phase = phase;
    bed->combine.x.data = bed_sum_rows(bed);
    return bench_check(sy_combine(bed->route, &bed->combine, bed->e->stream), "sy_combine");
}

int bed_put(struct bed *bed, int op)
{
    switch (op) {
    case OP_ROUTE:
        return bench_check(sy_route_set(bed->route, &bed->input, bed->e->stream), "sy_route_set");
    case OP_DISPATCH:
        return put_dispatch(bed, SY_WHOLE);
    case OP_DISPATCH_SEND:
        return put_dispatch(bed, SY_SEND);
    case OP_DISPATCH_RECEIVE:
        return put_dispatch(bed, SY_RECEIVE);
    case OP_COMBINE:
        return put_combine(bed, SY_WHOLE);
    case OP_COMBINE_SEND:
        return put_combine(bed, SY_SEND);
    case OP_COMBINE_RECEIVE:
        return put_combine(bed, SY_RECEIVE);
    default:
        return bench_fail("'%s' is no operation of a stream", bench_op_names[op]);
    }
}

int bed_wait(struct bed *bed, int op)
{
    return bench_check(sy_stream_sync(bed->group, bed->e->stream), bench_op_names[op]);
}

int bed_do(struct bed *bed, int op)
{
    if (bed->o->halves && op == OP_DISPATCH)
        return bed_do(bed, OP_DISPATCH_SEND) || bed_do(bed, OP_DISPATCH_RECEIVE) ? -1 : 0;
    if (bed->o->halves && op == OP_COMBINE)
        return bed_do(bed, OP_COMBINE_SEND) || bed_do(bed, OP_COMBINE_RECEIVE) ? -1 : 0;
    return bed_put(bed, op) || bed_wait(bed, op) ? -1 : 0;
}

uint8_t *bed_rows(const struct bed *bed)
{
    return bed->rows_own ? bed->rows_own : bed->view.data;
}

uint8_t *bed_sum_rows(const struct bed *bed)
{
    return bed->sum_own ? bed->sum_own : bed_rows(bed);
}
