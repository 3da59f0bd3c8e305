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

/* --- count ---------------------------------------------------------------------------------- */

/* The ids of tokens [first, end) become the route's. */
SY_DEV void sy_take_ids(struct sy_ctx *c, const struct sy_route_args *a, sy_u32 first, sy_u32 end)
{
    sy_s32 *ids = (sy_s32 *)SY_ROUTE_AT(&a->r, ids);
    sy_u32 K = SY_TOPK(&a->r);
    if (a->map.data)
        for (sy_u32 t = first; t < end; t++)
            sy_read_map(c, &a->d, &a->r, &a->map, t, ids + (sy_u64)t * K);
    else
        for (sy_u32 i = first * K + c->lane; i < end * K; i += SY_LANES)
            ids[i] = sy_read_id(&a->d, &a->r, &a->ids, i / K, i % K);
}

SY_DEV void sy_route_count(struct sy_ctx *c, const struct sy_route_args *a, sy_u32 chunk)
{
    const struct sy_dev *d = &a->d;
    sy_u32 *hist = sy_hist(d, chunk), K = SY_TOPK(&a->r);
    sy_u32 first = chunk * a->chunk_tokens;
    sy_u32 end = sy_min_u32(first + a->chunk_tokens, a->tokens);
    const sy_s32 *ids = (const sy_s32 *)SY_ROUTE_AT(&a->r, ids);
    SY_FOR (i, c, SY_RANKS(d) + d->experts) {
        hist[i] = 0;
    }
    sy_take_ids(c, a, first, end);
    sy_fence_device(c);
    sy_warp_sync(c);
    for (sy_u32 i = first * K + c->lane; i < end * K; i += SY_LANES) {
        sy_u32 k = i % K;
        sy_s32 id = ids[i];
        if (id < 0)
            continue;
        sy_add(hist + SY_RANKS(d) + (sy_u32)id, 1u);
        if (sy_is_first(d, ids + (i - k), k))
            sy_add(hist + sy_owner(d, id), 1u);
    }
}

/* --- scan ----------------------------------------------------------------------------------- */

/* Turns one counter of all chunks into sums of the chunks before; the total goes behind the last.
 */
SY_DEV void sy_route_scan(struct sy_ctx *c, const struct sy_route_args *a, sy_u32 counter)
{
    const struct sy_dev *d = &a->d;
    sy_u32 before = 0;
    for (sy_u32 base = 0; base < a->chunks; base += SY_LANES) {
        sy_u32 chunk = base + c->lane, sum, all;
        sy_u32 n = chunk < a->chunks ? sy_hist(d, chunk)[counter] : 0;
        sum = before + sy_scan(c, n, &all);
        if (chunk < a->chunks)
            sy_hist(d, chunk)[counter] = sum;
        before += all;
    }
    if (c->lane == 0)
        sy_hist(d, a->chunks)[counter] = before;
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

/* Answers: where each source's rows shall go. By one warp; `want` of the sources fills up there. */
SY_DEV void sy_route_answer(struct sy_ctx *c, const struct sy_route_args *a, const struct sy_op *op)
{
    const struct sy_dev *d = &a->d;
    const sy_u32 *base = (const sy_u32 *)SY_ROUTE_AT(&a->r, recv_base);
    const sy_s32 *begin = (const sy_s32 *)SY_ROUTE_AT(&a->r, slab_begin);
    const sy_s32 *offset = (const sy_s32 *)SY_ROUTE_AT(&a->r, expert_offsets);
    sy_u32 words = SY_BASE_HEAD + d->local;
    sy_fence_publish(c);
    for (sy_u32 s = 0; s < SY_RANKS(d); s++) {
        sy_u64 *to = (sy_u64 *)SY_PEER(d, s, route_base);
        to += (sy_u64)d->rank * (SY_BASE_HEAD + d->local_max);
        SY_FOR (i, c, words) {
            sy_u32 v = i == SY_BASE_ROWS ? base[s] : a->r.capacity;
            if (i >= SY_BASE_HEAD) {
                sy_u32 e = i - SY_BASE_HEAD;
                v = (sy_u32)begin[e * SY_RANKS(d) + s];
                v += SY_LAYOUT(&a->r) == SY_L_PACKED ? (sy_u32)offset[e] : 0;
            }
            sy_put64(to + i, sy_word(op->epoch, v));
        }
    }
}

/* Waits for rank p's answer, checks it and keeps it. */
SY_DEV int sy_route_answered(struct sy_ctx *c, const struct sy_route_args *a,
                             const struct sy_op *op, sy_u32 p)
{
    const struct sy_dev *d = &a->d;
    const sy_u64 *from = (const sy_u64 *)SY_OWN(d, route_base);
    sy_u32 first = d->firsts[p], words = SY_BASE_HEAD + d->firsts[p + 1] - first, wrong = 0;
    sy_u32 *want = sy_want(d);
    from += (sy_u64)p * (SY_BASE_HEAD + d->local_max);
    for (sy_u32 at = 0; at < words; at += SY_LANES) {
        sy_u32 i = at + c->lane, v = 0;
        if (!sy_wait_word(c, op, i < words ? from + i : 0, op->epoch, SY_FAULT_BASE, p, &v))
            return 0;
        if (i >= words)
            continue;
        if (i == SY_BASE_ROWS && (v > SY_RANKS(d) * a->r.tokens_limit || v >> 31))
            wrong = SY_FAULT_BYTES;
        if (wrong)
            sy_raise(c, op, sy_missed(d, wrong, p, from + i));
        if (i < SY_BASE_HEAD)
            want[p * SY_BASE_HEAD + i] = v;
        else
            want[SY_RANKS(d) * SY_BASE_HEAD + first + i - SY_BASE_HEAD] = v;
        if (i == SY_BASE_CAPACITY)
            ((sy_u32 *)SY_ROUTE_AT(&a->r, extent))[p] =
                v * (SY_LAYOUT(&a->r) == SY_L_RANK    ? SY_RANKS(d)
                     : SY_LAYOUT(&a->r) == SY_L_SLABS ? words - SY_BASE_HEAD
                                                      : 1u);
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
    if (c->warp == 0) {
        sy_counts(c, d, &a->r, heard);
        sy_route_answer(c, a, op);
    }
    for (sy_u32 p = c->warp; p < SY_RANKS(d); p += c->warps)
        if (!sy_route_answered(c, a, op, p) && c->lane == 0)
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

/* Places for the rows by token; -1: dropped. */
SY_DEV sy_s32 sy_row_of(const struct sy_route_args *a, sy_u32 rank, sy_u32 nth)
{
    const sy_u32 *want = sy_want(&a->d) + rank * SY_BASE_HEAD;
    sy_u32 at = SY_LAYOUT(&a->r) == SY_L_RANK ? nth : want[SY_BASE_ROWS] + nth;
    if (at >= want[SY_BASE_CAPACITY])
        return -1;
    return (sy_s32)(SY_LAYOUT(&a->r) == SY_L_RANK ? a->d.rank * want[SY_BASE_CAPACITY] + at : at);
}

/* Steps through a chunk's selections in order, LANES at a time, and numbers them: pos becomes the
 * place of each selection (by expert) or nth (by token: of the first selection on each rank; -1
 * otherwise). `now`: running counters of this chunk. */
SY_DEV void sy_route_number(struct sy_ctx *c, const struct sy_route_args *a, sy_u32 *now,
                            sy_u32 first, sy_u32 end)
{
    const struct sy_dev *d = &a->d;
    const sy_s32 *ids = (const sy_s32 *)SY_ROUTE_AT(&a->r, ids);
    sy_s32 *pos = (sy_s32 *)SY_ROUTE_AT(&a->r, pos);
    sy_u32 *nth = (sy_u32 *)SY_ROUTE_AT(&a->r, nth);
    sy_u32 K = SY_TOPK(&a->r), turns = sy_div_up((end - first) * K, SY_LANES);
    for (sy_u32 turn = 0; turn < turns; turn++) {
        sy_u32 i = first * K + turn * SY_LANES + c->lane, k = i % K, n, rank = 0;
        sy_s32 id = i < end * K ? ids[i] : -1;
        int valid = id >= 0, head = valid && sy_is_first(d, ids + (i - k), k);
        sy_u32 below = sy_rank_among_equal(c, valid ? SY_RANKS(d) + (sy_u32)id : ~c->lane, &n);
        sy_u32 at = valid ? now[SY_RANKS(d) + id] + below : 0;
        sy_warp_sync(c);
        if (valid && below == n - 1)
            now[SY_RANKS(d) + id] = at + 1;
        if (valid)
            rank = sy_owner(d, id);
        below = sy_rank_among_equal(c, head ? rank : ~c->lane, &n);
        sy_u32 row = head ? now[rank] + below : 0;
        sy_warp_sync(c);
        if (head && below == n - 1)
            now[rank] = row + 1;
        sy_warp_sync(c);
        if (i >= end * K)
            continue;
        nth[i] = head ? row : SY_NOT_DELIVERED;
        pos[i] = valid && sy_by_expert(SY_LAYOUT(&a->r)) ? sy_place_of(a, (sy_u32)id, at) : -1;
    }
}

/* The place that a row (the head selection k of a token, nth to its rank) is sent to; -1: none. */
SY_DEV sy_s32 sy_row_target(const struct sy_route_args *a, const sy_s32 *ids, const sy_s32 *pos,
                            sy_u32 k, sy_u32 nth)
{
    sy_u32 rank = sy_owner(&a->d, ids[k]);
    if (!sy_by_expert(SY_LAYOUT(&a->r)))
        return sy_row_of(a, rank, nth);
    for (sy_u32 i = k; i < SY_TOPK(&a->r); i++)
        if (ids[i] >= 0 && sy_owner(&a->d, ids[i]) == rank && pos[i] >= 0)
            return pos[i];
    return -1;
}

/* Writes the record of a row to its receiver. */
SY_DEV void sy_row_record(const struct sy_route_args *a, sy_u32 token, sy_u32 rank, sy_u32 order,
                          sy_u32 fan_at, const sy_s32 *ids, const sy_s32 *pos)
{
    const struct sy_dev *d = &a->d;
    sy_u32 *to = (sy_u32 *)SY_PEER(d, rank, route_meta) + (sy_u64)order * d->meta_words;
    int by_expert = sy_by_expert(SY_LAYOUT(&a->r));
    for (sy_u32 w = 0; w < SY_META_SEL + SY_TOPK(&a->r); w += 4) {
        struct sy_v16 v;
        for (sy_u32 i = 0; i < 4; i++) {
            sy_u32 k = w + i - SY_META_SEL, word = ~0u;
            if (w + i == SY_META_TOKEN)
                word = token;
            else if (w + i == SY_META_FAN)
                word = fan_at;
            else if (k < SY_TOPK(&a->r) && ids[k] >= 0 && sy_owner(d, ids[k]) == rank)
                word = by_expert ? (sy_u32)pos[k] : (sy_u32)ids[k] - d->firsts[rank];
            v.w[i] = word;
        }
        sy_put16(to + w, v);
    }
}

/* Selection i of the flat order, if it is a head: its destination entry, and the record. Per lane.
 */
SY_DEV void sy_route_row(const struct sy_route_args *a, sy_u32 i)
{
    const struct sy_dev *d = &a->d;
    sy_u32 K = SY_TOPK(&a->r), token = i / K, k = i % K, fan_at = 0;
    const sy_s32 *ids = (const sy_s32 *)SY_ROUTE_AT(&a->r, ids) + (sy_u64)token * K;
    const sy_s32 *pos = (const sy_s32 *)SY_ROUTE_AT(&a->r, pos) + (sy_u64)token * K;
    const sy_u32 *nth = (const sy_u32 *)SY_ROUTE_AT(&a->r, nth) + (sy_u64)token * K;
    if (nth[k] == SY_NOT_DELIVERED)
        return;
    struct sy_dst *dst = (struct sy_dst *)SY_ROUTE_AT(&a->r, dst) + (sy_u64)token * SY_FAN(&a->r);
    sy_u32 rank = sy_owner(d, ids[k]);
    sy_s32 row = sy_row_target(a, ids, pos, k, nth[k]);
    sy_u32 order = sy_want(d)[rank * SY_BASE_HEAD + SY_BASE_ROWS] + nth[k];
    for (sy_u32 o = 0; o < K; o++)
        if (nth[o] != SY_NOT_DELIVERED && sy_owner(d, ids[o]) < rank)
            fan_at += sy_row_target(a, ids, pos, o, nth[o]) >= 0;
    if (row >= 0) {
        dst[fan_at].rank = rank;
        dst[fan_at].row = (sy_u32)row;
        dst[fan_at].order = order;
        dst[fan_at].nth = nth[k];
        sy_add((sy_u32 *)SY_ROUTE_AT(&a->r, goes) + rank * a->r.chunks + (nth[k] >> SY_CHUNK_SHIFT),
               1u);
    }
    sy_row_record(a, token, rank, order, row >= 0 ? fan_at : SY_NOT_DELIVERED, ids, pos);
}

SY_DEV void sy_route_fan(const struct sy_route_args *a, sy_u32 token)
{
    sy_u32 K = SY_TOPK(&a->r), fan = 0;
    const sy_s32 *ids = (const sy_s32 *)SY_ROUTE_AT(&a->r, ids) + (sy_u64)token * K;
    const sy_s32 *pos = (const sy_s32 *)SY_ROUTE_AT(&a->r, pos) + (sy_u64)token * K;
    const sy_u32 *nth = (const sy_u32 *)SY_ROUTE_AT(&a->r, nth) + (sy_u64)token * K;
    for (sy_u32 k = 0; k < K; k++)
        if (nth[k] != SY_NOT_DELIVERED)
            fan += sy_row_target(a, ids, pos, k, nth[k]) >= 0;
    ((sy_u32 *)SY_ROUTE_AT(&a->r, fan))[token] = fan;
    for (; fan < SY_FAN(&a->r); fan++)
        ((struct sy_dst *)SY_ROUTE_AT(&a->r, dst))[(sy_u64)token * SY_FAN(&a->r) + fan].rank =
            SY_NO_RANK;
}

SY_DEV void sy_route_place(struct sy_ctx *c, const struct sy_route_args *a, sy_u32 chunk)
{
    const struct sy_dev *d = &a->d;
    sy_u32 first = chunk * a->chunk_tokens, n = SY_RANKS(d) + d->experts;
    sy_u32 end = sy_min_u32(first + a->chunk_tokens, a->tokens);
    sy_u32 *now = (sy_u32 *)(c->shared + SY_ROUTE_SH_COUNTERS) + c->warp * n, K = SY_TOPK(&a->r);
    const sy_u32 *before = sy_hist(d, chunk);
    SY_FOR (i, c, n) {
        now[i] = before[i];
    }
    sy_warp_sync(c);
    sy_route_number(c, a, now, first, end);
    sy_fence_device(c);
    sy_warp_sync(c);
    for (sy_u32 i = first * K + c->lane; i < end * K; i += SY_LANES)
        sy_route_row(a, i);
    for (sy_u32 t = first + c->lane; t < end; t += SY_LANES)
        sy_route_fan(a, t);
}

/* --- receive -------------------------------------------------------------------------------- */

/* Takes one record. Everything in it is checked: it is an index from now on. 1: a row really comes.
 */
SY_DEV sy_u32 sy_route_take(struct sy_ctx *c, const struct sy_route_args *a, const struct sy_op *op,
                            sy_u32 source, sy_u32 order)
{
    const struct sy_dev *d = &a->d;
    const sy_u32 *from = (const sy_u32 *)SY_OWN(d, route_meta) + (sy_u64)order * d->meta_words;
    sy_s32 *sel = (sy_s32 *)SY_ROUTE_AT(&a->r, recv_sel) + (sy_u64)order * SY_TOPK(&a->r);
    sy_u32 token = sy_get32(from + SY_META_TOKEN), fan_at = sy_get32(from + SY_META_FAN);
    sy_u32 limit = d->local, wrong;
    if (SY_LAYOUT(&a->r) == SY_L_PACKED)
        limit = a->r.capacity;
    if (SY_LAYOUT(&a->r) == SY_L_SLABS)
        limit = a->r.capacity * d->local;
    wrong = token >= a->r.tokens_limit || (fan_at >= SY_FAN(&a->r) && fan_at != SY_NOT_DELIVERED);
    SY_FOR (k, c, SY_TOPK(&a->r)) {
        sy_u32 v = sy_get32(from + SY_META_SEL + k);
        wrong |= v >= limit && v != ~0u;
        sel[k] = (sy_s32)v;
    }
    if (c->lane == 0) {
        ((sy_u32 *)SY_ROUTE_AT(&a->r, recv_token))[order] = token;
        ((sy_u32 *)SY_ROUTE_AT(&a->r, recv_fan))[order] = fan_at;
    }
    if (sy_any(c, wrong != 0)) {
        if (c->lane == 0)
            sy_raise(c, op, sy_missed(d, SY_FAULT_BYTES, source, from));
        return 0;
    }
    if (fan_at == SY_NOT_DELIVERED)
        return 0;
    if (c->lane == 0)
        sy_add((sy_u32 *)SY_ROUTE_AT(&a->r, returns) + source * a->r.chunks +
                   (token >> SY_CHUNK_SHIFT),
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
    for (sy_u32 nth = chunk << SY_CHUNK_SHIFT; nth < end; nth++)
        n += sy_route_take(c, a, op, source, base[source] + nth);
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
    return 1;
}

/* --- the kernel ----------------------------------------------------------------------------- */

/* Tells each receiver how many of its records this warp has sent. */
SY_DEV void sy_route_signal(struct sy_ctx *c, const struct sy_route_args *a, sy_u32 worker,
                            sy_u32 workers)
{
    const struct sy_dev *d = &a->d;
    sy_fence_publish(c);
    for (sy_u32 chunk = worker; chunk < a->chunks; chunk += workers)
        SY_FOR (p, c, SY_RANKS(d)) {
            sy_u32 n = sy_hist(d, chunk + 1)[p] - sy_hist(d, chunk)[p];
            if (n)
                sy_signal_add((sy_u32 *)SY_PEER(d, p, route_arrive) + d->rank, n);
        }
}

SY_DEV int sy_route_run(struct sy_ctx *c, const struct sy_route_args *a, const struct sy_op *op)
{
    const struct sy_dev *d = &a->d;
    sy_u32 worker = c->block * c->warps + c->warp, workers = c->blocks * c->warps;
    for (sy_u32 chunk = worker; chunk < a->chunks; chunk += workers)
        sy_route_count(c, a, chunk);
    if (!sy_route_gate(c, op, 0))
        return 0;
    for (sy_u32 i = worker; i < SY_RANKS(d) + d->experts; i += workers)
        sy_route_scan(c, a, i);
    for (sy_u32 i = worker * SY_LANES + c->lane; i < SY_RANKS(d) * a->r.chunks;
         i += workers * SY_LANES)
        ((sy_u32 *)SY_ROUTE_AT(&a->r, goes))[i] = ((sy_u32 *)SY_ROUTE_AT(&a->r, returns))[i] = 0;
    if (!sy_route_gate(c, op, 1))
        return 0;
    if (c->block == 0 && !sy_route_exchange(c, a, op))
        return 0;
    if (!sy_route_gate(c, op, 2))
        return 0;
    for (sy_u32 chunk = worker; chunk < a->chunks; chunk += workers)
        sy_route_place(c, a, chunk);
    sy_route_signal(c, a, worker, workers);
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
            sy_take_ids(c, a, t, t + 1);
        return;
    }
    int whole = sy_route_run(c, a, &op);
    if (sy_op_leave(c, &op, 1) && whole)
        sy_route_close(c, a, &op);
}

#endif
