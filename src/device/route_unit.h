/* route_unit.h - what the blocks of routing share: counters, gates, and the unit of tokens that a
 * block has at hand. See k_route.h. */
#ifndef SY_DEVICE_ROUTE_UNIT_H
#define SY_DEVICE_ROUTE_UNIT_H

#include "ids.h"
#include "sync.h"

#define SY_ROUTE_AMOUNT(d) ((d)->tokens_max) /* of route_arrive per operation */

/* Lanes of all warps of the block share the work. */
#define SY_FOR_BLOCK(i, c, n)                                                                      \
    for (sy_u32 i = (c)->warp * SY_LANES + (c)->lane; i < (n); i += (c)->warps * SY_LANES)

SY_DEV sy_u32 *sy_totals(const struct sy_dev *d, sy_u32 copy)
{
    return (sy_u32 *)SY_MINE(d, route_totals) + copy * (SY_RANKS(d) + d->experts);
}
SY_DEV sy_u32 sy_total(const struct sy_dev *d, sy_u32 counter)
{
    sy_u32 sum = 0;
    SY_UNROLL(8)
    for (sy_u32 copy = 0; copy < SY_TOTALS_COPIES; copy++)
        sum += sy_totals(d, copy)[counter];
    return sum;
}

/* Counters of a chunk: [ranks] distinct tokens, [experts] selections. */
SY_DEV sy_u32 *sy_hist(const struct sy_dev *d, sy_u32 chunk)
{
    return (sy_u32 *)SY_MINE(d, hist) + (sy_u64)chunk * (SY_RANKS(d) + d->experts);
}

/* Did all warps of the block succeed? Every warp gets the same answer, so the next barrier finds
 * all of them or none. */
SY_DEV int sy_block_agrees(struct sy_ctx *c, int ok)
{
    sy_u32 *agreed = (sy_u32 *)c->shared;
    sy_block_sync(c);
    if (c->warp == 0 && c->lane == 0)
        *agreed = 1;
    sy_block_sync(c);
    if (!ok && c->lane == 0)
        sy_store_shared(agreed, 0u);
    sy_block_sync(c);
    return (int)*agreed;
}

/* What blocks wait for. The first two count blocks, the others are set by block 0. */
enum {
    SY_GATE_COUNTED = 0,
    SY_GATE_SCANNED = 1,
    SY_GATE_HEARD = 2, /* all ranks' counts have come (answers)        */
    SY_GATE_KNOWN = 3  /* ... and what they mean stands in the route   */
};

SY_DEV sy_u32 *sy_route_gate(const struct sy_dev *d, sy_u32 which)
{
    return (sy_u32 *)SY_MINE(d, gate) + which;
}

/* This block's work of one kind is done. */
SY_DEV void sy_gate_arrive(struct sy_ctx *c, const struct sy_op *op, sy_u32 which)
{
    sy_block_sync(c);
    if (c->warp)
        return;
    sy_fence_device(c);
    if (c->lane == 0)
        sy_add(sy_route_gate(op->d, which), 1u);
}

/* Until a gate has seen n arrivals. By one warp. Bounded; 0: leave. */
SY_DEV int sy_gate_wait(struct sy_ctx *c, const struct sy_op *op, sy_u32 which, sy_u32 n)
{
    return sy_wait_own(c, op, sy_route_gate(op->d, which), n);
}

/* --- units ---------------------------------------------------------------------------------- */

/* Tokens. */
#define SY_UNIT(a) SY_ROUTE_UNIT(SY_TOPK(&(a)->r))
#define SY_NO_ROW 0xffffffffu      /* the selection is not the first of its token on its rank */
#define SY_ROW_DROPPED 0x80000000u /* it is, but the row does not fit there                   */

/* What a row to a rank needs to know of it. */
struct sy_goal {
    sy_u8 *heap;     /* read while there is nothing else to do */
    sy_u32 *records; /* at the place of the unit's first row there */
    sy_u32 order;    /* of that row                                */
    sy_u32 row;      /* its row, in the layouts by token           */
    sy_u32 nth;      /* its number among this source's rows there  */
    sy_u32 capacity;
    sy_u32 first; /* expert */
    sy_u32 reserved;
};

SY_STATIC_ASSERT(sizeof(struct sy_goal) == SY_ROUTE_GOAL_BYTES, "shape.h cuts the memory");

#define SY_NO_CHUNK 0xffffffffu

/* A block's unit: everything in shared memory. Selections are numbered token * K + k. */
struct sy_unit {
    sy_u32 chunk;          /* of this block, or SY_NO_CHUNK: it only talks                    */
    sy_u32 first, n;       /* tokens                                                          */
    sy_u32 *heard;         /* block 0: what all sources announced; books: [experts], in all   */
    sy_u32 *want;          /* [ranks][SY_BASE_HEAD], [experts]: where this rank's rows begin  */
    sy_u32 *before;        /* [ranks + experts]: counts of this source's tokens before        */
    sy_u32 *tokens;        /* [ranks + experts]: bit i: token first + i goes there            */
    sy_u32 *fits;          /* [ranks]: the same of the rows that fit there                    */
    sy_u32 *records;       /* [ranks]: how many this block has sent                           */
    struct sy_goal *goals; /* [ranks]                                                         */
    sy_s32 *ids;           /* [selection]                                                     */
    sy_s32 *pos;           /* [selection]: its place at its rank, or -1                       */
    sy_u32 *rows;          /* [selection]: the rank that its token's row goes to, or SY_NO_ROW */
    sy_s32 *at;            /* [selection]: where that row goes                                */
    sy_u32 *repeats;       /* 1: some token has an expert twice                               */
};

SY_DEV sy_u32 *sy_carve(sy_u32 **at, sy_u32 words)
{
    sy_u32 *p = *at;
    *at += words;
    return p;
}

SY_DEV struct sy_unit sy_unit_of(struct sy_ctx *c, const struct sy_route_args *a)
{
    sy_u32 R = SY_RANKS(&a->d), all = R + a->d.experts,
           selections = SY_ROUTE_SELECTIONS(SY_TOPK(&a->r));
    sy_u32 *at = (sy_u32 *)(c->shared + SY_ROUTE_SH_GOALS);
    struct sy_unit u;
    u.chunk = c->block - (c->blocks - a->chunks);
    u.first = u.n = 0;
    u.repeats = (sy_u32 *)c->shared + 1;
    u.goals = (struct sy_goal *)sy_carve(&at, R * (SY_ROUTE_GOAL_BYTES / 4u));
    u.want = sy_carve(&at, R * SY_BASE_HEAD + a->d.experts);
    u.heard = sy_carve(&at, SY_HEARD_BYTES(R, a->d.local_max) / 4u);
    u.before = sy_carve(&at, all);
    u.tokens = sy_carve(&at, all);
    u.fits = sy_carve(&at, R);
    u.records = sy_carve(&at, R);
    u.ids = (sy_s32 *)sy_carve(&at, selections);
    u.pos = (sy_s32 *)sy_carve(&at, selections);
    u.rows = sy_carve(&at, selections);
    u.at = (sy_s32 *)sy_carve(&at, selections);
    return u;
}

SY_DEV struct sy_dev_tensor sy_route_ids(const struct sy_route_args *a)
{
    struct sy_dev_tensor t;
    t.data = (sy_u8 *)SY_ROUTE_AT(&a->r, ids);
    t.stride0 = (sy_s64)SY_TOPK(&a->r) * 4;
    t.stride1 = 4;
    t.rows = a->tokens;
    t.wide = 0;
    return t;
}

/* Enters selection x. Per lane. */
SY_DEV void sy_unit_enter(const struct sy_route_args *a, struct sy_unit *u, sy_u32 x)
{
    sy_u32 K = SY_TOPK(&a->r), bit = 1u << x / K, k = x % K, rank;
    sy_s32 id = u->ids[x];
    int first_id = 1, first_rank = 1;
    u->rows[x] = SY_NO_ROW;
    if (id < 0)
        return;
    rank = sy_owner(&a->d, id);
    for (sy_u32 o = x - k; o < x; o++) {
        sy_s32 other = u->ids[o];
        first_id &= other != id;
        first_rank &= other < 0 || sy_owner(&a->d, other) != rank;
    }
    if (first_rank) {
        u->rows[x] = rank;
        sy_add(u->tokens + rank, bit);
    }
    if (first_id)
        sy_add(u->tokens + SY_RANKS(&a->d) + (sy_u32)id, bit);
    else
        sy_store_shared(u->repeats, 1u);
}

/* Makes the unit that begins at `first`. ids: the caller's, which the route then keeps, or the
 * route's own. */
SY_DEV void sy_unit_load(struct sy_ctx *c, const struct sy_route_args *a, struct sy_unit *u,
                         const struct sy_dev_tensor *ids, int keep, sy_u32 first, sy_u32 end)
{
    sy_u32 K = SY_TOPK(&a->r);
    sy_s32 *own = (sy_s32 *)SY_ROUTE_AT(&a->r, ids) + (sy_u64)first * K;
    u->first = first;
    u->n = first < end ? sy_min_u32(SY_UNIT(a), end - first) : 0;
    sy_block_sync(c);
    SY_FOR_BLOCK (x, c, u->n * K) {
        sy_s32 id = sy_read_id(&a->d, &a->r, ids, first + x / K, x % K);
        u->ids[x] = id;
        if (keep)
            own[x] = id;
    }
    SY_FOR_BLOCK (i, c, SY_RANKS(&a->d) + a->d.experts) {
        u->tokens[i] = 0;
    }
    if (c->warp == 0 && c->lane == 0)
        *u->repeats = 0;
    sy_block_sync(c);
    SY_FOR_BLOCK (x, c, u->n * K) {
        sy_unit_enter(a, u, x);
    }
    sy_block_sync(c);
}

/* The unit is over: adds it to the counts before. */
SY_DEV void sy_unit_add(struct sy_ctx *c, const struct sy_route_args *a, struct sy_unit *u)
{
    sy_u32 K = SY_TOPK(&a->r), R = SY_RANKS(&a->d);
    SY_FOR_BLOCK (i, c, R + a->d.experts) {
        u->before[i] += sy_ones(u->tokens[i]);
    }
    if (!sy_load_shared(u->repeats))
        return;
    sy_block_sync(c);
    SY_FOR_BLOCK (x, c, u->n * K) {
        if (u->ids[x] >= 0 && !sy_is_first_of(u->ids + x / K * K, x % K))
            sy_add(u->before + R + u->ids[x], 1u);
    }
    sy_block_sync(c);
}

#endif
