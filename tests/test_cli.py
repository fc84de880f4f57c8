#!/usr/bin/env python3
"""labels: mpi
The command line from outside: help and version on stdout, wrong calls as one line with exit code 2 on any number of
ranks, results that cannot be written, closed pipes, and the guard against ranks that do not find each other."""
import json
import os
import re
import subprocess
import sys
import tempfile

CROCUTA = os.environ["CROCUTA"]
SOURCE = os.environ["CROCUTA_SOURCE"]
MPIRUN = ["mpirun", "-q", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n"]
SHAPE = re.compile(r"^crocuta: error: \S.*?: .+; .+$")
failures = []


def run(*args, ranks=0, env=None, **more):
    command = (MPIRUN + [str(ranks)] if ranks else []) + [CROCUTA, *args]
    return subprocess.run(command, capture_output=more.pop("capture", True), text=True, timeout=60,
                          env={**os.environ, **(env or {})}, **more)


def check(what, ok, shown=""):
    if not ok:
        failures.append(what)
        print(f"FAILED {what}: {shown}")


def refused(what, r, code, *parts):
    """One line of the right form, nothing on stdout, the right code."""
    lines = [l for l in r.stderr.split("\n") if l]
    check(what, r.returncode == code, f"exit {r.returncode}, {r.stderr!r}")
    check(what, len(lines) == 1 and SHAPE.match(lines[0]), r.stderr)
    check(what, r.stdout == "", f"stdout {r.stdout!r}")
    for p in parts:
        check(what, p in r.stderr, f"no {p!r} in {r.stderr!r}")


def help_and_version():
    r = run("--help")
    check("--help", r.returncode == 0 and r.stderr == "" and "COMMAND" in r.stdout, r)
    commands = re.findall(r"^  ([a-z]+) {2,}", r.stdout, re.M)
    check("commands", {"plan", "config", "doctor"} <= set(commands), commands)
    for c in commands:
        r = run(c, "--help")
        check(f"{c} --help", r.returncode == 0 and r.stderr == "" and r.stdout.startswith(f"crocuta {c}"), r)
        check(f"{c} --help has an example", r.stdout.count(f"crocuta {c}") >= 2, r)
        check(f"{c} --help lists the common options", "--threads" in r.stdout, r)
    r = run("--version")
    for part in ("crocuta ", "commit ", "backends ", "libraries ", "MPI", "HDF5"):
        check("--version", r.returncode == 0 and part in r.stdout, r.stdout)
    r = run("--version", ranks=3)
    check("--version on 3 ranks prints once", r.stdout.count("commit ") == 1 and r.returncode == 0, r.stdout)


def wrong_calls(folder):
    for batch in ("10000", "99999999999999"):  # refused before anything of that size is touched
        refused(f"bench --batch {batch}", run("bench", "large-1m", "--batch", batch, "--seq-len", "1000000"), 4, "lower")
    good = os.path.join(folder, "good.yaml")
    open(good, "w").write("model: {preset: tiny-1k}\n")
    refused("a key of the command line has no line", run("bench", good, "--batch", "1", "--seq-len", "64", "model.mixer=attention"), 2, "good.yaml: model.mixer")
    bad = os.path.join(folder, "bad.yaml")
    open(bad, "w").write("model: {preset: tiny-1k}\ntrain: {stepz: 5}\n")
    for ranks in (0, 3):
        refused(f"no command, {ranks} ranks", run(ranks=ranks), 2, "--help")
        refused(f"unknown command, {ranks} ranks", run("plam", ranks=ranks), 2, "plam", "did you mean plan?")
        refused(f"unknown option, {ranks} ranks", run("plan", good, "--worker", "2", ranks=ranks), 2, "--worker",
                "--workers")
        refused(f"bad configuration, {ranks} ranks", run("plan", bad, ranks=ranks), 2, "bad.yaml:2: train.stepz",
                "train.steps")
        refused(f"override, {ranks} ranks", run("plan", good, "train.steps=x", ranks=ranks), 2, "train.steps=x: ")
        refused(f"too little memory, {ranks} ranks", run("plan", good, "--device-memory", "10000", ranks=ranks), 4,
                "GiB", "10000")
        refused(f"no such data, {ranks} ranks", run("plan", good, "data.path=none.h5", ranks=ranks), 3, "none.h5")
    for args in (["--workers"], ["--workers", "x"], ["--workers", "1.5"], ["--workers=99999999999999999999"],
                 ["--json=1"], ["--threads", "-1"], ["--device", "tpu"], ["-z"], ["--seed", ""], ["--seed", "-4"]):
        refused(f"plan {' '.join(args)}", run("plan", good, *args), 2, args[0].split("=")[0].lstrip("-"))
    for args in (["evaluate", "none", "x.h5", "--piece", "0"], ["evaluate", "none", "x.h5", "--stride", "0"], ["predict", "m", "x.vcf", "--context", "0"],
                 ["simulate", "m", "--ahead", "0"], ["simulate", "m", "--context", "0"], ["checkpoint", "prune", folder, "--keep", "0"], ["checkpoint", "prune", folder, "--keep", "-1"]):
        refused(" ".join(args), run(*args, "-o", os.path.join(folder, "out.vcf")), 2, args[-2] + ":", "or more")
    refused("two values of one key", run("plan", good, "train.steps=4", "train.steps=5"), 2, "twice")
    refused("no file", run("plan", os.path.join(folder, "nowhere.yaml")), 2, "nowhere.yaml")
    refused("no configuration", run("plan"), 2, "plan")
    refused("control characters", run("pl\nan\x1b[2J"), 2, "\\x0a", "\\x1b")


def right_calls(folder):
    good = os.path.join(folder, "good.yaml")
    for ranks in (0, 3):
        r = run("plan", "--json", "train.steps=1e3", good, "--", "optimizer.lr=.0001", ranks=ranks)
        if ranks == 0:  # options end at --, overrides before the file are no configuration
            check("override first", r.returncode == 2, r)
        r = run("plan", "--json", good, "--workers=4", "train.steps=1e3", "optimizer.lr=.0001", ranks=ranks)
        check("plan --json", r.returncode == 0 and r.stderr == "", r)
        doc = json.loads(r.stdout)
        check("schema", doc["schema"] == "crocuta/plan/1", doc["schema"])
        check("values", doc["config"]["train"]["steps"] == 1000 and doc["config"]["optimizer"]["lr"] == 1e-4
              and doc["config"]["model"]["preset"] == "tiny-1k" and doc["data_parallel"] == 4, r.stdout)
        bytes_ = doc["bytes"]
        check("total is the sum", bytes_["total"] == sum(v for k, v in bytes_.items() if k != "total"), bytes_)
        # 436 096 parameters of the published tiny-1k, in fp32, and room for alignment
        check("weights", 4 * 436096 <= bytes_["weights"] <= 4 * 436096 * 1.02, bytes_["weights"])
        check("seconds", doc["seconds_per_step"] is None and doc["fits"] is True, doc["seconds_per_step"])
    r = run("plan", good, "--json", "--device-memory", "10000")
    check("json of what does not fit", r.returncode == 4 and json.loads(r.stdout)["fits"] is False, r)
    small = json.loads(run("plan", good, "--json", "--device-memory", "40MiB").stdout)
    check("less memory, less kept", small["bytes"]["total"] <= 40 << 20 and small["fits"], small["bytes"])
    r = run("config")
    check("config", r.returncode == 0 and "fpe-alpha" in r.stdout and "study" in r.stdout, r)
    for name in ("fpe-alpha", "study", "tiny-1k"):
        r = run("config", name)
        path = os.path.join(folder, "printed.yaml")
        open(path, "w").write(r.stdout)
        again = run("plan", path, "position.length=1000000", "--json", "data.path=" + "/nowhere.h5")
        check(f"config {name} reads back", r.returncode == 0 and again.returncode == 3, again)
    refused("config of nothing", run("config", "fpe-alpa"), 2, "fpe-alpha")
    r = run("config", "--markdown")
    check("docs/configuration.md", r.stdout == open(os.path.join(SOURCE, "docs/configuration.md")).read())


def streams(folder):
    good = os.path.join(folder, "good.yaml")
    with open("/dev/full", "w") as full:
        r = subprocess.run([CROCUTA, "plan", good], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    check("a full disk", r.returncode == 4 and SHAPE.match(r.stderr.strip()), r)
    p = subprocess.Popen([CROCUTA, "config", "--markdown"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    p.stdout.close()  # as `| head -0` does
    p.wait(60)
    check("a reader that left", p.returncode == 0 and p.stderr.read() == "", p.returncode)
    p.stderr.close()
    r = subprocess.run(["sh", "-c", f"'{CROCUTA}' plan '{good}' >&- 2>&- <&-"], timeout=60)
    check("closed descriptors", r.returncode in (0, 4), r.returncode)


def slurm():
    """Several tasks of a step that MPI does not connect: refused; one task, or no step: fine."""
    step = {"SLURM_JOB_ID": "77", "SLURM_NTASKS": "4", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4"}
    for rank in "03":
        r = run("config", env={**step, "SLURM_PROCID": rank, "SLURM_LOCALID": rank})
        check("a step without the process manager", "pmix" in r.stderr, r)
        refused("a step without the process manager", r, 2, "4 tasks", "srun --mpi=pmix")
    for env in ({"SLURM_JOB_ID": "77", "SLURM_NTASKS": "1", "SLURM_PROCID": "0"},
                {"SLURM_JOB_ID": "77", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"},
                {"SLURM_JOB_ID": "77", "SLURM_JOBID": "77", "SLURM_NTASKS": "4", "SLURM_PROCID": "0",
                 "SLURM_NODELIST": "here"},
                {**step, "SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "1", "SLURM_JOBID": "77", "SLURM_STEPID": "0",
                 "SLURM_NODELIST": "here", "SLURM_PROCID": "0"}):
        r = run("config", env=env)
        check("one task", r.returncode == 0 and r.stderr == "", r)
    r = run("config", ranks=2, env=step)
    check("mpirun inside a step", r.returncode == 0, r)


def doctor():
    for ranks in (0, 3):
        r = run("doctor", ranks=ranks)
        lines = r.stdout.strip().split("\n")
        check("doctor", r.returncode == 0 and all(re.match(r"(ok|do) {4}\S", l) for l in lines), r)
        for name in ("cores", "products", "MPI", "HDF5", "HDF5 write", "GPUs", "NCCL", "file system"):
            check(f"doctor on {name}", sum(l[6:20].rstrip() == name for l in lines) == 1, r.stdout)
        probe = re.search(r"^ok {4}HDF5 write +(\d+) rank(?:s together)? on \S+, synced and read back", r.stdout, re.M)
        check("doctor's file of all ranks", probe and int(probe[1]) == max(ranks, 1), r.stdout)
        check("doctor on NCCL", re.search(r"^(ok|do) {4}NCCL +(NCCL \d+\.\d+\.\d+[;:]|not in this build|does not load)", r.stdout, re.M), r.stdout)
    doc = json.loads(run("doctor", "--json").stdout)
    check("doctor --json", doc["schema"] == "crocuta/doctor/1" and len(doc["checks"]) >= 8, doc)
    for ranks in (0, 3):
        r = run("doctor", cwd="/proc", ranks=ranks)
        check("doctor where nothing can be written", re.search(r"^do {4}file system", r.stdout, re.M), r.stdout)
        check("doctor where nothing can be written together", re.search(r"^do {4}HDF5 write", r.stdout, re.M) and r.returncode == 0, r)
    r = run("doctor", env={"OMPI_MCA_fs_ufs_lock_algorithm": "1"})
    check("doctor on a guard that was switched off", re.search(r"^do {4}MPI .*lock_algorithm", r.stdout, re.M), r.stdout)
    left = [f for f in os.listdir(".") if f.startswith(".crocuta-doctor")]
    check("doctor leaves nothing", not left, left)


def main():
    with tempfile.TemporaryDirectory() as folder:
        help_and_version()
        wrong_calls(folder)
        right_calls(folder)
        streams(folder)
        slurm()
        doctor()
    print(f"{len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
