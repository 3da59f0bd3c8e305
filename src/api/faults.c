/* faults.c - what becomes of a group in which something fails, and its host barrier.
 *
 * Kernels leave records in each other's heaps, sockets tell of deaths, ranks tell each other what
 * they know: all of it ends in the jury, and what calls return comes from there.
 *
 * Sections: telling | notices | answers | barrier | opening. */
#include "group.h"

#include <string.h>

#include "boot/mesh.h"

/* How often the watching thread looks for what kernels have reported. */
#define LOOK_MS 20

enum told { TOLD_VOTE = 1, TOLD_BARRIER = 2 };

/* --- telling -------------------------------------------------------------------------------- */

/* Makes this rank's kernels leave. */
static void stop_kernels(sy_group *group)
{
    sy_u32 *stop = (sy_u32 *)(void *)(group->dev.heap + group->dev.at.stop);
    group->rt->ops->poke(group->rt, stop, 1);
}

static void spread_vote(void *context, const struct sy_fault_record *vote)
{
    sy_group *group = context;
    sy_fault fault;
    stop_kernels(group);
    sy_mesh_tell(group->mesh, TOLD_VOTE, vote, sizeof *vote);
    sy_jury_describe(vote, group->plan.timeout_ns, &fault);
    sy_log(&group->log, SY_LOG_ERROR, "%s", fault.text);
}

static int is_wait(uint32_t what)
{
    return what >= SY_FAULT_START && what <= SY_FAULT_SELF;
}

/* A kernel that waits for rows of many ranks does not know whose are missing. The first rank that
 * has not begun the operation, or ~0. */
static uint32_t not_begun(sy_group *group, const struct sy_fault_record *record)
{
    struct sy_start some[32];
    uint64_t copy = record->channel * 2 + (record->epoch & 1); /* see records.h */
    uint64_t at = group->dev.at.start + copy * group->dev.ranks * sizeof *some;
    for (uint32_t p = 0; record->channel < SY_CHANNELS && p < group->dev.ranks; p += 32) {
        uint32_t n = group->dev.ranks - p < 32 ? group->dev.ranks - p : 32;
        group->rt->ops->read(group->rt, some, group->dev.heap + at + p * sizeof *some,
                             n * sizeof *some);
        for (uint32_t i = 0; i < n; i++)
            if ((int32_t)((uint32_t)(some[i].value >> 32) - (uint32_t)record->epoch) < 0)
                return p + i;
    }
    return UINT32_MAX;
}

/* Has a kernel of this rank told of a fault, its own or one that it heard of? */
static void look_for_faults(sy_group *group)
{
    const uint64_t *told = (const uint64_t *)&group->dev.report->fault;
    uint64_t words[sizeof(struct sy_fault_record) / 8] = {__atomic_load_n(told, __ATOMIC_ACQUIRE)};
    struct sy_fault_record record;
    if (!(uint32_t)words[0]) /* what; it is written last */
        return;
    for (size_t i = 1; i < sizeof words / sizeof *words; i++)
        words[i] = __atomic_load_n(told + i, __ATOMIC_RELAXED);
    memcpy(&record, words, sizeof record);
    if (is_wait(record.what) && record.culprit == UINT32_MAX)
        record.culprit = not_begun(group, &record);
    if (is_wait(record.what) && sy_jury_is_gone(&group->jury, record.culprit) == SY_GONE_LEFT)
        record.what = SY_FAULT_LEFT;
    sy_jury_blame(&group->jury, &record);
}

static void peer_gone(void *context, int32_t rank, sy_status how)
{
    sy_group *group = context;
    sy_jury_gone(&group->jury, (uint32_t)rank, how == SY_OK ? SY_GONE_LEFT : SY_GONE_DIED);
    pthread_mutex_lock(&group->lock);
    pthread_cond_broadcast(&group->arrival);
    pthread_mutex_unlock(&group->lock);
}

static void peer_told(void *context, int32_t rank, uint32_t kind, const void *data, size_t bytes)
{
    sy_group *group = context;
    struct sy_fault_record vote;
    if (kind == TOLD_VOTE && bytes == sizeof vote) {
        memcpy(&vote, data, sizeof vote);
        sy_jury_vote(&group->jury, (uint32_t)rank, &vote);
    } else if (kind == TOLD_BARRIER && !bytes) {
        pthread_mutex_lock(&group->lock);
        group->arrived[rank]++;
        pthread_cond_broadcast(&group->arrival);
        pthread_mutex_unlock(&group->lock);
    }
}

static void tick(void *context)
{
    look_for_faults(context);
}

/* --- notices -------------------------------------------------------------------------------- */

/* A number that is an expert after all was one too many in a map. */
static void describe_notice(const sy_group *group, const struct sy_notice *n)
{
    int32_t value = (int32_t)(n->what >> 32), experts = (int32_t)group->dev.experts;
    uint32_t rank = (uint32_t)n->whose, token = (uint32_t)(n->whose >> 32);
    uint32_t slot = (uint32_t)n->what;
    if (value >= 0 && value < experts)
        sy_fail(SY_BAD_ROUTE,
                "rank %u, token %u: its map has more experts than top-k; %d and later ones do not "
                "count",
                rank, token, (int)value);
    else if (value == INT32_MAX || value == INT32_MIN)
        sy_fail(SY_BAD_ROUTE, "rank %u, token %u, k %u: %d or beyond is no expert (0 to %d)", rank,
                token, slot, (int)value, (int)experts - 1);
    else
        sy_fail(SY_BAD_ROUTE,
                "rank %u, token %u, k %u: %d is no expert (0 to %d); it counted as -1", rank, token,
                slot, (int)value, (int)experts - 1);
}

/* With the lock held: is there a notice that has not been taken, and whole? One that a kernel is
 * writing is taken next time. */
static int read_notice(sy_group *group, struct sy_notice *n)
{
    const struct sy_notice *told = &group->dev.report->notice;
    n->seq = __atomic_load_n(&told->seq, __ATOMIC_ACQUIRE);
    if (n->seq == group->notices || n->seq % 2)
        return 0;
    n->whose = __atomic_load_n(&told->whose, __ATOMIC_ACQUIRE);
    n->what = __atomic_load_n(&told->what, __ATOMIC_ACQUIRE);
    if (__atomic_load_n(&told->seq, __ATOMIC_RELAXED) != n->seq)
        return 0;
    group->notices = n->seq;
    return 1;
}

/* Ids out of range are reported once, and the group goes on. */
static sy_status take_notice(sy_group *group, sy_fault *fault)
{
    struct sy_notice notice;
    char text[256];
    size_t size = fault ? fault->size : 0;
    int news;
    pthread_mutex_lock(&group->lock);
    news = read_notice(group, &notice);
    pthread_mutex_unlock(&group->lock);
    if (!news)
        return SY_OK;
    describe_notice(group, &notice);
    sy_log(&group->log, SY_LOG_WARN, "%s", sy_last_error());
    if (fault) {
        strncpy(text, sy_last_error(), sizeof text - 1);
        text[sizeof text - 1] = 0;
        memset(fault, 0, sizeof *fault);
        fault->size = size;
        fault->status = SY_BAD_ROUTE;
        fault->culprit = (int32_t)(uint32_t)notice.whose;
        fault->reporter = (int32_t)(uint32_t)notice.whose;
        memcpy(fault->text, text, sizeof text);
    }
    return SY_BAD_ROUTE;
}

/* --- answers -------------------------------------------------------------------------------- */

sy_status sy_group_poll(sy_group *group, sy_fault *fault)
{
    sy_fault verdict;
    sy_status status;
    SY_NEED(group, "sy_group_poll: NULL");
    SY_NEED(!fault || fault->size >= sizeof *fault, "sy_group_poll: the fault's size is not set");
    look_for_faults(group);
    status = sy_jury_get(&group->jury, 0, &verdict);
    if (status == SY_NOT_READY)
        status = SY_OK; /* it will be known in milliseconds */
    if (fault) {
        verdict.size = fault->size;
        *fault = verdict;
    }
    if (status != SY_OK)
        return sy_fail(status, "%s", verdict.text);
    return take_notice(group, fault);
}

sy_status sy_group_fault(sy_group *group, const char *call)
{
    sy_fault fault;
    sy_status status;
    look_for_faults(group);
    status = sy_jury_get(&group->jury, 1, &fault);
    return status == SY_OK ? SY_OK : sy_fail(status, "%s: %s", call, fault.text);
}

sy_status sy_group_usable(sy_group *group, const char *call)
{
    /* First who left: whoever left over a fault has told of it before. */
    int32_t left = sy_jury_left(&group->jury);
    SY_TRY(sy_group_fault(group, call));
    if (left >= 0)
        return sy_fail(SY_PEER_LOST, "%s: rank %d has left the group", call, (int)left);
    return SY_OK;
}

sy_status sy_group_outcome(sy_group *group, const char *call)
{
    SY_TRY(sy_group_fault(group, call));
    return take_notice(group, NULL);
}

sy_status sy_group_abort(sy_group *group)
{
    struct sy_fault_record record;
    SY_NEED(group, "sy_group_abort: NULL");
    memset(&record, 0, sizeof record);
    record.what = SY_FAULT_ABORT;
    record.culprit = record.reporter = group->dev.rank;
    sy_jury_blame(&group->jury, &record);
    return SY_OK;
}

/* --- barrier -------------------------------------------------------------------------------- */

/* With the lock held: the first rank that has not come to barrier `nth`, or -1. */
static int32_t missing(const sy_group *group, uint64_t nth)
{
    for (int32_t p = 0; p < group->plan.ranks; p++)
        if (p != group->plan.rank && group->arrived[p] < nth)
            return p;
    return -1;
}

/* A rank that came and then left has come: its words arrive in their order, so this is asked after
 * it is known to have left. */
static int has_come(sy_group *group, uint64_t nth, int32_t rank)
{
    int come;
    pthread_mutex_lock(&group->lock);
    come = group->arrived[rank] >= nth;
    pthread_mutex_unlock(&group->lock);
    return come;
}

/* A rank is missing: does that end the wait? */
static sy_status still_hoping(sy_group *group, uint64_t nth, int32_t rank, uint64_t since)
{
    struct sy_fault_record record;
    int gone = sy_jury_is_gone(&group->jury, (uint32_t)rank); /* first: see sy_group_usable() */
    SY_TRY(sy_group_fault(group, "sy_group_barrier"));
    if (gone == SY_GONE_LEFT && !has_come(group, nth, rank))
        return sy_fail(SY_PEER_LOST, "sy_group_barrier: rank %d has left the group", (int)rank);
    if (sy_os->now_ns() - since < group->plan.timeout_ns)
        return SY_OK;
    memset(&record, 0, sizeof record);
    record.what = SY_FAULT_BARRIER;
    record.channel = SY_CHANNELS;
    record.culprit = (sy_u32)rank;
    record.reporter = group->dev.rank;
    record.epoch = nth;
    sy_jury_blame(&group->jury, &record);
    return sy_group_fault(group, "sy_group_barrier");
}

sy_status sy_group_barrier(sy_group *group)
{
    uint64_t since = sy_os->now_ns(), nth;
    sy_status status = SY_OK;
    int32_t rank;
    SY_NEED(group, "sy_group_barrier: NULL");
    SY_TRY(sy_group_fault(group, "sy_group_barrier"));
    pthread_mutex_lock(&group->lock);
    nth = ++group->barriers;
    pthread_mutex_unlock(&group->lock);
    sy_mesh_tell(group->mesh, TOLD_BARRIER, NULL, 0);
    pthread_mutex_lock(&group->lock);
    while (status == SY_OK && (rank = missing(group, nth)) >= 0) {
        sy_wait_ms(&group->arrival, &group->lock, 10);
        if ((rank = missing(group, nth)) < 0)
            break;
        pthread_mutex_unlock(&group->lock);
        status = still_hoping(group, nth, rank, since);
        pthread_mutex_lock(&group->lock);
    }
    pthread_mutex_unlock(&group->lock);
    return status;
}

/* --- opening -------------------------------------------------------------------------------- */

sy_status sy_faults_open(sy_group *group)
{
    const struct sy_plan *plan = &group->plan;
    group->arrived = sy_zalloc(sizeof *group->arrived * (size_t)plan->ranks);
    if (!group->arrived)
        return sy_fail(SY_NO_MEMORY, "barriers of %d ranks", (int)plan->ranks);
    group->jury.spread = spread_vote;
    group->jury.context = group;
    return sy_jury_open(&group->jury, (uint32_t)plan->rank, (uint32_t)plan->ranks,
                        plan->timeout_ns);
}

sy_status sy_faults_watch(sy_group *group)
{
    return sy_mesh_watch(group->mesh, &(struct sy_mesh_events){.context = group,
                                                               .gone = peer_gone,
                                                               .told = peer_told,
                                                               .tick = tick,
                                                               .tick_ms = LOOK_MS});
}

void sy_faults_close(sy_group *group)
{
    if (group->jury.votes)
        sy_jury_close(&group->jury);
    sy_os->free(group->arrived);
    group->arrived = NULL;
}
