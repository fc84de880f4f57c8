"""What launch/fetch-1000genomes writes, run to its end on a small release in a folder: the people chosen, a download that goes
on, the data set; refusals. Nothing comes from the network."""
import collections
import csv
import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from training import CROCUTA, SOURCE, check, done, end, refused

WRITER = os.path.join(SOURCE, "launch", "fetch-1000genomes")
POPULATIONS = {"EUR": ("GBR", "CEU", "TSI"), "AFR": ("YRI", "LWK"), "EAS": ("CHB",), "SAS": ("GIH",)}
NAME = "ALL.chr{}.phase3_shapeit2_mvncall_integrated_v5b.20130502.genotypes.vcf.gz"


def release(folder):
    """Eight people a population, two chromosomes."""
    people = [(f"{p}{i}", p, s, ("male", "female")[i % 2]) for s, ps in POPULATIONS.items() for p in ps for i in range(8)]
    with open(os.path.join(folder, "integrated_call_samples_v3.20130502.ALL.panel"), "w") as f:
        f.write("sample\tpop\tsuper_pop\tgender\t\t\n")
        f.writelines("\t".join(p) + "\n" for p in people)
    vcf = os.path.join(folder, "x.vcf")
    for c, length in ((21, 48129895), (22, 51304566)):
        with open(vcf, "w") as f:
            f.write(f"##fileformat=VCFv4.1\n##contig=<ID={c},assembly=b37,length={length}>\n")
            f.write('##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n')
            f.write("\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *(p[0] for p in people)]) + "\n")
            for s in range(60):
                calls = [f"{(i * 7 + s * 3) % 5 // 3}|{(i * 3 + s) % 4 // 3}" for i in range(len(people))]
                f.write("\t".join([str(c), str(20000000 + 97 * s), ".", "A", "G", "100", "PASS", ".", "GT", *calls]) + "\n")
        with open(vcf, "rb") as f, gzip.open(os.path.join(folder, NAME.format(c)), "wb") as out:
            shutil.copyfileobj(f, out)
    os.unlink(vcf)


def write(*arguments, cwd):
    return subprocess.run([WRITER, *arguments], capture_output=True, text=True, cwd=cwd)


def fetch(folder):
    return subprocess.run(["bash", os.path.join(folder, "fetch.sh")], capture_output=True, text=True, env=dict(os.environ, CROCUTA=CROCUTA))


def to_the_end(folder):
    mirror, here = os.path.join(folder, "mirror"), os.path.join(folder, "my data")
    os.mkdir(mirror)
    release(mirror)
    hidden = os.path.join(mirror, NAME.format(22))
    os.rename(hidden, hidden + ".later")
    arguments = ("-o", here, "--from", "file://" + mirror, "--chromosomes", "21-22", "--people", "EUR=20,AFR=13,EAS=8")
    done("writes", write(*arguments, cwd=folder))
    refused("a download that fails", fetch(here), 4, "chr22", "run this again")
    check("only whole files have their names", os.path.exists(os.path.join(here, NAME.format(21))) and not os.path.exists(os.path.join(here, NAME.format(22))), os.listdir(here))
    os.rename(hidden + ".later", hidden)
    os.unlink(os.path.join(mirror, NAME.format(21)))  # it is not needed again
    done("goes on", fetch(here))
    with open(os.path.join(here, "people.tsv")) as f:
        people = list(csv.DictReader(f, delimiter="\t"))
    check("as many as were asked for", collections.Counter(p["superpopulation"] for p in people) == {"EUR": 20, "AFR": 13, "EAS": 8}, people)
    check("populations take turns", collections.Counter(p["population"] for p in people) == {"CEU": 7, "GBR": 7, "TSI": 6, "YRI": 6, "LWK": 7, "CHB": 8}, people)
    check("the first ones by name", {p["sample"] for p in people if p["population"] == "LWK"} == {f"LWK{i}" for i in range(7)}, people)
    told = json.loads(subprocess.run([CROCUTA, "data", "info", os.path.join(here, "data.h5"), "--json"], capture_output=True, text=True).stdout)
    check("imported", len(told["people"]) == 41 and [c["name"] for c in told["chromosomes"]] == ["21", "22"] and told["assembly"] == "GRCh37", told.get("chromosomes"))
    done("nothing is left to do", fetch(here))

    done("more than there are", write(*arguments[:-1], "EAS=9", cwd=folder))
    refused("more than there are", fetch(here), 3, "EAS: 9 people", "has 8")


def the_study(folder):
    done("by itself", write("-o", "all", cwd=folder))
    text = open(os.path.join(folder, "all", "fetch.sh")).read()
    for part in ("PEOPLE='EUR=240 AFR=160 EAS=190'", "FIRST=1 LAST=22", "https://ftp.1000genomes.ebi.ac.uk/vol1/ftp/release/20130502'"):
        check("the study's people, all autosomes", part in text, part)
    check("nothing is downloaded", os.listdir(os.path.join(folder, "all")) == ["fetch.sh"])


def refusals(folder):
    for part, *arguments in (("-o DIR", "--people", "EUR=3"), ("--people", "-o", "x", "--people", "EUR:3"), ("--chromosomes", "-o", "x", "--chromosomes", "3-1"),
                             ("--chromosomes", "-o", "x", "--chromosomes", "1-23"), ("--min-maf", "-o", "x", "--min-maf", "rare"), ("--from", "-o", "x", "--from", "here's"),
                             ("needs a value", "-o"), ("--all", "--all")):
        refused(" ".join(arguments), write(*arguments, cwd=folder), 2, part)
    check("refusals leave nothing", not os.path.exists(os.path.join(folder, "x")))


def main():
    if not shutil.which("curl"):
        print("skipped: no curl here")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        to_the_end(folder)
        the_study(folder)
        refusals(folder)
    end()


main()
