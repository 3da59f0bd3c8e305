/* config.c - see config.h. Sections: checks | sizes | agreement | questions. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/process.h"
#include "boot/boot.h"
#include "rt/cuda_engine.h"

#define DEFAULT_LATENCY_TOKENS 128
#define GPU_ROUTE_WARPS 8 /* of a block of the route kernel; sy_cut_route() never takes more */

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* --- checks --------------------------------------------------------------------------------- */

#define NEED_RANGE(field, low, high)                                                               \
    SY_NEED(c->field >= (low) && c->field <= (high), #field " %lld: from %lld to %lld",            \
            (long long)c->field, (long long)(low), (long long)(high))

static sy_status check_limits(const sy_group_config *c)
{
    NEED_RANGE(experts, 1, SY_EXPERTS_MAX);
    NEED_RANGE(topk_max, 1, least(c->experts > 64 ? c->experts : 64, SY_TOPK_MAX));
    NEED_RANGE(tokens_max, 1, SY_TOKENS_MAX);
    NEED_RANGE(latency_tokens_max, 0, SY_TOKENS_MAX);
    NEED_RANGE(row_bytes_max, 16, SY_ROW_BYTES_MAX);
    SY_NEED(c->row_bytes_max % 16 == 0, "row_bytes_max %lld: a multiple of 16",
            (long long)c->row_bytes_max);
    NEED_RANGE(scale_words_max, 0, SY_SCALE_WORDS_MAX);
    NEED_RANGE(recv_rows_max, 0, SY_ROWS_MAX);
    NEED_RANGE(views, 0, SY_VIEWS_MAX);
    SY_NEED(c->latency_views == 0 ||
                (c->latency_views >= 2 && c->latency_views <= SY_LAT_VIEWS_MAX),
            "latency_views %d: 0, or from 2 to %d", (int)c->latency_views, SY_LAT_VIEWS_MAX);
    NEED_RANGE(user_bytes, 0, SY_HEAP_BYTES_MAX);
    NEED_RANGE(cpu_threads, 0, SY_CPU_THREADS_MAX);
    NEED_RANGE(sms, 0, SY_SMS_MAX);
    SY_NEED(c->timeout_ns <= SY_TIMEOUT_NS_MAX, "timeout_ns: at most a day");
    SY_NEED((c->modes & ~(uint32_t)(SY_THROUGHPUT | SY_LATENCY)) == 0, "modes %#x", c->modes);
    SY_NEED(!c->allocator || (c->allocator->alloc && c->allocator->free),
            "allocator: alloc and free, both");
    SY_NEED(c->log_level >= 0 && c->log_level <= SY_LOG_TRACE, "log_level %d", (int)c->log_level);
    return SY_OK;
}

static sy_status check_engine(struct sy_plan *plan, const sy_group_config *c)
{
    sy_engine_info info = {.size = sizeof info};
    SY_NEED(c->engine >= SY_ENGINE_AUTO && c->engine <= SY_ENGINE_HIP, "engine %d", (int)c->engine);
    SY_TRY(sy_engine_query((sy_engine)c->engine, &info));
    if (!info.available)
        return sy_fail(SY_UNSUPPORTED, "engine %s: %s", info.name, info.detail);
    plan->engine = info.engine;
    return SY_OK;
}

/* Who and how many; from the launcher if the configuration says so. */
static sy_status find_ranks(struct sy_plan *plan, const sy_group_config *c)
{
    int rank = c->rank, ranks = c->ranks;
    SY_NEED(c->boot >= SY_BOOT_ENV && c->boot <= SY_BOOT_USER, "boot %d", (int)c->boot);
    if (c->boot == SY_BOOT_ENV) {
        struct sy_launch launch;
        SY_TRY(sy_boot_env(&launch));
        rank = launch.rank;
        ranks = launch.ranks;
    }
    SY_NEED(ranks >= 1 && ranks <= SY_RANKS_MAX, "ranks %d: from 1 to %d", ranks, SY_RANKS_MAX);
    SY_NEED(rank >= 0 && rank < ranks, "rank %d of %d", rank, ranks);
    SY_NEED(c->boot != SY_BOOT_USER || (c->allgather && c->barrier),
            "SY_BOOT_USER: allgather and barrier");
    plan->rank = rank;
    plan->ranks = ranks;
    return SY_OK;
}

/* First expert of each rank. */
static sy_status place_experts(struct sy_plan *plan, const sy_group_config *c)
{
    int64_t sum = 0;
    plan->firsts = sy_zalloc(sizeof *plan->firsts * ((size_t)plan->ranks + 1));
    if (!plan->firsts)
        return sy_fail(SY_NO_MEMORY, "a table of experts");
    for (int32_t r = 0; r < plan->ranks; r++) {
        int64_t n = c->experts / plan->ranks + (r < c->experts % plan->ranks);
        if (c->experts_per_rank)
            n = c->experts_per_rank[r];
        SY_NEED(n >= 0 && n <= c->experts, "experts_per_rank[%d] is %lld", (int)r, (long long)n);
        plan->firsts[r] = (int32_t)sum;
        sum += n;
    }
    plan->firsts[plan->ranks] = (int32_t)sum;
    plan->even = c->experts % plan->ranks == 0;
    for (int32_t r = 0; r < plan->ranks; r++)
        plan->even &= plan->firsts[r] == r * (c->experts / plan->ranks);
    SY_NEED(sum == c->experts, "experts_per_rank sums to %lld, not experts %d", (long long)sum,
            (int)c->experts);
    return SY_OK;
}

/* --- sizes ---------------------------------------------------------------------------------- */

SY_STATIC_ASSERT(SY_RANKS_MAX < 1 << 12 && SY_TOKENS_MAX <= 1 << 20, "a code word of combine");

static uint64_t latency_tokens(const sy_group_config *c)
{
    return (uint64_t)(c->latency_tokens_max ? c->latency_tokens_max
                                            : least(c->tokens_max, DEFAULT_LATENCY_TOKENS));
}

static void fill_limits(struct sy_plan *plan, const sy_group_config *c)
{
    struct sy_limits *m = &plan->limits;
    m->ranks = (uint64_t)plan->ranks;
    m->experts = (uint64_t)c->experts;
    for (int32_t r = 0; r < plan->ranks; r++) {
        uint64_t n = (uint64_t)(plan->firsts[r + 1] - plan->firsts[r]);
        m->local_max = n > m->local_max ? n : m->local_max;
    }
    m->route_words = (uint64_t)plan->params.route_words;
    m->topk_max = (uint64_t)c->topk_max;
    m->tokens_max = plan->modes & SY_THROUGHPUT ? (uint64_t)c->tokens_max : 0;
    m->lat_tokens_max = plan->modes & SY_LATENCY ? latency_tokens(c) : 0;
    m->recv_rows_max = (uint64_t)c->recv_rows_max;
    m->row_bytes_max = (uint64_t)c->row_bytes_max;
    m->scale_words_max = c->scale_words_max ? (uint64_t)c->scale_words_max
                                            : (uint64_t)(c->row_bytes_max + 127) / 128;
    m->views = m->tokens_max ? (uint64_t)(c->views ? c->views : 1) : 0;
    m->lat_views = m->lat_tokens_max ? (uint64_t)(c->latency_views ? c->latency_views : 2) : 0;
    m->user_bytes =
        (uint64_t)(c->user_bytes + SY_REGION_ALIGN - 1) / SY_REGION_ALIGN * SY_REGION_ALIGN;
}

/* What NVLink of the fourth generation carries when all ranks store to all, in 10^9 bytes a second,
 * a little less than was measured on 2 and 4 GPUs. Shapes are chosen by it, nothing depends on it.
 */
#define LINKS_OF_HOPPER 345u

/* What the engine has to offer; a GPU's share of multiprocessors is the caller's choice. */
static sy_status describe_machine(struct sy_plan *plan, const sy_group_config *c)
{
    struct sy_machine *m = &plan->machine;
    struct sy_cuda_look look;
    plan->threads = c->cpu_threads ? c->cpu_threads : (int32_t)plan->params.cpu_threads;
    m->lanes = 1;
    m->blocks_max = (uint32_t)plan->threads;
    m->warps_max = 1;
    m->shared_max = UINT64_MAX / 2;
    if (plan->engine != SY_ENGINE_CUDA)
        return SY_OK;
    SY_TRY(sy_cuda_look(plan->rank, &look));
    SY_NEED(c->sms <= look.sms, "sms %d: the GPU has %d", (int)c->sms, (int)look.sms);
    m->lanes = 32;
    m->bulk = look.sm >= 90;
    m->links = look.sm == 90 ? LINKS_OF_HOPPER : 0;
    m->pace = (uint32_t)plan->params.pace;
    plan->gpu = look.uuid;
    plan->gpu_sms = (uint32_t)look.sms;
    m->blocks_max = (uint32_t)(c->sms ? c->sms : look.sms);
    m->warps_max = GPU_ROUTE_WARPS;
    m->shared_max = look.shared_max;
    return SY_OK;
}

static sy_status make_sizes(struct sy_plan *plan)
{
    struct sy_limits *m = &plan->limits;
    uint64_t tokens = m->tokens_max > m->lat_tokens_max ? m->tokens_max : m->lat_tokens_max;
    double rows;
    sy_limits_derive(m);
    SY_NEED(m->ranks * tokens <= (uint64_t)SY_ROWS_MAX &&
                tokens * m->topk_max <= (uint64_t)SY_ROWS_MAX,
            "ranks * tokens_max and tokens_max * topk_max: at most 2^31");
    /* In floating point first: the sum must not wrap before it is compared. */
    rows = (double)m->views * (double)m->recv_rows_max + (double)tokens * (double)m->fan_max +
           (double)m->lat_views * (double)m->ranks * (double)m->lat_tokens_max;
    rows *= (double)m->row_bytes_max;
    rows += (double)m->user_bytes + (double)m->ranks * (double)tokens * (double)m->meta_words * 4;
    SY_NEED(rows < (double)SY_HEAP_BYTES_MAX, "these limits want a heap of %.0f GiB; at most %lld",
            rows / (1 << 30), SY_HEAP_BYTES_MAX >> 30);
    m->route_chunks = sy_route_chunks_max(&plan->machine, m->tokens_max);
    sy_heap_layout_make(&plan->heap, m);
    sy_local_layout_make(&plan->local, m);
    SY_NEED(plan->heap.bytes <= (uint64_t)SY_HEAP_BYTES_MAX,
            "these limits want a heap of %llu GiB; at most %lld",
            (unsigned long long)(plan->heap.bytes >> 30), SY_HEAP_BYTES_MAX >> 30);
    return sy_shared_bytes_max(&plan->machine, m, plan->modes, &plan->shared_bytes);
}

sy_status sy_plan_open(struct sy_plan *plan, const sy_group_config *c)
{
    memset(plan, 0, sizeof *plan);
    SY_NEED(c && c->size >= sizeof *c, "sy_group_config: NULL, or its size is not set");
    plan->config = *c;
    SY_TRY(find_ranks(plan, c));
    SY_TRY(sy_params_read(&plan->params));
    SY_TRY(check_limits(c));
    SY_TRY(check_engine(plan, c));
    SY_TRY(place_experts(plan, c));
    plan->modes = c->modes ? c->modes : SY_THROUGHPUT | SY_LATENCY;
    plan->timeout_ns = c->timeout_ns ? c->timeout_ns : (uint64_t)plan->params.timeout_ms * 1000000u;
    plan->config.timeout_ns = plan->timeout_ns;
    SY_TRY(describe_machine(plan, c));
    fill_limits(plan, c);
    return make_sizes(plan);
}

void sy_plan_close(struct sy_plan *plan)
{
    sy_os->free(plan->firsts);
    plan->firsts = NULL;
}

/* --- agreement ------------------------------------------------------------------------------ */

/* What must be equal on all ranks, by name. Defaults are filled in, whatever the modes. */
enum { SAME = 23 };

static const char *const same_names[SAME] = {"library version",
                                             "engine",
                                             "modes",
                                             "experts",
                                             "topk_max",
                                             "tokens_max",
                                             "row_bytes_max",
                                             "scale_words_max",
                                             "latency_tokens_max",
                                             "recv_rows_max",
                                             "views",
                                             "latency_views",
                                             "user_bytes",
                                             "sms",
                                             "timeout_ns",
                                             "SY_COMBINE_PATH",
                                             "SY_ROUTE_WORDS",
                                             "SY_PACE",
                                             "SY_HEAP",
                                             "ranks",
                                             "heap layout",
                                             "SMs of the GPU",
                                             "shared memory of a block"};

static void same_values(const struct sy_plan *plan, uint64_t v[SAME])
{
    const struct sy_limits *m = &plan->limits;
    const sy_group_config *c = &plan->config;
    const int gpu = plan->engine != SY_ENGINE_CPU; /* threads of the CPU may differ */
    const uint64_t values[SAME] = {
        (uint64_t)sy_version_number(),
        (uint64_t)plan->engine,
        plan->modes,
        m->experts,
        m->topk_max,
        (uint64_t)c->tokens_max,
        m->row_bytes_max,
        m->scale_words_max,
        latency_tokens(c),
        (uint64_t)(c->recv_rows_max ? c->recv_rows_max : plan->ranks * c->tokens_max),
        (uint64_t)(c->views ? c->views : 1),
        (uint64_t)(c->latency_views ? c->latency_views : 2),
        m->user_bytes,
        (uint64_t)c->sms,
        plan->timeout_ns,
        (uint64_t)plan->params.combine_path,
        (uint64_t)plan->params.route_words,
        (uint64_t)plan->params.pace,
        (uint64_t)plan->params.heap,
        m->ranks,
        plan->heap.bytes,
        gpu ? plan->machine.blocks_max : 0,
        gpu ? plan->machine.shared_max : 0};
    memcpy(v, values, sizeof values);
}

/* The table of experts, in a message of its own: it may be long. */
static sy_status agree_on_experts(const struct sy_plan *plan, struct sy_boot *boot)
{
    size_t n = (size_t)plan->ranks + 1, bytes = n * sizeof *plan->firsts;
    int32_t *all = sy_zalloc(bytes * (size_t)plan->ranks);
    sy_status status;
    status = sy_boot_agree(boot, all ? SY_OK : sy_fail(SY_NO_MEMORY, "tables of experts"));
    if (status == SY_OK)
        status = sy_boot_allgather(boot, plan->firsts, all, bytes);
    for (int32_t r = 1; status == SY_OK && r < plan->ranks; r++) {
        const int32_t *zero = all, *it = all + (size_t)r * n;
        for (size_t i = 0; status == SY_OK && i + 1 < n; i++)
            if (it[i + 1] - it[i] != zero[i + 1] - zero[i])
                status = sy_fail(SY_MISMATCH,
                                 "experts_per_rank[%zu] differs: rank 0 has %d, rank %d has %d", i,
                                 zero[i + 1] - zero[i], (int)r, it[i + 1] - it[i]);
    }
    sy_os->free(all);
    return status;
}

/* Where a rank's kernels run. */
struct seat {
    struct sy_cuda_uuid gpu;
    uint8_t process[16];
    uint32_t connections, reserved; /* CUDA_DEVICE_MAX_CONNECTIONS of the process */
};

/* Streams that a rank uses, the caller's included, each with a queue of its own if there are so
 * many. In one queue work of different streams can stand behind each other: that of one rank behind
 * a kernel of another that waits for it. */
#define STREAMS_PER_RANK 4u
#define CONNECTIONS_DEFAULT 8u
#define CONNECTIONS_MAX 32u

static sy_status take_seat(const struct sy_plan *plan, struct seat *seat)
{
    const char *text = sy_env("CUDA_DEVICE_MAX_CONNECTIONS");
    long n = text ? strtol(text, NULL, 10) : 0;
    memset(seat, 0, sizeof *seat);
    seat->gpu = plan->gpu;
    seat->connections = n < 1                       ? CONNECTIONS_DEFAULT
                        : n > (long)CONNECTIONS_MAX ? CONNECTIONS_MAX
                                                    : (uint32_t)n;
    if (sy_process_name(seat->process))
        return sy_fail_errno("a random number");
    return SY_OK;
}

/* Kernels of all ranks must run at the same time, and a block may take a whole multiprocessor. The
 * result is the same on all ranks, as all GPUs are alike. */
static sy_status divide_gpus(struct sy_plan *plan, const struct seat *seats)
{
    for (int32_t r = 0; r < plan->ranks; r++) {
        uint32_t together = 0, inside = 0, share;
        for (int32_t i = 0; i < plan->ranks; i++) {
            int same = !memcmp(&seats[i].gpu, &seats[r].gpu, sizeof seats->gpu);
            together += same;
            inside += same && !memcmp(seats[i].process, seats[r].process, sizeof seats->process);
        }
        share = plan->gpu_sms / together;
        if (!share)
            return sy_fail(SY_UNSUPPORTED,
                           "%u ranks, rank %d among them, share a GPU of %u multiprocessors, and "
                           "each needs one of its own",
                           together, (int)r, plan->gpu_sms);
        if (inside > 1 && inside * STREAMS_PER_RANK > seats[r].connections)
            return sy_fail(SY_UNSUPPORTED,
                           "%u ranks of one process, rank %d among them, share a GPU, which takes "
                           "CUDA_DEVICE_MAX_CONNECTIONS=%u or more, set before the driver starts "
                           "(it is %u, and can be %u)",
                           inside, (int)r, inside * STREAMS_PER_RANK, seats[r].connections,
                           CONNECTIONS_MAX);
        plan->sharing = together > plan->sharing ? together : plan->sharing;
        if (share < plan->machine.blocks_max)
            plan->machine.blocks_max = share;
    }
    return SY_OK;
}

static sy_status agree_on_gpus(struct sy_plan *plan, struct sy_boot *boot)
{
    struct seat mine, *seats;
    sy_status status;
    if (plan->engine != SY_ENGINE_CUDA)
        return SY_OK;
    seats = sy_zalloc(sizeof *seats * (size_t)plan->ranks);
    status = seats ? take_seat(plan, &mine) : sy_fail(SY_NO_MEMORY, "a table of GPUs");
    status = sy_boot_agree(boot, status);
    if (status == SY_OK)
        status = sy_boot_allgather(boot, &mine, seats, sizeof mine);
    if (status == SY_OK)
        status = divide_gpus(plan, seats);
    sy_os->free(seats);
    return status;
}

sy_status sy_plan_agree(struct sy_plan *plan, struct sy_boot *boot)
{
    uint64_t mine[SAME], (*all)[SAME];
    sy_status status;
    all = sy_zalloc(sizeof *all * (size_t)plan->ranks);
    same_values(plan, mine);
    status = sy_boot_agree(boot, all ? SY_OK : sy_fail(SY_NO_MEMORY, "configurations"));
    if (status == SY_OK)
        status = sy_boot_allgather(boot, mine, all, sizeof mine);
    for (int i = 0; status == SY_OK && i < SAME; i++)
        for (int32_t r = 1; status == SY_OK && r < plan->ranks; r++)
            if (all[r][i] != all[0][i])
                status = sy_fail(SY_MISMATCH, "%s differs: rank 0 has %llu, rank %d has %llu",
                                 same_names[i], (unsigned long long)all[0][i], (int)r,
                                 (unsigned long long)all[r][i]);
    sy_os->free(all);
    if (status == SY_OK)
        status = agree_on_experts(plan, boot);
    return status == SY_OK ? agree_on_gpus(plan, boot) : status;
}

/* --- questions ------------------------------------------------------------------------------ */

sy_status sy_group_check(const sy_group_config *config)
{
    struct sy_plan plan;
    sy_status status = sy_plan_open(&plan, config);
    sy_plan_close(&plan);
    return status;
}

void sy_plan_sizes(const struct sy_plan *plan, sy_group_sizes *sizes)
{
    const struct sy_limits *m = &plan->limits;
    sizes->heap_bytes = plan->heap.bytes;
    sizes->device_bytes =
        plan->local.bytes + m->ranks * sizeof(void *) + m->experts * 4 + (m->ranks + 1) * 4;
    sizes->host_bytes = sizeof(struct sy_report);
    if (plan->engine == SY_ENGINE_CPU)
        sizes->host_bytes += (uint64_t)plan->threads * plan->shared_bytes;
}

sy_status sy_group_sizes_get(const sy_group_config *config, sy_group_sizes *sizes)
{
    struct sy_plan plan;
    sy_status status;
    SY_NEED(sizes && sizes->size >= sizeof *sizes, "sy_group_sizes: NULL, or its size is not set");
    status = sy_plan_open(&plan, config);
    if (status == SY_OK)
        sy_plan_sizes(&plan, sizes);
    sy_plan_close(&plan);
    return status;
}
