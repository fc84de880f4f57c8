#!/usr/bin/env python3
"""Time and memory of a training step against length: runs `crocuta bench` at doubling lengths, and prints a table.

    length_cost.py [--crocuta PATH] [--preset large-1m] [--from 1024] [--to 1048576] [--threads 2] [--device cpu] [--picture PNG] [key=value ...]

Each length is one sequence. The table is tab-separated; with --picture two panels are drawn: seconds of a million tokens, and memory above start-up.
"""
import argparse
import json
import os
import subprocess
import sys

COLUMNS = ["length", "recompute", "step_s", "tokens_per_s", "memory_gib", "bytes_per_token", "fraction_of_floor", "fft_share"]


def bench(a, length):
    """One row of the table, or None where the length is refused."""
    command = [a.crocuta, "bench", a.preset, "--batch", "1", "--seq-len", str(length), "--device", a.device, "--json"]
    own = [] if any(k.startswith("model.l_max=") for k in a.keys) else [f"model.l_max={max(a.to, length) + 2}"]
    r = subprocess.run(command + ["--threads", str(a.threads)] + own + a.keys, capture_output=True, text=True)
    if r.returncode:
        print(r.stderr.strip(), file=sys.stderr)
        return None
    b = json.loads(r.stdout)
    memory = b["peak_bytes"] - b["start_bytes"]
    return dict(zip(COLUMNS, [length, b["recompute"], b["step_ms"] / 1e3, b["tokens_per_s"], memory / 2**30, memory / length, b["fraction_of_floor"], b["share"]["fft"]]))


def draw(rows, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
    lengths = [r["length"] for r in rows]
    left.plot(lengths, [1e6 / r["tokens_per_s"] for r in rows], "o-", color="#1f5a99")
    left.set_ylabel("seconds of a million tokens")
    left.set_ylim(0, 1.1 * max(1e6 / r["tokens_per_s"] for r in rows))
    for level, mark in (("none", "s"), ("selected", "o"), ("all", "^")):
        some = [r for r in rows if r["recompute"] == level]
        if some:
            right.plot([r["length"] for r in some], [r["memory_gib"] for r in some], mark + "-", label=f"recompute {level}")
    right.set_ylabel("GiB above start-up")
    right.set_yscale("log", base=2)
    right.legend(frameon=False)
    for axis in (left, right):
        axis.set_xscale("log", base=2)
        axis.set_xlabel("tokens of a sequence")
        axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("keys", nargs="*", metavar="key=value")
    p.add_argument("--crocuta", default="build/release/launch/crocuta")
    p.add_argument("--preset", default="large-1m")
    p.add_argument("--from", dest="least", type=int, default=1024)
    p.add_argument("--to", type=int, default=1 << 20)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--device", default="cpu")
    p.add_argument("--picture")
    a = p.parse_args()
    print("\t".join(COLUMNS), flush=True)
    rows, length = [], a.least
    while length <= a.to:
        row = bench(a, length)
        if row is None:
            break
        rows.append(row)
        print("\t".join(v if isinstance(v, str) else f"{v:.5g}" if isinstance(v, float) else str(v) for v in row.values()), flush=True)
        length *= 2
    if a.picture and rows:
        draw(rows, a.picture)
    return 0 if rows and rows[-1]["length"] * 2 > a.to else 1


if __name__ == "__main__":
    sys.exit(main())
