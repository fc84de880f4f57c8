#!/usr/bin/env python3
"""labels: mpi
A sweep gives the same trials on one rank and on three; a trial that cannot run is marked failed and the others go on; a sweep that was
killed continues without repeating what was done; wrong files are refused at their line."""
import csv
import os
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from training import CONFIG, check, command, done, end, refused, run

SWEEP = """\
# Sweep: two resolutions
base: c.yaml
set: {train: {steps: 4}, finetune: {steps: 4}, data: {seq_len: 16}}
grid:
  position.alpha: [10, 100]
do: [pretrain, finetune]
evaluate: {split: valid, baselines: [majority], bootstrap: 20}
"""


def table(folder):
    with open(os.path.join(folder, "trials.tsv"), encoding="utf-8") as f:
        return {row["trial"]: row for row in csv.DictReader(f, delimiter="\t")}


def same(what, a, b):
    check(what, sorted(a) == sorted(b), (sorted(a), sorted(b)))
    for name in a:
        for key in ("perplexity", "accuracy"):
            check(f"{what}: {name} {key}", abs(float(a[name][key]) - float(b[name][key])) <= 1e-5 * abs(float(a[name][key])), (a[name][key], b[name][key]))


def killed(folder, whole):
    """The first finished trial is not touched again."""
    p = subprocess.Popen(command("sweep", "s.yaml", "-o", "cut", "-q"), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    path = os.path.join(folder, "cut", "trials.tsv")
    for _ in range(2000):
        if p.poll() is not None or os.path.exists(path) and any(r["status"] == "done" for r in table(os.path.join(folder, "cut")).values()):
            break
        time.sleep(0.02)
    if p.poll() is None:
        p.send_signal(signal.SIGKILL)
    p.wait()
    before = {n: os.stat(os.path.join(folder, "cut", r["run"], "metrics.jsonl")).st_mtime_ns for n, r in table(os.path.join(folder, "cut")).items() if r["status"] == "done"}
    check("something was done before the kill", before)
    done("continued", run("sweep", "s.yaml", "-o", "cut", "-q", cwd=folder))
    after = table(os.path.join(folder, "cut"))
    same("after a kill", whole, after)
    for name, t in before.items():
        check(f"{name} was not repeated", os.stat(os.path.join(folder, "cut", after[name]["run"], "metrics.jsonl")).st_mtime_ns == t)


def main():
    with tempfile.TemporaryDirectory() as folder:
        open(os.path.join(folder, "c.yaml"), "w").write(CONFIG)
        open(os.path.join(folder, "s.yaml"), "w").write(SWEEP)
        open(os.path.join(folder, "bad.yaml"), "w").write(SWEEP.replace("position.alpha", "position.alpah"))
        # windows of 2,000 SNPs: nobody is long enough
        open(os.path.join(folder, "fail.yaml"), "w").write(SWEEP + "list:\n  - {data.seq_len: 2000, model.l_max: 2002, train.tokens_per_step: 4000}\n")
        done("one rank", run("sweep", "s.yaml", "-o", "one", "-q", cwd=folder))
        whole = table(os.path.join(folder, "one"))
        check("two trials, done", len(whole) == 2 and all(r["status"] == "done" for r in whole.values()), whole)
        check("alphas", {r["alpha"] for r in whole.values()} == {"10", "100"}, whole)
        done("three ranks", run("sweep", "s.yaml", "-o", "three", "-q", ranks=3, cwd=folder))
        same("three ranks", whole, table(os.path.join(folder, "three")))
        killed(folder, whole)
        refused("an unknown key", run("sweep", "bad.yaml", "-o", "bad", cwd=folder), 2, "bad.yaml:5", "position.alpha")
        r = run("sweep", "fail.yaml", "-o", "fail", "-q", cwd=folder)
        got = table(os.path.join(folder, "fail"))
        check("a failed trial is marked, the others are done", sorted(x["status"] for x in got.values()) == ["done", "done", "failed"], (r.stderr, got))
        check("a failed trial is told by the status", r.returncode != 0, r.returncode)
    end()


main()
