/* The guardian: this program once more, with nothing to do but to wait until the process that has started it has ended, in whatever
 * way, and then to remove that one's temporary home. A process cannot remove the libraries that it runs from itself. */

#include <stdio.h>
#include <stdlib.h>

#include "entry.h"

enum { ATTEMPTS = 10 }; /* of two seconds each: engines end after the program that has started them */

static const wchar_t process_variable[] = L"MKLLM_GUARDED_PROCESS", home_variable[] = L"MKLLM_GUARDED_HOME";

/* Whether the folder's name is exactly `mkllm-<process number>-<six hexadecimal digits>`. */
bool is_temporary(const wchar_t *path)
{
    const wchar_t *slash = wcsrchr(path, L'\\'), *name = slash ? slash + 1 : path;
    if (wcsncmp(name, L"mkllm-", 6) != 0)
        return false;
    size_t digits = wcsspn(name + 6, L"0123456789");
    const wchar_t *rest = name + 6 + digits;
    return digits > 0 && *rest == L'-' && wcsspn(rest + 1, L"0123456789abcdef") == 6 && rest[7] == 0;
}

/* It inherits the one handle and nothing else, so that it keeps no pipe open. */
static bool start(const wchar_t *program, HANDLE process)
{
    wchar_t buffer[LONGEST_PATH];
    STARTUPINFOEXW startup = {.StartupInfo = {.cb = sizeof startup}};
    PROCESS_INFORMATION started;
    SIZE_T size = 0;
    InitializeProcThreadAttributeList(NULL, 1, 0, &size);
    startup.lpAttributeList = malloc(size);
    bool ready = startup.lpAttributeList && InitializeProcThreadAttributeList(startup.lpAttributeList, 1, 0, &size) &&
                 UpdateProcThreadAttribute(startup.lpAttributeList, 0, PROC_THREAD_ATTRIBUTE_HANDLE_LIST, &process,
                                           sizeof process, NULL, NULL);
    DWORD flags = DETACHED_PROCESS | CREATE_NEW_PROCESS_GROUP | EXTENDED_STARTUPINFO_PRESENT;
    wchar_t words[] = L"mkllm-guardian";
    if (!ready || !CreateProcessW(path_long(buffer, program), words, NULL, NULL, TRUE, flags, NULL, NULL,
                                  &startup.StartupInfo, &started))
        return false;
    CloseHandle(started.hThread);
    CloseHandle(started.hProcess);
    return true;
}

/* Where it cannot be started the home is removed by a later launch. */
void guardian_start(const wchar_t *program, const wchar_t *home)
{
    wchar_t number[32];
    HANDLE process, self = GetCurrentProcess();
    if (!DuplicateHandle(self, self, self, &process, SYNCHRONIZE, TRUE, 0))
        return;
    swprintf(number, sizeof number / sizeof *number, L"%llu", (unsigned long long)(uintptr_t)process);
    SetEnvironmentVariableW(process_variable, number);
    SetEnvironmentVariableW(home_variable, home);
    start(program, process);
    SetEnvironmentVariableW(process_variable, NULL);
    SetEnvironmentVariableW(home_variable, NULL);
    CloseHandle(process);
}

/* Does the guardian's work, and ends, where this process was started as one. */
void guardian_run_if_asked(void)
{
    wchar_t number[32], home[LONGEST_PATH];
    DWORD digits = GetEnvironmentVariableW(process_variable, number, sizeof number / sizeof *number);
    DWORD length = GetEnvironmentVariableW(home_variable, home, LONGEST_PATH);
    if (!digits || digits >= sizeof number / sizeof *number || !length || length >= LONGEST_PATH)
        return;
    WaitForSingleObject((HANDLE)(uintptr_t)wcstoull(number, NULL, 10), INFINITE);
    for (int attempt = 0; attempt < ATTEMPTS && is_temporary(home) && !tree_remove(home); attempt++) {
    }
    ExitProcess(0);
}
