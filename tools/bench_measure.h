/* bench_measure.h - one case: its group and buffers, run and timed. */
#ifndef SY_TOOLS_BENCH_MEASURE_H
#define SY_TOOLS_BENCH_MEASURE_H

#include "bench.h"
#include "bench_world.h"

/* A rank's side of a case. */
struct bed {
    const struct bench_options *o;
    const struct bench_case *c;
    struct world *w;
    struct batch b;
    const struct traffic *t;
    int64_t rows; /* that this rank has room for */
    int64_t tokens, locals;

    sy_group *group;
    sy_route *route;

    int64_t *ids;       /* [T, K]                                                             */
    float *weights;     /* [T, K]                                                             */
    uint8_t *x;         /* [T, H]                                                             */
    uint32_t *x_scales; /* [T, S]; NULL: none travel                                          */

    uint8_t *rows_own;    /* what out_x points to; NULL: a view                               */
    uint32_t *out_scales; /* NULL: none                                                       */
    float *out_weights;   /* by token [rows, K], by expert [rows]; NULL: --bare                */
    int32_t *out_ids;     /* by token [rows, K]; NULL: by expert, or --bare                    */
    uint8_t *sum_own;     /* rows to sum that were not dispatched; NULL: the dispatched ones  */
    uint8_t *out;         /* [T, H] of the sum                                                */

    sy_tensor view; /* of the last dispatch */
    sy_route_input input;
    sy_dispatch_args dispatch;
    sy_combine_args combine;
};

int bed_open(struct bed *bed);
/* Also after a bed_open() that failed, and after a group that failed. */
void bed_close(struct bed *bed);

/* One operation each, until it has run. In latency mode the dispatch sets the route. */
int bed_route(struct bed *bed);
int bed_dispatch(struct bed *bed);
int bed_combine(struct bed *bed);

/* Where the dispatched rows of the last dispatch are. */
uint8_t *bed_rows(const struct bed *bed);
/* And the rows that combine sums. */
uint8_t *bed_sum_rows(const struct bed *bed);

enum { VERDICT_TEXT = 240 };

/* The whole measurement of a case whose room is set: one result per operation, *n of them, and
 * what was wrong first with what the library gave, or nothing. Collective; complete on rank 0. */
int bench_measure(struct world *w, const struct bench_options *o, const struct bench_case *c,
                  const struct traffic *t, struct bench_result results[BENCH_OPS], int *n,
                  char wrong[VERDICT_TEXT]);

#endif
