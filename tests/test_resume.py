#!/usr/bin/env python3
"""labels: mpi
A run that stops and goes on gives the losses of one that never stopped, bit by bit: on one rank and on three, for
fine-tuning, inside a stage and at its border, with dropout, accumulation and prefetch; and what may not change does not."""
import os
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from training import CONFIG, check, committed, done, end, journal, lines, losses, refused, run

STAGES = "stages: [{seq_len: 16, steps: 5}, {seq_len: 32, steps: 3}]\n"


def same(what, a, b):
    for split in ("train", "valid"):
        x, y = losses(a, split), losses(b, split)
        wrong = [s for s in x if x[s] != y.get(s)]
        check(what, x and not wrong and len(x) == len(y), f"{split}: steps {wrong} of {len(x)}; {len(y)} on the other side")


def interrupted(what, tmp, config, ranks, stops, args=(), kind="pretrain"):
    whole, parts = os.path.join(tmp, "whole"), os.path.join(tmp, "parts")
    options = ["--threads", "1", "-q", *args]
    done(what, run(kind, config, "-o", whole, *options, ranks=ranks))
    for i, stop in enumerate(stops):
        done(what, run(kind, config, "-o", parts, *options, "--max-steps", stop, *(["--resume"] if i else []), ranks=ranks))
        check(what, committed(parts)[-1] == f"step-{stop:07d}.h5", committed(parts))
    done(what, run(kind, config, "-o", parts, *options, "--resume", ranks=ranks))
    check(what, len(losses(whole)) == 12, len(losses(whole)))
    same(what, whole, parts)
    return whole, parts


def main():
    with tempfile.TemporaryDirectory() as tmp:
        config, staged = os.path.join(tmp, "c.yaml"), os.path.join(tmp, "s.yaml")
        open(config, "w").write(CONFIG)
        open(staged, "w").write(CONFIG + STAGES)
        n = 0

        def place():
            nonlocal n
            n += 1
            path = os.path.join(tmp, str(n))
            os.mkdir(path)
            return path

        whole, parts = interrupted("one rank", place(), config, 0, [6])
        check("one start and one resume", [e["event"] for e in journal(parts, "events.jsonl") if e["event"] in ("start", "resume")] == ["start", "resume"])
        interrupted("three ranks", place(), config, 3, [6])
        interrupted("two workers, coordinator inside", place(), config, 2, [7], ["comm.coordinator=worker"])
        interrupted("inside a stage and at its border", place(), staged, 3, [2, 5, 8])
        interrupted("rows by number, several tables", place(), config, 0, [5, 9], ["position.encoding=fpe-multi", "position.init=normal"])
        interrupted("fine-tuning", place(), config, 3, [6], ["--from", "none"], "finetune")

        # another number of workers: the same data, the losses of twenty steps to 1e-5
        folder, options = place(), ["-q", "--threads", 1, "train.steps=26"]
        alone, other = os.path.join(folder, "alone"), os.path.join(folder, "other")
        done("one rank", run("pretrain", config, "-o", alone, *options))
        done("other ranks", run("pretrain", config, "-o", other, "--max-steps", 6, *options))
        done("other ranks", run("pretrain", config, "-o", other, "--resume", *options, ranks=3))
        a, b = losses(alone), losses(other)
        check("other ranks: twenty steps after six", len(a) == 26 and all(abs(a[s] - b[s]) < 1e-5 for s in a), max(abs(a[s] - b[s]) for s in a))

        # what may change, and what may not
        refused("a changed key", run("pretrain", config, "-o", parts, "--resume", "optimizer.lr=1e-3"), 2, "optimizer.lr")
        refused("fewer steps", run("pretrain", config, "-o", parts, "--resume", "train.steps=11"), 2, "train.steps")
        before = losses(parts)
        r = run("pretrain", config, "-o", parts, "--resume", "train.steps=16", "train.log_every=1", "checkpoint.keep=2")
        done("more steps, harmless keys", r)
        check("one warning", len(lines(r, "warning")) == 1 and "train.steps" in r.stderr and "checkpoint.keep" in r.stderr, r.stderr)
        check("steps 13 to 16", sorted(losses(parts)) == list(range(1, 17)) and all(losses(parts)[s] == before[s] for s in before))
        r = run("pretrain", config, "-o", parts, "--resume", "train.steps=16", "-q", ranks=3)
        done("a finished run", r)
        check("nothing more", len(journal(parts, "metrics.jsonl")) == len(set((m["step"], m["split"]) for m in journal(parts, "metrics.jsonl"))))

        # a newest checkpoint that is damaged is passed over with a warning
        newest = os.path.join(whole, "checkpoints", committed(whole)[-1])
        with open(newest, "r+b") as f:
            f.seek(os.path.getsize(newest) // 2)
            byte = f.read(1)
            f.seek(-1, 1)
            f.write(bytes([byte[0] ^ 255]))
        r = run("pretrain", config, "-o", whole, "--resume", "-q", "--threads", "1", ranks=3)
        done("a damaged checkpoint", r)
        check("passed over", len(lines(r, "warning")) >= 1 and os.path.basename(newest) in r.stderr, r.stderr)

        fresh = os.path.join(place(), "run")
        r = run("pretrain", config, "-o", fresh, "--resume", "--max-steps", 2, ranks=3)
        done("nothing to resume", r)
        check("one warning", len(lines(r, "warning")) == 1 and "step 0" in r.stderr, r.stderr)
    end()


if __name__ == "__main__":
    main()
