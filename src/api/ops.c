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

sy_status sy_phase_begin(sy_group *group, int channel, int32_t phase, const char *call)
{
    int open = group->open_send[channel];
    SY_NEED(phase >= SY_WHOLE && phase <= SY_RECEIVE, "%s: phase %d", call, (int)phase);
    if (phase == SY_RECEIVE && !open)
        return sy_fail(SY_STATE, "%s: a receive half without a send half", call);
    if (phase != SY_RECEIVE && open)
        return sy_fail(SY_STATE, "%s: a send half still waits for its receive half", call);
    return SY_OK;
}

void sy_phase_began(sy_group *group, int channel, int32_t phase)
{
    group->open_send[channel] = phase == SY_SEND;
    if (phase != SY_RECEIVE)
        group->calls[channel]++;
}

sy_status sy_op_launch(sy_route *route, sy_stream *stream, enum sy_kernel kernel,
                       const struct sy_cut *cut, const void *args, size_t bytes)
{
    sy_group *group = route->group;
    struct sy_grid grid = {cut->blocks, cut->warps, cut->shared_bytes};
    SY_TRY(group->rt->ops->launch(group->rt, stream, kernel, &grid, args, bytes));
    return group->rt->ops->event_record(group->rt, route->done, stream);
}
