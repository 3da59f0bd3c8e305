/* mismatch_test.c - ranks that disagree: every rank gets the same SY_MISMATCH (or, where one waits
 * for a call that another never makes, the same SY_TIMEOUT) with a text that names ranks and cause.
 *
 *   1  Configurations      2  Routes and operations      3  The order of calls
 */
#define _GNU_SOURCE
#include "crew.h"

/* ---- 1. Configurations ----------------------------------------------------------------------- */

/* Rank 2 of 3 has another value in one field. */
struct odd_field {
    const char *name;
    size_t offset, bytes;
    int64_t value, usual; /* usual: for all others; -1: as crew_config() has it */
    int status;
    const char *text;
};

#define ODD(field, value, usual, text)                                                             \
    {                                                                                              \
#field, offsetof(sy_group_config, field), sizeof(((sy_group_config *)0)->field), value,    \
            usual, SY_MISMATCH, text                                                               \
    }
#define INVALID(field, value, text)                                                                \
    {                                                                                              \
#field, offsetof(sy_group_config, field), sizeof(((sy_group_config *)0)->field), value,    \
            -1, SY_INVALID, text                                                                   \
    }

static const struct odd_field odd_fields[] = {
    ODD(modes, SY_LATENCY, -1, "modes differs: rank 0 has 3, rank 2 has 2"),
    ODD(experts, 7, -1, "experts differs: rank 0 has 6, rank 2 has 7"),
    ODD(topk_max, 5, -1, "topk_max differs: rank 0 has 4, rank 2 has 5"),
    ODD(tokens_max, 17, -1, "tokens_max differs: rank 0 has 16, rank 2 has 17"),
    ODD(latency_tokens_max, 9, -1, "latency_tokens_max differs: rank 0 has 8, rank 2 has 9"),
    ODD(latency_tokens_max, 0, -1, "latency_tokens_max differs: rank 0 has 8, rank 2 has 16"),
    ODD(row_bytes_max, 512, -1, "row_bytes_max differs: rank 0 has 256, rank 2 has 512"),
    ODD(scale_words_max, 3, -1, "scale_words_max differs: rank 0 has 2, rank 2 has 3"),
    ODD(recv_rows_max, 63, -1, "recv_rows_max differs: rank 0 has 64, rank 2 has 63"),
    ODD(views, 2, -1, "views differs: rank 0 has 1, rank 2 has 2"),
    ODD(latency_views, 3, -1, "latency_views differs: rank 0 has 2, rank 2 has 3"),
    ODD(user_bytes, 0, -1, "user_bytes differs: rank 0 has 65536, rank 2 has 0"),
    ODD(sms, 8, -1, "sms differs: rank 0 has 0, rank 2 has 8"),
    ODD(timeout_ns, 19000000000, -1,
        "timeout_ns differs: rank 0 has 20000000000, rank 2 has 19000000000"),
    ODD(ranks, 4, -1, "ranks"),
    /* What one rank alone can see to be wrong, the others hear from it. */
    INVALID(topk_max, 0, "rank 2: topk_max 0"),
    INVALID(tokens_max, -4, "rank 2: tokens_max -4"),
    INVALID(row_bytes_max, 40, "rank 2: row_bytes_max 40"),
    INVALID(cpu_threads, 99, "rank 2: cpu_threads 99"),
    INVALID(log_level, 9, "rank 2: log_level 9"),
    INVALID(engine, 17, "rank 2: engine 17"),
    /* What need not be equal, and what is the same said in another way. */
    {"cpu_threads", offsetof(sy_group_config, cpu_threads), 4, 3, -1, SY_OK, ""},
    {"log_level", offsetof(sy_group_config, log_level), 4, SY_LOG_INFO, -1, SY_OK, ""},
    {"views", offsetof(sy_group_config, views), 4, 1, 0, SY_OK, ""},
    {"latency_views", offsetof(sy_group_config, latency_views), 4, 2, 0, SY_OK, ""},
    {"modes", offsetof(sy_group_config, modes), 4, 3, 0, SY_OK, ""},
    {"scale_words_max", offsetof(sy_group_config, scale_words_max), 8, 2, 0, SY_OK, ""},
    {"recv_rows_max", offsetof(sy_group_config, recv_rows_max), 8, 48, 0, SY_OK, ""},
    {"latency_tokens_max", offsetof(sy_group_config, latency_tokens_max), 8, 16, 0, SY_OK, ""},
};

static void put_field(sy_group_config *c, const struct odd_field *f, int64_t value)
{
    int32_t narrow = (int32_t)value;
    memcpy((char *)c + f->offset, f->bytes == 4 ? (const void *)&narrow : (const void *)&value,
           f->bytes);
}

static void act_odd_field(struct crew_seat *seat)
{
    const struct odd_field *f = seat->crew->detail;
    sy_group_config c;
    sy_group *group = NULL;
    crew_config(&c, 3, seat->rank);
    c.id = seat->crew->id;
    if (f->offset == offsetof(sy_group_config, ranks)) /* the root waits so long for rank 3 */
        c.timeout_ns = 500000000;
    if (f->usual >= 0)
        put_field(&c, f, f->usual);
    if (seat->rank == 2)
        put_field(&c, f, f->value);
    crew_keep(seat, sy_group_create(&c, &group));
    WANT_OK(seat, sy_group_destroy(group));
}

static void configurations(void)
{
    struct crew_left before = crew_before();
    for (size_t i = 0; i < sizeof odd_fields / sizeof *odd_fields; i++) {
        const struct odd_field *f = odd_fields + i;
        struct crew crew = {.ranks = 3, .act = act_odd_field, .detail = f};
        uint64_t begin = crew_now_ns();
        crew_play(&crew);
        CHECK(crew_agrees(&crew, -1, (sy_status)f->status, f->text), "%s %lld", f->name,
              (long long)f->value);
        CHECK(crew_now_ns() - begin < 2000000000ull * CREW_SLOW, "%s took %.1f s", f->name,
              (double)(crew_now_ns() - begin) / 1e9);
    }
    CHECK(crew_clean(before), "something is left");
}

/* The same number of experts, in other places. */
static void act_odd_experts(struct crew_seat *seat)
{
    int32_t usual[] = {2, 2, 2}, odd[] = {2, 1, 3};
    sy_group_config c;
    sy_group *group = NULL;
    crew_config(&c, 3, seat->rank);
    c.id = seat->crew->id;
    c.experts_per_rank = usual;
    if (seat->crew->number && seat->rank == 1)
        c.experts_per_rank = odd;
    if (!seat->crew->number && seat->rank == 1)
        c.experts_per_rank = NULL; /* which means the same */
    crew_keep(seat, sy_group_create(&c, &group));
    WANT_OK(seat, sy_group_destroy(group));
}

static void experts(void)
{
    struct crew crew = {.ranks = 3, .act = act_odd_experts, .number = 1};
    crew_play(&crew);
    CHECK(crew_agrees(&crew, -1, SY_MISMATCH,
                      "experts_per_rank[1] differs: rank 0 has 2, rank 1 has 1"),
          "places of experts");
    crew.number = 0;
    crew_play(&crew);
    CHECK(crew_agrees(&crew, -1, SY_OK, ""), "the default as a table");
}

/* Two threads say that they are rank 1; or one that it is rank 5 of 3. */
static void act_odd_rank(struct crew_seat *seat)
{
    sy_group_config c;
    sy_group *group = NULL;
    crew_config(&c, 3, seat->rank);
    c.id = seat->crew->id;
    if (seat->rank == 2)
        c.rank = 1;
    crew_keep(seat, sy_group_create(&c, &group));
    WANT_OK(seat, sy_group_destroy(group));
}

static void ranks(void)
{
    struct crew crew = {.ranks = 3, .act = act_odd_rank, .timeout_ns = 1000000000};
    crew_play(&crew);
    CHECK(crew_agrees(&crew, -1, SY_MISMATCH, "two processes say that they are rank 1 of 3"),
          "two of one number");
}

/* The allocator fails on one rank: all hear of it. */
static void *no_memory(void *context, size_t bytes, size_t align)
{
    (void)context;
    (void)bytes;
    (void)align;
    return NULL;
}

static void free_nothing(void *context, void *pointer, size_t bytes)
{
    (void)context;
    (void)pointer;
    (void)bytes;
}

static void act_poor_rank(struct crew_seat *seat)
{
    static const sy_allocator poor = {NULL, no_memory, free_nothing};
    sy_group_config c;
    sy_group *group = NULL;
    crew_config(&c, 3, seat->rank);
    c.id = seat->crew->id;
    if (seat->rank == 1)
        c.allocator = &poor;
    crew_keep(seat, sy_group_create(&c, &group));
    WANT_OK(seat, sy_group_destroy(group));
}

static void poor_rank(void)
{
    struct crew crew = {.ranks = 3, .act = act_poor_rank};
    crew_play(&crew);
    CHECK(crew_agrees(&crew, -1, SY_NO_MEMORY, "rank 1"), "a rank without memory");
}

/* ---- 2. Routes and operations ---------------------------------------------------------------- */

/* Rank 1 does one thing differently. Where it shows depends on the mode. */
enum difference {
    SAME,
    LAYOUT,
    ALIGNMENT,
    TOPK,
    CAPACITY, /* may differ */
    X_TYPE,
    X_HIDDEN,
    QUANT,
    SCALES,
    SCALE_TYPE,
    WEIGHTS,
    PROBS, /* instead of weights: the same to the others */
    SMS,
    SUM_TYPE,
    SUM_HIDDEN,
    SUM_WEIGHTS,
    SUM_CARRY,
    SUM_SMS,
    SUM_BIAS, /* a rank's own affair */
    DIFFERENCES
};

static const char *const difference_names[DIFFERENCES] = {
    "nothing",    "layout",      "alignment",  "topk",    "capacity", "type of x", "hidden",
    "quant",      "scales",      "scale type", "weights", "probs",    "sms",       "sum type",
    "sum hidden", "sum weights", "sum carry",  "sum sms", "sum bias"};

struct work {
    struct crew_batch b;
    _Alignas(64) float more[4][CREW_ROWS * CREW_HIDDEN];
    sy_route_config config;
};

static void change_route(struct work *w, enum difference what)
{
    if (what == LAYOUT)
        w->config.layout = SY_RANK_MAJOR;
    if (what == LAYOUT)
        w->config.capacity = 8;
    if (what == ALIGNMENT)
        w->config.alignment = 8;
    if (what == CAPACITY)
        w->config.capacity = 63;
    if (what == TOPK) {
        w->config.topk = 1;
        w->b.input.ids.shape[1] = 1;
        w->b.dispatch.weights.shape[1] = 1;
    }
}

static void change_dispatch(struct work *w, enum difference what)
{
    sy_dispatch_args *d = &w->b.dispatch;
    if (what == X_TYPE) {
        d->x.type = d->out_x.type = SY_F16;
        d->x.shape[1] = d->out_x.shape[1] = 2 * CREW_HIDDEN;
        d->x.stride[0] = d->out_x.stride[0] = 2 * CREW_HIDDEN;
    }
    if (what == X_HIDDEN)
        d->x.shape[1] = d->out_x.shape[1] = CREW_HIDDEN / 2;
    if (what == QUANT) {
        d->quant = SY_QUANT_F8;
        d->x = sy_tensor_2d(w->more[0], SY_BF16, CREW_TOKENS, 64);
        d->out_x = sy_tensor_2d(w->b.rows, SY_F8E4M3, CREW_ROWS, 64);
    }
    if (what == SCALES)
        d->scales = sy_tensor_2d(w->more[0], SY_F32, CREW_TOKENS, 1);
    if (what == SCALE_TYPE)
        d->scales = sy_tensor_2d(w->more[0], SY_F32, CREW_TOKENS, 2);
    if (what == WEIGHTS)
        memset(&d->weights, 0, sizeof d->weights);
    if (what == PROBS) {
        memset(&d->weights, 0, sizeof d->weights);
        d->probs = sy_tensor_2d(w->more[0], SY_F32, CREW_TOKENS, 6);
    }
    if (what == SMS)
        d->sms = 1;
}

static void change_combine(struct work *w, enum difference what)
{
    sy_combine_args *c = &w->b.combine;
    if (what == SUM_TYPE) {
        c->x = sy_tensor_2d(w->b.rows, SY_BF16, CREW_ROWS, 2 * CREW_HIDDEN);
        c->out = sy_tensor_2d(w->b.out, SY_BF16, CREW_TOKENS, 2 * CREW_HIDDEN);
    }
    if (what == SUM_HIDDEN)
        c->x.shape[c->x.dims - 1] = c->out.shape[1] = c->out.shape[1] / 2;
    if (what == SUM_WEIGHTS)
        c->weights = sy_tensor_2d(w->b.weights, SY_F32, CREW_TOKENS, 2);
    if (what == SUM_CARRY)
        c->row_weights = sy_tensor_2d(w->more[1], SY_F32, CREW_ROWS, 2);
    if (what == SUM_SMS)
        c->sms = 1;
    if (what == SUM_BIAS)
        c->bias[1] = sy_tensor_2d(w->more[1], SY_F32, CREW_TOKENS, CREW_HIDDEN);
}

/* The crew's number: SLABS or nothing, the mode, the difference. */
#define SLABS (1 << 16)
#define WIDE 64 /* elements of a row there */
static void act_different(struct crew_seat *seat)
{
    int slabs = seat->crew->number & SLABS, mode = seat->crew->number >> 8 & 0xff;
    enum difference what = (enum difference)(seat->crew->number & 0xff);
    struct work *w = calloc(1, sizeof *w);
    sy_group_config c;
    sy_group *group = NULL;
    sy_route *route = NULL;
    sy_status status = crew_open(seat, &c, &group);
    WANT(seat, status == SY_OK, "no group: %s", sy_last_error());
    crew_fill(&w->b, seat->rank, 6);
    w->config = crew_route(mode, slabs ? SY_EXPERT_SLABS : SY_TOKEN_MAJOR);
    if (slabs) { /* two of six experts each; rows wide enough to be cut */
        w->b.dispatch.x = sy_tensor_2d(w->more[2], SY_F32, CREW_TOKENS, WIDE);
        w->b.dispatch.out_x = w->b.combine.x =
            sy_tensor_3d(w->b.rows, SY_F32, 2, w->config.capacity, WIDE);
        w->b.combine.out = sy_tensor_2d(w->more[3], SY_F32, CREW_TOKENS, WIDE);
    }
    w->b.dispatch.weights = sy_tensor_2d(w->b.weights, SY_F32, CREW_TOKENS, 2);
    if (what == SCALE_TYPE)
        w->b.dispatch.scales = sy_tensor_2d(w->more[0], SY_UE8M0X4, CREW_TOKENS, 1);
    if (seat->rank == 1) {
        change_route(w, what);
        change_dispatch(w, what);
        change_combine(w, what);
    }
    if (status == SY_OK)
        status = sy_route_create(group, &w->config, NULL, &route);
    if (status == SY_OK)
        status = sy_route_set(route, &w->b.input, NULL);
    if (status == SY_OK)
        status = sy_dispatch(route, &w->b.dispatch, NULL);
    if (status == SY_OK && what >= SUM_TYPE)
        status = sy_stream_sync(group, NULL);
    if (what >= SUM_TYPE) /* nobody is told of the combine while it waits for the dispatch */
        pthread_barrier_wait(&seat->crew->meeting);
    WANT(seat, status == SY_OK || what < SUM_TYPE, "before the combine: %s", sy_last_error());
    if (status == SY_OK)
        status = sy_combine(route, &w->b.combine, NULL);
    if (status == SY_OK)
        status = sy_stream_sync(group, NULL);
    if (status == SY_OK)
        status = sy_group_barrier(group);
    if (status != SY_OK)
        status = sy_group_poll(group, NULL); /* without the name of a call, so that it compares */
    crew_keep(seat, status);
    WANT_OK(seat, sy_route_destroy(route));
    WANT_OK(seat, sy_group_destroy(group));
    free(w);
}

static void difference(int slabs, int mode, int what)
{
    struct crew crew = {.ranks = 3, .act = act_different, .number = slabs | mode << 8 | what};
    int fine = what == SAME || what == CAPACITY || what == PROBS || what == SUM_BIAS;
    const char *where = what >= SUM_TYPE                           ? "combine 1: rank "
                        : mode == SY_THROUGHPUT && what < CAPACITY ? "routing 1: rank "
                                                                   : "dispatch 1: rank ";
    uint64_t begin = crew_now_ns();
    crew_play(&crew);
    CHECK(crew_agrees(&crew, -1, fine ? SY_OK : SY_MISMATCH, fine ? "" : where) &&
              (fine || strstr(crew.seats[0].text, "rank 1")),
          "mode %d%s: %s: %s", mode, slabs ? ", slabs" : "", difference_names[what],
          crew.seats[0].text);
    CHECK(crew_now_ns() - begin < 4000000000ull * CREW_SLOW, "%s took %.1f s",
          difference_names[what], (double)(crew_now_ns() - begin) / 1e9);
}

/* In latency mode a narrower row of slabs is cut into fewer parts: who waits for more is told. */
static void differences(void)
{
    struct crew_left before = crew_before();
    for (int mode = SY_THROUGHPUT; mode <= SY_LATENCY; mode++) {
        for (int what = SAME; what < DIFFERENCES; what++)
            difference(0, mode, what);
        difference(SLABS, mode, SAME);
        difference(SLABS, mode, SUM_HIDDEN);
    }
    CHECK(crew_clean(before), "something is left");
}

/* ---- 3. The order of calls ------------------------------------------------------------------- */

/* Two routes that look alike: rank 1 takes them in the other order. */
enum order { DISPATCHES, COMBINES, SETS, MODES, FEWER, EXTRA_SET, ORDERS };

static const char *const order_names[ORDERS] = {"dispatches", "combines", "sets",
                                                "modes",      "fewer",    "extra set"};

struct two {
    sy_route *route[2];
    struct crew_batch b[2];
    int32_t mode[2];
};

static sy_status set_both(struct two *t, int swap)
{
    sy_status status = sy_route_set(t->route[swap], &t->b[swap].input, NULL);
    if (status == SY_OK)
        status = sy_route_set(t->route[1 - swap], &t->b[1 - swap].input, NULL);
    return status;
}

static sy_status dispatch_both(struct two *t, int swap, int fewer)
{
    sy_status status = sy_dispatch(t->route[swap], &t->b[swap].dispatch, NULL);
    if (status == SY_OK && !fewer)
        status = sy_dispatch(t->route[1 - swap], &t->b[1 - swap].dispatch, NULL);
    return status;
}

static sy_status combine_both(struct two *t, int swap)
{
    sy_status status = sy_combine(t->route[swap], &t->b[swap].combine, NULL);
    if (status == SY_OK)
        status = sy_combine(t->route[1 - swap], &t->b[1 - swap].combine, NULL);
    return status;
}

static void act_orderless(struct crew_seat *seat)
{
    enum order what = (enum order)(seat->crew->number >> 8);
    int mode = seat->crew->number & 0xff, odd = seat->rank == 1;
    struct two *t = calloc(1, sizeof *t);
    sy_group_config c;
    sy_group *group = NULL;
    sy_status status = crew_open(seat, &c, &group);
    for (int i = 0; i < 2 && status == SY_OK; i++) {
        sy_route_config config = crew_route(mode, SY_TOKEN_MAJOR);
        crew_fill(t->b + i, seat->rank + i, 4);
        if (what == MODES && i)
            config.mode = 3 - mode;
        status = sy_route_create(group, &config, NULL, t->route + i);
    }
    if (status == SY_OK)
        status = set_both(t, odd && what == SETS);
    if (status == SY_OK && odd && what == EXTRA_SET)
        status = sy_route_set(t->route[1], &t->b[1].input, NULL);
    if (status == SY_OK)
        status =
            dispatch_both(t, odd && (what == DISPATCHES || what == MODES), odd && what == FEWER);
    if (status == SY_OK && what == COMBINES)
        status = sy_stream_sync(group, NULL);
    if (status == SY_OK && what != FEWER && what != EXTRA_SET)
        status = combine_both(t, odd && what == COMBINES);
    if (status == SY_OK)
        status = sy_stream_sync(group, NULL);
    if (status == SY_OK) /* who is through waits for those who are not */
        status = sy_group_barrier(group);
    if (status != SY_OK)
        status = sy_group_poll(group, NULL);
    crew_keep(seat, status);
    for (int i = 0; i < 2; i++)
        WANT_OK(seat, sy_route_destroy(t->route[i]));
    WANT_OK(seat, sy_group_destroy(group));
    free(t);
}

/* Where ranks wait for calls that another makes later or never, the deadline tells. */
static int may_time_out(enum order what, int mode)
{
    return what == MODES || what == FEWER || (what == EXTRA_SET && mode == SY_THROUGHPUT);
}

static void orders(void)
{
    struct crew_left before = crew_before();
    for (int mode = SY_THROUGHPUT; mode <= SY_LATENCY; mode++) {
        for (int what = DISPATCHES; what < ORDERS; what++) {
            uint64_t timeout_ns = 500000000ull * CREW_SLOW, begin = crew_now_ns();
            struct crew crew = {.ranks = 2,
                                .act = act_orderless,
                                .number = what << 8 | mode,
                                .timeout_ns = timeout_ns};
            sy_status status = may_time_out((enum order)what, mode) ? SY_TIMEOUT : SY_MISMATCH;
            if (what == MODES && mode == SY_LATENCY)
                continue; /* one case for both */
            crew_play(&crew);
            CHECK(crew_agrees(&crew, -1, status, "rank "), "mode %d: %s", mode, order_names[what]);
            CHECK(crew_now_ns() - begin < timeout_ns + 3000000000ull * CREW_SLOW, "%s took %.1f s",
                  order_names[what], (double)(crew_now_ns() - begin) / 1e9);
        }
    }
    CHECK(crew_clean(before), "something is left");
}

int main(void)
{
    TEST(configurations);
    TEST(experts);
    TEST(ranks);
    TEST(poor_rank);
    TEST(differences);
    TEST(orders);
    return check_end();
}
