/* log.c - see log.h. */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>

void sy_log(const struct sy_log *log, sy_log_level level, const char *format, ...)
{
    char line[512];
    va_list ap;
    int n;
    if (!log->fn || (int32_t)level > log->level)
        return;
    n = snprintf(line, sizeof line, "rank %d: ", (int)log->rank);
    if (n < 0)
        return;
    va_start(ap, format);
    vsnprintf(line + n, sizeof line - (size_t)n, format, ap);
    va_end(ap);
    log->fn(log->context, level, line);
}
