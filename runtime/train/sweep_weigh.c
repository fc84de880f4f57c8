/* What trials will cost, before any of them runs: plans on their data set. Longest first keeps the
 * groups busy to the end, and a configuration that no model can have is refused here. */
#include "runtime/train/plan_data.h"
#include "runtime/train/schedule.h"
#include "runtime/train/sweep.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Only shares and order matter: products and copies of a core. */
#define NOMINAL_FLOPS 5e10
#define NOMINAL_BYTES 1e10

typedef struct {
    dataset *d;
    draws *x;
    const config *of;  /* that both were opened for */
    device *dev, *gpu; /* what runs here, and what mixed precision needs; NULL: not in this build */
} ground;

static void leave(ground *g)
{
    draws_close(&g->x);
    dataset_close(&g->d);
    g->of = NULL;
}

/* Trials of one data set follow each other: it is opened once. */
static status stand(ground *g, const sweep *s, const config *c, comm *alone)
{
    if (g->of && memcmp(&g->of->data, &c->data, sizeof c->data) == 0)
        return STATUS_OK;
    const bool same = g->of && strcmp(g->of->data.path, c->data.path) == 0 &&
                      g->of->data.max_gap == c->data.max_gap;
    char path[CONFIG_TEXT];
    config_data_path(c, path);
    if (c->data.tokens == TOKENS_NUCLEOTIDE)
        return fail(STATUS_USAGE,
                    "%s: a sweep is judged on windows of people, and data.tokens is nucleotide; "
                    "run pretrain and finetune for each setting",
                    s->file->path);
    if (!same) {
        leave(g);
        if (access(path, R_OK) != 0)
            return fail(STATUS_DATA,
                        "%s: there is no such data set; give one: crocuta sweep %s ... "
                        "data.path=PEOPLE.h5",
                        path, s->file->path);
        TRY(dataset_open(path, alone, &g->d));
        TRY(dataset_block(g->d, c->data.max_gap));
    }
    draws_close(&g->x);
    config_data any = c->data;
    any.seq_len = 0;
    TRY(draws_open(g->d, &any, (uint64_t)c->seed, &g->x));
    g->of = c;
    return STATUS_OK;
}

/* The device that a trial is meant for, wherever this is asked: mixed precision is a GPU's. */
static device *device_for(const ground *g, const config *c)
{
    return c->train.precision == PRECISION_MIXED && g->gpu ? g->gpu : g->dev;
}

static status weigh_part(const ground *g, const sweep_request *ask, bool finetune, const config *c,
                         sweep_trial *t)
{
    const int classes = finetune ? (int)g->d->n_labels : 0;
    plan_request q = {
        .workers = ask->group_size, .available = ask->device_memory, .training = true};
    schedule steps;
    model *m = NULL;
    plan p;
    TRY(schedule_open(c, finetune, &steps));
    TRY(plan_of_data(c, g->d, g->x, classes, &q));
    status st = model_open(c, classes, device_for(g, c), &m);
    if (st == STATUS_OK)
        st = plan_make(m, c, &q, &p);
    model_close(&m);
    TRY(st);
    if (!p.fits)
        return plan_refuse(&p, "it");
    t->plan_bytes = p.total > t->plan_bytes ? p.total : t->plan_bytes;
    t->work += (double)steps.steps * ((double)p.flops_per_step / NOMINAL_FLOPS +
                                      (double)p.bytes_per_step / NOMINAL_BYTES);
    return STATUS_OK;
}

/* The study counts fp32 p, g, m and v of L / alpha rows of one table, L the longest chromosome. */
static int64_t dense_bytes(const config *c, const dataset *d)
{
    int64_t longest = c->position.length, bytes = 0, alpha = 1;
    const int levels = position_levels(c);
    for (int64_t k = 0; k < d->n_chromosomes && c->position.length == CONFIG_AUTO; k++) {
        const chromosome *h = &d->chromosomes[k];
        const int64_t last = h->sites ? d->sites[h->site0 + h->sites - 1].position : 0;
        longest = h->length > longest ? h->length : longest;
        longest = last > longest ? last : longest;
    }
    if (levels == 1)
        alpha = c->position.alpha;
    for (int i = 0; i < levels; i++, alpha *= 10)
        bytes += (longest + alpha - 1) / alpha * c->position.rank * 4 * (int64_t)sizeof(float);
    return levels ? bytes : -1;
}

static status weigh_trial(sweep *s, sweep_trial *t, ground *g, comm *alone)
{
    const sweep_parts *p = &s->file->parts;
    config c = *t->c;
    if (device_for(g, &c)->kind == DEVICE_CPU && s->ask->device != DEVICE_CPU)
        c.train.precision = PRECISION_FP32; /* without CUDA: the upper bound of what it needs */
    TRY(stand(g, s, t->c, alone));
    t->dense_bytes = dense_bytes(&c, g->d);
    if (p->pretrain)
        TRY(weigh_part(g, s->ask, false, &c, t));
    if (p->finetune)
        TRY(weigh_part(g, s->ask, true, &c, t));
    c.objective = OBJECTIVE_POSITION_CONDITIONED;
    if (p->position)
        TRY(weigh_part(g, s->ask, false, &c, t));
    return STATUS_OK;
}

static status describe(const sweep_request *ask, ground *g)
{
    device_kind kind = ask->device;
    if (kind == DEVICE_AUTO)
        kind = device_count(NULL, 0) > 0 ? DEVICE_CUDA : DEVICE_CPU;
    TRY(device_describe(kind, ask->threads, &g->dev));
    if (ask->device == DEVICE_AUTO && kind == DEVICE_CPU &&
        device_describe(DEVICE_CUDA, ask->threads, &g->gpu) != STATUS_OK)
        g->gpu = NULL; /* this build, or this machine's libraries, know no GPU */
    return STATUS_OK;
}

static status weigh_all(sweep *s, comm *alone)
{
    ground g = {0};
    status st = describe(s->ask, &g);
    for (int i = 0; i < s->n && st == STATUS_OK; i++) {
        sweep_trial *t = &s->trials[i];
        st = weigh_trial(s, t, &g, alone);
        if (st == STATUS_USAGE || st == STATUS_RESOURCE)
            st = fail(st, "%s:%d: trial %s: %.700s", s->file->path, t->line, t->name,
                      failure_last()->text);
    }
    leave(&g);
    device_close(&g.gpu);
    device_close(&g.dev);
    return st;
}

status sweep_weigh(sweep *s, comm *world)
{
    comm *alone = NULL;
    TRY(comm_split(world, comm_rank(world) == 0 ? 0 : -1, 0, &alone));
    const status st = alone ? weigh_all(s, alone) : STATUS_OK;
    comm_free(&alone);
    return comm_agree(world, st);
}

/* ---- what was weighed, where nothing is run ---- */

static double all_work(const sweep *s)
{
    double work = 0;
    for (int i = 0; i < s->n; i++)
        work += s->trials[i].work;
    return work > 0 ? work : 1;
}

void sweep_plan_print(const sweep *s, FILE *to)
{
    int width = 5;
    for (int i = 0; i < s->n; i++)
        if ((int)strlen(s->trials[i].name) > width)
            width = (int)strlen(s->trials[i].name);
    fprintf(to, "%-*s  GiB a worker  %% of the work\n", width, "trial");
    for (int i = 0; i < s->n; i++)
        fprintf(to, "%-*s  %12.4g  %13.1f\n", width, s->trials[i].name,
                (double)s->trials[i].plan_bytes / (1 << 30), 100 * s->trials[i].work / all_work(s));
}

char *sweep_plan_json(const sweep *s)
{
    json_t *trials = json_array();
    int64_t most = 0;
    for (int i = 0; i < s->n; i++) {
        const sweep_trial *t = &s->trials[i];
        most = t->plan_bytes > most ? t->plan_bytes : most;
        json_array_append_new(trials,
                              json_pack("{s:s, s:I, s:f}", "trial", t->name, "plan_bytes",
                                        (json_int_t)t->plan_bytes, "work", t->work / all_work(s)));
    }
    json_t *all =
        json_pack("{s:s, s:b, s:i, s:I, s:o}", "schema", "crocuta/sweep/1", "dry_run", 1, "workers",
                  s->ask->group_size, "plan_bytes", (json_int_t)most, "trials", trials);
    char *text = all ? json_dumps(all, JSON_INDENT(2)) : NULL;
    json_decref(all);
    return text;
}
