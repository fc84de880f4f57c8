/* Logistic regression on word frequencies: see baseline_kmer.h. Features are scaled by the training
 * windows; whole-batch accelerated gradient (Nesterov) with the step that the largest eigenvalue
 * allows, from the strongest penalty to the weakest, each beginning where the last ended. */
#include "runtime/train/baseline_kmer.h"

#include "runtime/train/statistics.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define WIDTH (KMERS + 1) /* the last one is the intercept */
#define ROUNDS 200
#define POWER_ROUNDS 20
#define PENALTIES 4
static const double penalties[PENALTIES] = {1e-1, 1e-2, 1e-3, 1e-4};

void kmer_frequencies(const uint8_t *ids, int64_t n, float x[KMERS])
{
    int64_t words = 0;
    unsigned word = 0;
    int run = 0; /* known bases behind each other */
    memset(x, 0, KMERS * sizeof *x);
    for (int64_t t = 0; t < n; t++) {
        const bool known = ids[t] >= 7 && ids[t] <= 10;
        run = known ? run + 1 : 0;
        word = (word << 2 | (unsigned)(known ? ids[t] - 7 : 0)) & (KMERS - 1);
        if (run >= KMER) {
            x[word]++;
            words++;
        }
    }
    for (int k = 0; k < KMERS && words > 0; k++)
        x[k] /= (float)words;
}

typedef struct {
    const kmer_rows *rows;
    int classes, threads;
    float mean[KMERS], scale[KMERS];
} problem;

static void scale_make(problem *p)
{
    const kmer_rows *r = p->rows;
    for (int k = 0; k < KMERS; k++) {
        double sum = 0, squares = 0;
        for (int64_t i = 0; i < r->n; i++)
            sum += r->x[i * KMERS + k];
        const double mean = sum / (double)r->n;
        for (int64_t i = 0; i < r->n; i++)
            squares += (r->x[i * KMERS + k] - mean) * (r->x[i * KMERS + k] - mean);
        const double sd = sqrt(squares / (double)r->n);
        p->mean[k] = (float)mean;
        p->scale[k] = sd > 0 ? (float)(1 / sd) : 0;
    }
}

static void scale_apply(const problem *p, const kmer_rows *r)
{
    for (int64_t i = 0; i < r->n; i++)
        for (int k = 0; k < KMERS; k++)
            r->x[i * KMERS + k] = (r->x[i * KMERS + k] - p->mean[k]) * p->scale[k];
}

/* Scores of a window: w (classes, WIDTH). */
static void scores_of(const double *w, int classes, const float *x, double *z)
{
    for (int c = 0; c < classes; c++) {
        double sum = w[c * WIDTH + KMERS];
        for (int k = 0; k < KMERS; k++)
            sum += w[c * WIDTH + k] * x[k];
        z[c] = sum;
    }
}

/* Gradient of the mean loss and the penalty; rows one after the other: the same for any threads. */
static void gradient(const problem *p, const double *w, double l2, double *z, double *g)
{
    const kmer_rows *r = p->rows;
    for (int i = 0; i < p->classes * WIDTH; i++)
        g[i] = i % WIDTH == KMERS ? 0 : l2 * w[i];
    for (int64_t i = 0; i < r->n; i++) {
        const float *x = r->x + i * KMERS;
        scores_of(w, p->classes, x, z);
        log_softmax(z, 1, p->classes);
        for (int c = 0; c < p->classes; c++) {
            const double d = (exp(z[c]) - (c == r->label[i])) / (double)r->n;
            for (int k = 0; k < KMERS; k++)
                g[c * WIDTH + k] += d * x[k];
            g[c * WIDTH + KMERS] += d;
        }
    }
}

/* The largest eigenvalue of X'X / n (with the intercept's one), by powers. */
static double curvature(const problem *p, double *v, double *u)
{
    const kmer_rows *r = p->rows;
    double value = 1;
    for (int k = 0; k < WIDTH; k++)
        v[k] = 1 / sqrt(WIDTH);
    for (int round = 0; round < POWER_ROUNDS; round++) {
        memset(u, 0, WIDTH * sizeof *u);
        for (int64_t i = 0; i < r->n; i++) {
            const float *x = r->x + i * KMERS;
            double dot = v[KMERS];
            for (int k = 0; k < KMERS; k++)
                dot += v[k] * x[k];
            dot /= (double)r->n;
            for (int k = 0; k < KMERS; k++)
                u[k] += dot * x[k];
            u[KMERS] += dot;
        }
        double norm = 0;
        for (int k = 0; k < WIDTH; k++)
            norm += u[k] * u[k];
        value = sqrt(norm);
        for (int k = 0; k < WIDTH && value > 0; k++)
            v[k] = u[k] / value;
    }
    return value;
}

/* w becomes the minimum; room: three times as many numbers, and the classes'. */
static void descend(const problem *p, double l2, double step, double *w, double *room)
{
    const int n = p->classes * WIDTH;
    double *ahead = room, *before = room + n, *g = room + 2 * n, *z = room + 3 * n, t = 1;
    memcpy(ahead, w, (size_t)n * sizeof *w);
    for (int round = 0; round < ROUNDS; round++) {
        const double next = (1 + sqrt(1 + 4 * t * t)) / 2;
        memcpy(before, w, (size_t)n * sizeof *w);
        gradient(p, ahead, l2, z, g);
        for (int i = 0; i < n; i++) {
            w[i] = ahead[i] - step * g[i];
            ahead[i] = w[i] + (t - 1) / next * (w[i] - before[i]);
        }
        t = next;
    }
}

static void judge(const problem *p, const double *w, const kmer_rows *r, double *logp)
{
    for (int64_t i = 0; i < r->n; i++)
        scores_of(w, p->classes, r->x + i * KMERS, logp + i * p->classes);
    log_softmax(logp, r->n, p->classes);
}

status baseline_kmer(const kmer_rows *train, const kmer_rows *valid, const kmer_rows *test,
                     int classes, int threads, double *logp, double *l2)
{
    problem *p = calloc(1, sizeof *p);
    const size_t n = (size_t)classes * WIDTH;
    double *w = calloc(4 * n + 3 * WIDTH, sizeof *w), best = INFINITY;
    double *of_valid = malloc(((size_t)(valid->n * classes) + 1) * sizeof *of_valid);
    if (!p || !w || !of_valid || train->n == 0 || valid->n == 0) {
        free(p);
        free(w);
        free(of_valid);
        return train->n && valid->n
                   ? fail(STATUS_MEMORY, "logistic: no memory; use longer windows")
                   : fail(STATUS_DATA, "logistic: no training window; use shorter ones");
    }
    *p = (problem){.rows = train, .classes = classes, .threads = threads};
    scale_make(p);
    scale_apply(p, train);
    scale_apply(p, valid);
    scale_apply(p, test);
    const double steepest = 0.5 * curvature(p, w + n, w + n + WIDTH); /* of the softmax */
    for (int k = 0; k < PENALTIES; k++) {
        descend(p, penalties[k], 1 / (1.02 * steepest + penalties[k]), w, w + n);
        judge(p, w, valid, of_valid);
        const double loss = log_loss_of(of_valid, valid->label, valid->n, classes);
        if (loss < best) {
            best = loss;
            *l2 = penalties[k];
            judge(p, w, test, logp);
        }
    }
    free(p);
    free(w);
    free(of_valid);
    return STATUS_OK;
}
