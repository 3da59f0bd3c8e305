/* ref.c - the reference's routes, dispatch and combine: see ref.h. */
#include "ref.h"

#include <stdlib.h>
#include <string.h>

#include "base/verify.h"

static void *allocate(int64_t count, size_t bytes)
{
    void *memory = calloc(count ? (size_t)count : 1, bytes);
    SY_ASSERT(memory);
    return memory;
}

/* The counts of sy_route_info are 32-bit numbers. */
static int32_t narrow(int64_t value)
{
    SY_ASSERT(value >= 0 && value <= INT32_MAX);
    return (int32_t)value;
}

int sy_ref_by_expert(int32_t layout)
{
    return layout == SY_EXPERT_PACKED || layout == SY_EXPERT_SLABS;
}

static int64_t experts_of(const struct sy_ref_world *w)
{
    int64_t experts = 0;
    for (int32_t r = 0; r < w->ranks; r++)
        experts += w->rank[r].experts;
    return experts;
}

int64_t sy_ref_rows(const struct sy_ref_world *world, int32_t rank)
{
    const struct sy_ref_rank *at = &world->rank[rank];
    switch (world->layout) {
    case SY_EXPERT_SLABS:
        return at->experts * at->capacity;
    case SY_RANK_MAJOR:
        return world->ranks * at->capacity;
    default:
        return at->capacity;
    }
}

static int64_t align_up(int64_t value, int32_t alignment)
{
    int64_t to = alignment ? alignment : 1;
    return (value + to - 1) / to * to;
}

/* ---- routes: what every token selects ---- */

static void report_bad(struct sy_ref_route *route, int32_t rank, int64_t token, int32_t k,
                       int64_t value)
{
    if (route->bad.any) /* ranks, tokens and k are read in ascending order */
        return;
    route->bad.any = 1;
    route->bad.rank = rank;
    route->bad.token = token;
    route->bad.k = k;
    route->bad.value = value;
}

/* Finds the holder of an expert of the group. */
static void select_expert(const struct sy_ref_world *w, struct sy_ref_selection *selection,
                          int64_t expert)
{
    selection->expert = (int32_t)expert;
    selection->local = (int32_t)expert;
    selection->rank = 0;
    while (selection->local >= w->rank[selection->rank].experts) {
        selection->local -= w->rank[selection->rank].experts;
        selection->rank++;
    }
}

static void read_ids(const struct sy_ref_world *w, int32_t s, struct sy_ref_route *route)
{
    const struct sy_ref_rank *from = &w->rank[s];
    int64_t experts = experts_of(w);
    for (int64_t t = 0; t < from->tokens; t++) {
        for (int32_t k = 0; k < w->topk; k++) {
            int64_t id = from->ids[t * w->topk + k];
            if (id >= 0 && id < experts)
                select_expert(w, &route->selection[s][t * w->topk + k], id);
            else if (id != -1)
                report_bad(route, s, t, k, id);
        }
    }
}

static void read_map(const struct sy_ref_world *w, int32_t s, struct sy_ref_route *route)
{
    const struct sy_ref_rank *from = &w->rank[s];
    int64_t experts = experts_of(w);
    for (int64_t t = 0; t < from->tokens; t++) {
        int32_t k = 0;
        for (int64_t e = 0; e < experts; e++) {
            if (!from->map[t * experts + e])
                continue;
            if (k < w->topk)
                select_expert(w, &route->selection[s][t * w->topk + k++], e);
            else
                report_bad(route, s, t, k, e);
        }
    }
}

static void read_selections(const struct sy_ref_world *w, struct sy_ref_route *route)
{
    for (int32_t s = 0; s < w->ranks; s++) {
        int64_t count = w->rank[s].tokens * w->topk;
        route->selection[s] = allocate(count, sizeof **route->selection);
        for (int64_t i = 0; i < count; i++)
            route->selection[s][i] = (struct sy_ref_selection){-1, -1, -1, -1};
        if (w->rank[s].ids)
            read_ids(w, s, route);
        else if (w->rank[s].map)
            read_map(w, s, route);
        else
            SY_ASSERT(count == 0);
    }
}

/* Whether k is the token's first selection on its rank. */
static int is_first(const struct sy_ref_selection *of_token, int32_t k)
{
    for (int32_t before = 0; before < k; before++)
        if (of_token[before].rank == of_token[k].rank)
            return 0;
    return 1;
}

/* ---- routes: counts and offsets ---- */

static void count_selections(const struct sy_ref_world *w, struct sy_ref_route *route)
{
    for (int32_t s = 0; s < w->ranks; s++) {
        for (int64_t t = 0; t < w->rank[s].tokens; t++) {
            const struct sy_ref_selection *of_token = route->selection[s] + t * w->topk;
            for (int32_t k = 0; k < w->topk; k++) {
                struct sy_ref_arrivals *at;
                if (of_token[k].rank < 0)
                    continue;
                at = &route->at[of_token[k].rank];
                at->expert_counts[of_token[k].local]++;
                at->slab_count[(int64_t)of_token[k].local * w->ranks + s]++;
                if (is_first(of_token, k))
                    at->source_counts[s]++;
            }
        }
    }
}

static void find_expert_offsets(const struct sy_ref_world *w, int32_t d,
                                struct sy_ref_arrivals *at)
{
    int64_t sum = 0;
    for (int32_t l = 0; l < w->rank[d].experts; l++) {
        int32_t inside = 0;
        at->expert_aligned[l] = narrow(align_up(at->expert_counts[l], w->alignment));
        at->expert_offsets[l] =
            narrow(w->layout == SY_EXPERT_SLABS ? l * w->rank[d].capacity : sum);
        sum += at->expert_aligned[l];
        for (int32_t s = 0; s < w->ranks; s++) {
            at->slab_begin[(int64_t)l * w->ranks + s] = inside;
            inside += at->slab_count[(int64_t)l * w->ranks + s];
        }
    }
    at->expert_offsets[w->rank[d].experts] =
        narrow(w->layout == SY_EXPERT_SLABS ? sy_ref_rows(w, d) : sum);
}

static void find_source_offsets(const struct sy_ref_world *w, int32_t d,
                                struct sy_ref_arrivals *at)
{
    int64_t sum = 0;
    for (int32_t s = 0; s < w->ranks; s++) {
        at->source_offsets[s] =
            narrow(w->layout == SY_RANK_MAJOR ? s * w->rank[d].capacity : sum);
        sum += at->source_counts[s];
    }
    at->source_offsets[w->ranks] = narrow(w->layout == SY_RANK_MAJOR ? sy_ref_rows(w, d) : sum);
}

static int32_t largest(const int32_t *values, int32_t count)
{
    int32_t most = 0;
    for (int32_t i = 0; i < count; i++)
        if (values[i] > most)
            most = values[i];
    return most;
}

/* All totals but those of dropped rows, which are known when rows have places. */
static void find_totals(const struct sy_ref_world *w, const struct sy_ref_route *route, int32_t d,
                        struct sy_ref_arrivals *at)
{
    int64_t tokens = 0;
    for (int32_t s = 0; s < w->ranks; s++)
        tokens += at->source_counts[s];
    at->totals[SY_TOTAL_TOKENS] = narrow(tokens);
    at->totals[SY_TOTAL_BAD] = route->bad.any;
    switch (w->layout) {
    case SY_TOKEN_MAJOR:
        at->totals[SY_TOTAL_ROWS] = narrow(tokens);
        break;
    case SY_EXPERT_PACKED:
        at->totals[SY_TOTAL_ROWS] = at->expert_offsets[w->rank[d].experts];
        break;
    case SY_EXPERT_SLABS:
        at->totals[SY_TOTAL_ROWS] = largest(at->expert_counts, w->rank[d].experts);
        break;
    default:
        SY_ASSERT(w->layout == SY_RANK_MAJOR);
        at->totals[SY_TOTAL_ROWS] = largest(at->source_counts, w->ranks);
    }
}

/* ---- routes: a place for every row ---- */

/* The place of the next row of (local expert, source); `before` rows precede it in its group, which
 * is the expert's or the source's. -1: dropped. */
static int64_t place_of(const struct sy_ref_world *w, const struct sy_ref_arrivals *at, int32_t d,
                        int32_t local, int32_t source, int64_t before)
{
    int64_t capacity = w->rank[d].capacity, place;
    switch (w->layout) {
    case SY_TOKEN_MAJOR:
        place = at->source_offsets[source] + before;
        return place < capacity ? place : -1;
    case SY_EXPERT_PACKED:
        place = at->expert_offsets[local] + before;
        return place < capacity ? place : -1;
    case SY_EXPERT_SLABS:
        return before < capacity ? local * capacity + before : -1;
    default:
        return before < capacity ? source * capacity + before : -1;
    }
}

/* Appends the row of selection k of a token to the list of its receiver. */
static void add_row(const struct sy_ref_world *w, struct sy_ref_arrivals *at,
                    struct sy_ref_selection *of_token, int32_t s, int64_t t, int32_t k,
                    int64_t *before)
{
    int by_expert = sy_ref_by_expert(w->layout);
    int32_t d = of_token[k].rank, local = of_token[k].local;
    int64_t place = place_of(w, at, d, local, s, before[by_expert ? local : s]++);
    at->row[at->rows++] =
        (struct sy_ref_row){s, (int32_t)t, by_expert ? k : -1, place};
    if (place < 0)
        at->totals[SY_TOTAL_DROPPED]++;
    at->totals[SY_TOTAL_OVERFLOW] = at->totals[SY_TOTAL_DROPPED] > 0;
    if (by_expert) {
        of_token[k].place = place;
        return;
    }
    for (int32_t other = 0; other < w->topk; other++)
        if (of_token[other].rank == d)
            of_token[other].place = place;
}

static void place_rows(const struct sy_ref_world *w, struct sy_ref_route *route, int32_t d)
{
    struct sy_ref_arrivals *at = &route->at[d];
    int by_expert = sy_ref_by_expert(w->layout);
    int64_t *before = allocate(by_expert ? w->rank[d].experts : w->ranks, sizeof *before);
    int64_t rows = 0;
    if (by_expert)
        for (int32_t l = 0; l < w->rank[d].experts; l++)
            rows += at->expert_counts[l];
    else
        rows = at->totals[SY_TOTAL_TOKENS];
    at->row = allocate(rows, sizeof *at->row);

    for (int32_t s = 0; s < w->ranks; s++) {
        for (int64_t t = 0; t < w->rank[s].tokens; t++) {
            struct sy_ref_selection *of_token = route->selection[s] + t * w->topk;
            for (int32_t k = 0; k < w->topk; k++)
                if (of_token[k].rank == d && (by_expert || is_first(of_token, k)))
                    add_row(w, at, of_token, s, t, k, before);
        }
    }
    SY_ASSERT(at->rows == rows);
    free(before);
}

void sy_ref_route(const struct sy_ref_world *world, struct sy_ref_route *route)
{
    int32_t ranks = world->ranks;
    route->ranks = ranks;
    route->selection = allocate(ranks, sizeof *route->selection);
    route->at = allocate(ranks, sizeof *route->at);
    for (int32_t d = 0; d < ranks; d++) {
        struct sy_ref_arrivals *at = &route->at[d];
        int64_t experts = world->rank[d].experts;
        SY_ASSERT(world->rank[d].capacity >= 1);
        at->expert_counts = allocate(experts, sizeof(int32_t));
        at->expert_aligned = allocate(experts, sizeof(int32_t));
        at->expert_offsets = allocate(experts + 1, sizeof(int32_t));
        at->source_counts = allocate(ranks, sizeof(int32_t));
        at->source_offsets = allocate(ranks + 1, sizeof(int32_t));
        at->slab_begin = allocate(experts * ranks, sizeof(int32_t));
        at->slab_count = allocate(experts * ranks, sizeof(int32_t));
    }

    read_selections(world, route);
    count_selections(world, route);
    for (int32_t d = 0; d < ranks; d++) {
        find_expert_offsets(world, d, &route->at[d]);
        find_source_offsets(world, d, &route->at[d]);
        find_totals(world, route, d, &route->at[d]);
        place_rows(world, route, d);
    }
}

void sy_ref_route_free(struct sy_ref_route *route)
{
    for (int32_t r = 0; r < route->ranks; r++) {
        struct sy_ref_arrivals *at = &route->at[r];
        free(at->expert_counts);
        free(at->expert_aligned);
        free(at->expert_offsets);
        free(at->source_counts);
        free(at->source_offsets);
        free(at->slab_begin);
        free(at->slab_count);
        free(at->row);
        free(route->selection[r]);
    }
    free(route->selection);
    free(route->at);
    *route = (struct sy_ref_route){0};
}

/* ---- dispatch ---- */

int64_t sy_ref_out_row_bytes(const struct sy_ref_world *world)
{
    int32_t type = world->quant == SY_QUANT_NONE ? world->type : SY_F8E4M3;
    return world->hidden * sy_ref_type_bytes(type);
}

int64_t sy_ref_out_scale_words(const struct sy_ref_world *world)
{
    int64_t blocks = (world->hidden + 127) / 128;
    switch (world->quant) {
    case SY_QUANT_NONE:
        return world->scale_words;
    case SY_QUANT_F8_UE8M0:
        return (blocks + 3) / 4;
    default:
        return blocks;
    }
}

/* NULL: this output is not wanted. */
static unsigned char *row_at(const struct sy_ref_output *output, int64_t row, int64_t row_bytes)
{
    if (!output->data)
        return NULL;
    SY_ASSERT(row >= 0 && row < output->rows);
    return (unsigned char *)output->data + row * row_bytes;
}

static void fill(const struct sy_ref_output *output, int64_t row_bytes, int value)
{
    if (output->data)
        memset(output->data, value, (size_t)(output->rows * row_bytes));
}

/* -1 has all bits set in any width. */
static void clear_outputs(const struct sy_ref_world *w, int32_t d,
                          const struct sy_ref_outputs *out)
{
    int by_expert = sy_ref_by_expert(w->layout);
    SY_ASSERT(!by_expert || (!out->probs.data && !out->ids.data));
    fill(&out->weights, by_expert ? 4 : 4 * w->topk, 0);
    fill(&out->probs, 4 * w->rank[d].experts, 0);
    if (out->ids.data)
        fill(&out->ids, w->topk * sy_ref_type_bytes(out->ids_type), 0xff);
    fill(&out->src, 8, 0xff);
}

/* The rows between the end of a group and the begin of the next, as far as there is room. */
static void clear_padding(const struct sy_ref_world *w, const struct sy_ref_arrivals *at, int32_t d,
                          const struct sy_ref_outputs *out)
{
    int64_t row_bytes = sy_ref_out_row_bytes(w), scale_bytes = 4 * sy_ref_out_scale_words(w);
    for (int32_t l = 0; l < w->rank[d].experts; l++) {
        int64_t end = at->expert_offsets[l] + at->expert_counts[l];
        for (int64_t row = end; row < at->expert_offsets[l + 1]; row++) {
            if (row >= w->rank[d].capacity)
                continue;
            if (out->x.data)
                memset(row_at(&out->x, row, row_bytes), 0, (size_t)row_bytes);
            if (out->scales.data)
                memset(row_at(&out->scales, row, scale_bytes), 0, (size_t)scale_bytes);
        }
    }
}

static void deliver_payload(const struct sy_ref_world *w, const struct sy_ref_row *row,
                            const struct sy_ref_outputs *out)
{
    const struct sy_ref_rank *from = &w->rank[row->source];
    int64_t in_bytes = w->hidden * sy_ref_type_bytes(w->type);
    int64_t out_bytes = sy_ref_out_row_bytes(w), scale_words = sy_ref_out_scale_words(w);
    const unsigned char *in = (const unsigned char *)from->x + row->token * in_bytes;
    unsigned char *x = row_at(&out->x, row->place, out_bytes);
    unsigned char *scales = row_at(&out->scales, row->place, 4 * scale_words);
    if (w->quant == SY_QUANT_NONE) {
        if (x)
            memcpy(x, in, (size_t)in_bytes);
        if (scales && scale_words)
            memcpy(scales, from->scales + row->token * scale_words, (size_t)(4 * scale_words));
    } else {
        uint8_t *q = allocate(out_bytes, 1);
        uint32_t *words = allocate(scale_words, 4);
        SY_ASSERT(w->type == SY_BF16);
        sy_ref_quantize(w->quant, in, w->hidden, q, words);
        if (x)
            memcpy(x, q, (size_t)out_bytes);
        if (scales)
            memcpy(scales, words, (size_t)(4 * scale_words));
        free(q);
        free(words);
    }
}

/* The weight of (t, k) as its source gave it. */
static const float *weight_of(const struct sy_ref_world *w, const struct sy_ref_route *route,
                              int32_t s, int64_t t, int32_t k)
{
    const struct sy_ref_rank *from = &w->rank[s];
    if (from->weights)
        return from->weights + t * w->topk + k;
    SY_ASSERT(from->probs);
    return from->probs + t * experts_of(w) + route->selection[s][t * w->topk + k].expert;
}

/* A sum of weights that travel: a single one keeps its bits, NaN payload and sign of zero included;
 * several are added from +0. */
struct weight_sum {
    int count;
    float single, sum;
};

static void add_weight(struct weight_sum *to, const float *weight)
{
    memcpy(&to->single, weight, sizeof to->single);
    to->sum = sy_ref_add(to->sum, *weight);
    to->count++;
}

static void store_weight_sum(const struct weight_sum *sum, float *at)
{
    if (sum->count == 0)
        memset(at, 0, sizeof *at);
    else if (sum->count == 1)
        memcpy(at, &sum->single, sizeof *at);
    else
        sy_ref_store(SY_F32, at, 0, sum->sum);
}

static void store_id(void *ids, int32_t type, int64_t index, int32_t id)
{
    int64_t wide = id;
    if (type == SY_I64)
        memcpy((unsigned char *)ids + index * 8, &wide, sizeof wide);
    else
        memcpy((unsigned char *)ids + index * 4, &id, sizeof id);
}

/* Weights, probs and ids of a row that carries a whole token. */
static void deliver_token(const struct sy_ref_world *w, const struct sy_ref_route *route, int32_t d,
                          const struct sy_ref_row *row, const struct sy_ref_outputs *out)
{
    const struct sy_ref_selection *of_token =
        route->selection[row->source] + (int64_t)row->token * w->topk;
    int64_t id_bytes = out->ids.data ? sy_ref_type_bytes(out->ids_type) : 0;
    float *weights = (float *)(void *)row_at(&out->weights, row->place, 4 * w->topk);
    float *probs = (float *)(void *)row_at(&out->probs, row->place, 4 * w->rank[d].experts);
    void *ids = row_at(&out->ids, row->place, id_bytes * w->topk);
    for (int32_t k = 0; k < w->topk; k++) {
        if (of_token[k].rank != d)
            continue;
        if (weights)
            memcpy(weights + k, weight_of(w, route, row->source, row->token, k), sizeof *weights);
        if (ids)
            store_id(ids, out->ids_type, k, of_token[k].local);
    }
    for (int32_t l = 0; probs && l < w->rank[d].experts; l++) {
        struct weight_sum sum = {0};
        for (int32_t k = 0; k < w->topk; k++)
            if (of_token[k].rank == d && of_token[k].local == l)
                add_weight(&sum, weight_of(w, route, row->source, row->token, k));
        store_weight_sum(&sum, probs + l);
    }
}

void sy_ref_dispatch(const struct sy_ref_world *world, const struct sy_ref_route *route,
                     int32_t rank, const struct sy_ref_outputs *outputs)
{
    const struct sy_ref_arrivals *at = &route->at[rank];
    clear_outputs(world, rank, outputs);
    if (world->layout == SY_EXPERT_PACKED)
        clear_padding(world, at, rank, outputs);
    for (int64_t i = 0; i < at->rows; i++) {
        const struct sy_ref_row *row = &at->row[i];
        int32_t source_and_token[2] = {row->source, row->token};
        if (row->place < 0)
            continue;
        deliver_payload(world, row, outputs);
        if (outputs->src.data)
            memcpy(row_at(&outputs->src, row->place, 8), source_and_token, 8);
        if (!sy_ref_by_expert(world->layout))
            deliver_token(world, route, rank, row, outputs);
        else if (outputs->weights.data)
            memcpy(row_at(&outputs->weights, row->place, 4),
                   weight_of(world, route, row->source, row->token, row->k), 4);
    }
}

/* ---- combine ---- */

/* What a term of the sum is made of: a row of a rank, and its weight. */
struct part {
    int64_t place;
    float weight;
};

/* The parts of term(t, r); `weights` is that of the token's owner or NULL. Returns their number. */
static int32_t find_parts(const struct sy_ref_world *w, const struct sy_ref_selection *of_token,
                          const float *weights, int32_t r, struct part *parts)
{
    int32_t count = 0;
    for (int32_t k = 0; k < w->topk; k++) {
        float weight = weights ? weights[k] : 1;
        if (of_token[k].rank != r || of_token[k].place < 0)
            continue;
        if (sy_ref_by_expert(w->layout)) {
            parts[count++] = (struct part){of_token[k].place, weight};
        } else if (count == 0) {
            parts[count++] = (struct part){of_token[k].place, sy_ref_add(0, weight)};
        } else {
            SY_ASSERT(parts[0].place == of_token[k].place);
            parts[0].weight = sy_ref_add(parts[0].weight, weight);
        }
    }
    return count;
}

/* Adds term(t, r), element by element. */
static void add_term(int32_t layout, int32_t type, int64_t hidden, const void *x, int weighted,
                     const struct part *parts, int32_t count, float *sum)
{
    for (int64_t h = 0; h < hidden; h++) {
        float term = 0;
        for (int32_t i = 0; i < count; i++) {
            float value = sy_ref_load(type, x, parts[i].place * hidden + h);
            if (weighted)
                value = sy_ref_mul(parts[i].weight, value);
            term = sy_ref_by_expert(layout) ? sy_ref_add(term, value) : value;
        }
        if (sy_ref_by_expert(layout))
            term = sy_ref_decode(type, sy_ref_encode(type, term));
        sum[h] = sy_ref_add(sum[h], term);
    }
}

static void combine_rows(const struct sy_ref_world *w, const struct sy_ref_route *route,
                         int32_t rank, int32_t type, int64_t hidden, const struct sy_ref_sum *sums)
{
    const struct sy_ref_sum *own = &sums[rank];
    float *sum = allocate(hidden, sizeof *sum);
    struct part *parts = allocate(w->topk, sizeof *parts);
    for (int64_t t = 0; t < w->rank[rank].tokens; t++) {
        const struct sy_ref_selection *of_token = route->selection[rank] + t * w->topk;
        const float *weights = own->weights ? own->weights + t * w->topk : NULL;
        for (int64_t h = 0; h < hidden; h++) {
            sum[h] = 0;
            for (int b = 0; b < 2; b++)
                if (own->bias[b])
                    sum[h] = sy_ref_add(sum[h], sy_ref_load(type, own->bias[b], t * hidden + h));
        }
        for (int32_t r = 0; r < w->ranks; r++) {
            int32_t count = find_parts(w, of_token, weights, r, parts);
            if (count)
                add_term(w->layout, type, hidden, sums[r].x, weights != NULL, parts, count, sum);
        }
        for (int64_t h = 0; h < hidden; h++)
            sy_ref_store(type, own->out, t * hidden + h, sum[h]);
    }
    free(sum);
    free(parts);
}

/* The value that comes back for a selection; NULL: nobody sent one. */
static const float *carried(const struct sy_ref_world *w, const struct sy_ref_selection *of_token,
                            int32_t k, const struct sy_ref_sum *sums)
{
    int32_t r = of_token[k].rank;
    int64_t place = of_token[k].place;
    if (r < 0 || place < 0)
        return NULL;
    if (sums[r].row_probs) {
        SY_ASSERT(!sy_ref_by_expert(w->layout));
        return sums[r].row_probs + place * w->rank[r].experts + of_token[k].local;
    }
    if (!sums[r].row_weights)
        return NULL;
    return sums[r].row_weights + (sy_ref_by_expert(w->layout) ? place : place * w->topk + k);
}

static void carry_back(const struct sy_ref_world *w, const struct sy_ref_route *route, int32_t rank,
                       const struct sy_ref_sum *sums)
{
    const struct sy_ref_sum *own = &sums[rank];
    int64_t experts = experts_of(w);
    for (int64_t t = 0; t < w->rank[rank].tokens; t++) {
        const struct sy_ref_selection *of_token = route->selection[rank] + t * w->topk;
        for (int32_t k = 0; own->out_weights && k < w->topk; k++) {
            const float *value = carried(w, of_token, k, sums);
            float *to = own->out_weights + t * w->topk + k;
            if (value)
                memcpy(to, value, sizeof *to);
            else
                memset(to, 0, sizeof *to);
        }
        for (int64_t e = 0; own->out_probs && e < experts; e++) {
            struct weight_sum sum = {0};
            for (int32_t k = 0; k < w->topk; k++) {
                const float *value = carried(w, of_token, k, sums);
                if (of_token[k].expert == e) /* what nobody sent is 0, also in a sum */
                    add_weight(&sum, value ? value : &(const float){0});
            }
            store_weight_sum(&sum, own->out_probs + t * experts + e);
        }
    }
}

void sy_ref_combine(const struct sy_ref_world *world, const struct sy_ref_route *route,
                    int32_t rank, int32_t type, int64_t hidden, const struct sy_ref_sum *sums)
{
    SY_ASSERT(type == SY_BF16 || type == SY_F16 || type == SY_F32);
    if (sums[rank].out)
        combine_rows(world, route, rank, type, hidden, sums);
    carry_back(world, route, rank, sums);
}
