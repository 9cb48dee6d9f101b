// Included before ggml-cpu.c, whose threads wait for each other after every operation by spinning. While a processor is
// busy with something else, the thread that is waited for stands in its queue, and the others, spinning, keep the
// scheduler from moving it to theirs: a busy neighbour makes generation ten times slower and more. So who has waited for
// longer than a quiet machine ever makes it wait lies down for a moment, and its processor is free. And each thread asks
// for short turns (Linux 6.12 and later): one that gets up is let in before others have finished their long ones.
//
// `_mm_pause` is what that file does while it waits, and nothing else (x86).
#pragma once

#include <immintrin.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

// In cycles of the time stamp counter, which counts two to four thousand million of them a second.
#define MKLLM_SAME 20000u       // calls that are not further apart belong to one wait
#define MKLLM_PATIENCE 600000u  // a fifth of a millisecond, or somewhat more
#define MKLLM_LONG 60000000u    // 20 milliseconds: no operation is waited for, but a request
#define MKLLM_TURN 100000u      // nanoseconds

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
    enum { SET = 314, GET = 315 };  // x86-64
    struct mkllm_schedule schedule = { .size = sizeof schedule };
    if (syscall(GET, 0, &schedule, sizeof schedule, 0) == 0 && schedule.policy == 0) {
        schedule.size = sizeof schedule;
        schedule.turn = MKLLM_TURN;
        syscall(SET, 0, &schedule, 0);
    }
}

static inline void mkllm_wait(void) {
    static _Thread_local uint64_t begin = 0, last = 0;
    const uint64_t now = __rdtsc();
    if (!last) {
        mkllm_take_short_turns();
    }
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
