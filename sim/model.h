/* model.h - simulated memory: where it lies, what is known of every word of it, and the warps that
 * access it.
 *
 *   arena.c   one range of addresses for all heaps, private and shared memory; who has which page
 *   shadow.c  a cell per four bytes: who wrote and read them last. Every access of device code is
 *             checked here, ordinary ones through the compiler's instrumentation (-fsanitize=thread
 *             with our own functions behind it)
 *   weak.c    words, fences, and stores on their way
 *   bulk.c    bulk copies and their gates
 *   block.c   barriers, waiting
 *   rules.c   who may write what, and what a read may find
 */
#ifndef SIM_MODEL_H
#define SIM_MODEL_H

#include "clock.h"
#include "device/prims.h"
#include "layout/args.h"
#include "report.h"
#include "tasks.h"

/* --- the arena -------------------------------------------------------------------------------- */

enum sim_place { SIM_NOWHERE, SIM_HEAP, SIM_PRIVATE, SIM_SHARED };

#define SIM_PAGE_SHIFT 14
#define SIM_ARENA_BYTES (8ull << 30)

struct sim_page {
    uint16_t rank;
    uint8_t place;
    uint8_t block; /* SHARED */
};

extern uint8_t *sim_arena;
extern struct sim_page *sim_pages;

static inline int sim_inside(const void *p)
{
    return (uint64_t)((const uint8_t *)p - sim_arena) < SIM_ARENA_BYTES;
}
static inline const struct sim_page *sim_page_of(const void *p)
{
    return sim_pages + ((uint64_t)((const uint8_t *)p - sim_arena) >> SIM_PAGE_SHIFT);
}

void sim_arena_open(void);
void sim_arena_reset(void); /* all memory is gone */

enum sim_contents { SIM_DEFINED, SIM_GARBAGE }; /* GARBAGE: must be written before it is read */

/* HEAP and SHARED take whole pages, PRIVATE objects get a margin that nobody may touch. Zeroed, or
 * random bytes. Never NULL. */
void *sim_take(uint32_t rank, enum sim_place place, uint8_t block, size_t bytes,
               enum sim_contents contents);
/* From now on nobody may touch it. Gone for good. */
void sim_give(void *memory, size_t bytes);
uint64_t sim_arena_used(void);

/* --- cells ------------------------------------------------------------------------------------ */

enum {
    SIM_BYTES = 15,      /* which of the four bytes the last write wrote */
    SIM_ATOMIC = 16,     /* ... as a word                                 */
    SIM_PENDING = 32,    /* it may still be on its way, to the own rank   */
    SIM_UNDEFINED = 64,  /* nothing has been written here                */
    SIM_FORBIDDEN = 128, /* not part of any object                       */
    SIM_AGREED = 256     /* several warps of a block wrote the same value */
};

#define SIM_SLOT_BITS 20
#define SIM_SLOTS_MAX (1u << SIM_SLOT_BITS)

struct sim_cell {
    uint32_t write_count, write_launch;
    uint32_t write_slot : SIM_SLOT_BITS, flags : 32 - SIM_SLOT_BITS;
    uint32_t read_slot[2];
    uint32_t read_count[2];
    uint32_t sync; /* number of its struct sim_sync; 0: none */
};

extern struct sim_cell *sim_cells;

static inline struct sim_cell *sim_cell_of(const void *p)
{
    return sim_cells + ((uint64_t)((const uint8_t *)p - sim_arena) >> 2);
}

/* The host wrote this, before its next launch. */
void sim_host_wrote(uint32_t rank, void *p, size_t bytes);
/* From now on these bytes are as if never written. */
void sim_forget(void *p, size_t bytes);
void sim_forbid(void *p, size_t bytes);

/* What travels with a word: what its writer had released to everyone, to its own rank, and what of
 * it was over before the word, so that it may be overwritten (but not read). */
struct sim_sync {
    struct sim_snap *all, *rank, *over;
    uint32_t rank_of;               /* whose `rank` that is                 */
    uint32_t copy_slot, copy_count; /* gates: the bulk load that filled it last */
    struct sim_watch *watchers;
};

/* The sync of a word, made if there is none. */
struct sim_sync *sim_sync_of(const void *word);
struct sim_sync *sim_sync_at(uint32_t number);
void sim_syncs_reset(void);

/* --- stores on their way ---------------------------------------------------------------------- */

enum sim_store_kind { SIM_DATA, SIM_WORD, SIM_ADD };

struct sim_store {
    uint8_t *to;
    uint8_t bytes, kind;
    uint16_t rank; /* of the writer */
    uint32_t slot, count;
    uint32_t segment; /* fences before it: earlier segments first */
    uint8_t data[16];
    struct sim_snap *all, *rank_only, *over;
};

struct sim_buffer {
    struct sim_store *store;
    uint32_t count, room;
    uint32_t at; /* place in the list of buffers that hold something, + 1 */
};

/* --- bulk copies ------------------------------------------------------------------------------ */

struct sim_bulk {
    uint8_t *to;
    const uint8_t *from;
    uint8_t *taken; /* the bytes, once they have left the stage */
    sy_u64 *gate;   /* LOAD */
    struct sim_warp *warp;
    uint32_t bytes, unit; /* of a piece */
    uint32_t left;        /* pieces, as bits */
    uint32_t batch;       /* STORE: its number; LOAD: count of the slot */
    int load;
};

/* --- warps ------------------------------------------------------------------------------------ */

#define SIM_WARPS_MAX 16 /* of a block */
#define SIM_LOOKED_MAX 24

struct sim_watch {
    struct sim_warp *warp;
    struct sim_watch *next, **before;
    const void *word;
    uint64_t value;
    uint32_t bytes;
};

/* A launch, as far as others must know about it; kept until the world ends. */
struct sim_launch {
    uint32_t id, rank;
    int kernel;
    uint32_t channel; /* SY_CHANNELS: none */
    uint64_t epoch;
    const void *args;        /* the kernel's own */
    const struct sy_dev *d;  /* their first member */
    const void *truth;       /* scenario.h: what the route should be */
    struct sim_snap *before; /* all that this rank had done before */
};

struct sim_block {
    uint32_t index, warps, live, arrived;
    struct sim_warp *warp[SIM_WARPS_MAX];
    uint8_t *shared;
    uint64_t shared_bytes;
};

struct sim_warp {
    struct sy_ctx c;
    struct sim_task *task;
    struct sim_block *block;
    struct sim_launch *launch;
    uint32_t rank;
    uint32_t slot;  /* of ordinary accesses; + 1 bulk writes, + 2 bulk reads, + 3 bulk loads */
    uint32_t count; /* of its slot, now */
    uint32_t segment;
    uint32_t batches, loads;          /* committed batches of stores; loads begun */
    uint32_t read, done;              /* batches that are known to be read, and written */
    struct sim_clock seen;            /* may be read */
    struct sim_clock soon_rank, soon; /* ... after a fence, for the rank or for all */
    struct sim_clock over;            /* may be overwritten, but not read */
    struct sim_clock fenced;          /* may be loaded in bulk */
    struct sim_snap *released, *released_rank, *released_over;
    uint32_t bulk_seen[SIM_WARPS_MAX]; /* counts that a bulk copy may read, by warp of the block */
    struct sim_buffer buffer;
    struct sim_watch looked[SIM_LOOKED_MAX + 1]; /* words since the last pause; last: stop */
    uint32_t looks;
    uint32_t spin; /* pauses that do not wait */
    int in_barrier;
    const char *doing;
    const void *doing_at;
};

#define SIM_SLOTS_OF_WARP 4

/* What the seed says about memory. */
struct sim_weak_config {
    uint32_t lag; /* a store waits for about so many turns; 0: none */
    uint32_t copy_lag;
};

void sim_weak_open(const struct sim_weak_config *config, uint32_t ranks);
void sim_weak_close(void);

void sim_warp_init(struct sim_warp *w, uint32_t rank, uint32_t slot);
void sim_warp_free(struct sim_warp *w);
void sim_warp_begin(struct sim_warp *w, const struct sim_clock *seen, const struct sim_clock *over);
void sim_warp_end(struct sim_warp *w);
void sim_rank_memory_died(uint32_t rank);

/* weak.c for bulk.c and block.c */
int sim_ordered(const struct sim_warp *w, uint32_t slot, uint32_t count, int write);
void sim_word_changed(const void *word);
void sim_land_seen(struct sim_warp *w, const void *at, size_t bytes);
int sim_stores_stir(void);

/* shadow.c: one access of device code, checked and noted. */
void sim_must_be_inside(const void *p);
enum sim_access_kind { SIM_PLAIN, SIM_AS_WORD, SIM_BY_BULK };
void sim_note_read(struct sim_warp *w, const void *p, size_t bytes, enum sim_access_kind kind,
                   uint32_t slot, uint32_t count);
void sim_note_write(struct sim_warp *w, void *p, size_t bytes, enum sim_access_kind kind,
                    uint32_t slot, uint32_t count);

/* bulk.c */
int sim_bulks_stir(int idle);
void sim_bulks_leave(struct sim_warp *w);
void sim_bulks_died(uint32_t rank);
void sim_bulks_reset(void);

/* rules.c */
void sim_rule_read(const struct sim_warp *w, uint32_t rank, const void *p, size_t bytes,
                   const struct sim_cell *cell);
void sim_rule_write(const struct sim_warp *w, uint32_t rank, const void *p, size_t bytes);
void sim_rule_word(uint32_t rank, const void *p, uint64_t before, uint64_t after);

#endif
