#!/usr/bin/env python3
"""labels: mpi
Scores: a run of ours on FASTA agrees with its own logits, in whole and in pieces, on one rank and three; the published weights
with their golden values (where the shared data and h5py are there); what cannot be scored is refused in one line."""
import gzip
import json
import math
import os
import random
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from training import CONFIG as SNP
from training import SOURCE, check, done, end, refused, run

try:
    import h5py
    import numpy as np
except ImportError:
    h5py = None

SHARED = os.environ.get("CROCUTA_SHARED") or os.path.join(SOURCE, "..", "shared")
GOLDEN = os.path.join(SHARED, "reference", "golden")
CONFIG = """\
data:       {path: set.h5, tokens: nucleotide, seq_len: 64}
model:      {d_model: 16, n_layer: 2, d_inner: 32, l_max: 130, filter_order: 16}
position:   {encoding: none}
train:      {steps: 3, tokens_per_step: 640, eval_every: 0}
checkpoint: {every_minutes: 0}
"""
HEAD = "name start end n_tokens loglik perplexity".split()
LETTER = dict(zip("ACGTN", range(7, 12)))


def table(text):
    rows = [l.split("\t") for l in text.splitlines()]
    return rows[0], [dict(zip(rows[0], r)) for r in rows[1:]]


def score(what, *args, ranks=0):
    r = run("score", *args, ranks=ranks)
    done(what, r)
    head, rows = table(r.stdout)
    check(what, r.returncode != 0 or head == HEAD, head)
    return rows


def close(a, b):
    """the same line, to rounding: threads of a rank differ"""
    return all(a[k] == b[k] for k in HEAD[:4]) and abs(float(a["loglik"]) - float(b["loglik"])) <= 1e-5 * abs(float(b["loglik"]))


def make(tmp):
    """a text of repeated words with N and lower case, longer than l_max, and short and empty ones"""
    rng = random.Random(1)
    letters = {"long": 300, "even": 131, "short": 40, "one": 1, "none": 0}
    text = {k: "".join(rng.choice("ACGTACGTNacgt") for _ in range(n)) for k, n in letters.items()}
    fasta = os.path.join(tmp, "in.fa")
    with open(fasta, "w") as f:
        for k, s in text.items():
            f.write(f">{k} described\n" + "".join(s[i:i + 60] + "\n" for i in range(0, len(s), 60)))
    with gzip.open(fasta + ".gz", "wt") as f:
        f.write(open(fasta).read())
    done("import", run("import", "-q", "-o", os.path.join(tmp, "set.h5"), fasta))
    config = os.path.join(tmp, "c.yaml")
    open(config, "w").write(CONFIG)
    done("pretrain", run("pretrain", config, "-o", os.path.join(tmp, "run"), "-q", "--threads", "1"))
    return fasta, text


def tables(model, fasta, text, tmp):
    """every base but a sequence's first is a target once, N and the rest never; other ways to the same table"""
    rows = score("table", model, fasta)
    ends = [(r["name"], int(r["start"]), int(r["end"])) for r in rows]
    check("pieces", ends == [("long", 1, 130), ("long", 131, 260), ("long", 261, 300), ("even", 1, 130), ("even", 131, 131), ("short", 1, 40), ("one", 1, 1)], ends)
    for k, s in text.items():
        n = sum(int(r["n_tokens"]) for r in rows if r["name"] == k)
        check(f"targets of {k}", n == sum(x in "ACGTacgt" for x in s[1:]), n)
    for r in rows:
        n, l = int(r["n_tokens"]), float(r["loglik"])
        p = "NA" if n == 0 else math.exp(-l / n)
        check("perplexity", r["perplexity"] == p or abs(float(r["perplexity"]) / p - 1) < 1e-5, r)
    check("gzip", score("gzip", model, fasta + ".gz") == rows)
    three = score("three ranks", model, fasta, ranks=3)
    check("three ranks", len(three) == len(rows) and all(close(a, b) for a, b in zip(three, rows)), (three, rows))
    r = run("score", model, fasta, "--json", "-o", os.path.join(tmp, "t.tsv"))
    done("json", r)
    doc = json.loads(r.stdout)
    check("json", doc["schema"] == "crocuta/score/1" and [f"{x['loglik']:.6f}" for x in doc["sequences"]] == [x["loglik"] for x in rows], doc)
    check("-o", table(open(os.path.join(tmp, "t.tsv")).read())[1] == rows)
    check("warning", "none" in r.stderr and "empty" in r.stderr, r.stderr)
    r = run("score", model, fasta, "--per-position")
    done("positions", r)
    head, at = table(r.stdout)
    check("positions", head == "name pos token loglik".split(), head)
    check("letters", all(x["token"] == text[x["name"]][int(x["pos"]) - 1].upper() for x in at) and len(at) == sum(int(x["n_tokens"]) for x in rows), at[:3])
    check("sum", abs(sum(float(x["loglik"]) for x in at) - sum(float(x["loglik"]) for x in rows)) < 1e-3)
    # what stands before a token is what its likelihood depends on: the first 64 bases say the same in either
    short = os.path.join(tmp, "head.fa")
    open(short, "w").write(f">long\n{text['long'][:64]}\n")
    alone = table(run("score", model, short, "--per-position").stdout)[1]
    check("causal", len(alone) > 30 and all(abs(float(a["loglik"]) - float(b["loglik"])) < 1e-5 for a, b in zip(alone, at)), alone[:2])
    check("window", [r["start"] for r in score("window", model, fasta, "--window", "100") if r["name"] == "long"] == ["1", "101", "201"])


def tensors(model, fasta, text, tmp, rows):
    x, y, z = (os.path.join(tmp, n) for n in ("l.h5", "e.h5", "p.h5"))
    done("logits", run("score", model, fasta, "--logits", x, "--embeddings", y))
    done("pooled", run("score", model, fasta, "--embeddings", z, "--pooled", ranks=3))
    with h5py.File(x) as l, h5py.File(y) as e, h5py.File(z) as p:
        check("shapes", (l["logits"].shape, e["hidden"].shape, p["pooled"].shape) == ((7, 130, 16), (7, 130, 16), (7, 16)), l["logits"].shape)
        for i, r in enumerate(rows):
            n, at = int(l["length"][i]), int(l["start"][i]) - 1
            s, a = text[r["name"]].upper(), l["logits"][i].astype(float)
            check("rows", l["name"][i] == r["name"].encode() and (at + 1, at + n) == (int(r["start"]), int(r["end"])), r)
            own = sum(a[t, LETTER[s[at + t + 1]]] - np.log(np.exp(a[t]).sum()) for t in range(n) if at + t + 1 < len(s) and s[at + t + 1] != "N")
            check("logits", abs(own - float(r["loglik"])) < 1e-3, (own, r))
            check("behind the end", np.isnan(a[n:]).all() and not np.isnan(a[:n]).any(), i)
            check("pooled", np.allclose(p["pooled"][i], e["hidden"][i][:n].mean(0), atol=1e-5), i)


def golden(tmp):
    for name in ("hyenadna-d32-n2-l128", "hyenadna-tiny-1k"):
        model, batch = (os.path.join(GOLDEN, name + x) for x in (".safetensors", ".golden.h5"))
        x, y, ids = (os.path.join(tmp, name + n) for n in (".l.h5", ".e.h5", ".ids.h5"))
        rows = score(name, model, batch, "--logits", x, "--embeddings", y)
        with h5py.File(batch) as g, h5py.File(x) as l, h5py.File(y) as e, h5py.File(ids, "w") as w:
            for a, b in ((l["logits"][:], g["logits"][:]), (e["hidden"][:], g["hidden"][:])):
                check(name, a.shape == b.shape and np.linalg.norm(a - b) < 2e-5 * np.linalg.norm(b), np.linalg.norm(a - b) / np.linalg.norm(b))
            mean = -sum(float(r["loglik"]) for r in rows) / sum(int(r["n_tokens"]) for r in rows)
            check(name, abs(mean / g["loss"][()] - 1) < 1e-5, (mean, g["loss"][()]))
            w["input_ids"] = g["input_ids"][:]
            shape, z = g["input_ids"].shape, g["logits"][:].astype(float)
            z -= np.log(np.exp(z).sum(-1, keepdims=True))
            want = [z[i, np.arange(shape[1] - 1), g["input_ids"][i, 1:]].sum() for i in range(shape[0])]
        rows = score("ids alone", model, ids)
        check("ids alone", np.allclose([float(r["loglik"]) for r in rows], want, rtol=1e-5) and all(int(r["n_tokens"]) == shape[1] - 1 for r in rows), rows)


def snps(tmp):
    """a model that reads positions: its tokens have them, and the mean is that of `trace`"""
    model, batch, out = (os.path.join(tmp, n) for n in ("snp", "snp.h5", "snp.trace.h5"))
    rng = np.random.default_rng(1)
    with h5py.File(batch, "w") as w:
        w["input_ids"], w["target_ids"] = rng.integers(7, 11, (2, 50)), rng.integers(7, 11, (2, 50))
        w["position"], w["chromosome"] = np.cumsum(rng.integers(1, 900, (2, 50)), axis=1), [0, 0]
    rows = score("SNPs with positions", model, batch)
    done("trace", run("trace", model, batch, "-o", out))
    with h5py.File(out) as t:
        mean = -sum(float(r["loglik"]) for r in rows) / 100
        check("as trace", abs(mean / t["loss"][()] - 1) < 1e-5, (mean, t["loss"][()]))
    with h5py.File(batch, "a") as w:
        del w["position"]
    refused("without positions", run("score", model, batch), 2, "/position")


def refusals(tmp, model, fasta):
    refused("window", run("score", model, fasta, "--window", "131"), 2, "l_max", "130")
    refused("memory", run("score", model, fasta, "--device-memory", "100k"), 4, "130 tokens", "GiB", "--window")
    refused("memory on 3", run("score", model, fasta, "--device-memory", "100k", ranks=3), 4, "GiB")
    refused("no file", run("score", model, os.path.join(tmp, "nothing.fa")), 3, "nothing.fa")
    refused("a data set", run("score", model, os.path.join(tmp, "set.h5")), 3, "input_ids")
    refused("no FASTA", run("score", model, os.path.join(tmp, "c.yaml")), 3, "header")
    refused("pooled alone", run("score", model, fasta, "--pooled"), 2, "--embeddings")
    refused("one place for two", run("score", model, fasta, "--logits", "x.h5", "--embeddings", "x.h5"), 2, "x.h5")
    refused("over its input", run("score", model, fasta, "-o", fasta, "--force"), 2, "input")
    kept = os.path.join(tmp, "kept.tsv")
    open(kept, "w").write("mine")
    refused("there already", run("score", model, fasta, "-o", kept), 2, "--force")
    bad = os.path.join(tmp, "bad.fa")
    open(bad, "w").write(">a\nACGTACGT\n>b\nACGT*\n")
    for more in (["-o", os.path.join(tmp, "bad.tsv")], ["--logits", os.path.join(tmp, "bad.h5")]):
        refused("damaged", run("score", model, bad, *more), 3, "bad.fa:4")
        check("nothing is left", not [n for n in os.listdir(tmp) if n.startswith(("bad.tsv", "bad.h5"))], os.listdir(tmp))
    snp = os.path.join(tmp, "snp.yaml")
    open(snp, "w").write(SNP)
    done("a run of SNPs", run("pretrain", snp, "-o", os.path.join(tmp, "snp"), "-q", "train.steps=1", "train.eval_every=0"))
    refused("SNPs on FASTA", run("score", os.path.join(tmp, "snp"), fasta), 2, "SNPs", "/position")


def main():
    with tempfile.TemporaryDirectory() as tmp:
        fasta, text = make(tmp)
        model = os.path.join(tmp, "run")
        tables(model, fasta, text, tmp)
        refusals(tmp, model, fasta)
        if not h5py:
            print("without h5py: logits, embeddings and golden values were not looked at (./launch/setup --python)")
        else:
            tensors(model, fasta, text, tmp, score("again", model, fasta))
            snps(tmp)
            if os.path.isdir(GOLDEN):
                golden(tmp)
    end()


if __name__ == "__main__":
    main()
