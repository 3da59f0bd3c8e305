/* compat_sim.h - the primitives of device code in the simulator (sim/): warps of one lane, memory
 * weaker than any machine's.
 *
 * Sections as in compat_cuda.h; what each primitive promises stands in prims.h, and the simulator
 * keeps that and no more. Ordinary accesses are seen by the compiler's instrumentation, all others
 * by the functions here. Bulk copies go through shared memory as on a GPU. */
#ifndef SY_DEVICE_COMPAT_SIM_H
#define SY_DEVICE_COMPAT_SIM_H

#include <string.h>

#include "../layout/types.h"

#define SY_DEV static inline __attribute__((always_inline, unused))
#define SY_DEV_COLD static __attribute__((noinline, cold, unused))
#define SY_LANES 1u
#define SY_RESTRICT
#define SY_UNROLL(n)
#define SY_BATCH 1u
/* Without faults no group is lost: as on GPUs. */
extern int sy_sim_asks_ahead;
#define SY_ASKS_AHEAD(may) (sy_sim_asks_ahead || (may))
#define SY_COLUMNS 2u
#define SY_STAGED_COLUMNS 2u

/* --- context -------------------------------------------------------------------------------- */
struct sy_ctx {
    sy_u32 block, blocks, warp, warps, lane;
    sy_u8 *shared;
};

/* Planted mistakes, by number; sim/plants.c says what they are. */
#ifdef SY_PLANTS
enum {
    SY_PLANT_SENDERS_PREFIX = 1,
    SY_PLANT_HASH_ORDER = 2,
    SY_PLANT_COMBINE_TOO_EARLY = 3,
    SY_PLANT_PAST_RANKS = 4,
    SY_PLANT_NO_RELEASE = 5,
    SY_PLANT_RANK_RELEASE = 6,
    SY_PLANT_COPY_NOT_DONE = 7,
    SY_PLANT_REUSED_EARLY = 8,
    SY_PLANT_CAPTURED_EPOCH = 9,
    SY_PLANT_PARITY_PER_HANDLE = 10,
    SY_PLANT_SCRATCH_REUSED = 11,
    SY_PLANT_COUNT_OVERTAKES = 12,
    SY_PLANT_NO_BARRIER = 13,
    SY_PLANT_ATOMIC_SLOTS = 14,
    SY_PLANT_PAST_CAPACITY = 15,
    SY_PLANT_NO_DEADLINE = 16,
    SY_PLANT_NO_ACQUIRE = 17,
    SY_PLANT_NO_COPY_FENCE = 18,
    SY_PLANT_STAGE_NOT_READ = 19,
    SY_PLANT_ONE_START = 20,
    SY_PLANT_LOST_ROUTE = 21,
    SY_PLANT_CREDIT_IGNORED = 22,
    SY_PLANT_EPOCH_WRAPS = 23,
    SY_PLANT_COUNTER_LEFT = 24,
    SY_PLANT_LOST_VOTE = 25,
    SY_PLANT_ALLOC_IN_ROUND = 26,
    SY_PLANT_LEAKED_DESCRIPTOR = 27,
    SY_PLANT_UNMAPPED_PEER = 28,
    SY_PLANT_NULL_TABLE = 29,
    SY_PLANT_ONE_BOOK = 30,
    SY_PLANT_EARLY_TALKER = 31,
    SY_PLANT_NO_LOAD_FENCE = 32
};
extern int sy_sim_plant; /* which; 0: none */
#define SY_PLANT(name) (sy_sim_plant == SY_PLANT_##name)
#endif

/* How far a word or a fence reaches. RELAXED: no order at all. */
enum sy_sim_reach { SY_SIM_RELAXED, SY_SIM_BLOCK, SY_SIM_RANK, SY_SIM_ALL, SY_SIM_COPIES };

/* The simulator's side. */
void sy_sim_pause(void);
void sy_sim_block_sync(void);
sy_u64 sy_sim_now_ns(void);
sy_u32 sy_sim_load32(const sy_u32 *p, enum sy_sim_reach acquire);
sy_u64 sy_sim_load64(const sy_u64 *p, enum sy_sim_reach acquire);
void sy_sim_store32(sy_u32 *p, sy_u32 v, enum sy_sim_reach release);
void sy_sim_store64(sy_u64 *p, sy_u64 v);
sy_u32 sy_sim_add(sy_u32 *p, sy_u32 v, int arrive);
sy_u32 sy_sim_exchange(sy_u32 *p, sy_u32 v);
void sy_sim_max64(sy_u64 *p, sy_u64 v);
void sy_sim_signal(sy_u32 *p, sy_u32 v);
void sy_sim_fence(enum sy_sim_reach reach);
void sy_sim_fence_loads(void);
void sy_sim_get(void *to, const void *p, sy_u32 bytes);
void sy_sim_put(void *p, const void *from, sy_u32 bytes);
void sy_sim_gate_init(sy_u64 *gate);
void sy_sim_load_expect(sy_u64 *gate, sy_u32 bytes);
void sy_sim_load_bulk(sy_u64 *gate, void *stage, const void *from, sy_u32 bytes);
int sy_sim_load_ready(sy_u64 *gate, sy_u32 parity);
void sy_sim_store_bulk(void *to, const void *stage, sy_u32 bytes);
void sy_sim_store_commit(void);
void sy_sim_store_wait(sy_u32 pending, int done);

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
    (void)c;
    sy_sim_block_sync();
}

/* --- private words -------------------------------------------------------------------------- */
SY_DEV sy_u32 sy_add(sy_u32 *p, sy_u32 v)
{
    return sy_sim_add(p, v, 0);
}
SY_DEV sy_u32 sy_draw(sy_u32 *p)
{
    return sy_add(p, 1u);
}
SY_DEV sy_u32 sy_arrive(sy_u32 *p)
{
    return sy_sim_add(p, 1u, 1);
}
SY_DEV void sy_max64(sy_u64 *p, sy_u64 v)
{
    sy_sim_max64(p, v);
}
SY_DEV sy_u32 sy_load_word(const sy_u32 *p)
{
    return sy_sim_load32(p, SY_SIM_RANK);
}
SY_DEV void sy_store_word(sy_u32 *p, sy_u32 v)
{
    sy_sim_store32(p, v, SY_SIM_RANK);
}
SY_DEV sy_u32 sy_load_shared(const sy_u32 *p)
{
    return sy_sim_load32(p, SY_SIM_BLOCK);
}
SY_DEV void sy_store_shared(sy_u32 *p, sy_u32 v)
{
    sy_sim_store32(p, v, SY_SIM_BLOCK);
}

/* --- peers' words --------------------------------------------------------------------------- */
SY_DEV sy_u32 sy_peek(const sy_u32 *p)
{
    return sy_sim_load32(p, SY_SIM_ALL);
}
SY_DEV sy_u32 sy_glance(const sy_u32 *p)
{
    return sy_sim_load32(p, SY_SIM_RELAXED);
}
SY_DEV sy_u64 sy_glance64(const sy_u64 *p)
{
    return sy_sim_load64(p, SY_SIM_RELAXED);
}
SY_DEV sy_u64 sy_peek64(const sy_u64 *p)
{
    return sy_sim_load64(p, SY_SIM_ALL);
}
SY_DEV void sy_put(sy_u32 *p, sy_u32 v)
{
    sy_sim_store32(p, v, SY_SIM_RELAXED);
}
SY_DEV void sy_put64(sy_u64 *p, sy_u64 v)
{
    sy_sim_store64(p, v);
}
SY_DEV void sy_signal_add(sy_u32 *p, sy_u32 v)
{
    sy_sim_signal(p, v);
}
SY_DEV sy_u32 sy_claim(sy_u32 *p)
{
    return sy_sim_exchange(p, 1u);
}

/* --- fences --------------------------------------------------------------------------------- */
SY_DEV void sy_fence_publish(struct sy_ctx *c)
{
    (void)c;
    sy_sim_fence(SY_SIM_ALL);
}
SY_DEV void sy_fence_device(struct sy_ctx *c)
{
    (void)c;
    sy_sim_fence(SY_SIM_RANK);
}
SY_DEV void sy_fence_bulk(struct sy_ctx *c)
{
    (void)c;
    sy_sim_fence(SY_SIM_COPIES);
}
SY_DEV void sy_fence_loads(struct sy_ctx *c)
{
    (void)c;
    sy_sim_fence_loads();
}

/* --- 16 bytes ------------------------------------------------------------------------------- */
struct sy_v16 {
    sy_u32 w[4];
};

SY_DEV struct sy_v16 sy_get16(const void *p)
{
    struct sy_v16 v;
    sy_sim_get(&v, p, 16);
    return v;
}
SY_DEV void sy_put16(void *p, struct sy_v16 v)
{
    sy_sim_put(p, &v, 16);
}
SY_DEV sy_u32 sy_get32(const void *p)
{
    sy_u32 v;
    sy_sim_get(&v, p, 4);
    return v;
}
SY_DEV void sy_put32(void *p, sy_u32 v)
{
    sy_sim_put(p, &v, 4);
}
SY_DEV struct sy_v16 sy_own16(const void *p)
{
    struct sy_v16 v;
    memcpy(&v, p, 16);
    return v;
}
SY_DEV void sy_set16(void *p, struct sy_v16 v)
{
    memcpy(p, &v, 16);
}

/* --- bulk copies ---------------------------------------------------------------------------- */
typedef sy_u64 sy_gate;

#define SY_STAGED(stage, source) ((void)(source), (const sy_u8 *)(stage))

#define SY_BULK_SUMS 1

SY_DEV struct sy_v16 sy_staged16(const void *p)
{
    return sy_own16(p);
}

SY_DEV void sy_gate_init(struct sy_ctx *c, sy_gate *gate)
{
    (void)c;
    sy_sim_gate_init(gate);
}
SY_DEV void sy_load_expect(struct sy_ctx *c, sy_gate *gate, sy_u32 bytes)
{
    (void)c;
    sy_sim_load_expect(gate, bytes);
}
SY_DEV void sy_load_bulk(struct sy_ctx *c, sy_gate *gate, void *stage, const void *from,
                         sy_u32 bytes)
{
    (void)c;
    sy_sim_load_bulk(gate, stage, from, bytes);
}
SY_DEV int sy_load_ready(struct sy_ctx *c, sy_gate *gate, sy_u32 parity)
{
    (void)c;
    return sy_sim_load_ready(gate, parity);
}
SY_DEV void sy_store_bulk(struct sy_ctx *c, void *to, const void *stage, sy_u32 bytes)
{
    (void)c;
    sy_sim_store_bulk(to, stage, bytes);
}
SY_DEV void sy_store_bulk_each(struct sy_ctx *c, void *to, const void *stage, sy_u32 bytes)
{
    if (to)
        sy_store_bulk(c, to, stage, bytes);
}
SY_DEV void sy_store_commit(struct sy_ctx *c)
{
    (void)c;
    sy_sim_store_commit();
}
#define SY_STORE_WAIT_READ(c, pending) ((void)(c), sy_sim_store_wait(pending, 0))
#define SY_STORE_WAIT_DONE(c, pending) ((void)(c), sy_sim_store_wait(pending, 1))

/* --- pacing --------------------------------------------------------------------------------- */
struct sy_pace {
    sy_u64 next;
};

SY_DEV void sy_pace_begin(struct sy_pace *p, sy_u64 ns)
{
    p->next = ns;
}
SY_DEV void sy_pace_wait(struct sy_pace *p, sy_u64 ns)
{
    p->next += ns;
}

/* --- clock ---------------------------------------------------------------------------------- */
SY_DEV sy_u64 sy_now_ns(struct sy_ctx *c)
{
    (void)c;
    return sy_sim_now_ns();
}
SY_DEV void sy_pause(struct sy_ctx *c)
{
    (void)c;
    sy_sim_pause();
}

#include "numbers_cpu.h"

#endif
