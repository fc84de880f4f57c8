/* Signals: see signals.h. */
#include "runtime/train/signals.h"

#include <signal.h>
#include <stddef.h>

/* The one thing that a handler may write. */
static volatile sig_atomic_t seen;

static void note(int number)
{
    seen = number;
}

void signals_watch(void)
{
    struct sigaction a = {.sa_handler = note, .sa_flags = SA_RESTART};
    sigemptyset(&a.sa_mask);
    sigaction(SIGTERM, &a, NULL);
    sigaction(SIGUSR1, &a, NULL);
    a.sa_flags |= (int)SA_RESETHAND;
    sigaction(SIGINT, &a, NULL);
}

int signals_seen(void)
{
    return seen;
}

const char *signals_name(int number)
{
    return number == SIGTERM   ? "TERM"
           : number == SIGUSR1 ? "USR1"
           : number == SIGINT  ? "INT"
                               : "signal";
}
