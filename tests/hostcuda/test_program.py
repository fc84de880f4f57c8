#!/usr/bin/env python3
# labels: hostcuda
"""The program on hostcuda. With the CPU's operations in device memory (HOSTCUDA_FAR=all) whatever it prints and writes is
the CPU's to the last bit: training on one worker and two, fine-tuning with every kind of head, resuming, evaluation,
prediction, simulation; steps skipped, ways back to a checkpoint, workers stopped and resumed. With CUDA's kernels it agrees
to rounding, and takes the memory that was planned. Calls of CUDA that fail end it with one line, the right code, and nothing left behind."""
import gzip
import json
import os
import random
import signal
import subprocess
import sys
import tempfile

SOURCE = os.environ["CROCUTA_SOURCE"]
sys.path.insert(0, os.path.join(SOURCE, "tests"))
from training import DATA, check, command, committed, disturb, done, end, journal, losses, refused, run

PART = sys.argv[1]  # far, course, kernels, memory or failures
ENVIRONMENT = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0", "HOSTCUDA_DEVICES": "2", "OMP_NUM_THREADS": "1"}
CONFIG = f"""\
seed: 1
data:       {{path: {DATA}, seq_len: 40%s}}
model:      {{d_model: 8, n_layer: 2, d_inner: 16, l_max: 42, filter_order: 8, emb_dim: 3, embed_dropout: 0.1%s}}
position:   {{encoding: %s, alpha: 100, rank: 3, rows: %s, init: %s}}
optimizer:  {{lr: 3.0e-3, rows_lr: 1.0e-2}}
train:      {{steps: 4, tokens_per_step: 240, micro_batch: 2, eval_every: 2, eval_windows: 4}}
finetune:   {{steps: 4, lr: 3.0e-3, head_hidden: 4}}
checkpoint: {{every_minutes: 0}}
"""
PLAIN = CONFIG % ("", "", "fpe", "shared", "zero")
SITES = CONFIG % (", absent: sums", ", head: class-conditional, head_rank: 3, residual_init: 0.1", "fpe-multi", "site", "normal")


def write(name, text):
    with open(name, "w") as f:
        f.write(text)
    return name


def crocuta(*arguments, device="cuda", ranks=0, **environment):
    return run(*arguments, "--device", device, "--threads", 1, ranks=ranks, env={**ENVIRONMENT, **environment})


def metrics(path):
    """What does not depend on time or memory."""
    keys = ("step", "split", "loss", "accuracy", "grad_norm", "clipped", "lr")
    return [[m.get(k) for k in keys] for m in journal(path, "metrics.jsonl")]


def close(a, b, bound):
    """Two runs' metrics, losses and norms to a relative bound."""
    for x, y in zip(a, b):
        for k in (2, 4):
            if x[k] is not None and not abs(x[k] - y[k]) <= bound * abs(y[k]):
                return False
    return len(a) == len(b) > 0


def train(what, command, config, name, *more, ranks=0, **environment):
    runs = {}
    for device in ("cpu", "cuda"):
        runs[device] = f"{name}-{device}"
        done(f"{what} on {device}", crocuta(command, config, *more, "-o", runs[device], device=device, ranks=ranks, **environment))
    return metrics(runs["cuda"]), metrics(runs["cpu"])


def same_file(what, a, b):
    opened = gzip.open if a.endswith(".gz") else open
    with opened(a, "rb") as x, opened(b, "rb") as y:
        check(what, x.read() == y.read(), f"{a} and {b} differ")


def sequences(data, table):
    """600 random bases for each line of a table of sequences."""
    letters = random.Random(1)
    with open("in.fa", "w") as f:
        for line in table.splitlines():
            f.write(f">{line.split()[0]}\n" + "".join(letters.choice("ACGT") for _ in range(600)) + "\n")
    done("import", crocuta("import", "-q", "-m", write("map.tsv", table), "-o", data, "in.fa", device="cpu"))


def species(all_far):
    sequences("species.h5", "".join(f"{kind}{split}\t{kind}\t{split}\n" for kind in "xy" for split in ("train", "valid", "test")))
    text = PLAIN.replace("encoding: fpe", "encoding: none").replace("seq_len: 40", "tokens: nucleotide, seq_len: 40").replace(DATA, "species.h5")
    config = write("species.yaml", text)
    for name, command, more, ranks in (("bases", "pretrain", (), 0), ("species", "finetune", ("--from", "bases-cuda"), 0), ("species of three", "finetune", ("--from", "bases-cuda"), 3)):
        a, b = train(name, command, config, name, *more, ranks=ranks, **all_far)
        check(f"{name}: the same bits", a == b and len(a) > 4, f"{a}\n{b}")
    for name, file in (("bases", "next_base.tsv.gz"), ("species", "windows.tsv.gz")):
        for device in ("cpu", "cuda"):
            done(f"evaluate {name} on {device}", crocuta("evaluate", f"{name}-cuda", "species.h5", "-o", f"judged {name} {device}", "--context", 40, "--baselines", "none", device=device, **all_far))
        same_file(f"evaluate {name}", f"judged {name} cpu/{file}", f"judged {name} cuda/{file}")


def far():
    plain, sites = write("plain.yaml", PLAIN), write("sites.yaml", SITES)
    next_token = write("next.yaml", PLAIN + "objective: position-conditioned\n")
    waves = write("waves.yaml", PLAIN.replace("encoding: fpe", "encoding: sinusoidal"))
    all_far = {"HOSTCUDA_FAR": "all"}
    for name, command, config, more, ranks in (
            ("rows", "pretrain", plain, (), 0), ("two workers", "pretrain", plain, (), 3),
            ("next position", "pretrain", next_token, (), 0), ("waves", "pretrain", waves, (), 0),
            ("next site", "pretrain", sites, ("objective=next-site",), 0),
            ("pooled", "finetune", plain, ("--from", "rows-cuda"), 0),
            ("site head", "finetune", sites, ("--from", "none"), 0),
            ("from next site", "finetune", sites, ("--from", "next site-cuda"), 3)):
        a, b = train(name, command, config, name, *more, ranks=ranks, **all_far)
        check(f"{name}: the same bits", a == b and len(a) > 4, f"{a}\n{b}")
    done("half", crocuta("pretrain", plain, "-o", "resumed", "--max-steps", 2, **all_far))
    done("the other half", crocuta("pretrain", plain, "-o", "resumed", "--resume", **all_far))
    check("resumed: the same bits", metrics("resumed") == metrics("rows-cpu"), metrics("resumed"))
    done("more steps", crocuta("pretrain", plain, "-o", "resumed", "--resume", "train.steps=5", **all_far))
    for device in ("cpu", "cuda"):
        for model in ("pooled", "site head"):
            done(f"evaluate on {device}", crocuta("evaluate", f"{model}-cuda", DATA, "-o", f"evaluate {model} {device}", "--context", 40, "--baselines", "majority", "--bootstrap", 10, device=device, **all_far))
        done(f"simulate on {device}", crocuta("simulate", "site head-cuda", "-o", f"{device}.vcf", "--people", 1, device=device, **all_far))
        done(f"predict on {device}", crocuta("predict", "site head-cuda", "cpu.vcf", "-o", f"predict {device}", device=device, **all_far))
    for model in ("pooled", "site head"):
        same_file("evaluate", f"evaluate {model} cpu/windows.tsv.gz", f"evaluate {model} cuda/windows.tsv.gz")
    same_file("predict", "predict cpu/windows.tsv.gz", "predict cuda/windows.tsv.gz")
    with open("cpu.vcf") as a, open("cuda.vcf") as b:
        check("simulate", [l for l in a if l[0] != "#"] == [l for l in b if l[0] != "#"])
    species(all_far)


STEPS = 122


def events(path):
    return [[e["event"], e["step"], e["detail"]] for e in journal(path, "events.jsonl") if e["event"] in ("skip", "nan", "rollback")]


def disturbed(what, config, path, number, worker, more):
    """A job on two GPUs that gets a signal once it has a checkpoint. -> exit status, stderr."""
    line = command("pretrain", config, "-o", path, "--device", "cuda", "--threads", 1, *more, ranks=3)
    job = subprocess.Popen(line, stderr=subprocess.PIPE, text=True, env={**ENVIRONMENT, "HOSTCUDA_FAR": "all"})
    _, error, _ = disturb(what, job, path, number, worker)
    check(f"{what}: there is a checkpoint", committed(path), os.listdir(path))
    return job.returncode, error


def course():
    """What happens to a run: its checkpoints are written beside the steps, from memory that the steps change."""
    text = PLAIN.replace("steps: 4,", f"steps: {STEPS}, early_stop: 0,", 1).replace("eval_every: 2", "eval_every: 40")
    config, all_far = write("course.yaml", text.replace("{every_minutes", "{every_steps: 7, keep: 30, every_minutes")), {"HOSTCUDA_FAR": "all"}
    wild = ("train.skip_norm=0.88", "train.skip_most=2", "position.alpha=1")  # 100 norms, then a few unusual ones among those that follow
    for ranks in (0, 3):
        a, b = train("skipped", "pretrain", config, f"skipped-{ranks}", *wild, ranks=ranks, **all_far)
        told = events(f"skipped-{ranks}-cuda")
        check("skipped: the same bits", a == b and len(a) > STEPS, f"{a[-3:]}\n{b[-3:]}")
        check("skipped: checkpoints", not any(e["event"] == "checkpoint_failed" for e in journal(f"skipped-{ranks}-cuda", "events.jsonl")))
        check("skipped: the same events", told == events(f"skipped-{ranks}-cpu") and sum(e[0] == "rollback" for e in told) > 1, told)
    for device in ("cpu", "cuda"):
        refused(f"given up on {device}", crocuta("pretrain", config, "-o", f"given up {device}", "train.skip_norm=0.5", *wild[1:2], device=device, **all_far), 1, "going back did not help")
    done("whole", crocuta("pretrain", config, "-o", "whole", device="cpu", ranks=3))
    code, _ = disturbed("signal", config, "signal", signal.SIGTERM, 1, ())
    check("signal", code == 75, code)
    done("a GPU's checkpoint goes on on a CPU", crocuta("pretrain", config, "-o", "signal", "--resume", device="cpu", ranks=3))
    check("signal: the same bits", losses("signal") == losses("whole"))
    for number, words in ((signal.SIGSTOP, "is stopped"), (signal.SIGKILL, "died")):
        path = f"lost {number}"
        code, error = disturbed(path, config, path, number, 1, ("comm.timeout_s=6",))
        lost = [e["detail"] for e in journal(path, "events.jsonl") if e["event"] == "worker_lost"]
        check(path, code != 0 and len(lost) == 1 and words in lost[0] and "worker 1 (rank 2" in lost[0] and "phase " in lost[0], f"{code} {lost} {error}")
        done(path, crocuta("pretrain", config, "-o", path, "--resume", "comm.timeout_s=120", ranks=3, **all_far))
        check(f"{path}: the same bits", losses(path) == losses("whole"))


def mixed():
    """Wide intermediates in bf16: near fp32 and not it, learning, resumed to the last bit; refused on a CPU, which evaluates it in fp32."""
    config = write("mixed.yaml", PLAIN.replace("steps: 4,", "steps: 6,", 1).replace("{steps", "{precision: mixed, steps", 1))
    done("mixed", crocuta("pretrain", config, "-o", "mixed"))
    done("the same in fp32", crocuta("pretrain", config, "-o", "fp32", "train.precision=fp32"))
    done("mixed, half", crocuta("pretrain", config, "-o", "mixed again", "--max-steps", 3))
    done("mixed, the other half", crocuta("pretrain", config, "-o", "mixed again", "--resume"))
    a, b = metrics("mixed"), metrics("fp32")
    check("mixed resumed: the same bits", a == metrics("mixed again"), a)
    check("mixed is near fp32", close(a, b, 1e-2) and a != b, f"{a}\n{b}")
    check("mixed learns", a[-1][2] < a[0][2] - 0.02, a)
    refused("mixed on a CPU", crocuta("pretrain", config, "-o", "refused", device="cpu"), 2, "mixed.yaml:6: train.precision: mixed needs a GPU")
    refused("mixed, no GPU", crocuta("pretrain", config, "-o", "refused", device="auto", HOSTCUDA_DEVICES="0"), 2, "needs a GPU")
    check("refused: nothing left behind", not os.path.exists("refused"))
    for device in ("cpu", "cuda"):
        done(f"evaluate on {device}", crocuta("evaluate", "mixed", DATA, "-o", f"evaluate mixed {device}", "--context", 40, "--baselines", "majority", "--bootstrap", 10, device=device))


def compared():
    """Operation by operation: a GPU's training against a CPU's, and against one that began elsewhere, which parts at once."""
    config = write("compared.yaml", PLAIN)
    for name, device, how, seed, code in (("recorded", "cpu", "record:ops.txt", 1, 0), ("held", "cuda", "compare:ops.txt", 1, 0), ("parted", "cuda", "compare:ops.txt", 2, 1)):
        r = crocuta("pretrain", config, "-o", name, f"seed={seed}", device=device, CROCUTA_CHECK_DEVICE=how)
        check(f"compared: {name}", r.returncode == code, f"{r.returncode} {r.stderr}")
    with open("ops.txt") as f:
        lines = [l.split() for l in f]
    check("compared: operations", len(lines) > 50 and all(len(l) == 12 for l in lines) and any(l[0] == "conv_backward" for l in lines), lines[:3])
    check("compared: the first is named", "_forward: worker 0: run 1 of it differs from ops.txt" in r.stderr, r.stderr)
    refused("compare with nothing", crocuta("pretrain", config, "-o", "alone", CROCUTA_CHECK_DEVICE="compare:absent.txt"), 3, "absent.txt")
    refused("check what", crocuta("pretrain", config, "-o", "alone", CROCUTA_CHECK_DEVICE="yes"), 2, "record:FILE")


def kernels():
    plain, sites = write("plain.yaml", PLAIN), write("sites.yaml", SITES)
    a, b = train("two workers", "pretrain", plain, "rows", ranks=3)
    check("two workers", close(a, b, 1e-5), f"{a}\n{b}")
    a, b = train("site head", "finetune", sites, "sites", "--from", "none", "finetune.steps=2")
    check("site head", close(a, b, 1e-4), f"{a}\n{b}")
    mixed()
    compared()
    r = crocuta("bench", plain, "--batch", 2, "--seq-len", 40, "--json")
    done("bench", r)
    check("bench's device", json.loads(r.stdout or "{}").get("device") == "hostcuda", r.stdout)
    r = crocuta("plan", plain, "--json")
    done("plan", r)
    check("plan's bytes", json.loads(r.stdout or "{}").get("bytes", {}).get("workspace", 0) > 0, r.stdout)
    r = crocuta("doctor")
    check("doctor", "2 (hostcuda)" in r.stdout, r.stdout)


BASES = """\
seed: 1
data:       {path: set.h5, tokens: nucleotide, seq_len: 512}
model:      {d_model: 16, n_layer: 8, d_inner: 64, l_max: 514, filter_order: 8}
position:   {encoding: none}
train:      {steps: 1, tokens_per_step: 512, eval_every: 1, eval_windows: 1, context_parallel: auto, precision: %s, recompute: %s}
checkpoint: {every_minutes: 0}
stages:     [%s]
"""


def memory():
    """The plan of a whole model against the GPU's high-water mark: to 5 %, for every level of recomputing, in both precisions, shared by two GPUs; and of a
    short stage, where most is validation's."""
    sequences("set.h5", "train\tx\ttrain\nvalid\tx\tvalid\n")
    measuring = None  # buffers that products and copies are measured with come on top, the same for all
    short = "{seq_len: 64, steps: 1}"
    for precision, recompute, stages, ranks in (("fp32", "none", "", 0), ("mixed", "none", "", 0), ("mixed", "all", "", 0), ("mixed", "selected", "", 3),
                                                ("fp32", "none", short, 0)):
        name = f"{precision}-{recompute}-{ranks}{'-short' if stages else ''}"
        config = write(f"{name}.yaml", BASES % (precision, recompute, stages))
        done(name, crocuta("pretrain", config, "-o", name, ranks=ranks))
        with open(os.path.join(name, "plan.json")) as f:
            bytes_ = json.load(f)["bytes"]
        planned = bytes_["total"] - (3 if stages else 2) * 512 * 14  # batches are the host's
        taken = max(m["memory_bytes"] for m in journal(name, "metrics.jsonl"))
        measuring = measuring or taken - planned
        check(f"{name}: planned {planned}, taken {taken}", measuring < 150 << 20 and 0.95 < planned / (taken - measuring) < 1.05, bytes_)


def failures():
    plain = write("plain.yaml", PLAIN)
    far_away = {"HOSTCUDA_FAR": "all"}
    # cudaErrorMemoryAllocation 2, cudaErrorIllegalAddress 700, cudaErrorNoDevice 100
    for kind, nth, error, code in (("device", 2, 100, 4), ("malloc", 1, 2, 4), ("malloc", 8, 2, 4), ("malloc", 14, 2, 4), ("copy", 5, 700, 5),
                                   ("copy", 60, 700, 5), ("copy", 300, 700, 5), ("wait", 3, 700, 5), ("wait", 40, 700, 5), ("wait", 90, 700, 5)):
        r = crocuta("pretrain", plain, "-o", f"fails-{kind}-{nth}", HOSTCUDA_FAIL=f"{kind}:{nth}:{error}", **far_away)
        refused(f"call {nth} of {kind}", r, code)
        check(f"call {nth} of {kind} leaves something", "left behind" not in r.stderr and "AddressSanitizer" not in r.stderr, r.stderr)
    r = crocuta("pretrain", plain, "-o", "one", ranks=3, HOSTCUDA_DEVICES="1", **far_away)
    refused("two workers on one GPU", r, 4, "CROCUTA_SHARE_GPU=1")
    r = crocuta("pretrain", plain, "-o", "one", ranks=3, HOSTCUDA_DEVICES="1", CROCUTA_SHARE_GPU="1", **far_away)
    done("two workers who share a GPU", r)
    r = crocuta("pretrain", plain, "-o", "auto", device="auto", ranks=3, HOSTCUDA_DEVICES="1", **far_away)
    done("auto without enough GPUs", r)
    check("auto warns", "fewer GPUs than workers" in r.stderr, r.stderr)
    refused("no GPU", crocuta("pretrain", plain, "-o", "none", HOSTCUDA_DEVICES="0"), 4, "--device cpu")
    done("auto without a GPU", crocuta("pretrain", plain, "-o", "none", device="auto", HOSTCUDA_DEVICES="0"))


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    {"far": far, "course": course, "kernels": kernels, "memory": memory, "failures": failures}[PART]()
end()
