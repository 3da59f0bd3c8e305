/* route.c - routes: memory, routing, counts. */
#include <string.h>

#include "ops.h"

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Rows of a whole output of the layout, for a capacity. */
int64_t sy_route_extent(const sy_group *group, int32_t layout, int64_t capacity)
{
    if (layout == SY_EXPERT_SLABS)
        return capacity * group->dev.local;
    return layout == SY_RANK_MAJOR ? capacity * group->dev.ranks : capacity;
}

/* The capacity that never overflows (repeated ids in a token aside), within the group's rows. */
static int64_t default_capacity(const sy_group *group, const sy_route_config *config)
{
    const struct sy_limits *m = &group->plan.limits;
    uint64_t local = group->dev.local, tokens, rows_max, all, rows;
    int latency = config->mode == SY_LATENCY;
    tokens = latency ? m->lat_tokens_max : m->tokens_max;
    rows_max = latency ? SY_ROWS_MAX : m->recv_rows_max;
    all = m->ranks * tokens;
    switch (config->layout) {
    case SY_EXPERT_PACKED:
        rows = all * min_u64((uint64_t)config->topk, local) +
               local * ((uint64_t)config->alignment - 1);
        rows = min_u64(rows, rows_max);
        break;
    case SY_EXPERT_SLABS:
        rows = min_u64(all, local ? rows_max / local : rows_max);
        break;
    case SY_RANK_MAJOR:
        rows = min_u64(tokens, rows_max / m->ranks);
        break;
    default:
        rows = min_u64(all, rows_max);
        break;
    }
    return (int64_t)(rows ? rows : 1);
}

static sy_status check_config(const sy_group *group, const sy_route_config *in,
                              sy_route_config *out)
{
    const struct sy_limits *m = &group->plan.limits;
    SY_NEED(in && in->size >= sizeof *in, "sy_route_config: NULL, or its size is not set");
    *out = *in;
    SY_NEED(in->mode == SY_THROUGHPUT || in->mode == SY_LATENCY, "mode %d", (int)in->mode);
    SY_NEED(group->plan.modes & (uint32_t)in->mode, "the group was made without %s mode",
            in->mode == SY_LATENCY ? "latency" : "throughput");
    SY_NEED(in->layout >= SY_TOKEN_MAJOR && in->layout <= SY_RANK_MAJOR, "layout %d",
            (int)in->layout);
    SY_NEED(in->topk >= 1 && (uint64_t)in->topk <= m->topk_max, "topk %d: from 1 to topk_max %d",
            (int)in->topk, (int)m->topk_max);
    SY_NEED(in->alignment >= 0 && in->alignment <= SY_ALIGNMENT_MAX, "alignment %d: from 1 to %d",
            (int)in->alignment, SY_ALIGNMENT_MAX);
    if (out->alignment == 0)
        out->alignment = 1;
    SY_NEED(in->capacity >= 0, "capacity %lld", (long long)in->capacity);
    if (out->capacity == 0)
        out->capacity = default_capacity(group, out);
    SY_NEED(out->capacity <= SY_ROWS_MAX &&
                sy_route_extent(group, out->layout, out->capacity) <= SY_ROWS_MAX,
            "capacity %lld: more than 2^31 rows in all", (long long)out->capacity);
    return SY_OK;
}

/* The device's view of a route with this configuration; memory is not set. */
static void describe(const sy_group *group, const sy_route_config *config, struct sy_dev_route *r)
{
    const struct sy_limits *m = &group->plan.limits;
    struct sy_route_limits limits;
    memset(r, 0, sizeof *r);
    r->layout = (uint32_t)config->layout;
    r->latency = config->mode == SY_LATENCY;
    r->topk = (uint32_t)config->topk;
    r->fan = (uint32_t)min_u64(m->ranks, (uint64_t)config->topk);
    r->tokens_limit = (uint32_t)(r->latency ? m->lat_tokens_max : m->tokens_max);
    r->chunks = (r->tokens_limit + SY_CHUNK_ROWS - 1) >> SY_CHUNK_SHIFT;
    r->alignment = (uint32_t)config->alignment;
    r->capacity = (uint32_t)config->capacity;
    limits.ranks = m->ranks;
    limits.local = group->dev.local;
    limits.topk = r->topk;
    limits.fan = r->fan;
    limits.tokens = r->tokens_limit;
    limits.recv = m->ranks * r->tokens_limit;
    limits.chunks = r->chunks;
    sy_route_layout_make(&r->at, &limits);
}

sy_status sy_route_bytes(sy_group *group, const sy_route_config *config, size_t *bytes)
{
    struct sy_dev_route r;
    sy_route_config full;
    SY_NEED(group && bytes, "sy_route_bytes: NULL");
    SY_TRY(check_config(group, config, &full));
    describe(group, &full, &r);
    *bytes = r.at.bytes;
    return SY_OK;
}

/* The caller's memory, or the library's own if that is NULL. */
static sy_status prepare_memory(sy_route *route, void *memory)
{
    struct sy_rt *rt = route->group->rt;
    const sy_u64 zero = 0;
    route->owned = !memory;
    route->memory = memory ? memory : rt->ops->alloc(rt, route->bytes);
    if (!route->memory)
        return sy_fail_in(SY_NO_MEMORY, "memory of a route");
    route->dev.memory = route->memory;
    /* The one word that must be zero before the first use; the rest is written before it is read.
     */
    return rt->ops->write(rt, route->memory + route->dev.at.bad, &zero, sizeof zero);
}

/* Whatever the batches will be, there is one routing kernel for them, in latency mode at most for
 * maps. The rest is a guess, which saves half of the time until the first batch is through: rows of
 * BF16, as large as they may be, with weights or ids; fetched when they come back, if they can be,
 * and pushed as well where large batches are. */
static void prepare_kernels(const sy_route *route)
{
    const struct sy_rt *rt = route->group->rt;
    const struct sy_plan *plan = &route->group->plan;
    struct sy_combine_kargs combine;
    struct sy_tdispatch_args dispatch;
    struct sy_route_args args;
    if (!rt->ops->prepare)
        return;
    memset(&args, 0, sizeof args);
    args.d = route->group->dev;
    args.r = route->dev;
    memset(&dispatch, 0, sizeof dispatch);
    dispatch.d = args.d;
    dispatch.r = args.r;
    dispatch.out.work = 1;
    dispatch.out.row_bytes = (uint32_t)plan->limits.row_bytes_max;
    if (!route->dev.latency) {
        rt->ops->prepare(route->group->rt, SY_KERNEL_route, &args);
        rt->ops->prepare(route->group->rt, SY_KERNEL_tdispatch, &dispatch);
    }
    memset(&combine, 0, sizeof combine);
    combine.d = args.d;
    combine.r = args.r;
    combine.type = SY_BF16;
    combine.pull = (sy_u32)sy_fetch_wanted(route, &plan->machine, 0, 0);
    rt->ops->prepare(route->group->rt, SY_KERNEL_combine, &combine);
    if (!combine.pull ||
        sy_fetch_wanted(route, &plan->machine, route->dev.tokens_limit, plan->limits.row_bytes_max))
        return;
    combine.pull = 0; /* large batches */
    rt->ops->prepare(route->group->rt, SY_KERNEL_combine, &combine);
}

static void release_memory(sy_route *route)
{
    struct sy_rt *rt = route->group->rt;
    if (route->owned && route->memory)
        rt->ops->free(rt, route->memory, route->bytes);
}

sy_status sy_route_create(sy_group *group, const sy_route_config *config, void *memory,
                          sy_route **out)
{
    sy_route *route;
    sy_route_config full;
    sy_status status;
    SY_NEED(group && out, "sy_route_create: NULL");
    SY_NEED((uintptr_t)memory % 256 == 0, "a route's memory is aligned to 256 bytes");
    SY_TRY(check_config(group, config, &full));
    route = sy_zalloc(sizeof *route);
    if (!route)
        return sy_fail(SY_NO_MEMORY, "a route");
    route->group = group;
    route->config = full;
    describe(group, &full, &route->dev);
    route->bytes = route->dev.at.bytes;
    status = prepare_memory(route, memory);
    if (status == SY_OK)
        status = group->rt->ops->event_create(group->rt, 0, &route->done);
    if (status != SY_OK) {
        release_memory(route);
        sy_os->free(route);
        return status;
    }
    prepare_kernels(route);
    pthread_mutex_lock(&group->lock);
    group->objects++;
    pthread_mutex_unlock(&group->lock);
    *out = route;
    return SY_OK;
}

sy_status sy_route_destroy(sy_route *route)
{
    sy_group *group;
    if (!route)
        return SY_OK;
    group = route->group;
    group->rt->ops->event_sync(group->rt, route->done);
    group->rt->ops->event_destroy(group->rt, route->done);
    release_memory(route);
    pthread_mutex_lock(&group->order);
    for (int i = 0; i < SY_CHANNELS; i++)
        if (group->halves[i].route == route)
            group->halves[i].route = NULL; /* another may get its address */
    pthread_mutex_unlock(&group->order);
    pthread_mutex_lock(&group->lock);
    group->objects--;
    pthread_mutex_unlock(&group->lock);
    sy_os->free(route);
    return SY_OK;
}

/* --- routing -------------------------------------------------------------------------------- */

static sy_status take_input(const sy_route *route, const sy_route_input *in,
                            struct sy_route_args *a)
{
    const struct sy_expect ids = {
        "ids", 2, SY_TYPE_BIT(SY_I32) | SY_TYPE_BIT(SY_I64), {-1, route->config.topk}, 0, 0};
    const struct sy_expect map = {
        "map", 2, SY_TYPE_BIT(SY_U8), {-1, (int64_t)route->group->dev.experts}, 0, 0};
    const sy_tensor *t = in->map.data ? &in->map : &in->ids;
    SY_NEED(in->size >= sizeof *in, "sy_route_input: its size is not set");
    SY_NEED(!(in->ids.data && in->map.data), "ids and map: one of them");
    SY_TRY(sy_tensor_take(&in->ids, &ids, &a->ids));
    SY_TRY(sy_tensor_take(&in->map, &map, &a->map));
    SY_NEED(t->data || t->shape[0] == 0, "neither ids nor map, and %lld tokens",
            (long long)t->shape[0]);
    SY_NEED(t->shape[0] >= 0 && t->shape[0] <= route->dev.tokens_limit,
            "%lld tokens; the group was made for %u", (long long)t->shape[0],
            route->dev.tokens_limit);
    a->tokens = (uint32_t)t->shape[0];
    return SY_OK;
}

/* Latency mode: ids wait for the first dispatch; a map becomes ids here. */
static sy_status set_latency(sy_route *route, const sy_route_input *in, struct sy_route_args *a,
                             sy_stream *stream)
{
    sy_group *group = route->group;
    struct sy_grid grid = {1, group->plan.machine.lanes > 1 ? 8 : 1, SY_ROUTE_SH_GOALS};
    memset(&route->ids, 0, sizeof route->ids);
    if (!in->map.data) {
        route->ids = a->ids;
        return SY_OK;
    }
    a->only_ids = 1;
    return group->rt->ops->launch(group->rt, stream, SY_KERNEL_route, &grid, a, sizeof *a,
                                  route->done);
}

static sy_status set_throughput(sy_route *route, struct sy_route_args *a,
                                const struct sy_machine *machine, int32_t sms, sy_stream *stream)
{
    sy_group *group = route->group;
    const uint64_t same[] = {SY_CH_ROUTE, a->r.layout, a->r.topk, a->r.alignment, (uint64_t)sms};
    struct sy_work w = {.ranks = group->dev.ranks,
                        .experts = group->dev.experts,
                        .local_max = group->dev.local_max,
                        .topk = a->r.topk,
                        .tokens = a->tokens};
    struct sy_cut cut;
    struct sy_grid grid;
    SY_TRY(sy_cut_route(machine, &w, &cut, &a->chunk_tokens, &a->chunks));
    a->check = sy_check_word(same, sizeof same / sizeof *same);
    grid.blocks = cut.blocks;
    grid.warps = cut.warps;
    grid.shared_bytes = cut.shared_bytes;
    return group->rt->ops->launch(group->rt, stream, SY_KERNEL_route, &grid, a, sizeof *a,
                                  route->done);
}

static sy_status set_route(sy_route *route, const sy_route_input *input, sy_stream *stream)
{
    struct sy_route_args a;
    struct sy_machine machine;
    sy_group *group;
    sy_status status;
    SY_NEED(route && input, "sy_route_set: NULL");
    group = route->group;
    SY_TRY(sy_group_usable(group, "sy_route_set"));
    memset(&a, 0, sizeof a);
    SY_TRY(take_input(route, input, &a));
    SY_TRY(sy_machine_for(group, input->sms, &machine));
    a.d = group->dev;
    a.r = route->dev;
    pthread_mutex_lock(&group->order);
    if (sy_between_halves(route))
        status = sy_fail(SY_STATE, "sy_route_set: an operation of the route waits for its receive "
                                   "half");
    else if (route->dev.latency)
        status = set_latency(route, input, &a, stream);
    else
        status = set_throughput(route, &a, &machine, input->sms, stream);
    if (status == SY_OK) {
        route->set = 1;
        route->placed = !route->dev.latency;
        route->tokens = a.tokens;
        route->number = ++group->routings;
        group->calls[SY_CH_ROUTE] += !route->dev.latency;
    }
    pthread_mutex_unlock(&group->order);
    if (status == SY_OK)
        sy_log(&group->log, SY_LOG_TRACE, "route %llu is set: %lld tokens",
               (unsigned long long)route->number, (long long)route->tokens);
    return status;
}

sy_status sy_route_set(sy_route *route, const sy_route_input *input, sy_stream *stream)
{
    return SY_RANGE("sy_route_set", set_route(route, input, stream));
}

/* --- counts --------------------------------------------------------------------------------- */

static sy_tensor tensor_of(const sy_route *route, uint64_t offset, int32_t dims, int64_t n0,
                           int64_t n1)
{
    void *data = route->memory + offset;
    return dims == 1 ? sy_tensor_1d(data, SY_I32, n0) : sy_tensor_2d(data, SY_I32, n0, n1);
}

sy_status sy_route_info_get(const sy_route *route, sy_route_info *info)
{
    const struct sy_route_layout *at;
    int64_t L, R;
    SY_NEED(route && info && info->size >= sizeof *info,
            "sy_route_info_get: NULL, or info's size is not set");
    at = &route->dev.at;
    L = route->group->dev.local;
    R = route->group->dev.ranks;
    info->totals = tensor_of(route, at->totals, 1, SY_TOTALS, 0);
    info->expert_counts = tensor_of(route, at->expert_counts, 1, L, 0);
    info->expert_aligned = tensor_of(route, at->expert_aligned, 1, L, 0);
    info->expert_offsets = tensor_of(route, at->expert_offsets, 1, L + 1, 0);
    info->source_counts = tensor_of(route, at->source_counts, 1, R, 0);
    info->source_offsets = tensor_of(route, at->source_offsets, 1, R + 1, 0);
    info->slab_begin = tensor_of(route, at->slab_begin, 2, L, R);
    info->slab_count = tensor_of(route, at->slab_count, 2, L, R);
    return SY_OK;
}

static sy_status read_totals(sy_route *route, int64_t totals[SY_TOTALS])
{
    sy_s32 raw[SY_TOTALS];
    sy_group *group;
    SY_NEED(route && totals, "sy_route_totals: NULL");
    group = route->group;
    if (!route->placed)
        return sy_fail(SY_STATE, route->set ? "a latency route has no counts before its dispatch"
                                            : "the route has not been set");
    SY_TRY(group->rt->ops->event_sync(group->rt, route->done));
    SY_TRY(sy_group_fault(group, "sy_route_totals"));
    SY_TRY(group->rt->ops->read(group->rt, raw, route->memory + route->dev.at.totals, sizeof raw));
    for (int i = 0; i < SY_TOTALS; i++)
        totals[i] = raw[i];
    return SY_OK;
}

sy_status sy_route_totals(sy_route *route, int64_t totals[SY_TOTALS])
{
    return SY_RANGE("sy_route_totals", read_totals(route, totals));
}
