/* crocuta evaluate: a model and simple methods on the same held-out windows. */
#include "launch/cli.h"
#include "launch/device_option.h"
#include "runtime/core/log.h"
#include "runtime/train/evaluate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char about[] =
    "Judges a classifier and simple methods on the same windows of people nobody trained on: "
    "accuracy,\n"
    "balanced accuracy, log loss, calibration, a window and a person at a time, with 95 % "
    "intervals by\n"
    "bootstrap over people and over blocks of sites, and paired differences. MODEL `none`: the "
    "simple\n"
    "methods alone. Choose on --split valid; look at the test people once a reported "
    "number.\n"
    "On sequences a pretrained model is judged by the next base: loss, perplexity, bits and "
    "accuracy,\n"
    "also by the bases of the window that were read before.\n\nExamples:\n"
    "  crocuta evaluate none people.h5 -o baselines\n"
    "  crocuta evaluate runs/classifier people.h5 -o runs/classifier/evaluate --context 128,512\n"
    "  crocuta evaluate runs/classifier people.h5 -o chip -r 11:1680000-3400000 --missing 0.5\n"
    "  crocuta evaluate runs/bases mammals.h5 -o bases --context 1024,16384 --baselines none\n";

static status parse_contexts(const char *list, evaluate_options *o)
{
    for (const char *at = list; *at;) {
        char *end = NULL;
        const long long n = strtoll(at, &end, 10);
        if (end == at || (*end && *end != ',') || n < 2 || n > 1 << 24)
            return fail(STATUS_USAGE,
                        "--context: %s is not a list of window lengths (2 SNPs or more); "
                        "write them as 128,256",
                        list);
        if (o->n_contexts == EVALUATE_CONTEXTS)
            return fail(STATUS_USAGE, "--context: more than %d lengths; give fewer",
                        EVALUATE_CONTEXTS);
        for (int k = 0; k < o->n_contexts; k++)
            if (o->contexts[k] == n)
                return fail(STATUS_USAGE, "--context: %lld stands there twice; name it once", n);
        o->contexts[o->n_contexts++] = n;
        at = *end ? end + 1 : end;
    }
    if (o->n_contexts == 0)
        return fail(STATUS_USAGE, "--context: the list is empty; write it as 128,256");
    return STATUS_OK;
}

static status parse_split(const char *name, split_kind *out)
{
    static const char *const names[] = {"train", "valid", "test"};
    for (int k = 0; k < 3; k++)
        if (!strcmp(name, names[k])) {
            *out = (split_kind)k;
            return STATUS_OK;
        }
    return fail(STATUS_USAGE, "--split: %s is not a split; choose train, valid or test", name);
}

/* Which sites are judged and what is done to the judged people. */
typedef struct {
    const char *where, *where_file, *exclude;
    regions judged, excluded;
} changes;

static status changes_parse(changes *x, evaluate_options *o)
{
    if (!(o->missing >= 0 && o->missing < 1))
        return fail(STATUS_USAGE, "--missing %g: is no share of the sites; write 0 to below 1",
                    o->missing);
    if (!(o->wrong >= 0 && o->wrong <= 0.5))
        return fail(STATUS_USAGE, "--wrong %g: is no share of the genotypes; write 0 to 0.5",
                    o->wrong);
    if (x->where)
        TRY(regions_parse(&x->judged, x->where));
    if (x->where_file)
        TRY(regions_read(&x->judged, x->where_file));
    if (x->exclude)
        TRY(regions_parse(&x->excluded, x->exclude));
    regions_sort(&x->judged);
    regions_sort(&x->excluded);
    o->where = &x->judged;
    o->exclude = &x->excluded;
    return STATUS_OK;
}

static status parse(const cli *c, evaluate_options *o, changes *x, cli_common *common, bool *done)
{
    const char *split = "test", *contexts = "128,256,512,1024";
    const char *baselines = "majority,density,nb,nb-absent,logistic,lookup", **args = NULL;
    int n = 0;
    o->rounds = 1000;
    o->stride = o->piece = CLI_NOT_GIVEN;
    const option own[] = {
        {"split", 0, OPTION_TEXT, &split, "SPLIT",
         "people to judge on: test, valid or train (test)"},
        {"context", 0, OPTION_TEXT, &contexts, "N,N",
         "window lengths in carried sites (128,256,512,1024)"},
        {"stride", 0, OPTION_INTEGER, &o->stride, "N",
         "sites from one window to the next (its length)"},
        {"piece", 0, OPTION_INTEGER, &o->piece, "N",
         "carried sites that the model reads at once; pieces of longer windows are added (as many "
         "as it can)"},
        {"baselines", 0, OPTION_TEXT, &baselines, "LIST",
         "majority, density, nb, nb-absent, logistic, lookup (all these); ngram, pair; phased "
         "people only: haplotype, li-stephens; none"},
        {"bootstrap", 0, OPTION_INTEGER, &o->rounds, "N", "rounds of the bootstrap (1000)"},
        {"regions", 'r', OPTION_TEXT, &x->where, "CHR:FROM-TO",
         "judge only windows within these regions"},
        {"regions-file", 'R', OPTION_TEXT, &x->where_file, "BED",
         "judge only windows within the regions of this file"},
        {"exclude-regions", 0, OPTION_TEXT, &x->exclude, "CHR:FROM-TO",
         "judge no window that reaches into these"},
        {"missing", 0, OPTION_REAL, &o->missing, "F",
         "share of the sites at which the judged people have no call (0)"},
        {"wrong", 0, OPTION_REAL, &o->wrong, "F",
         "share of the judged people's genotypes that are wrong (0)"},
        {0}};
    TRY(cli_parse(c, "MODEL|none DATA.h5 -o DIR [--split SPLIT] [--context N,N]", about, own,
                  common, &args, &n, done));
    if (*done)
        return STATUS_OK;
    if (n != 2)
        return fail(STATUS_USAGE,
                    "evaluate: %d names instead of a model and a data set; see crocuta "
                    "evaluate --help",
                    n);
    if (!common->output)
        return fail(STATUS_USAGE, "evaluate: no folder for the results; give one with -o");
    TRY(cli_at_least("--stride", 1, &o->stride));
    TRY(cli_at_least("--piece", 2, &o->piece));
    if (o->rounds < 1 || o->rounds > 1000000)
        return fail(STATUS_USAGE, "--bootstrap: %lld rounds; give 1 to 1000000",
                    (long long)o->rounds);
    TRY(parse_contexts(contexts, o));
    TRY(parse_split(split, &o->split));
    TRY(baselines_parse(baselines, o->baselines));
    TRY(changes_parse(x, o));
    o->model = args[0];
    o->data = args[1];
    o->output = common->output;
    o->seed = (uint64_t)common->seed;
    o->threads = cli_threads(c, common);
    o->device = device_of_option(common);
    return STATUS_OK;
}

static status write_and_print(const cli *c, const evaluation *e, const cli_common *common)
{
    TRY(evaluate_record(e, comm_host(c->world), comm_rank(c->world)));
    TRY(evaluate_write(e));
    if (!common->json) {
        evaluate_print(e, stdout);
        return STATUS_OK;
    }
    return cli_print_json("evaluate", evaluate_json(e));
}

static status judge(const cli *c, evaluate_options *o, const cli_common *common)
{
    evaluation *e = NULL;
    char command[4096];
    cli_command_line(c, command, sizeof command);
    o->command = command;
    TRY(cli_output_free(c, common, o->output));
    TRY(cli_folder_can_be_made(c, o->output));
    status st = evaluate_run(o, c->world, &e);
    if (st == STATUS_OK) {
        if (comm_rank(c->world) == 0)
            st = write_and_print(c, e, common);
        st = comm_agree(c->world, st);
    }
    evaluate_close(&e);
    return st;
}

status command_evaluate(const cli *c)
{
    cli_common common;
    evaluate_options o = {0};
    changes x = {0};
    bool done = false;
    status st = parse(c, &o, &x, &common, &done);
    if (st == STATUS_OK && !done)
        st = judge(c, &o, &common);
    regions_close(&x.judged);
    regions_close(&x.excluded);
    return st;
}
