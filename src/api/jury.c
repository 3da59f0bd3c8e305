/* jury.c - see jury.h. Sections: texts | votes. */
#include "jury.h"

#include <stdio.h>
#include <string.h>

#include "base/os.h"

/* --- texts ---------------------------------------------------------------------------------- */

static const char *const channel_names[SY_CHANNELS] = {"routing", "dispatch", "combine",
                                                       "latency dispatch", "latency combine"};

const char *sy_channel_name(int channel)
{
    return channel_names[channel];
}

/* What a rank waited for, by sy_fault_what. */
static const char *const waited_for[] = {
    [SY_FAULT_START] = "to begin it",      [SY_FAULT_COUNT] = "to send its counts",
    [SY_FAULT_BASE] = "to answer counts",  [SY_FAULT_ROWS] = "to send rows",
    [SY_FAULT_FETCH] = "to fetch rows",    [SY_FAULT_WEIGHTS] = "to send weights",
    [SY_FAULT_SELF] = "(itself) to go on",
};

static sy_status status_of(uint32_t what)
{
    switch (what) {
    case SY_FAULT_NONE:
        return SY_OK;
    case SY_FAULT_CHECK:
        return SY_MISMATCH;
    case SY_FAULT_BYTES:
        return SY_PROTOCOL;
    case SY_FAULT_SHORT:
        return SY_INVALID;
    case SY_FAULT_LOST:
    case SY_FAULT_LEFT:
        return SY_PEER_LOST;
    case SY_FAULT_ABORT:
        return SY_ABORTED;
    default:
        return SY_TIMEOUT;
    }
}

static void describe_wait(const struct sy_fault_record *r, uint64_t timeout_ns, sy_fault *f,
                          const char *op)
{
    int word = r->what == SY_FAULT_START || r->what == SY_FAULT_COUNT || r->what == SY_FAULT_BASE ||
               r->what == SY_FAULT_FETCH; /* its upper half is what was waited for */
    char who[32];
    const char *what =
        r->what < sizeof waited_for / sizeof *waited_for ? waited_for[r->what] : NULL;
    if ((int32_t)r->culprit < 0)
        snprintf(who, sizeof who, "some rank");
    else
        snprintf(who, sizeof who, "rank %u", r->culprit);
    snprintf(f->text, sizeof f->text,
             "%s %llu: rank %u waited %llu ms for %s %s (expected %llu, seen %llu)", op,
             (unsigned long long)r->epoch, r->reporter, (unsigned long long)(timeout_ns / 1000000),
             who, what ? what : "?", (unsigned long long)r->expected,
             (unsigned long long)(word ? r->seen >> 32 : r->seen));
}

void sy_jury_describe(const struct sy_fault_record *r, uint64_t timeout_ns, sy_fault *f)
{
    const char *op = r->channel < SY_CHANNELS ? channel_names[r->channel] : "operation";
    unsigned long long epoch = r->epoch;
    f->status = status_of(r->what);
    f->culprit = (int32_t)r->culprit;
    f->reporter = (int32_t)r->reporter;
    f->reserved = 0;
    switch (r->what) {
    case SY_FAULT_NONE:
        f->text[0] = 0;
        break;
    case SY_FAULT_CHECK:
        snprintf(f->text, sizeof f->text,
                 "%s %llu: rank %u runs it with another route, or other types or shapes, than "
                 "rank %u",
                 op, epoch,
                 r->culprit, r->reporter);
        break;
    case SY_FAULT_BYTES:
        snprintf(f->text, sizeof f->text,
                 "%s %llu: rank %u sent rank %u a value out of range (heap offset %llu)", op, epoch,
                 r->culprit, r->reporter, (unsigned long long)r->place);
        break;
    case SY_FAULT_SHORT:
        snprintf(f->text, sizeof f->text,
                 "%s %llu: on rank %u the route brings %llu rows, and a tensor has %llu", op, epoch,
                 r->culprit, (unsigned long long)r->expected, (unsigned long long)r->seen);
        break;
    case SY_FAULT_LOST:
        snprintf(f->text, sizeof f->text, "rank %u died", r->culprit);
        break;
    case SY_FAULT_LEFT:
        snprintf(f->text, sizeof f->text, "%s %llu: rank %u waited for rank %u, which had left", op,
                 epoch, r->reporter, r->culprit);
        break;
    case SY_FAULT_BARRIER:
        snprintf(f->text, sizeof f->text, "barrier %llu: rank %u waited %llu ms for rank %u", epoch,
                 r->reporter, (unsigned long long)(timeout_ns / 1000000), r->culprit);
        break;
    case SY_FAULT_ABORT:
        snprintf(f->text, sizeof f->text, "rank %u called sy_group_abort()", r->reporter);
        f->culprit = -1;
        break;
    default:
        describe_wait(r, timeout_ns, f, op);
        break;
    }
}

/* Which of two records says more about the cause. A dead rank explains time-outs; a wrong argument
 * explains waits for those who stopped over it. */
static int weight(const struct sy_fault_record *r)
{
    static const uint8_t order[] = {
        SY_FAULT_NONE,  SY_FAULT_SELF,  SY_FAULT_FETCH, SY_FAULT_WEIGHTS, SY_FAULT_ROWS,
        SY_FAULT_BASE,  SY_FAULT_COUNT, SY_FAULT_START, SY_FAULT_BARRIER, SY_FAULT_LEFT,
        SY_FAULT_SHORT, SY_FAULT_BYTES, SY_FAULT_CHECK, SY_FAULT_ABORT,   SY_FAULT_LOST};
    for (int i = 0; i < (int)sizeof order; i++)
        if (order[i] == r->what)
            return i;
    return 0;
}

static int heavier(const struct sy_fault_record *a, const struct sy_fault_record *b)
{
    int wa = weight(a), wb = weight(b);
    if (wa != wb)
        return wa > wb;
    if (a->culprit != b->culprit)
        return a->culprit < b->culprit;
    if (a->reporter != b->reporter)
        return a->reporter < b->reporter;
    return a->epoch < b->epoch;
}

/* --- votes ---------------------------------------------------------------------------------- */

sy_status sy_jury_open(struct sy_jury *v, uint32_t rank, uint32_t ranks, uint64_t timeout_ns)
{
    v->rank = rank;
    v->ranks = ranks;
    v->timeout_ns = timeout_ns;
    v->wait_ns = timeout_ns / 4;
    if (v->wait_ns < SY_VOTE_WAIT_LEAST_NS)
        v->wait_ns = SY_VOTE_WAIT_LEAST_NS;
    if (v->wait_ns > SY_VOTE_WAIT_MOST_NS)
        v->wait_ns = SY_VOTE_WAIT_MOST_NS;
    v->votes = sy_zalloc(sizeof *v->votes * ranks);
    v->gone = sy_zalloc(ranks);
    pthread_mutex_init(&v->lock, NULL);
    pthread_cond_init(&v->settled, NULL);
    if (v->votes && v->gone)
        return SY_OK;
    sy_jury_close(v);
    return sy_fail(SY_NO_MEMORY, "votes of %u ranks", ranks);
}

void sy_jury_close(struct sy_jury *v)
{
    sy_os->free(v->votes);
    sy_os->free(v->gone);
    v->votes = NULL;
    v->gone = NULL;
    pthread_cond_destroy(&v->settled);
    pthread_mutex_destroy(&v->lock);
}

/* With the lock held: the verdict, if all votes are in or have had their time. */
static void settle(struct sy_jury *v)
{
    const struct sy_fault_record *best = v->votes + v->rank;
    int late = v->begun_ns && sy_os->now_ns() - v->begun_ns > v->wait_ns;
    if (v->final || !v->begun_ns)
        return;
    for (uint32_t p = 0; p < v->ranks; p++) {
        if (!v->votes[p].what && !v->gone[p] && !late)
            return;
        if (heavier(v->votes + p, best))
            best = v->votes + p;
    }
    sy_jury_describe(best, v->timeout_ns, &v->fault);
    v->final = 1;
    pthread_cond_broadcast(&v->settled);
}

/* With the lock held: this rank votes, once. Returns 1 if the vote is to be spread. */
static int vote_own(struct sy_jury *v, const struct sy_fault_record *record)
{
    if (v->votes[v->rank].what)
        return 0;
    v->votes[v->rank] = *record;
    if (!v->begun_ns)
        v->begun_ns = sy_os->now_ns();
    settle(v);
    return 1;
}

void sy_jury_blame(struct sy_jury *v, const struct sy_fault_record *record)
{
    int first;
    pthread_mutex_lock(&v->lock);
    first = vote_own(v, record);
    pthread_mutex_unlock(&v->lock);
    if (first)
        v->spread(v->context, record);
}

void sy_jury_vote(struct sy_jury *v, uint32_t from, const struct sy_fault_record *record)
{
    struct sy_fault_record own = *record;
    int first;
    if (from >= v->ranks || from == v->rank || !record->what || record->what >= SY_FAULT_KINDS)
        return;
    pthread_mutex_lock(&v->lock);
    if (!v->votes[from].what)
        v->votes[from] = *record;
    first = vote_own(v, &own); /* knowing nothing better, this rank repeats what it heard */
    settle(v);
    pthread_mutex_unlock(&v->lock);
    if (first)
        v->spread(v->context, &own);
}

void sy_jury_gone(struct sy_jury *v, uint32_t rank, int how)
{
    struct sy_fault_record lost;
    memset(&lost, 0, sizeof lost);
    lost.what = SY_FAULT_LOST;
    lost.culprit = rank;
    lost.reporter = v->rank;
    if (rank >= v->ranks)
        return;
    pthread_mutex_lock(&v->lock);
    v->gone[rank] = (uint8_t)how;
    settle(v);
    pthread_mutex_unlock(&v->lock);
    if (how == SY_GONE_DIED)
        sy_jury_blame(v, &lost);
}

int sy_jury_is_gone(struct sy_jury *v, uint32_t rank)
{
    int gone;
    pthread_mutex_lock(&v->lock);
    gone = rank < v->ranks ? v->gone[rank] : SY_GONE_NOT;
    pthread_mutex_unlock(&v->lock);
    return gone;
}

int32_t sy_jury_left(struct sy_jury *v)
{
    int32_t left = -1;
    pthread_mutex_lock(&v->lock);
    for (uint32_t p = 0; p < v->ranks && left < 0; p++)
        if (v->gone[p])
            left = (int32_t)p;
    pthread_mutex_unlock(&v->lock);
    return left;
}

sy_status sy_jury_get(struct sy_jury *v, int wait, sy_fault *fault)
{
    sy_status status = SY_OK;
    pthread_mutex_lock(&v->lock);
    settle(v);
    while (wait && v->begun_ns && !v->final) {
        sy_wait_ms(&v->settled, &v->lock, 10);
        settle(v);
    }
    if (v->begun_ns)
        status = v->final ? (sy_status)v->fault.status : SY_NOT_READY;
    if (fault) {
        size_t size = fault->size;
        memset(fault, 0, sizeof *fault);
        fault->culprit = fault->reporter = -1;
        if (v->final)
            *fault = v->fault;
        fault->size = size;
    }
    pthread_mutex_unlock(&v->lock);
    return status;
}
