/* tensor.c - checking the caller's tensors, and describing them for device code. */
#include <stdio.h>
#include <string.h>

#include "group.h"

int64_t sy_type_bytes(int32_t type)
{
    switch (type) {
    case SY_BF16:
    case SY_F16:
        return 2;
    case SY_F32:
    case SY_I32:
    case SY_UE8M0X4:
        return 4;
    case SY_F8E4M3:
    case SY_U8:
        return 1;
    case SY_OPAQUE16:
        return 16;
    case SY_I64:
        return 8;
    default:
        return 0;
    }
}

const char *sy_type_name(int32_t type)
{
    static const char *const names[] = {"NONE",     "BF16", "F16", "F32", "F8E4M3",
                                        "OPAQUE16", "I32",  "I64", "U8",  "UE8M0X4"};
    return type >= 0 && type < (int32_t)(sizeof names / sizeof *names) ? names[type] : "?";
}

/* Strides in elements; those of a contiguous tensor when none are given. */
static void strides_of(const sy_tensor *t, int64_t stride[SY_DIMS_MAX])
{
    int64_t n = 1;
    int given = 0;
    for (int i = 0; i < t->dims; i++)
        given |= t->stride[i] != 0;
    for (int i = t->dims - 1; i >= 0; i--) {
        stride[i] = given ? t->stride[i] : n;
        n *= t->shape[i] > 0 ? t->shape[i] : 1;
    }
}

sy_status sy_tensor_flatten(const sy_tensor *t, const char *name, sy_tensor *out)
{
    int64_t stride[SY_DIMS_MAX] = {0};
    *out = *t;
    if (t->dims != 3)
        return SY_OK;
    SY_NEED(t->shape[0] >= 0 && t->shape[0] <= SY_ROWS_MAX && t->shape[1] >= 0 &&
                t->shape[1] <= SY_ROWS_MAX,
            "%s: shape [%lld, %lld, ...]", name, (long long)t->shape[0], (long long)t->shape[1]);
    strides_of(t, stride);
    SY_NEED(stride[1] >= 0 && stride[1] <= (INT64_MAX >> 8) / (t->shape[1] ? t->shape[1] : 1),
            "%s: stride[1] is %lld", name, (long long)stride[1]);
    SY_NEED(t->shape[0] <= 1 || !t->shape[1] || stride[0] == t->shape[1] * stride[1],
            "%s: slabs must follow each other: stride[0] is %lld, not %lld * %lld", name,
            (long long)stride[0], (long long)t->shape[1], (long long)stride[1]);
    out->dims = 2;
    out->shape[0] = t->shape[0] * t->shape[1];
    out->shape[1] = t->shape[2];
    out->stride[0] = stride[1];
    out->stride[1] = stride[2];
    return SY_OK;
}

static sy_status check_shape(const sy_tensor *t, const struct sy_expect *e)
{
    SY_NEED(t->dims == e->dims, "%s: %d dimensions, not %d", e->name, (int)e->dims, (int)t->dims);
    for (int i = 0; i < e->dims; i++) {
        SY_NEED(t->shape[i] >= 0 && t->shape[i] <= SY_ROWS_MAX, "%s: shape[%d] is %lld", e->name, i,
                (long long)t->shape[i]);
        SY_NEED(e->shape[i] < 0 || t->shape[i] == e->shape[i], "%s: shape[%d] is %lld, not %lld",
                e->name, i, (long long)t->shape[i], (long long)e->shape[i]);
    }
    SY_NEED(t->shape[0] >= e->rows_min, "%s: %lld rows, at least %lld are needed", e->name,
            (long long)t->shape[0], (long long)e->rows_min);
    return SY_OK;
}

static sy_status check_place(const sy_tensor *t, const struct sy_expect *e, const int64_t *stride)
{
    int64_t bytes = sy_type_bytes(t->type), align = e->rows_16 ? 16 : bytes;
    SY_NEED((uintptr_t)t->data % (uint64_t)align == 0, "%s: %p is not aligned to %d bytes", e->name,
            t->data, (int)align);
    for (int i = 0; i < e->dims; i++)
        SY_NEED(stride[i] >= 0 && stride[i] <= (INT64_MAX >> 8) / (t->shape[i] ? t->shape[i] : 1),
                "%s: stride[%d] is %lld", e->name, i, (long long)stride[i]);
    if (!e->rows_16)
        return SY_OK;
    SY_NEED(t->shape[1] * bytes % 16 == 0, "%s: a row of %lld bytes is no multiple of 16", e->name,
            (long long)(t->shape[1] * bytes));
    SY_NEED(t->shape[1] <= 1 || stride[1] == 1, "%s: rows must be contiguous; stride[1] is %lld",
            e->name, (long long)stride[1]);
    SY_NEED(stride[0] * bytes % 16 == 0, "%s: rows %lld bytes apart, no multiple of 16", e->name,
            (long long)(stride[0] * bytes));
    return SY_OK;
}

sy_status sy_tensor_take(const sy_tensor *t, const struct sy_expect *e, struct sy_dev_tensor *out)
{
    int64_t stride[SY_DIMS_MAX] = {0}, bytes = sy_type_bytes(t->type);
    memset(out, 0, sizeof *out);
    if (!t->data)
        return SY_OK;
    SY_NEED(t->type > 0 && t->type < 32 && e->types & SY_TYPE_BIT(t->type),
            "%s: type %s is not allowed here", e->name, sy_type_name(t->type));
    SY_TRY(check_shape(t, e));
    strides_of(t, stride);
    SY_TRY(check_place(t, e, stride));
    out->data = t->data;
    out->stride0 = stride[0] * bytes;
    out->stride1 = e->dims > 1 ? stride[1] * bytes : bytes;
    out->rows = (uint32_t)t->shape[0];
    out->wide = t->type == SY_I64;
    return SY_OK;
}

uint32_t sy_check_word(const uint64_t *words, size_t count)
{
    uint64_t h = 0x9e3779b97f4a7c15u;
    for (size_t i = 0; i < count; i++) {
        h = (h ^ words[i]) * 0xbf58476d1ce4e5b9u;
        h ^= h >> 29;
    }
    return (uint32_t)(h >> 32 ^ h);
}
