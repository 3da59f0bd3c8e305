/* heap.h - the memory that ranks of a group map of each other: on the CPU memory files
 * (heap_shm.c), on NVIDIA GPUs device memory (heap_vmm.c). */
#ifndef SY_MEM_HEAP_H
#define SY_MEM_HEAP_H

#include "base/status.h"

struct sy_boot;
struct sy_gpu;
struct sy_heap;
struct sy_mesh;
struct sy_vmm;

/* Two collective steps, after each of which the caller has all ranks agree that it worked. make:
 * the own heap, zeroed. join: those of the peers, once all ranks have made theirs. close: in any
 * state, also after a failure; local. */
struct sy_heap_ops {
    sy_status (*make)(struct sy_heap *heap, struct sy_boot *boot);
    sy_status (*join)(struct sy_heap *heap, struct sy_boot *boot, struct sy_mesh *mesh);
    void (*close)(struct sy_heap *heap);
};

struct sy_heap {
    /* Filled in by the caller: */
    const struct sy_heap_ops *ops; /* NULL: never opened                             */
    uint32_t rank, ranks;
    uint64_t bytes;
    const struct sy_gpu *gpu; /* of this rank; borrowed                         */
    int64_t way;              /* parameter SY_HEAP                              */

    uint8_t **base; /* [ranks]: each rank's heap in this process; own included. Owned. */

    /* Private to the kind of heap. */
    int own;            /* shm: descriptor of the own heap                */
    int *fds;           /* shm, while joining: [ranks]; owned             */
    struct sy_vmm *vmm; /* owned                                          */
};

extern const struct sy_heap_ops sy_heap_shm, sy_heap_vmm;

#endif
