/* entry_cuda.h - the kernels' entry points for NVRTC and nvcc: all of them, or the one
 * that SY_ONLY and SY_ONLY_ARGS name. */
#ifndef SY_DEVICE_ENTRY_CUDA_H
#define SY_DEVICE_ENTRY_CUDA_H

#define SY_TARGET_CUDA 1
#include "kernels.h"

#ifndef SY_THREADS_MAX
#define SY_THREADS_MAX 512
#endif

extern __shared__ __align__(SY_SH_ALIGN) sy_u8 sy_shared_memory[];

#define SY_KERNEL(name, args)                                                                      \
    extern "C" __global__ void __launch_bounds__(SY_THREADS_MAX, 1)                                \
        sy_entry_##name(const __grid_constant__ args a)                                            \
    {                                                                                              \
        struct sy_ctx c = sy_ctx_make(sy_shared_memory);                                           \
        sy_k_##name(&c, &a);                                                                       \
    }
#define SY_KERNEL_(name, args) SY_KERNEL(name, args)
#ifdef SY_ONLY
SY_KERNEL_(SY_ONLY, SY_ONLY_ARGS)
#else
#include "kernels.def"
#endif
#undef SY_KERNEL_
#undef SY_KERNEL

#endif
