/* compat_cuda.h - the primitives of device code on NVIDIA GPUs. Compiled by NVRTC and nvcc.
 *
 * Sections: context | lanes | blocks | private words | peers' words | fences | 16 bytes |
 *           bulk copies | pacing | clock | numbers
 *
 * What each primitive promises stands in prims.h; here is only how this target keeps it. From sm_90
 * on bulk copies run on the copy engine (TMA); before, the lanes copy. */
#ifndef SY_DEVICE_COMPAT_CUDA_H
#define SY_DEVICE_COMPAT_CUDA_H

#include "../layout/types.h"

#define SY_DEV static __device__ __forceinline__
#define SY_DEV_COLD static __device__ __noinline__
#define SY_LANES 32u
#define SY_RESTRICT __restrict__
#define SY_STRING(x) #x
#define SY_UNROLL(n) _Pragma(SY_STRING(unroll n))
#define SY_ASKS_AHEAD(may) 1
/* Loads of a sum in flight: of BATCH rows, COLUMNS times 16 bytes each. Newer compilers' pairs of
 * fp32 want more registers. */
#define SY_BATCH 4u
#if __CUDA_ARCH__ >= 1000
#define SY_COLUMNS 1u
#define SY_STAGED_COLUMNS 2u
#else
#define SY_COLUMNS 2u
#define SY_STAGED_COLUMNS 4u /* of one row at a time, out of shared memory */
#endif
#if __CUDA_ARCH__ >= 900
#define SY_HAS_TMA 1
#else
#define SY_HAS_TMA 0
#endif

/* --- context -------------------------------------------------------------------------------- */
struct sy_ctx {
    sy_u32 block, blocks, warp, warps, lane;
    sy_u8 *shared;
};

SY_DEV struct sy_ctx sy_ctx_make(sy_u8 *shared)
{
    struct sy_ctx c;
    c.block = blockIdx.x;
    c.blocks = gridDim.x;
    c.warp = threadIdx.x / SY_LANES;
    c.warps = blockDim.x / SY_LANES;
    c.lane = threadIdx.x % SY_LANES;
    c.shared = shared;
    return c;
}

SY_DEV sy_u32 sy_shared_address(const void *p)
{
    return (sy_u32)__cvta_generic_to_shared(p);
}

/* --- lanes ---------------------------------------------------------------------------------- */
#define SY_ALL_LANES 0xffffffffu

SY_DEV void sy_warp_sync(struct sy_ctx *c)
{
    (void)c;
    __syncwarp();
}
SY_DEV sy_u32 sy_bcast(struct sy_ctx *c, sy_u32 v, sy_u32 lane)
{
    (void)c;
    return __shfl_sync(SY_ALL_LANES, v, (int)lane);
}
SY_DEV sy_u64 sy_bcast64(struct sy_ctx *c, sy_u64 v, sy_u32 lane)
{
    (void)c;
    return __shfl_sync(SY_ALL_LANES, v, (int)lane);
}
/* As a word, not as a predicate: of those ptxas 13.0 has computed one again where only some of the
 * lanes came by (docs/device.md). */
SY_DEV int sy_any(struct sy_ctx *c, int v)
{
    sy_u32 lanes;
    (void)c;
    asm volatile("{\n.reg .pred p;\n"
                 "setp.ne.s32 p, %1, 0;\n"
                 "vote.sync.ballot.b32 %0, p, 0xffffffff;\n}"
                 : "=r"(lanes)
                 : "r"(v)
                 : "memory");
    return lanes != 0;
}
SY_DEV sy_u32 sy_sum(struct sy_ctx *c, sy_u32 v)
{
    (void)c;
    return __reduce_add_sync(SY_ALL_LANES, v);
}
SY_DEV sy_u32 sy_max(struct sy_ctx *c, sy_u32 v)
{
    (void)c;
    return __reduce_max_sync(SY_ALL_LANES, v);
}
SY_DEV sy_u32 sy_or(struct sy_ctx *c, sy_u32 v)
{
    (void)c;
    return __reduce_or_sync(SY_ALL_LANES, v);
}
SY_DEV sy_u32 sy_ones(sy_u32 v)
{
    return (sy_u32)__popc(v);
}
SY_DEV sy_u32 sy_lowest(sy_u32 v)
{
    return (sy_u32)__ffs((int)v) - 1u;
}
SY_DEV sy_u32 sy_scan(struct sy_ctx *c, sy_u32 v, sy_u32 *total)
{
    sy_u32 sum = v;
    for (sy_u32 d = 1; d < SY_LANES; d *= 2) {
        sy_u32 below = __shfl_up_sync(SY_ALL_LANES, sum, d);
        sum += c->lane >= d ? below : 0;
    }
    *total = __shfl_sync(SY_ALL_LANES, sum, SY_LANES - 1);
    return sum - v;
}
SY_DEV sy_u32 sy_count_lower(struct sy_ctx *c, int v, sy_u32 *all)
{
    sy_u32 lanes;
    asm volatile("{\n.reg .pred p;\n"
                 "setp.ne.s32 p, %1, 0;\n"
                 "vote.sync.ballot.b32 %0, p, 0xffffffff;\n}"
                 : "=r"(lanes)
                 : "r"(v)
                 : "memory");
    *all = (sy_u32)__popc(lanes);
    return (sy_u32)__popc(lanes & ((1u << c->lane) - 1u));
}
SY_DEV sy_u32 sy_max_pair(sy_u32 a, sy_u32 b)
{
#if __CUDA_ARCH__ >= 900
    sy_u32 m;
    asm("max.u16x2 %0, %1, %2;" : "=r"(m) : "r"(a), "r"(b));
    return m;
#else
    sy_u32 lo = max(a & 0xffffu, b & 0xffffu), hi = max(a >> 16, b >> 16);
    return lo | hi << 16;
#endif
}
SY_DEV sy_u32 sy_max16(struct sy_ctx *c, sy_u32 v)
{
    (void)c;
    for (int d = 8; d; d /= 2)
        v = sy_max_pair(v, __shfl_xor_sync(SY_ALL_LANES, v, d));
    return v;
}
#define SY_MAX_LANES 16u

/* --- blocks --------------------------------------------------------------------------------- */
SY_DEV void sy_block_sync(struct sy_ctx *c)
{
    (void)c;
    __syncthreads();
}

/* --- private words -------------------------------------------------------------------------- */
SY_DEV sy_u32 sy_add(sy_u32 *p, sy_u32 v)
{
    return atomicAdd(p, v);
}
/* Of an addition behind a branch compilers, ptxas too, make one for all lanes that come by, and
 * wait for it there and then to share it out. Not of counting up to a bound that they do not know.
 */
SY_DEV sy_u32 sy_draw(sy_u32 *p)
{
    sy_u32 n, bound = ~(sy_u32)((sy_u64)p >> 63);
    asm volatile("atom.relaxed.gpu.global.inc.u32 %0, [%1], %2;"
                 : "=r"(n)
                 : "l"(p), "r"(bound)
                 : "memory");
    return n;
}
/* Loads are complete before a barrier, and nobody reads what others have stored before it. */
SY_DEV sy_u32 sy_arrive(sy_u32 *p)
{
    return atomicAdd(p, 1u);
}
SY_DEV void sy_max64(sy_u64 *p, sy_u64 v)
{
    atomicMax(p, v);
}
SY_DEV sy_u32 sy_load_word(const sy_u32 *p)
{
    sy_u32 v;
    asm volatile("ld.acquire.gpu.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
    return v;
}
SY_DEV void sy_store_word(sy_u32 *p, sy_u32 v)
{
    asm volatile("st.release.gpu.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}
SY_DEV sy_u32 sy_load_shared(const sy_u32 *p)
{
    sy_u32 v;
    asm volatile("ld.acquire.cta.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
    return v;
}
SY_DEV void sy_store_shared(sy_u32 *p, sy_u32 v)
{
    asm volatile("st.release.cta.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}

/* --- peers' words --------------------------------------------------------------------------- */
SY_DEV sy_u32 sy_peek(const sy_u32 *p)
{
    sy_u32 v;
    asm volatile("ld.acquire.sys.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
    return v;
}
SY_DEV sy_u32 sy_glance(const sy_u32 *p)
{
    sy_u32 v;
    asm volatile("ld.relaxed.sys.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
    return v;
}
SY_DEV sy_u64 sy_glance64(const sy_u64 *p)
{
    sy_u64 v;
    asm volatile("ld.relaxed.sys.u64 %0, [%1];" : "=l"(v) : "l"(p) : "memory");
    return v;
}
SY_DEV sy_u64 sy_peek64(const sy_u64 *p)
{
    sy_u64 v;
    asm volatile("ld.acquire.sys.u64 %0, [%1];" : "=l"(v) : "l"(p) : "memory");
    return v;
}
SY_DEV void sy_put(sy_u32 *p, sy_u32 v)
{
    asm volatile("st.relaxed.sys.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}
SY_DEV void sy_put64(sy_u64 *p, sy_u64 v)
{
    asm volatile("st.relaxed.sys.u64 [%0], %1;" ::"l"(p), "l"(v) : "memory");
}
SY_DEV void sy_signal_add(sy_u32 *p, sy_u32 v)
{
    asm volatile("red.relaxed.sys.global.add.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}
SY_DEV sy_u32 sy_claim(sy_u32 *p)
{
    return atomicExch_system(p, 1u);
}

/* --- fences --------------------------------------------------------------------------------- */
SY_DEV void sy_fence_publish(struct sy_ctx *c)
{
    (void)c;
    asm volatile("fence.acq_rel.sys;" ::: "memory");
}
SY_DEV void sy_fence_device(struct sy_ctx *c)
{
    (void)c;
    asm volatile("fence.acq_rel.gpu;" ::: "memory");
}
SY_DEV void sy_fence_bulk(struct sy_ctx *c)
{
    (void)c;
#if SY_HAS_TMA
    /* For shared memory only: the general form waits for the warp's global stores as well. */
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}
SY_DEV void sy_fence_loads(struct sy_ctx *c)
{
    (void)c;
#if SY_HAS_TMA
    asm volatile("fence.proxy.async.global;" ::: "memory");
#endif
}

/* --- 16 bytes ------------------------------------------------------------------------------- */
struct sy_v16 {
    sy_u32 w[4];
};

SY_DEV struct sy_v16 sy_get16(const void *p)
{
    struct sy_v16 v;
    asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.w[0]), "=r"(v.w[1]), "=r"(v.w[2]), "=r"(v.w[3])
                 : "l"(p)
                 : "memory");
    return v;
}
SY_DEV void sy_put16(void *p, struct sy_v16 v)
{
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(p), "r"(v.w[0]), "r"(v.w[1]),
                 "r"(v.w[2]), "r"(v.w[3])
                 : "memory");
}
SY_DEV sy_u32 sy_get32(const void *p)
{
    return *(const volatile sy_u32 *)p;
}
SY_DEV void sy_put32(void *p, sy_u32 v)
{
    *(volatile sy_u32 *)p = v;
}
SY_DEV struct sy_v16 sy_own16(const void *p)
{
    uint4 q = *(const uint4 *)p;
    struct sy_v16 v = {{q.x, q.y, q.z, q.w}};
    return v;
}
SY_DEV void sy_set16(void *p, struct sy_v16 v)
{
    *(uint4 *)p = make_uint4(v.w[0], v.w[1], v.w[2], v.w[3]);
}

/* --- bulk copies ---------------------------------------------------------------------------- */
typedef sy_u64 sy_gate;

#define SY_STAGED(stage, source) ((void)(source), (const sy_u8 *)(stage))

#define SY_BULK_SUMS SY_HAS_TMA

SY_DEV struct sy_v16 sy_staged16(const void *p)
{
    struct sy_v16 v;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.w[0]), "=r"(v.w[1]), "=r"(v.w[2]), "=r"(v.w[3])
                 : "r"(sy_shared_address(p))
                 : "memory");
    return v;
}

#if SY_HAS_TMA
SY_DEV void sy_gate_init(struct sy_ctx *c, sy_gate *gate)
{
    if (c->lane == 0) {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(sy_shared_address(gate)));
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncwarp(); /* the warp's own use of it comes later, to racecheck too */
}
SY_DEV void sy_load_expect(struct sy_ctx *c, sy_gate *gate, sy_u32 bytes)
{
    if (c->lane == 0)
        asm volatile(
            "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(sy_shared_address(gate)),
            "r"(bytes)
            : "memory");
}
SY_DEV void sy_load_bulk(struct sy_ctx *c, sy_gate *gate, void *stage, const void *from,
                         sy_u32 bytes)
{
    if (c->lane == 0)
        asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
                     "[%0], [%1], %2, [%3];" ::"r"(sy_shared_address(stage)),
                     "l"(from), "r"(bytes), "r"(sy_shared_address(gate))
                     : "memory");
}
SY_DEV int sy_load_ready(struct sy_ctx *c, sy_gate *gate, sy_u32 parity)
{
    sy_u32 ready;
    (void)c;
    asm volatile("{\n.reg .pred p;\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                 "selp.u32 %0, 1, 0, p;\n}"
                 : "=r"(ready)
                 : "r"(sy_shared_address(gate)), "r"(parity)
                 : "memory");
    return (int)ready;
}
SY_DEV void sy_store_bulk_lane(void *to, const void *stage, sy_u32 bytes)
{
    asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to),
                 "r"(sy_shared_address(stage)), "r"(bytes)
                 : "memory");
}
SY_DEV void sy_store_bulk(struct sy_ctx *c, void *to, const void *stage, sy_u32 bytes)
{
    if (c->lane == 0)
        sy_store_bulk_lane(to, stage, bytes);
}
/* Each lane issues its own store, which counts among that lane's batches. */
SY_DEV void sy_store_bulk_each(struct sy_ctx *c, void *to, const void *stage, sy_u32 bytes)
{
    (void)c;
    if (to)
        sy_store_bulk_lane(to, stage, bytes);
}
SY_DEV void sy_store_commit(struct sy_ctx *c)
{
    (void)c;
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
#define SY_STORE_WAIT_READ(c, pending)                                                             \
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(pending) : "memory")
#define SY_STORE_WAIT_DONE(c, pending)                                                             \
    asm volatile("cp.async.bulk.wait_group %0;" ::"n"(pending) : "memory")
#else
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
    (void)gate;
    for (sy_u32 i = c->lane * 16u; i < bytes; i += SY_LANES * 16u)
        sy_set16((sy_u8 *)stage + i, sy_get16((const sy_u8 *)from + i));
}
SY_DEV int sy_load_ready(struct sy_ctx *c, sy_gate *gate, sy_u32 parity)
{
    (void)gate;
    (void)parity;
    sy_warp_sync(c);
    return 1;
}
SY_DEV void sy_store_bulk(struct sy_ctx *c, void *to, const void *stage, sy_u32 bytes)
{
    for (sy_u32 i = c->lane * 16u; i < bytes; i += SY_LANES * 16u)
        sy_put16((sy_u8 *)to + i, sy_own16((const sy_u8 *)stage + i));
}
SY_DEV void sy_store_bulk_each(struct sy_ctx *c, void *to, const void *stage, sy_u32 bytes)
{
    for (sy_u32 lane = 0; lane < SY_LANES; lane++) {
        void *place = (void *)sy_bcast64(c, (sy_u64)to, lane);
        if (place)
            sy_store_bulk(c, place, stage, bytes);
    }
}
SY_DEV void sy_store_commit(struct sy_ctx *c)
{
    sy_warp_sync(c);
}
#define SY_STORE_WAIT_READ(c, pending) sy_warp_sync(c)
#define SY_STORE_WAIT_DONE(c, pending) sy_warp_sync(c)
#endif

/* --- pacing --------------------------------------------------------------------------------- */
struct sy_pace {
    sy_u64 next; /* when the next store may go */
};

/* Not the SM's clock, which is slower under load than the driver says. */
SY_DEV sy_u64 sy_timer(void)
{
    sy_u64 t;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t));
    return t;
}
SY_DEV void sy_pace_begin(struct sy_pace *p, sy_u64 ns)
{
    p->next = sy_timer() + ns;
}
SY_DEV void sy_pace_wait(struct sy_pace *p, sy_u64 ns)
{
    sy_u64 now = sy_timer(), credit = 4u * ns;
    while (now < p->next)
        now = sy_timer();
    p->next = (p->next + credit < now ? now - credit : p->next) + ns;
}

/* --- clock ---------------------------------------------------------------------------------- */
SY_DEV sy_u64 sy_now_ns(struct sy_ctx *c)
{
    (void)c;
    return sy_timer();
}
/* Hundreds of warps ask for the same few words, in the way of those that work: a dispatch of one
 * token to slabs takes 10.7 us, 12 without this. No wait becomes longer by what can be measured. */
SY_DEV void sy_pause(struct sy_ctx *c)
{
    (void)c;
    asm volatile("nanosleep.u32 20;");
}

/* --- numbers -------------------------------------------------------------------------------- */
SY_DEV float sy_bits_f32(sy_u32 u)
{
    return __uint_as_float(u);
}
SY_DEV sy_u32 sy_f32_bits(float f)
{
    return __float_as_uint(f);
}

struct sy_acc {
    float f[8];
};

SY_DEV struct sy_acc sy_acc_zero(void)
{
    struct sy_acc a;
    SY_UNROLL(8)
    for (int i = 0; i < 8; i++)
        a.f[i] = 0.0f;
    return a;
}
SY_DEV float sy_f16_f32(sy_u32 h)
{
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"((sy_u16)h));
    return f;
}
SY_DEV struct sy_acc sy_acc_bf16(struct sy_v16 v)
{
    struct sy_acc a;
    SY_UNROLL(4)
    for (int i = 0; i < 4; i++) {
        a.f[2 * i] = __uint_as_float(v.w[i] << 16);
        a.f[2 * i + 1] = __uint_as_float(v.w[i] & 0xffff0000u);
    }
    return a;
}
SY_DEV struct sy_acc sy_acc_f16(struct sy_v16 v)
{
    struct sy_acc a;
    SY_UNROLL(4)
    for (int i = 0; i < 4; i++) {
        a.f[2 * i] = sy_f16_f32(v.w[i] & 0xffffu);
        a.f[2 * i + 1] = sy_f16_f32(v.w[i] >> 16);
    }
    return a;
}
SY_DEV struct sy_acc sy_acc_f32(struct sy_v16 v)
{
    struct sy_acc a;
    SY_UNROLL(4)
    for (int i = 0; i < 4; i++) {
        a.f[i] = __uint_as_float(v.w[i]);
        a.f[i + 4] = 0.0f;
    }
    return a;
}
SY_DEV struct sy_acc sy_acc_add(struct sy_acc a, struct sy_acc b)
{
    SY_UNROLL(8)
    for (int i = 0; i < 8; i++)
        a.f[i] = __fadd_rn(a.f[i], b.f[i]);
    return a;
}
SY_DEV struct sy_acc sy_acc_scale(struct sy_acc a, float s)
{
    SY_UNROLL(8)
    for (int i = 0; i < 8; i++)
        a.f[i] = __fmul_rn(a.f[i], s);
    return a;
}
SY_DEV sy_u32 sy_round_f16(float f)
{
    sy_u16 h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
    return f == f ? h : 0x7fffu;
}
SY_DEV struct sy_v16 sy_pack_bf16(struct sy_acc a)
{
    struct sy_v16 v;
    SY_UNROLL(4)
    for (int i = 0; i < 4; i++) /* a NaN becomes 0x7fff */
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(v.w[i]) : "f"(a.f[2 * i + 1]), "f"(a.f[2 * i]));
    return v;
}
SY_DEV struct sy_v16 sy_pack_f16(struct sy_acc a)
{
    struct sy_v16 v;
    SY_UNROLL(4)
    for (int i = 0; i < 4; i++)
        v.w[i] = sy_round_f16(a.f[2 * i]) | sy_round_f16(a.f[2 * i + 1]) << 16;
    return v;
}
SY_DEV struct sy_v16 sy_pack_f32(struct sy_acc a)
{
    struct sy_v16 v;
    SY_UNROLL(4)
    for (int i = 0; i < 4; i++)
        v.w[i] = a.f[i] == a.f[i] ? __float_as_uint(a.f[i]) : 0x7fffffffu;
    return v;
}
/* Of what is finite. */
SY_DEV float sy_acc_amax(struct sy_acc a)
{
    float m = 0.0f;
    SY_UNROLL(8)
    for (int i = 0; i < 8; i++) {
        float x = fabsf(a.f[i]);
        m = x < __uint_as_float(0x7f800000u) ? fmaxf(m, x) : m;
    }
    return m;
}
SY_DEV sy_u32 sy_amax_bf16(struct sy_v16 v)
{
    sy_u32 m = sy_max_pair(sy_max_pair(v.w[0] & 0x7fff7fffu, v.w[1] & 0x7fff7fffu),
                           sy_max_pair(v.w[2] & 0x7fff7fffu, v.w[3] & 0x7fff7fffu));
    return max(m & 0xffffu, m >> 16);
}
SY_DEV float sy_div(float a, float b)
{
    return __fdiv_rn(a, b);
}
/* a / 448 and 448 / a as division rounds them, of normal numbers from 1e-4 to 2^120: one step of
 * Markstein's correction behind the reciprocal. tests/unit/divide_test.c tries every BF16 value. */
SY_DEV float sy_over_448(float a)
{
    const float inverse = 0x1.24924ap-9f;
    float q = __fmul_rn(a, inverse);
    return __fmaf_rn(__fmaf_rn(-448.0f, q, a), inverse, q);
}
SY_DEV float sy_448_over(float a)
{
    float y, q;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(a));
    y = __fmaf_rn(y, __fmaf_rn(-a, y, 1.0f), y);
    q = __fmul_rn(448.0f, y);
    return __fmaf_rn(__fmaf_rn(-a, q, 448.0f), y, q);
}
#if __CUDA_ARCH__ >= 890
SY_DEV sy_u32 sy_f8_pair(float lo, float hi)
{
    sy_u16 r;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(r) : "f"(hi), "f"(lo));
    return r;
}
SY_DEV sy_u32 sy_f8_four(float a, float b, float c, float d)
{
    sy_u32 r;
    asm("{\n.reg .b16 lo, hi;\n"
        "cvt.rn.satfinite.e4m3x2.f32 lo, %2, %1;\n"
        "cvt.rn.satfinite.e4m3x2.f32 hi, %4, %3;\n"
        "mov.b32 %0, {lo, hi};\n}"
        : "=r"(r)
        : "f"(a), "f"(b), "f"(c), "f"(d));
    return r;
}
#else
SY_DEV sy_u32 sy_f8_one(float f)
{
    sy_u32 u = __float_as_uint(f), sign = (u >> 24) & 0x80u;
    sy_u32 big, small;
    u &= 0x7fffffffu;
    small = __float_as_uint(__uint_as_float(u) + 16384.0f) - __float_as_uint(16384.0f);
    big = ((u + 0x7ffffu + ((u >> 20) & 1u)) >> 20) - (120u << 3);
    big = big > 0x7eu ? 0x7eu : big;
    return (u > 0x7f800000u ? 0x7fu : u < 0x3c800000u ? small : big) | sign;
}
SY_DEV sy_u32 sy_f8_pair(float lo, float hi)
{
    return sy_f8_one(lo) | sy_f8_one(hi) << 8;
}
SY_DEV sy_u32 sy_f8_four(float a, float b, float c, float d)
{
    return sy_f8_pair(a, b) | sy_f8_pair(c, d) << 16;
}
#endif
/* Eight finite values times s as e4m3. */
SY_DEV sy_u64 sy_pack_f8_finite(struct sy_acc a, float s)
{
    sy_u32 w[2];
    SY_UNROLL(2)
    for (int i = 0; i < 2; i++)
        w[i] = sy_f8_four(__fmul_rn(a.f[4 * i], s), __fmul_rn(a.f[4 * i + 1], s),
                          __fmul_rn(a.f[4 * i + 2], s), __fmul_rn(a.f[4 * i + 3], s));
    return w[0] | (sy_u64)w[1] << 32;
}
/* The same of any; what is not finite becomes NaN with its sign. */
SY_DEV sy_u64 sy_pack_f8(struct sy_acc a, float s)
{
    sy_u64 out = 0;
    SY_UNROLL(4)
    for (int i = 0; i < 4; i++) {
        float lo = a.f[2 * i], hi = a.f[2 * i + 1];
        sy_u32 two = sy_f8_pair(__fmul_rn(lo, s), __fmul_rn(hi, s));
        if ((__float_as_uint(lo) & 0x7f800000u) == 0x7f800000u)
            two = (two & 0xff00u) | 0x7fu | ((__float_as_uint(lo) >> 24) & 0x80u);
        if ((__float_as_uint(hi) & 0x7f800000u) == 0x7f800000u)
            two = (two & 0x00ffu) | 0x7f00u | ((__float_as_uint(hi) >> 16) & 0x8000u);
        out |= (sy_u64)two << (16 * i);
    }
    return out;
}

#endif
