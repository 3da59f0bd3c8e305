/* conform_test.c - the library against the reference over generated cases, bit for bit.
 *
 *     conform_test                     what `make check` runs
 *     conform_test A B [OPTION=VALUE]  seeds A to B-1: ranks=N ranks_max=N tokens_max=N modes=BITS
 *                                      layouts=BITS payload=BYTES threads=N rounds=N processes=1
 *
 * Ranks are threads of one process (each with its own group), or processes. Each case makes its own
 * group, so the bootstrap runs as often as there are cases. A seed that fails is printed with its
 * case; running that seed alone shows it again. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "run_case.h"

#define RANKS_MAX 64

struct options {
    struct sy_case_limits limits;
    int threads, rounds, processes;
};

/* What the ranks of one case share. Ranks that are processes share it, too. */
struct world {
    struct sy_case c;
    struct sy_ref_route ref;
    sy_id id;
    const struct options *o;
    char (*text)[512]; /* [ranks]: empty, or what went wrong */
};

struct seat {
    struct world *w;
    int rank;
};

static void sit(struct world *w, int rank)
{
    sy_group_config config;
    sy_group *group = NULL;
    run_case_config(&w->c, rank, &config);
    config.boot = SY_BOOT_ID;
    config.id = w->id;
    config.rank = rank;
    config.ranks = w->c.world.ranks;
    config.timeout_ns = 20000000000ull;
    config.cpu_threads = w->o->threads ? w->o->threads : 1 + (int)(w->c.seed + (uint64_t)rank) % 3;
    if (sy_group_create(&config, &group) != SY_OK) {
        snprintf(w->text[rank], sizeof *w->text, "%s", sy_last_error());
        return;
    }
    if (run_case(&w->c, &w->ref, rank, group, w->o->rounds, w->text[rank]))
        sy_group_abort(group);
    else if (sy_group_barrier(group) != SY_OK)
        snprintf(w->text[rank], sizeof *w->text, "%s", sy_last_error());
    if (sy_group_destroy(group) != SY_OK)
        snprintf(w->text[rank], sizeof *w->text, "%s", sy_last_error());
}

static void *sit_thread(void *seat)
{
    sit(((struct seat *)seat)->w, ((struct seat *)seat)->rank);
    return NULL;
}

static void as_threads(struct world *w)
{
    pthread_t threads[RANKS_MAX];
    struct seat seats[RANKS_MAX];
    for (int r = 0; r < w->c.world.ranks; r++) {
        seats[r] = (struct seat){w, r};
        if (pthread_create(threads + r, NULL, sit_thread, seats + r))
            abort();
    }
    for (int r = 0; r < w->c.world.ranks; r++)
        pthread_join(threads[r], NULL);
}

static void as_processes(struct world *w)
{
    pid_t pids[RANKS_MAX];
    fflush(stdout);
    for (int r = 0; r < w->c.world.ranks; r++) {
        pids[r] = fork();
        if (!pids[r]) {
            sit(w, r);
            _exit(0);
        }
    }
    for (int r = 0; r < w->c.world.ranks; r++) {
        int how = 0;
        waitpid(pids[r], &how, 0);
        if (how && !w->text[r][0])
            snprintf(w->text[r], sizeof *w->text, "the process ended with %d", how);
    }
}

/* 1: as the reference. */
static int run_seed(uint64_t seed, const struct options *o)
{
    size_t bytes = RANKS_MAX * sizeof(char[512]);
    struct world w = {.o = o};
    char text[SY_CASE_TEXT];
    int good = 1;
    sy_case_make(&w.c, seed, &o->limits);
    sy_ref_route(&w.c.world, &w.ref);
    w.text = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (sy_id_create(&w.id) != SY_OK || w.text == MAP_FAILED) {
        CHECK(0, "seed %llu: no id: %s", (unsigned long long)seed, sy_last_error());
        return 0;
    }
    if (o->processes)
        as_processes(&w);
    else
        as_threads(&w);
    for (int r = 0; r < w.c.world.ranks; r++) {
        if (!w.text[r][0])
            continue;
        CHECK(0, "seed %llu, rank %d: %s", (unsigned long long)seed, r, w.text[r]);
        if (good)
            printf("  case: %s\n", sy_case_text(&w.c, text));
        good = 0;
    }
    munmap(w.text, bytes);
    sy_ref_route_free(&w.ref);
    sy_case_free(&w.c);
    return good;
}

static void run_seeds(uint64_t begin, uint64_t end, const struct options *o)
{
    int bad = 0;
    for (uint64_t seed = begin; seed < end && bad < 3; seed++)
        bad += !run_seed(seed, o);
}

/* --- what make check runs ------------------------------------------------------------------- */

static const int ranks_of[] = {1, 2, 3, 5, 8, 16};

static void small_cases(void)
{
    for (size_t i = 0; i < sizeof ranks_of / sizeof *ranks_of; i++) {
        struct options o = {.limits = {.ranks = ranks_of[i], .tokens_max = 24}, .rounds = 2};
        o.limits.payload_bytes = 1 << 16;
        run_seeds(1000 * i, 1000 * i + (ranks_of[i] > 5 ? 60 : 150), &o);
    }
}

static void tokens_128(void)
{
    struct options o = {.limits = {.ranks_max = 8, .tokens_max = 128}, .rounds = 3};
    run_seeds(20000, 20060, &o);
}

static void tokens_4096(void)
{
    struct options o = {.limits = {.ranks_max = 5, .tokens_max = 4096}, .rounds = 1};
    o.limits.payload_bytes = 16 << 20;
    run_seeds(30000, 30012, &o);
}

static void ranks_as_processes(void)
{
    for (size_t i = 0; i < sizeof ranks_of / sizeof *ranks_of; i++) {
        struct options o = {.limits = {.ranks = ranks_of[i], .tokens_max = 64}, .rounds = 2};
        o.processes = 1;
        run_seeds(40000 + 1000 * i, 40000 + 1000 * i + 12, &o);
    }
}

static void many_threads(void)
{
    static const int threads[] = {1, 2, 3, 7, 16};
    for (size_t i = 0; i < sizeof threads / sizeof *threads; i++) {
        struct options o = {.limits = {.ranks_max = 4, .tokens_max = 64}, .rounds = 2};
        o.threads = threads[i];
        run_seeds(50000, 50012, &o); /* the same cases each time */
    }
}

/* As in groups whose books would be too long. */
static void routing_by_answers(void)
{
    setenv("SY_ROUTE_WORDS", "0", 1);
    for (size_t i = 0; i < sizeof ranks_of / sizeof *ranks_of; i++) {
        struct options o = {.limits = {.ranks = ranks_of[i], .tokens_max = 64}, .rounds = 2};
        o.limits.modes = SY_THROUGHPUT;
        run_seeds(60000 + 1000 * i, 60000 + 1000 * i + 30, &o);
    }
    unsetenv("SY_ROUTE_WORDS");
}

static int64_t value_of(char **argv, const char *name, int64_t otherwise)
{
    size_t n = strlen(name);
    for (; *argv; argv++)
        if (!strncmp(*argv, name, n) && (*argv)[n] == '=')
            return strtoll(*argv + n + 1, NULL, 0);
    return otherwise;
}

int main(int argc, char **argv)
{
    if (argc > 2) {
        struct options o = {.rounds = (int)value_of(argv, "rounds", 2)};
        uint64_t begin = strtoull(argv[1], NULL, 0), end = strtoull(argv[2], NULL, 0);
        o.limits.ranks = (int32_t)value_of(argv, "ranks", 0);
        o.limits.ranks_max = (int32_t)value_of(argv, "ranks_max", 5);
        o.limits.tokens_max = value_of(argv, "tokens_max", 24);
        o.limits.payload_bytes = value_of(argv, "payload", 1 << 16);
        o.limits.modes = (uint32_t)value_of(argv, "modes", 0);
        o.limits.layouts = (uint32_t)value_of(argv, "layouts", 0);
        o.threads = (int)value_of(argv, "threads", 0);
        o.processes = (int)value_of(argv, "processes", 0);
        run_seeds(begin, end, &o);
        printf("%llu seeds, %d failed\n", (unsigned long long)(end - begin), check_state.failures);
        return check_state.failures != 0;
    }
    TEST(small_cases);
    TEST(tokens_128);
    TEST(tokens_4096);
    TEST(ranks_as_processes);
    TEST(routing_by_answers);
    TEST(many_threads);
    return check_end();
}
