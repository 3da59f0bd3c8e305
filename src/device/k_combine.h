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

#include "combine_push.h"
#include "combine_sum.h"

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
        if (o->latency) {
            if (!sy_wait_epoch(c, o->op, in && begun ? &start[p].value : 0, begun, SY_FAULT_START,
                               p, &value))
                return 0;
            if (in)
                o->rows_of[p] = 0;
            continue;
        }
        sy_u8 *peer = in ? d->peers[p] : 0; /* asked for while this warp waits, as is how much */
        sy_u64 bytes = in ? (sy_u64)extent[p] * a->row_bytes : 0;
        if (!sy_wait_start(c, o->op, in ? start + p : 0, begun, p, &value, &check))
            return 0;
        if (in && check != a->check) {
            sy_raise(c, o->op, sy_missed(d, SY_FAULT_CHECK, p, &start[p].check));
            good = 0;
        }
        sy_u64 offset = (sy_u64)(value - 1) * SY_REGION_ALIGN;
        if (in && value && offset + bytes > d->heap_bytes) {
            sy_raise(c, o->op, sy_missed(d, SY_FAULT_BYTES, p, &start[p].value));
            good = 0;
        }
        if (in)
            o->rows_of[p] = value && good ? peer + offset : 0;
        if (in && good && p == d->rank && sy_co_keeps_own(o))
            o->rows_of[p] = a->x.data;
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
        if (!sy_wait_word(c, o->op, in ? &start[p].check : 0, o->op->epoch, SY_FAULT_START, p,
                          &check))
            return;
        if (in && check != o->a->check)
            sy_raise(c, o->op, sy_missed(d, SY_FAULT_CHECK, p, &start[p].check));
    }
}

/* The last block: tells the holders that their rows have been read, and waits for the same. If the
 * group is lost that is in vain, and the operation is closed as well: later launches must not find
 * blocks of this one counted. */
SY_DEV void sy_co_settle(struct sy_ctx *c, const struct sy_co *o)
{
    const struct sy_combine_kargs *a = o->a;
    const struct sy_dev *d = &a->d;
    const sy_u64 *done = (const sy_u64 *)SY_OWN(d, tc_done);
    sy_u32 *weigh = (sy_u32 *)(d->heap + (o->latency ? d->at.lc_weigh : d->at.tc_weigh));
    const sy_u32 *live = (const sy_u32 *)SY_ROUTE_AT(&a->r, live_all);
    sy_u32 amount = o->latency ? d->lat_tokens_max : d->tokens_max, ignore;
    int weighed = sy_co_ahead_needed(o) && !SY_PULL(a);
    sy_u8 *peer = sy_peer_of_lane(c, d);
    for (sy_u32 s = 0; weighed && s < SY_RANKS(d); s++)
        if (!sy_co_wait_weights(c, o, s))
            return;
    if (!o->latency)
        sy_fence_publish(c);
    SY_FOR (p, c, o->latency ? 0 : SY_RANKS(d)) {
        sy_u8 *heap = p == c->lane ? peer : d->peers[p];
        sy_put64((sy_u64 *)SY_AT(d, heap, tc_done) + d->rank, sy_word(o->op->epoch, 1u));
    }
    SY_FOR (s, c, SY_RANKS(d)) {
        sy_signal_add(weigh + s, amount - (weighed ? live[s] : 0));
    }
    if (o->latency) {
        sy_co_check_late(c, o);
        return;
    }
    for (sy_u32 base = 0; SY_PULL(a) && base < SY_RANKS(d); base += SY_LANES) {
        sy_u32 s = base + c->lane;
        if (!sy_wait_epoch(c, o->op, s < SY_RANKS(d) ? done + s : 0, o->op->epoch, SY_FAULT_FETCH,
                           s, &ignore))
            return;
    }
}

/* Tells all ranks that this one has begun. With pull they read what earlier launches wrote. */
SY_DEV void sy_co_start(struct sy_ctx *c, const struct sy_co *o)
{
    const struct sy_combine_kargs *a = o->a;
    /* All asked for before something is waited for. */
    int stopped = c->lane == 0 && sy_stopped(&a->d);
    sy_u32 need = SY_ASKS_AHEAD(!stopped) ? sy_rows_needed(&a->r) : 0;
    sy_u8 *peer = sy_peer_of_lane(c, &a->d);
    if (!o->latency)
        sy_fence_publish(c);
    if (sy_any(c, stopped) && sy_lost(c, &a->d))
        return;
    if (!sy_rows_suffice(c, o->op, &a->r, need, a->x.rows))
        return;
    sy_op_start(c, o->op, peer, SY_PULL(a) ? (sy_u32)(a->x_offset / SY_REGION_ALIGN) + 1u : 0,
                a->check);
}

SY_DEV void sy_co_roles(struct sy_ctx *c, struct sy_co *o)
{
    const struct sy_combine_kargs *a = o->a;
    const struct sy_shape *s = &a->s;
    sy_u32 finisher = s->pushers + s->signallers;
    struct sy_pipe pipe = sy_pipe_of(c, &o->sh, s, SY_C_FAN(SY_TOPK(&a->r)), 0);
    struct sy_finisher f = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, {0, {{0, 0, 0, 0}}}};
    /* Latency mode is here before the answer would be; kernels for both lack registers for it. */
    int early = SY_ASKS_AHEAD(0) && SY_MODE_KNOWN && !o->latency;
    if (c->warp < s->pushers)
        sy_pipe_begin(c, &pipe, s);
    /* Latency mode: the block that has a row last. */
    if (a->send && c->warp == 0 && c->block == (o->latency ? c->blocks - 1 : 0))
        sy_co_start(c, o);
    if (c->warp == c->warps - 1) {
        int ready = !sy_lost(c, &a->d) && sy_co_starts(c, o);
        if (c->lane == 0)
            *o->sh.ready = (sy_u32)ready;
    }
    if (early && a->receive && c->warp >= finisher)
        sy_co_finisher(c, o, c->warp - finisher, &f);
    sy_block_sync(c);
    if (!*o->sh.ready)
        return;
    if (a->send && sy_co_ahead_needed(o))
        sy_co_send_weights(c, o, c->block * c->warps + c->warp, c->blocks * c->warps);
    if (a->send && !SY_PULL(a) && c->warp < s->pushers)
        sy_co_push(c, o, &pipe);
    else if (a->send && !SY_PULL(a) && c->warp < finisher)
        sy_co_signal(c, o);
    else if (a->receive && c->warp >= finisher) {
        if (!early)
            sy_co_finisher(c, o, c->warp - finisher, &f);
        sy_co_finish(c, o, &f);
    }
}

SY_DEV void sy_k_combine(struct sy_ctx *c, const struct sy_combine_kargs *a)
{
    sy_u32 channel = SY_LATENCY(&a->r) ? SY_CH_LCOMBINE : SY_CH_TCOMBINE;
    struct sy_op op = sy_op_begin(&a->d, channel, (int)a->send);
    struct sy_co o;
    o.a = a;
    o.op = &op;
    o.latency = SY_LATENCY(&a->r);
    o.half = SY_PLANT(PARITY_PER_HANDLE) ? 0 : (sy_u32)op.epoch & 1u;
    o.sh = sy_shared_carve(c, &a->s, SY_RANKS(&a->d));
    o.rows_of = o.sh.rows_of;
    sy_co_roles(c, &o);
    if (sy_op_leave(c, &op, (int)a->send)) {
        if (a->receive && *o.sh.ready)
            sy_co_settle(c, &o);
        sy_op_close(c, &op, (int)a->send, (int)a->receive);
    }
}

#endif
