/* cpu_engine.h - the CPU engine's inside: cpu_streams.c and cpu_warps.c share it. */
#ifndef SY_RT_CPU_ENGINE_H
#define SY_RT_CPU_ENGINE_H

#include <pthread.h>

#include "base/maxima.h"
#include "base/os.h"
#include "cpu_kernels.h"
#include "fiber.h"
#include "rt.h"

#define SY_CPU_WARPS_MAX 16
#define SY_STREAM_DEPTH 256 /* items on their way; then the caller waits */

/* The largest arguments of a kernel. */
union sy_any_args {
#define SY_KERNEL(name, args) args name;
#include "device/kernels.def"
#undef SY_KERNEL
};

/* --- warps (cpu_warps.c) -------------------------------------------------------------------- */

struct sy_cpu_job {
    sy_cpu_kernel kernel;
    const void *args;
    struct sy_grid grid;
};

/* All threads of an engine. Thread 0 is whichever stream's thread runs the launch. */
struct sy_cpu_pool;

sy_status sy_cpu_pool_open(struct sy_cpu_pool **pool, int32_t threads, uint64_t shared_bytes,
                           int64_t idle_spins);
void sy_cpu_pool_close(struct sy_cpu_pool *pool);

/* Runs all blocks of a launch and returns when they are through. One call at a time. */
void sy_cpu_pool_run(struct sy_cpu_pool *pool, const struct sy_cpu_job *job);

#endif
