/* cases.h - whole random cases from one seed: a world, what every rank asks for, and all data.
 *
 * Every process that makes the case of a seed and limits gets the same bytes, so the ranks of a
 * test need not talk to each other. Data in a case is contiguous; x_pad and scales_by_column say
 * how the library should see it. */
#ifndef SY_TESTS_CASES_H
#define SY_TESTS_CASES_H

#include <stddef.h>

#include "ref/ref.h"

/* What a caller allows; zero in a field is its default. */
struct sy_case_limits {
    int32_t ranks;         /* exactly so many; 0: drawn                                      */
    int32_t ranks_max;     /* 0: 16                                                          */
    int32_t experts_max;   /* of one rank; 0: 300                                            */
    int64_t tokens_max;    /* of one rank; 0: 64                                             */
    int64_t payload_bytes; /* of one rank's rows, in and out each, 4096 or more; 0: 256 KiB  */
    uint32_t modes;        /* SY_THROUGHPUT | SY_LATENCY; 0: both                            */
    uint32_t layouts;      /* 1 << sy_layout, or'ed; 0: all                                  */
    uint32_t types;        /* 1 << sy_type of x, or'ed; 0: all                               */
    uint32_t quants;       /* 1 << sy_quant, or'ed; 0: all                                   */
};

/* Names of each set follow in this order in sy_case_text(). */
enum sy_case_routing {
    SY_CASE_UNIFORM,
    SY_CASE_ZIPF,
    SY_CASE_ONE,     /* all tokens go to one expert of the group                             */
    SY_CASE_NONE,    /* all ids are -1                                                       */
    SY_CASE_REPEATS, /* equal ids within a token                                             */
    SY_CASE_HOLES,   /* some ids are -1                                                      */
    SY_CASE_BAD,     /* some ids are out of range; maps: more than K experts                 */
    SY_CASE_LOCAL,
    SY_CASE_REMOTE,
    SY_CASE_ROUTINGS
};

enum sy_case_capacity {
    SY_CASE_SUFFICIENT, /* often more than needed                                            */
    SY_CASE_EXACT,
    SY_CASE_TIGHT,
    SY_CASE_TINY,
    SY_CASE_MIXED, /* drawn for each rank                                                    */
    SY_CASE_CAPACITIES
};

enum sy_case_data {
    SY_CASE_COORDINATES, /* words that name rank, token and offset; payload without quant only */
    SY_CASE_NUMBERS,     /* finite; wide enough apart that the order of a sum shows          */
    SY_CASE_BITS,        /* any bits, NaN, infinities and denormals among them               */
    SY_CASE_DATAS
};

enum sy_case_place { SY_CASE_PLAIN, SY_CASE_HEAP, SY_CASE_VIEW, SY_CASE_PLACES };

enum { SY_CASE_OUT_SCALES = 1, SY_CASE_OUT_WEIGHTS = 2, SY_CASE_OUT_PROBS = 4, SY_CASE_OUT_IDS = 8,
       SY_CASE_OUT_SRC = 16 };

struct sy_case_rank {
    int64_t out_rows;  /* first dimension of all outputs and of sum[].x, >= sy_ref_rows()    */
    int32_t out_place; /* sy_case_place of out_x                                             */
    int32_t sum_place; /* sy_case_place of the combine's x                                   */
    uint32_t outputs;  /* of SY_CASE_OUT_; out_x is always there                             */
    int32_t ids_type;  /* of out_ids                                                         */
};

struct sy_case {
    uint64_t seed;
    struct sy_ref_world world; /* with all that it points to                                 */
    struct sy_case_rank *rank; /* [R]                                                        */

    /* For sy_group_config. The maxima are what the case needs or more. */
    int32_t experts, topk_max;
    int32_t *experts_per_rank;
    int64_t tokens_max, latency_tokens_max, row_bytes_max, scale_words_max, recv_rows_max;

    int32_t mode;             /* sy_mode                                                     */
    int32_t input;            /* SY_I32 or SY_I64 ids, or SY_U8 for a map                    */
    int32_t scale_type;       /* of scales and out_scales; SY_NONE: no scales                */
    int32_t halves;           /* 1: operations in two halves                                 */
    int32_t scales_by_column; /* 1: strides of scales and out_scales are transposed          */
    int64_t x_pad;            /* bytes between the rows of x, a multiple of 16               */

    /* The combine: its inputs, all independent of what was dispatched. `out` and what comes back is
     * NULL for the caller to fill in. */
    struct sy_ref_sum *sum; /* [R]                                                           */
    int32_t sum_type;
    int64_t sum_hidden;
    int32_t carry_weights, carry_probs; /* 1: out_weights, out_probs are wanted              */

    int32_t routing, capacity, data, sum_data; /* how it was drawn                           */

    struct sy_case_block *blocks;
};

/* limits may be NULL. */
void sy_case_make(struct sy_case *c, uint64_t seed, const struct sy_case_limits *limits);
void sy_case_free(struct sy_case *c);

/* Of all that a case is and holds: ranks that should have the same can compare it. */
uint64_t sy_case_hash(const struct sy_case *c);

#define SY_CASE_TEXT 1024

/* The case in one line without newline. Returns text. */
const char *sy_case_text(const struct sy_case *c, char text[SY_CASE_TEXT]);

#endif
