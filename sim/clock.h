/* clock.h - vector clocks: what a warp may know of the accesses of others.
 *
 * Every warp has four slots: its ordinary accesses, the writes of its bulk stores, their reads of
 * stages, and its bulk loads; every rank has two more, for its host. An access is stamped with its
 * slot and the slot's count. Another warp is ordered behind it if its clock has that count.
 *
 * A release makes a snapshot of the releaser's clock; the snapshot travels with the words that are
 * written later, and who acquires such a word joins it.
 *
 * Clocks are made of parts of 16 counts that they share and that do not change while they are
 * shared: with 1,024 ranks a clock has 16,384 counts, and most of what a join meets it has. */
#ifndef SIM_CLOCK_H
#define SIM_CLOCK_H

#include <stdint.h>

#define SIM_PART 16u /* counts */

struct sim_clock {
    uint32_t *part; /* numbers; 0: all zero                                        */
    uint32_t *less; /* of each the part that was met last and had nothing to add   */
    int used;       /* 0: all zero                                                 */
};

/* Immutable once shared. `slot` and `count` name the release: who has that count of that slot has
 * the rest already. Slot 0: a sum of several. */
struct sim_snap {
    uint32_t refs, slot, count;
    struct sim_snap *next; /* of the free ones */
    uint32_t part[];
};

/* The counts of parts, by number. */
extern uint32_t (*sim_parts)[SIM_PART];

/* slots: of all ranks. */
void sim_clocks_open(uint32_t slots);
void sim_clocks_close(void);

void sim_clock_init(struct sim_clock *c);
void sim_clock_free(struct sim_clock *c);
void sim_clock_clear(struct sim_clock *c);
void sim_clock_join(struct sim_clock *to, const struct sim_clock *from);
void sim_clock_copy(struct sim_clock *to, const struct sim_clock *from);
void sim_clock_join_snap(struct sim_clock *to, const struct sim_snap *from);
void sim_clock_set(struct sim_clock *c, uint32_t slot, uint32_t count);

static inline uint32_t sim_clock_get(const struct sim_clock *c, uint32_t slot)
{
    return c->used ? sim_parts[c->part[slot / SIM_PART]][slot % SIM_PART] : 0;
}

/* Of one clock, or the sum of two. The caller owns one reference. */
struct sim_snap *sim_snap_of(const struct sim_clock *c, uint32_t slot, uint32_t count);
static inline struct sim_snap *sim_snap_ref(struct sim_snap *s)
{
    if (s)
        s->refs++;
    return s;
}
void sim_snap_drop(struct sim_snap *s);

/* *to becomes *to and more. */
void sim_snap_join(struct sim_snap **to, struct sim_snap *more);
void sim_snap_join_clock(struct sim_snap **to, const struct sim_clock *more);
/* *to becomes `now`. */
void sim_snap_put(struct sim_snap **to, struct sim_snap *now);

#endif
