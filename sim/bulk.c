/* bulk.c - bulk copies: they move in pieces, at any time until they are waited for (model.h).
 *
 * A load reads its source and fills its stage piece by piece; its gate opens when all expected
 * bytes are there. A store reads its stage and writes its target piece by piece; waiting for "read"
 * takes what is left out of the stage, waiting for "done" writes it. */
#include <stdlib.h>
#include <string.h>

#include "base/verify.h"
#include "plants.h"
#include "sim_prims.h"

#define PIECES_MAX 4u

static struct sim_bulk **flying, **spare;
static uint32_t flying_count, spare_count, room;

static void misuse(const void *at, const char *text)
{
    char where[SIM_WHERE];
    sim_violate(SIM_CHECK_COPY, "%s: %s", sim_where(at, where), text);
}

/* --- gates ------------------------------------------------------------------------------------ */

/* In the word of a gate: expected bytes that are not here | armed | phases that are over. */
#define GATE_BYTES(g) ((sy_u32)(g))
#define GATE_ARMED (1ull << 32)
#define GATE_PHASES(g) ((g) >> 33)

static void gate_check(sy_u64 *gate)
{
    if (!(*gate & GATE_ARMED) || GATE_BYTES(*gate))
        return;
    *gate = (GATE_PHASES(*gate) + 1) << 33;
    sim_word_changed(gate);
}

void sy_sim_gate_init(sy_u64 *gate)
{
    *gate = 0;
    sim_sync_of(gate)->copy_slot = 0;
}

void sy_sim_load_expect(sy_u64 *gate, sy_u32 bytes)
{
    if (*gate & GATE_ARMED)
        misuse(gate, "a gate is armed again before it has opened");
    *gate |= GATE_ARMED;
    *gate += bytes;
    gate_check(gate);
}

int sy_sim_load_ready(sy_u64 *gate, sy_u32 parity)
{
    struct sim_warp *w = sim_warp_now;
    const struct sim_sync *sync = sim_sync_of(gate);
    sim_point();
    sim_look_at(w, gate, 8);
    if ((GATE_PHASES(*gate) & 1u) == parity)
        return 0;
    if (sync->copy_slot && sim_clock_get(&w->seen, sync->copy_slot) < sync->copy_count)
        sim_clock_set(&w->seen, sync->copy_slot, sync->copy_count);
    sim_event("loaded", gate, 0);
    w->looks = 0;
    return 1;
}

/* --- the copies that are on their way --------------------------------------------------------- */

static struct sim_bulk *begin(void *to, const void *from, uint32_t bytes)
{
    struct sim_bulk *b;
    uint32_t units = bytes / 16, pieces = units < PIECES_MAX ? units : PIECES_MAX;
    if (flying_count + spare_count == room) {
        room = 2 * room + 64;
        flying = realloc(flying, room * sizeof *flying);
        spare = realloc(spare, room * sizeof *spare);
        SY_ASSERT(flying && spare);
    }
    b = spare_count ? spare[--spare_count] : malloc(sizeof *b);
    SY_ASSERT(b);
    memset(b, 0, sizeof *b);
    b->to = to;
    b->from = from;
    b->bytes = bytes;
    b->unit = (units + pieces - 1) / pieces * 16;
    b->left = (1u << ((bytes + b->unit - 1) / b->unit)) - 1;
    b->warp = sim_warp_now;
    flying[flying_count++] = b;
    return b;
}

static void end(uint32_t i)
{
    struct sim_bulk *b = flying[i];
    free(b->taken);
    flying[i] = flying[--flying_count];
    spare[spare_count++] = b;
}

static void arrive(struct sim_bulk *b)
{
    struct sim_sync *sync;
    if (!b->load)
        return;
    sync = sim_sync_of(b->gate);
    if (sync->copy_slot != b->warp->slot + 3 || sync->copy_count < b->batch)
        sync->copy_count = b->batch;
    sync->copy_slot = b->warp->slot + 3;
    if (GATE_BYTES(*b->gate) < b->bytes)
        misuse(b->gate, "more bytes came than were expected");
    *b->gate -= b->bytes;
    gate_check(b->gate);
}

/* Moves one piece; the last one ends the copy. */
static void move(uint32_t i, uint32_t piece)
{
    struct sim_bulk *b = flying[i];
    uint32_t at = piece * b->unit, bytes = b->bytes - at < b->unit ? b->bytes - at : b->unit;
    sim_event(b->load ? "loads a piece" : "stores a piece", b->to + at, bytes);
    memcpy(b->to + at, (b->taken ? b->taken : b->from) + at, bytes);
    b->left &= ~(1u << piece);
    if (b->left)
        return;
    arrive(b);
    end(i);
}

static void finish(uint32_t i)
{
    const struct sim_bulk *b = flying[i];
    while (b->left & (b->left - 1))
        move(i, (uint32_t)__builtin_ctz(b->left));
    move(i, (uint32_t)__builtin_ctz(b->left));
}

int sim_bulks_stir(int idle)
{
    uint32_t i, left, piece;
    (void)idle;
    if (!flying_count)
        return 0;
    i = (uint32_t)sy_prng_below(&sim_dice, flying_count);
    left = flying[i]->left;
    do
        piece = (uint32_t)sy_prng_below(&sim_dice, PIECES_MAX);
    while (!(left >> piece & 1));
    move(i, piece);
    return 1;
}

void sim_bulks_reset(void)
{
    while (flying_count)
        end(flying_count - 1);
}

/* Each of its pieces may or may not have made it. */
void sim_bulks_died(uint32_t rank)
{
    for (uint32_t i = flying_count; i-- > 0;) {
        struct sim_bulk *b = flying[i];
        if (b->warp->rank != rank)
            continue;
        for (uint32_t piece = 0; !b->load && piece < PIECES_MAX; piece++)
            if (b->left >> piece & 1 && b->left & (b->left - 1) && sy_prng_once_in(&sim_dice, 2))
                move(i, piece);
        end(i);
    }
}

/* The bytes leave the stage. */
static void take_out(struct sim_bulk *b)
{
    if (b->taken)
        return;
    b->taken = malloc(b->bytes);
    SY_ASSERT(b->taken);
    memcpy(b->taken, b->from, b->bytes);
}

/* A warp ends. One that leaves over a fault may leave loads behind; nobody will look at them. (The
 * second word: somebody is about to say so.) */
void sim_bulks_leave(struct sim_warp *w)
{
    const sy_u32 *stop = (const sy_u32 *)(w->launch->d->heap + w->launch->d->at.stop);
    for (uint32_t i = flying_count; i-- > 0;) {
        struct sim_bulk *b = flying[i];
        if (b->warp != w)
            continue;
        if (!stop[0] && !stop[1] && (b->load || !b->taken))
            misuse(b->load ? b->to : b->from, "the warp ends while a copy still needs this stage");
        if (b->load)
            end(i);
        else
            take_out(b);
    }
}

/* --- loads and stores ------------------------------------------------------------------------- */

static void check_units(const void *to, const void *from, sy_u32 bytes)
{
    if (((uintptr_t)to | (uintptr_t)from | bytes) % 16 || !bytes)
        misuse(to, "a bulk copy that is not in units of 16 bytes");
}

/* What was never written stays so. */
static void copy_undefined(void *to, const void *from, uint32_t bytes)
{
    struct sim_cell *t = sim_cell_of(to);
    const struct sim_cell *f = sim_cell_of(from);
    for (uint32_t i = 0; i < bytes / 4; i++)
        t[i].flags |= f[i].flags & SIM_UNDEFINED;
}

/* What a warp has acquired, its bulk loads see behind a fence for loads only. */
static void check_loadable(struct sim_warp *w, const uint8_t *from, uint32_t bytes)
{
    const struct sim_cell *cell = sim_cell_of(from);
    for (uint32_t i = 0; i < bytes / 4; i++)
        if (cell[i].write_slot && !(cell[i].flags & SIM_AGREED) &&
            cell[i].write_count > sim_clock_get(&w->fenced, cell[i].write_slot)) {
            misuse(from + 4 * i, "a bulk load of what was acquired without a fence for loads");
            return;
        }
}

void sy_sim_fence_loads(void)
{
    struct sim_warp *w = sim_warp_now;
    sim_event("fence for loads", NULL, 0);
    if (!SIM_PLANTED(NO_LOAD_FENCE))
        sim_clock_copy(&w->fenced, &w->seen);
}

void sy_sim_load_bulk(sy_u64 *gate, void *stage, const void *from, sy_u32 bytes)
{
    struct sim_warp *w = sim_warp_now;
    struct sim_bulk *b;
    if (!bytes)
        return;
    sim_point();
    check_units(stage, from, bytes);
    sim_event("loads", from, bytes);
    w->loads++;
    sim_must_be_inside(from);
    sim_land_seen(w, from, bytes);
    sim_note_read(w, from, bytes, SIM_BY_BULK, w->slot + 3, w->loads);
    check_loadable(w, from, bytes);
    sim_note_write(w, stage, bytes, SIM_BY_BULK, w->slot + 3, w->loads);
    copy_undefined(stage, from, bytes);
    b = begin(stage, from, bytes);
    b->load = 1;
    b->gate = gate;
    b->batch = w->loads;
}

/* Ordinary writes to a stage must be fenced by their writer before a bulk store may read them. */
static void check_fenced(struct sim_warp *w, const uint8_t *stage, uint32_t bytes)
{
    const struct sim_cell *cell = sim_cell_of(stage);
    uint32_t first = w->slot - SIM_SLOTS_OF_WARP * w->c.warp;
    for (uint32_t i = 0; i < bytes / 4; i++) {
        uint32_t slot = cell[i].write_slot, j = (slot - first) / SIM_SLOTS_OF_WARP;
        if (slot < first || j >= w->c.warps || (slot - first) % SIM_SLOTS_OF_WARP)
            continue;
        if (cell[i].write_count > w->bulk_seen[j] && !(cell[i].flags & SIM_AGREED))
            misuse(stage + 4 * i, "a bulk store of what was written without a fence for copies");
    }
}

void sy_sim_store_bulk(void *to, const void *stage, sy_u32 bytes)
{
    struct sim_warp *w = sim_warp_now;
    if (!bytes)
        return;
    sim_point();
    check_units(to, stage, bytes);
    sim_event("stores in bulk", to, bytes);
    sim_must_be_inside(to);
    if (!sim_inside(stage) || sim_page_of(stage)->place != SIM_SHARED)
        misuse(stage, "a bulk store from outside of shared memory");
    sim_note_read(w, stage, bytes, SIM_BY_BULK, w->slot + 2, w->batches + 1);
    check_fenced(w, stage, bytes);
    sim_note_write(w, to, bytes, SIM_BY_BULK, w->slot + 1, w->batches + 1);
    copy_undefined(to, stage, bytes);
    begin(to, stage, bytes)->batch = w->batches + 1;
}

void sy_sim_store_commit(void)
{
    sim_warp_now->batches++;
}

static void know(struct sim_warp *w, uint32_t slot, uint32_t count)
{
    if (sim_clock_get(&w->seen, slot) < count)
        sim_clock_set(&w->seen, slot, count);
}

void sy_sim_store_wait(sy_u32 pending, int done)
{
    struct sim_warp *w = sim_warp_now;
    uint32_t upto = w->batches > pending ? w->batches - pending : 0;
    sim_point();
    if (SIM_PLANTED(COPY_NOT_DONE) && done)
        return;
    if (SIM_PLANTED(STAGE_NOT_READ) && !done)
        return;
    for (uint32_t i = flying_count; i-- > 0;) {
        struct sim_bulk *b = flying[i];
        if (b->warp != w || b->load || b->batch > upto)
            continue;
        if (done)
            finish(i);
        else
            take_out(b);
    }
    if (done)
        know(w, w->slot + 1, upto);
    know(w, w->slot + 2, upto);
}
