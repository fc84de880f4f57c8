/* Writing a data set collectively: see dataset_write.h. The columns and the file itself are
 * io/h5_write.c. */
#include "io/dataset_write.h"

#include "io/dataset_format.h"
#include "io/h5_write.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    h5_writer out;
    const dataset_part *part;
} writer;

/* ---- the parts of the file ---- */

static const char *person_id(const void *part, int64_t i)
{
    return ((const dataset_part *)part)->people[i].id;
}

static const char *person_population(const void *part, int64_t i)
{
    return ((const dataset_part *)part)->people[i].population;
}

static const char *person_superpopulation(const void *part, int64_t i)
{
    return ((const dataset_part *)part)->people[i].superpopulation;
}

static const char *person_family(const void *part, int64_t i)
{
    return ((const dataset_part *)part)->people[i].family;
}

static const char *chromosome_name(const void *part, int64_t i)
{
    return ((const dataset_part *)part)->chromosomes[i].name;
}

static const char *label_name(const void *part, int64_t i)
{
    return ((const dataset_part *)part)->labels[i];
}

static status head_write(const writer *w, int64_t entries, int64_t missing_runs)
{
    const dataset_part *p = w->part;
    TRY(h5_put_text(w->out.file, w->out.path, "program", DATASET_PROGRAM));
    TRY(h5_put_text(w->out.file, w->out.path, "kind", DATASET_KIND));
    TRY(h5_put_i64(w->out.file, w->out.path, "version", DATASET_VERSION));
    TRY(h5_put_text(w->out.file, w->out.path, "assembly", p->assembly));
    TRY(h5_put_text(w->out.file, w->out.path, "split_hash", p->split_hash));
    TRY(h5_put_i64(w->out.file, w->out.path, "phased", p->phased));
    TRY(h5_put_i64(w->out.file, w->out.path, "seed", (int64_t)p->seed));
    TRY(h5_put_i64(w->out.file, w->out.path, "people", p->n_people));
    TRY(h5_put_i64(w->out.file, w->out.path, "chromosomes", p->n_chromosomes));
    TRY(h5_put_i64(w->out.file, w->out.path, "sites", p->n_sites));
    TRY(h5_put_i64(w->out.file, w->out.path, "entries", entries));
    TRY(h5_put_i64(w->out.file, w->out.path, "labels", p->n_labels));
    TRY(h5_put_i64(w->out.file, w->out.path, "shards", p->n_shards));
    TRY(h5_put_i64(w->out.file, w->out.path, "missing_runs", missing_runs));
    return STATUS_OK;
}

static status people_write(const writer *w)
{
    const dataset_part *p = w->part;
    int64_t n = p->n_people;
    int32_t *wide = malloc((size_t)n * 2 * sizeof *wide);
    uint8_t *narrow = malloc((size_t)n * 2);
    status st =
        wide && narrow ? STATUS_OK : fail(STATUS_MEMORY, "%s: no memory; use more", w->out.path);
    TRY_GOTO(done, comm_agree(w->out.c, st));
    for (int64_t i = 0; i < n; i++) {
        wide[i] = p->people[i].label;
        wide[n + i] = p->people[i].shard;
        narrow[i] = (uint8_t)p->people[i].sex;
        narrow[n + i] = (uint8_t)p->people[i].split;
    }
    TRY_GOTO(done, h5_write_texts(&w->out, "/individual/id", n, person_id, p));
    TRY_GOTO(done, h5_write_texts(&w->out, "/individual/population", n, person_population, p));
    TRY_GOTO(done,
             h5_write_texts(&w->out, "/individual/superpopulation", n, person_superpopulation, p));
    TRY_GOTO(done, h5_write_texts(&w->out, "/individual/family", n, person_family, p));
    TRY_GOTO(done, h5_write_table(&w->out, "/individual/label", H5T_STD_I32LE, n, wide));
    TRY_GOTO(done, h5_write_table(&w->out, "/individual/shard", H5T_STD_I32LE, n, wide + n));
    TRY_GOTO(done, h5_write_table(&w->out, "/individual/sex", H5T_STD_U8LE, n, narrow));
    TRY_GOTO(done, h5_write_table(&w->out, "/individual/split", H5T_STD_U8LE, n, narrow + n));
    st = h5_write_texts(&w->out, "/label/name", p->n_labels, label_name, p);
done:
    free(wide);
    free(narrow);
    return st;
}

static status chromosomes_write(const writer *w)
{
    const dataset_part *p = w->part;
    int64_t n = p->n_chromosomes;
    int64_t *column = malloc((size_t)n * 3 * sizeof *column);
    status st = column ? STATUS_OK : fail(STATUS_MEMORY, "%s: no memory; use more", w->out.path);
    TRY_GOTO(done, comm_agree(w->out.c, st));
    for (int64_t i = 0; i < n; i++) {
        column[i] = p->chromosomes[i].length;
        column[n + i] = p->chromosomes[i].site0;
        column[2 * n + i] = p->chromosomes[i].sites;
    }
    TRY_GOTO(done, h5_write_texts(&w->out, "/chromosome/name", n, chromosome_name, p));
    TRY_GOTO(done, h5_write_table(&w->out, "/chromosome/length", H5T_STD_I64LE, n, column));
    TRY_GOTO(done,
             h5_write_table(&w->out, "/chromosome/site_offset", H5T_STD_I64LE, n, column + n));
    st = h5_write_table(&w->out, "/chromosome/site_count", H5T_STD_I64LE, n, column + 2 * n);
done:
    free(column);
    return st;
}

static status sites_write(const writer *w)
{
    const dataset_part *p = w->part;
    int64_t n = p->n_sites;
    int32_t *position = malloc(((size_t)n + 1) * sizeof *position);
    uint8_t *base = malloc(2 * (size_t)n + 1);
    status st =
        position && base ? STATUS_OK : fail(STATUS_MEMORY, "%s: no memory; use more", w->out.path);
    TRY_GOTO(done, comm_agree(w->out.c, st));
    for (int64_t i = 0; i < n; i++) {
        position[i] = p->sites[i].position;
        base[i] = p->sites[i].ref;
        base[n + i] = p->sites[i].alts;
    }
    TRY_GOTO(done, h5_write_table(&w->out, "/site/position", H5T_STD_I32LE, n, position));
    TRY_GOTO(done, h5_write_table(&w->out, "/site/ref", H5T_STD_U8LE, n, base));
    st = h5_write_table(&w->out, "/site/alts", H5T_STD_U8LE, n, base + n);
done:
    free(position);
    free(base);
    return st;
}

/* (people, chromosomes) of offset and count: gathered to the first rank, which writes both. */
static status runs_write(const writer *w, const char *offset_name, const char *count_name,
                         const int64_t *run)
{
    const dataset_part *p = w->part;
    int size = comm_size(w->out.c), rank = comm_rank(w->out.c);
    int64_t chromosomes = p->n_chromosomes, mine = p->mine * chromosomes;
    int64_t all = p->n_people * chromosomes, *begin = NULL;
    int64_t *own = malloc(((size_t)mine + 1) * sizeof *own);
    int64_t *count = rank == 0 ? malloc((size_t)all * 2 * sizeof *count) : NULL;
    size_t *bytes = calloc((size_t)size, sizeof *bytes);
    status st = own && bytes && (count || rank)
                    ? STATUS_OK
                    : fail(STATUS_MEMORY, "%s: no memory; use more", w->out.path);
    TRY_GOTO(done, comm_agree(w->out.c, st));
    TRY_GOTO(done, h5_write_stretches(&w->out, mine, &begin));
    for (int64_t r = 0; r < mine; r++)
        own[r] = run[r + 1] - run[r];
    for (int r = 0; r < size; r++)
        bytes[r] = (size_t)(begin[r + 1] - begin[r]) * sizeof *own;
    TRY_GOTO(done, comm_agree(w->out.c, comm_gatherv(w->out.c, own, (size_t)mine * sizeof *own,
                                                     count, bytes, 0)));
    int64_t next = 0, rows = rank == 0 ? p->n_people : 0;
    for (int64_t r = 0; count && r < all; r++) {
        count[all + r] = next;
        next += count[r];
    }
    TRY_GOTO(done, h5_write_column(&w->out, offset_name, H5T_STD_I64LE, 2, p->n_people, chromosomes,
                                   true, 0, rows, count ? count + all : NULL));
    st = h5_write_column(&w->out, count_name, H5T_STD_I64LE, 2, p->n_people, chromosomes, true, 0,
                         rows, count);
done:
    free(begin);
    free(own);
    free(count);
    free(bytes);
    return st;
}

static status missing_write(const writer *w, const int64_t *begin)
{
    const dataset_part *p = w->part;
    int64_t n = begin[comm_rank(w->out.c) + 1] - begin[comm_rank(w->out.c)];
    int32_t *column = malloc((2 * (size_t)n + 1) * sizeof *column);
    status st = column ? STATUS_OK : fail(STATUS_MEMORY, "%s: no memory; use more", w->out.path);
    TRY_GOTO(done, comm_agree(w->out.c, st));
    for (int64_t i = 0; i < n; i++) {
        column[i] = p->missing[i].first;
        column[n + i] = p->missing[i].count;
    }
    TRY_GOTO(done, runs_write(w, "/missing/run_offset", "/missing/run_count", p->missing_run_of));
    TRY_GOTO(done, h5_write_spread(&w->out, "/missing/first", H5T_STD_I32LE, begin, column));
    st = h5_write_spread(&w->out, "/missing/count", H5T_STD_I32LE, begin, column + n);
done:
    free(column);
    return st;
}

static status entries_write(const writer *w, const int64_t *begin)
{
    const dataset_part *p = w->part;
    int64_t n = begin[comm_rank(w->out.c) + 1] - begin[comm_rank(w->out.c)];
    int32_t *position = malloc(((size_t)n + 1) * sizeof *position);
    uint8_t *packed = malloc((size_t)n + 1);
    status st = position && packed
                    ? STATUS_OK
                    : fail(STATUS_MEMORY, "%s: no memory to write; use more ranks", w->out.path);
    TRY_GOTO(done, comm_agree(w->out.c, st));
    for (int64_t i = 0; i < n; i++) {
        position[i] = p->sites[p->entries[i].site].position;
        packed[i] = dataset_pack(p->entries[i].allele, p->entries[i].mask);
    }
    TRY_GOTO(done, runs_write(w, "/run/offset", "/run/count", p->run));
    TRY_GOTO(done, h5_write_spread(&w->out, "/position", H5T_STD_I32LE, begin, position));
    st = h5_write_spread(&w->out, "/allele", H5T_STD_U8LE, begin, packed);
done:
    free(position);
    free(packed);
    return st;
}

/* ---- the file ---- */

/* Bytes that the file will hardly exceed: `an_entry` for each entry, tables and library's own as
 * they are. */
static int64_t room_for(const dataset_part *p, int64_t entries, int64_t missing_runs,
                        double an_entry)
{
    int64_t names = 4 * p->n_labels;
    for (int64_t i = 0; i < p->n_people; i++)
        names += 64 + (int64_t)(strlen(p->people[i].id) + strlen(p->people[i].population) +
                                strlen(p->people[i].superpopulation) + strlen(p->people[i].family));
    return (int64_t)((double)entries * an_entry) + 8 * missing_runs + 6 * p->n_sites + names +
           32 * p->n_people * p->n_chromosomes + (256 << 10);
}

static status parts_write(const writer *w)
{
    const dataset_part *p = w->part;
    static const char *const groups[] = {"/individual", "/chromosome", "/label",
                                         "/site",       "/run",        "/missing"};
    int size = comm_size(w->out.c);
    int64_t runs = p->mine * p->n_chromosomes, *entries = NULL, *missing = NULL;
    status st = STATUS_OK;
    TRY_GOTO(done, h5_write_stretches(&w->out, p->run[runs], &entries));
    TRY_GOTO(done, h5_write_stretches(&w->out, p->missing_run_of[runs], &missing));
    TRY_GOTO(done, comm_agree(w->out.c, head_write(w, entries[size], missing[size])));
    TRY_GOTO(done, comm_agree(w->out.c, h5_write_groups(&w->out, groups, 6)));
    TRY_GOTO(done, people_write(w));
    TRY_GOTO(done, chromosomes_write(w));
    TRY_GOTO(done, sites_write(w));
    TRY_GOTO(done, entries_write(w, entries));
    st = missing_write(w, missing);
done:
    free(entries);
    free(missing);
    return st;
}

status dataset_write(const char *path, comm *c, const dataset_part *part, int64_t *file_bytes)
{
    writer w = {.part = part};
    const int64_t runs = part->mine * part->n_chromosomes;
    int64_t n[2] = {part->run[runs], part->missing_run_of[runs]};
    TRY(comm_sum_i64(c, n, 2));
    status st = h5_write_open(path, c, room_for(part, n[0], n[1], 2.2),
                              room_for(part, n[0], n[1], 5.1), &w.out);
    if (st == STATUS_OK)
        st = parts_write(&w);
    return h5_write_end(&w.out, path, DATASET_VERSION, st, file_bytes);
}
