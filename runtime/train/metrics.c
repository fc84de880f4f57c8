/* Journal lines and the progress line: see metrics.h. */
#include "runtime/train/metrics.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static json_t *number(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

json_t *metrics_line(const report *r, double time)
{
    const bool train = r->kind == REPORT_STEP;
    json_t *o = json_object();
    if (!o)
        return NULL;
    int bad = 0;
    bad |= json_object_set_new(o, "step", json_integer(r->step));
    bad |= json_object_set_new(o, "stage", json_integer(r->stage));
    bad |= json_object_set_new(o, "split", json_string(train ? "train" : "valid"));
    bad |= json_object_set_new(o, "seq_len", json_integer(r->seq_len));
    bad |= json_object_set_new(o, "tokens", json_integer(r->tokens));
    bad |= json_object_set_new(o, "loss", number(r->loss));
    bad |= json_object_set_new(o, "perplexity", number(exp(r->loss)));
    bad |= json_object_set_new(o, "lr", number(r->lr));
    bad |= json_object_set_new(o, "grad_norm", train ? number(r->grad_norm) : json_null());
    bad |= json_object_set_new(o, "clipped", train ? json_boolean(r->clipped) : json_null());
    if (r->skipped)
        bad |= json_object_set_new(o, "skipped", json_true());
    bad |= json_object_set_new(o, "tokens_per_s", number(r->tokens_per_s));
    bad |= json_object_set_new(o, "step_ms", number(r->step_ms));
    bad |= json_object_set_new(o, "wait_ms", number(r->wait_ms));
    if (r->sum_ms > 0) /* measured, on GPUs only */
        bad |= json_object_set_new(o, "sum_ms", json_real(r->sum_ms));
    bad |= json_object_set_new(o, "fraction_gemm", number(r->fraction_gemm));
    bad |= json_object_set_new(o, "fraction_bandwidth", number(r->fraction_bandwidth));
    bad |= json_object_set_new(o, "memory_bytes", json_integer(r->memory_bytes));
    if (!train)
        bad |= json_object_set_new(o, "windows", json_integer(r->windows));
    if (isfinite(r->lookup))
        bad |= json_object_set_new(o, "lookup_perplexity", json_real(r->lookup));
    if (isfinite(r->accuracy))
        bad |= json_object_set_new(o, "accuracy", json_real(r->accuracy));
    bad |= json_object_set_new(o, "time", json_real(time));
    if (bad) {
        json_decref(o);
        return NULL;
    }
    return o;
}

json_t *event_line(const report *r, int rank, double time)
{
    return json_pack("{s:f, s:i, s:s, s:I, s:s, s:s}", "time", time, "rank", rank, "host", r->host,
                     "step", (json_int_t)r->step, "event", r->event, "detail", r->detail);
}

/* Behind what is there, as far as there is room. */
__attribute__((format(printf, 3, 4))) static void add(char *text, size_t size, const char *format,
                                                      ...)
{
    const size_t n = strlen(text);
    va_list args;
    va_start(args, format);
    vsnprintf(text + n, size - n, format, args);
    va_end(args);
}

/* With so many decimals; what has blown up, short: 1e300 has 301 digits. */
static const char *shown(double x, int decimals, char room[48])
{
    snprintf(room, 48, fabs(x) < 1e6 ? "%.*f" : "%.*g", fabs(x) < 1e6 ? decimals : 3, x);
    return room;
}

void metrics_tail(const report *step, const report *valid, char *text, size_t size)
{
    char a[48];
    text[0] = '\0';
    add(text, size, "loss %s", shown(step->loss, 3, a));
    if (isfinite(step->accuracy))
        add(text, size, "  acc %.1f%%", 100 * step->accuracy);
    else if (!step->classifies)
        add(text, size, "  ppl %s", shown(exp(step->loss), 2, a));
    if (valid && isfinite(valid->accuracy))
        add(text, size, " (held out %.1f%%, n = %lld)", 100 * valid->accuracy,
            (long long)valid->windows);
    else if (isfinite(step->lookup))
        add(text, size, " (lookup %s)", shown(step->lookup, 2, a));
    const bool many = step->tokens_per_s >= 1000;
    add(text, size, "  lr %.1e  |g| %.2g  %s%s tok/s", step->lr, step->grad_norm,
        shown(many ? step->tokens_per_s / 1000 : step->tokens_per_s, many, a), many ? "k" : "");
    const double floor = step->fraction_gemm + step->fraction_bandwidth;
    if (isfinite(floor))
        add(text, size, "  %s%% of floor", shown(100 * floor, 0, a));
    add(text, size, "  %.1f GiB", (double)step->memory_bytes / (1 << 30));
}
