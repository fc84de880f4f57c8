/* Rows of a data set and the plan as JSON: see plan_data.h. */
#include "runtime/train/plan_data.h"

#include <jansson.h>
#include <stdlib.h>

bool plan_has_rows(const config *c)
{
    return c->position.encoding == ENCODING_FPE || c->position.encoding == ENCODING_FPE_MULTI ||
           c->position.encoding == ENCODING_TABLE;
}

status plan_count_rows(const config *c, const dataset *d, int64_t *rows)
{
    *rows = 0;
    if (!plan_has_rows(c))
        return STATUS_OK;
    const bool shared = c->position.rows == ROWS_SHARED;
    int64_t longest = c->position.length, all = 0;
    for (int64_t k = 0; k < d->n_chromosomes; k++) {
        const chromosome *h = &d->chromosomes[k];
        int64_t length = h->sites ? d->sites[h->site0 + h->sites - 1].position : 0;
        length = h->length > length ? h->length : length;
        longest = length > longest ? length : longest;
    }
    unsigned char *seen = calloc((size_t)(longest / c->position.alpha / 8 + 1), 1);
    if (!seen)
        return fail(STATUS_MEMORY, "plan: no memory to count the rows of %s; raise position.alpha",
                    d->path);
    for (int64_t k = 0; k < d->n_chromosomes; k++) {
        const chromosome *h = &d->chromosomes[k];
        int64_t last = -1;
        for (int64_t i = h->site0; i < h->site0 + h->sites; i++) {
            int64_t row = (d->sites[i].position - 1) / c->position.alpha;
            if (shared) {
                all += !(seen[row / 8] >> (row % 8) & 1);
                seen[row / 8] = (unsigned char)(seen[row / 8] | 1u << (row % 8));
            } else {
                all += row != last;
                last = row;
            }
        }
    }
    free(seen);
    *rows = all;
    return STATUS_OK;
}

char *plan_json(const config *c, const plan *p, double seconds)
{
    char *effective = config_json(c);
    json_t *config_object = effective ? json_loads(effective, 0, NULL) : NULL;
    json_t *bytes = json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "weights", (json_int_t)p->weights, "gradients",
        (json_int_t)p->gradients, "optimizer", (json_int_t)p->optimizer, "position_table",
        (json_int_t)p->position_table, "activations", (json_int_t)p->activations, "workspace",
        (json_int_t)p->workspace, "total", (json_int_t)p->total);
    static const char *const recompute[] = {
        [KEEP_INPUT] = "all", [KEEP_SELECTED] = "selected", [KEEP_ALL] = "none"};
    json_t *root =
        json_pack("{s:s, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:b, s:I, s:o, s:o}", "schema",
                  "crocuta/plan/1", "bytes", bytes, "flops_per_step", (json_int_t)p->flops_per_step,
                  "bytes_per_step", (json_int_t)p->bytes_per_step, "context_parallel",
                  (json_int_t)p->context_parallel, "data_parallel", (json_int_t)p->data_parallel,
                  "micro_batch", (json_int_t)p->micro_batch, "micro_steps",
                  (json_int_t)p->micro_steps, "recompute", recompute[p->keep], "fits", (int)p->fits,
                  "available_bytes", (json_int_t)p->available, "seconds_per_step",
                  seconds > 0 ? json_real(seconds) : json_null(), "config",
                  config_object ? config_object : json_null());
    char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    free(effective);
    json_decref(root);
    return text;
}
