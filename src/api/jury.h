/* jury.h - how all ranks of a group come to the same word about a fault.
 *
 * A fault is noticed by a kernel (a wait that ran out, a wrong value), by the host (a socket
 * closed, an abort) or by hearing of it. Whoever notices first votes: it sends what it knows to all
 * others. Who gets a vote and has not voted votes too. When the votes of all ranks that are still
 * there have come, the heaviest of them is the verdict, the same everywhere. Votes travel over
 * sockets, so a hung GPU does not stop them. */
#ifndef SY_API_JURY_H
#define SY_API_JURY_H

#include <pthread.h>

#include "base/status.h"
#include "layout/records.h"

/* Longest wait for the votes of ranks that are there but do not vote: a quarter of the group's
 * timeout, within these bounds. */
#define SY_VOTE_WAIT_LEAST_NS 100000000ull
#define SY_VOTE_WAIT_MOST_NS 2000000000ull

struct sy_jury {
    pthread_mutex_t lock;
    pthread_cond_t settled;
    uint32_t rank, ranks;
    uint64_t timeout_ns; /* the group's, for texts        */
    uint64_t wait_ns;    /* for votes                     */
    uint64_t begun_ns;   /* 0: no fault                   */
    int final;
    sy_fault fault;                /* when final                    */
    struct sy_fault_record *votes; /* [ranks]; what == 0: none yet; owned */
    uint8_t *gone;                 /* [ranks] SY_GONE_...; owned          */

    /* Sends a vote to all other ranks, and makes this rank's kernels leave. */
    void (*spread)(void *context, const struct sy_fault_record *vote);
    void *context;
};

enum { SY_GONE_NOT = 0, SY_GONE_LEFT = 1, SY_GONE_DIED = 2 };

sy_status sy_jury_open(struct sy_jury *v, uint32_t rank, uint32_t ranks, uint64_t timeout_ns);
void sy_jury_close(struct sy_jury *v);

/* This rank has noticed something. The first time it votes. */
void sy_jury_blame(struct sy_jury *v, const struct sy_fault_record *record);

/* A vote of another rank has come. */
void sy_jury_vote(struct sy_jury *v, uint32_t from, const struct sy_fault_record *record);

/* Another rank is gone: it left in good order, or died, which is a fault. */
void sy_jury_gone(struct sy_jury *v, uint32_t rank, int how);

int sy_jury_is_gone(struct sy_jury *v, uint32_t rank); /* SY_GONE_... */

/* A rank that left, or -1. Operations that begin now would wait for it in vain. */
int32_t sy_jury_left(struct sy_jury *v);

/* Has anything been noticed? *fault: the verdict; waits for it, if `wait`, while votes are coming.
 * SY_OK: no fault. SY_NOT_READY: there is one, and the votes are not all here. */
sy_status sy_jury_get(struct sy_jury *v, int wait, sy_fault *fault);

/* The status and the line of text that a record amounts to. */
void sy_jury_describe(const struct sy_fault_record *record, uint64_t timeout_ns,
                      sy_fault *fault);

const char *sy_channel_name(int channel); /* "dispatch" */

#endif
