/* process.h - a name for this process, to tell ranks that are threads from ranks that are not. */
#ifndef SY_BASE_PROCESS_H
#define SY_BASE_PROCESS_H

#include <stdint.h>

/* That no other process has, on no machine; a child that is forked has another. Non-zero: errno
 * says why there is none. */
int sy_process_name(uint8_t name[16]);

#endif
