/* k_route.h - routing: from top-k ids to the place of every row, in throughput mode.
 *
 * All blocks run together (the host launches no more than fit). Steps, with a gate for all blocks
 * between them:
 *
 *   count     each warp counts chunks of tokens: distinct ranks of a token, selections per expert
 *   scan      per rank and expert, the sums over earlier chunks
 *   exchange  block 0: tell every rank what comes, hear from every rank where it shall go
 *   place     each warp gives its chunks' selections their places and sends a record per row
 *   receive   records of all sources become this rank's part of the route
 *
 * A warp takes a unit of 32 tokens at a time, a lane per token. For each rank and expert a word in
 * shared memory has a bit per token of the unit that goes there: its ones are the unit's count, the
 * ones below a token's bit the token's place among them.
 *
 * Counts and answers are words that prove themselves. A source's words for the next route come only
 * after this rank's answers to the last, and the answers only after the source's counts, so one
 * copy of each suffices. A source writes records (route_meta, at its orders) after this rank's
 * answer to it, which this rank gives when it has taken all records of the route before. */
#ifndef SY_DEVICE_K_ROUTE_H
#define SY_DEVICE_K_ROUTE_H

#include "counts.h"
#include "ids.h"
#include "outputs.h"

#define SY_ROUTE_AMOUNT(d) ((d)->tokens_max) /* of route_arrive per operation */

/* Counters of a chunk: [ranks] distinct tokens, [experts] selections. */
SY_DEV sy_u32 *sy_hist(const struct sy_dev *d, sy_u32 chunk)
{
    return (sy_u32 *)SY_MINE(d, hist) + (sy_u64)chunk * (SY_RANKS(d) + d->experts);
}

/* Answers: [ranks][SY_BASE_HEAD], then [experts] first places. */
SY_DEV sy_u32 *sy_want(const struct sy_dev *d)
{
    return (sy_u32 *)SY_MINE(d, want);
}

/* All blocks of the launch. Bounded; 0: leave. */
SY_DEV int sy_route_gate(struct sy_ctx *c, const struct sy_op *op, sy_u32 which)
{
    sy_u32 *gate = (sy_u32 *)SY_MINE(op->d, gate) + which, *go = (sy_u32 *)c->shared;
    sy_block_sync(c);
    if (c->blocks == 1)
        return 1;
    if (c->warp == 0) {
        sy_fence_device(c);
        if (c->lane == 0)
            sy_add(gate, 1u);
        int opened = sy_wait_own(c, op, gate, c->blocks);
        if (c->lane == 0)
            *go = (sy_u32)opened;
    }
    sy_block_sync(c);
    return (int)*go; /* the same for all warps: the next barrier finds all or none */
}

/* --- units ---------------------------------------------------------------------------------- */

#define SY_UNIT 32u

struct sy_unit {
    sy_u32 first, n;       /* tokens                                                       */
    sy_u32 *tokens;        /* [ranks + experts]: bit i: token first + i goes there         */
    sy_u32 repeats;        /* per lane: selections of an expert that its token has already */
    struct sy_goal *goals; /* [ranks], while rows are placed                         */
};

/* What a row to a rank needs to know of it. In shared memory, so that a token's rows do not each
 * wait for the same loads. */
struct sy_goal {
    sy_u32 *records; /* at the place of the unit's first row there */
    sy_u32 order;    /* of that row                                */
    sy_u32 row;      /* its row, in the layouts by token           */
    sy_u32 nth;      /* its number among this source's rows there  */
    sy_u32 capacity;
    sy_u32 first; /* expert */
    sy_u32 reserved;
};

SY_STATIC_ASSERT(sizeof(struct sy_goal) == SY_ROUTE_GOAL_BYTES, "shape.h cuts the memory");

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

/* Enters a token of the unit. keep: gets its ids, or NULL. Per lane. */
SY_DEV void sy_unit_enter(const struct sy_route_args *a, struct sy_unit *u,
                          const struct sy_dev_tensor *ids, sy_u32 i, sy_s32 *keep)
{
    sy_u32 K = SY_TOPK(&a->r), *by_expert = u->tokens + SY_RANKS(&a->d);
    for (sy_u32 k = 0; k < K; k += 8) {
        struct sy_eight e = sy_eight_ids(&a->d, &a->r, ids, u->first + i, k);
        SY_UNROLL(8)
        for (sy_u32 j = 0; j < 8; j++) {
            if (keep && k + j < K)
                keep[k + j] = e.id[j];
            if (e.id[j] < 0)
                continue;
            sy_set_bits(u->tokens + e.rank[j], 1u << i);
            u->repeats += sy_set_bits(by_expert + e.id[j], 1u << i) >> i & 1u;
        }
    }
}

/* The unit that begins at `first`, with all its tokens. ids: the caller's, which the route then
 * keeps, or the route's own. */
SY_DEV struct sy_unit sy_unit_begin(struct sy_ctx *c, const struct sy_route_args *a,
                                    const struct sy_dev_tensor *ids, int keep, sy_u32 first,
                                    sy_u32 end)
{
    struct sy_unit u;
    sy_u32 words = SY_RANKS(&a->d) + a->d.experts, K = SY_TOPK(&a->r);
    sy_s32 *own = (sy_s32 *)SY_ROUTE_AT(&a->r, ids);
    u.first = first;
    u.n = sy_min_u32(SY_UNIT, end - first);
    u.tokens = (sy_u32 *)(c->shared + SY_ROUTE_SH_COUNTERS) + c->warp * words;
    u.goals = (struct sy_goal *)(c->shared + SY_ROUTE_SH_GOALS(SY_RANKS(&a->d), a->d.experts,
                                                               a->d.local_max, c->warps)) +
              c->warp * SY_RANKS(&a->d);
    u.repeats = 0;
    sy_warp_sync(c);
    SY_FOR (i, c, words) {
        u.tokens[i] = 0;
    }
    sy_warp_sync(c);
    SY_FOR (i, c, u.n) {
        sy_unit_enter(a, &u, ids, i, keep ? own + (sy_u64)(first + i) * K : 0);
    }
    sy_warp_sync(c);
    return u;
}

/* Adds the unit to a chunk's counters. */
SY_DEV void sy_unit_add(struct sy_ctx *c, const struct sy_route_args *a, const struct sy_unit *u,
                        sy_u32 *hist, int first)
{
    sy_u32 K = SY_TOPK(&a->r), R = SY_RANKS(&a->d);
    const sy_s32 *ids = (const sy_s32 *)SY_ROUTE_AT(&a->r, ids);
    SY_FOR (i, c, R + a->d.experts) {
        hist[i] = (first ? 0 : hist[i]) + sy_ones(u->tokens[i]);
    }
    if (!sy_any(c, u->repeats != 0))
        return;
    sy_fence_device(c);
    sy_warp_sync(c);
    SY_FOR (i, c, u->n) {
        const sy_s32 *own = ids + (sy_u64)(u->first + i) * K;
        for (sy_u32 k = 0; k < K; k++)
            if (own[k] >= 0 && !sy_is_first_of(own, k))
                sy_add(hist + R + own[k], 1u);
    }
    sy_fence_device(c);
    sy_warp_sync(c);
}

/* --- count ---------------------------------------------------------------------------------- */

SY_DEV void sy_route_count(struct sy_ctx *c, const struct sy_route_args *a, sy_u32 chunk)
{
    sy_s32 *own = (sy_s32 *)SY_ROUTE_AT(&a->r, ids);
    struct sy_dev_tensor ids = a->map.data ? sy_route_ids(a) : a->ids;
    sy_u32 first = chunk * a->chunk_tokens, K = SY_TOPK(&a->r);
    sy_u32 end = sy_min_u32(first + a->chunk_tokens, a->tokens);
    for (sy_u32 t = first; a->map.data && t < end; t++)
        sy_read_map(c, &a->d, &a->r, &a->map, t, own + (sy_u64)t * K);
    for (sy_u32 t = first; t < end; t += SY_UNIT) {
        struct sy_unit u = sy_unit_begin(c, a, &ids, !a->map.data, t, end);
        sy_unit_add(c, a, &u, sy_hist(&a->d, chunk), t == first);
    }
}

/* --- scan ----------------------------------------------------------------------------------- */

/* Turns one counter of all chunks into sums of the chunks before; the total goes behind the last.
 * A lane takes SCAN neighbours, so that their loads do not wait for each other. */
#define SY_SCAN 4u

SY_DEV void sy_route_scan(struct sy_ctx *c, const struct sy_route_args *a, sy_u32 counter)
{
    const struct sy_dev *d = &a->d;
    sy_u32 before = 0;
    for (sy_u32 base = 0; base < a->chunks; base += SY_LANES * SY_SCAN) {
        sy_u32 chunk = base + c->lane * SY_SCAN, sum = 0, all, n[SY_SCAN];
        SY_UNROLL(4)
        for (sy_u32 i = 0; i < SY_SCAN; i++)
            n[i] = chunk + i < a->chunks ? sy_hist(d, chunk + i)[counter] : 0;
        SY_UNROLL(4)
        for (sy_u32 i = 0; i < SY_SCAN; i++)
            sum += n[i];
        sum = before + sy_scan(c, sum, &all);
        SY_UNROLL(4)
        for (sy_u32 i = 0; i < SY_SCAN; i++) {
            if (chunk + i < a->chunks)
                sy_hist(d, chunk + i)[counter] = sum;
            sum += n[i];
        }
        before += all;
    }
    if (c->lane == 0)
        sy_hist(d, a->chunks)[counter] = before;
}

/* The same for few chunks: a lane per counter. */
SY_DEV void sy_route_scan_few(struct sy_ctx *c, const struct sy_route_args *a, sy_u32 worker,
                              sy_u32 workers)
{
    const struct sy_dev *d = &a->d;
    for (sy_u32 i = worker * SY_LANES + c->lane; i < SY_RANKS(d) + d->experts;
         i += workers * SY_LANES) {
        sy_u32 sum = 0;
        for (sy_u32 chunk = 0; chunk <= a->chunks; chunk++) {
            sy_u32 n = chunk < a->chunks ? sy_hist(d, chunk)[i] : 0;
            sy_hist(d, chunk)[i] = sum;
            sum += n;
        }
    }
}

/* --- exchange ------------------------------------------------------------------------------- */

/* Tells rank p what this rank will send. */
SY_DEV void sy_route_tell(struct sy_ctx *c, const struct sy_route_args *a, const struct sy_op *op,
                          sy_u32 p)
{
    const struct sy_dev *d = &a->d;
    const sy_u32 *totals = sy_hist(d, a->chunks);
    sy_u64 *to = (sy_u64 *)SY_PEER(d, p, route_count);
    sy_u64 bad = *(const sy_u64 *)SY_ROUTE_AT(&a->r, bad);
    sy_u32 first = d->firsts[p], local = d->firsts[p + 1] - first;
    to += (sy_u64)d->rank * (SY_COUNT_HEAD + d->local_max);
    SY_FOR (e, c, local) {
        sy_put64(to + SY_COUNT_HEAD + e, sy_word(op->epoch, totals[SY_RANKS(d) + first + e]));
    }
    if (c->lane == 0) {
        sy_put64(to + SY_COUNT_ROWS, sy_word(op->epoch, totals[p]));
        sy_put64(to + SY_COUNT_CHECK, sy_word(op->epoch, a->check));
        sy_put64(to + SY_COUNT_BAD, sy_word(op->epoch, ~(sy_u32)(bad >> 32) + 1u));
        sy_put64(to + SY_COUNT_VALUE, sy_word(op->epoch, (sy_u32)bad));
    }
}

/* Answers: where each source's rows shall go. The warps share the work. */
SY_DEV void sy_route_answer(struct sy_ctx *c, const struct sy_route_args *a, const struct sy_op *op)
{
    const struct sy_dev *d = &a->d;
    const sy_u32 *base = (const sy_u32 *)SY_ROUTE_AT(&a->r, recv_base);
    const sy_s32 *begin = (const sy_s32 *)SY_ROUTE_AT(&a->r, slab_begin);
    const sy_s32 *offset = (const sy_s32 *)SY_ROUTE_AT(&a->r, expert_offsets);
    sy_u32 words = SY_BASE_HEAD + d->local, turns = sy_div_up(words, SY_LANES);
    for (sy_u32 u = c->warp; u < SY_RANKS(d) * turns; u += c->warps) {
        sy_u32 s = (d->rank + u / turns) % SY_RANKS(d), i = u % turns * SY_LANES + c->lane;
        sy_u64 *to = (sy_u64 *)SY_PEER(d, s, route_base);
        sy_u32 v = i == SY_BASE_ROWS ? base[s] : a->r.capacity;
        if (i >= words)
            continue;
        if (i >= SY_BASE_HEAD) {
            sy_u32 e = i - SY_BASE_HEAD;
            v = (sy_u32)begin[e * SY_RANKS(d) + s];
            v += SY_LAYOUT(&a->r) == SY_L_PACKED ? (sy_u32)offset[e] : 0;
        }
        sy_put64(to + (sy_u64)d->rank * (SY_BASE_HEAD + d->local_max) + i, sy_word(op->epoch, v));
    }
}

/* Keeps one word of rank p's answer. Returns what is wrong with it, or 0. Per lane. */
SY_DEV sy_u32 sy_route_keep(const struct sy_route_args *a, sy_u32 p, sy_u32 i, sy_u32 v)
{
    const struct sy_dev *d = &a->d;
    sy_u32 *want = sy_want(d), first = d->firsts[p], slabs = d->firsts[p + 1] - first;
    if (i >= SY_BASE_HEAD) {
        want[SY_RANKS(d) * SY_BASE_HEAD + first + i - SY_BASE_HEAD] = v;
        return 0;
    }
    want[p * SY_BASE_HEAD + i] = v;
    if (i == SY_BASE_ROWS)
        return v > SY_RANKS(d) * a->r.tokens_limit || v >> 31 ? SY_FAULT_BYTES : 0;
    if (SY_LAYOUT(&a->r) == SY_L_RANK)
        slabs = SY_RANKS(d);
    else if (SY_LAYOUT(&a->r) != SY_L_SLABS)
        slabs = 1;
    ((sy_u32 *)SY_ROUTE_AT(&a->r, extent))[p] = v * slabs;
    return 0;
}

/* Waits for all ranks' answers, checks them and keeps them. The warps share the work. */
SY_DEV int sy_route_answered(struct sy_ctx *c, const struct sy_route_args *a,
                             const struct sy_op *op)
{
    const struct sy_dev *d = &a->d;
    sy_u32 turns = sy_div_up(SY_BASE_HEAD + d->local_max, SY_LANES), wrong = 0;
    for (sy_u32 u = c->warp; u < SY_RANKS(d) * turns; u += c->warps) {
        sy_u32 p = u / turns, i = u % turns * SY_LANES + c->lane, v = 0;
        int in = i < SY_BASE_HEAD + d->firsts[p + 1] - d->firsts[p];
        const sy_u64 *from = (const sy_u64 *)SY_OWN(d, route_base);
        from += (sy_u64)p * (SY_BASE_HEAD + d->local_max) + i;
        if (!sy_wait_word(c, op, in ? from : 0, op->epoch, SY_FAULT_BASE, p, &v))
            return 0;
        if (!in)
            continue;
        sy_u32 what = sy_route_keep(a, p, i, v);
        if (what)
            sy_raise(c, op, sy_missed(d, what, p, from));
        wrong |= what;
    }
    return !sy_any(c, wrong != 0);
}

/* Block 0. Returns 0 to all warps when the group is lost. */
SY_DEV int sy_route_exchange(struct sy_ctx *c, const struct sy_route_args *a,
                             const struct sy_op *op)
{
    const struct sy_dev *d = &a->d;
    sy_u32 *ready = (sy_u32 *)c->shared;
    /* Nobody needs the chunks' counters between scan and place. */
    sy_u32 *heard = (sy_u32 *)(c->shared + SY_ROUTE_SH_COUNTERS);
    if (c->warp == 0 && c->lane == 0)
        *ready = 1;
    sy_block_sync(c);
    for (sy_u32 p = c->warp; p < SY_RANKS(d); p += c->warps)
        sy_route_tell(c, a, op, (d->rank + p) % SY_RANKS(d));
    if (!sy_hear(c, op, &a->r, (const sy_u64 *)SY_OWN(d, route_count), a->check, heard, c->warp,
                 c->warps) &&
        c->lane == 0)
        sy_store_shared(ready, 0u);
    sy_block_sync(c);
    if (!*ready)
        return 0;
    if (c->warp == 0)
        sy_counts(c, d, &a->r, heard);
    sy_block_sync(c);
    sy_fence_publish(c); /* the records of the route before have been taken */
    sy_route_answer(c, a, op);
    if (!sy_route_answered(c, a, op) && c->lane == 0)
        sy_store_shared(ready, 0u);
    sy_block_sync(c);
    return (int)*ready;
}

/* --- place ---------------------------------------------------------------------------------- */

/* The place of a selection in the layout of its rank, or -1: dropped. `nth`: its place among this
 * source's selections of the expert. */
SY_DEV sy_s32 sy_place_of(const struct sy_route_args *a, sy_u32 id, sy_u32 nth)
{
    const struct sy_dev *d = &a->d;
    sy_u32 rank = sy_owner(d, id);
    sy_u32 capacity = sy_want(d)[rank * SY_BASE_HEAD + SY_BASE_CAPACITY];
    sy_u32 at = sy_want(d)[SY_RANKS(d) * SY_BASE_HEAD + id] + nth;
    if (at >= capacity)
        return -1;
    return (sy_s32)(SY_LAYOUT(&a->r) == SY_L_SLABS ? (id - d->firsts[rank]) * capacity + at : at);
}

SY_DEV void sy_unit_goals(struct sy_ctx *c, const struct sy_route_args *a, const struct sy_unit *u,
                          const sy_u32 *hist)
{
    const struct sy_dev *d = &a->d;
    SY_FOR (p, c, SY_RANKS(d)) {
        const sy_u32 *want = sy_want(d) + p * SY_BASE_HEAD;
        struct sy_goal *goal = u->goals + p;
        sy_u32 base = want[SY_BASE_ROWS], capacity = want[SY_BASE_CAPACITY], nth = hist[p];
        int by_rank = SY_LAYOUT(&a->r) == SY_L_RANK;
        goal->records = (sy_u32 *)SY_PEER(d, p, route_meta) + (sy_u64)(base + nth) * d->meta_words;
        goal->order = base + nth;
        goal->row = by_rank ? d->rank * capacity + nth : base + nth;
        goal->nth = nth;
        goal->capacity = by_rank ? (d->rank + 1) * capacity : capacity;
        goal->first = d->firsts[p];
    }
    sy_warp_sync(c);
}

/* Selections of `id` that repeat one of the same token, in the unit's tokens before the i-th. Few
 * routings have any. Per lane. */
SY_DEV sy_u32 sy_unit_repeats(const struct sy_route_args *a, const struct sy_unit *u, sy_u32 i,
                              sy_s32 id)
{
    sy_u32 K = SY_TOPK(&a->r), n = 0;
    const sy_s32 *ids = (const sy_s32 *)SY_ROUTE_AT(&a->r, ids) + (sy_u64)u->first * K;
    for (sy_u32 t = 0; t < i; t++) {
        sy_u32 same = 0;
        for (sy_u32 k = 0; k < K; k++)
            same += ids[t * K + k] == id;
        n += same ? same - 1 : 0;
    }
    return n;
}

/* The places of a token's selections, in the layouts by expert. Per lane. */
SY_DEV void sy_route_number(const struct sy_route_args *a, const struct sy_unit *u,
                            const sy_u32 *hist, sy_u32 i, int repeats)
{
    sy_u32 K = SY_TOPK(&a->r), R = SY_RANKS(&a->d), below = (1u << i) - 1u;
    const sy_s32 *ids = (const sy_s32 *)SY_ROUTE_AT(&a->r, ids) + (sy_u64)(u->first + i) * K;
    sy_s32 *pos = (sy_s32 *)SY_ROUTE_AT(&a->r, pos) + (sy_u64)(u->first + i) * K;
    for (sy_u32 k = 0; k < K; k++) {
        sy_s32 id = ids[k], at = -1;
        if (id >= 0 && sy_by_expert(SY_LAYOUT(&a->r))) {
            sy_u32 nth = hist[R + (sy_u32)id] + sy_ones(u->tokens[R + (sy_u32)id] & below);
            for (sy_u32 o = 0; repeats && o < k; o++)
                nth += ids[o] == id;
            if (repeats)
                nth += sy_unit_repeats(a, u, i, id);
            at = sy_place_of(a, (sy_u32)id, nth);
        }
        pos[k] = at;
    }
}

/* The place that a token's row on `rank` is sent to; -1: none. By expert: that of the first
 * selection there which fits. nth: its number among the unit's rows there. */
SY_DEV sy_s32 sy_row_target(const struct sy_route_args *a, const struct sy_goal *goal,
                            const sy_s32 *ids, const sy_s32 *pos, sy_u32 rank, sy_u32 nth)
{
    if (!sy_by_expert(SY_LAYOUT(&a->r)))
        return goal->row + nth < goal->capacity || SY_PLANT(PAST_CAPACITY)
                   ? (sy_s32)(goal->row + nth)
                   : -1;
    for (sy_u32 k = 0; k < SY_TOPK(&a->r); k++)
        if (ids[k] >= 0 && sy_owner(&a->d, ids[k]) == rank && pos[k] >= 0)
            return pos[k];
    return -1;
}

/* Writes the record of a row to its receiver. Per lane. */
SY_DEV void sy_row_record(const struct sy_route_args *a, const struct sy_goal *goal, sy_u32 *to,
                          sy_u32 token, sy_u32 rank, sy_u32 fan_at, const sy_s32 *ids,
                          const sy_s32 *pos)
{
    int by_expert = sy_by_expert(SY_LAYOUT(&a->r));
    SY_UNROLL(3)
    for (sy_u32 w = 0; w < SY_META_SEL + SY_TOPK(&a->r); w += 4) {
        struct sy_v16 v;
        for (sy_u32 i = 0; i < 4; i++) {
            sy_u32 k = w + i - SY_META_SEL, word = ~0u;
            if (w + i == SY_META_TOKEN)
                word = token;
            else if (w + i == SY_META_FAN)
                word = fan_at;
            else if (k < SY_TOPK(&a->r) && ids[k] >= 0 && sy_owner(&a->d, ids[k]) == rank)
                word = by_expert ? (sy_u32)pos[k] : (sy_u32)ids[k] - goal->first;
            v.w[i] = word;
        }
        sy_put16(to + w, v);
    }
}

/* A token's row to one rank: its entry among the destinations, and the record. Returns 1 if it is
 * delivered. Per lane. */
SY_DEV sy_u32 sy_route_row(const struct sy_route_args *a, const struct sy_unit *u, sy_u32 i,
                           sy_u32 rank, sy_u32 fan_at)
{
    const struct sy_goal *goal = u->goals + rank;
    sy_u32 token = u->first + i, before = (1u << i) - 1u;
    sy_u32 nth = sy_ones(u->tokens[rank] & (SY_PLANT(HASH_ORDER) ? ~before << 1 : before));
    const sy_s32 *ids = (const sy_s32 *)SY_ROUTE_AT(&a->r, ids) + (sy_u64)token * SY_TOPK(&a->r);
    const sy_s32 *pos = (const sy_s32 *)SY_ROUTE_AT(&a->r, pos) + (sy_u64)token * SY_TOPK(&a->r);
    struct sy_dst *dst = (struct sy_dst *)SY_ROUTE_AT(&a->r, dst) + (sy_u64)token * SY_FAN(&a->r);
    sy_u32 *goes = (sy_u32 *)SY_ROUTE_AT(&a->r, goes) + rank * a->r.chunks;
    sy_u32 *due = (sy_u32 *)SY_ROUTE_AT(&a->r, due);
    sy_s32 row = sy_row_target(a, goal, ids, pos, rank, nth);
    sy_row_record(a, goal, goal->records + (sy_u64)nth * a->d.meta_words, token, rank,
                  row >= 0 ? fan_at : SY_NOT_DELIVERED, ids, pos);
    if (row < 0)
        return 0;
    struct sy_v16 to = {{rank, (sy_u32)row, goal->order + nth, goal->nth + nth}};
    sy_set16(dst + fan_at, to);
    sy_add(goes + ((goal->nth + nth) >> SY_CHUNK_SHIFT), 1u);
    sy_add(due + (token >> SY_CHUNK_SHIFT) * SY_RANKS(&a->d) + rank, 1u);
    return 1;
}

/* A token's rows, in the order of ranks. Per lane. */
SY_DEV void sy_route_rows(const struct sy_route_args *a, const struct sy_unit *u, sy_u32 i)
{
    sy_u32 K = SY_TOPK(&a->r), token = u->first + i, fan = 0;
    const sy_s32 *ids = (const sy_s32 *)SY_ROUTE_AT(&a->r, ids) + (sy_u64)token * K;
    struct sy_dst *dst = (struct sy_dst *)SY_ROUTE_AT(&a->r, dst) + (sy_u64)token * SY_FAN(&a->r);
    for (sy_u32 base = 0; base < SY_RANKS(&a->d); base += 32) {
        sy_u32 ranks = 0;
        for (sy_u32 k = 0; k < K; k++) {
            sy_u32 rank = ids[k] < 0 ? ~0u : sy_owner(&a->d, ids[k]);
            if (rank - base < 32u)
                ranks |= 1u << (rank - base);
        }
        for (; ranks; ranks &= ranks - 1)
            fan += sy_route_row(a, u, i, base + sy_lowest(ranks), fan);
    }
    ((sy_u32 *)SY_ROUTE_AT(&a->r, fan))[token] = fan;
    for (; fan < SY_FAN(&a->r); fan++)
        dst[fan].rank = SY_NO_RANK;
}

/* Tells each receiver how many records of the unit are there. */
SY_DEV void sy_route_signal(struct sy_ctx *c, const struct sy_route_args *a,
                            const struct sy_unit *u)
{
    const struct sy_dev *d = &a->d;
    sy_fence_publish(c);
    SY_FOR (p, c, SY_RANKS(d)) {
        sy_u32 n = sy_ones(u->tokens[p]);
        if (n)
            sy_signal_add((sy_u32 *)SY_PEER(d, p, route_arrive) + d->rank, n);
    }
}

SY_DEV void sy_route_place(struct sy_ctx *c, const struct sy_route_args *a, sy_u32 chunk)
{
    struct sy_dev_tensor ids = sy_route_ids(a);
    sy_u32 first = chunk * a->chunk_tokens, *hist = sy_hist(&a->d, chunk);
    sy_u32 end = sy_min_u32(first + a->chunk_tokens, a->tokens);
    for (sy_u32 t = first; t < end; t += SY_UNIT) {
        struct sy_unit u = sy_unit_begin(c, a, &ids, 0, t, end);
        int repeats = sy_any(c, u.repeats != 0);
        sy_unit_goals(c, a, &u, hist);
        SY_FOR (i, c, u.n) {
            sy_route_number(a, &u, hist, i, repeats);
            sy_route_rows(a, &u, i);
        }
        sy_warp_sync(c);
        sy_route_signal(c, a, &u);
        if (t + SY_UNIT < end)
            sy_unit_add(c, a, &u, hist, 0);
    }
}

/* --- receive -------------------------------------------------------------------------------- */

/* Takes one record. Everything in it is checked: it is an index from now on. Returns 1 if a row
 * really comes, 0 if not, 2 if something is wrong. Per lane. */
SY_DEV sy_u32 sy_route_take(const struct sy_route_args *a, sy_u32 source, sy_u32 order)
{
    const struct sy_dev *d = &a->d;
    const sy_u32 *from = (const sy_u32 *)SY_OWN(d, route_meta) + (sy_u64)order * d->meta_words;
    sy_s32 *sel = (sy_s32 *)SY_ROUTE_AT(&a->r, recv_sel) + (sy_u64)order * SY_TOPK(&a->r);
    sy_u32 token = 0, fan_at = 0, limit = d->local, wrong = 0;
    if (SY_LAYOUT(&a->r) == SY_L_PACKED)
        limit = a->r.capacity;
    if (SY_LAYOUT(&a->r) == SY_L_SLABS)
        limit = a->r.capacity * d->local;
    SY_UNROLL(3)
    for (sy_u32 w = 0; w < SY_META_SEL + SY_TOPK(&a->r); w += 4) {
        struct sy_v16 v = sy_get16(from + w);
        for (sy_u32 i = 0; i < 4; i++) {
            sy_u32 k = w + i - SY_META_SEL;
            if (w + i == SY_META_TOKEN)
                token = v.w[i];
            else if (w + i == SY_META_FAN)
                fan_at = v.w[i];
            else if (k < SY_TOPK(&a->r)) {
                wrong |= v.w[i] >= limit && v.w[i] != ~0u;
                sel[k] = (sy_s32)v.w[i];
            }
        }
    }
    ((sy_u32 *)SY_ROUTE_AT(&a->r, recv_token))[order] = token;
    ((sy_u32 *)SY_ROUTE_AT(&a->r, recv_fan))[order] = fan_at;
    wrong |= token >= a->r.tokens_limit || (fan_at >= SY_FAN(&a->r) && fan_at != SY_NOT_DELIVERED);
    if (wrong)
        return 2;
    if (fan_at == SY_NOT_DELIVERED)
        return 0;
    sy_add((sy_u32 *)SY_ROUTE_AT(&a->r, returns) + source * a->r.chunks + (token >> SY_CHUNK_SHIFT),
           1u);
    return 1;
}

/* One chunk of one source's records. */
SY_DEV void sy_route_take_chunk(struct sy_ctx *c, const struct sy_route_args *a,
                                const struct sy_op *op, sy_u32 source, sy_u32 chunk)
{
    const sy_u32 *base = (const sy_u32 *)SY_ROUTE_AT(&a->r, recv_base);
    const sy_s32 *counts = (const sy_s32 *)SY_ROUTE_AT(&a->r, source_counts);
    sy_u32 *live = (sy_u32 *)SY_ROUTE_AT(&a->r, live) + source * a->r.chunks + chunk;
    sy_u32 *live_all = (sy_u32 *)SY_ROUTE_AT(&a->r, live_all) + source, n = 0;
    sy_u32 end = sy_min_u32((chunk + 1) << SY_CHUNK_SHIFT, (sy_u32)counts[source]);
    for (sy_u32 nth = (chunk << SY_CHUNK_SHIFT) + c->lane; nth < end; nth += SY_LANES) {
        sy_u32 got = sy_route_take(a, source, base[source] + nth);
        if (got == 2)
            sy_raise(c, op, sy_missed(&a->d, SY_FAULT_BYTES, source, a->d.heap));
        n += got & 1u;
    }
    n = sy_sum(c, n);
    if (c->lane == 0) {
        *live = n;
        sy_add(live_all, n);
    }
}

SY_DEV int sy_route_receive(struct sy_ctx *c, const struct sy_route_args *a, const struct sy_op *op)
{
    const struct sy_dev *d = &a->d;
    const sy_s32 *counts = (const sy_s32 *)SY_ROUTE_AT(&a->r, source_counts);
    sy_u32 *arrive = (sy_u32 *)SY_OWN(d, route_arrive);
    sy_u32 worker = c->block * c->warps + c->warp, workers = c->blocks * c->warps;
    for (sy_u32 u = worker; u < SY_RANKS(d) * a->r.chunks; u += workers) {
        sy_u32 s = u % SY_RANKS(d), n = (sy_u32)counts[s];
        if (n &&
            !sy_wait_count(c, op, arrive + s, SY_COUNTER_BASE(op->epoch, SY_ROUTE_AMOUNT(d)) + n,
                           SY_FAULT_ROWS, s))
            return 0;
        sy_route_take_chunk(c, a, op, s, u / SY_RANKS(d));
    }
    sy_mark(c, 9);
    return 1;
}

/* --- the kernel ----------------------------------------------------------------------------- */

SY_DEV int sy_route_run(struct sy_ctx *c, const struct sy_route_args *a, const struct sy_op *op)
{
    const struct sy_dev *d = &a->d;
    sy_u32 *goes = (sy_u32 *)SY_ROUTE_AT(&a->r, goes);
    sy_u32 *returns = (sy_u32 *)SY_ROUTE_AT(&a->r, returns);
    sy_u32 *due = (sy_u32 *)SY_ROUTE_AT(&a->r, due);
    /* Neighbouring chunks in different blocks: there are fewer than warps. */
    sy_u32 worker = c->warp * c->blocks + c->block, workers = c->blocks * c->warps;
    sy_mark(c, 0);
    for (sy_u32 chunk = worker; chunk < a->chunks; chunk += workers)
        sy_route_count(c, a, chunk);
    sy_mark(c, 1);
    if (!sy_route_gate(c, op, 0))
        return 0;
    sy_mark(c, 2);
    if (a->chunks <= SY_LANES)
        sy_route_scan_few(c, a, worker, workers);
    else
        for (sy_u32 i = worker; i < SY_RANKS(d) + d->experts; i += workers)
            sy_route_scan(c, a, i);
    for (sy_u32 i = worker * SY_LANES + c->lane; i < SY_RANKS(d) * a->r.chunks;
         i += workers * SY_LANES)
        goes[i] = returns[i] = due[i] = 0;
    sy_mark(c, 3);
    if (!sy_route_gate(c, op, 1))
        return 0;
    sy_mark(c, 4);
    if (c->block == 0 && !sy_route_exchange(c, a, op))
        return 0;
    sy_mark(c, 5);
    if (!sy_route_gate(c, op, 2))
        return 0;
    sy_mark(c, 6);
    for (sy_u32 chunk = worker; chunk < a->chunks; chunk += workers)
        sy_route_place(c, a, chunk);
    sy_mark(c, 7);
    return sy_route_receive(c, a, op);
}

SY_DEV void sy_route_close(struct sy_ctx *c, const struct sy_route_args *a, const struct sy_op *op)
{
    const struct sy_dev *d = &a->d;
    const sy_s32 *counts = (const sy_s32 *)SY_ROUTE_AT(&a->r, source_counts);
    sy_u32 *arrive = (sy_u32 *)SY_OWN(d, route_arrive);
    SY_FOR (s, c, SY_RANKS(d)) {
        sy_signal_add(arrive + s, SY_ROUTE_AMOUNT(d) - (sy_u32)counts[s]);
    }
    if (c->lane == 0) {
        sy_u32 *gate = (sy_u32 *)SY_MINE(d, gate);
        gate[0] = gate[1] = gate[2] = gate[3] = 0;
        *(sy_u64 *)SY_ROUTE_AT(&a->r, bad) = 0;
    }
    sy_op_close(c, op, 1, 1);
}

SY_DEV void sy_k_route(struct sy_ctx *c, const struct sy_route_args *a)
{
    struct sy_op op = sy_op_begin(&a->d, SY_CH_ROUTE, 1);
    if (a->only_ids) { /* one block */
        if (c->warp == 0 && c->lane == 0)
            *(sy_u64 *)SY_ROUTE_AT(&a->r, bad) = 0;
        sy_block_sync(c);
        for (sy_u32 t = c->warp; t < a->tokens; t += c->warps)
            sy_read_map(c, &a->d, &a->r, &a->map, t,
                        (sy_s32 *)SY_ROUTE_AT(&a->r, ids) + (sy_u64)t * SY_TOPK(&a->r));
        return;
    }
    /* After a route that could not be finished the gates stand as it left them. */
    sy_u32 *go = (sy_u32 *)c->shared;
    int lost = c->warp == 0 && sy_lost(c, &a->d);
    if (c->warp == 0 && c->lane == 0)
        *go = !lost;
    sy_block_sync(c);
    int whole = *go && sy_route_run(c, a, &op);
    if (sy_op_leave(c, &op, 1) && whole)
        sy_route_close(c, a, &op);
}

#endif
