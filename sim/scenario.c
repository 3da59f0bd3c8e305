/* scenario.c - draws a scenario from a seed. Sections: memory | the group | routes | settings |
 * steps | the rest. */
#include "scenario.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/verify.h"

struct sim_block_of_memory {
    struct sim_block_of_memory *next;
    uint64_t align;
};

void *sim_scenario_take(struct sim_scenario *s, size_t count, size_t bytes)
{
    struct sim_block_of_memory *b = calloc(1, sizeof *b + count * bytes + 1);
    SY_ASSERT(b);
    b->next = s->blocks_of_memory;
    s->blocks_of_memory = b;
    return b + 1;
}

void sim_scenario_free(struct sim_scenario *s)
{
    struct sim_block_of_memory *b = s->blocks_of_memory;
    for (uint32_t r = 0; r < s->routes; r++)
        for (uint32_t i = 0; i < s->route[r].settings; i++)
            sy_ref_route_free(&s->route[r].setting[i].ref);
    while (b) {
        struct sim_block_of_memory *next = b->next;
        free(b);
        b = next;
    }
    free(s);
}

#define PICK(p, ...)                                                                               \
    ((const int[]){                                                                                \
        __VA_ARGS__}[sy_prng_below(p, (int64_t)(sizeof(int[]){__VA_ARGS__} / sizeof(int)))])

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* --- the group -------------------------------------------------------------------------------- */

static void draw_experts(struct sim_scenario *s, struct sy_prng *p)
{
    int even = sy_prng_once_in(p, 2), each = (int)sy_prng_range(p, 1, 3);
    s->experts = sim_scenario_take(s, s->ranks, sizeof *s->experts);
    for (uint32_t r = 0; r < s->ranks; r++) {
        s->experts[r] = even ? each : (int32_t)sy_prng_range(p, 0, 4);
        if (r + 1 == s->ranks && !s->experts_all && !s->experts[r])
            s->experts[r] = 1;
        s->experts_all += s->experts[r];
    }
}

static void draw_group(struct sim_scenario *s, const struct sim_wish *wish, struct sy_prng *p)
{
    int many = sy_prng_once_in(p, 8); /* tokens: more than one chunk of rows */
    s->ranks = wish->ranks ? wish->ranks : (uint32_t)PICK(p, 1, 2, 2, 2, 3, 3, 3, 4, 4, 5, 8);
    draw_experts(s, p);
    s->tokens_max = many && s->ranks <= 3 ? sy_prng_range(p, 60, 140) : sy_prng_range(p, 1, 10);
    if (wish->tokens_max)
        s->tokens_max = wish->tokens_max;
    s->topk_max = (int32_t)least(sy_prng_range(p, 1, 5), s->experts_all);
    s->views = (int32_t)sy_prng_range(p, 1, 3);
    s->latency_views = (int32_t)sy_prng_range(p, 2, 3);
    s->streams = (int32_t)sy_prng_range(p, 1, 2);
    s->gpu = wish->machine ? wish->machine == 2 : sy_prng_once_in(p, 2);
    s->blocks = (uint32_t)(s->gpu ? sy_prng_range(p, 1, 6) : sy_prng_range(p, 1, 5));
    s->warps_max = s->gpu ? 16 : 3;
    s->boot = sy_prng_once_in(p, 6) ? SY_BOOT_ID : SY_BOOT_USER;
    s->combine_path = sy_prng_once_in(p, 4);
    s->route_asks = sy_prng_once_in(p, 3);
    s->timeout_ns = 2000000000u;
    s->routes = (uint32_t)sy_prng_range(p, 1, 3);
    if (wish->plain) {
        s->routes = s->blocks = 1;
        s->gpu = s->combine_path = s->route_asks = 0;
        s->warps_max = 3;
        s->boot = SY_BOOT_USER;
        s->views = 1;
    }
}

/* --- routes ----------------------------------------------------------------------------------- */

static void draw_rows(struct sim_scenario *s, struct sim_route *r, const struct sim_wish *wish,
                      struct sy_prng *p)
{
    static const int32_t types[] = {SY_BF16, SY_BF16, SY_F16, SY_F32, SY_F8E4M3, SY_OPAQUE16};
    int64_t units = sy_prng_range(p, 1, 10), blocks;
    if (s->tokens_max <= 6 && sy_prng_once_in(p, 6))
        units = sy_prng_range(p, 200, 560); /* more than one piece, and more than one part */
    if (wish->row_bytes_max)
        units = wish->row_bytes_max / 16;
    r->type = types[sy_prng_below(p, 6)];
    if (r->type == SY_BF16 && sy_prng_once_in(p, 2)) {
        r->quant = (int32_t)sy_prng_range(p, 1, 3);
        if (s->tokens_max <= 6 && !wish->row_bytes_max && sy_prng_once_in(p, 3))
            units = sy_prng_range(p, 450, 640); /* a GPU's pushers quantise such rows in parts */
        units = (units + 1) / 2 * 2;
    }
    r->hidden = units * 16 / sy_ref_type_bytes(r->type);
    r->sum_type = r->type == SY_F16 || r->type == SY_F32 ? r->type : SY_BF16;
    r->sum_hidden = units * 16 / sy_ref_type_bytes(r->sum_type);
    blocks = (r->hidden + 127) / 128;
    if (!r->quant && sy_prng_once_in(p, 3)) {
        r->scale_type = sy_prng_once_in(p, 2) ? SY_F32 : SY_UE8M0X4;
        r->scale_words = sy_prng_once_in(p, 2) ? blocks : sy_prng_range(p, 1, 9);
    } else if (r->quant) {
        r->scale_type = r->quant == SY_QUANT_F8_UE8M0 ? SY_UE8M0X4 : SY_F32;
    }
    s->row_bytes_max = most(s->row_bytes_max, units * 16);
    s->scale_words_max = most(s->scale_words_max, most(r->scale_words, blocks));
}

static void draw_wishes(struct sim_scenario *s, struct sim_route *r, struct sy_prng *p)
{
    int by_expert = sy_ref_by_expert(r->layout);
    r->weights = PICK(p, 0, 1, 1, 2);
    r->outputs = (uint32_t)sy_prng_below(p, 32);
    if (!(r->scale_words || r->quant))
        r->outputs &= ~1u;
    if (!r->weights)
        r->outputs &= ~6u;
    if (by_expert)
        r->outputs &= ~12u;
    r->weighted = sy_prng_once_in(p, 2);
    r->biases = PICK(p, 0, 0, 1, 2, 3);
    r->carry = PICK(p, 0, 0, 1, 2);
    if (by_expert && r->carry == 2)
        r->carry = 1;
    r->out_weights = r->carry && sy_prng_once_in(p, 2);
    r->out_probs = r->carry && (!r->out_weights || sy_prng_once_in(p, 2));
    r->out_place = sim_scenario_take(s, s->ranks, sizeof *r->out_place);
    r->sum_place = sim_scenario_take(s, s->ranks, sizeof *r->sum_place);
    for (uint32_t k = 0; k < s->ranks; k++) {
        r->out_place[k] = (int32_t)sy_prng_below(p, 3);
        r->sum_place[k] = (int32_t)sy_prng_below(p, 2);
    }
}

static void draw_route(struct sim_scenario *s, struct sim_route *r, const struct sim_wish *wish,
                       struct sy_prng *p)
{
    r->mode = sy_prng_once_in(p, 2) ? SY_LATENCY : SY_THROUGHPUT;
    if (wish->modes == SY_LATENCY || wish->modes == SY_THROUGHPUT)
        r->mode = (int32_t)wish->modes;
    r->layout = (int32_t)sy_prng_range(p, SY_TOKEN_MAJOR, SY_RANK_MAJOR);
    r->topk = (int32_t)sy_prng_range(p, 1, s->topk_max);
    r->alignment = r->layout == SY_EXPERT_PACKED ? PICK(p, 1, 1, 2, 4, 8) : 1;
    r->input = PICK(p, SY_I32, SY_I64, SY_U8);
    draw_rows(s, r, wish, p);
    draw_wishes(s, r, p);
}

/* --- settings --------------------------------------------------------------------------------- */

static uint32_t draw_number(struct sy_prng *p, int32_t type)
{
    uint32_t bits = (uint32_t)sy_prng_next(p), sign = bits >> 31;
    uint32_t near = (uint32_t)sy_prng_range(p, -4, 4);
    switch (type) {
    case SY_BF16:
        return sign << 15 | ((127 + near) & 0xff) << 7 | (bits & 0x7f);
    case SY_F16:
        return sign << 15 | ((15 + near) & 0x1f) << 10 | (bits & 0x3ff);
    case SY_F32:
        return sign << 31 | ((127 + near) & 0xff) << 23 | (bits & 0x7fffff);
    default:
        return bits;
    }
}

static void *draw_elements(struct sim_scenario *s, struct sy_prng *p, int32_t type, int64_t count)
{
    int64_t bytes = sy_ref_type_bytes(type), words = type == SY_OPAQUE16 ? 4 : 1;
    uint8_t *to = sim_scenario_take(s, (size_t)count, (size_t)bytes);
    for (int64_t i = 0; i < count * words; i++) {
        uint32_t code = draw_number(p, type);
        memcpy(to + i * (bytes / words), &code, (size_t)(bytes / words));
    }
    return to;
}

enum routing { UNIFORM, HOT, ONE, NOWHERE, HOLES, REPEATS, BAD, LOCAL, REMOTE, ROUTINGS };

static int64_t draw_id(const struct sim_scenario *s, struct sy_prng *p, enum routing how,
                       uint32_t rank, int64_t hot)
{
    int64_t id = sy_prng_below(p, s->experts_all), first = 0;
    for (uint32_t r = 0; r < rank; r++)
        first += s->experts[r];
    switch (how) {
    case HOT:
        return sy_prng_once_in(p, 3) ? id : hot;
    case ONE:
        return hot;
    case NOWHERE:
        return -1;
    case HOLES:
        return sy_prng_once_in(p, 3) ? -1 : id;
    case BAD:
        return sy_prng_once_in(p, 6) ? s->experts_all + sy_prng_below(p, 3) : id;
    case LOCAL:
        return s->experts[rank] ? first + sy_prng_below(p, s->experts[rank]) : id;
    case REMOTE:
        return id >= first && id < first + s->experts[rank]
                   ? (id + s->experts[rank]) % s->experts_all
                   : id;
    default:
        return id;
    }
}

/* The ids of a token; but for REPEATS and ONE none stands there twice. */
static void draw_token(const struct sim_scenario *s, struct sy_prng *p, enum routing how,
                       uint32_t rank, int64_t hot, int32_t topk, int64_t *ids)
{
    for (int32_t k = 0; k < topk; k++) {
        ids[k] = draw_id(s, p, how, rank, hot);
        for (int32_t i = 0; i < k && how != REPEATS; i++)
            if (ids[i] == ids[k] && ids[k] < s->experts_all)
                ids[k] = -1;
    }
}

static void draw_ids(struct sim_scenario *s, const struct sim_route *r, struct sim_setting *set,
                     struct sy_prng *p)
{
    enum routing how = (enum routing)PICK(p, UNIFORM, UNIFORM, UNIFORM, HOT, ONE, NOWHERE, HOLES,
                                          REPEATS, BAD, LOCAL, REMOTE);
    int64_t hot = sy_prng_below(p, s->experts_all), K = r->topk;
    int even = sy_prng_once_in(p, 3);
    if (how == NOWHERE && !sy_prng_once_in(p, 3))
        how = UNIFORM;
    set->ids = sim_scenario_take(s, s->ranks, sizeof *set->ids);
    for (uint32_t k = 0; k < s->ranks; k++) {
        struct sy_ref_rank *me = set->world.rank + k;
        int64_t T = even ? s->tokens_max : sy_prng_range(p, 0, s->tokens_max);
        uint8_t *map = sim_scenario_take(s, (size_t)(T * s->experts_all) + 1, 1);
        set->ids[k] = sim_scenario_take(s, (size_t)(T * K) + 1, sizeof **set->ids);
        me->tokens = T;
        for (int64_t t = 0; t < T; t++) {
            int64_t *ids = set->ids[k] + t * K;
            draw_token(s, p, how, k, hot, r->topk, ids);
            for (int64_t i = 0; i < K; i++)
                if (ids[i] >= 0 && ids[i] < s->experts_all)
                    map[t * s->experts_all + ids[i]] = 1;
        }
        me->ids = r->input == SY_U8 ? NULL : set->ids[k];
        me->map = r->input == SY_U8 ? map : NULL;
    }
}

/* Values that the quick division of quantising is not for, in one block of eight: 2^120 and more,
 * infinities, NaN. */
static void draw_odd(struct sy_prng *p, uint16_t *x, int64_t count)
{
    static const uint16_t odd[] = {0x7b80, 0x7c01, 0x7f7f, 0x7f80, 0x7f81, 0x7fc0, 0x7fff};
    for (int64_t i = sy_prng_below(p, 128); i < count; i += sy_prng_range(p, 1, 2 * 8 * 128))
        x[i] = (uint16_t)(odd[sy_prng_below(p, 7)] | sy_prng_next(p) >> 63 << 15);
}

static void draw_data(struct sim_scenario *s, const struct sim_route *r, struct sim_setting *set,
                      struct sy_prng *p, struct sy_prng *odd)
{
    set->sum = sim_scenario_take(s, s->ranks, sizeof *set->sum);
    for (uint32_t k = 0; k < s->ranks; k++) {
        struct sy_ref_rank *me = set->world.rank + k;
        struct sy_ref_sum *sum = set->sum + k;
        int64_t T = me->tokens, n = r->out_rows[k], K = r->topk;
        void *x = draw_elements(s, p, r->type, T * r->hidden);
        if (r->quant)
            draw_odd(odd, x, T * r->hidden);
        me->x = x;
        if (r->scale_words)
            me->scales = draw_elements(s, p, SY_F32, T * r->scale_words);
        if (r->weights == 1)
            me->weights = draw_elements(s, p, SY_F32, T * K);
        if (r->weights == 2)
            me->probs = draw_elements(s, p, SY_F32, T * s->experts_all);
        sum->x = draw_elements(s, p, r->sum_type, n * r->sum_hidden);
        if (r->weighted)
            sum->weights = draw_elements(s, p, SY_F32, T * K);
        for (int b = 0; b < 2; b++)
            if (r->biases >> b & 1)
                sum->bias[b] = draw_elements(s, p, r->sum_type, T * r->sum_hidden);
        if (r->carry == 1)
            sum->row_weights =
                draw_elements(s, p, SY_F32, n * (sy_ref_by_expert(r->layout) ? 1 : K));
        if (r->carry == 2)
            sum->row_probs = draw_elements(s, p, SY_F32, n * s->experts[k]);
    }
}

static void begin_world(struct sim_scenario *s, const struct sim_route *r, struct sim_setting *set)
{
    struct sy_ref_world *w = &set->world;
    w->ranks = (int32_t)s->ranks;
    w->topk = r->topk;
    w->layout = r->layout;
    w->alignment = r->alignment;
    w->type = r->type;
    w->quant = r->quant;
    w->hidden = r->hidden;
    w->scale_words = r->scale_words;
    w->rank = sim_scenario_take(s, s->ranks, sizeof *w->rank);
    set->want = sim_scenario_take(s, s->ranks, sizeof *set->want);
    for (uint32_t k = 0; k < s->ranks; k++) {
        w->rank[k].experts = s->experts[k];
        w->rank[k].capacity = 1 << 20;
    }
}

/* What a capacity stands for, in rows of the whole. */
static int64_t extent(const struct sim_scenario *s, const struct sim_route *r, uint32_t k,
                      int64_t capacity)
{
    if (r->layout == SY_RANK_MAJOR)
        return capacity * s->ranks;
    return r->layout == SY_EXPERT_SLABS ? capacity * s->experts[k] : capacity;
}

/* Capacities, from what the first setting needs. */
static void draw_capacities(struct sim_scenario *s, struct sim_route *r, struct sy_prng *p)
{
    struct sy_ref_route need = {0};
    int how = PICK(p, 0, 0, 1, 2, 3);
    int viewable = r->mode == SY_LATENCY && r->layout == SY_RANK_MAJOR && sy_prng_once_in(p, 2);
    r->capacity = sim_scenario_take(s, s->ranks, sizeof *r->capacity);
    r->out_rows = sim_scenario_take(s, s->ranks, sizeof *r->out_rows);
    sy_ref_route(&r->setting[0].world, &need);
    for (uint32_t k = 0; k < s->ranks; k++) {
        int64_t rows = need.at[k].totals[SY_TOTAL_ROWS];
        rows = how == 0 ? rows + sy_prng_below(p, 5) : how == 2 ? rows - rows / 4 : rows;
        if (how == 3)
            rows = sy_prng_range(p, 1, 3);
        r->capacity[k] = viewable ? s->tokens_max : most(rows, 1);
        r->out_rows[k] = extent(s, r, k, r->capacity[k]);
        if (r->mode == SY_THROUGHPUT)
            s->recv_rows_max = most(s->recv_rows_max, r->out_rows[k]);
        if (r->mode == SY_LATENCY && !viewable && r->out_place[k] == SIM_IN_VIEW)
            r->out_place[k] = SIM_IN_PLAIN;
    }
    sy_ref_route_free(&need);
}

static void draw_settings(struct sim_scenario *s, struct sim_route *r, struct sy_prng *p)
{
    r->settings = (uint32_t)sy_prng_range(p, 1, 3);
    r->setting = sim_scenario_take(s, r->settings, sizeof *r->setting);
    for (uint32_t i = 0; i < r->settings; i++) {
        begin_world(s, r, r->setting + i);
        draw_ids(s, r, r->setting + i, p);
    }
    draw_capacities(s, r, p);
    for (uint32_t i = 0; i < r->settings; i++) {
        struct sim_setting *set = r->setting + i;
        struct sy_prng odd;
        for (uint32_t k = 0; k < s->ranks; k++)
            set->world.rank[k].capacity = r->capacity[k];
        odd = sy_prng_make(s->seed, 200 + 10 * (uint64_t)(r - s->route) + i);
        draw_data(s, r, set, p, &odd);
        sy_ref_route(&set->world, &set->ref);
        sim_truth_make(s, r, set);
    }
}

/* --- steps ------------------------------------------------------------------------------------ */

/* Where the program stands while it is drawn. */
struct draft {
    struct sim_scenario *s;
    struct sy_prng *p;
    uint32_t room;
    int open[2][2]; /* [mode is latency][DISPATCH, COMBINE]: route whose send half is open, or -1 */
    int set[8], placed[8], setting[8];
    uint32_t used[8][2];     /* [route][kind]: slots taken since the last sync       */
    uint32_t turns[2];       /* [mode]: dispatches so far                            */
    uint32_t viewed[8];      /* [route]: the turn of its last dispatch               */
    uint32_t oldest_view[2]; /* [mode]: turn of the oldest one not compared, + 1     */
};

static int slow_mode(const struct sim_route *r)
{
    return r->mode == SY_LATENCY;
}

static struct sim_step *add(struct draft *d, enum sim_step_kind kind, int route)
{
    struct sim_step *step;
    if (d->s->steps == d->room) {
        struct sim_step *more = sim_scenario_take(d->s, 2 * d->room + 16, sizeof *more);
        if (d->s->steps)
            memcpy(more, d->s->step, d->s->steps * sizeof *more);
        d->s->step = more;
        d->room = 2 * d->room + 16;
    }
    step = d->s->step + d->s->steps++;
    memset(step, 0, sizeof *step);
    step->kind = (uint8_t)kind;
    step->route = (uint8_t)(route < 0 ? 0 : route);
    step->setting = (uint8_t)(route < 0 ? 0 : d->setting[route]);
    step->stream = (uint8_t)(d->s->streams > 1 && sy_prng_once_in(d->p, 3));
    return step;
}

static void add_sync(struct draft *d, int quiet)
{
    add(d, quiet ? SIM_QUIET : SIM_SYNC, -1);
    memset(d->used, 0, sizeof d->used);
    memset(d->oldest_view, 0, sizeof d->oldest_view);
    if (quiet) /* views are made dirty */
        for (int i = 0; i < 8; i++)
            d->viewed[i] = 0;
}

static uint32_t views_of(const struct draft *d, int mode)
{
    return (uint32_t)(mode ? d->s->latency_views - 1 : d->s->views);
}

static void add_set(struct draft *d, int route)
{
    const struct sim_route *r = d->s->route + route;
    struct sim_step *step;
    d->setting[route] = (int)sy_prng_below(d->p, r->settings);
    step = add(d, SIM_SET, route);
    step->slot = 0;
    d->set[route] = 1;
    d->placed[route] = r->mode == SY_THROUGHPUT;
    d->viewed[route] = 0;
}

static void add_receive(struct draft *d, int mode, int kind)
{
    int route = d->open[mode][kind];
    const struct sim_step *send = NULL;
    struct sim_step *step;
    for (uint32_t i = 0; i < d->s->steps; i++)
        if (d->s->step[i].phase == SY_SEND && d->s->step[i].route == route &&
            d->s->step[i].kind == (kind ? SIM_COMBINE : SIM_DISPATCH))
            send = d->s->step + i;
    SY_ASSERT(send);
    {
        const struct sim_step as = *send;
        step = add(d, kind ? SIM_COMBINE : SIM_DISPATCH, route);
        *step = as;
    }
    step->phase = SY_RECEIVE;
    d->open[mode][kind] = -1;
    if (!kind) {
        d->placed[route] = 1;
        d->viewed[route] = d->turns[mode];
    }
}

/* Nothing may be compared or overwritten while a half is open. */
static void close_all(struct draft *d)
{
    for (int mode = 0; mode < 2; mode++)
        for (int kind = 0; kind < 2; kind++)
            if (d->open[mode][kind] >= 0)
                add_receive(d, mode, kind);
}

/* A whole operation or its send half; kind 0: dispatch, 1: combine. */
static void add_operation(struct draft *d, int route, int kind)
{
    const struct sim_route *r = d->s->route + route;
    int mode = slow_mode(r), halves = sy_prng_once_in(d->p, 3);
    struct sim_step *step;
    if (d->used[route][kind] == SIM_SLOTS ||
        (!kind && d->oldest_view[mode] &&
         d->turns[mode] + 1 - d->oldest_view[mode] >= views_of(d, mode))) {
        close_all(d);
        add_sync(d, 0);
    }
    step = add(d, kind ? SIM_COMBINE : SIM_DISPATCH, route);
    step->slot = (uint8_t)d->used[route][kind]++;
    step->phase = halves ? SY_SEND : SY_WHOLE;
    step->by_call = kind && sy_prng_once_in(d->p, 3);
    step->sms = sy_prng_once_in(d->p, 3) ? (uint8_t)sy_prng_range(d->p, 1, d->s->blocks) : 0;
    if (halves)
        d->open[mode][kind] = route;
    if (kind) {
        step->from_view = d->viewed[route] && !halves && r->type == r->sum_type && !r->quant &&
                          d->turns[mode] - d->viewed[route] < views_of(d, mode) &&
                          sy_prng_once_in(d->p, 2);
        return;
    }
    d->turns[mode]++;
    if (!d->oldest_view[mode])
        d->oldest_view[mode] = d->turns[mode];
    d->viewed[route] = halves ? 0 : d->turns[mode];
    if (!halves)
        d->placed[route] = 1;
}

static int half_open(const struct draft *d, int route)
{
    int mode = slow_mode(d->s->route + route);
    return d->open[mode][0] == route || d->open[mode][1] == route;
}

static void add_something(struct draft *d)
{
    int route = (int)sy_prng_below(d->p, d->s->routes), what = (int)sy_prng_below(d->p, 12);
    int mode = slow_mode(d->s->route + route);
    if (what == 0) {
        close_all(d);
        add_sync(d, sy_prng_once_in(d->p, 2));
    } else if (what < 3) {
        int half = (int)sy_prng_below(d->p, 2);
        if (d->open[mode][half] >= 0)
            add_receive(d, mode, half);
    } else if (!d->set[route] || (what == 3 && !half_open(d, route))) {
        add_set(d, route);
    } else if (what < 8) {
        if (d->open[mode][0] < 0 && d->open[mode][1] != route)
            add_operation(d, route, 0);
    } else if (d->placed[route] && d->open[mode][1] < 0 && d->open[mode][0] != route) {
        add_operation(d, route, 1);
    }
}

static void draw_steps(struct sim_scenario *s, const struct sim_wish *wish, struct sy_prng *p)
{
    struct draft d = {.s = s, .p = p, .open = {{-1, -1}, {-1, -1}}};
    uint32_t operations = wish->operations ? wish->operations : (uint32_t)sy_prng_range(p, 6, 40);
    if (wish->plain) {
        add_set(&d, 0);
        for (uint32_t i = 0; i < operations; i++) {
            add(&d, SIM_DISPATCH, 0)->slot = (uint8_t)(i % SIM_SLOTS);
            add(&d, SIM_COMBINE, 0)->slot = (uint8_t)(i % SIM_SLOTS);
            if (i % SIM_SLOTS == SIM_SLOTS - 1)
                add_sync(&d, 0);
        }
        add_sync(&d, 1);
        return;
    }
    while (s->steps < operations) {
        uint32_t open = 0;
        for (int i = 0; i < 4; i++)
            open += d.open[i / 2][i % 2] >= 0;
        /* A sync in the middle of halves would wait for what has not been asked for. */
        if (open && sy_prng_once_in(p, 4))
            close_all(&d);
        add_something(&d);
    }
    close_all(&d);
    add_sync(&d, 1);
}

/* --- the rest --------------------------------------------------------------------------------- */

static void draw_schedule(struct sim_scenario *s, const struct sim_wish *wish, struct sy_prng *p)
{
    struct sim_sched_config *c = &s->sched;
    c->strategy = (enum sim_strategy)PICK(p, SIM_RANDOM, SIM_RANDOM, SIM_PCT, SIM_PCT,
                                          SIM_STARVE_RANK, SIM_STARVE_TASK, SIM_ROBIN);
    c->slice = (uint32_t)PICK(p, 1, 4, 16, 64);
    c->victim = (uint32_t)sy_prng_below(p, s->ranks);
    if (c->strategy == SIM_STARVE_TASK)
        c->victim = (uint32_t)sy_prng_below(p, s->ranks * (5 + s->blocks * (s->gpu ? 6 : 3)));
    c->change_points = c->strategy == SIM_PCT ? (uint32_t)sy_prng_range(p, 1, 6) : 0;
    s->store_lag = (uint32_t)PICK(p, 0, 1, 8, 60, 400);
    s->copy_lag = (uint32_t)PICK(p, 0, 2, 20, 200);
    c->points_max = 40000000 + (uint64_t)s->ranks * s->ranks * 200;
    c->time_max_ns = 600ull * 1000000000u;
    if (wish->plain) {
        c->strategy = SIM_RANDOM;
        c->change_points = 0;
        c->slice = 64;
        s->store_lag = 1;
        s->copy_lag = 2;
    }
}

static void draw_pause(struct sim_scenario *s)
{
    struct sy_prng prng = sy_prng_make(s->seed, 103), *p = &prng;
    if (!sy_prng_once_in(p, 6))
        return;
    s->fault = SIM_PAUSE;
    s->fault_ns = (uint64_t)sy_prng_spread(p, 1000, 30000000);
    s->stall_ns = (uint64_t)sy_prng_spread(p, 1000, (int64_t)s->timeout_ns / 4);
}

static void draw_fault(struct sim_scenario *s, struct sy_prng *p)
{
    s->fault = (enum sim_fault_kind)PICK(p, SIM_NO_FAULT, SIM_NO_FAULT, SIM_NO_FAULT, SIM_NO_FAULT,
                                         SIM_STALL, SIM_LONG_STALL, SIM_DEATH, SIM_SLOW, SIM_ABORT);
    if (s->fault == SIM_NO_FAULT || s->ranks == 1) {
        s->fault = SIM_NO_FAULT;
        draw_pause(s);
        return;
    }
    s->fault_rank = (uint32_t)sy_prng_below(p, s->ranks);
    s->fault_ns = (uint64_t)sy_prng_spread(p, 1000, 30000000);
    s->stall_ns = s->timeout_ns / 4 + (uint64_t)sy_prng_below(p, (int64_t)s->timeout_ns / 4);
    if (s->fault == SIM_LONG_STALL)
        s->stall_ns = s->timeout_ns * 2 + (uint64_t)sy_prng_below(p, (int64_t)s->timeout_ns * 4);
    if (s->fault == SIM_SLOW) /* it is slow, not late */
        s->timeout_ns = 100000000000ull;
}

static void size_user_memory(struct sim_scenario *s)
{
    int64_t bytes = 0;
    for (uint32_t k = 0; k < s->ranks; k++) {
        int64_t mine = 0;
        for (uint32_t r = 0; r < s->routes; r++)
            mine += SIM_SLOTS * 2 * (s->route[r].out_rows[k] * s->row_bytes_max + 512);
        bytes = most(bytes, mine);
    }
    s->user_bytes = bytes + 4096;
}

struct sim_scenario *sim_scenario_make(uint64_t seed, const struct sim_wish *wish)
{
    struct sim_scenario *s = calloc(1, sizeof *s);
    struct sy_prng prng = sy_prng_make(seed, 100), *p = &prng;
    SY_ASSERT(s);
    s->seed = seed;
    s->recv_rows_max = 1;
    draw_group(s, wish, p);
    s->route = sim_scenario_take(s, s->routes, sizeof *s->route);
    for (uint32_t r = 0; r < s->routes; r++) {
        draw_route(s, s->route + r, wish, p);
        draw_settings(s, s->route + r, p);
    }
    size_user_memory(s);
    prng = sy_prng_make(seed, 101);
    draw_steps(s, wish, p);
    prng = sy_prng_make(seed, 102);
    draw_schedule(s, wish, p);
    if (!wish->calm && !wish->plain)
        draw_fault(s, p);
    return s;
}

const char *sim_scenario_text(const struct sim_scenario *s, char text[SIM_SCENARIO_TEXT])
{
    static const char *const strategies[] = {"random", "pct", "starve-rank", "starve-task",
                                             "robin"};
    static const char *const faults[] = {"none", "stall", "long-stall", "death",
                                         "slow", "abort", "pause"};
    static const char *const layouts[] = {"?", "token", "packed", "slabs", "rank"};
    int n =
        snprintf(text, SIM_SCENARIO_TEXT, "%u ranks, %s x%u, %s/%u, lag %u/%u, fault %s, %u steps;",
                 s->ranks, s->gpu ? "gpu" : "cpu", s->blocks, strategies[s->sched.strategy],
                 s->sched.slice, s->store_lag, s->copy_lag, faults[s->fault], s->steps);
    for (uint32_t r = 0; r < s->routes && n < SIM_SCENARIO_TEXT - 60; r++) {
        const struct sim_route *route = s->route + r;
        n += snprintf(text + n, (size_t)(SIM_SCENARIO_TEXT - n), " %s %s k%d %lldB%s",
                      route->mode == SY_LATENCY ? "latency" : "throughput", layouts[route->layout],
                      route->topk, (long long)(route->hidden * sy_ref_type_bytes(route->type)),
                      route->quant ? " quantised" : "");
    }
    return text;
}
