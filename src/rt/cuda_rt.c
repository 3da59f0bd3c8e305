/* cuda_rt.c - the CUDA engine: memory, streams, events and launches. See rt.h for what its
 * functions promise.
 *
 * Streams are the caller's own. Launches of a group run in the order of the calls: one that goes to
 * another stream than the one before waits for that one's event. Inside a graph that is being
 * captured only launches of the same capture are ordered so; between graphs, and between graphs
 * and eager calls, the streams that they run on decide.
 *
 * Sections: the engine | memory | kernels | launching | streams | events | opening. */
#include <pthread.h>
#include <string.h>

#include "base/os.h"
#include "base/verify.h"
#include "cuda_engine.h"
#include "jit.h"

/* A variant of a kernel as this GPU has it. */
struct loaded {
    struct loaded *next;
    struct sy_variant variant;
    sy_cuda_module module;
    sy_cuda_function function;
    uint64_t shared_max; /* bytes that a launch may ask for */
};

struct sy_event {
    struct sy_handle handle;
    sy_cuda_event event;
    int recorded;
    int graphs; /* what it stands for is also in graphs, whose runs it does not see */
};

struct cuda_engine {
    struct sy_rt rt;
    struct sy_gpu gpu;
    const struct sy_cuda_api *api; /* the GPU's */
    struct sy_jit_target target;
    int jit;   /* opened */
    int pools; /* memory comes and goes in the order of `copy` */
    uint64_t shared_max;

    sy_cuda_stream own;  /* the stream that NULL means                              */
    sy_cuda_stream copy; /* for read, write and clearing                            */
    sy_cuda_stream poke; /* for words that stop kernels; waits for nothing          */
    sy_u32 *poke_from;   /* host memory that the GPU reads                          */
    pthread_mutex_t copy_lock, poke_lock;

    pthread_mutex_t lock; /* of what follows, held while launching */
    int general;          /* kernels for any shape */
    struct loaded *loaded;
    sy_event *last;             /* of the last eager launch, unless that is over */
    sy_cuda_stream last_stream; /* where it went                                 */
    int graphs;                 /* something was captured                        */
    uint64_t capture;           /* number of the last capture                    */
    sy_cuda_stream capture_stream;
    sy_cuda_event captured; /* behind its last launch                        */
};

/* --- the engine ----------------------------------------------------------------------------- */

static struct cuda_engine *engine_of(struct sy_rt *rt)
{
    return (struct cuda_engine *)rt;
}

static sy_cuda_stream stream_of(const struct cuda_engine *e, sy_stream *stream)
{
    return stream ? (sy_cuda_stream)(void *)stream : e->own;
}

static sy_cuda_ptr address(const void *p)
{
    return (sy_cuda_ptr)(uintptr_t)p;
}

/* Runs `body`, an expression of type sy_status, with the engine's context current. */
#define IN_CONTEXT(e, status, body)                                                                \
    do {                                                                                           \
        int pushed_;                                                                               \
        (status) = sy_gpu_enter(&(e)->gpu, &pushed_);                                              \
        if ((status) == SY_OK) {                                                                   \
            (status) = (body);                                                                     \
            sy_gpu_leave(&(e)->gpu, pushed_);                                                      \
        }                                                                                          \
    } while (0)

/* The same for what gives something back: that is tried whatever state the context is in. */
#define ANYHOW(e, call)                                                                            \
    do {                                                                                           \
        int pushed_;                                                                               \
        (void)sy_gpu_enter(&(e)->gpu, &pushed_);                                                   \
        (void)(call);                                                                              \
        sy_gpu_leave(&(e)->gpu, pushed_);                                                          \
    } while (0)

/* --- memory --------------------------------------------------------------------------------- */

/* With the copy lock held. */
static sy_status clear(struct cuda_engine *e, sy_cuda_ptr at, size_t bytes)
{
    SY_TRY(SY_CU(e->api, cuMemsetD8Async, at, 0, bytes, e->copy));
    return SY_CU(e->api, cuStreamSynchronize, e->copy);
}

/* cuMemFree() waits for all work of the GPU: where ranks share one, for kernels that wait for us.
 * Nobody uses the memory any more, so that the order of this stream is enough. */
static sy_status give_memory(struct cuda_engine *e, sy_cuda_ptr at)
{
    return e->pools ? SY_CU(e->api, cuMemFreeAsync, at, e->copy)
                    : SY_CU(e->api, cuMemFree_v2, at);
}

static sy_status take_memory(struct cuda_engine *e, size_t bytes, void **out)
{
    sy_cuda_ptr at;
    sy_status status;
    SY_TRY(e->pools ? SY_CU(e->api, cuMemAllocAsync, &at, bytes, e->copy)
                    : SY_CU(e->api, cuMemAlloc_v2, &at, bytes));
    pthread_mutex_lock(&e->copy_lock);
    status = clear(e, at, bytes);
    pthread_mutex_unlock(&e->copy_lock);
    if (status != SY_OK)
        (void)give_memory(e, at);
    else
        *out = (void *)(uintptr_t)at;
    return status;
}

static void *cuda_alloc(struct sy_rt *rt, size_t bytes)
{
    struct cuda_engine *e = engine_of(rt);
    void *memory = NULL;
    sy_status status;
    IN_CONTEXT(e, status, take_memory(e, bytes, &memory));
    return status == SY_OK ? memory : NULL;
}

static void cuda_free(struct sy_rt *rt, void *memory, size_t bytes)
{
    struct cuda_engine *e = engine_of(rt);
    (void)bytes;
    if (memory)
        ANYHOW(e, give_memory(e, address(memory)));
}

/* Kernels reach it by the address that the host has for it. */
static void *cuda_alloc_host(struct sy_rt *rt, size_t bytes)
{
    struct cuda_engine *e = engine_of(rt);
    void *memory = NULL;
    sy_status status;
    IN_CONTEXT(e, status,
               SY_CU(e->api, cuMemHostAlloc, &memory, bytes, SY_CU_HOST_PORTABLE_MAPPED));
    if (status != SY_OK)
        return NULL;
    memset(memory, 0, bytes);
    return memory;
}

static void cuda_free_host(struct sy_rt *rt, void *memory, size_t bytes)
{
    struct cuda_engine *e = engine_of(rt);
    (void)bytes;
    if (memory)
        ANYHOW(e, e->api->cuMemFreeHost(memory));
}

static sy_status copy_in(struct cuda_engine *e, void *to, const void *from, size_t bytes)
{
    SY_TRY(SY_CU(e->api, cuMemcpyHtoDAsync_v2, address(to), from, bytes, e->copy));
    return SY_CU(e->api, cuStreamSynchronize, e->copy);
}

static sy_status copy_out(struct cuda_engine *e, void *to, const void *from, size_t bytes)
{
    SY_TRY(SY_CU(e->api, cuMemcpyDtoHAsync_v2, to, address(from), bytes, e->copy));
    return SY_CU(e->api, cuStreamSynchronize, e->copy);
}

static sy_status cuda_read(struct sy_rt *rt, void *to, const void *from, size_t bytes)
{
    struct cuda_engine *e = engine_of(rt);
    sy_status status;
    pthread_mutex_lock(&e->copy_lock);
    IN_CONTEXT(e, status, copy_out(e, to, from, bytes));
    pthread_mutex_unlock(&e->copy_lock);
    return status;
}

static sy_status cuda_write(struct sy_rt *rt, void *to, const void *from, size_t bytes)
{
    struct cuda_engine *e = engine_of(rt);
    sy_status status;
    pthread_mutex_lock(&e->copy_lock);
    IN_CONTEXT(e, status, copy_in(e, to, from, bytes));
    pthread_mutex_unlock(&e->copy_lock);
    return status;
}

/* The copy engine does it, so that it needs none of the multiprocessors that kernels hold. Nobody
 * waits: should the GPU be lost, there is nothing left to stop. */
static void cuda_poke(struct sy_rt *rt, sy_u32 *word, sy_u32 value)
{
    struct cuda_engine *e = engine_of(rt);
    sy_status status;
    pthread_mutex_lock(&e->poke_lock);
    *e->poke_from = value;
    IN_CONTEXT(
        e, status,
        SY_CU(e->api, cuMemcpyHtoDAsync_v2, address(word), e->poke_from, sizeof value, e->poke));
    pthread_mutex_unlock(&e->poke_lock);
}

/* --- kernels -------------------------------------------------------------------------------- */

static sy_status load_into(struct cuda_engine *e, struct loaded *l)
{
    struct sy_cubin cubin;
    SY_TRY(sy_jit_get(&e->target, &l->variant, &cubin));
    SY_TRY(SY_CU(e->api, cuModuleLoadData, &l->module, cubin.data));
    SY_TRY(
        SY_CU(e->api, cuModuleGetFunction, &l->function, l->module, sy_variant_entry(&l->variant)));
    /* Now, as it may wait for kernels that run; later these could be ones that wait for us. */
    SY_TRY(SY_CU(e->api, cuFuncLoad, l->function));
    l->shared_max = e->shared_max;
    return SY_CU(e->api, cuFuncSetAttribute, l->function, SY_CU_FUNC_DYNAMIC_MAX,
                 (int)l->shared_max);
}

static void unload(struct cuda_engine *e, struct loaded *l)
{
    if (l->module)
        e->api->cuModuleUnload(l->module);
    sy_os->free(l);
}

/* Loading is allowed while a stream captures if the thread says that it knows what it does. */
static sy_status load(struct cuda_engine *e, const struct sy_variant *v, struct loaded **out)
{
    struct loaded *l = sy_zalloc(sizeof *l);
    int mode = SY_CU_CAPTURE_RELAXED;
    sy_status status;
    if (!l)
        return sy_fail(SY_NO_MEMORY, "a kernel");
    l->variant = *v;
    status = SY_CU(e->api, cuThreadExchangeStreamCaptureMode, &mode);
    if (status == SY_OK) {
        status = load_into(e, l);
        e->api->cuThreadExchangeStreamCaptureMode(&mode);
    }
    if (status != SY_OK) {
        unload(e, l);
        return status;
    }
    l->next = e->loaded;
    e->loaded = l;
    *out = l;
    return SY_OK;
}

static sy_status find_or_load(struct cuda_engine *e, const struct sy_variant *v,
                              struct loaded **out)
{
    for (struct loaded *l = e->loaded; l; l = l->next)
        if (sy_variant_same(&l->variant, v)) {
            *out = l;
            return SY_OK;
        }
    return load(e, v, out);
}

/* Without a compiler the library may still have the kernel for any shape; then nobody asks for
 * special ones again. */
static sy_status find_kernel(struct cuda_engine *e, enum sy_kernel kernel, const void *args,
                             struct loaded **out)
{
    const struct sy_variant any = sy_variant_general(kernel);
    struct sy_variant special;
    sy_status status;
    if (e->general)
        return find_or_load(e, &any, out);
    special = sy_variant_special(kernel, args);
    status = find_or_load(e, &special, out);
    if (status != SY_UNSUPPORTED)
        return status;
    SY_TRY(find_or_load(e, &any, out));
    e->general = 1;
    return SY_OK;
}

/* The kernels for any shape, when they are the ones to be used. */
static sy_status load_general(struct cuda_engine *e)
{
    static const enum sy_kernel all[] = {SY_KERNEL_route, SY_KERNEL_tdispatch, SY_KERNEL_ldispatch,
                                         SY_KERNEL_combine};
    struct sy_variant v;
    struct loaded *l;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        v = sy_variant_general(all[i]);
        sy_jit_start(&e->target, &v);
    }
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        v = sy_variant_general(all[i]);
        SY_TRY(find_or_load(e, &v, &l));
    }
    return SY_OK;
}

static void cuda_prepare(struct sy_rt *rt, enum sy_kernel kernel, const void *args)
{
    struct cuda_engine *e = engine_of(rt);
    struct sy_variant v;
    pthread_mutex_lock(&e->lock);
    v = e->general ? sy_variant_general(kernel) : sy_variant_special(kernel, args);
    pthread_mutex_unlock(&e->lock);
    sy_jit_start(&e->target, &v);
}

/* --- launching ------------------------------------------------------------------------------ */

/* A name that means another stream in every thread. */
#define PER_THREAD ((sy_cuda_stream)(uintptr_t)2)

/* Behind the launch before. */
static sy_status order_eager(struct cuda_engine *e, sy_cuda_stream s)
{
    if (!e->last || (s == e->last_stream && s != PER_THREAD))
        return SY_OK;
    return SY_CU(e->api, cuStreamWaitEvent, s, e->last->event, 0);
}

static sy_status order_captured(struct cuda_engine *e, sy_cuda_stream s, uint64_t capture)
{
    if (e->capture != capture || s == e->capture_stream)
        return SY_OK;
    return SY_CU(e->api, cuStreamWaitEvent, s, e->captured, 0);
}

static sy_status run(struct cuda_engine *e, const struct loaded *l, sy_cuda_stream s,
                     const struct sy_grid *grid, const void *args)
{
    void *params[] = {(void *)(uintptr_t)args}; /* the driver copies them, and does not write */
    SY_ASSERT(grid->warps * 32 <= sy_variant_threads(&l->variant));
    if (grid->shared_bytes > l->shared_max)
        return sy_fail(SY_UNSUPPORTED, "a block has %llu bytes of shared memory, not %llu",
                       (unsigned long long)l->shared_max, (unsigned long long)grid->shared_bytes);
    return SY_CU(e->api, cuLaunchKernel, l->function, grid->blocks, 1, 1, grid->warps * 32, 1, 1,
                 (unsigned)grid->shared_bytes, s, params, NULL);
}

static sy_status run_eager(struct cuda_engine *e, const struct loaded *l, sy_cuda_stream s,
                           const struct sy_grid *grid, const void *args, sy_event *done)
{
    SY_TRY(order_eager(e, s));
    SY_TRY(run(e, l, s, grid, args));
    e->last = done;
    e->last_stream = s;
    done->recorded = 1;
    return SY_CU(e->api, cuEventRecord, done->event, s);
}

static sy_status run_captured(struct cuda_engine *e, const struct loaded *l, sy_cuda_stream s,
                              uint64_t capture, const struct sy_grid *grid, const void *args,
                              sy_event *done)
{
    SY_TRY(order_captured(e, s, capture));
    SY_TRY(run(e, l, s, grid, args));
    e->graphs = done->graphs = 1;
    e->capture = capture;
    e->capture_stream = s;
    return SY_CU(e->api, cuEventRecord, e->captured, s);
}

static sy_status launch_locked(struct cuda_engine *e, sy_cuda_stream s, enum sy_kernel kernel,
                               const struct sy_grid *grid, const void *args, sy_event *done)
{
    int state = SY_CU_CAPTURE_NONE;
    uint64_t capture = 0;
    struct loaded *l = NULL;
    SY_TRY(SY_CU(e->api, cuStreamGetCaptureInfo_v2, s, &state, &capture, NULL, NULL, NULL));
    SY_TRY(find_kernel(e, kernel, args, &l));
    if (state == SY_CU_CAPTURE_NONE)
        return run_eager(e, l, s, grid, args, done);
    return run_captured(e, l, s, capture, grid, args, done);
}

static sy_status cuda_launch(struct sy_rt *rt, sy_stream *stream, enum sy_kernel kernel,
                             const struct sy_grid *grid, const void *args, size_t bytes,
                             sy_event *done)
{
    struct cuda_engine *e = engine_of(rt);
    sy_status status;
    (void)bytes;
    pthread_mutex_lock(&e->lock);
    IN_CONTEXT(e, status, launch_locked(e, stream_of(e, stream), kernel, grid, args, done));
    pthread_mutex_unlock(&e->lock);
    return status;
}

/* --- streams -------------------------------------------------------------------------------- */

static sy_status cuda_stream_create(struct sy_rt *rt, sy_stream **stream)
{
    (void)rt;
    (void)stream;
    return sy_fail(SY_UNSUPPORTED,
                   "sy_stream_create: on a GPU pass your own stream, or NULL for the group's");
}

static void cuda_stream_destroy(struct sy_rt *rt, sy_stream *stream)
{
    (void)rt;
    (void)stream;
}

static sy_status cuda_stream_sync(struct sy_rt *rt, sy_stream *stream)
{
    struct cuda_engine *e = engine_of(rt);
    sy_status status;
    IN_CONTEXT(e, status, SY_CU(e->api, cuStreamSynchronize, stream_of(e, stream)));
    return status;
}

static sy_status cuda_stream_query(struct sy_rt *rt, sy_stream *stream)
{
    struct cuda_engine *e = engine_of(rt);
    sy_status status;
    IN_CONTEXT(e, status, SY_CU(e->api, cuStreamQuery, stream_of(e, stream)));
    return status;
}

static sy_status cuda_stream_wait(struct sy_rt *rt, sy_stream *stream, sy_event *event)
{
    struct cuda_engine *e = engine_of(rt);
    sy_status status;
    IN_CONTEXT(e, status, SY_CU(e->api, cuStreamWaitEvent, stream_of(e, stream), event->event, 0));
    return status;
}

static sy_status cuda_call(struct sy_rt *rt, sy_stream *stream, void (*fn)(void *), void *context)
{
    (void)rt;
    (void)stream;
    (void)fn;
    (void)context;
    return sy_fail(SY_UNSUPPORTED, "sy_stream_call: CPU engine only");
}

/* --- events --------------------------------------------------------------------------------- */

static sy_status cuda_event_create(struct sy_rt *rt, int timed, sy_event **out)
{
    struct cuda_engine *e = engine_of(rt);
    unsigned flags = timed ? SY_CU_EVENT_DEFAULT : SY_CU_EVENT_NO_TIMING;
    sy_event *event = sy_zalloc(sizeof *event);
    sy_status status;
    if (!event)
        return sy_fail(SY_NO_MEMORY, "an event");
    event->handle.rt = rt;
    IN_CONTEXT(e, status, SY_CU(e->api, cuEventCreate, &event->event, flags));
    if (status != SY_OK)
        sy_os->free(event);
    else
        *out = event;
    return status;
}

static sy_status cuda_event_record(struct sy_rt *rt, sy_event *event, sy_stream *stream)
{
    struct cuda_engine *e = engine_of(rt);
    sy_status status;
    IN_CONTEXT(e, status, SY_CU(e->api, cuEventRecord, event->event, stream_of(e, stream)));
    if (status == SY_OK)
        event->recorded = 1;
    return status;
}

/* Runs of graphs are not told apart, so all work of the GPU is waited for. */
static sy_status wait_event(struct cuda_engine *e, const sy_event *event)
{
    if (event->graphs)
        SY_TRY(sy_cuda_result(e->api, e->api->cuCtxSynchronize(), "cuCtxSynchronize"));
    return SY_CU(e->api, cuEventSynchronize, event->event);
}

static sy_status cuda_event_sync(struct sy_rt *rt, sy_event *event)
{
    struct cuda_engine *e = engine_of(rt);
    sy_status status;
    IN_CONTEXT(e, status, wait_event(e, event));
    return status;
}

static int destroy_event(struct cuda_engine *e, sy_event *event)
{
    (void)wait_event(e, event);
    return e->api->cuEventDestroy_v2(event->event);
}

static void cuda_event_destroy(struct sy_rt *rt, sy_event *event)
{
    struct cuda_engine *e = engine_of(rt);
    if (!event)
        return;
    ANYHOW(e, destroy_event(e, event));
    pthread_mutex_lock(&e->lock);
    if (e->last == event) /* and what it stands for is over */
        e->last = NULL;
    pthread_mutex_unlock(&e->lock);
    sy_os->free(event);
}

static sy_status cuda_event_query(struct sy_rt *rt, sy_event *event)
{
    struct cuda_engine *e = engine_of(rt);
    sy_status status;
    IN_CONTEXT(e, status, SY_CU(e->api, cuEventQuery, event->event));
    return status;
}

static sy_status elapsed(struct cuda_engine *e, sy_event *begin, sy_event *end, uint64_t *ns)
{
    float ms = 0;
    if (!begin->recorded || !end->recorded)
        return SY_NOT_READY;
    SY_TRY(SY_CU(e->api, cuEventQuery, begin->event));
    SY_TRY(SY_CU(e->api, cuEventQuery, end->event));
    SY_TRY(SY_CU(e->api, cuEventElapsedTime, &ms, begin->event, end->event));
    *ns = ms > 0 ? (uint64_t)((double)ms * 1e6) : 0;
    return SY_OK;
}

static sy_status cuda_event_elapsed(struct sy_rt *rt, sy_event *begin, sy_event *end, uint64_t *ns)
{
    struct cuda_engine *e = engine_of(rt);
    sy_status status;
    IN_CONTEXT(e, status, elapsed(e, begin, end, ns));
    return status;
}

/* --- opening -------------------------------------------------------------------------------- */

static sy_status finish(struct cuda_engine *e)
{
    if (e->last)
        SY_TRY(SY_CU(e->api, cuEventSynchronize, e->last->event));
    if (e->graphs)
        SY_TRY(sy_cuda_result(e->api, e->api->cuCtxSynchronize(), "cuCtxSynchronize"));
    return SY_CU(e->api, cuStreamSynchronize, e->own);
}

static void cuda_finish(struct sy_rt *rt)
{
    struct cuda_engine *e = engine_of(rt);
    ANYHOW(e, finish(e));
}

/* In any state of having been opened. */
static int release(struct cuda_engine *e)
{
    const struct sy_cuda_api *api = e->api;
    while (e->loaded) {
        struct loaded *next = e->loaded->next;
        unload(e, e->loaded);
        e->loaded = next;
    }
    if (e->captured)
        api->cuEventDestroy_v2(e->captured);
    if (e->poke_from)
        api->cuMemFreeHost(e->poke_from);
    if (e->own)
        api->cuStreamDestroy_v2(e->own);
    if (e->copy)
        api->cuStreamDestroy_v2(e->copy);
    return e->poke ? api->cuStreamDestroy_v2(e->poke) : 0;
}

static void cuda_close(struct sy_rt *rt)
{
    struct cuda_engine *e = engine_of(rt);
    if (e->gpu.context)
        ANYHOW(e, release(e));
    sy_gpu_close(&e->gpu);
    if (e->jit)
        sy_jit_close();
    pthread_mutex_destroy(&e->lock);
    pthread_mutex_destroy(&e->copy_lock);
    pthread_mutex_destroy(&e->poke_lock);
    sy_os->free(e);
}

/* The group's own stream is one that the legacy default stream waits for and that waits for it, so
 * that callers who use that stream, which is NULL, too, see the order that they expect. */
static sy_status make_streams(struct cuda_engine *e)
{
    void *word;
    SY_TRY(SY_CU(e->api, cuStreamCreate, &e->own, SY_CU_STREAM_DEFAULT));
    SY_TRY(SY_CU(e->api, cuStreamCreate, &e->copy, SY_CU_STREAM_NON_BLOCKING));
    SY_TRY(SY_CU(e->api, cuStreamCreate, &e->poke, SY_CU_STREAM_NON_BLOCKING));
    SY_TRY(SY_CU(e->api, cuEventCreate, &e->captured, SY_CU_EVENT_NO_TIMING));
    SY_TRY(SY_CU(e->api, cuMemHostAlloc, &word, sizeof *e->poke_from, SY_CU_HOST_PORTABLE_MAPPED));
    e->poke_from = word;
    return SY_OK;
}

static sy_status open_parts(struct cuda_engine *e, const struct sy_rt_config *config)
{
    struct sy_cuda_look look;
    sy_status status;
    SY_TRY(sy_cuda_look(config->rank, &look));
    SY_TRY(sy_gpu_open(&e->gpu, config->rank));
    e->api = e->gpu.api;
    e->shared_max = look.shared_max;
    e->target.sm = look.sm;
    e->target.driver = look.driver / 1000;
    e->target.cache = (int)config->params->cache;
    e->target.lines = (int)config->params->jit_lines;
    e->pools = look.pools;
    /* Loading one later may wait for kernels of a rank that waits for us. */
    e->general = !config->params->jit || config->shared_gpu;
    SY_TRY(sy_jit_open((int)config->params->jit_threads));
    e->jit = 1;
    IN_CONTEXT(e, status, make_streams(e));
    if (status == SY_OK && e->general)
        IN_CONTEXT(e, status, load_general(e));
    return status;
}

static sy_status cuda_open(const struct sy_rt_config *config, struct sy_rt **out)
{
    struct cuda_engine *e = sy_zalloc(sizeof *e);
    sy_status status;
    if (!e)
        return sy_fail(SY_NO_MEMORY, "an engine");
    e->rt.ops = &sy_rt_cuda;
    pthread_mutex_init(&e->lock, NULL);
    pthread_mutex_init(&e->copy_lock, NULL);
    pthread_mutex_init(&e->poke_lock, NULL);
    status = open_parts(e, config);
    if (status != SY_OK)
        cuda_close(&e->rt);
    else
        *out = &e->rt;
    return status;
}

const struct sy_gpu *sy_rt_cuda_gpu(struct sy_rt *rt)
{
    return &engine_of(rt)->gpu;
}

const struct sy_rt_ops sy_rt_cuda = {
    .name = "cuda",
    .open = cuda_open,
    .finish = cuda_finish,
    .close = cuda_close,
    .alloc = cuda_alloc,
    .free = cuda_free,
    .alloc_host = cuda_alloc_host,
    .free_host = cuda_free_host,
    .read = cuda_read,
    .write = cuda_write,
    .poke = cuda_poke,
    .stream_create = cuda_stream_create,
    .stream_destroy = cuda_stream_destroy,
    .stream_sync = cuda_stream_sync,
    .stream_query = cuda_stream_query,
    .stream_wait = cuda_stream_wait,
    .call = cuda_call,
    .launch = cuda_launch,
    .prepare = cuda_prepare,
    .event_create = cuda_event_create,
    .event_destroy = cuda_event_destroy,
    .event_record = cuda_event_record,
    .event_sync = cuda_event_sync,
    .event_query = cuda_event_query,
    .event_elapsed = cuda_event_elapsed,
};
