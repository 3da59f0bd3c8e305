/* id.c - SY_BOOT_ID: ids, and the address at which their group is served. */
#define _DEFAULT_SOURCE /* ifaddrs */
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "base/os.h"
#include "base/params.h"
#include "boot.h"
#include "fds.h"
#include "link.h"
#include "serve.h"

#define SELF_NS 200000000ull /* for a connection from this host to itself                        */
#define WAIT_TIMEOUTS 20     /* an id is good for so many of SY_TIMEOUT_MS until a rank comes     */

static socklen_t make_address(const struct sy_meeting *meeting, struct sockaddr_storage *at)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(meeting->port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(meeting->port)};
    memset(at, 0, sizeof *at);
    if (meeting->family == 4) {
        memcpy(&v4.sin_addr, meeting->address, sizeof v4.sin_addr);
        memcpy(at, &v4, sizeof v4);
        return sizeof v4;
    }
    memcpy(&v6.sin6_addr, meeting->address, sizeof v6.sin6_addr);
    memcpy(at, &v6, sizeof v6);
    return sizeof v6;
}

sy_status sy_id_place(const sy_id *id, struct sy_place *place)
{
    struct sy_meeting meeting;
    int good = sy_meeting_read(id, &meeting);
    memset(place, 0, sizeof *place);
    if (good) {
        place->at_bytes = make_address(&meeting, &place->at);
        memcpy(place->group, meeting.group, sizeof place->group);
        memcpy(place->secret, meeting.secret, sizeof place->secret);
    }
    sy_wipe(&meeting, sizeof meeting);
    SY_NEED(good, "the id was not made by sy_id_create() of this version");
    return SY_OK;
}

/* Whether this host reaches its own listener. An interface may be up and yet lead nowhere. */
static int reaches_itself(const struct sockaddr_storage *at, socklen_t bytes)
{
    uint64_t deadline_ns = sy_os->now_ns() + SELF_NS;
    int fd = sy_fd_socket(at->ss_family, SOCK_STREAM, 0), error = 0;
    socklen_t error_bytes = sizeof error;
    int good = fd >= 0 && (!sy_os->connect(fd, (const void *)at, bytes) || errno == EINPROGRESS) &&
               sy_link_wait(fd, POLLOUT, deadline_ns, "connecting to itself") == SY_OK &&
               !sy_os->get_option(fd, SOL_SOCKET, SO_ERROR, &error, &error_bytes) && !error;
    sy_fd_close(fd);
    return good;
}

/* Listens at meeting->address; fills in the port. -1: cannot, sy_last_error() says why. */
static int listen_at(struct sy_meeting *meeting)
{
    struct sockaddr_storage at;
    socklen_t bytes = make_address(meeting, &at), got = sizeof at;
    int fd = sy_fd_socket(at.ss_family, SOCK_STREAM, 0), on = 1;
    if (fd < 0) {
        sy_fail_errno("socket");
        return -1;
    }
    if (meeting->port)
        sy_os->set_option(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (sy_os->bind(fd, (const void *)&at, bytes))
        sy_fail_errno("bind");
    else if (sy_os->listen(fd, SOMAXCONN))
        sy_fail_errno("listen");
    else if (sy_os->socket_name(fd, (void *)&at, &got))
        sy_fail_errno("getsockname");
    else if (!reaches_itself(&at, bytes))
        sy_fail(SY_SYSTEM, "this host does not reach its own listener");
    else {
        meeting->port = ntohs(meeting->family == 4 ? ((const struct sockaddr_in *)&at)->sin_port
                                                   : ((const struct sockaddr_in6 *)&at)->sin6_port);
        return fd;
    }
    sy_fd_close(fd);
    return -1;
}

/* Whether other hosts may reach that interface's address; puts it into the meeting. */
static int take_interface(const struct ifaddrs *one, int family, struct sy_meeting *meeting)
{
    memset(meeting->address, 0, sizeof meeting->address);
    meeting->family = family;
    if (!one->ifa_addr || !(one->ifa_flags & IFF_UP) || !(one->ifa_flags & IFF_RUNNING) ||
        one->ifa_flags & IFF_LOOPBACK ||
        one->ifa_addr->sa_family != (family == 4 ? AF_INET : AF_INET6))
        return 0;
    if (family == 4) {
        struct sockaddr_in v4;
        memcpy(&v4, one->ifa_addr, sizeof v4);
        memcpy(meeting->address, &v4.sin_addr, sizeof v4.sin_addr);
        return 1;
    } else {
        struct sockaddr_in6 v6;
        memcpy(&v6, one->ifa_addr, sizeof v6);
        memcpy(meeting->address, &v6.sin6_addr, sizeof v6.sin6_addr);
        return !IN6_IS_ADDR_LINKLOCAL(&v6.sin6_addr); /* those need to know the link, too */
    }
}

/* The first interface that other hosts may reach, IPv4 before IPv6; else loopback. */
static int listen_somewhere(struct sy_meeting *meeting)
{
    static const uint8_t loopback[2][16] = {{127, 0, 0, 1}, {[15] = 1}};
    struct ifaddrs *list = NULL;
    int fd = -1;
    if (sy_os->interfaces(&list))
        list = NULL;
    for (int family = 4; family <= 6 && fd < 0; family += 2)
        for (const struct ifaddrs *one = list; one && fd < 0; one = one->ifa_next)
            if (take_interface(one, family, meeting))
                fd = listen_at(meeting);
    if (list)
        sy_os->free_interfaces(list);
    for (int i = 0; i < 2 && fd < 0; i++) {
        meeting->family = i ? 6 : 4;
        memcpy(meeting->address, loopback[i], sizeof meeting->address);
        fd = listen_at(meeting);
    }
    return fd;
}

sy_status sy_id_create(sy_id *id)
{
    struct sy_serve config = {.root_rank = -1};
    struct sy_meeting meeting = {0};
    struct sy_params params;
    sy_status status = SY_OK;
    SY_NEED(id, "sy_id_create: id is NULL");
    memset(id, 0, sizeof *id);
    SY_TRY(sy_params_read(&params));
    meeting.port = (uint16_t)params.boot_port;
    if (sy_os->random(meeting.group, sizeof meeting.group) ||
        sy_os->random(meeting.secret, sizeof meeting.secret))
        return sy_fail_errno("sy_id_create: random numbers");
    config.listener = listen_somewhere(&meeting);
    if (config.listener < 0)
        return sy_fail_in(SY_SYSTEM, "sy_id_create: no address to listen at (SY_BOOT_PORT=%lld)",
                          (long long)params.boot_port);
    config.wait_ns = (uint64_t)params.timeout_ms * WAIT_TIMEOUTS * 1000000u;
    memcpy(config.group, meeting.group, sizeof config.group);
    memcpy(config.secret, meeting.secret, sizeof config.secret);
    status = sy_serve_start(&config);
    if (status == SY_OK)
        sy_meeting_write(&meeting, id);
    else
        sy_fd_close(config.listener);
    sy_wipe(&config, sizeof config);
    sy_wipe(&meeting, sizeof meeting);
    return status;
}

sy_status sy_id_discard(const sy_id *id)
{
    struct sy_end end = {.verdict = {.status = SY_ABORTED, .culprit = -1,
                                     .text = "the id was discarded"},
                         .linger_ns = 200000000u};
    struct sy_place place;
    SY_NEED(id, "sy_id_discard: id is NULL");
    SY_TRY(sy_id_place(id, &place));
    if (sy_serve_end(place.group, &end))
        sy_serve_wait(place.group, sy_os->now_ns() + 1000000000u);
    sy_wipe(&place, sizeof place);
    return SY_OK;
}
