#!/usr/bin/env python3
"""labels: mpi
pretrain and finetune from outside: what a run directory holds, the keys of its journals, refusals that leave nothing
behind, two jobs in one directory, and the same codes on one rank and on three."""
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from training import CONFIG, check, command, committed, done, end, journal, lines, losses, refused, run

METRICS = """step stage split seq_len tokens loss perplexity lr grad_norm clipped tokens_per_s step_ms wait_ms fraction_gemm
fraction_bandwidth memory_bytes time""".split()
EVENTS = "time rank host step event detail".split()


def run_directory(tmp, config):
    path = os.path.join(tmp, "run")
    r = run("pretrain", config, "-o", path, "train.early_stop=0", ranks=3)
    done("a run", r)
    check("a run says nothing on stdout", r.stdout == "", r.stdout)
    for name in "config.yaml command.txt versions.json plan.json metrics.jsonl events.jsonl logs checkpoints/latest checkpoints/best".split():
        check("run directory", os.path.exists(os.path.join(path, name)), name)
    for m in journal(path, "metrics.jsonl"):
        check("keys of metrics", all(k in m for k in METRICS), m)
        check("loss", isinstance(m["loss"], float) and 0 < m["loss"] < 20, m)
    for e in journal(path, "events.jsonl"):
        check("keys of events", sorted(e) == sorted(EVENTS), e)
    valid = [m for m in journal(path, "metrics.jsonl") if m["split"] == "valid"]
    check("validation", [m["step"] for m in valid] == [4, 8, 12], valid)
    check("look-up beside it", all(1 < m["lookup_perplexity"] < 4 for m in valid), valid)
    check("checkpoints", committed(path)[-1] == "step-0000012.h5", committed(path))
    best = open(os.path.join(path, "checkpoints", "best")).read()
    least = min(valid, key=lambda m: m["loss"])["step"]
    check("best by validation", f"{least:07d}" in best, (best, least))
    text = open(os.path.join(path, "command.txt")).read()
    check("command", text.startswith("crocuta pretrain") and "early_stop" in text, text)
    plan = json.load(open(os.path.join(path, "plan.json")))
    check("plan", plan["bytes"]["total"] > 0 and plan["data_parallel"] == 2, plan)
    s = status(path)
    check("status", s["state"] == "done" and s["step"] == 12 and s["last_checkpoint"] == 12 and len(s["workers"]) == 2, s)
    refused("status of no run", run("status", tmp), 3, "no run directory")
    # the seed: --seed before key=value before the configuration before 1
    for name, args, seed in (("a", [], 1), ("b", ["seed=5"], 5), ("c", ["seed=5", "--seed", "7"], 7)):
        seeded = os.path.join(tmp, "seed-" + name)
        done("seed", run("pretrain", config, "-o", seeded, "-q", "--max-steps", "1", *args))
        check("seed", f"seed: {seed}\n" in open(os.path.join(seeded, "config.yaml")).read(), seed)
    refused("another seed", run("pretrain", config, "-o", os.path.join(tmp, "seed-b"), "--resume"), 2, "seed is 1")
    # the saved configuration is enough to do it again, from anywhere
    again = os.path.join(tmp, "again")
    done("again", run("pretrain", os.path.join(path, "config.yaml"), "-o", again, "-q", ranks=3, cwd="/"))
    check("again", losses(again) == losses(path))
    return path


def refusals(tmp, config, path):
    for ranks in (0, 3):
        refused("a run is there", run("pretrain", config, "-o", path, ranks=ranks), 2, "--resume")
        for what, code, args, part in (("no data", 3, ["data.path=none.h5"], "none.h5"),
                                       ("unknown key", 2, ["train.step=3"], "train.steps"),
                                       ("window too long", 3, ["data.seq_len=5000", "model.l_max=5002", "train.tokens_per_step=5000"], "5000"),
                                       ("window longer than the model", 2, ["data.seq_len=512"], "l_max"),
                                       ("too much memory", 4, ["model.d_model=65536", "model.d_inner=65536"], "GiB"),
                                       ("mixed precision on a CPU", 2, ["train.precision=mixed", "--device", "cpu"], "needs a GPU")):
            new = os.path.join(tmp, "refused")
            refused(f"{what}, {ranks} ranks", run("pretrain", config, "-o", new, *args, ranks=ranks), code, part)
            check(f"{what}: nothing left behind", not os.path.exists(new), what)
    other = os.path.join(tmp, "other")
    os.mkdir(other)
    open(os.path.join(other, "thesis.tex"), "w").write("mine")
    refused("a folder of something else", run("pretrain", config, "-o", other, "--force"), 2, "other")
    check("untouched", os.listdir(other) == ["thesis.tex"])
    nan = os.path.join(tmp, "nan")
    refused("a loss that is no number", run("pretrain", config, "-o", nan, "-q", "optimizer.lr=100", "train.grad_clip=0", "optimizer.weight_decay=1",
                                            "scheduler.warmup=0", "optimizer.rows_lr=100", "train.steps=60", ranks=3), 1, "step")
    check("nan in the journal", "nan" in [e["event"] for e in journal(nan, "events.jsonl")])


def one_writer(tmp, config):
    path = os.path.join(tmp, "shared")
    args = ["pretrain", config, "-o", path, "-q", "--threads", 1, "train.steps=1000000", "train.eval_every=0", "checkpoint.every_steps=50"]
    job = subprocess.Popen(command(*args, ranks=2), stderr=subprocess.DEVNULL, start_new_session=True)
    start = time.time()
    while time.time() - start < 60 and not (os.path.isdir(os.path.join(path, "checkpoints")) and committed(path)):
        time.sleep(0.02)
    for more in ([], ["--resume"], ["--force"]):
        refused(f"second job {more}", run(*args, *more, ranks=2), 2, "in use by process", "since")
    check("status of a running job", status(path)["state"] == "running" and len(status(path)["workers"]) == 1, status(path))
    os.killpg(job.pid, signal.SIGKILL)
    for pid in subprocess.run(["pgrep", "-f", f"{path} -q"], capture_output=True, text=True).stdout.split():
        os.kill(int(pid), signal.SIGKILL)  # ranks live in sessions of their own
    job.wait()
    time.sleep(0.5)
    check("status of a dead job", status(path)["state"] == "failed", status(path))
    with open(os.path.join(path, "metrics.jsonl"), "a") as f:
        f.write('{"step": 1, "spl')  # cut by the crash
    r = run(*args, "--resume", "--max-steps", 1 + max(losses_of_whole_lines(path)), ranks=2)
    done("after the crash", r)
    check("status of a stopped job", status(path)["state"] == "stopped", status(path))
    check("it says whom it follows", len([l for l in lines(r, "warning") if "takes it over" in l]) == 1, r.stderr)
    steps = losses_of_whole_lines(path)
    check("no step is missing", sorted(steps) == list(range(1, max(steps) + 1)), len(steps))
    done("replaced", run("pretrain", config, "-o", path, "-q", "--force"))
    check("replaced", len(losses(path)) == 12 and committed(path)[0] <= "step-0000012.h5", committed(path))


def stopped_by_time(tmp, config):
    """max_hours and a signal end with one note that says how to go on; nothing else."""
    path = os.path.join(tmp, "late")
    args = ["pretrain", config, "-o", path, "--threads", 1, "train.steps=1000000", "train.eval_every=0", "train.max_hours=0.0002"]
    r = run(*args, ranks=2)
    done("max_hours", r, 75)
    check("it says so", len([l for l in r.stderr.split("\n") if "stopped on request" in l and "--resume" in l]) == 1, r.stderr)
    check("no error", not lines(r, "error"), r.stderr)


def coordinator_stopped(tmp, config):
    """A coordinator that does not answer: workers end at comm.timeout_s, in one line."""
    path = os.path.join(tmp, "stuck")
    args = ["pretrain", config, "-o", path, "-q", "--threads", 1, "train.steps=1000000", "train.eval_every=0", "checkpoint.every_steps=20",
            "comm.timeout_s=3"]
    job = subprocess.Popen(command(*args, ranks=3), stderr=subprocess.PIPE, text=True)
    start = time.time()
    while time.time() - start < 60 and not (os.path.isdir(os.path.join(path, "checkpoints")) and committed(path)):
        time.sleep(0.02)
    ranks = [int(p) for p in subprocess.run(["pgrep", "-P", str(job.pid)], capture_output=True, text=True).stdout.split()]
    holder = int(open(os.path.join(path, "lock")).read().split()[1])
    check("rank 0 has the lock", holder in ranks, (holder, ranks))
    os.kill(holder, signal.SIGSTOP)
    try:
        _, text = job.communicate(timeout=40)
        check("a stopped coordinator", job.returncode == 5, job.returncode)
        check("one line", text.count("crocuta: error: ") == 1 and "comm.timeout_s" in text, text)
    except subprocess.TimeoutExpired:
        check("a stopped coordinator ends the run", False)
    for p in ranks:
        if os.path.exists(f"/proc/{p}"):
            os.kill(p, signal.SIGKILL)
    job.wait()


def status(path):
    r = run("status", path, "--json")
    done("status", r)
    return json.loads(r.stdout)


def losses_of_whole_lines(path):
    out = {}
    for line in open(os.path.join(path, "metrics.jsonl")):
        try:
            m = json.loads(line)
        except ValueError:
            continue
        out[m["step"]] = m["loss"]
    return out


def fine_tuning(tmp, config, path):
    tuned = os.path.join(tmp, "tuned")
    args = ["-q", "finetune.steps=40", "train.eval_every=10", "train.tokens_per_step=2048"]
    done("finetune", run("finetune", config, "--from", path, "-o", tuned, *args, ranks=3))
    valid = [m for m in journal(tuned, "metrics.jsonl") if m["split"] == "valid"]
    check("accuracy", valid and all(0 <= m["accuracy"] <= 1 for m in valid), valid)
    scratch = os.path.join(tmp, "scratch")
    done("from scratch", run("finetune", config, "--from", "none", "-o", scratch, *args))
    check("another start", losses(tuned)[1] != losses(scratch)[1])
    refused("no --from", run("finetune", config, "-o", tuned + "2"), 2, "--from")
    refused("another shape", run("finetune", config, "--from", path, "-o", tuned + "2", "model.d_model=32"), 2, "another shape")
    refused("another table", run("finetune", config, "--from", path, "-o", tuned + "2", "position.alpha=50"), 2, "position")
    refused("fewer layers", run("finetune", config, "--from", path, "-o", tuned + "2", "model.n_layer=1"), 2, "layers.1")
    refused("no positions", run("finetune", config, "--from", path, "-o", tuned + "2", "position.encoding=none"), 2, "position")
    refused("no model", run("finetune", config, "--from", path + "x", "-o", tuned + "2", ranks=3), 3, "x")
    check("nothing left behind", not os.path.exists(tuned + "2"))
    early = os.path.join(tmp, "early")
    done("early stop", run("finetune", config, "--from", "none", "-o", early, "-q", "finetune.steps=400", "train.eval_every=1", "train.early_stop=3"))
    events = journal(early, "events.jsonl")
    check("early stop", events[-1]["detail"] == "early stopping" and max(losses(early)) < 400, events[-1])


def main():
    with tempfile.TemporaryDirectory() as tmp:
        config = os.path.join(tmp, "c.yaml")
        open(config, "w").write(CONFIG)
        path = run_directory(tmp, config)
        refusals(tmp, config, path)
        one_writer(tmp, config)
        stopped_by_time(tmp, config)
        coordinator_stopped(tmp, config)
        fine_tuning(tmp, config, path)
    end()


main()
