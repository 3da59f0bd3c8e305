/* aot_test.c - a library that was built with kernels in it (`make check-aot`), where there is no
 * run-time compiler: on the driver that is not there (cuda_fake.h), which takes the real binaries
 * and runs the CPU's kernels in their stead.
 *
 * In a library without such kernels: that it says so. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "check.h"
#include "cuda_fake.h"
#include "rounds.h"
#include "rt/jit.h"
#include "rt/jit_aot.h"

#define RANKS 2
#define TEXT 512

static sy_id id;
static sy_status status[RANKS];
static char problems[RANKS][TEXT];

/* hidden is in elements of F32. */
static void *one_rank(void *context)
{
    const int rank = (int)(intptr_t)context;
    sy_group_config config = {.size = sizeof config,
                              .boot = SY_BOOT_ID,
                              .id = id,
                              .rank = rank,
                              .ranks = RANKS,
                              .engine = SY_ENGINE_CUDA,
                              .experts = 16,
                              .topk_max = 8,
                              .tokens_max = 24,
                              .row_bytes_max = 14336};
    struct rounds r = {.rank = rank,
                       .ranks = RANKS,
                       .mode = SY_THROUGHPUT,
                       .layout = SY_TOKEN_MAJOR,
                       .topk = 8,
                       .experts = 16,
                       .hidden = 3584,
                       .tokens_max = 24};
    status[rank] = sy_group_create(&config, &r.group);
    if (status[rank] != SY_OK || rounds_open(&r, problems[rank])) {
        snprintf(problems[rank], TEXT, "%s", sy_last_error());
        return NULL;
    }
    rounds_fill(&r, 1, 20);
    status[rank] = rounds_run(&r, NULL);
    if (status[rank] != SY_OK)
        snprintf(problems[rank], TEXT, "%s", sy_last_error());
    else if (sy_stream_sync(r.group, NULL) != SY_OK || rounds_check(&r, problems[rank]))
        status[rank] = SY_SYSTEM;
    rounds_close(&r);
    sy_group_destroy(r.group);
    return NULL;
}

static void run_ranks(void)
{
    pthread_t threads[RANKS];
    memset(problems, 0, sizeof problems);
    fake_install();
    CHECK(sy_id_create(&id) == SY_OK, "%s", sy_last_error());
    for (int r = 0; r < RANKS; r++)
        if (pthread_create(threads + r, NULL, one_rank, (void *)(intptr_t)r))
            abort();
    for (int r = 0; r < RANKS; r++)
        pthread_join(threads[r], NULL);
    sy_id_discard(&id);
    CHECK(!fake_leak(), "%s are left", fake_leak());
}

static int kernels_for(int sm)
{
    int count = 0;
    for (const struct sy_aot *a = sy_aot_cubins; a->begin; a++)
        count += a->sm == sm;
    return count;
}

static void what_it_says(void)
{
    sy_engine_info info = {.size = sizeof info};
    char text[64];
    snprintf(text, sizeof text, "%d kernels built in", kernels_for(90));
    fake_install();
    CHECK(sy_engine_query(SY_ENGINE_CUDA, &info) == SY_OK, "%s", sy_last_error());
    if (kernels_for(90))
        CHECK(info.available && strstr(info.detail, text), "available %d: \"%s\", not \"%s\"",
              info.available, info.detail, text);
    else
        CHECK(!info.available && strstr(info.detail, "libnvrtc"), "available %d: \"%s\"",
              info.available, info.detail);
}

/* Binaries for this GPU, each with its entry point. */
static void binaries(void)
{
    for (const struct sy_aot *a = sy_aot_cubins; a->begin; a++)
        CHECK(a->end - a->begin > 1000 && !memcmp(a->begin, "\177ELF", 4) &&
                  memmem(a->begin, (size_t)(a->end - a->begin), "sy_entry_", 9),
              "kernel %d is no binary", (int)(a - sy_aot_cubins));
}

static void groups(const char *jit)
{
    struct sy_jit_counts before = sy_jit_counts(), after;
    setenv("SY_JIT", jit, 1);
    run_ranks();
    after = sy_jit_counts();
    for (int r = 0; r < RANKS; r++)
        CHECK(status[r] == SY_OK, "SY_JIT=%s, rank %d: %s", jit, r, problems[r]);
    CHECK(after.built_in > before.built_in && after.compiled == before.compiled &&
              after.from_disk == before.from_disk,
          "SY_JIT=%s: %d kernels were built in, %d compiled", jit,
          (int)(after.built_in - before.built_in), (int)(after.compiled - before.compiled));
    unsetenv("SY_JIT");
}

/* Top-8 of rows of 14336 bytes is a common shape, which has kernels of its own. */
static void kernels_of_the_library(void)
{
    if (!kernels_for(90))
        SKIP("this library has no kernels in it; `make check-aot` builds one");
    binaries();
    groups("0");
    groups("1");
}

/* A GPU that it has no kernels for. */
static void another_gpu(void)
{
    fake.major = 11;
    run_ranks();
    fake.major = 9;
    for (int r = 0; r < RANKS; r++)
        CHECK(status[r] == SY_UNSUPPORTED && strstr(problems[r], "libnvrtc"), "rank %d: %s: %s", r,
              sy_status_name(status[r]), problems[r]);
}

int main(void)
{
    setenv("SY_CACHE", "0", 1);
    fake.no_compiler = 1;
    TEST(what_it_says);
    TEST(kernels_of_the_library);
    TEST(another_gpu);
    fake_close_pools();
    return check_end();
}
