/* spawn.c - see spawn.h.
 *
 * The ranks and whatever they start are one process group. Its leader is the guard, a process that
 * only waits for the death of the launcher: then it kills the group, so that even a launcher that
 * gets SIGKILL leaves nothing behind. The launcher itself is one loop around poll().
 *
 * Sections: the guard | starting a rank | output | what ranks and signals do to us | the loop. */
#define _GNU_SOURCE /* execvpe, pipe2 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "spawn.h"
#include "switchyard.h"
#include "tool.h"

#define LINE_BYTES 4096 /* longer lines of tagged output are cut in two */

extern char **environ;

struct line {
    int fd; /* reading end; -1: closed */
    int to;
    size_t bytes;
    char text[LINE_BYTES];
};

struct launcher {
    const struct spawn *spawn;
    sy_id id;
    char id_text[2 * sizeof(sy_id) + 1];
    sigset_t old_mask;
    pid_t guard, *pids; /* [ranks]; 0: ended */
    int32_t alive;
    int signals, report, report_write;
    struct line *lines;   /* [2 * ranks]: stdout and stderr of each rank, if tagged */
    int status;           /* of the first failure */
    int sent;             /* the last signal that we sent to end the group */
    uint64_t deadline_ns; /* of the next, stronger one; 0: none */
};

/* --- the guard ------------------------------------------------------------------------------ */

/* SIGRTMIN is blocked here as everywhere in the launcher, so it can be waited for; no other signal
 * that the group gets ends the guard before its time, except SIGKILL. */
static void guard_main(pid_t launcher)
{
    sigset_t death;
    sigfillset(&death);
    sigprocmask(SIG_SETMASK, &death, NULL);
    sigemptyset(&death);
    sigaddset(&death, SIGRTMIN);
    setpgid(0, 0);
    for (int fd = 0; fd < 1024; fd++) /* it must not keep anybody's pipe open */
        close(fd);
    if (prctl(PR_SET_PDEATHSIG, SIGRTMIN) == 0 && getppid() == launcher)
        sigwaitinfo(&death, NULL);
    kill(-getpid(), SIGKILL);
    _exit(1);
}

static int start_guard(struct launcher *l)
{
    pid_t self = getpid();
    l->guard = fork();
    if (l->guard < 0)
        return -1;
    if (!l->guard)
        guard_main(self);
    setpgid(l->guard, l->guard); /* whoever comes first */
    return 0;
}

/* --- starting a rank ------------------------------------------------------------------------ */

static int is_ours(const char *entry, const char *variable)
{
    static const char *const ours[] = {"SY_RANK=", "SY_RANKS=", "SY_ID="};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (!strncmp(entry, ours[i], strlen(ours[i])))
            return 1;
    return variable && !strncmp(entry, variable, strlen(variable)) &&
           entry[strlen(variable)] == '=';
}

/* The environment of a rank: ours with four variables in front. Made before fork(), because the
 * library has a thread in this process and the child may not allocate. */
struct surroundings {
    char rank[24], ranks[24], id[2 * sizeof(sy_id) + 8], report[64];
    char *entries[];
};

static struct surroundings *make_surroundings(const struct launcher *l, int32_t rank)
{
    struct surroundings *s;
    size_t n = 0, at = 0;
    while (environ[n])
        n++;
    s = malloc(sizeof *s + (n + 5) * sizeof *s->entries);
    if (!s)
        return NULL;
    snprintf(s->rank, sizeof s->rank, "SY_RANK=%d", (int)rank);
    snprintf(s->ranks, sizeof s->ranks, "SY_RANKS=%d", (int)l->spawn->ranks);
    snprintf(s->id, sizeof s->id, "SY_ID=%s", l->id_text);
    s->entries[at++] = s->rank;
    s->entries[at++] = s->ranks;
    s->entries[at++] = s->id;
    if (l->spawn->variable) {
        snprintf(s->report, sizeof s->report, "%s=%d", l->spawn->variable, l->report_write);
        s->entries[at++] = s->report;
    }
    for (size_t i = 0; i < n; i++)
        if (!is_ours(environ[i], l->spawn->variable))
            s->entries[at++] = environ[i];
    s->entries[at] = NULL;
    return s;
}

/* In the child. Only rank 0 may have our stdin, and a terminal would stop the group, which is not
 * in its foreground. */
static void child_files(const struct launcher *l, int32_t rank, const int out[2], const int err[2])
{
    if (rank || isatty(0)) {
        int null = open("/dev/null", O_RDONLY);
        if (null >= 0)
            dup2(null, 0);
        if (null > 0)
            close(null);
    }
    if (l->spawn->tag) {
        dup2(out[1], 1);
        dup2(err[1], 2);
    }
    if (l->report_write >= 0)
        fcntl(l->report_write, F_SETFD, 0);
}

static const char *program_of(const struct launcher *l)
{
    return l->spawn->program ? l->spawn->program : l->spawn->argv[0];
}

static void child_main(const struct launcher *l, const struct surroundings *s, pid_t launcher,
                       int failed)
{
    int error;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != launcher)
        _exit(127);
    setpgid(0, l->guard);
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, &l->old_mask, NULL);
    execvpe(program_of(l), l->spawn->argv, s->entries);
    error = errno;
    if (write(failed, &error, sizeof error) != (ssize_t)sizeof error)
        _exit(127);
    _exit(error == ENOENT ? 127 : 126);
}

static void close_both(const int fd[2])
{
    for (int i = 0; i < 2; i++)
        if (fd[i] >= 0)
            close(fd[i]);
}

/* Forks, and waits until the program runs or could not be executed, whose reason is *error. */
static pid_t fork_rank(struct launcher *l, int32_t rank, int out[2], int err[2], int *error)
{
    struct surroundings *s = make_surroundings(l, rank);
    int failed[2] = {-1, -1};
    pid_t self = getpid(), pid = -1;
    *error = 0;
    if (s && pipe2(failed, O_CLOEXEC) == 0)
        pid = fork();
    if (!pid) {
        child_files(l, rank, out, err);
        child_main(l, s, self, failed[1]);
    }
    if (pid > 0) {
        ssize_t n;
        close(failed[1]);
        failed[1] = -1;
        while ((n = read(failed[0], error, sizeof *error)) < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            *error = 0;
        setpgid(pid, l->guard); /* fails when it runs already, and then it has done so itself */
    }
    close_both(failed);
    free(s);
    return pid;
}

static int start_rank(struct launcher *l, int32_t rank)
{
    int out[2] = {-1, -1}, err[2] = {-1, -1}, error = 0;
    pid_t pid;
    if (l->spawn->tag && (pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))) {
        tool_say("pipes for rank %d: %s", (int)rank, strerror(errno));
        close_both(out);
        return TOOL_FAILED;
    }
    pid = fork_rank(l, rank, out, err, &error);
    if (pid < 0) {
        tool_say("starting rank %d: %s", (int)rank, strerror(errno));
        close_both(out);
        close_both(err);
        return TOOL_FAILED;
    }
    l->pids[rank] = pid;
    l->alive++;
    if (l->spawn->tag) {
        close(out[1]);
        close(err[1]);
        fcntl(out[0], F_SETFL, O_NONBLOCK);
        fcntl(err[0], F_SETFL, O_NONBLOCK);
        l->lines[2 * rank].fd = out[0];
        l->lines[2 * rank + 1].fd = err[0];
    }
    if (!error)
        return TOOL_OK;
    tool_say("cannot execute '%s': %s", program_of(l), strerror(error));
    return error == ENOENT ? 127 : 126;
}

/* --- output --------------------------------------------------------------------------------- */

static void put(int fd, const char *text, size_t bytes)
{
    while (bytes) {
        ssize_t n = write(fd, text, bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return; /* nobody reads us any more */
        text += n;
        bytes -= (size_t)n;
    }
}

static void put_line(const struct line *line, int32_t rank, const char *text, size_t bytes)
{
    char whole[LINE_BYTES + 32];
    int n = snprintf(whole, sizeof whole, "[%d] ", (int)rank);
    memcpy(whole + n, text, bytes);
    whole[(size_t)n + bytes] = '\n';
    put(line->to, whole, (size_t)n + bytes + 1);
}

/* Passes on the whole lines that have come. */
static void read_lines(struct line *line, int32_t rank)
{
    for (;;) {
        ssize_t n = read(line->fd, line->text + line->bytes, sizeof line->text - line->bytes);
        char *from = line->text, *end;
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        line->bytes += (size_t)n;
        while ((end = memchr(from, '\n', line->bytes)) != NULL) {
            put_line(line, rank, from, (size_t)(end - from));
            line->bytes -= (size_t)(end + 1 - from);
            from = end + 1;
        }
        memmove(line->text, from, line->bytes);
        if (line->bytes == sizeof line->text) {
            put_line(line, rank, line->text, line->bytes);
            line->bytes = 0;
        }
    }
}

static void end_line(struct line *line, int32_t rank)
{
    if (line->fd < 0)
        return;
    read_lines(line, rank);
    if (line->bytes)
        put_line(line, rank, line->text, line->bytes);
    close(line->fd);
    line->fd = -1;
}

/* --- what ranks and signals do to us -------------------------------------------------------- */

static void send_all(struct launcher *l, int number)
{
    if (l->sent != SIGKILL)
        kill(-l->guard, number);
    l->sent = number;
    l->deadline_ns = tool_now_ns() + l->spawn->grace_ns;
}

/* Those that end because of the first failure are no news, unless a signal ended them that was not
 * ours: a killed process may take longer to go than the others take to notice and give up. */
static void rank_ended(struct launcher *l, int32_t rank, int how)
{
    int code = WIFSIGNALED(how) ? 128 + WTERMSIG(how) : WEXITSTATUS(how);
    l->pids[rank] = 0;
    l->alive--;
    if (!code || l->sent || (l->status && !WIFSIGNALED(how)))
        return;
    if (WIFSIGNALED(how))
        tool_say("rank %d was killed by signal %d (%s)", (int)rank, WTERMSIG(how),
                 strsignal(WTERMSIG(how)));
    else if (!l->spawn->quiet)
        tool_say("rank %d ended with status %d", (int)rank, code);
    if (l->status)
        return;
    l->status = code;
    l->deadline_ns = tool_now_ns() + l->spawn->grace_ns;
}

static void reap(struct launcher *l)
{
    int how;
    pid_t pid;
    while ((pid = waitpid(-1, &how, WNOHANG)) > 0)
        for (int32_t r = 0; r < l->spawn->ranks; r++)
            if (l->pids[r] == pid)
                rank_ended(l, r, how);
}

/* The first signal of a kind goes to the ranks, which may take it as they like; a second one ends
 * them. */
static void take_signal(struct launcher *l, int number)
{
    if (number == SIGCHLD) {
        reap(l);
        return;
    }
    if (!l->status)
        l->status = 128 + number;
    send_all(l, l->sent ? SIGKILL : number);
}

static void take_signals(struct launcher *l)
{
    struct signalfd_siginfo info;
    while (read(l->signals, &info, sizeof info) == (ssize_t)sizeof info)
        take_signal(l, (int)info.ssi_signo);
}

/* A grace is over. */
static void press(struct launcher *l)
{
    if (l->deadline_ns && tool_now_ns() >= l->deadline_ns)
        send_all(l, l->sent ? SIGKILL : SIGTERM);
}

/* --- the loop ------------------------------------------------------------------------------- */

static int until_deadline_ms(const struct launcher *l)
{
    uint64_t now = tool_now_ns();
    if (!l->deadline_ns)
        return -1;
    return l->deadline_ns > now ? (int)((l->deadline_ns - now) / 1000000u) + 1 : 0;
}

static void loop(struct launcher *l, struct pollfd *polls)
{
    const int32_t lines = l->spawn->tag ? 2 * l->spawn->ranks : 0;
    while (l->alive) {
        polls[0] = (struct pollfd){.fd = l->signals, .events = POLLIN};
        polls[1] = (struct pollfd){.fd = l->report, .events = POLLIN};
        for (int32_t i = 0; i < lines; i++)
            polls[2 + i] = (struct pollfd){.fd = l->lines[i].fd, .events = POLLIN};
        poll(polls, (nfds_t)(2 + lines), until_deadline_ms(l));
        /* Output first: what a rank said stands before the news of its end. */
        for (int32_t i = 0; i < lines; i++) {
            if (polls[2 + i].revents & POLLIN)
                read_lines(l->lines + i, i / 2);
            else if (polls[2 + i].revents)
                end_line(l->lines + i, i / 2);
        }
        if (polls[1].revents & POLLIN)
            l->spawn->read(l->spawn->context, l->report);
        else if (polls[1].revents) {
            close(l->report);
            l->report = -1;
        }
        if (polls[0].revents)
            take_signals(l);
        press(l);
    }
}

/* Nothing of the group survives, and nothing that it said is lost. */
static void finish(struct launcher *l)
{
    kill(-l->guard, SIGKILL);
    waitpid(l->guard, NULL, 0);
    for (int32_t i = 0; l->lines && i < 2 * l->spawn->ranks; i++)
        end_line(l->lines + i, i / 2);
    if (l->report >= 0)
        l->spawn->read(l->spawn->context, l->report);
}

static int open_launcher(struct launcher *l, sigset_t *mask)
{
    static const char digits[] = "0123456789abcdef";
    int report[2] = {-1, -1};
    l->signals = signalfd(-1, mask, SFD_CLOEXEC | SFD_NONBLOCK);
    l->pids = calloc((size_t)l->spawn->ranks, sizeof *l->pids);
    l->lines = l->spawn->tag ? calloc(2 * (size_t)l->spawn->ranks, sizeof *l->lines) : NULL;
    if (l->signals < 0 || !l->pids || (l->spawn->tag && !l->lines) || start_guard(l)) {
        tool_say("starting: %s", strerror(errno));
        return TOOL_FAILED;
    }
    for (int32_t i = 0; l->lines && i < 2 * l->spawn->ranks; i++) {
        l->lines[i].fd = -1;
        l->lines[i].to = 1 + i % 2;
    }
    if (l->spawn->variable) {
        if (pipe2(report, O_CLOEXEC)) {
            tool_say("a pipe: %s", strerror(errno));
            return TOOL_FAILED;
        }
        fcntl(report[0], F_SETFL, O_NONBLOCK);
        l->report = report[0];
        l->report_write = report[1];
    }
    if (sy_id_create(&l->id) != SY_OK) {
        tool_say("%s", sy_last_error());
        return TOOL_FAILED;
    }
    for (size_t i = 0; i < sizeof l->id; i++) {
        l->id_text[2 * i] = digits[l->id.bytes[i] >> 4];
        l->id_text[2 * i + 1] = digits[l->id.bytes[i] & 15];
    }
    return TOOL_OK;
}

static void close_launcher(struct launcher *l)
{
    if (l->id_text[0])
        sy_id_discard(&l->id);
    if (l->guard > 0)
        finish(l);
    for (int i = 0; i < 3; i++) {
        int fd = i == 0 ? l->signals : i == 1 ? l->report : l->report_write;
        if (fd >= 0)
            close(fd);
    }
    free(l->pids);
    free(l->lines);
}

/* The signals that the loop takes. What we were told to ignore (nohup, a shell's background job)
 * stays ignored. */
static void pick_signals(sigset_t *mask)
{
    static const int passed_on[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    sigemptyset(mask);
    sigaddset(mask, SIGCHLD);
    for (size_t i = 0; i < sizeof passed_on / sizeof *passed_on; i++) {
        struct sigaction now;
        if (!sigaction(passed_on[i], NULL, &now) && now.sa_handler != SIG_IGN)
            sigaddset(mask, passed_on[i]);
    }
}

int spawn_ranks(const struct spawn *spawn)
{
    struct launcher l = {.spawn = spawn, .signals = -1, .report = -1, .report_write = -1};
    struct pollfd *polls = calloc(2 + 2 * (size_t)spawn->ranks, sizeof *polls);
    sigset_t mask;
    pick_signals(&mask);
    /* Before the library starts a thread, which inherits it. */
    sigprocmask(SIG_BLOCK, &mask, &l.old_mask);
    fflush(stdout);
    if (!polls) {
        tool_say("no memory for %d ranks", (int)spawn->ranks);
        l.status = TOOL_FAILED;
    } else {
        l.status = open_launcher(&l, &mask);
    }
    for (int32_t r = 0; r < spawn->ranks && !l.status; r++)
        l.status = start_rank(&l, r);
    if (l.report_write >= 0)
        close(l.report_write);
    l.report_write = -1;
    if (l.status && l.alive)
        send_all(&l, SIGKILL);
    loop(&l, polls);
    close_launcher(&l);
    sigprocmask(SIG_SETMASK, &l.old_mask, NULL);
    free(polls);
    return l.status;
}
