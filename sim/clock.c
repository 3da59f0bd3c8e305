/* clock.c - see clock.h. */
#define _POSIX_C_SOURCE 200809L /* posix_memalign */
#include "clock.h"

#include <stdlib.h>
#include <string.h>

#include "base/verify.h"

static uint32_t words;          /* of eight counts */
static struct sim_snap *unused; /* snapshots that nobody refers to */

void sim_clocks_open(uint32_t slots)
{
    words = (slots + 7) / 8;
}

void sim_clocks_close(void)
{
    while (unused) {
        struct sim_snap *next = unused->next;
        free(unused);
        unused = next;
    }
}

static void *take(size_t bytes)
{
    void *p = NULL;
    int error = posix_memalign(&p, 32, bytes);
    SY_ASSERT(!error);
    return p;
}

static sim_count8 most(sim_count8 a, sim_count8 b)
{
    sim_count8 more = (sim_count8)(a > b);
    return (a & more) | (b & ~more);
}

static void join(sim_count8 *to, const sim_count8 *from)
{
    for (uint32_t i = 0; i < words; i++)
        to[i] = most(to[i], from[i]);
}

/* --- clocks ----------------------------------------------------------------------------------- */

void sim_clock_init(struct sim_clock *c)
{
    c->v = take(words * sizeof *c->v);
    memset(c->v, 0, words * sizeof *c->v);
    c->used = 0;
}

void sim_clock_free(struct sim_clock *c)
{
    free(c->v);
    c->v = NULL;
}

void sim_clock_clear(struct sim_clock *c)
{
    if (c->used)
        memset(c->v, 0, words * sizeof *c->v);
    c->used = 0;
}

void sim_clock_join(struct sim_clock *to, const struct sim_clock *from)
{
    if (!from->used)
        return;
    if (to->used)
        join(to->v, from->v);
    else
        memcpy(to->v, from->v, words * sizeof *to->v);
    to->used = 1;
}

void sim_clock_copy(struct sim_clock *to, const struct sim_clock *from)
{
    if (!from->used) {
        sim_clock_clear(to);
        return;
    }
    memcpy(to->v, from->v, words * sizeof *to->v);
    to->used = 1;
}

void sim_clock_join_snap(struct sim_clock *to, const struct sim_snap *from)
{
    if (!from || (from->slot && sim_clock_get(to, from->slot) >= from->count))
        return;
    join(to->v, from->v);
    to->used = 1;
}

/* --- snapshots -------------------------------------------------------------------------------- */

static struct sim_snap *blank(uint32_t slot, uint32_t count)
{
    struct sim_snap *s = unused;
    if (s)
        unused = s->next;
    else
        s = take(sizeof *s + words * sizeof *s->v);
    s->refs = 1;
    s->slot = slot;
    s->count = count;
    s->next = NULL;
    return s;
}

struct sim_snap *sim_snap_of(const struct sim_clock *c, uint32_t slot, uint32_t count)
{
    struct sim_snap *s = blank(slot, count);
    memcpy(s->v, c->v, words * sizeof *s->v);
    return s;
}

void sim_snap_drop(struct sim_snap *s)
{
    if (!s || --s->refs)
        return;
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
    struct sim_snap *own;
    if ((*to)->refs > 1) {
        own = blank(0, 0);
        memcpy(own->v, (*to)->v, words * sizeof *own->v);
        sim_snap_drop(*to);
        *to = own;
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
    if (more->slot && ((const uint32_t *)(*to)->v)[more->slot] >= more->count)
        return;
    separate(to);
    join((*to)->v, more->v);
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
    join((*to)->v, more->v);
}
