/* Trials as a table: for programs, and for a person. */
#include "runtime/train/sweep.h"
#include "runtime/train/tables.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int sweep_count(const sweep *s, trial_state state)
{
    int n = 0;
    for (int i = 0; i < s->n; i++)
        n += s->trials[i].state == state;
    return n;
}

static void put_count(FILE *f, int64_t x)
{
    if (x < 0)
        fprintf(f, "\tNA");
    else
        fprintf(f, "\t%lld", (long long)x);
}

static void put_number(FILE *f, double x, const char *format)
{
    char text[64];
    snprintf(text, sizeof text, format, x);
    fprintf(f, "\t%s", isfinite(x) ? text : "NA");
}

/* Keys of the configuration: of a trial that the file no longer describes nothing is known. */
static void put_key(FILE *f, const config *c, const char *key)
{
    char value[CONFIG_TEXT + 64] = "NA";
    if (c && config_get(c, key, value, sizeof value) != STATUS_OK)
        strcpy(value, "NA");
    fprintf(f, "\t%s", value);
}

static bool has_alpha(const config *c)
{
    return c && c->position.encoding == ENCODING_FPE;
}

static void put_row(FILE *f, const sweep_trial *t)
{
    const trial_result *r = &t->result;
    fprintf(f, "%s\t%s", t->name, trial_state_name(t->state));
    put_key(f, has_alpha(t->c) ? t->c : NULL, "position.alpha");
    put_key(f, t->c, "data.seq_len");
    put_key(f, t->c, "position.encoding");
    put_key(f, t->c, "model.mixer");
    put_key(f, t->c, "seed");
    put_count(f, r->params);
    put_count(f, r->table_bytes);
    put_count(f, r->peak_bytes);
    put_number(f, r->step_ms, "%.3f");
    put_number(f, r->perplexity, "%.6f");
    put_number(f, r->perplexity_position, "%.6f");
    put_number(f, r->accuracy, "%.6f");
    put_number(f, r->ci_low, "%.6f");
    put_number(f, r->ci_high, "%.6f");
    fprintf(f, "\t%s", r->run[0] ? r->run : "NA");
    put_key(f, t->c && position_levels(t->c) ? t->c : NULL, "position.rows");
    put_key(f, t->c && position_levels(t->c) ? t->c : NULL, "position.rank");
    put_count(f, r->rows);
    put_count(f, r->dense_bytes);
    put_number(f, r->lookup, "%.6f");
    put_number(f, r->lookup_position, "%.6f");
    put_number(f, r->next_site, "%.6f");
    put_count(f, r->n_people);
    put_count(f, r->n_windows);
    put_count(f, r->tokens);
    fprintf(f, "\t%s\n", t->state != TRIAL_DONE && t->reason[0] ? t->reason : "NA");
}

/* ---- for a person ---- */

static void print_number(FILE *to, int width, double x, const char *format)
{
    char text[64];
    snprintf(text, sizeof text, format, x);
    fprintf(to, " %*s", width, isfinite(x) ? text : "-");
}

static double mebibytes(int64_t bytes)
{
    return bytes < 0 ? NAN : (double)bytes / (1 << 20);
}

static void print_row(FILE *to, int width, const sweep_trial *t)
{
    const trial_result *r = &t->result;
    fprintf(to, "%-*s %-7s", width, t->name, trial_state_name(t->state));
    print_number(to, 9, r->perplexity, "%.4f");
    print_number(to, 9, r->lookup, "%.4f");
    print_number(to, 9, r->perplexity_position, "%.4f");
    print_number(to, 9, r->lookup_position, "%.4f");
    print_number(to, 8, 100 * r->accuracy, "%.2f");
    if (isfinite(r->ci_low))
        fprintf(to, " [%6.2f, %6.2f]", 100 * r->ci_low, 100 * r->ci_high);
    else
        fprintf(to, " %16s", "-");
    print_number(to, 8, r->n_windows < 0 ? NAN : (double)r->n_windows, "%.0f");
    print_number(to, 10, mebibytes(r->table_bytes), "%.2f");
    print_number(to, 11, mebibytes(r->dense_bytes), "%.2f");
    print_number(to, 9, r->step_ms, "%.1f");
    fprintf(to, "\n");
}

void sweep_print(const sweep *s, FILE *to)
{
    int width = 5;
    for (int i = 0; i < s->n; i++)
        if ((int)strlen(s->trials[i].name) > width)
            width = (int)strlen(s->trials[i].name);
    fprintf(to, "%-*s %-7s %9s %9s %9s %9s %8s %16s %8s %10s %11s %9s\n", width, "", "", "next",
            "look-up", "next by", "look-up", "accuracy", "95 % over people", "windows", "rows MiB",
            "dense MiB", "step ms");
    fprintf(to, "%-*s %-7s %9s %9s %9s %9s %8s %16s %8s %10s %11s %9s\n", width, "trial", "status",
            "allele", "", "position", "", "%", "", "", "touched", "p,g,m,v", "");
    for (int i = 0; i < s->n; i++)
        print_row(to, width, &s->trials[i]);
    for (int i = 0; i < s->n; i++)
        if (s->trials[i].state == TRIAL_FAILED)
            fprintf(to, "%s failed: %s\n", s->trials[i].name, s->trials[i].reason);
}

/* ---- files ---- */

static void put_table(const sweep *s, FILE *f)
{
    fprintf(f, "trial\tstatus\talpha\tseq_len\tencoding\tmixer\tseed\tparams\ttable_bytes\t"
               "peak_bytes\tstep_ms\tperplexity\tperplexity_position\taccuracy\tci_low\tci_high\t"
               "run\trows\trank\ttouched_rows\tdense_bytes\tlookup\tlookup_position\tnext_site\t"
               "n_people\tn_windows\ttokens\treason\n");
    for (int i = 0; i < s->n; i++)
        put_row(f, &s->trials[i]);
}

static status write_with(const sweep *s, void (*put)(const sweep *, FILE *), const char *name)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *f = open_memstream(&text, &bytes);
    if (f)
        put(s, f);
    status st = STATUS_OK;
    if (!f || fclose(f) != 0)
        st = fail(STATUS_MEMORY, "%s: no memory for its table; close other programs", s->ask->dir);
    if (st == STATUS_OK)
        st = result_text(s->ask->dir, name, text);
    free(text);
    return st;
}

status sweep_table(const sweep *s)
{
    TRY(write_with(s, put_table, "trials.tsv"));
    return write_with(s, sweep_print, "table.txt");
}
