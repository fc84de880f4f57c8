/* crocuta score: what a language model makes of sequences. A table of log-likelihoods, by sequence
 * or by token, to standard output or a file; logits and embeddings as HDF5. */
#include "io/replace.h"
#include "launch/cli.h"
#include "launch/device_option.h"
#include "runtime/train/score.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char about[] =
    "The log-likelihood (nats) of each sequence of FILE: of every token after those before it. "
    "FILE is "
    "FASTA (plain,\n"
    "gzip, bgzip), of which A C G T are predicted, or a token file: HDF5 with /input_ids (B, L), "
    "optional /target_ids\n"
    "(default: the next token) and /position. Sequences longer than the model's l_max, or than "
    "--window, are cut into\n"
    "pieces, a line each. Prints a table: name start end n_tokens loglik perplexity.\n\nExamples:\n"
    "  crocuta score hyenadna-tiny-1k.safetensors genes.fa.gz\n"
    "  crocuta score runs/pretrained genes.fa --per-position -o genes.tsv --embeddings genes.h5 "
    "--pooled\n";

#define USAGE                                                                                      \
    "MODEL FILE [-o TABLE.tsv] [--per-position] [--logits X.h5] [--embeddings X.h5] "              \
    "[key=value ...]"

#define TEXT_ROOM (1 << 16)

typedef struct {
    bool per_position, json;
    replacement *to; /* NULL: standard output */
    char text[TEXT_ROOM];
    size_t n;
    json_t *rows; /* with --json */
    int64_t n_tokens;
    double loglik;
} table;

static status flush_text(table *t)
{
    status st = STATUS_OK;
    if (t->to)
        st = replace_write(t->to, t->text, t->n);
    else
        fwrite(t->text, 1, t->n, stdout); /* main looks at the stream */
    t->n = 0;
    return st;
}

static status put(table *t, const char *line)
{
    const size_t n = strlen(line);
    if (t->n + n > TEXT_ROOM)
        TRY(flush_text(t));
    memcpy(t->text + t->n, line, n);
    t->n += n;
    return STATUS_OK;
}

static status put_positions(table *t, const piece_score *s)
{
    static const char *const names[VOCABULARY] = {"[CLS]", "[SEP]",      "[BOS]", "[MASK]",
                                                  "[PAD]", "[RESERVED]", "[UNK]", "A",
                                                  "C",     "G",          "T",     "N"};
    char line[4096 + 128], number[16];
    for (int64_t i = 0; i < s->piece.n; i++) {
        const uint8_t token = s->piece.targets[i];
        if (token == PIECE_NOTHING)
            continue;
        snprintf(number, sizeof number, "%d", token);
        snprintf(line, sizeof line, "%.4096s\t%lld\t%s\t%.6f\n", s->piece.name,
                 (long long)(s->piece.start + i + 2), token < VOCABULARY ? names[token] : number,
                 -(double)s->loss[i]);
        TRY(put(t, line));
    }
    return STATUS_OK;
}

static double perplexity(double loglik, int64_t n)
{
    return exp(-loglik / (double)n);
}

static json_t *number_or_null(double x, int64_t n)
{
    return n > 0 && isfinite(x) ? json_real(x) : json_null();
}

static status put_json(table *t, const piece_score *s)
{
    const token_piece *p = &s->piece;
    json_t *row = json_pack("{s:s, s:I, s:I, s:I, s:f, s:o}", "name", p->name, "start",
                            (json_int_t)p->start + 1, "end", (json_int_t)(p->start + p->n),
                            "n_tokens", (json_int_t)s->n_tokens, "loglik", s->loglik, "perplexity",
                            number_or_null(perplexity(s->loglik, s->n_tokens), s->n_tokens));
    if (!row || json_array_append_new(t->rows, row) != 0)
        return fail(STATUS_MEMORY, "%.100s: no memory for its line, or no UTF-8; leave out --json",
                    p->name);
    return STATUS_OK;
}

static status take(void *context, const piece_score *s)
{
    table *t = context;
    char line[4096 + 256], measure[32] = "NA";
    if (!isfinite(s->loglik))
        return fail(STATUS_INTERNAL,
                    "%.100s: its likelihood is no number; the model's weights are damaged",
                    s->piece.name);
    t->n_tokens += s->n_tokens;
    t->loglik += s->loglik;
    if (t->json)
        TRY(put_json(t, s));
    if (t->json && !t->to)
        return STATUS_OK;
    if (t->per_position)
        return put_positions(t, s);
    if (s->n_tokens > 0)
        snprintf(measure, sizeof measure, "%.6g", perplexity(s->loglik, s->n_tokens));
    snprintf(line, sizeof line, "%.4096s\t%lld\t%lld\t%lld\t%.6f\t%s\n", s->piece.name,
             (long long)s->piece.start + 1, (long long)(s->piece.start + s->piece.n),
             (long long)s->n_tokens, s->loglik, measure);
    return put(t, line);
}

static status print_json(table *t, const char *of_model, const score_ask *ask, int64_t window)
{
    json_t *all = number_or_null(perplexity(t->loglik, t->n_tokens), t->n_tokens);
    json_t *doc = json_pack("{s:s, s:s, s:s, s:I, s:O, s:{s:I, s:f, s:o}}", "schema",
                            "crocuta/score/1", "model", of_model, "file", ask->file, "window",
                            (json_int_t)window, "sequences", t->rows, "total", "n_tokens",
                            (json_int_t)t->n_tokens, "loglik", t->loglik, "perplexity", all);
    char *text = doc ? json_dumps(doc, JSON_INDENT(1) | JSON_REAL_PRECISION(12)) : NULL;
    json_decref(doc);
    return cli_print_json("score", text);
}

/* -o takes the table; with --json standard output is the document's. */
static status begin_table(table *t, const cli_common *common, replacement *file)
{
    if (t->json && !(t->rows = json_array()))
        return fail(STATUS_MEMORY, "score: no memory; close other programs");
    if (common->output) {
        TRY(replace_begin(common->output, file));
        t->to = file;
    }
    return put(t, t->per_position ? "name\tpos\ttoken\tloglik\n"
                                  : "name\tstart\tend\tn_tokens\tloglik\tperplexity\n");
}

static status end_table(table *t, const char *of_model, const score_ask *ask, int64_t window)
{
    if (t->to || !t->json)
        TRY(flush_text(t));
    return t->json ? print_json(t, of_model, ask, window) : STATUS_OK;
}

static status score(const cli *c, const cli_common *common, const char **args, int n,
                    score_ask *ask, table *t)
{
    device *dev = NULL;
    model_file *f = NULL;
    replacement file;
    int64_t window = 0;
    const bool speaks = comm_rank(c->world) == 0;
    status st;
    TRY_GOTO(done, device_open_option(c, common, &dev));
    TRY_GOTO(done, comm_agree(c->world, model_file_open(args[0], 0, args + 2, n - 2, dev, &f)));
    TRY_GOTO(done, comm_agree(c->world, speaks ? begin_table(t, common, &file) : STATUS_OK));
    ask->scored = take;
    ask->context = t;
    TRY_GOTO(done, score_run(f, ask, c->world, &window));
    if (speaks)
        st = end_table(t, args[0], ask, window);
done:
    if (t->to)
        st = replace_end(t->to, st);
    json_decref(t->rows);
    model_file_close(&f);
    device_close(&dev);
    return st;
}

static status check_names(const cli *c, const cli_common *common, const score_ask *ask,
                          const char **args, int n)
{
    const char *const outputs[] = {common->output, ask->logits, ask->embed};
    for (int i = 0; i < 3; i++) {
        if (!outputs[i])
            continue;
        for (int j = 0; j < i; j++)
            if (outputs[j] && strcmp(outputs[i], outputs[j]) == 0)
                return fail(STATUS_USAGE, "%s: two results go there; give each a name", outputs[i]);
        TRY(cli_output_free(c, common, outputs[i]));
        for (int j = 0; j < n; j++)
            TRY(comm_agree(c->world, cli_input_kept(outputs[i], args[j])));
    }
    return STATUS_OK;
}

static status check_arguments(const score_ask *ask, const table *t, const char *output,
                              const char **args, int n)
{
    if (n < 2 || cli_is_override(args[0]) || cli_is_override(args[1]))
        return fail(STATUS_USAGE, "score: MODEL and FILE are needed; see crocuta score --help");
    for (int i = 2; i < n; i++)
        if (!cli_is_override(args[i]))
            return fail(STATUS_USAGE,
                        "score: %s is neither a file that it takes nor key=value; see crocuta "
                        "score --help",
                        args[i]);
    if (t->json && t->per_position && !output)
        return fail(STATUS_USAGE, "score: --per-position is a table; with --json give it a place, "
                                  "-o TABLE.tsv");
    if (ask->pooled && !ask->embed)
        return fail(STATUS_USAGE, "score: --pooled says how embeddings are written; give "
                                  "--embeddings X.h5 as well");
    return STATUS_OK;
}

status command_score(const cli *c)
{
    static table t; /* its text is too large for the stack */
    cli_common common;
    score_ask ask = {.window = CLI_NOT_GIVEN};
    const char **args = NULL, *memory = NULL;
    int n = 0;
    bool done = false;
    const option own[] = {
        {"per-position", 0, OPTION_FLAG, &t.per_position, NULL,
         "a line a predicted token: name pos token loglik"},
        {"window", 0, OPTION_INTEGER, &ask.window, "N",
         "cut sequences into pieces of N tokens (default: the model's l_max)"},
        {"logits", 0, OPTION_TEXT, &ask.logits, "X.h5", "write /logits (n, L, 16)"},
        {"embeddings", 0, OPTION_TEXT, &ask.embed, "X.h5",
         "write /hidden (n, L, d), after the last LayerNorm"},
        {"pooled", 0, OPTION_FLAG, &ask.pooled, NULL,
         "embeddings: their mean over a piece, /pooled (n, d)"},
        {"device-memory", 0, OPTION_TEXT, &memory, "BYTES",
         "memory a rank may use: bytes, 24GiB, h100, a100 (default: what is free)"},
        {0}};
    TRY(cli_parse(c, USAGE, about, own, &common, &args, &n, &done));
    if (done)
        return STATUS_OK;
    t.json = common.json;
    TRY(check_arguments(&ask, &t, common.output, args, n));
    TRY(cli_at_least("--window", 1, &ask.window));
    if (memory)
        TRY(memory_of_option("score", memory, &ask.memory));
    ask.file = args[1];
    TRY(check_names(c, &common, &ask, args, n));
    return comm_agree(c->world, score(c, &common, args, n, &ask, &t));
}
