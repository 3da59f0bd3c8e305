/* info_gpu.h - the GPUs' part of `switchyard info`. */
#ifndef SY_TOOLS_INFO_GPU_H
#define SY_TOOLS_INFO_GPU_H

/* GPUs, how they reach each other, driver, compiler and the cache of compiled kernels; what is not
 * there, and why. */
void show_gpus(void);

#endif
