/* scenario.h - what a seed is: a group, its routes, what is routed, and the program of calls that
 * all ranks make. Everything is drawn from the seed before the world begins. */
#ifndef SIM_SCENARIO_H
#define SIM_SCENARIO_H

#include "prng.h"
#include "ref/ref.h"
#include "tasks.h"

/* What a caller wants; zero in a field: the seed draws it. */
struct sim_wish {
    uint32_t ranks;
    uint32_t tokens_max, row_bytes_max;
    uint32_t operations;
    uint32_t modes;   /* SY_THROUGHPUT | SY_LATENCY                              */
    int calm;         /* no faults                                               */
    int plain;        /* random walk, CPU, one route, nothing exotic: for speed  */
    uint32_t machine; /* 1: CPU, 2: GPU                                          */
};

/* What is true of a route once it is set, from the reference: for the rules of ownership. */
struct sim_truth {
    uint32_t ranks, topk, fan;
    uint32_t *tokens;      /* [rank]                                                */
    uint32_t *sent;        /* [source][rank]: rows                                  */
    uint32_t *base;        /* [rank][source]: order of the source's first row       */
    uint32_t *rows;        /* [rank]: entries of `source`                           */
    int16_t **source;      /* [rank][row]: who delivers it, or -1                   */
    int16_t **destination; /* [source][token * fan + j]: the j-th rank, or -1       */
};

/* One batch: tokens and all data, and what must come out. */
struct sim_setting {
    struct sy_ref_world world;
    struct sy_ref_route ref;
    struct sim_truth truth;
    struct sy_ref_sum *sum; /* [ranks], without outputs                              */
    int64_t **ids;          /* [ranks]: for worlds with ids                          */
    struct sim_want *want;  /* [ranks]: made when first needed                       */
};

struct sim_want {
    int dispatched, combined, from_view;
    struct sy_ref_outputs out;
    uint8_t *sum;
    float *sum_weights, *sum_probs;
};

enum sim_data_place { SIM_IN_PLAIN, SIM_IN_HEAP, SIM_IN_VIEW };

struct sim_route {
    int32_t mode, layout, topk, alignment;
    int32_t type, quant, scale_type, input; /* input: SY_I32, SY_I64, SY_U8          */
    int64_t hidden, scale_words;
    int weights; /* 0: none, 1: weights, 2: probs                                  */
    int32_t sum_type;
    int64_t sum_hidden;
    int weighted, biases, carry; /* carry: 0, 1: row_weights, 2: row_probs           */
    int out_weights, out_probs;  /* of the combine                                   */
    uint32_t outputs;            /* of the dispatch: 1 scales, 2 weights, 4 probs, 8 ids, 16 src */
    int32_t *out_place, *sum_place; /* [ranks], sim_data_place                       */
    int64_t *capacity;              /* [ranks]                                       */
    int64_t *out_rows;              /* [ranks]: of outputs and of sums               */
    uint32_t settings;
    struct sim_setting *setting;
};

enum sim_step_kind {
    SIM_SET,
    SIM_DISPATCH,
    SIM_COMBINE,
    SIM_SYNC,  /* waits for all streams and compares what has come                  */
    SIM_QUIET, /* the same on all ranks; then memory is looked at, and made dirty   */
    SIM_STEPS
};

struct sim_step {
    uint8_t kind, route, setting, phase, stream, from_view, by_call, slot, sms;
};

enum sim_fault_kind {
    SIM_NO_FAULT,
    SIM_STALL,
    SIM_LONG_STALL,
    SIM_DEATH,
    SIM_SLOW,
    SIM_ABORT,
    SIM_PAUSE
};

struct sim_scenario {
    uint64_t seed;
    uint32_t ranks;
    int32_t *experts; /* [ranks] */
    int32_t experts_all, topk_max;
    int64_t tokens_max, row_bytes_max, scale_words_max, recv_rows_max, user_bytes;
    int32_t views, latency_views, streams;
    int gpu;
    uint32_t blocks, warps_max;
    int boot;         /* sy_boot_kind */
    int combine_path; /* parameter SY_COMBINE_PATH */
    int route_asks;   /* 1: SY_ROUTE_WORDS is 0    */
    uint64_t timeout_ns;
    uint32_t routes;
    struct sim_route *route;
    uint32_t steps;
    struct sim_step *step;
    struct sim_sched_config sched;
    uint32_t store_lag, copy_lag;
    enum sim_fault_kind fault;
    uint32_t fault_rank;
    uint64_t fault_ns, stall_ns;
    struct sim_block_of_memory *blocks_of_memory;
};

/* Buffers that operations of one kind and route use in turn. */
#define SIM_SLOTS 2

struct sim_scenario *sim_scenario_make(uint64_t seed, const struct sim_wish *wish);
void sim_scenario_free(struct sim_scenario *s);

/* One line. */
#define SIM_SCENARIO_TEXT 400
const char *sim_scenario_text(const struct sim_scenario *s, char text[SIM_SCENARIO_TEXT]);

/* Memory that lives as long as the scenario, zeroed. */
void *sim_scenario_take(struct sim_scenario *s, size_t count, size_t bytes);

/* truth.c */
void sim_truth_make(struct sim_scenario *s, const struct sim_route *r, struct sim_setting *set);

/* want.c: what the reference says must come out of operations. */
const struct sim_want *sim_want_dispatch(struct sim_scenario *s, const struct sim_route *r,
                                         struct sim_setting *set, uint32_t rank);
const struct sim_want *sim_want_combine(struct sim_scenario *s, const struct sim_route *r,
                                        struct sim_setting *set, uint32_t rank, int from_view);

#define SIM_POISON 0xa5

#endif
