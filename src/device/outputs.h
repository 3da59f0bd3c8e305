/* outputs.h - what a receiver makes of arrived rows, the same in both modes.
 *
 * A row is where its sender could put it; from there it goes to every place that the layout wants,
 * with its scales, weights, ids and source. Places that no row takes get their defaults. */
#ifndef SY_DEVICE_OUTPUTS_H
#define SY_DEVICE_OUTPUTS_H

#include "copier.h"

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
    sy_s32 mine; /* layouts by expert, see sy_arrival_ask()                         */
    sy_u32 weight;
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

/* What lanes must know of a row's selections in the layouts by expert; asked for at once, if there
 * are as many lanes. */
SY_DEV void sy_arrival_ask(struct sy_ctx *c, const struct sy_outputs *o, struct sy_arrival *a,
                           sy_u32 topk)
{
    a->mine = topk <= SY_LANES && c->lane < topk ? a->sel[c->lane] : -1;
    a->weight = a->mine >= 0 && o->weights.data && o->weighted ? sy_get32(a->weights + c->lane) : 0;
}
SY_DEV sy_s32 sy_arrival_sel(const struct sy_arrival *a, sy_u32 k, sy_u32 topk)
{
    return topk <= SY_LANES ? a->mine : a->sel[k];
}

/* Where lane k's selection wants the row, if it is not there: a row, or SY_NOT_DELIVERED. */
SY_DEV sy_u32 sy_wanted_at(const struct sy_arrival *a, sy_s32 sel)
{
    return sel < 0 || (sy_u32)sel == a->skip ? SY_NOT_DELIVERED : (sy_u32)sel;
}

/* Writes down the places that want the row; their number. Of no selections (topk = 0): the one
 * place. */
SY_DEV sy_u32 sy_list_places(struct sy_ctx *c, const struct sy_arrival *a, sy_u32 topk, sy_u32 *to)
{
    sy_u32 n = 0, all;
    if (c->lane == 0 && topk == 0)
        to[0] = a->row;
    for (sy_u32 base = 0; base < topk; base += SY_LANES) {
        sy_u32 k = base + c->lane;
        sy_u32 at = k < topk ? sy_wanted_at(a, sy_arrival_sel(a, k, topk)) : SY_NOT_DELIVERED;
        sy_u32 before = sy_count_lower(c, at != SY_NOT_DELIVERED, &all);
        if (at != SY_NOT_DELIVERED)
            to[n + before] = at;
        n += all;
    }
    return topk ? n : 1u;
}

/* Copies the row to the places of its selections, or (topk = 0) to the one place. 0: the group is
 * lost. */
SY_DEV int sy_copy_by(struct sy_ctx *c, const struct sy_outputs *o, const struct sy_arrival *a,
                      struct sy_copier *p, sy_u32 topk)
{
    sy_u32 piece = p->slot_bytes - p->head;
    int wanted = topk == 0;
    SY_FOR (k, c, topk) {
        wanted |= sy_wanted_at(a, sy_arrival_sel(a, k, topk)) != SY_NOT_DELIVERED;
    }
    if (!sy_any(c, wanted))
        return 1;
    for (sy_u32 at = 0; at < SY_ROW_BYTES(o); at += piece) {
        sy_u32 n;
        if (!sy_copier_room(c, p, &o->x))
            return 0;
        n = sy_list_places(c, a, topk, sy_copy_places(sy_copy_at(p, p->begun)));
        sy_copier_load(c, p, n, a->x, at, sy_min_u32(piece, SY_ROW_BYTES(o) - at));
    }
    return 1;
}

/* The row to the place of a layout by token, unless it is there. */
SY_DEV int sy_copy_row_to(struct sy_ctx *c, const struct sy_outputs *o, const struct sy_arrival *a,
                          struct sy_copier *p)
{
    if (a->row == a->skip)
        return 1;
    if (p->slots)
        return sy_copy_by(c, o, a, p, 0);
    sy_copy_row(c, sy_out_at(&o->x, a->row), a->x, SY_ROW_BYTES(o));
    return 1;
}

/* The row to the places of all its selections. */
SY_DEV int sy_copy_row_to_all(struct sy_ctx *c, const struct sy_outputs *o,
                              const struct sy_arrival *a, struct sy_copier *p, sy_u32 topk)
{
    if (p->slots)
        return sy_copy_by(c, o, a, p, topk);
    for (sy_u32 k = 0; k < topk; k++)
        if (sy_wanted_at(a, a->sel[k]) != SY_NOT_DELIVERED)
            sy_copy_row(c, sy_out_at(&o->x, (sy_u32)a->sel[k]), a->x, SY_ROW_BYTES(o));
    return 1;
}

/* The row's scales and source to one place. */
SY_DEV void sy_place_side(struct sy_ctx *c, const struct sy_outputs *o, const struct sy_arrival *a,
                          sy_u32 place)
{
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

/* A weight that came with a row, or 0 if none did. Asked for whether its expert is here or not:
 * that would mean to wait for the id first. */
SY_DEV float sy_come_weight(const struct sy_outputs *o, const float *weight)
{
    return o->weighted ? sy_bits_f32(sy_get32(weight)) : 0.0f;
}

/* Layouts by token: id and weight of selection k, local expert e or -1. Per lane. */
SY_DEV void sy_place_selection(const struct sy_outputs *o, sy_u32 row, sy_u32 k, sy_s32 e, float w)
{
    if (o->ids.data) {
        sy_u8 *to = sy_out_at(&o->ids, row) + (sy_s64)k * o->ids.stride1;
        if (o->ids.wide)
            *(sy_s64 *)to = e;
        else
            *(sy_s32 *)to = e;
    }
    if (o->weights.data)
        *(float *)(sy_out_at(&o->weights, row) + (sy_s64)k * o->weights.stride1) = e < 0 ? 0.0f : w;
}

SY_DEV void sy_place_selections(struct sy_ctx *c, const struct sy_outputs *o,
                                const struct sy_arrival *a, sy_u32 topk)
{
    SY_FOR (k, c, o->ids.data || o->weights.data ? topk : 0) {
        float w = sy_come_weight(o, a->weights + k);
        sy_place_selection(o, a->row, k, a->sel[k], w);
    }
}

/* Scales that lie as 16-byte units on both sides? */
SY_DEV int sy_scales_wide(const struct sy_outputs *o)
{
    return o->scale_words % 4u == 0 && o->scales.stride1 == 4 && o->scales.stride0 % 16 == 0 &&
           (sy_u64)o->scales.data % 16u == 0;
}

/* Scales to the places of all selections: loaded once. */
SY_DEV void sy_place_scales(struct sy_ctx *c, const struct sy_outputs *o,
                            const struct sy_arrival *a, sy_u32 topk)
{
    int wide = sy_scales_wide(o);
    sy_u32 units = wide ? o->scale_words / 4u : o->scale_words;
    for (sy_u32 first = 0; first < units; first += SY_LANES) {
        sy_u32 i = first + c->lane;
        struct sy_v16 v = {{0, 0, 0, 0}};
        if (i < units && wide)
            v = sy_get16((const sy_u8 *)a->scales + i * 16u);
        else if (i < units)
            v.w[0] = sy_get32(a->scales + i);
        for (sy_u32 k = 0; k < topk; k++) {
            sy_s32 at = topk <= SY_LANES ? (sy_s32)sy_bcast(c, (sy_u32)a->mine, k) : a->sel[k];
            sy_u8 *to = sy_out_at(&o->scales, (sy_u32)at);
            if (at < 0 || i >= units)
                continue;
            if (wide)
                sy_put16(to + i * 16u, v);
            else
                *(sy_u32 *)(to + (sy_s64)i * o->scales.stride1) = v.w[0];
        }
    }
}

/* Layouts by expert; its lanes have been asked for. 0: the group is lost. */
SY_DEV int sy_place_by_expert(struct sy_ctx *c, const struct sy_outputs *o, struct sy_arrival *a,
                              struct sy_copier *p, sy_u32 topk)
{
    SY_FOR (k, c, o->weights.data || o->src.data ? topk : 0) {
        sy_s32 at = sy_arrival_sel(a, k, topk);
        sy_u32 w = a->weight;
        if (at < 0)
            continue;
        if (topk > SY_LANES && o->weights.data && o->weighted)
            w = sy_get32(a->weights + k);
        if (o->weights.data)
            *(sy_u32 *)sy_out_at(&o->weights, (sy_u32)at) = w;
        if (o->src.data) {
            sy_s32 *to = (sy_s32 *)sy_out_at(&o->src, (sy_u32)at);
            to[0] = (sy_s32)a->source;
            *(sy_s32 *)((sy_u8 *)to + o->src.stride1) = (sy_s32)a->token;
        }
    }
    if (o->scales.data)
        sy_place_scales(c, o, a, topk);
    return sy_copy_row_to_all(c, o, a, p, topk);
}

/* All that is to be done with one arrived row. 0: the group is lost. */
SY_DEV int sy_place(struct sy_ctx *c, const struct sy_dev *d, const struct sy_dev_route *r,
                    const struct sy_outputs *o, struct sy_arrival *a, struct sy_copier *p)
{
    if (!sy_by_expert(SY_LAYOUT(r))) {
        sy_place_side(c, o, a, a->row);
        sy_place_selections(c, o, a, SY_TOPK(r));
        if (o->probs.data)
            sy_place_probs(c, o, a, SY_TOPK(r), d->local);
        return sy_copy_row_to(c, o, a, p);
    }
    return sy_place_by_expert(c, o, a, p, SY_TOPK(r));
}

/* --- many rows of a layout by token ---------------------------------------------------------- */

/* Rows that follow each other, from their first on; what of them is here is in the same order. */
struct sy_run {
    sy_u32 row, n;       /* places                    */
    const sy_s32 *sel;   /* route: [n][K]             */
    const sy_u32 *token; /* route: [n]                */
    const sy_u8 *side;   /* heap: [n], scales, weights */
    sy_u32 side_bytes;
    sy_u32 source;
};

#define SY_RUN_BATCH 4u /* loads of a lane that do not wait for each other */

/* Scales as 16-byte units, if both sides have such. */
SY_DEV void sy_run_scales16(struct sy_ctx *c, const struct sy_outputs *o, const struct sy_run *run)
{
    sy_u32 units = o->scale_words / 4u, all = run->n * units;
    for (sy_u32 first = c->lane; first < all; first += SY_RUN_BATCH * SY_LANES) {
        struct sy_v16 v[SY_RUN_BATCH];
        SY_UNROLL(4)
        for (sy_u32 j = 0; j < SY_RUN_BATCH; j++) {
            sy_u32 i = first + j * SY_LANES;
            if (i < all)
                v[j] =
                    sy_get16(run->side + (sy_u64)(i / units) * run->side_bytes + i % units * 16u);
        }
        SY_UNROLL(4)
        for (sy_u32 j = 0; j < SY_RUN_BATCH; j++) {
            sy_u32 i = first + j * SY_LANES;
            if (i < all)
                sy_put16(sy_out_at(&o->scales, run->row + i / units) + i % units * 16u, v[j]);
        }
    }
}

SY_DEV void sy_run_scales(struct sy_ctx *c, const struct sy_outputs *o, const struct sy_run *run)
{
    sy_u32 words = o->scale_words, all = run->n * words;
    if (sy_scales_wide(o)) {
        sy_run_scales16(c, o, run);
        return;
    }
    SY_UNROLL(4)
    for (sy_u32 i = c->lane; i < all; i += SY_LANES) {
        sy_u8 *to = sy_out_at(&o->scales, run->row + i / words);
        *(sy_u32 *)(to + (sy_s64)(i % words) * o->scales.stride1) =
            sy_get32(run->side + (sy_u64)(i / words) * run->side_bytes + i % words * 4u);
    }
}

/* Ids, weights, sources: what sy_place() does for one row. */
SY_DEV void sy_run_selections(struct sy_ctx *c, const struct sy_outputs *o,
                              const struct sy_run *run, sy_u32 topk)
{
    const sy_u8 *weights = run->side + o->scale_words * 4u;
    sy_u32 all = o->ids.data || o->weights.data ? run->n * topk : 0;
    for (sy_u32 first = c->lane; first < all; first += SY_RUN_BATCH * SY_LANES) {
        sy_s32 e[SY_RUN_BATCH] = {0};
        float w[SY_RUN_BATCH] = {0};
        SY_UNROLL(4)
        for (sy_u32 j = 0; j < SY_RUN_BATCH; j++) {
            sy_u32 i = first + j * SY_LANES, n = i / topk;
            const sy_u8 *side = weights + (sy_u64)n * run->side_bytes;
            if (i >= all)
                continue;
            e[j] = run->sel[i];
            w[j] = sy_come_weight(o, (const float *)side + (i - n * topk));
        }
        SY_UNROLL(4)
        for (sy_u32 j = 0; j < SY_RUN_BATCH; j++) {
            sy_u32 i = first + j * SY_LANES, n = i / topk;
            if (i < all)
                sy_place_selection(o, run->row + n, i - n * topk, e[j], w[j]);
        }
    }
    SY_FOR (i, c, o->src.data ? run->n : 0) {
        sy_s32 *to = (sy_s32 *)sy_out_at(&o->src, run->row + i);
        to[0] = (sy_s32)run->source;
        *(sy_s32 *)((sy_u8 *)to + o->src.stride1) = (sy_s32)run->token[i];
    }
}

/* Do so many rows hold what the route brings? Slabs: the host has checked. */
SY_DEV int sy_rows_fit(const struct sy_dev_route *r, sy_u32 need, sy_u32 have)
{
    return SY_LAYOUT(r) == SY_L_SLABS || SY_LAYOUT(r) == SY_L_RANK ||
           sy_min_u32(need, r->capacity) <= have;
}

/* The same of the caller's tensors. By one warp; tells all ranks if not. */
SY_DEV int sy_rows_suffice(struct sy_ctx *c, const struct sy_op *op, const struct sy_dev_route *r,
                           sy_u32 need, sy_u32 have)
{
    if (sy_rows_fit(r, need, have))
        return 1;
    if (c->lane == 0) {
        struct sy_fault_record f = sy_missed(op->d, SY_FAULT_SHORT, op->d->rank, op->d->heap);
        f.expected = sy_min_u32(need, r->capacity);
        f.seen = have;
        sy_raise(c, op, f);
    }
    return 0;
}

SY_DEV sy_u32 sy_rows_needed(const struct sy_dev_route *r)
{
    return (sy_u32)((const sy_s32 *)SY_ROUTE_AT(r, totals))[1];
}

#endif
