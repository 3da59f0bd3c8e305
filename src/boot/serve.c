/* serve.c - see serve.h.
 *
 * One thread, one poll() loop over the listener, connections that have not proved themselves
 * (pending) and ranks (members). It owns the listener, all connections and the buffer of the
 * running allgather.
 *
 *   1  State and its phases      4  Coming in          7  Process-wide: start, stop, count
 *   2  Output                    5  Collectives
 *   3  The verdict               6  The loop
 */
#include "serve.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/maxima.h"
#include "base/os.h"
#include "base/status.h"
#include "base/verify.h"
#include "fds.h"
#include "link.h"

/* ---- 1. State and its phases ----------------------------------------------------------------- */

#define NEVER UINT64_MAX
#define MS 1000000ull
#define PENDING_MAX 64               /* connections that may be unproven at a time */
#define HANDSHAKE_NS (3000 * MS)     /* longest handshake */
#define HANDSHAKE_FULL_NS (200 * MS) /* and what is left of it while others wait for a place */
#define TOLD_NS (1000 * MS)          /* for a late rank to read the verdict */
#define OUT_BYTES 1024               /* a welcome, a formed, a header and a verdict fit together */

enum phase {
    FORMING, /* ranks come in                                                */
    COLLECT, /* all are there; parts of a collective arrive, or nobody calls */
    SPREAD,  /* the result goes out; nothing is read                         */
    FAILED   /* the verdict goes out; what arrives is thrown away            */
};

enum place {
    FREE,
    HELLO,  /* pending, in the order of the handshake */
    PROOF,  /* pending                                */
    TOLD,   /* pending: has proved itself and gets the verdict */
    MEMBER, /* member: a rank of the group            */
    GONE    /* member: closed, properly or not        */
};

struct conn {
    int fd;
    enum place place;
    int32_t rank;
    int done;          /* member: its part of the running collective is here   */
    uint64_t since_ns; /* pending: when it came; TOLD: when it was told        */
    size_t got;        /* bytes of the frame that is being read                */
    struct sy_talk talk;
    struct sy_head head;
    uint8_t in[SY_HEAD_BYTES + SY_VERDICT_BYTES_MAX];
    uint8_t out[OUT_BYTES];
    size_t out_bytes, out_sent;
    size_t spread_sent; /* bytes of the result, which goes out after `out`     */
};

struct root {
    struct root *next;
    uint32_t generation;
    int formed; /* guarded by the boot lock, as next is */
    struct sy_serve config;
    int wake[2];        /* closing [1] says: see `last`         */
    struct sy_end last; /* guarded by the boot lock             */

    enum phase phase;
    uint64_t end_ns;     /* when patience ends: for the first rank, the forming, the collective */
    uint64_t accept_ns;  /* no accept() before                                                  */
    uint64_t timeout_ns; /* of a collective: the smallest of all ranks                          */
    int32_t ranks;       /* as the first that came says; 0: nobody yet                          */
    int32_t first, came; /* that first rank; ranks that are in                                  */
    int32_t live;        /* members that are connected                                          */
    int32_t left;        /* a member that closed properly; -1: none                             */
    int32_t lost;        /* a member found dead while a result went out; -1: none               */
    int stuck;           /* it was not dead, it did not read                                    */
    int32_t expected, told; /* failed before it formed: processes to tell; and told             */
    struct sy_verdict verdict;

    uint32_t sequence; /* of the running or last collective                                     */
    int running;
    struct sy_head call; /* what its first caller sent                                          */
    int32_t caller, parts;
    uint8_t *all;
    size_t all_room;

    struct conn pending[PENDING_MAX];
    struct conn *members; /* ranks of them */
    struct pollfd *polls; /* wake, listener, pending, members */
    struct pollfd few[2 + PENDING_MAX];
};

static struct root *roots; /* guarded by the boot lock */

static int32_t members(const struct root *r)
{
    return r->members ? r->ranks : 0;
}

/* The verdict is meant to be with the ranks before their timeouts end, by so much. */
static uint64_t margin(uint64_t timeout_ns)
{
    return timeout_ns / 8 < 500 * MS ? timeout_ns / 8 : 500 * MS;
}

static void close_conn(struct root *r, struct conn *c)
{
    sy_fd_close(c->fd);
    c->fd = -1;
    if (c->place == MEMBER)
        r->live--;
    c->place = c->place == MEMBER ? GONE : FREE;
}

/* ---- 2. Output ------------------------------------------------------------------------------- */

/* Sends what it can. 0, or -1 if the other end is gone. */
static int flush(const struct root *r, struct conn *c)
{
    size_t total = r->phase == SPREAD ? r->call.bytes * (size_t)r->ranks : 0;
    while (c->out_sent < c->out_bytes || c->spread_sent < total) {
        int head = c->out_sent < c->out_bytes;
        const uint8_t *from = head ? c->out + c->out_sent : r->all + c->spread_sent;
        size_t bytes = head ? c->out_bytes - c->out_sent : total - c->spread_sent;
        ssize_t n = sy_os->send(c->fd, from, bytes);
        if (n < 0)
            return sy_link_later(errno) ? 0 : -1;
        *(head ? &c->out_sent : &c->spread_sent) += (size_t)n;
    }
    c->out_bytes = c->out_sent = 0;
    return 0;
}

static int has_output(const struct root *r, const struct conn *c)
{
    return c->out_sent < c->out_bytes ||
           (r->phase == SPREAD && c->place == MEMBER &&
            c->spread_sent < r->call.bytes * (size_t)r->ranks);
}

static void queue(struct conn *c, const void *data, size_t bytes)
{
    SY_ASSERT(c->out_bytes + bytes <= sizeof c->out);
    memcpy(c->out + c->out_bytes, data, bytes);
    c->out_bytes += bytes;
}

static void queue_message(struct conn *c, const struct sy_head *head, const void *data)
{
    uint8_t bytes[SY_HEAD_BYTES];
    sy_head_write(head, bytes);
    queue(c, bytes, sizeof bytes);
    if (data)
        queue(c, data, head->bytes);
}

static void queue_verdict(const struct root *r, struct conn *c)
{
    uint8_t data[SY_VERDICT_BYTES_MAX];
    struct sy_head head = {.kind = SY_KIND_VERDICT, .sequence = r->sequence};
    head.bytes = sy_verdict_write(&r->verdict, data);
    queue_message(c, &head, data);
}

/* ---- 3. The verdict -------------------------------------------------------------------------- */

/* The group cannot go on: tells all members, once. */
static void fail(struct root *r, int32_t status, int32_t culprit, const char *text)
{
    int forming = r->phase == FORMING;
    if (r->phase == FAILED)
        return;
    r->verdict.status = status;
    r->verdict.culprit = culprit >= 0 && culprit < r->ranks ? culprit : -1;
    snprintf(r->verdict.text, sizeof r->verdict.text, "%s", text);
    for (int32_t i = 0; i < members(r); i++) {
        struct conn *c = r->members + i;
        if (c->place == FREE)
            continue;
        r->told++;
        if (c->place != MEMBER)
            continue;
        if (r->phase == SPREAD && has_output(r, c)) { /* a verdict cannot go into half a result */
            close_conn(r, c);
            continue;
        }
        queue_verdict(r, c);
    }
    r->phase = FAILED;
    r->running = 0;
    r->end_ns = forming ? r->end_ns + 2 * margin(r->timeout_ns) : NEVER;
    for (int32_t i = 0; i < members(r); i++) {
        struct conn *c = r->members + i;
        if (c->place == MEMBER && flush(r, c))
            close_conn(r, c);
    }
}

static const char *where(const struct root *r, char text[64])
{
    if (r->phase == FORMING)
        return "while the group formed";
    snprintf(text, 64, "%s collective %u", r->running ? "during" : "before",
             r->sequence + !r->running);
    return text;
}

static void member_gone(struct root *r, struct conn *c, int properly)
{
    char text[SY_VERDICT_TEXT], at[64];
    int32_t rank = c->rank;
    close_conn(r, c);
    if (properly)
        r->left = rank;
    if (r->phase == SPREAD)
        r->lost = rank;
    if (r->phase == FAILED || r->phase == SPREAD ||
        (properly && r->phase == COLLECT && !r->running))
        return;
    snprintf(text, sizeof text, "rank %d %s %s", rank, properly ? "has left" : "died",
             where(r, at));
    fail(r, SY_PEER_LOST, rank, text);
}

static int is_missing(const struct root *r, int32_t rank)
{
    const struct conn *c = r->members ? r->members + rank : NULL;
    return !c || (r->running ? !c->done : c->place == FREE);
}

/* "rank 3" or "ranks 3, 5, 6 and 4 more": those that are not there. *one: the first. */
static void list_missing(const struct root *r, char *text, size_t room, int32_t *one)
{
    int32_t count = 0, named = 0;
    size_t n;
    *one = -1;
    for (int32_t i = 0; i < r->ranks; i++)
        count += is_missing(r, i);
    n = (size_t)snprintf(text, room, count == 1 ? "rank" : "ranks");
    for (int32_t i = 0; i < r->ranks && named < 16; i++) {
        if (!is_missing(r, i))
            continue;
        *one = *one < 0 ? i : *one;
        n += (size_t)snprintf(text + n, room - n, "%s %d", named ? "," : "", i);
        named++;
    }
    if (count > named)
        snprintf(text + n, room - n, " and %d more", count - named);
}

static void out_of_patience(struct root *r)
{
    char text[SY_VERDICT_TEXT], missing[200];
    int32_t one;
    list_missing(r, missing, sizeof missing, &one);
    if (r->phase == FORMING)
        snprintf(text, sizeof text, "no word from %s of %d while the group formed", missing,
                 r->ranks);
    else
        snprintf(text, sizeof text, "%s did not come to collective %u within %.3f s", missing,
                 r->sequence, (double)r->timeout_ns / 1e9);
    fail(r, SY_TIMEOUT, one, text);
}

/* ---- 4. Coming in ---------------------------------------------------------------------------- */

/* Of a process that proved the secret. 1: it may be a member. */
static int claim_fits(struct root *r, const struct sy_claim *claim)
{
    char text[SY_VERDICT_TEXT];
    if (claim->ranks < 1 || claim->ranks > SY_RANKS_MAX)
        snprintf(text, sizeof text, "rank %d says that there are %d ranks; 1 to %d are possible",
                 claim->rank, claim->ranks, SY_RANKS_MAX);
    else if (r->ranks && claim->ranks != r->ranks)
        snprintf(text, sizeof text, "rank %d says that there are %d ranks, rank %d says %d",
                 claim->rank, claim->ranks, r->first, r->ranks);
    else if (claim->rank < 0 || claim->rank >= claim->ranks)
        snprintf(text, sizeof text, "a process says that it is rank %d of %d; ranks are 0 to %d",
                 claim->rank, claim->ranks, claim->ranks - 1);
    else if (r->members && r->members[claim->rank].place != FREE)
        snprintf(text, sizeof text, "two processes say that they are rank %d of %d", claim->rank,
                 claim->ranks);
    else
        return 1;
    fail(r, SY_MISMATCH, claim->rank, text);
    return 0;
}

/* The first rank says how many there are. 0, or -1 when out of memory. */
static int make_members(struct root *r, const struct sy_claim *claim)
{
    struct conn *conns = sy_zalloc(sizeof *conns * (size_t)claim->ranks);
    struct pollfd *polls = sy_zalloc(sizeof *polls * (size_t)(2 + PENDING_MAX + claim->ranks));
    r->ranks = claim->ranks;
    r->first = claim->rank;
    if (!conns || !polls) {
        sy_os->free(conns);
        sy_os->free(polls);
        return -1;
    }
    for (int32_t i = 0; i < claim->ranks; i++)
        conns[i].fd = -1;
    r->members = conns;
    r->polls = polls;
    return 0;
}

static void formed(struct root *r)
{
    struct sy_head head = {.kind = SY_KIND_FORMED, .bytes = SY_FORMED_BYTES};
    uint8_t data[SY_FORMED_BYTES];
    sy_boot_lock();
    r->formed = 1;
    sy_boot_unlock();
    sy_fd_close(r->config.listener);
    r->config.listener = -1;
    for (int i = 0; i < PENDING_MAX; i++)
        if (r->pending[i].place != FREE)
            close_conn(r, r->pending + i);
    r->phase = COLLECT;
    r->end_ns = NEVER;
    sy_formed_write(r->config.root_rank, data);
    for (int32_t i = 0; i < r->ranks; i++)
        if (r->members[i].place == MEMBER)
            queue_message(r->members + i, &head, data);
    for (int32_t i = 0; i < r->ranks; i++)
        if (r->members[i].place == MEMBER && flush(r, r->members + i))
            member_gone(r, r->members + i, 0);
}

static void tell_late(struct root *r, struct conn *c)
{
    r->told++;
    c->place = TOLD;
    c->since_ns = sy_os->now_ns();
    queue_verdict(r, c);
    if (flush(r, c))
        close_conn(r, c);
}

/* The proof is complete: a member, or someone who gets the verdict, or a stranger. */
static void judge(struct root *r, struct conn *c)
{
    uint8_t welcome[SY_WELCOME_BYTES];
    struct sy_claim claim;
    uint64_t now = sy_os->now_ns(), end;
    if (!sy_proof_read(&c->talk, r->config.secret, &claim)) {
        close_conn(r, c);
        return;
    }
    sy_welcome_write(&c->talk, r->config.secret, welcome);
    queue(c, welcome, sizeof welcome);
    if (claim.ranks > r->expected && claim.ranks <= SY_RANKS_MAX)
        r->expected = claim.ranks;
    end = now + claim.patience_ns - margin(claim.patience_ns);
    if (r->phase == FORMING && (!r->ranks || end < r->end_ns))
        r->end_ns = end;
    if (r->phase == FORMING && claim_fits(r, &claim) && !r->ranks && make_members(r, &claim))
        fail(r, SY_NO_MEMORY, -1, "the root of the bootstrap has no memory for the ranks");
    if (r->phase == FAILED) {
        tell_late(r, c);
        return;
    }
    r->members[claim.rank] = *c;
    c->fd = -1;
    c->place = FREE;
    c = r->members + claim.rank;
    c->place = MEMBER;
    c->rank = claim.rank;
    c->got = 0;
    r->live++;
    if (claim.flags & SY_FLAG_ROOT_HERE)
        r->config.root_rank = claim.rank;
    if (!r->timeout_ns || claim.timeout_ns < r->timeout_ns)
        r->timeout_ns = claim.timeout_ns;
    if (flush(r, c))
        member_gone(r, c, 0);
    else if (++r->came == r->ranks)
        formed(r);
}

/* Reads on until c->got is `want`; `to` is where byte `first` of the frame belongs. 1: all there;
 * 0: later; -1: the other end is gone. */
static int read_on(struct conn *c, uint8_t *to, size_t first, size_t want)
{
    while (c->got < want) {
        ssize_t n = sy_os->recv(c->fd, to + (c->got - first), want - c->got);
        if (n < 0 && sy_link_later(errno))
            return 0;
        if (n <= 0)
            return -1;
        c->got += (size_t)n;
    }
    return 1;
}

/* Reads and throws away. -1 when the other end is gone. */
static int drain(struct conn *c)
{
    uint8_t waste[4096];
    ssize_t n = sy_os->recv(c->fd, waste, sizeof waste);
    return n > 0 || (n < 0 && sy_link_later(errno)) ? 0 : -1;
}

static void pending_input(struct root *r, struct conn *c)
{
    int have = 0;
    if (c->place == TOLD) {
        if (flush(r, c) || drain(c))
            close_conn(r, c);
        return;
    }
    if (c->place == HELLO)
        have = read_on(c, c->talk.hello, 0, SY_HELLO_BYTES);
    else if (c->place == PROOF)
        have = read_on(c, c->talk.proof, 0, SY_PROOF_BYTES);
    if (have > 0 && c->place == PROOF) {
        judge(r, c);
        return;
    }
    if (have > 0) {
        uint8_t nonce[SY_NONCE_BYTES];
        if (!sy_hello_read(&c->talk, r->config.group) || sy_os->random(nonce, sizeof nonce)) {
            close_conn(r, c);
            return;
        }
        sy_challenge_write(&c->talk, nonce);
        queue(c, c->talk.challenge, sizeof c->talk.challenge);
        c->place = PROOF;
        c->got = 0;
    }
    if (have < 0 || flush(r, c))
        close_conn(r, c);
}

/* A place for a new connection: an empty one, or that of the one that takes longest, if too
 * long. */
static struct conn *pending_place(struct root *r, uint64_t now)
{
    struct conn *oldest = NULL;
    for (int i = 0; i < PENDING_MAX; i++) {
        struct conn *c = r->pending + i;
        if (c->place == FREE)
            return c;
        if (!oldest || c->since_ns < oldest->since_ns)
            oldest = c;
    }
    return now - oldest->since_ns < HANDSHAKE_FULL_NS ? NULL : oldest;
}

static void accept_some(struct root *r)
{
    for (int i = 0; i < PENDING_MAX && r->config.listener >= 0; i++) {
        uint64_t now = sy_os->now_ns();
        struct conn *c = pending_place(r, now);
        uid_t user;
        int fd;
        if (!c)
            return;
        fd = sy_fd_accept(r->config.listener);
        if (fd < 0) {
            if (!sy_link_later(errno)) /* no descriptors, say: others may free some */
                r->accept_ns = now + 5 * MS;
            return;
        }
        if (r->config.local && sy_link_peer_user(fd, &user) != 1) {
            sy_fd_close(fd);
            continue;
        }
        if (!r->config.local)
            sy_link_tune_tcp(fd);
        if (c->place != FREE)
            close_conn(r, c);
        memset(c, 0, sizeof *c);
        c->fd = fd;
        c->place = HELLO;
        c->since_ns = now;
        pending_input(r, c);
    }
}

/* ---- 5. Collectives -------------------------------------------------------------------------- */

static const char *call_name(const struct sy_head *head, char text[64])
{
    if (head->kind == SY_KIND_BARRIER)
        return "a barrier";
    snprintf(text, 64, "an allgather of %llu bytes", (unsigned long long)head->bytes);
    return text;
}

static int make_buffer(struct root *r, uint64_t part_bytes)
{
    size_t bytes = (size_t)part_bytes * (size_t)r->ranks;
    if (bytes <= r->all_room)
        return 0;
    sy_os->free(r->all);
    r->all = sy_os->alloc(bytes, 64);
    r->all_room = r->all ? bytes : 0;
    return r->all ? 0 : -1;
}

/* A member's header of a collective. 1: its part may come. */
static int call_fits(struct root *r, struct conn *c)
{
    char text[SY_VERDICT_TEXT], a[64], b[64];
    if (r->phase != COLLECT || c->done || c->head.sequence != r->sequence + !r->running) {
        snprintf(text, sizeof text, "rank %d began collective %u out of turn", c->rank,
                 c->head.sequence);
        fail(r, SY_PROTOCOL, c->rank, text);
        return 0;
    }
    if (!r->running) {
        r->running = 1;
        r->sequence++;
        r->call = c->head;
        r->caller = c->rank;
        r->parts = 0;
        r->end_ns = sy_os->now_ns() + r->timeout_ns - margin(r->timeout_ns);
        if (r->left >= 0) {
            snprintf(text, sizeof text, "rank %d has left before collective %u", r->left,
                     r->sequence);
            fail(r, SY_PEER_LOST, r->left, text);
            return 0;
        }
        if (make_buffer(r, r->call.bytes)) {
            fail(r, SY_NO_MEMORY, -1, "the root of the bootstrap has no memory for an allgather");
            return 0;
        }
    }
    if (c->head.kind != r->call.kind || c->head.bytes != r->call.bytes) {
        snprintf(text, sizeof text, "collective %u is %s on rank %d and %s on rank %d", r->sequence,
                 call_name(&r->call, a), r->caller, call_name(&c->head, b), c->rank);
        fail(r, SY_MISMATCH, c->rank, text);
        return 0;
    }
    return 1;
}

static void spread(struct root *r)
{
    struct sy_head head = r->call;
    head.bytes *= (uint64_t)r->ranks;
    r->phase = SPREAD;
    r->end_ns = sy_os->now_ns() + r->timeout_ns;
    for (int32_t i = 0; i < r->ranks; i++) {
        struct conn *c = r->members + i;
        c->done = 0;
        c->spread_sent = 0;
        queue_message(c, &head, NULL);
    }
    for (int32_t i = 0; i < r->ranks; i++)
        if (flush(r, r->members + i))
            member_gone(r, r->members + i, 0);
}

/* Whether the result is with all that live; then the next collective may begin. */
static void end_spread(struct root *r)
{
    for (int32_t i = 0; i < r->ranks; i++)
        if (r->members[i].place == MEMBER && has_output(r, r->members + i))
            return;
    r->phase = COLLECT;
    r->running = 0;
    r->end_ns = NEVER;
    if (r->lost >= 0) {
        char text[SY_VERDICT_TEXT];
        snprintf(text, sizeof text, "rank %d %s collective %u", r->lost,
                 r->stuck ? "did not take the result of" : "died during", r->sequence);
        fail(r, r->stuck ? SY_TIMEOUT : SY_PEER_LOST, r->lost, text);
    }
}

/* A message of a member is complete. */
static void take_message(struct root *r, struct conn *c)
{
    struct sy_verdict theirs;
    char text[SY_VERDICT_TEXT];
    c->got = 0;
    switch (c->head.kind) {
    case SY_KIND_BYE:
        member_gone(r, c, 1);
        break;
    case SY_KIND_VERDICT:
        if (sy_verdict_read(c->in + SY_HEAD_BYTES, c->head.bytes, r->ranks, &theirs)) {
            snprintf(text, sizeof text, "rank %d: %.*s", c->rank, SY_VERDICT_TEXT - 32,
                     theirs.text);
            fail(r, theirs.status, c->rank, text);
        } else {
            snprintf(text, sizeof text, "rank %d sent a verdict that cannot be read", c->rank);
            fail(r, SY_PROTOCOL, c->rank, text);
        }
        break;
    default:
        c->done = 1;
        if (++r->parts == r->ranks)
            spread(r);
    }
}

static void member_input(struct root *r, struct conn *c)
{
    char text[SY_VERDICT_TEXT];
    int have = 1;
    if (r->phase == FAILED) {
        if (flush(r, c) || drain(c))
            close_conn(r, c);
        return;
    }
    if (c->got < SY_HEAD_BYTES) {
        have = read_on(c, c->in, 0, SY_HEAD_BYTES);
        if (have > 0 &&
            (!sy_head_read(c->in, 1, &c->head) || c->head.kind == SY_KIND_FORMED)) {
            snprintf(text, sizeof text, "rank %d sent a header that cannot be read", c->rank);
            fail(r, SY_PROTOCOL, c->rank, text);
            return;
        }
        if (have > 0 && (c->head.kind == SY_KIND_GATHER || c->head.kind == SY_KIND_BARRIER) &&
            !call_fits(r, c))
            return;
    }
    if (have > 0) {
        int gather = c->head.kind == SY_KIND_GATHER && c->head.bytes;
        uint8_t *to = gather ? r->all + (size_t)c->rank * c->head.bytes : c->in + SY_HEAD_BYTES;
        have = read_on(c, to, SY_HEAD_BYTES, SY_HEAD_BYTES + (size_t)c->head.bytes);
    }
    if (have > 0)
        take_message(r, c);
    else if (have < 0)
        member_gone(r, c, 0);
}

/* ---- 6. The loop ----------------------------------------------------------------------------- */

/* Whether all is done. */
static int ended(const struct root *r)
{
    if (r->phase == FORMING)
        return !r->ranks && sy_os->now_ns() >= r->end_ns;
    if (r->phase == COLLECT)
        return !r->live;
    if (r->phase != FAILED)
        return 0;
    for (int i = 0; i < PENDING_MAX; i++)
        if (r->pending[i].place == TOLD && sy_os->now_ns() < r->end_ns)
            return 0;
    return (!r->live && (r->formed || r->told >= r->expected)) || sy_os->now_ns() >= r->end_ns;
}

/* Drops who takes too long, and ends what nobody may wait for any longer. Returns when to look
 * again. */
static uint64_t keep_time(struct root *r)
{
    uint64_t now = sy_os->now_ns(), next;
    if (now >= r->end_ns && r->phase == SPREAD)
        for (int32_t i = 0; i < r->ranks; i++)
            if (r->members[i].place == MEMBER && has_output(r, r->members + i)) {
                member_gone(r, r->members + i, 0);
                r->stuck = 1;
            }
    if (r->phase == SPREAD)
        end_spread(r);
    if (now >= r->end_ns && ((r->phase == FORMING && r->ranks) || r->phase == COLLECT))
        out_of_patience(r);
    next = r->end_ns;
    for (int i = 0; i < PENDING_MAX; i++) {
        struct conn *c = r->pending + i;
        uint64_t until = c->since_ns + (c->place == TOLD ? TOLD_NS : HANDSHAKE_NS);
        if (c->place != FREE && now >= until)
            close_conn(r, c);
        else if (c->place != FREE && until < next)
            next = until;
    }
    if (r->accept_ns > now && r->accept_ns < next)
        next = r->accept_ns;
    return next;
}

static struct pollfd poll_of(const struct root *r, const struct conn *c)
{
    struct pollfd p = {.fd = c->place == FREE || c->place == GONE ? -1 : c->fd, .events = POLLIN};
    if (has_output(r, c))
        p.events |= POLLOUT;
    if (r->phase == SPREAD && c->place == MEMBER) { /* deaths wait until the result is out */
        p.events = POLLOUT;
        p.fd = has_output(r, c) ? c->fd : -1;
    }
    return p;
}

/* Fills r->polls; returns how many, and shortens *next for the listener's sake. */
static nfds_t make_polls(struct root *r, uint64_t *next)
{
    uint64_t now = sy_os->now_ns();
    int full = 1;
    nfds_t n = 2;
    for (int i = 0; i < PENDING_MAX; i++)
        full &= r->pending[i].place != FREE && now - r->pending[i].since_ns < HANDSHAKE_FULL_NS;
    if (full && now + 10 * MS < *next)
        *next = now + 10 * MS;
    r->polls[0] = (struct pollfd){.fd = r->wake[0], .events = POLLIN};
    r->polls[1] = (struct pollfd){.fd = full || now < r->accept_ns ? -1 : r->config.listener,
                                  .events = POLLIN};
    for (int i = 0; i < PENDING_MAX; i++)
        r->polls[n++] = poll_of(r, r->pending + i);
    for (int32_t i = 0; i < members(r); i++)
        r->polls[n++] = poll_of(r, r->members + i);
    return n;
}

/* sy_serve_end() was called. */
static void woken(struct root *r)
{
    struct sy_end last;
    sy_fd_close(r->wake[0]);
    r->wake[0] = -1;
    sy_boot_lock();
    last = r->last;
    sy_boot_unlock();
    if (r->formed || r->phase == FAILED)
        return;
    r->expected = last.expected;
    fail(r, last.verdict.status, last.verdict.culprit, last.verdict.text);
    r->end_ns = sy_os->now_ns() + last.linger_ns;
}

static void handle_polls(struct root *r, const struct pollfd *polls, nfds_t n)
{
    if (polls[0].revents)
        woken(r);
    for (nfds_t i = 2; i < n; i++) {
        struct conn *c = i < 2 + PENDING_MAX ? r->pending + (i - 2)
                                             : r->members + (i - 2 - PENDING_MAX);
        if (!polls[i].revents || c->fd != polls[i].fd)
            continue;
        if (c->place == MEMBER && has_output(r, c)) {
            if (flush(r, c))
                member_gone(r, c, 0);
        } else if (c->place == MEMBER && r->phase != SPREAD) {
            member_input(r, c);
        } else if (c->place == HELLO || c->place == PROOF || c->place == TOLD) {
            pending_input(r, c);
        }
    }
    if (polls[1].revents)
        accept_some(r);
}

static void forget(struct root *r)
{
    for (int i = 0; i < PENDING_MAX; i++)
        sy_fd_close(r->pending[i].fd);
    for (int32_t i = 0; i < members(r); i++)
        sy_fd_close(r->members[i].fd);
    sy_fd_close(r->config.listener);
    sy_fd_close(r->wake[0]);
    sy_boot_lock();
    for (struct root **at = &roots; *at; at = &(*at)->next) {
        if (*at == r) {
            *at = r->next;
            break;
        }
    }
    sy_boot_unlock();
    sy_fd_close(r->wake[1]);
    if (r->polls != r->few)
        sy_os->free(r->polls);
    sy_os->free(r->members);
    sy_os->free(r->all);
    sy_wipe(r, sizeof *r);
    sy_os->free(r);
}

static void *serve(void *context)
{
    struct root *r = context;
    for (;;) {
        uint64_t next = keep_time(r);
        struct pollfd *polls = r->polls; /* r->polls changes when the first rank comes in */
        nfds_t n = make_polls(r, &next);
        if (ended(r))
            break;
        if (sy_os->poll(polls, n, sy_link_wait_ms(next)) >= 0)
            handle_polls(r, polls, n);
        else if (errno != EINTR)
            sy_os->sleep_ns(MS); /* short of memory: the deadlines still hold */
    }
    forget(r);
    return NULL;
}

/* ---- 7. Process-wide: start, stop, count ----------------------------------------------------- */

sy_status sy_serve_start(const struct sy_serve *config)
{
    struct root *r = sy_zalloc(sizeof *r);
    pthread_t thread;
    int error;
    if (!r)
        return sy_fail(SY_NO_MEMORY, "no memory for the root of the bootstrap");
    r->config = *config;
    r->polls = r->few;
    r->left = r->lost = -1;
    r->end_ns = sy_os->now_ns() + config->wait_ns;
    for (int i = 0; i < PENDING_MAX; i++)
        r->pending[i].fd = -1;
    if (sy_fd_pipe(r->wake)) {
        sy_fail_errno("pipe for the root of the bootstrap");
        sy_os->free(r);
        return SY_SYSTEM;
    }
    r->generation = sy_fd_generation();
    sy_boot_lock();
    r->next = roots;
    roots = r;
    error = sy_os->thread(&thread, serve, r);
    if (!error)
        pthread_detach(thread);
    else
        roots = r->next;
    sy_boot_unlock();
    if (!error)
        return SY_OK;
    sy_fd_close(r->wake[0]);
    sy_fd_close(r->wake[1]);
    sy_wipe(r, sizeof *r);
    sy_os->free(r);
    errno = error;
    return sy_fail_errno("thread for the root of the bootstrap");
}

/* Under the lock. Entries of before a fork are dead. */
static struct root *find(const uint8_t group[SY_GROUP_BYTES], uint32_t generation)
{
    struct root *r = roots;
    while (r && (r->generation != generation ||
                 memcmp(r->config.group, group, SY_GROUP_BYTES)))
        r = r->next;
    return r;
}

int sy_serve_here(const uint8_t group[SY_GROUP_BYTES])
{
    uint32_t generation = sy_fd_generation();
    int here;
    sy_boot_lock();
    here = find(group, generation) != NULL;
    sy_boot_unlock();
    return here;
}

void sy_serve_wait(const uint8_t group[SY_GROUP_BYTES], uint64_t deadline_ns)
{
    while (sy_serve_here(group) && sy_os->now_ns() < deadline_ns)
        sy_os->sleep_ns(MS / 5);
}

int sy_serve_end(const uint8_t group[SY_GROUP_BYTES], const struct sy_end *end)
{
    uint32_t generation = sy_fd_generation();
    struct root *r;
    int wake = -1;
    sy_boot_lock();
    r = find(group, generation);
    if (r && !r->formed) {
        wake = r->wake[1];
        r->wake[1] = -1;
        r->last = *end;
    }
    sy_boot_unlock();
    sy_fd_close(wake);
    return wake >= 0;
}

int sy_serve_count(void)
{
    uint32_t generation = sy_fd_generation();
    int count = 0;
    sy_boot_lock();
    for (const struct root *r = roots; r; r = r->next)
        count += r->generation == generation;
    sy_boot_unlock();
    return count;
}
