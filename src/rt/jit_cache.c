/* jit_cache.c - see jit_cache.h. Sections: the folder | reading | writing | turns. */
#define _POSIX_C_SOURCE 200809L /* O_DIRECTORY */
#include "jit_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/os.h"
#include "base/params.h"

#define PATH_BYTES 1024
#define CUBIN_BYTES_MAX (64u << 20) /* a hundred times the largest */

struct header {
    char magic[8];
    uint64_t bytes; /* behind the header */
    uint8_t key[SY_SHA256_BYTES], hash[SY_SHA256_BYTES];
};

static const char magic[8] = {'S', 'Y', 'C', 'U', 'B', 'I', 'N', '1'};

/* --- the folder ----------------------------------------------------------------------------- */

/* Ours alone: nobody else can put files there. */
static sy_status check_folder(const char *path)
{
    struct stat info;
    sy_status status = SY_OK;
    int fd = sy_os->open_file(path, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return sy_fail_errno(path);
    if (sy_os->stat_file(fd, &info))
        status = sy_fail_errno(path);
    sy_os->close(fd);
    SY_TRY(status);
    if (info.st_uid != sy_os->user() || (info.st_mode & 077))
        return sy_fail(SY_UNSUPPORTED, "%s: not this user's, or open to others", path);
    return SY_OK;
}

/* `depth` folders at the end of the path may be missing; those that are made are for us only. */
static void make_folders(const char *path, int depth)
{
    char part[PATH_BYTES];
    char *slash;
    snprintf(part, sizeof part, "%s", path);
    slash = strrchr(part, '/');
    if (!sy_os->make_dir(path, 0700) || errno != ENOENT || depth == 0 || !slash || slash == part)
        return;
    *slash = 0;
    make_folders(part, depth - 1);
    sy_os->make_dir(path, 0700);
}

sy_status sy_cache_folder(char *path, size_t bytes)
{
    const char *cache = sy_env("XDG_CACHE_HOME"), *home = sy_env("HOME");
    int n;
    if (cache && *cache == '/')
        n = snprintf(path, bytes, "%s/switchyard", cache);
    else if (home && *home == '/')
        n = snprintf(path, bytes, "%s/.cache/switchyard", home);
    else
        return sy_fail(SY_UNSUPPORTED, "neither XDG_CACHE_HOME nor HOME is an absolute path");
    if (n < 0 || (size_t)n >= bytes)
        return sy_fail(SY_UNSUPPORTED, "the path of the kernel cache is too long");
    make_folders(path, 2);
    return check_folder(path);
}

static sy_status path_of(const uint8_t *key, char *path, size_t bytes)
{
    char folder[PATH_BYTES], name[2 * SY_SHA256_BYTES + 1];
    int n;
    SY_TRY(sy_cache_folder(folder, sizeof folder));
    for (int i = 0; i < SY_SHA256_BYTES; i++)
        snprintf(name + 2 * i, 3, "%02x", key[i]);
    n = snprintf(path, bytes, "%s/%s.cubin", folder, name);
    if (n < 0 || (size_t)n >= bytes)
        return sy_fail(SY_UNSUPPORTED, "the path of the kernel cache is too long");
    return SY_OK;
}

/* --- reading -------------------------------------------------------------------------------- */

static int read_all(int fd, void *out, size_t bytes)
{
    size_t got = 0;
    while (got < bytes) {
        ssize_t n = sy_os->read_some(fd, (char *)out + got, bytes - got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return 0;
        got += (size_t)n;
    }
    return 1;
}

static void hash_of(const void *data, size_t bytes, uint8_t hash[SY_SHA256_BYTES])
{
    struct sy_sha256 h;
    sy_sha256_begin(&h);
    sy_sha256_add(&h, data, bytes);
    sy_sha256_end(&h, hash);
}

/* The header and the body of an open file, if both are what they should be. */
static void *take_file(int fd, const uint8_t *key, size_t *bytes)
{
    struct header h;
    struct stat info;
    uint8_t hash[SY_SHA256_BYTES];
    void *body;
    if (sy_os->stat_file(fd, &info) || !S_ISREG(info.st_mode) || info.st_uid != sy_os->user())
        return NULL;
    if (!read_all(fd, &h, sizeof h) || memcmp(h.magic, magic, sizeof magic) ||
        memcmp(h.key, key, sizeof h.key))
        return NULL;
    if (!h.bytes || h.bytes > CUBIN_BYTES_MAX || (uint64_t)info.st_size != sizeof h + h.bytes)
        return NULL;
    body = sy_os->alloc((size_t)h.bytes, 64);
    if (!body)
        return NULL;
    if (read_all(fd, body, (size_t)h.bytes)) {
        hash_of(body, (size_t)h.bytes, hash);
        if (!memcmp(hash, h.hash, sizeof hash)) {
            *bytes = (size_t)h.bytes;
            return body;
        }
    }
    sy_os->free(body);
    return NULL;
}

int sy_cache_load(const uint8_t key[SY_SHA256_BYTES], void **data, size_t *bytes)
{
    char path[PATH_BYTES + 128];
    int fd;
    if (path_of(key, path, sizeof path) != SY_OK)
        return 0;
    fd = sy_os->open_file(path, O_RDONLY | O_NONBLOCK, 0);
    if (fd < 0)
        return 0;
    *data = take_file(fd, key, bytes);
    sy_os->close(fd);
    return *data != NULL;
}

/* --- writing -------------------------------------------------------------------------------- */

static int write_all(int fd, const void *data, size_t bytes)
{
    size_t put = 0;
    while (put < bytes) {
        ssize_t n = sy_os->write_some(fd, (const char *)data + put, bytes - put);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return 0;
        put += (size_t)n;
    }
    return 1;
}

sy_status sy_cache_store(const uint8_t key[SY_SHA256_BYTES], const void *data, size_t bytes)
{
    char path[PATH_BYTES + 128], temporary[PATH_BYTES + 160];
    struct header h;
    uint64_t number;
    sy_status status = SY_OK;
    int fd;
    SY_TRY(path_of(key, path, sizeof path));
    if (sy_os->random(&number, sizeof number))
        return sy_fail_errno("a random name");
    snprintf(temporary, sizeof temporary, "%s.%016llx", path, (unsigned long long)number);
    fd = sy_os->open_file(temporary, O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (fd < 0)
        return sy_fail_errno(temporary);
    memcpy(h.magic, magic, sizeof magic);
    h.bytes = bytes;
    memcpy(h.key, key, sizeof h.key);
    hash_of(data, bytes, h.hash);
    if (!write_all(fd, &h, sizeof h) || !write_all(fd, data, bytes))
        status = sy_fail_errno(temporary);
    sy_os->close(fd);
    if (status == SY_OK && sy_os->rename_file(temporary, path))
        status = sy_fail_errno(path);
    if (status != SY_OK)
        sy_os->remove_file(temporary);
    return status;
}

/* --- turns ---------------------------------------------------------------------------------- */

/* A byte of this file for each kernel: a lock that ends with its process, and no file to remove. */
#define LOCK_NAME "/.lock"
#define LOOK_AGAIN_NS 2000000u

int sy_cache_enter(const uint8_t key[SY_SHA256_BYTES], uint64_t wait_ns)
{
    char folder[PATH_BYTES], path[PATH_BYTES + sizeof LOCK_NAME];
    uint64_t number, until = sy_os->now_ns() + wait_ns;
    int fd;
    if (sy_cache_folder(folder, sizeof folder) != SY_OK)
        return -1;
    snprintf(path, sizeof path, "%s" LOCK_NAME, folder);
    fd = sy_os->open_file(path, O_RDWR | O_CREAT, 0600);
    if (fd < 0)
        return -1;
    memcpy(&number, key, sizeof number);
    while (sy_os->lock_byte(fd, (off_t)(number >> 2))) {
        if ((errno != EAGAIN && errno != EACCES) || sy_os->now_ns() >= until) {
            sy_os->close(fd);
            return -1;
        }
        sy_os->sleep_ns(LOOK_AGAIN_NS);
    }
    return fd;
}

/* A child that the program has forked meanwhile has the file open as well: closing would not do. */
void sy_cache_leave(int turn)
{
    if (turn < 0)
        return;
    sy_os->unlock_bytes(turn);
    sy_os->close(turn);
}
