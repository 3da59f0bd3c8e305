/* cu.c - see cu.h. */
#include "cu.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

struct cu cu;

void cu_check(int result, const char *call, const char *file, int line)
{
    const char *text = "?";
    if (result == 0)
        return;
    if (cu.cuGetErrorString)
        cu.cuGetErrorString(result, &text);
    fprintf(stderr, "%s:%d: %s: %s (%d)\n", file, line, call, text, result);
    exit(1);
}

int cu_open(const char **why)
{
    void *lib = dlopen("libcuda.so.1", RTLD_NOW);
    if (!lib) {
        *why = "no libcuda.so.1";
        return 0;
    }
#define CU(name, parameters)                                                                       \
    *(void **)&cu.name = dlsym(lib, #name);                                                        \
    if (!cu.name) {                                                                                \
        *why = "libcuda.so.1 lacks " #name;                                                        \
        return 0;                                                                                  \
    }
    CU_CALLS
#undef CU
    if (cu.cuInit(0)) {
        *why = "cuInit failed";
        return 0;
    }
    return 1;
}

/* --- NVRTC ---------------------------------------------------------------------------------- */

typedef struct _nvrtcProgram *nvrtcProgram;

static struct {
    int (*create)(nvrtcProgram *, const char *, const char *, int, const char *const *,
                  const char *const *);
    int (*compile)(nvrtcProgram, int, const char *const *);
    int (*log_size)(nvrtcProgram, size_t *);
    int (*log)(nvrtcProgram, char *);
    int (*cubin_size)(nvrtcProgram, size_t *);
    int (*cubin)(nvrtcProgram, char *);
} rtc;

static void rtc_open(void)
{
    static const char *const names[] = {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"};
    void *lib = NULL;
    for (int i = 0; i < 3 && !lib; i++)
        lib = dlopen(names[i], RTLD_NOW);
    if (!lib && getenv("SY_NVRTC"))
        lib = dlopen(getenv("SY_NVRTC"), RTLD_NOW);
    if (!lib) {
        fprintf(stderr, "no libnvrtc (SY_NVRTC names one)\n");
        exit(1);
    }
    *(void **)&rtc.create = dlsym(lib, "nvrtcCreateProgram");
    *(void **)&rtc.compile = dlsym(lib, "nvrtcCompileProgram");
    *(void **)&rtc.log_size = dlsym(lib, "nvrtcGetProgramLogSize");
    *(void **)&rtc.log = dlsym(lib, "nvrtcGetProgramLog");
    *(void **)&rtc.cubin_size = dlsym(lib, "nvrtcGetCUBINSize");
    *(void **)&rtc.cubin = dlsym(lib, "nvrtcGetCUBIN");
}

void *cu_compile(const char *root, int sm, const char *const *defines, int count)
{
    char include[512], arch[64], *log, *cubin;
    const char *options[64] = {arch, include, "-std=c++17", "--fmad=false", "-default-device"};
    nvrtcProgram program;
    size_t bytes;
    int n = 5, failed;
    rtc_open();
    snprintf(include, sizeof include, "-I%s", root);
    snprintf(arch, sizeof arch, "-arch=sm_%d%s", sm, sm == 90 ? "a" : "");
    for (int i = 0; i < count && n < 64; i++)
        options[n++] = defines[i];
    rtc.create(&program, "#include \"src/device/entry_cuda.h\"\n", "switchyard.cu", 0, NULL, NULL);
    failed = rtc.compile(program, n, options);
    rtc.log_size(program, &bytes);
    log = malloc(bytes + 1);
    rtc.log(program, log);
    if (bytes > 1)
        fprintf(stderr, "%s\n", log);
    free(log);
    if (failed)
        exit(1);
    rtc.cubin_size(program, &bytes);
    cubin = malloc(bytes);
    rtc.cubin(program, cubin);
    return cubin;
}
