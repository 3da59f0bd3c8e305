/* fiber.c - see fiber.h. Sections: switching, per processor | sanitizers | the functions. */
#define _GNU_SOURCE /* MAP_ANONYMOUS, MAP_STACK */
#include "fiber.h"

#include <stdint.h>
#include <sys/mman.h>

#include "base/os.h"

/* --- switching ------------------------------------------------------------------------------ */

/* sy_fiber_swap(&from->sp, to->sp): saves what the calling convention wants preserved, exchanges
 * the stacks, restores. A new fiber's stack is laid out as if it had been left by sy_fiber_swap. */
#if defined(__x86_64__)

void sy_fiber_swap(void **save, void *to);

__asm__(".text\n"
        ".p2align 4\n"
        ".hidden sy_fiber_swap\n"
        ".globl sy_fiber_swap\n"
        ".type sy_fiber_swap, @function\n"
        "sy_fiber_swap:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n"
        ".size sy_fiber_swap, . - sy_fiber_swap\n");

/* Six registers, the address to return to, and one more word so that the entry sees the stack as
 * after a call: 8 bytes off a multiple of 16. */
static void *lay_out(uint8_t *top, void (*entry)(void))
{
    uint64_t *sp = (uint64_t *)((uintptr_t)top & ~(uintptr_t)15);
    *--sp = 0;
    *--sp = (uint64_t)(uintptr_t)entry;
    for (int i = 0; i < 6; i++)
        *--sp = 0;
    return sp;
}

#elif defined(__aarch64__)

void sy_fiber_swap(void **save, void *to);

__asm__(".text\n"
        ".p2align 4\n"
        ".hidden sy_fiber_swap\n"
        ".globl sy_fiber_swap\n"
        ".type sy_fiber_swap, %function\n"
        "sy_fiber_swap:\n"
        "    sub sp, sp, #160\n"
        "    stp x19, x20, [sp, #0]\n"
        "    stp x21, x22, [sp, #16]\n"
        "    stp x23, x24, [sp, #32]\n"
        "    stp x25, x26, [sp, #48]\n"
        "    stp x27, x28, [sp, #64]\n"
        "    stp x29, x30, [sp, #80]\n"
        "    stp d8, d9, [sp, #96]\n"
        "    stp d10, d11, [sp, #112]\n"
        "    stp d12, d13, [sp, #128]\n"
        "    stp d14, d15, [sp, #144]\n"
        "    mov x9, sp\n"
        "    str x9, [x0]\n"
        "    mov sp, x1\n"
        "    ldp x19, x20, [sp, #0]\n"
        "    ldp x21, x22, [sp, #16]\n"
        "    ldp x23, x24, [sp, #32]\n"
        "    ldp x25, x26, [sp, #48]\n"
        "    ldp x27, x28, [sp, #64]\n"
        "    ldp x29, x30, [sp, #80]\n"
        "    ldp d8, d9, [sp, #96]\n"
        "    ldp d10, d11, [sp, #112]\n"
        "    ldp d12, d13, [sp, #128]\n"
        "    ldp d14, d15, [sp, #144]\n"
        "    add sp, sp, #160\n"
        "    ret\n"
        ".size sy_fiber_swap, . - sy_fiber_swap\n");

static void *lay_out(uint8_t *top, void (*entry)(void))
{
    uint64_t *sp = (uint64_t *)((uintptr_t)top & ~(uintptr_t)15) - 20;
    for (int i = 0; i < 20; i++)
        sp[i] = 0;
    sp[11] = (uint64_t)(uintptr_t)entry; /* x30 */
    return sp;
}

#endif

/* --- sanitizers ----------------------------------------------------------------------------- */

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define WITH_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__)
#define WITH_TSAN 1
#endif

#if defined(WITH_ASAN)
void __sanitizer_start_switch_fiber(void **save, const void *bottom, size_t bytes);
void __sanitizer_finish_switch_fiber(void *save, const void **bottom, size_t *bytes);
#define LEAVING(from, to, ends)                                                                    \
    __sanitizer_start_switch_fiber((ends) ? NULL : &(from)->fake_stack, (to)->stack,               \
                                   (to)->stack_bytes)
#define ARRIVED(self, came) __sanitizer_finish_switch_fiber((self)->fake_stack, (came), NULL)
#elif defined(WITH_TSAN)
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
#define LEAVING(from, to, ends) __tsan_switch_to_fiber((to)->tsan, 0)
#define ARRIVED(self, came) ((void)0)
#else
#define LEAVING(from, to, ends) ((void)0)
#define ARRIVED(self, came) ((void)0)
#endif

/* --- the functions -------------------------------------------------------------------------- */

/* The fiber that a switch has just gone to: a new one has no other way to learn who it is. */
static _Thread_local struct sy_fiber *arriving;

static void enter(void)
{
    struct sy_fiber *self = arriving;
    ARRIVED(self, NULL);
    self->run(self->context);
    __builtin_trap(); /* run() returned */
}

void sy_fiber_adopt(struct sy_fiber *self)
{
    self->sp = NULL;
    self->stack = NULL;
    self->stack_bytes = 0;
    self->fake_stack = NULL;
    self->tsan = NULL;
#if defined(WITH_TSAN)
    self->tsan = __tsan_get_current_fiber();
#endif
#if defined(WITH_ASAN)
    /* ASan wants the bounds of the stack that is switched to. */
    {
        pthread_attr_t attr;
        if (pthread_getattr_np(pthread_self(), &attr) == 0) {
            pthread_attr_getstack(&attr, &self->stack, &self->stack_bytes);
            pthread_attr_destroy(&attr);
        }
    }
#endif
}

int sy_fiber_open(struct sy_fiber *fiber)
{
    size_t bytes = SY_FIBER_STACK_BYTES, guard = 4096 * 16; /* a multiple of any page size */
    uint8_t *at = sy_os->map(NULL, bytes + guard, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1);
    fiber->stack = NULL;
    fiber->tsan = NULL;
    fiber->fake_stack = NULL;
    if (at == MAP_FAILED)
        return -1;
    if (sy_os->protect(at, guard, PROT_NONE)) {
        sy_os->unmap(at, bytes + guard);
        return -1;
    }
    fiber->stack = at + guard;
    fiber->stack_bytes = bytes;
#if defined(WITH_TSAN)
    fiber->tsan = __tsan_create_fiber(0);
#endif
    return 0;
}

void sy_fiber_close(struct sy_fiber *fiber)
{
    if (!fiber->stack)
        return;
#if defined(WITH_TSAN)
    __tsan_destroy_fiber(fiber->tsan);
#endif
    sy_os->unmap((uint8_t *)fiber->stack - 4096 * 16, fiber->stack_bytes + 4096 * 16);
    fiber->stack = NULL;
}

void sy_fiber_start(struct sy_fiber *fiber, void (*run)(void *), void *context)
{
    fiber->run = run;
    fiber->context = context;
    fiber->fake_stack = NULL;
#if defined(SY_FIBER_UCONTEXT)
    getcontext(&fiber->uc);
    fiber->uc.uc_stack.ss_sp = fiber->stack;
    fiber->uc.uc_stack.ss_size = fiber->stack_bytes;
    fiber->uc.uc_link = NULL;
    makecontext(&fiber->uc, enter, 0);
#else
    fiber->sp = lay_out((uint8_t *)fiber->stack + fiber->stack_bytes, enter);
#endif
}

void sy_fiber_switch(struct sy_fiber *from, struct sy_fiber *to, int ends)
{
    (void)ends; /* only AddressSanitizer wants to know */
    arriving = to;
    LEAVING(from, to, ends);
#if defined(SY_FIBER_UCONTEXT)
    swapcontext(&from->uc, &to->uc);
#else
    sy_fiber_swap(&from->sp, to->sp);
#endif
    ARRIVED(from, NULL);
}
