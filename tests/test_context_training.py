#!/usr/bin/env python3
# ranks: 1 3 4 5
"""Training with sequences shared by workers: groups of two and three, and two groups of two, go through the same losses
as one worker alone, with rows, dropout and several micro-batches; stages may share differently, and a run goes on on
other ranks. What cannot be shared is refused before anything is written."""
import os
import tempfile

from training import CONFIG, check, done, end, losses, refused, run

SHARED = CONFIG.replace("steps: 12, tokens_per_step: 640", "steps: 20, tokens_per_step: 640")


def close(what, a, b, bound=1e-5):
    worst = max((abs(a[s] - b[s]) / b[s] for s in b), default=1) if a.keys() == b.keys() else float("inf")
    check(what, worst <= bound, f"{worst:.1e}: {a} {b}")


def train(name, *settings, ranks=0, stages="", more=()):
    with open("config.yaml", "w") as f:
        f.write(SHARED + stages)
    r = run("pretrain", "config.yaml", "-o", name, *more, *settings, ranks=ranks, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return r


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    done("one worker", train("one"))
    want, valid = losses("one"), losses("one", "valid")
    check("twenty losses", len(want) == 20 and len(valid) == 5, str(want))
    for ranks, size in ((3, 2), (4, 3), (5, 2), (5, 4)):
        name = f"{ranks - 1}-by-{size}"
        done(name, train(name, f"train.context_parallel={size}", ranks=ranks))
        close(f"{name}: losses", losses(name), want)
        close(f"{name}: validation", losses(name, "valid"), valid)

    ladder = "stages:\n  - {seq_len: 16, steps: 6}\n  - {seq_len: 30, steps: 6, context_parallel: 3}\n"
    done("stages alone", train("stages", stages=ladder.replace("context_parallel: 3", "context_parallel: 1")))
    done("stages shared", train("stages-shared", "train.context_parallel=3", ranks=4, stages=ladder))
    close("stages", losses("stages-shared"), losses("stages"))
    done("stopped", train("resumed", "train.context_parallel=3", ranks=4, stages=ladder, more=("--max-steps", 9)))
    done("resumed", train("resumed", "train.context_parallel=3", ranks=4, stages=ladder, more=("--resume",)))
    check("resume: the same bits", losses("resumed") == losses("stages-shared"), str(losses("resumed")))

    refused("not divided", train("no", "train.context_parallel=2", ranks=4), 2, "context_parallel", "divide")
    refused("too short", train("no", "train.context_parallel=3", "data.seq_len=7", ranks=4), 2, "context_parallel")
    refused("next position", train("no", "train.context_parallel=2", "objective=position-conditioned", ranks=3), 2, "position-conditioned")
    check("nothing written", not os.path.exists("no"))
end()
