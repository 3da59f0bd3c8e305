/* ref.h - the reference: a whole world of ranks in one process, by plain loops.
 *
 * It says what the library has to deliver, bit for bit. It is written from switchyard.h alone and
 * shares neither code nor thinking with plan, layout and device: that is what makes it an oracle.
 * Slow is fine, clever is not. It allocates with calloc and traps on a world that makes no sense.
 *
 * Everything is contiguous and row-major here; strides are the affair of who compares. */
#ifndef SY_REF_REF_H
#define SY_REF_REF_H

#include "switchyard.h"

/* One rank: its experts, the room it has, and its tokens. */
struct sy_ref_rank {
    int32_t experts;        /* L, 0 allowed                                                   */
    int64_t capacity;       /* rows as in sy_route_config, but explicit: at least 1           */
    int64_t tokens;         /* T, 0 allowed                                                   */
    const int64_t *ids;     /* [T, K], any values; or                                         */
    const uint8_t *map;     /* [T, E]                                                         */
    const void *x;          /* [T, H]                                                         */
    const uint32_t *scales; /* [T, scale_words], never looked at                              */
    const float *weights;   /* [T, K]; or                                                     */
    const float *probs;     /* [T, E]; or neither                                             */
};

struct sy_ref_world {
    int32_t ranks;       /* R                                                                 */
    int32_t topk;        /* K                                                                 */
    int32_t layout;      /* sy_layout                                                         */
    int32_t alignment;   /* 0: 1                                                              */
    int32_t type;        /* sy_type of x                                                      */
    int32_t quant;       /* sy_quant; anything but NONE needs BF16 and no scales              */
    int64_t hidden;      /* H, elements                                                       */
    int64_t scale_words; /* S, of the scales that the caller gives                            */
    struct sy_ref_rank *rank; /* [R]                                                          */
};

/* One (token, k) as its source sees it. */
struct sy_ref_selection {
    int32_t expert; /* of the group; -1: no expert, and then rank and local are -1 too        */
    int32_t rank;   /* that holds it                                                          */
    int32_t local;  /* the expert's number on that rank                                       */
    int64_t place;  /* row on that rank; -1: dropped. Layouts by token: shared by the token   */
};

/* One row as its receiver sees it. */
struct sy_ref_row {
    int32_t source, token;
    int32_t k;     /* -1 in layouts by token                                                  */
    int64_t place; /* -1: dropped                                                             */
};

/* What comes to one rank. The arrays are those of sy_route_info, with its shapes. */
struct sy_ref_arrivals {
    int32_t totals[SY_TOTALS];
    int32_t *expert_counts, *expert_aligned, *expert_offsets;
    int32_t *source_counts, *source_offsets;
    int32_t *slab_begin, *slab_count;
    int64_t rows;           /* delivered and dropped                                          */
    struct sy_ref_row *row; /* in the order of (source, token, k)                             */
};

struct sy_ref_route {
    int32_t ranks;
    struct sy_ref_selection **selection; /* [R] of [T, K]                                     */
    struct sy_ref_arrivals *at;          /* [R]                                               */
    struct {
        int32_t any, rank, k; /* the lowest (rank, token, k); with maps k is K                */
        int64_t token, value; /* with maps the first expert beyond K                          */
    } bad;
};

/* Expects a zeroed route. Needs of the world only what says where tokens go: no x, no weights. */
void sy_ref_route(const struct sy_ref_world *world, struct sy_ref_route *route);
void sy_ref_route_free(struct sy_ref_route *route);

/* Whether a layout has one row per selection. */
int sy_ref_by_expert(int32_t layout);
/* Rows that a rank's capacity stands for: in all, for every expert or for every source. */
int64_t sy_ref_rows(const struct sy_ref_world *world, int32_t rank);

/* An output and its first dimension, which is at least sy_ref_rows(). data NULL: not wanted. */
struct sy_ref_output {
    void *data;
    int64_t rows;
};

struct sy_ref_outputs {
    struct sy_ref_output x;       /* rows of sy_ref_out_row_bytes()                           */
    struct sy_ref_output scales;  /* rows of sy_ref_out_scale_words() words                   */
    struct sy_ref_output weights; /* F32: by token rows of K, by expert of 1                  */
    struct sy_ref_output probs;   /* F32: rows of L, layouts by token only                    */
    struct sy_ref_output ids;     /* rows of K, layouts by token only                         */
    struct sy_ref_output src;     /* I32: rows of 2                                           */
    int32_t ids_type;             /* SY_I32 or SY_I64                                         */
};

int64_t sy_ref_out_row_bytes(const struct sy_ref_world *world);
int64_t sy_ref_out_scale_words(const struct sy_ref_world *world);

/* Writes what the library must write on `rank`, and nothing else: fill the buffers with what lay in
 * the library's outputs before, and whole buffers can be compared. (For a view, whose bytes before
 * are unknown, start from a copy of the library's result.) */
void sy_ref_dispatch(const struct sy_ref_world *world, const struct sy_ref_route *route,
                     int32_t rank, const struct sy_ref_outputs *outputs);

/* A rank's side of a combine: as holder of rows, and as owner of tokens. NULL: absent. */
struct sy_ref_sum {
    const void *x;            /* [sy_ref_rows() or more, H]                                   */
    const float *row_weights; /* by token [rows, K], by expert [rows]; or                     */
    const float *row_probs;   /* by token [rows, L]                                           */
    const float *weights;     /* [T, K]                                                       */
    const void *bias[2];      /* [T, H]                                                       */
    void *out;                /* [T, H]                                                       */
    float *out_weights;       /* [T, K]                                                       */
    float *out_probs;         /* [T, E]                                                       */
};

/* Writes the outputs of sums[rank]. type: BF16, F16 or F32, of x, biases and out; it and hidden may
 * differ from the world's, which describes the dispatch. */
void sy_ref_combine(const struct sy_ref_world *world, const struct sy_ref_route *route,
                    int32_t rank, int32_t type, int64_t hidden, const struct sy_ref_sum *sums);

/* ---- numbers (ref_numbers.c) ---- */
int64_t sy_ref_type_bytes(int32_t type);

/* BF16, F16, F32 and F8E4M3. Encoding rounds to nearest even. Beyond the largest number BF16 and
 * F16 become infinite and F8E4M3 stays at 448; NaN is the one positive quiet NaN, but in F8E4M3,
 * where infinity is one too, it keeps its sign. */
float sy_ref_decode(int32_t type, uint32_t code);
uint32_t sy_ref_encode(int32_t type, float value);

/* Element `index` of an array of `type`. */
float sy_ref_load(int32_t type, const void *data, int64_t index);
void sy_ref_store(int32_t type, void *data, int64_t index, float value);

/* One row from BF16 to F8E4M3, with its scale words. */
void sy_ref_quantize(int32_t quant, const void *x, int64_t hidden, uint8_t *q, uint32_t *scales);

/* fp32 operations that no compiler option can fuse or widen. */
float sy_ref_add(float a, float b);
float sy_ref_mul(float a, float b);
float sy_ref_div(float a, float b);

#endif
