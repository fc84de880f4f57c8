/* Requests to stop (TERM, USR1, and INT from a keyboard): a handler only sets a flag, which the
 * loop reads once a step so that all workers stop at one agreed step. */
#ifndef CROCUTA_TRAIN_SIGNALS_H
#define CROCUTA_TRAIN_SIGNALS_H

/* From now on the signals set the flag. A second INT ends the process at once. */
void signals_watch(void);
/* The signal that came last, 0: none. */
int signals_seen(void);
/* "TERM", "USR1", "INT" */
const char *signals_name(int number);

#endif
