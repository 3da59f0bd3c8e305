/* jit_compiler.h - NVIDIA's run-time compiler, found at run time. */
#ifndef SY_RT_JIT_COMPILER_H
#define SY_RT_JIT_COMPILER_H

#include <stddef.h>

#include "base/status.h"

struct sy_nvrtc_version {
    int major, minor;
};

/* Looks for a compiler whose major version is at most `newest`, the driver's: binaries of a newer
 * one do not load. SY_UNSUPPORTED says what is missing. The same for the life of the process. */
sy_status sy_nvrtc_load(int newest, struct sy_nvrtc_version *version);

/* For tests: the next sy_nvrtc_load() looks again. */
void sy_nvrtc_forget(void);

/* After sy_nvrtc_load(). Compiles `text`, which may include the embedded sources. *cubin is the
 * caller's, for sy_os->free(), and so is *log, the compiler's words, unless log is NULL. From any
 * thread. */
sy_status sy_nvrtc_compile(const char *text, const char *const *options, int count, void **cubin,
                           size_t *bytes, char **log);

#endif
