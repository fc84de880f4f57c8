# predict end to end on a small simulated VCF: what it says of people is what evaluate says of them, bit for bit, whatever
# the spelling of chromosomes, the order of people and lines, swapped alleles and sites that only one side knows; sites that
# the query lacks count as missing calls; refusals; ranks; models of every kind of file, also without a table of sites.
import csv
import gzip
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from import_kit import END_BLOCK, bgzf

CROCUTA = os.environ["CROCUTA"]
MPIRUN = ["mpirun", "-q", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", "3"]
LABELS = ["AFR", "EAS", "EUR"]
PEOPLE, SITES, N = 90, 400, 32
HEADER = ["##fileformat=VCFv4.2", "##contig=<ID=1,length=249250621>", "##contig=<ID=2,length=243199373>"]
COLUMNS = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT"]
CONFIG = ("data: {path: data.h5, seq_len: 32}\nmodel: {d_model: 16, n_layer: 1, d_inner: 32, l_max: 34, filter_order: 16, emb_dim: 3}\n"
          "position: {encoding: fpe, alpha: 1, rank: 4, rows: site}\noptimizer: {lr: 1.0e-2}\n"
          "train: {steps: 10, tokens_per_step: 1024, eval_every: 0}\nfinetune: {steps: 60, lr: 1.0e-2, head_hidden: 0}\n")


# The same with every site of a window's span read: what is missing and what is absent makes a difference.
SITE_HEAD = CONFIG.replace("seq_len: 32", "seq_len: 32, absent: sums").replace("emb_dim: 3", "emb_dim: 3, head: class-conditional, head_rank: 4, residual_init: 0.1")


def crocuta(*arguments, launcher=(), cwd=None, code=0):
    done = subprocess.run([*launcher, CROCUTA, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, timeout=240)
    assert done.returncode == code, (arguments, done.returncode, done.stderr)
    return done


def simulate():
    """[chrom, position, ref, alt, {person: genotype}]: two chromosomes, a gap of 1 Mb in the first, some calls missing."""
    random.seed(11)
    sites = []
    for k in range(SITES):
        chrom, on = ("1", k) if k < 200 else ("2", k - 200)
        base, calls = 0.05 + 0.4 * random.random(), {}
        for i in range(PEOPLE):
            share = base + (0.3 if k % 3 == i % 3 else 0)
            calls[f"P{i:03d}"] = "./." if random.random() < 0.02 else "|".join(str(int(random.random() < share)) for _ in range(2))
        sites.append([chrom, 10000 + 900 * on + (1000000 if 100 <= k < 200 else 0), "ACGT"[k % 4], "CGTA"[k % 4], calls])
    return sites


def text_of(sites, people, header=HEADER):
    lines = header + ["\t".join(COLUMNS + people)]
    for chrom, position, ref, alt, calls in sites:
        lines.append("\t".join([chrom, str(position), ".", ref, alt, ".", "PASS", ".", "GT"] + [calls.get(p, "0|0") for p in people]))
    return "\n".join(lines) + "\n"


def table(path):
    with (gzip.open(path, "rt") if path.endswith(".gz") else open(path)) as f:
        return list(csv.DictReader(f, delimiter="\t"))


def windows_of(folder, *without):
    rows = table(os.path.join(folder, "windows.tsv.gz"))
    return sorted(tuple((k, v) for k, v in r.items() if k not in without) for r in rows)


def people_of(folder):
    return {r["sample"]: r for r in table(os.path.join(folder, "people.tsv"))}


class Kit:
    def __init__(self, folder, config):
        self.folder, self.config, self.sites, self.n = folder, config, simulate(), 0
        everybody = [f"P{i:03d}" for i in range(PEOPLE)]
        self.put("all.vcf", text_of(self.sites, everybody))
        self.put("people.tsv", "".join(f"P{i:03d}\t{LABELS[i % 3]}\n" for i in range(PEOPLE)))
        self.put("c.yaml", config)
        crocuta("import", "-m", "people.tsv", "-o", "data.h5", "--split", "0.6,0.1,0.3", "all.vcf", cwd=folder)
        crocuta("finetune", "c.yaml", "--from", "none", "-o", "run", cwd=folder)
        crocuta("evaluate", "run", "data.h5", "-o", "judged", "--context", N, "--baselines", "majority", cwd=folder)
        info = json.loads(crocuta("data", "info", "data.h5", "--json", cwd=folder).stdout)
        self.people = [p["id"] for p in info["people"] if p["split"] == "test"]
        random.shuffle(self.people)
        self.expected = windows_of(os.path.join(folder, "judged"), "label", "method")
        assert len(self.people) > 20 and len(self.expected) > 100
        # a site that nobody of the set carries is none of it
        self.known = {(s[0], s[1]) for s in self.sites if any("1" in c for c in s[4].values())}

    def put(self, name, content):
        with open(os.path.join(self.folder, name), "wb") as f:
            f.write(content.encode() if isinstance(content, str) else content)

    def ask(self, content, *more, model="run", code=0, launcher=(), name=None):
        """predict on a text; (folder of the results, what the command printed)"""
        self.n += 1
        name = name or f"q{self.n}.vcf"
        self.put(name, content)
        out = f"o{self.n}"
        done = crocuta("predict", model, name, "-o", out, *more, cwd=self.folder, code=code, launcher=launcher)
        errors = [line for line in done.stderr.splitlines() if line.startswith("crocuta: error: ")]
        assert len(errors) == (code != 0), done.stderr
        out = os.path.join(self.folder, out)
        assert (code == 0) == os.path.exists(out), "nothing is left of what was refused"
        return out, done

    def same(self, content, *more, **how):
        out, done = self.ask(content, *more, **how)
        got = windows_of(out)
        assert got == self.expected, f"{len(got)} windows for {len(self.expected)}; first difference: " + str(next(((a, b) for a, b in zip(got, self.expected) if a != b), None))
        with open(os.path.join(out, "predict.json")) as f:
            return json.load(f), done

    def query(self, sites=None):
        return text_of(self.sites if sites is None else sites, self.people)


def changed(sites, where, what):
    return [what(list(s)) if where(k, s) else s for k, s in enumerate(sites)]


def swapped(s):
    turn = {"0": "1", "1": "0"}
    return [s[0], s[1], s[3], s[2], {p: "".join(turn.get(c, c) for c in g) for p, g in s[4].items()}]


def check_same(kit):
    document, done = kit.same(kit.query())
    assert document["schema"] == "crocuta/predict/1" and document["overlap"] == 1 and document["assembly"] == "GRCh37"
    assert document["sites"]["matched"] == document["sites"]["model"] == len(kit.known) and document["sites"]["flipped"] == 0
    assert document["n_people"] == len(kit.people) == sum(document["predicted"].values()) and document["n_windows"] == len(kit.expected)
    assert document["seconds"] > 0 and document["bytes_per_person"] > 500 and document["absent_sites_taken_as"] == "missing"
    assert abs(document["seconds_per_person"] * len(kit.people) - document["seconds"]) < 1e-6
    assert "warning" not in done.stderr and f"{len(kit.people)} people" in done.stdout
    # one line a person, in the order of the file, and what evaluate says of each
    out = os.path.join(kit.folder, f"o{kit.n}")
    judged, people = people_of(os.path.join(kit.folder, "judged")), people_of(out)
    assert list(people) == kit.people and judged.keys() == people.keys()
    assert all(people[p][k] == judged[p][k] for p in people for k in people[p])
    assert list(next(iter(people.values()))) == ["sample", "predicted", "n_windows"] + [f"p_{c}" for c in LABELS]
    assert list(table(os.path.join(out, "windows.tsv.gz"))[0]) == ["sample", "hap", "chrom", "start", "end", "n_snps", "predicted"] + [f"p_{c}" for c in LABELS]
    # unphased, lines and alleles in any order, compressed, in several files, on three ranks
    kit.same(kit.query().replace("1|0", "0/1").replace("0|1", "1/0"))
    head, body = kit.query().split("FORMAT", 1)
    names, lines = body.split("\n", 1)
    lines = lines.splitlines()
    random.shuffle(lines)
    kit.same("\n".join([head + "FORMAT" + names] + lines) + "\n")
    kit.same(bgzf(kit.query()), name="q.vcf.gz")
    one, two = ([s for s in kit.sites if s[0] == c] for c in "12")
    kit.put("second.vcf", text_of(two, kit.people[::-1]))
    kit.same(kit.query(one), "second.vcf")
    document, _ = kit.same(kit.query(), launcher=MPIRUN)
    assert document["ranks"] == 3
    printed = json.loads(kit.ask(kit.query(), "--json")[1].stdout)
    assert printed["schema"] == "crocuta/predict/1" and printed["n_windows"] == len(kit.expected)


def check_spelling(kit):
    out, done = kit.ask(kit.query([["chr" + s[0], *s[1:]] for s in kit.sites]).replace("ID=", "ID=chr"))
    got = windows_of(out)
    assert [tuple((k, "chr" + v if k == "chrom" else v) for k, v in r) for r in kit.expected] == got


def check_swapped(kit):
    place = [k for k, s in enumerate(kit.sites) if (s[0], s[1]) in kit.known]
    few, many = set(place[50:53]), set(place[::7])
    document, done = kit.same(kit.query(changed(kit.sites, lambda k, s: k in few, swapped)))
    assert document["sites"]["flipped"] == 3 and "swapped" not in done.stderr
    _, done = kit.ask(kit.query(changed(kit.sites, lambda k, s: k in many, swapped)), code=3)
    assert f"swapped at {len(many)} of" in done.stderr and "--force" in done.stderr
    document, done = kit.same(kit.query(changed(kit.sites, lambda k, s: k in many, swapped)), "--force")
    assert document["sites"]["flipped"] == len(many) and "swapped" in done.stderr


def check_extra(kit):
    """Sites that the model does not know, and records that are no sites of it, leave no trace but their counts."""
    more = []
    for k, s in enumerate(kit.sites):
        if k % 3 == 0:
            more.append([s[0], s[1] - 100, "A", "G", {p: "1|1" for p in kit.people}])
        if k % 50 == 0:
            more.append([s[0], s[1] - 50, "AT", "A", {p: "1|1" for p in kit.people}])
        more.append(s)
    more.append(["MT", 100, "A", "G", {p: "1" for p in kit.people}])
    more.append(["GL000207.1", 100, "A", "G", {p: "1|1" for p in kit.people}])
    document, _ = kit.same(kit.query(more))
    assert document["sites"]["unknown"] == (SITES + 2) // 3 + SITES - len(kit.known) and document["overlap"] == 1
    assert document["records"]["not_snv"] == SITES // 50 and document["records"]["other_contigs"] == 2


def check_missing(kit):
    """A site that the query lacks, or has with other alleles, is one where nobody has a call."""
    gone = {k for k, s in enumerate(kit.sites) if k % 10 == 3}
    lack = kit.query([s for k, s in enumerate(kit.sites) if k not in gone])
    uncalled = kit.query(changed(kit.sites, lambda k, s: k in gone, lambda s: s[:4] + [{p: "./." for p in kit.people}]))
    clash = kit.query(changed(kit.sites, lambda k, s: k in gone, lambda s: s[:3] + ["ACGT"[("ACGT".index(s[3]) + 1) % 4]] + s[4:]))
    results = [kit.ask(q) for q in (lack, uncalled, clash)]
    first, *rest = [windows_of(out) for out, _ in results]
    assert first != kit.expected and all(r == first for r in rest)
    carried = {p: [] for p in kit.people}
    for k, s in enumerate(kit.sites):
        for p in kit.people:
            if "1" in s[4][p] and k not in gone:
                carried[p].append((s[0], s[1], 0 if k < 100 else 1 if k < 200 else 2))
    expected = set()
    for p, own in carried.items():
        for b in range(3):
            here = [s for s in own if s[2] == b]
            expected |= {(p, here[i][0], str(here[i][1]), str(here[i + N - 1][1])) for i in range(0, len(here) - N + 1, N)}
    assert {tuple(dict(r)[k] for k in ("sample", "chrom", "start", "end")) for r in first} == expected
    documents = [json.load(open(os.path.join(out, "predict.json"))) for out, _ in results]
    n = sum((s[0], s[1]) in kit.known for k, s in enumerate(kit.sites) if k in gone)
    assert documents[0]["sites"]["absent"] == documents[2]["sites"]["absent"] == documents[2]["sites"]["other_alleles"] == n
    assert documents[1]["sites"]["absent"] == 0 and documents[1]["calls"]["missing"] > documents[0]["calls"]["missing"]
    assert all("overlap" not in done.stderr and "warning" not in done.stderr for _, done in results)
    # fewer: a warning, then a refusal unless forced; none: always a refusal
    _, done = kit.ask(kit.query(kit.sites[:150] + kit.sites[250:]))
    assert "warning" in done.stderr and "predictions rest on fewer sites" in done.stderr
    few = kit.query([s for k, s in enumerate(kit.sites) if k % 3 == 0])
    _, done = kit.ask(few, code=3)
    assert "50 % is the least" in done.stderr and "--force" in done.stderr
    kit.ask(few, "--force")
    for launcher in ((), MPIRUN):
        _, done = kit.ask(kit.query([[s[0], s[1] + 7, *s[2:]] for s in kit.sites]), "--force", code=3, launcher=launcher)
        assert "none of its" in done.stderr
    # a chromosome alone is whole; what is left out because nobody of the file varies there is reference
    document = json.load(open(os.path.join(kit.ask(kit.query(kit.sites[200:]))[0], "predict.json")))
    assert document["overlap"] == 1 and document["sites"]["model_on_other_chromosomes"] > 100
    own = kit.people[:1]
    varied = [s for s in kit.sites if "1" in s[4][own[0]] or "." in s[4][own[0]]]
    out, done = kit.ask(text_of(varied, own), "--missing-to-ref")
    assert windows_of(out) == [r for r in kit.expected if dict(r)["sample"] == own[0]]
    assert json.load(open(os.path.join(out, "predict.json")))["absent_sites_taken_as"] == "reference" and "taken as reference" in done.stdout


def check_few_sites(kit):
    """Who has no whole window is judged on shorter ones; who has next to nothing has no prediction."""
    a, b, c, d = kit.people[:4]

    def calls(s, k):
        return {a: s[4][a], b: s[4][b] if 20 <= k < 60 else "0|0", c: "0|0", d: s[4][d] if 20 <= k < 60 or k >= 200 else "0|0"}

    query = text_of([s[:4] + [calls(s, k)] for k, s in enumerate(kit.sites)], [a, b, c, d])
    out, done = kit.ask(query)
    people, rows = people_of(out), windows_of(out)
    # d has a block that is too short for a window beside one that is not: left out, as evaluate leaves it out
    assert [r for r in rows if dict(r)["sample"] == d] == [r for r in kit.expected if dict(r)["sample"] == d and dict(r)["chrom"] == "2"] != []
    assert [r for r in rows if dict(r)["sample"] == a] == [r for r in kit.expected if dict(r)["sample"] == a]
    short = [dict(r) for r in rows if dict(r)["sample"] == b]
    n = sum("1" in s[4][b] for k, s in enumerate(kit.sites) if 20 <= k < 60)
    assert N // 4 <= n < N and [r["n_snps"] for r in short] == [str(n)] and people[b]["predicted"] == short[0]["predicted"]
    assert people[c]["predicted"] == "NA" and people[c]["n_windows"] == "0" and people[c]["p_AFR"] == "NA"
    document = json.load(open(os.path.join(out, "predict.json")))
    assert (document["people_short_windows"], document["people_without_windows"], document["short_windows"]) == (1, 1, 1)
    assert done.stderr.count("warning") == 2
    out, _ = kit.ask(query, launcher=MPIRUN)
    assert windows_of(out) == rows
    _, done = kit.ask(text_of([s[:4] + [{}] for s in kit.sites], [c]), code=3)
    assert "nobody carries" in done.stderr


def check_refusals(kit):
    build38 = kit.query().replace("249250621", "248956422").replace("243199373", "242193529")
    for content, words in ((build38, "GRCh38"), (kit.query([[s[0], s[1] + 249250000, *s[2:]] for s in kit.sites]).replace(",length=249250621", ""), "behind the end"),
                           ("", "empty"), (kit.query([]), "no record"), (">x\nACGT\n", "FASTA")):
        _, done = kit.ask(content, "--force", code=3)
        assert words in done.stderr, done.stderr
    whole = bgzf(kit.query())
    for cut in (whole[:-len(END_BLOCK)], whole[:len(whole) // 2]):
        kit.ask(cut, code=3, name="cut.vcf.gz")
    _, done = kit.ask(kit.query().replace(",length=249250621", "").replace(",length=243199373", ""))
    assert done.stderr.count("warning") == 1 and "GRCh37" in done.stderr
    kit.put("other.vcf", text_of(kit.sites[200:], ["somebody"]))
    _, done = kit.ask(kit.query(kit.sites[:200]), "other.vcf", code=3)
    assert "same people" in done.stderr
    for arguments, code, words in ((("predict", "run", "all.vcf"), 2, "-o"), (("predict", "run", "-o", "x"), 2, "names"), (("predict", "run", "all.vcf", "-o", "run"), 2, "--force"),
                                   (("predict", "run", "all.vcf", "-o", "x", "--context", "1"), 2, "--context"), (("predict", "nobody", "all.vcf", "-o", "x"), 3, "nobody"),
                                   (("predict", "run", "nothing.vcf", "-o", "x"), 3, "nothing.vcf"), (("predict", "run", "all.vcf", "-o", "no/folder"), 2, "no/folder")):
        done = crocuta(*arguments, cwd=kit.folder, code=code)
        assert words in done.stderr and done.stderr.count("crocuta: error: ") == 1 and not os.path.exists(os.path.join(kit.folder, "x"))
    crocuta("pretrain", "c.yaml", "-o", "language", cwd=kit.folder)
    _, done = kit.ask(kit.query(), model="language", code=3)
    assert "finetune" in done.stderr


def check_haplotypes(kit):
    """A model of haplotypes: phased people as evaluate judges them, each twice; unphased ones are refused and named."""
    kit.put("h.yaml", kit.config.replace("seq_len: 32", "seq_len: 16, alleles: haplotype"))
    crocuta("finetune", "h.yaml", "--from", "none", "-o", "haplotypes", cwd=kit.folder)
    crocuta("evaluate", "haplotypes", "data.h5", "-o", "judged-h", "--context", 16, "--baselines", "majority", cwd=kit.folder)
    expected = windows_of(os.path.join(kit.folder, "judged-h"), "label", "method")
    assert {dict(r)["hap"] for r in expected} == {"1", "2"}
    for sites in (kit.sites, changed(kit.sites, lambda k, s: k in (60, 61, 260), swapped)):
        assert windows_of(kit.ask(kit.query(sites), model="haplotypes")[0]) == expected
    line = next(s for s in kit.sites if s[4][kit.people[3]] == "0|1")
    loose = changed(kit.sites, lambda k, s: s is line, lambda s: s[:4] + [dict(s[4], **{kit.people[3]: "0/1"})])
    _, done = kit.ask(kit.query(loose), model="haplotypes", code=3)
    assert kit.people[3] in done.stderr and "unphased" in done.stderr
    # a union's window that is judged by its two haplotypes: needs phase as well
    kit.put("b.yaml", kit.config.replace("seq_len: 32", "seq_len: 16, alleles: both"))
    crocuta("finetune", "b.yaml", "--from", "none", "-o", "both", cwd=kit.folder)
    crocuta("evaluate", "both", "data.h5", "-o", "judged-b", "--context", 16, "--baselines", "majority", cwd=kit.folder)
    assert windows_of(kit.ask(kit.query(), model="both")[0]) == windows_of(os.path.join(kit.folder, "judged-b"), "label", "method")
    _, done = kit.ask(kit.query(loose), model="both", code=3)
    assert kit.people[3] in done.stderr and "unphased" in done.stderr


def safetensors_without(path, to, prefix):
    with open(path, "rb") as f:
        data = f.read()
    n = struct.unpack("<Q", data[:8])[0]
    header, body = json.loads(data[8:8 + n]), data[8 + n:]
    kept, at, out = {"__metadata__": {k: v for k, v in header["__metadata__"].items() if k != "crocuta_sites"}}, 0, b""
    for name, t in sorted(((k, v) for k, v in header.items() if k != "__metadata__"), key=lambda x: x[1]["data_offsets"]):
        if name.startswith(prefix):
            continue
        part = body[slice(*t["data_offsets"])]
        kept[name] = dict(t, data_offsets=[at, at + len(part)])
        at, out = at + len(part), out + part
    text = json.dumps(kept).encode()
    with open(to, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + out)


def check_models(kit):
    """A checkpoint, an export, and both without a table of sites, as older versions wrote them."""
    folder = os.path.join(kit.folder, "run", "checkpoints")
    step = next(f for f in os.listdir(folder) if f.endswith(".h5"))
    kit.same(kit.query(), model=os.path.join("run", "checkpoints", step))
    crocuta("checkpoint", "export", "run", "-o", "m.safetensors", cwd=kit.folder)
    shown = json.loads(crocuta("checkpoint", "show", "m.safetensors", "--json", cwd=kit.folder).stdout)
    assert {(t["name"], t["dtype"], t["shape"][0]) for t in shown["tensors"] if t["name"].startswith("sites.")} == {("sites.position", "I32", len(kit.known)), ("sites.alleles", "U8", len(kit.known))}
    os.rename(os.path.join(kit.folder, "data.h5"), os.path.join(kit.folder, "moved.h5"))
    kit.same(kit.query(), model="m.safetensors")
    kit.same(kit.query())
    safetensors_without(os.path.join(kit.folder, "m.safetensors"), os.path.join(kit.folder, "old.safetensors"), "sites.")
    _, done = kit.ask(kit.query(), model="old.safetensors", code=3)
    assert "export it again" in done.stderr
    # the manifest without the two tensors, sealed again
    shutil.copytree(os.path.join(kit.folder, "run"), os.path.join(kit.folder, "old"))
    for name in os.listdir(os.path.join(kit.folder, "old", "checkpoints")):
        if not name.endswith(".json"):
            continue
        path = os.path.join(kit.folder, "old", "checkpoints", name)
        with open(path) as f:
            manifest = json.load(f)
        del manifest["seal"]
        manifest["tensors"] = [t for t in manifest["tensors"] if not t["name"].startswith("sites/")]
        manifest["seal"] = zlib.crc32(json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())
        with open(path, "w") as f:
            json.dump(manifest, f)
    _, done = kit.ask(kit.query(), model="old", code=3)
    assert "carries no table of its sites" in done.stderr
    os.rename(os.path.join(kit.folder, "moved.h5"), os.path.join(kit.folder, "data.h5"))
    kit.same(kit.query(), model="old")
    kit.same(kit.query(), model="old", launcher=MPIRUN)


for head, config in (("pooled", CONFIG), ("class-conditional", SITE_HEAD)):
    with tempfile.TemporaryDirectory(prefix="crocuta-predict-") as where:
        the_kit = Kit(where, config)
        for check in (check_same, check_spelling, check_swapped, check_extra, check_missing, check_few_sites, check_haplotypes, check_refusals, check_models):
            check(the_kit)
            print(f"{head}, {check.__name__}: as it should be", flush=True)
