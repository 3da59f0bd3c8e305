/* group_world.h - what the fault tests share: ranks as processes (boot_world.h), each with a group,
 * batches that check their own results, and a second group of those that are left.
 *
 *   1  Groups      2  Batches      3  After the fault      4  A clock that kills
 */
#ifndef SY_TESTS_GROUP_WORLD_H
#define SY_TESTS_GROUP_WORLD_H

#include <pthread.h>

#include "boot_world.h"
#include "crew.h"
#include "run_case.h"

/* ---- 1. Groups ------------------------------------------------------------------------------- */

/* scene->timeout_ms, scene->way and scene->creator count; 0 ms: 10 s. */
MAYBE_UNUSED static sy_status open_group(const struct scene *scene, int rank, sy_group **group)
{
    sy_group_config c;
    crew_config(&c, scene->ranks, rank);
    c.boot = scene->way;
    c.timeout_ns = (scene->timeout_ms ? scene->timeout_ms : 10000) * MS;
    if (scene->way == SY_BOOT_ENV)
        set_torchrun(rank, scene->ranks);
    if (scene->way == SY_BOOT_ID && rank == scene->creator) {
        sy_status status = sy_id_create(&sh->id);
        if (status != SY_OK)
            memset(&sh->id, 0, sizeof sh->id); /* no id, and all must know */
        atomic_store(&sh->id_ready, 1);
        if (status != SY_OK)
            return status;
    }
    while (scene->way == SY_BOOT_ID && !atomic_load(&sh->id_ready))
        sleep_ms(1);
    c.id = sh->id;
    return sy_group_create(&c, group);
}

/* ---- 2. Batches ------------------------------------------------------------------------------ */

/* One route, and rows for it. Throughput or latency. */
struct player {
    sy_group *group;
    sy_route *route;
    struct crew_batch batch;
    int experts, rank;
};

MAYBE_UNUSED static sy_status open_player(struct player *p, sy_group *group, int rank, int ranks,
                                          int mode)
{
    sy_route_config config = crew_route(mode, SY_TOKEN_MAJOR);
    p->group = group;
    p->route = NULL;
    p->experts = 2 * ranks;
    p->rank = rank;
    crew_fill(&p->batch, rank, p->experts);
    return sy_route_create(group, &config, NULL, &p->route);
}

/* The steps of a batch; the last one waits, and looks at the sums: two experts are those of one
 * rank or of two. */
enum batch_step { STEP_SET, STEP_DISPATCH, STEP_COMBINE, STEP_SYNC, STEP_BARRIER, BATCH_STEPS };

static const char *const step_names[BATCH_STEPS] = {"route_set", "dispatch", "combine", "sync",
                                                    "barrier"};

static sy_status check_sums(const struct player *p)
{
    for (int t = 0; t < CREW_TOKENS; t++) {
        int together = p->batch.ids[2 * t] / 2 == p->batch.ids[2 * t + 1] / 2;
        for (int i = t * CREW_HIDDEN; i < (t + 1) * CREW_HIDDEN; i++) {
            float want = p->batch.x[i] * (together ? 1.0f : 2.0f);
            if (p->batch.out[i] != want)
                return sy_fail(SY_STATE, "out[%d] is %f and not %f", i, (double)p->batch.out[i],
                               (double)want);
        }
    }
    return SY_OK;
}

MAYBE_UNUSED static sy_status play_step(struct player *p, enum batch_step step)
{
    sy_status status;
    switch (step) {
    case STEP_SET:
        return sy_route_set(p->route, &p->batch.input, NULL);
    case STEP_DISPATCH:
        return sy_dispatch(p->route, &p->batch.dispatch, NULL);
    case STEP_COMBINE:
        return sy_combine(p->route, &p->batch.combine, NULL);
    case STEP_SYNC:
        status = sy_stream_sync(p->group, NULL);
        return status == SY_OK ? check_sums(p) : status;
    default:
        return sy_group_barrier(p->group);
    }
}

MAYBE_UNUSED static sy_status play_batch(struct player *p)
{
    sy_status status = SY_OK;
    for (int step = STEP_SET; step < BATCH_STEPS && status == SY_OK; step++)
        status = play_step(p, (enum batch_step)step);
    return status;
}

/* ---- 3. After the fault ---------------------------------------------------------------------- */

/* Waits until the group's verdict is there and keeps it: without the name of a call, so that all
 * ranks' texts compare. */
MAYBE_UNUSED static void record_verdict(int rank, sy_group *group, unsigned limit_ms)
{
    sy_fault fault = {.size = sizeof fault};
    sy_status status = sy_group_poll(group, &fault);
    uint64_t end = now_ns() + limit_ms * MS;
    while (status == SY_OK && now_ns() < end) {
        sleep_ms(1);
        status = sy_group_poll(group, &fault);
    }
    record(rank, status);
    sh->results[rank].culprit = fault.culprit;
}

/* The life after it: everything goes, and what is left of the world runs a case of its own. `gone`
 * is not part of it; -1: all are. */
MAYBE_UNUSED static void go_on(const struct scene *scene, int rank, struct player *p, int gone)
{
    struct sy_case_limits limits = {
        .ranks = scene->ranks - (gone >= 0), .tokens_max = 8, .payload_bytes = 4096};
    int self = rank - (gone >= 0 && rank > gone);
    sy_status status = sy_route_destroy(p->route);
    struct sy_ref_route ref = {0};
    sy_group_config config;
    sy_group *group = NULL;
    struct sy_case c;
    char text[512] = "";
    if (status == SY_OK)
        status = sy_group_destroy(p->group);
    if (!self) {
        if (sy_id_create(&sh->next) != SY_OK)
            memset(&sh->next, 0, sizeof sh->next);
        atomic_store(&sh->next_ready, 1);
    }
    while (!atomic_load(&sh->next_ready))
        sleep_ms(1);
    sy_case_make(&c, (uint64_t)case_number, &limits);
    sy_ref_route(&c.world, &ref);
    run_case_config(&c, self, &config);
    config.boot = SY_BOOT_ID;
    config.id = sh->next;
    if (status == SY_OK)
        status = sy_group_create(&config, &group);
    if (status == SY_OK && run_case(&c, &ref, self, group, 1, text))
        status = sy_fail(SY_STATE, "%s", text);
    if (status == SY_OK)
        status = sy_group_barrier(group);
    if (status == SY_OK)
        status = sy_group_destroy(group);
    if (status != SY_OK) { /* overwrites the verdict, so the test fails */
        sy_fail_in(SY_STATE, "afterwards");
        record(rank, SY_STATE);
    }
    sy_ref_route_free(&ref);
    sy_case_free(&c);
}

/* Whether all ranks but `except` ended with this status, texts that are equal and have that in
 * them, and nothing left. */
MAYBE_UNUSED static int one_verdict(const struct scene *scene, int except, int status,
                                    const char *part)
{
    int first = except == 0 ? 1 : 0, good = all_ended(scene, except, status, part);
    for (int i = 0; i < scene->ranks; i++) {
        if (i == except || !strcmp(sh->results[i].text, sh->results[first].text))
            continue;
        printf("  rank %d: \"%s\", and rank %d: \"%s\"\n", i, sh->results[i].text, first,
               sh->results[first].text);
        good = 0;
    }
    return good;
}

/* When the last of the ranks but `except` had its verdict, in ms after the mark. */
MAYBE_UNUSED static double latest_ms(const struct scene *scene, int except)
{
    uint64_t latest = 0;
    for (int i = 0; i < scene->ranks; i++)
        if (i != except && sh->results[i].at_ns > latest)
            latest = sh->results[i].at_ns;
    return ((double)latest - (double)atomic_load(&sh->mark_ns)) / 1e6;
}

static void die_now(void)
{
    atomic_store(&sh->mark_ns, now_ns());
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

/* ---- 4. A clock that kills --------------------------------------------------------------------
 * Kernels look at the clock in each round of waiting, so a process that dies of its n-th look dies
 * anywhere in them. */

static _Atomic int looks_left = -1; /* -1: it is a clock like any other */

static uint64_t deadly_now(void)
{
    if (atomic_load(&looks_left) >= 0 && atomic_fetch_sub(&looks_left, 1) == 0)
        die_now();
    return sy_os_real.now_ns();
}

/* Before the process has threads. */
MAYBE_UNUSED static void use_deadly_clock(void)
{
    static struct sy_os os;
    os = sy_os_real;
    os.now_ns = deadly_now;
    sy_os = &os;
}

/* What every test program here checks last: nothing of the library is in the system. Other programs
 * use /dev/shm, too; a file of the library would have its name. */
struct traces {
    struct names names;
    int fds;
};

static int count_shm(void)
{
    DIR *dir = opendir("/dev/shm");
    struct dirent *entry;
    int count = 0;
    while (dir && (entry = readdir(dir)))
        count += strstr(entry->d_name, "switchyard") || !strncmp(entry->d_name, "sy", 2);
    if (dir)
        closedir(dir);
    return count;
}

MAYBE_UNUSED static void read_traces(struct traces *t)
{
    read_names(&t->names);
    t->fds = count_entries("/proc/self/fd");
}

MAYBE_UNUSED static int no_traces(const struct traces *before)
{
    int names = names_left(&before->names);
    int fds = count_entries("/proc/self/fd") - before->fds;
    int shm = count_shm();
    if (!names && !fds && !shm && waitpid(-1, NULL, WNOHANG) < 0)
        return 1;
    printf("  %d sockets and %d descriptors more than before, %d files in /dev/shm\n", names, fds,
           shm);
    return 0;
}

#endif
