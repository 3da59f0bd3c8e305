/* wire.c - see wire.h, whose sections these are. */
#include "wire.h"

#include <string.h>

#include "base/maxima.h"

_Static_assert(sizeof(sy_id) == 128, "an id is what callers carry around");

static const char id_magic[8] = {'S', 'Y', 'i', 'd', 0, 1, 0, 0};
static const char talk_magic[8] = {'S', 'Y', 'b', 'o', 'o', 't', 1, 0};
static const char mesh_magic[8] = {'S', 'Y', 'm', 'e', 's', 'h', 1, 0};

static void put16(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}

static void put32(uint8_t *at, uint32_t value)
{
    put16(at, (uint16_t)value);
    put16(at + 2, (uint16_t)(value >> 16));
}

static void put64(uint8_t *at, uint64_t value)
{
    put32(at, (uint32_t)value);
    put32(at + 4, (uint32_t)(value >> 32));
}

static uint16_t get16(const uint8_t *at)
{
    return (uint16_t)(at[0] | at[1] << 8);
}

static uint32_t get32(const uint8_t *at)
{
    return get16(at) | (uint32_t)get16(at + 2) << 16;
}

static uint64_t get64(const uint8_t *at)
{
    return get32(at) | (uint64_t)get32(at + 4) << 32;
}

static int all_zero(const uint8_t *at, size_t bytes)
{
    uint8_t any = 0;
    for (size_t i = 0; i < bytes; i++)
        any |= at[i];
    return !any;
}

/* Copies text from elsewhere into `room` bytes: what cannot be printed becomes '?'. */
static void take_text(char *to, size_t room, const uint8_t *from, size_t bytes)
{
    size_t n = 0;
    for (; n < bytes && n + 1 < room && from[n]; n++)
        to[n] = from[n] >= 32 && from[n] < 127 ? (char)from[n] : '?';
    to[n] = 0;
}

/* ---- 1. Ids ---------------------------------------------------------------------------------- */

enum { ID_FAMILY = 8, ID_PORT = 10, ID_ADDRESS = 16, ID_GROUP = 32, ID_SECRET = 48, ID_REST = 80 };

void sy_meeting_write(const struct sy_meeting *meeting, sy_id *id)
{
    memset(id, 0, sizeof *id);
    memcpy(id->bytes, id_magic, sizeof id_magic);
    put16(id->bytes + ID_FAMILY, (uint16_t)meeting->family);
    put16(id->bytes + ID_PORT, meeting->port);
    memcpy(id->bytes + ID_ADDRESS, meeting->address, sizeof meeting->address);
    memcpy(id->bytes + ID_GROUP, meeting->group, sizeof meeting->group);
    memcpy(id->bytes + ID_SECRET, meeting->secret, sizeof meeting->secret);
}

int sy_meeting_read(const sy_id *id, struct sy_meeting *meeting)
{
    meeting->family = get16(id->bytes + ID_FAMILY);
    meeting->port = get16(id->bytes + ID_PORT);
    memcpy(meeting->address, id->bytes + ID_ADDRESS, sizeof meeting->address);
    memcpy(meeting->group, id->bytes + ID_GROUP, sizeof meeting->group);
    memcpy(meeting->secret, id->bytes + ID_SECRET, sizeof meeting->secret);
    return !memcmp(id->bytes, id_magic, sizeof id_magic) && all_zero(id->bytes + 12, 4) &&
           all_zero(id->bytes + ID_REST, sizeof id->bytes - ID_REST) && meeting->port &&
           (meeting->family == 6 ||
            (meeting->family == 4 && all_zero(meeting->address + 4, sizeof meeting->address - 4)));
}

void sy_id_to_hex(const sy_id *id, char hex[SY_ID_HEX + 1])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < sizeof id->bytes; i++) {
        hex[2 * i] = digits[id->bytes[i] >> 4];
        hex[2 * i + 1] = digits[id->bytes[i] & 15];
    }
    hex[SY_ID_HEX] = 0;
}

/* -1: no digit. */
static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int sy_id_from_hex(const char *hex, sy_id *id)
{
    if (strlen(hex) != SY_ID_HEX)
        return 0;
    for (size_t i = 0; i < sizeof id->bytes; i++) {
        int high = digit_of(hex[2 * i]), low = digit_of(hex[2 * i + 1]);
        if (high < 0 || low < 0)
            return 0;
        id->bytes[i] = (uint8_t)(high << 4 | low);
    }
    return 1;
}

/* ---- 2. Handshake ---------------------------------------------------------------------------- */

enum { PROOF_RANK = 8, PROOF_FLAGS = 16, PROOF_TIMEOUT = 24, PROOF_MAC = 40 };

static void talk_mac(const struct sy_talk *talk, const char *role, size_t proof_bytes,
                     const uint8_t secret[SY_SECRET_BYTES], uint8_t out[SY_MAC_BYTES])
{
    struct sy_hmac mac;
    sy_hmac_begin(&mac, secret, SY_SECRET_BYTES);
    sy_hmac_add(&mac, role, strlen(role) + 1);
    sy_hmac_add(&mac, talk->hello, sizeof talk->hello);
    sy_hmac_add(&mac, talk->challenge, sizeof talk->challenge);
    sy_hmac_add(&mac, talk->proof, proof_bytes);
    sy_hmac_end(&mac, out);
}

void sy_hello_write(struct sy_talk *talk, const uint8_t group[SY_GROUP_BYTES],
                    const uint8_t nonce[SY_NONCE_BYTES])
{
    memcpy(talk->hello, talk_magic, 8);
    memcpy(talk->hello + 8, group, SY_GROUP_BYTES);
    memcpy(talk->hello + 24, nonce, SY_NONCE_BYTES);
}

int sy_hello_read(const struct sy_talk *talk, const uint8_t group[SY_GROUP_BYTES])
{
    return !memcmp(talk->hello, talk_magic, 8) && !memcmp(talk->hello + 8, group, SY_GROUP_BYTES);
}

void sy_challenge_write(struct sy_talk *talk, const uint8_t nonce[SY_NONCE_BYTES])
{
    memcpy(talk->challenge, talk_magic, 8);
    memcpy(talk->challenge + 8, nonce, SY_NONCE_BYTES);
}

int sy_challenge_read(const struct sy_talk *talk)
{
    return !memcmp(talk->challenge, talk_magic, 8);
}

void sy_proof_write(struct sy_talk *talk, const struct sy_claim *claim,
                    const uint8_t secret[SY_SECRET_BYTES])
{
    memset(talk->proof, 0, sizeof talk->proof);
    memcpy(talk->proof, talk_magic, 8);
    put32(talk->proof + PROOF_RANK, (uint32_t)claim->rank);
    put32(talk->proof + PROOF_RANK + 4, (uint32_t)claim->ranks);
    put32(talk->proof + PROOF_FLAGS, claim->flags);
    put64(talk->proof + PROOF_TIMEOUT, claim->timeout_ns);
    put64(talk->proof + PROOF_TIMEOUT + 8, claim->patience_ns);
    talk_mac(talk, "switchyard boot: rank", PROOF_MAC, secret, talk->proof + PROOF_MAC);
}

int sy_proof_read(const struct sy_talk *talk, const uint8_t secret[SY_SECRET_BYTES],
                  struct sy_claim *claim)
{
    uint8_t mac[SY_MAC_BYTES];
    talk_mac(talk, "switchyard boot: rank", PROOF_MAC, secret, mac);
    claim->rank = (int32_t)get32(talk->proof + PROOF_RANK);
    claim->ranks = (int32_t)get32(talk->proof + PROOF_RANK + 4);
    claim->flags = get32(talk->proof + PROOF_FLAGS);
    claim->timeout_ns = get64(talk->proof + PROOF_TIMEOUT);
    claim->patience_ns = get64(talk->proof + PROOF_TIMEOUT + 8);
    return sy_same_secret(mac, talk->proof + PROOF_MAC, sizeof mac) &&
           !memcmp(talk->proof, talk_magic, 8) && all_zero(talk->proof + PROOF_FLAGS + 4, 4) &&
           !(claim->flags & ~SY_FLAG_ROOT_HERE) && claim->timeout_ns <= SY_TIMEOUT_NS_MAX &&
           claim->patience_ns <= SY_TIMEOUT_NS_MAX;
}

void sy_welcome_write(const struct sy_talk *talk, const uint8_t secret[SY_SECRET_BYTES],
                      uint8_t out[SY_WELCOME_BYTES])
{
    memcpy(out, talk_magic, 8);
    talk_mac(talk, "switchyard boot: root", SY_PROOF_BYTES, secret, out + 8);
}

int sy_welcome_read(const struct sy_talk *talk, const uint8_t secret[SY_SECRET_BYTES],
                    const uint8_t in[SY_WELCOME_BYTES])
{
    uint8_t mine[SY_WELCOME_BYTES];
    sy_welcome_write(talk, secret, mine);
    return sy_same_secret(mine, in, sizeof mine);
}

/* ---- 3. Messages ----------------------------------------------------------------------------- */

void sy_head_write(const struct sy_head *head, uint8_t out[SY_HEAD_BYTES])
{
    put32(out, head->kind);
    put32(out + 4, head->sequence);
    put64(out + 8, head->bytes);
}

int sy_head_read(const uint8_t in[SY_HEAD_BYTES], int32_t ranks, struct sy_head *head)
{
    head->kind = get32(in);
    head->sequence = get32(in + 4);
    head->bytes = get64(in + 8);
    switch (head->kind) {
    case SY_KIND_FORMED:
        return head->bytes == SY_FORMED_BYTES;
    case SY_KIND_GATHER:
        return head->bytes <= (uint64_t)ranks * SY_PART_BYTES_MAX;
    case SY_KIND_VERDICT:
        return head->bytes >= 8 && head->bytes <= SY_VERDICT_BYTES_MAX;
    case SY_KIND_BARRIER:
    case SY_KIND_BYE:
        return !head->bytes;
    default:
        return 0;
    }
}

void sy_formed_write(int32_t root_rank, uint8_t out[SY_FORMED_BYTES])
{
    put32(out, (uint32_t)root_rank);
    put32(out + 4, 0);
}

int sy_formed_read(const uint8_t in[SY_FORMED_BYTES], int32_t ranks, int32_t *root_rank)
{
    *root_rank = (int32_t)get32(in);
    return *root_rank >= -1 && *root_rank < ranks && !get32(in + 4);
}

size_t sy_verdict_write(const struct sy_verdict *verdict, uint8_t out[SY_VERDICT_BYTES_MAX])
{
    size_t n = strlen(verdict->text);
    put32(out, (uint32_t)verdict->status);
    put32(out + 4, (uint32_t)verdict->culprit);
    memcpy(out + 8, verdict->text, n);
    return 8 + n;
}

static int is_failure(int32_t status)
{
    return status > SY_OK && status <= SY_NOT_READY;
}

int sy_verdict_read(const uint8_t *in, size_t bytes, int32_t ranks, struct sy_verdict *verdict)
{
    if (bytes < 8 || bytes > SY_VERDICT_BYTES_MAX)
        return 0;
    verdict->status = (int32_t)get32(in);
    verdict->culprit = (int32_t)get32(in + 4);
    take_text(verdict->text, sizeof verdict->text, in + 8, bytes - 8);
    return is_failure(verdict->status) && verdict->culprit >= -1 && verdict->culprit < ranks;
}

void sy_word_write(int32_t status, const char *text, uint8_t out[SY_WORD_BYTES])
{
    size_t n = strlen(text);
    memset(out, 0, SY_WORD_BYTES);
    put32(out, (uint32_t)status);
    memcpy(out + 8, text, n < SY_WORD_TEXT ? n : SY_WORD_TEXT - 1);
}

int sy_word_read(const uint8_t in[SY_WORD_BYTES], int32_t *status, char text[SY_WORD_TEXT])
{
    *status = (int32_t)get32(in);
    take_text(text, SY_WORD_TEXT, in + 8, SY_WORD_TEXT);
    return (*status == SY_OK || is_failure(*status)) && !get32(in + 4);
}

/* ---- 4. Mesh packets ------------------------------------------------------------------------- */

void sy_card_write(const struct sy_card *card, uint8_t out[SY_CARD_BYTES])
{
    memcpy(out, card->machine, 40);
    memcpy(out + 40, card->name, 16);
    memcpy(out + 56, card->token, 16);
    put64(out + 72, card->network);
}

void sy_card_read(const uint8_t in[SY_CARD_BYTES], struct sy_card *card)
{
    take_text(card->machine, sizeof card->machine, in, 40);
    memcpy(card->name, in + 40, 16);
    memcpy(card->token, in + 56, 16);
    card->network = get64(in + 72);
}

void sy_intro_write(const struct sy_intro *intro, const uint8_t key[SY_MAC_BYTES],
                    uint8_t out[SY_INTRO_BYTES])
{
    const char *role = intro->answer ? "switchyard mesh: accept" : "switchyard mesh: connect";
    struct sy_hmac mac;
    memcpy(out, mesh_magic, 8);
    put32(out + 8, (uint32_t)intro->from);
    put32(out + 12, (uint32_t)intro->to);
    sy_hmac_begin(&mac, key, SY_MAC_BYTES);
    sy_hmac_add(&mac, role, strlen(role) + 1);
    sy_hmac_add(&mac, out, 16);
    sy_hmac_end(&mac, out + 16);
}

int sy_intro_read(const uint8_t *in, size_t bytes, const uint8_t key[SY_MAC_BYTES], int answer,
                  struct sy_intro *intro)
{
    uint8_t mine[SY_INTRO_BYTES];
    if (bytes != SY_INTRO_BYTES)
        return 0;
    intro->from = (int32_t)get32(in + 8);
    intro->to = (int32_t)get32(in + 12);
    intro->answer = answer;
    sy_intro_write(intro, key, mine);
    return sy_same_secret(mine, in, sizeof mine);
}

void sy_note_write(uint32_t kind, uint32_t status, uint8_t out[SY_NOTE_BYTES])
{
    memcpy(out, mesh_magic, 8);
    put32(out + 8, kind);
    put32(out + 12, status);
}

int sy_note_read(const uint8_t *in, size_t bytes, uint32_t *kind, uint32_t *status)
{
    if (bytes < SY_NOTE_BYTES || memcmp(in, mesh_magic, 8))
        return 0;
    *kind = get32(in + 8);
    *status = get32(in + 12);
    if (*kind == SY_NOTE_TOLD)
        return bytes <= SY_PACKET_BYTES_MAX;
    if (bytes != SY_NOTE_BYTES)
        return 0;
    return *kind == SY_NOTE_FAILED ? is_failure((int32_t)*status)
                                   : *kind >= SY_NOTE_FD && *kind <= SY_NOTE_GOODBYE && !*status;
}
