/* Pieces of sequences: see token_pieces.h. Of FASTA one token more than a piece is held back, for a
 * piece ends only when it is known what follows. */
#include "io/token_pieces.h"

#include "io/fasta.h"
#include "io/sequence_draws.h"
#include "io/trace_file.h"
#include "runtime/core/array.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOKEN_OF_PAD 4

static status no_memory(const char *path)
{
    return fail(STATUS_MEMORY, "%s: no memory for a piece of it; give a shorter --window", path);
}

/* ---- FASTA ---- */

typedef struct {
    const char *path;
    const pieces_how *how;
    const piece_sink *to;
    pieces_seen *seen;
    char *name; /* NULL: none has begun */
    int64_t start, held, room;
    uint8_t *ids, *targets; /* (room) */
} fasta_state;

static uint8_t token_of(char letter, bool hide_masked)
{
    const uint8_t base = fasta_base(letter);
    const int code = base & 7;
    if (code == BASE_N || (hide_masked && base & BASE_MASKED && code < BASE_N))
        return TOKEN_N;
    return code < BASE_N ? (uint8_t)(TOKEN_BASE_A + code) : TOKEN_UNKNOWN;
}

static uint8_t target_of(uint8_t token)
{
    return token >= TOKEN_BASE_A && token <= TOKEN_BASE_T ? token : PIECE_NOTHING;
}

/* The first n of what is held; `last`: nothing follows in the sequence. */
static status give(fasta_state *f, int64_t n, bool last)
{
    for (int64_t t = 0; t < n; t++)
        f->targets[t] = t + 1 < f->held ? target_of(f->ids[t + 1]) : PIECE_NOTHING;
    const token_piece p = {.name = f->name,
                           .start = f->start,
                           .n = n,
                           .ids = f->ids,
                           .targets = f->targets,
                           .cut = f->start > 0 || !last};
    f->seen->pieces++;
    TRY(f->to->piece(f->to->context, &p));
    f->start += n;
    f->held -= n;
    memmove(f->ids, f->ids + n, (size_t)f->held);
    return STATUS_OK;
}

static status finish(fasta_state *f)
{
    status st = STATUS_OK;
    if (!f->name)
        return st;
    f->seen->sequences++;
    if (f->held > 0)
        st = give(f, f->held, true);
    else if (f->start == 0 && f->seen->empty++ == 0)
        snprintf(f->seen->first_empty, sizeof f->seen->first_empty, "%s", f->name);
    free(f->name);
    f->name = NULL;
    f->start = 0;
    return st;
}

static status begin(void *context, const char *name, const char *description, int64_t line)
{
    fasta_state *f = context;
    (void)description;
    (void)line;
    TRY(finish(f));
    f->name = strdup(name);
    return f->name ? STATUS_OK : no_memory(f->path);
}

static status reserve(fasta_state *f, int64_t n)
{
    if (n <= f->room)
        return STATUS_OK;
    const int64_t most = f->how->longest + 1;
    int64_t room = 2 * n < most ? 2 * n : most;
    room = room < n ? n : room;
    bool ok = true;
    f->ids = array_resized(f->ids, room, 1, &ok);
    f->targets = array_resized(f->targets, room, 1, &ok);
    if (!ok)
        return no_memory(f->path);
    f->room = room;
    return STATUS_OK;
}

static status letters(void *context, const char *text, size_t n)
{
    fasta_state *f = context;
    while (n > 0) {
        const int64_t left = f->how->longest + 1 - f->held;
        const int64_t take = (int64_t)n < left ? (int64_t)n : left;
        TRY(reserve(f, f->held + take));
        for (int64_t i = 0; i < take; i++)
            f->ids[f->held + i] = token_of(text[i], f->how->hide_masked);
        f->held += take;
        text += take;
        n -= (size_t)take;
        if (f->held > f->how->longest)
            TRY(give(f, f->how->longest, false));
    }
    return STATUS_OK;
}

static status read_fasta(const char *path, const pieces_how *how, const piece_sink *to,
                         pieces_seen *seen)
{
    fasta_state f = {.path = path, .how = how, .to = to, .seen = seen};
    const fasta_sink sink = {.begin = begin, .letters = letters, .context = &f};
    status st = fasta_read(path, &sink);
    if (st == STATUS_OK)
        st = finish(&f);
    free(f.name);
    free(f.ids);
    free(f.targets);
    return st;
}

/* ---- token files ---- */

/* Without /target_ids: the next token, where it is one. */
static status next_tokens(const char *path, trace_batch *b)
{
    const int64_t n = b->B * b->L;
    b->targets = malloc((size_t)n);
    if (!b->targets)
        return no_memory(path);
    for (int64_t i = 0; i < n; i++) {
        const bool follows = (i + 1) % b->L != 0 && b->ids[i + 1] != TOKEN_OF_PAD;
        b->targets[i] = follows ? b->ids[i + 1] : PIECE_NOTHING;
    }
    return STATUS_OK;
}

static int64_t without_pads(const uint8_t *ids, int64_t n)
{
    while (n > 0 && ids[n - 1] == TOKEN_OF_PAD)
        n--;
    return n;
}

static status row_pieces(const trace_batch *b, int64_t row, const pieces_how *how,
                         const piece_sink *to, pieces_seen *seen)
{
    char name[32];
    const int64_t first = row * b->L, n = without_pads(b->ids + first, b->L);
    snprintf(name, sizeof name, "%lld", (long long)row + 1);
    seen->sequences++;
    if (n == 0 && seen->empty++ == 0)
        snprintf(seen->first_empty, sizeof seen->first_empty, "%s", name);
    for (int64_t at = 0; at < n; at += how->longest) {
        const int64_t left = n - at, i = first + at;
        const token_piece p = {.name = name,
                               .start = at,
                               .n = left < how->longest ? left : how->longest,
                               .ids = b->ids + i,
                               .targets = b->targets + i,
                               .position = b->position ? b->position + i : NULL,
                               .chromosome = b->chromosome ? b->chromosome[row] : 0,
                               .cut = n > how->longest};
        seen->pieces++;
        TRY(to->piece(to->context, &p));
    }
    return STATUS_OK;
}

static status read_token_file(const char *path, const pieces_how *how, const piece_sink *to,
                              pieces_seen *seen)
{
    trace_batch b = {0};
    status st;
    TRY_GOTO(done, trace_batch_read(path, how->vocabulary, false, &b));
    if (!b.targets)
        TRY_GOTO(done, next_tokens(path, &b));
    for (int64_t row = 0; row < b.B; row++)
        TRY_GOTO(done, row_pieces(&b, row, how, to, seen));
done:
    trace_batch_free(&b);
    return st;
}

bool pieces_are_tokens(const char *path)
{
    static const char signature[] = "\x89HDF\r\n\x1a\n";
    char begins[8] = {0};
    FILE *f = fopen(path, "rb");
    const size_t n = f ? fread(begins, 1, sizeof begins, f) : 0;
    if (f)
        fclose(f);
    return n == sizeof begins && memcmp(begins, signature, sizeof begins) == 0;
}

status pieces_read(const char *path, const pieces_how *how, const piece_sink *to, pieces_seen *seen)
{
    memset(seen, 0, sizeof *seen);
    TRY(pieces_are_tokens(path) ? read_token_file(path, how, to, seen)
                                : read_fasta(path, how, to, seen));
    if (seen->pieces == 0)
        return fail(STATUS_DATA, "%s: none of its %lld sequences has a token; give another file",
                    path, (long long)seen->sequences);
    return STATUS_OK;
}
