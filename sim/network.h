/* network.h - a network between simulated nodes, for ports. The weakest there is (packets late and
 * out of order), or reliable and ordered; nothing is lost and nothing comes twice. Each link has a
 * delay and a bandwidth, and takes so many operations at a time.
 *
 * Used by a test protocol (exchange.c) until there are ports to simulate. */
#ifndef SIM_NETWORK_H
#define SIM_NETWORK_H

#include <stddef.h>
#include <stdint.h>

#include "world.h"

struct sim_network_config {
    uint32_t nodes;
    size_t memory_bytes; /* of each node, that others may write                       */
    int ordered;         /* packets of a link arrive in their order                   */
    uint64_t delay_ns;   /* of a link, at least; unordered packets up to jitter later */
    uint64_t jitter_ns;
    uint64_t bytes_per_us;
    uint32_t credits; /* operations on their way, per link                         */
};

/* Inside a world whose ranks are the nodes. */
void sim_network_open(const struct sim_network_config *config);
void sim_network_close(void);
void sim_network_free(void); /* of a world that a violation has ended */
uint8_t *sim_network_memory(uint32_t node);

/* Puts bytes at an offset of the target's memory; when all of them are there, adds `amount` to the
 * 64-bit word at `signal_at`. bytes or amount may be 0. The data is read now. The link must have a
 * credit; it has it back when the operation is done. */
struct sim_put {
    uint32_t from, to;
    uint64_t at;
    const void *data;
    size_t bytes;
    uint64_t signal_at, amount;
};
void sim_network_put(const struct sim_put *put);
uint32_t sim_network_flying(uint32_t from, uint32_t to);
uint32_t sim_network_credits(void);

/* Waits until something has arrived at a node, or an operation of its is done. */
void sim_network_wait(uint32_t node);

/* exchange.c: a seed of the test protocol. */
struct sim_result sim_exchange_run(uint64_t seed);

#endif
