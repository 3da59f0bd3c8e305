/* bench_options.c - the command line of `switchyard bench`. Sections: names | values |
 * reading. */
#define _GNU_SOURCE /* getopt_long */
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "tool.h"

/* --- names ---------------------------------------------------------------------------------- */

const struct bench_type bench_types[BENCH_TYPES] = {
    {"bf16", SY_BF16, SY_NONE},
    {"f16", SY_F16, SY_NONE},
    {"f32", SY_F32, SY_NONE},
    {"f8", SY_F8E4M3, SY_F32},
    {"f8-ue8m0", SY_F8E4M3, SY_UE8M0X4},
    {"opaque", SY_OPAQUE16, SY_NONE},
};
const char *const bench_op_names[BENCH_OPS] = {
    "create",           "setup",        "route",           "dispatch",  "combine", "dispatch-send",
    "dispatch-receive", "combine-send", "combine-receive", "setup-cold"};
const char *const bench_ceiling_names[CEILINGS] = {"copy",         "copy_one", "stores",
                                                   "stores_paced", "loads",    "flag",
                                                   "local_copy",   "launch",   "in_graph"};
const char *const bench_out_names[BENCH_OUTS] = {"view", "heap", "memory"};
const char *const bench_quant_names[BENCH_QUANTS] = {"none", "f8", "f8-pow2", "f8-ue8m0"};
const char *const bench_mode_names[BENCH_MODES] = {"throughput", "latency"};
const char *const bench_layout_names[BENCH_LAYOUTS] = {"token-major", "expert-packed",
                                                       "expert-slabs", "rank-major"};

/* Operations that can be asked for by name; the halves come with --halves, the cold set-up with the
 * other one. */
#define OPS_NAMED 5

/* --- values --------------------------------------------------------------------------------- */

/* The index of a name, which may be shortened as long as it is the only one; -1: none. */
static int find_name(const char *text, size_t length, const char *const *names, int n)
{
    int found = -1;
    for (int i = 0; i < n; i++) {
        if (!strncmp(names[i], text, length) && !names[i][length])
            return i;
        if (length && !strncmp(names[i], text, length))
            found = found == -1 ? i : -2;
    }
    return found < 0 ? -1 : found;
}

static int wrong_name(const char *option, const char *text, size_t length, const char *const *names,
                      int n)
{
    char known[256];
    size_t at = 0;
    for (int i = 0; i < n && at < sizeof known; i++)
        at += (size_t)snprintf(known + at, sizeof known - at, "%s%s", i ? ", " : "", names[i]);
    return tool_usage("--%s %.*s: none of %s", option, (int)length, text, known);
}

/* "a,b" or "all" to bits. */
static int read_set(const char *option, const char *text, const char *const *names, int n,
                    uint32_t *set)
{
    *set = 0;
    if (!strcmp(text, "all")) {
        *set = (1u << n) - 1;
        return 0;
    }
    for (;;) {
        size_t length = strcspn(text, ",");
        int at = find_name(text, length, names, n);
        if (at < 0)
            return wrong_name(option, text, length, names, n);
        *set |= 1u << at;
        if (!text[length])
            return 0;
        text += length + 1;
    }
}

static int read_types(const char *text, uint32_t *set)
{
    const char *names[BENCH_TYPES];
    for (int i = 0; i < BENCH_TYPES; i++)
        names[i] = bench_types[i].name;
    return read_set("dtype", text, names, BENCH_TYPES, set);
}

static int read_list(const char *option, const char *text, int64_t most, struct bench_list *list)
{
    list->n = 0;
    for (;;) {
        char word[24] = "";
        size_t length = strcspn(text, ",");
        if (length < sizeof word)
            memcpy(word, text, length);
        if (list->n == BENCH_LIST)
            return tool_usage("--%s: at most %d values", option, BENCH_LIST);
        if (!tool_number(word, 1, most, &list->at[list->n]))
            return tool_usage("--%s %.*s: a number from 1 to %lld", option, (int)length, text,
                              (long long)most);
        list->n++;
        if (!text[length])
            return 0;
        text += length + 1;
    }
}

static int read_skews(const char *text, struct bench_options *o)
{
    o->skews.n = 0;
    for (;;) {
        char *end;
        double value = strtod(text, &end);
        if (end == text || (*end && *end != ',') || !isfinite(value) || value < 0 || value > 20)
            return tool_usage("--skew %s: a number from 0 to 20", text);
        if (o->skews.n == BENCH_LIST)
            return tool_usage("--skew: at most %d values", BENCH_LIST);
        o->skews.at[o->skews.n++] = value;
        if (!*end)
            break;
        text = end + 1;
    }
    o->routing = ROUTING_SKEW;
    return 0;
}

static int read_engine(const char *text, struct bench_options *o)
{
    static const char *const names[] = {"auto", "cpu", "gpu"};
    static const int32_t engines[] = {SY_ENGINE_AUTO, SY_ENGINE_CPU, SY_ENGINE_CUDA};
    int at = find_name(text, strlen(text), names, 3);
    if (at < 0)
        return wrong_name("engine", text, strlen(text), names, 3);
    o->engine = engines[at];
    return 0;
}

static int read_number(const char *option, const char *text, int64_t least, int64_t most,
                       int64_t *value)
{
    if (tool_number(text, least, most, value))
        return 0;
    return tool_usage("--%s %s: a number from %lld to %lld", option, text, (long long)least,
                      (long long)most);
}

static int read_int(const char *option, const char *text, int64_t least, int64_t most,
                    int32_t *value)
{
    int64_t wide;
    int status = read_number(option, text, least, most, &wide);
    if (!status)
        *value = (int32_t)wide;
    return status;
}

static int read_routing(const char *text, struct bench_options *o)
{
    int at = find_name(text, strlen(text), routing_names, ROUTINGS);
    if (at < 0)
        return wrong_name("routing", text, strlen(text), routing_names, ROUTINGS);
    o->routing = (enum routing)at;
    return 0;
}

/* --- reading -------------------------------------------------------------------------------- */

enum option_name {
    O_OP = 256, /* the first of read_what() */
    O_MODE,
    O_LAYOUT,
    O_DTYPE,
    O_QUANT,
    O_OUT,
    O_HALVES,
    O_WEIGHTED,
    O_BARE,
    O_ENGINE,
    O_GRAPH,
    O_PER_RANK,
    O_NO_CEILINGS,
    O_ROUTING,
    O_SKEW, /* the last of read_what() */
    O_RANKS,
    O_TOKENS,
    O_TOTAL,
    O_HIDDEN,
    O_TOPK,
    O_SMS,
    O_EXPERTS,
    O_ALIGNMENT,
    O_THREADS,
    O_SEED,
    O_WARMUP,
    O_ITERS,
    O_VERIFY,
    O_TIMEOUT,
    O_MEMORY,
    O_JSON,
    O_PLOT,
    O_HELP = 'h'
};

static const struct option long_options[] = {{"op", required_argument, NULL, O_OP},
                                             {"mode", required_argument, NULL, O_MODE},
                                             {"layout", required_argument, NULL, O_LAYOUT},
                                             {"dtype", required_argument, NULL, O_DTYPE},
                                             {"quant", required_argument, NULL, O_QUANT},
                                             {"out", required_argument, NULL, O_OUT},
                                             {"halves", no_argument, NULL, O_HALVES},
                                             {"weighted", no_argument, NULL, O_WEIGHTED},
                                             {"bare", no_argument, NULL, O_BARE},
                                             {"engine", required_argument, NULL, O_ENGINE},
                                             {"graph", no_argument, NULL, O_GRAPH},
                                             {"per-rank", no_argument, NULL, O_PER_RANK},
                                             {"no-ceilings", no_argument, NULL, O_NO_CEILINGS},
                                             {"ranks", required_argument, NULL, O_RANKS},
                                             {"tokens", required_argument, NULL, O_TOKENS},
                                             {"total-tokens", required_argument, NULL, O_TOTAL},
                                             {"hidden", required_argument, NULL, O_HIDDEN},
                                             {"topk", required_argument, NULL, O_TOPK},
                                             {"sms", required_argument, NULL, O_SMS},
                                             {"experts", required_argument, NULL, O_EXPERTS},
                                             {"alignment", required_argument, NULL, O_ALIGNMENT},
                                             {"threads", required_argument, NULL, O_THREADS},
                                             {"routing", required_argument, NULL, O_ROUTING},
                                             {"skew", required_argument, NULL, O_SKEW},
                                             {"seed", required_argument, NULL, O_SEED},
                                             {"warmup", required_argument, NULL, O_WARMUP},
                                             {"iters", required_argument, NULL, O_ITERS},
                                             {"verify", no_argument, NULL, O_VERIFY},
                                             {"timeout", required_argument, NULL, O_TIMEOUT},
                                             {"memory", required_argument, NULL, O_MEMORY},
                                             {"json", required_argument, NULL, O_JSON},
                                             {"plot", required_argument, NULL, O_PLOT},
                                             {"help", no_argument, NULL, O_HELP},
                                             {NULL, 0, NULL, 0}};

static int read_what(int option, const char *text, struct bench_options *o)
{
    switch (option) {
    case O_OP:
        return read_set("op", text, bench_op_names, OPS_NAMED, &o->ops);
    case O_MODE:
        return read_set("mode", text, bench_mode_names, BENCH_MODES, &o->modes);
    case O_LAYOUT:
        return read_set("layout", text, bench_layout_names, BENCH_LAYOUTS, &o->layouts);
    case O_DTYPE:
        return read_types(text, &o->types);
    case O_QUANT:
        return read_set("quant", text, bench_quant_names, BENCH_QUANTS, &o->quants);
    case O_OUT:
        return read_set("out", text, bench_out_names, BENCH_OUTS, &o->outs);
    case O_HALVES:
        o->halves = 1;
        return 0;
    case O_WEIGHTED:
        o->weighted = 1;
        return 0;
    case O_BARE:
        o->bare = 1;
        return 0;
    case O_ROUTING:
        return read_routing(text, o);
    case O_SKEW:
        return read_skews(text, o);
    case O_ENGINE:
        return read_engine(text, o);
    case O_GRAPH:
        o->graph = 1;
        return 0;
    case O_PER_RANK:
        o->per_rank = 1;
        return 0;
    case O_NO_CEILINGS:
        o->no_ceilings = 1;
        return 0;
    default:
        return TOOL_USAGE;
    }
}

static int read_size(int option, const char *text, struct bench_options *o)
{
    int64_t value = 0;
    int status;
    switch (option) {
    case O_RANKS:
        return read_list("ranks", text, BENCH_RANKS_MAX, &o->ranks);
    case O_TOKENS:
        return read_list("tokens", text, 1 << 20, &o->tokens);
    case O_TOTAL:
        return read_number("total-tokens", text, 1, 1 << 30, &o->total_tokens);
    case O_HIDDEN:
        return read_list("hidden", text, 1 << 16, &o->hidden);
    case O_TOPK:
        return read_list("topk", text, 16384, &o->topk);
    case O_SMS:
        return read_list("sms", text, 1024, &o->sms);
    case O_EXPERTS:
        return read_int("experts", text, 1, 49152, &o->experts);
    case O_ALIGNMENT:
        return read_int("alignment", text, 1, 65536, &o->alignment);
    case O_THREADS:
        return read_int("threads", text, 1, 64, &o->threads);
    case O_WARMUP:
        return read_int("warmup", text, 0, 1000000, &o->warmup);
    case O_ITERS:
        return read_int("iters", text, 1, 1000000, &o->iters);
    case O_SEED:
        status = read_number("seed", text, 0, INT64_MAX, &value);
        o->seed = (uint64_t)value;
        return status;
    case O_MEMORY:
        status = read_number("memory", text, 1, INT64_MAX >> 20, &value);
        o->memory_bytes = (uint64_t)value << 20;
        return status;
    default:
        status = read_number("timeout", text, 1, 86400, &value);
        o->timeout_ns = (uint64_t)value * 1000000000u;
        return status;
    }
}

static int read_option(int option, const char *text, struct bench_options *o)
{
    if (option == O_VERIFY)
        o->verify = 1;
    else if (option == O_JSON)
        o->json = text;
    else if (option == O_PLOT)
        o->plot = text;
    else if (option >= O_OP && option <= O_SKEW)
        return read_what(option, text, o);
    else
        return read_size(option, text, o);
    return 0;
}

static int check_hidden(const struct bench_options *o, int64_t hidden)
{
    for (int i = 0; i < BENCH_TYPES; i++) {
        int64_t bits = bench_types[i].type == SY_F32 ? 32 : 16;
        if (bench_types[i].type == SY_F8E4M3)
            bits = 8;
        if (o->types >> i & 1 && hidden * bits % 128)
            return tool_usage("--hidden %lld: a row of %s must be a multiple of 16 bytes",
                              (long long)hidden, bench_types[i].name);
    }
    if (o->quants & ~1u && hidden % 16)
        return tool_usage("--hidden %lld: a row of FP8 must be a multiple of 16 bytes",
                          (long long)hidden);
    return 0;
}

/* What only shows when all options are known. */
static int check_together(const struct bench_options *o)
{
    int status = 0;
    for (int i = 0; i < o->hidden.n && !status; i++)
        status = check_hidden(o, o->hidden.at[i]);
    if (status)
        return status;
    if (o->quants & ~1u && !(o->types & 1u))
        return tool_usage("--quant: only bf16 rows are quantised");
    for (int i = 0; i < o->topk.n; i++)
        if (o->topk.at[i] > o->experts)
            return tool_usage("--topk %lld: there are %d experts", (long long)o->topk.at[i],
                              (int)o->experts);
    if (o->tokens.n && o->total_tokens)
        return tool_usage("--tokens and --total-tokens: one of them");
    if (o->ops == 1u << OP_COMBINE && o->types == 1u << (BENCH_TYPES - 1))
        return tool_usage("--op combine: opaque rows cannot be summed");
    if (o->engine == SY_ENGINE_CPU && (o->sms.n || o->graph))
        return tool_usage("--sms and --graph: of GPUs");
    return 0;
}

int bench_options_read(int argc, char **argv, struct bench_options *o)
{
    int option, status;
    *o = (struct bench_options){
        .hidden = {1, {7168}}, .topk = {1, {8}}, .skews = {1, {1}}, .experts = 256, .seed = 1};
    o->warmup = -1;
    o->timeout_ns = 120000000000u;
    optind = 1;
    while ((option = getopt_long(argc, argv, "h", long_options, NULL)) != -1) {
        if (option == '?')
            return tool_usage(NULL);
        if (option == O_HELP) {
            bench_help();
            return -1;
        }
        status = read_option(option, optarg, o);
        if (status)
            return status;
    }
    if (optind < argc)
        return tool_usage("'%s': no argument is expected here", argv[optind]);
    o->types = o->types ? o->types : 1u;
    o->quants = o->quants ? o->quants : 1u;
    return check_together(o);
}
