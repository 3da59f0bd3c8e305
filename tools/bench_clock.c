/* bench_clock.c - see bench_clock.h. Sections: order | the host's time | the GPU's time | making
 * groups | set-up. */
#define _GNU_SOURCE /* mkdtemp */
#include "bench_clock.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/probe.h"
#include "tool.h"

#define BATCH 20  /* operations of a graph; even, so that latency mode's two views alternate */
#define MAKINGS 5 /* of groups with GPUs, which take long */

/* --- order ---------------------------------------------------------------------------------- */

enum { SEQUENCE = 5 };

/* The operations of an iteration, in their order. */
static int sequence(const struct bed *bed, int op[SEQUENCE])
{
    const uint32_t ops = bed->c->ops;
    const int halves = bed->o->halves;
    int n = 0;
    if (bed->c->mode == SY_THROUGHPUT)
        op[n++] = OP_ROUTE;
    if (ops & (1u << OP_DISPATCH | 1u << OP_COMBINE)) {
        op[n++] = halves ? OP_DISPATCH_SEND : OP_DISPATCH;
        if (halves)
            op[n++] = OP_DISPATCH_RECEIVE;
    }
    if (ops & 1u << OP_COMBINE) {
        op[n++] = halves ? OP_COMBINE_SEND : OP_COMBINE;
        if (halves)
            op[n++] = OP_COMBINE_RECEIVE;
    }
    return n;
}

static int is_receive(int op)
{
    return op == OP_DISPATCH_RECEIVE || op == OP_COMBINE_RECEIVE;
}

/* All ranks are here. Processes that have cores of their own meet faster than by messages. */
static int meet(struct bed *bed)
{
    if (bed->e->kind == SY_ENGINE_CUDA)
        return world_align(bed->w);
    return bench_check(sy_group_barrier(bed->group), "sy_group_barrier");
}

/* --- the host's time ------------------------------------------------------------------------ */

/* A second half follows its first one at once: a barrier between them would do its waiting. */
static int timed(struct bed *bed, int op, gpu_graph_exec graph, uint64_t *ns)
{
    uint64_t begin;
    if (!is_receive(op) && meet(bed))
        return -1;
    begin = tool_now_ns();
    if (graph ? engine_graph_run(bed->e, graph) : bed_put(bed, op))
        return -1;
    if (bed_wait(bed, op))
        return -1;
    *ns += tool_now_ns() - begin;
    return 0;
}

static int capture_one(struct bed *bed, int op, gpu_graph_exec *graph)
{
    int bad = engine_graph_begin(bed->e);
    if (bad)
        return -1;
    bad = bed_put(bed, op);
    return engine_graph_end(bed->e, graph) || bad ? -1 : 0;
}

static int iterate(struct bed *bed, const int *op, int n, gpu_graph_exec *graphs, uint64_t *ns)
{
    for (int i = 0; i < n; i++)
        if (timed(bed, op[i], graphs[i], ns + op[i]))
            return -1;
    return 0;
}

static int time_host(struct bed *bed, struct clocks *k)
{
    gpu_graph_exec graphs[SEQUENCE] = {NULL};
    uint64_t ns[BENCH_OPS] = {0}, dropped[BENCH_OPS] = {0};
    int op[SEQUENCE], n = sequence(bed, op), bad = 0;
    for (int i = 0; bed->o->graph && i < n && !bad; i++)
        bad = capture_one(bed, op[i], graphs + i);
    for (int i = 0; i < bed->c->warmup && !bad; i++)
        bad = iterate(bed, op, n, graphs, dropped);
    for (int i = 0; i < bed->c->iters && !bad; i++)
        bad = iterate(bed, op, n, graphs, ns);
    for (int i = 0; i < n; i++) {
        engine_graph_free(bed->e, graphs[i]);
        k->us[op[i]][TIME_HOST] = (double)ns[op[i]] / bed->c->iters / 1000;
    }
    return bad;
}

/* --- the GPU's time ------------------------------------------------------------------------- */

/* A graph of BATCH times: all ranks meet if there is a probe, then the operation if there is one.
 */
static int capture_batch(struct bed *bed, int op, struct sy_probe *probe, gpu_graph_exec *graph)
{
    int bad = engine_graph_begin(bed->e);
    if (bad)
        return -1;
    for (int i = 0; i < BATCH && !bad; i++) {
        if (probe)
            bad = bench_check(sy_probe_meet(probe, bed->flags, 1, bed->e->stream), "a probe");
        if (!bad && op >= 0)
            bad = bed_put(bed, op);
    }
    return engine_graph_end(bed->e, graph) || bad ? -1 : 0;
}

/* Of one of the BATCH. */
static int time_batch(struct bed *bed, int op, struct sy_probe *probe, double *us)
{
    gpu_graph_exec graph = NULL;
    int replays = bed->c->iters / BATCH < 3 ? 3 : bed->c->iters / BATCH, bad;
    bad = capture_batch(bed, op, probe, &graph) || engine_graph_run(bed->e, graph) ||
          bench_check(sy_stream_sync(bed->group, bed->e->stream), "a graph") || meet(bed) ||
          engine_timer_begin(bed->e);
    for (int i = 0; i < replays && !bad; i++)
        bad = engine_graph_run(bed->e, graph);
    bad = bad || engine_timer_end(bed->e, us) ||
          bench_check(sy_stream_sync(bed->group, bed->e->stream), "a graph");
    engine_graph_free(bed->e, graph);
    *us /= (double)replays * BATCH;
    return bad ? -1 : 0;
}

/* Halves cannot be repeated alone, so each has events around it. */
static int time_halves(struct bed *bed, int send, struct clocks *k)
{
    const int receive = send + 1;
    for (int i = -bed->c->warmup; i < bed->c->iters; i++) {
        double us[2];
        if (meet(bed) || engine_timer_begin(bed->e) || bed_put(bed, send) ||
            engine_timer_end(bed->e, us) || engine_timer_begin(bed->e) || bed_put(bed, receive) ||
            engine_timer_end(bed->e, us + 1) || bed_wait(bed, receive))
            return -1;
        if (i < 0)
            continue;
        k->us[send][TIME_KERNEL] += us[0] / bed->c->iters;
        k->us[receive][TIME_KERNEL] += us[1] / bed->c->iters;
    }
    return 0;
}

static int time_gpu(struct bed *bed, struct sy_probe *probe, struct clocks *k)
{
    int op[SEQUENCE], n = sequence(bed, op);
    double alone = 0;
    int bad = bed->c->mode == SY_LATENCY && time_batch(bed, -1, probe, &alone);
    for (int i = 0; i < n && !bad; i++) {
        double *us = k->us[op[i]];
        if (op[i] == OP_DISPATCH_SEND || op[i] == OP_COMBINE_SEND)
            bad = time_halves(bed, op[i], k);
        if (bad || op[i] > OP_COMBINE)
            continue;
        bad = time_batch(bed, op[i], NULL, us + TIME_KERNEL);
        if (bad || bed->c->mode != SY_LATENCY)
            continue;
        bad = time_batch(bed, op[i], probe, us + TIME_ARRIVAL);
        us[TIME_ARRIVAL] -= alone;
    }
    return bad ? -1 : 0;
}

int clock_operations(struct bed *bed, struct clocks *k)
{
    struct sy_probe *probe = NULL;
    int bad = time_host(bed, k);
    if (!bad && bed->e->kind == SY_ENGINE_CUDA) {
        bad = bench_check(sy_probe_open(bed->group, &probe), "a probe") || time_gpu(bed, probe, k);
        sy_probe_close(probe);
    }
    /* Nobody leaves a group that others still use. */
    return bad || bench_check(sy_group_barrier(bed->group), "sy_group_barrier") ? -1 : 0;
}

/* --- making groups -------------------------------------------------------------------------- */

void clock_makings(const struct bench_options *o, const struct bench_case *c, int32_t *warmup,
                   int32_t *iters)
{
    const int few = o->engine == SY_ENGINE_CUDA;
    *iters = few && !o->iters && c->iters > MAKINGS ? MAKINGS : c->iters;
    *warmup = few && o->warmup < 0 ? 1 : c->warmup;
}

/* Groups are made and left again, with the ranks at a barrier before each. */
int clock_create(struct bed *bed, struct clocks *k)
{
    sy_group_config config;
    int32_t warmup, iters;
    uint64_t ns = 0;
    clock_makings(bed->o, bed->c, &warmup, &iters);
    bed_config(bed, &config);
    for (int i = -warmup; i < iters; i++) {
        sy_group *group;
        uint64_t begin;
        if (world_barrier(bed->w))
            return -1;
        begin = tool_now_ns();
        if (bench_check(sy_group_create(&config, &group), "sy_group_create"))
            return -1;
        ns += i < 0 ? 0 : tool_now_ns() - begin;
        if (bench_check(sy_group_barrier(group), "sy_group_barrier"))
            return -1;
        sy_group_destroy(group);
    }
    k->us[OP_CREATE][TIME_HOST] = (double)ns / iters / 1000;
    return 0;
}

/* --- set-up --------------------------------------------------------------------------------- */

/* From nothing until a batch has been there and back; the caller's buffers do not count. */
static int set_up(struct bed *bed, uint64_t *ns)
{
    uint64_t begin;
    int bad = bed_make_inputs(bed) || world_barrier(bed->w);
    if (bad)
        return -1;
    begin = tool_now_ns();
    if (bed_make_group(bed))
        return -1;
    *ns += tool_now_ns() - begin;
    if (bed_make_outputs(bed) || world_barrier(bed->w))
        return -1;
    begin = tool_now_ns();
    bad = bed->c->mode == SY_THROUGHPUT && bed_do(bed, OP_ROUTE);
    bad = bad || bed_do(bed, OP_DISPATCH);
    if (!bad && bed->c->sum_type != SY_NONE)
        bad = bed_do(bed, OP_COMBINE);
    *ns += tool_now_ns() - begin;
    return bad || bench_check(sy_group_barrier(bed->group), "sy_group_barrier") ? -1 : 0;
}

static int set_up_once(const struct bed *like, uint64_t *ns)
{
    struct bench_case c = *like->c;
    struct bed bed = {
        .o = like->o, .c = &c, .w = like->w, .e = like->e, .b = like->b, .t = like->t};
    int bad;
    c.ops |= 1u << OP_DISPATCH | (c.sum_type == SY_NONE ? 0 : 1u << OP_COMBINE);
    bad = set_up(&bed, ns);
    if (bad && bed.group)
        sy_group_abort(bed.group); /* nobody waits for us */
    bed_close(&bed);
    return bad;
}

/* A kernel cache of the ranks' own: all have the same new folder. */
static int enter_cache(struct world *w, char folder[WORLD_BYTES])
{
    const char *temporary = getenv("TMPDIR");
    char *all = calloc((size_t)w->ranks, WORLD_BYTES);
    int bad = all ? 0 : bench_fail("no memory");
    memset(folder, 0, WORLD_BYTES);
    if (!bad && w->rank == 0) {
        snprintf(folder, WORLD_BYTES, "%.200s/switchyard-bench-XXXXXX",
                 temporary && *temporary == '/' ? temporary : "/tmp");
        if (!mkdtemp(folder))
            bad = bench_fail_errno(folder);
    }
    bad = bad || world_gather(w, folder, all, WORLD_BYTES);
    if (!bad) {
        memcpy(folder, all, WORLD_BYTES);
        bad = setenv("XDG_CACHE_HOME", folder, 1) ? bench_fail_errno("setenv") : 0;
    }
    free(all);
    return bad;
}

static void leave_cache(struct world *w, const char *folder, const char *before)
{
    char path[WORLD_BYTES + 300];
    struct dirent *entry;
    DIR *files;
    if (before)
        setenv("XDG_CACHE_HOME", before, 1);
    else
        unsetenv("XDG_CACHE_HOME");
    if (w->rank)
        return;
    snprintf(path, sizeof path, "%s/switchyard", folder);
    files = opendir(path);
    while (files && (entry = readdir(files)) != NULL) {
        snprintf(path, sizeof path, "%s/switchyard/%.255s", folder, entry->d_name);
        unlink(path); /* not "." and "..", which are folders */
    }
    if (files)
        closedir(files);
    snprintf(path, sizeof path, "%s/switchyard", folder);
    rmdir(path);
    rmdir(folder);
}

/* Twice with a new cache: first it has no kernel, then all. */
static int set_up_cold_and_warm(struct bed *bed, uint64_t *cold, uint64_t *warm)
{
    const char *before = getenv("XDG_CACHE_HOME");
    char folder[WORLD_BYTES], kept[4096] = "";
    int bad;
    if (before)
        snprintf(kept, sizeof kept, "%s", before);
    bad = enter_cache(bed->w, folder) || set_up_once(bed, cold) || set_up_once(bed, warm) ||
          world_barrier(bed->w);
    leave_cache(bed->w, folder, before ? kept : NULL);
    return bad;
}

int clock_setup(struct bed *bed, struct clocks *k)
{
    int32_t warmup, iters;
    uint64_t cold = 0, warm = 0;
    clock_makings(bed->o, bed->c, &warmup, &iters);
    for (int i = -warmup; i < iters; i++) {
        if (i == 0)
            cold = warm = 0;
        if (bed->e->kind == SY_ENGINE_CUDA ? set_up_cold_and_warm(bed, &cold, &warm)
                                           : set_up_once(bed, &warm))
            return -1;
    }
    k->us[OP_SETUP][TIME_HOST] = (double)warm / iters / 1000;
    k->us[OP_SETUP_COLD][TIME_HOST] = (double)cold / iters / 1000;
    return 0;
}
