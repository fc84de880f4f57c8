/* OUT.import.json: what was read, kept and left out. */
#include "io/import.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void import_report_path(const char *output, char path[1100])
{
    size_t n = strlen(output);
    if (n > 3 && strcmp(output + n - 3, ".h5") == 0)
        n -= 3;
    snprintf(path, 1100, "%.*s.import.json", (int)(n < 1024 ? n : 1024), output);
}

static json_t *sites_json(const import_counts *n)
{
    return json_pack(
        "{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "read", (json_int_t)n->read,
        "kept", (json_int_t)n->kept, "multiallelic", (json_int_t)n->multiallelic, "monomorphic",
        (json_int_t)n->monomorphic, "not_snv", (json_int_t)n->not_snv, "symbolic",
        (json_int_t)n->symbolic, "star", (json_int_t)n->star, "non_acgt", (json_int_t)n->non_acgt,
        "missing_calls", (json_int_t)n->missing_calls, "half_missing_calls",
        (json_int_t)n->half_missing_calls, "records_without_gt", (json_int_t)n->records_without_gt,
        "duplicates", (json_int_t)n->duplicates, "other_contigs", (json_int_t)n->other_contigs,
        "below_maf", (json_int_t)n->below_maf);
}

static json_t *nonref_json(const import_report *r)
{
    json_t *by_label = json_object();
    for (int64_t i = 0; by_label && i <= r->n_labels; i++)
        if (r->label_people[i] > 0)
            json_object_set_new(by_label, i < r->n_labels ? r->labels[i] : "unlabelled",
                                json_real(r->nonref_mean[i]));
    return by_label;
}

status import_report_write(const import_report *r, const char *output)
{
    char path[1100], temporary[1120];
    import_report_path(output, path);
    snprintf(temporary, sizeof temporary, "%s.tmp", path);
    double bytes = r->n_entries ? (double)r->file_bytes / (double)r->n_entries : 0;
    json_t *doc =
        json_pack("{s:s,s:s,s:b,s:{s:I,s:I,s:I},s:o,s:o,s:I,s:I,s:f,s:I,s:s,s:f}", "schema",
                  "crocuta/import/1", "assembly", r->assembly, "phased", (int)r->phased, "people",
                  "train", (json_int_t)r->people[0], "valid", (json_int_t)r->people[1], "test",
                  (json_int_t)r->people[2], "sites", sites_json(&r->sites), "nonref_per_person",
                  nonref_json(r), "entries", (json_int_t)r->n_entries, "bytes",
                  (json_int_t)r->file_bytes, "bytes_per_entry", bytes, "shards",
                  (json_int_t)r->n_shards, "split_hash", r->split_hash, "seconds", r->seconds);
    char *text = doc ? json_dumps(doc, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) : NULL;
    status st = STATUS_OK;
    FILE *f = text ? fopen(temporary, "w") : NULL;
    if (!text) {
        st = fail(STATUS_INTERNAL, "%s: cannot be made; please report it", path);
    } else {
        bool wrote = f && fputs(text, f) >= 0 && fputc('\n', f) >= 0 && fflush(f) == 0 &&
                     fsync(fileno(f)) == 0;
        bool closed = f && fclose(f) == 0;
        if (!wrote || !closed || rename(temporary, path) != 0) {
            st = fail(STATUS_RESOURCE, "%s: cannot be written: %s; free some space", path,
                      strerror(errno));
            unlink(temporary);
        }
    }
    free(text);
    json_decref(doc);
    return st;
}
