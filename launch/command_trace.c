/* crocuta trace: one fixed batch through a model, everything written. */
#include "launch/cli.h"
#include "launch/device_option.h"
#include "runtime/train/trace.h"

#include <stddef.h>

#define ABOUT                                                                                      \
    "One batch of an HDF5 file (/input_ids, /target_ids: bytes (B, L); optional /position, "       \
    "/chromosome) goes through\n"                                                                  \
    "the model without dropout; hidden states, logits, loss and every gradient are written, and "  \
    "of N AdamW steps on\n"                                                                        \
    "this batch the losses and gradient norms: for comparison with another implementation, "       \
    "device or version.\n\nExample:\n"                                                             \
    "  crocuta trace weights.safetensors batch.h5 -o out.h5 --optimizer-steps 10\n"

static status trace(const cli *c, const cli_common *common, const char **args, int n, int64_t steps)
{
    device *dev = NULL;
    model_file *f = NULL;
    trace_batch b = {0};
    status st;
    TRY_GOTO(done, device_open_option(c, common, &dev));
    TRY_GOTO(done, trace_batch_read(args[1], VOCABULARY_PADDED, true, &b));
    TRY_GOTO(done, model_file_open(args[0], -1, args + 2, n - 2, dev, &f));
    if (b.position)
        TRY_GOTO(done, model_file_place(f, f->c.position.rows == ROWS_SHARED ? &position_unbounded
                                                                             : NULL));
    st = trace_run(f, &b, steps, comm_rank(c->world) == 0 ? common->output : NULL, c->world);
done:
    model_file_close(&f);
    device_close(&dev);
    trace_batch_free(&b);
    return st;
}

status command_trace(const cli *c)
{
    cli_common common = {.seed = 1};
    int64_t steps = 0;
    const option own[] = {{"optimizer-steps", 0, OPTION_INTEGER, &steps, "N",
                           "AdamW steps on this batch (default: 0)"},
                          {NULL, 0, OPTION_FLAG, NULL, NULL, NULL}};
    const char **args;
    int n;
    bool done = false;
    TRY(cli_parse(c, "MODEL BATCH.h5 -o OUT.h5 [--optimizer-steps N] [key=value ...]", ABOUT, own,
                  &common, &args, &n, &done));
    if (done)
        return STATUS_OK;
    if (n < 2 || cli_is_override(args[0]) || cli_is_override(args[1]))
        return fail(STATUS_USAGE, "trace: MODEL and BATCH.h5 are needed; see crocuta trace --help");
    for (int i = 2; i < n; i++)
        if (!cli_is_override(args[i]))
            return fail(
                STATUS_USAGE,
                "trace: %s is neither a file that it takes nor key=value; see crocuta trace --help",
                args[i]);
    if (!common.output)
        return fail(STATUS_USAGE, "trace: -o OUT.h5 is missing; say where the result goes");
    if (steps < 0 || steps > 1000000)
        return fail(STATUS_USAGE, "--optimizer-steps: %lld is out of range; give 0 to 1000000",
                    (long long)steps);
    TRY(cli_output_free(c, &common, common.output));
    for (int i = 0; i < n; i++)
        TRY(comm_agree(c->world, cli_input_kept(common.output, args[i])));
    return comm_agree(c->world, trace(c, &common, args, n, steps));
}
