/* info_gpu.c - see info_gpu.h. Sections: libraries | GPUs | links | the kernel cache. */
#define _GNU_SOURCE
#include "info_gpu.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gpu_driver.h"
#include "switchyard.h"

#define GPUS_MAX 32 /* whose links are shown */
#define PATH_BYTES 4096

static double gib(uint64_t bytes)
{
    return (double)bytes / (1 << 30);
}

/* --- libraries ------------------------------------------------------------------------------ */

static void show_driver(const struct gpu_driver *driver)
{
    char path[PATH_BYTES];
    int version = 0;
    driver->cuDriverGetVersion(&version);
    printf("  %-14s for CUDA %d.%d", "driver", version / 1000, version % 1000 / 10);
    if (gpu_library_file("libcuda.so", path, sizeof path))
        printf(", %s", path);
    printf("\n");
}

/* The library has looked for it when it was asked about its engine; so it is the one that it would
 * use. */
static void show_compiler(void)
{
    int (*version)(int *major, int *minor);
    char path[PATH_BYTES];
    const char *named = getenv("SY_NVRTC");
    void *library, *symbol = NULL;
    int major = 0, minor = 0;
    int loaded = gpu_library_file("libnvrtc.so", path, sizeof path);
    if (!loaded && named && *named) {
        snprintf(path, sizeof path, "%s", named);
        loaded = 1;
    }
    library = loaded ? dlopen(path, RTLD_NOW | RTLD_NOLOAD) : NULL;
    if (library)
        symbol = dlsym(library, "nvrtcVersion");
    if (!symbol) {
        printf("  %-14s not found: libnvrtc.so.N, N at most the driver's, or what SY_NVRTC names\n",
               "NVRTC");
    } else {
        memcpy(&version, &symbol, sizeof version);
        version(&major, &minor);
        printf("  %-14s %d.%d, %s\n", "NVRTC", major, minor, path);
    }
    if (library)
        dlclose(library);
}

/* --- GPUs ----------------------------------------------------------------------------------- */

/* 0 if the driver does not know. */
static int attribute(const struct gpu_driver *driver, int which, int device)
{
    int value = 0;
    return driver->cuDeviceGetAttribute(&value, which, device) ? 0 : value;
}

static void show_uuid(const struct gpu_driver *driver, int device)
{
    struct gpu_uuid uuid;
    if (driver->cuDeviceGetUuid_v2(&uuid, device))
        return;
    printf("GPU-");
    for (int i = 0; i < 16; i++)
        printf("%02x%s", uuid.bytes[i], i == 3 || i == 5 || i == 7 || i == 9 ? "-" : "");
}

static void show_memory(const struct gpu_driver *driver, int device)
{
    int khz = attribute(driver, GPU_ATTR_MEMORY_KHZ, device);
    int bits = attribute(driver, GPU_ATTR_MEMORY_BITS, device);
    int l2 = attribute(driver, GPU_ATTR_L2_BYTES, device);
    size_t bytes = 0;
    if (!driver->cuDeviceTotalMem_v2(&bytes, device))
        printf("%.1f GiB", gib(bytes));
    if (khz && bits)
        printf(" of %d bits at %d MHz", bits, khz / 1000);
    if (l2)
        printf(", L2 cache %.0f MiB", l2 / 1048576.0);
}

static void show_sharing(const struct gpu_driver *driver, int device)
{
    static const struct {
        int attribute;
        const char *name;
    } ways[] = {{GPU_ATTR_VMM, "virtual memory"},
                {GPU_ATTR_FD, "descriptors"},
                {GPU_ATTR_FABRIC, "fabric handles"}};
    printf("heaps by ");
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        if (attribute(driver, ways[i].attribute, device))
            printf("%s, ", ways[i].name);
    printf("cudaIpc");
}

static void show_gpu(const struct gpu_driver *driver, int number)
{
    char name[128] = "?", bus[32] = "?";
    int device;
    if (driver->cuDeviceGet(&device, number))
        return;
    driver->cuDeviceGetName(name, (int)sizeof name, device);
    driver->cuDeviceGetPCIBusId(bus, (int)sizeof bus, device);
    printf("  %-3d %s, sm_%d%d, %d SMs at %d MHz\n      ", number, name,
           attribute(driver, GPU_ATTR_MAJOR, device), attribute(driver, GPU_ATTR_MINOR, device),
           attribute(driver, GPU_ATTR_SMS, device),
           attribute(driver, GPU_ATTR_CLOCK_KHZ, device) / 1000);
    show_memory(driver, device);
    printf("; ");
    show_sharing(driver, device);
    printf("\n      %s ", bus);
    show_uuid(driver, device);
    printf("\n");
}

/* --- links ---------------------------------------------------------------------------------- */

static int peer(const struct gpu_driver *driver, int which, int a, int b)
{
    int devices[2], value = 0;
    if (driver->cuDeviceGet(devices, a) || driver->cuDeviceGet(devices + 1, b) ||
        driver->cuDeviceGetP2PAttribute(&value, which, devices[0], devices[1]))
        return 0;
    return value;
}

/* Peers whose memory takes atomic operations are on NVLink; PCIe has none. */
static void show_link(const struct gpu_driver *driver, int a, int b)
{
    char text[24];
    if (a == b)
        snprintf(text, sizeof text, ".");
    else if (!peer(driver, GPU_P2P_ACCESS, a, b))
        snprintf(text, sizeof text, "-");
    else
        snprintf(text, sizeof text, "%s %d",
                 peer(driver, GPU_P2P_ATOMICS, a, b) ? "NVLink" : "PCIe",
                 peer(driver, GPU_P2P_RANK, a, b));
    printf(" %9s", text);
}

static void show_links(const struct gpu_driver *driver, int count)
{
    int lost = 0;
    if (count < 2)
        return;
    count = count > GPUS_MAX ? GPUS_MAX : count;
    printf("  links, with the driver's performance rank (0 is best)\n      ");
    for (int b = 0; b < count; b++)
        printf(" %9d", b);
    printf("\n");
    for (int a = 0; a < count; a++) {
        printf("  %-4d", a);
        for (int b = 0; b < count; b++) {
            show_link(driver, a, b);
            lost += a != b && !peer(driver, GPU_P2P_ACCESS, a, b);
        }
        printf("\n");
    }
    if (lost)
        printf("  -: no peer access; groups cannot have both GPUs\n");
}

/* --- the kernel cache ----------------------------------------------------------------------- */

/* As the library finds it. 0: there is none. */
static int cache_folder(char path[PATH_BYTES])
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int n = 0;
    if (cache && *cache == '/')
        n = snprintf(path, PATH_BYTES, "%s/switchyard", cache);
    else if (home && *home == '/')
        n = snprintf(path, PATH_BYTES, "%s/.cache/switchyard", home);
    return n > 0 && n < PATH_BYTES;
}

static int cache_is_off(void)
{
    sy_param_info info = {.size = sizeof info};
    for (int32_t i = 0; sy_param_get(i, &info) == SY_OK; i++)
        if (!strcmp(info.name, "SY_CACHE"))
            return !strcmp(info.value, "0");
    return 0;
}

/* Kernels, and their bytes, of an open folder. */
static void count_kernels(DIR *files, int *kernels, uint64_t *bytes)
{
    static const char end[] = ".cubin";
    struct dirent *entry;
    while ((entry = readdir(files)) != NULL) {
        size_t length = strlen(entry->d_name);
        struct stat info;
        if (length < sizeof end || strcmp(entry->d_name + length + 1 - sizeof end, end) ||
            fstatat(dirfd(files), entry->d_name, &info, AT_SYMLINK_NOFOLLOW))
            continue;
        ++*kernels;
        *bytes += (uint64_t)info.st_size;
    }
}

static void show_cache(void)
{
    char path[PATH_BYTES];
    struct stat info;
    uint64_t bytes = 0;
    int kernels = 0;
    DIR *files;
    printf("  %-14s ", "kernel cache");
    if (cache_is_off()) {
        printf("off (SY_CACHE=0)\n");
        return;
    }
    if (!cache_folder(path)) {
        printf("none: neither XDG_CACHE_HOME nor HOME is an absolute path\n");
        return;
    }
    files = opendir(path);
    if (!files) {
        printf("%s: %s\n", path, errno == ENOENT ? "not there yet" : strerror(errno));
        return;
    }
    if (!fstat(dirfd(files), &info) && (info.st_uid != geteuid() || info.st_mode & 077)) {
        printf("%s: not used, as it is another user's or open to others\n", path);
    } else {
        count_kernels(files, &kernels, &bytes);
        printf("%s: %d kernels, %.2f MiB\n", path, kernels, (double)bytes / (1 << 20));
    }
    closedir(files);
}

void show_gpus(void)
{
    const char *why;
    const struct gpu_driver *driver = gpu_driver_open(&why);
    int count = 0;
    printf("\nGPUs\n");
    if (driver)
        driver->cuDeviceGetCount(&count);
    if (!driver)
        printf("  none: %s\n", why);
    for (int i = 0; i < count; i++)
        show_gpu(driver, i);
    if (driver) {
        show_links(driver, count);
        show_driver(driver);
        show_compiler();
    }
    show_cache();
}
