/* shadow.c - every access of device code is checked here against those before it (model.h).
 *
 * Ordinary loads and stores arrive through the compiler's thread instrumentation, whose functions
 * are at the end of this file: they are called before each access to memory that may be shared, as
 * the kernel's KCSAN does it. Words, 16-byte accesses and bulk copies arrive from weak.c and
 * bulk.c.
 *
 * Two accesses to the same bytes, one of them a write, must be ordered, or both be words. */
#include <string.h>

#include "engine.h"
#include "model.h"
#include "sim_prims.h"

struct sim_warp *sim_warp_now;

/* --- cells without accesses ------------------------------------------------------------------- */

static void set_cells(void *p, size_t bytes, const struct sim_cell *as)
{
    struct sim_cell *cell = sim_cell_of(p), *end = sim_cell_of((uint8_t *)p + bytes - 1) + 1;
    for (; cell < end; cell++) {
        uint32_t sync = cell->sync;
        *cell = *as;
        cell->sync = sync;
    }
}

void sim_forget(void *p, size_t bytes)
{
    const struct sim_cell as = {.flags = SIM_UNDEFINED};
    if (bytes)
        set_cells(p, bytes, &as);
}

void sim_forbid(void *p, size_t bytes)
{
    const struct sim_cell as = {.flags = SIM_FORBIDDEN};
    if (bytes)
        set_cells(p, bytes, &as);
}

/* --- checks ----------------------------------------------------------------------------------- */

int sim_ordered(const struct sim_warp *w, uint32_t slot, uint32_t count, int write)
{
    if (sim_clock_get(&w->seen, slot) >= count)
        return 1;
    /* What was over before a word that this warp has read: a store cannot overtake that read. */
    return write &&
           (sim_clock_get(&w->over, slot) >= count || sim_clock_get(&w->soon, slot) >= count ||
            sim_clock_get(&w->soon_rank, slot) >= count);
}

static const char *const by_kind[] = {"ordinary", "word", "bulk"};

static void race(const struct sim_warp *w, const void *p, const char *now,
                 enum sim_access_kind kind, const char *before, uint32_t slot)
{
    char where[SIM_WHERE], who[SIM_WHERE], other[SIM_WHERE];
    sim_violate(SIM_CHECK_RACE, "%s (%s) of %s by %s is not ordered behind the %s by %s", now,
                by_kind[kind], sim_where(p, where), sim_slot_name(w->slot, who), before,
                sim_slot_name(slot, other));
}

static void race_at(const void *p, uint32_t slot, const char *before)
{
    race(sim_warp_now, p, "a write", SIM_PLAIN, before, slot);
}

static void bounds(const void *p, const char *what)
{
    char where[SIM_WHERE];
    sim_violate(SIM_CHECK_BOUNDS, "%s of %s, which is not part of any object", what,
                sim_where(p, where));
}

void sim_must_be_inside(const void *p)
{
    if (!sim_inside(p))
        bounds(p, "an access");
}

/* Which of a cell's bytes an access touches. */
static uint32_t bytes_of(const uint8_t *p, size_t bytes, const uint8_t *word)
{
    uint32_t mask = 0;
    for (int i = 0; i < 4; i++)
        if (word + i >= p && word + i < p + bytes)
            mask |= 1u << i;
    return mask;
}

static void remember_read(struct sim_cell *cell, struct sim_warp *w, uint32_t slot, uint32_t count)
{
    int i = 0;
    if (cell->read_slot[0] != slot && cell->read_slot[0])
        i = 1;
    if (i == 1 && cell->read_slot[1] && cell->read_slot[1] != slot) {
        if (sim_ordered(w, cell->read_slot[0], cell->read_count[0], 0))
            i = 0;
        else if (!sim_ordered(w, cell->read_slot[1], cell->read_count[1], 0))
            i = (int)(sim_points & 1); /* there is room for two */
    }
    cell->read_slot[i] = slot;
    cell->read_count[i] = count;
}

/* --- writes that change nothing --------------------------------------------------------------- */

/* Warps of a block may write to shared memory at once what is there already, each for itself.
 * Whether a write changes anything is known when it has been made: before this warp's next access,
 * or before another task runs. One that does not is as if it had not been, but if it met others
 * without an order, then they have agreed on the value (SIM_AGREED). */
static struct {
    const uint8_t *at; /* NULL: nothing to look at */
    size_t bytes;
    uint8_t before[16];
    struct sim_cell cells[5];
    uint32_t slot; /* of the other, if there is a conflict */
    const char *other;
} doubtful;

static void race_at(const void *p, uint32_t slot, const char *before);

void sim_settle_doubt(void)
{
    const uint8_t *at = doubtful.at;
    struct sim_cell *cell;
    if (!at)
        return;
    doubtful.at = NULL;
    if (memcmp(at, doubtful.before, doubtful.bytes)) {
        if (doubtful.other)
            race_at(at, doubtful.slot, doubtful.other);
        return;
    }
    if (doubtful.other)
        return;
    cell = sim_cell_of(at);
    for (size_t i = 0; cell + i <= sim_cell_of(at + doubtful.bytes - 1); i++)
        cell[i] = doubtful.cells[i];
}

static void doubt(const uint8_t *p, size_t bytes)
{
    const struct sim_cell *cell = sim_cell_of(p);
    doubtful.at = p;
    doubtful.bytes = bytes;
    doubtful.other = NULL;
    memcpy(doubtful.before, p, bytes);
    for (size_t i = 0; cell + i <= sim_cell_of(p + bytes - 1); i++)
        doubtful.cells[i] = cell[i];
}

static int same_block(const struct sim_warp *w, uint32_t slot)
{
    uint32_t first = w->slot - SIM_SLOTS_OF_WARP * w->c.warp;
    return slot >= first && slot < first + SIM_SLOTS_OF_WARP * w->c.warps;
}

static int may_agree(const struct sim_warp *w, const uint8_t *p, uint32_t slot, const char *other)
{
    if (doubtful.at != p || !same_block(w, slot))
        return 0;
    doubtful.slot = slot;
    doubtful.other = other;
    return 1;
}

/* --- reads and writes ------------------------------------------------------------------------- */

static void check_read(struct sim_warp *w, const uint8_t *word, struct sim_cell *cell,
                       uint32_t mask, enum sim_access_kind kind)
{
    if (cell->flags & SIM_FORBIDDEN)
        bounds(word, "a read");
    if (cell->write_slot && cell->flags & mask &&
        !(kind == SIM_AS_WORD && cell->flags & SIM_ATOMIC) &&
        !sim_ordered(w, cell->write_slot, cell->write_count, 0) &&
        !(cell->flags & SIM_AGREED && same_block(w, cell->write_slot)))
        race(w, word, "a read", kind, "write", cell->write_slot);
}

/* Kernels may load what they then do not use: the rest of 16 bytes whose first word says that there
 * is nothing (how compilers cut such a load is theirs), and shared memory, which begins as garbage.
 * After a fault the latency dispatch treats the ids of a route that was never dispatched as it
 * treats the caller's: as any bits. */
static void undefined(const struct sim_warp *w, const uint8_t *word, const struct sim_page *page)
{
    const struct sim_cell *unit = sim_cell_of((const uint8_t *)((uintptr_t)word & ~(uintptr_t)15));
    const sy_u32 *stop = (const sy_u32 *)(w->launch->d->heap + w->launch->d->at.stop);
    char where[SIM_WHERE];
    if (page->place == SIM_PRIVATE &&
        !(unit[0].flags & unit[1].flags & unit[2].flags & unit[3].flags & SIM_UNDEFINED))
        return;
    if (w->launch->kernel == SY_KERNEL_ldispatch && (stop[0] || stop[1]))
        return;
    sim_violate(SIM_CHECK_STALE, "a read of %s, which nobody has written", sim_where(word, where));
}

void sim_note_read(struct sim_warp *w, const void *p, size_t bytes, enum sim_access_kind kind,
                   uint32_t slot, uint32_t count)
{
    const uint8_t *first = p, *word = (const uint8_t *)((uintptr_t)p & ~(uintptr_t)3);
    const struct sim_page *page = sim_page_of(p);
    struct sim_cell *cell = sim_cell_of(p);
    sim_must_be_inside(p);
    for (; word < first + bytes; word += 4, cell++) {
        uint32_t mask = bytes >= 4 ? SIM_BYTES : bytes_of(first, bytes, word);
        check_read(w, word, cell, mask, kind);
        if (cell->flags & SIM_UNDEFINED && kind != SIM_BY_BULK && page->place != SIM_SHARED)
            undefined(w, word, page);
        if (page->place == SIM_HEAP && kind != SIM_AS_WORD)
            sim_rule_read(w, page->rank, word, 4, cell);
        remember_read(cell, w, slot, count);
    }
}

/* Returns SIM_AGREED if the write is right only when it changes nothing. */
static uint32_t check_write(struct sim_warp *w, const uint8_t *p, struct sim_cell *cell,
                            uint32_t mask, enum sim_access_kind kind)
{
    int atomic = kind == SIM_AS_WORD;
    uint32_t agreed = 0;
    if (cell->flags & SIM_FORBIDDEN)
        bounds(p, "a write");
    if (cell->write_slot && cell->flags & mask && !(atomic && cell->flags & SIM_ATOMIC) &&
        !sim_ordered(w, cell->write_slot, cell->write_count, 1)) {
        if (!may_agree(w, p, cell->write_slot, "write"))
            race(w, p, "a write", kind, "write", cell->write_slot);
        agreed = SIM_AGREED;
    }
    for (int i = 0; i < 2; i++) {
        if (!cell->read_slot[i] || atomic ||
            sim_ordered(w, cell->read_slot[i], cell->read_count[i], 1))
            continue;
        if (!may_agree(w, p, cell->read_slot[i], "read"))
            race(w, p, "a write", kind, "read", cell->read_slot[i]);
        agreed = SIM_AGREED;
    }
    return agreed;
}

void sim_note_write(struct sim_warp *w, void *p, size_t bytes, enum sim_access_kind kind,
                    uint32_t slot, uint32_t count)
{
    const uint8_t *first = p, *word = (const uint8_t *)((uintptr_t)p & ~(uintptr_t)3);
    const struct sim_page *page = sim_page_of(p);
    struct sim_cell *cell = sim_cell_of(p);
    sim_must_be_inside(p);
    if (page->place == SIM_HEAP)
        sim_rule_write(w, page->rank, p, bytes);
    if (page->place == SIM_SHARED && kind == SIM_PLAIN && bytes <= sizeof doubtful.before)
        doubt(p, bytes);
    for (; word < first + bytes; word += 4, cell++) {
        uint32_t mask = bytes >= 4 ? SIM_BYTES : bytes_of(first, bytes, word);
        uint32_t agreed = check_write(w, p, cell, mask, kind);
        cell->write_slot = slot;
        cell->write_count = count;
        cell->write_launch = w->launch->id;
        cell->flags = mask | agreed | (kind == SIM_AS_WORD ? (uint32_t)SIM_ATOMIC : 0);
        if (kind != SIM_AS_WORD)
            cell->read_slot[0] = cell->read_slot[1] = 0;
    }
}

void sim_host_wrote(uint32_t rank, void *p, size_t bytes)
{
    struct sim_cell as = {.flags = SIM_BYTES};
    if (!bytes)
        return;
    as.write_slot = sim_host_slot(rank);
    as.write_count = sim_host_count(rank);
    set_cells(p, bytes, &as);
}

/* --- the compiler's instrumentation ----------------------------------------------------------- */

/* No point: how many of these there are is the compiler's choice, and seeds are to replay exactly.
 */
static void plain(const void *p, size_t bytes, int write)
{
    struct sim_warp *w = sim_warp_now;
    if (!w || !sim_inside(p))
        return;
    sim_settle_doubt();
    if (write) {
        sim_note_write(w, (void *)(uintptr_t)p, bytes, SIM_PLAIN, w->slot, w->count);
        return;
    }
    sim_land_seen(w, p, bytes);
    sim_note_read(w, p, bytes, SIM_PLAIN, w->slot, w->count);
}

#define ACCESS(bytes)                                                                              \
    void __tsan_read##bytes(void *p);                                                              \
    void __tsan_read##bytes(void *p)                                                               \
    {                                                                                              \
        plain(p, bytes, 0);                                                                        \
    }                                                                                              \
    void __tsan_write##bytes(void *p);                                                             \
    void __tsan_write##bytes(void *p)                                                              \
    {                                                                                              \
        plain(p, bytes, 1);                                                                        \
    }                                                                                              \
    void __tsan_unaligned_read##bytes(void *p);                                                    \
    void __tsan_unaligned_read##bytes(void *p)                                                     \
    {                                                                                              \
        plain(p, bytes, 0);                                                                        \
    }                                                                                              \
    void __tsan_unaligned_write##bytes(void *p);                                                   \
    void __tsan_unaligned_write##bytes(void *p)                                                    \
    {                                                                                              \
        plain(p, bytes, 1);                                                                        \
    }                                                                                              \
    void __tsan_read_write##bytes(void *p);                                                        \
    void __tsan_read_write##bytes(void *p)                                                         \
    {                                                                                              \
        plain(p, bytes, 0);                                                                        \
        plain(p, bytes, 1);                                                                        \
    }

ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)

void __tsan_read_range(void *p, unsigned long bytes);
void __tsan_read_range(void *p, unsigned long bytes)
{
    plain(p, bytes, 0);
}
void __tsan_write_range(void *p, unsigned long bytes);
void __tsan_write_range(void *p, unsigned long bytes)
{
    plain(p, bytes, 1);
}
void *__tsan_memcpy(void *to, const void *from, unsigned long bytes);
void *__tsan_memcpy(void *to, const void *from, unsigned long bytes)
{
    plain(from, bytes, 0);
    plain(to, bytes, 1);
    return memcpy(to, from, bytes);
}
void *__tsan_memset(void *to, int value, unsigned long bytes);
void *__tsan_memset(void *to, int value, unsigned long bytes)
{
    plain(to, bytes, 1);
    return memset(to, value, bytes);
}
void __tsan_init(void);
void __tsan_init(void)
{
}
void __tsan_func_entry(void *caller);
void __tsan_func_entry(void *caller)
{
    (void)caller;
}
void __tsan_func_exit(void);
void __tsan_func_exit(void)
{
}
