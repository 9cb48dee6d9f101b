// How a thread that waits for long lies down (waiting.h). Each thread also asks for short turns (Linux 6.12 and later): one
// that gets up is let in before others have finished their long ones.
#pragma once

#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MKLLM_TURN 100000u  // nanoseconds

#ifdef __x86_64__
enum { MKLLM_SET_SCHEDULE = 314, MKLLM_GET_SCHEDULE = 315 };
#else  // aarch64
enum { MKLLM_SET_SCHEDULE = 274, MKLLM_GET_SCHEDULE = 275 };
#endif

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

static inline void mkllm_lie_down(int is_long) {
    const struct timespec moment = { 0, is_long ? 1000000 : 1000 };
    nanosleep(&moment, NULL);
}
