/* dispatch.c - sy_dispatch(): checking the arguments and describing them for the kernels.
 *
 * Sections: what travels | what comes out | throughput | latency | the call. */
#include <string.h>

#include "base/verify.h"
#include "ops.h"

#define QUANT_BLOCK 128

/* What travels, the same on all ranks. */
struct cargo {
    uint32_t type; /* of rows as they travel */
    uint32_t hidden;
    uint32_t row_bytes; /* as they travel         */
    uint32_t scale_words;
    uint32_t scale_type;
    uint32_t weighted;
};

/* Inputs, described. */
struct inputs {
    struct cargo cargo;
    struct sy_dev_tensor x, scales, weights, probs;
};

/* --- what travels --------------------------------------------------------------------------- */

static sy_status take_x(const sy_route *route, const sy_dispatch_args *args, struct inputs *in)
{
    const struct sy_limits *m = &route->group->plan.limits;
    const struct sy_expect x = {
        "x", 2, args->quant ? SY_TYPE_BIT(SY_BF16) : SY_ROW_TYPES, {route->tokens, -1}, 0, 1};
    struct cargo *c = &in->cargo;
    int64_t bytes;
    SY_NEED(sy_given(&args->x), "x is missing (without tokens its type and H are still needed)");
    SY_TRY(sy_take_given(&args->x, &x, &in->x));
    bytes = args->x.shape[1] * sy_type_bytes(args->x.type);
    SY_NEED(bytes >= 16 && (uint64_t)bytes <= m->row_bytes_max,
            "x: rows of %lld bytes; the group takes 16 to %llu", (long long)bytes,
            (unsigned long long)m->row_bytes_max);
    c->type = (uint32_t)args->x.type;
    c->hidden = (uint32_t)args->x.shape[1];
    c->row_bytes = (uint32_t)bytes;
    return SY_OK;
}

static sy_status take_scales(const sy_route *route, const sy_dispatch_args *args, struct inputs *in)
{
    const struct sy_expect scales = {
        "scales", 2, SY_TYPE_BIT(SY_F32) | SY_TYPE_BIT(SY_UE8M0X4), {route->tokens, -1}, 0, 0};
    struct cargo *c = &in->cargo;
    uint32_t blocks = (c->hidden + QUANT_BLOCK - 1) / QUANT_BLOCK;
    SY_NEED(args->quant >= SY_QUANT_NONE && args->quant <= SY_QUANT_F8_UE8M0, "quant %d",
            (int)args->quant);
    if (args->quant) {
        SY_NEED(!sy_given(&args->scales), "scales: quantisation makes its own");
        SY_NEED(c->hidden % 16 == 0, "quantisation: %u elements are no multiple of 16", c->hidden);
        c->type = SY_F8E4M3;
        c->row_bytes = c->hidden;
        c->scale_type = args->quant == SY_QUANT_F8_UE8M0 ? SY_UE8M0X4 : SY_F32;
        c->scale_words = c->scale_type == SY_UE8M0X4 ? (blocks + 3) / 4 : blocks;
    } else if (sy_given(&args->scales)) {
        SY_TRY(sy_take_given(&args->scales, &scales, &in->scales));
        c->scale_type = (uint32_t)args->scales.type;
        c->scale_words = (uint32_t)args->scales.shape[1];
    }
    SY_NEED(c->scale_words <= route->group->plan.limits.scale_words_max,
            "%u scales a row; the group takes %llu", c->scale_words,
            (unsigned long long)route->group->plan.limits.scale_words_max);
    return SY_OK;
}

static sy_status take_inputs(const sy_route *route, const sy_dispatch_args *args, struct inputs *in)
{
    const int64_t T = route->tokens;
    const struct sy_expect weights = {"weights", 2, SY_TYPE_BIT(SY_F32), {T, route->config.topk},
                                      0,         0};
    const struct sy_expect probs = {
        "probs", 2, SY_TYPE_BIT(SY_F32), {T, (int64_t)route->group->dev.experts}, 0, 0};
    memset(in, 0, sizeof *in);
    SY_TRY(take_x(route, args, in));
    SY_TRY(take_scales(route, args, in));
    SY_NEED(!(sy_given(&args->weights) && sy_given(&args->probs)),
            "weights and probs: one of them");
    if (sy_given(&args->weights))
        SY_TRY(sy_take_given(&args->weights, &weights, &in->weights));
    if (sy_given(&args->probs))
        SY_TRY(sy_take_given(&args->probs, &probs, &in->probs));
    in->cargo.weighted = sy_given(&args->weights) || sy_given(&args->probs);
    return SY_OK;
}

/* --- what comes out ------------------------------------------------------------------------- */

/* One output: checked, described, and its rows counted. */
static sy_status take_output(const sy_route *route, const sy_tensor *t, struct sy_expect e,
                             struct sy_dev_tensor *out, uint32_t *rows_have)
{
    sy_tensor flat;
    if (!sy_given(t))
        return SY_OK;
    SY_TRY(sy_rows_flatten(route, t, e.name, &flat));
    if (sy_layout_fixed(route->config.layout))
        e.rows_min = sy_route_extent(route->group, route->config.layout, route->config.capacity);
    SY_TRY(sy_take_given(&flat, &e, out));
    if (out->rows < *rows_have)
        *rows_have = out->rows;
    return SY_OK;
}

static sy_status take_outputs(const sy_route *route, const sy_dispatch_args *args,
                              const struct cargo *c, struct sy_outputs *o)
{
    const int by_expert = sy_layout_by_expert(route->config.layout);
    const int64_t K = route->config.topk, L = route->group->dev.local;
    const uint32_t f32 = SY_TYPE_BIT(SY_F32), i32 = SY_TYPE_BIT(SY_I32);
    const struct sy_expect x = {"out_x", 2, SY_TYPE_BIT(c->type), {-1, c->hidden}, 0, 1};
    const struct sy_expect scales = {"out_scales",         2, SY_TYPE_BIT(c->scale_type),
                                     {-1, c->scale_words}, 0, 0};
    const struct sy_expect weights = {"out_weights", by_expert ? 1 : 2, f32, {-1, K}, 0, 0};
    const struct sy_expect probs = {"out_probs", 2, f32, {-1, L}, 0, 0};
    const struct sy_expect ids = {"out_ids", 2, i32 | SY_TYPE_BIT(SY_I64), {-1, K}, 0, 0};
    const struct sy_expect src = {"out_src", 2, i32, {-1, 2}, 0, 0};
    memset(o, 0, sizeof *o);
    o->rows_have = (uint32_t)SY_ROWS_MAX;
    o->row_bytes = c->row_bytes;
    o->scale_words = c->scale_words;
    o->weighted = c->weighted;
    SY_NEED(!sy_given(&args->out_scales) || c->scale_words, "out_scales: no scales travel");
    SY_NEED(c->weighted || !(sy_given(&args->out_weights) || sy_given(&args->out_probs)),
            "out_weights, out_probs: no weights travel");
    SY_NEED(!by_expert || !(sy_given(&args->out_probs) || sy_given(&args->out_ids)),
            "out_probs, out_ids: the layouts by expert have none");
    SY_TRY(take_output(route, &args->out_x, x, &o->x, &o->rows_have));
    SY_TRY(take_output(route, &args->out_scales, scales, &o->scales, &o->rows_have));
    SY_TRY(take_output(route, &args->out_weights, weights, &o->weights, &o->rows_have));
    SY_TRY(take_output(route, &args->out_probs, probs, &o->probs, &o->rows_have));
    SY_TRY(take_output(route, &args->out_ids, ids, &o->ids, &o->rows_have));
    SY_TRY(take_output(route, &args->out_src, src, &o->src, &o->rows_have));
    SY_NEED(!o->probs.data || o->probs.rows == 0 || o->probs.stride1 == 4,
            "out_probs: rows must be contiguous");
    return SY_OK;
}

/* A view of rows at `data`, as the caller gets it. */
static sy_tensor view_of(const sy_route *route, const struct cargo *c, void *data)
{
    const sy_group *group = route->group;
    int64_t capacity = route->config.capacity;
    int64_t H = c->row_bytes / sy_type_bytes((int32_t)c->type);
    if (route->config.layout == SY_EXPERT_SLABS)
        return sy_tensor_3d(data, (sy_type)c->type, group->dev.local, capacity, H);
    if (route->config.layout == SY_RANK_MAJOR)
        return sy_tensor_3d(data, (sy_type)c->type, group->dev.ranks, capacity, H);
    return sy_tensor_2d(data, (sy_type)c->type, capacity, H);
}

static int any_work(const sy_route *route, const struct sy_outputs *o)
{
    return !o->direct || sy_layout_by_expert(route->config.layout) || o->scales.data ||
           o->weights.data || o->probs.data || o->ids.data || o->src.data;
}

/* What all ranks must agree on. */
static uint32_t check_of(const sy_route *route, const struct cargo *c, const sy_dispatch_args *args,
                         uint32_t parts)
{
    const uint64_t same[] = {SY_CH_TDISPATCH,
                             (uint64_t)route->config.mode,
                             (uint64_t)route->config.layout,
                             (uint64_t)route->config.topk,
                             (uint64_t)route->config.alignment,
                             c->type,
                             c->row_bytes,
                             c->scale_words,
                             c->weighted,
                             (uint64_t)args->quant,
                             parts,
                             (uint64_t)args->sms,
                             route->number};
    return sy_check_word(same, sizeof same / sizeof *same);
}

/* direct: senders put rows in their last place. */
static void work_of(const sy_route *route, const sy_dispatch_args *args, const struct cargo *c,
                    int direct, struct sy_work *w)
{
    const struct sy_dev *d = &route->group->dev;
    memset(w, 0, sizeof *w);
    w->ranks = d->ranks;
    w->experts = d->experts;
    w->local_max = d->local_max;
    w->topk = route->dev.topk;
    w->fan = route->dev.fan;
    w->row_bytes = c->row_bytes;
    w->tokens = (uint32_t)route->tokens;
    w->tokens_most = route->dev.tokens_limit;
    w->quant = (uint32_t)args->quant;
    w->by_expert = (uint32_t)sy_layout_by_expert(route->config.layout);
    w->copies = w->by_expert || (sy_given(&args->out_x) && !direct);
    w->outputs = w->copies || sy_given(&args->out_scales) || sy_given(&args->out_weights) ||
                 sy_given(&args->out_probs) || sy_given(&args->out_ids) || sy_given(&args->out_src);
    w->send = args->phase != SY_RECEIVE;
    w->receive = args->phase != SY_SEND;
}

/* --- throughput ----------------------------------------------------------------------------- */

/* Can rows of n words be loaded in bulk behind `before` bytes of a side? The CPU's bulk loads leave
 * the bytes where they are, and a side has two sources. */
static int bulk(const struct sy_machine *m, const struct sy_dev_tensor *t, uint32_t words,
                uint32_t before)
{
    return m->lanes > 1 && t->data && words && words % 4 == 0 && before % 16 == 0 &&
           t->stride1 == 4 && t->stride0 % 16 == 0 && (uintptr_t)t->data % 16 == 0;
}

/* Where the rows of this dispatch land in the own heap, and whether that is their last place. */
static sy_status choose_area(sy_route *route, const struct cargo *c, struct sy_tdispatch_args *a,
                             sy_tensor *view)
{
    sy_group *group = route->group;
    const struct sy_limits *m = &group->plan.limits;
    uint64_t extent =
        (uint64_t)sy_route_extent(group, route->config.layout, route->config.capacity);
    uint64_t turn = group->calls[SY_CH_TDISPATCH] - (a->send ? 0 : 1), offset = UINT64_MAX;
    a->area = group->dev.at.td_rows + turn % m->views * m->view_bytes;
    if (a->out.x.data)
        offset = sy_heap_offset(group, &a->out.x, c->row_bytes, extent);
    if (offset != UINT64_MAX) {
        a->area = offset;
        a->out.direct = 1;
        return SY_OK;
    }
    SY_NEED(extent <= m->recv_rows_max,
            "the route has a capacity of %llu rows in all and the group a recv_rows_max of %llu",
            (unsigned long long)extent, (unsigned long long)m->recv_rows_max);
    if (a->out.x.data)
        return SY_OK;
    a->out.direct = 1;
    *view = view_of(route, c, group->dev.heap + a->area);
    a->out.x.data = view->data;
    a->out.x.stride0 = c->row_bytes;
    a->out.x.rows = (uint32_t)extent;
    return SY_OK;
}

static sy_status dispatch_throughput(sy_route *route, const sy_dispatch_args *args,
                                     const struct inputs *in, sy_stream *stream, sy_tensor *view)
{
    sy_group *group = route->group;
    struct sy_tdispatch_args a;
    const struct cargo *c = &in->cargo;
    struct sy_machine machine;
    struct sy_work w;
    struct sy_cut cut;
    memset(&a, 0, sizeof a);
    SY_TRY(take_outputs(route, args, c, &a.out));
    SY_TRY(sy_machine_for(group, args->sms, &machine));
    a.send = args->phase != SY_RECEIVE;
    SY_TRY(choose_area(route, c, &a, view));
    work_of(route, args, c, (int)a.out.direct, &w);
    a.side_bytes = (c->scale_words + (c->weighted ? route->dev.topk : 0)) * 4u;
    a.side_bytes = (a.side_bytes + 15u) / 16u * 16u;
    w.side_bytes = a.side_bytes;
    SY_TRY(sy_cut_tdispatch(&machine, &w, &cut));
    a.d = group->dev;
    a.r = route->dev;
    a.s = cut.shape;
    a.x = in->x;
    a.scales = in->scales;
    a.weights = in->weights;
    a.probs = in->probs;
    a.receive = w.receive;
    a.tokens = (uint32_t)route->tokens;
    a.quant = (uint32_t)args->quant;
    a.hidden = c->hidden;
    a.check = check_of(route, c, args, cut.shape.parts);
    a.side_bulk = (bulk(&machine, &a.scales, c->scale_words, 0) ? 1u : 0) |
                  (bulk(&machine, &a.weights, route->dev.topk, c->scale_words * 4u) ? 2u : 0);
    a.side_lanes = (a.scales.data && !(a.side_bulk & 1u)) ||
                   (a.weights.data && !(a.side_bulk & 2u)) || a.probs.data;
    a.out.work = (uint32_t)any_work(route, &a.out);
    return sy_op_launch(route, stream, SY_KERNEL_tdispatch, &cut, &a, sizeof a);
}

/* --- latency -------------------------------------------------------------------------------- */

static sy_status choose_view(sy_route *route, const struct cargo *c, struct sy_ldispatch_args *a,
                             sy_tensor *view)
{
    sy_group *group = route->group;
    const struct sy_limits *m = &group->plan.limits;
    uint64_t turn = group->calls[SY_CH_LDISPATCH] - (a->send ? 0 : 1);
    uint64_t view_bytes = m->ranks * m->lat_tokens_max * m->row_bytes_max;
    a->view = (uint32_t)(turn % m->lat_views);
    if (a->out.x.data)
        return SY_OK;
    if (route->config.layout != SY_RANK_MAJOR)
        return sy_fail(
            SY_UNSUPPORTED,
            "out_x is NULL: in latency mode rows arrive by rank, and only RANK_MAJOR can "
            "leave them there");
    if ((uint64_t)route->config.capacity != m->lat_tokens_max)
        return sy_fail(SY_UNSUPPORTED,
                       "out_x is NULL: a latency view has latency_tokens_max (%llu) rows per "
                       "source, and the route's capacity is %lld",
                       (unsigned long long)m->lat_tokens_max, (long long)route->config.capacity);
    a->out.direct = 1;
    *view = view_of(route, c, group->dev.heap + group->dev.at.ld_rows + a->view * view_bytes);
    a->out.x.data = view->data;
    a->out.x.stride0 = c->row_bytes;
    a->out.x.rows = (uint32_t)(m->ranks * m->lat_tokens_max);
    return SY_OK;
}

static sy_status dispatch_latency(sy_route *route, const sy_dispatch_args *args,
                                  const struct inputs *in, sy_stream *stream, sy_tensor *view)
{
    sy_group *group = route->group;
    const struct sy_limits *m = &group->plan.limits;
    struct sy_ldispatch_args a;
    const struct cargo *c = &in->cargo;
    struct sy_machine machine;
    struct sy_work w;
    struct sy_cut cut;
    memset(&a, 0, sizeof a);
    SY_TRY(take_outputs(route, args, c, &a.out));
    SY_TRY(sy_machine_for(group, args->sms, &machine));
    work_of(route, args, c, 0, &w);
    a.tail_bytes = (SY_TAIL_SCALES(route->dev.topk) + c->scale_words) * 4u;
    a.tail_bytes = (a.tail_bytes + 15u) / 16u * 16u;
    w.tail_bytes = a.tail_bytes;
    SY_TRY(sy_cut_ldispatch(&machine, &w, &cut));
    a.d = group->dev;
    a.r = route->dev;
    a.s = cut.shape;
    a.ids = route->ids;
    a.x = in->x;
    a.scales = in->scales;
    a.weights = in->weights;
    a.probs = in->probs;
    a.send = w.send;
    a.receive = w.receive;
    a.tokens = (uint32_t)route->tokens;
    a.quant = (uint32_t)args->quant;
    a.hidden = c->hidden;
    a.check = check_of(route, c, args, 1);
    a.tail_bytes_max = (uint32_t)m->tail_bytes_max;
    a.row_bytes_max = (uint32_t)m->row_bytes_max;
    SY_TRY(choose_view(route, c, &a, view));
    a.out.work = (uint32_t)any_work(route, &a.out);
    a.again = (uint32_t)route->placed;
    return sy_op_launch(route, stream, SY_KERNEL_ldispatch, &cut, &a, sizeof a);
}

/* --- the call ------------------------------------------------------------------------------- */

/* A hash of what both halves must share. */
static uint32_t hash_of(const sy_dispatch_args *args)
{
    enum { WORDS = (offsetof(sy_dispatch_args, view) - offsetof(sy_dispatch_args, x)) / 8 };
    uint64_t words[WORDS + 2];
    memcpy(words, &args->x, WORDS * 8);
    words[WORDS] = (uint64_t)args->quant;
    words[WORDS + 1] = (uint64_t)args->sms;
    return sy_check_word(words, WORDS + 2);
}

static sy_status dispatch(sy_route *route, const sy_dispatch_args *args, sy_stream *stream)
{
    sy_group *group;
    struct inputs in;
    sy_tensor view;
    sy_status status;
    uint32_t hash;
    int channel;
    SY_NEED(route && args && args->size >= sizeof *args,
            "sy_dispatch: NULL, or the arguments' size is not set");
    group = route->group;
    SY_TRY(sy_group_usable(group, "sy_dispatch"));
    if (!route->set)
        return sy_fail(SY_STATE, "sy_dispatch: the route has not been set");
    SY_TRY(take_inputs(route, args, &in));
    memset(&view, 0, sizeof view);
    channel = route->dev.latency ? SY_CH_LDISPATCH : SY_CH_TDISPATCH;
    hash = hash_of(args);
    pthread_mutex_lock(&group->order);
    status = sy_phase_begin(route, channel, args->phase, hash, "sy_dispatch");
    if (status == SY_OK)
        status = route->dev.latency ? dispatch_latency(route, args, &in, stream, &view)
                                    : dispatch_throughput(route, args, &in, stream, &view);
    if (status == SY_OK) {
        sy_phase_began(route, channel, args->phase, hash);
        if (args->phase != SY_SEND) {
            route->placed = 1;
            memset(&route->ids, 0, sizeof route->ids);
        }
    }
    pthread_mutex_unlock(&group->order);
    if (status == SY_OK && args->phase != SY_RECEIVE)
        sy_log(&group->log, SY_LOG_TRACE, "%s of route %llu: %lld tokens, rows of %u bytes",
               sy_channel_name(channel), (unsigned long long)route->number,
               (long long)route->tokens, in.cargo.row_bytes);
    if (status == SY_OK && args->view)
        *args->view = view;
    return status;
}

sy_status sy_dispatch(sy_route *route, const sy_dispatch_args *args, sy_stream *stream)
{
    return SY_RANGE("sy_dispatch", dispatch(route, args, stream));
}
