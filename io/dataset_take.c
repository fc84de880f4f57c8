/* Training on some of the training people: see dataset_take in dataset.h. */
#include "io/dataset.h"
#include "runtime/core/rng.h"

#include <stdlib.h>

/* People of a label are shuffled; the j-th of m stands at (j + 1/2) / m. The first n by place are
 * then in proportion for every n, and n + 1 adds one. */
typedef struct {
    int32_t person, label;
    uint32_t lot;
    double place;
} candidate;

static int by_lot(const void *a, const void *b)
{
    const candidate *p = a, *q = b;
    if (p->label != q->label)
        return p->label < q->label ? -1 : 1;
    if (p->lot != q->lot)
        return p->lot < q->lot ? -1 : 1;
    return (p->person > q->person) - (p->person < q->person);
}

static int by_place(const void *a, const void *b)
{
    const candidate *p = a, *q = b;
    if (p->place != q->place)
        return p->place < q->place ? -1 : 1;
    return (p->label > q->label) - (p->label < q->label);
}

static void places(candidate *list, int64_t n)
{
    for (int64_t from = 0, to; from < n; from = to) {
        for (to = from; to < n && list[to].label == list[from].label;)
            to++;
        for (int64_t j = from; j < to; j++)
            list[j].place = ((double)(j - from) + 0.5) / (double)(to - from);
    }
}

status dataset_take(dataset *d, int64_t n, uint64_t seed)
{
    if (n == 0)
        return STATUS_OK;
    individual *people = (individual *)(uintptr_t)d->people; /* this process's own copy */
    candidate *list = malloc(((size_t)d->n_people + 1) * sizeof *list);
    if (!list)
        return fail(STATUS_MEMORY, "%s: no memory for its people; use more memory", d->path);
    int64_t all = 0;
    for (int64_t p = 0; p < d->n_people; p++) {
        if (people[p].split != SPLIT_TRAIN)
            continue;
        rng r = rng_at(seed, RNG_SUBSET, (uint64_t)p, 0);
        list[all++] = (candidate){(int32_t)p, people[p].label, rng_u32(&r), 0};
    }
    qsort(list, (size_t)all, sizeof *list, by_lot);
    places(list, all);
    qsort(list, (size_t)all, sizeof *list, by_place);
    for (int64_t i = n; i < all; i++)
        people[list[i].person].split = SPLIT_NONE;
    free(list);
    if (n > all)
        return fail(STATUS_USAGE,
                    "data.train_people: %lld are asked for, %s has %lld; ask for fewer",
                    (long long)n, d->path, (long long)all);
    return STATUS_OK;
}
