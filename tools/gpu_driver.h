/* gpu_driver.h - the CUDA driver as this command uses it, beside the library: found at run time, so
 * nothing of CUDA is needed to build. */
#ifndef SY_TOOLS_GPU_DRIVER_H
#define SY_TOOLS_GPU_DRIVER_H

#include <stddef.h>
#include <stdint.h>

typedef uint64_t gpu_memory;
typedef struct gpu_context_ *gpu_context;
typedef struct gpu_stream_ *gpu_stream;
typedef struct gpu_event_ *gpu_event;
typedef struct gpu_graph_ *gpu_graph;
typedef struct gpu_graph_exec_ *gpu_graph_exec;

struct gpu_uuid {
    uint8_t bytes[16];
};

/* The driver's constants. */
enum {
    GPU_ATTR_CLOCK_KHZ = 13,
    GPU_ATTR_SMS = 16,
    GPU_ATTR_MEMORY_KHZ = 36,
    GPU_ATTR_MEMORY_BITS = 37,
    GPU_ATTR_L2_BYTES = 38,
    GPU_ATTR_MAJOR = 75,
    GPU_ATTR_MINOR = 76,
    GPU_ATTR_VMM = 102,
    GPU_ATTR_FD = 103,
    GPU_ATTR_FABRIC = 128,

    GPU_P2P_RANK = 1, /* performance: 0 is best */
    GPU_P2P_ACCESS = 2,
    GPU_P2P_ATOMICS = 3,

    GPU_STREAM_NON_BLOCKING = 1,
    GPU_CAPTURE_RELAXED = 2
};

/* GPU(name of the symbol, parameters) */
#define GPU_CALLS                                                                                  \
    GPU(cuInit, (unsigned flags))                                                                  \
    GPU(cuDriverGetVersion, (int *version))                                                        \
    GPU(cuGetErrorString, (int result, const char **text))                                         \
    GPU(cuDeviceGetCount, (int *count))                                                            \
    GPU(cuDeviceGet, (int *device, int ordinal))                                                   \
    GPU(cuDeviceGetName, (char *name, int bytes, int device))                                      \
    GPU(cuDeviceGetUuid_v2, (struct gpu_uuid * uuid, int device))                                  \
    GPU(cuDeviceGetPCIBusId, (char *text, int bytes, int device))                                  \
    GPU(cuDeviceGetAttribute, (int *value, int attribute, int device))                             \
    GPU(cuDeviceGetP2PAttribute, (int *value, int attribute, int device, int peer))                \
    GPU(cuDeviceTotalMem_v2, (size_t * bytes, int device))                                         \
    GPU(cuDevicePrimaryCtxRetain, (gpu_context * context, int device))                             \
    GPU(cuDevicePrimaryCtxRelease_v2, (int device))                                                \
    GPU(cuCtxSetCurrent, (gpu_context context))                                                    \
    GPU(cuMemGetInfo_v2, (size_t * free, size_t * total))                                          \
    GPU(cuMemAlloc_v2, (gpu_memory * memory, size_t bytes))                                        \
    GPU(cuMemFree_v2, (gpu_memory memory))                                                         \
    GPU(cuMemcpyHtoDAsync_v2, (gpu_memory to, const void *from, size_t bytes, gpu_stream s))       \
    GPU(cuMemcpyDtoHAsync_v2, (void *to, gpu_memory from, size_t bytes, gpu_stream s))             \
    GPU(cuMemcpyDtoDAsync_v2, (gpu_memory to, gpu_memory from, size_t bytes, gpu_stream s))        \
    GPU(cuMemsetD8Async, (gpu_memory to, unsigned char byte, size_t bytes, gpu_stream s))          \
    GPU(cuStreamCreate, (gpu_stream * s, unsigned flags))                                          \
    GPU(cuStreamDestroy_v2, (gpu_stream s))                                                        \
    GPU(cuStreamSynchronize, (gpu_stream s))                                                       \
    GPU(cuStreamBeginCapture_v2, (gpu_stream s, int mode))                                         \
    GPU(cuStreamEndCapture, (gpu_stream s, gpu_graph * graph))                                     \
    GPU(cuGraphInstantiateWithFlags,                                                               \
        (gpu_graph_exec * exec, gpu_graph graph, unsigned long long flags))                        \
    GPU(cuGraphLaunch, (gpu_graph_exec exec, gpu_stream s))                                        \
    GPU(cuGraphExecDestroy, (gpu_graph_exec exec))                                                 \
    GPU(cuGraphDestroy, (gpu_graph graph))                                                         \
    GPU(cuEventCreate, (gpu_event * event, unsigned flags))                                        \
    GPU(cuEventDestroy_v2, (gpu_event event))                                                      \
    GPU(cuEventRecord, (gpu_event event, gpu_stream s))                                            \
    GPU(cuEventElapsedTime, (float *ms, gpu_event begin, gpu_event end))

struct gpu_driver {
#define GPU(name, parameters) int(*name) parameters;
    GPU_CALLS
#undef GPU
};

/* The driver, started; NULL: there is none, and *why says what is missing. */
const struct gpu_driver *gpu_driver_open(const char **why);

/* The driver's words for a result that is not 0. */
const char *gpu_driver_text(const struct gpu_driver *driver, int result);

/* The file that a library of this name was loaded from into this process, or 0. */
int gpu_library_file(const char *name, char *path, size_t bytes);

#endif
