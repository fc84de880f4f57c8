#!/usr/bin/env python3
"""What experiments/mammals-length.sh found, as tables: losses of the next base by context beside Markov models, and species
from windows by length beside 4-mers.

    mammals_table.py OUT [--picture PNG]

Differences between contexts are paired on the same stretches of 98,304 bases, which windows of every context divide; their standard
error is over these. Species: intervals are those of evaluate.json over stretches of 100 kb; `pieces` are the longer windows judged by
a classifier of shorter ones, log-probabilities of its windows summed. `finetuned`: each length from the classifier of the one before, all
with filters for the longest; `own`: with filters for its own length. Needs no package; the picture (the test locus alone) matplotlib."""
import argparse
import collections
import glob
import gzip
import json
import math
import os
import sys

STRETCH = 98304


def load(path):
    with open(path) as f:
        return json.load(f)


def number_of(folder):
    return int(os.path.basename(folder).rsplit("-", 1)[1])


def stretches(path):
    """{(sequence, stretch): [loss, targets]}"""
    out = collections.defaultdict(lambda: [0.0, 0.0])
    with gzip.open(path, "rt") as f:
        names = f.readline().rstrip("\n").split("\t")
        for line in f:
            row = dict(zip(names, line.rstrip("\n").split("\t")))
            group = out[row["sequence"], (int(row["start"]) - 1) // STRETCH]
            group[0] -= float(row["loglik"])
            group[1] += float(row["targets"])
    return out


def difference(a, b):
    """loss of a minus that of b, and its standard error over stretches"""
    both = [k for k in a if k in b and a[k][1] and b[k][1]]
    weight = [(a[k][1] + b[k][1]) / 2 for k in both]
    apart = [a[k][0] / a[k][1] - b[k][0] / b[k][1] for k in both]
    mean = sum(w * x for w, x in zip(weight, apart)) / sum(weight)
    if len(both) < 2:
        return mean, math.nan
    return mean, math.sqrt(len(both) / (len(both) - 1) * sum((w * (x - mean)) ** 2 for w, x in zip(weight, apart))) / sum(weight)


def finished(out, kind):
    """folders of runs that were judged, by length"""
    return sorted((f for f in glob.glob(os.path.join(out, kind)) if os.path.exists(os.path.join(f, "done"))), key=number_of)


def kind_of(folder):
    return os.path.basename(folder).split("-")[0]


def bases(out):
    runs = finished(out, "context-*")
    rows, first = [], {}
    for run in runs:
        row = [f"model, context {number_of(run):,}"]
        for split in ("valid", "test"):
            b = load(os.path.join(run, split, "evaluate.json"))["next_base"][0]
            mine = stretches(os.path.join(run, split, "next_base.tsv.gz"))
            gain = "" if split not in first else "{:+.4f} ({:.4f})".format(*difference(mine, first[split]))
            first.setdefault(split, mine)
            row += [f"{b['loss']:.4f} ({b['se_blocks'] or math.nan:.4f})", f"{b['bits_per_base']:.4f}", f"{100 * b['accuracy']:.2f}", gain]
        rows.append(row)
    markov = os.path.join(out, "markov.json")
    if os.path.exists(markov):
        m = load(markov)
        for o in m["orders"]:
            row = [f"Markov, order {o['order']}" + (" *" if o["order"] == m["chosen"] else "")]
            for split in ("valid", "test"):
                row += [f"{o[split]['loss']:.4f} ({o[split]['se_blocks'] or math.nan:.4f})", f"{o[split]['bits_per_base']:.4f}", f"{100 * o[split]['accuracy']:.2f}", ""]
            rows.append(row)
    head = ["", "valid, nats (se)", "bits", "right, %", "minus the shortest (se)", "test, nats (se)", "bits", "right, %", "minus the shortest (se)"]
    table(head, rows)
    if runs:
        by = [load(os.path.join(r, "test", "evaluate.json"))["next_base"][0]["by_context"] for r in runs]
        print("\nLoss on the test locus by bases of the window that were read, nats (se over windows):\n")
        longest = max(by, key=len)
        table(["bases read"] + [f"context {number_of(r):,}" for r in runs],
              [[f"{s['from']:,} to {s['to']:,}"] + [f"{b[i]['loss']:.4f} ({b[i]['se_windows']:.4f})" if i < len(b) else "" for b in by] for i, s in enumerate(longest)])


def pieces(path, length):
    """accuracy of windows of `length` by the sum of log-probabilities of the shorter ones in them -> (accuracy, windows)"""
    sums = {}
    with gzip.open(path, "rt") as f:
        names = f.readline().rstrip("\n").split("\t")
        labels = [n for n in names if n.startswith("p_")]
        for line in f:
            row = dict(zip(names, line.rstrip("\n").split("\t")))
            if row["method"] != "model":
                continue
            p = sums.setdefault((row["sample"], (int(row["start"]) - 1) // length), [row["label"], [0.0] * len(labels)])[1]
            for i, name in enumerate(labels):
                p[i] += math.log(max(float(row[name]), 1e-12))
    right = sum("p_" + label == labels[p.index(max(p))] for label, p in sums.values())
    return right / len(sums), len(sums)


def species(out):
    runs, rows = finished(out, "finetuned-*") + finished(out, "own-*"), []
    for run in runs:
        n = number_of(run)
        for split in ("valid", "test"):
            doc = load(os.path.join(run, split, "evaluate.json"))
            for r in doc["results"]:
                name = {"logistic": "4-mers, logistic regression", "model": f"model, {kind_of(run)}"}.get(r["method"], r["method"])
                low, high = r["ci_blocks"]
                rows.append([f"{n:,}", split, name, f"{100 * r['accuracy']:.1f} [{100 * low:.1f}, {100 * high:.1f}]", f"{r['log_loss']:.3f}", f"{r['n_windows']:,}", f"{r['n_people']}"])
            for p in doc["paired"]:
                if p["b"] == "logistic":
                    low, high = p["ci_blocks"]
                    rows.append([f"{n:,}", split, f"model, {kind_of(run)}, minus 4-mers, paired", f"{100 * p['difference']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]", "", f"{p['n_windows']:,}", f"{p['n_people']}"])
            for shorter in runs if kind_of(run) == "finetuned" else []:
                if number_of(shorter) < n:
                    accuracy, windows = pieces(os.path.join(shorter, split, "windows.tsv.gz"), n)
                    rows.append([f"{n:,}", split, f"model of {number_of(shorter):,}, {kind_of(shorter)}, pieces", f"{100 * accuracy:.1f}", "", f"{windows:,}", ""])
    if rows:
        print("\nSpecies:\n")
        table(["bases", "split", "method", "accuracy, % (95 % over stretches)", "log loss", "windows", "sequences"], rows)


def draw_bases(axis, out):
    """Loss on the test locus against context, and counting beside it."""
    runs = finished(out, "context-*")
    found = [load(os.path.join(r, "test", "evaluate.json"))["next_base"][0] for r in runs]
    axis.errorbar([number_of(r) for r in runs], [b["loss"] for b in found], [b["se_blocks"] or 0 for b in found], fmt="o-", color="#1f5f8b", capsize=3, label="model")
    markov = os.path.join(out, "markov.json")
    for o in load(markov)["orders"] if os.path.exists(markov) else []:
        if o["order"] in (1, 4, 6, 8, 10, 12):
            axis.axhline(o["test"]["loss"], color="#8a8a8a", linewidth=0.8)
            axis.annotate(f"Markov, order {o['order']}", (1, o["test"]["loss"]), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=7, color="#555555")
    axis.set_ylabel("nats a base, test locus")
    axis.set_xlabel("context, bases")


def draw_species(axis, out):
    """Accuracy against the length that is judged: length by length, 4-mers, and windows of the shortest summed."""
    runs, own, lines = finished(out, "finetuned-*"), finished(out, "own-*"), collections.defaultdict(list)
    names = {"model": "model, length by length", "logistic": "4-mers, logistic regression"}
    for run in runs:
        for r in load(os.path.join(run, "test", "evaluate.json"))["results"]:
            if r["method"] in names:
                lines[names[r["method"]]].append((number_of(run), r["accuracy"], *r["ci_blocks"]))
        for shortest in own[:1]:
            accuracy, _ = pieces(os.path.join(shortest, "test", "windows.tsv.gz"), number_of(run))
            lines[f"model of {number_of(shortest):,}, summed"].append((number_of(run), accuracy, accuracy, accuracy))
    colours = {names["model"]: "#1f5f8b", names["logistic"]: "#8a8a8a"}
    for name, points in lines.items():
        at, middle, low, high = zip(*points)
        apart = [[100 * max(y - l, 0) for y, l in zip(middle, low)], [100 * max(h - y, 0) for y, h in zip(middle, high)]]
        axis.errorbar(at, [100 * y for y in middle], apart, fmt="o-", color=colours.get(name, "#b3362b"), capsize=3, label=name)
    axis.set_ylabel("species right, %, test locus")
    axis.set_xlabel("bases of a window")
    axis.set_ylim(0, 100)


def draw(out, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.8))
    draw_bases(axes[0], out)
    draw_species(axes[1], out)
    for axis in axes:
        axis.set_xscale("log", base=2)
        axis.grid(alpha=0.25)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def table(head, rows):
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for r in rows:
        print("| " + " | ".join(r) + " |")


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("out")
    p.add_argument("--picture")
    a = p.parse_args()
    if not os.path.isdir(a.out):
        print(f"crocuta: error: {a.out}: there is no such folder; give the one that mammals-length.sh wrote", file=sys.stderr)
        sys.exit(2)
    bases(a.out)
    species(a.out)
    if a.picture:
        draw(a.out, a.picture)
