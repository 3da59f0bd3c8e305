/* bench_verify.h - a case against the reference, bit for bit. */
#ifndef SY_TOOLS_BENCH_VERIFY_H
#define SY_TOOLS_BENCH_VERIFY_H

#include "bench_measure.h"

struct verdict {
    int32_t verified[BENCH_OPS]; /* 1: right on all ranks; 0: not; -1: was not run             */
    char text[VERDICT_TEXT];     /* what was wrong first, or empty                             */
    uint64_t hash;               /* of what this rank was given                                */
};

/* Runs each operation of the case once and compares all that it gives with the reference.
 * Collective; every rank comes to the same verdict. */
int verify_before(struct bed *bed, struct verdict *v);

/* After the timing: is what the last operations gave the same as what was compared? */
int verify_after(struct bed *bed, struct verdict *v);

#endif
