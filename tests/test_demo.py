"""labels: mpi
launch/demo with a user's files: short regions (windows adapt), unphased people with missing calls, file names with
spaces and relative to the caller's folder, one label, a folder of somebody else's, a login node; the table of both
models, the exported model and what it predicts. Setting up and building are left out: the scripts run in a copy of the
folder that has the program and the Python environment already."""
import csv
import gzip
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile

CROCUTA = os.path.abspath(os.environ["CROCUTA"])
SOURCE = os.environ["CROCUTA_SOURCE"]
VENV = os.path.join(SOURCE, "build", "venv")
failures = []


def check(what, ok, shown=""):
    if not ok:
        failures.append(what)
        print(f"FAILED {what}: {shown}")


def house(folder):
    """A root with the scripts, the program and the environment; setup and build have nothing to do."""
    root = os.path.join(folder, "the house")
    os.makedirs(os.path.join(root, "launch"))
    os.makedirs(os.path.join(root, "build"))
    shutil.copytree(os.path.join(SOURCE, "experiments"), os.path.join(root, "experiments"))
    for name in ("demo.yaml", "demo-study.yaml"):  # what is shown here is the path, with few tokens
        path = os.path.join(root, "experiments", name)
        text, changed = re.subn(r"tokens_per_step: \d+", "tokens_per_step: 1024", open(path).read())
        assert changed == 1, name
        open(path, "w").write(text)
    for name in ("demo", "lib.sh"):
        shutil.copy(os.path.join(SOURCE, "launch", name), os.path.join(root, "launch", name))
    for name in ("setup", "build"):
        path = os.path.join(root, "launch", name)
        open(path, "w").write("#!/bin/sh\nexit 0\n")
        os.chmod(path, 0o755)
    os.symlink(CROCUTA, os.path.join(root, "crocuta"))
    os.symlink(VENV, os.path.join(root, "build", "venv"))
    return os.path.join(root, "launch", "demo")


def write_people(path, sites, people=30, phased=True):
    """Two kinds of people: an allele is common in one kind and rare in the other; each carries about 0.6 of the sites.
    Those without phase lack a call in fifty."""
    rng = random.Random(7)
    often = [rng.choice(((0.5, 0.2), (0.2, 0.5))) for _ in range(sites)]
    with open(path, "w") as f:
        f.write("##fileformat=VCFv4.2\n##contig=<ID=22,length=51304566>\n")
        f.write('##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n')
        f.write("\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT"]
                          + [f"p{i}" for i in range(people)]) + "\n")
        for s in range(sites):
            calls = [f"{int(rng.random() < often[s][i % 2])}|{int(rng.random() < often[s][i % 2])}" for i in range(people)]
            if not phased:
                calls = ["./." if rng.random() < 0.02 else c.replace("|", "/") for c in calls]
            f.write("\t".join(["22", str(16100000 + 211 * s), ".", "A", "G", ".", "PASS", ".", "GT", *calls]) + "\n")
    return people


def demo(script, folder, *args, path=None):
    env = {**os.environ, "PATH": path or os.environ["PATH"]}
    env.pop("SLURM_JOB_ID", None)
    return subprocess.run([script, *args], cwd=folder, env=env, capture_output=True, text=True, timeout=600)


def one_line(what, r, code, *parts):
    last = r.stderr.rstrip("\n").split("\n")[-1]
    check(what, r.returncode == code and last.startswith("crocuta: error: "), (r.returncode, r.stderr[-600:]))
    for p in parts:
        check(what, p in last, last)


def results_of(folder, *names):
    with open(os.path.join(folder, *names, "evaluate.json")) as f:
        return json.load(f)["results"]


def predicted(out, people):
    """The exported model's word on test people, and on nobody else."""
    with open(os.path.join(out, "data.info.json")) as f:
        split = {p["id"]: p["split"] for p in json.load(f)["people"]}
    with open(os.path.join(out, "predict", "people.tsv")) as f:
        told = list(csv.DictReader(f, delimiter="\t"))
    check("six people at most, two a label", len(told) == people, told)
    check("nobody of whom was trained on", all(split[p["sample"]] == "test" for p in told), told)
    check("probabilities", all(abs(float(p["p_A"]) + float(p["p_B"]) - 1) < 1e-4 for p in told), told)
    check("the model is small", 0 < os.path.getsize(os.path.join(out, "export", "ancestry.safetensors")) < 16e6)
    with gzip.open(os.path.join(out, "ancestry", "evaluate", "windows.tsv.gz"), "rt") as f:
        judged = {w["sample"]: w for w in csv.DictReader(f, delimiter="\t")}
    check("they are among the judged", all(p["sample"] in judged for p in told), told)


def short_region(script, folder):
    people = write_people(os.path.join(folder, "my people.vcf"), 160)
    with open(os.path.join(folder, "my labels.tsv"), "w") as f:
        f.write("".join(f"p{i}\t{'AB'[i % 2]}\n" for i in range(people)))
    r = demo(script, folder, "--here", "--quick", "--vcf", "my people.vcf", "--sample-map", "my labels.tsv", "-o", "out dir/")
    check("a region of 160 sites", r.returncode == 0 and "windows of 64 carried sites" in r.stderr, r.stderr[-1200:])
    out = os.path.join(folder, "out dir")
    for name in ("report.html", "table.txt", "study/evaluate/evaluate.json", "ancestry/evaluate/evaluate.json", "baselines/evaluate.json"):
        check(f"a region of 160 sites: {name}", os.path.exists(os.path.join(out, name)))
    if failures:
        return
    both = [results_of(out, run, "evaluate") for run in ("study", "ancestry")]
    check("both models are judged at their own length", all(any(x["method"] == "model" and x["context"] == 64 for x in r) for r in both), both)
    check("on the same windows", len({x["n_windows"] for r in both for x in r if x["context"] == 64}) == 1, both)
    methods = {"majority", "density", "nb", "nb-absent", "logistic", "ngram", "pair", "model", "model+pair"}
    check("every method", {x["method"] for x in both[1]} == methods, both[1])
    for row in ("majority ", "logistic ", "pair ", "the study's way ", "this way ", "this way + pair "):
        check(f"the table's row: {row}", f"\n  {row}" in r.stdout, r.stdout[-3000:])
    check("a verdict", "\n  this way is better than" in r.stdout, r.stdout[-3000:])
    check("real people are not called simulated", "SIMULATED" not in r.stdout + open(os.path.join(out, "report.html")).read())
    check("no interval from one block", "one block" in r.stdout, r.stdout[-2000:])
    check("no banner", not any(w in r.stdout + r.stderr for w in ("MPI_ABORT", "mpirun noticed", "-----")), r.stderr)
    predicted(out, 4)


def unphased(script, folder):
    write_people(os.path.join(folder, "unphased.vcf"), 160, phased=False)
    r = demo(script, folder, "--here", "--quick", "--vcf", "unphased.vcf", "--sample-map", "my labels.tsv", "-o", "unphased")
    check("unphased people with missing calls", r.returncode == 0 and "unphased people: " in r.stderr, r.stderr[-1200:])
    if r.returncode == 0:
        methods = {x["method"] for x in results_of(folder, "unphased", "ancestry", "evaluate")}
        check("no pair of haplotypes without phase", "ngram" in methods and not methods & {"pair", "model+pair"}, methods)
        predicted(os.path.join(folder, "unphased"), 4)


def refusals(script, folder):
    with open(os.path.join(folder, "one.tsv"), "w") as f:
        f.write("".join(f"p{i}\tA\n" for i in range(0, 30, 2)))
    r = demo(script, folder, "--here", "--quick", "--vcf", "my people.vcf", "--sample-map", "one.tsv", "-o", "one")
    one_line("one label", r, 3, "one.tsv", "two")
    r = demo(script, folder, "--here", "--vcf", "my people.vcf", "--sample-map", "none.tsv")
    one_line("no map", r, 3, "none.tsv")
    r = demo(script, folder, "--here", "--vcf", "my people.vcf")
    one_line("a VCF without a map", r, 2, "--sample-map")
    r = demo(script, folder, "--here", "--vcf", "my people.vcf", "--sample-map")
    one_line("a map without a value", r, 2, "--sample-map")
    os.mkdir(os.path.join(folder, "mine"))
    open(os.path.join(folder, "mine", "thesis.txt"), "w").write("years of work\n")
    r = demo(script, folder, "--here", "--vcf", "my people.vcf", "--sample-map", "one.tsv", "-o", "mine")
    one_line("a folder of somebody else's", r, 2, "mine")
    check("it stays", os.path.exists(os.path.join(folder, "mine", "thesis.txt")))


def login_node(script, folder):
    tools = os.path.join(folder, "bin")
    os.mkdir(tools)
    for name, does in (("srun", "exit 1"), ("scontrol", "echo 'Slurmctld(primary) at head is UP'")):
        open(os.path.join(tools, name), "w").write(f"#!/bin/sh\n{does}\n")
        os.chmod(os.path.join(tools, name), 0o755)
    args = ("--vcf", "my people.vcf", "--sample-map", "my labels.tsv", "-o", "far away")
    r = demo(script, folder, *args, path=tools + ":" + os.environ["PATH"])
    check("login node", r.returncode == 0 and "srun --ntasks=1" in r.stdout, r)
    check("the line has the user's files", "--sample-map" in r.stdout and "far" in r.stdout, r.stdout)
    check("nothing begun", not os.path.exists(os.path.join(folder, "far away")))
    with open(os.path.join(tools, "scontrol"), "w") as f:
        f.write("#!/bin/sh\necho 'Slurmctld(primary) at head is DOWN'\n")
    r = demo(script, folder, *args, "--conda", "nowhere", path=tools + ":" + os.environ["PATH"])
    one_line("srun without a controller is no login node", r, 2, "nowhere")


def main():
    if not os.path.exists(os.path.join(VENV, "bin", "python")):
        print("no build/venv: launch/setup --python makes it")
        return 77
    with tempfile.TemporaryDirectory() as folder:
        script = house(folder)
        short_region(script, folder)
        unphased(script, folder)
        refusals(script, folder)
        login_node(script, folder)
    print("all good" if not failures else f"{len(failures)} failed")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
