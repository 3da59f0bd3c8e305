/* status.h - how functions of the library fail.
 *
 * A function that can fail returns sy_status and leaves one line of text for its caller's thread.
 * sy_fail() begins such a line where the cause is known; callers that know more put it in front
 * with sy_fail_in(). Programmer errors are SY_ASSERT, never a status. */
#ifndef SY_BASE_STATUS_H
#define SY_BASE_STATUS_H

#include "switchyard.h"

#define SY_ERROR_TEXT 512

/* Records the text, and returns status. */
sy_status sy_fail(sy_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Puts "format: " in front of the text that is there, and returns status. */
sy_status sy_fail_in(sy_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* For a failed system call: "what: reason (errno)". */
sy_status sy_fail_errno(const char *what);

#define SY_TRY(call)                                                                               \
    do {                                                                                           \
        sy_status status_ = (call);                                                                \
        if (status_ != SY_OK)                                                                      \
            return status_;                                                                        \
    } while (0)

/* As SY_TRY, for functions that end at `label` with a variable `status`. */
#define SY_TRY_TO(label, call)                                                                     \
    do {                                                                                           \
        status = (call);                                                                           \
        if (status != SY_OK)                                                                       \
            goto label;                                                                            \
    } while (0)

/* Fails with SY_INVALID unless cond holds. */
#define SY_NEED(cond, ...)                                                                         \
    do {                                                                                           \
        if (!(cond))                                                                               \
            return sy_fail(SY_INVALID, __VA_ARGS__);                                               \
    } while (0)

#endif
