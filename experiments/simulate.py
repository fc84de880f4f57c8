"""Simulates African, European and East Asian people as a phased VCF with a sample map, for the demo and the tests.

Demography: out of Africa with migration (Gutenkunst et al. 2009, PLoS Genetics 5:e1000695, table 1), by msprime.
The reference genome is hidden: at every site its base is that of a mosaic of unsampled haplotypes, 35 % African and
65 % European, so that people carry about as many non-reference sites as real ones do (4.6 / 3.5 / 3.5 million a
genome). Everything depends on the seed alone.
"""

import argparse
import gzip
import math
import os
import sys
from concurrent.futures import ProcessPoolExecutor

import msprime
import numpy as np

YEARS_A_GENERATION = 25
MUTATION_RATE = 3.0e-8  # with it the model gives 4.6 M non-reference sites a genome in Africa
RECOMBINATION_RATE = 1.0e-8
MOSAIC_PIECE = 50_000  # bp, mean length of a piece of the hidden reference
MOSAIC_AFRICAN = 0.35
POPULATIONS = ("AFR", "EUR", "EAS")
GENOME = 2.9e9  # bp, for "a genome" figures


def out_of_africa():
    """The three-population model: sizes, splits, growth and migration of table 1."""
    n_ancient, n_africa, n_bottleneck = 7300, 12300, 2100
    n_europe, growth_europe = 1000, 0.004
    n_asia, growth_asia = 510, 0.0055
    t_africa, t_bottleneck, t_split = (y / YEARS_A_GENERATION for y in (220e3, 140e3, 21.2e3))
    m_africa_bottleneck, m_africa_europe, m_africa_asia, m_europe_asia = 25e-5, 3e-5, 1.9e-5, 9.6e-5
    d = msprime.Demography()
    d.add_population(name="AFR", initial_size=n_africa)
    d.add_population(name="EUR", initial_size=n_europe * math.exp(growth_europe * t_split), growth_rate=growth_europe)
    d.add_population(name="EAS", initial_size=n_asia * math.exp(growth_asia * t_split), growth_rate=growth_asia)
    d.add_population(name="OUT", initial_size=n_bottleneck)
    d.add_population(name="OLD", initial_size=n_africa)
    d.add_population(name="ANC", initial_size=n_ancient)
    d.set_symmetric_migration_rate(["AFR", "EUR"], m_africa_europe)
    d.set_symmetric_migration_rate(["AFR", "EAS"], m_africa_asia)
    d.set_symmetric_migration_rate(["EUR", "EAS"], m_europe_asia)
    d.add_population_split(time=t_split, derived=["EUR", "EAS"], ancestral="OUT")
    d.add_symmetric_migration_rate_change(time=t_split, populations=["AFR", "OUT"], rate=m_africa_bottleneck)
    d.add_population_split(time=t_bottleneck, derived=["AFR", "OUT"], ancestral="OLD")
    d.add_population_split(time=t_africa, derived=["OLD"], ancestral="ANC")
    return d


def mosaic(length, african, european, rng):
    """Which haplotype the hidden reference copies: piece ends (bp) and columns."""
    ends, columns, at = [], [], 0.0
    while at < length:
        at += rng.exponential(MOSAIC_PIECE)
        ends.append(min(at, length))
        columns.append(rng.choice(african if rng.random() < MOSAIC_AFRICAN else european))
    return np.array(ends), np.array(columns)


def region(number, length, people, reference_people, seed):
    """One region -> positions (S,), (reference, other base) pairs, genotypes (S, 2n) of the sampled people."""
    samples = {p: people + (reference_people if p != "EAS" else 0) for p in POPULATIONS}
    trees = msprime.sim_ancestry(samples, demography=out_of_africa(), sequence_length=length,
                                 recombination_rate=RECOMBINATION_RATE, random_seed=seed * 1000 + 2 * number + 1)
    trees = msprime.sim_mutations(trees, rate=MUTATION_RATE, model=msprime.JC69(), random_seed=seed * 1000 + 2 * number + 2)
    rng = np.random.default_rng([seed, number])
    first = {p: 2 * sum(samples[q] for q in POPULATIONS[:i]) for i, p in enumerate(POPULATIONS)}
    sampled = np.concatenate([np.arange(first[p], first[p] + 2 * people) for p in POPULATIONS])
    hidden = {p: np.arange(first[p] + 2 * people, first[p] + 2 * samples[p]) for p in ("AFR", "EUR")}
    ends, columns = mosaic(length, hidden["AFR"], hidden["EUR"], rng)
    positions, bases, genotypes, last = [], [], [], 0
    for v in trees.variants():
        position = int(v.site.position) + 1
        alleles = [a for a in v.alleles if a]
        if position <= last or len(alleles) != 2:
            continue
        piece = min(np.searchsorted(ends, v.site.position, side="right"), len(ends) - 1)
        reference = v.genotypes[columns[piece]]
        g = (v.genotypes[sampled] != reference).astype(np.uint8)
        if not g.any():
            continue
        last = position
        positions.append(position)
        bases.append((alleles[reference], alleles[1 - reference]))
        genotypes.append(g)
    return np.array(positions), bases, np.stack(genotypes)


def write_vcf(path, names, length, regions):
    """Phased genotypes as text, a site a line; gzip."""
    with gzip.open(path, "wb", compresslevel=1) as out:
        head = ["##fileformat=VCFv4.2", "##source=SIMULATED by msprime, not real people",
                '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">']
        head += [f"##contig=<ID=chr{i + 1},length={length},assembly=simulated>" for i in range(len(regions))]
        head.append("\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT"] + names))
        out.write(("\n".join(head) + "\n").encode())
        for i, (positions, bases, genotypes) in enumerate(regions):
            line = np.full((len(names), 4), ord("\t"), np.uint8)
            line[:, 1] = ord("|")
            for position, (ref, alt), g in zip(positions, bases, genotypes):
                line[:, 0] = g[0::2] + ord("0")
                line[:, 2] = g[1::2] + ord("0")
                out.write(f"chr{i + 1}\t{position}\t.\t{ref}\t{alt}\t.\tPASS\t.\tGT\t".encode())
                out.write(line.tobytes()[:-1])
                out.write(b"\n")


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("-o", "--output", required=True, help="prefix: PREFIX.vcf.gz and PREFIX.samples.tsv are written")
    p.add_argument("--people", type=int, default=120, help="of each ancestry (default %(default)s)")
    p.add_argument("--regions", type=int, default=4, help="independent regions, a chromosome each (default %(default)s)")
    p.add_argument("--length", type=float, default=2.0, help="Mb a region (default %(default)s)")
    p.add_argument("--min-maf", type=float, default=0.0, help="leave out sites whose rarer allele is rarer (default %(default)s)")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--processes", type=int, default=os.cpu_count())
    a = p.parse_args()
    if a.people < 1 or a.regions < 1 or a.length <= 0:
        sys.exit("simulate: people, regions and length must be positive")
    length = int(a.length * 1e6)
    work = [(i, length, a.people, 10, a.seed) for i in range(a.regions)]
    regions = []
    with ProcessPoolExecutor(min(a.processes, a.regions)) as pool:
        for i, r in enumerate(pool.map(region, *zip(*work))):
            if a.min_maf > 0:
                f = r[2].mean(1)
                keep = np.flatnonzero(np.minimum(f, 1 - f) >= a.min_maf)
                r = (r[0][keep], [r[1][k] for k in keep], r[2][keep])
            regions.append(r)
            print(f"region {i + 1} of {a.regions}: {len(r[0])} sites", file=sys.stderr, flush=True)
    names = [f"{q}{i + 1:03d}" for q in POPULATIONS for i in range(a.people)]
    os.makedirs(os.path.dirname(a.output) or ".", exist_ok=True)
    write_vcf(a.output + ".vcf.gz.tmp", names, length, regions)
    with open(a.output + ".samples.tsv.tmp", "w") as out:
        out.write("sample\tpopulation\tsuperpopulation\tsex\n")
        for name in names:
            out.write(f"{name}\t{name[:3]}\t{name[:3]}\tunknown\n")
    for end in (".vcf.gz", ".samples.tsv"):
        os.replace(a.output + end + ".tmp", a.output + end)
    carried = sum(((r[2][:, 0::2] + r[2][:, 1::2]) > 0).sum(0) for r in regions)
    scale = GENOME / (length * a.regions) / 1e6
    each = ", ".join(f"{q} {carried[k * a.people:(k + 1) * a.people].mean() * scale:.2f}" for k, q in enumerate(POPULATIONS))
    print(f"{len(names)} people, {sum(len(r[0]) for r in regions)} sites; million non-reference sites a genome: {each}", file=sys.stderr)


if __name__ == "__main__":
    main()
