#!/usr/bin/env python3
"""labels: mpi
Several aggregators of MPI-IO and blocks of all ranks with gaps between them, on three and four ranks: what is written is what is
read, with the lock of byte ranges that the program sets by itself. Without it Open MPI 4.1.4 damages about every third such
file, which `crocuta doctor` sees; where that does not happen (another MPI, a machine without luck) the test says so."""
import os
import re
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from training import check, end, run

LOCK = "OMPI_MCA_fs_ufs_lock_algorithm"
SEVERAL = {"OMPI_MCA_io_ompio_num_aggregators": "4"}


def written(folder, ranks, more):
    """What doctor says of the file that all ranks write together, and of MPI."""
    env = {k: v for k, v in os.environ.items() if k != LOCK}
    r = run("doctor", ranks=ranks, cwd=folder, env={**env, **SEVERAL, **more})
    lines = {l[6:20].strip(): l for l in r.stdout.split("\n") if l}
    check("doctor", r.returncode == 0 and "HDF5 write" in lines, r)
    return lines.get("HDF5 write", ""), lines.get("MPI", "")


def main():
    with tempfile.TemporaryDirectory(dir=".") as folder:  # on a disk
        for i in range(8):
            wrote, mpi = written(folder, 3 + i % 2, {})
            check("as the program sets it", wrote.startswith("ok ") and f"{3 + i % 2} ranks together" in wrote, wrote)
            check("the lock is in force", mpi.startswith("ok ") and ("Open MPI v4.1" not in mpi or "fs_ufs_lock_algorithm 3" in mpi), mpi)
        for i in range(16):
            wrote, mpi = written(folder, 3 + i % 2, {LOCK: "0"})
            if wrote.startswith("do "):
                check("damage is seen", re.search(r"number \d+ of the (gapped|chunked) part is not what a rank wrote there", wrote), wrote)
                check("and its cause", "Open MPI v4" not in mpi or mpi.startswith("do "), mpi)
                print(f"without the lock: damaged at attempt {i + 1}")
                break
        else:
            print("without the lock nothing was damaged here in 16 attempts")
        check("nothing is left", not os.listdir(folder), os.listdir(folder))
    end()


main()
