/* Dealing people: to training, validation and test (by person, stratified by population, relatives
 * on one side), and the training people to virtual shards (stratified by label). A pure function of
 * the names, the strata and the seed: neither the order of people nor the number of ranks matters.
 */
#ifndef CROCUTA_IO_SPLIT_H
#define CROCUTA_IO_SPLIT_H

#include "io/dataset.h"
#include "runtime/core/status.h"

#include <stdint.h>

#define SPLIT_SHARD_PEOPLE 64 /* training people for one virtual shard */
#define SPLIT_SHARDS 64       /* the most there are */

typedef struct {
    int64_t n_people;
    const individual *people; /* ascending by id; id, population, superpopulation, label are read */
    const int32_t *component; /* (n_people) number of a set of relatives; the same: one side */
    const int *given;         /* (n_people) a split_kind from the table, NULL: dealt here */
    double fraction[3];       /* train, valid, test; their sum is 1 */
    uint64_t seed;
} split_input;

typedef struct {
    split_kind *split; /* (n_people) */
    int32_t *shard;    /* (n_people), -1 for people who do not train */
    int64_t n_shards;
    char hash[17]; /* of names and splits, 16 hexadecimal digits */
} split_result;

status split_people(const split_input *in, split_result *out);
void split_close(split_result *r);

/* Joins the sets of relatives of a and b (union-find over component[], which starts as 0, 1, 2...).
 */
void split_relate(int32_t *component, int32_t a, int32_t b);
/* The set of a person; compress with it before split_people. */
int32_t split_component(int32_t *component, int32_t a);

#endif
