/* args_test.c - arguments of routes, dispatch and combine that are wrong: each gets SY_INVALID with
 * a text that names it, nothing happens, and the next good call works.
 *
 *   1  Routes      2  Dispatch      3  Combine      4  Strides and places that are right
 *
 * One group of one rank; what several ranks have to do with each other is in order_test.c.
 */
#define _GNU_SOURCE
#include "crew.h"

/* What all tests here use: a group of one rank with two experts, T = 4, K = 2, H = 16 F32. */
static sy_group *group;
static struct crew_batch good;

static sy_route *new_route(int32_t mode, int32_t layout)
{
    sy_route_config config = crew_route(mode, layout);
    sy_route *route = NULL;
    WORKS(sy_route_create(group, &config, NULL, &route));
    return route;
}

static sy_route *set_route(int32_t mode, int32_t layout)
{
    sy_route *route = new_route(mode, layout);
    WORKS(sy_route_set(route, &good.input, NULL));
    return route;
}

/* ---- 1. Routes ------------------------------------------------------------------------------- */

struct bad_route {
    size_t offset, bytes;
    int64_t value;
    const char *text;
};

#define ROUTE(field, value, text)                                                                  \
    {                                                                                              \
        offsetof(sy_route_config, field), sizeof(((sy_route_config *)0)->field), value, text       \
    }

static const struct bad_route bad_routes[] = {
    ROUTE(size, 0, "sy_route_config"),
    ROUTE(size, sizeof(sy_route_config) - 1, "sy_route_config"),
    ROUTE(mode, 0, "mode 0"),
    ROUTE(mode, 3, "mode 3"),
    ROUTE(layout, 0, "layout 0"),
    ROUTE(layout, 5, "layout 5"),
    ROUTE(topk, 0, "topk 0: from 1 to topk_max 4"),
    ROUTE(topk, 5, "topk 5"),
    ROUTE(topk, -1, "topk -1"),
    ROUTE(alignment, -1, "alignment -1"),
    ROUTE(alignment, 65537, "alignment 65537"),
    ROUTE(capacity, -1, "capacity -1"),
    ROUTE(capacity, 1LL << 40, "capacity 1099511627776"),
    ROUTE(capacity, INT64_MAX, "capacity 9223372036854775807"),
};

static void route_configs(void)
{
    for (int layout = SY_TOKEN_MAJOR; layout <= SY_RANK_MAJOR; layout++) {
        for (size_t i = 0; i < sizeof bad_routes / sizeof *bad_routes; i++) {
            const struct bad_route *b = bad_routes + i;
            sy_route_config c = crew_route(SY_THROUGHPUT, layout);
            int32_t narrow = (int32_t)b->value;
            sy_route *route = NULL;
            size_t bytes = 77;
            memcpy((char *)&c + b->offset,
                   b->bytes == 4 ? (const void *)&narrow : (const void *)&b->value, b->bytes);
            FAILS(sy_route_bytes(group, &c, &bytes), SY_INVALID, b->text);
            FAILS(sy_route_create(group, &c, NULL, &route), SY_INVALID, b->text);
            CHECK(!route && bytes == 77, "%s: something came of it", b->text);
        }
    }
}

static void route_modes(void)
{
    for (int mode = SY_THROUGHPUT; mode <= SY_LATENCY; mode++) {
        sy_group_config c;
        sy_group *one = NULL;
        sy_route_config config = crew_route(3 - mode, SY_TOKEN_MAJOR);
        sy_route *route = NULL;
        crew_config(&c, 1, 0);
        c.modes = (uint32_t)mode;
        WORKS(sy_group_create(&c, &one));
        FAILS(sy_route_create(one, &config, NULL, &route), SY_INVALID,
              mode == SY_THROUGHPUT ? "without latency mode" : "without throughput mode");
        WORKS(sy_group_destroy(one));
    }
}

static void route_memory(void)
{
    sy_route_config c = crew_route(SY_THROUGHPUT, SY_EXPERT_PACKED);
    static struct crew_batch batch;
    sy_route *route = NULL;
    size_t bytes = 0;
    char *memory = NULL;
    batch = good;
    batch.dispatch.x.data = batch.x;
    batch.dispatch.out_x.data = batch.rows;
    batch.combine.x.data = batch.rows;
    batch.combine.out.data = batch.out;
    WORKS(sy_route_bytes(group, &c, &bytes));
    CHECK(bytes > 0 && bytes % 256 == 0, "a route of %zu bytes", bytes);
    CHECK(posix_memalign((void **)&memory, 256, bytes + 512) == 0, "no memory");
    memset(memory, 0x5a, bytes + 512); /* its contents do not matter, and nothing behind it */
    FAILS(sy_route_create(group, &c, memory + 16, &route), SY_INVALID, "aligned to 256");
    WORKS(sy_route_create(group, &c, memory, &route));
    WORKS(sy_route_set(route, &batch.input, NULL));
    WORKS(sy_dispatch(route, &batch.dispatch, NULL));
    WORKS(sy_combine(route, &batch.combine, NULL));
    WORKS(sy_stream_sync(group, NULL));
    for (int i = 0; i < CREW_TOKENS * CREW_HIDDEN; i++)
        CHECK(batch.out[i] == 2 * batch.x[i], "out[%d] is %f", i, (double)batch.out[i]);
    WORKS(sy_route_destroy(route));
    for (size_t i = bytes; i < bytes + 512; i++)
        CHECK(memory[i] == 0x5a, "byte %zu behind a route's memory was written", i - bytes);
    free(memory);
}

/* A change of a good input, and what is said about it. */
struct bad_input {
    void (*spoil)(sy_route_input *in);
    const char *text;
};

static uint8_t map[CREW_TOKENS * 2];

static void in_no_size(sy_route_input *in)
{
    in->size = 0;
}

static void in_both(sy_route_input *in)
{
    in->map = sy_tensor_2d(map, SY_U8, CREW_TOKENS, 2);
}

static void in_neither(sy_route_input *in)
{
    in->ids.data = NULL;
}

static void in_type(sy_route_input *in)
{
    in->ids.type = SY_F32;
}

static void in_no_type(sy_route_input *in)
{
    in->ids.type = SY_NONE;
}

static void in_wild_type(sy_route_input *in)
{
    in->ids.type = 4711;
}

static void in_dims(sy_route_input *in)
{
    in->ids.dims = 1;
}

static void in_negative_dims(sy_route_input *in)
{
    in->ids.dims = -7;
}

static void in_topk(sy_route_input *in)
{
    in->ids.shape[1] = 3;
}

static void in_negative(sy_route_input *in)
{
    in->ids.shape[0] = -1;
}

static void in_tokens(sy_route_input *in)
{
    in->ids.shape[0] = 17;
}

static void in_huge(sy_route_input *in)
{
    in->ids.shape[0] = INT64_MAX;
}

static void in_odd_pointer(sy_route_input *in)
{
    in->ids.data = (char *)in->ids.data + 2;
}

static void in_wide_pointer(sy_route_input *in)
{
    in->ids.type = SY_I64;
    in->ids.data = (char *)in->ids.data + 4;
}

static void in_stride(sy_route_input *in)
{
    in->ids.stride[0] = -2;
}

static void in_huge_stride(sy_route_input *in)
{
    in->ids.stride[0] = INT64_MAX / 2;
}

static void in_map_type(sy_route_input *in)
{
    in->ids.data = NULL;
    in->map = sy_tensor_2d(map, SY_I32, CREW_TOKENS, 2);
}

static void in_map_experts(sy_route_input *in)
{
    in->ids.data = NULL;
    in->map = sy_tensor_2d(map, SY_U8, CREW_TOKENS, 3);
}

static void in_map_tokens(sy_route_input *in)
{
    in->ids.data = NULL;
    in->map = sy_tensor_2d(map, SY_U8, 17, 2);
}

static void in_sms(sy_route_input *in)
{
    in->sms = -1;
}
static void in_many_sms(sy_route_input *in)
{
    in->sms = 1025;
}

static const struct bad_input bad_inputs[] = {
    {in_no_size, "sy_route_input"},
    {in_both, "ids and map: one of them"},
    {in_neither, "neither ids nor map, and 4 tokens"},
    {in_type, "ids: type F32"},
    {in_no_type, "ids: type NONE"},
    {in_wild_type, "ids: type ?"},
    {in_dims, "ids: 2 dimensions, not 1"},
    {in_negative_dims, "ids: 2 dimensions, not -7"},
    {in_topk, "ids: shape[1] is 3, not 2"},
    {in_negative, "ids: shape[0] is -1"},
    {in_tokens, "17 tokens; the group was made for"},
    {in_huge, "ids: shape[0]"},
    {in_odd_pointer, "not aligned to 4 bytes"},
    {in_wide_pointer, "not aligned to 8 bytes"},
    {in_stride, "ids: stride[0] is -2"},
    {in_huge_stride, "ids: stride[0]"},
    {in_map_type, "map: type I32"},
    {in_map_experts, "map: shape[1] is 3, not 2"},
    {in_map_tokens, "17 tokens"},
    {in_sms, "sms -1: from 0 to 1024"},
    {in_many_sms, "sms 1025: from 0 to 1024"},
};

static void route_inputs(void)
{
    for (int mode = SY_THROUGHPUT; mode <= SY_LATENCY; mode++) {
        sy_route *route = new_route(mode, SY_TOKEN_MAJOR);
        FAILS(sy_route_set(route, NULL, NULL), SY_INVALID, "sy_route_set");
        for (size_t i = 0; i < sizeof bad_inputs / sizeof *bad_inputs; i++) {
            sy_route_input input = good.input;
            bad_inputs[i].spoil(&input);
            FAILS(sy_route_set(route, &input, NULL), SY_INVALID, bad_inputs[i].text);
            FAILS(sy_dispatch(route, &good.dispatch, NULL), SY_STATE, "has not been set");
        }
        WORKS(sy_route_set(route, &good.input, NULL));
        WORKS(sy_dispatch(route, &good.dispatch, NULL));
        WORKS(sy_stream_sync(group, NULL));
        WORKS(sy_route_destroy(route));
    }
}

static void route_info(void)
{
    sy_route *route = set_route(SY_THROUGHPUT, SY_EXPERT_PACKED);
    sy_route_info info = {.size = 8};
    int64_t totals[SY_TOTALS];
    FAILS(sy_route_info_get(route, NULL), SY_INVALID, "sy_route_info_get");
    FAILS(sy_route_info_get(NULL, &info), SY_INVALID, "sy_route_info_get");
    FAILS(sy_route_info_get(route, &info), SY_INVALID, "size");
    FAILS(sy_route_totals(route, NULL), SY_INVALID, "sy_route_totals");
    info.size = sizeof info;
    WORKS(sy_route_info_get(route, &info));
    WORKS(sy_route_totals(route, totals));
    CHECK(totals[SY_TOTAL_TOKENS] == 4 && totals[SY_TOTAL_ROWS] == 8 &&
              totals[SY_TOTAL_DROPPED] == 0 && totals[SY_TOTAL_OVERFLOW] == 0 &&
              totals[SY_TOTAL_BAD] == 0,
          "totals %lld %lld %lld %lld %lld", (long long)totals[0], (long long)totals[1],
          (long long)totals[2], (long long)totals[3], (long long)totals[4]);
    CHECK(info.totals.shape[0] == SY_TOTALS && info.expert_counts.shape[0] == 2 &&
              info.expert_aligned.shape[0] == 2 && info.expert_offsets.shape[0] == 3 &&
              info.source_counts.shape[0] == 1 && info.source_offsets.shape[0] == 2 &&
              info.slab_begin.shape[0] == 2 && info.slab_begin.shape[1] == 1 &&
              info.slab_count.dims == 2 && info.totals.type == SY_I32,
          "shapes of sy_route_info");
    CHECK(((int32_t *)info.expert_counts.data)[0] == 4 &&
              ((int32_t *)info.expert_offsets.data)[2] == 8,
          "counts of sy_route_info");
    WORKS(sy_route_destroy(route));
}

/* ---- 2. Dispatch ----------------------------------------------------------------------------- */

struct bad_dispatch {
    void (*spoil)(sy_dispatch_args *args);
    const char *text;
    uint32_t layouts; /* where it is wrong: 1 << sy_layout, or'ed; 0: everywhere */
};

#define BY_TOKEN (1u << SY_TOKEN_MAJOR | 1u << SY_RANK_MAJOR)
#define BY_EXPERT (1u << SY_EXPERT_PACKED | 1u << SY_EXPERT_SLABS)
#define FIXED (1u << SY_EXPERT_SLABS | 1u << SY_RANK_MAJOR)
#define FREE (1u << SY_TOKEN_MAJOR | 1u << SY_EXPERT_PACKED)

/* Room that tensors of any type may point at. */
static _Alignas(64) float room[CREW_ROWS * 64];

#define D(name, change)                                                                            \
    static void d_##name(sy_dispatch_args *a)                                                      \
    {                                                                                              \
        change;                                                                                    \
    }

D(size, a->size = 0)
D(short_size, a->size -= 8)
D(phase, a->phase = 3)
D(negative_phase, a->phase = -1)
D(quant, a->quant = 4)
D(negative_quant, a->quant = -1)
D(sms, a->sms = -1)
D(many_sms, a->sms = 1025)
D(no_x, memset(&a->x, 0, sizeof a->x))
D(no_x_data, a->x.data = NULL)
D(x_type, a->x.type = SY_I32)
D(x_no_type, a->x.type = SY_NONE)
D(x_dims, a->x.dims = 3)
D(x_tokens, a->x.shape[0] = 3)
D(x_narrow, a->x.shape[1] = 0)
D(x_wide, a->x.shape[1] = 80; a->x.stride[0] = 80)
D(x_odd, a->x.shape[1] = 15)
D(x_align, a->x.data = (char *)a->x.data + 4)
D(x_stride, a->x.stride[0] = 18)
D(x_columns, a->x.stride[1] = 2)
D(x_backwards, a->x.stride[0] = -16)
D(scales_type, a->scales = sy_tensor_2d(room, SY_BF16, 4, 1))
D(scales_tokens, a->scales = sy_tensor_2d(room, SY_F32, 3, 1))
D(scales_many, a->scales = sy_tensor_2d(room, SY_F32, 4, 3))
D(scales_align, a->scales = sy_tensor_2d((char *)room + 2, SY_F32, 4, 1))
D(both_weights, a->weights = sy_tensor_2d(room, SY_F32, 4, 2);
  a->probs = sy_tensor_2d(room, SY_F32, 4, 2))
D(weights_shape, a->weights = sy_tensor_2d(room, SY_F32, 4, 3))
D(weights_type, a->weights = sy_tensor_2d(room, SY_BF16, 4, 2))
D(weights_dims, a->weights = sy_tensor_1d(room, SY_F32, 8))
D(probs_shape, a->probs = sy_tensor_2d(room, SY_F32, 4, 3))
D(out_type, a->out_x.type = SY_BF16; a->out_x.shape[1] = 32; a->out_x.stride[0] = 32)
D(out_hidden, a->out_x.shape[1] = 12)
D(out_align, a->out_x.data = (char *)a->out_x.data + 8)
D(out_no_data, a->out_x.data = NULL)
D(out_slabs, a->out_x = sy_tensor_3d(room, SY_F32, 2, 4, CREW_HIDDEN))
D(out_slab_rows, a->out_x = sy_tensor_3d(room, SY_F32, 2, 8, CREW_HIDDEN))
D(out_slab_count, a->out_x = sy_tensor_3d(room, SY_F32, 4, 4, CREW_HIDDEN))
D(out_slab_gap, a->out_x = sy_tensor_3d(room, SY_F32, 2, 4, CREW_HIDDEN);
  a->out_x.stride[0] = 8 * CREW_HIDDEN)
D(out_short, a->out_x.shape[0] = 3)
D(src_short, a->out_src = sy_tensor_2d(room, SY_I32, 3, 2))
D(src_shape, a->out_src = sy_tensor_2d(room, SY_I32, CREW_ROWS, 3))
D(src_type, a->out_src = sy_tensor_2d(room, SY_I64, CREW_ROWS, 2))
D(ids_type, a->out_ids = sy_tensor_2d(room, SY_F32, CREW_ROWS, 2))
D(ids_shape, a->out_ids = sy_tensor_2d(room, SY_I32, CREW_ROWS, 3))
D(ids_by_expert, a->out_ids = sy_tensor_2d(room, SY_I32, CREW_ROWS, 2))
D(no_scales, a->out_scales = sy_tensor_2d(room, SY_F32, CREW_ROWS, 1))
D(no_weights, a->out_weights = sy_tensor_2d(room, SY_F32, CREW_ROWS, 2))
D(no_probs, a->out_probs = sy_tensor_2d(room, SY_F32, CREW_ROWS, 2))
D(out_scales_type, a->scales = sy_tensor_2d(room, SY_F32, 4, 1);
  a->out_scales = sy_tensor_2d(room, SY_UE8M0X4, CREW_ROWS, 1))
D(out_scales_shape, a->scales = sy_tensor_2d(room, SY_F32, 4, 1);
  a->out_scales = sy_tensor_2d(room, SY_F32, CREW_ROWS, 2))
D(out_weights_shape, a->weights = sy_tensor_2d(room, SY_F32, 4, 2);
  a->out_weights = sy_tensor_2d(room, SY_F32, CREW_ROWS, 1))
D(out_weights_expert, a->weights = sy_tensor_2d(room, SY_F32, 4, 2);
  a->out_weights = sy_tensor_2d(room, SY_F32, CREW_ROWS, 2))
D(out_probs_shape, a->weights = sy_tensor_2d(room, SY_F32, 4, 2);
  a->out_probs = sy_tensor_2d(room, SY_F32, CREW_ROWS, 3))
D(out_probs_columns, a->weights = sy_tensor_2d(room, SY_F32, 4, 2);
  a->out_probs = sy_tensor_2d(room, SY_F32, CREW_ROWS, 2); a->out_probs.stride[0] = 1;
  a->out_probs.stride[1] = CREW_ROWS)
D(out_probs_expert, a->weights = sy_tensor_2d(room, SY_F32, 4, 2);
  a->out_probs = sy_tensor_2d(room, SY_F32, CREW_ROWS, 2))
D(quant_f32, a->quant = SY_QUANT_F8)
D(quant_scales, a->quant = SY_QUANT_F8; a->x = sy_tensor_2d(room, SY_BF16, 4, 32);
  a->scales = sy_tensor_2d(room, SY_F32, 4, 1))
D(quant_odd, a->quant = SY_QUANT_F8; a->x = sy_tensor_2d(room, SY_BF16, 4, 24))
D(quant_out, a->quant = SY_QUANT_F8; a->x = sy_tensor_2d(room, SY_BF16, 4, 32);
  a->out_x = sy_tensor_2d(room, SY_BF16, CREW_ROWS, 32))
D(quant_out_scales, a->quant = SY_QUANT_F8_UE8M0; a->x = sy_tensor_2d(room, SY_BF16, 4, 32);
  a->out_x = sy_tensor_2d(room, SY_F8E4M3, CREW_ROWS, 32);
  a->out_scales = sy_tensor_2d(room, SY_F32, CREW_ROWS, 1))

static const struct bad_dispatch bad_dispatches[] = {
    {d_size, "sy_dispatch", 0},
    {d_short_size, "sy_dispatch", 0},
    {d_phase, "phase 3", 0},
    {d_negative_phase, "phase -1", 0},
    {d_quant, "", 0},
    {d_negative_quant, "", 0},
    {d_sms, "sms -1: from 0 to 1024", 0},
    {d_many_sms, "sms 1025: from 0 to 1024", 0},
    {d_no_x, "x is missing", 0},
    {d_no_x_data, "x: no data, and 4 rows", 0},
    {d_x_type, "x: type I32", 0},
    {d_x_no_type, "x: type NONE", 0},
    {d_x_dims, "x: 2 dimensions, not 3", 0},
    {d_x_tokens, "x: shape[0] is 3, not 4", 0},
    {d_x_narrow, "x: rows of 0 bytes", 0},
    {d_x_wide, "x: rows of 320 bytes; the group takes 16 to 256", 0},
    {d_x_odd, "x: a row of 60 bytes is no multiple of 16", 0},
    {d_x_align, "not aligned to 16 bytes", 0},
    {d_x_stride, "x: rows 72 bytes apart", 0},
    {d_x_columns, "x: rows must be contiguous", 0},
    {d_x_backwards, "x: stride[0] is -16", 0},
    {d_scales_type, "scales: type BF16", 0},
    {d_scales_tokens, "scales: shape[0] is 3, not 4", 0},
    {d_scales_many, "3 scales a row; the group takes 2", 0},
    {d_scales_align, "not aligned to 4 bytes", 0},
    {d_both_weights, "weights and probs: one of them", 0},
    {d_weights_shape, "weights: shape[1] is 3, not 2", 0},
    {d_weights_type, "weights: type BF16", 0},
    {d_weights_dims, "weights: 2 dimensions, not 1", 0},
    {d_probs_shape, "probs: shape[1] is 3, not 2", 0},
    {d_out_type, "out_x: type BF16", 0},
    {d_out_hidden, "out_x: shape[1] is 12, not 16", 0},
    {d_out_align, "out_x: ", 0},
    {d_out_no_data, "out_x: no data, and 64 rows", 0},
    {d_out_slabs, "out_x: 3 dimensions", FREE},
    {d_out_slab_rows, "out_x: 2 slabs of 8 rows", FIXED},
    {d_out_slab_count, "out_x: 4 slabs of 4 rows", FIXED},
    {d_out_slab_gap, "out_x: slabs must follow each other", 1u << SY_EXPERT_SLABS},
    {d_out_short, "out_x: 3 rows, at least", FIXED},
    {d_src_short, "out_src: 3 rows, at least", FIXED},
    {d_src_shape, "out_src: shape[1] is 3, not 2", 0},
    {d_src_type, "out_src: type I64", 0},
    {d_ids_type, "out_ids: type F32", BY_TOKEN},
    {d_ids_shape, "out_ids: shape[1] is 3, not 2", BY_TOKEN},
    {d_ids_by_expert, "out_ids: the layouts by expert have none", BY_EXPERT},
    {d_no_scales, "out_scales: no scales travel", 0},
    {d_no_weights, "no weights travel", 0},
    {d_no_probs, "no weights travel", 0},
    {d_out_scales_type, "out_scales: type UE8M0X4", 0},
    {d_out_scales_shape, "out_scales: shape[1] is 2, not 1", 0},
    {d_out_weights_shape, "out_weights: shape[1] is 1, not 2", BY_TOKEN},
    {d_out_weights_expert, "out_weights: 1 dimensions, not 2", BY_EXPERT},
    {d_out_probs_shape, "out_probs: shape[1] is 3, not 2", BY_TOKEN},
    {d_out_probs_columns, "out_probs: rows must be contiguous", BY_TOKEN},
    {d_out_probs_expert, "out_probs, out_ids: the layouts by expert have none", BY_EXPERT},
    {d_quant_f32, "x: type F32", 0},
    {d_quant_scales, "scales: quantisation makes its own", 0},
    {d_quant_odd, "24 elements are no multiple of 16", 0},
    {d_quant_out, "out_x: type BF16", 0},
    {d_quant_out_scales, "out_scales: type F32", 0},
};

static void dispatches(void)
{
    for (int mode = SY_THROUGHPUT; mode <= SY_LATENCY; mode++) {
        for (int layout = SY_TOKEN_MAJOR; layout <= SY_RANK_MAJOR; layout++) {
            sy_route *route = set_route(mode, layout);
            FAILS(sy_dispatch(route, NULL, NULL), SY_INVALID, "sy_dispatch");
            for (size_t i = 0; i < sizeof bad_dispatches / sizeof *bad_dispatches; i++) {
                const struct bad_dispatch *b = bad_dispatches + i;
                sy_dispatch_args args = good.dispatch;
                sy_status status;
                if (b->layouts && !(b->layouts >> layout & 1))
                    continue;
                b->spoil(&args);
                status = sy_dispatch(route, &args, NULL);
                CHECK(status == SY_INVALID && strstr(sy_last_error(), b->text),
                      "mode %d, layout %d, \"%s\": %s: %s", mode, layout, b->text,
                      sy_status_name(status), status == SY_OK ? "" : sy_last_error());
            }
            WORKS(sy_dispatch(route, &good.dispatch, NULL));
            WORKS(sy_stream_sync(group, NULL));
            WORKS(sy_route_destroy(route));
        }
    }
}

/* What the library cannot serve, with the reason. */
static void views(void)
{
    sy_dispatch_args args = good.dispatch;
    sy_route *route = set_route(SY_LATENCY, SY_TOKEN_MAJOR);
    sy_route_config config = crew_route(SY_LATENCY, SY_RANK_MAJOR);
    sy_tensor view;
    memset(&args.out_x, 0, sizeof args.out_x);
    args.view = &view;
    memset(&view, 0x11, sizeof view);
    FAILS(sy_dispatch(route, &args, NULL), SY_UNSUPPORTED, "only RANK_MAJOR can leave them there");
    CHECK(view.type == 0x11111111, "a refused dispatch wrote a view");
    WORKS(sy_route_destroy(route));
    WORKS(sy_route_create(group, &config, NULL, &route)); /* a capacity of 4 */
    WORKS(sy_route_set(route, &good.input, NULL));
    FAILS(sy_dispatch(route, &args, NULL), SY_UNSUPPORTED, "latency_tokens_max (8)");
    WORKS(sy_route_destroy(route));
    config.capacity = 0;
    WORKS(sy_route_create(group, &config, NULL, &route));
    WORKS(sy_route_set(route, &good.input, NULL));
    WORKS(sy_dispatch(route, &args, NULL));
    CHECK(view.data && view.dims == 3 && view.shape[0] == 1 && view.shape[1] == 8 &&
              view.shape[2] == CREW_HIDDEN && view.type == SY_F32,
          "a view of %d dimensions", view.dims);
    WORKS(sy_stream_sync(group, NULL));
    CHECK(!memcmp(view.data, good.x, sizeof good.x), "what the view shows");
    WORKS(sy_route_destroy(route));
    config = crew_route(SY_THROUGHPUT, SY_TOKEN_MAJOR);
    config.capacity = 65; /* of a group with a recv_rows_max of 64 */
    WORKS(sy_route_create(group, &config, NULL, &route));
    WORKS(sy_route_set(route, &good.input, NULL));
    FAILS(sy_dispatch(route, &args, NULL), SY_INVALID, "recv_rows_max of 64");
    WORKS(sy_route_destroy(route));
}

/* ---- 3. Combine ------------------------------------------------------------------------------ */

struct bad_combine {
    void (*spoil)(sy_combine_args *args);
    const char *text;
    uint32_t layouts;
};

#define C(name, change)                                                                            \
    static void c_##name(sy_combine_args *a)                                                       \
    {                                                                                              \
        change;                                                                                    \
    }

C(size, a->size = 0)
C(phase, a->phase = 7)
C(sms, a->sms = -1)
C(many_sms, a->sms = 1025)
C(no_x, memset(&a->x, 0, sizeof a->x))
C(x_no_data, a->x.data = NULL)
C(x_type, a->x = sy_tensor_2d(room, SY_F8E4M3, CREW_ROWS, 64))
C(x_opaque, a->x = sy_tensor_2d(room, SY_OPAQUE16, CREW_ROWS, 4))
C(x_dims, a->x.dims = 4)
C(x_one, a->x.dims = 1)
C(x_wide, a->x = sy_tensor_2d(room, SY_F32, 16, 80))
C(x_odd, a->x.shape[1] = 15)
C(x_align, a->x.data = (char *)a->x.data + 4)
C(x_short, a->x.shape[0] = 3)
C(x_slabs, a->x = sy_tensor_3d(room, SY_F32, 2, 4, CREW_HIDDEN))
C(x_slab_rows, a->x = sy_tensor_3d(room, SY_F32, 2, 8, CREW_HIDDEN))
C(no_out, memset(&a->out, 0, sizeof a->out))
C(out_no_data, a->out.data = NULL)
C(out_tokens, a->out.shape[0] = 5)
C(out_hidden, a->out.shape[1] = 12)
C(out_type, a->out = sy_tensor_2d(room, SY_BF16, 4, CREW_HIDDEN))
C(out_align, a->out.data = (char *)a->out.data + 4)
C(out_stride, a->out.stride[0] = 18)
C(weights_shape, a->weights = sy_tensor_2d(room, SY_F32, 4, 3))
C(weights_tokens, a->weights = sy_tensor_2d(room, SY_F32, 5, 2))
C(weights_type, a->weights = sy_tensor_2d(room, SY_F16, 4, 2))
C(bias0_shape, a->bias[0] = sy_tensor_2d(room, SY_F32, 4, 20))
C(bias1_shape, a->bias[1] = sy_tensor_2d(room, SY_F32, 3, CREW_HIDDEN))
C(bias1_type, a->bias[1] = sy_tensor_2d(room, SY_BF16, 4, CREW_HIDDEN))
C(two_carried, a->row_weights = sy_tensor_2d(room, SY_F32, CREW_ROWS, 2);
  a->row_probs = sy_tensor_2d(room, SY_F32, CREW_ROWS, 2))
C(probs_by_expert, a->row_probs = sy_tensor_2d(room, SY_F32, CREW_ROWS, 2))
C(row_weights_shape, a->row_weights = sy_tensor_2d(room, SY_F32, CREW_ROWS, 3))
C(row_weights_expert, a->row_weights = sy_tensor_2d(room, SY_F32, CREW_ROWS, 2))
C(row_weights_short, a->row_weights = sy_tensor_2d(room, SY_F32, 3, 2))
C(row_probs_shape, a->row_probs = sy_tensor_2d(room, SY_F32, CREW_ROWS, 3))
C(out_weights_alone, a->out_weights = sy_tensor_2d(room, SY_F32, 4, 2))
C(out_probs_alone, a->out_probs = sy_tensor_2d(room, SY_F32, 4, 2))
C(out_weights_shape, a->row_weights = sy_tensor_2d(room, SY_F32, CREW_ROWS, 2);
  a->out_weights = sy_tensor_2d(room, SY_F32, 4, 1))
C(out_probs_shape, a->row_weights = sy_tensor_2d(room, SY_F32, CREW_ROWS, 2);
  a->out_probs = sy_tensor_2d(room, SY_F32, 4, 3))
C(out_probs_columns, a->row_weights = sy_tensor_2d(room, SY_F32, CREW_ROWS, 2);
  a->out_probs = sy_tensor_2d(room, SY_F32, 4, 2); a->out_probs.stride[0] = 1;
  a->out_probs.stride[1] = 4)

static const struct bad_combine bad_combines[] = {
    {c_size, "sy_combine", 0},
    {c_phase, "phase 7", 0},
    {c_sms, "sms -1: from 0 to 1024", 0},
    {c_many_sms, "sms 1025: from 0 to 1024", 0},
    {c_no_x, "x", 0},
    {c_x_no_data, "x: no data, and 64 rows", 0},
    {c_x_type, "x: type F8E4M3", 0},
    {c_x_opaque, "x: type OPAQUE16", 0},
    {c_x_dims, "x: 2 or 3 dimensions, not 4", 0},
    {c_x_one, "x: 2 or 3 dimensions, not 1", 0},
    {c_x_wide, "x: rows of 320 bytes", 0},
    {c_x_odd, "x: a row of 60 bytes", 0},
    {c_x_align, "not aligned to 16 bytes", 0},
    {c_x_short, "x: 3 rows, at least", FIXED},
    {c_x_slabs, "x: 3 dimensions", FREE},
    {c_x_slab_rows, "x: 2 slabs of 8 rows", FIXED},
    {c_no_out, "out is missing", 0},
    {c_out_no_data, "out: no data, and 4 rows", 0},
    {c_out_tokens, "out: shape[0] is 5, not 4", 0},
    {c_out_hidden, "out: shape[1] is 12, not 16", 0},
    {c_out_type, "out: type BF16", 0},
    {c_out_align, "not aligned to 16 bytes", 0},
    {c_out_stride, "out: rows 72 bytes apart", 0},
    {c_weights_shape, "weights: shape[1] is 3, not 2", 0},
    {c_weights_tokens, "weights: shape[0] is 5, not 4", 0},
    {c_weights_type, "weights: type F16", 0},
    {c_bias0_shape, "bias[0]: shape[1] is 20, not 16", 0},
    {c_bias1_shape, "bias[1]: shape[0] is 3, not 4", 0},
    {c_bias1_type, "bias[1]: type BF16", 0},
    {c_two_carried, "row_weights and row_probs: one of them", 0},
    {c_probs_by_expert, "row_probs: the layouts by expert have one weight per row", BY_EXPERT},
    {c_row_weights_shape, "row_weights: shape[1] is 3, not 2", BY_TOKEN},
    {c_row_weights_expert, "row_weights: 1 dimensions, not 2", BY_EXPERT},
    {c_row_weights_short, "row_weights: 3 rows, at least 4", 1u << SY_RANK_MAJOR},
    {c_row_probs_shape, "row_probs: shape[1] is 3, not 2", BY_TOKEN},
    {c_out_weights_alone, "no weights travel back", 0},
    {c_out_probs_alone, "no weights travel back", 0},
    {c_out_weights_shape, "out_weights: shape[1] is 1, not 2", BY_TOKEN},
    {c_out_probs_shape, "out_probs: shape[1] is 3, not 2", BY_TOKEN},
    {c_out_probs_columns, "out_probs: rows must be contiguous", BY_TOKEN},
};

static void combines(void)
{
    for (int mode = SY_THROUGHPUT; mode <= SY_LATENCY; mode++) {
        for (int layout = SY_TOKEN_MAJOR; layout <= SY_RANK_MAJOR; layout++) {
            sy_route *route = set_route(mode, layout);
            WORKS(sy_dispatch(route, &good.dispatch, NULL));
            FAILS(sy_combine(route, NULL, NULL), SY_INVALID, "sy_combine");
            for (size_t i = 0; i < sizeof bad_combines / sizeof *bad_combines; i++) {
                const struct bad_combine *b = bad_combines + i;
                sy_combine_args args = good.combine;
                sy_status status;
                if (b->layouts && !(b->layouts >> layout & 1))
                    continue;
                b->spoil(&args);
                status = sy_combine(route, &args, NULL);
                CHECK(status == SY_INVALID && strstr(sy_last_error(), b->text),
                      "mode %d, layout %d, \"%s\": %s: %s", mode, layout, b->text,
                      sy_status_name(status), status == SY_OK ? "" : sy_last_error());
            }
            WORKS(sy_combine(route, &good.combine, NULL));
            WORKS(sy_stream_sync(group, NULL));
            WORKS(sy_route_destroy(route));
        }
    }
}

/* Fewer rows than come, in the layouts whose number of rows only the device knows: the group is
 * lost, and says why. */
static void too_few_rows(void)
{
    for (int mode = SY_THROUGHPUT; mode <= SY_LATENCY; mode++) {
        for (int op = 0; op < 2; op++) {
            sy_group_config c;
            sy_route_config config = crew_route(mode, SY_TOKEN_MAJOR);
            struct crew_batch *b = malloc(sizeof *b);
            sy_route *route = NULL;
            sy_group *one = NULL;
            crew_fill(b, 0, 2);
            crew_config(&c, 1, 0);
            WORKS(sy_group_create(&c, &one));
            WORKS(sy_route_create(one, &config, NULL, &route));
            if (!op)
                b->dispatch.out_x.shape[0] = 3;
            WORKS(sy_route_set(route, &b->input, NULL));
            WORKS(sy_dispatch(route, &b->dispatch, NULL));
            if (op) {
                WORKS(sy_stream_sync(one, NULL));
                b->combine.x.shape[0] = 3;
                WORKS(sy_combine(route, &b->combine, NULL));
            }
            FAILS(sy_stream_sync(one, NULL), SY_INVALID,
                  "on rank 0 the route brings 4 rows, and a tensor has 3");
            FAILS(sy_dispatch(route, &b->dispatch, NULL), SY_INVALID, "a tensor has 3");
            WORKS(sy_route_destroy(route));
            WORKS(sy_group_destroy(one));
            free(b);
        }
    }
}

/* ---- 4. Strides and places that are right ---------------------------------------------------- */

/* Everything strided: ids by column, rows with gaps, slabs in three dimensions. */
static void strided(void)
{
    int64_t by_column[2 * CREW_TOKENS + 3] = {0};
    struct crew_batch *b = malloc(sizeof *b);
    float *x = calloc(4 * 32, sizeof *x), *src = calloc(64, sizeof *src);
    sy_route *route = new_route(SY_THROUGHPUT, SY_RANK_MAJOR);
    crew_fill(b, 0, 2);
    for (int t = 0; t < CREW_TOKENS; t++) {
        by_column[t] = b->ids[2 * t];
        by_column[CREW_TOKENS + 3 + t] = b->ids[2 * t + 1];
        memcpy(x + 32 * t, b->x + CREW_HIDDEN * t, CREW_HIDDEN * 4);
    }
    b->input.ids = sy_tensor_2d(by_column, SY_I64, CREW_TOKENS, 2);
    b->input.ids.stride[0] = 1;
    b->input.ids.stride[1] = CREW_TOKENS + 3;
    WORKS(sy_route_set(route, &b->input, NULL));
    b->dispatch.x = sy_tensor_2d(x, SY_F32, CREW_TOKENS, CREW_HIDDEN);
    b->dispatch.x.stride[0] = 32;
    b->dispatch.out_x = sy_tensor_3d(b->rows, SY_F32, 1, 4, CREW_HIDDEN);
    memset(b->dispatch.out_x.stride, 0, sizeof b->dispatch.out_x.stride); /* contiguous */
    b->dispatch.out_src = sy_tensor_2d(src, SY_I32, 4, 2);
    b->dispatch.out_src.stride[0] = 1;
    b->dispatch.out_src.stride[1] = 5;
    WORKS(sy_dispatch(route, &b->dispatch, NULL));
    b->combine.x = b->dispatch.out_x;
    WORKS(sy_combine(route, &b->combine, NULL));
    WORKS(sy_stream_sync(group, NULL));
    CHECK(!memcmp(b->rows, b->x, sizeof b->x) && !memcmp(b->out, b->x, sizeof b->x),
          "strided rows did not come through");
    for (int t = 0; t < CREW_TOKENS; t++)
        CHECK(((int32_t *)src)[t] == 0 && ((int32_t *)src)[5 + t] == t, "out_src of row %d", t);
    WORKS(sy_route_destroy(route));
    free(b);
    free(x);
    free(src);
}

/* No tokens: no memory either, whatever the form of the tensor that says so. */
static void nothing(void)
{
    for (int mode = SY_THROUGHPUT; mode <= SY_LATENCY; mode++) {
        for (int layout = SY_TOKEN_MAJOR; layout <= SY_RANK_MAJOR; layout++) {
            sy_route *route = new_route(mode, layout);
            struct crew_batch *b = malloc(sizeof *b);
            int64_t totals[SY_TOTALS];
            crew_fill(b, 0, 2);
            b->input.ids = sy_tensor_2d(NULL, SY_I32, 0, 2);
            b->dispatch.x = sy_tensor_2d(NULL, SY_F32, 0, CREW_HIDDEN);
            b->combine.out = sy_tensor_2d(NULL, SY_F32, 0, CREW_HIDDEN);
            WORKS(sy_route_set(route, &b->input, NULL));
            WORKS(sy_dispatch(route, &b->dispatch, NULL));
            WORKS(sy_combine(route, &b->combine, NULL));
            memset(&b->combine.out, 0, sizeof b->combine.out);
            WORKS(sy_combine(route, &b->combine, NULL));
            WORKS(sy_route_totals(route, totals));
            CHECK(totals[SY_TOTAL_TOKENS] == 0 && totals[SY_TOTAL_ROWS] == 0,
                  "rows out of nothing");
            memset(&b->dispatch.x, 0, sizeof b->dispatch.x);
            FAILS(sy_dispatch(route, &b->dispatch, NULL), SY_INVALID,
                  "without tokens its type and H are still needed");
            WORKS(sy_route_destroy(route));
            free(b);
        }
    }
}

int main(void)
{
    struct crew_left before = crew_before();
    crew_fill(&good, 0, 2);
    group = crew_alone();
    if (!group)
        return 1;
    TEST(route_configs);
    TEST(route_modes);
    TEST(route_memory);
    TEST(route_inputs);
    TEST(route_info);
    TEST(dispatches);
    TEST(views);
    TEST(combines);
    TEST(too_few_rows);
    TEST(strided);
    TEST(nothing);
    if (sy_group_destroy(group) != SY_OK || !crew_clean(before)) {
        printf("something is left: %s\n", sy_last_error());
        return 1;
    }
    return check_end();
}
