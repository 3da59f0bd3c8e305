/* cpu_warps.c - a launch on the CPU: blocks are threads, warps are fibers.
 *
 * A block's warps share one thread and take turns whenever one waits. Sections: a warp's turn |
 * a block | the threads of an engine. */
#define _GNU_SOURCE /* sched_yield, pthread_* */
#include <sched.h>
#include <string.h>

#include "base/verify.h"
#include "cpu_engine.h"
#include "device/prims.h"

/* Rounds of a block shorter than this found nothing to do in any warp. */
#define IDLE_ROUND_NS 3000u
/* Idle rounds after which a thread sleeps instead of yielding: what it waits for is far away. */
#define IDLE_ROUNDS_TO_SLEEP 4000u
#define IDLE_SLEEP_NS 50000u

struct sy_cpu_warp {
    struct sy_fiber fiber;
    struct sy_ctx c;
    struct sy_cpu_worker *worker;
    struct sy_cpu_warp *next, *before; /* the live warps of the block, in a ring */
};

struct sy_cpu_worker {
    struct sy_cpu_pool *pool;
    uint32_t index;
    pthread_t thread;
    struct sy_fiber home; /* the thread's own stack */
    struct sy_cpu_warp warps[SY_CPU_WARPS_MAX];
    struct sy_cpu_warp *first; /* where a round begins */
    uint32_t live, arrived, generation;
    uint64_t round_ns, idle;
    uint8_t *shared;
    const struct sy_cpu_job *job;
};

struct sy_cpu_pool {
    int32_t threads, opened; /* threads that exist besides the caller's */
    uint64_t shared_bytes;
    int64_t idle_spins;
    struct sy_cpu_worker *workers;
    pthread_mutex_t lock;
    pthread_cond_t begin, end;
    const struct sy_cpu_job *job;
    uint64_t round;
    int32_t running;
    int stop;
};

/* --- a warp's turn -------------------------------------------------------------------------- */

/* All warps had a turn. If none did anything, something else should have the core. */
static void end_of_round(struct sy_cpu_worker *w)
{
    uint64_t now = sy_os->now_ns();
    w->idle = now - w->round_ns < IDLE_ROUND_NS ? w->idle + 1 : 0;
    if (w->idle > (uint64_t)w->pool->idle_spins) {
        if (w->idle > (uint64_t)w->pool->idle_spins + IDLE_ROUNDS_TO_SLEEP)
            sy_os->sleep_ns(IDLE_SLEEP_NS);
        else
            sched_yield();
        now = sy_os->now_ns();
    }
    w->round_ns = now;
}

static void pass_on(struct sy_cpu_warp *self)
{
    struct sy_cpu_worker *w = self->worker;
    struct sy_cpu_warp *next = self->next;
    if (next == w->first)
        end_of_round(w);
    if (next != self)
        sy_fiber_switch(&self->fiber, &next->fiber, 0);
}

void sy_cpu_pause(struct sy_ctx *c)
{
    pass_on(c->self);
}

sy_u64 sy_cpu_now_ns(struct sy_ctx *c)
{
    (void)c;
    return sy_os->now_ns();
}

static void release_if_all(struct sy_cpu_worker *w)
{
    if (w->live && w->arrived == w->live) {
        w->arrived = 0;
        w->generation++;
    }
}

void sy_cpu_block_sync(struct sy_ctx *c)
{
    struct sy_cpu_worker *w = c->self->worker;
    uint32_t generation = w->generation;
    w->arrived++;
    release_if_all(w);
    while (w->generation == generation)
        pass_on(c->self);
}

/* A warp that ends leaves the ring; barriers no longer count it. */
static void leave(struct sy_cpu_warp *self)
{
    struct sy_cpu_worker *w = self->worker;
    struct sy_cpu_warp *next = self->next;
    self->before->next = next;
    next->before = self->before;
    if (w->first == self)
        w->first = next;
    w->live--;
    release_if_all(w);
    sy_fiber_switch(&self->fiber, w->live ? &next->fiber : &w->home, 1);
}

static void warp_main(void *context)
{
    struct sy_cpu_warp *self = context;
    self->worker->job->kernel(&self->c, self->worker->job->args);
    leave(self);
}

/* --- a block -------------------------------------------------------------------------------- */

/* A thread has its ways with numbers from whoever made it, or from a callback that ran on it:
 * another rounding, denormals that are zero. Kernels want none of that. Sets the control word of
 * the processor and returns what it was. Fibers do not change it. */
#if defined(__x86_64__)
#define PLAIN_NUMBERS 0x1f80u

static uint64_t set_numbers(uint64_t control)
{
    uint64_t before = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr((unsigned)control);
    return before;
}
#elif defined(__aarch64__)
#define PLAIN_NUMBERS 0u

static uint64_t set_numbers(uint64_t control)
{
    uint64_t before;
    __asm__ volatile("mrs %0, fpcr\n\tmsr fpcr, %1" : "=&r"(before) : "r"(control));
    return before;
}
#else
#define PLAIN_NUMBERS 0u

static uint64_t set_numbers(uint64_t control)
{
    return control;
}
#endif

static void run_block(struct sy_cpu_worker *w, const struct sy_cpu_job *job)
{
    uint32_t n = job->grid.warps;
    uint64_t numbers;
    if (w->index >= job->grid.blocks)
        return;
    SY_ASSERT(n >= 1 && n <= SY_CPU_WARPS_MAX && job->grid.shared_bytes <= w->pool->shared_bytes);
    w->job = job;
    w->live = n;
    w->arrived = 0;
    w->first = w->warps;
    w->idle = 0;
    w->round_ns = sy_os->now_ns();
    for (uint32_t i = 0; i < n; i++) {
        struct sy_cpu_warp *warp = w->warps + i;
        warp->worker = w;
        warp->next = w->warps + (i + 1) % n;
        warp->before = w->warps + (i + n - 1) % n;
        warp->c.block = w->index;
        warp->c.blocks = job->grid.blocks;
        warp->c.warp = i;
        warp->c.warps = n;
        warp->c.lane = 0;
        warp->c.shared = w->shared;
        warp->c.self = warp;
        sy_fiber_start(&warp->fiber, warp_main, warp);
    }
    numbers = set_numbers(PLAIN_NUMBERS);
    sy_fiber_adopt(&w->home);
    sy_fiber_switch(&w->home, &w->first->fiber, 0);
    set_numbers(numbers);
}

/* --- the threads of an engine --------------------------------------------------------------- */

static void *worker_main(void *context)
{
    struct sy_cpu_worker *w = context;
    struct sy_cpu_pool *pool = w->pool;
    uint64_t seen = 0;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (pool->round == seen && !pool->stop)
            pthread_cond_wait(&pool->begin, &pool->lock);
        if (pool->stop)
            break;
        seen = pool->round;
        pthread_mutex_unlock(&pool->lock);
        run_block(w, pool->job);
        pthread_mutex_lock(&pool->lock);
        if (--pool->running == 0)
            pthread_cond_signal(&pool->end);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

void sy_cpu_pool_run(struct sy_cpu_pool *pool, const struct sy_cpu_job *job)
{
    SY_ASSERT((int32_t)job->grid.blocks <= pool->threads);
    if (job->grid.blocks > 1) {
        pthread_mutex_lock(&pool->lock);
        pool->job = job;
        pool->running = pool->opened;
        pool->round++;
        pthread_cond_broadcast(&pool->begin);
        pthread_mutex_unlock(&pool->lock);
    }
    run_block(pool->workers, job);
    if (job->grid.blocks > 1) {
        pthread_mutex_lock(&pool->lock);
        while (pool->running)
            pthread_cond_wait(&pool->end, &pool->lock);
        pthread_mutex_unlock(&pool->lock);
    }
}

void sy_cpu_pool_close(struct sy_cpu_pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->stop = 1;
    pthread_cond_broadcast(&pool->begin);
    pthread_mutex_unlock(&pool->lock);
    for (int32_t i = 0; i < pool->opened; i++)
        pthread_join(pool->workers[i + 1].thread, NULL);
    for (int32_t i = 0; pool->workers && i < pool->threads; i++) {
        for (int k = 0; k < SY_CPU_WARPS_MAX; k++)
            sy_fiber_close(&pool->workers[i].warps[k].fiber);
        sy_os->free(pool->workers[i].shared);
    }
    pthread_cond_destroy(&pool->begin);
    pthread_cond_destroy(&pool->end);
    pthread_mutex_destroy(&pool->lock);
    sy_os->free(pool->workers);
    sy_os->free(pool);
}

static sy_status open_worker(struct sy_cpu_pool *pool, int32_t i)
{
    struct sy_cpu_worker *w = pool->workers + i;
    w->pool = pool;
    w->index = (uint32_t)i;
    w->shared = sy_os->alloc(pool->shared_bytes, 1024);
    if (!w->shared)
        return sy_fail(SY_NO_MEMORY, "%llu bytes for a block's shared memory",
                       (unsigned long long)pool->shared_bytes);
    memset(w->shared, 0, pool->shared_bytes);
    for (int k = 0; k < SY_CPU_WARPS_MAX; k++)
        if (sy_fiber_open(&w->warps[k].fiber))
            return sy_fail_errno("mmap of a fiber's stack");
    if (i > 0) {
        if (sy_os->thread(&w->thread, worker_main, w))
            return sy_fail(SY_SYSTEM, "pthread_create of worker %d", (int)i);
        pool->opened++;
    }
    return SY_OK;
}

sy_status sy_cpu_pool_open(struct sy_cpu_pool **out, int32_t threads, uint64_t shared_bytes,
                           int64_t idle_spins)
{
    struct sy_cpu_pool *pool = sy_zalloc(sizeof *pool);
    sy_status status = SY_OK;
    if (!pool)
        return sy_fail(SY_NO_MEMORY, "a pool of threads");
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->begin, NULL);
    pthread_cond_init(&pool->end, NULL);
    pool->threads = threads;
    pool->shared_bytes = shared_bytes;
    pool->idle_spins = idle_spins;
    pool->workers = sy_zalloc(sizeof *pool->workers * (size_t)threads);
    if (!pool->workers)
        status = sy_fail(SY_NO_MEMORY, "%d workers", (int)threads);
    for (int32_t i = 0; status == SY_OK && i < threads; i++)
        status = open_worker(pool, i);
    if (status != SY_OK) {
        sy_cpu_pool_close(pool);
        return status;
    }
    *out = pool;
    return SY_OK;
}
