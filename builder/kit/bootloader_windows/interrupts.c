/* Ctrl-C and what else ends a program of the console, kept back while files are written, so that none of them is left behind. */

#include "entry.h"

enum { LAST_MILLISECONDS = 10000 }; /* Windows itself waits for five seconds */

static volatile LONG code;

static BOOL WINAPI keep(DWORD event)
{
    bool lasting = event == CTRL_C_EVENT || event == CTRL_BREAK_EVENT;
    InterlockedExchange(&code, event == CTRL_C_EVENT ? EXIT_INTERRUPTED : EXIT_TERMINATED);
    if (!lasting) /* where the console goes Windows ends the program when this returns */
        Sleep(LAST_MILLISECONDS);
    return TRUE;
}

void interrupts_hold(void)
{
    SetConsoleCtrlHandler(keep, TRUE);
}

bool interrupts_pending(void)
{
    return code != 0;
}

/* Ends here if one came meanwhile. */
void interrupts_release(void)
{
    SetConsoleCtrlHandler(keep, FALSE);
    if (code)
        ExitProcess((UINT)code);
}
