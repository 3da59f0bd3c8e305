/* bench.h - what `switchyard bench` is asked for, what it measures one by one, and what comes out.
 *
 *   bench.c          the command: starts the ranks, or is one of them
 *   bench_options.c  the command line, bench_help.c what it may be
 *   bench_case.c     from options to cases, their sizes and bytes
 *   bench_world.c    the ranks' own meeting: all-gather, barrier, memory that all can reach
 *   bench_engine.c   what operations run on: memory; of a GPU also stream, events and graphs
 *   bench_ceiling.c  what bare copies reach on the CPU, bench_ceiling_gpu.c: on GPUs
 *   bench_bed.c      one case: its group and buffers, and its operations
 *   bench_clock.c    their times
 *   bench_measure.c  one case measured, and its results
 *   bench_verify.c   one case against the reference
 *   bench_sink.c     results on their way to who reports them
 *   bench_report.c   the table and the JSON, bench_plot.c the SVG
 */
#ifndef SY_TOOLS_BENCH_H
#define SY_TOOLS_BENCH_H

#include <stdint.h>

#include "batch.h"
#include "switchyard.h"

/* ---- names --------------------------------------------------------------------------------- */

enum bench_op {
    OP_CREATE, /* making a group                                                         */
    OP_SETUP,  /* from nothing until one batch has been there and back                   */
    OP_ROUTE,  /* throughput mode only: latency mode has it in its dispatch              */
    OP_DISPATCH,
    OP_COMBINE,
    OP_DISPATCH_SEND, /* with --halves                                                   */
    OP_DISPATCH_RECEIVE,
    OP_COMBINE_SEND,
    OP_COMBINE_RECEIVE,
    OP_SETUP_COLD, /* OP_SETUP on GPUs without a kernel in the cache                     */
    BENCH_OPS
};

/* Where dispatched rows go, and where combine finds its own. */
enum bench_out { OUT_VIEW, OUT_HEAP, OUT_MEMORY, BENCH_OUTS };

/* What a row is made of. */
struct bench_type {
    const char *name;
    int32_t type;   /* sy_type of x                                                      */
    int32_t scales; /* sy_type of scales that travel with it; SY_NONE: none              */
};

enum { BENCH_TYPES = 6, BENCH_QUANTS = 4, BENCH_MODES = 2, BENCH_LAYOUTS = 4 };

extern const struct bench_type bench_types[BENCH_TYPES];
extern const char *const bench_op_names[BENCH_OPS];
extern const char *const bench_out_names[BENCH_OUTS];
extern const char *const bench_quant_names[BENCH_QUANTS];   /* by sy_quant            */
extern const char *const bench_mode_names[BENCH_MODES];     /* by sy_mode less 1      */
extern const char *const bench_layout_names[BENCH_LAYOUTS]; /* by sy_layout less 1    */

/* ---- options ------------------------------------------------------------------------------- */

enum { BENCH_LIST = 16, BENCH_RANKS_MAX = 1024 };

struct bench_list {
    int n; /* 0: the default */
    int64_t at[BENCH_LIST];
};

struct bench_reals {
    int n;
    double at[BENCH_LIST];
};

/* Sets are bits by the index of the name; 0: the default. */
struct bench_options {
    int32_t engine; /* sy_engine; a rank's own is not AUTO any more                             */
    struct bench_list ranks, tokens, hidden, topk, sms;
    struct bench_reals skews;
    int64_t total_tokens; /* instead of tokens: of all ranks together; 0: not given            */
    int32_t experts, alignment, threads;
    uint32_t ops, modes, layouts, types, quants, outs;
    enum routing routing;
    uint64_t seed;
    int32_t warmup, iters; /* -1 and 0: chosen by size                                         */
    int halves, weighted, bare, verify, graph, per_rank, no_ceilings;
    uint64_t timeout_ns;
    uint64_t memory_bytes; /* of all ranks together; 0: four fifths of what is available       */
    const char *plot, *json;
};

/* 0; or TOOL_USAGE, said; or -1 when help was asked for and given. */
int bench_options_read(int argc, char **argv, struct bench_options *o);
void bench_help(void);

/* ---- cases --------------------------------------------------------------------------------- */

/* One thing to measure: everything that a group and a route need to know. */
struct bench_case {
    int32_t ranks, mode, layout, type, quant, out;  /* type: index of bench_types */
    int32_t topk, experts, alignment, threads, sms; /* sms 0: the library's choice */
    int64_t tokens, hidden;
    double skew;
    uint32_t ops;

    /* Of x and of what travels: elements, bytes of a row, 32-bit words of its scales. */
    int64_t elements, x_bytes, wire_bytes, x_scales, wire_scales;
    int32_t wire_type, wire_scale_type;
    /* Combine sums what was dispatched, if that can be summed; otherwise BF16 rows. */
    int32_t sum_type;
    int64_t sum_bytes;
    int sum_apart; /* 1: those rows are not the dispatched ones */

    /* Room for exactly what comes to the rank that gets most (sy_route_config), and the rows that
     * this makes at most on any rank. */
    int64_t capacity, rows;
    int32_t warmup, iters;
};

/* All cases of this number of ranks, allocated. *n: how many. NULL: no memory. */
struct bench_case *bench_cases(const struct bench_options *o, int32_t ranks, int *n);

/* The batch of a case. */
struct batch bench_batch(const struct bench_options *o, const struct bench_case *c);

/* Sets what depends on the traffic: capacity and rows. */
void bench_case_room(struct bench_case *c, const struct batch *b, const struct traffic *t);

/* Rows that a rank's capacity stands for. */
int64_t bench_case_rows(const struct bench_case *c, const struct batch *b, int32_t rank);

/* Memory of all ranks together while the case is measured, about. */
uint64_t bench_case_memory(const struct bench_options *o, const struct bench_case *c,
                           const struct traffic *t);

/* Bytes per rank, on average over the ranks. */
struct bench_bytes {
    double moved;   /* each row once to each rank that it goes to, with its scales            */
    double remote;  /* the same without the own rank                                          */
    double nccl_ep; /* as NCCL-EP's ep_bench counts                                           */
    double deepep;  /* as DeepEP's tests count                                                */
};

/* For combine if `combine`, otherwise for dispatch. */
struct bench_bytes bench_case_bytes(const struct bench_case *c, const struct traffic *t,
                                    int combine);

/* ---- what comes out ------------------------------------------------------------------------ */

/* What is taken of an operation, in microseconds. */
enum bench_time {
    TIME_HOST,    /* from the call until the stream is empty                                   */
    TIME_KERNEL,  /* of the GPU                                                                */
    TIME_ARRIVAL, /* the same when all ranks begin together                                    */
    BENCH_TIMES
};

/* Over the ranks; avg 0: was not taken. */
struct bench_spread {
    double min, avg, max;
};

/* Fixed size and without pointers: they travel through a pipe of the same program. */
struct bench_result {
    int32_t op, mode, layout, type, quant, out, engine, routing;
    int32_t ranks, topk, experts, threads, sms, warmup, iters, graph;
    int32_t verified; /* -1: was not asked                                                    */
    int64_t tokens, hidden;
    double skew;
    struct bench_spread us[BENCH_TIMES];
    /* Zero for operations to which bytes do not apply. Rates are at the kernel's time if there is
     * one, else at the host's. */
    double heap_bytes, device_bytes; /* that the group takes on a GPU or of the host; 0: unknown */
    double bytes, remote_bytes, gbps, remote_gbps, nccl_gbps, deepep_gbps, ceiling_gbps;
};

/* One rank's times of the result before it. */
struct bench_rank {
    int32_t rank, result; /* result: index, filled in by who keeps it */
    double us[BENCH_TIMES];
};

enum bench_ceiling_kind {
    CEILING_COPY,     /* CPU: all ranks at once                   */
    CEILING_COPY_ONE, /* CPU: one                                 */
    CEILING_STORES,   /* GPU: to peers, as fast as they are taken */
    CEILING_PACED,    /* GPU: to peers, at an even rate           */
    CEILING_LOADS,    /* GPU: from peers                          */
    CEILING_FLAG,     /* GPU: a word there and back               */
    CEILING_LOCAL,    /* GPU: inside its memory                   */
    CEILING_LAUNCH,   /* GPU: nothing, launched and waited for    */
    CEILING_GRAPH,    /* GPU: nothing, one after another in a graph */
    CEILINGS
};

struct bench_ceiling {
    int32_t kind, ranks, sms;
    int32_t reserved;
    int64_t tokens, row_bytes;
    double value; /* 10^9 bytes per second and rank that copies; of words and launches: us */
    char how[40];
};

extern const char *const bench_ceiling_names[CEILINGS];

static inline int bench_ceiling_is_time(const struct bench_ceiling *c)
{
    return c->kind == CEILING_FLAG || c->kind == CEILING_LAUNCH || c->kind == CEILING_GRAPH;
}

/* ---- failing ------------------------------------------------------------------------------- */

/* Functions of the bench return 0, or -1 after one of these. */
int bench_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
int bench_fail_errno(const char *what);
/* 0 for SY_OK. */
int bench_check(sy_status status, const char *what);
const char *bench_failure(void);

/* A multiple of 256 bytes, aligned to 256, every page touched. NULL after bench_fail(). */
void *bench_alloc(size_t bytes);

#endif
