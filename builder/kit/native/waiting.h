// Included before ggml-cpu.c, whose threads wait for each other after every operation by spinning. While a processor is
// busy with something else, the thread that is waited for stands in its queue, and the others, spinning, keep the
// scheduler from moving it to theirs: a busy neighbour makes generation ten times slower. So who has waited for longer
// than a quiet machine ever makes it wait lies down for a moment, and its processor is free.
//
// `_mm_pause` is what that file does while it waits, and nothing else (x86).
#pragma once

#include <immintrin.h>
#include <stdint.h>
#include <time.h>
#include <x86intrin.h>

// In cycles of the time stamp counter, which counts two to four thousand million of them a second.
#define MKLLM_SAME 20000u      // calls that are not further apart belong to one wait
#define MKLLM_PATIENCE 600000u  // a fifth of a millisecond, or somewhat more
#define MKLLM_LONG 60000000u   // 20 milliseconds: no operation is waited for, but a request

static inline void mkllm_wait(void) {
    static _Thread_local uint64_t begin = 0, last = 0;
    const uint64_t now = __rdtsc();
    if (now - last > MKLLM_SAME) {
        begin = now;
    }
    if (now - begin > MKLLM_PATIENCE) {
        const struct timespec moment = { 0, now - begin > MKLLM_LONG ? 1000000 : 1000 };
        nanosleep(&moment, NULL);
        last = __rdtsc();
        return;
    }
    last = now;
    _mm_pause();
}

#define _mm_pause mkllm_wait
