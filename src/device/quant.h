/* quant.h - BF16 rows to F8E4M3 in blocks of 128 elements, as switchyard.h section 8 defines it. */
#ifndef SY_DEVICE_QUANT_H
#define SY_DEVICE_QUANT_H

#include "prims.h"

enum { SY_Q_NONE = 0, SY_Q_F8 = 1, SY_Q_POW2 = 2, SY_Q_UE8M0 = 3 };

#define SY_Q_BLOCK 128u
#define SY_Q_UNITS (SY_Q_BLOCK / 8u) /* 16-byte units of a block */

/* The factor for the elements and, in *scale, what the receiver multiplies with (fp32 bits). near:
 * amax is less than SY_NEAR, where a target may have quicker ways to divide. */
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

/* Blocks [worker, worker + workers, ...) of `elements` BF16 values at `from` become bytes at `to`
 * and scales at `scales`. Workers are the groups of SY_MAX_LANES lanes of one or several warps;
 * every warp makes the same number of turns. Packed UE8M0 scales that belong to no block are
 * zeroed. */
SY_DEV void sy_quant_row(struct sy_ctx *c, const sy_u8 *from, sy_u8 *to, sy_u8 *scales,
                         sy_u32 elements, sy_u32 quant, sy_u32 worker, sy_u32 workers)
{
    sy_u32 blocks = sy_div_up(elements, SY_Q_BLOCK);
    sy_u32 turns = sy_div_up(blocks, workers), first = c->lane % SY_MAX_LANES;
    SY_UNROLL(1)
    for (sy_u32 turn = 0; turn < turns; turn += SY_QUANT_TURNS) {
        struct sy_v16 v[SY_QUANT_TURNS][SY_Q_UNITS / SY_MAX_LANES];
        float amax[SY_QUANT_TURNS], factor[SY_QUANT_TURNS];
        sy_u32 scale[SY_QUANT_TURNS];
        int finite = 1, near = 1;
        SY_UNROLL(8)
        for (sy_u32 i = 0; i < SY_QUANT_TURNS; i++) {
            sy_u32 begin = ((turn + i) * workers + worker) * SY_Q_BLOCK;
            amax[i] = 0.0f;
            for (sy_u32 u = 0; u < SY_Q_UNITS / SY_MAX_LANES; u++) {
                sy_u32 at = begin + (u * SY_MAX_LANES + first) * 8u;
                const struct sy_v16 none = {{0, 0, 0, 0}};
                v[i][u] = at < elements ? sy_own16(from + at * 2u) : none;
                float m = sy_amax_bf16(v[i][u], &finite);
                amax[i] = m > amax[i] ? m : amax[i];
            }
        }
        SY_UNROLL(8)
        for (sy_u32 i = 0; i < SY_QUANT_TURNS; i++) {
            amax[i] = sy_max16(c, amax[i]);
            near &= amax[i] < SY_NEAR;
        }
        sy_warp_sync(c); /* in place: all lanes have read before one writes */
        SY_UNROLL(8)
        for (sy_u32 i = 0; i < SY_QUANT_TURNS; i++)
            factor[i] = sy_quant_factor(amax[i], quant, scale + i, 1);
        if (!near) {
            SY_UNROLL(8)
            for (sy_u32 i = 0; i < SY_QUANT_TURNS; i++)
                factor[i] = sy_quant_factor(amax[i], quant, scale + i, 0);
        }
        SY_UNROLL(8)
        for (sy_u32 i = 0; i < SY_QUANT_TURNS; i++) {
            sy_u32 block = (turn + i) * workers + worker;
            for (sy_u32 u = 0; u < SY_Q_UNITS / SY_MAX_LANES; u++) {
                sy_u32 at = block * SY_Q_BLOCK + (u * SY_MAX_LANES + first) * 8u;
                struct sy_acc a = sy_acc_bf16(v[i][u]);
                if (at < elements)
                    *(sy_u64 *)(to + at) =
                        finite ? sy_pack_f8_finite(a, factor[i]) : sy_pack_f8(a, factor[i]);
            }
            if (first == 0 && block < blocks)
                sy_quant_keep(scales, block, scale[i], quant);
        }
    }
    if (quant == SY_Q_UE8M0 && worker == 0 && c->lane % SY_MAX_LANES == 0)
        for (sy_u32 b = blocks; b % 4u; b++)
            scales[b] = 0;
}

#endif
