/* Scores: see score.h. The file is read twice: to know how many pieces there are and how long, and
 * then to judge them. A round has as many pieces as there are ranks; every rank sees all pieces,
 * computes its own, and the first gathers. */
#include "runtime/train/score.h"

#include "io/score_file.h"
#include "model/weights.h"
#include "runtime/core/log.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* A piece of a round, kept until the round is full. */
typedef struct {
    char *name;
    token_piece p;
    uint8_t *ids, *targets; /* (longest) */
    int64_t *position;
} kept_piece;

typedef struct {
    model_file *f;
    const score_ask *ask;
    comm *ranks;
    int64_t longest, pieces; /* of the file */
    int64_t d;
    kept_piece *round; /* (size) */
    int held;
    uint8_t *ids, *targets; /* (Lp of the longest) */
    int64_t *position;
    float *loss, *hidden, *logits; /* of model_forward: (Lp), (d, Lp), (V, Lp) */
    float *mine, *all;             /* results: of this rank; of a round, on the first rank */
    size_t *bytes;                 /* (size) */
    score_file *logits_file, *embed_file;
} scoring;

static status no_memory(const scoring *s)
{
    return fail(STATUS_MEMORY, "%s: no memory for pieces of %lld tokens; give a shorter --window",
                s->ask->file, (long long)s->longest);
}

/* Floats of a piece's results: losses, then logits, then embeddings, as they are asked for. */
static int64_t embed_floats(const scoring *s, int64_t n)
{
    return !s->ask->embed ? 0 : s->ask->pooled ? s->d : n * s->d;
}

static int64_t logit_floats(const scoring *s, int64_t n)
{
    return s->ask->logits ? n * VOCABULARY_PADDED : 0;
}

static int64_t result_floats(const scoring *s, int64_t n)
{
    return n + logit_floats(s, n) + embed_floats(s, n);
}

/* ---- what is possible ---- */

static status check_model(const model_file *f, const score_ask *ask, bool tokens)
{
    const config *c = &f->c;
    if (model_site_head(f->m) > 0)
        return fail(STATUS_USAGE,
                    "%s: predicts sites, no tokens (objective: next-site); give an autoregressive "
                    "model",
                    f->path);
    if (c->data.absent != ABSENT_NONE)
        return fail(STATUS_USAGE,
                    "%s: reads the sites that are absent (data.absent: sums), which %s does not "
                    "tell; use crocuta evaluate",
                    f->path, ask->file);
    if (position_levels(c) > 0 && !tokens)
        return fail(STATUS_USAGE,
                    "%s: its tokens are SNPs with positions on an assembly, and %s is FASTA; give "
                    "a token file with /position, or a nucleotide model",
                    f->path, ask->file);
    if (position_levels(c) > 0 && c->position.rows != ROWS_SHARED)
        return fail(STATUS_USAGE,
                    "%s: its rows belong to chromosomes or sites of a data set, which %s does not "
                    "name; use crocuta evaluate",
                    f->path, ask->file);
    return STATUS_OK;
}

static status choose_window(const model_file *f, const score_ask *ask, int64_t *window)
{
    const config_model *m = &f->c.model;
    const bool bound = m->mixer == MIXER_HYENA && m->n_layer > 0;
    const int64_t most = bound ? m->l_max : (int64_t)1 << 30;
    if (ask->window > most)
        return fail(STATUS_USAGE,
                    "--window: %lld tokens, but the filters of %s reach over %lld (model.l_max); "
                    "give that or less",
                    (long long)ask->window, f->path, (long long)most);
    *window = ask->window > 0 ? ask->window : most;
    return STATUS_OK;
}

static bool is_classifier(const model_file *f)
{
    if (f->flat)
        return weights_labels(f->flat) != NULL;
    json_t *state = json_loads(f->state, 0, NULL); /* pretraining knows labels, too: of its data */
    const bool is = json_integer_value(json_object_get(state, "classes")) > 0;
    json_decref(state);
    return is;
}

typedef struct {
    int64_t longest, cut;
    bool unplaced; /* pieces without positions */
} survey;

static status look(void *context, const token_piece *p)
{
    survey *s = context;
    if (p->n > s->longest)
        s->longest = p->n;
    s->cut += p->cut && p->start == 0;
    s->unplaced = s->unplaced || !p->position;
    return STATUS_OK;
}

static status look_through(scoring *s, const pieces_how *how)
{
    survey seen = {0};
    pieces_seen counts;
    const piece_sink to = {.piece = look, .context = &seen};
    TRY(pieces_read(s->ask->file, how, &to, &counts));
    if (seen.unplaced && position_levels(&s->f->c) > 0)
        return fail(STATUS_USAGE, "%s: has no /position, which %s needs; write it as (B, L)",
                    s->ask->file, s->f->path);
    if (counts.empty > 0)
        log_warning("%s: %lld of %lld sequences are empty (%s first) and have no line",
                    s->ask->file, (long long)counts.empty, (long long)counts.sequences,
                    counts.first_empty);
    if (seen.cut > 0)
        log_note("%lld of %lld sequences are longer than %lld tokens: judged in pieces, each "
                 "without what stands before it",
                 (long long)seen.cut, (long long)counts.sequences, (long long)how->longest);
    if (is_classifier(s->f))
        log_warning("%s: is a classifier; its likelihoods are not what it was trained for",
                    s->f->path);
    s->longest = seen.longest;
    s->pieces = counts.pieces;
    return STATUS_OK;
}

/* ---- memory ---- */

static batch_shape shape_of(int64_t n)
{
    return (batch_shape){1, n, length_padded(n)};
}

/* Results and copies of the batch, on the host. */
static int64_t host_bytes(const scoring *s)
{
    const int64_t Lp = length_padded(s->longest), ranks = comm_size(s->ranks);
    const int64_t floats = Lp + (s->ask->logits ? VOCABULARY_PADDED * Lp : 0) +
                           (s->ask->embed ? s->d * Lp : 0) +
                           result_floats(s, s->longest) * (ranks > 1 ? 1 + ranks : 1);
    return floats * (int64_t)sizeof(float) + (10 + 10 * ranks) * Lp;
}

/* The plan of the longest piece against the memory that is there. */
static status plan_fits(scoring *s)
{
    const double gib = 1024.0 * 1024.0 * 1024.0;
    device *dev = model_device(s->f->m);
    model_cost cost;
    device_room room;
    TRY(model_plan(s->f->m, shape_of(s->longest), KEEP_INPUT, false, &cost));
    TRY(device_room_of(dev, &room));
    const int64_t results = host_bytes(s);
    const int64_t total = cost.weights + cost.activations + cost.workspace + results;
    int64_t there = s->ask->memory;
    if (there == 0 && room.available > 0)
        there = room.available / (device_is_host(dev) ? comm_places(s->ranks) : 1) + cost.weights;
    if (there == 0 || total <= there)
        return STATUS_OK;
    return fail(STATUS_RESOURCE,
                "%s: a piece of %lld tokens needs %.3g GiB (weights %.3g, activations %.3g, "
                "workspace %.3g, results %.3g), %.3g GiB free on %s; give a shorter --window or "
                "more memory",
                s->ask->file, (long long)s->longest, (double)total / gib,
                (double)cost.weights / gib, (double)cost.activations / gib,
                (double)cost.workspace / gib, (double)results / gib, (double)there / gib,
                comm_host(s->ranks));
}

static status reserve(scoring *s)
{
    const size_t n = (size_t)s->longest, Lp = (size_t)length_padded(s->longest);
    const int ranks = comm_size(s->ranks);
    s->ids = malloc(Lp);
    s->targets = malloc(Lp);
    s->position = calloc(Lp, sizeof *s->position);
    s->loss = malloc(Lp * sizeof(float));
    s->hidden = s->ask->embed ? malloc(Lp * (size_t)s->d * sizeof(float)) : NULL;
    s->logits = s->ask->logits ? malloc(Lp * VOCABULARY_PADDED * sizeof(float)) : NULL;
    s->mine = malloc((size_t)result_floats(s, s->longest) * sizeof(float));
    if (ranks > 1 && comm_rank(s->ranks) == 0)
        s->all = malloc((size_t)(ranks * result_floats(s, s->longest)) * sizeof(float));
    s->bytes = calloc((size_t)ranks, sizeof *s->bytes);
    s->round = calloc((size_t)ranks, sizeof *s->round);
    bool there = s->ids && s->targets && s->position && s->loss && s->mine && s->bytes &&
                 s->round && (s->hidden || !s->ask->embed) && (s->logits || !s->ask->logits) &&
                 (s->all || ranks == 1 || comm_rank(s->ranks) != 0);
    for (int i = 0; i < ranks && there; i++) {
        kept_piece *k = &s->round[i];
        k->ids = malloc(n);
        k->targets = malloc(n);
        k->position = malloc(n * sizeof *k->position);
        there = k->ids && k->targets && k->position;
    }
    return there ? model_prepare(s->f->m, shape_of(s->longest), KEEP_INPUT, false) : no_memory(s);
}

static status files_open(scoring *s)
{
    if (comm_rank(s->ranks) != 0)
        return STATUS_OK;
    if (s->ask->logits)
        TRY(score_file_open(s->ask->logits, "logits", s->pieces, s->longest, VOCABULARY_PADDED,
                            &s->logits_file));
    if (s->ask->embed)
        TRY(score_file_open(s->ask->embed, s->ask->pooled ? "pooled" : "hidden", s->pieces,
                            s->ask->pooled ? 0 : s->longest, s->d, &s->embed_file));
    return STATUS_OK;
}

static void scoring_close(scoring *s)
{
    device_abandon(model_device(s->f->m)); /* it may read what follows */
    for (int i = 0; s->round && i < comm_size(s->ranks); i++) {
        free(s->round[i].name);
        free(s->round[i].ids);
        free(s->round[i].targets);
        free(s->round[i].position);
    }
    free(s->round);
    free(s->ids);
    free(s->targets);
    free(s->position);
    free(s->loss);
    free(s->hidden);
    free(s->logits);
    free(s->mine);
    free(s->all);
    free(s->bytes);
}

/* ---- a round ---- */

/* (channels, Lp) -> (n, channels) */
static void channels_last(const float *x, int64_t channels, int64_t n, float *y)
{
    const int64_t Lp = length_padded(n);
    for (int64_t t = 0; t < n; t++)
        for (int64_t c = 0; c < channels; c++)
            y[t * channels + c] = x[c * Lp + t];
}

static void channel_means(const float *x, int64_t channels, int64_t n, float *y)
{
    const int64_t Lp = length_padded(n);
    for (int64_t c = 0; c < channels; c++) {
        double sum = 0;
        for (int64_t t = 0; t < n; t++)
            sum += (double)x[c * Lp + t];
        y[c] = (float)(sum / (double)n);
    }
}

/* One piece through the model; its results in s->mine. */
static status judge(scoring *s, const kept_piece *k)
{
    const int64_t n = k->p.n;
    const batch_shape shape = shape_of(n);
    memset(s->ids, TOKEN_PAD, (size_t)shape.Lp);
    memset(s->targets, TARGET_NONE, (size_t)shape.Lp);
    memcpy(s->ids, k->ids, (size_t)n);
    memcpy(s->targets, k->targets, (size_t)n);
    for (int64_t t = 0; t < shape.Lp; t++)
        s->position[t] = t >= n ? 0 : k->p.position ? k->position[t] : t + 1;
    const batch b = {.s = shape,
                     .ids = s->ids,
                     .targets = s->targets,
                     .position = s->f->c.position.encoding == ENCODING_NONE ? NULL : s->position,
                     .chromosome = &k->p.chromosome};
    const model_outputs out = {.hidden = s->hidden, .logits = s->logits, .token_loss = s->loss};
    loss_sum loss = {0};
    TRY(model_forward(s->f->m, &b, &out, &loss));
    float *to = s->mine;
    memcpy(to, s->loss, (size_t)n * sizeof(float));
    to += n;
    if (s->logits)
        channels_last(s->logits, VOCABULARY_PADDED, n, to);
    to += logit_floats(s, n);
    if (s->hidden && s->ask->pooled)
        channel_means(s->hidden, s->d, n, to);
    else if (s->hidden)
        channels_last(s->hidden, s->d, n, to);
    return STATUS_OK;
}

/* On the first rank: a piece's results to those who asked. */
static status tell(scoring *s, const kept_piece *k, const float *x)
{
    const token_piece *p = &k->p;
    piece_score r = {.piece = *p, .loss = x};
    r.piece.name = k->name;
    r.piece.ids = k->ids;
    r.piece.targets = k->targets;
    for (int64_t t = 0; t < p->n; t++)
        if (k->targets[t] != PIECE_NOTHING) {
            r.n_tokens++;
            r.loglik -= (double)x[t];
        }
    if (s->logits_file)
        TRY(score_file_row(s->logits_file, k->name, p->start, p->n, x + p->n));
    if (s->embed_file)
        TRY(score_file_row(s->embed_file, k->name, p->start, p->n,
                           x + p->n + logit_floats(s, p->n)));
    return s->ask->scored(s->ask->context, &r);
}

static status round_end(scoring *s)
{
    const int ranks = comm_size(s->ranks), me = comm_rank(s->ranks);
    status st = me < s->held ? judge(s, &s->round[me]) : STATUS_OK;
    TRY(comm_agree(s->ranks, st));
    for (int i = 0; i < ranks; i++)
        s->bytes[i] = i < s->held ? (size_t)result_floats(s, s->round[i].p.n) * sizeof(float) : 0;
    if (ranks > 1)
        TRY(comm_gatherv(s->ranks, s->mine, s->bytes[me], s->all, s->bytes, 0));
    const float *x = ranks > 1 ? s->all : s->mine;
    for (int i = 0; me == 0 && i < s->held && st == STATUS_OK; i++) {
        st = tell(s, &s->round[i], x);
        x += s->bytes[i] / sizeof(float);
    }
    s->held = 0;
    return comm_agree(s->ranks, st);
}

static status keep(void *context, const token_piece *p)
{
    scoring *s = context;
    kept_piece *k = &s->round[s->held++];
    if (p->n > s->longest)
        return fail(STATUS_DATA, "%s: changed while it was read; run it again", s->ask->file);
    k->p = *p;
    free(k->name);
    k->name = strdup(p->name);
    if (!k->name)
        return no_memory(s);
    memcpy(k->ids, p->ids, (size_t)p->n);
    memcpy(k->targets, p->targets, (size_t)p->n);
    if (p->position)
        memcpy(k->position, p->position, (size_t)p->n * sizeof *k->position);
    return s->held == comm_size(s->ranks) ? round_end(s) : STATUS_OK;
}

static status prepare(scoring *s, const pieces_how *how, bool tokens)
{
    TRY(check_model(s->f, s->ask, tokens));
    if (position_levels(&s->f->c) > 0)
        TRY(model_file_place(s->f, &position_unbounded));
    TRY(look_through(s, how));
    TRY(plan_fits(s));
    TRY(reserve(s));
    return files_open(s);
}

status score_run(model_file *f, const score_ask *ask, comm *ranks, int64_t *window)
{
    scoring s = {.f = f, .ask = ask, .ranks = ranks, .d = f->c.model.d_model};
    const bool tokens = pieces_are_tokens(ask->file);
    status st = choose_window(f, ask, window);
    TRY(comm_agree(ranks, st));
    const pieces_how how = {.longest = *window,
                            .vocabulary = VOCABULARY_PADDED,
                            .hide_masked = f->c.data.masked == MASKED_N};
    const piece_sink to = {.piece = keep, .context = &s};
    pieces_seen seen;
    st = comm_agree(ranks, prepare(&s, &how, tokens));
    if (st == STATUS_OK)
        st = pieces_read(ask->file, &how, &to, &seen);
    if (st == STATUS_OK && s.held > 0)
        st = round_end(&s);
    st = score_file_close(&s.logits_file, st);
    st = score_file_close(&s.embed_file, st);
    scoring_close(&s);
    return st;
}
