/* params.h - tunables of params.def: defaults, overridden by the environment. The only place that
 * reads the environment, except for launchers' variables in boot/. */
#ifndef SY_BASE_PARAMS_H
#define SY_BASE_PARAMS_H

#include "switchyard.h"

struct sy_params {
#define SY_PARAM(field, env, def, least, most, unit, help) int64_t field;
#include "params.def"
#undef SY_PARAM
};

/* Reads all of them. A value that is no number or out of range is an error that names it. */
sy_status sy_params_read(struct sy_params *params);

/* A variable of the environment that is not a tunable of ours: a launcher's, the CUDA driver's, a
 * profiler's. NULL: absent. */
const char *sy_env(const char *name);

#endif
