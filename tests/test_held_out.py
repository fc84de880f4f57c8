#!/usr/bin/env python3
"""A region that training leaves out stays unknown: its sites' rows in the site head are the log-odds of everybody, the same
for every class, and nothing else; those of other sites differ by class. Read from an exported model."""
import json
import math
import os
import struct
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from training import CONFIG, check, done, end, run

HEAD = (CONFIG.replace("seq_len: 64", "seq_len: 64, absent: sums")
        .replace("embed_dropout: 0.1", "embed_dropout: 0.0, head: class-conditional, head_rank: 4, residual_init: 0.1")
        .replace("alpha: 100, rank: 4", "alpha: 1, rank: 4, rows: site"))


def tensor(f, header, start, name):
    x = header[name]
    a, b = x["data_offsets"]
    f.seek(start + a)
    form = {"F32": "f", "I64": "q", "I32": "i"}[x["dtype"]]
    return x["shape"], struct.unpack(f"<{(b - a) // struct.calcsize(form)}{form}", f.read(b - a))


def site_rows(path):
    """{site: its row}, number of sites on each chromosome"""
    with open(path, "rb") as f:
        size = struct.unpack("<Q", f.read(8))[0]
        header = json.loads(f.read(size))
        last = max(int(n.split(".")[1]) for n in header if n.endswith(".rows"))
        _, rows = tensor(f, header, 8 + size, f"position.{last}.rows")
        (_, k), values = tensor(f, header, 8 + size, f"position.{last}.values")
        chromosomes = json.loads(header["__metadata__"]["crocuta_sites"])["chromosomes"]
    return {r: values[i * k:(i + 1) * k] for i, r in enumerate(rows)}, [c["sites"] for c in chromosomes]


def main():
    with tempfile.TemporaryDirectory() as tmp:
        config, out, exported = (os.path.join(tmp, n) for n in ("c.yaml", "run", "m.safetensors"))
        open(config, "w").write(HEAD)
        done("training without chromosome 21", run("finetune", config, "--from", "none", "-o", out, "-q", "--threads", 1, "data.exclude=21:1-48129895"))
        done("export", run("checkpoint", "export", out, "-o", exported))
        rows, sites = site_rows(exported)
        check("every site has a row", len(rows) == sum(sites), (len(rows), sites))
        unknown = range(sites[0], sites[0] + sites[1])
        check("no state or run counts at unknown sites", all(not any(rows[s][:8]) for s in unknown))
        check("classes are alike at unknown sites", all(rows[s][8] == rows[s][9] == rows[s][10] for s in unknown))
        check("log-odds are counted there", len({rows[s][8] for s in unknown}) > 20 and all(math.isfinite(rows[s][8]) for s in unknown))
        known = [s for s in rows if s not in unknown]
        check("classes differ elsewhere", sum(len(set(rows[s][8:11])) > 1 for s in known) > 0.9 * len(known))
        check("states count elsewhere", all(any(rows[s][:8]) for s in known))
    end()


main()
