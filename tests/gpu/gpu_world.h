/* gpu_world.h - what the GPU tests share: ranks as threads or processes, each with a GPU, and
 * memory of that GPU for the cases of tests/conform.
 *
 * Rank r takes GPU r, counted round; where there are more ranks than GPUs they share, and the
 * library divides the multiprocessors. */
#ifndef SY_TESTS_GPU_WORLD_H
#define SY_TESTS_GPU_WORLD_H

#include "cu.h"
#include "run_case.h"
#include "switchyard.h"

#define GPU_RANKS_MAX 16

/* GPUs there are, without starting the driver in this process, so that it can still fork. */
int gpu_count(void);

/* Gives the calling thread its GPU and fills in what memory operations of a case need. stream: 1 a
 * stream of the caller's own, 0 the group's. */
void gpu_take(int rank, int stream, struct run_engine *engine);
void gpu_give(struct run_engine *engine);

/* Multiprocessors that each of so many ranks has if they share the GPUs. */
int gpu_sms(int ranks);

/* Memory of the calling thread's GPU and copies on its private stream. */
void *gpu_alloc(size_t bytes);
void gpu_free(void *memory);
void gpu_put(void *to, const void *from, size_t bytes);
void gpu_get(void *to, const void *from, size_t bytes);

/* Runs `part` once per rank and waits: in threads of so many processes (rank r in process r modulo
 * their number), or of this one if that is 0. Returns how many processes did not end with status 0.
 * shared: memory that all of them see. */
int gpu_ranks(int ranks, int processes, void (*part)(int rank, void *shared), void *shared);

/* Zeroed memory that forked processes share. */
void *gpu_shared(size_t bytes);

#endif
