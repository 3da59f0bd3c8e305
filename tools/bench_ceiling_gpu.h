/* bench_ceiling_gpu.h - what the GPUs and the links between them can do at most. */
#ifndef SY_TOOLS_BENCH_CEILING_GPU_H
#define SY_TOOLS_BENCH_CEILING_GPU_H

#include "bench.h"
#include "bench_engine.h"
#include "bench_world.h"

enum { GPU_CEILINGS_MAX = 32 };

/* Fills in n of them; the best of the stores, paced or not, is *stores, or 0 with one rank.
 * Collective; every rank gets the same numbers. */
int gpu_ceilings_measure(struct world *w, struct engine *e,
                         struct bench_ceiling out[GPU_CEILINGS_MAX], int *n, double *stores);

#endif
