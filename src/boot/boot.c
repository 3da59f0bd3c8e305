/* boot.c - opening and closing a world, and its collectives (boot.h, section 1).
 *
 * Owns struct sy_boot. The three ways differ in open() and in call(); everything else is here
 * once. */
#include "boot.h"

#include <stdio.h>
#include <string.h>

#include "base/maxima.h"
#include "base/os.h"
#include "base/params.h"
#include "fds.h"
#include "serve.h"

#define COURTESY_NS 1000000000ull /* for ranks that come late to hear why rank 0 failed */

/* ---- Failure --------------------------------------------------------------------------------- */

/* The bootstrap is of no use any more, for the reason in sy_last_error(). */
static sy_status broken(struct sy_boot *boot, sy_status status)
{
    status = sy_fail_in(status, "bootstrap");
    boot->failed = status;
    snprintf(boot->text, sizeof boot->text, "%s", sy_last_error());
    return status;
}

static sy_status usable(const struct sy_boot *boot)
{
    if (boot->failed != SY_OK)
        return sy_fail(boot->failed, "%s", boot->text);
    if (boot->generation != sy_fd_generation())
        return sy_fail(SY_STATE, "bootstrap: it belongs to the process that forked this one");
    return SY_OK;
}

/* ---- Opening --------------------------------------------------------------------------------- */

/* A rank of this process could not come in: whoever waits for it at the root, which runs here,
 * hears why. Late ranks get a moment to come and hear it too, before the program ends on our
 * error. */
static void end_forming(const struct sy_boot *boot, const struct sy_place *place, sy_status status,
                        uint64_t deadline_ns)
{
    uint64_t now = sy_os->now_ns(), left = deadline_ns > now ? deadline_ns - now : 0;
    struct sy_end end = {.verdict = {.status = status, .culprit = boot->rank},
                         .expected = boot->ranks - 1,
                         .linger_ns = left};
    if (!sy_serve_here(place->group))
        return;
    snprintf(end.verdict.text, sizeof end.verdict.text, "rank %d: %.*s", boot->rank,
             SY_VERDICT_TEXT - 32, sy_last_error());
    sy_serve_end(place->group, &end);
    sy_serve_wait(place->group, now + (left < COURTESY_NS ? left : COURTESY_NS));
}

static sy_status join(struct sy_boot *boot, struct sy_place *place, uint64_t deadline_ns)
{
    sy_status status = sy_star_join(boot, place, deadline_ns);
    if (status != SY_OK) {
        sy_star_leave(boot);
        end_forming(boot, place, status, deadline_ns);
    }
    sy_wipe(place, sizeof *place);
    return status;
}

static sy_status open_id(struct sy_boot *boot, const sy_group_config *config, uint64_t deadline_ns)
{
    struct sy_place place;
    boot->way = SY_WAY_STAR;
    SY_TRY(sy_id_place(&config->id, &place));
    return join(boot, &place, deadline_ns);
}

/* The first group of `switchyard run` meets at the launcher's id, which serves one group only. */
static sy_status open_env(struct sy_boot *boot, const struct sy_launch *launch, uint32_t nth,
                          uint64_t deadline_ns)
{
    struct sy_place place;
    if (boot->ranks == 1) {
        boot->way = SY_WAY_ALONE;
        return SY_OK;
    }
    boot->way = SY_WAY_STAR;
    if (launch->has_id && !nth) {
        SY_TRY(sy_id_place(&launch->id, &place));
        return join(boot, &place, deadline_ns);
    }
    if ((launch->local && launch->local != launch->ranks) || launch->machines > 1)
        return sy_fail(SY_UNSUPPORTED,
                       "%s spreads %d ranks over several machines; SY_BOOT_ENV serves one: use "
                       "SY_BOOT_ID or SY_BOOT_USER",
                       launch->launcher, launch->ranks);
    sy_launch_place(launch, nth, &place);
    boot->root_rank = 0;
    if (!boot->rank)
        SY_TRY(sy_launch_serve(&place, boot->timeout_ns));
    return join(boot, &place, deadline_ns);
}

struct member {
    int32_t rank, ranks;
};

/* The callbacks work, and each rank has its own number. */
static sy_status open_user(struct sy_boot *boot, const sy_group_config *config)
{
    struct member me = {boot->rank, boot->ranks};
    SY_NEED(boot->rank >= 0 && boot->rank < boot->ranks, "rank %d of %d: ranks are 0 to %d",
            boot->rank, boot->ranks, boot->ranks - 1);
    SY_NEED(config->allgather && config->barrier,
            "SY_BOOT_USER needs the callbacks allgather and barrier");
    boot->way = SY_WAY_USER;
    boot->allgather = config->allgather;
    boot->barrier = config->barrier;
    boot->context = config->boot_context;
    SY_TRY(sy_boot_allgather(boot, &me, boot->words, sizeof me));
    for (int32_t i = 0; i < boot->ranks; i++) {
        struct member they;
        memcpy(&they, boot->words + (size_t)i * sizeof they, sizeof they);
        if (they.rank == i && they.ranks == boot->ranks)
            continue;
        boot->culprit = i;
        return sy_fail(SY_MISMATCH,
                       "place %d of the allgather holds rank %d of %d, and not rank %d of %d", i,
                       they.rank, they.ranks, i, boot->ranks);
    }
    return SY_OK;
}

/* Groups that this process has begun to open by the environment: ranks begin them in one order, so
 * the number tells them apart. */
static uint32_t count_env_group(void)
{
    static uint32_t groups;
    uint32_t nth;
    sy_boot_lock();
    nth = groups++;
    sy_boot_unlock();
    return nth;
}

static sy_status open_way(struct sy_boot *boot, const sy_group_config *config,
                          const struct sy_launch *launch)
{
    uint32_t nth = config->boot == SY_BOOT_ENV ? count_env_group() : 0;
    uint64_t deadline_ns = sy_os->now_ns() + boot->timeout_ns;
    boot->generation = sy_fd_generation();
    boot->words = sy_os->alloc((size_t)boot->ranks * SY_WORD_BYTES, 64);
    if (!boot->words)
        return sy_fail(SY_NO_MEMORY, "no memory for the words of %d ranks", boot->ranks);
    switch (config->boot) {
    case SY_BOOT_ENV:
        return open_env(boot, launch, nth, deadline_ns);
    case SY_BOOT_ID:
        return open_id(boot, config, deadline_ns);
    default:
        return open_user(boot, config);
    }
}

sy_status sy_boot_open(const sy_group_config *config, struct sy_boot **boot)
{
    struct sy_launch launch = {.rank = config->rank, .ranks = config->ranks};
    uint64_t timeout_ns = config->timeout_ns;
    struct sy_boot *b;
    sy_status status;
    *boot = NULL;
    SY_NEED(config->boot >= SY_BOOT_ENV && config->boot <= SY_BOOT_USER,
            "boot is %d, which is no sy_boot", config->boot);
    if (!timeout_ns) {
        struct sy_params params;
        SY_TRY(sy_params_read(&params));
        timeout_ns = (uint64_t)params.timeout_ms * 1000000u;
    }
    SY_NEED(timeout_ns <= SY_TIMEOUT_NS_MAX, "timeout_ns is longer than a day");
    if (config->boot == SY_BOOT_ENV)
        SY_TRY(sy_boot_env(&launch));
    SY_NEED(launch.ranks >= 1 && launch.ranks <= SY_RANKS_MAX, "%d ranks: 1 to %d are possible",
            launch.ranks, SY_RANKS_MAX);
    b = sy_zalloc(sizeof *b);
    if (!b)
        return sy_fail(SY_NO_MEMORY, "no memory for a bootstrap");
    b->rank = launch.rank;
    b->ranks = launch.ranks;
    b->timeout_ns = timeout_ns;
    b->culprit = b->root_rank = b->fd = -1;
    status = open_way(b, config, &launch);
    sy_wipe(&launch, sizeof launch);
    if (status == SY_OK) {
        *boot = b;
        return SY_OK;
    }
    if (b->failed == SY_OK)
        sy_fail_in(status, "bootstrap");
    sy_boot_close(b);
    return status;
}

/* ---- Use ------------------------------------------------------------------------------------- */

static sy_status user_result(const char *what, int result)
{
    return result ? sy_fail(SY_SYSTEM, "the caller's %s returned %d", what, result) : SY_OK;
}

sy_status sy_boot_allgather(struct sy_boot *boot, const void *mine, void *all, size_t bytes)
{
    sy_status status = SY_OK;
    SY_TRY(usable(boot));
    SY_NEED(bytes <= SY_PART_BYTES_MAX, "an allgather carries at most %d bytes per rank",
            SY_PART_BYTES_MAX);
    if (boot->way == SY_WAY_STAR)
        status = sy_star_call(boot, SY_KIND_GATHER, mine, all, bytes);
    else if (boot->way == SY_WAY_USER)
        status = user_result("allgather", boot->allgather(boot->context, mine, all, bytes));
    else if (bytes)
        memcpy(all, mine, bytes);
    return status == SY_OK ? SY_OK : broken(boot, status);
}

sy_status sy_boot_barrier(struct sy_boot *boot)
{
    sy_status status = SY_OK;
    SY_TRY(usable(boot));
    if (boot->way == SY_WAY_STAR)
        status = sy_star_call(boot, SY_KIND_BARRIER, NULL, NULL, 0);
    else if (boot->way == SY_WAY_USER)
        status = user_result("barrier", boot->barrier(boot->context));
    return status == SY_OK ? SY_OK : broken(boot, status);
}

sy_status sy_boot_agree(struct sy_boot *boot, sy_status status)
{
    uint8_t mine[SY_WORD_BYTES];
    sy_word_write(status, status == SY_OK ? "" : sy_last_error(), mine);
    SY_TRY(sy_boot_allgather(boot, mine, boot->words, sizeof mine));
    for (int32_t i = 0; i < boot->ranks; i++) {
        char text[SY_WORD_TEXT];
        int32_t theirs;
        if (!sy_word_read(boot->words + (size_t)i * SY_WORD_BYTES, &theirs, text)) {
            boot->culprit = i;
            sy_fail(SY_PROTOCOL, "rank %d sent a status that cannot be read", i);
            return broken(boot, SY_PROTOCOL);
        }
        if (theirs == SY_OK)
            continue;
        boot->culprit = i;
        return sy_fail((sy_status)theirs, "rank %d: %s", i, text);
    }
    return SY_OK;
}

void sy_boot_close(struct sy_boot *boot)
{
    if (!boot)
        return;
    if (boot->way == SY_WAY_STAR && boot->generation == sy_fd_generation())
        sy_star_leave(boot);
    sy_os->free(boot->words);
    sy_os->free(boot);
}
