/* numbers_cpu.h - arithmetic on 16 bytes for targets whose warps have one lane (CPU, simulator).
 *
 * Eight values at a time as compiler vectors: with AVX2 an add is three instructions, without it
 * the compiler splits them. All arithmetic is fp32 and nothing is fused (built with
 * -ffp-contract=off). */
#ifndef SY_DEVICE_NUMBERS_CPU_H
#define SY_DEVICE_NUMBERS_CPU_H

typedef sy_u16 sy_u16x8 __attribute__((vector_size(16)));
typedef sy_u32 sy_u32x8 __attribute__((vector_size(32)));
typedef sy_s32 sy_s32x8 __attribute__((vector_size(32)));
typedef float sy_f32x8 __attribute__((vector_size(32)));
typedef sy_u8 sy_u8x8 __attribute__((vector_size(8)));

struct sy_acc {
    sy_f32x8 f;
};

SY_DEV float sy_bits_f32(sy_u32 u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}
SY_DEV sy_u32 sy_f32_bits(float f)
{
    sy_u32 u;
    memcpy(&u, &f, 4);
    return u;
}
SY_DEV sy_u32x8 sy_select(sy_s32x8 mask, sy_u32x8 yes, sy_u32x8 no)
{
    return ((sy_u32x8)mask & yes) | (~(sy_u32x8)mask & no);
}
SY_DEV struct sy_acc sy_acc_zero(void)
{
    struct sy_acc a = {{0}};
    return a;
}
SY_DEV sy_u32x8 sy_widen(struct sy_v16 v)
{
    sy_u16x8 h;
    memcpy(&h, &v, 16);
    return __builtin_convertvector(h, sy_u32x8);
}
SY_DEV struct sy_v16 sy_narrow(sy_u32x8 u)
{
    sy_u16x8 h = __builtin_convertvector(u, sy_u16x8);
    struct sy_v16 v;
    memcpy(&v, &h, 16);
    return v;
}
SY_DEV struct sy_acc sy_acc_bf16(struct sy_v16 v)
{
    struct sy_acc a;
    a.f = (sy_f32x8)(sy_widen(v) << 16);
    return a;
}
SY_DEV struct sy_acc sy_acc_f16(struct sy_v16 v)
{
    struct sy_acc a;
#if defined(__F16C__)
    __m128i h;
    __m256 f;
    memcpy(&h, &v, 16);
    f = _mm256_cvtph_ps(h);
    memcpy(&a.f, &f, 32);
#else
    /* Exponent and mantissa in place, then scaled: subnormals come out right by the multiplication.
     */
    sy_u32x8 h = sy_widen(v), sign = (h & 0x8000u) << 16;
    sy_f32x8 f = (sy_f32x8)((h & 0x7fffu) << 13) * 0x1p112f;
    sy_s32x8 special = (h & 0x7c00u) == 0x7c00u;
    a.f = (sy_f32x8)(((sy_u32x8)f | ((sy_u32x8)special & 0x7f800000u)) | sign);
#endif
    return a;
}
SY_DEV struct sy_acc sy_acc_f32(struct sy_v16 v)
{
    struct sy_acc a = {{0}};
    memcpy(&a.f, &v, 16);
    return a;
}
SY_DEV struct sy_acc sy_acc_add(struct sy_acc a, struct sy_acc b)
{
    a.f += b.f;
    return a;
}
SY_DEV struct sy_acc sy_acc_scale(struct sy_acc a, float s)
{
    a.f *= s;
    return a;
}
SY_DEV struct sy_v16 sy_pack_bf16(struct sy_acc a)
{
    sy_u32x8 u = (sy_u32x8)a.f;
    sy_u32x8 r = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    sy_u32x8 nan = {0x7fff, 0x7fff, 0x7fff, 0x7fff, 0x7fff, 0x7fff, 0x7fff, 0x7fff};
    return sy_narrow(sy_select(a.f != a.f, nan, r));
}
SY_DEV struct sy_v16 sy_pack_f16(struct sy_acc a)
{
    sy_u32x8 nan = {0x7fff, 0x7fff, 0x7fff, 0x7fff, 0x7fff, 0x7fff, 0x7fff, 0x7fff};
    sy_u32x8 r;
#if defined(__F16C__)
    __m256 f;
    __m128i h;
    struct sy_v16 v;
    memcpy(&f, &a.f, 32);
    h = _mm256_cvtps_ph(f, _MM_FROUND_TO_NEAREST_INT);
    memcpy(&v, &h, 16);
    r = sy_widen(v);
#else
    sy_u32x8 u = (sy_u32x8)a.f, m = u & 0x7fffffffu, sign = (u >> 16) & 0x8000u;
    sy_u32x8 inf = {0x7c00, 0x7c00, 0x7c00, 0x7c00, 0x7c00, 0x7c00, 0x7c00, 0x7c00};
    sy_u32x8 normal = (m - 0x38000000u + 0xfffu + ((m >> 13) & 1u)) >> 13;
    sy_u32x8 small = (sy_u32x8)((sy_f32x8)m + 0.5f) - 0x3f000000u;
    r = sy_select(m < 0x38800000u, small, normal);
    r = sy_select(m >= 0x477ff000u, inf, r) | sign;
#endif
    return sy_narrow(sy_select(a.f != a.f, nan, r));
}
SY_DEV struct sy_v16 sy_pack_f32(struct sy_acc a)
{
    sy_u32x8 nan = {0x7fffffff, 0x7fffffff, 0x7fffffff, 0x7fffffff,
                    0x7fffffff, 0x7fffffff, 0x7fffffff, 0x7fffffff};
    sy_u32x8 r = sy_select(a.f != a.f, nan, (sy_u32x8)a.f);
    struct sy_v16 v;
    memcpy(&v, &r, 16);
    return v;
}
SY_DEV float sy_acc_amax(struct sy_acc a)
{
    float m = 0.0f;
    for (int i = 0; i < 8; i++) {
        float x = sy_bits_f32(sy_f32_bits(a.f[i]) & 0x7fffffffu);
        m = x < __builtin_inff() && x > m ? x : m;
    }
    return m;
}
SY_DEV sy_u32 sy_amax_bf16(struct sy_v16 v)
{
    sy_u32 most = 0;
    for (int i = 0; i < 4; i++) {
        sy_u32 lo = v.w[i] & 0x7fffu, hi = v.w[i] >> 16 & 0x7fffu;
        most = lo > most ? lo : most;
        most = hi > most ? hi : most;
    }
    return most;
}
SY_DEV float sy_div(float a, float b)
{
    return a / b;
}
SY_DEV float sy_over_448(float a)
{
    return a / 448.0f;
}
SY_DEV float sy_448_over(float a)
{
    return 448.0f / a;
}
/* Eight values times s as e4m3, to nearest even, saturated; what is not finite becomes NaN. */
SY_DEV sy_u64 sy_pack_f8(struct sy_acc a, float s)
{
    sy_u32x8 sign = ((sy_u32x8)a.f >> 24) & 0x80u;
    sy_u32x8 m = (sy_u32x8)(a.f * s) & 0x7fffffffu;
    sy_u32x8 big = ((m + 0x7ffffu + ((m >> 20) & 1u)) >> 20) - 960u;
    sy_u32x8 small = (sy_u32x8)((sy_f32x8)m + 16384.0f) - 0x46800000u;
    sy_u32x8 most = {0x7e, 0x7e, 0x7e, 0x7e, 0x7e, 0x7e, 0x7e, 0x7e};
    sy_u32x8 nan = {0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f};
    sy_u32x8 r = sy_select(m < 0x3c800000u, small, sy_select(big > most, most, big));
    sy_u8x8 bytes;
    sy_u64 out;
    r = sy_select(((sy_u32x8)a.f & 0x7f800000u) == 0x7f800000u, nan, r) | sign;
    bytes = __builtin_convertvector(r, sy_u8x8);
    memcpy(&out, &bytes, 8);
    return out;
}
#define sy_pack_f8_finite sy_pack_f8

#endif
