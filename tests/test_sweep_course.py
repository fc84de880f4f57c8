#!/usr/bin/env python3
"""labels: mpi
The course of a sweep: groups of two workers, and a coordinator inside the first, give the table of one process; USR1 ends all groups with
checkpoints and exit code 75, SIGKILL with nothing, and the same command leads to that table either way; a file that grew adds its trials,
one that changed is refused; a NaN is tried once more, marked, and tried again by --retry; the status tells of all of it."""
import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from training import CONFIG, SOURCE, check, command, done, end, journal, refused, run

SWEEP = """\
base: c
set: {train.steps: 120, train.eval_every: 60, finetune.steps: 4, data.seq_len: 16, train.early_stop: 0}
grid: {position.alpha: [10, 1000], position.rows: site}
list: [{seed: 2}]
do: [pretrain, position-conditioned, finetune]
evaluate: {split: valid, baselines: [majority, lookup], bootstrap: 20}
"""
NAN = """\
base: c
set: {train.steps: 6, data.seq_len: 16}
list:
  - {name: good, seed: 2}
  - {name: bad, optimizer.lr: 100, optimizer.rows_lr: 100, train.grad_clip: 0}
do: [pretrain]
evaluate: none
"""
NUMBERS = ("perplexity", "perplexity_position", "lookup", "lookup_position", "accuracy", "ci_low", "ci_high")
EXACT = ("status", "params", "table_bytes", "touched_rows", "dense_bytes", "n_windows", "tokens", "run")


def table(folder):
    with open(os.path.join(folder, "trials.tsv"), encoding="utf-8") as f:
        return {row["trial"]: row for row in csv.DictReader(f, delimiter="\t")}


def same(what, a, b, rounding=0):
    check(what, list(a) == list(b), (list(a), list(b)))
    for name in a:
        for key in EXACT:
            check(f"{what}: {name} {key}", a[name][key] == b[name][key], (a[name][key], b[name][key]))
        for key in NUMBERS:
            check(f"{what}: {name} {key}", abs(float(a[name][key]) - float(b[name][key])) <= rounding * float(a[name][key]), (a[name][key], b[name][key]))


def state(folder):
    return json.loads(run("status", folder, "--json").stdout)


def interrupted(folder, name, number, ranks, *more):
    """Begins, is interrupted once its trials train, and is continued; the table in the end."""
    to = os.path.join(folder, name)
    job = subprocess.Popen(command("sweep", "s.yaml", "-o", name, "-q", "--threads", 1, *more, ranks=ranks), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                           start_new_session=True)
    first, start = os.path.join(to, "trials", "alpha-10_rows-site", "pretrain", "metrics.jsonl"), time.time()
    while time.time() - start < 60 and job.poll() is None and not (os.path.exists(first) and open(first).read().count("\n") > 20):
        time.sleep(0.01)
    if number == signal.SIGKILL:
        os.killpg(job.pid, number)  # mpirun's ranks follow it
    else:
        job.send_signal(number)
    error = job.communicate(timeout=60)[1]
    if number != signal.SIGKILL:
        check(name, job.returncode == 75, f"exit {job.returncode}, {error}")
        check(name, "error" not in error, error)
        s = state(to)
        check(name, s["state"] == "stopped" and s["counts"]["running"] == 0 and s["counts"]["queued"] >= 1, s)
        ends = [e for e in journal(to, "events.jsonl") if e["event"] == "trial_end" and e["outcome"] == "stopped"]
        check(name, len(ends) >= 1 and all("with a checkpoint" in e["detail"] or "evaluation" in e["detail"] for e in ends), ends)
    for _ in range(100):  # ranks that were killed give the lock back when they are gone
        r = run("sweep", "s.yaml", "-o", name, "-q", "--threads", 1, *more, ranks=ranks, cwd=folder)
        if "in use by" not in r.stderr:
            break
        time.sleep(0.1)
    done(name, r)
    events = [e for e in journal(to, "events.jsonl") if e.get("outcome") == "done"]
    check(name, len({e["trial"] for e in events}) == len(events) == 3, events)
    if number != signal.SIGKILL:  # one that is killed may not have written a checkpoint yet
        runs = [journal(os.path.join(to, "trials", e["trial"], p), "events.jsonl") for e in ends for p in ("pretrain", "position", "finetune")]
        check(name, any(e["event"] == "resume" for r in runs for e in r) or any("evaluation" in e["detail"] for e in ends), ends)
    return table(to)


def changed(folder, whole):
    text = SWEEP.replace("set: {", "set: {optimizer.eps: 1.0e-7, ")
    open(os.path.join(folder, "changed.yaml"), "w").write(text)
    before = open(os.path.join(folder, "one", "trials.tsv")).read()
    refused("another setting", run("sweep", "changed.yaml", "-o", "one", "-q", cwd=folder), 2, "changed.yaml:3", "optimizer.eps", "1e-8")
    refused("other parts", run("sweep", "other.yaml", "-o", "one", "-q", cwd=folder), 2, "other.yaml: its trials do")
    refused("a swept key", run("sweep", "s.yaml", "-o", "one", "position.alpha=3", cwd=folder), 2, "position.alpha=3", "s.yaml:3")
    check("refusals change nothing", open(os.path.join(folder, "one", "trials.tsv")).read() == before)
    open(os.path.join(folder, "grown.yaml"), "w").write(SWEEP.replace("[10, 1000]", "[10, 1000, 100]"))
    done("grown", run("sweep", "grown.yaml", "-o", "one", "-q", "position.rank=4", cwd=folder))
    grown = table(os.path.join(folder, "one"))
    check("grown in order", list(grown)[:3] == ["alpha-10_rows-site", "alpha-1000_rows-site", "alpha-100_rows-site"], list(grown))
    check("grown", len(grown) == 4 and all(r["status"] == "done" for r in grown.values()), grown)
    same("grown", whole, {n: grown[n] for n in whole})
    starts = [e["trial"] for e in journal(os.path.join(folder, "one"), "events.jsonl") if e["event"] == "trial_start"]
    check("nothing is repeated", len(starts) == 4, starts)


def pictures(folder):
    """The table for pages, and pictures where matplotlib is at hand."""
    script = os.path.join(SOURCE, "experiments", "sweep_report.py")
    r = subprocess.run([sys.executable, script, "one", "--no-pictures"], cwd=folder, capture_output=True, text=True)
    text = open(os.path.join(folder, "one", "table.md")).read()
    check("table.md", r.returncode == 0 and text.count("\n| alpha-") == 2 and "| seed-2 | done | 16 |" in text, (r.stderr, text))
    r = subprocess.run([sys.executable, script, "nowhere"], cwd=folder, capture_output=True, text=True)
    check("no sweep", r.returncode == 3 and r.stderr.startswith("crocuta: error: nowhere/trials.tsv: "), r.stderr)
    if importlib.util.find_spec("matplotlib"):
        r = subprocess.run([sys.executable, script, "one"], cwd=folder, capture_output=True, text=True)
        made = sorted(f for f in os.listdir(os.path.join(folder, "one")) if f.endswith(".png"))
        check("pictures", r.returncode == 0 and made == ["memory.png", "perplexity.png", "trials.png"], (r.stderr, made))


def failing(folder):
    r = run("sweep", "nan.yaml", "-o", "nan", "-q", ranks=3, cwd=folder)
    check("nan", r.returncode == 1 and "1 of 2 trials failed (bad: " in r.stderr and "the loss is nan" in r.stderr, (r.returncode, r.stderr))
    to = os.path.join(folder, "nan")
    got = table(to)
    check("nan", got["good"]["status"] == "done" and got["bad"]["status"] == "failed" and "nan" in got["bad"]["reason"] and got["bad"]["perplexity"] == "NA", got)
    check("without evaluation the validation's perplexity", float(got["good"]["perplexity"]) > 1 and got["good"]["accuracy"] == "NA", got["good"])

    def outcomes():
        return [e["outcome"] for e in journal(to, "events.jsonl") if e["event"] == "trial_end" and e["trial"] == "bad"]
    check("nan", outcomes() == ["again", "failed"], outcomes())
    s = state(to)
    check("nan", s["state"] == "failed" and s["counts"] == {"queued": 0, "running": 0, "done": 1, "failed": 1}, s)
    r = run("sweep", "nan.yaml", "-o", "nan", "-q", cwd=folder)
    check("a failed trial stays", r.returncode == 1 and outcomes() == ["again", "failed"], (r.returncode, outcomes()))
    r = run("sweep", "nan.yaml", "-o", "nan", "-q", "--retry", cwd=folder)
    check("--retry", r.returncode == 1 and outcomes() == ["again", "failed", "again", "failed"], (r.returncode, outcomes()))


def looked_at(folder):
    """An evaluation's note behind a run's end is no event of its course."""
    one = os.path.join(folder, "five", "trials", "seed-2", "pretrain")
    with open(os.path.join(one, "events.jsonl"), "a") as f:
        f.write('{"time": 1, "rank": 0, "host": "a", "step": 120, "event": "test_evaluated", "detail": ""}\n')
    check("a run that was evaluated is done", state(one)["state"] == "done", state(one))


def calls(folder):
    r = run("sweep", "--help")
    done("--help", r)
    check("--help", "--group-size" in r.stdout and "Example:" in r.stdout, r.stdout)
    refused("no folder", run("sweep", "s.yaml", cwd=folder), 2, "-o DIR")
    refused("no file", run("sweep", "alpha-sweeep", "-o", "x", cwd=folder), 2, "did you mean alpha-sweep?")
    refused("no data", run("sweep", "alpha-sweep", "-o", "x", "data.path=nothing.h5", cwd=folder), 3, "nothing.h5", "data.path=")
    refused("groups", run("sweep", "s.yaml", "-o", "x", "--group-size", 2, ranks=4, cwd=folder), 2, "3 workers", "groups of 2")
    refused("a run's folder", run("sweep", "s.yaml", "-o", os.path.join("one", "trials", "alpha-10_rows-site", "pretrain"), cwd=folder), 2, "something else")
    refused("a sweep's folder", run("pretrain", "c.yaml", "-o", "one", "--force", cwd=folder), 2, "no run")
    open(os.path.join(folder, "long.yaml"), "w").write(SWEEP.replace("[{seed: 2}]", "[{data.seq_len: 4096}]"))
    refused("a trial that nothing can be", run("sweep", "long.yaml", "-o", "x", cwd=folder), 2, "long.yaml:4: trial seq_len-4096", "model.l_max")
    r = run("sweep", "s.yaml", "-o", "x", "--dry-run", "--json", "--group-size", 2, cwd=folder)
    told = json.loads(r.stdout) if r.returncode == 0 else {}
    check("--dry-run: every trial, its memory and its share", len(told.get("trials", [])) == 3 and abs(sum(t["work"] for t in told["trials"]) - 1) < 1e-9
          and told["plan_bytes"] == max(t["plan_bytes"] for t in told["trials"]) > 1 << 18, r)
    mixed = ("sweep", "s.yaml", "-o", "x", "--dry-run", "--json", "train.precision=mixed")
    weight = [json.loads(r.stdout)["plan_bytes"] if r.returncode == 0 else r.stderr for r in (run(*mixed, cwd=folder), run(*mixed, "--device", "cuda", cwd=folder),
              run(*mixed[:-1], "--device", "cuda", cwd=folder))]
    if isinstance(weight[2], int):  # built with CUDA
        check("--dry-run: mixed precision is a GPU's", weight[0] == weight[1] < weight[2], weight)
    check("--dry-run: mixed precision, whatever is here", isinstance(weight[0], int), weight)
    refused("mixed precision on a CPU", run(*mixed, "--device", "cpu", cwd=folder), 2, "s.yaml:", "train.precision")
    refused("a trial that does not fit", run("sweep", "s.yaml", "-o", "x", "--dry-run", "--device-memory", "100kiB", cwd=folder), 4, "s.yaml:", ": trial ", "GiB a worker needed")
    refused("memory is looked at beforehand only", run("sweep", "s.yaml", "-o", "x", "--device-memory", "1GiB", cwd=folder), 2, "--dry-run")
    check("refusals leave nothing", not os.path.exists(os.path.join(folder, "x")))


def main():
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (("c.yaml", CONFIG.replace("checkpoint: {every_minutes: 0}", "checkpoint: {every_minutes: 0, every_steps: 50}")), ("s.yaml", SWEEP), ("nan.yaml", NAN),
                           ("other.yaml", SWEEP.replace(", finetune]", "]"))):
            open(os.path.join(folder, name), "w").write(text)
        done("one process", run("sweep", "s.yaml", "-o", "one", "-q", "--threads", 1, cwd=folder))
        whole = table(os.path.join(folder, "one"))
        check("one process", len(whole) == 3 and all(r["status"] == "done" for r in whole.values()), whole)
        done("five ranks", run("sweep", "s.yaml", "-o", "five", "-q", "--threads", 1, "--group-size", 2, ranks=5, cwd=folder))
        same("five ranks, groups of two", whole, table(os.path.join(folder, "five")), 3e-4)
        same("USR1 to three ranks", whole, interrupted(folder, "usr1", signal.SIGUSR1, 3))
        same("TERM to one process", whole, interrupted(folder, "term", signal.SIGTERM, 0))
        same("KILL of three ranks", whole, interrupted(folder, "kill", signal.SIGKILL, 3))
        same("KILL, coordinator inside", whole, interrupted(folder, "inside", signal.SIGKILL, 2, "comm.coordinator=worker"))
        pictures(folder)
        failing(folder)
        looked_at(folder)
        calls(folder)
        changed(folder, whole)
    end()


main()
