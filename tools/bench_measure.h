/* bench_measure.h - one case on all ranks: run, timed and compared. */
#ifndef SY_TOOLS_BENCH_MEASURE_H
#define SY_TOOLS_BENCH_MEASURE_H

#include "bench_bed.h"

enum { VERDICT_TEXT = 240 };

/* What a case has given. */
struct measured {
    struct bench_result results[BENCH_OPS]; /* n of them                                      */
    int n;
    sy_group_sizes sizes;     /* of the group that operations ran in; zero: there was none    */
    double *us;               /* [rank][op][time]; owned                                      */
    char wrong[VERDICT_TEXT]; /* what was wrong first with what the library gave, or nothing  */
};

/* The whole measurement of a case whose room is set. Collective; complete on rank 0. */
int bench_measure(struct world *w, struct engine *e, const struct bench_options *o,
                  const struct bench_case *c, const struct traffic *t, struct measured *m);
void bench_measured_free(struct measured *m);

#endif
