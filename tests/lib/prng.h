/* prng.h - random numbers of tests: xoshiro256**, seeded by splitmix64. The same everywhere.
 *
 * No floating point is involved, so a seed means the same case on every machine. */
#ifndef SY_TESTS_PRNG_H
#define SY_TESTS_PRNG_H

#include <stdint.h>

struct sy_prng {
    uint64_t state[4];
};

/* splitmix64's mixer: a bijection that looks random. */
static inline uint64_t sy_mix64(uint64_t value)
{
    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9u;
    value = (value ^ value >> 27) * 0x94d049bb133111ebu;
    return value ^ value >> 31;
}

/* Generators of one seed and different streams are independent of each other. */
static inline struct sy_prng sy_prng_make(uint64_t seed, uint64_t stream)
{
    struct sy_prng prng;
    uint64_t at = seed ^ sy_mix64(stream + 1);
    for (int i = 0; i < 4; i++) {
        at += 0x9e3779b97f4a7c15u;
        prng.state[i] = sy_mix64(at);
    }
    return prng;
}

static inline uint64_t sy_prng_rotate(uint64_t value, int by)
{
    return value << by | value >> (64 - by);
}

static inline uint64_t sy_prng_next(struct sy_prng *prng)
{
    uint64_t *s = prng->state;
    uint64_t result = sy_prng_rotate(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = sy_prng_rotate(s[3], 45);
    return result;
}

/* From 0 to below count, which is at least 1. Counts are far below 2^64, so the bias is nothing. */
static inline int64_t sy_prng_below(struct sy_prng *prng, int64_t count)
{
    return (int64_t)(sy_prng_next(prng) % (uint64_t)count);
}

/* From least to most, both included. */
static inline int64_t sy_prng_range(struct sy_prng *prng, int64_t least, int64_t most)
{
    return least + sy_prng_below(prng, most - least + 1);
}

/* True once in `in` times. */
static inline int sy_prng_once_in(struct sy_prng *prng, int64_t in)
{
    return sy_prng_below(prng, in) == 0;
}

/* From least to most, small numbers as likely as large ones: uniform in the number of bits. */
static inline int64_t sy_prng_spread(struct sy_prng *prng, int64_t least, int64_t most)
{
    int64_t bits = 0, top;
    while (bits < 62 && (most - least) >> bits)
        bits++;
    top = (int64_t)1 << sy_prng_range(prng, 0, bits);
    if (top > most - least + 1)
        top = most - least + 1;
    return least + sy_prng_below(prng, top);
}

#endif
