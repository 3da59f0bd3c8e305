/* aot.c - compiles kernels while the library is built, so that it needs no compiler later.
 *
 *     aot FOLDER [SM...]
 *
 * Writes a file per kernel and jit_aot.inc, which src/rt/jit_aot.c makes a table of: for every kind
 * of GPU, or those of the compute capabilities SM (90), the kernels for any shape, and for the most
 * common ones those of common shapes. Part of `make AOT=1`; linked with the library's own objects,
 * so that both agree on keys and options. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/os.h"
#include "rt/jit.h"
#include "rt/jit_aot.h"
#include "rt/jit_compiler.h"

#define JOBS_MAX 512

/* This program's library has none. */
const struct sy_aot sy_aot_cubins[] = {{{0}, 0, NULL, NULL}};

struct job {
    struct sy_variant variant;
    int sm;
    void *cubin;
    size_t bytes;
};

static struct job jobs[JOBS_MAX];
static int count, failed;

/* --- which ---------------------------------------------------------------------------------- */

static void add(int sm, struct sy_variant v)
{
    for (int i = 0; i < count; i++)
        if (jobs[i].sm == sm && sy_variant_same(&jobs[i].variant, &v))
            return;
    if (count == JOBS_MAX)
        abort();
    jobs[count].sm = sm;
    jobs[count++].variant = v;
}

static void add_special(int sm, enum sy_kernel kernel, struct sy_dev_route r, sy_u32 ranks,
                        sy_u32 quant, struct sy_outputs out)
{
    union {
        struct sy_route_args route;
        struct sy_tdispatch_args tdispatch;
        struct sy_ldispatch_args ldispatch;
        struct sy_combine_kargs combine;
    } a;
    memset(&a, 0, sizeof a);
    a.route.d.ranks = ranks;
    a.route.d.books = 1;
    a.route.r = r;
    if (kernel == SY_KERNEL_tdispatch) {
        a.tdispatch.out = out;
        a.tdispatch.quant = quant;
    } else if (kernel == SY_KERNEL_ldispatch) {
        a.ldispatch.out = out;
        a.ldispatch.quant = quant;
    } else if (kernel == SY_KERNEL_combine) {
        a.combine.type = SY_BF16;
        a.combine.pull = out.work;
    }
    add(sm, sy_variant_special(kernel, &a));
}

/* Top-8 of hidden size 7168: BF16 rows, and FP8 ones that are quantised on the way. work of a
 * combine: the sources fetch. */
static void add_common(int sm, sy_u32 ranks)
{
    static const struct {
        enum sy_kernel kernel;
        sy_u32 layout, quant, work;
    } common[] = {
        {SY_KERNEL_route, SY_TOKEN_MAJOR, 0, 0},      {SY_KERNEL_route, SY_EXPERT_PACKED, 0, 0},
        {SY_KERNEL_tdispatch, SY_TOKEN_MAJOR, 0, 0},  {SY_KERNEL_tdispatch, SY_TOKEN_MAJOR, 0, 1},
        {SY_KERNEL_tdispatch, SY_TOKEN_MAJOR, 1, 1},  {SY_KERNEL_tdispatch, SY_EXPERT_PACKED, 0, 1},
        {SY_KERNEL_ldispatch, SY_RANK_MAJOR, 0, 0},   {SY_KERNEL_ldispatch, SY_RANK_MAJOR, 1, 1},
        {SY_KERNEL_ldispatch, SY_EXPERT_SLABS, 1, 1}, {SY_KERNEL_combine, SY_TOKEN_MAJOR, 0, 0},
        {SY_KERNEL_combine, SY_TOKEN_MAJOR, 0, 1},    {SY_KERNEL_combine, SY_EXPERT_PACKED, 0, 0},
        {SY_KERNEL_combine, SY_RANK_MAJOR, 0, 0},     {SY_KERNEL_combine, SY_EXPERT_SLABS, 0, 0}};
    for (size_t i = 0; i < sizeof common / sizeof *common; i++) {
        struct sy_dev_route r = {.topk = 8, .fan = ranks < 8 ? ranks : 8};
        struct sy_outputs out = {.work = common[i].work};
        r.layout = common[i].layout;
        r.latency = r.layout == SY_RANK_MAJOR || r.layout == SY_EXPERT_SLABS;
        out.row_bytes = common[i].quant ? 7168 : 14336;
        add_special(sm, common[i].kernel, r, ranks, common[i].quant, out);
    }
}

/* wanted: compute capabilities, none for all. */
static void add_all(char **wanted)
{
    static const struct {
        int sm, common;
    } targets[] = {{80, 0}, {90, 1}, {100, 1}, {120, 0}};
    for (size_t t = 0; t < sizeof targets / sizeof *targets; t++) {
        int take = !*wanted;
        for (char **w = wanted; *w; w++)
            take |= atoi(*w) == targets[t].sm;
        for (int k = 0; k < SY_KERNELS && take; k++)
            add(targets[t].sm, sy_variant_general((enum sy_kernel)k));
        for (sy_u32 ranks = 2; ranks <= 8 && take && targets[t].common; ranks *= 2)
            add_common(targets[t].sm, ranks);
    }
}

/* --- compiling ------------------------------------------------------------------------------ */

static void *compile_some(void *context)
{
    static int next;
    const char *options[SY_JIT_OPTIONS];
    char arch[32], program[SY_VARIANT_TEXT];
    int i, n;
    (void)context;
    while ((i = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED)) < count) {
        struct job *job = jobs + i;
        n = sy_jit_options(job->sm, 0, arch, options);
        sy_variant_program(&job->variant, program);
        if (sy_nvrtc_compile(program, options, n, &job->cubin, &job->bytes, NULL)) {
            fprintf(stderr, "aot: %s\n", sy_last_error());
            __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
        }
    }
    return NULL;
}

static void compile_all(void)
{
    pthread_t threads[64];
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    n = n < 1 ? 1 : n > 64 ? 64 : n;
    for (long i = 0; i < n; i++)
        if (pthread_create(threads + i, NULL, compile_some, NULL))
            abort();
    for (long i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
}

/* --- writing -------------------------------------------------------------------------------- */

static int write_one(const char *folder, int i, FILE *table)
{
    uint8_t key[SY_SHA256_BYTES];
    char path[1024];
    FILE *f;
    int bad;
    snprintf(path, sizeof path, "%s/%03d.cubin", folder, i);
    f = fopen(path, "wb");
    if (!f)
        return 1;
    bad = fwrite(jobs[i].cubin, 1, jobs[i].bytes, f) != jobs[i].bytes;
    bad |= fclose(f) != 0;
    sy_jit_key(jobs[i].sm, 0, &jobs[i].variant, key);
    fprintf(table, "SY_CUBIN(%d, \"%s\", %d", i, path, jobs[i].sm);
    for (int b = 0; b < SY_SHA256_BYTES; b++)
        fprintf(table, ", %d", key[b]);
    fprintf(table, ")\n");
    return bad;
}

int main(int argc, char **argv)
{
    struct sy_nvrtc_version version;
    char path[1024];
    FILE *table;
    int bad = 0;
    if (argc < 2 || sy_nvrtc_load(99, &version)) {
        fprintf(stderr, "aot: %s\n", argc < 2 ? "aot FOLDER [SM...]" : sy_last_error());
        return 1;
    }
    add_all(argv + 2);
    if (!count) {
        fprintf(stderr, "aot: none of these compute capabilities is known\n");
        return 1;
    }
    compile_all();
    snprintf(path, sizeof path, "%s/jit_aot.inc", argv[1]);
    table = fopen(path, "w");
    for (int i = 0; i < count && table && !failed && !bad; i++)
        bad = write_one(argv[1], i, table);
    bad |= !table || fclose(table) || failed;
    printf("aot: %d kernels%s\n", count, bad ? ", failed" : "");
    return bad;
}
