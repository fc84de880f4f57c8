# The ancestry scripts' collector against numbers computed by hand, and the ablation script end to end on a small simulated
# VCF: two variants of two seeds, nothing done twice, a cut trial goes on, a failing one is said.
import csv
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile

SOURCE, CROCUTA = os.environ["CROCUTA_SOURCE"], os.environ["CROCUTA"]
LABELS = ["AFR", "EAS", "EUR"]


def collect(out, code=0):
    done = subprocess.run([sys.executable, os.path.join(SOURCE, "experiments", "collect.py"), out], capture_output=True, text=True)
    assert done.returncode == code, (done.returncode, done.stderr)
    return done


def put(out, variant, seed, evaluation, results, labels=LABELS):
    folder = os.path.join(out, variant, f"seed-{seed}")
    os.makedirs(os.path.join(folder, evaluation), exist_ok=True)
    os.makedirs(os.path.join(folder, "run"), exist_ok=True)
    full = [{"method": m, "context": n, "accuracy": a, "ci_people": [a - 0.01, a + 0.02], "balanced_accuracy": a, "log_loss": 1 - a, "ece": 0.01 * seed, "accuracy_person": 1.0, "n_people": 30,
             "n_windows": windows, "confusion": [[0] * len(labels)] * len(labels), "confused_pairs": [{"a": "CHB", "b": "CHS", "share": 0.1 * seed}, {"a": "CEU", "b": "GBR", "share": 0.12}]}
            for m, n, a, windows in results]
    with open(os.path.join(folder, evaluation, "evaluate.json"), "w") as f:
        json.dump({"labels": labels, "results": full}, f)
    with open(os.path.join(folder, "run", "metrics.jsonl"), "w") as f:
        for step in (1, 2, 2):  # a resume did step 2 again
            f.write(json.dumps({"step": step, "split": "train", "step_ms": 30000, "tokens": 1000}) + "\n")
        f.write('{"step": 3, "spl')


def check_collector(folder):
    out = os.path.join(folder, "invented")
    for seed, a, b in ((1, 0.90, 0.88), (2, 0.92, 0.91), (3, 0.91, 0.88)):
        put(out, "base", seed, "evaluate", [("model", 128, a, 50), ("nb", 128, 0.7, 50), ("model", 256, a + 0.03, 20)])
        put(out, "other", seed, "evaluate", [("model", 128, b, 50), ("nb", 128, 0.7, 50), ("model", 256, b, 19)])
    put(out, "many", 1, "evaluate", [("model", 128, 0.4, 50)], ["CEU", "CHB", "CHS", "GBR"])
    put(out, "many", 2, "evaluate", [("model", 128, 0.5, 50)], ["CEU", "CHB", "CHS", "GBR"])
    put(out, "simple", 1, "evaluate", [("nb", 128, 0.7, 50), ("logistic", 128, 0.8, 50)])
    with open(os.path.join(out, "rows.tsv"), "w") as f:
        f.write("simple\tevaluate\tsimple methods\nbase\tevaluate\tall\nother\tevaluate\tanother\nmany\tevaluate\tpopulations\nabsent\tevaluate\tnot run\n")
    printed = collect(out).stdout
    rows = list(csv.DictReader(open(os.path.join(out, "table.csv"))))
    assert [(r["variant"], r["method"], r["context"]) for r in rows] == [("simple", "nb", "128"), ("simple", "logistic", "128"), ("base", "model", "128"), ("base", "model", "256"),
                                                                        ("other", "model", "128"), ("other", "model", "256"), ("many", "model", "128")]
    by = {(r["variant"], r["method"], r["context"]): r for r in rows}

    def near(row, **wanted):
        for key, value in wanted.items():
            assert abs(float(row[key]) - value) < 5e-5, (key, row[key], value)

    base, other = by[("base", "model", "128")], by[("other", "model", "128")]
    # sd 0.01, t(2) 4.303: 4.303 * 0.01 / sqrt(3) = 0.02484
    near(base, accuracy=0.91, seeds_low=0.91 - 0.02484, seeds_high=0.91 + 0.02484, people_low=0.90, people_high=0.93, ece=0.02, log_loss=0.09, minutes=1.0, tokens=2000, seeds=3)
    assert base["gain"] == "" and by[("simple", "nb", "128")]["seeds_low"] == ""
    # differences -0.02 -0.01 -0.03: mean -0.02, sd 0.01, seed by seed
    near(other, accuracy=0.89, gain=-0.02, gain_low=-0.02 - 0.02484, gain_high=-0.02 + 0.02484)
    assert by[("other", "model", "256")]["gain"] == "", "other windows are no comparison"
    assert by[("many", "model", "128")]["gain"] == "", "other labels are no comparison"
    near(by[("many", "model", "128")], seeds_low=0.45 - 12.706 * 0.05, seeds_high=0.45 + 12.706 * 0.05)
    assert "CHB and CHS 15.0, CEU and GBR 12.0." in printed and "-2.00 [-4.48, +0.48]" in printed and open(os.path.join(out, "table.md")).read() == printed
    assert "crocuta: error: " in collect(folder, 3).stderr


def simulate(folder):
    random.seed(5)
    people = [f"P{i:03d}" for i in range(90)]
    with open(os.path.join(folder, "people.tsv"), "w") as f:
        f.write("sample\tpopulation\tsuperpopulation\tsex\n" + "".join(f"{who}\t{LABELS[i % 3]}\t{LABELS[i % 3]}\tfemale\n" for i, who in enumerate(people)))
    with open(os.path.join(folder, "people.vcf"), "w") as f:
        f.write("##fileformat=VCFv4.2\n##contig=<ID=1,length=249250621>\n##contig=<ID=2,length=243199373>\n##FORMAT=<ID=GT,Number=1,Type=String,Description=\"\">\n")
        f.write("\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT"] + people) + "\n")
        for k in range(240):
            base = 0.1 + 0.3 * random.random()
            row = [f"{int(random.random() < base + 0.3 * (k % 3 == i % 3))}|{int(random.random() < base)}" for i in range(90)]
            f.write("\t".join([str(1 + k // 160), str(10000 + 700 * (k % 160)), ".", "A", "C", ".", "PASS", ".", "GT"] + row) + "\n")


def check_script(folder):
    simulate(folder)
    out = os.path.join(folder, "out")
    command = ["bash", os.path.join(SOURCE, "experiments", "ancestry-ablation.sh"), "people.vcf", "people.tsv", "out", "--regions", "1:10000-90000,2", "--seeds", "1 2", "--steps", "6", "--contexts", "16",
               "--threads", "1", "data.seq_len=16", "model.d_model=8", "model.d_inner=8", "model.l_max=18", "model.filter_order=8", "position.rank=4", "train.tokens_per_step=256", "train.eval_windows=20"]

    def script(*more, code=0):
        done = subprocess.run([*command, *more], capture_output=True, text=True, cwd=folder, env=dict(os.environ, PYTHON=sys.executable))
        assert done.returncode == code, (done.stdout[-2000:], done.stderr[-2000:])
        return done

    wanted = ("--variants", "simple study-scratch study")
    dry = script(*wanted, "--dry-run").stdout
    assert dry.count("  crocuta finetune") == 4 and dry.count("  crocuta pretrain") == 2 and not os.path.exists(os.path.join(out, "study/seed-1/run"))
    first = script(*wanted).stdout
    assert first.count("  train ") == 4 and "| study-scratch |" in first and "| logistic |" in first and "| base |" not in first
    sites = json.loads(subprocess.run([CROCUTA, "data", "info", os.path.join(out, "data.h5"), "--json"], capture_output=True, text=True, check=True).stdout)["sites"]
    assert sites == 115 + 80, sites  # (90000 - 10000) / 700 + 1 on 1, all on 2
    config = open(os.path.join(out, "study", "seed-2", "run", "config.yaml")).read()
    assert "steps: 3" in config and "seed: 2" in config and "absent: none" in config
    again = script(*wanted).stdout
    assert "  train " not in again and "evaluate s" not in again and first[first.index("| variant"):] == again[again.index("| variant"):]

    # A trial that was cut behind its training's first checkpoint goes on from there and is judged.
    cut = os.path.join(out, "study-scratch", "seed-2")
    before = json.load(open(os.path.join(cut, "evaluate", "evaluate.json")))["results"]
    os.remove(os.path.join(cut, "trained"))
    shutil.rmtree(os.path.join(cut, "evaluate"))
    third = script(*wanted).stdout
    assert third.count("  train ") == 1 and "--resume" in open(os.path.join(cut, "log.txt")).read()
    assert json.load(open(os.path.join(cut, "evaluate", "evaluate.json")))["results"] == before

    failed = script("--variants", "study-scratch", "--seeds", "3", "position.rank=0", code=1)
    assert "position.rank" in failed.stderr and "1 trials or evaluations failed" in failed.stderr
    assert "is none of" in script("--variants", "bases", code=2).stderr
    assert "--nothing" in script("--nothing", "1", code=2).stderr


def check_robustness(folder):
    """The commands of the second script: changed people, a block on both sides, half lengths where half of the sites are missing"""
    command = ["bash", os.path.join(SOURCE, "experiments", "ancestry-robustness.sh"), "people.vcf", "people.tsv", "dry", "--held-out", "2:1-60000", "--people", "20 40", "--seeds", "1 2", "--contexts", "16", "--dry-run"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=dict(os.environ, PYTHON=sys.executable))
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("  crocuta ")]
    assert sum("import" in line for line in lines) == 2 and sum("finetune" in line for line in lines) == 2 * 5
    for words in (["data.exclude=2:1-60000"], ["data.train_people=20"], ["data.train_people=40"], ["--exclude-regions", "2:1-60000"], ["-r", "2:1-60000"], ["--missing", "0.5"], ["--wrong", "0.01"]):
        assert sum(all(w in line for w in words) for line in lines) >= 2, words
    for line in lines:
        assert "evaluate" not in line or line[line.index("--context") + 1] == ("8,16" if "--missing" in line else "16"), line


def check_main(folder):
    """The main study, small: one seed, unphased and phased, every simple method, the model with the pair"""
    command = ["bash", os.path.join(SOURCE, "experiments", "ancestry.sh"), "people.vcf", "people.tsv", "main", "--phased", "--seeds", "1", "--steps", "4", "--contexts", "16", "--threads", "1",
               "data.seq_len=16", "model.d_model=8", "model.d_inner=8", "model.l_max=18", "model.filter_order=8", "model.head_rank=4", "position.rank=4", "train.tokens_per_step=256", "train.eval_windows=20"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=dict(os.environ, PYTHON=sys.executable))
    assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-2000:])
    rows = [line.split(" | ")[0].strip("| ") for line in done.stdout.splitlines() if line.startswith("| ")]
    for name in ("majority", "density", "nb", "nb-absent", "logistic", "ngram", "pair", "haplotype", "li-stephens", "base", "base +pair", "phased"):
        assert rows.count(name) == 1, (name, rows)
    assert "alleles: both" in open(os.path.join(folder, "main", "phased", "seed-1", "run", "config.yaml")).read()


with tempfile.TemporaryDirectory() as folder:
    check_collector(folder)
    check_script(folder)
    check_robustness(folder)
    check_main(folder)
print("ok")
