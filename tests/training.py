"""What the tests of training share: a small configuration on the committed data set, runs with and without ranks, and
the journals of a run."""
import json
import os
import signal
import subprocess
import sys
import time

CROCUTA = os.environ["CROCUTA"]
SOURCE = os.environ["CROCUTA_SOURCE"]
MPIRUN = ["mpirun", "-q", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n"]
DATA = os.path.join(SOURCE, "tests", "data", "small.h5")
CONFIG = f"""\
seed: 1
data:       {{path: {DATA}, seq_len: 64}}
model:      {{d_model: 16, n_layer: 2, d_inner: 32, l_max: 66, filter_order: 16, embed_dropout: 0.1}}
position:   {{encoding: fpe, alpha: 100, rank: 4}}
optimizer:  {{lr: 3.0e-3, rows_lr: 1.0e-2}}
scheduler:  {{warmup: 0.2, min_lr: 3.0e-4}}
train:      {{steps: 12, tokens_per_step: 640, micro_batch: 3, eval_every: 4, eval_windows: 10}}
finetune:   {{steps: 12, lr: 3.0e-3, head_hidden: 8}}
checkpoint: {{every_minutes: 0}}
"""
failures = []


def command(*args, ranks=0):
    return (MPIRUN + [str(ranks)] if ranks else []) + [CROCUTA, *map(str, args)]


def run(*args, ranks=0, **more):
    return subprocess.run(command(*args, ranks=ranks), capture_output=True, text=True, timeout=240, **more)


def check(what, ok, shown=""):
    if not ok:
        failures.append(what)
        print(f"FAILED {what}: {shown}")


def done(what, r, code=0):
    check(what, r.returncode == code, f"exit {r.returncode}, {r.stderr[-600:]}")


def lines(r, kind):
    return [l for l in r.stderr.split("\n") if l.startswith(f"crocuta: {kind}: ")]


def refused(what, r, code, *parts):
    check(what, r.returncode == code, f"exit {r.returncode}, {r.stderr!r}")
    check(what, len(lines(r, "error")) == 1, r.stderr)
    for p in parts:
        check(what, p in r.stderr, f"no {p!r} in {r.stderr!r}")


def journal(path, name):
    with open(os.path.join(path, name)) as f:
        return [json.loads(l) for l in f]


def losses(path, split="train"):
    """The last line of a step counts."""
    return {m["step"]: m["loss"] for m in journal(path, "metrics.jsonl") if m["split"] == split}


def committed(path):
    d = os.path.join(path, "checkpoints")
    return sorted(f for f in os.listdir(d) if f.endswith(".h5") and os.path.exists(os.path.join(d, f[:-3] + ".json")))


def disturb(what, job, path, number, worker):
    """A signal to a worker of a running job (Popen) once it has a checkpoint -> its line in workers.json, stderr, and the
    seconds until the job has ended; one that goes on is a failure, and is killed."""
    latest, start = os.path.join(path, "checkpoints", "latest"), time.time()
    while time.time() - start < 60 and not os.path.exists(latest):
        time.sleep(0.01)
    with open(os.path.join(path, "workers.json")) as f:
        workers = json.load(f)
    os.kill(workers[worker]["process"], number)
    begun = time.time()
    try:
        error = job.communicate(timeout=60)[1]
    except subprocess.TimeoutExpired:
        for w in workers:
            os.kill(w["process"], signal.SIGKILL)
        error = job.communicate()[1]
        check(what, False, "it goes on")
    return workers[worker], error, time.time() - begun


def end():
    print(f"{len(failures)} failed")
    sys.exit(1 if failures else 0)
