/* bench_report.h - what a bench shows in the end. */
#ifndef SY_TOOLS_BENCH_REPORT_H
#define SY_TOOLS_BENCH_REPORT_H

#include "bench.h"
#include "bench_sink.h"

/* The table, on stdout. */
void report_table(const struct sink *sink);
/* Each rank's times, if there are any. */
void report_ranks(const struct sink *sink);

/* The errors of ranks, on stderr: equal texts once, with all that gave them. */
void report_errors(const struct sink *sink);

/* 0, or -1, said. path "-": stdout. */
int report_json(const struct sink *sink, const char *path);
int report_plot(const struct sink *sink, const char *path);

/* "bf16", or "bf16>f8-ue8m0" when quantised. */
const char *report_dtype(const struct bench_result *r, char text[40]);
/* The type that an operation moves: combine of FP8 sums BF16. */
const char *report_moved_type(const struct bench_result *r, char text[40]);

#endif
