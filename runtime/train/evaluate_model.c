/* A model on the windows of an evaluation: see evaluate_model.h. People are dealt to ranks in turn;
 * every answer has one place in an array that is zero on the other ranks, so that sums over ranks
 * are exact. */
#include "runtime/train/evaluate_model.h"

#include "model/model.h"
#include "runtime/core/log.h"
#include "runtime/train/feed.h"
#include "runtime/train/model_file.h"
#include "runtime/train/model_sites.h"
#include "runtime/train/snapshot.h"
#include "runtime/train/statistics.h"
#include "runtime/train/worker_device.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_TOKENS 8192 /* a micro-batch: enough for the products, little memory */

struct evaluate_model {
    model_file *file;
    device *dev;
    const dataset *d;
    int *class_of;       /* (file->classes) class of the data set */
    double *row;         /* (file->classes) one window's, in that order */
    int64_t longest;     /* tokens that a piece of a window may have; 0: any */
    int64_t room;        /* sequences a micro-batch */
    feed f;              /* the micro-batch; its length is that of a piece */
    float *class_logits; /* (room, classes), twice: for the other reading */
    float *site_logits;  /* (entries of the micro-batch, classes of the site head) */
    int64_t site_room;   /* floats */
    float *token_loss;   /* (room, Lp) of a model that predicts bases, */
    float *logits;       /* and (VOCABULARY_PADDED, room, Lp) */
};

/* What is asked of windows; the others are NULL. */
typedef struct {
    double *logp;   /* (n, classes) */
    double *losses; /* (people, 2) loss and targets */
    double *sites;  /* (people, SITE_NUMBERS) */
} question;

/* A person's part of a site_calibration: count, carried and predicted by bin, then nll. */
#define SITE_NUMBERS (3 * SITE_BINS + 1)

/* ---- opening ---- */

/* The file's classes by name: a checkpoint may know them in another order. */
static status match_labels(evaluate_model *m, const char *name)
{
    const model_file *f = m->file;
    const dataset *d = m->d;
    if (f->classes == 0)
        return STATUS_OK;
    if (f->classes != d->n_labels)
        return fail(
            STATUS_DATA,
            "%s: a classifier of %d labels, but %s has %lld; evaluate it on data with its labels",
            name, f->classes, d->path, (long long)d->n_labels);
    m->class_of = malloc((size_t)f->classes * sizeof *m->class_of);
    m->row = malloc((size_t)f->classes * sizeof *m->row);
    if (!m->class_of || !m->row)
        return fail(STATUS_MEMORY, "%s: no memory for its labels; close other programs", name);
    for (int k = 0; k < f->classes; k++) {
        m->class_of[k] = f->labels ? -1 : k;
        for (int64_t j = 0; f->labels && j < d->n_labels; j++)
            if (!strcmp(f->labels[k], d->labels[j]))
                m->class_of[k] = (int)j;
        if (m->class_of[k] < 0)
            return fail(STATUS_DATA,
                        "%s: its label %s is none of %s; evaluate it on data with its labels", name,
                        f->labels[k], d->path);
    }
    return STATUS_OK;
}

/* Was the model trained on these people and sites? Rows of positions carry over to another set of
 * the same assembly only where they go by position; another split is worth a warning, for its
 * training people may be tested here. */
static status match_data(const evaluate_model *m, const char *name)
{
    const dataset *d = m->d;
    if (m->file->c.data.tokens == TOKENS_NUCLEOTIDE && d->n_people > 0)
        return fail(STATUS_DATA,
                    "%s: was trained on nucleotides, and %s holds people; give it "
                    "sequences",
                    name, d->path);
    json_t *state = json_loads(m->file->state, 0, NULL);
    const char *hash = json_string_value(json_object_get(state, "split_hash"));
    const char *assembly = json_string_value(json_object_get(state, "assembly"));
    const bool known = hash && assembly;
    const bool same =
        known && !strcmp(hash, d->split_hash) && snapshot_same_sites(m->file->state, d);
    status st = STATUS_OK;
    if (known && !same && strcmp(assembly, d->assembly) != 0)
        st = fail(
            STATUS_DATA,
            "%s: trained on assembly %s, but %s is %s; import the data in the model's assembly",
            name, assembly, d->path, d->assembly);
    else if (known && !same &&
             ((m->file->c.position.encoding != ENCODING_NONE &&
               m->file->c.position.rows != ROWS_SHARED) ||
              model_site_head(m->file->m)))
        st = fail(
            STATUS_DATA,
            "%s: its position rows belong to the sites of another data set than %s; evaluate it "
            "on its own, or train with position.rows: shared",
            name, d->path);
    else if (known && strcmp(hash, d->split_hash) != 0)
        log_warning("%s: trained with another split than that of %s; people it has learned from "
                    "may be judged here",
                    name, d->path);
    json_decref(state);
    return st;
}

status evaluate_model_open(const char *name, const dataset *d, comm *c, device_kind where,
                           int threads, evaluate_model **out)
{
    device *dev = NULL;
    *out = NULL;
    TRY(worker_device_open(c, where, threads, &dev));
    evaluate_model *m = *out = calloc(1, sizeof *m);
    status st = STATUS_OK;
    if (!m) {
        device_close(&dev);
        return fail(STATUS_MEMORY, "%s: no memory to open it; close other programs", name);
    }
    m->dev = dev;
    m->d = d;
    TRY_GOTO(failed, model_file_open(name, -1, NULL, 0, m->dev, &m->file));
    evaluate_model_pieces(m, m->file->c.model.l_max);
    TRY_GOTO(failed, match_labels(m, name));
    TRY_GOTO(failed, match_data(m, name));
    TRY_GOTO(failed, model_sites_place(m->file, d));
    return STATUS_OK;

failed:
    evaluate_model_close(out);
    return st;
}

void evaluate_model_close(evaluate_model **out)
{
    evaluate_model *m = *out;
    if (!m)
        return;
    device_abandon(m->dev); /* it may read what follows */
    feed_close(&m->f);
    free(m->class_logits);
    free(m->site_logits);
    free(m->token_loss);
    free(m->logits);
    model_file_close(&m->file);
    device_close(&m->dev);
    free(m->class_of);
    free(m->row);
    free(m);
    *out = NULL;
}

const config *evaluate_model_config(const evaluate_model *m)
{
    return &m->file->c;
}

const model_file *evaluate_model_file(const evaluate_model *m)
{
    return m->file;
}

bool evaluate_model_classifies(const evaluate_model *m)
{
    return m->file->classes > 0;
}

bool evaluate_model_knows_sites(const evaluate_model *m)
{
    return model_site_head(m->file->m) > 0;
}

bool evaluate_model_predicts(const evaluate_model *m)
{
    return m->file->classes == 0;
}

/* ---- micro-batches ---- */

/* Arenas and room for batches of windows of at most `length`, made anew for each context. */
static status batch_prepare(evaluate_model *m, int64_t length)
{
    const int64_t padded = length_padded(length);
    m->room = BATCH_TOKENS / padded > 0 ? BATCH_TOKENS / padded : 1;
    free(m->class_logits);
    m->class_logits =
        malloc((size_t)(2 * m->room * (m->file->classes + 1)) * sizeof *m->class_logits);
    if (!m->class_logits)
        return fail(STATUS_MEMORY,
                    "%s: no memory for windows of %lld tokens; ask for shorter ones "
                    "with --context",
                    m->file->path, (long long)length);
    return model_prepare(m->file->m, (batch_shape){m->room, length, padded}, KEEP_INPUT, false);
}

/* Pieces of unequal length differ by one token: the feed is made for each length. */
static status feed_for(evaluate_model *m, int64_t length)
{
    if (m->f.L == length && m->f.room == m->room)
        return STATUS_OK;
    feed_close(&m->f);
    return feed_open(m->room, length, feed_wants_spans(&m->file->c), &m->f);
}

void evaluate_model_pieces(evaluate_model *m, int64_t tokens)
{
    if (tokens > 0 && (m->longest == 0 || tokens < m->longest))
        m->longest = tokens;
}

/* Equal pieces of a window that is longer than they may be: piece k of `pieces`; all windows of a
 * set have the same pieces. */
static window piece_of_window(const window *w, int64_t pieces, int64_t k)
{
    window p = *w;
    const int64_t from = w->count * k / pieces, to = w->count * (k + 1) / pieces;
    p.first += from;
    p.count = to - from;
    return p;
}

static int64_t pieces_of(const evaluate_model *m, int64_t length)
{
    const int64_t most = m->longest > 0 ? m->longest : length;
    return (length + most - 1) / most;
}

/* Logits of the filled windows into m->class_logits; of both readings, their mean. */
static status logits_of(evaluate_model *m, int64_t n)
{
    const int64_t cells = n * m->file->classes;
    const batch b = feed_slice(&m->f, 0, n, true);
    const model_outputs out = {.class_logits = m->class_logits};
    loss_sum ignored;
    TRY(model_forward(m->file->m, &b, &out, &ignored));
    if (m->file->c.data.direction != DIRECTION_BOTH)
        return STATUS_OK;
    for (int64_t i = 0; i < n; i++)
        feed_reverse(&m->f, i);
    const model_outputs back = {.class_logits = m->class_logits + cells};
    TRY(model_forward(m->file->m, &b, &back, &ignored));
    for (int64_t i = 0; i < cells; i++)
        m->class_logits[i] = 0.5f * (m->class_logits[i] + m->class_logits[cells + i]);
    return STATUS_OK;
}

/* Log-probabilities of n windows are added to logp (n, classes), in the data set's order of
 * classes. */
static status classify_batch(evaluate_model *m, int64_t n, double *logp)
{
    const int classes = m->file->classes;
    double *row = m->row;
    TRY(logits_of(m, n));
    for (int64_t i = 0; i < n; i++) {
        for (int c = 0; c < classes; c++)
            row[m->class_of[c]] = m->class_logits[i * classes + c];
        log_softmax(row, 1, classes);
        for (int c = 0; c < classes; c++)
            logp[i * classes + c] += row[c];
    }
    return STATUS_OK;
}

/* Piece k of windows [at, at + n) into the feed, one length or two; hap 1, 2: what that haplotype
 * carries of it, 0: the window itself. */
static status fill_batch(evaluate_model *m, const window_set *w, int64_t at, int64_t n,
                         int64_t pieces, int64_t k, int hap, bool classify)
{
    for (int64_t i = 0; i < n; i++) {
        const window p = piece_of_window(&w->at[at + i], pieces, k);
        if (i == 0)
            TRY(feed_for(m, p.count));
        TRY(hap ? feed_fill_haplotype(&m->f, i, w->d, w->x, &p, hap, classify)
                : feed_fill(&m->f, i, w->d, w->x, &p, classify));
    }
    return STATUS_OK;
}

/* The place of a label of the data set in the file; -1: none. */
static int class_in_file(const evaluate_model *m, int32_t label)
{
    for (int k = 0; k < m->file->classes; k++)
        if (m->class_of[k] == label)
            return k;
    return -1;
}

static void sites_of_sequence(const evaluate_model *m, int64_t i, int64_t head, double *sites)
{
    const feed *f = &m->f;
    const int k = head == 1 ? 0 : class_in_file(m, f->label[i]);
    for (int64_t e = f->span_start[i]; k >= 0 && e < f->span_start[i + 1]; e++) {
        const double z = (double)m->site_logits[(e - f->span_start[0]) * head + k];
        const double p = 1 / (1 + exp(-z));
        const bool carried = f->span_carried[e];
        const int bin = p * SITE_BINS < SITE_BINS - 1 ? (int)(p * SITE_BINS) : SITE_BINS - 1;
        if (f->span_token[e] < 0)
            continue; /* the window begins with it */
        sites[bin]++;
        sites[SITE_BINS + bin] += carried;
        sites[2 * SITE_BINS + bin] += p;
        sites[3 * SITE_BINS] += log1p(exp(-fabs(z))) + ((z > 0) != carried ? fabs(z) : 0);
    }
}

/* The sites of the filled windows into their person's numbers. */
static status sites_batch(evaluate_model *m, int64_t n, double *sites)
{
    const batch b = feed_slice(&m->f, 0, n, m->file->classes > 0);
    const int64_t head = model_site_head(m->file->m), floats = m->f.span_start[n] * head;
    if (floats > m->site_room) {
        free(m->site_logits);
        m->site_room = 0;
        m->site_logits = malloc((size_t)(floats + floats / 4) * sizeof *m->site_logits);
        if (!m->site_logits)
            return fail(STATUS_MEMORY,
                        "%s: no memory for the %lld sites of its windows; ask for "
                        "shorter ones with --context",
                        m->file->path, (long long)m->f.span_start[n]);
        m->site_room = floats + floats / 4;
    }
    const model_outputs out = {.site_logits = m->site_logits};
    TRY(model_forward(m->file->m, &b, &out, NULL));
    for (int64_t i = 0; i < n; i++)
        sites_of_sequence(m, i, head, sites);
    return STATUS_OK;
}

static status loss_batch(evaluate_model *m, int64_t n, double *losses)
{
    const batch b = feed_slice(&m->f, 0, n, false);
    loss_sum sum = {0};
    TRY(model_forward(m->file->m, &b, NULL, &sum));
    losses[0] += sum.sum;
    losses[1] += (double)sum.count;
    return STATUS_OK;
}

/* Windows of the `person`th person. Of a union window that is judged by its haplotypes, the
 * log-probabilities of both are added. */
static status run_batch(evaluate_model *m, const window_set *w, int64_t at, int64_t n,
                        int64_t pieces, int64_t k, const question *q, int64_t person)
{
    const bool haplotypes = m->file->c.data.alleles == ALLELES_BOTH && !q->losses;
    for (int hap = haplotypes; hap <= 2 * haplotypes; hap++) {
        TRY(fill_batch(m, w, at, n, pieces, k, hap, m->file->classes > 0));
        if (q->logp)
            TRY(classify_batch(m, n, q->logp + at * m->file->classes));
        if (q->sites)
            TRY(sites_batch(m, n, q->sites + person * SITE_NUMBERS));
        if (q->losses)
            TRY(loss_batch(m, n, q->losses + 2 * person));
    }
    return STATUS_OK;
}

/* Windows [from, to) are one person's. */
static status run_person(evaluate_model *m, const window_set *w, int64_t from, int64_t to,
                         const question *q, int64_t person)
{
    const int64_t pieces = pieces_of(m, w->context);
    for (int64_t k = 0; k < pieces; k++)
        for (int64_t at = from; at < to; at += m->room) {
            const int64_t n = to - at < m->room ? to - at : m->room;
            TRY(run_batch(m, w, at, n, pieces, k, q, person));
        }
    return STATUS_OK;
}

/* This rank's people: every size-th, from its own number. */
static status run_people(evaluate_model *m, const window_set *w, comm *c, const char *what,
                         const question *q)
{
    const int64_t pieces = pieces_of(m, w->context);
    progress p;
    TRY(batch_prepare(m, (w->context + pieces - 1) / pieces));
    progress_start(&p, what, 0, w->n);
    int64_t person = 0;
    for (int64_t from = 0; from < w->n; person++) {
        int64_t to = from + 1;
        while (to < w->n && w->at[to].person == w->at[from].person)
            to++;
        if (person % comm_size(c) == comm_rank(c))
            TRY(run_person(m, w, from, to, q, person));
        progress_show(&p, to, NULL);
        from = to;
    }
    progress_end(&p, w->n, NULL);
    return STATUS_OK;
}

static status bases_prepare(evaluate_model *m, int64_t context)
{
    const size_t places = (size_t)(m->room * length_padded(context));
    free(m->token_loss);
    free(m->logits);
    m->token_loss = malloc(places * sizeof *m->token_loss);
    m->logits = malloc(places * VOCABULARY_PADDED * sizeof *m->logits);
    if (!m->token_loss || !m->logits)
        return fail(STATUS_MEMORY,
                    "%s: no memory for what is said of windows of %lld bases; ask for shorter ones "
                    "with --context",
                    m->file->path, (long long)context);
    return STATUS_OK;
}

/* The next bases of the k windows in the feed, the first of which is window `at`. */
static status next_bases(evaluate_model *m, int64_t at, int64_t k, next_base_sums *sums)
{
    const feed *f = &m->f;
    const batch b = feed_slice(f, 0, k, false);
    const model_outputs out = {.token_loss = m->token_loss, .logits = m->logits};
    loss_sum sum = {0};
    TRY(model_forward(m->file->m, &b, &out, &sum));
    for (int64_t i = 0; i < k; i++)
        next_base_add(sums, at + i, f->targets + i * f->Lp, m->token_loss + i * f->Lp,
                      m->logits + (TOKEN_BASE_A * k + i) * f->Lp, k * f->Lp, f->L);
    return STATUS_OK;
}

/* Batches in turn over the ranks: what a batch holds depends on no number of ranks. */
static status run_bases(evaluate_model *m, const nucleotides *n, const base_window *list,
                        int64_t count, int64_t context, comm *c, double *logp, next_base_sums *sums)
{
    const int classes = m->file->classes;
    const int64_t most = m->file->c.model.l_max;
    if (m->file->c.data.tokens != TOKENS_NUCLEOTIDE)
        return fail(STATUS_USAGE, "%s: was trained on SNPs, and %s holds sequences; give it people",
                    m->file->path, n->set->path);
    if (context > most)
        return fail(STATUS_USAGE, "%s: reads %lld bases at most, --context is %lld; ask for less",
                    m->file->path, (long long)most, (long long)context);
    TRY(batch_prepare(m, context));
    TRY(feed_for(m, context));
    if (classes == 0)
        TRY(bases_prepare(m, context));
    for (int64_t at = 0, b = 0; at < count; at += m->room, b++) {
        const int64_t left = count - at, k = left < m->room ? left : m->room;
        if (b % comm_size(c) != comm_rank(c))
            continue;
        for (int64_t i = 0; i < k; i++)
            TRY(feed_put_bases(&m->f, i, n, &list[at + i], classes > 0));
        TRY(classes > 0 ? classify_batch(m, k, logp + at * classes) : next_bases(m, at, k, sums));
    }
    return STATUS_OK;
}

status evaluate_model_bases(evaluate_model *m, const nucleotides *n, const base_window *list,
                            int64_t count, int64_t context, comm *c, double *logp,
                            next_base_sums *sums)
{
    const int classes = m->file->classes;
    for (int64_t i = 0; logp && i < count * classes; i++)
        logp[i] = 0;
    TRY(comm_agree(c, run_bases(m, n, list, count, context, c, logp, sums)));
    if (classes > 0)
        return comm_sum_f64(c, logp, count * classes);
    TRY(comm_sum_f64(c, sums->window, sums->n * WINDOW_NUMBERS));
    return comm_sum_f64(c, sums->seen[0], (int64_t)SEEN_BINS * SEEN_NUMBERS);
}

status evaluate_model_classes(evaluate_model *m, const window_set *w, comm *c, double *logp)
{
    const int64_t cells = w->n * m->file->classes;
    char what[64];
    snprintf(what, sizeof what, "evaluate %lld SNPs", (long long)w->context);
    for (int64_t i = 0; i < cells; i++)
        logp[i] = 0;
    TRY(comm_agree(c, run_people(m, w, c, what, &(question){.logp = logp})));
    TRY(comm_sum_f64(c, logp, cells));
    for (int64_t i = 0; i < cells; i++)
        if (!isfinite(logp[i]))
            return fail(STATUS_INTERNAL,
                        "%s: a class has no finite probability; the model is broken, use "
                        "an earlier checkpoint",
                        m->file->path);
    log_softmax(logp, w->n, m->file->classes);
    return STATUS_OK;
}

status evaluate_model_loss(evaluate_model *m, const window_set *w, comm *c, double *loss,
                           int64_t *targets)
{
    const int64_t people = window_set_people(w);
    double *losses =
        calloc((size_t)people * 2 + 1, sizeof *losses); /* each person's loss and targets */
    status st = STATUS_OK;
    *loss = 0;
    *targets = 0;
    if (!losses)
        st = fail(STATUS_MEMORY, "%s: no memory for %lld people; close other programs",
                  m->file->path, (long long)people);
    if (st == STATUS_OK)
        st = run_people(m, w, c, "perplexity", &(question){.losses = losses});
    st = comm_agree(c, st);
    if (st == STATUS_OK)
        st = comm_sum_f64(c, losses, people * 2);
    for (int64_t i = 0; st == STATUS_OK && i < people; i++) {
        *loss += losses[2 * i];
        *targets += (int64_t)losses[2 * i + 1];
    }
    free(losses);
    return st;
}

status evaluate_model_sites(evaluate_model *m, const window_set *w, comm *c, site_calibration *out)
{
    const int64_t people = window_set_people(w);
    double *sites = calloc((size_t)people * SITE_NUMBERS + 1, sizeof *sites);
    status st = STATUS_OK;
    *out = (site_calibration){0};
    if (!sites)
        st = fail(STATUS_MEMORY, "%s: no memory for %lld people; close other programs",
                  m->file->path, (long long)people);
    if (st == STATUS_OK)
        st = run_people(m, w, c, "sites", &(question){.sites = sites});
    st = comm_agree(c, st);
    if (st == STATUS_OK)
        st = comm_sum_f64(c, sites, people * SITE_NUMBERS);
    for (int64_t i = 0; st == STATUS_OK && i < people; i++) {
        const double *of = sites + i * SITE_NUMBERS;
        for (int b = 0; b < SITE_BINS; b++) {
            out->count[b] += (int64_t)of[b];
            out->carried[b] += (int64_t)of[SITE_BINS + b];
            out->predicted[b] += of[2 * SITE_BINS + b];
        }
        out->nll += of[3 * SITE_BINS];
    }
    free(sites);
    return st;
}

int64_t site_calibration_sites(const site_calibration *s)
{
    int64_t n = 0;
    for (int b = 0; b < SITE_BINS; b++)
        n += s->count[b];
    return n;
}

double site_calibration_error(const site_calibration *s)
{
    double off = 0;
    for (int b = 0; b < SITE_BINS; b++)
        off += fabs((double)s->carried[b] - s->predicted[b]);
    return off / (double)site_calibration_sites(s);
}
