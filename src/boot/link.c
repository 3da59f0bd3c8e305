/* link.c - see link.h. */
#define _GNU_SOURCE /* struct ucred */
#include "link.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "base/os.h"
#include "base/status.h"

int sy_link_later(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

int sy_link_gone(int error)
{
    return error == ECONNRESET || error == EPIPE || error == ENOTCONN || error == ETIMEDOUT ||
           error == EHOSTUNREACH;
}

int sy_link_wait_ms(uint64_t deadline_ns)
{
    uint64_t now = sy_os->now_ns(), ms;
    if (now >= deadline_ns)
        return 0;
    ms = (deadline_ns - now + 999999) / 1000000;
    return ms < 60000 ? (int)ms : 60000;
}

sy_status sy_link_wait(int fd, short events, uint64_t deadline_ns, const char *what)
{
    for (;;) {
        struct pollfd p = {.fd = fd, .events = events};
        int ms = sy_link_wait_ms(deadline_ns);
        int n = sy_os->poll(&p, 1, ms);
        if (n > 0)
            return SY_OK;
        if (n < 0 && errno != EINTR)
            return sy_fail_errno(what);
        if (!ms)
            return sy_fail(SY_TIMEOUT, "%s: nothing until the deadline", what);
    }
}

sy_status sy_link_send(int fd, const void *data, size_t bytes, uint64_t deadline_ns,
                       const char *what)
{
    const char *from = data;
    while (bytes) {
        ssize_t n = sy_os->send(fd, from, bytes);
        if (n >= 0) {
            from += n;
            bytes -= (size_t)n;
        } else if (sy_link_gone(errno)) {
            return sy_fail(SY_PEER_LOST, "%s: the other end is closed", what);
        } else if (!sy_link_later(errno)) {
            return sy_fail_errno(what);
        } else {
            SY_TRY(sy_link_wait(fd, POLLOUT, deadline_ns, what));
        }
    }
    return SY_OK;
}

sy_status sy_link_recv(int fd, void *data, size_t bytes, uint64_t deadline_ns, const char *what)
{
    char *to = data;
    while (bytes) {
        ssize_t n = sy_os->recv(fd, to, bytes);
        if (n > 0) {
            to += n;
            bytes -= (size_t)n;
        } else if (!n || sy_link_gone(errno)) {
            return sy_fail(SY_PEER_LOST, "%s: the other end is closed", what);
        } else if (!sy_link_later(errno)) {
            return sy_fail_errno(what);
        } else {
            SY_TRY(sy_link_wait(fd, POLLIN, deadline_ns, what));
        }
    }
    return SY_OK;
}

int sy_link_peer_user(int fd, uid_t *user)
{
    struct ucred who;
    socklen_t bytes = sizeof who;
    if (sy_os->get_option(fd, SOL_SOCKET, SO_PEERCRED, &who, &bytes) || bytes != sizeof who)
        return -1;
    *user = who.uid;
    return who.uid == sy_os->user();
}

uint64_t sy_link_network(int fd)
{
    uint64_t cookie;
    socklen_t bytes = sizeof cookie;
    if (sy_os->get_option(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &bytes) ||
        bytes != sizeof cookie)
        return 0;
    return cookie;
}

void sy_link_tune_tcp(int fd)
{
    const int on = 1, idle_s = 10, every_s = 5, times = 3;
    sy_os->set_option(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    sy_os->set_option(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    sy_os->set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    sy_os->set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every_s, sizeof every_s);
    sy_os->set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, &times, sizeof times);
}
