/* records.h - what ranks write into each other's heaps, besides rows.
 *
 * Words that stand alone carry their own proof of arrival: the upper half of an 8-byte word is the
 * low half of the operation's epoch, the lower half the value. Epochs start at 1, so a zeroed heap
 * holds no valid word. Everything else is data, and counts only once a signal says so. */
#ifndef SY_LAYOUT_RECORDS_H
#define SY_LAYOUT_RECORDS_H

#include "types.h"

/* One channel per kind of operation: operations of a channel are numbered by epochs 1, 2, 3... */
enum {
    SY_CH_ROUTE = 0,
    SY_CH_TDISPATCH = 1,
    SY_CH_TCOMBINE = 2,
    SY_CH_LDISPATCH = 3,
    SY_CH_LCOMBINE = 4,
    SY_CHANNELS = 5
};

#define SY_LAT_VIEWS_MAX 8

/* A route's totals are added up in so many copies, so that blocks do not queue for the same words.
 */
#define SY_TOTALS_COPIES 8u

/* Rows are counted in chunks: of a source's rows in dispatch, of this rank's tokens in combine. */
#define SY_CHUNK_SHIFT 6
#define SY_CHUNK_ROWS (1u << SY_CHUNK_SHIFT)

/* A row moves in up to this many parts, each of which adds 1 to the counter of its chunk (combine,
 * latency mode: of its token). */
#define SY_PARTS_MAX 64u

/* SY_COUNTER: a word that peers add to. Every operation adds the same amount in the end: what the
 * peers do not need of it the owner adds after it has waited. So the counter's value before epoch e
 * is (e - 1) * amount, and nobody keeps or clears anything. */
#define SY_COUNTER_BASE(epoch, amount) ((sy_u32)((epoch)-1u) * (sy_u32)(amount))

/* lc_arrive: a SY_COUNTER with a cache line of a GPU to itself. There is one for each token, and
 * hundreds of warps ask for all of them at once while peers add to them: where several shared a
 * line, its place in a GPU's second-level cache decided how long that took. */
struct sy_lone_counter {
    sy_u32 n;
    sy_u32 spare[31];
};

/* start[channel][epoch & 1][p]: rank p has begun operation `epoch`, and is through with all before
 * it. A peer may have begun the next one while some block here still reads its words of this one:
 * it needs this rank's rows only, and they may be sent already. It cannot be further ahead, so
 * there are two copies.
 * value: dispatch, where p wants its rows (offset in the heap / SY_REGION_ALIGN + 1);
 *        combine, where p's rows lie for fetching, in the same unit, or 0: p pushes them.
 * check: a hash of what must be equal on all ranks (kind, types, shapes). */
struct sy_start {
    sy_u64 value; /* epoch << 32 | value */
    sy_u64 check; /* epoch << 32 | check */
};

/* route_count[p]: words for the receiver, then one per expert of the receiver: its selections.
 * Books: words for all, then one per rank (distinct tokens that go there), then one per expert. */
enum {
    SY_COUNT_ROWS = 0,  /* distinct tokens of p that come here; books: p's capacity */
    SY_COUNT_CHECK = 1, /* a hash as above                              */
    SY_COUNT_BAD = 2,   /* flat index (token * K + k) + 1 of p's first bad id, or 0 */
    SY_COUNT_VALUE = 3, /* that id, low half                            */
    SY_COUNT_HEAD = 4
};
#define SY_TOLD_WORDS(books, ranks, experts, local_max)                                            \
    (SY_COUNT_HEAD + ((books) ? (ranks) + (experts) : (local_max)))

/* route_base[p]: p's answer to a source; then one word per expert of p: where the source's rows of
 * that expert begin (EXPERT_PACKED: in the output; EXPERT_SLABS: in the slab). */
enum {
    SY_BASE_ROWS = 0,     /* where the source's tokens begin in the order (source, token) */
    SY_BASE_CAPACITY = 1, /* p's capacity                                                 */
    SY_BASE_HEAD = 2
};

/* route_meta: one record per (token, destination), meta_words 32-bit words:
 *   [0] token  [1] its place among the token's destinations, or SY_NOT_DELIVERED
 *   [2 + k] layouts by token: local expert of selection k; by expert: its row; -1: not here */
#define SY_META_TOKEN 0
#define SY_META_FAN 1
#define SY_META_SEL 2
#define SY_NOT_DELIVERED 0xffffffffu /* dropped, and the source knows: nothing comes or goes */
#define SY_ZERO_ROW 0x80000000u      /* dropped behind the source's back (latency): zeros go back */

/* ld_tail: what travels behind a row in latency mode, the same to all destinations of a token:
 *   [0] token  [1..3] 0  [4 + k] global expert id or -1  [4 + K + k] how many selections of that
 *   expert by the same source come before  [4 + 2K + k] weight  [4 + 3K ...] scales, if any; the
 * whole is a multiple of 16 bytes. */
#define SY_TAIL_TOKEN 0
#define SY_TAIL_IDS 4
#define SY_TAIL_SCALES(topk) ((SY_TAIL_IDS + 3 * (topk) + 3u) / 4u * 4u)

/* Where a row goes: one per destination of a token, in ascending order of ranks; what is left of a
 * token's entries has SY_NO_RANK. */
#define SY_NO_RANK 0xffffffffu

struct sy_dst {
    sy_u32 rank;
    sy_u32 row;   /* its place in the layout; by expert: of the first selection that fits        */
    sy_u32 order; /* its place in the receiver's order (source, token)                           */
    sy_u32 nth;   /* its place among this source's rows to that rank                             */
};

/* Why a kernel left. `what` is a sy_fault_what; the host makes the text of it. */
struct sy_fault_record {
    sy_u32 what; /* 0: no record; written last */
    sy_u32 channel;
    sy_u32 culprit;
    sy_u32 reporter;
    sy_u64 epoch;
    sy_u64 expected;
    sy_u64 seen;
    sy_u64 place; /* offset in the heap of the word waited for */
};

enum sy_fault_what {
    SY_FAULT_NONE = 0,
    SY_FAULT_START = 1,    /* the culprit did not begin the operation                */
    SY_FAULT_COUNT = 2,    /* its counts did not come                                */
    SY_FAULT_BASE = 3,     /* its answer to counts did not come                      */
    SY_FAULT_ROWS = 4,     /* its rows did not come                                  */
    SY_FAULT_FETCH = 5,    /* it did not fetch rows                                  */
    SY_FAULT_WEIGHTS = 6,  /* its weights did not come                               */
    SY_FAULT_SELF = 7,     /* another part of this rank's kernel did not go on       */
    SY_FAULT_CHECK = 8,    /* it runs the operation with other types or shapes       */
    SY_FAULT_BYTES = 9,    /* it sent a value out of range                           */
    SY_FAULT_LOST = 10,    /* its process is gone (this and what follows: by hosts)  */
    SY_FAULT_ABORT = 11,   /* sy_group_abort()                                       */
    SY_FAULT_SHORT = 12,   /* kernels: its own tensor has fewer rows than come       */
    SY_FAULT_BARRIER = 13, /* it did not come to sy_group_barrier()                 */
    SY_FAULT_LEFT = 14,    /* it had left the group when somebody waited for it      */
    SY_FAULT_KINDS = 15
};

/* Ids out of range, told to the host once per route. A host that reads while the next one is
 * written sees an odd seq, or another one afterwards. */
struct sy_notice {
    sy_u64 seq;   /* goes up by one before the words change, and by one after it */
    sy_u64 whose; /* rank, token << 32 */
    sy_u64 what;  /* k, value << 32    */
};

/* What kernels tell their own host, in memory of the host that both reach: the host learns of
 * faults without touching an accelerator. */
struct sy_report {
    struct sy_fault_record fault; /* the first that this rank knows of; written once */
    struct sy_notice notice;
};

SY_STATIC_ASSERT(sizeof(struct sy_start) == 16, "two words");
SY_STATIC_ASSERT(sizeof(struct sy_lone_counter) == 128, "a line");
SY_STATIC_ASSERT(sizeof(struct sy_dst) == 16, "one 16-byte load");
SY_STATIC_ASSERT(sizeof(struct sy_fault_record) == 48, "no padding");
SY_STATIC_ASSERT(sizeof(struct sy_notice) == 24, "no padding");
SY_STATIC_ASSERT(sizeof(struct sy_report) == 72, "no padding");

/* What k_flags.h keeps in every heap, zero at first; a struct sy_turns of each rank follows. */
struct sy_flags {
    sy_u32 arrived; /* by all ranks, SY_COUNTER                               */
    sy_u32 met;     /* rounds that this rank has met; nobody else's           */
};
struct sy_turns {
    sy_u32 word;  /* by the partner                                         */
    sy_u32 taken; /* words of the partner that have come; nobody else's     */
};

#endif
