/* sums.h - the arithmetic of combine, as switchyard.h section 9 defines it.
 *
 * A sum is described by a list of terms, in order. Terms of one group (the selections of a token on
 * one rank) are summed first and rounded to the type, then added to the result. */
#ifndef SY_DEVICE_SUMS_H
#define SY_DEVICE_SUMS_H

#include "prims.h"

enum { SY_T_BF16 = 1, SY_T_F16 = 2, SY_T_F32 = 3 };

struct sy_term {
    const sy_u8 *row;
    float weight;
    sy_u32 flags;
};

#define SY_TERM_WEIGHTED 1u
#define SY_TERM_ENDS 2u /* the last of its group: round, then add to the result */

SY_DEV struct sy_acc sy_unpack(sy_u32 type, struct sy_v16 v)
{
    return type == SY_T_BF16 ? sy_acc_bf16(v) : type == SY_T_F16 ? sy_acc_f16(v) : sy_acc_f32(v);
}
SY_DEV struct sy_v16 sy_pack(sy_u32 type, struct sy_acc a)
{
    return type == SY_T_BF16 ? sy_pack_bf16(a) : type == SY_T_F16 ? sy_pack_f16(a) : sy_pack_f32(a);
}

#define SY_FOR_COLUMNS(j, columns)                                                                 \
    SY_UNROLL(8)                                                                                   \
    for (sy_u32 j = 0; j < (columns); j++)

/* What a leaf loop needs. */
struct sy_span {
    const struct sy_term *terms;
    sy_u32 n;
    sy_u32 grouped;
    sy_u32 weighted; /* some of the terms are */
    sy_u32 staged;   /* bytes [from, end) of term i have been loaded into a ring of stages, ... */
    sy_u32 first;    /* ... the first term's into this one, the others' behind it          */
    sy_u32 stages;
    sy_u32 stage_bytes; /* from one to the next */
    sy_u8 *ring;
    const sy_u8 *bias0, *bias1;
    sy_u8 *to;
    sy_u32 from, end; /* bytes of the row */
};

/* 16 bytes of term i: of memory, or of the stage that they have been loaded into; what lies behind
 * the end of a stage is not read. */
SY_DEV struct sy_v16 sy_term16(const struct sy_span *s, sy_u32 staged, sy_u32 i, sy_u32 at)
{
    sy_u32 stage = s->first + i;
    const sy_u8 *loaded;
    const struct sy_v16 none = {{0, 0, 0, 0}};
    if (!staged)
        return sy_get16(s->terms[i].row + at);
    if (at >= s->end)
        return none;
    stage -= stage >= s->stages ? s->stages : 0;
    loaded = s->ring + stage * s->stage_bytes;
    return sy_staged16(SY_STAGED(loaded, s->terms[i].row + s->from) + (at - s->from));
}

/* A block of some columns of 16 bytes of a row per lane, neighbouring lanes side by side: the
 * target wants loads of SY_BATCH terms times SY_COLUMNS in flight, or of one term times
 * SY_STAGED_COLUMNS, where columns may lie behind the end. `columns` is a constant in every
 * caller. */
#define SY_COLUMNS_MOST (SY_COLUMNS > SY_STAGED_COLUMNS ? SY_COLUMNS : SY_STAGED_COLUMNS)
struct sy_block {
    struct sy_acc sum[SY_COLUMNS_MOST];
};

/* Terms that are whole groups, and are not rounded by themselves: layouts by token, and partial
 * sums that came over the wire. */
SY_DEV void sy_sum_simple(sy_u32 type, sy_u32 staged, struct sy_block *b, const struct sy_span *s,
                          sy_u32 at, sy_u32 columns)
{
    const sy_u32 batch = staged ? 1u : SY_BATCH; /* a stage is near */
    SY_UNROLL(1)
    for (sy_u32 base = 0; base < s->n; base += batch) {
        struct sy_v16 v[SY_BATCH * SY_COLUMNS_MOST];
        SY_UNROLL(8)
        for (sy_u32 i = 0; i < batch; i++)
            if (base + i < s->n)
                SY_FOR_COLUMNS(j, columns)
        v[i * columns + j] = sy_term16(s, staged, base + i, at + j * SY_LANES * 16u);
        SY_UNROLL(8)
        for (sy_u32 i = 0; i < batch; i++)
            if (base + i < s->n) {
                int weighted = s->weighted && (s->terms[base + i].flags & SY_TERM_WEIGHTED);
                float weight = weighted ? s->terms[base + i].weight : 0.0f;
                SY_FOR_COLUMNS(j, columns)
                {
                    struct sy_acc a = sy_unpack(type, v[i * columns + j]);
                    if (weighted)
                        a = sy_acc_scale(a, weight);
                    b->sum[j] = sy_acc_add(b->sum[j], a);
                }
            }
    }
}

/* Groups: each is summed from +0, rounded, and added. */
SY_DEV void sy_sum_groups(sy_u32 type, sy_u32 staged, struct sy_block *b, const struct sy_span *s,
                          sy_u32 at, sy_u32 columns)
{
    struct sy_block group;
    SY_FOR_COLUMNS(j, columns)
    group.sum[j] = sy_acc_zero();
    SY_UNROLL(1)
    for (sy_u32 i = 0; i < s->n; i++) {
        SY_FOR_COLUMNS(j, columns)
        {
            struct sy_v16 v = sy_term16(s, staged, i, at + j * SY_LANES * 16u);
            struct sy_acc a = sy_unpack(type, v);
            if (s->terms[i].flags & SY_TERM_WEIGHTED)
                a = sy_acc_scale(a, s->terms[i].weight);
            group.sum[j] = sy_acc_add(group.sum[j], a);
        }
        if (!(s->terms[i].flags & SY_TERM_ENDS))
            continue;
        SY_FOR_COLUMNS(j, columns)
        {
            struct sy_acc whole = sy_unpack(type, sy_pack(type, group.sum[j]));
            b->sum[j] = sy_acc_add(b->sum[j], whole);
            group.sum[j] = sy_acc_zero();
        }
    }
}

SY_DEV void sy_sum_block(sy_u32 type, sy_u32 staged, const struct sy_span *s, sy_u32 at,
                         sy_u32 columns, sy_u32 grouped)
{
    struct sy_block b;
    SY_FOR_COLUMNS(j, columns)
    {
        sy_u32 to = at + j * SY_LANES * 16u;
        b.sum[j] = sy_acc_zero();
        if (s->bias0 && (!staged || to < s->end))
            b.sum[j] = sy_acc_add(b.sum[j], sy_unpack(type, sy_own16(s->bias0 + to)));
        if (s->bias1 && (!staged || to < s->end))
            b.sum[j] = sy_acc_add(b.sum[j], sy_unpack(type, sy_own16(s->bias1 + to)));
    }
    if (grouped)
        sy_sum_groups(type, staged, &b, s, at, columns);
    else
        sy_sum_simple(type, staged, &b, s, at, columns);
    SY_FOR_COLUMNS(j, columns)
    {
        sy_u32 to = at + j * SY_LANES * 16u;
        if (!staged || to < s->end)
            sy_set16(s->to + to, sy_pack(type, b.sum[j]));
    }
}

SY_DEV void sy_sum_span(struct sy_ctx *c, sy_u32 type, const struct sy_span *s)
{
    sy_u32 wide = SY_COLUMNS * 16u, at = s->from;
    SY_UNROLL(1)
    for (; SY_COLUMNS > 1 && at + SY_LANES * wide <= s->end; at += SY_LANES * wide)
        sy_sum_block(type, 0, s, at + c->lane * 16u, SY_COLUMNS, s->grouped);
    SY_UNROLL(1)
    for (at += c->lane * 16u; at < s->end; at += SY_LANES * 16u)
        sy_sum_block(type, 0, s, at, 1, s->grouped);
}

/* Groups want twice the registers, and are rare where terms are staged. */
SY_DEV void sy_sum_staged(struct sy_ctx *c, sy_u32 type, const struct sy_span *s)
{
    sy_u32 columns = s->grouped ? 1u : SY_STAGED_COLUMNS, at = s->from + c->lane * 16u;
    SY_UNROLL(1)
    for (; at < s->end; at += SY_LANES * columns * 16u)
        if (s->grouped)
            sy_sum_block(type, 1, s, at, 1, 1);
        else
            sy_sum_block(type, 1, s, at, SY_STAGED_COLUMNS, 0);
}

/* The type is a constant in each branch. */
SY_DEV void sy_sum_typed(struct sy_ctx *c, sy_u32 type, sy_u32 staged, const struct sy_span *s)
{
    if (type == SY_T_BF16 && staged)
        sy_sum_staged(c, SY_T_BF16, s);
    else if (type == SY_T_F16 && staged)
        sy_sum_staged(c, SY_T_F16, s);
    else if (staged)
        sy_sum_staged(c, SY_T_F32, s);
    else if (type == SY_T_BF16)
        sy_sum_span(c, SY_T_BF16, s);
    else if (type == SY_T_F16)
        sy_sum_span(c, SY_T_F16, s);
    else
        sy_sum_span(c, SY_T_F32, s);
}

/* Bytes [from, end) of to = round(biases + terms). */
SY_DEV void sy_sum_row(struct sy_ctx *c, sy_u32 type, const struct sy_span *s)
{
    if (SY_BULK_SUMS && s->staged)
        sy_sum_typed(c, type, 1, s);
    else
        sy_sum_typed(c, type, 0, s);
}

#endif
