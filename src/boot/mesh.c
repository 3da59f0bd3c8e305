/* mesh.c - see mesh.h.
 *
 * Opening has four steps, and after each all ranks agree that it worked. By the time a step begins,
 * all that it reads is in its sockets already, so that no step waits for a peer: only the bootstrap
 * does, and it knows who died.
 *
 *   prepare   a listening socket with a random name, a random token
 *   connect   each rank to all lower ones, with an introduction that proves the tokens of all
 *   accept    those connections; check the introductions; answer with one
 *   confirm   the answers
 *
 *   1  State      2  Packets      3  Opening      4  Descriptors      5  Watching and closing
 */
#define _GNU_SOURCE
#include "mesh.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "base/os.h"
#include "base/verify.h"
#include "fds.h"
#include "link.h"

/* ---- 1. State -------------------------------------------------------------------------------- */

#define MS 1000000ull
#define QUEUE_MAX 4096 /* connections that wait to be accepted; the system may allow fewer */
#define ERRORS_MAX 100 /* a millisecond each, until a socket without a word counts as closed */

struct peer {
    int fd;       /* -1: none                                     */
    int reported; /* left, died or not to be trusted: not watched */
    int errors;   /* in a row, of the system, while watching      */
    int sent;     /* exchange: it has what we have for it         */
    int came;     /* exchange: its packet is here                 */
};

struct sy_mesh {
    struct sy_boot *boot;
    int32_t rank, ranks;
    uint64_t deadline_ns;
    uint32_t generation;
    int listener;
    struct sy_card card;
    uint8_t *cards; /* ranks * SY_CARD_BYTES, only while opening */
    uint8_t key[SY_MAC_BYTES];
    struct peer *peers;
    struct pollfd *polls; /* ranks, and one for the wake pipe */

    struct sy_mesh_events events;
    pthread_t thread;
    int watching, wake[2]; /* closing wake[1] ends the thread */
};

static void close_peer(struct peer *p)
{
    sy_fd_close(p->fd);
    p->fd = -1;
}

/* ---- 2. Packets ------------------------------------------------------------------------------ */

enum got { GOT_PACKET, GOT_NOTHING, GOT_CLOSED, GOT_ERROR, GOT_GARBAGE };

/* Closes all descriptors of a message but the only one, which it returns. -1: none, or several.
 * *count: how many there were. */
static int take_descriptor(struct msghdr *m, int keep, int *count)
{
    int kept = -1;
    *count = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        size_t bytes = c->cmsg_len - CMSG_LEN(0);
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t at = 0; at + sizeof(int) <= bytes; at += sizeof(int)) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + at, sizeof fd);
            if (!(*count)++ && keep)
                kept = fd;
            else
                sy_os->close(fd);
        }
    }
    if (*count > 1 && kept >= 0) {
        sy_os->close(kept);
        kept = -1;
    }
    return kept;
}

/* One packet of at most `room` bytes. fd: gets the one descriptor that came along, or -1; NULL:
 * none is wanted. A packet that was cut, or brought more than one descriptor, is garbage. */
static enum got get_packet(int from, void *data, size_t room, size_t *bytes, int *fd)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(4 * sizeof(int))];
    } control;
    struct iovec part = {.iov_base = data, .iov_len = room};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
                       .msg_controllen = sizeof control};
    ssize_t n;
    int one, count, again = 1;
    do { /* a reset: it closed while something of ours was unread, but what it sent is there */
        m.msg_controllen = sizeof control;
        n = sy_os->recvmsg(from, &m);
    } while (n < 0 && (errno == EINTR || (errno == ECONNRESET && again--)));
    if (n < 0)
        return sy_link_later(errno) ? GOT_NOTHING : sy_link_gone(errno) ? GOT_CLOSED : GOT_ERROR;
    one = take_descriptor(&m, fd != NULL, &count);
    if (fd)
        *fd = one;
    if (!n && one < 0)
        return GOT_CLOSED;
    if (!(m.msg_flags & (MSG_CTRUNC | MSG_TRUNC))) {
        *bytes = (size_t)n;
        return GOT_PACKET;
    }
    if (one >= 0) {
        sy_os->close(one);
        *fd = -1;
    }
    if (m.msg_flags & MSG_TRUNC || count || !fd)
        return GOT_GARBAGE;
    errno = EMFILE; /* nothing else keeps the system from handing over the first one */
    return GOT_ERROR;
}

/* fd: -1, or what goes along. As sendmsg(). */
static ssize_t put_packet(int to, const void *data, size_t bytes, int fd)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    uint8_t copy[SY_PACKET_BYTES_MAX];
    struct iovec part = {.iov_base = copy, .iov_len = bytes};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};
    ssize_t n;
    SY_ASSERT(bytes <= sizeof copy);
    memcpy(copy, data, bytes);
    if (fd >= 0) {
        struct cmsghdr *c = &control.header;
        memset(&control, 0, sizeof control);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
        m.msg_control = &control;
        m.msg_controllen = sizeof control;
    }
    do
        n = sy_os->sendmsg(to, &m);
    while (n < 0 && errno == EINTR);
    return n;
}

/* ---- 3. Opening ------------------------------------------------------------------------------ */

static socklen_t name_of(const struct sy_card *card, struct sockaddr_un *at)
{
    static const char digits[] = "0123456789abcdef", stem[] = "switchyard-mesh-";
    size_t n = 1 + sizeof stem - 1;
    memset(at, 0, sizeof *at);
    at->sun_family = AF_UNIX;
    memcpy(at->sun_path + 1, stem, sizeof stem - 1);
    for (size_t i = 0; i < sizeof card->name; i++) {
        at->sun_path[n++] = digits[card->name[i] >> 4];
        at->sun_path[n++] = digits[card->name[i] & 15];
    }
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
}

/* Two machines differ in it; without /proc it stays empty and connecting will tell. */
static void read_machine(char out[40])
{
    ssize_t n;
    memset(out, 0, 40);
    n = sy_os->read_file("/proc/sys/kernel/random/boot_id", out, 36);
    if (n != 36)
        memset(out, 0, 40);
}

static sy_status prepare(struct sy_mesh *m)
{
    struct sockaddr_un at;
    socklen_t bytes;
    m->cards = sy_zalloc((size_t)m->ranks * SY_CARD_BYTES);
    if (!m->cards)
        return sy_fail(SY_NO_MEMORY, "no memory for a mesh of %d ranks", m->ranks);
    read_machine(m->card.machine);
    if (sy_os->random(m->card.name, sizeof m->card.name) ||
        sy_os->random(m->card.token, sizeof m->card.token))
        return sy_fail_errno("random numbers for the mesh");
    m->listener = sy_fd_socket(AF_UNIX, SOCK_SEQPACKET, 0);
    if (m->listener < 0)
        return sy_fail_errno("socket for the mesh");
    m->card.network = sy_link_network(m->listener);
    bytes = name_of(&m->card, &at);
    if (sy_os->bind(m->listener, (const void *)&at, bytes))
        return sy_fail_errno("bind for the mesh");
    if (sy_os->listen(m->listener, QUEUE_MAX))
        return sy_fail_errno("listen for the mesh");
    return SY_OK;
}

static int other_network(const struct sy_card *a, const struct sy_card *b)
{
    return a->network && b->network && a->network != b->network;
}

/* On all ranks alike: they have the same cards. */
static sy_status compare_machines(struct sy_mesh *m)
{
    struct sy_card first, card;
    sy_card_read(m->cards, &first);
    for (int32_t i = 1; i < m->ranks; i++) {
        sy_card_read(m->cards + (size_t)i * SY_CARD_BYTES, &card);
        if (!strcmp(first.machine, card.machine) && !other_network(&first, &card))
            continue;
        m->boot->culprit = i;
        return sy_fail(SY_UNSUPPORTED,
                       "rank %d is %s than rank 0; groups are on one machine and in one network "
                       "namespace",
                       i,
                       strcmp(first.machine, card.machine) ? "on another machine"
                                                           : "in another network namespace");
    }
    return SY_OK;
}

static sy_status exchange_cards(struct sy_mesh *m)
{
    uint8_t mine[SY_CARD_BYTES];
    struct sy_sha256 hash;
    sy_card_write(&m->card, mine);
    SY_TRY(sy_boot_allgather(m->boot, mine, m->cards, sizeof mine));
    sy_sha256_begin(&hash);
    sy_sha256_add(&hash, m->cards, (size_t)m->ranks * SY_CARD_BYTES);
    sy_sha256_end(&hash, m->key);
    return compare_machines(m);
}

static sy_status check_user(int fd, int32_t rank)
{
    uid_t user = 0;
    int own = sy_link_peer_user(fd, &user);
    if (own < 0)
        return sy_fail_errno("asking for a peer's user");
    if (!own)
        return sy_fail(SY_PROTOCOL, "the socket of rank %d belongs to user %u", rank,
                       (unsigned)user);
    return SY_OK;
}

/* After a put_packet() that failed. */
static sy_status not_sent(const char *what, int32_t rank)
{
    if (sy_link_gone(errno))
        return sy_fail(SY_PEER_LOST, "rank %d has ended", rank);
    return sy_fail_errno(what);
}

/* Nobody has the name that the rank listened at. */
static sy_status nobody_there(const struct sy_mesh *m, int32_t rank, const struct sy_card *card)
{
    if (card->network && m->card.network) /* the same, or compare_machines() would have said so */
        return sy_fail(SY_PEER_LOST, "rank %d has ended", rank);
    return sy_fail(SY_UNSUPPORTED,
                   "rank %d cannot be reached: it has ended, or is on another machine or in "
                   "another network namespace",
                   rank);
}

/* SY_NOT_READY: that rank's queue is full. */
static sy_status connect_one(struct sy_mesh *m, int32_t rank)
{
    struct sy_intro intro = {.from = m->rank, .to = rank};
    struct peer *p = m->peers + rank;
    uint8_t data[SY_INTRO_BYTES];
    struct sockaddr_un at;
    struct sy_card card;
    socklen_t bytes;
    sy_card_read(m->cards + (size_t)rank * SY_CARD_BYTES, &card);
    bytes = name_of(&card, &at);
    p->fd = sy_fd_socket(AF_UNIX, SOCK_SEQPACKET, 0);
    if (p->fd < 0)
        return sy_fail_errno("socket for the mesh");
    if (sy_os->connect(p->fd, (const void *)&at, bytes)) {
        int error = errno;
        close_peer(p);
        if (error == ECONNREFUSED)
            return nobody_there(m, rank, &card);
        if (sy_link_later(error))
            return sy_os->now_ns() < m->deadline_ns
                       ? SY_NOT_READY
                       : sy_fail(SY_TIMEOUT, "the queue of rank %d was full all the time", rank);
        errno = error;
        return sy_fail_errno("connecting to a peer");
    }
    SY_TRY(check_user(p->fd, rank));
    sy_intro_write(&intro, m->key, data);
    if (put_packet(p->fd, data, sizeof data, -1) != (ssize_t)sizeof data)
        return not_sent("introduction to a peer", rank);
    return SY_OK;
}

static sy_status connect_all(struct sy_mesh *m)
{
    for (int32_t i = 0; i < m->rank; i++)
        if (m->peers[i].fd < 0)
            SY_TRY(connect_one(m, i));
    return SY_OK;
}

/* A connection that may be a peer's. SY_OK also when it is not, and was dropped. */
static sy_status meet(struct sy_mesh *m, int fd)
{
    uint8_t data[SY_INTRO_BYTES + 1];
    struct sy_intro intro;
    size_t bytes;
    uid_t user;
    if (sy_link_peer_user(fd, &user) != 1 ||
        get_packet(fd, data, sizeof data, &bytes, NULL) != GOT_PACKET ||
        !sy_intro_read(data, bytes, m->key, 0, &intro) || intro.to != m->rank ||
        intro.from <= m->rank || intro.from >= m->ranks || m->peers[intro.from].fd >= 0) {
        sy_fd_close(fd);
        return SY_OK;
    }
    m->peers[intro.from].fd = fd;
    intro.to = intro.from;
    intro.from = m->rank;
    intro.answer = 1;
    sy_intro_write(&intro, m->key, data);
    if (put_packet(fd, data, SY_INTRO_BYTES, -1) != SY_INTRO_BYTES)
        return not_sent("answer to a peer", intro.to);
    return SY_OK;
}

/* Empties the queue. What was in it when this began is within the first so many. */
static sy_status accept_queue(struct sy_mesh *m)
{
    for (int looked = 0; looked <= QUEUE_MAX; looked++) {
        int fd = sy_fd_accept(m->listener);
        if (fd < 0 && errno == EINTR)
            continue;
        if (fd < 0 && !sy_link_later(errno))
            return sy_fail_errno("accepting a peer");
        if (fd < 0)
            break;
        SY_TRY(meet(m, fd));
    }
    return SY_OK;
}

/* Strangers, whom we cannot keep from connecting, may fill a rank's queue: then all ranks empty
 * theirs and try again, until none is full. */
static sy_status connect_rounds(struct sy_mesh *m)
{
    for (;;) {
        sy_status own = connect_all(m), status = sy_boot_agree(m->boot, own);
        if (status != SY_NOT_READY)
            return status;
        if (own == SY_OK || own == SY_NOT_READY)
            own = accept_queue(m);
        SY_TRY(sy_boot_agree(m->boot, own));
    }
}

static sy_status accept_all(struct sy_mesh *m)
{
    int32_t i = m->rank + 1;
    SY_TRY(accept_queue(m));
    while (i < m->ranks && m->peers[i].fd >= 0)
        i++;
    if (i < m->ranks)
        return sy_fail(SY_PEER_LOST, "rank %d connected, but did not introduce itself", i);
    return SY_OK;
}

static sy_status confirm_all(struct sy_mesh *m)
{
    for (int32_t i = 0; i < m->rank; i++) {
        uint8_t data[SY_INTRO_BYTES + 1];
        struct sy_intro intro;
        size_t bytes;
        enum got got = get_packet(m->peers[i].fd, data, sizeof data, &bytes, NULL);
        if (got == GOT_ERROR)
            return sy_fail_errno("answer of a peer");
        if (got == GOT_CLOSED)
            return sy_fail(SY_PEER_LOST, "rank %d closed its socket", i);
        if (got != GOT_PACKET || !sy_intro_read(data, bytes, m->key, 1, &intro) ||
            intro.from != i || intro.to != m->rank)
            return sy_fail(SY_PROTOCOL, "rank %d did not answer as it should", i);
    }
    return SY_OK;
}

static sy_status open_steps(struct sy_mesh *m)
{
    sy_status status = sy_boot_agree(m->boot, prepare(m));
    if (status == SY_OK && m->ranks > 1) {
        SY_TRY(exchange_cards(m));
        SY_TRY(connect_rounds(m));
        SY_TRY(sy_boot_agree(m->boot, accept_all(m)));
        status = sy_boot_agree(m->boot, confirm_all(m));
    }
    sy_fd_close(m->listener);
    m->listener = -1;
    return status;
}

static struct sy_mesh *make(struct sy_boot *boot, uint64_t deadline_ns)
{
    struct sy_mesh *m = sy_zalloc(sizeof *m);
    if (!m)
        return NULL;
    m->peers = sy_zalloc(sizeof *m->peers * (size_t)boot->ranks);
    m->polls = sy_zalloc(sizeof *m->polls * (size_t)(boot->ranks + 1));
    if (!m->peers || !m->polls) {
        sy_os->free(m->peers);
        sy_os->free(m->polls);
        sy_os->free(m);
        return NULL;
    }
    m->boot = boot;
    m->rank = boot->rank;
    m->ranks = boot->ranks;
    m->deadline_ns = deadline_ns ? deadline_ns : sy_os->now_ns() + boot->timeout_ns;
    m->generation = sy_fd_generation();
    m->listener = m->wake[0] = m->wake[1] = -1;
    for (int32_t i = 0; i < m->ranks; i++)
        m->peers[i].fd = -1;
    return m;
}

sy_status sy_mesh_open(struct sy_boot *boot, uint64_t deadline_ns, struct sy_mesh **mesh)
{
    struct sy_mesh *m = make(boot, deadline_ns);
    sy_status status;
    *mesh = NULL;
    if (!m) /* the others begin with an agreement, too */
        status = sy_boot_agree(boot, sy_fail(SY_NO_MEMORY, "no memory for a mesh"));
    else
        status = open_steps(m);
    if (status != SY_OK) {
        sy_fail_in(status, "mesh");
        sy_mesh_close(m);
        return status;
    }
    sy_os->free(m->cards);
    m->cards = NULL;
    *mesh = m;
    return SY_OK;
}

/* ---- 4. Descriptors -------------------------------------------------------------------------- */

/* What one rank gives and gets in an exchange. */
struct exchange {
    struct sy_mesh *mesh;
    int my_fd, *fds;
    sy_status own;   /* SY_OK: my_fd goes out; else this, so that nobody waits for it */
    int32_t unsent, missing, next; /* next: whose turn it is to be sent to            */
};

/* Sends on until done or until the system wants us to wait. Returns 1 if it does: it allows a user
 * only so many descriptors in flight, which receiving brings down. */
static int send_some(struct exchange *x)
{
    struct sy_mesh *m = x->mesh;
    uint8_t data[SY_NOTE_BYTES];
    while (x->unsent) {
        struct peer *p = m->peers + x->next;
        int good = x->own == SY_OK;
        if (p->fd >= 0 && !p->sent) {
            sy_note_write(good ? SY_NOTE_FD : SY_NOTE_FAILED, good ? 0 : (uint32_t)x->own, data);
            if (put_packet(p->fd, data, sizeof data, good ? x->my_fd : -1) < 0) {
                if (sy_link_later(errno) || (good && errno == ETOOMANYREFS))
                    return 1;
                if (good) { /* the rest hears that there is nothing to come */
                    int gone = sy_link_gone(errno);
                    x->own = gone ? sy_fail(SY_PEER_LOST, "rank %d closed its socket", x->next)
                                  : sy_fail_errno("passing a descriptor");
                    continue;
                }
                close_peer(p); /* then at least its end of file tells */
                x->missing -= !p->came;
                p->came = 1;
            }
        }
        p->sent = 1;
        x->unsent--;
        x->next = (x->next + 1) % m->ranks;
    }
    return 0;
}

/* What came from one peer. SY_OK also if nothing did. */
static sy_status receive_one(struct exchange *x, int32_t rank)
{
    struct peer *p = x->mesh->peers + rank;
    uint8_t data[SY_NOTE_BYTES + 1];
    uint32_t kind, theirs;
    size_t bytes = 0;
    int fd = -1;
    enum got got = get_packet(p->fd, data, sizeof data, &bytes, &fd);
    if (got == GOT_NOTHING)
        return SY_OK;
    p->came = 1;
    x->missing--;
    if (got == GOT_ERROR)
        return sy_fail_errno("receiving a descriptor");
    if (got == GOT_CLOSED)
        return sy_fail(SY_PEER_LOST, "rank %d closed its socket", rank);
    if (got == GOT_PACKET && sy_note_read(data, bytes, &kind, &theirs)) {
        if (kind == SY_NOTE_FD && fd >= 0) {
            x->fds[rank] = fd;
            return SY_OK;
        }
        if (kind == SY_NOTE_FAILED && fd < 0) /* the agreement will tell why */
            return SY_OK;
    }
    if (fd >= 0)
        sy_os->close(fd);
    return sy_fail(SY_PROTOCOL, "rank %d sent something else than one descriptor", rank);
}

/* Sends and receives until both are done, whatever fails on the way: peers wait for our packets.
 * The first failure is the result. */
static sy_status exchange(struct exchange *x)
{
    struct sy_mesh *m = x->mesh;
    sy_status status = SY_OK;
    while (x->unsent || x->missing) {
        int blocked = send_some(x), ms = sy_link_wait_ms(m->deadline_ns);
        nfds_t n = (nfds_t)m->ranks;
        if (status == SY_OK)
            status = x->own;
        if (!x->unsent && !x->missing)
            break;
        if (!ms)
            return status != SY_OK ? status
                                   : sy_fail(SY_TIMEOUT, "descriptors did not come in time");
        for (int32_t i = 0; i < m->ranks; i++)
            m->polls[i] = (struct pollfd){.fd = m->peers[i].came ? -1 : m->peers[i].fd,
                                          .events = POLLIN};
        if (sy_os->poll(m->polls, n, blocked ? 1 : ms) < 0) {
            if (errno != EINTR)
                sy_os->sleep_ns(MS);
            continue;
        }
        for (int32_t i = 0; i < m->ranks; i++) {
            sy_status one;
            if (!m->polls[i].revents || m->peers[i].came || m->peers[i].fd < 0)
                continue;
            one = receive_one(x, i);
            status = status == SY_OK ? one : status;
        }
    }
    return status;
}

sy_status sy_mesh_exchange_fds(struct sy_mesh *mesh, int my_fd, int *fds)
{
    struct exchange x = {.mesh = mesh, .my_fd = my_fd, .fds = fds, .own = SY_OK,
                         .next = (mesh->rank + 1) % mesh->ranks};
    sy_status status;
    SY_NEED(!mesh->watching, "descriptors are exchanged before the mesh is watched");
    mesh->deadline_ns = sy_os->now_ns() + mesh->boot->timeout_ns;
    x.unsent = x.missing = mesh->ranks - 1;
    for (int32_t i = 0; i < mesh->ranks; i++) {
        fds[i] = -1;
        mesh->peers[i].sent = mesh->peers[i].came = 0;
    }
    if (my_fd < 0)
        x.own = sy_fail(SY_INVALID, "there is no descriptor to give");
    status = sy_boot_agree(mesh->boot, exchange(&x));
    for (int32_t i = 0; i < mesh->ranks && status == SY_OK; i++)
        if (fds[i] < 0 && i != mesh->rank)
            status = sy_fail(SY_PROTOCOL, "rank %d gave no descriptor and did not say why", i);
    for (int32_t i = 0; i < mesh->ranks && status != SY_OK; i++) {
        if (fds[i] >= 0)
            sy_os->close(fds[i]);
        fds[i] = -1;
    }
    if (status == SY_OK)
        fds[mesh->rank] = my_fd;
    return status == SY_OK ? SY_OK : sy_fail_in(status, "descriptors");
}

/* ---- 5. Watching and closing ----------------------------------------------------------------- */

static void look_at(struct sy_mesh *m, int32_t rank)
{
    struct peer *p = m->peers + rank;
    uint8_t data[SY_PACKET_BYTES_MAX + 1];
    uint32_t kind = 0, theirs;
    size_t bytes = 0;
    sy_status how = SY_PROTOCOL;
    enum got got = get_packet(p->fd, data, sizeof data, &bytes, NULL);
    int note = got == GOT_PACKET && sy_note_read(data, bytes, &kind, &theirs);
    if (got == GOT_NOTHING)
        return;
    if (note && kind == SY_NOTE_TOLD && m->events.told) {
        m->events.told(m->events.context, rank, theirs, data + SY_NOTE_BYTES,
                       bytes - SY_NOTE_BYTES);
        return;
    }
    if (got == GOT_ERROR && p->errors++ < ERRORS_MAX) { /* short of memory, say: no peer's fault */
        sy_os->sleep_ns(MS);
        return;
    }
    if (got == GOT_CLOSED || got == GOT_ERROR)
        how = SY_PEER_LOST;
    else if (note && kind == SY_NOTE_GOODBYE)
        how = SY_OK;
    p->reported = 1;
    m->events.gone(m->events.context, rank, how);
}

static void *watch(void *context)
{
    struct sy_mesh *m = context;
    int ms = m->events.tick ? m->events.tick_ms : -1;
    for (;;) {
        nfds_t n = (nfds_t)m->ranks + 1;
        for (int32_t i = 0; i < m->ranks; i++)
            m->polls[i] = (struct pollfd){.fd = m->peers[i].reported ? -1 : m->peers[i].fd,
                                          .events = POLLIN};
        m->polls[m->ranks] = (struct pollfd){.fd = m->wake[0], .events = POLLIN};
        if (sy_os->poll(m->polls, n, ms) < 0) {
            if (errno != EINTR)
                sy_os->sleep_ns(MS);
            continue;
        }
        if (m->polls[m->ranks].revents)
            return NULL;
        for (int32_t i = 0; i < m->ranks; i++)
            if (m->polls[i].revents)
                look_at(m, i);
        if (m->events.tick)
            m->events.tick(m->events.context);
    }
}

sy_status sy_mesh_watch(struct sy_mesh *mesh, const struct sy_mesh_events *events)
{
    int error;
    if (mesh->watching)
        return sy_fail(SY_STATE, "the mesh is watched already");
    if (sy_fd_pipe(mesh->wake))
        return sy_fail_errno("pipe for the mesh");
    mesh->events = *events;
    mesh->watching = 1;
    error = sy_os->thread(&mesh->thread, watch, mesh);
    if (!error)
        return SY_OK;
    mesh->watching = 0;
    sy_fd_close(mesh->wake[0]);
    sy_fd_close(mesh->wake[1]);
    mesh->wake[0] = mesh->wake[1] = -1;
    errno = error;
    return sy_fail_errno("thread for the mesh");
}

void sy_mesh_tell(struct sy_mesh *mesh, uint32_t kind, const void *data, size_t bytes)
{
    uint8_t packet[SY_PACKET_BYTES_MAX];
    SY_ASSERT(bytes <= SY_TOLD_BYTES_MAX);
    if (mesh->generation != sy_fd_generation())
        return;
    sy_note_write(SY_NOTE_TOLD, kind, packet);
    if (bytes)
        memcpy(packet + SY_NOTE_BYTES, data, bytes);
    for (int32_t i = 0; i < mesh->ranks; i++)
        if (mesh->peers[i].fd >= 0)
            put_packet(mesh->peers[i].fd, packet, SY_NOTE_BYTES + bytes, -1);
}

void sy_mesh_close(struct sy_mesh *mesh)
{
    if (!mesh)
        return;
    if (mesh->generation == sy_fd_generation()) {
        uint8_t data[SY_NOTE_BYTES];
        sy_note_write(SY_NOTE_GOODBYE, 0, data);
        for (int32_t i = 0; i < mesh->ranks; i++)
            if (mesh->peers[i].fd >= 0)
                put_packet(mesh->peers[i].fd, data, sizeof data, -1);
        sy_fd_close(mesh->wake[1]);
        if (mesh->watching)
            pthread_join(mesh->thread, NULL);
        sy_fd_close(mesh->wake[0]);
        for (int32_t i = 0; i < mesh->ranks; i++)
            close_peer(mesh->peers + i);
        sy_fd_close(mesh->listener);
    }
    sy_wipe(mesh->key, sizeof mesh->key);
    sy_os->free(mesh->cards);
    sy_os->free(mesh->peers);
    sy_os->free(mesh->polls);
    sy_os->free(mesh);
}
