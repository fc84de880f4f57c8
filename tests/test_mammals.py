# The study of length end to end on invented species: parts held out, Markov models, two contexts, species from two lengths,
# the tables with their rows; nothing done twice, what was cut goes on. It says nothing about any genome.
import os
import random
import subprocess
import sys
import tempfile

SOURCE, CROCUTA = os.environ["CROCUTA_SOURCE"], os.environ["CROCUTA"]
if subprocess.run([sys.executable, "-c", "import numpy"], capture_output=True).returncode:
    print("skipped: needs numpy (./launch/setup --python)")
    sys.exit(77)


def study(folder, out, species="64 512", code=0):
    r = subprocess.run(["bash", os.path.join(SOURCE, "experiments", "mammals-length.sh"), folder, out, "--small", "--contexts", "64 256", "--species", species, "train.steps=4",
                        "train.eval_every=2", "train.eval_windows=4", "model.d_model=16", "model.d_inner=16"],
                       capture_output=True, text=True, env={**os.environ, "PYTHON": sys.executable, "CROCUTA": CROCUTA})
    assert r.returncode == code, r.stdout + r.stderr
    return r.stdout if code == 0 else r.stderr


with tempfile.TemporaryDirectory() as tmp:
    rng, folder, out = random.Random(4), os.path.join(tmp, "fasta"), os.path.join(tmp, "out")
    os.mkdir(folder)
    for species in ("ant", "bee"):
        text = lambda n: "".join(rng.choice("ACGT" + species[0].upper().replace("B", "C")) for _ in range(n))
        plain = f">{species}|ENm001|1 of it\n{text(50001)}\n>{species}|ENm002|1 of it\n{text(13000)}\n>{species}|other\nACGT\n"
        subprocess.run(["gzip", "-c"], input=plain.encode(), stdout=open(os.path.join(folder, species + ".fa.gz"), "wb"), check=True)
    said = study(folder, out)
    table = open(os.path.join(out, "mammals.tsv")).read().splitlines()
    assert table[:3] == ["ant|ENm001|1:1-45905\tant\ttrain\tENm001", "ant|ENm001|1:45906-50001\tant\tvalid\tENm001", "ant|ENm002|1:1-12288\tant\ttest\tENm002"] and len(table) == 6, table
    page = open(os.path.join(out, "table.md")).read()
    for row in ("| model, context 64 |", "| model, context 256 |", "| Markov, order 6", "| 128 to 255 |", "| 512 | test | model, finetuned |", "| 64 | valid | model, own |", "| 512 | test | model of 64, own, pieces |", "| 512 | valid | 4-mers, logistic regression |",
                "| 512 | test | model, finetuned, minus 4-mers, paired |", "| 512 | test | model of 64, finetuned, pieces |"):
        assert row in page, (row, page)
    assert page in said
    again = study(folder, out)
    assert "learn" not in again and page in again, again

    os.remove(os.path.join(out, "context-64", "done"))
    again = study(folder, out)
    assert again.count("learn") == 1 and page in again and " --resume" in open(os.path.join(out, "context-64.log")).read(), again
    assert "64 512, not 512" in study(folder, out, "512", code=2)
print("0 failed")
