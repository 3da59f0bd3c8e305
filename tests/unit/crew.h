/* crew.h - for tests of the public API: ranks as threads of one process, each with its own group.
 *
 * A test fills a struct crew with what its ranks do and calls crew_play(). Ranks complain with
 * WANT(), which the playing thread turns into failures of the test; what a rank's last collective
 * gave, it keeps with crew_keep(), so that all ranks' verdicts can be compared.
 *
 *   1  Ranks      2  Groups      3  What is left behind      4  Rows to play with
 */
#ifndef SY_TESTS_CREW_H
#define SY_TESTS_CREW_H

#include <dirent.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "check.h"
#include "switchyard.h"

#define CREW_MAX 16
#define CREW_UNUSED __attribute__((unused))

/* Sanitizers make everything slower, deadlines do not change: so tests multiply theirs. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CREW_SLOW 4
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define CREW_SLOW 4
#endif
#endif
#ifndef CREW_SLOW
#define CREW_SLOW 1
#endif

/* ---- 1. Ranks -------------------------------------------------------------------------------- */

struct crew;

struct crew_seat {
    struct crew *crew;
    int rank;
    sy_status status; /* crew_keep() */
    char text[512];
    uint64_t at_ns;
    char complaint[600]; /* the first one */
};

struct crew {
    int ranks;
    void (*act)(struct crew_seat *seat);
    int number;          /* for the test */
    const void *detail;  /* for the test */
    uint64_t timeout_ns; /* of groups; 0: 20 s */
    sy_id id;
    pthread_barrier_t meeting; /* of the ranks' threads, beside the library */
    struct crew_seat seats[CREW_MAX];
};

static inline uint64_t crew_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void crew_sleep_ms(unsigned ms)
{
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

static inline void crew_complain(struct crew_seat *seat, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static inline void crew_complain(struct crew_seat *seat, int line, const char *format, ...)
{
    char text[512];
    va_list ap;
    if (seat->complaint[0])
        return;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    snprintf(seat->complaint, sizeof seat->complaint, "rank %d, line %d: %s", seat->rank, line,
             text);
}

/* As CHECK(), in a rank's thread. */
#define WANT(seat, cond, ...)                                                                      \
    do {                                                                                           \
        if (!(cond))                                                                               \
            crew_complain(seat, __LINE__, __VA_ARGS__);                                            \
    } while (0)

/* A call that must succeed. */
#define WANT_OK(seat, call)                                                                        \
    do {                                                                                           \
        sy_status want_status_ = (call);                                                           \
        WANT(seat, want_status_ == SY_OK, "%s: %s: %s", #call, sy_status_name(want_status_),       \
             sy_last_error());                                                                     \
    } while (0)

/* A call that must fail with this status and a text with that in it. */
#define WANT_FAIL(seat, call, status_, part)                                                       \
    do {                                                                                           \
        sy_status want_status_ = (call);                                                           \
        WANT(seat, want_status_ == (status_) && strstr(sy_last_error(), part),                     \
             "%s gave %s, \"%s\", and not %s, \"%s\"", #call, sy_status_name(want_status_),        \
             want_status_ == SY_OK ? "" : sy_last_error(), sy_status_name(status_), part);         \
    } while (0)

CREW_UNUSED static void crew_keep(struct crew_seat *seat, sy_status status)
{
    seat->at_ns = crew_now_ns();
    seat->status = status;
    snprintf(seat->text, sizeof seat->text, "%s", status == SY_OK ? "" : sy_last_error());
}

static void *crew_thread(void *context)
{
    struct crew_seat *seat = context;
    seat->crew->act(seat);
    return NULL;
}

/* Runs all ranks to their end. */
CREW_UNUSED static void crew_play(struct crew *crew)
{
    pthread_t threads[CREW_MAX];
    memset(crew->seats, 0, sizeof crew->seats);
    CHECK(sy_id_create(&crew->id) == SY_OK, "no id: %s", sy_last_error());
    pthread_barrier_init(&crew->meeting, NULL, (unsigned)crew->ranks);
    for (int r = 0; r < crew->ranks; r++) {
        crew->seats[r].crew = crew;
        crew->seats[r].rank = r;
        if (pthread_create(threads + r, NULL, crew_thread, crew->seats + r))
            abort();
    }
    for (int r = 0; r < crew->ranks; r++)
        pthread_join(threads[r], NULL);
    for (int r = 0; r < crew->ranks; r++)
        CHECK(!crew->seats[r].complaint[0], "%s", crew->seats[r].complaint);
    pthread_barrier_destroy(&crew->meeting);
    sy_id_discard(&crew->id); /* if it came to no group */
}

/* Whether all ranks but `except` (-1: none) kept this status and the same text, with that in it. */
CREW_UNUSED static int crew_agrees(const struct crew *crew, int except, sy_status status,
                                   const char *part)
{
    int first = except == 0 ? 1 : 0, good = 1;
    for (int r = 0; r < crew->ranks; r++) {
        const struct crew_seat *s = crew->seats + r;
        if (r == except || (s->status == status && strstr(s->text, part) &&
                            !strcmp(s->text, crew->seats[first].text)))
            continue;
        printf("  rank %d: %s, \"%s\"\n", r, sy_status_name(s->status), s->text);
        good = 0;
    }
    return good;
}

/* ---- 2. Groups ------------------------------------------------------------------------------- */

static int crew_alone_gather(void *context, const void *mine, void *all, size_t bytes)
{
    (void)context;
    memcpy(all, mine, bytes);
    return 0;
}

static int crew_alone_barrier(void *context)
{
    (void)context;
    return 0;
}

/* A small group; with one rank it needs nobody. Two experts on each rank. */
CREW_UNUSED static void crew_config(sy_group_config *c, int ranks, int rank)
{
    memset(c, 0, sizeof *c);
    c->size = sizeof *c;
    c->boot = ranks == 1 ? SY_BOOT_USER : SY_BOOT_ID;
    c->allgather = crew_alone_gather;
    c->barrier = crew_alone_barrier;
    c->rank = rank;
    c->ranks = ranks;
    c->engine = SY_ENGINE_CPU;
    c->experts = 2 * ranks;
    c->topk_max = 4;
    c->tokens_max = 16;
    c->latency_tokens_max = 8;
    c->row_bytes_max = 256;
    c->recv_rows_max = 64;
    c->user_bytes = 65536;
    c->timeout_ns = 20000000000ull;
}

CREW_UNUSED static sy_status crew_open(struct crew_seat *seat, sy_group_config *c, sy_group **group)
{
    crew_config(c, seat->crew->ranks, seat->rank);
    c->id = seat->crew->id;
    if (seat->crew->timeout_ns)
        c->timeout_ns = seat->crew->timeout_ns;
    return sy_group_create(c, group);
}

/* One group of one rank, for tests of what is local. */
CREW_UNUSED static sy_group *crew_alone(void)
{
    sy_group_config c;
    sy_group *group = NULL;
    crew_config(&c, 1, 0);
    CHECK(sy_group_create(&c, &group) == SY_OK, "a group of one: %s", sy_last_error());
    return group;
}

/* A call that must fail, in the test's own thread. */
#define FAILS(call, status_, part)                                                                 \
    do {                                                                                           \
        sy_status fails_status_ = (call);                                                          \
        CHECK(fails_status_ == (status_) && strstr(sy_last_error(), part),                         \
              "%s gave %s, \"%s\", and not %s, \"%s\"", #call, sy_status_name(fails_status_),      \
              fails_status_ == SY_OK ? "" : sy_last_error(), sy_status_name(status_), part);       \
    } while (0)

#define WORKS(call)                                                                                \
    do {                                                                                           \
        sy_status works_status_ = (call);                                                          \
        CHECK(works_status_ == SY_OK, "%s: %s: %s", #call, sy_status_name(works_status_),          \
              sy_last_error());                                                                    \
    } while (0)

/* ---- 3. What is left behind ------------------------------------------------------------------ */

CREW_UNUSED static int crew_count(const char *path)
{
    int count = 0;
    DIR *dir = opendir(path);
    while (dir && readdir(dir))
        count++;
    if (dir)
        closedir(dir);
    return count;
}

/* Descriptors and threads of this process. Threads that serve a bootstrap end a moment after their
 * group, so it may take two looks. */
struct crew_left {
    int fds, threads;
};

CREW_UNUSED static struct crew_left crew_left(void)
{
    struct crew_left left = {crew_count("/proc/self/fd"), crew_count("/proc/self/task")};
    return left;
}

/* The thread sanitizer has a thread of its own, from the first one on. */
#if defined(__SANITIZE_THREAD__)
#define CREW_TOOL_THREADS 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CREW_TOOL_THREADS 1
#endif
#endif
#ifndef CREW_TOOL_THREADS
#define CREW_TOOL_THREADS 0
#endif

/* The same before anything is made, with what earlier tests made gone: a thread that has been
 * joined stays in the list for a moment. */
CREW_UNUSED static struct crew_left crew_before(void)
{
    const int main_thread = 2 + 1; /* beside . and .. */
    struct crew_left left = crew_left();
    for (int i = 0; i < 2000 && left.threads > main_thread + CREW_TOOL_THREADS; i++) {
        crew_sleep_ms(1);
        left = crew_left();
    }
    return left;
}

static int crew_is_clean(struct crew_left before, struct crew_left now)
{
    int threads = now.threads - before.threads;
    return now.fds == before.fds && threads >= 0 && threads <= CREW_TOOL_THREADS;
}

CREW_UNUSED static int crew_clean(struct crew_left before)
{
    struct crew_left now = crew_left();
    for (int i = 0; i < 2000 && !crew_is_clean(before, now); i++) {
        crew_sleep_ms(1);
        now = crew_left();
    }
    if (crew_is_clean(before, now))
        return 1;
    printf("  %d descriptors and %d threads more than before\n", now.fds - before.fds,
           now.threads - before.threads);
    return 0;
}

/* ---- 4. Rows to play with -------------------------------------------------------------------- */

#define CREW_TOKENS 4
#define CREW_HIDDEN 16 /* F32: rows of 64 bytes */
#define CREW_ROWS 64

/* A batch of four tokens with top-2 routing, and room for what comes of it. */
struct crew_batch {
    int32_t ids[CREW_TOKENS * 2];
    _Alignas(64) float x[CREW_TOKENS * CREW_HIDDEN];
    float weights[CREW_TOKENS * 2];
    _Alignas(64) float rows[CREW_ROWS * CREW_HIDDEN];
    _Alignas(64) float out[CREW_TOKENS * CREW_HIDDEN];
    sy_route_input input;
    sy_dispatch_args dispatch;
    sy_combine_args combine;
};

CREW_UNUSED static sy_route_config crew_route(int32_t mode, int32_t layout)
{
    sy_route_config c;
    memset(&c, 0, sizeof c);
    c.size = sizeof c;
    c.mode = mode;
    c.layout = layout;
    c.topk = 2;
    c.capacity = layout == SY_RANK_MAJOR || layout == SY_EXPERT_SLABS ? 4 : CREW_ROWS;
    return c;
}

/* Tokens of all ranks go to experts in turn. The layout by token: rows come back as they are, so
 * that out[t] is x[t] times the number of ranks that it went to. */
CREW_UNUSED static void crew_fill(struct crew_batch *b, int rank, int experts)
{
    memset(b, 0, sizeof *b);
    for (int i = 0; i < CREW_TOKENS * 2; i++) {
        b->ids[i] = (rank + i) % experts;
        b->weights[i] = 1.0f + (float)i;
    }
    for (int i = 0; i < CREW_TOKENS * CREW_HIDDEN; i++)
        b->x[i] = (float)(rank * 1000 + i);
    b->input.size = sizeof b->input;
    b->input.ids = sy_tensor_2d(b->ids, SY_I32, CREW_TOKENS, 2);
    b->dispatch.size = sizeof b->dispatch;
    b->dispatch.x = sy_tensor_2d(b->x, SY_F32, CREW_TOKENS, CREW_HIDDEN);
    b->dispatch.out_x = sy_tensor_2d(b->rows, SY_F32, CREW_ROWS, CREW_HIDDEN);
    b->combine.size = sizeof b->combine;
    b->combine.x = sy_tensor_2d(b->rows, SY_F32, CREW_ROWS, CREW_HIDDEN);
    b->combine.out = sy_tensor_2d(b->out, SY_F32, CREW_TOKENS, CREW_HIDDEN);
}

#endif
