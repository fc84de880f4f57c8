# FASTA as people bring it: every letter, name, split and label arrives in the set, comes back by export, and what is no
# FASTA is refused with its line. The set is the same for 1 and 3 ranks.
# labels: mpi
import gzip, os, random, sys
sys.path.insert(0, os.path.join(os.environ["CROCUTA_SOURCE"], "tests"))
import import_kit as kit
from import_kit import *

random.seed(1)


def letters(n, of="ACGT"):
    return "".join(random.choice(of) for _ in range(n))


def lines(s, n=60, end="\n"):
    return "".join(s[i:i + n] + end for i in range(0, len(s), n))


def parse(text):
    out = {}
    for line in text.splitlines():
        if line.startswith(">"):
            at = line[1:]
            out[at] = ""
        else:
            out[at] += line
    return out


def counts(s):
    up = s.upper()
    n = {k: up.count(k.upper()) for k in "acgtn"}
    return {**n, "length": len(s), "other": len(s) - sum(n.values()), "masked": sum(c.islower() for c in s)}


def take(name, files, wants, table=None, more=(), ranks=(0,), warns=(), splits=None):
    """wants: {header: letters}; splits: {name: (label, split)}"""
    same = None
    for n in ranks:
        kit.checks += 1
        folder = setting(files, table)
        r = run(folder, ["import", "-q", "-o", "out.h5"] + (["-m", "samples.tsv"] if table is not None else []) + list(more) + list(files), n)
        note(name, r.returncode == 0, f"exit {r.returncode}: {r.err!r}")
        if r.returncode:
            continue
        for w in warns:
            note(name, sum(bool(re.search(w, l)) for l in r.err.split("\n")) == 1, f"not one warning of /{w}/: {r.err!r}")
        note(name, warns or not r.err, f"said {r.err!r}")
        info = json.loads(run(folder, ["data", "info", "out.h5", "--json"]).out)
        have = {s["name"]: s for s in info["sequences"]}
        note(name, [s["name"] for s in info["sequences"]] == [h.split()[0] for h in wants], f"names {list(have)}")
        for h, s in wants.items():
            got = have.get(h.split()[0], {})
            for k, v in counts(s).items():
                note(name, got.get(k) == v, f"{h}: {k} {got.get(k)}, must be {v}")
        for who, (label, split) in (splits or {}).items():
            note(name, (have[who]["label"], have[who]["split"]) == (label, split), f"{who}: {have[who]}")
        note(name, same is None or (info["sequences"], info["split_hash"]) == same, "ranks differ")
        same = info["sequences"], info["split_hash"]
        v = run(folder, ["data", "verify", "out.h5"], n)
        note(name, v.returncode == 0, f"verify: {v.err!r}")
        for out in ["back.fa.gz" if name == "bgzip" else "back.fa"] * (n == 0):
            run(folder, ["data", "export", "out.h5", "-o", out])
            raw = open(os.path.join(folder, out), "rb").read()
            back = parse((gzip.decompress(raw) if out.endswith("gz") else raw).decode())
            note(name, back == wants, f"export {out}: {str(back)[:200]}")
        report = json.load(open(os.path.join(folder, "out.import.json")))
        bases = sum(map(len, wants.values()))
        note(name, sum(report["bases"].values()) == bases and report["letters"]["masked"] == sum(counts(s)["masked"] for s in wants.values()), f"report {report}")
        if bases > 200000:
            note(name, report["bytes_per_base"] <= 0.5, f"{report['bytes_per_base']} bytes a base")
        info.pop("path")
        shutil.rmtree(folder)
    return info


big = {"chr1 one  of two": letters(2 * 2**20 + 12345), "chr2": "N" * 1000 + letters(2 * 2**20 + 7, "ACGTacgtN") + "NNN", "s": "RYKMswbdhvNnA", "odd": "a"}
fasta = "".join(f">{h}\n{lines(s)}" for h, s in big.items())
take("plain", {"in.fa": fasta}, big, ranks=(0, 3))
take("gzip", {"in.fa.gz": gzip.compress(fasta.encode())}, big)
few = {k: v[:5000] for k, v in big.items()}
fasta = "".join(f">{h}\n{lines(s)}" for h, s in few.items())
take("bgzip", {"in.fa.gz": bgzf(fasta)}, few, ranks=(0, 2))
take("windows line ends", {"in.fa": fasta.replace("\n", "\r\n")}, few)
take("no last line end", {"in.fa": fasta[:-1]}, few)
take("a mark at the start", {"in.fa": b"\xef\xbb\xbf" + fasta.encode()}, few)
take("one line a sequence", {"in.fa": "".join(f">{h}\n{s}\n" for h, s in few.items())}, few)
take("ragged lines, blanks, remarks", {"in.fa": ";by hand\n\n>x\nACGT\n\nAC GT AC\tGT\n; here\nA\n>y\nC\n\n"}, {"x": "ACGTACGTACGTA", "y": "C"})
take("empty sequences", {"in.fa": ">a\n>b\nACG\n>c\n"}, {"a": "", "b": "ACG", "c": ""}, warns=[r"2 sequences without a base.*\(a, c\)"])
take("two files", {"a.fa": ">a\nACG\n", "b.fa": ">b\nTT\n"}, {"a": "ACG", "b": "TT"})
take("without a table all train", {"in.fa": ">a\nACG\n>b\nTT\n"}, {"a": "ACG", "b": "TT"}, splits={"a": (None, "train"), "b": (None, "train")})

species = {f"{s}{k}": letters(50) for k in range(10) for s in ("cow", "dog")}
two = "".join(f">{h} of a locus\n{s}\n" for h, s in species.items())
wants = {h + " of a locus": s for h, s in species.items()}
table = "".join(f"{h}\t{h[:3]}\t{'train' if int(h[3:]) < 7 else 'valid' if int(h[3:]) < 8 else 'test'}\n" for h in species)
meant = {h: (h[:3], "train" if int(h[3:]) < 7 else "valid" if int(h[3:]) < 8 else "test") for h in species}
take("a table", {"in.fa": two}, wants, table=table, splits=meant, ranks=(0, 3))
take("a table with a header, other order", {"in.fa": two}, wants, splits=meant,
     table="split\tsequence\tlabel\n" + "".join("\t".join((r.split("\t")[2], *r.split("\t")[:2])) + "\n" for r in table.splitlines()))
take("whole headers in the table", {"in.fa": two}, wants, splits=meant, table="".join(l.replace("\t", " of a locus\t", 1) + "\n" for l in table.splitlines()))
info = take("loci stay together", {"in.fa": two}, wants, table="sequence\tlabel\tlocus\n" + "".join(f"{h}\t{h[:3]}\t{h[3:]}\n" for h in species), ranks=(0, 2))
side = {s["name"]: s["split"] for s in info["sequences"]}
note("loci stay together", all(side[f"cow{k}"] == side[f"dog{k}"] for k in range(10)) and len(set(side.values())) == 3, f"{side}")
info = take("dealt by sequence", {"in.fa": two}, wants, table="".join(f"{h}\t{h[:3]}\n" for h in species))
side = [s["split"] for s in info["sequences"]]
note("dealt by sequence", [side.count(k) for k in ("train", "valid", "test")] == [14, 2, 4], f"{side}")
take("some not in the table, some not in the file", {"in.fa": two}, {h: s for h, s in wants.items() if h.startswith("cow")},
     table="".join(l + "\n" for l in table.splitlines() if l.startswith("cow")) + "eel1\teel\ttrain\n", warns=[r"10 sequences not in the table", r"1 sequence of the table.*eel1"])

long = letters(3 * 2**20 + 5, "ACGTNacgt")
three = {"a|b|1": long, "x:1-9": "ACGTACGTAC", "y": letters(50), "z": letters(7)}
wants = {"a|b|1:1-7 of it": long[:7], "a|b|1:8-2100000 of it": long[7:2100000], "a|b|1:2100002-3145733 of it": long[2100001:], "x:1-9 of it": "ACGTACGTAC", "y:50-50 of it": three["y"][49]}
take("parts of sequences", {"in.fa": "".join(f">{h} of it\n{lines(s)}" for h, s in three.items())}, wants, ranks=(0, 3), warns=[r"1 sequence not in the table.*\(z\)", r"1 sequence of the table.*\(z:0-3\)"],
     table="a|b|1:8-2100000\tA\tvalid\nx:1-9\tX\ttest\na|b|1:2100002-3145733\tB\ttrain\na|b|1:1-7\tA\ttrain\ny:50-50\tX\ttrain\nz:0-3\tX\ttrain\n",
     splits={"a|b|1:1-7": ("A", "train"), "a|b|1:8-2100000": ("A", "valid"), "a|b|1:2100002-3145733": ("B", "train"), "x:1-9": ("X", "test"), "y:50-50": ("X", "train")})

SEQ = "x\tA\ttrain\n"
refuse("parts that overlap", {"q.fasta": ">x\nACGTACGT\n"}, r"samples\.tsv:2\b", "x:5-7", "line 1", table="x:1-5\tA\ttrain\nx:5-7\tA\tvalid\n", ranks=(0, 3))
refuse("a part of what is taken whole", {"q.fasta": ">x\nACGTACGT\n"}, r"samples\.tsv:2\b", "overlaps", table=SEQ + "x:5-7\tA\tvalid\n")
refuse("behind the end", {"q.fasta": ">x\nACGTACGT\n>y\nA\n"}, r"samples\.tsv:2\b", "ends with base 8", table="x:1-5\tA\ttrain\nx:6-9\tA\tvalid\n")
refuse("behind the end of the last", {"q.fasta": ">x\nACGTACGT\n"}, r"samples\.tsv:1\b", "ends with base 8", table="x:11-12\tA\ttrain\n")
refuse("name twice", {"in.fasta": ">x 1\nA\n>y\nC\n>x 2\nA\n"}, r"in\.fasta:5\b", "x", table=None, ranks=(0, 3))
refuse("name twice, two files", {"a.fasta": ">x 1\nA\n", "b.fasta": ">x 2\nA\n"}, r"b\.fasta:1\b", r"a\.fasta line 1\b", table=None)
refuse("FASTQ", {"in.vcf": "@r\nACGT\n+\nIIII\n"}, r"in\.vcf", table=None)
refuse("protein", {"q.fasta": ">p\nMKVLE\n"}, r"q\.fasta:2\b", "protein", table=None)
refuse("an alignment", {"q.fasta": ">p\nAC--GT\n"}, r"q\.fasta:2\b", "gap", table=None)
refuse("a byte", {"q.fasta": b">p\nAC\xff\n"}, r"q\.fasta:2\b", table=None)
refuse("no name", {"q.fasta": ">p\nAC\n> x\nA\n"}, r"q\.fasta:3\b", table=None)
refuse("letters first", {"q.fasta": ";x\nACGT\n>p\nAC\n"}, r"q\.fasta:2\b", table=None)
refuse("no bases", {"q.fasta": ">p\n>q\n\n"}, r"q\.fasta", table=None)
refuse("no end block", {"q.fasta": bgzf(">p\nAC\n", False)}, r"q\.fasta", "end block", table=None)
refuse("cut", {"q.fasta": gzip.compress((">p\n" + letters(5000)).encode())[:700]}, r"q\.fasta", table=None)
refuse("nobody in common", {"q.fasta": ">p\nAC\n"}, r"samples\.tsv", table=SEQ)
refuse("no such split", {"q.fasta": ">x\nAC\n"}, r"samples\.tsv:1\b", "learn", table="x\tA\tlearn\n")
refuse("twice in the table", {"q.fasta": ">x\nAC\n"}, r"samples\.tsv:2\b", table=SEQ + SEQ)
refuse("a short row", {"q.fasta": ">x\nAC\n"}, r"samples\.tsv:2\b", table=SEQ + "y\tA\n")
refuse("genotypes and FASTA", {"in.vcf": vcf(record(5, "T>A", "0|1 0|0 0|0 0|0")), "q.fasta": ">x\nAC\n"}, r"q\.fasta", table=None)
refuse("an option of genotypes", {"q.fasta": ">x\nAC\n"}, "--min-maf", code=2, table=None, more=["--min-maf", "0.1"])

kit.checks += 1
folder = setting({"q.fasta": ">a\n" + letters(300) + "\n"}, None)
same = open(os.path.join(folder, "q.fasta")).read().split("\n")[1]
write(folder, {"two.fa": f">a\n{same}\n>b\n{same.lower()}\n", "t.tsv": "a\tA\ttrain\nb\tA\ttest\n"})
run(folder, ["import", "-q", "-m", "t.tsv", "-o", "o.h5", "two.fa"])
r = run(folder, ["data", "verify", "o.h5"])
note("one sequence on two sides", r.returncode == 3 and "a and b" in r.err, f"{r.returncode} {r.err!r}")
raw = bytearray(open(os.path.join(folder, "o.h5"), "rb").read())
raw[len(raw) // 2] ^= 4
open(os.path.join(folder, "o.h5"), "wb").write(raw)
r = run(folder, ["data", "info", "o.h5"])
note("a bit", r.returncode == 3 and "damaged" in r.err, f"{r.returncode} {r.err!r}")
shutil.rmtree(folder)

finish()
