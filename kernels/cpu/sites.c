/* sites on the CPU: the threads' way through the tiles. A window's likelihood must be complete
 * before its backward pass. Where tiles hold whole windows (Lp <= TILE), each tile goes forward and
 * back at once; otherwise one sweep over all tiles sums the windows and a second one, which
 * computes the entries again, takes the gradients. */
#include "kernels/cpu/sites.h"
#include "kernels/cpu/cpu.h"

#include <omp.h>

/* One thread's workspace. */
typedef struct {
    sites_windows windows;
    sites_tile tile;
} sites_own;

static sites_own own_carve(carve *c, const sites_args *a, bool backward)
{
    sites_own own;
    own.windows = sites_windows_carve(c, a, backward);
    own.tile = sites_tile_carve(c, a, backward);
    return own;
}

static thread_sums sums_layout(const sites_args *a, const sites_grads *g)
{
    const int64_t CR = a->classes * a->rank;
    thread_sums s = {0};
    sums_part(&s, g ? g->ln_w : NULL, a->ln_w ? a->d : 0);
    sums_part(&s, g ? g->ln_b : NULL, a->ln_w ? a->d : 0);
    sums_part(&s, g ? g->W : NULL, CR * a->d);
    sums_part(&s, g ? g->b : NULL, CR);
    sums_part(&s, g ? g->V : NULL, CR * a->rank);
    sums_part(&s, g ? g->Eh : NULL, a->H * a->d);
    sums_part(&s, g ? g->eh : NULL, a->H);
    return s;
}

static size_t bytes_needed(const sites_args *a, int threads, bool backward)
{
    carve c = {0};
    thread_sums s = sums_layout(a, NULL);
    if (backward)
        sums_carve(&s, &c, threads);
    for (int i = 0; i < threads; i++)
        own_carve(&c, a, backward);
    return c.used;
}

size_t sites_workspace_cpu(const device *dev, const sites_args *a)
{
    return bytes_needed(a, dev->threads, true);
}

static int64_t sites_tiles(const sites_args *a)
{
    return (columns_of(a->s) + sites_width(a) - 1) / sites_width(a);
}

/* All threads' windows into those of the first, in thread order. */
static sites_own windows_total(const sites_args *a, carve at, size_t each, int team, bool backward)
{
    carve c = at;
    const sites_own first = own_carve(&c, a, backward);
    for (int i = 1; i < team; i++) {
        carve next = {at.base, at.used + each * (size_t)i};
        const sites_own own = own_carve(&next, a, backward);
        sites_windows_add(a, &first.windows, &own.windows);
    }
    return first;
}

static status args_check(const sites_args *a)
{
    if (a->classes < 1 || a->classes > SITES_CLASSES)
        return fail(STATUS_INTERNAL, "sites: %lld classes, 1 to %d are possible; this is a fault",
                    (long long)a->classes, SITES_CLASSES);
    return STATUS_OK;
}

status sites_forward_cpu(device *dev, const sites_args *a, const float *residual,
                         float *class_logits, float *site_logits, double *sequence_nll,
                         loss_sum *loss, arena *ws)
{
    const status st = args_check(a);
    if (st != STATUS_OK)
        return st;
    const size_t bytes = bytes_needed(a, dev->threads, false), mark = arena_mark(ws);
    const carve all = {arena_take(ws, bytes), 0};
    if (!all.base)
        return workspace_short("sites", bytes, ws);
    const size_t each = bytes / (size_t)dev->threads;
    const int64_t tiles = sites_tiles(a), width = sites_width(a);
    int team = 1;
#pragma omp parallel num_threads(dev->threads)
    {
        const int thread = omp_get_thread_num(), threads = omp_get_num_threads();
        const tile_share mine = share_of(tiles, threads, thread);
        carve c = {all.base, each * (size_t)thread};
        sites_own own = own_carve(&c, a, false);
        if (thread == 0)
            team = threads;
        sites_windows_clear(a, &own.windows);
        sites_tile_clear(a, &own.tile);
        for (int64_t i = mine.first; i < mine.end; i++)
            sites_tile_sums(a, &own.tile, i * width, residual, &own.windows, site_logits);
    }
    const sites_own first = windows_total(a, all, each, team, false);
    sites_windows_finish(a, &first.windows, class_logits, sequence_nll, loss, NULL);
    arena_release(ws, mark);
    return STATUS_OK;
}

/* What the threads of a backward pass share. */
typedef struct {
    const sites_args *a;
    const float *residual;
    float *dresidual, *drows;
    thread_sums sums;
    carve at;    /* the first thread's workspace */
    size_t each; /* bytes a thread */
} sites_pass;

/* A tile of whole windows. */
static void tile_at_once(const sites_pass *p, sites_own *own, int thread, int64_t c0)
{
    const sites_args *a = p->a;
    const int64_t end = least(c0 + sites_width(a), columns_of(a->s));
    sites_tile_sums(a, &own->tile, c0, p->residual, &own->windows, NULL);
    sites_windows_gradients(a, &own->windows, c0 / a->s.Lp, end / a->s.Lp);
    sites_tile_gradients(a, &own->tile, c0, true, p->residual, &own->windows, &p->sums, thread,
                         p->dresidual, p->drows);
}

static void backward_share(const sites_pass *p, int thread, int team)
{
    const sites_args *a = p->a;
    const int64_t width = sites_width(a);
    const bool whole = a->s.Lp <= width;
    const tile_share mine = share_of(sites_tiles(a), team, thread);
    carve c = {p->at.base, p->at.used + p->each * (size_t)thread};
    sites_own own = own_carve(&c, a, true);
    sums_clear(&p->sums, thread);
    sites_windows_clear(a, &own.windows);
    sites_tile_clear(a, &own.tile);
    for (int64_t i = mine.first; i < mine.end; i++) {
        if (whole)
            tile_at_once(p, &own, thread, i * width);
        else
            sites_tile_sums(a, &own.tile, i * width, p->residual, &own.windows, NULL);
    }
#pragma omp barrier
#pragma omp single
    {
        const sites_own first = windows_total(a, p->at, p->each, team, true);
        if (!whole)
            sites_windows_gradients(a, &first.windows, 0, a->s.B);
    }
    carve base = p->at;
    const sites_own first = own_carve(&base, a, true);
    for (int64_t i = mine.first; !whole && i < mine.end; i++)
        sites_tile_gradients(a, &own.tile, i * width, false, p->residual, &first.windows, &p->sums,
                             thread, p->dresidual, p->drows);
#pragma omp barrier
    sums_reduce(&p->sums, team, thread);
}

status sites_backward_cpu(device *dev, const sites_args *a, const float *residual, loss_sum *loss,
                          float *dresidual, const sites_grads *grads, float *drows, arena *ws)
{
    const status st = args_check(a);
    if (st != STATUS_OK)
        return st;
    const size_t bytes = bytes_needed(a, dev->threads, true), mark = arena_mark(ws);
    sites_pass p = {.a = a, .residual = residual, .dresidual = dresidual, .drows = drows};
    p.at.base = arena_take(ws, bytes);
    if (!p.at.base)
        return workspace_short("sites", bytes, ws);
    p.sums = sums_layout(a, grads);
    sums_carve(&p.sums, &p.at, dev->threads);
    p.each = (bytes - p.at.used) / (size_t)dev->threads;
#pragma omp parallel num_threads(dev->threads)
    backward_share(&p, omp_get_thread_num(), omp_get_num_threads());
    carve c = p.at;
    const sites_own first = own_carve(&c, a, true);
    sites_windows_finish(a, &first.windows, NULL, NULL, loss, grads);
    arena_release(ws, mark);
    return STATUS_OK;
}
