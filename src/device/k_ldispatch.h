/* k_ldispatch.h - dispatch in latency mode: routing and rows in one go.
 *
 * Nothing is exchanged before the rows: each source has a place of its own at every receiver, and a
 * row's number among its source's rows follows from the source's ids alone. A block takes a token,
 * loads its row, counts the tokens before it meanwhile, and sends row and tail (ids, weights,
 * scales) to each rank; one block more sends the counts. Receivers put rows where the layout wants
 * them.
 *
 * Who writes what: source s writes ld_rows, ld_tail [view][s][nth] and ld_count [view][s] of p. Not
 * before p is through with the view: p has begun the operation after the view's last, and also the
 * one before this, so that a view lasts lat_views - 1 operations. Signals: ld_arrive[s]. */
#ifndef SY_DEVICE_K_LDISPATCH_H
#define SY_DEVICE_K_LDISPATCH_H

#include "counts.h"
#include "ids.h"
#include "outputs.h"
#include "quant.h"

#define SY_LD_AMOUNT(d) ((d)->lat_tokens_max) /* of ld_arrive per operation */

/* The block's shared memory. */
struct sy_ld_shared {
    sy_u32 *ready;
    sy_u32 *fan;
    sy_gate *gate;
    sy_u32 *by_rank;    /* [ranks]: rows of the tokens so far          */
    sy_u32 *by_expert;  /* [experts]: selections of the tokens so far  */
    struct sy_dst *dst; /* [fan]: of the block's token                 */
    sy_u8 *tail;        /* what travels behind the row                 */
    sy_u8 *row;
};

SY_DEV struct sy_ld_shared sy_ld_carve(struct sy_ctx *c, const struct sy_ldispatch_args *a)
{
    struct sy_ld_shared sh;
    sh.ready = (sy_u32 *)c->shared;
    sh.fan = sh.ready + 1;
    sh.gate = (sy_gate *)(c->shared + 8);
    sh.by_rank = (sy_u32 *)(c->shared + SY_LD_SH_COUNTERS);
    sh.by_expert = sh.by_rank + a->d.ranks;
    sh.dst = (struct sy_dst *)(c->shared + SY_LD_SH_DST(a->d.ranks, a->d.experts));
    sh.tail = c->shared + SY_LD_SH_TAIL(a->d.ranks, a->d.experts, a->r.fan);
    sh.row = c->shared + SY_LD_SH_ROW(a->d.ranks, a->d.experts, a->r.fan, a->tail_bytes);
    return sh;
}

/* Rows, or tails, of one source in a view of rank p. */
SY_DEV sy_u8 *sy_ld_rows(const struct sy_ldispatch_args *a, sy_u8 *heap, sy_u32 source)
{
    sy_u64 view = (sy_u64)a->view * a->d.ranks * a->d.lat_tokens_max * a->row_bytes_max;
    return heap + a->d.at.ld_rows + view + (sy_u64)source * a->d.lat_tokens_max * a->out.row_bytes;
}
SY_DEV sy_u8 *sy_ld_tails(const struct sy_ldispatch_args *a, sy_u8 *heap, sy_u32 source)
{
    sy_u64 view = (sy_u64)a->view * a->d.ranks * a->d.lat_tokens_max * a->tail_bytes_max;
    return heap + a->d.at.ld_tail + view + (sy_u64)source * a->d.lat_tokens_max * a->tail_bytes;
}
SY_DEV sy_u64 *sy_ld_words(const struct sy_ldispatch_args *a, sy_u8 *heap)
{
    sy_u64 stride = SY_COUNT_HEAD + a->d.local_max;
    return (sy_u64 *)(heap + a->d.at.ld_count) + (sy_u64)a->view * a->d.ranks * stride;
}

/* --- send ----------------------------------------------------------------------------------- */

SY_DEV sy_s32 sy_ld_id(const struct sy_ldispatch_args *a, sy_u32 token, sy_u32 k)
{
    if (a->ids.data)
        return sy_read_id(&a->d, &a->r, &a->ids, token, k);
    return ((const sy_s32 *)SY_ROUTE_AT(&a->r, ids))[(sy_u64)token * a->r.topk + k];
}

/* Is selection k the first of its token on its rank? As sy_is_first, from the caller's ids. */
SY_DEV int sy_ld_is_first(const struct sy_ldispatch_args *a, sy_u32 token, sy_u32 k, sy_u32 rank)
{
    for (sy_u32 i = 0; i < k; i++) {
        sy_s32 id = sy_ld_id(a, token, i);
        if (id >= 0 && a->d.owner[id] == rank)
            return 0;
    }
    return 1;
}

/* Adds tokens [first, end) to the block's counters. All warps. */
SY_DEV void sy_ld_count(struct sy_ctx *c, const struct sy_ldispatch_args *a,
                        struct sy_ld_shared *sh, sy_u32 first, sy_u32 end)
{
    sy_u32 K = a->r.topk, step = c->warps * SY_LANES;
    for (sy_u32 i = first * K + c->warp * SY_LANES + c->lane; i < end * K; i += step) {
        sy_u32 token = i / K, k = i % K;
        sy_s32 id = sy_ld_id(a, token, k);
        if (id < 0)
            continue;
        sy_add(sh->by_expert + id, 1u);
        if (sy_ld_is_first(a, token, k, a->d.owner[id]))
            sy_add(sh->by_rank + a->d.owner[id], 1u);
    }
}

/* The token's destinations, to shared memory and the route, and its ids. By one warp. */
SY_DEV void sy_ld_route(struct sy_ctx *c, const struct sy_ldispatch_args *a,
                        struct sy_ld_shared *sh, sy_u32 token)
{
    const struct sy_dev *d = &a->d;
    sy_u32 K = a->r.topk, heads = 0;
    sy_s32 *ids = (sy_s32 *)SY_ROUTE_AT(&a->r, ids) + (sy_u64)token * K;
    struct sy_dst *keep = (struct sy_dst *)SY_ROUTE_AT(&a->r, dst) + (sy_u64)token * a->r.fan;
    sy_u32 *tail = (sy_u32 *)sh->tail;
    SY_FOR (k, c, K) {
        ids[k] = sy_ld_id(a, token, k);
        tail[SY_TAIL_IDS + k] = (sy_u32)ids[k];
    }
    sy_warp_sync(c);
    SY_FOR (k, c, K) {
        sy_s32 id = ids[k];
        sy_u32 nth = 0, fan_at = 0;
        for (sy_u32 i = 0; i < k; i++)
            nth += ids[i] == id;
        tail[SY_TAIL_IDS + K + k] = id < 0 ? 0 : sh->by_expert[id] + nth;
        if (id < 0 || !sy_is_first(d, ids, k))
            continue;
        heads++;
        for (sy_u32 i = 0; i < K; i++)
            fan_at += ids[i] >= 0 && d->owner[ids[i]] < d->owner[id] && sy_is_first(d, ids, i);
        struct sy_dst to;
        to.rank = d->owner[id];
        to.nth = sh->by_rank[to.rank];
        to.row = to.order = d->rank * d->lat_tokens_max + to.nth;
        sh->dst[fan_at] = keep[fan_at] = to;
    }
    heads = sy_sum(c, heads);
    if (c->lane == 0) {
        tail[SY_TAIL_TOKEN] = token;
        tail[1] = tail[2] = tail[3] = 0;
        *sh->fan = ((sy_u32 *)SY_ROUTE_AT(&a->r, fan))[token] = heads;
    }
}

/* Weights and scales behind the ids. All warps; quantisation has written its scales itself. */
SY_DEV void sy_ld_tail(struct sy_ctx *c, const struct sy_ldispatch_args *a, struct sy_ld_shared *sh,
                       sy_u32 token)
{
    sy_u32 K = a->r.topk, step = c->warps * SY_LANES, first = c->warp * SY_LANES + c->lane;
    float *weights = (float *)sh->tail + SY_TAIL_IDS + 2 * K;
    sy_u32 *scales = (sy_u32 *)sh->tail + SY_TAIL_SCALES(K);
    for (sy_u32 k = first; k < K; k += step) {
        sy_s32 id = a->probs.data ? sy_ld_id(a, token, k) : -1;
        weights[k] = 0.0f;
        if (a->weights.data)
            weights[k] =
                *(const float *)(sy_out_at(&a->weights, token) + (sy_s64)k * a->weights.stride1);
        else if (id >= 0)
            weights[k] =
                *(const float *)(sy_out_at(&a->probs, token) + (sy_s64)id * a->probs.stride1);
    }
    if (a->scales.data)
        for (sy_u32 i = first; i < a->out.scale_words; i += step)
            scales[i] =
                *(const sy_u32 *)(sy_out_at(&a->scales, token) + (sy_s64)i * a->scales.stride1);
}

/* Row and tail to the token's ranks, a warp per rank, from another one for each rank and token. */
SY_DEV void sy_ld_send(struct sy_ctx *c, const struct sy_ldispatch_args *a, struct sy_ld_shared *sh,
                       sy_u32 token)
{
    const struct sy_dev *d = &a->d;
    const sy_u8 *row = a->quant ? sh->row : SY_STAGED(sh->row, sy_out_at(&a->x, token));
    sy_u32 fan = *sh->fan;
    for (sy_u32 i = c->warp; i < fan; i += c->warps) {
        const struct sy_dst *to = sh->dst + (i + d->rank + token) % fan;
        sy_u8 *heap = d->peers[to->rank];
        sy_store_bulk(c, sy_ld_rows(a, heap, d->rank) + (sy_u64)to->nth * a->out.row_bytes, row,
                      a->out.row_bytes);
        sy_store_bulk(c, sy_ld_tails(a, heap, d->rank) + (sy_u64)to->nth * a->tail_bytes, sh->tail,
                      a->tail_bytes);
        sy_store_commit(c);
        SY_STORE_WAIT_DONE(c, 0);
        sy_fence_publish(c);
        if (c->lane == 0)
            sy_signal_add((sy_u32 *)SY_AT(d, heap, ld_arrive) + d->rank, 1u);
    }
}

/* What this rank sends, to every rank. All warps of the block that has counted all tokens. */
SY_DEV void sy_ld_tell(struct sy_ctx *c, const struct sy_ldispatch_args *a, const struct sy_op *op,
                       struct sy_ld_shared *sh)
{
    const struct sy_dev *d = &a->d;
    sy_u64 bad = *(const sy_u64 *)SY_ROUTE_AT(&a->r, bad);
    for (sy_u32 i = c->warp; i < d->ranks; i += c->warps) {
        sy_u32 p = (d->rank + i) % d->ranks, first = d->firsts[p];
        sy_u64 *to = sy_ld_words(a, d->peers[p]);
        to += (sy_u64)d->rank * (SY_COUNT_HEAD + d->local_max);
        SY_FOR (e, c, d->firsts[p + 1] - first) {
            sy_put64(to + SY_COUNT_HEAD + e, sy_word(op->epoch, sh->by_expert[first + e]));
        }
        if (c->lane == 0) {
            sy_put64(to + SY_COUNT_ROWS, sy_word(op->epoch, sh->by_rank[p]));
            sy_put64(to + SY_COUNT_CHECK, sy_word(op->epoch, a->check));
            sy_put64(to + SY_COUNT_BAD, sy_word(op->epoch, ~(sy_u32)(bad >> 32) + 1u));
            sy_put64(to + SY_COUNT_VALUE, sy_word(op->epoch, (sy_u32)bad));
        }
    }
}

/* Waits until every rank is through with what this operation overwrites. By one warp. */
SY_DEV int sy_ld_free(struct sy_ctx *c, const struct sy_ldispatch_args *a, const struct sy_op *op)
{
    const struct sy_dev *d = &a->d;
    const struct sy_start *start = (const struct sy_start *)SY_OWN(d, start);
    sy_u64 begun = ((const sy_u64 *)SY_MINE(d, last_use))[a->view] + 1;
    start += op->channel * d->ranks;
    begun = begun > op->epoch - 1 ? begun : op->epoch - 1;
    for (sy_u32 base = 0; begun > 0 && base < d->ranks; base += SY_LANES) {
        sy_u32 p = base + c->lane, ignore = 0;
        if (!sy_wait_epoch(c, op, p < d->ranks ? &start[p].value : 0, begun, SY_FAULT_START, p,
                           &ignore))
            return 0;
    }
    return 1;
}

/* Begins to bring the token's row into shared memory. */
SY_DEV void sy_ld_load(struct sy_ctx *c, const struct sy_ldispatch_args *a, struct sy_ld_shared *sh,
                       sy_u32 token)
{
    if (a->quant || c->warp || token >= a->tokens)
        return;
    sy_load_expect(c, sh->gate, a->out.row_bytes);
    sy_load_bulk(c, sh->gate, sh->row, sy_out_at(&a->x, token), a->out.row_bytes);
}

/* One token, or one past the last: the counts. Returns 0 when the group is lost. */
SY_DEV int sy_ld_token(struct sy_ctx *c, const struct sy_ldispatch_args *a, const struct sy_op *op,
                       struct sy_ld_shared *sh, sy_u32 token, sy_u32 turn)
{
    sy_u32 counted = turn ? token - c->blocks : 0;
    sy_ld_load(c, a, sh, token);
    if (token < a->tokens)
        sy_ld_tail(c, a, sh, token);
    if (a->quant && token < a->tokens)
        sy_quant_row(c, sy_out_at(&a->x, token), sh->row, sh->tail + SY_TAIL_SCALES(a->r.topk) * 4u,
                     a->hidden, a->quant, (c->warp * SY_LANES + c->lane) / SY_MAX_LANES,
                     c->warps * SY_LANES / SY_MAX_LANES);
    sy_ld_count(c, a, sh, counted, token);
    if (turn == 0 && c->warp == c->warps - 1) {
        int go = sy_ld_free(c, a, op);
        if (c->lane == 0)
            *sh->ready = (sy_u32)go;
    }
    sy_fence_device(c);
    sy_block_sync(c);
    if (!*sh->ready)
        return 0;
    if (token == a->tokens) {
        sy_ld_tell(c, a, op, sh);
        return 1;
    }
    if (c->warp == 0)
        sy_ld_route(c, a, sh, token);
    sy_fence_bulk(c);
    sy_block_sync(c);
    int there = a->quant || sy_wait_load(c, op, sh->gate, turn & 1u);
    if (there)
        sy_ld_send(c, a, sh, token);
    SY_STORE_WAIT_READ(c, 0);
    sy_block_sync(c);
    return 1;
}

SY_DEV void sy_ld_run_send(struct sy_ctx *c, const struct sy_ldispatch_args *a,
                           const struct sy_op *op)
{
    struct sy_ld_shared sh = sy_ld_carve(c, a);
    sy_u32 counters = a->d.ranks + a->d.experts, turn = 0;
    if (c->warp == 0)
        sy_gate_init(c, sh.gate);
    if (c->block == 0 && c->warp == c->warps - 1)
        sy_op_start(c, op, 1u, a->check);
    for (sy_u32 i = c->warp * SY_LANES + c->lane; i < counters; i += c->warps * SY_LANES)
        sh.by_rank[i] = 0;
    sy_block_sync(c);
    for (sy_u32 token = c->block; token <= a->tokens; token += c->blocks)
        if (!sy_ld_token(c, a, op, &sh, token, turn++))
            return;
}

/* --- receive -------------------------------------------------------------------------------- */

/* Waits for the announcement of rank p and checks it. */
SY_DEV int sy_ld_hear(struct sy_ctx *c, const struct sy_ldispatch_args *a, const struct sy_op *op,
                      sy_u32 p)
{
    const struct sy_dev *d = &a->d;
    const sy_u64 *from = sy_ld_words(a, d->heap) + (sy_u64)p * (SY_COUNT_HEAD + d->local_max);
    sy_u32 words = SY_COUNT_HEAD + d->local, wrong = 0;
    for (sy_u32 base = 0; base < words; base += SY_LANES) {
        sy_u32 i = base + c->lane, v = 0;
        if (!sy_wait_epoch(c, op, i < words ? from + i : 0, op->epoch, SY_FAULT_COUNT, p, &v))
            return 0;
        if (i < words && i == SY_COUNT_CHECK && v != a->check)
            wrong = SY_FAULT_CHECK;
        if (i < words && i == SY_COUNT_ROWS && v > a->r.tokens_limit)
            wrong = SY_FAULT_BYTES;
        if (i < words && i >= SY_COUNT_HEAD && v > a->r.tokens_limit * a->r.topk)
            wrong = SY_FAULT_BYTES;
        if (wrong)
            sy_raise(c, op, sy_missed(d, wrong, p, from + i));
    }
    return !sy_any(c, wrong != 0);
}

/* The local places of a row's selections become the route's. Returns how many ranks of the token
 * are below this one, with SY_ZERO_ROW if nothing of the row fits; *good: the tail is in order. */
SY_DEV sy_u32 sy_ld_selections(struct sy_ctx *c, const struct sy_ldispatch_args *a,
                               const sy_u32 *tail, sy_u32 source, sy_u32 nth, int *good)
{
    const struct sy_dev *d = &a->d;
    const sy_s32 *begin = (const sy_s32 *)SY_ROUTE_AT(&a->r, slab_begin);
    const sy_s32 *offset = (const sy_s32 *)SY_ROUTE_AT(&a->r, expert_offsets);
    sy_u32 order = source * d->lat_tokens_max + nth, K = a->r.topk, below = 0, fits = 0, wrong = 0;
    sy_s32 *sel = (sy_s32 *)SY_ROUTE_AT(&a->r, recv_sel) + (sy_u64)order * K;
    const sy_s32 *ids = (const sy_s32 *)tail + SY_TAIL_IDS;
    SY_FOR (k, c, K) {
        sy_s32 id = (sy_s32)sy_get32(ids + k), place = -1;
        if (id < -1 || id >= (sy_s32)d->experts) {
            wrong = 1;
        } else if (id >= 0 && d->owner[id] == d->rank) {
            sy_u32 e = (sy_u32)id - d->first, at = 0;
            if (sy_by_expert(a->r.layout)) {
                at = (sy_u32)begin[e * d->ranks + source] + sy_get32(ids + K + k);
                at += a->r.layout == SY_L_PACKED ? (sy_u32)offset[e] : 0;
            }
            place = at < a->r.capacity ? (sy_s32)at : -1;
            if (!sy_by_expert(a->r.layout))
                place = (sy_s32)e;
            else if (place >= 0 && a->r.layout == SY_L_SLABS)
                place += (sy_s32)(e * a->r.capacity);
            fits |= place >= 0;
        }
        sel[k] = place;
    }
    sy_warp_sync(c);
    SY_FOR (k, c, K) {
        sy_u32 id = sy_get32(ids + k);
        int first = id < d->experts && d->owner[id] < d->rank;
        for (sy_u32 i = 0; first && i < k; i++) {
            sy_u32 other = sy_get32(ids + i);
            first = other >= d->experts || d->owner[other] != d->owner[id];
        }
        below += (sy_u32)first;
    }
    *good = !sy_any(c, wrong != 0);
    fits = (sy_u32)sy_any(c, fits != 0);
    return sy_sum(c, below) | (fits ? 0 : SY_ZERO_ROW);
}

SY_DEV int sy_ld_row(struct sy_ctx *c, const struct sy_ldispatch_args *a, const struct sy_op *op,
                     sy_u32 source, sy_u32 nth)
{
    const struct sy_dev *d = &a->d;
    const sy_u32 *tail =
        (const sy_u32 *)(sy_ld_tails(a, d->heap, source) + (sy_u64)nth * a->tail_bytes);
    sy_u32 order = source * d->lat_tokens_max + nth, K = a->r.topk, fan_at;
    sy_u32 token = sy_get32(tail + SY_TAIL_TOKEN);
    struct sy_arrival row;
    int good;
    row.row = (sy_u32)((const sy_s32 *)SY_ROUTE_AT(&a->r, source_offsets))[source] + nth;
    fan_at = sy_ld_selections(c, a, tail, source, nth, &good);
    if (!good || token >= a->r.tokens_limit || (fan_at & ~SY_ZERO_ROW) >= a->r.fan) {
        if (c->lane == 0)
            sy_raise(c, op, sy_missed(d, SY_FAULT_BYTES, source, tail));
        return 0;
    }
    if (a->r.layout == SY_L_TOKEN && row.row >= a->r.capacity)
        fan_at |= SY_ZERO_ROW;
    if (a->r.layout == SY_L_RANK && nth >= a->r.capacity)
        fan_at |= SY_ZERO_ROW;
    if (c->lane == 0) {
        ((sy_u32 *)SY_ROUTE_AT(&a->r, recv_token))[order] = token;
        ((sy_u32 *)SY_ROUTE_AT(&a->r, recv_fan))[order] = fan_at;
    }
    if (fan_at & SY_ZERO_ROW || !a->out.work)
        return 1;
    row.sel = (const sy_s32 *)SY_ROUTE_AT(&a->r, recv_sel) + (sy_u64)order * K;
    row.x = sy_ld_rows(a, d->heap, source) + (sy_u64)nth * a->out.row_bytes;
    row.skip = a->out.direct ? row.row : SY_NOT_DELIVERED;
    row.weights = (const float *)(tail + SY_TAIL_IDS + 2 * K);
    row.scales = tail + SY_TAIL_SCALES(K);
    row.source = source;
    row.token = token;
    sy_place(c, d, &a->r, &a->out, &row);
    return 1;
}

/* Rows of all sources, one warp each, nearest source first. */
SY_DEV void sy_ld_take_rows(struct sy_ctx *c, const struct sy_ldispatch_args *a,
                            const struct sy_op *op, sy_u32 worker, sy_u32 workers)
{
    const struct sy_dev *d = &a->d;
    const sy_s32 *counts = (const sy_s32 *)SY_ROUTE_AT(&a->r, source_counts);
    const sy_u32 *arrive = (const sy_u32 *)SY_OWN(d, ld_arrive);
    for (sy_u32 i = 0; i < d->ranks; i++) {
        sy_u32 s = (d->rank + i) % d->ranks, n = (sy_u32)counts[s];
        if (n && !sy_wait_count(c, op, arrive + s, SY_COUNTER_BASE(op->epoch, SY_LD_AMOUNT(d)) + n,
                                SY_FAULT_ROWS, s))
            return;
        for (sy_u32 nth = (worker + workers - i % workers) % workers; nth < n; nth += workers)
            if (!sy_ld_row(c, a, op, s, nth))
                return;
    }
}

SY_DEV void sy_ld_run_receive(struct sy_ctx *c, const struct sy_ldispatch_args *a,
                              const struct sy_op *op)
{
    const struct sy_dev *d = &a->d;
    sy_u32 *counted = (sy_u32 *)SY_MINE(d, counted), *ready = (sy_u32 *)c->shared;
    sy_u32 worker = c->block * c->warps + c->warp, workers = c->blocks * c->warps;
    if (c->block == 0) {
        sy_block_sync(c); /* the send half is done with the word */
        if (c->warp == 0 && c->lane == 0)
            sy_store_shared(ready, 1u);
        sy_block_sync(c);
        for (sy_u32 p = c->warp; p < d->ranks; p += c->warps)
            if (!sy_ld_hear(c, a, op, p) && c->lane == 0)
                sy_store_shared(ready, 0u);
        sy_block_sync(c);
        if (!*ready)
            return;
        if (c->warp == 0) {
            sy_counts(c, d, &a->r, sy_ld_words(a, d->heap));
            sy_fence_device(c);
            if (sy_rows_suffice(c, op, &a->r, a->out.rows_have) && c->lane == 0)
                sy_store_word(counted, (sy_u32)op->epoch);
        }
    }
    if (!sy_wait_own(c, op, counted, (sy_u32)op->epoch))
        return;
    if (a->out.work)
        sy_fill(c, d, &a->r, &a->out, worker, workers);
    sy_ld_take_rows(c, a, op, worker, workers);
}

/* --- the kernel ----------------------------------------------------------------------------- */

SY_DEV void sy_ld_close(struct sy_ctx *c, const struct sy_ldispatch_args *a, const struct sy_op *op)
{
    const struct sy_dev *d = &a->d;
    const sy_s32 *counts = (const sy_s32 *)SY_ROUTE_AT(&a->r, source_counts);
    sy_u32 *arrive = (sy_u32 *)SY_OWN(d, ld_arrive);
    SY_FOR (s, c, a->receive ? d->ranks : 0) {
        sy_signal_add(arrive + s, SY_LD_AMOUNT(d) - (sy_u32)counts[s]);
    }
    if (a->send && c->lane == 0) {
        ((sy_u64 *)SY_MINE(d, last_use))[a->view] = op->epoch;
        *(sy_u64 *)SY_ROUTE_AT(&a->r, bad) = 0;
    }
    sy_op_close(c, op, (int)a->send, (int)a->receive);
}

SY_DEV void sy_k_ldispatch(struct sy_ctx *c, const struct sy_ldispatch_args *a)
{
    struct sy_op op = sy_op_begin(&a->d, SY_CH_LDISPATCH, (int)a->send);
    if (a->send)
        sy_ld_run_send(c, a, &op);
    if (a->receive)
        sy_ld_run_receive(c, a, &op);
    if (sy_op_leave(c, &op, (int)a->send))
        sy_ld_close(c, a, &op);
}

#endif
