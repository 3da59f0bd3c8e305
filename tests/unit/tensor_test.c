/* tensor_test.c - what sy_tensor_take() (src/api/tensor.c) makes of a caller's tensor, against a
 * second opinion on random descriptors; flattening; the hash that ranks compare. */
#include <stdlib.h>

#include "api/group.h"
#include "check.h"
#include "prng.h"

static int64_t bytes_of(int32_t type)
{
    static const int64_t bytes[] = {0, 2, 2, 4, 1, 16, 4, 8, 1, 4};
    return type >= 1 && type <= 9 ? bytes[type] : 0;
}

static void types(void)
{
    for (int32_t type = -3; type < 40; type++) {
        CHECK(sy_type_bytes(type) == bytes_of(type), "type %d has %lld bytes", type,
              (long long)sy_type_bytes(type));
        CHECK(sy_type_name(type) && sy_type_name(type)[0], "type %d has no name", type);
    }
    CHECK(!strcmp(sy_type_name(SY_UE8M0X4), "UE8M0X4") && !strcmp(sy_type_name(77), "?"), "names");
}

/* Mostly right, with something wrong now and then. */
static sy_tensor draw_tensor(struct sy_prng *p, const struct sy_expect *e)
{
    sy_tensor t;
    memset(&t, 0, sizeof t);
    t.type = sy_prng_once_in(p, 8) ? (int32_t)sy_prng_range(p, -2, 35)
                                   : (int32_t)sy_prng_range(p, SY_BF16, SY_UE8M0X4);
    t.dims = sy_prng_once_in(p, 10) ? (int32_t)sy_prng_range(p, -1, 5) : e->dims;
    t.data = (void *)(uintptr_t)(4096 + (sy_prng_once_in(p, 4) ? sy_prng_below(p, 32) : 0));
    for (int i = 0; i < SY_DIMS_MAX; i++) {
        t.shape[i] = sy_prng_once_in(p, 12) ? sy_prng_range(p, -2, 3) : sy_prng_range(p, 0, 64);
        if (i < 2 && e->shape[i] >= 0 && !sy_prng_once_in(p, 8))
            t.shape[i] = e->shape[i];
    }
    t.stride[0] = t.shape[1] + 16 * sy_prng_range(p, 0, 3) + sy_prng_once_in(p, 5);
    if (sy_prng_once_in(p, 20))
        t.shape[sy_prng_below(p, 2)] = sy_prng_once_in(p, 2) ? INT64_MAX : SY_ROWS_MAX + 1;
    if (sy_prng_once_in(p, 2)) {
        t.stride[0] = 0; /* contiguous */
        return t;
    }
    t.stride[1] = sy_prng_once_in(p, 5) ? sy_prng_range(p, -1, 9) : 1;
    if (sy_prng_once_in(p, 20))
        t.stride[sy_prng_below(p, 2)] = sy_prng_once_in(p, 2) ? INT64_MAX : INT64_MIN;
    return t;
}

static struct sy_expect draw_expect(struct sy_prng *p)
{
    struct sy_expect e = {"it", (int32_t)sy_prng_range(p, 1, 2), 0, {-1, -1}, 0, 0};
    e.types = (uint32_t)sy_prng_next(p) & 0x3fe;
    for (int i = 0; i < e.dims; i++)
        if (sy_prng_once_in(p, 2))
            e.shape[i] = sy_prng_range(p, 0, 64);
    e.rows_min = sy_prng_once_in(p, 3) ? sy_prng_range(p, 0, 20) : 0;
    e.rows_16 = e.dims == 2 && sy_prng_once_in(p, 2);
    return e;
}

/* The second opinion. stride: in elements, filled in. */
static int is_fine(const sy_tensor *t, const struct sy_expect *e, int64_t stride[2])
{
    int64_t size = bytes_of(t->type), align = e->rows_16 ? 16 : size;
    int contiguous = 1;
    if (t->type < 1 || t->type > 9 || !(e->types >> t->type & 1) || t->dims != e->dims)
        return 0;
    for (int i = 0; i < e->dims; i++) {
        if (t->shape[i] < 0 || t->shape[i] > SY_ROWS_MAX)
            return 0;
        if (e->shape[i] >= 0 && t->shape[i] != e->shape[i])
            return 0;
        contiguous &= t->stride[i] == 0;
    }
    if (t->shape[0] < e->rows_min || (uintptr_t)t->data % (uint64_t)align)
        return 0;
    stride[0] = contiguous ? (e->dims == 2 && t->shape[1] ? t->shape[1] : 1) : t->stride[0];
    stride[1] = contiguous ? 1 : t->stride[1];
    for (int i = 0; i < e->dims; i++)
        if (stride[i] < 0 || (long double)stride[i] * (t->shape[i] ? t->shape[i] : 1) >
                                 (long double)(INT64_MAX >> 8))
            return 0;
    if (!e->rows_16)
        return 1;
    return t->shape[1] * size % 16 == 0 && (t->shape[1] <= 1 || stride[1] == 1) &&
           stride[0] * size % 16 == 0;
}

static void random_tensors(void)
{
    int fine = 0, wrong = 0;
    for (uint64_t seed = 0; seed < 200000 && !check_state.failures; seed++) {
        struct sy_prng p = sy_prng_make(seed, 0);
        struct sy_expect e = draw_expect(&p);
        sy_tensor t = draw_tensor(&p, &e), before = t;
        struct sy_dev_tensor out;
        int64_t stride[2] = {0, 0};
        int want = is_fine(&t, &e, stride);
        sy_status status = sy_tensor_take(&t, &e, &out);
        CHECK((status == SY_OK) == want, "seed %llu: %s, \"%s\"", (unsigned long long)seed,
              sy_status_name(status), status == SY_OK ? "" : sy_last_error());
        CHECK(!memcmp(&t, &before, sizeof t), "the caller's tensor changed");
        fine += want;
        wrong += !want;
        if (status != SY_OK) {
            CHECK(status == SY_INVALID && !strncmp(sy_last_error(), "it: ", 4), "seed %llu: %s",
                  (unsigned long long)seed, sy_last_error());
            CHECK(!out.data, "a refused tensor is described");
            continue;
        }
        CHECK(out.data == t.data && out.rows == (uint32_t)t.shape[0] &&
                  out.stride0 == stride[0] * bytes_of(t.type) && out.wide == (t.type == SY_I64),
              "seed %llu: rows %u, %lld bytes apart", (unsigned long long)seed, out.rows,
              out.stride0);
        CHECK(e.dims == 1 || out.stride1 == stride[1] * bytes_of(t.type),
              "seed %llu: columns %lld bytes apart", (unsigned long long)seed, out.stride1);
    }
    CHECK(fine > 5000 && wrong > 50000, "%d fine and %d wrong tensors", fine, wrong);
}

static void absent(void)
{
    const struct sy_expect e = {"it", 2, SY_TYPE_BIT(SY_F32), {5, 5}, 3, 1};
    struct sy_dev_tensor out;
    sy_tensor t;
    memset(&out, 0xff, sizeof out);
    memset(&t, 0, sizeof t);
    CHECK(sy_tensor_take(&t, &e, &out) == SY_OK && !out.data && !out.rows && !out.stride0,
          "an absent tensor");
}

/* Slabs become rows if they follow each other. */
static void flatten(void)
{
    char place;
    int flat = 0;
    for (uint64_t seed = 0; seed < 50000 && !check_state.failures; seed++) {
        struct sy_prng p = sy_prng_make(seed, 1);
        int64_t n0 = sy_prng_range(&p, 0, 5), n1 = sy_prng_range(&p, 0, 5);
        sy_tensor t = sy_tensor_3d(&place, SY_F32, n0, n1, 8), out;
        int follow = 1;
        if (sy_prng_once_in(&p, 3))
            memset(t.stride, 0, sizeof t.stride);
        else if (sy_prng_once_in(&p, 2))
            t.stride[1] = 8 + 4 * sy_prng_range(&p, 0, 3), t.stride[0] = n1 * t.stride[1];
        if (t.stride[2] && sy_prng_once_in(&p, 4)) {
            t.stride[0] += 8;
            follow = n0 <= 1 || !n1;
        }
        CHECK((sy_tensor_flatten(&t, "it", &out) == SY_OK) == follow, "seed %llu",
              (unsigned long long)seed);
        if (!follow) {
            CHECK(strstr(sy_last_error(), "slabs must follow each other"), "%s", sy_last_error());
            continue;
        }
        flat++;
        CHECK(out.dims == 2 && out.shape[0] == n0 * n1 && out.shape[1] == 8 && out.data == &place &&
                  out.stride[0] == (t.stride[2] ? t.stride[1] : 8) && out.stride[1] == 1,
              "seed %llu: [%lld, %lld], %lld apart", (unsigned long long)seed,
              (long long)out.shape[0], (long long)out.shape[1], (long long)out.stride[0]);
    }
    CHECK(flat > 10000, "only %d are flat", flat);
}

static void flatten_others(void)
{
    float room[4];
    sy_tensor two = sy_tensor_2d(room, SY_F32, 2, 2), none = {0}, out;
    sy_tensor huge = sy_tensor_3d(room, SY_F32, SY_ROWS_MAX, SY_ROWS_MAX, 4);
    sy_tensor empty = sy_tensor_3d(NULL, SY_F32, 0, 7, 4);
    CHECK(sy_tensor_flatten(&two, "it", &out) == SY_OK && !memcmp(&two, &out, sizeof out), "two");
    CHECK(sy_tensor_flatten(&none, "it", &out) == SY_OK && !out.data, "none");
    CHECK(sy_tensor_flatten(&empty, "it", &out) == SY_OK && out.dims == 2 && out.shape[0] == 0,
          "no slabs and no data");
    huge.shape[0] = -1;
    CHECK(sy_tensor_flatten(&huge, "it", &out) == SY_INVALID, "less than no slabs");
    huge.shape[0] = INT64_MAX;
    CHECK(sy_tensor_flatten(&huge, "it", &out) == SY_INVALID, "too many slabs");
    huge.shape[0] = 3;
    huge.stride[1] = INT64_MAX / 2;
    CHECK(sy_tensor_flatten(&huge, "it", &out) == SY_INVALID, "slabs too far apart");
}

/* One bit anywhere, one word more, two words exchanged: another hash. */
static void check_words(void)
{
    uint64_t words[8];
    struct sy_prng p = sy_prng_make(1, 2);
    for (int run = 0; run < 200; run++) {
        uint32_t h;
        for (int i = 0; i < 8; i++)
            words[i] = run % 2 ? sy_prng_next(&p) : (uint64_t)sy_prng_below(&p, 4);
        h = sy_check_word(words, 8);
        CHECK(h == sy_check_word(words, 8), "the same words");
        CHECK(h != sy_check_word(words, 7), "a word less");
        for (int bit = 0; bit < 512; bit++) {
            words[bit / 64] ^= 1ull << bit % 64;
            CHECK(h != sy_check_word(words, 8), "bit %d does not count", bit);
            words[bit / 64] ^= 1ull << bit % 64;
        }
        for (int i = 1; i < 8; i++) {
            uint64_t swap = words[i];
            if (swap == words[i - 1])
                continue;
            words[i] = words[i - 1];
            words[i - 1] = swap;
            CHECK(h != sy_check_word(words, 8), "the order of words %d and %d does not count",
                  i - 1, i);
            words[i - 1] = words[i];
            words[i] = swap;
        }
    }
}

int main(void)
{
    TEST(types);
    TEST(random_tensors);
    TEST(absent);
    TEST(flatten);
    TEST(flatten_others);
    TEST(check_words);
    return check_end();
}
