/* What reading a query hands to the making of its data set; private to io/query*.c. */
#ifndef CROCUTA_IO_QUERY_STATE_H
#define CROCUTA_IO_QUERY_STATE_H

#include "io/assembly.h"
#include "io/query.h"
#include "io/vcf.h"

/* What one person carries, in the order of the file, and the sites without a whole call. */
typedef struct {
    entry *list;
    int32_t *marked;
    int64_t n, room, n_marked, room_marked;
} query_person;

typedef struct {
    const query_options *o;
    const dataset *panel;
    query_report *report;
    int64_t of_identity[CHROMOSOMES]; /* the panel's chromosome, -1: it has none */
    char **name;                      /* (panel chromosomes) as the query spells them; NULL: none */
    uint8_t *told;                    /* (panel sites) 1: the query tells the site */
    char **id;                        /* (n_people) */
    query_person *people;
    int64_t n_people;
    bool ordered; /* sites came in the panel's order */
    int32_t last; /* site before */
} query_state;

/* One file after the other into s (people, told, name, counts). */
status query_read(query_state *s, int64_t file);

#endif
