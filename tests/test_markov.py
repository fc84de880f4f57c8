# Markov models by counting: a chain counted by hand, parts of sequences as the import takes them, both strands, what is
# chosen, and one line for what cannot be.
import json
import math
import os
import subprocess
import sys
import tempfile

SOURCE = os.environ.get("CROCUTA_SOURCE", os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
SCRIPT = os.path.join(SOURCE, "experiments", "markov.py")
python = next((p for p in (os.path.join(SOURCE, "build/venv/bin/python"), sys.executable)
               if os.path.exists(p) and subprocess.run([p, "-c", "import numpy"], capture_output=True).returncode == 0), None)
if python is None:
    print("skipped: needs numpy (./launch/setup --python)")
    sys.exit(77)


def run(folder, table, fasta, *more, code=0):
    for name, text in (("t.tsv", table), ("x.fa", fasta)):
        with open(os.path.join(folder, name), "w") as f:
            f.write(text)
    r = subprocess.run([python, SCRIPT, "-m", "t.tsv", "-o", "out.json", *more, "x.fa"], cwd=folder, capture_output=True, text=True)
    assert r.returncode == code, (r.returncode, r.stdout, r.stderr)
    if code:
        assert r.stderr.count("\n") == 1 and r.stderr.startswith("crocuta: error: "), r.stderr
        return r.stderr
    return json.load(open(os.path.join(folder, "out.json")))


def near(what, got, wanted):
    assert abs(got - wanted) < 1e-6, (what, got, wanted)


with tempfile.TemporaryDirectory() as folder:
    # train ACAC (twice A, twice C; A is followed by C twice, C by A once), judged ACG, alpha 1 in both orders
    table, fasta = "x:3-6\tA\ttrain\ny\tA\ttest\n", ">x of it\nGG\nac\nAC\nTT\n>y\nACG\n"
    zero, one, two = run(folder, table, fasta, "--orders", "2", "--alpha", "1", "--one-strand")["orders"]
    a, g = (2 + 1 / 4) / 5, (0 + 1 / 4) / 5
    near("order 0", zero["test"]["loss"], -(2 * math.log(a) + math.log(g)) / 3)
    c_after_a, g_after_c = (2 + a) / 3, (0 + g) / 2
    near("order 1", one["test"]["loss"], -(math.log(a) + math.log(c_after_a) + math.log(g_after_c)) / 3)
    near("order 2", two["test"]["loss"], -(math.log(a) + math.log(c_after_a) + math.log(g_after_c / 2)) / 3)  # AC was followed by A
    near("bits", one["test"]["bits_per_base"], one["test"]["loss"] / math.log(2))
    near("accuracy", one["test"]["accuracy"], 2 / 3)
    assert (one["contexts"], two["contexts"], one["test"]["targets"], one["test"]["se_blocks"]) == (2, 2, 3, None), one

    # both strands: ACAC and GTGT, so that all four are alike
    zero = run(folder, table, fasta, "--orders", "0", "--alpha", "1")["orders"][0]
    near("both strands", zero["test"]["loss"], math.log(4))

    # N is neither counted nor predicted, and behind it nothing is known
    r = run(folder, "x\tA\ttrain\ny\tA\ttest\n", ">x\nACNAC\n>y\nNANC\n", "--orders", "1", "--alpha", "1", "--one-strand")["orders"][1]
    near("behind N", r["test"]["loss"], -math.log((2 + 1 / 4) / 5))
    assert r["test"]["targets"] == 2 and r["contexts"] == 1

    # lower case hidden: of ACac the first two, and no word goes over what is hidden
    r = run(folder, "x\tA\ttrain\ny\tA\ttest\n", ">x\nACacA\n>y\nAaC\n", "--orders", "1", "--alpha", "1", "--one-strand", "--hide-masked")["orders"][1]
    near("hidden", r["test"]["loss"], -(math.log((2 + 1 / 4) / 4) + math.log((1 + 1 / 4) / 4)) / 2)

    # a text that repeats itself: the high orders, dense and sparse, are sure of it, and little alpha is chosen
    word = "ACGTTGCAAGGCTATTCCAG"
    r = run(folder, "x\tA\ttrain\nv\tA\tvalid\ny\tA\ttest\n", f">x\n{word * 300}\n>v\n{word * 9}\n>y\n{word * 12}\n", "--orders", "12")
    assert r["chosen"] >= 7 and all(o["test"]["loss"] < 0.02 and o["test"]["accuracy"] > 0.99 for o in r["orders"][7:]), r
    assert r["orders"][12]["alpha"] < 1 and r["train_bases"] == 6000, r["orders"][12]

    assert "valid" in run(folder, "x\tA\ttrain\ny\tA\ttest\n", ">x\nAC\n>y\nA\n", code=3)
    assert "t.tsv:1" in run(folder, "x\tA\tlearn\n", ">x\nAC\n", code=3)
print("0 failed")
