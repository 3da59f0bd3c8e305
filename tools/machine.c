/* machine.c - see machine.h. Everything comes from /proc and /sys; what is not there stays empty.
 */
#define _GNU_SOURCE /* sched_getaffinity */
#include "machine.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

/* The number behind `key` at the beginning of a line of a file; 0: there is none. */
static uint64_t number_in(const char *path, const char *key)
{
    char line[256];
    uint64_t value = 0;
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, key, strlen(key))) {
            value = strtoull(line + strlen(key), NULL, 10);
            break;
        }
    if (f)
        fclose(f);
    return value;
}

static void find_cpu(struct machine *m)
{
    /* x86 calls it "model name", arm64 has only numbers, POWER says "cpu". */
    static const char *const keys[] = {"model name", "Model", "cpu\t"};
    char line[256], *colon;
    FILE *f = fopen("/proc/cpuinfo", "re");
    snprintf(m->cpu, sizeof m->cpu, "unknown");
    while (f && fgets(line, sizeof line, f)) {
        colon = strchr(line, ':');
        line[strcspn(line, "\n")] = 0;
        for (size_t i = 0; colon && i < sizeof keys / sizeof *keys; i++)
            if (!strncmp(line, keys[i], strlen(keys[i])) && colon[1]) {
                snprintf(m->cpu, sizeof m->cpu, "%.120s", colon + 2);
                fclose(f);
                return;
            }
    }
    if (f)
        fclose(f);
}

/* What a cgroup directory leaves us: its limit less what is used and cannot be given back. */
static void apply_limit(struct machine *m, const char *directory, const char *limit_file,
                        const char *usage_file)
{
    char path[512];
    uint64_t limit, used, cache;
    snprintf(path, sizeof path, "%s/%s", directory, limit_file);
    limit = number_in(path, ""); /* "max" reads as 0 */
    if (!limit || limit >= m->memory_bytes)
        return;
    snprintf(path, sizeof path, "%s/%s", directory, usage_file);
    used = number_in(path, "");
    snprintf(path, sizeof path, "%s/memory.stat", directory);
    cache = number_in(path, "inactive_file ");
    used -= cache < used ? cache : used;
    if (!m->limit_bytes || limit < m->limit_bytes)
        m->limit_bytes = limit;
    if ((limit > used ? limit - used : 0) < m->available_bytes)
        m->available_bytes = limit > used ? limit - used : 0;
}

/* Version 2 has one hierarchy, version 1 one for memory. Inside a container the path that
 * /proc/self/cgroup names may not be there, and the root is what limits us. */
static void find_limits(struct machine *m)
{
    char line[400], directory[480];
    FILE *f = fopen("/proc/self/cgroup", "re");
    while (f && fgets(line, sizeof line, f)) {
        char *path = strrchr(line, ':');
        line[strcspn(line, "\n")] = 0;
        if (path && strstr(line, "::")) {
            snprintf(directory, sizeof directory, "/sys/fs/cgroup%s", path + 1);
            apply_limit(m, directory, "memory.max", "memory.current");
        } else if (path && strstr(line, ":memory:")) {
            snprintf(directory, sizeof directory, "/sys/fs/cgroup/memory%s", path + 1);
            apply_limit(m, directory, "memory.limit_in_bytes", "memory.usage_in_bytes");
        }
    }
    if (f)
        fclose(f);
    apply_limit(m, "/sys/fs/cgroup", "memory.max", "memory.current");
    apply_limit(m, "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes");
}

void machine_look(struct machine *m)
{
    struct utsname names;
    cpu_set_t set;
    memset(m, 0, sizeof *m);
    find_cpu(m);
    if (!uname(&names))
        snprintf(m->kernel, sizeof m->kernel, "%.20s %.80s %.20s", names.sysname, names.release,
                 names.machine);
    m->cores_online = (int32_t)sysconf(_SC_NPROCESSORS_ONLN);
    m->cores = sched_getaffinity(0, sizeof set, &set) ? m->cores_online : CPU_COUNT(&set);
    m->memory_bytes = number_in("/proc/meminfo", "MemTotal:") * 1024;
    m->available_bytes = number_in("/proc/meminfo", "MemAvailable:") * 1024;
    find_limits(m);
}

/* In the order in which the library asks. */
static const struct {
    struct launcher_seen seen;
    const char *second;
} launchers[] = {
    {{"switchyard run", "SY_RANK"}, NULL},
    {{"torchrun", "RANK"}, "WORLD_SIZE"},
    {{"mpirun of Open MPI", "OMPI_COMM_WORLD_RANK"}, NULL},
    {{"MPICH or another PMI launcher", "PMI_RANK"}, "PMI_SIZE"},
    {{"a PMIx launcher", "PMIX_RANK"}, "PMIX_NAMESPACE"},
    {{"srun", "SLURM_PROCID"}, "SLURM_STEP_ID"},
};

static int is_set(const char *variable)
{
    const char *value = getenv(variable);
    return value && *value;
}

const struct launcher_seen *machine_launcher(void)
{
    for (size_t i = 0; i < sizeof launchers / sizeof *launchers; i++)
        if (is_set(launchers[i].seen.variable) &&
            (!launchers[i].second || is_set(launchers[i].second)))
            return &launchers[i].seen;
    return NULL;
}
