/* probe_test.c - bare copies and signals between ranks (api/probe.h): do they do what they claim to
 * measure? */
#define _GNU_SOURCE /* pthread_barrier_t */
#include <stdlib.h>

#include "api/probe.h"
#include "check.h"
#include "crew.h"

#define RANKS 3
#define WARPS 2
#define PIECE 64
#define PIECES 12

struct table {
    struct sy_probe *probe;
    sy_group *group;
    uint8_t *area, *flags;
};

static int sit(struct crew_seat *seat, struct table *t)
{
    sy_group_config config;
    void *area = NULL, *flags = NULL;
    memset(t, 0, sizeof *t);
    WANT_OK(seat, crew_open(seat, &config, &t->group));
    if (!t->group)
        return 0;
    WANT_OK(seat, sy_alloc(t->group, SY_PROBE_FLAGS(seat->crew->ranks), &flags));
    WANT_OK(seat, sy_alloc(t->group, PIECES * PIECE, &area));
    WANT_OK(seat, sy_probe_open(t->group, &t->probe));
    t->area = area;
    t->flags = flags;
    return area && flags && t->probe;
}

static void leave(struct crew_seat *seat, struct table *t)
{
    sy_probe_close(t->probe);
    WANT_OK(seat, sy_group_barrier(t->group));
    WANT_OK(seat, sy_group_destroy(t->group));
}

/* --- copies --------------------------------------------------------------------------------- */

static uint8_t byte_of(int rank, int piece, int i)
{
    return (uint8_t)(rank * 100 + piece * 7 + i);
}

/* To whom a rank's piece goes: warps begin with different peers and go on in turn. */
static int target_of(int rank, int piece)
{
    return (rank + 1 + (piece % WARPS + piece / WARPS) % (RANKS - 1)) % RANKS;
}

static void check_area(struct crew_seat *seat, const uint8_t *area)
{
    for (int piece = 0; piece < PIECES; piece++)
        for (int from = 0; from < RANKS; from++)
            for (int i = 0; target_of(from, piece) == seat->rank && i < PIECE; i++)
                WANT(seat, area[piece * PIECE + i] == byte_of(from, piece, i),
                     "byte %d of piece %d is not rank %d's", i, piece, from);
}

static void store(struct crew_seat *seat)
{
    _Alignas(16) uint8_t source[PIECES * PIECE];
    struct sy_probe_copies copies = {.blocks = 1,
                                     .warps = WARPS,
                                     .pieces = PIECES,
                                     .piece_bytes = PIECE,
                                     .gbps = seat->crew->number,
                                     .area_bytes = PIECES * PIECE,
                                     .source = source,
                                     .source_bytes = sizeof source};
    struct table t;
    for (int i = 0; i < PIECES * PIECE; i++)
        source[i] = byte_of(seat->rank, i / PIECE, i % PIECE);
    if (!sit(seat, &t))
        return;
    copies.area = t.area;
    WANT_OK(seat, sy_group_barrier(t.group));
    WANT_OK(seat, sy_probe_copies(t.probe, &copies, NULL));
    WANT_OK(seat, sy_stream_sync(t.group, NULL));
    WANT_OK(seat, sy_group_barrier(t.group));
    check_area(seat, t.area);
    copies.load = 1;
    WANT_OK(seat, sy_probe_copies(t.probe, &copies, NULL));
    WANT_OK(seat, sy_stream_sync(t.group, NULL));
    WANT_OK(seat, sy_group_barrier(t.group));
    check_area(seat, t.area);
    leave(seat, &t);
}

/* Every piece of every rank is where it belongs, whatever the pace. */
static void stores_arrive(void)
{
    for (int gbps = 0; gbps < 2; gbps++) {
        struct crew crew = {.ranks = RANKS, .act = store, .number = gbps};
        crew_play(&crew);
    }
}

/* --- signals -------------------------------------------------------------------------------- */

static int came;

static void meet(struct crew_seat *seat)
{
    struct table t;
    if (!sit(seat, &t))
        return;
    for (int round = 1; round <= 20; round++) {
        int all = round * RANKS;
        crew_sleep_ms((unsigned)((seat->rank + round) % RANKS));
        __atomic_add_fetch(&came, 1, __ATOMIC_SEQ_CST);
        WANT_OK(seat, sy_probe_meet(t.probe, t.flags, 1 + round % 2, NULL));
        WANT_OK(seat, sy_stream_sync(t.group, NULL));
        WANT(seat, __atomic_load_n(&came, __ATOMIC_SEQ_CST) >= all, "round %d: not all are here",
             round);
    }
    leave(seat, &t);
}

/* Nobody goes on before the last one has come. */
static void all_meet(void)
{
    struct crew crew = {.ranks = RANKS, .act = meet};
    __atomic_store_n(&came, 0, __ATOMIC_SEQ_CST);
    crew_play(&crew);
}

/* Pairs of ranks, one after the other, with different numbers of words; a pair may come again. */
static void take_turns(struct crew_seat *seat)
{
    static const struct {
        int a, b, rounds;
    } plan[] = {{0, 1, 40}, {0, 2, 7}, {1, 2, 3}, {0, 1, 5}, {2, 0, 30}, {1, 2, 1}};
    struct table t;
    if (!sit(seat, &t))
        return;
    for (size_t i = 0; i < sizeof plan / sizeof *plan; i++) {
        int partner = plan[i].a == seat->rank ? plan[i].b : plan[i].a;
        if (plan[i].a != seat->rank && plan[i].b != seat->rank)
            continue;
        WANT_OK(seat, sy_probe_turns(t.probe, t.flags, partner, plan[i].rounds, NULL));
        WANT_OK(seat, sy_stream_sync(t.group, NULL));
    }
    leave(seat, &t);
}

static void pairs_take_turns(void)
{
    struct crew crew = {.ranks = RANKS, .act = take_turns};
    crew_play(&crew);
}

/* A partner who does not come is told of like any other. */
static void alone(struct crew_seat *seat)
{
    struct table t;
    if (!sit(seat, &t))
        return;
    if (seat->rank == 0) {
        WANT_OK(seat, sy_probe_turns(t.probe, t.flags, 1, 1, NULL));
        crew_keep(seat, sy_stream_sync(t.group, NULL));
    }
    pthread_barrier_wait(&seat->crew->meeting);
    sy_probe_close(t.probe);
    sy_group_destroy(t.group);
}

static void waiting_is_bounded(void)
{
    struct crew crew = {.ranks = 2, .act = alone, .timeout_ns = 300000000u * CREW_SLOW};
    crew_play(&crew);
    CHECK(crew.seats[0].status == SY_TIMEOUT && strstr(crew.seats[0].text, "rank 1"), "%s, \"%s\"",
          sy_status_name(crew.seats[0].status), crew.seats[0].text);
}

/* --- mistakes ------------------------------------------------------------------------------- */

static void mistakes_are_told(void)
{
    uint8_t elsewhere[256] = {0};
    sy_group *group = crew_alone();
    struct sy_probe *probe = NULL;
    void *area = NULL;
    struct sy_probe_copies good, c;
    WORKS(sy_alloc(group, 1024, &area));
    WORKS(sy_probe_open(group, &probe));
    good = (struct sy_probe_copies){.blocks = 1,
                                    .warps = 1,
                                    .pieces = 2,
                                    .piece_bytes = 64,
                                    .area = area,
                                    .area_bytes = 1024,
                                    .source = elsewhere,
                                    .source_bytes = 64};
    WORKS(sy_probe_copies(probe, &good, NULL));
    c = good;
    c.area = elsewhere;
    c.area_bytes = sizeof elsewhere;
    FAILS(sy_probe_copies(probe, &c, NULL), SY_INVALID, "not of sy_alloc()");
    c = good;
    c.area_bytes = 1 << 30;
    FAILS(sy_probe_copies(probe, &c, NULL), SY_INVALID, "not of sy_alloc()");
    c = good;
    c.piece_bytes = 24;
    FAILS(sy_probe_copies(probe, &c, NULL), SY_INVALID, "pieces of 24 bytes");
    c = good;
    c.source_bytes = 32;
    FAILS(sy_probe_copies(probe, &c, NULL), SY_INVALID, "pieces of 64 bytes");
    c = good;
    c.warps = 17;
    FAILS(sy_probe_copies(probe, &c, NULL), SY_INVALID, "1 blocks of 17 warps");
    c = good;
    c.blocks = 2;
    FAILS(sy_probe_copies(probe, &c, NULL), SY_INVALID, "2 blocks of 1 warps");
    FAILS(sy_probe_meet(probe, elsewhere, 1, NULL), SY_INVALID, "not of sy_alloc()");
    FAILS(sy_probe_meet(probe, area, -1, NULL), SY_INVALID, "-1 rounds");
    FAILS(sy_probe_turns(probe, area, 0, 1, NULL), SY_INVALID, "rank 0 is no partner");
    FAILS(sy_probe_turns(probe, area, 1, 1, NULL), SY_INVALID, "rank 1 is no partner");
    WORKS(sy_stream_sync(group, NULL));
    sy_probe_close(probe);
    sy_free(group, area);
    WORKS(sy_group_destroy(group));
}

int main(void)
{
    TEST(stores_arrive);
    TEST(all_meet);
    TEST(pairs_take_turns);
    TEST(waiting_is_bounded);
    TEST(mistakes_are_told);
    return check_end();
}
