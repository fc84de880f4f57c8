/* What a prediction leaves: windows.tsv.gz, people.tsv, predict.json, and a few lines to read. */
#include "runtime/train/predict.h"
#include "runtime/train/statistics.h"
#include "runtime/train/tables.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* ---- tables ---- */

static status write_windows(const prediction *p)
{
    pending_file file;
    TRY(pending_name(&file, p->o.output, "windows.tsv.gz"));
    gzFile f = gzopen(file.hidden, "wb6");
    if (!f)
        return pending_end(&file, false);
    bool sound = windows_head(f, p->d, false) && gzputc(f, '\n') == '\n';
    for (int64_t k = 0; k < p->n_sets; k++) {
        const judged_set *set = &p->sets[k];
        for (int64_t i = 0; i < set->windows.n && sound; i++)
            sound =
                windows_row(f, &set->windows, i, set->logp + i * p->classes, p->classes, false) &&
                gzputc(f, '\n') == '\n';
    }
    sound = gzclose(f) == Z_OK && sound;
    return pending_end(&file, sound);
}

static status write_people(const prediction *p)
{
    pending_file file;
    TRY(pending_name(&file, p->o.output, "people.tsv"));
    FILE *f = fopen(file.hidden, "w");
    if (!f)
        return pending_end(&file, false);
    people_head(f, p->d, false);
    fputc('\n', f);
    for (int64_t i = 0; i < p->d->n_people; i++) {
        people_row(f, p->d, i, p->windows_of[i], p->probability + i * p->classes, p->classes,
                   false);
        fputc('\n', f);
    }
    bool sound = !ferror(f);
    sound = fclose(f) == 0 && sound;
    return pending_end(&file, sound);
}

/* ---- predict.json ---- */

static int64_t count_predicted(const prediction *p, int label)
{
    int64_t n = 0;
    for (int64_t i = 0; i < p->d->n_people; i++)
        n += p->windows_of[i] > 0 &&
             best_class(p->probability + i * p->classes, p->classes) == label;
    return n;
}

static int64_t count_windows(const prediction *p, int64_t from)
{
    int64_t n = 0;
    for (int64_t k = from; k < p->n_sets; k++)
        n += p->sets[k].windows.n;
    return n;
}

static json_t *sites_json(const query_report *q)
{
    const struct {
        const char *key;
        int64_t n;
    } counts[] = {{"model", q->model_sites},
                  {"model_on_other_chromosomes", q->other_chromosome},
                  {"matched", q->matched},
                  {"absent", q->absent},
                  {"flipped", q->flipped},
                  {"unknown", q->unknown_site},
                  {"other_alleles", q->clash},
                  {"other_strand", q->clash_strand},
                  {"reference_only", q->reference_only},
                  {"without_gt", q->without_gt}};
    json_t *o = json_object();
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        json_object_set_new(o, counts[i].key, json_integer(counts[i].n));
    return o;
}

/* What stands for a site that the query does not tell. */
static const char *assumed(const prediction *p)
{
    return p->o.query.missing_to_ref ? "reference" : "missing";
}

static json_t *document(const prediction *p)
{
    const query_report *q = &p->query;
    json_t *predicted = json_object(), *files = json_array();
    for (int k = 0; k < p->classes; k++)
        json_object_set_new(predicted, p->d->labels[k], json_integer(count_predicted(p, k)));
    for (int64_t i = 0; i < p->o.query.n_files; i++)
        json_array_append_new(files, json_string(p->o.query.files[i]));
    const model_file *f = evaluate_model_file(p->model);
    json_t *o =
        json_pack("{s:s, s:s, s:s, s:I, s:o, s:s, s:s, s:o, s:f, s:s, s:I, s:s}", "schema",
                  "crocuta/predict/1", "model", p->o.model, "model_file", f->path, "model_step",
                  (json_int_t)f->step, "query", files, "assembly", p->d->assembly, "query_assembly",
                  q->assembly, "sites", sites_json(q), "overlap", q->overlap,
                  "absent_sites_taken_as", assumed(p), "context", (json_int_t)p->context, "phase",
                  p->data.alleles == ALLELES_UNION ? "union" : "haplotype");
    if (!o)
        return NULL;
    json_object_set_new(o, "records",
                        json_pack("{s:I, s:I, s:I}", "read", (json_int_t)q->records, "not_snv",
                                  (json_int_t)q->not_snv, "other_contigs",
                                  (json_int_t)q->other_contig));
    json_object_set_new(o, "calls",
                        json_pack("{s:I, s:I}", "missing", (json_int_t)q->missing_calls,
                                  "other_alleles", (json_int_t)q->other_alleles));
    json_object_set_new(o, "n_people", json_integer(p->d->n_people));
    json_object_set_new(o, "people_short_windows", json_integer(p->people_short));
    json_object_set_new(o, "people_without_windows", json_integer(p->people_without));
    json_object_set_new(o, "n_windows", json_integer(count_windows(p, 0)));
    json_object_set_new(o, "short_windows", json_integer(count_windows(p, 1)));
    json_object_set_new(o, "predicted", predicted);
    json_object_set_new(o, "seconds", json_real(p->seconds));
    json_object_set_new(o, "seconds_reading", json_real(p->seconds_reading));
    json_object_set_new(o, "seconds_per_person", json_real(p->seconds / (double)p->d->n_people));
    json_object_set_new(o, "bytes_per_person", json_integer(p->bytes_per_person));
    json_object_set_new(o, "peak_bytes", json_integer(p->peak_bytes));
    json_object_set_new(o, "ranks", json_integer(p->ranks));
    json_object_set_new(o, "threads", json_integer(p->o.threads));
    json_object_set_new(o, "command", json_string(p->o.command));
    return o;
}

char *predict_json(const prediction *p)
{
    json_t *o = document(p);
    char *text = o ? json_dumps(o, JSON_INDENT(1) | JSON_REAL_PRECISION(12)) : NULL;
    json_decref(o);
    if (!text)
        return NULL;
    const size_t n = strlen(text);
    char *line = realloc(text, n + 2);
    if (!line) {
        free(text);
        return NULL;
    }
    memcpy(line + n, "\n", 2);
    return line;
}

status predict_write(const prediction *p)
{
    TRY(result_folder(p->o.output));
    TRY(write_windows(p));
    TRY(write_people(p));
    char *json = predict_json(p);
    if (!json)
        return fail(STATUS_MEMORY, "%s: no memory for predict.json; close other programs",
                    p->o.output);
    const status st = result_text(p->o.output, "predict.json", json);
    free(json);
    return st;
}

/* ---- what a person reads ---- */

void predict_print(const prediction *p, FILE *to)
{
    const query_report *q = &p->query;
    fprintf(to,
            "%lld of the model's %lld sites are told, %lld of them with REF and ALT swapped; the "
            "other %lld are taken as %s\n",
            (long long)q->matched, (long long)q->model_sites, (long long)q->flipped,
            (long long)q->absent, assumed(p));
    fprintf(to,
            "dropped: %lld sites that the model does not know, %lld with other alleles, %lld "
            "records that are no SNV, %lld on other contigs\n",
            (long long)q->unknown_site, (long long)q->clash, (long long)q->not_snv,
            (long long)q->other_contig);
    fprintf(to, "%lld people, %lld windows of %lld SNPs", (long long)p->d->n_people,
            (long long)p->sets[0].windows.n, (long long)p->context);
    if (count_windows(p, 1) > 0)
        fprintf(to, " and %lld shorter ones", (long long)count_windows(p, 1));
    fprintf(to, ", %.2f s (%.1f ms and %.1f kB a person)\n\n", p->seconds,
            1e3 * p->seconds / (double)p->d->n_people, (double)p->bytes_per_person / 1e3);
    for (int k = 0; k < p->classes; k++)
        fprintf(to, "  %-12s %lld people\n", p->d->labels[k], (long long)count_predicted(p, k));
    if (p->people_without > 0)
        fprintf(to, "  %-12s %lld people\n", "NA", (long long)p->people_without);
    fprintf(to, "\n%s/people.tsv: one line a person; %s/windows.tsv.gz: one a window\n",
            p->o.output, p->o.output);
}
