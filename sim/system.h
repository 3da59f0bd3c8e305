/* system.h - the operating system that the library sees in the simulator (base/os.h). */
#ifndef SIM_SYSTEM_H
#define SIM_SYSTEM_H

#include <pthread.h>
#include <stdint.h>

#include "base/os.h"

/* Begins and ends a world's system. */
/* combine_path: what the environment says of SY_COMBINE_PATH; 0: nothing. route_asks: 1: it says 0
 * of SY_ROUTE_WORDS. */
void sim_system_open(uint64_t seed, uint32_t ranks, int combine_path, int route_asks);
void sim_system_close(void);

/* All descriptors of a rank close, as when its process dies. */
void sim_sockets_died(uint32_t rank);

/* Between these two, memory that the rank allocates is a violation. */
void sim_round_begin(uint32_t rank);
void sim_round_end(uint32_t rank);
int sim_in_round(uint32_t rank);
/* The running rank does what it may not do then. */
void sim_no_round(const char *what);

/* Descriptors that the ranks have open. */
uint32_t sim_descriptors(uint32_t rank);

/* threads.c: for our own sources, which are not compiled with threads.h. */
int sim_mutex_lock(pthread_mutex_t *mutex);
int sim_mutex_unlock(pthread_mutex_t *mutex);
int sim_thread(pthread_t *thread, void *(*run)(void *), void *context);

/* sockets.c: the calls of the table that work on descriptors. */
void sim_sockets_open(uint32_t ranks);
void sim_sockets_close(void);
int sim_memfd(const char *name);
int sim_resize(int fd, off_t bytes);
int sim_seal(int fd);
int64_t sim_sealed_bytes(int fd);
void *sim_map_file(int fd, size_t bytes);
int sim_socket(int domain, int type, int protocol);
int sim_bind(int fd, const struct sockaddr *at, socklen_t bytes);
int sim_listen(int fd, int backlog);
int sim_accept(int fd);
int sim_connect(int fd, const struct sockaddr *to, socklen_t bytes);
ssize_t sim_send(int fd, const void *data, size_t bytes);
ssize_t sim_recv(int fd, void *data, size_t bytes);
ssize_t sim_sendmsg(int fd, const struct msghdr *message);
ssize_t sim_recvmsg(int fd, struct msghdr *message);
int sim_poll(struct pollfd *fds, nfds_t count, int timeout_ms);
int sim_pipe(int fds[2]);
int sim_get_option(int fd, int level, int name, void *value, socklen_t *bytes);
int sim_socket_name(int fd, struct sockaddr *at, socklen_t *bytes);
void sim_close(int fd);

#endif
