/* What a test cannot go on without: a status that says ok, or the test ends with the failure's own
 * line. */
#ifndef CROCUTA_TESTS_MUST_H
#define CROCUTA_TESTS_MUST_H

#include "runtime/core/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static inline void must(status st)
{
    if (st != STATUS_OK)
        fail_msg("%s", failure_last()->text);
}

#endif
