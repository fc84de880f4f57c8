#!/usr/bin/env python3
"""labels: slurm
What launch/slurm/submit prints without a cluster: sizes that follow the plan and the site, one line where something cannot be;
the job scripts' headers; and the container's definition as far as it can be held against this machine: shell, folders, packages."""
import glob
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from training import CONFIG, DATA, SOURCE, check, done, end, refused, run

SLURM = os.path.join(SOURCE, "launch", "slurm")
CPU = "ACCOUNT=genomes\nPARTITION='a,b'\nQOS=long\nCONSTRAINT='rome|milan'\nWORKERS_PER_NODE=2\nCORES_PER_NODE=17\nMEMORY_PER_NODE=8\nMAX_NODES=4\nMAX_HOURS=10\n"
GPU = CPU + "GPUS_PER_NODE=4\nGPU_TYPE=h100\nDEVICE_MEMORY=10GiB\n"


class Site:
    def __init__(self, folder):
        self.folder = folder
        self.config = self.file("c.yaml", CONFIG)

    def file(self, name, text):
        with open(os.path.join(self.folder, name), "w") as f:
            f.write(text)
        return os.path.join(self.folder, name)

    def submit(self, site, *arguments, dry=True):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_"))}
        env.update(CROCUTA_SITE=self.file("site.conf", site), CROCUTA_PROGRAM=os.environ["CROCUTA"])
        command = [os.path.join(SLURM, "submit"), *(["--dry-run"] if dry else []), *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=env, cwd=self.folder)

    def asked(self, what, site, *arguments):
        """sbatch's words, as --dry-run prints them."""
        r = self.submit(site, self.config, "-o", "run", "--step-seconds", "1", *arguments)
        done(what, r)
        check(f"{what}: one line on stdout", r.stdout.count("\n") == 1 and " sbatch " in r.stdout, r.stdout)
        return shlex.split(r.stdout)

    def has(self, what, words, *expected):
        for e in expected:
            check(what, e in words, f"no {e} in {words}")


def sizes(s):
    words = s.asked("a node without GPUs", CPU)
    s.has("a node without GPUs", words, "--nodes=1", "--ntasks-per-node=2", "--cpus-per-task=8", "--account=genomes", "--partition=a,b", "--qos=long",
          "--constraint=rome|milan", "comm.coordinator=worker", os.path.join(SLURM, "pretrain.sbatch"), "--output=run-%j.log")
    check("no GPUs are asked for", not [w for w in words if "gres" in w], words)
    memory = int(re.search(r"--mem=(\d+)G", " ".join(words)).group(1))
    check("memory: half a GiB a process, and one", 2 <= memory <= 3, memory)

    s.has("GPUs", s.asked("GPUs", GPU), "--nodes=1", "--ntasks-per-node=5", "--cpus-per-task=3", "--gres=gpu:h100:4", "comm.coordinator=dedicated")
    s.has("two nodes", s.asked("two nodes", GPU, "--workers", "8"), "--nodes=2", "--ntasks-per-node=5", "--gres=gpu:h100:4")
    s.has("two of four GPUs", s.asked("two of four GPUs", GPU, "--workers", "2", "comm.coordinator=worker"), "--ntasks-per-node=2", "--gres=gpu:h100:2", "--cpus-per-task=8")
    s.has("the site's coordinator", s.asked("dedicated", CPU + "COORDINATOR=dedicated\n"), "--ntasks-per-node=3", "comm.coordinator=dedicated")
    text = CONFIG + "comm: {coordinator: worker}\n"
    own = s.file("own.yaml", text)
    r = s.submit(GPU, own, "-o", "run", "--hours", "1")
    check("the configuration's coordinator", "comm.coordinator=worker" in r.stdout, r.stdout + r.stderr)

    s.has("time", s.asked("time", CPU, "train.steps=3600"), "--time=100")  # an hour and a half, and ten minutes
    s.has("the largest limit", s.asked("several attempts", CPU, "train.steps=360000"), "--time=600")
    s.has("finetune's steps", s.asked("finetune", CPU, "--job", "finetune", "--from", "none", "finetune.steps=7200", "--", "--context", "64"), "--time=190", "none", "--", "64")
    s.has("a wish", s.asked("a wish", CPU, "--hours", "2.5"), "--time=150")
    s.has("a measured step", shlex.split(measured(s)), "--time=55")  # 3600 steps of half a second
    s.has("passed on", s.asked("passed on", CPU, "--sbatch", "--mail-type=END"), "--mail-type=END")
    s.has("warm-up", s.asked("warm-up", CPU, "--job", "pretrain-long", "--nodes", "2"), "--nodes=2", "--gres=none", os.path.join(SLURM, "pretrain-long.sbatch"))
    sweep = s.submit(GPU, "alpha-sweep", "-o", "swept", "--job", "sweep", "--nodes", "2", "--group-size", "2", "--small", "data.path=" + DATA)
    done("sweep", sweep)
    s.has("sweep", shlex.split(sweep.stdout), "alpha-sweep", "swept", "--group-size", "2", "--small", "--nodes=2", "--mem=8G", "--time=600")


def million(s):
    """The million tokens: workers, two nodes of GPUs, who share the one sequence of a step at the end."""
    s.file("genome.fa", ">chr1\n" + "ACGTTGCA" * 40 + "\n")
    done("import", run("import", "-q", "-o", os.path.join(s.folder, "genome.h5"), os.path.join(s.folder, "genome.fa")))
    site, data = GPU.replace("10GiB", "80GiB").replace("MEMORY_PER_NODE=8", "MEMORY_PER_NODE=64"), "data.path=" + os.path.join(s.folder, "genome.h5")
    keys = [] if re.search("^backends .*cuda", run("--version").stdout, re.M) else ["train.precision=fp32"]
    r = s.submit(site, "pretrain-1m", "-o", "million", "--job", "pretrain-long", "--nodes", "2", data, *keys)
    done("a million tokens", r)
    s.has("a million tokens", shlex.split(r.stdout), "--nodes=2", "--ntasks-per-node=5", "--gres=gpu:h100:4", os.path.join(SLURM, "pretrain-long.sbatch"), data,
          os.path.join(SOURCE, "experiments", "pretrain-1m.yaml"))
    planned = float(re.search(r"memory +([0-9.]+) GiB a worker", r.stderr).group(1))
    check("eight workers share it", planned < 16, r.stderr)
    refused("without data", s.submit(site, "pretrain-1m", "-o", "million", "--job", "pretrain-long", *keys), 3, "data.path=")


def measured(s):
    os.makedirs(os.path.join(s.folder, "old"))
    with open(os.path.join(s.folder, "old", "metrics.jsonl"), "w") as f:
        f.writelines(f'{{"step": {i}, "split": "train", "step_ms": {ms}}}\n' for i, ms in enumerate((500, 9000, 500, 500)))
    return s.submit(CPU, s.config, "-o", "old", "train.steps=3600").stdout


def grows(s):
    """What does not fit on one worker's memory is tried on more nodes, and refused with the plan's line at the end."""
    r = s.submit(CPU.replace("MEMORY_PER_NODE=8", "MEMORY_PER_NODE=1"), s.config, "-o", "run", "--hours", "1", "model.d_model=4096", "model.d_inner=16384")
    refused("never fits", r, 4, "GiB")


def refusals(s):
    s.file("not-shell", "x")
    for what, code, part, site, *arguments in [
            ("no configuration", 2, "no configuration", CPU, "-o", "run"),
            ("no run", 2, "-o RUN", CPU, s.config),
            ("no such option", 2, "--werkers", CPU, s.config, "-o", "run", "--werkers", "2"),
            ("no such job", 2, "no such job; there are finetune", CPU, s.config, "-o", "run", "--job", "train"),
            ("no such configuration", 2, "crocuta config", CPU, "nothing", "-o", "run"),
            ("no folder for the run", 2, "nowhere", CPU, s.config, "-o", "nowhere/run"),
            ("too many nodes", 4, "MAX_NODES", CPU, s.config, "-o", "run", "--nodes", "5"),
            ("too many workers", 4, "MAX_NODES", CPU, s.config, "-o", "run", "--workers", "9"),
            ("workers that do not divide", 2, "use 4 or 6", CPU, s.config, "-o", "run", "--workers", "5", "--nodes", "2"),
            ("more workers a node than it has", 4, "--nodes 2", CPU, s.config, "-o", "run", "--workers", "4", "--nodes", "1"),
            ("more workers than sequences", 2, "use --workers 1 ", CPU, s.config, "-o", "run", "train.tokens_per_step=64"),
            ("more tasks than cores", 4, "CORES_PER_NODE", GPU + "CORES_PER_NODE=4\n", s.config, "-o", "run"),
            ("more memory than a node has", 4, "MEMORY_PER_NODE", GPU + "MEMORY_PER_NODE=2\n", s.config, "-o", "run"),
            ("longer than an attempt may be", 4, "MAX_HOURS", CPU, s.config, "-o", "run", "--hours", "11"),
            ("too short to be asked to stop", 2, "0.1", CPU, s.config, "-o", "run", "--hours", "0.05"),
            ("no number", 2, "--workers many", CPU, s.config, "-o", "run", "--workers", "many"),
            ("a key that is none", 2, "train.steps", CPU, s.config, "-o", "run", "train.step=3"),
            ("data that are not there", 3, "none.h5", CPU, s.config, "-o", "run", "data.path=none.h5"),
            ("finetune from nothing", 2, "--from", CPU, s.config, "-o", "run", "--job", "finetune"),
            ("a sweep without data", 3, "none.h5", CPU, "alpha-sweep", "-o", "run", "--job", "sweep", "data.path=none.h5"),
            ("a sweep with a trial that does not fit", 4, "trial alpha-1_rows-shared", GPU.replace("10GiB", "16MiB"), "alpha-sweep-study", "-o", "run", "--job", "sweep", "data.path=" + DATA),
            ("a sweep with a trial that cannot be", 2, "l_max", CPU, "alpha-sweep", "-o", "run", "--job", "sweep", "data.path=" + DATA, "model.l_max=64"),
            ("groups that do not divide the workers", 2, "groups of 3", CPU, "alpha-sweep", "-o", "run", "--job", "sweep", "--group-size", "3", "data.path=" + DATA),
            ("pretrain from a model", 2, "--from", CPU, s.config, "-o", "run", "--from", "none"),
            ("small is a sweep's", 2, "--small", CPU, s.config, "-o", "run", "--small"),
            ("a site with a word for a number", 2, "MAX_HOURS=a day", CPU + "MAX_HOURS='a day'\n", s.config, "-o", "run"),
            ("a container without its image", 4, "no", CPU + "CONTAINER=none.sif\n", s.config, "-o", "run")]:
        r = s.submit(site, *arguments) if "CONTAINER" not in site else without_program(s, site, *arguments)
        refused(what, r, code, part)
        check(f"{what}: nothing is printed", r.stdout == "", r.stdout)
    if not shutil.which("sbatch"):
        refused("no Slurm here", s.submit(CPU, s.config, "-o", "run", "--hours", "1", dry=False), 4, "no sbatch")


def without_program(s, site, *arguments):
    env = dict(os.environ, CROCUTA_SITE=s.file("site.conf", site))
    env.pop("CROCUTA_PROGRAM", None)
    return subprocess.run([os.path.join(SLURM, "submit"), *arguments, "--dry-run"], capture_output=True, text=True, env=env, cwd=s.folder)


def a_run_at_work(s):
    path = os.path.join(s.folder, "busy")
    keys = ["train.steps=100000000", "train.eval_every=0"]
    done("a run", run("pretrain", s.config, "-o", path, "-q", "--max-steps", "2", *keys))
    r = s.submit(CPU, s.config, "-o", "busy", "--hours", "1")
    check("a stopped run is continued", "continued" in r.stderr and r.returncode == 0, r.stderr)
    job = subprocess.Popen([os.environ["CROCUTA"], "pretrain", s.config, "-o", path, "-q", "--threads", "1", "--resume", *keys],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        for _ in range(20):
            r = s.submit(CPU, s.config, "-o", "busy", "--hours", "1")
            if r.returncode:
                break
        refused("a job works there", r, 2, "busy", "works there now")
    finally:
        job.terminate()
        job.communicate()


def scripts(s):
    names = sorted(os.path.basename(f) for f in glob.glob(os.path.join(SLURM, "*.sbatch")))
    check("the four job scripts", names == ["finetune.sbatch", "pretrain-long.sbatch", "pretrain.sbatch", "sweep.sbatch"], names)
    for name in names:
        text = open(os.path.join(SLURM, name)).read()
        for line in ("--signal=USR1@120", "--open-mode=append", "--requeue"):
            check(f"{name}: {line}", f"#SBATCH {line}\n" in text)
    for f in glob.glob(os.path.join(SLURM, "*.sh")) + glob.glob(os.path.join(SLURM, "*.sbatch")) + [os.path.join(SLURM, "submit"), os.path.join(SLURM, "site.conf")]:
        r = subprocess.run(["bash", "-n", f], capture_output=True, text=True)
        check(f"{f} is shell", r.returncode == 0, r.stderr)
        check(f"{f} is below 600 lines", open(f).read().count("\n") < 600)
    environment = open(os.path.join(SLURM, "env.sh")).read()
    bare = [l for l in environment.split("\n") if re.match(r"(keep|export) [A-Z]", l) and "# " not in l]
    check("each variable of the environment is explained", not bare, bare)
    again = subprocess.run(["bash", "-c", 'NCCL_DEBUG=INFO THREADS=3 INTERFACE=ib0 INFINIBAND=mlx5_0:1 SCRATCH=; . "$0"; echo $NCCL_DEBUG $OMP_NUM_THREADS $NCCL_IB_HCA',
                            os.path.join(SLURM, "env.sh")], capture_output=True, text=True, env={"PATH": os.environ["PATH"], "NCCL_DEBUG": "INFO", "OMP_NUM_THREADS": "1"})
    check("what is set stays", again.stdout == "INFO 3 =mlx5_0:1\n", again.stdout + again.stderr)


def sections(text):
    found = {}
    for line in text.split("\n"):
        name = re.match(r"%([a-z]+)", line)
        if name:
            here = found.setdefault(name.group(1), [])
        elif found:
            here.append(line)
    return found


def container(s):
    text = open(os.path.join(SLURM, "crocuta.def")).read()
    parts = sections(text)
    known = {"arguments", "files", "post", "environment", "runscript", "test", "labels", "help"}
    check("sections that Apptainer knows", {"files", "post", "environment", "runscript", "test"} <= set(parts) <= known, sorted(parts))
    check("header", re.search(r"^Bootstrap: docker\nFrom: debian:12$", text, re.M))
    for name in ("post", "environment", "runscript", "test"):
        r = subprocess.run(["sh", "-n"], input="\n".join(parts[name]).replace("{{ CUDA }}", "OFF"), capture_output=True, text=True)
        check(f"%{name} is shell", r.returncode == 0, r.stderr)
    given = set(re.findall(r"\{\{ (\w+) \}\}", text))
    check("arguments have defaults", given == {l.split("=")[0].strip() for l in parts["arguments"] if l.strip()}, given)

    copied = [l.split() for l in parts["files"] if l.strip()]
    for source, target in copied:
        check(f"%files {source}", os.path.exists(os.path.join(SOURCE, source)) and target == f"/opt/source/{source}")
    floors = {os.path.dirname(f).split("/")[0] for f in subprocess.run(["git", "-C", SOURCE, "ls-files", "*.c", "*.h", "*.cu", "*.cmake", "docs/*", "experiments/*"], capture_output=True,
                                                                       text=True).stdout.split()} - {"tests"}
    check("every folder that the build and the install read", floors <= {c[0] for c in copied}, floors - {c[0] for c in copied})

    post = "\n".join(parts["post"]).replace("\\\n", " ")
    build = re.search(r'build="([^"]*)"', post).group(1)
    packages = [p for l in re.findall(r"apt-get install -y --no-install-recommends (.*)", post.replace("$build", build)) for p in l.split()]
    check("packages are listed", len(packages) > 20, packages)
    if shutil.which("apt-cache") and "VERSION_ID=\"12\"" in open("/etc/os-release").read():
        names = set(subprocess.run(["apt-cache", "pkgnames"], capture_output=True, text=True).stdout.split())
        if "libhdf5-openmpi-dev" in names:  # the lists are there
            check("packages exist", set(packages) <= names, sorted(set(packages) - names))
    needed = set(re.findall(r':([a-z0-9+.-]+)"', open(os.path.join(SOURCE, "launch", "lib.sh")).read())) - {"libcmocka-dev"}
    needed = {n for n in needed if n.startswith("lib") or n in ("gcc", "cmake", "ninja-build", "git")}
    check("what the build needs is installed", needed and needed <= set(packages), needed - set(packages))


def main():
    with tempfile.TemporaryDirectory() as folder:
        s = Site(folder)
        for part in (sizes, million, grows, refusals, a_run_at_work, scripts, container):
            part(s)
    end()


main()
