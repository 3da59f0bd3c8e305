/* ops.c - see ops.h. */
#include "ops.h"

#include <string.h>

sy_status sy_take_given(const sy_tensor *t, const struct sy_expect *expect,
                        struct sy_dev_tensor *out)
{
    sy_tensor with_data = *t;
    if (!t->data) {
        SY_NEED(t->dims >= 1 && t->shape[0] == 0, "%s: no data, and %lld rows", expect->name,
                (long long)t->shape[0]);
        with_data.data = (void *)16; /* checked like the rest; never touched, there are no rows */
    }
    return sy_tensor_take(&with_data, expect, out);
}

uint64_t sy_heap_offset(const sy_group *group, const struct sy_dev_tensor *t, uint64_t row_bytes,
                        uint64_t rows)
{
    const struct sy_heap_layout *at = &group->dev.at;
    uint64_t offset = (uint64_t)(t->data - group->dev.heap), bytes = rows * row_bytes;
    int in_views, in_user;
    if (t->data < group->dev.heap || offset >= group->dev.heap_bytes)
        return UINT64_MAX;
    if (offset % SY_REGION_ALIGN || (t->rows > 1 && (uint64_t)t->stride0 != row_bytes))
        return UINT64_MAX;
    in_views = offset >= at->td_rows && offset + bytes <= at->tc_arrive;
    in_user = offset >= at->user && offset + bytes <= group->dev.heap_bytes;
    return in_views || in_user ? offset : UINT64_MAX;
}

sy_status sy_phase_begin(const sy_route *route, int channel, int32_t phase, uint32_t args,
                         const char *call)
{
    const struct sy_half *half = route->group->halves + channel;
    SY_NEED(phase >= SY_WHOLE && phase <= SY_RECEIVE, "%s: phase %d", call, (int)phase);
    if (phase == SY_RECEIVE && !half->open)
        return sy_fail(SY_STATE, "%s: a receive half without a send half", call);
    if (phase != SY_RECEIVE && half->open)
        return sy_fail(SY_STATE, "%s: a send half still waits for its receive half", call);
    if (phase == SY_RECEIVE && half->route != route)
        return sy_fail(SY_STATE, "%s: the open send half is that of another route", call);
    SY_NEED(phase != SY_RECEIVE || half->args == args,
            "%s: the receive half has other arguments than the send half", call);
    return SY_OK;
}

void sy_phase_began(const sy_route *route, int channel, int32_t phase, uint32_t args)
{
    struct sy_half *half = route->group->halves + channel;
    half->open = phase == SY_SEND;
    half->route = route;
    half->args = args;
    if (phase != SY_RECEIVE)
        route->group->calls[channel]++;
}

int sy_between_halves(const sy_route *route)
{
    int between = 0;
    for (int i = 0; i < SY_CHANNELS; i++)
        between |= route->group->halves[i].open && route->group->halves[i].route == route;
    return between;
}

sy_status sy_rows_flatten(const sy_route *route, const sy_tensor *t, const char *name,
                          sy_tensor *flat)
{
    int32_t layout = route->config.layout;
    int64_t slabs = layout == SY_EXPERT_SLABS ? route->group->dev.local : route->group->dev.ranks;
    *flat = *t;
    if (!sy_given(t) || t->dims != 3)
        return SY_OK;
    SY_NEED(sy_layout_fixed(layout),
            "%s: 3 dimensions; only the rows of EXPERT_SLABS and RANK_MAJOR come in slabs", name);
    SY_NEED(t->shape[0] == slabs && t->shape[1] == route->config.capacity,
            "%s: %lld slabs of %lld rows, and the route has %lld of %lld", name,
            (long long)t->shape[0], (long long)t->shape[1], (long long)slabs,
            (long long)route->config.capacity);
    return sy_tensor_flatten(t, name, flat);
}

int sy_fetch_wanted(const sy_route *route, const struct sy_machine *m, int64_t tokens,
                    uint64_t row_bytes)
{
    const struct sy_work w = {.ranks = route->group->dev.ranks,
                              .topk = route->dev.topk,
                              .tokens = (uint32_t)tokens,
                              .row_bytes = (uint32_t)row_bytes,
                              .by_expert = (uint32_t)sy_layout_by_expert(route->config.layout)};
    int64_t path = route->group->plan.params.combine_path;
    return !route->dev.latency && path != 1 && (path == 2 || sy_combine_fetches(m, &w));
}

sy_status sy_machine_for(const sy_group *group, int32_t sms, struct sy_machine *m)
{
    SY_NEED(sms >= 0 && sms <= SY_SMS_MAX, "sms %d: from 0 to %d", (int)sms, SY_SMS_MAX);
    *m = group->plan.machine;
    if (sms && (uint32_t)sms < m->blocks_max)
        m->blocks_max = (uint32_t)sms;
    return SY_OK;
}

sy_status sy_op_launch(sy_route *route, sy_stream *stream, enum sy_kernel kernel,
                       const struct sy_cut *cut, const void *args, size_t bytes)
{
    sy_group *group = route->group;
    struct sy_grid grid = {cut->blocks, cut->warps, cut->shared_bytes};
    return group->rt->ops->launch(group->rt, stream, kernel, &grid, args, bytes, route->done);
}
