/* heap.h - the memory that ranks of a group map of each other. */
#ifndef SY_MEM_HEAP_H
#define SY_MEM_HEAP_H

#include "base/status.h"

struct sy_mesh;

struct sy_heap {
    uint32_t rank, ranks;
    uint64_t bytes;
    uint8_t **base; /* [ranks]: each rank's heap in this process; own included. Owned. */
};

/* Collective over the mesh. Zeroed; pages are taken when first touched. On failure nothing stays,
 * on any rank. */
sy_status sy_heap_shm_open(struct sy_heap *heap, struct sy_mesh *mesh, uint32_t rank,
                           uint32_t ranks, uint64_t bytes);
void sy_heap_close(struct sy_heap *heap);

#endif
