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

/* Terms that are whole groups, and are not rounded by themselves: layouts by token, and partial
 * sums that came over the wire. */
SY_DEV struct sy_acc sy_sum_simple(sy_u32 type, struct sy_acc sum, const struct sy_term *terms,
                                   sy_u32 n, sy_u32 at)
{
    for (sy_u32 base = 0; base < n; base += 8) {
        struct sy_v16 v[8];
        SY_UNROLL(8)
        for (sy_u32 i = 0; i < 8; i++)
            if (base + i < n)
                v[i] = sy_get16(terms[base + i].row + at);
        SY_UNROLL(8)
        for (sy_u32 i = 0; i < 8; i++)
            if (base + i < n) {
                struct sy_acc a = sy_unpack(type, v[i]);
                if (terms[base + i].flags & SY_TERM_WEIGHTED)
                    a = sy_acc_scale(a, terms[base + i].weight);
                sum = sy_acc_add(sum, a);
            }
    }
    return sum;
}

/* Groups: each is summed from +0, rounded, and added. */
SY_DEV struct sy_acc sy_sum_groups(sy_u32 type, struct sy_acc sum, const struct sy_term *terms,
                                   sy_u32 n, sy_u32 at)
{
    struct sy_acc group = sy_acc_zero();
    for (sy_u32 i = 0; i < n; i++) {
        struct sy_acc a = sy_unpack(type, sy_get16(terms[i].row + at));
        if (terms[i].flags & SY_TERM_WEIGHTED)
            a = sy_acc_scale(a, terms[i].weight);
        group = sy_acc_add(group, a);
        if (terms[i].flags & SY_TERM_ENDS) {
            sum = sy_acc_add(sum, sy_unpack(type, sy_pack(type, group)));
            group = sy_acc_zero();
        }
    }
    return sum;
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

SY_DEV void sy_sum_span(struct sy_ctx *c, sy_u32 type, const struct sy_span *s)
{
    for (sy_u32 at = s->from + c->lane * 16u; at < s->end; at += SY_LANES * 16u) {
        struct sy_acc sum = sy_acc_zero();
        if (s->bias0)
            sum = sy_acc_add(sum, sy_unpack(type, sy_own16(s->bias0 + at)));
        if (s->bias1)
            sum = sy_acc_add(sum, sy_unpack(type, sy_own16(s->bias1 + at)));
        sum = s->grouped ? sy_sum_groups(type, sum, s->terms, s->n, at)
                         : sy_sum_simple(type, sum, s->terms, s->n, at);
        sy_set16(s->to + at, sy_pack(type, sum));
    }
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
