/* The course of a simulation: the model and its sites, one drawing a sequence and block of sites
 * dealt to ranks in groups, and everything put together on every rank. */
#include "runtime/train/simulate.h"

#include "runtime/core/log.h"
#include "runtime/train/model_sites.h"
#include "runtime/train/worker_device.h"

#include <stdlib.h>
#include <string.h>

#define ROOM 64  /* sequences a forward pass: 8192 tokens of windows of 128, as in evaluation */
#define AHEAD 64 /* sites guessed ahead: docs/simulate.md */
/* Drawings a rank takes at once. Their number must not depend on the ranks, for what is drawn
 * together shares passes, whose roundings would then differ. */
#define GROUP 256

static status no_memory(const simulation *s)
{
    return fail(STATUS_MEMORY,
                "%s: no memory for %lld simulated sequences of %lld sites; simulate fewer people "
                "at once, each with its own --seed",
                s->o.model, (long long)s->n_sequences, (long long)s->d->n_sites);
}

/* ---- opening ---- */

const char *simulate_label(const simulation *s, int k)
{
    return s->file->labels ? s->file->labels[s->label[k]] : s->d->labels[s->label[k]];
}

static status choose_labels(simulation *s)
{
    char known[256] = "";
    const int classes = s->file->classes;
    for (s->n_labels = 0; s->n_labels < classes; s->n_labels++)
        s->label[s->n_labels] = s->n_labels;
    if (!s->o.label)
        return STATUS_OK;
    for (int k = 0; k < classes; k++) {
        const char *name = simulate_label(s, k);
        if (!strcmp(name, s->o.label)) {
            s->label[0] = k;
            s->n_labels = 1;
            return STATUS_OK;
        }
        const size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, "%s%s", k ? ", " : "", name);
    }
    return fail(STATUS_USAGE, "--label: %s is none of %s's labels; choose one of %s", s->o.label,
                s->o.model, known);
}

static status open_model(simulation *s, comm *c)
{
    TRY(worker_device_open(c, s->o.device, s->o.threads, &s->dev));
    TRY(model_file_open(s->o.model, -1, NULL, 0, s->dev, &s->file));
    const model_file *f = s->file;
    if (f->classes < 2 || model_site_head(f->m) != f->classes)
        return fail(STATUS_DATA,
                    "%s: it has no site head that knows labels, so it cannot say what people of a "
                    "label carry; train one (crocuta finetune with model.head: class-conditional)",
                    s->o.model);
    if (!f->labels && s->d->n_labels != f->classes)
        return fail(STATUS_DATA, "%s: its labels have no names; use the run it was exported from",
                    s->o.model);
    TRY(choose_labels(s));
    TRY(model_sites_place(s->file, s->d));
    TRY(dataset_block(s->d, f->c.data.max_gap));
    const int64_t trained = f->c.data.seq_len > 0 ? f->c.data.seq_len : 128;
    const int64_t most = f->c.model.l_max > 0 ? f->c.model.l_max : trained;
    s->context = s->o.context > 0 ? s->o.context : trained < most ? trained : most;
    if (s->context > most)
        return fail(STATUS_USAGE, "--context: %lld; the model reads %lld tokens at most",
                    (long long)s->context, (long long)most);
    s->haplotypes = f->c.data.alleles == ALLELES_UNION ? 1 : 2;
    s->n_sequences = s->n_labels * s->o.people * s->haplotypes;
    return STATUS_OK;
}

/* ---- drawing ---- */

typedef struct {
    int64_t first, end;
} block_range;

/* The blocks, the longest first: the last of a group, which are drawn alone, are then short. */
static int longer_first(const void *a, const void *b)
{
    const block_range *x = a, *y = b;
    const int64_t m = x->end - x->first, n = y->end - y->first;
    return m != n ? (m < n) - (m > n) : (x->first > y->first) - (x->first < y->first);
}

static status blocks_of(simulation *s, block_range **out)
{
    const dataset *d = s->d;
    block_range *list = *out = malloc((size_t)(d->n_blocks + 1) * sizeof *list);
    if (!list)
        return no_memory(s);
    s->n_blocks = 0;
    for (int64_t from = 0, to; from < d->n_sites; from = to) {
        for (to = from + 1; to < d->n_sites && d->block[to] == d->block[from];)
            to++;
        list[s->n_blocks++] = (block_range){from, to};
    }
    qsort(list, (size_t)s->n_blocks, sizeof *list, longer_first);
    return STATUS_OK;
}

/* Drawing i of all: block by block, in each every sequence. */
static int64_t sampled_at(const simulation *s, const block_range *blocks, int64_t i, sampled *q)
{
    const int64_t sequence = i % s->n_sequences, sites = s->d->n_sites;
    const int64_t each = s->o.people * s->haplotypes;
    const block_range *b = &blocks[i / s->n_sequences];
    uint8_t *bytes = (uint8_t *)s->carried;
    *q = (sampled){.label = s->label[sequence / each],
                   .key = (uint64_t)(sequence % each),
                   .first = b->first,
                   .end = b->end,
                   .base = bytes + sequence * sites + b->first};
    return sequence;
}

static status draw_groups(simulation *s, sampler *x, const block_range *blocks, comm *c)
{
    sampled group[GROUP];
    int64_t of[GROUP];
    const int64_t total = s->n_sequences * s->n_blocks;
    progress p;
    progress_start(&p, "simulate", 0, total);
    for (int64_t from = 0; from < total; from += GROUP) {
        const int64_t n = total - from < GROUP ? total - from : GROUP;
        if (from / GROUP % comm_size(c) != comm_rank(c))
            continue;
        for (int64_t i = 0; i < n; i++)
            of[i] = sampled_at(s, blocks, from + i, &group[i]);
        TRY(sampler_run(x, group, n));
        for (int64_t i = 0; i < n; i++) {
            s->nll[of[i]] += group[i].nll;
            s->judged[of[i]] += group[i].judged;
        }
        progress_show(&p, from + n, NULL);
    }
    progress_end(&p, total, NULL);
    return STATUS_OK;
}

static status room_for_all(simulation *s)
{
    const int64_t bytes = s->n_sequences * s->d->n_sites;
    s->carried = calloc((size_t)(bytes / 8 + 1), sizeof *s->carried);
    s->nll = calloc((size_t)s->n_sequences + 1, sizeof *s->nll);
    s->judged = calloc((size_t)s->n_sequences + 1, sizeof *s->judged);
    return s->carried && s->nll && s->judged ? STATUS_OK : no_memory(s);
}

static status draw_all(simulation *s, comm *c)
{
    block_range *blocks = NULL;
    sampler *x = NULL;
    status st;
    TRY_GOTO(done, room_for_all(s));
    TRY_GOTO(done, blocks_of(s, &blocks));
    const sampler_options how = {.context = s->context,
                                 .room = ROOM,
                                 .ahead = s->o.ahead > 0 ? s->o.ahead : AHEAD,
                                 .seed = s->o.seed};
    TRY_GOTO(done, sampler_open(s->file->m, s->d, &how, &x));
    TRY_GOTO(done, draw_groups(s, x, blocks, c));
    sampler_effort(x, &s->passes, &s->sequences_passed);
done:
    device_abandon(s->dev); /* it may read what follows */
    sampler_close(&x);
    free(blocks);
    return st;
}

/* Every byte is of one rank and zero on the others: sums of eight at a time carry nothing over. */
static status put_together(simulation *s, comm *c)
{
    int64_t effort[2] = {s->passes, s->sequences_passed};
    TRY(comm_sum_i64(c, s->carried, s->n_sequences * s->d->n_sites / 8 + 1));
    TRY(comm_sum_f64(c, s->nll, s->n_sequences));
    TRY(comm_sum_i64(c, s->judged, s->n_sequences));
    TRY(comm_sum_i64(c, effort, 2));
    s->passes = effort[0];
    s->sequences_passed = effort[1];
    return STATUS_OK;
}

/* ---- the whole ---- */

/* FILE.vcf.gz or FILE.vcf: the table is FILE.samples.tsv. */
status simulate_map_name(const char *output, char map[CONFIG_TEXT])
{
    static const char *const ends[] = {".vcf.gz", ".vcf.bgz", ".vcf"};
    const size_t n = strlen(output);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        const size_t m = strlen(ends[i]);
        if (n <= m || strcmp(output + n - m, ends[i]) != 0)
            continue;
        if (n - m + sizeof ".samples.tsv" > CONFIG_TEXT)
            return fail(STATUS_USAGE, "%.80s...: the path is too long; choose a shorter one",
                        output);
        snprintf(map, CONFIG_TEXT, "%.*s.samples.tsv", (int)(n - m), output);
        return STATUS_OK;
    }
    return fail(STATUS_USAGE,
                "%s: what is written is a VCF; choose a name that ends in .vcf or .vcf.gz", output);
}

status simulate_run(const simulate_options *o, comm *c, simulation **out)
{
    const double start = clock_monotonic_s();
    simulation *s = *out = calloc(1, sizeof *s);
    status st = STATUS_OK;
    if (!s)
        st = fail(STATUS_MEMORY, "%s: no memory for a simulation; close other programs", o->model);
    TRY(comm_agree(c, st));
    s->o = *o;
    s->ranks = comm_size(c);
    TRY(comm_agree(c, simulate_map_name(o->output, s->map)));
    TRY(model_sites_open(o->model, c, &s->d));
    TRY(comm_agree(c, open_model(s, c)));
    TRY(comm_agree(c, draw_all(s, c)));
    TRY(put_together(s, c));
    s->seconds = clock_monotonic_s() - start;
    return STATUS_OK;
}

void simulate_close(simulation **out)
{
    simulation *s = *out;
    if (!s)
        return;
    model_file_close(&s->file);
    device_close(&s->dev);
    dataset_close(&s->d);
    free(s->carried);
    free(s->nll);
    free(s->judged);
    free(s);
    *out = NULL;
}
