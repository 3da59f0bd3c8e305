/* combine.h - what all roles of combine share: places in heaps, and weights that are sent ahead.
 * See k_combine.h. */
#ifndef SY_DEVICE_COMBINE_H
#define SY_DEVICE_COMBINE_H

#include "outputs.h"
#include "pipe.h"
#include "sums.h"

#define SY_C_AMOUNT(d, latency)                                                                    \
    ((d)->fan_max * SY_PARTS_MAX * ((latency) ? 1u : SY_CHUNK_ROWS)) /* of ..arrive per operation */

/* The state of an operation that all roles share. */
struct sy_co {
    const struct sy_combine_kargs *a;
    const struct sy_op *op;
    sy_u32 latency;
    sy_u32 half;     /* which half of lc_..., as a factor */
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
    struct sy_lone_counter *alone = (struct sy_lone_counter *)(heap + d->at.lc_arrive);
    if (!o->latency)
        return (sy_u32 *)(heap + d->at.tc_arrive) + (token >> SY_CHUNK_SHIFT);
    return &alone[o->half * d->lat_tokens_max + token].n;
}

/* Does this rank read its own rows where they lie? Then they need not be pushed: with layouts by
 * token a row is a term of a sum as it is. Not if x may change before the receive half. */
SY_DEV int sy_co_keeps_own(const struct sy_co *o)
{
    const struct sy_combine_kargs *a = o->a;
    return a->send && a->receive && !o->latency && !a->carry && !sy_by_expert(SY_LAYOUT(&a->r)) &&
           a->x.stride0 == (sy_s64)a->row_bytes;
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

#endif
