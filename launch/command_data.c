/* `crocuta data info|verify|export`: what is in a data set, whether it is sound, and back to VCF.
 */
#include "io/dataset.h"
#include "io/dataset_export.h"
#include "io/dataset_verify.h"
#include "launch/cli.h"
#include "launch/data_sequences.h"
#include "launch/json_text.h"
#include "runtime/core/config.h"
#include "runtime/core/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- info ---- */

/* Entries that a person carries: in all, on each haplotype, without a haplotype. */
typedef struct {
    int64_t all, hap1, hap2, unphased;
} carried_counts;

static carried_counts carried_by(const dataset *d, int64_t person)
{
    carried_counts n = {0};
    int64_t first = d->run[person * d->n_chromosomes];
    int64_t last = d->run[(person + 1) * d->n_chromosomes];
    for (int64_t e = first; e < last; e++) {
        n.hap1 += d->entries[e].mask & 1;
        n.hap2 += d->entries[e].mask >> 1 & 1;
        n.unphased += d->entries[e].mask == 0;
    }
    n.all = last - first;
    return n;
}

/* The longest window that a person has: entries in a row on one chromosome that no gap cuts. */
static int64_t longest_window(const dataset *d, int64_t person)
{
    int64_t longest = 0;
    for (int64_t c = 0; c < d->n_chromosomes; c++) {
        const int64_t *run = &d->run[person * d->n_chromosomes + c];
        int64_t first = run[0];
        for (int64_t e = run[0]; e < run[1]; e++) {
            if (d->block[d->entries[e].site] != d->block[d->entries[first].site])
                first = e;
            longest = e - first + 1 > longest ? e - first + 1 : longest;
        }
    }
    return longest;
}

static void info_json(const dataset *d)
{
    printf("{\"schema\": \"crocuta/data/1\", ");
    json_put_key("path", d->path);
    printf(", ");
    json_put_key("assembly", d->assembly);
    printf(", \"phased\": %s, \"sites\": %lld, \"entries\": %lld, \"seed\": %llu, ",
           d->phased ? "true" : "false", (long long)d->n_sites, (long long)d->n_entries,
           (unsigned long long)d->seed);
    json_put_key("split_hash", d->split_hash);
    printf(", \"shards\": %lld,\n \"labels\": [", (long long)d->n_shards);
    for (int64_t i = 0; i < d->n_labels; i++) {
        printf(i ? ", " : "");
        json_put_text(d->labels[i]);
    }
    printf("],\n \"chromosomes\": [");
    for (int64_t i = 0; i < d->n_chromosomes; i++) {
        printf(i ? ",\n  {" : "\n  {");
        json_put_key("name", d->chromosomes[i].name);
        if (d->chromosomes[i].length > 0)
            printf(", \"length\": %lld", (long long)d->chromosomes[i].length);
        else
            printf(", \"length\": null");
        printf(", \"sites\": %lld}", (long long)d->chromosomes[i].sites);
    }
    printf("],\n \"people\": [");
    for (int64_t i = 0; i < d->n_people; i++) {
        const individual *p = &d->people[i];
        printf(i ? ",\n  {" : "\n  {");
        json_put_key("id", p->id);
        printf(", ");
        json_put_key("population", p->population);
        printf(", ");
        json_put_key("superpopulation", p->superpopulation);
        printf(", \"sex\": \"%s\", \"split\": \"%s\", \"label\": ", sex_name(p->sex),
               split_name(p->split));
        if (p->label >= 0)
            json_put_text(d->labels[p->label]);
        else
            printf("null");
        printf("}");
    }
    printf("],\n \"per_person\": [");
    for (int64_t i = 0; i < d->n_people; i++) {
        carried_counts n = carried_by(d, i);
        printf(i ? ",\n  {" : "\n  {");
        json_put_key("id", d->people[i].id);
        printf(", \"union\": %lld, \"hap1\": %lld, \"hap2\": %lld, \"unphased\": %lld, "
               "\"longest_window\": %lld}",
               (long long)n.all, (long long)n.hap1, (long long)n.hap2, (long long)n.unphased,
               (long long)longest_window(d, i));
    }
    printf("]}\n");
}

/* People of a label (-1: without one) in a split, and the entries that they carry in the mean. */
static int64_t people_of(const dataset *d, int64_t label, int split, double *carried)
{
    int64_t n = 0;
    for (int64_t i = 0; i < d->n_people; i++)
        if (d->people[i].label == label && (split < 0 || (int)d->people[i].split == split)) {
            n++;
            if (carried)
                *carried +=
                    (double)(d->run[(i + 1) * d->n_chromosomes] - d->run[i * d->n_chromosomes]);
        }
    if (carried && n)
        *carried /= (double)n;
    return n;
}

static void info_table(const dataset *d)
{
    printf("%s: %lld people, %lld sites, %lld entries (non-reference alleles of people)\n", d->path,
           (long long)d->n_people, (long long)d->n_sites, (long long)d->n_entries);
    printf("assembly %s, %s, split %s (seed %llu), %lld virtual shard%s\n\n", d->assembly,
           d->phased ? "phased" : "with unphased calls", d->split_hash, (unsigned long long)d->seed,
           (long long)d->n_shards, d->n_shards == 1 ? "" : "s");
    printf("%-20s %8s %8s %8s %16s\n", "label", "train", "valid", "test", "entries a person");
    for (int64_t l = 0; l <= d->n_labels; l++) {
        int64_t label = l < d->n_labels ? l : -1;
        double carried = 0;
        if (people_of(d, label, -1, &carried) == 0)
            continue;
        printf("%-20s", label < 0 ? "(none)" : d->labels[label]);
        for (int split = SPLIT_TRAIN; split <= SPLIT_TEST; split++)
            printf(" %8lld", (long long)people_of(d, label, split, NULL));
        printf(" %16.0f\n", carried);
    }
    printf("\n%-20s %12s %12s\n", "chromosome", "length (bp)", "sites");
    for (int64_t i = 0; i < d->n_chromosomes; i++) {
        printf("%-20s ", d->chromosomes[i].name);
        if (d->chromosomes[i].length > 0)
            printf("%12lld", (long long)d->chromosomes[i].length);
        else
            printf("%12s", "unknown");
        printf(" %12lld\n", (long long)d->chromosomes[i].sites);
    }
}

/* ---- verify ---- */

static void verify_report(const dataset *d, const related_pair *pairs, int64_t n, bool json)
{
    int64_t people[3] = {0};
    for (int64_t i = 0; i < d->n_people; i++)
        people[d->people[i].split]++;
    if (json) {
        printf("{\"schema\": \"crocuta/data/1\", \"sound\": true, ");
        json_put_key("path", d->path);
        printf(", \"people\": {\"train\": %lld, \"valid\": %lld, \"test\": %lld}, \"related\": [",
               (long long)people[0], (long long)people[1], (long long)people[2]);
        for (int64_t i = 0; i < n; i++) {
            printf(i ? ", {" : "{");
            json_put_key("a", d->people[pairs[i].a].id);
            printf(", ");
            json_put_key("b", d->people[pairs[i].b].id);
            printf(", \"kinship\": %.4f, \"split\": \"%s\"}", pairs[i].kinship,
                   split_name(d->people[pairs[i].a].split));
        }
        printf("]}\n");
        return;
    }
    printf(
        "%s: sound. %lld entries, every byte as its seal says; train %lld, valid %lld, test %lld "
        "people, nobody twice\n",
        d->path, (long long)d->n_entries, (long long)people[0], (long long)people[1],
        (long long)people[2]);
    if (n == 0)
        printf("no close relatives (KING > %.4f)\n", RELATIVES_KINSHIP);
    for (int64_t i = 0; i < n; i++)
        printf("relatives on one side: %s and %s (KING %.3f), both %s\n", d->people[pairs[i].a].id,
               d->people[pairs[i].b].id, pairs[i].kinship, split_name(d->people[pairs[i].a].split));
}

static status verify(const cli *c, const dataset *d, bool json)
{
    related_pair *pairs = NULL;
    int64_t n = 0;
    bool first = comm_rank(c->world) == 0;
    status st = first ? dataset_verify_chunks(d->path) : STATUS_OK;
    if (first && st == STATUS_OK)
        st = dataset_verify_people(d);
    TRY(comm_agree(c->world, st));
    TRY(dataset_relatives(d, c->world, &pairs, &n));
    if (first)
        st = dataset_verify_relatives(d, pairs, n);
    st = comm_agree(c->world, st);
    if (st == STATUS_OK && first)
        verify_report(d, pairs, n, json);
    free(pairs);
    return st;
}

/* ---- the command ---- */

typedef enum { DATA_INFO, DATA_VERIFY, DATA_EXPORT } data_action;

static status action_of(const char *const *args, int n, data_action *action)
{
    static const char *const names[] = {"info", "verify", "export"};
    if (n < 1)
        return fail(STATUS_USAGE,
                    "data: no action is given (info, verify or export); see crocuta data --help");
    for (int i = 0; i < 3; i++)
        if (strcmp(args[0], names[i]) == 0) {
            *action = (data_action)i;
            if (n != 2)
                return fail(STATUS_USAGE,
                            "data %s: one data set is wanted, %d were given; see "
                            "crocuta data --help",
                            names[i], n - 1);
            return STATUS_OK;
        }
    return fail(STATUS_USAGE,
                "data: %s is not one of info, verify, export; see crocuta data --help", args[0]);
}

status command_data(const cli *c)
{
    cli_common common;
    const char **args;
    int n_args;
    bool done;
    data_action action = DATA_INFO;
    dataset *d = NULL;
    TRY(cli_parse(c, "info|verify DATA.h5, crocuta data export DATA.h5 -o X.vcf.gz",
                  "info    what is in a data set (--json: one document)\n"
                  "verify  checksums of everything, splits, close relatives across splits\n"
                  "export  the genotypes back as VCF, sequences as FASTA (bgzip where the name\n"
                  "        ends in .gz)\n\n"
                  "Examples:\n  crocuta data info people.h5\n"
                  "  crocuta data export people.h5 -o people.vcf.gz",
                  NULL, &common, &args, &n_args, &done));
    if (done)
        return STATUS_OK;
    TRY(action_of(args, n_args, &action));
    if (action == DATA_EXPORT) {
        if (!common.output)
            return fail(STATUS_USAGE,
                        "data export: no output was named; add -o X.vcf.gz (or X.fa.gz)");
        TRY(cli_output_free(c, &common, common.output));
        TRY(comm_agree(c->world, cli_input_kept(common.output, args[1])));
    }
    sequences *bases = NULL;
    TRY(sequences_open(args[1], c->world, &bases));
    if (bases) {
        const status told = data_sequences(c, &common, args[0], bases);
        sequences_close(&bases);
        return told;
    }
    TRY(dataset_open(args[1], c->world, &d));
    config *defaults = malloc(sizeof *defaults);
    status st =
        defaults ? STATUS_OK : fail(STATUS_MEMORY, "%s: no memory; close other programs", args[1]);
    if (st == STATUS_OK) {
        config_defaults(defaults);
        st = dataset_block(d, defaults->data.max_gap);
    }
    free(defaults);
    st = comm_agree(c->world, st);
    bool first = comm_rank(c->world) == 0;
    if (st != STATUS_OK) {
        dataset_close(&d);
        return st;
    }
    if (action == DATA_VERIFY)
        st = verify(c, d, common.json);
    else if (first && action == DATA_EXPORT)
        st = dataset_export(d, common.output, cli_threads(c, &common));
    else if (first && common.json)
        info_json(d);
    else if (first)
        info_table(d);
    st = comm_agree(c->world, st);
    dataset_close(&d);
    return st;
}
