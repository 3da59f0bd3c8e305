/* serve.h - the root of a bootstrap's star: a thread that lets the ranks of one group in, forms the
 * group, serves its collectives and ends.
 *
 * Who connects proves the group's secret within seconds or is dropped without an answer. Whatever
 * goes wrong, each rank that proved itself is told the same verdict, those that come later too,
 * until the ranks' deadline. The thread ends when all ranks have closed their connection, when the
 * forming has failed and all were told, when nobody came in time, or when stopped before the group
 * was formed. */
#ifndef SY_BOOT_SERVE_H
#define SY_BOOT_SERVE_H

#include <stdint.h>

#include "switchyard.h"
#include "wire.h"

struct sy_serve {
    int listener;      /* taken over on success                                    */
    int local;         /* a unix socket: peers must be processes of the same user  */
    int32_t root_rank; /* the rank whose process this is; -1: the ranks will say   */
    uint64_t wait_ns;  /* for the first rank                                       */
    uint8_t group[SY_GROUP_BYTES];
    uint8_t secret[SY_SECRET_BYTES];
};

sy_status sy_serve_start(const struct sy_serve *config);

/* Whether this process serves that group. */
int sy_serve_here(const uint8_t group[SY_GROUP_BYTES]);

/* Ends a group that has not formed yet with a verdict, for those that are in and those that still
 * come: until `expected` ranks were told, or linger_ns have passed. A group that has formed goes
 * on. Returns 1 if there was something to end. */
struct sy_end {
    struct sy_verdict verdict;
    int32_t expected;
    uint64_t linger_ns;
};

int sy_serve_end(const uint8_t group[SY_GROUP_BYTES], const struct sy_end *end);

/* Waits until the group is served no more, but not beyond the deadline. */
void sy_serve_wait(const uint8_t group[SY_GROUP_BYTES], uint64_t deadline_ns);

/* Threads that serve in this process. */
int sy_serve_count(void);

#endif
