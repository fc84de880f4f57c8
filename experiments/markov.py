#!/usr/bin/env python3
"""Markov models of bases by counting, order 0 to 12: what a network of sequences has to beat.

    markov.py -m TABLE.tsv [--orders 12] [--one-strand] [--hide-masked] [--alpha LIST] [-o OUT.json] FASTA...

The table and the FASTA files are those of `crocuta import`, parts of sequences (NAME:from-to) too. Counts are taken on the train
sequences, read both ways unless --one-strand is given. An order backs off to the one below:

    P_k(base | last k) = (n(last k, base) + alpha_k P_{k-1}(base | last k - 1)) / (n(last k) + alpha_k),    P_{-1} = 1/4

alpha_k is that of the least loss on the valid sequences, one order after the other (--alpha: those numbers instead, the last one for
all further orders). Every A, C, G, T is predicted (--hide-masked: lower case is read as N, as with data.masked: n); behind an N or a start, where k bases are not known, the highest order that is.
Losses are nats and bits a base: 2 bits are no compression at all, 1.9 bits make a megabase 237.5 kB instead of 250. The standard
error is over stretches of 100 kb."""
import argparse
import gzip
import json
import math
import sys

try:
    import numpy
except ImportError:
    print("crocuta: error: markov.py: needs numpy; make an environment with ./launch/setup --python and run it from there", file=sys.stderr)
    sys.exit(2)

BLOCK = 100000  # bases whose losses are one group: repeats and composition make neighbours alike
GRID = [2.0 ** e for e in range(-3, 14)]
DENSE = 11  # up to this order counts stand in a table of all words
SPLITS = {"train": "train", "training": "train", "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid", "test": "test"}
OTHER = 4  # what is not A C G T
CODE = numpy.full(256, OTHER, numpy.uint8)
for i, letter in enumerate("ACGT"):
    CODE[ord(letter)] = CODE[ord(letter.lower())] = i


def fail(text):
    print(f"crocuta: error: {text}", file=sys.stderr)
    sys.exit(3)


def read_table(path):
    """-> [(name, split)]; columns as `crocuta import` takes them: a header, or sequence, label, split"""
    rows, at = [], {"sequence": 0, "split": 2}
    for number, line in enumerate(open(path), 1):
        fields = line.rstrip("\r\n").split("\t")
        if not line.strip():
            continue
        if not rows and fields[0].lstrip("#").lower() in ("sequence", "name", "chromosome", "split", "label", "species", "locus"):
            at = {("sequence" if f.lstrip("#").lower() in ("name", "chromosome") else f.lstrip("#").lower()): i for i, f in enumerate(fields)}
            continue
        if "split" not in at or "sequence" not in at or len(fields) <= max(at["split"], at["sequence"]) or fields[at["split"]].lower() not in SPLITS:
            fail(f"{path}:{number}: no split; write sequence<TAB>label<TAB>split with train, valid or test")
        rows.append((fields[at["sequence"]], SPLITS[fields[at["split"]].lower()]))
    return rows


def read_fasta(paths):
    """-> {name: codes}"""
    found = {}
    for path in paths:
        raw = open(path, "rb").read()
        if raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
        for record in raw.split(b">")[1:]:
            head, _, letters = record.partition(b"\n")
            text = letters.translate(None, b"\r\n \t")
            found[head.split()[0].decode()] = CODE[numpy.frombuffer(text, numpy.uint8)]
    return found


def read(table, paths):
    """-> {split: [(name, codes)]}, as the import of the same table has them"""
    sequences, splits = read_fasta(paths), {"train": [], "valid": [], "test": []}
    for name, split in read_table(table):
        stem, _, part = name.rpartition(":")
        low, _, high = part.partition("-")
        if name in sequences:
            splits[split].append((name, sequences[name]))
        elif stem in sequences and low.isdigit() and high.isdigit() and 1 <= int(low) <= int(high) <= len(sequences[stem]):
            splits[split].append((name, sequences[stem][int(low) - 1 : int(high)]))
        else:
            print(f"crocuta: warning: {name} of the table is in no file; ignored", file=sys.stderr)
    return splits


def words(codes, order):
    """word of `order` bases and the next one for each place (the next one is the last digit), and which of them are known"""
    word, known = codes.astype(numpy.int64), codes < OTHER
    for back in range(1, order + 1):
        before = numpy.full(len(codes), OTHER, numpy.int64)
        before[back:] = codes[:-back] if back < len(codes) else OTHER
        known &= before < OTHER
        word += before << (2 * back)
    return word, known


class Counts:
    """how often each base follows each word of `order`"""

    def __init__(self, texts, order):
        found = []
        for codes in texts:
            word, known = words(codes, order)
            found.append(word[known])
        all_words = numpy.concatenate(found) if found else numpy.zeros(0, numpy.int64)
        self.dense = order < DENSE
        if self.dense:
            self.table = numpy.bincount(all_words, minlength=4 ** (order + 1)).reshape(-1, 4).astype(numpy.float32)
            self.contexts = int((self.table.sum(1) > 0).sum())
        else:
            seen, number = numpy.unique(all_words, return_counts=True)
            self.key, first = numpy.unique(seen >> 2, return_index=True)
            self.table = numpy.zeros((len(self.key) + 1, 4), numpy.float32)  # the last row: never seen
            self.table[numpy.searchsorted(self.key, seen >> 2), seen & 3] = number
            self.contexts = len(self.key)

    def rows(self, word):
        if self.dense:
            return self.table[word >> 2]
        at = numpy.minimum(numpy.searchsorted(self.key, word >> 2), len(self.key) - 1)
        return self.table[numpy.where(self.key[at] == word >> 2, at, len(self.key))]


class Text:
    """a split's bases and what the orders so far say of each"""

    def __init__(self, sequences):
        self.codes = [codes for _, codes in sequences]
        self.p = [numpy.full((len(c), 4), 0.25) for c in self.codes]
        self.blocks = 0
        starts = []
        for c in self.codes:
            starts.append(self.blocks + numpy.arange(len(c)) // BLOCK)
            self.blocks += (len(c) + BLOCK - 1) // BLOCK
        self.block = numpy.concatenate([s[c < OTHER] for s, c in zip(starts, self.codes)]) if self.codes else numpy.zeros(0, int)

    def look(self, counts, order):
        """rows of counts at each place; zeros where the word is not known"""
        self.n = []
        for c in self.codes:
            word, known = words(c, order)
            n = numpy.zeros((len(c), 4), numpy.float32)
            n[known] = counts.rows(word[known])
            self.n.append(n)

    def mixed(self, alpha):
        return [(n + alpha * p) / (n.sum(1, keepdims=True) + alpha) for n, p in zip(self.n, self.p)]

    def judge(self, p):
        """loss in nats, its standard error over blocks, accuracy, targets"""
        loss = numpy.concatenate([-numpy.log(q[numpy.arange(len(c))[c < OTHER], c[c < OTHER]]) for q, c in zip(p, self.codes)])
        right = sum(int((q[c < OTHER].argmax(1) == c[c < OTHER]).sum()) for q, c in zip(p, self.codes))
        top, bottom = numpy.bincount(self.block, loss, self.blocks), numpy.bincount(self.block, minlength=self.blocks)
        groups, mean = int((bottom > 0).sum()), loss.mean()
        error = math.sqrt(((top - mean * bottom) ** 2).sum() * groups / (groups - 1)) / len(loss) if groups > 1 else None
        return {"loss": float(mean), "se_blocks": error, "bits_per_base": float(mean / math.log(2)), "accuracy": right / len(loss), "targets": len(loss), "n_blocks": groups}


def run(splits, orders, both, alphas):
    """-> [{order, alpha, contexts, valid{}, test{}}]"""
    texts = [codes for _, codes in splits["train"]]
    if both:  # the complement of A C G T is T G C A: 3 minus the code
        texts = texts + [numpy.where(c < OTHER, 3 - c, OTHER)[::-1].astype(numpy.uint8) for c in texts]
    judged = {s: Text(splits[s]) for s in ("valid", "test") if splits[s]}
    results = []
    for order in range(orders + 1):
        counts = Counts(texts, order)
        for text in judged.values():
            text.look(counts, order)
        if alphas:
            alpha = alphas[min(order, len(alphas) - 1)]
        else:
            alpha = min(GRID, key=lambda a: judged["valid"].judge(judged["valid"].mixed(a))["loss"])
        row = {"order": order, "alpha": alpha, "contexts": counts.contexts}
        for split, text in judged.items():
            text.p = text.mixed(alpha)
            row[split] = text.judge(text.p)
        results.append(row)
        print("{:5d} {:9g} {:10d}".format(order, alpha, counts.contexts) + "".join(
            "   {loss:.4f} +- {0:.4f} {bits_per_base:.4f} {accuracy:6.2%}".format(row[s]["se_blocks"] or math.nan, **row[s]) for s in judged), flush=True)
    return results


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("-m", "--map", required=True)
    a.add_argument("-o", "--output")
    a.add_argument("--orders", type=int, default=12)
    a.add_argument("--one-strand", action="store_true")
    a.add_argument("--hide-masked", action="store_true")
    a.add_argument("--alpha", help="numbers separated by commas, order 0 first")
    a.add_argument("fasta", nargs="+")
    o = a.parse_args()
    if o.hide_masked:
        CODE[ord("a") : ord("z") + 1] = OTHER
    try:
        splits = read(o.map, o.fasta)
    except OSError as e:
        fail(f"{e.filename}: {e.strerror}; check the name")
    if not splits["train"] or not (splits["valid"] or splits["test"]):
        fail(f"{o.map}: no sequence of the files trains, or none is judged; give train and valid sequences")
    if not splits["valid"] and not o.alpha:
        fail(f"{o.map}: without valid sequences nothing can be chosen; add some, or give --alpha")
    print("order     alpha   contexts" + "".join(f"   {s}: nats, +- over blocks, bits, accuracy" for s in ("valid", "test") if splits[s]))
    orders = run(splits, o.orders, not o.one_strand, [float(x) for x in o.alpha.split(",")] if o.alpha else None)
    judged = "valid" if splits["valid"] else "test"
    best = min(orders, key=lambda r: r[judged]["loss"])
    bits = best["test" if splits["test"] else "valid"]["bits_per_base"]
    print(f"least {judged} loss: order {best['order']}; {bits:.4f} bits a base on {'test' if splits['test'] else 'valid'}: a megabase in {bits * 125:.1f} kB instead of 250, {100 * (1 - bits / 2):.1f} % less")
    if o.output:
        with open(o.output, "w") as f:
            json.dump({"schema": "crocuta/markov/1", "both_strands": not o.one_strand, "train_bases": int(sum((c < OTHER).sum() for _, c in splits["train"])), "chosen": best["order"], "orders": orders}, f, indent=1)
            f.write("\n")


if __name__ == "__main__":
    main()
