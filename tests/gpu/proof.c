/* proof.c - do the device sources reach what the machine can do? The real kernels, compiled by
 * NVRTC, on all GPUs of one machine from one process; results checked; times beside the bare store
 * ceiling measured in the same run. What it found is in docs/device.md.
 *
 *     proof ROOT [tokens [trace]]
 *
 * Sections: the world | routing | checks | measuring | the tables. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cu.h"
#include "layout/sizes.h"
#include "plan/tune.h"
#include "rt/rt.h"

#define GPUS_MAX 8
#define HIDDEN 7168
#define TOPK 8
#define EXPERTS 256
#define LAT_TOKENS 128

enum { TOKEN_MAJOR = 1, RANK_MAJOR = 4 };

struct gpu {
    CUcontext context;
    CUstream stream;
    CUevent begin, end;
    CUfunction kernels[SY_KERNELS + 1];
    CUmodule module;
    uint8_t *heap, *mine, *tables, *route, *x, *ids, *weights, *out;
    struct sy_dev dev;
    struct sy_dev_route r, lat;
};

static struct gpu gpus[GPUS_MAX];
static int ranks, sms, clock_khz;
static uint32_t tokens = 4096;
static struct sy_limits limits;
static int32_t *all_ids; /* [rank][token][k] */
static int trace;        /* blocks that leave marks; 0: compiled without */

/* --- the world ------------------------------------------------------------------------------ */

static void *on(int g, size_t bytes)
{
    CUdeviceptr p;
    CU_OK(cuCtxSetCurrent(gpus[g].context));
    CU_OK(cuMemAlloc_v2(&p, bytes));
    CU_OK(cuMemsetD8_v2(p, 0, bytes));
    return (void *)p;
}

static void put(int g, void *to, const void *from, size_t bytes)
{
    CU_OK(cuCtxSetCurrent(gpus[g].context));
    CU_OK(cuMemcpyHtoD_v2((CUdeviceptr)to, from, bytes));
}

static uint32_t word_of(int rank, uint32_t token, uint32_t i)
{
    return (uint32_t)rank << 28 ^ token << 12 ^ (i * 2654435761u >> 13);
}

static void fill_x(int g)
{
    uint32_t words = HIDDEN / 2, *row = malloc((size_t)words * 4 * tokens);
    for (uint32_t t = 0; t < tokens; t++)
        for (uint32_t i = 0; i < words; i++)
            row[(size_t)t * words + i] = word_of(g, t, i);
    put(g, gpus[g].x, row, (size_t)words * 4 * tokens);
    free(row);
}

/* Ids without repeats, uniform. */
static void fill_ids(int g)
{
    uint64_t s = 88172645463325252ull + (uint64_t)g * 7919;
    int32_t *ids = all_ids + (size_t)g * tokens * TOPK;
    for (uint32_t t = 0; t < tokens; t++)
        for (int k = 0; k < TOPK;) {
            int again = 0;
            s ^= s << 13, s ^= s >> 7, s ^= s << 17;
            ids[t * TOPK + k] = (int32_t)(s >> 20) & (EXPERTS - 1);
            for (int i = 0; i < k; i++)
                again |= ids[t * TOPK + i] == ids[t * TOPK + k];
            k += !again;
        }
    put(g, gpus[g].ids, ids, sizeof *ids * tokens * TOPK);
}

static void fill_limits(void)
{
    struct sy_machine m = {32, (uint32_t)sms, 8, 232448 - 1024, 0, 1};
    memset(&limits, 0, sizeof limits);
    limits.ranks = (uint64_t)ranks;
    limits.experts = EXPERTS;
    limits.local_max = EXPERTS / (uint64_t)ranks;
    limits.topk_max = TOPK;
    limits.tokens_max = tokens;
    limits.lat_tokens_max = LAT_TOKENS;
    limits.row_bytes_max = HIDDEN * 2;
    limits.scale_words_max = HIDDEN / 128;
    limits.views = 1;
    limits.lat_views = 2;
    sy_limits_derive(&limits);
    limits.route_chunks = sy_route_chunks_max(&m, tokens);
}

static void describe_route(struct sy_dev_route *r, int latency, uint32_t layout)
{
    struct sy_route_limits l;
    memset(r, 0, sizeof *r);
    r->layout = layout;
    r->latency = (uint32_t)latency;
    r->topk = TOPK;
    r->fan = (uint32_t)limits.fan_max;
    r->tokens_limit = latency ? LAT_TOKENS : tokens;
    r->chunks = (r->tokens_limit + SY_CHUNK_ROWS - 1) >> SY_CHUNK_SHIFT;
    r->alignment = 1;
    r->capacity = latency ? LAT_TOKENS : (uint32_t)limits.recv_rows_max;
    l.ranks = limits.ranks;
    l.local = limits.local_max;
    l.topk = TOPK;
    l.fan = r->fan;
    l.tokens = r->tokens_limit;
    l.recv = limits.ranks * l.tokens;
    l.chunks = r->chunks;
    sy_route_layout_make(&r->at, &l);
}

/* Each kernel is compiled by itself, specialised as the library would. FP8: the second ldispatch.
 */
static const struct {
    int kernel;
    const char *only, *args, *constants[4];
} builds[] = {
    {SY_KERNEL_route, "route", "struct sy_route_args", {"-DSY_CONST_LAYOUT=1"}},
    {SY_KERNEL_tdispatch,
     "tdispatch",
     "struct sy_tdispatch_args",
     {"-DSY_CONST_LAYOUT=1", "-DSY_CONST_QUANT=0", "-DSY_CONST_WORK=0",
      "-DSY_CONST_ROW_BYTES=14336"}},
    {SY_KERNEL_ldispatch,
     "ldispatch",
     "struct sy_ldispatch_args",
     {"-DSY_CONST_LAYOUT=4", "-DSY_CONST_QUANT=0", "-DSY_CONST_WORK=0",
      "-DSY_CONST_ROW_BYTES=14336"}},
    {SY_KERNELS,
     "ldispatch",
     "struct sy_ldispatch_args",
     {"-DSY_CONST_LAYOUT=4", "-DSY_CONST_QUANT=1", "-DSY_CONST_WORK=0",
      "-DSY_CONST_ROW_BYTES=7168"}},
    {SY_KERNEL_combine,
     "combine",
     "struct sy_combine_kargs",
     {"-DSY_CONST_LAYOUT=1", "-DSY_CONST_ROW_BYTES=14336", "-DSY_THREADS_MAX=480"}},
    {SY_KERNEL_probe, "probe", "struct sy_probe_args", {NULL}},
};

static void *build(const char *root, size_t i)
{
    char ranks_text[64], fan_text[64], only[64], args[64];
    const char *defines[16] = {ranks_text, fan_text, only, args, "-DSY_CONST_TOPK=8"};
    int n = 5;
    snprintf(ranks_text, sizeof ranks_text, "-DSY_CONST_RANKS=%d", ranks);
    snprintf(fan_text, sizeof fan_text, "-DSY_CONST_FAN=%d", ranks < TOPK ? ranks : TOPK);
    snprintf(only, sizeof only, "-DSY_ONLY=%s", builds[i].only);
    snprintf(args, sizeof args, "-DSY_ONLY_ARGS=%s", builds[i].args);
    for (int k = 0; k < 4 && builds[i].constants[k]; k++)
        defines[n++] = builds[i].constants[k];
    if (trace)
        defines[n++] = "-DSY_TRACE=256";
    return cu_compile(root, 90, defines, n);
}

static void open_gpu(int g, void *const *cubins)
{
    CUdevice device;
    CU_OK(cuDeviceGet(&device, g));
    CU_OK(cuDevicePrimaryCtxRetain(&gpus[g].context, device));
    CU_OK(cuCtxSetCurrent(gpus[g].context));
    for (size_t i = 0; i < sizeof builds / sizeof *builds; i++) {
        CUmodule module;
        CUfunction *f = &gpus[g].kernels[builds[i].kernel];
        char name[64];
        snprintf(name, sizeof name, "sy_entry_%s", builds[i].only);
        CU_OK(cuModuleLoadData(&module, cubins[i]));
        CU_OK(cuModuleGetFunction(f, module, name));
        CU_OK(cuFuncSetAttribute(*f, 8, 227 * 1024)); /* dynamic shared memory */
        if (builds[i].kernel == SY_KERNEL_ldispatch)
            gpus[g].module = module;
    }
    CU_OK(cuStreamCreate(&gpus[g].stream, 1));
    CU_OK(cuEventCreate(&gpus[g].begin, 0));
    CU_OK(cuEventCreate(&gpus[g].end, 0));
}

static void open_memory(int g)
{
    struct gpu *q = gpus + g;
    struct sy_dev *d = &q->dev;
    sy_heap_layout_make(&d->at, &limits);
    sy_local_layout_make(&d->in, &limits);
    q->heap = on(g, d->at.bytes);
    q->mine = on(g, d->in.bytes);
    q->tables = on(g, 65536);
    q->x = on(g, (size_t)tokens * HIDDEN * 2);
    q->ids = on(g, (size_t)tokens * TOPK * 4);
    q->weights = on(g, (size_t)tokens * TOPK * 4);
    q->out = on(g, (size_t)tokens * HIDDEN * 2);
    d->report = (struct sy_report *)on(g, sizeof *d->report);
    describe_route(&q->r, 0, TOKEN_MAJOR);
    describe_route(&q->lat, 1, RANK_MAJOR);
    q->r.memory = on(g, q->r.at.bytes);
    q->lat.memory = on(g, q->lat.at.bytes);
    fill_x(g);
    fill_ids(g);
}

static void open_dev(int g)
{
    struct sy_dev *d = &gpus[g].dev;
    uint32_t local = EXPERTS / (uint32_t)ranks;
    uint8_t table[8192];
    uint64_t *peers = (uint64_t *)(void *)table;
    uint32_t *owner = (uint32_t *)(void *)(table + 1024),
             *firsts = (uint32_t *)(void *)(table + 4096);
    memset(table, 0, sizeof table);
    for (int p = 0; p < ranks; p++) {
        peers[p] = (uint64_t)(uintptr_t)gpus[p].heap;
        if (p != g) {
            CU_OK(cuCtxSetCurrent(gpus[g].context));
            int result = cu.cuCtxEnablePeerAccess(gpus[p].context, 0);
            if (result != 704) /* enabled already */
                cu_check(result, "cuCtxEnablePeerAccess", __FILE__, __LINE__);
        }
    }
    for (uint32_t e = 0; e < EXPERTS; e++)
        owner[e] = e / local;
    for (uint32_t p = 0; p <= (uint32_t)ranks; p++)
        firsts[p] = p * local;
    put(g, gpus[g].tables, table, sizeof table);
    d->rank = (uint32_t)g;
    d->ranks = (uint32_t)ranks;
    d->experts = EXPERTS;
    d->local_max = d->local = local;
    d->first = (uint32_t)g * local;
    d->tokens_max = tokens;
    d->lat_tokens_max = LAT_TOKENS;
    d->fan_max = (uint32_t)limits.fan_max;
    d->topk_max = TOPK;
    d->td_chunks = (uint32_t)limits.td_chunks;
    d->tc_chunks = (uint32_t)limits.tc_chunks;
    d->meta_words = (uint32_t)limits.meta_words;
    d->lat_views = 2;
    d->timeout_ns = 3000000000ull;
    d->owner_scale = (1ull << 32) / local + 1;
    d->heap_bytes = d->at.bytes;
    d->heap = gpus[g].heap;
    d->mine = gpus[g].mine;
    d->peers = (uint8_t *const *)(void *)gpus[g].tables;
    d->owner = (const uint32_t *)(void *)(gpus[g].tables + 1024);
    d->firsts = (const uint32_t *)(void *)(gpus[g].tables + 4096);
}

static void launch(int g, int kernel, uint32_t blocks, uint32_t warps, uint64_t shared, void *args)
{
    void *list[] = {args};
    CU_OK(cuCtxSetCurrent(gpus[g].context));
    CU_OK(cuLaunchKernel(gpus[g].kernels[kernel], blocks, 1, 1, warps * 32, 1, 1, (unsigned)shared,
                         gpus[g].stream, list, NULL));
}

/* Ends the program with what the kernels reported, if anything. */
static void sync_all(const char *what)
{
    static const char *const names[] = {"?",     "START",   "COUNT", "BASE",  "ROWS",
                                        "FETCH", "WEIGHTS", "SELF",  "CHECK", "BYTES",
                                        "LOST",  "ABORT",   "SHORT"};
    for (int g = 0; g < ranks; g++) {
        struct sy_fault_record f[GPUS_MAX];
        CU_OK(cuCtxSetCurrent(gpus[g].context));
        CU_OK(cuStreamSynchronize(gpus[g].stream));
        CU_OK(cuMemcpyDtoH_v2(f, (CUdeviceptr)(gpus[g].heap + gpus[g].dev.at.fault),
                              sizeof *f * (size_t)ranks));
        for (int p = 0; p < ranks; p++)
            if (f[p].what) {
                printf(
                    "%s: rank %u missed %s of %u: epoch %llu expected %llu seen %llu place %llu\n",
                    what, f[p].reporter, names[f[p].what], f[p].culprit,
                    (unsigned long long)f[p].epoch, (unsigned long long)f[p].expected,
                    (unsigned long long)f[p].seen, (unsigned long long)f[p].place);
                exit(1);
            }
    }
}

/* --- routing -------------------------------------------------------------------------------- */

static struct sy_machine machine(int blocks, uint32_t pace)
{
    struct sy_machine m = {32, (uint32_t)blocks, 8, 226 * 1024, pace, 1};
    return m;
}

static struct sy_dev_tensor tensor(void *data, int64_t stride0, int64_t stride1, uint32_t rows)
{
    struct sy_dev_tensor t = {data, stride0, stride1, rows, 0};
    return t;
}

static void run_route(int g)
{
    struct sy_route_args a;
    struct sy_machine m = machine(sms, 0);
    struct sy_work w = {.ranks = (uint32_t)ranks,
                        .experts = EXPERTS,
                        .local_max = (uint32_t)limits.local_max,
                        .topk = TOPK,
                        .tokens = tokens};
    struct sy_cut cut;
    memset(&a, 0, sizeof a);
    if (sy_cut_route(&m, &w, &cut, &a.chunk_tokens, &a.chunks) != SY_OK)
        exit(1);
    a.d = gpus[g].dev;
    a.r = gpus[g].r;
    a.ids = tensor(gpus[g].ids, TOPK * 4, 4, tokens);
    a.tokens = tokens;
    launch(g, SY_KERNEL_route, cut.blocks, cut.warps, cut.shared_bytes, &a);
}

/* --- the kernels ---------------------------------------------------------------------------- */

struct variant {
    int blocks;
    uint32_t pushers, stages, parts;
    double gbs; /* pacing; 0: none */
    int weights;
};

static uint32_t pace_of(const struct variant *v)
{
    double ns_per_kib = v->blocks * v->pushers * 1024.0 / v->gbs;
    return v->gbs > 0 ? (uint32_t)(ns_per_kib * clock_khz * 1e-6 * 16) : 0;
}

static void run_tdispatch(int g, const struct variant *v)
{
    struct sy_tdispatch_args a;
    struct sy_machine m = machine(v->blocks, pace_of(v));
    struct sy_work w = {.ranks = (uint32_t)ranks,
                        .experts = EXPERTS,
                        .local_max = (uint32_t)limits.local_max,
                        .topk = TOPK,
                        .fan = (uint32_t)limits.fan_max,
                        .row_bytes = HIDDEN * 2,
                        .side_bytes = v->weights ? TOPK * 4 : 0,
                        .tokens = tokens,
                        .send = 1,
                        .receive = 1};
    struct sy_cut cut;
    memset(&a, 0, sizeof a);
    if (sy_cut_tdispatch(&m, &w, &cut) != SY_OK)
        exit(1);
    cut.shape.pushers = v->pushers;
    cut.shape.stages = v->stages;
    cut.shape.finishers = 1;
    cut.shape.parts = v->parts;
    cut.shape.part_bytes = HIDDEN * 2 / v->parts;
    cut.shape.piece_bytes = 3584;
    cut.shape.stage_bytes =
        SY_STAGE_BYTES((uint32_t)limits.fan_max, w.side_bytes, cut.shape.part_bytes);
    a.d = gpus[g].dev;
    a.r = gpus[g].r;
    a.s = cut.shape;
    a.x = tensor(gpus[g].x, HIDDEN * 2, 2, tokens);
    a.side_bytes = w.side_bytes;
    if (v->weights) {
        a.weights = tensor(gpus[g].weights, TOPK * 4, 4, tokens);
        a.side_bulk = 2;
        a.out.weighted = 1;
    }
    a.send = a.receive = 1;
    a.tokens = tokens;
    a.area = gpus[g].dev.at.td_rows;
    a.out.row_bytes = HIDDEN * 2;
    a.out.rows_have = 0x7fffffff;
    a.out.direct = 1;
    launch(g, SY_KERNEL_tdispatch, (uint32_t)v->blocks,
           cut.shape.pushers + cut.shape.signallers + cut.shape.finishers,
           SY_SH_BYTES((uint64_t)ranks, cut.shape.pushers, cut.shape.stages, cut.shape.stage_bytes),
           &a);
}

struct combine_variant {
    int blocks, pull;
    double gbs; /* pacing; 0: none */
};

/* What the last dispatch brought goes back as it is. The shape is the library's. */
static void run_combine(int g, const struct combine_variant *v)
{
    struct sy_combine_kargs a;
    struct variant storing = {v->blocks, v->blocks < 48 ? 2 : 1, 0, 0, v->gbs, 0};
    struct sy_machine m = machine(v->blocks, pace_of(&storing));
    struct sy_work w = {.ranks = (uint32_t)ranks,
                        .experts = EXPERTS,
                        .local_max = (uint32_t)limits.local_max,
                        .topk = TOPK,
                        .fan = (uint32_t)limits.fan_max,
                        .row_bytes = HIDDEN * 2,
                        .tokens = tokens,
                        .tokens_most = tokens,
                        .send = 1,
                        .receive = 1,
                        .pull = (uint32_t)v->pull};
    struct sy_cut cut;
    memset(&a, 0, sizeof a);
    if (sy_cut_combine(&m, &w, &cut) != SY_OK)
        exit(1);
    a.d = gpus[g].dev;
    a.r = gpus[g].r;
    a.s = cut.shape;
    a.x = tensor(gpus[g].heap + gpus[g].dev.at.td_rows, HIDDEN * 2, 2, 0x7fffffff);
    a.out = tensor(gpus[g].out, HIDDEN * 2, 2, tokens);
    a.send = a.receive = 1;
    a.tokens = tokens;
    a.type = SY_BF16;
    a.row_bytes = HIDDEN * 2;
    a.pull = (uint32_t)v->pull;
    a.x_offset = gpus[g].dev.at.td_rows;
    launch(g, SY_KERNEL_combine, cut.blocks, cut.warps, cut.shared_bytes, &a);
}

struct lat_variant {
    uint32_t tokens, quant, view;
    double gbs; /* pacing; 0: none */
};

static void run_ldispatch(int g, const struct lat_variant *v)
{
    struct sy_ldispatch_args a;
    struct sy_machine m = machine(sms, 0);
    uint32_t scales = v->quant ? HIDDEN / 128 : 0, row = v->quant ? HIDDEN : HIDDEN * 2;
    struct sy_work w = {.ranks = (uint32_t)ranks,
                        .experts = EXPERTS,
                        .local_max = (uint32_t)limits.local_max,
                        .topk = TOPK,
                        .fan = (uint32_t)limits.fan_max,
                        .row_bytes = row,
                        .tokens = v->tokens,
                        .tail_bytes = (SY_TAIL_SCALES(TOPK) + scales) * 4,
                        .send = 1,
                        .receive = 1};
    struct sy_cut cut;
    memset(&a, 0, sizeof a);
    if (sy_cut_ldispatch(&m, &w, &cut) != SY_OK)
        exit(1);
    a.d = gpus[g].dev;
    a.r = gpus[g].lat;
    a.s = cut.shape;
    a.ids = tensor(gpus[g].ids, TOPK * 4, 4, v->tokens);
    a.x = tensor(gpus[g].x, HIDDEN * 2, 2, v->tokens);
    if (v->gbs > 0) /* all blocks in turn; 3 of 4 rows, 7 of 8, go to peers, and only once a rank */
        a.s.pace = (uint32_t)(1024.0 / v->gbs * 2.7 * clock_khz * 1e-6 * 16);
    a.send = a.receive = 1;
    a.tokens = v->tokens;
    a.quant = v->quant;
    a.hidden = HIDDEN;
    a.tail_bytes = w.tail_bytes;
    a.tail_bytes_max = (uint32_t)limits.tail_bytes_max;
    a.row_bytes_max = (uint32_t)limits.row_bytes_max;
    a.view = v->view;
    a.out.row_bytes = row;
    a.out.scale_words = scales;
    a.out.rows_have = 0x7fffffff;
    a.out.direct = 1;
    launch(g, v->quant ? SY_KERNELS : SY_KERNEL_ldispatch, cut.blocks, cut.warps, cut.shared_bytes,
           &a);
}

struct probe_variant {
    int blocks;
    uint32_t warps, piece;
    double gbs;
    int load;
};

#define PROBE_BYTES (256u << 20)

static void run_probe(int g, const struct probe_variant *v)
{
    struct sy_probe_args a;
    struct variant p = {v->blocks, v->warps, 0, 0, v->gbs, 0};
    memset(&a, 0, sizeof a);
    a.d = gpus[g].dev;
    a.source = gpus[g].x;
    a.source_bytes = (uint64_t)v->piece * 64;
    a.area = gpus[g].dev.at.td_rows;
    a.piece_bytes = v->piece;
    a.pieces = PROBE_BYTES / v->piece;
    if ((uint64_t)a.pieces * v->piece > limits.view_bytes)
        a.pieces = (uint32_t)(limits.view_bytes / v->piece);
    a.pace = pace_of(&p);
    a.load = (uint32_t)v->load;
    launch(g, SY_KERNEL_probe, (uint32_t)v->blocks, v->warps,
           SY_ALIGN_UP(v->warps * 16u, 128u) + (uint64_t)v->warps * 2 * v->piece, &a);
}

/* --- checks --------------------------------------------------------------------------------- */

static uint32_t check_tdispatch(int g)
{
    uint32_t words = HIDDEN / 2, row = 0, local = EXPERTS / (uint32_t)ranks, wrong = 0;
    uint32_t *got = malloc(limits.view_bytes);
    CU_OK(cuCtxSetCurrent(gpus[g].context));
    CU_OK(cuMemcpyDtoH_v2(got, (CUdeviceptr)(gpus[g].heap + gpus[g].dev.at.td_rows),
                          limits.view_bytes));
    for (int s = 0; s < ranks; s++)
        for (uint32_t t = 0; t < tokens; t++) {
            int here = 0;
            for (int k = 0; k < TOPK; k++)
                here |=
                    (uint32_t)all_ids[((size_t)s * tokens + t) * TOPK + k] / local == (uint32_t)g;
            if (!here)
                continue;
            for (uint32_t i = 0; i < words; i++)
                wrong += got[(size_t)row * words + i] != word_of(s, t, i);
            row++;
        }
    free(got);
    if (wrong)
        printf("rank %d: %u wrong words in %u rows\n", g, wrong, row);
    return wrong;
}

static float from_bf16(uint32_t bits)
{
    float f;
    bits <<= 16;
    memcpy(&f, &bits, 4);
    return f;
}

static uint16_t to_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return f != f ? 0x7fff : (uint16_t)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

/* A token's sum has as many copies of its row as it went to ranks. */
static uint32_t check_combine(int g)
{
    uint32_t local = EXPERTS / (uint32_t)ranks, wrong = 0;
    uint16_t *got = malloc((size_t)tokens * HIDDEN * 2);
    CU_OK(cuCtxSetCurrent(gpus[g].context));
    CU_OK(cuMemcpyDtoH_v2(got, (CUdeviceptr)gpus[g].out, (size_t)tokens * HIDDEN * 2));
    CU_OK(cuMemsetD8_v2((CUdeviceptr)gpus[g].out, 0, (size_t)tokens * HIDDEN * 2));
    for (uint32_t t = 0; t < tokens; t++) {
        uint32_t to = 0;
        for (int k = 0; k < TOPK; k++)
            to |= 1u << ((uint32_t)all_ids[((size_t)g * tokens + t) * TOPK + k] / local);
        for (uint32_t i = 0; i < HIDDEN; i++) {
            float one = from_bf16(word_of(g, t, i / 2) >> (i % 2 ? 16 : 0) & 0xffffu), sum = 0;
            for (int n = __builtin_popcount(to); n; n--)
                sum += one;
            wrong += got[(size_t)t * HIDDEN + i] != to_bf16(sum);
        }
    }
    free(got);
    if (wrong)
        printf("rank %d: %u wrong sums\n", g, wrong);
    return wrong;
}

/* BF16, rank-major, one view. */
static uint32_t check_ldispatch(int g, const struct lat_variant *v)
{
    uint32_t words = HIDDEN / 2, local = EXPERTS / (uint32_t)ranks, wrong = 0, rows = 0;
    uint64_t view = limits.ranks * LAT_TOKENS * limits.row_bytes_max;
    uint32_t *got = malloc(view);
    CU_OK(cuCtxSetCurrent(gpus[g].context));
    CU_OK(cuMemcpyDtoH_v2(
        got, (CUdeviceptr)(gpus[g].heap + gpus[g].dev.at.ld_rows + v->view * view), view));
    for (int s = 0; s < ranks; s++) {
        uint32_t nth = 0;
        for (uint32_t t = 0; t < v->tokens; t++) {
            int here = 0;
            for (int k = 0; k < TOPK; k++)
                here |=
                    (uint32_t)all_ids[((size_t)s * tokens + t) * TOPK + k] / local == (uint32_t)g;
            if (!here)
                continue;
            for (uint32_t i = 0; i < words; i++)
                wrong += got[((size_t)s * LAT_TOKENS + nth) * words + i] != word_of(s, t, i);
            nth++;
            rows++;
        }
    }
    free(got);
    if (wrong)
        printf("rank %d: %u wrong words in %u latency rows\n", g, wrong, rows);
    return wrong;
}

/* --- measuring ------------------------------------------------------------------------------ */

/* Mean over ranks of the time per operation, back to back, in microseconds. */
static double timed(int n, void (*run)(int g, const void *v), const void *v, const char *what)
{
    double sum = 0;
    for (int i = 0; i < 3; i++)
        for (int g = 0; g < ranks; g++)
            run(g, v);
    sync_all(what);
    for (int g = 0; g < ranks; g++) {
        CU_OK(cuCtxSetCurrent(gpus[g].context));
        CU_OK(cuEventRecord(gpus[g].begin, gpus[g].stream));
    }
    for (int i = 0; i < n; i++)
        for (int g = 0; g < ranks; g++)
            run(g, v);
    for (int g = 0; g < ranks; g++) {
        CU_OK(cuCtxSetCurrent(gpus[g].context));
        CU_OK(cuEventRecord(gpus[g].end, gpus[g].stream));
    }
    sync_all(what);
    for (int g = 0; g < ranks; g++) {
        float ms;
        CU_OK(cuEventElapsedTime(&ms, gpus[g].begin, gpus[g].end));
        sum += ms;
    }
    return sum * 1e3 / n / ranks;
}

/* The same in a graph of 20 operations that alternate between the views, replayed. */
static double timed_graph(struct lat_variant v)
{
    CUgraph graph;
    CUgraphExec exec[GPUS_MAX];
    double sum = 0;
    int replays = 20, ops = 20;
    for (int g = 0; g < ranks; g++) {
        CU_OK(cuCtxSetCurrent(gpus[g].context));
        CU_OK(cuStreamBeginCapture_v2(gpus[g].stream, 2));
        for (int i = 0; i < ops; i++) {
            v.view = (uint32_t)i & 1u;
            run_ldispatch(g, &v);
        }
        CU_OK(cuStreamEndCapture(gpus[g].stream, &graph));
        CU_OK(cuGraphInstantiateWithFlags(&exec[g], graph, 0));
    }
    for (int i = 0; i < replays + 2; i++) {
        if (i == 2)
            sync_all("latency graph");
        for (int g = 0; g < ranks; g++) {
            CU_OK(cuCtxSetCurrent(gpus[g].context));
            if (i == 2)
                CU_OK(cuEventRecord(gpus[g].begin, gpus[g].stream));
            CU_OK(cuGraphLaunch(exec[g], gpus[g].stream));
        }
    }
    for (int g = 0; g < ranks; g++) {
        CU_OK(cuCtxSetCurrent(gpus[g].context));
        CU_OK(cuEventRecord(gpus[g].end, gpus[g].stream));
    }
    sync_all("latency graph");
    for (int g = 0; g < ranks; g++) {
        float ms;
        CU_OK(cuEventElapsedTime(&ms, gpus[g].begin, gpus[g].end));
        sum += ms;
    }
    return sum * 1e3 / (replays * ops) / ranks;
}

static void as_tdispatch(int g, const void *v)
{
    run_tdispatch(g, v);
}
static void as_combine(int g, const void *v)
{
    run_combine(g, v);
}
static void as_ldispatch(int g, const void *v)
{
    run_ldispatch(g, v);
}
static void as_probe(int g, const void *v)
{
    run_probe(g, v);
}
static void as_route(int g, const void *v)
{
    (void)v;
    run_route(g);
}

/* --- the tables ----------------------------------------------------------------------------- */

static double remote_bytes(void)
{
    uint32_t local = EXPERTS / (uint32_t)ranks;
    double rows = 0;
    for (int s = 0; s < ranks; s++)
        for (uint32_t t = 0; t < tokens; t++) {
            uint32_t mask = 0;
            for (int k = 0; k < TOPK; k++)
                mask |= 1u << ((uint32_t)all_ids[((size_t)s * tokens + t) * TOPK + k] / local);
            rows += __builtin_popcount(mask & ~(1u << s));
        }
    return rows / ranks * HIDDEN * 2;
}

static double ceiling(void)
{
    static const struct probe_variant variants[] = {
        {2, 4, 3584, 0, 0},    {4, 4, 3584, 0, 0},    {6, 4, 3584, 0, 0},
        {4, 8, 3584, 0, 0},    {6, 8, 3584, 0, 0},    {8, 8, 3584, 0, 0},
        {2, 4, 14336, 0, 1},   {4, 4, 14336, 0, 1},   {8, 4, 14336, 0, 1},
        {8, 4, 3584, 0, 0},    {8, 4, 3584, 356, 0},  {16, 4, 3584, 0, 0}, {16, 4, 3584, 356, 0},
        {24, 4, 3584, 356, 0}, {32, 4, 3584, 356, 0}, {64, 4, 3584, 0, 0}, {64, 4, 3584, 356, 0},
        {132, 4, 3584, 0, 0},  {16, 4, 14336, 0, 1},  {64, 4, 14336, 0, 1}};
    double best = 0;
    printf("\nbare copies, 3.5 KB stores or 14 KB loads, GB/s per GPU\n");
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
        const struct probe_variant *v = variants + i;
        double us = timed(10, as_probe, v, "probe");
        uint32_t pieces = PROBE_BYTES / v->piece;
        if ((uint64_t)pieces * v->piece > limits.view_bytes)
            pieces = (uint32_t)(limits.view_bytes / v->piece);
        double gbs = (double)pieces * v->piece / us * 1e-3;
        printf("  %s %3d SMs %d warps pace %3.0f: %6.1f GB/s (%.0f us)\n",
               v->load ? "load " : "store", v->blocks, v->warps, v->gbs, gbs, us);
        if (!v->load && gbs > best)
            best = gbs;
    }
    return best;
}

static void table_tdispatch(double best)
{
    static const struct {
        int blocks;
        uint32_t pushers, stages, parts;
    } shapes[] = {{8, 4, 3, 1},   {8, 3, 4, 1},   {8, 2, 6, 1},  {8, 4, 6, 2},  {16, 2, 4, 1},
                  {16, 4, 3, 1},  {16, 4, 6, 2},  {24, 2, 4, 1}, {24, 3, 4, 1}, {24, 4, 6, 2},
                  {32, 2, 4, 1},  {32, 2, 6, 2},  {64, 1, 4, 1}, {64, 1, 6, 2}, {64, 2, 6, 4},
                  {132, 1, 6, 1}, {132, 1, 6, 2}, {132, 1, 8, 4}};
    static const double paces[] = {0, 346, 350, 354, 358};
    double bytes = remote_bytes();
    printf("\nthroughput dispatch BF16, %u tokens, %.1f MB to peers per rank, limit %.0f us\n",
           tokens, bytes * 1e-6, bytes / best * 1e-3);
    for (int w = 0; w < 2; w++)
        for (size_t b = 0; b < sizeof shapes / sizeof *shapes; b++) {
            printf("  %3d SMs x %u, %u stages, %u parts%s:", shapes[b].blocks, shapes[b].pushers,
                   shapes[b].stages, shapes[b].parts, w ? ", weights" : "");
            for (size_t p = 0; p < sizeof paces / sizeof *paces; p++) {
                struct variant v = {shapes[b].blocks, shapes[b].pushers, shapes[b].stages,
                                    shapes[b].parts,  paces[p],          w};
                double us = timed(20, as_tdispatch, &v, "dispatch");
                printf("  %s%.0f us (%.3f)", p ? "" : "free ", us, bytes / us * 1e-3 / best);
            }
            printf("\n");
            fflush(stdout);
        }
}

/* The rows of the last dispatch must lie in td_rows. */
static void table_combine(double best)
{
    static const int blocks[] = {8, 16, 24, 32, 64, 132};
    static const double paces[] = {0, 350};
    double bytes = remote_bytes();
    printf("\nthroughput combine BF16, %u tokens, limit %.0f us (of the stores)\n", tokens,
           bytes / best * 1e-3);
    for (size_t b = 0; b < sizeof blocks / sizeof *blocks; b++) {
        struct combine_variant pull = {blocks[b], 1, 0};
        double us = timed(20, as_combine, &pull, "combine, pull");
        printf("  %3d SMs: pull %.0f us (%.3f)", blocks[b], us, bytes / us * 1e-3 / best);
        for (size_t p = 0; p < sizeof paces / sizeof *paces; p++) {
            struct combine_variant push = {blocks[b], 0, paces[p]};
            us = timed(20, as_combine, &push, "combine, push");
            printf("  push paced at %3.0f: %.0f us (%.3f)", paces[p], us, bytes / us * 1e-3 / best);
        }
        printf("\n");
    }
}

static void table_ldispatch(void)
{
    static const uint32_t counts[] = {128, 64, 8, 1};
    for (uint32_t q = 0; q < 2; q++) {
        printf("\nlatency dispatch %s, rank-major, us per operation: graph of 20, launches\n",
               q ? "FP8" : "BF16");
        for (int i = 0; i < 4; i++) {
            struct lat_variant v = {counts[i], q, 0, 0}, slow = v, fast = v;
            slow.gbs = 350;
            fast.gbs = 450;
            double graph = timed_graph(v), eager = timed(50, as_ldispatch, &v, "latency");
            printf("  %3u tokens: %6.1f  %6.1f; graph paced at 350: %.1f, at 450: %.1f\n",
                   counts[i], graph, eager, timed_graph(slow), timed_graph(fast));
        }
    }
}

/* SM clocks between the places of the last latency dispatch, per block and warp, in microseconds.
 */
static void print_trace(uint32_t count)
{
    static uint64_t marks[256][16][32];
    struct lat_variant v = {count, 0, 0, 0};
    CUdeviceptr p;
    size_t bytes;
    for (int i = 0; i < 8; i++) {
        v.view = (uint32_t)i & 1u;
        for (int g = 0; g < ranks; g++)
            run_ldispatch(g, &v);
    }
    sync_all("trace");
    CU_OK(cuCtxSetCurrent(gpus[0].context));
    CU_OK(cuModuleGetGlobal_v2(&p, &bytes, gpus[0].module, "sy_trace"));
    CU_OK(cuMemcpyDtoH_v2(marks, p, bytes));
    printf("\n%u tokens: clocks / 1980 at each place, GPU 0\n", count);
    for (uint32_t b = 0; b <= count && b < 132; b += b < 2 ? 1 : 43)
        for (int w = 0; w < 16; w += w < 2 ? 1 : 13) {
            printf("  block %3u warp %2d:", b, w);
            for (int i = 0; i < 32; i++)
                if (marks[b][w][i])
                    printf(" %d:%.2f", i,
                           marks[b][w][i] >= marks[b][0][0]
                               ? (double)(marks[b][w][i] - marks[b][0][0]) / 1980
                               : -1.0);
            printf("\n");
        }
}

int main(int argc, char **argv)
{
    const char *why = "", *root = argc > 1 ? argv[1] : ".";
    char name[64];
    struct variant v = {16, 4, 6, 2, 0, 0};
    struct lat_variant lv = {LAT_TOKENS, 0, 0, 0};
    uint32_t wrong = 0;
    void *cubins[sizeof builds / sizeof *builds];
    if (argc > 2)
        tokens = (uint32_t)atoi(argv[2]);
    if (!cu_open(&why)) {
        printf("skipped: %s\n", why);
        return 77;
    }
    CU_OK(cuDeviceGetCount(&ranks));
    ranks = ranks > GPUS_MAX ? GPUS_MAX : ranks;
    CU_OK(cuDeviceGetAttribute(&sms, 16, 0));
    CU_OK(cuDeviceGetAttribute(&clock_khz, 13, 0));
    CU_OK(cuDeviceGetName(name, sizeof name, 0));
    printf("%d x %s, %d SMs, %d MHz\n", ranks, name, sms, clock_khz / 1000);
    trace = argc > 3 ? atoi(argv[3]) : 0;
    for (size_t i = 0; i < sizeof builds / sizeof *builds; i++)
        cubins[i] = build(root, i);
    fill_limits();
    all_ids = malloc(sizeof *all_ids * (size_t)ranks * tokens * TOPK);
    for (int g = 0; g < ranks; g++)
        open_gpu(g, cubins);
    for (int g = 0; g < ranks; g++)
        open_memory(g);
    for (int g = 0; g < ranks; g++)
        open_dev(g);
    for (int g = 0; g < ranks; g++)
        run_route(g);
    sync_all("route");
    for (int g = 0; g < ranks; g++)
        run_tdispatch(g, &v);
    sync_all("dispatch");
    for (int g = 0; g < ranks; g++)
        wrong += check_tdispatch(g);
    for (int pull = 0; pull < 2; pull++) {
        struct combine_variant cv = {16, pull, 0};
        for (int g = 0; g < ranks; g++)
            run_combine(g, &cv);
        sync_all("combine");
        for (int g = 0; g < ranks; g++)
            wrong += check_combine(g);
    }
    for (int g = 0; g < ranks; g++)
        run_ldispatch(g, &lv);
    sync_all("latency dispatch");
    for (int g = 0; g < ranks; g++)
        wrong += check_ldispatch(g, &lv);
    printf("results: %s\n", wrong ? "WRONG" : "right");
    fflush(stdout);
    if (trace) {
        print_trace(1);
        print_trace(128);
        return wrong != 0;
    }
    double best = ceiling();
    printf("route %u tokens: %.1f us\n", tokens, timed(20, as_route, NULL, "route"));
    table_tdispatch(best);
    table_combine(best);
    table_ldispatch();
    return wrong != 0;
}
