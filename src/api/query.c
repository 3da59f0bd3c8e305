/* query.c - questions that need no group, and those about one. */
#define _GNU_SOURCE /* sched_getaffinity */
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "config.h"
#include "rt/cpu_kernels.h"
#include "rt/cuda_engine.h"

#ifndef SY_BUILD_NAME
#define SY_BUILD_NAME "source"
#endif

#define TEXT2(x) #x
#define TEXT(x) TEXT2(x)

const char *sy_version(void)
{
    return TEXT(SY_VERSION_MAJOR) "." TEXT(SY_VERSION_MINOR) "." TEXT(SY_VERSION_PATCH) " (" //
        SY_BUILD_NAME ")";
}

int32_t sy_version_number(void)
{
    return SY_VERSION_MAJOR * 10000 + SY_VERSION_MINOR * 100 + SY_VERSION_PATCH;
}

static void query_cpu(sy_engine_info *info)
{
    const char *kernels;
    cpu_set_t set;
    info->available = 1;
    info->devices = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    sy_cpu_kernels_pick(&kernels);
    snprintf(info->name, sizeof info->name, "CPU");
    snprintf(info->detail, sizeof info->detail, "%d cores for this process, kernels for %s",
             (int)info->devices, kernels);
}

sy_status sy_engine_query(sy_engine engine, sy_engine_info *info)
{
    size_t size;
    SY_NEED(info && info->size >= sizeof *info,
            "sy_engine_query: NULL, or the info's size is not set");
    SY_NEED(engine >= SY_ENGINE_AUTO && engine <= SY_ENGINE_HIP, "engine %d", (int)engine);
    size = info->size;
    memset(info, 0, sizeof *info);
    info->size = size;
    info->engine = (int32_t)engine;
    if (engine == SY_ENGINE_AUTO)
        info->engine = sy_cuda_devices() > 0 ? SY_ENGINE_CUDA : SY_ENGINE_CPU;
    switch (info->engine) {
    case SY_ENGINE_CPU:
        query_cpu(info);
        break;
    case SY_ENGINE_CUDA:
        sy_cuda_query(info);
        break;
    default:
        snprintf(info->name, sizeof info->name, "HIP");
        snprintf(info->detail, sizeof info->detail,
                 "this version of the library has no HIP engine");
        break;
    }
    return SY_OK;
}

sy_status sy_group_info_get(const sy_group *group, sy_group_info *info)
{
    const struct sy_limits *m;
    size_t size;
    SY_NEED(group && info && info->size >= sizeof *info,
            "sy_group_info_get: NULL, or the info's size is not set");
    size = info->size;
    m = &group->plan.limits;
    memset(info, 0, sizeof *info);
    info->size = size;
    info->rank = group->plan.rank;
    info->ranks = group->plan.ranks;
    info->engine = group->plan.engine;
    info->experts = (int32_t)m->experts;
    info->experts_first = (int32_t)group->dev.first;
    info->experts_local = (int32_t)group->dev.local;
    info->cpu_threads = group->plan.threads;
    info->views = (int32_t)m->views;
    info->latency_views = (int32_t)m->lat_views;
    info->recv_rows_max = (int64_t)m->recv_rows_max;
    info->sizes.size = sizeof info->sizes;
    sy_plan_sizes(&group->plan, &info->sizes);
    return SY_OK;
}

/* --- memory that peers can write ------------------------------------------------------------ */

sy_status sy_alloc(sy_group *group, size_t bytes, void **pointer)
{
    uint64_t offset;
    SY_NEED(group && pointer && bytes, "sy_alloc: NULL, or no bytes");
    pthread_mutex_lock(&group->lock);
    offset = sy_ualloc_take(&group->user, bytes);
    pthread_mutex_unlock(&group->lock);
    if (offset == UINT64_MAX)
        return sy_fail(SY_NO_MEMORY, "sy_alloc: %zu bytes are not free in user_bytes (%llu)", bytes,
                       (unsigned long long)group->plan.limits.user_bytes);
    *pointer = group->dev.heap + group->dev.at.user + offset;
    return SY_OK;
}

sy_status sy_free(sy_group *group, void *pointer)
{
    uint64_t offset;
    int given;
    SY_NEED(group, "sy_free: NULL");
    if (!pointer)
        return SY_OK;
    offset = (uint64_t)((uint8_t *)pointer - group->dev.heap) - group->dev.at.user;
    pthread_mutex_lock(&group->lock);
    given = sy_ualloc_give(&group->user, offset);
    pthread_mutex_unlock(&group->lock);
    SY_NEED(given == 0, "sy_free: %p did not come from sy_alloc()", pointer);
    return SY_OK;
}
