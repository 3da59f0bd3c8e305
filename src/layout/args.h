/* args.h - the arguments of every kernel, filled by the host (api/) and read by device code.
 *
 * They are passed by value, so a captured launch keeps its own copy: nothing in them may change
 * from one replay to the next. What changes (epochs, tickets, counts) lives in device memory. */
#ifndef SY_LAYOUT_ARGS_H
#define SY_LAYOUT_ARGS_H

#include "layout.h"
#include "shape.h"

/* The group, as a kernel sees it. */
struct sy_dev {
    sy_u32 rank, ranks;
    sy_u32 experts, local_max;
    sy_u32 first, local; /* this rank's experts                                   */
    sy_u32 tokens_max, lat_tokens_max;
    sy_u32 fan_max, topk_max;
    sy_u32 td_chunks, tc_chunks;
    sy_u32 meta_words, lat_views;
    sy_u32 books, told_words; /* struct sy_limits                                  */
    sy_u64 timeout_ns;
    sy_u64 heap_bytes;
    sy_u8 *heap;          /* own heap                                              */
    sy_u8 *const *peers;  /* [rank]: its heap, as mapped here; own included        */
    sy_u8 *mine;          /* private memory, see local.def                         */
    struct sy_report *report; /* memory of the host                                */
    sy_u64 owner_scale;   /* all ranks have n experts: 2^32 / n + 1; 0: look it up */
    const sy_u32 *owner;  /* [expert]: its rank                                    */
    const sy_u32 *firsts; /* [rank]: its first expert; [ranks]: experts            */
    struct sy_heap_layout at;
    struct sy_local_layout in;
};

/* A route, as a kernel sees it. */
struct sy_dev_route {
    sy_u8 *memory; /* see route.def                                         */
    struct sy_route_layout at;
    sy_u32 layout;       /* sy_layout                                             */
    sy_u32 latency;      /* 1: latency mode                                       */
    sy_u32 topk, fan;    /* K, and the most destinations of a token               */
    sy_u32 tokens_limit; /* most tokens; latency: also the stride of sources      */
    sy_u32 chunks;       /* of one source's rows                                  */
    sy_u32 alignment, capacity;
};

/* A tensor of at most two dimensions; strides in bytes. Slabs are flattened to rows. */
struct sy_dev_tensor {
    sy_u8 *data;
    sy_s64 stride0, stride1;
    sy_u32 rows;
    sy_u32 wide; /* 1: I64 elements                                       */
};

/* Division by what is the same for a whole launch: n / by is (u64)n * scale >> shift, n < 2^31. */
struct sy_by {
    sy_u32 scale, shift;
};

/* How a launch is cut; chosen by plan/tune.c. */
struct sy_shape {
    sy_u32 pushers; /* warps per block of each role                          */
    sy_u32 signallers;
    sy_u32 finishers;
    sy_u32 stages; /* per pusher                                            */
    sy_u32 stage_bytes;
    sy_u32 parts;       /* of a row                                              */
    sy_u32 part_bytes;  /* of the row as it travels                              */
    sy_u32 piece_bytes; /* of one store                                          */
    sy_u32 splits;      /* of a row in a reduction                               */
    sy_u32 split_bytes;
    sy_u32 steps;  /* combine: that a finisher has begun at most; a power   */
                   /* of two                                                */
    sy_u32 slots;  /* ... for their terms; 0: they are read where they lie  */
    sy_u32 slot_bytes; /* of a step                                        */
    sy_u32 copier_bytes; /* dispatch: what a finisher copies rows with; 0: its lanes do */
    sy_u32 gather; /* combine: 1: pushers bring the terms of a sum into     */
                   /* their stages; 0: they read them where they lie        */
    sy_u32 pace;   /* ns for a KiB that goes to other ranks, of each pusher, times */
                   /* 16; 0: as fast as it is taken                         */
    struct sy_by by_stages, by_parts, by_splits;
};

/* --- routing -------------------------------------------------------------------------------- */
struct sy_route_args {
    struct sy_dev d;
    struct sy_dev_route r;
    struct sy_dev_tensor ids; /* one of the two                                        */
    struct sy_dev_tensor map;
    sy_u32 tokens;
    sy_u32 chunk_tokens; /* of one block                                          */
    sy_u32 chunks;       /* of the last so many blocks                            */
    sy_u32 check;
    sy_u32 only_ids; /* 1: latency mode with a map: just write the ids        */
};

/* --- what a receiver makes of its rows ------------------------------------------------------ */
struct sy_outputs {
    struct sy_dev_tensor x, scales, weights, probs, ids, src;
    sy_u32 rows_have; /* that all given outputs have; checked against the route */
    sy_u32 direct;    /* rows are already in x, by the sender                  */
    sy_u32 work;      /* something is to be done per row                       */
    sy_u32 row_bytes;
    sy_u32 scale_words;
    sy_u32 weighted; /* weights travelled                                     */
};

/* --- dispatch, throughput ------------------------------------------------------------------- */
struct sy_tdispatch_args {
    struct sy_dev d;
    struct sy_dev_route r;
    struct sy_shape s;
    struct sy_outputs out;
    struct sy_dev_tensor x, scales, weights, probs;
    sy_u32 send, receive; /* halves that this launch runs                          */
    sy_u32 tokens;
    sy_u32 check;
    sy_u32 quant;      /* sy_quant                                              */
    sy_u32 hidden;     /* elements, for quantisation                            */
    sy_u32 side_bytes; /* scales, then weights, of one token; multiple of 16    */
    sy_u32 side_bulk;  /* bit 0: scales, bit 1: weights are loaded in bulk      */
    sy_u32 side_lanes; /* 1: some of the side is written by lanes               */
    sy_u64 area;       /* offset in the heap of the rows that peers write here  */
};

/* --- dispatch, latency ---------------------------------------------------------------------- */
struct sy_ldispatch_args {
    struct sy_dev d;
    struct sy_dev_route r;
    struct sy_shape s;
    struct sy_outputs out;
    struct sy_dev_tensor ids; /* the caller's, or absent: the route has them           */
    struct sy_dev_tensor x, scales, weights, probs;
    sy_u32 send, receive;
    sy_u32 tokens;
    sy_u32 check;
    sy_u32 quant;
    sy_u32 hidden;
    sy_u32 tail_bytes;
    sy_u32 tail_bytes_max; /* strides of views                                      */
    sy_u32 row_bytes_max;
    sy_u32 view;  /* which area                                            */
    sy_u32 again; /* 1: not the first dispatch of this setting             */
};

/* --- combine, both modes -------------------------------------------------------------------- */
struct sy_combine_kargs {
    struct sy_dev d;
    struct sy_dev_route r;
    struct sy_shape s;
    struct sy_dev_tensor x;
    struct sy_dev_tensor weights;
    struct sy_dev_tensor bias0, bias1;
    struct sy_dev_tensor row_weights, row_probs;
    struct sy_dev_tensor out, out_weights, out_probs;
    sy_u32 send, receive;
    sy_u32 tokens;
    sy_u32 check;
    sy_u32 type; /* sy_type of the rows                                   */
    sy_u32 row_bytes;
    sy_u32 pull;          /* 1: sources fetch this rank's rows                     */
    sy_u32 carry;         /* weights travel back                                   */
    sy_u32 weighted;      /* a weighted sum, on all ranks                          */
    sy_u64 x_offset;      /* of x in the heap, with pull                           */
    sy_u64 lat_half_rows; /* bytes of one half of lc_rows                          */
};

/* --- the machine's ceilings ----------------------------------------------------------------- */
struct sy_probe_args {
    struct sy_dev d;
    const sy_u8 *source;
    sy_u64 source_bytes; /* multiple of piece_bytes                               */
    sy_u64 area;         /* offset in every heap                                  */
    sy_u32 area_pieces;  /* that fit there; 0: all                                */
    sy_u32 pieces;       /* of this rank                                          */
    sy_u32 piece_bytes;
    sy_u32 pace; /* as in struct sy_shape, of each warp                   */
    sy_u32 load; /* 1: load instead of store                              */
    sy_u32 reserved;
};

/* Words between two ranks, or between all. */
struct sy_flags_args {
    struct sy_dev d;
    sy_u64 area;    /* of a struct sy_flags and what follows, in every heap   */
    sy_u32 partner; /* with whom a word goes to and fro; ranks: all meet     */
    sy_u32 rounds;
};

#endif
