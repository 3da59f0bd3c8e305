/* engine.h - the simulator's engine behind rt/rt.h, and what a world knows of its ranks' memory. */
#ifndef SIM_ENGINE_H
#define SIM_ENGINE_H

#include "model.h"
#include "rt/rt.h"

/* The kernels, compiled for the simulator (kernels.c). */
typedef void (*sim_kernel)(struct sy_ctx *c, const void *args);
extern const sim_kernel sim_kernels[SY_KERNELS];

struct sim_engine_config {
    uint32_t ranks;
    uint32_t blocks_max, warps_max; /* of any launch, of any block   */
    uint64_t shared_max;            /* of a block, when it is a GPU */
};

void sim_engine_open(const struct sim_engine_config *config);
void sim_engine_close(void);

/* A rank's launch of an operation (or its send half), or NULL: it has not asked for it yet. */
const struct sim_launch *sim_launch_of(uint32_t rank, uint32_t channel, uint64_t epoch);
/* Any launch, by number. */
const struct sim_launch *sim_launch_at(uint32_t id);

/* Operations that a rank's group has launched, by channel. */
uint64_t sim_launched(uint32_t rank, uint32_t channel);

/* The group as its kernels see it, from the rank's last launch; NULL: there was none. */
const struct sy_dev *sim_dev_of(uint32_t rank);

/* The route whose memory an address lies in, of those of the rank's latest launches, or NULL. */
const struct sy_dev_route *sim_route_at(uint32_t rank, const uint8_t *p);

/* The same of the group whose heap an address lies in. */
const struct sy_dev *sim_dev_at(uint32_t rank, const uint8_t *p);

/* What the scenario says of a route's memory when an operation on it is launched. */
const void *sim_truth_of(uint32_t rank, const void *route_memory);

/* A rank begins again, with a new group. */
void sim_engine_again(uint32_t rank);

/* The largest arguments of a kernel. */
union sim_args {
#define SY_KERNEL(name, args) args name;
#include "device/kernels.def"
#undef SY_KERNEL
};

extern const char *const sim_kernel_names[SY_KERNELS];

#endif
