/* OUT.import.json of a set of sequences: what was read, kept and left out. */
#include "io/import_sequences.h"
#include "io/replace.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

void sequences_report_close(sequences_report *r)
{
    for (int64_t i = 0; r->labels && i < r->n_labels; i++)
        free(r->labels[i]);
    free(r->labels);
    free(r->label_bases);
    memset(r, 0, sizeof *r);
}

static json_t *by_split(const int64_t n[3])
{
    return json_pack("{s:I,s:I,s:I}", "train", (json_int_t)n[0], "valid", (json_int_t)n[1], "test",
                     (json_int_t)n[2]);
}

static json_t *letters_json(const base_counts *n)
{
    return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "a", (json_int_t)n->a, "c", (json_int_t)n->c,
                     "g", (json_int_t)n->g, "t", (json_int_t)n->t, "n", (json_int_t)n->n, "other",
                     (json_int_t)n->other, "masked", (json_int_t)n->masked);
}

status sequences_report_write(const sequences_report *r, const char *output)
{
    char path[1100];
    import_report_path(output, path);
    const double bases = (double)(r->bases[0] + r->bases[1] + r->bases[2]);
    json_t *labels = json_object();
    for (int64_t i = 0; i < r->n_labels; i++) /* a name that is no UTF-8 is left out */
        json_object_set_new(labels, r->labels[i], json_integer(r->label_bases[i]));
    json_t *doc = json_pack(
        "{s:s,s:s,s:s,s:o,s:o,s:o,s:o,s:I,s:I,s:I,s:f,s:s,s:f}", "schema", "crocuta/import/1",
        "kind", "sequences", "assembly", r->assembly, "sequences", by_split(r->sequences), "bases",
        by_split(r->bases), "letters", letters_json(&r->count), "bases_per_label", labels, "empty",
        (json_int_t)r->empty, "left_out", (json_int_t)r->left_out, "bytes",
        (json_int_t)r->file_bytes, "bytes_per_base", bases > 0 ? (double)r->file_bytes / bases : 0,
        "split_hash", r->split_hash, "seconds", r->seconds);
    char *text = doc ? json_dumps(doc, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) : NULL;
    status st = text ? replace_text(path, text)
                     : fail(STATUS_INTERNAL, "%s: cannot be made; please report it", path);
    free(text);
    json_decref(doc);
    return st;
}
