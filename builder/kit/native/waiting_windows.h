// How a thread that waits for long lies down (waiting.h). Windows knows no pause between none and the next tick of its clock,
// so the processor is given to whoever waits for it, and for longer only when no operation is waited for.
#pragma once

#define WIN32_LEAN_AND_MEAN
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>

static inline void mkllm_take_short_turns(void) {}

static inline void mkllm_lie_down(int is_long) {
    if (is_long) {
        Sleep(1);
    } else {
        SwitchToThread();
    }
}
