/* os.h - the seam to the operating system: every call that can fail, block or differ between runs.
 *
 * Library code calls sy_os->x(), never x() itself (scripts/tidy.py checks). Tests put their own
 * table here to make the n-th call fail; nobody changes it while a group exists. */
#ifndef SY_BASE_OS_H
#define SY_BASE_OS_H

#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>

/* SY_OS(result, name, parameters): fails as the system call of that name does. */
/* open_file: closed on exec, and no symbolic link. lock_byte: a lock that no other
 * open file has then; does not wait. unlock_bytes: of all that this one has. */
#define SY_OS_CALLS                                                                                \
    SY_OS(void *, alloc, (size_t bytes, size_t align))                                             \
    SY_OS(void *, map, (void *at, size_t bytes, int prot, int flags, int fd))                      \
    SY_OS(int, unmap, (void *at, size_t bytes))                                                    \
    SY_OS(int, protect, (void *at, size_t bytes, int prot))                                        \
    SY_OS(int, memfd, (const char *name))                                                          \
    SY_OS(int, resize, (int fd, off_t bytes))                                                      \
    SY_OS(int, seal, (int fd))                                                                     \
    SY_OS(int64_t, sealed_bytes, (int fd))                                                         \
    SY_OS(int, socket, (int domain, int type, int protocol))                                       \
    SY_OS(int, bind, (int fd, const struct sockaddr *at, socklen_t bytes))                         \
    SY_OS(int, listen, (int fd, int backlog))                                                      \
    SY_OS(int, accept, (int fd))                                                                   \
    SY_OS(int, connect, (int fd, const struct sockaddr *to, socklen_t bytes))                      \
    SY_OS(ssize_t, send, (int fd, const void *data, size_t bytes))                                 \
    SY_OS(ssize_t, recv, (int fd, void *data, size_t bytes))                                       \
    SY_OS(ssize_t, sendmsg, (int fd, const struct msghdr *message))                                \
    SY_OS(ssize_t, recvmsg, (int fd, struct msghdr *message))                                      \
    SY_OS(int, poll, (struct pollfd * fds, nfds_t count, int timeout_ms))                          \
    SY_OS(int, pipe, (int fds[2]))                                                                 \
    SY_OS(int, set_option, (int fd, int level, int name, const void *value, socklen_t bytes))      \
    SY_OS(int, get_option, (int fd, int level, int name, void *value, socklen_t *bytes))           \
    SY_OS(int, socket_name, (int fd, struct sockaddr *at, socklen_t *bytes))                       \
    SY_OS(int, interfaces, (struct ifaddrs * *list))                                               \
    SY_OS(ssize_t, read_file, (const char *path, void *out, size_t bytes))                         \
    SY_OS(int, open_file, (const char *path, int flags, mode_t mode))                              \
    SY_OS(int, lock_byte, (int fd, off_t at))                                                      \
    SY_OS(int, unlock_bytes, (int fd))                                                             \
    SY_OS(int, stat_file, (int fd, struct stat *info))                                             \
    SY_OS(ssize_t, read_some, (int fd, void *out, size_t bytes))                                   \
    SY_OS(ssize_t, write_some, (int fd, const void *data, size_t bytes))                           \
    SY_OS(int, make_dir, (const char *path, mode_t mode))                                          \
    SY_OS(int, rename_file, (const char *from, const char *to))                                    \
    SY_OS(void *, open_library, (const char *name))                                                \
    SY_OS(void *, symbol, (void *library, const char *name))                                       \
    SY_OS(int, at_fork, (void (*before)(void), void (*parent)(void), void (*child)(void)))         \
    SY_OS(int, random, (void *out, size_t bytes))                                                  \
    SY_OS(int, thread, (pthread_t * thread, void *(*run)(void *), void *context))

struct ifaddrs;
struct stat;

struct sy_os {
#define SY_OS(result, name, parameters) result(*name) parameters;
    SY_OS_CALLS
#undef SY_OS
    void (*free)(void *pointer);
    void (*close)(int fd);
    void (*remove_file)(const char *path);
    void (*close_library)(void *library);
    void (*free_interfaces)(struct ifaddrs *list);
    uint64_t (*now_ns)(void); /* monotonic */
    void (*sleep_ns)(uint64_t ns);
    uid_t (*user)(void); /* effective                    */
    pid_t (*process)(void);
    pid_t (*parent)(void); /* process that started this one */
};

extern const struct sy_os *sy_os;     /* what the library uses   */
extern const struct sy_os sy_os_real; /* the system's own        */

/* Waits on a condition for so long at most; may wake up early. */
void sy_wait_ms(pthread_cond_t *condition, pthread_mutex_t *lock, int ms);

/* Zeroed memory through sy_os, or NULL. */
void *sy_zalloc(size_t bytes);

#endif
