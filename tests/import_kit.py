# What the tests of `crocuta import` share: small VCF texts, and what must come of them. Each check runs in a folder
# of its own, alone or under several ranks; a refusal is one line, the right exit code, and nothing new on disk.
import gzip, json, os, re, shutil, subprocess, sys, tempfile

crocuta = os.environ["CROCUTA"]
mpirun = ["mpirun", "-q", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n"]
shape = re.compile(r"^crocuta: error: \S.*?: .+; .+$")
CONTIG = "##contig=<ID=chr21,length=46709983>"
PEOPLE = ["s1", "s2", "s3", "s4"]
TABLE = "sample\tpopulation\tsuperpopulation\tsex\ns1\tPA\tAFR\tmale\ns2\tPA\tAFR\tfemale\ns3\tPB\tEUR\tmale\ns4\tPB\tEUR\tfemale\n"
faults = []
checks = 0


def header(people=PEOPLE, contigs=(CONTIG,), first="##fileformat=VCFv4.2", extra=()):
    lines = [first, *contigs, *extra] if first else [*contigs, *extra]
    return lines + ["\t".join("#CHROM POS ID REF ALT QUAL FILTER INFO FORMAT".split() + list(people))]


def record(pos, alleles, calls, chrom="chr21", fmt="GT"):
    ref, alt = alleles.split(">", 1)
    return "\t".join([chrom, str(pos), ".", ref, alt, ".", "PASS", ".", fmt] + (calls.split() if isinstance(calls, str) else calls))


def text(*lines, end="\n"):
    flat = []
    for l in lines:
        flat += [l] if isinstance(l, str) else l
    return end.join(flat) + end


def vcf(*records, **k):
    return text(header(**k), *records)


def bgzf(data, ending=True):
    """blocks as bgzip makes them, from Python's own deflate"""
    import struct, zlib
    data = data.encode() if isinstance(data, str) else data
    out = b""
    for i in range(0, len(data), 1000):
        part, z = data[i:i + 1000], zlib.compressobj(6, zlib.DEFLATED, -15)
        body = z.compress(part) + z.flush()
        out += b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0" + struct.pack("<H", len(body) + 25) + body + struct.pack("<II", zlib.crc32(part), len(part))
    return out + (END_BLOCK if ending else b"")


END_BLOCK = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def write(folder, files):
    for name, content in files.items():
        with open(os.path.join(folder, name), "wb") as f:
            f.write(content.encode() if isinstance(content, str) else content)


def run(folder, args, ranks=0):
    r = subprocess.run((mpirun + [str(ranks)] if ranks else []) + [crocuta, *args], cwd=folder, capture_output=True, timeout=120)
    r.out, r.err = r.stdout.decode("utf-8", "replace"), r.stderr.decode("utf-8", "replace")
    return r


def setting(files, table):
    folder = tempfile.mkdtemp(prefix="crocuta-import-")
    write(folder, files)
    if table is not None:
        write(folder, {"samples.tsv": table})
    return folder


def arguments(files, table, more):
    names = [n for n in files if not n.endswith((".txt", ".bed", ".fa"))]
    return ["import", "-q", "-o", "out.h5"] + (["-m", "samples.tsv"] if table is not None else []) + list(more) + names


def note(name, ok, what):
    if not ok:
        faults.append(f"{name}: {what}")
        print(f"FAULT {name}: {what}", flush=True)


def as_files(files):
    return files if isinstance(files, dict) else {"in.vcf": files}


def refuse(name, files, *says, code=3, table=TABLE, more=(), ranks=(0,)):
    global checks
    files = as_files(files)
    for n in ranks:
        checks += 1
        folder = setting(files, table)
        before = sorted(os.listdir(folder))
        r = run(folder, arguments(files, table, more), n)
        lines = [l for l in r.err.split("\n") if l and not l.startswith("crocuta: warning: ")]
        note(name, r.returncode == code, f"exit {r.returncode}, not {code}: {r.err!r}")
        note(name, len(lines) == 1 and shape.match(lines[0]) and not r.out, f"not one line: {r.err!r} {r.out!r}")
        for s in says:
            note(name, re.search(s, lines[0] if lines else ""), f"does not say /{s}/: {r.err!r}")
        note(name, sorted(os.listdir(folder)) == before, f"left {sorted(os.listdir(folder))}")
        shutil.rmtree(folder)


def accept(name, files, carried=None, sites=None, counts=None, warns=(), people=None, assembly=None, chromosomes=None,
           table=TABLE, more=(), ranks=(0,), missing=None):
    """carried: {person: "union hap1 hap2 unphased"}; people: {person: {key: value}}; returns data info of the last run"""
    global checks
    files, info = as_files(files), None
    for n in ranks:
        checks += 1
        folder = setting(files, table)
        inputs = {f: open(os.path.join(folder, f), "rb").read() for f in os.listdir(folder)}
        r = run(folder, arguments(files, table, more), n)
        note(name, r.returncode == 0, f"exit {r.returncode}: {r.err!r}")
        if r.returncode == 0:
            report = json.load(open(os.path.join(folder, "out.import.json")))
            info = json.loads(run(folder, ["data", "info", "out.h5", "--json"]).out)
            note(name, set(os.listdir(folder)) == set(inputs) | {"out.h5", "out.import.json"}, f"left {os.listdir(folder)}")
            note(name, all(open(os.path.join(folder, f), "rb").read() == b for f, b in inputs.items()), "inputs changed")
            compare(name, r.err, report, info, carried, sites, counts, people, assembly, chromosomes)
            said = [l for l in r.err.split("\n") if l]
            for w in warns:
                note(name, sum(l.startswith("crocuta: warning: ") and bool(re.search(w, l)) for l in said) == 1, f"not one warning of /{w}/: {said}")
            verify = run(folder, ["data", "verify", "out.h5"])
            note(name, verify.returncode == 0, f"verify: {verify.err!r}")
        shutil.rmtree(folder)
    return info


def compare(name, err, report, info, carried, sites, counts, people, assembly, chromosomes):
    have = {p["id"]: " ".join(str(p[k]) for k in ("union", "hap1", "hap2", "unphased")) for p in info["per_person"]}
    note(name, carried is None or have == carried, f"carried {have}, must be {carried}")
    note(name, sites is None or info["sites"] == sites, f"{info['sites']} sites, must be {sites}")
    note(name, info["sites"] == report["sites"]["kept"], f"kept {report['sites']['kept']}")
    for k, v in (counts or {}).items():
        note(name, report["sites"][k] == v, f"{k} {report['sites'][k]}, must be {v}")
    who = {p["id"]: p for p in info["people"]}
    for p, wants in (people or {}).items():
        for k, v in wants.items():
            note(name, p in who and who[p][k] == v, f"{p}: {who.get(p)}, {k} must be {v}")
    note(name, assembly is None or info["assembly"] == assembly == report["assembly"], f"assembly {info['assembly']}, must be {assembly}")
    note(name, chromosomes is None or [c["name"] for c in info["chromosomes"]] == chromosomes, f"chromosomes {info['chromosomes']}")
    note(name, sum(report["people"].values()) == len(who), "people of the report")


def finish():
    print(f"{checks} checks, {len(faults)} faults")
    sys.exit(len(faults) > 0)
