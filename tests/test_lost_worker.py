#!/usr/bin/env python3
"""labels: mpi
A worker that is stopped, that hangs or that dies is named with host, rank, step and phase, in one line and in the journal; the
job ends everywhere within comm.timeout_s, and goes on from its checkpoint with the losses of one that was never disturbed.
Where the coordinator dies as well, `status` and the next job's journal say who was heard last, and where.
Three ranks; and two where the coordinator is inside worker 0."""
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from training import CONFIG, check, command, disturb, done, end, journal, losses, run

STEPS = 400
TIMEOUT_S = 3
OPTIONS = ["-q", "--threads", 1, f"train.steps={STEPS}", "train.eval_every=0", "train.early_stop=0", "checkpoint.every_steps=50", f"comm.timeout_s={TIMEOUT_S}"]


def disturbed(what, config, path, number, worker, ranks, more):
    """Ends a job by a signal to one worker once a checkpoint is there. -> stderr, exit status, seconds it took."""
    job = subprocess.Popen(command("pretrain", config, "-o", path, *OPTIONS, *more, ranks=ranks), stderr=subprocess.PIPE, text=True)
    seat, error, seconds = disturb(what, job, path, number, worker)
    check(what, seat["worker"] == worker, seat)
    return error, job.returncode, seconds, seat


def named(what, path, seat, words):
    lost = [e for e in journal(path, "events.jsonl") if e["event"] == "worker_lost"]
    check(what, len(lost) == 1, journal(path, "events.jsonl"))
    if lost:
        e = lost[0]
        check(what, e["rank"] == seat["rank"] and e["host"] == seat["host"] and e["step"] > 0, e)
        check(what, f"worker {seat['worker']} (rank {seat['rank']}" in e["detail"] and "phase " in e["detail"] and words in e["detail"], e["detail"])
        shown = json.loads(run("status", path, "--json").stdout)
        check(what, shown["state"] == "failed" and shown["last_event"] == "worker_lost", shown)


def without_a_word(config, whole, path, stopped):
    """Everything ends with rank 0, which had not yet found anything; `stopped`: a worker that hung before that."""
    what = f"rank 0 dies, {'worker 1 hung before' if stopped else 'nothing else is wrong'}"
    options = [*OPTIONS[:-1], "comm.timeout_s=60"]
    job = subprocess.Popen(command("pretrain", config, "-o", path, *options, ranks=3), stderr=subprocess.PIPE, text=True)
    seats = []
    while job.poll() is None and not (os.path.exists(os.path.join(path, "checkpoints", "latest")) and all("step" in w for w in seats)):
        time.sleep(0.01)
        if os.path.exists(os.path.join(path, "workers.json")):
            with open(os.path.join(path, "workers.json")) as f:
                seats = json.load(f)
    seat = seats[1]
    if stopped:
        os.kill(seat["process"], signal.SIGSTOP)
        time.sleep(3)
    with open(os.path.join(path, "lock")) as f:
        os.kill(int(f.read().split()[1]), signal.SIGKILL)
    job.communicate(timeout=60)
    shown = json.loads(run("status", path, "--json").stdout)
    check(what, shown["state"] == "failed" and re.search(r"worker \d \(rank \d, process \d+\) on \S+ was heard last at .* in step \d+, phase \w+", shown["lost"] or ""), shown)
    check(what, all(w["step"] > 0 and w["phase"] and w["time"] > 1e9 for w in shown["workers"]), shown["workers"])
    done(what, run("pretrain", config, "-o", path, "--resume", *options, ranks=3))
    events = journal(path, "events.jsonl")
    told = [e for e in events if e["event"] in ("worker_lost", "job_lost")]
    check(what, len(told) == 1 and events[events.index(told[0]) + 1]["event"] == "resume" and shown["lost"] in told[0]["detail"], events)
    if told and stopped:
        e = told[0]
        check(what, e["event"] == "worker_lost" and e["rank"] == seat["rank"] and e["host"] == seat["host"] and e["step"] > 0, e)
    check(what, losses(whole) == losses(path))


def main():
    with tempfile.TemporaryDirectory() as tmp:
        config, whole = os.path.join(tmp, "c.yaml"), os.path.join(tmp, "whole")
        open(config, "w").write(CONFIG)
        done("undisturbed", run("pretrain", config, "-o", whole, *OPTIONS, ranks=3))
        inside = ["comm.coordinator=worker"]
        for what, number, worker, ranks, more, words in (
            ("stopped", signal.SIGSTOP, 1, 3, [], "is stopped"),
            ("killed", signal.SIGKILL, 0, 3, [], "died"),
            ("stopped beside a coordinator inside", signal.SIGSTOP, 1, 2, inside, "is stopped"),
        ):
            path = os.path.join(tmp, what)
            error, code, took_s, seat = disturbed(what, config, path, number, worker, ranks, more)
            check(what, took_s < TIMEOUT_S + 12, took_s)
            named(what, path, seat, words)
            if number == signal.SIGSTOP:
                check(what, code == 5, code)
                check(what, error.count("crocuta: error: ") == 1 and f"rank {seat['rank']}" in error, error)
            r = run("pretrain", config, "-o", path, "--resume", *OPTIONS, *more, ranks=ranks)
            done(what, r)
            a, b = losses(whole), losses(path)
            check(what, a == b, [s for s in a if a[s] != b.get(s)][:5])
        for stopped in (True, False):
            without_a_word(config, whole, os.path.join(tmp, f"silent-{stopped}"), stopped)
    end()


main()
