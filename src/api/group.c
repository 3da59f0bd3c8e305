/* group.c - making and leaving groups, and what stands against using one.
 *
 * Sections: faults | opening | closing. What a configuration means is in config.c. */
#include "group.h"

#include <string.h>

#include "boot/boot.h"
#include "boot/mesh.h"
#include "config.h"

/* How often the watching thread looks for what kernels have reported. */
#define LOOK_MS 20

/* --- faults --------------------------------------------------------------------------------- */

/* Makes this rank's kernels leave. */
static void stop_kernels(sy_group *group)
{
    sy_u32 *stop = (sy_u32 *)(group->dev.heap + group->dev.at.stop);
    __atomic_store_n(stop, 1u, __ATOMIC_RELEASE);
}

static void spread_vote(void *context, const struct sy_fault_record *vote)
{
    sy_group *group = context;
    sy_fault fault;
    stop_kernels(group);
    sy_mesh_tell(group->mesh, vote, sizeof *vote);
    sy_jury_describe(vote, group->plan.timeout_ns, &fault);
    sy_log(&group->log, SY_LOG_ERROR, "%s", fault.text);
}

/* Has a kernel of any rank told this one something? */
static void look_for_faults(sy_group *group)
{
    const sy_u32 *stop = (const sy_u32 *)(group->dev.heap + group->dev.at.stop);
    const struct sy_fault_record *records =
        (const struct sy_fault_record *)(group->dev.heap + group->dev.at.fault);
    struct sy_fault_record record;
    if (!__atomic_load_n(stop, __ATOMIC_ACQUIRE))
        return;
    for (uint32_t p = 0; p < group->dev.ranks; p++) {
        if (!__atomic_load_n(&records[p].what, __ATOMIC_ACQUIRE))
            continue;
        record = records[p];
        record.reporter = p; /* written by p, whatever it says */
        sy_jury_blame(&group->jury, &record);
        return;
    }
}

static void peer_gone(void *context, int rank, int died)
{
    sy_group *group = context;
    sy_jury_gone(&group->jury, (uint32_t)rank, died ? SY_GONE_DIED : SY_GONE_LEFT);
}

static void peer_told(void *context, int rank, const void *data, size_t bytes)
{
    sy_group *group = context;
    struct sy_fault_record vote;
    if (bytes != sizeof vote)
        return;
    memcpy(&vote, data, sizeof vote);
    sy_jury_vote(&group->jury, (uint32_t)rank, &vote);
}

static void tick(void *context)
{
    look_for_faults(context);
}

/* Ids out of range are reported once, and the group goes on. */
static sy_status take_notice(sy_group *group, sy_fault *fault)
{
    const struct sy_notice *notice =
        (const struct sy_notice *)(group->dev.mine + group->dev.in.notice);
    struct sy_notice copy;
    char text[256];
    size_t size = fault ? fault->size : 0;
    int news;
    group->rt->ops->read(group->rt, &copy, notice, sizeof copy);
    pthread_mutex_lock(&group->lock);
    news = copy.seq != group->notices;
    group->notices = copy.seq;
    pthread_mutex_unlock(&group->lock);
    if (!news)
        return SY_OK;
    sy_fail(SY_BAD_ROUTE, "rank %u, token %u, k %u: %d is no expert (0 to %u); it counted as -1",
            copy.rank, copy.token, copy.slot, (int)copy.value, group->dev.experts - 1);
    if (fault) {
        strncpy(text, sy_last_error(), sizeof text - 1);
        text[sizeof text - 1] = 0;
        memset(fault, 0, sizeof *fault);
        fault->size = size;
        fault->status = SY_BAD_ROUTE;
        fault->culprit = (int32_t)copy.rank;
        fault->reporter = (int32_t)copy.rank;
        memcpy(fault->text, text, sizeof text);
    }
    return SY_BAD_ROUTE;
}

sy_status sy_group_poll(sy_group *group, sy_fault *fault)
{
    sy_fault verdict;
    sy_status status;
    SY_NEED(group, "sy_group_poll: NULL");
    SY_NEED(!fault || fault->size >= sizeof *fault, "sy_group_poll: the fault's size is not set");
    look_for_faults(group);
    status = sy_jury_get(&group->jury, 0, &verdict);
    if (status == SY_NOT_READY)
        status = SY_OK; /* it will be known in milliseconds */
    if (fault) {
        verdict.size = fault->size;
        *fault = verdict;
    }
    if (status != SY_OK)
        return sy_fail(status, "%s", verdict.text);
    return take_notice(group, fault);
}

sy_status sy_group_usable(sy_group *group, const char *call)
{
    sy_fault fault;
    sy_status status;
    int32_t left;
    look_for_faults(group);
    status = sy_jury_get(&group->jury, 1, &fault);
    if (status != SY_OK)
        return sy_fail(status, "%s: the group is lost: %s", call, fault.text);
    left = sy_jury_left(&group->jury);
    if (left >= 0)
        return sy_fail(SY_PEER_LOST, "%s: rank %d has left the group", call, (int)left);
    return SY_OK;
}

sy_status sy_group_outcome(sy_group *group, const char *call)
{
    sy_fault fault;
    sy_status status;
    look_for_faults(group);
    status = sy_jury_get(&group->jury, 1, &fault);
    if (status != SY_OK)
        return sy_fail(status, "%s: %s", call, fault.text);
    return take_notice(group, NULL);
}

sy_status sy_group_abort(sy_group *group)
{
    struct sy_fault_record record;
    SY_NEED(group, "sy_group_abort: NULL");
    memset(&record, 0, sizeof record);
    record.what = SY_FAULT_ABORT;
    record.culprit = record.reporter = group->dev.rank;
    sy_jury_blame(&group->jury, &record);
    return SY_OK;
}

/* --- opening -------------------------------------------------------------------------------- */

/* Tables that kernels read: peers, owner of each expert, first expert of each rank. */
static sy_status make_tables(sy_group *group)
{
    const struct sy_limits *m = &group->plan.limits;
    size_t peers = sizeof(sy_u8 *) * m->ranks, owner = sizeof(sy_u32) * m->experts;
    size_t firsts = sizeof(sy_u32) * (m->ranks + 1);
    sy_u8 **peer_table;
    sy_u32 *owner_table, *first_table;
    group->tables_bytes = peers + owner + firsts;
    group->tables = group->rt->ops->alloc(group->rt, group->tables_bytes);
    if (!group->tables)
        return sy_fail(SY_NO_MEMORY, "%zu bytes for tables", group->tables_bytes);
    peer_table = (sy_u8 **)(void *)group->tables;
    owner_table = (sy_u32 *)(void *)(group->tables + peers);
    first_table = (sy_u32 *)(void *)(group->tables + peers + owner);
    for (uint32_t r = 0; r <= m->ranks; r++) {
        first_table[r] = (sy_u32)group->plan.firsts[r];
        if (r == m->ranks)
            break;
        peer_table[r] = group->heap.base[r];
        for (int32_t e = group->plan.firsts[r]; e < group->plan.firsts[r + 1]; e++)
            owner_table[e] = r;
    }
    group->dev.peers = peer_table;
    group->dev.owner = owner_table;
    group->dev.firsts = first_table;
    return SY_OK;
}

static sy_status make_dev(sy_group *group)
{
    const struct sy_plan *plan = &group->plan;
    const struct sy_limits *m = &plan->limits;
    struct sy_dev *d = &group->dev;
    d->rank = (sy_u32)plan->rank;
    d->ranks = (sy_u32)m->ranks;
    d->experts = (sy_u32)m->experts;
    d->local_max = (sy_u32)m->local_max;
    d->first = (sy_u32)plan->firsts[plan->rank];
    d->local = (sy_u32)(plan->firsts[plan->rank + 1] - plan->firsts[plan->rank]);
    d->tokens_max = (sy_u32)m->tokens_max;
    d->lat_tokens_max = (sy_u32)m->lat_tokens_max;
    d->fan_max = (sy_u32)m->fan_max;
    d->topk_max = (sy_u32)m->topk_max;
    d->td_chunks = (sy_u32)m->td_chunks;
    d->tc_chunks = (sy_u32)m->tc_chunks;
    d->meta_words = (sy_u32)m->meta_words;
    d->lat_views = (sy_u32)m->lat_views;
    d->timeout_ns = plan->timeout_ns;
    d->heap_bytes = plan->heap.bytes;
    d->heap = group->heap.base[plan->rank];
    d->at = plan->heap;
    d->in = plan->local;
    d->mine = group->rt->ops->alloc(group->rt, plan->local.bytes);
    if (!d->mine)
        return sy_fail(SY_NO_MEMORY, "%llu bytes of private memory",
                       (unsigned long long)plan->local.bytes);
    return make_tables(group);
}

static sy_status open_engine(sy_group *group)
{
    struct sy_rt_config config = {group->plan.threads, (int32_t)group->plan.limits.ranks,
                                  group->plan.params.cpu_idle_spins, group->plan.shared_bytes,
                                  group->plan.config.allocator};
    return sy_rt_cpu.open(&config, &group->rt);
}

/* All that needs no peer. */
static sy_status open_local(sy_group *group)
{
    SY_TRY(open_engine(group));
    if (sy_ualloc_open(&group->user, group->plan.limits.user_bytes))
        return sy_fail(SY_NO_MEMORY, "the book of sy_alloc()");
    return make_dev(group);
}

/* Everything after the ranks have found each other. Each step that can fail on one rank alone ends
 * in an agreement, so that no rank waits for one that has given up. */
static sy_status open_group(sy_group *group, struct sy_boot *boot)
{
    const struct sy_plan *plan = &group->plan;
    SY_TRY(sy_plan_agree(plan, boot));
    SY_TRY(sy_mesh_open(boot, plan->timeout_ns, &group->mesh));
    SY_TRY(sy_boot_agree(boot, sy_heap_shm_open(&group->heap, group->mesh, (uint32_t)plan->rank,
                                                (uint32_t)plan->ranks, plan->heap.bytes)));
    SY_TRY(sy_boot_agree(boot, open_local(group)));
    return sy_boot_agree(boot, sy_mesh_watch(group->mesh, &(struct sy_mesh_events){
                                                              .context = group,
                                                              .gone = peer_gone,
                                                              .told = peer_told,
                                                              .tick = tick,
                                                              .tick_ms = LOOK_MS,
                                                          }));
}

/* --- closing -------------------------------------------------------------------------------- */

/* In any state of having been opened. */
static void close_group(sy_group *group)
{
    if (group->rt) {
        group->rt->ops->stream_sync(group->rt, NULL);
        group->rt->ops->free(group->rt, group->tables, group->tables_bytes);
        group->rt->ops->free(group->rt, group->dev.mine, group->plan.local.bytes);
        group->rt->ops->close(group->rt);
    }
    sy_mesh_close(group->mesh);
    sy_ualloc_close(&group->user);
    sy_heap_close(&group->heap);
    if (group->jury.votes)
        sy_jury_close(&group->jury);
    sy_plan_close(&group->plan);
    pthread_mutex_destroy(&group->lock);
    sy_os->free(group);
}

sy_status sy_group_create(const sy_group_config *config, sy_group **out)
{
    struct sy_boot *boot = NULL;
    sy_group *group;
    sy_status status;
    SY_NEED(out, "sy_group_create: NULL");
    group = sy_zalloc(sizeof *group);
    if (!group)
        return sy_fail(SY_NO_MEMORY, "a group");
    pthread_mutex_init(&group->lock, NULL);
    SY_TRY_TO(done, sy_plan_open(&group->plan, config));
    group->log.fn = config->log;
    group->log.context = config->log_context;
    group->log.level =
        config->log_level ? config->log_level : (int32_t)group->plan.params.log_level;
    group->log.rank = group->plan.rank;
    SY_TRY_TO(done, sy_jury_open(&group->jury, (uint32_t)group->plan.rank,
                                    (uint32_t)group->plan.ranks, group->plan.timeout_ns));
    group->jury.spread = spread_vote;
    group->jury.context = group;
    SY_TRY_TO(done, sy_boot_open(&group->plan.config, &boot));
    status = open_group(group, boot);
done:
    sy_boot_close(boot);
    if (status != SY_OK) {
        close_group(group);
        return sy_fail_in(status, "sy_group_create");
    }
    sy_log(&group->log, SY_LOG_INFO, "a group of %d ranks, engine %s, heap %llu MiB",
           group->plan.ranks, group->rt->ops->name,
           (unsigned long long)(group->plan.heap.bytes >> 20));
    *out = group;
    return SY_OK;
}

sy_status sy_group_destroy(sy_group *group)
{
    if (!group)
        return SY_OK;
    if (group->objects)
        return sy_fail(SY_STATE, "sy_group_destroy: %lld routes, streams or events are alive",
                       (long long)group->objects);
    close_group(group);
    return SY_OK;
}
