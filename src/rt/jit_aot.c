/* jit_aot.c - the table of kernels that were compiled with the library; see rt/cuda.mk, which makes
 * jit_aot.inc. Without a compiler at that time it is empty. */
#include "jit_aot.h"

#if defined(SY_AOT)
#define SY_CUBIN(id, file, sm, ...)                                                                \
    __asm__(".section .rodata\n"                                                                   \
            ".balign 64\n"                                                                         \
            ".local sy_aot_begin_" #id "\n"                                                        \
            ".local sy_aot_end_" #id "\n"                                                          \
            "sy_aot_begin_" #id ":\n"                                                              \
            ".incbin \"" file "\"\n"                                                               \
            "sy_aot_end_" #id ":\n"                                                                \
            ".previous\n");                                                                        \
    extern const unsigned char sy_aot_begin_##id[] __attribute__((visibility("hidden")));          \
    extern const unsigned char sy_aot_end_##id[] __attribute__((visibility("hidden")));
#include "jit_aot.inc"
#undef SY_CUBIN
#endif

const struct sy_aot sy_aot_cubins[] = {
#if defined(SY_AOT)
#define SY_CUBIN(id, file, sm, ...) {{__VA_ARGS__}, sm, sy_aot_begin_##id, sy_aot_end_##id},
#include "jit_aot.inc"
#undef SY_CUBIN
#endif
    {{0}, 0, NULL, NULL}};
