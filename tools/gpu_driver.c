/* gpu_driver.c - see gpu_driver.h. */
#define _GNU_SOURCE
#include "gpu_driver.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static struct gpu_driver driver;

static const char *find_symbols(void *library)
{
    static const struct {
        const char *name;
        size_t offset;
    } symbols[] = {
#define GPU(name, parameters) {#name, offsetof(struct gpu_driver, name)},
        GPU_CALLS
#undef GPU
    };
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        void *at = dlsym(library, symbols[i].name);
        if (!at)
            return symbols[i].name;
        memcpy((char *)&driver + symbols[i].offset, &at, sizeof at);
    }
    return NULL;
}

const char *gpu_driver_text(const struct gpu_driver *from, int result)
{
    const char *text = NULL;
    from->cuGetErrorString(result, &text);
    return text ? text : "unknown error";
}

const struct gpu_driver *gpu_driver_open(const char **why)
{
    static char missing[160];
    static int looked; /* 1: there is one; -1: there is none */
    void *library;
    const char *lacks;
    int result;
    *why = missing;
    if (looked)
        return looked > 0 ? &driver : NULL;
    looked = -1;
    library = dlopen("libcuda.so.1", RTLD_NOW);
    if (!library) {
        snprintf(missing, sizeof missing, "no NVIDIA driver (libcuda.so.1)");
        return NULL;
    }
    lacks = find_symbols(library);
    if (lacks) {
        snprintf(missing, sizeof missing, "libcuda.so.1 is too old: it has no %s", lacks);
        return NULL;
    }
    result = driver.cuInit(0);
    if (result) {
        snprintf(missing, sizeof missing, "the NVIDIA driver does not start: %s (%d)",
                 gpu_driver_text(&driver, result), result);
        return NULL;
    }
    looked = 1;
    return &driver;
}

int gpu_library_file(const char *name, char *path, size_t bytes)
{
    char line[1024];
    int found = 0;
    FILE *f = fopen("/proc/self/maps", "re");
    while (f && !found && fgets(line, sizeof line, f)) {
        const char *file = strchr(line, '/'), *last = strrchr(line, '/');
        line[strcspn(line, "\n")] = 0;
        if (file && last && !strncmp(last + 1, name, strlen(name)))
            found = snprintf(path, bytes, "%s", file) > 0;
    }
    if (f)
        fclose(f);
    return found;
}
