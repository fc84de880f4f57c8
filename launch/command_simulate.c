/* crocuta simulate: people whom a trained model makes up, label by label. */
#include "launch/cli.h"
#include "launch/device_option.h"
#include "runtime/train/simulate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char about[] =
    "Makes up people of each label: their genotypes at the sites of a trained classifier with a\n"
    "class-conditional site head, drawn site by site from the probability that the model gives\n"
    "each, after the sites before it. Writes a VCF (SIMULATED stands in its header) and beside it\n"
    "FILE.samples.tsv, which `crocuta import -m` reads. A model of unions makes unions: 0/1 says\n"
    "that a site is carried, once or twice; one of haplotypes makes two a person. The same seed\n"
    "gives the same file. A model can repeat stretches of people it was trained on: what it makes\n"
    "up is no more public than they are.\n\nExamples:\n"
    "  crocuta simulate runs/classifier -o made-up.vcf.gz --people 50\n"
    "  crocuta simulate model.safetensors -o eas.vcf --label EAS --seed 7 --json\n";

static status parse(const cli *c, simulate_options *o, cli_common *common, bool *done)
{
    const char **args = NULL;
    int n = 0;
    const option own[] = {{"people", 0, OPTION_INTEGER, &o->people, "N", "people a label (10)"},
                          {"label", 0, OPTION_TEXT, &o->label, "NAME", "this label alone"},
                          {"context", 0, OPTION_INTEGER, &o->context, "N",
                           "carried sites that the model sees (as it was trained)"},
                          {"ahead", 0, OPTION_INTEGER, &o->ahead, "N",
                           "sites guessed ahead of a pass: only the time depends on it"},
                          {0}};
    o->people = 10;
    o->context = o->ahead = CLI_NOT_GIVEN;
    TRY(cli_parse(c, "MODEL -o FILE.vcf[.gz] [--people N] [--label NAME] [--seed S]", about, own,
                  common, &args, &n, done));
    if (*done)
        return STATUS_OK;
    if (n != 1)
        return fail(STATUS_USAGE,
                    "simulate: %d names instead of one model; see crocuta simulate --help", n);
    if (!common->output)
        return fail(STATUS_USAGE, "simulate: no file for the people; give one with -o");
    if (o->people < 1 || o->people > 1 << 24)
        return fail(STATUS_USAGE, "--people: %lld; give 1 or more a label", (long long)o->people);
    TRY(cli_at_least("--context", 4, &o->context)); /* fewer are too short to go on from */
    TRY(cli_at_least("--ahead", 1, &o->ahead));
    o->model = args[0];
    o->output = common->output;
    o->seed = (uint64_t)common->seed;
    o->threads = cli_threads(c, common);
    o->device = device_of_option(common);
    return STATUS_OK;
}

static status write_and_print(const simulation *s, const cli_common *common)
{
    TRY(simulate_write(s));
    if (!common->json) {
        simulate_print(s, stdout);
        return STATUS_OK;
    }
    return cli_print_json("simulate", simulate_json(s));
}

status command_simulate(const cli *c)
{
    cli_common common;
    simulate_options o = {0};
    simulation *s = NULL;
    char command[4096], map[CONFIG_TEXT];
    bool done = false;
    TRY(parse(c, &o, &common, &done));
    if (done)
        return STATUS_OK;
    cli_command_line(c, command, sizeof command);
    o.command = command;
    TRY(simulate_map_name(o.output, map));
    TRY(cli_output_free(c, &common, o.output));
    TRY(cli_output_free(c, &common, map));
    TRY(comm_agree(c->world, cli_input_kept(o.output, o.model)));
    status st = simulate_run(&o, c->world, &s);
    if (st == STATUS_OK) {
        if (comm_rank(c->world) == 0)
            st = write_and_print(s, &common);
        st = comm_agree(c->world, st);
    }
    simulate_close(&s);
    return st;
}
