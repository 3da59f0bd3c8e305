/* world.c - the life of a seed: everything is opened, the ranks run, verdicts are compared, and
 * after a fault the ranks live once more without one. */
#include "world.h"

#include <stdlib.h>
#include <string.h>

#include "base/verify.h"
#include "engine.h"
#include "system.h"

int sy_sim_asks_ahead;

/* What the routes of a rank should be; few. */
struct truth_at {
    const void *memory;
    const struct sim_truth *truth;
};

#define TRUTHS_MAX 16
static struct truth_at (*truths)[TRUTHS_MAX]; /* [rank] */

void sim_truth_set(uint32_t rank, const void *memory, const struct sim_truth *truth)
{
    struct truth_at *t = truths[rank];
    int i = 0;
    while (t[i].memory && t[i].memory != memory)
        i++;
    SY_ASSERT(i < TRUTHS_MAX);
    t[i].memory = memory;
    t[i].truth = truth;
}

const void *sim_truth_of(uint32_t rank, const void *memory)
{
    for (int i = 0; i < TRUTHS_MAX; i++)
        if (truths[rank][i].memory == memory)
            return truths[rank][i].truth;
    return NULL;
}

void sim_meet(struct sim_world *w, struct sim_meeting *m)
{
    uint32_t times = m->times;
    if (++m->come == w->s->ranks) {
        m->come = 0;
        m->times++;
        sim_wake_all(&m->queue);
        sim_point();
        return;
    }
    while (m->times == times)
        sim_wait(&m->queue, SIM_NEVER, "the other ranks");
}

/* --- verdicts --------------------------------------------------------------------------------- */

/* A rank that was away for longer than the others wait for votes may judge by its own late one. */
static int too_late(const struct sim_world *w, uint32_t rank)
{
    return w->s->fault == SIM_LONG_STALL && rank == w->s->fault_rank;
}

static const struct sim_seat *faulted(const struct sim_world *w)
{
    for (uint32_t r = 0; r < w->s->ranks; r++)
        if (!sim_rank_dead(r) && !too_late(w, r) && w->seat[r].outcome == SIM_FAULTED)
            return w->seat + r;
    return NULL;
}

/* Is this what the fault should lead to? */
static int expected(const struct sim_scenario *s, const sy_fault *f)
{
    switch (s->fault) {
    case SIM_DEATH:
        return f->status == SY_PEER_LOST && f->culprit == (int32_t)s->fault_rank;
    case SIM_LONG_STALL:
        return f->status == SY_TIMEOUT;
    case SIM_ABORT:
        return f->status == SY_ABORTED;
    default:
        return 0;
    }
}

static void compare_verdicts(const struct sim_world *w)
{
    const struct sim_seat *first = faulted(w);
    for (uint32_t r = 0; first && r < w->s->ranks && !sim_violation.check; r++) {
        const struct sim_seat *seat = w->seat + r;
        const sy_fault *a = &first->verdict, *b = &seat->verdict;
        if (sim_rank_dead(r))
            continue;
        if (seat->outcome == SIM_FAULTED && !too_late(w, r) &&
            (a->status != b->status || a->culprit != b->culprit || strcmp(a->text, b->text)))
            sim_violate(SIM_CHECK_VERDICT, "rank %u says \"%s\", rank %u \"%s\"", first->rank,
                        a->text, r, b->text);
        else if (seat->outcome == SIM_FAULTED && !expected(w->s, b))
            sim_violate(SIM_CHECK_VERDICT, "rank %u says \"%s\", which is not what happened", r,
                        b->text);
        else if (seat->outcome == SIM_RUNNING)
            sim_violate(SIM_CHECK_LIVE, "rank %u did not come to an end", r);
    }
}

/* --- a world ---------------------------------------------------------------------------------- */

static void open_world(struct sim_world *w)
{
    struct sim_scenario *s = w->s;
    const struct sim_engine_config engine = {.ranks = s->ranks,
                                             .blocks_max = s->blocks,
                                             .warps_max = s->warps_max,
                                             .shared_max = 4u << 20};
    const struct sim_weak_config weak = {s->store_lag, s->copy_lag};
    w->seat = sim_scenario_take(s, s->ranks, sizeof *w->seat);
    truths = calloc(s->ranks, sizeof *truths);
    SY_ASSERT(truths);
    sim_sched_open(&s->sched, s->seed, s->ranks);
    sim_weak_open(&weak, s->ranks);
    sim_engine_open(&engine);
    sim_system_open(s->seed, s->ranks, s->combine_path, s->route_asks);
}

static void close_world(void)
{
    sim_system_close();
    sim_weak_close();
    sim_engine_close();
    sim_sched_close();
    sim_arena_reset();
    free(truths);
    truths = NULL;
}

static void live(struct sim_world *w)
{
    for (uint32_t r = 0; r < w->s->ranks; r++) {
        memset(w->seat + r, 0, sizeof w->seat[r]);
        w->seat[r].world = w;
        w->seat[r].rank = r;
        sim_spawn(NULL, r, SIM_HOST, sim_rank_main, w->seat + r, "program");
    }
    if (w->s->fault != SIM_NO_FAULT && !w->again)
        sim_spawn(NULL, SIM_NOBODY, SIM_HOST, sim_fault_main, w, "faults");
    sim_sched_run();
    for (uint32_t r = 0; r < w->s->ranks && !sim_violation.check; r++)
        if (sim_descriptors(r))
            sim_violate(SIM_CHECK_HOST, "rank %u left %u descriptors open", r, sim_descriptors(r));
}

/* After the fault: everybody comes back, and everything must work. */
static void live_again(struct sim_world *w)
{
    w->again = 1;
    w->created = 0;
    w->gathered = NULL;
    memset(&w->meeting, 0, sizeof w->meeting);
    memset(truths, 0, w->s->ranks * sizeof *truths);
    for (uint32_t r = 0; r < w->s->ranks; r++) {
        sim_rank_revive(r);
        sim_engine_again(r);
        sim_round_end(r);
    }
    live(w);
}

struct sim_result sim_world_run(uint64_t seed, const struct sim_wish *wish)
{
    struct sim_world w = {0};
    struct sim_result result = {0};
    w.s = sim_scenario_make(seed, wish);
    sy_sim_asks_ahead = w.s->fault == SIM_NO_FAULT;
    open_world(&w);
    live(&w);
    if (!sim_violation.check)
        compare_verdicts(&w);
    if (!sim_violation.check && w.s->fault != SIM_NO_FAULT)
        live_again(&w);
    result.good = !sim_violation.check;
    result.points = sim_points;
    result.virtual_ns = sim_now_ns();
    result.rounds = w.rounds;
    result.digest = sim_event_digest();
    if (!result.good) {
        sim_report_print();
        return result; /* what is left of it dies with this process */
    }
    close_world();
    sim_scenario_free(w.s);
    return result;
}

void sim_world_text(uint64_t seed, const struct sim_wish *wish, char text[SIM_SCENARIO_TEXT])
{
    struct sim_scenario *s = sim_scenario_make(seed, wish);
    sim_scenario_text(s, text);
    sim_scenario_free(s);
}
