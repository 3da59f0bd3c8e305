/* cuda_api.c - see cuda_api.h. Sections: errors | loading | the GPU of a rank. */
#include "cuda_api.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "os.h"

static pthread_mutex_t load_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sy_cuda_api driver;
static int looked; /* 1: the driver is there; -1: it is not */
static char missing[SY_ERROR_TEXT];

/* --- errors --------------------------------------------------------------------------------- */

static sy_status status_of(int result)
{
    switch (result) {
    case SY_CU_SUCCESS:
        return SY_OK;
    case SY_CU_OUT_OF_MEMORY:
        return SY_NO_MEMORY;
    case SY_CU_NOT_READY:
        return SY_NOT_READY;
    case SY_CU_NOT_SUPPORTED:
    case SY_CU_PEER_ACCESS_UNSUPPORTED:
        return SY_UNSUPPORTED;
    default:
        return SY_SYSTEM;
    }
}

sy_status sy_cuda_result(const struct sy_cuda_api *api, int result, const char *call)
{
    const char *name = NULL, *text = NULL, *version;
    int length;
    if (result == SY_CU_SUCCESS)
        return SY_OK;
    api->cuGetErrorName(result, &name);
    api->cuGetErrorString(result, &text);
    version = strstr(call, "_v2"); /* of the symbol, which nobody calls it by */
    length = (int)(version ? (size_t)(version - call) : strlen(call));
    return sy_fail(status_of(result), "%.*s: %s (%s, %d)", length, call,
                   text ? text : "unknown error", name ? name : "?", result);
}

/* --- loading -------------------------------------------------------------------------------- */

static sy_status find_symbols(void *library)
{
    static const struct {
        const char *name;
        size_t offset;
    } symbols[] = {
#define SY_CUDA(name, parameters) {#name, offsetof(struct sy_cuda_api, name)},
#include "cuda_api.def"
#undef SY_CUDA
    };
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        void *at = sy_os->symbol(library, symbols[i].name);
        if (!at)
            return sy_fail(SY_UNSUPPORTED, "libcuda.so.1 is too old: it has no %s",
                           symbols[i].name);
        memcpy((char *)&driver + symbols[i].offset, &at, sizeof at);
    }
    return SY_OK;
}

/* With the lock held. */
static sy_status look(void)
{
    void *library = sy_os->open_library("libcuda.so.1");
    sy_status status;
    int result;
    if (!library)
        return sy_fail(SY_UNSUPPORTED, "no NVIDIA driver (libcuda.so.1)");
    status = find_symbols(library);
    if (status == SY_OK) {
        result = driver.cuInit(0);
        if (result == SY_CU_NO_DEVICE)
            status = sy_fail(SY_UNSUPPORTED, "the NVIDIA driver finds no GPU");
        else if (result != SY_CU_SUCCESS) {
            sy_cuda_result(&driver, result, "cuInit");
            status = sy_fail_in(SY_UNSUPPORTED, "the NVIDIA driver does not start");
        }
    }
    if (status != SY_OK)
        sy_os->close_library(library);
    return status;
}

sy_status sy_cuda_load(const struct sy_cuda_api **api)
{
    sy_status status = SY_OK;
    pthread_mutex_lock(&load_lock);
    if (!looked) {
        status = look();
        looked = status == SY_OK ? 1 : -1;
        if (status != SY_OK)
            snprintf(missing, sizeof missing, "%s", sy_last_error());
    } else if (looked < 0)
        status = sy_fail(SY_UNSUPPORTED, "%s", missing);
    pthread_mutex_unlock(&load_lock);
    *api = status == SY_OK ? &driver : NULL;
    return status;
}

void sy_cuda_forget(void)
{
    pthread_mutex_lock(&load_lock);
    looked = 0;
    pthread_mutex_unlock(&load_lock);
}

/* --- the GPU of a rank ---------------------------------------------------------------------- */

sy_status sy_gpu_choose(const struct sy_cuda_api *api, int32_t rank, int *device)
{
    sy_cuda_context current = NULL;
    int count = 0;
    SY_TRY(SY_CU(api, cuCtxGetCurrent, &current));
    if (current)
        return SY_CU(api, cuCtxGetDevice, device);
    SY_TRY(SY_CU(api, cuDeviceGetCount, &count));
    if (count < 1)
        return sy_fail(SY_UNSUPPORTED, "the NVIDIA driver finds no GPU");
    return SY_CU(api, cuDeviceGet, device, rank % count);
}

sy_status sy_gpu_open(struct sy_gpu *gpu, int32_t rank)
{
    sy_cuda_context primary = NULL;
    unsigned flags;
    int active = 1;
    memset(gpu, 0, sizeof *gpu);
    SY_TRY(sy_cuda_load(&gpu->api));
    SY_TRY(sy_gpu_choose(gpu->api, rank, &gpu->device));
    SY_TRY(SY_CU(gpu->api, cuCtxGetCurrent, &gpu->context));
    if (gpu->context)
        SY_TRY(SY_CU(gpu->api, cuDevicePrimaryCtxGetState, gpu->device, &flags, &active));
    if (!active)
        return SY_OK; /* the caller's is none of the primary ones */
    SY_TRY(SY_CU(gpu->api, cuDevicePrimaryCtxRetain, &primary, gpu->device));
    gpu->retained = !gpu->context || gpu->context == primary;
    if (!gpu->retained)
        gpu->api->cuDevicePrimaryCtxRelease_v2(gpu->device);
    gpu->context = gpu->context ? gpu->context : primary;
    return SY_OK;
}

void sy_gpu_close(struct sy_gpu *gpu)
{
    if (gpu->retained)
        gpu->api->cuDevicePrimaryCtxRelease_v2(gpu->device);
    gpu->retained = 0;
    gpu->context = NULL;
}

sy_status sy_gpu_enter(const struct sy_gpu *gpu, int *pushed)
{
    sy_cuda_context current = NULL;
    *pushed = 0;
    if (!gpu->api->cuCtxGetCurrent(&current) && current == gpu->context)
        return SY_OK;
    SY_TRY(SY_CU(gpu->api, cuCtxPushCurrent_v2, gpu->context));
    *pushed = 1;
    return SY_OK;
}

void sy_gpu_leave(const struct sy_gpu *gpu, int pushed)
{
    sy_cuda_context popped;
    if (pushed)
        gpu->api->cuCtxPopCurrent_v2(&popped);
}
