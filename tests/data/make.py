#!/usr/bin/env python3
"""Makes small.h5, the data set of the tests: SIMULATED people of three populations, not real ones.

    make.py CROCUTA [OUT.h5]

Allele frequencies of a population scatter around shared ancestral ones (Balding and Nichols 1995, F = 0.1); neighbouring
sites are linked, because a chromosome copies one of its population's founders for a stretch and then another (Li and
Stephens 2003). Standard library only, one seed, so that anybody can make the file again."""
import os
import random
import subprocess
import sys
import tempfile

SEED = 20
LABELS = ["AFR", "EAS", "EUR"]
PEOPLE = 50          # of each label
CHROMOSOMES = {"20": 63025520, "21": 48129895, "22": 51304566}
SITES = 700          # of each chromosome
FOUNDERS = 24        # of each label
F = 0.1              # how far populations have drifted
STRETCH = 60         # sites copied from one founder, mean
GAP_EVERY = 350      # sites; a gap of 500 kb follows


def positions(rng):
    at, out = 16050000, []
    for i in range(SITES):
        at += 500000 if i and i % GAP_EVERY == 0 else rng.randint(40, 1500)
        out.append(at)
    return out


def founders(rng, frequency):
    a, b = frequency * (1 - F) / F, (1 - frequency) * (1 - F) / F
    p = rng.betavariate(a, b)
    return [rng.random() < p for _ in range(FOUNDERS)]


def haplotype(rng, panel):
    who, out = rng.randrange(FOUNDERS), []
    for site in panel:
        if rng.random() < 1 / STRETCH:
            who = rng.randrange(FOUNDERS)
        out.append(site[who])
    return out


def write(vcf, people):
    rng = random.Random(SEED)
    names = [f"{label}{i:03d}" for label in LABELS for i in range(PEOPLE)]
    with open(people, "w") as f:
        f.write("sample\tpopulation\tsuperpopulation\tsex\n")
        for i, name in enumerate(names):
            f.write(f"{name}\t{name[:3]}\t{name[:3]}\t{'female' if i % 2 else 'male'}\n")
    with open(vcf, "w") as f:
        f.write("##fileformat=VCFv4.2\n##source=SIMULATED by tests/data/make.py\n")
        for name, length in CHROMOSOMES.items():
            f.write(f"##contig=<ID={name},length={length}>\n")
        f.write('##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n')
        f.write("\t".join("#CHROM POS ID REF ALT QUAL FILTER INFO FORMAT".split() + names) + "\n")
        for chromosome in CHROMOSOMES:
            ancestral = [rng.betavariate(0.8, 1.6) * 0.9 + 0.05 for _ in range(SITES)]
            panels = {label: [founders(rng, p) for p in ancestral] for label in LABELS}
            people_here = [[haplotype(rng, panels[name[:3]]) for _ in range(2)] for name in names]
            for s, position in enumerate(positions(rng)):
                ref, alt = rng.sample("ACGT", 2)
                calls = [f"{int(h[0][s])}|{int(h[1][s])}" for h in people_here]
                f.write("\t".join([chromosome, str(position), ".", ref, alt, ".", "PASS", ".", "GT"] + calls) + "\n")


def main():
    crocuta = sys.argv[1]
    out = sys.argv[2] if len(sys.argv) > 2 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "small.h5")
    with tempfile.TemporaryDirectory() as tmp:
        vcf, people = os.path.join(tmp, "small.vcf"), os.path.join(tmp, "small.tsv")
        write(vcf, people)
        subprocess.run([crocuta, "import", "--force", "-m", people, "-o", os.path.join(tmp, "small.h5"), vcf], check=True)
        with open(os.path.join(tmp, "small.h5"), "rb") as f, open(out, "wb") as to:
            to.write(f.read())


if __name__ == "__main__":
    main()
