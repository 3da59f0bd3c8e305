/* cpu_kernels.c - device code for the CPU engine. Compiled once per instruction set, SY_KERNELS_FOR
 * names which; the results are the same bits. */
#include "device/kernels.h"

#include "cpu_kernels.h"

#define PASTE2(a, b) a##b
#define PASTE(a, b) PASTE2(a, b)

#define SY_KERNEL(name, args_type)                                                                 \
    static void run_##name(struct sy_ctx *c, const void *args)                                     \
    {                                                                                              \
        sy_k_##name(c, (const args_type *)args);                                                   \
    }
#include "device/kernels.def"
#undef SY_KERNEL

const sy_cpu_kernel PASTE(sy_cpu_kernels_, SY_KERNELS_FOR)[SY_KERNELS] = {
#define SY_KERNEL(name, args_type) [SY_KERNEL_##name] = run_##name,
#include "device/kernels.def"
#undef SY_KERNEL
};
