/* quant.h - BF16 rows to F8E4M3 in blocks of 128 elements, as switchyard.h section 8 defines it. */
#ifndef SY_DEVICE_QUANT_H
#define SY_DEVICE_QUANT_H

#include "prims.h"

enum { SY_Q_NONE = 0, SY_Q_F8 = 1, SY_Q_POW2 = 2, SY_Q_UE8M0 = 3 };

#define SY_Q_BLOCK 128u
#define SY_Q_UNITS (SY_Q_BLOCK / 8u) /* 16-byte units of a block */

/* The factor for the elements and, in *scale, what the receiver multiplies with (fp32 bits). */
SY_DEV float sy_quant_factor(float amax, sy_u32 quant, sy_u32 *scale)
{
    float a = amax < 1e-4f ? 1e-4f : amax;
    sy_u32 bits;
    if (quant == SY_Q_F8) {
        *scale = sy_f32_bits(sy_div(a, 448.0f));
        return sy_div(448.0f, a);
    }
    /* a / 448 is a normal number here: up to the next power of two, and its inverse is exact. */
    bits = sy_f32_bits(sy_div(a, 448.0f));
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
    sy_u32 turns = sy_div_up(blocks, workers);
    SY_UNROLL(2)
    for (sy_u32 turn = 0; turn < turns; turn++) {
        sy_u32 block = turn * workers + worker, first = c->lane % SY_MAX_LANES, scale;
        struct sy_acc v[SY_Q_UNITS / SY_MAX_LANES];
        float amax = 0.0f, factor;
        for (sy_u32 u = 0; u < SY_Q_UNITS / SY_MAX_LANES; u++) {
            sy_u32 at = block * SY_Q_BLOCK + (u * SY_MAX_LANES + first) * 8u;
            v[u] = at < elements ? sy_acc_bf16(sy_own16(from + at * 2u)) : sy_acc_zero();
            float m = sy_acc_amax(v[u]);
            amax = m > amax ? m : amax;
        }
        factor = sy_quant_factor(sy_max16(c, amax), quant, &scale);
        for (sy_u32 u = 0; u < SY_Q_UNITS / SY_MAX_LANES; u++) {
            sy_u32 at = block * SY_Q_BLOCK + (u * SY_MAX_LANES + first) * 8u;
            if (at < elements)
                *(sy_u64 *)(to + at) = sy_pack_f8(v[u], factor);
        }
        if (first == 0 && block < blocks)
            sy_quant_keep(scales, block, scale, quant);
    }
    if (quant == SY_Q_UE8M0 && worker == 0 && c->lane % SY_MAX_LANES == 0)
        for (sy_u32 b = blocks; b % 4u; b++)
            scales[b] = 0;
}

#endif
