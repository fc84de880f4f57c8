#!/usr/bin/env python3
"""labels: mpi
Steps skipped by several workers, each of which has met rows that the others have not: the checkpoints of those very steps are
written, sound, and gone on from on another number of ranks. Skipped for a loss that is no number, and for a norm. Three ranks."""
import os
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from training import CONFIG, check, committed, done, end, journal, run

OPTIONS = ["-q", "--threads", 1, "position.alpha=1", "train.eval_every=0", "train.early_stop=0", "train.tokens_per_step=128", "checkpoint.every_steps=1", "checkpoint.keep=1000"]
CASES = (  # steps so wild that the loss overflows, until going back has not helped; and after 100 norms, one that is not far smaller
    ("nan", 1, ["optimizer.lr=100", "optimizer.rows_lr=100", "optimizer.betas=[0.0, 0.0]", "train.grad_clip=0", "train.steps=40"]),
    ("skip", 0, ["train.skip_norm=1.0e-3", "train.steps=101"]),
)


def main():
    with tempfile.TemporaryDirectory() as tmp:
        config = os.path.join(tmp, "c.yaml")
        open(config, "w").write(CONFIG)
        for event, code, options in CASES:
            path = os.path.join(tmp, event)
            done(event, run("pretrain", config, "-o", path, *OPTIONS, *options, ranks=3), code)
            events = journal(path, "events.jsonl")
            skipped = {e["step"] for e in events if e["event"] == event}
            check(event, skipped and not any(e["event"] == "checkpoint_failed" for e in events), events)
            # but the one after which training goes back
            check(event, any(f"step-{step:07d}.h5" in committed(path) for step in skipped), f"{skipped} {committed(path)}")
            newest = os.path.join(path, "checkpoints", committed(path)[-1])
            done(event, run("checkpoint", "verify", newest))
            done(event, run("pretrain", config, "-o", path, "--resume", *OPTIONS, *options, ranks=0 if code else 2), code)
    end()


main()
