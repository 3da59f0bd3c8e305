/* status.c - see status.h. */
#define _POSIX_C_SOURCE 200809L /* strerror_r that returns int */
#include "status.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char last_text[SY_ERROR_TEXT];

static const struct {
    const char *name, *text;
} statuses[] = {
#define SY_STATUS(name, text) [name] = {#name, text},
#include "status.def"
#undef SY_STATUS
};

const char *sy_status_name(sy_status status)
{
    unsigned i = (unsigned)status;
    return i < sizeof statuses / sizeof *statuses ? statuses[i].name : "SY_?";
}

const char *sy_status_text(sy_status status)
{
    unsigned i = (unsigned)status;
    return i < sizeof statuses / sizeof *statuses ? statuses[i].text : "unknown status";
}

const char *sy_last_error(void)
{
    return last_text;
}

sy_status sy_fail(sy_status status, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(last_text, sizeof last_text, format, ap);
    va_end(ap);
    return status;
}

sy_status sy_fail_in(sy_status status, const char *format, ...)
{
    char inner[SY_ERROR_TEXT];
    va_list ap;
    size_t n;
    memcpy(inner, last_text, sizeof inner);
    va_start(ap, format);
    vsnprintf(last_text, sizeof last_text, format, ap);
    va_end(ap);
    n = strlen(last_text);
    for (const char *s = ": "; *s && n + 1 < sizeof last_text; s++)
        last_text[n++] = *s;
    for (const char *s = inner; *s && n + 1 < sizeof last_text; s++)
        last_text[n++] = *s;
    last_text[n] = 0;
    return status;
}

sy_status sy_fail_errno(const char *what)
{
    int e = errno;
    char text[128];
    if (strerror_r(e, text, sizeof text))
        snprintf(text, sizeof text, "unknown error");
    return sy_fail(e == ENOMEM ? SY_NO_MEMORY : SY_SYSTEM, "%s: %s (errno %d)", what, text, e);
}
