/* fds.h - descriptors of the bootstrap and the mesh, and what a fork does to them.
 *
 * A closed socket tells the peers that a process is gone. A child that the program forks would keep
 * all of them open, so this file keeps a list, and the child closes what is on it. What a child
 * inherits of a bootstrap or a mesh is dead: their owners compare sy_fd_generation() with the one
 * they began in before they touch a descriptor or wait for a thread. */
#ifndef SY_BOOT_FDS_H
#define SY_BOOT_FDS_H

#include <stdint.h>

/* As the calls of sy_os, and put on the list; errno is ENOMEM if the list cannot grow. */
int sy_fd_socket(int domain, int type, int protocol);
int sy_fd_accept(int listener);
int sy_fd_pipe(int fds[2]);
void sy_fd_close(int fd); /* -1 is fine */

uint32_t sy_fd_generation(void); /* differs in a forked child */

/* The lock of the bootstrap's process-wide state; a fork waits for it. Never held while waiting. */
void sy_boot_lock(void);
void sy_boot_unlock(void);

#endif
