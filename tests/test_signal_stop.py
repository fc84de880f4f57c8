#!/usr/bin/env python3
"""labels: mpi
Requests to stop: USR1 to the launcher and TERM to every rank (or to the one process) end a run at one agreed step with a
committed checkpoint and exit code 75, and the resumed run gives the losses of one that was never asked."""
import os
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from training import CONFIG, CROCUTA, check, command, committed, done, end, journal, losses, run

STEPS = 1200
OVERRIDES = [f"train.steps={STEPS}", "train.eval_every=500", "train.early_stop=0"]


def below(pid):
    """Processes of the program under a launcher."""
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        for child in open(f"/proc/{pid}/task/{task}/children").read().split():
            try:
                if os.path.realpath(f"/proc/{child}/exe") == os.path.realpath(CROCUTA):
                    found.append(int(child))
            except OSError:
                pass
            found += below(child)
    return found


def stopped(what, config, path, ranks, number, to_all, after):
    job = subprocess.Popen(command("pretrain", config, "-o", path, "-q", "--threads", 1, *OVERRIDES, ranks=ranks),
                           stderr=subprocess.PIPE, text=True)
    journal_path, start = os.path.join(path, "metrics.jsonl"), time.time()
    while time.time() - start < 60 and not (os.path.exists(journal_path) and open(journal_path).read().count("\n") > after):
        time.sleep(0.01)
    for pid in below(job.pid) if to_all and ranks else [job.pid]:
        os.kill(pid, number)
    error = job.communicate(timeout=60)[1]
    check(what, job.returncode == 75, f"exit {job.returncode}, {error}")
    check(what, "error" not in error, error)
    last = max(losses(path))
    check(what, last < STEPS, "it was over before the signal")
    check(what, committed(path)[-1] == f"step-{last:07d}.h5", (committed(path), last))
    names = [e["event"] for e in journal(path, "events.jsonl")]
    check(what, names[-3:] == ["checkpoint", "signal", "end"], names)


def main():
    with tempfile.TemporaryDirectory() as tmp:
        config = os.path.join(tmp, "c.yaml")
        open(config, "w").write(CONFIG)
        for ranks in (0, 3):
            whole = os.path.join(tmp, f"whole{ranks}")
            done("uninterrupted", run("pretrain", config, "-o", whole, "-q", "--threads", 1, *OVERRIDES, ranks=ranks))
            for number, to_all in ((signal.SIGUSR1, False), (signal.SIGTERM, True)):
                what = f"{number.name} on {ranks or 1} ranks"
                path = os.path.join(tmp, f"{number.name}{ranks}")
                stopped(what, config, path, ranks, number, to_all, 100)
                done(what, run("pretrain", config, "-o", path, "-q", "--threads", 1, "--resume", *OVERRIDES, ranks=ranks))
                a, b = losses(whole), losses(path)
                check(what, a == b, f"{len(a)} and {len(b)} steps, {[s for s in a if a[s] != b.get(s)][:5]} differ")
        path = os.path.join(tmp, "hours")
        r = run("pretrain", config, "-o", path, "-q", "--threads", 1, "train.steps=1000000", "train.eval_every=0", "train.max_hours=0.0003", ranks=3)
        done("max_hours", r, 75)
        check("max_hours", len(committed(path)) == 1, committed(path))
    end()


main()
