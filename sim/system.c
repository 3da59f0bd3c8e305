/* system.c - see system.h: memory, clock and randomness; descriptors are in sockets.c. */
#define _GNU_SOURCE
#include "system.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/verify.h"
#include "model.h"
#include "plants.h"

#define USER 1000

static struct sy_prng random_numbers;
static uint8_t *in_round; /* [ranks] */
static uint32_t rank_count;
static int combine_path, route_asks;

void sim_round_begin(uint32_t rank)
{
    in_round[rank] = 1;
}

void sim_round_end(uint32_t rank)
{
    in_round[rank] = 0;
}

int sim_in_round(uint32_t rank)
{
    return rank < rank_count && in_round[rank];
}

void sim_no_round(const char *what)
{
    if (sim_current && sim_in_round(sim_current->rank))
        sim_violate(SIM_CHECK_ALLOC, "rank %u %s during a round", sim_current->rank, what);
}

static void *sim_alloc(size_t bytes, size_t align)
{
    void *p = NULL;
    sim_no_round("allocates memory");
    if (align < sizeof(void *))
        align = sizeof(void *);
    if (posix_memalign(&p, align, bytes ? bytes : 1))
        return NULL;
    memset(p, 0xa5, bytes);
    return p;
}

void *sy_zalloc(size_t bytes)
{
    void *p = sy_os->alloc(bytes, sizeof(void *));
    if (p)
        memset(p, 0, bytes);
    return p;
}

/* Heaps are the arena's, stacks of fibers the system's. */
static void *sim_map(void *at, size_t bytes, int prot, int flags, int fd)
{
    if (fd >= 0)
        return sim_map_file(fd, bytes);
    return mmap(at, bytes, prot, flags, -1, 0);
}

static int sim_unmap(void *at, size_t bytes)
{
    return sim_inside(at) ? 0 : munmap(at, bytes);
}

static int set_option(int fd, int level, int name, const void *value, socklen_t bytes)
{
    (void)fd;
    (void)level;
    (void)name;
    (void)value;
    (void)bytes;
    return 0;
}

static int interfaces(struct ifaddrs **list)
{
    *list = NULL;
    return 0;
}

static void free_interfaces(struct ifaddrs *list)
{
    (void)list;
}

/* One machine: only its name is ever read. */
static ssize_t read_file(const char *path, void *out, size_t bytes)
{
    static const char machine[] = "5e1f5e1f-0000-4000-8000-000000000001";
    size_t n = sizeof machine - 1 < bytes ? sizeof machine - 1 : bytes;
    if (strcmp(path, "/proc/sys/kernel/random/boot_id")) {
        errno = ENOENT;
        return -1;
    }
    memcpy(out, machine, n);
    return (ssize_t)n;
}

static int at_fork(void (*before)(void), void (*parent)(void), void (*child)(void))
{
    (void)before;
    (void)parent;
    (void)child;
    return 0;
}

static int random_bytes(void *out, size_t bytes)
{
    uint8_t *to = out;
    for (size_t i = 0; i < bytes; i++)
        to[i] = (uint8_t)(sy_prng_next(&random_numbers) >> 32);
    return 0;
}

/* Sockets are closed by sy_fd_close(). */
static void close_heap(int fd)
{
    if (!SIM_PLANTED(LEAKED_DESCRIPTOR))
        sim_close(fd);
}

static uint64_t now_ns(void)
{
    return sim_now_ns();
}

static void sleep_ns(uint64_t ns)
{
    if (sim_current)
        sim_park(sim_now_ns() + ns, "sleep");
}

static uid_t user(void)
{
    return USER;
}

static pid_t parent(void)
{
    return 1;
}

/* Stands in for the environment of the process: a seed is to be the same everywhere. */
char *sim_getenv(const char *name);
char *sim_getenv(const char *name)
{
    static char push[] = "1", ask[] = "0";
    if (combine_path && !strcmp(name, "SY_COMBINE_PATH"))
        return push;
    return route_asks && !strcmp(name, "SY_ROUTE_WORDS") ? ask : NULL;
}

/* base/process.h: every rank is a process of its own. */
int sy_process_name(uint8_t name[16]);
int sy_process_name(uint8_t name[16])
{
    memset(name, 0, 16);
    name[0] = (uint8_t)sim_current->rank;
    name[1] = (uint8_t)(sim_current->rank >> 8);
    return 0;
}

static const struct sy_os sim_os = {
    .alloc = sim_alloc,
    .map = sim_map,
    .unmap = sim_unmap,
    .protect = mprotect,
    .memfd = sim_memfd,
    .resize = sim_resize,
    .seal = sim_seal,
    .sealed_bytes = sim_sealed_bytes,
    .socket = sim_socket,
    .bind = sim_bind,
    .listen = sim_listen,
    .accept = sim_accept,
    .connect = sim_connect,
    .send = sim_send,
    .recv = sim_recv,
    .sendmsg = sim_sendmsg,
    .recvmsg = sim_recvmsg,
    .poll = sim_poll,
    .pipe = sim_pipe,
    .set_option = set_option,
    .get_option = sim_get_option,
    .socket_name = sim_socket_name,
    .interfaces = interfaces,
    .read_file = read_file,
    .at_fork = at_fork,
    .random = random_bytes,
    .thread = sim_thread,
    .free = free,
    .close = close_heap,
    .free_interfaces = free_interfaces,
    .now_ns = now_ns,
    .sleep_ns = sleep_ns,
    .user = user,
    .parent = parent,
};

const struct sy_os *sy_os = &sim_os;

void sim_system_open(uint64_t seed, uint32_t ranks, int path, int asks)
{
    combine_path = path;
    route_asks = asks;
    random_numbers = sy_prng_make(seed, 2);
    rank_count = ranks;
    in_round = calloc(ranks, 1);
    SY_ASSERT(in_round);
    sim_sockets_open(ranks);
}

void sim_system_close(void)
{
    sim_sockets_close();
    free(in_round);
    in_round = NULL;
    rank_count = 0;
}
