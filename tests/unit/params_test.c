/* params_test.c - tunables from the environment (src/base/params.h, sy_param_get()). */
#define _GNU_SOURCE
#include <stdlib.h>

#include "base/params.h"
#include "crew.h"

/* What the table says, read a second time and in another way. */
static const struct {
    const char *env;
    int64_t def, least, most;
} table[] = {
#define SY_PARAM(field, env, def, least, most, unit, help) {env, def, least, most},
#include "base/params.def"
#undef SY_PARAM
};

#define PARAMS ((int)(sizeof table / sizeof *table))

static int64_t value_of(const struct sy_params *p, int which)
{
    const int64_t values[] = {
#define SY_PARAM(field, env, def, least, most, unit, help) p->field,
#include "base/params.def"
#undef SY_PARAM
    };
    return values[which];
}

static void clear(void)
{
    for (int i = 0; i < PARAMS; i++)
        unsetenv(table[i].env);
}

static void set_number(const char *name, long long value)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", value);
    setenv(name, text, 1);
}

static void defaults(void)
{
    struct sy_params p;
    clear();
    WORKS(sy_params_read(&p));
    for (int i = 0; i < PARAMS; i++) {
        CHECK(value_of(&p, i) == table[i].def, "%s is %lld, not %lld", table[i].env,
              (long long)value_of(&p, i), (long long)table[i].def);
        CHECK(table[i].least <= table[i].def && table[i].def <= table[i].most,
              "the default of %s is out of its range", table[i].env);
        CHECK(!strncmp(table[i].env, "SY_", 3), "%s is no name of ours", table[i].env);
        for (int k = 0; k < i; k++)
            CHECK(strcmp(table[i].env, table[k].env), "%s is there twice", table[i].env);
    }
}

/* The ends of a range are in it, and what lies beyond is not. */
static void ranges(void)
{
    struct sy_params p;
    clear();
    for (int i = 0; i < PARAMS; i++) {
        const int64_t good[] = {table[i].least, table[i].def, table[i].most};
        const int64_t bad[] = {table[i].least - 1, table[i].most + 1};
        for (int k = 0; k < 3; k++) {
            set_number(table[i].env, good[k]);
            WORKS(sy_params_read(&p));
            CHECK(value_of(&p, i) == good[k], "%s=%lld is %lld", table[i].env, (long long)good[k],
                  (long long)value_of(&p, i));
            for (int other = 0; other < PARAMS; other++)
                CHECK(other == i || value_of(&p, other) == table[other].def, "%s changes with %s",
                      table[other].env, table[i].env);
        }
        for (int k = 0; k < 2; k++) {
            char part[100];
            set_number(table[i].env, bad[k]);
            snprintf(part, sizeof part, "%s=%lld: not a number from %lld to %lld", table[i].env,
                     (long long)bad[k], (long long)table[i].least, (long long)table[i].most);
            FAILS(sy_params_read(&p), SY_INVALID, part);
        }
        unsetenv(table[i].env);
    }
}

static void garbage(void)
{
    static const char *const words[] = {"x",
                                        "1x",
                                        "0x10",
                                        "1.5",
                                        "--1",
                                        "1 ",
                                        "\t1\n",
                                        "1e3",
                                        "+",
                                        "-",
                                        "none",
                                        "1,000",
                                        "99999999999999999999999999",
                                        "-99999999999999999999999999"};
    struct sy_params p;
    clear();
    for (int i = 0; i < PARAMS; i++) {
        for (size_t k = 0; k < sizeof words / sizeof *words; k++) {
            setenv(table[i].env, words[k], 1);
            FAILS(sy_params_read(&p), SY_INVALID, table[i].env);
        }
        setenv(table[i].env, "", 1); /* as if it were not there */
        WORKS(sy_params_read(&p));
        CHECK(value_of(&p, i) == table[i].def, "an empty %s", table[i].env);
        unsetenv(table[i].env);
    }
}

static void questions(void)
{
    sy_param_info info = {.size = sizeof info};
    char number[32];
    clear();
    for (int i = 0; i < PARAMS; i++) {
        WORKS(sy_param_get(i, &info));
        snprintf(number, sizeof number, "%lld", (long long)table[i].def);
        CHECK(!strcmp(info.name, table[i].env) && !strncmp(info.value, number, strlen(number)) &&
                  !strcmp(info.source, "default") && strstr(info.range, " to ") &&
                  strlen(info.help) > 10,
              "%s: %s from %s, %s: %s", info.name, info.value, info.source, info.range, info.help);
        set_number(table[i].env, table[i].most);
        WORKS(sy_param_get(i, &info));
        snprintf(number, sizeof number, "%lld", (long long)table[i].most);
        CHECK(!strncmp(info.value, number, strlen(number)) && !strcmp(info.source, "environment"),
              "%s: %s from %s", info.name, info.value, info.source);
        setenv(table[i].env, "nonsense", 1);
        FAILS(sy_param_get(i, &info), SY_INVALID, "nonsense");
        unsetenv(table[i].env);
    }
    FAILS(sy_param_get(PARAMS, &info), SY_INVALID, "parameters");
    FAILS(sy_param_get(-1, &info), SY_INVALID, "parameters");
    FAILS(sy_param_get(INT32_MIN, &info), SY_INVALID, "parameters");
    info.size = 8;
    FAILS(sy_param_get(0, &info), SY_INVALID, "size");
}

/* A bad value stops what reads it, before anything is made; a good one has its effect. */
static void groups(void)
{
    sy_group_info info = {.size = sizeof info};
    sy_group_config c;
    sy_group *group = NULL;
    clear();
    crew_config(&c, 1, 0);
    setenv("SY_CPU_THREADS", "many", 1);
    FAILS(sy_group_check(&c), SY_INVALID, "SY_CPU_THREADS=many");
    FAILS(sy_group_create(&c, &group), SY_INVALID, "SY_CPU_THREADS=many");
    setenv("SY_CPU_THREADS", "3", 1);
    WORKS(sy_group_create(&c, &group));
    WORKS(sy_group_info_get(group, &info));
    CHECK(info.cpu_threads == 3, "%d threads", info.cpu_threads);
    WORKS(sy_group_destroy(group));
    c.cpu_threads = 2; /* the configuration goes before the environment */
    WORKS(sy_group_create(&c, &group));
    WORKS(sy_group_info_get(group, &info));
    CHECK(info.cpu_threads == 2, "%d threads", info.cpu_threads);
    WORKS(sy_group_destroy(group));
    clear();
}

/* The deadline, when the configuration names none. */
static void timeout(void)
{
    sy_group_config c;
    sy_group *group = NULL;
    uint64_t begin = crew_now_ns();
    clear();
    setenv("SY_TIMEOUT_MS", "200", 1);
    crew_config(&c, 2, 0);
    c.timeout_ns = 0;
    CHECK(sy_id_create(&c.id) == SY_OK, "no id: %s", sy_last_error());
    FAILS(sy_group_create(&c, &group), SY_TIMEOUT, "rank 1");
    CHECK(crew_now_ns() - begin < 1000000000ull * CREW_SLOW, "it took %.0f ms",
          (double)(crew_now_ns() - begin) / 1e6);
    clear();
}

int main(void)
{
    TEST(defaults);
    TEST(ranges);
    TEST(garbage);
    TEST(questions);
    TEST(groups);
    TEST(timeout);
    return check_end();
}
