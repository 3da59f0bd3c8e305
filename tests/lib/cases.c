/* cases.c - whole random cases from one seed: see cases.h. */
#include "cases.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/verify.h"
#include "prng.h"

/* Independent streams, so that a change in how one thing is drawn leaves the others alone. */
enum stream { SHAPE, ROUTING, CAPACITY, OUTPUTS, PAYLOAD, WEIGHTS, COMBINE };

/* What is fixed while a case is drawn. */
struct draft {
    struct sy_case *c;
    struct sy_case_limits limits;
    int64_t experts_most; /* of one rank                                                     */
    int64_t wide_row;     /* bytes of the wider of the rows of dispatch and combine          */
    int64_t rows_most;    /* that a rank's payload budget allows                             */
    int64_t tokens_most;
    int with_probs;
};

struct sy_case_block {
    struct sy_case_block *next;
    uint64_t align; /* makes what follows as aligned as malloc() would                       */
};

/* Zeroed, and alive as long as the case. */
static void *take(struct sy_case *c, int64_t count, int64_t bytes)
{
    struct sy_case_block *block = calloc(1, sizeof *block + (size_t)(count * bytes));
    SY_ASSERT(block);
    block->next = c->blocks;
    c->blocks = block;
    return block + 1;
}

void sy_case_free(struct sy_case *c)
{
    while (c->blocks) {
        struct sy_case_block *next = c->blocks->next;
        free(c->blocks);
        c->blocks = next;
    }
    memset(c, 0, sizeof *c);
}

static int64_t least_of(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t most_of(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t clamp(int64_t value, int64_t least, int64_t most)
{
    return value < least ? least : value > most ? most : value;
}

/* One of a list's values, those at most `most` only; the list's first is always allowed. */
static int64_t pick(struct sy_prng *p, const int16_t *list, int64_t count, int64_t most)
{
    for (int tries = 0; tries < 64; tries++) {
        int64_t value = list[sy_prng_below(p, count)];
        if (value <= most)
            return value;
    }
    return list[0];
}

#define PICK(p, most, ...)                                                                         \
    pick(p, (const int16_t[]){__VA_ARGS__},                                                        \
         (int64_t)(sizeof(int16_t[]){__VA_ARGS__} / sizeof(int16_t)), most)

/* One of the bits of a set below `count`. */
static int32_t pick_bit(struct sy_prng *p, uint32_t set, int32_t count)
{
    int32_t bit;
    SY_ASSERT(set & ((1u << count) - 1));
    do
        bit = (int32_t)sy_prng_below(p, count);
    while (!(set >> bit & 1));
    return bit;
}

/* ---- shape ---- */

static void draw_experts(struct draft *d, struct sy_prng *p)
{
    struct sy_case *c = d->c;
    struct sy_ref_world *w = &c->world;
    int64_t most = sy_prng_once_in(p, 4) ? d->limits.experts_max
                                         : least_of(d->limits.experts_max, 12);
    int64_t equal = sy_prng_once_in(p, 2) ? sy_prng_spread(p, 1, most) : 0;
    /* A slab needs a row of 16 bytes at least, for every expert, with some room to spare. */
    most = clamp(most, 1, d->limits.payload_bytes / 128);
    equal = least_of(equal, most);
    c->experts_per_rank = take(c, w->ranks, sizeof(int32_t));
    for (int32_t r = 0; r < w->ranks; r++) {
        int64_t experts = equal ? equal : sy_prng_spread(p, sy_prng_once_in(p, 3) ? 0 : 1, most);
        if (r == w->ranks - 1 && c->experts == 0)
            experts = most_of(experts, 1);
        w->rank[r].experts = (int32_t)experts;
        c->experts_per_rank[r] = (int32_t)experts;
        c->experts += (int32_t)experts;
        d->experts_most = most_of(d->experts_most, experts);
    }
}

static void draw_type(struct draft *d, struct sy_prng *p)
{
    static const uint32_t payloads =
        1 << SY_BF16 | 1 << SY_F16 | 1 << SY_F32 | 1 << SY_F8E4M3 | 1 << SY_OPAQUE16;
    struct sy_ref_world *w = &d->c->world;
    uint32_t types = d->limits.types ? d->limits.types & payloads : payloads;
    uint32_t quants = d->limits.quants ? d->limits.quants : 0xf;
    w->type = pick_bit(p, types, SY_OPAQUE16 + 1);
    if ((types >> SY_BF16 & 1 && sy_prng_once_in(p, 3)) || !(quants >> SY_QUANT_NONE & 1))
        w->type = SY_BF16; /* the only one that can be quantised */
    w->quant = SY_QUANT_NONE;
    if (w->type == SY_BF16)
        w->quant = pick_bit(p, quants, SY_QUANT_F8_UE8M0 + 1);
    d->c->sum_type = w->type == SY_F16 || w->type == SY_F32 ? w->type : SY_BF16;
}

/* Any multiple of 16 bytes. Quantised rows become half as wide and stay such a multiple. */
static void draw_hidden(struct draft *d, struct sy_prng *p)
{
    struct sy_case *c = d->c;
    struct sy_ref_world *w = &c->world;
    int64_t unit = w->quant ? 32 : 16, widening = w->type == SY_F8E4M3 ? 2 : 1;
    int64_t rows = w->layout == SY_EXPERT_SLABS ? d->experts_most
                   : w->layout == SY_RANK_MAJOR ? w->ranks
                                                : 1;
    int64_t most = least_of(d->limits.payload_bytes / (2 * (rows + 2)), 65536) / (unit * widening);
    int64_t units;
    most = most_of(most, 1);
    if (sy_prng_once_in(p, 2))
        units = PICK(p, most, 1, 2, 3, 7, 8, 9, 16, 17, 24, 32, 33, 56, 64, 128, 448, 896);
    else
        units = sy_prng_spread(p, 1, sy_prng_once_in(p, 4) ? most : least_of(most, 80));
    w->hidden = units * unit / sy_ref_type_bytes(w->type);
    c->sum_hidden = w->type == SY_OPAQUE16 ? w->hidden * 8 : w->hidden;
    d->wide_row = units * unit * widening;
    d->rows_most = most_of(d->limits.payload_bytes / d->wide_row, 1);
    c->row_bytes_max = d->wide_row + (sy_prng_once_in(p, 4) ? 16 * sy_prng_below(p, 9) : 0);
    c->row_bytes_max = least_of(c->row_bytes_max, 65536);
    c->x_pad = sy_prng_once_in(p, 3) ? 16 * sy_prng_range(p, 1, 5) : 0;
}

static void draw_scales(struct draft *d, struct sy_prng *p)
{
    struct sy_case *c = d->c;
    struct sy_ref_world *w = &c->world;
    int64_t blocks = (w->hidden + 127) / 128;
    if (w->quant == SY_QUANT_NONE && sy_prng_once_in(p, w->type == SY_F8E4M3 ? 1 : 3)) {
        c->scale_type = sy_prng_once_in(p, 2) ? SY_F32 : SY_UE8M0X4;
        w->scale_words = c->scale_type == SY_F32 ? blocks : (blocks + 3) / 4;
        if (sy_prng_once_in(p, 3))
            w->scale_words = sy_prng_range(p, 1, 40);
    }
    if (w->quant)
        c->scale_type = w->quant == SY_QUANT_F8_UE8M0 ? SY_UE8M0X4 : SY_F32;
    c->scales_by_column = c->scale_type != SY_NONE && sy_prng_once_in(p, 3);
    c->scale_words_max = sy_ref_out_scale_words(w) + (sy_prng_once_in(p, 4) ? 3 : 0);
    c->scale_words_max = most_of(c->scale_words_max, 1);
}

static void draw_topk(struct draft *d, struct sy_prng *p)
{
    struct sy_case *c = d->c;
    struct sy_ref_world *w = &c->world;
    int64_t experts = c->experts, topk;
    if (sy_prng_once_in(p, 10) && experts <= d->limits.payload_bytes / 64)
        topk = experts;
    else if (sy_prng_once_in(p, 4))
        topk = sy_prng_range(p, 1, 64);
    else
        topk = PICK(p, experts, 1, 1, 2, 2, 3, 4, 6, 8);
    w->topk = (int32_t)least_of(topk, experts);
    c->topk_max = w->topk + (sy_prng_once_in(p, 4) ? (int32_t)sy_prng_below(p, 5) : 0);
    c->topk_max = (int32_t)least_of(c->topk_max, experts);
}

static void draw_alignment(struct draft *d, struct sy_prng *p)
{
    struct sy_ref_world *w = &d->c->world;
    int64_t most = d->rows_most / most_of(2 * d->experts_most, 1);
    if (w->layout != SY_EXPERT_PACKED && sy_prng_once_in(p, 2))
        return;
    if (sy_prng_once_in(p, 16)) /* whatever the room: then much is dropped */
        w->alignment = PICK(p, 32767, 128, 256, 32767);
    else
        w->alignment = (int32_t)PICK(p, most, 0, 1, 2, 3, 4, 5, 8, 16, 17, 64, 128);
}

static void draw_shape(struct draft *d)
{
    struct sy_case *c = d->c;
    struct sy_ref_world *w = &c->world;
    const struct sy_case_limits *limits = &d->limits;
    struct sy_prng prng = sy_prng_make(c->seed, SHAPE), *p = &prng;
    w->ranks = limits->ranks ? limits->ranks
                             : (int32_t)PICK(p, limits->ranks_max, 1, 2, 2, 2, 3, 3, 4, 5, 8, 16);
    w->rank = take(c, w->ranks, sizeof *w->rank);
    c->rank = take(c, w->ranks, sizeof *c->rank);
    c->sum = take(c, w->ranks, sizeof *c->sum);
    c->mode = 1 << pick_bit(p, limits->modes, 2); /* modes are bits themselves */
    w->layout = pick_bit(p, limits->layouts, SY_RANK_MAJOR + 1);
    c->halves = sy_prng_once_in(p, 3);
    draw_experts(d, p);
    draw_type(d, p);
    draw_hidden(d, p);
    draw_scales(d, p);
    draw_topk(d, p);
    draw_alignment(d, p);
}

/* ---- routing ---- */

static void draw_tokens(struct draft *d, struct sy_prng *p)
{
    struct sy_case *c = d->c;
    struct sy_ref_world *w = &c->world;
    int64_t most = d->tokens_most, largest = 0;
    int equal = sy_prng_once_in(p, 5), nobody = sy_prng_once_in(p, 40);
    int64_t idle = sy_prng_once_in(p, 3) ? sy_prng_below(p, w->ranks) : -1;
    for (int32_t r = 0; r < w->ranks; r++) {
        int64_t tokens = sy_prng_range(p, 0, most);
        if (sy_prng_once_in(p, 3))
            tokens = PICK(p, most, 0, 1, 1, 2, 7);
        if (equal)
            tokens = r ? w->rank[0].tokens : sy_prng_range(p, 1, most);
        if (nobody || (r == idle && !equal))
            tokens = 0;
        w->rank[r].tokens = tokens;
        largest = most_of(largest, tokens);
    }
    c->tokens_max = most_of(largest, 1) + (sy_prng_once_in(p, 3) ? sy_prng_below(p, 20) : 0);
    c->latency_tokens_max = c->tokens_max;
    if (c->mode == SY_LATENCY && sy_prng_once_in(p, 2))
        c->tokens_max += sy_prng_below(p, 20);
    if (c->mode == SY_THROUGHPUT && sy_prng_once_in(p, 2))
        c->latency_tokens_max = sy_prng_range(p, 1, c->tokens_max);
}

/* The experts that tokens of rank s may choose, in `pool`. Returns how many. */
static int64_t fill_pool(const struct sy_case *c, int32_t s, int64_t *pool)
{
    int64_t count = 0, expert = 0;
    for (int32_t r = 0; r < c->world.ranks; r++) {
        for (int32_t l = 0; l < c->world.rank[r].experts; l++, expert++) {
            int skip_own = c->routing == SY_CASE_REMOTE, skip_others = c->routing == SY_CASE_LOCAL;
            if (r == s ? !skip_own : !skip_others)
                pool[count++] = expert;
        }
    }
    return count;
}

/* Experts without repeats, as far as there are any. */
static void draw_distinct(struct sy_prng *p, int64_t *pool, int64_t count, int64_t *ids, int32_t k)
{
    for (int64_t i = 0; i < k && i < count; i++) {
        int64_t at = sy_prng_range(p, i, count - 1), id = pool[at];
        pool[at] = pool[i];
        pool[i] = id;
        ids[i] = id;
    }
}

/* Few experts get most: the cube of a uniform number. No repeats. */
static void draw_zipf(struct sy_prng *p, int64_t experts, int64_t hot, int64_t *ids, int32_t k)
{
    for (int32_t i = 0; i < k; i++) {
        for (int tries = 0; tries < 8 && ids[i] < 0; tries++) {
            int64_t u = sy_prng_below(p, 1024);
            int64_t id = ((experts * u * u * u >> 30) + hot) % experts;
            int repeated = 0;
            for (int32_t before = 0; before < i; before++)
                repeated |= ids[before] == id;
            if (!repeated)
                ids[i] = id;
        }
    }
}

static int64_t draw_bad_id(const struct sy_case *c, struct sy_prng *p)
{
    int64_t expert = sy_prng_below(p, c->experts);
    const int64_t narrow[] = {-2, c->experts, c->experts + 1, INT32_MAX, INT32_MIN, -1000 - expert};
    /* Those that cutting to 32 bits would turn into an expert or into -1 are the mean ones. */
    const int64_t wide[] = {((int64_t)1 << 32) + expert, INT64_MIN + expert, 0xffffffff, INT64_MAX,
                            -((int64_t)1 << 40)};
    if (c->input == SY_I64 && sy_prng_once_in(p, 2))
        return wide[sy_prng_below(p, 5)];
    return narrow[sy_prng_below(p, 6)];
}

static void draw_token(const struct sy_case *c, struct sy_prng *p, int64_t *pool, int64_t count,
                       int64_t hot, int64_t *ids)
{
    int32_t topk = c->world.topk;
    for (int32_t k = 0; k < topk; k++)
        ids[k] = -1;
    switch (c->routing) {
    case SY_CASE_NONE:
        return;
    case SY_CASE_ONE:
        ids[sy_prng_below(p, topk)] = hot;
        return;
    case SY_CASE_ZIPF:
        draw_zipf(p, c->experts, hot, ids, topk);
        return;
    default:
        draw_distinct(p, pool, count, ids, topk);
    }
    for (int32_t k = 0; k < topk; k++) {
        if (c->routing == SY_CASE_HOLES && sy_prng_once_in(p, 3))
            ids[k] = -1;
        if (c->routing == SY_CASE_REPEATS && sy_prng_once_in(p, 2))
            ids[k] = sy_prng_once_in(p, 3) ? hot : ids[sy_prng_below(p, topk)];
        if (c->routing == SY_CASE_BAD && sy_prng_once_in(p, 8))
            ids[k] = draw_bad_id(c, p);
    }
}

/* The map of a token that has ids; a bad one has more than K experts. */
static void draw_map(const struct sy_case *c, struct sy_prng *p, const int64_t *ids, uint8_t *map)
{
    int64_t extra = 0, id;
    if (c->routing == SY_CASE_BAD && sy_prng_once_in(p, 4) && c->experts > c->world.topk)
        extra = sy_prng_range(p, c->world.topk + 1, c->experts);
    for (int32_t k = 0; k < c->world.topk; k++)
        if (ids[k] >= 0 && ids[k] < c->experts)
            map[ids[k]] = (uint8_t)sy_prng_range(p, 1, 255);
    for (int64_t e = 0; e < c->experts; e++)
        extra -= map[e] != 0;
    while (extra > 0) {
        id = sy_prng_below(p, c->experts);
        extra -= map[id] == 0;
        map[id] = (uint8_t)sy_prng_range(p, 1, 255);
    }
}

static void draw_ids(struct draft *d, struct sy_prng *p)
{
    struct sy_case *c = d->c;
    struct sy_ref_world *w = &c->world;
    int64_t *pool = take(c, c->experts, sizeof *pool);
    int64_t hot = sy_prng_below(p, c->experts);
    for (int32_t s = 0; s < w->ranks; s++) {
        int64_t tokens = w->rank[s].tokens, count = fill_pool(c, s, pool);
        int64_t *ids = take(c, tokens * w->topk, sizeof *ids);
        uint8_t *map = c->input == SY_U8 ? take(c, tokens * c->experts, 1) : NULL;
        for (int64_t t = 0; t < tokens; t++) {
            draw_token(c, p, pool, count, hot, ids + t * w->topk);
            if (map)
                draw_map(c, p, ids + t * w->topk, map + t * c->experts);
        }
        w->rank[s].ids = map ? NULL : ids;
        w->rank[s].map = map;
    }
}

/* What a rank's capacity is multiplied by. */
static int64_t slabs_of(const struct sy_ref_world *w, int32_t r)
{
    if (w->layout == SY_RANK_MAJOR)
        return w->ranks;
    return w->layout == SY_EXPERT_SLABS ? most_of(w->rank[r].experts, 1) : 1;
}

/* Draws tokens and ids, again with fewer tokens as long as the rows that they need do not fit.
 * needs[r]: the capacity that suffices. */
static void draw_routing(struct draft *d, int64_t *needs)
{
    struct sy_case *c = d->c;
    struct sy_ref_world *w = &c->world;
    struct sy_prng prng = sy_prng_make(c->seed, ROUTING), *p = &prng;
    int fits;
    c->routing = (int32_t)sy_prng_below(p, SY_CASE_ROUTINGS);
    if (sy_prng_once_in(p, 4) || (c->routing == SY_CASE_NONE && sy_prng_once_in(p, 2)) ||
        (c->routing == SY_CASE_REMOTE && w->ranks == 1)) /* little happens in such */
        c->routing = SY_CASE_UNIFORM;
    c->input = sy_prng_once_in(p, 2) ? SY_I64 : SY_I32;
    if (sy_prng_once_in(p, 5))
        c->input = SY_U8;
    d->with_probs = sy_prng_once_in(p, 4);
    d->tokens_most = least_of(d->limits.tokens_max, d->rows_most);
    d->tokens_most = least_of(d->tokens_most, d->limits.payload_bytes / (4 * w->topk));
    if (c->input == SY_U8 || d->with_probs)
        d->tokens_most = least_of(d->tokens_most, d->limits.payload_bytes / c->experts);
    d->tokens_most = most_of(d->tokens_most, 1);
    do {
        struct sy_ref_route route = {0};
        int64_t selections = 0;
        draw_tokens(d, p);
        draw_ids(d, p);
        for (int32_t r = 0; r < w->ranks; r++)
            selections += w->rank[r].tokens * w->topk;
        for (int32_t r = 0; r < w->ranks; r++)
            w->rank[r].capacity = selections + 1;
        sy_ref_route(w, &route);
        fits = 1;
        for (int32_t r = 0; r < w->ranks; r++) {
            needs[r] = route.at[r].totals[SY_TOTAL_ROWS];
            fits &= needs[r] * slabs_of(w, r) + 4 <= d->rows_most;
        }
        sy_ref_route_free(&route);
        d->tokens_most = (d->tokens_most + 1) / 2;
    } while (!fits && d->tokens_most > 1);
}

static void draw_capacities(struct draft *d, const int64_t *needs)
{
    struct sy_case *c = d->c;
    struct sy_ref_world *w = &c->world;
    struct sy_prng prng = sy_prng_make(c->seed, CAPACITY), *p = &prng;
    c->capacity = sy_prng_once_in(p, 3) ? SY_CASE_SUFFICIENT
                                        : (int32_t)sy_prng_below(p, SY_CASE_CAPACITIES);
    for (int32_t r = 0; r < w->ranks; r++) {
        int32_t kind = c->capacity;
        int64_t rows = needs[r], most = d->rows_most / slabs_of(w, r);
        if (kind == SY_CASE_MIXED)
            kind = (int32_t)sy_prng_below(p, SY_CASE_MIXED);
        if (kind == SY_CASE_SUFFICIENT)
            rows += sy_prng_range(p, 0, 1 + needs[r] / 4);
        if (kind == SY_CASE_TIGHT)
            rows -= sy_prng_range(p, 1, 1 + needs[r] / 8);
        if (kind == SY_CASE_TINY)
            rows = sy_prng_range(p, 1, 2);
        w->rank[r].capacity = clamp(rows, 1, most_of(most, 1));
        rows = sy_ref_rows(w, r);
        c->recv_rows_max = most_of(c->recv_rows_max, rows);
        if (sy_prng_once_in(p, 2))
            rows += clamp(d->rows_most - rows, 0, sy_prng_below(p, 5));
        c->rank[r].out_rows = rows;
    }
    c->recv_rows_max = most_of(c->recv_rows_max, 1) + (sy_prng_once_in(p, 3) ? 5 : 0);
}

/* ---- data ---- */

/* Every 4 bytes name where they belong, with prime periods: no power of two lines up with them. */
static void fill_coordinates(unsigned char *at, int64_t bytes, int64_t rank, int64_t token)
{
    for (int64_t i = 0; i < bytes; i += 4) {
        int64_t word = i / 4;
        at[i] = (unsigned char)(word % 251);
        at[i + 1] = (unsigned char)(token % 241);
        at[i + 2] = (unsigned char)((rank * 17 + token / 241 * 59) % 239);
        at[i + 3] = (unsigned char)(word / 251 + rank * 67);
    }
}

struct layout_of_type {
    int mantissa_bits, exponent_bits;
};

static struct layout_of_type bits_of(int32_t type)
{
    switch (type) {
    case SY_BF16:
        return (struct layout_of_type){7, 8};
    case SY_F16:
        return (struct layout_of_type){10, 5};
    case SY_F8E4M3:
        return (struct layout_of_type){3, 4};
    default:
        return (struct layout_of_type){23, 8};
    }
}

/* A finite number of any sign: 2^least to below 2^(most + 1). */
static uint32_t draw_number(struct sy_prng *p, int32_t type, int least, int most)
{
    struct layout_of_type bits = bits_of(type);
    uint64_t random = sy_prng_next(p);
    uint32_t mantissa = (uint32_t)(random & ((1u << bits.mantissa_bits) - 1));
    int exponent = (1 << (bits.exponent_bits - 1)) - 1 + (int)sy_prng_range(p, least, most);
    uint32_t code = (uint32_t)exponent << bits.mantissa_bits | mantissa;
    return code | (uint32_t)(random >> 63) << (bits.mantissa_bits + bits.exponent_bits);
}

/* Zeros, denormals, the largest, infinities, NaN with any payload. */
static uint32_t draw_special(struct sy_prng *p, int32_t type)
{
    struct layout_of_type bits = bits_of(type);
    uint32_t random = (uint32_t)sy_prng_next(p);
    uint32_t one = 1u << bits.mantissa_bits, infinite = (one << bits.exponent_bits) - one;
    uint32_t code;
    switch (sy_prng_below(p, 6)) {
    case 0:
        code = 0;
        break;
    case 1:
        code = random % one;
        break;
    case 2:
        code = infinite - 1;
        break;
    case 3:
        code = infinite;
        break;
    case 4:
        code = infinite | random % one;
        break;
    default:
        code = 1;
    }
    return code | random >> 31 << (bits.mantissa_bits + bits.exponent_bits);
}

static void put(unsigned char *at, int64_t bytes, uint32_t code)
{
    for (int64_t i = 0; i < bytes; i++)
        at[i] = (unsigned char)(code >> (8 * i));
}

static uint32_t draw_element(struct sy_prng *p, int32_t type, int32_t data)
{
    if (data == SY_CASE_BITS)
        return sy_prng_once_in(p, 4) ? draw_special(p, type) : (uint32_t)sy_prng_next(p);
    if (sy_prng_once_in(p, 40))
        return sy_prng_once_in(p, 2) ? 0 : draw_number(p, type, 0, 0);
    if (sy_prng_once_in(p, 4) && type != SY_F8E4M3)
        return draw_number(p, type, type == SY_F16 ? -14 : -20, type == SY_F16 ? 8 : 20);
    return draw_number(p, type, -3, 3);
}

static void *draw_elements(struct sy_case *c, struct sy_prng *p, int32_t type, int64_t count,
                           int32_t data)
{
    int64_t bytes = type == SY_OPAQUE16 ? 4 : sy_ref_type_bytes(type);
    unsigned char *at;
    if (type == SY_OPAQUE16)
        count *= 4;
    at = take(c, count, bytes);
    for (int64_t i = 0; i < count; i++)
        put(at + i * bytes, bytes, draw_element(p, type, data));
    return at;
}

/* BF16 to be quantised: each block of its own magnitude, now and then below 1e-4 or all zero; a few
 * have what cannot be divided in the quick way: 2^120 and more, infinities, NaN. */
static void *draw_blocks(struct sy_case *c, struct sy_prng *p, int64_t tokens, int64_t hidden)
{
    unsigned char *x = take(c, tokens * hidden, 2);
    for (int64_t t = 0; t < tokens; t++) {
        for (int64_t begin = 0; begin < hidden; begin += 128) {
            int top = (int)sy_prng_range(p, -20, 20), empty = sy_prng_once_in(p, 12);
            int odd = sy_prng_once_in(p, 10);
            for (int64_t i = begin; i < least_of(begin + 128, hidden); i++) {
                uint32_t code = draw_number(p, SY_BF16, top - 10, top);
                if (empty || sy_prng_once_in(p, 50))
                    code &= 0x8000;
                if (odd && sy_prng_once_in(p, 50))
                    code = sy_prng_once_in(p, 2) ? draw_special(p, SY_BF16)
                                                 : draw_number(p, SY_BF16, 119, 127);
                put(x + (t * hidden + i) * 2, 2, code);
            }
        }
    }
    return x;
}

static void draw_payload(struct draft *d)
{
    struct sy_case *c = d->c;
    struct sy_ref_world *w = &c->world;
    struct sy_prng prng = sy_prng_make(c->seed, PAYLOAD), *p = &prng;
    int64_t row_bytes = w->hidden * sy_ref_type_bytes(w->type);
    c->data = w->quant ? SY_CASE_NUMBERS : SY_CASE_COORDINATES;
    if (sy_prng_once_in(p, 4))
        c->data = SY_CASE_BITS;
    for (int32_t r = 0; r < w->ranks; r++) {
        int64_t tokens = w->rank[r].tokens;
        if (c->data == SY_CASE_BITS) {
            w->rank[r].x = draw_elements(c, p, w->type, tokens * w->hidden, c->data);
        } else if (w->quant) {
            w->rank[r].x = draw_blocks(c, p, tokens, w->hidden);
        } else {
            unsigned char *x = take(c, tokens, row_bytes);
            for (int64_t t = 0; t < tokens; t++)
                fill_coordinates(x + t * row_bytes, row_bytes, r, t);
            w->rank[r].x = x;
        }
        if (w->scale_words)
            w->rank[r].scales =
                draw_elements(c, p, SY_F32, tokens * w->scale_words, SY_CASE_BITS);
    }
}

static void draw_weights(struct draft *d)
{
    struct sy_case *c = d->c;
    struct sy_ref_world *w = &c->world;
    struct sy_prng prng = sy_prng_make(c->seed, WEIGHTS), *p = &prng;
    int32_t data = sy_prng_once_in(p, 4) ? SY_CASE_BITS : SY_CASE_NUMBERS;
    int none = sy_prng_once_in(p, 4);
    for (int32_t r = 0; r < w->ranks && !none; r++) {
        int64_t tokens = w->rank[r].tokens;
        if (d->with_probs)
            w->rank[r].probs = draw_elements(c, p, SY_F32, tokens * c->experts, data);
        else
            w->rank[r].weights = draw_elements(c, p, SY_F32, tokens * w->topk, data);
    }
}

static void draw_outputs(struct draft *d)
{
    struct sy_case *c = d->c;
    struct sy_ref_world *w = &c->world;
    struct sy_prng prng = sy_prng_make(c->seed, OUTPUTS), *p = &prng;
    int by_expert = sy_ref_by_expert(w->layout);
    uint32_t all = SY_CASE_OUT_SRC | (by_expert ? 0 : SY_CASE_OUT_IDS);
    if (w->rank[0].weights || w->rank[0].probs)
        all |= SY_CASE_OUT_WEIGHTS | (by_expert ? 0 : SY_CASE_OUT_PROBS);
    for (int32_t r = 0; r < w->ranks; r++) {
        struct sy_case_rank *at = &c->rank[r];
        at->outputs = all;
        if (sy_prng_once_in(p, 2))
            at->outputs &= (uint32_t)sy_prng_next(p);
        if (c->scale_type) /* scales that nobody takes would be an odd thing to send */
            at->outputs |= SY_CASE_OUT_SCALES;
        if (at->out_rows * w->rank[r].experts > 4 * d->limits.payload_bytes)
            at->outputs &= ~(uint32_t)SY_CASE_OUT_PROBS;
        at->ids_type = sy_prng_once_in(p, 2) ? SY_I32 : SY_I64;
        at->out_place = (int32_t)sy_prng_below(p, SY_CASE_PLACES);
        at->sum_place = (int32_t)sy_prng_below(p, SY_CASE_PLACES);
    }
}

/* ---- combine ---- */

static void draw_carry(struct draft *d, struct sy_prng *p)
{
    struct sy_case *c = d->c;
    struct sy_ref_world *w = &c->world;
    int probs = !sy_ref_by_expert(w->layout) && sy_prng_once_in(p, 2);
    int32_t data = sy_prng_once_in(p, 4) ? SY_CASE_BITS : SY_CASE_NUMBERS;
    int64_t most = 0, columns;
    if (sy_prng_once_in(p, 3))
        return;
    for (int32_t r = 0; r < w->ranks; r++) {
        most = most_of(most, c->rank[r].out_rows * w->rank[r].experts);
        most = most_of(most, w->rank[r].tokens * c->experts);
    }
    probs = probs && most <= 4 * d->limits.payload_bytes;
    c->carry_probs = probs ? 1 : most <= 4 * d->limits.payload_bytes && sy_prng_once_in(p, 3);
    c->carry_weights = c->carry_probs ? sy_prng_once_in(p, 4) : 1;
    for (int32_t r = 0; r < w->ranks; r++) {
        columns = sy_ref_by_expert(w->layout) ? 1 : w->topk;
        if (probs)
            c->sum[r].row_probs =
                draw_elements(c, p, SY_F32, c->rank[r].out_rows * w->rank[r].experts, data);
        else
            c->sum[r].row_weights =
                draw_elements(c, p, SY_F32, c->rank[r].out_rows * columns, data);
    }
}

static void draw_combine(struct draft *d)
{
    struct sy_case *c = d->c;
    struct sy_ref_world *w = &c->world;
    struct sy_prng prng = sy_prng_make(c->seed, COMBINE), *p = &prng;
    int weighted = sy_prng_once_in(p, 2);
    int biases = (int)PICK(p, 3, 0, 0, 1, 2, 3, 3); /* as bits: the second alone is possible */

    c->sum_data = sy_prng_once_in(p, 4) ? SY_CASE_BITS : SY_CASE_NUMBERS;
    for (int32_t r = 0; r < w->ranks; r++) {
        struct sy_ref_sum *sum = &c->sum[r];
        int64_t tokens = w->rank[r].tokens;
        sum->x = draw_elements(c, p, c->sum_type, c->rank[r].out_rows * c->sum_hidden, c->sum_data);
        if (weighted)
            sum->weights = draw_elements(c, p, SY_F32, tokens * w->topk, c->sum_data);
        for (int b = 0; b < 2; b++)
            if (biases >> b & 1)
                sum->bias[b] =
                    draw_elements(c, p, c->sum_type, tokens * c->sum_hidden, c->sum_data);
    }
    draw_carry(d, p);
}

/* What the header asks of arguments, and the limits that the caller set. */
static void check_rules(const struct draft *d)
{
    const struct sy_case *c = d->c;
    const struct sy_ref_world *w = &c->world;
    int64_t row = w->hidden * sy_ref_type_bytes(w->type), experts = 0;
    int64_t sum_row = c->sum_hidden * sy_ref_type_bytes(c->sum_type);
    int64_t tokens_max = c->mode == SY_LATENCY ? c->latency_tokens_max : c->tokens_max;
    int64_t payload = d->limits.payload_bytes;
    SY_ASSERT(w->ranks <= d->limits.ranks_max || d->limits.ranks);
    SY_ASSERT(row >= 16 && row % 16 == 0 && sum_row % 16 == 0 && c->x_pad % 16 == 0);
    SY_ASSERT(sy_ref_out_row_bytes(w) % 16 == 0);
    SY_ASSERT(row <= c->row_bytes_max && sum_row <= c->row_bytes_max);
    SY_ASSERT(sy_ref_out_scale_words(w) <= c->scale_words_max);
    SY_ASSERT(!w->quant || (w->type == SY_BF16 && !w->scale_words));
    SY_ASSERT(w->topk >= 1 && w->topk <= c->topk_max && c->topk_max <= c->experts);
    SY_ASSERT(w->alignment >= 0 && w->alignment <= 65536);
    for (int32_t r = 0; r < w->ranks; r++) {
        const struct sy_ref_rank *at = &w->rank[r];
        experts += at->experts;
        SY_ASSERT(at->experts == c->experts_per_rank[r] && at->tokens <= tokens_max);
        SY_ASSERT(at->capacity >= 1 && c->rank[r].out_rows >= sy_ref_rows(w, r));
        SY_ASSERT(sy_ref_rows(w, r) <= c->recv_rows_max);
        SY_ASSERT(at->tokens <= d->limits.tokens_max && at->experts <= d->limits.experts_max);
        SY_ASSERT(at->tokens * row <= payload && c->rank[r].out_rows * row <= payload);
        SY_ASSERT(c->rank[r].out_rows * sum_row <= payload);
        SY_ASSERT((!at->ids || !at->map) && (!at->weights || !at->probs));
        SY_ASSERT(!sy_ref_by_expert(w->layout) || !c->sum[r].row_probs);
        SY_ASSERT(!sy_ref_by_expert(w->layout) ||
                  !(c->rank[r].outputs & (SY_CASE_OUT_PROBS | SY_CASE_OUT_IDS)));
        for (int64_t i = 0; c->input == SY_I32 && i < at->tokens * w->topk; i++)
            SY_ASSERT(at->ids[i] == (int32_t)at->ids[i]);
    }
    SY_ASSERT(experts == c->experts && experts >= 1);
}

void sy_case_make(struct sy_case *c, uint64_t seed, const struct sy_case_limits *limits)
{
    struct draft draft = {.c = c};
    struct sy_case_limits *to = &draft.limits;
    int64_t *needs;
    memset(c, 0, sizeof *c);
    c->seed = seed;
    if (limits)
        *to = *limits;
    to->ranks_max = to->ranks_max ? to->ranks_max : 16;
    to->experts_max = to->experts_max ? to->experts_max : 300;
    to->tokens_max = to->tokens_max ? to->tokens_max : 64;
    to->payload_bytes = most_of(to->payload_bytes ? to->payload_bytes : 256 << 10, 4096);
    to->modes = to->modes ? to->modes : SY_THROUGHPUT | SY_LATENCY;
    to->layouts = to->layouts ? to->layouts : 0x1e;

    draw_shape(&draft);
    needs = take(c, c->world.ranks, sizeof *needs);
    draw_routing(&draft, needs);
    draw_capacities(&draft, needs);
    draw_payload(&draft);
    draw_weights(&draft);
    draw_outputs(&draft);
    draw_combine(&draft);
    check_rules(&draft);
}

/* ---- text ---- */

static void add(char *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Appends, as far as there is room. */
static void add(char *text, const char *format, ...)
{
    size_t used = strlen(text);
    va_list ap;
    va_start(ap, format);
    vsnprintf(text + used, SY_CASE_TEXT - used, format, ap);
    va_end(ap);
}

static void add_list(char *text, const char *name, const struct sy_case *c,
                     int64_t (*get)(const struct sy_case *, int32_t))
{
    add(text, " %s=", name);
    for (int32_t r = 0; r < c->world.ranks; r++)
        add(text, "%s%lld", r ? "," : "", (long long)get(c, r));
}

static int64_t get_experts(const struct sy_case *c, int32_t r)
{
    return c->world.rank[r].experts;
}

static int64_t get_tokens(const struct sy_case *c, int32_t r)
{
    return c->world.rank[r].tokens;
}

static int64_t get_capacity(const struct sy_case *c, int32_t r)
{
    return c->world.rank[r].capacity;
}

const char *sy_case_text(const struct sy_case *c, char text[SY_CASE_TEXT])
{
    static const char *const types[] = {"none", "bf16",     "f16", "f32", "f8",
                                        "opaque16", "i32", "i64", "map", "ue8m0x4"};
    static const char *const layouts[] = {"?", "token", "packed", "slabs", "rank"};
    static const char *const routings[] = {"uniform", "zipf", "one",   "none",  "repeats",
                                           "holes",   "bad",  "local", "remote"};
    static const char *const capacities[] = {"sufficient", "exact", "tight", "tiny", "mixed"};
    static const char *const datas[] = {"coordinates", "numbers", "bits"};
    static const char *const quants[] = {"", "+f8", "+f8pow2", "+f8ue8m0"};
    const struct sy_ref_world *w = &c->world;
    const struct sy_ref_sum *sum = c->sum;
    text[0] = 0;
    add(text, "seed=0x%llx %s%s %s ranks=%d", (unsigned long long)c->seed,
        c->mode == SY_LATENCY ? "latency" : "throughput", c->halves ? "/halves" : "",
        layouts[w->layout], w->ranks);
    add_list(text, "experts", c, get_experts);
    add_list(text, "tokens", c, get_tokens);
    add_list(text, "capacity", c, get_capacity);
    add(text, " (%s) k=%d %s/%s align=%d", capacities[c->capacity], w->topk, types[c->input],
        routings[c->routing], w->alignment);
    add(text, " x=%lldx%s%s/%s pad=%lld", (long long)w->hidden, types[w->type], quants[w->quant],
        datas[c->data], (long long)c->x_pad);
    add(text, " scales=%lldx%s%s", (long long)sy_ref_out_scale_words(w), types[c->scale_type],
        c->scales_by_column ? "^T" : "");
    add(text, " weights=%s", w->rank[0].probs ? "probs" : w->rank[0].weights ? "yes" : "no");
    add(text, " combine=%s/%s%s%s%s", types[c->sum_type], datas[c->sum_data],
        sum->weights ? "+weights" : "", sum->bias[0] ? "+bias0" : "", sum->bias[1] ? "+bias1" : "");
    add(text, " carry=%s%s%s",
        sum->row_probs     ? "row_probs"
        : sum->row_weights ? "row_weights"
                           : "no",
        c->carry_weights ? "+weights" : "", c->carry_probs ? "+probs" : "");
    return text;
}

static uint64_t hash(uint64_t so_far, const void *data, int64_t bytes)
{
    for (int64_t i = 0; data && i < bytes; i++)
        so_far = (so_far ^ ((const unsigned char *)data)[i]) * 0x100000001b3u;
    return so_far;
}

uint64_t sy_case_hash(const struct sy_case *c)
{
    const struct sy_ref_world *w = &c->world;
    const int64_t maxima[] = {c->topk_max,      c->tokens_max,      c->latency_tokens_max,
                              c->row_bytes_max, c->scale_words_max, c->recv_rows_max};
    int64_t sum_row = c->sum_hidden * sy_ref_type_bytes(c->sum_type);
    char text[SY_CASE_TEXT] = {0};
    uint64_t h;
    sy_case_text(c, text);
    h = hash(hash(1, text, sizeof text), maxima, sizeof maxima);
    for (int32_t r = 0; r < w->ranks; r++) {
        const struct sy_ref_rank *at = &w->rank[r];
        const struct sy_ref_sum *sum = &c->sum[r];
        int64_t rows = c->rank[r].out_rows, columns = sy_ref_by_expert(w->layout) ? 1 : w->topk;
        h = hash(h, &c->rank[r], sizeof c->rank[r]);
        h = hash(h, at->ids, at->tokens * w->topk * 8);
        h = hash(h, at->map, at->tokens * c->experts);
        h = hash(h, at->x, at->tokens * w->hidden * sy_ref_type_bytes(w->type));
        h = hash(h, at->scales, at->tokens * w->scale_words * 4);
        h = hash(h, at->weights, at->tokens * w->topk * 4);
        h = hash(h, at->probs, at->tokens * c->experts * 4);
        h = hash(h, sum->x, rows * sum_row);
        h = hash(h, sum->weights, at->tokens * w->topk * 4);
        h = hash(h, sum->bias[0], at->tokens * sum_row);
        h = hash(h, sum->bias[1], at->tokens * sum_row);
        h = hash(h, sum->row_weights, rows * columns * 4);
        h = hash(h, sum->row_probs, rows * at->experts * 4);
    }
    return h;
}
