/* ranks: 1
 * The sites of a batch's spans against a plain walk over the data set: stretches without a call,
 * two alternate alleles at a site, both alleles and haplotypes, windows that are shorter than the
 * batch, none at all, micro-batches, sequences that are filled anew. */
#include "runtime/train/feed.h"
#include "tests/must.h"
#include "tests/small_dataset.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define L 40

static draws *draws_of(const dataset *d, alleles_kind alleles)
{
    config_data c = {.alleles = alleles, .unphased = UNPHASED_DROP, .max_gap = 200000};
    draws *x = NULL;
    must(draws_open(d, &c, 1, &x));
    return x;
}

static bool is_missing(const dataset *d, const window *w, int32_t at)
{
    const int64_t run = (int64_t)w->person * d->n_chromosomes + w->chromosome;
    for (int64_t m = d->missing_run_of[run]; m < d->missing_run_of[run + 1]; m++)
        if (at >= d->missing[m].first && at < d->missing[m].first + d->missing[m].count)
            return true;
    return false;
}

/* Tokens of a window at a site, by asking every entry of it. */
static int tokens_at(const dataset *d, const draws *x, const window *w, int32_t at, int *first)
{
    int n = 0;
    for (int64_t i = 0; i < w->count; i++)
        if (d->entries[draws_entry(x, w->first + i)].site == at) {
            if (n == 0)
                *first = (int)i;
            n++;
        }
    return n;
}

/* What the sequences of the tests had among them: every case must have been met. */
typedef struct {
    int64_t absent, left_out, doubled;
} met;

static void is_span(const dataset *d, const draws *x, const window *w, const span_sites *s,
                    int64_t b, met *m)
{
    int64_t n = s->start[b];
    int before = -1, first = -1;
    for (int32_t at = 0; at < d->n_sites && w->count > 0; at++) {
        const int here = tokens_at(d, x, w, at, &first);
        const int32_t last = d->entries[draws_entry(x, w->first + w->count - 1)].site;
        if ((here == 0 && before < 0) || at > last)
            continue;
        if (here == 0 && is_missing(d, w, at)) {
            m->left_out++;
            continue;
        }
        assert_true(n < s->start[b + 1]);
        assert_int_equal(s->site[n], at);
        assert_int_equal(s->token[n], before);
        assert_int_equal(s->carried[n], here > 0);
        if (here > 0) {
            assert_int_equal(first, before + 1); /* its token is the next one */
            before += here;
        }
        m->absent += here == 0;
        m->doubled += here == 2;
        n++;
    }
    assert_int_equal(n, s->start[b + 1]);
}

static void against_a_walk(void **state)
{
    const dataset *d = &((small_dataset *)*state)->d;
    met m = {0};
    for (int alleles = ALLELES_UNION; alleles <= ALLELES_HAPLOTYPE; alleles++) {
        draws *x = draws_of(d, (alleles_kind)alleles);
        feed f = {0};
        must(feed_open(50, L, true, &f));
        for (int round = 0; round < 6; round++) {
            window w[50];
            f.n = 50;
            for (int i = 0; i < 50; i++) {
                const int64_t length = i % 5 == 4 ? 0 : 1 + (i * 7 + round * 11) % L;
                w[i] = draws_train(x, round, i, length);
                must(feed_fill(&f, i, d, x, &w[i], false));
            }
            for (int from = 0; from < 50; from += 20) {
                const int n = from + 20 < 50 ? 20 : 50 - from;
                const batch b = feed_slice(&f, from, n, false);
                for (int i = 0; i < n; i++) {
                    assert_int_equal(b.count[i], w[from + i].count);
                    is_span(d, x, &w[from + i], &b.span, i, &m);
                }
            }
        }
        feed_close(&f);
        draws_close(&x);
    }
    assert_true(m.absent > 1000 && m.left_out > 100 && m.doubled > 20);
}

/* Pads behind a short sequence; targets only where a token follows. */
static void short_sequences_are_padded(void **state)
{
    const dataset *d = &((small_dataset *)*state)->d;
    draws *x = draws_of(d, ALLELES_UNION);
    feed f = {0};
    must(feed_open(3, L, false, &f));
    const int64_t lengths[] = {L, 7, 0};
    for (int i = 0; i < 3; i++) {
        memset(f.ids + i * f.Lp, 99, (size_t)f.Lp); /* what stood there must go */
        const window w = draws_train(x, 0, i, lengths[i]);
        must(feed_fill(&f, i, d, x, &w, false));
    }
    const batch b = feed_slice(&f, 0, 3, false);
    assert_null(b.span.start);
    for (int i = 0; i < 3; i++)
        for (int64_t t = 0; t < f.Lp; t++) {
            const int64_t at = i * f.Lp + t;
            const bool token = t < lengths[i];
            assert_int_equal(b.ids[at] == TOKEN_PAD, !token);
            assert_int_equal(b.position[at] == 0, !token);
            assert_int_equal(b.site[at] == -1, !token);
            if (t + 1 < lengths[i])
                assert_int_equal(b.targets[at], b.ids[at + 1]);
            else
                assert_int_equal(b.targets[at], TARGET_NONE);
        }
    assert_int_equal(f.predicted, L - 1 + 6);
    feed_close(&f);
    draws_close(&x);
}

int main(void)
{
    small_dataset *s = small_dataset_make();
    struct CMUnitTest tests[] = {
        cmocka_unit_test(against_a_walk),
        cmocka_unit_test(short_sequences_are_padded),
    };
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        tests[i].initial_state = s;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(s);
    return failed;
}
