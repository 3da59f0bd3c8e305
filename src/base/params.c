/* params.c - see params.h. */
#include "params.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "status.h"

struct param {
    const char *env, *unit, *help;
    int64_t def, least, most;
    size_t offset;
};

static const struct param table[] = {
#define SY_PARAM(field, env, def, least, most, unit, help)                                         \
    {env, unit, help, def, least, most, offsetof(struct sy_params, field)},
#include "params.def"
#undef SY_PARAM
};

#define PARAMS ((int32_t)(sizeof table / sizeof *table))

const char *sy_env(const char *name)
{
    return getenv(name);
}

/* *set: the environment has it. */
static sy_status read_one(const struct param *p, int64_t *value, int *set)
{
    const char *text = sy_env(p->env);
    char *end;
    *set = text && *text;
    *value = p->def;
    if (!*set)
        return SY_OK;
    errno = 0;
    *value = strtoll(text, &end, 10);
    if (errno || *end || *value < p->least || *value > p->most)
        return sy_fail(SY_INVALID, "%s=%s: not a number from %lld to %lld", p->env, text,
                       (long long)p->least, (long long)p->most);
    return SY_OK;
}

sy_status sy_params_read(struct sy_params *params)
{
    for (int32_t i = 0; i < PARAMS; i++) {
        int64_t value;
        int set;
        SY_TRY(read_one(table + i, &value, &set));
        memcpy((char *)params + table[i].offset, &value, sizeof value);
    }
    return SY_OK;
}

sy_status sy_param_get(int32_t index, sy_param_info *info)
{
    static _Thread_local char value_text[32], range_text[64];
    const struct param *p;
    int64_t value;
    int set;
    SY_NEED(info && info->size >= sizeof *info,
            "sy_param_get: info is NULL or its size is not set");
    SY_NEED(index >= 0 && index < PARAMS, "sy_param_get: there are %d parameters", PARAMS);
    p = table + index;
    SY_TRY(read_one(p, &value, &set));
    snprintf(value_text, sizeof value_text, "%lld%s%s", (long long)value, *p->unit ? " " : "",
             p->unit);
    snprintf(range_text, sizeof range_text, "%lld to %lld", (long long)p->least,
             (long long)p->most);
    info->name = p->env;
    info->value = value_text;
    info->source = set ? "environment" : "default";
    info->range = range_text;
    info->help = p->help;
    return SY_OK;
}
