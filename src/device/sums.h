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
    SY_UNROLL(SY_COLUMNS)                                                                          \
    for (sy_u32 j = 0; j < (columns); j++)

/* A block of SY_COLUMNS times 16 bytes of a row per lane, neighbouring lanes side by side: the
 * target wants loads of SY_BATCH terms times SY_COLUMNS in flight. `columns` is a constant in every
 * caller. */
struct sy_block {
    struct sy_acc sum[SY_COLUMNS];
};

/* Terms that are whole groups, and are not rounded by themselves: layouts by token, and partial
 * sums that came over the wire. */
SY_DEV void sy_sum_simple(sy_u32 type, struct sy_block *b, const struct sy_term *terms, sy_u32 n,
                          sy_u32 at, sy_u32 columns)
{
    for (sy_u32 base = 0; base < n; base += SY_BATCH) {
        struct sy_v16 v[SY_BATCH * SY_COLUMNS];
        SY_UNROLL(8)
        for (sy_u32 i = 0; i < SY_BATCH; i++)
            if (base + i < n)
                SY_FOR_COLUMNS(j, columns)
        v[i * SY_COLUMNS + j] = sy_get16(terms[base + i].row + at + j * SY_LANES * 16u);
        SY_UNROLL(8)
        for (sy_u32 i = 0; i < SY_BATCH; i++)
            if (base + i < n) {
                int weighted = terms[base + i].flags & SY_TERM_WEIGHTED;
                float weight = terms[base + i].weight;
                SY_FOR_COLUMNS(j, columns)
                {
                    struct sy_acc a = sy_unpack(type, v[i * SY_COLUMNS + j]);
                    if (weighted)
                        a = sy_acc_scale(a, weight);
                    b->sum[j] = sy_acc_add(b->sum[j], a);
                }
            }
    }
}

/* Groups: each is summed from +0, rounded, and added. */
SY_DEV void sy_sum_groups(sy_u32 type, struct sy_block *b, const struct sy_term *terms, sy_u32 n,
                          sy_u32 at, sy_u32 columns)
{
    struct sy_block group;
    SY_FOR_COLUMNS(j, columns)
    group.sum[j] = sy_acc_zero();
    for (sy_u32 i = 0; i < n; i++) {
        SY_FOR_COLUMNS(j, columns)
        {
            struct sy_acc a = sy_unpack(type, sy_get16(terms[i].row + at + j * SY_LANES * 16u));
            if (terms[i].flags & SY_TERM_WEIGHTED)
                a = sy_acc_scale(a, terms[i].weight);
            group.sum[j] = sy_acc_add(group.sum[j], a);
        }
        if (!(terms[i].flags & SY_TERM_ENDS))
            continue;
        SY_FOR_COLUMNS(j, columns)
        {
            struct sy_acc whole = sy_unpack(type, sy_pack(type, group.sum[j]));
            b->sum[j] = sy_acc_add(b->sum[j], whole);
            group.sum[j] = sy_acc_zero();
        }
    }
}

/* What a leaf loop needs. */
struct sy_span {
    const struct sy_term *terms;
    sy_u32 n;
    sy_u32 grouped;
    const sy_u8 *bias0, *bias1;
    sy_u8 *to;
    sy_u32 from, end; /* bytes of the row */
};

SY_DEV void sy_sum_block(sy_u32 type, const struct sy_span *s, sy_u32 at, sy_u32 columns)
{
    struct sy_block b;
    SY_FOR_COLUMNS(j, columns)
    {
        b.sum[j] = sy_acc_zero();
        if (s->bias0)
            b.sum[j] =
                sy_acc_add(b.sum[j], sy_unpack(type, sy_own16(s->bias0 + at + j * SY_LANES * 16u)));
        if (s->bias1)
            b.sum[j] =
                sy_acc_add(b.sum[j], sy_unpack(type, sy_own16(s->bias1 + at + j * SY_LANES * 16u)));
    }
    if (s->grouped)
        sy_sum_groups(type, &b, s->terms, s->n, at, columns);
    else
        sy_sum_simple(type, &b, s->terms, s->n, at, columns);
    SY_FOR_COLUMNS(j, columns)
    sy_set16(s->to + at + j * SY_LANES * 16u, sy_pack(type, b.sum[j]));
}

SY_DEV void sy_sum_span(struct sy_ctx *c, sy_u32 type, const struct sy_span *s)
{
    sy_u32 wide = SY_COLUMNS * 16u, at = s->from;
    for (; SY_COLUMNS > 1 && at + SY_LANES * wide <= s->end; at += SY_LANES * wide)
        sy_sum_block(type, s, at + c->lane * 16u, SY_COLUMNS);
    for (at += c->lane * 16u; at < s->end; at += SY_LANES * 16u)
        sy_sum_block(type, s, at, 1);
}

/* Bytes [from, end) of to = round(biases + terms). The type is a constant in each branch. */
SY_DEV void sy_sum_row(struct sy_ctx *c, sy_u32 type, const struct sy_span *s)
{
    if (type == SY_T_BF16)
        sy_sum_span(c, SY_T_BF16, s);
    else if (type == SY_T_F16)
        sy_sum_span(c, SY_T_F16, s);
    else
        sy_sum_span(c, SY_T_F32, s);
}

#endif
