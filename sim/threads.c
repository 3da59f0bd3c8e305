/* threads.c - see threads.h. Our state lies in the bytes of the pthread objects; all zero, as the
 * static initialisers leave it, is free. */
#include "threads.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/os.h"
#include "base/verify.h"
#include "report.h"
#include "tasks.h"
#include "system.h"

struct mutex {
    struct sim_task *holder;
    struct sim_queue queue;
};

struct cond {
    struct sim_queue queue;
};

_Static_assert(sizeof(struct mutex) <= sizeof(pthread_mutex_t), "room in a mutex");
_Static_assert(sizeof(struct cond) <= sizeof(pthread_cond_t), "room in a condition");

static struct mutex *mutex_of(pthread_mutex_t *m)
{
    return (struct mutex *)(void *)m;
}

int sim_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *attributes)
{
    (void)attributes;
    memset(m, 0, sizeof *m);
    return 0;
}

int sim_mutex_destroy(pthread_mutex_t *m)
{
    if (mutex_of(m)->holder || mutex_of(m)->queue.first)
        sim_violate(SIM_CHECK_HOST, "a lock is destroyed while somebody has it or wants it");
    return 0;
}

/* What a dead rank held is free: its locks were another process's. */
static int held(const struct mutex *m)
{
    return m->holder && m->holder->state != SIM_OVER;
}

int sim_mutex_lock(pthread_mutex_t *mutex)
{
    struct mutex *m = mutex_of(mutex);
    if (!sim_current)
        return 0;
    sim_point();
    if (m->holder == sim_current)
        sim_violate(SIM_CHECK_HOST, "a thread takes a lock that it has");
    while (held(m))
        sim_wait(&m->queue, SIM_NEVER, "a lock");
    m->holder = sim_current;
    return 0;
}

int sim_mutex_unlock(pthread_mutex_t *mutex)
{
    struct mutex *m = mutex_of(mutex);
    if (!sim_current)
        return 0;
    if (m->holder != sim_current)
        sim_violate(SIM_CHECK_HOST, "a thread gives back a lock that it does not have");
    m->holder = NULL;
    sim_wake_all(&m->queue);
    sim_point();
    return 0;
}

int sim_cond_init(pthread_cond_t *c, const pthread_condattr_t *attributes)
{
    (void)attributes;
    memset(c, 0, sizeof *c);
    return 0;
}

int sim_cond_destroy(pthread_cond_t *c)
{
    if (((struct cond *)(void *)c)->queue.first)
        sim_violate(SIM_CHECK_HOST, "a condition is destroyed while somebody waits for it");
    return 0;
}

static void wait_until(pthread_cond_t *c, pthread_mutex_t *mutex, uint64_t until_ns)
{
    struct mutex *m = mutex_of(mutex);
    if (m->holder != sim_current)
        sim_violate(SIM_CHECK_HOST, "a thread waits for a condition without its lock");
    m->holder = NULL;
    sim_wake_all(&m->queue);
    sim_wait(&((struct cond *)(void *)c)->queue, until_ns, "a condition");
    while (held(m))
        sim_wait(&m->queue, SIM_NEVER, "a lock");
    m->holder = sim_current;
}

int sim_cond_wait(pthread_cond_t *c, pthread_mutex_t *m)
{
    wait_until(c, m, SIM_NEVER);
    return 0;
}

int sim_cond_broadcast(pthread_cond_t *c)
{
    sim_wake_all(&((struct cond *)(void *)c)->queue);
    return 0;
}

int sim_cond_signal(pthread_cond_t *c)
{
    return sim_cond_broadcast(c); /* waking up for nothing is allowed */
}

/* base/os.h */
void sy_wait_ms(pthread_cond_t *condition, pthread_mutex_t *lock, int ms)
{
    wait_until(condition, lock, sim_now_ns() + (uint64_t)ms * 1000000u);
}

/* --- threads ---------------------------------------------------------------------------------- */

struct start {
    void *(*run)(void *);
    void *context;
};

static void thread_main(void *context)
{
    struct start s = *(struct start *)context;
    free(context);
    s.run(s.context);
}

int sim_thread(pthread_t *thread, void *(*run)(void *), void *context)
{
    struct start *s = malloc(sizeof *s);
    struct sim_task *t;
    if (!s)
        return ENOMEM;
    s->run = run;
    s->context = context;
    t = sim_spawn(NULL, sim_current->rank, SIM_HOST, thread_main, s, "thread of the library");
    memcpy(thread, &t, sizeof t);
    return 0;
}

int sim_thread_join(pthread_t thread, void **result)
{
    struct sim_task *t;
    (void)result;
    memcpy(&t, &thread, sizeof t);
    while (t->state != SIM_OVER)
        sim_wait(&t->joiners, SIM_NEVER, "a thread to end");
    return 0;
}

/* Its task is the scheduler's anyway. */
int sim_thread_detach(pthread_t thread)
{
    (void)thread;
    return 0;
}
