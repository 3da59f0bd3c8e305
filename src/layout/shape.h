/* shape.h - how the shared memory of a block is cut; host (to size it) and device (to use it).
 *
 *   header | targets[ranks] | ring control[pushers] | rings[pushers] | stages
 *
 * Per pusher `stages` stages of stage_bytes each: head | destinations | side | body. Macros,
 * because host C and device C have no other common form of a function. */
#ifndef SY_LAYOUT_SHAPE_H
#define SY_LAYOUT_SHAPE_H

#include "types.h"

#define SY_ALIGN_UP(n, a) (((n) + (a)-1) / (a) * (a))

/* Where a block's memory begins; what is below wants no more. */
#define SY_SH_ALIGN 128u

#define SY_RING_ENTRIES 32u

/* Rows to be quantised have a scale per block of elements. They are cut, on GPUs, into parts that
 * have whole 16 bytes of scales: what goes to a row's side with each is stored by itself. */
enum { SY_Q_NONE = 0, SY_Q_F8 = 1, SY_Q_POW2 = 2, SY_Q_UE8M0 = 3 };
#define SY_Q_BLOCK 128u
#define SY_Q_SCALE_BYTES(quant) ((quant) == SY_Q_UE8M0 ? 1u : 4u)
#define SY_Q_UNIT(quant) (16u / SY_Q_SCALE_BYTES(quant) * SY_Q_BLOCK)

/* Private state of one stage. */
struct sy_stage {
    sy_u64 gate; /* of its load                     */
    sy_u32 token, part;
    sy_u32 fan;
    sy_u32 bytes;
    sy_u64 to;     /* combine: where the row goes     */
    sy_u64 from;   /* combine: where it comes from    */
    sy_u32 code;   /* combine: what the signaller counts */
    sy_u32 held;   /* combine: stages that the item takes, a term in each if ... */
    sy_u32 staged; /* ... this is 1 */
    sy_u32 reserved[3];
};

SY_STATIC_ASSERT(sizeof(struct sy_stage) == 64, "head of a stage");

struct sy_ring_control {
    sy_u32 head; /* items whose stores are done; by the pusher         */
    sy_u32 over; /* 1: no more will come                               */
    sy_u32 tail; /* items signalled; by the signaller                  */
    sy_u32 seen; /* the signaller's copy of head                       */
};

#define SY_STAGE_DST 64u
#define SY_STAGE_SIDE(fan) (SY_STAGE_DST + (fan)*16u)
#define SY_STAGE_BODY(fan, side_bytes) SY_ALIGN_UP(SY_STAGE_SIDE(fan) + (side_bytes), 128u)
#define SY_STAGE_BYTES(fan, side_bytes, body_bytes)                                                \
    SY_ALIGN_UP(SY_STAGE_BODY(fan, side_bytes) + (body_bytes), 128u)

/* Combine keeps the terms of a sum (16 bytes each) where dispatch keeps destinations. */
#define SY_C_FAN(topk) (topk)

/* A sum that a finisher of combine has begun; its terms follow. Behind the stages there are, for
 * each finisher: gates[steps] | jobs[steps] | slots. */
struct sy_job {
    sy_u32 n; /* terms */
    sy_u32 grouped;
    sy_u32 token;
    sy_u32 from, end; /* bytes of the row */
    sy_u32 reserved[3];
};

SY_STATIC_ASSERT(sizeof(struct sy_job) == 32, "head of a job");

#define SY_JOB_BYTES(topk) (32u + SY_C_FAN(topk) * 16u)
#define SY_FINISHER_HEAD(steps, topk) SY_ALIGN_UP((steps) * (8u + SY_JOB_BYTES(topk)), 128u)
#define SY_FINISHER_BYTES(steps, topk, slots, slot_bytes)                                          \
    (SY_FINISHER_HEAD(steps, topk) + (slots) * (slot_bytes))

/* A finisher of a dispatch that copies rows has slots (a power of two), each with a head: what is
 * in it, and the places that it goes to. */
#define SY_COPIER_SLOTS 4u
#define SY_COPIER_HEAD(topk) SY_ALIGN_UP(32u + ((topk) ? (topk) : 1u) * 4u, 128u)

#define SY_SH_TARGET 64u
#define SY_SH_TARGET_BYTES 16u
#define SY_SH_CONTROL(ranks) (SY_SH_TARGET + (ranks)*SY_SH_TARGET_BYTES)
#define SY_SH_RINGS(ranks, pushers) (SY_SH_CONTROL(ranks) + (pushers)*16u)
#define SY_SH_STAGES(ranks, pushers)                                                               \
    SY_ALIGN_UP(SY_SH_RINGS(ranks, pushers) + (pushers)*SY_RING_ENTRIES * 4u, 128u)
#define SY_SH_BYTES(ranks, pushers, stages, stage_bytes)                                           \
    (SY_SH_STAGES(ranks, pushers) + (pushers) * (stages) * (stage_bytes))

/* What a rank heard of all sources' counts, while it makes its own of them. */
#define SY_HEARD_BYTES(ranks, local_max) ((ranks) * (4u + (local_max)) * 4u)

/* The latency dispatch: header | peers | counters (receiving: offsets) | what was sent | what was
 * heard | lists of the token's k | destinations | tail | row | copiers. */
#define SY_LD_SH_PEERS 64u
#define SY_LD_SH_COUNTERS(ranks) (SY_LD_SH_PEERS + (ranks)*8u)
#define SY_LD_SH_LISTS(ranks, experts, local_max)                                                  \
    SY_ALIGN_UP(SY_LD_SH_COUNTERS(ranks) + (2u * (ranks) + (experts)) * 4u +                       \
                    SY_HEARD_BYTES(ranks, local_max),                                              \
                16u)
#define SY_LD_SH_DST(ranks, experts, local_max, topk)                                              \
    SY_ALIGN_UP(SY_LD_SH_LISTS(ranks, experts, local_max) + (topk)*16u, 16u)
#define SY_LD_SH_TAIL(ranks, experts, local_max, topk, fan)                                        \
    SY_ALIGN_UP(SY_LD_SH_DST(ranks, experts, local_max, topk) + (fan)*16u, 128u)
#define SY_LD_SH_ROW(ranks, experts, local_max, topk, fan, tail_bytes)                             \
    SY_ALIGN_UP(SY_LD_SH_TAIL(ranks, experts, local_max, topk, fan) + (tail_bytes), 128u)
#define SY_LD_SH_BYTES(ranks, experts, local_max, topk, fan, tail_bytes, row_bytes)                \
    (SY_LD_SH_ROW(ranks, experts, local_max, topk, fan, tail_bytes) + SY_ALIGN_UP(row_bytes, 128u))

/* The route kernel takes so many tokens at a time, a power of two: they are bits of a word, and
 * what a block keeps of their selections is to fit. */
#define SY_ROUTE_UNIT(topk)                                                                        \
    ((topk) <= 64u     ? 32u                                                                       \
     : (topk) <= 128u  ? 16u                                                                       \
     : (topk) <= 256u  ? 8u                                                                        \
     : (topk) <= 512u  ? 4u                                                                        \
     : (topk) <= 1024u ? 2u                                                                        \
                       : 1u)
#define SY_ROUTE_SELECTIONS(topk) ((topk) <= 64u ? 32u * (topk) : (topk) <= 2048u ? 2048u : (topk))

/* Its memory: header | goals | answers | what was heard | counts before | bits | rows that fit |
 * records | ids, places, ranks and rows of selections. */
#define SY_ROUTE_GOAL_BYTES 40u
#define SY_ROUTE_SH_GOALS 64u
#define SY_ROUTE_SH_BYTES(ranks, experts, local_max, topk)                                         \
    (SY_ROUTE_SH_GOALS + (ranks) * (SY_ROUTE_GOAL_BYTES + 6u * 4u) + (experts)*3u * 4u +           \
     SY_HEARD_BYTES(ranks, local_max) + SY_ROUTE_SELECTIONS(topk) * 16u)

#endif
