/* jit_cache.h - compiled kernels on disk, in $XDG_CACHE_HOME/switchyard or ~/.cache/switchyard.
 *
 * A file is named by the key of what it holds and begins with a header that repeats it. What is
 * corrupt, cut short, somebody else's or a link is as good as absent, and replaced. Writers use a
 * name of their own and rename, so readers see whole files only. Any failure just means that the
 * cache is of no use this time. */
#ifndef SY_RT_JIT_CACHE_H
#define SY_RT_JIT_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "base/sha256.h"
#include "base/status.h"

/* 1: found; *data is the caller's, for sy_os->free(). */
int sy_cache_load(const uint8_t key[SY_SHA256_BYTES], void **data, size_t *bytes);

/* SY_SYSTEM and the last error say why it could not be stored. */
sy_status sy_cache_store(const uint8_t key[SY_SHA256_BYTES], const void *data, size_t bytes);

/* Its maker's turn: one process at a time compiles a kernel, the others wait until it has, or has
 * gone, or `wait_ns` are over. Returns what sy_cache_leave() wants; -1: nobody can be waited for.
 * Either way the kernel may be on disk now. */
int sy_cache_enter(const uint8_t key[SY_SHA256_BYTES], uint64_t wait_ns);
void sy_cache_leave(int turn); /* -1 is fine */

/* The folder, for people. SY_UNSUPPORTED: the environment names none, or it is not safe to use. */
sy_status sy_cache_folder(char *path, size_t bytes);

#endif
