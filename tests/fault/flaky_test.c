/* flaky_test.c - each allocation and each system call of a rank's whole life fails once: every rank
 * gets a clean status, nothing is left behind, nobody hangs.
 *
 *     flaky_test [KIND]
 *
 * Two ranks, one of them flaky: it makes a group, a stream, an event and routes in both modes, runs
 * a batch on each, and takes all of it down again.
 */
#define _GNU_SOURCE
#include "group_world.h"

#define TIMEOUT_MS (250 * SLOW)

struct life {
    sy_group *group;
    sy_stream *stream;
    sy_event *event;
    struct player player[2];
};

static sy_status live(struct life *l, const struct scene *scene, int rank)
{
    void *rows = NULL;
    SY_TRY(open_group(scene, rank, &l->group));
    SY_TRY(sy_stream_create(l->group, &l->stream));
    SY_TRY(sy_event_create(l->group, &l->event));
    SY_TRY(sy_alloc(l->group, 4096, &rows));
    for (int i = 0; i < 2; i++)
        SY_TRY(open_player(l->player + i, l->group, rank, scene->ranks, SY_THROUGHPUT + i));
    for (int i = 0; i < 2; i++)
        SY_TRY(play_batch(l->player + i));
    SY_TRY(sy_event_record(l->event, l->stream));
    SY_TRY(sy_event_sync(l->event));
    SY_TRY(sy_free(l->group, rows));
    return sy_group_barrier(l->group);
}

/* Taking it down works, whatever happened before. */
static sy_status end(struct life *l)
{
    sy_status status = SY_OK;
    for (int i = 0; i < 2 && status == SY_OK; i++)
        status = sy_route_destroy(l->player[i].route);
    if (status == SY_OK)
        status = sy_event_destroy(l->event);
    if (status == SY_OK)
        status = sy_stream_destroy(l->stream);
    return status == SY_OK ? sy_group_destroy(l->group) : status;
}

static int flaky_rank;

/* scene->number: the kind; scene->other: which call. */
static void act_flaky_life(const struct scene *scene, int rank)
{
    static struct life l;
    sy_status status;
    be_flaky(-1, 0, 0);
    if (rank == flaky_rank || scene->number == FLAKY_SIGNALS)
        arm_flaky(scene->number, scene->other, 0);
    status = live(&l, scene, rank);
    record(rank, status);
    status = end(&l);
    if (status != SY_OK) {
        sy_fail_in(status, "at the end");
        record(rank, SY_STATE);
    }
    if (rank == flaky_rank && atomic_load(&flaky_fired))
        atomic_store(&sh->step[7], 1);
    atomic_store(&flaky_kind, -1);
}

/* A rank that failed says why; the other one may have had all it needed, or hears of it. Without an
 * id, which the flaky rank could not make, there is nothing to hear of. */
static int is_clean(const struct scene *scene, int i)
{
    static const sy_id none;
    const struct result *r = &sh->results[i];
    int no_id = scene->way == SY_BOOT_ID && !memcmp(&sh->id, &none, sizeof none);
    int good = r->ended && !r->fds_left && !r->threads_left && r->status != SY_STATE &&
               (r->status != SY_INVALID || no_id) && (r->status == SY_OK || *r->text);
    if (!good)
        printf("  %s %d: rank %d: ended %d, %s, \"%s\", %d descriptors, %d threads left\n",
               flaky_names[scene->number], scene->other, i, r->ended,
               sy_status_name((sy_status)r->status), r->text, r->fds_left, r->threads_left);
    return good;
}

static int runs, unnoticed, statuses[SY_NOT_READY + 1];

static int fail_each(int kind)
{
    int good = 1;
    for (int nth = 1; nth < 1000; nth++) {
        struct scene s = {.ranks = 2,
                          .way = nth % 2 ? SY_BOOT_ENV : SY_BOOT_ID,
                          .creator = nth / 2 % 2,
                          .act = act_flaky_life,
                          .number = kind,
                          .other = nth,
                          .timeout_ms = TIMEOUT_MS};
        good &= !play(&s);
        good &= is_clean(&s, 0) & is_clean(&s, 1);
        runs++;
        unnoticed += sh->results[flaky_rank].status == SY_OK;
        statuses[sh->results[flaky_rank].status]++;
        if (!atomic_load(&sh->step[7]))
            break;
    }
    return good;
}

static void failures(const char *one)
{
    for (int kind = 0; kind < FLAKY_KINDS; kind++) {
        uint64_t begin = now_ns();
        int good;
        if (one && strcmp(one, flaky_names[kind]))
            continue;
        runs = unnoticed = 0;
        memset(statuses, 0, sizeof statuses);
        good = fail_each(kind);
        printf("  %d calls, %d of them not needed; no memory %d, system %d, timeout %d, lost %d; "
               "%.1f s\n",
               runs - 1, unnoticed - 1, statuses[SY_NO_MEMORY], statuses[SY_SYSTEM],
               statuses[SY_TIMEOUT], statuses[SY_PEER_LOST], (double)(now_ns() - begin) / 1e9);
        check(good, "each %s() of rank %d fails once", flaky_names[kind], flaky_rank);
    }
}

static void signals(void)
{
    struct scene s = {
        .ranks = 2, .way = SY_BOOT_ENV, .act = act_flaky_life, .number = FLAKY_SIGNALS};
    check(!play(&s) && all_ended(&s, -1, SY_OK, ""), "signals interrupt all ranks");
}

int main(int argc, char **argv)
{
    static struct traces before;
    sh = mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (sh == MAP_FAILED)
        return 1;
    read_traces(&before);
    for (flaky_rank = 0; flaky_rank < 2; flaky_rank++)
        failures(argc > 1 ? argv[1] : NULL);
    if (only(argc, argv, "signals"))
        signals();
    check(no_traces(&before), "nothing is left in the system");
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed != 0;
}
