/* ualloc.h - sy_alloc(): pieces of a region, first fit. The book is kept outside the region, which
 * peers can write. */
#ifndef SY_MEM_UALLOC_H
#define SY_MEM_UALLOC_H

#include <stdint.h>

#define SY_UALLOC_PIECES 4096

struct sy_upiece {
    uint64_t offset, bytes;
};

/* Pieces in use, ascending. */
struct sy_ualloc {
    uint64_t bytes;
    uint32_t count;
    struct sy_upiece *pieces; /* [SY_UALLOC_PIECES], owned */
};

int sy_ualloc_open(struct sy_ualloc *u, uint64_t bytes); /* -1: no memory */
void sy_ualloc_close(struct sy_ualloc *u);

/* Offset of a free piece, or UINT64_MAX. */
uint64_t sy_ualloc_take(struct sy_ualloc *u, uint64_t bytes);
int sy_ualloc_give(struct sy_ualloc *u, uint64_t offset); /* -1: no such piece */

#endif
