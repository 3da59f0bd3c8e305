/* layout.h - where everything lies: offsets made from heap.def, local.def and route.def.
 *
 * Kernels get the offsets by value with their arguments. Sizes are computed by the host in sizes.c
 * and nowhere else. */
#ifndef SY_LAYOUT_LAYOUT_H
#define SY_LAYOUT_LAYOUT_H

#include "records.h"
#include "types.h"

/* Also the unit of offsets in start words, and the alignment of sy_alloc(). */
#define SY_REGION_ALIGN 256u

/* What sizes depend on: the group's configuration with its defaults filled in. */
struct sy_limits {
    sy_u64 ranks;
    sy_u64 experts;
    sy_u64 local_max;   /* most experts of a rank                              */
    sy_u64 route_words; /* parameter SY_ROUTE_WORDS                            */
    sy_u64 books;       /* 1: in routing every rank tells every rank all its counts   */
    sy_u64 told_words;  /* in routing, by a rank to a rank                            */
    sy_u64 topk_max;
    sy_u64 fan_max;         /* most destinations of a token: min(ranks, topk_max)  */
    sy_u64 tokens_max;      /* 0 without throughput mode                           */
    sy_u64 lat_tokens_max;  /* 0 without latency mode                              */
    sy_u64 recv_tokens_max; /* ranks * tokens_max                                  */
    sy_u64 recv_rows_max;
    sy_u64 row_bytes_max;
    sy_u64 scale_words_max;
    sy_u64 side_bytes_max; /* weights and scales of a row                         */
    sy_u64 tail_bytes_max;
    sy_u64 meta_words;
    sy_u64 td_chunks;    /* chunks of one source's rows                         */
    sy_u64 tc_chunks;    /* chunks of tokens                                    */
    sy_u64 route_chunks; /* chunks that the route kernel counts in              */
    sy_u64 view_bytes;   /* of one view, a multiple of SY_REGION_ALIGN          */
    sy_u64 views;
    sy_u64 lat_views;
    sy_u64 user_bytes;
};

struct sy_heap_layout {
#define SY_REGION(name, type, count, meaning) sy_u64 name;
#include "heap.def"
#undef SY_REGION
    sy_u64 bytes;
};

struct sy_local_layout {
#define SY_LOCAL(name, type, count, meaning) sy_u64 name;
#include "local.def"
#undef SY_LOCAL
    sy_u64 bytes;
};

struct sy_route_layout {
#define SY_ROUTE(name, type, count, meaning) sy_u64 name;
#include "route.def"
#undef SY_ROUTE
    sy_u64 bytes;
};

/* What a route's memory depends on. */
struct sy_route_limits {
    sy_u64 ranks;
    sy_u64 local; /* experts of this rank */
    sy_u64 topk;
    sy_u64 fan;    /* min(ranks, topk)     */
    sy_u64 tokens; /* of the route's mode  */
    sy_u64 recv;   /* ranks * tokens       */
    sy_u64 chunks; /* of one source's rows */
};

#endif
