/* verify.h - assertions: what only a mistake in this library can make false.
 *
 * Never for arguments, environment or peers. SY_ASSERT stays in release builds; it is cheap where
 * it stands. */
#ifndef SY_BASE_VERIFY_H
#define SY_BASE_VERIFY_H

#define SY_ASSERT(cond)                                                                            \
    do {                                                                                           \
        if (__builtin_expect(!(cond), 0))                                                          \
            __builtin_trap();                                                                      \
    } while (0)

#endif
