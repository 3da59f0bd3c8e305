/* world.h - a running world: the ranks of a scenario, their programs, and what became of them. */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include "model.h"
#include "scenario.h"
#include "switchyard.h"

/* All ranks of the world meet here; nothing of the library is involved. */
struct sim_meeting {
    uint32_t come, times;
    struct sim_queue queue;
};

enum sim_outcome { SIM_RUNNING, SIM_FINISHED, SIM_FAULTED };

struct sim_seat {
    struct sim_world *world;
    uint32_t rank;
    enum sim_outcome outcome;
    sy_fault verdict;
    struct sim_rank_state *state; /* program.c */
    struct sim_task *aborting;    /* its other thread, or NULL */
};

struct sim_world {
    struct sim_scenario *s;
    struct sim_seat *seat; /* [ranks] */
    struct sim_meeting meeting;
    uint8_t *gathered; /* allgather of SY_BOOT_USER */
    sy_id id;
    uint32_t created; /* groups that are up */
    struct sim_queue creation;
    uint32_t rounds; /* dispatches and combines that all ranks have been through */
    int again;       /* 1: the second life, after a fault: no faults, and everything must work */
};

struct sim_result {
    int good;
    uint64_t points, virtual_ns;
    uint64_t digest; /* of all events: equal on every machine */
    uint32_t rounds;
};

/* Runs a seed. The violation, if any, is in sim_violation. */
struct sim_result sim_world_run(uint64_t seed, const struct sim_wish *wish);
/* Its scenario, in one line. */
void sim_world_text(uint64_t seed, const struct sim_wish *wish, char text[SIM_SCENARIO_TEXT]);

/* Returns when all ranks are here. */
void sim_meet(struct sim_world *w, struct sim_meeting *m);

/* program.c: what a rank does; context is its seat. */
void sim_rank_main(void *context);
void sim_rank_abort(struct sim_seat *seat); /* another thread of its calls sy_group_abort() */

/* What the running world says of a route's memory. */
void sim_truth_set(uint32_t rank, const void *route_memory, const struct sim_truth *truth);
void sim_truth_reset(void);

/* rules.c: the world as rules see it; all ranks are quiet. check: control areas are as clean as the
 * protocol promises. dirty: whatever may hold anything holds garbage. */
void sim_rules_clean(uint32_t rank);
void sim_rules_dirty(uint32_t rank);

/* faults.c: the task that brings the scenario's fault about. */
void sim_fault_main(void *context);

#endif
