/* clock.c - see clock.h. */
#define _GNU_SOURCE /* MAP_NORESERVE */
#include "clock.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/verify.h"

#define PARTS_MAX (1u << 26)

static uint32_t length;         /* parts of a clock; in fours */
static struct sim_snap *unused; /* snapshots that nobody refers to */

/* --- parts ------------------------------------------------------------------------------------ */

typedef uint32_t count4 __attribute__((vector_size(16)));

uint32_t (*sim_parts)[SIM_PART];
static uint32_t *refs;
static uint32_t part_count,
    free_part; /* free_part: the first of a list through their first words */

static void *reserve(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    SY_ASSERT(at != MAP_FAILED);
    return at;
}

void sim_clocks_open(uint32_t slots)
{
    length = (slots + 4 * SIM_PART - 1) / (4 * SIM_PART) * 4;
    if (!sim_parts) {
        sim_parts = reserve(PARTS_MAX * sizeof *sim_parts);
        refs = reserve(PARTS_MAX * sizeof *refs);
    }
    part_count = 1; /* 0: all zero */
    free_part = 0;
}

void sim_clocks_close(void)
{
    while (unused) {
        struct sim_snap *next = unused->next;
        free(unused);
        unused = next;
    }
}

static uint32_t take_part(void)
{
    uint32_t part = free_part;
    if (part) {
        free_part = sim_parts[part][0];
    } else {
        part = part_count++;
        SY_ASSERT(part < PARTS_MAX);
    }
    refs[part] = 1;
    return part;
}

static uint32_t hold(uint32_t part)
{
    refs[part] += part != 0;
    return part;
}

static void drop(uint32_t part)
{
    if (!part || --refs[part])
        return;
    sim_parts[part][0] = free_part;
    free_part = part;
}

/* Makes *at a part that nobody else has. */
static uint32_t *own(uint32_t *at)
{
    uint32_t had = *at;
    if (!had || refs[had] > 1) {
        *at = take_part();
        memcpy(sim_parts[*at], sim_parts[had], sizeof *sim_parts);
        drop(had);
    }
    return sim_parts[*at];
}

static int any(count4 v)
{
    uint64_t half[2];
    memcpy(half, &v, sizeof half);
    return (half[0] | half[1]) != 0;
}

/* Returns which of the two parts had nothing to add to the other, or 0. The caller holds `from`. */
static uint32_t join_part(uint32_t *to, uint32_t from)
{
    count4 mine[SIM_PART / 4], other[SIM_PART / 4], more = {0}, less = {0};
    uint32_t had = *to;
    memcpy(mine, sim_parts[had], sizeof mine);
    memcpy(other, sim_parts[from], sizeof other);
    for (uint32_t i = 0; i < SIM_PART / 4; i++) {
        more |= (count4)(other[i] > mine[i]);
        less |= (count4)(other[i] < mine[i]);
    }
    if (!any(more))
        return hold(from);
    if (!any(less)) {
        *to = hold(from);
        return had;
    }
    for (uint32_t i = 0; i < SIM_PART / 4; i++) {
        count4 later = (count4)(other[i] > mine[i]);
        mine[i] = (other[i] & later) | (mine[i] & ~later);
    }
    memcpy(own(to), mine, sizeof mine);
    return hold(from);
}

static void join_some(uint32_t *to, uint32_t *less, const uint32_t *from)
{
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t other = from[i];
        if (!other || other == to[i] || other == less[i])
            continue;
        other = join_part(to + i, other);
        drop(less[i]);
        less[i] = other;
    }
}

/* Four at a time: most of them it has. */
static void join(uint32_t *to, uint32_t *less, const uint32_t *from)
{
    for (uint32_t i = 0; i < length; i += 4) {
        count4 has, met, comes;
        memcpy(&has, to + i, sizeof has);
        memcpy(&met, less + i, sizeof met);
        memcpy(&comes, from + i, sizeof comes);
        if (any((count4)(comes != has) & (count4)(comes != met) & comes))
            join_some(to + i, less + i, from + i);
    }
}

static void join_in_place(uint32_t *to, const uint32_t *from)
{
    for (uint32_t i = 0; i < length; i++)
        if (from[i] && from[i] != to[i])
            drop(join_part(to + i, from[i]));
}

/* less: of `to`, or NULL. */
static void copy(uint32_t *to, uint32_t *less, const uint32_t *from)
{
    for (uint32_t i = 0; i < length; i++) {
        if (to[i] == from[i])
            continue;
        drop(to[i]);
        to[i] = hold(from[i]);
        if (less) {
            drop(less[i]);
            less[i] = 0;
        }
    }
}

static void clear(uint32_t *part)
{
    for (uint32_t i = 0; i < length; i++)
        drop(part[i]);
    memset(part, 0, length * sizeof *part);
}

/* --- clocks ----------------------------------------------------------------------------------- */

void sim_clock_init(struct sim_clock *c)
{
    c->part = calloc(2 * length, sizeof *c->part);
    SY_ASSERT(c->part);
    c->less = c->part + length;
    c->used = 0;
}

void sim_clock_free(struct sim_clock *c)
{
    sim_clock_clear(c);
    free(c->part);
    c->part = NULL;
}

void sim_clock_clear(struct sim_clock *c)
{
    if (c->used) {
        clear(c->part);
        clear(c->less);
    }
    c->used = 0;
}

void sim_clock_join(struct sim_clock *to, const struct sim_clock *from)
{
    if (!from->used)
        return;
    join(to->part, to->less, from->part);
    to->used = 1;
}

void sim_clock_copy(struct sim_clock *to, const struct sim_clock *from)
{
    copy(to->part, to->less, from->part);
    to->used = from->used;
}

void sim_clock_join_snap(struct sim_clock *to, const struct sim_snap *from)
{
    if (!from || (from->slot && sim_clock_get(to, from->slot) >= from->count))
        return;
    join(to->part, to->less, from->part);
    to->used = 1;
}

void sim_clock_set(struct sim_clock *c, uint32_t slot, uint32_t count)
{
    own(c->part + slot / SIM_PART)[slot % SIM_PART] = count;
    c->used = 1;
}

/* --- snapshots -------------------------------------------------------------------------------- */

static struct sim_snap *snap_of(const uint32_t *part, uint32_t slot, uint32_t count)
{
    struct sim_snap *s = unused;
    if (s)
        unused = s->next;
    else
        s = calloc(1, sizeof *s + length * sizeof *s->part);
    SY_ASSERT(s);
    s->refs = 1;
    s->slot = slot;
    s->count = count;
    s->next = NULL;
    copy(s->part, NULL, part);
    return s;
}

struct sim_snap *sim_snap_of(const struct sim_clock *c, uint32_t slot, uint32_t count)
{
    return snap_of(c->part, slot, count);
}

void sim_snap_drop(struct sim_snap *s)
{
    if (!s || --s->refs)
        return;
    clear(s->part);
    s->next = unused;
    unused = s;
}

void sim_snap_put(struct sim_snap **to, struct sim_snap *now)
{
    sim_snap_ref(now);
    sim_snap_drop(*to);
    *to = now;
}

/* Makes *to a snapshot of its own that may be changed. */
static void separate(struct sim_snap **to)
{
    struct sim_snap *shared = *to;
    if (shared->refs > 1) {
        *to = snap_of(shared->part, 0, 0);
        sim_snap_drop(shared);
    }
    (*to)->slot = (*to)->count = 0;
}

void sim_snap_join(struct sim_snap **to, struct sim_snap *more)
{
    if (!more || *to == more)
        return;
    if (!*to) {
        *to = sim_snap_ref(more);
        return;
    }
    if (more->slot &&
        sim_parts[(*to)->part[more->slot / SIM_PART]][more->slot % SIM_PART] >= more->count)
        return;
    separate(to);
    join_in_place((*to)->part, more->part);
}

void sim_snap_join_clock(struct sim_snap **to, const struct sim_clock *more)
{
    if (!more->used)
        return;
    if (!*to) {
        *to = sim_snap_of(more, 0, 0);
        return;
    }
    separate(to);
    join_in_place((*to)->part, more->part);
}
