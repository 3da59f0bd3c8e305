/* cpu_streams.c - the CPU engine: streams, events, launches. See rt.h for what the functions
 * promise.
 *
 * A stream is a thread that runs a queue. One lock per engine guards queues and events; it is never
 * held while something runs. Launches have numbers in the order of the calls and run in that order:
 * a stream whose next launch is not due waits for the streams before it. Sections: the stream's
 * thread | putting items on a stream | streams | events | the engine. */
#define _GNU_SOURCE /* sched_getaffinity */
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/verify.h"
#include "cpu_engine.h"

enum item_kind { ITEM_LAUNCH, ITEM_CALL, ITEM_RECORD, ITEM_WAIT };

struct item {
    enum item_kind kind;
    sy_event *event;    /* RECORD, WAIT                          */
    uint64_t number;    /* LAUNCH: its turn; RECORD, WAIT: which recording */
    void (*fn)(void *); /* CALL                                  */
    void *context;
    enum sy_kernel kernel; /* LAUNCH                                */
    struct sy_grid grid;
    union sy_any_args args;
};

struct cpu_engine {
    struct sy_rt rt;
    sy_allocator allocator;
    pthread_mutex_t lock;
    pthread_cond_t moved; /* anything that somebody may wait for has happened */
    struct sy_cpu_pool *pool;
    const sy_cpu_kernel *kernels;
    uint64_t launches, launched; /* numbers given, and done */
    sy_stream *own;              /* the stream that NULL means */
};

struct sy_stream {
    struct sy_handle handle;
    struct cpu_engine *engine;
    pthread_t thread;
    uint64_t put, done; /* items so far; those between are in the ring */
    int stop;
    struct item ring[SY_STREAM_DEPTH];
};

struct sy_event {
    struct sy_handle handle;
    struct cpu_engine *engine;
    uint64_t recordings, happened; /* asked for, and done */
    uint64_t users;                /* items that point here */
    uint64_t time_ns;              /* of the last one done  */
};

static struct cpu_engine *engine_of(struct sy_rt *rt)
{
    return (struct cpu_engine *)rt;
}

/* --- the stream's thread -------------------------------------------------------------------- */

/* Called and returns with the lock held. */
static void run_launch(struct cpu_engine *e, struct item *it)
{
    struct sy_cpu_job job = {e->kernels[it->kernel], &it->args, it->grid};
    while (e->launched != it->number)
        pthread_cond_wait(&e->moved, &e->lock);
    pthread_mutex_unlock(&e->lock);
    sy_cpu_pool_run(e->pool, &job);
    pthread_mutex_lock(&e->lock);
    e->launched++;
}

static void run_item(struct cpu_engine *e, struct item *it)
{
    switch (it->kind) {
    case ITEM_LAUNCH:
        run_launch(e, it);
        break;
    case ITEM_CALL:
        pthread_mutex_unlock(&e->lock);
        it->fn(it->context);
        pthread_mutex_lock(&e->lock);
        break;
    case ITEM_RECORD:
        if (it->number > it->event->happened) { /* streams may reach recordings in any order */
            it->event->happened = it->number;
            it->event->time_ns = sy_os->now_ns();
        }
        it->event->users--;
        break;
    case ITEM_WAIT:
        while (it->event->happened < it->number)
            pthread_cond_wait(&e->moved, &e->lock);
        it->event->users--;
        break;
    }
}

static void *stream_main(void *context)
{
    sy_stream *s = context;
    struct cpu_engine *e = s->engine;
    pthread_mutex_lock(&e->lock);
    for (;;) {
        while (s->put == s->done && !s->stop)
            pthread_cond_wait(&e->moved, &e->lock);
        if (s->put == s->done)
            break;
        run_item(e, s->ring + s->done % SY_STREAM_DEPTH);
        s->done++;
        pthread_cond_broadcast(&e->moved);
    }
    pthread_mutex_unlock(&e->lock);
    return NULL;
}

/* --- putting items on a stream -------------------------------------------------------------- */

/* The stream that is meant; NULL is the group's own. */
static sy_status find_stream(struct sy_rt *rt, sy_stream *stream, sy_stream **out)
{
    *out = stream ? stream : engine_of(rt)->own;
    SY_NEED((*out)->handle.rt == rt, "the stream belongs to another group");
    return SY_OK;
}

/* A free place in the ring; waits while it is full. With the lock held. */
static struct item *place(sy_stream *s)
{
    while (s->put - s->done == SY_STREAM_DEPTH)
        pthread_cond_wait(&s->engine->moved, &s->engine->lock);
    return s->ring + s->put % SY_STREAM_DEPTH;
}

static void placed(sy_stream *s)
{
    s->put++;
    pthread_cond_broadcast(&s->engine->moved);
}

static void put_event(sy_stream *s, sy_event *event, enum item_kind kind, uint64_t number)
{
    struct item *it = place(s);
    it->kind = kind;
    it->event = event;
    it->number = number;
    event->users++;
    placed(s);
}

static sy_status cpu_launch(struct sy_rt *rt, sy_stream *stream, enum sy_kernel kernel,
                            const struct sy_grid *grid, const void *args, size_t bytes,
                            sy_event *done)
{
    struct cpu_engine *e = engine_of(rt);
    sy_stream *s;
    struct item *it;
    SY_ASSERT(bytes <= sizeof it->args);
    SY_TRY(find_stream(rt, stream, &s));
    pthread_mutex_lock(&e->lock);
    it = place(s);
    it->kind = ITEM_LAUNCH;
    it->kernel = kernel;
    it->grid = *grid;
    it->number = e->launches++;
    memcpy(&it->args, args, bytes);
    placed(s);
    put_event(s, done, ITEM_RECORD, ++done->recordings);
    pthread_mutex_unlock(&e->lock);
    return SY_OK;
}

static sy_status cpu_call(struct sy_rt *rt, sy_stream *stream, void (*fn)(void *), void *context)
{
    sy_stream *s;
    struct item *it;
    SY_TRY(find_stream(rt, stream, &s));
    pthread_mutex_lock(&s->engine->lock);
    it = place(s);
    it->kind = ITEM_CALL;
    it->fn = fn;
    it->context = context;
    placed(s);
    pthread_mutex_unlock(&s->engine->lock);
    return SY_OK;
}

/* --- streams -------------------------------------------------------------------------------- */

static sy_status cpu_stream_create(struct sy_rt *rt, sy_stream **out)
{
    sy_stream *s = sy_zalloc(sizeof *s);
    if (!s)
        return sy_fail(SY_NO_MEMORY, "a stream");
    s->handle.rt = rt;
    s->engine = engine_of(rt);
    if (sy_os->thread(&s->thread, stream_main, s)) {
        sy_os->free(s);
        return sy_fail(SY_SYSTEM, "pthread_create of a stream");
    }
    *out = s;
    return SY_OK;
}

static void cpu_stream_destroy(struct sy_rt *rt, sy_stream *s)
{
    (void)rt;
    if (!s)
        return;
    pthread_mutex_lock(&s->engine->lock);
    s->stop = 1;
    pthread_cond_broadcast(&s->engine->moved);
    pthread_mutex_unlock(&s->engine->lock);
    pthread_join(s->thread, NULL);
    sy_os->free(s);
}

static sy_status cpu_stream_sync(struct sy_rt *rt, sy_stream *stream)
{
    sy_stream *s;
    uint64_t upto;
    SY_TRY(find_stream(rt, stream, &s));
    pthread_mutex_lock(&s->engine->lock);
    upto = s->put;
    while (s->done < upto)
        pthread_cond_wait(&s->engine->moved, &s->engine->lock);
    pthread_mutex_unlock(&s->engine->lock);
    return SY_OK;
}

static sy_status cpu_stream_query(struct sy_rt *rt, sy_stream *stream)
{
    sy_stream *s;
    int idle;
    SY_TRY(find_stream(rt, stream, &s));
    pthread_mutex_lock(&s->engine->lock);
    idle = s->done == s->put;
    pthread_mutex_unlock(&s->engine->lock);
    return idle ? SY_OK : SY_NOT_READY;
}

/* --- events --------------------------------------------------------------------------------- */

static sy_status cpu_event_create(struct sy_rt *rt, int timed, sy_event **out)
{
    sy_event *event = sy_zalloc(sizeof *event);
    (void)timed;
    if (!event)
        return sy_fail(SY_NO_MEMORY, "an event");
    event->handle.rt = rt;
    event->engine = engine_of(rt);
    *out = event;
    return SY_OK;
}

static void cpu_event_destroy(struct sy_rt *rt, sy_event *event)
{
    struct cpu_engine *e = engine_of(rt);
    if (!event)
        return;
    pthread_mutex_lock(&e->lock);
    while (event->users)
        pthread_cond_wait(&e->moved, &e->lock);
    pthread_mutex_unlock(&e->lock);
    sy_os->free(event);
}

static sy_status cpu_event_record(struct sy_rt *rt, sy_event *event, sy_stream *stream)
{
    sy_stream *s;
    SY_TRY(find_stream(rt, stream, &s));
    pthread_mutex_lock(&s->engine->lock);
    put_event(s, event, ITEM_RECORD, ++event->recordings);
    pthread_mutex_unlock(&s->engine->lock);
    return SY_OK;
}

static sy_status cpu_stream_wait(struct sy_rt *rt, sy_stream *stream, sy_event *event)
{
    sy_stream *s;
    SY_TRY(find_stream(rt, stream, &s));
    pthread_mutex_lock(&s->engine->lock);
    put_event(s, event, ITEM_WAIT, event->recordings);
    pthread_mutex_unlock(&s->engine->lock);
    return SY_OK;
}

static sy_status cpu_event_sync(struct sy_rt *rt, sy_event *event)
{
    struct cpu_engine *e = engine_of(rt);
    uint64_t number;
    pthread_mutex_lock(&e->lock);
    number = event->recordings;
    while (event->happened < number)
        pthread_cond_wait(&e->moved, &e->lock);
    pthread_mutex_unlock(&e->lock);
    return SY_OK;
}

static sy_status cpu_event_query(struct sy_rt *rt, sy_event *event)
{
    struct cpu_engine *e = engine_of(rt);
    int over;
    pthread_mutex_lock(&e->lock);
    over = event->happened == event->recordings;
    pthread_mutex_unlock(&e->lock);
    return over ? SY_OK : SY_NOT_READY;
}

static sy_status cpu_event_elapsed(struct sy_rt *rt, sy_event *begin, sy_event *end, uint64_t *ns)
{
    struct cpu_engine *e = engine_of(rt);
    sy_status status = SY_OK;
    pthread_mutex_lock(&e->lock);
    if (!begin->happened || !end->happened || begin->happened != begin->recordings ||
        end->happened != end->recordings)
        status = SY_NOT_READY;
    else
        *ns = end->time_ns > begin->time_ns ? end->time_ns - begin->time_ns : 0;
    pthread_mutex_unlock(&e->lock);
    return status;
}

/* --- the engine ----------------------------------------------------------------------------- */

static void *cpu_alloc(struct sy_rt *rt, size_t bytes)
{
    struct cpu_engine *e = engine_of(rt);
    void *p = e->allocator.alloc ? e->allocator.alloc(e->allocator.context, bytes, 256)
                                 : sy_os->alloc(bytes, 256);
    if (p)
        memset(p, 0, bytes);
    else
        sy_fail(SY_NO_MEMORY, "%zu bytes", bytes);
    return p;
}

static void cpu_free(struct sy_rt *rt, void *memory, size_t bytes)
{
    struct cpu_engine *e = engine_of(rt);
    if (memory && e->allocator.alloc)
        e->allocator.free(e->allocator.context, memory, bytes);
    else
        sy_os->free(memory);
}

static sy_status cpu_copy(struct sy_rt *rt, void *to, const void *from, size_t bytes)
{
    (void)rt;
    memcpy(to, from, bytes);
    return SY_OK;
}

static void cpu_poke(struct sy_rt *rt, sy_u32 *word, sy_u32 value)
{
    (void)rt;
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

/* The caller's streams are gone by now. */
static void cpu_finish(struct sy_rt *rt)
{
    cpu_stream_sync(rt, NULL);
}

static void cpu_close(struct sy_rt *rt)
{
    struct cpu_engine *e = engine_of(rt);
    if (!e)
        return;
    cpu_stream_destroy(rt, e->own);
    sy_cpu_pool_close(e->pool);
    pthread_cond_destroy(&e->moved);
    pthread_mutex_destroy(&e->lock);
    sy_os->free(e);
}

/* Waiting threads of more ranks than cores only steal time from those that work. */
static int64_t idle_spins(const struct sy_rt_config *config)
{
    cpu_set_t set;
    int cores = 1;
    if (config->idle_spins)
        return config->idle_spins;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        cores = CPU_COUNT(&set);
    return config->ranks * config->threads <= cores ? 2000 : 2;
}

static sy_status cpu_open(const struct sy_rt_config *config, struct sy_rt **out)
{
    struct cpu_engine *e = sy_zalloc(sizeof *e);
    sy_status status;
    const char *name;
    if (!e)
        return sy_fail(SY_NO_MEMORY, "an engine");
    e->rt.ops = &sy_rt_cpu;
    if (config->allocator)
        e->allocator = *config->allocator;
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->moved, NULL);
    e->kernels = sy_cpu_kernels_pick(&name);
    status = sy_cpu_pool_open(&e->pool, config->threads, config->shared_bytes, idle_spins(config));
    if (status == SY_OK)
        status = cpu_stream_create(&e->rt, &e->own);
    if (status != SY_OK) {
        cpu_close(&e->rt);
        return status;
    }
    *out = &e->rt;
    return SY_OK;
}

const sy_cpu_kernel *sy_cpu_kernels_pick(const char **name)
{
#if defined(__x86_64__)
    unsigned a, b, features = 0, d;
    __get_cpuid(1, &a, &b, &features, &d);
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
        __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("fma") && features & bit_F16C) {
        *name = "avx2";
        return sy_cpu_kernels_avx2;
    }
#endif
    *name = "baseline";
    return sy_cpu_kernels_base;
}

const struct sy_rt_ops sy_rt_cpu = {
    .name = "cpu",
    .open = cpu_open,
    .finish = cpu_finish,
    .close = cpu_close,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .alloc_host = cpu_alloc,
    .free_host = cpu_free,
    .read = cpu_copy,
    .write = cpu_copy,
    .poke = cpu_poke,
    .stream_create = cpu_stream_create,
    .stream_destroy = cpu_stream_destroy,
    .stream_sync = cpu_stream_sync,
    .stream_query = cpu_stream_query,
    .stream_wait = cpu_stream_wait,
    .call = cpu_call,
    .launch = cpu_launch,
    .event_create = cpu_event_create,
    .event_destroy = cpu_event_destroy,
    .event_record = cpu_event_record,
    .event_sync = cpu_event_sync,
    .event_query = cpu_event_query,
    .event_elapsed = cpu_event_elapsed,
};
