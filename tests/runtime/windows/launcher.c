// An engine for tests on Windows: runs fake_engine.py, by the Python and the script that the environment names, with what it
// inherited itself, and ends as it does. Without a C library, which zig would first compile.
#include <windows.h>

static WCHAR line[32768], python[1024], script[1024];
static STARTUPINFOW startup = {.cb = sizeof startup, .dwFlags = STARTF_USESTDHANDLES};

void start(void) {
    GetEnvironmentVariableW(L"FAKE_PYTHON", python, 1024);
    GetEnvironmentVariableW(L"FAKE_SCRIPT", script, 1024);
    const WCHAR * words = GetCommandLineW();
    const WCHAR end = *words == L'"' ? L'"' : L' ';
    for (words++; *words && *words != end; words++) {
    }
    words += *words == L'"';
    lstrcatW(lstrcatW(lstrcatW(line, L"\""), python), L"\" -X utf8 \"");
    lstrcatW(lstrcatW(lstrcatW(line, script), L"\""), words);
    startup.hStdInput  = GetStdHandle(STD_INPUT_HANDLE);
    startup.hStdOutput = GetStdHandle(STD_OUTPUT_HANDLE);
    startup.hStdError  = GetStdHandle(STD_ERROR_HANDLE);
    PROCESS_INFORMATION child;
    if (!CreateProcessW(python, line, NULL, NULL, TRUE, DETACHED_PROCESS, NULL, NULL, &startup, &child)) {
        ExitProcess(120);
    }
    WaitForSingleObject(child.hProcess, INFINITE);
    DWORD code = 121;
    GetExitCodeProcess(child.hProcess, &code);
    ExitProcess(code);
}
