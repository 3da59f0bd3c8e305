/* switchyard.h - expert-parallel dispatch and combine.
 *
 * A mixture-of-experts layer routes every token to its top-k experts, which live on many ranks.
 * Switchyard carries the tokens there (dispatch) and brings the results back, summed (combine).
 * This header is the manual; read it from top to bottom.
 *
 *   1  Words              5  Streams and events     9  Combine
 *   2  Status and errors  6  Groups                10  Memory that peers can write
 *   3  Tensors            7  Routes                11  Questions: engines, version
 *   4  Bootstrap          8  Dispatch
 *
 * The life of a batch, on every rank of the group:
 *
 *     sy_route_set(route, &input, stream);         // top-k ids: where does each token go?
 *     sy_dispatch(route, &dispatch_args, stream);  // tokens travel to the ranks of their experts
 *     ...your experts, on the same stream...
 *     sy_combine(route, &combine_args, stream);    // results travel back, summed per token
 *
 * All three return at once; the work runs on the stream. Nothing is allocated per batch and the
 * host learns nothing that it does not ask for. The same route serves the backward pass: dispatch
 * carries gradients the way of tokens, combine the way of results.
 *
 * Structs that start with `size` are set to zero and then get size = sizeof(the struct); they grow
 * only at the end, so a program built with an older header works with a newer library. Zero in any
 * other field is its default.
 */
#ifndef SWITCHYARD_H
#define SWITCHYARD_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(SY_BUILD)
#define SY_API __attribute__((visibility("default")))
#else
#define SY_API
#endif

#define SY_VERSION_MAJOR 0
#define SY_VERSION_MINOR 1
#define SY_VERSION_PATCH 0

/* ---- 1. Words ----------------------------------------------------------------------------- */

/* rank    a process that holds tokens and experts
 * group   the ranks that exchange tokens
 * route   where each token of one batch goes
 * row     one token's payload as it travels
 * mode    throughput (big batches) or latency (small ones)
 * layout  how received rows are arranged
 * T, H    tokens of this rank; elements of a row
 * R, E    ranks of the group; experts of the whole group
 * K, L    ids per token (top-k); experts of this rank (ranks may differ)
 *
 * A selection is one valid (token, k): a token that goes to one expert. Equal ids in one token are
 * two selections. */

typedef struct sy_group sy_group;
typedef struct sy_route sy_route;
typedef struct sy_stream sy_stream;
typedef struct sy_event sy_event;

/* ---- 2. Status and errors ----------------------------------------------------------------- */

/* Every call returns a status. Errors of the work itself arrive later and on every rank of the
 * group with the same status; poll for them with sy_group_poll(), or get them from sy_stream_sync()
 * and from the next call. */
typedef enum sy_status {
    SY_OK = 0,
    SY_INVALID = 1,  /* an argument is wrong; nothing happened */
    SY_MISMATCH = 2, /* the ranks of a group disagree (configuration, shapes, order of calls) */
    SY_UNSUPPORTED =
        3, /* a legal request that this build or machine cannot serve; the text says why */
    SY_NO_MEMORY = 4,
    SY_SYSTEM = 5,    /* an operating-system call failed; the text names it */
    SY_TIMEOUT = 6,   /* a rank is alive but did not arrive within the deadline */
    SY_PEER_LOST = 7, /* a rank died */
    SY_STATE = 8,   /* a call out of order (combine before dispatch, two sends without a receive) */
    SY_ABORTED = 9, /* sy_group_abort() was called on some rank */
    SY_PROTOCOL = 10,  /* bytes from a peer failed a check */
    SY_BAD_ROUTE = 11, /* expert ids out of range on some rank; they were treated as -1 */
    SY_NOT_READY = 12  /* asked without waiting, and it is not finished */
} sy_status;

SY_API const char *sy_status_name(sy_status status); /* "SY_TIMEOUT" */
SY_API const char *sy_status_text(sy_status status); /* "a rank did not arrive in time" */

/* What went wrong in the calling thread's last failed call: one line that names rank, phase and
 * cause. Never NULL; valid until the thread's next failing call. */
SY_API const char *sy_last_error(void);

typedef enum sy_log_level {
    SY_LOG_ERROR = 1,
    SY_LOG_WARN = 2,
    SY_LOG_INFO = 3,
    SY_LOG_TRACE = 4
} sy_log_level;

/* Gets one line without newline; must not call the library. ERROR: a group is lost. WARN: once per
 * cause. INFO: once per group. TRACE: once per operation. Without a callback the library is silent.
 */
typedef void (*sy_log_fn)(void *context, sy_log_level level, const char *line);

/* ---- 3. Tensors --------------------------------------------------------------------------- */

/* Plain descriptors of memory that the engine can reach (on the CPU engine any memory). The library
 * borrows `data` until the operation has run on its stream; the descriptor itself is copied by the
 * call. */
typedef enum sy_type {
    SY_NONE = 0,
    SY_BF16 = 1,
    SY_F16 = 2,
    SY_F32 = 3,
    SY_F8E4M3 = 4,   /* e4m3fn: no infinity, NaN is 0x7f and 0xff */
    SY_OPAQUE16 = 5, /* 16 bytes that are moved and never looked at */
    SY_I32 = 6,
    SY_I64 = 7,
    SY_U8 = 8,     /* boolean maps: zero or not */
    SY_UE8M0X4 = 9 /* four power-of-two scales in a 32-bit word, the first in the lowest byte */
} sy_type;

#define SY_DIMS_MAX 4

typedef struct sy_tensor {
    void *data;                  /* NULL: absent */
    int32_t type;                /* sy_type */
    int32_t dims;                /* used entries of shape and stride */
    int64_t shape[SY_DIMS_MAX];  /* elements */
    int64_t stride[SY_DIMS_MAX]; /* elements; all zero means contiguous */
} sy_tensor;

static inline sy_tensor sy_tensor_1d(void *data, sy_type type, int64_t n0)
{
    sy_tensor t = {data, (int32_t)type, 1, {n0, 0, 0, 0}, {1, 0, 0, 0}};
    return t;
}

static inline sy_tensor sy_tensor_2d(void *data, sy_type type, int64_t n0, int64_t n1)
{
    sy_tensor t = {data, (int32_t)type, 2, {n0, n1, 0, 0}, {n1, 1, 0, 0}};
    return t;
}

static inline sy_tensor sy_tensor_3d(void *data, sy_type type, int64_t n0, int64_t n1, int64_t n2)
{
    sy_tensor t = {data, (int32_t)type, 3, {n0, n1, n2, 0}, {n1 * n2, n2, 1, 0}};
    return t;
}

/* ---- 4. Bootstrap ------------------------------------------------------------------------- */

/* How the ranks of a group find each other, one of three ways.
 *
 * SY_BOOT_ID: one process (a rank or not) calls sy_id_create() and the caller carries the 128 bytes
 * to every rank. A thread of that process serves one group over TCP and ends; the id holds a secret
 * that every connection must prove, so keep it as you keep a password. A process that made an id
 * and has no use for it calls sy_id_discard().
 *
 * SY_BOOT_ENV: rank, number of ranks and the meeting place come from the launcher's environment:
 * `switchyard run`, torchrun, mpirun (Open MPI, MPICH) or srun. All ranks on one machine and of one
 * user.
 *
 * SY_BOOT_USER: the caller supplies the two collectives below over whatever it has (MPI, a torch
 * store). They are called only from inside sy_group_create() and return 0 for success. */
typedef struct sy_id {
    uint8_t bytes[128];
} sy_id;

SY_API sy_status sy_id_create(sy_id *id);
SY_API sy_status sy_id_discard(const sy_id *id);

typedef enum sy_boot_kind { SY_BOOT_ENV = 0, SY_BOOT_ID = 1, SY_BOOT_USER = 2 } sy_boot_kind;

/* all: `bytes` per rank, own part first copied from `mine`; afterwards all[r * bytes] is rank r's.
 */
typedef int (*sy_allgather_fn)(void *context, const void *mine, void *all, size_t bytes);
typedef int (*sy_barrier_fn)(void *context);

/* ---- 5. Streams and events ---------------------------------------------------------------- */

/* A stream runs what is put on it in order and apart from the caller. On the CPU engine streams
 * belong to a group and are made here; on a GPU engine the caller's own stream is passed as
 * (sy_stream *). NULL is the group's own stream. Operations of one group run in the order of the
 * calls even on different streams, so all ranks must make their calls on a group in the same order.
 * On a GPU the group's own stream is ordered with the legacy default stream, and a captured
 * operation runs where its graph is launched: between graphs and eager calls the caller's streams
 * decide the order. */
SY_API sy_status sy_stream_create(sy_group *group, sy_stream **stream);
SY_API sy_status sy_stream_destroy(sy_stream *stream); /* waits until it is empty; NULL is fine */

/* Waits until all that was put on the stream has run; returns the group's error if there is one. */
SY_API sy_status sy_stream_sync(sy_group *group, sy_stream *stream);
SY_API sy_status sy_stream_query(sy_group *group, sy_stream *stream); /* SY_OK or SY_NOT_READY */

/* Runs fn(context) in the stream's order, on a thread of the library; fn must not call the library.
 * CPU engine only: it is how the caller's own work (the experts) joins the order. */
SY_API sy_status sy_stream_call(sy_group *group, sy_stream *stream, void (*fn)(void *context),
                                void *context);

SY_API sy_status sy_event_create(sy_group *group, sy_event **event);
SY_API sy_status sy_event_destroy(sy_event *event); /* NULL is fine */
SY_API sy_status sy_event_record(sy_event *event, sy_stream *stream);
SY_API sy_status sy_event_sync(sy_event *event);
SY_API sy_status sy_event_query(sy_event *event);
/* The stream waits, not the caller. */
SY_API sy_status sy_stream_wait(sy_stream *stream, sy_event *event);
/* Nanoseconds between two recorded and finished events. */
SY_API sy_status sy_event_elapsed(sy_event *begin, sy_event *end, uint64_t *ns);

/* ---- 6. Groups ---------------------------------------------------------------------------- */

typedef enum sy_engine {
    SY_ENGINE_AUTO = 0,
    SY_ENGINE_CPU = 1,
    SY_ENGINE_CUDA = 2,
    SY_ENGINE_HIP = 3
} sy_engine;

/* Modes are chosen per route. Throughput exchanges the counts first and writes every row once, at
 * its final place. Latency sends rows without waiting for anything, into a place of their own per
 * source, and arranges them on arrival. A group only takes memory for the modes that it names. */
typedef enum sy_mode { SY_THROUGHPUT = 1, SY_LATENCY = 2 } sy_mode;

/* Memory for the group's private objects; both or neither. The heap, which peers map, is always the
 * library's. */
typedef struct sy_allocator {
    void *context;
    void *(*alloc)(void *context, size_t bytes, size_t align); /* NULL when out of memory */
    void (*free)(void *context, void *pointer, size_t bytes);
} sy_allocator;

/* Everything but `boot`, the callbacks, `rank`, `cpu_threads`, `allocator` and `log` must be equal
 * on all ranks; a difference is reported on every rank as SY_MISMATCH with the field, the ranks and
 * the values. */
typedef struct sy_group_config {
    size_t size;

    int32_t boot; /* sy_boot_kind */
    int32_t rank; /* this rank and number of ranks; ignored with SY_BOOT_ENV */
    int32_t ranks;
    int32_t
        engine; /* sy_engine; AUTO takes a GPU if there is one and the CPU otherwise. A rank uses
                       the GPU of the calling thread's current context; without one, GPU number
                       `rank` of those that the process sees, counted round */
    sy_id id;   /* SY_BOOT_ID */
    sy_allgather_fn allgather; /* SY_BOOT_USER */
    sy_barrier_fn barrier;
    void *boot_context;

    uint32_t modes;                  /* SY_THROUGHPUT | SY_LATENCY; 0: both */
    int32_t experts;                 /* E */
    const int32_t *experts_per_rank; /* R entries that sum to E, copied; NULL: E / R each, the first
                                        E % R one more */
    int32_t topk_max;                /* largest K of a route */
    int64_t tokens_max;              /* largest T in throughput mode */
    int64_t latency_tokens_max;      /* largest T in latency mode; 0: min(tokens_max, 128) */
    int64_t row_bytes_max;           /* largest row: H times the bytes of an element */
    int64_t scale_words_max; /* most 32-bit scales of a row; 0: row_bytes_max / 128, rounded up */

    /* Rows of each area for received rows (throughput); 0: R * tokens_max, which token-major never
     * exceeds. Layouts by expert hold one row per selection and may want more. Rows beyond it are
     * dropped and reported (section 7). */
    int64_t recv_rows_max;
    int32_t views;         /* areas for received rows in throughput mode, used in turn; 0: 1 */
    int32_t latency_views; /* the same for latency mode, 2 to 8; 0: 2 */
    int64_t user_bytes;    /* heap for sy_alloc(), section 10 */

    int32_t cpu_threads; /* CPU engine: threads that run kernels, up to 64; 0: parameter
                            SY_CPU_THREADS, else 1 */
    /* GPU engines: most SMs that an operation may use; 0: chosen. Ranks that share a GPU never use
     * more than equal parts of it. Kernels of several groups that are at work on one GPU at a time
     * must fit together; to see to that is the caller's part, here. */
    int32_t sms;
    /* Longest wait for a peer, in any call or operation; 0: 30 s. While a group is set up, 0.5 s
     * more for the answer who did not come. */
    uint64_t timeout_ns;

    const sy_allocator *allocator; /* copied; NULL: malloc and free */
    sy_log_fn log;
    void *log_context;
    int32_t log_level; /* sy_log_level; 0: SY_LOG_WARN */
    int32_t reserved;
} sy_group_config;

/* What a group would take on this rank, before anything is allocated. SY_BOOT_ENV resolves rank and
 * ranks. */
typedef struct sy_group_sizes {
    size_t size;
    uint64_t heap_bytes;   /* memory that peers map; on the CPU engine pages are taken when first
                              touched */
    uint64_t device_bytes; /* private memory of the engine */
    uint64_t host_bytes;   /* private memory of the host */
} sy_group_sizes;

SY_API sy_status sy_group_sizes_get(const sy_group_config *config, sy_group_sizes *sizes);

/* Collective. On failure every rank gets a status within the deadline and nothing stays behind. */
SY_API sy_status sy_group_create(const sy_group_config *config, sy_group **group);

/* Waits for this rank's streams, then leaves. Not collective: it never waits for a peer, so it is
 * safe after an error. Peers that still use the group see SY_PEER_LOST. NULL is fine. Routes,
 * streams and events must be gone before. */
SY_API sy_status sy_group_destroy(sy_group *group);

/* A host barrier over all ranks, within the deadline. Does not wait for streams. */
SY_API sy_status sy_group_barrier(sy_group *group);

typedef struct sy_group_info {
    size_t size;
    int32_t rank, ranks, engine, experts;
    int32_t experts_first, experts_local; /* this rank's experts */
    int32_t cpu_threads, views, latency_views, reserved;
    int64_t recv_rows_max;
    sy_group_sizes sizes;
} sy_group_info;

SY_API sy_status sy_group_info_get(const sy_group *group, sy_group_info *info);

/* The verdict on a group that failed, equal on all ranks that live. */
typedef struct sy_fault {
    size_t size;
    int32_t status;   /* sy_status; SY_OK: no fault */
    int32_t culprit;  /* the rank that died, was late or disagreed; -1: none */
    int32_t reporter; /* the rank that noticed */
    int32_t reserved;
    char text[256];
} sy_fault;

/* Looks without waiting and without touching a GPU. SY_OK, or the fault's status; `fault` may be
 * NULL. After SY_BAD_ROUTE the group goes on, and the report is given once; any other fault is
 * final: destroy the group. */
SY_API sy_status sy_group_poll(sy_group *group, sy_fault *fault);

/* From any thread: makes every operation on every rank end with SY_ABORTED soon. */
SY_API sy_status sy_group_abort(sy_group *group);

/* ---- 7. Routes ---------------------------------------------------------------------------- */

/* A route holds where each token of one batch goes, for all later dispatches and combines of that
 * batch, forward and backward. Many routes may be alive, used in any order and set again for the
 * next batch.
 *
 * Layouts. The order of rows is always that of (source rank, token, k):
 *
 *   SY_TOKEN_MAJOR    each token once per destination rank, whatever the number of its experts
 *                     there; a row's place is its place in that order
 *   SY_EXPERT_PACKED  one row per selection, grouped by local expert; a group starts at a multiple
 *                     of `alignment`; the rows between a group's end and the next group's start
 *                     are padding: zero rows
 *   SY_EXPERT_SLABS   one row per selection; expert l's rows are l * capacity and following
 *   SY_RANK_MAJOR     each token once per destination rank; rows of source s are s * capacity and
 *                     following
 *
 * Capacity is the number of rows that the caller has room for: in all (TOKEN_MAJOR,
 * EXPERT_PACKED), per local expert (SLABS), per source (RANK_MAJOR). A row whose place lies at
 * or beyond the capacity is dropped: it is not delivered and adds nothing to a combine. Padding
 * at or beyond it is not written. True counts are always reported, and `overflow` says that
 * something was dropped. */
typedef enum sy_layout {
    SY_TOKEN_MAJOR = 1,
    SY_EXPERT_PACKED = 2,
    SY_EXPERT_SLABS = 3,
    SY_RANK_MAJOR = 4
} sy_layout;

/* All but capacity must be equal on all ranks. */
typedef struct sy_route_config {
    size_t size;
    int32_t mode;      /* sy_mode */
    int32_t layout;    /* sy_layout */
    int32_t topk;      /* K: 1 to topk_max; for dense maps the most experts of a token */
    int32_t alignment; /* rows, 1 to 65536; 0: 1. Places follow it in EXPERT_PACKED only; the counts
                          of sy_route_info in every layout */
    int64_t capacity;  /* rows as above; 0: what never overflows if no token repeats an id, but
                          not more than recv_rows_max in all */
} sy_route_config;

/* Bytes of engine memory that a route keeps (on the CPU engine plain memory, aligned to 256). */
SY_API sy_status sy_route_bytes(sy_group *group, const sy_route_config *config, size_t *bytes);

/* memory: at least sy_route_bytes() bytes that the caller owns and keeps until the route is gone;
 * NULL: the library allocates. Local, no communication. */
SY_API sy_status sy_route_create(sy_group *group, const sy_route_config *config, void *memory,
                                 sy_route **route);
/* Waits for this rank's work on it; NULL is fine. */
SY_API sy_status sy_route_destroy(sy_route *route);

/* One of the two. ids: [T, K] I32 or I64, -1 for no expert. map: [T, E] U8, non-zero where the
 * token goes; its selections are ordered by expert; of more than K the first K count, and the next
 * one is reported like an id out of range. An id that is neither -1 nor an expert
 * counts as -1, and every rank gets SY_BAD_ROUTE with rank, token, k and value. Borrowed until the
 * call has run on the stream; in latency mode until the route's first dispatch has. */
typedef struct sy_route_input {
    size_t size;
    sy_tensor ids;
    sy_tensor map;
    /* Most SMs that this call uses (CPU engine: threads), equal on all ranks and in both halves; 0,
     * or more than the group has: all of the group's. So it is in dispatch and combine, too. */
    int32_t sms;
    int32_t reserved;
} sy_route_input;

/* Collective. T is the first dimension, 0 allowed, at most tokens_max (latency_tokens_max); ranks
 * may differ. In throughput mode this exchanges the counts; in latency mode the first dispatch
 * does, on its way. */
SY_API sy_status sy_route_set(sy_route *route, const sy_route_input *input, sy_stream *stream);

/* Where the engine finds a route's counts: tensors in engine memory, valid as long as the route,
 * filled in stream order by sy_route_set() (throughput) or the first dispatch (latency). Read-only.
 * I32, contiguous. */
typedef struct sy_route_info {
    size_t size;
    sy_tensor totals;         /* [SY_TOTALS], see below */
    sy_tensor expert_counts;  /* [L] selections of each local expert, true counts */
    sy_tensor expert_aligned; /* [L] the same rounded up to alignment */
    sy_tensor expert_offsets; /* [L + 1] first row of each expert's group; in the layouts by token:
                                 sums of expert_aligned */
    sy_tensor source_counts;  /* [R] tokens that came from each rank, true counts */
    sy_tensor source_offsets; /* [R + 1] first row of each source (TOKEN_MAJOR, RANK_MAJOR), sums of
                                 source_counts otherwise */
    sy_tensor slab_begin;     /* [L, R] where rows of (expert, source) begin in the group */
    sy_tensor slab_count;     /* [L, R] and how many there are, true counts */
} sy_route_info;

enum {
    SY_TOTAL_TOKENS = 0,   /* distinct tokens that came here */
    SY_TOTAL_ROWS = 1,     /* the capacity that would have sufficed: TOKEN_MAJOR: as many as tokens;
                              EXPERT_PACKED: all rows, padding of the last group included; SLABS
                              and RANK_MAJOR: the most of any slab */
    SY_TOTAL_DROPPED = 2,  /* rows dropped */
    SY_TOTAL_OVERFLOW = 3, /* 1 if any was */
    SY_TOTAL_BAD = 4,      /* 1 if a rank had ids out of range */
    SY_TOTALS = 8
};

SY_API sy_status sy_route_info_get(const sy_route *route, sy_route_info *info);

/* The totals for the host: waits for the work on the route, within the deadline. */
SY_API sy_status sy_route_totals(sy_route *route, int64_t totals[SY_TOTALS]);

/* ---- 8. Dispatch -------------------------------------------------------------------------- */

/* x is [T, H] with rows of any stride that is a multiple of 16 bytes; a row is a multiple of 16
 * bytes; data is aligned to 16. Without tokens data may be NULL, but type and H are still needed.
 * out_x is [rows, H] in the type that travels, for SLABS and RANK_MAJOR also [L or R, capacity, H].
 * Outputs need as many rows as arrive, up to the capacity; SLABS and RANK_MAJOR need all of them.
 *
 * Where rows go:
 *
 *   out_x.data NULL      rows stay where the sender put them, in an area of the group's heap (a
 *                        view); *view gets its descriptor at once. No second copy. A view is valid
 *                        until its area's turn comes again: until the group's dispatch `views`
 *                        (latency: latency_views - 1) later in the same mode begins. Latency mode
 *                        has views for RANK_MAJOR only
 *   out_x in sy_alloc()  throughput mode writes the final rows there. No second copy
 *   any other memory     the receiver copies
 *
 * Ranks may choose differently.
 *
 * Quantisation of BF16 rows to F8E4M3 on the way, in blocks of 128 elements (the last may be
 * shorter). With a = the largest finite |x| of the block, at least 1e-4, in fp32:
 *
 *   SY_QUANT_F8        q = x * (448 / a)                   scale a / 448, F32
 *   SY_QUANT_F8_POW2   q = x * 2^-n, n = ceil(log2(a/448)) scale 2^n, F32
 *   SY_QUANT_F8_UE8M0  the same                            scale 2^n as a byte of UE8M0X4 words
 *
 * q is rounded to nearest even and saturated to +-448. What is not finite becomes NaN with its
 * sign. Bytes of the last UE8M0X4 word that belong to no block are 0. */
typedef enum sy_quant {
    SY_QUANT_NONE = 0,
    SY_QUANT_F8 = 1,
    SY_QUANT_F8_POW2 = 2,
    SY_QUANT_F8_UE8M0 = 3
} sy_quant;

/* An operation may be cut into halves so that other work runs between them: call it twice, with
 * SY_SEND and then with SY_RECEIVE and otherwise equal arguments. Per group, kind of operation and
 * mode one send may be open at a time. */
typedef enum sy_phase { SY_WHOLE = 0, SY_SEND = 1, SY_RECEIVE = 2 } sy_phase;

/* Types and shapes must be equal on all ranks; T may differ, and which outputs a rank wants. */
typedef struct sy_dispatch_args {
    size_t size;
    int32_t phase; /* sy_phase */
    int32_t quant; /* sy_quant */

    sy_tensor x;       /* [T, H] BF16, F16, F32, F8E4M3, OPAQUE16 */
    sy_tensor scales;  /* [T, S] F32 or UE8M0X4, any strides; travels with the row unchanged */
    sy_tensor weights; /* [T, K] F32 */
    sy_tensor probs;   /* [T, E] F32, instead of weights: the weight of (t, k) is probs[t, id] */

    /* What the receiver gets. Rows that were not delivered: weights and probs are 0, ids and src
     * are -1, x and scales are left alone except for padding rows, which are zero. The outputs'
     * first dimension says how far that goes. */
    sy_tensor out_x;
    sy_tensor out_scales;  /* [rows, S], any strides */
    sy_tensor out_weights; /* layouts by token [rows, K], 0 if k is not local; by expert [rows] */
    sy_tensor out_probs;   /* layouts by token [rows, L]: the weights at their experts, 0 elsewhere;
                              those of equal ids are added to +0, k ascending */
    sy_tensor out_ids;     /* layouts by token [rows, K] I32 or I64: local expert or -1 */
    sy_tensor out_src;     /* [rows, 2] I32: source rank, token */
    sy_tensor *view;       /* gets the view of out_x; may be NULL */
    int32_t sms;           /* as in sy_route_input */
    int32_t reserved;
} sy_dispatch_args;

SY_API sy_status sy_dispatch(sy_route *route, const sy_dispatch_args *args, sy_stream *stream);

/* ---- 9. Combine --------------------------------------------------------------------------- */

/* The way back: x holds a row for every row of the layout, and out[t] becomes a sum over the ranks
 * that token t went to. Type and H are those of the experts' results: they need not be those of the
 * dispatch (FP8 rows go, BF16 rows come back). All arithmetic is fp32 without fused multiply-add,
 * and every sum starts from +0:
 *
 *   layouts by expert   term(t, r) = round(sum over k of [w(t, k) *] row(t, k))
 *   layouts by token    term(t, r) = [(sum over k of w(t, k)) *] row(t, r)
 *                       where k runs, ascending, over t's selections on rank r
 *   always              out(t) = round([bias[0](t)] + [bias[1](t)] + sum over r of term(t, r))
 *                       where r runs, ascending, over the ranks that t went to
 *
 * round() is to nearest even in the type of x; every NaN becomes the type's one positive quiet NaN
 * (0x7fff, F32 0x7fffffff). Dropped rows add nothing; a token that went nowhere gets its biases or
 * +0. The result has the same bits on every engine, in both modes and for any number of threads or
 * SMs.
 *
 * x may be any memory and is borrowed until the operation (with halves: the receive half) has run.
 * In a view or in sy_alloc() memory the sources may fetch the rows themselves, which saves a copy.
 */
typedef struct sy_combine_args {
    size_t size;
    int32_t phase; /* sy_phase */
    int32_t reserved;

    sy_tensor x;       /* [rows, H] as in dispatch: BF16, F16 or F32 */
    sy_tensor weights; /* [T, K] F32 of this rank's tokens: a weighted sum; absent: a plain one */
    sy_tensor bias[2]; /* [T, H], type of x */

    /* Carried back unchanged, for the gradient of the weights; what nobody sent is 0. */
    sy_tensor row_weights; /* layouts by token [rows, K]; by expert [rows]; F32 */
    sy_tensor row_probs;   /* layouts by token [rows, L] F32, instead of row_weights */

    sy_tensor out;         /* [T, H], type of x */
    sy_tensor out_weights; /* [T, K] F32 */
    sy_tensor out_probs;   /* [T, E] F32: the same values at their experts, 0 elsewhere; equal ids
                              are added to +0, k ascending */
    int32_t sms;           /* as in sy_route_input */
    int32_t reserved1;
} sy_combine_args;

SY_API sy_status sy_combine(sy_route *route, const sy_combine_args *args, sy_stream *stream);

/* ---- 10. Memory that peers can write ------------------------------------------------------ */

/* Memory of the group's heap (config.user_bytes) for outputs of dispatch and inputs of combine
 * without a second copy. Local calls, not collective. Aligned to 256. */
SY_API sy_status sy_alloc(sy_group *group, size_t bytes, void **pointer);
/* NULL is fine; no work on it may be pending. */
SY_API sy_status sy_free(sy_group *group, void *pointer);

/* ---- 11. Questions ------------------------------------------------------------------------ */

SY_API const char *sy_version(void);    /* "0.1.0 (<build>)" */
SY_API int32_t sy_version_number(void); /* major * 10000 + minor * 100 + patch */

typedef struct sy_engine_info {
    size_t size;
    int32_t engine;
    int32_t available; /* 1: groups can be made with it on this machine */
    int32_t devices;   /* CPU: cores this process may use */
    int32_t reserved;
    char name[64];    /* of the device */
    char detail[192]; /* what was found; when not available: what is missing, and why */
} sy_engine_info;

SY_API sy_status sy_engine_query(sy_engine engine, sy_engine_info *info);

/* Whether sy_group_create() could serve this configuration, without creating anything: SY_OK, or a
 * status whose sy_last_error() says what stands against it. Local. */
SY_API sy_status sy_group_check(const sy_group_config *config);

/* The tunable parameters, their values and where those came from (default or environment), by index
 * from 0. SY_INVALID beyond the last. */
typedef struct sy_param_info {
    size_t size;
    const char *name, *value, *source, *range, *help;
} sy_param_info;

SY_API sy_status sy_param_get(int32_t index, sy_param_info *info);

#ifdef __cplusplus
}
#endif
#endif
