/* crocuta predict: the ancestry of people whom nobody has labelled. */
#include "launch/cli.h"
#include "launch/device_option.h"
#include "runtime/train/predict.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char about[] =
    "Judges people whom nobody has labelled: their genotypes (VCF or BCF, phased or not) are "
    "matched\n"
    "with the sites that the model was trained on, by chromosome (chr1 is 1), position and "
    "alleles,\n"
    "and every window and person gets a probability of each label. Sites that the file lacks are\n"
    "missing, those that the model does not know are dropped, swapped alleles are turned back; "
    "all\n"
    "is counted. Refused: another assembly, more than 1 % of alleles swapped, less than half of "
    "the\n"
    "model's sites (--force goes on with the last two). Several files are parts of the same "
    "people.\n"
    "DIR holds people.tsv, windows.tsv.gz and predict.json.\n\nExamples:\n"
    "  crocuta predict runs/classifier people.vcf.gz -o people\n"
    "  crocuta predict model.safetensors one-person.vcf.gz --missing-to-ref -o person --json\n";

static status parse(const cli *c, predict_options *o, cli_common *common, bool *done)
{
    const char **args = NULL;
    int n = 0;
    const option own[] = {
        {"context", 0, OPTION_INTEGER, &o->context, "N",
         "carried sites a window (as the model was trained)"},
        {"missing-to-ref", 0, OPTION_FLAG, &o->query.missing_to_ref, NULL,
         "a site that the file lacks is reference: for files without sites of no variation"},
        {0}};
    o->context = CLI_NOT_GIVEN;
    TRY(cli_parse(c, "MODEL QUERY.vcf.gz... -o DIR [--context N] [--missing-to-ref]", about, own,
                  common, &args, &n, done));
    if (*done)
        return STATUS_OK;
    if (n < 2)
        return fail(STATUS_USAGE,
                    "predict: %d names instead of a model and a file of genotypes; see crocuta "
                    "predict --help",
                    n);
    if (!common->output)
        return fail(STATUS_USAGE, "predict: no folder for the results; give one with -o");
    TRY(cli_at_least("--context", 2, &o->context));
    if (o->context > 1 << 24)
        return fail(STATUS_USAGE, "--context: %lld is beyond every window; give fewer SNPs",
                    (long long)o->context);
    for (int i = 1; i < n; i++)
        for (int j = 1; j < i; j++)
            if (!strcmp(args[i], args[j]))
                return fail(STATUS_USAGE, "predict: %s is given twice; give it once", args[i]);
    o->model = args[0];
    o->query.files = args + 1;
    o->query.n_files = n - 1;
    o->query.force = common->force;
    o->output = common->output;
    o->threads = cli_threads(c, common);
    o->device = device_of_option(common);
    return STATUS_OK;
}

static status write_and_print(const prediction *p, const cli_common *common)
{
    TRY(predict_write(p));
    if (!common->json) {
        predict_print(p, stdout);
        return STATUS_OK;
    }
    return cli_print_json("predict", predict_json(p));
}

status command_predict(const cli *c)
{
    cli_common common;
    predict_options o = {0};
    prediction *p = NULL;
    char command[4096];
    bool done = false;
    TRY(parse(c, &o, &common, &done));
    if (done)
        return STATUS_OK;
    cli_command_line(c, command, sizeof command);
    o.command = command;
    TRY(cli_output_free(c, &common, o.output));
    TRY(cli_folder_can_be_made(c, o.output));
    status st = predict_run(&o, c->world, &p);
    if (st == STATUS_OK) {
        if (comm_rank(c->world) == 0)
            st = write_and_print(p, &common);
        st = comm_agree(c->world, st);
    }
    predict_close(&p);
    return st;
}
