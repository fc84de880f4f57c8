#!/usr/bin/env python3
"""Tables and pictures from run and evaluation directories: one self-contained page, a CSV, or TensorBoard events.

    report.py DIR... [--format html|csv|tensorboard] [--simulated] -o OUT

A run directory holds metrics.jsonl, an evaluation evaluate.json; an `evaluate` folder inside a run is found by itself. Nothing
is computed anew here but means for display: every number with its n is the one that the program wrote.
`--simulated` (or a data set that says so) puts the word SIMULATED into every picture. Needs numpy and matplotlib (html).
"""
import argparse
import base64
import csv
import html
import io
import json
import math
import os
import struct
import sys

# One colour a method, the same in every picture: the model stands out, simple methods are quiet.
COLOURS = {"model": "#b3362b", "logistic": "#1f5f8b", "nb-absent": "#6f8f3f", "nb": "#a7b86b", "density": "#9a7fb0",
           "majority": "#8a8a8a", "ngram": "#c9892f", "pair": "#4a9c94", "haplotype": "#2e6f69", "li-stephens": "#333333", "model+pair": "#7a1f4b"}
MARKERS = {"model": "o", "logistic": "s", "nb-absent": "^", "nb": "v", "density": "D", "majority": "x", "ngram": "P", "pair": "X", "model+pair": "*"}
MODELS = ["#b3362b", "#e08a6d", "#8c5a2b", "#d0579a"]  # several models in one picture: the last directory's is the first of these


def fail(code, text):
    print(f"crocuta: error: {text}", file=sys.stderr)
    sys.exit(code)


def read_jsonl(path):
    """Lines as objects; a cut last line (a run that is being written) is left out."""
    rows = []
    with open(path, encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            try:
                rows.append(json.loads(line))
            except ValueError:
                if line.endswith("\n"):
                    fail(3, f"{path}:{number}: not a JSON line; the file is damaged")
    return rows


def last_of_step(rows, split):
    """After a resume a step may stand there twice: the last one counts."""
    kept = {r["step"]: r for r in rows if r.get("split") == split}
    return [kept[k] for k in sorted(kept)]


def read_directory(path):
    """-> (runs, evaluations) of one directory"""
    runs, evaluations = [], []
    if not os.path.isdir(path):
        fail(3, f"{path}: no such directory; give run or evaluation directories")
    metrics = os.path.join(path, "metrics.jsonl")
    if os.path.exists(metrics):
        rows = read_jsonl(metrics)
        runs.append({"name": path, "train": last_of_step(rows, "train"), "valid": last_of_step(rows, "valid")})
    for candidate in (os.path.join(path, "evaluate.json"), os.path.join(path, "evaluate", "evaluate.json")):
        if os.path.exists(candidate):
            try:
                with open(candidate, encoding="utf-8") as f:
                    document = json.load(f)
                if document.get("schema") != "crocuta/evaluate/1":
                    raise ValueError("another schema")
            except ValueError as why:
                fail(3, f"{candidate}: not an evaluation ({why}); run crocuta evaluate again")
            evaluations.append({"name": os.path.dirname(candidate), "document": document})
    return runs, evaluations


def is_simulated(evaluations, flag):
    return flag or any(e["document"].get("data", {}).get("simulated") for e in evaluations)


# ---- pictures ----


class Pictures:
    def __init__(self, simulated):
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
                             "grid.color": "#e6e6e6", "axes.axisbelow": True, "figure.dpi": 110, "svg.fonttype": "none"})
        self.plt, self.simulated = plt, simulated

    def png(self, figure, title):
        """The picture as a data URI; simulated data say so in the picture itself, so that it cannot be cut off."""
        if self.simulated:
            figure.text(0.5, 0.5, "SIMULATED", fontsize=38, color="#b3362b", alpha=0.13, ha="center", va="center", rotation=24, weight="bold")
            title = f"SIMULATED · {title}"
        figure.suptitle(title, x=0.01, ha="left", fontsize=10.5, weight="bold")
        figure.tight_layout()
        out = io.BytesIO()
        figure.savefig(out, format="png", metadata={"Title": title, "Software": "crocuta report"})
        self.plt.close(figure)
        return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()

    def loss(self, run):
        figure, axis = self.plt.subplots(figsize=(6.4, 3.4))
        train, valid = ([(r["step"], r["loss"]) for r in run[k] if r.get("loss") is not None] for k in ("train", "valid"))
        if train:
            step, loss = zip(*train)
            axis.plot(step, loss, color="#c8c8c8", lw=0.8, label="training, each step")
            axis.plot(*smooth(step, loss), color="#444444", lw=1.4, label="training, running mean")
        if valid:
            axis.plot(*zip(*valid), color=COLOURS["model"], marker="o", ms=3.5, lw=1.2, label="validation people")
        look = [r["lookup_perplexity"] for r in run["valid"] + run["train"] if r.get("lookup_perplexity")]
        if look:
            axis.axhline(math.log(look[-1]), color=COLOURS["logistic"], ls="--", lw=1.2, label=f"counting look-up (perplexity {look[-1]:.3f})")
        axis.set_xlabel("step")
        axis.set_ylabel("loss (nats)")
        axis.legend(frameon=False, fontsize=8)
        return self.png(figure, f"Loss of {os.path.basename(run['name'].rstrip('/'))}")

    def accuracy(self, documents):
        figure, axis = self.plt.subplots(figsize=(7.8, 4.4))
        methods, own = {}, {}
        for source, document in documents:
            for r in document["results"]:
                several = r["method"].startswith("model") and len(documents) > 1
                name = f"{r['method']} {source}" if several else r["method"]
                methods.setdefault((r["method"], name), {})[r["context"]] = r
                if r["method"] == "model":
                    own.setdefault(name, None)
        own = {name: MODELS[k % len(MODELS)] for k, name in enumerate(reversed(own))}
        ticks = sorted({n for rows in methods.values() for n in rows})
        shift = {key: 1 + 0.012 * (k - len(methods) / 2) for k, key in enumerate(methods)}
        for (method, name), rows in methods.items():
            at = sorted(rows)
            y = [100 * rows[n]["accuracy"] for n in at]
            low, high = ([100 * rows[n]["ci_people"][k] if rows[n]["ci_people"][k] is not None else 100 * rows[n]["accuracy"] for n in at] for k in (0, 1))
            axis.errorbar([n * shift[(method, name)] for n in at], y, yerr=[[a - b for a, b in zip(y, low)], [b - a for a, b in zip(y, high)]],
                          color=own.get(name, COLOURS.get(method, "#777777")), marker=MARKERS.get(method, "o"), ms=4.5, capsize=2.5,
                          lw=2 if method == "model" else 1.2, label=name, zorder=3 if method == "model" else 2)
        axis.set_xscale("log", base=2)
        n = {r["context"]: f"{r['context']}\n{r['n_windows']:,} windows\n{r['n_people']:,} people" for _, d in documents for r in d["results"]}
        axis.set_xticks(ticks, [n[k] for k in ticks])
        axis.set_xlim(ticks[0] / 1.25, ticks[-1] * 1.25)
        axis.minorticks_off()
        axis.set_xlabel("SNPs in a window")
        # By the logarithm of the errors: 98 and 99 % are as far apart as 80 and 90 %.
        import numpy as np
        axis.set_yscale("function", functions=(lambda a: -np.log10(np.maximum(100 - np.asarray(a), 0.05)), lambda x: 100 - 10.0 ** -np.asarray(x)))
        floor = min(100 * r["ci_people"][0] if r["ci_people"][0] is not None else 100 * r["accuracy"] for rows in methods.values() for r in rows.values())
        axis.set_ylim(max(0, floor - 5), 99.97)
        marks = [t for t in (0, 30, 50, 70, 80, 90, 95, 98, 99, 99.5, 99.9) if t > floor - 5]
        axis.set_yticks(marks, [f"{t:g}" for t in marks])
        axis.minorticks_off()
        axis.set_ylabel("accuracy (%), by the logarithm of the errors")
        axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
        return self.png(figure, "Accuracy against context, 95 % intervals over people")

    def confusion(self, document, result):
        labels, counts = document["labels"], result["confusion"]
        figure, axis = self.plt.subplots(figsize=(3.8, 3.5))
        share = [[c / max(1, sum(row)) for c in row] for row in counts]
        axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
        small = len(labels) > 8
        for t, row in enumerate(counts):
            for p, c in enumerate(row):
                if not small:
                    axis.text(p, t, f"{100 * share[t][p]:.1f} %\n{c:,}", ha="center", va="center", fontsize=8, color="white" if share[t][p] > 0.55 else "#222222")
        axis.set_xticks(range(len(labels)), labels, rotation=45 if small else 0)
        axis.set_yticks(range(len(labels)), labels)
        axis.grid(False)
        axis.set_xlabel("predicted")
        axis.set_ylabel("true")
        return self.png(figure, f"{result['method']}, {result['context']} SNPs, n = {result['n_windows']:,}")

    def calibration(self, result):
        figure, axis = self.plt.subplots(figsize=(3.8, 3.5))
        bins = [b for b in result.get("calibration", []) if b["n_windows"]]
        axis.plot([0, 1], [0, 1], color="#aaaaaa", lw=1, ls=":")
        axis.plot([b["confidence"] for b in bins], [b["accuracy"] for b in bins], color=COLOURS.get(result["method"], "#777777"), lw=1.2)
        most = max([b["n_windows"] for b in bins] or [1])
        axis.scatter([b["confidence"] for b in bins], [b["accuracy"] for b in bins], s=[8 + 70 * b["n_windows"] / most for b in bins],
                     color=COLOURS.get(result["method"], "#777777"))
        axis.set_xlim(0, 1.02)
        axis.set_ylim(0, 1.02)
        axis.set_xlabel("confidence (dot size: windows)")
        axis.set_ylabel("right")
        return self.png(figure, f"Calibration, ECE {result['ece']:.3f}")


def smooth(x, y, points=200):
    """Mean over equal stretches of steps."""
    width = max(1, len(x) // points)
    return [sum(x[i:i + width]) / len(x[i:i + width]) for i in range(0, len(x), width)], [sum(y[i:i + width]) / len(y[i:i + width]) for i in range(0, len(y), width)]


# ---- the page ----

STYLE = """body{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:980px;margin:2em auto;padding:0 1em}h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}
table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}td,th{padding:.25em .6em;border-bottom:1px solid #e3e3e3;text-align:right}
td:first-child,th:first-child,td.t{text-align:left}tr.model td{font-weight:600}img{max-width:100%;margin:.3em .6em .3em 0}
.simulated{background:#b3362b;color:#fff;padding:.4em .8em;font-weight:700}.lost{color:#b3362b;font-weight:600}.note{color:#666;font-size:13px}code{font-size:12.5px;word-break:break-all}"""


def percent(x, digits=2):
    return "–" if x is None else f"{100 * x:.{digits}f}"


def bracket(ci):
    return "–" if ci[0] is None else f"[{100 * ci[0]:.2f}, {100 * ci[1]:.2f}]"


def results_table(document):
    head = ["SNPs", "method", "accuracy %", "95 % over people", "95 % over blocks", "balanced %", "log loss", "ECE", "people right %", "windows", "people"]
    rows = []
    for r in document["results"]:
        cells = [r["context"], r["method"], percent(r["accuracy"]), bracket(r["ci_people"]), bracket(r["ci_blocks"]), percent(r["balanced_accuracy"]),
                 f"{r['log_loss']:.3f}", f"{r['ece']:.3f}", percent(r["accuracy_person"]), f"{r['n_windows']:,}", f"{r['n_people']:,}"]
        rows.append((r["method"], cells))
    return ("<table><tr>" + "".join(f"<th>{html.escape(h)}</th>" for h in head) + "</tr>"
            + "".join(f"<tr class='{html.escape(m)}'>" + "".join(f"<td{' class=t' if k == 1 else ''}>{html.escape(str(c))}</td>" for k, c in enumerate(cells)) + "</tr>" for m, cells in rows)
            + "</table>")


def groups_table(result):
    """Accuracy of each population and superpopulation with intervals, worst first; nothing in older documents."""
    rows = [(kind, name, g) for kind, key in (("superpopulation", "per_superpopulation"), ("population", "per_population"))
            for name, g in sorted(result.get(key, {}).items(), key=lambda item: item[1]["accuracy"])]
    if not rows or any("ci_people" not in g for _, _, g in rows):
        return ""
    head = ["group", "", "accuracy %", "95 % over people", "95 % over blocks", "windows", "people"]
    cells = [[name, kind, percent(g["accuracy"]), bracket(g["ci_people"]), bracket(g["ci_blocks"]), f"{g['n_windows']:,}", f"{g['n_people']:,}"] for kind, name, g in rows]
    return (f"<h3>By population: {html.escape(result['method'])}, {result['context']} SNPs</h3><table><tr>" + "".join(f"<th>{h}</th>" for h in head) + "</tr>"
            + "".join("<tr>" + "".join(f"<td{' class=t' if k == 1 else ''}>{html.escape(c)}</td>" for k, c in enumerate(row)) + "</tr>" for row in cells) + "</table>")


def confused_text(document, result):
    """Which labels cannot be told apart, where there are many."""
    pairs = result.get("confused_pairs", []) if len(document["labels"]) > 3 else []
    if not pairs:
        return ""
    return "<p>Taken for each other most (share of the windows of both): " + ", ".join(f"{html.escape(p['a'])} and {html.escape(p['b'])} {percent(p['share'], 1)} %" for p in pairs) + ".</p>"


def altered_text(document):
    """Regions, missing sites and wrong genotypes of the judged people, in words."""
    what, told = [], document.get("altered", {})
    if document.get("regions") or document.get("excluded_regions"):
        what.append("judged only within " + ", ".join(document["regions"]) if document["regions"] else "judged without " + ", ".join(document["excluded_regions"]))
    if document.get("missing"):
        what.append(f"{percent(document['missing'], 1)} % of the sites without a call ({told['missing_sites']:,} of {told['judged_sites']:,})")
    if document.get("wrong"):
        what.append(f"{percent(document['wrong'])} % of the genotypes wrong ({told['wrong_carried'] + told['wrong_absent']:,})")
    return f"<p class='lost'>The judged people were changed: {html.escape('; '.join(what))}.</p>" if what else ""


def verdicts(document):
    """One sentence for each comparison with logistic regression: a loss is said plainly."""
    lines = []
    for p in document["paired"]:
        low, high = p["ci_people"]
        if p["b"] != "logistic" or low is None:
            continue
        what, lost = ("is better than", False) if low > 0 else ("LOST to", True) if high < 0 else ("shows no clear difference from", False)
        lines.append(f"<li{' class=lost' if lost else ''}>At {p['context']} SNPs the model {what} logistic regression: {100 * p['difference']:+.2f} points "
                     f"[{100 * low:+.2f}, {100 * high:+.2f}], {p['n_windows']:,} windows of {p['n_people']} people.</li>")
    return f"<ul>{''.join(lines)}</ul>" if lines else ""


def perplexity_text(p):
    names = (("autoregressive", "model, autoregressive"), ("position_conditioned", "model, position-conditioned"),
             ("next_site", "model, next carried site"), ("lookup_autoregressive", "counting look-up, autoregressive"), ("lookup_position", "counting look-up, position-conditioned"))
    have = [f"{label} {p[key]:.4f}" for key, label in names if p.get(key) is not None]
    if not have:
        return ""
    return f"<p>Perplexity of the next allele at {p['context']} SNPs (alpha {p['alpha']}, {p['targets']:,} targets of {p['n_people']} people): {'; '.join(have)}.</p>"


def chosen(document):
    """The result whose confusion and calibration are drawn: the model's, else logistic regression's, at the shortest context."""
    for method in ("model", "logistic"):
        own = [r for r in document["results"] if r["method"] == method]
        if own:
            return min(own, key=lambda r: r["context"])
    return document["results"][0] if document["results"] else None


def write_html(out, runs, evaluations, simulated):
    draw = Pictures(simulated)
    parts = ["<!doctype html><html lang='en'><meta charset='utf-8'><title>Crocuta report</title><meta name='viewport' content='width=device-width'>",
             f"<style>{STYLE}</style><h1>Crocuta report</h1>"]
    if simulated:
        parts.append("<p class='simulated'>SIMULATED data: these people do not exist; accuracies say nothing about real genomes.</p>")
    judged = [(e["name"], e["document"]) for e in evaluations if e["document"]["results"]]
    if judged:
        parts.append("<h2>Accuracy against context</h2>" + image(draw.accuracy([(short_name(n), d) for n, d in judged]), "accuracy against context with intervals"))
    for name, document in judged:
        data, one = document["data"], chosen(document)
        parts.append(f"<h2>{html.escape(name)}</h2>{verdicts(document)}")
        parts.append(f"<p class='note'>{html.escape(data.get('path', ''))}: assembly {html.escape(data['assembly'])}, split {html.escape(document['split'])}, "
                     f"people {data['people']['train']} / {data['people']['valid']} / {data['people']['test']} (train / valid / test), split hash {html.escape(data['split_hash'])}, "
                     f"seed {document['seeds']['bootstrap']}<br><code>{html.escape(document['command'])}</code></p>")
        parts.append(image(draw.confusion(document, one), "confusion matrix") + image(draw.calibration(one), "calibration"))
        parts.append(altered_text(document) + perplexity_text(document["perplexity"]) + results_table(document))
        parts.append(groups_table(one) + confused_text(document, one))
    for run in runs:
        if run["train"] or run["valid"]:
            last = (run["train"] or run["valid"])[-1]
            parts.append(f"<h2>Training: {html.escape(run['name'])}</h2>" + image(draw.loss(run), "loss curve"))
            parts.append(f"<p class='note'>{len(run['train']):,} steps logged, {len(run['valid']):,} validations; last step {last['step']:,}.</p>")
    write_whole(out, "\n".join(parts).encode())


def short_name(path):
    """The last folder that says something: an evaluation inside a run is called as the run."""
    folder, name = os.path.split(os.path.normpath(path))
    return os.path.basename(folder) or name if name == "evaluate" else name


def image(uri, alt):
    return f"<img alt='{html.escape(alt)}' src='{uri}'>"


def write_whole(path, content):
    """Under a temporary name until it is whole."""
    try:
        with open(path + ".tmp", "wb") as f:
            f.write(content)
        os.replace(path + ".tmp", path)
    except OSError as why:
        fail(4, f"{path}: {why.strerror}; write elsewhere with -o")


# ---- other formats ----

COLUMNS = ["source", "split", "split_hash", "method", "context", "phase", "n_people", "n_windows", "median_span_bp", "accuracy", "ci_people_low", "ci_people_high",
           "ci_blocks_low", "ci_blocks_high", "balanced_accuracy", "log_loss", "ece", "accuracy_person", "ci_person_low", "ci_person_high", "simulated"]


def write_csv(out, runs, evaluations, simulated):
    """Results, one row a method and context; without any, the steps of the runs."""
    text = io.StringIO()
    if evaluations:
        w = csv.writer(text, lineterminator="\n")
        w.writerow(COLUMNS)
        for e in evaluations:
            d = e["document"]
            for r in d["results"]:
                flat = dict(r, source=e["name"], split=d["split"], split_hash=d["data"]["split_hash"], simulated=int(simulated))
                for key in ("ci_people", "ci_blocks", "ci_person"):
                    flat[key + "_low"], flat[key + "_high"] = r[key]
                w.writerow(["" if flat.get(c) is None else flat[c] for c in COLUMNS])
    else:
        keys = []
        for run in runs:
            for row in run["train"] + run["valid"]:
                keys += [k for k in row if k not in keys]
        w = csv.writer(text, lineterminator="\n")
        w.writerow(["source"] + keys)
        for run in runs:
            for row in sorted(run["train"] + run["valid"], key=lambda r: r["step"]):
                w.writerow([run["name"]] + ["" if row.get(k) is None else row[k] for k in keys])
    write_whole(out, text.getvalue().encode())


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data):
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def record(event):
    """A TFRecord: length, its checksum, the event, its checksum."""
    length = struct.pack("<Q", len(event))
    return length + struct.pack("<I", masked(length)) + event + struct.pack("<I", masked(event))


def scalar(time, step, tag, value):
    """tensorboard.Event{wall_time, step, summary{value{tag, simple_value}}} as protobuf bytes"""
    one = field(1, tag.encode()) + b"\x15" + struct.pack("<f", value)
    return record(b"\x09" + struct.pack("<d", time) + b"\x10" + varint(step) + field(5, field(1, one)))


def write_tensorboard(out, runs, evaluations, simulated):
    """OUT/RUN/events.out.tfevents.0.crocuta, one folder a run."""
    del evaluations, simulated
    for run in runs:
        folder = os.path.join(out, os.path.basename(os.path.normpath(run["name"])))
        os.makedirs(folder, exist_ok=True)
        content = [record(b"\x09" + struct.pack("<d", 0.0) + field(3, b"brain.Event:2"))]
        for row in run["train"] + run["valid"]:
            for key in ("loss", "perplexity", "lr", "grad_norm", "tokens_per_s", "step_ms", "accuracy", "lookup_perplexity", "memory_bytes"):
                if isinstance(row.get(key), (int, float)):
                    content.append(scalar(float(row.get("time") or 0), int(row["step"]), f"{row['split']}/{key}", float(row[key])))
        write_whole(os.path.join(folder, "events.out.tfevents.0.crocuta"), b"".join(content))


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0], prog="crocuta report")
    p.add_argument("directories", nargs="+", metavar="DIR")
    p.add_argument("--format", choices=("html", "csv", "tensorboard"), default="html")
    p.add_argument("--simulated", action="store_true", help="the data are simulated: say so in every picture")
    p.add_argument("-o", "--output", required=True)
    a = p.parse_args()
    runs, evaluations = [], []
    for directory in a.directories:
        r, e = read_directory(directory)
        if not r and not e:
            fail(3, f"{directory}: neither metrics.jsonl nor evaluate.json in it; give run or evaluation directories")
        runs += r
        evaluations += [x for x in e if all(os.path.abspath(x["name"]) != os.path.abspath(y["name"]) for y in evaluations)]
    write = {"html": write_html, "csv": write_csv, "tensorboard": write_tensorboard}[a.format]
    try:
        write(a.output, runs, evaluations, is_simulated(evaluations, a.simulated))
    except ImportError as why:
        fail(4, f"{sys.executable}: {why}; make the environment with ./launch/setup --python")
    return 0


if __name__ == "__main__":
    sys.exit(main())
