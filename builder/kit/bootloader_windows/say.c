/* Messages: every failure of the entry is one sentence, written at once, that begins with the program's name. The window that
 * would close with it, after a double click, waits for a key. */

#include <conio.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "entry.h"

enum { LONGEST = 8192 };

static char program[MAX_PATH * 4] = "mkllm";

/* The name to answer by is the file's own. */
void say_name(const wchar_t *file)
{
    char name[sizeof program];
    const wchar_t *slash = wcsrchr(file, L'\\');
    if (text_utf8(name, sizeof name, slash ? slash + 1 : file) && *name)
        strcpy(program, name);
}

/* A console has UTF-16, everything else UTF-8. Where there is nobody to tell, nothing is told. */
static void say(const char *text)
{
    static wchar_t wide[LONGEST];
    HANDLE error = GetStdHandle(STD_ERROR_HANDLE);
    DWORD mode, written;
    int length = MultiByteToWideChar(CP_UTF8, 0, text, -1, wide, LONGEST);
    if (GetConsoleMode(error, &mode) && length > 0)
        WriteConsoleW(error, wide, (DWORD)length - 1, &written, NULL);
    else
        WriteFile(error, text, (DWORD)strlen(text), &written, NULL);
}

static bool owns_window(void)
{
    DWORD mode, pid;
    return GetConsoleMode(GetStdHandle(STD_INPUT_HANDLE), &mode) && GetConsoleMode(GetStdHandle(STD_ERROR_HANDLE), &mode) &&
           GetConsoleProcessList(&pid, 1) == 1;
}

_Noreturn void fail(int code, const char *format, ...)
{
    static char text[LONGEST];
    int used = snprintf(text, sizeof text, "%s: ", program);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + used, sizeof text - (size_t)used - 3, format, arguments);
    va_end(arguments);
    strcat(text, "\r\n");
    say(text);
    if (owns_window()) {
        say("Press any key to close this window.\r\n");
        _getwch();
    }
    ExitProcess((UINT)code);
}
