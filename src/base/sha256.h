/* sha256.h - SHA-256 (FIPS 180-4) and HMAC-SHA256 (RFC 2104), for proofs of a secret and for names.
 *
 * Small, not fast: a few kilobytes per group go through it. */
#ifndef SY_BASE_SHA256_H
#define SY_BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SY_SHA256_BYTES 32
#define SY_SHA256_BLOCK 64

struct sy_sha256 {
    uint32_t state[8];
    uint64_t bytes; /* taken so far */
    uint8_t block[SY_SHA256_BLOCK];
};

void sy_sha256_begin(struct sy_sha256 *hash);
void sy_sha256_add(struct sy_sha256 *hash, const void *data, size_t bytes);
void sy_sha256_end(struct sy_sha256 *hash, uint8_t out[SY_SHA256_BYTES]);

struct sy_hmac {
    struct sy_sha256 inner, outer;
};

void sy_hmac_begin(struct sy_hmac *mac, const void *key, size_t bytes);
void sy_hmac_add(struct sy_hmac *mac, const void *data, size_t bytes);
void sy_hmac_end(struct sy_hmac *mac, uint8_t out[SY_SHA256_BYTES]); /* and forgets the key */

/* Whether both hold the same bytes; takes the same time wherever they differ. */
int sy_same_secret(const void *a, const void *b, size_t bytes);

/* Zeroes memory that is not read again, which a compiler would otherwise leave out. */
void sy_wipe(void *data, size_t bytes);

#endif
