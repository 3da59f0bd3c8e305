/* plants.h - mistakes that the test build can make. In device code SY_PLANT(name) stands where one
 * is planted (device/compat_sim.h has the numbers); those of the primitives themselves are in
 * weak.c and bulk.c, those of networks in network.c. */
#ifndef SIM_PLANTS_H
#define SIM_PLANTS_H

#include <stdint.h>

#include "device/prims.h"

#ifdef SY_PLANTS
#define SIM_PLANTED(name) (sy_sim_plant == SY_PLANT_##name)
#else
#define SIM_PLANTED(name) 0
#endif

enum sim_flavour { SIM_WORLD, SIM_NETWORK };

struct sim_plant {
    int number;
    const char *name, *text;
    enum sim_flavour flavour; /* of the seeds that may catch it */
};

/* By number, from 1 on; NULL: there are no more. */
const struct sim_plant *sim_plant_at(int number);

#endif
