/* group.h - the group object, as the files of api/ share it.
 *
 * Ownership: the group owns its heap, mesh, engine and private memory; routes, streams and events
 * belong to the caller and die before it. `lock` guards what calls and the mesh's thread change; it
 * is never held while waiting. `order` is held from an operation's checks until it is on its
 * stream, which may mean waiting for room there. */
#ifndef SY_API_GROUP_H
#define SY_API_GROUP_H

#include <pthread.h>

#include "base/cuda_api.h"
#include "base/log.h"
#include "base/maxima.h"
#include "base/os.h"
#include "base/params.h"
#include "base/status.h"
#include "layout/args.h"
#include "layout/sizes.h"
#include "mem/heap.h"
#include "mem/ualloc.h"
#include "plan/tune.h"
#include "rt/rt.h"
#include "jury.h"

struct sy_boot;
struct sy_mesh;

/* A configuration with its defaults filled in and checked; what sizes follow from. */
struct sy_plan {
    sy_group_config config;
    struct sy_params params;
    int32_t rank, ranks;
    int32_t engine; /* sy_engine, not AUTO any more */
    uint32_t modes;
    int32_t threads;
    uint64_t timeout_ns;
    int32_t *firsts; /* [ranks + 1]: first expert of each rank; owned */
    int even;        /* all ranks have equally many                   */
    struct sy_limits limits;
    struct sy_heap_layout heap;
    struct sy_local_layout local;
    struct sy_machine machine;
    struct sy_cuda_uuid gpu; /* which one, and how many multiprocessors it has     */
    uint32_t gpu_sms;
    uint32_t sharing; /* most ranks on one GPU; 0 on the CPU                */
    uint64_t shared_bytes;
};

/* A send half that waits for its receive half. */
struct sy_half {
    int open;
    const sy_route *route;
    uint32_t args; /* a hash of its arguments */
};

struct sy_group {
    struct sy_plan plan;
    struct sy_log log;
    struct sy_mesh *mesh;
    struct sy_heap heap;
    struct sy_rt *rt;
    struct sy_jury jury;
    struct sy_ualloc user;
    struct sy_dev dev;
    uint8_t *tables; /* engine memory: peers, owner, firsts */
    size_t tables_bytes;

    pthread_mutex_t order;
    uint64_t calls[SY_CHANNELS]; /* operations asked for; the send half counts */
    struct sy_half halves[SY_CHANNELS];
    uint64_t routings; /* sy_route_set(), in both modes */

    pthread_mutex_t lock;
    uint64_t barriers;      /* begun here                                    */
    uint64_t *arrived;      /* [ranks] barriers that a rank has begun; owned */
    pthread_cond_t arrival; /* arrived, or a rank is gone                    */
    uint64_t notices; /* reports of bad ids that poll has given     */
    int64_t objects;  /* routes, streams and events alive           */
};

struct sy_route {
    sy_group *group;
    sy_route_config config; /* with defaults filled in */
    uint8_t *memory;
    size_t bytes;
    int owned;
    struct sy_dev_route dev;
    sy_event *done; /* recorded behind the route's last operation */
    int set;        /* sy_route_set() has been called              */
    int placed;     /* counts and places are on the stream         */
    uint64_t number;            /* of the sy_route_set(), the same on all ranks */
    int64_t tokens;
    struct sy_dev_tensor ids; /* latency: the caller's, until the first dispatch */
};

/* The group's fault, with its text. */
sy_status sy_group_fault(sy_group *group, const char *call);

/* What stands against using the group from now on: its fault, or a rank that has left. */
sy_status sy_group_usable(sy_group *group, const char *call);

/* How work that is over ended: the group's fault, or ids out of range, once. */
sy_status sy_group_outcome(sy_group *group, const char *call);

/* The group's part that deals with faults (faults.c). watch: last, the heap and the engine are
 * there; from then on the mesh's thread is at work until the mesh is closed. */
sy_status sy_faults_open(sy_group *group);
sy_status sy_faults_watch(sy_group *group);
void sy_faults_close(sy_group *group);

/* Tensors (tensor.c). A description of what is expected, for checks with good texts. */
struct sy_expect {
    const char *name;
    int32_t dims;
    uint32_t types;   /* bit per sy_type                  */
    int64_t shape[2]; /* -1: any                          */
    int64_t rows_min; /* of the first dimension, if any   */
    int rows_16;      /* rows are multiples of 16 bytes, 16-byte aligned, contiguous inside */
};

#define SY_TYPE_BIT(type) (1u << (type))

int64_t sy_type_bytes(int32_t type);
const char *sy_type_name(int32_t type);

/* Checks t against what is expected and describes it for the device; absent tensors become NULL
 * data. */
sy_status sy_tensor_take(const sy_tensor *t, const struct sy_expect *expect,
                         struct sy_dev_tensor *out);

/* A copy of t whose leading two of three dimensions are one, if their strides allow. */
sy_status sy_tensor_flatten(const sy_tensor *t, const char *name, sy_tensor *out);

/* A hash for the word that proves that ranks run the same thing. */
uint32_t sy_check_word(const uint64_t *words, size_t count);

#endif
