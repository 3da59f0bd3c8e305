/* garbage_test.c - a rank whose memory is broken writes anything into a peer's heap, at any time:
 * the peer's kernels check what they read before they use it, so that it gets wrong rows at worst,
 * or a verdict, but never crashes or hangs.
 *
 *     garbage_test [RUNS [FIRST]]
 *
 * Rank 1 has a thread that does this to rank 0, with words that look like what belongs there, while
 * both run batches in both modes and all layouts. */
#define _GNU_SOURCE
#include "api/group.h"
#include "group_world.h"
#include "prng.h"

#define TIMEOUT_MS (150 * SLOW)

/* Regions of a heap that are not rows: what kernels follow. */
struct target {
    const char *name;
    uint64_t offset, bytes;
};

#define TARGETS_MAX 40

static int find_targets(const sy_group *group, struct target *targets)
{
    static const char *const rows[] = {
        "td_rows", "tc_rows", "ld_rows", "lc_rows",
        "user",    "stop",    "fault"}; /* a stop is a stop, whoever says so */
    struct sy_region_info info[TARGETS_MAX];
    sy_u32 n = sy_heap_regions(&group->plan.limits, info, TARGETS_MAX);
    int count = 0;
    for (sy_u32 i = 0; i < n; i++) {
        int skip = info[i].bytes < 8;
        for (size_t k = 0; k < sizeof rows / sizeof *rows; k++)
            skip |= !strcmp(info[i].name, rows[k]);
        if (!skip)
            targets[count++] = (struct target){info[i].name, info[i].offset, info[i].bytes};
    }
    return count;
}

struct vandal {
    sy_group *group;
    uint64_t seed;
    _Atomic int stop;
    _Atomic long words;
    pthread_t thread;
};

/* Like a counter, an index, or a word with an epoch; or any bits. */
static uint64_t draw_word(struct sy_prng *p)
{
    uint64_t any = sy_prng_next(p);
    switch (sy_prng_below(p, 6)) {
    case 0:
        return any;
    case 1:
        return (uint64_t)sy_prng_range(p, -2, 70);
    case 2:
        return (uint64_t)sy_prng_range(p, 1, 12) << 32 | (uint32_t)any;
    case 3:
        return (uint64_t)sy_prng_range(p, 1, 12) << 32 | (uint64_t)sy_prng_below(p, 70);
    case 4:
        return any & 0x00000fff00000fffu;
    default:
        return ~0ull << sy_prng_below(p, 64);
    }
}

static void *vandalise(void *context)
{
    struct vandal *v = context;
    struct target targets[TARGETS_MAX];
    int count = find_targets(v->group, targets);
    struct sy_prng p = sy_prng_make(v->seed, 0);
    int burst = (int)sy_prng_spread(&p, 1, 200), pause_us = (int)sy_prng_spread(&p, 1, 2000);
    int only = sy_prng_once_in(&p, 2) ? (int)sy_prng_below(&p, count) : -1;
    while (!v->stop) {
        for (int i = 0; i < burst; i++) {
            const struct target *t = targets + (only >= 0 ? only : sy_prng_below(&p, count));
            uint64_t at = (uint64_t)sy_prng_below(&p, (int64_t)(t->bytes / 8)) * 8;
            uint64_t word = draw_word(&p);
            uint8_t *to = v->group->heap.base[0] + t->offset + at;
            if (sy_prng_once_in(&p, 2))
                __atomic_store_n((uint64_t *)(void *)to, word, __ATOMIC_RELAXED);
            else
                __atomic_store_n((uint32_t *)(void *)to, (uint32_t)word, __ATOMIC_RELAXED);
            v->words++;
        }
        sy_os_real.sleep_ns((uint64_t)pause_us * 1000);
    }
    return NULL;
}

/* One batch; what it delivers is not looked at. */
static sy_status play_blind(struct player *p)
{
    sy_status status = SY_OK;
    for (int step = STEP_SET; step <= STEP_COMBINE && status == SY_OK; step++)
        status = play_step(p, (enum batch_step)step);
    if (status == SY_OK)
        status = sy_stream_sync(p->group, NULL);
    return status == SY_BAD_ROUTE ? SY_OK : status;
}

static sy_status open_players(struct player *players, sy_group *group, int rank)
{
    sy_status status = SY_OK;
    for (int i = 0; i < 8 && status == SY_OK; i++) {
        struct player *p = players + i;
        sy_route_config config = crew_route(1 + i % 2, 1 + i / 2);
        p->group = group;
        crew_fill(&p->batch, rank, 4);
        p->batch.dispatch.weights = sy_tensor_2d(p->batch.weights, SY_F32, CREW_TOKENS, 2);
        p->batch.combine.weights = p->batch.dispatch.weights;
        status = sy_route_create(group, &config, NULL, &p->route);
    }
    return status;
}

/* scene->number: the seed. */
static void act_garbage(const struct scene *scene, int rank)
{
    static struct player players[8];
    struct vandal v = {.seed = (uint64_t)scene->number};
    sy_group *group = NULL;
    sy_status status = open_group(scene, rank, &group);
    if (status == SY_OK)
        status = open_players(players, group, rank);
    for (int i = 0; i < 8 && status == SY_OK; i++)
        status = play_blind(players + i);
    if (status == SY_OK)
        status = sy_group_barrier(group);
    v.group = group;
    if (rank == 1 && status == SY_OK && pthread_create(&v.thread, NULL, vandalise, &v))
        status = sy_fail(SY_STATE, "no vandal");
    for (int i = 0; i < 200 && status == SY_OK; i++)
        status = play_blind(players + i % 8);
    record(rank, status);
    if (v.thread) {
        v.stop = 1;
        pthread_join(v.thread, NULL);
        atomic_store(&sh->step[0], (int)v.words);
    }
    for (int i = 0; i < 8; i++)
        if (sy_route_destroy(players[i].route) != SY_OK)
            record(rank, SY_STATE);
    if (sy_group_destroy(group) != SY_OK)
        record(rank, SY_STATE);
}

int main(int argc, char **argv)
{
    static struct traces before;
    int runs = argc > 1 ? atoi(argv[1]) : 60, first = argc > 2 ? atoi(argv[2]) : 0, good = 1;
    int statuses[SY_NOT_READY + 1] = {0};
    long words = 0;
    sh = mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (sh == MAP_FAILED)
        return 1;
    read_traces(&before);
    for (int seed = first; seed < first + runs; seed++) {
        struct scene s = {.ranks = 2,
                          .way = SY_BOOT_ENV,
                          .act = act_garbage,
                          .number = seed,
                          .timeout_ms = TIMEOUT_MS};
        int bad = play(&s);
        for (int i = 0; i < 2; i++) {
            const struct result *r = sh->results + i;
            bad |= !r->ended || r->status == SY_STATE || r->fds_left || r->threads_left;
            statuses[r->status]++;
        }
        words += atomic_load(&sh->step[0]);
        if (bad)
            printf("  seed %d: rank 0: ended %d, %s, \"%s\"; rank 1: ended %d, %s\n", seed,
                   sh->results[0].ended, sy_status_name((sy_status)sh->results[0].status),
                   sh->results[0].text, sh->results[1].ended,
                   sy_status_name((sy_status)sh->results[1].status));
        good &= !bad;
    }
    check(
        good && words > runs * 10,
        "%d runs, %ld words: nothing seen %d, time-outs %d, values out of range %d, mismatches %d, "
        "short outputs %d",
        runs, words, statuses[SY_OK], statuses[SY_TIMEOUT], statuses[SY_PROTOCOL],
        statuses[SY_MISMATCH], statuses[SY_INVALID]);
    check(no_traces(&before), "nothing is left in the system");
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed != 0;
}
