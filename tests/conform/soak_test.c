/* soak_test.c - 10,000 batches in a row in one group: routes of all kinds alive at once, their
 * operations interleaved over several streams, shapes that change all the time. Every result is
 * compared with the reference, and nothing grows: descriptors, threads, memory.
 *
 *     soak_test [BATCHES [SEED]]
 *
 * Ranks are processes. All of them draw the same plan from the seed, so they agree on the order of
 * calls. A round takes a few routes through set, dispatch and combine, in an order that respects
 * only each route's own.
 *
 *   1  Measures      2  Routes      3  Rounds      4  Ranks
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/os.h"
#include "batch.h"
#include "check.h"

#define RANKS 3
#define ROUTES 6 /* alive at a time */
#define STREAMS 3
#define TOKENS 24
#define TOPK 5
#define ROWS 400
#define ROW_BYTES 512
#define WARM_UP 1000 /* batches */

/* Bytes that a rank may grow by: pages of its heap are taken when first touched. A sanitizer keeps
 * what was freed for a while. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define GROWN_MAX (400 << 20)
#else
#define GROWN_MAX (3 << 20)
#endif

/* What a rank tells its parent. */
struct report {
    int ended, batches;
    int64_t allocations, fds, threads, rss; /* grown since the warm-up */
    char text[BATCH_TEXT];
};

/* What the processes share. */
static struct shared {
    _Atomic int id_ready; /* 1: it is there; -1: there is none */
    sy_id id;             /* rank 0 makes it: whoever forks has no threads */
    struct report reports[RANKS];
} * sh;

static int batches_wanted = 10000;
static uint64_t seed = 1;

/* ---- 1. Measures ----------------------------------------------------------------------------- */

static _Atomic int64_t allocations;

static void *count_alloc(size_t bytes, size_t align)
{
    allocations++;
    return sy_os_real.alloc(bytes, align);
}

static void count_free(void *pointer)
{
    allocations -= pointer != NULL;
    sy_os_real.free(pointer);
}

static int64_t count_entries(const char *path)
{
    int64_t count = 0;
    DIR *dir = opendir(path);
    while (dir && readdir(dir))
        count++;
    if (dir)
        closedir(dir);
    return count;
}

static int64_t resident_bytes(void)
{
    long long total = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file && fscanf(file, "%lld %lld", &total, &resident) != 2)
        resident = 0;
    if (file)
        fclose(file);
    return resident * sysconf(_SC_PAGESIZE);
}

/* Now, less what it was. */
static void measure(struct report *r, const struct report *before)
{
    r->allocations = allocations - before->allocations;
    r->fds = count_entries("/proc/self/fd") - before->fds;
    r->threads = count_entries("/proc/self/task") - before->threads;
    r->rss = resident_bytes() - before->rss;
}

/* ---- 2. Routes ------------------------------------------------------------------------------- */

static const int32_t experts_of[RANKS] = {3, 1, 4};

struct soaker {
    int rank;
    sy_group *group;
    sy_stream *streams[STREAMS]; /* the first is NULL */
    struct batch_limits limits;
    struct sy_prng prng; /* the plan: the same on all ranks */
    sy_route_config config[ROUTES];
    struct batch batch[ROUTES];
    struct batch_seat seat[ROUTES];
};

static int64_t slabs_of(int32_t layout)
{
    return layout == SY_EXPERT_SLABS ? 4 : layout == SY_RANK_MAJOR ? RANKS : 1;
}

/* Another kind of route in place i, now and then in memory of the caller. */
static sy_status change_route(struct soaker *s, int i)
{
    sy_route_config *c = s->config + i;
    struct sy_prng *p = &s->prng;
    sy_status status = sy_route_destroy(s->seat[i].route);
    memset(c, 0, sizeof *c);
    c->size = sizeof *c;
    c->mode = sy_prng_once_in(p, 2) ? SY_THROUGHPUT : SY_LATENCY;
    c->layout = (int32_t)sy_prng_range(p, SY_TOKEN_MAJOR, SY_RANK_MAJOR);
    c->topk = (int32_t)sy_prng_range(p, 1, TOPK);
    c->alignment = c->layout == SY_EXPERT_PACKED ? (int32_t)sy_prng_range(p, 1, 8) : 0;
    c->capacity = sy_prng_once_in(p, 3) ? sy_prng_range(p, 1, 20) : ROWS / slabs_of(c->layout);
    s->seat[i].route = NULL;
    if (status == SY_OK)
        status = sy_route_create(s->group, c, NULL, &s->seat[i].route);
    return status;
}

/* The next batch of route i. */
static void draw_batch(struct soaker *s, int i)
{
    static const int32_t types[] = {SY_BF16, SY_F16, SY_F32};
    struct batch *b = s->batch + i;
    struct sy_prng *p = &s->prng;
    const sy_route_config *c = s->config + i;
    struct sy_ref_world *w = &b->world;
    w->layout = c->layout;
    w->alignment = c->alignment;
    w->topk = c->topk;
    w->type = types[sy_prng_below(p, 3)];
    w->quant = w->type == SY_BF16 ? (int32_t)sy_prng_below(p, 4) : SY_QUANT_NONE;
    w->hidden = sy_prng_range(p, 1, 16) * 32 / sy_ref_type_bytes(w->type);
    b->sum_type = types[sy_prng_below(p, 3)];
    b->sum_hidden = sy_prng_range(p, 1, 32) * 16 / sy_ref_type_bytes(b->sum_type);
    b->weighted = sy_prng_once_in(p, 2);
    b->carry = sy_prng_once_in(p, 3);
    b->biased = sy_prng_once_in(p, 3);
    for (int r = 0; r < RANKS; r++) {
        b->rank[r].tokens = sy_prng_once_in(p, 5) ? 0 : sy_prng_range(p, 0, TOKENS);
        b->rank[r].capacity = c->capacity;
        for (int64_t k = 0; k < b->rank[r].tokens * w->topk; k++)
            b->ids[r][k] = sy_prng_range(p, -1, b->experts - 1);
    }
    batch_link(b);
    s->seat[i].place = (enum batch_place)sy_prng_below(p, 2);
    s->seat[i].sum_place = (enum batch_place)sy_prng_below(p, 2);
    if (c->mode == SY_THROUGHPUT && sy_prng_once_in(p, 3))
        s->seat[i].place = BATCH_VIEW;
}

/* ---- 3. Rounds ------------------------------------------------------------------------------- */

enum step { SET, DISPATCH, COMBINE, STEPS };

static sy_status in_halves(struct soaker *s, int i, enum step step)
{
    sy_stream *one = s->streams[sy_prng_below(&s->prng, STREAMS)];
    sy_stream *two = s->streams[sy_prng_below(&s->prng, STREAMS)];
    int halves = sy_prng_once_in(&s->prng, 4);
    sy_status (*op)(struct batch_seat *, const struct batch *, int32_t, sy_stream *) =
        step == DISPATCH ? batch_dispatch : batch_combine;
    sy_status status = op(s->seat + i, s->batch + i, halves ? SY_SEND : SY_WHOLE, one);
    if (status == SY_OK && halves)
        status = op(s->seat + i, s->batch + i, SY_RECEIVE, two);
    return status;
}

/* Takes routes 0 to count - 1 of a shuffled order through their steps. */
static sy_status put_round(struct soaker *s, const int *order, int count)
{
    int step[ROUTES] = {0}, left = count * STEPS;
    sy_status status = SY_OK;
    while (left && status == SY_OK) {
        int which = (int)sy_prng_below(&s->prng, count), i = order[which];
        if (step[which] == STEPS)
            continue;
        if (step[which] == SET)
            status =
                batch_set(s->seat + i, s->batch + i, s->streams[sy_prng_below(&s->prng, STREAMS)]);
        else
            status = in_halves(s, i, (enum step)step[which]);
        step[which]++;
        left--;
    }
    for (int k = 0; k < STREAMS && status == SY_OK; k++)
        status = sy_stream_sync(s->group, s->streams[k]);
    return status;
}

/* Returns the number of batches, or 0 with a text. */
static int run_round(struct soaker *s, char text[BATCH_TEXT])
{
    int order[ROUTES], count = (int)sy_prng_range(&s->prng, 1, 4);
    sy_status status = SY_OK;
    for (int i = 0; i < ROUTES; i++)
        order[i] = i;
    for (int i = 0; i < count; i++) {
        int k = (int)sy_prng_range(&s->prng, i, ROUTES - 1), swap = order[i];
        order[i] = order[k];
        order[k] = swap;
        if (sy_prng_once_in(&s->prng, 4) && status == SY_OK)
            status = change_route(s, order[i]);
        draw_batch(s, order[i]);
    }
    if (status == SY_OK)
        status = put_round(s, order, count);
    if (status != SY_OK) {
        snprintf(text, BATCH_TEXT, "rank %d: %s: %.200s", s->rank, sy_status_name(status),
                 sy_last_error());
        return 0;
    }
    for (int i = 0; i < count; i++) {
        struct batch *b = s->batch + order[i];
        int good;
        memset(&b->ref, 0, sizeof b->ref);
        sy_ref_route(&b->world, &b->ref);
        good = batch_compare(s->seat + order[i], b, text);
        sy_ref_route_free(&b->ref);
        if (!good)
            return 0;
    }
    return count;
}

/* ---- 4. Ranks -------------------------------------------------------------------------------- */

static sy_status open_soaker(struct soaker *s)
{
    sy_group_config c = {.size = sizeof c,
                         .boot = SY_BOOT_ID,
                         .rank = s->rank,
                         .ranks = RANKS,
                         .engine = SY_ENGINE_CPU,
                         .experts_per_rank = experts_of};
    size_t heap = ROWS * ROW_BYTES;
    sy_status status = SY_OK;
    if (!s->rank)
        sh->id_ready = sy_id_create(&sh->id) == SY_OK ? 1 : -1;
    while (!sh->id_ready)
        sy_os_real.sleep_ns(1000000);
    c.id = sh->id;
    for (int r = 0; r < RANKS; r++)
        c.experts += experts_of[r];
    c.topk_max = TOPK;
    c.tokens_max = c.latency_tokens_max = TOKENS;
    c.row_bytes_max = ROW_BYTES;
    c.recv_rows_max = ROWS;
    c.views = 4; /* as many as dispatches of a round */
    c.user_bytes = (int64_t)(2 * ROUTES * heap);
    c.cpu_threads = 1 + s->rank % 2;
    c.timeout_ns = 60000000000u;
    status = sy_group_create(&c, &s->group);
    for (int k = 1; k < STREAMS && status == SY_OK; k++)
        status = sy_stream_create(s->group, s->streams + k);
    s->limits = (struct batch_limits){RANKS, TOPK, experts_of, TOKENS, ROWS, ROW_BYTES};
    for (int i = 0; i < ROUTES && status == SY_OK; i++) {
        batch_make(s->batch + i, &s->limits, seed * ROUTES + (uint64_t)i);
        batch_sit(s->seat + i, s->group, s->rank, &s->limits);
        status = sy_alloc(s->group, heap, (void **)&s->seat[i].heap_x);
        if (status == SY_OK)
            status = sy_alloc(s->group, heap, (void **)&s->seat[i].heap_rows);
        if (status == SY_OK)
            status = change_route(s, i);
    }
    return status;
}

static sy_status close_soaker(struct soaker *s)
{
    sy_status status = sy_group_barrier(s->group);
    for (int i = 0; i < ROUTES; i++) {
        sy_route_destroy(s->seat[i].route);
        batch_leave(s->seat + i);
        batch_free(s->batch + i);
    }
    for (int k = 1; k < STREAMS; k++)
        sy_stream_destroy(s->streams[k]);
    return status == SY_OK ? sy_group_destroy(s->group) : status;
}

static void soak(int rank)
{
    static struct soaker s;
    static struct sy_os os;
    struct report *report = sh->reports + rank, nothing = {0}, warm = {0};
    sy_status status;
    int done = 1;
    os = sy_os_real;
    os.alloc = count_alloc;
    os.free = count_free;
    sy_os = &os;
    s.rank = rank;
    s.prng = sy_prng_make(seed, 0);
    status = open_soaker(&s);
    while (status == SY_OK && done && report->batches < batches_wanted) {
        int before = report->batches;
        done = run_round(&s, report->text);
        report->batches += done;
        if (before < WARM_UP && report->batches >= WARM_UP)
            measure(&warm, &nothing);
    }
    measure(report, &warm);
    if (status == SY_OK && done)
        status = close_soaker(&s);
    else if (s.group)
        sy_group_abort(s.group);
    if (status != SY_OK)
        snprintf(report->text, sizeof report->text, "rank %d: %.250s", rank, sy_last_error());
    report->ended = 1;
    exit(0); /* and not _exit(): leaks are looked for at exit */
}

static void ten_thousand(void)
{
    pid_t pids[RANKS];
    fflush(stdout);
    for (int r = 0; r < RANKS; r++) {
        pids[r] = fork();
        if (!pids[r])
            soak(r);
    }
    for (int r = 0; r < RANKS; r++) {
        const struct report *p = sh->reports + r;
        int how = 0;
        waitpid(pids[r], &how, 0);
        CHECK(p->ended && !how && !p->text[0], "rank %d, batch %d: %s (exit %d)", r, p->batches,
              p->text, how);
        CHECK(p->batches >= batches_wanted, "rank %d: only %d batches", r, p->batches);
        if (p->batches < batches_wanted)
            continue;
        CHECK(
            !p->fds && !p->threads && !p->allocations,
            "rank %d: %lld descriptors, %lld threads, %lld allocations more than after %d batches",
            r, (long long)p->fds, (long long)p->threads, (long long)p->allocations, WARM_UP);
        CHECK(p->rss < GROWN_MAX, "rank %d: %lld KiB more than after %d batches", r,
              (long long)p->rss / 1024, WARM_UP);
        printf("  rank %d: %d batches, %lld KiB more than after %d\n", r, p->batches,
               (long long)p->rss / 1024, WARM_UP);
    }
}

int main(int argc, char **argv)
{
    sh = mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (sh == MAP_FAILED)
        return 1;
    if (argc > 1)
        batches_wanted = atoi(argv[1]);
    if (argc > 2)
        seed = strtoull(argv[2], NULL, 10);
    TEST(ten_thousand);
    return check_end();
}
