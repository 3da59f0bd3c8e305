/* compat_cpu.h - the primitives of device code on the CPU engine: a warp has one lane and is a
 * fiber.
 *
 * Sections as in compat_cuda.h; what each primitive promises stands in prims.h. A warp never blocks
 * its thread: whatever waits calls sy_pause(), which lets the other warps of the thread run. */
#ifndef SY_DEVICE_COMPAT_CPU_H
#define SY_DEVICE_COMPAT_CPU_H

#include <string.h>

#include "../layout/types.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define SY_DEV static inline __attribute__((always_inline, unused))
#define SY_DEV_COLD static __attribute__((noinline, cold, unused))
#define SY_LANES 1u
#define SY_RESTRICT __restrict__
#define SY_UNROLL(n) /* the compiler knows */
#define SY_BATCH 1u
#define SY_ASKS_AHEAD(may) (may)
#define SY_STAGED_COLUMNS 1u
#define SY_COLUMNS 8u /* two cache lines, and as many vectors as there are registers for */

/* --- context -------------------------------------------------------------------------------- */
struct sy_cpu_warp;

struct sy_ctx {
    sy_u32 block, blocks, warp, warps, lane;
    sy_u8 *shared;
    struct sy_cpu_warp *self; /* the fiber, for the engine */
};

/* The engine's side of waiting (rt/cpu_engine.c). */
void sy_cpu_pause(struct sy_ctx *c);
void sy_cpu_block_sync(struct sy_ctx *c);
sy_u64 sy_cpu_now_ns(struct sy_ctx *c);

/* --- lanes ---------------------------------------------------------------------------------- */
SY_DEV void sy_warp_sync(struct sy_ctx *c)
{
    (void)c;
}
SY_DEV sy_u32 sy_bcast(struct sy_ctx *c, sy_u32 v, sy_u32 lane)
{
    (void)c;
    (void)lane;
    return v;
}
SY_DEV sy_u64 sy_bcast64(struct sy_ctx *c, sy_u64 v, sy_u32 lane)
{
    (void)c;
    (void)lane;
    return v;
}
SY_DEV int sy_any(struct sy_ctx *c, int v)
{
    (void)c;
    return v != 0;
}
SY_DEV sy_u32 sy_sum(struct sy_ctx *c, sy_u32 v)
{
    (void)c;
    return v;
}
SY_DEV sy_u32 sy_max(struct sy_ctx *c, sy_u32 v)
{
    (void)c;
    return v;
}
SY_DEV sy_u32 sy_or(struct sy_ctx *c, sy_u32 v)
{
    (void)c;
    return v;
}
SY_DEV sy_u32 sy_ones(sy_u32 v)
{
    return (sy_u32)__builtin_popcount(v);
}
SY_DEV sy_u32 sy_lowest(sy_u32 v)
{
    return (sy_u32)__builtin_ctz(v);
}
SY_DEV sy_u32 sy_scan(struct sy_ctx *c, sy_u32 v, sy_u32 *total)
{
    (void)c;
    *total = v;
    return 0;
}
SY_DEV sy_u32 sy_count_lower(struct sy_ctx *c, int v, sy_u32 *all)
{
    (void)c;
    *all = v != 0;
    return 0;
}
SY_DEV sy_u32 sy_max16(struct sy_ctx *c, sy_u32 v)
{
    (void)c;
    return v;
}
#define SY_MAX_LANES 1u

/* --- blocks --------------------------------------------------------------------------------- */
SY_DEV void sy_block_sync(struct sy_ctx *c)
{
    sy_cpu_block_sync(c);
}

/* --- private words -------------------------------------------------------------------------- */
SY_DEV sy_u32 sy_add(sy_u32 *p, sy_u32 v)
{
    return __atomic_fetch_add(p, v, __ATOMIC_RELAXED);
}
SY_DEV sy_u32 sy_draw(sy_u32 *p)
{
    return sy_add(p, 1u);
}
SY_DEV sy_u32 sy_arrive(sy_u32 *p)
{
    return __atomic_fetch_add(p, 1u, __ATOMIC_ACQ_REL);
}
SY_DEV void sy_max64(sy_u64 *p, sy_u64 v)
{
    sy_u64 old = __atomic_load_n(p, __ATOMIC_RELAXED);
    while (v > old &&
           !__atomic_compare_exchange_n(p, &old, v, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
}
SY_DEV sy_u32 sy_load_word(const sy_u32 *p)
{
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}
SY_DEV void sy_store_word(sy_u32 *p, sy_u32 v)
{
    __atomic_store_n(p, v, __ATOMIC_RELEASE);
}
SY_DEV sy_u32 sy_load_shared(const sy_u32 *p)
{
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}
SY_DEV void sy_store_shared(sy_u32 *p, sy_u32 v)
{
    __atomic_store_n(p, v, __ATOMIC_RELEASE);
}

/* --- peers' words --------------------------------------------------------------------------- */
SY_DEV sy_u32 sy_peek(const sy_u32 *p)
{
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}
SY_DEV sy_u32 sy_glance(const sy_u32 *p)
{
    return __atomic_load_n(p, __ATOMIC_RELAXED);
}
SY_DEV sy_u64 sy_glance64(const sy_u64 *p)
{
    return __atomic_load_n(p, __ATOMIC_RELAXED);
}
SY_DEV sy_u64 sy_peek64(const sy_u64 *p)
{
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}
SY_DEV void sy_put(sy_u32 *p, sy_u32 v)
{
    __atomic_store_n(p, v, __ATOMIC_RELAXED);
}
SY_DEV void sy_put64(sy_u64 *p, sy_u64 v)
{
    __atomic_store_n(p, v, __ATOMIC_RELAXED);
}
SY_DEV void sy_signal_add(sy_u32 *p, sy_u32 v)
{
    __atomic_fetch_add(p, v, __ATOMIC_RELAXED);
}
SY_DEV sy_u32 sy_claim(sy_u32 *p)
{
    return __atomic_exchange_n(p, 1u, __ATOMIC_RELAXED);
}

/* --- fences --------------------------------------------------------------------------------- */
SY_DEV void sy_fence_publish(struct sy_ctx *c)
{
    (void)c;
#if defined(__x86_64__)
    _mm_sfence(); /* streaming stores are not ordered by anything else */
#endif
    __atomic_thread_fence(__ATOMIC_ACQ_REL);
}
SY_DEV void sy_fence_device(struct sy_ctx *c)
{
    (void)c;
    __atomic_thread_fence(__ATOMIC_ACQ_REL);
}
SY_DEV void sy_fence_bulk(struct sy_ctx *c)
{
    (void)c;
}
SY_DEV void sy_fence_loads(struct sy_ctx *c)
{
    (void)c;
}

/* --- 16 bytes ------------------------------------------------------------------------------- */
struct sy_v16 {
    sy_u32 w[4];
};

SY_DEV struct sy_v16 sy_get16(const void *p)
{
    struct sy_v16 v;
    memcpy(&v, p, 16);
    return v;
}
SY_DEV void sy_put16(void *p, struct sy_v16 v)
{
    memcpy(p, &v, 16);
}
SY_DEV sy_u32 sy_get32(const void *p)
{
    sy_u32 v;
    memcpy(&v, p, 4);
    return v;
}
SY_DEV void sy_put32(void *p, sy_u32 v)
{
    memcpy(p, &v, 4);
}
SY_DEV struct sy_v16 sy_own16(const void *p)
{
    return sy_get16(p);
}
SY_DEV void sy_set16(void *p, struct sy_v16 v)
{
    memcpy(p, &v, 16);
}

/* --- bulk copies ---------------------------------------------------------------------------- */
typedef sy_u64 sy_gate;

/* A load leaves the bytes where they are: the first store reads them into the cache anyway. */
#define SY_STAGED(stage, source) ((void)(stage), (const sy_u8 *)(source))

#define SY_BULK_SUMS 0

SY_DEV struct sy_v16 sy_staged16(const void *p)
{
    return sy_get16(p);
}

SY_DEV void sy_gate_init(struct sy_ctx *c, sy_gate *gate)
{
    (void)c;
    (void)gate;
}
SY_DEV void sy_load_expect(struct sy_ctx *c, sy_gate *gate, sy_u32 bytes)
{
    (void)c;
    (void)gate;
    (void)bytes;
}
SY_DEV void sy_load_bulk(struct sy_ctx *c, sy_gate *gate, void *stage, const void *from,
                         sy_u32 bytes)
{
    (void)c;
    (void)gate;
    (void)stage;
    (void)from;
    (void)bytes;
}
SY_DEV int sy_load_ready(struct sy_ctx *c, sy_gate *gate, sy_u32 parity)
{
    (void)c;
    (void)gate;
    (void)parity;
    return 1;
}

#if defined(__x86_64__)
/* Received rows are not read soon by the thread that wrote them: past its caches. */
SY_DEV void sy_copy_past_cache(void *to, const void *from, sy_u32 bytes)
{
    const __m128i *s = (const __m128i *)from;
    __m128i *d = (__m128i *)to;
    sy_u32 n = bytes / 16, i = 0;
#if defined(__AVX__)
    for (; i < n && ((size_t)(d + i) & 31); i++)
        _mm_stream_si128(d + i, _mm_loadu_si128(s + i));
    for (; i + 8 <= n; i += 8) {
        __m256i v0 = _mm256_loadu_si256((const __m256i *)(s + i));
        __m256i v1 = _mm256_loadu_si256((const __m256i *)(s + i + 2));
        __m256i v2 = _mm256_loadu_si256((const __m256i *)(s + i + 4));
        __m256i v3 = _mm256_loadu_si256((const __m256i *)(s + i + 6));
        _mm256_stream_si256((__m256i *)(d + i), v0);
        _mm256_stream_si256((__m256i *)(d + i + 2), v1);
        _mm256_stream_si256((__m256i *)(d + i + 4), v2);
        _mm256_stream_si256((__m256i *)(d + i + 6), v3);
    }
#endif
    for (; i < n; i++)
        _mm_stream_si128(d + i, _mm_loadu_si128(s + i));
}
#else
SY_DEV void sy_copy_past_cache(void *to, const void *from, sy_u32 bytes)
{
    memcpy(to, from, bytes);
}
#endif

SY_DEV void sy_store_bulk(struct sy_ctx *c, void *to, const void *stage, sy_u32 bytes)
{
    (void)c;
    if (bytes >= 512)
        sy_copy_past_cache(to, stage, bytes);
    else
        memcpy(to, stage, bytes);
}
SY_DEV void sy_store_bulk_each(struct sy_ctx *c, void *to, const void *stage, sy_u32 bytes)
{
    if (to)
        sy_store_bulk(c, to, stage, bytes);
}
SY_DEV void sy_store_commit(struct sy_ctx *c)
{
    (void)c;
}
#define SY_STORE_WAIT_READ(c, pending) ((void)(c))
#define SY_STORE_WAIT_DONE(c, pending) ((void)(c))

/* --- pacing --------------------------------------------------------------------------------- */
struct sy_pace {
    sy_u64 next;
};

SY_DEV void sy_pace_begin(struct sy_pace *p, sy_u64 ns)
{
    (void)p;
    (void)ns;
}
SY_DEV void sy_pace_wait(struct sy_pace *p, sy_u64 ns)
{
    (void)p;
    (void)ns;
}

/* --- clock ---------------------------------------------------------------------------------- */
SY_DEV sy_u64 sy_now_ns(struct sy_ctx *c)
{
    return sy_cpu_now_ns(c);
}
SY_DEV void sy_pause(struct sy_ctx *c)
{
    sy_cpu_pause(c);
}

#include "numbers_cpu.h"

#endif
