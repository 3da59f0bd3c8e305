/* launch.c - SY_BOOT_ENV: what launchers say in the environment, and the meeting place that ranks
 * of one launch derive from it.
 *
 *   1  Variables      2  Launchers, in the order in which they are asked      3  The meeting place
 */
#define _DEFAULT_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/os.h"
#include "base/params.h"
#include "boot.h"
#include "fds.h"
#include "launch.h"
#include "serve.h"

/* ---- 1. Variables ---------------------------------------------------------------------------- */

static const char *get(const char *name)
{
    const char *value = sy_env(name);
    return value && *value ? value : NULL;
}

static const char *get_or(const char *name, const char *otherwise)
{
    const char *value = get(name);
    return value ? value : otherwise;
}

int sy_launch_number(const char *text, int32_t *number)
{
    int64_t value = 0;
    if (!*text)
        return 0;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return 0;
        value = value * 10 + (*text - '0');
        if (value > INT32_MAX)
            return 0;
    }
    *number = (int32_t)value;
    return 1;
}

/* A number that must be there beside the launcher's other variables. */
static sy_status need_number(const struct sy_launch *launch, const char *name, int32_t *number)
{
    const char *text = get(name);
    SY_NEED(text, "the environment looks like %s, but %s is not set", launch->launcher, name);
    SY_NEED(sy_launch_number(text, number), "%s=%s: not a number", name, text);
    return SY_OK;
}

static sy_status may_number(const char *name, int32_t *number)
{
    const char *text = get(name);
    SY_NEED(!text || sy_launch_number(text, number), "%s=%s: not a number", name, text);
    return SY_OK;
}

/* ---- 2. Launchers ---------------------------------------------------------------------------- */

static sy_status ask_own(struct sy_launch *launch)
{
    const char *id;
    launch->launcher = "switchyard run";
    SY_TRY(need_number(launch, "SY_RANK", &launch->rank));
    SY_TRY(need_number(launch, "SY_RANKS", &launch->ranks));
    id = get("SY_ID");
    SY_NEED(id, "the environment looks like %s, but SY_ID is not set", launch->launcher);
    SY_NEED(sy_id_from_hex(id, &launch->id), "SY_ID is not an id: it has %d hex digits", SY_ID_HEX);
    snprintf(launch->job, sizeof launch->job, "%s", id);
    launch->has_id = 1;
    return SY_OK;
}

/* A restarted generation must not meet what is left of the one before. */
static sy_status ask_torchrun(struct sy_launch *launch)
{
    launch->launcher = "torchrun";
    SY_TRY(need_number(launch, "RANK", &launch->rank));
    SY_TRY(need_number(launch, "WORLD_SIZE", &launch->ranks));
    SY_TRY(may_number("LOCAL_WORLD_SIZE", &launch->local));
    snprintf(launch->job, sizeof launch->job, "%s restart %s at %s:%s",
             get_or("TORCHELASTIC_RUN_ID", "-"), get_or("TORCHELASTIC_RESTART_COUNT", "0"),
             get_or("MASTER_ADDR", "-"), get_or("MASTER_PORT", "-"));
    return SY_OK;
}

static sy_status ask_openmpi(struct sy_launch *launch)
{
    const char *job = get("PMIX_NAMESPACE");
    launch->launcher = "Open MPI";
    SY_TRY(need_number(launch, "OMPI_COMM_WORLD_RANK", &launch->rank));
    SY_TRY(need_number(launch, "OMPI_COMM_WORLD_SIZE", &launch->ranks));
    SY_TRY(may_number("OMPI_COMM_WORLD_LOCAL_SIZE", &launch->local));
    if (!job)
        job = get("OMPI_MCA_ess_base_jobid");
    snprintf(launch->job, sizeof launch->job, "%s at %s", job ? job : "-",
             get_or("OMPI_MCA_orte_hnp_uri", "-"));
    return SY_OK;
}

int sy_launch_has_variable(const char *environ_bytes, size_t bytes, const char *name)
{
    size_t length = strlen(name);
    const char *at = environ_bytes, *end = environ_bytes + bytes;
    while (at < end) {
        const char *next = memchr(at, 0, (size_t)(end - at));
        next = next ? next : end;
        if ((size_t)(next - at) > length && !memcmp(at, name, length) && at[length] == '=')
            return 1;
        at = next + 1;
    }
    return 0;
}

int sy_launch_parent(const char *stat_bytes, size_t bytes, int32_t *parent)
{
    char number[12] = "";
    size_t at = bytes, n = 0;
    while (at && stat_bytes[at - 1] != ')') /* the name before it may hold anything */
        at--;
    if (!at || bytes - at < 4 || stat_bytes[at] != ' ' || stat_bytes[at + 2] != ' ')
        return 0;
    for (at += 3; at < bytes && stat_bytes[at] != ' ' && n + 1 < sizeof number; at++)
        number[n++] = stat_bytes[at];
    number[n] = 0;
    return sy_launch_number(number, parent) && *parent > 0;
}

/* The nearest process above this one that does not have the variable: the launcher, which set it,
 * even if each rank has a shell of its own between. */
static int32_t launcher_pid(const char *variable)
{
    enum { ENVIRON_BYTES = 256 * 1024, GENERATIONS = 16 };
    int32_t pid = (int32_t)sy_os->parent();
    char *bytes = sy_os->alloc(ENVIRON_BYTES, 1);
    for (int i = 0; i < GENERATIONS && bytes; i++) {
        char path[40];
        int32_t parent;
        ssize_t n;
        snprintf(path, sizeof path, "/proc/%d/environ", pid);
        n = sy_os->read_file(path, bytes, ENVIRON_BYTES);
        if (n < 0 || !sy_launch_has_variable(bytes, (size_t)n, variable))
            break;
        snprintf(path, sizeof path, "/proc/%d/stat", pid);
        n = sy_os->read_file(path, bytes, ENVIRON_BYTES);
        if (n < 0 || !sy_launch_parent(bytes, (size_t)n, &parent))
            break;
        pid = parent;
    }
    sy_os->free(bytes);
    return pid;
}

/* PMI gives a job's name only to those who speak its protocol. */
static sy_status ask_pmi(struct sy_launch *launch)
{
    launch->launcher = "MPICH or another PMI launcher";
    SY_TRY(need_number(launch, "PMI_RANK", &launch->rank));
    SY_TRY(need_number(launch, "PMI_SIZE", &launch->ranks));
    SY_TRY(may_number("MPI_LOCALNRANKS", &launch->local));
    if (get("SLURM_STEP_ID")) {
        SY_TRY(may_number("SLURM_STEP_NUM_NODES", &launch->machines));
        snprintf(launch->job, sizeof launch->job, "slurm %s.%s", get_or("SLURM_JOB_ID", "-"),
                 get("SLURM_STEP_ID"));
    } else {
        snprintf(launch->job, sizeof launch->job, "launcher %d, %s, %s", launcher_pid("PMI_RANK"),
                 get_or("PMI_PORT", "-"), get_or("PMI_JOBID", "-"));
    }
    return SY_OK;
}

/* A step has its own numbers; those of the job may be larger. */
static sy_status slurm_sizes(struct sy_launch *launch)
{
    if (get("SLURM_STEP_NUM_TASKS"))
        SY_TRY(need_number(launch, "SLURM_STEP_NUM_TASKS", &launch->ranks));
    else
        SY_TRY(need_number(launch, "SLURM_NTASKS", &launch->ranks));
    SY_TRY(may_number("SLURM_NNODES", &launch->machines));
    return may_number("SLURM_STEP_NUM_NODES", &launch->machines);
}

/* PMIx says how many ranks there are only to those who link its library; Slurm beside it does. */
static sy_status ask_pmix(struct sy_launch *launch)
{
    launch->launcher = "a PMIx launcher";
    SY_TRY(need_number(launch, "PMIX_RANK", &launch->rank));
    if (!get("SLURM_NTASKS") && !get("SLURM_STEP_NUM_TASKS"))
        return sy_fail(SY_UNSUPPORTED, "PMIx does not put the number of ranks into the "
                                       "environment: use SY_BOOT_ID or SY_BOOT_USER");
    SY_TRY(slurm_sizes(launch));
    snprintf(launch->job, sizeof launch->job, "%s", get_or("PMIX_NAMESPACE", "-"));
    return SY_OK;
}

static sy_status ask_slurm(struct sy_launch *launch)
{
    launch->launcher = "srun";
    SY_TRY(need_number(launch, "SLURM_PROCID", &launch->rank));
    SY_TRY(slurm_sizes(launch));
    snprintf(launch->job, sizeof launch->job, "%s.%s", get_or("SLURM_JOB_ID", "-"),
             get_or("SLURM_STEP_ID", "-"));
    return SY_OK;
}

/* Who is recognised by which variables. A batch script of Slurm has SLURM_PROCID, too, but no step:
 * it is a single process. */
static const struct {
    const char *first, *second;
    sy_status (*ask)(struct sy_launch *launch);
} launchers[] = {
    {"SY_RANK", NULL, ask_own},
    {"RANK", "WORLD_SIZE", ask_torchrun},
    {"OMPI_COMM_WORLD_RANK", NULL, ask_openmpi},
    {"PMI_RANK", "PMI_SIZE", ask_pmi},
    {"PMIX_RANK", "PMIX_NAMESPACE", ask_pmix},
    {"SLURM_PROCID", "SLURM_STEP_ID", ask_slurm},
};

sy_status sy_boot_env(struct sy_launch *launch)
{
    memset(launch, 0, sizeof *launch);
    for (size_t i = 0; i < sizeof launchers / sizeof *launchers; i++) {
        if (!get(launchers[i].first) || (launchers[i].second && !get(launchers[i].second)))
            continue;
        SY_TRY(launchers[i].ask(launch));
        SY_NEED(launch->ranks > 0, "%s says that there are %d ranks", launch->launcher,
                launch->ranks);
        return SY_OK;
    }
    launch->launcher = "no launcher";
    launch->ranks = launch->local = launch->machines = 1;
    return SY_OK;
}

/* ---- 3. The meeting place -------------------------------------------------------------------- */

/* An abstract unix socket: it is in no file system and vanishes with its last descriptor. Its name
 * is a hash of what all ranks of the launch know and other users' and other jobs' ranks do not
 * share. */
void sy_launch_place(const struct sy_launch *launch, uint32_t nth, struct sy_place *place)
{
    static const char digits[] = "0123456789abcdef";
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    char numbers[64], *name = at.sun_path + 1;
    uint8_t key[SY_SHA256_BYTES], out[SY_SHA256_BYTES];
    struct sy_hmac mac;
    struct sy_sha256 hash;
    snprintf(numbers, sizeof numbers, "%u %u", (unsigned)sy_os->user(), nth);
    sy_sha256_begin(&hash);
    sy_sha256_add(&hash, numbers, strlen(numbers) + 1);
    sy_sha256_add(&hash, launch->launcher, strlen(launch->launcher) + 1);
    sy_sha256_add(&hash, launch->job, strlen(launch->job) + 1);
    sy_sha256_end(&hash, key);
    memset(place, 0, sizeof *place);
    place->local = 1;
    for (int part = 0; part < 3; part++) { /* name, group and secret tell nothing of each other */
        uint8_t label = (uint8_t)part;
        sy_hmac_begin(&mac, key, sizeof key);
        sy_hmac_add(&mac, &label, 1);
        sy_hmac_end(&mac, out);
        if (part == 1)
            memcpy(place->group, out, sizeof place->group);
        if (part == 2)
            memcpy(place->secret, out, sizeof place->secret);
        if (part)
            continue;
        memcpy(name, "switchyard-", 11);
        for (int i = 0; i < 16; i++) {
            name[11 + 2 * i] = digits[out[i] >> 4];
            name[12 + 2 * i] = digits[out[i] & 15];
        }
    }
    place->at_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + 11 + 32);
    memcpy(&place->at, &at, place->at_bytes);
    sy_wipe(key, sizeof key);
    sy_wipe(out, sizeof out);
}

sy_status sy_launch_serve(const struct sy_place *place, uint64_t wait_ns)
{
    struct sy_serve config = {.local = 1, .root_rank = 0, .wait_ns = wait_ns};
    sy_status status = SY_OK;
    config.listener = sy_fd_socket(AF_UNIX, SOCK_STREAM, 0);
    if (config.listener < 0)
        return sy_fail_errno("socket for the meeting place");
    if (sy_os->bind(config.listener, (const void *)&place->at, place->at_bytes)) {
        if (errno != EADDRINUSE)
            status = sy_fail_errno("binding the meeting place");
        sy_fd_close(config.listener);
        return status;
    }
    if (sy_os->listen(config.listener, SOMAXCONN)) {
        status = sy_fail_errno("listening at the meeting place");
        sy_fd_close(config.listener);
        return status;
    }
    memcpy(config.group, place->group, sizeof config.group);
    memcpy(config.secret, place->secret, sizeof config.secret);
    status = sy_serve_start(&config);
    if (status != SY_OK)
        sy_fd_close(config.listener);
    sy_wipe(&config, sizeof config);
    return status;
}
