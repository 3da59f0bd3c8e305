/* sim_prims.h - what device/compat_sim.h calls, and what weak.c, bulk.c and block.c share. */
#ifndef SIM_PRIMS_H
#define SIM_PRIMS_H

#include "model.h"

/* A word that this warp polls: a pause waits until it changes. */
void sim_look_at(struct sim_warp *w, const void *word, uint32_t bytes);

/* A warp of the rank that has stores; once. */
void sim_stores_join(struct sim_warp *w);

/* The warp ends: what is on its way to others becomes its rank's. */
void sim_stores_leave(struct sim_warp *w);

/* The slots of hosts, and their counts: what a host writes now is ordered before its next launch.
 */
uint32_t sim_host_slot(uint32_t rank);
uint32_t sim_host_count(uint32_t rank);
const char *sim_slot_name(uint32_t slot, char text[SIM_WHERE]);

#endif
