/* ref_test.c - tests of the reference and of the generator of cases.
 *
 * Tiny worlds whose numbers are written out, number formats against an exhaustive search, and
 * properties over many generated cases. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"
#include "prng.h"
#include "ref/ref.h"

#define COUNT(array) ((int32_t)(sizeof(array) / sizeof *(array)))

/* ---- reporting ---- */

static const char *test_name;
static int test_failures;

__attribute__((format(printf, 2, 3))) static void fail_at(int line, const char *format, ...)
{
    va_list ap;
    if (test_failures++ > 4)
        return;
    printf("FAIL %s: line %d: ", test_name, line);
    va_start(ap, format);
    vprintf(format, ap);
    va_end(ap);
    printf("\n");
}

#define CHECK(cond, ...)                                                                           \
    do {                                                                                           \
        if (!(cond))                                                                               \
            fail_at(__LINE__, __VA_ARGS__);                                                        \
    } while (0)

/* Memory that lives until release(). */
static void *scratch[64];
static int scratch_used;

static void *allocate(int64_t bytes, int value)
{
    void *memory = malloc(bytes ? (size_t)bytes : 1);
    if (!memory || scratch_used == COUNT(scratch))
        abort();
    scratch[scratch_used++] = memory;
    return memset(memory, value, (size_t)bytes);
}

static void release(void)
{
    while (scratch_used)
        free(scratch[--scratch_used]);
}

static uint32_t bits_of(float value)
{
    return sy_ref_encode(SY_F32, value);
}

static float float_of(uint32_t bits)
{
    return sy_ref_decode(SY_F32, bits);
}

/* ---- number formats ---- */

/* What the tests know of a format, apart from the reference's own table. */
struct facts {
    int32_t type;
    int mantissa_bits;
    int least_exponent; /* of normal numbers                                                  */
    uint32_t codes, sign, largest, infinity, nan;
};

static const struct facts formats[] = {
    {SY_BF16, 7, -126, 0x10000, 0x8000, 0x7f7f, 0x7f80, 0x7fff},
    {SY_F16, 10, -14, 0x10000, 0x8000, 0x7bff, 0x7c00, 0x7fff},
    {SY_F8E4M3, 3, -6, 0x100, 0x80, 0x7e, 0x7e, 0x7f},
};

static void test_decode_anchors(void)
{
    static const struct {
        int32_t type;
        uint32_t code;
        float value;
    } anchors[] = {
        {SY_BF16, 0x3f80, 1},          {SY_BF16, 0xc040, -3},         {SY_BF16, 0x0080, 0x1p-126f},
        {SY_BF16, 0x0001, 0x1p-133f},  {SY_BF16, 0x7f7f, 0xffp120f},  {SY_BF16, 0x7f80, INFINITY},
        {SY_BF16, 0xff80, -INFINITY},  {SY_F16, 0x3c00, 1},           {SY_F16, 0xc200, -3},
        {SY_F16, 0x0400, 0x1p-14f},    {SY_F16, 0x0001, 0x1p-24f},    {SY_F16, 0x7bff, 65504},
        {SY_F16, 0x7c00, INFINITY},    {SY_F16, 0xfc00, -INFINITY},   {SY_F8E4M3, 0x38, 1},
        {SY_F8E4M3, 0xc4, -3},         {SY_F8E4M3, 0x08, 0.015625f},  {SY_F8E4M3, 0x01, 0x1p-9f},
        {SY_F8E4M3, 0x7e, 448},        {SY_F8E4M3, 0xfe, -448},       {SY_F8E4M3, 0x78, 256},
        {SY_F32, 0x3f800000, 1},       {SY_F32, 0x00000001, 0x1p-149f},
    };
    for (int i = 0; i < COUNT(anchors); i++) {
        float value = sy_ref_decode(anchors[i].type, anchors[i].code);
        CHECK(value == anchors[i].value, "type %d code %x is %a, not %a", anchors[i].type,
              anchors[i].code, value, anchors[i].value);
    }
    CHECK(isnan(sy_ref_decode(SY_F8E4M3, 0x7f)) && isnan(sy_ref_decode(SY_F8E4M3, 0xff)), "f8 NaN");
    CHECK(isnan(sy_ref_decode(SY_F16, 0x7c01)) && isnan(sy_ref_decode(SY_F16, 0xffff)), "f16 NaN");
    for (uint32_t code = 0; code < 0x10000; code++)
        CHECK(bits_of(sy_ref_decode(SY_BF16, code)) == bits_of(float_of(code << 16)), "%x", code);
}

/* One code of a format and its neighbour above: their distance, which with the anchors fixes all
 * values, and how the border between them is rounded: on it, just below and just above. */
static void check_border(const struct facts *f, uint32_t code)
{
    double low = sy_ref_decode(f->type, code), high = sy_ref_decode(f->type, code + 1);
    int binade = (int)(code >> f->mantissa_bits);
    double step = ldexp(1, (binade ? binade - 1 : 0) + f->least_exponent - f->mantissa_bits);
    float border = (float)((low + high) / 2);
    uint32_t even = code + (code & 1);
    CHECK(high - low == step, "type %d code %x: step %a", f->type, code, high - low);
    CHECK(sy_ref_decode(f->type, code | f->sign) == -low, "type %d code -%x", f->type, code);
    CHECK(sy_ref_encode(f->type, border) == even, "type %d tie at %x", f->type, code);
    CHECK(sy_ref_encode(f->type, -border) == (even | f->sign), "type %d tie at -%x", f->type, code);
    CHECK(sy_ref_encode(f->type, nextafterf(border, 0)) == code, "type %d below", f->type);
    CHECK(sy_ref_encode(f->type, nextafterf(border, 2 * border)) == code + 1, "type %d above",
          f->type);
}

static void test_every_code(void)
{
    for (int i = 0; i < COUNT(formats); i++) {
        const struct facts *f = &formats[i];
        for (uint32_t code = 0; code < f->codes; code++) {
            float value = sy_ref_decode(f->type, code);
            uint32_t expect = code, again = sy_ref_encode(f->type, value);
            if (isnan(value) && f->type != SY_F8E4M3)
                expect = f->nan;
            CHECK(again == expect, "type %d: %x became %x", f->type, code, again);
            if (code < f->largest)
                check_border(f, code);
        }
    }
    CHECK(bits_of(float_of(0xff800001)) == 0x7fffffff && bits_of(-0.0f) == 0x80000000, "f32");
}

static void test_encode_edges(void)
{
    static const struct {
        int32_t type;
        float value;
        uint32_t code;
    } edges[] = {
        {SY_F16, 65519.996f, 0x7bff},  {SY_F16, 65520, 0x7c00},       {SY_F16, -65520, 0xfc00},
        {SY_F16, 1e30f, 0x7c00},       {SY_F16, INFINITY, 0x7c00},    {SY_F16, 0x1p-25f, 0},
        {SY_F16, 0x1.8p-25f, 1},       {SY_F16, -0x1p-26f, 0x8000},   {SY_BF16, -INFINITY, 0xff80},
        {SY_F8E4M3, 448, 0x7e},        {SY_F8E4M3, 463.99f, 0x7e},    {SY_F8E4M3, 464, 0x7e},
        {SY_F8E4M3, 480, 0x7e},        {SY_F8E4M3, 3e38f, 0x7e},      {SY_F8E4M3, -3e38f, 0xfe},
        {SY_F8E4M3, 432, 0x7e},        {SY_F8E4M3, 431.9f, 0x7d},     {SY_F8E4M3, 400, 0x7c},
        {SY_F8E4M3, 0x1p-10f, 0},      {SY_F8E4M3, -0x1p-10f, 0x80},  {SY_F8E4M3, INFINITY, 0x7f},
        {SY_F8E4M3, -INFINITY, 0xff},  {SY_F8E4M3, -0.0f, 0x80},      {SY_F8E4M3, 1e-40f, 0},
    };
    for (int i = 0; i < COUNT(edges); i++) {
        uint32_t code = sy_ref_encode(edges[i].type, edges[i].value);
        CHECK(code == edges[i].code, "type %d: %a became %x, not %x", edges[i].type, edges[i].value,
              code, edges[i].code);
    }
    CHECK(sy_ref_encode(SY_BF16, float_of(0x7f7f7fff)) == 0x7f7f, "below the border to infinity");
    CHECK(sy_ref_encode(SY_BF16, float_of(0x7f7f8000)) == 0x7f80, "the border to infinity");
    CHECK(sy_ref_encode(SY_F16, float_of(0xffc12345)) == 0x7fff, "f16 NaN");
    CHECK(sy_ref_encode(SY_F8E4M3, float_of(0xffc00001)) == 0xff, "f8 -NaN");
}

/* The nearest code by looking at all of them; of two equally near ones the even. */
static uint32_t search_nearest(const struct facts *f, float value)
{
    double magnitude = fabs((double)value), best = INFINITY;
    double top = sy_ref_decode(f->type, f->largest);
    double half_step = (top - sy_ref_decode(f->type, f->largest - 1)) / 2;
    uint32_t found = 0;
    for (uint32_t code = 0; code <= f->largest; code++) {
        double away = fabs(magnitude - sy_ref_decode(f->type, code));
        if (away < best || (away == best && !(code & 1))) {
            best = away;
            found = code;
        }
    }
    if (magnitude >= top + half_step)
        found = f->infinity;
    return found | (signbit(value) ? f->sign : 0);
}

static void test_encode_random(void)
{
    struct sy_prng prng = sy_prng_make(1, 0), *p = &prng;
    for (int i = 0; i < COUNT(formats); i++) {
        const struct facts *f = &formats[i];
        int rounds = f->type == SY_F8E4M3 ? 100000 : 300;
        for (int round = 0; round < rounds; round++) {
            uint32_t bits = (uint32_t)sy_prng_next(p), code, expect;
            int exponent = (int)sy_prng_range(p, f->least_exponent - 12, 17);
            if (round % 4) /* in the format's own range, mostly */
                bits = (bits & 0x807fffff) | (exponent < -127 ? 0 : (uint32_t)exponent + 127) << 23;
            if (!isfinite(float_of(bits)))
                continue;
            code = sy_ref_encode(f->type, float_of(bits));
            expect = search_nearest(f, float_of(bits));
            CHECK(code == expect, "type %d: %a became %x, not %x", f->type, float_of(bits), code,
                  expect);
        }
    }
}

/* ---- quantisation ---- */

static void fill_bf16(uint16_t *x, int count, float value)
{
    for (int i = 0; i < count; i++)
        x[i] = (uint16_t)sy_ref_encode(SY_BF16, value);
}

/* The scale of one block whose largest is `a`, as bits of an F32 or as a UE8M0 word. */
static uint32_t scale_of(int32_t quant, float a, uint8_t *q)
{
    uint16_t x[128];
    uint8_t all[128];
    uint32_t scale = 0xdeadbeef;
    fill_bf16(x, 128, 0);
    x[77] = (uint16_t)sy_ref_encode(SY_BF16, a);
    sy_ref_quantize(quant, x, 128, all, &scale);
    *q = all[77];
    return scale;
}

static void test_quant_anchors(void)
{
    static const struct {
        float a;
        float pow2;    /* the scale of the forms with powers of two                           */
        uint32_t byte; /* and as UE8M0                                                        */
        uint8_t q;     /* of a itself in these forms                                          */
    } anchors[] = {
        {448, 1, 127, 0x7e},          {450, 2, 128, 0x76},           {224, 0.5f, 126, 0x7e},
        {-448, 1, 127, 0xfe},         {1, 0x1p-8f, 119, 0x78},       {0, 0x1p-22f, 105, 0},
        {1e-30f, 0x1p-22f, 105, 0},   {3.38e38f, 0x1p120f, 247, 0x78}, {896, 2, 128, 0x7e},
    };
    uint8_t q;
    for (int i = 0; i < COUNT(anchors); i++) {
        float a = anchors[i].a;
        uint32_t pow2 = scale_of(SY_QUANT_F8_POW2, a, &q), byte;
        CHECK(pow2 == bits_of(anchors[i].pow2), "%a: scale %a", a, float_of(pow2));
        if (a != 3.38e38f) /* which bf16 rounds */
            CHECK(q == anchors[i].q, "%a: q %x", a, q);
        byte = scale_of(SY_QUANT_F8_UE8M0, a, &q);
        CHECK(byte == anchors[i].byte, "%a: UE8M0 %x", a, byte);
    }
    CHECK(scale_of(SY_QUANT_F8, 448, &q) == bits_of(1.0f) && q == 0x7e, "448");
    CHECK(scale_of(SY_QUANT_F8, -1, &q) == bits_of(1.0f / 448.0f) && q == 0xfe, "-1");
    CHECK(scale_of(SY_QUANT_F8, 0, &q) == bits_of(1e-4f / 448.0f) && q == 0, "0");
}

/* Blocks stand alone, the last is short, its word is filled with zero bytes, and what is not finite
 * neither sets a scale nor survives. */
static void test_quant_blocks(void)
{
    uint16_t x[4 * 128 + 16];
    uint8_t q[4 * 128 + 16];
    uint32_t words[5] = {9, 9, 9, 9, 9};
    for (int block = 0; block < 5; block++)
        fill_bf16(x + block * 128, block < 4 ? 128 : 16, ldexpf(448, block));
    memcpy(x + 3, (uint16_t[]){0x7f80, 0xff80, 0xffc1, 0x7f81, 0x8000}, 10);
    sy_ref_quantize(SY_QUANT_F8_UE8M0, x, 4 * 128 + 16, q, words);
    CHECK(words[0] == 0x8281807f && words[1] == 0x83 && words[2] == 9, "UE8M0 %x %x", words[0],
          words[1]);
    CHECK(!memcmp(q, (uint8_t[]){0x7e, 0x7e, 0x7e, 0x7f, 0xff, 0xff, 0x7f}, 7), "not finite");
    CHECK(q[7] == 0x80 && q[4 * 128 + 15] == 0x7e, "-0 or the last");
    sy_ref_quantize(SY_QUANT_F8, x, 4 * 128 + 16, q, words);
    for (int block = 0; block < 5; block++)
        CHECK(words[block] == bits_of(ldexpf(1, block)), "scale of block %d", block);
    for (int i = 8; i < 4 * 128 + 16; i++)
        CHECK(q[i] == 0x7e, "q[%d] = %x", i, q[i]);
}

/* Random rows: each q is the nearest to the product, and the product is what the header says. */
static void test_quant_random(void)
{
    struct sy_prng prng = sy_prng_make(2, 0), *p = &prng;
    uint16_t x[200];
    uint8_t q[200];
    uint32_t scales[2];
    for (int round = 0; round < 3000; round++) {
        int32_t quant = round % 2 ? SY_QUANT_F8 : SY_QUANT_F8_POW2;
        int hidden = 16 * (int)sy_prng_range(p, 1, 12), top = (int)sy_prng_range(p, -40, 60);
        float a[2] = {1e-4f, 1e-4f};
        for (int i = 0; i < hidden; i++) {
            int exponent = top - (int)sy_prng_below(p, 12) + 127;
            x[i] = (uint16_t)((sy_prng_next(p) & 0x807f) | (uint64_t)exponent << 7);
            a[i / 128] = fmaxf(a[i / 128], fabsf(float_of((uint32_t)x[i] << 16)));
        }
        sy_ref_quantize(quant, x, hidden, q, scales);
        for (int i = 0; i < hidden; i++) {
            volatile float factor = 448.0f / a[i / 128], scale = a[i / 128] / 448.0f, product;
            float pow2 = 0x1p-60f;
            while (pow2 < scale)
                pow2 *= 2;
            if (quant == SY_QUANT_F8_POW2) {
                scale = pow2;
                factor = 1 / pow2;
            }
            product = float_of((uint32_t)x[i] << 16) * factor;
            CHECK(scales[i / 128] == bits_of(scale), "round %d: scale", round);
            CHECK(q[i] == search_nearest(&formats[2], product), "round %d: %a became %x", round,
                  product, q[i]);
        }
    }
}

/* ---- a tiny world with its numbers written out ---- */

/* Rank 0 holds experts 0 and 1, rank 1 expert 2. The value 7 is no expert. */
static const int64_t tiny_ids[2][6] = {{0, 2, 1, 0, -1, 2}, {0, 0, 7, 1}};

/* A token's number: 100 * rank + 10 * token. Element h of its row is the number plus h, its scale
 * the number, its weight of k the number plus k plus 1/2, its prob of e that plus e plus 1/4. */
struct tiny {
    struct sy_ref_rank rank[2];
    struct sy_ref_world world;
    float x[2][12], weights[2][6], probs[2][9];
    uint32_t scales[2][3];
};

static void tiny_make(struct tiny *w, int32_t layout, int64_t capacity0, int64_t capacity1)
{
    memset(w, 0, sizeof *w);
    for (int r = 0; r < 2; r++) {
        for (int t = 0; t < 3; t++) {
            int number = 100 * r + 10 * t;
            w->scales[r][t] = (uint32_t)number;
            for (int h = 0; h < 4; h++)
                w->x[r][4 * t + h] = (float)(number + h);
            for (int k = 0; k < 2; k++)
                w->weights[r][2 * t + k] = (float)(number + k) + 0.5f;
            for (int e = 0; e < 3; e++)
                w->probs[r][3 * t + e] = (float)(number + e) + 0.25f;
        }
        w->rank[r] = (struct sy_ref_rank){
            .experts = 2 - r, .capacity = r ? capacity1 : capacity0, .tokens = 3 - r,
            .ids = tiny_ids[r], .x = w->x[r], .scales = w->scales[r], .weights = w->weights[r]};
    }
    w->world = (struct sy_ref_world){.ranks = 2, .topk = 2, .layout = layout, .alignment = 3,
                                     .type = SY_F32, .hidden = 4, .scale_words = 1,
                                     .rank = w->rank};
}

enum { P = -7, Z = -8 }; /* a row that is left alone; a row of zeros                            */
#define ROWS 10

/* What rank `rank` gets. rows: its outputs' first dimension. number: of each row, P or Z. */
struct expected {
    int32_t layout;
    int64_t capacity0, capacity1;
    int32_t rank;
    int32_t totals[5], expert_offsets[3], source_offsets[3];
    int32_t rows;
    int number[ROWS];
    float weights[ROWS * 2]; /* by token [rows][2], by expert [rows]                          */
    float probs[ROWS * 2];   /* by token [rows][L]                                            */
    int ids[ROWS * 2];
};

static const struct expected tiny_expected[] = {
    {SY_TOKEN_MAJOR, 4, 1, 0, {4, 4, 0, 0, 1}, {0, 6, 9}, {0, 2, 4}, 5, {0, 10, 100, 110, P},
     {0.5f, 0, 10.5f, 11.5f, 100.5f, 101.5f, 0, 111.5f, 0, 0},
     {0.5f, 0, 11.5f, 10.5f, 202, 0, 0, 111.5f, 0, 0},
     {0, -1, 1, 0, 0, 0, -1, 1, -1, -1}},
    {SY_TOKEN_MAJOR, 4, 1, 1, {2, 2, 1, 1, 1}, {0, 3}, {0, 2, 2}, 2,
     {0, P}, {0, 1.5f, 0, 0}, {1.5f, 0}, {-1, 0, -1, -1}},
    {SY_EXPERT_PACKED, 8, 1, 0, {4, 9, 0, 0, 1}, {0, 6, 9}, {0, 2, 4}, 10,
     {0, 10, 100, 100, Z, Z, 10, 110, P, P},
     {0.5f, 11.5f, 100.5f, 101.5f, 0, 0, 10.5f, 111.5f, 0, 0}, {0}, {0}},
    {SY_EXPERT_PACKED, 9, 3, 0, {4, 9, 0, 0, 1}, {0, 6, 9}, {0, 2, 4}, 9,
     {0, 10, 100, 100, Z, Z, 10, 110, Z},
     {0.5f, 11.5f, 100.5f, 101.5f, 0, 0, 10.5f, 111.5f, 0}, {0}, {0}},
    {SY_EXPERT_PACKED, 7, 1, 0, {4, 9, 1, 1, 1}, {0, 6, 9}, {0, 2, 4}, 9,
     {0, 10, 100, 100, Z, Z, 10, P, P}, {0.5f, 11.5f, 100.5f, 101.5f, 0, 0, 10.5f, 0, 0}, {0}, {0}},
    {SY_EXPERT_PACKED, 8, 1, 1, {2, 3, 1, 1, 1}, {0, 3}, {0, 2, 2}, 4,
     {0, P, P, P}, {1.5f, 0, 0, 0}, {0}, {0}},
    {SY_EXPERT_PACKED, 8, 3, 1, {2, 3, 0, 0, 1}, {0, 3}, {0, 2, 2}, 3,
     {0, 20, Z}, {1.5f, 21.5f, 0}, {0}, {0}},
    {SY_EXPERT_SLABS, 3, 2, 0, {4, 4, 1, 1, 1}, {0, 3, 6}, {0, 2, 4}, 7,
     {0, 10, 100, 10, 110, P, P}, {0.5f, 11.5f, 100.5f, 10.5f, 111.5f, 0, 0}, {0}, {0}},
    {SY_EXPERT_SLABS, 3, 2, 1, {2, 2, 0, 0, 1}, {0, 2}, {0, 2, 2}, 2,
     {0, 20}, {1.5f, 21.5f}, {0}, {0}},
    {SY_RANK_MAJOR, 3, 1, 0, {4, 2, 0, 0, 1}, {0, 6, 9}, {0, 3, 6}, 7, {0, 10, P, 100, 110, P, P},
     {0.5f, 0, 10.5f, 11.5f, 0, 0, 100.5f, 101.5f, 0, 111.5f, 0, 0, 0, 0},
     {0.5f, 0, 11.5f, 10.5f, 0, 0, 202, 0, 0, 111.5f, 0, 0, 0, 0},
     {0, -1, 1, 0, -1, -1, 0, 0, -1, 1, -1, -1, -1, -1}},
    {SY_RANK_MAJOR, 3, 1, 1, {2, 2, 1, 1, 1}, {0, 3}, {0, 1, 2}, 3,
     {0, P, P}, {0, 1.5f, 0, 0, 0, 0}, {1.5f, 0, 0}, {-1, 0, -1, -1, -1, -1}},
};

static void check_tiny_route(const struct expected *e, const struct sy_ref_route *route)
{
    static const int32_t counts[2][2] = {{4, 2}, {2}}, aligned[2][2] = {{6, 3}, {3}};
    static const int32_t sources[2][2] = {{2, 2}, {2, 0}};
    static const int32_t slab_begin[2][4] = {{0, 2, 0, 1}, {0, 2}};
    static const int32_t slab_count[2][4] = {{2, 2, 1, 1}, {2, 0}};
    const struct sy_ref_arrivals *at = &route->at[e->rank];
    size_t experts = e->rank ? 1 : 2, word = sizeof(int32_t);
    int r = e->rank;
    for (int i = 0; i < SY_TOTALS; i++)
        CHECK(at->totals[i] == (i < 5 ? e->totals[i] : 0), "layout %d rank %d: total %d is %d",
              e->layout, r, i, at->totals[i]);
    CHECK(!memcmp(at->expert_counts, counts[r], word * experts), "expert_counts");
    CHECK(!memcmp(at->expert_aligned, aligned[r], word * experts), "expert_aligned");
    CHECK(!memcmp(at->expert_offsets, e->expert_offsets, word * (experts + 1)), "expert_offsets");
    CHECK(!memcmp(at->source_counts, sources[r], word * 2), "source_counts");
    CHECK(!memcmp(at->source_offsets, e->source_offsets, word * 3), "source_offsets");
    CHECK(!memcmp(at->slab_begin, slab_begin[r], word * experts * 2), "slab_begin");
    CHECK(!memcmp(at->slab_count, slab_count[r], word * experts * 2), "slab_count");
    CHECK(route->bad.any && route->bad.rank == 1 && route->bad.token == 1 && route->bad.k == 0 &&
              route->bad.value == 7, "bad");
}

static void check_tiny_dispatch(const struct expected *e, const struct tiny *w,
                                const struct sy_ref_route *route)
{
    int by_expert = e->layout == SY_EXPERT_PACKED || e->layout == SY_EXPERT_SLABS;
    int columns = by_expert ? 1 : 2, experts = by_expert ? 0 : 2 - e->rank;
    struct {
        float x[ROWS][4], weights[ROWS * 2], probs[ROWS * 2];
        uint32_t scales[ROWS];
        int64_t ids[ROWS * 2];
        int32_t src[ROWS * 2];
    } got;
    struct sy_ref_outputs out = {
        .x = {got.x, e->rows}, .scales = {got.scales, e->rows}, .weights = {got.weights, e->rows},
        .probs = {by_expert ? NULL : got.probs, e->rows}, .src = {got.src, e->rows},
        .ids = {by_expert ? NULL : got.ids, e->rows}, .ids_type = SY_I64};
    memset(&got, 0xa5, sizeof got);
    sy_ref_dispatch(&w->world, route, e->rank, &out);
    for (int row = 0; row < e->rows; row++) {
        int number = e->number[row];
        for (int h = 0; h < 4; h++)
            CHECK(number == P ? bits_of(got.x[row][h]) == 0xa5a5a5a5
                              : got.x[row][h] == (float)(number == Z ? 0 : number + h),
                  "layout %d rank %d row %d: x", e->layout, e->rank, row);
        CHECK(got.scales[row] == (number == P ? 0xa5a5a5a5 : number == Z ? 0 : (uint32_t)number),
              "layout %d rank %d row %d: scale", e->layout, e->rank, row);
        CHECK(got.src[2 * row] == (number < 0 ? -1 : number / 100) &&
                  got.src[2 * row + 1] == (number < 0 ? -1 : number % 100 / 10), "row %d", row);
        for (int i = row * columns; i < (row + 1) * columns; i++)
            CHECK(got.weights[i] == e->weights[i], "layout %d rank %d row %d: weight", e->layout,
                  e->rank, row);
        for (int i = row * experts; i < (row + 1) * experts; i++)
            CHECK(got.probs[i] == e->probs[i], "layout %d row %d: prob", e->layout, row);
        for (int i = row * 2; i < (row + 1) * 2 && !by_expert; i++)
            CHECK(got.ids[i] == e->ids[i], "layout %d row %d: id", e->layout, row);
    }
    if (e->rows < ROWS)
        CHECK(bits_of(got.weights[e->rows * columns]) == 0xa5a5a5a5, "wrote behind the weights");
}

static void test_tiny(void)
{
    for (int i = 0; i < COUNT(tiny_expected); i++) {
        const struct expected *e = &tiny_expected[i];
        struct sy_ref_route route = {0};
        struct tiny w;
        tiny_make(&w, e->layout, e->capacity0, e->capacity1);
        sy_ref_route(&w.world, &route);
        check_tiny_route(e, &route);
        check_tiny_dispatch(e, &w, &route);
        sy_ref_route_free(&route);
    }
}

/* With probs the weight of (t, k) is that of its expert, also where an output goes by k. */
static void test_tiny_probs(void)
{
    static const float expected[] = {0.25f, 0, 11.25f, 10.25f, 100.25f, 100.25f, 0, 111.25f};
    static const int32_t expected_ids[] = {0, -1, 1, 0, 0, 0, -1, 1};
    static const uint32_t bits[] = {1u << 31, 0, 1u << 31, 0xffc12345, 0, 0, 0, 1u << 31};
    struct sy_ref_route route = {0};
    struct tiny w;
    float weights[8];
    int32_t ids[8];
    struct sy_ref_outputs out = {.weights = {weights, 4}, .ids = {ids, 4}, .ids_type = SY_I32};
    tiny_make(&w, SY_TOKEN_MAJOR, 4, 2);
    for (int r = 0; r < 2; r++) {
        w.rank[r].weights = NULL;
        w.rank[r].probs = w.probs[r];
    }
    sy_ref_route(&w.world, &route);
    sy_ref_dispatch(&w.world, &route, 0, &out);
    CHECK(!memcmp(weights, expected, sizeof expected) && !memcmp(ids, expected_ids, sizeof ids),
          "weights or ids");
    /* In an output by expert a weight alone keeps its bits; several are added from +0. */
    for (int i = 0; i < 6; i++)
        w.weights[0][i] = w.weights[1][i] = -0.0f;
    w.weights[0][2] = float_of(0xffc12345);
    for (int r = 0; r < 2; r++) {
        w.rank[r].weights = w.weights[r];
        w.rank[r].probs = NULL;
    }
    sy_ref_dispatch(&w.world, &route, 0, &(struct sy_ref_outputs){.probs = {weights, 4}});
    CHECK(!memcmp(weights, bits, sizeof bits), "bits of probs");
    sy_ref_route_free(&route);
}

/* Maps: selections in the order of experts, more than K are bad and do not count. */
static void test_tiny_map(void)
{
    static const uint8_t map[2][9] = {{0, 0, 9, 1, 1, 0, 0, 0, 0}, {1, 255, 1, 0, 1, 1}};
    static const int32_t experts[2][6] = {{2, -1, 0, 1, -1, -1}, {0, 1, 1, 2}};
    struct sy_ref_route route = {0};
    struct tiny w;
    tiny_make(&w, SY_TOKEN_MAJOR, 4, 4);
    for (int r = 0; r < 2; r++) {
        w.rank[r].ids = NULL;
        w.rank[r].map = map[r];
    }
    sy_ref_route(&w.world, &route);
    for (int r = 0; r < 2; r++)
        for (int i = 0; i < 6 - 2 * r; i++)
            CHECK(route.selection[r][i].expert == experts[r][i], "rank %d selection %d", r, i);
    CHECK(route.bad.any && route.bad.rank == 1 && route.bad.token == 0 && route.bad.k == 2 &&
              route.bad.value == 2, "bad");
    CHECK(route.at[0].totals[SY_TOTAL_BAD] == 1 && route.at[1].totals[SY_TOTAL_BAD] == 1, "totals");
    CHECK(route.at[1].totals[SY_TOTAL_TOKENS] == 2, "tokens");
    sy_ref_route_free(&route);
}

/* ---- combine, written out ---- */

/* [2][ROWS][columns] values: 1000 * rank + 10 * row + column. */
static void number_rows(float values[2][ROWS * 4], int columns)
{
    for (int i = 0; i < 2 * ROWS * columns; i++)
        values[i / (ROWS * columns)][i % (ROWS * columns)] =
            (float)(i / (ROWS * columns) * 1000 + i / columns % ROWS * 10 + i % columns);
}

/* Rows and their weights are numbered as above; the weight of (t, k) is k + 1 + t; rank 0 has
 * biases 1 and 1/2. */
static void test_tiny_combine(void)
{
    static const struct {
        int32_t layout;
        int64_t capacity0, capacity1;
        float plain[5], weighted[5]; /* element 0 of tokens (0, 0) (0, 1) (0, 2) (1, 0) (1, 1) */
        float carried[10];
    } expected[] = {
        {SY_TOKEN_MAJOR, 4, 1, {1001.5f, 11.5f, 1.5f, 20, 30}, {2001.5f, 51.5f, 1.5f, 60, 90},
         {0, 1001, 10, 11, 0, 0, 20, 21, 0, 31}},
        {SY_EXPERT_PACKED, 9, 1, {1001.5f, 71.5f, 1.5f, 50, 70}, {2001.5f, 151.5f, 1.5f, 80, 210},
         {0, 1000, 60, 10, 0, 0, 20, 30, 0, 70}},
        {SY_EXPERT_SLABS, 3, 2, {1001.5f, 41.5f, 1011.5f, 20, 40},
         {2001.5f, 91.5f, 4041.5f, 20, 120}, {0, 1000, 30, 10, 0, 1010, 20, 0, 0, 40}},
        {SY_RANK_MAJOR, 2, 1, {1001.5f, 11.5f, 1.5f, 20, 30}, {2001.5f, 51.5f, 1.5f, 60, 90},
         {0, 1001, 10, 11, 0, 0, 20, 21, 0, 31}},
    };
    static const float ones[12] = {1, 0, 0, 0, 1, 0, 0, 0, 1}, weights[] = {1, 2, 2, 3, 3, 4};
    static const float halves[12] = {0.5f, 0, 0, 0, 0.5f, 0, 0, 0, 0.5f};
    float x[2][ROWS * 4], row_weights[2][ROWS * 4], out[12], carried[6];
    number_rows(x, 4);
    for (int c = 0; c < COUNT(expected); c++) {
        struct sy_ref_route route = {0};
        struct tiny w;
        tiny_make(&w, expected[c].layout, expected[c].capacity0, expected[c].capacity1);
        sy_ref_route(&w.world, &route);
        number_rows(row_weights, sy_ref_by_expert(expected[c].layout) ? 1 : 2);
        for (int i = 0; i < 10; i++) { /* i: weighted, token of the group */
            int rank = i % 5 / 3, t = i % 5 % 3;
            const float *expect = i / 5 ? expected[c].weighted : expected[c].plain;
            struct sy_ref_sum sums[2] = {{.x = x[0], .row_weights = row_weights[0]},
                                         {.x = x[1], .row_weights = row_weights[1]}};
            sums[rank].weights = i / 5 ? weights : NULL;
            sums[rank].bias[0] = rank ? NULL : ones;
            sums[rank].bias[1] = rank ? NULL : halves;
            sums[rank].out = out;
            sums[rank].out_weights = carried;
            sy_ref_combine(&w.world, &route, rank, SY_F32, 4, sums);
            CHECK(out[4 * t] == expect[i % 5], "layout %d rank %d token %d: %g, not %g",
                  expected[c].layout, rank, t, out[4 * t], expect[i % 5]);
            for (int k = 0; k < 2; k++)
                CHECK(carried[2 * t + k] == expected[c].carried[2 * (i % 5) + k],
                      "layout %d rank %d token %d: weight %g", expected[c].layout, rank, t,
                      carried[2 * t + k]);
        }
        sy_ref_route_free(&route);
    }
}

static void test_tiny_carry_probs(void)
{
    /* From row_weights, from row_probs. Token (1, 0) chose expert 0 twice. */
    static const float from_weights[2][9] = {{0, 0, 1001, 11, 10}, {41, 0, 0, 0, 31, 0}};
    static const float from_probs[2][9] = {{0, 0, 1000, 10, 15}, {40, 0, 0, 0, 35, 0}};
    static const float weights_from_probs[2][6] = {{0, 1000, 15, 10}, {20, 20, 0, 35}};
    static const float row_weights[2][8] = {{0, 1, 10, 11, 20, 21, 30, 31}, {1000, 1001}};
    static const float row_probs[2][8] = {{0, 5, 10, 15, 20, 25, 30, 35}, {1000}};
    float probs[9], weights[6];
    struct sy_ref_route route = {0};
    struct tiny w;
    tiny_make(&w, SY_TOKEN_MAJOR, 4, 1);
    sy_ref_route(&w.world, &route);
    for (int rank = 0; rank < 2; rank++) {
        size_t tokens = rank ? 2 : 3;
        struct sy_ref_sum sums[2] = {{.row_weights = row_weights[0]},
                                     {.row_weights = row_weights[1]}};
        sums[rank].out_probs = probs;
        sy_ref_combine(&w.world, &route, rank, SY_F32, 4, sums);
        CHECK(!memcmp(probs, from_weights[rank], tokens * 12), "rank %d: from weights", rank);
        sums[0].row_probs = row_probs[0];
        sums[1].row_probs = row_probs[1];
        sums[0].row_weights = sums[1].row_weights = NULL;
        sums[rank].out_weights = weights;
        sy_ref_combine(&w.world, &route, rank, SY_F32, 4, sums);
        CHECK(!memcmp(probs, from_probs[rank], tokens * 12), "rank %d: from probs", rank);
        CHECK(!memcmp(weights, weights_from_probs[rank], tokens * 8), "rank %d: weights", rank);
    }
    sy_ref_route_free(&route);
}

/* ---- arithmetic of combine ---- */

/* One token of rank 0 that goes to `selections` experts, two of them on each rank; row i of the
 * list is the row of selection i, with layouts by token that of rank i. Returns the result. */
static uint32_t sum_rows(int32_t layout, int32_t type, int selections, const float *rows,
                         const float *weights, const float *biases)
{
    static const int64_t ids[] = {0, 1, 2, 3, 4, 5};
    struct sy_ref_rank rank[3] = {{0}};
    struct sy_ref_sum sums[3] = {{0}};
    struct sy_ref_route route = {0};
    struct sy_ref_world world = {
        .ranks = 3, .topk = selections, .layout = layout, .type = type, .rank = rank};
    uint32_t x[3][2] = {{0}}, bias[2] = {0}, out = 0;
    int per_rank = sy_ref_by_expert(layout) ? 2 : 1;
    for (int r = 0; r < 3; r++) {
        rank[r].experts = 2;
        rank[r].capacity = layout == SY_EXPERT_SLABS ? 1 : 2;
        for (int i = 0; i < per_rank; i++)
            if (r * 2 + i < selections)
                sy_ref_store(type, x[r], i, rows[r * per_rank + i]);
        sums[r].x = x[r];
    }
    rank[0].tokens = 1;
    rank[0].ids = ids;
    for (int b = 0; biases && b < 2; b++) {
        sy_ref_store(type, &bias[b], 0, biases[b]);
        sums[0].bias[b] = &bias[b];
    }
    sums[0].weights = weights;
    sums[0].out = &out;
    sy_ref_route(&world, &route);
    sy_ref_combine(&world, &route, 0, type, 1, sums);
    sy_ref_route_free(&route);
    return sy_ref_type_bytes(type) == 2 ? out & 0xffff : out;
}

#define F(...) (float[]){__VA_ARGS__}

static void test_combine_arithmetic(void)
{
    const float a = 1 + 0x1p-12f, b = -1 - 0x1p-11f;
    const uint32_t bf512 = 0x4400, bf516 = 0x4401;
    /* Terms of layouts by expert are rounded: 257 is 256 twice, and 256 + 256 + 2 = 514 is 512. */
    CHECK(sum_rows(SY_EXPERT_PACKED, SY_BF16, 6, F(256, 1, 256, 1, 2, 0), NULL, NULL) == bf512,
          "a term is rounded");
    CHECK(sum_rows(SY_EXPERT_SLABS, SY_BF16, 6, F(256, 1, 256, 1, 2, 0), F(1, 1, 1, 1, 1, 1),
                   NULL) == bf512, "a weighted term is rounded");
    /* Those of layouts by token are not: 3 * 85.5 + 3 * 85.5 + 2 = 515 is 516. */
    CHECK(sum_rows(SY_TOKEN_MAJOR, SY_BF16, 5, F(85.5f, 85.5f, 2), F(1, 2, 2, 1, 1), NULL) == bf516,
          "a term by token is not rounded");
    /* A product is rounded before it is added: fused, 2^-24 would remain. */
    CHECK(sum_rows(SY_TOKEN_MAJOR, SY_F32, 1, &a, &a, F(b, 0)) == 0, "no fma");
    CHECK(sum_rows(SY_EXPERT_SLABS, SY_F32, 2, F(b, a), F(1, a), NULL) == 0, "no fma by expert");
    /* Ranks ascend, biases come first. */
    CHECK(sum_rows(SY_TOKEN_MAJOR, SY_F32, 5, F(1e8f, 1, -1e8f), NULL, NULL) == 0, "order");
    CHECK(sum_rows(SY_TOKEN_MAJOR, SY_F32, 5, F(1e8f, -1e8f, 1), NULL, NULL) == bits_of(1), "last");
    CHECK(sum_rows(SY_RANK_MAJOR, SY_F32, 3, F(1, -1e8f), NULL, F(1e8f, 0)) == 0, "biases first");
    /* The weight of a token is a sum of its own, 1 here; 3 + 3 * 2^-24 would be more than 3. */
    CHECK(sum_rows(SY_TOKEN_MAJOR, SY_F32, 2, F(3), F(1, 0x1p-24f), NULL) == bits_of(3), "weight");
    CHECK(sum_rows(SY_TOKEN_MAJOR, SY_F32, 1, F(-0.0f), NULL, NULL) == 0, "+0");
    CHECK(sum_rows(SY_EXPERT_PACKED, SY_F16, 1, F(-0.0f), NULL, NULL) == 0, "+0 by expert");
    CHECK(sum_rows(SY_EXPERT_SLABS, SY_F16, 2, F(65504, 65504), NULL, F(-65504, 0)) == 0x7c00,
          "a term becomes infinite by itself");
    CHECK(sum_rows(SY_TOKEN_MAJOR, SY_BF16, 3, F(INFINITY, -INFINITY), 0, NULL) == 0x7fff, "NaN");
    CHECK(sum_rows(SY_TOKEN_MAJOR, SY_F32, 1, F(NAN), NULL, NULL) == 0x7fffffff, "NaN");
    CHECK(sum_rows(SY_TOKEN_MAJOR, SY_F32, 1, F(1e-45f), NULL, NULL) == 1, "denormal");
}

/* ---- properties of generated cases ---- */

static int64_t first_expert(const struct sy_case *c, int32_t rank)
{
    int64_t first = 0;
    for (int32_t r = 0; r < rank; r++)
        first += c->experts_per_rank[r];
    return first;
}

/* Selections are the ids that are experts, and each makes a row or is of a token that did. */
static void check_selections(const struct sy_case *c, const struct sy_ref_route *route)
{
    const struct sy_ref_world *w = &c->world;
    int64_t rows = 0;
    int bad = 0;
    for (int32_t s = 0; s < w->ranks; s++) {
        for (int64_t i = 0; i < w->rank[s].tokens * w->topk; i++) {
            const struct sy_ref_selection *one = &route->selection[s][i];
            int32_t k = (int32_t)(i % w->topk), repeats = 0;
            if (w->rank[s].ids) {
                int64_t id = w->rank[s].ids[i];
                int valid = id >= 0 && id < c->experts;
                CHECK(one->expert == (valid ? id : -1), "rank %d id %lld", s, (long long)id);
                if (!valid && id != -1 && !bad++)
                    CHECK(route->bad.rank == s && route->bad.token == i / w->topk &&
                              route->bad.k == k && route->bad.value == id, "the first bad id");
            }
            if (one->expert < 0)
                continue;
            CHECK(one->expert == first_expert(c, one->rank) + one->local &&
                      one->local < c->experts_per_rank[one->rank], "holder of %d", one->expert);
            for (int32_t before = 1; before <= k; before++)
                repeats += one[-before].rank == one->rank;
            rows += sy_ref_by_expert(w->layout) || repeats == 0;
        }
    }
    for (int32_t d = 0; d < w->ranks; d++)
        rows -= route->at[d].rows;
    CHECK(rows == 0, "%lld rows are missing", (long long)rows);
    CHECK(route->bad.any == (bad > 0) || c->input == SY_U8, "bad ids");
}

/* The rows of one receiver, counted again: ascending, each in the next place of its group. */
static void check_arrivals(const struct sy_case *c, const struct sy_ref_route *route, int32_t d)
{
    const struct sy_ref_world *w = &c->world;
    const struct sy_ref_arrivals *at = &route->at[d];
    int by_expert = sy_ref_by_expert(w->layout), align = w->alignment ? w->alignment : 1;
    int32_t groups = by_expert ? w->rank[d].experts : w->layout == SY_RANK_MAJOR ? w->ranks : 1;
    int64_t capacity = w->rank[d].capacity, dropped = 0, tokens = 0, last = -1;
    int64_t *base = allocate((groups + 1) * 8, 0), *count = allocate((groups + 1) * 8, 0);
    if (d == 0)
        check_selections(c, route);
    for (int32_t i = 0; i < w->rank[d].experts * w->ranks; i++)
        CHECK(at->slab_begin[i] ==
                  (i % w->ranks ? at->slab_begin[i - 1] + at->slab_count[i - 1] : 0), "slab %d", i);
    for (int32_t g = 1; g < groups; g++)
        base[g] = w->layout == SY_EXPERT_PACKED
                      ? base[g - 1] + (at->expert_counts[g - 1] + align - 1) / align * align
                      : base[g - 1] + capacity;
    for (int64_t i = 0; i < at->rows; i++) {
        const struct sy_ref_row *row = &at->row[i];
        const struct sy_ref_selection *of_token =
            route->selection[row->source] + (int64_t)row->token * w->topk;
        int32_t k = by_expert ? row->k : 0, group;
        int64_t place, key;
        while (of_token[k].rank != d && k + 1 < w->topk)
            k++;
        group = by_expert ? of_token[k].local : w->layout == SY_RANK_MAJOR ? row->source : 0;
        place = base[group] + count[group];
        if ((w->layout == SY_EXPERT_PACKED ? place : count[group]) >= capacity)
            place = -1;
        count[group]++;
        key = (((int64_t)row->source << 20) + row->token) * 4096 + k;
        CHECK(key > last, "row %lld is out of order", (long long)i);
        tokens += key / 4096 != last / 4096 || last < 0;
        last = key;
        CHECK(of_token[k].rank == d && row->place == place && of_token[k].place == place,
              "row %lld has place %lld, not %lld", (long long)i, (long long)row->place,
              (long long)place);
        dropped += place < 0;
    }
    CHECK(at->totals[SY_TOTAL_DROPPED] == dropped, "%lld dropped", (long long)dropped);
    CHECK(at->totals[SY_TOTAL_OVERFLOW] == (dropped > 0), "overflow");
    CHECK(at->totals[SY_TOTAL_TOKENS] == tokens, "%lld tokens", (long long)tokens);
    if (dropped || w->layout != SY_EXPERT_PACKED) /* else there may be padding only */
        CHECK((at->totals[SY_TOTAL_ROWS] > capacity) == (dropped > 0), "rows needed");
}

/* Every byte of x, scales and src. */
static void check_dispatch(const struct sy_case *c, const struct sy_ref_route *route, int32_t d)
{
    const struct sy_ref_world *w = &c->world;
    const struct sy_ref_arrivals *at = &route->at[d];
    int64_t rows = c->rank[d].out_rows, bytes = sy_ref_out_row_bytes(w);
    int64_t words = sy_ref_out_scale_words(w), in = w->hidden * sy_ref_type_bytes(w->type);
    const struct sy_ref_row **owner = allocate(rows * 8, 0);
    unsigned char *x = allocate(rows * bytes, 0xa5), *line = allocate(bytes, 0);
    uint32_t *scales = allocate(rows * words * 4, 0xa5), *scale = allocate(words * 4, 0);
    int32_t *src = allocate(rows * 8, 0xa5);
    struct sy_ref_outputs out = {.x = {x, rows}, .scales = {scales, rows}, .src = {src, rows}};
    sy_ref_dispatch(w, route, d, &out);
    for (int64_t i = 0; i < at->rows; i++)
        if (at->row[i].place >= 0)
            owner[at->row[i].place] = &at->row[i];
    for (int64_t row = 0; row < rows; row++) {
        int padding = 0;
        for (int32_t l = 0; l < w->rank[d].experts && w->layout == SY_EXPERT_PACKED; l++)
            padding |= row >= at->expert_offsets[l] + at->expert_counts[l] &&
                       row < at->expert_offsets[l + 1] && row < w->rank[d].capacity;
        memset(line, padding ? 0 : 0xa5, (size_t)bytes);
        memset(scale, padding ? 0 : 0xa5, (size_t)words * 4);
        if (owner[row]) {
            const struct sy_ref_rank *from = &w->rank[owner[row]->source];
            const unsigned char *sent = (const unsigned char *)from->x + owner[row]->token * in;
            CHECK(!padding, "a row among the padding");
            if (w->quant)
                sy_ref_quantize(w->quant, sent, w->hidden, line, scale);
            else
                memcpy(line, sent, (size_t)bytes);
            if (w->scale_words)
                memcpy(scale, from->scales + owner[row]->token * words, (size_t)words * 4);
        }
        CHECK(!memcmp(line, x + row * bytes, (size_t)bytes), "x of row %lld", (long long)row);
        CHECK(!memcmp(scale, scales + row * words, (size_t)words * 4), "scales");
        CHECK(src[2 * row] == (owner[row] ? owner[row]->source : -1) &&
                  src[2 * row + 1] == (owner[row] ? owner[row]->token : -1), "src");
    }
}

/* Weights that travel there and back are the same, or zero where nothing was delivered. */
static void check_weights_return(const struct sy_case *c, const struct sy_ref_route *route,
                                 int32_t rank)
{
    const struct sy_ref_world *w = &c->world;
    const struct sy_ref_rank *own = &w->rank[rank];
    int64_t columns = sy_ref_by_expert(w->layout) ? 1 : w->topk;
    struct sy_ref_sum *sums = allocate(w->ranks * (int64_t)sizeof *sums, 0);
    uint32_t *back = allocate(own->tokens * w->topk * 4, 0xa5);
    for (int32_t r = 0; r < w->ranks && (own->weights || own->probs); r++) {
        int64_t rows = c->rank[r].out_rows;
        float *there = allocate(rows * columns * 4, 0xa5);
        sy_ref_dispatch(w, route, r, &(struct sy_ref_outputs){.weights = {there, rows}});
        sums[r].row_weights = there;
    }
    sums[rank].out_weights = (float *)(void *)back;
    sy_ref_combine(w, route, rank, c->sum_type, c->sum_hidden, sums);
    for (int64_t i = 0; i < own->tokens * w->topk; i++) {
        const struct sy_ref_selection *one = &route->selection[rank][i];
        uint32_t expect = 0;
        if (one->place >= 0 && own->weights)
            memcpy(&expect, own->weights + i, 4);
        if (one->place >= 0 && own->probs)
            memcpy(&expect, own->probs + i / w->topk * c->experts + one->expert, 4);
        CHECK(back[i] == expect, "weight %lld of rank %d", (long long)i, rank);
    }
}

/* out(t) once more, one element only, from what the receivers know instead of what sources do. */
static float sum_again(const struct sy_case *c, const struct sy_ref_route *route, int32_t rank,
                       int64_t t, int64_t h)
{
    const struct sy_ref_world *w = &c->world;
    const struct sy_ref_sum *own = &c->sum[rank];
    int by_expert = sy_ref_by_expert(w->layout);
    volatile float sum = 0, term, weight, value;
    for (int b = 0; b < 2; b++)
        if (own->bias[b])
            sum += sy_ref_load(c->sum_type, own->bias[b], t * c->sum_hidden + h);
    for (int32_t r = 0; r < w->ranks; r++) {
        term = 0;
        for (int64_t i = 0; i < route->at[r].rows; i++) {
            const struct sy_ref_row *row = &route->at[r].row[i];
            if (row->source != rank || row->token != t || row->place < 0)
                continue;
            value = sy_ref_load(c->sum_type, c->sum[r].x, row->place * c->sum_hidden + h);
            weight = 0;
            for (int32_t k = 0; own->weights && k < w->topk; k++)
                if (by_expert ? k == row->k
                              : route->selection[rank][t * w->topk + k].rank == r)
                    weight += own->weights[t * w->topk + k];
            if (own->weights)
                value *= weight;
            term += value;
        }
        if (by_expert)
            term = sy_ref_decode(c->sum_type, sy_ref_encode(c->sum_type, term));
        sum += term;
    }
    return sum;
}

static void check_combine(const struct sy_case *c, const struct sy_ref_route *route, int32_t rank)
{
    int64_t tokens = c->world.rank[rank].tokens, bytes = sy_ref_type_bytes(c->sum_type);
    unsigned char *out = allocate(tokens * c->sum_hidden * bytes, 0xa5);
    c->sum[rank].out = out;
    sy_ref_combine(&c->world, route, rank, c->sum_type, c->sum_hidden, c->sum);
    for (int64_t t = 0; t < tokens; t++) {
        for (int64_t h = 0; h < c->sum_hidden; h += 1 + (c->sum_hidden - 1) / 3) {
            uint32_t expect = 0;
            sy_ref_store(c->sum_type, &expect, 0, sum_again(c, route, rank, t, h));
            CHECK(!memcmp(&expect, out + (t * c->sum_hidden + h) * bytes, (size_t)bytes),
                  "rank %d token %lld element %lld", rank, (long long)t, (long long)h);
        }
    }
    c->sum[rank].out = NULL;
}

typedef void check_fn(const struct sy_case *c, const struct sy_ref_route *route, int32_t rank);

static void for_each_case(check_fn *check)
{
    static const struct sy_case_limits small = {
        .ranks_max = 5, .experts_max = 20, .tokens_max = 12, .payload_bytes = 16 << 10};
    for (uint64_t seed = 1; seed <= 500; seed++) {
        int before = test_failures;
        struct sy_ref_route route = {0};
        struct sy_case c;
        char text[SY_CASE_TEXT];
        sy_case_make(&c, seed, seed % 8 ? &small : NULL);
        sy_ref_route(&c.world, &route);
        for (int32_t rank = 0; rank < c.world.ranks; rank++) {
            check(&c, &route, rank);
            release();
        }
        if (test_failures > before)
            printf("# %s\n", sy_case_text(&c, text));
        sy_ref_route_free(&route);
        sy_case_free(&c);
    }
}

/* ---- the generator ---- */

/* That a case keeps the header's rules and its caller's limits is asserted where it is made. */
static void test_cases(void)
{
    static const struct sy_case_limits limits = {
        .ranks_max = 16, .experts_max = 300, .tokens_max = 40, .payload_bytes = 32 << 10};
    /* Which values each kind of thing below must have, as bits: 1, 2, 3, 4, 5, 8, 16 ranks... */
    static const uint32_t wanted[] = {0x1013e, 0x1e, 0x3e, (1 << SY_CASE_ROUTINGS) - 1,
                                      (1 << SY_CASE_CAPACITIES) - 1, (1 << SY_CASE_DATAS) - 1,
                                      0xf, 0x1c0, 6, 3, 3, 3};
    int seen[COUNT(wanted)][32] = {{0}};
    uint64_t last = 0;
    for (uint64_t seed = 0; seed < 1500; seed++) {
        struct sy_case c, again;
        sy_case_make(&c, seed, &limits);
        sy_case_make(&again, seed, &limits);
        CHECK(sy_case_hash(&c) == sy_case_hash(&again), "seed %d gave two cases", (int)seed);
        CHECK(sy_case_hash(&c) != last, "seeds %d and the one before gave one case", (int)seed);
        last = sy_case_hash(&c);
        const int drawn[COUNT(wanted)] = {
            c.world.ranks, c.world.layout, c.world.type, c.routing, c.capacity, c.data,
            c.world.quant, c.input, c.mode, c.sum[0].weights != NULL, c.world.topk == c.experts,
            c.experts_per_rank[c.world.ranks - 1] == 0};
        for (int kind = 0; kind < COUNT(drawn); kind++)
            seen[kind][drawn[kind]]++;
        sy_case_free(&c);
        sy_case_free(&again);
    }
    for (int kind = 0; kind < COUNT(wanted); kind++)
        for (int value = 0; value < 32; value++)
            CHECK(!(wanted[kind] >> value & 1) || seen[kind][value] > 10, "kind %d value %d: %d",
                  kind, value, seen[kind][value]);
}

#define TEST(name) {#name, test_##name, NULL}

int main(void)
{
    static const struct {
        const char *name;
        void (*run)(void);
        check_fn *check;
    } tests[] = {
        TEST(decode_anchors), TEST(every_code), TEST(encode_edges), TEST(encode_random),
        TEST(quant_anchors), TEST(quant_blocks), TEST(quant_random),
        TEST(tiny), TEST(tiny_probs), TEST(tiny_map), TEST(tiny_combine), TEST(tiny_carry_probs),
        TEST(combine_arithmetic), TEST(cases),
        {"route_properties", NULL, check_arrivals},
        {"dispatch_properties", NULL, check_dispatch},
        {"weights_return", NULL, check_weights_return},
        {"combine_properties", NULL, check_combine},
    };
    int failed = 0;
    for (int i = 0; i < COUNT(tests); i++) {
        test_name = tests[i].name;
        test_failures = 0;
        if (tests[i].run)
            tests[i].run();
        else
            for_each_case(tests[i].check);
        failed += test_failures > 0;
        if (!test_failures)
            printf("ok %s\n", test_name);
    }
    printf("%d passed, %d failed, 0 skipped\n", COUNT(tests) - failed, failed);
    return failed > 0;
}
