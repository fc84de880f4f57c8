#!/usr/bin/env python3
"""labels: mpi
Stages of growing length: validation is of the final length in all of them, on one rank and three alike, and leaves
training as it is to the last bit; the best is the best of all stages, and only the last length ends a run early. Stages
share sequences as the plan says, by memory and by the number of workers, and the losses are those of one worker. A ladder
that is climbed twice takes the memory of its highest stage; a run that stops on it goes on with the same bits."""
import json
import os
import random
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from training import CONFIG, check, done, end, journal, losses, refused, run

PEOPLE = CONFIG + "stages: [{seq_len: 16, steps: 5}, {seq_len: 32, steps: 3}]\n"
BASES = """\
seed: 1
data:       {path: set.h5, tokens: nucleotide, seq_len: %d}
model:      {d_model: 16, n_layer: 2, d_inner: 32, l_max: 4098, filter_order: 16}
position:   {encoding: none}
optimizer:  {lr: 3.0e-3}
scheduler:  {warmup: 0.2, min_lr: 1.0e-3}
train:      {steps: %d, tokens_per_step: 4096, eval_every: 2, eval_windows: 2, context_parallel: auto}
checkpoint: {every_minutes: 0}
stages:     [%s]
"""
LENGTHS = [64, 128, 256, 512, 1024, 2048, 4096]


def ladder(lengths, final=4096):
    return BASES % (final, len(lengths), ", ".join("{seq_len: %d, steps: 1}" % n for n in lengths[:-1]))


def write(name, text):
    with open(name, "w") as f:
        f.write(text)
    return name


def close(what, a, b, bound=1e-5):
    worst = max((abs(a[s] - b[s]) / b[s] for s in b), default=1) if a.keys() == b.keys() else float("inf")
    check(what, worst <= bound, f"{worst:.1e}: {a} {b}")


def train(what, config, name, *more, ranks=0):
    done(what, run("pretrain", config, "-o", name, "-q", "--threads", 1, *more, ranks=ranks))
    return name


def validation():
    config = write("people.yaml", PEOPLE)
    one, three = train("one", config, "one"), train("three", config, "three", ranks=3)
    lines = [m for m in journal(one, "metrics.jsonl") if m["split"] == "valid"]
    check("every stage validates at the final length", [(m["step"], m["stage"], m["seq_len"], m["tokens"]) for m in lines] ==
          [(4, 0, 64, 640), (5, 0, 64, 640), (8, 1, 64, 640), (12, 2, 64, 640)], lines)
    check("training is of the stage's", [m["seq_len"] for m in journal(one, "metrics.jsonl") if m["split"] == "train"] == [16] * 5 + [32] * 3 + [64] * 4)
    for split in ("train", "valid"):
        close(f"three ranks: {split}", losses(three, split), losses(one, split))
    valid = losses(one, "valid")
    best = os.path.basename(os.path.realpath(os.path.join(one, "checkpoints", "best")))
    with open(os.path.join(one, "checkpoints", "best")) as f:
        best = f.read().strip() if not os.path.islink(f.name) else best
    check("the best of all stages", f"{min(valid, key=valid.get):07d}" in best, f"{best} {valid}")
    never = train("no validation", config, "never", "train.eval_every=0")
    check("training is the same without", losses(never) == losses(one), losses(never))
    close("three ranks, no validation", losses(train("three, none", config, "three-never", "train.eval_every=0", ranks=3)), losses(never))

    wild = train("getting worse", config, "wild", "train.early_stop=1", "train.eval_every=1", "optimizer.lr=1.0", "scheduler.warmup=0", "scheduler.min_lr=1.0", "train.grad_clip=0", "train.skip_norm=0")
    valid = losses(wild, "valid")
    worse = [s for s in valid if s > 1 and valid[s] > min(valid[k] for k in valid if k < s)]
    check("a warm-up that gets worse goes on", worse and worse[0] < 8 and max(losses(wild)) > 8, valid)
    check("the last length ends it", max(losses(wild)) < 12 and journal(wild, "events.jsonl")[-1]["detail"] == "early stopping", valid)


def planned(config, workers, *more):
    r = run("plan", config, "--workers", workers, "--json", *more)
    done(f"plan for {workers}", r)
    check("a plan asks nothing of sequences", "pretrain" not in config or "needs none" in r.stderr, r.stderr)
    plan = json.loads(r.stdout or "{}")
    return plan, [s["context_parallel"] for s in plan.get("stages", [])]


def plans():
    config = write("plan.yaml", ladder(LENGTHS).replace("path: set.h5, ", ""))
    alone, shared = planned(config, 1)
    check("one worker shares with nobody", shared == [1] * 7, shared)
    check("constant tokens a step", [s["sequences"] for s in alone["stages"]] == [64, 32, 16, 8, 4, 2, 1], alone["stages"])
    for workers, want in ((2, [1] * 6 + [2]), (3, [1] * 5 + [3, 3]), (4, [1] * 5 + [2, 4]), (6, [1] * 4 + [2, 3, 6]), (12, [1, 1, 1, 2, 3, 6, 12])):
        plan, shared = planned(config, workers)
        check(f"{workers} workers: nobody without a sequence", shared == want, shared)
        check(f"{workers} workers: effective batch", [s["sequences"] for s in plan["stages"]] == [64, 32, 16, 8, 4, 2, 1], plan["stages"])
        check(f"{workers} workers: full length on top", plan["context_parallel"] == workers, plan["context_parallel"])
    # what one worker cannot hold, two can; the first stage holds validation's forward pass as well
    with_it, plain = ([s["total"] for s in planned(config, 1, "train.micro_batch=1", *more)[0]["stages"]] for more in ((), ("train.eval_every=0",)))
    check("validation is planned", with_it[0] > 1.5 * plain[0] and with_it[-1] == plain[-1], f"{with_it} {plain}")
    keys = ("train.recompute=none", "train.eval_every=0", "train.tokens_per_step=16384", "train.micro_batch=1")
    whole, halves = (planned(config, n, *keys, f"train.context_parallel={n}")[0]["bytes"]["total"] for n in (1, 2))
    tight, shared = planned(config, 4, "--device-memory", (whole + halves) // 2, *keys)
    check("memory decides", shared == [1] * 6 + [2] and tight["fits"], f"{shared} {whole} {halves}")
    refused("too little", run("plan", config, "--device-memory", 1 << 20), 4, "stage 7 of 7", "context_parallel=auto")
    r = run("plan", config)
    check("stages are printed", r.stdout.count("\n") > 16 and "share a seq." in r.stdout, r.stdout)
    refused("still refused", run("plan", config, "--workers", 3, "train.context_parallel=2"), 2, "does not divide 3 workers")
    # validation shares as the last length does, also where stages take all steps and that length is never trained
    used_up = write("used up.yaml", PEOPLE.replace("steps: 3}]", "steps: 7}]"))
    for name, people in (("first", "people.yaml"), ("never", used_up)):
        for ranks, workers in ((0, 1), (4, 3)):
            r = run("pretrain", people, "-o", "undivided", "--force", "-q", "--threads", 1, "train.context_parallel=2", ranks=ranks)
            refused(f"undivided, {name}, {workers} workers", r, 2, f"does not divide {workers} workers")


def million():
    """The shipped ladder to 2^20: on one GPU of 80 GB without recomputing products, 2^21 with; in fp32 on a CPU with 22 GB."""
    double = ("data.seq_len=2097152", "train.tokens_per_step=2097152", "model.l_max=2097154")
    if any(l.startswith("backends") and "cuda" in l for l in run("--version").stdout.split("\n")):
        one, shared = planned("pretrain-1m", 1, "--device", "cuda", "--device-memory", 80 * 10**9)
        check("1M on 80 GB", one["fits"] and one["recompute"] == "none" and one["stages"][-1]["seq_len"] == 1 << 20 and shared == [1] * 11, one["stages"])
        two, _ = planned("pretrain-1m", 1, "--device", "cuda", "--device-memory", 80 * 10**9, *double)
        check("2M on 80 GB", two["fits"] and two["recompute"] == "selected", two["bytes"])
        check("none of it half as large as it is", 45 < one["bytes"]["total"] / 2**30 < 56 and two["bytes"]["total"] / 2**30 > 65, f"{one['bytes']} {two['bytes']}")
        refused("2M without recomputing", run("plan", "pretrain-1m", "--device", "cuda", "--device-memory", 80 * 10**9, "train.recompute=none", *double), 4, "stage")
    cpu, _ = planned("pretrain-1m", 1, "--device", "cpu", "--device-memory", 22 * 10**9, "train.precision=fp32")
    check("1M in fp32 on 22 GB", cpu["fits"] and cpu["recompute"] == "all", cpu["bytes"])
    small, _ = planned("pretrain-1m-small", 1)
    check("the small ladder", [s["seq_len"] for s in small["stages"]] == [1024 << i for i in range(11)], small["stages"])


def genome():
    rng = random.Random(1)
    with open("in.fa", "w") as f, open("map.tsv", "w") as m:
        for name, split, n in (("a", "train", 9000), ("b", "train", 6001), ("c", "valid", 5000)):
            f.write(f">{name}\n" + "".join(rng.choice("ACGGT") for _ in range(n)) + "\n")
            m.write(f"{name}\tx\t{split}\n")
    done("import", run("import", "-q", "-m", "map.tsv", "-o", "set.h5", "in.fa"))


def peak(path):
    return max(m["memory_bytes"] for m in journal(path, "metrics.jsonl"))


def climb():
    genome()
    once, twice = write("once.yaml", ladder(LENGTHS)), write("twice.yaml", ladder(LENGTHS + LENGTHS))
    top = write("top.yaml", BASES % (4096, 3, ""))
    one, four = train("ladder", once, "ladder"), train("ladder of three", once, "ladder-3", ranks=4)
    for split in ("train", "valid"):
        close(f"shared as planned: {split}", losses(four, split), losses(one, split))
    told = [e["detail"] for e in journal(four, "events.jsonl") if e["event"] == "stage"]
    check("stages are told", len(told) == 7 and "1 worker a window" in told[0] and "3 workers a window" in told[6], told)
    for ranks in (0, 3):
        rise = train("twice", twice, f"twice-{ranks}", ranks=ranks)
        alone = train("the highest alone", top, f"top-{ranks}", ranks=ranks)
        first = max(m["memory_bytes"] for m in journal(rise, "metrics.jsonl") if m["step"] <= 7)
        check("a second climb takes no more", peak(rise) < first + (1 << 20), f"{peak(rise)} {first}")
        check("as much as the highest stage", peak(rise) < 1.05 * peak(alone) + (4 << 20), f"{peak(rise)} {peak(alone)}")
    few = ("data.seq_len=2048", "train.tokens_per_step=2048", "train.steps=3", "stages=[{seq_len: 1024, steps: 1}]")
    train("the shipped small ladder", "pretrain-1m-small", "small", "data.path=set.h5", *few)
    parts = "parts"
    for i, stop in enumerate((2, 3, 7, 9)):
        done("in parts", run("pretrain", twice, "-o", parts, "-q", "--threads", 1, "--max-steps", stop, *(["--resume"] if i else []), ranks=3))
    done("to the end", run("pretrain", twice, "-o", parts, "-q", "--threads", 1, "--resume", ranks=3))
    check("the same bits", all(losses(parts, s) == losses("twice-3", s) and losses(parts, s) for s in ("train", "valid")), losses(parts))
    r = run("pretrain", write("other.yaml", open("twice.yaml").read().replace("steps: 1}", "steps: 1, context_parallel: 1}")), "-o", parts, "--resume", "train.steps=15", ranks=3)
    done("shared otherwise after a resume", r)
    check("it says so", "stages" in r.stderr, r.stderr)


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    for part in (validation, plans, million, climb):
        part()
end()
