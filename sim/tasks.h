/* tasks.h - the simulator's scheduler: tasks, virtual time, and the choice of who runs next.
 *
 * A task is a fiber: a warp of a kernel, or a thread of a rank's host program or of the library.
 * One runs at a time. Tasks call sim_point() wherever the seed may let another one run; virtual
 * time passes with these points, and jumps when nobody can run. Everything is decided by the seed.
 */
#ifndef SIM_TASKS_H
#define SIM_TASKS_H

#include <stddef.h>
#include <stdint.h>

#include "prng.h"
#include "rt/fiber.h"

#define SIM_NEVER UINT64_MAX
#define SIM_NOBODY UINT32_MAX /* a rank's number: none */
#define SIM_POINT_NS 25       /* virtual time from one point to the next */

struct sim_warp;

enum sim_kind { SIM_HOST, SIM_WARP };
enum sim_state { SIM_RUNNABLE, SIM_PARKED, SIM_OVER };

/* Tasks that wait for something; zero is empty. */
struct sim_queue {
    struct sim_task *first;
};

struct sim_task {
    struct sy_fiber fiber;
    uint32_t id, rank;
    enum sim_kind kind;
    enum sim_state state;
    uint32_t at;      /* place among the runnable, if it is */
    uint32_t timer;   /* place in the heap of timers, or NONE */
    uint64_t wake_ns; /* when the timer goes off */
    uint64_t parked_ns;
    uint64_t from_ns;  /* does not run before */
    uint64_t priority; /* PCT */
    void (*run)(void *context);
    void *context;
    struct sim_warp *warp; /* WARP */
    const char *name;      /* HOST: what it is; static text */
    const char *doing;     /* what it waits for, for reports; static text */
    char *error;           /* HOST: its sy_last_error(), while another task runs */
    struct sim_task *next; /* in the queue that it waits in */
    struct sim_queue *queue;
    struct sim_queue joiners; /* tasks that wait for its end */
};

enum sim_strategy { SIM_RANDOM, SIM_PCT, SIM_STARVE_RANK, SIM_STARVE_TASK, SIM_ROBIN };
#define SIM_STRATEGIES 5

struct sim_sched_config {
    enum sim_strategy strategy;
    uint32_t slice;         /* points between two turns, at most */
    uint32_t victim;        /* STARVE: rank, or number of a task */
    uint32_t change_points; /* PCT */
    uint64_t points_max;    /* a world that takes longer is livelocked */
    uint64_t time_max_ns;
};

/* A world's life: open, spawn, run, close. run returns when all tasks are over (or dead), or when a
 * violation ended the world. */
void sim_sched_open(const struct sim_sched_config *config, uint64_t seed, uint32_t ranks);
void sim_sched_run(void);
void sim_sched_abandon(void); /* from a task: nobody of this world runs again */
void sim_sched_close(void);

/* again: a task that is over, to be used once more, so that numbers do not grow with launches; or
 * NULL. */
struct sim_task *sim_spawn(struct sim_task *again, uint32_t rank, enum sim_kind kind,
                           void (*run)(void *), void *context, const char *name);

/* The running task, or NULL outside of sim_sched_run(). */
extern struct sim_task *sim_current;
extern struct sim_warp *sim_warp_now; /* its warp, if it is one */

/* Lets others run, if the seed wants. */
extern int32_t sim_fuel; /* points until the next turn */
extern uint64_t sim_points;
void sim_turn(void);

static inline void sim_point(void)
{
    sim_points++;
    if (--sim_fuel <= 0)
        sim_turn();
}

/* Lets others run for certain, if there are any. */
void sim_yield(void);

/* Waits until sim_wake(), or until a time. */
void sim_park(uint64_t until_ns, const char *doing);
void sim_wake(struct sim_task *task);

/* The same with a queue: what is waited for is checked by the caller, again and again. */
void sim_wait(struct sim_queue *queue, uint64_t until_ns, const char *doing);
void sim_wake_all(struct sim_queue *queue);

uint64_t sim_now_ns(void);

/* Points, all numbers of a seed that are drawn while it runs. */
extern struct sy_prng sim_dice;

/* Ranks: a dead one never runs again; a stalled one not before a time; a slow one at `factor` times
 * the cost. */
void sim_rank_kill(uint32_t rank);
void sim_rank_stall(uint32_t rank, uint64_t until_ns);
void sim_rank_slow(uint32_t rank, uint32_t factor);
/* A warp that is not over, drawn from all, does not run before a time; NULL: there is none. */
const struct sim_task *sim_warp_pause(uint64_t until_ns);
int sim_rank_dead(uint32_t rank);
void sim_rank_revive(uint32_t rank);

/* All tasks, for reports. */
uint32_t sim_task_count(void);
const struct sim_task *sim_task_at(uint32_t i);

/* Called by the scheduler, before another task runs (shadow.c). */
void sim_settle_doubt(void);

/* Called by the scheduler. stir: memory that is on its way moves on, at the seed's pace; returns 0
 * if nothing is on its way. */
int sim_memory_stir(int idle);

#endif
