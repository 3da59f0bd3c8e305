/* outputs.h - what a receiver makes of arrived rows, the same in both modes.
 *
 * A row is where its sender could put it; from there it goes to every place that the layout wants,
 * with its scales, weights, ids and source. Places that no row takes get their defaults. */
#ifndef SY_DEVICE_OUTPUTS_H
#define SY_DEVICE_OUTPUTS_H

#include "sync.h"

enum { SY_L_TOKEN = 1, SY_L_PACKED = 2, SY_L_SLABS = 3, SY_L_RANK = 4 };

/* One arrived row. */
struct sy_arrival {
    const sy_u8 *x;       /* heap: the row                                                  */
    const sy_u32 *scales; /* heap: its scales, or NULL                                      */
    const float *weights; /* heap: its K weights, or NULL                                   */
    const sy_s32 *sel;    /* route: per k the local expert (layouts by token) or the row; -1 */
    sy_u32 source, token;
    sy_u32 row;  /* layouts by token: its place                                    */
    sy_u32 skip; /* where it lies already (direct), or SY_NOT_DELIVERED             */
};

SY_DEV int sy_by_expert(sy_u32 layout)
{
    return layout == SY_L_PACKED || layout == SY_L_SLABS;
}

SY_DEV sy_u8 *sy_out_at(const struct sy_dev_tensor *t, sy_u32 row)
{
    return t->data + (sy_s64)row * t->stride0;
}

SY_DEV void sy_copy_row(struct sy_ctx *c, sy_u8 *to, const sy_u8 *from, sy_u32 bytes)
{
    sy_u32 i = c->lane * 16u;
    for (; i + 3u * SY_LANES * 16u < bytes; i += 4u * SY_LANES * 16u) {
        struct sy_v16 v0 = sy_get16(from + i);
        struct sy_v16 v1 = sy_get16(from + i + SY_LANES * 16u);
        struct sy_v16 v2 = sy_get16(from + i + 2u * SY_LANES * 16u);
        struct sy_v16 v3 = sy_get16(from + i + 3u * SY_LANES * 16u);
        sy_put16(to + i, v0);
        sy_put16(to + i + SY_LANES * 16u, v1);
        sy_put16(to + i + 2u * SY_LANES * 16u, v2);
        sy_put16(to + i + 3u * SY_LANES * 16u, v3);
    }
    for (; i < bytes; i += SY_LANES * 16u)
        sy_put16(to + i, sy_get16(from + i));
}

/* The row and its scales to one place. */
SY_DEV void sy_place_row(struct sy_ctx *c, const struct sy_outputs *o, const struct sy_arrival *a,
                         sy_u32 place)
{
    if (place != a->skip)
        sy_copy_row(c, sy_out_at(&o->x, place), a->x, SY_ROW_BYTES(o));
    if (o->scales.data) {
        sy_u8 *to = sy_out_at(&o->scales, place);
        SY_FOR (i, c, o->scale_words) {
            *(sy_u32 *)(to + (sy_s64)i * o->scales.stride1) = sy_get32(a->scales + i);
        }
    }
    if (o->src.data && c->lane == 0) {
        sy_s32 *to = (sy_s32 *)sy_out_at(&o->src, place);
        to[0] = (sy_s32)a->source;
        *(sy_s32 *)((sy_u8 *)to + o->src.stride1) = (sy_s32)a->token;
    }
}

/* Is k the first selection of its list with its value? Per lane. */
SY_DEV int sy_is_first_of(const sy_s32 *list, sy_u32 k)
{
    for (sy_u32 i = 0; i < k; i++)
        if (list[i] == list[k])
            return 0;
    return 1;
}

/* Layouts by token: the dense weights of a row; those of equal selections add up, k ascending. */
SY_DEV void sy_place_probs(struct sy_ctx *c, const struct sy_outputs *o, const struct sy_arrival *a,
                           sy_u32 topk, sy_u32 local)
{
    float *to = (float *)sy_out_at(&o->probs, a->row);
    SY_FOR (e, c, local) {
        to[e] = 0.0f;
    }
    sy_warp_sync(c);
    SY_FOR (k, c, topk) {
        float sum;
        if (a->sel[k] < 0 || !sy_is_first_of(a->sel, k))
            continue;
        sum = sy_bits_f32(sy_get32(a->weights + k));
        for (sy_u32 i = k + 1; i < topk; i++)
            if (a->sel[i] == a->sel[k])
                sum = sy_add_f32(sum, sy_bits_f32(sy_get32(a->weights + i)));
        to[a->sel[k]] = sum;
    }
}

/* Layouts by token: ids and weights of the row. */
SY_DEV void sy_place_selections(struct sy_ctx *c, const struct sy_outputs *o,
                                const struct sy_arrival *a, sy_u32 topk)
{
    SY_FOR (k, c, topk) {
        sy_s32 e = a->sel[k];
        float w = o->weighted && e >= 0 ? sy_bits_f32(sy_get32(a->weights + k)) : 0.0f;
        if (o->ids.data) {
            sy_u8 *to = sy_out_at(&o->ids, a->row) + (sy_s64)k * o->ids.stride1;
            if (o->ids.wide)
                *(sy_s64 *)to = e;
            else
                *(sy_s32 *)to = e;
        }
        if (o->weights.data)
            *(float *)(sy_out_at(&o->weights, a->row) + (sy_s64)k * o->weights.stride1) = w;
    }
}

/* All that is to be done with one arrived row. */
SY_DEV void sy_place(struct sy_ctx *c, const struct sy_dev *d, const struct sy_dev_route *r,
                     const struct sy_outputs *o, const struct sy_arrival *a)
{
    if (!sy_by_expert(SY_LAYOUT(r))) {
        sy_place_row(c, o, a, a->row);
        sy_place_selections(c, o, a, SY_TOPK(r));
        if (o->probs.data)
            sy_place_probs(c, o, a, SY_TOPK(r), d->local);
        return;
    }
    for (sy_u32 k = 0; k < SY_TOPK(r); k++) {
        sy_s32 row = a->sel[k];
        if (row < 0)
            continue;
        sy_place_row(c, o, a, (sy_u32)row);
        if (o->weights.data && c->lane == 0)
            *(float *)sy_out_at(&o->weights, (sy_u32)row) =
                o->weighted ? sy_bits_f32(sy_get32(a->weights + k)) : 0.0f;
    }
}

/* Do the caller's tensors have room for the rows that the route brings? By one warp; tells all
 * ranks if not. */
SY_DEV int sy_rows_suffice(struct sy_ctx *c, const struct sy_op *op, const struct sy_dev_route *r,
                           sy_u32 need, sy_u32 have)
{
    need = sy_min_u32(need, r->capacity);
    if (SY_LAYOUT(r) == SY_L_SLABS || SY_LAYOUT(r) == SY_L_RANK || need <= have)
        return 1; /* slabs: the host has checked */
    if (c->lane == 0) {
        struct sy_fault_record f = sy_missed(op->d, SY_FAULT_SHORT, op->d->rank, op->d->heap);
        f.expected = need;
        f.seen = have;
        sy_raise(c, op, f);
    }
    return 0;
}

SY_DEV sy_u32 sy_rows_needed(const struct sy_dev_route *r)
{
    return (sy_u32)((const sy_s32 *)SY_ROUTE_AT(r, totals))[1];
}

/* --- places without a row ------------------------------------------------------------------- */

SY_DEV sy_u32 sy_gaps(const struct sy_dev *d, const struct sy_dev_route *r)
{
    if (SY_LAYOUT(r) == SY_L_TOKEN)
        return 1;
    if (SY_LAYOUT(r) == SY_L_RANK)
        return SY_RANKS(d);
    return d->local ? d->local : 1;
}

/* The g-th run of places without a row: [*from, *to), of which [*from, *pad) are padding. The last
 * run has no end: the caller's tensors have. */
SY_DEV void sy_gap(const struct sy_dev *d, const struct sy_dev_route *r, sy_u32 g, sy_u32 *from,
                   sy_u32 *pad, sy_u32 *to)
{
    const sy_s32 *counts = (const sy_s32 *)SY_ROUTE_AT(r, expert_counts);
    const sy_s32 *offsets = (const sy_s32 *)SY_ROUTE_AT(r, expert_offsets);
    const sy_s32 *sources = (const sy_s32 *)SY_ROUTE_AT(r, source_counts);
    int last = g + 1 == sy_gaps(d, r);
    *from = *pad = 0;
    *to = ~0u;
    if (SY_LAYOUT(r) == SY_L_TOKEN) {
        *from = *pad = sy_min_u32((sy_u32)((const sy_s32 *)SY_ROUTE_AT(r, totals))[0], r->capacity);
    } else if (SY_LAYOUT(r) == SY_L_RANK || (SY_LAYOUT(r) == SY_L_SLABS && d->local)) {
        sy_u32 n = (sy_u32)(SY_LAYOUT(r) == SY_L_SLABS ? counts[g] : sources[g]);
        *from = *pad = g * r->capacity + sy_min_u32(n, r->capacity);
        *to = last ? ~0u : (g + 1) * r->capacity;
    } else if (d->local) {
        *to = last ? ~0u : (sy_u32)offsets[g + 1];
        *pad = sy_min_u32((sy_u32)offsets[g + 1], r->capacity);
        /* Beyond the capacity nothing was delivered. */
        *from = sy_min_u32((sy_u32)(offsets[g] + counts[g]), r->capacity);
    }
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

/* All places without a row; worker of workers warps. */
SY_DEV void sy_fill(struct sy_ctx *c, const struct sy_dev *d, const struct sy_dev_route *r,
                    const struct sy_outputs *o, sy_u32 worker, sy_u32 workers)
{
    sy_u32 most = o->src.data ? o->src.rows : 0, gaps = sy_gaps(d, r);
    most = o->weights.data && o->weights.rows > most ? o->weights.rows : most;
    most = o->probs.data && o->probs.rows > most ? o->probs.rows : most;
    most = o->ids.data && o->ids.rows > most ? o->ids.rows : most;
    for (sy_u32 g = 0; g < gaps; g++) {
        sy_u32 from, pad, to;
        sy_gap(d, r, g, &from, &pad, &to);
        for (sy_u32 row = from + worker; row < pad && SY_LAYOUT(r) == SY_L_PACKED; row += workers)
            sy_zero_row(c, o, row);
        to = sy_min_u32(to, most);
        for (sy_u32 row = from + worker * SY_LANES + c->lane; row < to; row += workers * SY_LANES)
            sy_default_place(d, r, o, row);
    }
}

#endif
