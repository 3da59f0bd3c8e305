/* bench_report.c - see bench_report.h. Sections: the table | errors | JSON. */
#define _GNU_SOURCE
#include "bench_report.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"
#include "tool.h"

const char *report_dtype(const struct bench_result *r, char text[40])
{
    if (r->quant)
        snprintf(text, 40, "%s>%s", bench_types[r->type].name, bench_quant_names[r->quant]);
    else
        snprintf(text, 40, "%s", bench_types[r->type].name);
    return text;
}

const char *report_moved_type(const struct bench_result *r, char text[40])
{
    int combine = r->op == OP_COMBINE || r->op == OP_COMBINE_SEND || r->op == OP_COMBINE_RECEIVE;
    if (combine && (r->quant || bench_types[r->type].type == SY_F8E4M3))
        return "bf16";
    return report_dtype(r, text);
}

/* --- the table ------------------------------------------------------------------------------ */

static int same_case(const struct bench_result *a, const struct bench_result *b)
{
    return a->mode == b->mode && a->layout == b->layout && a->type == b->type &&
           a->quant == b->quant && a->out == b->out && a->ranks == b->ranks &&
           a->tokens == b->tokens && a->hidden == b->hidden && a->topk == b->topk &&
           a->sms == b->sms && a->skew == b->skew;
}

static void show_head(const struct bench_result *r)
{
    char type[40];
    printf("\n%s, %s, %s, out in %s: %d ranks, %lld tokens each, hidden %lld, %d of %d experts",
           bench_mode_names[r->mode - 1], bench_layout_names[r->layout - 1], report_dtype(r, type),
           bench_out_names[r->out], (int)r->ranks, (long long)r->tokens, (long long)r->hidden,
           (int)r->topk, (int)r->experts);
    if (r->routing == ROUTING_SKEW)
        printf(", skew %g", r->skew);
    if (r->sms)
        printf(", %d SMs", (int)r->sms);
    printf("\n");
}

/* Four digits that count, in at most nine columns. */
static void show_number(double v)
{
    int decimals = v >= 1000 ? 0 : v >= 100 ? 1 : v >= 10 ? 2 : 3;
    printf(" %9.*f", decimals, v);
}

/* 0: does not apply. */
static void show_known(double v)
{
    if (v > 0)
        show_number(v);
    else
        printf(" %9s", "-");
}

static int on_gpu(const struct bench_result *r)
{
    return r->engine == SY_ENGINE_CUDA;
}

/* Of what the ceiling counts: on GPUs what crosses the links, on the CPU all copies. */
static double rate_of(const struct bench_result *r)
{
    return on_gpu(r) ? r->remote_gbps : r->gbps;
}

static void show_result(const struct bench_result *r)
{
    static const char *const words[] = {"-", "NO", "yes"};
    const struct bench_spread *host = r->us + TIME_HOST, *kernel = r->us + TIME_KERNEL;
    const double cpu[] = {host->min, host->avg, host->max};
    const double gpu[] = {kernel->avg, host->avg, r->us[TIME_ARRIVAL].avg};
    printf("  %-16s", bench_op_names[r->op]);
    for (int i = 0; i < 3; i++)
        show_known(on_gpu(r) ? gpu[i] : cpu[i]);
    show_known(r->nccl_gbps);
    show_known(r->deepep_gbps);
    show_known(rate_of(r));
    if (r->bytes > 0 && r->ceiling_gbps > 0)
        printf(" %8.1f %%", 100 * rate_of(r) / r->ceiling_gbps);
    else
        printf(" %10s", "-");
    printf("  %s\n", words[r->verified + 1]);
}

static void show_ceilings(const struct sink *sink)
{
    if (sink->ceilings_n)
        printf("\nceilings, per rank that copies\n");
    for (int i = 0; i < sink->ceilings_n; i++) {
        const struct bench_ceiling *c = sink->ceilings + i;
        printf("  %-12s %4d ranks", bench_ceiling_names[c->kind], (int)c->ranks);
        if (c->tokens)
            printf(", %7lld tokens each, rows of %6lld bytes", (long long)c->tokens,
                   (long long)c->row_bytes);
        else if (c->sms)
            printf(", %3d SMs, %5lld bytes at a time", (int)c->sms, (long long)c->row_bytes);
        show_number(c->value);
        printf(" %s, %s\n", bench_ceiling_is_time(c) ? "us" : "GB/s", c->how);
    }
}

static void show_titles(const struct bench_result *r)
{
    static const char *const cpu[] = {"min", "avg", "max", "moved", "copy"};
    static const char *const gpu[] = {"kernel", "host", "arrival", "links", "stores"};
    const char *const *words = on_gpu(r) ? gpu : cpu;
    printf("%48s%30s%11s  %s\n  %-16s%10s%10s%10s%10s%10s%10s%11s  %s\n", "microseconds per rank",
           "GB/s per rank", "of", "as the", "operation", words[0], words[1], words[2], "NCCL-EP",
           "DeepEP", words[3], words[4], "reference");
}

void report_table(const struct sink *sink)
{
    if (sink->results_n)
        show_titles(sink->results);
    for (int i = 0; i < sink->results_n; i++) {
        if (!i || !same_case(sink->results + i - 1, sink->results + i))
            show_head(sink->results + i);
        show_result(sink->results + i);
    }
    show_ceilings(sink);
    for (int i = 0; i < sink->notices_n; i++)
        printf("%snote: %s\n", i ? "" : "\n", sink->notices[i]);
}

void report_ranks(const struct sink *sink)
{
    int last = -1;
    if (sink->ranks_n)
        printf("\nmicroseconds of each rank\n  %-16s%6s%10s%10s%10s\n", "operation", "rank",
               "kernel", "host", "arrival");
    for (int i = 0; i < sink->ranks_n; i++) {
        const struct bench_rank *r = sink->ranks + i;
        const struct bench_result *of = sink->results + r->result;
        if (r->result != last && (last < 0 || !same_case(sink->results + last, of)))
            show_head(of);
        last = r->result;
        printf("  %-16s%6d", bench_op_names[of->op], (int)r->rank);
        show_known(r->us[TIME_KERNEL]);
        show_known(r->us[TIME_HOST]);
        show_known(r->us[TIME_ARRIVAL]);
        printf("\n");
    }
}

/* --- errors --------------------------------------------------------------------------------- */

static int said_before(const struct sink *sink, int i)
{
    for (int j = 0; j < i; j++)
        if (!strcmp(sink->errors[j].text, sink->errors[i].text))
            return 1;
    return 0;
}

void report_errors(const struct sink *sink)
{
    for (int i = 0; i < sink->errors_n; i++) {
        char who[200] = "";
        size_t at = 0;
        if (said_before(sink, i))
            continue;
        for (int j = i; j < sink->errors_n; j++)
            if (!strcmp(sink->errors[j].text, sink->errors[i].text) && at < sizeof who)
                at += (size_t)snprintf(who + at, sizeof who - at, "%s%d", at ? ", " : "",
                                       (int)sink->errors[j].rank);
        tool_say("%s %s: %s", strchr(who, ',') ? "ranks" : "rank", who, sink->errors[i].text);
    }
}

/* --- JSON ----------------------------------------------------------------------------------- */

static void put_string(FILE *f, const char *text)
{
    fputc('"', f);
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            fprintf(f, "\\%c", c);
        else if (c < 32 || c > 126)
            fprintf(f, "\\u%04x", c);
        else
            fputc(c, f);
    }
    fputc('"', f);
}

static void put_text(FILE *f, const char *name, const char *text)
{
    fprintf(f, ", \"%s\": ", name);
    put_string(f, text);
}

static void put_int(FILE *f, const char *name, int64_t value)
{
    fprintf(f, ", \"%s\": %lld", name, (long long)value);
}

/* Not a number, or of no meaning here: null. */
static void put_real(FILE *f, const char *name, double value, int known)
{
    if (known && isfinite(value))
        fprintf(f, ", \"%s\": %.6g", name, value);
    else
        fprintf(f, ", \"%s\": null", name);
}

/* The library's words for what it runs on. */
static void put_gpus(FILE *f)
{
    sy_engine_info info = {.size = sizeof info};
    if (sy_engine_query(SY_ENGINE_CUDA, &info) != SY_OK || !info.available)
        return;
    put_text(f, "gpu", info.name);
    put_int(f, "gpus", info.devices);
    put_text(f, "gpu_detail", info.detail);
}

static void put_machine(FILE *f)
{
    struct machine m;
    machine_look(&m);
    fprintf(f, "  \"machine\": {\"cores\": %d", (int)m.cores);
    put_text(f, "cpu", m.cpu);
    put_text(f, "kernel", m.kernel);
    put_int(f, "memory_bytes", (int64_t)m.memory_bytes);
    put_gpus(f);
    put_text(f, "switchyard", sy_version());
    fprintf(f, "},\n");
}

static void put_ceiling(FILE *f, const struct bench_ceiling *c)
{
    fprintf(f, "    {\"name\": \"%s\"", bench_ceiling_names[c->kind]);
    put_real(f, "value", c->value, 1);
    put_text(f, "unit", bench_ceiling_is_time(c) ? "us" : "GB/s per rank");
    put_int(f, "ranks", c->ranks);
    if (c->tokens)
        put_int(f, "tokens", c->tokens);
    if (c->sms)
        put_int(f, "sms", c->sms);
    if (c->row_bytes)
        put_int(f, "row_bytes", c->row_bytes);
    put_text(f, "how", c->how);
    fputc('}', f);
}

/* NAME_min, NAME_avg and NAME_max. */
static void put_spread(FILE *f, const char *name, const struct bench_spread *s)
{
    static const char *const ends[] = {"min", "avg", "max"};
    const double values[] = {s->min, s->avg, s->max};
    for (int i = 0; i < 3; i++)
        if (s->avg > 0)
            fprintf(f, ", \"%s_%s\": %.3f", name, ends[i], values[i]);
        else
            fprintf(f, ", \"%s_%s\": null", name, ends[i]);
}

/* With --per-rank; rank r's are at index r. */
static void put_ranks(FILE *f, const struct sink *sink, int result)
{
    static const char *const names[BENCH_TIMES] = {"us", "us_kernel", "us_arrival"};
    int begun = 0;
    for (int i = 0; i < sink->ranks_n; i++) {
        const struct bench_rank *r = sink->ranks + i;
        if (r->result != result)
            continue;
        fprintf(f, "%s{\"rank\": %d", begun++ ? ", " : ", \"per_rank\": [", (int)r->rank);
        for (int t = 0; t < BENCH_TIMES; t++)
            put_real(f, names[t], r->us[t], r->us[t] > 0);
        fputc('}', f);
    }
    if (begun)
        fputc(']', f);
}

static void put_shape(FILE *f, const struct bench_result *r)
{
    static const char *const engines[] = {"auto", "cpu", "cuda", "hip"};
    char type[40];
    fprintf(f, "    {\"op\": \"%s\"", bench_op_names[r->op]);
    put_text(f, "mode", bench_mode_names[r->mode - 1]);
    put_text(f, "layout", bench_layout_names[r->layout - 1]);
    put_text(f, "dtype", report_moved_type(r, type));
    put_text(f, "engine", engines[r->engine]);
    put_int(f, "ranks", r->ranks);
    put_int(f, "tokens", r->tokens);
    put_int(f, "hidden", r->hidden);
    put_int(f, "topk", r->topk);
    put_int(f, "experts", r->experts);
    if (r->sms)
        put_int(f, "sms", r->sms);
    put_text(f, "out", bench_out_names[r->out]);
    put_text(f, "routing", routing_names[r->routing]);
    if (r->routing == ROUTING_SKEW)
        put_real(f, "skew", r->skew, 1);
    put_int(f, "threads", r->threads);
    put_int(f, "warmup", r->warmup);
    put_int(f, "iters", r->iters);
    fprintf(f, ", \"graph\": %s", r->graph ? "true" : "false");
}

static void put_result(FILE *f, const struct sink *sink, int i)
{
    static const char *const verdicts[] = {"null", "false", "true"};
    const struct bench_result *r = sink->results + i;
    int rated = r->bytes > 0;
    put_shape(f, r);
    put_spread(f, "us", r->us + TIME_HOST);
    put_spread(f, "us_kernel", r->us + TIME_KERNEL);
    put_spread(f, "us_arrival", r->us + TIME_ARRIVAL);
    put_real(f, "heap_bytes", r->heap_bytes, r->heap_bytes > 0);
    put_real(f, "device_bytes", r->device_bytes, r->heap_bytes > 0);
    put_int(f, "bytes", (int64_t)(r->bytes + 0.5));
    put_int(f, "bytes_remote", (int64_t)(r->remote_bytes + 0.5));
    put_real(f, "gbps_avg", r->gbps, rated);
    put_real(f, "gbps_remote", r->remote_gbps, rated);
    put_real(f, "ceiling_fraction", rate_of(r) / r->ceiling_gbps, rated && r->ceiling_gbps > 0);
    fprintf(f, ", \"verified\": %s", verdicts[r->verified + 1]);
    put_real(f, "gbps_nccl_ep", r->nccl_gbps, rated);
    put_real(f, "gbps_deepep", r->deepep_gbps, rated);
    put_ranks(f, sink, i);
    fputc('}', f);
}

static void put_all(FILE *f, const struct sink *sink)
{
    fprintf(f, "{\n  \"schema\": \"switchyard-bench-1\",\n");
    put_machine(f);
    fprintf(f, "  \"ceilings\": [\n");
    for (int i = 0; i < sink->ceilings_n; i++) {
        put_ceiling(f, sink->ceilings + i);
        fputs(i + 1 < sink->ceilings_n ? ",\n" : "\n", f);
    }
    fprintf(f, "  ],\n  \"results\": [\n");
    for (int i = 0; i < sink->results_n; i++) {
        put_result(f, sink, i);
        fputs(i + 1 < sink->results_n ? ",\n" : "\n", f);
    }
    fprintf(f, "  ],\n  \"notes\": [");
    for (int i = 0; i < sink->notices_n; i++) {
        fputs(i ? ", " : "", f);
        put_string(f, sink->notices[i]);
    }
    fprintf(f, "]\n}\n");
}

int report_json(const struct sink *sink, const char *path)
{
    FILE *f;
    if (!strcmp(path, "-")) {
        put_all(stdout, sink);
        return 0;
    }
    f = fopen(path, "we");
    if (f)
        put_all(f, sink);
    if (!f || ferror(f) || fclose(f)) {
        tool_say("%s: %s", path, strerror(errno));
        return -1;
    }
    return 0;
}
