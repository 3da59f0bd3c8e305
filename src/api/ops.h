/* ops.h - what dispatch and combine share on the host. */
#ifndef SY_API_OPS_H
#define SY_API_OPS_H

#include "base/nvtx.h"
#include "group.h"

/* Rows of a whole output of the layout, for a capacity. */
int64_t sy_route_extent(const sy_group *group, int32_t layout, int64_t capacity);

/* A tensor is part of an operation if it has data or, with no rows, at least a type. */
static inline int sy_given(const sy_tensor *t)
{
    return t->data || t->type != SY_NONE;
}

/* Checks t, which is given, and describes it. Without rows it may have no data. */
sy_status sy_take_given(const sy_tensor *t, const struct sy_expect *expect,
                        struct sy_dev_tensor *out);

/* Offset in the own heap of a tensor whose rows could be written or read there by peers, as
 * UINT64_MAX if they could not. `rows`: how many. */
uint64_t sy_heap_offset(const sy_group *group, const struct sy_dev_tensor *t, uint64_t row_bytes,
                        uint64_t rows);

/* Halves: may this phase run now on this channel? `args`: a hash of what both halves must share. If
 * it has begun, it counts. With the group's order held. */
sy_status sy_phase_begin(const sy_route *route, int channel, int32_t phase, uint32_t args,
                         const char *call);
void sy_phase_began(const sy_route *route, int channel, int32_t phase, uint32_t args);

/* Whether one of the route's operations is between its halves; with the group's order held. */
int sy_between_halves(const sy_route *route);

/* A tensor of rows, which may come as slabs, as one of two dimensions. */
sy_status sy_rows_flatten(const sy_route *route, const sy_tensor *t, const char *name,
                          sy_tensor *flat);

/* What a call may use: what the group may, or less if its `sms` says so. Checks that. */
sy_status sy_machine_for(const sy_group *group, int32_t sms, struct sy_machine *m);

/* Should the sources of a combine fetch those rows that they can reach? tokens: of this rank. */
int sy_fetch_wanted(const sy_route *route, const struct sy_machine *m, int64_t tokens,
                    uint64_t row_bytes);

/* Launches and records the route's event; with the group's order held. */
sy_status sy_op_launch(sy_route *route, sy_stream *stream, enum sy_kernel kernel,
                       const struct sy_cut *cut, const void *args, size_t bytes);

/* Every tensor of a kind of operation: which rows its outputs must have, and so on. */
static inline int sy_layout_by_expert(int32_t layout)
{
    return layout == SY_EXPERT_PACKED || layout == SY_EXPERT_SLABS;
}

static inline int sy_layout_fixed(int32_t layout)
{
    return layout == SY_EXPERT_SLABS || layout == SY_RANK_MAJOR;
}

#define SY_ROW_TYPES                                                                               \
    (SY_TYPE_BIT(SY_BF16) | SY_TYPE_BIT(SY_F16) | SY_TYPE_BIT(SY_F32) | SY_TYPE_BIT(SY_F8E4M3) |   \
     SY_TYPE_BIT(SY_OPAQUE16))
#define SY_SUM_TYPES (SY_TYPE_BIT(SY_BF16) | SY_TYPE_BIT(SY_F16) | SY_TYPE_BIT(SY_F32))

#endif
