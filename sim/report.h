/* report.h - violations, and what is printed about them: the last events and where everyone stood.
 */
#ifndef SIM_REPORT_H
#define SIM_REPORT_H

#include <stdint.h>

/* What was violated; the names are those of docs/SIMULATOR.md. */
enum sim_check {
    SIM_CHECK_NONE,
    SIM_CHECK_RESULT,  /* differs from the reference                          */
    SIM_CHECK_RACE,    /* two accesses without an order                       */
    SIM_CHECK_OWNER,   /* a write where the writer owns nothing in this round */
    SIM_CHECK_STALE,   /* a read of bytes of another round, or never written  */
    SIM_CHECK_BOUNDS,  /* an access outside of any object                     */
    SIM_CHECK_COPY,    /* a bulk copy or a gate used against its rules        */
    SIM_CHECK_SIGNAL,  /* a signal or an epoch that went back                 */
    SIM_CHECK_CLEAN,   /* heap or private memory not as the protocol promises */
    SIM_CHECK_LIVE,    /* somebody waits for ever, or nobody can run          */
    SIM_CHECK_VERDICT, /* live ranks disagree about a fault, or it is wrong   */
    SIM_CHECK_STATUS,  /* a call gave another status than it should           */
    SIM_CHECK_ALLOC,   /* memory was allocated during a round                 */
    SIM_CHECK_HOST,    /* threads or system calls used against their rules    */
    SIM_CHECK_CRASH,   /* the process died                                    */
    SIM_CHECKS
};

extern const char *const sim_check_names[SIM_CHECKS];

/* The first violation of this world. */
struct sim_violation {
    enum sim_check check;
    char text[600];
};
extern struct sim_violation sim_violation;

void sim_report_open(int verbose);

/* Notes a violation. Inside a task the world ends here and this does not return. */
void sim_violate(enum sim_check check, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Events: the last ones are printed after a violation, all of them if verbose. `what` is static
 * text, `at` an address or 0. */
void sim_event(const char *what, const void *at, uint64_t value);

/* A hash of all events so far. */
uint64_t sim_event_digest(void);

/* The violation, the last events, and where everyone stood. */
void sim_report_print(void);

/* Where an address lies: "rank 1 heap td_rows+128". */
#define SIM_WHERE 96
const char *sim_where(const void *at, char text[SIM_WHERE]);

#endif
