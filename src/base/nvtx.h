/* nvtx.h - ranges on the time lines of profilers, by the protocol of NVIDIA's NVTX 3: a tool names
 * its library in NVTX_INJECTION64_PATH, the library is loaded and gives us functions to call. None
 * of NVTX's headers or libraries are needed.
 *
 *     return SY_RANGE("sy_combine", combine(route, args, stream));
 *
 * Without a tool that is a branch which always goes the same way. Ranges are those of the calling
 * thread, in the domain "switchyard". */
#ifndef SY_BASE_NVTX_H
#define SY_BASE_NVTX_H

#include "status.h"

/* Set by the process's first sy_nvtx_open(), and never again. */
extern int sy_nvtx_on;

/* Looks for a tool; when a group is made. */
void sy_nvtx_open(void);

void sy_nvtx_push(const char *name);
sy_status sy_nvtx_pop(sy_status status); /* returns its argument */

#define SY_RANGE(name, call) (sy_nvtx_on ? (sy_nvtx_push(name), sy_nvtx_pop(call)) : (call))

#endif
