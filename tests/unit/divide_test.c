/* divide_test.c - the divisions of quantisation on GPUs (sy_over_448, sy_448_over in
 * device/compat_cuda.h) for every BF16 value that they are used for: as division rounds, whatever
 * the GPU's reciprocal is, if it is off by one unit in the last place or by two. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "check.h"
#include "device/quant.h"

#define LEAST 1e-4f

static float of_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static float over_448(float a)
{
    const float inverse = 0x1.24924ap-9f;
    float q = a * inverse;
    return fmaf(fmaf(-448.0f, q, a), inverse, q);
}

/* y: what the reciprocal instruction gave. */
static float over(float a, float y)
{
    float q;
    y = fmaf(y, fmaf(-a, y, 1.0f), y);
    q = 448.0f * y;
    return fmaf(fmaf(-a, q, 448.0f), y, q);
}

static void one(float a)
{
    float y = 1.0f / a, up = y, down = y;
    float by_448 = a / 448.0f, of_448 = 448.0f / a;
    CHECK(over_448(a) == by_448, "%a / 448", (double)a);
    for (int ulp = 0; ulp <= 2; ulp++) {
        CHECK(over(a, up) == of_448 && over(a, down) == of_448, "448 / %a, %d", (double)a, ulp);
        up = nextafterf(up, INFINITY);
        down = nextafterf(down, 0.0f);
    }
}

static void every_bf16(void)
{
    one(LEAST);
    for (uint32_t bits = 0; bits < SY_NEAR_BITS; bits++) {
        float a = of_bits(bits << 16);
        if (a >= LEAST)
            one(a);
    }
}

int main(void)
{
    TEST(every_bf16);
    return check_end();
}
