/* nvrtc_check.c - every kernel compiled for every kind of GPU, without a GPU.
 *
 *     nvrtc_check LIMITS [FOLDER]
 *
 * Compiles with NVRTC what the library would compile at run time: each kernel for any shape, and
 * specialised for shapes that matter. One line per variant and target with what it takes; a line of
 * LIMITS (see there) says how much that may be. The compiled kernels are left in FOLDER, for
 * lanes.py. Without NVRTC it skips, and says why. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/os.h"
#include "base/params.h"
#include "rt/jit.h"
#include "rt/jit_compiler.h"

/* --- what is compiled ----------------------------------------------------------------------- */

static const int targets[] = {80, 90, 100, 120};
#define TARGETS ((int)(sizeof targets / sizeof *targets))

/* Of specialised variants; ranks 8, K 8. any: the kernel for any shape. work of a combine: the
 * sources fetch; of routing: books. */
static const struct shape {
    const char *name;
    enum sy_kernel kernel;
    int any;
    sy_u32 layout, quant, work, row_bytes;
} shapes[] = {
    {"route any", SY_KERNEL_route, 1, 0, 0, 0, 0},
    {"route token", SY_KERNEL_route, 0, SY_TOKEN_MAJOR, 0, 0, 0},
    {"route token+books", SY_KERNEL_route, 0, SY_TOKEN_MAJOR, 0, 1, 0},
    {"route packed", SY_KERNEL_route, 0, SY_EXPERT_PACKED, 0, 0, 0},
    {"route packed+books", SY_KERNEL_route, 0, SY_EXPERT_PACKED, 0, 1, 0},
    {"tdispatch any", SY_KERNEL_tdispatch, 1, 0, 0, 0, 0},
    {"tdispatch token", SY_KERNEL_tdispatch, 0, SY_TOKEN_MAJOR, 0, 0, 14336},
    {"tdispatch token+work", SY_KERNEL_tdispatch, 0, SY_TOKEN_MAJOR, 0, 1, 14336},
    {"tdispatch packed", SY_KERNEL_tdispatch, 0, SY_EXPERT_PACKED, 0, 1, 14336},
    {"tdispatch token+f8", SY_KERNEL_tdispatch, 0, SY_TOKEN_MAJOR, SY_QUANT_F8, 1, 7168},
    {"tdispatch token+ue8m0", SY_KERNEL_tdispatch, 0, SY_TOKEN_MAJOR, SY_QUANT_F8_UE8M0, 1, 7168},
    {"tdispatch packed+f8", SY_KERNEL_tdispatch, 0, SY_EXPERT_PACKED, SY_QUANT_F8, 1, 7168},
    {"ldispatch any", SY_KERNEL_ldispatch, 1, 0, 0, 0, 0},
    {"ldispatch rank", SY_KERNEL_ldispatch, 0, SY_RANK_MAJOR, 0, 0, 14336},
    {"ldispatch rank+f8", SY_KERNEL_ldispatch, 0, SY_RANK_MAJOR, SY_QUANT_F8, 0, 7168},
    {"ldispatch slabs+f8", SY_KERNEL_ldispatch, 0, SY_EXPERT_SLABS, SY_QUANT_F8, 1, 7168},
    {"combine any", SY_KERNEL_combine, 1, 0, 0, 0, 0},
    {"combine token", SY_KERNEL_combine, 0, SY_TOKEN_MAJOR, 0, 0, 0},
    {"combine token+pull", SY_KERNEL_combine, 0, SY_TOKEN_MAJOR, 0, 1, 0},
    {"combine rank", SY_KERNEL_combine, 0, SY_RANK_MAJOR, 0, 0, 0},
    {"combine packed", SY_KERNEL_combine, 0, SY_EXPERT_PACKED, 0, 0, 0},
    {"combine slabs", SY_KERNEL_combine, 0, SY_EXPERT_SLABS, 0, 0, 0},
    {"probe any", SY_KERNEL_probe, 1, 0, 0, 0, 0},
    {"flags any", SY_KERNEL_flags, 1, 0, 0, 0, 0},
};
#define SHAPES ((int)(sizeof shapes / sizeof *shapes))

/* What the compiler said of one variant. */
struct result {
    sy_status status;
    char text[SY_ERROR_TEXT];
    int registers, stack, spills, shared;
    size_t bytes;
};

static struct result results[SHAPES][TARGETS];
static const char *folder; /* NULL: nowhere */

static struct sy_variant variant_of(const struct shape *s)
{
    union {
        struct sy_route_args route;
        struct sy_tdispatch_args tdispatch;
        struct sy_ldispatch_args ldispatch;
        struct sy_combine_kargs combine;
    } a;
    struct sy_dev d = {.ranks = 8};
    struct sy_dev_route r = {.topk = 8,
                             .fan = 8,
                             .layout = s->layout,
                             .latency = s->layout == SY_RANK_MAJOR || s->layout == SY_EXPERT_SLABS};
    struct sy_outputs out = {.work = s->work, .row_bytes = s->row_bytes};
    memset(&a, 0, sizeof a);
    if (s->any)
        return sy_variant_general(s->kernel);
    a.route.d = d;
    a.route.r = r;
    if (s->kernel == SY_KERNEL_route)
        a.route.d.books = s->work;
    if (s->kernel == SY_KERNEL_tdispatch) {
        a.tdispatch.out = out;
        a.tdispatch.quant = s->quant;
    } else if (s->kernel == SY_KERNEL_ldispatch) {
        a.ldispatch.out = out;
        a.ldispatch.quant = s->quant;
    } else if (s->kernel == SY_KERNEL_combine) {
        a.combine.type = SY_BF16;
        a.combine.pull = s->work;
    }
    return sy_variant_special(s->kernel, &a);
}

/* --- compiling ------------------------------------------------------------------------------ */

static int number_before(const char *log, const char *words)
{
    const char *at = strstr(log, words);
    int digits = 0;
    while (at && at > log && at[-1] >= '0' && at[-1] <= '9') {
        at--;
        digits++;
    }
    return digits ? atoi(at) : 0;
}

/* The first function of the report is the kernel; those that are called come behind it. */
static void read_report(struct result *r, const char *log)
{
    const char *used = strstr(log, "Used ");
    r->registers = used ? number_before(used, " registers") : 0;
    r->stack = number_before(log, " bytes cumulative stack size");
    r->shared = number_before(log, " bytes smem");
    for (const char *at = log; (at = strstr(at, " bytes spill stores")); at++) {
        const char *loads = strstr(at, " bytes spill loads");
        r->spills += number_before(at - 12, " bytes spill stores");
        r->spills += loads ? number_before(loads - 12, " bytes spill loads") : 0;
    }
}

/* 0: it could not. */
static int leave(const struct shape *s, int sm, const void *cubin, size_t bytes)
{
    char path[1024];
    FILE *f;
    int good;
    snprintf(path, sizeof path, "%s/%s sm_%d.cubin", folder, s->name, sm);
    f = fopen(path, "wb");
    good = f && fwrite(cubin, 1, bytes, f) == bytes;
    return f && fclose(f) == 0 && good;
}

static void compile(const struct shape *s, int sm, struct result *r)
{
    const char *options[SY_JIT_OPTIONS + 1];
    char arch[32], program[SY_VARIANT_TEXT], *log = NULL;
    const struct sy_variant v = variant_of(s);
    void *cubin = NULL;
    int count = sy_jit_options(sm, 0, arch, options);
    options[count++] = "--ptxas-options=-v";
    sy_variant_program(&v, program);
    r->status = sy_nvrtc_compile(program, options, count, &cubin, &r->bytes, &log);
    if (r->status != SY_OK)
        snprintf(r->text, sizeof r->text, "%s", sy_last_error());
    else if (log)
        read_report(r, log);
    if (r->status == SY_OK && folder && !leave(s, sm, cubin, r->bytes)) {
        r->status = SY_SYSTEM;
        snprintf(r->text, sizeof r->text, "cannot be written to %s", folder);
    }
    sy_os->free(cubin);
    sy_os->free(log);
}

static void *compile_some(void *context)
{
    static int next;
    (void)context;
    for (;;) {
        int i = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED);
        if (i >= SHAPES * TARGETS)
            return NULL;
        compile(shapes + i / TARGETS, targets[i % TARGETS], &results[i / TARGETS][i % TARGETS]);
    }
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

/* --- limits --------------------------------------------------------------------------------- */

struct limit {
    char name[64];
    int registers, stack, spills, used;
};

static struct limit limits[64];
static int limits_count;

static int read_limits(const char *path)
{
    char line[256];
    FILE *f = fopen(path, "r");
    if (!f)
        return 0;
    while (fgets(line, sizeof line, f) && limits_count < 64) {
        struct limit *l = limits + limits_count;
        char a[32], b[32];
        if (line[0] != '#' &&
            sscanf(line, "%31s %31s %d %d %d", a, b, &l->registers, &l->stack, &l->spills) == 5) {
            snprintf(l->name, sizeof l->name, "%s %s", a, b);
            limits_count++;
        }
    }
    fclose(f);
    return limits_count;
}

static struct limit *limit_of(const char *name)
{
    for (int i = 0; i < limits_count; i++)
        if (!strcmp(limits[i].name, name))
            return limits + i;
    return NULL;
}

/* 1: within its limits. */
static int judge(const struct shape *s, int sm, const struct result *r)
{
    struct limit *l = limit_of(s->name);
    const char *what = "";
    if (l)
        l->used = 1;
    if (r->status != SY_OK) {
        printf("FAIL %-22s sm_%-4d %s\n", s->name, sm, r->text);
        return 0;
    }
    if (!l)
        what = "no limits for it";
    else if (!r->registers)
        what = "the compiler did not report";
    else if (r->registers > l->registers)
        what = "too many registers";
    else if (r->stack > l->stack)
        what = "too much stack";
    else if (r->spills > l->spills)
        what = "spills";
    printf("%s %-22s sm_%-4d %3d registers, %3d bytes stack, %d spilled, %d shared, %zu KiB%s%s\n",
           *what ? "FAIL" : "ok  ", s->name, sm, r->registers, r->stack, r->spills, r->shared,
           r->bytes >> 10, *what ? ": " : "", what);
    return !*what;
}

int main(int argc, char **argv)
{
    struct sy_nvrtc_version version;
    int passed = 0, failed = 0;
    if (argc < 2 || !read_limits(argv[1])) {
        printf("no limits in %s\n0 passed, 1 failed, 0 skipped\n", argc > 1 ? argv[1] : "?");
        return 1;
    }
    if (sy_nvrtc_load(99, &version) != SY_OK) {
        printf("skip nvrtc: %s\n0 passed, 0 failed, 1 skipped\n", sy_last_error());
        return 0;
    }
    folder = argc > 2 ? argv[2] : NULL;
    printf("NVRTC %d.%d\n", version.major, version.minor);
    compile_all();
    for (int i = 0; i < SHAPES; i++)
        for (int t = 0; t < TARGETS; t++)
            *(judge(shapes + i, targets[t], &results[i][t]) ? &passed : &failed) += 1;
    for (int i = 0; i < limits_count; i++)
        if (!limits[i].used) {
            printf("FAIL %s: limits for a variant that is not compiled\n", limits[i].name);
            failed++;
        }
    printf("%d passed, %d failed, 0 skipped\n", passed, failed);
    return failed != 0;
}
