/* types.h - the integer types that host, device and simulator code share.
 *
 * NVRTC and hipRTC have no <stdint.h>, so device sources use these names. Sizes are asserted below.
 */
#ifndef SY_LAYOUT_TYPES_H
#define SY_LAYOUT_TYPES_H

typedef unsigned char sy_u8;
typedef unsigned short sy_u16;
typedef unsigned int sy_u32;
typedef unsigned long long sy_u64;
typedef int sy_s32;
typedef long long sy_s64;

#if defined(__cplusplus)
#define SY_STATIC_ASSERT(cond, text) static_assert(cond, text)
#else
#define SY_STATIC_ASSERT(cond, text) _Static_assert(cond, text)
#endif

SY_STATIC_ASSERT(sizeof(sy_u16) == 2 && sizeof(sy_u32) == 4 && sizeof(sy_u64) == 8, "LP64 types");
SY_STATIC_ASSERT(sizeof(void *) == 8, "64-bit pointers");

#endif
