/* k_tdispatch.h - dispatch in throughput mode.
 *
 * The route knows every row's place, so a row goes straight there: loaded once, stored to each of
 * its ranks. Roles of a block's warps:
 *
 *   pusher     takes parts of tokens' rows by ticket, loads one into a stage, stores it to all
 *              destinations in pieces, and passes the token on when its stores are done;
 *   signaller  adds to the receivers' counters, one fence for all pushers of the block;
 *   finisher   waits for chunks of rows from each source and makes the outputs (outputs.h).
 *
 * Who writes what: pusher of s: td_rows / sy_alloc memory of p at the places that p gave s in the
 * route, td_side of p at s's orders. Not before p has begun (start word), which p does when it is
 * through with what lay there. Signals: td_arrive[s][chunk of p's rows from s]. */
#ifndef SY_DEVICE_K_TDISPATCH_H
#define SY_DEVICE_K_TDISPATCH_H

#include "fill.h"
#include "pipe.h"
#include "quant.h"

#define SY_TD_AMOUNT (SY_CHUNK_ROWS * SY_PARTS_MAX) /* of td_arrive per operation */

/* --- pusher --------------------------------------------------------------------------------- */

/* Where that of a row's side begins which travels with a part of the row: the scales that are made
 * of it, and with the last part all that is left. Multiples of 16 (SY_Q_UNIT). */
SY_DEV sy_u32 sy_td_side_at(const struct sy_tdispatch_args *a, sy_u32 part)
{
    if (part >= a->s.parts)
        return a->side_bytes;
    return SY_QUANT(a) ? part * (a->s.part_bytes / SY_Q_BLOCK * SY_Q_SCALE_BYTES(SY_QUANT(a))) : 0;
}

/* Begins to load what ticket `item` needs into a stage. */
SY_DEV void sy_td_fetch(struct sy_ctx *c, const struct sy_tdispatch_args *a, struct sy_pipe *p,
                        sy_u32 n, sy_u32 item)
{
    struct sy_stage *s = sy_stage_at(p, n);
    sy_u32 token = sy_quotient(item, a->s.by_parts), part = item - token * a->s.parts;
    sy_u32 fan_bytes = SY_FAN(&a->r) * 16u;
    sy_u32 wide = SY_QUANT(a) ? 2u : 1u; /* bytes loaded per byte that travels */
    sy_u32 from = part * a->s.part_bytes;
    sy_u32 bytes = sy_min_u32(a->s.part_bytes, SY_ROW_BYTES(&a->out) - from);
    sy_u32 bulk = part + 1 == a->s.parts ? a->side_bulk : 0, weights_at = a->out.scale_words * 4u;
    const struct sy_dst *dst = (const struct sy_dst *)SY_ROUTE_AT(&a->r, dst);
    if (c->lane == 0) {
        s->token = token;
        s->part = part;
        s->bytes = bytes;
    }
    sy_load_expect(c, &s->gate,
                   bytes * wide + fan_bytes + (bulk & 1u ? a->out.scale_words * 4u : 0) +
                       (bulk & 2u ? SY_TOPK(&a->r) * 4u : 0));
    sy_load_bulk(c, &s->gate, sy_stage_body(p, s), sy_out_at(&a->x, token) + from * wide,
                 bytes * wide);
    sy_load_bulk(c, &s->gate, sy_stage_dst(s), dst + (sy_u64)token * SY_FAN(&a->r), fan_bytes);
    if (bulk & 1u)
        sy_load_bulk(c, &s->gate, sy_stage_side(p, s), sy_out_at(&a->scales, token),
                     a->out.scale_words * 4u);
    if (bulk & 2u)
        sy_load_bulk(c, &s->gate, sy_stage_side(p, s) + weights_at, sy_out_at(&a->weights, token),
                     SY_TOPK(&a->r) * 4u);
}

/* The parts of a token's side that could not be loaded in bulk. */
SY_DEV void sy_td_side(struct sy_ctx *c, const struct sy_tdispatch_args *a, sy_u8 *side,
                       sy_u32 token)
{
    float *weights = (float *)(side + a->out.scale_words * 4u);
    if (!(a->side_bulk & 1u) && a->scales.data)
        SY_FOR (i, c, a->out.scale_words) {
            ((sy_u32 *)side)[i] =
                *(const sy_u32 *)(sy_out_at(&a->scales, token) + (sy_s64)i * a->scales.stride1);
        }
    if (!(a->side_bulk & 2u) && a->weights.data)
        SY_FOR (k, c, SY_TOPK(&a->r)) {
            weights[k] =
                *(const float *)(sy_out_at(&a->weights, token) + (sy_s64)k * a->weights.stride1);
        }
    if (a->probs.data) {
        const sy_s32 *ids =
            (const sy_s32 *)SY_ROUTE_AT(&a->r, ids) + (sy_u64)token * SY_TOPK(&a->r);
        SY_FOR (k, c, SY_TOPK(&a->r)) {
            sy_s64 at = (sy_s64)ids[k] * a->probs.stride1;
            weights[k] = ids[k] < 0 ? 0.0f : *(const float *)(sy_out_at(&a->probs, token) + at);
        }
    }
}

/* What a stage holds once its load is there: where the row's bytes are, ready to be stored. */
SY_DEV const sy_u8 *sy_td_prepare(struct sy_ctx *c, const struct sy_tdispatch_args *a,
                                  struct sy_pipe *p, struct sy_stage *s)
{
    sy_u32 wide = SY_QUANT(a) ? 2u : 1u;
    const sy_u8 *source = sy_out_at(&a->x, s->token) + s->part * a->s.part_bytes * wide;
    const sy_u8 *row = SY_STAGED(sy_stage_body(p, s), source);
    sy_u8 *side = sy_stage_side(p, s);
    int last = s->part + 1 == a->s.parts;
    if (SY_QUANT(a)) {
        sy_u8 *to = sy_stage_body(p, s); /* in place: what is read is ahead of what is written */
        sy_quant_row(c, row, to, side + sy_td_side_at(a, s->part), s->bytes, SY_QUANT(a),
                     c->lane / SY_MAX_LANES, SY_LANES / SY_MAX_LANES, SY_Q_TURNS);
        sy_fence_bulk(c);
        row = to;
    }
    if (a->side_lanes && last)
        sy_td_side(c, a, side, s->token);
    if (SY_QUANT(a) || (a->side_lanes && last))
        sy_warp_sync(c);
    return row;
}

/* Scales and weights to all ranks of a token: too small for bulk stores. As many lanes for each
 * rank as often have 16 bytes each. */
SY_DEV void sy_td_send_side(struct sy_ctx *c, const struct sy_tdispatch_args *a,
                            const struct sy_pipe *p, const struct sy_dst *dst, sy_u32 fan,
                            const sy_u8 *side, sy_u32 part)
{
    sy_u32 width = sy_min_u32(SY_LANES, 16u), end = sy_td_side_at(a, part + 1);
    for (sy_u32 j = c->lane / width; j < fan; j += SY_LANES / width) {
        sy_u8 *to = p->target[dst[j].rank].side + (sy_u64)dst[j].order * a->side_bytes;
        for (sy_u32 at = sy_td_side_at(a, part) + c->lane % width * 16u; at < end;
             at += width * 16u)
            sy_put16(to + at, sy_own16(side + at));
    }
}

/* Stores a loaded part to all its ranks. Pieces outside, ranks inside, from the own rank on: at any
 * time the warps of all ranks spread over all links. */
SY_DEV void sy_td_send(struct sy_ctx *c, const struct sy_tdispatch_args *a, struct sy_pipe *p,
                       struct sy_stage *s, const sy_u8 *row)
{
    const struct sy_dst *dst = (const struct sy_dst *)SY_STAGED(
        sy_stage_dst(s),
        (const struct sy_dst *)SY_ROUTE_AT(&a->r, dst) + (sy_u64)s->token * SY_FAN(&a->r));
    sy_u32 fan = 0, first = s->part * a->s.part_bytes, begin = 0, all = s->bytes;
    for (sy_u32 base = 0; base < SY_FAN(&a->r); base += SY_LANES) {
        sy_u32 j = base + c->lane, rank = j < SY_FAN(&a->r) ? dst[j].rank : SY_NO_RANK, n;
        sy_count_lower(c, rank != SY_NO_RANK, &n);
        fan += n;
        sy_count_lower(c, rank <= a->d.rank, &n); /* they stand in the order of ranks */
        begin += n;
    }
    if (a->side_bytes && (SY_QUANT(a) || s->part + 1 == a->s.parts))
        sy_td_send_side(c, a, p, dst, fan, sy_stage_side(p, s), s->part);
    for (sy_u32 base = 0; base < fan; base += SY_LANES) {
        sy_u32 j = base + c->lane, i = begin + j < fan ? begin + j : begin + j - fan;
        sy_u32 leaves = 0; /* to how many peers the row goes */
        sy_u8 *to = 0;
        if (j < fan)
            to = p->target[dst[i].rank].rows + (sy_u64)dst[i].row * SY_ROW_BYTES(&a->out) + first;
        if (a->s.pace)
            sy_count_lower(c, j < fan && dst[i].rank != a->d.rank, &leaves);
        for (sy_u32 at = 0; at < all; at += a->s.piece_bytes) {
            sy_u32 bytes = sy_min_u32(a->s.piece_bytes, all - at);
            sy_pipe_pace(p, &a->s, leaves * bytes);
            sy_store_bulk_each(c, to ? to + at : 0, row + at, bytes);
        }
    }
    sy_store_commit(c);
}

/* Begins the next item, if there is one, in a stage whose stores have left it. */
SY_DEV void sy_td_begin(struct sy_ctx *c, const struct sy_tdispatch_args *a, struct sy_pipe *p)
{
    sy_u32 item = sy_bcast(c, p->ticket, 0);
    p->more = item < a->tokens * a->s.parts;
    if (!p->more)
        return;
    if (c->lane == 0) /* taken now, needed in the next turn */
        p->ticket = sy_draw((sy_u32 *)SY_MINE(&a->d, ticket));
    sy_td_fetch(c, a, p, p->begun++, item);
}

/* What needs no peer: the first loads. */
SY_DEV void sy_td_push_ahead(struct sy_ctx *c, const struct sy_tdispatch_args *a, struct sy_pipe *p)
{
    if (c->lane == 0)
        p->ticket = sy_draw((sy_u32 *)SY_MINE(&a->d, ticket));
    sy_warp_sync(c);
    while (p->more && p->begun + SY_STORES_LEAVING < a->s.stages)
        sy_td_begin(c, a, p);
}

SY_DEV void sy_td_push(struct sy_ctx *c, const struct sy_tdispatch_args *a, const struct sy_op *op,
                       struct sy_pipe *p)
{
    for (sy_u32 n = 0; n < p->begun; n++) {
        struct sy_stage *s = sy_stage_at(p, n);
        if (!sy_wait_load(c, op, &s->gate, sy_stage_turn(p, n) & 1u))
            return;
        sy_warp_sync(c);
        sy_td_send(c, a, p, s, sy_td_prepare(c, a, p, s));
        if (!sy_pipe_sent(c, op, p, n, s->token)) {
            sy_pipe_abandon(c, op, p, n + 1);
            return;
        }
        SY_STORE_WAIT_READ(c, SY_STORES_LEAVING);
        sy_warp_sync(c); /* each lane has waited for its own */
        if (p->more)
            sy_td_begin(c, a, p);
    }
    sy_pipe_end(c, p, p->begun);
}

/* --- signaller ------------------------------------------------------------------------------ */

/* A part of a token's row has arrived at all its ranks. Per lane. */
SY_DEV void sy_td_count(struct sy_ctx *c, const struct sy_tdispatch_args *a, sy_u32 token)
{
    const struct sy_dst *dst =
        (const struct sy_dst *)SY_ROUTE_AT(&a->r, dst) + (sy_u64)token * SY_FAN(&a->r);
    const sy_u32 *goes = (const sy_u32 *)SY_ROUTE_AT(&a->r, goes);
    for (sy_u32 j = 0; j < SY_FAN(&a->r); j++) {
        struct sy_v16 v = sy_own16(dst + j); /* rank, row, order, nth */
        sy_u32 chunk = v.w[3] >> SY_CHUNK_SHIFT;
        if (v.w[0] == SY_NO_RANK)
            break;
        sy_part_arrived(c, &a->d, v.w[0], chunk, goes[v.w[0] * a->r.chunks + chunk] * a->s.parts,
                        (sy_u32 *)SY_PEER(&a->d, v.w[0], td_arrive) + a->d.rank * a->d.td_chunks +
                            chunk);
    }
}

SY_DEV void sy_td_signal(struct sy_ctx *c, const struct sy_tdispatch_args *a,
                         const struct sy_op *op, struct sy_rings *rings)
{
    sy_u32 spins = 0;
    sy_u64 since = 0;
    for (;;) {
        sy_u32 fresh = sy_rings_look(c, rings);
        if (fresh == SY_RINGS_OVER)
            return;
        if (fresh == 0) {
            if (sy_still(c, op, &spins, &since) != 1)
                return; /* the pushers report; they wait for loads, starts or this warp */
            continue;
        }
        since = 0;
        sy_fence_publish(c);
        for (sy_u32 p = 0; p < rings->pushers; p++) {
            SY_FOR (i, c, sy_rings_count(rings, p)) {
                sy_td_count(c, a, sy_rings_code(rings, p, i));
            }
            sy_rings_taken(c, rings, p);
        }
    }
}

/* --- finisher ------------------------------------------------------------------------------- */

/* Waits for one chunk of one source's rows. settle: takes it off the counter, once. */
SY_DEV int sy_td_await(struct sy_ctx *c, const struct sy_tdispatch_args *a, const struct sy_op *op,
                       sy_u32 source, sy_u32 chunk, int settle)
{
    sy_u32 *counter = (sy_u32 *)SY_OWN(&a->d, td_arrive) + source * a->d.td_chunks + chunk,
           expect = 0;
    if (chunk < a->r.chunks)
        expect = ((const sy_u32 *)SY_ROUTE_AT(&a->r, live))[source * a->r.chunks + chunk];
    expect *= a->s.parts;
    if (expect && !SY_PLANT(COMBINE_TOO_EARLY) &&
        !sy_wait_count(c, op, counter, SY_COUNTER_BASE(op->epoch, SY_TD_AMOUNT) + expect,
                       SY_FAULT_ROWS, source))
        return 0;
    if (settle && c->lane == 0)
        sy_signal_add(counter, SY_TD_AMOUNT - expect);
    return 1;
}

/* Where the sender put a row in the layouts by expert: at the place of its first selection that
 * has one. Lanes look at as many as they are. */
SY_DEV sy_u32 sy_td_first(struct sy_ctx *c, const struct sy_arrival *row, sy_u32 topk)
{
    for (sy_u32 base = 0; base < topk; base += 32u) {
        sy_u32 bits = 0;
        SY_FOR (k, c, sy_min_u32(topk - base, 32u)) {
            bits |= sy_arrival_sel(row, base + k, topk) >= 0 ? 1u << k : 0;
        }
        bits = sy_or(c, bits);
        if (bits && topk <= SY_LANES)
            return sy_bcast(c, (sy_u32)row->mine, sy_lowest(bits));
        if (bits)
            return (sy_u32)row->sel[base + sy_lowest(bits)];
    }
    return SY_NOT_DELIVERED;
}

/* A row on which there is work of its own: layouts by expert, or it has yet to be copied. */
SY_DEV int sy_td_row(struct sy_ctx *c, const struct sy_tdispatch_args *a, sy_u32 source,
                     sy_u32 order, sy_u32 place, struct sy_copier *p)
{
    const sy_u8 *side = (const sy_u8 *)SY_OWN(&a->d, td_side) + (sy_u64)order * a->side_bytes;
    sy_u32 fan_at = ((const sy_u32 *)SY_ROUTE_AT(&a->r, recv_fan))[order];
    struct sy_arrival row;
    row.token = ((const sy_u32 *)SY_ROUTE_AT(&a->r, recv_token))[order];
    row.sel = (const sy_s32 *)SY_ROUTE_AT(&a->r, recv_sel) + (sy_u64)order * SY_TOPK(&a->r);
    row.scales = (const sy_u32 *)side;
    row.weights = (const float *)(side + a->out.scale_words * 4u);
    row.source = source;
    row.row = row.skip = place;
    row.mine = -1;
    row.weight = 0;
    if (sy_by_expert(SY_LAYOUT(&a->r))) {
        sy_arrival_ask(c, &a->out, &row, SY_TOPK(&a->r));
        row.skip = sy_td_first(c, &row, SY_TOPK(&a->r));
    }
    if (fan_at == SY_NOT_DELIVERED)
        return 1;
    row.x = a->d.heap + a->area + (sy_u64)row.skip * SY_ROW_BYTES(&a->out);
    if (!a->out.direct)
        row.skip = SY_NOT_DELIVERED;
    return sy_place(c, &a->d, &a->r, &a->out, &row, p);
}

/* What the route says of a source's rows. Asked for before they are waited for. */
struct sy_from {
    sy_u32 number, order, row, count; /* orders and rows from the first of them on */
};

SY_DEV struct sy_from sy_td_from(const struct sy_tdispatch_args *a, sy_u32 number)
{
    struct sy_from s;
    s.number = number;
    s.order = ((const sy_u32 *)SY_ROUTE_AT(&a->r, recv_base))[number];
    s.row = (sy_u32)((const sy_s32 *)SY_ROUTE_AT(&a->r, source_offsets))[number];
    s.count = (sy_u32)((const sy_s32 *)SY_ROUTE_AT(&a->r, source_counts))[number];
    return s;
}

/* Rows [first, end) of a source, which have arrived. 0: the group is lost. */
SY_DEV int sy_td_rows(struct sy_ctx *c, const struct sy_tdispatch_args *a, const struct sy_from *s,
                      sy_u32 first, sy_u32 end, struct sy_copier *p)
{
    sy_u32 order = s->order + first, row = s->row + first;
    sy_u32 before = SY_LAYOUT(&a->r) == SY_L_RANK ? first : row; /* rows that count, by capacity */
    struct sy_run run;
    if (sy_by_expert(SY_LAYOUT(&a->r)) || !a->out.direct || a->out.probs.data) {
        for (sy_u32 i = 0; i < end - first; i++)
            if (!sy_td_row(c, a, s->number, order + i, row + i, p))
                return 0;
        return 1;
    }
    run.row = row;
    run.n = before < a->r.capacity ? sy_min_u32(end - first, a->r.capacity - before) : 0;
    run.sel = (const sy_s32 *)SY_ROUTE_AT(&a->r, recv_sel) + (sy_u64)order * SY_TOPK(&a->r);
    run.token = (const sy_u32 *)SY_ROUTE_AT(&a->r, recv_token) + order;
    run.side = (const sy_u8 *)SY_OWN(&a->d, td_side) + (sy_u64)order * a->side_bytes;
    run.side_bytes = a->side_bytes;
    run.source = s->number;
    if (a->out.scales.data)
        sy_run_scales(c, &a->out, &run);
    sy_run_selections(c, &a->out, &run, SY_TOPK(&a->r));
    return 1;
}

/* How many chunks have rows of any source. The counters of the others are settled here, by the
 * first worker. */
SY_DEV sy_u32 sy_td_used(struct sy_ctx *c, const struct sy_tdispatch_args *a, sy_u32 worker)
{
    const sy_s32 *counts = (const sy_s32 *)SY_ROUTE_AT(&a->r, source_counts);
    sy_u32 *arrive = (sy_u32 *)SY_OWN(&a->d, td_arrive), most = 0, used;
    SY_FOR (s, c, SY_RANKS(&a->d)) {
        most = (sy_u32)counts[s] > most ? (sy_u32)counts[s] : most;
    }
    used = sy_div_up(sy_max(c, most), SY_CHUNK_ROWS);
    for (sy_u32 s = 0; worker == 0 && s < SY_RANKS(&a->d); s++)
        for (sy_u32 i = used + c->lane; i < a->d.td_chunks; i += SY_LANES)
            sy_signal_add(arrive + s * a->d.td_chunks + i, SY_TD_AMOUNT);
    return used;
}

/* Units are (part of a chunk, source), early chunks first, each rank beginning with another source.
 * The first part of a chunk settles its counter. */
SY_DEV void sy_td_finish(struct sy_ctx *c, const struct sy_tdispatch_args *a,
                         const struct sy_op *op, struct sy_copier *p, sy_u32 worker, sy_u32 workers)
{
    sy_u32 *ticket = (sy_u32 *)SY_MINE(&a->d, ticket) + 1;
    sy_u32 split = SY_WORK(&a->out) ? a->s.splits : 1u, rows = SY_CHUNK_ROWS / split;
    sy_u32 units = sy_td_used(c, a, worker) * SY_RANKS(&a->d) * split;
    const struct sy_brought tables = {0, 0};
    if (SY_WORK(&a->out))
        sy_fill(c, &a->d, &a->r, &a->out, &tables, worker, workers);
    for (sy_u32 u = sy_take(c, ticket); u < units; u = sy_take(c, ticket)) {
        sy_u32 part = u / SY_RANKS(&a->d);
        struct sy_from s = sy_td_from(a, (a->d.rank + u) % SY_RANKS(&a->d));
        if (!sy_td_await(c, a, op, s.number, part / split, part % split == 0))
            return;
        if (p->slots)
            sy_fence_loads(c);
        sy_u32 end = sy_min_u32((part + 1) * rows, s.count);
        if (SY_WORK(&a->out) && part * rows < end && !sy_td_rows(c, a, &s, part * rows, end, p))
            return;
    }
}

/* --- the kernel ----------------------------------------------------------------------------- */

/* Waits until every rank has begun, and notes where its rows go. By one warp per block. */
SY_DEV int sy_td_targets(struct sy_ctx *c, const struct sy_tdispatch_args *a,
                         const struct sy_op *op, struct sy_target *target)
{
    const struct sy_dev *d = &a->d;
    const struct sy_start *start = sy_starts(d, op->channel, op->epoch);
    const sy_u32 *extent = (const sy_u32 *)SY_ROUTE_AT(&a->r, extent);
    int good = 1;
    for (sy_u32 base = 0; base < SY_RANKS(d); base += SY_LANES) {
        sy_u32 p = base + c->lane, value = 0, check = 0;
        int in = p < SY_RANKS(d);
        sy_u8 *peer = in ? d->peers[p] : 0; /* asked for while this warp waits, as is how much */
        sy_u64 bytes = in ? (sy_u64)extent[p] * SY_ROW_BYTES(&a->out) : 0;
        if (!sy_wait_start(c, op, in ? start + p : 0, op->epoch, p, &value, &check))
            return 0;
        if (in && check != a->check) {
            sy_raise(c, op, sy_missed(d, SY_FAULT_CHECK, p, &start[p].check));
            good = 0;
        }
        sy_u64 offset = (sy_u64)(value - 1) * SY_REGION_ALIGN;
        if (in && good && (value == 0 || offset + bytes > d->heap_bytes)) {
            sy_raise(c, op, sy_missed(d, SY_FAULT_BYTES, p, &start[p].value));
            good = 0;
        }
        if (in && good) {
            target[p].rows = peer + offset;
            target[p].side = (sy_u8 *)SY_AT(d, peer, td_side);
        }
    }
    return !sy_any(c, !good);
}

SY_DEV void sy_k_tdispatch(struct sy_ctx *c, const struct sy_tdispatch_args *a)
{
    const struct sy_shape *s = &a->s;
    struct sy_op op = sy_op_begin(&a->d, SY_CH_TDISPATCH, (int)a->send);
    struct sy_shared sh = sy_shared_carve(c, s, SY_RANKS(&a->d));
    struct sy_pipe pipe = sy_pipe_of(c, &sh, s, SY_FAN(&a->r), a->side_bytes);
    sy_u32 finisher = s->pushers + s->signallers;
    int good;
    if (a->send) {
        if (c->warp < s->pushers) {
            sy_pipe_begin(c, &pipe, s);
            sy_td_push_ahead(c, a, &pipe);
        }
        if (c->warp == s->pushers) {
            sy_u8 *peer = sy_peer_of_lane(c, &a->d); /* these two beside the stop word */
            sy_u32 need = SY_ASKS_AHEAD(!sy_stopped(&a->d)) ? sy_rows_needed(&a->r) : 0;
            int ready =
                !sy_lost(c, &a->d) && sy_rows_suffice(c, &op, &a->r, need, a->out.rows_have);
            if (ready && c->block == 0)
                sy_op_start(c, &op, peer, (sy_u32)(a->area / SY_REGION_ALIGN) + 1u, a->check);
            ready = ready && sy_td_targets(c, a, &op, sh.target);
            if (c->lane == 0)
                *sh.ready = (sy_u32)ready;
        }
        sy_block_sync(c);
        good = (int)*sh.ready;
        if (good && c->warp < s->pushers)
            sy_td_push(c, a, &op, &pipe);
        else if (good && c->warp == s->pushers)
            sy_td_signal(c, a, &op, &sh.rings);
    } else {
        good = !sy_lost(c, &a->d);
    }
    if (a->receive && good && c->warp >= finisher) {
        sy_u8 *behind = sh.stages + (sy_u64)s->pushers * s->stages * s->stage_bytes;
        struct sy_copier copier =
            sy_copier_make(c, &op, behind + (sy_u64)(c->warp - finisher) * s->copier_bytes,
                           s->copier_bytes, SY_TOPK(&a->r));
        sy_td_finish(c, a, &op, &copier, c->block * s->finishers + c->warp - finisher,
                     c->blocks * s->finishers);
        sy_copier_end(c, &copier, &a->out.x);
    }
    if (sy_op_leave(c, &op, (int)a->send))
        sy_op_close(c, &op, (int)a->send, (int)a->receive);
}

#endif
