/* jit.c - see jit.h. Sections: keys | where kernels come from | the store | users. */
#include "jit.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/os.h"
#include "base/verify.h"
#include "jit_aot.h"
#include "jit_cache.h"
#include "jit_compiler.h"
#include "jit_sources.h"

#define THREADS_MAX 64

/* Longest wait for another process that compiles the same kernel: several times what the slowest
 * takes. */
#define MAKER_NS 30000000000u

enum state { WANTED, BEGUN, READY, FAILED };

struct entry {
    struct entry *next;
    struct sy_jit_target target;
    struct sy_variant variant;
    enum state state;
    int waiting; /* users that look at it */
    const void *data;
    size_t bytes;
    void *owned; /* data, unless it is part of the library */
    sy_status status;
    char text[SY_ERROR_TEXT];
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t moved;
    int users, threads, started, stop;
    pthread_t thread[THREADS_MAX];
    struct entry *entries;
    struct sy_jit_counts counts;
} store = {.lock = PTHREAD_MUTEX_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER};

/* Held by who comes and who leaves: nobody comes while the last one waits for the compilers. */
static pthread_mutex_t doorway = PTHREAD_MUTEX_INITIALIZER;

/* --- keys ----------------------------------------------------------------------------------- */

/* The architecture-specific kind from Hopper to the first Blackwells, as its instructions need. */
int sy_jit_options(int sm, int lines, char arch[32], const char *options[SY_JIT_OPTIONS])
{
    snprintf(arch, 32, "-arch=sm_%d%s", sm, sm >= 90 && sm < 120 ? "a" : "");
    options[0] = arch;
    options[1] = "-std=c++17";
    options[2] = "--fmad=false"; /* sums are defined without it */
    options[3] = "-default-device";
    options[4] = "-lineinfo";
    return lines ? 5 : 4;
}

void sy_jit_key(int sm, int lines, const struct sy_variant *v, uint8_t key[SY_SHA256_BYTES])
{
    const char *options[SY_JIT_OPTIONS];
    char arch[32], program[SY_VARIANT_TEXT];
    struct sy_sha256 h;
    int count;
    sy_sha256_begin(&h);
    for (int i = 0; i < SY_SOURCES; i++) {
        sy_sha256_add(&h, sy_sources[i].name, strlen(sy_sources[i].name) + 1);
        sy_sha256_add(&h, sy_sources[i].begin,
                      (size_t)(sy_sources[i].end - sy_sources[i].begin) + 1);
    }
    sy_variant_program(v, program);
    sy_sha256_add(&h, program, strlen(program) + 1);
    count = sy_jit_options(sm, lines, arch, options);
    for (int i = 0; i < count; i++)
        sy_sha256_add(&h, options[i], strlen(options[i]) + 1);
    sy_sha256_end(&h, key);
}

static void disk_key(const uint8_t key[SY_SHA256_BYTES], struct sy_nvrtc_version version,
                     uint8_t out[SY_SHA256_BYTES])
{
    struct sy_sha256 h;
    char text[64];
    int n = snprintf(text, sizeof text, "nvrtc %d.%d", version.major, version.minor);
    sy_sha256_begin(&h);
    sy_sha256_add(&h, key, SY_SHA256_BYTES);
    sy_sha256_add(&h, text, (size_t)n);
    sy_sha256_end(&h, out);
}

/* --- where kernels come from ---------------------------------------------------------------- */

static void count(uint64_t *counter)
{
    pthread_mutex_lock(&store.lock);
    ++*counter;
    pthread_mutex_unlock(&store.lock);
}

/* Binaries run on all GPUs of a major version, except for the architecture-specific ones. */
static int built_for(int sm)
{
    return sm >= 90 && sm < 120 ? sm : sm / 10 * 10;
}

static int built_in(struct entry *e)
{
    uint8_t key[SY_SHA256_BYTES];
    sy_jit_key(built_for(e->target.sm), e->target.lines, &e->variant, key);
    for (const struct sy_aot *a = sy_aot_cubins; a->begin; a++)
        if (!memcmp(a->key, key, sizeof a->key)) {
            e->data = a->begin;
            e->bytes = (size_t)(a->end - a->begin);
            return 1;
        }
    return 0;
}

static sy_status compile(struct entry *e)
{
    const char *options[SY_JIT_OPTIONS];
    char arch[32], program[SY_VARIANT_TEXT];
    const int count = sy_jit_options(e->target.sm, e->target.lines, arch, options);
    sy_variant_program(&e->variant, program);
    SY_TRY(sy_nvrtc_compile(program, options, count, &e->owned, &e->bytes, NULL));
    e->data = e->owned;
    return SY_OK;
}

static int from_disk(struct entry *e, const uint8_t key[SY_SHA256_BYTES])
{
    if (!e->target.cache || !sy_cache_load(key, &e->owned, &e->bytes))
        return 0;
    e->data = e->owned;
    count(&store.counts.from_disk);
    return 1;
}

static sy_status make(struct entry *e, const uint8_t key[SY_SHA256_BYTES])
{
    if (compile(e) != SY_OK)
        return sy_fail_in(SY_SYSTEM, "kernel %s for sm_%d", sy_variant_entry(&e->variant),
                          e->target.sm);
    count(&store.counts.compiled);
    if (e->target.cache && sy_cache_store(key, e->data, e->bytes) != SY_OK)
        count(&store.counts.not_stored);
    return SY_OK;
}

/* The kernel of an entry; nobody else touches what is written here meanwhile. */
static sy_status build(struct entry *e)
{
    uint8_t key[SY_SHA256_BYTES], on_disk[SY_SHA256_BYTES];
    struct sy_nvrtc_version version;
    sy_status status = SY_OK;
    int turn;
    if (built_in(e)) {
        count(&store.counts.built_in);
        return SY_OK;
    }
    if (sy_nvrtc_load(e->target.driver, &version) != SY_OK)
        return sy_fail_in(SY_UNSUPPORTED, "kernel %s for sm_%d is not part of this library, and",
                          sy_variant_entry(&e->variant), e->target.sm);
    sy_jit_key(e->target.sm, e->target.lines, &e->variant, key);
    disk_key(key, version, on_disk);
    if (from_disk(e, on_disk))
        return SY_OK;
    turn = e->target.cache ? sy_cache_enter(on_disk, MAKER_NS) : -1;
    if (!from_disk(e, on_disk)) /* by now another process has made it */
        status = make(e, on_disk);
    sy_cache_leave(turn);
    return status;
}

/* --- the store ------------------------------------------------------------------------------ */

/* Called and returns with the lock held. */
static void run_build(struct entry *e)
{
    e->state = BEGUN;
    pthread_mutex_unlock(&store.lock);
    e->status = build(e);
    if (e->status != SY_OK)
        snprintf(e->text, sizeof e->text, "%s", sy_last_error());
    pthread_mutex_lock(&store.lock);
    e->state = e->status == SY_OK ? READY : FAILED;
    pthread_cond_broadcast(&store.moved);
}

/* With the lock held. NULL: no memory. What failed is tried again. */
static struct entry *find_or_add(const struct sy_jit_target *target, const struct sy_variant *v)
{
    struct entry *e;
    for (e = store.entries; e; e = e->next)
        if (e->target.sm == target->sm && sy_variant_same(&e->variant, v))
            break;
    if (!e) {
        e = sy_zalloc(sizeof *e);
        if (!e)
            return NULL;
        e->target = *target;
        e->variant = *v;
        e->next = store.entries;
        store.entries = e;
    }
    if (e->state == FAILED && !e->waiting)
        e->state = WANTED;
    return e;
}

sy_status sy_jit_get(const struct sy_jit_target *target, const struct sy_variant *v,
                     struct sy_cubin *cubin)
{
    struct entry *e;
    sy_status status = SY_OK;
    pthread_mutex_lock(&store.lock);
    SY_ASSERT(store.users > 0);
    e = find_or_add(target, v);
    if (!e) {
        pthread_mutex_unlock(&store.lock);
        return sy_fail(SY_NO_MEMORY, "a kernel's entry");
    }
    e->waiting++;
    if (e->state == WANTED)
        run_build(e);
    while (e->state == BEGUN)
        pthread_cond_wait(&store.moved, &store.lock);
    e->waiting--;
    if (e->state == FAILED)
        status = sy_fail(e->status, "%s", e->text);
    cubin->data = e->data;
    cubin->bytes = e->bytes;
    pthread_mutex_unlock(&store.lock);
    return status;
}

static struct entry *next_wanted(void)
{
    struct entry *e = store.entries;
    while (e && e->state != WANTED)
        e = e->next;
    return e;
}

static void *compiler_main(void *context)
{
    struct entry *e;
    (void)context;
    pthread_mutex_lock(&store.lock);
    while (!store.stop) {
        e = next_wanted();
        if (e)
            run_build(e);
        else
            pthread_cond_wait(&store.moved, &store.lock);
    }
    pthread_mutex_unlock(&store.lock);
    return NULL;
}

/* Without a thread for it, the sy_jit_get() that needs the kernel compiles it. */
void sy_jit_start(const struct sy_jit_target *target, const struct sy_variant *v)
{
    struct entry *e;
    pthread_mutex_lock(&store.lock);
    SY_ASSERT(store.users > 0);
    e = find_or_add(target, v);
    if (e && e->state == WANTED && store.started < store.threads &&
        !sy_os->thread(store.thread + store.started, compiler_main, NULL))
        store.started++;
    pthread_cond_broadcast(&store.moved);
    pthread_mutex_unlock(&store.lock);
}

/* --- users ---------------------------------------------------------------------------------- */

sy_status sy_jit_open(int threads)
{
    SY_ASSERT(threads >= 1 && threads <= THREADS_MAX);
    pthread_mutex_lock(&doorway);
    pthread_mutex_lock(&store.lock);
    if (store.users++ == 0)
        store.threads = threads;
    pthread_mutex_unlock(&store.lock);
    pthread_mutex_unlock(&doorway);
    return SY_OK;
}

void sy_jit_close(void)
{
    struct entry *entries = NULL;
    pthread_mutex_lock(&doorway);
    pthread_mutex_lock(&store.lock);
    SY_ASSERT(store.users > 0);
    if (--store.users == 0) {
        store.stop = 1;
        pthread_cond_broadcast(&store.moved);
        while (store.started > 0) {
            pthread_t thread = store.thread[--store.started];
            pthread_mutex_unlock(&store.lock);
            pthread_join(thread, NULL);
            pthread_mutex_lock(&store.lock);
        }
        store.stop = 0;
        entries = store.entries;
        store.entries = NULL;
    }
    pthread_mutex_unlock(&store.lock);
    pthread_mutex_unlock(&doorway);
    while (entries) {
        struct entry *next = entries->next;
        sy_os->free(entries->owned);
        sy_os->free(entries);
        entries = next;
    }
}

struct sy_jit_counts sy_jit_counts(void)
{
    struct sy_jit_counts counts;
    pthread_mutex_lock(&store.lock);
    counts = store.counts;
    pthread_mutex_unlock(&store.lock);
    return counts;
}

sy_status sy_jit_check(const struct sy_jit_target *target, char *text, size_t bytes)
{
    struct sy_nvrtc_version version;
    int ready = 0;
    for (const struct sy_aot *a = sy_aot_cubins; a->begin; a++)
        ready += a->sm == built_for(target->sm);
    if (sy_nvrtc_load(target->driver, &version) == SY_OK) {
        snprintf(text, bytes, "NVRTC %d.%d, %d kernels built in", version.major, version.minor,
                 ready);
        return SY_OK;
    }
    if (ready)
        snprintf(text, bytes, "%d kernels built in; %s", ready, sy_last_error());
    else
        snprintf(text, bytes, "%s", sy_last_error());
    return ready ? SY_OK : SY_UNSUPPORTED;
}
