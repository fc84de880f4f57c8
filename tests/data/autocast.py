#!/usr/bin/env python3
"""How far PyTorch's autocast to bf16 is from fp64, tensor by tensor: the figures that tests/hostcuda/test_mixed.c holds
train.precision: mixed against. Needs torch, h5py, safetensors and numpy, the PyTorch peer and the golden files:

    python tests/data/autocast.py SHARED > tests/data/autocast.txt

The peer has two forms of the same mathematics; each tensor's figure is the better one's. Residuals are named as the
tensors that the model keeps: `layers.0.in`, `layers.0.middle` (into the MLP), ..., `residual`."""
import argparse
import os
import sys

import h5py
import numpy as np
import torch
from safetensors import safe_open

shared, name = sys.argv[1], "hyenadna-d32-n2-l128"
sys.path.insert(0, os.path.join(shared, "peer"))
import hyena_torch as peer  # noqa: E402

file = os.path.join(shared, "reference", "golden", name)


def evaluate(ops, dtype):
    """Every tensor of one forward and backward pass."""
    opt = argparse.Namespace(mixer="hyena", dropout=0.0, ops=ops, fft="smooth", checkpoint=False, dtype="bf16" if dtype == "bf16" else "fp32")
    with safe_open(file + ".safetensors", "pt") as f:
        meta, weights = f.metadata(), {k.removeprefix("backbone."): f.get_tensor(k) for k in f.keys()}
    opt.shift = float(meta["filter_shift"])
    model = peer.Model(int(meta["d_model"]), int(meta["n_layer"]), int(meta["l_max"]), opt)
    with torch.no_grad():
        for key, p in model.named_parameters():
            p.copy_(weights[key])
    if dtype == "fp64":
        model = model.double()
    seen = {}

    def see(module, key):
        module.register_forward_hook(lambda m, given, out: seen.__setitem__(key, given[0].detach()))

    for i, block in enumerate(model.layers):
        see(block["norm1"], f"layers.{i}.in")
        see(block["norm2"], f"layers.{i}.middle")
    see(model.ln_f, "residual")
    with h5py.File(file + ".golden.h5") as h:
        ids, target = (torch.from_numpy(h[k][...].astype("i8")) for k in ("input_ids", "target_ids"))
    loss, logits, hidden = peer.loss_of(model, ids, target, opt)
    if dtype == "fp64":  # loss_of goes through fp32
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten())
    loss.backward()
    seen.update(loss=loss.detach(), logits=logits.detach(), hidden=hidden.detach())
    seen.update(("grad/" + key, p.grad) for key, p in model.named_parameters())
    return {k: np.asarray(v.float() if v.dtype == torch.bfloat16 else v, dtype=np.float64) for k, v in seen.items()}


torch.set_num_threads(1)
exact = evaluate("plain", "fp64")
print(f"# {name}, relative L2 distance from fp64 of PyTorch {torch.__version__.split('+')[0]}, autocast to bfloat16 on a CPU; by tests/data/autocast.py")
forms = [evaluate(ops, "bf16") for ops in ("plain", "tuned")]
for key, want in exact.items():
    errors = [np.linalg.norm(x[key] - want) / np.linalg.norm(want) for x in forms]
    print(f"{min(errors):.3e} {key}")
