/* tasks.c - see tasks.h. Sections: timers | who runs next | tasks | ranks | the life of a world.
 *
 * Waiting tasks are parked and cost nothing: a warp that polls is woken when a word changes that it
 * has looked at (weak.c). Time jumps only when nobody can run and no memory is on its way. */
#include "tasks.h"

#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "base/verify.h"
#include "report.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#endif
#if defined(WITH_ASAN)
void __asan_unpoison_memory_region(const volatile void *at, size_t bytes);
#endif

#define NONE UINT32_MAX
#define PCT_EXPECTED_POINTS 20000 /* of a small world, for the places of the change points */

struct rank {
    int dead;
    uint32_t slow;
    uint64_t from_ns; /* does not run before */
};

static struct {
    struct sim_sched_config config;
    uint32_t ranks, count, room, runnable_count, timers_count, live;
    struct sim_task **all, **runnable, **timers;
    struct rank *rank; /* [ranks + 1]: the last is nobody's */
    struct sy_fiber hub;
    uint64_t jumped_ns;   /* time that passed besides points */
    uint64_t slice_begun; /* points */
    uint64_t change[16];  /* PCT: points at which priorities change */
    uint32_t changes, robin;
    struct sim_task *text_of; /* whose sy_last_error() is in place */
    struct sim_task *spare;   /* tasks that are over, with their stacks */
} s;

struct sim_task *sim_current;
int32_t sim_fuel;
uint64_t sim_points;
struct sy_prng sim_dice;

uint64_t sim_now_ns(void)
{
    return 1000000 + s.jumped_ns + sim_points * SIM_POINT_NS;
}

/* --- timers ----------------------------------------------------------------------------------- */

static int earlier(const struct sim_task *a, const struct sim_task *b)
{
    return a->wake_ns != b->wake_ns ? a->wake_ns < b->wake_ns : a->id < b->id;
}

static void timer_set(uint32_t i, struct sim_task *t)
{
    s.timers[i] = t;
    t->timer = i;
}

static void timer_up(uint32_t i)
{
    struct sim_task *t = s.timers[i];
    for (; i && earlier(t, s.timers[(i - 1) / 2]); i = (i - 1) / 2)
        timer_set(i, s.timers[(i - 1) / 2]);
    timer_set(i, t);
}

static void timer_down(uint32_t i)
{
    struct sim_task *t = s.timers[i];
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= s.timers_count)
            break;
        if (child + 1 < s.timers_count && earlier(s.timers[child + 1], s.timers[child]))
            child++;
        if (!earlier(s.timers[child], t))
            break;
        timer_set(i, s.timers[child]);
        i = child;
    }
    timer_set(i, t);
}

static void timer_add(struct sim_task *t, uint64_t wake_ns)
{
    t->wake_ns = wake_ns;
    timer_set(s.timers_count++, t);
    timer_up(s.timers_count - 1);
}

static void timer_remove(struct sim_task *t)
{
    uint32_t i = t->timer;
    struct sim_task *last;
    if (i == NONE)
        return;
    t->timer = NONE;
    last = s.timers[--s.timers_count];
    if (last == t)
        return;
    timer_set(i, last);
    timer_up(i);
    timer_down(last->timer);
}

/* --- who runs next ---------------------------------------------------------------------------- */

static void make_runnable(struct sim_task *t)
{
    t->state = SIM_RUNNABLE;
    t->at = s.runnable_count;
    s.runnable[s.runnable_count++] = t;
}

static void drop_runnable(struct sim_task *t)
{
    struct sim_task *last = s.runnable[--s.runnable_count];
    s.runnable[t->at] = last;
    last->at = t->at;
}

static void queue_remove(struct sim_task *t)
{
    struct sim_task **at;
    if (!t->queue)
        return;
    for (at = &t->queue->first; *at != t; at = &(*at)->next)
        continue;
    *at = t->next;
    t->queue = NULL;
}

void sim_wake(struct sim_task *t)
{
    if (t->state != SIM_PARKED)
        return;
    timer_remove(t);
    queue_remove(t);
    make_runnable(t);
}

static struct sim_task *pick_pct(void)
{
    struct sim_task *best = s.runnable[0];
    for (uint32_t i = 1; i < s.runnable_count; i++)
        if (s.runnable[i]->priority > best->priority)
            best = s.runnable[i];
    return best;
}

static struct sim_task *pick_robin(void)
{
    struct sim_task *next = NULL, *first = s.runnable[0];
    for (uint32_t i = 0; i < s.runnable_count; i++) {
        struct sim_task *t = s.runnable[i];
        if (t->id > s.robin && (!next || t->id < next->id))
            next = t;
        if (t->id < first->id)
            first = t;
    }
    next = next ? next : first;
    s.robin = next->id;
    return next;
}

static int is_victim(const struct sim_task *t)
{
    if (s.config.strategy == SIM_STARVE_RANK)
        return t->rank == s.config.victim;
    return s.config.strategy == SIM_STARVE_TASK && t->id == s.config.victim;
}

static struct sim_task *pick_random(void)
{
    uint32_t first = (uint32_t)sy_prng_below(&sim_dice, s.runnable_count);
    for (uint32_t i = 0; i < s.runnable_count; i++) {
        struct sim_task *t = s.runnable[(first + i) % s.runnable_count];
        if (!is_victim(t))
            return t;
    }
    return s.runnable[first]; /* nobody but victims */
}

static struct sim_task *pick(void)
{
    if (s.config.strategy == SIM_PCT)
        return pick_pct();
    return s.config.strategy == SIM_ROBIN ? pick_robin() : pick_random();
}

static void wake_due(void)
{
    while (s.timers_count && s.timers[0]->wake_ns <= sim_now_ns())
        sim_wake(s.timers[0]);
}

/* Nobody can run: memory moves on, or time does. */
static void idle(void)
{
    while (!s.runnable_count && s.live) {
        if (sim_memory_stir(1))
            continue;
        if (!s.timers_count)
            sim_violate(SIM_CHECK_LIVE, "nobody can run, and nothing is on its way");
        if (s.timers[0]->wake_ns > sim_now_ns())
            s.jumped_ns += s.timers[0]->wake_ns - sim_now_ns();
        if (sim_now_ns() > s.config.time_max_ns)
            sim_violate(SIM_CHECK_LIVE, "not over after %llu ms of virtual time",
                        (unsigned long long)(sim_now_ns() / 1000000));
        wake_due();
    }
}

/* sy_last_error() is per thread, and our threads are tasks. */
static void change_text(struct sim_task *to)
{
    char *place = (char *)(uintptr_t)sy_last_error();
    if (to->kind != SIM_HOST || s.text_of == to)
        return;
    if (s.text_of && s.text_of->error)
        memcpy(s.text_of->error, place, SY_ERROR_TEXT);
    memcpy(place, to->error, SY_ERROR_TEXT);
    s.text_of = to;
}

/* A turn costs a slow rank more: it does not run again for a while. */
static void charge(const struct sim_task *t)
{
    struct rank *r = s.rank + (t->rank < s.ranks ? t->rank : s.ranks);
    if (r->slow > 1)
        r->from_ns = sim_now_ns() + (sim_points - s.slice_begun) * SIM_POINT_NS * (r->slow - 1);
}

static uint64_t runs_from(const struct sim_task *t)
{
    const struct rank *r = s.rank + (t->rank < s.ranks ? t->rank : s.ranks);
    return r->from_ns > t->from_ns ? r->from_ns : t->from_ns;
}

/* Leaves the running task, which has been put where it belongs, for the next. */
static void leave(int ends)
{
    struct sim_task *from = sim_current, *to = NULL;
    sim_settle_doubt();
    if (from)
        charge(from);
    while (!to) {
        uint64_t from_ns;
        wake_due();
        idle();
        if (!s.live)
            break;
        to = pick();
        from_ns = runs_from(to);
        if (from_ns > sim_now_ns()) {
            drop_runnable(to);
            to->state = SIM_PARKED;
            timer_add(to, from_ns);
            to = NULL;
        }
    }
    s.slice_begun = sim_points;
    if (to == from)
        return;
    sim_current = to;
    sim_warp_now = to ? to->warp : NULL;
    if (to)
        change_text(to);
    sy_fiber_switch(from ? &from->fiber : &s.hub, to ? &to->fiber : &s.hub, ends);
}

static void refuel(void)
{
    sim_fuel = s.config.slice > 1 ? 1 + (int32_t)sy_prng_below(&sim_dice, s.config.slice) : 1;
}

/* PCT: is it time to put the running task behind all others? */
static void change_priority(void)
{
    while (s.changes && sim_points >= s.change[s.changes - 1]) {
        s.changes--;
        sim_current->priority = s.changes;
    }
}

void sim_turn(void)
{
    refuel();
    if (sim_points > s.config.points_max)
        sim_violate(SIM_CHECK_LIVE, "not over after %llu points: somebody runs in circles",
                    (unsigned long long)sim_points);
    if (sim_now_ns() > s.config.time_max_ns)
        sim_violate(SIM_CHECK_LIVE, "not over after %llu ms of virtual time",
                    (unsigned long long)(sim_now_ns() / 1000000));
    sim_memory_stir(0);
    change_priority();
    leave(0);
}

void sim_yield(void)
{
    if (s.config.strategy == SIM_PCT) /* else the most important one would spin for ever */
        sim_current->priority = sy_prng_next(&sim_dice) >> 40;
    sim_points++;
    sim_turn();
}

void sim_park(uint64_t until_ns, const char *doing)
{
    struct sim_task *t = sim_current;
    sim_points++;
    t->doing = doing;
    t->parked_ns = sim_now_ns();
    drop_runnable(t);
    t->state = SIM_PARKED;
    if (until_ns != SIM_NEVER)
        timer_add(t, until_ns);
    leave(0);
    t->doing = NULL;
}

void sim_wait(struct sim_queue *queue, uint64_t until_ns, const char *doing)
{
    struct sim_task **at = &queue->first;
    while (*at)
        at = &(*at)->next;
    *at = sim_current;
    sim_current->next = NULL;
    sim_current->queue = queue;
    sim_park(until_ns, doing);
}

void sim_wake_all(struct sim_queue *queue)
{
    while (queue->first)
        sim_wake(queue->first);
}

/* --- tasks ------------------------------------------------------------------------------------ */

static void over(void)
{
    struct sim_task *t = sim_current;
    drop_runnable(t);
    t->state = SIM_OVER;
    s.live--;
    if (s.text_of == t)
        s.text_of = NULL;
    sim_wake_all(&t->joiners);
    leave(1);
}

static void main_of_task(void *context)
{
    struct sim_task *t = context;
    t->run(t->context);
    over();
}

/* A task that was killed has left its frames on the stack; AddressSanitizer must forget them. */
static void forget_frames(const struct sy_fiber *fiber)
{
#if defined(WITH_ASAN)
    __asan_unpoison_memory_region(fiber->stack, fiber->stack_bytes);
#else
    (void)fiber;
#endif
}

static struct sim_task *take_task(void)
{
    struct sim_task *t = s.spare;
    if (t) {
        s.spare = t->next;
        return t;
    }
    t = calloc(1, sizeof *t);
    SY_ASSERT(t);
    t->error = calloc(1, SY_ERROR_TEXT);
    SY_ASSERT(t->error && sy_fiber_open(&t->fiber) == 0);
    return t;
}

static struct sim_task *new_task(void)
{
    struct sim_task *t = take_task();
    if (s.count == s.room) {
        s.room = 2 * s.room + 64;
        s.all = realloc(s.all, s.room * sizeof *s.all);
        s.runnable = realloc(s.runnable, s.room * sizeof *s.runnable);
        s.timers = realloc(s.timers, s.room * sizeof *s.timers);
        SY_ASSERT(s.all && s.runnable && s.timers);
    }
    t->id = s.count;
    s.all[s.count++] = t;
    t->priority = 1000 + (sy_prng_next(&sim_dice) >> 40);
    return t;
}

struct sim_task *sim_spawn(struct sim_task *again, uint32_t rank, enum sim_kind kind,
                           void (*run)(void *), void *context, const char *name)
{
    struct sim_task *t = again ? again : new_task();
    SY_ASSERT(!again || again->state == SIM_OVER);
    t->rank = rank;
    t->kind = kind;
    t->timer = NONE;
    t->run = run;
    t->context = context;
    t->name = name;
    t->doing = NULL;
    t->queue = NULL;
    t->warp = NULL;
    t->from_ns = 0;
    t->joiners.first = NULL;
    t->error[0] = 0;
    forget_frames(&t->fiber);
    sy_fiber_start(&t->fiber, main_of_task, t);
    make_runnable(t);
    s.live++;
    return t;
}

uint32_t sim_task_count(void)
{
    return s.count;
}

const struct sim_task *sim_task_at(uint32_t i)
{
    return s.all[i];
}

/* --- ranks ------------------------------------------------------------------------------------ */

static void kill_task(struct sim_task *t)
{
    if (t->state == SIM_OVER)
        return;
    if (t->state == SIM_RUNNABLE)
        drop_runnable(t);
    timer_remove(t);
    queue_remove(t);
    t->state = SIM_OVER;
    s.live--;
    if (s.text_of == t)
        s.text_of = NULL;
    sim_wake_all(&t->joiners);
}

void sim_rank_kill(uint32_t rank)
{
    s.rank[rank].dead = 1;
    for (uint32_t i = 0; i < s.count; i++)
        if (s.all[i]->rank == rank)
            kill_task(s.all[i]);
    if (sim_current && sim_current->rank == rank)
        leave(1);
}

void sim_rank_stall(uint32_t rank, uint64_t until_ns)
{
    s.rank[rank].from_ns = until_ns;
    if (sim_current && sim_current->rank == rank)
        leave(0);
}

void sim_rank_slow(uint32_t rank, uint32_t factor)
{
    s.rank[rank].slow = factor;
}

const struct sim_task *sim_warp_pause(uint64_t until_ns)
{
    uint32_t first = (uint32_t)sy_prng_below(&sim_dice, s.count);
    for (uint32_t i = 0; i < s.count; i++) {
        struct sim_task *t = s.all[(first + i) % s.count];
        if (t->kind == SIM_WARP && t->state != SIM_OVER) {
            t->from_ns = until_ns;
            return t;
        }
    }
    return NULL;
}

int sim_rank_dead(uint32_t rank)
{
    return s.rank[rank].dead;
}

void sim_rank_revive(uint32_t rank)
{
    memset(s.rank + rank, 0, sizeof s.rank[rank]);
}

/* --- the life of a world ---------------------------------------------------------------------- */

void sim_sched_open(const struct sim_sched_config *config, uint64_t seed, uint32_t ranks)
{
    s.config = *config;
    s.ranks = ranks;
    s.count = s.runnable_count = s.timers_count = s.live = s.robin = 0;
    s.jumped_ns = s.slice_begun = sim_points = 0;
    s.text_of = NULL;
    s.rank = calloc(ranks + 1, sizeof *s.rank);
    SY_ASSERT(s.rank);
    sim_dice = sy_prng_make(seed, 1);
    sim_current = NULL;
    s.changes = config->change_points;
    for (uint32_t i = 0; i < s.changes; i++)
        s.change[i] = (uint64_t)sy_prng_below(&sim_dice, PCT_EXPECTED_POINTS);
    for (uint32_t i = 1; i < s.changes; i++) /* the next one last */
        for (uint32_t k = i; k && s.change[k] > s.change[k - 1]; k--) {
            uint64_t later = s.change[k];
            s.change[k] = s.change[k - 1];
            s.change[k - 1] = later;
        }
    refuel();
}

void sim_sched_run(void)
{
    sy_fiber_adopt(&s.hub);
    if (s.live)
        leave(0);
}

/* Ends the world from within a task: nobody of it runs again. */
void sim_sched_abandon(void)
{
    struct sim_task *from = sim_current;
    sim_current = NULL;
    s.live = 0;
    if (from)
        sy_fiber_switch(&from->fiber, &s.hub, 1);
}

void sim_sched_close(void)
{
    for (uint32_t i = 0; i < s.count; i++) {
        s.all[i]->next = s.spare;
        s.spare = s.all[i];
    }
    s.count = 0;
    free(s.rank);
    s.rank = NULL;
}
