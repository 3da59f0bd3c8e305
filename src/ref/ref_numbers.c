/* ref_numbers.c - the reference's number formats and quantisation: see ref.h.
 *
 * A format is decoded and encoded in double arithmetic, which holds every value of every format,
 * half a step of it and every fp32 number exactly. */
#include "ref.h"

#include <math.h>
#include <string.h>

#include "base/verify.h"

#define QUANT_BLOCK 128
#define F8_LARGEST 448.0f

struct format {
    int mantissa_bits, exponent_bits, bias;
    uint32_t largest;  /* code of the largest finite number                                   */
    uint32_t overflow; /* code of what is larger                                              */
    uint32_t nan;
};

static const struct format *format_of(int32_t type)
{
    static const struct format bf16 = {7, 8, 127, 0x7f7f, 0x7f80, 0x7fff};
    static const struct format f16 = {10, 5, 15, 0x7bff, 0x7c00, 0x7fff};
    static const struct format f8 = {3, 4, 7, 0x7e, 0x7e, 0x7f};
    switch (type) {
    case SY_BF16:
        return &bf16;
    case SY_F16:
        return &f16;
    default:
        SY_ASSERT(type == SY_F8E4M3);
        return &f8;
    }
}

int64_t sy_ref_type_bytes(int32_t type)
{
    switch (type) {
    case SY_U8:
    case SY_F8E4M3:
        return 1;
    case SY_BF16:
    case SY_F16:
        return 2;
    case SY_F32:
    case SY_I32:
    case SY_UE8M0X4:
        return 4;
    case SY_I64:
        return 8;
    default:
        SY_ASSERT(type == SY_OPAQUE16);
        return 16;
    }
}

/* volatile keeps a product and the sum that uses it apart, whatever -ffp-contract says. */
float sy_ref_add(float a, float b)
{
    volatile float sum = a + b;
    return sum;
}

float sy_ref_mul(float a, float b)
{
    volatile float product = a * b;
    return product;
}

float sy_ref_div(float a, float b)
{
    volatile float quotient = a / b;
    return quotient;
}

float sy_ref_decode(int32_t type, uint32_t code)
{
    const struct format *f;
    uint32_t sign, magnitude, exponent, mantissa, one;
    float value;
    if (type == SY_F32) {
        memcpy(&value, &code, sizeof value);
        return value;
    }
    f = format_of(type);
    one = 1u << f->mantissa_bits; /* the implied bit */
    sign = code >> (f->mantissa_bits + f->exponent_bits) & 1;
    magnitude = code & ((one << f->exponent_bits) - 1);
    exponent = magnitude / one;
    mantissa = magnitude % one;

    if (magnitude > f->largest)
        value = magnitude == f->overflow ? INFINITY : NAN;
    else if (exponent == 0)
        value = (float)ldexp(mantissa, 1 - f->bias - f->mantissa_bits);
    else
        value = (float)ldexp(one + mantissa, (int)exponent - f->bias - f->mantissa_bits);
    return sign ? -value : value;
}

/* value: finite and not negative. The codes of a format count its numbers from 0 upwards, so the
 * number of steps of the value's binade, and of all binades below, is the code. */
static uint32_t encode_magnitude(const struct format *f, double value)
{
    int least = 1 - f->bias, exponent;
    double steps, whole, rest, code;
    frexp(value, &exponent); /* value is [0.5, 1) times 2^exponent */
    exponent = value == 0 || exponent - 1 < least ? least : exponent - 1;
    steps = ldexp(value, f->mantissa_bits - exponent);
    whole = floor(steps);
    rest = steps - whole;
    if (rest > 0.5 || (rest == 0.5 && fmod(whole, 2) == 1))
        whole += 1;
    code = ldexp(exponent - least, f->mantissa_bits) + whole;
    return code > f->largest ? f->overflow : (uint32_t)code;
}

uint32_t sy_ref_encode(int32_t type, float value)
{
    const struct format *f;
    uint32_t code, sign_bit;
    if (type == SY_F32) {
        memcpy(&code, &value, sizeof code);
        return isnan(value) ? 0x7fffffff : code;
    }
    f = format_of(type);
    sign_bit = signbit(value) ? 1u << (f->mantissa_bits + f->exponent_bits) : 0;
    if (type == SY_F8E4M3 && !isfinite(value))
        return sign_bit | f->nan;
    if (isnan(value))
        return f->nan;
    if (isinf(value))
        return sign_bit | f->overflow;
    return sign_bit | encode_magnitude(f, fabs((double)value));
}

float sy_ref_load(int32_t type, const void *data, int64_t index)
{
    int64_t bytes = sy_ref_type_bytes(type);
    const unsigned char *at = (const unsigned char *)data + index * bytes;
    uint8_t code8;
    uint16_t code16;
    uint32_t code32;
    switch (bytes) {
    case 1:
        memcpy(&code8, at, sizeof code8);
        return sy_ref_decode(type, code8);
    case 2:
        memcpy(&code16, at, sizeof code16);
        return sy_ref_decode(type, code16);
    default:
        memcpy(&code32, at, sizeof code32);
        return sy_ref_decode(type, code32);
    }
}

void sy_ref_store(int32_t type, void *data, int64_t index, float value)
{
    int64_t bytes = sy_ref_type_bytes(type);
    unsigned char *at = (unsigned char *)data + index * bytes;
    uint32_t code32 = sy_ref_encode(type, value);
    uint16_t code16 = (uint16_t)code32;
    uint8_t code8 = (uint8_t)code32;
    if (bytes == 1)
        memcpy(at, &code8, sizeof code8);
    else if (bytes == 2)
        memcpy(at, &code16, sizeof code16);
    else
        memcpy(at, &code32, sizeof code32);
}

static float largest_of_block(const void *x, int64_t begin, int64_t end)
{
    float largest = 1e-4f;
    for (int64_t i = begin; i < end; i++) {
        float magnitude = fabsf(sy_ref_load(SY_BF16, x, i));
        if (isfinite(magnitude) && magnitude > largest)
            largest = magnitude;
    }
    return largest;
}

/* ceil(log2(value)) of a positive normal number. */
static int ceil_log2(float value)
{
    int exponent;
    float mantissa = frexpf(value, &exponent);
    return mantissa == 0.5f ? exponent - 1 : exponent;
}

void sy_ref_quantize(int32_t quant, const void *x, int64_t hidden, uint8_t *q, uint32_t *scales)
{
    int64_t blocks = (hidden + QUANT_BLOCK - 1) / QUANT_BLOCK;
    if (quant == SY_QUANT_F8_UE8M0)
        for (int64_t word = 0; word < (blocks + 3) / 4; word++)
            scales[word] = 0;
    for (int64_t block = 0; block < blocks; block++) {
        int64_t begin = block * QUANT_BLOCK;
        int64_t end = begin + QUANT_BLOCK < hidden ? begin + QUANT_BLOCK : hidden;
        float a = largest_of_block(x, begin, end);
        int exponent = ceil_log2(sy_ref_div(a, F8_LARGEST));
        float scale = ldexpf(1, exponent), factor = ldexpf(1, -exponent);

        if (quant == SY_QUANT_F8) {
            scale = sy_ref_div(a, F8_LARGEST);
            factor = sy_ref_div(F8_LARGEST, a);
        }
        if (quant == SY_QUANT_F8_UE8M0)
            scales[block / 4] |= (uint32_t)(exponent + 127) << (8 * (block % 4));
        else
            scales[block] = sy_ref_encode(SY_F32, scale);
        for (int64_t i = begin; i < end; i++) {
            float value = sy_ref_load(SY_BF16, x, i);
            if (isfinite(value)) /* a product might lose the sign of a NaN */
                value = sy_ref_mul(value, factor);
            q[i] = (uint8_t)sy_ref_encode(SY_F8E4M3, value);
        }
    }
}
