/* Sequences for training: see nucleotides.h. */
#include "runtime/train/nucleotides.h"

#include "model/position.h"

#include <string.h>

status nucleotides_check(const config *c, bool finetune)
{
    static const config_data none = {0};
    const char *key = NULL, *instead = NULL;
    if (c->data.alleles != ALLELES_UNION)
        key = "data.alleles", instead = "leave it out";
    else if (c->data.absent != ABSENT_NONE)
        key = "data.absent: sums", instead = "leave it out";
    else if (c->data.sampling != SAMPLING_STRATIFIED)
        key = "data.sampling: mating", instead = "leave it out";
    else if (c->data.direction != DIRECTION_FORWARD)
        key = "data.direction: both", instead = "use data.reverse_complement";
    else if (c->data.mosaic_rate > 0 || c->data.flip_rate > 0)
        key = "data.mosaic_rate and flip_rate", instead = "leave them out";
    else if (c->data.train_people != none.train_people)
        key = "data.train_people", instead = "leave it out";
    else if (c->data.exclude[0])
        key = "data.exclude", instead = "leave sequences out of the table instead";
    else if (c->model.head == HEAD_CLASS_CONDITIONAL)
        key = "model.head: class-conditional", instead = "use pooled";
    else if (!finetune && c->objective != OBJECTIVE_AUTOREGRESSIVE)
        key = "objective", instead = "use autoregressive";
    else if (position_levels(c) > 0)
        key = "position.encoding: fpe (rows of positions on one assembly)",
        instead = "use none or sinusoidal";
    if (!key)
        return STATUS_OK;
    return fail(STATUS_USAGE,
                "%s: %s is for data.tokens: snp and has no meaning for nucleotides; "
                "%s",
                c->file, key, instead);
}

status nucleotides_open(const config *c, bool by_label, int64_t seq_len, comm *ranks,
                        nucleotides *out)
{
    char path[CONFIG_TEXT];
    config_data_path(c, path);
    const sequence_draws_how how = {.by_label = by_label,
                                    .reverse = c->data.reverse_complement,
                                    .hide_masked = c->data.masked == MASKED_N,
                                    .seq_len = seq_len,
                                    .seed = (uint64_t)c->seed};
    *out = (nucleotides){0};
    TRY(sequences_open(path, ranks, &out->set));
    if (!out->set)
        return fail(STATUS_DATA,
                    "%s: holds genotypes, and data.tokens is nucleotide; import FASTA, or set "
                    "data.tokens: snp",
                    path);
    return comm_agree(ranks, sequence_draws_open(out->set, &how, &out->draws));
}

void nucleotides_close(nucleotides *n)
{
    sequence_draws_close(&n->draws);
    sequences_close(&n->set);
}

status feed_put_bases(feed *f, int64_t i, const nucleotides *n, const base_window *w, bool classify)
{
    uint8_t *ids = f->ids + i * f->Lp, *targets = f->targets + i * f->Lp;
    const int64_t count = w->sequence < 0 ? 0 : w->count;
    if (count > f->L)
        return fail(STATUS_INTERNAL, "batch: a window of %lld bases where %lld fit; report this",
                    (long long)count, (long long)f->L);
    if (count > 0)
        sequence_draws_fill(n->draws, w, ids);
    memset(ids + count, TOKEN_PAD, (size_t)(f->Lp - count));
    memset(targets, TARGET_NONE, (size_t)f->Lp);
    for (int64_t t = 0; t < f->Lp; t++) {
        f->position[i * f->Lp + t] = t < count ? t + 1 : 0; /* within the window */
        f->site[i * f->Lp + t] = -1;
    }
    for (int64_t t = 0; t + 1 < count && !classify; t++)
        if (ids[t + 1] >= TOKEN_BASE_A && ids[t + 1] <= TOKEN_BASE_T) {
            targets[t] = ids[t + 1];
            f->predicted++;
        }
    f->chromosome[i] = 0;
    f->label[i] = count > 0 ? n->set->list[w->sequence].label : -1;
    f->count[i] = (int32_t)count;
    if (classify)
        f->predicted += f->label[i] >= 0;
    return STATUS_OK;
}
