# What odd data must not do: half-missing genotypes make no NaN of the site head, unphased people are not judged by haplotypes,
# a site head of another rank or of other labels is not taken for this one, a label that nobody trains is said.
import os
import random
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from training import check, done, end, lines, losses, refused, run

CONFIG = """\
data: {path: phased.h5, seq_len: 16, absent: sums}
model: {d_model: 8, n_layer: 1, d_inner: 16, l_max: 18, filter_order: 8, emb_dim: 3, head: class-conditional, head_rank: 4}
position: {encoding: fpe, alpha: 1, rank: 4, rows: site}
train: {steps: 4, tokens_per_step: 256, eval_every: 0}
finetune: {steps: 4, lr: 1.0e-9, head_hidden: 4}
optimizer: {rows_lr: 1.0e-9}
"""


def genotype(share, between, half):
    a = [str(int(random.random() < share)) for _ in range(2)]
    if random.random() < half:
        a[random.randrange(2)] = "."
    return between.join(a)


def data(folder, name, labels=("AFR", "EAS", "EUR"), between="|", half=0.0, first=10000):
    random.seed(3)
    people = [f"P{i:02d}" for i in range(36)]
    with open(os.path.join(folder, name + ".tsv"), "w") as f:
        f.writelines(f"{p}\t{labels[i % 3]}\n" for i, p in enumerate(people))
    with open(os.path.join(folder, name + ".vcf"), "w") as f:
        f.write("##fileformat=VCFv4.2\n##contig=<ID=1,length=249250621>\n" + "\t".join("#CHROM POS ID REF ALT QUAL FILTER INFO FORMAT".split() + people) + "\n")
        for k in range(120):
            calls = [genotype(0.2 + 0.4 * (k % 3 == i % 3), between, half) for i in range(36)]
            f.write("\t".join(["1", str(first + 700 * k), ".", "A", "C", ".", "PASS", ".", "GT"] + calls) + "\n")
    done("import " + name, run("import", "-m", name + ".tsv", "-o", name + ".h5", "--split", "0.6,0.15,0.25", name + ".vcf", cwd=folder))


def half_missing(folder):
    """At most sites of every label more people carry an allele than have a whole call."""
    data(folder, "half", half=0.9)
    done("half-missing training", run("finetune", "c.yaml", "--from", "none", "-o", "half", "data.path=half.h5", cwd=folder))
    done("half-missing pretraining", run("pretrain", "c.yaml", "-o", "half-pre", "data.path=half.h5", "objective=next-site", cwd=folder))
    for name in ("half", "half-pre"):
        check("losses of " + name, len(losses(os.path.join(folder, name))) == 4, losses(os.path.join(folder, name)))


def unphased(folder):
    data(folder, "unphased", between="/")
    done("both haplotypes", run("finetune", "c.yaml", "--from", "none", "-o", "both", "data.alleles=both", cwd=folder))
    ask = ("--context", "16", "--bootstrap", "20")
    refused("unphased people, judged by haplotypes", run("evaluate", "both", "unphased.h5", "-o", "e1", *ask, cwd=folder), 3, "unphased heterozygous calls", "unphased.h5")
    check("nothing is left of it", not os.path.exists(os.path.join(folder, "e1")))
    done("phased people", run("evaluate", "both", "phased.h5", "-o", "e2", *ask, cwd=folder))
    done("dropped on request", run("finetune", "c.yaml", "--from", "none", "-o", "drop", "data.path=unphased.h5", "data.alleles=both", "data.unphased=drop", cwd=folder))
    done("dropped on request, judged", run("evaluate", "drop", "unphased.h5", "-o", "e3", *ask, cwd=folder))


def other_sites(folder):
    """The same people and as many sites at other positions: the rows of a model by site belong to none of them."""
    data(folder, "here")
    data(folder, "there", first=10001)
    done("trained here", run("finetune", "c.yaml", "--from", "none", "-o", "sites", "data.path=here.h5", cwd=folder))
    refused("evaluated there", run("evaluate", "sites", "there.h5", "-o", "e-sites", "--context", "16", cwd=folder), 3, "another data set", "there.h5")
    refused("started from there", run("finetune", "c.yaml", "--from", "sites", "-o", "sites-2", "data.path=there.h5", cwd=folder), 2, "other sites", "there.h5")
    os.replace(os.path.join(folder, "there.h5"), os.path.join(folder, "here.h5"))
    refused("resumed there", run("finetune", "c.yaml", "--from", "none", "-o", "sites", "--resume", "data.path=here.h5", "finetune.steps=6", cwd=folder), 2, "another data set", "here.h5")


def first_loss(folder, source, name, *more):
    r = run("finetune", "c.yaml", "--from", source, "-o", name, *more, cwd=folder)
    done(name, r)
    return losses(os.path.join(folder, name))[1], r


def other_heads(folder):
    """Learning rates are next to nothing, so that a loss is that of the values at the start."""
    done("pretraining", run("pretrain", "c.yaml", "-o", "pre", "objective=next-site", "model.head_rank=4", "optimizer.lr=1e-2", "optimizer.rows_lr=0.1", cwd=folder))
    # (2 * 4 + 1) numbers a row there and (2 * 3 + 3) here: as many, and others
    for rank in (2, 3, 8):
        anew, _ = first_loss(folder, "none", f"none-{rank}", f"model.head_rank={rank}")
        got, r = first_loss(folder, "pre", f"pre-{rank}", f"model.head_rank={rank}")
        check(f"rank {rank} begins anew", abs(got - anew) < 0.05, (got, anew))
        check(f"rank {rank} is said", any("head_rank" in w for w in lines(r, "warning")), r.stderr)
    _, r = first_loss(folder, "pre", "pre-4")
    check("the same rank goes on", not lines(r, "warning"), r.stderr)

    # The same people by other names, so that the first label becomes the last: biases are counted anew.
    data(folder, "turned", labels=("Z", "Y", "X"))
    done("to begin with", run("finetune", "c.yaml", "--from", "none", "-o", "trained", "optimizer.rows_lr=0.1", "finetune.lr=1e-2", "finetune.steps=60", cwd=folder))
    anew, _ = first_loss(folder, "none", "turned-none", "data.path=turned.h5")
    got, _ = first_loss(folder, "trained", "turned-from", "data.path=turned.h5")
    again, _ = first_loss(folder, "trained", "again")
    check("other labels", got < anew + 0.3, (got, anew))
    check("the same labels go on", again < anew - 0.3, (again, anew))


def nobody(folder):
    r = run("finetune", "c.yaml", "--from", "none", "-o", "few", "data.train_people=2", cwd=folder)
    done("two people, three labels", r)
    check("a label without anybody is said", any("no training people" in w for w in lines(r, "warning")), r.stderr)
    r = run("finetune", "c.yaml", "--from", "none", "-o", "enough", "data.train_people=3", cwd=folder)
    check("nothing to say", not lines(r, "warning"), r.stderr)
    refused("everything left out", run("finetune", "c.yaml", "--from", "none", "-o", "out", "data.exclude=1", cwd=folder), 3, "data.exclude")


with tempfile.TemporaryDirectory() as folder:
    with open(os.path.join(folder, "c.yaml"), "w") as f:
        f.write(CONFIG)
    data(folder, "phased")
    half_missing(folder)
    unphased(folder)
    other_sites(folder)
    other_heads(folder)
    nobody(folder)
end()
