/* copier.h - how a receiving warp copies rows to their last places: by bulk loads into slots of its
 * own and bulk stores out of them. Loads of later rows are on their way while earlier ones are
 * stored. */
#ifndef SY_DEVICE_COPIER_H
#define SY_DEVICE_COPIER_H

#include "sync.h"

/* A piece of a row, in a slot of shared memory: the head, the places that it goes to, the bytes. */
struct sy_copy {
    sy_gate gate;
    sy_u64 from;
    sy_u32 places;
    sy_u32 at, bytes; /* of the row */
    sy_u32 reserved;
};

struct sy_copier {
    const struct sy_op *op;
    sy_u8 *slots; /* NULL: the lanes copy */
    sy_u32 head, slot_bytes;
    sy_u32 begun, done; /* pieces */
};

/* `memory` is `bytes` of shared memory, none if 0. */
SY_DEV struct sy_copier sy_copier_make(struct sy_ctx *c, const struct sy_op *op, sy_u8 *memory,
                                       sy_u32 bytes, sy_u32 topk)
{
    struct sy_copier p = {op, 0, SY_COPIER_HEAD(topk), bytes / SY_COPIER_SLOTS, 0, 0};
    if (bytes) {
        p.slots = memory;
        for (sy_u32 i = 0; i < SY_COPIER_SLOTS; i++)
            sy_gate_init(c, (sy_gate *)(memory + i * p.slot_bytes));
        sy_warp_sync(c);
    }
    return p;
}

SY_DEV struct sy_copy *sy_copy_at(const struct sy_copier *p, sy_u32 n)
{
    return (struct sy_copy *)(p->slots + (n & (SY_COPIER_SLOTS - 1u)) * p->slot_bytes);
}
SY_DEV sy_u32 *sy_copy_places(struct sy_copy *s)
{
    return (sy_u32 *)(s + 1);
}

/* Stores the oldest piece to all its places when it is there. 0: the group is lost. */
SY_DEV int sy_copier_store(struct sy_ctx *c, struct sy_copier *p, const struct sy_dev_tensor *out)
{
    struct sy_copy *s = sy_copy_at(p, p->done);
    const sy_u8 *stage = SY_STAGED((const sy_u8 *)s + p->head, (const sy_u8 *)s->from);
    if (!sy_wait_load(c, p->op, &s->gate, p->done / SY_COPIER_SLOTS & 1u))
        return 0;
    for (sy_u32 i = 0; i < s->places; i++)
        sy_store_bulk(c, out->data + (sy_s64)sy_copy_places(s)[i] * out->stride0 + s->at, stage,
                      s->bytes);
    sy_store_commit(c);
    p->done++;
    return 1;
}

/* Until the next slot is free: its last piece is stored and has left it, if at most the last one
 * stored has not. */
SY_DEV int sy_copier_room(struct sy_ctx *c, struct sy_copier *p, const struct sy_dev_tensor *out)
{
    if (p->begun - p->done == SY_COPIER_SLOTS - 1u && !sy_copier_store(c, p, out))
        return 0;
    SY_STORE_WAIT_READ(c, 1);
    sy_warp_sync(c);
    return 1;
}

/* Begins to load the slot's piece; its places are written. */
SY_DEV void sy_copier_load(struct sy_ctx *c, struct sy_copier *p, sy_u32 places, const sy_u8 *x,
                           sy_u32 at, sy_u32 bytes)
{
    struct sy_copy *s = sy_copy_at(p, p->begun++);
    if (c->lane == 0) {
        s->from = (sy_u64)(x + at);
        s->places = places;
        s->at = at;
        s->bytes = bytes;
    }
    sy_warp_sync(c);
    sy_load_expect(c, &s->gate, bytes);
    sy_load_bulk(c, &s->gate, (sy_u8 *)s + p->head, x + at, bytes);
}

/* All pieces that have begun. Those of a lost group as well: they still end. */
SY_DEV void sy_copier_end(struct sy_ctx *c, struct sy_copier *p, const struct sy_dev_tensor *out)
{
    int good = 1;
    while (good && p->done < p->begun)
        good = sy_copier_store(c, p, out);
    SY_STORE_WAIT_DONE(c, 0);
}

#endif
