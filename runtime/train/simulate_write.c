/* What a simulation leaves: the genotypes as VCF, the table of labels that `import -m` reads, and
 * the numbers. */
#include "runtime/train/simulate.h"

#include "io/dataset_export.h"
#include "io/replace.h"
#include "runtime/core/version.h"

#include <htslib/kstring.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define NAME 320 /* of a sample */

void simulate_sample(const simulation *s, int k, int64_t person, char *name, size_t size)
{
    snprintf(name, size, "SIM_%s_%lld", simulate_label(s, k), (long long)person + 1);
}

static status no_memory(const simulation *s)
{
    return fail(STATUS_MEMORY, "%s: no memory to write it; simulate fewer people at once",
                s->o.output);
}

/* ---- genotypes ---- */

/* What is simulated as a data set: its people beside the model's sites. */
typedef struct {
    dataset view;
    individual *people;
    char (*names)[NAME];
    entry *entries;
    int64_t *run, *missing_run_of;
} simulated_set;

static void set_free(simulated_set *x)
{
    free(x->people);
    free(x->names);
    free(x->entries);
    free(x->run);
    free(x->missing_run_of);
}

static int64_t carried_of_all(const simulation *s)
{
    const uint8_t *bytes = (const uint8_t *)s->carried;
    int64_t n = 0;
    for (int64_t i = 0; i < s->n_sequences * s->d->n_sites; i++)
        n += bytes[i] != 0;
    return n;
}

/* The entries of a person at a site, from the bytes of both haplotypes (of the union twice). */
static int64_t entries_at(const simulation *s, const uint8_t *one, const uint8_t *two, int64_t at,
                          entry *to)
{
    const uint8_t a = one[at], b = two[at];
    const uint8_t phased = s->haplotypes == 2;
    int64_t n = 0;
    for (uint8_t base = 0; base < 4; base++) {
        const uint8_t mask = (uint8_t)((a == base + 1) | (b == base + 1) << 1);
        if (mask)
            to[n++] = (entry){(int32_t)at, base, phased ? mask : 0};
    }
    return n;
}

static void people_fill(const simulation *s, simulated_set *x)
{
    const dataset *d = s->d;
    const uint8_t *bytes = (const uint8_t *)s->carried;
    int64_t n = 0, run = 0;
    for (int64_t i = 0; i < x->view.n_people; i++) {
        const int k = (int)(i / s->o.people);
        const uint8_t *one = bytes + i * s->haplotypes * d->n_sites;
        const uint8_t *two = one + (s->haplotypes - 1) * d->n_sites;
        simulate_sample(s, k, i % s->o.people, x->names[i], sizeof x->names[i]);
        x->people[i] = (individual){.id = x->names[i], .label = s->label[k]};
        for (int64_t c = 0; c < d->n_chromosomes; c++) {
            const chromosome *on = &d->chromosomes[c];
            x->run[run++] = n;
            for (int64_t at = on->site0; at < on->site0 + on->sites; at++)
                n += entries_at(s, one, two, at, x->entries + n);
        }
    }
    x->run[run] = x->view.n_entries = n;
}

static status set_make(const simulation *s, simulated_set *x)
{
    const size_t people = (size_t)(s->n_labels * s->o.people);
    const size_t runs = people * (size_t)s->d->n_chromosomes + 1;
    x->people = calloc(people, sizeof *x->people);
    x->names = calloc(people, sizeof *x->names);
    x->entries = calloc((size_t)carried_of_all(s) + 1, sizeof *x->entries);
    x->run = calloc(runs, sizeof *x->run);
    x->missing_run_of = calloc(runs, sizeof *x->missing_run_of);
    if (!x->people || !x->names || !x->entries || !x->run || !x->missing_run_of)
        return no_memory(s);
    x->view = *s->d;
    x->view.memory = NULL;
    x->view.n_people = (int64_t)people;
    x->view.phased = s->haplotypes == 2;
    people_fill(s, x);
    x->view.people = x->people;
    x->view.entries = x->entries;
    x->view.run = x->run;
    x->view.missing = NULL;
    x->view.missing_run_of = x->missing_run_of;
    return STATUS_OK;
}

static status write_genotypes(const simulation *s)
{
    simulated_set x = {0};
    kstring_t title = {0};
    status st = set_make(s, &x);
    ksprintf(&title,
             "##source=crocuta simulate %s\n##crocuta_simulate=<Description=\"SIMULATED: no real "
             "people; drawn from the site head of %s, seed %llu, %s\">\n",
             version_number(), s->o.model, (unsigned long long)s->o.seed,
             s->haplotypes == 2 ? "two haplotypes a person"
                                : "0/1 where a site is carried, its zygosity is not known");
    if (st == STATUS_OK && !title.s)
        st = no_memory(s);
    if (st == STATUS_OK)
        st = dataset_export_titled(&x.view, s->o.output, title.s, s->o.threads);
    free(title.s);
    set_free(&x);
    return st;
}

/* ---- labels ---- */

status simulate_write(const simulation *s)
{
    kstring_t map = {0};
    char name[NAME];
    int bad = kputs("sample\tlabel\n", &map) < 0;
    for (int k = 0; k < s->n_labels; k++)
        for (int64_t i = 0; i < s->o.people; i++) {
            simulate_sample(s, k, i, name, sizeof name);
            bad |= ksprintf(&map, "%s\t%s\n", name, simulate_label(s, k)) < 0;
        }
    status st = bad ? no_memory(s) : replace_text(s->map, map.s);
    free(map.s);
    return st == STATUS_OK ? write_genotypes(s) : st;
}

/* ---- numbers ---- */

typedef struct {
    double nll;
    int64_t judged, carried, sequences;
} label_sums;

static label_sums sums_of(const simulation *s, int k)
{
    const uint8_t *bytes = (const uint8_t *)s->carried;
    const int64_t each = s->o.people * s->haplotypes;
    label_sums sum = {.sequences = each};
    for (int64_t i = k * each; i < (k + 1) * each; i++) {
        sum.nll += s->nll[i];
        sum.judged += s->judged[i];
        for (int64_t at = 0; at < s->d->n_sites; at++)
            sum.carried += bytes[i * s->d->n_sites + at] != 0;
    }
    return sum;
}

char *simulate_json(const simulation *s)
{
    json_t *labels = json_array();
    for (int k = 0; k < s->n_labels; k++) {
        const label_sums sum = sums_of(s, k);
        json_array_append_new(
            labels, json_pack("{s:s,s:I,s:I,s:I,s:I,s:f}", "label", simulate_label(s, k), "people",
                              (json_int_t)s->o.people, "sequences", (json_int_t)sum.sequences,
                              "carried", (json_int_t)sum.carried, "judged_sites",
                              (json_int_t)sum.judged, "nll", sum.nll));
    }
    json_t *j = json_pack("{s:s,s:b,s:s,s:s,s:I,s:s,s:s,s:I,s:s,s:I,s:I,s:I,s:o}", "schema",
                          "crocuta/simulate/1", "simulated", 1, "model", s->o.model, "model_file",
                          s->file->path, "model_step", (json_int_t)s->file->step, "output",
                          s->o.output, "samples", s->map, "seed", (json_int_t)s->o.seed,
                          "genotypes", s->haplotypes == 2 ? "haplotypes" : "union", "context",
                          (json_int_t)s->context, "sites", (json_int_t)s->d->n_sites, "blocks",
                          (json_int_t)s->n_blocks, "labels", labels);
    json_object_set_new(j, "assembly", json_string(s->d->assembly));
    json_object_set_new(j, "passes", json_integer(s->passes));
    json_object_set_new(j, "sequences_passed", json_integer(s->sequences_passed));
    json_object_set_new(j, "seconds", json_real(s->seconds));
    json_object_set_new(j, "ranks", json_integer(s->ranks));
    json_object_set_new(j, "threads", json_integer(s->o.threads));
    json_object_set_new(j, "command", json_string(s->o.command));
    char *text = json_dumps(j, JSON_INDENT(1) | JSON_REAL_PRECISION(12));
    json_decref(j);
    char *lines = text ? realloc(text, strlen(text) + 2) : NULL;
    if (!lines) {
        free(text);
        return NULL;
    }
    return strcat(lines, "\n");
}

void simulate_print(const simulation *s, FILE *to)
{
    fprintf(to, "SIMULATED people of %s (seed %llu): %lld sites in %lld blocks, %s, context %lld\n",
            s->o.model, (unsigned long long)s->o.seed, (long long)s->d->n_sites,
            (long long)s->n_blocks,
            s->haplotypes == 2 ? "two haplotypes a person" : "unions of two haplotypes",
            (long long)s->context);
    for (int k = 0; k < s->n_labels; k++) {
        const label_sums sum = sums_of(s, k);
        fprintf(to, "  %-10s %6lld people, %.1f carried sites each, %.4f nats a site\n",
                simulate_label(s, k), (long long)s->o.people,
                (double)sum.carried / (double)s->o.people,
                sum.judged ? sum.nll / (double)sum.judged : 0.0);
    }
    fprintf(to, "%s and %s in %.1f s (%lld passes)\n", s->o.output, s->map, s->seconds,
            (long long)s->passes);
}
