/* Encodings, line ends, quotes: see labels_text.h. */
#include "io/labels_text.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static status read_whole(const char *path, unsigned char **out, size_t *n)
{
    status st = STATUS_OK;
    unsigned char *bytes = NULL;
    struct stat about;
    FILE *f = fopen(path, "rb");
    if (!f)
        return fail(STATUS_DATA, "%s: cannot be opened: %s; check the name and its permissions",
                    path, strerror(errno));
    if (fstat(fileno(f), &about) == 0 && S_ISDIR(about.st_mode)) {
        st = fail(STATUS_DATA, "%s: is a folder: %s; give a table of samples and labels", path,
                  strerror(EISDIR));
        goto done;
    }
    size_t room = 1 << 16;
    *n = 0;
    for (;;) {
        unsigned char *more = realloc(bytes, room + 2);
        if (!more) {
            st = fail(STATUS_MEMORY, "%s: no memory for a table of %zu bytes; free some memory",
                      path, room);
            goto done;
        }
        bytes = more;
        size_t got = fread(bytes + *n, 1, room - *n, f);
        *n += got;
        if (got == 0)
            break;
        if (*n == room)
            room *= 2;
    }
    if (ferror(f)) {
        st = fail(STATUS_DATA, "%s: cannot be read: %s; check the file", path, strerror(errno));
        goto done;
    }
    *out = bytes;
    bytes = NULL;
done:
    free(bytes);
    fclose(f);
    return st;
}

/* Appends a code point in UTF-8. */
static size_t utf8_put(char *to, uint32_t x)
{
    if (x < 0x80) {
        to[0] = (char)x;
        return 1;
    }
    if (x < 0x800) {
        to[0] = (char)(0xc0 | x >> 6);
        to[1] = (char)(0x80 | (x & 0x3f));
        return 2;
    }
    if (x < 0x10000) {
        to[0] = (char)(0xe0 | x >> 12);
        to[1] = (char)(0x80 | (x >> 6 & 0x3f));
        to[2] = (char)(0x80 | (x & 0x3f));
        return 3;
    }
    to[0] = (char)(0xf0 | x >> 18);
    to[1] = (char)(0x80 | (x >> 12 & 0x3f));
    to[2] = (char)(0x80 | (x >> 6 & 0x3f));
    to[3] = (char)(0x80 | (x & 0x3f));
    return 4;
}

static status from_utf16(const char *path, const unsigned char *b, size_t n, bool big, char **out)
{
    char *text = malloc(2 * n + 4);
    if (!text)
        return fail(STATUS_MEMORY, "%s: no memory for a table of %zu bytes; free some memory", path,
                    n);
    size_t length = 0;
    int64_t line = 1;
    for (size_t i = 2; i + 1 < n; i += 2) {
        uint32_t x = big ? (uint32_t)(b[i] << 8 | b[i + 1]) : (uint32_t)(b[i] | b[i + 1] << 8);
        if (x >= 0xd800 && x < 0xdc00 && i + 3 < n) {
            i += 2;
            uint32_t y = big ? (uint32_t)(b[i] << 8 | b[i + 1]) : (uint32_t)(b[i] | b[i + 1] << 8);
            x = y >= 0xdc00 && y < 0xe000 ? 0x10000 + ((x - 0xd800) << 10) + (y - 0xdc00) : 0;
        } else if (x >= 0xd800 && x < 0xe000) {
            x = 0;
        }
        if (x == 0) {
            free(text);
            return fail(STATUS_DATA,
                        "%s:%lld: a character that is none in UTF-16; save the table "
                        "as UTF-8",
                        path, (long long)line);
        }
        line += x == '\n';
        length += utf8_put(text + length, x);
    }
    text[length] = '\0';
    *out = text;
    if (n % 2 == 0)
        return STATUS_OK;
    free(text);
    *out = NULL;
    return fail(STATUS_DATA,
                "%s: an odd number of bytes in UTF-16, the file was cut; save the "
                "table as UTF-8",
                path);
}

/* Bytes of the UTF-8 character at p, 0: none. Over-long forms and surrogates are none. */
static size_t utf8_length(const unsigned char *p)
{
    if (p[0] < 0x80)
        return 1;
    size_t n = p[0] >= 0xc2 && p[0] < 0xe0   ? 2
               : p[0] >= 0xe0 && p[0] < 0xf0 ? 3
               : p[0] >= 0xf0 && p[0] < 0xf5 ? 4
                                             : 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] >= 0xa0) ||
        (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] >= 0x90))
        return 0;
    return n;
}

static status check_characters(const char *path, const char *text, size_t n)
{
    int64_t line = 1;
    const unsigned char *p = (const unsigned char *)text, *end = p + n;
    while (p < end) {
        size_t length = utf8_length(p);
        if (length == 0)
            return fail(STATUS_DATA,
                        "%s:%lld: byte 0x%02x is not UTF-8; save the table as UTF-8, so that names "
                        "match",
                        path, (long long)line, *p);
        if (*p < 32 && *p != '\t' && *p != '\n' && *p != '\r')
            return fail(STATUS_DATA,
                        "%s:%lld: a control character (0x%02x), this is no text; save "
                        "the table as UTF-8 text",
                        path, (long long)line, *p);
        line += *p == '\n';
        p += length;
    }
    return STATUS_OK;
}

/* \r\n and, where no \n is at all, \r become \n. */
static void line_ends(char *text)
{
    bool mac = !strchr(text, '\n');
    char *to = text;
    for (const char *p = text; *p; p++) {
        if (*p == '\r' && mac)
            *to++ = '\n';
        else if (*p == '\r' && (p[1] == '\n' || p[1] == '\0'))
            continue;
        else
            *to++ = *p;
    }
    *to = '\0';
}

status labels_text_read(const char *path, char **text)
{
    unsigned char *bytes = NULL;
    size_t n = 0;
    *text = NULL;
    TRY(read_whole(path, &bytes, &n));
    status st = STATUS_OK;
    char *whole = NULL;
    if (n >= 2 &&
        ((bytes[0] == 0xff && bytes[1] == 0xfe) || (bytes[0] == 0xfe && bytes[1] == 0xff))) {
        TRY_GOTO(done, from_utf16(path, bytes, n, bytes[0] == 0xfe, &whole));
        n = strlen(whole);
    } else {
        size_t skip = n >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
        n -= skip;
        whole = malloc(n + 1);
        if (!whole) {
            st = fail(STATUS_MEMORY, "%s: no memory for a table of %zu bytes; free some", path, n);
            goto done;
        }
        memcpy(whole, bytes + skip, n);
        whole[n] = '\0';
    }
    TRY_GOTO(done, check_characters(path, whole, n));
    line_ends(whole);
    *text = whole;
    whole = NULL;
done:
    free(bytes);
    free(whole);
    return st;
}

/* ---- fields ---- */

/* Blanks around a field: ASCII, the non-breaking blank, the byte order mark, the zero-width blank.
 */
static size_t blank_length(const char *p)
{
    if (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\v' || *p == '\f')
        return 1;
    if (strncmp(p, "\xc2\xa0", 2) == 0)
        return 2;
    if (strncmp(p, "\xef\xbb\xbf", 3) == 0 || strncmp(p, "\xe2\x80\x8b", 3) == 0)
        return 3;
    return 0;
}

static char *trim(char *p)
{
    size_t n;
    while (*p && (n = blank_length(p)) > 0)
        p += n;
    char *end = p + strlen(p);
    for (;;) {
        if (end - p >= 3 && blank_length(end - 3) == 3)
            end -= 3;
        else if (end - p >= 2 && blank_length(end - 2) == 2)
            end -= 2;
        else if (end > p && blank_length(end - 1) == 1)
            end--;
        else
            break;
    }
    *end = '\0';
    return p;
}

static bool separates(const char *p, char separator)
{
    return separator == ' ' ? *p == ' ' || *p == '\t' : *p == separator;
}

/* A field in quotes: "" inside is one quote; behind it only blanks may stand. *next: behind it. */
static status quoted(const char *path, int64_t number, char *p, char separator, char **field,
                     char **next)
{
    char *to = ++p;
    *field = p;
    for (; *p; p++) {
        if (*p == '"' && p[1] == '"')
            p++;
        else if (*p == '"')
            break;
        *to++ = *p;
    }
    if (*p != '"')
        return fail(STATUS_DATA, "%s:%lld: a quote is opened and not closed; correct the line",
                    path, (long long)number);
    p++;
    while (*p && !separates(p, separator) && blank_length(p) > 0)
        p += blank_length(p);
    if (*p && !separates(p, separator))
        return fail(STATUS_DATA, "%s:%lld: text behind a closing quote; correct the line", path,
                    (long long)number);
    *next = p;
    *to = '\0';
    return STATUS_OK;
}

status labels_text_fields(const char *path, int64_t number, char *line, char separator,
                          char *fields[LABEL_FIELDS], int *n)
{
    char *p = line;
    *n = 0;
    if (separator == ' ')
        p = trim(p);
    for (;;) {
        char *field = p, *next = p;
        while (*field && !separates(field, separator) && blank_length(field) > 0)
            field += blank_length(field);
        if (*field == '"') {
            TRY(quoted(path, number, field, separator, &field, &next));
        } else {
            while (*next && !separates(next, separator))
                next++;
        }
        bool last = *next == '\0';
        *next = '\0';
        if (*n == LABEL_FIELDS)
            return fail(STATUS_DATA,
                        "%s:%lld: more than %d columns; give a table of samples and "
                        "labels",
                        path, (long long)number, LABEL_FIELDS);
        fields[(*n)++] = trim(field);
        if (last)
            return STATUS_OK;
        p = next + 1;
        if (separator == ' ')
            while (*p == ' ' || *p == '\t')
                p++;
    }
}
