/* kernels.c - device code for the simulator. Compiled with -fsanitize=thread; behind it stands
 * shadow.c. */
#include "device/kernels.h"

#include "engine.h"

#define SY_KERNEL(name, args_type)                                                                 \
    static void run_##name(struct sy_ctx *c, const void *args)                                     \
    {                                                                                              \
        sy_k_##name(c, (const args_type *)args);                                                   \
    }
#include "device/kernels.def"
#undef SY_KERNEL

const sim_kernel sim_kernels[SY_KERNELS] = {
#define SY_KERNEL(name, args_type) [SY_KERNEL_##name] = run_##name,
#include "device/kernels.def"
#undef SY_KERNEL
};
