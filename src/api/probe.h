/* probe.h - bare copies and bare signals between the ranks of a group: what its machine can do at
 * most. No part of the public interface: `switchyard bench` puts what operations reach beside it.
 *
 * They use sy_alloc() memory that lies at the same place on every rank, and like operations they
 * are asked for by all ranks in the same order, run on streams and can be captured. */
#ifndef SY_API_PROBE_H
#define SY_API_PROBE_H

#include "switchyard.h"

struct sy_probe;

/* One at a time per group; closed before it. */
sy_status sy_probe_open(sy_group *group, struct sy_probe **probe);
void sy_probe_close(struct sy_probe *probe); /* NULL is fine */

/* Each rank copies so many pieces between itself and its peers in turn. */
struct sy_probe_copies {
    int32_t load;          /* 1: from the peers; 0: to them                                  */
    int32_t blocks, warps; /* GPU: SMs, and copying warps of each                            */
    int32_t pieces;
    int64_t piece_bytes; /* a multiple of 16 */
    double gbps;         /* stores: most that this rank offers, in 10^9 bytes per second; 0: any */
    void *area;          /* what is stored to and loaded from */
    int64_t area_bytes;  /* used again and again if it is smaller than all pieces */
    const void *source;  /* of stores: what they store where they read memory; a piece at least */
    int64_t source_bytes;
};

sy_status sy_probe_copies(struct sy_probe *probe, const struct sy_probe_copies *copies,
                          sy_stream *stream);

/* Bytes of memory for the two below, zero before the first use. */
#define SY_PROBE_FLAGS(ranks) (8 * ((size_t)(ranks) + 1))

/* The stream goes on when all ranks have come so many times. */
sy_status sy_probe_meet(struct sy_probe *probe, void *flags, int32_t rounds, sy_stream *stream);

/* A word goes to the partner and comes back, so many times. Asked for by these two ranks only. */
sy_status sy_probe_turns(struct sy_probe *probe, void *flags, int32_t partner, int32_t rounds,
                         sy_stream *stream);

#endif
