/* fds.c - see fds.h. */
#include "fds.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "base/os.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int *list;
static int count, room, prepared;
static uint32_t generation = 1;

void sy_boot_lock(void)
{
    pthread_mutex_lock(&mutex);
}

void sy_boot_unlock(void)
{
    pthread_mutex_unlock(&mutex);
}

static void forked_child(void)
{
    for (int i = 0; i < count; i++)
        sy_os->close(list[i]);
    count = 0;
    generation++;
    pthread_mutex_unlock(&mutex);
}

uint32_t sy_fd_generation(void)
{
    uint32_t is;
    sy_boot_lock();
    is = generation;
    sy_boot_unlock();
    return is;
}

/* Room for so many more, and the handlers in place. 0, or -1 with errno. */
static int make_room(int more)
{
    int *larger;
    if (!prepared) {
        int error = sy_os->at_fork(sy_boot_lock, sy_boot_unlock, forked_child);
        if (error) {
            errno = error;
            return -1;
        }
        prepared = 1;
    }
    if (count + more <= room)
        return 0;
    larger = sy_os->alloc(sizeof *larger * (size_t)(2 * room + 32), sizeof *larger);
    if (!larger) {
        errno = ENOMEM;
        return -1;
    }
    if (count)
        memcpy(larger, list, sizeof *larger * (size_t)count);
    sy_os->free(list);
    list = larger;
    room = 2 * room + 32;
    return 0;
}

/* The lock is held from before the call that makes a descriptor until it is on the list, so that no
 * fork comes between. None of these calls waits: all sockets are non-blocking. */
static int keep(int fd)
{
    if (fd >= 0)
        list[count++] = fd;
    return fd;
}

int sy_fd_socket(int domain, int type, int protocol)
{
    int fd;
    sy_boot_lock();
    fd = make_room(1) ? -1 : keep(sy_os->socket(domain, type, protocol));
    sy_boot_unlock();
    return fd;
}

int sy_fd_accept(int listener)
{
    int fd;
    sy_boot_lock();
    fd = make_room(1) ? -1 : keep(sy_os->accept(listener));
    sy_boot_unlock();
    return fd;
}

int sy_fd_pipe(int fds[2])
{
    int result;
    sy_boot_lock();
    result = make_room(2) ? -1 : sy_os->pipe(fds);
    if (!result) {
        keep(fds[0]);
        keep(fds[1]);
    }
    sy_boot_unlock();
    return result;
}

void sy_fd_close(int fd)
{
    if (fd < 0)
        return;
    sy_boot_lock();
    for (int i = 0; i < count; i++) {
        if (list[i] == fd) {
            list[i] = list[--count];
            break;
        }
    }
    sy_os->close(fd);
    if (!count) {
        sy_os->free(list);
        list = NULL;
        room = 0;
    }
    sy_boot_unlock();
}
