/* check.h - a test program: named tests, counted, with the line that run-tests looks for at the
 * end.
 *
 *     int main(void) { TEST(name_of_function); ... return check_end(); }
 *
 * A test is a function without arguments. It fails by CHECK(), and may SKIP() with a reason. */
#ifndef SY_TESTS_CHECK_H
#define SY_TESTS_CHECK_H

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static struct {
    int passed, failed, skipped;
    int failures, skip; /* of the running test */
    const char *name;
} check_state;

static inline void check_say(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static inline void check_say(const char *file, int line, const char *format, ...)
{
    va_list ap;
    if (check_state.failures++ >= 10) /* the first ones say what is wrong */
        return;
    printf("  %s:%d: ", file, line);
    va_start(ap, format);
    vprintf(format, ap);
    va_end(ap);
    printf("\n");
    fflush(stdout);
}

/* CHECK(condition, "format", ...): says why when the condition does not hold. */
#define CHECK(cond, ...)                                                                           \
    do {                                                                                           \
        if (!(cond))                                                                               \
            check_say(__FILE__, __LINE__, __VA_ARGS__);                                            \
    } while (0)

#define SKIP(...)                                                                                  \
    do {                                                                                           \
        check_state.skip = 1;                                                                      \
        printf("skip %s: ", check_state.name);                                                     \
        printf(__VA_ARGS__);                                                                       \
        printf("\n");                                                                              \
        return;                                                                                    \
    } while (0)

static inline void check_run(const char *name, void (*test)(void))
{
    check_state.failures = check_state.skip = 0;
    check_state.name = name;
    test();
    if (check_state.skip) {
        check_state.skipped++;
        return;
    }
    if (check_state.failures)
        check_state.failed++;
    else
        check_state.passed++;
    printf("%s %s\n", check_state.failures ? "FAIL" : "ok", name);
    fflush(stdout);
}

#define TEST(name) check_run(#name, name)

static inline int check_end(void)
{
    printf("%d passed, %d failed, %d skipped\n", check_state.passed, check_state.failed,
           check_state.skipped);
    return check_state.failed != 0;
}

#endif
