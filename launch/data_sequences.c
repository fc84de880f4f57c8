/* What is in a set of sequences, for people and as JSON: see data_sequences.h. */
#include "launch/data_sequences.h"

#include "io/dataset_verify.h"
#include "launch/json_text.h"

#include <stdio.h>
#include <string.h>

static void info_json(const sequences *s)
{
    printf("{\"schema\": \"crocuta/data/1\", ");
    json_put_key("path", s->path);
    printf(", \"kind\": \"sequences\", ");
    json_put_key("assembly", s->assembly);
    printf(", \"seed\": %llu, ", (unsigned long long)s->seed);
    json_put_key("split_hash", s->split_hash);
    printf(",\n \"labels\": [");
    for (int64_t i = 0; i < s->n_labels; i++) {
        printf(i ? ", " : "");
        json_put_text(s->labels[i]);
    }
    printf("],\n \"sequences\": [");
    for (int64_t i = 0; i < s->n; i++) {
        const sequence *x = &s->list[i];
        const base_counts *b = &x->count;
        printf(i ? ",\n  {" : "\n  {");
        json_put_key("name", x->name);
        printf(", ");
        json_put_key("description", x->description);
        printf(", \"length\": %lld, \"a\": %lld, \"c\": %lld, \"g\": %lld, \"t\": %lld, \"n\": "
               "%lld, \"other\": %lld, \"masked\": %lld, \"split\": \"%s\", \"label\": ",
               (long long)x->length, (long long)b->a, (long long)b->c, (long long)b->g,
               (long long)b->t, (long long)b->n, (long long)b->other, (long long)b->masked,
               split_name(x->split));
        if (x->label >= 0)
            json_put_text(s->labels[x->label]);
        else
            printf("null");
        printf("}");
    }
    printf("]}\n");
}

static void info_table(const sequences *s)
{
    int64_t bases = 0;
    int wide = 20; /* the longest name */
    for (int64_t i = 0; i < s->n; i++) {
        bases += s->list[i].length;
        wide = (int)strlen(s->list[i].name) > wide ? (int)strlen(s->list[i].name) : wide;
    }
    printf("%s: %lld sequences, %lld bases, four bits each\n", s->path, (long long)s->n,
           (long long)bases);
    printf("assembly %s, split %s (seed %llu)\n\n", s->assembly, s->split_hash,
           (unsigned long long)s->seed);
    printf("%-*s %-14s %-6s %12s %6s %6s %6s %6s\n", wide, "sequence", "label", "split", "bases",
           "GC %", "N %", "other", "low %");
    for (int64_t i = 0; i < s->n; i++) {
        const sequence *x = &s->list[i];
        const base_counts *b = &x->count;
        const double all = x->length ? (double)x->length / 100 : 1;
        const double known = (double)(b->a + b->c + b->g + b->t) / 100;
        printf("%-*s %-14s %-6s %12lld %6.2f %6.2f %6lld %6.2f\n", wide, x->name,
               x->label < 0 ? "(none)" : s->labels[x->label], split_name(x->split),
               (long long)x->length, known > 0 ? (double)(b->c + b->g) / known : 0,
               (double)b->n / all, (long long)b->other, (double)b->masked / all);
    }
    printf("\nGC of A C G T; other: IUPAC letters (count); low: lower case, soft-masked\n");
}

static void verified(const sequences *s, bool json)
{
    int64_t n[3] = {0}, bases = 0;
    for (int64_t i = 0; i < s->n; i++) {
        n[s->list[i].split]++;
        bases += s->list[i].length;
    }
    if (!json) {
        printf("%s: sound. %lld bases, every byte as its seal says and every count as its table; "
               "train %lld, valid %lld, test %lld sequences, none twice and none on two sides\n",
               s->path, (long long)bases, (long long)n[0], (long long)n[1], (long long)n[2]);
        return;
    }
    printf("{\"schema\": \"crocuta/data/1\", \"sound\": true, ");
    json_put_key("path", s->path);
    printf(", \"bases\": %lld, \"sequences\": {\"train\": %lld, \"valid\": %lld, \"test\": "
           "%lld}}\n",
           (long long)bases, (long long)n[0], (long long)n[1], (long long)n[2]);
}

status data_sequences(const cli *c, const cli_common *common, const char *action,
                      const sequences *s)
{
    const bool first = comm_rank(c->world) == 0;
    status st = STATUS_OK;
    if (!first)
        return comm_agree(c->world, st);
    if (strcmp(action, "export") == 0)
        st = sequences_export(s, common->output);
    else if (strcmp(action, "verify") == 0)
        st = sequences_verify(s);
    else if (common->json)
        info_json(s);
    else
        info_table(s);
    if (st == STATUS_OK && strcmp(action, "verify") == 0)
        verified(s, common->json);
    return comm_agree(c->world, st);
}
