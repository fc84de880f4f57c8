# evaluate end to end on a small simulated VCF: files and keys of the contract, windows against the genotypes, accuracies
# against the windows, counts that add up, the same on three ranks, a record of each look at test people, refusals.
import csv
import gzip
import json
import math
import os
import random
import subprocess
import sys
import tempfile

CROCUTA = os.environ["CROCUTA"]
MPIRUN = ["mpirun", "-q", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", "3"]
LABELS = ["AFR", "EAS", "EUR"]
PEOPLE, SITES, N = 120, 400, 32


def crocuta(*arguments, launcher=(), cwd=None, code=0):
    done = subprocess.run([*launcher, CROCUTA, *arguments], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == code, (arguments, done.returncode, done.stderr)
    return done


def simulate(folder):
    """Two chromosomes of 200 sites, a gap of 1 Mb in the first; each site is commoner in one of three groups."""
    random.seed(7)
    carried = {f"P{i:03d}": [] for i in range(PEOPLE)}
    with open(os.path.join(folder, "people.tsv"), "w") as f:
        f.write("sample\tpopulation\tsuperpopulation\tsex\n")
        for i in range(PEOPLE):
            f.write(f"P{i:03d}\t{LABELS[i % 3]}{i % 2}\t{LABELS[i % 3]}\tfemale\n")
    block = {}
    with open(os.path.join(folder, "people.vcf"), "w") as f:
        f.write("##fileformat=VCFv4.2\n##contig=<ID=1,length=249250621>\n##contig=<ID=2,length=243199373>\n##FORMAT=<ID=GT,Number=1,Type=String,Description=\"\">\n")
        f.write("\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT"] + list(carried)) + "\n")
        for k in range(SITES):
            chrom, on = ("1", k) if k < 200 else ("2", k - 200)
            position = 10000 + 900 * on + (1000000 if 100 <= k < 200 else 0)
            block[(chrom, position)] = 0 if k < 100 else 1 if k < 200 else 2
            base, genotypes = 0.1 + 0.4 * random.random(), []
            for i, who in enumerate(carried):
                share = base + (0.25 if k % 3 == i % 3 else 0)
                g = [int(random.random() < share) for _ in range(2)]
                genotypes.append(f"{g[0]}|{g[1]}")
                if any(g):
                    carried[who].append((chrom, position))
            f.write("\t".join([chrom, str(position), ".", "A", "CGT"[k % 3], ".", "PASS", ".", "GT"] + genotypes) + "\n")
    return carried, block


def read_windows(folder):
    with gzip.open(os.path.join(folder, "windows.tsv.gz"), "rt") as f:
        return list(csv.DictReader(f, delimiter="\t"))


def check_windows(rows, split, carried, block):
    seen = {}
    for r in rows:
        assert r["hap"] == "0" and int(r["n_snps"]) == N and split[r["sample"]] == "test"
        assert r["label"] == LABELS[int(r["sample"][1:]) % 3]
        span = [s for s in carried[r["sample"]] if s[0] == r["chrom"] and int(r["start"]) <= s[1] <= int(r["end"])]
        assert len(span) == N and span[0][1] == int(r["start"]) and span[-1][1] == int(r["end"])
        assert block[span[0]] == block[span[-1]], "a window spans a gap"
        p = {c: float(r[f"p_{c}"]) for c in LABELS}
        assert abs(sum(p.values()) - 1) < 1e-5 and p[r["predicted"]] == max(p.values())
        seen.setdefault((r["sample"], block[span[0]]), []).append((span[0], span[-1]))
    for who, kind in split.items():  # every window that fits is there, and none overlaps
        for b in range(3):
            fits = len([s for s in carried[who] if block[s] == b]) // N if kind == "test" else 0
            own = seen.get((who, b), [])
            assert len(own) == fits, (who, b, len(own), fits)
            assert all(x[1] < y[0] for x, y in zip(own, own[1:]))


def check_document(folder, rows, methods, reported):
    document = json.load(open(os.path.join(folder, "evaluate.json")))
    assert document["schema"] == "crocuta/evaluate/1"
    assert [r["method"] for r in document["results"]] == methods, [r["method"] for r in document["results"]]
    test_people = len({r["sample"] for r in rows})
    for r in document["results"]:
        assert r["context"] == N and r["phase"] == ("haplotype" if r["method"] in ("haplotype", "li-stephens") else "union") and r["n_windows"] == len(rows) and r["n_people"] == test_people
        assert 0 <= r["ci_people"][0] <= r["accuracy"] <= r["ci_people"][1] <= 1 and len(r["ci_blocks"]) == 2 and len(r["ci_person"]) == 2
        diagonal = sum(r["confusion"][k][k] for k in range(3))
        assert sum(map(sum, r["confusion"])) == len(rows) and abs(diagonal / len(rows) - r["accuracy"]) < 1e-9
        assert sum(p["n_windows"] for p in r["per_population"].values()) == len(rows) and len(r["per_population"]) == 6
        assert sum(p["n_people"] for p in r["per_population"].values()) == test_people
        assert sum(b["n_windows"] for b in r["calibration"]) == len(rows)
        for key in ("median_span_bp", "balanced_accuracy", "log_loss", "ece", "accuracy_person"):
            assert isinstance(r[key], float), key
    by = {r["method"]: r for r in document["results"]}
    hits = sum(r["label"] == r["predicted"] for r in rows)
    assert abs(hits / len(rows) - by[reported]["accuracy"]) < 1e-9
    counts = [line.rstrip("\n").split("\t") for line in open(os.path.join(folder, "confusion.tsv"))]
    assert counts[0][1:] == LABELS and [[int(c) for c in line[1:]] for line in counts[1:]] == by[reported]["confusion"]
    people = list(csv.DictReader(open(os.path.join(folder, "people.tsv")), delimiter="\t"))
    assert len(people) == test_people and sum(int(p["n_windows"]) for p in people) == len(rows)
    assert abs(sum(p["label"] == p["predicted"] for p in people) / test_people - by[reported]["accuracy_person"]) < 1e-9
    for key in ("autoregressive", "position_conditioned", "lookup_autoregressive", "lookup_position"):
        assert key in document["perplexity"]
    assert document["perplexity"]["lookup_autoregressive"] > document["perplexity"]["lookup_position"] > 1
    assert document["data"]["assembly"] and document["data"]["split_hash"] and document["seeds"]["bootstrap"] == 1 and "evaluate" in document["command"]
    return document, by


def check_model(folder, split, carried, block):
    """A classifier of one layer: not good, but judged like the rest, and its look at the test people recorded."""
    with open(os.path.join(folder, "c.yaml"), "w") as f:
        f.write("data: {path: data.h5, seq_len: 32}\nmodel: {d_model: 16, n_layer: 1, d_inner: 32, l_max: 34, filter_order: 16, emb_dim: 3}\n"
                "position: {encoding: fpe, alpha: 1, rank: 4, rows: site}\noptimizer: {lr: 1.0e-2}\n"
                "train: {steps: 20, tokens_per_step: 1024, eval_every: 20, eval_windows: 30}\nfinetune: {steps: 60, lr: 1.0e-2, head_hidden: 0}\n")
    crocuta("finetune", "c.yaml", "--from", "none", "-o", "run", cwd=folder)
    arguments = ("evaluate", "run", "data.h5", "--context", str(N), "--baselines", "nb,haplotype,lookup", "-o")
    first = crocuta(*arguments, "judged", cwd=folder)
    assert "already" not in first.stderr
    rows = read_windows(os.path.join(folder, "judged"))
    check_windows(rows, split, carried, block)
    document, by = check_document(os.path.join(folder, "judged"), rows, ["model", "nb", "haplotype"], "model")
    pair, phased = document["paired"]
    assert (phased["b"], phased["phase_a"], phased["phase_b"], pair["phase_b"]) == ("haplotype", "union", "haplotype", "union")
    assert " haplotype (phased):" in first.stdout and " nb (phased)" not in first.stdout
    assert (pair["a"], pair["b"], pair["context"]) == ("model", "nb", N)
    assert abs(pair["difference"] - (by["model"]["accuracy"] - by["nb"]["accuracy"])) < 1e-9
    assert pair["ci_people"][0] <= pair["difference"] <= pair["ci_people"][1]
    said = "LOST to" if pair["ci_people"][1] < 0 else "is better than" if pair["ci_people"][0] > 0 else "no clear difference"
    assert said in first.stdout, first.stdout

    def looks():
        events = [json.loads(line) for line in open(os.path.join(folder, "run", "events.jsonl"))]
        return [e for e in events if e["event"] == "test_evaluated"]

    assert len(looks()) == 1 and str(N) in looks()[0]["detail"] and document["data"]["split_hash"] in looks()[0]["detail"]
    again = crocuta(*arguments, "again", cwd=folder, launcher=MPIRUN)
    assert len(looks()) == 2 and again.stderr.count("have judged this model 1 time already") == 1
    assert [r["predicted"] for r in read_windows(os.path.join(folder, "again"))] == [r["predicted"] for r in rows]
    crocuta(*arguments, "valid", "--split", "valid", cwd=folder)
    assert len(looks()) == 2, "validation people may be looked at"
    check_together(folder)


def probabilities(folder):
    """windows.tsv.gz -> truths, probabilities of the method it reports"""
    rows = read_windows(folder)
    return [LABELS.index(r["label"]) for r in rows], [[float(r[f"p_{c}"]) for c in LABELS] for r in rows]


def together(p, q, a, b):
    """softmax(a log p + b log q); probabilities are written with six digits"""
    x = [math.exp(a * math.log(max(s, 5e-7)) + b * math.log(max(t, 5e-7))) for s, t in zip(p, q)]
    return [v / sum(x) for v in x]


def judged(truth, rows):
    """accuracy, log loss"""
    return sum(max(range(3), key=row.__getitem__) == t for t, row in zip(truth, rows)) / len(rows), -sum(math.log(max(row[t], 1e-300)) for t, row in zip(truth, rows)) / len(rows)


def check_together(folder):
    """model+pair and the model's temperature: what they state is what they are, and validation people chose both."""
    by, said, truth, model, pair = {}, {}, {}, {}, {}
    for split in ("test", "valid"):
        common = ("data.h5", "--context", str(N), "--split", split, "--baselines", "pair", "-o")
        said[split] = crocuta("evaluate", "run", *common, "both-" + split, cwd=folder).stdout
        crocuta("evaluate", "none", *common, "pair-" + split, cwd=folder)
        document = json.load(open(os.path.join(folder, "both-" + split, "evaluate.json")))
        assert [r["method"] for r in document["results"]] == ["model", "pair", "model+pair"]
        assert [p["b"] for p in document["paired"]] == ["pair", "model+pair"]
        by[split] = {r["method"]: r for r in document["results"]}
        truth[split], model[split] = probabilities(os.path.join(folder, "both-" + split))
        again, pair[split] = probabilities(os.path.join(folder, "pair-" + split))
        assert truth[split] == again
    told, own = by["test"], by["valid"]
    assert (told["model+pair"]["pair_weight"], told["model+pair"]["temperature"], told["model"]["calibrated"]["temperature"]) == (own["model+pair"]["pair_weight"], own["model+pair"]["temperature"], own["model"]["calibrated"]["temperature"]), "judged people had a say"
    a, b, t = 1 / told["model+pair"]["temperature"], told["model+pair"]["pair_weight"], told["pair"]["temperature"]
    assert 0.001 < a < 4 and 0.01 < b < 4, (a, b)
    for split in by:  # the same from the tables alone
        accuracy, loss = judged(truth[split], [together(p, q, a, b * t) for p, q in zip(model[split], pair[split])])
        assert abs(accuracy - by[split]["model+pair"]["accuracy"]) < 0.01 and abs(loss - by[split]["model+pair"]["log_loss"]) < 2e-3, (split, loss, by[split]["model+pair"])
        one = by[split]["model"]["calibrated"]
        loss = judged(truth[split], [together(p, p, 1 / one["temperature"], 0) for p in model[split]])[1]
        assert abs(loss - one["log_loss"]) < 1e-4 and 0 <= one["ece"] <= 1 and "calibrated" not in by[split]["pair"]
        assert f"  model at the temperature of validation people, {one['temperature']:.3f}: log loss {one['log_loss']:.3f}, ECE {one['ece']:.3f}\n" in said[split]
        assert abs(judged(truth[split], model[split])[1] - by[split]["model"]["log_loss"]) < 1e-4, "the row itself is as the model says"

    def validation(x, y):
        return judged(truth["valid"], [together(p, q, x, y * t) for p, q in zip(model["valid"], pair["valid"])])[1]

    best = validation(a, b)  # no other choice is better on validation people
    assert all(best <= validation(x, y) + 2e-5 for x in (a * 0.9, a, a * 1.1) for y in (b * 0.9, b, b * 1.1)) and best <= min(validation(1, 0), validation(0, 1 / t)) + 2e-5
    alone = own["model"]["calibrated"]["temperature"]
    assert alone == 0.25 or all(validation(1 / alone, 0) <= validation(1 / alone / x, 0) + 2e-5 for x in (0.9, 1, 1.1))


def check_panel_methods(folder):
    """Methods that read training haplotypes: marked by phase, never the reported one, the same on three ranks, refused where phase is lost."""
    methods = ["nb-absent", "ngram", "pair", "haplotype", "li-stephens"]
    arguments = ("evaluate", "none", "data.h5", "--context", str(N), "--baselines", ",".join(methods + ["lookup"]), "-o")
    said = crocuta(*arguments, "panel", cwd=folder).stdout
    assert [line[:15] for line in said.splitlines() if "%" in line and "*" in line] == ["  haplotype  * ", "  li-stephens* "], said
    assert "not to be ranked" in said
    rows = read_windows(os.path.join(folder, "panel"))
    reported, = {r["method"] for r in rows}
    assert reported in methods[:3]
    document, by = check_document(os.path.join(folder, "panel"), rows, methods, reported)
    for method in methods[1:]:
        assert 0.25 <= by[method]["temperature"] <= 1024 and by[method]["accuracy"] > 0.5, by[method]
    crocuta(*arguments, "panel3", "--threads", "2", cwd=folder, launcher=MPIRUN)
    assert json.load(open(os.path.join(folder, "panel3", "evaluate.json")))["results"] == document["results"]
    with open(os.path.join(folder, "people.vcf")) as whole, open(os.path.join(folder, "unphased.vcf"), "w") as f:
        for line in whole:
            f.write(line if line.startswith("#") else line.replace("|", "/"))
    crocuta("import", "-m", "people.tsv", "-o", "unphased.h5", "unphased.vcf", cwd=folder)
    for method in methods[2:]:
        done = crocuta("evaluate", "none", "unphased.h5", "--context", str(N), "--baselines", "nb," + method, "-o", "x", cwd=folder, code=3)
        lines = [line for line in done.stderr.splitlines() if line.startswith("crocuta: error: ")]
        assert len(lines) == 1 and "not phased" in lines[0] and method in lines[0], done.stderr
    crocuta("evaluate", "none", "unphased.h5", "--context", str(N), "--baselines", "ngram", "-o", "counted", cwd=folder)
    unphased = json.load(open(os.path.join(folder, "counted", "evaluate.json")))["results"][0]
    assert unphased["phase"] == "union" and unphased["accuracy"] > 0.5 and unphased["n_windows"] == len(rows)


def check_refusals(folder):
    for arguments, code, words in ((("evaluate", "none", "data.h5", "-o", "plain"), 2, "--force"),
                                   (("evaluate", "none", "data.h5", "-o", "x", "--context", "32,a"), 2, "--context"),
                                   (("evaluate", "none", "data.h5", "-o", "x", "--baselines", "nb,bayes"), 2, "bayes"),
                                   (("evaluate", "none", "data.h5", "-o", "x", "--context", "5000"), 3, "no window"),
                                   (("evaluate", "none", "people.vcf", "-o", "x"), 3, "people.vcf"),
                                   (("evaluate", "none", "data.h5", "-o", "no/such/folder"), 2, "no/such/folder"),
                                   (("evaluate", "nobody", "data.h5", "-o", "x"), 3, "nobody")):
        done = crocuta(*arguments, cwd=folder, code=code)
        lines = [line for line in done.stderr.splitlines() if line.startswith("crocuta: error: ")]
        assert len(lines) == 1 and words in lines[0], (arguments, done.stderr)
        assert not os.path.exists(os.path.join(folder, "x"))


with tempfile.TemporaryDirectory() as folder:
    carried, block = simulate(folder)
    crocuta("import", "-m", "people.tsv", "-o", "data.h5", "people.vcf", cwd=folder)
    info = json.loads(crocuta("data", "info", "data.h5", "--json", cwd=folder).stdout)
    split = {p["id"]: p["split"] for p in info["people"]}
    arguments = ("evaluate", "none", "data.h5", "--context", str(N), "--json", "-o")
    printed = crocuta(*arguments, "plain", cwd=folder).stdout
    rows = read_windows(os.path.join(folder, "plain"))
    check_windows(rows, split, carried, block)
    document, by = check_document(os.path.join(folder, "plain"), rows, ["majority", "density", "nb", "nb-absent", "logistic"], "logistic")
    assert json.loads(printed) == document
    assert by["nb-absent"]["accuracy"] > by["majority"]["accuracy"] + 0.3 and by["logistic"]["accuracy"] > by["majority"]["accuracy"] + 0.2
    crocuta(*arguments, "three", cwd=folder, launcher=MPIRUN)
    three = json.load(open(os.path.join(folder, "three", "evaluate.json")))
    for key in ("results", "paired", "perplexity"):
        assert three[key] == document[key], key
    assert read_windows(os.path.join(folder, "three")) == rows
    check_panel_methods(folder)
    check_refusals(folder)
    check_model(folder, split, carried, block)
print("ok")
