/* jit_variant.c - see jit_variant.h. */
#include "jit_variant.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name, *args, *entry;
} kernels[SY_KERNELS] = {
#define SY_KERNEL(name, args) [SY_KERNEL_##name] = {#name, #args, "sy_entry_" #name},
#include "device/kernels.def"
#undef SY_KERNEL
};

static const char *const const_names[SY_CONSTS_COUNT] = {
#define SY_CONST(name) "SY_CONST_" #name,
    SY_CONSTS
#undef SY_CONST
};

struct sy_variant sy_variant_general(enum sy_kernel kernel)
{
    struct sy_variant v;
    memset(&v, 0, sizeof v);
    v.kernel = kernel;
    return v;
}

static void know(struct sy_variant *v, int which, sy_u32 value)
{
    v->known |= 1u << which;
    v->value[which] = value;
}

static void know_route(struct sy_variant *v, const struct sy_dev *d, const struct sy_dev_route *r)
{
    know(v, SY_CONST_OF_RANKS, d->ranks);
    know(v, SY_CONST_OF_TOPK, r->topk);
    know(v, SY_CONST_OF_FAN, r->fan);
    know(v, SY_CONST_OF_LAYOUT, r->layout);
}

static void know_rows(struct sy_variant *v, const struct sy_outputs *o, sy_u32 quant)
{
    know(v, SY_CONST_OF_QUANT, quant);
    know(v, SY_CONST_OF_WORK, o->work);
    know(v, SY_CONST_OF_ROW_BYTES, o->row_bytes);
}

struct sy_variant sy_variant_special(enum sy_kernel kernel, const void *args)
{
    struct sy_variant v = sy_variant_general(kernel);
    const struct sy_route_args *route = args;
    const struct sy_tdispatch_args *tdispatch = args;
    const struct sy_ldispatch_args *ldispatch = args;
    const struct sy_combine_kargs *combine = args;
    switch (kernel) {
    case SY_KERNEL_route:
        know_route(&v, &route->d, &route->r);
        know(&v, SY_CONST_OF_BOOKS, route->d.books);
        break;
    case SY_KERNEL_tdispatch:
        know_route(&v, &tdispatch->d, &tdispatch->r);
        know_rows(&v, &tdispatch->out, tdispatch->quant);
        break;
    case SY_KERNEL_ldispatch:
        know_route(&v, &ldispatch->d, &ldispatch->r);
        know_rows(&v, &ldispatch->out, ldispatch->quant);
        break;
    case SY_KERNEL_combine:
        know_route(&v, &combine->d, &combine->r);
        know(&v, SY_CONST_OF_TYPE, combine->type);
        know(&v, SY_CONST_OF_LATENCY, combine->r.latency);
        if (combine->r.layout == SY_TOKEN_MAJOR || combine->r.layout == SY_RANK_MAJOR)
            know(&v, SY_CONST_OF_PULL, combine->pull); /* the others spill with it */
        break;
    default:
        break;
    }
    return v;
}

int sy_variant_same(const struct sy_variant *a, const struct sy_variant *b)
{
    return !memcmp(a, b, sizeof *a);
}

const char *sy_variant_entry(const struct sy_variant *v)
{
    return kernels[v->kernel].entry;
}

/* With fewer than 128 registers combine would spill on GPUs newer than Hopper; it runs up to 15
 * warps (plan/tune.c). */
unsigned sy_variant_threads(const struct sy_variant *v)
{
    return v->kernel == SY_KERNEL_combine ? 480 : 512;
}

void sy_variant_program(const struct sy_variant *v, char text[SY_VARIANT_TEXT])
{
    int n = snprintf(text, SY_VARIANT_TEXT,
                     "#define SY_ONLY %s\n#define SY_ONLY_ARGS %s\n#define SY_THREADS_MAX %u\n",
                     kernels[v->kernel].name, kernels[v->kernel].args, sy_variant_threads(v));
    for (int i = 0; i < SY_CONSTS_COUNT; i++)
        if (v->known >> i & 1u)
            n += snprintf(text + n, (size_t)(SY_VARIANT_TEXT - n), "#define %s %uu\n",
                          const_names[i], v->value[i]);
    snprintf(text + n, (size_t)(SY_VARIANT_TEXT - n), "#include \"entry_cuda.h\"\n");
}
