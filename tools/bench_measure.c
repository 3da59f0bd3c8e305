/* bench_measure.c - see bench_measure.h. */
#include "bench_measure.h"

#include <stdlib.h>
#include <string.h>

#include "bench_clock.h"
#include "bench_verify.h"

/* All ranks' times, and for each operation minimum, average and maximum over the ranks. */
static int gather_times(struct world *w, const struct clocks *k, struct measured *m,
                        struct bench_spread us[BENCH_OPS][BENCH_TIMES])
{
    _Static_assert(sizeof k->us <= WORLD_BYTES, "they are gathered at once");
    m->us = calloc((size_t)w->ranks, sizeof k->us);
    if (!m->us)
        return bench_fail("no memory");
    if (world_gather(w, k->us, m->us, sizeof k->us))
        return -1;
    for (int i = 0; i < BENCH_OPS * BENCH_TIMES; i++) {
        struct bench_spread *s = &us[i / BENCH_TIMES][i % BENCH_TIMES];
        *s = (struct bench_spread){m->us[i], 0, m->us[i]};
        for (int32_t r = 0; r < w->ranks; r++) {
            double v = m->us[r * BENCH_OPS * BENCH_TIMES + i];
            s->min = v < s->min ? v : s->min;
            s->avg += v / w->ranks;
            s->max = v > s->max ? v : s->max;
        }
    }
    return 0;
}

static void fill_rates(const struct bench_case *c, const struct traffic *t, struct bench_result *r)
{
    struct bench_bytes bytes = bench_case_bytes(c, t, r->op == OP_COMBINE);
    double kernel = r->us[TIME_KERNEL].avg, us = kernel > 0 ? kernel : r->us[TIME_HOST].avg;
    r->bytes = bytes.moved;
    r->remote_bytes = bytes.remote;
    r->gbps = bytes.moved / us / 1000;
    r->remote_gbps = bytes.remote / us / 1000;
    r->nccl_gbps = bytes.nccl_ep / us / 1000;
    r->deepep_gbps = bytes.deepep / us / 1000;
}

static void fill_result(const struct bench_options *o, const struct bench_case *c,
                        const struct traffic *t, int op, const struct bench_spread us[BENCH_TIMES],
                        struct bench_result *r)
{
    memset(r, 0, sizeof *r);
    r->op = op;
    r->mode = c->mode;
    r->layout = c->layout;
    r->type = c->type;
    r->quant = c->quant;
    r->out = c->out;
    r->engine = o->engine;
    r->routing = (int32_t)o->routing;
    r->ranks = c->ranks;
    r->topk = c->topk;
    r->experts = c->experts;
    r->threads = c->threads;
    r->sms = c->sms;
    r->graph = o->graph;
    r->skew = o->routing == ROUTING_SKEW ? c->skew : 0;
    r->warmup = c->warmup;
    r->iters = c->iters;
    if (op == OP_CREATE || op == OP_SETUP || op == OP_SETUP_COLD)
        clock_makings(o, c, &r->warmup, &r->iters);
    r->verified = -1;
    r->tokens = c->tokens;
    r->hidden = c->hidden;
    memcpy(r->us, us, sizeof r->us);
    if (op == OP_DISPATCH || op == OP_COMBINE)
        fill_rates(c, t, r);
}

/* What was asked for, in terms of what is timed. */
static uint32_t timed_ops(const struct bench_options *o, const struct bench_case *c)
{
    uint32_t ops = c->ops;
    if (o->halves && ops & 1u << OP_DISPATCH)
        ops |= 1u << OP_DISPATCH_SEND | 1u << OP_DISPATCH_RECEIVE;
    if (o->halves && ops & 1u << OP_COMBINE)
        ops |= 1u << OP_COMBINE_SEND | 1u << OP_COMBINE_RECEIVE;
    if (o->halves)
        ops &= ~(1u << OP_DISPATCH | 1u << OP_COMBINE);
    if (o->engine == SY_ENGINE_CUDA && ops & 1u << OP_SETUP)
        ops |= 1u << OP_SETUP_COLD;
    return ops;
}

static int measure_batch(struct bed *bed, struct clocks *k, struct verdict *v,
                         sy_group_sizes *sizes)
{
    sy_group_info info = {.size = sizeof info};
    if (bed_open(bed) || bench_check(sy_group_info_get(bed->group, &info), "sy_group_info_get"))
        return -1;
    *sizes = info.sizes;
    if (!bed->o->verify)
        return clock_operations(bed, k);
    return verify_before(bed, v) || clock_operations(bed, k) || verify_after(bed, v) ? -1 : 0;
}

static int measure_all(struct bed *bed, uint32_t ops, struct clocks *k, struct verdict *v,
                       sy_group_sizes *sizes)
{
    const uint32_t makings = 1u << OP_CREATE | 1u << OP_SETUP | 1u << OP_SETUP_COLD;
    int bad = 0;
    if (ops & 1u << OP_CREATE)
        bad = clock_create(bed, k);
    if (!bad && ops & 1u << OP_SETUP)
        bad = clock_setup(bed, k);
    if (bad || !(ops & ~makings))
        return bad;
    bad = measure_batch(bed, k, v, sizes);
    if (bad && bed->group)
        sy_group_abort(bed->group); /* nobody waits for us */
    bed_close(bed);
    return bad;
}

int bench_measure(struct world *w, struct engine *e, const struct bench_options *o,
                  const struct bench_case *c, const struct traffic *t, struct measured *m)
{
    struct bed bed = {.o = o, .c = c, .w = w, .e = e, .b = bench_batch(o, c), .t = t};
    struct bench_spread us[BENCH_OPS][BENCH_TIMES];
    struct clocks k = {{{0}}};
    struct verdict v;
    uint32_t ops = timed_ops(o, c);
    memset(m, 0, sizeof *m);
    memset(&v, 0, sizeof v);
    for (int op = 0; op < BENCH_OPS; op++)
        v.verified[op] = -1;
    if (measure_all(&bed, ops, &k, &v, &m->sizes) || gather_times(w, &k, m, us))
        return -1;
    for (int op = 0; op < BENCH_OPS; op++) {
        if (!(ops >> op & 1))
            continue;
        fill_result(o, c, t, op, us[op], m->results + m->n);
        m->results[m->n].heap_bytes = (double)m->sizes.heap_bytes;
        m->results[m->n].device_bytes = (double)m->sizes.device_bytes;
        m->results[m->n++].verified = v.verified[op];
    }
    memcpy(m->wrong, v.text, sizeof v.text);
    return 0;
}

void bench_measured_free(struct measured *m)
{
    free(m->us);
    m->us = NULL;
}
