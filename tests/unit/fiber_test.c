/* fiber_test.c - stacks that a thread switches between (src/rt/fiber.h).
 *
 *   1  Switching      2  What a switch keeps      3  Stacks      4  Other ways with numbers
 */
#define _GNU_SOURCE
#include <fenv.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/os.h"
#include "crew.h"
#include "rt/fiber.h"

/* ---- 1. Switching ---------------------------------------------------------------------------- */

#define FIBERS 16

struct ring {
    struct sy_fiber home, fiber[FIBERS];
    int count, ended;
    long switches, limit;
    int wrong;
};

struct place {
    struct ring *ring;
    int index;
    long turns;
};

static void leave(struct ring *r, int index)
{
    if (++r->ended == r->count)
        sy_fiber_switch(r->fiber + index, &r->home, 1);
    sy_fiber_switch(r->fiber + index, r->fiber + (index + 1) % r->count, 1);
}

/* To itself a fiber does not switch, as in the engine. */
static void pass_on(struct ring *r, int index)
{
    if (r->count > 1)
        sy_fiber_switch(r->fiber + index, r->fiber + (index + 1) % r->count, 0);
}

/* Each passes on to the next, in the order of the ring. */
static void go_round(void *context)
{
    struct place *p = context;
    struct ring *r = p->ring;
    while (r->switches < r->limit) {
        r->wrong += r->switches++ % r->count != p->index;
        p->turns++;
        pass_on(r, p->index);
    }
    leave(r, p->index);
}

static void run_ring(struct ring *r, struct place *places, void (*run)(void *))
{
    for (int i = 0; i < r->count; i++) {
        places[i].ring = r;
        places[i].index = i;
        sy_fiber_start(r->fiber + i, run, places + i);
    }
    r->ended = 0;
    r->switches = 0;
    sy_fiber_adopt(&r->home);
    sy_fiber_switch(&r->home, r->fiber, 0);
}

static void open_ring(struct ring *r, int count)
{
    memset(r, 0, sizeof *r);
    r->count = count;
    for (int i = 0; i < count; i++)
        CHECK(sy_fiber_open(r->fiber + i) == 0, "no fiber");
}

static void close_ring(struct ring *r)
{
    for (int i = 0; i < r->count; i++)
        sy_fiber_close(r->fiber + i);
}

static void many_switches(void)
{
    static const int counts[] = {1, 2, 3, 16};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct place places[FIBERS] = {{0}};
        struct ring r;
        open_ring(&r, counts[i]);
        for (int again = 0; again < 3; again++) { /* fibers are used again, launch after launch */
            r.limit = 300000 / CREW_SLOW;
            run_ring(&r, places, go_round);
            CHECK(r.switches == r.limit && !r.wrong && r.ended == r.count,
                  "%d fibers: %ld switches, %d in wrong order, %d ended", r.count, r.switches,
                  r.wrong, r.ended);
        }
        for (int k = 0; k < r.count; k++)
            CHECK(places[k].turns >= 3 * (r.limit / r.count), "fiber %d had %ld turns", k,
                  places[k].turns);
        close_ring(&r);
    }
}

/* A fiber runs on the thread that resumes it: rings of several threads do not meet. */
static void *one_thread(void *context)
{
    struct ring *r = context;
    struct place places[FIBERS] = {{0}};
    run_ring(r, places, go_round);
    return NULL;
}

static void threads(void)
{
    struct ring rings[4];
    pthread_t thread[4];
    for (int i = 0; i < 4; i++) {
        open_ring(rings + i, 5);
        rings[i].limit = 50000 / CREW_SLOW;
        CHECK(!pthread_create(thread + i, NULL, one_thread, rings + i), "no thread");
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(thread[i], NULL);
        CHECK(rings[i].switches == rings[i].limit && !rings[i].wrong, "ring %d", i);
        close_ring(rings + i);
    }
}

/* ---- 2. What a switch keeps ------------------------------------------------------------------ */

/* So many values live across switches that the compiler needs all registers that calls preserve.
 * The sums are those of a run without switches. */
static uint64_t mix(struct ring *r, int index, uint64_t seed, double *end)
{
    uint64_t a = seed, b = seed * 3, c = seed * 5, d = seed * 7, e = seed * 11, f = seed * 13;
    double u = (double)seed, v = u * 1.5, w = u * 2.5, x = u * 3.5, y = u * 4.5, z = u * 5.5;
    for (int i = 0; i < 2000; i++) {
        a += b ^ (uint64_t)i;
        if (r)
            sy_fiber_switch(r->fiber + index, r->fiber + (index + 1) % r->count, 0);
        b += c << 1 | a >> 63;
        c ^= d + a;
        d += e * 3;
        u += v / 3;
        v = v / 2 + w;
        if (r)
            sy_fiber_switch(r->fiber + index, r->fiber + (index + 1) % r->count, 0);
        e ^= f >> 2;
        f += a + (uint64_t)i * c;
        w = w / 3 + x;
        x = x / 2 + y;
        y = y / 5 + z;
        z = z / 7 + u / 1e9;
    }
    *end = u + v + w + x + y + z;
    return a ^ b ^ c ^ d ^ e ^ f;
}

struct mixer {
    struct place place;
    uint64_t sum;
    double end;
};

static void run_mixer(void *context)
{
    struct mixer *m = context;
    m->sum = mix(m->place.ring, m->place.index, (uint64_t)m->place.index + 17, &m->end);
    leave(m->place.ring, m->place.index);
}

static void registers(void)
{
    struct mixer mixers[7];
    struct ring r;
    memset(mixers, 0, sizeof mixers);
    open_ring(&r, 7);
    for (int i = 0; i < 7; i++) {
        mixers[i].place = (struct place){&r, i, 0};
        sy_fiber_start(r.fiber + i, run_mixer, mixers + i);
    }
    sy_fiber_adopt(&r.home);
    sy_fiber_switch(&r.home, r.fiber, 0);
    for (int i = 0; i < 7; i++) {
        double end;
        uint64_t sum = mix(NULL, 0, (uint64_t)i + 17, &end);
        CHECK(sum == mixers[i].sum && !memcmp(&end, &mixers[i].end, sizeof end),
              "fiber %d: %llx and %g, not %llx and %g", i, (unsigned long long)mixers[i].sum,
              mixers[i].end, (unsigned long long)sum, end);
    }
    close_ring(&r);
}

/* ---- 3. Stacks ------------------------------------------------------------------------------- */

/* Recursion with a kilobyte a level, and a switch at each; reads everything again on its way
 * back. */
static unsigned dive(struct ring *r, int index, int depth)
{
    volatile unsigned char room[1024];
    unsigned sum = 0;
    for (size_t i = 0; i < sizeof room; i++)
        room[i] = (unsigned char)(depth + (int)i + index);
    sy_fiber_switch(r->fiber + index, r->fiber + (index + 1) % r->count, 0);
    if (depth)
        sum = dive(r, index, depth - 1);
    for (size_t i = 0; i < sizeof room; i++)
        sum += room[i] != (unsigned char)(depth + (int)i + index);
    return sum;
}

static void run_diver(void *context)
{
    struct place *p = context;
    p->ring->wrong += (int)dive(p->ring, p->index, 128 / CREW_SLOW);
    leave(p->ring, p->index);
}

static void deep(void)
{
    struct place places[3] = {{0}};
    struct ring r;
    open_ring(&r, 3);
    run_ring(&r, places, run_diver);
    CHECK(!r.wrong, "%d bytes of deep stacks changed", r.wrong);
    close_ring(&r);
}

static void run_too_deep(void *context)
{
    struct place *p = context;
    volatile unsigned char *low = (volatile unsigned char *)p->ring->fiber[0].stack;
    low[0] = 1; /* the last byte that is there */
    low[-1] = 1;
    _exit(0);
}

/* Below a stack there is a page that nobody can touch. */
static void guard(void)
{
    int how = 0;
    pid_t pid;
    fflush(stdout);
    pid = fork();
    if (!pid) {
        struct place places[1] = {{0}};
        struct rlimit no_core = {0, 0};
        struct ring r;
        setrlimit(RLIMIT_CORE, &no_core);
        signal(SIGSEGV, SIG_DFL); /* a sanitizer would make an exit of it */
        open_ring(&r, 1);
        run_ring(&r, places, run_too_deep);
        _exit(1);
    }
    waitpid(pid, &how, 0);
    CHECK(WIFSIGNALED(how) && WTERMSIG(how) == SIGSEGV, "it went on, with %x", how);
}

static void *no_map(void *at, size_t bytes, int prot, int flags, int fd)
{
    (void)at;
    (void)bytes;
    (void)prot;
    (void)flags;
    (void)fd;
    return (void *)-1;
}

static int no_protect(void *at, size_t bytes, int prot)
{
    (void)at;
    (void)bytes;
    (void)prot;
    return -1;
}

static int unmapped;

static int count_unmap(void *at, size_t bytes)
{
    unmapped++;
    return sy_os_real.unmap(at, bytes);
}

static void no_memory(void)
{
    struct sy_os os = sy_os_real;
    struct sy_fiber fiber;
    memset(&fiber, 0, sizeof fiber);
    sy_fiber_close(&fiber); /* never opened */
    os.unmap = count_unmap;
    os.map = no_map;
    sy_os = &os;
    CHECK(sy_fiber_open(&fiber) == -1 && !fiber.stack, "a fiber without memory");
    os.map = sy_os_real.map;
    os.protect = no_protect;
    CHECK(sy_fiber_open(&fiber) == -1 && !fiber.stack && unmapped == 1,
          "a stack without a guard; %d given back", unmapped);
    sy_os = &sy_os_real;
}

/* ---- 4. Kernels under any caller's numbers
 * ---------------------------------------------------- */

/* Threads inherit how their creator rounds and whether it flushes denormals; sums do not. Two
 * ranks' rows of one token are added: the sum of the first elements is a denormal, that of the
 * second ones is rounded. */
static void act_odd_numbers(struct crew_seat *seat)
{
    sy_route_config config = crew_route(SY_THROUGHPUT, SY_TOKEN_MAJOR);
    struct crew_batch *b = malloc(sizeof *b);
    sy_group_config c;
    sy_group *group = NULL;
    sy_route *route = NULL;
    uint32_t out[2];
#if defined(__x86_64__)
    _mm_setcsr(0x1f80 | _MM_ROUND_UP | 0x8040); /* and denormals are zero */
#else
    fesetround(FE_UPWARD);
#endif
    WANT_OK(seat, crew_open(seat, &c, &group));
    crew_fill(b, seat->rank, 4);
    for (int i = 0; i < CREW_TOKENS * 2; i++)
        b->ids[i] = i % 2 * 2; /* an expert of each rank */
    for (int i = 0; i < CREW_ROWS; i++) {
        b->rows[i * CREW_HIDDEN] = 0;
        memcpy(b->rows + i * CREW_HIDDEN, &(uint32_t){0x00000005u + (uint32_t)seat->rank}, 4);
        b->rows[i * CREW_HIDDEN + 1] = seat->rank ? 5.9604644775390625e-8f * 0.75f : 1.0f;
    }
    WANT_OK(seat, sy_route_create(group, &config, NULL, &route));
    WANT_OK(seat, sy_route_set(route, &b->input, NULL));
    WANT_OK(seat, sy_combine(route, &b->combine, NULL));
    WANT_OK(seat, sy_stream_sync(group, NULL));
    memcpy(out, b->out, sizeof out);
    WANT(seat, out[0] == 0x0000000bu, "the denormal sum is %08x", out[0]);
    WANT(seat, out[1] == 0x3f800000u, "1 and less than half of its last bit are %08x", out[1]);
    WANT_OK(seat, sy_route_destroy(route));
    WANT_OK(seat, sy_group_destroy(group));
    free(b);
}

/* What a callback does to its stream's thread stays there for later callbacks, and does not reach
 * the kernels in between. */
static _Atomic int rounds_up;

static void round_up(void *context)
{
    (void)context;
    fesetround(FE_UPWARD);
}

static void look_at_rounding(void *context)
{
    volatile float one = 1, little = 1e-9f;
    (void)context;
    rounds_up = one + little > 1;
}

static void odd_callback(void)
{
    sy_group *group = crew_alone();
    sy_route_config config = crew_route(SY_LATENCY, SY_EXPERT_PACKED);
    struct crew_batch *b = malloc(sizeof *b);
    sy_route *route = NULL;
    crew_fill(b, 0, 2);
    for (int i = 0; i < CREW_ROWS * CREW_HIDDEN; i++) /* two rows of each token */
        b->rows[i] = i / CREW_HIDDEN % 8 < 4 ? 1.0f : 5.9604644775390625e-8f * 0.75f;
    b->dispatch.out_x =
        sy_tensor_2d(calloc(CREW_ROWS * CREW_HIDDEN, 4), SY_F32, CREW_ROWS, CREW_HIDDEN);
    WORKS(sy_route_create(group, &config, NULL, &route));
    WORKS(sy_route_set(route, &b->input, NULL));
    WORKS(sy_dispatch(route, &b->dispatch, NULL));
    WORKS(sy_stream_call(group, NULL, round_up, NULL));
    WORKS(sy_combine(route, &b->combine, NULL));
    WORKS(sy_stream_call(group, NULL, look_at_rounding, NULL));
    WORKS(sy_stream_sync(group, NULL));
    for (int i = 0; i < CREW_TOKENS * CREW_HIDDEN; i++)
        CHECK(b->out[i] == 1.0f, "out[%d] is %.9g", i, (double)b->out[i]);
    CHECK(rounds_up, "a callback's rounding is lost");
    WORKS(sy_route_destroy(route));
    WORKS(sy_group_destroy(group));
    free(b->dispatch.out_x.data);
    free(b);
}

static void odd_numbers(void)
{
    struct crew crew = {.ranks = 2, .act = act_odd_numbers};
    crew_play(&crew);
}

int main(void)
{
    TEST(many_switches);
    TEST(threads);
    TEST(registers);
    TEST(deep);
    TEST(guard);
    TEST(no_memory);
    TEST(odd_numbers);
    TEST(odd_callback);
    return check_end();
}
