# `crocuta data` from outside, on a set imported from a VCF of this test's own making: info's keys and numbers against
# the VCF, export against the same genotypes, verify, refusals in one line, the same under three ranks.
# labels: mpi
import gzip, json, os, random, re, shutil, subprocess, sys, tempfile

crocuta = os.environ["CROCUTA"]
mpirun = ["mpirun", "-q", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n"]
shape = re.compile(r"^crocuta: error: \S.*?: .+; .+$")
people = [f"p{i:02d}" for i in range(24)]
labels = ["AFR", "EAS", "EUR"]


def run(*args, ranks=0, code=0):
    r = subprocess.run((mpirun + [str(ranks)] if ranks else []) + [crocuta, *args], capture_output=True, text=True)
    assert r.returncode == code, (args, r.returncode, r.stderr)
    return r


def refused(code, *args, says=""):
    r = run(*args, code=code)
    assert r.stdout == "" and r.stderr.count("\n") == 1 and shape.match(r.stderr), (args, r.stderr, r.stdout)
    assert says in r.stderr, (says, r.stderr)


def genotype(rng, alts):
    kind = rng.random()
    a, b = (rng.randint(0, alts) if rng.random() < 0.4 else 0 for _ in range(2))
    if kind < 0.03:
        return "./."
    return f"{a}/{b}" if kind < 0.1 else f"{a}|{b}"


def carried(chromosome, position, ref, alts, gt):
    """{(chromosome, position, alternate base): mask}, and as info counts them"""
    found = {}
    calls = re.split("[|/]", gt)
    for h, a in enumerate(calls):
        if a in "0.":
            continue
        unphased = "/" in gt and len(set(calls)) > 1
        key = (chromosome, position, alts[int(a) - 1])
        found[key] = 0 if unphased else found.get(key, 0) | 1 << h
    return found


def read(path):
    opener = gzip.open if path.endswith(".gz") else open
    names, calls = None, None
    for line in opener(path, "rt"):
        f = line.rstrip("\n").split("\t")
        if line.startswith("#CHROM"):
            names = f[9:]
            calls = {n: {} for n in names}
        elif not line.startswith("#"):
            for n, gt in zip(names, f[9:], strict=True):
                calls[n].update(carried(f[0], int(f[1]), f[3], f[4].split(","), gt))
    return calls


def write_input():
    rng = random.Random(5)
    lines = ["##fileformat=VCFv4.2", "##contig=<ID=chr21,length=46709983>", "##contig=<ID=chr22,length=50818468>",
             '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">', "\t".join(["#CHROM POS ID REF ALT QUAL FILTER INFO FORMAT".replace(" ", "\t")] + people)]
    for chromosome, first in (("chr21", 5030100), ("chr22", 16050100)):
        for i in range(300):
            ref, *alts = rng.sample("ACGT", 3 if rng.random() < 0.1 else 2)
            calls = [genotype(rng, len(alts)) for _ in people]
            for k in range(len(alts)):  # every alternate is carried by somebody
                calls[k] = f"{k + 1}|0"
            lines.append("\t".join([chromosome, str(first + 50 * i), ".", ref, ",".join(alts), ".", "PASS", ".", "GT", *calls]))
    open("in.vcf", "w").write("\n".join(lines) + "\n")
    with open("map.tsv", "w") as f:
        f.write("sample\tpopulation\tsuperpopulation\tsex\n")
        for i, p in enumerate(people):
            f.write(f"{p}\tPOP{i % 6}\t{labels[i % 3]}\t{'male' if i % 2 else 'female'}\n")


def check_info(want):
    info = json.loads(run("data", "info", "out.h5", "--json").stdout)
    assert info["schema"] == "crocuta/data/1" and info["assembly"] == "GRCh38" and info["phased"] is False
    assert info["sites"] == 600
    assert [c["name"] for c in info["chromosomes"]] == ["chr21", "chr22"]
    assert [c["length"] for c in info["chromosomes"]] == [46709983, 50818468]
    assert {p["id"]: (p["population"], p["superpopulation"], p["sex"]) for p in info["people"]} == {
        p: (f"POP{i % 6}", labels[i % 3], "male" if i % 2 else "female") for i, p in enumerate(people)}
    assert {p["split"] for p in info["people"]} == {"train", "valid", "test"}
    assert len(info["per_person"]) == len(people)
    for p in info["per_person"]:
        masks = list(want[p["id"]].values())
        have = (p["union"], p["hap1"], p["hap2"], p["unphased"])
        assert have == (len(masks), sum(m & 1 for m in masks), sum(m >> 1 for m in masks), masks.count(0)), (p, have)
        at = {c: sorted(x[1] for x in want[p["id"]] if x[0] == c) for c in ("chr21", "chr22")}
        assert p["longest_window"] == max(map(len, at.values())), p  # neighbours are 50 bp apart: no gap cuts
    assert json.loads(run("data", "info", "out.h5", "--json", ranks=3).stdout) == info
    table = run("data", "info", "out.h5").stdout
    assert "24 people, 600 sites" in table and "chr22" in table and "AFR" in table


def check_refusals():
    good = open("out.h5", "rb").read()
    rng = random.Random(3)
    for k in range(12):
        b = bytearray(good)
        if k < 4:
            b = b[:len(b) * (k + 1) // 5]
        elif k == 4:
            b[bytes(b).find(b"EUR")] ^= 1
        else:
            b[rng.randrange(len(b))] ^= 1 << rng.randrange(8)
        open("bad.h5", "wb").write(b)
        refused(3, "data", ["verify", "info"][k % 2], "bad.h5", says="bad.h5: ")
    refused(3, "data", "info", "in.vcf", says="not an HDF5 file")
    refused(3, "data", "info", "none.h5", says="No such file")
    refused(3, "data", "verify", ".", says="not a plain file")
    refused(2, "data", "export", "out.h5", says="-o")
    refused(2, "data", "export", "out.h5", "-o", "in.vcf", says="in.vcf: ")
    refused(2, "data", "look", "out.h5", says="look")
    refused(2, "data", says="data: ")
    before = open("out.h5", "rb").read()
    refused(2, "data", "export", "--force", "out.h5", "-o", "out.h5", says="input and output")
    assert open("out.h5", "rb").read() == before
    refused(2, "data", "info", "out.h5", "in.vcf", says="one data set")
    os.remove("bad.h5")


def main():
    write_input()
    run("import", "-m", "map.tsv", "-o", "out.h5", "in.vcf")
    want = read("in.vcf")
    check_info(want)
    for name in ("back.vcf.gz", "back.vcf"):
        run("data", "export", "out.h5", "-o", name)
        assert read(name) == want, name
    assert "sound" in run("data", "verify", "out.h5").stdout
    assert json.loads(run("data", "verify", "out.h5", "--json", ranks=2).stdout)["sound"] is True
    check_refusals()
    assert sorted(os.listdir(".")) == ["back.vcf", "back.vcf.gz", "in.vcf", "map.tsv", "out.h5", "out.import.json"]


if subprocess.run([crocuta, "import", "--help"], capture_output=True).returncode != 0:
    print("skipped: this build has no import")
    sys.exit(77)
folder = tempfile.mkdtemp()
try:
    os.chdir(folder)
    main()
finally:
    shutil.rmtree(folder)
