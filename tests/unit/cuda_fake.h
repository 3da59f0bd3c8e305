/* cuda_fake.h - a CUDA driver and a run-time compiler that are not there: for tests without a GPU.
 *
 * Put in place of the real ones through sy_os. Memory is the host's, descriptors are memory files,
 * and a launch runs the CPU engine's kernels at once in the calling thread, so a whole group works.
 * Every call is counted, and the n-th can be made to fail; all that is given out is counted, so
 * that what is not given back shows.
 *
 *   1  Counting and failing   2  Devices and contexts   3  Memory   4  Streams, events, graphs
 *   5  Kernels                6  The compiler           7  Putting it in place
 */
#ifndef SY_TESTS_CUDA_FAKE_H
#define SY_TESTS_CUDA_FAKE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cuda_api.h"
#include "base/os.h"
#include "rt/cpu_engine.h"
#include "rt/jit_compiler.h"

#define FAKE_UNUSED __attribute__((unused))
#define FAKE_DEVICES 4
#define FAKE_SMS 2
#define FAKE_SHARED_MAX (227 * 1024)
#define FAKE_TABLE 256

/* --- 1. Counting and failing ------------------------------------------------------------------ */

enum fake_kind {
    FAKE_CONTEXT,
    FAKE_MEMORY,
    FAKE_HOST,
    FAKE_HANDLE,
    FAKE_RANGE,
    FAKE_MAPPING,
    FAKE_IPC,
    FAKE_MODULE,
    FAKE_STREAM,
    FAKE_EVENT,
    FAKE_PROGRAM,
    FAKE_KINDS
};

static const char *const fake_kinds[FAKE_KINDS] = {
    "contexts", "memory",  "host memory", "memory handles", "address ranges", "mappings",
    "cudaIpc",  "modules", "streams",     "events",         "programs"};

struct fake_object {
    enum fake_kind kind;
    uint64_t address, bytes;
    int fd; /* memory and handles: -1 or a memory file */
    int device;
};

static struct {
    pthread_mutex_t lock;
    long calls;         /* of victims                                               */
    long fail_at;       /* this call of a victim fails; 0: none                     */
    const char *failed; /* which one that was                                       */
    long live[FAKE_KINDS];
    struct fake_object objects[FAKE_TABLE];

    int devices, major, no_vmm, no_pools, no_peers; /* what the machine is like              */
    int no_driver, no_compiler;
    const char *no_symbol;
    uint64_t compile_ns;                       /* that a compilation takes */
    uint64_t compiled, launches, waits, syncs; /* what was asked for                           */
    uint64_t captures, loads;
    unsigned blocks_most; /* of a launch */
} fake = {.lock = PTHREAD_MUTEX_INITIALIZER, .devices = FAKE_DEVICES, .major = 9};

static _Thread_local int fake_spared; /* 1: this thread's calls never fail */

/* Does this call fail? Its name is kept. */
static int fake_fails(const char *name)
{
    int fails = 0;
    if (fake_spared)
        return 0;
    pthread_mutex_lock(&fake.lock);
    fails = ++fake.calls == fake.fail_at;
    if (fails)
        fake.failed = name;
    pthread_mutex_unlock(&fake.lock);
    return fails;
}

#define FAKE_CALL(name)                                                                            \
    do {                                                                                           \
        if (fake_fails(name))                                                                      \
            return 999;                                                                            \
    } while (0)

static void fake_count(enum fake_kind kind, long by)
{
    pthread_mutex_lock(&fake.lock);
    fake.live[kind] += by;
    pthread_mutex_unlock(&fake.lock);
}

static int fake_add(struct fake_object object)
{
    int put = 0;
    pthread_mutex_lock(&fake.lock);
    for (int i = 0; i < FAKE_TABLE && !put; i++)
        if (!fake.objects[i].address) {
            fake.objects[i] = object;
            put = 1;
        }
    fake.live[object.kind]++;
    pthread_mutex_unlock(&fake.lock);
    return put ? 0 : 2;
}

/* The object of a kind at an address; take: it is gone afterwards. 1: it was there. */
static int fake_find(enum fake_kind kind, uint64_t address, int take, struct fake_object *out)
{
    int found = 0;
    pthread_mutex_lock(&fake.lock);
    for (int i = 0; i < FAKE_TABLE && !found; i++) {
        struct fake_object *o = fake.objects + i;
        if (o->address != address || o->kind != kind)
            continue;
        *out = *o;
        found = 1;
        if (take) {
            o->address = 0;
            fake.live[kind]--;
        }
    }
    pthread_mutex_unlock(&fake.lock);
    return found;
}

/* --- 2. Devices and contexts ------------------------------------------------------------------ */

struct sy_cuda_context_ {
    int device;
    pthread_mutex_t lock;
    pthread_cond_t room;
    unsigned busy;                      /* multiprocessors; a block takes one         */
    struct sy_cpu_pool *idle[FAKE_SMS]; /* for as many launches as can run at a time */
};

static struct sy_cuda_context_ fake_contexts[FAKE_DEVICES];
static _Thread_local sy_cuda_context fake_stack[8];
static _Thread_local int fake_depth;

static int fake_cuInit(unsigned flags)
{
    (void)flags;
    FAKE_CALL("cuInit");
    return fake.devices ? 0 : SY_CU_NO_DEVICE;
}
static int fake_cuDriverGetVersion(int *version)
{
    FAKE_CALL("cuDriverGetVersion");
    *version = 13000;
    return 0;
}
static int fake_cuGetErrorName(int result, const char **name)
{
    *name = result == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_FAKE";
    return 0;
}
static int fake_cuGetErrorString(int result, const char **text)
{
    *text = result == 999 ? "made to fail" : "a fake error";
    return 0;
}
static int fake_cuDeviceGetCount(int *count)
{
    FAKE_CALL("cuDeviceGetCount");
    *count = fake.devices;
    return 0;
}
static int fake_cuDeviceGet(int *device, int ordinal)
{
    FAKE_CALL("cuDeviceGet");
    *device = ordinal;
    return ordinal < fake.devices ? 0 : 101;
}
static int fake_cuDeviceGetName(char *name, int bytes, int device)
{
    FAKE_CALL("cuDeviceGetName");
    snprintf(name, (size_t)bytes, "Fake GPU %d", device);
    return 0;
}
static int fake_cuDeviceGetAttribute(int *value, int attribute, int device)
{
    FAKE_CALL("cuDeviceGetAttribute");
    (void)device;
    switch (attribute) {
    case 13: /* the clock in kHz, for switchyard info */
        *value = 1980000;
        return 0;
    case SY_CU_ATTR_SMS:
        *value = FAKE_SMS;
        return 0;
    case SY_CU_ATTR_MAJOR:
        *value = fake.major;
        return 0;
    case SY_CU_ATTR_MINOR:
    case SY_CU_ATTR_FABRIC:
        *value = 0;
        return 0;
    case SY_CU_ATTR_SHARED_MAX:
        *value = FAKE_SHARED_MAX;
        return 0;
    case SY_CU_ATTR_POOLS:
        *value = !fake.no_pools;
        return 0;
    case SY_CU_ATTR_VMM:
    case SY_CU_ATTR_FD:
        *value = !fake.no_vmm;
        return 0;
    default:
        return 1;
    }
}
static int fake_cuDeviceGetUuid_v2(struct sy_cuda_uuid *uuid, int device)
{
    FAKE_CALL("cuDeviceGetUuid");
    memset(uuid, 0x40 + device, sizeof *uuid);
    return 0;
}
static int fake_cuDeviceCanAccessPeer(int *can, int device, int peer)
{
    FAKE_CALL("cuDeviceCanAccessPeer");
    *can = !fake.no_peers || device / 2 == peer / 2;
    return 0;
}
static int fake_cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active)
{
    FAKE_CALL("cuDevicePrimaryCtxGetState");
    (void)device;
    *flags = 0;
    *active = 1;
    return 0;
}
static int fake_cuDevicePrimaryCtxRetain(sy_cuda_context *context, int device)
{
    FAKE_CALL("cuDevicePrimaryCtxRetain");
    fake_count(FAKE_CONTEXT, 1);
    *context = fake_contexts + device;
    return 0;
}
static int fake_cuDevicePrimaryCtxRelease_v2(int device)
{
    (void)device;
    fake_count(FAKE_CONTEXT, -1);
    FAKE_CALL("cuDevicePrimaryCtxRelease");
    return 0;
}
static int fake_cuCtxGetCurrent(sy_cuda_context *context)
{
    FAKE_CALL("cuCtxGetCurrent");
    *context = fake_depth ? fake_stack[fake_depth - 1] : NULL;
    return 0;
}
static int fake_cuCtxPushCurrent_v2(sy_cuda_context context)
{
    FAKE_CALL("cuCtxPushCurrent");
    fake_stack[fake_depth++] = context;
    return 0;
}
static int fake_cuCtxPopCurrent_v2(sy_cuda_context *context)
{
    *context = fake_stack[--fake_depth];
    FAKE_CALL("cuCtxPopCurrent");
    return 0;
}
static int fake_cuCtxGetDevice(int *device)
{
    FAKE_CALL("cuCtxGetDevice");
    *device = fake_stack[fake_depth - 1]->device;
    return 0;
}
/* Most calls need a context; a call without one is a mistake of the library. */
static int fake_lost(void)
{
    return fake_depth ? 0 : 201;
}
static int fake_cuCtxSynchronize(void)
{
    FAKE_CALL("cuCtxSynchronize");
    pthread_mutex_lock(&fake.lock);
    fake.syncs++;
    pthread_mutex_unlock(&fake.lock);
    return fake_lost();
}
static int fake_cuCtxEnablePeerAccess(sy_cuda_context peer, unsigned flags)
{
    FAKE_CALL("cuCtxEnablePeerAccess");
    (void)peer;
    (void)flags;
    return SY_CU_PEER_ACCESS_ENABLED;
}

/* --- 3. Memory -------------------------------------------------------------------------------- */

static void *fake_map(void *at, size_t bytes, int fd)
{
    return mmap(at, bytes, fd < 0 ? PROT_NONE : PROT_READ | PROT_WRITE,
                (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED) | (at ? MAP_FIXED : 0), fd, 0);
}
static int fake_file(size_t bytes)
{
    int fd = memfd_create("fake-gpu", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)bytes))
        abort();
    return fd;
}
static int fake_cuMemAlloc_v2(sy_cuda_ptr *memory, size_t bytes)
{
    FAKE_CALL("cuMemAlloc");
    int fd = fake_file(bytes);
    void *p = fake_map(NULL, bytes, fd);
    if (fake_lost() || p == MAP_FAILED)
        abort();
    memset(p, 0xA5, bytes);
    *memory = (uintptr_t)p;
    return fake_add((struct fake_object){FAKE_MEMORY, *memory, bytes, fd, 0});
}
static int fake_cuMemFree_v2(sy_cuda_ptr memory)
{
    struct fake_object o;
    if (!fake_find(FAKE_MEMORY, memory, 1, &o))
        return 1;
    munmap((void *)(uintptr_t)memory, o.bytes);
    close(o.fd);
    FAKE_CALL("cuMemFree");
    return fake_lost();
}
static int fake_cuMemAllocAsync(sy_cuda_ptr *memory, size_t bytes, sy_cuda_stream s)
{
    return !s || fake.no_pools ? 400 : fake_cuMemAlloc_v2(memory, bytes);
}
static int fake_cuMemFreeAsync(sy_cuda_ptr memory, sy_cuda_stream s)
{
    return !s || fake.no_pools ? 400 : fake_cuMemFree_v2(memory);
}
static int fake_cuMemHostAlloc(void **memory, size_t bytes, unsigned flags)
{
    FAKE_CALL("cuMemHostAlloc");
    (void)flags;
    if (posix_memalign(memory, 4096, bytes))
        abort();
    memset(*memory, 0xA5, bytes);
    fake_count(FAKE_HOST, 1);
    return fake_lost();
}
static int fake_cuMemFreeHost(void *memory)
{
    free(memory);
    fake_count(FAKE_HOST, -1);
    FAKE_CALL("cuMemFreeHost");
    return 0;
}
static int fake_cuMemcpyHtoDAsync_v2(sy_cuda_ptr to, const void *from, size_t n, sy_cuda_stream s)
{
    FAKE_CALL("cuMemcpyHtoDAsync");
    if (!s)
        return 400;
    memcpy((void *)(uintptr_t)to, from, n);
    return fake_lost();
}
static int fake_cuMemcpyDtoHAsync_v2(void *to, sy_cuda_ptr from, size_t n, sy_cuda_stream s)
{
    FAKE_CALL("cuMemcpyDtoHAsync");
    if (!s)
        return 400;
    memcpy(to, (void *)(uintptr_t)from, n);
    return fake_lost();
}
static int fake_cuMemsetD8Async(sy_cuda_ptr to, unsigned char byte, size_t n, sy_cuda_stream s)
{
    FAKE_CALL("cuMemsetD8Async");
    if (!s)
        return 400;
    memset((void *)(uintptr_t)to, byte, n);
    return fake_lost();
}
static int fake_cuPointerGetAttribute(void *value, int attribute, sy_cuda_ptr memory)
{
    struct fake_object o;
    FAKE_CALL("cuPointerGetAttribute");
    if (!fake_find(FAKE_MEMORY, memory, 0, &o) && !fake_find(FAKE_IPC, memory, 0, &o))
        return 1;
    if (attribute == SY_CU_POINTER_CONTEXT)
        *(sy_cuda_context *)value = fake_contexts + 1;
    else
        *(uint64_t *)value = attribute == SY_CU_POINTER_RANGE_START ? o.address : o.bytes;
    return 0;
}

struct fake_ipc {
    pid_t process;
    int fd;
    uint64_t bytes;
};

static int fake_cuIpcGetMemHandle(struct sy_cuda_ipc *handle, sy_cuda_ptr memory)
{
    struct fake_object o;
    struct fake_ipc ipc;
    FAKE_CALL("cuIpcGetMemHandle");
    if (!fake_find(FAKE_MEMORY, memory, 0, &o))
        return 1;
    ipc = (struct fake_ipc){getpid(), o.fd, o.bytes};
    memset(handle, 0, sizeof *handle);
    memcpy(handle, &ipc, sizeof ipc);
    return 0;
}
static int fake_cuIpcOpenMemHandle_v2(sy_cuda_ptr *memory, struct sy_cuda_ipc handle,
                                      unsigned flags)
{
    struct fake_ipc ipc;
    char path[64];
    int fd;
    void *p;
    FAKE_CALL("cuIpcOpenMemHandle");
    (void)flags;
    memcpy(&ipc, &handle, sizeof ipc);
    if (ipc.process == getpid())
        return 201; /* as the real one */
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)ipc.process, ipc.fd);
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return 1;
    p = fake_map(NULL, ipc.bytes, fd);
    close(fd);
    *memory = (uintptr_t)p;
    return fake_add((struct fake_object){FAKE_IPC, *memory, ipc.bytes, -1, 0});
}
static int fake_cuIpcCloseMemHandle(sy_cuda_ptr memory)
{
    struct fake_object o;
    if (!fake_find(FAKE_IPC, memory, 1, &o))
        return 1;
    munmap((void *)(uintptr_t)memory, o.bytes);
    FAKE_CALL("cuIpcCloseMemHandle");
    return 0;
}
static int fake_cuMemGetAllocationGranularity(size_t *bytes, const struct sy_cuda_memory *prop,
                                              int option)
{
    FAKE_CALL("cuMemGetAllocationGranularity");
    (void)prop;
    (void)option;
    *bytes = 2u << 20;
    return 0;
}
static int fake_add_handle(sy_cuda_memory_handle *handle, int fd, size_t bytes)
{
    static uint64_t next = 0x1000;
    pthread_mutex_lock(&fake.lock);
    *handle = next++;
    pthread_mutex_unlock(&fake.lock);
    return fake_add((struct fake_object){FAKE_HANDLE, *handle, bytes, fd, 0});
}
static int fake_cuMemCreate(sy_cuda_memory_handle *handle, size_t bytes,
                            const struct sy_cuda_memory *prop, unsigned long long flags)
{
    FAKE_CALL("cuMemCreate");
    if (flags || prop->type != SY_CU_MEMORY_PINNED || bytes % (2u << 20))
        return 1;
    return fake_add_handle(handle, fake_file(bytes), bytes);
}
static int fake_cuMemRelease(sy_cuda_memory_handle handle)
{
    struct fake_object o;
    if (!fake_find(FAKE_HANDLE, handle, 1, &o))
        return 1;
    close(o.fd);
    FAKE_CALL("cuMemRelease");
    return 0;
}
static int fake_cuMemExportToShareableHandle(void *out, sy_cuda_memory_handle handle, int type,
                                             unsigned long long flags)
{
    struct fake_object o;
    FAKE_CALL("cuMemExportToShareableHandle");
    if (flags || type != SY_CU_HANDLE_FD || !fake_find(FAKE_HANDLE, handle, 0, &o))
        return 1;
    *(int *)out = dup(o.fd);
    return 0;
}
static int fake_cuMemImportFromShareableHandle(sy_cuda_memory_handle *handle, void *from, int type)
{
    struct stat info;
    FAKE_CALL("cuMemImportFromShareableHandle");
    if (type != SY_CU_HANDLE_FD || fstat((int)(intptr_t)from, &info))
        return 1;
    return fake_add_handle(handle, dup((int)(intptr_t)from), (size_t)info.st_size);
}
static int fake_cuMemGetAllocationPropertiesFromHandle(struct sy_cuda_memory *prop,
                                                       sy_cuda_memory_handle handle)
{
    struct fake_object o;
    FAKE_CALL("cuMemGetAllocationPropertiesFromHandle");
    prop->location.type = SY_CU_LOCATION_DEVICE;
    return fake_find(FAKE_HANDLE, handle, 0, &o) ? 0 : 1;
}
static int fake_cuMemAddressReserve(sy_cuda_ptr *at, size_t bytes, size_t align, sy_cuda_ptr wish,
                                    unsigned long long flags)
{
    FAKE_CALL("cuMemAddressReserve");
    if (align || wish || flags)
        return 1;
    *at = (uintptr_t)fake_map(NULL, bytes, -1);
    fake_count(FAKE_RANGE, 1);
    return 0;
}
static int fake_cuMemAddressFree(sy_cuda_ptr at, size_t bytes)
{
    munmap((void *)(uintptr_t)at, bytes);
    fake_count(FAKE_RANGE, -1);
    FAKE_CALL("cuMemAddressFree");
    return 0;
}
static int fake_cuMemMap(sy_cuda_ptr at, size_t bytes, size_t offset, sy_cuda_memory_handle handle,
                         unsigned long long flags)
{
    struct fake_object o;
    FAKE_CALL("cuMemMap");
    if (offset || flags || !fake_find(FAKE_HANDLE, handle, 0, &o) || bytes > o.bytes)
        return 1;
    fake_map((void *)(uintptr_t)at, bytes, o.fd);
    fake_count(FAKE_MAPPING, 1);
    return 0;
}
static int fake_cuMemUnmap(sy_cuda_ptr at, size_t bytes)
{
    fake_map((void *)(uintptr_t)at, bytes, -1);
    fake_count(FAKE_MAPPING, -1);
    FAKE_CALL("cuMemUnmap");
    return 0;
}
static int fake_cuMemSetAccess(sy_cuda_ptr at, size_t bytes, const struct sy_cuda_access *access,
                               size_t count)
{
    FAKE_CALL("cuMemSetAccess");
    (void)at;
    (void)bytes;
    return count == 1 && access->flags == SY_CU_ACCESS_READ_WRITE ? 0 : 1;
}

/* --- 4. Streams, events, graphs --------------------------------------------------------------- */

#define FAKE_NODES 64

struct fake_node {
    int kernel;
    struct sy_grid grid;
    union sy_any_args args;
};

struct sy_cuda_stream_ {
    unsigned flags;
    uint64_t capture; /* 0: none */
    int nodes;
    struct fake_node *graph; /* [FAKE_NODES] while capturing */
};

struct sy_cuda_event_ {
    unsigned flags;
    uint64_t time_ns, capture;
};

static int fake_cuStreamCreate(sy_cuda_stream *s, unsigned flags)
{
    FAKE_CALL("cuStreamCreate");
    *s = calloc(1, sizeof **s);
    (*s)->flags = flags;
    fake_count(FAKE_STREAM, 1);
    return fake_lost();
}
static int fake_cuStreamDestroy_v2(sy_cuda_stream s)
{
    free(s);
    fake_count(FAKE_STREAM, -1);
    FAKE_CALL("cuStreamDestroy");
    return 0;
}
static int fake_cuStreamSynchronize(sy_cuda_stream s)
{
    FAKE_CALL("cuStreamSynchronize");
    return s && !s->capture ? fake_lost() : 900;
}
static int fake_cuStreamQuery(sy_cuda_stream s)
{
    FAKE_CALL("cuStreamQuery");
    return s ? fake_lost() : 400;
}
static int fake_cuStreamWaitEvent(sy_cuda_stream s, sy_cuda_event event, unsigned flags)
{
    struct fake_object o;
    FAKE_CALL("cuStreamWaitEvent");
    if (!fake_find(FAKE_EVENT, (uintptr_t)event, 0, &o))
        return 400; /* it is gone */
    if (flags || event->capture != s->capture)
        return 905; /* between captures, or between a capture and the rest */
    pthread_mutex_lock(&fake.lock);
    fake.waits++;
    pthread_mutex_unlock(&fake.lock);
    return fake_lost();
}
static int fake_cuStreamGetCaptureInfo_v2(sy_cuda_stream s, int *status, uint64_t *id, void *graph,
                                          void *dependencies, size_t *count)
{
    FAKE_CALL("cuStreamGetCaptureInfo");
    if (graph || dependencies || count)
        return 1;
    *status = s->capture ? SY_CU_CAPTURE_ACTIVE : SY_CU_CAPTURE_NONE;
    *id = s->capture;
    return 0;
}
static int fake_cuThreadExchangeStreamCaptureMode(int *mode)
{
    static _Thread_local int now;
    int before = now;
    now = *mode;
    *mode = before;
    FAKE_CALL("cuThreadExchangeStreamCaptureMode");
    return 0;
}
static int fake_cuEventCreate(sy_cuda_event *event, unsigned flags)
{
    FAKE_CALL("cuEventCreate");
    *event = calloc(1, sizeof **event);
    (*event)->flags = flags;
    fake_add((struct fake_object){FAKE_EVENT, (uintptr_t)*event, 0, -1, 0});
    return fake_lost();
}
static int fake_cuEventDestroy_v2(sy_cuda_event event)
{
    struct fake_object o;
    if (!fake_find(FAKE_EVENT, (uintptr_t)event, 1, &o))
        return 400;
    free(event);
    FAKE_CALL("cuEventDestroy");
    return 0;
}
static int fake_cuEventRecord(sy_cuda_event event, sy_cuda_stream s)
{
    FAKE_CALL("cuEventRecord");
    event->time_ns = sy_os_real.now_ns();
    event->capture = s->capture;
    return fake_lost();
}
static int fake_cuEventSynchronize(sy_cuda_event event)
{
    FAKE_CALL("cuEventSynchronize");
    return event->capture ? 907 : fake_lost();
}
static int fake_cuEventQuery(sy_cuda_event event)
{
    FAKE_CALL("cuEventQuery");
    return event->capture ? 907 : fake_lost();
}
static int fake_cuEventElapsedTime(float *ms, sy_cuda_event begin, sy_cuda_event end)
{
    FAKE_CALL("cuEventElapsedTime");
    if ((begin->flags | end->flags) & SY_CU_EVENT_NO_TIMING)
        return 400;
    *ms = (float)((double)(end->time_ns - begin->time_ns) * 1e-6);
    return 0;
}

/* --- 5. Kernels ------------------------------------------------------------------------------- */

struct sy_cuda_function_ {
    int kernel;
};

struct sy_cuda_module_ {
    int kernel;
    struct sy_cuda_function_ function;
};

static const struct {
    const char *entry;
    size_t bytes;
} fake_kernels[SY_KERNELS] = {
#define SY_KERNEL(name, args) {"sy_entry_" #name, sizeof(args)},
#include "device/kernels.def"
#undef SY_KERNEL
};

static int fake_cuModuleLoadData(sy_cuda_module *module, const void *image)
{
    FAKE_CALL("cuModuleLoadData");
    const int real = !memcmp(image, "\177ELF", 4); /* of NVRTC: has whatever is asked for */
    const char *name = real ? NULL : strstr(image, "SY_ONLY ");
    if (!real && (memcmp(image, "FAKE", 4) || !name))
        return 200;
    *module = calloc(1, sizeof **module);
    fake_count(FAKE_MODULE, 1);
    __atomic_fetch_add(&fake.loads, 1, __ATOMIC_RELAXED);
    (*module)->kernel = -1;
    for (int i = 0; i < SY_KERNELS && name; i++) {
        size_t n = strlen(fake_kernels[i].entry) - strlen("sy_entry_");
        if (!strncmp(name + 8, fake_kernels[i].entry + strlen("sy_entry_"), n) &&
            name[8 + n] == '\n')
            (*module)->kernel = i;
    }
    return fake_lost();
}
static int fake_cuModuleUnload(sy_cuda_module module)
{
    free(module);
    fake_count(FAKE_MODULE, -1);
    FAKE_CALL("cuModuleUnload");
    return 0;
}
static int fake_cuModuleGetFunction(sy_cuda_function *f, sy_cuda_module module, const char *name)
{
    FAKE_CALL("cuModuleGetFunction");
    for (int i = 0; i < SY_KERNELS; i++)
        if (!strcmp(name, fake_kernels[i].entry) && (module->kernel < 0 || module->kernel == i)) {
            module->function.kernel = i;
            *f = &module->function;
            return 0;
        }
    return 500;
}
static int fake_cuFuncLoad(sy_cuda_function f)
{
    FAKE_CALL("cuFuncLoad");
    (void)f;
    return fake_lost();
}
static int fake_cuFuncSetAttribute(sy_cuda_function f, int attribute, int value)
{
    FAKE_CALL("cuFuncSetAttribute");
    (void)f;
    return attribute == SY_CU_FUNC_DYNAMIC_MAX && value == FAKE_SHARED_MAX - 128 ? 0 : 1;
}

/* Waits, as a GPU does, until there is room for all blocks. */
static struct sy_cpu_pool *fake_begin(sy_cuda_context context, unsigned blocks)
{
    struct sy_cpu_pool *pool = NULL;
    pthread_mutex_lock(&context->lock);
    while (context->busy + blocks > FAKE_SMS)
        pthread_cond_wait(&context->room, &context->lock);
    context->busy += blocks;
    for (int i = 0; i < FAKE_SMS && !pool; i++) {
        pool = context->idle[i];
        context->idle[i] = NULL;
    }
    pthread_mutex_unlock(&context->lock);
    if (!pool && sy_cpu_pool_open(&pool, FAKE_SMS, FAKE_SHARED_MAX, 2) != SY_OK)
        abort();
    return pool;
}
static void fake_end(sy_cuda_context context, unsigned blocks, struct sy_cpu_pool *pool)
{
    pthread_mutex_lock(&context->lock);
    context->busy -= blocks;
    for (int i = 0; i < FAKE_SMS && pool; i++)
        if (!context->idle[i]) {
            context->idle[i] = pool;
            pool = NULL;
        }
    pthread_cond_broadcast(&context->room);
    pthread_mutex_unlock(&context->lock);
    sy_cpu_pool_close(pool);
}

/* The CPU's kernels as they would run on a GPU. Their bulk loads leave bytes where they are, so
 * what travels beside rows is copied by lanes. */
static void fake_run(sy_cuda_context context, int kernel, struct sy_grid grid,
                     union sy_any_args args)
{
    const char *name;
    struct sy_cpu_job job = {sy_cpu_kernels_pick(&name)[kernel], &args, grid};
    struct sy_cpu_pool *pool = fake_begin(context, grid.blocks);
    if (kernel == SY_KERNEL_tdispatch && args.tdispatch.side_bulk) {
        args.tdispatch.side_bulk = 0;
        args.tdispatch.side_lanes = 1;
    }
    sy_cpu_pool_run(pool, &job);
    fake_end(context, grid.blocks, pool);
}

static int fake_cuLaunchKernel(sy_cuda_function f, unsigned gx, unsigned gy, unsigned gz,
                               unsigned bx, unsigned by, unsigned bz, unsigned shared,
                               sy_cuda_stream s, void **params, void **extra)
{
    struct sy_grid grid = {gx, bx / 32, shared};
    union sy_any_args args;
    FAKE_CALL("cuLaunchKernel");
    if (gy * gz * by * bz != 1 || bx % 32 || bx > 512 || gx > FAKE_SMS || extra || fake_lost())
        return 1;
    memset(&args, 0, sizeof args);
    memcpy(&args, params[0], fake_kernels[f->kernel].bytes);
    pthread_mutex_lock(&fake.lock);
    fake.launches++;
    fake.blocks_most = gx > fake.blocks_most ? gx : fake.blocks_most;
    pthread_mutex_unlock(&fake.lock);
    if (!s->capture)
        fake_run(fake_stack[fake_depth - 1], f->kernel, grid, args);
    else if (s->nodes < FAKE_NODES)
        s->graph[s->nodes++] = (struct fake_node){f->kernel, grid, args};
    return 0;
}

/* A capture of one stream and running what it caught. */
static FAKE_UNUSED void fake_capture_begin(sy_cuda_stream s)
{
    pthread_mutex_lock(&fake.lock);
    s->capture = ++fake.captures;
    pthread_mutex_unlock(&fake.lock);
    s->nodes = 0;
    s->graph = calloc(FAKE_NODES, sizeof *s->graph);
}
static FAKE_UNUSED void fake_capture_end(sy_cuda_stream s)
{
    s->capture = 0;
}
static FAKE_UNUSED void fake_replay(sy_cuda_stream s)
{
    for (int i = 0; i < s->nodes; i++)
        fake_run(fake_stack[fake_depth - 1], s->graph[i].kernel, s->graph[i].grid,
                 s->graph[i].args);
}

/* --- 6. The compiler -------------------------------------------------------------------------- */

struct fake_program {
    char *text;
};

static int fake_nvrtcVersion(int *major, int *minor)
{
    FAKE_CALL("nvrtcVersion");
    *major = 13;
    *minor = 0;
    return 0;
}
static const char *fake_nvrtcGetErrorString(int result)
{
    return result == 999 ? "made to fail" : "a fake error";
}
static int fake_nvrtcCreateProgram(void **p, const char *text, const char *name, int count,
                                   const char *const *headers, const char *const *names)
{
    struct fake_program *program;
    FAKE_CALL("nvrtcCreateProgram");
    (void)name;
    for (int i = 0; i < count; i++)
        if (!strlen(headers[i]) || !strlen(names[i]))
            return 1;
    program = calloc(1, sizeof *program);
    program->text = strdup(text);
    fake_count(FAKE_PROGRAM, 1);
    *p = program;
    return 0;
}
static int fake_nvrtcDestroyProgram(void **p)
{
    free(((struct fake_program *)*p)->text);
    free(*p);
    fake_count(FAKE_PROGRAM, -1);
    FAKE_CALL("nvrtcDestroyProgram");
    return 0;
}
static int fake_nvrtcCompileProgram(void *p, int count, const char *const *options)
{
    FAKE_CALL("nvrtcCompileProgram");
    (void)p;
    pthread_mutex_lock(&fake.lock);
    fake.compiled++;
    pthread_mutex_unlock(&fake.lock);
    sy_os_real.sleep_ns(fake.compile_ns);
    return count > 0 && !strncmp(options[0], "-arch=sm_", 9) ? 0 : 6;
}
static int fake_nvrtcGetProgramLogSize(void *p, size_t *bytes)
{
    FAKE_CALL("nvrtcGetProgramLogSize");
    (void)p;
    *bytes = 24;
    return 0;
}
static int fake_nvrtcGetProgramLog(void *p, char *log)
{
    FAKE_CALL("nvrtcGetProgramLog");
    (void)p;
    strcpy(log, "line 1: bad\nline 2: bad");
    return 0;
}
static int fake_nvrtcGetCUBINSize(void *p, size_t *bytes)
{
    FAKE_CALL("nvrtcGetCUBINSize");
    *bytes = strlen(((struct fake_program *)p)->text) + 5;
    return 0;
}
static int fake_nvrtcGetCUBIN(void *p, char *cubin)
{
    FAKE_CALL("nvrtcGetCUBIN");
    sprintf(cubin, "FAKE%s", ((struct fake_program *)p)->text);
    return 0;
}

/* --- 7. Putting it in place ------------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*at)(void); /* any function; who asks casts it back */
} fake_symbols[] = {
#define SY_CUDA(name, parameters) {#name, (void (*)(void))fake_##name},
#include "base/cuda_api.def"
#undef SY_CUDA
#define NVRTC(name)                                                                                \
    {                                                                                              \
#name, (void (*)(void))fake_##name                                                         \
    }
    NVRTC(nvrtcVersion),        NVRTC(nvrtcGetErrorString),
    NVRTC(nvrtcCreateProgram),  NVRTC(nvrtcDestroyProgram),
    NVRTC(nvrtcCompileProgram), NVRTC(nvrtcGetProgramLogSize),
    NVRTC(nvrtcGetProgramLog),  NVRTC(nvrtcGetCUBINSize),
    NVRTC(nvrtcGetCUBIN)
#undef NVRTC
};

#define FAKE_SYMBOLS (sizeof fake_symbols / sizeof *fake_symbols)

static void *fake_open_library(const char *name)
{
    if (!strcmp(name, "libcuda.so.1"))
        return fake.no_driver ? NULL : &fake;
    if (!strcmp(name, "libnvrtc.so.13"))
        return fake.no_compiler ? NULL : &fake;
    return NULL;
}
static void *fake_symbol(void *library, const char *name)
{
    (void)library;
    if (fake.no_symbol && !strcmp(fake.no_symbol, name))
        return NULL;
    for (size_t i = 0; i < FAKE_SYMBOLS; i++)
        if (!strcmp(fake_symbols[i].name, name)) {
            void *at;
            memcpy(&at, &fake_symbols[i].at, sizeof at);
            return at;
        }
    return NULL;
}
static void fake_close_library(void *library)
{
    (void)library;
}

static struct sy_os fake_os;

/* From here on the process has the fake driver; again: it is looked for anew. */
static FAKE_UNUSED void fake_install(void)
{
    static int installed;
    fake_os = sy_os_real;
    fake_os.open_library = fake_open_library;
    fake_os.symbol = fake_symbol;
    fake_os.close_library = fake_close_library;
    sy_os = &fake_os;
    for (int i = 0; i < FAKE_DEVICES && !installed; i++) {
        fake_contexts[i].device = i;
        pthread_mutex_init(&fake_contexts[i].lock, NULL);
        pthread_cond_init(&fake_contexts[i].room, NULL);
    }
    installed = 1;
    sy_cuda_forget();
    sy_nvrtc_forget();
}

/* What has not been given back, by name, or NULL. */
static FAKE_UNUSED const char *fake_leak(void)
{
    for (int i = 0; i < FAKE_KINDS; i++)
        if (fake.live[i])
            return fake_kinds[i];
    return NULL;
}

static FAKE_UNUSED void fake_close_pools(void)
{
    for (int i = 0; i < FAKE_DEVICES * FAKE_SMS; i++) {
        struct sy_cpu_pool **pool = fake_contexts[i / FAKE_SMS].idle + i % FAKE_SMS;
        sy_cpu_pool_close(*pool);
        *pool = NULL;
    }
}

#endif
