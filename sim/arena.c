/* arena.c - see model.h: one range of addresses, so that the place of a cell is a sum. */
#define _GNU_SOURCE /* MAP_NORESERVE, madvise */
#include <string.h>
#include <sys/mman.h>

#include "base/verify.h"
#include "model.h"

#define PAGE ((size_t)1 << SIM_PAGE_SHIFT)
#define PRIVATE_RUN (4 * PAGE)
#define MARGIN 64u /* around private objects */

uint8_t *sim_arena;
struct sim_page *sim_pages;
struct sim_cell *sim_cells;

static size_t used; /* bytes, whole pages */

/* Where the next private object of a rank goes. */
struct run {
    uint8_t *next, *end;
};
static struct run *runs; /* by rank */
static uint32_t runs_room;

static void *reserve(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    SY_ASSERT(at != MAP_FAILED);
    return at;
}

void sim_arena_open(void)
{
    SY_ASSERT(sizeof(struct sim_cell) == 32);
    sim_arena = reserve(SIM_ARENA_BYTES);
    sim_cells = reserve(SIM_ARENA_BYTES / 4 * sizeof *sim_cells);
    sim_pages = reserve((SIM_ARENA_BYTES >> SIM_PAGE_SHIFT) * sizeof *sim_pages);
    runs_room = 65536;
    runs = reserve(runs_room * sizeof *runs);
}

void sim_arena_reset(void)
{
    madvise(sim_arena, used, MADV_DONTNEED);
    madvise(sim_cells, used / 4 * sizeof *sim_cells, MADV_DONTNEED);
    memset(sim_pages, 0, (used >> SIM_PAGE_SHIFT) * sizeof *sim_pages);
    madvise(runs, runs_room * sizeof *runs, MADV_DONTNEED);
    used = 0;
}

uint64_t sim_arena_used(void)
{
    return used;
}

static uint8_t *take_pages(uint32_t rank, enum sim_place place, uint8_t block, size_t bytes)
{
    uint8_t *at = sim_arena + used;
    size_t pages = (bytes + PAGE - 1) >> SIM_PAGE_SHIFT;
    struct sim_page *page = sim_pages + (used >> SIM_PAGE_SHIFT);
    SY_ASSERT(rank < runs_room && used + pages * PAGE <= SIM_ARENA_BYTES);
    for (size_t i = 0; i < pages; i++)
        page[i] = (struct sim_page){(uint16_t)rank, (uint8_t)place, block};
    used += pages * PAGE;
    return at;
}

static uint8_t *take_private(uint32_t rank, size_t bytes)
{
    struct run *r = runs + rank;
    size_t need = 256 + (bytes + MARGIN + 255) / 256 * 256;
    uint8_t *at;
    if (!r->next || (size_t)(r->end - r->next) < need) {
        size_t run = need > PRIVATE_RUN ? (need + PAGE - 1) / PAGE * PAGE : PRIVATE_RUN;
        r->next = take_pages(rank, SIM_PRIVATE, 0, run);
        r->end = r->next + run;
    }
    at = r->next + 256;
    r->next += need;
    sim_forbid(at - MARGIN, MARGIN);
    sim_forbid(at + (bytes + 3) / 4 * 4, MARGIN);
    return at;
}

void *sim_take(uint32_t rank, enum sim_place place, uint8_t block, size_t bytes,
               enum sim_contents contents)
{
    uint8_t *at;
    bytes = bytes ? bytes : 1;
    at = place == SIM_PRIVATE ? take_private(rank, bytes) : take_pages(rank, place, block, bytes);
    if (contents == SIM_GARBAGE) {
        for (size_t i = 0; i < bytes; i++)
            at[i] = (uint8_t)(0xa5 ^ i * 7);
        sim_forget(at, bytes);
    }
    return at;
}

void sim_give(void *memory, size_t bytes)
{
    if (memory)
        sim_forbid(memory, bytes ? bytes : 1);
}
