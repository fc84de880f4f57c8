/* Rows and spans of a data set and the plan as JSON: see plan_data.h. */
#include "runtime/train/plan_data.h"

#include <jansson.h>
#include <stdlib.h>

static int64_t bins(int64_t length, int64_t alpha)
{
    return (length + alpha - 1) / alpha;
}

/* Rows of one level that the sites of a set can touch, and those that there could be. */
static status count_rows(const config *c, const dataset *d, int64_t alpha, int64_t *rows,
                         int64_t *space)
{
    const bool shared = c->position.rows == ROWS_SHARED, chosen = c->position.length != CONFIG_AUTO;
    int64_t longest = c->position.length, all = 0, of_chromosomes = 0;
    for (int64_t k = 0; k < d->n_chromosomes; k++) {
        const chromosome *h = &d->chromosomes[k];
        int64_t length = h->sites ? d->sites[h->site0 + h->sites - 1].position : 0;
        length = h->length > length ? h->length : length;
        longest = length > longest ? length : longest;
        of_chromosomes += bins(length, alpha);
    }
    unsigned char *seen = calloc((size_t)(longest / alpha / 8 + 1), 1);
    if (!seen)
        return fail(STATUS_MEMORY, "plan: no memory to count the rows of %s; raise position.alpha",
                    d->path);
    for (int64_t k = 0; k < d->n_chromosomes; k++) {
        const chromosome *h = &d->chromosomes[k];
        int64_t last = -1;
        for (int64_t i = h->site0; i < h->site0 + h->sites; i++) {
            int64_t row = (d->sites[i].position - 1) / alpha;
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
    *space = shared ? bins(chosen ? c->position.length : longest, alpha) : of_chromosomes;
    if (c->position.rows == ROWS_SITE)
        *space = all;
    *rows = all < *space ? all : *space;
    return STATUS_OK;
}

/* alpha of a level: position.alpha, or 1, 10, 100, 1000. */
static int64_t alpha_of(const config *c, int level)
{
    int64_t alpha = 1;
    if (position_levels(c) == 1)
        return c->position.alpha;
    for (int i = 0; i < level; i++)
        alpha *= 10;
    return alpha;
}

/* The same rows again for the absent sites. */
static void add_absent(const config *c, plan_request *q)
{
    const int levels = q->tables;
    for (int i = 0; c->data.absent == ABSENT_SUMS && i < levels; i++) {
        q->table[q->tables] = q->table[i];
        q->table[q->tables++].of_sites = true;
    }
}

status plan_of_data(const config *c, const dataset *d, const draws *x, int classes, plan_request *q)
{
    q->tables = 0;
    for (int i = 0; i < position_levels(c); i++) {
        plan_table *t = &q->table[q->tables++];
        *t = (plan_table){.k = c->position.rank};
        TRY(count_rows(c, d, alpha_of(c, i), &t->rows, &t->space));
    }
    add_absent(c, q);
    const int head = classes > 0 ? (c->model.head == HEAD_CLASS_CONDITIONAL ? classes : 0)
                                 : c->objective == OBJECTIVE_NEXT_SITE;
    if (head)
        q->table[q->tables++] =
            (plan_table){d->n_sites, d->n_sites, 2 * c->model.head_rank + head, true};
    q->site_bytes = position_site_bytes(c, head, d->n_sites);
    /* a window that nobody is long enough for is as dense as the longest that there are */
    const int64_t longest = draws_longest(x, SPLIT_TRAIN), asked = c->data.seq_len;
    q->sites_a_token =
        longest > 0 ? draws_sites_per_token(x, asked < longest ? asked : longest) : 0;
    return STATUS_OK;
}

status plan_without_data(const config *c, plan_request *q)
{
    q->tables = 0;
    q->sites_a_token = 0;
    q->site_bytes = 0;
    if (position_levels(c) && c->position.length == CONFIG_AUTO)
        return fail(STATUS_USAGE,
                    "%s: position.length is auto but there is no data.path to take it from; write "
                    "it (bp of the longest chromosome)",
                    c->file[0] ? c->file : "plan");
    for (int i = 0; i < position_levels(c); i++) {
        const int64_t rows = bins(c->position.length, alpha_of(c, i));
        q->table[q->tables++] = (plan_table){rows, rows, c->position.rank, false};
    }
    add_absent(c, q);
    if (position_levels(c)) /* as if every position had a site */
        q->site_bytes = position_site_bytes(c, 0, c->position.length);
    return STATUS_OK;
}

static json_t *json_of_stages(const schedule *s, const plan *stages)
{
    json_t *list = json_array();
    for (int i = 0; i < s->n_stages; i++) {
        const stage *at = &s->stages[i];
        const plan *p = &stages[i];
        json_array_append_new(
            list,
            json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:I, s:b, s:I, s:I}", "seq_len",
                      (json_int_t)at->seq_len, "steps", (json_int_t)(at->end - at->first),
                      "sequences", (json_int_t)p->sequences, "context_parallel",
                      (json_int_t)p->context_parallel, "data_parallel",
                      (json_int_t)p->data_parallel, "micro_batch", (json_int_t)p->micro_batch,
                      "micro_steps", (json_int_t)p->micro_steps, "recompute", keep_name(p->keep),
                      "total", (json_int_t)p->total, "fits", (int)p->fits, "flops_per_step",
                      (json_int_t)p->flops_per_step, "bytes_per_step",
                      (json_int_t)p->bytes_per_step));
    }
    return list;
}

char *plan_json(const config *c, const plan *p, const schedule *s, const plan *stages,
                double seconds)
{
    char *effective = config_json(c);
    json_t *config_object = effective ? json_loads(effective, 0, NULL) : NULL;
    json_t *bytes = json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "weights", (json_int_t)p->weights, "gradients",
        (json_int_t)p->gradients, "optimizer", (json_int_t)p->optimizer, "position_table",
        (json_int_t)p->position_table, "activations", (json_int_t)p->activations, "workspace",
        (json_int_t)p->workspace, "total", (json_int_t)p->total);
    json_t *root =
        json_pack("{s:s, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:b, s:I, s:o, s:o}", "schema",
                  "crocuta/plan/1", "bytes", bytes, "flops_per_step", (json_int_t)p->flops_per_step,
                  "bytes_per_step", (json_int_t)p->bytes_per_step, "context_parallel",
                  (json_int_t)p->context_parallel, "data_parallel", (json_int_t)p->data_parallel,
                  "micro_batch", (json_int_t)p->micro_batch, "micro_steps",
                  (json_int_t)p->micro_steps, "recompute", keep_name(p->keep), "fits", (int)p->fits,
                  "available_bytes", (json_int_t)p->available, "seconds_per_step",
                  seconds > 0 ? json_real(seconds) : json_null(), "config",
                  config_object ? config_object : json_null());
    if (root && s)
        json_object_set_new(root, "stages", json_of_stages(s, stages));
    char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    free(effective);
    json_decref(root);
    return text;
}
