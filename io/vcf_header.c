/* Parsing of ##contig and #CHROM lines: see vcf_header.h. */
#include "io/vcf_header.h"

#include "io/dataset_format.h"
#include "io/name_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void vcf_header_close(vcf_header *h)
{
    for (int64_t i = 0; i < h->n_samples; i++)
        free(h->samples[i]);
    for (int64_t i = 0; i < h->n_contigs; i++)
        free(h->contigs[i].name);
    free(h->samples);
    free(h->contigs);
    memset(h, 0, sizeof *h);
}

/* Room for one more element of `size` bytes; false without memory. */
static bool room_for(void **array, int64_t count, int64_t *room, size_t size)
{
    if (count < *room)
        return true;
    int64_t more = *room ? 2 * *room : 32;
    void *grown = realloc(*array, (size_t)more * size);
    if (!grown)
        return false;
    *array = grown;
    *room = more;
    return true;
}

static status no_memory(const char *path, int64_t number)
{
    return fail(STATUS_MEMORY, "%s:%lld: no memory for the header; free some memory", path,
                (long long)number);
}

/* The end of a value of ##contig=<KEY=value,...>: a comma or > outside quotes. */
static const char *value_end(const char *p)
{
    bool quoted = false;
    for (; *p; p++) {
        if (*p == '\\' && quoted && p[1])
            p++;
        else if (*p == '"')
            quoted = !quoted;
        else if (!quoted && (*p == ',' || *p == '>'))
            break;
    }
    return p;
}

static status contig_length(const char *path, int64_t number, const char *text, size_t n,
                            int64_t *length)
{
    char digits[16];
    if (n >= 2 && text[0] == '"' && text[n - 1] == '"') {
        text++;
        n -= 2;
    }
    if (n == 0 || n >= sizeof digits || strspn(text, "0123456789") < n)
        return fail(STATUS_DATA,
                    "%s:%lld: the contig's length is %.*s, no whole number; correct the header",
                    path, (long long)number, n < 40 ? (int)n : 40, text);
    memcpy(digits, text, n);
    digits[n] = '\0';
    *length = strtoll(digits, NULL, 10);
    if (*length > INT32_MAX)
        return fail(STATUS_DATA,
                    "%s:%lld: the contig's length is %s, positions end at 2147483647; correct the "
                    "header",
                    path, (long long)number, digits);
    return STATUS_OK;
}

static status contig_line(vcf_header *h, const char *path, int64_t number, const char *body)
{
    vcf_contig contig = {NULL, 0};
    const char *id = NULL;
    size_t id_n = 0;
    for (const char *p = body; *p && *p != '>';) {
        const char *equals = strchr(p, '=');
        if (!equals)
            break;
        const char *end = value_end(equals + 1);
        size_t key = (size_t)(equals - p), n = (size_t)(end - equals - 1);
        if (key == 2 && memcmp(p, "ID", 2) == 0) {
            id = equals + 1;
            id_n = n;
        } else if (key == 6 && memcmp(p, "length", 6) == 0) {
            TRY(contig_length(path, number, equals + 1, n, &contig.length));
        }
        p = *end == ',' ? end + 1 : end;
    }
    if (!id || id_n == 0)
        return fail(STATUS_DATA, "%s:%lld: a contig without ID; correct the header", path,
                    (long long)number);
    contig.name = strndup(id, id_n);
    if (!contig.name ||
        !room_for((void **)&h->contigs, h->n_contigs, &h->room_contigs, sizeof *h->contigs)) {
        free(contig.name);
        return no_memory(path, number);
    }
    for (int64_t i = 0; i < h->n_contigs && h->n_contigs < 4096; i++)
        if (strcmp(h->contigs[i].name, contig.name) == 0 && h->contigs[i].length > 0 &&
            contig.length > 0 && h->contigs[i].length != contig.length) {
            status st = fail(STATUS_DATA,
                             "%s:%lld: contig %s has the lengths %lld and %lld; give --assembly "
                             "after correcting the header",
                             path, (long long)number, contig.name, (long long)h->contigs[i].length,
                             (long long)contig.length);
            free(contig.name);
            return st;
        }
    h->contigs[h->n_contigs++] = contig;
    return STATUS_OK;
}

/* #CHROM POS ID REF ALT QUAL FILTER INFO [FORMAT people...] */
static status column_line(vcf_header *h, const char *path, int64_t number, char *line)
{
    static const char *const fixed[] = {"#CHROM", "POS",    "ID",   "REF",   "ALT",
                                        "QUAL",   "FILTER", "INFO", "FORMAT"};
    if (!strchr(line, '\t'))
        return fail(STATUS_DATA,
                    "%s:%lld: the columns are not separated by tabs; convert blanks to tabs", path,
                    (long long)number);
    int64_t column = 0;
    for (char *p = line; p; column++) {
        char *tab = strchr(p, '\t');
        if (tab)
            *tab = '\0';
        if (column < 9 && strcmp(p, fixed[column]) != 0)
            return fail(STATUS_DATA,
                        "%s:%lld: column %lld is %.60s and must be %s; correct the "
                        "header line",
                        path, (long long)number, (long long)column + 1, p, fixed[column]);
        if (column == 8)
            h->has_columns = true;
        if (column >= 9 && *p == '\0')
            return fail(STATUS_DATA, "%s:%lld: column %lld has no name; correct the header line",
                        path, (long long)number, (long long)column + 1);
        if (column >= 9 && strlen(p) > DATASET_TEXT_MOST)
            return fail(STATUS_DATA,
                        "%s:%lld: the name in column %lld has %zu bytes, %d are the most; shorten "
                        "%.40s...",
                        path, (long long)number, (long long)column + 1, strlen(p),
                        DATASET_TEXT_MOST, p);
        if (column >= 9) {
            char *name = strdup(p);
            if (!name || !room_for((void **)&h->samples, h->n_samples, &h->room_samples,
                                   sizeof *h->samples)) {
                free(name);
                return no_memory(path, number);
            }
            h->samples[h->n_samples++] = name;
        }
        p = tab ? tab + 1 : NULL;
    }
    if (column < 8)
        return fail(STATUS_DATA,
                    "%s:%lld: the header line has %lld columns, 8 are the least; "
                    "correct it",
                    path, (long long)number, (long long)column);
    h->complete = true;
    return STATUS_OK;
}

status vcf_header_line(vcf_header *h, const char *path, int64_t number, char *line, size_t length)
{
    (void)length;
    h->lines = number;
    if (strncmp(line, "##fileformat=", 13) == 0) {
        if (number > 1 && h->has_format)
            return fail(STATUS_DATA,
                        "%s:%lld: a second header inside the file, two files were joined; give "
                        "them one by one",
                        path, (long long)number);
        h->has_format = true;
        return STATUS_OK;
    }
    if (strncmp(line, "##contig=<", 10) == 0)
        return contig_line(h, path, number, line + 10);
    if (strncmp(line, "##", 2) == 0)
        return STATUS_OK;
    if (strncmp(line, "#CHROM", 6) == 0)
        return column_line(h, path, number, line);
    return fail(STATUS_DATA, "%s:%lld: the line begins with # and is no header line; correct it",
                path, (long long)number);
}

status vcf_header_check(const vcf_header *h, const char *path)
{
    if (h->n_samples == 0)
        return fail(STATUS_DATA,
                    "%s:%lld: no genotypes (GT): the header line names nobody; give a file with "
                    "people",
                    path, (long long)h->lines);
    name_table seen = {0};
    status st = STATUS_OK;
    for (int64_t i = 0; i < h->n_samples && st == STATUS_OK; i++) {
        int64_t already;
        st = name_table_add(&seen, h->samples[i], i, &already);
        if (st == STATUS_OK && already >= 0)
            st = fail(STATUS_DATA,
                      "%s:%lld: %s is the name of columns %lld and %lld; give each person a name "
                      "of its own",
                      path, (long long)h->lines, h->samples[i], (long long)already + 10,
                      (long long)i + 10);
    }
    name_table_close(&seen);
    return st;
}
