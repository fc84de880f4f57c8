#!/usr/bin/env python3
"""The house stands: includes point down, foreign headers stay in their rooms, files keep to one subject, and nothing in
the tree speaks of unfinished work. A planted fault of each kind must be found, or this test is worth nothing."""
import os
import re
import subprocess
import sys

FLOORS = ["runtime/core", "kernels", "comm", "io", "model", "runtime/train", "experiments", "launch"]  # ground to roof
HEADERS = {  # who may include what
    "mpi.h": {"comm", "io", "runtime/core", "runtime/train", "launch", "tests"},
    "hdf5.h": {"io", "tests"},
    "nccl.h": {"comm", "tests"},
    "cuda_runtime.h": {"kernels", "comm", "tests"},
    "cuda_bf16.h": {"kernels", "tests"},
    "cufft.h": {"kernels", "tests"},
    "cublas_v2.h": {"kernels", "tests"},
    "cblas.h": {"kernels", "tests"},
    "fftw3.h": {"kernels", "tests"},
    "yaml.h": {"runtime/core"},
}
GPU_HEADERS = {"cuda_runtime.h", "cuda_bf16.h", "cufft.h", "cublas_v2.h", "kernels/cuda/cuda.h", "kernels/cuda/launch.cuh"}
MOST_LINES = 600
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|not implemented|placeholder", re.I)
C_FILE = (".c", ".h", ".cu", ".cuh", ".cpp")


def floor_of(path):
    for name in sorted(FLOORS, key=len, reverse=True):
        if path.startswith(name + "/"):
            return name
    return path.split("/")[0]


def faults(path, text):
    """What is wrong with one C file, a line each."""
    here = floor_of(path)
    if text.count("\n") > MOST_LINES:
        yield f"{path}: {text.count(chr(10))} lines; split it by subject"
    if not text.lstrip().startswith("/*"):
        yield f"{path}:1: does not open with a comment on its subject"
    for number, line in enumerate(text.split("\n"), 1):
        if UNFINISHED.search(line):
            yield f"{path}:{number}: unfinished: {line.strip()[:60]}"
        found = re.match(r'\s*#\s*include\s*([<"])([^">]+)[">]', line)
        if not found:
            continue
        included = found.group(2)
        allowed = HEADERS.get(included)
        if allowed and here not in allowed:
            yield f"{path}:{number}: {included} belongs to {', '.join(sorted(allowed))}"
        there = floor_of(included)
        if here in FLOORS and there in FLOORS and FLOORS.index(there) > FLOORS.index(here):
            yield f"{path}:{number}: {here} includes {included} of {there}: upward"
        if path.endswith(".cpp") and here != "tests":
            yield f"{path}: C++ is for kernels (.cu) and tests"
        if included in GPU_HEADERS and here == "kernels" and not path.startswith("kernels/cuda/"):
            yield f"{path}:{number}: {included} belongs to kernels/cuda"
        if included in ("cuda_runtime.h", "nccl.h", "comm/device/device.h") and here == "comm" and not path.startswith(("comm/device/", "comm/nccl/")):
            yield f"{path}:{number}: {included} belongs to comm/device and comm/nccl"
        if here in FLOORS and there == "tests":
            yield f"{path}:{number}: the program includes a test's header"
        generated = included == "version_commit.h"
        if here in FLOORS and found.group(1) == '"' and "/" not in included and not generated:
            yield f"{path}:{number}: {included} is not named from the root"


def planted():
    """Each fault once, and clean files; returns what was judged wrongly."""
    wrong = []
    for path, text, bad in [
        ("kernels/a.c", '/* a */\n#include "model/model.h"\n', True),
        ("runtime/core/a.c", '/* a */\n#include "comm/comm.h"\n', True),
        ("runtime/train/a.c", '/* a */\n#include "launch/cli.h"\n', True),
        ("comm/a.c", '/* a */\n# include "io/dataset.h"\n', True),
        ("model/a.c", "/* a */\n#include <hdf5.h>\n", True),
        ("kernels/cpu/a.c", "/* a */\n#include <mpi.h>\n", True),
        ("io/a.c", '/* a */\n#include "dataset.h"\n', True),
        ("io/a.c", "int x;\n", True),
        ("io/a.c", "/* a */\n/* TO" + "DO: mend */\n", True),
        ("io/a.c", "/* a */\n" * (MOST_LINES + 1), True),
        ("launch/a.c", '/* a */\n#include "tests/small.h"\n', True),
        ("kernels/a.c", "/* a */\n#include <cuda_runtime.h>\n", True),
        ("kernels/cpu/a.c", '/* a */\n#include "kernels/cuda/cuda.h"\n', True),
        ("model/a.c", "/* a */\n#include <cuda_runtime.h>\n", True),
        ("comm/mpi/a.c", "/* a */\n#include <cuda_runtime.h>\n", True),
        ("comm/nccl/a.c", "/* a */\n#include <nccl.h>\n", False),
        ("kernels/cuda/a.cpp", "/* a */\n#include <cuda_runtime.h>\n", True),
        ("kernels/cuda/a.cu", '/* a */\n#include "kernels/cuda/launch.cuh"\n#include <cufft.h>\n', False),
        ("launch/a.c", '/* a */\n#include "runtime/train/plan.h"\n#include <mpi.h>\n', False),
        ("io/a.c", '/* a */\n#include <hdf5.h>\n#include "comm/comm.h"\n#include "io/dataset.h"\n', False),
        ("runtime/train/a.c", '/* a */\n#include "runtime/core/log.h"\n#include "model/model.h"\n', False),
    ]:
        if bool(list(faults(path, text))) != bad:
            wrong.append(f"planted {path}: {text[:60]!r} must be {'found' if bad else 'left alone'}")
    return wrong


def includes_resolve(root, files):
    """A header that is named from the root exists."""
    for path in files:
        for included in re.findall(r'^\s*#\s*include\s*"([^"]+/[^"]+)"', open(os.path.join(root, path)).read(), re.M):
            if not os.path.isfile(os.path.join(root, included)):
                yield f"{path}: includes {included}, which is not there"


def main():
    root = os.environ.get("CROCUTA_SOURCE", os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    listed = subprocess.run(["git", "-C", root, "ls-files", "--cached", "--others", "--exclude-standard"],
                            capture_output=True, text=True)
    if listed.returncode != 0:
        print("skipped: not a git tree, so what belongs to it is not known")
        return 77
    files = [f for f in listed.stdout.split("\n") if f.endswith(C_FILE) and os.path.isfile(os.path.join(root, f))]
    found = planted()
    for path in files:
        found += faults(path, open(os.path.join(root, path), errors="replace").read())
    found += includes_resolve(root, files)
    for line in found:
        print(line)
    print(f"{len(files)} files, {len(found)} faults")
    return 1 if found or len(files) < 20 else 0


if __name__ == "__main__":
    sys.exit(main())
