/* cuda_api.h - the seam to the CUDA driver: found at run time, no CUDA header or library needed.
 *
 *   sy_cuda_load()   the driver's entry points, or why there are none
 *   SY_CU()          one call of the driver, its error turned into a status and a text
 *   sy_gpu_...       the GPU and context of one rank, made current around calls
 *
 * Nothing is loaded before somebody asks for a GPU. Tests replace the driver by replacing
 * sy_os->open_library and sy_os->symbol. The types are the driver's own under our names. */
#ifndef SY_BASE_CUDA_API_H
#define SY_BASE_CUDA_API_H

#include <stddef.h>
#include <stdint.h>

#include "status.h"

typedef uint64_t sy_cuda_ptr;
typedef uint64_t sy_cuda_memory_handle;
typedef struct sy_cuda_context_ *sy_cuda_context;
typedef struct sy_cuda_module_ *sy_cuda_module;
typedef struct sy_cuda_function_ *sy_cuda_function;
typedef struct sy_cuda_stream_ *sy_cuda_stream;
typedef struct sy_cuda_event_ *sy_cuda_event;

struct sy_cuda_uuid {
    uint8_t bytes[16];
};

struct sy_cuda_ipc {
    uint8_t bytes[64];
};

struct sy_cuda_location {
    int32_t type, id;
};

/* CUmemAllocationProp */
struct sy_cuda_memory {
    int32_t type, handles;
    struct sy_cuda_location location;
    void *windows;
    uint8_t compression, rdma;
    uint16_t usage;
    uint8_t reserved[4];
};

/* CUmemAccessDesc */
struct sy_cuda_access {
    struct sy_cuda_location location;
    int32_t flags;
};

/* The driver's constants that the library uses. */
enum {
    SY_CU_SUCCESS = 0,
    SY_CU_OUT_OF_MEMORY = 2,
    SY_CU_NO_DEVICE = 100,
    SY_CU_PEER_ACCESS_UNSUPPORTED = 217,
    SY_CU_INVALID_HANDLE = 400,
    SY_CU_NOT_READY = 600,
    SY_CU_PEER_ACCESS_ENABLED = 704,
    SY_CU_NOT_PERMITTED = 800,
    SY_CU_NOT_SUPPORTED = 801,

    SY_CU_ATTR_SMS = 16,
    SY_CU_ATTR_MAJOR = 75,
    SY_CU_ATTR_MINOR = 76,
    SY_CU_ATTR_SHARED_MAX = 97,
    SY_CU_ATTR_VMM = 102,
    SY_CU_ATTR_FD = 103,
    SY_CU_ATTR_POOLS = 115,
    SY_CU_ATTR_FABRIC = 128,

    SY_CU_FUNC_DYNAMIC_MAX = 8,

    SY_CU_HANDLE_FD = 1,
    SY_CU_HANDLE_FABRIC = 8,
    SY_CU_LOCATION_DEVICE = 1,
    SY_CU_MEMORY_PINNED = 1,
    SY_CU_ACCESS_READ_WRITE = 3,
    SY_CU_HOST_PORTABLE_MAPPED = 3,
    SY_CU_IPC_LAZY_PEER = 1,
    SY_CU_POINTER_CONTEXT = 1,
    SY_CU_POINTER_RANGE_START = 11,
    SY_CU_POINTER_RANGE_BYTES = 12,

    SY_CU_STREAM_DEFAULT = 0,
    SY_CU_STREAM_NON_BLOCKING = 1,
    SY_CU_EVENT_DEFAULT = 0,
    SY_CU_EVENT_NO_TIMING = 2,
    SY_CU_CAPTURE_NONE = 0,
    SY_CU_CAPTURE_ACTIVE = 1,
    SY_CU_CAPTURE_RELAXED = 2
};

struct sy_cuda_api {
#define SY_CUDA(name, parameters) int(*name) parameters;
#include "cuda_api.def"
#undef SY_CUDA
};

/* The driver, initialised; the same for the life of the process. SY_UNSUPPORTED says what is
 * missing. From any thread. */
sy_status sy_cuda_load(const struct sy_cuda_api **api);

/* For tests: the next sy_cuda_load() looks again. */
void sy_cuda_forget(void);

/* The status of a call that gave `result`, with the driver's words for it as the last error. */
sy_status sy_cuda_result(const struct sy_cuda_api *api, int result, const char *call);

/* SY_CU(api, cuMemFree_v2, memory): calls it and turns its result into a status. */
#define SY_CU(api, call, ...) sy_cuda_result((api), (api)->call(__VA_ARGS__), #call)

/* --- the GPU of a rank ------------------------------------------------------------------------ */

/* Compute capability of the oldest GPUs whose instructions the kernels use. */
#define SY_CUDA_MAJOR_LEAST 8

struct sy_gpu {
    const struct sy_cuda_api *api;
    int device; /* ordinal in this process */
    sy_cuda_context context;
    int retained; /* the primary context, held by us */
};

/* Which GPU a rank uses: that of the calling thread's current context; without one, GPU number
 * `rank` of those that this process sees, counted round. */
sy_status sy_gpu_choose(const struct sy_cuda_api *api, int32_t rank, int *device);

/* The same with its context: the thread's current one, or the GPU's primary context. */
sy_status sy_gpu_open(struct sy_gpu *gpu, int32_t rank);
void sy_gpu_close(struct sy_gpu *gpu);

/* Makes the context current for this thread until sy_gpu_leave(). *pushed: for leave. */
sy_status sy_gpu_enter(const struct sy_gpu *gpu, int *pushed);
void sy_gpu_leave(const struct sy_gpu *gpu, int pushed);

#endif
