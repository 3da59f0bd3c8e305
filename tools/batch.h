/* batch.h - a batch of tokens made from a seed: where they go and what they hold.
 *
 * Every process that makes the batch of the same description gets the same one, of any rank: so
 * nobody needs to be told what should arrive. The comparison with MPI (tests/perf) uses it, too. */
#ifndef SY_TOOLS_BATCH_H
#define SY_TOOLS_BATCH_H

#include <stddef.h>
#include <stdint.h>

enum routing {
    ROUTING_UNIFORM, /* K different experts, all equally likely                               */
    ROUTING_SKEW,    /* K different experts, the n-th most popular with weight n^-skew        */
    ROUTING_SPREAD,  /* K experts at equal distances: as many ranks as possible               */
    ROUTING_LOCAL,   /* K different experts of the token's own rank, as far as there are      */
    ROUTING_ONE,     /* every token to expert 0 and nowhere else                              */
    ROUTINGS
};

extern const char *const routing_names[ROUTINGS];

struct batch {
    int32_t ranks, experts, topk;
    int64_t tokens; /* of each rank */
    enum routing routing;
    double skew;
    uint64_t seed;
};

/* Experts are spread as the library does without experts_per_rank: the first E % R ranks have one
 * more. Rank r's are from batch_first(r) to below batch_first(r + 1). */
int32_t batch_first(const struct batch *b, int32_t rank);
int32_t batch_owner(const struct batch *b, int32_t expert);

/* A rank's ids, [T, K]; -1: no expert. 0, or -1 when out of memory. */
int batch_ids(const struct batch *b, int32_t rank, int64_t *ids);

/* The ranks of one token's experts, each once, ascending. Returns how many; dst has room for K. */
int32_t batch_ranks(const struct batch *b, const int64_t *ids, int32_t *dst);

/* Weights of a rank's tokens, [T, K], from 0 to 1. */
void batch_weights(const struct batch *b, int32_t rank, float *weights);

/* What moves in the whole batch. */
struct traffic {
    int64_t *rows;    /* [R * R]: tokens of rank r that go to rank d, at r * R + d           */
    int64_t *experts; /* [E] selections                                                     */
    int64_t rows_all; /* sum of rows                                                        */
    int64_t selections_all; /* (token, expert) pairs                                              */
};

/* 0, or -1 when out of memory. */
int batch_traffic(const struct batch *b, struct traffic *t);
void batch_traffic_free(struct traffic *t);

/* What comes to a rank. */
int64_t batch_arrivals(const struct batch *b, const struct traffic *t, int32_t rank);

/* Payload: finite numbers below 2 with random signs, exponents and mantissas, so that the order of
 * a sum shows in its result; OPAQUE16: any bits. `type` is a sy_type. Fills with bytes [begin,
 * begin + bytes) of what the rank holds; both are multiples of 8. */
void batch_payload(const struct batch *b, int32_t type, int32_t rank, uint64_t begin, void *to,
                   size_t bytes);

#endif
