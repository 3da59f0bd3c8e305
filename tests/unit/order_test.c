/* order_test.c - calls in a wrong order, and what ranks tell each other while all goes well:
 * halves, bad ids, overflow, ranks that leave.
 *
 *   1  Order on one rank      3  Ids out of range, overflow
 *   2  Halves                 4  Ranks that leave, abort
 */
#define _GNU_SOURCE
#include "crew.h"

/* ---- 1. Order on one rank -------------------------------------------------------------------- */

static void before_its_time(void)
{
    sy_group *group = crew_alone();
    struct crew_batch b;
    int64_t totals[SY_TOTALS];
    crew_fill(&b, 0, 2);
    for (int mode = SY_THROUGHPUT; group && mode <= SY_LATENCY; mode++) {
        sy_route_config config = crew_route(mode, SY_TOKEN_MAJOR);
        sy_route *route = NULL;
        WORKS(sy_route_create(group, &config, NULL, &route));
        FAILS(sy_dispatch(route, &b.dispatch, NULL), SY_STATE, "has not been set");
        FAILS(sy_combine(route, &b.combine, NULL), SY_STATE, "has not been set");
        FAILS(sy_route_totals(route, totals), SY_STATE, "has not been set");
        WORKS(sy_route_set(route, &b.input, NULL));
        if (mode == SY_LATENCY) {
            FAILS(sy_combine(route, &b.combine, NULL), SY_STATE, "is dispatched first");
            FAILS(sy_route_totals(route, totals), SY_STATE, "no counts before its dispatch");
        } else {
            WORKS(sy_route_totals(route, totals));
            WORKS(sy_combine(route, &b.combine, NULL)); /* routing is all that it needs */
        }
        WORKS(sy_dispatch(route, &b.dispatch, NULL));
        WORKS(sy_combine(route, &b.combine, NULL));
        WORKS(sy_route_totals(route, totals));
        WORKS(sy_route_set(route, &b.input, NULL)); /* the next batch */
        if (mode == SY_LATENCY)
            FAILS(sy_combine(route, &b.combine, NULL), SY_STATE, "is dispatched first");
        WORKS(sy_stream_sync(group, NULL));
        WORKS(sy_route_destroy(route));
    }
    WORKS(sy_group_destroy(group));
}

/* ---- 2. Halves ------------------------------------------------------------------------------- */

static sy_status dispatch_half(sy_route *route, struct crew_batch *b, int32_t phase)
{
    b->dispatch.phase = phase;
    return sy_dispatch(route, &b->dispatch, NULL);
}

static sy_status combine_half(sy_route *route, struct crew_batch *b, int32_t phase)
{
    b->combine.phase = phase;
    return sy_combine(route, &b->combine, NULL);
}

struct pair_of_routes {
    sy_route *one, *two;
    struct crew_batch a, b;
};

static void open_pair(sy_group *group, int mode, struct pair_of_routes *p)
{
    sy_route_config config = crew_route(mode, SY_TOKEN_MAJOR);
    WORKS(sy_route_create(group, &config, NULL, &p->one));
    WORKS(sy_route_create(group, &config, NULL, &p->two));
    crew_fill(&p->a, 0, 2);
    crew_fill(&p->b, 0, 2);
    p->b.x[0] = 4711;
    WORKS(sy_route_set(p->one, &p->a.input, NULL));
    WORKS(sy_route_set(p->two, &p->b.input, NULL));
}

static void halves_of_dispatch(sy_group *group, struct pair_of_routes *p)
{
    FAILS(dispatch_half(p->one, &p->a, SY_RECEIVE), SY_STATE, "a receive half without a send half");
    WORKS(dispatch_half(p->one, &p->a, SY_SEND));
    FAILS(dispatch_half(p->one, &p->a, SY_SEND), SY_STATE, "still waits for its receive half");
    FAILS(dispatch_half(p->two, &p->b, SY_SEND), SY_STATE, "still waits for its receive half");
    FAILS(dispatch_half(p->two, &p->b, SY_WHOLE), SY_STATE, "still waits for its receive half");
    FAILS(dispatch_half(p->two, &p->b, SY_RECEIVE), SY_STATE, "that of another route");
    FAILS(sy_route_set(p->one, &p->a.input, NULL), SY_STATE, "waits for its receive half");
    WORKS(sy_route_set(p->two, &p->b.input, NULL));
    p->a.dispatch.out_x.data = p->a.out;
    FAILS(dispatch_half(p->one, &p->a, SY_RECEIVE), SY_INVALID, "other arguments");
    p->a.dispatch.out_x.data = p->a.rows;
    p->a.dispatch.sms = 1;
    FAILS(dispatch_half(p->one, &p->a, SY_RECEIVE), SY_INVALID, "other arguments");
    p->a.dispatch.sms = 0;
    p->a.dispatch.x.shape[0] = 3;
    FAILS(dispatch_half(p->one, &p->a, SY_RECEIVE), SY_INVALID, "");
    p->a.dispatch.x.shape[0] = CREW_TOKENS;
    WORKS(dispatch_half(p->one, &p->a, SY_RECEIVE));
    FAILS(dispatch_half(p->one, &p->a, SY_RECEIVE), SY_STATE, "a receive half without a send half");
    WORKS(dispatch_half(p->two, &p->b, SY_WHOLE));
    WORKS(sy_stream_sync(group, NULL));
    CHECK(!memcmp(p->a.rows, p->a.x, sizeof p->a.x) && !memcmp(p->b.rows, p->b.x, sizeof p->b.x),
          "rows that came through halves");
}

static void halves_of_combine(sy_group *group, struct pair_of_routes *p)
{
    FAILS(combine_half(p->one, &p->a, SY_RECEIVE), SY_STATE, "a receive half without a send half");
    WORKS(combine_half(p->one, &p->a, SY_SEND));
    FAILS(combine_half(p->two, &p->b, SY_SEND), SY_STATE, "still waits for its receive half");
    FAILS(combine_half(p->two, &p->b, SY_RECEIVE), SY_STATE, "that of another route");
    FAILS(sy_route_set(p->one, &p->a.input, NULL), SY_STATE, "waits for its receive half");
    WORKS(dispatch_half(p->two, &p->b, SY_SEND)); /* another kind of operation */
    WORKS(dispatch_half(p->two, &p->b, SY_RECEIVE));
    p->a.combine.out.data = p->a.rows;
    FAILS(combine_half(p->one, &p->a, SY_RECEIVE), SY_INVALID, "other arguments");
    p->a.combine.out.data = p->a.out;
    p->a.combine.sms = 1;
    FAILS(combine_half(p->one, &p->a, SY_RECEIVE), SY_INVALID, "other arguments");
    p->a.combine.sms = 0;
    WORKS(combine_half(p->one, &p->a, SY_RECEIVE));
    WORKS(sy_stream_sync(group, NULL));
    CHECK(!memcmp(p->a.out, p->a.x, sizeof p->a.x), "sums that came through halves");
}

static void halves(void)
{
    sy_group *group = crew_alone();
    struct pair_of_routes *p = malloc(sizeof *p);
    for (int mode = SY_THROUGHPUT; group && mode <= SY_LATENCY; mode++) {
        open_pair(group, mode, p);
        halves_of_dispatch(group, p);
        halves_of_combine(group, p);
        WORKS(sy_route_destroy(p->one));
        WORKS(sy_route_destroy(p->two));
    }
    WORKS(sy_group_destroy(group));
    free(p);
}

/* A route that goes while its operation is half done takes the operation with it: nothing else can
 * end it, in particular not a new route at the same address. */
static void half_of_a_lost_route(void)
{
    sy_group *group = crew_alone();
    struct pair_of_routes *p = malloc(sizeof *p);
    open_pair(group, SY_THROUGHPUT, p);
    WORKS(dispatch_half(p->one, &p->a, SY_SEND));
    WORKS(sy_route_destroy(p->one));
    for (int i = 0; i < 20; i++) {
        sy_route_config config = crew_route(SY_THROUGHPUT, SY_TOKEN_MAJOR);
        WORKS(sy_route_create(group, &config, NULL, &p->one));
        WORKS(sy_route_set(p->one, &p->a.input, NULL));
        FAILS(dispatch_half(p->one, &p->a, SY_RECEIVE), SY_STATE, "that of another route");
        WORKS(sy_route_destroy(p->one));
    }
    WORKS(sy_route_destroy(p->two));
    WORKS(sy_group_destroy(group));
    free(p);
}

/* ---- 3. Ids out of range, overflow ----------------------------------------------------------- */

/* The number of the test: 0 ids as I32, 1 as I64, 2 a map. Rank 2 has the bad ones. */
enum { BAD_I32, BAD_I64, BAD_MAP };

static void route_badly(struct crew_seat *seat, struct crew_batch *b, int64_t *wide, uint8_t *map)
{
    int bad = seat->rank == 2;
    crew_fill(b, seat->rank, 6);
    if (bad)
        b->ids[5] = 6, b->ids[7] = -2;
    for (int i = 0; i < CREW_TOKENS * 2; i++)
        wide[i] = b->ids[i];
    for (int i = 0; i < CREW_TOKENS * 6; i++)
        map[i] = i % 6 < 2 + (bad && i / 6 == 1);
    if (bad)
        wide[5] = ((int64_t)7 << 32) + 1;
    if (seat->crew->number == BAD_I64)
        b->input.ids = sy_tensor_2d(wide, SY_I64, CREW_TOKENS, 2);
    if (seat->crew->number == BAD_MAP) {
        memset(&b->input.ids, 0, sizeof b->input.ids);
        b->input.map = sy_tensor_2d(map, SY_U8, CREW_TOKENS, 6);
    }
}

/* Each rank hears of it once, whichever call asks first; the group goes on. */
static void act_bad_ids(struct crew_seat *seat)
{
    static const char *const texts[] = {
        [BAD_I32] = "rank 2, token 2, k 1: 6 is no expert (0 to 5)",
        [BAD_I64] = "rank 2, token 2, k 1: ",
        [BAD_MAP] = "rank 2, token 1",
    };
    const char *text = texts[seat->crew->number];
    struct crew_batch *b = malloc(sizeof *b);
    int64_t wide[CREW_TOKENS * 2], totals[SY_TOTALS];
    uint8_t map[CREW_TOKENS * 6];
    sy_fault fault = {.size = sizeof fault};
    sy_group_config c;
    sy_group *group = NULL;
    WANT_OK(seat, crew_open(seat, &c, &group));
    for (int mode = SY_THROUGHPUT; group && mode <= SY_LATENCY; mode++) {
        for (int how = 0; how < 2; how++) {
            sy_route_config config = crew_route(mode, SY_EXPERT_PACKED);
            sy_route *route = NULL;
            route_badly(seat, b, wide, map);
            WANT_OK(seat, sy_route_create(group, &config, NULL, &route));
            WANT_OK(seat, sy_route_set(route, &b->input, NULL));
            WANT_OK(seat, sy_dispatch(route, &b->dispatch, NULL));
            WANT_OK(seat, sy_combine(route, &b->combine, NULL));
            WANT_OK(seat, sy_route_totals(route, totals));
            WANT(seat, totals[SY_TOTAL_BAD] == 1, "SY_TOTAL_BAD is not set");
            if (how) {
                WANT_FAIL(seat, sy_group_poll(group, &fault), SY_BAD_ROUTE, text);
                WANT(seat,
                     fault.status == SY_BAD_ROUTE && fault.culprit == 2 &&
                         strstr(fault.text, text) && fault.size == sizeof fault,
                     "fault %d of %d: %s", fault.status, fault.culprit, fault.text);
            } else {
                WANT_FAIL(seat, sy_stream_sync(group, NULL), SY_BAD_ROUTE, text);
            }
            crew_keep(seat, how ? sy_group_poll(group, NULL) : sy_stream_sync(group, NULL));
            WANT(seat, seat->status == SY_OK, "reported twice: %s", seat->text);
            WANT_OK(seat, sy_group_poll(group, &fault));
            WANT(seat, fault.status == SY_OK, "the fault stays");
            WANT_OK(seat, sy_route_destroy(route));
        }
    }
    WANT_OK(seat, sy_group_barrier(group));
    WANT_OK(seat, sy_group_destroy(group));
    free(b);
}

static void bad_ids(void)
{
    for (int number = BAD_I32; number <= BAD_MAP; number++) {
        struct crew crew = {.ranks = 3, .act = act_bad_ids, .number = number};
        crew_play(&crew);
    }
}

/* An id that 32 bits cannot hold is told as such, and a map with too many experts is not told as
 * an id. */
static void act_told_values(struct crew_seat *seat)
{
    struct crew_batch *b = malloc(sizeof *b);
    int64_t wide[CREW_TOKENS * 2];
    uint8_t map[CREW_TOKENS * 6];
    sy_group_config c;
    sy_group *group = NULL;
    sy_route_config config = crew_route(SY_THROUGHPUT, SY_TOKEN_MAJOR);
    sy_route *route = NULL;
    WANT_OK(seat, crew_open(seat, &c, &group));
    route_badly(seat, b, wide, map);
    WANT_OK(seat, sy_route_create(group, &config, NULL, &route));
    WANT_OK(seat, sy_route_set(route, &b->input, NULL));
    WANT_FAIL(seat, sy_stream_sync(group, NULL), SY_BAD_ROUTE,
              seat->crew->number == BAD_MAP ? "more experts than top-k; 2 and"
                                            : "2147483647 or beyond is no expert");
    WANT_OK(seat, sy_route_destroy(route));
    WANT_OK(seat, sy_group_barrier(group));
    WANT_OK(seat, sy_group_destroy(group));
    free(b);
}

static void told_values(void)
{
    for (int number = BAD_I64; number <= BAD_MAP; number++) {
        struct crew crew = {.ranks = 3, .act = act_told_values, .number = number};
        crew_play(&crew);
    }
}

/* Two ranks send each other four tokens of two selections; the capacity is one less than needed. */
static void act_overflow(struct crew_seat *seat)
{
    static const struct {
        int32_t layout;
        int64_t capacity, rows, dropped;
    } cases[] = {{SY_TOKEN_MAJOR, 7, 8, 1},  {SY_EXPERT_PACKED, 15, 16, 1},
                 {SY_EXPERT_SLABS, 7, 8, 2}, {SY_RANK_MAJOR, 3, 4, 2},
                 {SY_TOKEN_MAJOR, 8, 8, 0},  {SY_EXPERT_PACKED, 16, 16, 0},
                 {SY_EXPERT_SLABS, 8, 8, 0}, {SY_RANK_MAJOR, 4, 4, 0}};
    struct crew_batch *b = malloc(sizeof *b);
    sy_group_config c;
    sy_group *group = NULL;
    WANT_OK(seat, crew_open(seat, &c, &group));
    for (size_t i = 0; group && i < 2 * sizeof cases / sizeof *cases; i++) {
        int mode = i % 2 ? SY_LATENCY : SY_THROUGHPUT;
        sy_route_config config = crew_route(mode, cases[i / 2].layout);
        sy_route_info info = {.size = sizeof info};
        int64_t totals[SY_TOTALS], selections = 0;
        sy_route *route = NULL;
        crew_fill(b, 0, 2);
        for (int k = 0; k < CREW_TOKENS * 2; k++) /* to both experts of the other rank */
            b->ids[k] = 2 * (1 - seat->rank) + k % 2;
        if (cases[i / 2].layout != SY_RANK_MAJOR)
            for (int k = 0; k < CREW_TOKENS * 2; k++)
                b->ids[k] = k % 2; /* all to rank 0 */
        config.capacity = cases[i / 2].capacity;
        WANT_OK(seat, sy_route_create(group, &config, NULL, &route));
        WANT_OK(seat, sy_route_set(route, &b->input, NULL));
        WANT_OK(seat, sy_dispatch(route, &b->dispatch, NULL));
        WANT_OK(seat, sy_combine(route, &b->combine, NULL));
        WANT_OK(seat, sy_route_totals(route, totals));
        WANT_OK(seat, sy_route_info_get(route, &info));
        for (int e = 0; e < 2; e++)
            selections += ((const int32_t *)info.expert_counts.data)[e];
        if (cases[i / 2].layout == SY_RANK_MAJOR) {
            WANT(seat,
                 totals[SY_TOTAL_ROWS] == 4 && selections == 8 &&
                     totals[SY_TOTAL_DROPPED] == cases[i / 2].dropped / 2 &&
                     totals[SY_TOTAL_OVERFLOW] == (cases[i / 2].dropped > 0),
                 "case %zu: %lld rows, %lld selections, %lld dropped", i,
                 (long long)totals[SY_TOTAL_ROWS], (long long)selections,
                 (long long)totals[SY_TOTAL_DROPPED]);
        } else if (seat->rank == 0) {
            WANT(seat,
                 totals[SY_TOTAL_ROWS] == cases[i / 2].rows && selections == 16 &&
                     totals[SY_TOTAL_DROPPED] == cases[i / 2].dropped &&
                     totals[SY_TOTAL_OVERFLOW] == (cases[i / 2].dropped > 0),
                 "case %zu: %lld rows, %lld selections, %lld dropped", i,
                 (long long)totals[SY_TOTAL_ROWS], (long long)selections,
                 (long long)totals[SY_TOTAL_DROPPED]);
        } else {
            WANT(seat, totals[SY_TOTAL_ROWS] == 0 && totals[SY_TOTAL_OVERFLOW] == 0,
                 "case %zu: rows where none go", i);
        }
        WANT_OK(seat, sy_group_poll(group, NULL)); /* no error: what was dropped stands in totals */
        WANT_OK(seat, sy_route_destroy(route));
    }
    WANT_OK(seat, sy_group_barrier(group));
    WANT_OK(seat, sy_group_destroy(group));
    free(b);
}

static void overflow(void)
{
    struct crew crew = {.ranks = 2, .act = act_overflow};
    crew_play(&crew);
}

/* ---- 4. Ranks that leave, abort -------------------------------------------------------------- */

enum { LEFT_IDLE, LEFT_BARRIER, LEFT_DISPATCH };

/* Rank 1 leaves. What the others begin then is refused at once; what waits for it ends at the
 * deadline at the latest. */
static void act_leave(struct crew_seat *seat)
{
    sy_route_config config = crew_route(SY_THROUGHPUT, SY_TOKEN_MAJOR);
    struct crew_batch *b = malloc(sizeof *b);
    sy_group_config c;
    sy_group *group = NULL;
    sy_route *route = NULL;
    crew_fill(b, seat->rank, 6);
    WANT_OK(seat, crew_open(seat, &c, &group));
    WANT_OK(seat, sy_route_create(group, &config, NULL, &route));
    WANT_OK(seat, sy_route_set(route, &b->input, NULL));
    WANT_OK(seat, sy_stream_sync(group, NULL));
    pthread_barrier_wait(&seat->crew->meeting);
    if (seat->rank == 1) {
        if (seat->crew->number != LEFT_IDLE)
            crew_sleep_ms(30); /* the others wait in the operation */
        WANT_OK(seat, sy_route_destroy(route));
        WANT_OK(seat, sy_group_destroy(group));
        if (seat->crew->number == LEFT_IDLE)
            pthread_barrier_wait(&seat->crew->meeting);
        pthread_barrier_wait(&seat->crew->meeting);
        free(b);
        return;
    }
    if (seat->crew->number == LEFT_IDLE) {
        pthread_barrier_wait(&seat->crew->meeting);
        for (int i = 0; i < 2000 && sy_group_barrier(group) == SY_OK; i++)
            crew_sleep_ms(1); /* until the goodbye has come */
        WANT_FAIL(seat, sy_route_set(route, &b->input, NULL), SY_PEER_LOST, "rank 1 has left");
        WANT_FAIL(seat, sy_dispatch(route, &b->dispatch, NULL), SY_PEER_LOST, "rank 1 has left");
        WANT_FAIL(seat, sy_combine(route, &b->combine, NULL), SY_PEER_LOST, "rank 1 has left");
        crew_keep(seat, sy_group_barrier(group));
    } else if (seat->crew->number == LEFT_BARRIER) {
        crew_keep(seat, sy_group_barrier(group));
    } else {
        WANT_OK(seat, sy_dispatch(route, &b->dispatch, NULL));
        crew_keep(seat, sy_stream_sync(group, NULL));
    }
    pthread_barrier_wait(&seat->crew->meeting); /* nobody else leaves before all have looked */
    WANT_OK(seat, sy_route_destroy(route));
    WANT_OK(seat, sy_group_destroy(group));
    free(b);
}

static void leavers(void)
{
    for (int number = LEFT_IDLE; number <= LEFT_DISPATCH; number++) {
        struct crew crew = {.ranks = 3,
                            .act = act_leave,
                            .number = number,
                            .timeout_ns = number == LEFT_DISPATCH ? 300000000 * CREW_SLOW : 0};
        struct crew_left before = crew_before();
        uint64_t begin = crew_now_ns();
        crew_play(&crew);
        CHECK(crew_agrees(&crew, 1, SY_PEER_LOST, "rank 1"), "leaving, way %d", number);
        CHECK(crew_now_ns() - begin < 4000000000ull * CREW_SLOW, "way %d took %.1f s", number,
              (double)(crew_now_ns() - begin) / 1e9);
        CHECK(crew_clean(before), "something is left");
    }
}

/* Nobody is hurt by a rank that leaves after its work is done, though others are still at it. */
static void act_early_leaver(struct crew_seat *seat)
{
    struct crew_batch *b = malloc(sizeof *b);
    sy_group_config c;
    sy_group *group = NULL;
    crew_fill(b, seat->rank, 4);
    WANT_OK(seat, crew_open(seat, &c, &group));
    for (int mode = SY_THROUGHPUT; mode <= SY_LATENCY; mode++) {
        sy_route_config config = crew_route(mode, SY_TOKEN_MAJOR);
        sy_route *route = NULL;
        WANT_OK(seat, sy_route_create(group, &config, NULL, &route));
        WANT_OK(seat, sy_route_set(route, &b->input, NULL));
        WANT_OK(seat, sy_dispatch(route, &b->dispatch, NULL));
        WANT_OK(seat, sy_combine(route, &b->combine, NULL));
        if (mode == SY_LATENCY && seat->rank)
            crew_sleep_ms(20);
        WANT_OK(seat, sy_stream_sync(group, NULL));
        WANT_OK(seat, sy_route_destroy(route));
    }
    WANT_OK(seat, sy_group_poll(group, NULL));
    WANT_OK(seat, sy_group_destroy(group));
    free(b);
}

static void early_leaver(void)
{
    for (int i = 0; i < 10; i++) {
        struct crew crew = {.ranks = 2, .act = act_early_leaver};
        crew_play(&crew);
    }
}

/* Rank 2 aborts from a thread of its own, while the others wait for it in a dispatch, in a barrier,
 * or do nothing. */
static void *abort_soon(void *group)
{
    crew_sleep_ms(30);
    sy_group_abort(group);
    return NULL;
}

static void act_abort(struct crew_seat *seat)
{
    sy_route_config config = crew_route(SY_LATENCY, SY_RANK_MAJOR);
    struct crew_batch *b = malloc(sizeof *b);
    uint64_t begin;
    sy_group_config c;
    sy_group *group = NULL;
    sy_route *route = NULL;
    pthread_t thread;
    crew_fill(b, seat->rank, 6);
    WANT_OK(seat, crew_open(seat, &c, &group));
    WANT_OK(seat, sy_route_create(group, &config, NULL, &route));
    WANT_OK(seat, sy_route_set(route, &b->input, NULL));
    pthread_barrier_wait(&seat->crew->meeting);
    begin = crew_now_ns();
    if (seat->rank == 2) {
        WANT(seat, !pthread_create(&thread, NULL, abort_soon, group), "no thread");
        pthread_join(thread, NULL);
        crew_keep(seat, sy_group_poll(group, NULL));
        for (int i = 0; i < 2000 && seat->status == SY_OK; i++) { /* the votes are on their way */
            crew_sleep_ms(1);
            crew_keep(seat, sy_group_poll(group, NULL));
        }
    } else if (seat->crew->number == 0) {
        WANT_OK(seat, sy_dispatch(route, &b->dispatch, NULL));
        WANT_FAIL(seat, sy_stream_sync(group, NULL), SY_ABORTED, "rank 2 called sy_group_abort()");
        crew_keep(seat, sy_group_poll(group, NULL));
    } else {
        WANT_FAIL(seat, sy_group_barrier(group), SY_ABORTED, "rank 2 called sy_group_abort()");
        crew_keep(seat, sy_group_poll(group, NULL));
    }
    WANT(seat, crew_now_ns() - begin < 1000000000ull * CREW_SLOW, "the abort took %.0f ms",
         (double)(crew_now_ns() - begin) / 1e6);
    WANT_FAIL(seat, sy_dispatch(route, &b->dispatch, NULL), SY_ABORTED, "rank 2");
    WANT_OK(seat, sy_route_destroy(route));
    WANT_OK(seat, sy_group_destroy(group));
    free(b);
}

static void aborts(void)
{
    for (int number = 0; number < 2; number++) {
        struct crew crew = {.ranks = 3, .act = act_abort, .number = number};
        struct crew_left before = crew_before();
        crew_play(&crew);
        CHECK(crew_agrees(&crew, -1, SY_ABORTED, "rank 2 called sy_group_abort()"), "abort %d",
              number);
        CHECK(crew_clean(before), "something is left");
    }
}

/* A thread looks at the group while another one has filled its stream's queue and waits. */
static _Atomic int gate_open, filled;

static void wait_at_gate(void *context)
{
    (void)context;
    while (!gate_open)
        crew_sleep_ms(1);
}

static void *fill_queue(void *context)
{
    sy_group *group = context;
    sy_route_config config = crew_route(SY_THROUGHPUT, SY_TOKEN_MAJOR);
    struct crew_batch *b = malloc(sizeof *b);
    sy_route *route = NULL;
    crew_fill(b, 0, 2);
    if (sy_route_create(group, &config, NULL, &route) != SY_OK)
        abort();
    for (int i = 0; i < 600; i++, filled++)
        if (sy_route_set(route, &b->input, NULL) != SY_OK)
            abort();
    sy_stream_sync(group, NULL);
    sy_route_destroy(route);
    free(b);
    return NULL;
}

static void poll_beside_a_full_queue(void)
{
    sy_group *group = crew_alone();
    int before = -1, waits = 0;
    uint64_t begin;
    pthread_t thread;
    gate_open = filled = 0;
    WORKS(sy_stream_call(group, NULL, wait_at_gate, NULL));
    CHECK(!pthread_create(&thread, NULL, fill_queue, group), "no thread");
    while (waits < 50) { /* until it has not moved for 50 ms */
        waits = filled == before ? waits + 1 : 0;
        before = filled;
        crew_sleep_ms(1);
    }
    CHECK(before > 10 && before < 600, "the queue took %d", before);
    begin = crew_now_ns();
    WORKS(sy_group_poll(group, NULL));
    WORKS(sy_group_barrier(group));
    CHECK(crew_now_ns() - begin < 100000000ull * CREW_SLOW, "poll and barrier took %.0f ms",
          (double)(crew_now_ns() - begin) / 1e6);
    gate_open = 1;
    pthread_join(thread, NULL);
    WORKS(sy_group_destroy(group));
}

int main(void)
{
    TEST(before_its_time);
    TEST(halves);
    TEST(half_of_a_lost_route);
    TEST(bad_ids);
    TEST(told_values);
    TEST(overflow);
    TEST(leavers);
    TEST(early_leaver);
    TEST(aborts);
    TEST(poll_beside_a_full_queue);
    return check_end();
}
