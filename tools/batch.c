/* batch.c - see batch.h. Sections: random numbers | routing | traffic | payload. */
#include "batch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "switchyard.h"

const char *const routing_names[ROUTINGS] = {"uniform", "skew", "spread", "local", "one"};

/* --- random numbers ------------------------------------------------------------------------- */

/* splitmix64's mixer: number i of a stream is mix(key + i * odd), so any of them can be had alone.
 */
static uint64_t mix(uint64_t v)
{
    v = (v ^ v >> 30) * 0xbf58476d1ce4e5b9u;
    v = (v ^ v >> 27) * 0x94d049bb133111ebu;
    return v ^ v >> 31;
}

#define STEP 0x9e3779b97f4a7c15u

enum stream { STREAM_IDS, STREAM_WEIGHTS, STREAM_PAYLOAD, STREAM_POPULARITY };

static uint64_t key_of(const struct batch *b, enum stream stream, int32_t rank)
{
    return mix(mix(b->seed + STEP) ^ ((uint64_t)stream << 32) ^ (uint64_t)(uint32_t)rank);
}

static uint64_t next(uint64_t *state)
{
    return mix(*state += STEP);
}

/* From 0 to below n. */
static int32_t below(uint64_t *state, int32_t n)
{
    return (int32_t)(((next(state) >> 32) * (uint64_t)(uint32_t)n) >> 32);
}

/* In (0, 1]. */
static double unit(uint64_t *state)
{
    return (double)((next(state) >> 11) + 1) * 0x1p-53;
}

/* --- routing -------------------------------------------------------------------------------- */

int32_t batch_first(const struct batch *b, int32_t rank)
{
    int32_t each = b->experts / b->ranks, more = b->experts % b->ranks;
    return rank * each + (rank < more ? rank : more);
}

int32_t batch_owner(const struct batch *b, int32_t expert)
{
    int32_t each = b->experts / b->ranks, more = b->experts % b->ranks;
    if (expert < more * (each + 1))
        return expert / (each + 1);
    return more + (expert - more * (each + 1)) / each;
}

/* Numbers 0 to n-1 in random order. */
static void shuffle(uint64_t *state, int32_t *deck, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        deck[i] = i;
    for (int32_t i = n - 1; i > 0; i--) {
        int32_t j = below(state, i + 1), t = deck[i];
        deck[i] = deck[j];
        deck[j] = t;
    }
}

/* K cards from the deck of n, without putting back; it stays a deck for the next token. */
static void draw(uint64_t *state, int32_t *deck, int32_t n, int32_t first, int32_t topk,
                 int64_t *ids)
{
    for (int32_t k = 0; k < topk; k++) {
        int32_t j, t;
        ids[k] = -1;
        if (k >= n)
            continue;
        j = k + below(state, n - k);
        t = deck[k];
        deck[k] = deck[j];
        deck[j] = t;
        ids[k] = first + deck[k];
    }
}

/* The K smallest of exponentially distributed numbers with the experts' rates: a draw without
 * putting back by weight (and what a router's noisy top-k amounts to). */
static void draw_weighted(uint64_t *state, const double *rates, double *keys, const struct batch *b,
                          int64_t *ids)
{
    for (int32_t e = 0; e < b->experts; e++)
        keys[e] = -log(unit(state)) / rates[e];
    for (int32_t k = 0; k < b->topk; k++) {
        int32_t best = 0;
        for (int32_t e = 1; e < b->experts; e++)
            if (keys[e] < keys[best])
                best = e;
        keys[best] = INFINITY;
        ids[k] = best;
    }
}

/* Popularity is the same for all ranks, and popular experts lie anywhere. */
static void set_rates(const struct batch *b, const int32_t *order, double *rates)
{
    for (int32_t i = 0; i < b->experts; i++)
        rates[order[i]] = pow((double)(i + 1), -b->skew);
}

static void spread(const struct batch *b, uint64_t *state, int64_t *ids)
{
    int32_t start = below(state, b->experts);
    for (int32_t k = 0; k < b->topk; k++)
        ids[k] = (start + (int64_t)k * b->experts / b->topk) % b->experts;
}

static void to_one(const struct batch *b, int64_t *ids)
{
    for (int32_t k = 0; k < b->topk; k++)
        ids[k] = k ? -1 : 0;
}

int batch_ids(const struct batch *b, int32_t rank, int64_t *ids)
{
    const int32_t first = batch_first(b, rank), local = batch_first(b, rank + 1) - first;
    uint64_t state = key_of(b, STREAM_IDS, rank), popularity = key_of(b, STREAM_POPULARITY, 0);
    int32_t *deck = malloc(sizeof *deck * (size_t)b->experts);
    double *rates = malloc(2 * sizeof *rates * (size_t)b->experts);
    int good = deck && rates;
    if (good && b->routing == ROUTING_SKEW) {
        shuffle(&popularity, deck, b->experts);
        set_rates(b, deck, rates);
    }
    for (int32_t i = 0; good && b->routing != ROUTING_SKEW && i < b->experts; i++)
        deck[i] = i;
    for (int64_t t = 0; good && t < b->tokens; t++, ids += b->topk) {
        if (b->routing == ROUTING_UNIFORM)
            draw(&state, deck, b->experts, 0, b->topk, ids);
        else if (b->routing == ROUTING_SKEW)
            draw_weighted(&state, rates, rates + b->experts, b, ids);
        else if (b->routing == ROUTING_SPREAD)
            spread(b, &state, ids);
        else if (b->routing == ROUTING_LOCAL)
            draw(&state, deck, local, first, b->topk, ids);
        else
            to_one(b, ids);
    }
    free(deck);
    free(rates);
    return good ? 0 : -1;
}

int32_t batch_ranks(const struct batch *b, const int64_t *ids, int32_t *dst)
{
    int32_t n = 0;
    for (int32_t k = 0; k < b->topk; k++) {
        int32_t at = n, owner;
        if (ids[k] < 0)
            continue;
        owner = batch_owner(b, (int32_t)ids[k]);
        while (at > 0 && dst[at - 1] > owner)
            at--;
        if (at > 0 && dst[at - 1] == owner)
            continue;
        memmove(dst + at + 1, dst + at, sizeof *dst * (size_t)(n - at));
        dst[at] = owner;
        n++;
    }
    return n;
}

void batch_weights(const struct batch *b, int32_t rank, float *weights)
{
    uint64_t state = key_of(b, STREAM_WEIGHTS, rank);
    for (int64_t i = 0; i < b->tokens * b->topk; i++)
        weights[i] = (float)unit(&state);
}

/* --- traffic -------------------------------------------------------------------------------- */

static void count(const struct batch *b, int32_t rank, const int64_t *ids, int32_t *dst,
                  struct traffic *t)
{
    for (int64_t i = 0; i < b->tokens; i++, ids += b->topk) {
        int32_t n = batch_ranks(b, ids, dst);
        for (int32_t j = 0; j < n; j++)
            t->rows[rank * b->ranks + dst[j]]++;
        t->rows_all += n;
        for (int32_t k = 0; k < b->topk; k++) {
            if (ids[k] < 0)
                continue;
            t->experts[ids[k]]++;
            t->selections_all++;
        }
    }
}

int batch_traffic(const struct batch *b, struct traffic *t)
{
    int64_t *ids = malloc(sizeof *ids * (size_t)(b->tokens * b->topk + 1));
    int32_t *dst = malloc(sizeof *dst * (size_t)b->topk);
    int good;
    memset(t, 0, sizeof *t);
    t->rows = calloc((size_t)b->ranks * (size_t)b->ranks, sizeof *t->rows);
    t->experts = calloc((size_t)b->experts, sizeof *t->experts);
    good = ids && dst && t->rows && t->experts;
    for (int32_t r = 0; good && r < b->ranks; r++) {
        good = batch_ids(b, r, ids) == 0;
        if (good)
            count(b, r, ids, dst, t);
    }
    free(ids);
    free(dst);
    if (!good)
        batch_traffic_free(t);
    return good ? 0 : -1;
}

void batch_traffic_free(struct traffic *t)
{
    free(t->rows);
    free(t->experts);
    memset(t, 0, sizeof *t);
}

int64_t batch_arrivals(const struct batch *b, const struct traffic *t, int32_t rank)
{
    int64_t n = 0;
    for (int32_t r = 0; r < b->ranks; r++)
        n += t->rows[r * b->ranks + rank];
    return n;
}

/* --- payload -------------------------------------------------------------------------------- */

/* A random word becomes numbers of a type: (word & mask) | base leaves sign, mantissa and the low
 * three bits of the exponent random, and sets the other bits of the exponent. */
static void pattern(int32_t type, uint64_t *mask, uint64_t *base)
{
    *mask = UINT64_MAX;
    *base = 0;
    if (type == SY_BF16) {
        *mask = 0x83ff83ff83ff83ffu;
        *base = 0x3c003c003c003c00u;
    } else if (type == SY_F16) {
        *mask = 0x9fff9fff9fff9fffu;
        *base = 0x2000200020002000u;
    } else if (type == SY_F32) {
        *mask = 0x83ffffff83ffffffu;
        *base = 0x3c0000003c000000u;
    } else if (type == SY_F8E4M3) {
        *mask = 0xbfbfbfbfbfbfbfbfu;
    }
}

void batch_payload(const struct batch *b, int32_t type, int32_t rank, uint64_t begin, void *to,
                   size_t bytes)
{
    const uint64_t key = key_of(b, STREAM_PAYLOAD, rank);
    uint64_t mask, base;
    uint8_t *at = to;
    pattern(type, &mask, &base);
    for (size_t i = 0; i < bytes; i += 8) {
        uint64_t word = (mix(key + ((begin + i) / 8 + 1) * STEP) & mask) | base;
        memcpy(at + i, &word, 8);
    }
}
