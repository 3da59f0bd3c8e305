/* boot_fuzz.c - hostile bytes for everything in src/boot that reads what others wrote.
 *
 * The first byte of an input chooses who reads the rest: the plain parsers, the root of a
 * bootstrap, a rank that joins one, or a mesh. The last three run as they are, over an operating
 * system made of this file: its sockets hold what the input says, its clock moves with each poll().
 * So that inputs get past the proofs, they may ask for a partner who knows the secret and turns bad
 * later.
 *
 * libFuzzer or drive.c calls it.
 *
 *   1  The input          3  Parsers         5  A rank
 *   2  The system         4  The root        6  A mesh         7  Entry point
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/maxima.h"
#include "base/os.h"
#include "base/status.h"
#include "boot/boot.h"
#include "boot/fds.h"
#include "boot/launch.h"
#include "boot/mesh.h"
#include "boot/serve.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MS 1000000ull
#define NEED(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                             \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* ---- 1. The input ---------------------------------------------------------------------------- */

static const uint8_t *input;
static size_t input_left;

static uint8_t take(void)
{
    if (!input_left)
        return 0;
    input_left--;
    return *input++;
}

static void take_bytes(void *to, size_t bytes)
{
    size_t n = bytes < input_left ? bytes : input_left;
    memset(to, 0, bytes);
    if (n)
        memcpy(to, input, n);
    input += n;
    input_left -= n;
}

/* ---- 2. The system --------------------------------------------------------------------------- */

#define SOCKETS 40
#define FIRST_FD 5000 /* below are real ones */
#define LOOSE_FDS 64  /* those that travel with packets, above the sockets */

struct fake {
    int open, listener, closed; /* closed: by the other end */
    int tame;                   /* the other end knows the secret */
    int stuffed;                /* it does not read any more      */
    uint8_t in[2048];
    size_t in_bytes, in_read;
    size_t out_bytes;           /* all that was sent        */
    uint32_t calls;             /* messages that it was fed */
    struct sy_talk talk;        /* what a handshake needs   */
};

static struct fake fakes[SOCKETS];
static int loose[LOOSE_FDS];
static uint64_t clock_ns;
static int sockets_open, arrivals; /* connections that wait to be accepted */
static uint8_t group[SY_GROUP_BYTES] = {1, 2, 3}, secret[SY_SECRET_BYTES] = {4, 5, 6};
static void *(*thread_run)(void *);
static void *thread_context;
static struct sy_claim claim; /* of the next tame rank */
static int32_t next_rank;

enum role { ROOT, RANK, MESH } role;

static struct fake *fake_of(int fd)
{
    NEED(fd >= FIRST_FD && fd < FIRST_FD + SOCKETS && fakes[fd - FIRST_FD].open);
    return fakes + (fd - FIRST_FD);
}

static int open_fake(void)
{
    for (int i = 0; i < SOCKETS; i++) {
        if (fakes[i].open)
            continue;
        memset(fakes + i, 0, sizeof fakes[i]);
        fakes[i].open = 1;
        sockets_open++;
        return FIRST_FD + i;
    }
    errno = EMFILE;
    return -1;
}

static void fake_close(int fd)
{
    if (fd >= FIRST_FD + SOCKETS) {
        NEED(fd < FIRST_FD + SOCKETS + LOOSE_FDS && loose[fd - FIRST_FD - SOCKETS]);
        loose[fd - FIRST_FD - SOCKETS] = 0;
        return;
    }
    fake_of(fd)->open = 0;
    sockets_open--;
}

static int fake_socket(int domain, int type, int protocol)
{
    (void)domain;
    (void)type;
    (void)protocol;
    return open_fake();
}

static int fake_bind(int fd, const struct sockaddr *at, socklen_t bytes)
{
    (void)at;
    (void)bytes;
    fake_of(fd)->listener = 1;
    return 0;
}

static int fake_listen(int fd, int backlog)
{
    fake_of(fd)->listener = 1;
    return backlog < 0;
}

static void put_in(struct fake *f, const void *data, size_t bytes)
{
    if (f->in_read == f->in_bytes)
        f->in_read = f->in_bytes = 0;
    if (f->in_bytes + bytes > sizeof f->in)
        return;
    memcpy(f->in + f->in_bytes, data, bytes);
    f->in_bytes += bytes;
}

/* A rank at the root's door: tame ones begin a handshake that will fit. */
static int fake_accept(int fd)
{
    static const uint8_t nonce[SY_NONCE_BYTES] = {9};
    int got;
    NEED(fake_of(fd)->listener);
    if (!arrivals) {
        errno = EAGAIN;
        return -1;
    }
    arrivals--;
    got = open_fake();
    if (got >= 0 && role == ROOT && claim.timeout_ns) {
        struct fake *f = fake_of(got);
        f->tame = 1;
        sy_hello_write(&f->talk, group, nonce);
        put_in(f, f->talk.hello, sizeof f->talk.hello);
    }
    return got;
}

static int fake_connect(int fd, const struct sockaddr *to, socklen_t bytes)
{
    (void)to;
    (void)bytes;
    fake_of(fd);
    if (take() % 16 == 15) {
        errno = take() % 2 ? ECONNREFUSED : EAGAIN;
        return -1;
    }
    fake_of(fd)->tame = role == RANK && take() % 8 != 0;
    return 0;
}

/* The other end of a handshake that fits. */
static void answer(struct fake *f, const uint8_t *data, size_t bytes)
{
    uint8_t welcome[SY_WELCOME_BYTES];
    if (role == ROOT && bytes >= SY_CHALLENGE_BYTES && !f->out_bytes) {
        memcpy(f->talk.challenge, data, SY_CHALLENGE_BYTES);
        sy_proof_write(&f->talk, &claim, secret);
        put_in(f, f->talk.proof, sizeof f->talk.proof);
    } else if (role == RANK && bytes == SY_HELLO_BYTES && !f->out_bytes) {
        memcpy(f->talk.hello, data, bytes);
        sy_challenge_write(&f->talk, secret);
        put_in(f, f->talk.challenge, sizeof f->talk.challenge);
    } else if (role == RANK && bytes == SY_PROOF_BYTES && f->out_bytes == SY_HELLO_BYTES) {
        memcpy(f->talk.proof, data, bytes);
        sy_welcome_write(&f->talk, secret, welcome);
        put_in(f, welcome, sizeof welcome);
    }
}

static ssize_t fake_send(int fd, const void *data, size_t bytes)
{
    struct fake *f = fake_of(fd);
    volatile uint8_t see = 0;
    size_t n = bytes;
    for (size_t i = 0; i < bytes; i++) /* a sanitizer looks at what goes out */
        see ^= ((const uint8_t *)data)[i];
    (void)see;
    if (f->closed || f->stuffed) {
        errno = f->closed ? EPIPE : EAGAIN;
        return -1;
    }
    if (input_left && *input % 32 == 31 && bytes > 1) {
        n = 1 + take() % (bytes - 1);
    } else if (input_left && *input % 32 == 30) {
        take();
        errno = EAGAIN;
        return -1;
    }
    if (f->tame)
        answer(f, data, n);
    f->out_bytes += n;
    return (ssize_t)n;
}

static ssize_t fake_recv(int fd, void *data, size_t bytes)
{
    struct fake *f = fake_of(fd);
    size_t n = f->in_bytes - f->in_read;
    if (!n && f->closed)
        return 0;
    if (!n) {
        errno = EAGAIN;
        return -1;
    }
    n = n < bytes ? n : bytes;
    memcpy(data, f->in + f->in_read, n);
    f->in_read += n;
    return (ssize_t)n;
}

static int fake_pipe(int fds[2])
{
    fds[0] = open_fake();
    fds[1] = open_fake();
    NEED(fds[0] >= 0 && fds[1] >= 0);
    return 0;
}

static int fake_option(int fd, int level, int name, const void *value, socklen_t bytes)
{
    (void)level;
    (void)name;
    (void)value;
    fake_of(fd);
    return bytes > 100;
}

static int fake_get_option(int fd, int level, int name, void *value, socklen_t *bytes)
{
    struct ucred who = {.uid = take() % 8 == 7 ? 77 : 5};
    (void)level;
    fake_of(fd);
    memset(value, 0, *bytes);
    if (name == SO_PEERCRED && *bytes == sizeof who)
        memcpy(value, &who, sizeof who);
    return 0;
}

static ssize_t fake_read_file(const char *path, void *out, size_t bytes)
{
    (void)path;
    memset(out, 'm', bytes);
    return bytes < 36 ? (ssize_t)bytes : 36;
}

static int fake_random(void *out, size_t bytes)
{
    memset(out, 0x5a, bytes);
    return 0;
}

static void *nothing(void *context)
{
    return context;
}

/* The library joins or detaches a thread; what it would run is run by this program in its own
 * time. */
static int fake_thread(pthread_t *thread, void *(*run)(void *), void *context)
{
    thread_run = run;
    thread_context = context;
    return pthread_create(thread, NULL, nothing, NULL);
}

static uint64_t fake_now(void)
{
    return clock_ns += 100;
}

static void fake_sleep(uint64_t ns)
{
    clock_ns += ns;
}

static uid_t fake_user(void)
{
    return 5;
}

static pid_t fake_parent(void)
{
    return 1;
}

static int fake_poll(struct pollfd *fds, nfds_t count, int ms);
static ssize_t fake_recvmsg(int fd, struct msghdr *m);

static ssize_t fake_sendmsg(int fd, const struct msghdr *m)
{
    return fake_send(fd, m->msg_iov->iov_base, m->msg_iov->iov_len);
}

static void set_system(enum role who)
{
    static struct sy_os os;
    os = sy_os_real;
    os.socket = fake_socket;
    os.bind = fake_bind;
    os.listen = fake_listen;
    os.accept = fake_accept;
    os.connect = fake_connect;
    os.send = fake_send;
    os.recv = fake_recv;
    os.sendmsg = fake_sendmsg;
    os.recvmsg = fake_recvmsg;
    os.poll = fake_poll;
    os.pipe = fake_pipe;
    os.set_option = fake_option;
    os.get_option = fake_get_option;
    os.read_file = fake_read_file;
    os.random = fake_random;
    os.thread = fake_thread;
    os.close = fake_close;
    os.now_ns = fake_now;
    os.sleep_ns = fake_sleep;
    os.user = fake_user;
    os.parent = fake_parent;
    sy_os = &os;
    role = who;
    memset(fakes, 0, sizeof fakes);
    memset(loose, 0, sizeof loose);
    memset(&claim, 0, sizeof claim);
    sockets_open = arrivals = next_rank = 0;
    clock_ns = 1000 * MS;
}

static void check_system(void)
{
    NEED(!sockets_open);
    for (int i = 0; i < LOOSE_FDS; i++)
        NEED(!loose[i]);
    sy_os = &sy_os_real;
}

/* What a well-behaved partner says next: a rank calls gathers and barriers in turn, and so does the
 * root once it has said that the group has formed. */
static struct sy_head next_message(const struct fake *f)
{
    struct sy_head head = {.kind = SY_KIND_BARRIER, .sequence = f->calls};
    if (role == ROOT)
        head.sequence++;
    if (role == RANK && !f->calls) {
        head.kind = SY_KIND_FORMED;
        head.bytes = SY_FORMED_BYTES;
    } else if (head.sequence % 2 == 0) {
        head.kind = SY_KIND_GATHER;
        head.bytes = 16;
    } else if (head.sequence == 5) {
        head.kind = SY_KIND_GATHER;
        head.bytes = SY_WORD_BYTES;
    }
    if (role == RANK && head.kind == SY_KIND_GATHER)
        head.bytes *= 3;
    return head;
}

/* Something for a connection to read: what fits, or nearly; any bytes; or its end. */
static void feed(struct fake *f)
{
    struct sy_head head = next_message(f);
    uint8_t data[3 * SY_WORD_BYTES], what = take();
    size_t n = what % 16 == 2 ? take() : head.bytes;
    if (what % 32 == 0) {
        f->closed = 1;
        return;
    }
    f->stuffed |= what % 64 == 16;
    if (what % 16 == 1) { /* goodbyes, verdicts, and what makes no sense */
        head.kind = 1 + take() % 6;
        head.bytes = n = take();
    }
    if (what % 16 == 3)
        head.sequence = take();
    if (what % 16 == 4)
        take_bytes(&head.bytes, sizeof head.bytes);
    sy_head_write(&head, data);
    if (what % 16 != 5)
        put_in(f, data, SY_HEAD_BYTES);
    memset(data, 0, sizeof data);
    if (what % 2)
        take_bytes(data, n);
    if (what / 16 % 2 && head.kind == SY_KIND_VERDICT && n >= 8) { /* one that can be read */
        memset(data, 0, 8);
        data[0] = (uint8_t)(1 + take() % 12);
        data[4] = (uint8_t)(take() % 3);
    }
    put_in(f, data, n);
    f->calls++;
}

/* What poll() finds when the input says nothing: whatever can be done at once. */
static int ready(struct pollfd *p)
{
    struct fake *f;
    if (p->fd < 0)
        return 0;
    f = fake_of(p->fd);
    if (p->events & POLLOUT && (f->closed || !f->stuffed))
        p->revents |= POLLOUT;
    if (p->events & POLLIN &&
        (f->listener ? arrivals > 0 : f->closed || f->in_read < f->in_bytes))
        p->revents |= POLLIN;
    return p->revents != 0;
}

/* Lets something happen first, as the input says. At its end all connections are closed. */
static int fake_poll(struct pollfd *fds, nfds_t count, int ms)
{
    int n = 0;
    uint8_t what = take();
    for (int i = 0; i < SOCKETS && !input_left; i++)
        fakes[i].closed = 1;
    if (what % 4 == 1) {
        memset(&claim, 0, sizeof claim);
        claim.rank = what % 32 == 5 ? (int8_t)take() : next_rank++ % 3;
        claim.ranks = what % 32 == 9 ? (int8_t)take() : 3;
        claim.flags = what / 64 % 2;
        claim.timeout_ns = 1000 * MS;
        claim.patience_ns = (what / 128 + 1u) * 500 * MS;
        arrivals++;
    } else if (what % 16 == 2) {
        arrivals++;
        claim.timeout_ns = 0;
    } else if (what % 4 == 3 && role == RANK) {
        feed(fakes); /* its only socket */
    } else if (what % 4 == 3) {
        struct fake *f = fakes + 3 + what / 4 % 8; /* after the listener and the pipe */
        if (f->open && (!f->tame || next_rank >= 3 || what % 64 == 63)) /* it spoils the forming */
            feed(f);
    }
    for (nfds_t i = 0; i < count; i++) {
        fds[i].revents = 0;
        n += ready(fds + i);
    }
    if (!n && ms && input_left && what % 64) /* nothing yet; else nothing until the wait ends */
        clock_ns += MS / 10;
    else if (!n)
        clock_ns += ms < 0 ? 1000 * MS : (uint64_t)ms * MS;
    return n;
}

/* ---- 3. Parsers ------------------------------------------------------------------------------ */

static void parse_frames(const uint8_t *data, size_t size)
{
    struct sy_meeting meeting;
    struct sy_talk talk;
    struct sy_claim said;
    sy_id id, again;
    if (size >= sizeof id) {
        memcpy(&id, data, sizeof id);
        if (sy_meeting_read(&id, &meeting)) {
            sy_meeting_write(&meeting, &again);
            NEED(!memcmp(&id, &again, sizeof id));
        }
    }
    if (size >= sizeof talk) {
        memcpy(&talk, data, sizeof talk);
        sy_hello_read(&talk, group);
        sy_challenge_read(&talk);
        sy_welcome_read(&talk, secret, data);
        if (sy_proof_read(&talk, secret, &said))
            NEED(said.timeout_ns <= SY_TIMEOUT_NS_MAX && said.patience_ns <= SY_TIMEOUT_NS_MAX);
        sy_proof_write(&talk, &said, secret);
        NEED(said.timeout_ns > SY_TIMEOUT_NS_MAX || said.patience_ns > SY_TIMEOUT_NS_MAX ||
             said.flags > 1 || sy_proof_read(&talk, secret, &said));
    }
}

static void parse_messages(const uint8_t *data, size_t size)
{
    struct sy_head head;
    struct sy_verdict verdict;
    int32_t number, status;
    char text[SY_WORD_TEXT];
    if (size >= SY_HEAD_BYTES && sy_head_read(data, 16, &head))
        NEED(head.bytes <= 16 * SY_PART_BYTES_MAX && head.kind >= 1 && head.kind <= 5);
    if (size >= SY_FORMED_BYTES && sy_formed_read(data, 16, &number))
        NEED(number >= -1 && number < 16);
    if (sy_verdict_read(data, size, 16, &verdict))
        NEED(verdict.status > 0 && verdict.culprit < 16 &&
             strlen(verdict.text) < sizeof verdict.text);
    if (size >= SY_WORD_BYTES && sy_word_read(data, &status, text))
        NEED(status >= 0 && strlen(text) < sizeof text);
}

static void parse_packets(const uint8_t *data, size_t size)
{
    struct sy_intro intro;
    struct sy_card card;
    uint32_t kind, status;
    if (size >= SY_CARD_BYTES) {
        sy_card_read(data, &card);
        NEED(memchr(card.machine, 0, sizeof card.machine));
    }
    sy_intro_read(data, size, secret, 0, &intro);
    if (sy_note_read(data, size, &kind, &status))
        NEED(kind == SY_NOTE_TOLD ? size >= SY_NOTE_BYTES && size <= SY_PACKET_BYTES_MAX
                                  : size == SY_NOTE_BYTES && kind >= 1 && kind <= 3);
}

static void parse_all(const uint8_t *data, size_t size)
{
    char text[700], hex[SY_ID_HEX + 1];
    size_t n = size < sizeof text - 1 ? size : sizeof text - 1;
    int32_t number;
    sy_id id;
    if (n)
        memcpy(text, data, n);
    text[n] = 0;
    if (sy_id_from_hex(text, &id)) {
        sy_id_to_hex(&id, hex);
        for (size_t i = 0; i < SY_ID_HEX; i++)
            NEED(hex[i] == (text[i] >= 'A' && text[i] <= 'F' ? text[i] + 32 : text[i]));
    }
    if (sy_launch_number(text, &number))
        NEED(number >= 0);
    sy_launch_has_variable(text, n, "PMI_RANK");
    if (sy_launch_parent(text, n, &number))
        NEED(number > 0);
    parse_frames(data, size);
    parse_messages(data, size);
    parse_packets(data, size);
}

/* ---- 4. The root ----------------------------------------------------------------------------- */

static void run_root(void)
{
    struct sy_serve config = {.root_rank = -1, .wait_ns = 1000 * MS};
    set_system(ROOT);
    config.local = take() % 2;
    config.listener = sy_fd_socket(AF_UNIX, SOCK_STREAM, 0);
    fake_listen(config.listener, 1);
    memcpy(config.group, group, sizeof group);
    memcpy(config.secret, secret, sizeof secret);
    NEED(sy_serve_start(&config) == SY_OK);
    if (take() % 8 == 7) {
        struct sy_end end = {.verdict = {.status = SY_ABORTED, .culprit = -1, .text = "enough"},
                             .linger_ns = MS};
        sy_serve_end(group, &end);
        fakes[1].closed = 1; /* the wake pipe */
    }
    thread_run(thread_context);
    NEED(!sy_serve_count());
    check_system();
}

/* ---- 5. A rank ------------------------------------------------------------------------------- */

static void run_rank(void)
{
    sy_group_config config = {.boot = SY_BOOT_ID, .rank = 1, .ranks = 3, .timeout_ns = 2000 * MS};
    struct sy_meeting meeting = {.family = 4, .port = 1};
    uint8_t mine[100] = {0}, all[300];
    struct sy_boot *boot;
    set_system(RANK);
    memcpy(meeting.group, group, sizeof group);
    memcpy(meeting.secret, secret, sizeof secret);
    sy_meeting_write(&meeting, &config.id);
    if (sy_boot_open(&config, &boot) == SY_OK) {
        for (int i = 1; i < 5; i++) { /* as next_message() has it */
            if (i % 2)
                sy_boot_barrier(boot);
            else
                sy_boot_allgather(boot, mine, all, 16);
        }
        sy_boot_agree(boot, SY_OK);
    } else {
        NEED(!boot && *sy_last_error());
    }
    sy_boot_close(boot);
    check_system();
}

/* ---- 6. A mesh ------------------------------------------------------------------------------- */

static uint8_t cards[3 * SY_CARD_BYTES], mesh_key[SY_MAC_BYTES];

/* A packet for rank 1 of 3: any bytes, or what would fit; perhaps with descriptors. */
static ssize_t fake_recvmsg(int fd, struct msghdr *m)
{
    struct fake *f = fake_of(fd);
    struct cmsghdr *c = m->msg_control;
    uint8_t data[SY_PACKET_BYTES_MAX + 20], what = take();
    size_t n = take() % sizeof data, room = m->msg_controllen, count = 0, wanted;
    m->msg_flags = 0;
    if (f->closed || what % 16 == 0 || what % 16 > 12) {
        m->msg_controllen = 0;
        f->closed |= what % 16 == 0;
        errno = what % 16 == 14 ? ECONNRESET : EAGAIN;
        return f->closed ? 0 : -1;
    }
    if (what % 16 < 8) {
        struct sy_intro intro = {.from = what % 2 ? 0 : 2, .to = 1, .answer = what % 2};
        sy_intro_write(&intro, mesh_key, data);
        n = SY_INTRO_BYTES;
    } else if (what % 16 < 12) {
        if (what % 16 == 8)
            sy_note_write(what & 16 ? SY_NOTE_GOODBYE : SY_NOTE_FAILED, what & 16 ? 0 : 4, data);
        else
            sy_note_write(what % 16 == 9 ? SY_NOTE_TOLD : SY_NOTE_FD, 0, data);
        n = SY_NOTE_BYTES;
        if (what % 16 == 9) {
            n += take() % (sizeof data - SY_NOTE_BYTES);
            take_bytes(data + SY_NOTE_BYTES, n - SY_NOTE_BYTES);
        }
    } else {
        take_bytes(data, n);
    }
    wanted = what % 16 < 8 ? what / 16 == 15 : what / 16 < 11 ? 1 : what / 16u - 11;
    for (int i = 0; i < LOOSE_FDS && count < wanted; i++) {
        if (loose[i] || CMSG_LEN((count + 1) * sizeof i) > room)
            continue;
        loose[i] = 1;
        i += FIRST_FD + SOCKETS;
        memcpy(CMSG_DATA(c) + count++ * sizeof i, &i, sizeof i);
        i -= FIRST_FD + SOCKETS;
    }
    m->msg_flags |= what / 16 > 13 ? MSG_CTRUNC : 0;
    m->msg_controllen = count ? CMSG_SPACE(count * sizeof(int)) : 0;
    if (count) {
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(count * sizeof(int));
    }
    if (n > m->msg_iov->iov_len) {
        n = m->msg_iov->iov_len;
        m->msg_flags |= MSG_TRUNC;
    }
    memcpy(m->msg_iov->iov_base, data, n);
    return (ssize_t)n;
}

/* The other two ranks' parts. */
static int mesh_allgather(void *context, const void *mine, void *all, size_t bytes)
{
    uint8_t *to = all;
    struct sy_sha256 hash;
    (void)context;
    for (size_t r = 0; r < 3; r++)
        memcpy(to + r * bytes, mine, bytes);
    if (bytes == 8)
        for (int32_t r = 0; r < 3; r++)
            memcpy(to + 8 * r, &r, sizeof r);
    if (bytes == SY_CARD_BYTES) {
        if (take() % 16 == 15)
            take_bytes(to, bytes);
        sy_sha256_begin(&hash);
        sy_sha256_add(&hash, all, 3 * bytes);
        sy_sha256_end(&hash, mesh_key);
    }
    if (bytes == SY_WORD_BYTES && take() % 32 == 31)
        take_bytes(to, bytes);
    arrivals += take() % 4;
    return take() % 64 == 63;
}

static int mesh_barrier(void *context)
{
    (void)context;
    return 0;
}

static void on_end(void *context, int32_t rank, sy_status how)
{
    int *times = context;
    NEED(rank >= 0 && rank < 3 && rank != 1 && how >= SY_OK && !times[rank]++);
}

static void on_told(void *context, int32_t rank, uint32_t kind, const void *data, size_t bytes)
{
    volatile uint8_t see = 0;
    (void)context;
    (void)kind;
    NEED(rank >= 0 && rank < 3 && rank != 1 && bytes <= SY_TOLD_BYTES_MAX);
    for (size_t i = 0; i < bytes; i++)
        see ^= ((const uint8_t *)data)[i];
    (void)see;
}

static void on_tick(void *context)
{
    (void)context;
}

static void run_mesh(void)
{
    sy_group_config config = {.boot = SY_BOOT_USER, .rank = 1, .ranks = 3, .timeout_ns = 500 * MS,
                              .allgather = mesh_allgather, .barrier = mesh_barrier};
    struct sy_boot *boot;
    struct sy_mesh *mesh = NULL;
    int fds[3] = {-1, -1, -1}, times[3] = {0};
    set_system(MESH);
    memset(cards, 0, sizeof cards);
    if (sy_boot_open(&config, &boot) == SY_OK && sy_mesh_open(boot, 0, &mesh) == SY_OK) {
        for (int i = 0; i < SOCKETS; i++) /* something to read, until the packets say otherwise */
            fakes[i].in_bytes = 1;
        if (sy_mesh_exchange_fds(mesh, 1, fds) == SY_OK)
            NEED(fds[0] >= FIRST_FD && fds[1] == 1 && fds[2] >= FIRST_FD && fds[0] != fds[2]);
        else
            NEED(fds[0] == -1 && fds[1] == -1 && fds[2] == -1);
        for (int i = 0; i < 3; i += 2)
            if (fds[i] >= 0)
                fake_close(fds[i]);
        if (sy_mesh_watch(mesh, &(struct sy_mesh_events){.gone = on_end,
                                                         .told = take() % 4 ? on_told : NULL,
                                                         .tick = on_tick,
                                                         .tick_ms = 20,
                                                         .context = times}) == SY_OK)
            thread_run(thread_context);
    }
    sy_mesh_close(mesh);
    sy_boot_close(boot);
    check_system();
}

/* ---- 7. Entry point -------------------------------------------------------------------------- */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    input = data + 1;
    input_left = size - 1;
    switch (data[0] % 4) {
    case 0:
        parse_all(input, input_left);
        break;
    case 1:
        run_root();
        break;
    case 2:
        run_rank();
        break;
    default:
        run_mesh();
    }
    return 0;
}
