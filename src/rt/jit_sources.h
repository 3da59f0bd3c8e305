/* jit_sources.h - the device sources as they are embedded in the library. */
#ifndef SY_RT_JIT_SOURCES_H
#define SY_RT_JIT_SOURCES_H

#include <stddef.h>

/* Files include each other as "name" inside a folder and as "../folder/name" across. */
struct sy_source {
    const char *name, *across;
    const char *begin, *end; /* a zero byte follows */
};

enum {
#define SY_SOURCE(folder, name, id) SY_SOURCE_##id,
#include "jit_sources.def"
#undef SY_SOURCE
    SY_SOURCES
};

extern const struct sy_source sy_sources[SY_SOURCES];

#endif
