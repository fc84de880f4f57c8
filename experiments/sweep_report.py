#!/usr/bin/env python3
"""Pictures and a table of a sweep, from its trials.tsv: DIR/table.md, and where they say something DIR/memory.png and
DIR/perplexity.png (against alpha), DIR/accuracy.png (against context), DIR/trials.png (one line a trial).

    sweep_report.py DIR [--no-pictures]

Every number is the one that the program wrote; trials that differ in their seed alone are one point, their mean, with the number of
seeds beside it. Intervals are the trials' own, by bootstrap over people. Needs matplotlib for the pictures.
"""
import argparse
import csv
import json
import math
import os
import sys

COLOURS = ["#b3362b", "#1f5f8b", "#6f8f3f", "#c9892f", "#9a7fb0", "#4a9c94", "#d0579a", "#8c5a2b", "#333333", "#8a8a8a"]
ROWS_STYLE = {"shared": "-", "chromosome": "-.", "site": "--", None: "-"}
NUMBERS = ["alpha", "seq_len", "seed", "params", "table_bytes", "peak_bytes", "step_ms", "perplexity", "perplexity_position", "accuracy", "ci_low", "ci_high", "touched_rows", "dense_bytes",
           "lookup", "lookup_position", "next_site", "n_people", "n_windows", "tokens"]


def fail(code, text):
    print(f"crocuta: error: {text}", file=sys.stderr)
    sys.exit(code)


def read(folder):
    path = os.path.join(folder, "trials.tsv")
    try:
        with open(path, encoding="utf-8") as f:
            rows = list(csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE))
    except OSError as why:
        fail(3, f"{path}: {why.strerror}; give the folder of a sweep")
    for row in rows:
        for key, text in row.items():
            row[key] = None if text in ("NA", None) else float(text) if key in NUMBERS else text
    return rows


def is_simulated(folder, rows):
    """Does an evaluation say that its people are simulated?"""
    for row in rows:
        path = os.path.join(folder, row["run"] or "", "evaluate", "evaluate.json")
        try:
            with open(path, encoding="utf-8") as f:
                return bool(json.load(f)["data"].get("simulated"))
        except (OSError, ValueError, KeyError):
            continue
    return False


def mean(values):
    kept = [v for v in values if v is not None]
    return sum(kept) / len(kept) if kept else None


def settings_of(folder):
    """{trial: what it was given}, from sweep.json"""
    try:
        with open(os.path.join(folder, "sweep.json"), encoding="utf-8") as f:
            return {t["name"]: t["settings"] for t in json.load(f)["trials"]}
    except (OSError, ValueError, KeyError):
        return {}


def points(folder, rows):
    """Done trials, those of several seeds as one: their mean."""
    settings, groups = settings_of(folder), {}
    for row in rows:
        if row["status"] == "done":
            own = tuple(sorted((k, v) for k, v in settings.get(row["trial"], {"": row["trial"]}).items() if k != "seed"))
            groups.setdefault(own, []).append(row)
    out = []
    for same in groups.values():
        one = dict(same[0], seeds=len(same))
        one.update({key: mean([r[key] for r in same]) for key in NUMBERS if key not in ("alpha", "seq_len", "seed")})
        out.append(one)
    return out


def label(row, others):
    """What tells a trial from the others in one picture"""
    name = "alpha 1 to 1000, summed" if row["encoding"] == "fpe-multi" else f"alpha {row['alpha']:.0f}" if row["alpha"] else row["encoding"] or row["trial"]
    parts = [name]
    if row["rows"] and len({r["rows"] for r in others}) > 1:
        parts.append(f"rows {row['rows']}")
    if row["mixer"] and len({r["mixer"] for r in others}) > 1:
        parts.append(row["mixer"])
    return ", ".join(parts) + (f" ({row['seeds']} seeds)" if row["seeds"] > 1 else "")


# ---- table ----


def cell(x, form):
    return "–" if x is None else form.format(x)


def size(x):
    if x is None:
        return "–"
    for unit, bytes_ in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if x >= bytes_:
            return f"{x / bytes_:.3g} {unit}"
    return f"{x:.0f} B"


def table(rows):
    lines = ["| trial | status | SNPs | next allele | look-up | next allele, position known | look-up | accuracy % | 95 % over people | windows | people | rows touched | their memory | "
             "the study's accounting | peak | step ms | tokens |", "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"]
    for r in rows:
        ci = "–" if r["ci_low"] is None else f"[{100 * r['ci_low']:.2f}, {100 * r['ci_high']:.2f}]"
        accuracy = None if r["accuracy"] is None else 100 * r["accuracy"]
        lines.append("| " + " | ".join([r["trial"], r["status"], cell(r["seq_len"], "{:.0f}"), cell(r["perplexity"], "{:.4f}"), cell(r["lookup"], "{:.4f}"), cell(r["perplexity_position"], "{:.4f}"),
                                        cell(r["lookup_position"], "{:.4f}"), cell(accuracy, "{:.2f}"), ci, cell(r["n_windows"], "{:,.0f}"), cell(r["n_people"], "{:,.0f}"),
                                        cell(r["touched_rows"], "{:,.0f}"), size(r["table_bytes"]), size(r["dense_bytes"]), size(r["peak_bytes"]), cell(r["step_ms"], "{:.1f}"),
                                        cell(r["tokens"], "{:,.0f}")]) + " |")
    failed = [f"* {r['trial']} failed: {r['reason']}" for r in rows if r["status"] == "failed"]
    return "\n".join(lines + [""] + failed) + "\n"


# ---- pictures ----


class Pictures:
    def __init__(self, folder, simulated):
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e6e6e6", "axes.axisbelow": True, "figure.dpi": 110})
        self.plt, self.folder, self.simulated = plt, folder, simulated

    def save(self, figure, name, title):
        if self.simulated:
            figure.text(0.5, 0.5, "SIMULATED", fontsize=38, color="#b3362b", alpha=0.13, ha="center", va="center", rotation=24, weight="bold")
            title = f"SIMULATED · {title}"
        figure.suptitle(title, x=0.01, ha="left", fontsize=10.5, weight="bold")
        figure.tight_layout()
        path = os.path.join(self.folder, name)
        figure.savefig(path + ".tmp", format="png", metadata={"Title": title, "Software": "crocuta sweep"})
        os.replace(path + ".tmp", path)
        self.plt.close(figure)

    def against_alpha(self, axis, rows, key, colour, name, style="-", marker="o"):
        """A line over alpha, one a kind of rows; a sum over several alpha is a level of its own."""
        kinds = sorted({(r["rows"], r["seq_len"]) for r in rows})
        several = len({n for _, n in kinds}) > 1
        for k, (kind, length) in enumerate(kinds):
            own = [r for r in rows if (r["rows"], r["seq_len"]) == (kind, length) and r[key] is not None]
            line = sorted((r["alpha"], r[key]) for r in own if r["alpha"])
            text = f"{name}{f', rows {kind}' if len({a for a, _ in kinds}) > 1 else ''}{f', {length:.0f} SNPs' if several else ''}"
            shade = dict(color=colour, alpha=1 - 0.5 * k / max(1, len(kinds)), ls=style if kind == "shared" or len(kinds) == 1 else "--")
            if line:
                axis.plot(*zip(*line), marker=marker, ms=4, lw=1.4, label=text, **shade)
            for r in own:
                if r["encoding"] == "fpe-multi":
                    axis.axhline(r[key], lw=1, dashes=(1, 2 + k), color=colour, alpha=shade["alpha"], label=f"{text}, summed over alpha")

    def legend(self, axis):
        handles, labels = axis.get_legend_handles_labels()
        once = dict(zip(labels, handles))
        axis.legend(once.values(), once.keys(), frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))

    def memory(self, rows):
        figure, axis = self.plt.subplots(figsize=(8.4, 3.8))
        shortest = min(r["seq_len"] for r in rows)
        rows = [r for r in rows if r["seq_len"] == shortest]
        scaled = [dict(r, mib=r["table_bytes"] / 2**20 if r["table_bytes"] else None, dense=r["dense_bytes"] / 2**20 if r["dense_bytes"] else None) for r in rows]
        self.against_alpha(axis, scaled, "mib", COLOURS[0], "touched rows")
        dense = [dict(r, rows="shared") for r in scaled]
        self.against_alpha(axis, dense, "dense", COLOURS[9], "dense p, g, m, v, as the study counts", marker="s")
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlabel("alpha (bp a row)")
        axis.set_ylabel("memory of position rows (MiB)")
        self.legend(axis)
        self.save(figure, "memory.png", f"Memory against alpha, trained on windows of {shortest:.0f} SNPs")

    def perplexity(self, rows):
        pairs = [(a, b, t) for a, b, t in (("perplexity", "lookup", "position of the next SNP hidden"), ("perplexity_position", "lookup_position", "position of the next SNP known"))
                 if any(r[a] is not None for r in rows)]
        figure, axes = self.plt.subplots(1, len(pairs), figsize=(4.6 * len(pairs) + 3, 3.9), squeeze=False)
        for axis, (own, look, title) in zip(axes[0], pairs):
            self.against_alpha(axis, rows, own, COLOURS[0], "model")
            self.against_alpha(axis, rows, look, COLOURS[1], "counting look-up", style=":", marker="x")
            axis.set_xscale("log")
            axis.set_title(title, fontsize=9)
            axis.set_xlabel("alpha (bp a row)")
            axis.set_ylabel("perplexity of the next allele")
        self.legend(axes[0][-1])
        self.save(figure, "perplexity.png", "Perplexity against alpha, held-out people")

    def accuracy(self, rows):
        figure, axis = self.plt.subplots(figsize=(8.2, 4.2))
        lines = {}
        for r in rows:
            lines.setdefault(label(r, rows), []).append(r)
        ticks = {}
        for k, (name, own) in enumerate(lines.items()):
            own.sort(key=lambda r: r["seq_len"])
            y = [100 * r["accuracy"] for r in own]
            low, high = ([abs(100 * r[c] - v) if r[c] is not None else 0 for r, v in zip(own, y)] for c in ("ci_low", "ci_high"))
            shift = 1 + 0.02 * (k - len(lines) / 2)
            axis.errorbar([r["seq_len"] * shift for r in own], y, yerr=[low, high], marker="o", ms=4, capsize=2.5, lw=1.3, color=COLOURS[k % len(COLOURS)], ls=ROWS_STYLE.get(own[0]["rows"], "-"), label=name)
            ticks.update({r["seq_len"]: f"{r['seq_len']:.0f}\n{r['n_windows']:,.0f} windows\n{r['n_people']:,.0f} people" for r in own})
        axis.set_xscale("log", base=2)
        axis.set_xticks(sorted(ticks), [ticks[n] for n in sorted(ticks)])
        axis.set_xlim(min(ticks) / 1.4, max(ticks) * 1.4)
        axis.minorticks_off()
        axis.set_xlabel("SNPs in a window, in training and evaluation")
        axis.set_ylabel("accuracy (%)")
        self.legend(axis)
        self.save(figure, "accuracy.png", "Accuracy against context, 95 % intervals over people")

    def trials(self, rows):
        key = "accuracy" if any(r["accuracy"] is not None for r in rows) else "perplexity"
        rows = [r for r in rows if r[key] is not None][:80]
        figure, axis = self.plt.subplots(figsize=(8.2, 1.4 + 0.22 * len(rows)))
        for k, r in enumerate(reversed(rows)):
            scale = 100 if key == "accuracy" else 1
            error = [[scale * (r[key] - r["ci_low"])], [scale * (r["ci_high"] - r[key])]] if key == "accuracy" and r["ci_low"] is not None else None
            axis.errorbar([scale * r[key]], [k], xerr=error, marker="o", ms=4, capsize=2.5, color=COLOURS[0], lw=1.2)
        axis.set_yticks(range(len(rows)), [r["trial"] + (f" ({r['seeds']} seeds)" if r["seeds"] > 1 else "") for r in reversed(rows)], fontsize=7)
        axis.set_xlabel("accuracy (%), 95 % over people" if key == "accuracy" else "perplexity of the next allele")
        self.save(figure, "trials.png", f"{len(rows)} trials")


def draw(folder, rows):
    have = points(folder, rows)
    alphas = [r for r in have if r["alpha"] or r["encoding"] == "fpe-multi"]
    paint = Pictures(folder, is_simulated(folder, rows))
    if len({r["alpha"] for r in alphas if r["alpha"]}) > 1:
        if any(r["table_bytes"] for r in alphas):
            paint.memory(alphas)
        if any(r["perplexity"] is not None or r["perplexity_position"] is not None for r in alphas):
            paint.perplexity(alphas)
    judged = [r for r in have if r["accuracy"] is not None and not math.isnan(r["accuracy"])]
    if len({r["seq_len"] for r in judged}) > 1:
        paint.accuracy(judged)
    if judged or any(r["perplexity"] is not None for r in have):
        paint.trials(have)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0], prog="sweep_report.py")
    p.add_argument("folder", metavar="DIR")
    p.add_argument("--no-pictures", action="store_true", help="the table alone")
    a = p.parse_args()
    rows = read(a.folder)
    path = os.path.join(a.folder, "table.md")
    try:
        with open(path + ".tmp", "w", encoding="utf-8") as f:
            f.write(table(rows))
        os.replace(path + ".tmp", path)
        if not a.no_pictures and any(r["status"] == "done" for r in rows):
            draw(a.folder, rows)
    except OSError as why:
        fail(4, f"{path}: {why.strerror}; make room, or look at the folder's permissions")
    except ImportError as why:
        fail(4, f"{sys.executable}: {why}; make the environment with ./launch/setup --python")
    return 0


if __name__ == "__main__":
    sys.exit(main())
