/* pipe.h - the pushers' pipeline and what ties it to the signaller of the block.
 *
 * A pusher runs items n = 0, 1, 2... through its stages: load ahead, store, and when the stores are
 * done pass the item on in a ring. The ring's entries are written when an item is sent and become
 * valid (head) when it has arrived. */
#ifndef SY_DEVICE_PIPE_H
#define SY_DEVICE_PIPE_H

#include "sync.h"

#define SY_NOTHING_SENT 0xffffffffu
#define SY_RINGS_OVER 0xffffffffu

/* Batches of stores that may be on their way behind the last one that is known to have arrived.
 * More hide the way's latency, fewer tell the receiver sooner: few if a batch is a whole row, more
 * if it is a part of one. */
#define SY_STORES_FLYING 3
#define SY_SMALL_STORES_FLYING 7

/* Batches that may still leave their stages while the next load begins. A pusher has more stages:
 * the others are for loads on their way, which take as long as what is done with a row. */
#ifndef SY_STORES_LEAVING
#define SY_STORES_LEAVING 1
#endif

struct sy_rings {
    struct sy_ring_control *control;
    sy_u32 *entries;
    sy_u32 pushers;
};

/* Where a peer has this rank's rows, and their sides. */
struct sy_target {
    sy_u8 *rows, *side;
};

SY_STATIC_ASSERT(sizeof(struct sy_target) == SY_SH_TARGET_BYTES, "shape.h cuts them");

/* The block's shared memory, see layout/shape.h. */
struct sy_shared {
    sy_u32 *ready;
    struct sy_target *target; /* dispatch: of each rank                     */
    sy_u8 **rows_of;          /* combine, in their place: see struct sy_co */
    struct sy_rings rings;
    sy_u8 *stages;
};

struct sy_pipe {
    sy_u8 *stage; /* this warp's first */
    sy_u32 stages, stage_bytes;
    struct sy_by by_stages;
    sy_u32 side_at, body_at;
    struct sy_target *target;
    struct sy_ring_control *control;
    sy_u32 *entries;
    struct sy_pace pace;
    sy_u32 flying; /* see SY_STORES_FLYING              */
    sy_u32 begun;  /* items whose loads have begun      */
    sy_u32 ticket; /* lane 0: the next, taken ahead     */
    int more;      /* there may be more                 */
};

SY_DEV struct sy_shared sy_shared_carve(struct sy_ctx *c, const struct sy_shape *s, sy_u32 ranks)
{
    struct sy_shared sh;
    sh.ready = (sy_u32 *)c->shared;
    sh.target = (struct sy_target *)(c->shared + SY_SH_TARGET);
    sh.rows_of = (sy_u8 **)sh.target;
    sh.rings.control = (struct sy_ring_control *)(c->shared + SY_SH_CONTROL(ranks));
    sh.rings.entries = (sy_u32 *)(c->shared + SY_SH_RINGS(ranks, s->pushers));
    sh.rings.pushers = s->pushers;
    sh.stages = c->shared + SY_SH_STAGES(ranks, s->pushers);
    return sh;
}

/* Where this warp's stages and ring are; only a pusher has some. */
SY_DEV struct sy_pipe sy_pipe_of(struct sy_ctx *c, const struct sy_shared *sh,
                                 const struct sy_shape *s, sy_u32 fan, sy_u32 side_bytes)
{
    struct sy_pipe p;
    p.stages = s->stages;
    p.by_stages = s->by_stages;
    p.stage_bytes = s->stage_bytes;
    p.stage = sh->stages + (sy_u64)c->warp * s->stages * s->stage_bytes;
    p.side_at = SY_STAGE_SIDE(fan);
    p.body_at = SY_STAGE_BODY(fan, side_bytes);
    p.target = sh->target;
    p.control = sh->rings.control + c->warp;
    p.entries = sh->rings.entries + c->warp * SY_RING_ENTRIES;
    p.pace.next = 0;
    p.flying = s->parts > 1 ? SY_SMALL_STORES_FLYING : SY_STORES_FLYING;
    p.begun = p.ticket = 0;
    p.more = 1;
    return p;
}

/* Makes them ready. A block barrier must follow before another warp looks. */
SY_DEV void sy_pipe_begin(struct sy_ctx *c, struct sy_pipe *p, const struct sy_shape *s)
{
    if (c->lane == 0)
        p->control->head = p->control->over = p->control->tail = p->control->seen = 0;
    for (sy_u32 i = 0; i < s->stages; i++)
        sy_gate_init(c, (sy_gate *)(p->stage + (sy_u64)i * s->stage_bytes));
    if (s->pace) { /* warps of all blocks spread their first stores over one interval */
        sy_u32 warp = c->block * s->pushers + c->warp;
        sy_u64 interval = (sy_u64)s->piece_bytes * s->pace >> 14;
        sy_pace_begin(&p->pace, interval * warp / (c->blocks * s->pushers));
    }
}

/* Before so many bytes are stored to peers. */
SY_DEV void sy_pipe_pace(struct sy_pipe *p, const struct sy_shape *s, sy_u32 bytes)
{
    if (s->pace && bytes)
        sy_pace_wait(&p->pace, (sy_u64)bytes * s->pace >> 14);
}

/* Which stage item n has, and how often it has been used before. */
SY_DEV sy_u32 sy_stage_turn(const struct sy_pipe *p, sy_u32 n)
{
    return sy_quotient(n, p->by_stages);
}
SY_DEV sy_u32 sy_stage_number(const struct sy_pipe *p, sy_u32 n)
{
    return n - sy_stage_turn(p, n) * p->stages;
}
SY_DEV struct sy_stage *sy_stage_at(struct sy_pipe *p, sy_u32 n)
{
    return (struct sy_stage *)(p->stage + (sy_u64)sy_stage_number(p, n) * p->stage_bytes);
}
SY_DEV sy_u8 *sy_stage_dst(struct sy_stage *s)
{
    return (sy_u8 *)s + SY_STAGE_DST;
}
SY_DEV sy_u8 *sy_stage_side(const struct sy_pipe *p, struct sy_stage *s)
{
    return (sy_u8 *)s + p->side_at;
}
SY_DEV sy_u8 *sy_stage_body(const struct sy_pipe *p, struct sy_stage *s)
{
    return (sy_u8 *)s + p->body_at;
}

/* Until the ring has room for item n and those behind it up to the next multiple of
 * SY_ROOM_FOR. The signaller makes room without waiting for anything. */
#define SY_ROOM_FOR (SY_RING_ENTRIES / 2u)
SY_STATIC_ASSERT(SY_SMALL_STORES_FLYING <= SY_RING_ENTRIES - SY_ROOM_FOR, "the others can leave");
SY_DEV int sy_pipe_room(struct sy_ctx *c, const struct sy_op *op, struct sy_pipe *p, sy_u32 n)
{
    sy_u32 spins = 0;
    sy_u64 since = 0;
    for (;;) {
        sy_u32 tail = c->lane == 0 ? sy_load_shared(&p->control->tail) : 0;
        if (n + SY_ROOM_FOR - sy_bcast(c, tail, 0) <= SY_RING_ENTRIES)
            return 1;
        if (sy_still(c, op, &spins, &since) != 1)
            return 0;
    }
}

/* Item n is sent; those that have certainly arrived become the signaller's. */
SY_DEV int sy_pipe_sent(struct sy_ctx *c, const struct sy_op *op, struct sy_pipe *p, sy_u32 n,
                        sy_u32 code)
{
    if (n % SY_ROOM_FOR == 0 && !sy_pipe_room(c, op, p, n))
        return 0;
    if (c->lane == 0)
        p->entries[n % SY_RING_ENTRIES] = code;
    if (p->flying == SY_STORES_FLYING)
        SY_STORE_WAIT_DONE(c, SY_STORES_FLYING);
    else
        SY_STORE_WAIT_DONE(c, SY_SMALL_STORES_FLYING);
    sy_warp_sync(c);
    if (c->lane == 0 && n >= p->flying)
        sy_store_shared(&p->control->head, n + 1 - p->flying);
    return 1;
}

/* The group is lost: what has begun still ends, from item n on. */
SY_DEV void sy_pipe_abandon(struct sy_ctx *c, const struct sy_op *op, struct sy_pipe *p, sy_u32 n)
{
    while (n < p->begun && sy_wait_load(c, op, &sy_stage_at(p, n)->gate, sy_stage_turn(p, n) & 1u))
        n++;
    SY_STORE_WAIT_READ(c, 0);
}

/* All n items are sent; waits until they have arrived. */
SY_DEV void sy_pipe_end(struct sy_ctx *c, struct sy_pipe *p, sy_u32 n)
{
    SY_STORE_WAIT_DONE(c, 0);
    sy_warp_sync(c);
    if (c->lane == 0) {
        sy_store_shared(&p->control->head, n);
        sy_store_shared(&p->control->over, 1u);
    }
}

/* --- the signaller's side ------------------------------------------------------------------- */

/* How many items have arrived since the last look, or SY_RINGS_OVER when all have been taken. */
SY_DEV sy_u32 sy_rings_look(struct sy_ctx *c, struct sy_rings *r)
{
    sy_u32 fresh = 0, open = 0;
    SY_FOR (p, c, r->pushers) {
        struct sy_ring_control *k = r->control + p;
        sy_u32 over = sy_load_shared(&k->over);
        k->seen = sy_load_shared(&k->head); /* after `over`: then it is the last word */
        fresh += k->seen - k->tail;
        open += !over;
    }
    fresh = sy_sum(c, fresh);
    open = sy_sum(c, open);
    sy_warp_sync(c);
    return fresh || open ? fresh : SY_RINGS_OVER;
}

/* What the last look saw of pusher p: items [first, first + count) of its ring. */
SY_DEV sy_u32 sy_rings_count(const struct sy_rings *r, sy_u32 p)
{
    return r->control[p].seen - r->control[p].tail;
}
SY_DEV sy_u32 sy_rings_code(const struct sy_rings *r, sy_u32 p, sy_u32 i)
{
    return r->entries[p * SY_RING_ENTRIES + (r->control[p].tail + i) % SY_RING_ENTRIES];
}

/* One more part of (rank, chunk) has arrived there. Whoever brings the last of the `whole` tells
 * the rank, so that one signal crosses for all of a chunk's parts, whichever blocks sent them. Per
 * lane; needs a sy_fence_publish() after the part was known to have arrived. */
SY_DEV void sy_part_arrived(struct sy_ctx *c, const struct sy_dev *d, sy_u32 rank, sy_u32 chunk,
                            sy_u32 whole, sy_u32 *counter)
{
    sy_u32 *sent = (sy_u32 *)SY_MINE(d, sent_parts) + rank * d->td_chunks + chunk;
    if (sy_add(sent, 1u) + 1u != whole)
        return;
    *sent = 0;
    sy_fence_publish(c);
    sy_signal_add(counter, whole);
}

/* All of these have been signalled: the pusher may use their places. */
SY_DEV void sy_rings_taken(struct sy_ctx *c, struct sy_rings *r, sy_u32 p)
{
    sy_warp_sync(c);
    if (c->lane == 0)
        sy_store_shared(&r->control[p].tail, r->control[p].seen);
    sy_warp_sync(c);
}

#endif
