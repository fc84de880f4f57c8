#!/usr/bin/env python3
"""labels: mpi
A worker that is stopped, that hangs or that dies is named with host, rank, step and phase, in one line and in the journal; the
job ends everywhere within comm.timeout_s, and goes on from its checkpoint with the losses of one that was never disturbed.
Three ranks; and two where the coordinator is inside worker 0."""
import json
import os
import signal
import subprocess
import sys
import tempfile

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
    end()


main()
