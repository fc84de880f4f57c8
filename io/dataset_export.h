/* A data set back as VCF: the genotypes that import read, SNVs only. */
#ifndef CROCUTA_IO_DATASET_EXPORT_H
#define CROCUTA_IO_DATASET_EXPORT_H

#include "io/dataset.h"
#include "runtime/core/status.h"

/* Writes PATH (bgzip where it ends in .gz or .bgz, text otherwise) under a temporary name, then
 * renames. One rank calls it. Phased calls with `|`, unphased ones with `/`, missing alleles as
 * `.`; every call has two alleles: the set keeps no ploidy. */
status dataset_export(const dataset *d, const char *path, int threads);

/* The same with `title`, whole lines, in the header's place of ##source. */
status dataset_export_titled(const dataset *d, const char *path, const char *title, int threads);

#endif
