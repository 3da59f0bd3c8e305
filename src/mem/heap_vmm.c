/* heap_vmm.c - heaps in the memory of NVIDIA GPUs (see heap.h).
 *
 * Each rank tells all others what its GPU can do (a card); the best way that all of them can go is
 * taken, or the one that parameter SY_HEAP names:
 *
 *   descriptors  cuMemCreate() memory, handed over as POSIX file descriptors by the mesh
 *   cudaIpc      cuMemAlloc() memory and its 64-byte handle; within a process its address
 *   fabric       cuMemCreate() memory and its 64-byte fabric handle, which also works between the
 *                machines of one NVLink domain. Follows the manual; not verified on such machines
 *
 * With descriptors and fabric handles the driver keeps memory as long as any rank maps it; with
 * cudaIpc a rank that leaves early takes its memory with it.
 *
 * Sections: cards | the own memory | peers' memory | the heap. */
#include "heap.h"

#include <string.h>

#include "base/cuda_api.h"
#include "base/os.h"
#include "base/process.h"
#include "boot/boot.h"
#include "boot/mesh.h"

enum way { WAY_NONE = 0, WAY_FD = 1, WAY_IPC = 2, WAY_FABRIC = 3 }; /* as in SY_HEAP */

#define WAY_BIT(way) (1u << (way))
#define GRANULE_MAX (1ull << 30)

/* What a rank tells of its GPU. */
struct card {
    struct sy_cuda_uuid gpu;
    uint8_t process[16]; /* equal for ranks of one process */
    uint64_t granule;    /* of its memory                  */
    uint32_t ways, reserved;
};

/* ... and, except with descriptors, of its memory. */
struct ticket {
    uint8_t handle[64];
    uint64_t address; /* cudaIpc */
};

struct part {
    sy_cuda_memory_handle handle; /* VMM, 0: none                  */
    sy_cuda_ptr at;               /* where it is mapped; 0: nowhere */
    int reserved, mapped;         /* VMM                            */
    int opened;                   /* cudaIpc                        */
};

struct sy_vmm {
    enum way way;
    uint64_t bytes;     /* the heap's, in whole granules */
    struct card *cards; /* [ranks] */
    struct part *parts; /* [ranks] */
    struct ticket ticket;
    int fd; /* descriptor of the own memory */
};

static const char *const way_names[] = {"", "descriptors", "cudaIpc", "fabric handles"};

/* --- cards ---------------------------------------------------------------------------------- */

static struct sy_cuda_memory properties(const struct sy_gpu *gpu, enum way way)
{
    struct sy_cuda_memory prop;
    memset(&prop, 0, sizeof prop);
    prop.type = SY_CU_MEMORY_PINNED;
    prop.handles = way == WAY_FABRIC ? SY_CU_HANDLE_FABRIC : SY_CU_HANDLE_FD;
    prop.location.type = SY_CU_LOCATION_DEVICE;
    prop.location.id = gpu->device;
    return prop;
}

static sy_status make_card(const struct sy_heap *heap, struct card *card)
{
    const struct sy_gpu *gpu = heap->gpu;
    const struct sy_cuda_memory prop = properties(gpu, WAY_FD);
    int vmm = 0, fd = 0, fabric = 0;
    size_t granule = 1;
    memset(card, 0, sizeof *card);
    if (sy_process_name(card->process))
        return sy_fail_errno("a random number");
    SY_TRY(SY_CU(gpu->api, cuDeviceGetUuid_v2, &card->gpu, gpu->device));
    SY_TRY(SY_CU(gpu->api, cuDeviceGetAttribute, &vmm, SY_CU_ATTR_VMM, gpu->device));
    SY_TRY(SY_CU(gpu->api, cuDeviceGetAttribute, &fd, SY_CU_ATTR_FD, gpu->device));
    /* Drivers that do not know the attribute have no fabric handles. */
    if (gpu->api->cuDeviceGetAttribute(&fabric, SY_CU_ATTR_FABRIC, gpu->device))
        fabric = 0;
    if (vmm)
        SY_TRY(SY_CU(gpu->api, cuMemGetAllocationGranularity, &granule, &prop, 1));
    card->granule = granule;
    card->ways = WAY_BIT(WAY_IPC) | (vmm && fd ? WAY_BIT(WAY_FD) : 0) |
                 (vmm && fabric ? WAY_BIT(WAY_FABRIC) : 0);
    return SY_OK;
}

/* The same on all ranks, as it follows from the cards. */
static sy_status choose_way(const struct sy_heap *heap)
{
    static const enum way best[] = {WAY_FD, WAY_FABRIC, WAY_IPC};
    struct sy_vmm *v = heap->vmm;
    uint32_t ways = heap->way ? WAY_BIT((uint32_t)heap->way) : ~0u;
    uint64_t granule = 1;
    for (uint32_t p = 0; p < heap->ranks; p++) {
        const struct card *card = v->cards + p;
        if (!card->granule || card->granule > GRANULE_MAX || (card->granule & (card->granule - 1)))
            return sy_fail(SY_PROTOCOL, "rank %u: its memory comes in pieces of %llu bytes", p,
                           (unsigned long long)card->granule);
        granule = card->granule > granule ? card->granule : granule;
        if (heap->way && !(card->ways & ways))
            return sy_fail(SY_UNSUPPORTED, "SY_HEAP=%d: rank %u's GPU has no %s", (int)heap->way, p,
                           way_names[heap->way]);
        ways &= card->ways;
    }
    for (size_t i = 0; i < sizeof best / sizeof *best && !v->way; i++)
        v->way = ways & WAY_BIT(best[i]) ? best[i] : WAY_NONE;
    if (!v->way)
        return sy_fail(SY_UNSUPPORTED, "the ranks' GPUs have no way in common to share memory");
    v->bytes = (heap->bytes + granule - 1) / granule * granule;
    return SY_OK;
}

/* This process's number for a GPU, or -1: it may be hidden from it. */
static int device_of(const struct sy_cuda_api *api, const struct sy_cuda_uuid *uuid)
{
    int count = 0;
    if (api->cuDeviceGetCount(&count))
        return -1;
    for (int i = 0; i < count; i++) {
        struct sy_cuda_uuid other;
        int device;
        if (!api->cuDeviceGet(&device, i) && !api->cuDeviceGetUuid_v2(&other, device) &&
            !memcmp(&other, uuid, sizeof other))
            return device;
    }
    return -1;
}

/* Pairs whose GPUs do not see each other are left to the mapping, which fails if it must. */
static sy_status check_pairs(const struct sy_heap *heap)
{
    const struct sy_gpu *gpu = heap->gpu;
    for (uint32_t p = 0; p < heap->ranks; p++) {
        int device = device_of(gpu->api, &heap->vmm->cards[p].gpu), can = 1;
        if (device < 0 || device == gpu->device)
            continue;
        SY_TRY(SY_CU(gpu->api, cuDeviceCanAccessPeer, &can, gpu->device, device));
        if (!can)
            return sy_fail(SY_UNSUPPORTED,
                           "the GPU of rank %u cannot reach that of rank %u (no peer access)",
                           heap->rank, p);
    }
    return SY_OK;
}

/* --- the own memory ------------------------------------------------------------------------- */

static sy_status map_part(const struct sy_heap *heap, struct part *part)
{
    const struct sy_cuda_access access = {{SY_CU_LOCATION_DEVICE, heap->gpu->device},
                                          SY_CU_ACCESS_READ_WRITE};
    const struct sy_cuda_api *api = heap->gpu->api;
    const uint64_t bytes = heap->vmm->bytes;
    SY_TRY(SY_CU(api, cuMemAddressReserve, &part->at, bytes, 0, 0, 0));
    part->reserved = 1;
    SY_TRY(SY_CU(api, cuMemMap, part->at, bytes, 0, part->handle, 0));
    part->mapped = 1;
    return SY_CU(api, cuMemSetAccess, part->at, bytes, &access, 1);
}

static sy_status clear(const struct sy_heap *heap, sy_cuda_ptr at)
{
    const struct sy_cuda_api *api = heap->gpu->api;
    sy_cuda_stream stream;
    sy_status status;
    SY_TRY(SY_CU(api, cuStreamCreate, &stream, SY_CU_STREAM_NON_BLOCKING));
    status = SY_CU(api, cuMemsetD8Async, at, 0, heap->vmm->bytes, stream);
    if (status == SY_OK)
        status = SY_CU(api, cuStreamSynchronize, stream);
    api->cuStreamDestroy_v2(stream);
    return status;
}

static sy_status make_vmm(const struct sy_heap *heap, struct part *own)
{
    struct sy_vmm *v = heap->vmm;
    const struct sy_cuda_api *api = heap->gpu->api;
    const struct sy_cuda_memory prop = properties(heap->gpu, v->way);
    SY_TRY(SY_CU(api, cuMemCreate, &own->handle, v->bytes, &prop, 0));
    SY_TRY(map_part(heap, own));
    if (v->way == WAY_FABRIC)
        return SY_CU(api, cuMemExportToShareableHandle, v->ticket.handle, own->handle,
                     SY_CU_HANDLE_FABRIC, 0);
    return SY_CU(api, cuMemExportToShareableHandle, &v->fd, own->handle, SY_CU_HANDLE_FD, 0);
}

static sy_status make_ipc(const struct sy_heap *heap, struct part *own)
{
    struct sy_vmm *v = heap->vmm;
    struct sy_cuda_ipc handle;
    SY_TRY(SY_CU(heap->gpu->api, cuMemAlloc_v2, &own->at, v->bytes));
    SY_TRY(SY_CU(heap->gpu->api, cuIpcGetMemHandle, &handle, own->at));
    memcpy(v->ticket.handle, &handle, sizeof v->ticket.handle);
    v->ticket.address = own->at;
    return SY_OK;
}

static sy_status make_own(struct sy_heap *heap)
{
    struct part *own = heap->vmm->parts + heap->rank;
    SY_TRY(choose_way(heap));
    SY_TRY(check_pairs(heap));
    if (heap->vmm->way == WAY_IPC)
        SY_TRY(make_ipc(heap, own));
    else
        SY_TRY(make_vmm(heap, own));
    heap->base[heap->rank] = (uint8_t *)(uintptr_t)own->at;
    return clear(heap, own->at);
}

/* --- peers' memory -------------------------------------------------------------------------- */

/* The driver refuses to map more than there is, so a peer's size needs no trust. */
static sy_status take_vmm(const struct sy_heap *heap, uint32_t p, void *handle, int type)
{
    const struct sy_cuda_api *api = heap->gpu->api;
    struct part *part = heap->vmm->parts + p;
    struct sy_cuda_memory prop;
    SY_TRY(SY_CU(api, cuMemImportFromShareableHandle, &part->handle, handle, type));
    memset(&prop, 0, sizeof prop);
    SY_TRY(SY_CU(api, cuMemGetAllocationPropertiesFromHandle, &prop, part->handle));
    if (prop.location.type != SY_CU_LOCATION_DEVICE)
        return sy_fail(SY_PROTOCOL, "it is no memory of a GPU");
    return map_part(heap, part);
}

static sy_status check_range(const struct sy_heap *heap, sy_cuda_ptr at)
{
    const struct sy_cuda_api *api = heap->gpu->api;
    sy_cuda_ptr start = 0;
    size_t bytes = 0;
    SY_TRY(SY_CU(api, cuPointerGetAttribute, &start, SY_CU_POINTER_RANGE_START, at));
    SY_TRY(SY_CU(api, cuPointerGetAttribute, &bytes, SY_CU_POINTER_RANGE_BYTES, at));
    if (start != at || bytes < heap->vmm->bytes)
        return sy_fail(SY_PROTOCOL, "it is not as large as it should be");
    return SY_OK;
}

/* A rank of this process: handles do not open here, and the address is good. */
static sy_status take_address(const struct sy_heap *heap, uint32_t p, sy_cuda_ptr at)
{
    const struct sy_cuda_api *api = heap->gpu->api;
    sy_cuda_context context;
    int result;
    SY_TRY(check_range(heap, at));
    SY_TRY(SY_CU(api, cuPointerGetAttribute, &context, SY_CU_POINTER_CONTEXT, at));
    if (context != heap->gpu->context) {
        result = api->cuCtxEnablePeerAccess(context, 0);
        if (result != SY_CU_PEER_ACCESS_ENABLED)
            SY_TRY(sy_cuda_result(api, result, "cuCtxEnablePeerAccess"));
    }
    heap->vmm->parts[p].at = at;
    return SY_OK;
}

static sy_status take_ipc(const struct sy_heap *heap, uint32_t p, const struct ticket *ticket)
{
    const struct sy_vmm *v = heap->vmm;
    struct part *part = v->parts + p;
    struct sy_cuda_ipc handle;
    if (!memcmp(v->cards[p].process, v->cards[heap->rank].process, sizeof v->cards->process))
        return take_address(heap, p, ticket->address);
    memcpy(&handle, ticket->handle, sizeof handle);
    SY_TRY(SY_CU(heap->gpu->api, cuIpcOpenMemHandle_v2, &part->at, handle, SY_CU_IPC_LAZY_PEER));
    part->opened = 1;
    return check_range(heap, part->at);
}

static sy_status take_one(const struct sy_heap *heap, uint32_t p, const int *fds,
                          struct ticket *tickets)
{
    sy_status status;
    if (heap->vmm->way == WAY_FD)
        status = take_vmm(heap, p, (void *)(uintptr_t)fds[p], SY_CU_HANDLE_FD);
    else if (heap->vmm->way == WAY_FABRIC)
        status = take_vmm(heap, p, tickets[p].handle, SY_CU_HANDLE_FABRIC);
    else
        status = take_ipc(heap, p, tickets + p);
    if (status != SY_OK)
        return sy_fail_in(status, "the memory of rank %u", p);
    heap->base[p] = (uint8_t *)(uintptr_t)heap->vmm->parts[p].at;
    return SY_OK;
}

static sy_status take_all(const struct sy_heap *heap, const int *fds, struct ticket *tickets)
{
    sy_status status;
    int pushed;
    SY_TRY(sy_gpu_enter(heap->gpu, &pushed));
    status = SY_OK;
    for (uint32_t p = 0; p < heap->ranks && status == SY_OK; p++)
        if (p != heap->rank)
            status = take_one(heap, p, fds, tickets);
    sy_gpu_leave(heap->gpu, pushed);
    return status;
}

static sy_status join_fds(const struct sy_heap *heap, struct sy_mesh *mesh, int *fds)
{
    sy_status status;
    SY_TRY(sy_mesh_exchange_fds(mesh, heap->vmm->fd, fds));
    status = take_all(heap, fds, NULL);
    for (uint32_t p = 0; p < heap->ranks; p++)
        if (p != heap->rank)
            sy_os->close(fds[p]);
    return status;
}

/* --- the heap ------------------------------------------------------------------------------- */

static sy_status make_parts(struct sy_heap *heap)
{
    struct sy_vmm *v = heap->vmm = sy_zalloc(sizeof *heap->vmm);
    if (v) {
        v->fd = -1;
        v->cards = sy_zalloc(sizeof *v->cards * heap->ranks);
        v->parts = sy_zalloc(sizeof *v->parts * heap->ranks);
    }
    heap->base = sy_zalloc(sizeof *heap->base * heap->ranks);
    if (!v || !v->cards || !v->parts || !heap->base)
        return sy_fail(SY_NO_MEMORY, "a table of %u heaps", heap->ranks);
    return SY_OK;
}

static sy_status vmm_make(struct sy_heap *heap, struct sy_boot *boot)
{
    struct card card;
    sy_status status;
    int pushed;
    /* Nobody may stay away from the all-gather because of something that only it knows. */
    SY_TRY(sy_boot_agree(boot, make_parts(heap)));
    SY_TRY(sy_boot_agree(boot, make_card(heap, &card)));
    SY_TRY(sy_boot_allgather(boot, &card, heap->vmm->cards, sizeof card));
    SY_TRY(sy_gpu_enter(heap->gpu, &pushed));
    status = make_own(heap);
    sy_gpu_leave(heap->gpu, pushed);
    return status;
}

static sy_status vmm_join(struct sy_heap *heap, struct sy_boot *boot, struct sy_mesh *mesh)
{
    const int by_fd = heap->vmm->way == WAY_FD;
    struct ticket *tickets = by_fd ? NULL : sy_zalloc(sizeof *tickets * heap->ranks);
    int *fds = by_fd ? sy_zalloc(sizeof *fds * heap->ranks) : NULL;
    sy_status status = SY_OK;
    if (by_fd ? !fds : !tickets)
        status = sy_fail(SY_NO_MEMORY, "a table of %u heaps", heap->ranks);
    status = sy_boot_agree(boot, status);
    if (status == SY_OK && by_fd)
        status = join_fds(heap, mesh, fds);
    else if (status == SY_OK) {
        status = sy_boot_allgather(boot, &heap->vmm->ticket, tickets, sizeof *tickets);
        if (status == SY_OK)
            status = take_all(heap, NULL, tickets);
    }
    sy_os->free(fds);
    sy_os->free(tickets);
    return status;
}

static void release(const struct sy_heap *heap, struct part *part, int own)
{
    const struct sy_cuda_api *api = heap->gpu->api;
    if (part->mapped)
        api->cuMemUnmap(part->at, heap->vmm->bytes);
    if (part->reserved)
        api->cuMemAddressFree(part->at, heap->vmm->bytes);
    if (part->handle)
        api->cuMemRelease(part->handle);
    if (part->opened)
        api->cuIpcCloseMemHandle(part->at);
    if (own && heap->vmm->way == WAY_IPC && part->at)
        api->cuMemFree_v2(part->at);
}

static void vmm_close(struct sy_heap *heap)
{
    struct sy_vmm *v = heap->vmm;
    int pushed;
    if (v && v->parts) { /* tried whatever state the context is in */
        (void)sy_gpu_enter(heap->gpu, &pushed);
        for (uint32_t p = 0; p < heap->ranks; p++)
            release(heap, v->parts + p, p == heap->rank);
        sy_gpu_leave(heap->gpu, pushed);
    }
    if (v) {
        if (v->fd >= 0)
            sy_os->close(v->fd);
        sy_os->free(v->cards);
        sy_os->free(v->parts);
    }
    sy_os->free(v);
    sy_os->free(heap->base);
    heap->vmm = NULL;
    heap->base = NULL;
}

const struct sy_heap_ops sy_heap_vmm = {.make = vmm_make, .join = vmm_join, .close = vmm_close};
