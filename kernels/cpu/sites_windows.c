/* sites, window by window: what the threads' tiles summed becomes class logits, the loss, and the
 * factors of the backward pass. All of it in double: a window's log-likelihood is a sum of hundreds
 * of terms. */
#include "kernels/cpu/sites.h"
#include "kernels/cpu/vmath.h"

#define EVIDENCE_SHARE 0.125 /* kernels/ops.h: e is a sum over tokens / 8 */

sites_windows sites_windows_carve(carve *c, const sites_args *a, bool backward)
{
    const int64_t B = a->s.B, real = (int64_t)sizeof(double);
    sites_windows w = {0};
    w.w = carve_bytes(c, B * a->classes * real);
    w.outside = carve_bytes(c, B * real);
    w.hidden = carve_bytes(c, B * a->H * real);
    w.carried = carve_bytes(c, B * (int64_t)sizeof *w.carried);
    w.dw = backward ? carve_floats(c, B * a->classes) : NULL;
    w.dhidden = backward ? carve_floats(c, B * a->H) : NULL;
    return w;
}

void sites_windows_clear(const sites_args *a, const sites_windows *w)
{
    const size_t B = (size_t)a->s.B;
    memset(w->w, 0, B * (size_t)a->classes * sizeof *w->w);
    memset(w->outside, 0, B * sizeof *w->outside);
    memset(w->hidden, 0, B * (size_t)a->H * sizeof *w->hidden);
    memset(w->carried, 0, B * sizeof *w->carried);
}

void sites_windows_add(const sites_args *a, const sites_windows *total, const sites_windows *own)
{
    for (int64_t i = 0; i < a->s.B * a->classes; i++)
        total->w[i] += own->w[i];
    for (int64_t i = 0; i < a->s.B * a->H; i++)
        total->hidden[i] += own->hidden[i];
    for (int64_t b = 0; b < a->s.B; b++) {
        total->outside[b] += own->outside[b];
        total->carried[b] += own->carried[b];
    }
}

static void class_logits_of(const sites_args *a, const sites_windows *w, int64_t b, double *logits)
{
    const double scale = a->scale ? (double)*a->scale : 1.0;
    const double *hidden = w->hidden + b * a->H;
    for (int64_t k = 0; k < a->classes; k++) {
        double e = a->H > 0 ? (double)sites_count(a, b) * (double)a->eo[k] : 0.0;
        for (int64_t i = 0; i < a->H; i++)
            e += (double)a->Eo[k * a->H + i] * hidden[i];
        logits[k] = scale * w->w[b * a->classes + k] + EVIDENCE_SHARE * e;
    }
}

/* Logits become softmax - one_hot(label); returns the cross entropy. */
static double softmax_loss(int64_t classes, int64_t label, double *logits)
{
    double top = logits[0], sum = 0;
    for (int64_t k = 1; k < classes; k++)
        top = logits[k] > top ? logits[k] : top;
    const double of_label = logits[label];
    for (int64_t k = 0; k < classes; k++)
        sum += logits[k] = exp(logits[k] - top);
    for (int64_t k = 0; k < classes; k++)
        logits[k] = logits[k] / sum - (k == label);
    return log(sum) + (top - of_label);
}

/* site_weight / sites of the window. */
static double site_share(const sites_args *a, int64_t b)
{
    const int64_t n = a->start[b + 1] - a->start[b];
    return n > 0 ? a->site_weight / (double)n : 0.0;
}

void sites_windows_gradients(const sites_args *a, const sites_windows *w, int64_t b0, int64_t b1)
{
    const double scale = a->scale ? (double)*a->scale : 1.0;
    double g[SITES_CLASSES];
    for (int64_t b = b0; b < b1; b++) {
        const int64_t label = a->labels ? a->labels[b] : -1;
        float *dw = w->dw + b * a->classes, *dhidden = w->dhidden + b * a->H;
        memset(dw, 0, (size_t)a->classes * sizeof *dw);
        memset(dhidden, 0, (size_t)a->H * sizeof *dhidden);
        if (!a->labels)
            dw[0] = -1.0f;
        if (label < 0)
            continue;
        class_logits_of(a, w, b, g);
        softmax_loss(a->classes, label, g);
        for (int64_t k = 0; k < a->classes; k++)
            dw[k] = (float)(scale * g[k] - (k == label ? site_share(a, b) : 0.0));
        for (int64_t i = 0; i < a->H; i++) {
            double sum = 0;
            for (int64_t k = 0; k < a->classes; k++)
                sum += g[k] * (double)a->Eo[k * a->H + i];
            dhidden[i] = (float)(EVIDENCE_SHARE * sum);
        }
    }
}

/* dEo, deo and dscale of one window; g: gradient of its class logits. */
static void evidence_parameters(const sites_args *a, const sites_windows *w, int64_t b,
                                const double *g, const sites_grads *grads)
{
    const double *hidden = w->hidden + b * a->H;
    double dscale = 0;
    for (int64_t k = 0; k < a->classes; k++) {
        dscale += g[k] * w->w[b * a->classes + k];
        if (a->H == 0)
            continue;
        const double e = EVIDENCE_SHARE * g[k];
        for (int64_t i = 0; i < a->H; i++)
            grads->Eo[k * a->H + i] += (float)(e * hidden[i]);
        grads->eo[k] += (float)(e * (double)sites_count(a, b));
    }
    if (a->scale)
        *grads->scale += (float)dscale;
}

void sites_windows_finish(const sites_args *a, const sites_windows *w, float *class_logits,
                          double *sequence_nll, loss_sum *loss, const sites_grads *grads)
{
    loss_sum total = {0};
    double g[SITES_CLASSES];
    for (int64_t b = 0; b < a->s.B; b++) {
        const int64_t label = a->labels ? a->labels[b] : -1;
        const double *own = w->w + b * a->classes;
        const double nll = a->labels ? -own[label < 0 ? 0 : label] : w->outside[b] - own[0];
        class_logits_of(a, w, b, g);
        for (int64_t k = 0; class_logits && k < a->classes; k++)
            class_logits[b * a->classes + k] = (float)g[k];
        if (sequence_nll)
            sequence_nll[b] = nll;
        if (!a->labels) {
            total.sum += nll;
            total.count += w->carried[b];
        }
        if (label < 0)
            continue;
        total.sum += softmax_loss(a->classes, label, g) + site_share(a, b) * nll;
        total.count++;
        if (grads)
            evidence_parameters(a, w, b, g, grads);
    }
    if (loss)
        *loss = total;
}
