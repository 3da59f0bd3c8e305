/* star.c - a rank's side of the bootstrap's star (boot.h, section 3).
 *
 * Owns the connection in boot->fd. Whatever the root sends is checked against what this rank
 * expects next: kind, sequence and length are known beforehand, and a verdict may come instead. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/os.h"
#include "boot.h"
#include "fds.h"
#include "link.h"
#include "serve.h"

#define MS 1000000ull
#define DROPS_MAX 8           /* a full root may drop us by mistake, a wrong secret gets nowhere  */
#define HELD_NS (1000 * MS)   /* rank 0: to see that who holds its meeting place does not listen  */
#define GRACE_NS (500 * MS)   /* beyond its deadline: who is missing is a better answer than none */
#define SMALL_BYTES 2048      /* up to here a part travels in one piece with its header           */

static const char *place_name(const struct sy_place *place, char text[80])
{
    const struct sockaddr_in *v4 = (const void *)&place->at;
    const struct sockaddr_in6 *v6 = (const void *)&place->at;
    char host[INET6_ADDRSTRLEN] = "?";
    if (place->local) {
        snprintf(text, 80, "the meeting place of this launch");
    } else if (place->at.ss_family == AF_INET) {
        inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
        snprintf(text, 80, "%s:%u", host, ntohs(v4->sin_port));
    } else {
        inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
        snprintf(text, 80, "[%s]:%u", host, ntohs(v6->sin6_port));
    }
    return text;
}

static sy_status root_lost(struct sy_boot *boot)
{
    boot->culprit = boot->root_rank;
    if (boot->root_rank >= 0)
        return sy_fail(SY_PEER_LOST, "rank %d died, which served the bootstrap", boot->root_rank);
    return sy_fail(SY_PEER_LOST, "the process that serves the bootstrap is gone");
}

/* Reads what a verdict's header announced. */
static sy_status take_verdict(struct sy_boot *boot, const struct sy_head *head,
                              uint64_t deadline_ns)
{
    uint8_t data[SY_VERDICT_BYTES_MAX];
    struct sy_verdict verdict;
    SY_TRY(sy_link_recv(boot->fd, data, head->bytes, deadline_ns, "verdict from the root"));
    if (!sy_verdict_read(data, head->bytes, boot->ranks, &verdict))
        return sy_fail(SY_PROTOCOL, "the root sent a verdict that cannot be read");
    boot->culprit = verdict.culprit;
    return sy_fail((sy_status)verdict.status, "%s", verdict.text);
}

/* The next message must be this one. The root means to give its verdict before our deadline, but it
 * is a thread that a busy machine may keep from running; one that is gone closes the connection. */
static sy_status expect(struct sy_boot *boot, enum sy_kind kind, uint64_t bytes,
                        uint64_t deadline_ns, const char *what)
{
    uint8_t data[SY_HEAD_BYTES];
    struct sy_head head;
    sy_status status = sy_link_recv(boot->fd, data, sizeof data, deadline_ns, what);
    if (status == SY_PEER_LOST)
        return root_lost(boot);
    SY_TRY(status);
    if (!sy_head_read(data, boot->ranks, &head))
        return sy_fail(SY_PROTOCOL, "%s: the root sent a header that cannot be read", what);
    if (head.kind == SY_KIND_VERDICT)
        return take_verdict(boot, &head, deadline_ns);
    if (head.kind != (uint32_t)kind || head.sequence != boot->sequence || head.bytes != bytes)
        return sy_fail(SY_PROTOCOL, "%s: the root sent kind %u, number %u, %llu bytes", what,
                       head.kind, head.sequence, (unsigned long long)head.bytes);
    return SY_OK;
}

/* *later: nobody is there yet, but may come. */
static sy_status connect_to(const struct sy_place *place, uint64_t deadline_ns, int *out,
                            int *later)
{
    char name[80];
    int error = 0, fd = sy_fd_socket(place->at.ss_family, SOCK_STREAM, 0);
    socklen_t bytes = sizeof error;
    sy_status status;
    *later = 0;
    if (fd < 0)
        return sy_fail_errno("socket for the bootstrap");
    *out = fd;
    if (sy_os->connect(fd, (const void *)&place->at, place->at_bytes)) {
        error = errno;
        if (error == EINPROGRESS || error == EINTR) {
            SY_TRY(sy_link_wait(fd, POLLOUT, deadline_ns, "connecting to the root"));
            if (sy_os->get_option(fd, SOL_SOCKET, SO_ERROR, &error, &bytes))
                return sy_fail_errno("connecting to the root");
        }
    }
    if (!error) {
        if (!place->local)
            sy_link_tune_tcp(fd);
        return SY_OK;
    }
    *later = place->local && (error == ECONNREFUSED || error == EAGAIN || error == EWOULDBLOCK);
    if (error == ECONNREFUSED)
        return sy_fail(SY_PEER_LOST,
                       "nobody serves at %s: the group has formed or failed already, the id was "
                       "discarded, or its process is gone",
                       place_name(place, name));
    errno = error;
    status = sy_fail_errno("connect");
    return sy_fail_in(status, "%s", place_name(place, name));
}

static sy_status check_user(const struct sy_place *place, int fd)
{
    uid_t user = 0;
    int own = place->local ? sy_link_peer_user(fd, &user) : 1;
    if (own < 0)
        return sy_fail_errno("asking who listens at the meeting place");
    if (!own)
        return sy_fail(SY_SYSTEM,
                       "the meeting place of this launch is held by user %u, not by this one (%u)",
                       (unsigned)user, (unsigned)sy_os->user());
    return SY_OK;
}

/* SY_PEER_LOST: dropped. */
static sy_status handshake(struct sy_boot *boot, const struct sy_place *place, uint64_t deadline_ns)
{
    static const char what[] = "handshake with the root";
    struct sy_claim claim = {.rank = boot->rank, .ranks = boot->ranks,
                             .timeout_ns = boot->timeout_ns};
    uint8_t nonce[SY_NONCE_BYTES], welcome[SY_WELCOME_BYTES];
    uint64_t now = sy_os->now_ns();
    struct sy_talk talk;
    if (sy_os->random(nonce, sizeof nonce))
        return sy_fail_errno("random numbers for the handshake");
    sy_hello_write(&talk, place->group, nonce);
    SY_TRY(sy_link_send(boot->fd, talk.hello, sizeof talk.hello, deadline_ns, what));
    SY_TRY(sy_link_recv(boot->fd, talk.challenge, sizeof talk.challenge, deadline_ns, what));
    if (!sy_challenge_read(&talk))
        return sy_fail(SY_PROTOCOL, "%s: what answers there is something else", what);
    claim.flags = sy_serve_here(place->group) ? SY_FLAG_ROOT_HERE : 0;
    claim.patience_ns = deadline_ns > now ? deadline_ns - now : 0;
    sy_proof_write(&talk, &claim, place->secret);
    SY_TRY(sy_link_send(boot->fd, talk.proof, sizeof talk.proof, deadline_ns, what));
    SY_TRY(sy_link_recv(boot->fd, welcome, sizeof welcome, deadline_ns, what));
    if (!sy_welcome_read(&talk, place->secret, welcome))
        return sy_fail(SY_PROTOCOL, "%s: who answers there does not hold the secret", what);
    return SY_OK;
}

/* Connects and shakes hands, again and again while that may help. On failure the socket is
 * closed. */
static sy_status get_in(struct sy_boot *boot, const struct sy_place *place, uint64_t deadline_ns)
{
    uint64_t pause_ns = MS / 10, begin_ns = sy_os->now_ns();
    int drops = 0;
    for (;;) {
        int later;
        sy_status status = connect_to(place, deadline_ns, &boot->fd, &later);
        int connected = status == SY_OK;
        if (status == SY_OK)
            status = check_user(place, boot->fd);
        if (status == SY_OK)
            status = handshake(boot, place, deadline_ns);
        if (status == SY_OK)
            return SY_OK;
        sy_fd_close(boot->fd);
        boot->fd = -1;
        if (!later && !(connected && status == SY_PEER_LOST))
            return status;
        if (later && !boot->rank && sy_os->now_ns() - begin_ns > HELD_NS)
            return sy_fail(SY_SYSTEM, "the meeting place of this launch is held by a process that "
                                      "does not listen there");
        if (connected && ++drops >= DROPS_MAX)
            return sy_fail(SY_PROTOCOL, "dropped by the root %d times: its group and secret are "
                                        "not those of this rank",
                           drops);
        if (sy_os->now_ns() >= deadline_ns)
            return sy_fail(SY_TIMEOUT, "rank 0 did not come to the meeting place within %.3f s",
                           (double)boot->timeout_ns / 1e9);
        sy_os->sleep_ns(pause_ns);
        pause_ns = pause_ns < (connected ? 100 : 4) * MS ? pause_ns * 2 : pause_ns;
    }
}

/* Tells the root, and by it the others, that this rank cannot go on. Best effort. */
static void give_up(const struct sy_boot *boot, sy_status status)
{
    uint8_t data[SY_HEAD_BYTES + SY_VERDICT_BYTES_MAX];
    struct sy_verdict verdict = {.status = status, .culprit = boot->rank};
    struct sy_head head = {.kind = SY_KIND_VERDICT, .sequence = boot->sequence};
    if (boot->fd < 0)
        return;
    snprintf(verdict.text, sizeof verdict.text, "%.*s", SY_VERDICT_TEXT - 1, sy_last_error());
    head.bytes = sy_verdict_write(&verdict, data + SY_HEAD_BYTES);
    sy_head_write(&head, data);
    sy_os->send(boot->fd, data, SY_HEAD_BYTES + head.bytes);
}

sy_status sy_star_join(struct sy_boot *boot, const struct sy_place *place, uint64_t deadline_ns)
{
    uint8_t data[SY_FORMED_BYTES];
    sy_status status;
    SY_TRY(get_in(boot, place, deadline_ns));
    deadline_ns += GRACE_NS;
    status = expect(boot, SY_KIND_FORMED, sizeof data, deadline_ns, "waiting for the group");
    if (status == SY_OK)
        status = sy_link_recv(boot->fd, data, sizeof data, deadline_ns, "forming of the group");
    if (status == SY_OK && !sy_formed_read(data, boot->ranks, &boot->root_rank))
        status = sy_fail(SY_PROTOCOL, "the root formed a group that cannot be");
    if (status != SY_OK)
        give_up(boot, status);
    return status;
}

/* *whole: nothing, or all of it, was sent. */
static sy_status send_part(struct sy_boot *boot, const struct sy_head *head, const void *mine,
                           uint64_t deadline_ns, int *whole)
{
    uint8_t data[SY_HEAD_BYTES + SMALL_BYTES];
    size_t first = SY_HEAD_BYTES;
    ssize_t n;
    sy_head_write(head, data);
    if (head->bytes && head->bytes <= SMALL_BYTES) {
        memcpy(data + SY_HEAD_BYTES, mine, head->bytes);
        first += head->bytes;
    }
    *whole = 1;
    n = sy_os->send(boot->fd, data, first);
    if (n < 0 && !sy_link_later(errno))
        return sy_link_gone(errno) ? root_lost(boot) : sy_fail_errno("sending to the root");
    n = n < 0 ? 0 : n;
    *whole = 0;
    SY_TRY(sy_link_send(boot->fd, data + n, first - (size_t)n, deadline_ns, "sending to the root"));
    if (head->bytes > SMALL_BYTES)
        SY_TRY(sy_link_send(boot->fd, mine, head->bytes, deadline_ns, "sending to the root"));
    *whole = 1;
    return SY_OK;
}

sy_status sy_star_call(struct sy_boot *boot, enum sy_kind kind, const void *mine, void *all,
                       size_t bytes)
{
    uint64_t deadline_ns = sy_os->now_ns() + boot->timeout_ns;
    uint64_t result = bytes * (uint64_t)boot->ranks;
    struct sy_head head = {.kind = kind, .sequence = ++boot->sequence, .bytes = bytes};
    char what[64];
    sy_status status;
    int whole;
    snprintf(what, sizeof what, "collective %u", boot->sequence);
    status = send_part(boot, &head, mine, deadline_ns, &whole);
    deadline_ns += GRACE_NS;
    if (status == SY_OK || status == SY_PEER_LOST) /* a root that is gone may have left a verdict */
        status = expect(boot, kind, result, deadline_ns, what);
    if (status == SY_OK && result) {
        status = sy_link_recv(boot->fd, all, result, deadline_ns, what);
        if (status == SY_PEER_LOST)
            root_lost(boot);
    }
    if (status != SY_OK && status != SY_PEER_LOST && whole)
        give_up(boot, status);
    return status;
}

void sy_star_leave(struct sy_boot *boot)
{
    struct sy_head head = {.kind = SY_KIND_BYE, .sequence = boot->sequence};
    uint8_t data[SY_HEAD_BYTES];
    if (boot->fd < 0)
        return;
    sy_head_write(&head, data);
    sy_os->send(boot->fd, data, sizeof data);
    sy_fd_close(boot->fd);
    boot->fd = -1;
}
