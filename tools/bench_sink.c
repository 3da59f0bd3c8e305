/* bench_sink.c - see bench_sink.h. A record is a kind and a body of that kind's size; it is written
 * in one piece shorter than PIPE_BUF, so that records of different ranks do not mix. */
#define _GNU_SOURCE
#include "bench_sink.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tool.h"

enum kind { KIND_RESULT, KIND_RANK, KIND_CEILING, KIND_NOTICE, KIND_ERROR, KINDS };

struct record {
    int32_t kind, reserved;
    union {
        struct bench_result result;
        struct bench_rank rank;
        struct bench_ceiling ceiling;
        char notice[SINK_TEXT];
        struct sink_error error;
    } body;
};

_Static_assert(sizeof(struct record) <= PIPE_BUF, "records are written in one piece");

void sink_open(struct sink *sink)
{
    const char *text = getenv(SINK_VARIABLE);
    int64_t fd;
    memset(sink, 0, sizeof *sink);
    sink->fd = -1;
    if (text && tool_number(text, 0, INT_MAX, &fd))
        sink->fd = (int)fd;
}

/* Room for one more. The lists are short and grow rarely; without memory there is no report. */
static void *one_more(void *list, int n, size_t bytes)
{
    void *longer = realloc(list, (size_t)(n + 1) * bytes);
    if (!longer) {
        tool_say("no memory for results");
        exit(TOOL_FAILED);
    }
    return longer;
}

static void keep_ceiling(struct sink *sink, const struct bench_ceiling *ceiling)
{
    for (int i = 0; i < sink->ceilings_n; i++)
        if (!memcmp(sink->ceilings + i, ceiling, sizeof *ceiling))
            return;
    sink->ceilings = one_more(sink->ceilings, sink->ceilings_n, sizeof *ceiling);
    sink->ceilings[sink->ceilings_n++] = *ceiling;
}

static void keep_notice(struct sink *sink, const char *text)
{
    for (int i = 0; i < sink->notices_n; i++)
        if (!strcmp(sink->notices[i], text))
            return;
    sink->notices = one_more(sink->notices, sink->notices_n, sizeof *sink->notices);
    snprintf(sink->notices[sink->notices_n++], SINK_TEXT, "%s", text);
}

static void keep(struct sink *sink, const struct record *record)
{
    switch (record->kind) {
    case KIND_RESULT:
        sink->results = one_more(sink->results, sink->results_n, sizeof *sink->results);
        sink->results[sink->results_n++] = record->body.result;
        break;
    case KIND_RANK:
        sink->ranks = one_more(sink->ranks, sink->ranks_n, sizeof *sink->ranks);
        sink->ranks[sink->ranks_n] = record->body.rank;
        sink->ranks[sink->ranks_n++].result = sink->results_n - 1;
        break;
    case KIND_CEILING:
        keep_ceiling(sink, &record->body.ceiling);
        break;
    case KIND_NOTICE:
        keep_notice(sink, record->body.notice);
        break;
    case KIND_ERROR:
        sink->errors = one_more(sink->errors, sink->errors_n, sizeof *sink->errors);
        sink->errors[sink->errors_n++] = record->body.error;
        break;
    }
}

static void pass_on(struct sink *sink, const struct record *record)
{
    ssize_t n;
    if (sink->fd < 0) {
        keep(sink, record);
        return;
    }
    do
        n = write(sink->fd, record, sizeof *record);
    while (n < 0 && errno == EINTR); /* if nobody reads any more, we are about to be ended */
}

static struct record new_record(enum kind kind)
{
    struct record record;
    memset(&record, 0, sizeof record);
    record.kind = kind;
    return record;
}

void sink_result(struct sink *sink, const struct bench_result *result)
{
    struct record record = new_record(KIND_RESULT);
    record.body.result = *result;
    pass_on(sink, &record);
}

void sink_rank(struct sink *sink, const struct bench_rank *rank)
{
    struct record record = new_record(KIND_RANK);
    record.body.rank = *rank;
    pass_on(sink, &record);
}

void sink_ceiling(struct sink *sink, const struct bench_ceiling *ceiling)
{
    struct record record = new_record(KIND_CEILING);
    record.body.ceiling = *ceiling;
    pass_on(sink, &record);
}

void sink_notice(struct sink *sink, const char *format, ...)
{
    struct record record = new_record(KIND_NOTICE);
    va_list ap;
    va_start(ap, format);
    vsnprintf(record.body.notice, sizeof record.body.notice, format, ap);
    va_end(ap);
    pass_on(sink, &record);
}

void sink_error(struct sink *sink, int32_t rank, int32_t ranks, const char *text)
{
    struct record record = new_record(KIND_ERROR);
    record.body.error.rank = rank;
    record.body.error.ranks = ranks;
    snprintf(record.body.error.text, sizeof record.body.error.text, "%s", text);
    pass_on(sink, &record);
}

void sink_read(void *context, int fd)
{
    struct sink *sink = context;
    struct record record;
    while (read(fd, &record, sizeof record) == (ssize_t)sizeof record)
        if (record.kind >= 0 && record.kind < KINDS)
            keep(sink, &record);
}

void sink_free(struct sink *sink)
{
    free(sink->results);
    free(sink->ranks);
    free(sink->ceilings);
    free(sink->notices);
    free(sink->errors);
    memset(sink, 0, sizeof *sink);
    sink->fd = -1;
}
