#!/usr/bin/env python3
"""labels: mpi
What a file system can do to checkpoints of a run on three ranks: a job killed between a checkpoint's name and `latest`, or
before its manifest, goes on exactly; a rank that cannot write costs one checkpoint and no step, unless it was the last; a read
error on one rank, of data or checkpoint, is one line and one status."""
import errno
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from training import CONFIG, CROCUTA, SOURCE, check, committed, done, end, journal, lines, losses, refused, run

OPTIONS = ["-q", "--threads", 1, "train.steps=30", "train.eval_every=0", "train.early_stop=0", "checkpoint.every_steps=10"]


def main():
    with tempfile.TemporaryDirectory() as tmp:
        config, whole, library = (os.path.join(tmp, n) for n in ("c.yaml", "whole", "faults.so"))
        open(config, "w").write(CONFIG)
        subprocess.run(["cc", "-shared", "-fPIC", "-D_GNU_SOURCE", "-o", library, os.path.join(SOURCE, "tests", "faults.c"), "-ldl"], check=True)

        def job(path, fault=None, *more):
            # by wrapper: the launcher itself must not be touched
            env = dict(os.environ)
            command = [CROCUTA]
            if fault:
                command = ["env", f"LD_PRELOAD={library}", f"FAULT={fault}", CROCUTA]
            mpirun = ["mpirun", "-q", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", "3"]
            return subprocess.run(mpirun + command + ["pretrain", config, "-o", path, *map(str, OPTIONS), *more], capture_output=True, text=True, timeout=240, env=env)

        def exact(what, path):
            a, b = losses(whole), losses(path)
            check(what, a == b, [s for s in a if a[s] != b.get(s)][:5])

        done("undisturbed", job(whole))
        for what, part, newest in (("between name and pointer", "latest", "step-0000010.h5"), ("before the manifest", "step-0000020.json", "step-0000010.h5"), ("before the name", "step-0000020.h5", "step-0000010.h5")):
            path = os.path.join(tmp, what)
            r = job(path, f"rename:/{part}:kill:0")
            check(what, r.returncode not in (0, 75), r.returncode)
            check(what, committed(path)[-1:] == [newest], committed(path))
            r = job(path, None, "--resume")
            done(what, r)
            check(what, committed(path)[-1] == "step-0000030.h5" and not [f for f in os.listdir(os.path.join(path, "checkpoints")) if "tmp" in f], os.listdir(os.path.join(path, "checkpoints")))
            resumed = [e["step"] for e in journal(path, "events.jsonl") if e["event"] == "resume"]
            check(what, resumed == [10], resumed)
            exact(what, path)

        for error in ("ENOSPC", "EDQUOT", "EIO"):
            path = os.path.join(tmp, error)
            r = job(path, f"pwrite:step-0000020:{getattr(errno, error)}:2")
            done(error, r)
            check(error, committed(path) == ["step-0000010.h5", "step-0000030.h5"], committed(path))
            failed = [e for e in journal(path, "events.jsonl") if e["event"] == "checkpoint_failed"]
            check(error, len(failed) == 1 and failed[0]["step"] == 20 and os.strerror(getattr(errno, error)) in failed[0]["detail"], failed)
            check(error, len(lines(r, "warning")) == 1 and "step-0000020" in r.stderr, r.stderr)
            exact(error, path)
        path = os.path.join(tmp, "last")
        refused("the last one", job(path, f"pwrite:step-0000030:{errno.ENOSPC}:1"), 4, "step-0000030", "No space left")
        check("the last one", committed(path)[-1] == "step-0000020.h5", committed(path))
        done("verify", run("checkpoint", "verify", path))
        refused("a folder that refuses, at the last one", job(os.path.join(tmp, "rename"), f"rename:step-0000030.h5:{errno.EACCES}:0"), 4, "Permission denied")

        refused("data unread on one rank", job(os.path.join(tmp, "data"), f"read:small.h5:{errno.EIO}:1"), 3)
        refused("a checkpoint unread on one rank", job(path, f"read:step-0000020.h5:{errno.EIO}:2", "--resume"), 3, "step-0000020")
        done("and read the next time", job(path, None, "--resume"))
        exact("and read the next time", path)
    end()


main()
