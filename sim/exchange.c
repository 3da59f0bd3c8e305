/* exchange.c - a protocol over the network model, as ports will have it: all nodes exchange rows
 * in rounds, in two halves of buffers.
 *
 *   rows     each is put with a signal of 1 to the counter of its source and half; the receiver
 *            acts when the count is complete, whatever the order
 *   counts   a word per source and half, with the round in its upper half: a source may be a round
 *            ahead
 *   done     a counter per receiver: rounds that it has taken; two rounds later the half may be
 *            used again
 *   proxy    a node's commands go through a ring to its proxy, which waits for credits; a command
 *            holds its value, captured when it is written
 *
 * The plants of networks are here. */
#include <stdlib.h>
#include <string.h>

#include "base/verify.h"
#include "network.h"
#include "plants.h"

#define NODES_MAX 6
#define ROWS_MAX 6
#define ROW_MAX 256u
#define RING 8u

/* A node's memory. */
struct board {
    uint64_t arrived[2][NODES_MAX]; /* rows of each source, for ever    */
    uint64_t count[2][NODES_MAX];   /* round << 32 | rows               */
    uint64_t done[NODES_MAX];       /* rounds that a receiver has taken */
    uint8_t row[2][NODES_MAX][ROWS_MAX][ROW_MAX];
};

struct command {
    struct sim_put put;
    uint64_t value;
    const uint64_t *scratch; /* the planted mistake: read by the proxy, later */
    uint8_t row[ROW_MAX];
};

struct node {
    struct exchange *x;
    uint32_t me;
    struct command ring[RING];
    uint64_t written, taken;
    struct sim_queue moved;
    uint64_t scratch; /* for words on their way to the proxy */
    int over;
};

struct exchange {
    uint64_t seed;
    uint32_t nodes, rounds;
    struct node node[NODES_MAX];
    uint32_t left; /* nodes that are not done */
    struct sim_queue ends;
};

static struct board *board_of(uint32_t node)
{
    return (struct board *)(void *)sim_network_memory(node);
}

/* --- what is sent ----------------------------------------------------------------------------- */

static struct sy_prng of_batch(const struct exchange *x, uint32_t from, uint32_t to, uint32_t round)
{
    return sy_prng_make(x->seed, 1000 + (round * NODES_MAX + from) * NODES_MAX + to);
}

static uint32_t rows_of(const struct exchange *x, uint32_t from, uint32_t to, uint32_t round)
{
    struct sy_prng p = of_batch(x, from, to, round);
    return (uint32_t)sy_prng_below(&p, ROWS_MAX + 1);
}

static size_t make_row(const struct exchange *x, uint32_t from, uint32_t to, uint32_t round,
                       uint32_t nth, uint8_t *row)
{
    struct sy_prng p = of_batch(x, from, to, round * 100 + nth + 1);
    size_t bytes = (size_t)sy_prng_range(&p, 1, ROW_MAX / 16) * 16;
    for (size_t i = 0; i < bytes; i++)
        row[i] = (uint8_t)sy_prng_next(&p);
    return bytes;
}

/* --- the proxy -------------------------------------------------------------------------------- */

static void proxy_main(void *context)
{
    struct node *n = context;
    for (;;) {
        struct command *c;
        while (n->taken == n->written && !n->over)
            sim_wait(&n->moved, SIM_NEVER, "commands");
        if (n->taken == n->written)
            return;
        c = n->ring + n->taken % RING;
        while (sim_network_flying(n->me, c->put.to) >= sim_network_credits() &&
               !SIM_PLANTED(CREDIT_IGNORED))
            sim_network_wait(n->me);
        if (c->scratch)
            c->value = *c->scratch;
        sim_network_put(&c->put);
        n->taken++;
        sim_wake_all(&n->moved);
        sim_point();
    }
}

static struct command *next_command(struct node *n)
{
    while (n->written - n->taken == RING)
        sim_wait(&n->moved, SIM_NEVER, "room for a command");
    memset(n->ring + n->written % RING, 0, sizeof *n->ring);
    return n->ring + n->written % RING;
}

static void submit(struct node *n)
{
    n->written++;
    sim_wake_all(&n->moved);
    sim_point();
}

static void send_count(struct node *n, uint32_t to, uint32_t round, uint32_t rows)
{
    struct command *c = next_command(n);
    uint64_t at = offsetof(struct board, count) + ((round & 1) * NODES_MAX + n->me) * 8;
    uint64_t value = (uint64_t)round << 32 | rows;
    n->scratch = value;
    c->value = value;
    c->scratch = SIM_PLANTED(SCRATCH_REUSED) ? &n->scratch : NULL;
    c->put = (struct sim_put){
        .from = n->me, .to = to, .at = at, .data = &c->value, .bytes = sizeof c->value};
    submit(n);
}

static void send_done(struct node *n, uint32_t to)
{
    struct command *c = next_command(n);
    c->put = (struct sim_put){.from = n->me,
                              .to = to,
                              .signal_at = offsetof(struct board, done) + n->me * 8,
                              .amount = 1};
    submit(n);
}

static void send_row(struct node *n, uint32_t to, uint32_t round, uint32_t nth)
{
    struct command *c = next_command(n);
    c->put = (struct sim_put){.from = n->me,
                              .to = to,
                              .at = offsetof(struct board, row) +
                                    (((round & 1) * NODES_MAX + n->me) * ROWS_MAX + nth) * ROW_MAX,
                              .data = c->row,
                              .bytes = make_row(n->x, n->me, to, round, nth, c->row),
                              .signal_at = offsetof(struct board, arrived) +
                                           ((round & 1) * NODES_MAX + n->me) * 8,
                              .amount = 1};
    submit(n);
}

/* --- a node ----------------------------------------------------------------------------------- */

static void send_round(struct node *n, uint32_t round)
{
    for (uint32_t i = 0; i < n->x->nodes; i++) {
        uint32_t to = (n->me + i) % n->x->nodes, rows = rows_of(n->x, n->me, to, round);
        /* It has taken what lies in this half, of two rounds ago. */
        while (round > 2 && board_of(n->me)->done[to] < round - 2)
            sim_network_wait(n->me);
        send_count(n, to, round, rows);
        for (uint32_t k = 0; k < rows; k++)
            send_row(n, to, round, k);
    }
}

static void check_rows(const struct node *n, uint32_t from, uint32_t round, uint32_t rows)
{
    const struct board *b = board_of(n->me);
    uint8_t row[ROW_MAX];
    for (uint32_t k = 0; k < rows; k++) {
        size_t bytes = make_row(n->x, from, n->me, round, k, row);
        if (memcmp(b->row[round & 1][from][k], row, bytes))
            sim_violate(SIM_CHECK_RESULT,
                        "node %u: row %u of node %u in round %u is not what was "
                        "sent",
                        n->me, k, from, round);
    }
}

/* before: [half][source] rows that have been taken. */
static void take_round(struct node *n, uint32_t round, uint64_t before[2][NODES_MAX])
{
    const struct board *b = board_of(n->me);
    for (uint32_t from = 0; from < n->x->nodes; from++) {
        const uint64_t *count = &b->count[round & 1][from];
        uint32_t rows;
        while (*count >> 32 < round)
            sim_network_wait(n->me);
        rows = (uint32_t)*count;
        if (*count >> 32 != round || rows != rows_of(n->x, from, n->me, round))
            sim_violate(SIM_CHECK_RESULT, "node %u: node %u announced %#llx in round %u", n->me,
                        from, (unsigned long long)*count, round);
        before[round & 1][from] += rows;
        while (b->arrived[round & 1][from] < before[round & 1][from] &&
               !SIM_PLANTED(COUNT_OVERTAKES))
            sim_network_wait(n->me);
        check_rows(n, from, round, rows);
    }
    for (uint32_t to = 0; to < n->x->nodes; to++)
        send_done(n, to);
}

static void node_main(void *context)
{
    struct node *n = context;
    struct sim_task *proxy = sim_spawn(NULL, n->me, SIM_HOST, proxy_main, n, "proxy");
    uint64_t before[2][NODES_MAX] = {{0}};
    for (uint32_t round = 1; round <= n->x->rounds; round++) {
        send_round(n, round);
        take_round(n, round, before);
    }
    n->over = 1;
    sim_wake_all(&n->moved);
    while (proxy->state != SIM_OVER)
        sim_wait(&proxy->joiners, SIM_NEVER, "the proxy to end");
    n->x->left--;
    sim_wake_all(&n->x->ends);
}

static void exchange_main(void *context)
{
    struct exchange *x = context;
    while (x->left)
        sim_wait(&x->ends, SIM_NEVER, "the nodes");
    sim_network_close();
}

struct sim_result sim_exchange_run(uint64_t seed)
{
    struct sy_prng prng = sy_prng_make(seed, 200), *p = &prng;
    struct exchange *x = calloc(1, sizeof *x);
    struct sim_result result = {0};
    const struct sim_sched_config sched = {.strategy = (enum sim_strategy)sy_prng_below(p, 3),
                                           .slice = 4,
                                           .change_points = (uint32_t)sy_prng_range(p, 1, 6),
                                           .points_max = 10000000,
                                           .time_max_ns = 100ull * 1000000000u};
    struct sim_network_config net = {.memory_bytes = sizeof(struct board)};
    SY_ASSERT(x);
    x->seed = seed;
    x->nodes = x->left = net.nodes = (uint32_t)sy_prng_range(p, 1, NODES_MAX);
    x->rounds = (uint32_t)sy_prng_range(p, 2, 12);
    net.ordered = sy_prng_once_in(p, 4);
    net.delay_ns = (uint64_t)sy_prng_spread(p, 100, 100000);
    net.jitter_ns = (uint64_t)sy_prng_spread(p, 0, 1000000);
    net.bytes_per_us = (uint64_t)sy_prng_spread(p, 10, 50000);
    net.credits = (uint32_t)sy_prng_spread(p, 1, 32);
    sim_sched_open(&sched, seed, x->nodes);
    sim_network_open(&net);
    for (uint32_t i = 0; i < x->nodes; i++) {
        x->node[i].x = x;
        x->node[i].me = i;
        sim_spawn(NULL, i, SIM_HOST, node_main, x->node + i, "node");
    }
    sim_spawn(NULL, SIM_NOBODY, SIM_HOST, exchange_main, x, "exchange");
    sim_sched_run();
    result.good = !sim_violation.check;
    result.points = sim_points;
    result.virtual_ns = sim_now_ns();
    result.rounds = x->rounds;
    result.digest = sim_event_digest();
    if (!result.good) {
        sim_report_print();
        return result; /* what is left of it dies with this process */
    }
    sim_sched_close();
    free(x);
    return result;
}
