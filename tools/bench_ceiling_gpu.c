/* bench_ceiling_gpu.c - see bench_ceiling_gpu.h; what is measured stands in the help of bench.
 *
 * Bare copies run in kernels made of the same primitives as the operations (device/k_probe.h), on
 * all GPUs at once. How fast stores may follow each other before the links become slower is not
 * known beforehand: rates around what they carry unpaced are tried. Sections: running | stores |
 * the rest. */
#include "bench_ceiling_gpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/probe.h"
#include "tool.h"

#define AREA_BYTES (256ll << 20) /* several times the second-level cache */
#define FIRST_BYTES (64ll << 20) /* of a rank in a pass, until it is known how fast they go */
#define PASS_US 3000             /* of a pass then, so that beginning and end do not count */
#define PASSES 3
#define STORE_BYTES 3584 /* of one store, as those of operations: even, and not too many */
#define LOAD_BYTES 14336
#define WARPS 4
#define TURNS 2000
#define LAUNCHES 200
#define LEAST_OFFER 0.90 /* of the unpaced rate */
#define MOST_OFFER 1.16
#define OFFER_STEP 0.02

struct range {
    struct world *w;
    struct engine *e;
    sy_group *group;
    struct sy_probe *probe;
    uint8_t *area, *flags;
    uint8_t *source;
    int64_t pass_bytes;
    struct bench_ceiling *out;
    int n;
};

/* --- running -------------------------------------------------------------------------------- */

static struct bench_ceiling *add(struct range *r, int kind, double value)
{
    struct bench_ceiling *c = r->out + r->n++;
    memset(c, 0, sizeof *c);
    c->kind = kind;
    c->ranks = r->w->ranks;
    c->value = value;
    return c;
}

/* Of all ranks, the average. */
static int average(struct range *r, double mine, double *value)
{
    double *all = calloc((size_t)r->w->ranks, sizeof *all);
    int bad = all ? world_gather(r->w, &mine, all, sizeof mine) : bench_fail("no memory");
    *value = 0;
    for (int32_t i = 0; !bad && i < r->w->ranks; i++)
        *value += all[i] / r->w->ranks;
    free(all);
    return bad;
}

static int settle(struct range *r)
{
    return bench_check(sy_stream_sync(r->group, r->e->stream), "a ceiling");
}

/* GB/s of each rank, with all at work. */
static int copies(struct range *r, int load, int32_t sms, double offer, double *gbps)
{
    const int64_t piece = load ? LOAD_BYTES : STORE_BYTES;
    const struct sy_probe_copies what = {.load = load,
                                         .blocks = sms,
                                         .warps = WARPS,
                                         .pieces = (int32_t)(r->pass_bytes / piece),
                                         .piece_bytes = piece,
                                         .gbps = offer,
                                         .area = r->area,
                                         .area_bytes = AREA_BYTES,
                                         .source = r->source,
                                         .source_bytes = piece};
    double us = 0;
    if (bench_check(sy_probe_copies(r->probe, &what, r->e->stream), "a ceiling") || settle(r) ||
        world_align(r->w) || engine_timer_begin(r->e))
        return -1;
    for (int i = 0; i < PASSES; i++)
        if (bench_check(sy_probe_copies(r->probe, &what, r->e->stream), "a ceiling"))
            return -1;
    if (engine_timer_end(r->e, &us) || settle(r) || average(r, us, &us))
        return -1;
    *gbps = (double)what.pieces * (double)piece * PASSES / us / 1000;
    return 0;
}

/* --- stores --------------------------------------------------------------------------------- */

static const int32_t sms_tried[] = {4, 8, 16, 24, 32, 64, 1024};
#define SMS_TRIED ((int)(sizeof sms_tried / sizeof *sms_tried))

/* The n-th number of SMs to try on this GPU; 0: no more. */
static int32_t sms_at(const struct engine *e, int n)
{
    if (n == SMS_TRIED || (n && sms_tried[n - 1] >= e->sms))
        return 0;
    return sms_tried[n] < e->sms ? sms_tried[n] : e->sms;
}

/* The best rate for `unpaced` as the measure of what to offer. */
static int paced(struct range *r, int32_t sms, double unpaced, double *gbps, double *offer)
{
    *gbps = *offer = 0;
    for (double part = LEAST_OFFER; part <= MOST_OFFER; part += OFFER_STEP) {
        double reached;
        if (copies(r, 0, sms, part * unpaced, &reached))
            return -1;
        if (reached > *gbps) {
            *gbps = reached;
            *offer = part * unpaced;
        }
    }
    return 0;
}

static int stores(struct range *r, double *best)
{
    double unpaced = 0, gbps, offer;
    if (copies(r, 0, r->e->sms, 0, &gbps))
        return -1;
    r->pass_bytes = (int64_t)(gbps * 1e3 * PASS_US);
    if (r->pass_bytes < LOAD_BYTES)
        r->pass_bytes = LOAD_BYTES;
    for (int i = 0; sms_at(r->e, i); i++) {
        struct bench_ceiling *c;
        if (copies(r, 0, sms_at(r->e, i), 0, &gbps))
            return -1;
        c = add(r, CEILING_STORES, gbps);
        c->sms = sms_at(r->e, i);
        c->row_bytes = STORE_BYTES;
        snprintf(c->how, sizeof c->how, "as fast as they are taken");
        unpaced = gbps > unpaced ? gbps : unpaced;
    }
    *best = unpaced;
    for (int i = 0; sms_at(r->e, i); i++) {
        struct bench_ceiling *c;
        if (paced(r, sms_at(r->e, i), unpaced, &gbps, &offer))
            return -1;
        c = add(r, CEILING_PACED, gbps);
        c->sms = sms_at(r->e, i);
        c->row_bytes = STORE_BYTES;
        snprintf(c->how, sizeof c->how, "offered %.1f", offer);
        *best = gbps > *best ? gbps : *best;
    }
    return 0;
}

/* --- the rest ------------------------------------------------------------------------------- */

static int loads(struct range *r)
{
    for (int i = 0; sms_at(r->e, i); i++) {
        struct bench_ceiling *c;
        double gbps;
        if (copies(r, 1, sms_at(r->e, i), 0, &gbps))
            return -1;
        c = add(r, CEILING_LOADS, gbps);
        c->sms = sms_at(r->e, i);
        c->row_bytes = LOAD_BYTES;
        snprintf(c->how, sizeof c->how, "two of each of %d warps flying", WARPS);
    }
    return 0;
}

/* Rank 0 with each other rank in turn; the average of them. */
static int flag(struct range *r)
{
    double sum = 0, us = 0;
    struct bench_ceiling *c;
    for (int32_t p = 1; p < r->w->ranks; p++) {
        const int32_t partner = r->w->rank ? 0 : p;
        if (world_align(r->w))
            return -1;
        if (r->w->rank && r->w->rank != p)
            continue;
        if (bench_check(sy_probe_turns(r->probe, r->flags, partner, 16, r->e->stream), "a flag") ||
            engine_timer_begin(r->e) ||
            bench_check(sy_probe_turns(r->probe, r->flags, partner, TURNS, r->e->stream),
                        "a flag") ||
            engine_timer_end(r->e, &us) || settle(r))
            return -1;
        sum += us / TURNS;
    }
    /* What rank 0 has found, for all. */
    if (average(r, r->w->rank ? 0 : sum / (r->w->ranks - 1) * r->w->ranks, &us))
        return -1;
    c = add(r, CEILING_FLAG, us);
    snprintf(c->how, sizeof c->how, "rank 0 with each other in turn");
    return 0;
}

static int nothing(struct range *r)
{
    return bench_check(sy_probe_meet(r->probe, r->flags, 0, r->e->stream), "a launch");
}

/* Launches of a kernel that does nothing: each by itself, and in a graph. */
static int launches(struct range *r)
{
    struct bench_ceiling *c;
    gpu_graph_exec graph = NULL;
    uint64_t begin = 0;
    double us = 0;
    int bad;
    for (int i = -8; i < LAUNCHES; i++) {
        if (i == 0)
            begin = tool_now_ns();
        if (nothing(r) || settle(r))
            return -1;
    }
    if (average(r, (double)(tool_now_ns() - begin) / LAUNCHES / 1000, &us))
        return -1;
    c = add(r, CEILING_LAUNCH, us);
    snprintf(c->how, sizeof c->how, "an empty kernel, as the host sees it");
    bad = engine_graph_begin(r->e);
    for (int i = 0; !bad && i < LAUNCHES; i++)
        bad = nothing(r);
    bad = engine_graph_end(r->e, &graph) || bad || engine_graph_run(r->e, graph) ||
          engine_timer_begin(r->e) || engine_graph_run(r->e, graph) ||
          engine_timer_end(r->e, &us) || settle(r);
    engine_graph_free(r->e, graph);
    if (bad || average(r, us / LAUNCHES, &us))
        return -1;
    c = add(r, CEILING_GRAPH, us);
    snprintf(c->how, sizeof c->how, "an empty kernel after another");
    return 0;
}

static int local(struct range *r)
{
    struct bench_ceiling *c;
    double us = 0;
    for (int i = -1; i < PASSES; i++)
        if ((i == 0 && engine_timer_begin(r->e)) ||
            engine_copy(r->e, r->area, r->area + AREA_BYTES / 2, AREA_BYTES / 2))
            return -1;
    if (engine_timer_end(r->e, &us) || average(r, us, &us))
        return -1;
    c = add(r, CEILING_LOCAL, (double)AREA_BYTES * PASSES / us / 1000);
    snprintf(c->how, sizeof c->how, "the driver's; read and written");
    return 0;
}

static int open_range(struct range *r)
{
    const size_t flags_bytes = SY_PROBE_FLAGS(r->w->ranks);
    sy_group_config config = {.size = sizeof config,
                              .boot = SY_BOOT_ENV,
                              .engine = SY_ENGINE_CUDA,
                              .modes = SY_THROUGHPUT,
                              .experts = r->w->ranks,
                              .topk_max = 1,
                              .tokens_max = 1,
                              .row_bytes_max = 16,
                              .user_bytes = AREA_BYTES + (int64_t)flags_bytes + 256,
                              .timeout_ns = r->w->timeout_ns};
    void *flags = NULL, *area = NULL;
    if (bench_check(sy_group_create(&config, &r->group), "sy_group_create") ||
        bench_check(sy_alloc(r->group, flags_bytes, &flags), "sy_alloc") ||
        bench_check(sy_alloc(r->group, AREA_BYTES, &area), "sy_alloc") ||
        bench_check(sy_probe_open(r->group, &r->probe), "a probe"))
        return -1;
    r->flags = flags;
    r->area = area;
    r->source = engine_alloc(r->e, STORE_BYTES > LOAD_BYTES ? STORE_BYTES : LOAD_BYTES);
    return r->source && !engine_fill(r->e, flags, 0, flags_bytes) ? world_align(r->w) : -1;
}

int gpu_ceilings_measure(struct world *w, struct engine *e,
                         struct bench_ceiling out[GPU_CEILINGS_MAX], int *n, double *best)
{
    struct range r = {.w = w, .e = e, .out = out, .pass_bytes = FIRST_BYTES};
    int bad = open_range(&r);
    *best = 0;
    if (!bad && w->ranks > 1)
        bad = stores(&r, best) || loads(&r) || flag(&r);
    bad = bad || local(&r) || launches(&r) ||
          bench_check(sy_group_barrier(r.group), "sy_group_barrier");
    if (bad && r.group)
        sy_group_abort(r.group); /* nobody waits for us */
    sy_probe_close(r.probe);
    sy_group_destroy(r.group);
    if (r.source)
        engine_free(e, r.source);
    *n = r.n;
    return bad ? -1 : 0;
}
