/* counts.h - from what all sources announced to the counts that sy_route_info shows; both modes.
 *
 * `heard` is a table in shared memory: the values of all sources' words (records.h, SY_COUNT_...),
 * checked before. */
#ifndef SY_DEVICE_COUNTS_H
#define SY_DEVICE_COUNTS_H

#include "outputs.h"

SY_DEV sy_u32 sy_announced(const struct sy_dev *d, const sy_u32 *heard, sy_u32 source, sy_u32 i)
{
    return heard[source * (SY_COUNT_HEAD + d->local_max) + i];
}

/* Where the words of all sources are, and among a source's those for this rank. */
struct sy_told {
    const sy_u64 *words;
    sy_u32 stride;
    sy_u32 rows;    /* SY_COUNT_ROWS is word number `rows` */
    sy_u32 experts; /* the first expert's is this one      */
};

SY_DEV struct sy_told sy_told_here(const struct sy_dev *d, const sy_u64 *words)
{
    struct sy_told told;
    told.words = words;
    told.stride = SY_COUNT_HEAD + d->local_max;
    told.rows = SY_COUNT_ROWS;
    told.experts = SY_COUNT_HEAD;
    return told;
}

/* Waits for the words of all ranks, checks them and keeps their values in the table. Several warps
 * may share the work. */
SY_DEV int sy_hear(struct sy_ctx *c, const struct sy_op *op, const struct sy_dev_route *r,
                   const struct sy_told *told, sy_u32 check, sy_u32 *heard, sy_u32 worker,
                   sy_u32 workers)
{
    const struct sy_dev *d = op->d;
    sy_u32 stride = SY_COUNT_HEAD + d->local_max, n = SY_COUNT_HEAD + d->local, wrong = 0;
    sy_u32 units = sy_div_up(n, SY_LANES);
    for (sy_u32 u = worker; u < units * (SY_RANKS(d) + SY_PLANT(PAST_RANKS)); u += workers) {
        sy_u32 p = u / units, i = u % units * SY_LANES + c->lane, v = 0;
        sy_u32 at = i >= SY_COUNT_HEAD ? told->experts + i - SY_COUNT_HEAD : i;
        const sy_u64 *word =
            told->words + (sy_u64)p * told->stride + (i == SY_COUNT_ROWS ? told->rows : at);
        if (!sy_wait_word(c, op, i < n ? word : 0, op->epoch, SY_FAULT_COUNT, p, &v))
            return 0;
        if (i >= n)
            continue;
        if (i == SY_COUNT_CHECK && v != check)
            wrong = SY_FAULT_CHECK;
        if (i == SY_COUNT_ROWS && v > r->tokens_limit)
            wrong = SY_FAULT_BYTES;
        if (i >= SY_COUNT_HEAD && v > r->tokens_limit * SY_TOPK(r))
            wrong = SY_FAULT_BYTES;
        if (wrong)
            sy_raise(c, op, sy_missed(d, wrong, p, word));
        heard[p * stride + i] = v;
    }
    return !sy_any(c, wrong != 0);
}

/* How many of `n` places from `first` on lie at or beyond `capacity`. */
SY_DEV sy_u32 sy_beyond(sy_u32 first, sy_u32 n, sy_u32 capacity)
{
    sy_u32 fit = capacity > first ? capacity - first : 0;
    return n > fit ? n - fit : 0;
}

/* What the loops below find besides the tables that they write; per lane, until summed. */
struct sy_found {
    sy_u32 tokens;  /* in all               */
    sy_u32 rows;    /* EXPERT_PACKED: in all */
    sy_u32 largest; /* of a slab             */
    sy_u32 dropped, bad;
};

SY_DEV void sy_counts_by_source(struct sy_ctx *c, const struct sy_dev *d,
                                const struct sy_dev_route *r, const sy_u32 *heard,
                                struct sy_found *f)
{
    sy_s32 *counts = (sy_s32 *)SY_ROUTE_AT(r, source_counts);
    sy_s32 *offsets = (sy_s32 *)SY_ROUTE_AT(r, source_offsets);
    sy_u32 *base = (sy_u32 *)SY_ROUTE_AT(r, recv_base);
    sy_u32 *live = (sy_u32 *)SY_ROUTE_AT(r, live_all), before = 0;
    for (sy_u32 at = 0; at < SY_RANKS(d) + 1; at += SY_LANES) {
        sy_u32 s = at + c->lane, all, sum;
        sy_u32 n = s < SY_RANKS(d) ? sy_announced(d, heard, s, SY_COUNT_ROWS) : 0;
        sum = before + sy_scan(c, n, &all);
        before += all;
        if (s > SY_RANKS(d))
            continue;
        base[s] = r->latency ? s * r->tokens_limit : sum;
        offsets[s] = (sy_s32)(SY_LAYOUT(r) == SY_L_RANK ? s * r->capacity : sum);
        if (s == SY_RANKS(d))
            continue;
        counts[s] = (sy_s32)n;
        live[s] = r->latency ? n : 0; /* throughput: counted with the records */
        f->bad |= sy_announced(d, heard, s, SY_COUNT_BAD);
        if (SY_LAYOUT(r) != SY_L_RANK)
            continue;
        f->largest = n > f->largest ? n : f->largest;
        f->dropped += sy_beyond(0, n, r->capacity);
    }
    f->tokens = before;
}

SY_DEV void sy_counts_by_expert(struct sy_ctx *c, const struct sy_dev *d,
                                const struct sy_dev_route *r, const sy_u32 *heard,
                                struct sy_found *f)
{
    sy_s32 *counts = (sy_s32 *)SY_ROUTE_AT(r, expert_counts);
    sy_s32 *aligned = (sy_s32 *)SY_ROUTE_AT(r, expert_aligned);
    sy_s32 *offsets = (sy_s32 *)SY_ROUTE_AT(r, expert_offsets);
    sy_s32 *begin = (sy_s32 *)SY_ROUTE_AT(r, slab_begin);
    sy_s32 *count = (sy_s32 *)SY_ROUTE_AT(r, slab_count);
    sy_u32 before = 0;
    for (sy_u32 at = 0; at < d->local + 1; at += SY_LANES) {
        sy_u32 e = at + c->lane, n = 0, up, all, sum;
        for (sy_u32 s = 0; e < d->local && s < SY_RANKS(d); s++) {
            sy_u32 m = sy_announced(d, heard, s, SY_COUNT_HEAD + e);
            begin[e * SY_RANKS(d) + s] = (sy_s32)n;
            count[e * SY_RANKS(d) + s] = (sy_s32)m;
            n += m;
        }
        up = sy_div_up(n, r->alignment) * r->alignment;
        sum = before + sy_scan(c, up, &all);
        before += all;
        if (e <= d->local)
            offsets[e] = (sy_s32)(SY_LAYOUT(r) == SY_L_SLABS ? e * r->capacity : sum);
        if (e >= d->local)
            continue;
        counts[e] = (sy_s32)n;
        aligned[e] = (sy_s32)up;
        if (!sy_by_expert(SY_LAYOUT(r)))
            continue;
        f->largest = n > f->largest ? n : f->largest;
        f->dropped += sy_beyond(SY_LAYOUT(r) == SY_L_PACKED ? sum : 0, n, r->capacity);
    }
    f->rows = before;
}

/* Totals as sy_route_info shows them. again: the batch has been counted before, and its bad ids are
 * -1 since. */
SY_DEV void sy_counts_totals(struct sy_ctx *c, const struct sy_dev_route *r, struct sy_found f,
                             int again)
{
    sy_s32 *totals = (sy_s32 *)SY_ROUTE_AT(r, totals);
    sy_u32 rows = sy_max(c, f.largest), dropped = sy_sum(c, f.dropped);
    int bad = sy_any(c, f.bad != 0);
    if (SY_LAYOUT(r) == SY_L_TOKEN) {
        rows = f.tokens;
        dropped = sy_beyond(0, f.tokens, r->capacity);
    } else if (SY_LAYOUT(r) == SY_L_PACKED) {
        rows = f.rows;
    }
    if (c->lane == 0) {
        totals[0] = (sy_s32)f.tokens;
        totals[1] = (sy_s32)rows;
        totals[2] = (sy_s32)dropped;
        totals[3] = dropped != 0;
        totals[4] = bad || (again && totals[4]);
        totals[5] = totals[6] = totals[7] = 0;
    }
}

/* Tells the host of ids out of range: the lowest rank's first. */
SY_DEV void sy_counts_notice(struct sy_ctx *c, const struct sy_dev *d, const struct sy_dev_route *r,
                             const sy_u32 *heard)
{
    struct sy_notice *notice = &d->report->notice;
    sy_u64 seq;
    sy_u32 value;
    if (c->lane)
        return;
    for (sy_u32 s = 0; s < SY_RANKS(d); s++) {
        sy_u32 bad = sy_announced(d, heard, s, SY_COUNT_BAD);
        if (!bad)
            continue;
        seq = notice->seq; /* nobody else writes it */
        value = sy_announced(d, heard, s, SY_COUNT_VALUE);
        sy_put64(&notice->seq, seq + 1);
        sy_fence_publish(c);
        sy_put64(&notice->whose, (sy_u64)((bad - 1) / SY_TOPK(r)) << 32 | s);
        sy_put64(&notice->what, (sy_u64)value << 32 | (bad - 1) % SY_TOPK(r));
        sy_fence_publish(c);
        sy_put64(&notice->seq, seq + 2);
        return;
    }
}

/* All of the above; by one warp. */
SY_DEV void sy_counts(struct sy_ctx *c, const struct sy_dev *d, const struct sy_dev_route *r,
                      const sy_u32 *heard, int again)
{
    struct sy_found f = {0, 0, 0, 0, 0};
    sy_counts_by_source(c, d, r, heard, &f);
    sy_counts_by_expert(c, d, r, heard, &f);
    sy_counts_totals(c, r, f, again);
    if (sy_any(c, f.bad != 0))
        sy_counts_notice(c, d, r, heard);
    sy_warp_sync(c);
}

#endif
