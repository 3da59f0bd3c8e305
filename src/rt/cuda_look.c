/* cuda_look.c - what there is: GPUs, driver, compiler. See cuda_engine.h. */
#include <stdio.h>
#include <string.h>

#include "cuda_engine.h"
#include "jit.h"
#include "layout/shape.h"

int sy_cuda_devices(void)
{
    const struct sy_cuda_api *api;
    int count = 0;
    if (sy_cuda_load(&api) != SY_OK || api->cuDeviceGetCount(&count) != SY_CU_SUCCESS)
        return 0;
    return count;
}

static sy_status look_at(const struct sy_cuda_api *api, int device, struct sy_cuda_look *look)
{
    int major = 0, minor = 0, shared = 0;
    memset(look, 0, sizeof *look);
    look->device = device;
    SY_TRY(SY_CU(api, cuDriverGetVersion, &look->driver));
    SY_TRY(SY_CU(api, cuDeviceGetName, look->name, (int)sizeof look->name, device));
    SY_TRY(SY_CU(api, cuDeviceGetAttribute, &major, SY_CU_ATTR_MAJOR, device));
    SY_TRY(SY_CU(api, cuDeviceGetAttribute, &minor, SY_CU_ATTR_MINOR, device));
    SY_TRY(SY_CU(api, cuDeviceGetAttribute, &look->sms, SY_CU_ATTR_SMS, device));
    SY_TRY(SY_CU(api, cuDeviceGetAttribute, &shared, SY_CU_ATTR_SHARED_MAX, device));
    SY_TRY(SY_CU(api, cuDeviceGetAttribute, &look->pools, SY_CU_ATTR_POOLS, device));
    SY_TRY(SY_CU(api, cuDeviceGetUuid_v2, &look->uuid, device));
    look->sm = major * 10 + minor;
    /* What the alignment of a block's shared memory may cost. */
    look->shared_max = shared > (int)SY_SH_ALIGN ? (uint64_t)shared - SY_SH_ALIGN : 0;
    if (major < SY_CUDA_MAJOR_LEAST)
        return sy_fail(SY_UNSUPPORTED, "GPU %d (%s) has compute capability %d.%d; %d.0 is needed",
                       device, look->name, major, minor, SY_CUDA_MAJOR_LEAST);
    return SY_OK;
}

sy_status sy_cuda_look(int32_t rank, struct sy_cuda_look *look)
{
    const struct sy_cuda_api *api;
    int device;
    SY_TRY(sy_cuda_load(&api));
    SY_TRY(sy_gpu_choose(api, rank, &device));
    return look_at(api, device, look);
}

/* The first of them stands for all. */
void sy_cuda_query(sy_engine_info *info)
{
    struct sy_cuda_look look;
    struct sy_jit_target target = {0};
    char kernels[80];
    snprintf(info->name, sizeof info->name, "CUDA");
    info->devices = sy_cuda_devices();
    if (sy_cuda_look(0, &look) != SY_OK) {
        snprintf(info->detail, sizeof info->detail, "%s", sy_last_error());
        return;
    }
    target.sm = look.sm;
    target.driver = look.driver / 1000;
    info->available = sy_jit_check(&target, kernels, sizeof kernels) == SY_OK;
    snprintf(info->name, sizeof info->name, "%s", look.name);
    snprintf(info->detail, sizeof info->detail,
             "%d GPUs, the first with sm_%d and %d SMs; driver for CUDA %d.%d; %s",
             (int)info->devices, look.sm, look.sms, look.driver / 1000, look.driver % 1000 / 10,
             kernels);
}
