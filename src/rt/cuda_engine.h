/* cuda_engine.h - what the rest of the library asks of the CUDA engine besides sy_rt_cuda. */
#ifndef SY_RT_CUDA_ENGINE_H
#define SY_RT_CUDA_ENGINE_H

#include "base/cuda_api.h"
#include "rt.h"

/* GPUs that this process sees; 0 without a driver. */
int sy_cuda_devices(void);

/* Fills in what sy_engine_query() tells of the engine. */
void sy_cuda_query(sy_engine_info *info);

/* The GPU that a rank would use, without touching it. */
struct sy_cuda_look {
    int32_t device, sm, driver; /* sm: compute capability, 90; driver: CUDA version, 13000 */
    int32_t sms;
    uint64_t shared_max; /* of a block */
    int pools;           /* memory can be had and given back in the order of a stream */
    struct sy_cuda_uuid uuid;
    char name[64];
};
sy_status sy_cuda_look(int32_t rank, struct sy_cuda_look *look);

/* The GPU that an engine has opened; it lives as long as the engine. */
const struct sy_gpu *sy_rt_cuda_gpu(struct sy_rt *rt);

#endif
