/* From genotype files to a data set: what the command asks for, what it reports. */
#ifndef CROCUTA_IO_IMPORT_H
#define CROCUTA_IO_IMPORT_H

#include "comm/comm.h"
#include "io/regions.h"
#include "runtime/core/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    const char *output;
    const char *const *files;
    int64_t n_files;
    const char *map; /* NULL: nobody has a label */
    bool by_population;
    double fraction[3];    /* train, valid, test */
    const char *assembly;  /* NULL or "auto": from contig lengths */
    double min_maf;        /* among training people */
    const char *reference; /* FASTA that every REF is held against, or NULL */
    bool missing_to_ref;
    const regions *where;
    const char *samples;      /* -s: names separated by commas, ^ first: all but these; or NULL */
    const char *samples_file; /* -S: one name a line, ^ first: all but these; or NULL */
    uint64_t seed;
} import_options;

typedef struct {
    int64_t read, kept, multiallelic, monomorphic, not_snv, symbolic, star, non_acgt;
    int64_t missing_calls, half_missing_calls, records_without_gt, duplicates;
    int64_t other_contigs, below_maf;
} import_counts;

typedef struct {
    char assembly[64], split_hash[17];
    bool phased;
    int64_t people[3]; /* train, valid, test */
    int64_t n_people, n_labels, n_entries, n_shards, file_bytes;
    import_counts sites;
    char **labels;       /* (n_labels); one more, without name, for people without label */
    double *nonref_mean; /* (n_labels + 1) non-reference sites a person */
    int64_t *label_people;
    double seconds;
} import_report;

/* Collective. Reads, judges, deals and writes OUTPUT; nothing is on disk where it fails. */
status import_run(const import_options *o, comm *c, import_report *r);

/* OUT.import.json beside OUT.h5: its name, and its writing (by one rank). */
void import_report_path(const char *output, char path[1100]);
status import_report_write(const import_report *r, const char *output);
void import_report_close(import_report *r);

#endif
