/* gpu_world.c - see gpu_world.h. */
#define _GNU_SOURCE
#include "gpu_world.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static _Thread_local CUstream copies;

/* --- GPUs ----------------------------------------------------------------------------------- */

/* A child looks, as a process that has used the driver cannot fork any more. */
int gpu_count(void)
{
    int *count = gpu_shared(sizeof *count);
    pid_t pid = fork();
    if (!pid) {
        const char *why;
        if (!cu_open(&why) || cu.cuDeviceGetCount(count))
            *count = 0;
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    if (2 * *count < 8) /* up to 8 ranks as threads: see docs/cuda.md */
        setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);
    return *count;
}

static void open_driver(void)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static int opened;
    const char *why = "";
    pthread_mutex_lock(&lock);
    if (!opened && !cu_open(&why)) {
        fprintf(stderr, "%s\n", why);
        exit(1);
    }
    opened = 1;
    pthread_mutex_unlock(&lock);
}

void gpu_take(int rank, int stream, struct run_engine *engine)
{
    CUcontext context;
    CUdevice device;
    CUstream own = NULL;
    int gpus;
    open_driver();
    CU_OK(cuDeviceGetCount(&gpus));
    CU_OK(cuDeviceGet(&device, rank % gpus));
    CU_OK(cuDevicePrimaryCtxRetain(&context, device));
    CU_OK(cuCtxSetCurrent(context));
    CU_OK(cuStreamCreate(&copies, 1));
    if (stream)
        CU_OK(cuStreamCreate(&own, 1));
    *engine = (struct run_engine){gpu_alloc, gpu_free, gpu_put, gpu_get, (sy_stream *)own};
}

int gpu_sms(int ranks)
{
    int gpus, sms;
    CU_OK(cuDeviceGetCount(&gpus));
    CU_OK(cuDeviceGetAttribute(&sms, 16, 0));
    return sms / ((ranks + gpus - 1) / gpus);
}

void gpu_give(struct run_engine *engine)
{
    if (engine->stream)
        CU_OK(cuStreamDestroy_v2((CUstream)(void *)engine->stream));
    CU_OK(cuStreamDestroy_v2(copies));
}

/* --- memory --------------------------------------------------------------------------------- */

/* In the order of the private stream: cuMemFree(), like the legacy default stream, would wait for
 * the kernels of other ranks on this GPU, which wait for this one. */
void *gpu_alloc(size_t bytes)
{
    CUdeviceptr p;
    CU_OK(cuMemAllocAsync(&p, bytes ? bytes : 1, copies));
    CU_OK(cuStreamSynchronize(copies));
    return (void *)p;
}

void gpu_free(void *memory)
{
    if (memory)
        CU_OK(cuMemFreeAsync((CUdeviceptr)memory, copies));
}

void gpu_put(void *to, const void *from, size_t bytes)
{
    if (!bytes)
        return;
    CU_OK(cuMemcpyHtoDAsync_v2((CUdeviceptr)to, from, bytes, copies));
    CU_OK(cuStreamSynchronize(copies));
}

void gpu_get(void *to, const void *from, size_t bytes)
{
    if (!bytes)
        return;
    CU_OK(cuMemcpyDtoHAsync_v2(to, (CUdeviceptr)from, bytes, copies));
    CU_OK(cuStreamSynchronize(copies));
}

/* --- ranks ---------------------------------------------------------------------------------- */

struct seat {
    void (*part)(int rank, void *shared);
    void *shared;
    int rank;
    pthread_t thread;
};

static void *sit(void *context)
{
    struct seat *seat = context;
    seat->part(seat->rank, seat->shared);
    return NULL;
}

/* Ranks first, first + step, ... in threads. */
static void as_threads(int ranks, int first, int step, struct seat *seats)
{
    for (int r = first; r < ranks; r += step)
        if (pthread_create(&seats[r].thread, NULL, sit, seats + r))
            abort();
    for (int r = first; r < ranks; r += step)
        pthread_join(seats[r].thread, NULL);
}

static int as_processes(int ranks, int processes, struct seat *seats)
{
    pid_t pids[GPU_RANKS_MAX];
    int bad = 0;
    fflush(stdout);
    for (int p = 0; p < processes; p++) {
        pids[p] = fork();
        if (!pids[p]) {
            as_threads(ranks, p, processes, seats);
            _exit(0);
        }
    }
    for (int p = 0; p < processes; p++) {
        int how = 0;
        waitpid(pids[p], &how, 0);
        bad += how != 0;
    }
    return bad;
}

int gpu_ranks(int ranks, int processes, void (*part)(int rank, void *shared), void *shared)
{
    struct seat seats[GPU_RANKS_MAX];
    for (int r = 0; r < ranks; r++)
        seats[r] = (struct seat){part, shared, r, 0};
    if (processes)
        return as_processes(ranks, processes, seats);
    as_threads(ranks, 0, 1, seats);
    return 0;
}

void *gpu_shared(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        abort();
    return p;
}
