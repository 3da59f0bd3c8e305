/* jit_variant.h - which kernel, compiled with which knowledge. Pure functions. */
#ifndef SY_RT_JIT_VARIANT_H
#define SY_RT_JIT_VARIANT_H

#include "rt.h"

/* What a compiled kernel may know in advance: SY_CONST(name), for SY_CONST_<name> of
 * device/prims.h. */
#define SY_CONSTS                                                                                  \
    SY_CONST(RANKS)                                                                                \
    SY_CONST(TOPK)                                                                                 \
    SY_CONST(FAN)                                                                                  \
    SY_CONST(LAYOUT)                                                                               \
    SY_CONST(QUANT)                                                                                \
    SY_CONST(WORK)                                                                                 \
    SY_CONST(ROW_BYTES)                                                                            \
    SY_CONST(TYPE)                                                                                 \
    SY_CONST(LATENCY)                                                                              \
    SY_CONST(PULL)                                                                                 \
    SY_CONST(BOOKS)

enum {
#define SY_CONST(name) SY_CONST_OF_##name,
    SY_CONSTS
#undef SY_CONST
        SY_CONSTS_COUNT
};

struct sy_variant {
    sy_u32 kernel;                 /* enum sy_kernel                        */
    sy_u32 known;                  /* a bit for each constant that is known */
    sy_u32 value[SY_CONSTS_COUNT]; /* 0 where unknown                       */
};

/* The kernel as it serves any launch, and as it serves those that are like this one. */
struct sy_variant sy_variant_general(enum sy_kernel kernel);
struct sy_variant sy_variant_special(enum sy_kernel kernel, const void *args);

int sy_variant_same(const struct sy_variant *a, const struct sy_variant *b);

/* Name of the entry point in the compiled file. */
const char *sy_variant_entry(const struct sy_variant *v);

/* Most threads of a block: the fewer, the more registers each may have. */
unsigned sy_variant_threads(const struct sy_variant *v);

#define SY_VARIANT_TEXT 1024

/* The program that the compiler gets: the constants, then the sources. */
void sy_variant_program(const struct sy_variant *v, char text[SY_VARIANT_TEXT]);

#endif
