/* combine_push.h - the holder of rows in a combine: pushers, and the signaller of their block. See
 * k_combine.h. */
#ifndef SY_DEVICE_COMBINE_PUSH_H
#define SY_DEVICE_COMBINE_PUSH_H

#include "combine.h"

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

/* The terms of a received row in the layouts by expert, k ascending. By one warp. */
SY_DEV sy_u32 sy_co_own_terms(struct sy_ctx *c, const struct sy_co *o, const struct sy_chosen *row,
                              struct sy_term *terms)
{
    const struct sy_combine_kargs *a = o->a;
    sy_u32 K = SY_TOPK(&a->r), n = 0;
    const sy_s32 *sel = (const sy_s32 *)SY_ROUTE_AT(&a->r, recv_sel) + (sy_u64)row->order * K;
    const float *w = sy_co_ahead(o, a->d.heap, row->order);
    for (sy_u32 base = 0; base < K; base += SY_LANES) {
        sy_u32 k = base + c->lane, all, before;
        sy_s32 at = k >= K ? -1 : K <= SY_LANES ? row->sel : sel[k];
        before = n + sy_count_lower(c, at >= 0, &all);
        n += all;
        if (at < 0)
            continue;
        terms[before].row = sy_out_at(&a->x, (sy_u32)at);
        terms[before].weight = a->weighted ? sy_bits_f32(sy_get32(w + k)) : 0.0f;
        terms[before].flags = a->weighted ? SY_TERM_WEIGHTED : 0;
    }
    sy_warp_sync(c);
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

/* Where the bytes of the at-th stage's item lie when they are ready to be stored: in place, summed,
 * or zeros. A sum may replace its first term. */
SY_DEV const sy_u8 *sy_co_make(struct sy_ctx *c, const struct sy_co *o, struct sy_pipe *p,
                               sy_u32 at)
{
    const struct sy_combine_kargs *a = o->a;
    struct sy_stage *s = sy_stage_at(p, at);
    sy_u8 *body = sy_stage_body(p, s);
    struct sy_span span;
    if (s->from)
        return SY_STAGED(body, (const sy_u8 *)s->from);
    if (!sy_by_expert(SY_LAYOUT(&a->r))) { /* nothing of it was delivered */
        const struct sy_v16 zero = {{0, 0, 0, 0}};
        SY_FOR (i, c, s->bytes / 16u)
            sy_set16(body + i * 16u, zero);
        sy_fence_bulk(c);
        sy_warp_sync(c);
        return body;
    }
    span.terms = (const struct sy_term *)sy_stage_dst(s);
    span.n = s->fan;
    span.grouped = 0;
    span.weighted = a->weighted;
    span.staged = s->staged;
    span.first = sy_stage_number(p, at);
    span.stages = p->stages;
    span.stage_bytes = p->stage_bytes;
    span.ring = p->stage + p->body_at;
    span.bias0 = span.bias1 = 0;
    span.from = s->part * a->s.part_bytes;
    span.end = span.from + s->bytes;
    span.to = body - span.from;
    sy_sum_row(c, SY_TYPE(a), &span);
    sy_fence_bulk(c);
    sy_warp_sync(c);
    return body;
}

/* Begins to load the same part of each term, one into each stage from the at-th on. */
SY_DEV void sy_co_gather(struct sy_ctx *c, struct sy_pipe *p, sy_u32 at,
                         const struct sy_term *terms, sy_u32 n, sy_u32 from, sy_u32 bytes)
{
    SY_UNROLL(1)
    for (sy_u32 i = 0; i < n; i++) {
        struct sy_stage *s = sy_stage_at(p, at + i);
        sy_load_expect(c, &s->gate, bytes);
        sy_load_bulk(c, &s->gate, sy_stage_body(p, s), terms[i].row + from, bytes);
    }
}

/* A chosen row: what to do with it, into the head of the at-th stage; begins its loads, into `held`
 * stages. */
SY_DEV void sy_co_fetch(struct sy_ctx *c, const struct sy_co *o, struct sy_pipe *p, sy_u32 at,
                        sy_u32 held, const struct sy_chosen *it)
{
    const struct sy_combine_kargs *a = o->a;
    struct sy_stage *s = sy_stage_at(p, at);
    struct sy_term *terms = (struct sy_term *)sy_stage_dst(s);
    sy_u32 from = it->part * a->s.part_bytes, j = it->j, place = j & ~SY_ZERO_ROW, n = 0;
    sy_u32 bytes = sy_min_u32(a->s.part_bytes, a->row_bytes - from), staged;
    sy_u8 *heap = it->heap;
    const sy_u8 *row = 0;
    if (j != SY_NOT_DELIVERED && sy_by_expert(SY_LAYOUT(&a->r))) {
        n = sy_co_own_terms(c, o, it, terms);
        if (n == 1 && !a->weighted)
            row = terms->row;
    } else if (!(j & SY_ZERO_ROW)) {
        row = sy_out_at(&a->x, it->row);
    }
    staged = a->s.gather && !row && n && n == held;
    sy_warp_sync(c);
    if (c->lane == 0) {
        s->token = j == SY_NOT_DELIVERED ? SY_NOTHING_SENT : it->token;
        s->part = it->part;
        s->fan = n;
        s->bytes = bytes;
        s->code = it->source;
        s->held = held;
        s->staged = staged;
        s->from = row ? (sy_u64)(row + from) : 0;
        s->to = (sy_u64)(sy_co_row(o, heap, it->token, place) + from);
    }
    if (staged) {
        sy_co_gather(c, p, at, terms, n, from, bytes);
    } else {
        sy_load_expect(c, &s->gate, row ? bytes : 0);
        if (row)
            sy_load_bulk(c, &s->gate, sy_stage_body(p, s), row + from, bytes);
    }
    if (sy_co_tells_dropped(o) && c->lane == 0)
        sy_put32(sy_co_dropped(o, heap, it->token, place), j & SY_ZERO_ROW);
    if (a->carry && it->part == 0 && j != SY_NOT_DELIVERED)
        sy_co_push_side(c, o, it, sy_co_side(o, heap, it->token, place));
    sy_warp_sync(c);
}

/* Latency mode: the sources of the first n entries are told; nobody else uses a pusher's entries
 * there. */
SY_DEV void sy_co_tell(struct sy_ctx *c, const struct sy_co *o, struct sy_pipe *p, sy_u32 n)
{
    SY_STORE_WAIT_DONE(c, 0);
    sy_warp_sync(c); /* the stores are one lane's, the signals those of several */
    sy_fence_publish(c);
    SY_FOR (i, c, n) {
        sy_u32 code = p->entries[i];
        if (code != SY_NOTHING_SENT)
            sy_signal_add(sy_co_counter(o, o->a->d.peers[code & 0xfffu], code >> 12), 1u);
        p->entries[i] = SY_NOTHING_SENT;
    }
    sy_warp_sync(c);
}

/* So many items at most are told together: a fence waits until all that was sent has arrived, and
 * an item that is ready to be sent should not wait for that. A power of two. */
#define SY_TOLD_TOGETHER 4u
SY_STATIC_ASSERT(SY_TOLD_TOGETHER <= SY_RING_ENTRIES, "a pusher has so many");

/* Stores item n, which the at-th stage holds, and has its arrival told. */
SY_DEV int sy_co_send(struct sy_ctx *c, const struct sy_co *o, struct sy_pipe *p, sy_u32 n,
                      sy_u32 at_stage)
{
    const struct sy_combine_kargs *a = o->a;
    struct sy_stage *s = sy_stage_at(p, at_stage);
    sy_u32 source = s->code, token = s->token;
    const sy_u8 *row = token == SY_NOTHING_SENT ? 0 : sy_co_make(c, o, p, at_stage);
    for (sy_u32 at = 0; row && at < s->bytes; at += a->s.piece_bytes) {
        sy_u32 bytes = sy_min_u32(a->s.piece_bytes, s->bytes - at);
        sy_pipe_pace(p, &a->s, source != a->d.rank ? bytes : 0);
        sy_store_bulk(c, (sy_u8 *)s->to + at, row + at, bytes);
    }
    sy_store_commit(c);
    if (!o->latency)
        return sy_pipe_sent(c, o->op, p, n,
                            row ? source | (token >> SY_CHUNK_SHIFT) << 12 : SY_NOTHING_SENT);
    if (c->lane == 0)
        p->entries[n % SY_TOLD_TOGETHER] = row ? source | token << 12 : SY_NOTHING_SENT;
    if (n + 1 == p->begun || n % SY_TOLD_TOGETHER == SY_TOLD_TOGETHER - 1)
        sy_co_tell(c, o, p, n % SY_TOLD_TOGETHER + 1);
    return 1;
}

/* What a pusher must know of a source. */
struct sy_source {
    sy_u32 rows;
    sy_u32 order, row; /* of its first row */
    sy_u8 *heap;
};

/* Which rows a pusher takes: the sources in turn, each in order. Two rows ahead it takes a ticket,
 * one row ahead it asks what the ticket stands for, so that it waits for neither. In latency mode
 * there are few rows for each: they are dealt out, and no ticket costs its way. Either way ranks
 * begin with different sources, and neighbours take different ones: all of them at once would wait
 * for the links of one. */
struct sy_turn {
    sy_u32 source; /* of the ticket                    */
    sy_u32 left;   /* sources that may still have rows; latency: parts of all sources */
    sy_u32 ticket; /* lane 0; latency: all lanes                                      */
    struct sy_chosen it;
    struct sy_source mine; /* lane s has that of source s, if there are as many lanes */
};

SY_DEV struct sy_source sy_source_load(const struct sy_co *o, sy_u32 s)
{
    const struct sy_dev_route *r = &o->a->r;
    struct sy_source of;
    of.rows = ((const sy_u32 *)SY_ROUTE_AT(r, source_counts))[s];
    if (s == o->a->d.rank && sy_co_keeps_own(o))
        of.rows = 0;
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
    of.row = sy_by_expert(SY_LAYOUT(&o->a->r)) ? 0 : sy_bcast(c, t->mine.row, s);
    of.heap = (sy_u8 *)sy_bcast64(c, (sy_u64)t->mine.heap, s);
    return of;
}

SY_DEV void sy_turn_ticket(struct sy_ctx *c, const struct sy_co *o, struct sy_turn *t)
{
    const struct sy_dev *d = &o->a->d;
    t->source = t->source + 1 < SY_RANKS(d) ? t->source + 1 : 0;
    if (t->source == d->rank && SY_RANKS(d) > 1 && sy_co_keeps_own(o))
        t->source = t->source + 1 < SY_RANKS(d) ? t->source + 1 : 0;
    if (c->lane == 0)
        t->ticket = sy_draw((sy_u32 *)SY_MINE(d, source_ticket) + t->source);
}

/* The next ticket that stands for a part of a row: its source, and the part's number among the
 * source's. 0: there are no more. */
SY_DEV int sy_turn_find(struct sy_ctx *c, const struct sy_co *o, struct sy_turn *t,
                        struct sy_source *of, sy_u32 *item)
{
    sy_u32 parts = o->a->s.parts;
    for (;;) {
        *of = sy_source_of(c, o, t, t->source);
        *item = sy_bcast(c, t->ticket, 0);
        if (*item < of->rows * parts)
            return 1;
        if (--t->left == 0)
            return 0;
        sy_turn_ticket(c, o, t);
    }
}

/* Tickets are dealt over as many columns of equal height as there are ranks, row by row; one column
 * behind the other they hold the parts of the next rank, of the one after it, and so on. */
SY_DEV int sy_turn_dealt(struct sy_ctx *c, const struct sy_co *o, struct sy_turn *t,
                         struct sy_source *of, sy_u32 *item)
{
    const struct sy_combine_kargs *a = o->a;
    sy_u32 ranks = SY_RANKS(&a->d), height = sy_div_up(t->left, ranks), u;
    for (;; t->ticket += a->s.pushers * c->blocks) {
        u = t->ticket % ranks * height + t->ticket / ranks;
        if (t->ticket >= ranks * height)
            return 0;
        if (u < t->left) /* else it is one of the last column's that are missing */
            break;
    }
    t->source = a->d.rank;
    for (sy_u32 i = 0; i < ranks; i++) {
        t->source = t->source + 1 < ranks ? t->source + 1 : 0;
        *of = sy_source_of(c, o, t, t->source);
        *item = u;
        if (u < of->rows * a->s.parts)
            return 1;
        u -= of->rows * a->s.parts;
    }
    return 0;
}

/* Returns 0 when there are no more rows. */
SY_DEV int sy_turn_choose(struct sy_ctx *c, const struct sy_co *o, struct sy_turn *t)
{
    const struct sy_combine_kargs *a = o->a;
    sy_u32 K = SY_TOPK(&a->r), item, nth;
    struct sy_source of;
    if (!(o->latency ? sy_turn_dealt(c, o, t, &of, &item) : sy_turn_find(c, o, t, &of, &item)))
        return 0;
    t->it.source = t->source;
    t->it.heap = of.heap;
    nth = sy_quotient(item, a->s.by_parts);
    t->it.part = item - nth * a->s.parts;
    t->it.row = of.row + nth;
    t->it.order = of.order + nth;
    t->it.token = ((const sy_u32 *)SY_ROUTE_AT(&a->r, recv_token))[t->it.order];
    t->it.j = ((const sy_u32 *)SY_ROUTE_AT(&a->r, recv_fan))[t->it.order];
    if (sy_by_expert(SY_LAYOUT(&a->r)) && c->lane < K)
        t->it.sel =
            ((const sy_s32 *)SY_ROUTE_AT(&a->r, recv_sel))[(sy_u64)t->it.order * K + c->lane];
    if (o->latency) {
        t->ticket += c->blocks * a->s.pushers;
        return 1;
    }
    t->left = SY_RANKS(&a->d);
    sy_turn_ticket(c, o, t);
    return 1;
}

/* The stages of a pusher as a ring: items take one each, or one for each term of a sum. */
struct sy_ring {
    sy_u32 taken, sent;                 /* stages, ever */
    sy_u32 ends[SY_STORES_LEAVING + 1]; /* where the last items ended, the newest first */
};

/* How many stages the chosen row wants. */
SY_DEV sy_u32 sy_co_stages(struct sy_ctx *c, const struct sy_co *o, const struct sy_chosen *it)
{
    const struct sy_combine_kargs *a = o->a;
    sy_u32 K = SY_TOPK(&a->r), n = 0;
    const sy_s32 *sel = (const sy_s32 *)SY_ROUTE_AT(&a->r, recv_sel) + (sy_u64)it->order * K;
    if (!a->s.gather || it->j == SY_NOT_DELIVERED || !sy_by_expert(SY_LAYOUT(&a->r)))
        return 1;
    for (sy_u32 base = 0; base < K; base += SY_LANES) {
        sy_u32 k = base + c->lane, all;
        sy_count_lower(c, k < K && (K <= SY_LANES ? it->sel : sel[k]) >= 0, &all);
        n += all;
    }
    return n > 0 && n <= a->s.stages ? n : 1;
}

/* Begins rows while there is room. */
SY_DEV void sy_co_begin(struct sy_ctx *c, const struct sy_co *o, struct sy_pipe *p,
                        struct sy_turn *t, struct sy_ring *ring)
{
    while (p->more) {
        sy_u32 held = sy_co_stages(c, o, &t->it);
        if (ring->taken + held - ring->ends[SY_STORES_LEAVING] > o->a->s.stages)
            return;
        if (sy_co_ahead_needed(o) && !sy_co_wait_weights(c, o, t->it.source)) {
            p->more = 0;
            return;
        }
        sy_co_fetch(c, o, p, ring->taken, held, &t->it);
        ring->taken += held;
        p->begun++;
        p->more = sy_turn_choose(c, o, t);
    }
}

/* Until the loads of the item in stage number `first` are there. */
SY_DEV int sy_co_loaded(struct sy_ctx *c, const struct sy_co *o, struct sy_pipe *p, sy_u32 first)
{
    struct sy_stage *s = sy_stage_at(p, first);
    sy_u32 end = first + (s->staged ? s->held : 1);
    for (sy_u32 at = first; at < end; at++)
        if (!sy_wait_load(c, o->op, &sy_stage_at(p, at)->gate, sy_stage_turn(p, at) & 1u))
            return 0;
    return 1;
}

/* Item n: waits for its loads, sends it, and until the stages of older ones are free. */
SY_DEV int sy_co_item(struct sy_ctx *c, const struct sy_co *o, struct sy_pipe *p, sy_u32 n,
                      struct sy_ring *ring)
{
    sy_u32 held = sy_stage_at(p, ring->sent)->held;
    if (!sy_co_loaded(c, o, p, ring->sent) || !sy_co_send(c, o, p, n, ring->sent))
        return 0;
    ring->sent += held;
    SY_STORE_WAIT_READ(c, SY_STORES_LEAVING);
    sy_warp_sync(c);
    SY_UNROLL(8)
    for (sy_u32 i = SY_STORES_LEAVING; i > 0; i--)
        ring->ends[i] = ring->ends[i - 1];
    ring->ends[0] = ring->sent;
    return 1;
}

/* The group is lost: the loads that have begun still end. */
SY_DEV void sy_co_abandon(struct sy_ctx *c, const struct sy_co *o, struct sy_pipe *p,
                          struct sy_ring *ring)
{
    while (ring->sent < ring->taken && sy_co_loaded(c, o, p, ring->sent))
        ring->sent += sy_stage_at(p, ring->sent)->held;
    SY_STORE_WAIT_READ(c, 0);
}

/* Before its first row. */
SY_DEV void sy_turn_begin(struct sy_ctx *c, const struct sy_co *o, struct sy_turn *t)
{
    const struct sy_combine_kargs *a = o->a;
    sy_u32 worker = c->block * a->s.pushers + c->warp;
    t->source = (a->d.rank + worker) % SY_RANKS(&a->d);
    t->left = o->latency ? 0 : SY_RANKS(&a->d);
    t->ticket = c->warp * c->blocks + c->block; /* latency: blocks before warps */
    t->it.sel = -1;
    t->mine = sy_source_load(o, c->lane % SY_RANKS(&a->d));
    if (o->latency) {
        SY_FOR (s, c, SY_RANKS(&a->d))
            t->left += sy_source_load(o, s).rows * a->s.parts;
        t->left = sy_sum(c, t->left);
        if (!sy_rows_fit(&a->r, sy_rows_needed(&a->r), a->x.rows))
            t->left = 0; /* who starts the operation says so */
    } else {
        sy_turn_ticket(c, o, t);
    }
}

SY_DEV void sy_co_push(struct sy_ctx *c, const struct sy_co *o, struct sy_pipe *p)
{
    sy_u32 n = 0;
    struct sy_turn turn;
    struct sy_ring ring = {0, 0, {0}};
    sy_turn_begin(c, o, &turn);
    p->more = sy_turn_choose(c, o, &turn);
    for (;;) {
        sy_co_begin(c, o, p, &turn, &ring);
        for (; n < p->begun; n++) {
            if (!sy_co_item(c, o, p, n, &ring)) {
                sy_co_abandon(c, o, p, &ring);
                return;
            }
            sy_co_begin(c, o, p, &turn, &ring);
        }
        if (!p->more)
            break;
        SY_STORE_WAIT_READ(c, 0); /* a row that wants all stages */
        sy_warp_sync(c);
        for (sy_u32 i = 0; i <= SY_STORES_LEAVING; i++)
            ring.ends[i] = ring.sent;
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

#endif
