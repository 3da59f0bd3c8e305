/* bench_engine.h - what a rank's operations run on: the CPU, or the rank's GPU. Memory that the
 * operations work on, and on a GPU a stream, events and graphs.
 *
 * Rank r has GPU r of those that this process sees, counted round; its primary context is the
 * process's current one, so the library takes the same. On the CPU memory is the host's. */
#ifndef SY_TOOLS_BENCH_ENGINE_H
#define SY_TOOLS_BENCH_ENGINE_H

#include <stddef.h>
#include <stdint.h>

#include "gpu_driver.h"
#include "switchyard.h"

struct engine {
    int32_t kind;      /* SY_ENGINE_CPU or SY_ENGINE_CUDA */
    sy_stream *stream; /* that operations go to; NULL on the CPU: the group's own */

    /* Of a GPU: */
    const struct gpu_driver *driver;
    int32_t device, devices; /* its number, and how many there are */
    int32_t sms;
    gpu_context context;
    gpu_stream own, copies; /* own: the same as `stream` */
    gpu_event begin, end;
};

/* SY_ENGINE_AUTO: what the library takes. -1: not to be had. */
int engine_find(int32_t wanted, int32_t *kind, int32_t *devices);

int engine_open(struct engine *e, int32_t kind, int32_t rank);
void engine_close(struct engine *e); /* also after an engine_open() that failed */

/* Zeroed, a multiple of 256 bytes, aligned to 256. NULL after bench_fail(). */
void *engine_alloc(struct engine *e, size_t bytes);
void engine_free(struct engine *e, void *memory);

/* Between the engine's memory, also that of a group's heap, and the host's. They wait. */
int engine_put(struct engine *e, void *to, const void *from, size_t bytes);
int engine_get(struct engine *e, void *to, const void *from, size_t bytes);
int engine_fill(struct engine *e, void *to, uint8_t byte, size_t bytes);

/* Host memory to fill in or look at in place of the engine's: on the CPU the memory itself. look:
 * with what is there now. done: gives it back, after writing it if `changed`. */
void *engine_map(struct engine *e, void *memory, size_t bytes, int look);
int engine_unmap(struct engine *e, void *memory, void *host, size_t bytes, int changed);

/* --- GPUs only --- */

/* Memory that all ranks' operations may take on this GPU and its like. */
int engine_memory_free(struct engine *e, uint64_t *bytes);
int engine_copy(struct engine *e, void *to, const void *from, size_t bytes); /* on the stream */
int engine_sync(struct engine *e);

/* What the stream does between them; end waits. */
int engine_timer_begin(struct engine *e);
int engine_timer_end(struct engine *e, double *us);

/* What is put on the stream between them becomes a graph, and does not run. */
int engine_graph_begin(struct engine *e);
int engine_graph_end(struct engine *e, gpu_graph_exec *graph);
int engine_graph_run(struct engine *e, gpu_graph_exec graph);
void engine_graph_free(struct engine *e, gpu_graph_exec graph); /* NULL is fine */

#endif
