/* Errors are values. A function that can fail returns a `status`; the text of what failed is kept
 * beside it, one record a thread, and travels up unchanged until a program prints it. The numbers
 * are the exit codes that users and their scripts see. */
#ifndef CROCUTA_CORE_STATUS_H
#define CROCUTA_CORE_STATUS_H

#include <stdbool.h>

typedef enum {
    STATUS_OK = 0,
    STATUS_INTERNAL = 1, /* a fault of ours, or a NaN that stayed after retries */
    STATUS_USAGE = 2,    /* command line or configuration */
    STATUS_DATA = 3,     /* input data: missing, damaged, wrong build, unphased, low overlap */
    STATUS_RESOURCE = 4, /* memory, GPU, disk */
    STATUS_RANK = 5,     /* a rank, a device or a collective failed */
    STATUS_STOPPED = 75, /* stopped on request with a checkpoint committed: requeue */
} status;

#define STATUS_MEMORY STATUS_RESOURCE
#define STATUS_DEVICE STATUS_RANK

#define FAILURE_TEXT 1024 /* bytes of a message, the terminating zero included */

/* What a failed call leaves behind. */
typedef struct {
    status code;
    bool agreed; /* every rank of the job knows this failure (comm_agree): one rank prints it */
    const char *source; /* source file and line of ours that noticed, for debugging */
    int source_line;
    char text[FAILURE_TEXT]; /* "FILE[:LINE]: what; what to do", without the program's name */
} failure;

/* Records a failure of this thread and returns `code`. The text has the form of the contract:
 * "FILE[:LINE]: what happened; what to do next". Control characters in it are shown as \xNN. */
#define fail(code, ...) fail_at(__FILE__, __LINE__, (code), __VA_ARGS__)
status fail_at(const char *source, int line, status code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The last failure of this thread (code STATUS_OK where none was recorded). Never NULL. */
const failure *failure_last(void);

/* Puts a failure from another thread or rank in this thread's place; returns its code. */
status failure_set(const failure *f);

/* Returns from the calling function where the expression is not STATUS_OK. For functions that own
 * nothing yet; where something must be released, use `if (st != STATUS_OK) goto cleanup`. */
#define TRY(expression)                                                                            \
    do {                                                                                           \
        status try_status_ = (expression);                                                         \
        if (try_status_ != STATUS_OK)                                                              \
            return try_status_;                                                                    \
    } while (0)

/* The same with one clean-up label; `st` is the function's status variable. */
#define TRY_GOTO(label, expression)                                                                \
    do {                                                                                           \
        st = (expression);                                                                         \
        if (st != STATUS_OK)                                                                       \
            goto label;                                                                            \
    } while (0)

#endif
