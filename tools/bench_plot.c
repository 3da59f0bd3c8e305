/* bench_plot.c - times and rates as an SVG of two panels. Sections: series | scales | drawing |
 * panels | the file.
 *
 * Readable on light and dark paper: colours that stand out on both, and a style sheet that follows
 * the viewer's preference. Series differ by the shape of their marks, too. */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_report.h"
#include "tool.h"

enum {
    PANEL_WIDTH = 420,
    PANEL_HEIGHT = 300,
    LEFT = 70, /* of a panel: room for its numbers */
    TOP = 60,
    GAP = 40,
    LEGEND_LINE = 20,
    COLOURS = 8,
    SERIES_MAX = 64,
    X_MAX = BENCH_LIST * 2
};

static const char *const colours[COLOURS] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                             "#e69f00", "#56b4e9", "#8c6bb1", "#7f7f7f"};

/* --- series --------------------------------------------------------------------------------- */

struct series {
    char name[160];
    int ceiling; /* drawn dashed */
    int n;
    double x[X_MAX], us[X_MAX], gbps[X_MAX]; /* us, gbps 0: none */
};

struct plot {
    FILE *f;
    int axis; /* of axes[]: what x is */
    struct series *series;
    int n, left_out;
    double x[X_MAX]; /* all values, ascending */
    int x_n;
};

static void add_x(struct plot *p, double x)
{
    int at = p->x_n;
    for (int i = 0; i < p->x_n; i++)
        if (p->x[i] == x)
            return;
    if (p->x_n == X_MAX)
        return;
    while (at && p->x[at - 1] > x) {
        p->x[at] = p->x[at - 1];
        at--;
    }
    p->x[at] = x;
    p->x_n++;
}

static void add_point(struct plot *p, const char *name, int ceiling, double x, double us,
                      double gbps)
{
    struct series *s = NULL;
    for (int i = 0; i < p->n && !s; i++)
        if (!strcmp(p->series[i].name, name))
            s = p->series + i;
    if (!s) {
        if (p->n == SERIES_MAX) {
            p->left_out++;
            return;
        }
        s = p->series + p->n++;
        snprintf(s->name, sizeof s->name, "%s", name);
        s->ceiling = ceiling;
    }
    if (s->n == X_MAX)
        return;
    add_x(p, x);
    s->x[s->n] = x;
    s->us[s->n] = us;
    s->gbps[s->n++] = gbps;
}

/* What may vary between results: the x of the plot is one of them. */
enum { AXIS_RANKS, AXIS_TOKENS, AXIS_SMS, AXIS_HIDDEN, AXIS_TOPK, AXIS_SKEW, AXES };

static const struct {
    const char *title, *name; /* name: behind its value in a legend */
} axes[AXES] = {{"ranks", "ranks"},
                {"tokens per rank", "tokens"},
                {"SMs", "SMs"},
                {"elements of a row", "elements"},
                {"experts per token", "experts per token"},
                {"skew", "of skew"}};

static double value_on(int axis, const struct bench_result *r)
{
    const double values[AXES] = {r->ranks,          (double)r->tokens, r->sms,
                                 (double)r->hidden, r->topk,           r->skew};
    return values[axis];
}

static int values_on(int axis, const struct sink *sink)
{
    int n = 0;
    for (int i = 0; i < sink->results_n; i++) {
        int known = 0;
        for (int j = 0; j < i && !known; j++)
            known = value_on(axis, sink->results + i) == value_on(axis, sink->results + j);
        n += !known;
    }
    return n;
}

/* Ranks if they vary: with total tokens fixed tokens vary, too, and ranks were asked about.
 * Otherwise what has most values. */
static int choose_x(const struct sink *sink)
{
    int best = AXIS_TOKENS, most = values_on(AXIS_TOKENS, sink);
    if (values_on(AXIS_RANKS, sink) > 1)
        return AXIS_RANKS;
    for (int axis = AXIS_SMS; axis < AXES; axis++)
        if (values_on(axis, sink) > most) {
            best = axis;
            most = values_on(axis, sink);
        }
    return best;
}

/* Does the axis' value belong into the names of series? Not if it follows from x, or is always the
 * same. */
static int tells_apart(int axis, const struct plot *p, const struct sink *sink)
{
    for (int i = 0; axis != p->axis && i < sink->results_n; i++)
        for (int j = 0; j < i; j++) {
            const struct bench_result *a = sink->results + i, *b = sink->results + j;
            if (value_on(axis, a) != value_on(axis, b) && a->mode == b->mode &&
                value_on(p->axis, a) == value_on(p->axis, b))
                return 1;
        }
    return 0;
}

static void add_values(char *name, size_t bytes, const struct plot *p, const struct sink *sink,
                       const struct bench_result *r)
{
    for (int axis = 0; axis < AXES; axis++) {
        size_t at = strlen(name);
        if (tells_apart(axis, p, sink))
            snprintf(name + at, bytes - at, ", %g %s", value_on(axis, r), axes[axis].name);
    }
}

/* The better of the stores to peers, for so many ranks; 0: not measured. */
static double best_stores(const struct sink *sink, double ranks)
{
    double best = 0;
    for (int i = 0; i < sink->ceilings_n; i++) {
        const struct bench_ceiling *c = sink->ceilings + i;
        if ((c->kind == CEILING_STORES || c->kind == CEILING_PACED) && c->ranks == ranks)
            best = c->value > best ? c->value : best;
    }
    return best;
}

/* Of GPUs: for each number of SMs if that is x, otherwise a line. */
static void collect_gpu_ceilings(struct plot *p, const struct sink *sink)
{
    for (int i = 0; p->axis == AXIS_SMS && i < sink->ceilings_n; i++) {
        const struct bench_ceiling *c = sink->ceilings + i;
        char name[80];
        snprintf(name, sizeof name, "ceiling: %s", bench_ceiling_names[c->kind]);
        if (c->sms)
            add_point(p, name, 1, c->sms, 0, c->value);
    }
    for (int i = 0; p->axis != AXIS_SMS && i < p->x_n; i++) {
        double ranks = p->axis == AXIS_RANKS ? p->x[i] : sink->results[0].ranks;
        if (best_stores(sink, ranks) > 0)
            add_point(p, "ceiling: stores to peers", 1, p->x[i], 0, best_stores(sink, ranks));
    }
}

static void collect_ceilings(struct plot *p, const struct sink *sink)
{
    for (int i = 0; i < sink->ceilings_n; i++) {
        const struct bench_ceiling *c = sink->ceilings + i;
        char name[160];
        if (c->kind != CEILING_COPY || p->axis > AXIS_TOKENS)
            continue;
        snprintf(name, sizeof name, "ceiling: copy of %lld-byte rows", (long long)c->row_bytes);
        if (p->axis == AXIS_RANKS && tells_apart(AXIS_TOKENS, p, sink))
            snprintf(name + strlen(name), sizeof name - strlen(name), ", %lld tokens",
                     (long long)c->tokens);
        add_point(p, name, 1, p->axis == AXIS_RANKS ? (double)c->ranks : (double)c->tokens, 0,
                  c->value);
    }
    collect_gpu_ceilings(p, sink);
}

static void collect(struct plot *p, const struct sink *sink)
{
    p->axis = choose_x(sink);
    for (int i = 0; i < sink->results_n; i++) {
        const struct bench_result *r = sink->results + i;
        double kernel = r->us[TIME_KERNEL].avg;
        char name[160], type[40];
        snprintf(name, sizeof name, "%s: %s, %s, %s, %s", bench_op_names[r->op],
                 bench_mode_names[r->mode - 1], bench_layout_names[r->layout - 1],
                 report_moved_type(r, type), bench_out_names[r->out]);
        add_values(name, sizeof name, p, sink, r);
        add_point(p, name, 0, value_on(p->axis, r), kernel > 0 ? kernel : r->us[TIME_HOST].avg,
                  r->engine == SY_ENGINE_CUDA ? r->remote_gbps : r->gbps);
    }
    collect_ceilings(p, sink);
}

/* --- scales --------------------------------------------------------------------------------- */

struct scale {
    double least, most;
    int logarithmic;
};

/* From 0 to 1. */
static double place(const struct scale *s, double v)
{
    if (s->most <= s->least)
        return 0.5;
    if (s->logarithmic)
        return (log(v) - log(s->least)) / (log(s->most) - log(s->least));
    return (v - s->least) / (s->most - s->least);
}

/* 1, 2 or 5 times a power of ten: the largest that is not above v. */
static double round_down(double v)
{
    double power = pow(10, floor(log10(v)));
    double head = v / power;
    return power * (head >= 5 ? 5 : head >= 2 ? 2 : 1);
}

static double round_up(double v)
{
    double down = round_down(v);
    if (down >= v)
        return down;
    return round_down(down * 2.5001); /* 1, 2, 5, 10 */
}

/* The next round number. */
static double step_up(double v)
{
    return round_down(v * 2.5001);
}

static struct scale time_scale(const struct plot *p)
{
    struct scale s = {INFINITY, 0, 1};
    for (int i = 0; i < p->n; i++)
        for (int j = 0; j < p->series[i].n; j++) {
            double v = p->series[i].us[j];
            if (!(v > 0))
                continue;
            s.least = v < s.least ? v : s.least;
            s.most = v > s.most ? v : s.most;
        }
    if (!(s.most > 0))
        return (struct scale){1, 10, 1};
    s.least = round_down(s.least);
    s.most = round_up(s.most);
    if (s.most <= s.least)
        s.most = step_up(s.least);
    return s;
}

/* Between lines of the grid: four to ten of them. */
static double rate_step(double most)
{
    return round_down(most / 4);
}

static struct scale rate_scale(const struct plot *p)
{
    struct scale s = {0, 0, 0};
    for (int i = 0; i < p->n; i++)
        for (int j = 0; j < p->series[i].n; j++)
            s.most = p->series[i].gbps[j] > s.most ? p->series[i].gbps[j] : s.most;
    if (s.most > 0)
        s.most = ceil(s.most / rate_step(s.most)) * rate_step(s.most);
    else
        s.most = 1;
    return s;
}

/* --- drawing -------------------------------------------------------------------------------- */

static void put_text(FILE *f, const char *text)
{
    for (; *text; text++)
        if (*text == '<')
            fputs("&lt;", f);
        else if (*text == '>')
            fputs("&gt;", f);
        else if (*text == '&')
            fputs("&amp;", f);
        else
            fputc(*text, f);
}

static void label(FILE *f, double x, double y, const char *anchor, const char *text)
{
    fprintf(f, "<text class=\"ink\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y, anchor);
    put_text(f, text);
    fputs("</text>\n", f);
}

/* A mark whose shape goes with the number of the series. */
static void mark(FILE *f, double x, double y, int number)
{
    const char *colour = colours[number % COLOURS];
    switch ((number + number / COLOURS) % 4) {
    case 0:
        fprintf(f, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"%s\"/>\n", x, y, colour);
        break;
    case 1:
        fprintf(f, "<rect x=\"%.1f\" y=\"%.1f\" width=\"7\" height=\"7\" fill=\"%s\"/>\n", x - 3.5,
                y - 3.5, colour);
        break;
    case 2:
        fprintf(f, "<path d=\"M%.1f %.1fl5 5l-5 5l-5 -5z\" fill=\"%s\"/>\n", x, y - 5, colour);
        break;
    default:
        fprintf(f, "<path d=\"M%.1f %.1fl5 9h-10z\" fill=\"%s\"/>\n", x, y - 6, colour);
        break;
    }
}

static void number_text(double v, char text[32])
{
    if (v >= 1e6)
        snprintf(text, 32, "%gM", v / 1e6);
    else if (v >= 1e4)
        snprintf(text, 32, "%gk", v / 1e3);
    else
        snprintf(text, 32, "%g", v);
}

/* --- panels --------------------------------------------------------------------------------- */

struct panel {
    const char *title, *unit;
    double left; /* of the plotted area */
    struct scale x, y;
    int rates;
};

static double px(const struct panel *a, double x)
{
    return a->left + 20 + place(&a->x, x) * (PANEL_WIDTH - 40);
}

static double py(const struct panel *a, double y)
{
    return TOP + PANEL_HEIGHT - place(&a->y, y) * PANEL_HEIGHT;
}

static void draw_grid(const struct plot *p, const struct panel *a)
{
    double step = a->y.logarithmic ? 0 : rate_step(a->y.most);
    char text[32];
    for (double v = a->y.least; v <= a->y.most * 1.0001;
         v = a->y.logarithmic ? step_up(v) : v + step) {
        fprintf(p->f, "<path class=\"grid\" d=\"M%.1f %.1fh%d\"/>\n", a->left, py(a, v),
                PANEL_WIDTH);
        number_text(v, text);
        label(p->f, a->left - 8, py(a, v) + 4, "end", text);
    }
    for (int i = 0; i < p->x_n; i++) {
        double x = px(a, p->x[i]);
        fprintf(p->f, "<path class=\"axis\" d=\"M%.1f %dv5\"/>\n", x, TOP + PANEL_HEIGHT);
        number_text(p->x[i], text);
        label(p->f, x, TOP + PANEL_HEIGHT + 20, "middle", text);
    }
    fprintf(p->f, "<path class=\"axis\" d=\"M%.1f %dv%dh%d\"/>\n", a->left, TOP, PANEL_HEIGHT,
            PANEL_WIDTH);
    label(p->f, a->left + PANEL_WIDTH / 2.0, TOP + PANEL_HEIGHT + 40, "middle",
          axes[p->axis].title);
    label(p->f, a->left, TOP - 14, "start", a->title);
    fprintf(p->f,
            "<text class=\"ink\" transform=\"translate(%.1f %d) rotate(-90)\" "
            "text-anchor=\"middle\">%s</text>\n",
            a->left - 52, TOP + PANEL_HEIGHT / 2, a->unit);
}

static void draw_series(const struct plot *p, const struct panel *a, int number)
{
    const struct series *s = p->series + number;
    const double *y = a->rates ? s->gbps : s->us;
    int begun = 0;
    for (int i = 0; i < s->n; i++) {
        if (!(y[i] > 0))
            continue;
        if (!begun++)
            fprintf(p->f, "<path fill=\"none\" stroke-width=\"2\" stroke=\"%s\"%s d=\"M",
                    colours[number % COLOURS], s->ceiling ? " stroke-dasharray=\"6 4\"" : "");
        else
            fputc('L', p->f);
        fprintf(p->f, "%.1f %.1f", px(a, s->x[i]), py(a, y[i]));
    }
    if (begun)
        fputs("\"/>\n", p->f);
    for (int i = 0; i < s->n; i++)
        if (y[i] > 0)
            mark(p->f, px(a, s->x[i]), py(a, y[i]), number);
}

static void draw_legend(const struct plot *p, int top)
{
    for (int i = 0; i < p->n; i++) {
        int y = top + i * LEGEND_LINE;
        fprintf(p->f, "<path stroke=\"%s\" stroke-width=\"2\"%s d=\"M%d %dh28\"/>\n",
                colours[i % COLOURS], p->series[i].ceiling ? " stroke-dasharray=\"6 4\"" : "", LEFT,
                y);
        mark(p->f, LEFT + 14, y, i);
        label(p->f, LEFT + 38, y + 4, "start", p->series[i].name);
    }
    if (p->left_out) {
        char text[80];
        snprintf(text, sizeof text, "and %d points of more series than fit", p->left_out);
        label(p->f, LEFT + 38, top + p->n * LEGEND_LINE + 4, "start", text);
    }
}

/* --- the file ------------------------------------------------------------------------------- */

/* What is the same everywhere. */
static void make_title(const struct plot *p, const struct sink *sink, char *title, size_t bytes)
{
    const struct bench_result *r = sink->results;
    int n = snprintf(title, bytes, "switchyard bench: ");
    if (p->axis != AXIS_HIDDEN && !tells_apart(AXIS_HIDDEN, p, sink))
        n += snprintf(title + n, bytes - (size_t)n, "hidden %lld, ", (long long)r->hidden);
    if (p->axis != AXIS_TOPK && !tells_apart(AXIS_TOPK, p, sink))
        n += snprintf(title + n, bytes - (size_t)n, "%d of %d experts, ", (int)r->topk,
                      (int)r->experts);
    snprintf(title + n, bytes - (size_t)n, "%s routing", routing_names[r->routing]);
}

static void draw_all(struct plot *p, const struct sink *sink)
{
    const int width = 2 * (LEFT + PANEL_WIDTH) + GAP + 20, legend = TOP + PANEL_HEIGHT + 70;
    const int height = legend + (p->n + 1) * LEGEND_LINE;
    const struct bench_result *r = sink->results;
    struct scale x = {p->x[0], p->x[p->x_n - 1], p->x[0] > 0};
    struct panel time = {
        "time of an operation, average over ranks", "microseconds", LEFT, x, time_scale(p), 0};
    struct panel rate = {r->engine == SY_ENGINE_CUDA ? "what must cross the links, over that time"
                                                     : "what must move, over that time",
                         "GB/s per rank",
                         2 * LEFT + PANEL_WIDTH + GAP,
                         x,
                         rate_scale(p),
                         1};
    char title[200];
    fprintf(p->f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" "
            "height=\"%d\" font-family=\"system-ui, sans-serif\" font-size=\"13\">\n"
            "<style>.paper{fill:#ffffff}.ink{fill:#222222}.axis{stroke:#222222;fill:none}"
            ".grid{stroke:#dddddd;fill:none}\n"
            "@media (prefers-color-scheme: dark){.paper{fill:#16181d}.ink{fill:#e6e6e6}"
            ".axis{stroke:#e6e6e6}.grid{stroke:#3a3d45}}</style>\n",
            width, height, width, height);
    make_title(p, sink, title, sizeof title);
    fprintf(p->f, "<title>");
    put_text(p->f, title);
    fprintf(p->f, "</title>\n<rect class=\"paper\" width=\"%d\" height=\"%d\"/>\n", width, height);
    label(p->f, LEFT, 24, "start", title);
    draw_grid(p, &time);
    draw_grid(p, &rate);
    for (int i = 0; i < p->n; i++) {
        draw_series(p, &time, i);
        draw_series(p, &rate, i);
    }
    draw_legend(p, legend);
    fprintf(p->f, "</svg>\n");
}

int report_plot(const struct sink *sink, const char *path)
{
    struct plot p = {.f = NULL};
    int good;
    if (!sink->results_n)
        return 0; /* what went wrong has been said */
    p.series = calloc(SERIES_MAX, sizeof *p.series);
    p.f = p.series ? fopen(path, "we") : NULL;
    good = p.f != NULL;
    if (good) {
        collect(&p, sink);
        draw_all(&p, sink);
        good = !ferror(p.f);
        good = !fclose(p.f) && good;
    }
    if (!good)
        tool_say("%s: %s", path, strerror(errno));
    free(p.series);
    return good ? 0 : -1;
}
