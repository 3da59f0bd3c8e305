/* gpu_setup_test.c - how long it takes until a group works, on GPUs: every rank is a fresh process,
 * as many as there are GPUs; once without any compiled kernel on disk, then again.
 *
 * The start of the driver, which the library's callers have behind them as a rule, is told apart.
 * The first batch includes what is compiled and loaded for it. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "check.h"
#include "gpu_world.h"
#include "rounds.h"

#define TEXT 512
#define COLD_MS 2000 /* goals */
#define WARM_MS 300
/* Machines of one kind differ that much in how fast they compile: a goal may be missed on a slow
 * one, which is told, and anything beyond is a mistake. */
#define SLOWEST 1.7
#define FOLDERS_MAX 4

enum { DRIVER, CREATE, ROUTES, THROUGHPUT, LATENCY, AGAIN, STEPS };

static const char *const step_names[STEPS] = {
    "start of the driver",     "sy_group_create",      "routes",
    "first batch, throughput", "first batch, latency", "another batch of each"};

struct shared {
    sy_id id;
    double ms[GPU_RANKS_MAX][STEPS];
    char problems[GPU_RANKS_MAX][TEXT];
};

static int gpus, ranks, modes; /* SY_THROUGHPUT | SY_LATENCY, those that run */

static char *folder_names[FOLDERS_MAX];
static int folders;

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static double step(double *ms, double begun)
{
    double now = now_ms();
    *ms = now - begun;
    return now;
}

static void batch(struct rounds *r, char *problem)
{
    if (rounds_run(r, NULL) != SY_OK || sy_stream_sync(r->group, NULL) != SY_OK) {
        if (!problem[0])
            snprintf(problem, TEXT, "a batch: %.400s", sy_last_error());
    } else if (!problem[0])
        rounds_check(r, problem);
}

/* As a server does: a route for either mode, then batches. Top-8 of 256 experts, rows of 7168
 * elements of BF16 with weights and ids. */
static void run_batches(struct shared *s, int rank, const struct run_engine *engine,
                        sy_group *group)
{
    struct rounds r[2];
    double at, *ms = s->ms[rank];
    for (int i = 0; i < 2; i++)
        r[i] = (struct rounds){.engine = engine,
                               .group = group,
                               .rank = rank,
                               .ranks = ranks,
                               .mode = i ? SY_LATENCY : SY_THROUGHPUT,
                               .layout = i ? SY_RANK_MAJOR : SY_TOKEN_MAJOR,
                               .topk = 8,
                               .experts = 256,
                               .hidden = 7168,
                               .bf16 = 1,
                               .side = 1,
                               .tokens_max = 128};
    at = now_ms();
    for (int i = 0; i < 2; i++)
        if ((modes & r[i].mode) && rounds_open(r + i, s->problems[rank]))
            abort();
    step(ms + ROUTES, at);
    for (int i = 0; i < 2; i++)
        if (modes & r[i].mode)
            rounds_fill(r + i, (uint64_t)i, 128);
    at = now_ms();
    for (int i = 0; i < 2; i++) {
        if (modes & r[i].mode)
            batch(r + i, s->problems[rank]);
        at = step(ms + (i ? LATENCY : THROUGHPUT), at);
    }
    for (int i = 0; i < 2; i++)
        if (modes & r[i].mode)
            batch(r + i, s->problems[rank]);
    step(ms + AGAIN, at);
    for (int i = 0; i < 2; i++)
        if (modes & r[i].mode)
            rounds_close(r + i);
}

static void part(int rank, void *context)
{
    struct shared *s = context;
    struct run_engine engine;
    sy_group *group = NULL;
    double at = now_ms();
    sy_group_config config = {.size = sizeof config,
                              .boot = SY_BOOT_ID,
                              .id = s->id,
                              .rank = rank,
                              .ranks = ranks,
                              .engine = SY_ENGINE_CUDA,
                              .experts = 256,
                              .topk_max = 8,
                              .tokens_max = 4096,
                              .row_bytes_max = 14336};
    gpu_take(rank, 0, &engine);
    at = step(s->ms[rank] + DRIVER, at);
    if (sy_group_create(&config, &group) != SY_OK) {
        snprintf(s->problems[rank], TEXT, "%.500s", sy_last_error());
        return;
    }
    step(s->ms[rank] + CREATE, at);
    run_batches(s, rank, &engine, group);
    sy_group_barrier(group);
    if (sy_group_destroy(group) != SY_OK && !s->problems[rank][0])
        snprintf(s->problems[rank], TEXT, "%.500s", sy_last_error());
    gpu_give(&engine);
}

static double most(const struct shared *s, int what)
{
    double ms = 0;
    for (int r = 0; r < ranks; r++)
        ms = s->ms[r][what] > ms ? s->ms[r][what] : ms;
    return ms;
}

/* Making the group and its first batches, without the driver's start. goal_ms: 0 for none. */
static void set_up(const char *name, int some, double goal_ms)
{
    struct shared *s = gpu_shared(sizeof *s);
    double ms;
    modes = some;
    CHECK(sy_id_create(&s->id) == SY_OK, "%s", sy_last_error());
    CHECK(gpu_ranks(ranks, ranks, part, s) == 0, "a rank ended early");
    for (int r = 0; r < ranks; r++)
        CHECK(!s->problems[r][0], "rank %d: %s", r, s->problems[r]);
    printf("%d ranks, %s:\n", ranks, name);
    for (int i = 0; i < STEPS; i++)
        printf("  %-26s %8.1f ms\n", step_names[i], most(s, i));
    ms = most(s, CREATE) + most(s, ROUTES) + most(s, THROUGHPUT) + most(s, LATENCY);
    printf("  %-26s %8.1f ms\n", "until all are through", ms);
    if (goal_ms)
        printf("  goal %.0f ms: %s\n", goal_ms, ms <= goal_ms ? "met" : "MISSED");
    CHECK(!goal_ms || ms <= goal_ms * SLOWEST,
          "%s: %.0f ms until the batches are through; goal: %.0f", name, ms, goal_ms);
}

/* Runs begin without any kernel on disk if their folder is new. */
static void new_folder(void)
{
    char *folder = strdup(P_tmpdir "/switchyard-XXXXXX");
    if (!folder || !mkdtemp(folder) || folders == FOLDERS_MAX)
        abort();
    folder_names[folders++] = folder;
    setenv("XDG_CACHE_HOME", folder, 1);
    setenv("CUDA_CACHE_PATH", folder, 1); /* NVRTC's own */
}

static void remove_folders(void)
{
    char command[128];
    while (folders) {
        snprintf(command, sizeof command, "rm -rf '%s'", folder_names[--folders]);
        if (system(command))
            abort();
        free(folder_names[folders]);
    }
}

static void cold(void)
{
    new_folder();
    set_up("throughput mode, no kernels on disk", SY_THROUGHPUT, COLD_MS);
    new_folder();
    set_up("latency mode, no kernels on disk", SY_LATENCY, COLD_MS);
}

static void warm(void)
{
    new_folder();
    set_up("both modes, no kernels on disk", SY_THROUGHPUT | SY_LATENCY, 0);
    set_up("both modes, kernels on disk", SY_THROUGHPUT | SY_LATENCY, WARM_MS);
}

int main(void)
{
    gpus = gpu_count();
    ranks = gpus > 8 ? 8 : gpus;
    if (!gpus) {
        printf("skip gpu_setup: no GPU\n0 passed, 0 failed, 1 skipped\n");
        return 0;
    }
    TEST(cold);
    TEST(warm);
    remove_folders();
    return check_end();
}
