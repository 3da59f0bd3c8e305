/* spawn.h - the local launcher: starts a program as N ranks, and leaves none of them behind. */
#ifndef SY_TOOLS_SPAWN_H
#define SY_TOOLS_SPAWN_H

#include <stdint.h>

struct spawn {
    int32_t ranks;
    char **argv;         /* ended by NULL                                                         */
    const char *program; /* looked for in PATH if it has no slash; NULL: argv[0]                  */
    int tag;             /* 1: every line of a rank's output gets "[rank] " in front              */
    int quiet;           /* 1: says nothing of ranks that end with a status, only of signals      */
    uint64_t grace_ns;   /* what the others get to end by themselves when one has failed, and then
                            once more between SIGTERM and SIGKILL                                 */

    /* A pipe from the ranks, besides stdout and stderr. `variable` tells them the number of its
     * writing end, which is inherited; NULL: no pipe. */
    const char *variable;
    void (*read)(void *context, int fd); /* there is something to read at fd, or its end          */
    void *context;
};

/* Returns when all ranks have ended: 0, or the status of the first that failed, which is 128 + N
 * for signal N. A failure is explained on stderr. */
int spawn_ranks(const struct spawn *spawn);

#endif
