/* crocuta import: genotype files and a table of people, or sequences and a table of them, become a
 * data set. */
#include "io/import.h"
#include "io/import_sequences.h"
#include "launch/cli.h"
#include "runtime/core/log.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char usage[] = "[-m MAP] -o DATA.h5 FILE...";
static const char about[] =
    "Reads VCF or BCF files (recognised by content; plain, gzip or bgzip; no index needed) and a\n"
    "table of people, and writes one data set for training. DATA.import.json says what was kept\n"
    "and what was left out. FASTA (plain, gzip or bgzip) becomes a set of sequences; its table\n"
    "is sequence<TAB>label<TAB>split, without it all sequences train. With several ranks every "
    "rank reads the files; the result is the\n"
    "same for any number of them.\n\nExamples:\n"
    "  crocuta import -m samples.tsv -o data.h5 chr21.vcf.gz chr22.vcf.gz\n"
    "  mpirun -q -n 4 crocuta import -m samples.tsv -o data.h5 --split 0.8,0.1,0.1 all.bcf\n"
    "  crocuta import -m species.tsv -o mammals.h5 human.fa.gz mouse.fa.gz dog.fa.gz";

typedef struct {
    const char *map, *label, *split, *assembly, *reference, *regions, *regions_file, *samples,
        *samples_file;
    double min_maf;
    bool missing_to_ref;
} import_cli;

static status fractions_parse(const char *text, double fraction[3])
{
    const char *p = text;
    double sum = 0;
    for (int k = 0; k < 3; k++) {
        char *end;
        fraction[k] = strtod(p, &end);
        if (end == p || *end != (k < 2 ? ',' : '\0') || !(fraction[k] >= 0 && fraction[k] <= 1))
            return fail(STATUS_USAGE,
                        "--split %s: is no split; write three fractions such as 0.7,0.1,0.2", text);
        sum += fraction[k];
        p = end + 1;
    }
    if (fabs(sum - 1) > 1e-6)
        return fail(STATUS_USAGE,
                    "--split %s: the fractions sum to %g and must sum to 1; correct "
                    "them",
                    text, sum);
    return STATUS_OK;
}

/* What would fail at the end of a long import is said at its beginning. */
static status output_check(const cli *c, const cli_common *common, const import_cli *own,
                           char *const *files, int n)
{
    char path[1100], folder[1100];
    if (!common->output)
        return fail(STATUS_USAGE, "import: -o is missing; give the data set's name, -o DATA.h5");
    if (strlen(common->output) > 1000)
        return fail(STATUS_USAGE, "import: -o is longer than 1000 bytes; give a shorter name");
    if (n == 0)
        return fail(STATUS_USAGE, "import: no file is given; see crocuta import --help");
    TRY(cli_output_free(c, common, common->output));
    import_report_path(common->output, path);
    TRY(cli_output_free(c, common, path));
    const char *const written[] = {common->output, path};
    for (int w = 0; w < 2; w++) {
        for (int i = 0; i < n; i++)
            TRY(cli_input_kept(written[w], files[i]));
        const char *const others[] = {own->map, own->reference, own->regions_file,
                                      own->samples_file};
        for (int i = 0; i < 4; i++) /* -S ^FILE: all but these */
            TRY(cli_input_kept(written[w],
                               others[i] && *others[i] == '^' ? others[i] + 1 : others[i]));
    }
    snprintf(folder, sizeof folder, "%s", common->output);
    char *slash = strrchr(folder, '/');
    if (slash)
        slash[slash == folder] = '\0';
    if (access(slash ? folder : ".", W_OK | X_OK) != 0)
        return fail(STATUS_RESOURCE,
                    "%s: the folder cannot be written to: %s; make it, or give -o "
                    "another one",
                    common->output, strerror(errno));
    return STATUS_OK;
}

static status options_make(const import_cli *own, const cli_common *common, regions *where,
                           import_options *o)
{
    *o = (import_options){.output = common->output,
                          .map = own->map,
                          .assembly = own->assembly,
                          .min_maf = own->min_maf,
                          .reference = own->reference,
                          .missing_to_ref = own->missing_to_ref,
                          .where = where,
                          .samples = own->samples,
                          .samples_file = own->samples_file,
                          .seed = (uint64_t)common->seed};
    o->by_population = strcmp(own->label, "population") == 0;
    if (!o->by_population && strcmp(own->label, "superpopulation") != 0)
        return fail(STATUS_USAGE, "--label %s: is no column; write superpopulation or population",
                    own->label);
    if (!(own->min_maf >= 0 && own->min_maf <= 0.5))
        return fail(STATUS_USAGE, "--min-maf %g: is no frequency; write a number from 0 to 0.5",
                    own->min_maf);
    if (own->samples && own->samples_file)
        return fail(STATUS_USAGE, "import: -s and -S are both given; give one of them");
    TRY(fractions_parse(own->split, o->fraction));
    if (own->regions)
        TRY(regions_parse(where, own->regions));
    if (own->regions_file)
        TRY(regions_read(where, own->regions_file));
    regions_sort(where);
    return STATUS_OK;
}

static void tell(const cli_common *common, const import_report *r)
{
    const import_counts *n = &r->sites;
    double per_s = r->seconds > 0 ? 1 / r->seconds : 0;
    log_note("%s: %lld people (%lld train, %lld valid, %lld test), %lld sites of %lld records, %s, "
             "%s",
             common->output, (long long)r->n_people, (long long)r->people[0],
             (long long)r->people[1], (long long)r->people[2], (long long)n->kept,
             (long long)n->read, r->assembly, r->phased ? "phased" : "not all phased");
    log_note("left out: %lld monomorphic sites, %lld below the least frequency, %lld records "
             "without GT, %lld on other contigs; alleles: %lld not SNV, %lld symbolic, %lld star, "
             "%lld not A C G T; calls: %lld missing, %lld half missing",
             (long long)n->monomorphic, (long long)n->below_maf, (long long)n->records_without_gt,
             (long long)n->other_contigs, (long long)n->not_snv, (long long)n->symbolic,
             (long long)n->star, (long long)n->non_acgt, (long long)n->missing_calls,
             (long long)n->half_missing_calls);
    for (int64_t i = 0; i <= r->n_labels; i++)
        if (r->label_people[i] > 0)
            log_note("%s: %.0f non-reference sites a person (n = %lld)",
                     i < r->n_labels ? r->labels[i] : "without label", r->nonref_mean[i],
                     (long long)r->label_people[i]);
    log_note("%.2f bytes an entry, %.1f s, %.0f sites/s, %.0f people/s",
             r->n_entries ? (double)r->file_bytes / (double)r->n_entries : 0, r->seconds,
             (double)n->read * per_s, (double)r->n_people * per_s);
}

/* ---- sequences ---- */

/* What speaks of genotypes alone. */
static status sequences_check(const import_cli *own)
{
    const char *name = own->min_maf > 0      ? "--min-maf"
                       : own->reference      ? "--fasta-ref"
                       : own->missing_to_ref ? "--missing-to-ref"
                       : own->regions        ? "-r"
                       : own->regions_file   ? "-R"
                       : own->samples        ? "-s"
                       : own->samples_file   ? "-S"
                                             : NULL;
    if (!name)
        return STATUS_OK;
    return fail(STATUS_USAGE,
                "import: %s is for genotypes, and these files are FASTA; leave it out", name);
}

static void sequences_tell(const char *output, const sequences_report *r)
{
    const int64_t bases = r->bases[0] + r->bases[1] + r->bases[2];
    log_note("%s: %lld sequences (%lld train, %lld valid, %lld test), %lld bases (%lld, %lld, "
             "%lld), %s",
             output, (long long)r->n, (long long)r->sequences[0], (long long)r->sequences[1],
             (long long)r->sequences[2], (long long)bases, (long long)r->bases[0],
             (long long)r->bases[1], (long long)r->bases[2], r->assembly);
    log_note("letters: %lld N, %lld other than A C G T N, %lld soft-masked (lower case); %lld "
             "sequences without a base, %lld left out",
             (long long)r->count.n, (long long)r->count.other, (long long)r->count.masked,
             (long long)r->empty, (long long)r->left_out);
    for (int64_t i = 0; i < r->n_labels; i++)
        log_note("%s: %lld bases", r->labels[i], (long long)r->label_bases[i]);
    log_note("%.3f bytes a base, %.1f s", (double)r->file_bytes / (double)bases, r->seconds);
}

static status sequences_run(const cli *c, const import_cli *own, const import_options *o)
{
    sequences_report r = {0};
    status st = comm_agree(c->world, sequences_check(own));
    if (st == STATUS_OK)
        st = import_sequences(o, c->world, &r);
    if (st == STATUS_OK && comm_rank(c->world) == 0)
        st = sequences_report_write(&r, o->output);
    st = comm_agree(c->world, st);
    if (st == STATUS_OK)
        sequences_tell(o->output, &r);
    sequences_report_close(&r);
    return st;
}

status command_import(const cli *c)
{
    import_cli own = {.label = "superpopulation", .split = "0.7,0.1,0.2", .assembly = "auto"};
    const option table[] = {
        {"sample-map", 'm', OPTION_TEXT, &own.map, "MAP",
         "sample<TAB>label, or a header: sample population superpopulation sex [family split]; "
         "of FASTA: sequence<TAB>label<TAB>split [locus]"},
        {"label", 0, OPTION_TEXT, &own.label, "COLUMN", "superpopulation (default) or population"},
        {"split", 0, OPTION_TEXT, &own.split, "A,B,C",
         "fractions of train, valid, test (default: 0.7,0.1,0.2)"},
        {"assembly", 0, OPTION_TEXT, &own.assembly, "NAME",
         "auto (from contig lengths), GRCh37, GRCh38, or another name"},
        {"min-maf", 0, OPTION_REAL, &own.min_maf, "F",
         "leave out sites rarer than this among training people (default: 0)"},
        {"fasta-ref", 0, OPTION_TEXT, &own.reference, "REF.fa",
         "hold every REF against this genome"},
        {"missing-to-ref", 0, OPTION_FLAG, &own.missing_to_ref, NULL,
         "files of different people: a site that a file lacks is reference there"},
        {"regions", 'r', OPTION_TEXT, &own.regions, "CHR:FROM-TO",
         "only these, 1-based, inclusive"},
        {"regions-file", 'R', OPTION_TEXT, &own.regions_file, "BED",
         "only the regions of this file"},
        {"samples", 's', OPTION_TEXT, &own.samples, "NAMES",
         "only these people, separated by commas; ^ first: all but these"},
        {"samples-file", 'S', OPTION_TEXT, &own.samples_file, "FILE",
         "only these people, one a line; ^ first: all but these"},
        {NULL, 0, OPTION_FLAG, NULL, NULL, NULL},
    };
    cli_common common;
    const char **args = NULL;
    int n_args = 0;
    bool done = false;
    regions where = {0};
    import_options o;
    import_report report = {0};
    status st = cli_parse(c, usage, about, table, &common, &args, &n_args, &done);
    if (st != STATUS_OK || done)
        goto done;
    TRY_GOTO(done,
             comm_agree(c->world, output_check(c, &common, &own, (char *const *)args, n_args)));
    TRY_GOTO(done, comm_agree(c->world, options_make(&own, &common, &where, &o)));
    o.files = args;
    o.n_files = n_args;
    bool fasta = false;
    TRY_GOTO(done, import_is_fasta(&o, c->world, &fasta));
    if (fasta) {
        st = sequences_run(c, &own, &o);
        goto done;
    }
    TRY_GOTO(done, import_run(&o, c->world, &report));
    if (comm_rank(c->world) == 0)
        st = import_report_write(&report, common.output);
    st = comm_agree(c->world, st);
    if (st == STATUS_OK)
        tell(&common, &report);
done:
    regions_close(&where);
    import_report_close(&report);
    return st;
}
