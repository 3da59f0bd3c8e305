/* bench.c - `switchyard bench`: one process conducts, N ranks measure.
 *
 * Without a launcher's environment this process starts itself again as N ranks (spawn.h), once for
 * each number of ranks that was asked for, and reports what rank 0 of each world sends. With one it
 * is a rank, and rank 0 reports itself. Sections: memory | ceilings | a rank | the conductor | the
 * command. */
#define _GNU_SOURCE
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench_ceiling.h"
#include "bench_ceiling_gpu.h"
#include "bench_engine.h"
#include "bench_measure.h"
#include "bench_report.h"
#include "bench_sink.h"
#include "bench_world.h"
#include "machine.h"
#include "spawn.h"
#include "tool.h"

#define RANKS 8 /* on the CPU, unless it is said otherwise */

/* What one rank needs all the time. */
struct player {
    struct bench_options o; /* with the engine that was found */
    struct world world;
    struct engine engine;
    struct sink sink;
    struct bench_ceiling *ceilings; /* of the CPU, measured so far */
    int ceilings_n;
    double stores; /* the ceiling of GPUs; 0: not measured */
    int wrong;     /* a result was not as the reference has it */
};

/* --- memory --------------------------------------------------------------------------------- */

static double gib(uint64_t bytes)
{
    return (double)bytes / (1 << 30);
}

/* What all ranks together may take: leaves the machine a fifth of what is available, and on GPUs as
 * much of theirs. */
static int allowance(struct player *p, uint64_t *bytes)
{
    const int32_t ranks = p->world.ranks, devices = p->engine.devices;
    struct machine m;
    *bytes = p->o.memory_bytes;
    if (*bytes)
        return 0;
    machine_look(&m);
    *bytes = m.available_bytes / 5 * 4;
    if (p->engine.kind == SY_ENGINE_CUDA) {
        if (engine_memory_free(&p->engine, bytes))
            return -1;
        *bytes = *bytes / 5 * 4 * (uint64_t)(ranks < devices ? ranks : devices);
    }
    return 0;
}

/* Traffic and room of a case. */
static int plan_case(const struct bench_options *o, struct bench_case *c, struct traffic *t)
{
    struct batch b = bench_batch(o, c);
    if (batch_traffic(&b, t))
        return bench_fail("no memory to plan %lld tokens", (long long)c->tokens);
    bench_case_room(c, &b, t);
    return 0;
}

/* Rank 0 looks at the memory, and all take its word: halves the tokens until the case fits. */
static int shrink_to_fit(struct player *p, struct bench_case *c)
{
    const int64_t wanted = c->tokens;
    uint64_t first = 0, most = 0;
    int64_t *all = calloc((size_t)p->world.ranks, sizeof *all);
    int bad = all ? allowance(p, &most) : bench_fail("no memory");
    while (!bad && p->world.rank == 0) {
        struct traffic t;
        uint64_t bytes;
        bad = plan_case(&p->o, c, &t);
        if (bad)
            break;
        bytes = bench_case_memory(&p->o, c, &t);
        batch_traffic_free(&t);
        first = first ? first : bytes;
        if (bytes <= most)
            break;
        if (c->tokens == 1)
            bad = bench_fail("this takes %.2f GiB even with one token per rank, and may take %.2f",
                             gib(bytes), gib(most));
        c->tokens = c->tokens > 1 ? c->tokens / 2 : 1;
    }
    bad = bad || world_gather(&p->world, &c->tokens, all, sizeof *all);
    if (!bad)
        c->tokens = all[0];
    free(all);
    if (!bad && c->tokens != wanted && p->world.rank == 0)
        sink_notice(&p->sink,
                    "%lld tokens per rank would take %.2f GiB, and may take %.2f: %lld tokens "
                    "instead",
                    (long long)wanted, gib(first), gib(most), (long long)c->tokens);
    return bad ? -1 : 0;
}

/* --- ceilings ------------------------------------------------------------------------------- */

/* Those of GPUs do not depend on a case. */
static int find_gpu_ceilings(struct player *p)
{
    struct bench_ceiling ceilings[GPU_CEILINGS_MAX];
    int n = 0;
    const uint32_t rated = 1u << OP_DISPATCH | 1u << OP_COMBINE;
    if (p->engine.kind != SY_ENGINE_CUDA || p->o.no_ceilings || (p->o.ops && !(p->o.ops & rated)))
        return 0;
    if (gpu_ceilings_measure(&p->world, &p->engine, ceilings, &n, &p->stores))
        return -1;
    for (int i = 0; i < n && p->world.rank == 0; i++)
        sink_ceiling(&p->sink, ceilings + i);
    return 0;
}

/* The ceiling `copy` of rows of this size, measured when it is needed first. */
static int find_ceiling(struct player *p, const struct bench_case *c, const struct traffic *t,
                        int64_t row_bytes, double *gbps)
{
    struct batch b = bench_batch(&p->o, c);
    struct bench_ceiling *longer;
    for (int i = 0; i < p->ceilings_n; i++) {
        const struct bench_ceiling *known = p->ceilings + i;
        if (known->kind == CEILING_COPY && known->tokens == c->tokens &&
            known->row_bytes == row_bytes) {
            *gbps = known->value;
            return 0;
        }
    }
    longer = realloc(p->ceilings, ((size_t)p->ceilings_n + 2) * sizeof *longer);
    if (!longer)
        return bench_fail("no memory");
    p->ceilings = longer;
    if (ceiling_measure(&p->world, &b, t, row_bytes, longer + p->ceilings_n))
        return -1;
    *gbps = longer[p->ceilings_n].value;
    for (int i = 0; i < 2; i++)
        if (p->world.rank == 0)
            sink_ceiling(&p->sink, longer + p->ceilings_n + i);
    p->ceilings_n += 2;
    return 0;
}

/* --- a rank --------------------------------------------------------------------------------- */

static void progress(const struct player *p, const struct bench_case *c, int i, int n)
{
    if (p->world.rank || !isatty(2))
        return;
    if (c)
        fprintf(stderr, "\r\033[K[%d/%d] %d ranks, %s, %s, %s%s%s, %lld tokens each", i + 1, n,
                (int)c->ranks, bench_mode_names[c->mode - 1], bench_layout_names[c->layout - 1],
                bench_types[c->type].name, c->quant ? ">" : "",
                c->quant ? bench_quant_names[c->quant] : "", (long long)c->tokens);
    else
        fprintf(stderr, "\r\033[K");
    fflush(stderr);
}

/* Of a case's dispatch and combine. */
static int case_ceilings(struct player *p, const struct bench_case *c, const struct traffic *t,
                         double *dispatch, double *combine)
{
    *dispatch = *combine = p->stores;
    if (p->engine.kind == SY_ENGINE_CUDA || p->o.no_ceilings)
        return 0;
    if (c->ops & 1u << OP_DISPATCH && find_ceiling(p, c, t, c->wire_bytes, dispatch))
        return -1;
    if (c->ops & 1u << OP_COMBINE && find_ceiling(p, c, t, c->sum_bytes, combine))
        return -1;
    return 0;
}

static void send_ranks(struct player *p, const struct measured *m, int op)
{
    for (int32_t r = 0; r < p->world.ranks; r++) {
        struct bench_rank rank = {.rank = r};
        memcpy(rank.us, m->us + (r * BENCH_OPS + op) * BENCH_TIMES, sizeof rank.us);
        sink_rank(&p->sink, &rank);
    }
}

static int play_case(struct player *p, struct bench_case *c)
{
    struct measured m = {.n = 0};
    double dispatch = 0, combine = 0;
    struct traffic t;
    int bad;
    if (shrink_to_fit(p, c) || plan_case(&p->o, c, &t))
        return -1;
    bad = case_ceilings(p, c, &t, &dispatch, &combine) ||
          bench_measure(&p->world, &p->engine, &p->o, c, &t, &m);
    for (int i = 0; !bad && i < m.n && p->world.rank == 0; i++) {
        m.results[i].ceiling_gbps = m.results[i].op == OP_COMBINE ? combine : dispatch;
        sink_result(&p->sink, m.results + i);
        if (p->o.per_rank)
            send_ranks(p, &m, m.results[i].op);
        p->wrong |= m.results[i].verified == 0;
    }
    if (!bad && m.wrong[0] && p->world.rank == 0)
        sink_notice(&p->sink, "wrong: %s", m.wrong);
    bench_measured_free(&m);
    batch_traffic_free(&t);
    return bad ? -1 : 0;
}

static void explain_choices(struct player *p)
{
    const struct bench_options *o = &p->o;
    int latency = o->modes != 1u << (SY_THROUGHPUT - 1);
    uint32_t others = o->layouts & ~(1u << (SY_RANK_MAJOR - 1));
    if (p->world.rank)
        return;
    if (latency && others && (!o->outs || o->outs & 1u << OUT_VIEW))
        sink_notice(&p->sink, "latency mode has views in layout rank-major only: out in memory");
    if (o->types & 1u << (BENCH_TYPES - 1) && (!o->ops || o->ops & 1u << OP_COMBINE))
        sink_notice(&p->sink, "opaque rows cannot be summed: no combine");
}

/* The engine, and all that follows from it. */
static int find_engine(struct player *p)
{
    int32_t kind, devices;
    if (engine_find(p->o.engine, &kind, &devices))
        return -1;
    p->o.engine = kind;
    if (kind == SY_ENGINE_CPU && (p->o.sms.n || p->o.graph))
        return bench_fail("--sms and --graph: of GPUs, and this is the CPU engine");
    return 0;
}

static int play(struct player *p)
{
    struct bench_case *cases;
    int n, bad = 0;
    if (world_open(&p->world, p->o.timeout_ns) || find_engine(p) ||
        engine_open(&p->engine, p->o.engine, p->world.rank))
        return -1;
    /* Under a launcher the number of ranks is the launcher's. */
    if (p->sink.fd < 0 && p->o.ranks.n && (p->o.ranks.n > 1 || p->o.ranks.at[0] != p->world.ranks))
        return bench_fail("--ranks: the launcher has started %d", (int)p->world.ranks);
    cases = bench_cases(&p->o, p->world.ranks, &n);
    if (!cases)
        return bench_fail("no memory for cases");
    explain_choices(p);
    bad = find_gpu_ceilings(p);
    for (int i = 0; i < n && !bad; i++) {
        progress(p, cases + i, i, n);
        bad = play_case(p, cases + i);
    }
    progress(p, NULL, 0, 0);
    free(cases);
    return bad || world_barrier(&p->world) ? -1 : 0;
}

static int report(const struct bench_options *o, const struct sink *sink)
{
    int bad = 0;
    report_errors(sink);
    if (!o->json || strcmp(o->json, "-")) {
        report_table(sink);
        report_ranks(sink);
    }
    if (o->json)
        bad |= report_json(sink, o->json);
    if (o->plot)
        bad |= report_plot(sink, o->plot);
    return bad ? TOOL_FAILED : TOOL_OK;
}

static int be_rank(const struct bench_options *o)
{
    struct player p = {.o = *o, .world.meeting.fd = -1};
    int status = TOOL_OK;
    sink_open(&p.sink);
    if (play(&p)) {
        if (p.world.group)
            sy_group_abort(p.world.group); /* nobody waits for us */
        if (p.sink.fd >= 0)
            sink_error(&p.sink, p.world.rank, p.world.ranks, bench_failure());
        else
            tool_say("rank %d: %s", (int)p.world.rank, bench_failure());
        status = TOOL_FAILED;
    } else if (p.sink.fd < 0 && p.world.rank == 0) {
        status = report(o, &p.sink);
    }
    if (p.wrong)
        status = TOOL_FAILED;
    engine_close(&p.engine);
    world_close(&p.world);
    sink_free(&p.sink);
    free(p.ceilings);
    return status;
}

/* --- the conductor -------------------------------------------------------------------------- */

/* How many GPUs the ranks will find; 0: they run on the CPU. A child looks: the driver's threads
 * would take the signals that the launcher waits for. */
static int count_gpus(const struct bench_options *o, int32_t *count)
{
    int32_t kind = SY_ENGINE_CPU, devices = 0;
    int ends[2], how = 0, bad;
    pid_t child;
    if (pipe(ends))
        return bench_fail_errno("a pipe");
    child = fork();
    if (child == 0) {
        bad = engine_find(o->engine, &kind, &devices);
        if (bad)
            tool_say("%s", bench_failure());
        devices = kind == SY_ENGINE_CPU ? 0 : devices;
        _exit(bad || write(ends[1], &devices, sizeof devices) != (ssize_t)sizeof devices);
    }
    close(ends[1]);
    bad = child < 0 || read(ends[0], count, sizeof *count) != (ssize_t)sizeof *count;
    close(ends[0]);
    if (child > 0)
        waitpid(child, &how, 0);
    return bad || how ? -1 : 0;
}

/* As many as there are GPUs, otherwise eight. */
static int choose_ranks(const struct bench_options *o, struct bench_list *ranks)
{
    int32_t gpus = 0;
    *ranks = o->ranks;
    if (ranks->n)
        return 0;
    if (o->engine != SY_ENGINE_CPU && count_gpus(o, &gpus))
        return -1;
    *ranks = (struct bench_list){.n = 1, .at = {gpus ? gpus : RANKS}};
    return 0;
}

static int conduct(const struct bench_options *o, char **argv)
{
    static char name[] = "switchyard", command[] = "bench";
    struct bench_list ranks;
    struct sink sink;
    char **again, self[4096];
    int n = 0, status = TOOL_OK, worst;
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (choose_ranks(o, &ranks))
        return TOOL_FAILED;
    if (length <= 0) {
        tool_say("/proc/self/exe cannot be read");
        return TOOL_FAILED;
    }
    self[length] = 0;
    while (argv[n])
        n++;
    again = calloc((size_t)n + 2, sizeof *again);
    if (!again) {
        tool_say("no memory");
        return TOOL_FAILED;
    }
    again[0] = name;
    again[1] = command;
    for (int i = 1; i < n; i++)
        again[i + 1] = argv[i];
    sink_open(&sink);
    sink.fd = -1;
    for (int i = 0; i < ranks.n && !status; i++) {
        struct spawn spawn = {.ranks = (int32_t)ranks.at[i],
                              .program = self,
                              .argv = again,
                              .quiet = 1,
                              .grace_ns = 5000000000u,
                              .variable = SINK_VARIABLE,
                              .read = sink_read,
                              .context = &sink};
        status = spawn_ranks(&spawn);
    }
    worst = report(o, &sink);
    sink_free(&sink);
    free(again);
    return status || worst ? TOOL_FAILED : TOOL_OK;
}

/* --- the command ---------------------------------------------------------------------------- */

int tool_bench(int argc, char **argv)
{
    struct bench_options o;
    struct bench_case *cases;
    int n, status = bench_options_read(argc, argv, &o);
    if (status)
        return status < 0 ? TOOL_OK : status;
    cases = bench_cases(&o, o.ranks.n ? (int32_t)o.ranks.at[0] : RANKS, &n);
    free(cases);
    if (!cases || !n)
        return tool_usage("nothing is left to be measured: latency mode has no route");
    return machine_launcher() ? be_rank(&o) : conduct(&o, argv);
}
