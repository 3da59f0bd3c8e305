/* sockets.c - descriptors of the simulated system: unix and TCP sockets, pipes and memory files, of
 * all ranks in one table. Nothing blocks but poll(). What is sent arrives at once and in order;
 * when the other side looks is the scheduler's affair.
 *
 * Sections: descriptors | the library's own list | memory files | sockets | messages | poll. */
#define _GNU_SOURCE /* struct ucred */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/un.h>

#include "base/verify.h"
#include "boot/fds.h"
#include "model.h"
#include "plants.h"
#include "system.h"

#define FIRST_FD 100
#define STREAM_BYTES 65536u /* a sender may be ahead by */
#define MESSAGES 256u
#define MESSAGE_FDS_NONE (-1)
#define NAMES 1024u

enum kind { FILE_MEMORY, SOCKET };
enum state { FRESH, BOUND, LISTENING, CONNECTED, CLOSED };

struct message {
    struct message *next;
    int fd; /* goes along, or -1 */
    size_t bytes;
    uint8_t data[];
};

/* What descriptors refer to. What poll() looks at comes first: 1,024 ranks have two millions. */
struct object {
    enum kind kind;
    enum state state;
    int domain, type, reset;
    uint32_t refs, rank;
    struct object *peer;                            /* the other end, while it is open */
    struct object *queue, **queue_end, *queue_next; /* LISTENING: to be accepted */
    struct message *first;
    size_t waiting;          /* STREAM: bytes, SEQPACKET: messages, that have come */
    struct sim_task *poller; /* who polled it last */
    struct object *all_next, *bound_next;
    struct name *name; /* NULL: none */
    int backlog, queued;
    /* memory files */
    uint8_t *memory;
    size_t bytes;
    int sealed;
};

struct name {
    struct sockaddr_storage at;
    socklen_t bytes;
};

struct descriptor {
    struct object *object;
    uint32_t rank;
    int next_free;
};

static const char in_poll[] = "poll";
static struct descriptor *fds;
static int fd_count, first_free;
static uint32_t *open_fds;                    /* [rank] */
static struct object *objects, *bound[NAMES]; /* all of them; those with names, by a hash */
static uint16_t next_port;

/* --- descriptors ------------------------------------------------------------------------------ */

void sim_sockets_open(uint32_t ranks)
{
    next_port = 20000;
    fd_count = 0;
    first_free = -1;
    memset(bound, 0, sizeof bound);
    open_fds = calloc(ranks, sizeof *open_fds);
    SY_ASSERT(open_fds);
}

static void drop_messages(struct object *o)
{
    while (o->first) {
        struct message *next = o->first->next;
        free(o->first);
        o->first = next;
    }
    o->waiting = 0;
}

void sim_sockets_close(void)
{
    while (objects) {
        struct object *next = objects->all_next;
        drop_messages(objects);
        free(objects->name);
        free(objects);
        objects = next;
    }
    free(fds);
    free(open_fds);
    fds = NULL;
    open_fds = NULL;
    fd_count = 0;
}

static struct object *make(enum kind kind)
{
    struct object *o = calloc(1, sizeof *o);
    SY_ASSERT(o);
    o->kind = kind;
    o->rank = sim_current ? sim_current->rank : 0;
    o->all_next = objects;
    objects = o;
    return o;
}

static void more_descriptors(void)
{
    int more = 2 * fd_count + 64;
    fds = realloc(fds, (size_t)more * sizeof *fds);
    SY_ASSERT(fds);
    memset(fds + fd_count, 0, (size_t)(more - fd_count) * sizeof *fds);
    for (int i = more; i-- > fd_count;) {
        fds[i].next_free = first_free;
        first_free = i;
    }
    fd_count = more;
}

static void belongs(int fd, uint32_t rank)
{
    struct descriptor *d = fds + (fd - FIRST_FD);
    if (d->rank != SIM_NOBODY)
        open_fds[d->rank]--;
    if (rank != SIM_NOBODY)
        open_fds[rank]++;
    d->rank = rank;
}

static int open_for(struct object *o, uint32_t rank)
{
    int i;
    if (first_free < 0)
        more_descriptors();
    i = first_free;
    first_free = fds[i].next_free;
    o->refs++;
    fds[i].object = o;
    fds[i].rank = SIM_NOBODY;
    belongs(FIRST_FD + i, rank);
    return FIRST_FD + i;
}

static struct object *at(int fd)
{
    if (fd >= FIRST_FD && fd < FIRST_FD + fd_count && fds[fd - FIRST_FD].object)
        return fds[fd - FIRST_FD].object;
    sim_violate(SIM_CHECK_HOST, "descriptor %d, which is not open", fd);
    return NULL;
}

static void wake(struct object *o)
{
    if (o && o->poller && o->poller->doing == in_poll)
        sim_wake(o->poller);
}

/* The last descriptor of an object is gone. */
static void end_object(struct object *o)
{
    if (o->kind != SOCKET || o->state == CLOSED)
        return;
    o->state = CLOSED;
    if (o->peer) {
        o->peer->reset |= o->first != NULL; /* it sent what nobody will read */
        o->peer->peer = NULL;
        wake(o->peer);
        o->peer = NULL;
    }
    while (o->queue) {
        struct object *next = o->queue->queue_next;
        end_object(o->queue);
        o->queue = next;
    }
    for (struct message *m = o->first; m; m = m->next)
        if (m->fd >= 0)
            sim_close(m->fd);
    drop_messages(o);
}

void sim_close(int fd)
{
    struct object *o = at(fd);
    belongs(fd, SIM_NOBODY);
    fds[fd - FIRST_FD].object = NULL;
    fds[fd - FIRST_FD].next_free = first_free;
    first_free = fd - FIRST_FD;
    if (!--o->refs)
        end_object(o);
}

void sim_sockets_died(uint32_t rank)
{
    for (int i = 0; i < fd_count; i++)
        if (fds[i].object && fds[i].rank == rank)
            sim_close(FIRST_FD + i);
}

uint32_t sim_descriptors(uint32_t rank)
{
    return open_fds[rank];
}

static int fail(int error)
{
    errno = error;
    return -1;
}

/* --- the library's own list ------------------------------------------------------------------- */

/* Stands in for boot/fds.c, whose list of descriptors is for processes that fork. */
static pthread_mutex_t boot_lock = PTHREAD_MUTEX_INITIALIZER;

void sy_boot_lock(void)
{
    sim_mutex_lock(&boot_lock);
}

void sy_boot_unlock(void)
{
    sim_mutex_unlock(&boot_lock);
}

uint32_t sy_fd_generation(void)
{
    return 1;
}

int sy_fd_socket(int domain, int type, int protocol)
{
    return sim_socket(domain, type, protocol);
}

int sy_fd_accept(int listener)
{
    return sim_accept(listener);
}

int sy_fd_pipe(int pair_of[2])
{
    return sim_pipe(pair_of);
}

void sy_fd_close(int fd)
{
    if (fd >= 0)
        sim_close(fd);
}

/* --- memory files ----------------------------------------------------------------------------- */

int sim_memfd(const char *name)
{
    (void)name;
    sim_point();
    return open_for(make(FILE_MEMORY), sim_current->rank);
}

int sim_resize(int fd, off_t bytes)
{
    struct object *o = at(fd);
    if (o->sealed || o->memory)
        return fail(EPERM);
    o->bytes = (size_t)bytes;
    o->memory = sim_take(sim_current->rank, SIM_HEAP, 0, o->bytes, SIM_DEFINED);
    return 0;
}

int sim_seal(int fd)
{
    at(fd)->sealed = 1;
    return 0;
}

int64_t sim_sealed_bytes(int fd)
{
    const struct object *o = at(fd);
    return o->kind == FILE_MEMORY && o->sealed ? (int64_t)o->bytes : 0;
}

/* Every rank sees a heap at the same place: they share one address space. */
void *sim_map_file(int fd, size_t bytes)
{
    const struct object *o = at(fd);
    SY_ASSERT(o->kind == FILE_MEMORY && bytes == o->bytes);
    if (SIM_PLANTED(UNMAPPED_PEER) && o->rank != sim_current->rank && o->rank == 1)
        return mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return o->memory;
}

/* --- sockets ---------------------------------------------------------------------------------- */

int sim_socket(int domain, int type, int protocol)
{
    struct object *o = make(SOCKET);
    (void)protocol;
    o->domain = domain;
    o->type = type;
    sim_point();
    return open_for(o, sim_current->rank);
}

static uint16_t *port_of(struct sockaddr_storage *name)
{
    if (name->ss_family == AF_INET)
        return &((struct sockaddr_in *)(void *)name)->sin_port;
    return &((struct sockaddr_in6 *)(void *)name)->sin6_port;
}

static struct object **bucket(const void *name, socklen_t bytes)
{
    const uint8_t *at = name;
    uint32_t hash = 0;
    for (socklen_t i = 0; i < bytes; i++)
        hash = hash * 31 + at[i];
    return bound + hash % NAMES;
}

static struct object *listener_at(const void *name, socklen_t bytes)
{
    for (struct object *o = *bucket(name, bytes); o; o = o->bound_next)
        if ((o->state == LISTENING || o->state == BOUND) && o->name->bytes == bytes &&
            !memcmp(&o->name->at, name, bytes))
            return o;
    return NULL;
}

int sim_bind(int fd, const struct sockaddr *name, socklen_t bytes)
{
    struct object *o = at(fd), **first;
    sim_point();
    o->name = o->name ? o->name : malloc(sizeof *o->name);
    SY_ASSERT(o->name);
    memset(o->name, 0, sizeof *o->name);
    memcpy(&o->name->at, name, bytes);
    if (o->domain != AF_UNIX && !*port_of(&o->name->at))
        *port_of(&o->name->at) = htons(++next_port);
    if (listener_at(&o->name->at, bytes))
        return fail(EADDRINUSE);
    o->name->bytes = bytes;
    o->state = BOUND;
    first = bucket(&o->name->at, bytes);
    o->bound_next = *first;
    *first = o;
    return 0;
}

int sim_listen(int fd, int backlog)
{
    struct object *o = at(fd);
    o->state = LISTENING;
    o->backlog = backlog;
    o->queue_end = &o->queue;
    return 0;
}

int sim_accept(int fd)
{
    struct object *o = at(fd), *got = o->queue;
    sim_point();
    if (!got)
        return fail(EAGAIN);
    o->queue = got->queue_next;
    if (!o->queue)
        o->queue_end = &o->queue;
    o->queued--;
    got->rank = sim_current->rank;
    return open_for(got, sim_current->rank);
}

static void pair(struct object *a, struct object *b)
{
    a->peer = b;
    b->peer = a;
    a->state = b->state = CONNECTED;
}

int sim_connect(int fd, const struct sockaddr *to, socklen_t bytes)
{
    struct object *o = at(fd), *l, *other;
    sim_point();
    l = listener_at(to, bytes);
    if (!l || l->state != LISTENING)
        return fail(ECONNREFUSED);
    if (l->queued > l->backlog)
        return fail(EAGAIN);
    other = make(SOCKET);
    other->domain = o->domain;
    other->type = o->type;
    pair(o, other);
    *l->queue_end = other;
    l->queue_end = &other->queue_next;
    l->queued++;
    wake(l);
    if (o->domain != AF_UNIX && sy_prng_once_in(&sim_dice, 2))
        return fail(EINPROGRESS); /* poll() will say that it is done */
    return 0;
}

int sim_pipe(int pair_of[2])
{
    struct object *in = make(SOCKET), *out = make(SOCKET);
    in->type = out->type = SOCK_STREAM;
    pair(in, out);
    pair_of[0] = open_for(in, sim_current->rank);
    pair_of[1] = open_for(out, sim_current->rank);
    return 0;
}

int sim_get_option(int fd, int level, int name, void *value, socklen_t *bytes)
{
    at(fd);
    if (level == SOL_SOCKET && name == SO_PEERCRED) {
        struct ucred who = {.pid = 1, .uid = sy_os->user(), .gid = 0};
        memcpy(value, &who, sizeof who);
        *bytes = sizeof who;
        return 0;
    }
    memset(value, 0, *bytes);
    return 0;
}

int sim_socket_name(int fd, struct sockaddr *name, socklen_t *bytes)
{
    const struct object *o = at(fd);
    socklen_t has = o->name ? o->name->bytes : 0;
    if (has)
        memcpy(name, &o->name->at, has < *bytes ? has : *bytes);
    *bytes = has;
    return 0;
}

/* --- messages --------------------------------------------------------------------------------- */

static int full(const struct object *to)
{
    return to->type == SOCK_STREAM ? to->waiting >= STREAM_BYTES : to->waiting >= MESSAGES;
}

static ssize_t put(struct object *o, const void *data, size_t bytes, int fd)
{
    struct object *to = o->peer;
    struct message *m, **last;
    if (o->state != CONNECTED)
        return fail(ENOTCONN);
    if (!to)
        return fail(EPIPE);
    if (full(to))
        return fail(EAGAIN);
    if (SIM_PLANTED(LOST_VOTE) && sim_in_round(sim_current->rank) &&
        bytes > sizeof(struct sy_fault_record) && sy_prng_once_in(&sim_dice, 2))
        return (ssize_t)bytes;
    if (to->type == SOCK_STREAM && bytes > STREAM_BYTES - to->waiting)
        bytes = STREAM_BYTES - to->waiting;
    m = malloc(sizeof *m + bytes);
    SY_ASSERT(m);
    m->next = NULL;
    m->fd = fd;
    m->bytes = bytes;
    memcpy(m->data, data, bytes);
    for (last = &to->first; *last; last = &(*last)->next)
        continue;
    *last = m;
    to->waiting += to->type == SOCK_STREAM ? bytes : 1;
    sim_event("sends a message", NULL, bytes);
    wake(to);
    return (ssize_t)bytes;
}

ssize_t sim_send(int fd, const void *data, size_t bytes)
{
    sim_point();
    return put(at(fd), data, bytes, MESSAGE_FDS_NONE);
}

/* The first message, or part of it, or an end; *way_fd as in struct message. */
static ssize_t get(struct object *o, void *data, size_t room, int *way_fd, int *cut)
{
    struct message *m = o->first;
    size_t n;
    *way_fd = MESSAGE_FDS_NONE;
    *cut = 0;
    if (!m && o->reset) {
        o->reset = 0;
        return fail(ECONNRESET);
    }
    if (!m)
        return o->peer ? fail(EAGAIN) : o->state == CONNECTED ? 0 : fail(ENOTCONN);
    n = m->bytes < room ? m->bytes : room;
    sim_event("receives a message", NULL, n);
    memcpy(data, m->data, n);
    *way_fd = m->fd;
    if (o->type == SOCK_STREAM && n < m->bytes) {
        m->bytes -= n;
        memmove(m->data, m->data + n, m->bytes);
        o->waiting -= n;
        wake(o->peer);
        return (ssize_t)n;
    }
    *cut = n < m->bytes;
    o->waiting -= o->type == SOCK_STREAM ? n : 1;
    o->first = m->next;
    free(m);
    wake(o->peer);
    return (ssize_t)n;
}

ssize_t sim_recv(int fd, void *data, size_t bytes)
{
    int along, cut;
    sim_point();
    return get(at(fd), data, bytes, &along, &cut);
}

ssize_t sim_sendmsg(int fd, const struct msghdr *m)
{
    struct cmsghdr *c = m->msg_controllen ? CMSG_FIRSTHDR(m) : NULL;
    int along = MESSAGE_FDS_NONE;
    ssize_t n;
    sim_point();
    SY_ASSERT(m->msg_iovlen == 1);
    if (c && c->cmsg_type == SCM_RIGHTS) {
        memcpy(&along, CMSG_DATA(c), sizeof along);
        along = open_for(at(along), SIM_NOBODY); /* on its way it belongs to nobody */
    }
    n = put(at(fd), m->msg_iov->iov_base, m->msg_iov->iov_len, along);
    if (n < 0 && along >= 0) {
        int error = errno;
        sim_close(along);
        errno = error;
    }
    return n;
}

ssize_t sim_recvmsg(int fd, struct msghdr *m)
{
    int along, cut;
    ssize_t n;
    struct cmsghdr *c;
    sim_point();
    n = get(at(fd), m->msg_iov->iov_base, m->msg_iov->iov_len, &along, &cut);
    m->msg_flags = cut ? MSG_TRUNC : 0;
    if (n < 0 || along < 0) {
        m->msg_controllen = 0;
        return n;
    }
    belongs(along, sim_current->rank);
    SY_ASSERT(m->msg_controllen >= CMSG_SPACE(sizeof along));
    c = CMSG_FIRSTHDR(m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof along);
    memcpy(CMSG_DATA(c), &along, sizeof along);
    m->msg_controllen = CMSG_SPACE(sizeof along);
    return n;
}

/* --- poll ------------------------------------------------------------------------------------- */

static short ready(const struct object *o, short events)
{
    short got = 0;
    if (o->state == LISTENING)
        return o->queue ? events & POLLIN : 0;
    if (o->first || o->reset || (o->state == CONNECTED && !o->peer))
        got |= events & POLLIN;
    if (events & POLLOUT && o->state == CONNECTED && (!o->peer || !full(o->peer)))
        got |= POLLOUT;
    if (o->state == CONNECTED && !o->peer)
        got |= POLLHUP;
    return got;
}

#define AHEAD 8 /* for one rank of 1,024 most of this is far from the processor */

static int poll_once(struct pollfd *p, nfds_t count)
{
    int n = 0;
    for (nfds_t i = 0; i < count; i++) {
        if (i + AHEAD < count && p[i + AHEAD].fd >= 0)
            __builtin_prefetch(at(p[i + AHEAD].fd));
        p[i].revents = p[i].fd < 0 ? 0 : ready(at(p[i].fd), p[i].events);
        n += p[i].revents != 0;
    }
    return n;
}

int sim_poll(struct pollfd *p, nfds_t count, int timeout_ms)
{
    uint64_t until = timeout_ms < 0 ? SIM_NEVER : sim_now_ns() + (uint64_t)timeout_ms * 1000000u;
    int n;
    sim_point();
    while (!(n = poll_once(p, count)) && sim_now_ns() < until) {
        for (nfds_t i = 0; i < count; i++)
            if (p[i].fd >= 0)
                at(p[i].fd)->poller = sim_current;
        sim_park(until, in_poll);
    }
    return n;
}
