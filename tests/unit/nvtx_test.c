/* nvtx_test.c - ranges for profilers (src/base/nvtx.h): a library that records them
 * (nvtx_recorder.c) is attached as profilers are. Each time in a process of its own, since it looks
 * for a tool only once. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "rounds.h"

#define LOG 8192

static const char all_ranges[] = "attached\ndomain switchyard\n"
                                 "+sy_group_create\n-\n"
                                 "+sy_route_set\n-\n+sy_dispatch\n-\n+sy_combine\n-\n"
                                 "+sy_route_totals\n-\n"
                                 "+sy_combine\n-\n" /* one that fails */
                                 "+sy_group_destroy\n-\n";

static const char plain_ranges[] =
    "attached\n"
    "plain +sy_group_create\nplain -\n"
    "plain +sy_route_set\nplain -\nplain +sy_dispatch\nplain -\nplain +sy_combine\nplain -\n"
    "plain +sy_route_totals\nplain -\n"
    "plain +sy_combine\nplain -\n"
    "plain +sy_group_destroy\nplain -\n";

/* Beside this program. */
static void recorder_path(char path[PATH_MAX])
{
    ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 32);
    char *slash;
    if (n <= 0)
        abort();
    path[n] = 0;
    slash = strrchr(path, '/');
    memcpy(slash, "/nvtx_recorder.so", sizeof "/nvtx_recorder.so");
}

/* A group of one rank, and a batch. 1: all went well. */
static int live(void)
{
    sy_group_config config = {.size = sizeof config,
                              .boot = SY_BOOT_ID,
                              .ranks = 1,
                              .engine = SY_ENGINE_CPU,
                              .experts = 4,
                              .topk_max = 2,
                              .tokens_max = 8,
                              .row_bytes_max = 64};
    struct rounds r = {.ranks = 1,
                       .mode = SY_THROUGHPUT,
                       .layout = SY_TOKEN_MAJOR,
                       .topk = 2,
                       .experts = 4,
                       .hidden = 16,
                       .tokens_max = 8};
    sy_combine_args wrong = {.size = 1};
    int64_t totals[SY_TOTALS];
    char text[512];
    int good = sy_id_create(&config.id) == SY_OK && sy_group_create(&config, &r.group) == SY_OK;
    if (!good || rounds_open(&r, text))
        return 0;
    rounds_fill(&r, 1, 8);
    good = rounds_run(&r, NULL) == SY_OK && sy_route_totals(r.route, totals) == SY_OK;
    good = good && sy_combine(r.route, &wrong, NULL) == SY_INVALID;
    good = good && sy_stream_sync(r.group, NULL) == SY_OK && !rounds_check(&r, text);
    rounds_close(&r);
    return good && sy_group_destroy(r.group) == SY_OK;
}

/* Life with a tool in the environment; what that wrote down. */
static void attach(const char *path, const char *mode, char log[LOG])
{
    int ends[2], how = 0;
    ssize_t n;
    size_t got = 0;
    pid_t pid;
    if (pipe(ends))
        abort();
    fflush(stdout);
    pid = fork();
    if (!pid) {
        char recorder[PATH_MAX];
        const char *text = NULL;
        void *library;
        setenv("RECORDER", mode, 1);
        if (path)
            setenv("NVTX_INJECTION64_PATH", path, 1);
        else
            unsetenv("NVTX_INJECTION64_PATH");
        recorder_path(recorder);
        library = dlopen(recorder, RTLD_NOW | RTLD_LOCAL);
        text = library ? dlsym(library, "recorder_log") : NULL;
        if (!text || !live() || write(ends[1], text, strlen(text)) < 0)
            _exit(1);
        _exit(0);
    }
    close(ends[1]);
    while ((n = read(ends[0], log + got, LOG - 1 - got)) > 0)
        got += (size_t)n;
    log[got] = 0;
    close(ends[0]);
    waitpid(pid, &how, 0);
    CHECK(how == 0, "tool %s, %s: the process ended with %#x", path ? path : "none", mode,
          (unsigned)how);
}

static void expect(const char *path, const char *mode, const char *want)
{
    char log[LOG];
    attach(path, mode, log);
    CHECK(!strcmp(log, want), "tool %s, %s: got\n%snot\n%s", path ? path : "none", mode, log, want);
}

static void ranges(void)
{
    char path[PATH_MAX];
    recorder_path(path);
    expect(path, "domains", all_ranges);
    expect(path, "plain", plain_ranges);
}

/* Nothing is recorded, and nothing else changes. */
static void no_tool(void)
{
    char path[PATH_MAX];
    recorder_path(path);
    expect(NULL, "domains", "");
    expect("", "domains", "");
    expect("/nonexistent/tool.so", "domains", "");
    expect("libm.so.6", "domains", ""); /* has no entry point for tools */
    expect(path, "refuse", "attached\n");
    expect(path, "nothing", "attached\n");
}

int main(void)
{
    TEST(ranges);
    TEST(no_tool);
    return check_end();
}
