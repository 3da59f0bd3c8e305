/* gpu_fault_test.c - ranks that die, come late, abort or disagree, on GPUs: every rank gets the
 * same verdict in time, and afterwards the same process makes a new group that works.
 *
 * A rank that dies is a process, so that needs two GPUs. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "gpu_world.h"
#include "rounds.h"

#define TEXT 512
#define TOKENS 64
#define TIMEOUT_MS 1500

struct verdict {
    sy_status status;
    double seconds; /* from the fault to the verdict */
    char text[256];
    char problem[TEXT];
};

static struct world {
    sy_id ids[2];
    struct verdict verdicts[GPU_RANKS_MAX];
    double begun;
} * world; /* shared by processes */

static int gpus, ranks;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* --- one rank ------------------------------------------------------------------------------- */

static sy_group *make_group(int rank, int count, const sy_id *id)
{
    sy_group_config config = {.size = sizeof config,
                              .boot = SY_BOOT_ID,
                              .id = *id,
                              .rank = rank,
                              .ranks = count,
                              .engine = SY_ENGINE_CUDA,
                              .experts = 4 * count,
                              .topk_max = 4,
                              .tokens_max = TOKENS,
                              .row_bytes_max = 4096,
                              .timeout_ns = TIMEOUT_MS * 1000000ull};
    sy_group *group = NULL;
    if (sy_group_create(&config, &group) != SY_OK)
        snprintf(world->verdicts[rank].problem, TEXT, "sy_group_create: %.400s", sy_last_error());
    return group;
}

static struct rounds make_rounds(sy_group *group, int rank, int count, struct run_engine *engine)
{
    struct rounds r = {.engine = engine,
                       .group = group,
                       .rank = rank,
                       .ranks = count,
                       .mode = SY_THROUGHPUT,
                       .layout = SY_TOKEN_MAJOR,
                       .topk = 4,
                       .experts = 4 * count,
                       .hidden = 1024,
                       .tokens_max = TOKENS};
    if (rounds_open(&r, world->verdicts[rank].problem))
        abort();
    return r;
}

/* Batches until something happens, at most so many. */
static sy_status batches(struct rounds *r, struct run_engine *engine, int count)
{
    sy_status status = SY_OK;
    for (int n = 0; n < count && status == SY_OK; n++) {
        rounds_fill(r, (uint64_t)n, TOKENS);
        status = rounds_run(r, engine->stream);
        if (status == SY_OK)
            status = sy_stream_sync(r->group, engine->stream);
        if (status == SY_OK && rounds_check(r, world->verdicts[r->rank].problem))
            break;
    }
    return status;
}

/* What the group says in the end, looked up without waiting for anything on the GPU. */
static void take_verdict(int rank, sy_group *group)
{
    struct verdict *v = world->verdicts + rank;
    sy_fault fault = {.size = sizeof fault};
    for (int i = 0; i < 20000 && (v->status = sy_group_poll(group, &fault)) == SY_OK; i++)
        usleep(1000);
    v->seconds = now() - world->begun;
    snprintf(v->text, sizeof v->text, "%s", fault.text);
}

/* A new group, in the same process and context, and a few batches. */
static void begin_anew(int rank, int count, struct run_engine *engine)
{
    struct verdict *v = world->verdicts + rank;
    sy_group *group = make_group(rank, count, world->ids + 1);
    if (!group)
        return;
    struct rounds r = make_rounds(group, rank, count, engine);
    if (batches(&r, engine, 5) != SY_OK && !v->problem[0])
        snprintf(v->problem, TEXT, "afterwards: %.400s", sy_last_error());
    rounds_close(&r);
    if (sy_group_barrier(group) != SY_OK && !v->problem[0])
        snprintf(v->problem, TEXT, "afterwards: %.400s", sy_last_error());
    sy_group_destroy(group);
}

static int part_of(int rank, int survivors,
                   void (*act)(int rank, struct rounds *r, struct run_engine *engine))
{
    struct run_engine engine;
    sy_group *group;
    gpu_take(rank, 1, &engine);
    group = make_group(rank, ranks, world->ids);
    if (group) {
        struct rounds r = make_rounds(group, rank, ranks, &engine);
        if (batches(&r, &engine, 3) != SY_OK)
            snprintf(world->verdicts[rank].problem, TEXT, "at first: %.400s", sy_last_error());
        sy_group_barrier(group);
        if (rank == 0)
            world->begun = now();
        act(rank, &r, &engine);
        take_verdict(rank, group);
        rounds_close(&r);
        if (sy_group_destroy(group) != SY_OK)
            snprintf(world->verdicts[rank].problem, TEXT, "%.500s", sy_last_error());
        if (rank < survivors)
            begin_anew(rank, survivors, &engine);
    }
    gpu_give(&engine);
    return 0;
}

/* --- what happens --------------------------------------------------------------------------- */

static void go_on(int rank, struct rounds *r, struct run_engine *engine)
{
    (void)rank;
    batches(r, engine, 1000000);
}

static void come_late(int rank, struct rounds *r, struct run_engine *engine)
{
    if (rank != ranks - 1)
        batches(r, engine, 1000000);
}

static void *abort_soon(void *group)
{
    usleep(200000);
    sy_group_abort(group);
    return NULL;
}

static void abort_one(int rank, struct rounds *r, struct run_engine *engine)
{
    pthread_t thread;
    int mine = rank == 0 && !pthread_create(&thread, NULL, abort_soon, r->group);
    batches(r, engine, 1000000);
    if (mine)
        pthread_join(thread, NULL);
}

static void disagree(int rank, struct rounds *r, struct run_engine *engine)
{
    if (rank == ranks - 1)
        r->hidden /= 2;
    batches(r, engine, 10);
}

static void die(int rank, struct rounds *r, struct run_engine *engine)
{
    if (rank == ranks - 1) {
        struct timespec soon = {0, 100000000};
        timer_t timer;
        struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
        struct itimerspec at = {.it_value = soon};
        if (timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &at, NULL))
            abort();
    }
    batches(r, engine, 1000000);
}

static void part_late(int rank, void *shared)
{
    (void)shared;
    part_of(rank, ranks, come_late);
}
static void part_abort(int rank, void *shared)
{
    (void)shared;
    part_of(rank, ranks, abort_one);
}
static void part_disagree(int rank, void *shared)
{
    (void)shared;
    part_of(rank, ranks, disagree);
}
static void part_die(int rank, void *shared)
{
    (void)shared;
    part_of(rank, ranks - 1, rank == ranks - 1 ? die : go_on);
}

/* --- tests ---------------------------------------------------------------------------------- */

static void play(void (*part)(int, void *), int processes, int survivors, sy_status status,
                 const char *word)
{
    int ends;
    memset(world, 0, sizeof *world);
    for (int i = 0; i < 2; i++)
        CHECK(sy_id_create(world->ids + i) == SY_OK, "%s", sy_last_error());
    ends = gpu_ranks(ranks, processes ? ranks : 0, part, NULL);
    CHECK(ends == (processes ? ranks - survivors : 0), "%d processes failed", ends);
    for (int r = 0; r < survivors; r++) {
        const struct verdict *v = world->verdicts + r;
        CHECK(!v->problem[0], "rank %d: %s", r, v->problem);
        CHECK(v->status == status && strstr(v->text, word), "rank %d: %s, \"%s\", not %s", r,
              sy_status_name(v->status), v->text, word);
        CHECK(!strcmp(v->text, world->verdicts[0].text), "rank %d: \"%s\", rank 0: \"%s\"", r,
              v->text, world->verdicts[0].text);
        CHECK(v->seconds < TIMEOUT_MS * 1e-3 + 3, "rank %d knew after %.1f s", r, v->seconds);
    }
}

static void a_rank_dies(void)
{
    char word[64];
    if (gpus < 2)
        SKIP("ranks that are processes need a GPU each, and there is one");
    snprintf(word, sizeof word, "rank %d died", ranks - 1);
    play(part_die, 1, ranks - 1, SY_PEER_LOST, word);
}

static void a_rank_is_late(void)
{
    char word[64];
    snprintf(word, sizeof word, "for rank %d", ranks - 1);
    play(part_late, 0, ranks, SY_TIMEOUT, word);
}

static void a_rank_aborts(void)
{
    play(part_abort, 0, ranks, SY_ABORTED, "rank 0 called sy_group_abort()");
}

static void a_rank_disagrees(void)
{
    play(part_disagree, 0, ranks, SY_MISMATCH, "other types or shapes");
}

int main(void)
{
    setenv("SY_JIT", "0", 0);
    gpus = gpu_count();
    ranks = gpus > 1 ? (gpus > 8 ? 8 : gpus) : 2;
    world = gpu_shared(sizeof *world);
    if (!gpus) {
        printf("skip gpu_fault: no GPU\n0 passed, 0 failed, 1 skipped\n");
        return 0;
    }
    TEST(a_rank_dies); /* first: afterwards this process cannot fork */
    TEST(a_rank_is_late);
    TEST(a_rank_aborts);
    TEST(a_rank_disagrees);
    return check_end();
}
