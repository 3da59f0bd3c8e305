/* bench_world.c - see bench_world.h. Sections: failing | the meeting | windows. */
#define _GNU_SOURCE /* memfd_create */
#include "bench_world.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"
#include "tool.h"

/* --- failing -------------------------------------------------------------------------------- */

static char failure[1024];

int bench_fail(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(failure, sizeof failure, format, ap);
    va_end(ap);
    return -1;
}

int bench_fail_errno(const char *what)
{
    return bench_fail("%s: %s", what, strerror(errno));
}

int bench_check(sy_status status, const char *what)
{
    if (status == SY_OK)
        return 0;
    return bench_fail("%s: %s: %s", what, sy_status_name(status), sy_last_error());
}

const char *bench_failure(void)
{
    return failure;
}

void *bench_alloc(size_t bytes)
{
    void *p = NULL;
    bytes = (bytes + 255) / 256 * 256;
    bytes = bytes ? bytes : 256;
    if (posix_memalign(&p, 256, bytes)) {
        bench_fail("no memory for %zu bytes", bytes);
        return NULL;
    }
    memset(p, 0, bytes);
    return p;
}

/* --- the meeting ---------------------------------------------------------------------------- */

static sy_group_config meeting_config(int32_t ranks, uint64_t timeout_ns)
{
    sy_group_config config = {.size = sizeof config,
                              .boot = SY_BOOT_ENV,
                              .engine = SY_ENGINE_CPU,
                              .modes = SY_THROUGHPUT,
                              .experts = ranks,
                              .topk_max = ranks,
                              .tokens_max = 1,
                              .row_bytes_max = WORLD_BYTES,
                              .cpu_threads = 1,
                              .timeout_ns = timeout_ns};
    return config;
}

/* Who are we? The library reads the launcher's environment, and tells in the info of a group; a
 * group with one expert can be made by any number of ranks. */
static int ask_ranks(struct world *w)
{
    sy_group_config config = meeting_config(1, w->timeout_ns);
    sy_group_info info = {.size = sizeof info};
    sy_group *group;
    int bad;
    if (bench_check(sy_group_create(&config, &group), "finding the other ranks"))
        return -1;
    bad = bench_check(sy_group_info_get(group, &info), "sy_group_info_get") ||
          bench_check(sy_group_barrier(group), "the first barrier");
    sy_group_destroy(group);
    w->rank = info.rank;
    w->ranks = info.ranks;
    return bad ? -1 : 0;
}

/* A gather is a dispatch of one row to one expert on each rank. */
static int open_route(struct world *w)
{
    sy_route_config config = {
        .size = sizeof config, .mode = SY_THROUGHPUT, .layout = SY_TOKEN_MAJOR, .topk = w->ranks};
    sy_route_input input = {.size = sizeof input};
    for (int32_t r = 0; r < w->ranks; r++)
        w->ids[r] = r;
    input.ids = sy_tensor_2d(w->ids, SY_I64, 1, w->ranks);
    return bench_check(sy_route_create(w->group, &config, NULL, &w->route), "sy_route_create") ||
                   bench_check(sy_route_set(w->route, &input, NULL), "sy_route_set") ||
                   bench_check(sy_stream_sync(w->group, NULL), "sy_route_set")
               ? -1
               : 0;
}

int world_open(struct world *w, uint64_t timeout_ns)
{
    sy_group_config config;
    memset(w, 0, sizeof *w);
    w->meeting.fd = -1;
    w->timeout_ns = timeout_ns;
    if (ask_ranks(w))
        return -1;
    w->ids = bench_alloc(sizeof *w->ids * (size_t)w->ranks);
    w->mine = bench_alloc(WORLD_BYTES);
    w->all = bench_alloc((size_t)w->ranks * WORLD_BYTES);
    if (!w->ids || !w->mine || !w->all)
        return -1;
    config = meeting_config(w->ranks, timeout_ns);
    if (bench_check(sy_group_create(&config, &w->group), "the ranks' meeting"))
        return -1;
    return open_route(w) || window_open(w, &w->meeting, sizeof w->round) ? -1 : 0;
}

void world_close(struct world *w)
{
    window_close(&w->meeting);
    sy_route_destroy(w->route);
    sy_group_destroy(w->group);
    free(w->ids);
    free(w->mine);
    free(w->all);
    memset(w, 0, sizeof *w);
}

int world_gather(struct world *w, const void *mine, void *all, size_t bytes)
{
    const int64_t words = WORLD_BYTES / 16;
    sy_dispatch_args args = {.size = sizeof args};
    if (bytes > WORLD_BYTES)
        return bench_fail("a gather of %zu bytes", bytes);
    memcpy(w->mine, mine, bytes);
    args.x = sy_tensor_2d(w->mine, SY_OPAQUE16, 1, words);
    args.out_x = sy_tensor_2d(w->all, SY_OPAQUE16, w->ranks, words);
    if (bench_check(sy_dispatch(w->route, &args, NULL), "a gather") ||
        bench_check(sy_stream_sync(w->group, NULL), "a gather"))
        return -1;
    for (int32_t r = 0; r < w->ranks; r++)
        memcpy((uint8_t *)all + (size_t)r * bytes, w->all + (size_t)r * WORLD_BYTES, bytes);
    return 0;
}

int world_barrier(struct world *w)
{
    return bench_check(sy_group_barrier(w->group), "a barrier");
}

#define SPINS_PER_LOOK 1000

int world_align(struct world *w)
{
    const uint64_t deadline = tool_now_ns() + w->timeout_ns;
    const uint64_t round = ++w->round;
    __atomic_store_n((uint64_t *)(void *)w->meeting.at[w->rank], round, __ATOMIC_RELEASE);
    for (int32_t r = 0; r < w->ranks; r++) {
        const uint64_t *word = (const uint64_t *)(const void *)w->meeting.at[r];
        for (uint64_t spins = 1; __atomic_load_n(word, __ATOMIC_ACQUIRE) < round; spins++) {
            if (spins % SPINS_PER_LOOK)
                continue;
            sched_yield();
            if (tool_now_ns() > deadline)
                return bench_fail("rank %d did not come to a barrier", (int)r);
        }
    }
    return 0;
}

/* --- windows -------------------------------------------------------------------------------- */

/* How another process of the same user finds a window: /proc/PID/fd/FD. */
struct notice {
    int64_t pid, fd;
    uint64_t bytes;
};

static int make_own(struct window *window, struct notice *own)
{
    if (!own->bytes)
        return 0;
    window->fd = memfd_create("switchyard-bench", MFD_CLOEXEC);
    if (window->fd < 0)
        return bench_fail_errno("memfd_create");
    if (ftruncate(window->fd, (off_t)own->bytes))
        return bench_fail_errno("a window's size");
    own->fd = window->fd;
    return 0;
}

static int map_one(struct window *window, int32_t rank, const struct notice *notice)
{
    char path[64];
    void *at;
    int fd;
    window->bytes[rank] = notice->bytes;
    if (!notice->bytes)
        return 0;
    snprintf(path, sizeof path, "/proc/%lld/fd/%lld", (long long)notice->pid,
             (long long)notice->fd);
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return bench_fail("opening %s, memory of rank %d: %s", path, (int)rank, strerror(errno));
    at = mmap(NULL, notice->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at == MAP_FAILED)
        return bench_fail("mapping %llu bytes of rank %d: %s", (unsigned long long)notice->bytes,
                          (int)rank, strerror(errno));
    window->at[rank] = at;
    return 0;
}

int window_open(struct world *w, struct window *window, uint64_t bytes)
{
    struct notice own = {.pid = getpid(), .fd = -1, .bytes = bytes};
    struct notice *all = calloc((size_t)w->ranks, sizeof *all);
    int bad;
    memset(window, 0, sizeof *window);
    window->fd = -1;
    window->ranks = w->ranks;
    window->at = calloc((size_t)w->ranks, sizeof *window->at);
    window->bytes = calloc((size_t)w->ranks, sizeof *window->bytes);
    if (!all || !window->at || !window->bytes)
        bad = bench_fail("no memory for windows");
    else
        bad = make_own(window, &own) || world_gather(w, &own, all, sizeof own);
    for (int32_t r = 0; !bad && r < w->ranks; r++)
        bad = map_one(window, r, all + r);
    bad = bad || world_barrier(w); /* all have opened what they need of this process */
    free(all);
    if (bad)
        window_close(window);
    return bad ? -1 : 0;
}

void window_close(struct window *window)
{
    for (int32_t r = 0; window->at && window->bytes && r < window->ranks; r++)
        if (window->at[r])
            munmap(window->at[r], window->bytes[r]);
    if (window->fd >= 0)
        close(window->fd);
    free(window->at);
    free(window->bytes);
    memset(window, 0, sizeof *window);
    window->fd = -1;
}
