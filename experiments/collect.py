#!/usr/bin/env python3
"""Trials of experiments/trials.sh as one table: mean and interval over seeds of every variant and evaluation.

    collect.py OUT [-o OUT/table]

Reads OUT/VARIANT/seed-S/EVALUATION/evaluate.json and metrics.jsonl of the runs, in the order of OUT/rows.tsv; writes table.md and
table.csv and prints the first. Interval over seeds: Student's t, two-sided 95 %, of the seeds' accuracies; it says how far training
is left to chance, not how far another sample of people would differ: that is `people`, the mean of the seeds' own intervals by
bootstrap over people. `gain` is variant minus base on the same evaluation, seed by seed, with its interval over seeds.
"""
import argparse
import csv
import glob
import io
import json
import math
import os
import re
import sys

# Quantiles 0.975 of Student's t by degrees of freedom, 1 to 15; beyond, 2.13 falls to 1.96 and the former is kept.
T = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131]
COLUMNS = ["variant", "evaluation", "method", "context", "seeds", "accuracy", "seeds_low", "seeds_high", "people_low", "people_high", "gain", "gain_low", "gain_high", "balanced_accuracy",
           "log_loss", "ece", "accuracy_person", "n_people", "n_windows", "minutes", "tokens", "what"]


def fail(code, text):
    print(f"crocuta: error: {text}", file=sys.stderr)
    sys.exit(code)


def mean(values):
    kept = [v for v in values if v is not None]
    return sum(kept) / len(kept) if kept else None


def interval(values):
    """95 % of the mean over seeds; one seed has none"""
    n = len(values)
    if n < 2:
        return None, None
    m = sum(values) / n
    half = T[min(n - 2, len(T) - 1)] * math.sqrt(sum((v - m) ** 2 for v in values) / (n - 1) / n)
    return m - half, m + half


def training(folder):
    """(minutes, tokens) of the runs of one trial: a step that was done again after a resume counts once"""
    steps = {}
    for path in glob.glob(os.path.join(folder, "*", "metrics.jsonl")):
        with open(path, encoding="utf-8") as f:
            for line in f:
                try:
                    row = json.loads(line)
                except ValueError:
                    continue  # a line that is being written
                if row.get("split") == "train":
                    steps[(path, row["step"])] = (row.get("step_ms") or 0, row.get("tokens") or 0)
    return (sum(ms for ms, _ in steps.values()) / 60000, sum(tokens for _, tokens in steps.values())) if steps else (None, None)


def read_rows(out):
    """[(variant, evaluation, text)] in the script's order"""
    path = os.path.join(out, "rows.tsv")
    try:
        with open(path, encoding="utf-8") as f:
            return [tuple(line.rstrip("\n").split("\t")) for line in f]
    except OSError as why:
        fail(3, f"{path}: {why.strerror}; give the output folder of an ancestry script")


def read_trials(out, variant, evaluation):
    """{seed: (document, (minutes, tokens))}"""
    found = {}
    for path in glob.glob(os.path.join(out, variant, "seed-*", evaluation, "evaluate.json")):
        folder = os.path.dirname(os.path.dirname(path))
        seed = int(re.search(r"seed-(\d+)$", folder).group(1))
        try:
            with open(path, encoding="utf-8") as f:
                found[seed] = (json.load(f), training(folder))
        except ValueError:
            fail(3, f"{path}: not JSON; remove it and run the script again")
    return found


def results(trials, variant):
    """{(method, context): {seed: result}}: the model's, alone and with the pair, or every method's where there is no model"""
    by = {}
    for seed, (document, _) in trials.items():
        for r in document["results"]:
            if r["method"].startswith("model") != (variant == "simple"):
                by.setdefault((r["method"], r["context"]), {})[seed] = r
    return by


def table(out):
    rows, all_rows = [], read_rows(out)
    base = {e: results(read_trials(out, "base", e), "base") for e in {e for _, e, _ in all_rows}}
    for variant, evaluation, text in all_rows:
        trials = read_trials(out, variant, evaluation)
        for (method, context), of in sorted(results(trials, variant).items(), key=lambda item: item[0][1]):
            seeds = sorted(of)
            got = [of[s] for s in seeds]
            same = base[evaluation].get(("model", context), {})
            both = [s for s in seeds if s in same and variant not in ("base", "simple") and method == "model" and same[s]["n_windows"] == of[s]["n_windows"] and same[s]["n_people"] == of[s]["n_people"]
                    and len(same[s]["confusion"]) == len(of[s]["confusion"])]
            gains = [of[s]["accuracy"] - same[s]["accuracy"] for s in both]
            low, high = interval([r["accuracy"] for r in got])
            gain_low, gain_high = interval(gains)
            rows.append({"variant": variant, "evaluation": evaluation, "method": method, "context": context, "seeds": len(seeds), "accuracy": mean([r["accuracy"] for r in got]), "seeds_low": low,
                         "seeds_high": high, "people_low": mean([r["ci_people"][0] for r in got]), "people_high": mean([r["ci_people"][1] for r in got]), "gain": mean(gains), "gain_low": gain_low,
                         "gain_high": gain_high, **{k: mean([r[k] for r in got]) for k in ("balanced_accuracy", "log_loss", "ece", "accuracy_person")}, "n_people": got[0]["n_people"],
                         "n_windows": got[0]["n_windows"], "minutes": mean([trials[s][1][0] for s in seeds]), "tokens": mean([trials[s][1][1] for s in seeds]), "what": text})
    return rows


def percent(x, sign=""):
    return "–" if x is None else f"{100 * x:{sign}.2f}"


def bracket(low, high, sign=""):
    return "–" if low is None else f"[{100 * low:{sign}.2f}, {100 * high:{sign}.2f}]"


def confused(out, rows):
    """Lines on labels that are taken for each other, where there are many: shares of the seeds, mean"""
    lines = []
    for variant, evaluation in dict.fromkeys((r["variant"], r["evaluation"]) for r in rows if r["variant"] != "simple"):
        trials = read_trials(out, variant, evaluation)
        shares = {}
        for document, _ in trials.values():
            model = [r for r in document["results"] if r["method"] == "model"]
            if len(document["labels"]) > 3 and model:
                for p in min(model, key=lambda r: r["context"]).get("confused_pairs", []):
                    shares.setdefault((p["a"], p["b"]), []).append(p["share"])
        worst = sorted(((sum(s) / len(trials), pair) for pair, s in shares.items()), reverse=True)[:10]
        if worst:
            lines.append(f"\nTaken for each other most by {variant} (share of the windows of both, shortest context, %): "
                         + ", ".join(f"{a} and {b} {100 * s:.1f}" for s, (a, b) in worst) + ".")
    return lines


def markdown(out, rows):
    lines = ["| variant | what | SNPs | accuracy % | 95 % over seeds | 95 % over people | gain | log loss | ECE | people right % | windows | people | seeds | minutes | tokens |",
             "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"]
    for r in rows:
        name = r["method"] if r["variant"] == "simple" else r["variant"] + ("" if r["evaluation"] == "evaluate" else f" ({r['evaluation']})")
        if r["method"] not in ("model", name):
            name += " " + r["method"].removeprefix("model")
        gain = "–" if r["gain"] is None else f"{percent(r['gain'], '+')} {bracket(r['gain_low'], r['gain_high'], '+')}"
        lines.append("| " + " | ".join([name, r["what"], str(r["context"]), percent(r["accuracy"]), bracket(r["seeds_low"], r["seeds_high"]), bracket(r["people_low"], r["people_high"]), gain,
                                        f"{r['log_loss']:.3f}", f"{r['ece']:.3f}", percent(r["accuracy_person"]), f"{r['n_windows']:,}", f"{r['n_people']:,}", str(r["seeds"]),
                                        "–" if r["minutes"] is None else f"{r['minutes']:.1f}", "–" if r["tokens"] is None else f"{r['tokens']:,.0f}"]) + " |")
    return "\n".join(lines + confused(out, rows)) + "\n"


def write_whole(path, text):
    try:
        with open(path + ".tmp", "w", encoding="utf-8") as f:
            f.write(text)
        os.replace(path + ".tmp", path)
    except OSError as why:
        fail(4, f"{path}: {why.strerror}; write elsewhere with -o")


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("out", metavar="OUT")
    p.add_argument("-o", "--output", help="without ending (OUT/table)")
    a = p.parse_args()
    rows = table(a.out)
    if not rows:
        fail(3, f"{a.out}: no evaluation in it; run an ancestry script")
    output = a.output or os.path.join(a.out, "table")
    text = io.StringIO()
    w = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    w.writeheader()
    w.writerows({k: "" if v is None else v for k, v in r.items()} for r in rows)
    write_whole(output + ".csv", text.getvalue())
    write_whole(output + ".md", markdown(a.out, rows))
    print(markdown(a.out, rows), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
