// Included before ggml-cpu.c, whose threads wait for each other after every operation by spinning. While a processor is
// busy with something else, the thread that is waited for stands in its queue, and the others, spinning, keep the
// scheduler from moving it to theirs: a busy neighbour makes generation ten times slower and more. So who has waited for
// longer than a quiet machine ever makes it wait lies down for a moment, and its processor is free; how, is said for each
// system in a file of its own.
//
// What that file does while it waits, and nothing else, is `_mm_pause` on x86; on ARM a function of its own, of which every
// call becomes ours, by the empty brackets that its definition does not have.
#pragma once

#include <stdint.h>

#ifdef _WIN32
#include "waiting_windows.h"
#else
#include "waiting_linux.h"
#endif

#ifdef __x86_64__
#include <immintrin.h>
#include <x86intrin.h>

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
#define MKLLM_SAME 150   // calls that are not further apart than a part of so many belong to one wait
#define MKLLM_PATIENCE 5 // the same, for when it lies down
#define MKLLM_LONG 20    // milliseconds: no operation is waited for, but a request

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
        mkllm_lie_down(now - begin > millisecond * MKLLM_LONG);
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
