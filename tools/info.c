/* info.c - `switchyard info`: this machine as the library sees it.
 *
 * Limits are found by asking the library what it would serve, so they are true for the library that
 * runs and need no second list here. */
#define _GNU_SOURCE /* getopt_long */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "info_gpu.h"
#include "machine.h"
#include "switchyard.h"
#include "tool.h"

#define PARAMS_MAX 256 /* more than there will ever be */

/* ---- engines ------------------------------------------------------------------------------- */

static void show_engines(void)
{
    static const struct {
        sy_engine engine;
        const char *name;
    } engines[] = {{SY_ENGINE_CPU, "cpu"}, {SY_ENGINE_CUDA, "cuda"}, {SY_ENGINE_HIP, "hip"}};
    sy_engine_info info = {.size = sizeof info};
    int32_t chosen = SY_ENGINE_AUTO;
    printf("engines\n");
    if (sy_engine_query(SY_ENGINE_AUTO, &info) == SY_OK)
        chosen = info.engine;
    for (size_t i = 0; i < sizeof engines / sizeof *engines; i++) {
        if (sy_engine_query(engines[i].engine, &info) != SY_OK) {
            printf("  %-5s cannot be asked: %s\n", engines[i].name, sy_last_error());
            continue;
        }
        printf("  %-5s %-13s %s: %s%s\n", engines[i].name,
               info.available ? "available" : "not available", info.name, info.detail,
               info.available && (sy_engine)chosen == engines[i].engine ? " (the default)" : "");
    }
}

/* ---- machine ------------------------------------------------------------------------------- */

static double gib(uint64_t bytes)
{
    return (double)bytes / (1 << 30);
}

static void show_limit(const char *what, int resource, const char *why)
{
    struct rlimit limit;
    if (getrlimit(resource, &limit))
        return;
    if (limit.rlim_cur == RLIM_INFINITY)
        printf("  %-14s no limit (%s)\n", what, why);
    else
        printf("  %-14s %llu (%s)\n", what, (unsigned long long)limit.rlim_cur, why);
}

static void show_machine(void)
{
    const struct launcher_seen *launcher = machine_launcher();
    struct machine m;
    machine_look(&m);
    printf("\nmachine\n");
    printf("  %-14s %s\n", "system", m.kernel);
    printf("  %-14s %s\n", "processor", m.cpu);
    printf("  %-14s %d for this process, %d online\n", "cores", (int)m.cores, (int)m.cores_online);
    printf("  %-14s %.1f GiB, %.1f GiB of it available\n", "memory", gib(m.memory_bytes),
           gib(m.available_bytes));
    if (m.limit_bytes)
        printf("  %-14s %.1f GiB (cgroup)\n", "memory limit", gib(m.limit_bytes));
    show_limit("open files", RLIMIT_NOFILE, "a rank opens two or three per peer");
    show_limit("address space", RLIMIT_AS, "a rank maps the heaps of all ranks");
    if (launcher)
        printf("  %-14s %s (%s=%s)\n", "launcher", launcher->name, launcher->variable,
               getenv(launcher->variable));
    else
        printf("  %-14s none: SY_BOOT_ENV means a group of one rank\n", "launcher");
}

/* ---- limits -------------------------------------------------------------------------------- */

/* Sets one field of a small configuration. */
typedef void (*set_fn)(sy_group_config *config, int64_t value);

static void set_ranks(sy_group_config *c, int64_t v)
{
    c->ranks = (int32_t)v;
}
static void set_experts(sy_group_config *c, int64_t v)
{
    c->experts = (int32_t)v;
}
static void set_topk(sy_group_config *c, int64_t v)
{
    c->experts = (int32_t)v; /* K may be as large as E */
    c->topk_max = (int32_t)v;
}
static void set_tokens(sy_group_config *c, int64_t v)
{
    c->tokens_max = v;
    c->recv_rows_max = 1;
}
static void set_latency_tokens(sy_group_config *c, int64_t v)
{
    c->latency_tokens_max = v;
    c->modes = SY_LATENCY;
}
static void set_row_bytes(sy_group_config *c, int64_t v)
{
    c->row_bytes_max = v * 16;
}
static void set_rows(sy_group_config *c, int64_t v)
{
    c->recv_rows_max = v;
}
static void set_views(sy_group_config *c, int64_t v)
{
    c->views = (int32_t)v;
}
static void set_threads(sy_group_config *c, int64_t v)
{
    c->cpu_threads = (int32_t)v;
}
static void set_timeout(sy_group_config *c, int64_t v)
{
    c->timeout_ns = (uint64_t)v * 1000000000u;
}

static int serves(set_fn set, int64_t value)
{
    sy_group_config c = {.size = sizeof c,
                         .boot = SY_BOOT_ID,
                         .ranks = 1,
                         .engine = SY_ENGINE_CPU,
                         .modes = SY_THROUGHPUT,
                         .experts = 1,
                         .topk_max = 1,
                         .tokens_max = 1,
                         .row_bytes_max = 16};
    set(&c, value);
    return sy_group_check(&c) == SY_OK;
}

static void show_limits(void)
{
    static const struct {
        const char *name, *meaning;
        set_fn set;
        int64_t unit;
    } limits[] = {
        {"ranks", "of a group", set_ranks, 1},
        {"experts", "of a group", set_experts, 1},
        {"topk_max", "experts of a token", set_topk, 1},
        {"tokens_max", "of a rank, throughput mode", set_tokens, 1},
        {"latency_tokens_max", "of a rank, latency mode", set_latency_tokens, 1},
        {"row_bytes_max", "bytes, a multiple of 16", set_row_bytes, 16},
        {"recv_rows_max", "rows that a rank receives", set_rows, 1},
        {"views", "areas for received rows", set_views, 1},
        {"cpu_threads", "of a rank", set_threads, 1},
        {"timeout_ns", "nanoseconds", set_timeout, 1000000000},
    };
    printf("\nlimits (each with everything else small)\n");
    if (!serves(set_ranks, 1)) { /* a wrong parameter stands against everything */
        printf("  not to be had: %s\n", sy_last_error());
        return;
    }
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        int64_t least = 0, most = INT32_MAX;
        while (least < most) { /* the largest value that is served */
            int64_t middle = least + (most - least + 1) / 2;
            if (serves(limits[i].set, middle))
                least = middle;
            else
                most = middle - 1;
        }
        printf("  %-19s %14lld  %s\n", limits[i].name, (long long)least * limits[i].unit,
               limits[i].meaning);
    }
}

/* ---- parameters ---------------------------------------------------------------------------- */

/* A parameter whose value makes no sense cannot be read; its error says which it is. Returns how
 * many of those there are. */
static int show_parameters(void)
{
    sy_param_info info = {.size = sizeof info};
    int bad = 0;
    printf("\nparameters (set in the environment)\n");
    for (int32_t i = 0; i < PARAMS_MAX; i++) {
        if (sy_param_get(i, &info) == SY_OK) {
            printf("  %-19s %s (%s; %s)\n  %-19s   %s\n", info.name, info.value, info.source,
                   info.range, "", info.help);
        } else if (strncmp(sy_last_error(), "sy_param_get", strlen("sy_param_get"))) {
            printf("  wrong: %s\n", sy_last_error());
            bad++;
        }
    }
    return bad;
}

/* ---- the command --------------------------------------------------------------------------- */

static void help(void)
{
    printf(
        "usage: switchyard info\n"
        "\n"
        "Shows the library's version; the engines that can run its kernels, what was found of\n"
        "each and what is missing; the GPUs, which of them reach each other and how, driver,\n"
        "run-time compiler and the cache of compiled kernels; this machine; the launcher whose\n"
        "environment is seen; the library's limits; and its parameters with their values, where\n"
        "those come from, what they may be and what they do. Starts nothing.\n"
        "\n"
        "  -h, --help\n"
        "\n"
        "Exit status: 1 if a parameter in the environment has a value that it cannot have.\n");
}

int tool_info(int argc, char **argv)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    int option, bad;
    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (option != 'h')
            return tool_usage(NULL);
        help();
        return TOOL_OK;
    }
    if (optind < argc)
        return tool_usage("'%s': info takes no arguments", argv[optind]);
    printf("switchyard %s, header %d.%d.%d\n\n", sy_version(), SY_VERSION_MAJOR, SY_VERSION_MINOR,
           SY_VERSION_PATCH);
    show_engines();
    show_gpus();
    show_machine();
    show_limits();
    bad = show_parameters();
    if (bad)
        tool_say("%d parameters cannot be used", bad);
    return bad ? TOOL_FAILED : TOOL_OK;
}
