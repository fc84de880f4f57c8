/* The parts of the sites operation on the CPU: a tile of columns (kernels/cpu/sites_tile.c) takes
 * its entries in chunks, a chunk's loops over entries stand in kernels/cpu/sites_entries.c, and
 * what belongs to whole windows in kernels/cpu/sites_windows.c. Formulas: kernels/ops.h. */
#ifndef CROCUTA_KERNELS_CPU_SITES_H
#define CROCUTA_KERNELS_CPU_SITES_H

#include "kernels/cpu/tile.h"

#define SITES_CLASSES 64   /* most classes */
#define SITES_NOWHERE TILE /* the tile's column of an entry without token */

/* Entries of a tile, as many as go through the products at once. CR: classes * rank. */
typedef struct {
    int64_t first, n; /* entries [first, first + n) */
    int64_t runs;     /* those whose run is not empty */
    int64_t room;
    const float **row;    /* (n) each entry's row of the table, or zeros */
    int32_t *column;      /* (n) in the tile; SITES_NOWHERE */
    int32_t *run;         /* (n) row of R and P, -1: the run is empty */
    float *R;             /* (runs, rank) sums of runs */
    float *P;             /* (runs, CR) V R, then the gradient of the query */
    float *dR;            /* (runs, rank) */
    float *z;             /* (n, classes) carried ? logit : -logit */
    float *logp, *slope;  /* (n, classes) log sigma(z), sigma(-z); then slope: gradient of logit */
    float *zeros, *waste; /* a row of zeros, and one that is never read */
    float *sum;           /* (rank) the run so far: it goes on in the next chunk */
} sites_chunk;

/* What belongs to windows: one thread's sums over its tiles, or the sums of all threads. */
typedef struct {
    double *w;        /* (B, classes) */
    double *outside;  /* (B) log p_0 of entries without token */
    double *hidden;   /* (B, H) sums of gelu over tokens */
    int64_t *carried; /* (B) carried entries with a token */
    float *dw;        /* (B, classes) gradient of w */
    float *dhidden;   /* (B, H) */
} sites_windows;

/* One thread's tile. */
typedef struct {
    int64_t c0, T;               /* columns [c0, c0 + T) */
    int64_t first, end;          /* its entries */
    bool whole;                  /* the chunk holds all of them, forward done */
    float *h, *xhat, *dh, *rstd; /* (d, TILE), rstd (TILE) */
    float *q, *dq;               /* (TILE + 1, CR) token by token; the last one: SITES_NOWHERE */
    float *pre, *dpre;           /* (H, TILE) */
    sites_chunk chunk;
} sites_tile;

/* The part [i0, i1) of some entries that lies in window b. Start with b of the first and i1 = the
 * first. */
typedef struct {
    int64_t b, i0, i1;
} sites_piece;

static inline bool sites_piece_next(const sites_args *a, int64_t end, sites_piece *p)
{
    if (p->i1 >= end)
        return false;
    p->i0 = p->i1;
    while (a->start[p->b + 1] <= p->i0)
        p->b++;
    p->i1 = least(end, a->start[p->b + 1]);
    return true;
}

static inline int64_t sites_count(const sites_args *a, int64_t b)
{
    return a->count ? a->count[b] : a->s.L;
}

/* Columns a tile: as many whole windows as fit, or a part of one. */
static inline int64_t sites_width(const sites_args *a)
{
    return a->s.Lp <= TILE ? TILE / a->s.Lp * a->s.Lp : TILE;
}

/* ---- entries ---- */

/* Rows, columns and sums of runs of a chunk; window b holds its first entry or an earlier one. */
void sites_runs(const sites_args *a, sites_chunk *c, int64_t b, int64_t c0);
/* z from q (TILE + 1, CR) and P. */
void sites_logits(const sites_args *a, const sites_chunk *c, const float *q);
/* log sigma(z) and sigma(-z). */
void sites_log_sigmoid(int64_t n, const float *z, float *logp, float *slope);
/* slope becomes the gradient of the logits: dw of each entry's window times the slope. */
void sites_logit_gradients(const sites_args *a, const sites_chunk *c, int64_t b, const float *dw);
/* From the gradient of the logits: those of G and bias into drows, dq added to, P replaced by the
 * gradient of the queries. drows: of entry start[0] on. */
void sites_entry_gradients(const sites_args *a, const sites_chunk *c, const float *q, float *dq,
                           float *drows);
/* dR of a chunk into the places of drows where that of run rows belongs, */
void sites_place_runs(const sites_args *a, const sites_chunk *c, float *drows);
/* and there, for entries [first, end) of whole tokens, sums over the later entries of a token. Rows
 * of absent slots become zero. */
void sites_run_gradients(const sites_args *a, int64_t first, int64_t end, float *sum, float *drows);

/* ---- tiles ---- */

enum { SITES_LN_W, SITES_LN_B, SITES_W, SITES_B, SITES_V, SITES_EH, SITES_EB };

sites_tile sites_tile_carve(carve *c, const sites_args *a, bool backward);
/* Once, before the first tile. */
void sites_tile_clear(const sites_args *a, sites_tile *t);
/* Adds a tile's sums to the windows'; site_logits may be NULL. */
void sites_tile_sums(const sites_args *a, sites_tile *t, int64_t c0, const float *residual,
                     const sites_windows *w, float *site_logits);
/* After sites_tile_sums: `fresh` where no other tile came between. w: with gradients. */
void sites_tile_gradients(const sites_args *a, sites_tile *t, int64_t c0, bool fresh,
                          const float *residual, const sites_windows *w, const thread_sums *sums,
                          int thread, float *dresidual, float *drows);

/* ---- windows ---- */

sites_windows sites_windows_carve(carve *c, const sites_args *a, bool backward);
void sites_windows_clear(const sites_args *a, const sites_windows *w);
void sites_windows_add(const sites_args *a, const sites_windows *total, const sites_windows *own);
/* dw and dhidden of windows [b0, b1). */
void sites_windows_gradients(const sites_args *a, const sites_windows *w, int64_t b0, int64_t b1);
/* Loss and outputs, each may be NULL; grads: Eo, eo and scale are added to. */
void sites_windows_finish(const sites_args *a, const sites_windows *w, float *class_logits,
                          double *sequence_nll, loss_sum *loss, const sites_grads *grads);

#endif
