/* launch_test.c - who starts the ranks, and how they find each other: launchers' environments, and
 * ids (src/boot/launch.c, src/boot/id.c), with real processes.
 *
 *   1  Launchers      2  Ids: discarding, nobody comes, forks
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include "boot_world.h"

/* ---- 1. Launchers ---------------------------------------------------------------------------- */

struct environment {
    const char *name;
    const char *variables[16]; /* NAME=value */
    int status, rank, ranks, local, machines;
    const char *launcher, *job; /* beginnings; or of the error's text */
};

#define ID_DIGITS                                                                                  \
    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d" \
    "2e2f303132333435363738393a3b3c3d3e3f404142434445464748494a4b4c4d4e4f505152535455565758595a5b" \
    "5c5d5e5f606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7D7E7F"

static const struct environment environments[] = {
    {"none", {NULL}, SY_OK, 0, 1, 1, 1, "no launcher", ""},
    {"own", {"SY_RANK=1", "SY_RANKS=3", "SY_ID=" ID_DIGITS, "RANK=7", "WORLD_SIZE=9"}, SY_OK, 1, 3,
     0, 0, "switchyard run", "0001020304"},
    {"own without number", {"SY_RANK=1", "SY_ID=" ID_DIGITS}, SY_INVALID, 0, 0, 0, 0,
     "the environment looks like switchyard run, but SY_RANKS is not set", ""},
    {"own without id", {"SY_RANK=1", "SY_RANKS=3"}, SY_INVALID, 0, 0, 0, 0,
     "the environment looks like switchyard run, but SY_ID is not set", ""},
    {"own with short id", {"SY_RANK=1", "SY_RANKS=3", "SY_ID=0011"}, SY_INVALID, 0, 0, 0, 0,
     "SY_ID is not an id", ""},
    {"torchrun",
     {"RANK=2", "WORLD_SIZE=4", "LOCAL_WORLD_SIZE=4", "MASTER_ADDR=127.0.0.1", "MASTER_PORT=29500",
      "TORCHELASTIC_RUN_ID=none", "TORCHELASTIC_RESTART_COUNT=1", "LOCAL_RANK=2"},
     SY_OK, 2, 4, 4, 0, "torchrun", "none restart 1 at 127.0.0.1:29500"},
    {"torchrun on two machines",
     {"RANK=5", "WORLD_SIZE=8", "LOCAL_WORLD_SIZE=4", "MASTER_ADDR=a", "MASTER_PORT=1"},
     SY_OK, 5, 8, 4, 0, "torchrun", "- restart 0 at a:1"},
    {"torchrun with words", {"RANK=two", "WORLD_SIZE=4"}, SY_INVALID, 0, 0, 0, 0, "RANK=two", ""},
    {"torchrun with overflow", {"RANK=1", "WORLD_SIZE=4294967298"}, SY_INVALID, 0, 0, 0, 0,
     "WORLD_SIZE=4294967298", ""},
    {"torchrun of nobody", {"RANK=0", "WORLD_SIZE=0"}, SY_INVALID, 0, 0, 0, 0,
     "torchrun says that there are 0 ranks", ""},
    {"a lonely RANK", {"RANK=2"}, SY_OK, 0, 1, 1, 1, "no launcher", ""},
    {"Open MPI",
     {"OMPI_COMM_WORLD_RANK=1", "OMPI_COMM_WORLD_SIZE=2", "OMPI_COMM_WORLD_LOCAL_SIZE=2",
      "PMIX_NAMESPACE=4711", "PMIX_RANK=1", "OMPI_MCA_ess_base_jobid=12",
      "OMPI_MCA_orte_hnp_uri=x;tcp"},
     SY_OK, 1, 2, 2, 0, "Open MPI", "4711 at x;tcp"},
    {"Open MPI without namespace",
     {"OMPI_COMM_WORLD_RANK=1", "OMPI_COMM_WORLD_SIZE=2", "OMPI_MCA_ess_base_jobid=12"},
     SY_OK, 1, 2, 0, 0, "Open MPI", "12 at -"},
    {"MPICH", {"PMI_RANK=3", "PMI_SIZE=4", "MPI_LOCALNRANKS=4", "PMI_FD=7"}, SY_OK, 3, 4, 4, 0,
     "MPICH", "launcher "},
    {"PMI in Slurm",
     {"PMI_RANK=3", "PMI_SIZE=4", "SLURM_JOB_ID=7", "SLURM_STEP_ID=1", "SLURM_STEP_NUM_NODES=2"},
     SY_OK, 3, 4, 0, 2, "MPICH", "slurm 7.1"},
    {"PMIx in Slurm",
     {"PMIX_RANK=1", "PMIX_NAMESPACE=slurm.pmix.7.0", "SLURM_NTASKS=2", "SLURM_NNODES=1"},
     SY_OK, 1, 2, 0, 1, "a PMIx launcher", "slurm.pmix.7.0"},
    {"PMIx alone", {"PMIX_RANK=1", "PMIX_NAMESPACE=n"}, SY_UNSUPPORTED, 0, 0, 0, 0, "PMIx", ""},
    {"srun",
     {"SLURM_PROCID=3", "SLURM_NTASKS=4", "SLURM_JOB_ID=11", "SLURM_STEP_ID=2", "SLURM_NNODES=1"},
     SY_OK, 3, 4, 0, 1, "srun", "11.2"},
    {"srun with a smaller step",
     {"SLURM_PROCID=1", "SLURM_NTASKS=8", "SLURM_STEP_NUM_TASKS=2", "SLURM_JOB_ID=11",
      "SLURM_STEP_ID=2", "SLURM_NNODES=4", "SLURM_STEP_NUM_NODES=1"},
     SY_OK, 1, 2, 0, 1, "srun", "11.2"},
    {"a batch script of Slurm", {"SLURM_PROCID=0", "SLURM_NTASKS=4", "SLURM_JOB_ID=11"},
     SY_OK, 0, 1, 1, 1, "no launcher", ""},
};

static void act_environment(const struct scene *scene, int rank)
{
    const struct environment *e = environments + scene->number;
    struct sy_launch launch;
    sy_status status;
    int good;
    clearenv();
    for (int i = 0; i < 16 && e->variables[i]; i++) {
        char text[400];
        snprintf(text, sizeof text, "%s", e->variables[i]);
        *strchr(text, '=') = 0;
        setenv(text, strchr(e->variables[i], '=') + 1, 1);
    }
    status = sy_boot_env(&launch);
    good = (int)status == e->status;
    if (good && status == SY_OK)
        good = launch.rank == e->rank && launch.ranks == e->ranks && launch.local == e->local &&
               launch.machines == e->machines &&
               !strncmp(launch.launcher, e->launcher, strlen(e->launcher)) &&
               !strncmp(launch.job, e->job, strlen(e->job)) &&
               (!launch.has_id || launch.id.bytes[127] == 127);
    else if (good)
        good = !strncmp(sy_last_error(), e->launcher, strlen(e->launcher));
    sh->results[rank].status = good ? SY_OK : SY_STATE;
    snprintf(sh->results[rank].text, SY_ERROR_TEXT, "%s", status == SY_OK ? launch.launcher
                                                                          : sy_last_error());
}

/* One process behind a shell of its own, the other not: both name the same launcher. */
static void act_shell(const struct scene *scene, int rank)
{
    static const char *const forms[] = {
        "exec env PMI_RANK=0 PMI_SIZE=3 %s --job",
        "exec env PMI_RANK=1 PMI_SIZE=3 sh -c '%s --job; true'",
        "exec env PMI_RANK=2 PMI_SIZE=3 sh -c \"sh -c '%s --job; true'; true\"",
    };
    char self[600], command[800];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    for (int i = 0; i < 3; i++) {
        struct result *r = &sh->results[rank + i];
        FILE *out;
        snprintf(command, sizeof command, i ? i == 1 ? forms[1] : forms[2] : forms[0], self);
        out = popen(command, "r");
        if (!out || !fgets(r->text, SY_ERROR_TEXT, out))
            r->status = SY_SYSTEM;
        if (out)
            pclose(out);
    }
    (void)scene;
}

static void act_spread(const struct scene *scene, int rank)
{
    struct sy_group_config config = {.boot = SY_BOOT_ENV};
    struct sy_boot *boot;
    set_torchrun(rank, scene->ranks);
    set_number("LOCAL_WORLD_SIZE", 1);
    record(rank, sy_boot_open(&config, &boot));
}

/* Three groups, one after the other and two at a time, of one launch. */
static void act_groups(const struct scene *scene, int rank)
{
    struct scene one = *scene;
    struct sy_boot *a = NULL, *b = NULL, *c = NULL;
    sy_status status;
    if (scene->number) { /* under `switchyard run`, whose id serves the first group only */
        char hex[SY_ID_HEX + 1];
        sy_group_config config = {.boot = SY_BOOT_ENV, .timeout_ns = 10000 * MS};
        if (!rank) {
            record(rank, sy_id_create(&sh->id));
            atomic_store(&sh->id_ready, 1);
        }
        while (!atomic_load(&sh->id_ready))
            sleep_ms(1);
        sy_id_to_hex(&sh->id, hex);
        setenv("SY_ID", hex, 1);
        set_number("SY_RANK", rank);
        set_number("SY_RANKS", scene->ranks);
        status = sy_boot_open(&config, &a);
        if (status == SY_OK)
            status = sy_boot_open(&config, &b);
        sy_boot_close(a);
        if (status == SY_OK)
            status = sy_boot_open(&config, &c);
    } else {
        status = open_world(&one, rank, &a);
        if (status == SY_OK)
            status = open_world(&one, rank, &b);
        sy_boot_close(a);
        if (status == SY_OK)
            status = open_world(&one, rank, &c);
    }
    if (status == SY_OK && (!gathers_well(b) || !gathers_well(c)))
        status = SY_STATE;
    record(rank, status);
    sy_boot_close(b);
    sy_boot_close(c);
}

/* The last process is another user. It takes the meeting place before the ranks come. */
static void act_squatter(const struct scene *scene, int rank)
{
    struct scene real = *scene;
    struct sy_boot *boot;
    real.ranks--;
    if (rank == real.ranks) {
        struct sy_launch launch;
        struct sy_place place;
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        set_torchrun(0, real.ranks);
        sy_boot_env(&launch);
        sy_launch_place(&launch, 0, &place);
        if (setuid(65534) || bind(fd, (const void *)&place.at, place.at_bytes) ||
            (scene->number && listen(fd, 10)))
            record(rank, sy_fail(SY_STATE, "cannot squat"));
        atomic_store(&sh->step[0], 1);
        wait_step(1, real.ranks);
        close(fd);
        return;
    }
    wait_step(0, 1);
    record(rank, open_world(&real, rank, &boot));
    sy_boot_close(boot);
    atomic_fetch_add(&sh->step[1], 1);
}

/* The last process is another user, and connects to the meeting place of the others. */
static void act_other_user(const struct scene *scene, int rank)
{
    struct scene real = *scene;
    real.ranks--;
    if (rank == real.ranks) {
        struct sy_launch launch;
        struct sy_place place;
        int dropped = 0;
        char byte;
        set_torchrun(0, real.ranks);
        sy_boot_env(&launch);
        sy_launch_place(&launch, 0, &place);
        if (setuid(65534))
            record(rank, sy_fail(SY_STATE, "cannot be another user"));
        for (int i = 0; i < 2000 && !dropped; i++) {
            int fd = socket(AF_UNIX, SOCK_STREAM, 0);
            if (connect(fd, (const void *)&place.at, place.at_bytes))
                sleep_ms(1);
            else
                dropped = recv(fd, &byte, 1, 0) <= 0;
            close(fd);
        }
        if (!dropped)
            record(rank, sy_fail(SY_STATE, "was not dropped"));
        atomic_store(&sh->step[0], 1);
        return;
    }
    if (rank)
        wait_step(0, 1);
    act_form(&real, rank);
}

static void launchers(void)
{
    struct scene s;
    int count = (int)(sizeof environments / sizeof *environments);
    for (int i = 0; i < count; i++) {
        s = (struct scene){.ranks = 1, .act = act_environment, .number = i};
        check(!play(&s) && all_ended(&s, -1, SY_OK, ""), "environment: %s: %s",
              environments[i].name, sh->results[0].text);
    }
    s = (struct scene){.ranks = 1, .act = act_shell};
    check(!play(&s) && all_ended(&s, -1, SY_OK, "launcher ") &&
              !strcmp(sh->results[0].text, sh->results[1].text) &&
              !strcmp(sh->results[0].text, sh->results[2].text),
          "a shell per rank: %s", sh->results[0].text);
    s = (struct scene){.ranks = 2, .act = act_spread};
    check(!play(&s) && all_ended(&s, -1, SY_UNSUPPORTED, "SY_BOOT_ID or SY_BOOT_USER"),
          "several machines: %s", sh->results[0].text);
    s = (struct scene){.ranks = 3, .way = SY_BOOT_ENV, .act = act_groups};
    check(!play(&s) && all_ended(&s, -1, SY_OK, ""), "three groups of one launch");
    s.number = 1;
    check(!play(&s) && all_ended(&s, -1, SY_OK, ""), "three groups of switchyard run");
    if (geteuid()) {
        skip("other users", "only root can become one");
        return;
    }
    s = (struct scene){.ranks = 4, .way = SY_BOOT_ENV, .act = act_squatter, .number = 1};
    check(!play(&s) && all_ended(&s, 3, SY_SYSTEM, "held by user 65534"), "squatter listens: %s",
          sh->results[0].text);
    s.number = 0;
    s.timeout_ms = 1500;
    check(!play(&s) && sh->results[0].status == SY_SYSTEM && sh->results[1].status == SY_TIMEOUT &&
              sh->results[2].status == SY_TIMEOUT,
          "squatter does not listen: %s; %s", sh->results[0].text, sh->results[1].text);
    s = (struct scene){.ranks = 4, .way = SY_BOOT_ENV, .act = act_other_user};
    check(!play(&s) && all_ended(&s, -1, SY_OK, ""), "another user is dropped");
}

/* ---- 2. Ids ---------------------------------------------------------------------------------- */

static void act_discard(const struct scene *scene, int rank)
{
    struct sy_boot *boot = NULL;
    sy_status status;
    if (rank == scene->ranks - 1) {
        status = sy_id_create(&sh->id);
        if (status == SY_OK && scene->number == 0) { /* before anybody has come */
            status = sy_id_discard(&sh->id);
            if (status == SY_OK && sy_serve_count())
                status = sy_fail(SY_STATE, "discarded, but served");
        }
        atomic_store(&sh->id_ready, 1);
        if (scene->number == 1) { /* while the group forms */
            sleep_ms(50);
            status = sy_id_discard(&sh->id);
        }
        if (scene->number == 2) { /* when it has formed */
            wait_step(0, scene->ranks - 1);
            status = sy_id_discard(&sh->id);
            if (status == SY_OK)
                status = sy_id_discard(&sh->id);
            atomic_store(&sh->step[1], 1);
        }
        record(rank, status);
        return;
    }
    {
        struct scene real = *scene;
        real.ranks -= scene->number == 2 ? 1 : 0;
        real.creator = -1;
        status = open_world(&real, rank, &boot);
        atomic_fetch_add(&sh->step[0], 1);
        if (scene->number == 2) {
            wait_step(1, 1);
            if (status == SY_OK && !gathers_well(boot))
                status = SY_STATE;
        }
    }
    record(rank, status);
    sy_boot_close(boot);
}

/* An id that nobody wants: its thread ends by itself. An address of choice. */
static void act_unused(const struct scene *scene, int rank)
{
    sy_id id;
    uint64_t begin = now_ns();
    setenv("SY_TIMEOUT_MS", "10", 1);
    record(rank, sy_id_create(&id));
    if (sy_serve_count() != 1)
        record(rank, sy_fail(SY_STATE, "not served"));
    while (sy_serve_count() && now_ns() - begin < 5000 * MS)
        sleep_ms(1);
    sh->results[rank].ns = now_ns() - begin;
    (void)scene;
}

static void act_port(const struct scene *scene, int rank)
{
    struct sy_meeting meeting;
    sy_id a, b;
    int port = 20000 + (int)getpid() % 20000;
    sy_status status = SY_OK;
    set_number("SY_BOOT_PORT", port);
    if (sy_id_create(&a) != SY_OK || !sy_meeting_read(&a, &meeting) || meeting.port != port)
        status = sy_fail(SY_STATE, "port %d instead of %d: %s", meeting.port, port,
                         sy_last_error());
    else if (sy_id_create(&b) == SY_OK && sy_id_discard(&b) == SY_OK)
        status = SY_OK; /* it found another address with this port */
    else if (!strstr(sy_last_error(), "SY_BOOT_PORT"))
        status = SY_STATE;
    record(rank, status);
    sy_id_discard(&a);
    (void)scene;
}

/* The usual launcher: makes the id, forks, and its children are the ranks. What they inherit of the
 * root does not keep it alive: when it dies, they hear of it. */
static void act_fork(const struct scene *scene, int rank)
{
    struct scene real = {.ranks = 3, .way = SY_BOOT_ID, .creator = -1};
    pid_t pids[3];
    sy_id id;
    if (sy_id_create(&id) != SY_OK)
        return;
    sh->id = id;
    atomic_store(&sh->id_ready, 1);
    for (int i = 0; i < real.ranks; i++) {
        pids[i] = fork();
        if (!pids[i]) {
            struct sy_boot *boot;
            sy_status status;
            if (sy_serve_count())
                _exit(1);
            status = open_world(&real, i, &boot);
            atomic_fetch_add(&sh->step[0], 1);
            if (status == SY_OK && scene->number) {
                sleep_ms(100);
                status = sy_boot_barrier(boot) == SY_PEER_LOST ? SY_OK : SY_STATE;
            }
            sy_boot_close(boot);
            record(i + 1, status);
            atomic_fetch_add(&sh->step[1], 1);
            _exit(status != SY_OK);
        }
    }
    if (scene->number) {
        wait_step(0, real.ranks);
        kill(getpid(), SIGKILL);
    }
    for (int i = 0; i < real.ranks; i++) {
        int code;
        waitpid(pids[i], &code, 0);
        if (code)
            record(rank, sy_fail(SY_STATE, "rank %d: %s", i, sh->results[i + 1].text));
    }
}

static void ids(void)
{
    struct scene s = {.ranks = 3, .way = SY_BOOT_ID, .act = act_discard, .number = 0};
    int bad;
    check(!play(&s) && all_ended(&s, 2, SY_PEER_LOST, "nobody serves at") && !sh->results[2].status,
          "id discarded before: %s", sh->results[0].text);
    s.number = 1;
    check(!play(&s) && all_ended(&s, 2, SY_ABORTED, "discarded") && !sh->results[2].status,
          "id discarded while forming: %s", sh->results[0].text);
    s.number = 2;
    check(!play(&s) && all_ended(&s, -1, SY_OK, ""), "id discarded when formed");
    s = (struct scene){.ranks = 1, .act = act_unused};
    bad = play(&s);
    check(!bad && all_ended(&s, -1, SY_OK, "") && sh->results[0].ns >= 200 * MS &&
              sh->results[0].ns < 400 * MS * SLOW,
          "unused id ends after %.0f ms", (double)sh->results[0].ns / 1e6);
    s = (struct scene){.ranks = 1, .act = act_port};
    check(!play(&s) && all_ended(&s, -1, SY_OK, ""), "port of choice: %s", sh->results[0].text);
    {
        sy_id id;
        memset(&id, 0, sizeof id);
        check(sy_id_discard(&id) == SY_INVALID && sy_id_create(NULL) == SY_INVALID &&
                  sy_id_discard(NULL) == SY_INVALID,
              "ids that are none");
    }
    s = (struct scene){.ranks = 1, .act = act_fork};
    check(!play(&s) && all_ended(&s, -1, SY_OK, ""), "ranks forked after the id");
    s.number = 1;
    check(!play(&s), "forked ranks notice the death of the root");
    for (int i = 0; i < 2000 && atomic_load(&sh->step[1]) < 3; i++)
        sleep_ms(1);
    for (int i = 1; i < 4; i++)
        check(sh->results[i].at_ns && sh->results[i].status == SY_OK, "rank %d noticed", i - 1);
}

/* What SY_BOOT_ENV finds here, for the test above and for trying real launchers. */
static int print_job(void)
{
    struct sy_launch launch;
    if (sy_boot_env(&launch) != SY_OK)
        return 1;
    printf("%s\n", launch.job);
    return 0;
}

int main(int argc, char **argv)
{
    static struct names names;
    int fds;
    if (argc > 1 && !strcmp(argv[1], "--job"))
        return print_job();
    read_names(&names);
    sh = mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (sh == MAP_FAILED)
        return 1;
    fds = count_entries("/proc/self/fd");
    if (only(argc, argv, "launchers"))
        launchers();
    if (only(argc, argv, "ids"))
        ids();
    check(!names_left(&names), "no socket names left");
    check(count_entries("/proc/self/fd") == fds, "no descriptors left");
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed != 0;
}
