/* bench_ceiling.h - what bare copies reach on the CPU. */
#ifndef SY_TOOLS_BENCH_CEILING_H
#define SY_TOOLS_BENCH_CEILING_H

#include "bench.h"
#include "bench_world.h"

/* Measures `copy` and `copy_one` for the batch with rows of row_bytes, a multiple of 16.
 * Collective; every rank gets the same numbers. */
int ceiling_measure(struct world *w, const struct batch *b, const struct traffic *t,
                    int64_t row_bytes, struct bench_ceiling out[2]);

#endif
