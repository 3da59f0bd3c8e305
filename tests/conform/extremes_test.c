/* extremes_test.c - the ends of every range, against the reference: top-64 and top-all, 300 experts
 * a rank, rows of 16 bytes and of 16 K elements, all tokens on one expert, ranks without anything.
 * Each world in both modes and all layouts.
 *
 * Generated cases come near most of these now and then (cases_test.c counts how often); here they
 * are certain. */
#define _GNU_SOURCE
#include "batch.h"
#include "crew.h"

enum routing { SPREAD, ONE, NONE, REPEAT, ALL };

struct extreme {
    const char *name;
    int ranks, topk;
    int32_t experts[BATCH_RANKS];
    int64_t tokens[BATCH_RANKS];
    int32_t type, quant;
    int64_t hidden;
    enum routing routing;
};

static const struct extreme extremes[] = {
    {"top-64 of 64", 2, 64, {32, 32}, {5, 3}, SY_F32, 0, 8, ALL},
    {"top-64 of 80", 3, 64, {40, 0, 40}, {3, 4, 2}, SY_BF16, 0, 24, SPREAD},
    {"top-all of 90", 3, 90, {1, 80, 9}, {2, 1, 3}, SY_F16, 0, 8, ALL},
    {"top-all of 1", 1, 1, {1}, {9}, SY_BF16, 0, 8, ALL},
    {"more choices than experts", 2, 64, {1, 2}, {4, 4}, SY_F32, 0, 4, REPEAT},
    {"300 experts a rank", 2, 8, {300, 300}, {7, 5}, SY_BF16, 0, 16, SPREAD},
    {"300 experts here, 1 there", 3, 6, {1, 300, 2}, {6, 0, 7}, SY_F32, 0, 8, SPREAD},
    {"16 ranks",
     16,
     16,
     {2, 1, 1, 3, 1, 1, 1, 2, 0, 1, 1, 1, 4, 1, 1, 1},
     {3, 0, 1, 2, 1, 4, 0, 2, 1, 1, 1, 1, 0, 2, 1, 3},
     SY_BF16,
     0,
     8,
     SPREAD},
    {"rows of 16 bytes, F32", 2, 2, {2, 1}, {7, 4}, SY_F32, 0, 4, SPREAD},
    {"rows of 16 bytes, BF16", 2, 2, {2, 1}, {7, 4}, SY_BF16, 0, 8, SPREAD},
    {"rows of 16 bytes, F8", 2, 2, {2, 1}, {7, 4}, SY_F8E4M3, 0, 16, SPREAD},
    {"rows of 16 bytes, opaque", 2, 2, {2, 1}, {7, 4}, SY_OPAQUE16, 0, 1, SPREAD},
    {"rows of 16 bytes, quantised", 2, 2, {2, 1}, {7, 4}, SY_BF16, SY_QUANT_F8, 16, SPREAD},
    {"16 K elements, F32", 2, 2, {2, 1}, {3, 2}, SY_F32, 0, 16384, SPREAD},
    {"16 K elements, BF16", 2, 2, {2, 1}, {3, 2}, SY_BF16, 0, 16384, SPREAD},
    {"16 K elements, F8", 2, 2, {2, 1}, {3, 2}, SY_F8E4M3, 0, 16384, SPREAD},
    {"16 K elements, quantised", 2, 2, {1, 2}, {3, 2}, SY_BF16, SY_QUANT_F8, 16384, SPREAD},
    {"16 K elements, powers of two",
     2,
     2,
     {1, 2},
     {3, 2},
     SY_BF16,
     SY_QUANT_F8_UE8M0,
     16384,
     SPREAD},
    {"a block of 128 and a rest", 2, 2, {1, 2}, {3, 2}, SY_BF16, SY_QUANT_F8_POW2, 144, SPREAD},
    {"all on one expert", 3, 4, {2, 2, 2}, {9, 9, 9}, SY_BF16, 0, 16, ONE},
    {"nobody goes anywhere", 3, 4, {2, 2, 2}, {9, 9, 9}, SY_BF16, 0, 16, NONE},
    {"one expert again and again", 3, 4, {2, 2, 2}, {9, 0, 9}, SY_BF16, 0, 16, REPEAT},
    {"no tokens at all", 3, 4, {2, 2, 2}, {0, 0, 0}, SY_BF16, 0, 16, SPREAD},
    {"4096 tokens on one rank", 2, 3, {3, 1}, {4096, 0}, SY_F32, 0, 4, SPREAD},
    {"chunks of 64 to the last row", 2, 1, {1, 1}, {128, 64}, SY_F32, 0, 4, SPREAD},
    {"a row more than chunks", 2, 1, {1, 1}, {129, 65}, SY_F32, 0, 4, SPREAD},
};

static int64_t most_tokens(const struct extreme *e)
{
    int64_t most = 1;
    for (int r = 0; r < e->ranks; r++)
        most = e->tokens[r] > most ? e->tokens[r] : most;
    return most;
}

static int32_t most_experts(const struct extreme *e)
{
    int32_t most = 1;
    for (int r = 0; r < e->ranks; r++)
        most = e->experts[r] > most ? e->experts[r] : most;
    return most;
}

static void fill_ids(struct batch *b, const struct extreme *e)
{
    struct sy_prng p = sy_prng_make(3, 3);
    for (int r = 0; r < e->ranks; r++)
        for (int64_t i = 0; i < e->tokens[r] * e->topk; i++) {
            int64_t k = i % e->topk;
            b->ids[r][i] = e->routing == ONE      ? (k ? -1 : b->experts - 1)
                           : e->routing == NONE   ? -1
                           : e->routing == REPEAT ? (i / e->topk + r) % b->experts
                           : e->routing == ALL    ? (k * 7 + i / e->topk) % b->experts
                                                  : sy_prng_range(&p, -1, b->experts - 1);
        }
}

/* A capacity that suffices, but for a row or two in every second round. */
static int64_t capacity_of(const struct extreme *e, int32_t layout, int round)
{
    int64_t all = 0, most = 0, T = most_tokens(e);
    for (int r = 0; r < e->ranks; r++) {
        all += e->tokens[r];
        most += e->tokens[r] * e->topk;
    }
    all = layout == SY_RANK_MAJOR     ? T
          : layout == SY_TOKEN_MAJOR  ? all
          : e->routing == REPEAT      ? most
          : layout == SY_EXPERT_SLABS ? (e->topk > 16 && e->routing == SPREAD ? 2 * all : all)
                                      : most;
    all -= round % 2 ? 2 : 0;
    return all > 0 ? all : 1;
}

static int64_t rows_of(const struct extreme *e, int32_t layout, int64_t capacity)
{
    int64_t slabs = layout == SY_EXPERT_SLABS ? most_experts(e)
                    : layout == SY_RANK_MAJOR ? e->ranks
                                              : 1;
    return slabs * capacity;
}

static int64_t most_rows(const struct extreme *e)
{
    int64_t most = 1;
    for (int32_t layout = SY_TOKEN_MAJOR; layout <= SY_RANK_MAJOR; layout++) {
        int64_t rows = rows_of(e, layout, capacity_of(e, layout, 0));
        most = rows > most ? rows : most;
    }
    return most;
}

/* One layout in one mode, twice: to memory of the caller and to the heap. */
static void run_layout(struct crew_seat *seat, sy_group *group, struct batch *b,
                       const struct batch_limits *m, int32_t mode, int32_t layout)
{
    const struct extreme *e = seat->crew->detail;
    for (int round = 0; round < 2; round++) {
        sy_route_config config = {.size = sizeof config,
                                  .mode = mode,
                                  .layout = layout,
                                  .topk = e->topk,
                                  .alignment = layout == SY_EXPERT_PACKED ? 1 + 2 * round : 0,
                                  .capacity = capacity_of(e, layout, round)};
        struct batch_seat s;
        char text[BATCH_TEXT] = "";
        void *heap = NULL;
        int64_t rows = rows_of(e, layout, config.capacity);
        sy_status status;
        for (int r = 0; r < e->ranks; r++)
            b->rank[r].capacity = config.capacity;
        b->world.layout = layout;
        b->world.alignment = config.alignment;
        b->weighted = round;
        b->carry = 1 - round;
        b->biased = mode == SY_LATENCY;
        batch_link(b);
        batch_sit(&s, group, seat->rank, m);
        if (round) {
            WANT_OK(seat, sy_alloc(group, (size_t)(rows * m->row_bytes), &heap));
            s.place = BATCH_HEAP;
            s.heap_x = heap;
        }
        status = sy_route_create(group, &config, NULL, &s.route);
        if (status == SY_OK)
            status = batch_set(&s, b, NULL);
        if (status == SY_OK)
            status = batch_dispatch(&s, b, SY_WHOLE, NULL);
        if (status == SY_OK)
            status = batch_combine(&s, b, SY_WHOLE, NULL);
        if (status == SY_OK)
            status = sy_stream_sync(group, NULL);
        WANT(seat, status == SY_OK, "mode %d, layout %d: %s: %s", mode, layout,
             sy_status_name(status), sy_last_error());
        if (status == SY_OK) {
            memset(&b->ref, 0, sizeof b->ref);
            sy_ref_route(&b->world, &b->ref);
            WANT(seat, batch_compare(&s, b, text), "mode %d, layout %d, round %d: %s", mode, layout,
                 round, text);
            sy_ref_route_free(&b->ref);
        }
        WANT_OK(seat, sy_route_destroy(s.route));
        WANT_OK(seat, sy_free(group, heap));
        batch_leave(&s);
    }
}

static void act_extreme(struct crew_seat *seat)
{
    const struct extreme *e = seat->crew->detail;
    int64_t row = e->hidden * sy_ref_type_bytes(e->type);
    struct batch_limits m = {e->ranks,       e->topk,      e->experts,
                             most_tokens(e), most_rows(e), e->type == SY_F8E4M3 ? 2 * row : row};
    struct batch *b = malloc(sizeof *b);
    sy_group_config c;
    sy_group *group = NULL;
    m.row_bytes = m.row_bytes > 65536 ? 65536 : m.row_bytes;
    batch_make(b, &m, 11);
    b->world.type = e->type;
    b->world.quant = e->quant;
    b->world.hidden = e->hidden;
    b->sum_type = e->type == SY_F32 || e->type == SY_F16 ? e->type : SY_BF16;
    b->sum_hidden = m.row_bytes / sy_ref_type_bytes(b->sum_type);
    for (int r = 0; r < e->ranks; r++)
        b->rank[r].tokens = e->tokens[r];
    fill_ids(b, e);
    crew_config(&c, e->ranks, seat->rank);
    c.boot = SY_BOOT_ID;
    c.id = seat->crew->id;
    c.experts = b->experts;
    c.experts_per_rank = e->experts;
    c.topk_max = e->topk;
    c.tokens_max = c.latency_tokens_max = m.tokens;
    c.row_bytes_max = m.row_bytes;
    c.recv_rows_max = m.rows;
    c.user_bytes = m.rows * m.row_bytes + 256;
    c.cpu_threads = 1 + seat->rank % 2;
    c.timeout_ns = 60000000000u * CREW_SLOW;
    WANT_OK(seat, sy_group_create(&c, &group));
    for (int32_t mode = SY_THROUGHPUT; group && mode <= SY_LATENCY; mode++)
        for (int32_t layout = SY_TOKEN_MAJOR; layout <= SY_RANK_MAJOR; layout++)
            if (!seat->complaint[0])
                run_layout(seat, group, b, &m, mode, layout);
    if (seat->complaint[0])
        sy_group_abort(group);
    else
        WANT_OK(seat, sy_group_barrier(group));
    WANT_OK(seat, sy_group_destroy(group));
    batch_free(b);
    free(b);
}

static const struct extreme *extreme;

static void one_extreme(void)
{
    struct crew crew = {.ranks = extreme->ranks, .act = act_extreme, .detail = extreme};
    crew_play(&crew);
}

int main(int argc, char **argv)
{
    for (size_t i = 0; i < sizeof extremes / sizeof *extremes; i++) {
        extreme = extremes + i;
        if (argc < 2 || !strcmp(argv[1], extreme->name))
            check_run(extreme->name, one_extreme);
    }
    return check_end();
}
