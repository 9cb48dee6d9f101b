// Included before ggml-cpu.c, whose threads wait for each other after every operation by spinning. While a processor is
// busy with something else, the thread that is waited for stands in its queue, and the others, spinning, keep the
// scheduler from moving it to theirs: a busy neighbour makes generation ten times slower and more. So who has waited for
// longer than a quiet machine ever makes it wait lies down for a moment, and its processor is free. And each thread asks
// for short turns (Linux 6.12 and later): one that gets up is let in before others have finished their long ones.
//
// What that file does while it waits, and nothing else, is `_mm_pause` on x86; on ARM a function of its own, of which every
// call becomes ours, by the empty brackets that its definition does not have.
#pragma once

#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifdef __x86_64__
#include <immintrin.h>
#include <x86intrin.h>

enum { MKLLM_SET_SCHEDULE = 314, MKLLM_GET_SCHEDULE = 315 };

static inline uint64_t mkllm_ticks(void) {
    return __rdtsc();
}

// The time stamp counter counts two to four thousand million a second.
static inline uint64_t mkllm_ticks_of_a_millisecond(void) {
    return 3000000;
}

static inline void mkllm_relax(void) {
    _mm_pause();
}
#else  // aarch64
enum { MKLLM_SET_SCHEDULE = 274, MKLLM_GET_SCHEDULE = 275 };

static inline uint64_t mkllm_ticks(void) {
    uint64_t ticks;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
}

static inline uint64_t mkllm_ticks_of_a_millisecond(void) {
    uint64_t frequency;
    __asm__("mrs %0, cntfrq_el0" : "=r"(frequency));
    return frequency / 1000;
}

static inline void mkllm_relax(void) {
    __asm__ volatile("yield" ::: "memory");
}
#endif

// In parts of a millisecond.
#define MKLLM_SAME 150     // calls that are not further apart than a part of so many belong to one wait
#define MKLLM_PATIENCE 5   // the same, for when it lies down
#define MKLLM_LONG 20      // milliseconds: no operation is waited for, but a request
#define MKLLM_TURN 100000u // nanoseconds

// struct sched_attr of sched_setattr(2), which has no wrapper in the C library.
struct mkllm_schedule {
    uint32_t size, policy;
    uint64_t flags;
    int32_t  nice;
    uint32_t priority;
    uint64_t turn, deadline, period;
};

// Once for each thread. Only for the usual policy, everything else of which stays; what the kernel does not know it ignores.
static inline void mkllm_take_short_turns(void) {
    struct mkllm_schedule schedule = { .size = sizeof schedule };
    if (syscall(MKLLM_GET_SCHEDULE, 0, &schedule, sizeof schedule, 0) == 0 && schedule.policy == 0) {
        schedule.size = sizeof schedule;
        schedule.turn = MKLLM_TURN;
        syscall(MKLLM_SET_SCHEDULE, 0, &schedule, 0);
    }
}

static inline void mkllm_wait(void) {
    static _Thread_local uint64_t begin = 0, last = 0;
    const uint64_t now = mkllm_ticks(), millisecond = mkllm_ticks_of_a_millisecond();
    if (!last) {
        mkllm_take_short_turns();
    }
    if (now - last > millisecond / MKLLM_SAME) {
        begin = now;
    }
    if (now - begin > millisecond / MKLLM_PATIENCE) {
        const struct timespec moment = { 0, now - begin > millisecond * MKLLM_LONG ? 1000000 : 1000 };
        nanosleep(&moment, NULL);
        last = mkllm_ticks();
        return;
    }
    last = now;
    mkllm_relax();
}

#ifdef __x86_64__
#define _mm_pause mkllm_wait
#else
#define ggml_thread_cpu_relax(nothing) MKLLM_RELAX_##nothing
#define MKLLM_RELAX_ mkllm_wait()
#define MKLLM_RELAX_void mkllm_relax_without_end(void)
#endif
