/* One failure record a thread: what `fail` wrote last. */
#include "runtime/core/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local failure last;

/* A name from a file must not move the cursor or start a second line. */
static void escape_controls(char *to, size_t size, const char *from)
{
    size_t n = 0;
    for (; *from && n + 5 < size; from++) {
        unsigned char c = (unsigned char)*from;
        if (c < 0x20 || c == 0x7f)
            n += (size_t)snprintf(to + n, size - n, "\\x%02x", c);
        else
            to[n++] = *from;
    }
    to[n] = '\0';
}

status fail_at(const char *source, int line, status code, const char *format, ...)
{
    char raw[FAILURE_TEXT];
    va_list args;
    va_start(args, format);
    vsnprintf(raw, sizeof raw, format, args);
    va_end(args);
    last.code = code;
    last.agreed = false;
    last.source = source;
    last.source_line = line;
    escape_controls(last.text, sizeof last.text, raw);
    return code;
}

const failure *failure_last(void)
{
    return &last;
}

status failure_set(const failure *f)
{
    if (f != &last)
        memcpy(&last, f, sizeof last);
    return last.code;
}
