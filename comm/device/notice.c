/* What ranks tell one another when something is wrong, by small MPI messages beside the GPUs: a
 * failure reaches those who would wait for ever, and a rank whose deadline has passed asks the
 * others how far they are, so that its line names who is missing. */
#include "comm/device/device.h"

#include "runtime/core/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOTICE_TAG 20300 /* of comm_post; the coordinator's are below 100 */
#define ANSWER_S 1.0     /* a rank that waits answers within milliseconds */

enum { NOTICE_FAILED, NOTICE_ASK, NOTICE_ANSWER };

typedef struct {
    int32_t kind, code;
    int64_t asked; /* exchanges that the sender has asked for */
    char phase[64];
    char text[FAILURE_TEXT];
} notice;

static status post(comm_device *c, int to, int kind, const char *text)
{
    notice n = {.kind = kind, .code = failure_last()->code, .asked = c->asked};
    snprintf(n.text, sizeof n.text, "%s", text);
    return comm_post(c->group, to, NOTICE_TAG, &n, sizeof n);
}

static status post_all(comm_device *c, int kind, const char *text)
{
    for (int r = 0; r < c->size; r++)
        if (r != c->rank)
            TRY(post(c, r, kind, text));
    return STATUS_OK;
}

status notice_tell(comm_device *c)
{
    const failure why = *failure_last();
    return post_all(c, NOTICE_FAILED, why.text);
}

/* Another rank's failure becomes ours, once: the first cause is told, not its echoes. */
static status heard(comm_device *c, const char *phase, int from, const notice *n)
{
    if (strncmp(n->text, "rank ", 5) == 0) /* it names its rank itself */
        return fail(STATUS_RANK, "%s", n->text);
    return fail(STATUS_RANK, "rank %d on %s: %s: %s", from, c->hosts[from], phase, n->text);
}

/* seen: (size) what others have asked for, -1 unknown; or NULL. */
static status look(comm_device *c, const char *phase, int64_t *seen)
{
    notice n;
    for (;;) {
        int from;
        size_t bytes;
        TRY(comm_poll(c->group, &from, NOTICE_TAG, &n, sizeof n, &bytes));
        if (bytes == 0)
            return STATUS_OK;
        if (n.kind == NOTICE_FAILED)
            return heard(c, phase, from, &n);
        if (n.kind == NOTICE_ASK)
            TRY(post(c, from, NOTICE_ANSWER, ""));
        if (seen)
            seen[from] = n.asked;
    }
}

status notice_look(comm_device *c, const char *phase)
{
    return c->size > 1 ? look(c, phase, NULL) : STATUS_OK;
}

/* "rank 2 on a, rank 5 on b and 3 more" */
static int name_ranks(const comm_device *c, const int64_t *seen, bool silent, char *to, size_t size)
{
    int found = 0;
    size_t used = 0;
    to[0] = '\0';
    for (int r = 0; r < c->size; r++) {
        if (r == c->rank || (silent ? seen[r] >= 0 : seen[r] < 0 || seen[r] >= c->asked))
            continue;
        if (found++ < 3 && used < size)
            used += (size_t)snprintf(to + used, size - used, "%srank %d on %s",
                                     found > 1 ? ", " : "", r, c->hosts[r]);
    }
    if (found > 3 && used < size)
        snprintf(to + used, size - used, " and %d more", found - 3);
    return found;
}

static status blame(comm_device *c, const char *phase, double waited_s, const int64_t *seen)
{
    char who[400];
    if (name_ranks(c, seen, true, who, sizeof who))
        return fail(STATUS_RANK,
                    "rank %d on %s: %s: nothing came for %.3g s, and no answer from %s; see "
                    "whether it died or is stuck, or raise comm.timeout_s",
                    c->rank, comm_host(c->group), phase, waited_s, who);
    if (name_ranks(c, seen, false, who, sizeof who))
        return fail(STATUS_RANK,
                    "rank %d on %s: %s: nothing came for %.3g s; behind: %s; see what it does, or "
                    "raise comm.timeout_s",
                    c->rank, comm_host(c->group), phase, waited_s, who);
    return fail(STATUS_RANK,
                "rank %d on %s: %s: nothing came for %.3g s though all ranks are there; check the "
                "network between the GPUs with NCCL_DEBUG=INFO, or raise comm.timeout_s",
                c->rank, comm_host(c->group), phase, waited_s);
}

status notice_overdue(comm_device *c, const char *phase, double waited_s)
{
    if (c->group->timeout_s <= 0 || waited_s <= c->group->timeout_s)
        return STATUS_OK;
    int64_t *seen = malloc((size_t)c->size * sizeof *seen);
    if (!seen)
        return fail(STATUS_MEMORY, "comm: no memory for the list of ranks; use more nodes");
    for (int r = 0; r < c->size; r++)
        seen[r] = -1;
    status st = post_all(c, NOTICE_ASK, "");
    const double start_s = clock_monotonic_s();
    for (double s = 0; st == STATUS_OK && s < ANSWER_S; s = clock_monotonic_s() - start_s) {
        st = look(c, phase, seen);
        comm_pause(s);
    }
    if (st == STATUS_OK)
        st = blame(c, phase, waited_s, seen);
    free(seen);
    return st;
}
