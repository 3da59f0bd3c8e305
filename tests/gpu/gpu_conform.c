/* gpu_conform.c - the CUDA engine against the reference over generated cases, bit for bit, with all
 * tensors in GPU memory.
 *
 *     gpu_conform                     what scripts/gpu-check runs
 *     gpu_conform A B [OPTION=VALUE]  seeds A to B-1: ranks=N tokens_max=N modes=BITS layouts=BITS
 *                                     payload=BYTES rounds=N processes=N timeout=SECONDS
 *
 * Kernels for any shape are taken (SY_JIT=0) unless the caller's environment says otherwise. Cases
 * that a GPU's shared memory cannot serve are counted apart. */
#define _GNU_SOURCE
#include <stdlib.h>

#include "check.h"
#include "gpu_world.h"

#define TEXT 512

struct options {
    struct sy_case_limits limits;
    int rounds, processes, timeout_s;
};

struct world {
    struct sy_case c;
    struct sy_ref_route ref;
    sy_id id;
    const struct options *o;
    struct {
        char text[TEXT]; /* empty, or what went wrong */
        int unsupported;
    } * seats; /* [ranks], shared */
};

static int gpus, unsupported, run_count;

static int open_group(struct world *w, int rank, sy_group **group)
{
    sy_group_config config;
    sy_status status;
    run_case_config(&w->c, rank, &config);
    config.engine = SY_ENGINE_CUDA;
    config.boot = SY_BOOT_ID;
    config.id = w->id;
    config.rank = rank;
    config.ranks = w->c.world.ranks;
    config.timeout_ns = (uint64_t)(w->o->timeout_s ? w->o->timeout_s : 20) * 1000000000u;
    status = sy_group_create(&config, group);
    w->seats[rank].unsupported = status == SY_UNSUPPORTED;
    if (status != SY_OK)
        snprintf(w->seats[rank].text, TEXT, "%s", sy_last_error());
    return status == SY_OK;
}

static void part(int rank, void *context)
{
    struct world *w = context;
    struct run_engine engine;
    sy_group *group = NULL;
    char *text = w->seats[rank].text;
    gpu_take(rank, (int)(w->c.seed & 1), &engine);
    if (open_group(w, rank, &group)) {
        if (run_case_on(&engine, &w->c, &w->ref, rank, group, w->o->rounds, text))
            sy_group_abort(group);
        else if (sy_group_barrier(group) != SY_OK)
            snprintf(text, TEXT, "%s", sy_last_error());
        if (sy_group_destroy(group) != SY_OK)
            snprintf(text, TEXT, "%s", sy_last_error());
    }
    gpu_give(&engine);
}

/* 1: as the reference, or beyond what the GPU has. */
static int run_seed(uint64_t seed, const struct options *o)
{
    struct world w = {.o = o};
    char text[SY_CASE_TEXT];
    int good = 1, ends;
    sy_case_make(&w.c, seed, &o->limits);
    sy_ref_route(&w.c.world, &w.ref);
    w.seats = gpu_shared(sizeof *w.seats * GPU_RANKS_MAX);
    CHECK(sy_id_create(&w.id) == SY_OK, "%s", sy_last_error());
    ends = gpu_ranks(w.c.world.ranks, o->processes, part, &w);
    run_count++;
    if (w.seats[0].unsupported) {
        sy_id_discard(&w.id);
        unsupported++;
        printf("unsupported: seed %llu: %s\n", (unsigned long long)seed, w.seats[0].text);
    }
    CHECK(ends == 0, "seed %llu: %d processes failed", (unsigned long long)seed, ends);
    for (int r = 0; r < w.c.world.ranks; r++) {
        if (!w.seats[r].text[0] || w.seats[r].unsupported)
            continue;
        CHECK(0, "seed %llu, rank %d: %s", (unsigned long long)seed, r, w.seats[r].text);
        if (good)
            printf("  case: %s\n", sy_case_text(&w.c, text));
        good = 0;
    }
    sy_ref_route_free(&w.ref);
    sy_case_free(&w.c);
    return good && ends == 0;
}

static void run_seeds(uint64_t begin, uint64_t end, const struct options *o)
{
    int bad = 0;
    for (uint64_t seed = begin; seed < end && bad < 3; seed++)
        bad += !run_seed(seed, o);
}

/* --- what gpu-check runs -------------------------------------------------------------------- */

static const int ranks_of[] = {1, 2, 4, 8};

static void ranks_as_threads(void)
{
    for (int i = 0; i < 4; i++) {
        struct options o = {.limits = {.ranks = ranks_of[i], .tokens_max = 64}, .rounds = 2};
        run_seeds(60000 + 1000 * (uint64_t)i, 60000 + 1000 * (uint64_t)i + 40, &o);
    }
}

static void more_tokens(void)
{
    struct options o = {.limits = {.ranks_max = 8, .tokens_max = 2048}, .rounds = 2};
    o.limits.payload_bytes = 4 << 20;
    run_seeds(70000, 70020, &o);
}

/* Twice as many as there are GPUs: without more ado GPUs run processes in turns, so that a wait for
 * each other lasts milliseconds. */
static void processes_share_gpus(void)
{
    struct options o = {.limits = {.ranks = gpus > 4 ? 8 : 2 * gpus, .tokens_max = 32}};
    o.rounds = 1;
    o.processes = o.limits.ranks;
    o.timeout_s = 60;
    run_seeds(87000, 87003, &o);
}

static void ranks_as_processes(void)
{
    if (gpus < 2)
        SKIP("processes with a GPU each need two, and there is one");
    for (int i = 0; i < 4 && ranks_of[i] <= gpus; i++) {
        struct options o = {.limits = {.ranks = ranks_of[i], .tokens_max = 64}, .rounds = 2};
        o.processes = ranks_of[i];
        run_seeds(80000 + 1000 * (uint64_t)i, 80000 + 1000 * (uint64_t)i + 6, &o);
    }
}

static void several_gpus_per_process(void)
{
    if (gpus < 4)
        SKIP("two processes with two GPUs each need four, and there are %d", gpus);
    for (int i = 2; i < 4 && ranks_of[i] <= gpus; i++) {
        struct options o = {.limits = {.ranks = ranks_of[i], .tokens_max = 64}, .rounds = 2};
        o.processes = 2;
        run_seeds(85000 + 1000 * (uint64_t)i, 85000 + 1000 * (uint64_t)i + 4, &o);
    }
}

/* The fallback of memory that is shared in another way, between processes and inside them. */
static void cuda_ipc(void)
{
    struct options o = {.limits = {.ranks = gpus < 4 ? gpus : 4, .tokens_max = 64}, .rounds = 2};
    if (gpus < 2)
        SKIP("processes need a GPU each, and there is one");
    setenv("SY_HEAP", "2", 1);
    o.processes = 2;
    run_seeds(88000, 88004, &o);
    unsetenv("SY_HEAP");
}

static int64_t value_of(char **argv, const char *name, int64_t otherwise)
{
    size_t n = strlen(name);
    for (; *argv; argv++)
        if (!strncmp(*argv, name, n) && (*argv)[n] == '=')
            return strtoll(*argv + n + 1, NULL, 0);
    return otherwise;
}

static int run_given(char **argv)
{
    struct options o = {.rounds = (int)value_of(argv, "rounds", 2)};
    o.limits.ranks = (int32_t)value_of(argv, "ranks", gpus);
    o.limits.tokens_max = value_of(argv, "tokens_max", 64);
    o.limits.payload_bytes = value_of(argv, "payload", 1 << 16);
    o.limits.modes = (uint32_t)value_of(argv, "modes", 0);
    o.limits.layouts = (uint32_t)value_of(argv, "layouts", 0);
    o.processes = (int)value_of(argv, "processes", 0);
    o.timeout_s = (int)value_of(argv, "timeout", 20);
    run_seeds(strtoull(argv[1], NULL, 0), strtoull(argv[2], NULL, 0), &o);
    printf("%d cases, %d beyond the GPU, %d differences\n", run_count, unsupported,
           check_state.failures);
    return check_state.failures != 0;
}

int main(int argc, char **argv)
{
    setenv("SY_JIT", "0", 0);
    gpus = gpu_count();
    if (!gpus) {
        printf("skip gpu_conform: no GPU\n0 passed, 0 failed, 1 skipped\n");
        return 0;
    }
    if (argc > 2)
        return run_given(argv);
    TEST(ranks_as_processes); /* these first: afterwards this process cannot fork */
    TEST(several_gpus_per_process);
    TEST(processes_share_gpus);
    TEST(cuda_ipc);
    TEST(ranks_as_threads);
    TEST(more_tokens);
    printf("%d cases, %d beyond the GPU\n", run_count, unsupported);
    return check_end();
}
