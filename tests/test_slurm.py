#!/usr/bin/env python3
"""labels: slurm
Jobs under a real Slurm of two nodes on this machine, by the very scripts of launch/slurm: several at once, a stop by signal and
the loss of a node with exact resume, a time limit, scancel, attempts that lead nowhere, fine-tuning with judgement, a sweep that
is interrupted, and where ranks are placed. Installs Debian's Slurm where it can, and says why it is skipped where it cannot."""
import glob
import json
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from slurm_cluster import Cluster, install, newest
from training import CONFIG, CROCUTA, SOURCE, check, end, journal, losses

SLURM = os.path.join(SOURCE, "launch", "slurm")
SITE = """\
WORKERS_PER_NODE=2
CORES_PER_NODE=3
MEMORY_PER_NODE=6
MAX_NODES=2
MAX_HOURS=1
COORDINATOR=dedicated
MAX_STALLED=2
"""
STUB = """\
#!/bin/sh
trap '' TERM
[ "$1" != plan ] || exec {crocuta} "$@"
echo "rank $SLURM_PROCID node $SLURM_NODEID gpus $CUDA_VISIBLE_DEVICES threads $OMP_NUM_THREADS of $SLURM_CPUS_PER_TASK"
sleep 1
exit 75
"""
SWEEP = """\
base: c.yaml
set: {train.steps: 600, train.eval_every: 300, train.early_stop: 0, checkpoint.every_steps: 25}
grid:
  - seed: [1, 2]
do: [pretrain]
evaluate: none
"""
STEPS = 200
KEYS = [f"train.steps={STEPS}", "train.eval_every=100", "train.early_stop=0", "checkpoint.every_steps=25"]
LONG = ["train.steps=100000000", "train.eval_every=0", "checkpoint.every_steps=25"]


class Jobs:
    """Submits into one folder; keeps the numbers, so that what a job wrote can be shown where it failed."""

    def __init__(self, cluster, folder):
        self.cluster, self.folder, self.number = cluster, folder, {}
        self.env = dict(cluster.env, CROCUTA_SITE=self.file("site.conf", SITE), CROCUTA_PROGRAM=CROCUTA, CROCUTA_SLURM=SLURM)
        self.config = self.file("c.yaml", CONFIG)

    def file(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w") as f:
            f.write(text)
        return path

    def run(self, name):
        return os.path.join(self.folder, name)

    def note(self, name, r):
        words = r.stdout.split()
        check(f"{name} is submitted", r.returncode == 0 and "Submitted batch job" in r.stdout, r.stdout + r.stderr)
        self.number[name] = int(words[-1]) if r.returncode == 0 else 0

    def submit(self, name, *arguments, env={}):
        command = [os.path.join(SLURM, "submit"), self.config, "-o", self.run(name), "--step-seconds", "0.1", *arguments]
        self.note(name, subprocess.run(command, capture_output=True, text=True, env=dict(self.env, **env), cwd=self.folder))

    def sbatch(self, name, options, script, *arguments):
        command = ["sbatch", f"--output={self.run(name)}-%j.log", *options, os.path.join(SLURM, script), *arguments]
        self.note(name, subprocess.run(command, capture_output=True, text=True, env=self.env, cwd=self.folder))

    def log(self, name):
        return "".join(open(f, errors="replace").read() for f in glob.glob(self.run(name) + "-*.log"))

    def job(self, name):
        return self.cluster.job(self.number[name])

    def reaches(self, name, step, limit=90):
        self.cluster.wait(f"{name} has a checkpoint at {step}", lambda: newest(self.run(name)) >= step, limit)

    def ended(self, name, state, code, restarts=None, limit=120):
        got = self.cluster.ended(self.number[name], limit)
        ok = got[0] == state and (code is None or got[1] == f"{code}:0") and (restarts is None or got[2] == restarts)
        check(f"{name} ends {state}, status {code}, {restarts} restarts", ok, f"{got}\n{self.log(name)[-3000:]}")


def started(jobs):
    """Three jobs on one node and one on the other, at the same time; the time limit's is one rank that never comes to an end."""
    jobs.sbatch("limit", ["--time=1", "--signal=USR1@10", "--ntasks-per-node=1", "--cpus-per-task=1", "--mem=1G"], "pretrain.sbatch",
                jobs.config, jobs.run("limit"), *LONG)
    on = {"whole": "n1", "asked": "n1", "lost": "n2"}
    for name, node in on.items():
        jobs.submit(name, *KEYS, "--sbatch", f"--nodelist={node}")
    jobs.cluster.wait("jobs run at once", lambda: all(jobs.job(n)["JobState"] == "RUNNING" for n in on), 30)


def asked_to_stop(jobs):
    jobs.reaches("asked", 25)
    jobs.cluster.ask("scancel", "--signal=USR1", str(jobs.number["asked"]))


def node_lost(jobs):
    jobs.reaches("lost", 25)
    jobs.cluster.lose("n2")
    jobs.kept = newest(jobs.run("lost"))


def went_on(jobs):
    """The node is back once Slurm has noticed that it was gone; meanwhile the other one has worked."""
    jobs.cluster.revive("n2")
    for name in ("asked", "lost"):
        jobs.ended(name, "COMPLETED", 0, 1)
    same_losses(jobs, "whole", "asked", "signal")
    same_losses(jobs, "whole", "lost", None)
    resumed = [e["step"] for e in events_of(jobs.run("lost")) if e["event"] == "resume"]
    check("what the lost node had written is kept", resumed and resumed[0] == jobs.kept, (resumed, jobs.kept))


def same_losses(jobs, whole, name, event):
    a, b = losses(jobs.run(whole)), losses(jobs.run(name))
    check(f"{name}: losses of a run that was never interrupted", len(a) == STEPS and a == b, f"{len(a)} and {len(b)} steps, {[s for s in a if a[s] != b.get(s)][:5]} differ")
    events = [e["event"] for e in journal(jobs.run(name), "events.jsonl")]
    check(f"{name}: {event} before it is resumed", "resume" in events and (event is None or event in events[:events.index("resume")]), events)


def time_limit_and_scancel(jobs):
    """USR1 before the limit, a second attempt that goes on, and scancel, after which nothing comes back."""
    jobs.cluster.wait("the time limit's second attempt goes on", lambda: any(e["event"] == "resume" and e["step"] > 0 for e in events_of(jobs.run("limit"))), 120)
    check("queued again before the limit", "queued again" in jobs.log("limit") and jobs.job("limit")["Restarts"] != "0", jobs.log("limit")[-2000:])
    at = [e["step"] for e in events_of(jobs.run("limit")) if e["event"] == "resume"][-1]
    jobs.reaches("limit", at + 25)
    restarts = jobs.job("limit")["Restarts"]
    jobs.cluster.ask("scancel", str(jobs.number["limit"]))
    jobs.ended("limit", "CANCELLED", None, int(restarts), 30)
    jobs.cluster.wait("a cancelled run has said so", lambda: events_of(jobs.run("limit"))[-1]["event"] == "end", 15)
    time.sleep(2)
    check("cancelled is cancelled", jobs.job("limit")["JobState"] == "CANCELLED", jobs.job("limit"))


def events_of(run):
    try:
        return journal(run, "events.jsonl")
    except (OSError, ValueError):
        return []


def leads_nowhere(jobs):
    """A program that stops at once, on fake GPUs of two nodes: it is given up after MAX_STALLED attempts, and says where its ranks were."""
    stub = jobs.file("stub", STUB.format(crocuta=CROCUTA))
    os.chmod(stub, 0o755)
    site = jobs.file("gpu.conf", SITE + "GPUS_PER_NODE=2\nCORES_PER_NODE=12\nMPI=none\n")
    jobs.submit("nowhere", "--nodes", "2", env={"CROCUTA_PROGRAM": stub, "CROCUTA_SITE": site})
    jobs.ended("nowhere", "FAILED", 75, 1, 90)
    log = jobs.log("nowhere")
    check("given up", "without a newer checkpoint" in log and log.count("queued again") == 1, log)
    for attempt in (log[:log.find("queued again")], log[log.find("queued again"):]):
        ranks = sorted(l for l in attempt.split("\n") if l.startswith("rank "))
        check("1 + G ranks, the coordinator on the first node", [l.split()[3] for l in ranks] == ["0", "0", "0", "1", "1"], ranks)
        check("each rank sees its node's GPUs and has its threads", all("gpus 0,1 threads 4 of 4" in l for l in ranks), ranks)


def fails_for_good(jobs):
    jobs.sbatch("wrong", ["--nodelist=n1", "--ntasks-per-node=1", "--cpus-per-task=1", "--mem=1G"], "pretrain.sbatch", jobs.config, jobs.run("wrong"), "data.path=none.h5")
    jobs.ended("wrong", "FAILED", 3, 0, 40)
    check("the program's line", "crocuta: error: " in jobs.log("wrong"), jobs.log("wrong"))


def long_contexts(jobs):
    """The script for sequences of growing length, whole nodes, here without GPUs."""
    jobs.file("warm.yaml", CONFIG + "stages: [{seq_len: 16, steps: 2}, {seq_len: 32, steps: 2}]\n")
    command = ["warm.yaml", "-o", jobs.run("warm"), "--step-seconds", "0.1", "--job", "pretrain-long", "--workers", "1", "--sbatch", "--nodelist=n1", "comm.coordinator=worker", "train.steps=6"]
    jobs.note("warm", subprocess.run([os.path.join(SLURM, "submit"), *command], capture_output=True, text=True, env=jobs.env, cwd=jobs.folder))
    jobs.ended("warm", "COMPLETED", 0, 0)
    lengths = [m["seq_len"] for m in journal(jobs.run("warm"), "metrics.jsonl") if m["split"] == "train"]
    check("lengths grow", lengths == [16, 16, 32, 32, 64, 64], lengths)


def fine_tuned(jobs):
    jobs.ended("whole", "COMPLETED", 0, 0)
    jobs.submit("tuned", "--sbatch", "--nodelist=n1", "--job", "finetune", "--from", jobs.run("whole"), "finetune.steps=8", "--", "--context", "64", "--baselines", "majority", "--bootstrap", "20")
    jobs.ended("tuned", "COMPLETED", 0, 0)
    path = os.path.join(jobs.run("tuned"), "results", "evaluate.json")
    methods = [r["method"] for r in json.load(open(path))["results"]] if os.path.exists(path) else []
    check("judged beside a simple method", sorted(set(methods)) == ["majority", "model"], methods)


def swept(jobs):
    """A sweep that is asked to stop in the middle of its first trial, and goes on in the job's second attempt."""
    sweep = jobs.file("sweep.yaml", SWEEP)
    command = [os.path.join(SLURM, "submit"), sweep, "-o", jobs.run("swept"), "--job", "sweep", "--group-size", "2"]
    jobs.note("swept", subprocess.run(command, capture_output=True, text=True, env=jobs.env, cwd=jobs.folder))
    trials = os.path.join(jobs.run("swept"), "trials")
    begun = lambda: [r for r in glob.glob(os.path.join(trials, "*", "pretrain")) if newest(r) >= 25]
    jobs.cluster.wait("a trial has a checkpoint", begun, 60)
    jobs.cluster.ask("scancel", "--signal=USR1", str(jobs.number["swept"]))
    jobs.ended("swept", "COMPLETED", 0, 1)
    rows = open(os.path.join(jobs.run("swept"), "trials.tsv")).read().splitlines()
    check("both trials are done", [r.split("\t")[1] for r in rows[1:]] == ["done", "done"], rows)
    events = [[e["event"] for e in events_of(r)] for r in begun()]
    check("one was resumed, the other not begun before", sorted("resume" in e for e in events) == [False, True], events)


def main():
    install()
    begun = time.time()
    cluster = Cluster()
    jobs = Jobs(cluster, cluster.root)
    try:
        cluster.start()
        for part in (started, asked_to_stop, node_lost, fails_for_good, fine_tuned, long_contexts, went_on, leads_nowhere, swept, time_limit_and_scancel):
            part(jobs)
            print(f"{time.time() - begun:4.0f} s  {part.__name__}", flush=True)
    except RuntimeError as e:
        check("the cluster", False, e)
        for name in jobs.number:
            print(f"---- {name}: {jobs.job(name).get('JobState')}\n{jobs.log(name)[-1500:]}")
        print(cluster.said())
    finally:
        cluster.stop()
    check("nothing is left", not cluster.processes() and not os.path.exists(cluster.root), cluster.processes())
    end()


main()
