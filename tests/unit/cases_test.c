/* cases_test.c - whether generated cases (tests/lib/cases.h) are what a test of everything needs:
 * prints how often each feature occurred in so many seeds, and fails if one never did.
 *
 *     cases_test [SEEDS]
 */
#include <stdlib.h>

#include "cases.h"
#include "check.h"

struct feature {
    const char *name;
    int (*is)(const struct sy_case *c);
    int least; /* of a thousand seeds */
    int count;
};

static int any_rank(const struct sy_case *c, int (*is)(const struct sy_case *, int32_t))
{
    int any = 0;
    for (int32_t r = 0; r < c->world.ranks; r++)
        any |= is(c, r);
    return any;
}

#define FEATURE(name, cond)                                                                        \
    static int name(const struct sy_case *c)                                                       \
    {                                                                                              \
        const struct sy_ref_world *w = &c->world;                                                  \
        (void)w;                                                                                   \
        return cond;                                                                               \
    }
#define OF_RANK(name, cond)                                                                        \
    static int name##_at(const struct sy_case *c, int32_t r)                                       \
    {                                                                                              \
        const struct sy_ref_rank *at = c->world.rank + r;                                          \
        (void)at;                                                                                  \
        return cond;                                                                               \
    }                                                                                              \
    static int name(const struct sy_case *c)                                                       \
    {                                                                                              \
        return any_rank(c, name##_at);                                                             \
    }

static int64_t row_bytes(const struct sy_case *c)
{
    return c->world.hidden * sy_ref_type_bytes(c->world.type);
}

FEATURE(ranks_1, w->ranks == 1)
FEATURE(ranks_2, w->ranks == 2)
FEATURE(ranks_3, w->ranks == 3)
FEATURE(ranks_5, w->ranks == 5)
FEATURE(ranks_8, w->ranks == 8)
FEATURE(ranks_16, w->ranks == 16)
FEATURE(throughput, c->mode == SY_THROUGHPUT)
FEATURE(latency, c->mode == SY_LATENCY)
FEATURE(token_major, w->layout == SY_TOKEN_MAJOR)
FEATURE(packed, w->layout == SY_EXPERT_PACKED)
FEATURE(slabs, w->layout == SY_EXPERT_SLABS)
FEATURE(rank_major, w->layout == SY_RANK_MAJOR)
FEATURE(aligned, w->layout == SY_EXPERT_PACKED && w->alignment > 1)
FEATURE(halves, c->halves)
FEATURE(bf16, w->type == SY_BF16)
FEATURE(f16, w->type == SY_F16)
FEATURE(f32, w->type == SY_F32)
FEATURE(f8, w->type == SY_F8E4M3)
FEATURE(opaque, w->type == SY_OPAQUE16)
FEATURE(quant_f8, w->quant == SY_QUANT_F8)
FEATURE(quant_pow2, w->quant == SY_QUANT_F8_POW2)
FEATURE(quant_ue8m0, w->quant == SY_QUANT_F8_UE8M0)
FEATURE(scales_f32, !w->quant && c->scale_type == SY_F32)
FEATURE(scales_ue8m0, !w->quant && c->scale_type == SY_UE8M0X4)
FEATURE(scales_by_column, c->scales_by_column)
FEATURE(padded_rows, c->x_pad > 0)
FEATURE(row_16, row_bytes(c) == 16)
FEATURE(row_odd, row_bytes(c) % 128 != 0)
FEATURE(row_large, row_bytes(c) >= 4096)
FEATURE(ids_i32, c->input == SY_I32)
FEATURE(ids_i64, c->input == SY_I64)
FEATURE(ids_map, c->input == SY_U8)
FEATURE(topk_1, w->topk == 1)
FEATURE(topk_over_32, w->topk > 32)
FEATURE(topk_all, w->topk == c->experts && c->experts > 1)
FEATURE(topk_all_of_many, w->topk == c->experts && c->experts >= 16)
FEATURE(topk_max_larger, c->topk_max > w->topk)
FEATURE(weights, w->rank[0].weights != NULL)
FEATURE(probs, w->rank[0].probs != NULL)
FEATURE(no_weights, !w->rank[0].probs && !w->rank[0].weights)
FEATURE(uniform, c->routing == SY_CASE_UNIFORM)
FEATURE(zipf, c->routing == SY_CASE_ZIPF)
FEATURE(one, c->routing == SY_CASE_ONE)
FEATURE(none, c->routing == SY_CASE_NONE)
FEATURE(repeats, c->routing == SY_CASE_REPEATS)
FEATURE(holes, c->routing == SY_CASE_HOLES)
FEATURE(bad_ids, c->routing == SY_CASE_BAD)
FEATURE(local, c->routing == SY_CASE_LOCAL)
FEATURE(remote, c->routing == SY_CASE_REMOTE)
FEATURE(sum_weighted, c->sum[0].weights != NULL)
FEATURE(sum_plain, !c->sum[0].weights)
FEATURE(bias_0, c->sum[0].bias[0] && !c->sum[0].bias[1])
FEATURE(bias_1, !c->sum[0].bias[0] && c->sum[0].bias[1])
FEATURE(bias_both, c->sum[0].bias[0] && c->sum[0].bias[1])
FEATURE(carry_weights, c->carry_weights)
FEATURE(carry_probs, c->carry_probs)
FEATURE(carry_from_probs, c->sum[0].row_probs != NULL)
FEATURE(carry_none, !c->sum[0].row_probs && !c->sum[0].row_weights)
FEATURE(numbers, c->sum_data == SY_CASE_NUMBERS)
FEATURE(any_bits, c->sum_data == SY_CASE_BITS)
FEATURE(payload_bits, c->data == SY_CASE_BITS)
OF_RANK(no_tokens, at->tokens == 0)
OF_RANK(one_token, at->tokens == 1)
OF_RANK(tokens_64, at->tokens > 48)
OF_RANK(no_experts, at->experts == 0)
OF_RANK(one_expert, at->experts == 1)
OF_RANK(experts_250, at->experts > 250)
OF_RANK(spare_rows, c->rank[r].out_rows > sy_ref_rows(&c->world, r))
OF_RANK(out_plain, c->rank[r].out_place == SY_CASE_PLAIN)
OF_RANK(out_heap, c->rank[r].out_place == SY_CASE_HEAP)
OF_RANK(out_view, c->rank[r].out_place == SY_CASE_VIEW)
OF_RANK(sum_plain_place, c->rank[r].sum_place == SY_CASE_PLAIN)
OF_RANK(sum_heap_place, c->rank[r].sum_place == SY_CASE_HEAP)
OF_RANK(few_outputs, !(c->rank[r].outputs & SY_CASE_OUT_SRC))
OF_RANK(out_ids_i32, c->rank[r].ids_type == SY_I32 && c->rank[r].outputs & SY_CASE_OUT_IDS)
OF_RANK(out_ids_i64, c->rank[r].ids_type == SY_I64 && c->rank[r].outputs & SY_CASE_OUT_IDS)
OF_RANK(out_probs, c->rank[r].outputs &SY_CASE_OUT_PROBS)
OF_RANK(out_scales, c->rank[r].outputs &SY_CASE_OUT_SCALES)

/* What follows from the routing. */
static int overflows(const struct sy_case *c)
{
    struct sy_ref_route route = {0};
    int any = 0;
    sy_ref_route(&c->world, &route);
    for (int32_t r = 0; r < c->world.ranks; r++)
        any |= route.at[r].totals[SY_TOTAL_OVERFLOW];
    sy_ref_route_free(&route);
    return any;
}

static int uneven_experts(const struct sy_case *c)
{
    int uneven = 0;
    for (int32_t r = 1; r < c->world.ranks; r++)
        uneven |= c->world.rank[r].experts != c->world.rank[0].experts;
    return uneven;
}

static int uneven_tokens(const struct sy_case *c)
{
    int uneven = 0;
    for (int32_t r = 1; r < c->world.ranks; r++)
        uneven |= c->world.rank[r].tokens != c->world.rank[0].tokens;
    return uneven;
}

static int nobody_has_tokens(const struct sy_case *c)
{
    int any = 0;
    for (int32_t r = 0; r < c->world.ranks; r++)
        any |= c->world.rank[r].tokens > 0;
    return !any;
}

#define F(is, least)                                                                               \
    {                                                                                              \
#is, is, least, 0                                                                          \
    }

static struct feature features[] = {F(ranks_1, 30),
                                    F(ranks_2, 200),
                                    F(ranks_3, 100),
                                    F(ranks_5, 30),
                                    F(ranks_8, 30),
                                    F(ranks_16, 30),
                                    F(throughput, 400),
                                    F(latency, 400),
                                    F(token_major, 150),
                                    F(packed, 150),
                                    F(slabs, 150),
                                    F(rank_major, 150),
                                    F(aligned, 80),
                                    F(halves, 200),
                                    F(bf16, 200),
                                    F(f16, 50),
                                    F(f32, 50),
                                    F(f8, 50),
                                    F(opaque, 50),
                                    F(quant_f8, 50),
                                    F(quant_pow2, 50),
                                    F(quant_ue8m0, 50),
                                    F(scales_f32, 30),
                                    F(scales_ue8m0, 30),
                                    F(scales_by_column, 50),
                                    F(padded_rows, 150),
                                    F(row_16, 10),
                                    F(row_odd, 200),
                                    F(row_large, 20),
                                    F(ids_i32, 200),
                                    F(ids_i64, 200),
                                    F(ids_map, 100),
                                    F(topk_1, 50),
                                    F(topk_over_32, 5),
                                    F(topk_all, 30),
                                    F(topk_all_of_many, 5),
                                    F(topk_max_larger, 50),
                                    F(weights, 200),
                                    F(probs, 80),
                                    F(no_weights, 100),
                                    F(uniform, 150),
                                    F(zipf, 40),
                                    F(one, 40),
                                    F(none, 10),
                                    F(repeats, 40),
                                    F(holes, 40),
                                    F(bad_ids, 40),
                                    F(local, 40),
                                    F(remote, 40),
                                    F(sum_weighted, 200),
                                    F(sum_plain, 200),
                                    F(bias_0, 50),
                                    F(bias_1, 50),
                                    F(bias_both, 50),
                                    F(carry_weights, 100),
                                    F(carry_probs, 50),
                                    F(carry_from_probs, 30),
                                    F(carry_none, 100),
                                    F(numbers, 300),
                                    F(any_bits, 100),
                                    F(payload_bits, 100),
                                    F(no_tokens, 100),
                                    F(one_token, 100),
                                    F(tokens_64, 50),
                                    F(no_experts, 20),
                                    F(one_expert, 50),
                                    F(experts_250, 5),
                                    F(spare_rows, 200),
                                    F(out_plain, 200),
                                    F(out_heap, 200),
                                    F(out_view, 200),
                                    F(sum_plain_place, 200),
                                    F(sum_heap_place, 200),
                                    F(few_outputs, 100),
                                    F(out_ids_i32, 50),
                                    F(out_ids_i64, 50),
                                    F(out_probs, 50),
                                    F(out_scales, 100),
                                    F(overflows, 150),
                                    F(uneven_experts, 200),
                                    F(uneven_tokens, 300),
                                    F(nobody_has_tokens, 3)};

#define FEATURES (sizeof features / sizeof *features)

static uint64_t seeds = 3000;

static void all_features(void)
{
    for (uint64_t seed = 0; seed < seeds; seed++) {
        struct sy_case c;
        sy_case_make(&c, seed, NULL);
        for (size_t i = 0; i < FEATURES; i++)
            features[i].count += features[i].is(&c) != 0;
        sy_case_free(&c);
    }
    for (size_t i = 0; i < FEATURES; i++) {
        printf("  %-20s %5d%s", features[i].name, features[i].count, i % 4 == 3 ? "\n" : "");
        CHECK((uint64_t)features[i].count * 1000 >= (uint64_t)features[i].least * seeds,
              "%s: %d times in %llu seeds", features[i].name, features[i].count,
              (unsigned long long)seeds);
    }
    printf("\n");
}

/* Every mode with every layout, type, quantisation and routing. */
static void pairs(void)
{
    static int layout_type[3][5][10], layout_routing[3][5][SY_CASE_ROUTINGS], mode_quant[3][4];
    for (uint64_t seed = 0; seed < seeds; seed++) {
        struct sy_case c;
        sy_case_make(
            &c, seed,
            &(struct sy_case_limits){.ranks_max = 3, .tokens_max = 4, .payload_bytes = 4096});
        layout_type[c.mode][c.world.layout][c.world.type]++;
        layout_routing[c.mode][c.world.layout][c.routing]++;
        mode_quant[c.mode][c.world.quant]++;
        sy_case_free(&c);
    }
    for (int mode = SY_THROUGHPUT; mode <= SY_LATENCY; mode++)
        for (int layout = SY_TOKEN_MAJOR; layout <= SY_RANK_MAJOR; layout++) {
            for (int type = SY_BF16; type <= SY_OPAQUE16; type++)
                CHECK(layout_type[mode][layout][type], "mode %d, layout %d: never type %d", mode,
                      layout, type);
            for (int routing = 0; routing < SY_CASE_ROUTINGS; routing++)
                CHECK(layout_routing[mode][layout][routing], "mode %d, layout %d: never routing %d",
                      mode, layout, routing);
            for (int quant = 0; quant < 4; quant++)
                CHECK(mode_quant[mode][quant], "mode %d: never quantisation %d", mode, quant);
        }
}

int main(int argc, char **argv)
{
    if (argc > 1)
        seeds = strtoull(argv[1], NULL, 10);
    TEST(all_features);
    TEST(pairs);
    return check_end();
}
