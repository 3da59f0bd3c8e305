/* gpu_graph_test.c - graphs of operations, on GPUs: captured once, run with new data again and
 * again, between eager calls; several operations in one graph; two groups at the same time.
 *
 * Ranks are threads, one per GPU (two on one GPU if there is only one). */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>

#include "check.h"
#include "gpu_world.h"
#include "rounds.h"

#define TEXT 512
#define TOKENS 48

static int gpus, ranks;
static sy_id ids[2];
static char problems[GPU_RANKS_MAX][TEXT];

/* --- helpers -------------------------------------------------------------------------------- */

static int complain(int rank, const char *what, sy_status status)
{
    if (status != SY_OK && !problems[rank][0])
        snprintf(problems[rank], TEXT, "%s: %.400s", what, sy_last_error());
    return status != SY_OK;
}

/* The first complaint is the one that counts. */
static void check_result(int rank, struct rounds *r)
{
    if (!problems[rank][0])
        rounds_check(r, problems[rank]);
}

static sy_group *make_group(int rank, const sy_id *id, int sms)
{
    sy_group_config config = {.size = sizeof config,
                              .boot = SY_BOOT_ID,
                              .id = *id,
                              .rank = rank,
                              .ranks = ranks,
                              .engine = SY_ENGINE_CUDA,
                              .experts = 4 * ranks,
                              .topk_max = 8,
                              .tokens_max = TOKENS,
                              .row_bytes_max = 8192,
                              .sms = sms,
                              .timeout_ns = 10000000000ull};
    sy_group *group = NULL;
    complain(rank, "sy_group_create", sy_group_create(&config, &group));
    return group;
}

static struct rounds make_rounds(sy_group *group, int rank, const struct run_engine *engine,
                                 int mode, int topk)
{
    struct rounds r = {.engine = engine,
                       .group = group,
                       .rank = rank,
                       .ranks = ranks,
                       .mode = mode,
                       .layout = mode == SY_LATENCY ? SY_RANK_MAJOR : SY_TOKEN_MAJOR,
                       .topk = topk,
                       .experts = 4 * ranks,
                       .hidden = topk > 2 ? 2048 : 64,
                       .tokens_max = TOKENS};
    if (rounds_open(&r, problems[rank]))
        abort();
    return r;
}

/* Other threads go on allocating meanwhile. */
#define CAPTURE_THREAD_LOCAL 1

static CUgraphExec capture(struct rounds *some, int count, CUstream s)
{
    CUgraph graph;
    CUgraphExec exec;
    CU_OK(cuStreamBeginCapture_v2(s, CAPTURE_THREAD_LOCAL));
    for (int i = 0; i < count; i++)
        complain(some->rank, "captured", rounds_run(some + i, (sy_stream *)(void *)s));
    CU_OK(cuStreamEndCapture(s, &graph));
    CU_OK(cuGraphInstantiateWithFlags(&exec, graph, 0));
    CU_OK(cuGraphDestroy(graph));
    return exec;
}

static void play(void (*part)(int rank, void *shared))
{
    memset(problems, 0, sizeof problems);
    for (int i = 0; i < 2; i++)
        CHECK(sy_id_create(ids + i) == SY_OK, "%s", sy_last_error());
    gpu_ranks(ranks, 0, part, NULL);
    for (int i = 0; i < 2; i++)
        sy_id_discard(ids + i);
    for (int r = 0; r < ranks; r++)
        CHECK(!problems[r][0], "rank %d: %s", r, problems[r]);
}

/* --- one batch in a graph ------------------------------------------------------------------- */

static void replay_one(int rank, sy_group *group, struct run_engine *engine, int mode)
{
    CUstream s = (CUstream)(void *)engine->stream;
    struct rounds in_graph = make_rounds(group, rank, engine, mode, 8);
    struct rounds eager = make_rounds(group, rank, engine, mode, 2);
    CUgraphExec exec;
    rounds_fill(&in_graph, 0, TOKENS);
    exec = capture(&in_graph, 1, s);
    for (uint64_t n = 1; n < 60 && !problems[rank][0]; n++) {
        rounds_fill(&in_graph, n, TOKENS);
        CU_OK(cuGraphLaunch(exec, s));
        if (n % 3 == 0) {
            rounds_fill(&eager, n, (int64_t)(n % TOKENS));
            complain(rank, "eager", rounds_run(&eager, engine->stream));
        }
        complain(rank, "sync", sy_stream_sync(group, engine->stream));
        check_result(rank, &in_graph);
        if (n % 3 == 0)
            check_result(rank, &eager);
    }
    CU_OK(cuGraphExecDestroy(exec));
    rounds_close(&in_graph);
    rounds_close(&eager);
}

static void one_batch_part(int rank, void *shared)
{
    struct run_engine engine;
    sy_group *group;
    (void)shared;
    gpu_take(rank, 1, &engine);
    group = make_group(rank, ids, 0);
    for (int mode = SY_THROUGHPUT; group && mode <= SY_LATENCY; mode++)
        replay_one(rank, group, &engine, mode);
    complain(rank, "destroy", sy_group_destroy(group));
    gpu_give(&engine);
}

static void one_batch(void)
{
    play(one_batch_part);
}

/* --- several batches in a graph ------------------------------------------------------------- */

enum { BATCHES = 4 };

static void several_part(int rank, void *shared)
{
    struct run_engine engine;
    sy_group *group;
    CUstream s;
    (void)shared;
    gpu_take(rank, 1, &engine);
    group = make_group(rank, ids, 0);
    s = (CUstream)(void *)engine.stream;
    if (group) {
        struct rounds some[BATCHES];
        CUgraphExec exec;
        for (int i = 0; i < BATCHES; i++) {
            some[i] = make_rounds(group, rank, &engine, i % 2 ? SY_LATENCY : SY_THROUGHPUT, 3 + i);
            rounds_fill(some + i, (uint64_t)i, TOKENS - i);
        }
        exec = capture(some, BATCHES, s);
        for (uint64_t n = 1; n < 40 && !problems[rank][0]; n++) {
            for (int i = 0; i < BATCHES; i++)
                rounds_fill(some + i, n * BATCHES + (uint64_t)i, TOKENS - i);
            CU_OK(cuGraphLaunch(exec, s));
            complain(rank, "sync", sy_stream_sync(group, engine.stream));
            for (int i = 0; i < BATCHES; i++)
                check_result(rank, some + i);
        }
        CU_OK(cuGraphExecDestroy(exec));
        for (int i = 0; i < BATCHES; i++)
            rounds_close(some + i);
    }
    complain(rank, "destroy", sy_group_destroy(group));
    gpu_give(&engine);
}

static void several_batches(void)
{
    play(several_part);
}

/* --- two groups ----------------------------------------------------------------------------- */

/* Their kernels run at the same time, so each has half of the multiprocessors. */
static void two_groups_part(int rank, void *shared)
{
    struct run_engine engine;
    sy_group *groups[2];
    (void)shared;
    gpu_take(rank, 1, &engine);
    for (int i = 0; i < 2; i++)
        groups[i] = make_group(rank, ids + i, gpu_sms(ranks) / 2);
    if (groups[0] && groups[1]) {
        struct rounds one = make_rounds(groups[0], rank, &engine, SY_THROUGHPUT, 8);
        struct rounds two = make_rounds(groups[1], rank, &engine, SY_LATENCY, 4);
        for (uint64_t n = 0; n < 100 && !problems[rank][0]; n++) {
            rounds_fill(&one, n, TOKENS);
            rounds_fill(&two, n, TOKENS / 2);
            /* Ranks differ in which goes first. */
            if ((n + (uint64_t)rank) % 2)
                complain(rank, "first", rounds_run(&one, engine.stream));
            complain(rank, "second", rounds_run(&two, NULL));
            if (!((n + (uint64_t)rank) % 2))
                complain(rank, "first", rounds_run(&one, engine.stream));
            complain(rank, "sync", sy_stream_sync(groups[0], engine.stream));
            complain(rank, "sync", sy_stream_sync(groups[1], NULL));
            check_result(rank, &one);
            check_result(rank, &two);
        }
        rounds_close(&one);
        rounds_close(&two);
    }
    for (int i = 0; i < 2; i++)
        complain(rank, "destroy", sy_group_destroy(groups[i]));
    gpu_give(&engine);
}

static void two_groups(void)
{
    play(two_groups_part);
}

int main(void)
{
    setenv("SY_JIT", "0", 0);
    gpus = gpu_count();
    ranks = gpus > 1 ? (gpus > 8 ? 8 : gpus) : 2;
    if (!gpus) {
        printf("skip gpu_graph: no GPU\n0 passed, 0 failed, 1 skipped\n");
        return 0;
    }
    TEST(one_batch);
    TEST(several_batches);
    TEST(two_groups);
    return check_end();
}
