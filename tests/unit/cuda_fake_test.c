/* cuda_fake_test.c - the CUDA engine on a driver that is not there (cuda_fake.h): finding it, whole
 * groups, every call failing in turn, how memory is shared, graphs.
 *
 * What a GPU makes of the kernels is tested by tests/gpu; here it is the library around them. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "cuda_fake.h"
#include "rounds.h"
#include "run_case.h"

#define TEXT 512

/* --- ranks ---------------------------------------------------------------------------------- */

struct world {
    struct sy_case c;
    struct sy_ref_route ref;
    sy_id id;
    int rounds, victim; /* rank whose calls may fail; -1: all */
    char text[FAKE_DEVICES][TEXT];
    sy_status status[FAKE_DEVICES];
};

struct seat {
    struct world *w;
    int rank;
};

static void *sit(void *context)
{
    struct seat *seat = context;
    struct world *w = seat->w;
    sy_group_config config;
    sy_group *group = NULL;
    char *text = w->text[seat->rank];
    fake_spared = w->victim >= 0 && w->victim != seat->rank;
    run_case_config(&w->c, seat->rank, &config);
    config.engine = SY_ENGINE_CUDA;
    config.boot = SY_BOOT_ID;
    config.id = w->id;
    config.rank = seat->rank;
    config.timeout_ns = 5000000000ull;
    w->status[seat->rank] = sy_group_create(&config, &group);
    if (!group) {
        snprintf(text, TEXT, "%s", sy_last_error());
        return NULL;
    }
    if (run_case(&w->c, &w->ref, seat->rank, group, w->rounds, text))
        sy_group_abort(group);
    else if (sy_group_barrier(group) != SY_OK)
        snprintf(text, TEXT, "%s", sy_last_error());
    if (sy_group_destroy(group) != SY_OK)
        snprintf(text, TEXT, "%s", sy_last_error());
    return NULL;
}

static void open_world(struct world *w, uint64_t seed, int ranks)
{
    struct sy_case_limits limits = {.ranks = ranks, .tokens_max = 16, .payload_bytes = 1 << 14};
    memset(w, 0, sizeof *w);
    limits.experts_max = 20;
    w->rounds = 2;
    w->victim = -1;
    sy_case_make(&w->c, seed, &limits);
    sy_ref_route(&w->c.world, &w->ref);
}

static void close_world(struct world *w)
{
    sy_ref_route_free(&w->ref);
    sy_case_free(&w->c);
}

static void play(struct world *w)
{
    pthread_t threads[FAKE_DEVICES];
    struct seat seats[FAKE_DEVICES];
    CHECK(sy_id_create(&w->id) == SY_OK, "%s", sy_last_error());
    for (int r = 0; r < w->c.world.ranks; r++) {
        seats[r] = (struct seat){w, r};
        if (pthread_create(threads + r, NULL, sit, seats + r))
            abort();
    }
    for (int r = 0; r < w->c.world.ranks; r++)
        pthread_join(threads[r], NULL);
    sy_id_discard(&w->id);
}

/* --- finding it ----------------------------------------------------------------------------- */

static void expect_missing(const char *word)
{
    sy_engine_info info = {.size = sizeof info};
    sy_group_config config = {.size = sizeof config,
                              .engine = SY_ENGINE_CUDA,
                              .boot = SY_BOOT_ID,
                              .ranks = 1,
                              .experts = 4,
                              .topk_max = 2,
                              .tokens_max = 8,
                              .row_bytes_max = 64};
    sy_status status;
    fake_install();
    CHECK(sy_engine_query(SY_ENGINE_CUDA, &info) == SY_OK, "%s", sy_last_error());
    CHECK(!info.available && strstr(info.detail, word), "available %d, \"%s\", not %s",
          info.available, info.detail, word);
    status = sy_group_check(&config);
    CHECK(status == SY_UNSUPPORTED && strstr(sy_last_error(), word), "%s: \"%s\", not %s",
          sy_status_name(status), sy_last_error(), word);
}

static void what_is_missing(void)
{
    sy_engine_info info = {.size = sizeof info};
    fake.no_driver = 1;
    expect_missing("libcuda.so.1");
    CHECK(sy_engine_query(SY_ENGINE_AUTO, &info) == SY_OK && info.engine == SY_ENGINE_CPU,
          "AUTO without a driver is engine %d", info.engine);
    fake.no_driver = 0;
    fake.devices = 0;
    expect_missing("no GPU");
    fake.devices = FAKE_DEVICES;
    fake.major = 7;
    expect_missing("compute capability 7.0");
    fake.major = 9;
    fake.no_compiler = 1;
    expect_missing("libnvrtc.so.13");
    fake.no_compiler = 0;
    for (size_t i = 0; i < FAKE_SYMBOLS; i++) {
        fake.no_symbol = fake_symbols[i].name;
        expect_missing(fake.no_symbol);
    }
    fake.no_symbol = NULL;
    fake_install();
    CHECK(sy_engine_query(SY_ENGINE_AUTO, &info) == SY_OK, "%s", sy_last_error());
    CHECK(info.engine == SY_ENGINE_CUDA && info.available && info.devices == FAKE_DEVICES,
          "engine %d, available %d, %d devices", info.engine, info.available, info.devices);
    CHECK(strstr(info.detail, "sm_90") && strstr(info.detail, "NVRTC 13.0"), "\"%s\"", info.detail);
}

/* --- whole groups --------------------------------------------------------------------------- */

static void cases(int ranks, uint64_t begin, uint64_t end)
{
    for (uint64_t seed = begin; seed < end; seed++) {
        static struct world w;
        char text[SY_CASE_TEXT];
        open_world(&w, seed, ranks);
        play(&w);
        for (int r = 0; r < ranks; r++)
            CHECK(!w.text[r][0], "seed %llu, rank %d: %s\n  %s", (unsigned long long)seed, r,
                  w.text[r], sy_case_text(&w.c, text));
        close_world(&w);
        CHECK(!fake_leak(), "seed %llu: %s are left", (unsigned long long)seed, fake_leak());
    }
}

static void conform(void)
{
    fake_install();
    cases(1, 0, 15);
    cases(2, 100, 115);
    cases(4, 200, 215);
}

static void conform_any_shape(void)
{
    uint64_t before = fake.compiled;
    setenv("SY_JIT", "0", 1);
    setenv("SY_CACHE", "0", 1);
    fake_install();
    cases(2, 300, 310);
    unsetenv("SY_JIT");
    unsetenv("SY_CACHE");
    CHECK(fake.compiled > before && fake.compiled <= before + 10 * SY_KERNELS,
          "%llu kernels were compiled", (unsigned long long)(fake.compiled - before));
}

static void one_ways(const char *way)
{
    setenv("SY_HEAP", way, 1);
    fake_install();
    cases(3, 400, 404);
    unsetenv("SY_HEAP");
}

static void heap_ways(void)
{
    one_ways("1");
    one_ways("2");
    fake.no_vmm = 1;
    cases(3, 410, 412);
    fake.no_vmm = 0;
}

static void expect_failure(int ranks, sy_status status, const char *word)
{
    static struct world w;
    open_world(&w, 500, ranks);
    play(&w);
    for (int r = 0; r < ranks; r++)
        CHECK(w.status[r] == status && strstr(w.text[r], word), "rank %d: %s, \"%s\", not %s", r,
              sy_status_name(w.status[r]), w.text[r], word);
    close_world(&w);
    CHECK(!fake_leak(), "%s are left", fake_leak());
}

/* Drivers without stream-ordered memory. */
static void no_pools(void)
{
    fake_install();
    fake.no_pools = 1;
    cases(2, 420, 424);
    fake.no_pools = 0;
}

static void heap_refusals(void)
{
    setenv("SY_HEAP", "3", 1);
    expect_failure(2, SY_UNSUPPORTED, "rank 0's GPU has no fabric handles");
    unsetenv("SY_HEAP");
    fake.no_peers = 1;
    expect_failure(4, SY_UNSUPPORTED, "the GPU of rank 0 cannot reach that of rank 2");
    fake.no_peers = 0;
}

/* The first rank makes the id, behind the fork: its thread may be at malloc()'s lock just then,
 * which a sanitizer's malloc() does not give free in the child. */
static void share_id(sy_id *id, int rank, const int ends[2])
{
    if (rank)
        CHECK(read(ends[0], id, sizeof *id) == sizeof *id, "rank %d got no id", rank);
    for (int others = rank ? 0 : 2; others; others--) {
        CHECK(others < 2 || sy_id_create(id) == SY_OK, "%s", sy_last_error());
        CHECK(write(ends[1], id, sizeof *id) == sizeof *id, "the id was not passed on");
    }
}

/* Every rank is a process; memory travels between them. */
static void processes(const char *way)
{
    static struct world w;
    pid_t pids[3];
    int ends[2];
    setenv("SY_HEAP", way, 1);
    open_world(&w, 600, 3);
    CHECK(pipe(ends) == 0, "pipe");
    fflush(stdout);
    for (int r = 0; r < 3; r++) {
        struct seat seat = {&w, r};
        pids[r] = fork();
        if (!pids[r]) {
            share_id(&w.id, r, ends);
            fake_install();
            sit(&seat);
            if (w.text[r][0])
                printf("  rank %d: %s\n", r, w.text[r]);
            fake_close_pools();
            fflush(stdout);
            _exit(w.text[r][0] ? 1 : fake_leak() ? 2 : 0);
        }
    }
    for (int r = 0; r < 3; r++) {
        int how = 0;
        waitpid(pids[r], &how, 0);
        CHECK(how == 0, "SY_HEAP=%s: rank %d ended with %#x", way, r, (unsigned)how);
    }
    close(ends[0]);
    close(ends[1]);
    close_world(&w);
    unsetenv("SY_HEAP");
}

static void ranks_as_processes(void)
{
    fake_close_pools();
    processes("1");
    processes("2");
    fake.devices = 2; /* ranks 0 and 2 share one */
    processes("1");
    fake.devices = FAKE_DEVICES;
}

/* --- ranks that share a GPU ----------------------------------------------------------------- */

/* Kernels of both ranks of a GPU run at the same time, and nothing is loaded once they do. */
static void shared_gpus(void)
{
    setenv("SY_CACHE", "0", 1);
    fake_install();
    fake.devices = 2;
    fake.blocks_most = 0;
    fake.loads = 0;
    cases(4, 800, 808);
    cases(3, 808, 812);
    CHECK(fake.blocks_most == FAKE_SMS / 2, "a launch had %u blocks", fake.blocks_most);
    /* For each rank the four for any shape. */
    CHECK(fake.loads == (8 * 4 + 4 * 3) * 4, "%llu kernels were loaded",
          (unsigned long long)fake.loads);
    setenv("SY_HEAP", "2", 1);
    cases(4, 812, 814);
    unsetenv("SY_HEAP");
    fake.devices = 1;
    expect_failure(3, SY_UNSUPPORTED, "3 ranks, rank 0 among them, share a GPU of 2 multi");
    setenv("CUDA_DEVICE_MAX_CONNECTIONS", "7", 1);
    expect_failure(2, SY_UNSUPPORTED, "CUDA_DEVICE_MAX_CONNECTIONS=8 or more");
    setenv("CUDA_DEVICE_MAX_CONNECTIONS", "8", 1);
    cases(2, 814, 816);
    unsetenv("CUDA_DEVICE_MAX_CONNECTIONS");
    fake.devices = FAKE_DEVICES;
    unsetenv("SY_CACHE");
}

/* --- failing -------------------------------------------------------------------------------- */

/* Calls that a group's life takes. */
static long count_calls(int ranks, int victim)
{
    static struct world w;
    open_world(&w, 700, ranks);
    w.rounds = 1;
    w.victim = victim;
    fake.calls = 0;
    fake.fail_at = 0;
    play(&w);
    for (int r = 0; r < ranks; r++)
        CHECK(!w.text[r][0], "rank %d: %s", r, w.text[r]);
    close_world(&w);
    return fake.calls;
}

/* What ranks share, like compiled kernels, is one rank's call today and another's tomorrow; so the
 * last numbers may not come up. */
static void fail_one(int ranks, int victim, long nth, long *noticed)
{
    static struct world w;
    int told = 0;
    open_world(&w, 700, ranks);
    w.rounds = 1;
    w.victim = victim;
    fake_install();
    fake.calls = 0;
    fake.failed = NULL;
    fake.fail_at = nth;
    play(&w);
    fake.fail_at = 0;
    for (int r = 0; r < ranks; r++)
        told |= w.text[r][0] != 0;
    *noticed += told;
    if (!fake.failed)
        fake.failed = "none";
    CHECK(told || strcmp(fake.failed, "cuLaunchKernel"), "a lost launch was not told");
    CHECK(!fake_leak(), "call %ld (%s) failed: %s are left", nth, fake.failed, fake_leak());
    memset(fake.live, 0, sizeof fake.live);
    close_world(&w);
}

/* Closing down goes on whatever fails, so not every failure is told. */
static void every_call(int ranks, int victim)
{
    long calls, noticed = 0;
    fake_install();
    setenv("SY_CACHE", "0", 1);
    calls = count_calls(ranks, victim);
    CHECK(calls > 100, "%ld calls", calls);
    for (long nth = 1; nth <= calls; nth++)
        fail_one(ranks, victim, nth, &noticed);
    CHECK(noticed > calls / 3 && noticed < calls, "%ld of %ld failures were told", noticed, calls);
    unsetenv("SY_CACHE");
}

static void every_call_alone(void)
{
    every_call(1, 0);
}

static void every_call_of_one_of_two(void)
{
    every_call(2, 0);
}

/* --- streams and graphs --------------------------------------------------------------------- */

#define RANKS 2

static sy_id shared_id;
static char problems[RANKS][TEXT];

static sy_group *small_group(int rank)
{
    sy_group_config config = {.size = sizeof config,
                              .boot = SY_BOOT_ID,
                              .id = shared_id,
                              .rank = rank,
                              .ranks = RANKS,
                              .engine = SY_ENGINE_CUDA,
                              .experts = 6,
                              .topk_max = 4,
                              .tokens_max = 24,
                              .row_bytes_max = 256};
    sy_group *group = NULL;
    if (sy_group_create(&config, &group) != SY_OK)
        snprintf(problems[rank], TEXT, "%s", sy_last_error());
    return group;
}

static struct rounds small_rounds(sy_group *group, int rank, int mode)
{
    struct rounds r = {.group = group,
                       .rank = rank,
                       .ranks = RANKS,
                       .mode = mode,
                       .layout = mode == SY_LATENCY ? SY_RANK_MAJOR : SY_TOKEN_MAJOR,
                       .topk = 4,
                       .experts = 6,
                       .hidden = 64,
                       .tokens_max = 24};
    if (group && rounds_open(&r, problems[rank]))
        abort();
    return r;
}

/* Makes the context current that the engine has taken: captures and replays need it. */
static void on_device(int rank)
{
    fake_cuCtxPushCurrent_v2(fake_contexts + rank);
}

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

/* Routing, dispatch and combine, captured once and run with new data again and again, an eager
 * batch of another route in between. */
static void *graph_rank(void *context)
{
    const int rank = (int)(intptr_t)context;
    sy_group *group;
    on_device(rank);
    group = small_group(rank);
    for (int mode = SY_THROUGHPUT; group && mode <= SY_LATENCY; mode++) {
        struct rounds in_graph = small_rounds(group, rank, mode);
        struct rounds eager = small_rounds(group, rank, mode);
        sy_cuda_stream s;
        int64_t totals[SY_TOTALS];
        uint64_t syncs;
        fake_cuStreamCreate(&s, SY_CU_STREAM_NON_BLOCKING);
        rounds_fill(&eager, 0, 5);
        complain(rank, "before", rounds_run(&eager, NULL));
        rounds_fill(&in_graph, 0, 20);
        fake_capture_begin(s);
        complain(rank, "captured", rounds_run(&in_graph, (sy_stream *)(void *)s));
        fake_capture_end(s);
        for (uint64_t n = 1; n < 12 && !problems[rank][0]; n++) {
            rounds_fill(&in_graph, n, 20);
            fake_replay(s);
            check_result(rank, &in_graph);
            rounds_fill(&eager, n, (int64_t)(n % 24));
            complain(rank, "eager", rounds_run(&eager, (sy_stream *)(void *)s));
            complain(rank, "sync", sy_stream_sync(group, (sy_stream *)(void *)s));
            check_result(rank, &eager);
        }
        /* Events do not see runs of graphs, so this waits for all that the GPU has. */
        syncs = fake.syncs;
        complain(rank, "totals", sy_route_totals(in_graph.route, totals));
        if (fake.syncs == syncs)
            snprintf(problems[rank], TEXT, "the totals did not wait for the graph");
        free(s->graph);
        fake_cuStreamDestroy_v2(s);
        rounds_close(&in_graph);
        rounds_close(&eager);
    }
    complain(rank, "destroy", sy_group_destroy(group));
    return NULL;
}

/* Operations on changing streams. */
static void *streams_rank(void *context)
{
    const int rank = (int)(intptr_t)context;
    sy_cuda_stream s[3] = {NULL, NULL, NULL};
    sy_stream *made = NULL;
    sy_group *group;
    on_device(rank);
    group = small_group(rank);
    fake_cuStreamCreate(s + 1, SY_CU_STREAM_NON_BLOCKING);
    fake_cuStreamCreate(s + 2, SY_CU_STREAM_DEFAULT);
    if (group) {
        struct rounds r = small_rounds(group, rank, SY_THROUGHPUT);
        struct rounds gone = small_rounds(group, rank, SY_THROUGHPUT);
        rounds_fill(&gone, 0, 24);
        complain(rank, "first", rounds_run(&gone, (sy_stream *)(void *)s[2]));
        rounds_close(&gone); /* with its event, which later launches must not wait for */
        for (uint64_t n = 0; n < 9 && !problems[rank][0]; n++) {
            sy_tensor view;
            rounds_fill(&r, n, 24);
            complain(rank, "route", rounds_route(&r, (sy_stream *)(void *)s[n % 3]));
            complain(rank, "dispatch", rounds_dispatch(&r, &view, (sy_stream *)(void *)s[n / 3]));
            complain(rank, "combine", rounds_combine(&r, &view, (sy_stream *)(void *)s[n % 2]));
            complain(rank, "sync", sy_stream_sync(group, (sy_stream *)(void *)s[n % 2]));
            check_result(rank, &r);
        }
        if (sy_stream_create(group, &made) != SY_UNSUPPORTED ||
            sy_stream_call(group, NULL, NULL, NULL) == SY_OK)
            snprintf(problems[rank], TEXT, "streams of the library's own");
        rounds_close(&r);
    }
    fake_cuStreamDestroy_v2(s[1]);
    fake_cuStreamDestroy_v2(s[2]);
    complain(rank, "destroy", sy_group_destroy(group));
    return NULL;
}

/* Fewer multiprocessors for each call. */
static int sms_of_calls;

static void *sms_rank(void *context)
{
    const int rank = (int)(intptr_t)context;
    sy_group *group;
    on_device(rank);
    group = small_group(rank);
    for (int mode = SY_THROUGHPUT; group && mode <= SY_LATENCY; mode++) {
        struct rounds r = small_rounds(group, rank, mode);
        r.sms = sms_of_calls;
        rounds_fill(&r, 1, 24);
        complain(rank, "a batch", rounds_run(&r, NULL));
        complain(rank, "sync", sy_stream_sync(group, NULL));
        check_result(rank, &r);
        rounds_close(&r);
    }
    complain(rank, "destroy", sy_group_destroy(group));
    return NULL;
}

/* --- faults --------------------------------------------------------------------------------- */

static sy_status verdicts[RANKS];
static char verdict_texts[RANKS][256];
static double seconds[RANKS];

static double now(void)
{
    return (double)sy_os_real.now_ns() * 1e-9;
}

/* Rank 1 does not come; abort: instead it says so. What rank 0's kernel waits for never happens.
 * That it leaves, and why, goes through memory that a GPU would reach: the stop word into its heap,
 * the report out of it. */
static void fault_rank(int rank, int abort)
{
    sy_fault fault = {.size = sizeof fault};
    sy_group *group;
    struct rounds r;
    double begun;
    on_device(rank);
    group = small_group(rank);
    if (!group)
        return;
    r = small_rounds(group, rank, SY_THROUGHPUT);
    rounds_fill(&r, 0, 24);
    complain(rank, "at first", rounds_run(&r, NULL));
    complain(rank, "barrier", sy_group_barrier(group));
    begun = now();
    if (rank == 0) {
        rounds_run(&r, NULL);
        sy_stream_sync(group, NULL);
    } else if (abort) {
        sy_os_real.sleep_ns(100000000);
        sy_group_abort(group);
    }
    for (int i = 0; i < 8000 && (verdicts[rank] = sy_group_poll(group, &fault)) == SY_OK; i++)
        sy_os_real.sleep_ns(1000000);
    seconds[rank] = now() - begun;
    snprintf(verdict_texts[rank], sizeof *verdict_texts, "%s", fault.text);
    rounds_close(&r);
    complain(rank, "destroy", sy_group_destroy(group));
}

static void *late_rank(void *context)
{
    fault_rank((int)(intptr_t)context, 0);
    return NULL;
}

static void *abort_rank(void *context)
{
    fault_rank((int)(intptr_t)context, 1);
    return NULL;
}

static void both_ranks(void *(*part)(void *))
{
    pthread_t threads[RANKS];
    CHECK(sy_id_create(&shared_id) == SY_OK, "%s", sy_last_error());
    memset(problems, 0, sizeof problems);
    for (int r = 0; r < RANKS; r++)
        if (pthread_create(threads + r, NULL, part, (void *)(intptr_t)r))
            abort();
    for (int r = 0; r < RANKS; r++)
        pthread_join(threads[r], NULL);
    for (int r = 0; r < RANKS; r++)
        CHECK(!problems[r][0], "rank %d: %s", r, problems[r]);
    CHECK(!fake_leak(), "%s are left", fake_leak());
}

static void graphs(void)
{
    fake_install();
    both_ranks(graph_rank);
}

static void streams(void)
{
    uint64_t before = fake.waits, changes = 0;
    for (int n = 0; n < 9; n++)
        changes += (n > 0 && n % 3 != (n - 1) % 2) + (n / 3 != n % 3) + (n % 2 != n / 3);
    fake_install();
    both_ranks(streams_rank);
    CHECK(fake.waits - before == RANKS * changes, "%llu waits for %llu changes of stream",
          (unsigned long long)(fake.waits - before), (unsigned long long)(RANKS * changes));
}

static void sms(void)
{
    static const struct {
        int asked;
        unsigned blocks;
    } want[] = {{0, FAKE_SMS}, {1, 1}, {FAKE_SMS, FAKE_SMS}, {1000, FAKE_SMS}};
    fake_install();
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        fake.blocks_most = 0;
        sms_of_calls = want[i].asked;
        both_ranks(sms_rank);
        CHECK(fake.blocks_most == want[i].blocks, "sms %d: %u blocks, not %u", want[i].asked,
              fake.blocks_most, want[i].blocks);
    }
}

static void same_verdict(sy_status status, const char *word)
{
    for (int r = 0; r < RANKS; r++) {
        CHECK(verdicts[r] == status && strstr(verdict_texts[r], word), "rank %d: %s, \"%s\"", r,
              sy_status_name(verdicts[r]), verdict_texts[r]);
        CHECK(!strcmp(verdict_texts[r], verdict_texts[0]), "\"%s\" and \"%s\"", verdict_texts[r],
              verdict_texts[0]);
    }
}

static void faults(void)
{
    fake_install();
    setenv("SY_TIMEOUT_MS", "600", 1);
    both_ranks(late_rank);
    same_verdict(SY_TIMEOUT, "rank 0 waited 600 ms for rank 1");
    setenv("SY_TIMEOUT_MS", "20000", 1);
    both_ranks(abort_rank);
    same_verdict(SY_ABORTED, "rank 1 called sy_group_abort()");
    CHECK(seconds[0] < 5, "the kernel left after %.1f s", seconds[0]);
    unsetenv("SY_TIMEOUT_MS");
    both_ranks(graph_rank); /* life goes on */
}

int main(void)
{
    char folder[] = P_tmpdir "/switchyard-XXXXXX", command[128];
    if (!mkdtemp(folder))
        abort();
    setenv("XDG_CACHE_HOME", folder, 1);
    TEST(ranks_as_processes);
    TEST(what_is_missing);
    TEST(conform);
    TEST(conform_any_shape);
    TEST(heap_ways);
    TEST(no_pools);
    TEST(heap_refusals);
    TEST(shared_gpus);
    TEST(graphs);
    TEST(streams);
    TEST(sms);
    TEST(faults);
    TEST(every_call_alone);
    TEST(every_call_of_one_of_two);
    fake_close_pools();
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (system(command))
        return 1;
    return check_end();
}
