/* engine.c - both engines, as the simulator has them: streams are tasks, a launch is one per warp.
 *
 * Sections: ranks | launches | streams | events | the engine | what else is asked of engines. */
#include "engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/os.h"
#include "base/verify.h"
#include "mem/heap.h"
#include "plants.h"
#include "rt/cpu_kernels.h"
#include "rt/cuda_engine.h"
#include "sim_prims.h"
#include "system.h"

enum item_kind { ITEM_LAUNCH, ITEM_CALL, ITEM_RECORD, ITEM_WAIT };

struct item {
    struct item *next;
    enum item_kind kind;
    uint64_t number; /* LAUNCH: its turn; RECORD, WAIT: which recording */
    sy_event *event;
    void (*fn)(void *);
    void *context;
    struct sy_grid grid;
    union sim_args *args;
    struct sim_launch *launch;
};

struct engine {
    struct sy_rt rt;
    uint32_t rank;
    uint64_t shared_bytes;
    uint64_t launches, launched;
    struct sim_queue moved;
    sy_stream *own;
    uint8_t **shared; /* [blocks_max] */
};

struct sy_stream {
    struct sy_handle handle;
    struct engine *engine;
    struct sim_task *task;
    struct item *first, **last;
    uint64_t put, done;
    int stop;
};

struct sy_event {
    struct sy_handle handle;
    struct engine *engine;
    uint64_t recordings, happened, users, time_ns;
};

/* What a rank has, whatever its group. */
struct rank {
    struct sim_warp **warps; /* [blocks_max * warps_max], made when first needed */
    struct sim_clock seen, over;
    uint32_t host_count;
    uint64_t epoch[SY_CHANNELS];
    struct sim_launch **launch[SY_CHANNELS]; /* by epoch, from 1 on */
    uint64_t launch_room[SY_CHANNELS];
    const struct sy_dev *dev;
};

const char *const sim_kernel_names[SY_KERNELS] = {
#define SY_KERNEL(name, args) #name,
#include "device/kernels.def"
#undef SY_KERNEL
};

static struct sim_engine_config config;
static struct rank *ranks;
static struct sim_launch **launches;
static uint32_t launch_count, launch_room;

/* --- ranks ------------------------------------------------------------------------------------ */

/* None; the host; what is over when a launch begins; the warps. Whole parts of clocks. */
static uint32_t slots_of_rank(void)
{
    uint32_t slots = 3 + SIM_SLOTS_OF_WARP * config.blocks_max * config.warps_max;
    return (slots + SIM_PART - 1) / SIM_PART * SIM_PART;
}

uint32_t sim_host_slot(uint32_t rank)
{
    return 1 + rank * slots_of_rank();
}

uint32_t sim_host_count(uint32_t rank)
{
    return ranks[rank].host_count + 1;
}

const char *sim_slot_name(uint32_t slot, char text[SIM_WHERE])
{
    static const char *const parts[] = {"", " (bulk store)", " (bulk read)", " (bulk load)"};
    uint32_t rank = slot / slots_of_rank(), in = slot % slots_of_rank() - 1, warp;
    if (in < 2) {
        snprintf(text, SIM_WHERE, "the host of rank %u", rank);
        return text;
    }
    warp = (in - 2) / SIM_SLOTS_OF_WARP;
    snprintf(text, SIM_WHERE, "rank %u block %u warp %u%s", rank, warp / config.warps_max,
             warp % config.warps_max, parts[(in - 2) % SIM_SLOTS_OF_WARP]);
    return text;
}

void sim_engine_open(const struct sim_engine_config *c)
{
    config = *c;
    launch_count = 1; /* 0: no launch */
    SY_ASSERT(config.warps_max <= SIM_WARPS_MAX);
    SY_ASSERT((uint64_t)slots_of_rank() * config.ranks <= SIM_SLOTS_MAX);
    sim_clocks_open(slots_of_rank() * config.ranks);
    ranks = calloc(config.ranks, sizeof *ranks);
    SY_ASSERT(ranks);
    for (uint32_t r = 0; r < config.ranks; r++) {
        ranks[r].warps = calloc((size_t)config.blocks_max * config.warps_max, sizeof(void *));
        SY_ASSERT(ranks[r].warps);
        sim_clock_init(&ranks[r].seen);
        sim_clock_init(&ranks[r].over);
    }
}

void sim_engine_close(void)
{
    for (uint32_t i = 1; i < launch_count; i++) {
        sim_snap_drop(launches[i]->before);
        free((void *)(uintptr_t)launches[i]->args);
        free(launches[i]);
    }
    for (uint32_t r = 0; r < config.ranks; r++) {
        for (uint32_t i = 0; i < config.blocks_max * config.warps_max; i++)
            if (ranks[r].warps[i]) {
                sim_warp_free(ranks[r].warps[i]);
                free(ranks[r].warps[i]->buffer.store);
                free(ranks[r].warps[i]);
            }
        free(ranks[r].warps);
        for (int c = 0; c < SY_CHANNELS; c++)
            free(ranks[r].launch[c]);
        sim_clock_free(&ranks[r].seen);
        sim_clock_free(&ranks[r].over);
    }
    free(ranks);
    ranks = NULL;
    launch_count = 0;
    sim_clocks_close();
}

void sim_engine_again(uint32_t rank)
{
    memset(ranks[rank].epoch, 0, sizeof ranks[rank].epoch);
    ranks[rank].dev = NULL;
}

const struct sim_launch *sim_launch_at(uint32_t id)
{
    return launches[id];
}

const struct sim_launch *sim_launch_of(uint32_t rank, uint32_t channel, uint64_t epoch)
{
    const struct rank *r = ranks + rank;
    return epoch && epoch <= r->epoch[channel] ? r->launch[channel][epoch - 1] : NULL;
}

uint64_t sim_launched(uint32_t rank, uint32_t channel)
{
    return ranks[rank].epoch[channel];
}

const struct sy_dev *sim_dev_of(uint32_t rank)
{
    return ranks[rank].dev;
}

const struct sy_dev *sim_dev_at(uint32_t rank, const uint8_t *p)
{
    for (uint32_t i = launch_count; i-- > 1;) {
        const struct sy_dev *d = launches[i]->d;
        if (launches[i]->rank == rank && p >= d->heap && p < d->heap + d->heap_bytes)
            return d;
    }
    return NULL;
}

static const struct sy_dev_route *route_of(const struct sim_launch *l)
{
    const union sim_args *a = l->args;
    switch (l->kernel) {
    case SY_KERNEL_route:
        return &a->route.r;
    case SY_KERNEL_tdispatch:
        return &a->tdispatch.r;
    case SY_KERNEL_ldispatch:
        return &a->ldispatch.r;
    case SY_KERNEL_combine:
        return &a->combine.r;
    default:
        return NULL;
    }
}

const struct sy_dev_route *sim_route_at(uint32_t rank, const uint8_t *p)
{
    for (uint32_t i = launch_count; i-- > 1;) {
        const struct sy_dev_route *r = launches[i]->rank == rank ? route_of(launches[i]) : NULL;
        if (r && p >= r->memory && p < r->memory + r->at.bytes)
            return r;
    }
    return NULL;
}

/* --- launches --------------------------------------------------------------------------------- */

static void warp_main(void *context)
{
    struct sim_warp *w = context;
    sim_kernels[w->launch->kernel](&w->c, w->launch->args);
    sim_warp_end(w);
}

static struct sim_warp *warp_of(uint32_t rank, uint32_t block, uint32_t warp)
{
    uint32_t n = block * config.warps_max + warp;
    struct sim_warp **at = ranks[rank].warps + n;
    if (!*at) {
        *at = malloc(sizeof **at);
        SY_ASSERT(*at);
        sim_warp_init(*at, rank, sim_host_slot(rank) + 2 + SIM_SLOTS_OF_WARP * n);
    }
    return *at;
}

static void begin_warp(struct engine *e, struct sim_block *b, uint32_t i, const struct item *it)
{
    const struct rank *r = ranks + e->rank;
    struct sim_warp *w = warp_of(e->rank, b->index, i);
    w->launch = it->launch;
    w->block = b;
    b->warp[i] = w;
    w->c = (struct sy_ctx){.block = b->index,
                           .blocks = it->grid.blocks,
                           .warp = i,
                           .warps = it->grid.warps,
                           .shared = b->shared};
    sim_warp_begin(w, &r->seen, &r->over);
    w->task =
        sim_spawn(w->task, e->rank, SIM_WARP, warp_main, w, sim_kernel_names[w->launch->kernel]);
    w->task->warp = w;
}

static void begin_block(struct engine *e, struct sim_block *b, const struct item *it)
{
    b->warps = b->live = it->grid.warps;
    b->shared = e->shared[b->index];
    b->shared_bytes = it->grid.shared_bytes;
    memset(b->shared, 0xa5, b->shared_bytes);
    sim_forget(b->shared, b->shared_bytes);
    if (e->shared_bytes > b->shared_bytes)
        sim_forbid(b->shared + (b->shared_bytes + 3) / 4 * 4,
                   e->shared_bytes - (b->shared_bytes + 3) / 4 * 4);
    for (uint32_t i = 0; i < b->warps; i++)
        begin_warp(e, b, i, it);
}

/* All that the rank has done is over for the launch, and so for those who hear from it. */
static void before_launch(struct engine *e, struct sim_launch *l)
{
    struct rank *r = ranks + e->rank;
    uint32_t slot = sim_host_slot(e->rank);
    sim_clock_set(&r->seen, slot, ++r->host_count);
    sim_clock_join(&r->over, &r->seen);
    sim_clock_set(&r->over, slot + 1, r->host_count); /* names the snapshot: see sim_snap */
    l->before = sim_snap_of(&r->over, slot + 1, r->host_count);
}

static void run_launch(struct engine *e, struct item *it)
{
    struct sim_block *blocks;
    struct rank *r = ranks + e->rank;
    while (e->launched != it->number)
        sim_wait(&e->moved, SIM_NEVER, "the launch before");
    blocks = calloc(it->grid.blocks, sizeof *blocks);
    SY_ASSERT(blocks);
    before_launch(e, it->launch);
    sim_event("launch", NULL, it->launch->epoch);
    for (uint32_t b = 0; b < it->grid.blocks; b++) {
        blocks[b].index = b;
        begin_block(e, blocks + b, it);
    }
    for (uint32_t i = 0; i < it->grid.blocks * it->grid.warps; i++) {
        struct sim_warp *w = warp_of(e->rank, i / it->grid.warps, i % it->grid.warps);
        while (w->task->state != SIM_OVER)
            sim_wait(&w->task->joiners, SIM_NEVER, "a kernel");
        sim_clock_join(&r->seen, &w->seen);
        sim_clock_join(&r->over, &w->over);
        sim_clock_join(&r->over, &w->soon);
        sim_clock_join(&r->over, &w->soon_rank);
    }
    free(blocks);
    e->launched++;
    sim_wake_all(&e->moved);
}

/* Which operation a launch is part of, and what its route should be. */
static void describe(struct engine *e, struct sim_launch *l)
{
    struct rank *r = ranks + e->rank;
    const union sim_args *a = l->args;
    const struct sy_dev_route *route = route_of(l);
    uint32_t send = 1;
    l->channel = SY_CHANNELS;
    if (l->kernel == SY_KERNEL_route) {
        l->channel = a->route.only_ids ? SY_CHANNELS : SY_CH_ROUTE;
    } else if (l->kernel == SY_KERNEL_tdispatch) {
        l->channel = SY_CH_TDISPATCH;
        send = a->tdispatch.send;
    } else if (l->kernel == SY_KERNEL_ldispatch) {
        l->channel = SY_CH_LDISPATCH;
        send = a->ldispatch.send;
    } else if (l->kernel == SY_KERNEL_combine) {
        l->channel = route->latency ? SY_CH_LCOMBINE : SY_CH_TCOMBINE;
        send = a->combine.send;
    }
    l->d = &a->route.d; /* every kernel's arguments begin with it */
    r->dev = l->d;
    l->truth = route ? sim_truth_of(e->rank, route->memory) : NULL;
    if (l->channel == SY_CHANNELS)
        return;
    r->epoch[l->channel] += send;
    l->epoch = r->epoch[l->channel];
    if (l->epoch > r->launch_room[l->channel]) {
        r->launch_room[l->channel] = 2 * l->epoch + 16;
        r->launch[l->channel] =
            realloc(r->launch[l->channel], r->launch_room[l->channel] * sizeof l);
        SY_ASSERT(r->launch[l->channel]);
    }
    if (send)
        r->launch[l->channel][l->epoch - 1] = l;
}

static struct sim_launch *new_launch(struct engine *e, enum sy_kernel kernel, const void *args)
{
    struct sim_launch *l = calloc(1, sizeof *l);
    SY_ASSERT(l);
    if (launch_count >= launch_room) {
        launch_room = 2 * launch_room + 64;
        launches = realloc(launches, launch_room * sizeof *launches);
        SY_ASSERT(launches);
    }
    l->id = launch_count;
    launches[launch_count++] = l;
    l->rank = e->rank;
    l->kernel = (int)kernel;
    l->args = args;
    describe(e, l);
    return l;
}

/* --- streams ---------------------------------------------------------------------------------- */

static struct engine *engine_of(struct sy_rt *rt)
{
    return (struct engine *)rt;
}

static sy_stream *stream_or_own(struct sy_rt *rt, sy_stream *stream)
{
    return stream ? stream : engine_of(rt)->own;
}

static void run_item(struct engine *e, struct item *it)
{
    switch (it->kind) {
    case ITEM_LAUNCH:
        run_launch(e, it);
        break;
    case ITEM_CALL:
        it->fn(it->context);
        break;
    case ITEM_RECORD:
        if (it->number > it->event->happened) { /* streams may reach recordings in any order */
            it->event->happened = it->number;
            it->event->time_ns = sim_now_ns();
        }
        it->event->users--;
        break;
    case ITEM_WAIT:
        while (it->event->happened < it->number)
            sim_wait(&e->moved, SIM_NEVER, "an event");
        it->event->users--;
        break;
    }
}

static void stream_main(void *context)
{
    sy_stream *s = context;
    for (;;) {
        struct item *it;
        while (!s->first && !s->stop)
            sim_wait(&s->engine->moved, SIM_NEVER, "work");
        if (!s->first)
            return;
        it = s->first;
        s->first = it->next;
        if (!s->first)
            s->last = &s->first;
        run_item(s->engine, it);
        free(it);
        s->done++;
        sim_wake_all(&s->engine->moved);
        sim_point();
    }
}

static struct item *place(sy_stream *s, enum item_kind kind)
{
    struct item *it = calloc(1, sizeof *it);
    SY_ASSERT(it);
    it->kind = kind;
    *s->last = it;
    s->last = &it->next;
    s->put++;
    sim_wake_all(&s->engine->moved);
    return it;
}

static void put_event(sy_stream *s, sy_event *event, enum item_kind kind, uint64_t number)
{
    struct item *it = place(s, kind);
    it->event = event;
    it->number = number;
    event->users++;
}

static sy_status sim_launch(struct sy_rt *rt, sy_stream *stream, enum sy_kernel kernel,
                            const struct sy_grid *grid, const void *args, size_t bytes,
                            sy_event *done)
{
    struct engine *e = engine_of(rt);
    union sim_args *copy = calloc(1, sizeof *copy);
    struct item *it = place(stream_or_own(rt, stream), ITEM_LAUNCH);
    SY_ASSERT(copy && bytes <= sizeof *copy);
    SY_ASSERT(grid->blocks <= config.blocks_max && grid->warps <= config.warps_max);
    SY_ASSERT(grid->shared_bytes <= e->shared_bytes);
    if (SIM_PLANTED(ALLOC_IN_ROUND))
        sy_os->free(sy_os->alloc(64, 16));
    memcpy(copy, args, bytes);
    if (SIM_PLANTED(NULL_TABLE))
        copy->route.d.peers = NULL;
    it->grid = *grid;
    it->args = copy;
    it->number = e->launches++;
    it->launch = new_launch(e, kernel, copy);
    put_event(stream_or_own(rt, stream), done, ITEM_RECORD, ++done->recordings);
    sim_point();
    return SY_OK;
}

static sy_status sim_call(struct sy_rt *rt, sy_stream *stream, void (*fn)(void *), void *context)
{
    struct item *it = place(stream_or_own(rt, stream), ITEM_CALL);
    it->fn = fn;
    it->context = context;
    return SY_OK;
}

static sy_status sim_stream_create(struct sy_rt *rt, sy_stream **out)
{
    sy_stream *s = sy_zalloc(sizeof *s);
    SY_ASSERT(s);
    s->handle.rt = rt;
    s->engine = engine_of(rt);
    s->last = &s->first;
    s->task = sim_spawn(NULL, s->engine->rank, SIM_HOST, stream_main, s, "stream");
    *out = s;
    return SY_OK;
}

static void sim_stream_destroy(struct sy_rt *rt, sy_stream *s)
{
    (void)rt;
    if (!s)
        return;
    s->stop = 1;
    sim_wake_all(&s->engine->moved);
    while (s->task->state != SIM_OVER)
        sim_wait(&s->task->joiners, SIM_NEVER, "a stream to end");
    sy_os->free(s);
}

static sy_status sim_stream_sync(struct sy_rt *rt, sy_stream *stream)
{
    sy_stream *s = stream_or_own(rt, stream);
    uint64_t upto = s->put;
    while (s->done < upto)
        sim_wait(&s->engine->moved, SIM_NEVER, "a stream");
    return SY_OK;
}

static sy_status sim_stream_query(struct sy_rt *rt, sy_stream *stream)
{
    const sy_stream *s = stream_or_own(rt, stream);
    sim_point();
    return s->done == s->put ? SY_OK : SY_NOT_READY;
}

/* --- events ----------------------------------------------------------------------------------- */

static sy_status sim_event_create(struct sy_rt *rt, int timed, sy_event **out)
{
    sy_event *event = sy_zalloc(sizeof *event);
    (void)timed;
    SY_ASSERT(event);
    event->handle.rt = rt;
    event->engine = engine_of(rt);
    *out = event;
    return SY_OK;
}

static void sim_event_destroy(struct sy_rt *rt, sy_event *event)
{
    if (!event)
        return;
    while (event->users)
        sim_wait(&engine_of(rt)->moved, SIM_NEVER, "an event's users");
    sy_os->free(event);
}

static sy_status sim_event_record(struct sy_rt *rt, sy_event *event, sy_stream *stream)
{
    put_event(stream_or_own(rt, stream), event, ITEM_RECORD, ++event->recordings);
    return SY_OK;
}

static sy_status sim_stream_wait(struct sy_rt *rt, sy_stream *stream, sy_event *event)
{
    put_event(stream_or_own(rt, stream), event, ITEM_WAIT, event->recordings);
    return SY_OK;
}

static sy_status sim_event_sync(struct sy_rt *rt, sy_event *event)
{
    uint64_t number = event->recordings;
    while (event->happened < number)
        sim_wait(&engine_of(rt)->moved, SIM_NEVER, "an event");
    return SY_OK;
}

static sy_status sim_event_query(struct sy_rt *rt, sy_event *event)
{
    (void)rt;
    sim_point();
    return event->happened == event->recordings ? SY_OK : SY_NOT_READY;
}

static sy_status sim_event_elapsed(struct sy_rt *rt, sy_event *begin, sy_event *end, uint64_t *ns)
{
    (void)rt;
    if (!begin->happened || !end->happened || begin->happened != begin->recordings ||
        end->happened != end->recordings)
        return SY_NOT_READY;
    *ns = end->time_ns > begin->time_ns ? end->time_ns - begin->time_ns : 0;
    return SY_OK;
}

/* --- the engine ------------------------------------------------------------------------------- */

static void *sim_rt_alloc(struct sy_rt *rt, size_t bytes)
{
    sim_no_round("allocates device memory");
    return sim_take(engine_of(rt)->rank, SIM_PRIVATE, 0, bytes, SIM_DEFINED);
}

static void sim_rt_free(struct sy_rt *rt, void *memory, size_t bytes)
{
    (void)rt;
    sim_give(memory, bytes);
}

static sy_status sim_rt_read(struct sy_rt *rt, void *to, const void *from, size_t bytes)
{
    (void)rt;
    sim_point();
    memcpy(to, from, bytes);
    return SY_OK;
}

static sy_status sim_rt_write(struct sy_rt *rt, void *to, const void *from, size_t bytes)
{
    memcpy(to, from, bytes);
    sim_host_wrote(engine_of(rt)->rank, to, bytes);
    return SY_OK;
}

static void sim_rt_poke(struct sy_rt *rt, sy_u32 *word, sy_u32 value)
{
    (void)rt;
    sim_point();
    *word = value;
    sim_word_changed(word);
}

static void sim_rt_finish(struct sy_rt *rt)
{
    struct engine *e = engine_of(rt);
    while (e->launched < e->launches)
        sim_wait(&e->moved, SIM_NEVER, "all launches");
}

static void sim_rt_close(struct sy_rt *rt)
{
    struct engine *e = engine_of(rt);
    sim_stream_destroy(rt, e->own);
    for (uint32_t b = 0; b < config.blocks_max; b++)
        sim_give(e->shared[b], e->shared_bytes);
    sy_os->free(e->shared);
    sy_os->free(e);
}

static sy_status sim_rt_open(const struct sy_rt_config *c, struct sy_rt **out)
{
    struct engine *e = sy_zalloc(sizeof *e);
    SY_ASSERT(e);
    e->rt.ops = &sy_rt_cpu;
    e->rank = sim_current->rank;
    e->shared_bytes = (c->shared_bytes + 127) / 128 * 128;
    e->shared = sy_zalloc(config.blocks_max * sizeof *e->shared);
    SY_ASSERT(e->shared);
    for (uint32_t b = 0; b < config.blocks_max; b++)
        e->shared[b] = sim_take(e->rank, SIM_SHARED, (uint8_t)b, e->shared_bytes, SIM_DEFINED);
    SY_TRY(sim_stream_create(&e->rt, &e->own));
    *out = &e->rt;
    return SY_OK;
}

#define OPS(called)                                                                                \
    {                                                                                              \
        .name = called, .open = sim_rt_open, .finish = sim_rt_finish, .close = sim_rt_close,       \
        .alloc = sim_rt_alloc, .free = sim_rt_free, .alloc_host = sim_rt_alloc,                    \
        .free_host = sim_rt_free, .read = sim_rt_read, .write = sim_rt_write, .poke = sim_rt_poke, \
        .stream_create = sim_stream_create, .stream_destroy = sim_stream_destroy,                  \
        .stream_sync = sim_stream_sync, .stream_query = sim_stream_query,                          \
        .stream_wait = sim_stream_wait, .call = sim_call, .launch = sim_launch,                    \
        .event_create = sim_event_create, .event_destroy = sim_event_destroy,                      \
        .event_record = sim_event_record, .event_sync = sim_event_sync,                            \
        .event_query = sim_event_query, .event_elapsed = sim_event_elapsed,                        \
    }

const struct sy_rt_ops sy_rt_cpu = OPS("simulator, as a CPU");
const struct sy_rt_ops sy_rt_cuda = OPS("simulator, as a GPU");

/* --- what else the library asks of engines ---------------------------------------------------- */

const sy_cpu_kernel *sy_cpu_kernels_pick(const char **name)
{
    *name = "the simulator";
    return NULL;
}

int sy_cuda_devices(void)
{
    return 1;
}

void sy_cuda_query(sy_engine_info *info)
{
    info->available = 1;
    info->devices = 1;
}

/* As a GPU it has few multiprocessors, and room for whatever the seed wants. */
sy_status sy_cuda_look(int32_t rank, struct sy_cuda_look *look)
{
    memset(look, 0, sizeof *look);
    look->sm = 90;
    memcpy(look->uuid.bytes, &rank, sizeof rank); /* each has its own */
    look->sms = (int32_t)config.blocks_max;
    look->shared_max = config.shared_max;
    return SY_OK;
}

const struct sy_gpu *sy_rt_cuda_gpu(struct sy_rt *rt)
{
    (void)rt;
    return NULL;
}

static sy_status vmm_make(struct sy_heap *heap, struct sy_boot *boot)
{
    return sy_heap_shm.make(heap, boot);
}

static sy_status vmm_join(struct sy_heap *heap, struct sy_boot *boot, struct sy_mesh *mesh)
{
    return sy_heap_shm.join(heap, boot, mesh);
}

static void vmm_close(struct sy_heap *heap)
{
    sy_heap_shm.close(heap);
}

const struct sy_heap_ops sy_heap_vmm = {.make = vmm_make, .join = vmm_join, .close = vmm_close};
