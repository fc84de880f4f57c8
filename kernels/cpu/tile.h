/* How the tile operations divide their work: columns in tiles, tiles in contiguous shares of the
 * threads, and gradients of parameters in one accumulator a thread that are added up in thread
 * order, so that a result depends on the number of threads and on nothing else. */
#ifndef CROCUTA_KERNELS_CPU_TILE_H
#define CROCUTA_KERNELS_CPU_TILE_H

#include "kernels/ops.h"

#include <string.h>

/* Columns a tile. 256: a tile and the weights that it meets stay in 2 MB of L2, and weights are
 * packed once for many columns. On one Sapphire Rapids core, all operations at d = 128 and 256: 128
 * columns were 16 and 4 % slower, 384 columns 6 and 4 %. */
#define TILE 256

static inline int64_t columns_of(batch_shape s)
{
    return s.B * s.Lp;
}

static inline int64_t tiles_of(batch_shape s)
{
    return (columns_of(s) + TILE - 1) / TILE;
}

static inline int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Tiles [first, end) of one thread. */
typedef struct {
    int64_t first, end;
} tile_share;

static inline tile_share share_of(int64_t tiles, int team, int thread)
{
    return (tile_share){tiles * thread / team, tiles * (thread + 1) / team};
}

/* A workspace laid out by one function, run twice: without a base it counts, with one it hands out.
 */
typedef struct {
    char *base;
    size_t used; /* bytes */
} carve;

static inline void *carve_bytes(carve *c, int64_t bytes)
{
    void *p = c->base ? c->base + c->used : NULL;
    c->used += arena_round((size_t)bytes);
    return p;
}

static inline float *carve_floats(carve *c, int64_t n)
{
    return carve_bytes(c, n * (int64_t)sizeof(float));
}

/* The piece of a tile that lies in one sequence: tile columns [j0, j1), those below `live` are
 * positions of the sequence, the rest pads; column j0 is position t of sequence b. Start with a
 * zeroed one. */
typedef struct {
    int64_t j0, live, j1, t, b;
} segment;

static inline bool segment_next(batch_shape s, int64_t c0, int64_t width, segment *g)
{
    if (g->j1 >= width)
        return false;
    g->j0 = g->j1;
    g->b = (c0 + g->j0) / s.Lp;
    g->t = (c0 + g->j0) % s.Lp;
    g->j1 = least(g->j0 + s.Lp - g->t, width);
    g->live = g->t >= s.L ? g->j0 : least(g->j0 + s.L - g->t, g->j1);
    return true;
}

/* Pads of a tile (rows, width) that begins at column c0 become zero. */
static inline void zero_pads(batch_shape s, int64_t c0, int64_t width, int64_t rows, float *tile,
                             int64_t ld)
{
    if (s.L == s.Lp)
        return;
    segment g = {0};
    while (segment_next(s, c0, width, &g))
        for (int64_t r = 0; g.live < g.j1 && r < rows; r++)
            memset(tile + r * ld + g.live, 0, (size_t)(g.j1 - g.live) * sizeof(float));
}

/* Gradients of several parameters: thread 0 adds to the caller's own arrays, the others to blocks
 * of the workspace. */
#define SUMS_PARTS (EMBED_LEVELS + 1)
typedef struct {
    int parts;
    float *total[SUMS_PARTS]; /* the caller's, added to */
    int64_t count[SUMS_PARTS];
    int64_t at[SUMS_PARTS + 1];
    float *block; /* (threads - 1, at[parts]) */
} thread_sums;

static inline void sums_part(thread_sums *s, float *total, int64_t n)
{
    s->total[s->parts] = total;
    s->count[s->parts] = n;
    s->at[s->parts + 1] = s->at[s->parts] + (n + 15) / 16 * 16;
    s->parts++;
}

static inline void sums_carve(thread_sums *s, carve *c, int threads)
{
    s->block = carve_floats(c, s->at[s->parts] * (threads - 1));
}

static inline float *sums_of(const thread_sums *s, int thread, int part)
{
    return thread == 0 ? s->total[part] : s->block + (thread - 1) * s->at[s->parts] + s->at[part];
}

/* Before its first tile, by each thread. */
static inline void sums_clear(const thread_sums *s, int thread)
{
    if (thread > 0)
        memset(s->block + (thread - 1) * s->at[s->parts], 0,
               (size_t)s->at[s->parts] * sizeof(float));
}

/* After a barrier, by each thread: its share of every part, added up in thread order. */
static inline void sums_reduce(const thread_sums *s, int team, int thread)
{
    for (int part = 0; part < s->parts; part++) {
        const int64_t i0 = s->count[part] * thread / team,
                      i1 = s->count[part] * (thread + 1) / team;
        float *restrict total = s->total[part];
        for (int from = 1; from < team; from++) {
            const float *restrict own = sums_of(s, from, part);
            for (int64_t i = i0; i < i1; i++)
                total[i] += own[i];
        }
    }
}

/* No room: the plan and the operation disagree. */
/* Operations of a CPU have no mixed precision: who asks for a step of it is refused earlier. */
static inline status fp32_alone(bool mixed, const char *operation)
{
    return mixed ? fail(STATUS_INTERNAL, "%s: bf16 tensors came to a CPU; report this", operation)
                 : STATUS_OK;
}

static inline status workspace_short(const char *operation, size_t bytes, const arena *ws)
{
    return fail(STATUS_MEMORY,
                "%s: %zu bytes of workspace needed, %zu free; the plan was made for fewer",
                operation, bytes, ws->size - ws->used);
}

#endif
