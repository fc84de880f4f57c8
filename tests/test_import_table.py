# The table of people in every dress that spreadsheets give it: read as it is meant, or refused with the line.
# labels: mpi
import os, sys
sys.path.insert(0, os.path.join(os.environ["CROCUTA_SOURCE"], "tests"))
from import_kit import *

VCF = vcf(record(5030100, "A>G", "0|1 1|0 1|1 0|0"))
MEANT = {p: {"population": pop, "superpopulation": sup, "sex": sex} for p, pop, sup, sex in
         (("s1", "PA", "AFR", "male"), ("s2", "PA", "AFR", "female"), ("s3", "PB", "EUR", "male"), ("s4", "PB", "EUR", "female"))}
ROWS = [l.split("\t") for l in TABLE.strip().split("\n")]


def table(separator="\t", end="\n", quote="", rows=ROWS, last=True):
    return end.join(separator.join(quote + f + quote for f in r) for r in rows) + (end if last else "")


def read(name, content, wants=MEANT, **k):
    accept(name, VCF, people=wants, table=content, **k)


read("as it should be", TABLE, ranks=(0, 3))
read("windows line ends", table(end="\r\n"))
read("old Mac line ends", table(end="\r"))
read("no last line end", table(last=False))
read("no last line end, windows", table(end="\r\n", last=False))
read("a mark at the start", b"\xef\xbb\xbf" + TABLE.encode())
read("UTF-16", TABLE.encode("utf-16"))
read("UTF-16, big", b"\xfe\xff" + TABLE.encode("utf-16-be"))
read("quotes", table(quote='"'))
read("commas", table(","))
read("commas and quotes", table(",", quote='"'))
read("semicolons", table(";"))
read("a spreadsheet's note on its separator", "sep=;\n" + table(";"))
read("blanks", table("   "))
read("blank lines", "\n\n" + TABLE.replace("s3", "\n \t \n\t\t\t\ns3") + "\n   \n\t\t\t\n")
read("columns in another order", table(rows=[[r[3], r[1], r[0], r[2]] for r in ROWS]))
read("more columns", table(rows=[r[:1] + [f"note {i}"] + r[1:] for i, r in enumerate(ROWS)]))
read("empty columns behind", "".join(l + "\t\t\n" for l in TABLE.strip().split("\n")))
read("blanks around fields", table(rows=[[f" {f}\u00a0 " for f in r] for r in ROWS]))
read("headings in capitals", TABLE.replace("sample", "Sample").replace("sex", "SEX").replace("superpopulation", "Superpopulation"))
read("other headings", TABLE.replace("sample\tpopulation\tsuperpopulation\tsex", "sample\tpop\tsuper_pop\tgender"))
read("the same row twice", TABLE + "s2\tPA\tAFR\tfemale\n", warns=["s2"])
two = {p: {"population": l, "superpopulation": l, "sex": "unknown"} for p, l in zip(PEOPLE, ("AFR", "AFR", "EUR", "EUR"))}
rows2 = [["s1", "AFR"], ["s2", "AFR"], ["s3", "EUR"], ["s4", "EUR"]]
read("two columns", table(rows=rows2), two)
read("two columns, commas", table(",", rows=rows2), two)
read("two columns, blanks", table(" ", rows=rows2), two)
read("two columns and a header", "sample\tlabel\n" + table(rows=rows2), two)
read("only a population", "sample\tpopulation\n" + table(rows=rows2), two)
read("sexes", TABLE.replace("\tfemale", "\t2").replace("s3\tPB\tEUR\tmale", "s3\tPB\tEUR\t").replace("\tmale", "\tM"),
     {"s1": {"sex": "male"}, "s2": {"sex": "female"}, "s3": {"sex": "unknown"}, "s4": {"sex": "female"}})
splits = table(rows=[r + [s] for r, s in zip(ROWS, ("split", "test", "train", "Train", "valid"))])
read("splits given", splits, {"s1": {"split": "test"}, "s2": {"split": "train"}, "s3": {"split": "train"}, "s4": {"split": "valid"}}, ranks=(0, 3))
quoted = TABLE.replace("s1\tPA", '"s1"\t"P ""A"", B"').replace("sample", '"sample"')
read("quotes within quotes", quoted, {"s1": {"population": 'P "A", B'}})
read("commas within quotes", table(",").replace("s1,PA", 's1,"P,A"'), {"s1": {"population": "P,A"}})

F = r"samples\.tsv"
for name, content, line in (
        ("no bytes", "", None), ("blank lines alone", "\n \n\t\n", None), ("a header alone", ROWS[0][0] + "\t" + "\t".join(ROWS[0][1:]) + "\n", None),
        ("one column", "s1\ns2\ns3\ns4\n", 1), ("four columns, no header", table(rows=ROWS[1:]), 1), ("three columns, no header", table(rows=[r[:3] for r in ROWS[1:]]), 1),
        ("a short row", TABLE.replace("s3\tPB\tEUR\tmale", "s3\tPB"), 4), ("a row without its last field", TABLE.replace("s3\tPB\tEUR\tmale", "s3\tPB\tEUR"), 4),
        ("a long row", TABLE.replace("s3\tPB\tEUR\tmale", "s3\tPB\tEUR\tmale\tx"), 4), ("no name", TABLE.replace("s3\t", "\t"), 4), ("no label", TABLE.replace("s3\tPB\tEUR", "s3\tPB\t"), 4),
        ("no population", TABLE.replace("s3\tPB\tEUR", "s3\t \tEUR"), 4), ("a blank name in quotes", TABLE.replace("s3\t", '" "\t'), 4), ("an open quote", TABLE.replace("s3\t", '"s3\t'), 4),
        ("text behind a quote", TABLE.replace("s3\t", '"s3"x\t'), 4), ("a sex that is none", TABLE.replace("s3\tPB\tEUR\tmale", "s3\tPB\tEUR\t3"), 4),
        ("two rows of one person", TABLE + "s2\tPB\tEUR\tfemale\n", 6), ("Latin-1", TABLE.replace("PB", "P\u00e9").encode("latin-1"), 4), ("a zero byte", TABLE.replace("PB", "P\0"), 4),
        ("UTF-16 without mark", TABLE.encode("utf-16-le"), 1), ("UTF-16, cut", TABLE.encode("utf-16")[:-1], None), ("a split that is none", splits.replace("valid", "hold-out"), 5),
        ("a split that is empty", splits.replace("valid", ""), 5), ("no column of labels", table(rows=[[r[0], r[3]] for r in ROWS]), 1),
        ("a column twice", TABLE.replace("sex", "population"), 1), ("headings alone in two lines", TABLE.replace("s1\tPA\tAFR\tmale", "s1"), 2)):
    refuse(name, VCF, F + (rf":{line}\b" if line else ""), table=content, ranks=(0, 3) if name in ("a short row", "no bytes") else (0,))
refuse("no table of that name", VCF, r"none\.tsv", "No such file", table=None, more=["-m", "none.tsv"])
refuse("a folder", VCF, "folder", table=None, more=["-m", "."])
finish()
