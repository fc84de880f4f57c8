/* `crocuta finetune`: trains an ancestry classifier from a pretrained model, or from scratch. */
#include "launch/training.h"

static const char about[] =
    "Trains a classifier of the data set's labels: the body and position rows of a model (or new\n"
    "ones, --from none) with a head on the pooled window, all of them trained. The best "
    "checkpoint\n"
    "is the one with the highest accuracy on validation people.\n"
    "\nExample:\n  crocuta finetune study.yaml --from runs/study -o runs/ancestry data.seq_len=128";

status command_finetune(const cli *c)
{
    const training_command what = {
        true, "CONFIG --from MODEL|none -o RUN [--resume] [--max-steps N] [key=value ...]", about};
    return training_run(c, &what);
}
