/* jit.h - compiled kernels for NVIDIA GPUs: those that are part of the library, those on disk, and
 * those that have to be compiled now.
 *
 * All groups of a process share them: what several ranks need is compiled once. */
#ifndef SY_RT_JIT_H
#define SY_RT_JIT_H

#include "base/params.h"
#include "base/sha256.h"
#include "jit_variant.h"

/* For whom: the GPU's compute capability (90: sm_90a) and the driver's version (13). */
struct sy_jit_target {
    int sm, driver;
    int cache; /* parameter SY_CACHE     */
    int lines; /* parameter SY_JIT_LINES */
};

struct sy_cubin {
    const void *data; /* valid until the sy_jit_close() that belongs to the sy_jit_open() */
    size_t bytes;
};

#define SY_JIT_OPTIONS 5

/* Of a kernel: covers all that its binary is made of but the compiler. */
void sy_jit_key(int sm, int lines, const struct sy_variant *v, uint8_t key[SY_SHA256_BYTES]);

/* How kernels for a GPU are compiled; returns the number of options. arch is the caller's, for one
 * of them. lines: kernels carry the numbers of their source lines. */
int sy_jit_options(int sm, int lines, char arch[32], const char *options[SY_JIT_OPTIONS]);

/* Every user opens and closes. threads: parameter SY_JIT_THREADS; the first user's counts. */
sy_status sy_jit_open(int threads);
void sy_jit_close(void);

/* Waits for the compiler if need be. SY_UNSUPPORTED: there is none. */
sy_status sy_jit_get(const struct sy_jit_target *target, const struct sy_variant *v,
                     struct sy_cubin *cubin);

/* Sees to it in the background that a later sy_jit_get() need not wait. */
void sy_jit_start(const struct sy_jit_target *target, const struct sy_variant *v);

/* Where kernels have come from in this process, for tests and people. */
struct sy_jit_counts {
    uint64_t built_in, from_disk, compiled, not_stored;
};
struct sy_jit_counts sy_jit_counts(void);

/* Whether kernels could be had at all: a compiler, or kernels for this GPU in the library. The text
 * says what there is, or what is missing. */
sy_status sy_jit_check(const struct sy_jit_target *target, char *text, size_t bytes);

#endif
