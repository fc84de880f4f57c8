/* Bootstrap, calibration and confusion: see statistics.h. Everything here is serial and in a fixed
 * order, so that a number is the same on any rank and any number of threads. */
#include "runtime/train/statistics.h"

#include "runtime/core/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double quantile_sorted(const double *x, int64_t n, double q)
{
    if (n <= 0)
        return NAN;
    const double at = q * (double)(n - 1);
    const int64_t below = (int64_t)at;
    if (below >= n - 1)
        return x[n - 1];
    return x[below] + (at - (double)below) * (x[below + 1] - x[below]);
}

double quantile(double *x, int64_t n, double q)
{
    if (n > 0)
        qsort(x, (size_t)n, sizeof *x, ascending);
    return quantile_sorted(x, n, q);
}

status bootstrap_ratio(const double *top, const double *bottom, int64_t groups, int64_t rounds,
                       uint64_t seed, resample_kind kind, interval *out)
{
    *out = (interval){NAN, NAN};
    int64_t n = 0;
    int64_t *kept = malloc((size_t)(groups + 1) * sizeof *kept);
    double *value = malloc((size_t)(rounds + 1) * sizeof *value);
    status st = STATUS_OK;
    if (!kept || !value) {
        st = fail(STATUS_MEMORY,
                  "bootstrap: no memory for %lld rounds; ask for fewer with --bootstrap",
                  (long long)rounds);
        goto done;
    }
    for (int64_t g = 0; g < groups; g++)
        if (bottom[g] > 0)
            kept[n++] = g;
    if (n < 2 || rounds <= 0) /* one group drawn again and again is no interval */
        goto done;

    for (int64_t r = 0; r < rounds; r++) {
        rng stream = rng_at(seed, RNG_BOOTSTRAP, (uint64_t)r, (uint32_t)kind);
        double above = 0, below = 0;
        for (int64_t k = 0; k < n; k++) {
            const int64_t g = kept[rng_below(&stream, (uint64_t)n)];
            above += top[g];
            below += bottom[g];
        }
        value[r] = above / below;
    }
    out->low = quantile(value, rounds, 0.025);
    out->high = quantile_sorted(value, rounds, 0.975);

done:
    free(kept);
    free(value);
    return st;
}

void log_softmax(double *logp, int64_t n, int classes)
{
    for (int64_t i = 0; i < n; i++) {
        double *row = logp + i * classes;
        double largest = row[0], sum = 0;
        for (int c = 1; c < classes; c++)
            largest = fmax(largest, row[c]);
        for (int c = 0; c < classes; c++)
            sum += exp(row[c] - largest);
        const double norm = largest + log(sum);
        for (int c = 0; c < classes; c++)
            row[c] -= norm;
    }
}

int best_class(const double *logp, int classes)
{
    int best = 0;
    for (int c = 1; c < classes; c++)
        if (logp[c] > logp[best])
            best = c;
    return best;
}

void confusion_count(const int32_t *truth, const int32_t *predicted, int64_t n, int classes,
                     int64_t *counts)
{
    memset(counts, 0, (size_t)classes * (size_t)classes * sizeof *counts);
    for (int64_t i = 0; i < n; i++)
        counts[(int64_t)truth[i] * classes + predicted[i]]++;
}

double accuracy_of(const int64_t *confusion, int classes)
{
    int64_t hits = 0, n = 0;
    for (int t = 0; t < classes; t++)
        for (int p = 0; p < classes; p++) {
            n += confusion[t * classes + p];
            hits += t == p ? confusion[t * classes + p] : 0;
        }
    return n ? (double)hits / (double)n : NAN;
}

double balanced_accuracy_of(const int64_t *confusion, int classes)
{
    double sum = 0;
    int present = 0;
    for (int t = 0; t < classes; t++) {
        int64_t n = 0;
        for (int p = 0; p < classes; p++)
            n += confusion[t * classes + p];
        if (n == 0)
            continue;
        sum += (double)confusion[t * classes + t] / (double)n;
        present++;
    }
    return present ? sum / present : NAN;
}

double log_loss_of(const double *logp, const int32_t *truth, int64_t n, int classes)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum -= logp[i * classes + truth[i]];
    return n ? sum / (double)n : NAN;
}

double golden_minimum(double (*f)(void *of, double at), void *of, double low, double high,
                      double tolerance)
{
    const double golden = 0.6180339887498949, end = low, at_end = f(of, low);
    double a = high - golden * (high - low), b = low + golden * (high - low);
    double at_a = f(of, a), at_b = f(of, b);
    while (high - low > tolerance) {
        if (at_a <= at_b) {
            high = b;
            b = a;
            at_b = at_a;
            a = high - golden * (high - low);
            at_a = f(of, a);
        } else {
            low = a;
            a = b;
            at_a = at_b;
            b = low + golden * (high - low);
            at_b = f(of, b);
        }
    }
    const double middle = (low + high) / 2;
    return at_end <= f(of, middle) + 1e-9 ? end : middle;
}

struct scaled {
    const double *scores;
    const int32_t *truth;
    int64_t n;
    int classes;
    double *room;
};

static double loss_scaled(void *of, double log_scale)
{
    const struct scaled *s = of;
    const double scale = exp(log_scale);
    for (int64_t k = 0; k < s->n * s->classes; k++)
        s->room[k] = s->scores[k] * scale;
    log_softmax(s->room, s->n, s->classes);
    return log_loss_of(s->room, s->truth, s->n, s->classes);
}

double temperature_fit(const double *scores, const int32_t *truth, int64_t n, int classes,
                       double *room)
{
    struct scaled s = {scores, truth, n, classes, room};
    return exp(
        -golden_minimum(loss_scaled, &s, -log(TEMPERATURE_MOST), -log(TEMPERATURE_LEAST), 1e-3));
}

void calibration_bins(const double *logp, const int32_t *truth, int64_t n, int classes, int bins,
                      int64_t *count, int64_t *hits, double *confidence)
{
    memset(count, 0, (size_t)bins * sizeof *count);
    memset(hits, 0, (size_t)bins * sizeof *hits);
    memset(confidence, 0, (size_t)bins * sizeof *confidence);
    for (int64_t i = 0; i < n; i++) {
        const double *row = logp + i * classes;
        const int best = best_class(row, classes);
        const double p = exp(row[best]);
        /* Bins are open below and closed above, ((b - 1) / bins, b / bins], as in the paper. */
        int b = (int)ceil(p * bins) - 1;
        b = b < 0 ? 0 : b >= bins ? bins - 1 : b;
        count[b]++;
        hits[b] += best == truth[i];
        confidence[b] += p;
    }
}

double ece_of(const double *logp, const int32_t *truth, int64_t n, int classes, int bins)
{
    int64_t count[64], hits[64];
    double confidence[64], sum = 0;
    if (n == 0 || bins < 1 || bins > 64)
        return NAN;
    calibration_bins(logp, truth, n, classes, bins, count, hits, confidence);
    for (int b = 0; b < bins; b++)
        sum += fabs((double)hits[b] - confidence[b]);
    return sum / (double)n;
}
