/* Multinomial logistic regression on site indicators, the bar that a model must pass. Windows lie
 * within one block of sites, so that with an intercept for each block the problem falls into one
 * small problem a block: blocks and penalties are fitted in parallel, each alone and in a fixed
 * order, and the result depends on no rank or thread. */
#include "runtime/train/baseline.h"

#include "runtime/core/rng.h"
#include "runtime/train/statistics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CLASSES 64
#define N_PENALTIES 5
/* Of the mean loss over all training windows. Smaller ones change nothing after this many epochs.
 */
static const double penalties[N_PENALTIES] = {1e-7, 1e-6, 1e-5, 1e-4, 1e-3};

#define STEP                                                                                       \
    4.0 /* times 1 / features of a row: best valid accuracy among 2, 4, 8 at 128 to 1024 SNPs */
#define MIN_EPOCHS 12 /* converged at 270,000 windows of 128 SNPs */
#define MAX_EPOCHS 40 /* 14,000 windows of 1024 SNPs still gain */
#define TARGET_UPDATES 2e6

/* Order of the rows in an epoch (Fisher and Yates). */
static void shuffle(int32_t *order, int64_t n, const sgd_options *o, int epoch)
{
    rng stream = rng_at(o->seed, RNG_BASELINE, o->stream, (uint32_t)epoch);
    for (int64_t i = n - 1; i > 0; i--) {
        const int64_t j = (int64_t)rng_below(&stream, (uint64_t)i + 1);
        const int32_t swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
}

/* Softmax of the scores in place; returns nothing else: the loss is not needed for a step. */
static void probabilities(double *score, int classes)
{
    double largest = score[0], sum = 0;
    for (int c = 1; c < classes; c++)
        largest = fmax(largest, score[c]);
    for (int c = 0; c < classes; c++)
        sum += score[c] = exp(score[c] - largest);
    for (int c = 0; c < classes; c++)
        score[c] /= sum;
}

/* The iterates' average costs nothing extra: with weights w_t = s_t v_t (s_t the decay so far) and
 * v_t = v_{t-1} + d_t, sum_t w_t = A_T v_T - sum_t A_{t-1} d_t,   A_t = sum_{i <= t} s_i, so that
 * only the touched features keep a second sum (Polyak and Juditsky's averaging; the bookkeeping as
 * in Bottou's and Xu's averaged SGD). The first epoch is not averaged. */
typedef struct {
    double *row;   /* (features + 1, 2, width): v, then z; up to four classes are one cache line a
                      feature */
    int width;     /* classes, rounded up to 4: the pad stays zero */
    double rate;   /* the same for every row: rows of unequal length must weigh the same */
    double shrink; /* of the weights in one step */
    double scale;  /* s_t */
    double area;   /* A_t */
    int64_t averaged;
} averaged_weights;

/* Always inlined, so that `width` is a constant in the usual case of at most four classes. */
static inline __attribute__((always_inline)) void sgd_step_of(averaged_weights *a, int classes,
                                                              int width, const int32_t *feature,
                                                              int64_t n, int64_t intercept,
                                                              int32_t label)
{
    double g[MAX_CLASSES], dz[MAX_CLASSES];
    for (int c = 0; c < width; c++)
        g[c] = a->row[intercept * 2 * width + c];
    for (int64_t j = 0; j < n; j++) {
        const double *v = a->row + (int64_t)feature[j] * 2 * width;
        for (int c = 0; c < width; c++)
            g[c] += v[c];
    }
    for (int c = 0; c < width; c++)
        g[c] *= a->scale;
    probabilities(g, classes);

    a->scale *= 1 - a->shrink;
    for (int c = 0; c < width; c++) {
        g[c] = c < classes ? -(a->rate / a->scale) * (g[c] - (c == label)) : 0;
        dz[c] = a->area * g[c];
    }
    for (int64_t j = 0; j <= n; j++) {
        double *v = a->row + (j < n ? feature[j] : intercept) * 2 * width;
        for (int c = 0; c < width; c++) {
            v[c] += g[c];
            v[width + c] -= dz[c];
        }
    }
}

static void sgd_step(averaged_weights *a, int classes, const int32_t *feature, int64_t n,
                     int64_t intercept, int32_t label)
{
    if (a->width == 4)
        sgd_step_of(a, classes, 4, feature, n, intercept, label);
    else
        sgd_step_of(a, classes, a->width, feature, n, intercept, label);
}

/* Folds the decay into the weights before it underflows: a large penalty over millions of steps. */
static void fold_scale(averaged_weights *a, int64_t rows)
{
    for (int64_t i = 0; i < rows; i++) {
        double *v = a->row + i * 2 * a->width, *z = v + a->width;
        /* The sum so far, area v + z, must not change while v becomes scale v and area starts anew.
         */
        for (int c = 0; c < a->width; c++) {
            z[c] += a->area * v[c];
            v[c] *= a->scale;
        }
    }
    a->area = 0;
    a->scale = 1;
}

static void one_epoch(averaged_weights *a, const sgd_options *o, const sparse_rows *rows,
                      const int32_t *order, int64_t features, bool averaging)
{
    for (int64_t i = 0; i < rows->n; i++) {
        const int64_t row = order[i], at = rows->start[row];
        sgd_step(a, o->classes, rows->feature + at, rows->start[row + 1] - at, features,
                 rows->label[row]);
        if (averaging) {
            a->area += a->scale;
            a->averaged++;
        }
        if (a->scale < 1e-6)
            fold_scale(a, features + 1);
    }
}

status logistic_fit(const sgd_options *o, const sparse_rows *rows, int64_t features, float *weights)
{
    averaged_weights a = {.scale = 1, .width = (o->classes + 3) / 4 * 4};
    int32_t *order = malloc((size_t)(rows->n + 1) * sizeof *order);
    a.row = aligned_alloc(64, (size_t)(features + 1) * 2 * (size_t)a.width * sizeof *a.row);
    status st = STATUS_OK;
    if (!order || !a.row) {
        st =
            fail(STATUS_MEMORY,
                 "logistic: no memory for weights of %lld sites; leave logistic out of --baselines",
                 (long long)features);
        goto done;
    }
    memset(a.row, 0, (size_t)(features + 1) * 2 * (size_t)a.width * sizeof *a.row);
    memset(weights, 0, (size_t)(features + 1) * (size_t)o->classes * sizeof *weights);
    if (rows->n == 0)
        goto done;
    a.rate = o->step / (1 + (double)rows->start[rows->n] / (double)rows->n);
    a.shrink = fmin(a.rate * o->l2, 0.5); /* a block of few windows has a large penalty */
    for (int64_t i = 0; i < rows->n; i++)
        order[i] = (int32_t)i;
    for (int epoch = 0; epoch < o->epochs; epoch++) {
        shuffle(order, rows->n, o, epoch);
        one_epoch(&a, o, rows, order, features, epoch > 0 || o->epochs == 1);
    }
    for (int64_t i = 0; i <= features; i++)
        for (int c = 0; c < o->classes; c++) {
            const double *v = a.row + i * 2 * a.width;
            weights[i * o->classes + c] =
                (float)((a.area * v[c] + v[a.width + c]) / (double)a.averaged);
        }

done:
    free(order);
    free(a.row);
    return st;
}

void logistic_scores(const float *weights, int64_t features, int classes, const int32_t *feature,
                     int64_t n, double *scores)
{
    for (int c = 0; c < classes; c++)
        scores[c] = weights[features * classes + c];
    for (int64_t j = 0; j < n; j++)
        for (int c = 0; c < classes; c++)
            scores[c] += weights[(int64_t)feature[j] * classes + c];
}

/* Windows of each block, by counting: member[begin[b] .. begin[b + 1]). */
typedef struct {
    int64_t *begin, *member;
} by_block;

static void by_block_free(by_block *g)
{
    free(g->begin);
    free(g->member);
}

static status by_block_open(const window_set *w, by_block *out)
{
    const int64_t blocks = w->d->n_blocks;
    out->begin = calloc((size_t)blocks + 2, sizeof *out->begin);
    out->member = malloc((size_t)(w->n + 1) * sizeof *out->member);
    if (!out->begin || !out->member) {
        by_block_free(out);
        *out = (by_block){0};
        return fail(STATUS_MEMORY, "%s: no memory for %lld windows; evaluate longer contexts",
                    w->d->path, (long long)w->n);
    }
    for (int64_t i = 0; i < w->n; i++)
        out->begin[w->block[i] + 2]++;
    for (int64_t b = 0; b < blocks; b++)
        out->begin[b + 2] += out->begin[b + 1];
    for (int64_t i = 0; i < w->n; i++)
        out->member[out->begin[w->block[i] + 1]++] = i;
    return STATUS_OK;
}

/* The windows of one block as sparse rows; features count from the block's first site. */
static status block_rows(const window_set *w, const by_block *g, int64_t b, int64_t first_site,
                         sparse_rows *out)
{
    const int64_t n = g->begin[b + 1] - g->begin[b];
    int64_t *start = malloc((size_t)(n + 1) * sizeof *start);
    int32_t *label = malloc((size_t)(n + 1) * sizeof *label);
    int32_t *feature = malloc((size_t)(n * w->context + 1) * sizeof *feature);
    *out = (sparse_rows){.n = n, .start = start, .feature = feature, .label = label};
    if (!start || !label || !feature)
        return fail(STATUS_MEMORY,
                    "%s: no memory for %lld windows of a block; evaluate shorter contexts",
                    w->d->path, (long long)n);
    start[0] = 0;
    for (int64_t k = 0; k < n; k++) {
        const int64_t i = g->member[g->begin[b] + k];
        const int64_t sites = window_sites(w, i, feature + start[k]);
        for (int64_t j = 0; j < sites; j++)
            feature[start[k] + j] -= (int32_t)first_site;
        label[k] = w->label[i];
        start[k + 1] = start[k] + sites;
    }
    return STATUS_OK;
}

static void rows_free(sparse_rows *r)
{
    free((void *)r->start);
    free((void *)r->feature);
    free((void *)r->label);
    *r = (sparse_rows){0};
}

typedef struct {
    const logistic_options *o;
    const window_set *train, *valid, *test;
    by_block in_train, in_valid, in_test;
    int64_t *block_site; /* (n_blocks + 1) first site of each block */
    int epochs;
    double *valid_scores; /* (N_PENALTIES, valid, classes) normalised log-probabilities */
    double *test_scores;  /* (N_PENALTIES, test, classes) */
} problem;

static void score_rows(const problem *p, const float *weights, int64_t features,
                       const sparse_rows *rows, const int64_t *member, double *scores)
{
    const int classes = p->o->classes;
    for (int64_t k = 0; k < rows->n; k++) {
        double *row = scores + member[k] * classes;
        const int64_t at = rows->start[k];
        logistic_scores(weights, features, classes, rows->feature + at, rows->start[k + 1] - at,
                        row);
        log_softmax(row, 1, classes);
    }
}

/* One block with one penalty. The penalty is that of the whole problem: a block with few windows is
 * held harder. */
static status fit_block(const problem *p, int64_t b, int penalty)
{
    const int classes = p->o->classes;
    const int64_t first = p->block_site[b], features = p->block_site[b + 1] - first;
    sparse_rows train = {0}, valid = {0}, test = {0};
    float *weights = malloc((size_t)((features + 1) * classes) * sizeof *weights);
    status st = STATUS_OK;
    if (!weights) {
        st = fail(STATUS_MEMORY, "logistic: no memory for %lld sites; leave it out of --baselines",
                  (long long)features);
        goto done;
    }
    TRY_GOTO(done, block_rows(p->train, &p->in_train, b, first, &train));
    TRY_GOTO(done, block_rows(p->valid, &p->in_valid, b, first, &valid));
    TRY_GOTO(done, block_rows(p->test, &p->in_test, b, first, &test));
    const double share = train.n ? (double)train.n / (double)p->train->n : 1;
    const sgd_options options = {.classes = classes,
                                 .epochs = p->epochs,
                                 .l2 = penalties[penalty] / share,
                                 .step = STEP,
                                 .seed = p->o->seed,
                                 .stream = (uint64_t)b};
    TRY_GOTO(done, logistic_fit(&options, &train, features, weights));
    score_rows(p, weights, features, &valid, p->in_valid.member + p->in_valid.begin[b],
               p->valid_scores + penalty * p->valid->n * classes);
    score_rows(p, weights, features, &test, p->in_test.member + p->in_test.begin[b],
               p->test_scores + penalty * p->test->n * classes);

done:
    rows_free(&train);
    rows_free(&valid);
    rows_free(&test);
    free(weights);
    return st;
}

/* Fits this rank's blocks; a failure of any thread is carried to this one. */
static status fit_all(const problem *p, comm *c)
{
    const int64_t blocks = p->train->d->n_blocks;
    const int64_t rank = comm_rank(c), size = comm_size(c);
    const int64_t mine = (blocks - rank + size - 1) / size;
    failure first = {.code = STATUS_OK};
#pragma omp parallel for schedule(dynamic) num_threads(p->o->threads > 0 ? p->o->threads : 1)
    for (int64_t task = 0; task < mine * N_PENALTIES; task++) {
        const int64_t b = rank + task / N_PENALTIES * size;
        if (fit_block(p, b, (int)(task % N_PENALTIES)) == STATUS_OK)
            continue;
#pragma omp critical
        if (first.code == STATUS_OK)
            first = *failure_last();
    }
    return first.code == STATUS_OK ? STATUS_OK : failure_set(&first);
}

/* Most validation windows right; the smaller log loss where two are equal. */
static int choose_penalty(const problem *p)
{
    const int classes = p->o->classes;
    const int64_t n = p->valid->n;
    int best = 2; /* without validation windows: the middle */
    int64_t best_hits = -1;
    double best_loss = 0;
    for (int k = 0; k < N_PENALTIES && n > 0; k++) {
        const double *scores = p->valid_scores + k * n * classes;
        int64_t hits = 0;
        for (int64_t i = 0; i < n; i++)
            hits += best_class(scores + i * classes, classes) == p->valid->label[i];
        const double loss = log_loss_of(scores, p->valid->label, n, classes);
        if (hits > best_hits || (hits == best_hits && loss < best_loss)) {
            best = k;
            best_hits = hits;
            best_loss = loss;
        }
    }
    return best;
}

static status problem_open(problem *p)
{
    const dataset *d = p->train->d;
    const size_t classes = (size_t)p->o->classes;
    TRY(by_block_open(p->train, &p->in_train));
    TRY(by_block_open(p->valid, &p->in_valid));
    TRY(by_block_open(p->test, &p->in_test));
    p->block_site = calloc((size_t)d->n_blocks + 1, sizeof *p->block_site);
    p->valid_scores = calloc(N_PENALTIES * classes * (size_t)p->valid->n + 1, sizeof(double));
    p->test_scores = calloc(N_PENALTIES * classes * (size_t)p->test->n + 1, sizeof(double));
    if (!p->block_site || !p->valid_scores || !p->test_scores)
        return fail(STATUS_MEMORY, "%s: no memory for %lld windows; evaluate longer contexts",
                    d->path, (long long)p->test->n);
    for (int64_t s = 0; s < d->n_sites; s++)
        p->block_site[d->block[s] + 1] = s + 1;
    const double passes = ceil(TARGET_UPDATES / (double)(p->train->n + 1));
    p->epochs = passes < MIN_EPOCHS ? MIN_EPOCHS : passes > MAX_EPOCHS ? MAX_EPOCHS : (int)passes;
    return STATUS_OK;
}

status baseline_logistic(const logistic_options *o, comm *c, const window_set *train,
                         const window_set *valid, const window_set *test, double *logp, double *l2)
{
    problem p = {.o = o, .train = train, .valid = valid, .test = test};
    if (o->classes > MAX_CLASSES)
        return fail(STATUS_USAGE,
                    "%s: logistic regression here takes at most %d classes, not %d; leave it "
                    "out of --baselines",
                    train->d->path, MAX_CLASSES, o->classes);
    status st = problem_open(&p);
    if (st == STATUS_OK)
        st = fit_all(&p, c);
    st = comm_agree(c, st);
    /* Every score is zero but on the rank that made it: sums are exact. */
    if (st == STATUS_OK)
        st = comm_sum_f64(c, p.valid_scores, N_PENALTIES * valid->n * o->classes);
    if (st == STATUS_OK)
        st = comm_sum_f64(c, p.test_scores, N_PENALTIES * test->n * o->classes);
    if (st == STATUS_OK) {
        const int best = choose_penalty(&p);
        *l2 = penalties[best];
        memcpy(logp, p.test_scores + best * test->n * o->classes,
               (size_t)(test->n * o->classes) * sizeof *logp);
    }
    by_block_free(&p.in_train);
    by_block_free(&p.in_valid);
    by_block_free(&p.in_test);
    free(p.block_site);
    free(p.valid_scores);
    free(p.test_scores);
    return st;
}
