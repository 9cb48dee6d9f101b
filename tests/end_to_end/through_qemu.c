/* Preloaded into an emulated program: what it starts is emulated too. Without this the kernel would run that on the real processor.
 * THROUGH_QEMU is the emulator; which processor it plays, QEMU_CPU says. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

typedef int execute(const char *, char *const[], char *const[]);

int execve(const char *path, char *const words[], char *const environment[])
{
    execute *real = (execute *)dlsym(RTLD_NEXT, "execve");
    char *qemu = getenv("THROUGH_QEMU");
    int count = 0;
    if (access(path, X_OK) != 0)
        return -1; /* as the kernel would have said; the emulator would say it too late */
    while (words[count])
        count++;
    char *emulated[count + 4];
    emulated[0] = qemu;
    emulated[1] = "-0";
    emulated[2] = words[0];
    emulated[3] = (char *)path;
    for (int i = 1; i <= count; i++)
        emulated[3 + i] = words[i];
    return real(qemu, emulated, environment);
}
