/* route_exchange.h - what ranks tell each other in routing, and what they make of it: where each
 * rank's rows go. See k_route.h.
 *
 * There are two ways. Books: every rank tells every rank all its counts, and every block works out
 * by itself where its rows go. Answers: a rank tells each receiver what comes, and is told where it
 * shall go; a hop more, for groups whose books would be many words. */
#ifndef SY_DEVICE_ROUTE_EXCHANGE_H
#define SY_DEVICE_ROUTE_EXCHANGE_H

#include "fill.h"
#include "route_unit.h"

/* Keeps the capacity of rank p, and how far its rows can reach. Per lane. */
SY_DEV void sy_route_capacity(const struct sy_route_args *a, struct sy_unit *u, sy_u32 p, sy_u32 v)
{
    const struct sy_dev *d = &a->d;
    sy_u32 slabs = 1;
    u->want[p * SY_BASE_HEAD + SY_BASE_CAPACITY] = v;
    if (u->chunk != 0)
        return;
    if (SY_LAYOUT(&a->r) == SY_L_RANK)
        slabs = SY_RANKS(d);
    else if (SY_LAYOUT(&a->r) == SY_L_SLABS)
        slabs = d->firsts[p + 1] - d->firsts[p];
    ((sy_u32 *)SY_ROUTE_AT(&a->r, extent))[p] = v * slabs;
}

/* --- books ---------------------------------------------------------------------------------- */

/* A source's words in a rank's heap. */
SY_DEV sy_u64 *sy_told_at(const struct sy_op *op, sy_u8 *heap, sy_u32 source)
{
    const struct sy_dev *d = op->d;
    sy_u32 copy = SY_BOOKS(d) && !SY_PLANT(ONE_BOOK) ? (sy_u32)(op->epoch & 1u) * SY_RANKS(d) : 0;
    return (sy_u64 *)SY_AT(d, heap, route_count) + (sy_u64)(copy + source) * d->told_words;
}

/* Word i of what this rank tells; v, if it is none of the head but the first. Per lane. */
SY_DEV sy_u32 sy_head_word(const struct sy_route_args *a, sy_u32 i, sy_u32 v)
{
    sy_u64 bad = *(const sy_u64 *)SY_ROUTE_AT(&a->r, bad);
    v = i == SY_COUNT_CHECK ? a->check : v;
    v = i == SY_COUNT_BAD ? ~(sy_u32)(bad >> 32) + 1u : v;
    return i == SY_COUNT_VALUE ? (sy_u32)bad : v;
}

/* Word i of this rank's books. Per lane. */
SY_DEV sy_u32 sy_book_word(const struct sy_route_args *a, sy_u32 i)
{
    int counts = i >= SY_COUNT_HEAD && i < a->d.told_words;
    return sy_head_word(a, i, counts ? sy_total(&a->d, i - SY_COUNT_HEAD) : a->r.capacity);
}

/* Tells all ranks all counts. The warps of block 0 share the work, a lane has two words. */
SY_DEV void sy_books_tell(struct sy_ctx *c, const struct sy_route_args *a, const struct sy_op *op)
{
    const struct sy_dev *d = &a->d;
    sy_u32 lanes = c->warps * SY_LANES;
    for (sy_u32 i = c->warp * SY_LANES + c->lane; i < d->told_words; i += 2 * lanes) {
        sy_u32 v = sy_book_word(a, i), w = sy_book_word(a, i + lanes);
        for (sy_u32 n = 0; n < SY_RANKS(d); n++) {
            sy_u32 p = d->rank + n < SY_RANKS(d) ? d->rank + n : d->rank + n - SY_RANKS(d);
            sy_u64 *to = sy_told_at(op, d->peers[p], d->rank);
            sy_put64(to + i, sy_word(op->epoch, v));
            if (i + lanes < d->told_words)
                sy_put64(to + i + lanes, sy_word(op->epoch, w));
        }
    }
}

/* A lane's two columns of all books: what sources before this rank have there, and all of them. */
struct sy_column {
    sy_u32 word;
    sy_u32 before, all;
    sy_u32 wrong; /* the number of a source that cannot be, plus 1; or 0 */
};

SY_DEV void sy_column_add(const struct sy_route_args *a, struct sy_unit *u, struct sy_column *col,
                          sy_u32 source, sy_u32 v)
{
    const struct sy_dev *d = &a->d;
    sy_u32 limit = a->r.tokens_limit;
    if (col->word == SY_COUNT_ROWS)
        sy_route_capacity(a, u, source, v);
    if (col->word < SY_COUNT_HEAD)
        return;
    if (col->word >= SY_COUNT_HEAD + SY_RANKS(d))
        limit *= SY_TOPK(&a->r);
    if (v > limit)
        col->wrong = source + 1;
    col->before += source < d->rank ? v : 0;
    col->all += v;
}

SY_DEV void sy_column_keep(const struct sy_route_args *a, struct sy_unit *u,
                           const struct sy_column *col)
{
    sy_u32 R = SY_RANKS(&a->d), p = col->word - SY_COUNT_HEAD;
    if (col->word < SY_COUNT_HEAD || col->word >= a->d.told_words)
        return;
    if (p < R) {
        u->want[p * SY_BASE_HEAD + SY_BASE_ROWS] = col->before;
        return;
    }
    u->want[R * SY_BASE_HEAD + p - R] = col->before;
    u->heard[p - R] = col->all; /* block 0 needs the table no longer */
}

/* Reads columns first and first + step of the books. By one warp; 0: leave. */
SY_DEV int sy_books_columns(struct sy_ctx *c, const struct sy_route_args *a, const struct sy_op *op,
                            struct sy_unit *u, sy_u32 first, sy_u32 step)
{
    const struct sy_dev *d = &a->d;
    const sy_u64 *at[2], *books = sy_told_at(op, a->d.heap, 0);
    struct sy_column col[2] = {{first, 0, 0, 0}, {first + step, 0, 0, 0}};
    sy_u32 v[2 * SY_WORDS], who, word;
    for (sy_u32 base = 0; base < SY_RANKS(d); base += SY_WORDS) {
        sy_u32 n = sy_min_u32(SY_WORDS, SY_RANKS(d) - base);
        SY_UNROLL(2)
        for (sy_u32 k = 0; k < 2; k++)
            at[k] = col[k].word < d->told_words ? books + (sy_u64)base * d->told_words + col[k].word
                                                : 0;
        if (!sy_wait_words(c, op, at, d->told_words, n, op->epoch, SY_FAULT_COUNT, base, v))
            return 0;
        SY_UNROLL(16)
        for (sy_u32 i = 0; i < 2 * SY_WORDS; i++) {
            sy_u32 k = i / SY_WORDS, j = i % SY_WORDS;
            if (j < n && at[k])
                sy_column_add(a, u, col + k, base + j, v[i]);
        }
    }
    sy_column_keep(a, u, col);
    sy_column_keep(a, u, col + 1);
    who = col[0].wrong ? col[0].wrong : col[1].wrong;
    word = col[0].wrong ? col[0].word : col[1].word;
    if (who)
        sy_raise(c, op,
                 sy_missed(d, SY_FAULT_BYTES, who - 1,
                           books + (sy_u64)(who - 1) * d->told_words + word));
    return !sy_any(c, who != 0);
}

/* EXPERT_PACKED: experts of a rank stand behind each other. A warp per rank. */
SY_DEV void sy_books_pack(struct sy_ctx *c, const struct sy_route_args *a, struct sy_unit *u)
{
    const struct sy_dev *d = &a->d;
    sy_u32 *begins = u->want + SY_RANKS(d) * SY_BASE_HEAD;
    for (sy_u32 p = c->warp; p < SY_RANKS(d); p += c->warps) {
        sy_u32 before = 0, end = d->firsts[p + 1];
        for (sy_u32 at = d->firsts[p]; at < end; at += SY_LANES) {
            sy_u32 e = at + c->lane, all, n = e < end ? u->heard[e] : 0, sum;
            sum = before + sy_scan(c, sy_div_up(n, a->r.alignment) * a->r.alignment, &all);
            before += all;
            if (e < end)
                begins[e] += sum;
        }
    }
    sy_block_sync(c);
}

/* Waits for all ranks' books, checks what this block needs of them, and works out where its rows
 * go. The warps of the block share the work. */
SY_DEV int sy_books_read(struct sy_ctx *c, const struct sy_route_args *a, const struct sy_op *op,
                         struct sy_unit *u)
{
    sy_u32 lanes = c->warps * SY_LANES;
    int ok = 1;
    for (sy_u32 i = c->warp * SY_LANES; ok && i < a->d.told_words; i += 2 * lanes)
        ok = sy_books_columns(c, a, op, u, i + c->lane, lanes);
    ok = sy_block_agrees(c, ok);
    if (ok && SY_LAYOUT(&a->r) == SY_L_PACKED)
        sy_books_pack(c, a, u);
    return ok;
}

/* --- answers -------------------------------------------------------------------------------- */

/* Tells rank p what this rank will send, by words: the one of this lane is number i. All that it
 * may be is loaded at the same time. Per lane. */
SY_DEV void sy_route_tell(const struct sy_route_args *a, const struct sy_op *op, sy_u32 p, sy_u32 i)
{
    const struct sy_dev *d = &a->d;
    sy_u64 *to = sy_told_at(op, d->peers[p], d->rank);
    sy_u32 first = d->firsts[p], words = SY_COUNT_HEAD + d->firsts[p + 1] - first;
    sy_u32 v = i < words
                   ? sy_total(d, i < SY_COUNT_HEAD ? p : SY_RANKS(d) + first + i - SY_COUNT_HEAD)
                   : 0;
    if (i < words)
        sy_put64(to + i, sy_word(op->epoch, sy_head_word(a, i, v)));
}

/* Tells all ranks. The warps of block 0 share the work. */
SY_DEV void sy_route_tell_all(struct sy_ctx *c, const struct sy_route_args *a,
                              const struct sy_op *op)
{
    sy_u32 turns = sy_div_up(SY_COUNT_HEAD + a->d.local_max, SY_LANES);
    for (sy_u32 u = c->warp; u < turns * SY_RANKS(&a->d); u += c->warps) {
        sy_u32 p = u / turns;
        sy_route_tell(a, op, (a->d.rank + p) % SY_RANKS(&a->d),
                      (u - p * turns) * SY_LANES + c->lane);
    }
}

/* The answers to all sources: where their rows shall go. The same sums as in counts.h, straight
 * from what was heard, because all sources wait for them. The warps of block 0 share the work. */
SY_DEV void sy_route_answer(struct sy_ctx *c, const struct sy_route_args *a, const struct sy_op *op,
                            struct sy_unit *u)
{
    const struct sy_dev *d = &a->d;
    sy_u64 mine = (sy_u64)d->rank * (SY_BASE_HEAD + d->local_max);
    sy_u32 *offsets = u->before, before = 0; /* nobody needs those before the scan */
    int packed = SY_LAYOUT(&a->r) == SY_L_PACKED;
    for (sy_u32 at = 0; c->warp == c->warps - 1 && at < SY_RANKS(d); at += SY_LANES) {
        sy_u32 s = at + c->lane, all;
        sy_u32 n = s < SY_RANKS(d) ? sy_announced(d, u->heard, s, SY_COUNT_ROWS) : 0;
        sy_u32 base = before + sy_scan(c, n, &all);
        before += all;
        if (s >= SY_RANKS(d))
            continue;
        sy_u64 *to = (sy_u64 *)SY_PEER(d, s, route_base) + mine;
        sy_put64(to + SY_BASE_ROWS, sy_word(op->epoch, base));
        sy_put64(to + SY_BASE_CAPACITY, sy_word(op->epoch, a->r.capacity));
    }
    if (packed && c->warp == 0)
        sy_heard_offsets(c, d, &a->r, u->heard, offsets);
    if (packed)
        sy_block_sync(c);
    SY_FOR_BLOCK (e, c, d->local) {
        sy_u32 begin = packed ? offsets[e] : 0;
        for (sy_u32 s = 0; s < SY_RANKS(d); s++) {
            sy_u64 *to = (sy_u64 *)SY_PEER(d, s, route_base) + mine;
            sy_put64(to + SY_BASE_HEAD + e, sy_word(op->epoch, begin));
            begin += sy_announced(d, u->heard, s, SY_COUNT_HEAD + e);
        }
    }
}

/* Keeps one word of rank p's answer. Returns what is wrong with it, or 0. Per lane. */
SY_DEV sy_u32 sy_route_keep(const struct sy_route_args *a, struct sy_unit *u, sy_u32 p, sy_u32 i,
                            sy_u32 v)
{
    const struct sy_dev *d = &a->d;
    if (i >= SY_BASE_HEAD)
        u->want[SY_RANKS(d) * SY_BASE_HEAD + d->firsts[p] + i - SY_BASE_HEAD] = v;
    else if (i == SY_BASE_CAPACITY)
        sy_route_capacity(a, u, p, v);
    else
        u->want[p * SY_BASE_HEAD + i] = v;
    return i == SY_BASE_ROWS && (v > SY_RANKS(d) * a->r.tokens_limit || v >> 31) ? SY_FAULT_BYTES
                                                                                 : 0;
}

/* Waits for rank p's words from lane number `at` on. 0: leave. */
SY_DEV int sy_route_answer_of(struct sy_ctx *c, const struct sy_route_args *a,
                              const struct sy_op *op, struct sy_unit *u, sy_u32 p, sy_u32 at)
{
    const struct sy_dev *d = &a->d;
    sy_u32 i = at + c->lane, v = 0, wrong = 0;
    int in = i < SY_BASE_HEAD + d->firsts[p + 1] - d->firsts[p];
    const sy_u64 *from = (const sy_u64 *)SY_OWN(d, route_base);
    from += (sy_u64)p * (SY_BASE_HEAD + d->local_max) + i;
    if (!sy_wait_word(c, op, in ? from : 0, op->epoch, SY_FAULT_BASE, p, &v))
        return 0;
    if (in)
        wrong = sy_route_keep(a, u, p, i, v);
    if (wrong)
        sy_raise(c, op, sy_missed(d, wrong, p, from));
    return !sy_any(c, wrong != 0);
}

/* Waits for all ranks' answers, checks them and keeps them. The warps of the block share the work.
 * By then block 0 has heard all counts: a rank that is late with those has been blamed for that. */
SY_DEV int sy_route_answered(struct sy_ctx *c, const struct sy_route_args *a,
                             const struct sy_op *op, struct sy_unit *u)
{
    sy_u32 turns = sy_div_up(SY_BASE_HEAD + a->d.local_max, SY_LANES);
    int ok = 1;
    for (sy_u32 x = c->warp; ok && x < SY_RANKS(&a->d) * turns; x += c->warps)
        ok = sy_route_answer_of(c, a, op, u, x / turns, x % turns * SY_LANES);
    return sy_block_agrees(c, ok);
}

/* Block 0. Returns 0 to all warps when the group is lost. */
SY_DEV int sy_route_exchange(struct sy_ctx *c, const struct sy_route_args *a,
                             const struct sy_op *op, struct sy_unit *u)
{
    const struct sy_dev *d = &a->d;
    struct sy_told told = sy_told_here(d, sy_told_at(op, d->heap, 0));
    told.stride = d->told_words;
    if (SY_BOOKS(d)) {
        told.rows = SY_COUNT_HEAD + d->rank;
        told.experts = SY_COUNT_HEAD + SY_RANKS(d) + d->first;
        sy_books_tell(c, a, op);
    } else {
        sy_route_tell_all(c, a, op);
    }
    if (!sy_block_agrees(c, sy_hear(c, op, &a->r, &told, a->check, u->heard, c->warp, c->warps)))
        return 0;
    if (c->warp == c->warps - 1 && c->lane == 0)
        sy_store_word(sy_route_gate(d, SY_GATE_HEARD), 1u);
    if (!SY_BOOKS(d))
        sy_route_answer(c, a, op, u);
    if (c->warp == 0)
        sy_counts(c, d, &a->r, u->heard, 0);
    SY_FOR_BLOCK (i, c, SY_TOTALS_COPIES * (SY_RANKS(d) + d->experts)) {
        sy_totals(d, 0)[i] = 0; /* all warps have told */
    }
    sy_gate_arrive(c, op, SY_GATE_KNOWN);
    return 1;
}

#endif
