/* ualloc.c - see ualloc.h. */
#include "ualloc.h"

#include <string.h>

#include "base/os.h"

#define UNIT 256u /* SY_REGION_ALIGN: what start words count in */

int sy_ualloc_open(struct sy_ualloc *u, uint64_t bytes)
{
    u->bytes = bytes / UNIT * UNIT;
    u->count = 0;
    u->pieces = NULL;
    if (!bytes)
        return 0;
    u->pieces = sy_zalloc(sizeof *u->pieces * SY_UALLOC_PIECES);
    return u->pieces ? 0 : -1;
}

void sy_ualloc_close(struct sy_ualloc *u)
{
    sy_os->free(u->pieces);
    u->pieces = NULL;
}

uint64_t sy_ualloc_take(struct sy_ualloc *u, uint64_t bytes)
{
    uint64_t at = 0;
    uint32_t i;
    if (bytes == 0 || bytes > u->bytes || u->count == SY_UALLOC_PIECES)
        return UINT64_MAX;
    bytes = (bytes + UNIT - 1) / UNIT * UNIT;
    for (i = 0; i < u->count && u->pieces[i].offset - at < bytes; i++)
        at = u->pieces[i].offset + u->pieces[i].bytes;
    if (u->bytes - at < bytes)
        return UINT64_MAX;
    memmove(u->pieces + i + 1, u->pieces + i, sizeof *u->pieces * (u->count - i));
    u->pieces[i].offset = at;
    u->pieces[i].bytes = bytes;
    u->count++;
    return at;
}

int sy_ualloc_give(struct sy_ualloc *u, uint64_t offset)
{
    for (uint32_t i = 0; i < u->count; i++)
        if (u->pieces[i].offset == offset) {
            u->count--;
            memmove(u->pieces + i, u->pieces + i + 1, sizeof *u->pieces * (u->count - i));
            return 0;
        }
    return -1;
}
