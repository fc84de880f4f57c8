/* The tables of windows and of people that an evaluation and a prediction write, and how their
 * files come to be: each under a temporary name until it is whole. */
#ifndef CROCUTA_TRAIN_TABLES_H
#define CROCUTA_TRAIN_TABLES_H

#include "runtime/train/window_set.h"

#include <stdio.h>
#include <zlib.h>

#define PENDING_PATH 4096

/* A file that gets its name when it is whole. */
typedef struct {
    char path[PENDING_PATH], hidden[PENDING_PATH + 8];
} pending_file;

status pending_name(pending_file *p, const char *folder, const char *name);
/* `sound`: everything was written and closed without an error; otherwise the file goes. */
status pending_end(const pending_file *p, bool sound);

/* A folder for results, made where it is not there. */
status result_folder(const char *path);
/* A whole small file in it. */
status result_text(const char *folder, const char *name, const char *text);

/* sample hap chrom start end n_snps [label] predicted p_LABEL..., without the line's end. `truth`:
 * with the column label. False where the file refuses. */
bool windows_head(gzFile f, const dataset *d, bool truth);
/* Window i; logp (classes). */
bool windows_row(gzFile f, const window_set *w, int64_t i, const double *logp, int classes,
                 bool truth);

/* sample [population label] predicted n_windows p_LABEL..., likewise. Who has no window has no
 * prediction: NA. */
void people_head(FILE *f, const dataset *d, bool truth);
void people_row(FILE *f, const dataset *d, int64_t person, int64_t n_windows, const double *p,
                int classes, bool truth);

#endif
