/* fill.h - the places of a receiver's layout that no row takes; both modes. */
#ifndef SY_DEVICE_FILL_H
#define SY_DEVICE_FILL_H

#include "counts.h"

/* --- what a batch brings --------------------------------------------------------------------- */

/* As the route's tables have it, or as it was heard: in latency mode they are made meanwhile. */
struct sy_brought {
    const sy_u32 *heard;   /* NULL: the tables                                     */
    const sy_u32 *offsets; /* [local + 1], with heard: EXPERT_PACKED, where experts begin */
};

/* Rows from a source. Per lane, like all of these. */
SY_DEV sy_u32 sy_brought_from(const struct sy_dev *d, const struct sy_dev_route *r,
                              const struct sy_brought *b, sy_u32 source)
{
    if (b->heard)
        return sy_announced(d, b->heard, source, SY_COUNT_ROWS);
    return (sy_u32)((const sy_s32 *)SY_ROUTE_AT(r, source_counts))[source];
}

/* Rows by token, in all. */
SY_DEV sy_u32 sy_brought_tokens(const struct sy_dev *d, const struct sy_dev_route *r,
                                const struct sy_brought *b)
{
    sy_u32 n = 0;
    if (!b->heard)
        return (sy_u32)((const sy_s32 *)SY_ROUTE_AT(r, totals))[0];
    for (sy_u32 s = 0; s < SY_RANKS(d); s++)
        n += sy_announced(d, b->heard, s, SY_COUNT_ROWS);
    return n;
}

/* Rows for a local expert from the sources below `source`. */
SY_DEV sy_u32 sy_heard_below(const struct sy_dev *d, const sy_u32 *heard, sy_u32 e, sy_u32 source)
{
    sy_u32 n = 0;
    for (sy_u32 s = 0; s < source; s++)
        n += sy_announced(d, heard, s, SY_COUNT_HEAD + e);
    return n;
}

SY_DEV sy_u32 sy_brought_to(const struct sy_dev *d, const struct sy_dev_route *r,
                            const struct sy_brought *b, sy_u32 e)
{
    if (b->heard)
        return sy_heard_below(d, b->heard, e, SY_RANKS(d));
    return (sy_u32)((const sy_s32 *)SY_ROUTE_AT(r, expert_counts))[e];
}

/* EXPERT_PACKED: where the rows of local expert e begin; of e = local: where all end. */
SY_DEV sy_u32 sy_brought_at(const struct sy_dev_route *r, const struct sy_brought *b, sy_u32 e)
{
    if (b->heard)
        return b->offsets[e];
    return (sy_u32)((const sy_s32 *)SY_ROUTE_AT(r, expert_offsets))[e];
}

/* Makes the offsets of what was heard. By one warp. */
SY_DEV void sy_heard_offsets(struct sy_ctx *c, const struct sy_dev *d, const struct sy_dev_route *r,
                             const sy_u32 *heard, sy_u32 *offsets)
{
    sy_u32 before = 0;
    for (sy_u32 at = 0; at < d->local + 1; at += SY_LANES) {
        sy_u32 e = at + c->lane, all;
        sy_u32 n = e < d->local ? sy_heard_below(d, heard, e, SY_RANKS(d)) : 0;
        sy_u32 sum = before + sy_scan(c, sy_div_up(n, r->alignment) * r->alignment, &all);
        before += all;
        if (e <= d->local)
            offsets[e] = sum;
    }
}

/* --- places without a row -------------------------------------------------------------------- */

/* How many runs of such places lie between rows. */
SY_DEV sy_u32 sy_gaps(const struct sy_dev *d, const struct sy_dev_route *r)
{
    if (SY_LAYOUT(r) == SY_L_RANK)
        return SY_RANKS(d);
    return SY_LAYOUT(r) == SY_L_TOKEN ? 0 : d->local;
}

/* The g-th of them: [*from, *to). Of EXPERT_PACKED [*from, *pad) are padding. */
SY_DEV void sy_gap(const struct sy_dev *d, const struct sy_dev_route *r, const struct sy_brought *b,
                   sy_u32 g, sy_u32 *from, sy_u32 *pad, sy_u32 *to)
{
    sy_u32 n = SY_LAYOUT(r) == SY_L_RANK ? sy_brought_from(d, r, b, g) : sy_brought_to(d, r, b, g);
    if (SY_LAYOUT(r) != SY_L_PACKED) {
        *from = *pad = g * r->capacity + sy_min_u32(n, r->capacity);
        *to = (g + 1) * r->capacity;
        return;
    }
    *to = sy_brought_at(r, b, g + 1);
    *pad = sy_min_u32(*to, r->capacity); /* beyond the capacity nothing was delivered */
    *from = sy_min_u32(sy_brought_at(r, b, g) + n, r->capacity);
}

/* Where the places behind all rows begin. */
SY_DEV sy_u32 sy_behind(const struct sy_dev *d, const struct sy_dev_route *r,
                        const struct sy_brought *b)
{
    if (SY_LAYOUT(r) == SY_L_TOKEN)
        return sy_min_u32(sy_brought_tokens(d, r, b), r->capacity);
    if (SY_LAYOUT(r) == SY_L_PACKED)
        return d->local ? sy_brought_at(r, b, d->local) : 0;
    return sy_gaps(d, r) * r->capacity;
}

/* One place: -1 and zeros where the caller asked for ids, src, weights, probs. Per lane. */
SY_DEV void sy_default_place(const struct sy_dev *d, const struct sy_dev_route *r,
                             const struct sy_outputs *o, sy_u32 row)
{
    if (o->src.data && row < o->src.rows) {
        sy_u8 *to = sy_out_at(&o->src, row);
        *(sy_s32 *)to = -1;
        *(sy_s32 *)(to + o->src.stride1) = -1;
    }
    if (o->weights.data && row < o->weights.rows)
        for (sy_u32 k = 0; k < (sy_by_expert(SY_LAYOUT(r)) ? 1u : SY_TOPK(r)); k++)
            *(float *)(sy_out_at(&o->weights, row) + (sy_s64)k * o->weights.stride1) = 0.0f;
    if (o->probs.data && row < o->probs.rows)
        for (sy_u32 e = 0; e < d->local; e++)
            ((float *)sy_out_at(&o->probs, row))[e] = 0.0f;
    if (o->ids.data && row < o->ids.rows)
        for (sy_u32 k = 0; k < SY_TOPK(r); k++) {
            sy_u8 *to = sy_out_at(&o->ids, row) + (sy_s64)k * o->ids.stride1;
            if (o->ids.wide)
                *(sy_s64 *)to = -1;
            else
                *(sy_s32 *)to = -1;
        }
}

SY_DEV void sy_zero_row(struct sy_ctx *c, const struct sy_outputs *o, sy_u32 row)
{
    struct sy_v16 zero = {{0, 0, 0, 0}};
    for (sy_u32 i = c->lane * 16u; i < SY_ROW_BYTES(o); i += SY_LANES * 16u)
        sy_put16(sy_out_at(&o->x, row) + i, zero);
    if (o->scales.data)
        SY_FOR (i, c, o->scale_words) {
            *(sy_u32 *)(sy_out_at(&o->scales, row) + (sy_s64)i * o->scales.stride1) = 0;
        }
}

/* All places without a row; worker of workers warps. As many of them take each gap: asking for one
 * after the other took longer than the rows. */
SY_DEV void sy_fill(struct sy_ctx *c, const struct sy_dev *d, const struct sy_dev_route *r,
                    const struct sy_outputs *o, const struct sy_brought *b, sy_u32 worker,
                    sy_u32 workers)
{
    sy_u32 most = o->src.data ? o->src.rows : 0, gaps = sy_gaps(d, r);
    most = o->weights.data && o->weights.rows > most ? o->weights.rows : most;
    most = o->probs.data && o->probs.rows > most ? o->probs.rows : most;
    most = o->ids.data && o->ids.rows > most ? o->ids.rows : most;
    for (sy_u32 g = gaps ? worker % gaps : 0; g < gaps; g += workers) {
        sy_u32 nth = worker / gaps, share = g < workers ? sy_div_up(workers - g, gaps) : 1u;
        sy_u32 from, pad, to;
        sy_gap(d, r, b, g, &from, &pad, &to);
        for (sy_u32 row = from + nth; row < pad && SY_LAYOUT(r) == SY_L_PACKED; row += share)
            sy_zero_row(c, o, row);
        to = sy_min_u32(to, most);
        for (sy_u32 row = from + nth * SY_LANES + c->lane; row < to; row += share * SY_LANES)
            sy_default_place(d, r, o, row);
    }
    if (most)
        for (sy_u32 row = sy_behind(d, r, b) + worker * SY_LANES + c->lane; row < most;
             row += workers * SY_LANES)
            sy_default_place(d, r, o, row);
}

#endif
