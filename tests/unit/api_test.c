/* api_test.c - the public calls around groups: what they refuse, what they say, what they leave.
 *
 *   1  Questions       3  Groups      5  Memory, log, what is left
 *   2  Configurations  4  Streams and events
 */
#define _GNU_SOURCE
#include "crew.h"

#include <limits.h>

#include "base/os.h"

/* ---- 1. Questions ---------------------------------------------------------------------------- */

static void version(void)
{
    char begin[32];
    snprintf(begin, sizeof begin, "%d.%d.%d (", SY_VERSION_MAJOR, SY_VERSION_MINOR,
             SY_VERSION_PATCH);
    CHECK(!strncmp(sy_version(), begin, strlen(begin)), "version %s", sy_version());
    CHECK(sy_version()[strlen(sy_version()) - 1] == ')', "version %s", sy_version());
    CHECK(sy_version_number() ==
              SY_VERSION_MAJOR * 10000 + SY_VERSION_MINOR * 100 + SY_VERSION_PATCH,
          "version number %d", sy_version_number());
}

static void statuses(void)
{
    CHECK(!strcmp(sy_status_name(SY_OK), "SY_OK"), "SY_OK is %s", sy_status_name(SY_OK));
    CHECK(!strcmp(sy_status_name(SY_TIMEOUT), "SY_TIMEOUT"), "%s", sy_status_name(SY_TIMEOUT));
    CHECK(!strcmp(sy_status_text(SY_TIMEOUT), "a rank did not arrive in time"), "%s",
          sy_status_text(SY_TIMEOUT));
    for (int i = SY_OK; i <= SY_NOT_READY; i++) {
        CHECK(!strncmp(sy_status_name((sy_status)i), "SY_", 3) && sy_status_name((sy_status)i)[3],
              "status %d has no name", i);
        CHECK(strlen(sy_status_text((sy_status)i)) > 4, "status %d has no text", i);
        for (int k = SY_OK; k < i; k++)
            CHECK(strcmp(sy_status_name((sy_status)i), sy_status_name((sy_status)k)),
                  "statuses %d and %d have one name", i, k);
    }
    for (int i = -1; i < 200; i += 1 + 100 * (i == SY_NOT_READY)) /* -1, ..., 113 */
        if (i < SY_OK || i > SY_NOT_READY)
            CHECK(sy_status_name((sy_status)i) && sy_status_text((sy_status)i), "status %d", i);
    CHECK(sy_last_error(), "sy_last_error() is NULL");
}

static void engines(void)
{
    sy_engine_info info;
    memset(&info, 0, sizeof info);
    FAILS(sy_engine_query(SY_ENGINE_CPU, NULL), SY_INVALID, "sy_engine_query");
    FAILS(sy_engine_query(SY_ENGINE_CPU, &info), SY_INVALID, "size");
    info.size = sizeof info - 1;
    FAILS(sy_engine_query(SY_ENGINE_CPU, &info), SY_INVALID, "size");
    info.size = sizeof info;
    FAILS(sy_engine_query((sy_engine)9, &info), SY_INVALID, "engine 9");
    FAILS(sy_engine_query((sy_engine)-1, &info), SY_INVALID, "engine -1");
    WORKS(sy_engine_query(SY_ENGINE_CPU, &info));
    CHECK(info.engine == SY_ENGINE_CPU && info.available == 1 && info.devices >= 1 &&
              !strcmp(info.name, "CPU") && strstr(info.detail, "cores") && info.size == sizeof info,
          "the CPU engine: %d, %d devices, %s, %s", info.available, info.devices, info.name,
          info.detail);
    for (int e = SY_ENGINE_AUTO; e <= SY_ENGINE_HIP; e++) {
        WORKS(sy_engine_query((sy_engine)e, &info));
        CHECK(info.name[0] && info.detail[0], "engine %d has no name or detail", e);
    }
    WORKS(sy_engine_query(SY_ENGINE_HIP, &info));
    if (!info.available) {
        sy_group_config c;
        crew_config(&c, 1, 0);
        c.engine = SY_ENGINE_HIP;
        FAILS(sy_group_check(&c), SY_UNSUPPORTED, "HIP");
    }
}

/* ---- 2. Configurations ----------------------------------------------------------------------- */

/* One field of a good configuration becomes this value, and the text says this. */
struct bad_field {
    const char *name;
    size_t offset, bytes;
    int64_t value;
    const char *text;
};

#define FIELD(field, value, text)                                                                  \
    {                                                                                              \
#field, offsetof(sy_group_config, field), sizeof(((sy_group_config *)0)->field), value,    \
            text                                                                                   \
    }

static const struct bad_field bad_fields[] = {
    FIELD(size, 0, "sy_group_config"),
    FIELD(size, sizeof(sy_group_config) - 8, "sy_group_config"),
    FIELD(boot, -1, "boot -1"),
    FIELD(boot, 3, "boot 3"),
    FIELD(rank, -1, "rank -1 of 1"),
    FIELD(rank, 1, "rank 1 of 1"),
    FIELD(ranks, 0, "ranks 0"),
    FIELD(ranks, -5, "ranks -5"),
    FIELD(ranks, 4096, "ranks 4096"),
    FIELD(engine, -1, "engine -1"),
    FIELD(engine, 4, "engine 4"),
    FIELD(allgather, 0, "allgather"),
    FIELD(barrier, 0, "barrier"),
    FIELD(modes, 4, "modes"),
    FIELD(modes, 0x80000001, "modes"),
    FIELD(experts, 0, "experts 0"),
    FIELD(experts, -1, "experts -1"),
    FIELD(experts, 1000000, "experts 1000000"),
    FIELD(topk_max, 0, "topk_max 0"),
    FIELD(topk_max, -1, "topk_max -1"),
    FIELD(topk_max, 65, "topk_max 65"),
    FIELD(topk_max, INT_MAX, "topk_max"),
    FIELD(tokens_max, 0, "tokens_max 0"),
    FIELD(tokens_max, -1, "tokens_max -1"),
    FIELD(tokens_max, INT64_MAX, "tokens_max"),
    FIELD(latency_tokens_max, -1, "latency_tokens_max -1"),
    FIELD(latency_tokens_max, INT64_MAX, "latency_tokens_max"),
    FIELD(row_bytes_max, 0, "row_bytes_max 0"),
    FIELD(row_bytes_max, 8, "row_bytes_max 8"),
    FIELD(row_bytes_max, 40, "a multiple of 16"),
    FIELD(row_bytes_max, 1 << 20, "row_bytes_max"),
    FIELD(row_bytes_max, -16, "row_bytes_max -16"),
    FIELD(scale_words_max, -1, "scale_words_max -1"),
    FIELD(scale_words_max, 1 << 30, "scale_words_max"),
    FIELD(recv_rows_max, -1, "recv_rows_max -1"),
    FIELD(recv_rows_max, 1LL << 40, "recv_rows_max"),
    FIELD(views, -1, "views -1"),
    FIELD(views, 9, "views 9"),
    FIELD(latency_views, 1, "latency_views 1"),
    FIELD(latency_views, 9, "latency_views 9"),
    FIELD(latency_views, -2, "latency_views -2"),
    FIELD(user_bytes, -1, "user_bytes -1"),
    FIELD(user_bytes, INT64_MAX, "user_bytes"),
    FIELD(cpu_threads, -1, "cpu_threads -1"),
    FIELD(cpu_threads, 65, "cpu_threads 65"),
    FIELD(timeout_ns, INT64_MAX, "timeout_ns"),
    FIELD(log_level, -1, "log_level -1"),
    FIELD(log_level, 5, "log_level 5"),
};

static void set_field(sy_group_config *c, const struct bad_field *f)
{
    int32_t narrow = (int32_t)f->value;
    memcpy((char *)c + f->offset, f->bytes == 4 ? (const void *)&narrow : (const void *)&f->value,
           f->bytes);
}

static void bad_configurations(void)
{
    struct crew_left before = crew_before();
    for (size_t i = 0; i < sizeof bad_fields / sizeof *bad_fields; i++) {
        const struct bad_field *f = bad_fields + i;
        sy_group_sizes sizes = {.size = sizeof sizes};
        sy_group *group = NULL;
        sy_group_config c;
        sy_status status;
        crew_config(&c, 1, 0);
        set_field(&c, f);
        status = sy_group_check(&c);
        CHECK(status == SY_INVALID && strstr(sy_last_error(), f->text), "%s %lld: check: %s: %s",
              f->name, (long long)f->value, sy_status_name(status), sy_last_error());
        status = sy_group_sizes_get(&c, &sizes);
        CHECK(status == SY_INVALID && strstr(sy_last_error(), f->text), "%s %lld: sizes: %s: %s",
              f->name, (long long)f->value, sy_status_name(status), sy_last_error());
        status = sy_group_create(&c, &group);
        CHECK(status == SY_INVALID && strstr(sy_last_error(), f->text) && !group,
              "%s %lld: create: %s: %s", f->name, (long long)f->value, sy_status_name(status),
              sy_last_error());
    }
    CHECK(crew_clean(before), "refused configurations left something");
}

static void tables_of_experts(void)
{
    int32_t experts[3] = {1, 2, 3};
    sy_group_config c;
    crew_config(&c, 3, 0);
    c.experts = 6;
    c.experts_per_rank = experts;
    WORKS(sy_group_check(&c));
    c.experts = 7;
    FAILS(sy_group_check(&c), SY_INVALID, "experts_per_rank sums to 6, not experts 7");
    c.experts = 6;
    experts[1] = -1;
    FAILS(sy_group_check(&c), SY_INVALID, "experts_per_rank[1] is -1");
    experts[1] = INT_MAX;
    FAILS(sy_group_check(&c), SY_INVALID, "experts_per_rank[1]");
    experts[0] = experts[1] = 0;
    experts[2] = 6;
    WORKS(sy_group_check(&c));
    c.experts_per_rank = NULL;
    c.experts = 2; /* fewer than ranks: the last has none */
    WORKS(sy_group_check(&c));
}

/* Sums that do not fit must not wrap around into something that does. */
static void too_large(void)
{
    sy_group_config c;
    crew_config(&c, 4095, 0);
    c.experts = 49152;
    c.tokens_max = 1 << 20;
    c.latency_tokens_max = 1 << 20;
    FAILS(sy_group_check(&c), SY_INVALID, "2^31");
    crew_config(&c, 1024, 0);
    c.tokens_max = c.latency_tokens_max = 1 << 20;
    c.row_bytes_max = 65536;
    c.views = 8;
    FAILS(sy_group_check(&c), SY_INVALID, "GiB");
    crew_config(&c, 1, 0);
    c.recv_rows_max = 0x7fffffff;
    c.row_bytes_max = 65536;
    c.views = 8;
    FAILS(sy_group_check(&c), SY_INVALID, "GiB");
    crew_config(&c, 1, 0);
    c.experts = 16384;
    c.topk_max = 16384;
    c.tokens_max = 1 << 20;
    FAILS(sy_group_check(&c), SY_INVALID, "2^31");
}

static void allocator_pair(void)
{
    sy_allocator half = {.alloc = NULL, .free = NULL};
    sy_group_config c;
    crew_config(&c, 1, 0);
    c.allocator = &half;
    FAILS(sy_group_check(&c), SY_INVALID, "allocator");
}

static void sizes_and_info(void)
{
    sy_group_sizes sizes, larger = {.size = sizeof larger};
    sy_group_info info = {.size = sizeof info};
    sy_group_config c;
    sy_group *group = NULL;
    memset(&sizes, 0, sizeof sizes);
    crew_config(&c, 1, 0);
    FAILS(sy_group_sizes_get(&c, NULL), SY_INVALID, "sy_group_sizes");
    FAILS(sy_group_sizes_get(&c, &sizes), SY_INVALID, "size");
    sizes.size = sizeof sizes;
    FAILS(sy_group_sizes_get(NULL, &sizes), SY_INVALID, "sy_group_config");
    WORKS(sy_group_sizes_get(&c, &sizes));
    c.user_bytes += 1 << 20;
    WORKS(sy_group_sizes_get(&c, &larger));
    CHECK(larger.heap_bytes == sizes.heap_bytes + (1 << 20), "user_bytes change the heap by %lld",
          (long long)(larger.heap_bytes - sizes.heap_bytes));
    c.user_bytes -= 1 << 20;
    c.modes = SY_LATENCY;
    WORKS(sy_group_sizes_get(&c, &larger));
    CHECK(larger.heap_bytes < sizes.heap_bytes, "one mode takes as much as two");
    c.modes = 0;
    c.cpu_threads = 3;
    WORKS(sy_group_create(&c, &group));
    if (!group)
        return;
    WORKS(sy_group_sizes_get(&c, &sizes));
    FAILS(sy_group_info_get(NULL, &info), SY_INVALID, "sy_group_info_get");
    FAILS(sy_group_info_get(group, NULL), SY_INVALID, "sy_group_info_get");
    info.size = 8;
    FAILS(sy_group_info_get(group, &info), SY_INVALID, "size");
    info.size = sizeof info;
    WORKS(sy_group_info_get(group, &info));
    CHECK(info.rank == 0 && info.ranks == 1 && info.engine == SY_ENGINE_CPU && info.experts == 2 &&
              info.experts_first == 0 && info.experts_local == 2 && info.cpu_threads == 3 &&
              info.views == 1 && info.latency_views == 2 && info.recv_rows_max == 64,
          "what the group says of itself is not what it was given");
    CHECK(info.sizes.heap_bytes == sizes.heap_bytes &&
              info.sizes.device_bytes == sizes.device_bytes &&
              info.sizes.host_bytes == sizes.host_bytes,
          "sizes before and after differ");
    WORKS(sy_group_destroy(group));
}

/* ---- 3. Groups ------------------------------------------------------------------------------- */

static void null_arguments(void)
{
    sy_group *group = crew_alone();
    sy_route_config config = crew_route(SY_THROUGHPUT, SY_TOKEN_MAJOR);
    sy_route *route = NULL;
    sy_stream *stream = NULL;
    sy_event *event = NULL;
    size_t bytes;
    uint64_t ns;
    if (!group)
        return;
    WORKS(sy_event_create(group, &event));
    FAILS(sy_group_create(NULL, &group), SY_INVALID, "sy_group_c");
    FAILS(sy_group_create(NULL, NULL), SY_INVALID, "sy_group_create");
    FAILS(sy_group_check(NULL), SY_INVALID, "sy_group_config");
    WORKS(sy_group_destroy(NULL));
    FAILS(sy_group_barrier(NULL), SY_INVALID, "sy_group_barrier");
    FAILS(sy_group_poll(NULL, NULL), SY_INVALID, "sy_group_poll");
    FAILS(sy_group_abort(NULL), SY_INVALID, "sy_group_abort");
    FAILS(sy_stream_create(NULL, &stream), SY_INVALID, "sy_stream_create");
    FAILS(sy_stream_create(group, NULL), SY_INVALID, "sy_stream_create");
    WORKS(sy_stream_destroy(NULL));
    FAILS(sy_stream_sync(NULL, NULL), SY_INVALID, "sy_stream_sync");
    FAILS(sy_stream_query(NULL, NULL), SY_INVALID, "sy_stream_query");
    FAILS(sy_stream_call(NULL, NULL, free, NULL), SY_INVALID, "sy_stream_call");
    FAILS(sy_stream_call(group, NULL, NULL, NULL), SY_INVALID, "sy_stream_call");
    FAILS(sy_event_create(NULL, &event), SY_INVALID, "sy_event_create");
    FAILS(sy_event_create(group, NULL), SY_INVALID, "sy_event_create");
    WORKS(sy_event_destroy(NULL));
    FAILS(sy_event_record(NULL, NULL), SY_INVALID, "sy_event_record");
    FAILS(sy_event_sync(NULL), SY_INVALID, "sy_event_sync");
    FAILS(sy_event_query(NULL), SY_INVALID, "sy_event_query");
    FAILS(sy_stream_wait(NULL, NULL), SY_INVALID, "sy_stream_wait");
    FAILS(sy_event_elapsed(NULL, event, &ns), SY_INVALID, "sy_event_elapsed");
    FAILS(sy_event_elapsed(event, NULL, &ns), SY_INVALID, "sy_event_elapsed");
    FAILS(sy_event_elapsed(event, event, NULL), SY_INVALID, "sy_event_elapsed");
    FAILS(sy_route_bytes(NULL, &config, &bytes), SY_INVALID, "sy_route_bytes");
    FAILS(sy_route_bytes(group, NULL, &bytes), SY_INVALID, "sy_route_config");
    FAILS(sy_route_bytes(group, &config, NULL), SY_INVALID, "sy_route_bytes");
    FAILS(sy_route_create(NULL, &config, NULL, &route), SY_INVALID, "sy_route_create");
    FAILS(sy_route_create(group, NULL, NULL, &route), SY_INVALID, "sy_route_config");
    FAILS(sy_route_create(group, &config, NULL, NULL), SY_INVALID, "sy_route_create");
    WORKS(sy_route_destroy(NULL));
    FAILS(sy_route_set(NULL, NULL, NULL), SY_INVALID, "sy_route_set");
    FAILS(sy_route_info_get(NULL, NULL), SY_INVALID, "sy_route_info_get");
    FAILS(sy_route_totals(NULL, NULL), SY_INVALID, "sy_route_totals");
    FAILS(sy_dispatch(NULL, NULL, NULL), SY_INVALID, "sy_dispatch");
    FAILS(sy_combine(NULL, NULL, NULL), SY_INVALID, "sy_combine");
    FAILS(sy_alloc(NULL, 1, (void **)&ns), SY_INVALID, "sy_alloc");
    FAILS(sy_free(NULL, &ns), SY_INVALID, "sy_free");
    FAILS(sy_param_get(0, NULL), SY_INVALID, "sy_param_get");
    FAILS(sy_id_create(NULL), SY_INVALID, "sy_id_create");
    FAILS(sy_id_discard(NULL), SY_INVALID, "sy_id_discard");
    WORKS(sy_event_destroy(event));
    WORKS(sy_group_destroy(group));
}

static void ids(void)
{
    struct crew_left before = crew_before();
    sy_group_config c;
    sy_group *group = NULL;
    sy_id id;
    memset(&id, 0x55, sizeof id);
    FAILS(sy_id_discard(&id), SY_INVALID, "sy_id_create()");
    crew_config(&c, 2, 0);
    c.id = id;
    FAILS(sy_group_create(&c, &group), SY_INVALID, "sy_id_create()");
    WORKS(sy_id_create(&id));
    WORKS(sy_id_discard(&id));
    WORKS(sy_id_discard(&id));
    c.id = id;
    FAILS(sy_group_create(&c, &group), SY_PEER_LOST, "nobody serves");
    CHECK(!group && crew_clean(before), "ids left something");
}

static void destroy_with_objects(void)
{
    sy_group *group = crew_alone();
    sy_route_config config = crew_route(SY_LATENCY, SY_TOKEN_MAJOR);
    sy_route *route = NULL;
    sy_stream *stream = NULL;
    sy_event *event = NULL;
    if (!group)
        return;
    WORKS(sy_route_create(group, &config, NULL, &route));
    WORKS(sy_stream_create(group, &stream));
    WORKS(sy_event_create(group, &event));
    FAILS(sy_group_destroy(group), SY_STATE, "3 routes, streams or events");
    WORKS(sy_route_destroy(route));
    FAILS(sy_group_destroy(group), SY_STATE, "2 routes, streams or events");
    WORKS(sy_stream_destroy(stream));
    FAILS(sy_group_destroy(group), SY_STATE, "1 routes, streams or events");
    WORKS(sy_event_destroy(event));
    WORKS(sy_group_destroy(group));
}

/* A group whose other rank does not come: the deadline holds, and the text says who. */
static void nobody_comes(void)
{
    struct crew_left before = crew_before();
    uint64_t begin = crew_now_ns();
    sy_group_config c;
    sy_group *group = NULL;
    crew_config(&c, 2, 0);
    c.timeout_ns = 300000000;
    CHECK(sy_id_create(&c.id) == SY_OK, "no id: %s", sy_last_error());
    FAILS(sy_group_create(&c, &group), SY_TIMEOUT, "rank 1");
    CHECK(crew_now_ns() - begin < 1000000000ull * CREW_SLOW, "it took %.0f ms",
          (double)(crew_now_ns() - begin) / 1e6);
    CHECK(crew_clean(before), "a group that nobody joined left something");
}

static void poll_and_abort(void)
{
    sy_group *group = crew_alone();
    sy_fault fault;
    memset(&fault, 0, sizeof fault);
    if (!group)
        return;
    FAILS(sy_group_poll(group, &fault), SY_INVALID, "size");
    fault.size = sizeof fault;
    WORKS(sy_group_poll(group, &fault));
    CHECK(fault.status == SY_OK && fault.culprit == -1 && fault.reporter == -1 && !fault.text[0] &&
              fault.size == sizeof fault,
          "a good group has fault %d of %d by %d: %s", fault.status, fault.culprit, fault.reporter,
          fault.text);
    WORKS(sy_group_poll(group, NULL));
    WORKS(sy_group_barrier(group));
    WORKS(sy_group_abort(group));
    WORKS(sy_group_abort(group));
    for (int i = 0; i < 2; i++) { /* a fault is final, and told each time */
        FAILS(sy_group_poll(group, &fault), SY_ABORTED, "rank 0 called sy_group_abort()");
        CHECK(fault.status == SY_ABORTED && fault.culprit == -1 && fault.reporter == 0 &&
                  !strcmp(fault.text, sy_last_error()) && fault.size == sizeof fault,
              "fault %d of %d by %d: %s", fault.status, fault.culprit, fault.reporter, fault.text);
    }
    FAILS(sy_group_barrier(group), SY_ABORTED, "sy_group_barrier: rank 0 called");
    FAILS(sy_stream_sync(group, NULL), SY_ABORTED, "sy_stream_sync: rank 0 called");
    WORKS(sy_group_destroy(group));
}

/* ---- 4. Streams and events ------------------------------------------------------------------- */

struct gate {
    _Atomic int open, passed;
};

static void wait_at_gate(void *context)
{
    struct gate *g = context;
    while (!g->open)
        crew_sleep_ms(1);
    g->passed++;
}

static void pass_gate(void *context)
{
    struct gate *g = context;
    g->passed++;
}

static void streams(void)
{
    sy_group *group = crew_alone();
    struct gate gate = {0, 0};
    sy_stream *a = NULL, *b = NULL;
    sy_event *event = NULL, *later = NULL;
    uint64_t ns = 0;
    if (!group)
        return;
    WORKS(sy_stream_create(group, &a));
    WORKS(sy_stream_create(group, &b));
    WORKS(sy_event_create(group, &event));
    WORKS(sy_event_create(group, &later));
    WORKS(sy_event_query(event)); /* never recorded: nothing to wait for */
    WORKS(sy_event_sync(event));
    CHECK(sy_event_elapsed(event, later, &ns) == SY_NOT_READY, "time between two unused events");
    WORKS(sy_stream_call(group, a, wait_at_gate, &gate));
    WORKS(sy_event_record(event, a));
    WORKS(sy_stream_wait(b, event));
    WORKS(sy_stream_call(group, b, pass_gate, &gate));
    WORKS(sy_event_record(later, b));
    CHECK(sy_stream_query(group, a) == SY_NOT_READY, "a stream with work is idle");
    CHECK(sy_stream_query(group, b) == SY_NOT_READY, "a stream that waits is idle");
    WORKS(sy_stream_query(group, NULL));
    CHECK(sy_event_query(event) == SY_NOT_READY, "an event has happened too early");
    crew_sleep_ms(20);
    CHECK(gate.passed == 0, "a stream did not wait for an event of another");
    gate.open = 1;
    WORKS(sy_event_sync(later));
    CHECK(gate.passed == 2, "an event came before the work in front of it");
    WORKS(sy_stream_sync(group, a));
    WORKS(sy_event_query(event));
    WORKS(sy_event_elapsed(event, later, &ns));
    CHECK(ns < 10000000000ull, "%llu ns between two events", (unsigned long long)ns);
    WORKS(sy_stream_destroy(a));
    WORKS(sy_stream_destroy(b));
    WORKS(sy_event_destroy(event));
    WORKS(sy_event_destroy(later));
    WORKS(sy_group_destroy(group));
}

/* Recorded twice on streams that reach it in the other order: it has happened when both have. */
static void event_on_two_streams(void)
{
    sy_group *group = crew_alone();
    struct gate gate = {0, 0};
    sy_stream *slow = NULL;
    sy_event *event = NULL;
    if (!group)
        return;
    WORKS(sy_stream_create(group, &slow));
    WORKS(sy_event_create(group, &event));
    WORKS(sy_stream_call(group, slow, wait_at_gate, &gate));
    WORKS(sy_event_record(event, slow));
    WORKS(sy_event_record(event, NULL));
    WORKS(sy_stream_sync(group, NULL));
    gate.open = 1;
    WORKS(sy_stream_sync(group, slow));
    CHECK(sy_event_query(event) == SY_OK,
          "an event whose recordings are all done has not happened");
    if (sy_event_query(event) != SY_OK)
        return; /* waiting for it would take for ever, and so would destroying the group */
    WORKS(sy_event_sync(event));
    WORKS(sy_event_destroy(event));
    WORKS(sy_stream_destroy(slow));
    WORKS(sy_group_destroy(group));
}

/* More work than a stream's queue holds: the caller waits, and everything runs in order. */
struct sequence {
    int next, wrong;
};

struct step {
    struct sequence *of;
    int number;
};

static void take_step(void *context)
{
    struct step *s = context;
    s->of->wrong += s->of->next++ != s->number;
}

static void long_queue(void)
{
    enum { STEPS = 2000 };
    static struct step steps[STEPS];
    struct sequence sequence = {0, 0};
    sy_group *group = crew_alone();
    if (!group)
        return;
    for (int i = 0; i < STEPS; i++) {
        steps[i] = (struct step){&sequence, i};
        WORKS(sy_stream_call(group, NULL, take_step, steps + i));
    }
    WORKS(sy_stream_sync(group, NULL));
    CHECK(sequence.next == STEPS && !sequence.wrong, "%d steps ran, %d out of order", sequence.next,
          sequence.wrong);
    WORKS(sy_group_destroy(group));
}

static void objects_of_another_group(void)
{
    sy_group *mine = crew_alone(), *theirs = crew_alone();
    sy_route_config config = crew_route(SY_THROUGHPUT, SY_TOKEN_MAJOR);
    struct gate gate = {1, 0};
    static struct crew_batch batch;
    sy_stream *stream = NULL;
    sy_event *event = NULL, *own = NULL;
    sy_route *route = NULL;
    uint64_t ns;
    if (!mine || !theirs)
        return;
    WORKS(sy_stream_create(theirs, &stream));
    WORKS(sy_event_create(theirs, &event));
    WORKS(sy_event_create(mine, &own));
    WORKS(sy_route_create(mine, &config, NULL, &route));
    crew_fill(&batch, 0, 2);
    FAILS(sy_stream_sync(mine, stream), SY_INVALID, "another group");
    FAILS(sy_stream_query(mine, stream), SY_INVALID, "another group");
    FAILS(sy_stream_call(mine, stream, pass_gate, &gate), SY_INVALID, "another group");
    FAILS(sy_event_record(own, stream), SY_INVALID, "another group");
    FAILS(sy_stream_wait(stream, own), SY_INVALID, "another group");
    FAILS(sy_event_elapsed(own, event, &ns), SY_INVALID, "different groups");
    FAILS(sy_route_set(route, &batch.input, stream), SY_INVALID, "another group");
    WORKS(sy_route_set(route, &batch.input, NULL));
    FAILS(sy_dispatch(route, &batch.dispatch, stream), SY_INVALID, "another group");
    WORKS(sy_dispatch(route, &batch.dispatch, NULL)); /* what was refused has left no trace */
    FAILS(sy_combine(route, &batch.combine, stream), SY_INVALID, "another group");
    WORKS(sy_combine(route, &batch.combine, NULL));
    WORKS(sy_stream_sync(mine, NULL));
    CHECK(gate.passed == 0, "a refused call ran");
    WORKS(sy_route_destroy(route));
    WORKS(sy_event_destroy(own));
    WORKS(sy_event_destroy(event));
    WORKS(sy_stream_destroy(stream));
    WORKS(sy_group_destroy(mine));
    WORKS(sy_group_destroy(theirs));
}

/* ---- 5. Memory, log, what is left ------------------------------------------------------------ */

static void heap_memory(void)
{
    sy_group *group = crew_alone();
    void *a = NULL, *b = NULL, *c = NULL;
    char mine[512];
    if (!group)
        return;
    FAILS(sy_alloc(group, 0, &a), SY_INVALID, "sy_alloc");
    FAILS(sy_alloc(group, 1, NULL), SY_INVALID, "sy_alloc");
    FAILS(sy_alloc(group, 65537, &a), SY_NO_MEMORY, "65537 bytes are not free in user_bytes");
    FAILS(sy_alloc(group, SIZE_MAX, &a), SY_NO_MEMORY, "not free");
    WORKS(sy_alloc(group, 1, &a));
    WORKS(sy_alloc(group, 32768, &b));
    FAILS(sy_alloc(group, 32768, &c), SY_NO_MEMORY, "not free");
    CHECK((uintptr_t)a % 256 == 0 && (uintptr_t)b % 256 == 0, "%p and %p are not aligned to 256", a,
          b);
    memset(a, 1, 1);
    memset(b, 2, 32768);
    CHECK(*(char *)a == 1, "two pieces overlap");
    FAILS(sy_free(group, mine), SY_INVALID, "did not come from sy_alloc()");
    FAILS(sy_free(group, (char *)b + 256), SY_INVALID, "did not come from sy_alloc()");
    WORKS(sy_free(group, NULL));
    WORKS(sy_free(group, b));
    FAILS(sy_free(group, b), SY_INVALID, "did not come from sy_alloc()");
    WORKS(sy_alloc(group, 65536 - 256, &b));
    WORKS(sy_free(group, a));
    WORKS(sy_group_destroy(group)); /* pieces go with the group */
}

/* An allocator that counts, and fails at its n-th call. */
struct counter {
    _Atomic long pieces, bytes, calls;
    long fail_at; /* 0: never */
    _Atomic int wrong;
};

static void *count_alloc(void *context, size_t bytes, size_t align)
{
    struct counter *c = context;
    void *p = NULL;
    if (++c->calls == c->fail_at)
        return NULL;
    if (posix_memalign(&p, align < sizeof p ? sizeof p : align, bytes + align))
        return NULL;
    c->wrong |= align & (align - 1) || !bytes;
    c->pieces++;
    c->bytes += (long)bytes;
    memset(p, 0xa5, bytes); /* whoever needs zeros makes them */
    return p;
}

static void count_free(void *context, void *pointer, size_t bytes)
{
    struct counter *c = context;
    c->wrong |= !pointer;
    c->pieces--;
    c->bytes -= (long)bytes;
    free(pointer);
}

/* The life of a group of one. Returns the first status that is not SY_OK. */
static sy_status live(const sy_allocator *allocator)
{
    sy_route_config config = crew_route(SY_THROUGHPUT, SY_TOKEN_MAJOR);
    static struct crew_batch batch;
    sy_group *group = NULL;
    sy_route *route = NULL;
    sy_stream *stream = NULL;
    sy_event *event = NULL;
    sy_group_config c;
    sy_status status;
    crew_config(&c, 1, 0);
    c.allocator = allocator;
    crew_fill(&batch, 0, 2);
    status = sy_group_create(&c, &group);
    if (status != SY_OK)
        return status;
    status = sy_stream_create(group, &stream);
    if (status == SY_OK)
        status = sy_event_create(group, &event);
    if (status == SY_OK)
        status = sy_route_create(group, &config, NULL, &route);
    if (status == SY_OK)
        status = sy_route_set(route, &batch.input, stream);
    if (status == SY_OK)
        status = sy_dispatch(route, &batch.dispatch, stream);
    if (status == SY_OK)
        status = sy_combine(route, &batch.combine, stream);
    if (status == SY_OK)
        status = sy_stream_sync(group, stream);
    for (int i = 0; status == SY_OK && i < CREW_TOKENS * CREW_HIDDEN; i++)
        CHECK(batch.out[i] == batch.x[i], "element %d is %f and not %f", i, (double)batch.out[i],
              (double)batch.x[i]);
    WORKS(sy_route_destroy(route));
    WORKS(sy_event_destroy(event));
    WORKS(sy_stream_destroy(stream));
    WORKS(sy_group_destroy(group));
    return status;
}

static void allocator(void)
{
    struct counter counter = {0};
    sy_allocator a = {&counter, count_alloc, count_free};
    struct crew_left before = crew_before();
    long calls;
    WORKS(live(&a));
    calls = counter.calls;
    CHECK(calls >= 3, "only %ld pieces came from the caller's allocator", calls);
    CHECK(!counter.pieces && !counter.bytes && !counter.wrong,
          "%ld pieces, %ld bytes were not given back; wrong arguments: %d", counter.pieces,
          counter.bytes, counter.wrong);
    for (long n = 1; n <= calls; n++) {
        counter.calls = 0;
        counter.fail_at = n;
        FAILS(live(&a), SY_NO_MEMORY, "");
        CHECK(*sy_last_error(), "no text for call %ld", n);
        CHECK(!counter.pieces && !counter.bytes && !counter.wrong,
              "call %ld fails: %ld pieces, %ld bytes were not given back", n, counter.pieces,
              counter.bytes);
    }
    CHECK(crew_clean(before), "groups left something");
}

struct lines {
    _Atomic int of[SY_LOG_TRACE + 1], wrong;
    char last[SY_LOG_TRACE + 1][300];
};

static void count_line(void *context, sy_log_level level, const char *line)
{
    struct lines *l = context;
    if (level < SY_LOG_ERROR || level > SY_LOG_TRACE || !line || strchr(line, '\n') ||
        strncmp(line, "rank 0: ", 8)) {
        l->wrong = 1;
        return;
    }
    l->of[level]++;
    snprintf(l->last[level], sizeof l->last[level], "%s", line);
}

static void log_of_a_batch(int level, struct lines *lines)
{
    sy_route_config config = crew_route(SY_THROUGHPUT, SY_TOKEN_MAJOR);
    static struct crew_batch batch;
    sy_group *group = NULL;
    sy_route *route = NULL;
    sy_group_config c;
    memset(lines, 0, sizeof *lines);
    crew_config(&c, 1, 0);
    c.log = count_line;
    c.log_context = lines;
    c.log_level = level;
    crew_fill(&batch, 0, 2);
    batch.ids[3] = 77;
    WORKS(sy_group_create(&c, &group));
    WORKS(sy_route_create(group, &config, NULL, &route));
    WORKS(sy_route_set(route, &batch.input, NULL));
    FAILS(sy_stream_sync(group, NULL), SY_BAD_ROUTE, "77");
    WORKS(sy_dispatch(route, &batch.dispatch, NULL));
    WORKS(sy_combine(route, &batch.combine, NULL));
    WORKS(sy_stream_sync(group, NULL));
    WORKS(sy_group_abort(group));
    WORKS(sy_group_abort(group));
    WORKS(sy_route_destroy(route));
    WORKS(sy_group_destroy(group));
}

static void log_levels(void)
{
    static const int of_batch[] = {
        [SY_LOG_ERROR] = 1, [SY_LOG_WARN] = 1, [SY_LOG_INFO] = 1, [SY_LOG_TRACE] = 3};
    static struct lines lines;
    for (int level = SY_LOG_ERROR; level <= SY_LOG_TRACE; level++) {
        log_of_a_batch(level, &lines);
        CHECK(!lines.wrong, "a line that is none");
        for (int k = SY_LOG_ERROR; k <= SY_LOG_TRACE; k++)
            CHECK(lines.of[k] == (k <= level ? of_batch[k] : 0),
                  "level %d: %d lines of level %d, the last one: %s", level, lines.of[k], k,
                  lines.last[k]);
    }
    CHECK(strstr(lines.last[SY_LOG_ERROR], "sy_group_abort()"), "error: %s",
          lines.last[SY_LOG_ERROR]);
    CHECK(strstr(lines.last[SY_LOG_WARN], "77"), "warning: %s", lines.last[SY_LOG_WARN]);
    CHECK(strstr(lines.last[SY_LOG_INFO], "1 ranks"), "info: %s", lines.last[SY_LOG_INFO]);
    CHECK(strstr(lines.last[SY_LOG_TRACE], "combine"), "trace: %s", lines.last[SY_LOG_TRACE]);
    log_of_a_batch(0, &lines); /* the default: warnings */
    CHECK(lines.of[SY_LOG_WARN] == 1 && lines.of[SY_LOG_INFO] == 0,
          "default: %d warnings, %d infos", lines.of[SY_LOG_WARN], lines.of[SY_LOG_INFO]);
}

static void groups_in_a_row(void)
{
    struct crew_left before = crew_before();
    for (int i = 0; i < 50; i++) {
        sy_group *group = crew_alone();
        if (!group)
            return;
        WORKS(sy_group_barrier(group));
        WORKS(sy_group_destroy(group));
    }
    CHECK(crew_clean(before), "50 groups left something");
}

int main(void)
{
    TEST(version);
    TEST(statuses);
    TEST(engines);
    TEST(bad_configurations);
    TEST(tables_of_experts);
    TEST(too_large);
    TEST(allocator_pair);
    TEST(sizes_and_info);
    TEST(null_arguments);
    TEST(ids);
    TEST(destroy_with_objects);
    TEST(nobody_comes);
    TEST(poll_and_abort);
    TEST(streams);
    TEST(event_on_two_streams);
    TEST(long_queue);
    TEST(objects_of_another_group);
    TEST(heap_memory);
    TEST(allocator);
    TEST(log_levels);
    TEST(groups_in_a_row);
    return check_end();
}
