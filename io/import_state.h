/* What the steps of an import hand on; private to io/import_*.c. People are numbered by the bytes
 * of their names until they are dealt; a rank keeps what [first, first + mine) carry, and
 * everything else is the same on every rank, because every rank reads every file. */
#ifndef CROCUTA_IO_IMPORT_STATE_H
#define CROCUTA_IO_IMPORT_STATE_H

#include "io/assembly.h"
#include "io/dataset.h"
#include "io/import.h"
#include "io/labels.h"
#include "io/split.h"
#include "io/vcf.h"

typedef struct {
    const char *path;
    bool empty; /* no record: its people do not count */
    int64_t n_columns;
    int32_t *person; /* (n_columns) number, -1: left out */
    int64_t *has;    /* (n_has) numbers of its people, ascending */
    int64_t n_has;
    int64_t group;               /* files of the same people have the same */
    int64_t length[CHROMOSOMES]; /* from contig lines, 0: not said */
} import_file;

/* A site as one file tells it. */
typedef struct {
    int64_t line;
    int32_t position, file;
    uint8_t chromosome; /* identity */
    uint8_t ref, told;  /* base; bases that ALT names */
    uint8_t carried;    /* bases that somebody of the set carries there */
    uint64_t calls;     /* hash of who has which call; 0 where there is one file */
} raw_site;

/* What one person carries and misses, by raw site, later by site. */
typedef struct {
    entry *list;
    missing_run *missing;
    int64_t n, room, n_missing, room_missing;
} carried;

typedef struct {
    const import_options *o;
    comm *c;
    import_report *report;
    label_table map;
    import_file *files; /* (n_files) */
    int64_t n_groups;

    char **id; /* (n_people) ascending */
    individual *people;
    int64_t n_people, first, mine;
    char **labels;
    int64_t n_labels;

    int assembly;            /* number, -1: another name or unknown */
    char *name[CHROMOSOMES]; /* as the query spells it, by identity; NULL: not met */
    int64_t length[CHROMOSOMES];

    raw_site *raw;
    int64_t n_raw, room_raw;
    carried *own; /* (mine) */

    site *sites; /* of the set */
    int64_t n_sites;
    chromosome *chromosomes;
    int64_t n_chromosomes;
    int identity_of[CHROMOSOMES]; /* by index in chromosomes */
    int32_t *site_of_raw;         /* (n_raw), -1: dropped */

    entry *entries; /* of own people, one after the other */
    int64_t *run;   /* (mine * n_chromosomes + 1) */
    missing_run *missing;
    int64_t *missing_run_of;
    split_result split;
} import_state;

static inline bool import_is_own(const import_state *s, int64_t person)
{
    return person >= s->first && person < s->first + s->mine;
}

/* import_people.c: headers, table, samples asked for -> people, files, groups, assembly. */
status import_people(import_state *s);
status import_assembly(import_state *s, vcf_contig *const *contigs, const int64_t *n_contigs);
/* import_sites.c: all files once -> raw sites and what own people carry. */
status import_sites(import_state *s);
/* import_merge.c: raw sites of all files -> sites of the set, entries by site. */
status import_merge(import_state *s);
/* import_reference.c: every REF against a FASTA. */
status import_reference(const import_state *s);
/* import_deal.c: relatives, split, shards; rare sites off; each rank gets its final people. */
status import_deal(import_state *s);
status import_gather(import_state *s);

#endif
