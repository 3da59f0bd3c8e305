/* bench_world.h - the ranks of a bench beside what they measure: an all-gather, a barrier, and
 * memory that all of them can reach. Made of the library itself, so it works under every launcher
 * that the library knows. All calls but the closing ones are collective. */
#ifndef SY_TOOLS_BENCH_WORLD_H
#define SY_TOOLS_BENCH_WORLD_H

#include <stddef.h>
#include <stdint.h>

#include "switchyard.h"

#define WORLD_BYTES 256 /* most that one gather carries per rank */

/* One piece of shared memory of each rank, mapped by all. Zero at first. */
struct window {
    int32_t ranks;
    uint8_t **at;    /* [ranks] */
    uint64_t *bytes; /* [ranks] */
    int fd;
};

struct world {
    int32_t rank, ranks;
    uint64_t timeout_ns;
    sy_group *group;
    sy_route *route;
    int64_t *ids;          /* [ranks]: one expert per rank */
    uint8_t *mine;         /* [WORLD_BYTES]                */
    uint8_t *all;          /* [ranks * WORLD_BYTES]        */
    struct window meeting; /* a word of each rank: the round of world_align() that it is in */
    uint64_t round;
};

int world_open(struct world *w, uint64_t timeout_ns);
void world_close(struct world *w);

/* all[r * bytes] is rank r's. */
int world_gather(struct world *w, const void *mine, void *all, size_t bytes);
int world_barrier(struct world *w);

/* A barrier that ranks with a core each leave within a microsecond of each other: they spin. */
int world_align(struct world *w);

/* bytes: of this rank's own piece; may differ and be 0. */
int window_open(struct world *w, struct window *window, uint64_t bytes);
void window_close(struct window *window);

#endif
