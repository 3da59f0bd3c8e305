/* heap_shm.c - heaps in memory files (see heap.h).
 *
 * A memory file has no name that could stay behind: it is gone with the last process that maps it,
 * however that ends. Its size is sealed before peers get the descriptor, and a peer maps only what
 * is sealed, so that nobody's mistake turns an access into a bus error. */
#define _DEFAULT_SOURCE /* MAP_NORESERVE */
#include "heap.h"

#include <string.h>
#include <sys/mman.h>

#include "base/os.h"
#include "boot/mesh.h"

static sy_status map_one(struct sy_heap *heap, uint32_t rank, int fd)
{
    int prot = PROT_READ | PROT_WRITE;
    void *at = sy_os->map(NULL, (size_t)heap->bytes, prot, MAP_SHARED | MAP_NORESERVE, fd);
    if (at == MAP_FAILED)
        return sy_fail_errno("mmap of a heap");
    heap->base[rank] = at;
    return SY_OK;
}

/* Its pages are taken when they are first touched. */
static sy_status shm_make(struct sy_heap *heap, struct sy_boot *boot)
{
    (void)boot;
    heap->own = -1;
    heap->base = sy_zalloc(sizeof *heap->base * heap->ranks);
    heap->fds = sy_zalloc(sizeof *heap->fds * heap->ranks);
    if (!heap->base || !heap->fds)
        return sy_fail(SY_NO_MEMORY, "a table of %u heaps", heap->ranks);
    heap->own = sy_os->memfd("switchyard-heap");
    if (heap->own < 0)
        return sy_fail_errno("memfd_create for the heap");
    if (sy_os->resize(heap->own, (off_t)heap->bytes))
        return sy_fail_errno("ftruncate of the heap");
    if (sy_os->seal(heap->own))
        return sy_fail_errno("sealing the heap");
    return map_one(heap, heap->rank, heap->own);
}

static sy_status map_peers(struct sy_heap *heap, const int *fds)
{
    for (uint32_t p = 0; p < heap->ranks; p++) {
        int64_t bytes;
        if (p == heap->rank)
            continue;
        bytes = sy_os->sealed_bytes(fds[p]);
        if (bytes < 0)
            return sy_fail_errno("looking at a peer's heap");
        if ((uint64_t)bytes != heap->bytes)
            return sy_fail(SY_PROTOCOL, "the heap of rank %u is no sealed memory of %llu bytes", p,
                           (unsigned long long)heap->bytes);
        SY_TRY(map_one(heap, p, fds[p]));
    }
    return SY_OK;
}

/* Descriptors are of no use once the memory is mapped. */
static void drop_descriptors(struct sy_heap *heap)
{
    if (heap->fds && heap->own >= 0)
        sy_os->close(heap->own);
    heap->own = -1;
    sy_os->free(heap->fds);
    heap->fds = NULL;
}

static sy_status shm_join(struct sy_heap *heap, struct sy_boot *boot, struct sy_mesh *mesh)
{
    sy_status status = sy_mesh_exchange_fds(mesh, heap->own, heap->fds);
    (void)boot;
    if (status == SY_OK) {
        status = map_peers(heap, heap->fds);
        for (uint32_t p = 0; p < heap->ranks; p++)
            if (p != heap->rank)
                sy_os->close(heap->fds[p]);
    }
    drop_descriptors(heap);
    return status;
}

static void shm_close(struct sy_heap *heap)
{
    for (uint32_t p = 0; heap->base && p < heap->ranks; p++)
        if (heap->base[p])
            sy_os->unmap(heap->base[p], (size_t)heap->bytes);
    sy_os->free(heap->base);
    heap->base = NULL;
    drop_descriptors(heap);
}

const struct sy_heap_ops sy_heap_shm = {.make = shm_make, .join = shm_join, .close = shm_close};
