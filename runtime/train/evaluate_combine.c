/* The model and the nearest pair together: see evaluate_combine.h. */
#include "runtime/train/evaluate_combine.h"

#include <math.h>
#include <stdlib.h>

static const double model_weights[] = {0.25, 0.4, 0.55, 0.7, 0.85, 1, 1.2};
static const double pair_weights[] = {0,   0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3,
                                      0.4, 0.5,  0.6,  0.8, 1,    1.3, 1.6,  2};
#define CLASSES_MOST 64

static void combine_row(int classes, double a, double b, const double *model_logp,
                        const double *loglik, double *logp)
{
    for (int k = 0; k < classes; k++)
        logp[k] = a * model_logp[k] + b * loglik[k];
    log_softmax(logp, 1, classes);
}

void combine_fit(int64_t n, int classes, const int32_t *truth, const double *model_logp,
                 const double *loglik, double *a, double *b)
{
    double best = INFINITY, row[CLASSES_MOST];
    *a = 1;
    *b = 0;
    for (size_t i = 0; n > 0 && i < sizeof model_weights / sizeof *model_weights; i++)
        for (size_t j = 0; j < sizeof pair_weights / sizeof *pair_weights; j++) {
            double loss = 0;
            for (int64_t w = 0; w < n; w++) {
                combine_row(classes, model_weights[i], pair_weights[j], model_logp + w * classes,
                            loglik + w * classes, row);
                loss -= row[truth[w]];
            }
            if (loss < best) {
                best = loss;
                *a = model_weights[i];
                *b = pair_weights[j];
            }
        }
}

status evaluate_combine(evaluate_model *net, panel *p, comm *c, const window_set *valid,
                        const window_set *w, const double *model_logp, double *logp,
                        double *temperature, double *weight)
{
    const int classes = (int)w->d->n_labels;
    const size_t rows = (size_t)(valid->n > w->n ? valid->n : w->n) + 1;
    double *loglik = malloc(rows * (size_t)classes * sizeof *loglik);
    double *held_out = malloc(rows * (size_t)classes * sizeof *held_out);
    double a = 1, b = 0;
    status st =
        loglik && held_out
            ? STATUS_OK
            : fail(STATUS_MEMORY, "%s: no memory for %lld windows; evaluate longer contexts",
                   w->d->path, (long long)w->n);
    st = comm_agree(c, st);
    if (st == STATUS_OK && valid->n > 0) {
        TRY_GOTO(done, panel_scores(p, c, BASELINE_PAIR, valid, loglik));
        TRY_GOTO(done, evaluate_model_classes(net, valid, c, held_out));
        combine_fit(valid->n, classes, valid->label, held_out, loglik, &a, &b);
    }
    if (st == STATUS_OK)
        TRY_GOTO(done, panel_scores(p, c, BASELINE_PAIR, w, loglik));
    for (int64_t i = 0; st == STATUS_OK && i < w->n; i++)
        combine_row(classes, a, b, model_logp + i * classes, loglik + i * classes,
                    logp + i * classes);
    *temperature = 1 / a;
    *weight = b;

done:
    free(loglik);
    free(held_out);
    return st;
}
