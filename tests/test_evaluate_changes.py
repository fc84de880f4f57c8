# evaluate -r/-R/--exclude-regions, --missing and --wrong: the changed genotypes of the judged people are made again here
# from the VCF with the same random numbers (Philox), windows are cut from them anew, and naive Bayes over every site is
# computed from unchanged training people; all must agree. Populations, confused labels, intervals that do not exist.
import csv
import gzip
import json
import math
import os
import random
import re
import subprocess
import tempfile

CROCUTA, SOURCE = os.environ["CROCUTA"], os.environ["CROCUTA_SOURCE"]
MPIRUN = ["mpirun", "-q", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", "3"]
LABELS = ["AFR", "AMR", "EAS", "EUR"]
PEOPLE, SITES, N = 100, 400, 16
GAP = 200000


def crocuta(*arguments, launcher=(), cwd=None, code=0):
    done = subprocess.run([*launcher, CROCUTA, *arguments], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == code, (arguments, done.returncode, done.stderr)
    return done


def purpose(name):
    text = re.search(r"typedef enum \{(.*?)\} rng_purpose", open(os.path.join(SOURCE, "runtime/core/rng.h")).read(), re.S).group(1)
    return 1 + re.findall(r"\bRNG_\w+", re.sub(r"/\*.*?\*/", "", text, flags=re.S)).index(name)


def philox(seed, which, a, b, c):
    """Philox4x32-10 of counter (a, b, c), the purpose in the key"""
    m32 = 0xFFFFFFFF
    x, k0, k1 = [a & m32, a >> 32, b, c], seed & m32, seed >> 32 ^ which * 0x9E3779B9 & m32
    for _ in range(10):
        p0, p1 = 0xD2511F53 * x[0], 0xCD9E8D57 * x[2]
        x = [p1 >> 32 ^ x[1] ^ k0, p1 & m32, p0 >> 32 ^ x[3] ^ k1, p0 & m32]
        k0, k1 = k0 + 0x9E3779B9 & m32, k1 + 0xBB67AE85 & m32
    return x


def uniform(words):
    return ((words[0] << 32 | words[1]) >> 11) / 2.0 ** 53


def simulate(folder):
    """-> sites [(chrom, position)], genotypes {who: [text]}; 4 labels, 8 populations, some calls missing or half missing"""
    random.seed(11)
    people = [f"P{i:03d}" for i in range(PEOPLE)]
    with open(os.path.join(folder, "people.tsv"), "w") as f:
        f.write("sample\tpopulation\tsuperpopulation\tsex\n")
        f.writelines(f"{who}\t{LABELS[i % 4]}{i // 4 % 2}\t{LABELS[i % 4]}\tmale\n" for i, who in enumerate(people))
    sites, genotypes = [], {who: [] for who in people}
    with open(os.path.join(folder, "people.vcf"), "w") as f:
        f.write("##fileformat=VCFv4.2\n##contig=<ID=chr1,length=249250621>\n##contig=<ID=chr2,length=243199373>\n##FORMAT=<ID=GT,Number=1,Type=String,Description=\"\">\n")
        f.write("\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT"] + people) + "\n")
        for k in range(SITES):
            chrom, on = ("chr1", k) if k < 250 else ("chr2", k - 250)
            position = 10000 + 900 * on + (1000000 if 100 <= k < 250 else 0)
            sites.append((chrom, position))
            base, row = 0.15 + 0.3 * random.random(), []
            for i, who in enumerate(people):
                share = base + (0.3 if k % 4 == i % 4 else 0)
                g = [str(int(random.random() < share)) for _ in range(2)]
                draw = random.random()
                g = [".", "."] if draw < 0.03 else [".", g[1]] if draw < 0.04 else g
                row.append("|".join(g))
                genotypes[who].append(row[-1])
            f.write("\t".join([chrom, str(position), ".", "A", "CGT"[k % 3], ".", "PASS", ".", "GT"] + row) + "\n")
    return sites, genotypes


def state(genotype):
    """carried 1, absent 0, no call None"""
    return 1 if "1" in genotype else None if "." in genotype else 0


def changed(genotypes, order, split, kind, inside, missing, wrong, seed):
    """{who: [state]}: what the judged people carry after the changes; others as they are"""
    which = purpose("RNG_ALTER")
    gone = [uniform(philox(seed, which, s, 0, 0)) < missing for s in range(SITES)]
    out, turned = {}, 0
    for person, who in enumerate(order):
        own = [state(g) for g in genotypes[who]]
        if split[who] == kind:
            for s in range(SITES):
                if not inside[s] or gone[s]:
                    own[s] = None
                elif wrong and "." not in genotypes[who][s] and uniform(philox(seed, which, person, s, 1)) < wrong:
                    own[s], turned = 1 - own[s], turned + 1
        out[who] = own
    return out, sum(g and i for g, i in zip(gone, inside)), turned


def windows_of(states, sites, inside):
    """Windows of N carried sites within runs that no gap, chromosome's end or region's edge cuts"""
    found, run = [], []
    for s in range(SITES + 1):
        cut = s == SITES or s > 0 and (sites[s][0] != sites[s - 1][0] or sites[s][1] - sites[s - 1][1] > GAP or inside[s] != inside[s - 1])
        if cut:
            found += [run[k:k + N] for k in range(0, len(run) - N + 1, N)]
            run = []
        if s < SITES and states[s] == 1:
            run.append(s)
    return found


def nb_absent(states, window, counts):
    """log-probabilities of the labels: a Bernoulli at every called site of the span"""
    total = []
    for c in range(4):
        total.append(sum(math.log(f if states[s] else 1 - f) for s in range(window[0], window[-1] + 1) if states[s] is not None
                         for f in [(counts[c][s][0] + 0.5) / (counts[c][s][1] + 1)]))
    top = max(total)
    norm = top + math.log(sum(math.exp(t - top) for t in total))
    return [math.exp(t - norm) for t in total]


def train_counts(genotypes, split):
    counts = [[[0, 0] for _ in range(SITES)] for _ in range(4)]
    for who, kind in split.items():
        for s in range(SITES if kind == "train" else 0):
            c = counts[int(who[1:]) % 4][s]
            # carriers; people with a whole call (a half-missing one counts as called where too few would be left)
            c[0] += "1" in genotypes[who][s]
            c[1] += "." not in genotypes[who][s]
    for rows in counts:
        for c in rows:
            c[1] = max(c[1], c[0])
    return counts


def read_windows(folder):
    with gzip.open(os.path.join(folder, "windows.tsv.gz"), "rt") as f:
        return list(csv.DictReader(f, delimiter="\t"))


def check(folder, name, data, options, inside, missing=0.0, wrong=0.0, seed=1, kind="test", launcher=()):
    sites, genotypes, order, split, counts = data
    done = crocuta("evaluate", "none", "data.h5", "-o", name, "--context", str(N), "--baselines", "nb-absent", "--split", kind, "--seed", str(seed), *options, cwd=folder, launcher=launcher)
    states, gone, turned = changed(genotypes, order, split, kind, inside, missing, wrong, seed)
    rows = read_windows(os.path.join(folder, name))
    want = [(who, w) for who in order if split[who] == kind for w in windows_of(states[who], sites, inside)]
    assert len(want) > 50 and [(r["sample"], r["chrom"], int(r["start"]), int(r["end"])) for r in rows] == [(who, *sites[w[0]], sites[w[-1]][1]) for who, w in want], name
    for r, (who, w) in zip(rows, want):
        p = nb_absent(states[who], w, counts)
        assert max(abs(float(r[f"p_{c}"]) - p[k]) for k, c in enumerate(LABELS)) < 2e-6, (name, who, w)
    document = json.load(open(os.path.join(folder, name, "evaluate.json")))
    assert (document["missing"], document["wrong"], document["seeds"]["altered"]) == (missing, wrong, seed)
    if options:
        told = document["altered"]
        assert told["judged_sites"] == sum(inside) and told["missing_sites"] == gone and told["wrong_carried"] + told["wrong_absent"] == turned, (told, gone, turned)
        assert f"judged: {sum(inside)} of {SITES} sites" in done.stdout
    return document, rows, done.stdout


def check_groups(document, rows, printed):
    result, = document["results"]
    for key, name in (("per_population", lambda who: LABELS[int(who[1:]) % 4] + str(int(who[1:]) // 4 % 2)), ("per_superpopulation", lambda who: LABELS[int(who[1:]) % 4])):
        assert list(result[key]) == sorted({name(r["sample"]) for r in rows})
        for group, g in result[key].items():
            own = [r for r in rows if name(r["sample"]) == group]
            assert g["n_windows"] == len(own) and g["n_people"] == len({r["sample"] for r in own}) > 1
            assert abs(g["accuracy"] - sum(r["label"] == r["predicted"] for r in own) / len(own)) < 1e-9
            low, high = g["ci_people"]
            assert low <= g["accuracy"] <= high and len(g["ci_blocks"]) == 2, (group, g)
    shares = {}
    for a in range(4):
        for b in range(a + 1, 4):
            c = result["confusion"]
            shares[(LABELS[a], LABELS[b])] = ((c[a][b] + c[b][a]) / (sum(c[a]) + sum(c[b])), c[a][b], c[b][a])
    pairs = [(p["a"], p["b"]) for p in result["confused_pairs"]]
    assert len(pairs) > 1 and all(abs(p["share"] - shares[(p["a"], p["b"])][0]) < 1e-9 and (p["a_as_b"], p["b_as_a"]) == shares[(p["a"], p["b"])][1:] for p in result["confused_pairs"])
    want = sorted((s[0] for s in shares.values() if s[0] > 0), reverse=True)
    assert len(want) == len(pairs) and all(abs(p["share"] - s) < 1e-9 for p, s in zip(result["confused_pairs"], want))
    assert f"  {pairs[0][0]} and {pairs[0][1]}: " in printed and "by superpopulation" in printed


def check_calibration(document, rows):
    """ECE: 15 equal bins, open below and closed above; bins add up to it"""
    result, = document["results"]
    bins = [[0, 0.0, 0] for _ in range(15)]
    for r in rows:
        p = max(float(r[f"p_{c}"]) for c in LABELS)
        b = bins[max(0, math.ceil(p * 15 - 1e-9) - 1)]
        b[0], b[1], b[2] = b[0] + 1, b[1] + p, b[2] + (r["label"] == r["predicted"])
    assert [b["n_windows"] for b in result["calibration"]] == [b[0] for b in bins]
    assert abs(sum(abs(b[2] - b[1]) for b in bins) / len(rows) - result["ece"]) < 1e-5
    for told, b in zip(result["calibration"], bins):
        if b[0]:
            assert abs(told["confidence"] - b[1] / b[0]) < 1e-5 and abs(told["accuracy"] - b[2] / b[0]) < 1e-9
        else:
            assert told["confidence"] is None and told["accuracy"] is None


def main(folder):
    sites, genotypes = simulate(folder)
    crocuta("import", "-m", "people.tsv", "-o", "data.h5", "people.vcf", cwd=folder)
    people = json.loads(crocuta("data", "info", "data.h5", "--json", cwd=folder).stdout)["people"]
    split = {p["id"]: p["split"] for p in people}
    data = (sites, genotypes, [p["id"] for p in people], split, train_counts(genotypes, split))
    everything = [True] * SITES
    plain, rows, printed = check(folder, "plain", data, (), everything)
    assert plain["regions"] == [] and "judged:" not in printed
    check_groups(plain, rows, printed)
    check_calibration(plain, rows)

    # Two regions of one block with sites between, one of another chromosome (its name spelled otherwise).
    where = "1:10000-54999,chr1:70000-98000,2:50000-120000"
    inside = [c == "chr1" and (10000 <= p <= 54999 or 70000 <= p <= 98000) or c == "chr2" and 50000 <= p <= 120000 for c, p in sites]
    document, regional, _ = check(folder, "regions", data, ("-r", where), inside)
    assert document["regions"] == ["chr1:10000-54999", "chr1:70000-98000", "chr2:50000-120000"]
    with open(os.path.join(folder, "where.bed"), "w") as f:
        f.write("chr1\t9999\t54999\nchr1\t69999\t98000\nchr2\t49999\t120000\n")
    assert check(folder, "bed", data, ("-R", "where.bed"), inside)[1] == regional
    check(folder, "excluded", data, ("--exclude-regions", "chr1:30000-40000"), [not (c == "chr1" and 30000 <= p <= 40000) for c, p in sites])

    check(folder, "half", data, ("--missing", "0.5"), everything, missing=0.5)
    check(folder, "wrong", data, ("--wrong", "0.03"), everything, wrong=0.03)
    options = ("--missing", "0.3", "--wrong", "0.05", "-r", "1,2:20000-130000")
    where = [c == "chr1" or 20000 <= p <= 130000 for c, p in sites]
    one = check(folder, "all", data, options, where, missing=0.3, wrong=0.05, seed=5, kind="valid")
    three = check(folder, "three", data, options, where, missing=0.3, wrong=0.05, seed=5, kind="valid", launcher=MPIRUN)
    assert one[1] == three[1] and one[0]["results"] == three[0]["results"]

    # One block is no interval over blocks.
    block, _, printed = check(folder, "block", data, ("-r", "chr2"), [c == "chr2" for c, _ in sites])
    assert block["results"][0]["ci_blocks"] == [None, None] and None not in block["results"][0]["ci_people"] and "one block" in printed

    for options, code, words in ((("--missing", "1"), 2, "--missing"), (("--wrong", "0.6"), 2, "--wrong"), (("-r", "chr3"), 2, "none of the"), (("-r", "chr1:9-2"), 2, "-r"),
                                 (("--split", "train", "--missing", "0.1"), 2, "--split train"), (("-R", "nowhere.bed"), 3, "nowhere.bed")):
        done = crocuta("evaluate", "none", "data.h5", "-o", "x", "--context", str(N), *options, cwd=folder, code=code)
        lines = [line for line in done.stderr.splitlines() if line.startswith("crocuta: error: ")]
        assert len(lines) == 1 and words in lines[0] and not os.path.exists(os.path.join(folder, "x")), (options, done.stderr)


with tempfile.TemporaryDirectory() as folder:
    main(folder)
print("ok")
