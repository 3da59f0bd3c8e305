/* exhaustive_test.c - every routing of tiny worlds, in every layout and mode and with every
 * capacity from one row to enough, against the reference.
 *
 *     exhaustive_test             what `make check` runs
 *     exhaustive_test all         nothing is left out of the largest worlds: takes minutes
 *     exhaustive_test WORLD N     routing N of a world alone
 *
 * The ranks are groups of one process; a thread puts the work of a routing in all its variants on
 * their streams before it waits for any of it. Ids and capacities vary, rows are of 16 bytes.
 *
 *   1  Worlds      2  Variants      3  A routing      4  All routings
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <time.h>

#include "batch.h"
#include "check.h"

/* ---- 1. Worlds ------------------------------------------------------------------------------- */

struct world {
    const char *name;
    int32_t ranks, topk;
    int32_t experts[4];
    int64_t tokens[4];
    int64_t capacities; /* from 1 to this; the largest suffices for everything */
    int64_t alignments; /* EXPERT_PACKED: 1 to this                            */
    int64_t stride;     /* every so many routings, unless all are asked for    */
};

static const struct world worlds[] = {
    {"one rank", 1, 2, {2}, {3}, 6, 3, 1},
    {"two ranks, top-1", 2, 1, {1, 2}, {2, 2}, 4, 3, 1},
    {"two ranks, top-2", 2, 2, {2, 1}, {2, 1}, 6, 1, 1},
    {"two ranks, one without experts", 2, 2, {0, 2}, {1, 2}, 6, 2, 1},
    {"two ranks, one without tokens", 2, 2, {1, 2}, {0, 2}, 4, 3, 1},
    {"two ranks, top-3", 2, 3, {1, 1}, {1, 1}, 6, 2, 1},
    {"three ranks, top-1", 3, 1, {1, 1, 1}, {2, 1, 1}, 4, 2, 1},
    {"three ranks, top-2", 3, 2, {1, 1, 1}, {1, 1, 1}, 3, 1, 1},
    {"four ranks", 4, 2, {1, 0, 1, 0}, {1, 1, 0, 1}, 3, 1, 1},
    {"two ranks, two tokens each, top-2", 2, 2, {1, 2}, {2, 2}, 8, 1, 29},
    {"three ranks, top-2, more tokens", 3, 2, {1, 1, 1}, {2, 1, 1}, 8, 1, 61},
};

#define WORLDS ((int)(sizeof worlds / sizeof *worlds))
#define ROWS_MAX 32
#define ROW_BYTES 16

/* ---- 2. Variants ----------------------------------------------------------------------------- */

/* A route configuration with its routes on all ranks. */
struct variant {
    int32_t mode, layout, alignment;
    int64_t capacity;
    struct batch_seat seat[4];
};

struct hall {
    const struct world *w;
    struct batch_limits limits;
    struct batch batch;
    sy_group *group[4];
    int variants;
    struct variant *variant;
    sy_id id;
};

struct opener {
    struct hall *h;
    int rank;
    sy_status status;
    char text[300];
};

static void *open_group(void *context)
{
    struct opener *o = context;
    const struct world *w = o->h->w;
    sy_group_config c = {.size = sizeof c, .boot = SY_BOOT_ID, .engine = SY_ENGINE_CPU};
    c.rank = o->rank;
    c.ranks = w->ranks;
    c.id = o->h->id;
    c.experts = o->h->batch.experts;
    c.experts_per_rank = w->experts;
    c.topk_max = w->topk;
    c.tokens_max = c.latency_tokens_max = 3;
    c.row_bytes_max = ROW_BYTES;
    c.recv_rows_max = ROWS_MAX;
    c.timeout_ns = 60000000000u;
    o->status = sy_group_create(&c, o->h->group + o->rank);
    snprintf(o->text, sizeof o->text, "%s", sy_last_error());
    return NULL;
}

static int open_groups(struct hall *h)
{
    struct opener openers[4];
    pthread_t threads[4];
    int good = sy_id_create(&h->id) == SY_OK;
    for (int r = 0; r < h->w->ranks; r++) {
        openers[r] = (struct opener){.h = h, .rank = r};
        if (pthread_create(threads + r, NULL, open_group, openers + r))
            abort();
    }
    for (int r = 0; r < h->w->ranks; r++) {
        pthread_join(threads[r], NULL);
        CHECK(openers[r].status == SY_OK, "rank %d: %s", r, openers[r].text);
        good &= openers[r].status == SY_OK;
    }
    return good;
}

static int add_variant(struct hall *h, int32_t mode, int32_t layout, int32_t alignment,
                       int64_t capacity)
{
    struct variant *v = h->variant + h->variants++;
    sy_route_config c = {.size = sizeof c,
                         .mode = mode,
                         .layout = layout,
                         .topk = h->w->topk,
                         .alignment = alignment,
                         .capacity = capacity};
    v->mode = mode;
    v->layout = layout;
    v->alignment = alignment;
    v->capacity = capacity;
    for (int r = 0; r < h->w->ranks; r++) {
        batch_sit(v->seat + r, h->group[r], r, &h->limits);
        if (sy_route_create(h->group[r], &c, NULL, &v->seat[r].route) != SY_OK) {
            CHECK(0, "rank %d: %s", r, sy_last_error());
            return 0;
        }
    }
    return 1;
}

/* Layouts with a capacity per source or expert need no more than one of those has. */
static int64_t enough(const struct world *w, int32_t layout, int32_t alignment)
{
    int64_t most = 0, sum = 0;
    for (int r = 0; r < w->ranks; r++) {
        most = w->tokens[r] > most ? w->tokens[r] : most;
        sum += w->tokens[r];
    }
    if (layout == SY_RANK_MAJOR)
        return most;
    if (layout == SY_TOKEN_MAJOR)
        return sum;
    return layout == SY_EXPERT_PACKED ? w->capacities + 2 * (alignment - 1) : w->capacities;
}

static int open_hall(struct hall *h, const struct world *w)
{
    int good = 1;
    memset(h, 0, sizeof *h);
    h->w = w;
    h->limits = (struct batch_limits){w->ranks, w->topk, w->experts, 3, ROWS_MAX, ROW_BYTES};
    batch_make(&h->batch, &h->limits, 7);
    h->batch.world.type = h->batch.sum_type = SY_F32;
    h->batch.world.hidden = h->batch.sum_hidden = ROW_BYTES / 4;
    h->variant = calloc(128, sizeof *h->variant);
    for (int r = 0; r < w->ranks; r++)
        h->batch.rank[r].tokens = w->tokens[r];
    if (!open_groups(h))
        return 0;
    for (int32_t mode = SY_THROUGHPUT; mode <= SY_LATENCY; mode++)
        for (int32_t layout = SY_TOKEN_MAJOR; layout <= SY_RANK_MAJOR; layout++)
            for (int32_t a = 1; a <= (layout == SY_EXPERT_PACKED ? w->alignments : 1); a++)
                for (int64_t c = 1; c <= enough(w, layout, a) && good; c++)
                    good = add_variant(h, mode, layout, a, c);
    return good;
}

static void close_hall(struct hall *h)
{
    for (int i = 0; i < h->variants; i++)
        for (int r = 0; r < h->w->ranks; r++) {
            sy_route_destroy(h->variant[i].seat[r].route);
            batch_leave(h->variant[i].seat + r);
        }
    for (int r = 0; r < h->w->ranks; r++)
        CHECK(sy_group_destroy(h->group[r]) == SY_OK, "rank %d: %s", r, sy_last_error());
    batch_free(&h->batch);
    free(h->variant);
}

/* ---- 3. A routing ---------------------------------------------------------------------------- */

static int64_t selections(const struct world *w)
{
    int64_t n = 0;
    for (int r = 0; r < w->ranks; r++)
        n += w->tokens[r] * w->topk;
    return n;
}

static int64_t routings(const struct world *w, int32_t experts)
{
    int64_t count = 1;
    for (int64_t i = 0; i < selections(w); i++)
        count *= experts + 1;
    return count;
}

/* The digits of the routing's number are its ids. */
static void fill_ids(struct hall *h, int64_t number)
{
    for (int r = 0; r < h->w->ranks; r++)
        for (int64_t i = 0; i < h->w->tokens[r] * h->w->topk; i++) {
            h->batch.ids[r][i] = number % (h->batch.experts + 1) - 1;
            number /= h->batch.experts + 1;
        }
}

static void apply(struct hall *h, const struct variant *v)
{
    h->batch.world.layout = v->layout;
    h->batch.world.alignment = v->alignment;
    for (int r = 0; r < h->w->ranks; r++)
        h->batch.rank[r].capacity = v->capacity;
    batch_link(&h->batch);
}

enum step { SET, DISPATCH, COMBINE, STEPS };

/* One step of all variants, on all ranks. */
static sy_status put_step(struct hall *h, enum step step)
{
    sy_status status = SY_OK;
    for (int i = 0; i < h->variants; i++) {
        struct variant *v = h->variant + i;
        apply(h, v);
        for (int r = 0; r < h->w->ranks && status == SY_OK; r++) {
            struct batch_seat *s = v->seat + r;
            status = step == SET        ? batch_set(s, &h->batch, NULL)
                     : step == DISPATCH ? batch_dispatch(s, &h->batch, SY_WHOLE, NULL)
                                        : batch_combine(s, &h->batch, SY_WHOLE, NULL);
        }
    }
    return status;
}

static int compare_all(struct hall *h, char text[BATCH_TEXT])
{
    int good = 1;
    for (int i = 0; i < h->variants && good; i++) {
        struct variant *v = h->variant + i;
        apply(h, v);
        memset(&h->batch.ref, 0, sizeof h->batch.ref);
        sy_ref_route(&h->batch.world, &h->batch.ref);
        for (int r = 0; r < h->w->ranks && good; r++)
            good = batch_compare(v->seat + r, &h->batch, text);
        sy_ref_route_free(&h->batch.ref);
        if (!good)
            printf("  mode %d, layout %d, alignment %d, capacity %lld\n", v->mode, v->layout,
                   v->alignment, (long long)v->capacity);
    }
    return good;
}

/* The combine takes weights, carries weights or has a bias in turn. */
static int run_routing(struct hall *h, int64_t number)
{
    char text[BATCH_TEXT] = "";
    sy_status status = SY_OK;
    int good;
    fill_ids(h, number);
    h->batch.weighted = number % 2 == 0;
    h->batch.carry = number % 3 == 0;
    h->batch.biased = number % 5 == 0;
    for (int step = SET; step < STEPS && status == SY_OK; step++)
        status = put_step(h, (enum step)step);
    for (int r = 0; r < h->w->ranks && status == SY_OK; r++)
        status = sy_stream_sync(h->group[r], NULL);
    if (status != SY_OK)
        snprintf(text, sizeof text, "%s: %s", sy_status_name(status), sy_last_error());
    good = status == SY_OK && compare_all(h, text);
    CHECK(good, "%s, routing %lld: %s", h->w->name, (long long)number, text);
    return good;
}

/* ---- 4. All routings ------------------------------------------------------------------------- */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static const struct world *world;
static int64_t only = -1;
static int all;

static void one_world(void)
{
    struct hall h;
    double begin = now();
    int64_t count = 0;
    if (open_hall(&h, world)) {
        int64_t end = only < 0 ? routings(world, h.batch.experts) : only + 1;
        int64_t stride = all ? 1 : world->stride;
        int bad = 0;
        for (int64_t n = only < 0 ? 0 : only; n < end && bad < 3; n += stride) {
            bad += !run_routing(&h, n);
            count++;
        }
        printf("  %s: %lld routings in %d variants, %.0f of these a second\n", world->name,
               (long long)count, h.variants, (double)(count * h.variants) / (now() - begin));
    }
    close_hall(&h);
}

int main(int argc, char **argv)
{
    all = argc == 2 && !strcmp(argv[1], "all");
    setenv("SY_CPU_IDLE_SPINS", "1", 1); /* the ranks take turns, however busy the machine is */
    for (int i = 0; i < WORLDS; i++) {
        world = worlds + i;
        if (argc > 2 && strcmp(argv[1], world->name))
            continue;
        if (argc > 2)
            only = strtoll(argv[2], NULL, 10);
        check_run(world->name, one_world);
    }
    return check_end();
}
