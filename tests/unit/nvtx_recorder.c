/* nvtx_recorder.c - a profiler's library as NVTX 3 loads them, small: it writes down what it is
 * told. For nvtx_test.c, which loads it, too, and reads recorder_log.
 *
 * RECORDER in the environment: `domains` fills in all slots, `plain` those without domains only,
 * `nothing` none, `refuse` says that it does not want to be attached. Written from the protocol's
 * description, apart from src/base/nvtx.c, so that one proves the other. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORTED __attribute__((visibility("default")))

EXPORTED extern char recorder_log[8192];
EXPORTED extern int recorder_domain;
EXPORTED int InitializeInjectionNvtx2(const void *(*get_export_table)(uint32_t));

char recorder_log[8192];
int recorder_domain; /* its address is the handle that we give out */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void note(const char *what, const char *name)
{
    size_t used;
    pthread_mutex_lock(&lock);
    used = strlen(recorder_log);
    snprintf(recorder_log + used, sizeof recorder_log - used, "%s%s\n", what, name);
    pthread_mutex_unlock(&lock);
}

/* --- what NVTX would call ------------------------------------------------------------------- */

static void *create_domain(const char *name)
{
    note("domain ", name);
    return &recorder_domain;
}

/* By offset, as nvtxEventAttributes_t has it: version and size at 0 and 2, the kind of message at
 * 32, the message at 40. */
static int push_event(void *domain, const unsigned char *event)
{
    uint16_t head[2];
    int32_t kind;
    const char *message;
    memcpy(head, event, sizeof head);
    memcpy(&kind, event + 32, sizeof kind);
    memcpy(&message, event + 40, sizeof message);
    if (domain != &recorder_domain || head[0] != 3 || head[1] != 48 || kind != 1)
        note("bad event", "");
    else
        note("+", message);
    return 0;
}

static int pop_domain(void *domain)
{
    note(domain == &recorder_domain ? "-" : "bad domain", "");
    return 0;
}

static int push_plain(const char *message)
{
    note("plain +", message);
    return 0;
}

static int pop_plain(void)
{
    note("plain -", "");
    return 0;
}

static void unexpected(void)
{
    note("unexpected call", "");
}

/* --- attaching ------------------------------------------------------------------------------ */

typedef void (*function)(void);

struct callbacks {
    size_t bytes;
    int (*get_module)(int module, function ***table, unsigned *count);
};

struct version {
    size_t bytes;
    uint32_t version, reserved;
    void (*set)(uint32_t version);
};

/* Modules of NVTX 3 and how many entries their tables have, entry 0 being none. */
static const struct {
    int module;
    unsigned count;
} modules[] = {{1, 16}, {2, 9}, {3, 15}, {4, 7}, {5, 16}, {6, 7}};

static int fill(const struct callbacks *callbacks, int domains)
{
    for (size_t m = 0; m < sizeof modules / sizeof *modules; m++) {
        function **table = NULL;
        unsigned count = 0;
        if (!callbacks->get_module(modules[m].module, &table, &count) || !table ||
            count != modules[m].count || table[0] || table[count])
            return 0;
        for (unsigned i = 1; i < count && (domains || modules[m].module == 1); i++)
            *table[i] = unexpected;
        if (modules[m].module == 1) {
            *table[9] = (function)push_plain;
            *table[11] = (function)pop_plain;
        } else if (modules[m].module == 5 && domains) {
            *table[4] = (function)push_event;
            *table[5] = (function)pop_domain;
            *table[12] = (function)create_domain;
        }
    }
    return 1;
}

int InitializeInjectionNvtx2(const void *(*get_export_table)(uint32_t))
{
    const struct callbacks *callbacks = get_export_table(1);
    const struct version *version = get_export_table(3);
    const char *mode = getenv("RECORDER");
    if (!callbacks || callbacks->bytes < sizeof *callbacks || !version ||
        version->bytes < sizeof *version || version->version != 3 || get_export_table(77))
        return 0;
    version->set(3);
    note("attached", "");
    if (!strcmp(mode, "refuse"))
        return 0;
    return !strcmp(mode, "nothing") || fill(callbacks, !strcmp(mode, "domains"));
}
