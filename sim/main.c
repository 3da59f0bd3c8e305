/* main.c - switchyard-sim: runs seeds, one line each (docs/SIMULATOR.md).
 *
 * Seeds run in child processes, so that one that crashes, or leaves a broken world behind, ends
 * nothing but itself. Sections: options | seeds | children | plants | benchmarks. */
#define _GNU_SOURCE /* getopt_long, MAP_ANONYMOUS */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/verify.h"
#include "model.h"
#include "network.h"
#include "plants.h"
#include "world.h"

#define JOBS_MAX 64
#define RANKS_MAX 1024u
#define PLANT_SEEDS 2000u
#define SECONDS_PER_SEED 120u /* then it hangs */
#define NETWORK_EVERY 8u      /* one seed in so many is of the network */

struct options {
    uint64_t first, end; /* seeds */
    double minutes;
    int jobs, replay, bench, plant, list, quiet, mute; /* mute: children say nothing */
    struct sim_wish wish;
};

static const char help[] =
    "switchyard-sim runs the library as N ranks in one thread, under a scheduler, a memory and\n"
    "faults that a seed decides. One line per seed:\n"
    "\n"
    "    ok SEED points=P virtual=MS rounds=R digest=D SCENARIO\n"
    "\n"
    "and after a violation what was violated, the last events, where everyone stood, and the\n"
    "command that replays it. The last line is `N seeds, N failed`.\n"
    "\n"
    "  --seed S         one seed\n"
    "  --seeds A..B     seeds from A to B-1\n"
    "  --fresh N        N seeds from a base of the clock, which is printed\n"
    "  --minutes M      seeds from a base of the clock for so long\n"
    "  --replay         every event of the seeds\n"
    "  --ranks N        as many ranks, whatever the seed says\n"
    "  --machine M      cpu or gpu, whatever the seed says\n"
    "  --mode M         throughput or latency, whatever the seed says\n"
    "  --calm           no faults\n"
    "  --jobs J         so many processes; default 1\n"
    "  --quiet          no line for seeds that pass\n"
    "  --bench          rounds per second of 8 ranks, and a round of 1,024 ranks; or of --ranks\n"
    "  --list           planted mistakes, number and name (switchyard-sim-plants)\n"
    "  --plant K        makes mistake K; 0: all, one after the other\n";

/* --- options ---------------------------------------------------------------------------------- */

static void usage(const char *why)
{
    fprintf(stderr, "switchyard-sim: %s; see --help\n", why);
    exit(2);
}

static uint64_t number_of(const char *text)
{
    char *end;
    uint64_t value;
    errno = 0;
    value = strtoull(text, &end, 0);
    if (errno || end == text || *end)
        usage("that is no number");
    return value;
}

static uint32_t one_of(const char *text, const char *first, const char *second)
{
    if (strcmp(text, first) && strcmp(text, second))
        usage("--machine is cpu or gpu, --mode throughput or latency");
    return !strcmp(text, second);
}

static void take_range(struct options *o, char *text)
{
    char *dots = strstr(text, "..");
    if (!dots)
        usage("--seeds wants A..B");
    *dots = 0;
    o->first = number_of(text);
    o->end = number_of(dots + 2);
}

static uint64_t fresh_base(void)
{
    struct timespec t;
    uint64_t base;
    clock_gettime(CLOCK_REALTIME, &t);
    base = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
    printf("base %llu\n", (unsigned long long)base);
    return base;
}

static void take_option(struct options *o, int option, char *value)
{
    switch (option) {
    case 's':
        o->first = number_of(value);
        o->end = o->first + 1;
        break;
    case 'S':
        take_range(o, value);
        break;
    case 'f':
        o->first = fresh_base();
        o->end = o->first + number_of(value);
        break;
    case 'm':
        o->minutes = strtod(value, NULL);
        o->first = fresh_base();
        o->end = UINT64_MAX;
        break;
    case 'r':
        o->wish.ranks = (uint32_t)number_of(value);
        if (o->wish.ranks < 1 || o->wish.ranks > RANKS_MAX)
            usage("--ranks: from 1 to 1024");
        break;
    case 'M':
        o->wish.machine = 1 + one_of(value, "cpu", "gpu");
        break;
    case 'o':
        o->wish.modes = one_of(value, "throughput", "latency") ? SY_LATENCY : SY_THROUGHPUT;
        break;
    case 'j':
        o->jobs = (int)number_of(value);
        if (o->jobs < 1 || o->jobs > JOBS_MAX)
            usage("--jobs: from 1 to 64");
        break;
    case 'p':
        o->plant = (int)number_of(value);
        break;
    default:
        usage("unknown option");
    }
}

static void take_options(struct options *o, int argc, char **argv)
{
    const struct option known[] = {{"seed", 1, NULL, 's'},     {"seeds", 1, NULL, 'S'},
                                   {"fresh", 1, NULL, 'f'},    {"minutes", 1, NULL, 'm'},
                                   {"ranks", 1, NULL, 'r'},    {"machine", 1, NULL, 'M'},
                                   {"mode", 1, NULL, 'o'},     {"jobs", 1, NULL, 'j'},
                                   {"plant", 1, NULL, 'p'},    {"replay", 0, &o->replay, 1},
                                   {"bench", 0, &o->bench, 1}, {"list", 0, &o->list, 1},
                                   {"quiet", 0, &o->quiet, 1}, {"calm", 0, &o->wish.calm, 1},
                                   {"help", 0, NULL, 'h'},     {NULL, 0, NULL, 0}};
    int option;
    o->jobs = 1;
    o->plant = -1;
    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (option == 'h') {
            fputs(help, stdout);
            exit(0);
        }
        if (option)
            take_option(o, option, optarg);
    }
    if (optind < argc)
        usage("too many arguments");
}

/* --- seeds ------------------------------------------------------------------------------------ */

static int is_network(const struct options *o, uint64_t seed)
{
    return seed % NETWORK_EVERY == NETWORK_EVERY - 1 && !o->wish.plain && !o->wish.ranks;
}

static void print_replay(const struct options *o, uint64_t seed)
{
    printf("  replay: switchyard-sim%s --seed %llu --replay", o->plant > 0 ? "-plants" : "",
           (unsigned long long)seed);
    if (o->plant > 0)
        printf(" --plant %d", o->plant);
    if (o->wish.ranks)
        printf(" --ranks %u", o->wish.ranks);
    if (o->wish.modes)
        printf(" --mode %s", o->wish.modes == SY_LATENCY ? "latency" : "throughput");
    if (o->wish.machine)
        printf(" --machine %s", o->wish.machine == 2 ? "gpu" : "cpu");
    printf("%s\n", o->wish.calm ? " --calm" : "");
}

static int run_seed(const struct options *o, uint64_t seed)
{
    struct sim_result r;
    char text[SIM_SCENARIO_TEXT] = "network";
    sim_report_open(o->replay);
    if (!is_network(o, seed))
        sim_world_text(seed, &o->wish, text);
    r = is_network(o, seed) ? sim_exchange_run(seed) : sim_world_run(seed, &o->wish);
    if (!r.good)
        print_replay(o, seed);
    if (!r.good || !o->quiet)
        printf("%s %llu points=%llu virtual=%.3fms rounds=%u digest=%016llx %s\n",
               r.good ? "ok" : "FAILED", (unsigned long long)seed, (unsigned long long)r.points,
               (double)r.virtual_ns / 1e6, r.rounds, (unsigned long long)r.digest, text);
    fflush(stdout);
    return r.good;
}

/* --- children --------------------------------------------------------------------------------- */

#define VIOLATED 3 /* exit status of a child that has counted its failure */

/* What a child tells its parent. */
struct progress {
    volatile uint64_t seed, done, failed;
    volatile uint32_t check; /* of the last failure */
};

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void child(const struct options *o, struct progress *p, uint64_t step, double until)
{
    if (o->mute && !freopen("/dev/null", "w", stdout))
        _exit(1);
    sim_arena_open();
    for (; p->seed < o->end && seconds() < until; p->seed += step) {
        alarm(SECONDS_PER_SEED + o->wish.ranks);
        if (!run_seed(o, p->seed)) {
            p->failed++;
            p->done++;
            p->check = (uint32_t)sim_violation.check;
            p->seed += step;
            _exit(VIOLATED);
        }
        p->done++;
    }
    _exit(0);
}

static pid_t begin_child(const struct options *o, struct progress *p, uint64_t step, double until)
{
    pid_t pid;
    fflush(stdout);
    pid = fork();
    SY_ASSERT(pid >= 0);
    if (!pid)
        child(o, p, step, until);
    return pid;
}

/* A child is gone. 1: there is more for one to do. */
static int child_ended(const struct options *o, struct progress *p, uint64_t step, int how)
{
    if (WIFEXITED(how) && WEXITSTATUS(how) == 0)
        return 0;
    if (!WIFEXITED(how) || WEXITSTATUS(how) != VIOLATED) {
        const char *why = "the process ended";
        if (WIFSIGNALED(how))
            why = WTERMSIG(how) == SIGALRM ? "the seed hangs" : strsignal(WTERMSIG(how));
        printf("violated: crash: %s\n", why);
        print_replay(o, p->seed);
        printf("FAILED %llu\n", (unsigned long long)p->seed);
        p->failed++;
        p->done++;
        p->check = SIM_CHECK_CRASH;
        p->seed += step;
    }
    return p->seed < o->end;
}

static struct progress *shared_progress(void)
{
    struct progress *p =
        mmap(NULL, JOBS_MAX * sizeof *p, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    SY_ASSERT(p != MAP_FAILED);
    memset(p, 0, JOBS_MAX * sizeof *p);
    return p;
}

/* Runs the seeds. stop_at_first: of the failures. Returns how many ran and failed in *sum. */
static void run_seeds(const struct options *o, int stop_at_first, struct progress *sum)
{
    struct progress *p = shared_progress();
    pid_t pids[JOBS_MAX] = {0};
    double until = o->minutes > 0 ? seconds() + o->minutes * 60 : 1e300;
    int running = 0;
    for (int j = 0; j < o->jobs; j++, running++) {
        p[j].seed = o->first + (uint64_t)j;
        pids[j] = begin_child(o, p + j, (uint64_t)o->jobs, until);
    }
    while (running) {
        int how, j = 0;
        pid_t pid = wait(&how);
        while (j < o->jobs && pids[j] != pid)
            j++;
        if (j == o->jobs)
            continue;
        running--;
        if (child_ended(o, p + j, (uint64_t)o->jobs, how) && !stop_at_first && seconds() < until) {
            pids[j] = begin_child(o, p + j, (uint64_t)o->jobs, until);
            running++;
        }
    }
    memset(sum, 0, sizeof *sum);
    for (int j = 0; j < o->jobs; j++) {
        sum->done += p[j].done;
        sum->failed += p[j].failed;
        sum->check = p[j].check ? p[j].check : sum->check;
        sum->seed = p[j].seed;
    }
    munmap(p, JOBS_MAX * sizeof *p);
}

static int run_all(const struct options *o)
{
    struct progress sum;
    run_seeds(o, 0, &sum);
    printf("%llu seeds, %llu failed\n", (unsigned long long)sum.done,
           (unsigned long long)sum.failed);
    return sum.failed != 0;
}

/* --- plants ----------------------------------------------------------------------------------- */

#ifdef SY_PLANTS

static void list_plants(void)
{
    const struct sim_plant *plant;
    for (int i = 1; (plant = sim_plant_at(i)); i++)
        printf("%d %s\n", i, plant->name);
}

/* The seeds of a plant are those of its flavour; network seeds are one in NETWORK_EVERY. */
static int run_plant(const struct options *given, int number)
{
    const struct sim_plant *plant = sim_plant_at(number);
    struct options o = *given;
    struct progress sum = {0};
    uint64_t ran = 0, first = given->end ? given->first : 1;
    if (!plant)
        usage("there is no such plant");
    if (!given->end)
        o.quiet = 1;
    o.plant = sy_sim_plant = number;
    o.jobs = 1;
    for (; ran < PLANT_SEEDS && !sum.failed; first += NETWORK_EVERY) {
        o.first = plant->flavour == SIM_NETWORK ? first | (NETWORK_EVERY - 1) : first;
        o.end = plant->flavour == SIM_NETWORK ? o.first + 1 : first + NETWORK_EVERY;
        if (given->end && o.end > given->end)
            o.end = given->end;
        run_seeds(&o, 1, &sum);
        ran += sum.done;
        if (given->end && o.end == given->end)
            break;
    }
    sy_sim_plant = 0;
    if (sum.failed)
        printf("plant %d %s: caught by %s, seed %llu, after %llu seeds\n", number, plant->name,
               sim_check_names[sum.check], (unsigned long long)sum.seed - 1,
               (unsigned long long)ran);
    else
        printf("plant %d %s: NOT CAUGHT in %llu seeds\n", number, plant->name,
               (unsigned long long)ran);
    return sum.failed ? (int)ran : -1;
}

/* Every plant is caught, and without it the same seeds pass. */
static int run_plants(const struct options *given)
{
    struct options o = *given;
    struct progress sum;
    int passed = 0, failed = 0, most = 0;
    o.mute = 1;
    for (int i = 1; sim_plant_at(i); i++) {
        int ran = run_plant(&o, i);
        passed += ran >= 0;
        failed += ran < 0;
        most = ran > most ? ran : most;
    }
    o.first = 1;
    o.end = (uint64_t)most + 1 + NETWORK_EVERY;
    o.quiet = 1;
    o.mute = 0;
    o.plant = -1;
    run_seeds(&o, 0, &sum);
    printf("without a plant: %llu seeds, %llu failed\n", (unsigned long long)sum.done,
           (unsigned long long)sum.failed);
    passed += !sum.failed;
    failed += sum.failed != 0;
    printf("%d passed, %d failed, 0 skipped\n", passed, failed);
    return failed != 0;
}

static int plants(const struct options *o)
{
    if (o->list) {
        list_plants();
        return 0;
    }
    return o->plant ? run_plant(o, o->plant) < 0 : run_plants(o);
}

#else

static int plants(const struct options *o)
{
    (void)o;
    usage("planted mistakes are in switchyard-sim-plants");
    return 2;
}

#endif

/* --- benchmarks ------------------------------------------------------------------------------- */

/* Of this process, which has one thread: others may share the core. */
static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int bench_here(const char *what, const struct sim_wish *wish)
{
    struct sim_result r;
    struct rusage use;
    double begun = cpu_seconds(), began = seconds(), took;
    int good;
    sim_arena_open();
    sim_report_open(0);
    r = sim_world_run(1, wish);
    took = cpu_seconds() - begun;
    getrusage(RUSAGE_SELF, &use);
    good = r.good && r.rounds == 2 * wish->operations;
    printf("%u ranks, %s mode: %u rounds in %.2f s of CPU (%.2f s passed), %.1f per second, %llu "
           "MiB%s\n",
           wish->ranks, what, r.rounds / 2, took, seconds() - began, r.rounds / 2 / took,
           (unsigned long long)use.ru_maxrss >> 10, good ? "" : ", FAILED");
    return !good;
}

/* In a process of its own, so that memory is its own, too. */
static int bench_one(const struct sim_wish *wish)
{
    int how;
    pid_t pid = fork();
    SY_ASSERT(pid >= 0);
    if (!pid)
        exit(bench_here(wish->modes == SY_LATENCY ? "latency" : "throughput", wish));
    return waitpid(pid, &how, 0) != pid || how != 0;
}

#define WIDE 64u /* ranks from which a benchmark is about their number */

/* A round is a dispatch and a combine on all ranks, with everything checked. */
static int bench(const struct options *o)
{
    const uint32_t sizes[] = {o->wish.ranks ? o->wish.ranks : 8, o->wish.ranks ? 0 : 1024};
    int failed = 0;
    for (int i = 0; i < 2 && sizes[i]; i++) {
        int wide = sizes[i] >= WIDE;
        struct sim_wish wish = {.ranks = sizes[i],
                                .tokens_max = wide ? 2 : 4,
                                .row_bytes_max = wide ? 16 : 64,
                                .operations = wide ? 1 : 1000,
                                .plain = 1};
        for (wish.modes = SY_THROUGHPUT; wish.modes <= SY_LATENCY; wish.modes++)
            if (!o->wish.modes || o->wish.modes == wish.modes)
                failed |= bench_one(&wish);
    }
    return failed;
}

int main(int argc, char **argv)
{
    struct options o = {0};
    take_options(&o, argc, argv);
    setlinebuf(stdout);
    if (o.list || o.plant >= 0)
        return plants(&o);
    if (o.bench)
        return bench(&o);
    if (!o.end)
        usage("--seed, --seeds, --fresh or --minutes");
    return run_all(&o);
}
