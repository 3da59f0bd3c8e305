/* entry_cuda.h - the kernels' entry points for NVRTC and nvcc. SY_ONLY_<name> leaves out the
 * others. */
#ifndef SY_DEVICE_ENTRY_CUDA_H
#define SY_DEVICE_ENTRY_CUDA_H

#define SY_TARGET_CUDA 1
#include "kernels.h"

#ifndef SY_THREADS_MAX
#define SY_THREADS_MAX 512
#endif

extern __shared__ __align__(1024) sy_u8 sy_shared_memory[];

#define SY_KERNEL(name, args)                                                                      \
    extern "C" __global__ void __launch_bounds__(SY_THREADS_MAX, 1)                                \
        sy_entry_##name(const __grid_constant__ args a)                                            \
    {                                                                                              \
        struct sy_ctx c = sy_ctx_make(sy_shared_memory);                                           \
        sy_k_##name(&c, &a);                                                                       \
    }
#include "kernels.def"
#undef SY_KERNEL

#endif
