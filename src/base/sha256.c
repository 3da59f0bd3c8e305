/* sha256.c - see sha256.h. */
#include "sha256.h"

#include <string.h>

/* FIPS 180-4, 4.2.2: the first 32 bits of the fractional parts of the cube roots of the first 64
 * primes. */
static const uint32_t round_key[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t turn(uint32_t x, int by)
{
    return x >> by | x << (32 - by);
}

static uint32_t load_big(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void store_big(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 24);
    at[1] = (uint8_t)(value >> 16);
    at[2] = (uint8_t)(value >> 8);
    at[3] = (uint8_t)value;
}

/* FIPS 180-4, 6.2.2. v[0..7] are its a..h. */
static void take_block(uint32_t state[8], const uint8_t *block)
{
    uint32_t w[64], v[8];
    for (int i = 0; i < 16; i++)
        w[i] = load_big(block + 4 * i);
    for (int i = 16; i < 64; i++) {
        uint32_t a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + (turn(a, 7) ^ turn(a, 18) ^ a >> 3) + w[i - 7] +
               (turn(b, 17) ^ turn(b, 19) ^ b >> 10);
    }
    memcpy(v, state, sizeof v);
    for (int i = 0; i < 64; i++) {
        uint32_t choose = (v[4] & v[5]) ^ (~v[4] & v[6]);
        uint32_t most = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);
        uint32_t t1 = v[7] + (turn(v[4], 6) ^ turn(v[4], 11) ^ turn(v[4], 25)) + choose +
                      round_key[i] + w[i];
        uint32_t t2 = (turn(v[0], 2) ^ turn(v[0], 13) ^ turn(v[0], 22)) + most;
        memmove(v + 1, v, 7 * sizeof *v);
        v[4] += t1;
        v[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++)
        state[i] += v[i];
}

void sy_sha256_begin(struct sy_sha256 *hash)
{
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(hash->state, start, sizeof start);
    hash->bytes = 0;
}

void sy_sha256_add(struct sy_sha256 *hash, const void *data, size_t bytes)
{
    const uint8_t *from = data;
    while (bytes) {
        size_t at = hash->bytes % SY_SHA256_BLOCK, n = SY_SHA256_BLOCK - at;
        if (n > bytes)
            n = bytes;
        memcpy(hash->block + at, from, n);
        from += n;
        bytes -= n;
        hash->bytes += n;
        if (at + n == SY_SHA256_BLOCK)
            take_block(hash->state, hash->block);
    }
}

void sy_sha256_end(struct sy_sha256 *hash, uint8_t out[SY_SHA256_BYTES])
{
    static const uint8_t padding[SY_SHA256_BLOCK] = {0x80};
    uint64_t bits = hash->bytes * 8;
    size_t at = hash->bytes % SY_SHA256_BLOCK;
    uint8_t length[8];
    store_big(length, (uint32_t)(bits >> 32));
    store_big(length + 4, (uint32_t)bits);
    sy_sha256_add(hash, padding, (at < 56 ? 56 : 120) - at);
    sy_sha256_add(hash, length, sizeof length);
    for (int i = 0; i < 8; i++)
        store_big(out + 4 * i, hash->state[i]);
    sy_wipe(hash, sizeof *hash);
}

void sy_hmac_begin(struct sy_hmac *mac, const void *key, size_t bytes)
{
    uint8_t block[SY_SHA256_BLOCK] = {0};
    if (bytes > sizeof block) {
        sy_sha256_begin(&mac->inner);
        sy_sha256_add(&mac->inner, key, bytes);
        sy_sha256_end(&mac->inner, block);
    } else {
        memcpy(block, key, bytes);
    }
    for (size_t i = 0; i < sizeof block; i++)
        block[i] ^= 0x36;
    sy_sha256_begin(&mac->inner);
    sy_sha256_add(&mac->inner, block, sizeof block);
    for (size_t i = 0; i < sizeof block; i++)
        block[i] ^= 0x36 ^ 0x5c;
    sy_sha256_begin(&mac->outer);
    sy_sha256_add(&mac->outer, block, sizeof block);
    sy_wipe(block, sizeof block);
}

void sy_hmac_add(struct sy_hmac *mac, const void *data, size_t bytes)
{
    sy_sha256_add(&mac->inner, data, bytes);
}

void sy_hmac_end(struct sy_hmac *mac, uint8_t out[SY_SHA256_BYTES])
{
    sy_sha256_end(&mac->inner, out);
    sy_sha256_add(&mac->outer, out, SY_SHA256_BYTES);
    sy_sha256_end(&mac->outer, out);
}

int sy_same_secret(const void *a, const void *b, size_t bytes)
{
    const volatile uint8_t *x = a, *y = b;
    uint8_t differ = 0;
    for (size_t i = 0; i < bytes; i++)
        differ |= (uint8_t)(x[i] ^ y[i]);
    return !differ;
}

void sy_wipe(void *data, size_t bytes)
{
    volatile uint8_t *at = data;
    for (size_t i = 0; i < bytes; i++)
        at[i] = 0;
}
