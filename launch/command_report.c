/* crocuta report: tables and pictures of runs and evaluations, made by experiments/report.py with
 * the Python environment that the set-up made. Training needs no Python; only this command does. */
#include "launch/cli.h"
#include "launch/python_script.h"

#include <string.h>

#define FOLDERS 64

static const char about[] =
    "Makes one page with pictures (html), a table (csv) or TensorBoard events from run directories "
    "and\n"
    "evaluations: loss beside the counting look-up, accuracy against context beside simple methods "
    "with\n"
    "95 % intervals, confusion, calibration. Needs Python: ./launch/setup --python makes "
    "it.\n\nExample:\n"
    "  crocuta report runs/pretrain runs/classifier runs/classifier/evaluate -o report.html\n";

static status make_report(const cli_common *common, const char *format, bool simulated,
                          const char **folders, int n)
{
    const char *arguments[FOLDERS + 8] = {"-o", common->output, "--format", format};
    int k = 4;
    if (simulated)
        arguments[k++] = "--simulated";
    arguments[k++] = "--";
    for (int i = 0; i < n; i++)
        arguments[k++] = folders[i];
    return python_run("report.py", arguments);
}

status command_report(const cli *c)
{
    cli_common common;
    const char **folders = NULL, *format = "html";
    bool done = false, simulated = false;
    int n = 0;
    const option own[] = {
        {"format", 0, OPTION_TEXT, &format, "NAME", "html, csv or tensorboard (html)"},
        {"simulated", 0, OPTION_FLAG, &simulated, NULL,
         "the data are simulated: say so in every picture"},
        {0}};
    TRY(cli_parse(c, "DIR... [--format html|csv|tensorboard] -o OUT", about, own, &common, &folders,
                  &n, &done));
    if (done)
        return STATUS_OK;
    if (n < 1 || n > FOLDERS)
        return fail(STATUS_USAGE, "report: %d directories; give 1 to %d", n, FOLDERS);
    if (!common.output)
        return fail(STATUS_USAGE, "report: no name for the result; give one with -o");
    if (strcmp(format, "html") && strcmp(format, "csv") && strcmp(format, "tensorboard"))
        return fail(STATUS_USAGE, "--format: %s is not a format; choose html, csv or tensorboard",
                    format);
    TRY(cli_output_free(c, &common, common.output));
    status st = STATUS_OK;
    if (comm_rank(c->world) == 0)
        st = make_report(&common, format, simulated, folders, n);
    return comm_agree(c->world, st);
}
