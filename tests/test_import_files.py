# Files and people: containers, several files, chromosomes, assemblies, names, splits, regions.
# labels: mpi
import os, sys
sys.path.insert(0, os.path.join(os.environ["CROCUTA_SOURCE"], "tests"))
from import_kit import *

A = record(5030100, "A>G", "0|1 1|0 1|1 0|0")
B = record(5030200, "C>T", "1|0 0|0 0|1 0|0")
BASE = {"s1": "1 0 1 0", "s2": "1 1 0 0", "s3": "1 1 1 0", "s4": "0 0 0 0"}
BOTH = {"s1": "2 1 1 0", "s2": "1 1 0 0", "s3": "2 1 2 0", "s4": "0 0 0 0"}
LONG = vcf(*[record(5030100 + i, "A>G", "0|1 1|0 0|0 0|0") for i in range(300)])
EACH = {"s1": "300 0 300 0", "s2": "300 300 0 0", "s3": "0 0 0 0", "s4": "0 0 0 0"}

# containers: the content says what a file is
accept("bgzip", {"in.vcf": bgzf(LONG)}, EACH, 300, ranks=(0, 3))
accept("gzip", {"in.bcf": gzip.compress(LONG.encode())}, EACH, 300)
accept("two gzip members", {"in.gz": gzip.compress(LONG[:5000].encode()) + gzip.compress(LONG[5000:].encode())}, EACH, 300)
accept("an empty block in the middle", {"in.vcf.gz": bgzf(LONG[:3000], True) + bgzf(LONG[3000:])}, EACH, 300)
refuse("no end block", {"in.vcf.gz": bgzf(LONG, False)}, r"in\.vcf\.gz", "end block", ranks=(0, 3))
refuse("cut behind an empty block", {"in.vcf.gz": bgzf(LONG[:3000], True)}, r"in\.vcf\.gz:\d+")
refuse("cut in a block", {"in.vcf.gz": bgzf(LONG)[:-60]}, r"in\.vcf\.gz", "cut")
refuse("cut gzip", {"in.vcf.gz": gzip.compress(LONG.encode())[:-9]}, r"in\.vcf\.gz", "cut")
refuse("gzip without its sum", {"in.vcf.gz": gzip.compress(LONG.encode())[:-8]}, r"in\.vcf\.gz", "cut")
flipped = bytearray(bgzf(LONG))
flipped[len(flipped) - 40] ^= 1  # in the last block's checksum
refuse("a bit of a checksum", {"in.vcf.gz": bytes(flipped)}, r"in\.vcf\.gz", "damaged")
refuse("bytes behind the end", {"in.vcf.gz": bgzf(LONG) + b"more"}, r"in\.vcf\.gz")
refuse("zeros behind the end", {"in.vcf.gz": bgzf(LONG) + bytes(100)}, r"in\.vcf\.gz")
refuse("two files in one", {"in.vcf.gz": bgzf(LONG) + bgzf(LONG)}, r"in\.vcf\.gz:304\b", "second header")
refuse("compressed twice", {"in.vcf.gz": gzip.compress(bgzf(LONG))}, r"in\.vcf\.gz", "twice")
accept("a foreign index beside", {"in.vcf.gz": bgzf(LONG), "in.vcf.gz.tbi.txt": b"TBI\1 of another file"}, EACH, 300)

# nothing there, and other things
for name, content in {"no bytes": b"", "compressed nothing": gzip.compress(b""), "an end block": END_BLOCK, "a header alone": vcf(), "blank lines": b"\n\n",
                      "a page": b"<!DOCTYPE html>\n<html></html>\n", "BAM": gzip.compress(b"BAM\1rest"), "FASTQ": b"@r\nACGT\n+\nIIII\n", "noise": bytes(range(256)),
                      "no header": text(A), "a table": b"sample\tlabel\ns1\tAFR\n", "a header without people's line": b"##fileformat=VCFv4.2\n"}.items():
    refuse(name, {"in.vcf": content}, r"in\.vcf")
refuse("FASTA", {"in.vcf": b">chr21\nACGT\n"}, r"samples\.tsv:1\b", "table of people")
refuse("no file", {"in.vcf": vcf(A)}, r"none\.vcf", "No such file", more=["none.vcf"], ranks=(0, 3))
refuse("a folder", {"in.vcf": vcf(A)}, r"\.: is a folder", more=["."])
accept("one empty among full ones", {"a.vcf": vcf(A), "b.vcf": b"", }, BASE, 1, warns=[r"b\.vcf.*no record"])
accept("one header among full ones", {"a.vcf": vcf(people=["x"]), "b.vcf": vcf(A)}, BASE, 1, warns=[r"a\.vcf.*no record"])
refuse("all empty", {"a.vcf": vcf(), "b.vcf": b""}, r"a\.vcf")

# several files
C22 = (CONTIG, "##contig=<ID=chr22,length=50818468>")
accept("columns in another order", {"a.vcf": vcf(A), "b.vcf": vcf(record(16050100, "A>G", "0|1 0|0 1|1 0|0", "chr22"), people=["s4", "s3", "s2", "s1"], contigs=C22)},
       {"s1": "1 0 1 0", "s2": "2 2 1 0", "s3": "1 1 1 0", "s4": "1 0 1 0"}, 2, ranks=(0, 3))
accept("parts in any order", {"a.vcf": vcf(B), "b.vcf": vcf(A)}, BOTH, 2)
accept("parts that alternate", {"a.vcf": vcf(A, record(5030300, "C>A", "0|0 0|0 0|0 1|1")), "b.vcf": vcf(B)}, {**BOTH, "s4": "1 1 1 0"}, 3, ranks=(0, 3))
accept("equal sites taken once", {"a.vcf": vcf(A, B), "b.vcf": vcf(B)}, BOTH, 2, {"duplicates": 1}, warns=[r"a\.vcf|b\.vcf"])
refuse("unequal sites", {"a.vcf": vcf(A, B), "b.vcf": vcf(record(5030200, "C>T", "1|0 0|1 0|1 0|0"))}, r"a\.vcf", r"b\.vcf", "5030200", ranks=(0, 3))
refuse("other alleles", {"a.vcf": vcf(A), "b.vcf": vcf(A.replace("A\tG", "A\tC"))}, r"a\.vcf", r"b\.vcf")
refuse("another reference", {"a.vcf": vcf(A), "b.vcf": vcf(A.replace("A\tG", "C\tG"), people=["s5", "s6", "s7", "s8"])}, r"a\.vcf", r"b\.vcf", "REF", table=None)
refuse("one file twice", {"a.vcf": vcf(A)}, r"a\.vcf.*twice", more=["a.vcf"])
refuse("a person whom one file lacks", {"a.vcf": vcf(A), "b.vcf": vcf(record(16050100, "A>G", "0|1 0|0 1|1", "chr22"), people=PEOPLE[:3], contigs=C22)}, r"b\.vcf", "s4")
accept("a person whom nobody wants", {"a.vcf": vcf(A), "b.vcf": vcf(record(16050100, "A>G", "0|1 0|0 1|1", "chr22"), people=PEOPLE[:3], contigs=C22)}, sites=2, more=["-s", "^s4"])
half = {"a.vcf": vcf(record(5030100, "A>G", "0|1 1|0"), record(5030200, "C>.", "0|0 ./."), people=PEOPLE[:2]),
        "b.vcf": vcf(record(5030100, "A>C", "0|1 1|1"), record(5030200, "C>T", "0|1 1|1"), people=PEOPLE[2:])}
accept("different people, the same sites", half, {"s1": "1 0 1 0", "s2": "1 1 0 0", "s3": "2 0 2 0", "s4": "2 2 2 0"}, 2, {"multiallelic": 1}, ranks=(0, 3))
other = {"a.vcf": vcf(record(5030100, "A>G", "0|1 1|0"), people=PEOPLE[:2]), "b.vcf": vcf(record(5030200, "C>T", "0|1 1|1"), people=PEOPLE[2:])}
refuse("different people, other sites", other, r"a\.vcf", r"b\.vcf", "missing-to-ref", ranks=(0, 3))
accept("missing is the reference", other, {"s1": "1 0 1 0", "s2": "1 1 0 0", "s3": "1 0 1 0", "s4": "1 1 1 0"}, 2, more=["--missing-to-ref"], ranks=(0, 3))
refuse("people in both and in one", {"a.vcf": vcf(A), "b.vcf": vcf(record(5030200, "A>G", "0|1 0|0 1|1"), people=PEOPLE[:3])}, r"b\.vcf", "s4", more=["--missing-to-ref"])

# chromosomes
spelled = {n: vcf(record(100, "A>G", "0|1 1|0 1|1 0|0", n), contigs=()) for n in ("21", "chr21", "Chr21", "NC_000021.9", "CM000683.2", "X", "chrM", "MT", "23")}
for n, content in spelled.items():
    accept(f"chromosome {n}", content, BASE, 1, chromosomes=[n], warns=["assembly"])
accept("one chromosome in two spellings", vcf(A, record(5030200, "C>T", "1|0 0|0 0|1 0|0", "21"), contigs=()), BOTH, 2)
refuse("one site in two spellings", vcf(A, record(5030100, "A>G", "0|1 1|0 1|1 0|0", "21"), contigs=()), r"in\.vcf:4\b")
accept("two files, two spellings", {"a.vcf": vcf(A), "b.vcf": vcf(record(5030200, "C>T", "1|0 0|0 0|1 0|0", "21"), contigs=("##contig=<ID=21,length=46709983>",))}, BOTH, 2)
accept("other contigs", vcf(A, record(5, "A>G", "1|1 1|1 1|1 1|1", "chr21_random"), record(5, "A>G", "1|1 1|1 1|1 1|1", "HLA-A*01:01")), BASE, 1,
       {"other_contigs": 2, "read": 3}, warns=["2 records.*chr21_random.*HLA"])
refuse("only other contigs", vcf(record(5, "A>G", "1|1 1|1 1|1 1|1", "scaffold_7"), contigs=()), r"in\.vcf:3\b", "scaffold_7")

accept("a chromosome on which nothing varies", vcf(A, record(16050100, "A>G", "0|0 0|0 0|0 ./.", "chr22"), contigs=C22), BASE, 1, {"monomorphic": 1},
       chromosomes=["chr21", "chr22"])

# assemblies
def contigs(*pairs):
    return tuple(f"##contig=<ID={n},length={l}>" for n, l in pairs)
accept("GRCh37", vcf(A, contigs=contigs(("chr21", 48129895), ("chrM", 16571))), assembly="GRCh37")
accept("no lengths, named", vcf(A, contigs=()), assembly="GRCh38", more=["--assembly", "hg38"])
accept("no lengths", vcf(A, contigs=("##contig=<ID=chr21>", "##contig=<ID=chr22,length=0>")), assembly="unknown", warns=["assembly"])
accept("nearly right", vcf(A, contigs=contigs(("chr21", 46709982))), assembly="unknown", warns=["assembly"])
accept("its own name", vcf(A, contigs=contigs(("chr21", 46709982))), assembly="mine", more=["--assembly", "mine"])
refuse("two in one file", vcf(A, contigs=contigs(("chr21", 46709983), ("chr22", 51304566))), r"in\.vcf", "GRCh38", "GRCh37")
refuse("one right, one nearly", vcf(A, contigs=contigs(("chr21", 46709983), ("chr22", 50818469))), r"in\.vcf", "--assembly")
refuse("another than named", vcf(A), r"in\.vcf", "GRCh38", "GRCh37", more=["--assembly", "GRCh37"])
refuse("two files, two assemblies", {"a.vcf": vcf(A), "b.vcf": vcf(record(16050100, "A>G", "0|1 0|0 1|1 0|0", "22"), contigs=contigs(("22", 51304566)))}, r"a\.vcf", r"b\.vcf")
refuse("a length that is none", vcf(A, contigs=("##contig=<ID=chr21,length=4670998x>",)), r"in\.vcf:2\b")

# names
odd = ["-o", "../../x", "a b,c", "<b>&\"'", "Zo\u00eb", "\u6837\u672c", "%s%n", "$(id)"]
rows = "".join(f"{n}\tAFR\n" for n in odd if '"' not in n) + '"<b>&""\'"\tAFR\n'
accept("odd names", vcf(record(5030100, "A>G", "0|1 " * 7 + "1|1"), people=odd), {**{n: "1 0 1 0" for n in odd[:7]}, "$(id)": "1 1 1 0"}, 1, table=rows)
refuse("a name twice", vcf(A, people=["s1", "s2", "s1", "s4"]), r"in\.vcf:3\b", "s1", r"\b10\b", r"\b12\b")
refuse("no name", vcf(A, people=["s1", "", "s3", "s4"]), r"in\.vcf:3\b")

# people
accept("people without labels", vcf(A), {"s1": "1 0 1 0", "s2": "1 1 0 0"}, 1, table="s1\tAFR\ns2\tEUR\ns9\tEUR\n",
       warns=[r"\b2\b.*s3, s4", r"\b1\b.*s9"])
refuse("nobody in common", vcf(A), r"in\.vcf", r"\bs1\b", "s1_s1", r"samples\.tsv", table="s1_s1\tAFR\n", ranks=(0, 3))
accept("no table", vcf(A), BASE, 1, table=None)
accept("one person", vcf(record(5030100, "A>G", "0|1"), people=["s1"]), {"s1": "1 0 1 0"}, 1, table="s1\tAFR\n", people={"s1": {"split": "train"}}, warns=["valid.*test"], ranks=(0, 3))
accept("one label", vcf(A), BASE, 1, table="".join(f"{p}\tAFR\n" for p in PEOPLE))
accept("-s", vcf(A), {"s2": BASE["s2"], "s4": BASE["s4"]}, 1, more=["-s", "s4,s2"])
accept("-s ^", vcf(A), {"s2": BASE["s2"], "s4": BASE["s4"]}, 1, more=["-s", "^s1,s3"])
accept("-S", {"in.vcf": vcf(A), "l.txt": "s2\ns4"}, {"s2": BASE["s2"], "s4": BASE["s4"]}, 1, more=["-S", "l.txt"])
accept("-S ^", {"in.vcf": vcf(A), "l.txt": "s1\r\ns3\r\n"}, {"s2": BASE["s2"], "s4": BASE["s4"]}, 1, more=["-S", "^l.txt"])
refuse("-s of nobody", vcf(A), "s9", more=["-s", "s1,s9"])

# regions and frequencies
accept("-r", vcf(A, B), BASE, 1, {"read": 1}, more=["-r", "21:5030050-5030150"])
accept("-r one base", vcf(A, B), None, 1, {"read": 1}, more=["-r", "chr21:5030200-5030200"])
refuse("-r nowhere", vcf(A, B), r"in\.vcf", more=["-r", "chr21:1-100"])
refuse("-r that is none", vcf(A, B), "chr21:9-1", code=2, more=["-r", "chr21:9-1"])
accept("-R", {"in.vcf": vcf(A, B), "r.bed": "track x\nchr21\t5030099\t5030100\tname\n"}, BASE, 1, more=["-R", "r.bed"])
refuse("-R that is none", {"in.vcf": vcf(A, B), "r.bed": "chr21\t5030100\t5030100\n"}, r"r\.bed:1\b", more=["-R", "r.bed"])
train = TABLE.replace("sex\n", "sex\tsplit\n").replace("male\n", "male\ttrain\n")
accept("--min-maf", vcf(record(5030100, "A>G", "0|1 0|0 0|0 0|0"), record(5030200, "A>G", "./. 1|1 ./. ./."), record(5030300, "A>G", "0|1 0|1 0|0 0|0"),
                        record(5030400, "A>G", "./. 0|1 ./. ./.")), {"s1": "1 0 1 0", "s2": "2 0 2 0", "s3": "0 0 0 0", "s4": "0 0 0 0"}, 2, {"below_maf": 2},
       more=["--min-maf", "0.2"], table=train, ranks=(0, 3))
fasta = ">21 ENA\n" + "ac\nGTN\n" + "A" * 40 + "\n"
accept("--fasta-ref", {"in.vcf": vcf(record(3, "G>A", "0|1 0|0 0|0 0|0"), record(5, "T>A", "0|1 0|0 0|0 0|0"), record(6, "A>C", "0|1 0|0 0|0 0|0"), contigs=()), "r.fa": fasta},
       sites=3, more=["--fasta-ref", "r.fa"])
refuse("--fasta-ref, another base", {"in.vcf": vcf(record(3, "G>A", "0|1 0|0 0|0 0|0"), record(6, "C>A", "0|1 0|0 0|0 0|0"), contigs=()), "r.fa": fasta}, r"in\.vcf:4\b", r"r\.fa",
       more=["--fasta-ref", "r.fa"], ranks=(0, 3))
refuse("--fasta-ref, too short", {"in.vcf": vcf(record(300, "G>A", "0|1 0|0 0|0 0|0"), contigs=()), "r.fa": fasta}, r"in\.vcf:3\b", more=["--fasta-ref", "r.fa"])
refuse("--fasta-ref, no chromosome", {"in.vcf": vcf(record(3, "G>A", "0|1 0|0 0|0 0|0", "22"), contigs=()), "r.fa": fasta}, r"r\.fa", "22", more=["--fasta-ref", "r.fa"])
for more in (["--split", "0.5,0.5"], ["--split", "0.5,0.5,0.5"], ["--min-maf", "0.7"], ["--label", "tribe"], ["--nonsense"], ["-s", "s1", "-S", "x"]):
    refuse(" ".join(more), vcf(A), code=2, more=more)

# what is read is never written over, whatever --force says
for name, more, output in (("the table", [], "samples.tsv"), ("the regions", ["-R", "r.bed"], "r.bed"), ("the list of people", ["-S", "l.txt"], "./l.txt"),
                           ("the list after ^", ["-S", "^l.txt"], "l.txt"), ("the genome", ["--fasta-ref", "r.fa"], "r.fa"), ("a file", [], "in.vcf"),
                           ("the table under the report's name", ["-m", "o.import.json"], "o.h5")):
    folder = setting({"in.vcf": vcf(A), "r.bed": "chr21\t0\t9000000\n", "l.txt": "s1\n", "r.fa": fasta, "o.import.json": TABLE}, TABLE)
    before = {f: open(os.path.join(folder, f), "rb").read() for f in os.listdir(folder)}
    r = run(folder, ["import", "-q", "--force", "-m", "samples.tsv", "in.vcf", "-o", output, *more])
    note(name, r.returncode == 2 and "input and output" in r.err and r.err.count("\n") == 1, f"exit {r.returncode}: {r.err!r}")
    note(name, {f: open(os.path.join(folder, f), "rb").read() for f in os.listdir(folder)} == before, "a file changed")
    shutil.rmtree(folder)

# a file without contig lengths beside one with them; a block that lies about its size; contigs that are no chromosomes
accept("lengths in one file of two", {"a.vcf": vcf(A), "b.vcf": vcf(B, contigs=())}, sites=2, assembly="GRCh38", warns=(r"b\.vcf.*assembly.*GRCh38.*a\.vcf",))
accept("the assembly is given", {"a.vcf": vcf(A), "b.vcf": vcf(B, contigs=())}, sites=2, assembly="GRCh38", more=["--assembly", "GRCh38"])
lie = bytearray(bgzf(vcf(A)))
lie[16] ^= 1
refuse("a block of another size than it states", {"in.vcf.gz": bytes(lie)}, r"in\.vcf\.gz", "states")
decoys = [record(10, "A>C", "0|1 0|0 0|0 0|0", f"d{i}") for i in range(4)]
accept("three other contigs", vcf(A, *decoys[:3]), sites=1, warns=(r"3 records.*\(d0, d1, d2\)",))
accept("four other contigs", vcf(A, *decoys), sites=1, warns=(r"4 records.*\(d0, d1, d2, \.\.\.\)",))

# names as long as a data set holds them, and longer
for length in (4095, 4096):
    people = ["n" * length, "s2", "s3", "s4"]
    if length == 4095:
        accept("a name of 4095 bytes", vcf(A, people=people), sites=1, table=TABLE.replace("s1", people[0]).replace("AFR", "L" * length))
    else:
        refuse("a name of 4096 bytes", vcf(A, people=people), r"in\.vcf:3\b", "4096", table=None)
        refuse("a label of 4096 bytes", vcf(A), r"samples\.tsv:2\b", "4096", table=TABLE.replace("AFR", "L" * length))
finish()
