#!/usr/bin/env python3
# labels: hostcuda
"""The published model's golden values (shared/reference/golden, where it is there) from CUDA's kernels: hidden states, loss,
every gradient, and the losses and gradient norms of AdamW's first steps. The larger published model takes a CPU a minute and
a half; it is compared where CROCUTA_GOLDEN_ALL is set."""
import os
import sys
import tempfile

try:
    import h5py
    import numpy as np
except ImportError:
    print("skipped: Python's h5py is not installed (./launch/setup --python brings it)")
    sys.exit(77)

SOURCE = os.environ["CROCUTA_SOURCE"]
sys.path.insert(0, os.path.join(SOURCE, "tests"))
from training import check, done, end, run

GOLDEN = os.path.join(os.environ.get("CROCUTA_SHARED", os.path.join(SOURCE, "..", "shared")), "reference", "golden")
STEPS = 3
BOUND = {"hidden": 2e-6, "logits": 2e-6, "loss": 1e-6, "grad": 1e-5, "adamw_loss": 1e-5, "adamw_grad_norm": 1e-5}
NAMES = ["hyenadna-d32-n2-l128"] + (["hyenadna-tiny-1k"] if os.environ.get("CROCUTA_GOLDEN_ALL") else [])


def relative(a, b):
    a, b = np.asarray(a, float), np.asarray(b, float)
    return np.linalg.norm(a - b) / np.linalg.norm(b) if a.shape == b.shape else np.inf


def compare(name, out):
    with h5py.File(f"{GOLDEN}/{name}.golden.h5") as golden, h5py.File(out) as ours:
        keys = ["hidden", "logits", "loss", "adamw_loss", "adamw_grad_norm"] + [f"grad/{k}" for k in golden["grad"]]
        for key in keys:
            want = golden[key][()]
            error = relative(ours[key][()], want[:STEPS] if key.startswith("adamw") else want)
            check(f"{name}: {key}", error <= BOUND[key.split("/")[0]], f"relative error {error:.1e}")


if not os.path.isdir(GOLDEN):
    print(f"skipped: no golden values in {GOLDEN}")
    sys.exit(77)
with tempfile.TemporaryDirectory() as folder:
    for name in NAMES:
        out = os.path.join(folder, "out.h5")
        done(name, run("trace", f"{GOLDEN}/{name}.safetensors", f"{GOLDEN}/{name}.golden.h5", "-o", out, "--force",
                       "--optimizer-steps", STEPS, "--device", "cuda", "--threads", 1,
                       env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}))
        if os.path.exists(out):
            compare(name, out)
end()
