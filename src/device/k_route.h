/* k_route.h - routing: from top-k ids to the place of every row, in throughput mode.
 *
 * All blocks run together (the host launches no more than fit). Block 0 talks to the peers; each of
 * the others has a chunk of the tokens. With few blocks, block 0 has one, too.
 *
 *   count     a block counts its chunk: distinct ranks of a token, selections per expert
 *   gate      all blocks have counted
 *   exchange  block 0: tell every rank all counts, hear from every rank; from what it has heard it
 *             makes the counts of what comes
 *   scan      the other blocks meanwhile: per rank and expert, the sums over earlier chunks
 *   place     with all ranks' counts, a block gives its selections their places and sends a record
 *             per row
 *   receive   records of all sources become this rank's part of the route
 *
 * A block takes a unit of 32 tokens at a time, a lane per selection. For each rank and expert a
 * word in shared memory has a bit per token of the unit that goes there: its ones are the unit's
 * count, the ones below a token's bit the token's place among them.
 *
 * What ranks tell each other are words that prove themselves (route_exchange.h); how many copies of
 * them there are, and when a source may write records (route_meta, at its orders), stands in
 * docs/PROTOCOL.md. */
#ifndef SY_DEVICE_K_ROUTE_H
#define SY_DEVICE_K_ROUTE_H

#include "route_exchange.h"

/* --- count ---------------------------------------------------------------------------------- */

/* The end of a block's tokens. */
SY_DEV sy_u32 sy_chunk_end(const struct sy_route_args *a, sy_u32 chunk)
{
    return sy_min_u32((chunk + 1) * a->chunk_tokens, a->tokens);
}

SY_DEV void sy_route_count(struct sy_ctx *c, const struct sy_route_args *a, struct sy_unit *u)
{
    sy_u32 chunk = u->chunk;
    sy_s32 *own = (sy_s32 *)SY_ROUTE_AT(&a->r, ids);
    sy_u32 *hist = sy_hist(&a->d, chunk);
    sy_u32 *totals = sy_totals(&a->d, chunk % SY_TOTALS_COPIES);
    struct sy_dev_tensor ids = a->map.data ? sy_route_ids(a) : a->ids;
    sy_u32 first = chunk * a->chunk_tokens, end = sy_chunk_end(a, chunk), K = SY_TOPK(&a->r);
    for (sy_u32 t = first + c->warp; a->map.data && t < end; t += c->warps)
        sy_read_map(c, &a->d, &a->r, &a->map, t, own + (sy_u64)t * K);
    SY_FOR_BLOCK (i, c, SY_RANKS(&a->d) + a->d.experts) {
        u->before[i] = 0;
    }
    for (sy_u32 t = first; t < end; t += SY_UNIT(a)) {
        sy_unit_load(c, a, u, &ids, !a->map.data, t, end);
        sy_unit_add(c, a, u);
    }
    sy_block_sync(c);
    SY_FOR_BLOCK (i, c, SY_RANKS(&a->d) + a->d.experts) {
        hist[i] = u->before[i];
        if (u->before[i])
            sy_add(totals + i, u->before[i]);
    }
}

/* --- scan ----------------------------------------------------------------------------------- */

/* Turns one counter of all chunks into sums of the chunks before. A lane takes SCAN neighbours, so
 * that their loads do not wait for each other. */
#define SY_SCAN 4u

SY_DEV void sy_route_scan(struct sy_ctx *c, const struct sy_route_args *a, sy_u32 counter)
{
    const struct sy_dev *d = &a->d;
    sy_u32 before = 0;
    for (sy_u32 base = 0; base < a->chunks; base += SY_LANES * SY_SCAN) {
        sy_u32 chunk = base + c->lane * SY_SCAN, sum = 0, all, n[SY_SCAN];
        SY_UNROLL(4)
        for (sy_u32 i = 0; i < SY_SCAN; i++)
            n[i] = chunk + i < a->chunks ? sy_hist(d, chunk + i)[counter] : 0;
        SY_UNROLL(4)
        for (sy_u32 i = 0; i < SY_SCAN; i++)
            sum += n[i];
        sum = before + sy_scan(c, sum, &all);
        SY_UNROLL(4)
        for (sy_u32 i = 0; i < SY_SCAN; i++) {
            if (chunk + i < a->chunks)
                sy_hist(d, chunk + i)[counter] = sum;
            sum += n[i];
        }
        before += all;
    }
}

/* The same for few chunks, a lane per counter. */
SY_DEV void sy_route_scan_few(struct sy_ctx *c, const struct sy_route_args *a, sy_u32 worker,
                              sy_u32 workers)
{
    const struct sy_dev *d = &a->d;
    sy_u32 counters = SY_RANKS(d) + d->experts;
    for (sy_u32 i = worker * SY_LANES + c->lane; i < counters; i += workers * SY_LANES) {
        sy_u32 before = 0;
        for (sy_u32 base = 0; base < a->chunks; base += SY_SCAN) {
            sy_u32 n[SY_SCAN];
            SY_UNROLL(4)
            for (sy_u32 j = 0; j < SY_SCAN; j++)
                n[j] = base + j < a->chunks ? sy_hist(d, base + j)[i] : 0;
            SY_UNROLL(4)
            for (sy_u32 j = 0; j < SY_SCAN; j++) {
                if (base + j < a->chunks)
                    sy_hist(d, base + j)[i] = before;
                before += n[j];
            }
        }
    }
}

/* All that block 0 does not do while it talks to the peers; alone it does this, too. */
SY_DEV void sy_route_meanwhile(struct sy_ctx *c, const struct sy_route_args *a)
{
    const struct sy_dev *d = &a->d;
    sy_u32 *goes = (sy_u32 *)SY_ROUTE_AT(&a->r, goes);
    sy_u32 *returns = (sy_u32 *)SY_ROUTE_AT(&a->r, returns);
    sy_u32 *due = (sy_u32 *)SY_ROUTE_AT(&a->r, due);
    sy_u32 *live = (sy_u32 *)SY_ROUTE_AT(&a->r, live);
    sy_u32 helpers = c->blocks > 1 ? c->blocks - 1 : 1, me = c->blocks > 1 ? c->block - 1 : 0;
    sy_u32 worker = c->warp * helpers + me, workers = helpers * c->warps;
    if (a->chunks <= 4 * SY_SCAN)
        sy_route_scan_few(c, a, worker, workers);
    else
        for (sy_u32 i = worker; i < SY_RANKS(d) + d->experts; i += workers)
            sy_route_scan(c, a, i);
    for (sy_u32 i = worker * SY_LANES + c->lane; i < SY_RANKS(d) * a->r.chunks;
         i += workers * SY_LANES)
        goes[i] = returns[i] = due[i] = live[i] = 0;
}

/* --- place ---------------------------------------------------------------------------------- */

/* The place of a selection in the layout of its rank, or -1: dropped. `nth`: its place among this
 * source's selections of the expert. */
SY_DEV sy_s32 sy_place_of(const struct sy_route_args *a, const struct sy_unit *u, sy_u32 id,
                          sy_u32 nth)
{
    const struct sy_dev *d = &a->d;
    sy_u32 rank = sy_owner(d, (sy_s32)id);
    sy_u32 capacity = u->want[rank * SY_BASE_HEAD + SY_BASE_CAPACITY];
    sy_u32 at = u->want[SY_RANKS(d) * SY_BASE_HEAD + id] + nth;
    if (at >= capacity)
        return -1;
    return (sy_s32)(SY_LAYOUT(&a->r) == SY_L_SLABS ? (id - d->firsts[rank]) * capacity + at : at);
}

SY_DEV void sy_unit_goals(struct sy_ctx *c, const struct sy_route_args *a, struct sy_unit *u)
{
    const struct sy_dev *d = &a->d;
    SY_FOR_BLOCK (p, c, SY_RANKS(d)) {
        const sy_u32 *want = u->want + p * SY_BASE_HEAD;
        struct sy_goal *goal = u->goals + p;
        sy_u32 base = want[SY_BASE_ROWS], capacity = want[SY_BASE_CAPACITY], nth = u->before[p];
        int by_rank = SY_LAYOUT(&a->r) == SY_L_RANK;
        goal->records =
            (sy_u32 *)SY_AT(d, goal->heap, route_meta) + (sy_u64)(base + nth) * d->meta_words;
        goal->order = base + nth;
        goal->row = by_rank ? d->rank * capacity + nth : base + nth;
        goal->nth = nth;
        goal->capacity = by_rank ? (d->rank + 1) * capacity : capacity;
        goal->first = d->firsts[p];
        u->fits[p] = 0;
        u->records[p] += sy_ones(u->tokens[p]);
    }
}

/* Selections of `id` that repeat one of the same token, in the unit before selection x. Few
 * routings have any. Per lane. */
SY_DEV sy_u32 sy_unit_repeats(const struct sy_route_args *a, const struct sy_unit *u, sy_u32 x)
{
    sy_u32 K = SY_TOPK(&a->r), n = 0;
    sy_s32 id = u->ids[x];
    for (sy_u32 t = 0; t <= x / K; t++) {
        sy_u32 same = 0;
        for (sy_u32 o = t * K; o < t * K + K && o < x; o++)
            same += u->ids[o] == id;
        n += t == x / K ? same : same ? same - 1 : 0;
    }
    return n;
}

/* The place of selection x, in the layouts by expert. Per lane. */
SY_DEV void sy_route_number(const struct sy_route_args *a, struct sy_unit *u, sy_u32 x, int repeats)
{
    sy_u32 K = SY_TOPK(&a->r), R = SY_RANKS(&a->d), below = (1u << x / K) - 1u;
    sy_s32 id = u->ids[x], at = -1;
    if (id >= 0 && sy_by_expert(SY_LAYOUT(&a->r))) {
        sy_u32 nth = u->before[R + (sy_u32)id] + sy_ones(u->tokens[R + (sy_u32)id] & below);
        at = sy_place_of(a, u, (sy_u32)id, nth + (repeats ? sy_unit_repeats(a, u, x) : 0));
    }
    u->pos[x] = at;
    ((sy_s32 *)SY_ROUTE_AT(&a->r, pos))[(sy_u64)u->first * K + x] = at;
}

/* How many of the unit's rows to `rank` come before that of token i. */
SY_DEV sy_u32 sy_unit_nth(const struct sy_unit *u, sy_u32 rank, sy_u32 i)
{
    sy_u32 before = (1u << i) - 1u;
    return sy_ones(u->tokens[rank] & (SY_PLANT(HASH_ORDER) ? ~before << 1 : before));
}

/* Where the row goes that selection x is the first of, if it fits. By expert: to the place of the
 * first selection there which fits. Per lane. */
SY_DEV void sy_row_target(const struct sy_route_args *a, struct sy_unit *u, sy_u32 x)
{
    sy_u32 K = SY_TOPK(&a->r), i = x / K, rank = u->rows[x];
    const struct sy_goal *goal = u->goals + rank;
    sy_s32 row = -1;
    if (rank == SY_NO_ROW)
        return;
    if (!sy_by_expert(SY_LAYOUT(&a->r))) {
        sy_u32 place = goal->row + sy_unit_nth(u, rank, i);
        if (place < goal->capacity || SY_PLANT(PAST_CAPACITY))
            row = (sy_s32)place;
    } else {
        for (sy_u32 o = x; o < i * K + K && row < 0; o++)
            if (u->pos[o] >= 0 && sy_owner(&a->d, u->ids[o]) == rank)
                row = u->pos[o];
    }
    u->at[x] = row;
    if (row < 0)
        u->rows[x] = rank | SY_ROW_DROPPED;
    else
        sy_add(u->fits + rank, 1u << i);
}

/* What selection x has to say to its own rank: the row's entry among the token's destinations, and
 * what is left of these. Per lane. */
SY_DEV void sy_route_row(const struct sy_route_args *a, const struct sy_unit *u, sy_u32 x)
{
    sy_u32 K = SY_TOPK(&a->r), k = x % K, rank = u->rows[x], token = u->first + x / K;
    sy_u32 fan = 0, fan_at = 0;
    struct sy_dst *dst = (struct sy_dst *)SY_ROUTE_AT(&a->r, dst) + (sy_u64)token * SY_FAN(&a->r);
    for (sy_u32 o = x - k; o < x - k + K; o++) {
        fan += !(u->rows[o] & SY_ROW_DROPPED);
        fan_at += u->rows[o] < rank;
    }
    if (k == 0)
        ((sy_u32 *)SY_ROUTE_AT(&a->r, fan))[token] = fan;
    if (k >= fan && k < SY_FAN(&a->r))
        dst[k].rank = SY_NO_RANK;
    if (rank & SY_ROW_DROPPED)
        return;
    const struct sy_goal *goal = u->goals + rank;
    sy_u32 nth = sy_unit_nth(u, rank, x / K);
    struct sy_v16 to = {{rank, (sy_u32)u->at[x], goal->order + nth, goal->nth + nth}};
    sy_set16(dst + fan_at, to);
}

/* The place of the n-th bit that is set. */
SY_DEV sy_u32 sy_nth_one(sy_u32 bits, sy_u32 n)
{
    sy_u32 at = 0;
    SY_UNROLL(5)
    for (sy_u32 wide = 16; wide; wide /= 2) {
        sy_u32 below = sy_ones(bits >> at & ((1u << wide) - 1u));
        at += n >= below ? wide : 0;
        n -= n >= below ? below : 0;
    }
    return at;
}

/* Four words, from number w on, of the record of token first + i for its receiver. Per lane. */
SY_DEV struct sy_v16 sy_record_words(const struct sy_route_args *a, const struct sy_unit *u,
                                     sy_u32 rank, sy_u32 i, sy_u32 w)
{
    sy_u32 K = SY_TOPK(&a->r), fan_at = 0, dropped = 0;
    int by_expert = sy_by_expert(SY_LAYOUT(&a->r));
    struct sy_v16 v;
    for (sy_u32 o = i * K; w == 0 && o < i * K + K; o++) {
        fan_at += u->rows[o] < rank;
        dropped |= u->rows[o] == (rank | SY_ROW_DROPPED);
    }
    SY_UNROLL(4)
    for (sy_u32 j = 0; j < 4; j++) {
        sy_u32 k = w + j - SY_META_SEL, word = ~0u;
        if (w + j == SY_META_TOKEN)
            word = u->first + i;
        else if (w + j == SY_META_FAN)
            word = dropped ? SY_NOT_DELIVERED : fan_at;
        else if (k < K && u->ids[i * K + k] >= 0 && sy_owner(&a->d, u->ids[i * K + k]) == rank)
            word = (sy_u32)(by_expert ? u->pos[i * K + k]
                                      : u->ids[i * K + k] - (sy_s32)u->goals[rank].first);
        v.w[j] = word;
    }
    return v;
}

/* The records of the unit's rows on a rank. They are neighbours there, so lanes that are neighbours
 * write what crosses a link as whole lines. By `warps` warps, of which this one is the n-th. */
SY_DEV void sy_unit_records(struct sy_ctx *c, const struct sy_route_args *a,
                            const struct sy_unit *u, sy_u32 rank, sy_u32 n, sy_u32 warps)
{
    const struct sy_goal *goal = u->goals + rank;
    sy_u32 tokens = u->tokens[rank], pieces = sy_div_up(SY_META_SEL + SY_TOPK(&a->r), 4);
    sy_u32 all = sy_ones(tokens) * pieces, last = ~0u, i = 0;
    for (sy_u32 y = n * SY_LANES + c->lane; y < all; y += warps * SY_LANES) {
        sy_u32 nth = y / pieces, w = (y - nth * pieces) * 4;
        if (nth != last) /* with one lane, pieces of a record follow each other */
            i = sy_nth_one(tokens, nth);
        last = nth;
        sy_put16(goal->records + (sy_u64)nth * a->d.meta_words + w,
                 sy_record_words(a, u, rank, i, w));
    }
}

/* The lowest n bits that are set. */
SY_DEV sy_u32 sy_first_bits(sy_u32 bits, sy_u32 n)
{
    sy_u32 rest = bits;
    while (rest && n--)
        rest &= rest - 1;
    return bits & ~rest;
}

/* What goes to rank p and is to come back, by chunks. The unit's rows there are neighbours, so they
 * lie in two chunks at most. Per lane. */
SY_DEV void sy_unit_count_rows(const struct sy_route_args *a, struct sy_unit *u, sy_u32 p)
{
    sy_u32 *goes = (sy_u32 *)SY_ROUTE_AT(&a->r, goes) + p * a->r.chunks;
    sy_u32 *due = (sy_u32 *)SY_ROUTE_AT(&a->r, due) + p;
    sy_u32 chunk = u->goals[p].nth >> SY_CHUNK_SHIFT, fits = u->fits[p], tokens = u->tokens[p];
    sy_u32 room = SY_CHUNK_ROWS - (u->goals[p].nth & (SY_CHUNK_ROWS - 1u));
    sy_u32 here = fits & (room < SY_UNIT(a) ? sy_first_bits(tokens, room) : ~0u),
           beyond = fits & ~here;
    if (fits)
        sy_add(due + (u->first >> SY_CHUNK_SHIFT) * SY_RANKS(&a->d), sy_ones(fits));
    if (here)
        sy_add(goes + chunk, sy_ones(here));
    if (beyond)
        sy_add(goes + chunk + 1, sy_ones(beyond));
}

SY_DEV void sy_unit_place(struct sy_ctx *c, const struct sy_route_args *a, struct sy_unit *u)
{
    sy_u32 selections = u->n * SY_TOPK(&a->r);
    sy_u32 each = c->warps > SY_RANKS(&a->d) ? c->warps / SY_RANKS(&a->d) : 1; /* warps per rank */
    int repeats = (int)sy_load_shared(u->repeats);
    sy_unit_goals(c, a, u);
    SY_FOR_BLOCK (x, c, selections) {
        sy_route_number(a, u, x, repeats);
    }
    sy_block_sync(c);
    SY_FOR_BLOCK (x, c, selections) {
        sy_row_target(a, u, x);
    }
    sy_block_sync(c);
    for (sy_u32 v = c->warp; v < SY_RANKS(&a->d) * each; v += c->warps)
        sy_unit_records(c, a, u, v / each, v % each, each);
}

/* What stays here of the unit. */
SY_DEV void sy_unit_keep(struct sy_ctx *c, const struct sy_route_args *a, struct sy_unit *u)
{
    SY_FOR_BLOCK (x, c, u->n * SY_TOPK(&a->r)) {
        sy_route_row(a, u, x);
    }
    SY_FOR_BLOCK (p, c, SY_RANKS(&a->d)) {
        sy_unit_count_rows(a, u, p);
    }
}

/* Tells each receiver how many records of this block are there. */
SY_DEV void sy_route_signal(struct sy_ctx *c, const struct sy_route_args *a,
                            const struct sy_unit *u)
{
    sy_fence_publish(c);
    SY_FOR (p, c, SY_RANKS(&a->d)) {
        if (u->records[p])
            sy_signal_add((sy_u32 *)SY_AT(&a->d, u->goals[p].heap, route_arrive) + a->d.rank,
                          u->records[p]);
    }
}

/* Places the chunk of this block, and tells each receiver how many records are there. A chunk that
 * is one unit is still at hand. */
SY_DEV void sy_route_place(struct sy_ctx *c, const struct sy_route_args *a, struct sy_unit *u)
{
    struct sy_dev_tensor ids = sy_route_ids(a);
    sy_u32 first = u->chunk * a->chunk_tokens, end = sy_chunk_end(a, u->chunk);
    SY_FOR_BLOCK (p, c, SY_RANKS(&a->d)) {
        u->records[p] = 0;
    }
    for (sy_u32 t = first; t < end; t += SY_UNIT(a)) {
        if (first + SY_UNIT(a) < end)
            sy_unit_load(c, a, u, &ids, 0, t, end);
        else
            sy_block_sync(c);
        sy_unit_place(c, a, u);
        if (t + SY_UNIT(a) >= end)
            break;
        sy_unit_keep(c, a, u);
        sy_block_sync(c);
        sy_unit_add(c, a, u);
    }
    sy_block_sync(c);
    if (c->warp == 0)
        sy_route_signal(c, a, u);
    if (first < end)
        sy_unit_keep(c, a, u); /* nobody waits for this */
}

/* --- receive -------------------------------------------------------------------------------- */

/* Takes one record. Everything in it is checked: it is an index from now on. Returns 1 if a row
 * really comes, 0 if not, 2 if something is wrong. Per lane. */
SY_DEV sy_u32 sy_route_take(const struct sy_route_args *a, sy_u32 source, sy_u32 order)
{
    const struct sy_dev *d = &a->d;
    const sy_u32 *from = (const sy_u32 *)SY_OWN(d, route_meta) + (sy_u64)order * d->meta_words;
    sy_s32 *sel = (sy_s32 *)SY_ROUTE_AT(&a->r, recv_sel) + (sy_u64)order * SY_TOPK(&a->r);
    sy_u32 token = 0, fan_at = 0, limit = d->local, wrong = 0;
    if (SY_LAYOUT(&a->r) == SY_L_PACKED)
        limit = a->r.capacity;
    if (SY_LAYOUT(&a->r) == SY_L_SLABS)
        limit = a->r.capacity * d->local;
    SY_UNROLL(3)
    for (sy_u32 w = 0; w < SY_META_SEL + SY_TOPK(&a->r); w += 4) {
        struct sy_v16 v = sy_get16(from + w);
        for (sy_u32 i = 0; i < 4; i++) {
            sy_u32 k = w + i - SY_META_SEL;
            if (w + i == SY_META_TOKEN)
                token = v.w[i];
            else if (w + i == SY_META_FAN)
                fan_at = v.w[i];
            else if (k < SY_TOPK(&a->r)) {
                wrong |= v.w[i] >= limit && v.w[i] != ~0u;
                sel[k] = (sy_s32)v.w[i];
            }
        }
    }
    ((sy_u32 *)SY_ROUTE_AT(&a->r, recv_token))[order] = token;
    ((sy_u32 *)SY_ROUTE_AT(&a->r, recv_fan))[order] = fan_at;
    wrong |= token >= a->r.tokens_limit || (fan_at >= SY_FAN(&a->r) && fan_at != SY_NOT_DELIVERED);
    if (wrong)
        return 2;
    if (fan_at == SY_NOT_DELIVERED)
        return 0;
    sy_add((sy_u32 *)SY_ROUTE_AT(&a->r, returns) + source * a->r.chunks + (token >> SY_CHUNK_SHIFT),
           1u);
    return 1;
}

#define SY_TAKE_SHIFT 5 /* records that a warp takes at a time, as a power of two */

/* Records of one source from number `first` on. */
SY_DEV void sy_route_take_some(struct sy_ctx *c, const struct sy_route_args *a,
                               const struct sy_op *op, sy_u32 source, sy_u32 base, sy_u32 first,
                               sy_u32 end)
{
    sy_u32 chunk = first >> SY_CHUNK_SHIFT, n = 0;
    sy_u32 *live = (sy_u32 *)SY_ROUTE_AT(&a->r, live) + source * a->r.chunks + chunk;
    sy_u32 *live_all = (sy_u32 *)SY_ROUTE_AT(&a->r, live_all) + source;
    for (sy_u32 nth = first + c->lane; nth < end; nth += SY_LANES) {
        sy_u32 got = sy_route_take(a, source, base + nth);
        if (got == 2)
            sy_raise(c, op, sy_missed(&a->d, SY_FAULT_BYTES, source, a->d.heap));
        n += got & 1u;
    }
    n = sy_sum(c, n);
    if (c->lane == 0) {
        sy_add(live, n);
        sy_add(live_all, n);
    }
}

SY_DEV int sy_route_receive(struct sy_ctx *c, const struct sy_route_args *a, const struct sy_op *op)
{
    const struct sy_dev *d = &a->d;
    const sy_s32 *counts = (const sy_s32 *)SY_ROUTE_AT(&a->r, source_counts);
    const sy_u32 *bases = (const sy_u32 *)SY_ROUTE_AT(&a->r, recv_base);
    sy_u32 *arrive = (sy_u32 *)SY_OWN(d, route_arrive);
    sy_u32 parts = a->r.chunks << (SY_CHUNK_SHIFT - SY_TAKE_SHIFT);
    sy_u32 worker = c->warp * c->blocks + c->block, workers = c->blocks * c->warps;
    if (!sy_gate_wait(c, op, SY_GATE_KNOWN, 1))
        return 0;
    for (sy_u32 u = worker; u < SY_RANKS(d) * parts; u += workers) {
        sy_u32 s = u % SY_RANKS(d), n = (sy_u32)counts[s], base = bases[s];
        sy_u32 first = u / SY_RANKS(d) << SY_TAKE_SHIFT;
        if (first >= n)
            continue;
        if (!sy_wait_count(c, op, arrive + s, SY_COUNTER_BASE(op->epoch, SY_ROUTE_AMOUNT(d)) + n,
                           SY_FAULT_ROWS, s))
            return 0;
        sy_route_take_some(c, a, op, s, base, first, sy_min_u32(first + (1u << SY_TAKE_SHIFT), n));
    }
    return 1;
}

/* --- the kernel ----------------------------------------------------------------------------- */

/* A block that has a chunk, once all have counted. */
SY_DEV int sy_route_chunk(struct sy_ctx *c, const struct sy_route_args *a, const struct sy_op *op,
                          struct sy_unit *u)
{
    const sy_u32 *hist = sy_hist(&a->d, u->chunk);
    sy_u32 n = SY_RANKS(&a->d) + a->d.experts, step = c->warps * SY_LANES, first, second;
    sy_u32 mine = c->warp * SY_LANES + c->lane;
    int open = 1;
    SY_FOR_BLOCK (p, c, SY_RANKS(&a->d)) {
        u->goals[p].heap = a->d.peers[p];
    }
    if (c->block || c->blocks == 1)
        sy_route_meanwhile(c, a);
    if (c->block)
        sy_gate_arrive(c, op, SY_GATE_SCANNED);
    if (c->warp == 0)
        open = sy_gate_wait(c, op, SY_GATE_SCANNED, c->blocks - 1) &&
               (SY_BOOKS(&a->d) || sy_gate_wait(c, op, SY_GATE_HEARD, 1));
    if (!sy_block_agrees(c, open))
        return 0;
    first = mine < n ? hist[mine] : 0; /* on their way while the peers' words are */
    second = mine + step < n ? hist[mine + step] : 0;
    if (!(SY_BOOKS(&a->d) ? sy_books_read(c, a, op, u) : sy_route_answered(c, a, op, u)))
        return 0;
    SY_FOR_BLOCK (i, c, n) {
        u->before[i] = i == mine ? first : i == mine + step ? second : hist[i];
    }
    sy_route_place(c, a, u);
    return 1;
}

SY_DEV int sy_route_run(struct sy_ctx *c, const struct sy_route_args *a, const struct sy_op *op)
{
    struct sy_unit unit = sy_unit_of(c, a);
    int stopped = c->warp == 0 && sy_stopped(&a->d), open = 1; /* asked now, looked at below */
    if (unit.chunk != SY_NO_CHUNK)
        sy_route_count(c, a, &unit);
    if (c->block == 0) /* before any word: the records of the route before have been taken */
        sy_fence_publish(c);
    sy_gate_arrive(c, op, SY_GATE_COUNTED);
    /* After a route that could not be finished the gates stand as it left them. */
    if (c->warp == 0)
        open = !(sy_any(c, stopped) && sy_lost(c, &a->d)) &&
               sy_gate_wait(c, op, SY_GATE_COUNTED, c->blocks);
    if (!sy_block_agrees(c, open))
        return 0;
    if (c->block == 0 && !sy_route_exchange(c, a, op, &unit))
        return 0;
    if (unit.chunk != SY_NO_CHUNK && !sy_route_chunk(c, a, op, &unit))
        return 0;
    /* Others zero what records are counted into; who has no chunk has not waited for that yet. */
    if (unit.chunk == SY_NO_CHUNK && !SY_PLANT(EARLY_TALKER) &&
        !sy_gate_wait(c, op, SY_GATE_SCANNED, c->blocks - 1))
        return 0;
    return sy_route_receive(c, a, op);
}

SY_DEV void sy_route_close(struct sy_ctx *c, const struct sy_route_args *a, const struct sy_op *op)
{
    const struct sy_dev *d = &a->d;
    const sy_s32 *counts = (const sy_s32 *)SY_ROUTE_AT(&a->r, source_counts);
    sy_u32 *arrive = (sy_u32 *)SY_OWN(d, route_arrive);
    sy_u32 *gate = sy_route_gate(d, 0);
    SY_FOR (s, c, SY_RANKS(d)) {
        sy_signal_add(arrive + s, SY_ROUTE_AMOUNT(d) - (sy_u32)counts[s]);
    }
    if (c->lane == 0) {
        gate[0] = gate[1] = gate[2] = gate[3] = 0;
        *(sy_u64 *)SY_ROUTE_AT(&a->r, bad) = 0;
    }
    sy_op_close(c, op, 1, 1);
}

SY_DEV void sy_k_route(struct sy_ctx *c, const struct sy_route_args *a)
{
    struct sy_op op = sy_op_begin(&a->d, SY_CH_ROUTE, 1);
    if (a->only_ids) { /* one block */
        if (c->warp == 0 && c->lane == 0)
            *(sy_u64 *)SY_ROUTE_AT(&a->r, bad) = 0;
        sy_block_sync(c);
        for (sy_u32 t = c->warp; t < a->tokens; t += c->warps)
            sy_read_map(c, &a->d, &a->r, &a->map, t,
                        (sy_s32 *)SY_ROUTE_AT(&a->r, ids) + (sy_u64)t * SY_TOPK(&a->r));
        return;
    }
    int whole = sy_route_run(c, a, &op);
    if (sy_op_leave(c, &op, 1) && whole)
        sy_route_close(c, a, &op);
}

#endif
