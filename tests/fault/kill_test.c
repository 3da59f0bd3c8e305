/* kill_test.c - a rank dies, at any moment: all others get the same SY_PEER_LOST that names it, at
 * once, and live on.
 *
 *     kill_test [PART [RUNS]]   parts: directed creating waiting anytime ends all strangers
 *
 *   1  At a certain step           4  Other ways to go
 *   2  While the group is made     5  All ranks at once
 *   3  Anywhere in an operation    6  Strangers at the door
 */
#define _GNU_SOURCE
#include <sys/syscall.h>

#include "group_world.h"

#define RANKS 3

static int runs_factor = 1;

/* ---- 1. At a certain step -------------------------------------------------------------------- */

/* scene->number: mode << 8 | step; scene->other: the victim. It dies instead of its second batch's
 * step; the others go on until they hear of it. */
static void act_directed(const struct scene *scene, int rank)
{
    int mode = scene->number >> 8, last = scene->number & 0xff;
    struct player p = {0};
    sy_group *group = NULL;
    sy_status status = open_group(scene, rank, &group);
    if (status == SY_OK)
        status = open_player(&p, group, rank, scene->ranks, mode);
    if (status == SY_OK)
        status = play_batch(&p);
    if (status != SY_OK &&
        status != SY_PEER_LOST) { /* the victim may be through with it before us */
        record(rank, sy_fail_in(SY_STATE, "the first batch"));
        return;
    }
    for (int step = STEP_SET; status == SY_OK && step < BATCH_STEPS; step++) {
        if (rank == scene->other && step == last) {
            if (step % 2) /* let the others wait */
                sleep_ms(20);
            die_now();
        }
        status = play_step(&p, (enum batch_step)step);
    }
    record_verdict(rank, group, 2000);
    if (status != SY_OK && status != SY_PEER_LOST)
        record(rank, sy_fail(SY_STATE, "the call gave %s", sy_status_name(status)));
    go_on(scene, rank, &p, scene->other);
}

static void directed(void)
{
    for (int mode = SY_THROUGHPUT; mode <= SY_LATENCY; mode++) {
        for (int step = STEP_SET; step < BATCH_STEPS; step++) {
            double worst = 0;
            int good = 1;
            for (int victim = 0; victim < RANKS; victim++) {
                struct scene s = {.ranks = RANKS,
                                  .way = victim % 2 ? SY_BOOT_ID : SY_BOOT_ENV,
                                  .act = act_directed,
                                  .number = mode << 8 | step,
                                  .other = victim};
                char text[32];
                snprintf(text, sizeof text, "rank %d died", victim);
                good &= !play(&s);
                good &= one_verdict(&s, victim, SY_PEER_LOST, text);
                worst = latest_ms(&s, victim) > worst ? latest_ms(&s, victim) : worst;
            }
            check(good && worst < 500 * SLOW,
                  "mode %d, killed instead of %s: all know after %.1f ms", mode, step_names[step],
                  worst);
        }
    }
}

/* ---- 2. While the group is made -------------------------------------------------------------- */

/* The victim dies of its n-th call of a kind (scene->number: kind << 16 | n). The last agreement
 * may end before it dies or not, but for all alike; then the group is there, and lost. Who dies
 * before it has proved itself to the root is like one who never came: that takes until the
 * deadline. */
static void act_creating(const struct scene *scene, int rank)
{
    struct player p = {0};
    sy_group *group = NULL;
    sy_status status;
    be_flaky(-1, 0, 0);
    if (rank == scene->other) {
        flaky_deadly = 1;
        arm_flaky(scene->number >> 16, scene->number & 0xffff, 0);
    }
    status = open_group(scene, rank, &group);
    if (rank == scene->other) { /* it has made fewer calls */
        atomic_store(&flaky_kind, -1);
        atomic_store(&sh->step[7], 1);
        die_now();
    }
    if (status == SY_OK) {
        record_verdict(rank, group, 2000);
        p.group = group;
    } else {
        record(rank, status);
    }
    go_on(scene, rank, &p, scene->other);
}

/* Whether all others learned of the victim's death, or that it did not come. */
static int heard_of(const struct scene *scene)
{
    char text[32];
    int good = 1;
    snprintf(text, sizeof text, "rank %d", scene->other);
    for (int i = 0; i < scene->ranks; i++) {
        const struct result *r = sh->results + i;
        if (i == scene->other ||
            (r->ended && !r->fds_left && !r->threads_left &&
             (r->status == SY_PEER_LOST || r->status == SY_TIMEOUT) && strstr(r->text, text)))
            continue;
        printf("  rank %d: ended %d, %s, \"%s\", %d descriptors, %d threads left\n", i, r->ended,
               sy_status_name((sy_status)r->status), r->text, r->fds_left, r->threads_left);
        good = 0;
    }
    return good;
}

static void creating(void)
{
    static const int kinds[] = {
        flaky_alloc, flaky_map,     flaky_memfd,   flaky_resize, flaky_seal,  flaky_send,
        flaky_recv,  flaky_poll,    flaky_sendmsg, flaky_socket, flaky_bind,  flaky_accept,
        flaky_pipe,  flaky_connect, flaky_recvmsg, flaky_thread, flaky_random};
    int runs = 0, good = 1;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        int stride = kinds[k] == flaky_map || kinds[k] == flaky_alloc ? 7 : 3;
        for (int nth = 1; nth < 400; nth += 1 + (nth > 4) * (stride - 1)) {
            struct scene s = {.ranks = RANKS,
                              .way = runs % 2 ? SY_BOOT_ID : SY_BOOT_ENV,
                              .act = act_creating,
                              .number = kinds[k] << 16 | nth,
                              .other = runs % RANKS,
                              .creator = 1,
                              .timeout_ms = 300 * SLOW};
            int bad;
            if (s.way == SY_BOOT_ID && s.other == s.creator)
                s.creator = 2; /* with it, the id would be lost before anybody has it */
            bad = play(&s) || !heard_of(&s);
            runs++;
            if (bad)
                printf("  %s, call %d of rank %d, way %s\n", flaky_names[kinds[k]], nth, s.other,
                       way_names[s.way]);
            good &= !bad;
            if (atomic_load(&sh->step[7]))
                break;
        }
    }
    check(good, "killed in the middle of creating a group, %d times", runs);
}

/* ---- 3. Anywhere in an operation ------------------------------------------------------------- */

/* Batch after batch until somebody dies: by its own clock (scene->number looks), or by a thread of
 * its own (scene->number us later, as a negative number). */
static void *kill_later(void *context)
{
    sy_os_real.sleep_ns((uint64_t) * (const int *)context * 1000u);
    die_now();
    return NULL;
}

static void act_anywhere(const struct scene *scene, int rank)
{
    struct player p[2] = {{0}, {0}};
    sy_group *group = NULL;
    pthread_t thread;
    int after_us = -scene->number;
    sy_status status;
    use_deadly_clock();
    status = open_group(scene, rank, &group);
    for (int i = 0; i < 2 && status == SY_OK; i++)
        status = open_player(p + i, group, rank, scene->ranks, SY_THROUGHPUT + i);
    if (status == SY_OK)
        status = sy_group_barrier(group);
    if (status != SY_OK && status != SY_PEER_LOST) {
        record(rank, sy_fail_in(SY_STATE, "at the beginning"));
        return;
    }
    if (rank == scene->other && scene->number >= 0)
        atomic_store(&looks_left, scene->number);
    else if (rank == scene->other && pthread_create(&thread, NULL, kill_later, &after_us))
        return;
    for (int i = 0; i < 2000000 && status == SY_OK; i++)
        status = play_batch(p + i % 2);
    record_verdict(rank, group, 2000);
    if (status != SY_PEER_LOST)
        record(rank, sy_fail(SY_STATE, "the call gave %s", sy_status_name(status)));
    if (sy_route_destroy(p[1].route) != SY_OK)
        record(rank, SY_STATE);
    go_on(scene, rank, p, scene->other);
}

static void anywhere(const char *name, int runs, int clock)
{
    double worst = 0;
    int good = 1;
    unsigned state = 12345;
    for (int run = 0; run < runs * runs_factor; run++) {
        struct scene s = {
            .ranks = RANKS, .way = SY_BOOT_ENV, .act = act_anywhere, .other = run % RANKS};
        char text[32];
        int bad;
        state = state * 1664525u + 1013904223u;
        s.number =
            clock ? run < 20 ? run : (int)(state >> 16) % 400 : -1 - (int)(state >> 16) % 8000;
        snprintf(text, sizeof text, "rank %d died", s.other);
        bad = play(&s);
        if (!one_verdict(&s, s.other, SY_PEER_LOST, text) || bad) {
            printf("  run %d: %s %d\n", run, clock ? "look" : "microsecond", s.number);
            good = 0;
        }
        worst = latest_ms(&s, s.other) > worst ? latest_ms(&s, s.other) : worst;
    }
    check(good && worst < 500 * SLOW, "%s, %d times: all know after %.1f ms", name,
          runs * runs_factor, worst);
}

/* ---- 4. Other ways to go --------------------------------------------------------------------- */

enum { EXITS, EXITS_WITH_CHILD, RETURNS, IN_HALF, ENDS };

static const char *const end_names[ENDS] = {"exits", "dies and leaves a child", "ends its program",
                                            "dies between two halves"};

static void come_to_an_end(const struct scene *scene, struct player *p)
{
    sleep_ms(10);
    atomic_store(&sh->mark_ns, now_ns());
    if (scene->number == EXITS)
        syscall(SYS_exit_group, 3);
    if (scene->number == RETURNS)
        _exit(0); /* an exit() that runs no handlers, as of a program that forgot the group */
    if (scene->number == EXITS_WITH_CHILD && !fork()) {
        sleep_ms(1500);
        _exit(0);
    }
    if (scene->number == IN_HALF) {
        p->batch.dispatch.phase = SY_SEND;
        if (play_step(p, STEP_SET) != SY_OK || play_step(p, STEP_DISPATCH) != SY_OK ||
            sy_stream_sync(p->group, NULL) != SY_OK)
            return;
    }
    die_now();
}

static void act_end(const struct scene *scene, int rank)
{
    struct player p = {0};
    sy_group *group = NULL;
    sy_status status = open_group(scene, rank, &group);
    if (status == SY_OK)
        status = open_player(&p, group, rank, scene->ranks, SY_LATENCY);
    if (status == SY_OK)
        status = play_batch(&p);
    if (rank == scene->other) {
        record(rank, status);
        come_to_an_end(scene, &p);
        return;
    }
    while (status == SY_OK)
        status = play_batch(&p);
    record_verdict(rank, group, 2000);
    go_on(scene, rank, &p, scene->other);
}

static void ends(void)
{
    for (int number = EXITS; number < ENDS; number++) {
        struct scene s = {.ranks = RANKS,
                          .way = SY_BOOT_ID,
                          .creator = 1,
                          .act = act_end,
                          .number = number,
                          .other = 2};
        int bad = play(&s) - (number == EXITS); /* that one's code counts as an error */
        check(!bad && one_verdict(&s, 2, SY_PEER_LOST, "rank 2 died") &&
                  latest_ms(&s, 2) < 500 * SLOW,
              "a rank %s: all know after %.1f ms", end_names[number], latest_ms(&s, 2));
    }
}

/* ---- 5. All ranks at once -------------------------------------------------------------------- */

/* In the middle of batches. scene->number: ms until then. */
static void act_all(const struct scene *scene, int rank)
{
    struct player p = {0};
    sy_group *group = NULL;
    sy_status status = open_group(scene, rank, &group);
    void *heap;
    pthread_t thread;
    int after_us = scene->number * 1000;
    if (status == SY_OK)
        status = open_player(&p, group, rank, scene->ranks, SY_THROUGHPUT);
    if (status == SY_OK)
        status = sy_alloc(group, 60000, &heap);
    if (status == SY_OK)
        memset(heap, rank, 60000);
    record(rank, status);
    atomic_fetch_add(&sh->step[0], 1); /* nobody dies before all have come so far */
    wait_step(0, scene->ranks);
    if (status != SY_OK || pthread_create(&thread, NULL, kill_later, &after_us))
        return;
    while (status == SY_OK || status == SY_PEER_LOST)
        status = play_batch(&p);
}

static void all_at_once(void)
{
    static struct traces before;
    for (int ms = 0; ms < 4; ms++) {
        struct scene s = {.ranks = 8, .way = SY_BOOT_ENV, .act = act_all, .number = ms};
        int bad, ready = 0;
        read_traces(&before);
        bad = play(&s);
        for (int i = 0; i < s.ranks; i++)
            ready += sh->results[i].at_ns && sh->results[i].status == SY_OK;
        check(!bad && ready == s.ranks && no_traces(&before), "8 ranks killed, nothing is left");
    }
}

/* ---- 6. Strangers at the door ---------------------------------------------------------------- */

/* The last process sends garbage to the bootstrap's port, as long as the others make groups. */
static void act_stranger(const struct scene *scene, int rank)
{
    struct scene real = *scene;
    struct player p = {0};
    sy_group *group = NULL;
    sy_status status;
    real.ranks--;
    if (rank < real.ranks) {
        if (rank == real.creator) {
            record(rank, sy_id_create(&sh->id));
            atomic_store(&sh->id_ready, 1);
            real.creator = -1;
        }
        wait_step(0, 1);
        status = open_group(&real, rank, &group);
        if (status == SY_OK)
            status = open_player(&p, group, rank, real.ranks, SY_THROUGHPUT);
        if (status == SY_OK)
            status = play_batch(&p);
        record(rank, status);
        sy_route_destroy(p.route);
        sy_group_destroy(group);
        atomic_fetch_add(&sh->step[1], 1);
        return;
    }
    while (!atomic_load(&sh->id_ready))
        sleep_ms(1);
    for (unsigned i = 0; atomic_load(&sh->step[1]) < real.ranks; i++) {
        struct sy_place place;
        char junk[400];
        int fd;
        memset(junk, (int)i, sizeof junk);
        if (i % 3)
            memcpy(junk, "SYboot\1\0", 8);
        if (sy_id_place(&sh->id, &place) != SY_OK)
            break;
        fd = socket(place.at.ss_family, SOCK_STREAM, 0);
        if (!connect(fd, (const void *)&place.at, place.at_bytes) &&
            send(fd, junk, i % sizeof junk, MSG_NOSIGNAL) > 0)
            atomic_fetch_add(&sh->step[2], 1);
        close(fd);
        if (i == 50)
            atomic_store(&sh->step[0], 1);
        if (i > 50)
            sleep_ms(1);
    }
    record(rank, SY_OK);
}

static void strangers(void)
{
    struct scene s = {.ranks = RANKS + 1, .way = SY_BOOT_ID, .act = act_stranger};
    int bad = play(&s), times = atomic_load(&sh->step[2]);
    check(!bad && all_ended(&s, -1, SY_OK, "") && times >= 50, "garbage on the port, %d times",
          times);
}

int main(int argc, char **argv)
{
    static struct traces before;
    sh = mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (sh == MAP_FAILED)
        return 1;
    if (argc > 2)
        runs_factor = atoi(argv[2]);
    read_traces(&before);
    if (only(argc, argv, "directed"))
        directed();
    if (only(argc, argv, "creating"))
        creating();
    if (only(argc, argv, "waiting"))
        anywhere("killed anywhere in a kernel", 60, 1);
    if (only(argc, argv, "anytime"))
        anywhere("killed at any time", 40, 0);
    if (only(argc, argv, "ends"))
        ends();
    if (only(argc, argv, "all"))
        all_at_once();
    if (only(argc, argv, "strangers"))
        strangers();
    check(no_traces(&before), "nothing is left in the system");
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed != 0;
}
