/* config.h - from the caller's configuration to a plan: checks, defaults, sizes, agreement. */
#ifndef SY_API_CONFIG_H
#define SY_API_CONFIG_H

#include "group.h"

/* Checks everything that one rank can check and fills in the plan. Local. */
sy_status sy_plan_open(struct sy_plan *plan, const sy_group_config *config);
void sy_plan_close(struct sy_plan *plan);
void sy_plan_sizes(const struct sy_plan *plan, sy_group_sizes *sizes);

/* Collective: SY_MISMATCH on every rank, with field, ranks and values, unless all agree. Ranks that
 * share a GPU then divide it. */
sy_status sy_plan_agree(struct sy_plan *plan, struct sy_boot *boot);

#endif
