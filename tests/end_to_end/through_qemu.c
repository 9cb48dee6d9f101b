/* Preloaded into an emulated program: what it starts is emulated too. Without this the kernel would run that on the real processor.
 * THROUGH_QEMU is the emulator; which processor it plays, QEMU_CPU says. What is preloaded is for the emulated programs alone: the
 * emulator itself may be for another kind of processor. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int execute(const char *, char *const[], char *const[]);

int execve(const char *path, char *const words[], char *const environment[])
{
    execute *real = (execute *)dlsym(RTLD_NEXT, "execve");
    char *qemu = getenv("THROUGH_QEMU"), *preloaded = NULL;
    int count = 0, variables = 0;
    if (access(path, X_OK) != 0)
        return -1; /* as the kernel would have said; the emulator would say it too late */
    while (words[count])
        count++;
    while (environment[variables])
        variables++;
    char *outer[variables + 1], *emulated[count + 6];
    int kept = 0;
    for (int i = 0; i < variables; i++) {
        if (strncmp(environment[i], "LD_PRELOAD=", strlen("LD_PRELOAD=")) == 0)
            preloaded = environment[i];
        else
            outer[kept++] = environment[i];
    }
    outer[kept] = NULL;
    emulated[0] = qemu;
    emulated[1] = "-0";
    emulated[2] = words[0];
    emulated[3] = "-E";
    emulated[4] = preloaded ? preloaded : "LD_PRELOAD=";
    emulated[5] = (char *)path;
    for (int i = 1; i <= count; i++)
        emulated[5 + i] = words[i];
    return real(qemu, emulated, outer);
}
