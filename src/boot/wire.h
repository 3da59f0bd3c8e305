/* wire.h - every byte that ranks of a group send each other outside of their heaps: ids, the
 * handshake, the bootstrap's messages, the mesh's packets. Written and checked here and nowhere
 * else, without a socket. Numbers are little-endian. A reader returns 1 when the bytes are what
 * they should be, in which case the result is within its limits, and 0 otherwise.
 *
 *   1  Ids        2  Handshake        3  Messages        4  Mesh packets
 */
#ifndef SY_BOOT_WIRE_H
#define SY_BOOT_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "base/sha256.h"
#include "switchyard.h"

#define SY_NONCE_BYTES 32
#define SY_SECRET_BYTES 32
#define SY_GROUP_BYTES 16
#define SY_MAC_BYTES SY_SHA256_BYTES

/* ---- 1. Ids -------------------------------------------------------------------------------------
 * An sy_id: magic and version 8, family 2 (4 or 6), port 2, zero 4, address 16, group 16,
 * secret 32, zero 48. */
struct sy_meeting {
    int family; /* 4 or 6 */
    uint16_t port;
    uint8_t address[16];
    uint8_t group[SY_GROUP_BYTES]; /* tells groups apart, not secret */
    uint8_t secret[SY_SECRET_BYTES];
};

void sy_meeting_write(const struct sy_meeting *meeting, sy_id *id);
int sy_meeting_read(const sy_id *id, struct sy_meeting *meeting);

#define SY_ID_HEX 256
void sy_id_to_hex(const sy_id *id, char hex[SY_ID_HEX + 1]);
int sy_id_from_hex(const char *hex, sy_id *id); /* exactly SY_ID_HEX digits */

/* ---- 2. Handshake -------------------------------------------------------------------------------
 *   hello      magic 8, group 16, nonce 32                                   to the root
 *   challenge  magic 8, nonce 32                                             to the rank
 *   proof      magic 8, rank 4, ranks 4, flags 4, zero 4, timeout 8, patience 8, mac 32
 *   welcome    magic 8, mac 32                                               to the rank
 * A mac covers the writer's role and every byte before it in both directions, so that it fits one
 * connection, one rank and one number of ranks. */
#define SY_HELLO_BYTES 56
#define SY_CHALLENGE_BYTES 40
#define SY_PROOF_BYTES 72
#define SY_WELCOME_BYTES 40

#define SY_FLAG_ROOT_HERE 1u /* the root runs in this rank's process */

struct sy_talk { /* the bytes of one handshake */
    uint8_t hello[SY_HELLO_BYTES];
    uint8_t challenge[SY_CHALLENGE_BYTES];
    uint8_t proof[SY_PROOF_BYTES];
};

struct sy_claim {
    int32_t rank, ranks;  /* as the other side says, any value */
    uint32_t flags;
    uint64_t timeout_ns;  /* of each later step */
    uint64_t patience_ns; /* how much longer it waits for the group to form */
};

void sy_hello_write(struct sy_talk *talk, const uint8_t group[SY_GROUP_BYTES],
                    const uint8_t nonce[SY_NONCE_BYTES]);
int sy_hello_read(const struct sy_talk *talk, const uint8_t group[SY_GROUP_BYTES]);
void sy_challenge_write(struct sy_talk *talk, const uint8_t nonce[SY_NONCE_BYTES]);
int sy_challenge_read(const struct sy_talk *talk);
void sy_proof_write(struct sy_talk *talk, const struct sy_claim *claim,
                    const uint8_t secret[SY_SECRET_BYTES]);
int sy_proof_read(const struct sy_talk *talk, const uint8_t secret[SY_SECRET_BYTES],
                  struct sy_claim *claim);
void sy_welcome_write(const struct sy_talk *talk, const uint8_t secret[SY_SECRET_BYTES],
                      uint8_t out[SY_WELCOME_BYTES]);
int sy_welcome_read(const struct sy_talk *talk, const uint8_t secret[SY_SECRET_BYTES],
                    const uint8_t in[SY_WELCOME_BYTES]);

/* ---- 3. Messages --------------------------------------------------------------------------------
 * header: kind 4, sequence 4, bytes 8; then that many bytes. */
#define SY_HEAD_BYTES 16
#define SY_PART_BYTES_MAX (64 * 1024) /* of one rank in one allgather */

enum sy_kind {
    SY_KIND_FORMED = 1,  /* root: all ranks are there; root's rank 4 (-1: not a rank), zero 4  */
    SY_KIND_GATHER = 2,  /* rank: its part; root: all parts                                     */
    SY_KIND_BARRIER = 3, /* no bytes                                                            */
    SY_KIND_VERDICT = 4, /* the end: from the root for all, from a rank because it cannot go on */
    SY_KIND_BYE = 5      /* rank: leaves as it should; no bytes                                 */
};

struct sy_head {
    uint32_t kind, sequence;
    uint64_t bytes;
};

void sy_head_write(const struct sy_head *head, uint8_t out[SY_HEAD_BYTES]);
/* Only of a known kind, and with the bytes that this kind may have for so many ranks. */
int sy_head_read(const uint8_t in[SY_HEAD_BYTES], int32_t ranks, struct sy_head *head);

#define SY_FORMED_BYTES 8
void sy_formed_write(int32_t root_rank, uint8_t out[SY_FORMED_BYTES]);
int sy_formed_read(const uint8_t in[SY_FORMED_BYTES], int32_t ranks, int32_t *root_rank);

/* status 4, culprit 4 (-1: none), text. The text that is read is printable and ends. */
#define SY_VERDICT_TEXT 400
#define SY_VERDICT_BYTES_MAX (8 + SY_VERDICT_TEXT - 1)
struct sy_verdict {
    int32_t status, culprit;
    char text[SY_VERDICT_TEXT];
};

size_t sy_verdict_write(const struct sy_verdict *verdict, uint8_t out[SY_VERDICT_BYTES_MAX]);
int sy_verdict_read(const uint8_t *in, size_t bytes, int32_t ranks, struct sy_verdict *verdict);

/* What each rank says about a step in sy_boot_agree(): status 4, zero 4, text 248. */
#define SY_WORD_BYTES 256
#define SY_WORD_TEXT (SY_WORD_BYTES - 8)
void sy_word_write(int32_t status, const char *text, uint8_t out[SY_WORD_BYTES]);
int sy_word_read(const uint8_t in[SY_WORD_BYTES], int32_t *status, char text[SY_WORD_TEXT]);

/* ---- 4. Mesh packets ----------------------------------------------------------------------------
 * card (all-gathered): machine 40, name 16, token 16, network 8. intro: magic 8, from 4, to 4, mac
 * 32; the mac is keyed with the hash of all cards. note: magic 8, kind 4, status 4; TOLD has the
 * teller's kind instead of a status, and data behind it. */
#define SY_CARD_BYTES 80
struct sy_card {
    char machine[40]; /* the kernel's boot id, ends with a zero byte */
    uint8_t name[16]; /* of the listening socket, random */
    uint8_t token[16];
    uint64_t network; /* the kernel's number of the network namespace; 0: unknown */
};

void sy_card_write(const struct sy_card *card, uint8_t out[SY_CARD_BYTES]);
void sy_card_read(const uint8_t in[SY_CARD_BYTES], struct sy_card *card); /* nothing can be wrong */

#define SY_INTRO_BYTES 48
struct sy_intro {
    int32_t from, to;
    int answer; /* from the side that accepted */
};

void sy_intro_write(const struct sy_intro *intro, const uint8_t key[SY_MAC_BYTES],
                    uint8_t out[SY_INTRO_BYTES]);
int sy_intro_read(const uint8_t *in, size_t bytes, const uint8_t key[SY_MAC_BYTES], int answer,
                  struct sy_intro *intro);

#define SY_NOTE_BYTES 16
#define SY_TOLD_BYTES_MAX 64
#define SY_PACKET_BYTES_MAX (SY_NOTE_BYTES + SY_TOLD_BYTES_MAX)
enum sy_note_kind {
    SY_NOTE_FD = 1,     /* a descriptor comes along           */
    SY_NOTE_FAILED = 2, /* instead of it: this rank has none  */
    SY_NOTE_GOODBYE = 3, /* leaves as it should               */
    SY_NOTE_TOLD = 4     /* for the one above the mesh        */
};

void sy_note_write(uint32_t kind, uint32_t status, uint8_t out[SY_NOTE_BYTES]);
int sy_note_read(const uint8_t *in, size_t bytes, uint32_t *kind, uint32_t *status);

#endif
