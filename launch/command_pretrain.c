/* `crocuta pretrain`: trains a model on a data set. */
#include "launch/training.h"

static const char about[] =
    "Trains a model by its objective on the training people of a data set, with validation on\n"
    "others, and leaves a run directory. Under mpirun or srun rank 0 coordinates and the others\n"
    "train. TERM or USR1 stops it at a step with a checkpoint (exit code 75); --resume goes on.\n"
    "\nExample:\n  mpirun -q -n 3 crocuta pretrain study.yaml -o runs/study train.steps=2000";

status command_pretrain(const cli *c)
{
    const training_command what = {
        false, "CONFIG -o RUN [--resume] [--max-steps N] [key=value ...]", about};
    return training_run(c, &what);
}
