/* fiber.h - stacks that a thread switches between. A fiber runs on the thread that resumes it. */
#ifndef SY_RT_FIBER_H
#define SY_RT_FIBER_H

#include <stddef.h>

#if !defined(__x86_64__) && !defined(__aarch64__)
#define SY_FIBER_UCONTEXT 1
#include <ucontext.h>
#endif

/* Room for a kernel's deepest warp under sanitizers; pages are taken when touched. */
#define SY_FIBER_STACK_BYTES (256u * 1024u)

struct sy_fiber {
    void *sp; /* where it was left */
    void *stack;
    size_t stack_bytes;
    void (*run)(void *context); /* must not return: its last act is a switch */
    void *context;
#if defined(SY_FIBER_UCONTEXT)
    ucontext_t uc;
#endif
    void *fake_stack; /* AddressSanitizer's */
    void *tsan;       /* ThreadSanitizer's  */
};

/* A thread's own stack as a fiber, to switch away from and back to. */
void sy_fiber_adopt(struct sy_fiber *self);

/* Takes a stack with a guard page below it. 0, or -1 without memory. */
int sy_fiber_open(struct sy_fiber *fiber);
void sy_fiber_close(struct sy_fiber *fiber);

/* The next switch to it calls run(context). */
void sy_fiber_start(struct sy_fiber *fiber, void (*run)(void *), void *context);

/* Leaves `from`, which is running, and goes on with `to`. `ends`: from will not run again before
 * its next start. */
void sy_fiber_switch(struct sy_fiber *from, struct sy_fiber *to, int ends);

#endif
