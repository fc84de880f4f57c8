/* Windows of sequences and who judges them: see evaluate_sequences.h. Of a model that predicts
 * bases no labels are needed. */
#include "runtime/train/evaluate_sequences.h"

#include "runtime/core/log.h"
#include "runtime/train/baseline_kmer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_BASES 100000 /* windows this close are not independent: repeats and composition */
#define VALID_EVERY 5      /* without validation sequences: this part of the training windows */

typedef struct {
    base_window *at; /* as the window set has them */
    int64_t n;
} window_list;

typedef struct {
    evaluation *e;
    comm *c;
    nucleotides bases;
    bool labels; /* are labels judged? Then labelled sequences alone */
    window_list judged[EVALUATE_CONTEXTS];
} course;

static status no_memory(const evaluation *e)
{
    return fail(STATUS_MEMORY, "%s: no memory for its windows; evaluate longer contexts",
                e->o.data);
}

/* ---- sequences as people ---- */

/* A table of "sites": first and last base of each window of all contexts. */
static status set_as_people(course *k)
{
    const sequences *s = k->bases.set;
    const size_t n = (size_t)s->n;
    size_t windows = 0, at = 0;
    for (int i = 0; i < k->e->n_contexts; i++)
        windows += (size_t)k->judged[i].n;
    individual *people = calloc(n, sizeof *people);
    chromosome *chromosomes = calloc(n, sizeof *chromosomes);
    site *sites = calloc(2 * windows + 1, sizeof *sites);
    int64_t *none = calloc(2, sizeof *none); /* runs: nobody asks what they carry */
    dataset view = {.seed = s->seed,
                    .n_people = s->n,
                    .n_chromosomes = s->n,
                    .n_sites = (int64_t)(2 * windows),
                    .n_labels = s->n_labels,
                    .n_shards = 1,
                    .people = people,
                    .chromosomes = chromosomes,
                    .labels = s->labels,
                    .sites = sites,
                    .run = none,
                    .missing_run_of = none};
    void *const owned[] = {people, chromosomes, sites, none};
    memcpy(view.path, s->path, sizeof view.path);
    memcpy(view.assembly, s->assembly, sizeof view.assembly);
    memcpy(view.split_hash, s->split_hash, sizeof view.split_hash);
    if (!people || !chromosomes || !sites || !none) {
        for (int i = 0; i < 4; i++)
            free(owned[i]);
        return no_memory(k->e);
    }
    for (int64_t i = 0; i < s->n; i++) {
        const char *label = s->list[i].label < 0 ? "" : s->labels[s->list[i].label];
        people[i] = (individual){.id = s->list[i].name,
                                 .population = label,
                                 .superpopulation = "",
                                 .family = "",
                                 .split = s->list[i].split,
                                 .label = s->list[i].label,
                                 .shard = -1};
        chromosomes[i] = (chromosome){.name = s->list[i].name, .length = s->list[i].length};
    }
    for (int i = 0; i < k->e->n_contexts; i++)
        for (int64_t w = 0; w < k->judged[i].n; w++) {
            const base_window *b = &k->judged[i].at[w];
            sites[at++].position = (int32_t)(b->start + 1);
            sites[at++].position = (int32_t)(b->start + b->count);
        }
    return dataset_make(&view, owned, 4, &k->e->d);
}

/* The windows of a context as those of people; `site0`: where its sites begin. */
static status windows_describe(course *k, int i, int64_t site0)
{
    const window_list *l = &k->judged[i];
    const sequences *s = k->bases.set;
    window_set *w = &k->e->context[i].windows;
    const size_t room = (size_t)l->n + 1;
    w->d = k->e->d;
    w->at = calloc(room, sizeof *w->at);
    w->label = calloc(room, sizeof *w->label);
    w->block = calloc(room, sizeof *w->block);
    w->first_site = calloc(room, sizeof *w->first_site);
    w->last_site = calloc(room, sizeof *w->last_site);
    if (!w->at || !w->label || !w->block || !w->first_site || !w->last_site)
        return no_memory(k->e);
    w->n = l->n;
    int64_t block0 = 0, before = 0;
    for (int64_t j = 0; j < l->n; j++) {
        const base_window *b = &l->at[j];
        for (; before < b->sequence; before++) /* blocks of the sequences before */
            block0 += s->list[before].length / BLOCK_BASES + 1;
        w->at[j] = (window){
            .person = (int32_t)b->sequence, .chromosome = (int32_t)b->sequence, .count = b->count};
        w->label[j] = s->list[b->sequence].label;
        w->block[j] = (int32_t)(block0 + b->start / BLOCK_BASES);
        w->first_site[j] = (int32_t)(site0 + 2 * j);
        w->last_site[j] = (int32_t)(site0 + 2 * j + 1);
    }
    return STATUS_OK;
}

/* Contexts that have windows stay; the lists are those of the contexts that stay. */
static status windows_make(course *k)
{
    evaluation *e = k->e;
    int64_t site0 = 0;
    for (int i = 0; i < e->o.n_contexts; i++) {
        const int64_t n = e->o.contexts[i];
        window_list *l = &k->judged[e->n_contexts];
        TRY(sequence_draws_tile(k->bases.draws, e->o.split, n, e->o.stride > 0 ? e->o.stride : n,
                                &l->at, &l->n));
        if (l->n == 0) {
            log_warning("%s: no%s sequence of the split has a window of %lld known bases; context "
                        "%lld is left out",
                        e->o.data, k->labels ? " labelled" : "", (long long)n, (long long)n);
            free(l->at);
            l->at = NULL;
            continue;
        }
        e->context[e->n_contexts++].windows.context = n;
    }
    if (e->n_contexts == 0)
        return fail(STATUS_DATA,
                    "%s: no window of any context fits in a%s sequence of the split; ask for "
                    "shorter ones with --context, or for another --split",
                    e->o.data, k->labels ? " labelled" : "");
    TRY(set_as_people(k));
    for (int64_t i = 0; i < k->bases.set->n; i++)
        e->d->n_blocks += k->bases.set->list[i].length / BLOCK_BASES + 1;
    for (int i = 0; i < e->n_contexts; i++) {
        TRY(windows_describe(k, i, site0));
        site0 += 2 * k->judged[i].n;
    }
    return STATUS_OK;
}

/* ---- simple methods ---- */

static void rows_free(kmer_rows *r)
{
    free(r->x);
    free(r->label);
    *r = (kmer_rows){0};
}

/* Every `step`-th window of a list from the first-th on, or all but these (step < 0). */
static status rows_make(course *k, const window_list *l, int64_t context, int step, kmer_rows *r)
{
    uint8_t *ids = malloc((size_t)context + 1);
    r->x = malloc(((size_t)l->n * KMERS + 1) * sizeof *r->x);
    r->label = malloc(((size_t)l->n + 1) * sizeof *r->label);
    r->n = 0;
    if (!ids || !r->x || !r->label) {
        free(ids);
        return no_memory(k->e);
    }
    for (int64_t i = 0; i < l->n; i++) {
        const bool every = step == 0 || i / 8 % VALID_EVERY == 0; /* eight neighbours together */
        if (step != 0 && every == (step < 0))
            continue;
        sequence_draws_fill(k->bases.draws, &l->at[i], ids);
        kmer_frequencies(ids, l->at[i].count, r->x + r->n * KMERS);
        r->label[r->n++] = k->bases.set->list[l->at[i].sequence].label;
    }
    free(ids);
    return STATUS_OK;
}

static status run_kmer(course *k, int i, method_result *m)
{
    const int64_t n = k->e->context[i].windows.context;
    window_list train = {0}, valid = {0};
    kmer_rows rows[3] = {{0}, {0}, {0}};
    status st;
    TRY_GOTO(done, sequence_draws_tile(k->bases.draws, SPLIT_TRAIN, n, n, &train.at, &train.n));
    TRY_GOTO(done, sequence_draws_tile(k->bases.draws, SPLIT_VALID, n, n, &valid.at, &valid.n));
    const bool apart = valid.n > 0;
    TRY_GOTO(done, rows_make(k, &train, n, apart ? 0 : -1, &rows[0]));
    TRY_GOTO(done, rows_make(k, apart ? &valid : &train, n, apart ? 0 : 1, &rows[1]));
    TRY_GOTO(done, rows_make(k, &k->judged[i], n, 0, &rows[2]));
    st = baseline_kmer(&rows[0], &rows[1], &rows[2], k->e->classes, k->e->o.threads, m->logp,
                       &m->l2);
done:
    for (int r = 0; r < 3; r++)
        rows_free(&rows[r]);
    free(train.at);
    free(valid.at);
    return st;
}

/* Shares of the known training bases. */
static void run_majority(const course *k, const window_set *w, double *logp)
{
    const sequences *s = k->bases.set;
    const int classes = k->e->classes;
    for (int c = 0; c < classes; c++) {
        double bases = 0.5;
        for (int64_t i = 0; i < s->n; i++)
            if (s->list[i].label == c && s->list[i].split == SPLIT_TRAIN)
                bases += (double)(s->list[i].length - s->list[i].count.n);
        for (int64_t i = 0; i < w->n; i++)
            logp[i * classes + c] = log(bases);
    }
    log_softmax(logp, w->n, classes);
}

/* ---- the course ---- */

static status run_next_base(course *k, int i)
{
    evaluation *e = k->e;
    context_result *r = &e->context[i];
    TRY(next_base_open(r->windows.n, &r->base_sums));
    TRY(evaluate_model_bases(e->model, &k->bases, k->judged[i].at, r->windows.n, r->windows.context,
                             k->c, NULL, &r->base_sums));
    return next_base_result_of(&r->base_sums, r->windows.block, e->d->n_blocks, &r->next_base);
}

static status run_context(course *k, int i)
{
    evaluation *e = k->e;
    context_result *r = &e->context[i];
    method_result *m = NULL;
    if (e->model && evaluate_model_predicts(e->model))
        TRY(run_next_base(k, i));
    if (e->model && evaluate_model_classifies(e->model)) {
        TRY(evaluate_method(e, r, "model", &m));
        TRY(evaluate_model_bases(e->model, &k->bases, k->judged[i].at, r->windows.n,
                                 r->windows.context, k->c, m->logp, NULL));
    }
    if (k->labels && e->o.baselines[BASELINE_MAJORITY]) {
        TRY(evaluate_method(e, r, "majority", &m));
        run_majority(k, &r->windows, m->logp);
    }
    if (k->labels && e->o.baselines[BASELINE_LOGISTIC]) {
        TRY(evaluate_method(e, r, "logistic", &m));
        TRY(run_kmer(k, i, m)); /* every rank alike: seconds */
    }
    TRY(context_summarise(e, r));
    if (r->n_methods > 0)
        log_note("%lld bases: %lld windows of %lld sequences judged by %d method%s",
                 (long long)r->windows.context, (long long)r->windows.n, (long long)r->n_people,
                 r->n_methods, r->n_methods == 1 ? "" : "s");
    return STATUS_OK;
}

static void tell_perplexity(evaluation *e, int i)
{
    const context_result *r = &e->context[i];
    perplexity_result *p = &e->perplexity;
    *p = (perplexity_result){.context = r->windows.context,
                             .n_people = r->n_people,
                             .n_windows = r->windows.n,
                             .autoregressive = NAN,
                             .position_conditioned = NAN,
                             .lookup_autoregressive = NAN,
                             .lookup_position = NAN,
                             .next_site = NAN,
                             .next_site_nats_per_site = NAN};
    if (!e->model || !evaluate_model_predicts(e->model))
        return;
    p->targets = r->next_base.targets;
    p->autoregressive = exp(r->next_base.loss);
}

/* What a question about people cannot be asked of sequences. */
static status check(const evaluation *e)
{
    const evaluate_options *o = &e->o;
    if ((o->where && o->where->count > 0) || (o->exclude && o->exclude->count > 0) ||
        o->missing > 0 || o->wrong > 0)
        return fail(STATUS_USAGE,
                    "%s: holds sequences; -r, -R, --exclude-regions, --missing and --wrong are for "
                    "genotypes, leave them out",
                    o->data);
    for (int64_t i = 0; i < e->set->n; i++)
        if (e->set->list[i].length > INT32_MAX)
            return fail(STATUS_DATA, "%s: %s is longer than 2^31 bases; cut it", o->data,
                        e->set->list[i].name);
    return STATUS_OK;
}

/* Labels are judged where there are two and somebody judges them; what does not predict bases must.
 */
static status choose_labels(course *k)
{
    const evaluation *e = k->e;
    const int64_t n = e->set->n_labels;
    const bool predicts = e->model && evaluate_model_predicts(e->model);
    k->labels = !predicts ||
                (n > 1 && (e->o.baselines[BASELINE_MAJORITY] || e->o.baselines[BASELINE_LOGISTIC]));
    if (k->labels && n < 2)
        return fail(STATUS_DATA,
                    "%s: its sequences have %lld label%s, two at least are needed; import it with "
                    "-m",
                    e->o.data, (long long)n, n == 1 ? "" : "s");
    return STATUS_OK;
}

/* As the model's own windows are read: soft-masked bases may be hidden from everybody. */
static status draws_as_of_model(course *k)
{
    const evaluation *e = k->e;
    const config *c = e->model ? evaluate_model_config(e->model) : NULL;
    const sequence_draws_how how = {
        .by_label = k->labels, .hide_masked = c && c->data.masked == MASKED_N, .seed = e->o.seed};
    return sequence_draws_open(e->set, &how, &k->bases.draws);
}

static status run(course *k)
{
    evaluation *e = k->e;
    dataset *identity = NULL;
    const bool none = strcmp(e->o.model, "none") == 0;
    TRY(check(e));
    e->classes = (int)e->set->n_labels;
    for (int64_t i = 0; i < e->set->n; i++)
        e->people_of_split[e->set->list[i].split]++;
    status st = none ? STATUS_OK : sequences_identity(e->set, &identity);
    if (st == STATUS_OK && !none)
        st = evaluate_model_open(e->o.model, identity, k->c, e->o.device, e->o.threads, &e->model);
    if (st == STATUS_OK)
        st = choose_labels(k);
    if (st == STATUS_OK)
        st = draws_as_of_model(k);
    if (st == STATUS_OK)
        st = windows_make(k);
    for (int i = 0; i < e->n_contexts && st == STATUS_OK; i++)
        st = run_context(k, i);
    int best = 0;
    for (int i = 0; e->model && i < e->n_contexts; i++)
        if (e->context[i].windows.context == evaluate_model_config(e->model)->data.seq_len)
            best = i;
    if (st == STATUS_OK)
        tell_perplexity(e, best);
    if (st != STATUS_OK)
        evaluate_model_close(&e->model); /* before what it points to */
    dataset_close(&identity);
    return st;
}

status evaluate_sequences(evaluation *e, comm *c)
{
    course k = {.e = e, .c = c, .bases = {.set = e->set}};
    const status st = comm_agree(c, run(&k));
    for (int i = 0; i < EVALUATE_CONTEXTS; i++)
        free(k.judged[i].at);
    sequence_draws_close(&k.bases.draws);
    return st;
}
