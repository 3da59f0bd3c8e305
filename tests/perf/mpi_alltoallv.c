/* mpi_alltoallv.c - dispatch and combine as one would write them over MPI_Alltoallv, to compare.
 *
 *     mpirun -n 8 mpi_alltoallv [--tokens N] [--hidden N] [--topk N] [--experts N] [--routing KIND]
 *                               [--skew S] [--seed N] [--warmup N] [--iters N]
 *
 * Batches, shapes and what is timed are those of `switchyard bench --layout token-major`: BF16
 * rows, each once per destination rank, with the weights and local expert ids that its receiver
 * needs; experts that leave rows as they are; sums in fp32 over ascending ranks at the source,
 * rounded once. Nothing is allocated in the loop, rows land where the experts want them, and on the
 * way back they are sent from there. Prints one JSON object; exits 1 if a result is wrong.
 *
 * Sections: buffers | route | dispatch | combine | checking | timing | the program. */
#define _GNU_SOURCE
#include <getopt.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "batch.h"
#include "switchyard.h"

enum { ROUTE, DISPATCH, COMBINE, OPS };

struct side {
    struct batch b;
    int32_t rank, ranks, topk;
    int64_t hidden, row_bytes, fan; /* most destinations of a token */

    /* This rank's tokens. */
    int64_t *ids;   /* [T, K]                                        */
    float *weights; /* [T, K]                                        */
    uint8_t *x;     /* [T, H]                                        */
    uint16_t *out;  /* [T, H]                                        */
    int32_t *dst;   /* [T, fan]: destinations, ascending             */
    int32_t *n_dst; /* [T]                                           */
    int32_t *slot;  /* [T, fan]: where the row is in the send buffer */

    /* Rows to send, by destination, and what tells about them. */
    int *send_n, *send_at, *receive_n, *receive_at; /* [R], rows */
    int *next;                                      /* [R]       */
    int32_t *send_meta, *receive_meta;              /* [rows, 2 K]: local ids, weights */
    uint8_t *send_rows, *receive_rows, *back_rows;
    int64_t sent, received;
    int32_t *out_ids;   /* [received, K] */
    float *out_weights; /* [received, K] */

    MPI_Datatype row, meta;
};

/* --- buffers -------------------------------------------------------------------------------- */

static void stop(const char *why)
{
    fprintf(stderr, "mpi_alltoallv: %s\n", why);
    MPI_Abort(MPI_COMM_WORLD, 1);
}

/* Touched, so that no page is missing later. */
static void *get(size_t bytes)
{
    void *p = NULL;
    if (posix_memalign(&p, 256, bytes + 256))
        stop("out of memory");
    memset(p, 0, bytes + 256);
    return p;
}

static void open_side(struct side *s)
{
    size_t tokens = (size_t)s->b.tokens, k = (size_t)s->topk, row = (size_t)s->row_bytes;
    struct traffic t;
    size_t sent = 0, received;
    if (batch_traffic(&s->b, &t))
        stop("out of memory");
    for (int32_t d = 0; d < s->ranks; d++)
        sent += (size_t)t.rows[s->rank * s->ranks + d];
    received = (size_t)batch_arrivals(&s->b, &t, s->rank);
    batch_traffic_free(&t);
    s->fan = s->topk < s->ranks ? s->topk : s->ranks;
    s->ids = get(tokens * k * sizeof *s->ids);
    s->weights = get(tokens * k * sizeof *s->weights);
    s->x = get(tokens * row);
    s->out = get(tokens * row);
    s->dst = get(tokens * k * sizeof *s->dst);
    s->n_dst = get(tokens * sizeof *s->n_dst);
    s->slot = get(tokens * k * sizeof *s->slot);
    s->send_n = get(5 * (size_t)s->ranks * sizeof *s->send_n);
    s->send_at = s->send_n + s->ranks;
    s->receive_n = s->send_at + s->ranks;
    s->receive_at = s->receive_n + s->ranks;
    s->next = s->receive_at + s->ranks;
    s->send_meta = get(sent * 2 * k * 4);
    s->receive_meta = get(received * 2 * k * 4);
    s->send_rows = get(sent * row);
    s->receive_rows = get(received * row);
    s->back_rows = get(sent * row);
    s->out_ids = get(received * k * sizeof *s->out_ids);
    s->out_weights = get(received * k * sizeof *s->out_weights);
    if (batch_ids(&s->b, s->rank, s->ids))
        stop("out of memory");
    batch_weights(&s->b, s->rank, s->weights);
    batch_payload(&s->b, SY_BF16, s->rank, 0, s->x, tokens * row);
    MPI_Type_contiguous((int)s->row_bytes, MPI_BYTE, &s->row);
    MPI_Type_contiguous(2 * s->topk, MPI_INT32_T, &s->meta);
    MPI_Type_commit(&s->row);
    MPI_Type_commit(&s->meta);
}

static void close_side(struct side *s)
{
    void *all[] = {s->ids,       s->weights,      s->x,         s->out,       s->dst,
                   s->n_dst,     s->slot,         s->send_n,    s->send_meta, s->receive_meta,
                   s->send_rows, s->receive_rows, s->back_rows, s->out_ids,   s->out_weights};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    MPI_Type_free(&s->row);
    MPI_Type_free(&s->meta);
}

/* --- route ---------------------------------------------------------------------------------- */

static int64_t sum_up(const int *n, int *at, int32_t ranks)
{
    int64_t sum = 0;
    for (int32_t r = 0; r < ranks; r++) {
        at[r] = (int)sum;
        sum += n[r];
    }
    return sum;
}

static void describe_row(const struct side *s, const int64_t *ids, const float *weights, int32_t d,
                         int32_t *meta)
{
    const int32_t first = batch_first(&s->b, d), end = batch_first(&s->b, d + 1);
    for (int32_t k = 0; k < s->topk; k++) {
        int here = ids[k] >= first && ids[k] < end;
        float weight = here ? weights[k] : 0;
        meta[k] = here ? (int32_t)ids[k] - first : -1;
        memcpy(meta + s->topk + k, &weight, 4);
    }
}

/* Who gets which token, how many come from whom, and the ids and weights of the rows. */
static void route(struct side *s)
{
    const int32_t k = s->topk;
    memset(s->send_n, 0, sizeof *s->send_n * (size_t)s->ranks);
    for (int64_t t = 0; t < s->b.tokens; t++) {
        s->n_dst[t] = batch_ranks(&s->b, s->ids + t * k, s->dst + t * k);
        for (int32_t j = 0; j < s->n_dst[t]; j++)
            s->send_n[s->dst[t * k + j]]++;
    }
    MPI_Alltoall(s->send_n, 1, MPI_INT, s->receive_n, 1, MPI_INT, MPI_COMM_WORLD);
    s->sent = sum_up(s->send_n, s->send_at, s->ranks);
    s->received = sum_up(s->receive_n, s->receive_at, s->ranks);
    memcpy(s->next, s->send_at, sizeof *s->next * (size_t)s->ranks);
    for (int64_t t = 0; t < s->b.tokens; t++)
        for (int32_t j = 0; j < s->n_dst[t]; j++) {
            int32_t d = s->dst[t * k + j];
            s->slot[t * k + j] = s->next[d]++;
            describe_row(s, s->ids + t * k, s->weights + t * k, d,
                         s->send_meta + (int64_t)s->slot[t * k + j] * 2 * k);
        }
    MPI_Alltoallv(s->send_meta, s->send_n, s->send_at, s->meta, s->receive_meta, s->receive_n,
                  s->receive_at, s->meta, MPI_COMM_WORLD);
}

/* --- dispatch ------------------------------------------------------------------------------- */

static void dispatch(struct side *s)
{
    const int32_t k = s->topk;
    const size_t row = (size_t)s->row_bytes;
    for (int64_t t = 0; t < s->b.tokens; t++)
        for (int32_t j = 0; j < s->n_dst[t]; j++)
            memcpy(s->send_rows + (size_t)s->slot[t * k + j] * row, s->x + (size_t)t * row, row);
    MPI_Alltoallv(s->send_rows, s->send_n, s->send_at, s->row, s->receive_rows, s->receive_n,
                  s->receive_at, s->row, MPI_COMM_WORLD);
    for (int64_t i = 0; i < s->received; i++) {
        memcpy(s->out_ids + i * k, s->receive_meta + i * 2 * k, (size_t)k * 4);
        memcpy(s->out_weights + i * k, s->receive_meta + (i * 2 + 1) * k, (size_t)k * 4);
    }
}

/* --- combine -------------------------------------------------------------------------------- */

static float widen(uint16_t code)
{
    uint32_t bits = (uint32_t)code << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

/* To nearest even; the payload has no NaN. */
static uint16_t narrow(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* out = the rows' sum; in blocks that stay in the cache, in loops that compilers vectorise. */
static void sum_rows(const uint16_t *const *rows, int32_t n, int64_t elements, uint16_t *out)
{
    enum { BLOCK = 512 };
    float sum[BLOCK];
    for (int64_t at = 0; at < elements; at += BLOCK) {
        int64_t m = elements - at < BLOCK ? elements - at : BLOCK;
        for (int64_t i = 0; i < m; i++)
            sum[i] = 0;
        for (int32_t j = 0; j < n; j++) {
            const uint16_t *row = rows[j] + at;
            for (int64_t i = 0; i < m; i++)
                sum[i] += widen(row[i]);
        }
        for (int64_t i = 0; i < m; i++)
            out[at + i] = narrow(sum[i]);
    }
}

static void combine(struct side *s)
{
    const int32_t k = s->topk;
    const uint16_t *rows[1024];
    MPI_Alltoallv(s->receive_rows, s->receive_n, s->receive_at, s->row, s->back_rows, s->send_n,
                  s->send_at, s->row, MPI_COMM_WORLD);
    for (int64_t t = 0; t < s->b.tokens; t++) {
        for (int32_t j = 0; j < s->n_dst[t]; j++)
            rows[j] = (const uint16_t *)(const void *)(s->back_rows + (size_t)s->slot[t * k + j] *
                                                                          (size_t)s->row_bytes);
        sum_rows(rows, s->n_dst[t], s->hidden, s->out + t * s->hidden);
    }
}

/* --- checking ------------------------------------------------------------------------------- */

/* Every received row, its ids and its weights, made again from what its source must have sent. */
static int check_received(struct side *s)
{
    const int32_t k = s->topk;
    int64_t *ids = get((size_t)(s->b.tokens * k) * sizeof *ids), i = 0;
    float *weights = get((size_t)(s->b.tokens * k) * sizeof *weights);
    int32_t *dst = get((size_t)k * sizeof *dst), *meta = get((size_t)k * 8);
    uint8_t *row = get((size_t)s->row_bytes);
    int good = 1;
    for (int32_t r = 0; r < s->ranks; r++) {
        if (batch_ids(&s->b, r, ids))
            stop("out of memory");
        batch_weights(&s->b, r, weights);
        for (int64_t t = 0; t < s->b.tokens; t++) {
            int32_t n = batch_ranks(&s->b, ids + t * k, dst), here = 0;
            for (int32_t j = 0; j < n; j++)
                here |= dst[j] == s->rank;
            if (!here)
                continue;
            batch_payload(&s->b, SY_BF16, r, (uint64_t)(t * s->row_bytes), row,
                          (size_t)s->row_bytes);
            describe_row(s, ids + t * k, weights + t * k, s->rank, meta);
            good &= i < s->received &&
                    !memcmp(row, s->receive_rows + i * s->row_bytes, (size_t)s->row_bytes) &&
                    !memcmp(meta, s->out_ids + i * k, (size_t)k * 4) &&
                    !memcmp(meta + k, s->out_weights + i * k, (size_t)k * 4);
            i++;
        }
    }
    good &= i == s->received;
    free(ids);
    free(weights);
    free(dst);
    free(meta);
    free(row);
    return good;
}

/* Each token's own row, added to itself as often as it went somewhere. */
static int check_sums(struct side *s)
{
    int good = 1;
    for (int64_t t = 0; t < s->b.tokens; t++) {
        const uint16_t *x = (const uint16_t *)(const void *)(s->x + t * s->row_bytes);
        for (int64_t i = 0; i < s->hidden; i++) {
            float sum = 0;
            for (int32_t j = 0; j < s->n_dst[t]; j++)
                sum += widen(x[i]);
            good &= s->out[t * s->hidden + i] == narrow(sum);
        }
    }
    return good;
}

/* --- timing --------------------------------------------------------------------------------- */

static double now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static void iterate(struct side *s, double us[OPS])
{
    static void (*const ops[OPS])(struct side *) = {route, dispatch, combine};
    for (int op = 0; op < OPS; op++) {
        double begin;
        MPI_Barrier(MPI_COMM_WORLD);
        begin = now_us();
        ops[op](s);
        us[op] += now_us() - begin;
    }
}

static void report(const struct side *s, const double us[OPS], int good)
{
    static const char *const names[OPS] = {"route", "dispatch", "combine"};
    double least[OPS], sum[OPS], most[OPS];
    int all = 0;
    MPI_Reduce(us, least, OPS, MPI_DOUBLE, MPI_MIN, 0, MPI_COMM_WORLD);
    MPI_Reduce(us, sum, OPS, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
    MPI_Reduce(us, most, OPS, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
    MPI_Reduce(&good, &all, 1, MPI_INT, MPI_MIN, 0, MPI_COMM_WORLD);
    if (s->rank)
        return;
    printf("{\"ranks\": %d, \"tokens\": %lld, \"hidden\": %lld, \"verified\": %s, \"results\": [",
           (int)s->ranks, (long long)s->b.tokens, (long long)s->hidden, all ? "true" : "false");
    for (int op = 0; op < OPS; op++)
        printf("%s{\"op\": \"%s\", \"us_min\": %.3f, \"us_avg\": %.3f, \"us_max\": %.3f}",
               op ? ", " : "", names[op], least[op], sum[op] / s->ranks, most[op]);
    printf("]}\n");
}

/* --- the program ---------------------------------------------------------------------------- */

struct settings {
    int64_t tokens, hidden, topk, experts, seed, warmup, iters;
    double skew;
    const char *routing;
};

/* Options below SKEW are indices of the numbers in read_settings(). */
enum { SKEW = 7, ROUTING };

static int read_settings(int argc, char **argv, struct settings *o)
{
    static const struct option names[] = {
        {"tokens", required_argument, NULL, 0},        {"hidden", required_argument, NULL, 1},
        {"topk", required_argument, NULL, 2},          {"experts", required_argument, NULL, 3},
        {"seed", required_argument, NULL, 4},          {"warmup", required_argument, NULL, 5},
        {"iters", required_argument, NULL, 6},         {"skew", required_argument, NULL, SKEW},
        {"routing", required_argument, NULL, ROUTING}, {NULL, 0, NULL, 0}};
    int64_t *const numbers[] = {&o->tokens, &o->hidden, &o->topk, &o->experts,
                                &o->seed,   &o->warmup, &o->iters};
    int option;
    while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
        if (option == '?')
            return -1;
        if (option == SKEW)
            o->skew = strtod(optarg, NULL);
        else if (option == ROUTING)
            o->routing = optarg;
        else
            *numbers[option] = strtoll(optarg, NULL, 10);
    }
    return optind == argc && o->tokens > 0 && o->hidden > 0 && o->hidden % 8 == 0 && o->topk > 0 &&
                   o->topk <= o->experts && o->topk <= 1024 && o->warmup >= 0 && o->iters > 0
               ? 0
               : -1;
}

static void set_side(struct side *s, const struct settings *o)
{
    memset(s, 0, sizeof *s);
    MPI_Comm_rank(MPI_COMM_WORLD, &s->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &s->ranks);
    s->b = (struct batch){.ranks = s->ranks,
                          .experts = (int32_t)o->experts,
                          .topk = (int32_t)o->topk,
                          .tokens = o->tokens,
                          .routing = ROUTINGS,
                          .skew = o->skew,
                          .seed = (uint64_t)o->seed};
    for (int i = 0; i < ROUTINGS; i++)
        if (!strcmp(o->routing, routing_names[i]))
            s->b.routing = (enum routing)i;
    if (s->b.routing == ROUTINGS)
        stop("--routing: there is no such kind");
    s->topk = s->b.topk;
    s->hidden = o->hidden;
    s->row_bytes = o->hidden * 2;
}

int main(int argc, char **argv)
{
    struct settings o = {4096, 7168, 8, 256, 1, 2, 8, 1, "uniform"};
    struct side s;
    double us[OPS] = {0}, dropped[OPS] = {0};
    int good;
    MPI_Init(&argc, &argv);
    if (read_settings(argc, argv, &o))
        stop("an argument is wrong; see the top of tests/perf/mpi_alltoallv.c");
    set_side(&s, &o);
    open_side(&s);
    for (int64_t i = 0; i < o.warmup; i++)
        iterate(&s, dropped);
    for (int64_t i = 0; i < o.iters; i++)
        iterate(&s, us);
    for (int op = 0; op < OPS; op++)
        us[op] /= (double)o.iters;
    good = check_received(&s) & check_sums(&s);
    report(&s, us, good);
    close_side(&s);
    MPI_Finalize();
    return !good;
}
