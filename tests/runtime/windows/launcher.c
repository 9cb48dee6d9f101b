// An engine for tests on Windows: runs fake_engine.py, by the Python and the script that the environment names, with what it
// inherited itself, and ends as it does.
#include <windows.h>
#include <wchar.h>

int main(void) {
    static wchar_t line[32768], python[1024], script[1024];
    GetEnvironmentVariableW(L"FAKE_PYTHON", python, 1024);
    GetEnvironmentVariableW(L"FAKE_SCRIPT", script, 1024);
    const wchar_t * words = GetCommandLineW();
    words = *words == L'"' ? wcschr(words + 1, L'"') + 1 : wcspbrk(words, L" ");
    swprintf(line, 32768, L"\"%ls\" -X utf8 \"%ls\"%ls", python, script, words ? words : L"");
    STARTUPINFOW startup = {.cb = sizeof startup, .dwFlags = STARTF_USESTDHANDLES};
    startup.hStdInput  = GetStdHandle(STD_INPUT_HANDLE);
    startup.hStdOutput = GetStdHandle(STD_OUTPUT_HANDLE);
    startup.hStdError  = GetStdHandle(STD_ERROR_HANDLE);
    PROCESS_INFORMATION child;
    if (!CreateProcessW(python, line, NULL, NULL, TRUE, DETACHED_PROCESS, NULL, NULL, &startup, &child)) {
        return 120;
    }
    WaitForSingleObject(child.hProcess, INFINITE);
    DWORD code = 121;
    GetExitCodeProcess(child.hProcess, &code);
    TerminateProcess(GetCurrentProcess(), code);
    return 0;
}
