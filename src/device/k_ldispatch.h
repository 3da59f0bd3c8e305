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

#include "fill.h"
#include "ids.h"
#include "quant.h"

#define SY_LD_AMOUNT(d) ((d)->lat_tokens_max) /* of ld_arrive per operation */

/* What a selection of the block's token is, in shared memory. */
struct sy_ld_pick {
    sy_s32 id;
    sy_u32 rank;   /* of the expert; ~0: none                             */
    sy_u32 fan_at; /* place of the rank among the token's; ~0: not first   */
    sy_u32 repeat; /* earlier selections of the same expert, in the token  */
};

/* The block's shared memory. */
struct sy_ld_shared {
    sy_u8 **peers;     /* [ranks]: heaps                              */
    sy_u32 *ready;     /* sending: peers are through with the view    */
    sy_u32 *all_heard; /* receiving: all announcements are good       */
    sy_u32 *fan;
    sy_u32 *gave_up; /* sending: a warp did not wait for the row */
    sy_gate *gate;
    sy_u32 *by_rank;         /* [ranks]: rows of the tokens so far          */
    sy_u32 *by_expert;       /* [experts]: selections of the tokens so far  */
    sy_u32 *sent;            /* [ranks]: rows that they have not been told of */
    sy_u32 *heard;           /* receiving: what all sources announced       */
    sy_u32 *offsets;         /* receiving: see fill.h; where sending had by_rank and by_expert */
    struct sy_ld_pick *pick; /* [K]                                         */
    struct sy_dst *dst;      /* [fan]: of the block's token                 */
    sy_u8 *tail;             /* what travels behind the row                 */
    sy_u8 *row;
    sy_u8 *copiers; /* receiving: for the warps that take rows */
};

SY_DEV struct sy_ld_shared sy_ld_carve(struct sy_ctx *c, const struct sy_ldispatch_args *a)
{
    const struct sy_dev *d = &a->d;
    struct sy_ld_shared sh;
    sy_u32 K = SY_TOPK(&a->r), fan = SY_FAN(&a->r);
    sh.ready = (sy_u32 *)c->shared;
    sh.all_heard = sh.ready + 1;
    sh.fan = sh.ready + 2;
    sh.gave_up = sh.ready + 3;
    sh.gate = (sy_gate *)(c->shared + 16);
    sh.peers = (sy_u8 **)(c->shared + SY_LD_SH_PEERS);
    sh.by_rank = (sy_u32 *)(c->shared + SY_LD_SH_COUNTERS(SY_RANKS(d)));
    sh.by_expert = sh.by_rank + SY_RANKS(d);
    sh.sent = sh.by_expert + d->experts;
    sh.heard = sh.sent + SY_RANKS(d);
    sh.offsets = sh.by_rank;
    sh.pick =
        (struct sy_ld_pick *)(c->shared + SY_LD_SH_LISTS(SY_RANKS(d), d->experts, d->local_max));
    sh.dst = (struct sy_dst *)(c->shared + SY_LD_SH_DST(SY_RANKS(d), d->experts, d->local_max, K));
    sh.tail = c->shared + SY_LD_SH_TAIL(SY_RANKS(d), d->experts, d->local_max, K, fan);
    sh.row = c->shared + SY_LD_SH_ROW(SY_RANKS(d), d->experts, d->local_max, K, fan, a->tail_bytes);
    sh.copiers = sh.row + SY_ALIGN_UP(SY_ROW_BYTES(&a->out), 128u);
    return sh;
}

/* Rows, or tails, of one source in a view of rank p. */
SY_DEV sy_u8 *sy_ld_rows(const struct sy_ldispatch_args *a, sy_u8 *heap, sy_u32 source)
{
    sy_u64 view = (sy_u64)a->view * SY_RANKS(&a->d) * a->d.lat_tokens_max * a->row_bytes_max;
    return heap + a->d.at.ld_rows + view +
           (sy_u64)source * a->d.lat_tokens_max * SY_ROW_BYTES(&a->out);
}
SY_DEV sy_u8 *sy_ld_tails(const struct sy_ldispatch_args *a, sy_u8 *heap, sy_u32 source)
{
    sy_u64 view = (sy_u64)a->view * SY_RANKS(&a->d) * a->d.lat_tokens_max * a->tail_bytes_max;
    return heap + a->d.at.ld_tail + view + (sy_u64)source * a->d.lat_tokens_max * a->tail_bytes;
}
SY_DEV sy_u64 *sy_ld_words(const struct sy_ldispatch_args *a, sy_u8 *heap)
{
    sy_u64 stride = SY_COUNT_HEAD + a->d.local_max;
    return (sy_u64 *)(heap + a->d.at.ld_count) + (sy_u64)a->view * SY_RANKS(&a->d) * stride;
}

/* --- send ----------------------------------------------------------------------------------- */

/* Where the token's ids are: in the caller's tensor, or kept by an earlier dispatch of the route.
 */
SY_DEV struct sy_dev_tensor sy_ld_ids(const struct sy_ldispatch_args *a)
{
    struct sy_dev_tensor t = a->ids;
    if (!t.data) {
        t.data = (sy_u8 *)SY_ROUTE_AT(&a->r, ids);
        t.stride0 = (sy_s64)SY_TOPK(&a->r) * 4;
        t.stride1 = 4;
        t.wide = 0;
    }
    return t;
}

/* The first ids that sy_ld_count() wants of the lane, asked for before there is anything to count
 * them with. Per lane. */
SY_DEV struct sy_raw_eight sy_ld_ask(struct sy_ctx *c, const struct sy_ldispatch_args *a,
                                     sy_u32 first, sy_u32 end)
{
    const struct sy_raw_eight none = {{0, 0, 0, 0, 0, 0, 0, 0}};
    struct sy_dev_tensor ids = sy_ld_ids(a);
    sy_u32 t = first + c->warp * SY_LANES + c->lane;
    return t < end ? sy_ask_eight(&a->r, &ids, t, 0) : none;
}

/* Adds tokens [first, end) to the block's counters: all warps, a lane per token. */
SY_DEV void sy_ld_count(struct sy_ctx *c, const struct sy_ldispatch_args *a,
                        struct sy_ld_shared *sh, sy_u32 first, sy_u32 end, struct sy_raw_eight raw)
{
    sy_u32 K = SY_TOPK(&a->r), step = c->warps * SY_LANES;
    sy_u32 mine = first + c->warp * SY_LANES + c->lane;
    struct sy_dev_tensor ids = sy_ld_ids(a);
    for (sy_u32 t = mine; t < end; t += step)
        for (sy_u32 base = 0; base < SY_RANKS(&a->d); base += 32) {
            sy_u32 ranks = 0;
            for (sy_u32 k = 0; k < K; k += 8) {
                if (t != mine || base || k)
                    raw = sy_ask_eight(&a->r, &ids, t, k);
                struct sy_eight e = sy_eight_of(&a->d, &a->r, &raw, t, k);
                SY_UNROLL(8)
                for (sy_u32 i = 0; i < 8; i++) {
                    if (base == 0 && e.id[i] >= 0)
                        sy_add(sh->by_expert + e.id[i], 1u);
                    if (e.rank[i] - base < 32u)
                        ranks |= 1u << (e.rank[i] - base);
                }
            }
            for (; ranks; ranks &= ranks - 1)
                sy_add(sh->by_rank + base + sy_lowest(ranks), 1u);
        }
}

/* The token's selections, as far as they follow from the token alone. By one warp. */
SY_DEV void sy_ld_pick(struct sy_ctx *c, const struct sy_ldispatch_args *a, struct sy_ld_shared *sh,
                       sy_u32 token)
{
    sy_u32 K = SY_TOPK(&a->r), heads = 0;
    sy_s32 *keep = (sy_s32 *)SY_ROUTE_AT(&a->r, ids) + (sy_u64)token * K;
    sy_u32 *tail = (sy_u32 *)sh->tail;
    struct sy_dev_tensor ids = sy_ld_ids(a);
    SY_FOR (k, c, K) {
        sy_s32 id = sy_read_id(&a->d, &a->r, &ids, token, k);
        sh->pick[k].id = id;
        sh->pick[k].rank = id < 0 ? ~0u : sy_owner(&a->d, id);
        if (a->ids.data) /* else it is there, and other blocks read it */
            keep[k] = id;
        tail[SY_TAIL_IDS + k] = (sy_u32)id;
    }
    sy_warp_sync(c);
    SY_FOR (k, c, K) {
        sy_u32 first = sh->pick[k].id >= 0, repeat = 0;
        SY_UNROLL(8)
        for (sy_u32 i = 0; i < K; i++) {
            first &= i >= k || sh->pick[i].rank != sh->pick[k].rank;
            repeat += i < k && sh->pick[i].id == sh->pick[k].id;
        }
        sh->pick[k].repeat = repeat;
        sh->pick[k].fan_at = first ? 0 : ~0u;
        heads += first;
    }
    sy_warp_sync(c);
    SY_FOR (k, c, K) {
        sy_u32 below = 0;
        SY_UNROLL(8)
        for (sy_u32 i = 0; i < K; i++)
            below += sh->pick[i].fan_at != ~0u && sh->pick[i].rank < sh->pick[k].rank;
        if (sh->pick[k].fan_at != ~0u)
            sh->pick[k].fan_at = below;
    }
    heads = sy_sum(c, heads);
    if (c->lane == 0) {
        tail[SY_TAIL_TOKEN] = token;
        tail[1] = tail[2] = tail[3] = 0;
        *sh->fan = ((sy_u32 *)SY_ROUTE_AT(&a->r, fan))[token] = heads;
    }
}

/* The token's destinations, now that the tokens before it are counted. Every sending warp takes
 * down those that it sends to, which begin at `shift`; the first one keeps all for the route. */
SY_DEV void sy_ld_route(struct sy_ctx *c, const struct sy_ldispatch_args *a,
                        struct sy_ld_shared *sh, sy_u32 token, sy_u32 fan, sy_u32 shift)
{
    const struct sy_dev *d = &a->d;
    struct sy_dst *keep = (struct sy_dst *)SY_ROUTE_AT(&a->r, dst) + (sy_u64)token * SY_FAN(&a->r);
    sy_u32 *ordinals = (sy_u32 *)sh->tail + SY_TAIL_IDS + SY_TOPK(&a->r);
    SY_FOR (k, c, SY_TOPK(&a->r)) {
        const struct sy_ld_pick *pick = sh->pick + k;
        struct sy_dst to;
        sy_u32 i = pick->fan_at < shift ? pick->fan_at + fan - shift : pick->fan_at - shift;
        ordinals[k] = pick->id < 0 ? 0 : sh->by_expert[pick->id] + pick->repeat;
        if (pick->fan_at == ~0u)
            continue;
        to.rank = pick->rank;
        to.nth = sh->by_rank[to.rank];
        if (SY_PLANT(ATOMIC_SLOTS))
            to.nth = sy_add((sy_u32 *)SY_MINE(d, source_ticket) + to.rank, 1u);
        to.row = to.order = d->rank * d->lat_tokens_max + to.nth;
        if ((i < c->warps ? i : i % c->warps) == c->warp)
            sh->dst[pick->fan_at] = to;
        if (c->warp)
            continue;
        keep[pick->fan_at] = to;
        sy_add(sh->sent + to.rank, 1u);
    }
    sy_fence_bulk(c);
    sy_warp_sync(c);
}

/* Weights and scales behind the ids. All warps but the first, which has the ids; quantisation has
 * written its scales itself. */
SY_DEV void sy_ld_tail(struct sy_ctx *c, const struct sy_ldispatch_args *a, struct sy_ld_shared *sh,
                       sy_u32 token)
{
    sy_u32 K = SY_TOPK(&a->r), skip = c->warps > 1, step = (c->warps - skip) * SY_LANES;
    sy_u32 first = (c->warp - skip) * SY_LANES + c->lane;
    struct sy_dev_tensor ids = sy_ld_ids(a);
    float *weights = (float *)sh->tail + SY_TAIL_IDS + 2 * K;
    sy_u32 *scales = (sy_u32 *)sh->tail + SY_TAIL_SCALES(K);
    for (sy_u32 k = first; k < K; k += step) {
        sy_s32 id = a->probs.data ? sy_read_id(&a->d, &a->r, &ids, token, k) : -1;
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
    const sy_u8 *row = SY_QUANT(a) ? sh->row : SY_STAGED(sh->row, sy_out_at(&a->x, token));
    sy_u32 fan = *sh->fan, shift = fan ? (d->rank + token) % fan : 0;
    if (c->warp < fan || c->warp == 0)
        sy_ld_route(c, a, sh, token, fan, shift);
    for (sy_u32 i = c->warp; i < fan; i += c->warps) {
        const struct sy_dst *to = sh->dst + (i + shift < fan ? i + shift : i + shift - fan);
        sy_u8 *heap = sh->peers[to->rank];
        sy_store_bulk(c, sy_ld_rows(a, heap, d->rank) + (sy_u64)to->nth * SY_ROW_BYTES(&a->out),
                      row, SY_ROW_BYTES(&a->out));
        sy_store_bulk(c, sy_ld_tails(a, heap, d->rank) + (sy_u64)to->nth * a->tail_bytes, sh->tail,
                      a->tail_bytes);
        sy_store_commit(c);
    }
}

/* So many tokens of a block at most are told together: a fence waits until all that was sent has
 * arrived, and the next token should not wait for that. */
#define SY_LD_TOGETHER 2u

/* Tells the ranks of the rows that have been sent. All warps. */
SY_DEV void sy_ld_told(struct sy_ctx *c, const struct sy_ldispatch_args *a, struct sy_ld_shared *sh)
{
    SY_STORE_WAIT_DONE(c, 0);
    sy_block_sync(c);
    if (c->warp || *sh->gave_up)
        return;
    sy_fence_publish(c);
    SY_FOR (p, c, SY_RANKS(&a->d)) {
        if (sh->sent[p])
            sy_signal_add((sy_u32 *)SY_AT(&a->d, sh->peers[p], ld_arrive) + a->d.rank, sh->sent[p]);
        sh->sent[p] = 0;
    }
    sy_warp_sync(c);
}

/* What this rank sends, to every rank. All warps of the block that has counted all tokens. */
SY_DEV void sy_ld_tell(struct sy_ctx *c, const struct sy_ldispatch_args *a, const struct sy_op *op,
                       struct sy_ld_shared *sh)
{
    const struct sy_dev *d = &a->d;
    /* This block has entered all there is; others may still enter the same. */
    sy_u64 bad = sy_glance64((const sy_u64 *)SY_ROUTE_AT(&a->r, bad));
    for (sy_u32 i = c->warp; i < SY_RANKS(d); i += c->warps) {
        sy_u32 p = (d->rank + i) % SY_RANKS(d), first = d->firsts[p];
        sy_u64 *to = sy_ld_words(a, sh->peers[p]);
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
    const struct sy_start *start;
    sy_u64 begun = ((const sy_u64 *)SY_MINE(d, last_use))[a->view] + 1;
    begun = begun > op->epoch - 1 ? begun : op->epoch - 1;
    start = sy_starts(d, op->channel, begun);
    for (sy_u32 base = 0; begun > 0 && base < SY_RANKS(d); base += SY_LANES) {
        sy_u32 p = base + c->lane, ignore = 0;
        if (!sy_wait_epoch(c, op, p < SY_RANKS(d) ? &start[p].value : 0, begun, SY_FAULT_START, p,
                           &ignore))
            return 0;
    }
    return 1;
}

/* The warp that begins to load rows: not the first, which has the longest way, and none that waits
 * for memory before (sy_ld_begin). */
SY_DEV sy_u32 sy_ld_loader(const struct sy_ctx *c)
{
    return c->warps > 2 ? c->warps - 2 : 0;
}

/* Begins to bring the token's row into shared memory. */
SY_DEV void sy_ld_load(struct sy_ctx *c, const struct sy_ldispatch_args *a, struct sy_ld_shared *sh,
                       sy_u32 token)
{
    if (SY_QUANT(a))
        return;
    sy_load_expect(c, sh->gate, SY_ROW_BYTES(&a->out));
    sy_load_bulk(c, sh->gate, sh->row, sy_out_at(&a->x, token), SY_ROW_BYTES(&a->out));
}

/* All of a token that follows from the token alone. */
SY_DEV void sy_ld_prepare(struct sy_ctx *c, const struct sy_ldispatch_args *a,
                          struct sy_ld_shared *sh, sy_u32 token)
{
    if (token >= a->tokens)
        return;
    if (c->warp == sy_ld_loader(c))
        sy_ld_load(c, a, sh, token);
    if (c->warp == 0)
        sy_ld_pick(c, a, sh, token);
    if (c->warp || c->warps == 1)
        sy_ld_tail(c, a, sh, token);
    if (SY_QUANT(a))
        sy_quant_row(c, sy_out_at(&a->x, token), sh->row,
                     sh->tail + SY_TAIL_SCALES(SY_TOPK(&a->r)) * 4u, a->hidden, SY_QUANT(a),
                     (c->warp * SY_LANES + c->lane) / SY_MAX_LANES,
                     c->warps * SY_LANES / SY_MAX_LANES, 2);
    sy_fence_bulk(c);
}

/* One prepared token, or one past the last: the counts. Returns 0 when the group is lost. */
SY_DEV int sy_ld_token(struct sy_ctx *c, const struct sy_ldispatch_args *a, const struct sy_op *op,
                       struct sy_ld_shared *sh, sy_u32 token, sy_u32 turn,
                       struct sy_raw_eight ahead)
{
    sy_ld_count(c, a, sh, turn ? token - c->blocks : 0, token, ahead);
    sy_block_sync(c);
    if (!*sh->ready) {
        if (!SY_QUANT(a) && token < a->tokens)
            sy_wait_load(c, op, sh->gate, turn & 1u); /* it has begun, and ends before its block */
        return 0;
    }
    if (token == a->tokens) {
        sy_ld_tell(c, a, op, sh);
        return 1;
    }
    int there = SY_QUANT(a) || sy_wait_load(c, op, sh->gate, turn & 1u);
    if (there)
        sy_ld_send(c, a, sh, token);
    else if (c->lane == 0)
        sy_store_shared(sh->gave_up, 1u);
    return 1;
}

/* What the block's first token does not depend on, shared out so that the first warp, which has the
 * longest way, has none of it. */
SY_DEV void sy_ld_begin(struct sy_ctx *c, const struct sy_ldispatch_args *a, const struct sy_op *op,
                        struct sy_ld_shared *sh)
{
    sy_u32 counters = 2 * SY_RANKS(&a->d) + a->d.experts, helpers = c->warps > 1 ? c->warps - 1 : 1;
    sy_u32 helper = (c->warps > 1 ? c->warp - 1 : 0) * SY_LANES + c->lane;
    if (c->warp == sy_ld_loader(c))
        sy_gate_init(c, sh->gate);
    if (c->warp == 0 && c->warps > 1)
        return;
    for (sy_u32 p = helper; p < SY_RANKS(&a->d); p += helpers * SY_LANES)
        sh->peers[p] = a->d.peers[p];
    for (sy_u32 i = helper; i < counters; i += helpers * SY_LANES)
        sh->by_rank[i] = 0;
    if (helper == 0) {
        *sh->all_heard = 1;
        *sh->gave_up = 0;
    }
    if (c->block == 0 && c->warp == (c->warps > 1))
        sy_op_start(c, op, sy_peer_of_lane(c, &a->d), 1u, a->check);
    if (c->warp == c->warps - 1) {
        /* Asked for ahead. What kernels that left early have not sent must not seem to have
         * come. */
        sy_u32 stop = sy_glance((const sy_u32 *)SY_OWN(&a->d, stop));
        int go = sy_ld_free(c, a, op) && !(stop && sy_lost(c, &a->d));
        if (c->lane == 0)
            *sh->ready = (sy_u32)go;
    }
}

SY_DEV void sy_ld_run_send(struct sy_ctx *c, const struct sy_ldispatch_args *a,
                           const struct sy_op *op, struct sy_ld_shared *sh)
{
    sy_u32 turn = 0, untold = 0;
    struct sy_raw_eight ahead;
    sy_ld_begin(c, a, op, sh);
    if (c->block > a->tokens)
        sy_block_sync(c);
    for (sy_u32 token = c->block; token <= a->tokens; token += c->blocks) {
        if (turn) { /* the last token's stores have left the stage */
            SY_STORE_WAIT_READ(c, 0);
            sy_block_sync(c);
            if (*sh->gave_up)
                return; /* its load is still on its way: the gate must not be used again */
        }
        ahead = sy_ld_ask(c, a, turn ? token - c->blocks : 0, token);
        sy_ld_prepare(c, a, sh, token);
        sy_block_sync(c);
        if (!sy_ld_token(c, a, op, sh, token, turn++, ahead))
            return;
        if (token < a->tokens && (++untold == SY_LD_TOGETHER || token + c->blocks >= a->tokens)) {
            sy_ld_told(c, a, sh);
            untold = 0;
        }
    }
}

/* --- receive -------------------------------------------------------------------------------- */

/* The ranks of the token, whose ids are in the tail, that are below this one: as bits those of
 * [base, base + 32). Per lane. */
SY_DEV sy_u32 sy_ld_lower(const struct sy_ldispatch_args *a, sy_u32 id, sy_u32 base)
{
    sy_u32 rank = id < a->d.experts ? sy_owner(&a->d, (sy_s32)id) : ~0u;
    return rank < a->d.rank && rank - base < 32u ? 1u << (rank - base) : 0;
}

/* The place of selection k, an id of the tail, in this rank's layout: local expert or row; -1: not
 * here, or dropped. Per lane. */
SY_DEV sy_s32 sy_ld_place(const struct sy_ldispatch_args *a, const struct sy_ld_shared *sh,
                          sy_u32 id, sy_u32 source, sy_u32 nth)
{
    const struct sy_dev *d = &a->d;
    sy_u32 e = id - d->first, at;
    if (e >= d->local)
        return -1;
    if (!sy_by_expert(SY_LAYOUT(&a->r)))
        return (sy_s32)e;
    at = sy_heard_below(d, sh->heard, e, source) + nth;
    at += SY_LAYOUT(&a->r) == SY_L_PACKED ? sh->offsets[e] : 0;
    if (at >= a->r.capacity)
        return -1;
    return (sy_s32)(SY_LAYOUT(&a->r) == SY_L_SLABS ? e * a->r.capacity + at : at);
}

/* The places of a row's selections become the route's. Returns the place of this rank among the
 * token's, with SY_ZERO_ROW if nothing of the row fits; *good: the tail is in order. */
SY_DEV sy_u32 sy_ld_selections(struct sy_ctx *c, const struct sy_ldispatch_args *a,
                               const struct sy_ld_shared *sh, const sy_u32 *tail, sy_u32 source,
                               sy_u32 nth, int *good)
{
    const struct sy_dev *d = &a->d;
    sy_u32 order = source * d->lat_tokens_max + nth, K = SY_TOPK(&a->r), fits = 0, wrong = 0,
           lower = 0;
    sy_s32 *sel = (sy_s32 *)SY_ROUTE_AT(&a->r, recv_sel) + (sy_u64)order * K;
    const sy_s32 *ids = (const sy_s32 *)tail + SY_TAIL_IDS;
    SY_FOR (k, c, K) {
        sy_u32 id = sy_get32(ids + k), ordinal = sy_get32(ids + K + k);
        sy_s32 place = sy_ld_place(a, sh, id, source, ordinal);
        wrong |= id >= d->experts && id != ~0u;
        fits |= place >= 0;
        lower |= sy_ld_lower(a, id, 0);
        sel[k] = place;
    }
    sy_u32 below = sy_ones(sy_or(c, lower));
    for (sy_u32 base = 32; base < d->rank; base += 32) {
        lower = 0;
        SY_FOR (k, c, K) {
            lower |= sy_ld_lower(a, sy_get32(ids + k), base);
        }
        below += sy_ones(sy_or(c, lower));
    }
    sy_warp_sync(c);
    *good = !sy_any(c, wrong != 0);
    return below | (sy_any(c, fits != 0) ? 0 : SY_ZERO_ROW);
}

/* One row; `place`: its row in the layouts by token. */
SY_DEV int sy_ld_row(struct sy_ctx *c, const struct sy_ldispatch_args *a, const struct sy_op *op,
                     const struct sy_ld_shared *sh, struct sy_copier *p, sy_u32 source, sy_u32 nth,
                     sy_u32 place)
{
    const struct sy_dev *d = &a->d;
    const sy_u32 *tail =
        (const sy_u32 *)(sy_ld_tails(a, d->heap, source) + (sy_u64)nth * a->tail_bytes);
    sy_u32 order = source * d->lat_tokens_max + nth, K = SY_TOPK(&a->r), fan_at;
    sy_u32 token = sy_get32(tail + SY_TAIL_TOKEN);
    struct sy_arrival row;
    int good;
    row.row = place;
    fan_at = sy_ld_selections(c, a, sh, tail, source, nth, &good);
    if (!good || token >= a->r.tokens_limit || (fan_at & ~SY_ZERO_ROW) >= SY_FAN(&a->r)) {
        if (c->lane == 0)
            sy_raise(c, op, sy_missed(d, SY_FAULT_BYTES, source, tail));
        return 0;
    }
    if (SY_LAYOUT(&a->r) == SY_L_TOKEN && row.row >= a->r.capacity)
        fan_at |= SY_ZERO_ROW;
    if (SY_LAYOUT(&a->r) == SY_L_RANK && nth >= a->r.capacity)
        fan_at |= SY_ZERO_ROW;
    if (c->lane == 0) {
        ((sy_u32 *)SY_ROUTE_AT(&a->r, recv_token))[order] = token;
        ((sy_u32 *)SY_ROUTE_AT(&a->r, recv_fan))[order] = fan_at;
    }
    if (fan_at & SY_ZERO_ROW || !SY_WORK(&a->out))
        return 1;
    row.sel = (const sy_s32 *)SY_ROUTE_AT(&a->r, recv_sel) + (sy_u64)order * K;
    row.x = sy_ld_rows(a, d->heap, source) + (sy_u64)nth * SY_ROW_BYTES(&a->out);
    row.skip = a->out.direct ? row.row : SY_NOT_DELIVERED;
    row.weights = (const float *)(tail + SY_TAIL_IDS + 2 * K);
    row.scales = tail + SY_TAIL_SCALES(K);
    row.source = source;
    row.token = token;
    row.mine = -1;
    row.weight = 0;
    if (sy_by_expert(SY_LAYOUT(&a->r)))
        sy_arrival_ask(c, &a->out, &row, K);
    return sy_place(c, d, &a->r, &a->out, &row, p);
}

/* The u-th row of all, counted from this rank's own on: its source and number, and its place in the
 * layouts by token. 0: there are not so many. */
SY_DEV int sy_ld_find(const struct sy_ldispatch_args *a, const sy_u32 *heard, sy_u32 u,
                      sy_u32 *source, sy_u32 *nth, sy_u32 *place)
{
    const struct sy_dev *d = &a->d;
    sy_u32 before = 0;
    for (sy_u32 i = 0; i < SY_RANKS(d); i++) {
        sy_u32 s = d->rank + i < SY_RANKS(d) ? d->rank + i : d->rank + i - SY_RANKS(d);
        sy_u32 n = sy_announced(d, heard, s, SY_COUNT_ROWS);
        if (u >= n) {
            u -= n;
            continue;
        }
        for (sy_u32 p = 0; SY_LAYOUT(&a->r) == SY_L_TOKEN && p < s; p++)
            before += sy_announced(d, heard, p, SY_COUNT_ROWS);
        *source = s;
        *nth = u;
        *place = (SY_LAYOUT(&a->r) == SY_L_RANK ? s * a->r.capacity : before) + u;
        return 1;
    }
    return 0;
}

/* Rows of all sources, one warp each. */
SY_DEV void sy_ld_take_rows(struct sy_ctx *c, const struct sy_ldispatch_args *a,
                            const struct sy_op *op, const struct sy_ld_shared *sh,
                            struct sy_copier *p, sy_u32 worker, sy_u32 workers)
{
    const struct sy_dev *d = &a->d;
    const sy_u32 *arrive = (const sy_u32 *)SY_OWN(d, ld_arrive);
    sy_u32 source, nth, place;
    for (sy_u32 u = worker; sy_ld_find(a, sh->heard, u, &source, &nth, &place); u += workers) {
        sy_u32 n = sy_announced(d, sh->heard, source, SY_COUNT_ROWS);
        if (!sy_wait_count(c, op, arrive + source, SY_COUNTER_BASE(op->epoch, SY_LD_AMOUNT(d)) + n,
                           SY_FAULT_ROWS, source))
            return;
        if (p->slots)
            sy_fence_loads(c);
        if (!sy_ld_row(c, a, op, sh, p, source, nth, place))
            return;
    }
}

/* Every block hears all sources for itself, by the warps that send least. 0: leave, the same for
 * all warps of a block. */
SY_DEV int sy_ld_hear(struct sy_ctx *c, const struct sy_ldispatch_args *a, const struct sy_op *op,
                      struct sy_ld_shared *sh)
{
    sy_u32 senders = c->warps / 2;
    struct sy_told told = sy_told_here(&a->d, sy_ld_words(a, a->d.heap));
    if (!a->send) {
        if (c->warp == 0 && c->lane == 0)
            *sh->all_heard = 1;
        sy_block_sync(c);
    }
    if (c->warp >= senders &&
        !sy_hear(c, op, &a->r, &told, a->check, sh->heard, c->warp - senders, c->warps - senders) &&
        c->lane == 0)
        sy_store_shared(sh->all_heard, 0u);
    sy_block_sync(c);
    return (int)*sh->all_heard;
}

/* Have the caller's tensors room for what comes? */
SY_DEV int sy_ld_room(struct sy_ctx *c, const struct sy_ldispatch_args *a, const struct sy_op *op,
                      const struct sy_brought *b)
{
    sy_u32 rows = 0;
    if (SY_LAYOUT(&a->r) == SY_L_TOKEN)
        rows = sy_brought_tokens(&a->d, &a->r, b);
    else if (SY_LAYOUT(&a->r) == SY_L_PACKED)
        rows = sy_brought_at(&a->r, b, a->d.local);
    return sy_rows_suffice(c, op, &a->r, rows, a->out.rows_have);
}

/* Each block works out for itself where rows go; the route's tables, which are for the host and for
 * later operations, are made by a warp that seldom has a row. */
SY_DEV void sy_ld_run_receive(struct sy_ctx *c, const struct sy_ldispatch_args *a,
                              const struct sy_op *op, struct sy_ld_shared *sh)
{
    const struct sy_dev *d = &a->d;
    sy_u32 takers = a->s.finishers, spare = c->warps - takers; /* these fill, if there are any */
    const struct sy_brought brought = {sh->heard, sh->offsets};
    struct sy_copier copier;
    if (!sy_ld_hear(c, a, op, sh))
        return;
    if (SY_LAYOUT(&a->r) == SY_L_PACKED) {
        if (c->warp == 0)
            sy_heard_offsets(c, d, &a->r, sh->heard, sh->offsets);
        sy_block_sync(c);
    }
    if (c->block == c->blocks - 1 && c->warp == c->warps - 1)
        sy_counts(c, d, &a->r, sh->heard, (int)a->again);
    if (!sy_ld_room(c, a, op, &brought))
        return;
    if (SY_WORK(&a->out) && (!spare || c->warp >= takers))
        sy_fill(c, d, &a->r, &a->out, &brought,
                (c->warp - (spare ? takers : 0)) * c->blocks + c->block,
                c->blocks * (spare ? spare : takers));
    if (c->warp < takers) { /* few rows use all blocks */
        copier = sy_copier_make(c, op, sh->copiers + (sy_u64)c->warp * a->s.copier_bytes,
                                a->s.copier_bytes, SY_TOPK(&a->r));
        sy_ld_take_rows(c, a, op, sh, &copier, c->warp * c->blocks + c->block, c->blocks * takers);
        sy_copier_end(c, &copier, &a->out.x);
    }
}

/* --- the kernel ----------------------------------------------------------------------------- */

SY_DEV void sy_ld_close(struct sy_ctx *c, const struct sy_ldispatch_args *a, const struct sy_op *op,
                        const sy_u32 *heard)
{
    const struct sy_dev *d = &a->d;
    sy_u32 *arrive = (sy_u32 *)SY_OWN(d, ld_arrive);
    SY_FOR (s, c, a->receive ? SY_RANKS(d) : 0)
        sy_signal_add(arrive + s, SY_LD_AMOUNT(d) - sy_announced(d, heard, s, SY_COUNT_ROWS));
    if (a->send && c->lane == 0) {
        ((sy_u64 *)SY_MINE(d, last_use))[a->view] = op->epoch;
        *(sy_u64 *)SY_ROUTE_AT(&a->r, bad) = 0;
    }
    sy_op_close(c, op, (int)a->send, (int)a->receive);
}

SY_DEV void sy_k_ldispatch(struct sy_ctx *c, const struct sy_ldispatch_args *a)
{
    struct sy_op op = sy_op_begin(&a->d, SY_CH_LDISPATCH, (int)a->send);
    struct sy_ld_shared sh = sy_ld_carve(c, a);
    if (a->send)
        sy_ld_run_send(c, a, &op, &sh);
    if (a->receive)
        sy_ld_run_receive(c, a, &op, &sh);
    SY_STORE_WAIT_READ(c, 0);
    if (sy_op_leave(c, &op, (int)a->send)) {
        sy_ld_close(c, a, &op, sh.heard);
    }
}

#endif
