/* report.c - see report.h. */
#include "report.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "engine.h"
#include "model.h"

#define EVENTS 4096u /* kept */
#define EVENTS_SHOWN 40u
#define TASKS_SHOWN 200u

const char *const sim_check_names[SIM_CHECKS] = {"none",    "result", "race",   "owner", "stale",
                                                 "bounds",  "copy",   "signal", "clean", "live",
                                                 "verdict", "status", "alloc",  "host",  "crash"};

struct event {
    uint64_t time_ns, value;
    const char *what;
    const void *at;
    const char *name;           /* of the task; NULL: nobody */
    uint32_t rank, block, warp; /* block NONE: not a warp */
};

struct sim_violation sim_violation;
static struct event events[EVENTS];
static uint64_t event_count, digest;
static int verbose;

void sim_report_open(int v)
{
    verbose = v;
    event_count = digest = 0;
    memset(&sim_violation, 0, sizeof sim_violation);
}

void sim_violate(enum sim_check check, const char *format, ...)
{
    va_list ap;
    if (!sim_violation.check) {
        sim_violation.check = check;
        va_start(ap, format);
        vsnprintf(sim_violation.text, sizeof sim_violation.text, format, ap);
        va_end(ap);
    }
    sim_sched_abandon();
}

/* --- places ----------------------------------------------------------------------------------- */

static const char *in_heap(uint32_t rank, const uint8_t *p, char text[SIM_WHERE])
{
    const struct sy_dev *d = sim_dev_at(rank, p);
    const char *name = "?";
    uint64_t from = 0, offset = d ? (uint64_t)(p - d->heap) : 0;
    if (d) {
#define SY_REGION(region, type, count, meaning)                                                    \
    if (d->at.region <= offset) {                                                                  \
        name = #region;                                                                            \
        from = d->at.region;                                                                       \
    }
#include "layout/heap.def"
#undef SY_REGION
    }
    snprintf(text, SIM_WHERE, "rank %u heap %s+%llu", rank, name,
             (unsigned long long)(offset - from));
    return text;
}

/* The part of a table of regions that an offset lies in. */
#define SEARCH(field)                                                                              \
    if (at->field <= offset && at->field >= from) {                                                \
        name = #field;                                                                             \
        from = at->field;                                                                          \
    }

static int in_local(uint32_t rank, const uint8_t *p, char text[SIM_WHERE])
{
    const struct sy_dev *d = sim_dev_of(rank);
    const struct sy_local_layout *at = d ? &d->in : NULL;
    const char *name = "?";
    uint64_t from = 0, offset = d ? (uint64_t)(p - d->mine) : 0;
    if (!d || offset >= at->bytes)
        return 0;
#define SY_LOCAL(field, type, count, meaning) SEARCH(field)
#include "layout/local.def"
#undef SY_LOCAL
    snprintf(text, SIM_WHERE, "rank %u private %s+%llu", rank, name,
             (unsigned long long)(offset - from));
    return 1;
}

static int in_route(uint32_t rank, const uint8_t *p, char text[SIM_WHERE])
{
    const struct sy_dev_route *r = sim_route_at(rank, p);
    const struct sy_route_layout *at = r ? &r->at : NULL;
    const char *name = "?";
    uint64_t from = 0, offset = r ? (uint64_t)(p - r->memory) : 0;
    if (!r)
        return 0;
#define SY_ROUTE(field, type, count, meaning) SEARCH(field)
#include "layout/route.def"
#undef SY_ROUTE
    snprintf(text, SIM_WHERE, "rank %u route %s+%llu", rank, name,
             (unsigned long long)(offset - from));
    return 1;
}

const char *sim_where(const void *at, char text[SIM_WHERE])
{
    const struct sim_page *page;
    const uint8_t *p = at;
    if (!sim_inside(at)) {
        snprintf(text, SIM_WHERE, "memory of nobody");
        return text;
    }
    page = sim_page_of(at);
    if (page->place == SIM_HEAP)
        return in_heap(page->rank, p, text);
    if (in_local(page->rank, p, text) || in_route(page->rank, p, text))
        return text;
    snprintf(text, SIM_WHERE, "rank %u %s memory %#llx", page->rank,
             page->place == SIM_SHARED ? "shared" : "private", (unsigned long long)(p - sim_arena));
    return text;
}

/* --- events ----------------------------------------------------------------------------------- */

#define NONE UINT32_MAX

static void name_event(const struct event *e, char text[SIM_WHERE])
{
    if (!e->name)
        text[0] = 0;
    else if (e->rank == SIM_NOBODY)
        snprintf(text, SIM_WHERE, "%s", e->name);
    else if (e->block == NONE)
        snprintf(text, SIM_WHERE, "rank %u %s", e->rank, e->name);
    else
        snprintf(text, SIM_WHERE, "rank %u %s block %u warp %u", e->rank, e->name, e->block,
                 e->warp);
}

static void describe_task(const struct sim_task *t, struct event *e)
{
    e->name = t->name;
    e->rank = t->rank;
    e->block = t->warp ? t->warp->c.block : NONE;
    e->warp = t->warp ? t->warp->c.warp : NONE;
}

static void print_event(const struct event *e)
{
    char who[SIM_WHERE], where[SIM_WHERE] = "";
    name_event(e, who);
    if (e->at)
        sim_where(e->at, where);
    printf("  %12llu ns  %-34s %s %s %#llx\n", (unsigned long long)e->time_ns, who, e->what, where,
           (unsigned long long)e->value);
}

void sim_event(const char *what, const void *at, uint64_t value)
{
    struct event *e = events + event_count++ % EVENTS;
    e->time_ns = sim_now_ns();
    e->value = value;
    e->what = what;
    e->at = at;
    e->name = NULL;
    if (sim_current)
        describe_task(sim_current, e);
    digest = (digest ^ e->time_ns) * 0x9e3779b97f4a7c15u;
    digest ^= digest >> 29 ^ value ^ (at ? (uint64_t)((const uint8_t *)at - sim_arena) : 0);
    if (verbose)
        print_event(e);
}

uint64_t sim_event_digest(void)
{
    return sy_mix64(digest);
}

/* --- the report ------------------------------------------------------------------------------- */

static void print_task(const struct sim_task *t)
{
    char who[SIM_WHERE], where[SIM_WHERE];
    struct event as;
    describe_task(t, &as);
    name_event(&as, who);
    printf("  %-40s %s", who, t->state == SIM_RUNNABLE ? "can run" : "waits for ");
    if (t->state != SIM_RUNNABLE)
        printf("%s", t->doing ? t->doing : "?");
    if (t->warp && t->warp->doing)
        printf(": %s, since %llu ns", sim_where(t->warp->doing_at, where),
               (unsigned long long)t->parked_ns);
    if (t->warp && t->warp->launch)
        printf(" (%s %llu)", sim_kernel_names[t->warp->launch->kernel],
               (unsigned long long)t->warp->launch->epoch);
    printf("\n");
}

void sim_report_print(void)
{
    uint32_t shown = 0;
    uint64_t first = event_count > EVENTS_SHOWN ? event_count - EVENTS_SHOWN : 0;
    printf("violated: %s: %s\n", sim_check_names[sim_violation.check], sim_violation.text);
    printf("the last events, at %llu ns:\n", (unsigned long long)sim_now_ns());
    for (uint64_t i = first; i < event_count; i++)
        print_event(events + i % EVENTS);
    printf("where everyone stood:\n");
    for (uint32_t i = 0; i < sim_task_count(); i++) {
        if (sim_task_at(i)->state == SIM_OVER)
            continue;
        if (shown++ < TASKS_SHOWN)
            print_task(sim_task_at(i));
    }
    if (shown > TASKS_SHOWN)
        printf("  and %u more\n", shown - TASKS_SHOWN);
}
