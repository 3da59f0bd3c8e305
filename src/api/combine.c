/* combine.c - sy_combine(): checking the arguments and describing them for the kernel. */
#include <string.h>

#include "ops.h"

static sy_status take_x(const sy_route *route, const sy_combine_args *args,
                        struct sy_combine_kargs *a)
{
    struct sy_expect x = {"x", 2, SY_SUM_TYPES, {-1, -1}, 0, 1};
    sy_tensor flat;
    int64_t bytes;
    SY_NEED(sy_given(&args->x), "x is missing (without rows its type and H are still needed)");
    SY_TRY(sy_rows_flatten(route, &args->x, "x", &flat));
    if (sy_layout_fixed(route->config.layout))
        x.rows_min = sy_route_extent(route->group, route->config.layout, route->config.capacity);
    SY_TRY(sy_take_given(&flat, &x, &a->x));
    bytes = flat.shape[1] * sy_type_bytes(flat.type);
    SY_NEED(bytes >= 16 && (uint64_t)bytes <= route->group->plan.limits.row_bytes_max,
            "x: rows of %lld bytes; the group takes 16 to %llu", (long long)bytes,
            (unsigned long long)route->group->plan.limits.row_bytes_max);
    a->type = (uint32_t)flat.type;
    a->row_bytes = (uint32_t)bytes;
    return SY_OK;
}

/* Weights that go back with the rows. */
static sy_status take_carried(const sy_route *route, const sy_combine_args *args,
                              struct sy_combine_kargs *a)
{
    const int by_expert = sy_layout_by_expert(route->config.layout);
    const uint32_t f32 = SY_TYPE_BIT(SY_F32);
    const int64_t T = route->tokens, K = route->config.topk;
    const int64_t rows =
        sy_layout_fixed(route->config.layout)
            ? sy_route_extent(route->group, route->config.layout, route->config.capacity)
            : 0;
    const struct sy_expect row_weights = {"row_weights", by_expert ? 1 : 2, f32, {-1, K}, rows, 0};
    const struct sy_expect row_probs = {"row_probs", 2, f32, {-1, (int64_t)route->group->dev.local},
                                        rows,        0};
    const struct sy_expect out_weights = {"out_weights", 2, f32, {T, K}, 0, 0};
    const struct sy_expect out_probs = {
        "out_probs", 2, f32, {T, (int64_t)route->group->dev.experts}, 0, 0};
    SY_NEED(!(sy_given(&args->row_weights) && sy_given(&args->row_probs)),
            "row_weights and row_probs: one of them");
    SY_NEED(!by_expert || !sy_given(&args->row_probs),
            "row_probs: the layouts by expert have one weight per row; use row_weights");
    a->carry = sy_given(&args->row_weights) || sy_given(&args->row_probs);
    SY_NEED(a->carry || !(sy_given(&args->out_weights) || sy_given(&args->out_probs)),
            "out_weights, out_probs: no weights travel back");
    if (sy_given(&args->row_weights))
        SY_TRY(sy_take_given(&args->row_weights, &row_weights, &a->row_weights));
    if (sy_given(&args->row_probs))
        SY_TRY(sy_take_given(&args->row_probs, &row_probs, &a->row_probs));
    if (sy_given(&args->out_weights))
        SY_TRY(sy_take_given(&args->out_weights, &out_weights, &a->out_weights));
    if (sy_given(&args->out_probs))
        SY_TRY(sy_take_given(&args->out_probs, &out_probs, &a->out_probs));
    SY_NEED(!a->out_probs.data || a->out_probs.rows == 0 || a->out_probs.stride1 == 4,
            "out_probs: rows must be contiguous");
    return SY_OK;
}

static sy_status take_source(const sy_route *route, const sy_combine_args *args,
                             struct sy_combine_kargs *a)
{
    const int64_t T = route->tokens, H = args->x.shape[args->x.dims - 1];
    const uint32_t same = SY_TYPE_BIT(a->type);
    const struct sy_expect out = {"out", 2, same, {T, H}, 0, 1};
    const struct sy_expect bias0 = {"bias[0]", 2, same, {T, H}, 0, 1};
    const struct sy_expect bias1 = {"bias[1]", 2, same, {T, H}, 0, 1};
    const struct sy_expect weights = {"weights", 2, SY_TYPE_BIT(SY_F32), {T, route->config.topk},
                                      0,         0};
    SY_NEED(sy_given(&args->out) || T == 0, "out is missing");
    if (sy_given(&args->out))
        SY_TRY(sy_take_given(&args->out, &out, &a->out));
    if (sy_given(&args->bias[0]))
        SY_TRY(sy_take_given(&args->bias[0], &bias0, &a->bias0));
    if (sy_given(&args->bias[1]))
        SY_TRY(sy_take_given(&args->bias[1], &bias1, &a->bias1));
    if (sy_given(&args->weights))
        SY_TRY(sy_take_given(&args->weights, &weights, &a->weights));
    return SY_OK;
}

/* May the sources fetch this rank's rows, and should they? */
static sy_status choose_path(const sy_route *route, const struct sy_machine *machine,
                             struct sy_combine_kargs *a)
{
    const sy_group *group = route->group;
    uint64_t rows = (uint64_t)sy_route_extent(group, route->config.layout, route->config.capacity);
    uint64_t offset = UINT64_MAX;
    if (!a->carry && sy_fetch_wanted(route, machine, route->tokens, a->row_bytes))
        offset = sy_heap_offset(group, &a->x, a->row_bytes, rows);
    a->pull = offset != UINT64_MAX;
    a->x_offset = a->pull ? offset : 0;
    if (group->plan.params.combine_path == 2 && !a->pull)
        return sy_fail(SY_UNSUPPORTED, "SY_COMBINE_PATH=2, and these rows cannot be fetched");
    return SY_OK;
}

static void work_of(const sy_route *route, const sy_combine_args *args,
                    const struct sy_combine_kargs *a, struct sy_work *w)
{
    memset(w, 0, sizeof *w);
    w->ranks = a->d.ranks;
    w->experts = a->d.experts;
    w->topk = route->dev.topk;
    w->fan = route->dev.fan;
    w->row_bytes = a->row_bytes;
    w->tokens = (uint32_t)route->tokens;
    w->tokens_most = route->dev.tokens_limit;
    w->send = args->phase != SY_RECEIVE;
    w->receive = args->phase != SY_SEND;
    w->latency = route->dev.latency;
    w->pull = a->pull;
    w->by_expert = (uint32_t)sy_layout_by_expert(route->config.layout);
}

/* With the group's order held. */
static sy_status combine_locked(sy_route *route, const sy_combine_args *args, sy_stream *stream)
{
    sy_group *group = route->group;
    const struct sy_limits *m = &group->plan.limits;
    struct sy_combine_kargs a;
    struct sy_machine machine;
    struct sy_work w;
    struct sy_cut cut;
    memset(&a, 0, sizeof a);
    SY_TRY(sy_machine_for(group, args->sms, &machine));
    a.d = group->dev;
    a.r = route->dev;
    SY_TRY(take_x(route, args, &a));
    SY_TRY(take_carried(route, args, &a));
    SY_TRY(take_source(route, args, &a));
    SY_TRY(choose_path(route, &machine, &a));
    work_of(route, args, &a, &w);
    SY_TRY(sy_cut_combine(&machine, &w, &cut));
    const uint64_t same[] = {SY_CH_TCOMBINE,
                             (uint64_t)route->config.mode,
                             (uint64_t)route->config.layout,
                             (uint64_t)route->config.topk,
                             a.type,
                             a.row_bytes,
                             a.carry,
                             sy_given(&args->weights),
                             cut.shape.parts,
                             (uint64_t)args->sms,
                             route->number};
    a.check = sy_check_word(same, sizeof same / sizeof *same);
    a.s = cut.shape;
    a.send = w.send;
    a.receive = w.receive;
    a.tokens = (uint32_t)route->tokens;
    a.weighted = sy_given(&args->weights);
    a.lat_half_rows = m->lat_tokens_max * m->fan_max * m->row_bytes_max;
    return sy_op_launch(route, stream, SY_KERNEL_combine, &cut, &a, sizeof a);
}

/* A hash of what both halves must share: all that comes behind the phase. */
static uint32_t hash_of(const sy_combine_args *args)
{
    enum { WORDS = (sizeof *args - offsetof(sy_combine_args, x)) / 8 };
    uint64_t words[WORDS];
    memcpy(words, &args->x, sizeof words);
    return sy_check_word(words, WORDS);
}

static sy_status combine(sy_route *route, const sy_combine_args *args, sy_stream *stream)
{
    sy_group *group;
    sy_status status;
    uint32_t hash;
    int channel;
    SY_NEED(route && args && args->size >= sizeof *args,
            "sy_combine: NULL, or the arguments' size is not set");
    SY_NEED(args->x.dims >= 2 && args->x.dims <= 3, "x: 2 or 3 dimensions, not %d",
            (int)args->x.dims);
    group = route->group;
    SY_TRY(sy_group_usable(group, "sy_combine"));
    if (!route->placed)
        return sy_fail(SY_STATE, route->set ? "sy_combine: a latency route is dispatched first"
                                            : "sy_combine: the route has not been set");
    channel = route->dev.latency ? SY_CH_LCOMBINE : SY_CH_TCOMBINE;
    hash = hash_of(args);
    pthread_mutex_lock(&group->order);
    status = sy_phase_begin(route, channel, args->phase, hash, "sy_combine");
    if (status == SY_OK)
        status = combine_locked(route, args, stream);
    if (status == SY_OK)
        sy_phase_began(route, channel, args->phase, hash);
    pthread_mutex_unlock(&group->order);
    if (status == SY_OK && args->phase != SY_RECEIVE)
        sy_log(&group->log, SY_LOG_TRACE, "%s of route %llu: %lld tokens", sy_channel_name(channel),
               (unsigned long long)route->number, (long long)route->tokens);
    return status;
}

sy_status sy_combine(sy_route *route, const sy_combine_args *args, sy_stream *stream)
{
    return SY_RANGE("sy_combine", combine(route, args, stream));
}
