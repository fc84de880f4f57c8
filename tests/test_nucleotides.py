#!/usr/bin/env python3
"""labels: mpi
Training on nucleotides: a model learns a text that repeats itself, on one rank and three with the same losses, resumes to
the last bit inside a stage and behind it, and refuses by name what speaks of people and sites."""
import math
import os
import random
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from training import check, done, end, losses, refused, run
from test_resume import interrupted

CONFIG = """\
seed: 1
data:       {path: set.h5, tokens: nucleotide, seq_len: 64}
model:      {d_model: 16, n_layer: 2, d_inner: 32, l_max: 130, filter_order: 16}
position:   {encoding: none}
optimizer:  {lr: 1.0e-2}
scheduler:  {warmup: 0.2, min_lr: 1.0e-3}
train:      {steps: 12, tokens_per_step: 640, micro_batch: 3, eval_every: 4, eval_windows: 10}
finetune:   {steps: 12, lr: 3.0e-3, head_hidden: 8}
checkpoint: {every_minutes: 0}
stages:     [{seq_len: 16, steps: 5}, {seq_len: 32, steps: 3}]
"""


def make(tmp):
    """two species of repeated words, with N, lower case and short sequences"""
    rng = random.Random(1)
    words = {k: "".join(rng.choice("ACGT") for _ in range(7)) for k in "ab"}
    with open(os.path.join(tmp, "in.fa"), "w") as f, open(os.path.join(tmp, "map.tsv"), "w") as m:
        for k in words:
            for i, split in enumerate(("train", "train", "valid", "test")):
                s = list(words[k] * (60 if i else 5))
                for at in range(0, len(s), 41):
                    s[at] = rng.choice("NRacgt")
                f.write(f">{k}{i}\n{''.join(s)}\n")
                m.write(f"{k}{i}\t{k}\t{split}\n")
    done("import", run("import", "-q", "-m", os.path.join(tmp, "map.tsv"), "-o", os.path.join(tmp, "set.h5"), os.path.join(tmp, "in.fa")))


def close(what, a, b, within):
    x, y = losses(a), losses(b)
    worst = max(abs(x[s] - y[s]) / x[s] for s in x)
    check(what, len(x) == len(y) and worst < within, worst)


def main():
    with tempfile.TemporaryDirectory() as tmp:
        make(tmp)
        config = os.path.join(tmp, "c.yaml")
        open(config, "w").write(CONFIG)
        for kind, args, ranks, stops in (("pretrain", [], 0, [3, 5, 9]), ("pretrain", [], 3, [4, 8]),
                                         ("finetune", ["--from", "none"], 0, [5])):
            folder = os.path.join(tmp, f"{kind}{ranks}")
            os.mkdir(folder)
            interrupted(f"{kind} on {ranks or 1}", folder, config, ranks, stops, args, kind)
        alone, three = (os.path.join(tmp, f"pretrain{n}", "whole") for n in (0, 3))
        close("three ranks", alone, three, 1e-5)
        long = os.path.join(tmp, "long")
        done("learning", run("pretrain", config, "-o", long, "-q", "--threads", "1", "train.steps=150", "data.reverse_complement=false"))
        valid = losses(long, "valid")
        check("learning", valid[max(valid)] < 0.6 * math.log(4), valid[max(valid)])
        fine = os.path.join(tmp, "fine")
        done("fine-tuning of it", run("finetune", config, "--from", long, "-o", fine, "-q", "--threads", "1"))
        done("plan", run("plan", config))
        for what, key in (("fpe", "position.encoding=fpe"), ("objective", "objective=next-site"), ("alleles", "data.alleles=haplotype"),
                          ("absent", "data.absent=sums"), ("direction", "data.direction=both"), ("sampling", "data.sampling=mating")):
            refused(what, run("pretrain", config, "-o", os.path.join(tmp, "no"), key), 2, key.split("=")[0].split(".")[-1])
        refused("too long", run("pretrain", config, "-o", os.path.join(tmp, "no"), "data.seq_len=1024", "train.tokens_per_step=2048", "model.l_max=1026"), 3, "420")
        refused("SNPs of sequences", run("pretrain", config, "-o", os.path.join(tmp, "no"), "data.tokens=snp"), 3, "sequences")
        here = os.path.dirname(os.path.abspath(__file__))
        refused("nucleotides of people", run("pretrain", config, "-o", os.path.join(tmp, "no"), f"data.path={here}/data/small.h5"), 3, "genotypes")
    end()


if __name__ == "__main__":
    main()
