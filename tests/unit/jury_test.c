/* jury_test.c - how ranks come to one word about a fault (src/api/jury.h).
 *
 * Three juries and the votes between them: whatever the order in which faults are noticed and votes
 * arrive, all end with the same verdict, and it is the heaviest of all votes. A rank votes what it
 * notices or hears first. All orders are tried; a pair of ranks keeps the order of its votes, as a
 * socket does.
 *
 *   1  A world of juries      3  Orders
 *   2  Faults                 4  Time, texts, nonsense
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>

#include "api/jury.h"
#include "base/os.h"
#include "check.h"

#define RANKS 3
#define TIMEOUT_NS 4000000000ull

static uint64_t clock_ns;

static uint64_t fake_now(void)
{
    return clock_ns;
}

/* ---- 1. A world of juries -------------------------------------------------------------------- */

/* What happens on a rank beside votes of others. */
enum event_kind { BLAME, DIED, LEFT };

struct event {
    int rank; /* that notices */
    enum event_kind kind;
    uint32_t of; /* DIED, LEFT: who */
    struct sy_fault_record record;
};

struct rank {
    struct world *world;
    int number;
    struct sy_jury jury;
};

struct world {
    struct rank rank[RANKS];
    struct sy_fault_record vote[RANKS][RANKS]; /* [from][to] */
    int sent[RANKS][RANKS], taken[RANKS][RANKS], happened[4];
    int wrong;
};

static void spread(void *context, const struct sy_fault_record *vote)
{
    struct rank *r = context;
    for (int to = 0; to < RANKS; to++) {
        if (to == r->number)
            continue;
        r->world->wrong += r->world->sent[r->number][to]++; /* a rank votes once */
        r->world->vote[r->number][to] = *vote;
    }
}

static void open_world(struct world *w)
{
    memset(w, 0, sizeof *w);
    for (int i = 0; i < RANKS; i++) {
        struct rank *r = w->rank + i;
        r->world = w;
        r->number = i;
        r->jury.spread = spread;
        r->jury.context = r;
        w->wrong += sy_jury_open(&r->jury, (uint32_t)i, RANKS, TIMEOUT_NS) != SY_OK;
    }
}

static void close_world(struct world *w)
{
    for (int i = 0; i < RANKS; i++)
        sy_jury_close(&w->rank[i].jury);
}

static void happen(struct world *w, const struct event *e)
{
    struct sy_jury *v = &w->rank[e->rank].jury;
    if (e->kind == BLAME)
        sy_jury_blame(v, &e->record);
    else
        sy_jury_gone(v, e->of, e->kind == DIED ? SY_GONE_DIED : SY_GONE_LEFT);
}

/* ---- 2. Faults ------------------------------------------------------------------------------- */

static struct sy_fault_record record(uint32_t what, uint32_t culprit, uint32_t reporter)
{
    struct sy_fault_record r;
    memset(&r, 0, sizeof r);
    r.what = what;
    r.channel = what % SY_CHANNELS;
    r.culprit = culprit;
    r.reporter = reporter;
    r.epoch = 7 + what;
    r.expected = 2;
    r.seen = 1;
    return r;
}

static struct event blame(int rank, uint32_t what, uint32_t culprit)
{
    struct event e = {.rank = rank, .kind = BLAME};
    e.record = record(what, culprit, (uint32_t)rank);
    return e;
}

/* What must win: a death before an abort before what a rank did wrong before who was late; what
 * comes later in an operation is the consequence of what comes earlier. */
static int heaviness(uint32_t what)
{
    switch (what) {
    case SY_FAULT_LOST:
        return 100;
    case SY_FAULT_ABORT:
        return 90;
    case SY_FAULT_CHECK:
        return 80;
    case SY_FAULT_BYTES:
        return 79;
    case SY_FAULT_SHORT:
        return 78;
    case SY_FAULT_LEFT:
        return 70;
    case SY_FAULT_BARRIER:
        return 60;
    case SY_FAULT_SELF:
        return 1;
    case SY_FAULT_START:
        return 50;
    case SY_FAULT_COUNT:
        return 49;
    case SY_FAULT_BASE:
        return 48;
    case SY_FAULT_ROWS:
        return 47;
    case SY_FAULT_WEIGHTS:
        return 46;
    default:
        return 45;
    }
}

/* ---- 3. Orders ------------------------------------------------------------------------------- */

struct trial {
    const struct event *events;
    int count;
    uint32_t gone;    /* bit per rank that is not asked in the end */
    uint32_t most;    /* heaviest of all that is noticed */
    long orders, won; /* orders in which that became the verdict */
};

/* A possible next step: an event that has not happened (those of a rank come in order), or a vote
 * on its way. */
struct step {
    int event; /* -1: the vote */
    int from, to;
};

static int list_steps(const struct trial *t, const struct world *w, struct step *steps)
{
    int count = 0;
    for (int i = 0; i < t->count; i++) {
        int next = !w->happened[i];
        for (int before = 0; before < i; before++)
            next &= t->events[before].rank != t->events[i].rank || w->happened[before];
        if (next)
            steps[count++] = (struct step){i, 0, 0};
    }
    for (int from = 0; from < RANKS; from++)
        for (int to = 0; to < RANKS; to++)
            if (w->sent[from][to] > w->taken[from][to] && !(t->gone >> to & 1))
                steps[count++] = (struct step){-1, from, to};
    return count;
}

static void take_step(const struct trial *t, struct world *w, const struct step *s)
{
    if (s->event >= 0) {
        w->happened[s->event] = 1;
        happen(w, t->events + s->event);
        return;
    }
    w->taken[s->from][s->to]++;
    sy_jury_vote(&w->rank[s->to].jury, (uint32_t)s->from, &w->vote[s->from][s->to]);
}

/* The heaviest of the votes that were cast. */
static uint32_t heaviest(const struct trial *t, const struct world *w)
{
    uint32_t most = SY_FAULT_NONE;
    for (int i = 0; i < RANKS; i++) {
        uint32_t what = w->vote[i][(i + 1) % RANKS].what;
        if (!(t->gone >> i & 1) && what && (!most || heaviness(what) > heaviness(most)))
            most = what;
    }
    return most;
}

static void look(struct trial *t, struct world *w)
{
    sy_fault first = {.size = sizeof first}, other = {.size = sizeof other}, want;
    uint32_t most = heaviest(t, w);
    struct sy_fault_record r = record(most, 0, 0);
    int asked = 0;
    sy_jury_describe(&r, TIMEOUT_NS, &want);
    t->won += most == t->most;
    for (int i = 0; i < RANKS; i++) {
        sy_status status;
        if (t->gone >> i & 1)
            continue;
        status = sy_jury_get(&w->rank[i].jury, 0, asked ? &other : &first);
        CHECK(status != SY_NOT_READY, "rank %d has no verdict", i);
        CHECK((int)status == want.status, "rank %d: %s, not %s", i, sy_status_name(status),
              sy_status_name((sy_status)want.status));
        CHECK(!asked || !memcmp(&first, &other, sizeof first), "rank %d: \"%s\", not \"%s\"", i,
              other.text, first.text);
        asked++;
    }
    CHECK(!w->wrong, "a rank voted twice");
}

/* All orders, each from the beginning. */
static void try_all(struct trial *t)
{
    int choice[32] = {0}, options[32], depth;
    struct step steps[16];
    t->orders = t->won = 0;
    do {
        struct world w;
        open_world(&w);
        for (depth = 0; depth < 32; depth++) {
            options[depth] = list_steps(t, &w, steps);
            if (!options[depth])
                break;
            take_step(t, &w, steps + choice[depth]);
        }
        look(t, &w);
        close_world(&w);
        t->orders++;
        while (depth > 0 && choice[depth - 1] + 1 == options[depth - 1])
            choice[--depth] = 0;
        if (depth > 0)
            choice[depth - 1]++;
    } while (depth > 0 && !check_state.failures);
}

static void one_notices(void)
{
    for (uint32_t what = 1; what < SY_FAULT_KINDS; what++) {
        struct event e = blame(1, what, 2);
        struct trial t = {.events = &e, .count = 1, .most = what};
        try_all(&t);
        CHECK(t.orders > 10 && t.won == t.orders, "%ld of %ld orders", t.won, t.orders);
    }
}

static void two_notice(void)
{
    long orders = 0;
    for (uint32_t a = 1; a < SY_FAULT_KINDS && !check_state.failures; a++) {
        for (uint32_t b = 1; b < SY_FAULT_KINDS && !check_state.failures; b++) {
            struct event e[2] = {blame(0, a, 1), blame(2, b, 1)};
            struct trial t = {.events = e, .count = 2, .most = heaviness(a) > heaviness(b) ? a : b};
            try_all(&t);
            orders += t.orders;
            CHECK(t.won * 2 > t.orders, "%u and %u: the heavier one won in %ld of %ld orders", a, b,
                  t.won, t.orders);
        }
    }
    printf("  %ld orders\n", orders);
}

/* One of each class, and ranks that blame each other with equal weight. */
static void three_notice(void)
{
    static const uint32_t kinds[] = {SY_FAULT_ROWS, SY_FAULT_CHECK, SY_FAULT_ABORT};
    long orders = 0;
    for (int i = 0; i < 27 && !check_state.failures; i++) {
        uint32_t a = kinds[i % 3], b = kinds[i / 3 % 3], c = kinds[i / 9], want = a;
        struct event e[3] = {blame(0, a, 1), blame(1, b, 2), blame(2, c, 0)};
        struct trial t = {.events = e, .count = 3};
        want = heaviness(b) > heaviness(want) ? b : want;
        t.most = heaviness(c) > heaviness(want) ? c : want;
        try_all(&t);
        orders += t.orders;
    }
    printf("  %ld orders\n", orders);
}

/* Rank 2 dies without a vote; the others see it in their time, and may have noticed its silence
 * first. */
static void one_dies(void)
{
    for (uint32_t what = 1; what < SY_FAULT_KINDS; what++) {
        struct event e[3] = {blame(0, what, 2),
                             {.rank = 0, .kind = DIED, .of = 2},
                             {.rank = 1, .kind = DIED, .of = 2}};
        struct trial t = {.events = e, .count = 3, .gone = 4, .most = SY_FAULT_LOST};
        try_all(&t);
    }
}

/* It leaves in good order, which is no fault and whose vote nobody waits for. */
static void one_leaves(void)
{
    for (uint32_t what = 1; what < SY_FAULT_KINDS; what++) {
        struct event e[3] = {blame(0, what, 1),
                             {.rank = 0, .kind = LEFT, .of = 2},
                             {.rank = 1, .kind = LEFT, .of = 2}};
        struct trial t = {.events = e, .count = 3, .gone = 4, .most = what};
        try_all(&t);
    }
    {
        struct world w;
        sy_fault fault = {.size = sizeof fault};
        open_world(&w);
        sy_jury_gone(&w.rank[0].jury, 2, SY_GONE_LEFT);
        CHECK(sy_jury_get(&w.rank[0].jury, 1, &fault) == SY_OK && fault.status == SY_OK,
              "leaving is a fault");
        CHECK(sy_jury_is_gone(&w.rank[0].jury, 2) == SY_GONE_LEFT &&
                  sy_jury_is_gone(&w.rank[0].jury, 1) == SY_GONE_NOT &&
                  sy_jury_left(&w.rank[0].jury) == 2 && sy_jury_left(&w.rank[1].jury) == -1,
              "who has left");
        close_world(&w);
    }
}

/* ---- 4. Time, texts, nonsense ---------------------------------------------------------------- */

/* Rank 2 does not vote: the others wait a quarter of the timeout, within bounds, and no longer. */
static void silent_rank(void)
{
    static const uint64_t cases[][2] = {{4000000000ull, 1000000000ull},
                                        {100000000ull, 100000000ull},
                                        {30000000000ull, 2000000000ull},
                                        {86400000000000ull, 2000000000ull}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sy_fault_record r = record(SY_FAULT_ROWS, 2, 0);
        struct rank rank = {.number = 0};
        static struct world w;
        memset(&w, 0, sizeof w);
        rank.world = &w;
        rank.jury.spread = spread;
        rank.jury.context = &rank;
        clock_ns = 1000;
        CHECK(sy_jury_open(&rank.jury, 0, RANKS, cases[i][0]) == SY_OK, "no jury");
        CHECK(sy_jury_get(&rank.jury, 0, NULL) == SY_OK, "a fault out of nothing");
        sy_jury_blame(&rank.jury, &r);
        sy_jury_vote(&rank.jury, 1, &r);
        clock_ns += cases[i][1];
        CHECK(sy_jury_get(&rank.jury, 0, NULL) == SY_NOT_READY, "timeout %llu: too early",
              (unsigned long long)cases[i][0]);
        clock_ns += 1;
        CHECK(sy_jury_get(&rank.jury, 0, NULL) == SY_TIMEOUT, "timeout %llu: too late",
              (unsigned long long)cases[i][0]);
        r.what = SY_FAULT_LOST; /* comes too late to count */
        sy_jury_vote(&rank.jury, 2, &r);
        CHECK(sy_jury_get(&rank.jury, 0, NULL) == SY_TIMEOUT, "a verdict changed");
        sy_jury_close(&rank.jury);
    }
}

static void *vote_later(void *context)
{
    struct rank *r = context;
    struct sy_fault_record vote = record(SY_FAULT_CHECK, 1, 2);
    sy_os_real.sleep_ns(20000000);
    sy_jury_vote(&r->jury, 1, &vote);
    sy_jury_vote(&r->jury, 2, &vote);
    return NULL;
}

/* A caller that waits is woken by the last vote. */
static void waiting(void)
{
    struct sy_fault_record r = record(SY_FAULT_ROWS, 2, 0);
    static struct world w;
    sy_fault fault = {.size = sizeof fault};
    pthread_t thread;
    sy_os = &sy_os_real;
    open_world(&w);
    sy_jury_blame(&w.rank[0].jury, &r);
    CHECK(!pthread_create(&thread, NULL, vote_later, w.rank), "no thread");
    CHECK(sy_jury_get(&w.rank[0].jury, 1, &fault) == SY_MISMATCH && fault.status == SY_MISMATCH &&
              fault.culprit == 1 && fault.reporter == 2 && fault.size == sizeof fault,
          "%s by %d of %d", sy_status_name((sy_status)fault.status), fault.reporter, fault.culprit);
    pthread_join(thread, NULL);
    close_world(&w);
}

static void texts(void)
{
    static const struct {
        uint32_t what, channel;
        int status;
        const char *text;
    } cases[] = {
        {SY_FAULT_START, SY_CH_TDISPATCH, SY_TIMEOUT,
         "dispatch 5: rank 1 waited 4000 ms for rank 2 to begin it"},
        {SY_FAULT_COUNT, SY_CH_ROUTE, SY_TIMEOUT,
         "routing 5: rank 1 waited 4000 ms for rank 2 to send its counts"},
        {SY_FAULT_BASE, SY_CH_ROUTE, SY_TIMEOUT, "rank 2 to answer counts"},
        {SY_FAULT_ROWS, SY_CH_LDISPATCH, SY_TIMEOUT, "latency dispatch 5: rank 1 waited"},
        {SY_FAULT_ROWS, SY_CH_LCOMBINE, SY_TIMEOUT, "latency combine 5: rank 1 waited"},
        {SY_FAULT_FETCH, SY_CH_TCOMBINE, SY_TIMEOUT, "combine 5: rank 1 waited"},
        {SY_FAULT_WEIGHTS, SY_CH_TCOMBINE, SY_TIMEOUT, "rank 2 to send weights"},
        {SY_FAULT_SELF, SY_CH_TCOMBINE, SY_TIMEOUT, "(itself) to go on"},
        {SY_FAULT_CHECK, SY_CH_TDISPATCH, SY_MISMATCH, "dispatch 5: rank 2 runs it with another"},
        {SY_FAULT_BYTES, SY_CH_ROUTE, SY_PROTOCOL, "rank 2 sent rank 1 a value out of range"},
        {SY_FAULT_LOST, 0, SY_PEER_LOST, "rank 2 died"},
        {SY_FAULT_ABORT, 0, SY_ABORTED, "rank 1 called sy_group_abort()"},
        {SY_FAULT_SHORT, SY_CH_TDISPATCH, SY_INVALID,
         "on rank 2 the route brings 2 rows, and a tensor has 1"},
        {SY_FAULT_BARRIER, SY_CHANNELS, SY_TIMEOUT, "barrier 5: rank 1 waited 4000 ms for rank 2"},
        {SY_FAULT_LEFT, SY_CH_TDISPATCH, SY_PEER_LOST,
         "dispatch 5: rank 1 waited for rank 2, which had left"},
        {SY_FAULT_ROWS, 77, SY_TIMEOUT, "operation 5: "},
        {SY_FAULT_NONE, 0, SY_OK, ""},
    };
    sy_fault f;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sy_fault_record r = record(cases[i].what, 2, 1);
        r.channel = cases[i].channel;
        r.epoch = 5;
        memset(&f, 0xff, sizeof f);
        sy_jury_describe(&r, TIMEOUT_NS, &f);
        CHECK(f.status == cases[i].status && strstr(f.text, cases[i].text), "%s: \"%s\"",
              sy_status_name((sy_status)f.status), f.text);
        CHECK(f.culprit == (cases[i].what == SY_FAULT_ABORT ? -1 : 2) && f.reporter == 1,
              "culprit %d, reporter %d", f.culprit, f.reporter);
    }
    {
        struct sy_fault_record r = record(SY_FAULT_ROWS, UINT32_MAX, 1);
        sy_jury_describe(&r, TIMEOUT_NS, &f);
        CHECK(f.culprit == -1 && strstr(f.text, "for some rank to send rows"), "%d: %s", f.culprit,
              f.text);
        r = record(SY_FAULT_START, 2, 1); /* words show the epoch that they carry */
        r.expected = 6;
        r.seen = 5ull << 32 | 77;
        sy_jury_describe(&r, TIMEOUT_NS, &f);
        CHECK(strstr(f.text, "(expected 6, seen 5)"), "%s", f.text);
    }
}

/* Peers may send anything. */
static void nonsense(void)
{
    struct sy_fault_record r = record(SY_FAULT_ROWS, 2, 0);
    struct world w;
    open_world(&w);
    sy_jury_vote(&w.rank[0].jury, 0, &r);
    sy_jury_vote(&w.rank[0].jury, RANKS, &r);
    sy_jury_vote(&w.rank[0].jury, UINT32_MAX, &r);
    r.what = SY_FAULT_NONE;
    sy_jury_vote(&w.rank[0].jury, 1, &r);
    r.what = SY_FAULT_KINDS;
    sy_jury_vote(&w.rank[0].jury, 1, &r);
    r.what = UINT32_MAX;
    sy_jury_vote(&w.rank[0].jury, 1, &r);
    sy_jury_gone(&w.rank[0].jury, RANKS, SY_GONE_DIED);
    CHECK(sy_jury_get(&w.rank[0].jury, 0, NULL) == SY_OK && !w.sent[0][1], "nonsense is a vote");
    CHECK(sy_jury_is_gone(&w.rank[0].jury, UINT32_MAX) == SY_GONE_NOT, "nobody is gone");
    close_world(&w);
}

static void *no_memory(size_t bytes, size_t align)
{
    (void)align;
    return bytes == RANKS ? NULL : sy_os_real.alloc(bytes, 16);
}

static void poor(void)
{
    struct sy_os os = sy_os_real;
    struct sy_jury v;
    memset(&v, 0, sizeof v);
    os.alloc = no_memory;
    sy_os = &os;
    CHECK(sy_jury_open(&v, 0, RANKS, TIMEOUT_NS) == SY_NO_MEMORY && !v.votes && !v.gone,
          "a jury without memory");
    sy_os = &sy_os_real;
}

int main(void)
{
    static struct sy_os os;
    os = sy_os_real;
    os.now_ns = fake_now;
    clock_ns = 1000;
    sy_os = &os;
    TEST(one_notices);
    TEST(two_notice);
    TEST(three_notice);
    TEST(one_dies);
    TEST(one_leaves);
    TEST(silent_rank);
    TEST(waiting);
    TEST(texts);
    TEST(nonsense);
    TEST(poor);
    return check_end();
}
