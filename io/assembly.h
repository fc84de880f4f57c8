/* Which chromosome a name means, and which assembly a set of chromosome lengths means. One
 * chromosome has one identity whatever its spelling; an assembly is known only where every length
 * agrees with it. */
#ifndef CROCUTA_IO_ASSEMBLY_H
#define CROCUTA_IO_ASSEMBLY_H

#include <stdbool.h>
#include <stdint.h>

#define CHROMOSOME_X 23
#define CHROMOSOME_Y 24
#define CHROMOSOME_MT 25
#define CHROMOSOMES 26 /* identities are 1 .. 25; 0: no chromosome */

/* 1, chr1, Chr1, CHR01, NC_000001.11, CM000663.2 ... are 1; 23 is X, 24 is Y, 26 is MT, as PLINK
 * writes them (its 25 is a region, not a chromosome). 0 for contigs that are no chromosomes. */
int chromosome_identity(const char *name);

/* Is the name a number or letter, with or without chr (not an accession)? *prefixed: with chr. */
bool chromosome_plain(const char *name, bool *prefixed);

/* The plain name with the prefix: chr1 ... chrX, chrM. */
const char *chromosome_prefixed_name(int identity);

/* Assemblies by number, 0 .. assemblies() - 1. */
int assemblies(void);
const char *assembly_name(int assembly);
/* By name or a common other name (hg19, b37, hg38, ...); -1: not one of ours. */
int assembly_find(const char *name);
/* Base pairs of a chromosome. */
int64_t assembly_length(int assembly, int identity);
/* Bit a: a chromosome of this length fits assembly a. */
unsigned assembly_fits(int identity, int64_t length);

#endif
