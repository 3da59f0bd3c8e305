/* jit_aot.h - kernels that were compiled when the library was built, if a compiler was there. */
#ifndef SY_RT_JIT_AOT_H
#define SY_RT_JIT_AOT_H

#include <stddef.h>
#include <stdint.h>

#include "base/sha256.h"

struct sy_aot {
    uint8_t key[SY_SHA256_BYTES]; /* of sources, program and options: jit.c */
    int sm;
    const unsigned char *begin, *end;
};

extern const struct sy_aot sy_aot_cubins[]; /* ends with begin == NULL */

#endif
