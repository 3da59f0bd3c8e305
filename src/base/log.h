/* log.h - lines for the caller's log callback. */
#ifndef SY_BASE_LOG_H
#define SY_BASE_LOG_H

#include "switchyard.h"

struct sy_log {
    sy_log_fn fn; /* NULL: silent */
    void *context;
    int32_t level, rank;
};

/* "rank N: ..." if the level is wanted. */
void sy_log(const struct sy_log *log, sy_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
