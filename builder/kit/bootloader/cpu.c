/* What the processor says that it can do, for the runtime (spec/launch.md, 1.7). The kernel's list, /proc/cpuinfo, is the wrong one
 * where one program is emulated on another processor, and is missing where /proc is. */

#include <stdio.h>

#include "entry.h"

#ifdef __x86_64__
#include <cpuid.h>

enum { OSXSAVE = 1 << 27 };

/* Which registers the operating system saves: without that the features that use them are not to be used. */
static unsigned saved_registers(unsigned features)
{
    unsigned low = 0, high;
    if (features & OSXSAVE)
        __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

bool cpu_describe(char *text, size_t size)
{
    unsigned first[4] = {0}, seventh[4] = {0}, more[4] = {0};
    if (!__get_cpuid(1, &first[0], &first[1], &first[2], &first[3]))
        return false;
    if (__get_cpuid_count(7, 0, &seventh[0], &seventh[1], &seventh[2], &seventh[3]) && seventh[0] >= 1)
        __get_cpuid_count(7, 1, &more[0], &more[1], &more[2], &more[3]);
    snprintf(text, size, "%x,%x,%x,%x,%x,%x", first[2], seventh[1], seventh[2], seventh[3], more[0],
             saved_registers(first[2]));
    return true;
}
#elif defined(__aarch64__)
#include <sys/auxv.h>

#ifndef AT_HWCAP2
#define AT_HWCAP2 26
#endif

/* An emulator of one program answers this, too, for the processor that it plays. */
bool cpu_describe(char *text, size_t size)
{
    snprintf(text, size, "%lx,%lx", getauxval(AT_HWCAP), getauxval(AT_HWCAP2));
    return true;
}
#else
bool cpu_describe(char *text, size_t size)
{
    (void)text, (void)size;
    return false;
}
#endif
