/* rounds.h - small batches whose results are known without a reference: every expert hands back
 * what it got, so a token's result is its row times the number of ranks that it went to.
 *
 * For tests of what surrounds an operation (streams, graphs, long runs, deaths). All numbers are
 * small whole ones, so sums are exact. */
#ifndef SY_TESTS_ROUNDS_H
#define SY_TESTS_ROUNDS_H

#include "run_case.h"
#include "switchyard.h"

/* One route and its buffers, on one rank. */
struct rounds {
    /* Filled in by the caller: */
    const struct run_engine *engine; /* NULL: the host's memory will do                  */
    sy_group *group;
    int rank, ranks;
    int mode, layout; /* throughput with any layout, latency with SY_RANK_MAJOR  */
    int topk, experts, hidden;
    int64_t tokens_max;
    int sms;  /* of each call; 0: the group's */
    int bf16; /* rows of BF16 instead of F32  */
    int side; /* layouts by token: weights go along, and ids come with the rows */

    sy_route *route;
    int64_t tokens; /* of the batch that was filled in                         */
    int32_t *ids;   /* in the engine's memory, like the next two               */
    void *x, *out;
    float *weights; /* side, like the next two */
    float *out_weights;
    int32_t *out_ids;
    int32_t *host_ids; /* what was filled in                                      */
    float *host_rows;
};

/* 0, or *text says what went wrong. close waits for the route's work. */
int rounds_open(struct rounds *r, char text[512]);
void rounds_close(struct rounds *r);

/* Puts batch n into the engine's memory. tokens: T; the same n and tokens give the same batch. */
void rounds_fill(struct rounds *r, uint64_t n, int64_t tokens);

/* The three steps of a batch: routes, dispatches to a view, combines the view. */
sy_status rounds_route(struct rounds *r, sy_stream *stream);
sy_status rounds_dispatch(struct rounds *r, sy_tensor *view, sy_stream *stream);
sy_status rounds_combine(struct rounds *r, const sy_tensor *view, sy_stream *stream);
sy_status rounds_run(struct rounds *r, sy_stream *stream); /* all of them */

/* After the work is over: 0 if the result is that of the batch that was filled in. */
int rounds_check(struct rounds *r, char text[512]);

#endif
