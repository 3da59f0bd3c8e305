/* tune.c - see tune.h. The figures for GPUs are those of docs/performance.md. */
#include "tune.h"

#include <string.h>

/* A chunk of the route kernel is a multiple of this; units are equal parts of it (layout/shape.h,
 * SY_ROUTE_UNIT). */
#define ROUTE_UNIT 32u

/* With so many blocks one can be spared in routing, to do nothing but talk to the peers. */
#define TALKER_BLOCKS 4u

/* A store of 2 to 7 KB keeps the links even; larger ones queue up (GPU). A combine's pusher has one
 * store per row where a dispatch has several, and issuing them takes its time. */
#define PIECE_BYTES 4096u
#define COMBINE_PIECE_BYTES 8192u

/* What a pusher of a combine by token offers the links with stores of so many bytes at most, in
 * 10^9 bytes a second (H200, rows of 14336 bytes). */
static const struct {
    uint32_t piece_bytes;
    double gbps;
} offers[] = {{2048, 7.4}, {4096, 9.2}, {COMBINE_PIECE_BYTES, 11}};

/* A combine by expert: pushing warps, the stages of each, and what it sums at a time, by the terms
 * that a row has on average (GPU, with 32 SMs; docs/device.md). A stage per term, or rows are
 * summed where they lie; the fewer terms, the more there is for finishers to do. */
static const struct {
    double terms; /* fewer than that */
    uint32_t pushers, stages, part_bytes;
} by_terms[] = {{1.9, 5, 3, 14336}, {3, 7, 4, 8192}, {6, 9, 6, 4096}, {1e9, 7, 8, 4096}};

/* Pushing warps that quantise, and what each does at a time at most: while blocks are few; where
 * finishers copy rows, which want memory and warps, too; and with many blocks (GPU). */
static const struct quantising {
    uint32_t pushers, part_bytes;
} quant_few = {10, 3584}, quant_by_expert = {6, 3584}, quant_many = {5, 7168};

/* Parts of rows that are not quantised are multiples of this. */
#define PART_UNIT 128u

/* What a pushing warp stores at a time at most, where finishers copy rows (GPU). */
#define BY_EXPERT_PART_BYTES 7168u

/* With fewer rows for each pushing warp than this, smaller parts, and no pace (GPU). */
#define ROWS_PER_PUSHER 4u

/* What a pushing warp sums at a time in latency mode, where a row should have as many pushers as
 * are free: no less than this, and no more parts than give each of so many warps one (GPU). On the
 * CPU two parts of what is not tiny, for threads to share. */
#define LATENCY_SUM_BYTES 3584u
#define LATENCY_PUSHERS 924.0
#define LATENCY_CPU_BYTES 256u

/* What a finishing warp of a combine takes at a time: in latency mode one block of columns of all
 * its lanes, for there are warps enough; else more, as every job costs something, and most if each
 * has many jobs (GPU). */
#define SPLIT_BYTES 7168u
#define LARGE_SPLIT_BYTES 14336u
#define JOBS_PER_FINISHER 8u
#define LATENCY_SPLIT_BYTES 2048u
#define SPLIT_UNIT 512u

/* Where a finishing warp has slots: what it loads at a time, how many slots it wants to begin at
 * all, and the most that it gets of the shared memory that is left (GPU). */
#define SLOT_BYTES 3584u
#define SLOTS_LEAST 4u
#define SLOTS_MOST 32u
#define STEPS 8u

/* Into how many parts finishers cut a chunk of rows that they copy: a warp should have several, for
 * the last ones to end together (GPU). A power of two; ranks need not agree. */
#define COPIED_SPLITS 16u

/* The least slot that is worth copying rows by (GPU). */
#define COPIER_LEAST 1024u

/* Blocks. Fewer than FEW want all the pushing warps that there is memory for, from MANY on one each
 * suffices, and more than ENOUGH gain nothing. From BUSY on a combine's lanes keep enough loads in
 * flight by themselves, and bulk loads only crowd the links; of so few ranks that half of all rows
 * are the own they do not before there are MANY (2 and 4 GPUs; of three nothing is known). From
 * ALONE on one pusher of a combine each offers as much as the links carry. */
#define FEW_RANKS 2u
#define FEW_BLOCKS 12u
#define BUSY_BLOCKS 24u
#define ALONE_BLOCKS 32u
#define MANY_BLOCKS 48u
#define ENOUGH_BLOCKS 64u

/* So many bytes over the links for the own sums, which stand for those of any rank, are worth
 * pushing what could be fetched (GPU). */
#define PUSHED_BYTES 122e6

/* Bytes that pushers of a dispatch should have on their way, all of a rank and those of an SM at
 * most, and how many pushers there may be (GPU). */
#define ON_THE_WAY 0.9e6
#define ON_THE_WAY_OF_SM 88e3
#define PUSHERS_MOST 8u

/* Warps of a block, as far as registers allow (GPU). */
#define DISPATCH_WARPS 16u
#define COMBINE_WARPS 15u

static uint32_t up(uint32_t n, uint32_t unit)
{
    return (n + unit - 1) / unit * unit;
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* Roles of a GPU block, and of a CPU block, whose only lane does the work of all. */
static void roles(const struct sy_machine *m, const struct sy_work *w, struct sy_shape *s)
{
    int wide = m->lanes > 1;
    memset(s, 0, sizeof *s);
    s->pushers = wide ? 4 : 1;
    s->signallers = w->latency ? 0 : 1;
    s->finishers = wide ? 4 : 1;
    s->stages = wide ? 6 : 3;
    s->splits = 1;
}

/* What pushers store faster than the links take it queues up, and whatever else their SM stores
 * stands behind it: they keep to the rate that the caller has asked for. Not where they are too few
 * to get there, nor where it was found to cost time (GPU). */
static int paced(const struct sy_machine *m, const struct sy_work *w, uint32_t blocks, int combine)
{
    uint32_t enough = !combine ? FEW_BLOCKS : w->by_expert ? MANY_BLOCKS : BUSY_BLOCKS;
    return m->pace && m->lanes > 1 && !w->latency && blocks >= enough;
}

/* Few rows hardly queue: those of this rank stand for what a rank has. */
static void keep_pace(const struct sy_machine *m, const struct sy_work *w, struct sy_cut *cut)
{
    double pushers = (double)cut->blocks * cut->shape.pushers, ns;
    if (w->tokens < ROWS_PER_PUSHER * pushers)
        return;
    ns = pushers * 1024 / m->pace * (w->row_bytes + w->side_bytes) / w->row_bytes;
    cut->shape.pace = ns < UINT32_MAX / 16 ? (uint32_t)(ns * 16) : UINT32_MAX;
}

static uint32_t busy_blocks(const struct sy_work *w)
{
    return w->ranks <= FEW_RANKS ? MANY_BLOCKS : BUSY_BLOCKS;
}

static struct sy_by by_of(uint32_t n)
{
    struct sy_by by = {0, 31};
    while (n > 1u << (by.shift - 31))
        by.shift++;
    by.scale = (uint32_t)((((uint64_t)1 << by.shift) + n - 1) / n);
    return by;
}

/* Rows are cut for whole operations, so that halves and ranks agree on parts; then the roles that
 * this launch does not have go. */
static void only_needed(const struct sy_work *w, struct sy_cut *cut)
{
    struct sy_shape *s = &cut->shape;
    if (!w->receive)
        s->finishers = 0;
    if (!w->send || w->pull)
        s->pushers = s->signallers = 0;
    if (s->pushers + s->signallers + s->finishers == 0)
        s->signallers = 1; /* someone must begin the operation */
    cut->warps = s->pushers + s->signallers + s->finishers;
    s->by_stages = by_of(s->stages);
    s->by_parts = by_of(s->parts);
    s->by_splits = by_of(s->splits);
}

/* Rows that go to their places as they are, are cut when there are more pushing warps than tokens,
 * and not for anything less: a part costs its warp a microsecond and more, whatever its size (GPU).
 */
static uint32_t parts_wanted(const struct sy_work *w, uint64_t warps)
{
    uint64_t tokens = w->tokens_most, parts = tokens ? (warps + tokens - 1) / tokens : 1;
    uint32_t most = (w->row_bytes + PIECE_BYTES - 1) / PIECE_BYTES;
    return parts < most ? (uint32_t)parts : most;
}

/* Cuts rows into as many parts as the shape says, or into more until the stages of all pushers fit;
 * fewer stages, then pushers, before that. */
static sy_status fit_stages(const struct sy_machine *m, const struct sy_work *w, struct sy_cut *cut,
                            uint32_t fan, uint32_t side_bytes, uint32_t parts_max, uint64_t behind)
{
    struct sy_shape *s = &cut->shape;
    uint32_t wide = w->quant ? 2u : 1u; /* BF16 in */
    uint32_t unit = w->quant ? SY_Q_UNIT(w->quant) : PART_UNIT;
    s->parts = least(s->parts, parts_max);
    for (;;) {
        s->part_bytes = up((w->row_bytes + s->parts - 1) / s->parts, s->parts == 1 ? 16 : unit);
        s->parts = (w->row_bytes + s->part_bytes - 1) / s->part_bytes;
        s->stage_bytes = SY_STAGE_BYTES(fan, side_bytes, wide * s->part_bytes);
        cut->shared_bytes =
            SY_SH_BYTES((uint64_t)w->ranks, s->pushers, s->stages, s->stage_bytes) + behind;
        if (cut->shared_bytes <= m->shared_max)
            return SY_OK;
        if (s->stages > 3)
            s->stages--;
        else if (s->pushers > 2)
            s->pushers--;
        else if (s->parts * 2 <= parts_max && s->part_bytes > (unit > 1024 ? unit : 1024))
            s->parts *= 2;
        else if (s->pushers > 1)
            s->pushers = 1;
        else
            return sy_fail(SY_UNSUPPORTED,
                           "a block has %llu bytes of shared memory, and a row of %u bytes for %u "
                           "destinations wants %llu",
                           (unsigned long long)m->shared_max, w->row_bytes, fan,
                           (unsigned long long)cut->shared_bytes);
    }
}

static void pieces(const struct sy_machine *m, struct sy_shape *s, uint32_t bytes)
{
    uint32_t n = (s->part_bytes + bytes - 1) / bytes;
    s->piece_bytes = m->lanes > 1 ? up((s->part_bytes + n - 1) / n, 16) : s->part_bytes;
}

/* Ranks that a token goes to, if the routing is even. */
static double ranks_of_token(const struct sy_work *w)
{
    double missed = 1;
    for (uint32_t k = 0; k < w->topk && missed > 1e-3; k++)
        missed *= 1 - 1.0 / w->ranks;
    return w->ranks * (1 - missed);
}

/* Rows that come to a rank, then, if all have as many tokens as any. */
static double rows_expected(const struct sy_work *w)
{
    return w->tokens_most * ranks_of_token(w);
}

/* Few pushers reach what an SM can store, and one each suffices once there are many blocks; but an
 * item takes almost two microseconds on its way however small it is, and enough of them must be on
 * it. Finishers that copy rows want the warps more, and their stores stand behind those that the
 * links do not take yet: one pusher suffices as soon as the links are busy (4 GPUs, 32 SMs: 530 us
 * packed, with two 585; FP8 297, 363). The same on all ranks (GPU). */
static uint32_t dispatch_pushers(const struct sy_work *w, uint32_t blocks)
{
    uint32_t pushers = blocks < FEW_BLOCKS                                      ? 5
                       : blocks < BUSY_BLOCKS                                   ? 3
                       : blocks < (w->by_expert ? busy_blocks(w) : MANY_BLOCKS) ? 2
                                                                                : 1;
    double item = ranks_of_token(w) * w->row_bytes + 1;
    double wanted = ON_THE_WAY / item / blocks + 1, most = ON_THE_WAY_OF_SM / item;
    uint32_t more = (uint32_t)(wanted < most ? wanted : most);
    more = least(more, PUSHERS_MOST);
    return w->by_expert || more < pushers ? pushers : more;
}

/* Quantising takes longer than all else that is done with a row: as many warps as registers allow,
 * and parts of rows so that their stages fit, until there are blocks enough. Rows that are copied
 * want memory for that as well; of slabs 325 us in parts, 360 whole, packed 362 and 356 (GPU). */
static void dispatch_parts(const struct sy_work *w, struct sy_shape *s, uint32_t blocks)
{
    const struct quantising *q = w->by_expert              ? &quant_by_expert
                                 : blocks < busy_blocks(w) ? &quant_few
                                                           : &quant_many;
    uint32_t wanted, least_parts = 1;
    if (w->quant) {
        s->pushers = q->pushers;
        s->stages = 3;
        s->parts = (w->row_bytes + q->part_bytes - 1) / q->part_bytes;
        return;
    }
    if (w->by_expert)
        least_parts = (w->row_bytes + BY_EXPERT_PART_BYTES - 1) / BY_EXPERT_PART_BYTES;
    wanted = parts_wanted(w, (uint64_t)blocks * s->pushers);
    s->parts = wanted > least_parts ? wanted : least_parts;
}

static void dispatch_roles(const struct sy_machine *m, const struct sy_work *w, struct sy_shape *s,
                           uint32_t blocks)
{
    roles(m, w, s);
    s->parts = 1;
    if (m->lanes == 1)
        return;
    s->pushers = dispatch_pushers(w, blocks);
    s->stages = 4;
    dispatch_parts(w, s, blocks);
    s->splits = w->copies ? COPIED_SPLITS : 4;
}

/* Gives the finishers slots to copy rows by, of what shared memory is left. Ranks may differ: what
 * they must agree on does not depend on it. */
static void add_copiers(const struct sy_machine *m, const struct sy_work *w, struct sy_cut *cut)
{
    struct sy_shape *s = &cut->shape;
    uint64_t all = (m->shared_max - cut->shared_bytes) / s->finishers;
    uint64_t left = all / SY_COPIER_SLOTS / 128u * 128u; /* of a slot */
    uint64_t want = SY_COPIER_HEAD(w->topk) + (uint64_t)up(w->row_bytes, 128);
    if (!m->bulk || !w->copies || !w->receive || left < SY_COPIER_HEAD(w->topk) + COPIER_LEAST)
        return;
    s->copier_bytes = SY_COPIER_SLOTS * (uint32_t)(left < want ? left : want);
    cut->shared_bytes += (uint64_t)s->finishers * s->copier_bytes;
}

sy_status sy_cut_tdispatch(const struct sy_machine *m, const struct sy_work *w, struct sy_cut *cut)
{
    struct sy_shape *s = &cut->shape;
    cut->blocks = m->lanes > 1 && !w->quant ? least(m->blocks_max, ENOUGH_BLOCKS) : m->blocks_max;
    dispatch_roles(m, w, s, cut->blocks);
    SY_TRY(fit_stages(m, w, cut, w->fan, w->side_bytes, SY_PARTS_MAX, 0));
    if (m->lanes > 1) /* the warps that are left */
        s->finishers = w->outputs ? DISPATCH_WARPS - s->signallers - s->pushers : 2;
    pieces(m, s, PIECE_BYTES);
    if (paced(m, w, cut->blocks, 0))
        keep_pace(m, w, cut);
    add_copiers(m, w, cut);
    only_needed(w, cut);
    return SY_OK;
}

sy_status sy_cut_ldispatch(const struct sy_machine *m, const struct sy_work *w, struct sy_cut *cut)
{
    int copies = m->bulk && w->copies;
    memset(&cut->shape, 0, sizeof cut->shape);
    cut->shape.parts = 1;
    cut->shape.part_bytes = cut->shape.piece_bytes = w->row_bytes;
    cut->warps = m->lanes > 1 ? DISPATCH_WARPS : 1;
    cut->shape.finishers = copies ? DISPATCH_WARPS / 2 : cut->warps;
    cut->blocks = m->lanes > 1 ? least(w->tokens + 1, m->blocks_max) : m->blocks_max;
    if (copies && w->receive)
        cut->blocks = m->blocks_max; /* all of them copy */
    cut->shared_bytes = SY_LD_SH_BYTES((uint64_t)w->ranks, w->experts, w->local_max, w->topk,
                                       w->fan, w->tail_bytes, w->row_bytes);
    if (cut->shared_bytes > m->shared_max)
        return sy_fail(SY_UNSUPPORTED,
                       "latency mode: a block has %llu bytes of shared memory, a row of %u bytes "
                       "and counters for %u experts want %llu",
                       (unsigned long long)m->shared_max, w->row_bytes, w->experts,
                       (unsigned long long)cut->shared_bytes);
    add_copiers(m, w, cut);
    return SY_OK;
}

/* Latency mode: into how many parts is a row cut that its holder sums? The same on all ranks. */
static uint32_t latency_parts(const struct sy_machine *m, const struct sy_work *w)
{
    double parts = LATENCY_PUSHERS / rows_expected(w);
    uint32_t most = w->row_bytes / LATENCY_SUM_BYTES;
    if (!w->by_expert)
        return 1;
    if (m->lanes == 1)
        return w->row_bytes >= LATENCY_CPU_BYTES ? 2 : 1;
    return most < 1 || !(parts > 1) ? 1 : parts < most ? (uint32_t)parts : most;
}

/* The same on all ranks. */
static void expert_roles(const struct sy_work *w, struct sy_shape *s, uint32_t blocks)
{
    double rows = rows_expected(w), terms = rows > 0 ? w->tokens_most * (double)w->topk / rows : 0;
    double enough = ROWS_PER_PUSHER * by_terms[0].pushers * (double)blocks;
    int i = rows < enough ? 1 : 0;
    while (terms >= by_terms[i].terms)
        i++;
    s->pushers = by_terms[i].pushers;
    s->stages = by_terms[i].stages;
    s->parts = (w->row_bytes + by_terms[i].part_bytes - 1) / by_terms[i].part_bytes;
}

/* Equal ones, in whole turns of a warp's lanes: each finisher may have the same split of every row.
 */
static void even_splits(const struct sy_work *w, struct sy_shape *s)
{
    uint32_t n = (w->row_bytes + s->split_bytes - 1) / s->split_bytes;
    s->split_bytes = s->slot_bytes = up((w->row_bytes + n - 1) / n, SPLIT_UNIT);
    s->splits = (w->row_bytes + s->split_bytes - 1) / s->split_bytes;
}

/* Do stores of rows go straight to the links, of which it is known what they carry? */
static int offers_links(const struct sy_machine *m, const struct sy_work *w, uint32_t blocks)
{
    return m->links && m->bulk && !w->latency && !w->by_expert && !paced(m, w, blocks, 1);
}

/* The smallest stores by which the pushers still offer what the links carry: what is more than that
 * queues up, and costs (4 GPUs: 24 SMs 642 us, so 509; 48 SMs 519, 488). Rows that are summed
 * before they leave are seldom too many. */
static uint32_t combine_piece(const struct sy_machine *m, const struct sy_work *w,
                              const struct sy_cut *cut)
{
    double pushers = (double)cut->blocks * cut->shape.pushers;
    size_t i = 0, last = sizeof offers / sizeof *offers - 1;
    if (!offers_links(m, w, cut->blocks))
        return COMBINE_PIECE_BYTES;
    while (i < last && pushers * offers[i].gbps < m->links)
        i++;
    return offers[i].piece_bytes;
}

/* Pushing takes a few warps that never wait, unless they have to sum; summing many loads in flight,
 * by many warps (GPU). */
static void combine_roles(const struct sy_machine *m, const struct sy_work *w, struct sy_shape *s,
                          uint32_t blocks)
{
    roles(m, w, s);
    s->splits = s->steps = 1;
    s->split_bytes = s->slot_bytes = up(w->row_bytes, 16);
    s->parts = w->latency ? latency_parts(m, w) : s->parts;
    if (m->lanes == 1)
        return;
    s->gather = m->bulk;
    s->pushers = blocks < (offers_links(m, w, blocks) ? ALONE_BLOCKS : MANY_BLOCKS) ? 2 : 1;
    s->stages = 4;
    s->split_bytes = w->latency ? LATENCY_SPLIT_BYTES : SPLIT_BYTES;
    if (m->bulk && w->latency) {
        s->pushers = s->parts > 1 ? 7 : 4;
        s->stages = s->parts > 1 ? 8 : 3;
    } else if (m->bulk && w->by_expert) {
        expert_roles(w, s, blocks);
    }
    s->finishers = least(COMBINE_WARPS - s->signallers - s->pushers, 12);
    if (w->by_expert && !w->latency && w->tokens >= JOBS_PER_FINISHER * blocks * s->finishers)
        s->split_bytes = LARGE_SPLIT_BYTES;
    even_splits(w, s);
}

static uint64_t finishers_bytes(const struct sy_work *w, const struct sy_shape *s)
{
    return s->finishers *
           SY_FINISHER_BYTES((uint64_t)s->steps, w->topk, (uint64_t)s->slots, s->slot_bytes);
}

/* This rank's rows are fetched: nothing is pushed here, and the memory of the stages is free. What
 * other ranks must agree on stays. While blocks are few, sums are read ahead by bulk loads into
 * slots, of as much memory as there is: rows that were pushed lie near, and pushing needs the
 * memory more (GPU). */
static void only_finishers(const struct sy_machine *m, const struct sy_work *w, struct sy_cut *cut)
{
    struct sy_shape *s = &cut->shape;
    s->pushers = s->signallers = 0;
    if (m->bulk && !w->latency && cut->blocks < busy_blocks(w)) {
        s->slots = SLOTS_LEAST;
        s->steps = w->topk <= 16 ? STEPS : 2;
        s->split_bytes = up((w->row_bytes + 1) / 2, 128);
        s->slot_bytes = least(SLOT_BYTES, s->split_bytes);
        s->splits = (w->row_bytes + s->split_bytes - 1) / s->split_bytes;
    }
    s->finishers = COMBINE_WARPS + 1;
    do {
        s->finishers--;
        cut->shared_bytes =
            SY_SH_BYTES((uint64_t)w->ranks, 0, s->stages, s->stage_bytes) + finishers_bytes(w, s);
    } while (s->finishers > 1 && cut->shared_bytes > m->shared_max);
    while (s->slots && s->slots < SLOTS_MOST &&
           cut->shared_bytes + (uint64_t)s->finishers * s->slot_bytes <= m->shared_max) {
        cut->shared_bytes += (uint64_t)s->finishers * s->slot_bytes;
        s->slots++;
    }
}

sy_status sy_cut_combine(const struct sy_machine *m, const struct sy_work *w, struct sy_cut *cut)
{
    struct sy_shape *s = &cut->shape;
    int all = m->lanes == 1 || w->latency || w->by_expert;
    cut->blocks = all ? m->blocks_max : least(m->blocks_max, ENOUGH_BLOCKS);
    combine_roles(m, w, s, cut->blocks);
    s->parts = s->parts ? s->parts : 1;
    SY_TRY(fit_stages(m, w, cut, SY_C_FAN(w->topk), 0, SY_PARTS_MAX, finishers_bytes(w, s)));
    pieces(m, s, combine_piece(m, w, cut));
    if (paced(m, w, cut->blocks, 1))
        keep_pace(m, w, cut);
    if (w->pull && m->lanes > 1)
        only_finishers(m, w, cut);
    only_needed(w, cut);
    return SY_OK;
}

/* By expert a row per selection crosses the links if the sources fetch, a row per rank if the
 * holders sum. By token it is a row per rank either way, and what is pushed is written and read
 * once more. But links carry more stores than loads: with blocks enough to offer them these, and
 * bytes enough for the difference to count, rows are pushed, unless as many stay at home as leave
 * (64 SMs, 4096 tokens: on 4 GPUs 481 us, fetched 492; on 2 GPUs 238 and 188), or there are few (4
 * GPUs: top-6 447 and 452 us, top-4 387 and 382, top-1 202 and 162). */
int sy_combine_fetches(const struct sy_machine *m, const struct sy_work *w)
{
    int offered = paced(m, w, m->blocks_max, 1) ||
                  (offers_links(m, w, m->blocks_max) && m->blocks_max >= ALONE_BLOCKS);
    double leaving = w->tokens * ranks_of_token(w) * (1 - 1.0 / w->ranks) * w->row_bytes;
    int push = offered && m->bulk && w->ranks > FEW_RANKS && leaving >= PUSHED_BYTES;
    return m->lanes == 1 || (!w->by_expert && !push);
}

uint64_t sy_route_chunks_max(const struct sy_machine *m, uint64_t tokens_max)
{
    uint64_t chunks = (tokens_max + ROUTE_UNIT - 1) / ROUTE_UNIT;
    return chunks < 1 ? 1 : chunks < m->blocks_max ? chunks : m->blocks_max;
}

/* A block per unit, until there are no more blocks, and one that has none. A lane per selection, if
 * K is 8 (GPU). */
sy_status sy_cut_route(const struct sy_machine *m, const struct sy_work *w, struct sy_cut *cut,
                       uint32_t *chunk_tokens, uint32_t *chunks)
{
    uint32_t units = (w->tokens + ROUTE_UNIT - 1) / ROUTE_UNIT;
    int talker = m->blocks_max >= TALKER_BLOCKS && (units > 1 || m->lanes > 1);
    uint32_t most = m->blocks_max - (talker ? 1 : 0);
    cut->warps = m->lanes > 1 ? 8 : 1;
    cut->shared_bytes = SY_ROUTE_SH_BYTES((uint64_t)w->ranks, w->experts, w->local_max, w->topk);
    if (cut->shared_bytes > m->shared_max)
        return sy_fail(SY_UNSUPPORTED,
                       "counters of %u ranks and %u experts, and %u ids per token, do not fit a "
                       "block",
                       w->ranks, w->experts, w->topk);
    *chunk_tokens = units ? (units + most - 1) / most * ROUTE_UNIT : ROUTE_UNIT;
    *chunks = units ? (w->tokens + *chunk_tokens - 1) / *chunk_tokens : 1;
    cut->blocks = *chunks + (talker ? 1 : 0);
    return SY_OK;
}

sy_status sy_shared_bytes_max(const struct sy_machine *m, const struct sy_limits *limits,
                              uint32_t modes, uint64_t *bytes)
{
    struct sy_work w = {.ranks = (uint32_t)limits->ranks,
                        .experts = (uint32_t)limits->experts,
                        .local_max = (uint32_t)limits->local_max,
                        .topk = (uint32_t)limits->topk_max,
                        .fan = (uint32_t)limits->fan_max,
                        .row_bytes = (uint32_t)limits->row_bytes_max,
                        .side_bytes = (uint32_t)limits->side_bytes_max,
                        .tail_bytes = (uint32_t)limits->tail_bytes_max,
                        .tokens = (uint32_t)limits->tokens_max,
                        .tokens_most = (uint32_t)limits->tokens_max,
                        .send = 1,
                        .receive = 1};
    struct sy_cut cut;
    uint32_t chunk_tokens, chunks;
    uint64_t most = 0;
    SY_TRY(sy_cut_route(m, &w, &cut, &chunk_tokens, &chunks));
    most = cut.shared_bytes;
    w.outputs = w.copies = 1;
    for (uint32_t kind = 0; kind < 4; kind++) {
        w.by_expert = kind & 1u;
        w.pull = kind >> 1;
        SY_TRY(sy_cut_combine(m, &w, &cut));
        most = cut.shared_bytes > most ? cut.shared_bytes : most;
    }
    w.pull = 0;
    if (modes & SY_THROUGHPUT) {
        SY_TRY(sy_cut_tdispatch(m, &w, &cut));
        most = cut.shared_bytes > most ? cut.shared_bytes : most;
        /* The largest quantised row: its BF16 source is as large as rows may be. */
        w.quant = 1;
        w.row_bytes = w.row_bytes / 2 ? w.row_bytes / 2 : 16;
        if (sy_cut_tdispatch(m, &w, &cut) == SY_OK)
            most = cut.shared_bytes > most ? cut.shared_bytes : most;
        w.quant = 0;
        w.row_bytes = (uint32_t)limits->row_bytes_max;
    }
    if (modes & SY_LATENCY) {
        w.latency = 1;
        w.by_expert = 0; /* rows in one part */
        SY_TRY(sy_cut_ldispatch(m, &w, &cut));
        most = cut.shared_bytes > most ? cut.shared_bytes : most;
        SY_TRY(sy_cut_combine(m, &w, &cut));
        most = cut.shared_bytes > most ? cut.shared_bytes : most;
    }
    *bytes = most;
    return SY_OK;
}
