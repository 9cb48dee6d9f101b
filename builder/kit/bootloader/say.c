/* Messages: every failure of the entry is one sentence, written at once, that begins with the program's name. */

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "entry.h"

static char program[256] = "mkllm";

static const char *last_part(const char *path)
{
    const char *slash = path ? strrchr(path, '/') : NULL;
    return slash ? slash + 1 : path;
}

/* The name to answer by: as it was called, else the file's own. */
void say_name(const char *argv0, const char *file)
{
    const char *called = last_part(argv0), *own = last_part(file);
    const char *name = called && *called ? called : own && *own ? own : program;
    if (name != program)
        snprintf(program, sizeof program, "%s", name);
}

_Noreturn void fail(int code, const char *format, ...)
{
    char text[8192];
    int used = snprintf(text, sizeof text, "%s: ", program);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + used, sizeof text - (size_t)used - 1, format, arguments);
    va_end(arguments);
    size_t length = strlen(text);
    text[length] = '\n';
    ssize_t written = write(STDERR_FILENO, text, length + 1);
    (void)written; /* there is nobody else to tell */
    _exit(code);
}
