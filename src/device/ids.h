/* ids.h - reading the caller's routing: top-k ids or a boolean map. */
#ifndef SY_DEVICE_IDS_H
#define SY_DEVICE_IDS_H

#include "sync.h"

/* Remembers the lowest selection with an id that is none, or the first expert of a map that is one
 * too many. What 32 bits cannot hold becomes the nearest number that they can. The index is kept
 * inverted: zero is "none" and the largest is the lowest. */
SY_DEV_COLD void sy_bad_id(const struct sy_dev_route *r, sy_u32 flat, sy_s64 value)
{
    sy_s64 most = 0x7fffffff, least = -most - 1;
    value = value > most ? most : value < least ? least : value;
    sy_max64((sy_u64 *)SY_ROUTE_AT(r, bad), (sy_u64)~flat << 32 | (sy_u32)value);
}

/* An id as it stands in the caller's tensor. Per lane. */
SY_DEV sy_s64 sy_raw_id(const struct sy_dev_tensor *t, sy_u32 token, sy_u32 k)
{
    const sy_u8 *at = t->data + (sy_s64)token * t->stride0 + (sy_s64)k * t->stride1;
    return t->wide ? *(const sy_s64 *)at : *(const sy_s32 *)at;
}

/* What is no expert becomes -1 and is remembered. Per lane. */
SY_DEV sy_s32 sy_check_id(const struct sy_dev *d, const struct sy_dev_route *r, sy_s64 id,
                          sy_u32 token, sy_u32 k)
{
    if (id >= -1 && id < (sy_s64)d->experts)
        return (sy_s32)id;
    sy_bad_id(r, token * SY_TOPK(r) + k, id);
    return -1;
}

SY_DEV sy_s32 sy_read_id(const struct sy_dev *d, const struct sy_dev_route *r,
                         const struct sy_dev_tensor *t, sy_u32 token, sy_u32 k)
{
    return sy_check_id(d, r, sy_raw_id(t, token, k), token, k);
}

/* Eight selections of a token, from k on, as they stand there. The loads do not wait for each
 * other. Per lane. */
struct sy_raw_eight {
    sy_s64 id[8];
};

SY_DEV struct sy_raw_eight sy_ask_eight(const struct sy_dev_route *r, const struct sy_dev_tensor *t,
                                        sy_u32 token, sy_u32 k)
{
    struct sy_raw_eight raw;
    SY_UNROLL(8)
    for (sy_u32 i = 0; i < 8; i++)
        raw.id[i] = sy_raw_id(t, token, sy_min_u32(k + i, SY_TOPK(r) - 1));
    return raw;
}

/* The same as experts and their ranks; -1 and ~0: none. */
struct sy_eight {
    sy_s32 id[8];
    sy_u32 rank[8];
};

SY_DEV struct sy_eight sy_eight_of(const struct sy_dev *d, const struct sy_dev_route *r,
                                   const struct sy_raw_eight *raw, sy_u32 token, sy_u32 k)
{
    struct sy_eight e;
    SY_UNROLL(8)
    for (sy_u32 i = 0; i < 8; i++) {
        e.id[i] = k + i < SY_TOPK(r) ? sy_check_id(d, r, raw->id[i], token, k + i) : -1;
        e.rank[i] = e.id[i] >= 0 ? sy_owner(d, e.id[i]) : ~0u;
    }
    return e;
}

/* The same from a map: the experts that are set, ascending, then -1. */
SY_DEV void sy_read_map(struct sy_ctx *c, const struct sy_dev *d, const struct sy_dev_route *r,
                        const struct sy_dev_tensor *t, sy_u32 token, sy_s32 *ids)
{
    sy_u32 topk = SY_TOPK(r);
    const sy_u8 *row = t->data + (sy_s64)token * t->stride0;
    sy_u32 found = 0, turns = sy_div_up(d->experts, SY_LANES);
    for (sy_u32 turn = 0; turn < turns; turn++) {
        sy_u32 e = turn * SY_LANES + c->lane, more;
        sy_u32 set = e < d->experts && row[(sy_s64)e * t->stride1] != 0;
        sy_u32 at = found + sy_scan(c, set, &more);
        if (set && at < topk)
            ids[at] = (sy_s32)e;
        else if (set && at == topk)
            sy_bad_id(r, token * topk, (sy_s64)e);
        found += more;
    }
    for (sy_u32 k = found + c->lane; k < topk; k += SY_LANES)
        ids[k] = -1;
}

#endif
