/* sync.h - waiting, and beginning and ending an operation.
 *
 * Every wait of device code is one of the functions here. A wait ends when its word has come, when
 * another rank or the host has set this rank's stop word, or at the deadline; in the last case the
 * waiter tells all ranks what it missed. A wait that returns 0 means: leave the kernel now. */
#ifndef SY_DEVICE_SYNC_H
#define SY_DEVICE_SYNC_H

#include "../layout/args.h"
#include "prims.h"

/* What a launch is part of. */
struct sy_op {
    const struct sy_dev *d;
    sy_u32 channel;
    sy_u64 epoch;
};

/* An address in a rank's heap, by region name. */
#define SY_AT(d, base, region) ((void *)((base) + (d)->at.region))
#define SY_OWN(d, region) SY_AT(d, (d)->heap, region)
#define SY_PEER(d, p, region) SY_AT(d, (d)->peers[p], region)
#define SY_MINE(d, name) ((void *)((d)->mine + (d)->in.name))
#define SY_ROUTE_AT(r, name) ((void *)((r)->memory + (r)->at.name))

/* The rank of an expert, which must be one. */
SY_DEV sy_u32 sy_owner(const struct sy_dev *d, sy_s32 expert)
{
    if (d->owner_scale)
        return (sy_u32)((sy_u64)(sy_u32)expert * d->owner_scale >> 32);
    return d->owner[expert];
}

#define SY_SPINS_PER_LOOK 32u /* how often a wait looks at the stop word and the clock */

SY_DEV int sy_stopped(const struct sy_dev *d)
{
    return sy_glance((const sy_u32 *)SY_OWN(d, stop)) != 0;
}

/* All of a record but its first word, which goes last. Per lane. */
SY_DEV void sy_put_record(struct sy_fault_record *record, const struct sy_fault_record *f)
{
    sy_u64 *to = (sy_u64 *)record;
    sy_put64(to + 1, (sy_u64)f->reporter << 32 | f->culprit);
    sy_put64(to + 2, f->epoch);
    sy_put64(to + 3, f->expected);
    sy_put64(to + 4, f->seen);
    sy_put64(to + 5, f->place);
}

SY_DEV void sy_put_what(struct sy_fault_record *record, const struct sy_fault_record *f)
{
    sy_put64((sy_u64 *)record, (sy_u64)f->channel << 32 | f->what);
}

/* Tells this rank's host of a fault, unless that has been done (word 2 of the stop region). Per
 * lane. */
SY_DEV void sy_tell_host(struct sy_ctx *c, const struct sy_dev *d, const struct sy_fault_record *f)
{
    if (sy_claim((sy_u32 *)SY_OWN(d, stop) + 2))
        return;
    sy_put_record(&d->report->fault, f);
    sy_fence_publish(c);
    sy_put_what(&d->report->fault, f);
}

/* This rank has been told to leave. Its host may not know yet: it gets the record of whoever said
 * so; there is none if the host itself did. Per lane. */
SY_DEV void sy_hear_fault(struct sy_ctx *c, const struct sy_dev *d)
{
    const struct sy_fault_record *records = (const struct sy_fault_record *)SY_OWN(d, fault);
    sy_peek((const sy_u32 *)SY_OWN(d, stop)); /* records are published before it */
    for (sy_u32 p = 0; p < SY_RANKS(d); p++) {
        const sy_u64 *from = (const sy_u64 *)(records + p);
        sy_u64 first = sy_peek64(from);
        struct sy_fault_record f;
        if ((sy_u32)first == SY_FAULT_NONE)
            continue;
        f.what = (sy_u32)first;
        f.channel = (sy_u32)(first >> 32);
        f.culprit = (sy_u32)sy_glance64(from + 1);
        f.reporter = p; /* written by p, whatever it says */
        f.epoch = sy_glance64(from + 2);
        f.expected = sy_glance64(from + 3);
        f.seen = sy_glance64(from + 4);
        f.place = sy_glance64(from + 5);
        sy_tell_host(c, d, &f);
        return;
    }
}

/* Has this rank been told to leave? Then nothing that kernels before this one left may be used, and
 * the host hears why. */
SY_DEV int sy_lost(struct sy_ctx *c, const struct sy_dev *d)
{
    int lost = c->lane == 0 && sy_stopped(d) && !SY_PLANT(LOST_ROUTE);
    if (lost)
        sy_hear_fault(c, d);
    return (int)sy_bcast(c, (sy_u32)lost, 0);
}

/* Tells every rank what this warp missed, unless this rank has told something already (word 1 of
 * the stop region). Per lane. */
SY_DEV_COLD void sy_raise(struct sy_ctx *c, const struct sy_op *op, struct sy_fault_record f)
{
    const struct sy_dev *d = op->d;
    if (sy_claim((sy_u32 *)SY_OWN(d, stop) + 1))
        return;
    f.channel = op->channel;
    f.epoch = op->epoch;
    f.reporter = d->rank;
    sy_tell_host(c, d, &f);
    for (sy_u32 p = 0; p < SY_RANKS(d); p++)
        sy_put_record((struct sy_fault_record *)SY_PEER(d, p, fault) + d->rank, &f);
    sy_fence_publish(c);
    for (sy_u32 p = 0; p < SY_RANKS(d); p++)
        sy_put_what((struct sy_fault_record *)SY_PEER(d, p, fault) + d->rank, &f);
    sy_fence_publish(c);
    for (sy_u32 p = 0; p < SY_RANKS(d); p++)
        sy_put((sy_u32 *)SY_PEER(d, p, stop), 1u);
}

/* One turn of a wait that is not over. 1: go on; 0: leave; 2: it has been too long. sy_look() is
 * what happens every now and then; it is kept out of the way of the instruction cache. */
SY_DEV_COLD int sy_look(struct sy_ctx *c, const struct sy_op *op, sy_u64 *since)
{
    int go = 1;
    if (c->lane == 0) {
        sy_u64 now = sy_now_ns(c);
        if (*since == 0)
            *since = now;
        if (SY_PLANT(NO_DEADLINE))
            return 1;
        go = sy_stopped(op->d) ? 0 : now - *since > op->d->timeout_ns ? 2 : 1;
        if (go == 0)
            sy_hear_fault(c, op->d);
    }
    return (int)sy_bcast(c, (sy_u32)go, 0);
}

SY_DEV int sy_still(struct sy_ctx *c, const struct sy_op *op, sy_u32 *spins, sy_u64 *since)
{
    sy_pause(c);
    return ++*spins % SY_SPINS_PER_LOOK ? 1 : sy_look(c, op, since);
}

SY_DEV struct sy_fault_record sy_missed(const struct sy_dev *d, sy_u32 what, sy_u32 culprit,
                                        const void *word)
{
    struct sy_fault_record f;
    f.what = what;
    f.culprit = culprit;
    f.place = (sy_u64)((const sy_u8 *)word - d->heap);
    f.channel = f.reporter = 0;
    f.epoch = f.expected = f.seen = 0;
    return f;
}

/* One turn of a wait that is not over, for a word that this lane waits for (NULL: it does not). All
 * lanes come. 0: leave. */
SY_DEV int sy_wait_on(struct sy_ctx *c, const struct sy_op *op, const void *word, sy_u64 expected,
                      sy_u64 seen, sy_u32 what, sy_u32 culprit, sy_u32 *spins, sy_u64 *since)
{
    int go = sy_still(c, op, spins, since);
    if (go == 2 && word) {
        struct sy_fault_record f = sy_missed(op->d, what, culprit, word);
        f.expected = expected;
        f.seen = seen;
        sy_raise(c, op, f);
    }
    return go == 1;
}

/* Until the counter, the same for all lanes, has reached `target`. */
SY_DEV int sy_wait_count(struct sy_ctx *c, const struct sy_op *op, const sy_u32 *word,
                         sy_u32 target, sy_u32 what, sy_u32 culprit)
{
    sy_u32 spins = 0;
    sy_u64 since = 0;
    for (;;) {
        sy_u32 seen = c->lane == 0 ? sy_glance(word) : 0;
        seen = sy_bcast(c, seen, 0);
        if ((sy_s32)(seen - target) >= 0)
            break;
        if (!sy_wait_on(c, op, c->lane == 0 ? word : 0, target, seen, what, culprit, &spins,
                        &since))
            return 0;
    }
    sy_peek(word); /* what the counter stands for is to be seen by all lanes */
    sy_warp_sync(c);
    return 1;
}

/* Is the word's epoch still before `epoch`? */
SY_DEV int sy_before(sy_u64 word, sy_u64 epoch)
{
    return (sy_s32)((sy_u32)(word >> 32) - (sy_u32)epoch) < 0;
}

/* Until each lane's word (NULL: none) carries an epoch that is `epoch` or later; *value: its lower
 * half. Lanes may wait for different words of different culprits. The word stands for itself only:
 * other memory is not ordered by it. */
SY_DEV int sy_wait_word(struct sy_ctx *c, const struct sy_op *op, const sy_u64 *word, sy_u64 epoch,
                        sy_u32 what, sy_u32 culprit, sy_u32 *value)
{
    sy_u32 spins = 0;
    sy_u64 since = 0, seen = 0;
    for (;;) {
        int late = 0;
        if (word) {
            seen = sy_glance64(word);
            late = sy_before(seen, epoch);
        }
        if (!sy_any(c, late))
            break;
        if (!sy_wait_on(c, op, late ? word : 0, epoch, seen, what, culprit, &spins, &since))
            return 0;
    }
    *value = (sy_u32)seen;
    return 1;
}

#define SY_WORDS 8u

/* The same for two columns of up to SY_WORDS words each, `stride` apart, of as many culprits from
 * number `first` on: the loads do not wait for each other. */
SY_DEV int sy_wait_words(struct sy_ctx *c, const struct sy_op *op, const sy_u64 *const column[2],
                         sy_u32 stride, sy_u32 n, sy_u64 epoch, sy_u32 what, sy_u32 first,
                         sy_u32 value[2 * SY_WORDS])
{
    sy_u32 spins = 0;
    sy_u64 since = 0, seen[2 * SY_WORDS];
    for (;;) {
        sy_u32 late = 0;
        SY_UNROLL(16)
        for (sy_u32 i = 0; i < 2 * SY_WORDS; i++) {
            sy_u32 j = i % SY_WORDS;
            seen[i] = epoch << 32;
            if (column[i / SY_WORDS] && j < n)
                seen[i] = sy_glance64(column[i / SY_WORDS] + (sy_u64)j * stride);
        }
        SY_UNROLL(16)
        for (sy_u32 i = 0; i < 2 * SY_WORDS; i++)
            late |= sy_before(seen[i], epoch) ? 1u << i : 0;
        if (!sy_any(c, late != 0))
            break;
        int go = sy_still(c, op, &spins, &since);
        if (go == 1)
            continue;
        if (go == 2 && late) {
            sy_u32 i = sy_lowest(late), j = i % SY_WORDS;
            const sy_u64 *word = (i < SY_WORDS ? column[0] : column[1]) + (sy_u64)j * stride;
            struct sy_fault_record f = sy_missed(op->d, what, first + j, word);
            f.expected = epoch;
            f.seen = sy_glance64(word);
            sy_raise(c, op, f);
        }
        return 0;
    }
    SY_UNROLL(16)
    for (sy_u32 i = 0; i < 2 * SY_WORDS; i++)
        value[i] = (sy_u32)seen[i];
    return 1;
}

/* The same for words behind which their writers have published something. */
SY_DEV int sy_wait_epoch(struct sy_ctx *c, const struct sy_op *op, const sy_u64 *word, sy_u64 epoch,
                         sy_u32 what, sy_u32 culprit, sy_u32 *value)
{
    if (!sy_wait_word(c, op, word, epoch, what, culprit, value))
        return 0;
    if (word)
        *value = (sy_u32)sy_peek64(word);
    sy_warp_sync(c);
    return 1;
}

/* Until a word of this rank's own memory, written by another warp with release, has reached target.
 * Twice the deadline: the other warp may wait for a peer, and is to be the one who says so. */
SY_DEV int sy_wait_own(struct sy_ctx *c, const struct sy_op *op, const sy_u32 *word, sy_u32 target)
{
    sy_u32 spins = 0, late = 0;
    sy_u64 since = 0;
    for (;;) {
        sy_u32 seen = c->lane == 0 ? sy_load_word(word) : 0;
        seen = sy_bcast(c, seen, 0);
        if ((sy_s32)(seen - target) >= 0)
            break;
        int go = sy_still(c, op, &spins, &since);
        if (go == 1)
            continue;
        if (go == 2 && !late++) {
            since = 0;
            continue;
        }
        if (go == 2 && c->lane == 0) {
            struct sy_fault_record f = sy_missed(op->d, SY_FAULT_SELF, op->d->rank, op->d->heap);
            f.expected = target;
            f.seen = seen;
            sy_raise(c, op, f);
        }
        return 0;
    }
    sy_warp_sync(c);
    return 1;
}

/* Until a bulk load is there. Loads end by themselves; the bound is for broken memory. A lost group
 * is no reason to leave: who ends before its loads do lets them write into memory that by then is
 * another block's. */
SY_DEV int sy_wait_load(struct sy_ctx *c, const struct sy_op *op, sy_gate *gate, sy_u32 parity)
{
    sy_u32 spins = 0;
    sy_u64 since = 0;
    while (!sy_load_ready(c, gate, parity)) {
        int go = sy_still(c, op, &spins, &since);
        if (go == 0)
            go = sy_any(c, c->lane == 0 && sy_now_ns(c) - since < op->d->timeout_ns);
        if (go == 1)
            continue;
        if (go == 2 && c->lane == 0)
            sy_raise(c, op, sy_missed(op->d, SY_FAULT_SELF, op->d->rank, op->d->heap));
        return 0;
    }
    return 1;
}

SY_DEV sy_u64 sy_word(sy_u64 epoch, sy_u32 value)
{
    return epoch << 32 | value;
}

/* --- the life of an operation --------------------------------------------------------------- */

/* The operation that this launch belongs to. A receive half belongs to the send half before it. */
SY_DEV struct sy_op sy_op_begin(const struct sy_dev *d, sy_u32 channel, int send)
{
    struct sy_op op;
    const sy_u64 *done = (const sy_u64 *)(send ? SY_MINE(d, sent) : SY_MINE(d, received));
    op.d = d;
    op.channel = channel;
    op.epoch = SY_PLANT(CAPTURED_EPOCH) ? 1 : done[channel] + 1;
    if (SY_PLANT(EPOCH_WRAPS))
        op.epoch &= 3u;
    return op;
}

SY_DEV sy_u32 sy_start_copy(const struct sy_dev *d, sy_u32 channel, sy_u64 epoch)
{
    sy_u32 copy = SY_PLANT(ONE_START) ? 0 : (sy_u32)(epoch & 1u);
    return (channel * 2u + copy) * SY_RANKS(d);
}

/* [rank]: their words of an operation, in this rank's heap. */
SY_DEV const struct sy_start *sy_starts(const struct sy_dev *d, sy_u32 channel, sy_u64 epoch)
{
    return (const struct sy_start *)SY_OWN(d, start) + sy_start_copy(d, channel, epoch);
}

/* The heap of the rank with this lane's number, asked for before it is needed. Per lane. */
SY_DEV sy_u8 *sy_peer_of_lane(const struct sy_ctx *c, const struct sy_dev *d)
{
    return c->lane < SY_RANKS(d) ? d->peers[c->lane] : 0;
}

/* Says to all ranks: this rank has begun, here is its word. By one warp of the launch. Whoever lets
 * peers read what earlier launches wrote puts a sy_fence_publish() before it. peer: see above. */
SY_DEV void sy_op_start(struct sy_ctx *c, const struct sy_op *op, sy_u8 *peer, sy_u32 value,
                        sy_u32 check)
{
    const struct sy_dev *d = op->d;
    sy_u32 slot = sy_start_copy(d, op->channel, op->epoch) + d->rank;
    SY_FOR (p, c, SY_RANKS(d)) {
        sy_u8 *heap = p == c->lane ? peer : d->peers[p];
        struct sy_start *to = (struct sy_start *)SY_AT(d, heap, start) + slot;
        sy_put64(&to->check, sy_word(op->epoch, check));
        sy_put64(&to->value, sy_word(op->epoch, value));
    }
}

/* Until both words of each lane's rank's start have come (NULL: none to wait for); what those ranks
 * had published before is to be seen. All lanes come. */
SY_DEV int sy_wait_start(struct sy_ctx *c, const struct sy_op *op, const struct sy_start *start,
                         sy_u64 epoch, sy_u32 rank, sy_u32 *value, sy_u32 *check)
{
    sy_u32 spins = 0;
    sy_u64 since = 0, word = 0, other = 0;
    for (;;) {
        int late = 0;
        if (start) {
            other = sy_glance64(&start->check); /* the two loads do not wait for each other */
            word = sy_glance64(&start->value);
            late = sy_before(word, epoch) || sy_before(other, epoch);
        }
        if (!sy_any(c, late))
            break;
        int first = sy_before(word, epoch);
        const sy_u64 *missed = !late ? 0 : first ? &start->value : &start->check;
        if (!sy_wait_on(c, op, missed, epoch, first ? word : other, SY_FAULT_START, rank, &spins,
                        &since))
            return 0;
    }
    if (start)
        word = sy_peek64(&start->value);
    sy_warp_sync(c);
    *value = (sy_u32)word;
    *check = (sy_u32)other;
    return 1;
}

/* Called by all warps of a block when their roles are over, in bounded time. Returns 1 to warp 0 of
 * the block that comes last; it closes the operation with sy_op_close(). */
SY_DEV int sy_op_leave(struct sy_ctx *c, const struct sy_op *op, int send)
{
    sy_u32 *leaving = (sy_u32 *)SY_MINE(op->d, leaving) + (send ? 0 : SY_CHANNELS) + op->channel;
    sy_u32 nth = 0;
    sy_block_sync(c);
    if (c->warp)
        return 0;
    if (c->lane == 0)
        nth = sy_arrive(leaving);
    nth = sy_bcast(c, nth, 0);
    return nth == (SY_PLANT(NO_BARRIER) ? 0 : c->blocks - 1);
}

/* Leaves private memory as the next launch wants it, and counts the halves that are through. */
SY_DEV void sy_op_close(struct sy_ctx *c, const struct sy_op *op, int send, int receive)
{
    const struct sy_dev *d = op->d;
    sy_u32 *leaving = (sy_u32 *)SY_MINE(d, leaving) + (send ? 0 : SY_CHANNELS) + op->channel;
    sy_u32 *ticket = (sy_u32 *)SY_MINE(d, ticket);
    sy_u32 *source_ticket = (sy_u32 *)SY_MINE(d, source_ticket);
    SY_FOR (i, c, SY_RANKS(d) - SY_PLANT(COUNTER_LEFT)) {
        source_ticket[i] = 0;
    }
    if (c->lane == 0) {
        for (int i = 0; i < 4; i++)
            ticket[i] = 0;
        *leaving = 0;
        if (send)
            ((sy_u64 *)SY_MINE(d, sent))[op->channel] = op->epoch;
        if (receive)
            ((sy_u64 *)SY_MINE(d, received))[op->channel] = op->epoch;
    }
    sy_warp_sync(c);
}

/* Next number of a counter in private memory, the same for all lanes. */
SY_DEV sy_u32 sy_take(struct sy_ctx *c, sy_u32 *counter)
{
    sy_u32 n = c->lane == 0 ? sy_add(counter, 1u) : 0;
    return sy_bcast(c, n, 0);
}

#endif
