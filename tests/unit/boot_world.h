/* boot_world.h - what the tests with processes share: ranks as forked processes, their results
 * in shared memory, an operating system that fails on demand, and counts of what is left behind.
 *
 *   1  Results of checks      3  A world per process
 *   2  Processes              4  An operating system that fails
 */
#ifndef SY_TESTS_BOOT_WORLD_H
#define SY_TESTS_BOOT_WORLD_H

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/os.h"
#include "base/status.h"
#include "boot/boot.h"
#include "boot/serve.h"

#define MAYBE_UNUSED __attribute__((unused))

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SLOW 4
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SLOW 4
#endif
#endif
#ifndef SLOW
#define SLOW 1
#endif

/* The thread sanitizer has a thread of its own, from the first one on. */
#if defined(__SANITIZE_THREAD__)
#define THREADS_OF_TOOL 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define THREADS_OF_TOOL 1
#endif
#endif
#ifndef THREADS_OF_TOOL
#define THREADS_OF_TOOL 0
#endif

#define MS 1000000ull
#define WORLD_MAX 64

/* ---- 1. Results of checks -------------------------------------------------------------------- */

static int passed, failed, skipped;

MAYBE_UNUSED static void check(int good, const char *format, ...)
{
    char name[400];
    va_list ap;
    va_start(ap, format);
    vsnprintf(name, sizeof name, format, ap);
    va_end(ap);
    printf("%s %s\n", good ? "ok" : "FAIL", name);
    fflush(stdout);
    if (good)
        passed++;
    else
        failed++;
}

MAYBE_UNUSED static void skip(const char *name, const char *why)
{
    printf("skip %s: %s\n", name, why);
    skipped++;
}

static uint64_t now_ns(void)
{
    return sy_os_real.now_ns();
}

static void sleep_ms(unsigned ms)
{
    sy_os_real.sleep_ns(ms * MS);
}

/* Parts of a test program run alone when named. */
MAYBE_UNUSED static int only(int argc, char **argv, const char *name)
{
    return argc < 2 || !strcmp(argv[1], name);
}

/* ---- 2. Processes ------------------------------------------------------------------------------
 * The parent has no threads and no library objects of its own when it forks. */

struct result {
    int ended; /* the rank's function returned */
    int32_t status, culprit;
    uint64_t ns;      /* of what the test measures                                   */
    uint64_t at_ns;   /* when the status came                                        */
    int fds_left, threads_left;
    char text[SY_ERROR_TEXT];
};

struct shared {
    _Atomic int id_ready, step[8];
    sy_id id;
    _Atomic int next_ready; /* for a second group of those that are left */
    sy_id next;
    _Atomic pid_t pids[WORLD_MAX];
    _Atomic uint64_t mark_ns; /* when something happened whose consequence is awaited */
    _Atomic int dead_of[WORLD_MAX], left_of[WORLD_MAX];
    _Atomic uint64_t dead_ns[WORLD_MAX];
    struct result results[WORLD_MAX];
    _Atomic int arrived, round; /* the test's own allgather for SY_BOOT_USER */
    uint8_t parts[WORLD_MAX * SY_PART_BYTES_MAX];
};

static struct shared *sh;
static int case_number;

struct scene {
    int ranks;           /* processes                                              */
    int way;             /* sy_boot_kind                                           */
    int creator;         /* SY_BOOT_ID: who makes the id                           */
    unsigned timeout_ms; /* 0: 10 s                                                */
    void (*act)(const struct scene *scene, int rank);
    int number, other;   /* for the test                                           */
};

static int count_entries(const char *path)
{
    int count = 0;
    DIR *dir = opendir(path);
    if (!dir)
        return -1;
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

static int count_threads(void)
{
    return count_entries("/proc/self/task") - 2;
}

/* Descriptors and threads beyond those before; threads that serve may need a moment to end. */
static void count_left(struct result *r, int fds_before, int threads_before)
{
    for (int i = 0; i < 2000 * SLOW; i++) {
        r->fds_left = count_entries("/proc/self/fd") - fds_before;
        r->threads_left = count_threads() - threads_before + sy_serve_count();
        r->threads_left -= r->threads_left && THREADS_OF_TOOL;
        if (!r->fds_left && !r->threads_left)
            return;
        sleep_ms(1);
    }
}

static void child_main(const struct scene *scene, int rank)
{
    int fds = count_entries("/proc/self/fd"), threads = count_threads();
    atomic_store(&sh->pids[rank], getpid());
    scene->act(scene, rank);
    count_left(&sh->results[rank], fds, threads);
    sh->results[rank].ended = 1;
    exit(0); /* not _exit(): leaks of memory are looked for at exit */
}

/* Runs all ranks to their end. Returns those that had to be killed because they hung, and those
 * that ended with an error (of a sanitizer, say) although their function returned. */
static int play(const struct scene *scene)
{
    pid_t pids[WORLD_MAX];
    int bad = 0, running = scene->ranks;
    uint64_t limit = now_ns() + 20000 * MS * SLOW;
    memset(sh, 0, offsetof(struct shared, parts));
    case_number++;
    fflush(stdout);
    for (int i = 0; i < scene->ranks; i++) {
        pids[i] = fork();
        if (!pids[i])
            child_main(scene, i);
    }
    while (running && now_ns() < limit) {
        int code;
        pid_t pid = waitpid(-1, &code, WNOHANG);
        if (pid <= 0) {
            sleep_ms(1);
            continue;
        }
        for (int i = 0; i < scene->ranks; i++) {
            if (pids[i] != pid)
                continue;
            pids[i] = 0;
            running--;
            bad += (WIFEXITED(code) && WEXITSTATUS(code)) ||
                   (WIFSIGNALED(code) && WTERMSIG(code) != SIGKILL);
        }
    }
    for (int i = 0; i < scene->ranks; i++) {
        if (!pids[i])
            continue;
        printf("  rank %d hangs\n", i);
        kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, 0);
        bad++;
    }
    return bad;
}

/* Whether all ranks but `except` (-1: none) ended with this status and a text with that in it. */
MAYBE_UNUSED static int all_ended(const struct scene *scene, int except, int status,
                                  const char *text)
{
    int good = 1;
    for (int i = 0; i < scene->ranks; i++) {
        const struct result *r = &sh->results[i];
        if (i == except)
            continue;
        if (r->ended && r->status == status && strstr(r->text, text) && !r->fds_left &&
            !r->threads_left)
            continue;
        printf("  rank %d: ended %d, %s, \"%s\", %d descriptors, %d threads left\n", i, r->ended,
               sy_status_name((sy_status)r->status), r->text, r->fds_left, r->threads_left);
        good = 0;
    }
    return good;
}

static void record(int rank, sy_status status)
{
    struct result *r = &sh->results[rank];
    r->at_ns = now_ns();
    r->status = status;
    snprintf(r->text, sizeof r->text, "%s", status == SY_OK ? "" : sy_last_error());
}

MAYBE_UNUSED static void wait_step(int step, int value)
{
    while (atomic_load(&sh->step[step]) < value)
        sleep_ms(1);
}

/* ---- 3. A world per process ------------------------------------------------------------------ */

struct user {
    int rank, ranks;
};

/* SY_BOOT_USER over shared memory. */
static int user_barrier(void *context)
{
    const struct user *u = context;
    int round = atomic_load(&sh->round);
    if (atomic_fetch_add(&sh->arrived, 1) + 1 == u->ranks) {
        atomic_store(&sh->arrived, 0);
        atomic_fetch_add(&sh->round, 1);
    } else {
        while (atomic_load(&sh->round) == round)
            sched_yield();
    }
    return 0;
}

static int user_allgather(void *context, const void *mine, void *all, size_t bytes)
{
    const struct user *u = context;
    memcpy(sh->parts + (size_t)u->rank * bytes, mine, bytes);
    user_barrier(context);
    memcpy(all, sh->parts, (size_t)u->ranks * bytes);
    return user_barrier(context);
}

static void set_number(const char *name, int value)
{
    char text[32];
    snprintf(text, sizeof text, "%d", value);
    setenv(name, text, 1);
}

/* As torchrun would start it; each case is a job of its own. */
static void set_torchrun(int rank, int ranks)
{
    set_number("RANK", rank);
    set_number("WORLD_SIZE", ranks);
    set_number("LOCAL_WORLD_SIZE", ranks);
    set_number("MASTER_PORT", (int)getppid());
    set_number("TORCHELASTIC_RUN_ID", case_number);
}

/* rank and ranks are what this process claims. */
static sy_status open_as(const struct scene *scene, int self, int rank, int ranks,
                         struct sy_boot **boot)
{
    static struct user user;
    sy_group_config config = {.size = sizeof config, .boot = scene->way, .rank = rank,
                              .ranks = ranks, .allgather = user_allgather, .barrier = user_barrier,
                              .boot_context = &user};
    sy_status status;
    config.timeout_ns = (scene->timeout_ms ? scene->timeout_ms : 10000) * MS;
    user = (struct user){rank, ranks};
    if (scene->way == SY_BOOT_ENV)
        set_torchrun(rank, ranks);
    if (scene->way == SY_BOOT_ID && self == scene->creator) {
        status = sy_id_create(&sh->id);
        if (status != SY_OK)
            return status;
        atomic_store(&sh->id_ready, 1);
    }
    while (scene->way == SY_BOOT_ID && !atomic_load(&sh->id_ready))
        sleep_ms(1);
    config.id = sh->id;
    sh->results[self].ns = now_ns();
    status = sy_boot_open(&config, boot);
    sh->results[self].ns = now_ns() - sh->results[self].ns;
    return status;
}

MAYBE_UNUSED static sy_status open_world(const struct scene *scene, int rank,
                                         struct sy_boot **boot)
{
    return open_as(scene, rank, rank, scene->ranks, boot);
}

/* Every size: all ranks have all parts. */
MAYBE_UNUSED static int gathers_well(struct sy_boot *boot)
{
    static const size_t sizes[] = {0, 1, 8, 1000, 3000, SY_PART_BYTES_MAX};
    uint8_t *mine = malloc(SY_PART_BYTES_MAX);
    uint8_t *all = malloc((size_t)boot->ranks * SY_PART_BYTES_MAX);
    int good = 1;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes && good; s++) {
        size_t n = sizes[s];
        for (size_t i = 0; i < n; i++)
            mine[i] = (uint8_t)(boot->rank * 31 + (int)i * 7 + (int)s);
        memset(all, 0xee, (size_t)boot->ranks * n);
        good &= sy_boot_allgather(boot, mine, all, n) == SY_OK;
        for (int r = 0; r < boot->ranks; r++)
            for (size_t i = 0; i < n; i++)
                good &= all[(size_t)r * n + i] == (uint8_t)(r * 31 + (int)i * 7 + (int)s);
        good &= sy_boot_barrier(boot) == SY_OK;
    }
    free(mine);
    free(all);
    return good;
}

MAYBE_UNUSED static int agrees_well(struct sy_boot *boot)
{
    sy_status status = sy_boot_agree(boot, SY_OK);
    int good = status == SY_OK;
    int last = boot->ranks - 1;
    status = SY_OK;
    if (boot->rank == last)
        status = sy_fail(SY_NO_MEMORY, "rank %d has no cheese", last);
    status = sy_boot_agree(boot, status);
    good &= status == SY_NO_MEMORY && boot->culprit == last;
    good &= strstr(sy_last_error(), "has no cheese") != NULL;
    return good && sy_boot_barrier(boot) == SY_OK;
}

MAYBE_UNUSED static void act_form(const struct scene *scene, int rank)
{
    struct sy_boot *boot;
    sy_status status = open_world(scene, rank, &boot);
    if (status == SY_OK && (boot->rank != rank || boot->ranks != scene->ranks))
        status = sy_fail(SY_STATE, "rank %d of %d", boot->rank, boot->ranks);
    if (status == SY_OK && !gathers_well(boot))
        status = sy_fail_in(SY_STATE, "allgather went wrong");
    if (status == SY_OK && !agrees_well(boot))
        status = sy_fail_in(SY_STATE, "agreement went wrong");
    record(rank, status);
    sy_boot_close(boot);
}

MAYBE_UNUSED static const char *const way_names[] = {"env", "id", "user"};

/* The library's sockets that are in the system, by inode. */
struct names {
    int count;
    unsigned long inode[512];
};

MAYBE_UNUSED static void read_names(struct names *names)
{
    FILE *file = fopen("/proc/net/unix", "r");
    char line[512];
    names->count = 0;
    while (file && fgets(line, sizeof line, file) && names->count < 512)
        if (sscanf(line, "%*s %*s %*s %*s %*s %*s %lu @switchyard-", names->inode + names->count) ==
                1 &&
            strstr(line, "@switchyard-"))
            names->count++;
    if (file)
        fclose(file);
}

static int is_among(const struct names *names, unsigned long inode)
{
    for (int i = 0; i < names->count; i++)
        if (names->inode[i] == inode)
            return 1;
    return 0;
}

static int process_holds(int pid, unsigned long inode)
{
    char path[64], want[64], is[64];
    struct dirent *entry;
    int holds = 0;
    DIR *dir;
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    snprintf(want, sizeof want, "socket:[%lu]", inode);
    dir = opendir(path);
    while (dir && !holds && (entry = readdir(dir))) {
        ssize_t n = readlinkat(dirfd(dir), entry->d_name, is, sizeof is - 1);
        is[n > 0 ? n : 0] = 0;
        holds = !strcmp(is, want);
    }
    if (dir)
        closedir(dir);
    return holds;
}

/* Whether it belongs to a program that has nothing to do with this test. */
static int is_a_strangers(unsigned long inode)
{
    DIR *dir = opendir("/proc");
    struct dirent *entry;
    int found = 0;
    while (dir && !found && (entry = readdir(dir))) {
        int pid = atoi(entry->d_name);
        found = pid > 0 && getpgid(pid) != getpgrp() && process_holds(pid, inode);
    }
    if (dir)
        closedir(dir);
    return found;
}

/* How many sockets are there that were not before, and stay. Other programs may have some of their
 * own meanwhile. */
MAYBE_UNUSED static int names_left(const struct names *before)
{
    static struct names left, now;
    int own = 0;
    read_names(&left);
    for (int tries = 0; tries < 2000 && left.count; tries++) {
        int kept = 0;
        read_names(&now);
        for (int i = 0; i < left.count; i++)
            if (is_among(&now, left.inode[i]) && !is_among(before, left.inode[i]))
                left.inode[kept++] = left.inode[i];
        left.count = kept;
        if (kept)
            sleep_ms(1);
    }
    for (int i = 0; i < left.count; i++)
        own += !is_a_strangers(left.inode[i]);
    return own;
}

/* ---- 4. An operating system that fails ---------------------------------------------------------
 * The real one, except that the n-th call of one kind fails, or also those after it; or that a
 * third of the calls that a signal may interrupt are interrupted. */

#define FLAKY_SIGNALS 1000 /* instead of a kind */

static _Atomic int flaky_kind = -1, flaky_left, flaky_fired, flaky_repeat;
static int flaky_deadly; /* the process dies of it */

/* Whether this call fails; with which errno, if not its own. */
static int flaky(int kind, int may_interrupt, int *error)
{
    int left;
    if (atomic_load(&flaky_kind) == FLAKY_SIGNALS && may_interrupt) {
        *error = EINTR;
        return (unsigned)atomic_fetch_add(&flaky_left, 1) * 2654435761u >> 16 < 0x5555;
    }
    if (atomic_load(&flaky_kind) != kind)
        return 0;
    left = atomic_fetch_sub(&flaky_left, 1);
    if (left > 1 || (left < 1 && !atomic_load(&flaky_repeat)))
        return 0;
    atomic_store(&flaky_fired, 1);
    if (flaky_deadly)
        kill(getpid(), SIGKILL);
    return 1;
}

/* FLAKY(name, result, parameters, arguments, errno, result of the failure) */
#define FLAKY_CALLS                                                                                \
    FLAKY(alloc, void *, (size_t bytes, size_t align), (bytes, align), ENOMEM, NULL)               \
    FLAKY(map, void *, (void *at, size_t n, int prot, int flags, int fd),                          \
          (at, n, prot, flags, fd), ENOMEM, MAP_FAILED)                                            \
    FLAKY(protect, int, (void *at, size_t n, int prot), (at, n, prot), ENOMEM, -1)                 \
    FLAKY(memfd, int, (const char *name), (name), EMFILE, -1)                                      \
    FLAKY(resize, int, (int fd, off_t n), (fd, n), EFBIG, -1)                                      \
    FLAKY(seal, int, (int fd), (fd), EPERM, -1)                                                    \
    FLAKY(sealed_bytes, int64_t, (int fd), (fd), EBADF, -1)                                        \
    FLAKY(socket, int, (int domain, int type, int protocol), (domain, type, protocol), EMFILE, -1) \
    FLAKY(bind, int, (int fd, const struct sockaddr *at, socklen_t n), (fd, at, n), EACCES, -1)    \
    FLAKY(listen, int, (int fd, int backlog), (fd, backlog), ENOBUFS, -1)                          \
    FLAKY(accept, int, (int fd), (fd), EMFILE, -1)                                                 \
    FLAKY(connect, int, (int fd, const struct sockaddr *to, socklen_t n), (fd, to, n), ENOBUFS, -1)\
    FLAKY(send, ssize_t, (int fd, const void *data, size_t n), (fd, data, n), ENOBUFS, -1)         \
    FLAKY(recv, ssize_t, (int fd, void *data, size_t n), (fd, data, n), ENOMEM, -1)                \
    FLAKY(sendmsg, ssize_t, (int fd, const struct msghdr *m), (fd, m), ENOBUFS, -1)                \
    FLAKY(recvmsg, ssize_t, (int fd, struct msghdr *m), (fd, m), ENOMEM, -1)                       \
    FLAKY(poll, int, (struct pollfd * fds, nfds_t n, int ms), (fds, n, ms), ENOMEM, -1)            \
    FLAKY(pipe, int, (int fds[2]), (fds), EMFILE, -1)                                              \
    FLAKY(set_option, int, (int fd, int level, int name, const void *v, socklen_t n),              \
          (fd, level, name, v, n), ENOBUFS, -1)                                                    \
    FLAKY(get_option, int, (int fd, int level, int name, void *v, socklen_t *n),                   \
          (fd, level, name, v, n), ENOBUFS, -1)                                                    \
    FLAKY(socket_name, int, (int fd, struct sockaddr *at, socklen_t *n), (fd, at, n), ENOBUFS, -1) \
    FLAKY(interfaces, int, (struct ifaddrs * *list), (list), ENOMEM, -1)                           \
    FLAKY(read_file, ssize_t, (const char *path, void *out, size_t n), (path, out, n), EACCES, -1) \
    FLAKY(at_fork, int, (void (*a)(void), void (*b)(void), void (*c)(void)), (a, b, c), ENOMEM,    \
          ENOMEM)                                                                                  \
    FLAKY(random, int, (void *out, size_t n), (out, n), EIO, -1)                                   \
    FLAKY(thread, int, (pthread_t * thread, void *(*run)(void *), void *context),                  \
          (thread, run, context), EAGAIN, EAGAIN)

enum {
#define FLAKY(name, result, parameters, arguments, error, failure) flaky_##name,
    FLAKY_CALLS
#undef FLAKY
    FLAKY_KINDS
};

#define FLAKY(name, result, parameters, arguments, error, failure)                                 \
    MAYBE_UNUSED static result do_##name parameters                                                \
    {                                                                                              \
        int why = error;                                                                           \
        if (flaky(flaky_##name, !!strstr("accept send recv sendmsg recvmsg poll", #name), &why)) { \
            errno = why;                                                                           \
            return failure;                                                                        \
        }                                                                                          \
        return sy_os_real.name arguments;                                                          \
    }
FLAKY_CALLS
#undef FLAKY

static const char *const flaky_names[FLAKY_KINDS] = {
#define FLAKY(name, result, parameters, arguments, error, failure) #name,
    FLAKY_CALLS
#undef FLAKY
};

/* From now on, in this process. kind -1: not yet. */
MAYBE_UNUSED static void arm_flaky(int kind, int nth, int repeat)
{
    atomic_store(&flaky_left, nth);
    atomic_store(&flaky_repeat, repeat);
    atomic_store(&flaky_kind, kind);
}

/* Before the process has threads. */
MAYBE_UNUSED static void be_flaky(int kind, int nth, int repeat)
{
    static struct sy_os os;
    os = sy_os_real;
#define FLAKY(name, result, parameters, arguments, error, failure) os.name = do_##name;
    FLAKY_CALLS
#undef FLAKY
    arm_flaky(kind, nth, repeat);
    sy_os = &os;
}

#endif
