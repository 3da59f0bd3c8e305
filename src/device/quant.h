/* quant.h - BF16 rows to F8E4M3 in blocks of 128 elements, as switchyard.h section 8 defines it. */
#ifndef SY_DEVICE_QUANT_H
#define SY_DEVICE_QUANT_H

#include "prims.h"

#define SY_Q_UNITS (SY_Q_BLOCK / 8u) /* 16-byte units of a block */
#define SY_Q_TURNS 4u                /* blocks that a group of lanes may have in flight */

/* What a BF16 value less than 2^120 is less than, as bits. */
#define SY_NEAR_BITS 0x7b80u

/* The factor for the elements and, in *scale, what the receiver multiplies with (fp32 bits). near:
 * amax is less than 2^120, where a target may have quicker ways to divide. */
SY_DEV float sy_quant_factor(float amax, sy_u32 quant, sy_u32 *scale, int near)
{
    float a = amax < 1e-4f ? 1e-4f : amax;
    sy_u32 bits;
    *scale = bits = sy_f32_bits(near ? sy_over_448(a) : sy_div(a, 448.0f));
    if (quant == SY_Q_F8)
        return near ? sy_448_over(a) : sy_div(448.0f, a);
    /* a / 448 is a normal number here: up to the next power of two, and its inverse is exact. */
    bits = (bits + 0x007fffffu) & 0x7f800000u;
    *scale = bits;
    return sy_bits_f32(0x7f000000u - bits);
}

/* Writes one scale; UE8M0 scales are bytes. Per lane. */
SY_DEV void sy_quant_keep(sy_u8 *scales, sy_u32 block, sy_u32 scale, sy_u32 quant)
{
    if (quant == SY_Q_UE8M0)
        scales[block] = (sy_u8)(scale >> 23);
    else
        ((sy_u32 *)scales)[block] = scale;
}

/* Where a lane's bytes of a block begin, in elements. */
SY_DEV sy_u32 sy_quant_at(struct sy_ctx *c, sy_u32 block, sy_u32 u)
{
    return block * SY_Q_BLOCK + (u * SY_MAX_LANES + c->lane % SY_MAX_LANES) * 8u;
}

SY_DEV struct sy_v16 sy_quant_load(const sy_u8 *from, sy_u32 at, sy_u32 elements)
{
    const struct sy_v16 none = {{0, 0, 0, 0}};
    return at < elements ? sy_own16(from + at * 2u) : none;
}

/* A block with values that are not finite, or too large to divide by them in a quick way. All lanes
 * come, with a block each or with none. */
SY_DEV void sy_quant_odd(struct sy_ctx *c, const sy_u8 *from, sy_u8 *to, sy_u8 *scales,
                         sy_u32 elements, sy_u32 quant, sy_u32 block)
{
    sy_u32 most = 0, scale;
    for (sy_u32 u = 0; u < SY_Q_UNITS / SY_MAX_LANES; u++) {
        struct sy_v16 v = sy_quant_load(from, sy_quant_at(c, block, u), elements);
        sy_u32 m = sy_f32_bits(sy_acc_amax(sy_acc_bf16(v))) >> 16;
        most = m > most ? m : most;
    }
    most = sy_max16(c, most);
    float factor = sy_quant_factor(sy_bits_f32(most << 16), quant, &scale, 0);
    for (sy_u32 u = 0; u < SY_Q_UNITS / SY_MAX_LANES; u++) {
        sy_u32 at = sy_quant_at(c, block, u);
        struct sy_v16 v = sy_quant_load(from, at, elements);
        sy_warp_sync(c); /* in place: all lanes have read before one writes */
        if (at < elements)
            *(sy_u64 *)(to + at) = sy_pack_f8(sy_acc_bf16(v), factor);
    }
    if (c->lane % SY_MAX_LANES == 0 && block * SY_Q_BLOCK < elements)
        sy_quant_keep(scales, block, scale, quant);
}

/* Blocks [worker, worker + workers, ...) of `elements` BF16 values at `from` become bytes at `to`
 * and scales at `scales`. Workers are the groups of SY_MAX_LANES lanes of one or several warps;
 * every warp makes the same number of turns, at_once of them at once (2 or 4; a constant, if the
 * compiler is to unroll them). Packed UE8M0 scales that belong to no block are zeroed. */
SY_DEV void sy_quant_row(struct sy_ctx *c, const sy_u8 *from, sy_u8 *to, sy_u8 *scales,
                         sy_u32 elements, sy_u32 quant, sy_u32 worker, sy_u32 workers,
                         sy_u32 at_once)
{
    sy_u32 blocks = sy_div_up(elements, SY_Q_BLOCK), first = c->lane % SY_MAX_LANES;
    sy_u32 turns = sy_div_up(blocks, workers);
    SY_UNROLL(1)
    for (sy_u32 turn = 0; turn < turns; turn += at_once) {
        struct sy_v16 v[SY_Q_TURNS][SY_Q_UNITS / SY_MAX_LANES];
        sy_u32 most[SY_Q_TURNS / 2u] = {0}, far = 0; /* of two blocks, in a half each */
        SY_UNROLL(8)
        for (sy_u32 i = 0; i < at_once; i++) {
            sy_u32 m = 0;
            for (sy_u32 u = 0; u < SY_Q_UNITS / SY_MAX_LANES; u++) {
                sy_u32 at = sy_quant_at(c, (turn + i) * workers + worker, u), next;
                v[i][u] = sy_quant_load(from, at, elements);
                next = sy_amax_bf16(v[i][u]);
                m = next > m ? next : m;
            }
            most[i / 2u] |= m << i % 2u * 16u;
        }
        SY_UNROLL(8)
        for (sy_u32 i = 0; i < at_once / 2u; i++) {
            most[i] = sy_max16(c, most[i]);
            far |= (most[i] & 0xffffu) >= SY_NEAR_BITS || most[i] >= SY_NEAR_BITS << 16;
        }
        if (sy_any(c, (int)far)) {
            SY_UNROLL(1)
            for (sy_u32 i = 0; i < at_once; i++)
                sy_quant_odd(c, from, to, scales, elements, quant, (turn + i) * workers + worker);
            continue;
        }
        sy_warp_sync(c); /* in place: all lanes have read before one writes */
        SY_UNROLL(8)
        for (sy_u32 i = 0; i < at_once; i++) {
            sy_u32 block = (turn + i) * workers + worker, scale;
            sy_u32 amax = i % 2u ? most[i / 2u] & 0xffff0000u : most[i / 2u] << 16;
            float factor = sy_quant_factor(sy_bits_f32(amax), quant, &scale, 1);
            for (sy_u32 u = 0; u < SY_Q_UNITS / SY_MAX_LANES; u++) {
                sy_u32 at = sy_quant_at(c, block, u);
                if (at < elements)
                    *(sy_u64 *)(to + at) = sy_pack_f8_finite(sy_acc_bf16(v[i][u]), factor);
            }
            if (first == 0 && block < blocks)
                sy_quant_keep(scales, block, scale, quant);
        }
    }
    if (quant == SY_Q_UE8M0 && worker == 0 && c->lane % SY_MAX_LANES == 0)
        for (sy_u32 b = blocks; b % 4u; b++)
            scales[b] = 0;
}

#endif
