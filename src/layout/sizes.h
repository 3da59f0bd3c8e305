/* sizes.h - the host's side of the layout: sizes and offsets computed from limits.
 *
 * The only place where the tables of heap.def, local.def and route.def become numbers. */
#ifndef SY_LAYOUT_SIZES_H
#define SY_LAYOUT_SIZES_H

#include "layout.h"

/* Fills what follows from the others: fan_max, recv_tokens_max, bytes and chunk counts, books. */
void sy_limits_derive(struct sy_limits *m);

/* Lay out the regions; return the bytes of the whole, also in ->bytes. */
sy_u64 sy_heap_layout_make(struct sy_heap_layout *at, const struct sy_limits *m);
sy_u64 sy_local_layout_make(struct sy_local_layout *at, const struct sy_limits *m);
sy_u64 sy_route_layout_make(struct sy_route_layout *at, const struct sy_route_limits *m);

/* One line per region of a heap: name, offset, bytes, meaning. For `switchyard info` and tests. */
struct sy_region_info {
    const char *name, *meaning;
    sy_u64 offset, bytes;
};
sy_u32 sy_heap_regions(const struct sy_limits *m, struct sy_region_info *out, sy_u32 max);

#endif
