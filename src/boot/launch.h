/* launch.h - the parsers of launch.c, apart so that they can be fed with anything. */
#ifndef SY_BOOT_LAUNCH_H
#define SY_BOOT_LAUNCH_H

#include <stddef.h>
#include <stdint.h>

/* Decimal digits and nothing else, up to INT32_MAX. 1: *number is set. */
int sy_launch_number(const char *text, int32_t *number);

/* Of /proc/<pid>/environ: whether the variable is in it. */
int sy_launch_has_variable(const char *environ_bytes, size_t bytes, const char *name);

/* Of /proc/<pid>/stat: the parent process. 1: *parent is set. */
int sy_launch_parent(const char *stat_bytes, size_t bytes, int32_t *parent);

#endif
