/* sha256_test.c - SHA-256 and HMAC-SHA256 against the published vectors (FIPS 180-4 examples,
 * RFC 4231), and against themselves when the data comes in pieces. */
#include "base/sha256.h"

#include <stdio.h>
#include <string.h>

static int passed, failed;

static void check(const char *name, int good)
{
    printf("%s %s\n", good ? "ok" : "FAIL", name);
    if (good)
        passed++;
    else
        failed++;
}

static int is_hex(const uint8_t *bytes, size_t count, const char *hex)
{
    char text[2 * SY_SHA256_BYTES + 1];
    for (size_t i = 0; i < count; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    return !strcmp(text, hex);
}

static void hash_of(const void *data, size_t bytes, uint8_t out[SY_SHA256_BYTES])
{
    struct sy_sha256 hash;
    sy_sha256_begin(&hash);
    sy_sha256_add(&hash, data, bytes);
    sy_sha256_end(&hash, out);
}

static void fips(void)
{
    static const char two[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    uint8_t out[SY_SHA256_BYTES];
    struct sy_sha256 hash;
    char thousand[1000];
    hash_of("", 0, out);
    check("fips empty",
          is_hex(out, 32, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"));
    hash_of("abc", 3, out);
    check("fips abc",
          is_hex(out, 32, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
    hash_of(two, sizeof two - 1, out);
    check("fips two blocks",
          is_hex(out, 32, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"));
    memset(thousand, 'a', sizeof thousand);
    sy_sha256_begin(&hash);
    for (int i = 0; i < 1000; i++)
        sy_sha256_add(&hash, thousand, sizeof thousand);
    sy_sha256_end(&hash, out);
    check("fips million",
          is_hex(out, 32, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"));
}

/* Every length up to three blocks, cut at every place: the same digest. */
static void pieces(void)
{
    uint8_t data[200], whole[SY_SHA256_BYTES], cut[SY_SHA256_BYTES];
    int good = 1;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 7 + 3);
    for (size_t n = 0; n <= sizeof data; n++) {
        hash_of(data, n, whole);
        for (size_t at = 0; at <= n; at++) {
            struct sy_sha256 hash;
            sy_sha256_begin(&hash);
            sy_sha256_add(&hash, data, at);
            sy_sha256_add(&hash, data + at, n - at);
            sy_sha256_end(&hash, cut);
            good &= !memcmp(whole, cut, sizeof cut);
        }
    }
    check("pieces", good);
}

struct vector {
    const char *name;
    int key_byte; /* -1: 1, 2, 3, ...; -2: the text `key` */
    const char *key;
    size_t key_bytes;
    const char *text;
    int fill; /* instead of text: that byte, 50 times */
    size_t mac_bytes;
    const char *mac;
};

static const struct vector vectors[] = {
    {"rfc4231 1", 0x0b, NULL, 20, "Hi There", 0, 32,
     "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
    {"rfc4231 2", -2, "Jefe", 4, "what do ya want for nothing?", 0, 32,
     "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
    {"rfc4231 3", 0xaa, NULL, 20, NULL, 0xdd, 32,
     "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
    {"rfc4231 4", -1, NULL, 25, NULL, 0xcd, 32,
     "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"},
    {"rfc4231 5", 0x0c, NULL, 20, "Test With Truncation", 0, 16,
     "a3b6167473100ee06e0c796c2955552b"},
    {"rfc4231 6", 0xaa, NULL, 131, "Test Using Larger Than Block-Size Key - Hash Key First", 0, 32,
     "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
    {"rfc4231 7", 0xaa, NULL, 131,
     "This is a test using a larger than block-size key and a larger than block-size data. The key "
     "needs to be hashed before being used by the HMAC algorithm.",
     0, 32, "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"},
};

static void rfc4231(void)
{
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        const struct vector *v = vectors + i;
        uint8_t key[131], data[50], out[SY_SHA256_BYTES];
        struct sy_hmac mac;
        for (size_t k = 0; k < v->key_bytes; k++)
            key[k] = (uint8_t)(v->key_byte == -1   ? (int)k + 1
                               : v->key_byte == -2 ? v->key[k]
                                                   : v->key_byte);
        memset(data, v->fill, sizeof data);
        sy_hmac_begin(&mac, key, v->key_bytes);
        if (v->text)
            sy_hmac_add(&mac, v->text, strlen(v->text));
        else
            sy_hmac_add(&mac, data, sizeof data);
        sy_hmac_end(&mac, out);
        check(v->name, is_hex(out, v->mac_bytes, v->mac));
    }
}

static void secrets(void)
{
    uint8_t a[32], b[32];
    int good = 1;
    memset(a, 5, sizeof a);
    memset(b, 5, sizeof b);
    check("same secret", sy_same_secret(a, b, sizeof a));
    for (int bit = 0; bit < 256; bit++) {
        b[bit / 8] ^= (uint8_t)(1 << bit % 8);
        good &= !sy_same_secret(a, b, sizeof a);
        b[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    check("other secret", good);
    sy_wipe(a, sizeof a);
    memset(b, 0, sizeof b);
    check("wipe", !memcmp(a, b, sizeof a));
}

int main(void)
{
    fips();
    pieces();
    rfc4231();
    secrets();
    printf("%d passed, %d failed, 0 skipped\n", passed, failed);
    return failed != 0;
}
