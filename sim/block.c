/* block.c - a warp's life, barriers of a block, and waiting. */
#include <string.h>

#include "base/verify.h"
#include "model.h"
#include "sim_prims.h"

/* Pauses that do not wait after which a wait surely looks at its clock (device/sync.h). */
#define PAUSES_PER_LOOK 34u

/* --- a warp's life ---------------------------------------------------------------------------- */

void sim_warp_init(struct sim_warp *w, uint32_t rank, uint32_t slot)
{
    memset(w, 0, sizeof *w);
    w->rank = rank;
    w->slot = slot;
    w->count = 1;
    sim_clock_init(&w->seen);
    sim_clock_init(&w->soon);
    sim_clock_init(&w->soon_rank);
    sim_clock_init(&w->over);
    sim_clock_init(&w->fenced);
    sim_stores_join(w);
}

void sim_warp_free(struct sim_warp *w)
{
    sim_clock_free(&w->seen);
    sim_clock_free(&w->soon);
    sim_clock_free(&w->soon_rank);
    sim_clock_free(&w->over);
    sim_clock_free(&w->fenced);
    sim_snap_drop(w->released);
    sim_snap_drop(w->released_rank);
    sim_snap_drop(w->released_over);
}

/* seen, over: what the rank had when the launch began. */
void sim_warp_begin(struct sim_warp *w, const struct sim_clock *seen, const struct sim_clock *over)
{
    sim_clock_copy(&w->seen, seen);
    sim_clock_copy(&w->over, over);
    sim_clock_clear(&w->soon);
    sim_clock_clear(&w->soon_rank);
    w->count++;
    sim_clock_set(&w->seen, w->slot, w->count);
    sim_clock_copy(&w->fenced, &w->seen);
    sim_snap_put(&w->released, NULL);
    sim_snap_put(&w->released_rank, NULL);
    sim_snap_put(&w->released_over, NULL);
    memset(w->bulk_seen, 0, sizeof w->bulk_seen);
    w->looks = w->spin = 0;
    w->in_barrier = 0;
    w->doing = NULL;
    SY_ASSERT(!w->buffer.count);
}

/* --- barriers --------------------------------------------------------------------------------- */

/* All warps that are left have come: each knows what all know. */
static void join_block(struct sim_block *b)
{
    struct sim_warp *sum = NULL;
    uint32_t bulk[SIM_WARPS_MAX] = {0};
    for (uint32_t i = 0; i < b->warps; i++) {
        struct sim_warp *w = b->warp[i];
        if (!w || !w->in_barrier)
            continue;
        if (!sum) {
            sum = w;
        } else {
            sim_clock_join(&sum->seen, &w->seen);
            sim_clock_join(&sum->soon, &w->soon);
            sim_clock_join(&sum->soon_rank, &w->soon_rank);
            sim_clock_join(&sum->over, &w->over);
        }
        for (uint32_t k = 0; k < b->warps; k++)
            bulk[k] = w->bulk_seen[k] > bulk[k] ? w->bulk_seen[k] : bulk[k];
    }
    for (uint32_t i = 0; i < b->warps; i++) {
        struct sim_warp *w = b->warp[i];
        if (!w || !w->in_barrier)
            continue;
        if (w != sum) {
            sim_clock_copy(&w->seen, &sum->seen);
            sim_clock_copy(&w->soon, &sum->soon);
            sim_clock_copy(&w->soon_rank, &sum->soon_rank);
            sim_clock_copy(&w->over, &sum->over);
        }
        memcpy(w->bulk_seen, bulk, sizeof bulk);
    }
}

static void open_barrier(struct sim_block *b)
{
    if (!b->live || b->arrived < b->live)
        return;
    join_block(b);
    b->arrived = 0;
    for (uint32_t i = 0; i < b->warps; i++) {
        struct sim_warp *w = b->warp[i];
        if (!w || !w->in_barrier)
            continue;
        w->in_barrier = 0;
        sim_clock_set(&w->seen, w->slot, ++w->count);
        sim_wake(w->task);
    }
}

void sy_sim_block_sync(void)
{
    struct sim_warp *w = sim_warp_now;
    struct sim_block *b = w->block;
    sim_point();
    sim_event("block sync", NULL, 0);
    w->in_barrier = 1;
    b->arrived++;
    open_barrier(b);
    while (w->in_barrier)
        sim_park(SIM_NEVER, "block sync");
    w->looks = 0;
}

/* Barriers no longer count it. Its stores to the own rank have landed; the rest may take its time.
 */
void sim_warp_end(struct sim_warp *w)
{
    struct sim_block *b = w->block;
    sim_stores_leave(w); /* its own stop word, if it has given up, is among them */
    sim_bulks_leave(w);
    b->warp[w->c.warp] = NULL;
    b->live--;
    open_barrier(b);
}

/* --- waiting ---------------------------------------------------------------------------------- */

static uint64_t value_of(const struct sim_watch *watch)
{
    uint64_t value = 0;
    memcpy(&value, watch->word, watch->bytes);
    return value;
}

void sim_look_at(struct sim_warp *w, const void *word, uint32_t bytes)
{
    struct sim_watch *watch;
    if (w->looks >= SIM_LOOKED_MAX) {
        w->looks = SIM_LOOKED_MAX + 1;
        return;
    }
    watch = w->looked + w->looks++;
    watch->warp = w;
    watch->word = word;
    watch->bytes = bytes;
    watch->value = value_of(watch);
}

static void link(struct sim_watch *watch)
{
    struct sim_sync *sync = sim_sync_of(watch->word);
    watch->next = sync->watchers;
    watch->before = &sync->watchers;
    if (watch->next)
        watch->next->before = &watch->next;
    sync->watchers = watch;
}

static void unlink_all(struct sim_watch *watch, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        *watch[i].before = watch[i].next;
        if (watch[i].next)
            watch[i].next->before = watch[i].before;
    }
}

void sim_word_changed(const void *word)
{
    struct sim_cell *cell = sim_cell_of(word);
    if (!cell->sync)
        return;
    for (struct sim_watch *at = sim_sync_at(cell->sync)->watchers; at; at = at->next)
        sim_wake(at->warp->task);
}

/* Nothing to do until a word changes that this warp has looked at, or this rank has to leave, or it
 * is time to look at the clock. */
void sy_sim_pause(void)
{
    struct sim_warp *w = sim_warp_now;
    uint32_t n = w->looks;
    const sy_u32 *stop;
    uint64_t until;
    w->looks = 0;
    if (w->spin || !n || n > SIM_LOOKED_MAX) {
        w->spin -= w->spin != 0;
        sim_yield();
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        if (value_of(w->looked + i) != w->looked[i].value) {
            sim_yield();
            return;
        }
    stop = (const sy_u32 *)(w->launch->d->heap + w->launch->d->at.stop);
    if (*stop) { /* it is to leave, and will find out when it looks */
        w->spin = PAUSES_PER_LOOK;
        sim_yield();
        return;
    }
    w->looked[n] = (struct sim_watch){.warp = w, .word = stop, .bytes = 4};
    w->looked[n].value = value_of(w->looked + n);
    for (uint32_t i = 0; i <= n; i++)
        link(w->looked + i);
    until = sim_now_ns() + w->launch->d->timeout_ns / 4 + 1;
    sim_event("waits for", w->looked[0].word, w->looked[0].value);
    w->doing = "waits for";
    w->doing_at = w->looked[0].word;
    sim_park(until, "a word");
    unlink_all(w->looked, n + 1);
    w->doing = NULL;
    if (sim_now_ns() >= until || *stop)
        w->spin = PAUSES_PER_LOOK;
}

sy_u64 sy_sim_now_ns(void)
{
    return sim_now_ns();
}
