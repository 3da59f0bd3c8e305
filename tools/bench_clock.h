/* bench_clock.h - the times of a case's operations on this rank; what each means stands in the help
 * of the command. */
#ifndef SY_TOOLS_BENCH_CLOCK_H
#define SY_TOOLS_BENCH_CLOCK_H

#include "bench_bed.h"

/* Microseconds, on average over the iterations; 0: not taken. */
struct clocks {
    double us[BENCH_OPS][BENCH_TIMES];
};

/* All that run on a stream, of an open bed. Collective, as the others. */
int clock_operations(struct bed *bed, struct clocks *k);

/* Making groups. bed: with nothing open in it. */
int clock_create(struct bed *bed, struct clocks *k);
int clock_setup(struct bed *bed, struct clocks *k);

/* How often those are done, warm-up first. */
void clock_makings(const struct bench_options *o, const struct bench_case *c, int32_t *warmup,
                   int32_t *iters);

#endif
