/* probe.c - see probe.h. */
#include "probe.h"

#include <string.h>

#include "group.h"

struct sy_probe {
    sy_group *group;
    sy_event *done; /* behind the last launch */
};

sy_status sy_probe_open(sy_group *group, struct sy_probe **out)
{
    struct sy_probe *probe;
    sy_status status;
    SY_NEED(group && out, "sy_probe_open: NULL");
    probe = sy_zalloc(sizeof *probe);
    if (!probe)
        return sy_fail(SY_NO_MEMORY, "a probe");
    probe->group = group;
    status = group->rt->ops->event_create(group->rt, 0, &probe->done);
    if (status != SY_OK)
        sy_os->free(probe);
    else
        *out = probe;
    return status;
}

void sy_probe_close(struct sy_probe *probe)
{
    if (!probe)
        return;
    probe->group->rt->ops->event_destroy(probe->group->rt, probe->done);
    sy_os->free(probe);
}

static sy_status launch(struct sy_probe *probe, sy_stream *stream, enum sy_kernel kernel,
                        const struct sy_grid *grid, const void *args, size_t bytes)
{
    sy_group *group = probe->group;
    sy_status status;
    pthread_mutex_lock(&group->order);
    status = group->rt->ops->launch(group->rt, stream, kernel, grid, args, bytes, probe->done);
    pthread_mutex_unlock(&group->order);
    return status;
}

/* Where sy_alloc() memory is in every heap. */
static sy_status place_of(const sy_group *group, const void *memory, uint64_t bytes, sy_u64 *at)
{
    const uint8_t *p = memory;
    *at = (sy_u64)(p - group->dev.heap);
    SY_NEED(p >= group->dev.heap && *at >= group->dev.at.user &&
                *at + bytes <= group->dev.heap_bytes,
            "a probe: %llu bytes at %p are not of sy_alloc()", (unsigned long long)bytes, memory);
    return SY_OK;
}

/* Of a warp, in ns per KiB, times 16. */
static uint32_t pace_of(const struct sy_probe_copies *c)
{
    return c->gbps > 0 ? (uint32_t)((double)c->blocks * c->warps * 1024 / c->gbps * 16) : 0;
}

sy_status sy_probe_copies(struct sy_probe *probe, const struct sy_probe_copies *c,
                          sy_stream *stream)
{
    const sy_group *group = probe->group;
    struct sy_probe_args a;
    struct sy_grid grid = {(uint32_t)c->blocks, (uint32_t)c->warps, 0};
    memset(&a, 0, sizeof a);
    SY_TRY(sy_group_usable(probe->group, "sy_probe_copies"));
    SY_NEED(c->piece_bytes >= 16 && c->piece_bytes % 16 == 0 && c->piece_bytes <= 1 << 16 &&
                c->area_bytes >= c->piece_bytes && c->source_bytes >= c->piece_bytes,
            "sy_probe_copies: pieces of %lld bytes", (long long)c->piece_bytes);
    SY_NEED(c->blocks > 0 && (uint32_t)c->blocks <= group->plan.machine.blocks_max &&
                c->warps > 0 && c->warps <= 16 && c->pieces > 0,
            "sy_probe_copies: %d blocks of %d warps", (int)c->blocks, (int)c->warps);
    SY_TRY(place_of(group, c->area, (uint64_t)c->area_bytes, &a.area));
    /* As the kernel cuts it: two gates, and two pieces, per warp. */
    grid.shared_bytes = SY_ALIGN_UP((uint64_t)c->warps * 16, 128) +
                        (uint64_t)c->warps * 2 * (uint64_t)c->piece_bytes;
    SY_NEED(
        grid.shared_bytes <= group->plan.machine.shared_max &&
            (group->plan.engine != SY_ENGINE_CPU || grid.shared_bytes <= group->plan.shared_bytes),
        "sy_probe_copies: a block would need %llu bytes of shared memory",
        (unsigned long long)grid.shared_bytes);
    a.d = group->dev;
    a.source = c->source;
    a.source_bytes = (uint64_t)(c->source_bytes / c->piece_bytes * c->piece_bytes);
    a.area_pieces = (uint32_t)(c->area_bytes / c->piece_bytes);
    a.pieces = (uint32_t)c->pieces;
    a.piece_bytes = (uint32_t)c->piece_bytes;
    a.pace = pace_of(c);
    a.load = c->load != 0;
    return launch(probe, stream, SY_KERNEL_probe, &grid, &a, sizeof a);
}

static sy_status flags(struct sy_probe *probe, void *memory, uint32_t partner, int32_t rounds,
                       sy_stream *stream)
{
    const struct sy_grid grid = {1, 1, 0};
    struct sy_flags_args a;
    memset(&a, 0, sizeof a);
    SY_TRY(sy_group_usable(probe->group, "a probe"));
    SY_NEED(rounds >= 0, "a probe of %d rounds", (int)rounds);
    SY_TRY(place_of(probe->group, memory, SY_PROBE_FLAGS(probe->group->plan.ranks), &a.area));
    a.d = probe->group->dev;
    a.partner = partner;
    a.rounds = (uint32_t)rounds;
    return launch(probe, stream, SY_KERNEL_flags, &grid, &a, sizeof a);
}

sy_status sy_probe_meet(struct sy_probe *probe, void *memory, int32_t rounds, sy_stream *stream)
{
    return flags(probe, memory, probe->group->dev.ranks, rounds, stream);
}

sy_status sy_probe_turns(struct sy_probe *probe, void *memory, int32_t partner, int32_t rounds,
                         sy_stream *stream)
{
    SY_NEED(partner >= 0 && partner < probe->group->plan.ranks &&
                partner != probe->group->plan.rank,
            "sy_probe_turns: rank %d is no partner", (int)partner);
    return flags(probe, memory, (uint32_t)partner, rounds, stream);
}
