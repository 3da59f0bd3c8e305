/* bench_bed.h - one case on one rank: its group and buffers, and its operations. */
#ifndef SY_TOOLS_BENCH_BED_H
#define SY_TOOLS_BENCH_BED_H

#include "bench.h"
#include "bench_engine.h"
#include "bench_world.h"

/* A rank's side of a case. Buffers are memory of the engine. */
struct bed {
    const struct bench_options *o;
    const struct bench_case *c;
    struct world *w;
    struct engine *e;
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
    uint8_t *flags;       /* on GPUs: for bare signals (api/probe.h), in the heap             */

    sy_tensor view; /* of the last dispatch */
    sy_route_input input;
    sy_dispatch_args dispatch;
    sy_combine_args combine;
};

/* In this order, or bed_open() for all of it; bed_close() after any of them, also if it failed, and
 * after a group that failed. */
int bed_make_inputs(struct bed *bed);
int bed_make_group(struct bed *bed);
int bed_make_outputs(struct bed *bed);
int bed_open(struct bed *bed);
void bed_close(struct bed *bed);

/* The configuration of the case's group. */
void bed_config(const struct bed *bed, sy_group_config *config);

/* Puts an operation, or with --halves one of its halves, on the engine's stream. In latency mode
 * the dispatch sets the route. */
int bed_put(struct bed *bed, int op);
/* Until the stream is empty. */
int bed_wait(struct bed *bed, int op);
/* Both, and both halves. */
int bed_do(struct bed *bed, int op);

/* Where the dispatched rows of the last dispatch are. */
uint8_t *bed_rows(const struct bed *bed);
/* And the rows that combine sums. */
uint8_t *bed_sum_rows(const struct bed *bed);

#endif
