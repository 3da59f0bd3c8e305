/* mesh_test.c - the mesh (src/boot/mesh.h) with real processes.
 *
 *   1  Meshes that form: descriptors arrive, goodbyes are told from deaths
 *   2  Deaths, and how soon they are seen
 *   3  Ranks elsewhere, ranks that fail, ranks that cheat
 *   4  Every system call fails once
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/syscall.h>

#include "boot/mesh.h"
#include "boot_world.h"

/* ---- 1. Meshes that form --------------------------------------------------------------------- */

static void on_end(void *context, int32_t rank, sy_status how)
{
    (void)context;
    if (how == SY_OK)
        atomic_fetch_add(&sh->left_of[rank], 1);
    else
        atomic_fetch_add(&sh->dead_of[rank], how == SY_PEER_LOST ? 1 : 1000);
    if (how != SY_OK && now_ns() > atomic_load(&sh->dead_ns[rank]))
        atomic_store(&sh->dead_ns[rank], now_ns());
}

/* A memfd with the giver's rank, in which each rank then writes its own at its place. */
static sy_status share(struct sy_mesh *mesh, int rank, int ranks, struct sy_boot *boot)
{
    int mine = sy_os_real.memfd("share"), fds[WORLD_MAX];
    int32_t word = rank;
    sy_status status;
    if (mine < 0 || sy_os_real.resize(mine, 4096))
        return sy_fail(SY_STATE, "memfd");
    status = sy_mesh_exchange_fds(mesh, mine, fds);
    for (int r = 0; r < ranks && status == SY_OK; r++) {
        if (pwrite(fds[r], &word, sizeof word, 4 * rank) != sizeof word)
            status = sy_fail(SY_STATE, "descriptor of rank %d cannot be written", r);
        if (!(fcntl(fds[r], F_GETFD) & FD_CLOEXEC))
            status = sy_fail(SY_STATE, "descriptor of rank %d is not closed on exec", r);
    }
    if (status == SY_OK)
        status = sy_boot_barrier(boot);
    for (int r = 0; r < ranks && status == SY_OK; r++) {
        if (pread(mine, &word, sizeof word, 4 * r) != sizeof word || word != r)
            status = sy_fail(SY_STATE, "rank %d wrote %d into what it got from rank %d", r, word,
                             rank);
        if (r != rank)
            close(fds[r]);
    }
    close(mine);
    return status;
}

static void act_mesh(const struct scene *scene, int rank)
{
    struct sy_boot *boot = NULL;
    struct sy_mesh *mesh = NULL;
    sy_status status = open_world(scene, rank, &boot);
    uint64_t begin = now_ns();
    if (status == SY_OK)
        status = sy_mesh_open(boot, 0, &mesh);
    sh->results[rank].ns = now_ns() - begin;
    for (int twice = 0; twice < 2 && status == SY_OK; twice++)
        status = share(mesh, rank, scene->ranks, boot);
    if (status == SY_OK)
        status = sy_mesh_watch(mesh, &(struct sy_mesh_events){.gone = on_end});
    if (status == SY_OK)
        status = sy_boot_barrier(boot);
    record(rank, status);
    if (rank % 2) /* some see the others go, some go first */
        for (int i = 0; i < 300 && !atomic_load(&sh->left_of[0]); i++)
            sleep_ms(1);
    sy_mesh_close(mesh);
    sy_boot_close(boot);
}

static void meshes(void)
{
    static const int sizes[] = {1, 2, 3, 8, 16};
    for (int way = SY_BOOT_ENV; way <= SY_BOOT_USER; way++) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            struct scene s = {.ranks = sizes[i], .way = way, .act = act_mesh};
            int bad = play(&s), dead = 0;
            uint64_t slowest = 0;
            for (int r = 0; r < s.ranks; r++) {
                dead += atomic_load(&sh->dead_of[r]);
                slowest = sh->results[r].ns > slowest ? sh->results[r].ns : slowest;
            }
            check(!bad && all_ended(&s, -1, SY_OK, "") && !dead &&
                      (s.ranks < 2 || atomic_load(&sh->left_of[0]) > 0),
                  "mesh %s %d opened in %.2f ms, no deaths", way_names[way], s.ranks,
                  (double)slowest / 1e6);
        }
    }
}

/* ---- 2. Deaths ------------------------------------------------------------------------------- */

enum { KILLED, WITH_CHILD, EXITS, LEAVES, GARBAGE };

static void die(const struct scene *scene, struct sy_mesh *mesh, struct sy_boot *boot, int rank)
{
    pid_t self = getpid();
    sleep_ms(20);
    if (scene->number == WITH_CHILD && !fork()) { /* a worker that outlives its parent */
        sy_mesh_close(mesh);                      /* as a careless exit handler would */
        sleep_ms(1500);
        _exit(0);
    }
    if (scene->number == WITH_CHILD)
        sleep_ms(20);
    record(rank, SY_OK);
    atomic_store(&sh->mark_ns, now_ns());
    if (scene->number == LEAVES) {
        sy_mesh_close(mesh);
        sy_boot_close(boot);
        return;
    }
    if (scene->number == EXITS)
        syscall(SYS_exit_group, 0); /* tools do things in _exit() that take their time */
    kill(self, SIGKILL);
}

static void act_die(const struct scene *scene, int rank)
{
    struct sy_boot *boot = NULL;
    struct sy_mesh *mesh = NULL;
    sy_status status = open_world(scene, rank, &boot);
    if (status == SY_OK)
        status = sy_mesh_open(boot, 0, &mesh);
    if (status == SY_OK)
        status = sy_mesh_watch(mesh, &(struct sy_mesh_events){.gone = on_end});
    if (status == SY_OK)
        status = sy_boot_barrier(boot);
    record(rank, status);
    if (status == SY_OK && rank == scene->other) {
        die(scene, mesh, boot, rank);
        return;
    }
    for (int i = 0; i < 1000 && atomic_load(&sh->dead_of[scene->other]) +
                                        atomic_load(&sh->left_of[scene->other]) <
                                    scene->ranks - 1;
         i++)
        sleep_ms(1);
    sy_mesh_close(mesh);
    sy_boot_close(boot);
}

static void deaths(void)
{
    static const char *const names[] = {"is killed", "is killed and has a child", "exits",
                                        "leaves"};
    for (int number = KILLED; number <= LEAVES; number++) {
        double worst = 0;
        int good = 1, others = 0;
        for (int run = 0; run < 10; run++) {
            struct scene s = {.ranks = 8, .way = SY_BOOT_ENV, .act = act_die, .number = number,
                              .other = run % 8};
            double ms;
            good &= !play(&s) && all_ended(&s, s.other, SY_OK, "");
            for (int r = 0; r < s.ranks; r++)
                if (r != s.other)
                    others += atomic_load(&sh->dead_of[r]);
            good &= atomic_load(number == LEAVES ? &sh->left_of[s.other]
                                                 : &sh->dead_of[s.other]) == 7 &&
                    !atomic_load(number == LEAVES ? &sh->dead_of[s.other]
                                                  : &sh->left_of[s.other]);
            if (number == LEAVES)
                continue;
            ms = ((double)atomic_load(&sh->dead_ns[s.other]) - (double)atomic_load(&sh->mark_ns)) /
                 1e6;
            worst = ms > worst ? ms : worst;
        }
        check(good && !others && worst < 100 * SLOW,
              "a rank of 8 %s: all know after %.2f ms at most", names[number], worst);
    }
}

/* Ranks die in the middle of opening and exchanging. */
static void act_die_opening(const struct scene *scene, int rank)
{
    struct sy_boot *boot = NULL;
    struct sy_mesh *mesh = NULL;
    sy_status status;
    int fds[WORLD_MAX];
    be_flaky(-1, 0, 0);
    status = open_world(scene, rank, &boot);
    if (rank == scene->other) {
        atomic_store(&sh->mark_ns, now_ns());
        flaky_deadly = 1; /* its n-th call of sendmsg() kills it */
        arm_flaky(flaky_sendmsg, scene->number, 0);
        if (!scene->number)
            kill(getpid(), SIGKILL);
    }
    if (status == SY_OK)
        status = sy_mesh_open(boot, 0, &mesh);
    if (status == SY_OK)
        status = sy_mesh_exchange_fds(mesh, 1, fds);
    for (int r = 0; r < scene->ranks && status == SY_OK; r++)
        if (r != rank)
            close(fds[r]);
    record(rank, status);
    sy_mesh_close(mesh);
    sy_boot_close(boot);
}

static void deaths_opening(void)
{
    for (int nth = 0; nth <= 6; nth++) {
        struct scene s = {.ranks = 4, .way = SY_BOOT_ENV, .act = act_die_opening, .number = nth,
                          .other = 2};
        int bad = play(&s);
        check(!bad && all_ended(&s, 2, SY_PEER_LOST, "rank 2") &&
                  sh->results[0].at_ns - atomic_load(&sh->mark_ns) < 300 * MS * SLOW,
              "rank 2 dies at packet %d: %s", nth, sh->results[0].text);
    }
}

/* ---- 3. Elsewhere, failing, cheating --------------------------------------------------------- */

static int cheat_kind;
enum { NO_CHEAT, TWO_FDS, TEN_FDS, NO_FD, CHEAT_GARBAGE, LONG_PACKET, EMPTY_PACKET };

static ssize_t other_machine(const char *path, void *out, size_t bytes)
{
    ssize_t n = sy_os_real.read_file(path, out, bytes);
    if (n > 0)
        memset(out, 'f', 8);
    return n;
}

/* As where the system allows short queues only. */
static int short_queue(int fd, int backlog)
{
    return sy_os_real.listen(fd, backlog > 1 ? 1 : backlog);
}

static void act_short_queue(const struct scene *scene, int rank)
{
    static struct sy_os os;
    os = sy_os_real;
    os.listen = short_queue; /* of the root, too */
    sy_os = &os;
    act_mesh(scene, rank);
}

/* What the cheater sends when it should send a descriptor. */
static ssize_t cheat(int to, const struct msghdr *m)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(10 * sizeof(int))];
    } control;
    struct msghdr mine = *m;
    char junk[64] = "SYmesh";
    struct iovec part = {junk, sizeof junk};
    int count = cheat_kind == TWO_FDS ? 2 : 10;
    if (!m->msg_controllen)
        return sy_os_real.sendmsg(to, m);
    if (cheat_kind == TWO_FDS || cheat_kind == TEN_FDS) {
        memset(&control, 0, sizeof control);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
        for (int i = 0, one = 1; i < count; i++)
            memcpy(CMSG_DATA(&control.header) + (size_t)i * sizeof one, &one, sizeof one);
        mine.msg_control = &control;
        mine.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
    } else if (cheat_kind == NO_FD) {
        mine.msg_control = NULL;
        mine.msg_controllen = 0;
    } else {
        part.iov_len = cheat_kind == LONG_PACKET ? 64 : cheat_kind == CHEAT_GARBAGE ? 16 : 0;
        mine.msg_iov = &part;
        if (cheat_kind != LONG_PACKET) {
            mine.msg_control = NULL;
            mine.msg_controllen = 0;
        }
    }
    return sy_os_real.sendmsg(to, &mine);
}

static int other_network(int fd, int level, int name, void *value, socklen_t *bytes)
{
    int result = sy_os_real.get_option(fd, level, name, value, bytes);
    if (name == SO_NETNS_COOKIE && !result)
        ++*(uint64_t *)value;
    return result;
}

static int no_network(int fd, int level, int name, void *value, socklen_t *bytes)
{
    if (name != SO_NETNS_COOKIE)
        return sy_os_real.get_option(fd, level, name, value, bytes);
    errno = ENOPROTOOPT;
    return -1;
}

static void act_odd(const struct scene *scene, int rank)
{
    static struct sy_os os;
    struct sy_boot *boot = NULL;
    struct sy_mesh *mesh = NULL;
    int fds[WORLD_MAX], odd = rank == 2, give = 1;
    sy_status status;
    os = sy_os_real;
    if (odd && scene->number == -1)
        os.read_file = other_machine;
    if (odd && scene->number == -3)
        os.get_option = other_network;
    if (odd && scene->number == -4)
        os.get_option = no_network;
    if (odd && scene->number > 0) {
        cheat_kind = scene->number;
        os.sendmsg = cheat;
    }
    if (odd && scene->number == -2)
        give = -1;
    sy_os = &os;
    status = open_world(scene, rank, &boot);
    if (status == SY_OK)
        status = sy_mesh_open(boot, 0, &mesh);
    if (status == SY_OK)
        status = sy_mesh_exchange_fds(mesh, give, fds);
    record(rank, status);
    sh->results[rank].culprit = boot ? boot->culprit : -2;
    for (int r = 0; r < scene->ranks && mesh; r++) {
        if (status == SY_OK && r != rank)
            close(fds[r]);
        else if (status != SY_OK && fds[r] >= 0)
            record(rank, sy_fail(SY_STATE, "descriptor %d of a failed exchange", fds[r]));
    }
    sy_mesh_close(mesh);
    sy_boot_close(boot);
}

static void odd_ranks(void)
{
    static const struct {
        int number, status;
        const char *name, *text;
    } cases[] = {
        {-1, SY_UNSUPPORTED, "another machine", "rank 2 is on another machine"},
        {-3, SY_UNSUPPORTED, "another network", "rank 2 is in another network namespace"},
        {-4, SY_OK, "a system that does not tell its networks", ""},
        {-2, SY_INVALID, "no descriptor", "rank 2: there is no descriptor to give"},
        {TWO_FDS, SY_PROTOCOL, "two descriptors", "rank 2 sent something else"},
        {TEN_FDS, SY_PROTOCOL, "ten descriptors", "rank 2 sent something else"},
        {NO_FD, SY_PROTOCOL, "a note without descriptor", "rank 2 sent something else"},
        {CHEAT_GARBAGE, SY_PROTOCOL, "garbage", "rank 2 sent something else"},
        {LONG_PACKET, SY_PROTOCOL, "a long packet", "rank 2 sent something else"},
        {EMPTY_PACKET, SY_PEER_LOST, "an empty packet", "rank 2 closed its socket"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct scene s = {.ranks = 4, .way = SY_BOOT_ID, .act = act_odd,
                          .number = cases[i].number};
        check(!play(&s) && all_ended(&s, -1, cases[i].status, cases[i].text), "%s: %s",
              cases[i].name, sh->results[0].text);
    }
}

static void short_queues(void)
{
    struct scene s = {.ranks = 16, .way = SY_BOOT_ID, .act = act_short_queue};
    check(!play(&s) && all_ended(&s, -1, SY_OK, ""), "short queues");
}

/* A stranger of the same user and one of another connect to all listening sockets that it finds, as
 * long as the ranks open their meshes. */
static void act_mesh_strangers(const struct scene *scene, int rank)
{
    struct scene real = *scene;
    real.ranks -= 2;
    if (rank < real.ranks) {
        act_mesh(&real, rank);
        atomic_fetch_add(&sh->step[0], 1);
        return;
    }
    if (rank > real.ranks && setuid(65534))
        record(rank, SY_STATE);
    while (atomic_load(&sh->step[0]) < real.ranks) {
        char line[300], *name;
        FILE *file = fopen("/proc/net/unix", "r");
        while (file && fgets(line, sizeof line, file)) {
            struct sockaddr_un at = {.sun_family = AF_UNIX};
            int fd;
            name = strstr(line, "@switchyard-mesh-");
            if (!name)
                continue;
            name[strcspn(name, "\n")] = 0;
            memcpy(at.sun_path, name, strlen(name));
            at.sun_path[0] = 0;
            fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
            if (!connect(fd, (void *)&at, (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
                                                      strlen(name)))) {
                atomic_fetch_add(&sh->step[1], 1);
                if (send(fd, line, 48, MSG_NOSIGNAL) < 0)
                    sleep_ms(0);
            }
            close(fd);
        }
        if (file)
            fclose(file);
    }
}

static void mesh_strangers(void)
{
    struct scene s = {.ranks = 10, .way = SY_BOOT_ENV, .act = act_mesh_strangers};
    int connected = 0, good = 1;
    if (geteuid()) {
        skip("strangers", "only root can become another user");
        return;
    }
    for (int run = 0; run < 10; run++) {
        good &= !play(&s) && all_ended(&s, -1, SY_OK, "");
        connected += atomic_load(&sh->step[1]);
    }
    check(good, "strangers connected %d times while 8 ranks opened 10 meshes", connected);
}

/* ---- 4. Every system call fails once --------------------------------------------------------- */

static void act_flaky(const struct scene *scene, int rank)
{
    struct sy_boot *boot = NULL;
    struct sy_mesh *mesh = NULL;
    int fds[WORLD_MAX];
    sy_status status;
    be_flaky(-1, 0, 0);
    status = open_world(scene, rank, &boot);
    if (status == SY_OK && (rank == 1 || scene->number == FLAKY_SIGNALS))
        arm_flaky(scene->number, scene->other, 0); /* opening the bootstrap has its own test */
    if (status == SY_OK)
        status = sy_mesh_open(boot, 0, &mesh);
    if (status == SY_OK)
        status = sy_mesh_exchange_fds(mesh, 1, fds);
    for (int r = 0; r < scene->ranks && status == SY_OK; r++)
        if (r != rank)
            close(fds[r]);
    if (status == SY_OK)
        status = sy_boot_agree(boot, sy_mesh_watch(mesh, &(struct sy_mesh_events){.gone = on_end}));
    record(rank, status);
    if (rank == 1 && atomic_load(&flaky_fired))
        atomic_store(&sh->step[7], 1);
    sy_mesh_close(mesh);
    sy_boot_close(boot);
    atomic_store(&flaky_kind, -1);
}

static int fail_each(int kind, int *runs, int *split, uint64_t *slowest)
{
    int good = 1;
    for (int nth = 1; nth < 100; nth++) {
        struct scene s = {.ranks = 3, .way = SY_BOOT_ENV, .act = act_flaky, .number = kind,
                          .other = nth, .timeout_ms = 1000 * SLOW};
        uint64_t begin = now_ns();
        int bad = play(&s), succeeded = 0;
        for (int i = 0; i < s.ranks; i++) {
            const struct result *r = &sh->results[i];
            succeeded += r->status == SY_OK;
            if (r->ended && (r->status == SY_OK || *r->text) && !r->fds_left && !r->threads_left)
                continue;
            bad = 1;
            printf("  %s %d: rank %d: ended %d, status %d, %d descriptors, %d threads left\n",
                   flaky_names[kind], nth, i, r->ended, r->status, r->fds_left, r->threads_left);
        }
        *slowest = now_ns() - begin > *slowest ? now_ns() - begin : *slowest;
        good &= !bad;
        ++*runs;
        *split += succeeded && succeeded != s.ranks;
        if (!atomic_load(&sh->step[7]))
            break;
    }
    return good;
}

static void failures(void)
{
    struct scene s = {.ranks = 3, .way = SY_BOOT_ENV, .act = act_flaky, .number = FLAKY_SIGNALS};
    int good = 1, runs = 0, split = 0;
    uint64_t slowest = 0;
    for (int kind = 0; kind < FLAKY_KINDS; kind++)
        good &= fail_each(kind, &runs, &split, &slowest);
    check(good && slowest < 900 * MS * SLOW,
          "each call of rank 1 fails once: %d runs, %d split, slowest %.0f ms", runs, split,
          (double)slowest / 1e6);
    check(!play(&s) && all_ended(&s, -1, SY_OK, ""), "signals interrupt all ranks");
}

int main(int argc, char **argv)
{
    static struct names names;
    int fds;
    read_names(&names);
    sh = mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (sh == MAP_FAILED)
        return 1;
    fds = count_entries("/proc/self/fd");
    if (only(argc, argv, "meshes"))
        meshes();
    if (only(argc, argv, "deaths"))
        deaths();
    if (only(argc, argv, "opening"))
        deaths_opening();
    if (only(argc, argv, "odd"))
        odd_ranks();
    if (only(argc, argv, "queues"))
        short_queues();
    if (only(argc, argv, "strangers"))
        mesh_strangers();
    if (only(argc, argv, "failures"))
        failures();
    check(!names_left(&names), "no socket names left");
    check(count_entries("/proc/self/fd") == fds, "no descriptors left");
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed != 0;
}
