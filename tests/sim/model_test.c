/* model_test.c - the simulator's models of memory and of the network, by litmus tests: what must
 * never be seen is not, and what is allowed is seen for some seed.
 *
 * A litmus is two or three functions that run as warps of different ranks. Its words and data lie
 * in the ranks' heaps. */
#include <stdlib.h>

#include "base/verify.h"
#include "check.h"
#include "engine.h"
#include "network.h"
#include "sim_prims.h"
#include "system.h"
#include "world.h"

#define SEEDS 300
#define RANKS 3u
#define HEAP 4096u

/* --- what engine.c and rules.c have in the simulator ------------------------------------------ */

const char *const sim_kernel_names[SY_KERNELS] = {"litmus"};

const struct sy_dev *sim_dev_at(uint32_t rank, const uint8_t *p)
{
    (void)rank;
    (void)p;
    return NULL;
}

const struct sy_dev *sim_dev_of(uint32_t rank)
{
    (void)rank;
    return NULL;
}

const struct sy_dev_route *sim_route_at(uint32_t rank, const uint8_t *p)
{
    (void)rank;
    (void)p;
    return NULL;
}

uint32_t sim_host_slot(uint32_t rank)
{
    return rank;
}

uint32_t sim_host_count(uint32_t rank)
{
    return rank;
}

const char *sim_slot_name(uint32_t slot, char text[SIM_WHERE])
{
    snprintf(text, SIM_WHERE, "slot %u", slot);
    return text;
}

void sim_rule_read(const struct sim_warp *w, uint32_t rank, const void *p, size_t bytes,
                   const struct sim_cell *cell)
{
    (void)w;
    (void)rank;
    (void)p;
    (void)bytes;
    (void)cell;
}

void sim_rule_write(const struct sim_warp *w, uint32_t rank, const void *p, size_t bytes)
{
    (void)w;
    (void)rank;
    (void)p;
    (void)bytes;
}

void sim_rule_word(uint32_t rank, const void *p, uint64_t before, uint64_t after)
{
    (void)rank;
    (void)p;
    (void)before;
    (void)after;
}

/* --- a litmus --------------------------------------------------------------------------------- */

struct litmus {
    void (*run[RANKS])(struct sy_ctx *c, sy_u8 *const *heap);
    uint32_t warps; /* of rank 0's block; the others have one */
};

static struct {
    const struct litmus *l;
    uint8_t *heap[RANKS];
    sy_u8 *peers[RANKS];
    struct sy_dev dev[RANKS];
    struct sim_launch launch[RANKS];
    struct sim_block block[RANKS];
    struct sim_warp warp[RANKS][2];
    uint64_t seen[4]; /* what a litmus notes */
} world;

static void warp_main(void *context)
{
    struct sim_warp *w = context;
    world.l->run[w->rank](&w->c, (sy_u8 *const *)world.peers);
    sim_warp_end(w);
}

static void begin_rank(uint32_t r, uint32_t warps)
{
    struct sim_clock none;
    world.heap[r] = sim_take(r, SIM_HEAP, 0, HEAP, SIM_DEFINED);
    world.peers[r] = world.heap[r];
    world.dev[r] = (struct sy_dev){.rank = r,
                                   .ranks = RANKS,
                                   .heap = world.heap[r],
                                   .peers = world.peers,
                                   .heap_bytes = HEAP,
                                   .timeout_ns = 1000000};
    /* The stop word is at the end; everything before it is the caller's. */
    world.dev[r].at = (struct sy_heap_layout){.stop = HEAP - 64};
    world.launch[r] =
        (struct sim_launch){.id = 1, .rank = r, .channel = SY_CHANNELS, .d = &world.dev[r]};
    world.block[r] = (struct sim_block){.warps = warps, .live = warps};
    world.block[r].shared = sim_take(r, SIM_SHARED, 0, 1024, SIM_DEFINED);
    sim_clock_init(&none);
    for (uint32_t i = 0; i < warps; i++) {
        struct sim_warp *w = &world.warp[r][i];
        sim_warp_init(w, r, 1 + (r * 2 + i) * SIM_SLOTS_OF_WARP);
        w->launch = &world.launch[r];
        w->block = &world.block[r];
        world.block[r].warp[i] = w;
        w->c = (struct sy_ctx){
            .blocks = 1, .warp = i, .warps = warps, .shared = world.block[r].shared};
        sim_warp_begin(w, &none, &none);
        w->task = sim_spawn(NULL, r, SIM_WARP, warp_main, w, "litmus");
        w->task->warp = w;
    }
    sim_clock_free(&none);
}

/* Runs one seed. Returns what was violated. */
static enum sim_check run_seed(const struct litmus *l, uint64_t seed)
{
    const struct sim_sched_config sched = {.strategy = (enum sim_strategy)(seed % 2),
                                           .slice = 1 + (uint32_t)(seed / 2 % 3) * 4,
                                           .change_points = 0,
                                           .points_max = 1000000,
                                           .time_max_ns = 1000000000};
    const struct sim_weak_config weak = {(uint32_t)(seed % 5) * 8, (uint32_t)(seed % 3) * 8};
    memset(&world, 0, sizeof world);
    world.l = l;
    sim_report_open(0);
    sim_sched_open(&sched, seed, RANKS);
    sim_clocks_open(1 + RANKS * 2 * SIM_SLOTS_OF_WARP);
    sim_weak_open(&weak, RANKS);
    for (uint32_t r = 0; r < RANKS; r++)
        if (l->run[r])
            begin_rank(r, r ? 1 : l->warps);
    sim_sched_run();
    sim_weak_close();
    for (uint32_t r = 0; r < RANKS; r++)
        for (uint32_t i = 0; i < (r ? 1 : l->warps) && l->run[r]; i++) {
            sim_warp_free(&world.warp[r][i]);
            free(world.warp[r][i].buffer.store);
        }
    sim_clocks_close();
    sim_sched_close();
    sim_arena_reset();
    return sim_violation.check;
}

/* Seeds that violate `check`; every other violation is a failure of the test. */
static int violations(const struct litmus *l, enum sim_check check)
{
    int n = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        enum sim_check got = run_seed(l, seed);
        n += got == check && got;
        CHECK(got == SIM_CHECK_NONE || got == check, "seed %d: %s: %s", (int)seed,
              sim_check_names[got], sim_violation.text);
    }
    return n;
}

/* Seeds after which seen[0] is `value`. */
static int sightings(const struct litmus *l, uint64_t value)
{
    int n = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        CHECK(run_seed(l, seed) == SIM_CHECK_NONE, "seed %d: %s", (int)seed, sim_violation.text);
        n += world.seen[0] == value;
    }
    return n;
}

/* --- message passing -------------------------------------------------------------------------- */

/* Rank 1's heap: data at 0, a word at 64, a counter at 128. */
static void nobody(struct sy_ctx *c, sy_u8 *const *heap)
{
    (void)c;
    (void)heap;
}

static void put_data(sy_u8 *const *heap, uint32_t v)
{
    struct sy_v16 data = {{v, v, v, v}};
    sy_put16(heap[1], data);
}

static void await(struct sy_ctx *c, const sy_u64 *word, int acquire)
{
    while (!(acquire ? sy_peek64(word) : sy_glance64(word)))
        sy_pause(c);
}

static void send_fenced(struct sy_ctx *c, sy_u8 *const *heap)
{
    put_data(heap, 7);
    sy_fence_publish(c);
    sy_put64((sy_u64 *)(heap[1] + 64), 1);
}

static void send_unfenced(struct sy_ctx *c, sy_u8 *const *heap)
{
    (void)c;
    put_data(heap, 7);
    sy_put64((sy_u64 *)(heap[1] + 64), 1);
}

static void send_rank_fenced(struct sy_ctx *c, sy_u8 *const *heap)
{
    put_data(heap, 7);
    sy_fence_device(c);
    sy_put64((sy_u64 *)(heap[1] + 64), 1);
}

static void take_acquired(struct sy_ctx *c, sy_u8 *const *heap)
{
    await(c, (const sy_u64 *)(heap[1] + 64), 1);
    world.seen[0] = sy_get32(heap[1] + 12);
}

static void take_glanced(struct sy_ctx *c, sy_u8 *const *heap)
{
    await(c, (const sy_u64 *)(heap[1] + 64), 0);
    world.seen[0] = sy_get32(heap[1] + 12);
}

static void take_glanced_fenced(struct sy_ctx *c, sy_u8 *const *heap)
{
    await(c, (const sy_u64 *)(heap[1] + 64), 0);
    sy_fence_publish(c);
    world.seen[0] = sy_get32(heap[1] + 12);
}

static void a_fenced_message_is_whole(void)
{
    const struct litmus l = {{send_fenced, take_acquired}, 1};
    CHECK(sightings(&l, 7) == SEEDS, "the data did not come with its word");
}

static void a_fence_after_a_glance_acquires(void)
{
    const struct litmus l = {{send_fenced, take_glanced_fenced}, 1};
    CHECK(sightings(&l, 7) == SEEDS, "the data did not come with its word");
}

static void a_message_without_fence_is_a_race(void)
{
    const struct litmus l = {{send_unfenced, take_acquired}, 1};
    CHECK(violations(&l, SIM_CHECK_RACE) == SEEDS, "not found in every seed");
}

static void a_fence_for_the_rank_does_not_reach_peers(void)
{
    const struct litmus l = {{send_rank_fenced, take_acquired}, 1};
    CHECK(violations(&l, SIM_CHECK_RACE) == SEEDS, "not found in every seed");
}

static void a_glance_does_not_acquire(void)
{
    const struct litmus l = {{send_fenced, take_glanced}, 1};
    CHECK(violations(&l, SIM_CHECK_RACE) == SEEDS, "not found in every seed");
}

/* --- words ------------------------------------------------------------------------------------ */

static void two_words(struct sy_ctx *c, sy_u8 *const *heap)
{
    (void)c;
    sy_put64((sy_u64 *)(heap[1] + 192), 1);
    sy_put64((sy_u64 *)(heap[1] + 64), 1);
}

static void two_words_fenced(struct sy_ctx *c, sy_u8 *const *heap)
{
    sy_put64((sy_u64 *)(heap[1] + 192), 1);
    sy_fence_publish(c);
    sy_put64((sy_u64 *)(heap[1] + 64), 1);
}

static void look_at_both(struct sy_ctx *c, sy_u8 *const *heap)
{
    await(c, (const sy_u64 *)(heap[1] + 64), 1);
    world.seen[0] = sy_peek64((const sy_u64 *)(heap[1] + 192));
}

static void words_overtake_each_other(void)
{
    const struct litmus l = {{two_words, look_at_both}, 1};
    int n = sightings(&l, 0);
    CHECK(n > 0 && n < SEEDS, "the first word was late in %d of %d seeds", n, SEEDS);
}

static void but_not_across_a_fence(void)
{
    const struct litmus l = {{two_words_fenced, look_at_both}, 1};
    CHECK(sightings(&l, 0) == 0, "a word overtook a fence");
}

/* Store buffers: each writes its word and reads the other's. */
static void flag_0(struct sy_ctx *c, sy_u8 *const *heap)
{
    (void)c;
    sy_put64((sy_u64 *)(heap[1] + 64), 1);
    world.seen[1] = sy_peek64((const sy_u64 *)(heap[0] + 64));
    world.seen[0] = world.seen[1] + world.seen[2];
}

static void flag_1(struct sy_ctx *c, sy_u8 *const *heap)
{
    (void)c;
    sy_put64((sy_u64 *)(heap[0] + 64), 1);
    world.seen[2] = sy_peek64((const sy_u64 *)(heap[1] + 64));
    world.seen[0] = world.seen[1] + world.seen[2];
}

static void stores_wait_in_buffers(void)
{
    const struct litmus l = {{flag_0, flag_1}, 1};
    int n = sightings(&l, 0);
    CHECK(n > 0 && n < SEEDS, "both were late in %d of %d seeds", n, SEEDS);
}

/* A counter that two ranks add to: who sees the sum has the data of both. */
static void add_0(struct sy_ctx *c, sy_u8 *const *heap)
{
    put_data(heap, 7);
    sy_fence_publish(c);
    sy_signal_add((sy_u32 *)(heap[1] + 128), 1);
}

static void add_2(struct sy_ctx *c, sy_u8 *const *heap)
{
    struct sy_v16 data = {{5, 5, 5, 5}};
    sy_put16(heap[1] + 16, data);
    sy_fence_publish(c);
    sy_signal_add((sy_u32 *)(heap[1] + 128), 1);
}

static void take_sum(struct sy_ctx *c, sy_u8 *const *heap)
{
    while (sy_peek((const sy_u32 *)(heap[1] + 128)) < 2)
        sy_pause(c);
    world.seen[0] = sy_get32(heap[1]) + sy_get32(heap[1] + 16);
}

static void a_sum_brings_the_data_of_all(void)
{
    const struct litmus l = {{add_0, take_sum, add_2}, 1};
    CHECK(sightings(&l, 12) == SEEDS, "a part was missing");
}

/* --- cumulative: a warp's stores, another warp's fence ---------------------------------------- */

static void hand_over(struct sy_ctx *c, sy_u8 *const *heap)
{
    sy_u32 *word = (sy_u32 *)c->shared;
    if (c->warp == 0) {
        put_data(heap, 7);
        sy_store_shared(word, 1);
        return;
    }
    while (!sy_load_shared(word))
        sy_pause(c);
    sy_fence_publish(c);
    sy_put64((sy_u64 *)(heap[1] + 64), 1);
}

static void a_fence_covers_what_its_warp_has_seen(void)
{
    const struct litmus l = {{hand_over, take_acquired}, 2};
    CHECK(sightings(&l, 7) == SEEDS, "the other warp's data did not come");
}

static void sync_and_read(struct sy_ctx *c, sy_u8 *const *heap)
{
    struct sy_v16 data = {{9, 9, 9, 9}};
    if (c->warp == 0)
        sy_put16(heap[0], data);
    sy_block_sync(c);
    if (c->warp == 1)
        world.seen[0] = sy_get32(heap[0]);
}

static void a_barrier_makes_stores_visible_to_the_block(void)
{
    const struct litmus l = {{sync_and_read}, 2};
    CHECK(sightings(&l, 9) == SEEDS, "a store was not there behind the barrier");
}

/* --- causes and effects over three ranks, and one place --------------------------------------- */

/* Rank 0 tells rank 2, which tells rank 1. */
static void tell_2(struct sy_ctx *c, sy_u8 *const *heap)
{
    put_data(heap, 7);
    sy_fence_publish(c);
    sy_put64((sy_u64 *)(heap[2] + 64), 1);
}

static void pass_on(struct sy_ctx *c, sy_u8 *const *heap)
{
    await(c, (const sy_u64 *)(heap[2] + 64), 1);
    sy_fence_publish(c);
    sy_put64((sy_u64 *)(heap[1] + 64), 1);
}

static void pass_on_unfenced(struct sy_ctx *c, sy_u8 *const *heap)
{
    await(c, (const sy_u64 *)(heap[2] + 64), 1);
    sy_put64((sy_u64 *)(heap[1] + 64), 1);
}

static void a_message_passed_on_is_whole(void)
{
    const struct litmus l = {{tell_2, take_acquired, pass_on}, 1};
    CHECK(sightings(&l, 7) == SEEDS, "the data did not come");
}

static void a_message_passed_on_without_fence_is_a_race(void)
{
    const struct litmus l = {{tell_2, take_acquired, pass_on_unfenced}, 1};
    CHECK(violations(&l, SIM_CHECK_RACE) == SEEDS, "not found in every seed");
}

static void one_place_twice(struct sy_ctx *c, sy_u8 *const *heap)
{
    (void)c;
    sy_put64((sy_u64 *)(heap[1] + 64), 1);
    sy_put64((sy_u64 *)(heap[1] + 64), 2);
}

static void look_twice(struct sy_ctx *c, sy_u8 *const *heap)
{
    sy_u64 first = sy_glance64((const sy_u64 *)(heap[1] + 64));
    (void)c;
    world.seen[0] = first > sy_glance64((const sy_u64 *)(heap[1] + 64));
}

static void a_word_does_not_go_back(void)
{
    const struct litmus l = {{one_place_twice, look_twice}, 1};
    CHECK(sightings(&l, 0) == SEEDS, "a word went back");
}

/* --- writing what was read -------------------------------------------------------------------- */

static void read_and_answer(struct sy_ctx *c, sy_u8 *const *heap)
{
    world.seen[1] = sy_get32(heap[1]);
    sy_fence_publish(c);
    sy_put64((sy_u64 *)(heap[0] + 64), 1);
}

static void write_when_told(struct sy_ctx *c, sy_u8 *const *heap)
{
    await(c, (const sy_u64 *)(heap[0] + 64), 1);
    put_data(heap, 7);
    world.seen[0] = world.seen[1];
}

static void write_at_once(struct sy_ctx *c, sy_u8 *const *heap)
{
    (void)c;
    put_data(heap, 7);
}

static void what_was_read_may_be_written(void)
{
    const struct litmus l = {{write_when_told, read_and_answer}, 1};
    CHECK(sightings(&l, 0) == SEEDS, "the reader saw what came later");
}

static void what_may_still_be_read_may_not(void)
{
    const struct litmus l = {{write_at_once, read_and_answer}, 1};
    CHECK(violations(&l, SIM_CHECK_RACE) == SEEDS, "not found in every seed");
}

static void two_writers(void)
{
    const struct litmus l = {{write_at_once, nobody, write_at_once}, 1};
    CHECK(violations(&l, SIM_CHECK_RACE) == SEEDS, "not found in every seed");
}

static void read_what_is_not_there(struct sy_ctx *c, sy_u8 *const *heap)
{
    (void)c;
    sim_forget(heap[0] + 512, 64);
    world.seen[1] = sy_get32(heap[0] + 512);
}

static void read_beyond(struct sy_ctx *c, sy_u8 *const *heap)
{
    (void)c;
    sim_forbid(heap[0] + 512, 64);
    world.seen[1] = sy_get32(heap[0] + 512);
}

static void what_nobody_wrote_is_stale(void)
{
    const struct litmus l = {{read_what_is_not_there}, 1};
    CHECK(violations(&l, SIM_CHECK_STALE) == SEEDS, "not found in every seed");
}

static void what_is_no_object_is_out_of_bounds(void)
{
    const struct litmus l = {{read_beyond}, 1};
    CHECK(violations(&l, SIM_CHECK_BOUNDS) == SEEDS, "not found in every seed");
}

/* --- bulk copies ------------------------------------------------------------------------------ */

static void fill_stage(struct sy_ctx *c, sy_u32 with)
{
    struct sy_v16 v = {{with, with, with, with}};
    for (uint32_t i = 0; i < 4; i++)
        sy_put16(c->shared + 256 + i * 16, v);
}

static void copy_done(struct sy_ctx *c, sy_u8 *const *heap)
{
    fill_stage(c, 3);
    sy_fence_bulk(c);
    sy_store_bulk(c, heap[1], c->shared + 256, 64);
    sy_store_commit(c);
    SY_STORE_WAIT_DONE(c, 0);
    sy_fence_publish(c);
    sy_put64((sy_u64 *)(heap[1] + 64), 1);
}

static void copy_signalled_early(struct sy_ctx *c, sy_u8 *const *heap)
{
    fill_stage(c, 3);
    sy_fence_bulk(c);
    sy_store_bulk(c, heap[1], c->shared + 256, 64);
    sy_store_commit(c);
    sy_fence_publish(c);
    sy_put64((sy_u64 *)(heap[1] + 64), 1);
    SY_STORE_WAIT_DONE(c, 0);
}

static void copy_unfenced(struct sy_ctx *c, sy_u8 *const *heap)
{
    fill_stage(c, 3);
    sy_store_bulk(c, heap[1], c->shared + 256, 64);
    sy_store_commit(c);
    SY_STORE_WAIT_DONE(c, 0);
}

static void stage_used_again(struct sy_ctx *c, sy_u8 *const *heap)
{
    fill_stage(c, 3);
    sy_fence_bulk(c);
    sy_store_bulk(c, heap[1], c->shared + 256, 64);
    sy_store_commit(c);
    fill_stage(c, 4);
    SY_STORE_WAIT_DONE(c, 0);
}

static void load_and_read(struct sy_ctx *c, sy_u8 *const *heap)
{
    sy_gate *gate = (sy_gate *)c->shared;
    sy_gate_init(c, gate);
    sy_load_expect(c, gate, 64);
    sy_load_bulk(c, gate, c->shared + 256, heap[0] + 512, 64);
    while (!sy_load_ready(c, gate, 0))
        sy_pause(c);
    world.seen[0] = *(const sy_u32 *)(c->shared + 256 + 60);
    (void)heap;
}

static void a_copy_that_is_done_is_whole(void)
{
    const struct litmus l = {{copy_done, take_acquired}, 1};
    CHECK(sightings(&l, 3) == SEEDS, "the copy was not there");
}

static void a_copy_signalled_early_is_a_race(void)
{
    const struct litmus l = {{copy_signalled_early, take_acquired}, 1};
    CHECK(violations(&l, SIM_CHECK_RACE) == SEEDS, "not found in every seed");
}

static void a_copy_needs_its_own_fence(void)
{
    const struct litmus l = {{copy_unfenced, nobody}, 1};
    CHECK(violations(&l, SIM_CHECK_COPY) == SEEDS, "not found in every seed");
}

static void a_stage_is_busy_until_it_is_read(void)
{
    const struct litmus l = {{stage_used_again, nobody}, 1};
    CHECK(violations(&l, SIM_CHECK_RACE) == SEEDS, "not found in every seed");
}

static void a_load_ends_at_its_gate(void)
{
    const struct litmus l = {{load_and_read, nobody}, 1};
    CHECK(sightings(&l, 0) == SEEDS, "the load brought something else");
}

/* --- waiting ---------------------------------------------------------------------------------- */

static void wait_for_ever(struct sy_ctx *c, sy_u8 *const *heap)
{
    sy_u64 since = sy_now_ns(c);
    while (!sy_peek64((const sy_u64 *)(heap[0] + 64)))
        sy_pause(c);
    world.seen[0] = sy_now_ns(c) - since;
}

static void a_wait_without_end_is_found(void)
{
    const struct litmus l = {{wait_for_ever, nobody}, 1};
    CHECK(violations(&l, SIM_CHECK_LIVE) == SEEDS, "not found in every seed");
}

/* --- the network ------------------------------------------------------------------------------ */

#define PUTS 20u

/* Node 1's memory. */
struct board {
    uint64_t words[PUTS], arrived;
    uint8_t rows[PUTS][200];
};

static struct {
    int ordered, greedy; /* greedy: node 0 does not look at its credits */
    uint32_t nodes_left;
    uint64_t overtaken, torn, early, began_ns, ended_ns;
} net;

static void send_all(void *context)
{
    uint8_t row[200];
    (void)context;
    net.began_ns = sim_now_ns();
    for (uint64_t i = 0; i < PUTS; i++) {
        const uint64_t word = i + 1;
        struct sim_put of_word = {.to = 1, .at = i * 8, .data = &word, .bytes = 8};
        struct sim_put of_row = {.to = 1,
                                 .at = offsetof(struct board, rows) + i * sizeof row,
                                 .data = row,
                                 .bytes = sizeof row,
                                 .signal_at = offsetof(struct board, arrived),
                                 .amount = 1};
        memset(row, (int)i + 1, sizeof row);
        while (!net.greedy && sim_network_flying(0, 1) + 2 > sim_network_credits())
            sim_network_wait(0);
        sim_network_put(&of_word);
        sim_network_put(&of_row);
    }
    net.nodes_left--;
}

/* What is there now: no word before an earlier one if links are ordered, no more rows than
 * arrived are announced. */
static void look(const struct board *b)
{
    uint64_t rows = 0;
    for (uint32_t i = 1; i < PUTS; i++)
        net.overtaken += b->words[i] && !b->words[i - 1];
    for (uint32_t i = 0; i < PUTS; i++) {
        uint32_t whole = 0;
        for (uint32_t k = 0; k < sizeof b->rows[i]; k++)
            whole += b->rows[i][k] == i + 1;
        rows += whole == sizeof b->rows[i];
        net.torn += whole && whole < sizeof b->rows[i];
    }
    net.early += b->arrived > rows;
}

static void take_all(void *context)
{
    const struct board *b = (const struct board *)(const void *)sim_network_memory(1);
    (void)context;
    for (look(b); b->arrived < PUTS; look(b))
        sim_network_wait(1);
    net.ended_ns = sim_now_ns();
    net.nodes_left--;
}

static void end_network(void *context)
{
    (void)context;
    while (net.nodes_left)
        sim_park(sim_now_ns() + 1000000, "the nodes");
    sim_network_close();
}

/* Returns the virtual time that it took. */
static uint64_t run_network(uint64_t seed, int ordered, int greedy)
{
    const struct sim_sched_config sched = {
        .strategy = SIM_RANDOM, .slice = 4, .points_max = 1000000, .time_max_ns = 10000000000};
    const struct sim_network_config config = {.nodes = 2,
                                              .memory_bytes = sizeof(struct board),
                                              .ordered = ordered,
                                              .delay_ns = 5000,
                                              .jitter_ns = 20000,
                                              .bytes_per_us = 1000,
                                              .credits = 6};
    memset(&net, 0, sizeof net);
    net.greedy = greedy;
    net.nodes_left = 2;
    sim_report_open(0);
    sim_sched_open(&sched, seed, 2);
    sim_network_open(&config);
    sim_spawn(NULL, 0, SIM_HOST, send_all, NULL, "sender");
    sim_spawn(NULL, 1, SIM_HOST, take_all, NULL, "receiver");
    sim_spawn(NULL, SIM_NOBODY, SIM_HOST, end_network, NULL, "end");
    sim_sched_run();
    if (sim_violation.check)
        sim_network_free();
    sim_sched_close();
    return net.ended_ns - net.began_ns;
}

static void an_ordered_network_keeps_the_order(void)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        run_network(seed, 1, 0);
        CHECK(!sim_violation.check && !net.overtaken && !net.early, "seed %d: %s", (int)seed,
              sim_violation.text);
    }
}

static void an_unordered_network_does_not(void)
{
    int overtaken = 0, torn = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        run_network(seed, 0, 0);
        CHECK(!sim_violation.check && !net.early, "seed %d: %s", (int)seed, sim_violation.text);
        overtaken += net.overtaken > 0;
        torn += net.torn > 0;
    }
    CHECK(overtaken > SEEDS / 2 && torn > SEEDS / 2,
          "words overtook others in %d of %d seeds, rows were torn in %d", overtaken, SEEDS, torn);
}

/* 20 rows of 200 bytes, each in 4 packets, at 1,000 bytes a microsecond at most. */
static void links_have_delay_and_bandwidth(void)
{
    uint64_t least = UINT64_MAX, most = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        uint64_t took = run_network(seed, 1, 0);
        least = took < least ? took : least;
        most = took > most ? took : most;
    }
    CHECK(least >= 5000 + PUTS * 264, "all was there after %llu ns", (unsigned long long)least);
    CHECK(most > 2 * least, "all links are alike: %llu and %llu ns", (unsigned long long)least,
          (unsigned long long)most);
}

static void a_link_takes_no_more_than_its_credits(void)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        run_network(seed, 0, 1);
        CHECK(sim_violation.check == SIM_CHECK_COPY, "seed %d: nobody noticed", (int)seed);
    }
}

int main(void)
{
    sim_arena_open();
    TEST(a_fenced_message_is_whole);
    TEST(a_fence_after_a_glance_acquires);
    TEST(a_message_without_fence_is_a_race);
    TEST(a_fence_for_the_rank_does_not_reach_peers);
    TEST(a_glance_does_not_acquire);
    TEST(words_overtake_each_other);
    TEST(but_not_across_a_fence);
    TEST(stores_wait_in_buffers);
    TEST(a_sum_brings_the_data_of_all);
    TEST(a_fence_covers_what_its_warp_has_seen);
    TEST(a_barrier_makes_stores_visible_to_the_block);
    TEST(a_message_passed_on_is_whole);
    TEST(a_message_passed_on_without_fence_is_a_race);
    TEST(a_word_does_not_go_back);
    TEST(what_was_read_may_be_written);
    TEST(what_may_still_be_read_may_not);
    TEST(two_writers);
    TEST(what_nobody_wrote_is_stale);
    TEST(what_is_no_object_is_out_of_bounds);
    TEST(a_copy_that_is_done_is_whole);
    TEST(a_copy_signalled_early_is_a_race);
    TEST(a_copy_needs_its_own_fence);
    TEST(a_stage_is_busy_until_it_is_read);
    TEST(a_load_ends_at_its_gate);
    TEST(a_wait_without_end_is_found);
    TEST(an_ordered_network_keeps_the_order);
    TEST(an_unordered_network_does_not);
    TEST(links_have_delay_and_bandwidth);
    TEST(a_link_takes_no_more_than_its_credits);
    return check_end();
}
