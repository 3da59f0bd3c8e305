/* heap.h - the memory that ranks of a group map of each other. */
#ifndef SY_MEM_HEAP_H
#define SY_MEM_HEAP_H

#include "base/status.h"

struct sy_mesh;

struct sy_heap {
    uint32_t rank, ranks;
    uint64_t bytes;
    uint8_t **base; /* [ranks]: each rank's heap in this process; own included. Owned. */

    /* While it is being made: */
    int own;  /* descriptor of the own heap */
    int *fds; /* [ranks]; owned             */
};

/* Two steps. make: local; the own heap, zeroed, whose pages are taken when first touched. join:
 * collective over the mesh, once all ranks have made theirs. After a failure of either, close. */
sy_status sy_heap_shm_make(struct sy_heap *heap, uint32_t rank, uint32_t ranks, uint64_t bytes);
sy_status sy_heap_shm_join(struct sy_heap *heap, struct sy_mesh *mesh);
void sy_heap_close(struct sy_heap *heap);

#endif
