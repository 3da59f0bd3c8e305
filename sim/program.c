/* program.c - what a rank does: the steps of the scenario through the public API, and comparing
 * what comes out with the reference.
 *
 * Sections: memory | the group | calls | comparing | steps | the rank. */
#include <stdlib.h>
#include <string.h>

#include "base/os.h"
#include "base/verify.h"
#include "engine.h"
#include "system.h"
#include "world.h"

/* Inputs of one setting, where kernels can reach them. */
struct inputs {
    void *x, *ids, *map, *sum_x, *bias[2];
    void *scales, *weights, *probs, *sum_weights, *row_weights, *row_probs;
    int made;
};

/* An operation on its way, and its outputs. */
struct operation {
    int busy, ready; /* ready: all of it has been asked for  */
    struct sim_step step;
    sy_dispatch_args dispatch;
    sy_combine_args combine;
    sy_tensor view;
    void *x, *scales, *weights, *probs, *ids, *src; /* dispatch */
    void *sum_x, *out, *out_weights, *out_probs;    /* combine  */
    const void *fill;                               /* what a stream call puts into sum_x */
    size_t fill_bytes;
    uint32_t rank;
};

struct route_state {
    sy_route *route;
    void *memory;
    struct inputs *inputs; /* [settings] */
    struct operation op[2][SIM_SLOTS];
    sy_tensor view; /* of the last dispatch */
    uint32_t set;   /* the setting that it has */
    int fresh;      /* not dispatched since    */
};

struct sim_rank_state {
    struct sim_world *w;
    struct sim_scenario *s;
    uint32_t rank;
    sy_group *group;
    sy_stream *stream[2];
    struct route_state *route;
    int bad_due, bad_told; /* ids out of range since the last sync, and whether a call said so */
};

/* --- memory ----------------------------------------------------------------------------------- */

static void *arena(struct sim_rank_state *r, size_t bytes)
{
    return sim_take(r->rank, SIM_PRIVATE, 0, bytes, SIM_DEFINED);
}

static void *copy_in(struct sim_rank_state *r, const void *from, int64_t bytes)
{
    void *p;
    if (!from)
        return NULL;
    p = arena(r, (size_t)bytes);
    memcpy(p, from, (size_t)bytes);
    sim_host_wrote(r->rank, p, (size_t)bytes);
    return p;
}

/* An output as it is before an operation. room: for the largest that may come to be in it. */
static void *poison(struct sim_rank_state *r, void *p, int64_t bytes, int64_t room)
{
    SY_ASSERT(bytes <= room);
    if (!p)
        p = arena(r, (size_t)room);
    memset(p, SIM_POISON, (size_t)bytes);
    sim_host_wrote(r->rank, p, (size_t)bytes);
    return p;
}

static struct inputs *inputs_of(struct sim_rank_state *r, uint32_t route, uint32_t setting)
{
    const struct sim_route *plan = r->s->route + route;
    struct sim_setting *set = plan->setting + setting;
    const struct sy_ref_rank *me = set->world.rank + r->rank;
    const struct sy_ref_sum *sum = set->sum + r->rank;
    struct inputs *in = r->route[route].inputs + setting;
    int64_t T = me->tokens, K = plan->topk, n = plan->out_rows[r->rank];
    int64_t sum_row = plan->sum_hidden * sy_ref_type_bytes(plan->sum_type);
    int32_t *narrow;
    if (in->made)
        return in;
    in->made = 1;
    in->x = copy_in(r, me->x, T * plan->hidden * sy_ref_type_bytes(plan->type));
    in->scales = copy_in(r, me->scales, T * plan->scale_words * 4);
    in->weights = copy_in(r, me->weights, T * K * 4);
    in->probs = copy_in(r, me->probs, T * r->s->experts_all * 4);
    in->map = copy_in(r, me->map, T * r->s->experts_all);
    in->ids = copy_in(r, me->ids, T * K * 8);
    if (plan->input == SY_I32) {
        narrow = arena(r, (size_t)(T * K) * 4);
        for (int64_t i = 0; i < T * K; i++)
            narrow[i] = (int32_t)me->ids[i];
        sim_host_wrote(r->rank, narrow, (size_t)(T * K) * 4);
        in->ids = narrow;
    }
    in->sum_x = copy_in(r, sum->x, n * sum_row);
    in->sum_weights = copy_in(r, sum->weights, T * K * 4);
    in->bias[0] = copy_in(r, sum->bias[0], T * sum_row);
    in->bias[1] = copy_in(r, sum->bias[1], T * sum_row);
    in->row_weights =
        copy_in(r, sum->row_weights, n * (sy_ref_by_expert(plan->layout) ? 1 : K) * 4);
    in->row_probs = copy_in(r, sum->row_probs, n * r->s->experts[r->rank] * 4);
    return in;
}

/* --- the group -------------------------------------------------------------------------------- */

static int world_allgather(void *context, const void *mine, void *all, size_t bytes)
{
    struct sim_seat *seat = context;
    struct sim_world *w = seat->world;
    static uint8_t *room; /* of the first to come; all ranks bring as much */
    if (!w->gathered) {
        free(room);
        room = w->gathered = malloc(bytes * w->s->ranks + 1);
        SY_ASSERT(room);
    }
    memcpy(w->gathered + seat->rank * bytes, mine, bytes);
    sim_meet(w, &w->meeting);
    memcpy(all, w->gathered, bytes * w->s->ranks);
    sim_meet(w, &w->meeting);
    w->gathered = NULL;
    sim_meet(w, &w->meeting);
    return 0;
}

static int world_barrier(void *context)
{
    struct sim_seat *seat = context;
    sim_meet(seat->world, &seat->world->meeting);
    return 0;
}

static void configure(struct sim_seat *seat, sy_group_config *c)
{
    const struct sim_scenario *s = seat->world->s;
    memset(c, 0, sizeof *c);
    c->size = sizeof *c;
    c->boot = s->boot;
    c->rank = (int32_t)seat->rank;
    c->ranks = (int32_t)s->ranks;
    c->engine = s->gpu ? SY_ENGINE_CUDA : SY_ENGINE_CPU;
    c->id = seat->world->id;
    c->allgather = world_allgather;
    c->barrier = world_barrier;
    c->boot_context = seat;
    c->experts = s->experts_all;
    c->experts_per_rank = s->experts;
    c->topk_max = s->topk_max;
    c->tokens_max = s->tokens_max;
    c->latency_tokens_max = s->tokens_max;
    c->row_bytes_max = s->row_bytes_max;
    c->scale_words_max = s->scale_words_max;
    c->recv_rows_max = s->recv_rows_max;
    c->views = s->views;
    c->latency_views = s->latency_views;
    c->user_bytes = s->user_bytes;
    c->cpu_threads = (int32_t)s->blocks;
    c->sms = s->gpu ? (int32_t)s->blocks : 0;
    c->timeout_ns = s->timeout_ns;
}

static sy_status make_routes(struct sim_rank_state *r)
{
    r->route = sim_scenario_take(r->s, r->s->routes, sizeof *r->route);
    for (uint32_t i = 0; i < r->s->routes; i++) {
        const struct sim_route *plan = r->s->route + i;
        struct route_state *route = r->route + i;
        sy_route_config config = {.size = sizeof config,
                                  .mode = plan->mode,
                                  .layout = plan->layout,
                                  .topk = plan->topk,
                                  .alignment = plan->alignment,
                                  .capacity = plan->capacity[r->rank]};
        size_t bytes;
        sy_status status = sy_route_bytes(r->group, &config, &bytes);
        if (status != SY_OK)
            return status;
        route->memory = sim_take(r->rank, SIM_PRIVATE, 0, bytes, SIM_GARBAGE);
        status = sy_route_create(r->group, &config, route->memory, &route->route);
        if (status != SY_OK)
            return status;
        route->inputs = sim_scenario_take(r->s, plan->settings, sizeof *route->inputs);
    }
    if (r->s->streams > 1)
        return sy_stream_create(r->group, &r->stream[1]);
    return SY_OK;
}

static sy_status open_group(struct sim_seat *seat, struct sim_rank_state *r)
{
    sy_group_config config;
    sy_status status;
    if (r->s->boot == SY_BOOT_ID) {
        if (seat->rank == 0 && (status = sy_id_create(&r->w->id)) != SY_OK)
            return status;
        sim_meet(r->w, &r->w->meeting);
    }
    configure(seat, &config);
    status = sy_group_create(&config, &r->group);
    if (status == SY_OK)
        status = make_routes(r);
    r->w->created++;
    sim_wake_all(&r->w->creation);
    return status;
}

static void close_group(struct sim_rank_state *r)
{
    for (uint32_t i = 0; r->route && i < r->s->routes; i++)
        sy_route_destroy(r->route[i].route);
    sy_stream_destroy(r->stream[1]);
    if (sy_group_destroy(r->group) != SY_OK)
        sim_violate(SIM_CHECK_STATUS, "rank %u: %s", r->rank, sy_last_error());
}

/* --- calls ------------------------------------------------------------------------------------ */

static sy_status call_set(struct sim_rank_state *r, const struct sim_step *step)
{
    const struct sim_route *plan = r->s->route + step->route;
    struct sim_setting *set = plan->setting + step->setting;
    struct inputs *in = inputs_of(r, step->route, step->setting);
    int64_t T = set->world.rank[r->rank].tokens;
    sy_route_input input = {.size = sizeof input};
    if (plan->input == SY_U8)
        input.map = sy_tensor_2d(in->map, SY_U8, T, r->s->experts_all);
    else
        input.ids = sy_tensor_2d(in->ids, (sy_type)plan->input, T, plan->topk);
    sim_truth_set(r->rank, r->route[step->route].memory, &set->truth);
    r->route[step->route].set = step->setting;
    r->route[step->route].fresh = 1;
    if (plan->mode == SY_THROUGHPUT)
        r->bad_due |= set->ref.bad.any;
    return sy_route_set(r->route[step->route].route, &input, r->stream[step->stream]);
}

/* Memory for rows of its place; NULL for a view. */
static void *rows_at(struct sim_rank_state *r, int place, void *had, int64_t bytes)
{
    if (place == SIM_IN_VIEW)
        return NULL;
    if (place == SIM_IN_HEAP && !had &&
        sy_alloc(r->group, bytes ? (size_t)bytes : 1, &had) != SY_OK)
        sim_violate(SIM_CHECK_STATUS, "rank %u: %s", r->rank, sy_last_error());
    return poison(r, had, bytes, bytes);
}

static sy_tensor matrix(void *data, int32_t type, int64_t rows, int64_t columns)
{
    return sy_tensor_2d(data, (sy_type)type, rows, columns);
}

static void dispatch_outputs(struct sim_rank_state *r, const struct sim_route *plan,
                             const struct sy_ref_world *w, struct operation *o)
{
    sy_dispatch_args *a = &o->dispatch;
    int64_t n = plan->out_rows[r->rank], K = plan->topk, L = r->s->experts[r->rank];
    int64_t words = sy_ref_out_scale_words(w), row = sy_ref_out_row_bytes(w);
    int32_t wire = plan->quant ? SY_F8E4M3 : plan->type, place = plan->out_place[r->rank];
    int by_expert = sy_ref_by_expert(plan->layout);
    o->x = rows_at(r, place, o->x, n * row);
    if (place != SIM_IN_VIEW)
        a->out_x = matrix(o->x, wire, n, row / sy_ref_type_bytes(wire));
    if (plan->outputs & 1) {
        o->scales = poison(r, o->scales, n * words * 4, n * words * 4);
        a->out_scales = matrix(o->scales, plan->scale_type, n, words);
    }
    if (plan->outputs & 2) {
        o->weights =
            poison(r, o->weights, n * (by_expert ? 1 : K) * 4, n * (by_expert ? 1 : K) * 4);
        a->out_weights =
            by_expert ? sy_tensor_1d(o->weights, SY_F32, n) : matrix(o->weights, SY_F32, n, K);
    }
    if (plan->outputs & 4) {
        o->probs = poison(r, o->probs, n * L * 4, n * L * 4);
        a->out_probs = matrix(o->probs, SY_F32, n, L);
    }
    if (plan->outputs & 8) {
        o->ids = poison(r, o->ids, n * K * 4, n * K * 4);
        a->out_ids = matrix(o->ids, SY_I32, n, K);
    }
    if (plan->outputs & 16) {
        o->src = poison(r, o->src, n * 8, n * 8);
        a->out_src = matrix(o->src, SY_I32, n, 2);
    }
}

static void make_dispatch(struct sim_rank_state *r, struct operation *o)
{
    const struct sim_route *plan = r->s->route + o->step.route;
    const struct sim_setting *set = plan->setting + o->step.setting;
    struct inputs *in = inputs_of(r, o->step.route, o->step.setting);
    int64_t T = set->world.rank[r->rank].tokens;
    sy_dispatch_args *a = &o->dispatch;
    memset(a, 0, sizeof *a);
    a->size = sizeof *a;
    a->quant = plan->quant;
    a->sms = o->step.sms;
    a->x = matrix(in->x, plan->type, T, plan->hidden);
    if (plan->scale_words)
        a->scales = matrix(in->scales, plan->scale_type, T, plan->scale_words);
    if (plan->weights == 1)
        a->weights = matrix(in->weights, SY_F32, T, plan->topk);
    if (plan->weights == 2)
        a->probs = matrix(in->probs, SY_F32, T, r->s->experts_all);
    dispatch_outputs(r, plan, &set->world, o);
    memset(&o->view, 0, sizeof o->view);
    a->view = &o->view;
}

static void make_combine(struct sim_rank_state *r, struct operation *o)
{
    const struct sim_route *plan = r->s->route + o->step.route;
    const struct sim_setting *set = plan->setting + o->step.setting;
    struct inputs *in = inputs_of(r, o->step.route, o->step.setting);
    int64_t T = set->world.rank[r->rank].tokens, n = plan->out_rows[r->rank], K = plan->topk;
    int64_t most = r->s->tokens_max, E = r->s->experts_all;
    int64_t row = plan->sum_hidden * sy_ref_type_bytes(plan->sum_type);
    sy_combine_args *a = &o->combine;
    memset(a, 0, sizeof *a);
    a->size = sizeof *a;
    o->sum_x = rows_at(r, plan->sum_place[r->rank], o->sum_x, n * row);
    a->sms = o->step.sms;
    o->fill = in->sum_x;
    o->fill_bytes = (size_t)(n * row);
    a->x = matrix(o->sum_x, plan->sum_type, n, plan->sum_hidden);
    if (o->step.from_view && plan->out_place[r->rank] == SIM_IN_VIEW)
        a->x = r->route[o->step.route].view;
    o->out = poison(r, o->out, T * row, most * row);
    a->out = matrix(o->out, plan->sum_type, T, plan->sum_hidden);
    if (plan->weighted)
        a->weights = matrix(in->sum_weights, SY_F32, T, K);
    for (int b = 0; b < 2; b++)
        if (plan->biases >> b & 1)
            a->bias[b] = matrix(in->bias[b], plan->sum_type, T, plan->sum_hidden);
    if (plan->carry == 1)
        a->row_weights = sy_ref_by_expert(plan->layout) ? sy_tensor_1d(in->row_weights, SY_F32, n)
                                                        : matrix(in->row_weights, SY_F32, n, K);
    if (plan->carry == 2)
        a->row_probs = matrix(in->row_probs, SY_F32, n, r->s->experts[r->rank]);
    if (plan->out_weights) {
        o->out_weights = poison(r, o->out_weights, T * K * 4, most * K * 4);
        a->out_weights = matrix(o->out_weights, SY_F32, T, K);
    }
    if (plan->out_probs) {
        o->out_probs = poison(r, o->out_probs, T * E * 4, most * E * 4);
        a->out_probs = matrix(o->out_probs, SY_F32, T, r->s->experts_all);
    }
}

/* The caller's own work: on the stream, or before the call. */
static void fill_rows(void *context)
{
    struct operation *o = context;
    if (!o->sum_x)
        return;
    memcpy(o->sum_x, o->fill, o->fill_bytes);
    sim_host_wrote(o->rank, o->sum_x, o->fill_bytes);
}

static sy_status call_dispatch(struct sim_rank_state *r, const struct sim_step *step)
{
    struct route_state *route = r->route + step->route;
    struct operation *o = &route->op[0][step->slot];
    const struct sim_route *plan = r->s->route + step->route;
    sy_status status;
    if (step->phase != SY_RECEIVE) {
        o->step = *step;
        o->busy = 1;
        make_dispatch(r, o);
        if (plan->mode == SY_LATENCY && route->fresh)
            r->bad_due |= plan->setting[step->setting].ref.bad.any;
        route->fresh = 0;
    }
    o->dispatch.phase = step->phase;
    o->ready = step->phase != SY_SEND;
    status = sy_dispatch(route->route, &o->dispatch, r->stream[step->stream]);
    route->view = o->view;
    return status;
}

static sy_status call_combine(struct sim_rank_state *r, const struct sim_step *step)
{
    struct route_state *route = r->route + step->route;
    struct operation *o = &route->op[1][step->slot];
    if (step->phase != SY_RECEIVE) {
        o->step = *step;
        o->busy = 1;
        o->rank = r->rank;
        make_combine(r, o);
        if (!step->by_call) {
            fill_rows(o);
        } else {
            sy_status status = sy_stream_call(r->group, r->stream[step->stream], fill_rows, o);
            if (status != SY_OK)
                return status;
        }
    }
    o->combine.phase = step->phase;
    o->ready = step->phase != SY_SEND;
    return sy_combine(route->route, &o->combine, r->stream[step->stream]);
}

/* --- comparing -------------------------------------------------------------------------------- */

static void same(struct sim_rank_state *r, const struct operation *o, const char *what,
                 const void *got, const void *want, int64_t rows, int64_t row_bytes)
{
    const uint8_t *g = got, *w = want;
    int64_t bytes = rows * row_bytes, i = 0;
    if (!got || !want || !bytes || !memcmp(got, want, (size_t)bytes))
        return;
    while (g[i] == w[i])
        i++;
    sim_violate(SIM_CHECK_RESULT,
                "rank %u, %s of route %u: %s, row %lld byte %lld: %02x, and not %02x", r->rank,
                o->step.kind == SIM_DISPATCH ? "dispatch" : "combine", o->step.route, what,
                (long long)(i / row_bytes), (long long)(i % row_bytes), g[i], w[i]);
}

/* In a view only rows that the reference writes count. */
static void same_view(struct sim_rank_state *r, const struct operation *o, const uint8_t *want,
                      int64_t rows, int64_t row_bytes)
{
    const uint8_t *got = o->view.data;
    for (int64_t i = 0; got && i < rows; i++) {
        const uint8_t *w = want + i * row_bytes;
        int written = 0;
        for (int64_t b = 0; b < row_bytes; b++)
            written |= w[b] != SIM_POISON;
        if (written)
            same(r, o, "row of a view", got + i * row_bytes, w, 1, row_bytes);
    }
}

static void compare_dispatch(struct sim_rank_state *r, const struct operation *o)
{
    const struct sim_route *plan = r->s->route + o->step.route;
    struct sim_setting *set = plan->setting + o->step.setting;
    const struct sim_want *want = sim_want_dispatch(r->s, plan, set, r->rank);
    int64_t n = plan->out_rows[r->rank], row = sy_ref_out_row_bytes(&set->world), K = plan->topk;
    int by_expert = sy_ref_by_expert(plan->layout);
    if (plan->out_place[r->rank] == SIM_IN_VIEW)
        same_view(r, o, want->out.x.data, n, row);
    else
        same(r, o, "out_x", o->x, want->out.x.data, n, row);
    same(r, o, "out_scales", o->scales, want->out.scales.data, n,
         sy_ref_out_scale_words(&set->world) * 4);
    same(r, o, "out_weights", o->weights, want->out.weights.data, n, by_expert ? 4 : K * 4);
    same(r, o, "out_probs", o->probs, want->out.probs.data, n, r->s->experts[r->rank] * 4);
    same(r, o, "out_ids", o->ids, want->out.ids.data, n, K * 4);
    same(r, o, "out_src", o->src, want->out.src.data, n, 8);
}

static void compare_combine(struct sim_rank_state *r, const struct operation *o)
{
    const struct sim_route *plan = r->s->route + o->step.route;
    struct sim_setting *set = plan->setting + o->step.setting;
    const struct sim_want *want = sim_want_combine(r->s, plan, set, r->rank, o->step.from_view);
    int64_t T = set->world.rank[r->rank].tokens;
    same(r, o, "out", o->out, want->sum, T, plan->sum_hidden * sy_ref_type_bytes(plan->sum_type));
    same(r, o, "out_weights", o->out_weights, want->sum_weights, T, plan->topk * 4);
    same(r, o, "out_probs", o->out_probs, want->sum_probs, T, r->s->experts_all * 4);
}

static void compare_counts(struct sim_rank_state *r, const struct operation *o)
{
    const struct sim_route *plan = r->s->route + o->step.route;
    const struct sy_ref_arrivals *a = plan->setting[o->step.setting].ref.at + r->rank;
    const struct operation *latest = NULL;
    sy_route_info info = {.size = sizeof info};
    int64_t L = r->s->experts[r->rank], R = r->s->ranks;
    for (int i = 0; i < SIM_SLOTS; i++) /* the route shows its last setting only */
        if (r->route[o->step.route].op[0][i].busy)
            latest = &r->route[o->step.route].op[0][i];
    if (plan->mode == SY_THROUGHPUT && r->route[o->step.route].set != o->step.setting)
        return;
    if (latest != o || sy_route_info_get(r->route[o->step.route].route, &info) != SY_OK)
        return;
    same(r, o, "totals", info.totals.data, a->totals, 1, SY_TOTALS * 4);
    same(r, o, "expert_counts", info.expert_counts.data, a->expert_counts, 1, L * 4);
    same(r, o, "expert_offsets", info.expert_offsets.data, a->expert_offsets, 1, (L + 1) * 4);
    same(r, o, "source_counts", info.source_counts.data, a->source_counts, 1, R * 4);
    same(r, o, "source_offsets", info.source_offsets.data, a->source_offsets, 1, (R + 1) * 4);
    same(r, o, "slab_begin", info.slab_begin.data, a->slab_begin, 1, L * R * 4);
    same(r, o, "slab_count", info.slab_count.data, a->slab_count, 1, L * R * 4);
}

static void compare_all(struct sim_rank_state *r)
{
    for (uint32_t i = 0; i < r->s->routes; i++)
        for (int slot = 0; slot < SIM_SLOTS; slot++)
            for (int kind = 0; kind < 2; kind++) {
                struct operation *o = &r->route[i].op[kind][slot];
                if (!o->busy || !o->ready)
                    continue;
                if (kind) {
                    compare_combine(r, o);
                } else {
                    compare_dispatch(r, o);
                    compare_counts(r, o);
                }
                o->busy = 0;
            }
}

/* --- steps ------------------------------------------------------------------------------------ */

/* Ids out of range are told once, by whatever call comes first. */
static sy_status without_bad(struct sim_rank_state *r, sy_status status)
{
    if (status != SY_BAD_ROUTE)
        return status;
    if (!r->bad_due)
        sim_violate(SIM_CHECK_STATUS, "rank %u: SY_BAD_ROUTE, and all ids are good", r->rank);
    r->bad_told = 1;
    return SY_OK;
}

static sy_status call_sync(struct sim_rank_state *r)
{
    sy_status status;
    for (int i = 0; i < r->s->streams; i++) {
        status = without_bad(r, sy_stream_sync(r->group, r->stream[i]));
        if (status != SY_OK)
            return status;
    }
    if (r->bad_due && !r->bad_told)
        sim_violate(SIM_CHECK_STATUS, "rank %u: ids were out of range, and no call said so",
                    r->rank);
    r->bad_due = r->bad_told = 0;
    compare_all(r);
    return SY_OK;
}

static int peaceful(const struct sim_rank_state *r)
{
    enum sim_fault_kind f = r->s->fault;
    return r->w->again || f == SIM_NO_FAULT || f == SIM_STALL || f == SIM_SLOW || f == SIM_PAUSE;
}

/* All ranks stand still: is everything where it should be? */
static sy_status call_quiet(struct sim_rank_state *r, int last)
{
    sy_status status = call_sync(r);
    if (status == SY_OK)
        status = without_bad(r, sy_group_barrier(r->group));
    if (status != SY_OK || !peaceful(r))
        return status;
    sim_meet(r->w, &r->w->meeting);
    sim_rules_clean(r->rank);
    sim_meet(r->w, &r->w->meeting);
    if (!last)
        sim_rules_dirty(r->rank);
    sim_meet(r->w, &r->w->meeting);
    return SY_OK;
}

static sy_status run_step(struct sim_rank_state *r, const struct sim_step *step)
{
    switch ((enum sim_step_kind)step->kind) {
    case SIM_SET:
        return call_set(r, step);
    case SIM_DISPATCH:
        return call_dispatch(r, step);
    case SIM_COMBINE:
        return call_combine(r, step);
    case SIM_SYNC:
        return call_sync(r);
    default:
        return call_quiet(r, step + 1 == r->s->step + r->s->steps);
    }
}

static void abort_main(void *context)
{
    const struct sim_seat *seat = context;
    if (sy_group_abort(seat->state->group) != SY_OK)
        sim_violate(SIM_CHECK_STATUS, "sy_group_abort: %s", sy_last_error());
}

void sim_rank_abort(struct sim_seat *seat)
{
    seat->aborting = sim_spawn(NULL, seat->rank, SIM_HOST, abort_main, seat, "aborting thread");
}

/* --- the rank --------------------------------------------------------------------------------- */

/* A call failed: that may be, and then the group must have a verdict soon. */
static void await_verdict(struct sim_seat *seat, sy_status status, const char *where)
{
    struct sim_rank_state *r = seat->state;
    uint64_t since = sim_now_ns();
    char text[256];
    memcpy(text, sy_last_error(), sizeof text - 1);
    text[sizeof text - 1] = 0;
    if (peaceful(r))
        sim_violate(SIM_CHECK_STATUS, "rank %u, %s: %s: %s", r->rank, where, sy_status_name(status),
                    text);
    seat->outcome = SIM_FAULTED;
    seat->verdict.size = sizeof seat->verdict;
    while (sy_group_poll(r->group, &seat->verdict) == SY_OK) {
        if (sim_now_ns() - since > 10 * r->s->timeout_ns)
            sim_violate(SIM_CHECK_VERDICT, "rank %u: %s (%s), and then no verdict", r->rank,
                        sy_status_name(status), text);
        sy_os->sleep_ns(5000000);
    }
    if ((sy_status)seat->verdict.status != status)
        sim_violate(SIM_CHECK_VERDICT, "rank %u: a call gave %s, and the verdict is %s: %s",
                    r->rank, sy_status_name(status),
                    sy_status_name((sy_status)seat->verdict.status), seat->verdict.text);
}

static void run_steps(struct sim_seat *seat)
{
    static const char *const names[SIM_STEPS] = {"sy_route_set", "sy_dispatch", "sy_combine",
                                                 "sy_stream_sync", "sy_group_barrier"};
    struct sim_rank_state *r = seat->state;
    sy_status status = SY_OK;
    for (uint32_t i = 0; i < r->s->steps; i++) {
        const struct sim_step *step = r->s->step + i;
        sim_event(names[step->kind], NULL, step->route);
        status = without_bad(r, run_step(r, step));
        if (status != SY_OK) {
            await_verdict(seat, status, names[step->kind]);
            return;
        }
        r->w->rounds += step->kind <= SIM_COMBINE && step->kind >= SIM_DISPATCH &&
                        step->phase != SY_SEND && r->rank == 0;
    }
    seat->outcome = SIM_FINISHED;
}

void sim_rank_main(void *context)
{
    struct sim_seat *seat = context;
    struct sim_rank_state *r = sim_scenario_take(seat->world->s, 1, sizeof *r);
    sy_status status;
    seat->state = r;
    r->w = seat->world;
    r->s = seat->world->s;
    r->rank = seat->rank;
    status = open_group(seat, r);
    if (status != SY_OK)
        sim_violate(SIM_CHECK_STATUS, "rank %u: sy_group_create: %s: %s", r->rank,
                    sy_status_name(status), sy_last_error());
    sim_meet(r->w, &r->w->meeting);
    sim_round_begin(r->rank);
    run_steps(seat);
    sim_round_end(r->rank);
    while (seat->aborting && seat->aborting->state != SIM_OVER)
        sim_wait(&seat->aborting->joiners, SIM_NEVER, "the aborting thread");
    close_group(r);
}
