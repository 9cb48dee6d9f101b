/* Signals: held back while something must not be left half done, and passed on by the guardian. */

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "entry.h"

static const int ending[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
static sigset_t before;
static bool held;

static bool is_ignored(int number)
{
    struct sigaction action;
    return sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

/* From now on signals that would end this process wait. */
void signals_hold(void)
{
    sigset_t set;
    if (held)
        return;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof ending / sizeof *ending; i++)
        sigaddset(&set, ending[i]);
    sigaddset(&set, SIGCHLD);
    held = sigprocmask(SIG_BLOCK, &set, &before) == 0;
}

void signals_release(void)
{
    if (held)
        sigprocmask(SIG_SETMASK, &before, NULL);
    held = false;
}

/* Whether one has come that will end this process when it is released. */
bool signals_pending(void)
{
    sigset_t waiting;
    sigpending(&waiting);
    for (size_t i = 0; i < sizeof ending / sizeof *ending; i++)
        if (!is_ignored(ending[i]) && sigismember(&waiting, ending[i]))
            return true;
    return false;
}

/* Waits for a signal that is held. Returns SIGCHLD, or a signal to pass on; 0 for one that came from the terminal, which
 * gives it to every process of the group itself. One that was ignored at the start (nohup, or the background of a shell) is
 * passed on too: the child may have decided otherwise. */
int signals_next(void)
{
    sigset_t set;
    siginfo_t info;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    for (size_t i = 0; i < sizeof ending / sizeof *ending; i++)
        sigaddset(&set, ending[i]);
    int number = sigwaitinfo(&set, &info);
    if (number == SIGCHLD)
        return number;
    return number > 0 && info.si_code <= 0 ? number : 0; /* above 0: sent by the kernel */
}

/* Ends this process as its child has ended: with the same status, or by the same signal. */
_Noreturn void signals_end_as(int status)
{
    if (WIFSIGNALED(status)) {
        sigset_t all;
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0}); /* the child's core is the one of interest */
        signal(WTERMSIG(status), SIG_DFL);
        kill(getpid(), WTERMSIG(status));
        sigemptyset(&all);
        sigprocmask(SIG_SETMASK, &all, NULL);
        _exit(128 + WTERMSIG(status));
    }
    _exit(WEXITSTATUS(status));
}
