/* jit_sources.c - embeds the device sources: the assembler copies the files as they are.
 *
 * The paths start from the project's root folder, where make runs the compiler. */
#include "jit_sources.h"

#define SY_SOURCE(folder, name, id)                                                                \
    __asm__(".section .rodata\n"                                                                   \
            ".local sy_source_begin_" #id "\n"                                                     \
            ".local sy_source_end_" #id "\n"                                                       \
            "sy_source_begin_" #id ":\n"                                                           \
            ".incbin \"src/" #folder "/" name "\"\n"                                               \
            "sy_source_end_" #id ":\n"                                                             \
            ".byte 0\n"                                                                            \
            ".previous\n");                                                                        \
    extern const char sy_source_begin_##id[] __attribute__((visibility("hidden")));                \
    extern const char sy_source_end_##id[] __attribute__((visibility("hidden")));
#include "jit_sources.def"
#undef SY_SOURCE

const struct sy_source sy_sources[SY_SOURCES] = {
#define SY_SOURCE(folder, name, id)                                                                \
    {name, "../" #folder "/" name, sy_source_begin_##id, sy_source_end_##id},
#include "jit_sources.def"
#undef SY_SOURCE
};
