/* bench_engine.c - see bench_engine.h. Sections: finding | opening | memory | time | graphs. */
#include "bench_engine.h"

#include <stdlib.h>
#include <string.h>

#include "bench.h"

/* 0, or -1 with the driver's words. */
static int check(const struct engine *e, int result, const char *call)
{
    if (!result)
        return 0;
    return bench_fail("%s: %s (%d)", call, gpu_driver_text(e->driver, result), result);
}

#define CALL(e, name, ...) check((e), (e)->driver->name(__VA_ARGS__), #name)

static gpu_memory address(const void *memory)
{
    return (gpu_memory)(uintptr_t)memory;
}

/* --- finding -------------------------------------------------------------------------------- */

int engine_find(int32_t wanted, int32_t *kind, int32_t *devices)
{
    sy_engine_info info = {.size = sizeof info};
    if (bench_check(sy_engine_query((sy_engine)wanted, &info), "sy_engine_query"))
        return -1;
    if (!info.available)
        return bench_fail("%s: %s%s", info.name, info.detail,
                          wanted == SY_ENGINE_AUTO ? "; --engine cpu needs none" : "");
    *kind = info.engine;
    *devices = info.devices;
    return 0;
}

/* --- opening -------------------------------------------------------------------------------- */

static int open_gpu(struct engine *e, int32_t rank)
{
    const char *why;
    e->driver = gpu_driver_open(&why);
    if (!e->driver)
        return bench_fail("%s", why);
    if (CALL(e, cuDeviceGetCount, &e->devices))
        return -1;
    if (e->devices < 1)
        return bench_fail("the NVIDIA driver finds no GPU");
    if (CALL(e, cuDeviceGet, &e->device, rank % e->devices) ||
        CALL(e, cuDeviceGetAttribute, &e->sms, GPU_ATTR_SMS, e->device) ||
        CALL(e, cuDevicePrimaryCtxRetain, &e->context, e->device) ||
        CALL(e, cuCtxSetCurrent, e->context))
        return -1;
    if (CALL(e, cuStreamCreate, &e->own, GPU_STREAM_NON_BLOCKING) ||
        CALL(e, cuStreamCreate, &e->copies, GPU_STREAM_NON_BLOCKING) ||
        CALL(e, cuEventCreate, &e->begin, 0) || CALL(e, cuEventCreate, &e->end, 0))
        return -1;
    e->stream = (sy_stream *)(void *)e->own;
    return 0;
}

int engine_open(struct engine *e, int32_t kind, int32_t rank)
{
    memset(e, 0, sizeof *e);
    e->kind = kind;
    return kind == SY_ENGINE_CUDA ? open_gpu(e, rank) : 0;
}

void engine_close(struct engine *e)
{
    if (e->begin)
        e->driver->cuEventDestroy_v2(e->begin);
    if (e->end)
        e->driver->cuEventDestroy_v2(e->end);
    if (e->own)
        e->driver->cuStreamDestroy_v2(e->own);
    if (e->copies)
        e->driver->cuStreamDestroy_v2(e->copies);
    if (e->context) {
        e->driver->cuCtxSetCurrent(NULL);
        e->driver->cuDevicePrimaryCtxRelease_v2(e->device);
    }
    memset(e, 0, sizeof *e);
}

/* --- memory --------------------------------------------------------------------------------- */

void *engine_alloc(struct engine *e, size_t bytes)
{
    gpu_memory at = 0;
    void *memory;
    if (e->kind == SY_ENGINE_CPU)
        return bench_alloc(bytes);
    bytes = (bytes + 255) / 256 * 256;
    bytes = bytes ? bytes : 256;
    if (CALL(e, cuMemAlloc_v2, &at, bytes))
        return NULL;
    memory = (void *)(uintptr_t)at;
    if (!engine_fill(e, memory, 0, bytes))
        return memory;
    engine_free(e, memory);
    return NULL;
}

void engine_free(struct engine *e, void *memory)
{
    if (e->kind == SY_ENGINE_CPU)
        free(memory);
    else if (memory)
        e->driver->cuMemFree_v2(address(memory));
}

int engine_put(struct engine *e, void *to, const void *from, size_t bytes)
{
    if (!bytes)
        return 0;
    if (e->kind == SY_ENGINE_CPU) {
        memcpy(to, from, bytes);
        return 0;
    }
    return CALL(e, cuMemcpyHtoDAsync_v2, address(to), from, bytes, e->copies) ||
                   CALL(e, cuStreamSynchronize, e->copies)
               ? -1
               : 0;
}

int engine_get(struct engine *e, void *to, const void *from, size_t bytes)
{
    if (!bytes)
        return 0;
    if (e->kind == SY_ENGINE_CPU) {
        memcpy(to, from, bytes);
        return 0;
    }
    return CALL(e, cuMemcpyDtoHAsync_v2, to, address(from), bytes, e->copies) ||
                   CALL(e, cuStreamSynchronize, e->copies)
               ? -1
               : 0;
}

int engine_fill(struct engine *e, void *to, uint8_t byte, size_t bytes)
{
    if (!bytes)
        return 0;
    if (e->kind == SY_ENGINE_CPU) {
        memset(to, byte, bytes);
        return 0;
    }
    return CALL(e, cuMemsetD8Async, address(to), byte, bytes, e->copies) ||
                   CALL(e, cuStreamSynchronize, e->copies)
               ? -1
               : 0;
}

void *engine_map(struct engine *e, void *memory, size_t bytes, int look)
{
    void *host;
    if (e->kind == SY_ENGINE_CPU)
        return memory;
    host = bench_alloc(bytes);
    if (!host || !look || !engine_get(e, host, memory, bytes))
        return host;
    free(host);
    return NULL;
}

int engine_unmap(struct engine *e, void *memory, void *host, size_t bytes, int changed)
{
    int bad = 0;
    if (e->kind == SY_ENGINE_CPU)
        return 0;
    if (host && changed)
        bad = engine_put(e, memory, host, bytes);
    free(host);
    return bad;
}

int engine_memory_free(struct engine *e, uint64_t *bytes)
{
    size_t unused = 0, total = 0;
    if (CALL(e, cuMemGetInfo_v2, &unused, &total))
        return -1;
    *bytes = unused;
    return 0;
}

int engine_copy(struct engine *e, void *to, const void *from, size_t bytes)
{
    return CALL(e, cuMemcpyDtoDAsync_v2, address(to), address(from), bytes, e->own);
}

int engine_sync(struct engine *e)
{
    return CALL(e, cuStreamSynchronize, e->own);
}

/* --- time ----------------------------------------------------------------------------------- */

int engine_timer_begin(struct engine *e)
{
    return CALL(e, cuEventRecord, e->begin, e->own);
}

int engine_timer_end(struct engine *e, double *us)
{
    float ms = 0;
    if (CALL(e, cuEventRecord, e->end, e->own) || CALL(e, cuStreamSynchronize, e->own) ||
        CALL(e, cuEventElapsedTime, &ms, e->begin, e->end))
        return -1;
    *us = (double)ms * 1e3;
    return 0;
}

/* --- graphs --------------------------------------------------------------------------------- */

int engine_graph_begin(struct engine *e)
{
    return CALL(e, cuStreamBeginCapture_v2, e->own, GPU_CAPTURE_RELAXED);
}

int engine_graph_end(struct engine *e, gpu_graph_exec *exec)
{
    gpu_graph graph = NULL;
    int bad;
    *exec = NULL;
    if (CALL(e, cuStreamEndCapture, e->own, &graph))
        return -1;
    bad = CALL(e, cuGraphInstantiateWithFlags, exec, graph, 0);
    e->driver->cuGraphDestroy(graph);
    return bad;
}

int engine_graph_run(struct engine *e, gpu_graph_exec exec)
{
    return CALL(e, cuGraphLaunch, exec, e->own);
}

void engine_graph_free(struct engine *e, gpu_graph_exec exec)
{
    if (exec)
        e->driver->cuGraphExecDestroy(exec);
}
