#!/usr/bin/env python3
"""labels: mpi
Training on nucleotides: a model learns a text that repeats itself, on one rank and three with the same losses, resumes to
the last bit inside a stage and behind it, and refuses by name what speaks of people and sites."""
import gzip
import json
import math
import os
import random
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from training import DATA, check, done, end, losses, refused, run
from test_resume import interrupted

HEAD = "sample hap chrom start end n_snps label predicted p_a p_b method".split()
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


def judge(tmp, config, pretrained):
    """words tell the species apart: a classifier and the 4-mers know them, the majority does not; 1 and 3 ranks agree"""
    data, run_ = os.path.join(tmp, "set.h5"), os.path.join(tmp, "classifier")
    done("classifier", run("finetune", config, "--from", pretrained, "-o", run_, "-q", "--threads", "1", "finetune.steps=60", "finetune.lr=1.0e-2"))
    seen = []
    for ranks in (0, 3):
        out = os.path.join(tmp, f"evaluate{ranks}")
        r = run("evaluate", run_, data, "-o", out, "--context", "32,64", "--json", ranks=ranks)
        done("evaluate", r)
        doc = json.loads(r.stdout)
        by = {(x["method"], x["context"]): x for x in doc["results"]}
        check("methods", sorted(by) == [(m, n) for m in ("logistic", "majority", "model") for n in (32, 64)], sorted(by))
        for n in (32, 64):
            check(f"windows of {n}", by["model", n]["n_windows"] == 2 * (420 // n), by["model", n]["n_windows"])
            check(f"model at {n}", by["model", n]["accuracy"] > 0.9, by["model", n]["accuracy"])
            check(f"4-mers at {n}", by["logistic", n]["accuracy"] == 1, by["logistic", n]["accuracy"])
            check(f"majority at {n}", by["majority", n]["accuracy"] == 0.5, by["majority", n]["accuracy"])
            check("sequences", by["model", n]["n_people"] == 2 and by["model", n]["accuracy_person"] == 1, by["model", n])
        seen.append([(k, x["accuracy"], round(x["log_loss"], 6)) for k, x in sorted(by.items())])
        with gzip.open(os.path.join(out, "windows.tsv.gz"), "rt") as f:
            rows = [dict(zip(HEAD, l.rstrip("\n").split("\t"))) for l in f][1:]
        check("windows.tsv", [(x["sample"], x["start"], x["end"]) for x in rows[:2]] == [("a3", "1", "32"), ("a3", "33", "64")], rows[:2])
    check("ranks agree", seen[0] == seen[1], seen)
    again = os.path.join(tmp, "again") # a classifier that is fine-tuned once more begins as it is
    r = run("finetune", config, "--from", run_, "-o", again, "-q", "--threads", "1", "--max-steps", "1", "finetune.lr=1.0e-9")
    check("fine-tuned once more", r.returncode == 0 and "stretched" not in r.stderr, r.stderr)
    r = run("evaluate", again, data, "-o", os.path.join(tmp, "e3"), "--context", "32,64", "--json", "--baselines", "none")
    done("evaluate of it", r)
    then = {x["context"]: x["log_loss"] for x in json.loads(r.stdout)["results"]}
    check("it begins as it is", all(abs(then[n] - by["model", n]["log_loss"]) < 1e-4 for n in (32, 64)), then)
    r = run("finetune", config, "--from", run_, "-o", again, "--force", "--max-steps", "1", "model.l_max=258")
    check("stretched filters are said", r.returncode == 0 and "stretched" in r.stderr, r.stderr)
    r = run("evaluate", pretrained, data, "-o", os.path.join(tmp, "lm"), "--context", "64", "--json", "--baselines", "majority")
    done("perplexity", r)
    p = json.loads(r.stdout)["perplexity"] if r.returncode == 0 else {}
    check("perplexity", 1 < p.get("autoregressive", 0) < 2.5 and 0 < p.get("targets", 0) < 2 * 6 * 63, p)
    hidden = os.path.join(tmp, "hidden")
    done("masked letters hidden", run("finetune", config, "--from", "none", "-o", hidden, "-q", "finetune.steps=2", "data.masked=n"))
    done("evaluate of it", run("evaluate", hidden, data, "-o", os.path.join(tmp, "e2"), "--context", "64", "--json", "--baselines", "majority"))
    refused("evaluate, too long", run("evaluate", run_, data, "-o", os.path.join(tmp, "e1"), "--context", "256"), 2, "130")
    refused("evaluate of people", run("evaluate", run_, DATA, "-o", os.path.join(tmp, "e1")), 3)
    refused("evaluate, regions", run("evaluate", run_, data, "-o", os.path.join(tmp, "e1"), "-r", "21:1-100"), 2, "genotypes")


def begins_even(tmp, config):
    """the pooled features that a head begins with have mean 0 and spread 1 over training windows"""
    rng, run_, table = random.Random(3), os.path.join(tmp, "even"), os.path.join(tmp, "even.h5")
    fasta, names, data = (os.path.join(tmp, f"two.{k}") for k in ("fa", "tsv", "h5"))
    open(fasta, "w").write("".join(f">{k}\n{''.join(rng.choice('ACGT' + k * 2) for _ in range(6400))}\n" for k in "AC"))
    open(names, "w").write("A\ta\ttrain\nC\tc\ttrain\n")
    done("two species", run("import", "-q", "-m", names, "-o", data, fasta))
    done("a step of nothing", run("finetune", config, "--from", "none", "-o", run_, "-q", "--threads", "1", "--max-steps", "1", "finetune.lr=1.0e-9", f"data.path={data}", "data.reverse_complement=false", "stages=[]"))
    done("its features", run("score", run_, fasta, "--window", "64", "--embeddings", table, "--pooled", "-o", os.path.join(tmp, "even.tsv")))
    try:
        import h5py
    except ImportError:
        return
    with h5py.File(table) as f:
        x = f["pooled"][:]
    check("mean 0", len(x) == 200 and abs(x.mean(0)).max() < 0.4, x.mean(0))
    check("spread 1", 0.4 < x.std(0).min() and x.std(0).max() < 1.4, x.std(0))


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
        alone, three = os.path.join(tmp, "finetune0", "whole"), os.path.join(tmp, "finetune3")
        done("fine-tuning on 3", run("finetune", config, "--from", "none", "-o", three, "-q", "--threads", "1", ranks=3))
        close("fine-tuning on three ranks", alone, three, 1e-5)
        long = os.path.join(tmp, "long")
        done("learning", run("pretrain", config, "-o", long, "-q", "--threads", "1", "train.steps=150", "data.reverse_complement=false"))
        valid = losses(long, "valid")
        check("learning", valid[max(valid)] < 0.6 * math.log(4), valid[max(valid)])
        fine = os.path.join(tmp, "fine")
        done("fine-tuning of it", run("finetune", config, "--from", long, "-o", fine, "-q", "--threads", "1"))
        judge(tmp, config, long)
        begins_even(tmp, config)
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
