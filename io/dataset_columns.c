/* Decoding: read a chunk, undo deflate and byte shuffle, then walk the site table beside the
 * positions: an entry keeps the index of its site. See dataset_columns.h. */
#include "io/dataset_columns.h"

#include "io/dataset_format.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

typedef struct {
    const char *path;
    const index_head *h;
    const chunk_place *chunks;
    const chromosome_numbers *chromosomes;
    const site *sites;
    const int64_t *run;
    entry *entries;
    int64_t first, step;
    int fd;
    atomic_llong next; /* chunks handed out, in units of step */
    atomic_int failed;
} work;

/* One thread's buffers: as stored, inflated, and both columns of a chunk. */
typedef struct {
    uint8_t *stored, *plain, *packed;
    int32_t *position;
    size_t stored_size;
    status st;
    failure why;
    work *w;
    pthread_t thread;
    bool started;
} decoder;

static status damaged(const char *path, const char *what)
{
    return fail(STATUS_DATA, "%s: %s; the file is damaged: restore a copy or import it again", path,
                what);
}

static status read_all(const work *w, void *to, int64_t bytes, int64_t at)
{
    for (int64_t done = 0; done < bytes;) {
        ssize_t got = pread(w->fd, (char *)to + done, (size_t)(bytes - done), (off_t)(at + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return damaged(w->path, got < 0 ? strerror(errno) : "it ends within a chunk");
        done += got;
    }
    return STATUS_OK;
}

/* Byte planes back to 32-bit little-endian numbers. */
static void unshuffle(const uint8_t *restrict planes, int64_t n, int32_t *restrict to)
{
    const uint8_t *b0 = planes, *b1 = planes + n, *b2 = planes + 2 * n, *b3 = planes + 3 * n;
    for (int64_t i = 0; i < n; i++)
        to[i] =
            (int32_t)(b0[i] | (uint32_t)b1[i] << 8 | (uint32_t)b2[i] << 16 | (uint32_t)b3[i] << 24);
}

/* One column of a chunk: `width` bytes an element, into `to`. */
static status inflate_column(decoder *d, const chunk_place *k, int which, int width, void *to)
{
    const work *w = d->w;
    int64_t n = w->h->chunk_entries, bytes = k->bytes[which];
    uint32_t skipped = k->skipped[which];
    if ((size_t)bytes > d->stored_size) {
        uint8_t *more = realloc(d->stored, (size_t)bytes);
        if (!more)
            return fail(STATUS_MEMORY, "%s: no memory to read it; use more memory", w->path);
        d->stored = more;
        d->stored_size = (size_t)bytes;
    }
    TRY(read_all(w, d->stored, bytes, k->at[which]));
    if (!(skipped >> STAGE_FLETCHER32 & 1)) /* its four bytes say no more than the seal has said */
        bytes -= 4;
    bool shuffled = width > 1 && !(skipped >> STAGE_SHUFFLE & 1);
    uint8_t *plain = shuffled ? d->plain : to;
    uLongf size = (uLongf)(n * width);
    if (bytes < 1)
        return damaged(w->path, "an empty chunk");
    if (skipped >> STAGE_DEFLATE & 1) {
        if (bytes != n * width)
            return damaged(w->path, "a chunk of the wrong length");
        memcpy(plain, d->stored, (size_t)bytes);
    } else if (uncompress(plain, &size, d->stored, (uLong)bytes) != Z_OK ||
               size != (uLongf)(n * width)) {
        return damaged(w->path, "a chunk that does not decompress");
    }
    if (shuffled)
        unshuffle(plain, n, to);
    return STATUS_OK;
}

/* The run that holds entry e: run[r] <= e < run[r + 1]. */
static int64_t run_of_entry(const int64_t *run, int64_t runs, int64_t e)
{
    int64_t low = 0, high = runs;
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        *(run[middle] <= e ? &low : &high) = middle;
    }
    return low;
}

static int64_t first_site_from(const site *sites, int64_t low, int64_t high, int32_t position)
{
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (sites[middle].position < position)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Entries [e, end) of one person and chromosome; their columns begin at index 0 of position and
 * packed. */
static status place_run(const work *w, const chromosome_numbers *k, int64_t e, int64_t end,
                        const int32_t *position, const uint8_t *packed)
{
    int64_t last = k->site0 + k->sites;
    int64_t s = first_site_from(w->sites, k->site0, last, position[0]);
    int64_t key_before = -1;
    for (int64_t i = 0; e + i < end; i++) {
        while (s < last && w->sites[s].position < position[i])
            s++;
        uint8_t allele = dataset_allele(packed[i]);
        if (s == last || w->sites[s].position != position[i] || packed[i] > 15 ||
            !(w->sites[s].alts >> allele & 1) || s * 4 + allele <= key_before)
            return damaged(w->path, "an entry that is not in its table of sites");
        key_before = s * 4 + allele;
        w->entries[e + i] = (entry){(int32_t)s, allele, dataset_mask(packed[i])};
    }
    return STATUS_OK;
}

static status decode_chunk(decoder *d, int64_t chunk)
{
    const work *w = d->w;
    const index_head *h = w->h;
    int64_t runs = h->n_people * h->n_chromosomes, begin = chunk * h->chunk_entries;
    int64_t end = begin + h->chunk_entries < h->n_entries ? begin + h->chunk_entries : h->n_entries;
    TRY(inflate_column(d, &w->chunks[chunk], 0, 4, d->position));
    TRY(inflate_column(d, &w->chunks[chunk], 1, 1, d->packed));
    int64_t r = run_of_entry(w->run, runs, begin);
    for (int64_t e = begin; e < end; r++) {
        int64_t stop = w->run[r + 1] < end ? w->run[r + 1] : end;
        if (stop == e)
            continue;
        TRY(place_run(w, &w->chromosomes[r % h->n_chromosomes], e, stop, d->position + (e - begin),
                      d->packed + (e - begin)));
        e = stop;
    }
    return STATUS_OK;
}

static void *decode(void *argument)
{
    decoder *d = argument;
    work *w = d->w;
    size_t n = (size_t)w->h->chunk_entries;
    d->plain = malloc(n * 4);
    d->packed = malloc(n);
    d->position = malloc(n * 4);
    if (!d->plain || !d->packed || !d->position)
        d->st = fail(STATUS_MEMORY, "%s: no memory to read it; use more memory", w->path);
    while (d->st == STATUS_OK && !atomic_load(&w->failed)) {
        int64_t chunk = w->first + w->step * (int64_t)atomic_fetch_add(&w->next, 1);
        if (chunk >= w->h->n_chunks)
            break;
        d->st = decode_chunk(d, chunk);
    }
    if (d->st != STATUS_OK) {
        d->why = *failure_last(); /* this thread's: the caller's thread takes it over */
        atomic_store(&w->failed, 1);
    }
    free(d->stored);
    free(d->plain);
    free(d->packed);
    free(d->position);
    return NULL;
}

status columns_decode(const char *path, const index_head *h, const chunk_place *chunks,
                      const chromosome_numbers *chromosomes, const site *sites, const int64_t *run,
                      int64_t first, int64_t step, int threads, entry *entries)
{
    if (first >= h->n_chunks)
        return STATUS_OK;
    work w = {path, h, chunks, chromosomes, sites, run, entries, first, step, -1, 0, 0};
    int64_t mine = (h->n_chunks - first + step - 1) / step;
    int n = threads < 1 ? 1 : threads > mine ? (int)mine : threads;
    decoder *d = calloc((size_t)n, sizeof *d);
    if (!d)
        return fail(STATUS_MEMORY, "%s: no memory to read it; use more memory", path);
    w.fd = open(path, O_RDONLY | O_CLOEXEC);
    status st =
        w.fd < 0 ? fail(STATUS_DATA, "%s: %s; look at the file", path, strerror(errno)) : STATUS_OK;
    for (int i = 0; i < n && st == STATUS_OK; i++)
        d[i].w = &w;
    /* a thread that cannot be started is no failure: the others and this one do its work */
    for (int i = 1; i < n && st == STATUS_OK; i++)
        d[i].started = pthread_create(&d[i].thread, NULL, decode, &d[i]) == 0;
    if (st == STATUS_OK)
        decode(&d[0]);
    for (int i = 1; i < n; i++)
        if (d[i].started)
            pthread_join(d[i].thread, NULL);
    for (int i = 0; i < n && st == STATUS_OK; i++)
        if (d[i].st != STATUS_OK)
            st = failure_set(&d[i].why);
    if (w.fd >= 0)
        close(w.fd);
    free(d);
    return st;
}
