/* The one table of configuration keys: name, type, range, words, default, help. Parsing, overrides,
 * sweeps, output and docs/configuration.md all come from it. S: stated in the study; I: inferred
 * from its arithmetic; O: ours. */
#include "runtime/core/config_fields.h"

#define AT(member) offsetof(config, member), sizeof(((config *)0)->member)
#define AT_STAGE(member) offsetof(config_stage, member), sizeof(((config_stage *)0)->member)

#define INTEGER(key, member, least, most, flags, fallback, help)                                   \
    {                                                                                              \
        key, FIELD_INTEGER, AT(member), 1, flags, least, most, {NULL}, fallback, help              \
    }
#define REAL(key, member, least, most, flags, fallback, help)                                      \
    {                                                                                              \
        key, FIELD_REAL, AT(member), 1, flags, least, most, {NULL}, fallback, help                 \
    }
#define BOOL(key, member, flags, fallback, help)                                                   \
    {                                                                                              \
        key, FIELD_BOOL, AT(member), 1, flags, 0, 1, {NULL}, fallback, help                        \
    }
#define WORD(key, member, flags, fallback, help, ...)                                              \
    {                                                                                              \
        key, FIELD_WORD, AT(member), 1, flags, 0, 0, {__VA_ARGS__, NULL}, fallback, help           \
    }
#define FIXED(key, word, help)                                                                     \
    {                                                                                              \
        key, FIELD_WORD, NOWHERE, 0, 1, 0, 0, 0, {word, NULL}, word, help                          \
    }

#define INT32 2147483647.0 /* positions of a chromosome are 32 bits in the data set */
#define STEPS 1e12
#define SEED 9223372036854774784.0 /* the largest double below 2^63 */

const field config_fields[] = {
    INTEGER("seed", seed, 0, SEED, 0, "1",
            "everything random of the run follows from it: weights, windows, order"),

    {"data.path",
     FIELD_TEXT,
     AT(data.path),
     1,
     FIELD_HARMLESS | FIELD_PATH,
     0,
     0,
     {NULL},
     NULL,
     "data set made by `crocuta import`; relative to this file's folder"},
    WORD("data.tokens", data.tokens, 0, "snp",
         "what a token is: snp, a non-reference allele that the person carries; nucleotide, a base "
         "of "
         "a set of sequences (`crocuta import` of FASTA)",
         "snp", "nucleotide"),
    WORD("data.alleles", data.alleles, 0, "union",
         "a window holds what either haplotype carries (S: union), or what one of them carries "
         "(haplotype); both: trains on haplotypes and judges a union window by its two haplotypes "
         "as two sequences, log-odds added (phased data)",
         "union", "haplotype", "both"),
    WORD("data.absent", data.absent, 0, "none",
         "sites that are not carried: none leaves them out; sums gives each token the sum of the "
         "absent rows that it skipped",
         "none", "sums"),
    INTEGER("data.seq_len", data.seq_len, 2, 1073741824, 0, "1024",
            "tokens of a window: carried sites of one person in a row; bases of a sequence"),
    INTEGER("data.max_gap", data.max_gap, 1, INT32, 0, "200000",
            "bp; a window never spans a larger gap between neighbouring sites of the set (O)"),
    WORD("data.sampling", data.sampling, 0, "stratified",
         "how a window is drawn: stratified draws superpopulation, individual, chromosome and "
         "start, each uniform (S); mating makes a person of two haplotypes of two training people "
         "of "
         "one class (unphased people: real ones)",
         "stratified", "mating"),
    WORD("data.sharding", data.sharding, 0, "virtual",
         "whom a place in the batch is drawn from: the people of its virtual shard (64 or more), "
         "or every training person (O)",
         "virtual", "replicated"),
    WORD(
        "data.unphased", data.unphased, 0, "refuse",
        "unphased heterozygotes where data.alleles is haplotype: refuse the data set, or drop them",
        "refuse", "drop"),
    REAL("data.mosaic_rate", data.mosaic_rate, 0, 1, 0, "0",
         "mating: chance at each site that a haplotype goes on as another one of its class"),
    REAL("data.flip_rate", data.flip_rate, 0, 1, 0, "0",
         "chance at each site that carried becomes absent or absent carried, for robustness"),
    REAL("data.augment_from", data.augment_from, 0, 1, 0, "0",
         "fraction of the steps after which mosaic_rate and flip_rate act"),
    WORD("data.direction", data.direction, 0, "forward",
         "how windows are read: forward; both trains on every second window from its end, and a "
         "classifier judges by both readings",
         "forward", "both"),
    BOOL("data.reverse_complement", data.reverse_complement, 0, "true",
         "nucleotides: half of the training windows, by lot, are read as their reverse complement"),
    WORD("data.masked", data.masked, 0, "base",
         "nucleotides: soft-masked (lower-case) letters are bases like the others, or n: read as N "
         "and not predicted",
         "base", "n"),
    INTEGER("data.train_people", data.train_people, 0, INT32, 0, "0",
            "train on so many of the training people, labels in proportion; 0: on all"),
    {"data.exclude",
     FIELD_TEXT,
     AT(data.exclude),
     1,
     0,
     0,
     0,
     {NULL},
     NULL,
     "chr:from-to[,chr:from-to..]: regions that no training or validation window touches"},

    {"model.preset",
     FIELD_NAME,
     AT(model.preset),
     1,
     0,
     0,
     0,
     {"tiny-1k", "tiny-1k-d256", "tiny-16k-d128", "small-32k", "medium-160k", "medium-450k",
      "large-1m", "study", NULL},
     NULL,
     "a published shape from the table below; keys written beside it win"},
    WORD("model.mixer", model.mixer, 0, "hyena",
         "what mixes positions: hyena, attention (not in this version), or none: blocks are their "
         "MLP alone",
         "hyena", "attention", "none"),
    INTEGER("model.order", model.order, 2, 8, 0, "2", "order of the Hyena operator (S)"),
    INTEGER("model.d_model", model.d_model, 1, 65536, 0, "128",
            "channels, the width of the model (S)"),
    INTEGER("model.n_layer", model.n_layer, 0, 1024, 0, "7",
            "blocks (I); 0: position rows, pool and head alone, for finetune --from none"),
    INTEGER("model.d_inner", model.d_inner, 1, 1048576, 0, "512", "channels inside an MLP"),
    INTEGER("model.l_max", model.l_max, 2, 1073741824, 0, "1026",
            "length that the filters are made for: longest window + 2"),
    INTEGER("model.filter_order", model.filter_order, 1, 4096, 0, "64",
            "width of the filter's own MLP"),
    INTEGER("model.emb_dim", model.emb_dim, 3, 1025, 0, "5",
            "features of a position in the filter's MLP; odd"),
    INTEGER("model.short_filter_order", model.short_filter_order, 3, 3, 0, "3",
            "taps of the short convolution"),
    REAL("model.filter_shift", model.filter_shift, 0, 1, 0, "0.0",
         "added to the filter's decay; 0.05 for published weights"),
    REAL("model.embed_dropout", model.embed_dropout, 0, 1, FIELD_BELOW, "0.0",
         "dropout after the embedding (published: 0.1)"),
    WORD("model.head", model.head, 0, "pooled",
         "classifier: pooled hidden states, or class-conditional: the likelihood of every site of "
         "the span under each class",
         "pooled", "class-conditional"),
    INTEGER("model.head_rank", model.head_rank, 1, 1024, 0, "32",
            "numbers of a site's row in the class-conditional and next-site heads"),
    WORD("model.init", model.init, 0, "published",
         "weights at the start: published, normal of spread 0.02; fan-in, uniform within 1 / "
         "sqrt(inputs), which learns faster in narrow models",
         "published", "fan-in"),
    REAL("model.residual_init", model.residual_init, 0, 1, 0, "0.02",
         "spread of out_proj and fc2 at the start, before / sqrt(2 n_layer)"),

    WORD("position.encoding", position.encoding, 0, "fpe",
         "what a token knows of its position in bp: fpe, a row A[floor((p-1)/alpha)] times B; "
         "fpe-multi, the same at 1, 10, 100 and 1000 bp at once; sinusoidal; or none; rope, "
         "fourier and table are not in this version. Published presets: none unless a position key "
         "is written",
         "none", "sinusoidal", "rope", "fourier", "table", "fpe", "fpe-multi"),
    INTEGER(
        "position.alpha", position.alpha, 1, INT32, 0, "100",
        "bp that share a row of the position table (S: 10 to 1000); 1: a row for each position"),
    INTEGER("position.rank", position.rank, 1, 1024, 0, "16",
            "k, numbers in a row of the position table (I; S: 16 to 32)"),
    WORD("position.rows", position.rows, 0, "shared",
         "shared, one table for all chromosomes (I); chromosome, rows of each; site, rows only "
         "where the data set has a site: the smallest",
         "shared", "chromosome", "site"),
    INTEGER("position.length", position.length, 1, INT32, FIELD_AUTO, "auto",
            "bp of the longest chromosome; auto: from the data's assembly"),
    WORD("position.init", position.init, 0, "zero",
         "values of a row before its first update: zero, or normal from seed and row number",
         "zero", "normal"),

    WORD("objective", objective, 0, "autoregressive",
         "what is predicted: autoregressive, the next carried allele from alleles and positions so "
         "far; position-conditioned, also given the next position; next-site, which sites are "
         "carried "
         "(without labels the pretraining of a class-conditional head)",
         "autoregressive", "position-conditioned", "next-site"),

    FIXED("optimizer.name", "adamw", "the optimizer of everything but position rows"),
    REAL("optimizer.lr", optimizer.lr, 0, 100, FIELD_ABOVE, "6.0e-4",
         "peak learning rate of pretraining (finetune.lr in fine-tuning)"),
    {"optimizer.betas",
     FIELD_REAL,
     AT(optimizer.betas),
     2,
     FIELD_BELOW,
     0,
     1,
     {NULL},
     "[0.9, 0.999]",
     "decay of the running mean and of the running square of the gradient"},
    REAL("optimizer.eps", optimizer.eps, 0, 1, FIELD_ABOVE, "1.0e-8",
         "added to the root of the second moment"),
    REAL("optimizer.weight_decay", optimizer.weight_decay, 0, 10, 0, "0.1",
         "weight decay of everything but filters and the position table"),
    REAL("optimizer.filter_weight_decay", optimizer.filter_weight_decay, 0, 10, 0, "0.0",
         "weight decay of implicit filters"),
    FIXED("optimizer.rows", "exact-lazy-adam",
          "Adam of position rows: steps that a row was not touched in are replayed at its next "
          "touch; no decay"),
    REAL("optimizer.rows_lr", optimizer.rows_lr, 0, 100, 0, "0",
         "peak learning rate of position rows; 0: as everything else. Rows are touched rarely: "
         "several times lr helped here"),
    REAL("optimizer.head_lr", optimizer.head_lr, 0, 100, 0, "0",
         "peak learning rate of the classifier; 0: as everything else"),

    BOOL("optimizer.clip_rows", optimizer.clip_rows, 0, "true",
         "rows count in the norm that train.grad_clip limits and are clipped with the rest"),
    BOOL("optimizer.decay_vectors", optimizer.decay_vectors, 0, "true",
         "weight decay on norms and biases too (as published); false: on matrices alone"),

    WORD("scheduler.name", scheduler.name, 0, "cosine",
         "course of the learning rate after the warm-up", "cosine", "constant"),
    REAL("scheduler.warmup", scheduler.warmup, 0, 1, 0, "0.01",
         "fraction of the steps in which it rises from 0 to lr"),
    REAL("scheduler.min_lr", scheduler.min_lr, 0, 100, 0, "6.0e-5",
         "where the cosine ends; a tenth of lr where that is lower and this is not written"),

    INTEGER("train.steps", train.steps, 1, STEPS, FIELD_HARMLESS, "20000",
            "optimizer steps; may grow on resume"),
    INTEGER("train.tokens_per_step", train.tokens_per_step, 1, STEPS, 0, "65536",
            "tokens of a step over all workers; divided by the window's length, its windows"),
    INTEGER("train.micro_batch", train.micro_batch, 1, 1048576, FIELD_AUTO | FIELD_HARMLESS, "auto",
            "sequences that go through the model at once; auto: what memory allows"),
    REAL("train.grad_clip", train.grad_clip, 0, 1e9, 0, "1.0",
         "largest global norm of the gradient; 0: no limit"),
    REAL("train.skip_norm", train.skip_norm, 0, 1e12, FIELD_HARMLESS, "100",
         "a step whose gradient is so many times larger than those before it is skipped, as one "
         "with a NaN is; 0: only a NaN"),
    INTEGER("train.skip_most", train.skip_most, 1, 1e6, FIELD_HARMLESS, "5",
            "steps skipped within a short time after which training goes back to the newest "
            "checkpoint and takes other windows"),
    WORD("train.precision", train.precision, 0, "fp32",
         "fp32; mixed: wide intermediates in bf16, on a GPU", "fp32", "mixed"),
    WORD("train.recompute", train.recompute, FIELD_HARMLESS, "auto",
         "what backward computes again instead of keeping: less memory, more work", "auto", "none",
         "selected", "all"),
    WORD("train.graph", train.graph, FIELD_HARMLESS, "auto",
         "queue a micro-batch's forward and backward passes as CUDA graphs; auto: where it has at "
         "most 8192 tokens",
         "auto", "on", "off"),
    INTEGER("train.context_parallel", train.context_parallel, 1, 4096, FIELD_AUTO | FIELD_HARMLESS,
            "1",
            "workers that share one sequence (docs/long-context.md); auto: the fewest that the "
            "plan's memory takes, all where a step has fewer sequences than workers"),
    INTEGER("train.log_every", train.log_every, 1, STEPS, FIELD_HARMLESS, "1",
            "steps between lines of metrics"),
    INTEGER("train.eval_every", train.eval_every, 0, STEPS, 0, "500",
            "steps between validations; 0: none"),
    INTEGER("train.eval_windows", train.eval_windows, 1, STEPS, 0, "2000",
            "windows of validation people that a validation judges, always the same"),
    INTEGER("train.early_stop", train.early_stop, 0, STEPS, 0, "10",
            "validations in a row without a better one that end the run; 0: never"),
    REAL("train.max_hours", train.max_hours, 0, 1e6, FIELD_HARMLESS, "0",
         "stop with a checkpoint after this time; 0: no limit"),

    {"stages",
     FIELD_STAGES,
     AT(stages),
     1,
     0,
     0,
     0,
     {NULL},
     "[]",
     "sequence-length warm-up of pretraining (fine-tuning goes without), in order; after the last "
     "stage data.seq_len holds, and validation is of data.seq_len in all of them"},

    WORD("finetune.pool", finetune.pool, 0, "mean",
         "how the hidden states of a window become one vector", "mean", "last"),
    INTEGER("finetune.head_hidden", finetune.head_hidden, 0, 65536, 0, "128",
            "width of the head's hidden layer; 0: linear head"),
    REAL("finetune.site_weight", finetune.site_weight, 0, 1e6, 0, "10",
         "class-conditional head: weight of the mean loss over sites beside that of the class"),
    REAL("finetune.lr", finetune.lr, 0, 100, FIELD_ABOVE, "6.0e-5",
         "peak learning rate of fine-tuning, in place of optimizer.lr"),
    INTEGER("finetune.steps", finetune.steps, 1, STEPS, FIELD_HARMLESS, "5000",
            "optimizer steps of fine-tuning, in place of train.steps; may grow on resume"),

    WORD("comm.backend", comm.backend, FIELD_HARMLESS, "auto",
         "what sums gradients: nccl between GPUs and mpi between CPUs (auto), or mpi in both, "
         "through "
         "the host's memory",
         "auto", "mpi", "nccl"),
    WORD("comm.coordinator", comm.coordinator, FIELD_HARMLESS, "dedicated",
         "rank 0 coordinates and does not train, or worker 0 does both", "dedicated", "worker"),
    BOOL("comm.deterministic", comm.deterministic, FIELD_HARMLESS, "false",
         "the same bits in every run where a faster way would not give them; on CPUs it is so in "
         "any case"),
    INTEGER(
        "comm.timeout_s", comm.timeout_s, 1, 1e6, FIELD_HARMLESS, "300",
        "seconds without an answer or a sign of life after which a rank counts as lost; where a "
        "step is planned to last longer, five times that"),

    REAL("checkpoint.every_minutes", checkpoint.every_minutes, 0, 1e6, FIELD_HARMLESS, "15",
         "minutes between checkpoints; 0: not by time"),
    INTEGER("checkpoint.every_steps", checkpoint.every_steps, 0, STEPS, FIELD_HARMLESS, "0",
            "steps between checkpoints; 0: not by steps"),
    INTEGER("checkpoint.keep", checkpoint.keep, 2, 1000, FIELD_HARMLESS, "3",
            "newest checkpoints that are kept; the best one is kept besides"),
    BOOL("checkpoint.on_signal", checkpoint.on_signal, FIELD_HARMLESS, "true",
         "USR1 or TERM: checkpoint, then stop with exit code 75"),
};
const int config_n_fields = sizeof config_fields / sizeof *config_fields;

const field config_stage_fields[] = {
    {"seq_len",
     FIELD_INTEGER,
     AT_STAGE(seq_len),
     1,
     0,
     2,
     1073741824,
     {NULL},
     NULL,
     "tokens of a window"},
    {"steps", FIELD_INTEGER, AT_STAGE(steps), 1, 0, 1, STEPS, {NULL}, NULL, "steps of the stage"},
    {"context_parallel",
     FIELD_INTEGER,
     AT_STAGE(context_parallel),
     1,
     FIELD_AUTO,
     1,
     4096,
     {NULL},
     "auto",
     "workers that share one sequence, as train.context_parallel"},
};
const int config_n_stage_fields = sizeof config_stage_fields / sizeof *config_stage_fields;

/* The published checkpoints (Nguyen et al. 2023) by shape; d_inner is 4 d everywhere. */
const preset_row config_presets[] = {
    {"tiny-1k", 128, 2, 1026, false},        {"tiny-1k-d256", 256, 2, 1026, false},
    {"tiny-16k-d128", 128, 2, 16386, false}, {"small-32k", 256, 4, 32770, false},
    {"medium-160k", 256, 8, 160002, false},  {"medium-450k", 256, 8, 450002, false},
    {"large-1m", 256, 8, 1000002, false},    {"study", 128, 7, 1026, true},
};
const int config_n_presets = sizeof config_presets / sizeof *config_presets;
