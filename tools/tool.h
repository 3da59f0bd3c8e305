/* tool.h - what the sub-commands of `switchyard` have in common. */
#ifndef SY_TOOLS_TOOL_H
#define SY_TOOLS_TOOL_H

#include <stdint.h>

/* Exit statuses; `run` has those of its ranks besides. */
enum { TOOL_OK = 0, TOOL_FAILED = 1, TOOL_USAGE = 2 };

/* argv[0] is "switchyard NAME". They return the exit status. */
int tool_run(int argc, char **argv);
int tool_info(int argc, char **argv);
int tool_bench(int argc, char **argv);

/* One line on stderr: "switchyard bench: ...". */
void tool_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same, and where help is to be had; format NULL: only that. Returns TOOL_USAGE. */
int tool_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Flushes stdout and turns a failure to write it (a full disk) into TOOL_FAILED. */
int tool_end(int status);

/* A whole number from least to most, nothing behind it. 0: it is not. */
int tool_number(const char *text, int64_t least, int64_t most, int64_t *value);

uint64_t tool_now_ns(void); /* CLOCK_MONOTONIC: the same for all processes */

#endif
