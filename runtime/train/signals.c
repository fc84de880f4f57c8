/* Signals: see signals.h. */
#include "runtime/train/signals.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

static atomic_int seen;

static sigset_t requests(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGINT);
    return set;
}

/* Threads that MPI started before we could block anything: whatever reaches one of those goes the
 * same way. */
static void note(int number)
{
    atomic_store(&seen, number);
}

/* Waits for requests as long as the process lives. Whoever asks a second time from the keyboard
 * means it. */
static void *take(void *unused)
{
    (void)unused;
    const sigset_t set = requests();
    for (;;) {
        int number = 0;
        if (sigwait(&set, &number) != 0)
            continue;
        if (number == SIGINT && atomic_load(&seen) == SIGINT) {
            sigset_t one;
            sigemptyset(&one);
            sigaddset(&one, SIGINT);
            signal(SIGINT, SIG_DFL);
            raise(SIGINT);
            pthread_sigmask(SIG_UNBLOCK, &one, NULL);
        }
        atomic_store(&seen, number);
    }
    return NULL;
}

status signals_watch(void)
{
    static bool watching;
    if (watching)
        return STATUS_OK;
    const sigset_t set = requests();
    struct sigaction action = {.sa_handler = note, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    pthread_t thread;
    int error = pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (error == 0)
        error = pthread_create(&thread, NULL, take, NULL);
    if (error != 0)
        return fail(STATUS_RESOURCE, "signals: the system gives no thread (%s); look at ulimit -u",
                    strerror(error));
    pthread_detach(thread);
    watching = true;
    return STATUS_OK;
}

void signals_pass_on(int number)
{
    atomic_store(&seen, number);
}

int signals_seen(void)
{
    return atomic_load(&seen);
}

const char *signals_name(int number)
{
    return number == SIGTERM   ? "TERM"
           : number == SIGUSR1 ? "USR1"
           : number == SIGINT  ? "INT"
                               : "signal";
}
