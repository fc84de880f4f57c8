#!/usr/bin/env python3
"""labels: mpi
A pretrained nucleotide model judged by the next base, on a set without labels: loss, bits, accuracy, standard errors and
losses by the bases that were read are those that `score` gives for the same windows, on one rank and three."""
import gzip
import json
import math
import os
import random
import statistics
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from training import check, done, end, refused, run

try:
    import h5py
except ImportError:
    h5py = None
CONFIG = """\
seed: 1
data:       {path: set.h5, tokens: nucleotide, seq_len: 32}
model:      {d_model: 16, n_layer: 2, d_inner: 32, l_max: 130, filter_order: 16}
position:   {encoding: none}
optimizer:  {lr: 1.0e-2}
train:      {steps: 40, tokens_per_step: 640, eval_every: 0}
"""


def make(tmp):
    """valid sequences of one window of 64 each, some N; two of the table's parts lie in one sequence; nobody has a label"""
    rng = random.Random(2)
    text = lambda n: "".join(rng.choice("AACGT") for _ in range(n))
    valid = {f"v{i}": "".join(rng.choice("N" + b * 9) for b in text(64)) for i in range(9)}
    with open(os.path.join(tmp, "in.fa"), "w") as f, open(os.path.join(tmp, "map.tsv"), "w") as m, open(os.path.join(tmp, "valid.fa"), "w") as v:
        m.write("sequence\tsplit\n")
        f.write(f">t\n{text(3000)}\n>short\n{text(20)}\n>two\n{valid['v0']}{text(500)}{valid['v1']}\n")
        m.write("t\ttrain\nshort\tvalid\ntwo:1-64\tvalid\ntwo:565-628\tvalid\n")
        v.write(f">v0\n{valid['v0']}\n>v1\n{valid['v1']}\n")
        for k in list(valid)[2:]:
            f.write(f">{k}\n{valid[k]}\n")
            v.write(f">{k}\n{valid[k]}\n")
            m.write(f"{k}\tvalid\n")
    done("import", run("import", "-q", "-m", os.path.join(tmp, "map.tsv"), "-o", os.path.join(tmp, "set.h5"), os.path.join(tmp, "in.fa")))
    return valid


def near(what, got, wanted, within=2e-6):
    check(what, got is not None and abs(got - wanted) <= within * max(1, abs(wanted)), f"{got}, must be {wanted}")


def scored(tmp, model, valid):
    """-> {name: [(place, loss, right or None)]} by `score`"""
    table = os.path.join(tmp, "scores.tsv")
    more = ["--logits", os.path.join(tmp, "logits.h5")] if h5py else []
    r = run("score", model, os.path.join(tmp, "valid.fa"), "--per-position", "-o", table, "--force", *more)
    done("score", r)
    check("no classifier", "classifier" not in r.stderr, r.stderr)
    logits = None
    if h5py:
        with h5py.File(os.path.join(tmp, "logits.h5")) as f:
            logits = dict(zip(valid, f["logits"][:]))
    out = {k: [] for k in valid}
    for line in open(table).read().splitlines()[1:]:
        name, at, _, loglik = line.split("\t")[:4]
        at = int(at) - 1
        best = None if logits is None else "ACGT"[int(logits[name][at - 1, 7:11].argmax())]
        out[name].append((at, -float(loglik), None if best is None else best == valid[name][at]))
    return out


def judge(tmp, model, valid):
    wanted, seen = scored(tmp, model, valid), []
    for ranks in (0, 3):
        out = os.path.join(tmp, f"judged{ranks}")
        r = run("evaluate", model, os.path.join(tmp, "set.h5"), "-o", out, "--split", "valid", "--context", "64,32", "--json", ranks=ranks)
        done(f"evaluate on {ranks}", r)
        doc = json.loads(r.stdout)
        check("two contexts, no method", [b["context"] for b in doc["next_base"]] == [64, 32] and doc["results"] == [], doc["results"])
        b = doc["next_base"][0]
        seen.append(doc["next_base"])
        losses = [[l for _, l, _ in p] for p in wanted.values()]
        n, total = sum(map(len, losses)), sum(map(sum, losses))
        check("counts", (b["n_windows"], b["n_sequences"], b["n_blocks"], b["targets"]) == (9, 9, 9, n), b)
        near("loss", b["loss"], total / n)
        near("perplexity", b["perplexity"], math.exp(total / n))
        near("bits", b["bits_per_base"], total / n / math.log(2))
        off = [sum(l) - total / n * len(l) for l in losses]
        near("standard error", b["se_windows"], math.sqrt(9 / 8 * sum(x * x for x in off)) / n)
        near("of blocks", b["se_blocks"], b["se_windows"])
        check("standard error of a mean", 0.5 < b["se_windows"] / (statistics.stdev([sum(l) / len(l) for l in losses]) / 3) < 2, b)
        if h5py:
            near("accuracy", b["accuracy"], sum(x for p in wanted.values() for _, _, x in p) / n)
        check("bins", [(s["from"], s["to"]) for s in b["by_context"]] == [(1, 1), (2, 3), (4, 7), (8, 15), (16, 31), (32, 63)], b["by_context"])
        for s in b["by_context"]:
            some = [l for p in wanted.values() for at, l, _ in p if s["from"] <= at <= s["to"]]
            check(f"targets from {s['from']}", s["targets"] == len(some), s)
            near(f"loss from {s['from']}", s["loss"], sum(some) / len(some))
        check("windows of 32", doc["next_base"][1]["n_windows"] == 18 and doc["next_base"][1]["n_blocks"] == 9, doc["next_base"][1])
        near("perplexity of the training length", doc["perplexity"]["autoregressive"], doc["next_base"][1]["perplexity"])
        with gzip.open(os.path.join(out, "next_base.tsv.gz"), "rt") as f:
            rows = [l.rstrip("\n").split("\t") for l in f]
        check("next_base.tsv.gz", rows[0] == "sequence start end context block targets loglik right".split() and len(rows) == 28 and rows[2][:4] == ["two:565-628", "1", "64", "64"], rows[:3])
        near("a window", -float(rows[2][6]), sum(losses[1]), 1e-5)
    same = all(abs(x[k] - y[k]) <= 1e-6 for x, y in zip(*seen) for k in ("loss", "se_windows", "accuracy"))
    check("ranks agree", same, seen)


def main():
    with tempfile.TemporaryDirectory() as tmp:
        valid = make(tmp)
        config, model, data = os.path.join(tmp, "c.yaml"), os.path.join(tmp, "run"), os.path.join(tmp, "set.h5")
        open(config, "w").write(CONFIG)
        done("pretrain", run("pretrain", config, "-o", model, "-q", "--threads", "1"))
        judge(tmp, model, valid)
        r = run("evaluate", model, data, "-o", os.path.join(tmp, "text"), "--split", "valid", "--context", "32", "--baselines", "none")
        done("printed", r)
        check("printed", "the next base" in r.stdout and "16 to 31" in r.stdout and "baselines" not in r.stdout, r.stdout)
        refused("no window", run("evaluate", model, data, "-o", os.path.join(tmp, "no"), "--split", "test", "--context", "32"), 3, "--split")
        refused("labels are missing", run("evaluate", "none", data, "-o", os.path.join(tmp, "no"), "--split", "valid", "--context", "32"), 3, "label")
    end()


if __name__ == "__main__":
    main()
