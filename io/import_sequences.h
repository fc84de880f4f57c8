/* From FASTA files to a data set of sequences. */
#ifndef CROCUTA_IO_IMPORT_SEQUENCES_H
#define CROCUTA_IO_IMPORT_SEQUENCES_H

#include "io/import.h"
#include "io/sequences.h"

typedef struct {
    char assembly[64], split_hash[17];
    int64_t sequences[3], bases[3]; /* train, valid, test */
    int64_t n, n_labels, empty, left_out, file_bytes;
    base_counts count;
    char **labels;        /* (n_labels) */
    int64_t *label_bases; /* (n_labels) */
    double seconds;
} sequences_report;

/* Is the first of the files FASTA? One rank looks, all get its answer. */
status import_is_fasta(const import_options *o, comm *c, bool *is);

/* Collective, as import_run. Of the options: output, files, map, fraction, assembly, seed. */
status import_sequences(const import_options *o, comm *c, sequences_report *r);

/* OUT.import.json beside OUT.h5, by one rank. */
status sequences_report_write(const sequences_report *r, const char *output);
void sequences_report_close(sequences_report *r);

#endif
