/* tune.h - how operations are cut into blocks, warps, parts and pieces. Pure functions.
 *
 * Ranks need not come to the same cut, but to the same parts of rows: those depend on what is equal
 * on all ranks only (tests/unit/tune_test.c). */
#ifndef SY_PLAN_TUNE_H
#define SY_PLAN_TUNE_H

#include "base/status.h"
#include "layout/args.h"
#include "layout/sizes.h"

/* What matters of an engine. */
struct sy_machine {
    uint32_t lanes;      /* of a warp                                               */
    uint32_t blocks_max; /* that run at once: CPU threads, GPU SMs                  */
    uint32_t warps_max;  /* of a block                                              */
    uint64_t shared_max; /* bytes of a block                                        */
    uint32_t links;      /* 10^9 bytes a second that links of this kind of GPU carry */
                         /* when all ranks store to all; 0: not known                */
    uint32_t pace;       /* the same, what pushers of throughput mode are to keep    */
                         /* to; 0: they store as fast as it goes                     */
    uint32_t bulk;       /* 1: bulk copies go on by themselves                      */
};

struct sy_cut {
    struct sy_shape shape;
    uint32_t blocks, warps;
    uint64_t shared_bytes;
};

/* What an operation is, as far as its cut depends on it. */
struct sy_work {
    uint32_t ranks, experts, local_max, topk, fan;
    uint32_t row_bytes;   /* as it travels                    */
    uint32_t side_bytes;  /* dispatch                         */
    uint32_t tail_bytes;  /* latency dispatch                 */
    uint32_t tokens;      /* of this rank */
    uint32_t tokens_most; /* of any rank */
    uint32_t quant;
    uint32_t send, receive;
    uint32_t latency;   /* combine                          */
    uint32_t pull;      /* combine: nothing is pushed       */
    uint32_t by_expert; /* layout */
    uint32_t outputs;   /* dispatch: this rank makes outputs of what arrived */
    uint32_t copies;    /* dispatch: this rank's rows are copied to their last places */
};

sy_status sy_cut_tdispatch(const struct sy_machine *m, const struct sy_work *w, struct sy_cut *cut);
sy_status sy_cut_ldispatch(const struct sy_machine *m, const struct sy_work *w, struct sy_cut *cut);
sy_status sy_cut_combine(const struct sy_machine *m, const struct sy_work *w, struct sy_cut *cut);

/* Should sources fetch rows that they can reach (combine, throughput)? Ranks may differ. */
int sy_combine_fetches(const struct sy_machine *m, const struct sy_work *w);

/* chunk_tokens, chunks: the last `chunks` blocks take so many tokens each; a block more than those
 * talks to the peers. */
sy_status sy_cut_route(const struct sy_machine *m, const struct sy_work *w, struct sy_cut *cut,
                       uint32_t *chunk_tokens, uint32_t *chunks);

/* Most chunks that sy_cut_route() ever makes for this many tokens. */
uint64_t sy_route_chunks_max(const struct sy_machine *m, uint64_t tokens_max);

/* Most shared memory that any operation within the limits asks for. */
sy_status sy_shared_bytes_max(const struct sy_machine *m, const struct sy_limits *limits,
                              uint32_t modes, uint64_t *bytes);

#endif
