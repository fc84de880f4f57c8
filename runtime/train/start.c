/* Where a run's values come from before its first step: rows of the site head from counts, and
 * everything else from the model that is to be fine-tuned. */
#include "runtime/train/start.h"

#include "runtime/core/log.h"
#include "runtime/train/baseline.h"
#include "runtime/train/model_file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- rows of the site head ---- */

/* Log-odds that a training person (or haplotype) of a class carries each site, add-one-half,
 * without those who have no call there (a half-missing genotype that carries counts); with one
 * class, and at sites that training leaves out (it must not know who carries them), of everybody.
 * (sites, classes) */
static status count_log_odds(const dataset *d, alleles_kind alleles, int classes,
                             const uint8_t *taught, float *log_odds)
{
    site_counts n = {0};
    status st = site_counts_open(d, alleles, &n);
    for (int64_t s = 0; st == STATUS_OK && s < d->n_sites; s++)
        for (int c = 0; c < classes; c++) {
            double carried = 0, called = 0;
            const bool apart = classes > 1 && taught[s];
            for (int k = apart ? c : 0; k < (apart ? c + 1 : n.classes); k++) {
                /* A half-missing genotype may be carried and uncalled at once. */
                const double have = n.carriers[k * d->n_sites + s];
                carried += have;
                called += fmax((double)(n.sequences[k] - n.missing[k * d->n_sites + s]), have);
            }
            log_odds[s * classes + c] = (float)log((carried + 0.5) / (called - carried + 0.5));
        }
    site_counts_free(&n);
    return st;
}

/* Naive Bayes over every site is what an untrained site head computes. */
status start_site_rows(trainer *t)
{
    const int classes = model_site_head(t->m);
    if (!classes)
        return STATUS_OK;
    const alleles_kind alleles = t->ask->config->data.alleles;
    const int64_t n = t->data->n_sites;
    float *log_odds = malloc(((size_t)(n * classes) + 1) * sizeof *log_odds);
    uint8_t *taught = malloc((size_t)n + 1);
    status st =
        log_odds && taught
            ? STATUS_OK
            : fail(STATUS_MEMORY, "%s: no memory for the counts of its sites; use more memory",
                   t->data->path);
    for (int64_t s = 0; st == STATUS_OK && s < n; s++)
        taught[s] = draws_teach(t->draws, s);
    if (st == STATUS_OK)
        st = count_log_odds(t->data, alleles == ALLELES_UNION ? alleles : ALLELES_HAPLOTYPE,
                            classes, taught, log_odds);
    if (st == STATUS_OK)
        st = position_site_biases(model_position(t->m), log_odds, taught);
    free(log_odds);
    free(taught);
    return st;
}

/* ---- from a trained model ---- */

/* A body of fewer layers, or without the model's positions, would be another model in silence. */
static status same_body(const trainer *t, const model_file *f)
{
    const parameter *mine = NULL, *theirs = NULL;
    const int n = model_parameters(t->m, &mine), have = model_parameters(f->m, &theirs);
    for (int k = 0; k < have; k++) {
        int i = 0;
        while (i < n && strcmp(mine[i].name, theirs[k].name) != 0)
            i++;
        /* What the objective of pretraining had alone is not needed any more. */
        const bool of_objective = strncmp(theirs[k].name, "position.next.", 14) == 0;
        if (i == n && theirs[k].group != GROUP_HEAD && !of_objective)
            return fail(STATUS_USAGE,
                        "%s: this model has no %s, %s has; give the configuration the model of "
                        "that run",
                        t->ask->config->file, theirs[k].name, f->path);
    }
    if (f->c.position.encoding != t->ask->config->position.encoding)
        return fail(STATUS_USAGE,
                    "%s: position.encoding differs from that of %s; give the configuration the "
                    "position of that run",
                    t->ask->config->file, f->path);
    const int64_t mine_l = t->ask->config->model.l_max, theirs_l = f->c.model.l_max;
    if (mine_l != theirs_l && t->ask->config->model.n_layer > 0 &&
        t->ask->config->model.mixer == MIXER_HYENA)
        log_warning("%s: model.l_max is %lld, of %s %lld: its filters, which are functions of "
                    "position / l_max, are stretched",
                    t->ask->config->file, (long long)mine_l, f->path, (long long)theirs_l);
    return STATUS_OK;
}

/* Biases and weights of a class are taken for another one only where both have one name. */
static bool same_labels(const trainer *t, const model_file *f)
{
    if (f->classes != t->data->n_labels)
        return false;
    for (int c = 0; f->labels && c < f->classes; c++)
        if (strcmp(f->labels[c], t->data->labels[c]) != 0)
            return false;
    return true;
}

/* G and run of a model for other classes; the biases of these classes stay. */
static status copy_site_rows(model *m, const row_table *from, row_table *own, int table)
{
    const int64_t shared = 2 * model_config(m)->model.head_rank;
    if (from->k <= shared || own->k <= shared)
        return STATUS_OK;
    int32_t *slot = malloc(((size_t)from->slots + 1) * sizeof *slot);
    status st = slot ? position_slots(model_position(m), table, from->slots, from->row, true, slot)
                     : fail(STATUS_MEMORY, "position: no memory for %lld rows; use more memory",
                            (long long)from->slots);
    device *dev = model_device(m);
    device_view theirs = {0}, ours = {0};
    if (st == STATUS_OK)
        st = device_view_open(dev, from->p, (size_t)(from->slots * from->k) * sizeof(float), true,
                              &theirs);
    if (st == STATUS_OK)
        st = device_view_open(dev, own->p, (size_t)(own->slots * own->k) * sizeof(float), true,
                              &ours);
    for (int64_t i = 0; st == STATUS_OK && i < from->slots; i++)
        memcpy((float *)ours.host + slot[i] * own->k, (const float *)theirs.host + i * from->k,
               (size_t)shared * sizeof(float));
    st = device_view_close(&theirs, false, st);
    st = device_view_close(&ours, true, st);
    free(slot);
    return st;
}

/* A table as it is in the model that was trained; moments begin anew. */
static status copy_table(model *m, const row_table *from, int table)
{
    device_view p;
    TRY(device_view_open(model_device(m), from->p, (size_t)(from->slots * from->k) * sizeof(float),
                         true, &p));
    const status st = position_restore(model_position(m), table, from->slots, from->row, p.host,
                                       NULL, NULL, NULL);
    return device_view_close(&p, false, st);
}

/* Row tables; those of the site head keep their own biases where the classes are others. */
static status copy_rows(trainer *t, model_file *f)
{
    row_table *rows[ROW_TABLES];
    position_encoding *x = model_position(f->m), *mine = model_position(t->m);
    const bool theirs = model_site_head(f->m) > 0, ours = model_site_head(t->m) > 0;
    row_table *own[ROW_TABLES];
    const int levels = (x ? position_tables(x, rows) : 0) - theirs;
    const bool by_site = levels + theirs > 0 && (theirs || f->c.position.rows != ROWS_SHARED);
    if (by_site && !snapshot_same_sites(f->state, t->data))
        return fail(STATUS_USAGE,
                    "%s: its rows belong to other sites than those of %s; give the data set that "
                    "it was trained on",
                    f->path, t->data->path);
    if (levels != (mine ? position_tables(mine, own) : 0) - ours)
        return fail(STATUS_USAGE,
                    "%s: position has another number of tables than that of %s; give the "
                    "configuration the position of that run",
                    t->ask->config->file, f->path);
    for (int l = 0; l < levels; l++) {
        if (rows[l]->alpha != own[l]->alpha || rows[l]->k != own[l]->k ||
            rows[l]->rows != own[l]->rows)
            return fail(STATUS_USAGE,
                        "%s: position.alpha, rank, rows or the sites of the data set differ from "
                        "those of %s; give the configuration the position and data of that run",
                        t->ask->config->file, f->path);
        TRY(copy_table(t->m, rows[l], l));
    }
    if (!theirs || !ours || rows[levels]->rows != own[levels]->rows)
        return STATUS_OK;
    const row_table *r = rows[levels];
    const int64_t rank = t->ask->config->model.head_rank;
    if (f->c.model.head_rank != rank) { /* numbers of a row would mean something else */
        log_warning("%s: model.head_rank is %lld, of %s %lld: the site head begins anew",
                    t->ask->config->file, (long long)rank, f->path,
                    (long long)f->c.model.head_rank);
        return STATUS_OK;
    }
    if (same_labels(t, f))
        return copy_table(t->m, r, levels);
    return copy_site_rows(t->m, r, own[levels], levels);
}

/* The query of an unconditional site head becomes that of every class: fine-tuning begins with what
 * pretraining knows of the next site. */
static status copy_query(model *m, const parameter *to, model *from, const parameter *have,
                         bool *done)
{
    *done = false;
    if (strncmp(to->name, "head.sites.", 11) != 0 || model_site_head(from) != 1 ||
        model_site_head(m) < 2 || to->count != have->count * model_site_head(m))
        return STATUS_OK;
    *done = true;
    for (int c = 0; c < model_site_head(m); c++)
        TRY(device_copy(model_device(m), model_values(m) + to->offset + c * have->count,
                        model_values(from) + have->offset, (size_t)have->count * sizeof(float)));
    return STATUS_OK;
}

/* Parameters and rows of a trained model into the one that is to be fine-tuned. */
static status copy_model(trainer *t, model_file *f)
{
    const parameter *to = NULL, *from = NULL;
    const int n = model_parameters(t->m, &to), have = model_parameters(f->m, &from);
    const bool head = same_labels(t, f);
    t->head_kept = head;
    for (int i = 0; i < n; i++) {
        int k = 0;
        while (k < have && strcmp(to[i].name, from[k].name) != 0)
            k++;
        bool done = false;
        if (k < have)
            TRY(copy_query(t->m, &to[i], f->m, &from[k], &done));
        if (done)
            continue;
        const bool same = k < have && (head || to[i].group != GROUP_HEAD) &&
                          to[i].ndim == from[k].ndim && to[i].count == from[k].count &&
                          memcmp(to[i].shape, from[k].shape, sizeof to[i].shape) == 0;
        if (!same && to[i].group == GROUP_HEAD) {
            t->head_kept = false;
            continue; /* a head for other classes begins anew */
        }
        if (!same)
            return fail(STATUS_USAGE,
                        "%s: %s is missing or of another shape in %s; give the configuration the "
                        "model and position of that run",
                        t->ask->config->file, to[i].name, f->path);
        TRY(device_copy(t->dev, model_values(t->m) + to[i].offset,
                        model_values(f->m) + from[k].offset, (size_t)to[i].count * sizeof(float)));
    }
    TRY(device_wait(t->dev)); /* before theirs is closed */
    return copy_rows(t, f);
}

status start_from_model(trainer *t, const position_space *space)
{
    if (!t->ask->finetune || !t->ask->from || strcmp(t->ask->from, "none") == 0)
        return STATUS_OK;
    model_file *f = NULL;
    status st = model_file_open(t->ask->from, -1, NULL, 0, t->dev, &f);
    if (st == STATUS_OK)
        st = model_file_place(f, space);
    if (st == STATUS_OK)
        st = same_body(t, f);
    if (st == STATUS_OK)
        st = copy_model(t, f);
    if (st == STATUS_OK && !snapshot_same_split(f->state, t->data))
        log_warning("%s: trained with another split than that of %s; people it has learned from "
                    "may be held out here",
                    f->path, t->data->path);
    model_file_close(&f);
    return st;
}
