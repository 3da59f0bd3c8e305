/* fake_gpu.c - a libcuda.so.1 and a run-time compiler in one file that a command finds in
 * LD_LIBRARY_PATH: tests/unit/cuda_fake.h for processes of which the test is no part. GPUs are
 * played by this machine's processor, so that results are right and times mean nothing.
 *
 * FAKE_GPUS: how many there are (4). FAKE_GPU_PEERS=0: pairs of GPUs reach each other, no more. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>

#include "cuda_fake.h"

#define VISIBLE __attribute__((visibility("default")))

/* What the library uses. */
#define EXPORT(name)                                                                               \
    __typeof__(fake_##name) name __attribute__((alias("fake_" #name), visibility("default")));
#define SY_CUDA(name, parameters) EXPORT(name)
#include "base/cuda_api.def"
#undef SY_CUDA
EXPORT(nvrtcVersion)
EXPORT(nvrtcGetErrorString)
EXPORT(nvrtcCreateProgram)
EXPORT(nvrtcDestroyProgram)
EXPORT(nvrtcCompileProgram)
EXPORT(nvrtcGetProgramLogSize)
EXPORT(nvrtcGetProgramLog)
EXPORT(nvrtcGetCUBINSize)
EXPORT(nvrtcGetCUBIN)

/* And what commands and GPU tests use besides. */
#define CALL(name, ...)                                                                            \
    VISIBLE int name(__VA_ARGS__);                                                                 \
    VISIBLE int name(__VA_ARGS__)

CALL(cuDeviceGetPCIBusId, char *text, int bytes, int device)
{
    snprintf(text, (size_t)bytes, "0000:%02x:00.0", 0x10 + device);
    return 0;
}
CALL(cuDeviceGetP2PAttribute, int *value, int attribute, int device, int peer)
{
    *value = attribute == 1 ? 0 : !fake.no_peers || device / 2 == peer / 2;
    return 0;
}
CALL(cuDeviceTotalMem_v2, size_t *bytes, int device)
{
    (void)device;
    *bytes = (size_t)16 << 30;
    return 0;
}
CALL(cuMemGetInfo_v2, size_t *unused, size_t *total)
{
    *unused = (size_t)8 << 30;
    *total = (size_t)16 << 30;
    return fake_lost();
}
CALL(cuCtxSetCurrent, sy_cuda_context context)
{
    fake_depth = 0;
    if (context)
        fake_stack[fake_depth++] = context;
    return 0;
}
CALL(cuMemcpyDtoDAsync_v2, sy_cuda_ptr to, sy_cuda_ptr from, size_t bytes, sy_cuda_stream s)
{
    memmove((void *)(uintptr_t)to, (void *)(uintptr_t)from, bytes);
    return s ? fake_lost() : 400;
}

/* --- graphs --------------------------------------------------------------------------------- */

struct fake_graph {
    int nodes;
    struct fake_node node[FAKE_NODES];
};

CALL(cuStreamBeginCapture_v2, sy_cuda_stream s, int mode)
{
    (void)mode;
    if (s->capture)
        return 900;
    fake_capture_begin(s);
    return 0;
}
CALL(cuStreamEndCapture, sy_cuda_stream s, struct fake_graph **out)
{
    struct fake_graph *graph = calloc(1, sizeof *graph);
    if (!s->capture || !graph)
        return 900;
    graph->nodes = s->nodes;
    memcpy(graph->node, s->graph, sizeof *s->graph * (size_t)s->nodes);
    free(s->graph);
    s->graph = NULL;
    fake_capture_end(s);
    *out = graph;
    return 0;
}
CALL(cuGraphInstantiateWithFlags, struct fake_graph **exec, const struct fake_graph *graph,
     unsigned long long flags)
{
    *exec = malloc(sizeof **exec);
    if (flags || !*exec)
        return 1;
    **exec = *graph;
    return 0;
}
CALL(cuGraphLaunch, const struct fake_graph *exec, sy_cuda_stream s)
{
    if (s->capture || fake_lost())
        return 900;
    for (int i = 0; i < exec->nodes; i++)
        fake_run(fake_stack[fake_depth - 1], exec->node[i].kernel, exec->node[i].grid,
                 exec->node[i].args);
    return 0;
}
CALL(cuGraphExecDestroy, struct fake_graph *exec)
{
    free(exec);
    return 0;
}
CALL(cuGraphDestroy, struct fake_graph *graph)
{
    free(graph);
    return 0;
}

/* --- the machine ---------------------------------------------------------------------------- */

/* The driver has threads, which take signals like any other. */
static void *idle(void *unused)
{
    for (;;)
        pause();
    return unused;
}

__attribute__((constructor)) static void begin(void)
{
    pthread_t thread;
    const char *gpus = getenv("FAKE_GPUS"), *peers = getenv("FAKE_GPU_PEERS");
    if (gpus)
        fake.devices = atoi(gpus);
    fake.no_peers = peers && !strcmp(peers, "0");
    if (pthread_create(&thread, NULL, idle, NULL))
        abort();
    pthread_detach(thread);
    for (int i = 0; i < FAKE_DEVICES; i++) {
        fake_contexts[i].device = i;
        pthread_mutex_init(&fake_contexts[i].lock, NULL);
    }
}
