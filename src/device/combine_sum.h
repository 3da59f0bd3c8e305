/* combine_sum.h - the source of tokens in a combine: finishers, which sum the rows that came back.
 * See k_combine.h. */
#ifndef SY_DEVICE_COMBINE_SUM_H
#define SY_DEVICE_COMBINE_SUM_H

#include "combine.h"

/* How many row parts holders push for a token's counter: latency mode, for the token; else for its
 * chunk. */
SY_DEV sy_u32 sy_co_due(struct sy_ctx *c, const struct sy_co *o, sy_u32 token)
{
    const struct sy_combine_kargs *a = o->a;
    const sy_u32 *due = (const sy_u32 *)SY_ROUTE_AT(&a->r, due);
    sy_u32 n = 0;
    if (o->latency)
        return ((const sy_u32 *)SY_ROUTE_AT(&a->r, fan))[token] * a->s.parts;
    due += (token >> SY_CHUNK_SHIFT) * SY_RANKS(&a->d);
    SY_FOR (p, c, SY_RANKS(&a->d)) {
        n += o->rows_of[p] ? 0 : due[p];
    }
    return sy_sum(c, n) * a->s.parts;
}

/* Until the pushed rows of a token's counter are here; the first job of a counter settles it.
 * *last: the counter, by number, that this warp has waited for already. */
SY_DEV int sy_co_await(struct sy_ctx *c, const struct sy_co *o, sy_u32 token, int settle,
                       sy_u32 *last)
{
    const struct sy_combine_kargs *a = o->a;
    sy_u32 amount = SY_C_AMOUNT(&a->d, o->latency), n;
    sy_u32 *counter = sy_co_counter(o, a->d.heap, token);
    sy_u32 number = o->latency ? token : token >> SY_CHUNK_SHIFT;
    if (number == *last && !settle)
        return 1;
    *last = number;
    sy_u64 round = o->latency ? (o->op->epoch + 1) / 2 : o->op->epoch;
    n = sy_co_due(c, o, token);
    if (n &&
        !sy_wait_count(c, o->op, counter, SY_COUNTER_BASE(round, amount) + n, SY_FAULT_ROWS, ~0u))
        return 0;
    if (n && a->s.slots)
        sy_fence_loads(c);
    if (settle && c->lane == 0)
        sy_signal_add(counter, amount - n);
    return 1;
}

/* What a finisher asks for one unit ahead. */
struct sy_ahead {
    sy_u32 fan;
    struct sy_v16 dst; /* lane j has destination j; see sy_co_asks_dst() */
};

/* In latency mode a route has no more destinations than it counts. */
SY_DEV int sy_co_asks_dst(const struct sy_co *o)
{
    return SY_FAN(&o->a->r) <= SY_LANES && !o->latency;
}

SY_DEV struct sy_ahead sy_co_ask(struct sy_ctx *c, const struct sy_co *o, sy_u32 token)
{
    const struct sy_dev_route *r = &o->a->r;
    const struct sy_dst *dst =
        (const struct sy_dst *)SY_ROUTE_AT(r, dst) + (sy_u64)token * SY_FAN(r);
    struct sy_ahead ahead = {0, {{0, 0, 0, 0}}};
    ahead.fan = ((const sy_u32 *)SY_ROUTE_AT(r, fan))[token];
    if (sy_co_asks_dst(o) && c->lane < SY_FAN(r))
        ahead.dst = sy_own16(dst + c->lane);
    return ahead;
}

/* The terms of a token if each is one row, none weighted: lane j makes the j-th. Returns 0 if
 * they are not so. */
SY_DEV int sy_co_plain_terms(struct sy_ctx *c, const struct sy_co *o, sy_u32 token,
                             const struct sy_ahead *ahead, struct sy_term *terms)
{
    const struct sy_combine_kargs *a = o->a;
    const struct sy_dst *dst =
        (const struct sy_dst *)SY_ROUTE_AT(&a->r, dst) + (sy_u64)token * SY_FAN(&a->r);
    int by_expert = sy_by_expert(SY_LAYOUT(&a->r)), other = 0;
    if (a->weighted && !by_expert)
        return 0;
    SY_UNROLL(1)
    SY_FOR (j, c, ahead->fan) {
        struct sy_v16 to = sy_co_asks_dst(o) ? ahead->dst : sy_own16(dst + j);
        const sy_u8 *rows = o->rows_of[to.w[0]];
        other |= by_expert && rows;
        terms[j].row =
            rows ? rows + (sy_u64)to.w[1] * a->row_bytes : sy_co_row(o, a->d.heap, token, j);
        terms[j].weight = 0.0f;
        terms[j].flags = SY_TERM_ENDS;
    }
    return !sy_any(c, other);
}

/* The terms of a token in the order of ranks. Returns their number; *grouped: see sums.h. */
SY_DEV sy_u32 sy_co_terms(const struct sy_co *o, sy_u32 token, struct sy_term *terms,
                          sy_u32 *grouped)
{
    const struct sy_combine_kargs *a = o->a;
    sy_u32 K = SY_TOPK(&a->r), fan = ((const sy_u32 *)SY_ROUTE_AT(&a->r, fan))[token], n = 0;
    const struct sy_dst *dst =
        (const struct sy_dst *)SY_ROUTE_AT(&a->r, dst) + (sy_u64)token * SY_FAN(&a->r);
    const sy_s32 *ids = (const sy_s32 *)SY_ROUTE_AT(&a->r, ids) + (sy_u64)token * K;
    const sy_s32 *pos = (const sy_s32 *)SY_ROUTE_AT(&a->r, pos) + (sy_u64)token * K;
    const sy_u8 *w = a->weighted ? sy_out_at(&a->weights, token) : 0;
    int by_expert = sy_by_expert(SY_LAYOUT(&a->r));
    *grouped = 0;
    for (sy_u32 j = 0; j < fan; j++) {
        sy_u32 p = dst[j].rank;
        float sum = 0.0f;
        if (sy_co_tells_dropped(o) && sy_get32(sy_co_dropped(o, a->d.heap, token, j)))
            continue;
        if (by_expert && !o->rows_of[p]) {
            terms[n].flags = SY_TERM_ENDS;
            terms[n++].row = sy_co_row(o, a->d.heap, token, j);
            continue;
        }
        for (sy_u32 k = 0; k < K && (by_expert || w); k++) {
            if (ids[k] < 0 || sy_owner(&a->d, ids[k]) != p)
                continue;
            float v = w ? *(const float *)(w + (sy_s64)k * a->weights.stride1) : 0.0f;
            sum = sum + v;
            if (!by_expert || pos[k] < 0)
                continue;
            terms[n].row = o->rows_of[p] + (sy_u64)(sy_u32)pos[k] * a->row_bytes;
            terms[n].weight = v;
            terms[n++].flags = w ? SY_TERM_WEIGHTED : 0;
        }
        if (by_expert) {
            terms[n - 1].flags |= SY_TERM_ENDS;
            *grouped = 1;
            continue;
        }
        terms[n].row = o->rows_of[p] ? o->rows_of[p] + (sy_u64)dst[j].row * a->row_bytes
                                     : sy_co_row(o, a->d.heap, token, j);
        terms[n].weight = sum;
        terms[n++].flags = SY_TERM_ENDS | (w ? SY_TERM_WEIGHTED : 0);
    }
    return n;
}

/* The weight that came back for one selection. Per lane. */
SY_DEV float sy_co_weight(const struct sy_co *o, sy_u32 token, const sy_s32 *ids, sy_u32 k)
{
    const struct sy_combine_kargs *a = o->a;
    const struct sy_dst *dst =
        (const struct sy_dst *)SY_ROUTE_AT(&a->r, dst) + (sy_u64)token * SY_FAN(&a->r);
    sy_u32 fan = ((const sy_u32 *)SY_ROUTE_AT(&a->r, fan))[token];
    for (sy_u32 j = 0; ids[k] >= 0 && j < fan; j++)
        if (dst[j].rank == sy_owner(&a->d, ids[k]))
            return sy_bits_f32(sy_get32(sy_co_side(o, a->d.heap, token, j) + k));
    return 0.0f;
}

/* The weights that came back for a token. In out_probs those of equal ids add up, k ascending. */
SY_DEV void sy_co_weights(struct sy_ctx *c, const struct sy_co *o, sy_u32 token)
{
    const struct sy_combine_kargs *a = o->a;
    sy_u32 K = SY_TOPK(&a->r);
    const sy_s32 *ids = (const sy_s32 *)SY_ROUTE_AT(&a->r, ids) + (sy_u64)token * K;
    float *probs = a->out_probs.data ? (float *)sy_out_at(&a->out_probs, token) : 0;
    SY_FOR (e, c, probs ? a->d.experts : 0) {
        probs[e] = 0.0f;
    }
    sy_warp_sync(c);
    SY_FOR (k, c, K) {
        float v = sy_co_weight(o, token, ids, k);
        if (a->out_weights.data)
            *(float *)(sy_out_at(&a->out_weights, token) + (sy_s64)k * a->out_weights.stride1) = v;
        if (!probs || ids[k] < 0 || !sy_is_first_of(ids, k))
            continue;
        for (sy_u32 i = k + 1; i < K; i++)
            if (ids[i] == ids[k])
                v = sy_add_f32(v, sy_co_weight(o, token, ids, i));
        probs[ids[k]] = v;
    }
}

/* A finisher's work: jobs (sums of a token, or of a part of one) that are dealt out in the order of
 * tokens. It takes them in steps, and begins several: the terms of later ones are on their way into
 * its slots, each step's behind those of the step before, while it sums the first. */
struct sy_finisher {
    sy_u8 *memory;             /* see layout/shape.h */
    sy_u32 first, deal, count; /* its jobs are first + i * deal       */
    sy_u32 known;              /* jobs whose terms are known          */
    sy_u32 n, at, end;         /* of the last one: terms, bytes to be brought yet */
    sy_u32 begun, done;        /* steps                               */
    sy_u32 next, free;         /* slots: the next to be filled, and how many are free */
    sy_u32 last;               /* the counter that it waited for last */
    struct sy_ahead ahead;     /* of the next job                     */
};

SY_DEV struct sy_job *sy_job_at(const struct sy_co *o, const struct sy_finisher *f, sy_u32 i)
{
    sy_u32 at = i & (o->a->s.steps - 1u); /* a power of two */
    return (struct sy_job *)(f->memory + o->a->s.steps * 8u + at * SY_JOB_BYTES(SY_TOPK(&o->a->r)));
}
SY_DEV sy_gate *sy_step_gate(const struct sy_co *o, const struct sy_finisher *f, sy_u32 step)
{
    return (sy_gate *)f->memory + (step & (o->a->s.steps - 1u));
}
SY_DEV sy_u8 *sy_slots_of(const struct sy_co *o, const struct sy_finisher *f)
{
    return f->memory + SY_FINISHER_HEAD(o->a->s.steps, SY_TOPK(&o->a->r));
}
SY_DEV struct sy_term *sy_job_terms(struct sy_job *u)
{
    return (struct sy_term *)(u + 1);
}

/* Learns the terms of the next job. 0: the group is lost. */
SY_DEV int sy_co_know(struct sy_ctx *c, const struct sy_co *o, struct sy_finisher *f)
{
    const struct sy_combine_kargs *a = o->a;
    struct sy_job *u = sy_job_at(o, f, f->known);
    sy_u32 job = f->first + f->known * f->deal, grouped = 0;
    sy_u32 token = sy_quotient(job, a->s.by_splits), split = job - token * a->s.splits;
    int settle = split == 0 && (o->latency || (token & (SY_CHUNK_ROWS - 1u)) == 0), plain;
    f->n = f->ahead.fan;
    sy_warp_sync(c);
    plain = sy_co_plain_terms(c, o, token, &f->ahead, sy_job_terms(u)); /* before the rows come */
    if (!sy_co_await(c, o, token, settle, &f->last))
        return 0;
    if (!plain) {
        sy_warp_sync(c);
        f->n = sy_co_terms(o, token, sy_job_terms(u), &grouped);
    }
    f->at = split * a->s.split_bytes;
    f->end = sy_min_u32(f->at + a->s.split_bytes, a->row_bytes);
    if (c->lane == 0) {
        u->n = f->n;
        u->grouped = grouped;
        u->token = token;
        u->from = f->at;
        u->end = f->end;
    }
    sy_warp_sync(c);
    f->known++;
    if (f->known < f->count)
        f->ahead = sy_co_ask(c, o, sy_quotient(job + f->deal, a->s.by_splits));
    return 1;
}

/* Begins to load the terms of the next step; what no room could ever hold is read where it lies.
 * Returns 0 if there is no room yet. */
SY_DEV int sy_co_bring(struct sy_ctx *c, const struct sy_co *o, struct sy_finisher *f)
{
    const struct sy_combine_kargs *a = o->a;
    const struct sy_term *terms = sy_job_terms(sy_job_at(o, f, f->known - 1u));
    sy_u32 bytes = sy_min_u32(a->s.slot_bytes, f->end - f->at);
    sy_u32 held = f->n <= a->s.slots ? f->n : 0;
    sy_gate *gate = sy_step_gate(o, f, f->begun);
    if (f->begun - f->done == a->s.steps || held > f->free)
        return 0;
    sy_load_expect(c, gate, held * bytes);
    SY_UNROLL(1)
    for (sy_u32 i = 0; i < held; i++) {
        sy_load_bulk(c, gate, sy_slots_of(o, f) + f->next * a->s.slot_bytes, terms[i].row + f->at,
                     bytes);
        f->next = f->next + 1 < a->s.slots ? f->next + 1 : 0;
    }
    f->free -= held;
    f->at += bytes;
    f->begun++;
    return 1;
}

/* Begins steps while there is room. 0: the group is lost. */
SY_DEV int sy_co_begin_steps(struct sy_ctx *c, const struct sy_co *o, struct sy_finisher *f,
                             sy_u32 job)
{
    for (;;) {
        if (f->at == f->end) {
            if (f->known == f->count || f->known - job == o->a->s.steps)
                return 1;
            if (!sy_co_know(c, o, f))
                return 0;
        }
        if (!o->a->s.slots) {
            f->at = f->end;
            return 1;
        }
        if (!sy_co_bring(c, o, f))
            return 1;
    }
}

/* Sums a job, step by step; *slot: where its first term is. 0: the group is lost. */
SY_DEV int sy_co_job(struct sy_ctx *c, const struct sy_co *o, struct sy_finisher *f, sy_u32 job,
                     sy_u32 *slot)
{
    const struct sy_combine_kargs *a = o->a;
    struct sy_job *u = sy_job_at(o, f, job);
    struct sy_span span;
    sy_u32 end;
    if (!sy_co_begin_steps(c, o, f, job))
        return 0;
    span.terms = sy_job_terms(u);
    span.n = u->n;
    /* What is true anyway, so that sums that never occur are not compiled. */
    span.grouped = sy_by_expert(SY_LAYOUT(&a->r)) && u->grouped;
    span.weighted = a->weighted;
    span.staged = !o->latency && span.n <= a->s.slots && a->s.slots;
    span.stages = a->s.slots;
    span.stage_bytes = a->s.slot_bytes;
    span.ring = sy_slots_of(o, f);
    span.to = sy_out_at(&a->out, u->token);
    span.bias0 = a->bias0.data ? sy_out_at(&a->bias0, u->token) : 0;
    span.bias1 = a->bias1.data ? sy_out_at(&a->bias1, u->token) : 0;
    span.from = u->from;
    end = u->end;
    while (span.from < end) {
        span.end = sy_min_u32(span.from + a->s.slot_bytes, end);
        if (a->s.slots &&
            !sy_wait_load(c, o->op, sy_step_gate(o, f, f->done), (f->done & a->s.steps) != 0))
            return 0;
        sy_warp_sync(c);
        span.first = *slot;
        sy_sum_row(c, SY_TYPE(a), &span);
        sy_warp_sync(c);
        if (span.staged) {
            *slot += span.n;
            *slot -= *slot >= a->s.slots ? a->s.slots : 0;
            f->free += span.n;
        }
        f->done++;
        span.from = span.end;
        if (span.from < end && !sy_co_begin_steps(c, o, f, job))
            return 0;
    }
    if (u->from == 0 && (a->out_weights.data || a->out_probs.data))
        sy_co_weights(c, o, u->token);
    sy_warp_sync(c);
    return 1;
}

/* The group is lost: the loads that have begun still end. */
SY_DEV void sy_co_abandon_steps(struct sy_ctx *c, const struct sy_co *o, struct sy_finisher *f)
{
    while (f->done < f->begun &&
           sy_wait_load(c, o->op, sy_step_gate(o, f, f->done), (f->done & o->a->s.steps) != 0))
        f->done++;
}

/* Counters of tokens that this operation does not have get their amount here. */
SY_DEV void sy_co_unused(struct sy_ctx *c, const struct sy_co *o)
{
    const struct sy_combine_kargs *a = o->a;
    sy_u32 counters = o->latency ? a->d.lat_tokens_max : a->d.tc_chunks;
    sy_u32 used = o->latency ? a->tokens : sy_div_up(a->tokens, SY_CHUNK_ROWS);
    for (sy_u32 i = used + c->lane; i < counters; i += SY_LANES)
        sy_signal_add(sy_co_counter(o, a->d.heap, o->latency ? i : i << SY_CHUNK_SHIFT),
                      SY_C_AMOUNT(&a->d, o->latency));
}

/* A finisher, which asks for what its first job needs to know and no peer has to say. */
SY_DEV void sy_co_finisher(struct sy_ctx *c, const struct sy_co *o, sy_u32 finisher,
                           struct sy_finisher *f)
{
    const struct sy_combine_kargs *a = o->a;
    sy_u32 jobs = a->tokens * a->s.splits, K = SY_TOPK(&a->r);
    f->memory =
        o->sh.stages + (sy_u64)a->s.pushers * a->s.stages * a->s.stage_bytes +
        (sy_u64)finisher * SY_FINISHER_BYTES(a->s.steps, K, (sy_u64)a->s.slots, a->s.slot_bytes);
    f->first = c->block * a->s.finishers + finisher;
    f->deal = c->blocks * a->s.finishers;
    f->count = f->first < jobs ? sy_div_up(jobs - f->first, f->deal) : 0;
    f->known = f->n = f->at = f->end = f->begun = f->done = f->next = 0;
    f->free = a->s.slots;
    f->last = ~0u;
    SY_UNROLL(1)
    for (sy_u32 i = 0; i < a->s.steps; i++)
        sy_gate_init(c, sy_step_gate(o, f, i));
    if (f->count)
        f->ahead = sy_co_ask(c, o, sy_quotient(f->first, a->s.by_splits));
}

SY_DEV void sy_co_finish(struct sy_ctx *c, const struct sy_co *o, struct sy_finisher *f)
{
    sy_u32 slot = 0;
    if (o->a->s.slots) /* behind the barrier: peers' rows are loaded in bulk */
        sy_fence_loads(c);
    sy_warp_sync(c); /* gates are ready as well */
    SY_UNROLL(1)
    for (sy_u32 i = 0; i < f->count; i++)
        if (!sy_co_job(c, o, f, i, &slot)) {
            sy_co_abandon_steps(c, o, f);
            return;
        }
    if (f->first == 0)
        sy_co_unused(c, o);
}

#endif
