/* jit_test.c - where kernels come from: the compiler (a fake one), the disk, other threads. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "check.h"
#include "cuda_fake.h"
#include "rt/jit.h"
#include "rt/jit_aot.h"
#include "rt/jit_cache.h"

#define PATH 512

static char home[PATH];        /* of this test; the folder of kernels is made below it */
static char folder[PATH + 32]; /* .cache/switchyard */

static const struct sy_jit_target on_disk = {90, 13, 1, 0}, not_on_disk = {90, 13, 0, 0};

/* --- helpers -------------------------------------------------------------------------------- */

static struct sy_variant variant(sy_u32 topk)
{
    struct sy_route_args a;
    memset(&a, 0, sizeof a);
    a.d.ranks = 8;
    a.r.topk = topk;
    a.r.fan = 4;
    a.r.layout = SY_TOKEN_MAJOR;
    return sy_variant_special(SY_KERNEL_route, &a);
}

/* Gets it as a program of its own would: nothing is left of earlier ones but the disk. */
static void get(const struct sy_jit_target *target, sy_u32 topk)
{
    const struct sy_variant v = variant(topk);
    struct sy_cubin cubin = {NULL, 0};
    char program[SY_VARIANT_TEXT], want[SY_VARIANT_TEXT + 8];
    CHECK(sy_jit_open(2) == SY_OK, "%s", sy_last_error());
    CHECK(sy_jit_get(target, &v, &cubin) == SY_OK, "%s", sy_last_error());
    sy_variant_program(&v, program);
    snprintf(want, sizeof want, "FAKE%s", program);
    CHECK(cubin.data && !strcmp(cubin.data, want) && cubin.bytes == strlen(want) + 1,
          "not the kernel of %zu bytes that it should be, but one of %zu", strlen(want) + 1,
          cubin.bytes);
    sy_jit_close();
}

/* Compilations that this takes. */
static uint64_t compiles(const struct sy_jit_target *target, sy_u32 topk)
{
    uint64_t before = fake.compiled;
    get(target, topk);
    return fake.compiled - before;
}

/* The only file of the folder; 0: there is none, or there are several. */
static int only_file(char path[PATH * 2])
{
    DIR *d = opendir(folder);
    struct dirent *e;
    int n = 0;
    while (d && (e = readdir(d)))
        if (e->d_name[0] != '.') {
            snprintf(path, PATH * 2, "%s/%.255s", folder, e->d_name);
            n++;
        }
    if (d)
        closedir(d);
    return n == 1;
}

static void clear_folder(void)
{
    char command[PATH + 64];
    snprintf(command, sizeof command, "rm -rf '%s/.cache'", home);
    CHECK(system(command) == 0, "rm");
}

static size_t file_read(const char *path, uint8_t *out, size_t bytes)
{
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(out, 1, bytes, f) : 0;
    if (f)
        fclose(f);
    return n;
}

static void file_write(const char *path, const uint8_t *data, size_t bytes)
{
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(data, 1, bytes, f) == bytes, "%s", path);
    if (f)
        fclose(f);
}

/* --- variants ------------------------------------------------------------------------------- */

static void programs(void)
{
    char text[SY_VARIANT_TEXT], other[SY_VARIANT_TEXT];
    const struct sy_variant v = variant(6), any = sy_variant_general(SY_KERNEL_route);
    sy_variant_program(&v, text);
    CHECK(strstr(text, "#define SY_ONLY route\n") && strstr(text, "#define SY_CONST_TOPK 6u\n") &&
              strstr(text, "#define SY_CONST_RANKS 8u\n") &&
              strstr(text, "#define SY_CONST_FAN 4u\n") &&
              strstr(text, "#define SY_CONST_LAYOUT 1u\n") && !strstr(text, "SY_CONST_QUANT") &&
              strstr(text, "#include \"entry_cuda.h\"\n"),
          "%s", text);
    sy_variant_program(&any, other);
    CHECK(!strstr(other, "SY_CONST_"), "%s", other);
    CHECK(!strcmp(sy_variant_entry(&v), "sy_entry_route"), "%s", sy_variant_entry(&v));
    for (int k = 0; k < SY_KERNELS; k++) {
        static const union sy_any_args none;
        struct sy_variant a = sy_variant_special((enum sy_kernel)k, &none);
        struct sy_variant b = sy_variant_general((enum sy_kernel)k);
        CHECK(k >= SY_KERNEL_probe || !sy_variant_same(&a, &b), "kernel %d knows nothing", k);
        CHECK(sy_variant_same(&a, &a) && sy_variant_threads(&a) % 32 == 0, "kernel %d", k);
    }
}

/* --- in one process ------------------------------------------------------------------------- */

static void *get_in_thread(void *context)
{
    const struct sy_variant v = variant(3);
    struct sy_cubin *cubin = context;
    CHECK(sy_jit_get(&not_on_disk, &v, cubin) == SY_OK, "%s", sy_last_error());
    return NULL;
}

static void threads_share(void)
{
    pthread_t threads[8];
    struct sy_cubin cubins[8];
    uint64_t before = fake.compiled;
    CHECK(sy_jit_open(2) == SY_OK && sy_jit_open(2) == SY_OK, "%s", sy_last_error());
    for (int i = 0; i < 8; i++)
        if (pthread_create(threads + i, NULL, get_in_thread, cubins + i))
            abort();
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    for (int i = 1; i < 8; i++)
        CHECK(cubins[i].data == cubins[0].data, "thread %d has another copy", i);
    CHECK(fake.compiled == before + 1, "%d compilations", (int)(fake.compiled - before));
    sy_jit_close();
    sy_jit_close();
}

static void ahead_of_time_of_need(void)
{
    struct sy_cubin cubin;
    uint64_t before = fake.compiled;
    CHECK(sy_jit_open(3) == SY_OK, "%s", sy_last_error());
    for (sy_u32 k = 1; k <= 6; k++) {
        const struct sy_variant v = variant(k);
        sy_jit_start(&not_on_disk, &v);
    }
    for (sy_u32 k = 1; k <= 6; k++) {
        const struct sy_variant v = variant(k);
        CHECK(sy_jit_get(&not_on_disk, &v, &cubin) == SY_OK, "%s", sy_last_error());
    }
    CHECK(fake.compiled == before + 6, "%d compilations", (int)(fake.compiled - before));
    sy_jit_close();
    CHECK(!fake_leak(), "%s are left", fake_leak());
}

/* The last user may leave, and wait for the compilers, when the next ones come. */
static void *come_and_go(void *context)
{
    const sy_u32 first = *(const sy_u32 *)context;
    for (sy_u32 i = 0; i < 300; i++) {
        const struct sy_variant v = variant(first + i % 3), w = variant(first);
        struct sy_cubin cubin;
        CHECK(sy_jit_open(2) == SY_OK, "%s", sy_last_error());
        sy_jit_start(&not_on_disk, &v);
        sy_jit_start(&not_on_disk, &w);
        if (i % 2)
            CHECK(sy_jit_get(&not_on_disk, &v, &cubin) == SY_OK && !memcmp(cubin.data, "FAKE", 4),
                  "%s", sy_last_error());
        sy_jit_close();
    }
    return NULL;
}

static void comings_and_goings(void)
{
    static const sy_u32 firsts[4] = {1, 2, 4, 5};
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        if (pthread_create(threads + i, NULL, come_and_go, (void *)(uintptr_t)(firsts + i)))
            abort();
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    CHECK(!fake_leak(), "%s are left", fake_leak());
}

static void without_compiler(void)
{
    const struct sy_variant v = variant(2);
    struct sy_cubin cubin;
    fake.no_compiler = 1;
    fake_install();
    CHECK(sy_jit_open(2) == SY_OK, "%s", sy_last_error());
    CHECK(sy_jit_get(&not_on_disk, &v, &cubin) == SY_UNSUPPORTED &&
              strstr(sy_last_error(), "sm_90") && strstr(sy_last_error(), "libnvrtc.so.13"),
          "\"%s\"", sy_last_error());
    fake.no_compiler = 0;
    fake_install();
    CHECK(sy_jit_get(&not_on_disk, &v, &cubin) == SY_OK, "what failed once: %s", sy_last_error());
    sy_jit_close();
}

static int has_kernels_for(int sm)
{
    int count = 0;
    for (const struct sy_aot *a = sy_aot_cubins; a->begin; a++)
        count += a->sm == sm;
    return count;
}

/* Kernels that were compiled with the library are found without any compiler, also on a GPU of the
 * same major version; what there is none of still says what is missing. */
static void built_in_kernels(void)
{
    static const int sms[] = {80, 86, 90, 100, 120, 121};
    struct sy_jit_target target = {0, 13, 0, 0};
    struct sy_jit_counts before = sy_jit_counts();
    const struct sy_variant any = sy_variant_general(SY_KERNEL_combine), rare = variant(61);
    struct sy_cubin cubin;
    char text[128];
    if (!has_kernels_for(80) || !has_kernels_for(90) || !has_kernels_for(100) ||
        !has_kernels_for(120))
        SKIP("the library has no kernels in it for all kinds of GPU (make AOT=1)");
    fake.no_compiler = 1;
    fake_install();
    CHECK(sy_jit_open(2) == SY_OK, "%s", sy_last_error());
    for (size_t i = 0; i < sizeof sms / sizeof *sms; i++) {
        target.sm = sms[i];
        CHECK(sy_jit_get(&target, &any, &cubin) == SY_OK, "sm_%d: %s", sms[i], sy_last_error());
        CHECK(cubin.bytes > 1000 && !memcmp(cubin.data, "\177ELF", 4), "sm_%d: no binary", sms[i]);
        CHECK(sy_jit_check(&target, text, sizeof text) == SY_OK && strstr(text, "built in"), "%s",
              text);
    }
    CHECK(sy_jit_get(&target, &rare, &cubin) == SY_UNSUPPORTED, "a kernel that nobody made");
    target.sm = 103;
    CHECK(sy_jit_get(&target, &any, &cubin) == SY_UNSUPPORTED, "a GPU that has none");
    CHECK(sy_jit_counts().built_in == before.built_in + 6, "counts");
    sy_jit_close();
    fake.no_compiler = 0;
    fake_install();
}

/* The compiler's calls, each failing in turn: a status, and the next try works. */
static void compiler_fails(void)
{
    const struct sy_variant v = variant(2);
    struct sy_cubin cubin;
    int failures = 0;
    for (long nth = 1; nth < 12; nth++) {
        fake_install();
        CHECK(sy_jit_open(2) == SY_OK, "%s", sy_last_error());
        fake.calls = 0;
        fake.failed = NULL;
        fake.fail_at = nth;
        if (sy_jit_get(&not_on_disk, &v, &cubin) != SY_OK) {
            failures++;
            CHECK(fake.failed && strstr(sy_last_error(), "nvrtc"), "%s: \"%s\"", fake.failed,
                  sy_last_error());
            if (fake.failed && !strcmp(fake.failed, "nvrtcCompileProgram"))
                CHECK(strstr(sy_last_error(), "line 1: bad line 2: bad"), "\"%s\"",
                      sy_last_error());
            fake_install();
            CHECK(sy_jit_get(&not_on_disk, &v, &cubin) == SY_OK, "%s", sy_last_error());
        }
        fake.fail_at = 0;
        sy_jit_close();
        CHECK(!fake_leak(), "%s are left", fake_leak());
    }
    CHECK(failures == 5, "%d of the compiler's calls matter", failures);
}

/* --- on disk -------------------------------------------------------------------------------- */

static void kept_on_disk(void)
{
    struct sy_jit_counts before = sy_jit_counts(), after;
    struct stat info;
    char path[PATH * 2];
    const struct sy_jit_target other = {100, 13, 1, 0}, with_lines = {90, 13, 1, 1};
    clear_folder();
    CHECK(compiles(&on_disk, 2) == 1, "the first time");
    CHECK(compiles(&on_disk, 2) == 0, "the second time");
    after = sy_jit_counts();
    CHECK(after.from_disk == before.from_disk + 1 && after.compiled == before.compiled + 1 &&
              after.not_stored == before.not_stored,
          "counts");
    CHECK(only_file(path) && !stat(path, &info) && (info.st_mode & 0777) == 0600, "the file");
    CHECK(!stat(folder, &info) && (info.st_mode & 0777) == 0700, "the folder");
    CHECK(compiles(&not_on_disk, 2) == 1, "with SY_CACHE=0");
    CHECK(compiles(&other, 2) == 1 && compiles(&on_disk, 3) == 1, "another GPU, another shape");
    CHECK(compiles(&other, 2) == 0 && compiles(&on_disk, 3) == 0, "another GPU, another shape");
    CHECK(compiles(&with_lines, 2) == 1 && compiles(&with_lines, 2) == 0, "with source lines");
}

/* The file as it was, and what was made of it, which must not be taken. */
static void spoiled(const char *what, const uint8_t *data, size_t bytes)
{
    static uint8_t good[4096], now[4096];
    char path[PATH * 2];
    size_t n;
    CHECK(only_file(path), "%s: one file", what);
    n = file_read(path, good, sizeof good);
    if (data)
        file_write(path, data, bytes);
    CHECK(compiles(&on_disk, 2) == 1, "%s: it was taken", what);
    CHECK(only_file(path), "%s: one file afterwards", what);
    if (data)
        CHECK(file_read(path, now, sizeof now) == n, "%s: it was not replaced", what);
    CHECK(compiles(&on_disk, 2) == 0, "%s: the new one is not taken", what);
}

static void spoiled_files(void)
{
    static uint8_t good[4096], bad[4096];
    char path[PATH * 2];
    size_t n;
    clear_folder();
    get(&on_disk, 2);
    CHECK(only_file(path), "one file");
    n = file_read(path, good, sizeof good - 16);
    for (size_t at = 0; at < n; at += at < 100 ? 5 : 37) { /* header and body */
        memcpy(bad, good, n);
        bad[at] ^= 0x10;
        spoiled("a byte", bad, n);
    }
    for (size_t size = 0; size < n; size += size < 100 ? 20 : 61)
        spoiled("cut short", good, size);
    memcpy(bad, good, n);
    spoiled("too long", bad, n + 5);
    memcpy(bad, good, n);
    memset(bad + 8, 0xff, 8);
    spoiled("huge length", bad, n);
}

static int foreign_file, foreign_folder;

static int stat_as_foreign(int fd, struct stat *info)
{
    int result = fstat(fd, info);
    if (S_ISREG(info->st_mode) ? foreign_file : foreign_folder)
        info->st_uid++;
    return result;
}

static void others_files(void)
{
    char path[PATH * 2], elsewhere[PATH * 2];
    clear_folder();
    get(&on_disk, 2);
    CHECK(only_file(path), "one file");
    fake_os.stat_file = stat_as_foreign;
    foreign_file = 1;
    CHECK(compiles(&on_disk, 2) == 1, "somebody else's file");
    foreign_file = 0;
    CHECK(compiles(&on_disk, 2) == 0, "after that");
    foreign_folder = 1;
    CHECK(compiles(&on_disk, 2) == 1, "somebody else's folder");
    foreign_folder = 0;
    fake_os.stat_file = fstat;
    chmod(folder, 0755);
    CHECK(compiles(&on_disk, 2) == 1, "a folder that others can read");
    chmod(folder, 0700);
    CHECK(compiles(&on_disk, 2) == 0, "after that");
    snprintf(elsewhere, sizeof elsewhere, "%s/elsewhere", home);
    CHECK(!rename(path, elsewhere) && !symlink(elsewhere, path), "a link");
    CHECK(compiles(&on_disk, 2) == 1 && compiles(&on_disk, 2) == 0, "a link");
    unlink(elsewhere);
    CHECK(!unlink(path) && !mkfifo(path, 0600), "a pipe");
    CHECK(compiles(&on_disk, 2) == 1 && compiles(&on_disk, 2) == 0, "a pipe");
}

static void no_place(void)
{
    struct sy_jit_counts before = sy_jit_counts();
    char text[PATH];
    setenv("HOME", "relative", 1);
    CHECK(compiles(&on_disk, 2) == 1 && compiles(&on_disk, 2) == 1, "a relative path");
    CHECK(sy_cache_folder(text, sizeof text) == SY_UNSUPPORTED, "%s", text);
    setenv("HOME", "/proc/nobody", 1);
    CHECK(compiles(&on_disk, 2) == 1, "a folder that cannot be made");
    setenv("HOME", home, 1);
    setenv("XDG_CACHE_HOME", home, 1);
    CHECK(compiles(&on_disk, 2) == 1 && compiles(&on_disk, 2) == 0, "XDG_CACHE_HOME");
    unsetenv("XDG_CACHE_HOME");
    CHECK(sy_jit_counts().not_stored == before.not_stored + 3, "%d were not stored",
          (int)(sy_jit_counts().not_stored - before.not_stored));
}

/* --- calls of the system that fail ---------------------------------------------------------- */

static long system_calls, system_fails;

static int system_failed(void)
{
    if (++system_calls != system_fails)
        return 0;
    errno = ENOSPC;
    return 1;
}

static int bad_open(const char *path, int flags, mode_t mode)
{
    return system_failed() ? -1 : sy_os_real.open_file(path, flags, mode);
}
static int bad_stat(int fd, struct stat *info)
{
    return system_failed() ? -1 : fstat(fd, info);
}
static ssize_t bad_read(int fd, void *out, size_t bytes)
{
    return system_failed() ? -1 : read(fd, out, bytes > 100 ? bytes / 2 : bytes);
}
static ssize_t bad_write(int fd, const void *data, size_t bytes)
{
    return system_failed() ? -1 : write(fd, data, bytes > 100 ? bytes / 2 : bytes);
}
static int bad_dir(const char *path, mode_t mode)
{
    return system_failed() ? -1 : mkdir(path, mode);
}
static int bad_lock(int fd, off_t at)
{
    return system_failed() ? -1 : sy_os_real.lock_byte(fd, at);
}
static int bad_rename(const char *from, const char *to)
{
    return system_failed() ? -1 : rename(from, to);
}
static int bad_random(void *out, size_t bytes)
{
    return system_failed() ? -1 : sy_os_real.random(out, bytes);
}

/* Whatever fails, there is a kernel, and no half file. */
static void failing_system(void)
{
    char path[PATH * 2];
    long calls;
    fake_os.open_file = bad_open;
    fake_os.stat_file = bad_stat;
    fake_os.read_some = bad_read;
    fake_os.write_some = bad_write;
    fake_os.make_dir = bad_dir;
    fake_os.rename_file = bad_rename;
    fake_os.lock_byte = bad_lock;
    fake_os.random = bad_random;
    system_fails = 0;
    clear_folder();
    system_calls = 0;
    get(&on_disk, 2);
    get(&on_disk, 2);
    calls = system_calls;
    CHECK(calls > 20, "%ld calls", calls);
    for (long nth = 1; nth <= calls; nth++) {
        clear_folder();
        system_calls = 0;
        system_fails = nth;
        get(&on_disk, 2);
        get(&on_disk, 2);
        system_fails = 0;
        get(&on_disk, 2);
        CHECK(only_file(path), "call %ld: not one file", nth);
        CHECK(compiles(&on_disk, 2) == 0, "call %ld: it is no good", nth);
    }
    fake_install();
}

/* --- several processes ---------------------------------------------------------------------- */

static int run_process(int which)
{
    char path[PATH * 2];
    for (int i = 0; i < 60; i++) {
        get(&on_disk, 2);
        if (which == 0 && i % 3 == 0 && only_file(path))
            unlink(path);
        if (which == 1 && i % 5 == 0 && only_file(path))
            file_write(path, (const uint8_t *)"garbage", 7);
    }
    fflush(stdout);
    return check_state.failures != 0;
}

static void processes_at_once(void)
{
    pid_t pids[4];
    char path[PATH * 2];
    clear_folder();
    fflush(stdout);
    for (int i = 0; i < 4; i++) {
        pids[i] = fork();
        if (!pids[i])
            _exit(run_process(i));
    }
    for (int i = 0; i < 4; i++) {
        int how = 0;
        waitpid(pids[i], &how, 0);
        CHECK(how == 0, "process %d ended with %#x", i, (unsigned)how);
    }
    get(&on_disk, 2);
    CHECK(only_file(path), "not one file is left");
    CHECK(compiles(&on_disk, 2) == 0, "and it is good");
}

/* --- one process compiles, the others wait -------------------------------------------------- */

#define MAKERS 6

/* What processes have done, all together. */
struct crowd {
    int here;
    uint64_t compiled;
};

static int make_three(struct crowd *c)
{
    struct sy_variant v[3] = {variant(2), variant(3), variant(4)};
    struct sy_cubin cubin;
    uint64_t before = fake.compiled;
    __atomic_add_fetch(&c->here, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&c->here, __ATOMIC_SEQ_CST) < MAKERS)
        usleep(100);
    CHECK(sy_jit_open(2) == SY_OK, "%s", sy_last_error());
    for (int i = 0; i < 3; i++)
        sy_jit_start(&on_disk, v + i);
    for (int i = 0; i < 3; i++)
        CHECK(sy_jit_get(&on_disk, v + i, &cubin) == SY_OK && cubin.bytes, "%s", sy_last_error());
    sy_jit_close();
    __atomic_add_fetch(&c->compiled, fake.compiled - before, __ATOMIC_SEQ_CST);
    fflush(stdout);
    return check_state.failures != 0;
}

static void one_compiles(void)
{
    struct crowd *c =
        mmap(NULL, sizeof *c, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pids[MAKERS];
    if (c == MAP_FAILED)
        abort();
    clear_folder();
    fake.compile_ns = 50000000;
    fflush(stdout);
    for (int i = 0; i < MAKERS; i++) {
        pids[i] = fork();
        if (!pids[i])
            _exit(make_three(c));
    }
    for (int i = 0; i < MAKERS; i++) {
        int how = 0;
        waitpid(pids[i], &how, 0);
        CHECK(how == 0, "process %d ended with %#x", i, (unsigned)how);
    }
    fake.compile_ns = 0;
    CHECK(c->compiled == 3, "%d processes compiled 3 kernels %llu times", MAKERS,
          (unsigned long long)c->compiled);
    munmap(c, sizeof *c);
}

static const uint8_t some_key[SY_SHA256_BYTES] = {1, 2, 3, 4, 5, 6, 7, 8};
static const uint8_t other_key[SY_SHA256_BYTES] = {8, 7, 6, 5, 4, 3, 2, 1};

/* Takes the turn, says so, and never gives it back. */
static int hold(int said)
{
    if (sy_cache_enter(some_key, 0) < 0 || write(said, "", 1) != 1)
        return 1;
    for (;;)
        pause();
}

/* Who has a turn and dies no longer has it; nobody waits for longer than he would, nor for other
 * kernels. */
static void makers_die(void)
{
    uint64_t begin;
    int said[2], other, mine;
    pid_t pid;
    char byte;
    clear_folder();
    if (pipe(said))
        abort();
    fflush(stdout);
    pid = fork();
    if (!pid)
        _exit(hold(said[1]));
    close(said[1]); /* then a child that ends without a word is noticed */
    CHECK(read(said[0], &byte, 1) == 1, "the turn is free");
    begin = sy_os->now_ns();
    CHECK(sy_cache_enter(some_key, 100000000) < 0, "two have the turn");
    CHECK(sy_os->now_ns() - begin >= 100000000, "did not wait");
    other = sy_cache_enter(other_key, 0);
    CHECK(other >= 0, "another kernel's turn is taken, too");
    kill(pid, SIGKILL);
    mine = sy_cache_enter(some_key, 20000000000u);
    CHECK(mine >= 0, "the turn of the dead was not free");
    CHECK(sy_cache_enter(some_key, 0) < 0, "two threads have the turn");
    sy_cache_leave(mine);
    mine = sy_cache_enter(some_key, 0);
    CHECK(mine >= 0, "the turn was not given back");
    sy_cache_leave(mine);
    sy_cache_leave(other);
    waitpid(pid, NULL, 0);
    close(said[0]);
}

int main(void)
{
    snprintf(home, sizeof home, P_tmpdir "/switchyard-XXXXXX");
    if (!mkdtemp(home))
        abort();
    snprintf(folder, sizeof folder, "%s/.cache/switchyard", home);
    setenv("HOME", home, 1);
    unsetenv("XDG_CACHE_HOME");
    fake_install();
    TEST(programs);
    TEST(threads_share);
    TEST(ahead_of_time_of_need);
    TEST(comings_and_goings);
    TEST(without_compiler);
    TEST(built_in_kernels);
    TEST(compiler_fails);
    TEST(kept_on_disk);
    TEST(spoiled_files);
    TEST(others_files);
    TEST(no_place);
    TEST(failing_system);
    TEST(processes_at_once);
    TEST(one_compiles);
    TEST(makers_die);
    snprintf(folder, sizeof folder, "rm -rf '%.400s'", home);
    if (system(folder))
        return 1;
    return check_end();
}
