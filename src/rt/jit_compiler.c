/* jit_compiler.c - see jit_compiler.h. Sections: loading | compiling. */
#include "jit_compiler.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/os.h"
#include "base/params.h"
#include "jit_sources.h"

typedef struct nvrtc_program_ *program;

/* Every entry point that is used: NVRTC(result, name, (parameters)) */
#define NVRTC_CALLS                                                                                \
    NVRTC(int, nvrtcVersion, (int *major, int *minor))                                             \
    NVRTC(const char *, nvrtcGetErrorString, (int result))                                         \
    NVRTC(int, nvrtcCreateProgram,                                                                 \
          (program * p, const char *text, const char *name, int count, const char *const *headers, \
           const char *const *names))                                                              \
    NVRTC(int, nvrtcDestroyProgram, (program * p))                                                 \
    NVRTC(int, nvrtcCompileProgram, (program p, int count, const char *const *options))            \
    NVRTC(int, nvrtcGetProgramLogSize, (program p, size_t * bytes))                                \
    NVRTC(int, nvrtcGetProgramLog, (program p, char *log))                                         \
    NVRTC(int, nvrtcGetCUBINSize, (program p, size_t * bytes))                                     \
    NVRTC(int, nvrtcGetCUBIN, (program p, char *cubin))

struct nvrtc_api {
#define NVRTC(result, name, parameters) result(*name) parameters;
    NVRTC_CALLS
#undef NVRTC
};

#define OLDEST 12 /* the first that knows sm_90a */
#define NEWEST 19 /* ... that will be looked for */

static pthread_mutex_t load_lock = PTHREAD_MUTEX_INITIALIZER;
static struct nvrtc_api nvrtc;
static struct sy_nvrtc_version found;
static int looked; /* 1: there is one; -1: there is none */
static char missing[SY_ERROR_TEXT];

/* --- loading -------------------------------------------------------------------------------- */

/* Where libraries are found without being told, and where toolkits put them. */
static void *open_any(int major)
{
    static const char *const folders[] = {"", "/usr/local/cuda/lib64/"};
    void *library = NULL;
    for (size_t i = 0; !library && i < sizeof folders / sizeof *folders; i++) {
        char name[64];
        snprintf(name, sizeof name, "%slibnvrtc.so.%d", folders[i], major);
        library = sy_os->open_library(name);
    }
    return library;
}

static sy_status find_symbols(void *library)
{
    static const struct {
        const char *name;
        size_t offset;
    } symbols[] = {
#define NVRTC(result, name, parameters) {#name, offsetof(struct nvrtc_api, name)},
        NVRTC_CALLS
#undef NVRTC
    };
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        void *at = sy_os->symbol(library, symbols[i].name);
        if (!at)
            return sy_fail(SY_UNSUPPORTED, "libnvrtc has no %s", symbols[i].name);
        memcpy((char *)&nvrtc + symbols[i].offset, &at, sizeof at);
    }
    return SY_OK;
}

static sy_status try_one(void *library, int newest)
{
    SY_TRY(find_symbols(library));
    if (nvrtc.nvrtcVersion(&found.major, &found.minor))
        return sy_fail(SY_UNSUPPORTED, "libnvrtc does not tell its version");
    if (found.major < OLDEST || found.major > newest)
        return sy_fail(SY_UNSUPPORTED,
                       "libnvrtc is of CUDA %d.%d; from %d to %d, the driver's, work", found.major,
                       found.minor, OLDEST, newest);
    return SY_OK;
}

/* With the lock held. SY_NVRTC, if set, names the only library to try. */
static sy_status look(int newest)
{
    const char *named = sy_env("SY_NVRTC");
    void *library = NULL;
    sy_status status;
    if (named && *named)
        library = sy_os->open_library(named);
    for (int major = newest; !(named && *named) && !library && major >= OLDEST; major--)
        library = open_any(major);
    if (!library && named && *named)
        return sy_fail(SY_UNSUPPORTED, "SY_NVRTC=%s cannot be loaded", named);
    if (!library)
        return sy_fail(SY_UNSUPPORTED,
                       "no run-time compiler (libnvrtc.so.%d; SY_NVRTC can name its file)", newest);
    status = try_one(library, newest);
    if (status != SY_OK)
        sy_os->close_library(library);
    return status;
}

sy_status sy_nvrtc_load(int newest, struct sy_nvrtc_version *version)
{
    sy_status status = SY_OK;
    newest = newest > NEWEST ? NEWEST : newest;
    pthread_mutex_lock(&load_lock);
    if (!looked) {
        status = look(newest);
        looked = status == SY_OK ? 1 : -1;
        if (status != SY_OK)
            snprintf(missing, sizeof missing, "%s", sy_last_error());
    } else if (looked < 0)
        status = sy_fail(SY_UNSUPPORTED, "%s", missing);
    *version = found;
    pthread_mutex_unlock(&load_lock);
    return status;
}

void sy_nvrtc_forget(void)
{
    pthread_mutex_lock(&load_lock);
    looked = 0;
    pthread_mutex_unlock(&load_lock);
}

/* --- compiling ------------------------------------------------------------------------------ */

static sy_status failed(int result, const char *call)
{
    const char *text = nvrtc.nvrtcGetErrorString(result);
    return sy_fail(SY_SYSTEM, "%s: %s (%d)", call, text ? text : "unknown error", result);
}

/* What the compiler has said, or NULL. */
static char *take_log(program p)
{
    size_t bytes = 0;
    char *log;
    if (nvrtc.nvrtcGetProgramLogSize(p, &bytes))
        return NULL;
    log = sy_zalloc(bytes + 1);
    if (log && nvrtc.nvrtcGetProgramLog(p, log)) {
        sy_os->free(log);
        return NULL;
    }
    return log;
}

/* The compiler's own words, as far as they fit one line. */
static sy_status failed_compile(program p, int result)
{
    char line[SY_ERROR_TEXT / 2] = "", *log = take_log(p);
    size_t n = 0;
    for (const char *s = log; s && *s && n + 1 < sizeof line; s++)
        if (n == 0 || *s != '\n' || line[n - 1] != ' ')
            line[n++] = *s == '\n' ? ' ' : *s;
    sy_os->free(log);
    failed(result, "nvrtcCompileProgram");
    return n ? sy_fail(SY_SYSTEM, "nvrtcCompileProgram (%d): %s", result, line) : SY_SYSTEM;
}

static sy_status take_cubin(program p, void **cubin, size_t *bytes)
{
    char *copy;
    int result = nvrtc.nvrtcGetCUBINSize(p, bytes);
    if (result || !*bytes)
        return failed(result, "nvrtcGetCUBINSize");
    copy = sy_os->alloc(*bytes, 64);
    if (!copy)
        return sy_fail(SY_NO_MEMORY, "%zu bytes for a kernel", *bytes);
    result = nvrtc.nvrtcGetCUBIN(p, copy);
    if (result) {
        sy_os->free(copy);
        return failed(result, "nvrtcGetCUBIN");
    }
    *cubin = copy;
    return SY_OK;
}

sy_status sy_nvrtc_compile(const char *text, const char *const *options, int count, void **cubin,
                           size_t *bytes, char **log)
{
    const char *names[2 * SY_SOURCES], *contents[2 * SY_SOURCES];
    program p = NULL;
    sy_status status;
    int result;
    for (int i = 0; i < SY_SOURCES; i++) {
        names[2 * i] = sy_sources[i].name;
        names[2 * i + 1] = sy_sources[i].across;
        contents[2 * i] = contents[2 * i + 1] = sy_sources[i].begin;
    }
    result = nvrtc.nvrtcCreateProgram(&p, text, "switchyard.cu", 2 * SY_SOURCES, contents, names);
    if (result)
        return failed(result, "nvrtcCreateProgram");
    result = nvrtc.nvrtcCompileProgram(p, count, options);
    status = result ? failed_compile(p, result) : take_cubin(p, cubin, bytes);
    if (log)
        *log = take_log(p);
    nvrtc.nvrtcDestroyProgram(&p);
    return status;
}
