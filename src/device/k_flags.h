/* k_flags.h - bare words between ranks, without any protocol: what a signal costs on this machine,
 * and a point in time that all ranks agree on.
 *
 * One warp of every rank that takes part runs it, over the same place of each heap. Everything
 * in there only grows, so launches follow each other, also in graphs. */
#ifndef SY_DEVICE_K_FLAGS_H
#define SY_DEVICE_K_FLAGS_H

#include "sync.h"

/* All ranks wait for all. */
SY_DEV void sy_flags_meet(struct sy_ctx *c, const struct sy_op *op, const struct sy_flags_args *a)
{
    const struct sy_dev *d = op->d;
    struct sy_flags *own = (struct sy_flags *)(d->heap + a->area);
    sy_u32 met = own->met;
    for (sy_u32 i = 0; i < a->rounds; i++) {
        SY_FOR (p, c, SY_RANKS(d)) {
            sy_signal_add(&((struct sy_flags *)(d->peers[p] + a->area))->arrived, 1u);
        }
        if (!sy_wait_count(c, op, &own->arrived, ++met * SY_RANKS(d), SY_FAULT_START, d->rank))
            return;
    }
    if (c->lane == 0)
        own->met = met;
    sy_warp_sync(c);
}

/* A word goes to the partner and comes back, again and again; the lower rank begins. */
SY_DEV void sy_flags_turns(struct sy_ctx *c, const struct sy_op *op, const struct sy_flags_args *a)
{
    const struct sy_dev *d = op->d;
    const sy_u64 at = a->area + sizeof(struct sy_flags);
    struct sy_turns *own = (struct sy_turns *)(d->heap + at) + a->partner;
    struct sy_turns *other = (struct sy_turns *)(d->peers[a->partner] + at) + d->rank;
    sy_u32 turn = own->taken;
    for (sy_u32 i = 0; i < a->rounds; i++) {
        turn++;
        if (d->rank < a->partner && c->lane == 0)
            sy_put(&other->word, turn);
        if (!sy_wait_count(c, op, &own->word, turn, SY_FAULT_START, a->partner))
            return;
        if (d->rank > a->partner && c->lane == 0)
            sy_put(&other->word, turn);
    }
    if (c->lane == 0)
        own->taken = turn;
    sy_warp_sync(c);
}

SY_DEV void sy_k_flags(struct sy_ctx *c, const struct sy_flags_args *a)
{
    struct sy_op op = {&a->d, SY_CH_ROUTE, 0}; /* for the bound of its waits */
    if (c->block || c->warp)
        return;
    if (a->partner < a->d.ranks)
        sy_flags_turns(c, &op, a);
    else
        sy_flags_meet(c, &op, a);
}

#endif
