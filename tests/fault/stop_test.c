/* stop_test.c - a rank is alive and does not come: stopped by a signal, or elsewhere in its
 * program. All live ranks get the same SY_TIMEOUT that names it and the phase, when the deadline is
 * over, and the late one learns of it when it goes on.
 *
 *   1  Stopped      2  Elsewhere      3  Stopped for less than the deadline
 */
#define _GNU_SOURCE
#include "group_world.h"

#define RANKS 3
#define TIMEOUT_MS (400 * SLOW)

/* The votes on a verdict have their own time: those of the ranks that do not answer are waited
 * for. And then there are a loaded machine's habits. */
#define VOTES_MS (TIMEOUT_MS / 4)
#define MARGIN_MS (300 * SLOW)

static void stop_now(void)
{
    atomic_store(&sh->mark_ns, now_ns());
    kill(getpid(), SIGSTOP);
}

/* Who has its verdict says so; the last one wakes the late rank. */
static void wake(const struct scene *scene)
{
    if (atomic_fetch_add(&sh->step[1], 1) + 1 == scene->ranks - 1)
        kill(atomic_load(&sh->pids[scene->other]), SIGCONT);
}

/* ---- 1. Stopped ------------------------------------------------------------------------------ */

/* scene->number: mode << 8 | step; scene->other: the rank that stops instead of that step of its
 * second batch, and then does it. */
static void act_stopped(const struct scene *scene, int rank)
{
    int mode = scene->number >> 8, last = scene->number & 0xff;
    struct player p = {0};
    sy_group *group = NULL;
    sy_status status = open_group(scene, rank, &group);
    if (status == SY_OK)
        status = open_player(&p, group, rank, scene->ranks, mode);
    if (status == SY_OK)
        status = play_batch(&p);
    if (status != SY_OK) {
        record(rank, sy_fail_in(SY_STATE, "the first batch"));
        return;
    }
    for (int step = STEP_SET; status == SY_OK && step < BATCH_STEPS; step++) {
        if (rank == scene->other && step == last && sy_stream_sync(group, NULL) == SY_OK)
            stop_now();
        status = play_step(&p, (enum batch_step)step);
    }
    record_verdict(rank, group, 3 * TIMEOUT_MS);
    if (rank != scene->other)
        wake(scene);
    if (status != SY_OK && status != SY_TIMEOUT)
        record(rank, sy_fail(SY_STATE, "the call gave %s", sy_status_name(status)));
    go_on(scene, rank, &p, -1);
}

/* What the others wait for: a route in throughput mode needs all ranks, in latency mode nobody. */
static const char *phase_of(int mode, int step)
{
    if (mode == SY_THROUGHPUT)
        return step == STEP_SET        ? "routing 2: rank "
               : step == STEP_DISPATCH ? "dispatch 2: rank "
               : step == STEP_COMBINE  ? "combine 2: rank "
                                       : "barrier 2: rank ";
    return step == STEP_SET || step == STEP_DISPATCH ? "latency dispatch 2: rank "
           : step == STEP_COMBINE                    ? "latency combine 2: rank "
                                                     : "barrier 2: rank ";
}

static void stopped(void)
{
    for (int mode = SY_THROUGHPUT; mode <= SY_LATENCY; mode++) {
        for (int step = STEP_SET; step < BATCH_STEPS; step++) {
            double worst = 0, least = 1e9, ms;
            int good = 1;
            if (step == STEP_SYNC) /* the same as STEP_BARRIER */
                continue;
            for (int late = 0; late < RANKS; late++) {
                struct scene s = {.ranks = RANKS,
                                  .way = SY_BOOT_ENV,
                                  .act = act_stopped,
                                  .number = mode << 8 | step,
                                  .other = late,
                                  .timeout_ms = TIMEOUT_MS};
                char text[32];
                snprintf(text, sizeof text, " for rank %d", late);
                good &= !play(&s) && one_verdict(&s, -1, SY_TIMEOUT, text) &&
                        strstr(sh->results[0].text, phase_of(mode, step)) &&
                        sh->results[0].culprit == late;
                ms = latest_ms(&s, late);
                worst = ms > worst ? ms : worst;
                least = ms < least ? ms : least;
            }
            check(good && least >= TIMEOUT_MS && worst < TIMEOUT_MS + VOTES_MS + MARGIN_MS,
                  "mode %d, stopped at %s: %.0f to %.0f ms (deadline %d): %s", mode,
                  step_names[step], least, worst, TIMEOUT_MS, sh->results[0].text);
        }
    }
}

/* ---- 2. Elsewhere ---------------------------------------------------------------------------- */

/* The rank sleeps in its program, but the library's thread in it is awake: no vote is missing. */
static void act_asleep(const struct scene *scene, int rank)
{
    struct player p = {0};
    sy_group *group = NULL;
    sy_status status = open_group(scene, rank, &group);
    if (status == SY_OK)
        status = open_player(&p, group, rank, scene->ranks, scene->number);
    if (status == SY_OK)
        status = play_batch(&p);
    if (status == SY_OK)
        status = play_step(&p, STEP_SET);
    if (status == SY_OK && scene->number == SY_THROUGHPUT)
        status = sy_stream_sync(group, NULL);
    if (rank == scene->other) {
        atomic_store(&sh->mark_ns, now_ns());
    } else if (status == SY_OK) {
        status = play_step(&p, STEP_DISPATCH);
        if (status == SY_OK)
            status = sy_stream_sync(group, NULL);
    }
    record_verdict(rank, group, 3 * TIMEOUT_MS);
    if (rank == scene->other && play_step(&p, STEP_DISPATCH) != SY_TIMEOUT)
        record(rank, sy_fail(SY_STATE, "the late call gave no SY_TIMEOUT"));
    go_on(scene, rank, &p, -1);
}

static void asleep(void)
{
    for (int mode = SY_THROUGHPUT; mode <= SY_LATENCY; mode++) {
        struct scene s = {.ranks = RANKS,
                          .way = SY_BOOT_ID,
                          .creator = 2,
                          .act = act_asleep,
                          .number = mode,
                          .other = 1,
                          .timeout_ms = TIMEOUT_MS};
        int bad = play(&s);
        double ms = latest_ms(&s, -1);
        check(!bad && one_verdict(&s, -1, SY_TIMEOUT, "dispatch 2: rank ") &&
                  strstr(sh->results[0].text, " for rank 1") && ms >= TIMEOUT_MS &&
                  ms < TIMEOUT_MS + MARGIN_MS,
              "mode %d, a rank sleeps: %.0f ms: %s", mode, ms, sh->results[0].text);
    }
}

/* ---- 3. For less than the deadline ----------------------------------------------------------- */

static void act_late(const struct scene *scene, int rank)
{
    struct player p = {0};
    sy_group *group = NULL;
    sy_status status = open_group(scene, rank, &group);
    if (status == SY_OK)
        status = open_player(&p, group, rank, scene->ranks, scene->number);
    if (status == SY_OK)
        status = play_batch(&p);
    if (rank == scene->other) {
        pid_t self = getpid(), waker = fork();
        if (!waker) {
            sleep_ms(20);
            kill(self, SIGSTOP);
            sleep_ms(TIMEOUT_MS / 2);
            kill(self, SIGCONT);
            _exit(0);
        }
        sleep_ms(40);
        waitpid(waker, NULL, 0);
    }
    if (status == SY_OK)
        status = play_batch(&p);
    record(rank, status);
    go_on(scene, rank, &p, -1);
}

static void late(void)
{
    for (int mode = SY_THROUGHPUT; mode <= SY_LATENCY; mode++) {
        struct scene s = {.ranks = RANKS,
                          .way = SY_BOOT_ENV,
                          .act = act_late,
                          .number = mode,
                          .other = 1,
                          .timeout_ms = TIMEOUT_MS};
        check(!play(&s) && all_ended(&s, -1, SY_OK, ""), "mode %d, late, but in time", mode);
    }
}

int main(int argc, char **argv)
{
    static struct traces before;
    sh = mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (sh == MAP_FAILED)
        return 1;
    read_traces(&before);
    if (only(argc, argv, "stopped"))
        stopped();
    if (only(argc, argv, "asleep"))
        asleep();
    if (only(argc, argv, "late"))
        late();
    check(no_traces(&before), "nothing is left in the system");
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed != 0;
}
