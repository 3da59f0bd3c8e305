/* run_case.c - see run_case.h. Sections: buffers | loans | dispatch | counts | combine | the run.
 */
#define _POSIX_C_SOURCE 200809L
#include "run_case.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POISON 0xA5
#define GUARD 256 /* bytes before and behind what an engine borrows */
#define LOANS_MAX 24

/* A host buffer that the engine sees as a copy in its own memory, or in the heap. */
struct loan {
    uint8_t *host, *lent;
    size_t bytes;
    int heap, back;
    const char *name;
};

struct run {
    const struct sy_case *c;
    const struct sy_ref_route *ref;
    const struct run_engine *engine;
    int rank;
    sy_group *group;
    sy_route *route;
    int differences;
    char *text;
    struct loan loans[LOANS_MAX];
    int lent;
};

static void differ(struct run *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void differ(struct run *r, const char *format, ...)
{
    va_list ap;
    if (r->differences++)
        return;
    va_start(ap, format);
    vsnprintf(r->text, 512, format, ap);
    va_end(ap);
}

static int need(struct run *r, sy_status status, const char *what)
{
    if (status != SY_OK)
        differ(r, "rank %d: %s: %s: %s", r->rank, what, sy_status_name(status), sy_last_error());
    return status == SY_OK;
}

/* Some cases run with fewer SMs than the group has, or ask for more. */
static int32_t sms_of(const struct sy_case *c)
{
    return c->seed % 4 == 1 ? 1 + (int32_t)(c->seed / 4 % 40) : 0;
}

/* --- buffers -------------------------------------------------------------------------------- */

static void *poisoned(size_t bytes)
{
    void *p = NULL;
    if (posix_memalign(&p, 256, bytes + 256))
        abort();
    memset(p, POISON, bytes + 256);
    return p;
}

static void same(struct run *r, const char *what, const void *got, const void *want, size_t bytes,
                 size_t row_bytes)
{
    const uint8_t *g = got, *w = want;
    size_t i;
    if (memcmp(got, want, bytes) == 0)
        return;
    for (i = 0; g[i] == w[i]; i++)
        continue;
    differ(r, "rank %d: %s differs at byte %zu (row %zu + %zu): %02x, not %02x", r->rank, what, i,
           i / row_bytes, i % row_bytes, g[i], w[i]);
}

/* Where out_x lies. Latency mode has views only for RANK_MAJOR with the group's whole capacity. */
static int out_place(const struct run *r)
{
    const struct sy_case *c = r->c;
    int place = c->rank[r->rank].out_place;
    if (place != SY_CASE_VIEW || c->mode != SY_LATENCY)
        return place;
    if (c->world.layout == SY_RANK_MAJOR &&
        c->world.rank[r->rank].capacity == c->latency_tokens_max)
        return place;
    return SY_CASE_PLAIN;
}

/* --- loans ---------------------------------------------------------------------------------- */

static void engine_put(struct run *r, void *to, const void *from, size_t bytes)
{
    if (r->engine)
        r->engine->put(to, from, bytes);
    else
        memcpy(to, from, bytes);
}

static void engine_get(struct run *r, void *to, const void *from, size_t bytes)
{
    if (r->engine)
        r->engine->get(to, from, bytes);
    else
        memcpy(to, from, bytes);
}

/* Bytes from the first element of a tensor to its last. */
static size_t extent(const sy_tensor *t)
{
    int64_t last = 0;
    for (int i = 0; i < t->dims; i++) {
        if (t->shape[i] == 0)
            return 0;
        last += (t->shape[i] - 1) * t->stride[i];
    }
    return (size_t)((last + 1) * sy_ref_type_bytes(t->type));
}

static uint8_t *lend_memory(struct run *r, struct loan *l)
{
    uint8_t *p, *whole;
    if (!r->engine)
        return NULL;
    p = r->engine->alloc(l->bytes + 2 * GUARD);
    whole = poisoned(l->bytes + 2 * GUARD);
    engine_put(r, p, whole, l->bytes + 2 * GUARD);
    free(whole);
    return p + GUARD;
}

/* From here to recall() the tensor's data is where the engine can reach it. back: the engine's copy
 * is what the caller wants to see then. */
static void lend(struct run *r, sy_tensor *t, const char *name, int heap, int back)
{
    struct loan *l = r->loans + r->lent;
    void *p = NULL;
    if (!t->data || r->lent == LOANS_MAX)
        return;
    *l = (struct loan){t->data, NULL, extent(t), heap, back, name};
    if (heap && need(r, sy_alloc(r->group, l->bytes ? l->bytes : 1, &p), "sy_alloc"))
        l->lent = p;
    else
        l->heap = 0;
    if (!l->heap)
        l->lent = lend_memory(r, l);
    if (!l->lent)
        return; /* the host's own memory will do */
    engine_put(r, l->lent, l->host, l->bytes);
    t->data = l->lent;
    r->lent++;
}

static void check_guards(struct run *r, const struct loan *l)
{
    uint8_t guards[2 * GUARD];
    engine_get(r, guards, l->lent - GUARD, GUARD);
    engine_get(r, guards + GUARD, l->lent + l->bytes, GUARD);
    for (int i = 0; i < 2 * GUARD; i++)
        if (guards[i] != POISON) {
            differ(r, "rank %d: %s: byte %d %s it was written", r->rank, l->name, i % GUARD,
                   i < GUARD ? "of the guard before" : "behind");
            return;
        }
}

/* Ends all loans but the first `keep`. */
static void recall(struct run *r, int keep)
{
    while (r->lent > keep) {
        struct loan *l = r->loans + --r->lent;
        if (l->back)
            engine_get(r, l->host, l->lent, l->bytes);
        if (l->heap) {
            need(r, sy_free(r->group, l->lent), "sy_free");
        } else {
            check_guards(r, l);
            r->engine->free(l->lent - GUARD);
        }
    }
}

static sy_stream *stream_of(const struct run *r)
{
    return r->engine ? r->engine->stream : NULL;
}

/* --- dispatch ------------------------------------------------------------------------------- */

struct inputs {
    uint8_t *x;       /* with the case's padding between rows */
    uint32_t *scales; /* transposed if the case says so       */
};

/* A matrix of 32-bit words as the case wants it seen: by rows or by columns. */
static sy_tensor words_tensor(const struct sy_case *c, void *data, int32_t type, int64_t rows,
                              int64_t columns)
{
    sy_tensor t = sy_tensor_2d(data, (sy_type)type, rows, columns);
    if (c->scales_by_column) {
        t.stride[0] = 1;
        t.stride[1] = rows ? rows : 1;
    }
    return t;
}

static void transpose(const uint32_t *from, uint32_t *to, int64_t rows, int64_t columns)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            to[j * rows + i] = from[i * columns + j];
}

static void make_inputs(struct run *r, struct inputs *in, sy_dispatch_args *args)
{
    const struct sy_case *c = r->c;
    const struct sy_ref_world *w = &c->world;
    const struct sy_ref_rank *me = w->rank + r->rank;
    int64_t row = w->hidden * sy_ref_type_bytes(w->type), stride = row + c->x_pad, T = me->tokens;
    in->x = poisoned((size_t)(T * stride));
    for (int64_t t = 0; t < T; t++)
        memcpy(in->x + t * stride, (const uint8_t *)me->x + t * row, (size_t)row);
    args->x = sy_tensor_2d(T ? in->x : NULL, (sy_type)w->type, T, w->hidden);
    args->x.stride[0] = stride / sy_ref_type_bytes(w->type);
    in->scales = poisoned((size_t)(T * w->scale_words) * 4);
    if (w->scale_words && c->scale_type != SY_NONE) {
        if (c->scales_by_column)
            transpose(me->scales, in->scales, T, w->scale_words);
        else if (T)
            memcpy(in->scales, me->scales, (size_t)(T * w->scale_words) * 4);
        args->scales = words_tensor(c, T ? in->scales : NULL, c->scale_type, T, w->scale_words);
    }
    if (me->weights)
        args->weights = sy_tensor_2d((void *)(uintptr_t)me->weights, SY_F32, T, w->topk);
    if (me->probs)
        args->probs = sy_tensor_2d((void *)(uintptr_t)me->probs, SY_F32, T, c->experts);
    args->quant = w->quant;
    args->size = sizeof *args;
}

struct outputs {
    struct sy_ref_outputs got, want;
    int64_t row_bytes, words;
    uint32_t *by_column; /* the library's scales, if it writes them by column */
};

/* The library's buffer and the reference's, equally poisoned. */
static void pair(struct sy_ref_output *got, struct sy_ref_output *want, int64_t rows, int64_t bytes)
{
    got->rows = want->rows = rows;
    got->data = poisoned((size_t)(rows * bytes));
    want->data = poisoned((size_t)(rows * bytes));
}

static void make_outputs(struct run *r, struct outputs *o, sy_dispatch_args *args)
{
    const struct sy_case *c = r->c;
    const struct sy_ref_world *w = &c->world;
    const struct sy_case_rank *me = c->rank + r->rank;
    int by_expert = sy_ref_by_expert(w->layout), wire = w->quant ? SY_F8E4M3 : w->type;
    int64_t n = me->out_rows, K = w->topk, L = w->rank[r->rank].experts;
    memset(o, 0, sizeof *o);
    o->row_bytes = sy_ref_out_row_bytes(w);
    o->words = sy_ref_out_scale_words(w);
    o->got.ids_type = o->want.ids_type = me->ids_type;
    o->got.x.rows = o->want.x.rows = n;
    o->got.x.data = poisoned((size_t)(n * o->row_bytes));
    o->want.x.data = poisoned((size_t)(n * o->row_bytes));
    args->out_x = sy_tensor_2d(o->got.x.data, (sy_type)wire, n, w->hidden);
    if (out_place(r) == SY_CASE_VIEW)
        memset(&args->out_x, 0, sizeof args->out_x);
    if (me->outputs & SY_CASE_OUT_SCALES) {
        int type = w->quant == SY_QUANT_F8_UE8M0 ? SY_UE8M0X4 : w->quant ? SY_F32 : c->scale_type;
        pair(&o->got.scales, &o->want.scales, n, o->words * 4);
        o->by_column = poisoned((size_t)(n * o->words) * 4);
        args->out_scales = words_tensor(c, c->scales_by_column ? o->by_column : o->got.scales.data,
                                        type, n, o->words);
    }
    if (me->outputs & SY_CASE_OUT_WEIGHTS) {
        pair(&o->got.weights, &o->want.weights, n, by_expert ? 4 : K * 4);
        args->out_weights = by_expert ? sy_tensor_1d(o->got.weights.data, SY_F32, n)
                                      : sy_tensor_2d(o->got.weights.data, SY_F32, n, K);
    }
    if (me->outputs & SY_CASE_OUT_PROBS) {
        pair(&o->got.probs, &o->want.probs, n, L * 4);
        args->out_probs = sy_tensor_2d(o->got.probs.data, SY_F32, n, L);
    }
    if (me->outputs & SY_CASE_OUT_IDS) {
        pair(&o->got.ids, &o->want.ids, n, K * sy_ref_type_bytes(me->ids_type));
        args->out_ids = sy_tensor_2d(o->got.ids.data, (sy_type)me->ids_type, n, K);
    }
    if (me->outputs & SY_CASE_OUT_SRC) {
        pair(&o->got.src, &o->want.src, n, 8);
        args->out_src = sy_tensor_2d(o->got.src.data, SY_I32, n, 2);
    }
}

static void free_pair(struct sy_ref_output *got, struct sy_ref_output *want)
{
    free(got->data);
    free(want->data);
}

static void free_outputs(struct outputs *o)
{
    free_pair(&o->got.x, &o->want.x);
    free_pair(&o->got.scales, &o->want.scales);
    free_pair(&o->got.weights, &o->want.weights);
    free_pair(&o->got.probs, &o->want.probs);
    free_pair(&o->got.ids, &o->want.ids);
    free_pair(&o->got.src, &o->want.src);
    free(o->by_column);
}

static int run_halves(struct run *r, sy_status (*op)(struct run *, void *, int32_t), void *args,
                      const char *what)
{
    if (!r->c->halves)
        return need(r, op(r, args, SY_WHOLE), what);
    return need(r, op(r, args, SY_SEND), what) && need(r, op(r, args, SY_RECEIVE), what);
}

static sy_status one_dispatch(struct run *r, void *args, int32_t phase)
{
    ((sy_dispatch_args *)args)->phase = phase;
    return sy_dispatch(r->route, args, stream_of(r));
}

/* Waits; ids out of range are part of some cases. */
static int settle(struct run *r, int first)
{
    sy_status status = sy_stream_sync(r->group, stream_of(r)), want = SY_OK;
    if (first && r->ref->bad.any)
        want = SY_BAD_ROUTE;
    if (status == want)
        return 1;
    differ(r, "rank %d: sync gave %s (%s), not %s", r->rank, sy_status_name(status),
           sy_last_error(), sy_status_name(want));
    return 0;
}

static void compare_outputs(struct run *r, struct outputs *o, sy_tensor *view)
{
    const struct sy_case *c = r->c;
    const struct sy_ref_world *w = &c->world;
    int by_expert = sy_ref_by_expert(w->layout);
    int64_t n = o->got.x.rows, K = w->topk;
    if (view->data) { /* only as many rows as there are; what lay there before is not known */
        n = sy_ref_rows(w, r->rank);
        o->want.x.rows = n;
        engine_get(r, o->got.x.data, view->data, (size_t)(n * o->row_bytes));
        memcpy(o->want.x.data, o->got.x.data, (size_t)(n * o->row_bytes));
    }
    if (o->got.scales.data && c->scales_by_column)
        transpose(o->by_column, o->got.scales.data, o->words, o->got.scales.rows);
    sy_ref_dispatch(w, r->ref, r->rank, &o->want);
    same(r, "out_x", o->got.x.data, o->want.x.data, (size_t)(n * o->row_bytes),
         (size_t)o->row_bytes);
    if (o->got.scales.data)
        same(r, "out_scales", o->got.scales.data, o->want.scales.data,
             (size_t)(o->got.scales.rows * o->words) * 4, (size_t)o->words * 4);
    if (o->got.weights.data)
        same(r, "out_weights", o->got.weights.data, o->want.weights.data,
             (size_t)(o->got.weights.rows * (by_expert ? 1 : K)) * 4,
             (size_t)(by_expert ? 1 : K) * 4);
    if (o->got.probs.data)
        same(r, "out_probs", o->got.probs.data, o->want.probs.data,
             (size_t)(o->got.probs.rows * w->rank[r->rank].experts) * 4,
             (size_t)w->rank[r->rank].experts * 4 + !w->rank[r->rank].experts);
    if (o->got.ids.data)
        same(r, "out_ids", o->got.ids.data, o->want.ids.data,
             (size_t)(o->got.ids.rows * K * sy_ref_type_bytes(o->got.ids_type)),
             (size_t)(K * sy_ref_type_bytes(o->got.ids_type)));
    if (o->got.src.data)
        same(r, "out_src", o->got.src.data, o->want.src.data, (size_t)o->got.src.rows * 8, 8);
}

static void lend_dispatch(struct run *r, sy_dispatch_args *a)
{
    lend(r, &a->x, "x", 0, 0);
    lend(r, &a->scales, "scales", 0, 0);
    lend(r, &a->weights, "weights", 0, 0);
    lend(r, &a->probs, "probs", 0, 0);
    lend(r, &a->out_x, "out_x", out_place(r) == SY_CASE_HEAP, 1);
    lend(r, &a->out_scales, "out_scales", 0, 1);
    lend(r, &a->out_weights, "out_weights", 0, 1);
    lend(r, &a->out_probs, "out_probs", 0, 1);
    lend(r, &a->out_ids, "out_ids", 0, 1);
    lend(r, &a->out_src, "out_src", 0, 1);
}

static int check_dispatch(struct run *r, int first)
{
    const int keep = r->lent;
    struct inputs in;
    struct outputs o;
    sy_dispatch_args args;
    sy_tensor view;
    int good;
    memset(&args, 0, sizeof args);
    memset(&view, 0, sizeof view);
    make_inputs(r, &in, &args);
    make_outputs(r, &o, &args);
    args.view = &view;
    args.sms = sms_of(r->c);
    lend_dispatch(r, &args);
    good = run_halves(r, one_dispatch, &args, "sy_dispatch") && settle(r, first);
    recall(r, keep);
    if (good)
        compare_outputs(r, &o, &view);
    free_outputs(&o);
    free(in.x);
    free(in.scales);
    return good;
}

/* --- counts --------------------------------------------------------------------------------- */

static void same_words(struct run *r, const char *what, const sy_tensor *got, const int32_t *want)
{
    size_t n = (size_t)got->shape[0] * (size_t)(got->dims > 1 ? got->shape[1] : 1);
    void *copy = poisoned(n * 4);
    engine_get(r, copy, got->data, n * 4);
    same(r, what, copy, want, n * 4, 4);
    free(copy);
}

static void check_counts(struct run *r)
{
    const struct sy_ref_arrivals *a = r->ref->at + r->rank;
    sy_route_info info = {.size = sizeof info};
    int64_t totals[SY_TOTALS];
    if (!need(r, sy_route_info_get(r->route, &info), "sy_route_info_get"))
        return;
    same_words(r, "totals", &info.totals, a->totals);
    same_words(r, "expert_counts", &info.expert_counts, a->expert_counts);
    same_words(r, "expert_aligned", &info.expert_aligned, a->expert_aligned);
    same_words(r, "expert_offsets", &info.expert_offsets, a->expert_offsets);
    same_words(r, "source_counts", &info.source_counts, a->source_counts);
    same_words(r, "source_offsets", &info.source_offsets, a->source_offsets);
    same_words(r, "slab_begin", &info.slab_begin, a->slab_begin);
    same_words(r, "slab_count", &info.slab_count, a->slab_count);
    if (!need(r, sy_route_totals(r->route, totals), "sy_route_totals"))
        return;
    for (int i = 0; i < SY_TOTALS; i++)
        if (totals[i] != a->totals[i])
            differ(r, "rank %d: total %d is %lld, not %d", r->rank, i, (long long)totals[i],
                   a->totals[i]);
}

/* --- combine -------------------------------------------------------------------------------- */

static sy_status one_combine(struct run *r, void *args, int32_t phase)
{
    ((sy_combine_args *)args)->phase = phase;
    return sy_combine(r->route, args, stream_of(r));
}

static void make_combine(struct run *r, sy_combine_args *args, void *x, void *out,
                         float *out_weights, float *out_probs)
{
    const struct sy_case *c = r->c;
    const struct sy_ref_world *w = &c->world;
    const struct sy_ref_sum *s = c->sum + r->rank;
    int64_t n = c->rank[r->rank].out_rows, T = w->rank[r->rank].tokens, K = w->topk;
    sy_type type = (sy_type)c->sum_type;
    memset(args, 0, sizeof *args);
    args->size = sizeof *args;
    args->sms = sms_of(c);
    args->x = sy_tensor_2d(x, type, n, c->sum_hidden);
    args->out = sy_tensor_2d(T ? out : NULL, type, T, c->sum_hidden);
    if (s->weights)
        args->weights = sy_tensor_2d(T ? (void *)(uintptr_t)s->weights : NULL, SY_F32, T, K);
    for (int i = 0; i < 2; i++)
        if (s->bias[i] && T)
            args->bias[i] = sy_tensor_2d((void *)(uintptr_t)s->bias[i], type, T, c->sum_hidden);
    if (s->row_weights && sy_ref_by_expert(w->layout))
        args->row_weights = sy_tensor_1d((void *)(uintptr_t)s->row_weights, SY_F32, n);
    else if (s->row_weights)
        args->row_weights = sy_tensor_2d((void *)(uintptr_t)s->row_weights, SY_F32, n, K);
    if (s->row_probs)
        args->row_probs =
            sy_tensor_2d((void *)(uintptr_t)s->row_probs, SY_F32, n, w->rank[r->rank].experts);
    if (c->carry_weights && T)
        args->out_weights = sy_tensor_2d(out_weights, SY_F32, T, K);
    if (c->carry_probs && T)
        args->out_probs = sy_tensor_2d(out_probs, SY_F32, T, c->experts);
}

static void lend_combine(struct run *r, sy_combine_args *a)
{
    lend(r, &a->x, "x", r->c->rank[r->rank].sum_place == SY_CASE_HEAP, 0);
    lend(r, &a->weights, "weights", 0, 0);
    lend(r, &a->bias[0], "bias[0]", 0, 0);
    lend(r, &a->bias[1], "bias[1]", 0, 0);
    lend(r, &a->row_weights, "row_weights", 0, 0);
    lend(r, &a->row_probs, "row_probs", 0, 0);
    lend(r, &a->out, "out", 0, 1);
    lend(r, &a->out_weights, "out_weights", 0, 1);
    lend(r, &a->out_probs, "out_probs", 0, 1);
}

static void check_combine(struct run *r)
{
    const int keep = r->lent;
    const struct sy_case *c = r->c;
    const struct sy_ref_world *w = &c->world;
    struct sy_ref_sum *sums = malloc(sizeof *sums * (size_t)w->ranks), *s = sums + r->rank;
    int64_t n = c->rank[r->rank].out_rows, T = w->rank[r->rank].tokens;
    size_t row = (size_t)(c->sum_hidden * sy_ref_type_bytes(c->sum_type));
    size_t bytes = row * (size_t)T, wb = (size_t)(T * w->topk) * 4,
           pb = (size_t)(T * c->experts) * 4;
    uint8_t *x, *out = poisoned(bytes);
    float *weights = poisoned(wb), *probs = poisoned(pb);
    sy_combine_args args;
    int good;
    memcpy(sums, c->sum, sizeof *sums * (size_t)w->ranks);
    x = poisoned(row * (size_t)n);
    if (n)
        memcpy(x, s->x, row * (size_t)n);
    make_combine(r, &args, x, out, weights, probs);
    s->out = poisoned(bytes);
    s->out_weights = c->carry_weights ? poisoned(wb) : NULL;
    s->out_probs = c->carry_probs ? poisoned(pb) : NULL;
    lend_combine(r, &args);
    good = run_halves(r, one_combine, &args, "sy_combine") && settle(r, 0);
    recall(r, keep);
    if (good) {
        sy_ref_combine(w, r->ref, r->rank, c->sum_type, c->sum_hidden, sums);
        same(r, "out", out, s->out, bytes, row);
        if (s->out_weights)
            same(r, "combined weights", weights, s->out_weights, wb, (size_t)w->topk * 4);
        if (s->out_probs)
            same(r, "combined probs", probs, s->out_probs, pb, (size_t)c->experts * 4);
    }
    free(x);
    free(out);
    free(weights);
    free(probs);
    free(s->out);
    free(s->out_weights);
    free(s->out_probs);
    free(sums);
}

/* --- the run -------------------------------------------------------------------------------- */

void run_case_config(const struct sy_case *c, int rank, sy_group_config *config)
{
    const struct sy_ref_world *w = &c->world;
    int64_t out = 0;
    for (int r = 0; r < w->ranks; r++) {
        int64_t row = sy_ref_out_row_bytes(w), sum = c->sum_hidden * sy_ref_type_bytes(c->sum_type);
        int64_t bytes = c->rank[r].out_rows * (row > sum ? row : sum);
        out = bytes > out ? bytes : out;
    }
    memset(config, 0, sizeof *config);
    config->size = sizeof *config;
    config->engine = SY_ENGINE_CPU;
    config->rank = rank;
    config->ranks = w->ranks;
    config->modes = (uint32_t)c->mode;
    config->experts = c->experts;
    config->experts_per_rank = c->experts_per_rank;
    config->topk_max = c->topk_max;
    config->tokens_max = c->tokens_max;
    config->latency_tokens_max = c->latency_tokens_max;
    config->row_bytes_max = c->row_bytes_max;
    config->scale_words_max = c->scale_words_max;
    config->recv_rows_max = c->recv_rows_max;
    config->user_bytes = out + 4096;
    config->timeout_ns = 20000000000ull;
}

static int set_route(struct run *r)
{
    const struct sy_case *c = r->c;
    const struct sy_ref_rank *me = c->world.rank + r->rank;
    sy_route_input input = {.size = sizeof input, .sms = sms_of(c)};
    int64_t T = me->tokens, K = c->world.topk;
    int32_t *narrow = malloc((size_t)(T * K + 1) * sizeof *narrow);
    int good;
    for (int64_t i = 0; me->ids && i < T * K; i++)
        narrow[i] = (int32_t)me->ids[i];
    if (c->input == SY_U8)
        input.map = sy_tensor_2d((void *)(uintptr_t)me->map, SY_U8, T, c->experts);
    else if (c->input == SY_I64)
        input.ids = sy_tensor_2d((void *)(uintptr_t)me->ids, SY_I64, T, K);
    else
        input.ids = sy_tensor_2d(narrow, SY_I32, T, K);
    lend(r, &input.map, "map", 0, 0);
    lend(r, &input.ids, "ids", 0, 0);
    good = need(r, sy_route_set(r->route, &input, stream_of(r)), "sy_route_set");
    /* In latency mode the ids are borrowed until the first dispatch. */
    if (good && c->mode == SY_THROUGHPUT)
        good = settle(r, 1);
    if (good)
        good = check_dispatch(r, c->mode == SY_LATENCY);
    recall(r, 0);
    free(narrow);
    return good;
}

int run_case_on(const struct run_engine *engine, const struct sy_case *c,
                const struct sy_ref_route *ref, int rank, sy_group *group, int rounds,
                char text[512])
{
    struct run r = {
        .c = c, .ref = ref, .engine = engine, .rank = rank, .group = group, .text = text};
    sy_route_config config = {.size = sizeof config,
                              .mode = c->mode,
                              .layout = c->world.layout,
                              .topk = c->world.topk,
                              .alignment = c->world.alignment,
                              .capacity = c->world.rank[rank].capacity};
    text[0] = 0;
    if (!need(&r, sy_route_create(group, &config, NULL, &r.route), "sy_route_create"))
        return r.differences;
    if (set_route(&r)) {
        check_counts(&r);
        check_combine(&r);
        for (int i = 1; i < rounds && !r.differences; i++) {
            check_dispatch(&r, 0);
            check_combine(&r);
        }
    }
    sy_route_destroy(r.route);
    return r.differences;
}

int run_case(const struct sy_case *c, const struct sy_ref_route *ref, int rank, sy_group *group,
             int rounds, char text[512])
{
    return run_case_on(NULL, c, ref, rank, group, rounds, text);
}
