/* network.c - see network.h. Packets on their way are in a list; one task delivers them. */
#include "network.h"

#include <stdlib.h>
#include <string.h>

#include "base/verify.h"

#define PACKET 64u

struct operation {
    struct sim_put put;
    uint32_t left; /* packets that have not arrived */
};

struct packet {
    struct packet *next;
    struct operation *of;
    uint64_t arrives_ns, at;
    size_t bytes;
    uint8_t data[PACKET];
};

struct link {
    uint64_t delay_ns, bytes_per_us;
    uint64_t busy_ns, last_ns; /* it sends until; the last packet arrives at */
    uint32_t flying;
};

static struct sim_network_config config;
static uint8_t *memory;
static struct link *links;         /* [from][to] */
static struct sim_queue *arrivals; /* [node] */
static struct packet *flying;
static struct sim_task *carrier;

static struct link *link_of(uint32_t from, uint32_t to)
{
    return links + (size_t)from * config.nodes + to;
}

uint8_t *sim_network_memory(uint32_t node)
{
    return memory + node * config.memory_bytes;
}

uint32_t sim_network_flying(uint32_t from, uint32_t to)
{
    return link_of(from, to)->flying;
}

uint32_t sim_network_credits(void)
{
    return config.credits;
}

void sim_network_wait(uint32_t node)
{
    sim_wait(arrivals + node, SIM_NEVER, "the network");
}

/* --- delivering ------------------------------------------------------------------------------- */

static void complete(struct operation *o)
{
    const struct sim_put *p = &o->put;
    uint64_t word;
    if (p->amount) {
        memcpy(&word, sim_network_memory(p->to) + p->signal_at, sizeof word);
        word += p->amount;
        memcpy(sim_network_memory(p->to) + p->signal_at, &word, sizeof word);
    }
    link_of(p->from, p->to)->flying--;
    sim_wake_all(arrivals + p->from);
    free(o);
}

static void deliver(struct packet *p)
{
    struct operation *o = p->of;
    sim_event("a packet arrives", NULL, p->at);
    memcpy(sim_network_memory(o->put.to) + p->at, p->data, p->bytes);
    sim_wake_all(arrivals + o->put.to);
    if (!--o->left)
        complete(o);
    free(p);
}

/* The packet that arrives first; among equals the one sent first. */
static struct packet **first_packet(void)
{
    struct packet **first = &flying;
    for (struct packet **at = &flying; *at; at = &(*at)->next)
        if ((*at)->arrives_ns < (*first)->arrives_ns)
            first = at;
    return first;
}

static void carry(void *context)
{
    const int *stop = context;
    while (!*stop || flying) {
        struct packet **at = first_packet(), *p = *at;
        if (!p) {
            sim_park(SIM_NEVER, "packets");
        } else if (p->arrives_ns > sim_now_ns()) {
            sim_park(p->arrives_ns, "the next packet");
        } else {
            *at = p->next;
            deliver(p);
        }
    }
}

/* --- sending ---------------------------------------------------------------------------------- */

static void send_packet(struct operation *o, uint64_t at, const uint8_t *data, size_t bytes)
{
    struct link *l = link_of(o->put.from, o->put.to);
    struct packet *p = calloc(1, sizeof *p), **last = &flying;
    uint64_t now = sim_now_ns();
    SY_ASSERT(p);
    l->busy_ns = (l->busy_ns > now ? l->busy_ns : now) + (bytes + 16) * 1000 / l->bytes_per_us;
    p->arrives_ns = l->busy_ns + l->delay_ns;
    if (!config.ordered)
        p->arrives_ns += (uint64_t)sy_prng_below(&sim_dice, (int64_t)config.jitter_ns + 1);
    else if (p->arrives_ns < l->last_ns)
        p->arrives_ns = l->last_ns;
    l->last_ns = p->arrives_ns;
    p->of = o;
    p->at = at;
    p->bytes = bytes;
    if (bytes)
        memcpy(p->data, data, bytes);
    while (*last)
        last = &(*last)->next;
    *last = p;
    o->left++;
}

void sim_network_put(const struct sim_put *put)
{
    struct link *l = link_of(put->from, put->to);
    struct operation *o;
    SY_ASSERT(put->at + put->bytes <= config.memory_bytes);
    sim_point();
    if (l->flying++ >= config.credits)
        sim_violate(SIM_CHECK_COPY,
                    "node %u has %u operations on their way to node %u, and the "
                    "link takes %u",
                    put->from, l->flying, put->to, config.credits);
    o = calloc(1, sizeof *o);
    SY_ASSERT(o);
    o->put = *put;
    for (size_t i = 0; i < put->bytes; i += PACKET)
        send_packet(o, put->at + i, (const uint8_t *)put->data + i,
                    put->bytes - i < PACKET ? put->bytes - i : PACKET);
    if (!put->bytes)
        send_packet(o, put->at, NULL, 0);
    sim_wake(carrier);
}

/* --- opening ---------------------------------------------------------------------------------- */

static int stopping;

void sim_network_open(const struct sim_network_config *c)
{
    config = *c;
    stopping = 0;
    memory = calloc(c->nodes, c->memory_bytes);
    links = calloc((size_t)c->nodes * c->nodes, sizeof *links);
    arrivals = calloc(c->nodes, sizeof *arrivals);
    SY_ASSERT(memory && links && arrivals);
    for (uint32_t i = 0; i < c->nodes * c->nodes; i++) {
        links[i].delay_ns = (uint64_t)sy_prng_range(&sim_dice, 1, 4) * c->delay_ns;
        links[i].bytes_per_us = c->bytes_per_us / (uint64_t)sy_prng_range(&sim_dice, 1, 4) + 1;
    }
    carrier = sim_spawn(NULL, SIM_NOBODY, SIM_HOST, carry, &stopping, "network");
}

void sim_network_free(void)
{
    while (flying) {
        struct packet *next = flying->next;
        if (!--flying->of->left)
            free(flying->of);
        free(flying);
        flying = next;
    }
    free(memory);
    free(links);
    free(arrivals);
}

/* The nodes are done; what is on its way still arrives. */
void sim_network_close(void)
{
    stopping = 1;
    sim_wake(carrier);
    while (carrier->state != SIM_OVER)
        sim_wait(&carrier->joiners, SIM_NEVER, "the network to fall silent");
    sim_network_free();
}
