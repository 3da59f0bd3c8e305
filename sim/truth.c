/* truth.c - what the reference's route says about who writes where (struct sim_truth), and what
 * must come out of operations (struct sim_want). */
#include <stdlib.h>
#include <string.h>

#include "scenario.h"

/* --- truth ------------------------------------------------------------------------------------ */

static const struct sy_ref_selection *selections(const struct sim_setting *set, uint32_t source,
                                                 int64_t token)
{
    return set->ref.selection[source] + token * set->world.topk;
}

/* The ranks of a token, ascending, into d. In throughput mode those to which nothing is delivered
 * are left out. Returns how many. */
static uint32_t destinations(const struct sim_route *r, const struct sy_ref_selection *sel,
                             uint32_t ranks, int16_t *d)
{
    uint32_t n = 0;
    for (uint32_t p = 0; p < ranks; p++) {
        int any = 0, fits = 0;
        for (int32_t k = 0; k < r->topk; k++) {
            any |= sel[k].rank == (int32_t)p;
            fits |= sel[k].rank == (int32_t)p && sel[k].place >= 0;
        }
        if (r->mode == SY_LATENCY ? any : fits)
            d[n++] = (int16_t)p;
    }
    return n;
}

static void add_token(const struct sim_route *r, struct sim_setting *set, uint32_t s, int64_t token)
{
    struct sim_truth *t = &set->truth;
    const struct sy_ref_selection *sel = selections(set, s, token);
    int16_t *d = t->destination[s] + token * t->fan;
    uint32_t n;
    for (uint32_t p = 0; p < t->ranks; p++) {
        int any = 0;
        for (int32_t k = 0; k < r->topk; k++)
            any |= sel[k].rank == (int32_t)p;
        t->sent[s * t->ranks + p] += (uint32_t)any;
    }
    n = destinations(r, sel, t->ranks, d);
    for (; n < t->fan; n++)
        d[n] = -1;
    for (int32_t k = 0; k < r->topk; k++)
        if (sel[k].place >= 0)
            t->source[sel[k].rank][sel[k].place] = (int16_t)s;
}

void sim_truth_make(struct sim_scenario *sc, const struct sim_route *r, struct sim_setting *set)
{
    struct sim_truth *t = &set->truth;
    const struct sy_ref_world *w = &set->world;
    uint32_t R = sc->ranks;
    t->ranks = R;
    t->topk = (uint32_t)r->topk;
    t->fan = R < t->topk ? R : t->topk;
    t->tokens = sim_scenario_take(sc, R, sizeof *t->tokens);
    t->sent = sim_scenario_take(sc, R * R, sizeof *t->sent);
    t->base = sim_scenario_take(sc, R * (R + 1), sizeof *t->base);
    t->rows = sim_scenario_take(sc, R, sizeof *t->rows);
    t->source = sim_scenario_take(sc, R, sizeof *t->source);
    t->destination = sim_scenario_take(sc, R, sizeof *t->destination);
    for (uint32_t p = 0; p < R; p++) {
        t->tokens[p] = (uint32_t)w->rank[p].tokens;
        t->rows[p] = (uint32_t)sy_ref_rows(w, (int32_t)p);
        t->source[p] = sim_scenario_take(sc, t->rows[p] + 1, sizeof **t->source);
        memset(t->source[p], 0xff, (t->rows[p] + 1) * sizeof **t->source);
        t->destination[p] =
            sim_scenario_take(sc, (size_t)w->rank[p].tokens * t->fan + 1, sizeof(int16_t));
    }
    for (uint32_t s = 0; s < R; s++)
        for (int64_t token = 0; token < w->rank[s].tokens; token++)
            add_token(r, set, s, token);
    for (uint32_t p = 0; p < R; p++)
        for (uint32_t s = 0; s < R; s++)
            t->base[p * (R + 1) + s + 1] = t->base[p * (R + 1) + s] + t->sent[s * R + p];
}

/* --- what must come out ----------------------------------------------------------------------- */

static void *poisoned(struct sim_scenario *sc, int64_t rows, int64_t bytes)
{
    void *p = sim_scenario_take(sc, (size_t)(rows * bytes) + 1, 1);
    memset(p, SIM_POISON, (size_t)(rows * bytes));
    return p;
}

static struct sy_ref_output output(struct sim_scenario *sc, int wanted, int64_t rows, int64_t bytes)
{
    struct sy_ref_output o = {NULL, rows};
    if (wanted)
        o.data = poisoned(sc, rows, bytes);
    return o;
}

const struct sim_want *sim_want_dispatch(struct sim_scenario *sc, const struct sim_route *r,
                                         struct sim_setting *set, uint32_t rank)
{
    struct sim_want *want = set->want + rank;
    int64_t n = r->out_rows[rank], K = r->topk, L = sc->experts[rank];
    int by_expert = sy_ref_by_expert(r->layout);
    if (want->dispatched)
        return want;
    want->dispatched = 1;
    want->out.x = output(sc, 1, n, sy_ref_out_row_bytes(&set->world));
    want->out.scales = output(sc, r->outputs & 1, n, sy_ref_out_scale_words(&set->world) * 4);
    want->out.weights = output(sc, r->outputs & 2, n, by_expert ? 4 : K * 4);
    want->out.probs = output(sc, r->outputs & 4, n, L * 4);
    want->out.ids = output(sc, r->outputs & 8, n, K * 4);
    want->out.src = output(sc, r->outputs & 16, n, 8);
    want->out.ids_type = SY_I32;
    sy_ref_dispatch(&set->world, &set->ref, (int32_t)rank, &want->out);
    return want;
}

const struct sim_want *sim_want_combine(struct sim_scenario *sc, const struct sim_route *r,
                                        struct sim_setting *set, uint32_t rank, int from_view)
{
    struct sim_want *want = set->want + rank;
    int64_t T = set->world.rank[rank].tokens, bytes;
    struct sy_ref_sum *sums;
    if (want->combined && want->from_view == from_view)
        return want;
    want->combined = 1;
    want->from_view = from_view;
    bytes = r->sum_hidden * sy_ref_type_bytes(r->sum_type);
    sums = malloc(sc->ranks * sizeof *sums);
    if (!sums)
        return NULL;
    memcpy(sums, set->sum, sc->ranks * sizeof *sums);
    for (uint32_t p = 0; p < sc->ranks; p++)
        if (from_view && r->out_place[p] == SIM_IN_VIEW)
            sums[p].x = sim_want_dispatch(sc, r, set, p)->out.x.data;
    sums[rank].out = want->sum = poisoned(sc, T, bytes);
    if (r->out_weights)
        sums[rank].out_weights = want->sum_weights = poisoned(sc, T, r->topk * 4);
    if (r->out_probs)
        sums[rank].out_probs = want->sum_probs = poisoned(sc, T, sc->experts_all * 4);
    sy_ref_combine(&set->world, &set->ref, (int32_t)rank, r->sum_type, r->sum_hidden, sums);
    free(sums);
    return want;
}
