/* Splits and virtual shards: see split.h. Quotas of a population are its size times the fractions,
 * rounded by the largest remainder; what rounding leaves goes on to the next population, so that
 * the totals are right even where every population is small. */
#include "io/split.h"

#include "io/name_table.h"
#include "runtime/core/rng.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_SPLIT, KEY_SHARD };

typedef struct {
    int64_t person;
    uint64_t key; /* random, by name */
    const individual *who;
    int64_t size; /* of the set of relatives */
} dealt;

typedef struct {
    const split_input *in;
    split_result *out;
    int32_t *stratum;    /* (n_people) */
    int64_t (*quota)[3]; /* (n_strata) people still wanted */
    int64_t *set_size;   /* (n_people) by component */
    dealt *order;        /* (n_people) */
    int64_t n_strata;
} dealing;

void split_close(split_result *r)
{
    free(r->split);
    free(r->shard);
    memset(r, 0, sizeof *r);
}

int32_t split_component(int32_t *component, int32_t a)
{
    while (component[a] != a)
        a = component[a] = component[component[a]];
    return a;
}

void split_relate(int32_t *component, int32_t a, int32_t b)
{
    a = split_component(component, a);
    b = split_component(component, b);
    /* the smaller number stands for the set, whatever the order of the pairs */
    component[a > b ? a : b] = a < b ? a : b;
}

static uint64_t key_of(const split_input *in, int64_t person, uint32_t purpose)
{
    const char *id = in->people[person].id;
    uint32_t w[4];
    rng_words(in->seed, RNG_SPLIT, name_hash(NAME_HASH_START, id, strlen(id)), purpose, 0, w);
    return (uint64_t)w[0] << 32 | w[1];
}

static int by_stratum(const void *a, const void *b)
{
    const dealt *x = a, *y = b;
    int c = strcmp(x->who->superpopulation, y->who->superpopulation);
    if (c == 0)
        c = strcmp(x->who->population, y->who->population);
    if (c == 0)
        c = (x->key > y->key) - (x->key < y->key);
    return c ? c : (x->person > y->person) - (x->person < y->person);
}

static int by_set_size(const void *a, const void *b)
{
    const dealt *x = a, *y = b;
    if (x->size != y->size)
        return x->size < y->size ? 1 : -1;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return (x->person > y->person) - (x->person < y->person);
}

static int by_label(const void *a, const void *b)
{
    const dealt *x = a, *y = b;
    if (x->who->label != y->who->label)
        return x->who->label < y->who->label ? -1 : 1;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return (x->person > y->person) - (x->person < y->person);
}

/* Numbers the strata in the order of their names and counts their people. */
static void strata_find(dealing *d)
{
    const split_input *in = d->in;
    for (int64_t i = 0; i < in->n_people; i++)
        d->order[i] = (dealt){i, key_of(in, i, KEY_SPLIT), &in->people[i], 0};
    qsort(d->order, (size_t)in->n_people, sizeof *d->order, by_stratum);
    for (int64_t i = 0; i < in->n_people; i++) {
        const individual *a = d->order[i].who, *b = i ? d->order[i - 1].who : NULL;
        if (!b || strcmp(a->population, b->population) != 0 ||
            strcmp(a->superpopulation, b->superpopulation) != 0)
            d->n_strata++;
        d->stratum[d->order[i].person] = (int32_t)(d->n_strata - 1);
        d->quota[d->n_strata - 1][SPLIT_TRAIN]++; /* the size, for now */
    }
}

static void quotas_make(dealing *d)
{
    double carry[3] = {0, 0, 0};
    for (int64_t s = 0; s < d->n_strata; s++) {
        int64_t size = d->quota[s][SPLIT_TRAIN], given = 0;
        double want[3];
        for (int k = 0; k < 3; k++) {
            want[k] = (double)size * d->in->fraction[k] + carry[k];
            d->quota[s][k] = want[k] > 0 ? (int64_t)floor(want[k] + 1e-9) : 0;
            given += d->quota[s][k];
        }
        for (; given != size; given += given < size ? 1 : -1) {
            int best = -1;
            double best_left = 0;
            for (int k = 0; k < 3; k++) {
                double left = want[k] - (double)d->quota[s][k];
                bool better =
                    best < 0 || (given < size ? left > best_left + 1e-9 : left < best_left - 1e-9);
                if (better && (given < size || d->quota[s][k] > 0)) {
                    best = k;
                    best_left = left;
                }
            }
            d->quota[s][best] += given < size ? 1 : -1;
        }
        if (d->quota[s][SPLIT_TRAIN] == 0 && d->in->fraction[SPLIT_TRAIN] > 0) {
            int from = d->quota[s][SPLIT_TEST] > 0 ? SPLIT_TEST : SPLIT_VALID;
            d->quota[s][from]--;
            d->quota[s][SPLIT_TRAIN]++;
        }
        for (int k = 0; k < 3; k++)
            carry[k] = want[k] - (double)d->quota[s][k];
    }
}

/* Where a set of relatives goes: into training where its populations have room, else where there is
 * most. The members are order[first .. first + size). */
static split_kind side_of(const dealing *d, const int64_t *member, int64_t size)
{
    static const split_kind preference[] = {SPLIT_TRAIN, SPLIT_TEST, SPLIT_VALID};
    split_kind most = SPLIT_TRAIN;
    int64_t most_room = INT64_MIN;
    for (int i = 0; i < 3; i++) {
        split_kind k = preference[i];
        int64_t least = INT64_MAX, sum = 0;
        for (int64_t m = 0; m < size; m++) {
            int32_t s = d->stratum[member[m]];
            int64_t wanted = 0;
            for (int64_t other = 0; other < size; other++)
                wanted += d->stratum[member[other]] == s;
            int64_t room = d->quota[s][k] - wanted;
            least = room < least ? room : least;
            sum += d->quota[s][k];
        }
        if (least >= 0)
            return k;
        if (sum > most_room) {
            most_room = sum;
            most = k;
        }
    }
    return most;
}

static status sets_deal(dealing *d)
{
    const split_input *in = d->in;
    int64_t *member = malloc(((size_t)in->n_people + 1) * sizeof *member);
    if (!member)
        return fail(STATUS_MEMORY, "import: no memory to split %lld people; free some memory",
                    (long long)in->n_people);
    int64_t n_sets = 0;
    for (int64_t i = 0; i < in->n_people; i++)
        if (in->component[i] == i && d->set_size[i] > 1)
            d->order[n_sets++] = (dealt){i, key_of(in, i, KEY_SPLIT), NULL, d->set_size[i]};
    qsort(d->order, (size_t)n_sets, sizeof *d->order, by_set_size);
    for (int64_t i = 0; i < n_sets; i++) {
        int64_t size = 0;
        for (int64_t p = 0; p < in->n_people; p++)
            if (in->component[p] == d->order[i].person)
                member[size++] = p;
        split_kind k = side_of(d, member, size);
        for (int64_t m = 0; m < size; m++) {
            d->out->split[member[m]] = k;
            d->quota[d->stratum[member[m]]][k]--;
        }
    }
    free(member);
    return STATUS_OK;
}

static void singles_deal(dealing *d)
{
    const split_input *in = d->in;
    for (int64_t i = 0; i < in->n_people; i++)
        d->order[i] = (dealt){i, key_of(in, i, KEY_SPLIT), &in->people[i], 0};
    qsort(d->order, (size_t)in->n_people, sizeof *d->order, by_stratum);
    for (int64_t i = 0; i < in->n_people; i++) {
        int64_t p = d->order[i].person;
        if (d->set_size[in->component[p]] > 1)
            continue;
        int64_t *quota = d->quota[d->stratum[p]];
        split_kind k = quota[SPLIT_TRAIN] > 0   ? SPLIT_TRAIN
                       : quota[SPLIT_TEST] > 0  ? SPLIT_TEST
                       : quota[SPLIT_VALID] > 0 ? SPLIT_VALID
                                                : SPLIT_TRAIN;
        quota[k]--;
        d->out->split[p] = k;
    }
}

static void shards_deal(dealing *d)
{
    const split_input *in = d->in;
    int64_t n = 0;
    for (int64_t i = 0; i < in->n_people; i++) {
        d->out->shard[i] = -1;
        if (d->out->split[i] == SPLIT_TRAIN)
            d->order[n++] = (dealt){i, key_of(in, i, KEY_SHARD), &in->people[i], 0};
    }
    int64_t shards = n / SPLIT_SHARD_PEOPLE;
    shards = shards < 1 ? 1 : shards > SPLIT_SHARDS ? SPLIT_SHARDS : shards;
    qsort(d->order, (size_t)n, sizeof *d->order, by_label);
    for (int64_t i = 0; i < n; i++)
        d->out->shard[d->order[i].person] = (int32_t)(i % shards);
    d->out->n_shards = shards;
}

static void hash_make(const split_input *in, split_result *out)
{
    uint64_t h = NAME_HASH_START;
    for (int64_t i = 0; i < in->n_people; i++) {
        const char *id = in->people[i].id;
        char side = (char)('0' + out->split[i]);
        h = name_hash(h, id, strlen(id) + 1);
        h = name_hash(h, &side, 1);
    }
    snprintf(out->hash, sizeof out->hash, "%016llx", (unsigned long long)h);
}

status split_people(const split_input *in, split_result *out)
{
    size_t n = (size_t)in->n_people + 1;
    memset(out, 0, sizeof *out);
    dealing d = {.in = in, .out = out};
    status st = STATUS_OK;
    out->split = calloc(n, sizeof *out->split);
    out->shard = calloc(n, sizeof *out->shard);
    d.stratum = calloc(n, sizeof *d.stratum);
    d.quota = calloc(n, sizeof *d.quota);
    d.set_size = calloc(n, sizeof *d.set_size);
    d.order = calloc(n, sizeof *d.order);
    if (!out->split || !out->shard || !d.stratum || !d.quota || !d.set_size || !d.order) {
        st = fail(STATUS_MEMORY, "import: no memory to split %lld people; free some memory",
                  (long long)in->n_people);
        goto done;
    }
    for (int64_t i = 0; i < in->n_people; i++)
        d.set_size[in->component[i]]++;
    if (in->given) {
        for (int64_t i = 0; i < in->n_people; i++)
            out->split[i] = (split_kind)in->given[i];
    } else {
        strata_find(&d);
        quotas_make(&d);
        TRY_GOTO(done, sets_deal(&d));
        singles_deal(&d);
    }
    shards_deal(&d);
    hash_make(in, out);
done:
    free(d.stratum);
    free(d.quota);
    free(d.set_size);
    free(d.order);
    if (st != STATUS_OK)
        split_close(out);
    return st;
}
