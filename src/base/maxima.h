/* maxima.h - every limit, with its reason. Requests beyond them get SY_INVALID with the limit. */
#ifndef SY_BASE_MAXIMA_H
#define SY_BASE_MAXIMA_H

/* A code word of combine has 12 bits for the rank and 20 for the token (latency mode), and the
 * largest number means nothing (device/combine_push.h). */
#define SY_RANKS_MAX 4095

/* Counters of all experts of a group must fit the shared memory of a GPU block, 4 bytes each. */
#define SY_EXPERTS_MAX 49152

/* A record of a token has a word per selection. */
#define SY_TOPK_MAX 16384

/* Rows, tokens and places are 31-bit numbers on the device; with K they are multiplied. Tokens also
 * share a word with a rank, see above. */
#define SY_TOKENS_MAX (1 << 20)
#define SY_ROWS_MAX 0x7fffffffLL

/* 16 K elements of 4 bytes; a quantised row must fit a stage three times over (in, out, side). */
#define SY_ROW_BYTES_MAX (64 * 1024)
#define SY_SCALE_WORDS_MAX (16 * 1024)

/* Offsets travel in 32 bits, in units of SY_REGION_ALIGN bytes; 0 has a meaning of its own. */
#define SY_HEAP_BYTES_MAX (((1LL << 32) - 2) * 256)

#define SY_VIEWS_MAX 8
#define SY_CPU_THREADS_MAX 64
#define SY_SMS_MAX 1024 /* several times what any GPU has */
#define SY_ALIGNMENT_MAX 65536
#define SY_STREAMS_MAX 64

/* Deadlines are compared in nanoseconds as 64-bit numbers; a day is longer than anyone waits. */
#define SY_TIMEOUT_NS_MAX (86400ull * 1000000000ull)

#endif
