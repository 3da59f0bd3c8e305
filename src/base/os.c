/* os.c - the system's own table for os.h. */
#define _GNU_SOURCE
#include "os.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static void *real_alloc(size_t bytes, size_t align)
{
    void *p = NULL;
    if (align < sizeof(void *))
        align = sizeof(void *);
    if (posix_memalign(&p, align, bytes ? bytes : 1))
        return NULL;
    return p;
}

static void *real_map(void *at, size_t bytes, int prot, int flags, int fd)
{
    return mmap(at, bytes, prot, flags, fd, 0);
}

static int real_memfd(const char *name)
{
    return memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
}

/* Nobody who has the descriptor can change the size under a mapping any more. */
static int real_seal(int fd)
{
    return fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
}

/* 0: it is not sealed, or no memory file. */
static int64_t real_sealed_bytes(int fd)
{
    struct stat info;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 && errno == EINVAL)
        return 0;
    if (seals < 0 || fstat(fd, &info))
        return -1;
    return seals & F_SEAL_SHRINK ? (int64_t)info.st_size : 0;
}

static int real_socket(int domain, int type, int protocol)
{
    return socket(domain, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
}

static int real_accept(int fd)
{
    return accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

static ssize_t real_send(int fd, const void *data, size_t bytes)
{
    return send(fd, data, bytes, MSG_NOSIGNAL);
}

static ssize_t real_recv(int fd, void *data, size_t bytes)
{
    return recv(fd, data, bytes, 0);
}

static ssize_t real_sendmsg(int fd, const struct msghdr *message)
{
    return sendmsg(fd, message, MSG_NOSIGNAL);
}

static ssize_t real_recvmsg(int fd, struct msghdr *message)
{
    return recvmsg(fd, message, MSG_CMSG_CLOEXEC);
}

static int real_pipe(int fds[2])
{
    return pipe2(fds, O_CLOEXEC | O_NONBLOCK);
}

static int real_random(void *out, size_t bytes)
{
    uint8_t *to = out;
    while (bytes) {
        ssize_t n = getrandom(to, bytes, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        to += n;
        bytes -= (size_t)n;
    }
    return 0;
}

/* The bytes that fit, from the beginning of the file. */
static ssize_t real_read_file(const char *path, void *out, size_t bytes)
{
    size_t got = 0;
    ssize_t n = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    while (got < bytes && (n = read(fd, (char *)out + got, bytes - got)) != 0) {
        if (n < 0 && errno != EINTR)
            break;
        got += n > 0 ? (size_t)n : 0;
    }
    close(fd);
    return n < 0 ? -1 : (ssize_t)got;
}

static int real_open_file(const char *path, int flags, mode_t mode)
{
    return open(path, flags | O_CLOEXEC | O_NOFOLLOW, mode);
}

static void *real_open_library(const char *name)
{
    return dlopen(name, RTLD_NOW | RTLD_LOCAL);
}

static void real_close_library(void *library)
{
    dlclose(library);
}

static void real_remove_file(const char *path)
{
    unlink(path);
}

/* As pthread_create() it returns the error. A thread of the library takes no signals: they are the
 * program's, and its handlers expect its own threads. */
static int real_thread(pthread_t *thread, void *(*run)(void *), void *context)
{
    sigset_t all, before;
    int error;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(thread, NULL, run, context);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

/* Of the open file, not of the process: its threads have locks of their own. */
static int real_lock_byte(int fd, off_t at)
{
    struct flock range = {.l_type = F_WRLCK, .l_start = at, .l_len = 1};
    return fcntl(fd, F_OFD_SETLK, &range);
}

static int real_unlock_bytes(int fd)
{
    struct flock range = {.l_type = F_UNLCK};
    return fcntl(fd, F_OFD_SETLK, &range);
}

static void real_close(int fd)
{
    close(fd);
}

static uint64_t real_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void real_sleep_ns(uint64_t ns)
{
    struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    nanosleep(&t, NULL);
}

const struct sy_os sy_os_real = {
    .alloc = real_alloc,
    .map = real_map,
    .unmap = munmap,
    .protect = mprotect,
    .memfd = real_memfd,
    .resize = ftruncate,
    .seal = real_seal,
    .sealed_bytes = real_sealed_bytes,
    .socket = real_socket,
    .bind = bind,
    .listen = listen,
    .accept = real_accept,
    .connect = connect,
    .send = real_send,
    .recv = real_recv,
    .sendmsg = real_sendmsg,
    .recvmsg = real_recvmsg,
    .poll = poll,
    .pipe = real_pipe,
    .set_option = setsockopt,
    .get_option = getsockopt,
    .socket_name = getsockname,
    .interfaces = getifaddrs,
    .read_file = real_read_file,
    .open_file = real_open_file,
    .lock_byte = real_lock_byte,
    .unlock_bytes = real_unlock_bytes,
    .stat_file = fstat,
    .read_some = read,
    .write_some = write,
    .make_dir = mkdir,
    .rename_file = rename,
    .open_library = real_open_library,
    .symbol = dlsym,
    .at_fork = pthread_atfork,
    .random = real_random,
    .thread = real_thread,
    .free = free,
    .close = real_close,
    .remove_file = real_remove_file,
    .close_library = real_close_library,
    .free_interfaces = freeifaddrs,
    .now_ns = real_now_ns,
    .sleep_ns = real_sleep_ns,
    .user = geteuid,
    .process = getpid,
    .parent = getppid,
};

const struct sy_os *sy_os = &sy_os_real;

void *sy_zalloc(size_t bytes)
{
    void *p = sy_os->alloc(bytes, sizeof(void *));
    if (p)
        memset(p, 0, bytes);
    return p;
}

void sy_wait_ms(pthread_cond_t *condition, pthread_mutex_t *lock, int ms)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += ms * 1000000L;
    t.tv_sec += t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    pthread_cond_timedwait(condition, lock, &t);
}
