/* cpu_kernels.h - the kernels as gcc compiled them: a table per instruction set. */
#ifndef SY_RT_CPU_KERNELS_H
#define SY_RT_CPU_KERNELS_H

#include "rt.h"

struct sy_ctx;
typedef void (*sy_cpu_kernel)(struct sy_ctx *c, const void *args);

extern const sy_cpu_kernel sy_cpu_kernels_base[SY_KERNELS];
#if defined(__x86_64__)
extern const sy_cpu_kernel sy_cpu_kernels_avx2[SY_KERNELS];
#endif

/* The table for this processor; *name says which. */
const sy_cpu_kernel *sy_cpu_kernels_pick(const char **name);

#endif
