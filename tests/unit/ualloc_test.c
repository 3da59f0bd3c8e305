/* ualloc_test.c - the book of sy_alloc() (src/mem/ualloc.h) against a model that marks every unit
 * of the region: first fit, no overlap, nothing lost. */
#include <stdlib.h>

#include "base/os.h"
#include "check.h"
#include "mem/ualloc.h"
#include "prng.h"

#define UNIT 256
#define UNITS_MAX 600

/* The region, unit by unit: 0 or the piece that has it. */
struct model {
    uint64_t units;
    int unit[UNITS_MAX];
};

/* Where first fit puts so many units, or UINT64_MAX. */
static uint64_t first_fit(const struct model *m, uint64_t units)
{
    for (uint64_t at = 0; at + units <= m->units; at++) {
        uint64_t n = 0;
        while (n < units && !m->unit[at + n])
            n++;
        if (n == units)
            return at;
    }
    return UINT64_MAX;
}

static void mark(struct model *m, uint64_t at, uint64_t units, int piece)
{
    for (uint64_t i = 0; i < units; i++)
        m->unit[at + i] = piece;
}

struct piece {
    uint64_t offset, units;
};

static void one_run(uint64_t seed)
{
    struct sy_prng p = sy_prng_make(seed, 0);
    struct model m = {.units = (uint64_t)sy_prng_spread(&p, 0, UNITS_MAX)};
    uint64_t bytes = m.units * UNIT + (uint64_t)sy_prng_below(&p, UNIT);
    struct piece pieces[UNITS_MAX];
    struct sy_ualloc u;
    int count = 0, fills = (int)sy_prng_range(&p, 1, 3); /* of 4 steps take */
    CHECK(sy_ualloc_open(&u, bytes) == 0, "no book");
    for (int step = 0; step < 3000; step++) {
        if (sy_prng_below(&p, 4) < fills) {
            uint64_t want = (uint64_t)sy_prng_spread(&p, 1, (int64_t)bytes + UNIT);
            uint64_t units = (want + UNIT - 1) / UNIT, fit = first_fit(&m, units);
            uint64_t got = sy_ualloc_take(&u, want);
            CHECK(got == (fit == UINT64_MAX ? fit : fit * UNIT),
                  "seed %llu, step %d: %llu bytes at %llu, not %llu", (unsigned long long)seed,
                  step, (unsigned long long)want, (unsigned long long)got,
                  (unsigned long long)fit * UNIT);
            if (got == UINT64_MAX || check_state.failures)
                continue;
            pieces[count] = (struct piece){got, units};
            mark(&m, got / UNIT, units, ++count);
        } else if (count) {
            int which = (int)sy_prng_below(&p, count);
            uint64_t wrong = pieces[which].offset + UNIT / 2;
            CHECK(sy_ualloc_give(&u, wrong) == -1, "gave back the middle of a piece");
            CHECK(sy_ualloc_give(&u, pieces[which].offset) == 0,
                  "seed %llu, step %d: not taken back", (unsigned long long)seed, step);
            CHECK(sy_ualloc_give(&u, pieces[which].offset) == -1, "given back twice");
            mark(&m, pieces[which].offset / UNIT, pieces[which].units, 0);
            pieces[which] = pieces[--count];
        }
        if (check_state.failures)
            break;
    }
    CHECK((int)u.count == count, "%u pieces in the book, not %d", u.count, count);
    while (count)
        CHECK(sy_ualloc_give(&u, pieces[--count].offset) == 0, "a piece is lost");
    CHECK(m.units == 0 || sy_ualloc_take(&u, m.units * UNIT) == 0, "not all is free in the end");
    sy_ualloc_close(&u);
}

static void model_runs(void)
{
    for (uint64_t seed = 0; seed < 200 && !check_state.failures; seed++)
        one_run(seed);
}

static void edges(void)
{
    struct sy_ualloc u;
    CHECK(sy_ualloc_open(&u, 0) == 0, "an empty region");
    CHECK(sy_ualloc_take(&u, 1) == UINT64_MAX, "memory out of nothing");
    CHECK(sy_ualloc_give(&u, 0) == -1, "gave back what was never taken");
    sy_ualloc_close(&u);
    CHECK(sy_ualloc_open(&u, UNIT - 1) == 0, "a region of less than a unit");
    CHECK(sy_ualloc_take(&u, 1) == UINT64_MAX, "a unit out of less");
    sy_ualloc_close(&u);
    CHECK(sy_ualloc_open(&u, 10 * UNIT) == 0, "ten units");
    CHECK(sy_ualloc_take(&u, 0) == UINT64_MAX, "no bytes");
    CHECK(sy_ualloc_take(&u, 10 * UNIT + 1) == UINT64_MAX, "more than there is");
    CHECK(sy_ualloc_take(&u, UINT64_MAX) == UINT64_MAX, "all memory of the world");
    CHECK(sy_ualloc_take(&u, UINT64_MAX - UNIT + 2) == UINT64_MAX, "what wraps around");
    CHECK(sy_ualloc_take(&u, 10 * UNIT) == 0, "all of it");
    sy_ualloc_close(&u);
}

/* The book has a last line. */
static void full_book(void)
{
    struct sy_ualloc u;
    CHECK(sy_ualloc_open(&u, (SY_UALLOC_PIECES + 10ull) * UNIT) == 0, "no book");
    for (uint64_t i = 0; i < SY_UALLOC_PIECES; i++)
        CHECK(sy_ualloc_take(&u, 1) == i * UNIT, "piece %llu", (unsigned long long)i);
    CHECK(sy_ualloc_take(&u, 1) == UINT64_MAX, "a piece more than the book has lines");
    CHECK(sy_ualloc_give(&u, 5 * UNIT) == 0 && sy_ualloc_take(&u, 1) == 5 * UNIT,
          "a line that is free again");
    sy_ualloc_close(&u);
}

static void *no_memory(size_t bytes, size_t align)
{
    (void)bytes;
    (void)align;
    return NULL;
}

static void poor(void)
{
    struct sy_os os = sy_os_real;
    struct sy_ualloc u;
    os.alloc = no_memory;
    sy_os = &os;
    CHECK(sy_ualloc_open(&u, 1 << 20) == -1, "a book without paper");
    sy_os = &sy_os_real;
    sy_ualloc_close(&u);
}

int main(void)
{
    TEST(model_runs);
    TEST(edges);
    TEST(full_book);
    TEST(poor);
    return check_end();
}
