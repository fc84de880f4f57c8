# Calls, alleles, lines and numbers of a VCF: what each spelling means, and what is refused with its line. The expected
# values are written out by hand from the VCF specification.
# labels: mpi
import os, sys
sys.path.insert(0, os.path.join(os.environ["CROCUTA_SOURCE"], "tests"))
from import_kit import *

A = record(5030100, "A>G", "0|1 1|0 1|1 0|0")
BASE = {"s1": "1 0 1 0", "s2": "1 1 0 0", "s3": "1 1 1 0", "s4": "0 0 0 0"}
accept("plain", vcf(A), BASE, 1, {"read": 1, "missing_calls": 0}, assembly="GRCh38", chromosomes=["chr21"], ranks=(0, 3, 5))

# ploidy and missing calls
accept("ploidy mixed", vcf(record(5030100, "A>G", "1 0 0/1/1 1|1|1"), record(5030200, "A>G", "0|1 . 1 ././.")),
       {"s1": "2 1 1 0", "s2": "0 0 0 0", "s3": "2 1 0 1", "s4": "1 0 0 1"}, 2, {"missing_calls": 2, "half_missing_calls": 0})
accept("half missing", vcf(record(5030100, "A>G", "./1 .|1 1|. 0/."), record(5030200, "A>G", "./. .|. 0|1 0/1/.")),
       {"s1": "1 0 0 1", "s2": "1 0 1 0", "s3": "2 1 1 0", "s4": "1 0 0 1"}, 2, {"missing_calls": 2, "half_missing_calls": 5}, ranks=(0, 3))
accept("phase of the first allele", vcf(record(5030100, "A>G", "|0|1 /0/1 |1 /1")),
       {"s1": "1 0 1 0", "s2": "1 0 0 1", "s3": "1 1 0 0", "s4": "1 1 0 0"}, 1)
accept("empty call is missing", vcf(record(5030100, "A>G", ["0|1:3", ":3", ".:3", "0|0:3"], fmt="GT:DP")), counts={"missing_calls": 2})
accept("eleven alleles", vcf(record(5030100, "A>C," + ",".join("A" * i for i in range(2, 11)) + ",G", "0|11 11|1 10|0 0|0")),
       {"s1": "1 0 1 0", "s2": "2 1 1 0", "s3": "0 0 0 0", "s4": "0 0 0 0"}, 1, {"not_snv": 9, "multiallelic": 1})
refuse("allele number too high", vcf(A, record(5030200, "A>G", "0|2 0|0 0|0 0|0")), r"in\.vcf:5\b", "s1", ranks=(0, 3))
for bad in ("0|", "|", "x", "0|x", "0//1", "0\\1", "0-1", "1|0 ", "-1|0", "0|1|", "1e0|0"):
    refuse(f"call {bad!r}", vcf(A, record(5030200, "A>G", ["0|0", bad, "0|1", "0|0"])), r"in\.vcf:5\b", "s2")

# alleles
accept("lower case", vcf(record(5030100, "a>g,c", "0|1 2|0 1|2 0|0")), {"s1": "1 0 1 0", "s2": "1 1 0 0", "s3": "2 1 1 0", "s4": "0 0 0 0"}, 1)
accept("other alleles keep their numbers",
       vcf(record(5030100, "A><DEL>,*,G,N,AT,C,G]chr21:9],U,<*>", "0|3 2|6 1|0 5|4"), record(5030200, "R>A", "0|1 0|0 1|1 0|0"),
           record(5030300, "AC>A,AG", "0|1 1|2 0|0 0|0"), record(5030400, "U>A", "0|1 0|0 0|0 0|0")),
       {"s1": "1 0 1 0", "s2": "1 0 1 0", "s3": "0 0 0 0", "s4": "0 0 0 0"}, 1,
       {"symbolic": 3, "star": 1, "non_acgt": 4, "not_snv": 3, "read": 4, "multiallelic": 1})
accept("no allele", vcf(A, record(5030200, "C>.", "0|0 0|0 ./. 0|0"), record(5030300, "C>G", "0|0 0|0 0|0 0|0")), BASE, 1,
       {"monomorphic": 2, "missing_calls": 1, "kept": 1, "not_snv": 0})
refuse("nobody carries anything", vcf(record(5030100, "A>G", "0|0 0|0 0|0 .")), r"in\.vcf")
refuse("the reference as ALT", vcf(record(5030100, "A>A", "0|1 0|0 0|0 0|0")), r"in\.vcf:4\b", "ALT")
refuse("a base twice", vcf(record(5030100, "A>c,C", "0|1 0|0 0|0 0|0")), r"in\.vcf:4\b", "ALT")
refuse("an empty allele", vcf(record(5030100, "A>C,,G", "0|1 0|0 0|0 0|0")), r"in\.vcf:4\b", "ALT")
refuse("an empty reference", vcf(record(5030100, ">C", "0|1 0|0 0|0 0|0")), r"in\.vcf:4\b", "REF")

# one site in several lines
accept("two lines", vcf(record(5030100, "A>C", "1|0 0/1 0|0 ./1"), record(5030100, "A>G", "0|1 0/1 1|1 1/.")),
       {"s1": "2 1 1 0", "s2": "2 0 0 2", "s3": "1 1 1 0", "s4": "2 0 0 2"}, 1, {"read": 2, "kept": 1, "multiallelic": 1}, ranks=(0, 3))
accept("an indel beside", vcf(A, record(5030100, "AT>A", "1|1 0|0 0|0 0|0")), BASE, 1, {"not_snv": 1, "read": 2})
refuse("the same twice", vcf(A, A), r"in\.vcf:5\b", r"\b4\b", ranks=(0, 3))
refuse("an allele twice", vcf(record(5030100, "A>C,G", "0|1 0|0 0|0 0|0"), record(5030100, "A>T", "0|0 1|0 0|0 0|0"), record(5030100, "A>G", "0|1 0|0 0|0 0|0")),
       r"in\.vcf:6\b", r"\b4\b")
refuse("two references", vcf(A, record(5030100, "T>G", "0|1 0|0 0|0 0|0")), r"in\.vcf:5\b", "REF", r"\b4\b")
refuse("two references, one of an indel", vcf(A, record(5030100, "TC>T", "0|1 0|0 0|0 0|0")), r"in\.vcf:5\b", "REF")
refuse("two bases on one haplotype", vcf(A, record(5030100, "A>C", "0|1 0|0 0|0 0|0")), r"in\.vcf:5\b", "s1", r"\b4\b")
refuse("three alleles in two", vcf(record(5030100, "A>G", "1/1 0|0 0|0 0|0"), record(5030100, "A>C", "0/1 0|0 0|0 0|0")), r"in\.vcf:5\b", "s1")
refuse("two alleles in one", vcf(record(5030100, "A>G", "1 0|0 0|0 0|0"), record(5030100, "A>C", "1 0|0 0|0 0|0")), r"in\.vcf:5\b", "s1")

# the genotype field
accept("GT last and dropped", vcf(record(5030100, "A>G", "3:0|1 3 3:1|1 3:0|0", fmt="DP:GT")), {"s1": "1 0 1 0", "s2": "0 0 0 0", "s3": "1 1 1 0", "s4": "0 0 0 0"},
       counts={"missing_calls": 1})
accept("a record without GT", vcf(A, record(5030200, "A>G", "1 1 1 1", fmt="DP"), record(5030300, "C>T", "0|0 0|0 0|0 1|1")),
       {**BASE, "s4": "1 1 1 0"}, 2, {"records_without_gt": 1, "read": 3, "missing_calls": 0, "monomorphic": 1})
refuse("no GT at all", vcf(record(5030100, "A>G", "1 1 1 1", fmt="DP")), r"in\.vcf", "GT")
refuse("GT twice", vcf(record(5030100, "A>G", "0|1:0|0 0|0:0|0 0|0:0|0 0|0:0|0", fmt="GT:GT")), r"in\.vcf:4\b", "GT")
refuse("nobody", text(header(people=[])[:-1], "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO", "chr21\t5030100\t.\tA\tG\t.\t.\t."), r"in\.vcf", "GT")

# lines
refuse("a column less", vcf(A, record(5030200, "A>G", "0|1 0|0 0|1")), r"in\.vcf:5\b", ranks=(0, 3))
refuse("a column more", vcf(A, record(5030200, "A>G", "0|1 0|0 0|1 0|0 0|0")), r"in\.vcf:5\b")
refuse("a tab more", vcf(A, record(5030200, "A>G", "0|1 0|0 0|1 0|0") + "\t"), r"in\.vcf:5\b")
refuse("fixed columns cut", vcf(A, "chr21\t5030200\t.\tA"), r"in\.vcf:5\b")
refuse("no last newline", vcf(A, record(5030200, "A>G", "0|1 0|0 0|1 0|0"))[:-1], r"in\.vcf:5\b")
refuse("last call cut", vcf(A, record(5030200, "A>G", "0|1 0|0 0|1 0|1"))[:-3], r"in\.vcf:5\b")
refuse("blanks for tabs", vcf(A).replace("\t", " "), r"in\.vcf:3\b")
refuse("one line of blanks", vcf(A, record(5030200, "A>G", "0|1 0|0 0|1 0|0").replace("\t", " ")), r"in\.vcf:5\b")
refuse("a zero byte", vcf(A, record(5030200, "A>G", "0|1 0|0 0|1 0|0").replace("PASS", "PA\0S")), r"in\.vcf:5\b")
accept("windows line ends", vcf(A).replace("\n", "\r\n"), BASE, 1)
accept("blank lines", vcf(A, "", "") + "\n", BASE, 1, {"read": 1})
accept("a mark at the start", "\ufeff" + vcf(A), BASE, 1)
refuse("old Mac line ends", vcf(A).replace("\n", "\r"), r"in\.vcf")
refuse("a second header", vcf(A) + vcf(A), r"in\.vcf:5\b")

# numbers
for bad in ("0", "-5", "+5", "5e6", "5030100x", "", " 5", "0x10", "2147483648", "99999999999999999999", "1.5"):
    refuse(f"position {bad!r}", vcf(record(bad, "A>G", "0|1 0|0 0|0 0|0")), r"in\.vcf:4\b")
refuse("behind the end", vcf(A, record(46709984, "A>G", "0|1 0|0 0|0 0|0")), r"in\.vcf:5\b", "46709983")
accept("at the end", vcf(A, record(46709983, "A>G", "0|0 0|0 0|0 0|1")), sites=2)
for version in ("VCFv3.3", "VCFv4.5", "VCFv99999999999999999999.1", "VCF"):
    accept(f"version {version}", vcf(A, first="##fileformat=" + version), BASE, 1)
accept("no version", vcf(A, first=None), BASE, 1, warns=["fileformat"])

# order
refuse("positions run back", vcf(A, record(5030300, "A>G", "0|1 0|0 0|0 0|0"), record(5030200, "A>G", "0|1 0|0 0|0 0|0")), r"in\.vcf:6\b", ranks=(0, 3))
TWO = (CONTIG, "##contig=<ID=chr22,length=50818468>")
refuse("a chromosome in two pieces", vcf(A, record(16050100, "A>G", "0|1 0|0 0|0 0|0", "chr22"), record(5030200, "A>G", "0|1 0|0 0|0 0|0"), contigs=TWO), r"in\.vcf:7\b")
accept("any order of chromosomes", vcf(record(16050100, "A>G", "0|1 0|0 0|0 0|0", "chr22"), A, contigs=TWO), sites=2, chromosomes=["chr21", "chr22"])

# phase
accept("phase sets", vcf(record(5030100, "A>G", "0|1:7 0|1:7 1|1:. 0|0:.", fmt="GT:PS"), record(5030200, "A>G", "0|1:9 0|1:7 1|1:9 0|0:.", fmt="GT:PS")),
       {"s1": "2 0 2 0", "s2": "2 0 2 0", "s3": "2 2 2 0", "s4": "0 0 0 0"}, warns=["1 people.*phase set"])
accept("mixed separators", vcf(record(5030100, "A>G", "0/1 1/1 1|1 0|1")), {"s1": "1 0 0 1", "s2": "1 1 1 0", "s3": "1 1 1 0", "s4": "1 0 1 0"}, 1)
finish()
