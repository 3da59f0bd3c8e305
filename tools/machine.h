/* machine.h - what this machine is: for reports, and to stay within its memory. */
#ifndef SY_TOOLS_MACHINE_H
#define SY_TOOLS_MACHINE_H

#include <stdint.h>

struct machine {
    char cpu[128];    /* the processor's name              */
    char kernel[128]; /* "Linux 6.1.0 x86_64"              */
    int32_t cores;    /* this process may use              */
    int32_t cores_online;
    uint64_t memory_bytes;
    uint64_t available_bytes; /* what may be taken without swapping or meeting a cgroup's limit */
    uint64_t limit_bytes;     /* of the cgroup; 0: none */
};

void machine_look(struct machine *m);

/* A launcher in whose environment this process was started. */
struct launcher_seen {
    const char *name;     /* "torchrun"                                      */
    const char *variable; /* by which it is recognised, as in SY_BOOT_ENV    */
};

/* The one that SY_BOOT_ENV asks. NULL: none. */
const struct launcher_seen *machine_launcher(void);

#endif
