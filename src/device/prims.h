/* prims.h - the primitives that device code is written in, and what each promises.
 *
 * Kernels are C in the common subset of C11 and CUDA/HIP C++. They are executed by warps of
 * SY_LANES lanes (CPU 1, NVIDIA 32, AMD 64). Control flow is the same for all lanes of a warp;
 * lanes differ only inside loops over SY_FOR and in values. Every primitive is called by all lanes
 * of a warp unless it says "per lane".
 *
 * lanes     sy_warp_sync     what one lane wrote before it, every lane sees after it
 *           sy_bcast[64]     the value of one lane;  sy_any, sy_sum, sy_max, sy_or  over the lanes
 *           sy_ones, sy_lowest  bits set, and the lowest of them; per lane
 *           sy_scan          sum of the lower lanes' values; *total of all
 *           sy_count_lower   how many lower lanes have it; *all: how many lanes do
 *           sy_max16         largest values among the SY_MAX_LANES lanes that share a block of 128,
 *                            of the lower and the upper halves of words apart
 * blocks    sy_block_sync    all warps of the block; only where every warp surely comes
 * private   sy_add, sy_max64 atomics, per lane, no order;  sy_draw  the next number of a counter,
 *           for one lane, which waits for it only when it looks at it;
 *           sy_load_word / sy_store_word  acquire / release among the warps of this rank;
 *           ..._shared among those of a block;
 *           sy_arrive        counts those who are through: the last may overwrite what they read
 * peers     sy_peek[64]      acquire: what the writer fenced before its word, this lane sees
 *           sy_glance[64]    a word for its own sake, no order. What spins, glances: an acquire
 *                            makes a GPU forget its first-level cache
 *           sy_put[64]       a word that proves itself (epoch inside); per lane, no order
 *           sy_signal_add    adds to a SY_COUNTER; per lane; what must be seen with it comes
 *                            before a sy_fence_publish()
 *           sy_claim         sets a word to 1 and returns what it was; per lane
 * fences    sy_fence_publish orders this warp's writes, and all writes that it has seen, before its
 *                            later words and signals, for every reader in the system
 *           sy_fence_device  the same for the warps of this rank
 *           sy_fence_bulk    between ordinary accesses and bulk copies of a stage
 *           sy_fence_loads   what this warp has acquired, its bulk loads see as well
 * 16 bytes  sy_get16, sy_put16, sy_get32, sy_put32  heap memory, own or a peer's; per lane
 *           sy_own16, sy_set16   memory that only this rank uses; per lane
 * bulk      sy_load_expect, sy_load_bulk  begin to fill a stage; sy_load_ready: it is full (parity
 *           alternates per use). SY_STAGED(stage, source) is where the bytes are then;
 *           sy_staged16 reads them, per lane. SY_BULK_SUMS: 0 where sums read memory itself
 *           sy_store_bulk    begin to write a stage to a heap; sy_store_bulk_each: every lane names
 *           a place of its own, or none; sy_store_commit closes a batch;
 *           SY_STORE_WAIT_READ(c, n)  all but the last n batches have left the stage
 *           SY_STORE_WAIT_DONE(c, n)  all but the last n batches are where they should be
 * pacing    sy_pace_begin, sy_pace_wait  keep an interval between this warp's stores
 * clock     sy_now_ns; sy_pause: nothing to do, let others run
 * ahead     SY_ASKS_AHEAD(may)  is something loaded here that is of no use if the group is lost?
 *                            On GPUs, and where no group is lost; elsewhere if it may be loaded
 * numbers   struct sy_acc: eight fp32 values (F32: four); see the functions
 *           sy_amax_bf16     largest absolute of eight BF16 values, as bits: what is not finite
 *                            counts as larger than all else;  sy_acc_amax  of what is finite
 */
#ifndef SY_DEVICE_PRIMS_H
#define SY_DEVICE_PRIMS_H

#if defined(SY_TARGET_CUDA)
#include "compat_cuda.h"
#elif defined(SY_TARGET_SIM)
#include "compat_sim.h"
#else
#include "compat_cpu.h"
#endif

#include "../layout/args.h"
#include "../layout/layout.h"
#include "../layout/records.h"

/* A mistake that the simulator's test build makes here, to be caught (sim/plants.c). */
#ifndef SY_PLANT
#define SY_PLANT(name) 0
#endif

/* What a compiled kernel may know in advance (the generated prelude defines SY_CONST_...);
 * otherwise it stands in the arguments. */
#ifdef SY_CONST_TOPK
#define SY_TOPK(r) ((sy_u32)(SY_CONST_TOPK))
#else
#define SY_TOPK(r) ((r)->topk)
#endif
#ifdef SY_CONST_FAN
#define SY_FAN(r) ((sy_u32)(SY_CONST_FAN))
#else
#define SY_FAN(r) ((r)->fan)
#endif
#ifdef SY_CONST_RANKS
#define SY_RANKS(d) ((sy_u32)(SY_CONST_RANKS))
#else
#define SY_RANKS(d) ((d)->ranks)
#endif
#ifdef SY_CONST_LAYOUT
#define SY_LAYOUT(r) ((sy_u32)(SY_CONST_LAYOUT))
#else
#define SY_LAYOUT(r) ((r)->layout)
#endif

#ifdef SY_CONST_QUANT
#define SY_QUANT(a) ((sy_u32)(SY_CONST_QUANT))
#else
#define SY_QUANT(a) ((a)->quant)
#endif
#ifdef SY_CONST_WORK
#define SY_WORK(o) ((sy_u32)(SY_CONST_WORK))
#else
#define SY_WORK(o) ((o)->work)
#endif
#ifdef SY_CONST_TYPE
#define SY_TYPE(a) ((sy_u32)(SY_CONST_TYPE))
#else
#define SY_TYPE(a) ((a)->type)
#endif
#ifdef SY_CONST_LATENCY
#define SY_LATENCY(r) ((sy_u32)(SY_CONST_LATENCY))
#define SY_MODE_KNOWN 1
#else
#define SY_LATENCY(r) ((r)->latency)
#define SY_MODE_KNOWN (SY_LANES == 1u) /* one lane does not care */
#endif
#ifdef SY_CONST_BOOKS
#define SY_BOOKS(d) ((sy_u32)(SY_CONST_BOOKS))
#else
#define SY_BOOKS(d) ((d)->books)
#endif
#ifdef SY_CONST_PULL
#define SY_PULL(a) ((sy_u32)(SY_CONST_PULL))
#else
#define SY_PULL(a) ((a)->pull)
#endif
#ifdef SY_CONST_ROW_BYTES
#define SY_ROW_BYTES(o) ((sy_u32)(SY_CONST_ROW_BYTES))
#else
#define SY_ROW_BYTES(o) ((o)->row_bytes)
#endif

#define SY_FOR(i, c, n) for (sy_u32 i = (c)->lane; i < (n); i += SY_LANES)

SY_DEV sy_u32 sy_min_u32(sy_u32 a, sy_u32 b)
{
    return a < b ? a : b;
}
/* +0 + a + b, with a NaN that has the same bits on every machine. */
SY_DEV float sy_add_f32(float a, float b)
{
    float sum = (0.0f + a) + b;
    return sum == sum ? sum : sy_bits_f32(0x7fffffffu);
}
SY_DEV sy_u32 sy_quotient(sy_u32 n, struct sy_by by)
{
    return (sy_u32)((sy_u64)n * by.scale >> by.shift);
}
SY_DEV sy_u32 sy_div_up(sy_u32 a, sy_u32 b)
{
    return (a + b - 1) / b;
}

#endif
