/* rules.c - what device code may do to heaps, from the reference and the meaning of each region
 * (layout/heap.def), not from the code that does it.
 *
 *   writes   only by who owns the bytes in this round: sim_rule_write()
 *   reads    of data only what this round wrote: sim_rule_read()
 *   words    epochs and signals only grow: sim_rule_word()
 *   rest     after a round everything is as before it, but for counters: sim_rules_clean() */
#include <string.h>

#include "engine.h"
#include "scenario.h"
#include "sim_prims.h"
#include "world.h"

enum region {
#define SY_REGION(name, type, count, meaning) REGION_##name,
#include "layout/heap.def"
#undef SY_REGION
    REGIONS
};

/* Which operations write a region; those of data also read it, and then want this round's bytes. */
enum use { ANY, WORDS, DATA };

static const struct {
    uint32_t channel;
    enum use use;
} uses[REGIONS] = {
    [REGION_stop] = {0, ANY},
    [REGION_fault] = {0, ANY},
    [REGION_start] = {0, ANY},
    [REGION_route_count] = {SY_CH_ROUTE, WORDS},
    [REGION_route_base] = {SY_CH_ROUTE, WORDS},
    [REGION_route_arrive] = {SY_CH_ROUTE, WORDS},
    [REGION_route_meta] = {SY_CH_ROUTE, DATA},
    [REGION_td_arrive] = {SY_CH_TDISPATCH, WORDS},
    [REGION_td_side] = {SY_CH_TDISPATCH, DATA},
    [REGION_td_rows] = {0, ANY},
    [REGION_tc_arrive] = {SY_CH_TCOMBINE, WORDS},
    [REGION_tc_done] = {SY_CH_TCOMBINE, WORDS},
    [REGION_tc_weigh] = {SY_CH_TCOMBINE, WORDS},
    [REGION_tc_weights] = {SY_CH_TCOMBINE, DATA},
    [REGION_tc_side] = {SY_CH_TCOMBINE, DATA},
    [REGION_tc_rows] = {SY_CH_TCOMBINE, DATA},
    [REGION_ld_count] = {SY_CH_LDISPATCH, WORDS},
    [REGION_ld_arrive] = {SY_CH_LDISPATCH, WORDS},
    [REGION_ld_tail] = {SY_CH_LDISPATCH, DATA},
    [REGION_ld_rows] = {0, ANY},
    [REGION_lc_arrive] = {SY_CH_LCOMBINE, WORDS},
    [REGION_lc_weigh] = {SY_CH_LCOMBINE, WORDS},
    [REGION_lc_weights] = {SY_CH_LCOMBINE, DATA},
    [REGION_lc_dropped] = {SY_CH_LCOMBINE, DATA},
    [REGION_lc_side] = {SY_CH_LCOMBINE, DATA},
    [REGION_lc_rows] = {SY_CH_LCOMBINE, DATA},
    [REGION_user] = {0, ANY},
};

/* --- places ----------------------------------------------------------------------------------- */

/* The region of an offset, and the offset in it. */
static enum region find(const struct sy_heap_layout *at, uint64_t offset, uint64_t *in)
{
    enum region found = REGION_stop;
    *in = offset;
#define SY_REGION(name, type, count, meaning)                                                      \
    if (at->name <= offset) {                                                                      \
        found = REGION_##name;                                                                     \
        *in = offset - at->name;                                                                   \
    }
#include "layout/heap.def"
#undef SY_REGION
    return found;
}

/* A write, taken apart. */
struct write {
    const struct sim_warp *w;
    const struct sim_launch *l;
    const struct sy_dev *d;
    const struct sim_truth *truth;
    uint32_t to; /* rank */
    uint64_t offset, in, bytes;
    enum region region;
};

/* --- who owns what ---------------------------------------------------------------------------- */

/* Rows of this writer in the receiver's order (source, token). */
static int own_order(const struct write *x, uint64_t order)
{
    const uint32_t *base = x->truth->base + x->to * (x->truth->ranks + 1) + x->l->rank;
    return order >= base[0] && order < base[1];
}

/* The same where each source has a place of its own. */
static int own_place(const struct write *x, uint64_t place, uint64_t per_source)
{
    uint64_t nth = place % per_source;
    return place / per_source == x->l->rank &&
           nth < x->truth->sent[x->l->rank * x->truth->ranks + x->to];
}

/* Is the writer the j-th destination of the receiver's token? */
static int own_return(const struct write *x, uint64_t place)
{
    return place / x->truth->fan < x->truth->tokens[x->to] &&
           x->truth->destination[x->to][place] == (int16_t)x->l->rank;
}

/* A row that a sender stores at its last place: an area that the receiver has named. */
static int own_row(const struct write *x)
{
    const struct sim_launch *theirs = sim_launch_of(x->to, SY_CH_TDISPATCH, x->l->epoch);
    const union sim_args *a = theirs ? theirs->args : NULL;
    uint64_t row, row_bytes;
    if (x->l->channel != SY_CH_TDISPATCH || !a || x->offset < a->tdispatch.area)
        return 0;
    row_bytes = a->tdispatch.out.row_bytes;
    row = (x->offset - a->tdispatch.area) / row_bytes;
    return row < x->truth->rows[x->to] &&
           (x->offset - a->tdispatch.area) % row_bytes + x->bytes <= row_bytes &&
           x->truth->source[x->to][row] == (int16_t)x->l->rank;
}

static int own_latency_row(const struct write *x)
{
    const struct sy_ldispatch_args *a = x->l->args;
    uint64_t view = (uint64_t)x->d->ranks * x->d->lat_tokens_max * a->row_bytes_max;
    return x->l->channel == SY_CH_LDISPATCH && x->in / view == a->view &&
           own_place(x, x->in % view / a->out.row_bytes, x->d->lat_tokens_max);
}

static int own_latency_tail(const struct write *x)
{
    const struct sy_ldispatch_args *a = x->l->args;
    uint64_t view = (uint64_t)x->d->ranks * x->d->lat_tokens_max * a->tail_bytes_max;
    return x->in / view == a->view &&
           own_place(x, x->in % view / a->tail_bytes, x->d->lat_tokens_max);
}

/* One of two halves of `half` units: the half of this epoch; the place in it, in `unit`. */
static int own_half(const struct write *x, uint64_t half, uint64_t unit, int by_source)
{
    uint64_t place = x->in % half / unit;
    if (x->in / half != (x->l->epoch & 1))
        return 0;
    return by_source ? own_place(x, place, x->d->lat_tokens_max) : own_return(x, place);
}

static int own_latency_return(const struct write *x)
{
    const struct sy_combine_kargs *a = x->l->args;
    const struct sy_dev *d = x->d;
    uint64_t tokens = (uint64_t)d->lat_tokens_max * d->fan_max;
    switch (x->region) {
    case REGION_lc_weights:
        return own_half(x, (uint64_t)d->ranks * d->lat_tokens_max * d->topk_max * 4, a->r.topk * 4u,
                        1);
    case REGION_lc_dropped:
        return own_half(x, tokens * 4, 4, 0);
    case REGION_lc_side:
        return own_half(x, tokens * d->topk_max * 4, a->r.topk * 4u, 0);
    default:
        return own_half(x, a->lat_half_rows, a->row_bytes, 0);
    }
}

static int own_data(const struct write *x)
{
    const union sim_args *a = x->l->args;
    switch (x->region) {
    case REGION_route_meta:
        return own_order(x, x->in / 4 / x->d->meta_words);
    case REGION_td_side:
        return own_order(x, x->in / a->tdispatch.side_bytes);
    case REGION_tc_weights:
        return own_order(x, x->in / 4 / a->combine.r.topk);
    case REGION_tc_side:
        return own_return(x, x->in / 4 / a->combine.r.topk);
    case REGION_tc_rows:
        return own_return(x, x->in / a->combine.row_bytes);
    case REGION_td_rows:
    case REGION_user:
        return own_row(x);
    case REGION_ld_rows:
        return own_latency_row(x);
    case REGION_ld_tail:
        return own_latency_tail(x);
    default:
        return own_latency_return(x);
    }
}

static int own_words(const struct write *x)
{
    const struct sy_dev *d = x->d;
    uint32_t me = x->l->rank;
    switch (x->region) {
    case REGION_stop:
        return x->in < 4 || x->to == me;
    case REGION_fault:
        return x->in / sizeof(struct sy_fault_record) == me;
    case REGION_start:
        return x->in / sizeof(struct sy_start) % d->ranks == me;
    case REGION_route_count:
        return x->in / 8 / d->told_words == (d->books ? (x->l->epoch & 1) * d->ranks : 0) + me;
    case REGION_ld_count:
        return x->in / 8 / (SY_COUNT_HEAD + d->local_max) % d->ranks == me;
    case REGION_route_base:
        return x->in / 8 / (SY_BASE_HEAD + d->local_max) == me;
    case REGION_tc_done:
        return x->in / 8 == me;
    case REGION_td_arrive:
        return x->to == me || x->in / 4 / d->td_chunks == me;
    case REGION_route_arrive:
    case REGION_tc_weigh:
    case REGION_ld_arrive:
    case REGION_lc_weigh:
        return x->to == me || x->in / 4 == me;
    default: /* tc_arrive, lc_arrive: any holder's rows count */
        return 1;
    }
}

void sim_rule_write(const struct sim_warp *w, uint32_t rank, const void *p, size_t bytes)
{
    struct write x = {.w = w, .l = w->launch, .d = w->launch->d, .to = rank, .bytes = bytes};
    char where[SIM_WHERE], who[SIM_WHERE];
    int fine;
    x.truth = x.l->truth;
    x.offset = (uint64_t)((const uint8_t *)p - x.d->peers[rank]);
    if (x.offset >= x.d->heap_bytes)
        sim_violate(SIM_CHECK_OWNER, "a write to a heap of another group");
    x.region = find(&x.d->at, x.offset, &x.in);
    if (uses[x.region].use != ANY && uses[x.region].channel != x.l->channel)
        fine = 0;
    else if (rank == w->rank && uses[x.region].use == ANY && x.region > REGION_start)
        fine = 1; /* its own outputs */
    else if (uses[x.region].use == DATA || x.region == REGION_td_rows ||
             x.region == REGION_ld_rows || x.region == REGION_user)
        fine = !x.truth || own_data(&x);
    else
        fine = own_words(&x);
    if (!fine)
        sim_violate(SIM_CHECK_OWNER, "%s (%s %llu) writes %llu bytes of %s, which it does not own",
                    sim_slot_name(w->slot, who), sim_kernel_names[x.l->kernel],
                    (unsigned long long)x.l->epoch, (unsigned long long)bytes, sim_where(p, where));
}

/* --- reads and words -------------------------------------------------------------------------- */

static int fresh_region(enum region r, uint32_t channel)
{
    if (r == REGION_td_rows)
        return channel == SY_CH_TDISPATCH;
    if (r == REGION_ld_rows)
        return channel == SY_CH_LDISPATCH;
    return uses[r].use == DATA && uses[r].channel == channel;
}

void sim_rule_read(const struct sim_warp *w, uint32_t rank, const void *p, size_t bytes,
                   const struct sim_cell *cell)
{
    const struct sim_launch *l = w->launch, *by;
    char where[SIM_WHERE];
    uint64_t in;
    (void)bytes;
    if (rank != w->rank ||
        !fresh_region(find(&l->d->at, (uint64_t)((const uint8_t *)p - l->d->heap), &in),
                      l->channel))
        return;
    by = cell->write_launch ? sim_launch_at(cell->write_launch) : NULL;
    if (!by || by->channel != l->channel || by->epoch != l->epoch)
        sim_violate(SIM_CHECK_STALE, "%s %llu reads %s, which was written by %s %llu",
                    sim_kernel_names[l->kernel], (unsigned long long)l->epoch, sim_where(p, where),
                    by ? sim_kernel_names[by->kernel] : "nobody since",
                    by ? (unsigned long long)by->epoch : 0ull);
}

/* Words that hold an epoch in their upper half, and counters of arrivals. */
static int is_epoch(enum region r)
{
    return r == REGION_start || r == REGION_route_count || r == REGION_route_base ||
           r == REGION_ld_count || r == REGION_tc_done;
}

static int is_counter(enum region r)
{
    return r == REGION_route_arrive || r == REGION_td_arrive || r == REGION_tc_arrive ||
           r == REGION_tc_weigh || r == REGION_ld_arrive || r == REGION_lc_arrive ||
           r == REGION_lc_weigh;
}

void sim_rule_word(uint32_t rank, const void *p, uint64_t before, uint64_t after)
{
    const struct sy_dev *d = sim_dev_of(rank);
    char where[SIM_WHERE];
    enum region r;
    uint64_t in, offset;
    if (!d)
        return;
    offset = (uint64_t)((const uint8_t *)p - d->heap);
    if (offset >= d->heap_bytes)
        return; /* of a group that is gone */
    r = find(&d->at, offset, &in);
    if (is_epoch(r) && (int32_t)((uint32_t)(after >> 32) - (uint32_t)(before >> 32)) < 0)
        sim_violate(SIM_CHECK_SIGNAL, "the epoch of %s goes back from %llu to %llu",
                    sim_where(p, where), (unsigned long long)(before >> 32),
                    (unsigned long long)(after >> 32));
    if (is_counter(r) && (int32_t)((uint32_t)after - (uint32_t)before) < 0)
        sim_violate(SIM_CHECK_SIGNAL, "%s goes back from %u to %u", sim_where(p, where),
                    (uint32_t)before, (uint32_t)after);
}

/* --- after a round ---------------------------------------------------------------------------- */

/* One word every so many bytes. */
static void each_is(uint32_t rank, const char *what, const uint8_t *words, size_t apart,
                    uint64_t count, uint32_t value)
{
    for (uint64_t i = 0; i < count; i++) {
        uint32_t word = *(const uint32_t *)(const void *)(words + i * apart);
        if (word != value)
            sim_violate(SIM_CHECK_CLEAN, "rank %u: %s[%llu] is %u, and not %u, after the round",
                        rank, what, (unsigned long long)i, word, value);
    }
}

static void all_are(uint32_t rank, const char *what, const void *words, uint64_t count,
                    uint32_t value)
{
    each_is(rank, what, words, sizeof(uint32_t), count, value);
}

static void clean_private(uint32_t rank, const struct sy_dev *d)
{
    const uint64_t *sent = (const uint64_t *)(const void *)(d->mine + d->in.sent);
    const uint64_t *received = (const uint64_t *)(const void *)(d->mine + d->in.received);
    all_are(rank, "leaving", d->mine + d->in.leaving, 2 * SY_CHANNELS, 0);
    all_are(rank, "gate", d->mine + d->in.gate, 4, 0);
    all_are(rank, "route_totals", d->mine + d->in.route_totals,
            (uint64_t)SY_TOTALS_COPIES * (d->ranks + d->experts), 0);
    all_are(rank, "ticket", d->mine + d->in.ticket, 4, 0);
    all_are(rank, "sent_parts", d->mine + d->in.sent_parts, (uint64_t)d->ranks * d->td_chunks, 0);
    all_are(rank, "source_ticket", d->mine + d->in.source_ticket, d->ranks, 0);
    for (int i = 0; i < SY_CHANNELS; i++)
        if (sent[i] != received[i] || sent[i] != sim_launched(rank, (uint32_t)i))
            sim_violate(SIM_CHECK_CLEAN,
                        "rank %u, channel %d: %llu launched, %llu sent, %llu received", rank, i,
                        (unsigned long long)sim_launched(rank, (uint32_t)i),
                        (unsigned long long)sent[i], (unsigned long long)received[i]);
}

static void clean_counters(uint32_t rank, const struct sy_dev *d)
{
    const uint64_t route = sim_launched(rank, SY_CH_ROUTE);
    const uint64_t td = sim_launched(rank, SY_CH_TDISPATCH);
    const uint64_t tc = sim_launched(rank, SY_CH_TCOMBINE);
    const uint64_t ld = sim_launched(rank, SY_CH_LDISPATCH);
    const uint64_t lc = sim_launched(rank, SY_CH_LCOMBINE);
    const uint8_t *h = d->heap;
    const uint32_t chunk = SY_CHUNK_ROWS * SY_PARTS_MAX;
    const uint64_t alone = (uint64_t)d->lat_tokens_max * sizeof(struct sy_lone_counter);
    all_are(rank, "stop", h + d->at.stop, 3, 0);
    all_are(rank, "route_arrive", h + d->at.route_arrive, d->ranks,
            (uint32_t)route * d->tokens_max);
    all_are(rank, "td_arrive", h + d->at.td_arrive, (uint64_t)d->ranks * d->td_chunks,
            (uint32_t)td * chunk);
    all_are(rank, "tc_arrive", h + d->at.tc_arrive, d->tc_chunks,
            (uint32_t)tc * d->fan_max * chunk);
    all_are(rank, "tc_weigh", h + d->at.tc_weigh, d->ranks, (uint32_t)tc * d->tokens_max);
    all_are(rank, "ld_arrive", h + d->at.ld_arrive, d->ranks, (uint32_t)ld * d->lat_tokens_max);
    for (uint32_t half = 0; half < 2; half++)
        each_is(rank, half ? "lc_arrive[1]" : "lc_arrive[0]", h + d->at.lc_arrive + half * alone,
                sizeof(struct sy_lone_counter), d->lat_tokens_max,
                (uint32_t)((lc + half) / 2) * d->fan_max * SY_PARTS_MAX);
    all_are(rank, "lc_weigh", h + d->at.lc_weigh, d->ranks, (uint32_t)lc * d->lat_tokens_max);
}

void sim_rules_clean(uint32_t rank)
{
    const struct sy_dev *d = sim_dev_of(rank);
    if (!d)
        return;
    clean_private(rank, d);
    clean_counters(rank, d);
}

/* --- dirt ------------------------------------------------------------------------------------- */

static void soil(const struct sy_dev *d, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i < to; i++)
        d->heap[i] = (uint8_t)(sim_points + i * 167);
    if (to > from)
        sim_forget(d->heap + from, to - from);
}

/* Whatever may hold rows, records or weights of earlier rounds. */
void sim_rules_dirty(uint32_t rank)
{
    const struct sy_dev *d = sim_dev_of(rank);
    enum region r = REGIONS;
    uint64_t begin = 0;
    if (!d)
        return;
#define SY_REGION(name, type, count, meaning)                                                      \
    if (r != REGIONS && (uses[r].use == DATA || r == REGION_td_rows || r == REGION_ld_rows))       \
        soil(d, begin, d->at.name);                                                                \
    r = REGION_##name;                                                                             \
    begin = d->at.name;
#include "layout/heap.def"
#undef SY_REGION
}
