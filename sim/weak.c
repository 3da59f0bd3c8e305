/* weak.c - words, fences, and stores on their way (model.h).
 *
 * A store to a heap waits in the buffer of its warp. Stores of one buffer land in any order, but
 * those before a fence land before those behind it, and those to one place in their order. A fence
 * for all also makes land what other warps of the rank have stored and this warp has seen. At the
 * end of a launch the rank itself has all of its stores; peers may have to wait on.
 *
 * Sections: landing | stores of a rank | words | fences | 16 bytes. */
#include <stdlib.h>
#include <string.h>

#include "base/verify.h"
#include "plants.h"
#include "sim_prims.h"

#define BUFFER_ROOM 48
#define LINE 16u /* bytes */
#define LINES 1024u

/* All buffers of a rank: those of its warps, and one for what ended launches left. */
struct rank_stores {
    struct sim_warp **warp;
    uint32_t warps, room;
    struct sim_buffer left;
    uint32_t waiting;     /* stores in all of them                                   */
    uint32_t line[LINES]; /* ... by the lines that they touch, modulo their number: most places
                             that somebody reads have none                           */
};

static struct sim_weak_config config;
static struct rank_stores *ranks;
static uint32_t rank_count;
static struct sim_buffer **full; /* buffers that hold something */
static uint32_t full_count, full_room;

#define SYNC_CHUNK 4096u
static struct sim_sync **syncs; /* chunks: they never move */
static uint32_t sync_count, sync_chunks;

/* --- syncs ------------------------------------------------------------------------------------ */

struct sim_sync *sim_sync_at(uint32_t number)
{
    return syncs[number / SYNC_CHUNK] + number % SYNC_CHUNK;
}

struct sim_sync *sim_sync_of(const void *word)
{
    struct sim_cell *cell = sim_cell_of(word);
    if (cell->sync)
        return sim_sync_at(cell->sync);
    if (++sync_count / SYNC_CHUNK >= sync_chunks) {
        syncs = realloc(syncs, (sync_chunks + 1) * sizeof *syncs);
        SY_ASSERT(syncs);
        syncs[sync_chunks] = calloc(SYNC_CHUNK, sizeof **syncs);
        SY_ASSERT(syncs[sync_chunks]);
        sync_chunks++;
    }
    cell->sync = sync_count;
    return sim_sync_at(sync_count);
}

void sim_syncs_reset(void)
{
    for (uint32_t i = 1; i <= sync_count; i++) {
        struct sim_sync *sync = sim_sync_at(i);
        sim_snap_drop(sync->all);
        sim_snap_drop(sync->rank);
        sim_snap_drop(sync->over);
        memset(sync, 0, sizeof *sync);
    }
    sync_count = 0;
}

/* --- landing ---------------------------------------------------------------------------------- */

static void list_add(struct sim_buffer *b)
{
    if (full_count == full_room) {
        full_room = 2 * full_room + 64;
        full = realloc(full, full_room * sizeof *full);
        SY_ASSERT(full);
    }
    full[full_count++] = b;
    b->at = full_count;
}

static void list_remove(struct sim_buffer *b)
{
    struct sim_buffer *last = full[--full_count];
    full[b->at - 1] = last;
    last->at = b->at;
    b->at = 0;
}

static void free_store(struct sim_store *s)
{
    sim_snap_drop(s->all);
    sim_snap_drop(s->rank_only);
    sim_snap_drop(s->over);
}

/* A store of a rank begins to wait (1), or no longer waits (-1). */
static void count_store(const struct sim_store *s, int by)
{
    struct rank_stores *r = ranks + s->rank;
    uintptr_t first = (uintptr_t)s->to / LINE, last = ((uintptr_t)s->to + s->bytes - 1) / LINE;
    r->waiting += (uint32_t)by;
    r->line[first % LINES] += (uint32_t)by;
    if (last != first)
        r->line[last % LINES] += (uint32_t)by;
}

/* Might a store of the rank touch these bytes? */
static int may_wait(const struct rank_stores *r, const void *at, size_t bytes)
{
    uintptr_t line = (uintptr_t)at / LINE, last = ((uintptr_t)at + (bytes ? bytes - 1 : 0)) / LINE;
    if (!r->waiting || last - line >= LINES)
        return r->waiting != 0;
    for (; line <= last; line++)
        if (r->line[line % LINES])
            return 1;
    return 0;
}

static void remove_store(struct sim_buffer *b, uint32_t i)
{
    count_store(b->store + i, -1);
    free_store(b->store + i);
    b->count--;
    memmove(b->store + i, b->store + i + 1, (b->count - i) * sizeof *b->store);
    if (!b->count)
        list_remove(b);
}

static uint64_t word_at(const void *p, uint32_t bytes)
{
    uint64_t v = 0;
    memcpy(&v, p, bytes);
    return v;
}

static void word_rule(const void *p, uint64_t before, uint64_t after)
{
    const struct sim_page *page = sim_page_of(p);
    if (page->place == SIM_HEAP)
        sim_rule_word(page->rank, p, before, after);
}

/* The word and what travels with it become visible. */
static void land_word(const struct sim_store *s)
{
    struct sim_sync *sync = sim_sync_of(s->to);
    uint64_t before = word_at(s->to, s->bytes), after = word_at(s->data, s->bytes);
    if (s->kind == SIM_ADD) {
        after = (uint32_t)(before + after);
        sim_snap_join(&sync->all, s->all);
        sim_snap_join(&sync->over, s->over);
        if (sync->rank_of == s->rank)
            sim_snap_join(&sync->rank, s->rank_only);
    } else {
        sim_snap_put(&sync->all, s->all);
        sim_snap_put(&sync->over, s->over);
    }
    if (s->kind == SIM_WORD || sync->rank_of != s->rank) {
        sim_snap_put(&sync->rank, s->rank_only);
        sync->rank_of = s->rank;
    }
    memcpy(s->to, &after, s->bytes);
    word_rule(s->to, before, after);
    sim_word_changed(s->to);
}

static void land(struct sim_buffer *b, uint32_t i)
{
    struct sim_store s = b->store[i];
    sim_event("lands", s.to, word_at(s.data, s.bytes < 8 ? s.bytes : 8));
    if (s.kind == SIM_DATA)
        memcpy(s.to, s.data, s.bytes);
    else
        land_word(&s);
    remove_store(b, i);
}

static int overlap(const struct sim_store *s, const void *p, size_t bytes)
{
    const uint8_t *at = p;
    return s->to < at + bytes && at < s->to + s->bytes;
}

/* The first store that must land before store i: one before a fence, or one to the same place. i
 * itself if there is none. A warp's stores are in the order of its program. */
static uint32_t blocker(const struct sim_buffer *b, uint32_t i)
{
    const struct sim_store *s = b->store + i;
    for (uint32_t k = 0; k < i; k++) {
        const struct sim_store *e = b->store + k;
        if ((e->slot == s->slot && e->segment < s->segment) || overlap(e, s->to, s->bytes))
            return k;
    }
    return i;
}

/* Store i, and what must land before it. */
static void land_upto(struct sim_buffer *b, uint32_t i)
{
    for (uint32_t k = blocker(b, i); k != i; k = blocker(b, i)) {
        uint32_t before = b->count;
        land_upto(b, k);
        i -= before - b->count;
    }
    land(b, i);
}

/* A store that may land now: what stands before one that the dice choose. */
static uint32_t candidate(const struct sim_buffer *b)
{
    uint32_t i = (uint32_t)sy_prng_below(&sim_dice, b->count), k;
    while ((k = blocker(b, i)) != i)
        i = k;
    return i;
}

int sim_stores_stir(void)
{
    struct sim_buffer *b;
    if (!full_count)
        return 0;
    b = full[sy_prng_below(&sim_dice, full_count)];
    land(b, candidate(b));
    return 1;
}

int sim_memory_stir(int idle)
{
    if (idle)
        return sim_stores_stir() || sim_bulks_stir(1);
    if (full_count && sy_prng_once_in(&sim_dice, config.lag + 1))
        sim_stores_stir();
    if (sy_prng_once_in(&sim_dice, config.copy_lag + 1))
        sim_bulks_stir(0);
    return 1;
}

/* --- stores of a rank ------------------------------------------------------------------------- */

void sim_weak_open(const struct sim_weak_config *c, uint32_t count)
{
    config = *c;
    rank_count = count;
    ranks = calloc(count, sizeof *ranks);
    SY_ASSERT(ranks);
    full_count = 0;
}

void sim_weak_close(void)
{
    for (uint32_t r = 0; r < rank_count; r++) {
        for (uint32_t i = 0; i < ranks[r].left.count; i++)
            free_store(ranks[r].left.store + i);
        free(ranks[r].left.store);
        free(ranks[r].warp);
    }
    free(ranks);
    ranks = NULL;
    rank_count = full_count = 0;
    sim_bulks_reset();
    sim_syncs_reset();
}

void sim_stores_join(struct sim_warp *w)
{
    struct rank_stores *r = ranks + w->rank;
    if (r->warps == r->room) {
        r->room = 2 * r->room + 8;
        r->warp = realloc(r->warp, r->room * sizeof *r->warp);
        SY_ASSERT(r->warp);
    }
    r->warp[r->warps++] = w;
}

static void append(struct sim_buffer *b, const struct sim_store *s)
{
    if (b->count == b->room) {
        b->room = b->room ? 2 * b->room : 8;
        b->store = realloc(b->store, b->room * sizeof *b->store);
        SY_ASSERT(b->store);
    }
    if (!b->count)
        list_add(b);
    count_store(s, 1);
    b->store[b->count++] = *s;
}

/* Has the warp seen this store of its rank? Its own it has. */
static int seen(const struct sim_warp *w, const struct sim_store *s)
{
    return sim_clock_get(&w->seen, s->slot) >= s->count;
}

static void land_in(struct sim_warp *w, struct sim_buffer *b, const void *at, size_t bytes)
{
    for (uint32_t i = 0; i < b->count;) {
        if (overlap(b->store + i, at, bytes) && seen(w, b->store + i)) {
            land_upto(b, i);
            i = 0;
        } else {
            i++;
        }
    }
}

/* What the warp has seen of the stores to these bytes must be there when it looks. */
void sim_land_seen(struct sim_warp *w, const void *at, size_t bytes)
{
    struct rank_stores *r = ranks + w->rank;
    if (!may_wait(r, at, bytes))
        return;
    for (uint32_t i = 0; i < r->warps; i++)
        land_in(w, &r->warp[i]->buffer, at, bytes);
    land_in(w, &r->left, at, bytes);
}

static void send_off(struct sim_warp *w, struct sim_store *as, void *to, const void *data,
                     uint32_t bytes, enum sim_store_kind kind)
{
    struct sim_buffer *b = &w->buffer;
    if (w->buffer.count >= BUFFER_ROOM)
        land(b, candidate(b));
    sim_land_seen(w, to, kind == SIM_ADD ? 0 : bytes);
    as->to = to;
    as->bytes = (uint8_t)bytes;
    as->kind = (uint8_t)kind;
    as->rank = (uint16_t)w->rank;
    as->slot = w->slot;
    as->count = w->count;
    as->segment = w->segment;
    memcpy(as->data, data, bytes);
    append(b, as);
    if (!config.lag)
        land_upto(b, b->count - 1);
}

/* Stores to the own rank land, those to peers go on under the rank's name. */
void sim_stores_leave(struct sim_warp *w)
{
    struct sim_buffer *b = &w->buffer, *left = &ranks[w->rank].left;
    for (uint32_t i = 0; i < b->count;) {
        if (sim_page_of(b->store[i].to)->rank == w->rank) {
            land_upto(b, i);
            i = 0;
        } else {
            i++;
        }
    }
    if (!b->count)
        return;
    for (uint32_t i = 0; i < b->count; i++) {
        count_store(b->store + i, -1);
        append(left, b->store + i);
    }
    b->count = 0;
    list_remove(b);
}

/* A rank has died: each of its stores may or may not have made it. */
void sim_rank_memory_died(uint32_t rank)
{
    struct rank_stores *r = ranks + rank;
    sim_bulks_died(rank);
    for (uint32_t k = 0; k <= r->warps; k++) {
        struct sim_buffer *b = k < r->warps ? &r->warp[k]->buffer : &r->left;
        while (b->count) {
            if (sy_prng_once_in(&sim_dice, 4)) /* nothing behind it makes it, either */
                while (b->count)
                    remove_store(b, b->count - 1);
            else
                land(b, candidate(b));
        }
    }
}

/* --- words ------------------------------------------------------------------------------------ */

/* What the warp learns from a word that it has read. */
static void learn(struct sim_warp *w, const void *p, enum sy_sim_reach acquire)
{
    const struct sim_cell *cell = sim_cell_of(p);
    const struct sim_sync *sync;
    if (!cell->sync)
        return;
    sync = sim_sync_at(cell->sync);
    if (SIM_PLANTED(NO_ACQUIRE))
        acquire = SY_SIM_RELAXED;
    sim_clock_join_snap(acquire == SY_SIM_RELAXED ? &w->soon : &w->seen, sync->all);
    sim_clock_join_snap(&w->over, sync->over);
    if (sync->rank_of == w->rank)
        sim_clock_join_snap(acquire == SY_SIM_RELAXED ? &w->soon_rank : &w->seen, sync->rank);
}

static uint64_t load(const void *p, uint32_t bytes, enum sy_sim_reach acquire)
{
    struct sim_warp *w = sim_warp_now;
    if (!w)
        return word_at(p, bytes);
    sim_must_be_inside(p);
    sim_point();
    sim_land_seen(w, p, bytes);
    sim_note_read(w, p, bytes, SIM_AS_WORD, w->slot, w->count);
    learn(w, p, acquire);
    sim_look_at(w, p, bytes);
    sim_event("looks at", p, word_at(p, bytes));
    return word_at(p, bytes);
}

sy_u32 sy_sim_load32(const sy_u32 *p, enum sy_sim_reach acquire)
{
    return (sy_u32)load(p, 4, acquire);
}

sy_u64 sy_sim_load64(const sy_u64 *p, enum sy_sim_reach acquire)
{
    return load(p, 8, acquire);
}

/* What travels with a word that is written now. */
static void stamp(const struct sim_warp *w, struct sim_store *s)
{
    s->all = sim_snap_ref(w->released);
    s->rank_only = sim_snap_ref(w->released_rank);
    s->over = sim_snap_ref(w->launch->before);
}

static void put_word(void *p, uint64_t v, uint32_t bytes, enum sim_store_kind kind)
{
    struct sim_warp *w = sim_warp_now;
    struct sim_store s = {0};
    sim_point();
    sim_event(kind == SIM_ADD ? "adds to" : "puts", p, v);
    sim_note_write(w, p, bytes, SIM_AS_WORD, w->slot, w->count);
    stamp(w, &s);
    send_off(w, &s, p, &v, bytes, kind);
}

/* A word for the own rank or block: everything before it is released with it. */
static void release_word(sy_u32 *p, sy_u32 v)
{
    struct sim_warp *w = sim_warp_now;
    struct sim_sync *sync;
    sim_point();
    sim_event("releases", p, v);
    sim_note_write(w, p, 4, SIM_AS_WORD, w->slot, w->count);
    sync = sim_sync_of(p);
    sim_snap_put(&sync->all, w->released);
    sim_snap_drop(sync->rank);
    sync->rank = sim_snap_of(&w->seen, w->slot, w->count);
    sync->rank_of = w->rank;
    sim_clock_set(&w->seen, w->slot, ++w->count);
    word_rule(p, *p, v);
    *p = v;
    sim_word_changed(p);
}

void sy_sim_store32(sy_u32 *p, sy_u32 v, enum sy_sim_reach release)
{
    if (!sim_warp_now)
        *p = v;
    else if (release == SY_SIM_RELAXED)
        put_word(p, v, 4, SIM_WORD);
    else
        release_word(p, v);
}

void sy_sim_store64(sy_u64 *p, sy_u64 v)
{
    put_word(p, v, 8, SIM_WORD);
}

void sy_sim_signal(sy_u32 *p, sy_u32 v)
{
    put_word(p, v, 4, SIM_ADD);
}

/* Reads and changes a word at once. arrive: what this warp did is over for whoever comes later. */
static uint64_t change(void *p, uint32_t bytes, int arrive)
{
    struct sim_warp *w = sim_warp_now;
    struct sim_sync *sync;
    sim_must_be_inside(p);
    sim_point();
    sim_land_seen(w, p, bytes);
    sync = sim_sync_of(p);
    learn(w, p, SY_SIM_RELAXED);
    sim_note_write(w, p, bytes, SIM_AS_WORD, w->slot, w->count);
    if (sync->rank_of != w->rank)
        sim_snap_put(&sync->rank, NULL);
    sync->rank_of = w->rank;
    sim_snap_join(&sync->rank, w->released_rank);
    sim_snap_join(&sync->all, w->released);
    sim_snap_join(&sync->over, w->released_over);
    if (arrive) {
        sim_snap_join_clock(&sync->over, &w->seen);
        sim_snap_join_clock(&sync->over, &w->soon);
        sim_snap_join_clock(&sync->over, &w->soon_rank);
        sim_snap_join_clock(&sync->over, &w->over);
        sim_clock_join_snap(&w->over, sync->over);
        sim_clock_set(&w->seen, w->slot, ++w->count);
    }
    return word_at(p, bytes);
}

sy_u32 sy_sim_add(sy_u32 *p, sy_u32 v, int arrive)
{
    sy_u32 before;
    before = (sy_u32)change(p, 4, arrive);
    sim_event("takes", p, before);
    word_rule(p, before, before + v);
    *p = before + v;
    sim_word_changed(p);
    return before;
}

sy_u32 sy_sim_exchange(sy_u32 *p, sy_u32 v)
{
    sy_u32 before = (sy_u32)change(p, 4, 0);
    *p = v;
    sim_word_changed(p);
    return before;
}

void sy_sim_max64(sy_u64 *p, sy_u64 v)
{
    sy_u64 before = change(p, 8, 0);
    if (v > before)
        *p = v;
}

/* --- fences ----------------------------------------------------------------------------------- */

/* Stores of other warps of the rank that this one has seen go before its later words. */
static void land_all_seen(struct sim_warp *w, struct sim_buffer *b)
{
    for (uint32_t i = 0; i < b->count;) {
        if (seen(w, b->store + i)) {
            land_upto(b, i);
            i = 0;
        } else {
            i++;
        }
    }
}

static void fence_all(struct sim_warp *w)
{
    struct rank_stores *r = ranks + w->rank;
    for (uint32_t i = 0; r->waiting && i < r->warps; i++)
        if (r->warp[i] != w)
            land_all_seen(w, &r->warp[i]->buffer);
    if (r->waiting)
        land_all_seen(w, &r->left);
    sim_clock_join(&w->seen, &w->soon);
    sim_clock_join(&w->seen, &w->soon_rank);
    sim_clock_clear(&w->soon);
    sim_clock_clear(&w->soon_rank);
    w->segment++;
    sim_snap_drop(w->released);
    w->released = sim_snap_of(&w->seen, w->slot, w->count);
    sim_snap_put(&w->released_rank, w->released);
}

/* What the warp has glanced at is over for the rest of the rank, too. */
static void fence_rank(struct sim_warp *w)
{
    sim_clock_join(&w->seen, &w->soon_rank);
    sim_clock_clear(&w->soon_rank);
    sim_snap_put(&w->released_over, NULL);
    sim_snap_join_clock(&w->released_over, &w->over);
    sim_snap_join_clock(&w->released_over, &w->soon);
    sim_snap_drop(w->released_rank);
    w->released_rank = sim_snap_of(&w->seen, w->slot, w->count);
}

void sy_sim_fence(enum sy_sim_reach reach)
{
    struct sim_warp *w = sim_warp_now;
    sim_point();
    sim_event(reach == SY_SIM_ALL    ? "fence"
              : reach == SY_SIM_RANK ? "rank fence"
                                     : "copy fence",
              NULL, 0);
    if (reach == SY_SIM_ALL && SIM_PLANTED(NO_RELEASE))
        return;
    if (reach == SY_SIM_COPIES && SIM_PLANTED(NO_COPY_FENCE))
        return;
    if (reach == SY_SIM_ALL && SIM_PLANTED(RANK_RELEASE))
        reach = SY_SIM_RANK;
    if (reach == SY_SIM_ALL)
        fence_all(w);
    else if (reach == SY_SIM_RANK)
        fence_rank(w);
    else
        w->bulk_seen[w->c.warp] = w->count;
    sim_clock_set(&w->seen, w->slot, ++w->count);
}

/* --- 16 bytes --------------------------------------------------------------------------------- */

void sy_sim_get(void *to, const void *p, sy_u32 bytes)
{
    struct sim_warp *w = sim_warp_now;
    sim_must_be_inside(p);
    sim_point();
    sim_land_seen(w, p, bytes);
    sim_note_read(w, p, bytes, SIM_PLAIN, w->slot, w->count);
    memcpy(to, p, bytes);
}

void sy_sim_put(void *p, const void *from, sy_u32 bytes)
{
    struct sim_warp *w = sim_warp_now;
    struct sim_store s = {0};
    sim_must_be_inside(p);
    sim_point();
    sim_note_write(w, p, bytes, SIM_PLAIN, w->slot, w->count);
    if (sim_page_of(p)->place == SIM_HEAP) {
        sim_event("stores", p, word_at(from, bytes < 8 ? bytes : 8));
        send_off(w, &s, p, from, bytes, SIM_DATA);
    } else {
        memcpy(p, from, bytes);
    }
}
