/* cu.h - just enough of the CUDA driver and of NVRTC for the programs of this folder, found at run
 * time. Every call is checked; a failure ends the program with its name and reason. */
#ifndef SY_TESTS_GPU_CU_H
#define SY_TESTS_GPU_CU_H

#include <stddef.h>
#include <stdint.h>

typedef int CUdevice;
typedef uint64_t CUdeviceptr;
typedef struct CUctx_st *CUcontext;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef struct CUstream_st *CUstream;
typedef struct CUevent_st *CUevent;
typedef struct CUgraph_st *CUgraph;
typedef struct CUgraphExec_st *CUgraphExec;

/* CU(name of the symbol, parameters) */
#define CU_CALLS                                                                                   \
    CU(cuInit, (unsigned))                                                                         \
    CU(cuDeviceGetCount, (int *))                                                                  \
    CU(cuDeviceGet, (CUdevice *, int))                                                             \
    CU(cuDeviceGetName, (char *, int, CUdevice))                                                   \
    CU(cuDeviceGetAttribute, (int *, int, CUdevice))                                               \
    CU(cuDevicePrimaryCtxRetain, (CUcontext *, CUdevice))                                          \
    CU(cuCtxSetCurrent, (CUcontext))                                                               \
    CU(cuCtxSynchronize, (void))                                                                   \
    CU(cuCtxEnablePeerAccess, (CUcontext, unsigned))                                               \
    CU(cuMemAlloc_v2, (CUdeviceptr *, size_t))                                                     \
    CU(cuMemFree_v2, (CUdeviceptr))                                                                \
    CU(cuMemAllocAsync, (CUdeviceptr *, size_t, CUstream))                                         \
    CU(cuMemFreeAsync, (CUdeviceptr, CUstream))                                                    \
    CU(cuMemcpyHtoD_v2, (CUdeviceptr, const void *, size_t))                                       \
    CU(cuMemcpyHtoDAsync_v2, (CUdeviceptr, const void *, size_t, CUstream))                        \
    CU(cuMemcpyDtoHAsync_v2, (void *, CUdeviceptr, size_t, CUstream))                              \
    CU(cuMemGetInfo_v2, (size_t *, size_t *))                                                      \
    CU(cuMemcpyDtoH_v2, (void *, CUdeviceptr, size_t))                                             \
    CU(cuMemsetD8_v2, (CUdeviceptr, unsigned char, size_t))                                        \
    CU(cuModuleLoadData, (CUmodule *, const void *))                                               \
    CU(cuModuleGetGlobal_v2, (CUdeviceptr *, size_t *, CUmodule, const char *))                    \
    CU(cuModuleGetFunction, (CUfunction *, CUmodule, const char *))                                \
    CU(cuFuncSetAttribute, (CUfunction, int, int))                                                 \
    CU(cuLaunchKernel, (CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,    \
                        unsigned, CUstream, void **, void **))                                     \
    CU(cuStreamCreate, (CUstream *, unsigned))                                                     \
    CU(cuStreamDestroy_v2, (CUstream))                                                             \
    CU(cuStreamSynchronize, (CUstream))                                                            \
    CU(cuEventCreate, (CUevent *, unsigned))                                                       \
    CU(cuEventRecord, (CUevent, CUstream))                                                         \
    CU(cuStreamWaitEvent, (CUstream, CUevent, unsigned))                                           \
    CU(cuEventElapsedTime, (float *, CUevent, CUevent))                                            \
    CU(cuStreamBeginCapture_v2, (CUstream, int))                                                   \
    CU(cuStreamEndCapture, (CUstream, CUgraph *))                                                  \
    CU(cuGraphInstantiateWithFlags, (CUgraphExec *, CUgraph, unsigned long long))                  \
    CU(cuGraphLaunch, (CUgraphExec, CUstream))                                                     \
    CU(cuGraphExecDestroy, (CUgraphExec))                                                          \
    CU(cuGraphDestroy, (CUgraph))                                                                  \
    CU(cuGetErrorString, (int, const char **))

struct cu {
#define CU(name, parameters) int(*name) parameters;
    CU_CALLS
#undef CU
};

extern struct cu cu;

void cu_check(int result, const char *call, const char *file, int line);
#define CU_OK(call) cu_check(cu.call, #call, __FILE__, __LINE__)

/* Loads the driver. 0: there is none, and *why says so. */
int cu_open(const char **why);

/* Compiles src/device for compute capability `sm` with these definitions; returns a cubin. */
void *cu_compile(const char *root, int sm, const char *const *defines, int count);

#endif
