/* The loss of the next base and its standard errors: see next_base.h. */
#include "runtime/train/next_base.h"

#include "io/sequence_draws.h"
#include "model/model.h"

#include <math.h>
#include <stdlib.h>

#define BASES (TOKEN_BASE_T - TOKEN_BASE_A + 1)

status next_base_open(int64_t windows, next_base_sums *s)
{
    *s = (next_base_sums){.n = windows};
    s->window = calloc((size_t)(windows * WINDOW_NUMBERS) + 1, sizeof *s->window);
    if (!s->window)
        return fail(STATUS_MEMORY,
                    "evaluate: no memory for the losses of %lld windows; evaluate "
                    "longer contexts",
                    (long long)windows);
    return STATUS_OK;
}

void next_base_close(next_base_sums *s)
{
    free(s->window);
    *s = (next_base_sums){0};
}

static int most_likely(const float *logits, int64_t stride)
{
    int best = 0;
    for (int b = 1; b < BASES; b++)
        if (logits[b * stride] > logits[best * stride])
            best = b;
    return best;
}

void next_base_add(next_base_sums *s, int64_t i, const uint8_t *targets, const float *loss,
                   const float *logits, int64_t stride, int64_t n)
{
    double *window = s->window + i * WINDOW_NUMBERS;
    int64_t from = 0;
    for (int k = 0; k < SEEN_BINS && from < n; k++) {
        double sum = 0, count = 0, hits = 0;
        const int64_t end = ((int64_t)2 << k) - 1; /* place t is predicted from t + 1 bases */
        int64_t t = from;
        for (; t < end && t < n; t++) {
            if (targets[t] == TARGET_NONE)
                continue;
            sum += (double)loss[t];
            count++;
            hits += most_likely(logits + t, stride) == targets[t] - TOKEN_BASE_A;
        }
        from = t;
        s->seen[k][SEEN_LOSS] += sum;
        s->seen[k][SEEN_TARGETS] += count;
        s->seen[k][SEEN_HITS] += hits;
        s->seen[k][SEEN_LOSS2] += sum * sum;
        s->seen[k][SEEN_PRODUCT] += sum * count;
        s->seen[k][SEEN_TARGETS2] += count * count;
        window[OF_LOSS] += sum;
        window[OF_TARGETS] += count;
        window[OF_HITS] += hits;
    }
}

/* Standard error of the ratio of two sums over `groups` groups, from the sums of the groups' own
 * squares and products. */
static double ratio_error(double top, double bottom, double top2, double product, double bottom2,
                          int64_t groups)
{
    if (groups < 2 || bottom <= 0)
        return NAN;
    const double ratio = top / bottom;
    const double square = top2 - 2 * ratio * product + ratio * ratio * bottom2;
    return sqrt(fmax(square, 0) * (double)groups / (double)(groups - 1)) / bottom;
}

static void seen_result(const next_base_sums *s, int64_t windows, next_base_result *out)
{
    for (int k = 0; k < SEEN_BINS; k++) {
        const double *of = s->seen[k], targets = of[SEEN_TARGETS];
        out->seen[k].targets = (int64_t)targets;
        out->seen[k].loss = out->seen[k].accuracy = NAN;
        if (targets > 0) {
            out->seen[k].loss = of[SEEN_LOSS] / targets;
            out->seen[k].accuracy = of[SEEN_HITS] / targets;
            out->n_seen = k + 1;
        }
        out->seen[k].se_windows = ratio_error(of[SEEN_LOSS], targets, of[SEEN_LOSS2],
                                              of[SEEN_PRODUCT], of[SEEN_TARGETS2], windows);
    }
}

/* Groups of windows by number; `of` (n_groups, 2) is room that is zero. */
static double group_error(const next_base_sums *s, const int32_t *group, int64_t n_groups,
                          double *of, int64_t *groups)
{
    double top = 0, bottom = 0, top2 = 0, product = 0, bottom2 = 0;
    for (int64_t i = 0; i < s->n; i++) {
        const int64_t g = group ? group[i] : i;
        of[2 * g] += s->window[i * WINDOW_NUMBERS + OF_LOSS];
        of[2 * g + 1] += s->window[i * WINDOW_NUMBERS + OF_TARGETS];
    }
    *groups = 0;
    for (int64_t g = 0; g < n_groups; g++) {
        top += of[2 * g];
        bottom += of[2 * g + 1];
        top2 += of[2 * g] * of[2 * g];
        product += of[2 * g] * of[2 * g + 1];
        bottom2 += of[2 * g + 1] * of[2 * g + 1];
        *groups += of[2 * g + 1] > 0;
    }
    return ratio_error(top, bottom, top2, product, bottom2, *groups);
}

status next_base_result_of(const next_base_sums *s, const int32_t *block, int64_t n_blocks,
                           next_base_result *out)
{
    double loss = 0, targets = 0, hits = 0;
    double *room = calloc((size_t)(2 * (s->n + n_blocks)) + 1, sizeof *room);
    *out = (next_base_result){.loss = NAN, .accuracy = NAN};
    if (!room)
        return fail(STATUS_MEMORY, "evaluate: no memory for sums; evaluate longer contexts");
    for (int64_t i = 0; i < s->n; i++) {
        loss += s->window[i * WINDOW_NUMBERS + OF_LOSS];
        targets += s->window[i * WINDOW_NUMBERS + OF_TARGETS];
        hits += s->window[i * WINDOW_NUMBERS + OF_HITS];
    }
    out->targets = (int64_t)targets;
    if (targets > 0) {
        out->loss = loss / targets;
        out->accuracy = hits / targets;
    }
    out->se_windows = group_error(s, NULL, s->n, room, &out->windows);
    out->se_blocks = group_error(s, block, n_blocks, room + 2 * s->n, &out->blocks);
    seen_result(s, out->windows, out);
    free(room);
    return STATUS_OK;
}
