/* Headers and sequence lines: see fasta.h. */
#include "io/fasta.h"

#include "io/line_source.h"

#include <ctype.h>
#include <string.h>

uint8_t fasta_base(char letter)
{
    static const char others[] = "RYSWKMBDHVUX"; /* X: masked by some programs */
    const uint8_t masked = letter >= 'a' && letter <= 'z' ? BASE_MASKED : 0;
    const char upper = masked ? (char)(letter - 'a' + 'A') : letter;
    switch (upper) {
    case 'A':
        return BASE_A | masked;
    case 'C':
        return BASE_C | masked;
    case 'G':
        return BASE_G | masked;
    case 'T':
        return BASE_T | masked;
    case 'N':
        return BASE_N | masked;
    default:
        return upper && strchr(others, upper) ? BASE_OTHER | masked : BASE_NONE;
    }
}

bool fasta_recognise(const char *path)
{
    line_source *s = NULL;
    const char *p;
    size_t n, i = 0;
    bool is = false;
    if (line_source_open(path, &s) == STATUS_OK &&
        line_source_peek(s, 1 << 12, &p, &n) == STATUS_OK) {
        if (n >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0)
            i = 3;
        while (i < n && isspace((unsigned char)p[i]))
            i++;
        is = i < n && (p[i] == '>' || p[i] == ';');
    }
    line_source_close(&s);
    return is;
}

/* Blanks within a line go (old files have their bases in tens); everything else must be a base. */
static status line_clean(const char *path, int64_t number, char *line, size_t *n)
{
    size_t kept = 0;
    for (size_t i = 0; i < *n; i++) {
        const char x = line[i];
        if (x == ' ' || x == '\t')
            continue;
        if (fasta_base(x) == BASE_NONE) {
            if (x == '-' || x == '.' || x == '*')
                return fail(STATUS_DATA,
                            "%s:%lld: '%c' at letter %zu is a gap of an alignment, no nucleotide; "
                            "take the gaps out",
                            path, (long long)number, x, i + 1);
            if (isgraph((unsigned char)x))
                return fail(STATUS_DATA,
                            "%s:%lld: '%c' at letter %zu is no nucleotide%s; correct the file",
                            path, (long long)number, x, i + 1,
                            isalpha((unsigned char)x) ? " (is it protein?)" : "");
            return fail(STATUS_DATA,
                        "%s:%lld: byte %d at letter %zu is no nucleotide, the file is damaged; get "
                        "it again",
                        path, (long long)number, (unsigned char)x, i + 1);
        }
        line[kept++] = x;
    }
    *n = kept;
    return STATUS_OK;
}

static status header(const char *path, int64_t number, char *line, const fasta_sink *to)
{
    char *name = line + 1, *end = line + strlen(line);
    while (end > name && isspace((unsigned char)end[-1]))
        *--end = '\0';
    char *blank = name + strcspn(name, " \t");
    char *description = blank + strspn(blank, " \t");
    *blank = '\0';
    if (!*name)
        return fail(STATUS_DATA, "%s:%lld: a sequence without a name; write it right after the '>'",
                    path, (long long)number);
    return to->begin(to->context, name, description, number);
}

status fasta_read(const char *path, const fasta_sink *to)
{
    line_source *s = NULL;
    status st;
    bool begun = false;
    TRY_GOTO(done, line_source_open(path, &s));
    line_source_take_cut_line(s);
    for (;;) {
        char *line;
        size_t n;
        TRY_GOTO(done, line_source_next(s, &line, &n));
        if (!line)
            break;
        const int64_t number = line_source_line(s);
        if (line[0] == '>') {
            TRY_GOTO(done, header(path, number, line, to));
            begun = true;
            continue;
        }
        if (line[0] == ';') /* a remark, as FASTA once had them */
            continue;
        if (!begun && line[strspn(line, " \t\r")] != '\0') {
            st = fail(STATUS_DATA,
                      "%s:%lld: letters before the first header; is it FASTA? Put a line >NAME "
                      "before them",
                      path, (long long)number);
            goto done;
        }
        TRY_GOTO(done, line_clean(path, number, line, &n));
        if (n > 0)
            TRY_GOTO(done, to->letters(to->context, line, n));
    }
    if (!begun)
        st = fail(STATUS_DATA, "%s: holds no sequence; give FASTA (>NAME, then letters)", path);
done:
    line_source_close(&s);
    return st;
}
