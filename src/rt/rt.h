/* rt.h - engines: what runs kernels, and the streams and events around them.
 *
 * An engine serves one group. Launches of a group run one after the other in the order of the
 * calls, whatever their streams. Nothing is allocated by launching. All functions return at once
 * unless they say that they wait. */
#ifndef SY_RT_RT_H
#define SY_RT_RT_H

#include "base/params.h"
#include "base/status.h"
#include "layout/args.h"

enum sy_kernel {
#define SY_KERNEL(name, args) SY_KERNEL_##name,
#include "device/kernels.def"
#undef SY_KERNEL
    SY_KERNELS
};

struct sy_grid {
    uint32_t blocks;
    uint32_t warps; /* per block */
    uint64_t shared_bytes;
};

struct sy_rt;

struct sy_rt_config {
    int32_t rank;
    int32_t threads;       /* CPU: threads that run kernels                                */
    int32_t ranks;         /* of the group, and how many of them share this machine: all    */
    int64_t idle_spins;    /* CPU: see params.def                                           */
    uint64_t shared_bytes; /* most that a launch asks for                                   */
    int shared_gpu;        /* with other ranks, whose kernels may wait for this rank's      */
    const struct sy_params *params;
    const sy_allocator *allocator;
};

struct sy_rt_ops {
    const char *name;
    sy_status (*open)(const struct sy_rt_config *config, struct sy_rt **rt);
    void (*finish)(struct sy_rt *rt); /* waits until all launches are over  */
    void (*close)(struct sy_rt *rt);  /* after finish()                     */

    /* Private memory of the engine, zeroed, aligned to 256. NULL: the last error says why. */
    void *(*alloc)(struct sy_rt *rt, size_t bytes);
    void (*free)(struct sy_rt *rt, void *memory, size_t bytes);
    /* Memory of the host that kernels reach, zeroed: where they leave words for the host. */
    void *(*alloc_host)(struct sy_rt *rt, size_t bytes);
    void (*free_host)(struct sy_rt *rt, void *memory, size_t bytes);
    /* Between engine memory and the host's. They wait; work that uses the memory must be over. */
    sy_status (*read)(struct sy_rt *rt, void *to, const void *from, size_t bytes);
    sy_status (*write)(struct sy_rt *rt, void *to, const void *from, size_t bytes);
    /* Sets a word of engine memory or of a heap soon, while kernels run; from any thread. */
    void (*poke)(struct sy_rt *rt, sy_u32 *word, sy_u32 value);

    sy_status (*stream_create)(struct sy_rt *rt, sy_stream **stream);
    void (*stream_destroy)(struct sy_rt *rt, sy_stream *stream);   /* waits */
    sy_status (*stream_sync)(struct sy_rt *rt, sy_stream *stream); /* waits */
    sy_status (*stream_query)(struct sy_rt *rt, sy_stream *stream);
    sy_status (*stream_wait)(struct sy_rt *rt, sy_stream *stream, sy_event *event);
    sy_status (*call)(struct sy_rt *rt, sy_stream *stream, void (*fn)(void *), void *context);
    /* Records `done` behind it. */
    sy_status (*launch)(struct sy_rt *rt, sy_stream *stream, enum sy_kernel kernel,
                        const struct sy_grid *grid, const void *args, size_t bytes, sy_event *done);

    /* Optional: such launches will come, with more in their arguments than is known yet. Whatever
     * takes long is begun, and not waited for. */
    void (*prepare)(struct sy_rt *rt, enum sy_kernel kernel, const void *args);

    /* timed: event_elapsed will be asked for. */
    sy_status (*event_create)(struct sy_rt *rt, int timed, sy_event **event);
    void (*event_destroy)(struct sy_rt *rt, sy_event *event); /* waits */
    sy_status (*event_record)(struct sy_rt *rt, sy_event *event, sy_stream *stream);
    sy_status (*event_sync)(struct sy_rt *rt, sy_event *event); /* waits */
    sy_status (*event_query)(struct sy_rt *rt, sy_event *event);
    sy_status (*event_elapsed)(struct sy_rt *rt, sy_event *begin, sy_event *end, uint64_t *ns);
};

/* What every engine's object begins with. */
struct sy_rt {
    const struct sy_rt_ops *ops;
};

/* What events, and streams that an engine makes, begin with. */
struct sy_handle {
    struct sy_rt *rt;
    sy_group *group; /* for api/ */
};

extern const struct sy_rt_ops sy_rt_cpu, sy_rt_cuda;

#endif
