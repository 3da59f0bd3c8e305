/* gpu_soak_test.c - ten thousand batches of changing shapes in one group, on GPUs.
 *
 *     gpu_soak_test [BATCHES [RANKS]]     10,000; as many as there are GPUs, or 2 on one
 *
 * Several routes of both modes and all layouts live side by side; now and then two batches overlap
 * (dispatch, dispatch, combine, combine). Results are checked on the way; neither memory of the GPU
 * nor descriptors grow. */
#define _GNU_SOURCE
#include <dirent.h>
#include <stdlib.h>

#include "check.h"
#include "gpu_world.h"
#include "prng.h"
#include "rounds.h"

#define TEXT 512
#define TOKENS 64
#define WARM_UP 200

static const struct {
    int mode, layout, topk, hidden;
} kinds[] = {
    {SY_THROUGHPUT, SY_TOKEN_MAJOR, 8, 1792},  {SY_LATENCY, SY_RANK_MAJOR, 8, 1792},
    {SY_THROUGHPUT, SY_EXPERT_PACKED, 4, 512}, {SY_THROUGHPUT, SY_RANK_MAJOR, 2, 64},
    {SY_LATENCY, SY_RANK_MAJOR, 1, 4},         {SY_THROUGHPUT, SY_EXPERT_SLABS, 3, 256},
};
#define KINDS ((int)(sizeof kinds / sizeof *kinds))

static int gpus, ranks;
static uint64_t batches = 10000;
static sy_id id;
static char problems[GPU_RANKS_MAX][TEXT];

static int complain(int rank, const char *what, uint64_t n, sy_status status)
{
    if (status != SY_OK && !problems[rank][0])
        snprintf(problems[rank], TEXT, "batch %llu, %s: %.400s", (unsigned long long)n, what,
                 sy_last_error());
    return status != SY_OK;
}

/* The first complaint is the one that counts. */
static void check_result(int rank, struct rounds *r)
{
    if (!problems[rank][0])
        rounds_check(r, problems[rank]);
}

static sy_group *make_group(int rank)
{
    sy_group_config config = {.size = sizeof config,
                              .boot = SY_BOOT_ID,
                              .id = id,
                              .rank = rank,
                              .ranks = ranks,
                              .engine = SY_ENGINE_CUDA,
                              .experts = 4 * ranks,
                              .topk_max = 8,
                              .tokens_max = TOKENS,
                              .row_bytes_max = 7168,
                              .recv_rows_max = 4 * TOKENS * ranks,
                              .views = 2,
                              .latency_views = 3,
                              .timeout_ns = 10000000000ull};
    sy_group *group = NULL;
    complain(rank, "sy_group_create", 0, sy_group_create(&config, &group));
    return group;
}

static int descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    int n = 0;
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

static void fill(struct rounds *r, uint64_t n)
{
    struct sy_prng random = sy_prng_make(n, 100 + (uint64_t)r->rank);
    rounds_fill(r, n, sy_prng_range(&random, 0, TOKENS));
}

/* A batch, or two of different routes that overlap. The same choices on all ranks. */
static void one(struct rounds *all, uint64_t n, const struct run_engine *engine)
{
    struct rounds *a = all + n % KINDS, *b = all + (n + 1) % KINDS;
    sy_stream *s = n % 4 ? engine->stream : NULL, *other = n % 3 ? s : NULL;
    const int rank = a->rank, pair = n % 5 == 0;
    sy_tensor va, vb;
    fill(a, n);
    complain(rank, "route", n, rounds_route(a, s));
    complain(rank, "dispatch", n, rounds_dispatch(a, &va, s));
    if (pair) {
        fill(b, n + 1);
        complain(rank, "second route", n, rounds_route(b, other));
        complain(rank, "second dispatch", n, rounds_dispatch(b, &vb, other));
    }
    complain(rank, "combine", n, rounds_combine(a, &va, s));
    if (pair)
        complain(rank, "second combine", n, rounds_combine(b, &vb, other));
    complain(rank, "sync", n, sy_stream_sync(a->group, s));
    complain(rank, "sync", n, sy_stream_sync(a->group, other));
    check_result(rank, a);
    if (pair)
        check_result(rank, b);
}

static void run_all(int rank, struct rounds *all, const struct run_engine *engine)
{
    size_t free_before = 0, free_after = 0, total;
    int fds = 0;
    for (uint64_t n = 0; n < batches && !problems[rank][0]; n++) {
        if (n == WARM_UP) {
            CU_OK(cuMemGetInfo_v2(&free_before, &total));
            fds = descriptors();
        }
        one(all, n, engine);
    }
    CU_OK(cuMemGetInfo_v2(&free_after, &total));
    if (!problems[rank][0] && batches > WARM_UP && ranks <= gpus && free_after < free_before)
        snprintf(problems[rank], TEXT, "%zu KiB of the GPU's memory are gone",
                 (free_before - free_after) >> 10);
    /* Ranks that are threads of this process may be counting at the same time. */
    if (!problems[rank][0] && batches > WARM_UP && descriptors() > fds + ranks)
        snprintf(problems[rank], TEXT, "%d descriptors, %d before", descriptors(), fds);
}

static void part(int rank, void *shared)
{
    struct rounds all[KINDS];
    struct run_engine engine;
    sy_group *group;
    (void)shared;
    gpu_take(rank, 1, &engine);
    group = make_group(rank);
    if (group) {
        for (int i = 0; i < KINDS; i++) {
            all[i] = (struct rounds){.engine = &engine,
                                     .group = group,
                                     .rank = rank,
                                     .ranks = ranks,
                                     .mode = kinds[i].mode,
                                     .layout = kinds[i].layout,
                                     .topk = kinds[i].topk,
                                     .experts = 4 * ranks,
                                     .hidden = kinds[i].hidden,
                                     .tokens_max = TOKENS};
            if (rounds_open(all + i, problems[rank]))
                abort();
        }
        run_all(rank, all, &engine);
        complain(rank, "barrier", 0, sy_group_barrier(group));
        for (int i = 0; i < KINDS; i++)
            rounds_close(all + i);
        complain(rank, "destroy", 0, sy_group_destroy(group));
    }
    gpu_give(&engine);
}

static void soak(void)
{
    CHECK(sy_id_create(&id) == SY_OK, "%s", sy_last_error());
    gpu_ranks(ranks, 0, part, NULL);
    for (int r = 0; r < ranks; r++)
        CHECK(!problems[r][0], "rank %d: %s", r, problems[r]);
}

int main(int argc, char **argv)
{
    setenv("SY_JIT", "0", 0);
    if (argc > 1)
        batches = strtoull(argv[1], NULL, 0);
    gpus = gpu_count();
    ranks = gpus > 1 ? (gpus > 8 ? 8 : gpus) : 2;
    if (argc > 2)
        ranks = atoi(argv[2]) <= GPU_RANKS_MAX ? atoi(argv[2]) : GPU_RANKS_MAX;
    if (!gpus) {
        printf("skip gpu_soak: no GPU\n0 passed, 0 failed, 1 skipped\n");
        return 0;
    }
    TEST(soak);
    return check_end();
}
