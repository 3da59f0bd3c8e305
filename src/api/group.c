/* group.c - making and leaving groups. What a configuration means is in config.c, what becomes of
 * a group in which something fails in faults.c. */
#include "group.h"

#include <stdio.h>
#include <string.h>

#include "base/nvtx.h"
#include "boot/boot.h"
#include "boot/mesh.h"
#include "config.h"
#include "rt/cuda_engine.h"

/* --- opening -------------------------------------------------------------------------------- */

/* Tables that kernels read: peers, owner of each expert, first expert of each rank. */
static sy_status make_tables(sy_group *group)
{
    const struct sy_limits *m = &group->plan.limits;
    size_t peers = sizeof(sy_u8 *) * m->ranks, owner = sizeof(sy_u32) * m->experts;
    size_t firsts = sizeof(sy_u32) * (m->ranks + 1);
    sy_u8 **peer_table, *copy;
    sy_u32 *owner_table, *first_table;
    sy_status status;
    group->tables_bytes = peers + owner + firsts;
    group->tables = group->rt->ops->alloc(group->rt, group->tables_bytes);
    if (!group->tables)
        return sy_fail_in(SY_NO_MEMORY, "tables of kernels");
    copy = sy_zalloc(group->tables_bytes);
    if (!copy)
        return sy_fail(SY_NO_MEMORY, "%zu bytes for tables", group->tables_bytes);
    peer_table = (sy_u8 **)(void *)copy;
    owner_table = (sy_u32 *)(void *)(copy + peers);
    first_table = (sy_u32 *)(void *)(copy + peers + owner);
    for (uint32_t r = 0; r <= m->ranks; r++) {
        first_table[r] = (sy_u32)group->plan.firsts[r];
        if (r == m->ranks)
            break;
        peer_table[r] = group->heap.base[r];
        for (int32_t e = group->plan.firsts[r]; e < group->plan.firsts[r + 1]; e++)
            owner_table[e] = r;
    }
    status = group->rt->ops->write(group->rt, group->tables, copy, group->tables_bytes);
    sy_os->free(copy);
    group->dev.peers = (sy_u8 *const *)(void *)group->tables;
    group->dev.owner = (const sy_u32 *)(void *)(group->tables + peers);
    group->dev.firsts = (const sy_u32 *)(void *)(group->tables + peers + owner);
    return status;
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
    d->books = (sy_u32)m->books;
    d->told_words = (sy_u32)m->told_words;
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
    d->owner_scale = plan->even ? (1ull << 32) / d->local_max + 1 : 0;
    d->heap_bytes = plan->heap.bytes;
    d->heap = group->heap.base[plan->rank];
    d->at = plan->heap;
    d->in = plan->local;
    d->mine = group->rt->ops->alloc(group->rt, plan->local.bytes);
    d->report = group->rt->ops->alloc_host(group->rt, sizeof *d->report);
    if (!d->mine || !d->report)
        return sy_fail_in(SY_NO_MEMORY, "private memory");
    return make_tables(group);
}

static sy_status open_engine(sy_group *group)
{
    const struct sy_plan *plan = &group->plan;
    const int cuda = plan->engine == SY_ENGINE_CUDA;
    struct sy_rt_config config = {.rank = plan->rank,
                                  .threads = plan->threads,
                                  .ranks = (int32_t)plan->limits.ranks,
                                  .idle_spins = plan->params.cpu_idle_spins,
                                  .shared_bytes = plan->shared_bytes,
                                  .shared_gpu = plan->sharing > 1,
                                  .params = &plan->params,
                                  .allocator = plan->config.allocator};
    SY_TRY((cuda ? &sy_rt_cuda : &sy_rt_cpu)->open(&config, &group->rt));
    group->heap.ops = cuda ? &sy_heap_vmm : &sy_heap_shm;
    group->heap.rank = (uint32_t)plan->rank;
    group->heap.ranks = (uint32_t)plan->ranks;
    group->heap.bytes = plan->heap.bytes;
    group->heap.gpu = cuda ? sy_rt_cuda_gpu(group->rt) : NULL;
    group->heap.way = plan->params.heap;
    return SY_OK;
}

/* The rest that needs no peer. */
static sy_status open_local(sy_group *group)
{
    if (sy_ualloc_open(&group->user, group->plan.limits.user_bytes))
        return sy_fail(SY_NO_MEMORY, "the book of sy_alloc()");
    return make_dev(group);
}

/* Everything after the ranks have found each other. Each step that can fail on one rank alone ends
 * in an agreement, so that no rank waits for one that has given up. */
static sy_status open_group(sy_group *group, struct sy_boot *boot)
{
    struct sy_plan *plan = &group->plan;
    SY_TRY(sy_plan_agree(plan, boot));
    SY_TRY(sy_mesh_open(boot, 0, &group->mesh));
    SY_TRY(sy_boot_agree(boot, open_engine(group)));
    SY_TRY(sy_boot_agree(boot, group->heap.ops->make(&group->heap, boot)));
    SY_TRY(sy_boot_agree(boot, group->heap.ops->join(&group->heap, boot, group->mesh)));
    SY_TRY(sy_boot_agree(boot, open_local(group)));
    return sy_boot_agree(boot, sy_faults_watch(group));
}

/* Finds the other ranks, also if this one has failed already, which `local` says: they hear why. */
static sy_status meet(const struct sy_plan *plan, sy_status local, struct sy_boot **boot)
{
    char why[SY_ERROR_TEXT];
    sy_status status;
    snprintf(why, sizeof why, "%s", sy_last_error());
    if (!plan->ranks)
        return local; /* nobody knows who the others are */
    status = sy_boot_open(&plan->config, boot);
    if (local != SY_OK)
        sy_fail(local, "%s", why);
    if (status == SY_OK)
        return sy_boot_agree(*boot, local);
    return local == SY_OK ? status : local;
}

static void open_log(sy_group *group)
{
    const sy_group_config *config = &group->plan.config;
    group->log.fn = config->log;
    group->log.context = config->log_context;
    group->log.level =
        config->log_level ? config->log_level : (int32_t)group->plan.params.log_level;
    group->log.rank = group->plan.rank;
}

/* --- closing -------------------------------------------------------------------------------- */

/* In any state of having been opened. The mesh's thread uses the engine and what it can reach, so
 * it goes first. */
static void close_group(sy_group *group)
{
    struct sy_rt *rt = group->rt;
    if (rt)
        rt->ops->finish(rt);
    sy_mesh_close(group->mesh);
    if (rt) {
        rt->ops->free(rt, group->tables, group->tables_bytes);
        rt->ops->free(rt, group->dev.mine, group->plan.local.bytes);
        rt->ops->free_host(rt, group->dev.report, sizeof *group->dev.report);
    }
    if (group->heap.ops)
        group->heap.ops->close(&group->heap);
    if (rt)
        rt->ops->close(rt);
    sy_ualloc_close(&group->user);
    sy_faults_close(group);
    sy_plan_close(&group->plan);
    pthread_cond_destroy(&group->arrival);
    pthread_mutex_destroy(&group->lock);
    pthread_mutex_destroy(&group->order);
    sy_os->free(group);
}

static sy_status create_group(const sy_group_config *config, sy_group **out)
{
    struct sy_boot *boot = NULL;
    sy_group *group;
    sy_status status;
    SY_NEED(out, "sy_group_create: NULL");
    group = sy_zalloc(sizeof *group);
    if (!group)
        return sy_fail(SY_NO_MEMORY, "a group");
    pthread_mutex_init(&group->lock, NULL);
    pthread_mutex_init(&group->order, NULL);
    pthread_cond_init(&group->arrival, NULL);
    status = sy_plan_open(&group->plan, config);
    if (status == SY_OK)
        status = sy_faults_open(group);
    status = meet(&group->plan, status, &boot);
    if (status == SY_OK) {
        open_log(group);
        status = open_group(group, boot);
    }
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

sy_status sy_group_create(const sy_group_config *config, sy_group **out)
{
    sy_nvtx_open();
    return SY_RANGE("sy_group_create", create_group(config, out));
}

static sy_status destroy_group(sy_group *group)
{
    if (!group)
        return SY_OK;
    if (group->objects)
        return sy_fail(SY_STATE, "sy_group_destroy: %lld routes, streams or events are alive",
                       (long long)group->objects);
    close_group(group);
    return SY_OK;
}

sy_status sy_group_destroy(sy_group *group)
{
    return SY_RANGE("sy_group_destroy", destroy_group(group));
}
