/* link.h - one non-blocking socket, used from a thread that may wait until a deadline. */
#ifndef SY_BOOT_LINK_H
#define SY_BOOT_LINK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "switchyard.h"

/* SY_OK, SY_TIMEOUT, SY_PEER_LOST (the other end is closed) or SY_SYSTEM; `what` begins the
 * text. */
sy_status sy_link_send(int fd, const void *data, size_t bytes, uint64_t deadline_ns,
                       const char *what);
sy_status sy_link_recv(int fd, void *data, size_t bytes, uint64_t deadline_ns, const char *what);

/* Until fd has one of `events`, or has failed. */
sy_status sy_link_wait(int fd, short events, uint64_t deadline_ns, const char *what);

/* For poll(): milliseconds until the deadline, rounded up, at most a minute. */
int sy_link_wait_ms(uint64_t deadline_ns);

/* Whether errno says "later", and whether it says that the other end is gone. */
int sy_link_later(int error);
int sy_link_gone(int error);

/* The user at the other end of a unix socket. 1: this process's own; 0: another; -1: the system did
 * not say. */
int sy_link_peer_user(int fd, uid_t *user);

/* Two network namespaces of a machine differ in it. 0: unknown (Linux before 5.14). */
uint64_t sy_link_network(int fd);

/* Small messages leave at once, and a host that vanished is noticed within half a minute. Without
 * it the deadlines still hold, so a refusal is no error. */
void sy_link_tune_tcp(int fd);

#endif
