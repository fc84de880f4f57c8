/* The tail of the progress line: perplexity and look-up for a language model, held-out accuracy
 * with its n for a classifier and no exponential of its loss.
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(language_model_shows_perplexity),
        cmocka_unit_test(classifier_shows_held_out_accuracy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
