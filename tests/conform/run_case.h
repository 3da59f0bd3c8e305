/* run_case.h - one rank's part of a generated case, run through the public API and compared with
 * the reference, bit for bit. */
#ifndef SY_TESTS_RUN_CASE_H
#define SY_TESTS_RUN_CASE_H

#include "cases.h"

/* What a case wants of a group. The caller adds the bootstrap. */
void run_case_config(const struct sy_case *c, int rank, sy_group_config *config);

/* Runs it `rounds` times on one route. Returns the number of differences; *text gets the first. */
int run_case(const struct sy_case *c, const struct sy_ref_route *ref, int rank, sy_group *group,
             int rounds, char text[512]);

/* An engine with memory of its own: tensors are made on the host and lent to it. put and get copy
 * to and from it. All end the program when they fail. */
struct run_engine {
    void *(*alloc)(size_t bytes); /* aligned to 256 */
    void (*free)(void *memory);
    void (*put)(void *to, const void *from, size_t bytes);
    void (*get)(void *to, const void *from, size_t bytes);
    sy_stream *stream; /* for all operations; NULL: the group's own */
};

int run_case_on(const struct run_engine *engine, const struct sy_case *c,
                const struct sy_ref_route *ref, int rank, sy_group *group, int rounds,
                char text[512]);

#endif
