/* Opening a data set: hold the file against its seal, read the tables on one rank, share them,
 * decompress the columns once per node. See dataset.h for what readers get and docs/formats.md for
 * the file. */
#include "io/dataset.h"

#include "io/assembly.h"
#include "io/dataset_columns.h"
#include "io/dataset_index.h"
#include "io/name_table.h"
#include "io/node_memory.h"
#include "io/seal.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct dataset_memory {
    index_head head;
    index_layout layout;
    char *own;          /* every rank's copy of names, people, chromosomes, places of chunks */
    node_memory tables; /* sites, index, missing calls, entries */
    individual *people;
    chromosome *chromosomes;
    const char **labels;
    int32_t *block;
    dataset_people replaced;    /* entries of this rank's own instead of the file's */
    void *owned[DATASET_OWNED]; /* of a set that no file holds */
};

#define DECODE_THREADS 16 /* more do not help: memory bandwidth */

/* Cores that this rank may use, shared with its neighbours on the node. */
static int threads_of_rank(const comm *c)
{
    cpu_set_t set;
    int cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    int n = cores / comm_local_size(c);
    return n < 1 ? 1 : n > DECODE_THREADS ? DECODE_THREADS : n;
}

/* One rank reads; all get head and own block; the first rank of each node gets the tables in
 * *tables. */
static status tables_share(const char *path, comm *c, comm *leaders, struct dataset_memory *m,
                           char **tables)
{
    status st = STATUS_OK;
    if (comm_rank(c) == 0)
        st = index_read(path, &m->head, &m->own, tables);
    TRY(comm_agree(c, st));
    TRY(comm_bcast(c, &m->head, sizeof m->head, 0));
    index_layout_of(&m->head, &m->layout);
    if (comm_rank(c) > 0) {
        m->own = calloc(1, m->layout.own_bytes);
        if (leaders)
            *tables = calloc(1, m->layout.entries + 1);
        if (!m->own || (leaders && !*tables))
            st = fail(STATUS_MEMORY, "%s: no memory for its tables; use more memory", path);
    }
    TRY(comm_agree(c, st));
    TRY(comm_bcast(c, m->own, m->layout.own_bytes, 0));
    if (leaders)
        st = comm_bcast(leaders, *tables, m->layout.entries + 1, 0);
    return comm_agree(c, st);
}

/* Tables into the node's memory, then every rank of the node decodes its share of the chunks. */
static status columns_map_on_node(const char *path, comm *c, comm *node, char *tables,
                                  struct dataset_memory *m)
{
    const index_layout *l = &m->layout;
    TRY(comm_agree(c, node_memory_open(node, l->shared_bytes, &m->tables)));
    char *base = m->tables.base;
    if (m->tables.shared) {
        if (tables)
            memcpy(base, tables, l->entries);
        TRY(comm_barrier(node));
    } else { /* every rank has its own: the first of the node gives them out */
        if (tables)
            memcpy(base, tables, l->entries);
        TRY(comm_bcast(node, base, l->entries, 0));
    }
    bool shared = m->tables.shared;
    status st = columns_decode(path, &m->head, (const chunk_place *)(m->own + l->chunk),
                               (const chromosome_numbers *)(m->own + l->chromosome),
                               (const site *)(base + l->sites), (const int64_t *)(base + l->run),
                               shared ? comm_rank(node) : 0, shared ? comm_size(node) : 1,
                               threads_of_rank(c), (entry *)(base + l->entries));
    TRY(comm_agree(c, st)); /* nobody looks before all have written */
    node_memory_freeze(&m->tables);
    return STATUS_OK;
}

static const char *text_at(const struct dataset_memory *m, int which, int64_t i)
{
    return m->own + m->layout.text[which] + i * m->head.stride[which];
}

/* Pointers into the blocks: what readers see. */
static status views_make(dataset *d)
{
    struct dataset_memory *m = d->memory;
    const index_head *h = &m->head;
    const index_layout *l = &m->layout;
    m->people = calloc((size_t)h->n_people, sizeof *m->people);
    m->chromosomes = calloc((size_t)h->n_chromosomes, sizeof *m->chromosomes);
    m->labels = calloc((size_t)h->n_labels + 1, sizeof *m->labels);
    if (!m->people || !m->chromosomes || !m->labels)
        return fail(STATUS_MEMORY, "%s: no memory for its people; use more memory", d->path);
    const person_numbers *person = (const person_numbers *)(m->own + l->person);
    const chromosome_numbers *k = (const chromosome_numbers *)(m->own + l->chromosome);
    for (int64_t i = 0; i < h->n_people; i++)
        m->people[i] = (individual){text_at(m, TEXT_ID, i),
                                    text_at(m, TEXT_POPULATION, i),
                                    text_at(m, TEXT_SUPERPOPULATION, i),
                                    text_at(m, TEXT_FAMILY, i),
                                    (sex_kind)person[i].sex,
                                    (split_kind)person[i].split,
                                    person[i].label,
                                    person[i].shard};
    for (int64_t i = 0; i < h->n_chromosomes; i++)
        m->chromosomes[i] =
            (chromosome){text_at(m, TEXT_CHROMOSOME, i), k[i].length, k[i].site0, k[i].sites};
    for (int64_t i = 0; i < h->n_labels; i++)
        m->labels[i] = text_at(m, TEXT_LABEL, i);
    strcpy(d->assembly, h->assembly);
    strcpy(d->split_hash, h->split_hash);
    d->phased = h->phased != 0;
    d->seed = (uint64_t)h->seed;
    d->n_people = h->n_people;
    d->n_chromosomes = h->n_chromosomes;
    d->n_sites = h->n_sites;
    d->n_entries = h->n_entries;
    d->n_labels = h->n_labels;
    d->n_shards = h->n_shards;
    d->people = m->people;
    d->chromosomes = m->chromosomes;
    d->labels = m->labels;
    d->sites = (const site *)(m->tables.base + l->sites);
    d->run = (const int64_t *)(m->tables.base + l->run);
    d->missing = (const missing_run *)(m->tables.base + l->missing);
    d->missing_run_of = (const int64_t *)(m->tables.base + l->missing_run_of);
    d->entries = (const entry *)(m->tables.base + l->entries);
    return STATUS_OK;
}

status dataset_open(const char *path, comm *c, dataset **out)
{
    *out = NULL;
    comm *node = NULL, *leaders = NULL;
    char *tables = NULL;
    dataset *d = calloc(1, sizeof *d);
    struct dataset_memory *m = d ? calloc(1, sizeof *m) : NULL;
    status st =
        m ? STATUS_OK : fail(STATUS_MEMORY, "%s: no memory for the index; use more memory", path);
    TRY_GOTO(failed, comm_agree(c, st));
    d->memory = m;
    snprintf(d->path, sizeof d->path, "%s", path);
    TRY_GOTO(failed, seal_verify(path, c, DATASET_VERSION));
    TRY_GOTO(failed, comm_split_node(c, &node));
    TRY_GOTO(failed, comm_split(c, comm_rank(node) == 0 ? 0 : -1, comm_rank(c), &leaders));
    TRY_GOTO(failed, tables_share(path, c, leaders, m, &tables));
    TRY_GOTO(failed, columns_map_on_node(path, c, node, tables, m));
    TRY_GOTO(failed, comm_agree(c, views_make(d)));
    *out = d;
    d = NULL;
    m = NULL;
failed:
    free(tables);
    comm_free(&leaders);
    comm_free(&node);
    if (d && !d->memory)
        free(m);
    dataset_close(&d);
    return st;
}

static void people_free(dataset_people *p)
{
    free(p->entries);
    free(p->missing);
    free(p->run);
    free(p->missing_run_of);
    *p = (dataset_people){0};
}

void dataset_people_replace(dataset *d, dataset_people *p)
{
    dataset_people *own = &d->memory->replaced;
    people_free(own);
    *own = *p;
    *p = (dataset_people){0};
    d->entries = own->entries;
    d->n_entries = own->n_entries;
    d->run = own->run;
    d->missing = own->missing;
    d->missing_run_of = own->missing_run_of;
}

void dataset_close(dataset **d)
{
    if (!*d)
        return;
    struct dataset_memory *m = (*d)->memory;
    if (m) {
        node_memory_close(&m->tables);
        free(m->own);
        free(m->people);
        free(m->chromosomes);
        free(m->labels);
        free(m->block);
        people_free(&m->replaced);
        for (int i = 0; i < DATASET_OWNED; i++)
            free(m->owned[i]);
        free(m);
    }
    free(*d);
    *d = NULL;
}

status dataset_make(const dataset *view, void *const *owned, int n, dataset **out)
{
    dataset *d = calloc(1, sizeof *d);
    struct dataset_memory *m = calloc(1, sizeof *m);
    *out = NULL;
    if (!d || !m || n > DATASET_OWNED) {
        for (int i = 0; i < n; i++)
            free(owned[i]);
        free(d);
        free(m);
        return fail(STATUS_MEMORY, "%s: no memory for its tables; use more memory", view->path);
    }
    *d = *view;
    memcpy(m->owned, owned, (size_t)n * sizeof *owned);
    d->memory = m;
    d->block = NULL;
    d->n_blocks = 0;
    *out = d;
    return STATUS_OK;
}

/* A site is a word; each word is mixed by a multiplication and a shift, 44 million in 0.1 s. */
void dataset_sites_hash(const dataset *d, char hash[17])
{
    uint64_t h = NAME_HASH_START;
    for (int64_t c = 0; c < d->n_chromosomes; c++) {
        const chromosome *k = &d->chromosomes[c];
        const int identity = chromosome_identity(k->name); /* chr1 and 1 are one */
        h = identity ? name_hash(h, &identity, sizeof identity)
                     : name_hash(h, k->name, strlen(k->name) + 1);
        for (int64_t s = k->site0; s < k->site0 + k->sites; s++) {
            const site *x = &d->sites[s];
            h = (h ^ ((uint64_t)(uint32_t)x->position << 8 | (uint64_t)x->alts << 2 | x->ref)) *
                UINT64_C(0x9e3779b97f4a7c15);
            h ^= h >> 29;
        }
    }
    snprintf(hash, 17, "%016llx", (unsigned long long)h);
}

status dataset_block(dataset *d, int64_t max_gap)
{
    int32_t *block = d->memory->block;
    if (!block)
        block = malloc(((size_t)d->n_sites + 1) * sizeof *block);
    if (!block)
        return fail(STATUS_MEMORY, "%s: no memory for %lld sites; use more memory", d->path,
                    (long long)d->n_sites);
    d->n_blocks = 0;
    for (int64_t c = 0; c < d->n_chromosomes; c++) {
        const chromosome *k = &d->chromosomes[c];
        for (int64_t s = k->site0; s < k->site0 + k->sites; s++) {
            bool cut =
                s == k->site0 || (int64_t)d->sites[s].position - d->sites[s - 1].position > max_gap;
            d->n_blocks += cut;
            block[s] = (int32_t)(d->n_blocks - 1);
        }
    }
    d->memory->block = block;
    d->block = block;
    return STATUS_OK;
}

void dataset_block_cut(dataset *d, const uint8_t *mark)
{
    int32_t *block = d->memory->block;
    int32_t more = 0, before = -1; /* of the site before, as it was */
    for (int64_t s = 0; s < d->n_sites; s++) {
        more += s > 0 && block[s] == before && mark[s] != mark[s - 1];
        before = block[s];
        block[s] += more;
    }
    d->n_blocks += more;
}
