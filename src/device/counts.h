/* counts.h - from what all sources announced to the counts that sy_route_info shows; both modes.
 *
 * `words` are announcements of all sources (records.h, SY_COUNT_...), checked before. */
#ifndef SY_DEVICE_COUNTS_H
#define SY_DEVICE_COUNTS_H

#include "outputs.h"

SY_DEV sy_u32 sy_announced(const struct sy_dev *d, const sy_u64 *words, sy_u32 source, sy_u32 i)
{
    return (sy_u32)sy_peek64(words + (sy_u64)source * (SY_COUNT_HEAD + d->local_max) + i);
}

SY_DEV void sy_counts_by_source(struct sy_ctx *c, const struct sy_dev *d,
                                const struct sy_dev_route *r, const sy_u64 *words)
{
    sy_s32 *counts = (sy_s32 *)SY_ROUTE_AT(r, source_counts);
    sy_s32 *offsets = (sy_s32 *)SY_ROUTE_AT(r, source_offsets);
    sy_u32 *base = (sy_u32 *)SY_ROUTE_AT(r, recv_base);
    sy_u32 *live = (sy_u32 *)SY_ROUTE_AT(r, live_all), before = 0;
    for (sy_u32 at = 0; at < d->ranks + 1; at += SY_LANES) {
        sy_u32 s = at + c->lane, all, sum;
        sy_u32 n = s < d->ranks ? sy_announced(d, words, s, SY_COUNT_ROWS) : 0;
        sum = before + sy_scan(c, n, &all);
        before += all;
        if (s > d->ranks)
            continue;
        base[s] = r->latency ? s * r->tokens_limit : sum;
        offsets[s] = (sy_s32)(r->layout == SY_L_RANK ? s * r->capacity : sum);
        if (s < d->ranks) {
            counts[s] = (sy_s32)n;
            live[s] = r->latency ? n : 0; /* throughput: counted with the records */
        }
    }
}

SY_DEV void sy_counts_by_expert(struct sy_ctx *c, const struct sy_dev *d,
                                const struct sy_dev_route *r, const sy_u64 *words)
{
    sy_s32 *counts = (sy_s32 *)SY_ROUTE_AT(r, expert_counts);
    sy_s32 *aligned = (sy_s32 *)SY_ROUTE_AT(r, expert_aligned);
    sy_s32 *offsets = (sy_s32 *)SY_ROUTE_AT(r, expert_offsets);
    sy_s32 *begin = (sy_s32 *)SY_ROUTE_AT(r, slab_begin);
    sy_s32 *count = (sy_s32 *)SY_ROUTE_AT(r, slab_count);
    sy_u32 before = 0;
    for (sy_u32 at = 0; at < d->local + 1; at += SY_LANES) {
        sy_u32 e = at + c->lane, n = 0, up, all, sum;
        for (sy_u32 s = 0; e < d->local && s < d->ranks; s++) {
            sy_u32 m = sy_announced(d, words, s, SY_COUNT_HEAD + e);
            begin[e * d->ranks + s] = (sy_s32)n;
            count[e * d->ranks + s] = (sy_s32)m;
            n += m;
        }
        up = sy_div_up(n, r->alignment) * r->alignment;
        sum = before + sy_scan(c, up, &all);
        before += all;
        if (e <= d->local)
            offsets[e] = (sy_s32)(r->layout == SY_L_SLABS ? e * r->capacity : sum);
        if (e < d->local) {
            counts[e] = (sy_s32)n;
            aligned[e] = (sy_s32)up;
        }
    }
}

/* How many of `n` places from `first` on lie at or beyond `capacity`. */
SY_DEV sy_u32 sy_beyond(sy_u32 first, sy_u32 n, sy_u32 capacity)
{
    sy_u32 fit = capacity > first ? capacity - first : 0;
    return n > fit ? n - fit : 0;
}

/* Totals: [0] tokens, [1] rows that would fit everything, [2] dropped, [3] overflow, [4] bad. */
SY_DEV void sy_counts_totals(struct sy_ctx *c, const struct sy_dev *d, const struct sy_dev_route *r,
                             const sy_u64 *words)
{
    const sy_s32 *experts = (const sy_s32 *)SY_ROUTE_AT(r, expert_counts);
    const sy_s32 *offsets = (const sy_s32 *)SY_ROUTE_AT(r, expert_offsets);
    const sy_s32 *sources = (const sy_s32 *)SY_ROUTE_AT(r, source_counts);
    sy_s32 *totals = (sy_s32 *)SY_ROUTE_AT(r, totals);
    sy_u32 tokens = 0, largest = 0, dropped = 0, bad = 0, rows;
    SY_FOR (s, c, d->ranks) {
        sy_u32 n = (sy_u32)sources[s];
        tokens += n;
        bad |= sy_announced(d, words, s, SY_COUNT_BAD);
        if (r->layout == SY_L_RANK) {
            largest = n > largest ? n : largest;
            dropped += sy_beyond(0, n, r->capacity);
        }
    }
    SY_FOR (e, c, sy_by_expert(r->layout) ? d->local : 0) {
        sy_u32 n = (sy_u32)experts[e];
        largest = n > largest ? n : largest;
        dropped += sy_beyond(r->layout == SY_L_PACKED ? (sy_u32)offsets[e] : 0, n, r->capacity);
    }
    tokens = sy_sum(c, tokens);
    rows = sy_max(c, largest);
    dropped = sy_sum(c, dropped);
    bad = (sy_u32)sy_any(c, bad != 0);
    if (r->layout == SY_L_TOKEN) {
        rows = tokens;
        dropped = sy_beyond(0, tokens, r->capacity);
    } else if (r->layout == SY_L_PACKED) {
        rows = (sy_u32)offsets[d->local];
    }
    if (c->lane == 0) {
        totals[0] = (sy_s32)tokens;
        totals[1] = (sy_s32)rows;
        totals[2] = (sy_s32)dropped;
        totals[3] = dropped != 0;
        totals[4] = (sy_s32)bad;
        totals[5] = totals[6] = totals[7] = 0;
    }
}

/* Tells the host of ids out of range: the lowest rank's first. */
SY_DEV void sy_counts_notice(struct sy_ctx *c, const struct sy_dev *d, const struct sy_dev_route *r,
                             const sy_u64 *words)
{
    struct sy_notice *notice = (struct sy_notice *)SY_MINE(d, notice);
    if (c->lane)
        return;
    for (sy_u32 s = 0; s < d->ranks; s++) {
        sy_u32 bad = sy_announced(d, words, s, SY_COUNT_BAD);
        if (!bad)
            continue;
        notice->rank = s;
        notice->token = (bad - 1) / r->topk;
        notice->slot = (bad - 1) % r->topk;
        notice->value = sy_announced(d, words, s, SY_COUNT_VALUE);
        sy_fence_publish(c);
        sy_put64(&notice->seq, notice->seq + 1);
        return;
    }
}

/* All of the above; by one warp. */
SY_DEV void sy_counts(struct sy_ctx *c, const struct sy_dev *d, const struct sy_dev_route *r,
                      const sy_u64 *words)
{
    sy_counts_by_source(c, d, r, words);
    sy_counts_by_expert(c, d, r, words);
    sy_warp_sync(c);
    sy_counts_totals(c, d, r, words);
    sy_counts_notice(c, d, r, words);
    sy_warp_sync(c);
}

#endif
