/* Requests to stop (TERM, USR1, and INT from a keyboard): a thread of their own takes them and sets
 * a flag, which the loop reads once a step so that all workers stop at one agreed step.
 *
 * No handler ever runs on a thread that computes: product kernels of oneDNN 2.6 keep data below the
 * stack pointer, further than a handler's frame leaves alone, and a signal at such a moment
 * destroyed the heap (tests/test_signals.c). */
#ifndef CROCUTA_TRAIN_SIGNALS_H
#define CROCUTA_TRAIN_SIGNALS_H

#include "runtime/core/status.h"

/* Blocks the signals in this thread, and in all that it starts from here on: call before the first
 * thread is started (device_open, the loader). From now on they set the flag; a second INT ends the
 * process at once. Calling it again changes nothing. */
status signals_watch(void);
/* As if that signal had come: a request that reached another rank. */
void signals_pass_on(int number);
/* The signal that came last, 0: none. */
int signals_seen(void);
/* "TERM", "USR1", "INT" */
const char *signals_name(int number);

#endif
