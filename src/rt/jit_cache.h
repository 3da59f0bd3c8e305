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

/* The folder, for people. SY_UNSUPPORTED: the environment names none, or it is not safe to use. */
sy_status sy_cache_folder(char *path, size_t bytes);

#endif
