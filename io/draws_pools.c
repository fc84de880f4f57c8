/* Pools: who is drawn from, by virtual shard and class. A group's people stand by their longest
 * piece, so that who can give a window of any length is a prefix, found by bisection. */
#include "io/draws_state.h"

#include <stdlib.h>
#include <string.h>

/* Classes by name: a person's superpopulation, else the label, else one class for all; by_label the
 * label first. */
static const char *class_name(const dataset *d, int64_t person, bool by_label)
{
    const individual *p = &d->people[person];
    const bool label = p->label >= 0 && (by_label || !p->superpopulation[0]);
    return label ? d->labels[p->label] : p->superpopulation;
}

typedef struct {
    int32_t person;
    int64_t group, longest; /* group: shard * classes + class */
    const char *class_name;
} member;

static int by_class(const void *a, const void *b)
{
    return strcmp(((const member *)a)->class_name, ((const member *)b)->class_name);
}

static int by_group(const void *a, const void *b)
{
    const member *m = a, *n = b;
    if (m->group != n->group)
        return m->group < n->group ? -1 : 1;
    if (m->longest != n->longest)
        return m->longest > n->longest ? -1 : 1;
    return m->person < n->person ? -1 : m->person > n->person;
}

status draws_pool_make(const draws *x, split_kind split, bool by_shard, bool by_label, pool *p)
{
    const dataset *d = x->d;
    int64_t n = 0, class_now = -1;
    member *m = calloc((size_t)d->n_people, sizeof *m);
    status st = STATUS_OK;
    if (!m) {
        st = fail(STATUS_MEMORY, "%s: no memory for its people; use more memory", d->path);
        goto done;
    }
    for (int64_t i = 0; i < d->n_people; i++)
        if (d->people[i].split == split)
            m[n++] = (member){(int32_t)i, 0, x->longest[i], class_name(d, i, by_label)};
    qsort(m, (size_t)n, sizeof *m, by_class);
    for (int64_t i = 0; i < n; i++) {
        class_now += i == 0 || strcmp(m[i].class_name, m[i - 1].class_name);
        m[i].group = class_now;
    }
    p->classes = class_now + 1;
    p->shards = by_shard ? d->n_shards : 1;
    for (int64_t i = 0; i < n && by_shard; i++)
        m[i].group += d->people[m[i].person].shard * p->classes;
    qsort(m, (size_t)n, sizeof *m, by_group);
    int64_t groups = p->shards * p->classes, at = 0;
    p->begin = calloc((size_t)groups + 1, sizeof *p->begin);
    p->person = calloc((size_t)n + 1, sizeof *p->person);
    if (!p->begin || !p->person) {
        st = fail(STATUS_MEMORY, "%s: no memory for its people; use more memory", d->path);
        goto done;
    }
    for (int64_t g = 0; g < groups; g++) {
        p->begin[g] = at;
        for (; at < n && m[at].group == g; at++)
            p->person[at] = m[at].person;
    }
    p->begin[groups] = n;
done:
    free(m);
    return st;
}

void draws_pool_free(pool *p)
{
    free(p->begin);
    free(p->person);
    *p = (pool){0};
}

int64_t draws_pool_fitting(const draws *x, const pool *p, int64_t group, int64_t length)
{
    int64_t low = p->begin[group], high = p->begin[group + 1];
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (x->longest[p->person[middle]] >= length)
            low = middle + 1;
        else
            high = middle;
    }
    return low - p->begin[group];
}
