/* batch.h - batches of many shapes in one group: what exhaustive_test.c and soak_test.c share.
 *
 * A struct batch is the whole world's input, equal on all ranks; a struct batch_seat is one rank's
 * route and memory for it. Memory is taken once, for the largest batch. The order of things: fill
 * the batch, batch_set(), batch_dispatch(), batch_combine(), wait for the streams, and compare with
 * the reference, sy_ref_route() first.
 *
 *   1  Batches      2  Seats      3  Operations      4  Comparing
 */
#ifndef SY_TESTS_BATCH_H
#define SY_TESTS_BATCH_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "prng.h"
#include "ref/ref.h"

#define BATCH_RANKS 16
#define BATCH_POISON 0xA5
#define BATCH_TEXT 300

/* ---- 1. Batches ------------------------------------------------------------------------------ */

struct batch_limits {
    int32_t ranks, topk;
    const int32_t *experts; /* of each rank */
    int64_t tokens, rows, row_bytes;
};

struct batch {
    struct sy_ref_world world;
    struct sy_ref_rank rank[BATCH_RANKS];
    struct sy_ref_sum sum[BATCH_RANKS];
    struct sy_ref_route ref;
    int32_t experts;
    int32_t sum_type;
    int64_t sum_hidden;
    int weighted, carry, biased; /* of the combine */

    /* [rank]: inputs for the largest batch; world and sums point here. */
    int64_t *ids[BATCH_RANKS];
    float *weights[BATCH_RANKS], *row_weights[BATCH_RANKS];
    uint8_t *x[BATCH_RANKS], *rows[BATCH_RANKS], *bias[BATCH_RANKS];
};

static void *batch_take(size_t bytes)
{
    void *p = NULL;
    if (posix_memalign(&p, 256, bytes + 256))
        abort();
    memset(p, BATCH_POISON, bytes + 256);
    return p;
}

/* Numbers that a sum in another order would round differently; of any of the types, as 16-bit
 * patterns of small exponents are numbers in all of them. */
static void batch_numbers(struct sy_prng *p, void *to, size_t bytes)
{
    for (size_t i = 0; i + 4 <= bytes; i += 4) {
        uint64_t r = sy_prng_next(p);
        uint32_t low = (uint32_t)(0x3a00 + r % 0x0800) | (uint32_t)(r >> 63) << 15;
        uint32_t high = (uint32_t)(0x3a00 + (r >> 16) % 0x0800) | (uint32_t)(r >> 62 & 1) << 15;
        uint32_t word = high << 16 | low;
        memcpy((uint8_t *)to + i, &word, 4);
    }
}

static void batch_make(struct batch *b, const struct batch_limits *m, uint64_t seed)
{
    memset(b, 0, sizeof *b);
    b->world.ranks = m->ranks;
    b->world.topk = m->topk;
    b->world.rank = b->rank;
    for (int32_t r = 0; r < m->ranks; r++) {
        struct sy_prng p = sy_prng_make(seed, (uint64_t)r);
        size_t selections = (size_t)(m->tokens * m->topk), rows = (size_t)(m->rows * m->row_bytes);
        b->rank[r].experts = m->experts[r];
        b->experts += m->experts[r];
        b->ids[r] = batch_take(selections * sizeof **b->ids);
        b->weights[r] = batch_take(selections * 4);
        b->row_weights[r] = batch_take((size_t)(m->rows * m->topk) * 4);
        b->x[r] = batch_take((size_t)(m->tokens * m->row_bytes));
        b->bias[r] = batch_take((size_t)(m->tokens * m->row_bytes));
        b->rows[r] = batch_take(rows);
        batch_numbers(&p, b->weights[r], selections * 4);
        batch_numbers(&p, b->row_weights[r], (size_t)(m->rows * m->topk) * 4);
        batch_numbers(&p, b->x[r], (size_t)(m->tokens * m->row_bytes));
        batch_numbers(&p, b->bias[r], (size_t)(m->tokens * m->row_bytes));
        batch_numbers(&p, b->rows[r], rows);
    }
}

/* Points the reference's world at the memory, as the batch's fields say. */
static void batch_link(struct batch *b)
{
    for (int32_t r = 0; r < b->world.ranks; r++) {
        b->rank[r].ids = b->ids[r];
        b->rank[r].x = b->x[r];
        b->rank[r].weights = b->weights[r];
        memset(b->sum + r, 0, sizeof b->sum[r]);
        b->sum[r].x = b->rows[r];
        b->sum[r].weights = b->weighted ? b->weights[r] : NULL;
        b->sum[r].row_weights = b->carry ? b->row_weights[r] : NULL;
        b->sum[r].bias[1] = b->biased ? b->bias[r] : NULL;
    }
}

static void batch_free(struct batch *b)
{
    for (int32_t r = 0; r < b->world.ranks; r++) {
        free(b->ids[r]);
        free(b->weights[r]);
        free(b->row_weights[r]);
        free(b->x[r]);
        free(b->bias[r]);
        free(b->rows[r]);
    }
}

/* ---- 2. Seats -------------------------------------------------------------------------------- */

enum batch_place { BATCH_PLAIN, BATCH_HEAP, BATCH_VIEW };

/* What an operation writes, and what it has to write. */
struct batch_pair {
    uint8_t *got, *want;
    size_t bytes; /* of this batch */
};

enum { PAIR_X, PAIR_SCALES, PAIR_WEIGHTS, PAIR_IDS, PAIR_SRC, PAIR_OUT, PAIR_BACK, PAIRS };

struct batch_seat {
    int rank;
    sy_group *group;
    sy_route *route;
    struct batch_limits limits;
    enum batch_place place;      /* of the received rows          */
    enum batch_place sum_place;  /* of those that are summed      */
    uint8_t *heap_x, *heap_rows; /* from sy_alloc(), if it is so  */
    int32_t *ids;
    struct batch_pair pair[PAIRS];
    sy_tensor view;
    sy_dispatch_args dispatch;
    sy_combine_args combine;
};

static size_t batch_pair_room(const struct batch_limits *m, int which)
{
    switch (which) {
    case PAIR_X:
        return (size_t)(m->rows * m->row_bytes);
    case PAIR_SCALES:
        return (size_t)(m->rows * (m->row_bytes / 32 + 4) * 4);
    case PAIR_WEIGHTS:
    case PAIR_IDS:
        return (size_t)(m->rows * m->topk * 4);
    case PAIR_SRC:
        return (size_t)m->rows * 8;
    case PAIR_OUT:
        return (size_t)(m->tokens * m->row_bytes);
    default:
        return (size_t)(m->tokens * m->topk * 4);
    }
}

static void batch_sit(struct batch_seat *s, sy_group *group, int rank, const struct batch_limits *m)
{
    memset(s, 0, sizeof *s);
    s->rank = rank;
    s->group = group;
    s->limits = *m;
    s->ids = batch_take((size_t)(m->tokens * m->topk) * 4);
    for (int i = 0; i < PAIRS; i++) {
        s->pair[i].got = batch_take(batch_pair_room(m, i));
        s->pair[i].want = batch_take(batch_pair_room(m, i));
    }
}

static void batch_leave(struct batch_seat *s)
{
    free(s->ids);
    for (int i = 0; i < PAIRS; i++) {
        free(s->pair[i].got);
        free(s->pair[i].want);
    }
}

/* ---- 3. Operations --------------------------------------------------------------------------- */

/* Poisons both sides of a pair for so many bytes and returns the library's. */
static void *batch_poison(struct batch_seat *s, int which, int64_t bytes)
{
    struct batch_pair *p = s->pair + which;
    p->bytes = (size_t)bytes;
    if (p->bytes > batch_pair_room(&s->limits, which))
        abort();
    memset(p->got, BATCH_POISON, p->bytes);
    memset(p->want, BATCH_POISON, p->bytes);
    return p->got;
}

static sy_status batch_set(struct batch_seat *s, const struct batch *b, sy_stream *stream)
{
    sy_route_input in = {.size = sizeof in};
    int64_t tokens = b->rank[s->rank].tokens;
    for (int64_t i = 0; i < tokens * b->world.topk; i++)
        s->ids[i] = (int32_t)b->ids[s->rank][i];
    in.ids = sy_tensor_2d(s->ids, SY_I32, tokens, b->world.topk);
    return sy_route_set(s->route, &in, stream);
}

/* Fills in the arguments; `stream` and phase are the call's own. */
static void batch_begin_dispatch(struct batch_seat *s, const struct batch *b)
{
    const struct sy_ref_world *w = &b->world;
    int64_t T = b->rank[s->rank].tokens, K = w->topk, n = sy_ref_rows(w, s->rank);
    int64_t row = sy_ref_out_row_bytes(w), words = sy_ref_out_scale_words(w);
    sy_type wire = (sy_type)(w->quant ? SY_F8E4M3 : w->type);
    int by_expert = sy_ref_by_expert(w->layout);
    sy_dispatch_args *d = &s->dispatch;
    uint8_t *x = batch_poison(s, PAIR_X, n * row);
    memset(d, 0, sizeof *d);
    d->size = sizeof *d;
    d->quant = w->quant;
    d->x = sy_tensor_2d(b->x[s->rank], (sy_type)w->type, T, w->hidden);
    d->weights = sy_tensor_2d(b->weights[s->rank], SY_F32, T, K);
    if (s->place == BATCH_HEAP) {
        memset(s->heap_x, BATCH_POISON, (size_t)(n * row));
        x = s->heap_x;
    }
    if (s->place != BATCH_VIEW)
        d->out_x = sy_tensor_2d(x, wire, n, w->hidden);
    d->view = &s->view;
    s->pair[PAIR_SCALES].bytes = s->pair[PAIR_IDS].bytes = 0;
    if (words)
        d->out_scales = sy_tensor_2d(batch_poison(s, PAIR_SCALES, n * words * 4),
                                     w->quant == SY_QUANT_F8_UE8M0 ? SY_UE8M0X4 : SY_F32, n, words);
    if (by_expert)
        d->out_weights = sy_tensor_1d(batch_poison(s, PAIR_WEIGHTS, n * 4), SY_F32, n);
    else
        d->out_weights = sy_tensor_2d(batch_poison(s, PAIR_WEIGHTS, n * K * 4), SY_F32, n, K);
    if (!by_expert)
        d->out_ids = sy_tensor_2d(batch_poison(s, PAIR_IDS, n * K * 4), SY_I32, n, K);
    d->out_src = sy_tensor_2d(batch_poison(s, PAIR_SRC, n * 8), SY_I32, n, 2);
}

static sy_status batch_dispatch(struct batch_seat *s, const struct batch *b, int32_t phase,
                                sy_stream *stream)
{
    if (phase != SY_RECEIVE)
        batch_begin_dispatch(s, b);
    s->dispatch.phase = phase;
    return sy_dispatch(s->route, &s->dispatch, stream);
}

static void batch_begin_combine(struct batch_seat *s, const struct batch *b)
{
    const struct sy_ref_world *w = &b->world;
    int64_t T = b->rank[s->rank].tokens, K = w->topk, n = sy_ref_rows(w, s->rank);
    int64_t row = b->sum_hidden * sy_ref_type_bytes(b->sum_type);
    sy_type type = (sy_type)b->sum_type;
    sy_combine_args *c = &s->combine;
    uint8_t *x = b->rows[s->rank];
    memset(c, 0, sizeof *c);
    c->size = sizeof *c;
    if (s->sum_place == BATCH_HEAP)
        x = memcpy(s->heap_rows, x, (size_t)(n * row));
    c->x = sy_tensor_2d(x, type, n, b->sum_hidden);
    c->out = sy_tensor_2d(batch_poison(s, PAIR_OUT, T * row), type, T, b->sum_hidden);
    if (b->weighted)
        c->weights = sy_tensor_2d(b->weights[s->rank], SY_F32, T, K);
    if (b->biased)
        c->bias[1] = sy_tensor_2d(b->bias[s->rank], type, T, b->sum_hidden);
    s->pair[PAIR_BACK].bytes = 0;
    if (!b->carry)
        return;
    c->row_weights = sy_ref_by_expert(w->layout)
                         ? sy_tensor_1d(b->row_weights[s->rank], SY_F32, n)
                         : sy_tensor_2d(b->row_weights[s->rank], SY_F32, n, K);
    c->out_weights = sy_tensor_2d(batch_poison(s, PAIR_BACK, T * K * 4), SY_F32, T, K);
}

static sy_status batch_combine(struct batch_seat *s, const struct batch *b, int32_t phase,
                               sy_stream *stream)
{
    if (phase != SY_RECEIVE)
        batch_begin_combine(s, b);
    s->combine.phase = phase;
    return sy_combine(s->route, &s->combine, stream);
}

/* ---- 4. Comparing ---------------------------------------------------------------------------- */

static int batch_same(const struct batch_seat *s, int which, char text[BATCH_TEXT])
{
    static const char *const names[PAIRS] = {
        "out_x",   "out_scales", "out_weights",           "out_ids",
        "out_src", "sums",       "weights that came back"};
    const struct batch_pair *p = s->pair + which;
    size_t i = 0;
    if (!p->bytes || !memcmp(p->got, p->want, p->bytes))
        return 1;
    while (p->got[i] == p->want[i])
        i++;
    snprintf(text, BATCH_TEXT, "rank %d: %s differ at byte %zu of %zu: %02x, not %02x", s->rank,
             names[which], i, p->bytes, p->got[i], p->want[i]);
    return 0;
}

static int batch_same_counts(const struct batch_seat *s, const struct batch *b,
                             char text[BATCH_TEXT])
{
    const struct sy_ref_arrivals *at = b->ref.at + s->rank;
    sy_route_info i = {.size = sizeof i};
    sy_status status = sy_route_info_get(s->route, &i);
    const struct {
        const char *name;
        const sy_tensor *got;
        const int32_t *want;
    } all[] = {{"totals", &i.totals, at->totals},
               {"expert_counts", &i.expert_counts, at->expert_counts},
               {"expert_aligned", &i.expert_aligned, at->expert_aligned},
               {"expert_offsets", &i.expert_offsets, at->expert_offsets},
               {"source_counts", &i.source_counts, at->source_counts},
               {"source_offsets", &i.source_offsets, at->source_offsets},
               {"slab_begin", &i.slab_begin, at->slab_begin},
               {"slab_count", &i.slab_count, at->slab_count}};
    for (size_t k = 0; status == SY_OK && k < sizeof all / sizeof *all; k++) {
        size_t n = (size_t)all[k].got->shape[0];
        n *= all[k].got->dims > 1 ? (size_t)all[k].got->shape[1] : 1;
        if (!memcmp(all[k].got->data, all[k].want, n * 4))
            continue;
        snprintf(text, BATCH_TEXT, "rank %d: %s differ", s->rank, all[k].name);
        return 0;
    }
    if (status != SY_OK)
        snprintf(text, BATCH_TEXT, "rank %d: no counts: %s", s->rank, sy_last_error());
    return status == SY_OK;
}

/* After both operations, with b->ref made. 1: as the reference. */
static int batch_compare(struct batch_seat *s, struct batch *b, char text[BATCH_TEXT])
{
    const struct sy_ref_world *w = &b->world;
    int64_t n = sy_ref_rows(w, s->rank);
    struct batch_pair *p = s->pair;
    struct sy_ref_outputs want = {.x = {p[PAIR_X].want, n},
                                  .src = {p[PAIR_SRC].want, n},
                                  .weights = {p[PAIR_WEIGHTS].want, n},
                                  .ids_type = SY_I32};
    struct sy_ref_sum mine = b->sum[s->rank];
    if (s->place == BATCH_HEAP)
        memcpy(p[PAIR_X].got, s->heap_x, p[PAIR_X].bytes);
    if (s->place == BATCH_VIEW) { /* what lay there before is not known */
        memcpy(p[PAIR_X].got, s->view.data, p[PAIR_X].bytes);
        memcpy(p[PAIR_X].want, s->view.data, p[PAIR_X].bytes);
    }
    if (p[PAIR_SCALES].bytes)
        want.scales = (struct sy_ref_output){p[PAIR_SCALES].want, n};
    if (p[PAIR_IDS].bytes)
        want.ids = (struct sy_ref_output){p[PAIR_IDS].want, n};
    sy_ref_dispatch(w, &b->ref, s->rank, &want);
    b->sum[s->rank].out = p[PAIR_OUT].want;
    b->sum[s->rank].out_weights = p[PAIR_BACK].bytes ? (float *)(void *)p[PAIR_BACK].want : NULL;
    sy_ref_combine(w, &b->ref, s->rank, b->sum_type, b->sum_hidden, b->sum);
    b->sum[s->rank] = mine;
    for (int i = 0; i < PAIRS; i++)
        if (!batch_same(s, i, text))
            return 0;
    return batch_same_counts(s, b, text);
}

#endif
