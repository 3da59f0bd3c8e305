/* k_probe.h - the machine's own ceilings: bare copies between ranks, without any protocol.
 *
 * Every rank runs it at once over the same heap regions; the bytes mean nothing. Each warp stores
 * (or loads) pieces, one after the other, to (from) peers in turn. */
#ifndef SY_DEVICE_K_PROBE_H
#define SY_DEVICE_K_PROBE_H

#include "pipe.h"
#include "sync.h"

/* Piece i in the heap of the peer whose turn it is in this warp's n-th step. */
SY_DEV sy_u8 *sy_probe_at(const struct sy_probe_args *a, sy_u32 worker, sy_u32 n, sy_u32 i)
{
    const struct sy_dev *d = &a->d;
    sy_u32 others = SY_RANKS(d) > 1 ? SY_RANKS(d) - 1 : 1;
    sy_u32 p = (d->rank + 1 + (worker + n) % others) % SY_RANKS(d);
    sy_u32 place = a->area_pieces ? i % a->area_pieces : i;
    return d->peers[p] + a->area + (sy_u64)place * a->piece_bytes;
}

SY_DEV void sy_probe_store(struct sy_ctx *c, const struct sy_probe_args *a, const sy_u8 *from,
                           sy_u8 *stage, sy_u32 worker, sy_u32 workers)
{
    struct sy_pace pace;
    sy_u64 interval = (sy_u64)a->piece_bytes * a->pace >> 14;
    sy_u32 n = 0;
    sy_pace_begin(&pace, interval * worker / workers);
    for (sy_u32 i = worker; i < a->pieces; i += workers, n++) {
        if (a->pace)
            sy_pace_wait(&pace, interval);
        sy_store_bulk(c, sy_probe_at(a, worker, n, i),
                      SY_STAGED(stage, from + (sy_u64)i * a->piece_bytes % a->source_bytes),
                      a->piece_bytes);
        sy_store_commit(c);
        SY_STORE_WAIT_READ(c, 2);
    }
    SY_STORE_WAIT_DONE(c, 0);
    sy_warp_sync(c);
}

SY_DEV void sy_probe_load(struct sy_ctx *c, const struct sy_probe_args *a, const struct sy_op *op,
                          sy_gate *gate, sy_u8 *stage, sy_u32 worker, sy_u32 workers)
{
    sy_u32 n = 0, begun = 0;
    for (sy_u32 i = worker; i < a->pieces || n < begun;) {
        if (i < a->pieces && begun < n + 2) {
            sy_u32 s = begun % 2;
            sy_load_expect(c, gate + s, a->piece_bytes);
            sy_load_bulk(c, gate + s, stage + (sy_u64)s * a->piece_bytes,
                         sy_probe_at(a, worker, begun, i), a->piece_bytes);
            begun++;
            i += workers;
            continue;
        }
        if (!sy_wait_load(c, op, gate + n % 2, n / 2 & 1u))
            return;
        n++;
    }
}

SY_DEV void sy_k_probe(struct sy_ctx *c, const struct sy_probe_args *a)
{
    sy_u32 worker = c->block * c->warps + c->warp, workers = c->blocks * c->warps;
    sy_gate *gates = (sy_gate *)c->shared + c->warp * 2;
    sy_u8 *stage =
        c->shared + SY_ALIGN_UP(c->warps * 16u, 128u) + (sy_u64)c->warp * 2u * a->piece_bytes;
    struct sy_op op = {&a->d, SY_CH_ROUTE, 0}; /* for the bound of its waits */
    sy_gate_init(c, gates);
    sy_gate_init(c, gates + 1);
    sy_block_sync(c);
    if (a->load)
        sy_probe_load(c, a, &op, gates, stage, worker, workers);
    else
        sy_probe_store(c, a, a->source, stage, worker, workers);
}

#endif
