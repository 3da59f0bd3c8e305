/* mesh.h - a socket between every two ranks of a group on one machine: it carries descriptors of
 * shared memory, and its closing tells at once that a process is gone.
 *
 *   sy_mesh_open()          collective, with the help of a bootstrap
 *   sy_mesh_exchange_fds()  collective: one descriptor of each rank to each other rank
 *   sy_mesh_watch()         a thread that reports peers that leave or die, and what they tell
 *   sy_mesh_tell()          a few bytes to all peers
 *   sy_mesh_close()         says goodbye
 *
 * The sockets are abstract unix sockets of type SOCK_SEQPACKET with random names; both sides check
 * that the other is a process of the same user and knows what the ranks all-gathered. The
 * collective calls end with the same status on every rank. */
#ifndef SY_BOOT_MESH_H
#define SY_BOOT_MESH_H

#include <stdint.h>

#include "boot.h"
#include "switchyard.h"

struct sy_mesh;

/* boot is borrowed until sy_mesh_exchange_fds() was called for the last time. deadline_ns: on the
 * monotonic clock, for what is local; 0: the bootstrap's timeout from now. SY_UNSUPPORTED: a rank
 * is on another machine or in another network namespace. */
sy_status sy_mesh_open(struct sy_boot *boot, uint64_t deadline_ns, struct sy_mesh **mesh);

/* my_fd is borrowed. fds[r] becomes a new descriptor of what rank r gave, closed on exec, which the
 * caller closes; fds[own rank] is my_fd itself. On failure all are -1, and
 * the mesh is good for sy_mesh_close() only. Not after sy_mesh_watch(). */
sy_status sy_mesh_exchange_fds(struct sy_mesh *mesh, int my_fd, int *fds);

/* What the mesh's thread calls. None of them may call sy_mesh_close(). */
struct sy_mesh_events {
    void *context;

    /* Once per peer. how: SY_OK if it said goodbye, SY_PEER_LOST if its socket closed without,
     * SY_PROTOCOL if it sent something that is no note. */
    void (*gone)(void *context, int32_t rank, sy_status how);

    /* A peer told something; NULL: it may not. Length and contents are the peer's word only. */
    void (*told)(void *context, int32_t rank, uint32_t kind, const void *data, size_t bytes);

    void (*tick)(void *context); /* every tick_ms or more often; NULL: not needed */
    int tick_ms;
};

/* Local. Peers that left or died before are reported, too. At most once per mesh. */
sy_status sy_mesh_watch(struct sy_mesh *mesh, const struct sy_mesh_events *events);

/* Sends to all peers at once, from any thread, once the mesh is watched; never waits. kind is the
 * caller's; bytes at most SY_TOLD_BYTES_MAX. Notes of one rank arrive in their order. A peer that
 * has not read for hundreds of notes misses this one. */
void sy_mesh_tell(struct sy_mesh *mesh, uint32_t kind, const void *data, size_t bytes);

/* Says goodbye to all peers, ends the thread (no callback runs afterwards) and closes the sockets.
 * Waits for nothing but a callback that runs. NULL is fine. */
void sy_mesh_close(struct sy_mesh *mesh);

#endif
