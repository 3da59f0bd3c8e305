/* k_combine.h - combine, both modes.
 *
 * A rank is holder of the rows that it received and source of its own tokens. Rows come back to the
 * source one of two ways, which each holder chooses and tells with its start word:
 *
 *   push   the holder sums the selections of a token that it has, and sends one row to the source's
 *          tc_rows (lc_rows) at [token][place of the holder among the token's ranks];
 *   pull   the holder's rows lie in its heap and the source reads them there. Throughput mode only.
 *
 * Roles of a block's warps:
 *
 *   pusher     takes rows, nearest source first and then round, makes and sends them;
 *   signaller  adds to the sources' counters (latency mode: the pushers do it);
 *   finisher   sums tokens as their rows are complete.
 *
 * Who writes what: holder h writes tc_rows, tc_side of s at the places that s gave each token,
 * after s has begun. Latency mode has two halves of lc_rows by epoch, and s need only have begun
 * the operation before. Signals: tc_arrive[chunk of tokens], lc_arrive[half][token]; tc_done[s] at
 * h: s has read. */
#ifndef SY_DEVICE_K_COMBINE_H
#define SY_DEVICE_K_COMBINE_H

#include "outputs.h"
#include "pipe.h"
#include "sums.h"

#define SY_C_AMOUNT(d, latency)                                                                    \
    ((d)->fan_max * ((latency) ? 1u : SY_CHUNK_ROWS * SY_PARTS_MAX)) /* of ..arrive per operation */

/* The state of an operation that all roles share. */
struct sy_co {
    const struct sy_combine_kargs *a;
    const struct sy_op *op;
    sy_u32 latency;
    sy_u64 half;     /* which half of lc_..., as a factor */
    sy_u8 **rows_of; /* [holder]: its rows, if it lets us read them; NULL: it pushes */
    struct sy_shared sh;
};

SY_DEV sy_u8 *sy_co_row(const struct sy_co *o, sy_u8 *heap, sy_u32 token, sy_u32 j)
{
    const struct sy_dev *d = &o->a->d;
    sy_u64 place = (sy_u64)token * SY_FAN(&o->a->r) + j;
    if (!o->latency)
        return heap + d->at.tc_rows + place * o->a->row_bytes;
    return heap + d->at.lc_rows + o->half * o->a->lat_half_rows + place * o->a->row_bytes;
}
SY_DEV float *sy_co_side(const struct sy_co *o, sy_u8 *heap, sy_u32 token, sy_u32 j)
{
    const struct sy_dev *d = &o->a->d;
    sy_u64 place = ((sy_u64)token * SY_FAN(&o->a->r) + j) * SY_TOPK(&o->a->r);
    sy_u64 half = (sy_u64)d->lat_tokens_max * d->fan_max * d->topk_max;
    if (!o->latency)
        return (float *)(heap + d->at.tc_side) + place;
    return (float *)(heap + d->at.lc_side) + o->half * half + place;
}
/* Latency mode, weighted sums, layouts by token: does a dropped row stand for this term? Its zeros
 * must not be multiplied with a weight, which may be infinite. */
SY_DEV sy_u32 *sy_co_dropped(const struct sy_co *o, sy_u8 *heap, sy_u32 token, sy_u32 j)
{
    const struct sy_dev *d = &o->a->d;
    sy_u64 half = (sy_u64)d->lat_tokens_max * d->fan_max;
    return (sy_u32 *)(heap + d->at.lc_dropped) + o->half * half + (sy_u64)token * SY_FAN(&o->a->r) +
           j;
}
SY_DEV int sy_co_tells_dropped(const struct sy_co *o)
{
    return o->latency && o->a->weighted && !sy_by_expert(SY_LAYOUT(&o->a->r));
}
/* Weights that a source sent ahead for a row. */
SY_DEV float *sy_co_ahead(const struct sy_co *o, sy_u8 *heap, sy_u32 order)
{
    const struct sy_dev *d = &o->a->d;
    sy_u64 half = (sy_u64)SY_RANKS(d) * d->lat_tokens_max * d->topk_max;
    if (!o->latency)
        return (float *)(heap + d->at.tc_weights) + (sy_u64)order * SY_TOPK(&o->a->r);
    return (float *)(heap + d->at.lc_weights) + o->half * half + (sy_u64)order * SY_TOPK(&o->a->r);
}
SY_DEV sy_u32 *sy_co_counter(const struct sy_co *o, sy_u8 *heap, sy_u32 token)
{
    const struct sy_dev *d = &o->a->d;
    if (!o->latency)
        return (sy_u32 *)(heap + d->at.tc_arrive) + (token >> SY_CHUNK_SHIFT);
    return (sy_u32 *)(heap + d->at.lc_arrive) + o->half * d->lat_tokens_max + token;
}

/* Do holders need this source's weights before they can push? */
SY_DEV int sy_co_ahead_needed(const struct sy_co *o)
{
    return o->a->weighted && sy_by_expert(SY_LAYOUT(&o->a->r));
}

/* --- weights ahead -------------------------------------------------------------------------- */

SY_DEV void sy_co_send_weights(struct sy_ctx *c, const struct sy_co *o, sy_u32 worker,
                               sy_u32 workers)
{
    const struct sy_combine_kargs *a = o->a;
    const sy_u32 *fan = (const sy_u32 *)SY_ROUTE_AT(&a->r, fan);
    const struct sy_dst *dst = (const struct sy_dst *)SY_ROUTE_AT(&a->r, dst);
    sy_u64 region = o->latency ? a->d.at.lc_weigh : a->d.at.tc_weigh;
    for (sy_u32 t = worker; t < a->tokens; t += workers)
        for (sy_u32 j = 0; j < fan[t]; j++) {
            const struct sy_dst *to = dst + (sy_u64)t * SY_FAN(&a->r) + j;
            if (o->rows_of[to->rank])
                continue; /* this rank reads those rows and weighs them itself */
            float *w = sy_co_ahead(o, a->d.peers[to->rank], to->order);
            SY_FOR (k, c, SY_TOPK(&a->r)) {
                sy_put32(w + k, *(const sy_u32 *)(sy_out_at(&a->weights, t) +
                                                  (sy_s64)k * a->weights.stride1));
            }
        }
    sy_fence_publish(c);
    for (sy_u32 t = worker; t < a->tokens; t += workers)
        SY_FOR (j, c, fan[t]) {
            sy_u32 p = dst[(sy_u64)t * SY_FAN(&a->r) + j].rank;
            if (!o->rows_of[p])
                sy_signal_add((sy_u32 *)(a->d.peers[p] + region) + a->d.rank, 1u);
        }
}

/* Holder: until the weights of a source are here. Nothing but a pusher of expert rows needs them.
 */
SY_DEV int sy_co_wait_weights(struct sy_ctx *c, const struct sy_co *o, sy_u32 source)
{
    const struct sy_dev *d = &o->a->d;
    const sy_u32 *live = (const sy_u32 *)SY_ROUTE_AT(&o->a->r, live_all);
    sy_u64 region = o->latency ? d->at.lc_weigh : d->at.tc_weigh;
    sy_u32 amount = o->latency ? d->lat_tokens_max : d->tokens_max;
    return sy_wait_count(c, o->op, (const sy_u32 *)(d->heap + region) + source,
                         SY_COUNTER_BASE(o->op->epoch, amount) + live[source], SY_FAULT_WEIGHTS,
                         source);
}

/* --- pusher --------------------------------------------------------------------------------- */

/* A row that a pusher is to take: what it must know of it, asked for while the row before is on
 * its way. */
struct sy_chosen {
    sy_u32 source, part;
    sy_u32 order, token, j;
    sy_u32 row; /* layouts by token */
    sy_s32 sel; /* layouts by expert: lane k has selection k, if there are as many lanes */
    sy_u8 *heap;
};

/* The terms of a received row in the layouts by expert, k ascending. By one warp, all lanes agree.
 */
SY_DEV sy_u32 sy_co_own_terms(struct sy_ctx *c, const struct sy_co *o, const struct sy_chosen *row,
                              struct sy_term *terms)
{
    const struct sy_combine_kargs *a = o->a;
    sy_u32 K = SY_TOPK(&a->r), n = 0;
    const sy_s32 *sel = (const sy_s32 *)SY_ROUTE_AT(&a->r, recv_sel) + (sy_u64)row->order * K;
    const float *w = sy_co_ahead(o, a->d.heap, row->order);
    for (sy_u32 k = 0; k < K; k++) {
        sy_s32 at = K <= SY_LANES ? (sy_s32)sy_bcast(c, (sy_u32)row->sel, k) : sel[k];
        if (at < 0)
            continue;
        terms[n].row = sy_out_at(&a->x, (sy_u32)at);
        terms[n].weight = a->weighted ? sy_bits_f32(sy_get32(w + k)) : 0.0f;
        terms[n++].flags = a->weighted ? SY_TERM_WEIGHTED : 0;
    }
    return n;
}

/* Weights on their way back. A row that was dropped here has none. */
SY_DEV void sy_co_push_side(struct sy_ctx *c, const struct sy_co *o, const struct sy_chosen *it,
                            float *to)
{
    sy_u32 dropped = it->j & SY_ZERO_ROW;
    const struct sy_combine_kargs *a = o->a;
    const sy_s32 *sel =
        (const sy_s32 *)SY_ROUTE_AT(&a->r, recv_sel) + (sy_u64)it->order * SY_TOPK(&a->r);
    SY_FOR (k, c, SY_TOPK(&a->r)) {
        const sy_u8 *from = 0;
        if (dropped)
            from = 0;
        else if (sel[k] >= 0 && sy_by_expert(SY_LAYOUT(&a->r)))
            from = sy_out_at(&a->row_weights, (sy_u32)sel[k]);
        else if (sel[k] >= 0 && a->row_probs.data)
            from = sy_out_at(&a->row_probs, it->row) + (sy_s64)sel[k] * a->row_probs.stride1;
        else if (sel[k] >= 0)
            from = sy_out_at(&a->row_weights, it->row) + (sy_s64)k * a->row_weights.stride1;
        sy_put32(to + k, from ? *(const sy_u32 *)from : 0u);
    }
}

/* Where the bytes of stage s lie when they are ready to be stored: in place, summed, or zeros. */
SY_DEV const sy_u8 *sy_co_make(struct sy_ctx *c, const struct sy_co *o, struct sy_pipe *p,
                               struct sy_stage *s)
{
    const struct sy_combine_kargs *a = o->a;
    sy_u8 *body = sy_stage_body(p, s);
    struct sy_term *terms = (struct sy_term *)sy_stage_dst(s);
    struct sy_span span;
    if (s->from)
        return SY_STAGED(body, (const sy_u8 *)s->from);
    span.terms = terms;
    span.n = s->fan;
    span.grouped = 0;
    span.bias0 = span.bias1 = 0;
    span.from = s->part * a->s.part_bytes;
    span.end = span.from + s->bytes;
    span.to = body - span.from;
    sy_sum_row(c, a->type, &span);
    sy_fence_bulk(c);
    sy_warp_sync(c);
    return body;
}

/* A chosen row: what to do with it, into the head of stage n; begins its load. */
SY_DEV void sy_co_fetch(struct sy_ctx *c, const struct sy_co *o, struct sy_pipe *p, sy_u32 n,
                        const struct sy_chosen *it)
{
    const struct sy_combine_kargs *a = o->a;
    struct sy_stage *s = sy_stage_at(p, n);
    sy_u32 from = it->part * a->s.part_bytes, j = it->j, place = j & ~SY_ZERO_ROW, terms = 0;
    sy_u32 bytes = sy_min_u32(a->s.part_bytes, a->row_bytes - from);
    sy_u8 *heap = it->heap;
    const sy_u8 *row = 0;
    if (j != SY_NOT_DELIVERED && sy_by_expert(SY_LAYOUT(&a->r))) {
        terms = sy_co_own_terms(c, o, it, (struct sy_term *)sy_stage_dst(s));
        if (terms == 1 && !a->weighted)
            row = ((struct sy_term *)sy_stage_dst(s))->row;
    } else if (!(j & SY_ZERO_ROW)) {
        row = sy_out_at(&a->x, it->row);
    }
    sy_warp_sync(c);
    if (c->lane == 0) {
        s->token = j == SY_NOT_DELIVERED ? SY_NOTHING_SENT : it->token;
        s->part = it->part;
        s->fan = terms;
        s->bytes = bytes;
        s->code = it->source;
        s->from = row ? (sy_u64)(row + from) : 0;
        s->to = (sy_u64)(sy_co_row(o, heap, it->token, place) + from);
    }
    if (row) {
        sy_load_expect(c, &s->gate, bytes);
        sy_load_bulk(c, &s->gate, sy_stage_body(p, s), row + from, bytes);
    } else {
        sy_load_expect(c, &s->gate, 0);
    }
    if (sy_co_tells_dropped(o) && c->lane == 0)
        sy_put32(sy_co_dropped(o, heap, it->token, place), j & SY_ZERO_ROW);
    if (a->carry && it->part == 0 && j != SY_NOT_DELIVERED)
        sy_co_push_side(c, o, it, sy_co_side(o, heap, it->token, place));
    sy_warp_sync(c);
}

/* Stores what stage n holds, and tells. */
SY_DEV int sy_co_send(struct sy_ctx *c, const struct sy_co *o, struct sy_pipe *p, sy_u32 n)
{
    const struct sy_combine_kargs *a = o->a;
    struct sy_stage *s = sy_stage_at(p, n);
    sy_u32 source = s->code, token = s->token;
    const sy_u8 *row = token == SY_NOTHING_SENT ? 0 : sy_co_make(c, o, p, s);
    for (sy_u32 at = 0; row && at < s->bytes; at += a->s.piece_bytes) {
        sy_u32 bytes = sy_min_u32(a->s.piece_bytes, s->bytes - at);
        if (a->s.pace && source != a->d.rank)
            sy_pace_wait(&p->pace, bytes * a->s.pace >> 14);
        sy_store_bulk(c, (sy_u8 *)s->to + at, row + at, bytes);
    }
    sy_store_commit(c);
    if (!o->latency)
        return sy_pipe_sent(c, o->op, p, n,
                            row ? source | (token >> SY_CHUNK_SHIFT) << 12 : SY_NOTHING_SENT);
    SY_STORE_WAIT_DONE(c, 0);
    sy_fence_publish(c);
    if (row && c->lane == 0)
        sy_signal_add(sy_co_counter(o, a->d.peers[source], token), 1u);
    return 1;
}

/* What a pusher must know of a source. */
struct sy_source {
    sy_u32 rows;
    sy_u32 order, row; /* of its first row */
    sy_u8 *heap;
};

/* Which rows a pusher takes: the sources in turn, each in order. Two rows ahead it takes a ticket,
 * one row ahead it asks what the ticket stands for, so that it waits for neither. */
struct sy_turn {
    sy_u32 source; /* of the ticket                    */
    sy_u32 left;   /* sources that may still have rows */
    sy_u32 ticket; /* lane 0                           */
    struct sy_chosen it;
    struct sy_source mine; /* lane s has that of source s, if there are as many lanes */
};

SY_DEV struct sy_source sy_source_load(const struct sy_co *o, sy_u32 s)
{
    const struct sy_dev_route *r = &o->a->r;
    struct sy_source of;
    of.rows = ((const sy_u32 *)SY_ROUTE_AT(r, source_counts))[s];
    of.order = ((const sy_u32 *)SY_ROUTE_AT(r, recv_base))[s];
    of.row = ((const sy_u32 *)SY_ROUTE_AT(r, source_offsets))[s];
    if (SY_PLANT(SENDERS_PREFIX))
        of.row = (sy_u32)sy_glance64((const sy_u64 *)SY_OWN(&o->a->d, route_base) +
                                     (sy_u64)s * (SY_BASE_HEAD + o->a->d.local_max));
    of.heap = o->a->d.peers[s];
    return of;
}

/* Out of other lanes' registers: the first-level cache does not keep such tables on a GPU, because
 * every fence of the signaller empties it. */
SY_DEV struct sy_source sy_source_of(struct sy_ctx *c, const struct sy_co *o,
                                     const struct sy_turn *t, sy_u32 s)
{
    struct sy_source of;
    if (SY_RANKS(&o->a->d) > SY_LANES)
        return sy_source_load(o, s);
    of.rows = sy_bcast(c, t->mine.rows, s);
    of.order = sy_bcast(c, t->mine.order, s);
    of.row = sy_bcast(c, t->mine.row, s);
    of.heap = (sy_u8 *)sy_bcast64(c, (sy_u64)t->mine.heap, s);
    return of;
}

SY_DEV void sy_turn_ticket(struct sy_ctx *c, const struct sy_co *o, struct sy_turn *t)
{
    const struct sy_dev *d = &o->a->d;
    t->source = t->source + 1 < SY_RANKS(d) ? t->source + 1 : 0;
    if (c->lane == 0)
        t->ticket = sy_add((sy_u32 *)SY_MINE(d, source_ticket) + t->source, 1u);
}

/* Returns 0 when there are no more rows. */
SY_DEV int sy_turn_choose(struct sy_ctx *c, const struct sy_co *o, struct sy_turn *t)
{
    const struct sy_combine_kargs *a = o->a;
    sy_u32 K = SY_TOPK(&a->r), item, nth;
    struct sy_source of;
    for (;;) {
        of = sy_source_of(c, o, t, t->source);
        item = sy_bcast(c, t->ticket, 0);
        if (item < of.rows * a->s.parts)
            break;
        if (--t->left == 0)
            return 0;
        sy_turn_ticket(c, o, t);
    }
    t->it.source = t->source;
    t->it.heap = of.heap;
    nth = item / a->s.parts;
    t->it.part = item % a->s.parts;
    t->it.row = of.row + nth;
    t->it.order = of.order + nth;
    t->it.token = ((const sy_u32 *)SY_ROUTE_AT(&a->r, recv_token))[t->it.order];
    t->it.j = ((const sy_u32 *)SY_ROUTE_AT(&a->r, recv_fan))[t->it.order];
    if (sy_by_expert(SY_LAYOUT(&a->r)) && c->lane < K)
        t->it.sel =
            ((const sy_s32 *)SY_ROUTE_AT(&a->r, recv_sel))[(sy_u64)t->it.order * K + c->lane];
    t->left = SY_RANKS(&a->d);
    sy_turn_ticket(c, o, t);
    return 1;
}

SY_DEV void sy_co_begin(struct sy_ctx *c, const struct sy_co *o, struct sy_pipe *p,
                        struct sy_turn *t)
{
    if (sy_co_ahead_needed(o) && !sy_co_wait_weights(c, o, t->it.source)) {
        p->more = 0;
        return;
    }
    sy_co_fetch(c, o, p, p->begun++, &t->it);
    p->more = sy_turn_choose(c, o, t);
}

SY_DEV void sy_co_push(struct sy_ctx *c, const struct sy_co *o, struct sy_pipe *p)
{
    const struct sy_combine_kargs *a = o->a;
    sy_u32 worker = c->block * a->s.pushers + c->warp;
    struct sy_turn turn;
    turn.source = (a->d.rank + worker) % SY_RANKS(&a->d);
    turn.left = SY_RANKS(&a->d);
    turn.ticket = 0;
    turn.it.sel = -1;
    turn.mine = sy_source_load(o, c->lane % SY_RANKS(&a->d));
    sy_turn_ticket(c, o, &turn);
    p->more = sy_turn_choose(c, o, &turn);
    while (p->more && p->begun + SY_STORES_LEAVING < a->s.stages)
        sy_co_begin(c, o, p, &turn);
    for (sy_u32 n = 0; n < p->begun; n++) {
        struct sy_stage *s = sy_stage_at(p, n);
        if (!sy_wait_load(c, o->op, &s->gate, n / a->s.stages & 1u))
            return;
        if (!sy_co_send(c, o, p, n))
            return;
        SY_STORE_WAIT_READ(c, SY_STORES_LEAVING);
        sy_warp_sync(c);
        if (p->more)
            sy_co_begin(c, o, p, &turn);
    }
    sy_pipe_end(c, p, p->begun);
}

/* --- signaller ------------------------------------------------------------------------------ */

/* A part of a row has arrived at its source. Per lane. */
SY_DEV void sy_co_count(struct sy_ctx *c, const struct sy_co *o, sy_u32 code)
{
    const struct sy_combine_kargs *a = o->a;
    const sy_u32 *returns = (const sy_u32 *)SY_ROUTE_AT(&a->r, returns);
    sy_u32 source = code & 0xfffu, chunk = code >> 12;
    if (code == SY_NOTHING_SENT)
        return;
    sy_part_arrived(c, &a->d, source, chunk, returns[source * a->r.chunks + chunk] * a->s.parts,
                    sy_co_counter(o, a->d.peers[source], chunk << SY_CHUNK_SHIFT));
}

SY_DEV void sy_co_signal(struct sy_ctx *c, struct sy_co *o)
{
    struct sy_rings *rings = &o->sh.rings;
    sy_u32 spins = 0;
    sy_u64 since = 0;
    for (;;) {
        sy_u32 fresh = sy_rings_look(c, rings);
        if (fresh == SY_RINGS_OVER)
            return;
        if (fresh == 0) {
            if (sy_still(c, o->op, &spins, &since) != 1)
                return;
            continue;
        }
        since = 0;
        sy_fence_publish(c);
        for (sy_u32 p = 0; p < rings->pushers; p++) {
            SY_FOR (i, c, sy_rings_count(rings, p)) {
                sy_co_count(c, o, sy_rings_code(rings, p, i));
            }
            sy_rings_taken(c, rings, p);
        }
    }
}

/* --- finisher ------------------------------------------------------------------------------- */

/* How many row parts holders push for a token's counter: latency mode, for the token; else for its
 * chunk. */
SY_DEV sy_u32 sy_co_due(struct sy_ctx *c, const struct sy_co *o, sy_u32 token)
{
    const struct sy_combine_kargs *a = o->a;
    const sy_u32 *due = (const sy_u32 *)SY_ROUTE_AT(&a->r, due);
    sy_u32 n = 0;
    if (o->latency)
        return ((const sy_u32 *)SY_ROUTE_AT(&a->r, fan))[token] * a->s.parts;
    due += (token >> SY_CHUNK_SHIFT) * SY_RANKS(&a->d);
    SY_FOR (p, c, SY_RANKS(&a->d)) {
        n += o->rows_of[p] ? 0 : due[p];
    }
    return sy_sum(c, n) * a->s.parts;
}

/* Until the pushed rows of a token's counter are here; the first unit of a counter settles it.
 * *last: the counter that this warp has waited for already. */
SY_DEV int sy_co_await(struct sy_ctx *c, const struct sy_co *o, sy_u32 token, int settle,
                       sy_u32 **last)
{
    const struct sy_combine_kargs *a = o->a;
    sy_u32 amount = SY_C_AMOUNT(&a->d, o->latency), n;
    sy_u32 *counter = sy_co_counter(o, a->d.heap, token);
    if (counter == *last && !settle)
        return 1;
    *last = counter;
    sy_u64 round = o->latency ? (o->op->epoch + 1) / 2 : o->op->epoch;
    n = sy_co_due(c, o, token);
    if (n &&
        !sy_wait_count(c, o->op, counter, SY_COUNTER_BASE(round, amount) + n, SY_FAULT_ROWS, ~0u))
        return 0;
    if (settle && c->lane == 0)
        sy_signal_add(counter, amount - n);
    return 1;
}

/* The terms of a token in the order of ranks. Returns their number; *grouped: see sums.h. */
SY_DEV sy_u32 sy_co_terms(const struct sy_co *o, sy_u32 token, struct sy_term *terms,
                          sy_u32 *grouped)
{
    const struct sy_combine_kargs *a = o->a;
    sy_u32 K = SY_TOPK(&a->r), fan = ((const sy_u32 *)SY_ROUTE_AT(&a->r, fan))[token], n = 0;
    const struct sy_dst *dst =
        (const struct sy_dst *)SY_ROUTE_AT(&a->r, dst) + (sy_u64)token * SY_FAN(&a->r);
    const sy_s32 *ids = (const sy_s32 *)SY_ROUTE_AT(&a->r, ids) + (sy_u64)token * K;
    const sy_s32 *pos = (const sy_s32 *)SY_ROUTE_AT(&a->r, pos) + (sy_u64)token * K;
    const sy_u8 *w = a->weighted ? sy_out_at(&a->weights, token) : 0;
    int by_expert = sy_by_expert(SY_LAYOUT(&a->r));
    *grouped = 0;
    for (sy_u32 j = 0; j < fan; j++) {
        sy_u32 p = dst[j].rank;
        float sum = 0.0f;
        if (sy_co_tells_dropped(o) && sy_get32(sy_co_dropped(o, a->d.heap, token, j)))
            continue;
        if (by_expert && !o->rows_of[p]) {
            terms[n].flags = SY_TERM_ENDS;
            terms[n++].row = sy_co_row(o, a->d.heap, token, j);
            continue;
        }
        for (sy_u32 k = 0; k < K && (by_expert || w); k++) {
            if (ids[k] < 0 || sy_owner(&a->d, ids[k]) != p)
                continue;
            float v = w ? *(const float *)(w + (sy_s64)k * a->weights.stride1) : 0.0f;
            sum = sum + v;
            if (!by_expert || pos[k] < 0)
                continue;
            terms[n].row = o->rows_of[p] + (sy_u64)(sy_u32)pos[k] * a->row_bytes;
            terms[n].weight = v;
            terms[n++].flags = w ? SY_TERM_WEIGHTED : 0;
        }
        if (by_expert) {
            terms[n - 1].flags |= SY_TERM_ENDS;
            *grouped = 1;
            continue;
        }
        terms[n].row = o->rows_of[p] ? o->rows_of[p] + (sy_u64)dst[j].row * a->row_bytes
                                     : sy_co_row(o, a->d.heap, token, j);
        terms[n].weight = sum;
        terms[n++].flags = SY_TERM_ENDS | (w ? SY_TERM_WEIGHTED : 0);
    }
    return n;
}

/* The weight that came back for one selection. Per lane. */
SY_DEV float sy_co_weight(const struct sy_co *o, sy_u32 token, const sy_s32 *ids, sy_u32 k)
{
    const struct sy_combine_kargs *a = o->a;
    const struct sy_dst *dst =
        (const struct sy_dst *)SY_ROUTE_AT(&a->r, dst) + (sy_u64)token * SY_FAN(&a->r);
    sy_u32 fan = ((const sy_u32 *)SY_ROUTE_AT(&a->r, fan))[token];
    for (sy_u32 j = 0; ids[k] >= 0 && j < fan; j++)
        if (dst[j].rank == sy_owner(&a->d, ids[k]))
            return sy_bits_f32(sy_get32(sy_co_side(o, a->d.heap, token, j) + k));
    return 0.0f;
}

/* The weights that came back for a token. In out_probs those of equal ids add up, k ascending. */
SY_DEV void sy_co_weights(struct sy_ctx *c, const struct sy_co *o, sy_u32 token)
{
    const struct sy_combine_kargs *a = o->a;
    sy_u32 K = SY_TOPK(&a->r);
    const sy_s32 *ids = (const sy_s32 *)SY_ROUTE_AT(&a->r, ids) + (sy_u64)token * K;
    float *probs = a->out_probs.data ? (float *)sy_out_at(&a->out_probs, token) : 0;
    SY_FOR (e, c, probs ? a->d.experts : 0) {
        probs[e] = 0.0f;
    }
    sy_warp_sync(c);
    SY_FOR (k, c, K) {
        float v = sy_co_weight(o, token, ids, k);
        if (a->out_weights.data)
            *(float *)(sy_out_at(&a->out_weights, token) + (sy_s64)k * a->out_weights.stride1) = v;
        if (!probs || ids[k] < 0 || !sy_is_first_of(ids, k))
            continue;
        for (sy_u32 i = k + 1; i < K; i++)
            if (ids[i] == ids[k])
                v = sy_add_f32(v, sy_co_weight(o, token, ids, i));
        probs[ids[k]] = v;
    }
}

SY_DEV int sy_co_unit(struct sy_ctx *c, const struct sy_co *o, struct sy_term *terms, sy_u32 unit,
                      sy_u32 **last)
{
    const struct sy_combine_kargs *a = o->a;
    sy_u32 token = unit / a->s.splits, split = unit % a->s.splits;
    int settle = split == 0 && (o->latency || (token & (SY_CHUNK_ROWS - 1u)) == 0);
    struct sy_span span;
    if (!sy_co_await(c, o, token, settle, last))
        return 0;
    span.from = split * a->s.split_bytes;
    span.end = sy_min_u32(span.from + a->s.split_bytes, a->row_bytes);
    sy_warp_sync(c);
    span.n = sy_co_terms(o, token, terms, &span.grouped);
    sy_warp_sync(c);
    span.terms = terms;
    span.to = sy_out_at(&a->out, token);
    span.bias0 = a->bias0.data ? sy_out_at(&a->bias0, token) : 0;
    span.bias1 = a->bias1.data ? sy_out_at(&a->bias1, token) : 0;
    sy_sum_row(c, a->type, &span);
    if (split == 0 && (a->out_weights.data || a->out_probs.data))
        sy_co_weights(c, o, token);
    return 1;
}

/* Units in the order of tokens, dealt out to the finishers of all blocks. */
SY_DEV void sy_co_finish(struct sy_ctx *c, const struct sy_co *o, sy_u32 finisher)
{
    const struct sy_combine_kargs *a = o->a;
    sy_u32 units = a->tokens * a->s.splits, workers = c->blocks * a->s.finishers;
    sy_u32 term_bytes = SY_C_FAN(SY_TOPK(&a->r)) * (sy_u32)sizeof(struct sy_term), *last = 0;
    sy_u8 *behind = o->sh.stages + (sy_u64)a->s.pushers * a->s.stages * a->s.stage_bytes;
    struct sy_term *terms = (struct sy_term *)(behind + (sy_u64)finisher * term_bytes);
    sy_u32 counters = o->latency ? a->d.lat_tokens_max : a->d.tc_chunks;
    sy_u32 used = o->latency ? a->tokens : sy_div_up(a->tokens, SY_CHUNK_ROWS);
    for (sy_u32 u = c->block * a->s.finishers + finisher; u < units; u += workers)
        if (!sy_co_unit(c, o, terms, u, &last))
            return;
    /* Counters of tokens that this operation has not get their amount from here. */
    if (c->block == 0 && finisher == 0)
        for (sy_u32 i = used + c->lane; i < counters; i += SY_LANES)
            sy_signal_add(sy_co_counter(o, a->d.heap, o->latency ? i : i << SY_CHUNK_SHIFT),
                          SY_C_AMOUNT(&a->d, o->latency));
}

/* --- the kernel ----------------------------------------------------------------------------- */

/* Waits for every rank's start, and notes whose rows can be read. By one warp per block. */
SY_DEV int sy_co_starts(struct sy_ctx *c, struct sy_co *o)
{
    const struct sy_combine_kargs *a = o->a;
    const struct sy_dev *d = &a->d;
    const sy_u32 *extent = (const sy_u32 *)SY_ROUTE_AT(&a->r, extent);
    sy_u64 begun = o->op->epoch - (SY_PLANT(REUSED_EARLY) ? 1u : o->latency);
    const struct sy_start *start = sy_starts(d, o->op->channel, begun);
    int good = 1;
    for (sy_u32 base = 0; base < SY_RANKS(d); base += SY_LANES) {
        sy_u32 p = base + c->lane, value = 0, check = 0;
        int in = p < SY_RANKS(d);
        if (!sy_wait_epoch(c, o->op, in && begun ? &start[p].value : 0, begun, SY_FAULT_START, p,
                           &value))
            return 0;
        if (o->latency) {
            if (in)
                o->rows_of[p] = 0;
            continue;
        }
        if (!sy_wait_epoch(c, o->op, in ? &start[p].check : 0, begun, SY_FAULT_START, p, &check))
            return 0;
        if (in && check != a->check) {
            sy_raise(c, o->op, sy_missed(d, SY_FAULT_CHECK, p, &start[p].check));
            good = 0;
        }
        sy_u64 offset = (sy_u64)(value - 1) * SY_REGION_ALIGN;
        if (in && value && offset + (sy_u64)extent[p] * a->row_bytes > d->heap_bytes) {
            sy_raise(c, o->op, sy_missed(d, SY_FAULT_BYTES, p, &start[p].value));
            good = 0;
        }
        if (in)
            o->rows_of[p] = value && good ? d->peers[p] + offset : 0;
    }
    return !sy_any(c, !good);
}

/* Latency mode: by now the sources of all rows have begun; do they run the same operation? */
SY_DEV void sy_co_check_late(struct sy_ctx *c, const struct sy_co *o)
{
    const struct sy_dev *d = &o->a->d;
    const struct sy_start *start = sy_starts(d, o->op->channel, o->op->epoch);
    for (sy_u32 base = 0; base < SY_RANKS(d); base += SY_LANES) {
        sy_u32 p = base + c->lane, check = 0;
        int in = p < SY_RANKS(d);
        if (!sy_wait_epoch(c, o->op, in ? &start[p].check : 0, o->op->epoch, SY_FAULT_START, p,
                           &check))
            return;
        if (in && check != o->a->check)
            sy_raise(c, o->op, sy_missed(d, SY_FAULT_CHECK, p, &start[p].check));
    }
}

/* The last block: tells the holders that their rows have been read, and waits for the same. */
SY_DEV int sy_co_settle(struct sy_ctx *c, const struct sy_co *o)
{
    const struct sy_combine_kargs *a = o->a;
    const struct sy_dev *d = &a->d;
    const sy_u64 *done = (const sy_u64 *)SY_OWN(d, tc_done);
    sy_u32 *weigh = (sy_u32 *)(d->heap + (o->latency ? d->at.lc_weigh : d->at.tc_weigh));
    const sy_u32 *live = (const sy_u32 *)SY_ROUTE_AT(&a->r, live_all);
    sy_u32 amount = o->latency ? d->lat_tokens_max : d->tokens_max, ignore;
    int weighed = sy_co_ahead_needed(o) && !a->pull;
    for (sy_u32 s = 0; weighed && s < SY_RANKS(d); s++)
        if (!sy_co_wait_weights(c, o, s))
            return 0;
    SY_FOR (s, c, SY_RANKS(d)) {
        sy_signal_add(weigh + s, amount - (weighed ? live[s] : 0));
    }
    if (o->latency) {
        sy_co_check_late(c, o);
        return 1;
    }
    sy_fence_publish(c);
    SY_FOR (p, c, SY_RANKS(d)) {
        sy_put64((sy_u64 *)SY_PEER(d, p, tc_done) + d->rank, sy_word(o->op->epoch, 1u));
    }
    for (sy_u32 base = 0; a->pull && base < SY_RANKS(d); base += SY_LANES) {
        sy_u32 s = base + c->lane;
        if (!sy_wait_epoch(c, o->op, s < SY_RANKS(d) ? done + s : 0, o->op->epoch, SY_FAULT_FETCH,
                           s, &ignore))
            return 0;
    }
    return 1;
}

SY_DEV void sy_co_roles(struct sy_ctx *c, struct sy_co *o)
{
    const struct sy_combine_kargs *a = o->a;
    const struct sy_shape *s = &a->s;
    sy_u32 finisher = s->pushers + s->signallers;
    struct sy_pipe pipe = sy_pipe_of(c, &o->sh, s, SY_C_FAN(SY_TOPK(&a->r)), 0);
    if (c->warp < s->pushers)
        sy_pipe_begin(c, &pipe, s);
    if (c->block == 0 && c->warp == 0 && a->send && !sy_lost(c, &a->d) &&
        sy_rows_suffice(c, o->op, &a->r, sy_rows_needed(&a->r), a->x.rows)) {
        sy_fence_publish(c);
        sy_op_start(c, o->op, a->pull ? (sy_u32)(a->x_offset / SY_REGION_ALIGN) + 1u : 0, a->check);
    }
    if (c->warp == c->warps - 1) {
        int ready = !sy_lost(c, &a->d) && sy_co_starts(c, o);
        if (c->lane == 0)
            *o->sh.ready = (sy_u32)ready;
    }
    sy_block_sync(c);
    if (!*o->sh.ready)
        return;
    if (a->send && sy_co_ahead_needed(o))
        sy_co_send_weights(c, o, c->block * c->warps + c->warp, c->blocks * c->warps);
    if (a->send && !a->pull && c->warp < s->pushers)
        sy_co_push(c, o, &pipe);
    else if (a->send && !a->pull && c->warp < finisher)
        sy_co_signal(c, o);
    else if (a->receive && c->warp >= finisher)
        sy_co_finish(c, o, c->warp - finisher);
}

SY_DEV void sy_k_combine(struct sy_ctx *c, const struct sy_combine_kargs *a)
{
    sy_u32 channel = a->r.latency ? SY_CH_LCOMBINE : SY_CH_TCOMBINE;
    struct sy_op op = sy_op_begin(&a->d, channel, (int)a->send);
    struct sy_co o;
    o.a = a;
    o.op = &op;
    o.latency = a->r.latency;
    o.half = SY_PLANT(PARITY_PER_HANDLE) ? 0 : op.epoch & 1u;
    o.sh = sy_shared_carve(c, &a->s, SY_RANKS(&a->d));
    o.rows_of = o.sh.target;
    sy_co_roles(c, &o);
    if (sy_op_leave(c, &op, (int)a->send)) {
        if (a->receive && *o.sh.ready && !sy_co_settle(c, &o))
            return;
        sy_op_close(c, &op, (int)a->send, (int)a->receive);
    }
}

#endif
