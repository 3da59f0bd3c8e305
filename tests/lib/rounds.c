/* rounds.c - see rounds.h. */
#include "rounds.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "prng.h"

static void *take(struct rounds *r, size_t bytes)
{
    void *p = r->engine ? r->engine->alloc(bytes) : aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (!p)
        abort();
    return p;
}

static void give(struct rounds *r, void *p)
{
    if (r->engine)
        r->engine->free(p);
    else
        free(p);
}

static void put(struct rounds *r, void *to, const void *from, size_t bytes)
{
    if (r->engine)
        r->engine->put(to, from, bytes);
    else
        memcpy(to, from, bytes);
}

static void get(struct rounds *r, void *to, const void *from, size_t bytes)
{
    if (r->engine)
        r->engine->get(to, from, bytes);
    else
        memcpy(to, from, bytes);
}

static size_t element_bytes(const struct rounds *r)
{
    return r->bf16 ? 2 : sizeof(float);
}

static sy_tensor rows_tensor(const struct rounds *r, void *memory)
{
    return sy_tensor_2d(memory, r->bf16 ? SY_BF16 : SY_F32, r->tokens, r->hidden);
}

/* Numbers that BF16 has are the upper halves of F32. In place. */
static void narrow(float *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        uint16_t half;
        memcpy(&bits, rows + i, sizeof bits);
        half = (uint16_t)(bits >> 16);
        memcpy((char *)rows + i * sizeof half, &half, sizeof half);
    }
}

static void widen(float *rows, size_t n)
{
    while (n-- > 0) {
        uint16_t half;
        uint32_t bits;
        memcpy(&half, (const char *)rows + n * sizeof half, sizeof half);
        bits = (uint32_t)half << 16;
        memcpy(rows + n, &bits, sizeof bits);
    }
}

int rounds_open(struct rounds *r, char text[512])
{
    size_t rows = (size_t)(r->tokens_max * r->hidden), ids = (size_t)(r->tokens_max * r->topk);
    sy_route_config config = {
        .size = sizeof config, .mode = r->mode, .layout = r->layout, .topk = r->topk};
    r->ids = take(r, ids * sizeof *r->ids + 16);
    r->x = take(r, rows * element_bytes(r) + 16);
    r->out = take(r, rows * element_bytes(r) + 16);
    r->host_ids = calloc(ids + 1, sizeof *r->host_ids);
    r->host_rows = calloc(rows + 1, sizeof *r->host_rows);
    if (!r->host_ids || !r->host_rows)
        abort();
    if (r->side) {
        r->weights = take(r, ids * sizeof *r->weights + 16);
        put(r, r->weights, r->host_rows, ids * sizeof *r->weights); /* zeros */
        r->out_weights = take(r, (size_t)r->ranks * ids * sizeof *r->out_weights + 16);
        r->out_ids = take(r, (size_t)r->ranks * ids * sizeof *r->out_ids + 16);
        config.capacity = r->tokens_max * (r->layout == SY_RANK_MAJOR ? 1 : r->ranks);
    }
    if (sy_route_create(r->group, &config, NULL, &r->route) == SY_OK)
        return 0;
    snprintf(text, 512, "rank %d: sy_route_create: %.400s", r->rank, sy_last_error());
    return 1;
}

void rounds_close(struct rounds *r)
{
    sy_route_destroy(r->route);
    give(r, r->ids);
    give(r, r->x);
    give(r, r->out);
    if (r->side) {
        give(r, r->weights);
        give(r, r->out_weights);
        give(r, r->out_ids);
    }
    free(r->host_ids);
    free(r->host_rows);
}

static float value(const struct rounds *r, uint64_t n, int64_t token, int64_t i)
{
    if (r->bf16) /* eight times it is a number that BF16 has */
        return (float)(((uint64_t)(r->rank * 31 + token * 7 + i) + n * 5) % 32) - 16.0f;
    return (float)((uint64_t)(r->rank * 31 + token * 7 + i) + n) - 1000.0f * (float)(n % 3);
}

/* Experts without repeats; one selection in nine is none. */
static void draw_ids(const struct rounds *r, struct sy_prng *random, int32_t *ids)
{
    for (int k = 0; k < r->topk; k++) {
        int again = 0;
        ids[k] = sy_prng_once_in(random, 9) ? -1 : (int32_t)sy_prng_below(random, r->experts);
        for (int i = 0; i < k; i++)
            again |= ids[k] >= 0 && ids[i] == ids[k];
        k -= again;
    }
}

void rounds_fill(struct rounds *r, uint64_t n, int64_t tokens)
{
    struct sy_prng random = sy_prng_make(n, (uint64_t)r->rank);
    r->tokens = tokens;
    for (int64_t t = 0; t < tokens; t++) {
        draw_ids(r, &random, r->host_ids + t * r->topk);
        for (int64_t i = 0; i < r->hidden; i++)
            r->host_rows[t * r->hidden + i] = value(r, n, t, i);
    }
    put(r, r->ids, r->host_ids, (size_t)(tokens * r->topk) * sizeof *r->ids);
    if (r->bf16)
        narrow(r->host_rows, (size_t)(tokens * r->hidden));
    put(r, r->x, r->host_rows, (size_t)(tokens * r->hidden) * element_bytes(r));
    if (r->bf16)
        widen(r->host_rows, (size_t)(tokens * r->hidden));
}

sy_status rounds_route(struct rounds *r, sy_stream *stream)
{
    sy_route_input input = {.size = sizeof input, .sms = r->sms};
    input.ids = sy_tensor_2d(r->ids, SY_I32, r->tokens, r->topk);
    return sy_route_set(r->route, &input, stream);
}

sy_status rounds_dispatch(struct rounds *r, sy_tensor *view, sy_stream *stream)
{
    sy_dispatch_args args = {.size = sizeof args, .view = view, .sms = r->sms};
    args.x = rows_tensor(r, r->x);
    if (r->side) {
        args.weights = sy_tensor_2d(r->weights, SY_F32, r->tokens, r->topk);
        args.out_weights = sy_tensor_2d(r->out_weights, SY_F32, r->ranks * r->tokens_max, r->topk);
        args.out_ids = sy_tensor_2d(r->out_ids, SY_I32, r->ranks * r->tokens_max, r->topk);
    }
    return sy_dispatch(r->route, &args, stream);
}

sy_status rounds_combine(struct rounds *r, const sy_tensor *view, sy_stream *stream)
{
    sy_combine_args args = {.size = sizeof args, .x = *view, .sms = r->sms};
    args.out = rows_tensor(r, r->out);
    return sy_combine(r->route, &args, stream);
}

sy_status rounds_run(struct rounds *r, sy_stream *stream)
{
    sy_tensor view;
    sy_status status = rounds_route(r, stream);
    if (status == SY_OK)
        status = rounds_dispatch(r, &view, stream);
    return status == SY_OK ? rounds_combine(r, &view, stream) : status;
}

/* Ranks that a token goes to; or, in layouts by expert, experts, which hand back a row each. */
static int destinations(const struct rounds *r, int64_t token)
{
    const int by_expert = r->layout == SY_EXPERT_PACKED || r->layout == SY_EXPERT_SLABS;
    const int32_t *ids = r->host_ids + token * r->topk;
    int local = r->experts / r->ranks, n = 0;
    for (int k = 0; k < r->topk; k++) {
        int before = 0;
        for (int i = 0; i < k && !by_expert; i++)
            before |= ids[i] >= 0 && ids[i] / local == ids[k] / local;
        n += ids[k] >= 0 && !before;
    }
    return n;
}

int rounds_check(struct rounds *r, char text[512])
{
    size_t rows = (size_t)(r->tokens * r->hidden);
    float *got = malloc((rows + 1) * sizeof *got);
    int wrong = 0;
    if (!got)
        abort();
    get(r, got, r->out, rows * element_bytes(r));
    if (r->bf16)
        widen(got, rows);
    for (int64_t t = 0; t < r->tokens && !wrong; t++) {
        const float n = (float)destinations(r, t);
        for (int64_t i = 0; i < r->hidden && !wrong; i++) {
            float want = r->host_rows[t * r->hidden + i] * n, is = got[t * r->hidden + i];
            if (want == is)
                continue;
            snprintf(text, 512, "rank %d: token %lld of %lld, element %lld is %g, not %g", r->rank,
                     (long long)t, (long long)r->tokens, (long long)i, (double)is, (double)want);
            wrong = 1;
        }
    }
    free(got);
    return wrong;
}
