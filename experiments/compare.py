#!/usr/bin/env python3
"""Evaluations of several models on the same windows of the same people, in one table.

    compare.py NAME=DIR... [--simulated]

DIR is what `crocuta evaluate MODEL DATA -o DIR` wrote. Simple methods are those of the last evaluation; its model is
compared with every other row, and with the other models window by window, people drawn again (needs numpy). Refuses
evaluations of other people or other windows.
"""
import argparse
import csv
import gzip
import json
import os
import sys

import numpy as np

ROUNDS, SEED = 1000, 1
WHERE = ("sample", "hap", "chrom", "start", "end", "n_snps")


def fail(code, text):
    print(f"crocuta: error: {text}", file=sys.stderr)
    sys.exit(code)


def read(path):
    """-> the document, and whether the model was right on each window {(sample, ..., n_snps): bool}"""
    try:
        with open(os.path.join(path, "evaluate.json"), encoding="utf-8") as f:
            document = json.load(f)
        with gzip.open(os.path.join(path, "windows.tsv.gz"), "rt") as f:
            right = {tuple(r[k] for k in WHERE): r["predicted"] == r["label"] for r in csv.DictReader(f, delimiter="\t")}
    except (OSError, ValueError, KeyError) as why:
        fail(3, f"{path}: not an evaluation ({why}); run crocuta evaluate again")
    return document, right


def rows_of(document):
    """{method: {context: result}} in the document's order"""
    rows = {}
    for r in document["results"]:
        rows.setdefault(r["method"], {})[r["context"]] = r
    return rows


def difference(a, b, context):
    """Accuracy of a minus that of b on their windows of one length: (difference, low, high), people drawn again."""
    windows = [w for w in a if int(w[-1]) == context]
    people = {name: k for k, name in enumerate(dict.fromkeys(w[0] for w in windows))}
    n, gain = np.zeros(len(people)), np.zeros(len(people))
    for w in windows:
        n[people[w[0]]] += 1
        gain[people[w[0]]] += int(a[w]) - int(b[w])
    draws = np.random.default_rng(SEED).integers(0, len(people), (ROUNDS, len(people)))
    low, high = np.percentile(gain[draws].sum(1) / n[draws].sum(1), (2.5, 97.5))
    return gain.sum() / n.sum(), *((low, high) if len(people) > 1 else (None, None))


def cell(value, low, high, sign=""):
    """In per cent, or points, with its interval; nothing to draw from has none."""
    return f"{100 * value:{sign}.2f} " + ("[one person]" if low is None else f"[{100 * low:{sign}.2f}, {100 * high:{sign}.2f}]")


def line(name, cells, width):
    return f"  {name:{width}}" + "".join(f"  {c:>24}" for c in cells)


def accuracy_lines(table, contexts, width):
    for name, rows in table.items():
        yield line(name, [cell(rows[n]["accuracy"], *rows[n]["ci_people"]) if n in rows else "-" for n in contexts], width)


def differences(judged, contexts):
    """{other row: {context: (difference, low, high)}} of the last model"""
    name, (document, right) = list(judged.items())[-1]
    told = {}
    for other, (_, others_right) in judged.items():
        if other != name:
            told[other] = {n: difference(right, others_right, n) for n in contexts}
    for p in document["paired"]:
        told.setdefault(p["b"], {})[p["context"]] = (p["difference"], *p["ci_people"])
    return told


def verdict(difference_, low, high):
    if low is None:
        return "undecided"
    return "better" if low > 0 else "LOST" if high < 0 else "no clear difference"


def verdict_lines(name, told, contexts):
    """One sentence a verdict: a loss is said as plainly as a win."""
    for what, words in (("better", "is better than"), ("no clear difference", "shows no clear difference from"), ("LOST", "LOST to"), ("undecided", "cannot be judged against")):
        found = []
        for other, rows in told.items():
            at = [n for n in contexts if n in rows and verdict(*rows[n]) == what]
            if at:
                found.append(other + ("" if len(at) == len(contexts) else f" (at {' and '.join(map(str, at))} SNPs)"))
        if found:
            yield f"  {name} {words} {', '.join(found)}"


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("evaluations", nargs="+", metavar="NAME=DIR")
    p.add_argument("--simulated", action="store_true")
    a = p.parse_args()
    judged = {}
    for e in a.evaluations:
        name, equals, path = e.partition("=")
        if not equals:
            fail(2, f"{e}: not NAME=DIR; give a name for the table")
        judged[name] = read(path)
    last, (document, right) = list(judged.items())[-1]
    for name, (other, others_right) in judged.items():
        if other["data"]["split_hash"] != document["data"]["split_hash"] or others_right.keys() != right.keys():
            fail(3, f"{name}: judged on other windows than {last}; evaluate both with the same --split and --context")
    simple = rows_of(document)
    simulated = a.simulated or document["data"].get("simulated")
    contexts = sorted({r["context"] for r in document["results"]})
    table = {m: rows for m, rows in simple.items() if m not in ("model", "model+pair")}
    table.update({name: rows_of(other).get("model", {}) for name, (other, _) in judged.items()})
    if "model+pair" in simple:
        table[f"{last} + pair"] = simple["model+pair"]
    width = max(map(len, table))
    n = {r["context"]: (r["n_windows"], r["n_people"]) for r in document["results"]}
    print(("SIMULATED people: a" if simulated else "A") + f"ccuracy on windows of {document['split']} people, % [95 % over people]")
    print(line("", [f"{k} SNPs" for k in contexts], width))
    print(line("windows (people)", [f"{n[k][0]:,} ({n[k][1]})" for k in contexts], width))
    print("\n".join(accuracy_lines(table, contexts, width)))
    told = differences(judged, contexts)
    told = {m: told[m] for m in table if m in told}
    print(f"\n{last} against each, on the same windows, points [95 % over people]")
    for other, rows in told.items():
        print(line(other, [cell(*rows[k], "+") if k in rows else "-" for k in contexts], width))
    print()
    print("\n".join(verdict_lines(last, told, contexts)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
