/* The model and the nearest pair together, and the model's temperature: see evaluate_combine.h. */
#include "runtime/train/evaluate_combine.h"

#include <math.h>
#include <stdlib.h>

static status no_memory(const window_set *w)
{
    return fail(STATUS_MEMORY, "%s: no memory for %lld windows; evaluate longer contexts",
                w->d->path, (long long)w->n);
}

status validation_judge(const evaluation *e, comm *c, int64_t context, validation_judged *out)
{
    *out = (validation_judged){0};
    TRY(comm_agree(c, window_set_tile(e->d, e->x, SPLIT_VALID, context, context, &out->windows)));
    out->model = malloc((size_t)(out->windows.n * e->classes + 1) * sizeof *out->model);
    TRY(comm_agree(c, out->model ? STATUS_OK : no_memory(&out->windows)));
    return evaluate_model_classes(e->model, &out->windows, c, out->model);
}

void validation_free(validation_judged *v)
{
    window_set_free(&v->windows);
    free(v->model);
    v->model = NULL;
}

status evaluate_calibrate(const validation_judged *v, const window_set *w, int classes,
                          method_result *m)
{
    const int64_t n = v->windows.n;
    if (n == 0)
        return STATUS_OK;
    double *room = malloc((size_t)((n > w->n ? n : w->n) * classes + 1) * sizeof *room);
    if (!room)
        return no_memory(w);
    const double t = temperature_fit(v->model, v->windows.label, n, classes, room);
    for (int64_t i = 0; i < w->n * classes; i++)
        room[i] = m->logp[i] / t;
    log_softmax(room, w->n, classes);
    m->calibrated.temperature = t;
    m->calibrated.log_loss = log_loss_of(room, w->label, w->n, classes);
    m->calibrated.ece = ece_of(room, w->label, w->n, classes, ECE_BINS);
    free(room);
    return STATUS_OK;
}

static void combine_row(int classes, double a, double b, const double *model_logp,
                        const double *loglik, double *logp)
{
    for (int k = 0; k < classes; k++)
        logp[k] = a * model_logp[k] + b * loglik[k];
    log_softmax(logp, 1, classes);
}

/* The log loss is convex in (a, b), so that its least over a is convex in b: one golden section
 * inside another. Nothing is drawn: every rank finds the same. */
struct fit {
    int64_t n;
    int classes;
    const int32_t *truth;
    const double *model, *pair;
    double a, b;
};

/* -log of the true class's share, in nats, a window. */
static double loss_of_a(void *of, double log_a)
{
    const struct fit *f = of;
    const double a = exp(log_a), b = f->b;
    double loss = 0;
    for (int64_t w = 0; w < f->n; w++) {
        const double *m = f->model + w * f->classes, *p = f->pair + w * f->classes;
        const double truth = a * m[f->truth[w]] + b * p[f->truth[w]];
        double largest = truth, sum = 0;
        for (int k = 0; k < f->classes; k++)
            largest = fmax(largest, a * m[k] + b * p[k]);
        for (int k = 0; k < f->classes; k++)
            sum += exp(a * m[k] + b * p[k] - largest);
        loss += largest + log(sum) - truth;
    }
    return loss / (double)f->n;
}

static double loss_of_b(void *of, double b)
{
    struct fit *f = of;
    f->b = b;
    const double log_a =
        golden_minimum(loss_of_a, f, -log(TEMPERATURE_MOST), log(COMBINE_MOST), 1e-4);
    f->a = exp(log_a);
    return loss_of_a(f, log_a);
}

void combine_fit(int64_t n, int classes, const int32_t *truth, const double *model_logp,
                 const double *loglik, double *a, double *b)
{
    struct fit f = {n, classes, truth, model_logp, loglik, 1, 0};
    if (n > 0)
        loss_of_b(&f, golden_minimum(loss_of_b, &f, 0, COMBINE_MOST, 1e-4));
    *a = f.a;
    *b = f.b;
}

status evaluate_combine(panel *p, comm *c, const validation_judged *v, const window_set *w,
                        const double *model_logp, double *logp, double *temperature, double *weight)
{
    const int classes = (int)w->d->n_labels;
    const int64_t n = v->windows.n, rows = n > w->n ? n : w->n;
    double *loglik = malloc((size_t)(rows * classes + 1) * sizeof *loglik);
    double a = 1, b = 0;
    status st = comm_agree(c, loglik ? STATUS_OK : no_memory(w));
    if (st == STATUS_OK && n > 0) {
        TRY_GOTO(done, panel_scores(p, c, BASELINE_PAIR, &v->windows, loglik));
        combine_fit(n, classes, v->windows.label, v->model, loglik, &a, &b);
    }
    if (st == STATUS_OK)
        st = panel_scores(p, c, BASELINE_PAIR, w, loglik);
    for (int64_t i = 0; st == STATUS_OK && i < w->n; i++)
        combine_row(classes, a, b, model_logp + i * classes, loglik + i * classes,
                    logp + i * classes);
    *temperature = 1 / a;
    *weight = b;

done:
    free(loglik);
    return st;
}
