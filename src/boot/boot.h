/* boot.h - the bootstrap: how the ranks of a group find each other and talk before they share
 * memory.
 *
 *   sy_boot_open()       a world is established: this rank, the number of ranks
 *   sy_boot_allgather()  every rank's bytes, on every rank
 *   sy_boot_barrier()
 *   sy_boot_agree()      did a local step work on all ranks?
 *   sy_boot_close()
 *
 * With SY_BOOT_ID and SY_BOOT_ENV all ranks connect to one root (serve.h), which is a thread of the
 * process that made the id, or of rank 0. A bootstrap is used by one thread at a time. After a
 * failure it is of no use any more: each later call gives the same status and text again, and on
 * each rank the verdict is the same. A rank that dies is noticed at once, also while nobody calls.
 *
 *   1  The world        2  Launchers        3  Meeting places (inside boot only)
 */
#ifndef SY_BOOT_BOOT_H
#define SY_BOOT_BOOT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/status.h"
#include "switchyard.h"
#include "wire.h"

/* ---- 1. The world ---------------------------------------------------------------------------- */

enum sy_boot_way {
    SY_WAY_ALONE, /* one rank, nobody to talk to                */
    SY_WAY_STAR,  /* a connection to the root                   */
    SY_WAY_USER   /* the caller's collectives                   */
};

struct sy_boot {
    int32_t rank, ranks;
    uint64_t timeout_ns; /* of each collective */
    int32_t culprit;     /* after a failure: the rank that died, was late or disagreed; -1: none */

    /* Private to boot. */
    enum sy_boot_way way;
    uint32_t generation; /* fds.h */
    int fd;              /* STAR */
    uint32_t sequence;   /* of the last collective */
    int32_t root_rank;   /* rank whose process serves; -1: none of them, or not known yet */
    sy_allgather_fn allgather; /* USER */
    sy_barrier_fn barrier;
    void *context;
    uint8_t *words;      /* ranks * SY_WORD_BYTES, for sy_boot_agree() */
    sy_status failed;
    char text[SY_ERROR_TEXT];
};

/* Uses boot, rank, ranks, id, allgather, barrier, boot_context and timeout_ns of the configuration,
 * and nothing else. Collective: when it fails on one rank that others could hear of, it fails on
 * all, within the timeout; up to half a second later, here and below, when the root itself is late.
 * config is borrowed. */
sy_status sy_boot_open(const sy_group_config *config, struct sy_boot **boot);

/* all: ranks * bytes, in the order of ranks; may not overlap mine. bytes is equal on all ranks and
 * at most SY_PART_BYTES_MAX; otherwise SY_MISMATCH. 0 is allowed, a barrier is not the same. */
sy_status sy_boot_allgather(struct sy_boot *boot, const void *mine, void *all, size_t bytes);
sy_status sy_boot_barrier(struct sy_boot *boot);

/* Collective, after a local step: `status` is what it gave here, sy_last_error() why. SY_OK if it
 * was that on all ranks. Otherwise the status and text of the first rank where it was not, on every
 * rank alike, and boot->culprit is that rank. The bootstrap itself stays usable. */
sy_status sy_boot_agree(struct sy_boot *boot, sy_status status);

/* Leaves; never waits. Peers that still want a collective get SY_PEER_LOST. NULL is fine. */
void sy_boot_close(struct sy_boot *boot);

/* ---- 2. Launchers ---------------------------------------------------------------------------- */

struct sy_launch {
    int32_t rank, ranks;
    int32_t local;        /* ranks on this machine; 0: the launcher does not say */
    int32_t machines;     /* 0: the launcher does not say                        */
    const char *launcher; /* who it was, for people: "torchrun"; never NULL      */
    char job[512];        /* equal on all ranks, and differs between jobs of one user as far as the
                             launcher tells them apart */
    int has_id;           /* the launcher made an id */
    sy_id id;
};

/* What the environment says. Without any launcher: rank 0 of 1. Local. SY_INVALID names a variable
 * that makes no sense, or that is missing beside others. */
sy_status sy_boot_env(struct sy_launch *launch);

/* ---- 3. Meeting places ----------------------------------------------------------------------- */

/* Where a rank finds the root, and what both know. */
struct sy_place {
    struct sockaddr_storage at;
    socklen_t at_bytes;
    int local; /* a unix socket: who listens must be of the same user, and may come after us */
    uint8_t group[SY_GROUP_BYTES];
    uint8_t secret[SY_SECRET_BYTES];
};

/* Of an id. SY_INVALID: it is none. */
sy_status sy_id_place(const sy_id *id, struct sy_place *place);

/* The `nth` group that processes of this launch open together. */
void sy_launch_place(const struct sy_launch *launch, uint32_t nth, struct sy_place *place);

/* Rank 0 opens it, unless another process already holds it: then that may be a second rank 0, which
 * the root will tell, or a stranger, whom sy_star_join() refuses. */
sy_status sy_launch_serve(const struct sy_place *place, uint64_t wait_ns);

/* The ranks' side of the star. join: connects, proves the secret and waits until the group has
 * formed. call: one collective, GATHER or BARRIER. leave: says goodbye and closes, also half-way
 * through. */
sy_status sy_star_join(struct sy_boot *boot, const struct sy_place *place, uint64_t deadline_ns);
sy_status sy_star_call(struct sy_boot *boot, enum sy_kind kind, const void *mine, void *all,
                       size_t bytes);
void sy_star_leave(struct sy_boot *boot);

#endif
