/* nvtx.c - see nvtx.h. The tool's library asks us for tables of slots, one table for each of NVTX's
 * modules, and stores its functions there. We keep a slot for everything that NVTX 3 has, as tools
 * may fill in all of them, and call the few that we have use for. */
#include "nvtx.h"

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "os.h"
#include "params.h"

/* --- what tools know ------------------------------------------------------------------------ */

enum { TABLE_CALLBACKS = 1, TABLE_VERSION = 3 }; /* what a tool may ask for */

enum { CORE = 1, CUDA = 2, OPENCL = 3, CUDART = 4, CORE2 = 5, SYNC = 6, MODULES = 7 };

enum { CORE_PUSH = 9, CORE_POP = 11, CORE_SLOTS = 16 };
enum { CORE2_PUSH = 4, CORE2_POP = 5, CORE2_CREATE = 12, CORE2_SLOTS = 16 };
enum { CUDA_SLOTS = 9, OPENCL_SLOTS = 15, CUDART_SLOTS = 7, SYNC_SLOTS = 7, SLOTS_MAX = 16 };

typedef void (*slot)(void); /* cast to what it is before it is called */

typedef int (*core_push)(const char *message);
typedef int (*core_pop)(void);
typedef int (*domain_push)(void *domain, const void *event);
typedef int (*domain_pop)(void *domain);
typedef void *(*domain_create)(const char *name);

struct callbacks {
    size_t bytes;
    int (*get_module)(int module, slot ***table, unsigned *slots);
};

struct version {
    size_t bytes;
    uint32_t version, reserved;
    void (*set_tool_version)(uint32_t version);
};

/* nvtxEventAttributes_t */
struct event {
    uint16_t version, bytes;
    uint32_t category;
    int32_t color_type;
    uint32_t color;
    int32_t payload_type, reserved;
    uint64_t payload;
    int32_t message_type;
    const char *message;
};

_Static_assert(sizeof(struct event) == 48, "as in NVTX 3");

#define NVTX_VERSION 3
#define MESSAGE_ASCII 1

/* --- the tables ----------------------------------------------------------------------------- */

static const unsigned slots_of[MODULES] = {
    0, CORE_SLOTS, CUDA_SLOTS, OPENCL_SLOTS, CUDART_SLOTS, CORE2_SLOTS, SYNC_SLOTS};
static slot slots[MODULES][SLOTS_MAX];
static slot *tables[MODULES][SLOTS_MAX + 1]; /* slot 0 of each is none, and one behind the last */

static int get_module(int module, slot ***table, unsigned *count)
{
    if (module <= 0 || module >= MODULES)
        return 0;
    if (count)
        *count = slots_of[module];
    if (table)
        *table = tables[module];
    return 1;
}

static void set_tool_version(uint32_t version)
{
    (void)version;
}

static const void *get_table(uint32_t id)
{
    static const struct callbacks callbacks = {sizeof callbacks, get_module};
    static const struct version version = {sizeof version, NVTX_VERSION, 0, set_tool_version};
    if (id == TABLE_CALLBACKS)
        return &callbacks;
    return id == TABLE_VERSION ? (const void *)&version : NULL;
}

/* --- the tool ------------------------------------------------------------------------------- */

int sy_nvtx_on;
static void *domain; /* NULL: the tool knows none, and gets plain ranges */

static int attach(const char *path)
{
    int (*start)(const void *(*get_table)(uint32_t));
    void *library = sy_os->open_library(path), *at;
    int started = 0;
    if (!library)
        return 0;
    at = sy_os->symbol(library, "InitializeInjectionNvtx2");
    memcpy(&start, &at, sizeof start);
    for (int m = 1; m < MODULES; m++)
        for (unsigned i = 1; i < slots_of[m]; i++)
            tables[m][i] = &slots[m][i];
    if (at)
        started = start(get_table);
    if (!started)
        sy_os->close_library(library);
    return started;
}

/* A tool that is interested in other things than ranges leaves their slots alone. */
static void open_once(void)
{
    const char *path = sy_env("NVTX_INJECTION64_PATH");
    if (!path || !*path || !attach(path))
        return;
    if (slots[CORE2][CORE2_CREATE] && slots[CORE2][CORE2_PUSH] && slots[CORE2][CORE2_POP])
        domain = ((domain_create)slots[CORE2][CORE2_CREATE])("switchyard");
    sy_nvtx_on = domain || (slots[CORE][CORE_PUSH] && slots[CORE][CORE_POP]);
}

void sy_nvtx_open(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, open_once);
}

void sy_nvtx_push(const char *name)
{
    const struct event event = {.version = NVTX_VERSION,
                                .bytes = sizeof event,
                                .message_type = MESSAGE_ASCII,
                                .message = name};
    if (domain)
        ((domain_push)slots[CORE2][CORE2_PUSH])(domain, &event);
    else
        ((core_push)slots[CORE][CORE_PUSH])(name);
}

sy_status sy_nvtx_pop(sy_status status)
{
    if (domain)
        ((domain_pop)slots[CORE2][CORE2_POP])(domain);
    else
        ((core_pop)slots[CORE][CORE_POP])();
    return status;
}
