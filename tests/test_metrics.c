/* The tail of the progress line: perplexity and look-up for a language model, held-out accuracy
 * with its n for a classifier and no exponential of its loss; numbers of any size.
 * ranks: 1 */
#include "runtime/train/metrics.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static report step_report(bool classifies)
{
    return (report){.loss = 0.5,
                    .lookup = classifies ? NAN : 1.49,
                    .accuracy = NAN,
                    .classifies = classifies,
                    .lr = 5.1e-4,
                    .grad_norm = 0.8,
                    .tokens_per_s = 41200,
                    .fraction_gemm = 0.5,
                    .fraction_bandwidth = 0.08,
                    .memory_bytes = (int64_t)1 << 30};
}

static void language_model_shows_perplexity(void **state)
{
    (void)state;
    const report r = step_report(false);
    char text[256];
    metrics_tail(&r, NULL, text, sizeof text);
    assert_string_equal(text, "loss 0.500  ppl 1.65 (lookup 1.49)  lr 5.1e-04  |g| 0.8  41.2k "
                              "tok/s  58% of floor  1.0 GiB");
}

static void classifier_shows_held_out_accuracy(void **state)
{
    (void)state;
    const report r = step_report(true);
    char text[256];
    metrics_tail(&r, NULL, text, sizeof text);
    assert_null(strstr(text, "ppl"));
    report valid = step_report(true);
    valid.accuracy = 0.9312;
    valid.windows = 2000;
    metrics_tail(&r, &valid, text, sizeof text);
    assert_non_null(strstr(text, "loss 0.500 (held out 93.1%, n = 2000)  lr"));
}

/* A run that blows up has losses of any size. */
static void any_number_fits(void **state)
{
    (void)state;
    static const double losses[] = {700, 1e30, 1e300, INFINITY, NAN};
    struct {
        char text[256], behind[512];
    } room;
    for (size_t i = 0; i < sizeof losses / sizeof *losses; i++) {
        report r = step_report(false);
        r.loss = r.lookup = r.grad_norm = r.tokens_per_s = r.fraction_gemm = losses[i];
        memset(&room, 'x', sizeof room);
        metrics_tail(&r, NULL, room.text, sizeof room.text);
        for (size_t k = 0; k < sizeof room.behind; k++)
            assert_int_equal(room.behind[k], 'x');
        assert_non_null(memchr(room.text, '\0', sizeof room.text));
        assert_true(strlen(room.text) < 160);
        assert_non_null(strstr(room.text, "1.0 GiB"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(language_model_shows_perplexity),
        cmocka_unit_test(classifier_shows_held_out_accuracy),
        cmocka_unit_test(any_number_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
