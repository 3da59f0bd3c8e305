/* sizes.c - see sizes.h. */
#include "sizes.h"

#include "shape.h"

static sy_u64 min_u64(sy_u64 a, sy_u64 b)
{
    return a < b ? a : b;
}

static sy_u64 up(sy_u64 n, sy_u64 unit)
{
    return (n + unit - 1) / unit * unit;
}

void sy_limits_derive(struct sy_limits *m)
{
    m->books = m->ranks * SY_TOLD_WORDS(1, m->ranks, m->experts, 0) <= m->route_words;
    m->told_words = SY_TOLD_WORDS(m->books, m->ranks, m->experts, m->local_max);
    m->fan_max = min_u64(m->ranks, m->topk_max);
    m->recv_tokens_max = m->ranks * m->tokens_max;
    if (m->tokens_max == 0)
        m->recv_rows_max = 0;
    else if (m->recv_rows_max == 0)
        m->recv_rows_max = m->recv_tokens_max;
    m->side_bytes_max = up((m->scale_words_max + m->topk_max) * 4, 16);
    m->tail_bytes_max = up((SY_TAIL_SCALES(m->topk_max) + m->scale_words_max) * 4, 16);
    m->meta_words = up(SY_META_SEL + m->topk_max, 4);
    m->view_bytes = up(m->recv_rows_max * m->row_bytes_max, SY_REGION_ALIGN);
    m->td_chunks = (m->tokens_max + SY_CHUNK_ROWS - 1) / SY_CHUNK_ROWS;
    m->tc_chunks = m->td_chunks;
}

sy_u64 sy_heap_layout_make(struct sy_heap_layout *at, const struct sy_limits *m)
{
    sy_u64 next = 0;
#define SY_REGION(name, type, count, meaning)                                                      \
    at->name = next;                                                                               \
    next = up(next + sizeof(type) * (count), SY_REGION_ALIGN);
#include "heap.def"
#undef SY_REGION
    return at->bytes = next;
}

sy_u64 sy_local_layout_make(struct sy_local_layout *at, const struct sy_limits *m)
{
    sy_u64 next = 0;
#define SY_LOCAL(name, type, count, meaning)                                                       \
    at->name = next;                                                                               \
    next = up(next + sizeof(type) * (count), SY_REGION_ALIGN);
#include "local.def"
#undef SY_LOCAL
    return at->bytes = next;
}

sy_u64 sy_route_layout_make(struct sy_route_layout *at, const struct sy_route_limits *m)
{
    sy_u64 next = 0;
#define SY_ROUTE(name, type, count, meaning)                                                       \
    at->name = next;                                                                               \
    next = up(next + sizeof(type) * (count), SY_REGION_ALIGN);
#include "route.def"
#undef SY_ROUTE
    return at->bytes = next;
}

sy_u32 sy_heap_regions(const struct sy_limits *m, struct sy_region_info *out, sy_u32 max)
{
    struct sy_heap_layout at;
    sy_u32 n = 0;
    sy_heap_layout_make(&at, m);
#define SY_REGION(name_, type, count, meaning_)                                                    \
    if (n < max) {                                                                                 \
        out[n].name = #name_;                                                                      \
        out[n].meaning = meaning_;                                                                 \
        out[n].offset = at.name_;                                                                  \
        out[n].bytes = sizeof(type) * (count);                                                     \
    }                                                                                              \
    n++;
#include "heap.def"
#undef SY_REGION
    return n;
}
