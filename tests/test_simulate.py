# simulate end to end: people made up by a model that learned two blocks of mosaics of a few founders a label. Their carrier
# frequencies are the training people's within sampling error and differ by label, neighbouring sites hang together as
# they do, a classifier knows them, import reads them back; same seed, same bytes, on ranks and threads too; refusals.
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
PEOPLE, SITES, BLOCK, EACH = 240, 320, 160, 120
# Windows of training begin and end with a carried site, so that the first and the last sites of a block are learned from
# those who carry them (docs/simulate.md): frequencies are compared at the sites between.
INNER = {s for s in range(SITES) if 40 <= s % BLOCK < BLOCK - 20}
CONFIG = ("data: {path: data.h5, seq_len: 24, absent: sums, max_gap: 200000}\n"
          "model: {d_model: 32, n_layer: 1, d_inner: 64, l_max: 34, filter_order: 16, emb_dim: 3, head: class-conditional, head_rank: 16, residual_init: 0.1}\n"
          "position: {encoding: fpe, alpha: 1, rank: 16, rows: site}\noptimizer: {lr: 1.0e-2, rows_lr: 0.02}\n"
          "train: {steps: 10, tokens_per_step: 2048, eval_every: 0}\nfinetune: {steps: 1000, lr: 5.0e-3, head_hidden: 0}\n")


def crocuta(*arguments, launcher=(), cwd=None, code=0):
    done = subprocess.run([*launcher, CROCUTA, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, timeout=300)
    assert done.returncode == code, (arguments, done.returncode, done.stderr)
    errors = [line for line in done.stderr.splitlines() if line.startswith("crocuta: error: ")]
    assert len(errors) == (code != 0), done.stderr
    return done


def invent():
    """Haplotypes as mosaics of six founders a label: neighbouring sites go together, far ones do not."""
    random.seed(5)
    founders = {}
    for label in LABELS:
        share = [random.uniform(0.1, 0.6) for _ in range(SITES)]
        founders[label] = [[int(random.random() < p) for p in share] for _ in range(6)]
    people = []
    for i in range(PEOPLE):
        pair = []
        for _ in range(2):
            source, hap = random.randrange(6), []
            for s in range(SITES):
                if s == BLOCK or random.random() < 0.05:
                    source = random.randrange(6)
                hap.append(founders[LABELS[i % 3]][source][s])
            pair.append(hap)
        people.append(pair)
    return people


def place(s):
    return 10000 + 900 * s + (1000000 if s >= BLOCK else 0)


def write(folder, people):
    names = [f"P{i:03d}" for i in range(PEOPLE)]
    lines = ["##fileformat=VCFv4.2", "##contig=<ID=1,length=249250621>",
             "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT"] + names)]
    for s in range(SITES):
        lines.append("\t".join(["1", str(place(s)), ".", "ACGT"[s % 4], "CGTA"[s % 4], ".", "PASS", ".", "GT"] + [f"{a[s]}|{b[s]}" for a, b in people]))
    with open(os.path.join(folder, "all.vcf"), "w") as f:
        f.write("\n".join(lines) + "\n")
    with open(os.path.join(folder, "people.tsv"), "w") as f:
        f.writelines(f"{n}\t{LABELS[i % 3]}\n" for i, n in enumerate(names))


def read(path):
    """Header, {sample: [genotype of each site]}, positions."""
    with (gzip.open(path, "rt") if path.endswith(".gz") else open(path)) as f:
        lines = f.read().splitlines()
    header = [line for line in lines if line.startswith("##")]
    rows = [line.split("\t") for line in lines if not line.startswith("##")]
    return header, {name: [r[9 + k] for r in rows[1:]] for k, name in enumerate(rows[0][9:])}, [int(r[1]) for r in rows[1:]]


def labels_of(path):
    with open(path) as f:
        rows = [line.rstrip("\n").split("\t") for line in f]
    assert rows[0] == ["sample", "label"]
    return dict(rows[1:])


def frequency(carried):
    return [sum(column) / len(carried) for column in zip(*carried)]


def r2(carried, a, b):
    n, x, y, xy = len(carried), sum(c[a] for c in carried), sum(c[b] for c in carried), sum(c[a] & c[b] for c in carried)
    spread = x * (n - x) * y * (n - y)
    return (n * xy - x * y) ** 2 / spread if spread else None


def correlation(pairs):
    n = len(pairs)
    mx, my = (sum(p[k] for p in pairs) / n for k in (0, 1))
    sxy = sum((x - mx) * (y - my) for x, y in pairs)
    return sxy / math.sqrt(sum((x - mx) ** 2 for x, _ in pairs) * sum((y - my) ** 2 for _, y in pairs))


def mean_r2(carried, gap):
    found = [v for s in range(SITES - gap) if (s < BLOCK) == (s + gap < BLOCK) for v in [r2(carried, s, s + gap)] if v is not None]
    return sum(found) / len(found)


def likeness(real, made):
    """real, made: {label: [[carried] of a person or haplotype]}"""
    real_f, made_f = ({k: [f for s, f in enumerate(frequency(v)) if s in INNER] for k, v in x.items()} for x in (real, made))
    z = []
    for label in LABELS:
        for p, q in zip(real_f[label], made_f[label]):
            middle = (p * len(real[label]) + q * len(made[label])) / (len(real[label]) + len(made[label]))
            spread = middle * (1 - middle) * (1 / len(real[label]) + 1 / len(made[label]))
            if spread > 0:
                z.append((p - q) / math.sqrt(spread))
    off = sum(v * v for v in z) / len(z)
    assert off < 2.0, f"frequencies are {off:.2f} times as far apart (squared) as sampling explains"
    for a in LABELS:
        own = correlation(list(zip(real_f[a], made_f[a])))
        assert own > 0.95, (a, own)
        for b in LABELS:
            assert a == b or correlation(list(zip(real_f[b], made_f[a]))) < own - 0.2, (a, b)
    neighbours = [(x, y) for k in LABELS for s in range(SITES - 1) if s + 1 != BLOCK for x, y in [(r2(real[k], s, s + 1), r2(made[k], s, s + 1))]
                  if x is not None and y is not None]
    assert correlation(neighbours) > 0.8, correlation(neighbours)
    for k in LABELS:  # and fades with distance as among real people
        for gap in (1, 3):
            assert abs(mean_r2(made[k], gap) / mean_r2(real[k], gap) - 1) < 0.3, (k, gap, mean_r2(made[k], gap), mean_r2(real[k], gap))
        assert mean_r2(made[k], 40) < 0.4 * mean_r2(made[k], 1)


def refusals(folder):
    def refused(code, words, *arguments):
        said = crocuta("simulate", *arguments, cwd=folder, code=code).stderr
        assert all(w in said for w in words), said
        assert not os.path.exists(os.path.join(folder, "no.vcf")) and not os.path.exists(os.path.join(folder, "no.samples.tsv"))

    refused(2, ["--label", "AMR", "AFR, EAS, EUR"], "union", "-o", "no.vcf", "--label", "AMR")
    refused(2, ["no.txt", ".vcf.gz"], "union", "-o", "no.txt")
    refused(2, ["--people"], "union", "-o", "no.vcf", "--people", "0")
    refused(2, ["--context"], "union", "-o", "no.vcf", "--context", "35")
    refused(2, ["-o"], "union")
    refused(2, ["one.vcf.gz"], "union", "-o", "one.vcf.gz")
    refused(2, ["model"], "-o", "no.vcf")
    refused(3, ["nowhere"], "nowhere", "-o", "no.vcf")
    for name, head, command in (("pooled", "pooled", ("finetune", "--from", "none")), ("next", "pooled", ("pretrain",))):
        with open(os.path.join(folder, name + ".yaml"), "w") as f:
            f.write(CONFIG.replace("head: class-conditional, head_rank: 16, ", "").replace("steps: 1000", "steps: 2") + ("objective: next-site\n" if name == "next" else ""))
        crocuta(command[0], name + ".yaml", *command[1:], "-o", name, "train.steps=2", cwd=folder)
        refused(3, [name, "site head"], name, "-o", "no.vcf")


def main():
    with tempfile.TemporaryDirectory() as folder:
        people = invent()
        write(folder, people)
        with open(os.path.join(folder, "c.yaml"), "w") as f:
            f.write(CONFIG)
        crocuta("import", "-m", "people.tsv", "-o", "data.h5", "--split", "0.9,0.1,0", "all.vcf", cwd=folder)
        # a site that nobody carries is none of the set: frequencies are compared at those that are left
        assert all(any(a[s] or b[s] for a, b in people) for s in range(SITES))

        crocuta("finetune", "c.yaml", "--from", "none", "-o", "union", "data.sampling=mating", cwd=folder)
        told = json.loads(crocuta("simulate", "union", "-o", "one.vcf.gz", "--people", EACH, "--seed", 3, "--json", cwd=folder).stdout)
        header, made, positions = read(os.path.join(folder, "one.vcf.gz"))
        assert any(line.startswith("##source=crocuta simulate") for line in header) and any("SIMULATED" in line for line in header)
        assert positions == [place(s) for s in range(SITES)]
        label = labels_of(os.path.join(folder, "one.samples.tsv"))
        assert list(label) == list(made) == [f"SIM_{k}_{i + 1}" for k in LABELS for i in range(EACH)]
        assert {g for calls in made.values() for g in calls} == {"0/0", "0/1"}
        assert told["genotypes"] == "union" and told["sites"] == SITES and told["blocks"] == 2 and told["seed"] == 3
        by_label = {k: [[g != "0/0" for g in calls] for name, calls in made.items() if label[name] == k] for k in LABELS}
        real = {k: [[int(x or y) for x, y in zip(*people[i])] for i in range(PEOPLE) if LABELS[i % 3] == k] for k in LABELS}
        likeness(real, by_label)
        for k in told["labels"]:
            carried = sum(map(sum, by_label[k["label"]]))
            assert k["carried"] == carried and k["people"] == k["sequences"] == EACH
            assert carried <= k["judged_sites"] <= EACH * SITES and 0.02 < k["nll"] / k["judged_sites"] < 0.6, k

        crocuta("import", "-m", "one.samples.tsv", "-o", "made.h5", "one.vcf.gz", "--split", "0.5,0.25,0.25", cwd=folder)
        info = json.loads(crocuta("data", "info", "made.h5", "--json", cwd=folder).stdout)
        assert {p["id"]: p["label"] for p in info["people"]} == label
        crocuta("predict", "union", "one.vcf.gz", "-o", "judged", cwd=folder)
        with open(os.path.join(folder, "judged", "people.tsv")) as f:
            said = dict(line.split("\t")[:2] for line in f.read().splitlines()[1:])
        assert sum(said[n] == label[n] for n in said) > 0.97 * len(label)

        shown = crocuta("evaluate", "union", "data.h5", "-o", "ev", "--split", "valid", "--context", 16, "--baselines", "majority", cwd=folder).stdout
        with open(os.path.join(folder, "ev", "evaluate.json")) as f:
            document = json.load(f)
        sites = document["site_calibration"]
        bins = sites["bins"]
        assert f"calibration error {sites['ece']:.4f} ({sites['n_sites']} sites" in shown and "own label" in shown
        assert len(bins) == 20 and sum(b["n"] for b in bins) == sites["n_sites"] > 2000 and bins[0]["from"] == 0 and bins[19]["to"] == 1
        assert all(b["from"] <= b["predicted"] <= b["to"] for b in bins if b["n"])
        assert abs(sum(b["n"] * abs(b["predicted"] - b["observed"]) for b in bins if b["n"]) / sites["n_sites"] - sites["ece"]) < 1e-9
        assert sites["ece"] < 0.1 and sum(b["n"] * b["observed"] for b in bins if b["n"]) - document["perplexity"]["targets"] < 1e-6
        assert document["perplexity"]["next_site_nats_per_site"] == sites["nats_per_site"] < 0.5

        with open(os.path.join(folder, "one.vcf.gz"), "rb") as f:
            once = f.read()
        for launcher, more in (((), ("--threads", 1)), ((), ("--threads", 2)), (MPIRUN, ())):
            crocuta("simulate", "union", "-o", "one.vcf.gz", "--people", EACH, "--seed", 3, "--force", *more, cwd=folder, launcher=launcher)
            with open(os.path.join(folder, "one.vcf.gz"), "rb") as f:
                assert f.read() == once, (launcher, more)
        crocuta("checkpoint", "export", "union", "-o", "union.safetensors", cwd=folder)
        crocuta("simulate", "union.safetensors", "-o", "flat.vcf", "--people", 3, "--label", "EAS", "--seed", 3, cwd=folder)
        _, flat, _ = read(os.path.join(folder, "flat.vcf"))
        assert flat == {f"SIM_EAS_{i + 1}": made[f"SIM_EAS_{i + 1}"] for i in range(3)}, "a person does not hang on who else is made up"
        crocuta("simulate", "union", "-o", "other.vcf", "--people", 3, "--seed", 4, cwd=folder)
        assert read(os.path.join(folder, "other.vcf"))[1]["SIM_EAS_1"] != made["SIM_EAS_1"]

        crocuta("finetune", "c.yaml", "--from", "none", "-o", "phased", "data.alleles=haplotype", cwd=folder)
        told = json.loads(crocuta("simulate", "phased", "-o", "two.vcf", "--people", EACH, "--json", cwd=folder).stdout)
        _, made, _ = read(os.path.join(folder, "two.vcf"))
        label = labels_of(os.path.join(folder, "two.samples.tsv"))
        assert {g for calls in made.values() for g in calls} == {"0|0", "0|1", "1|0", "1|1"} and told["genotypes"] == "haplotypes"
        by_label = {k: [[int(g[h]) for g in calls] for name, calls in made.items() if label[name] == k for h in (0, 2)] for k in LABELS}
        likeness({k: [hap for i in range(PEOPLE) if LABELS[i % 3] == k for hap in people[i]] for k in LABELS}, by_label)

        refusals(folder)


main()
