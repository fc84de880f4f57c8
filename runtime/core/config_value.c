/* One value of the configuration: read exactly as a person wrote it or refused, and written so that
 * it reads back as the same. Numbers never pass through a type that cannot hold them. */
#include "runtime/core/config_fields.h"
#include "runtime/core/nearest.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SHOWN 60 /* bytes of a wrong value in a message */

void real_text(double x, char *text, size_t size)
{
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, size, "%.*g", digits, x);
        if (strtod(text, NULL) == x)
            break;
    }
    if (strchr(text, '.'))
        return;
    char *e = strchr(text, 'e'), tail[16] = "";
    if (e) {
        snprintf(tail, sizeof tail, "%s", e);
        *e = '\0';
    }
    size_t n = strlen(text);
    snprintf(text + n, size - n, ".0%s", tail);
}

/* ---- what a key expects ---- */

static void words_text(const field *f, char *text, size_t size)
{
    size_t n = 0;
    for (int i = 0; f->words[i] && n < size; i++)
        n += (size_t)snprintf(text + n, size - n, "%s%s",
                              i == 0            ? ""
                              : f->words[i + 1] ? ", "
                                                : " or ",
                              f->words[i]);
}

void field_expects(const field *f, char *text, size_t size)
{
    char low[32], high[32];
    switch (f->kind) {
    case FIELD_INTEGER:
        snprintf(text, size, "a whole number from %.0f to %.0f%s", f->least, f->most,
                 f->flags & FIELD_AUTO ? ", or auto" : "");
        return;
    case FIELD_REAL:
        real_text(f->least, low, sizeof low);
        real_text(f->most, high, sizeof high);
        snprintf(text, size, "%s%s %s %s %s", f->count > 1 ? "a list of two numbers" : "a number",
                 f->flags & FIELD_ABOVE ? " above" : " from", low,
                 f->flags & FIELD_BELOW ? "to below" : "up to", high);
        return;
    case FIELD_BOOL:
        snprintf(text, size, "true or false");
        return;
    case FIELD_WORD:
    case FIELD_NAME:
        words_text(f, text, size);
        return;
    case FIELD_TEXT:
        snprintf(text, size, f->flags & FIELD_PATH ? "a file name" : "a text");
        return;
    case FIELD_STAGES:
        snprintf(text, size, "a list of {seq_len: N, steps: N, context_parallel: N}");
        return;
    }
}

static status refuse(const field *f, scalar s, const char *where, const char *why)
{
    char expects[256];
    field_expects(f, expects, sizeof expects);
    return fail(STATUS_USAGE, "%s: %s is %.*s, %s; use %s", where, f->key,
                (int)(s.bytes < SHOWN ? s.bytes : SHOWN), s.text, why, expects);
}

/* ---- numbers ---- */

/* A decimal number in parts: [+-] digits [. digits] [e [+-] digits]. */
typedef struct {
    bool negative;
    const char *whole, *fraction; /* digits */
    int n_whole, n_fraction;
    long exponent; /* cut at +-100000: far beyond every range */
} decimal;

static int digits_at(const char *p)
{
    int n = 0;
    while (isdigit((unsigned char)p[n]))
        n++;
    return n;
}

static bool decimal_read(const char *p, decimal *d)
{
    memset(d, 0, sizeof *d);
    d->negative = *p == '-';
    if (*p == '+' || *p == '-')
        p++;
    d->whole = p;
    d->n_whole = digits_at(p);
    p += d->n_whole;
    if (*p == '.') {
        d->fraction = ++p;
        d->n_fraction = digits_at(p);
        p += d->n_fraction;
    }
    if (d->n_whole + d->n_fraction == 0)
        return false;
    if (d->n_whole > 1 &&
        d->whole[0] == '0') /* 010 is 8 to some readers of YAML and 10 to others */
        return false;
    if (*p == 'e' || *p == 'E') {
        bool down = *++p == '-';
        if (*p == '+' || *p == '-')
            p++;
        int n = digits_at(p);
        if (n == 0)
            return false;
        for (int i = 0; i < n; i++)
            d->exponent = d->exponent > 10000 ? 100000 : d->exponent * 10 + (p[i] - '0');
        if (down)
            d->exponent = -d->exponent;
        p += n;
    }
    return *p == '\0';
}

typedef enum { WHOLE_EXACT, WHOLE_FRACTION, WHOLE_TOO_LARGE } whole_result;

static char decimal_digit(const decimal *d, int i)
{
    return i < d->n_whole ? d->whole[i] : d->fraction[i - d->n_whole];
}

/* The number as an integer, exactly: 1e3 and 20.0 are whole, 1.5e1 too, 128.5 is not. */
static whole_result decimal_whole(const decimal *d, int64_t *out)
{
    int n = d->n_whole + d->n_fraction, first = 0;
    while (first < n && decimal_digit(d, first) == '0')
        first++;
    while (n > first && decimal_digit(d, n - 1) == '0')
        n--;
    *out = 0;
    if (first == n)
        return WHOLE_EXACT;
    long zeros = d->exponent + d->n_whole - n; /* that follow the last digit that is not 0 */
    if (zeros < 0)
        return WHOLE_FRACTION;
    if (n - first + zeros > 19)
        return WHOLE_TOO_LARGE;
    int64_t x = 0;
    for (int i = first; i < n + zeros; i++) {
        int digit = i < n ? decimal_digit(d, i) - '0' : 0;
        if (__builtin_mul_overflow(x, 10, &x) || __builtin_add_overflow(x, digit, &x))
            return WHOLE_TOO_LARGE;
    }
    *out = d->negative ? -x : x;
    return WHOLE_EXACT;
}

static status set_integer(const field *f, void *to, scalar s, const char *where)
{
    if ((f->flags & FIELD_AUTO) && strcmp(s.text, "auto") == 0) {
        *(int64_t *)to = CONFIG_AUTO;
        return STATUS_OK;
    }
    if (s.quoted)
        return refuse(f, s, where, "text in quotes");
    decimal d;
    int64_t x;
    if (!decimal_read(s.text, &d))
        return refuse(f, s, where, "not a whole number");
    switch (decimal_whole(&d, &x)) {
    case WHOLE_FRACTION:
        return refuse(f, s, where, "not a whole number");
    case WHOLE_TOO_LARGE:
        return refuse(f, s, where, "out of range");
    case WHOLE_EXACT:
        break;
    }
    if (x < (int64_t)f->least || x > (int64_t)f->most)
        return refuse(f, s, where, "out of range");
    *(int64_t *)to = x;
    return STATUS_OK;
}

static status set_real(const field *f, double *to, scalar s, const char *where)
{
    if (s.quoted)
        return refuse(f, s, where, "text in quotes");
    decimal d;
    if (!decimal_read(s.text, &d))
        return refuse(f, s, where, "not a number");
    errno = 0;
    double x = strtod(s.text, NULL);
    if (errno == ERANGE || !isfinite(x) || x < f->least || x > f->most ||
        ((f->flags & FIELD_ABOVE) && x == f->least) || ((f->flags & FIELD_BELOW) && x == f->most))
        return refuse(f, s, where, "out of range");
    *to = x == 0 ? 0.0 : x; /* -0 would be written differently and read the same */
    return STATUS_OK;
}

/* ---- words ---- */

static status set_word(const field *f, char *to, scalar s, const char *where)
{
    nearest near = {.name = s.text};
    for (int i = 0; f->words[i]; i++) {
        if (strcmp(f->words[i], s.text) == 0) {
            if (f->kind == FIELD_NAME)
                snprintf(to, f->size, "%s", s.text);
            else if (f->at != NOWHERE)
                memcpy(to, &(unsigned){(unsigned)i}, f->size);
            return STATUS_OK;
        }
        nearest_offer(&near, f->words[i]);
    }
    char why[128] = "unknown";
    if (near.best)
        snprintf(why, sizeof why, "unknown (did you mean %s?)", near.best);
    return refuse(f, s, where, why);
}

static status set_bool(const field *f, bool *to, scalar s, const char *where)
{
    bool yes = strcmp(s.text, "true") == 0 || strcmp(s.text, "True") == 0;
    bool no = strcmp(s.text, "false") == 0 || strcmp(s.text, "False") == 0;
    if (s.quoted || (!yes && !no))
        return refuse(f, s, where, s.quoted ? "text in quotes" : "neither");
    *to = yes;
    return STATUS_OK;
}

static bool is_null(scalar s)
{
    return !s.quoted && (s.bytes == 0 || strcmp(s.text, "~") == 0 || strcmp(s.text, "null") == 0 ||
                         strcmp(s.text, "Null") == 0 || strcmp(s.text, "NULL") == 0);
}

status field_set(const field *f, void *base, int i, scalar s, const char *where)
{
    char expects[256];
    field_expects(f, expects, sizeof expects);
    if (is_null(s) || (s.bytes == 0 && f->kind >= FIELD_WORD))
        return fail(STATUS_USAGE, "%s: %s has no value; use %s, or take the key out", where, f->key,
                    expects);
    if (strlen(s.text) != s.bytes)
        return fail(STATUS_USAGE, "%s: %s has a zero byte in it; use %s", where, f->key, expects);
    char *to = (char *)base + (f->at == NOWHERE ? 0 : f->at);
    switch (f->kind) {
    case FIELD_INTEGER:
        return set_integer(f, to, s, where);
    case FIELD_REAL:
        return set_real(f, (double *)(void *)to + i, s, where);
    case FIELD_BOOL:
        return set_bool(f, (bool *)to, s, where);
    case FIELD_WORD:
    case FIELD_NAME:
        return set_word(f, to, s, where);
    case FIELD_TEXT:
        if (s.bytes >= f->size)
            return refuse(f, s, where, "too long");
        memcpy(to, s.text, s.bytes + 1);
        return STATUS_OK;
    case FIELD_STAGES:
        return refuse(f, s, where, "not a list");
    }
    return STATUS_OK;
}

/* ---- writing ---- */

/* Text as YAML: plain where every reader takes it for text, otherwise in double quotes. */
static void quote(const char *from, char *text, size_t size)
{
    bool plain = isalpha((unsigned char)from[0]) || from[0] == '/' || from[0] == '_';
    for (const char *p = from; *p; p++)
        plain = plain && (isalnum((unsigned char)*p) || strchr("_-./+", *p));
    static const char *const words[] = {"true", "false", "null", "yes", "no",
                                        "on",   "off",   "y",    "n",   NULL};
    for (int i = 0; words[i]; i++)
        plain = plain && strcasecmp(words[i], from) != 0;
    if (plain) {
        snprintf(text, size, "%s", from);
        return;
    }
    size_t n = 0;
    text[n++] = '"';
    for (const unsigned char *p = (const unsigned char *)from; *p && n + 6 < size; p++) {
        if (*p == '"' || *p == '\\')
            text[n++] = '\\';
        if (*p < 0x20 || *p == 0x7f)
            n += (size_t)snprintf(text + n, size - n, "\\x%02x", *p);
        else
            text[n++] = (char)*p;
    }
    text[n++] = '"';
    text[n] = '\0';
}

void stage_text(const config_stage *s, char *text, size_t size)
{
    size_t n = 0;
    for (int k = 0; k < config_n_stage_fields && n < size; k++) {
        char value[64];
        field_get(&config_stage_fields[k], s, value, sizeof value);
        n += (size_t)snprintf(text + n, size - n, "%s%s: %s", k ? ", " : "{",
                              config_stage_fields[k].key, value);
    }
    if (n < size)
        snprintf(text + n, size - n, "}");
}

static void stages_text(const config *c, char *text, size_t size)
{
    char one[STAGE_TEXT];
    size_t n = (size_t)snprintf(text, size, "[");
    for (int i = 0; i < c->n_stages && n < size; i++) {
        stage_text(&c->stages[i], one, sizeof one);
        n += (size_t)snprintf(text + n, size - n, "%s%s", i ? ", " : "", one);
    }
    if (n < size)
        snprintf(text + n, size - n, "]");
}

void field_get(const field *f, const void *base, char *text, size_t size)
{
    const char *from = (const char *)base + (f->at == NOWHERE ? 0 : f->at);
    char a[40], b[40];
    unsigned word = 0;
    switch (f->kind) {
    case FIELD_INTEGER:
        if ((f->flags & FIELD_AUTO) && *(const int64_t *)(const void *)from == CONFIG_AUTO)
            snprintf(text, size, "auto");
        else
            snprintf(text, size, "%lld", (long long)*(const int64_t *)(const void *)from);
        return;
    case FIELD_REAL:
        real_text(((const double *)(const void *)from)[0], a, sizeof a);
        if (f->count == 1) {
            snprintf(text, size, "%s", a);
            return;
        }
        real_text(((const double *)(const void *)from)[1], b, sizeof b);
        snprintf(text, size, "[%s, %s]", a, b);
        return;
    case FIELD_BOOL:
        snprintf(text, size, "%s", *(const bool *)from ? "true" : "false");
        return;
    case FIELD_WORD:
        if (f->at != NOWHERE)
            memcpy(&word, from, f->size);
        snprintf(text, size, "%s", f->words[word]);
        return;
    case FIELD_NAME:
        snprintf(text, size, "%s", from);
        return;
    case FIELD_TEXT:
        if (*from)
            quote(from, text, size);
        else
            text[0] = '\0';
        return;
    case FIELD_STAGES:
        stages_text(base, text, size);
        return;
    }
}
