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
           a->tokens == b->tokens && a->hidden == b->hidden;
}

static void show_head(const struct bench_result *r)
{
    char type[40];
    printf("\n%s, %s, %s, out in %s: %d ranks, %lld tokens each, hidden %lld, %d of %d experts\n",
           bench_mode_names[r->mode - 1], bench_layout_names[r->layout - 1], report_dtype(r, type),
           bench_out_names[r->out], (int)r->ranks, (long long)r->tokens, (long long)r->hidden,
           (int)r->topk, (int)r->experts);
}

/* Four digits that count, in at most nine columns. */
static void show_number(double v)
{
    int decimals = v >= 1000 ? 0 : v >= 100 ? 1 : v >= 10 ? 2 : 3;
    printf(" %9.*f", decimals, v);
}

static void show_result(const struct bench_result *r)
{
    static const char *const words[] = {"-", "NO", "yes"};
    printf("  %-16s", bench_op_names[r->op]);
    show_number(r->us_min);
    show_number(r->us_avg);
    show_number(r->us_max);
    if (r->bytes > 0) {
        show_number(r->nccl_gbps);
        show_number(r->deepep_gbps);
        show_number(r->gbps);
    } else {
        printf(" %9s %9s %9s", "-", "-", "-");
    }
    if (r->bytes > 0 && r->ceiling_gbps > 0)
        printf(" %8.1f %%", 100 * r->gbps / r->ceiling_gbps);
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
        printf("  %-9s %4d ranks, %7lld tokens each, rows of %6lld bytes",
               c->alone ? "copy_one" : "copy", (int)c->ranks, (long long)c->tokens,
               (long long)c->row_bytes);
        show_number(c->gbps);
        printf(" GB/s, %s\n", c->how);
    }
}

void report_table(const struct sink *sink)
{
    if (sink->results_n)
        printf("%48s%30s%11s  %s\n  %-16s%10s%10s%10s%10s%10s%10s%11s  %s\n",
               "microseconds per rank", "GB/s per rank", "of", "as the", "operation", "min", "avg",
               "max", "NCCL-EP", "DeepEP", "moved", "copy", "reference");
    for (int i = 0; i < sink->results_n; i++) {
        if (!i || !same_case(sink->results + i - 1, sink->results + i))
            show_head(sink->results + i);
        show_result(sink->results + i);
    }
    show_ceilings(sink);
    for (int i = 0; i < sink->notices_n; i++)
        printf("%snote: %s\n", i ? "" : "\n", sink->notices[i]);
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

static void put_machine(FILE *f)
{
    struct machine m;
    machine_look(&m);
    fprintf(f, "  \"machine\": {\"cores\": %d", (int)m.cores);
    put_text(f, "cpu", m.cpu);
    put_text(f, "kernel", m.kernel);
    put_int(f, "memory_bytes", (int64_t)m.memory_bytes);
    put_text(f, "switchyard", sy_version());
    fprintf(f, "},\n");
}

static void put_ceiling(FILE *f, const struct bench_ceiling *c)
{
    fprintf(f, "    {\"name\": \"%s\"", c->alone ? "copy_one" : "copy");
    put_real(f, "value", c->gbps, 1);
    put_text(f, "unit", "GB/s per rank");
    put_int(f, "ranks", c->ranks);
    put_int(f, "tokens", c->tokens);
    put_int(f, "row_bytes", c->row_bytes);
    put_text(f, "how", c->how);
    fputc('}', f);
}

static void put_result(FILE *f, const struct bench_result *r)
{
    static const char *const engines[] = {"auto", "cpu", "cuda", "hip"};
    static const char *const verdicts[] = {"null", "false", "true"};
    char type[40];
    int rated = r->bytes > 0;
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
    fprintf(f, ", \"us_min\": %.3f, \"us_avg\": %.3f, \"us_max\": %.3f", r->us_min, r->us_avg,
            r->us_max);
    put_int(f, "bytes", (int64_t)(r->bytes + 0.5));
    put_real(f, "gbps_avg", r->gbps, rated);
    put_real(f, "ceiling_fraction", r->gbps / r->ceiling_gbps, rated && r->ceiling_gbps > 0);
    fprintf(f, ", \"verified\": %s", verdicts[r->verified + 1]);
    put_real(f, "gbps_nccl_ep", r->nccl_gbps, rated);
    put_real(f, "gbps_deepep", r->deepep_gbps, rated);
    put_text(f, "out", bench_out_names[r->out]);
    put_text(f, "routing", routing_names[r->routing]);
    put_int(f, "threads", r->threads);
    put_int(f, "warmup", r->warmup);
    put_int(f, "iters", r->iters);
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
        put_result(f, sink->results + i);
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
