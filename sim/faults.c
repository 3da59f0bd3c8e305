/* faults.c - brings the scenario's fault about, when its time has come. */
#include <string.h>

#include "engine.h"
#include "system.h"
#include "world.h"

static void kill_rank(uint32_t rank)
{
    sim_event("dies", NULL, rank);
    sim_rank_kill(rank);
    sim_rank_memory_died(rank);
    sim_sockets_died(rank);
}

/* One warp, wherever it is, while its block and its rank go on. */
static void pause_warp(const struct sim_world *w)
{
    const struct sim_task *t;
    while (!(t = sim_warp_pause(sim_now_ns() + w->s->stall_ns))) {
        if (w->seat[w->s->fault_rank].outcome != SIM_RUNNING)
            return;
        sim_park(sim_now_ns() + 1000, "a warp to pause");
    }
    sim_event("a warp is paused, of rank", NULL, t->rank);
}

void sim_fault_main(void *context)
{
    struct sim_world *w = context;
    const struct sim_scenario *s = w->s;
    while (w->created < s->ranks)
        sim_wait(&w->creation, SIM_NEVER, "groups to be made");
    sim_park(sim_now_ns() + s->fault_ns, "the time of the fault");
    if (w->seat[s->fault_rank].outcome != SIM_RUNNING)
        return;
    switch (s->fault) {
    case SIM_PAUSE:
        pause_warp(w);
        break;
    case SIM_DEATH:
        kill_rank(s->fault_rank);
        break;
    case SIM_STALL:
    case SIM_LONG_STALL:
        sim_event("stalls", NULL, s->fault_rank);
        sim_rank_stall(s->fault_rank, sim_now_ns() + s->stall_ns);
        break;
    case SIM_SLOW:
        sim_event("is slow from now on", NULL, s->fault_rank);
        sim_rank_slow(s->fault_rank, 100);
        break;
    case SIM_ABORT:
        sim_event("gives up", NULL, s->fault_rank);
        sim_rank_abort(w->seat + s->fault_rank);
        break;
    default:
        break;
    }
}
