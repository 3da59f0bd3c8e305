/* bench_sink.h - results on their way to the process that reports them: the one that started the
 * ranks, through a pipe; or rank 0 itself, when a launcher started them. */
#ifndef SY_TOOLS_BENCH_SINK_H
#define SY_TOOLS_BENCH_SINK_H

#include "bench.h"

#define SINK_VARIABLE "SWITCHYARD_BENCH_PIPE"
#define SINK_TEXT 600

/* A rank's last words. */
struct sink_error {
    int32_t rank, ranks;
    char text[SINK_TEXT];
};

struct sink {
    int fd; /* where records go; -1: they stay here */
    struct bench_result *results;
    struct bench_ceiling *ceilings;
    char (*notices)[SINK_TEXT];
    struct sink_error *errors;
    struct bench_rank *ranks; /* of --per-rank; results in their order */
    int results_n, ceilings_n, notices_n, errors_n, ranks_n;
};

/* Writing end: of the pipe that the environment names, or none. */
void sink_open(struct sink *sink);

/* Each is kept once: equal ceilings and notices are the same ceiling and notice. */
void sink_result(struct sink *sink, const struct bench_result *result);
void sink_rank(struct sink *sink, const struct bench_rank *rank); /* of the result before */
void sink_ceiling(struct sink *sink, const struct bench_ceiling *ceiling);
void sink_notice(struct sink *sink, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sink_error(struct sink *sink, int32_t rank, int32_t ranks, const char *text);

/* Reading end: takes what has come through the pipe; for struct spawn. */
void sink_read(void *sink, int fd);

void sink_free(struct sink *sink);

#endif
