/* kernels.h - all kernels. What a target's entry file includes after its compat header. */
#ifndef SY_DEVICE_KERNELS_H
#define SY_DEVICE_KERNELS_H

#include "prims.h"

#include "k_combine.h"
#include "k_flags.h"
#include "k_ldispatch.h"
#include "k_probe.h"
#include "k_route.h"
#include "k_tdispatch.h"

#endif
