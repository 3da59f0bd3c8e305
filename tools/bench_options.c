/* bench_options.c - the command line of `switchyard bench`. Sections: names | values | help |
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
const char *const bench_op_names[BENCH_OPS] = {"create",       "route",          "dispatch",
                                               "combine",      "dispatch-send",  "dispatch-receive",
                                               "combine-send", "combine-receive"};
const char *const bench_out_names[BENCH_OUTS] = {"view", "heap", "memory"};
const char *const bench_quant_names[BENCH_QUANTS] = {"none", "f8", "f8-pow2", "f8-ue8m0"};
const char *const bench_mode_names[BENCH_MODES] = {"throughput", "latency"};
const char *const bench_layout_names[BENCH_LAYOUTS] = {"token-major", "expert-packed",
                                                       "expert-slabs", "rank-major"};

/* Operations that can be asked for by name; the halves come with --halves. */
#define OPS_NAMED 4

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

static int read_skew(const char *text, struct bench_options *o)
{
    char *end;
    o->skew = strtod(text, &end);
    if (!*text || *end || !isfinite(o->skew) || o->skew < 0 || o->skew > 20)
        return tool_usage("--skew %s: a number from 0 to 20", text);
    o->routing = ROUTING_SKEW;
    return 0;
}

/* --- help ----------------------------------------------------------------------------------- */

static const char help_use[] =
    "usage: switchyard bench [OPTIONS]\n"
    "\n"
    "Times dispatch and combine of a mixture-of-experts layer between N ranks, and beside them\n"
    "what bare copies reach on this machine at the same moment. Without options: 8 ranks on\n"
    "this machine, rows of 7168 BF16 numbers, 8 of 256 experts per token; 128 tokens per rank\n"
    "in latency mode and 4096 in throughput mode.\n"
    "\n"
    "Started by itself it makes its ranks here. Started by switchyard run, torchrun, mpirun or\n"
    "srun it is one rank of that launch, and rank 0 reports.\n"
    "\n"
    "Values of options marked * may be lists (a,b,c) or `all`; each combination is measured.\n"
    "Names may be shortened.\n"
    "\n"
    "What is measured\n"
    "  --op OPS*          create (making a group), route, dispatch, combine\n"
    "                     (route,dispatch,combine)\n"
    "  --mode MODES*      throughput, latency (both)\n"
    "  --layout LAYOUTS*  token-major, expert-packed, expert-slabs, rank-major (throughput:\n"
    "                     token-major; latency: rank-major)\n"
    "  --dtype TYPES*     bf16, f16, f32, f8 (with FP32 scales per 128), f8-ue8m0 (with UE8M0\n"
    "                     scales), opaque (as many bytes as BF16) (bf16)\n"
    "  --quant KINDS*     none, f8, f8-pow2, f8-ue8m0: BF16 rows become FP8 on the way (none)\n"
    "  --out PLACES*      where dispatched rows go: view (they stay in the group's heap), heap\n"
    "                     (sy_alloc), memory (the caller's own) (view; memory where latency\n"
    "                     mode has no views, which is in all layouts but rank-major)\n"
    "  --halves           dispatch and combine in two calls, send and receive, timed apart\n"
    "  --weighted         combine sums with weights; otherwise plainly\n"
    "  --bare             dispatch carries nothing but rows and scales; otherwise also weights\n"
    "                     and, in the layouts by token, expert ids\n"
    "\n"
    "Size\n"
    "  --ranks N*         ranks (8)\n"
    "  --tokens N*        tokens of each rank (latency 128, throughput 4096)\n"
    "  --total-tokens N   tokens of all ranks together, instead\n"
    "  --hidden N         elements of a row (7168)\n"
    "  --topk N           experts of a token (8)\n"
    "  --experts N        of all ranks (256)\n"
    "  --alignment N      expert-packed: groups start at multiples of N rows (1)\n"
    "  --threads N        that run kernels, of each rank (SY_CPU_THREADS, else 1)\n"
    "\n"
    "Routing\n"
    "  --routing KIND     uniform: any experts; skew: some more often; spread: on as many ranks\n"
    "                     as possible; local: only the own rank's; one: all tokens to one\n"
    "                     expert (uniform)\n"
    "  --skew S           routing skew, the n-th most popular expert with weight 1/n^S (1)\n"
    "  --seed N           of routing and data (1)\n"
    "\n";

static const char help_run[] =
    "Run\n"
    "  --warmup N         iterations before the timed ones (by size)\n"
    "  --iters N          timed iterations (by size)\n"
    "  --verify           compare every result with the reference, bit for bit, before timing\n"
    "  --timeout SECONDS  longest wait for a rank (120)\n"
    "  --memory MIB       most memory of all ranks together (four fifths of what is available)\n"
    "  --json FILE        results as JSON; - is stdout, and then there is no table\n"
    "  --plot FILE        an SVG of times and rates against tokens, or against ranks\n"
    "  -h, --help\n"
    "\n"
    "How to read it\n"
    "  Time of a rank: from the call until its stream is empty, on average over the iterations.\n"
    "  The table has minimum, average and maximum over the ranks. A barrier stands before each\n"
    "  timed call, and is not part of the time. Latency mode's dispatch includes sy_route_set(),\n"
    "  because there dispatch itself exchanges the counts; throughput mode has `route` apart.\n"
    "  The experts in between leave the rows as they are; FP8 rows are followed by BF16 rows.\n"
    "\n"
    "  GB/s are 10^9 bytes per second and rank at the average time, by three ways of counting:\n"
    "  NCCL-EP  as ep_bench (v0.1) does. Throughput: rows that a rank receives, once for all its\n"
    "           experts, its own tokens included, without scales. Latency: (token, expert)\n"
    "           pairs, whatever really crosses.\n"
    "  DeepEP   as test_intranode.py and test_low_latency.py do: the same rows, with scales;\n"
    "           latency FP8 with 16 bytes more per row.\n"
    "  moved    what must move: each row once to each rank that it goes to, the own rank\n"
    "           included, with its scales; in the layouts by expert, too.\n"
    "  `of copy` is moved over the ceiling `copy`. Combine reads such rows and writes one per\n"
    "  token, which can be cheaper than a copy.\n"
    "\n"
    "Ceilings, measured in the same run with the same rows, ranks and amounts\n"
    "  copy      all ranks at once: each copies its rows from private memory into the shared\n"
    "            memory of the ranks they go to, and does nothing else. The better of memcpy\n"
    "            and streaming stores; all bytes over the time from the first rank's begin to\n"
    "            the last one's end, best of five, per rank.\n"
    "  copy_one  the same by rank 0 while the others sleep.\n"
    "\n"
    "Tokens are halved, with a note, until everything fits into the memory.\n"
    "\n"
    "  switchyard bench --mode latency --layout all --dtype bf16 --quant all --verify\n"
    "  switchyard bench --tokens 1,8,64,512,4096 --plot tokens.svg\n"
    "  switchyard bench --ranks 2,4,8,16 --total-tokens 16384 --mode throughput --json out.json\n";

void bench_help(void)
{
    fputs(help_use, stdout);
    fputs(help_run, stdout);
}

/* --- reading -------------------------------------------------------------------------------- */

enum option_name {
    O_OP = 256,
    O_MODE,
    O_LAYOUT,
    O_DTYPE,
    O_QUANT,
    O_OUT,
    O_HALVES,
    O_WEIGHTED,
    O_BARE,
    O_RANKS,
    O_TOKENS,
    O_TOTAL,
    O_HIDDEN,
    O_TOPK,
    O_EXPERTS,
    O_ALIGNMENT,
    O_THREADS,
    O_ROUTING,
    O_SKEW,
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
                                             {"ranks", required_argument, NULL, O_RANKS},
                                             {"tokens", required_argument, NULL, O_TOKENS},
                                             {"total-tokens", required_argument, NULL, O_TOTAL},
                                             {"hidden", required_argument, NULL, O_HIDDEN},
                                             {"topk", required_argument, NULL, O_TOPK},
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
        return read_skew(text, o);
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
        return read_number("hidden", text, 1, 1 << 16, &o->hidden);
    case O_TOPK:
        return read_int("topk", text, 1, 16384, &o->topk);
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
    else if ((option >= O_OP && option <= O_BARE) || option == O_ROUTING || option == O_SKEW)
        return read_what(option, text, o);
    else
        return read_size(option, text, o);
    return 0;
}

/* What only shows when all options are known. */
static int check_together(const struct bench_options *o)
{
    for (int i = 0; i < BENCH_TYPES; i++) {
        int64_t bits = bench_types[i].type == SY_F32 ? 32 : 16;
        if (bench_types[i].type == SY_F8E4M3)
            bits = 8;
        if (o->types >> i & 1 && o->hidden * bits % 128)
            return tool_usage("--hidden %lld: a row of %s must be a multiple of 16 bytes",
                              (long long)o->hidden, bench_types[i].name);
    }
    if (o->quants & ~1u && o->hidden % 16)
        return tool_usage("--hidden %lld: a row of FP8 must be a multiple of 16 bytes",
                          (long long)o->hidden);
    if (o->quants & ~1u && !(o->types & 1u))
        return tool_usage("--quant: only bf16 rows are quantised");
    if (o->topk > o->experts)
        return tool_usage("--topk %d: there are %d experts", (int)o->topk, (int)o->experts);
    if (o->tokens.n && o->total_tokens)
        return tool_usage("--tokens and --total-tokens: one of them");
    if (o->ops == 1u << OP_COMBINE && o->types == 1u << (BENCH_TYPES - 1))
        return tool_usage("--op combine: opaque rows cannot be summed");
    return 0;
}

int bench_options_read(int argc, char **argv, struct bench_options *o)
{
    int option, status;
    *o = (struct bench_options){.hidden = 7168, .topk = 8, .experts = 256, .skew = 1, .seed = 1};
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
