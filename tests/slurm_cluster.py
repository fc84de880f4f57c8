"""A Slurm of two nodes on this machine, for tests: slurmctld and two slurmd as root in a private folder and on private ports,
without munge and cgroups. Everything that is started here is ended by its process id."""
import glob
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

CONF = """\
ClusterName=crocuta
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/none
AuthInfo=cred_expire=5
CredType=cred/none
SlurmUser=root
SlurmdUser=root
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/%n.pid
SlurmdSpoolDir={root}/spool-%n
StateSaveLocation={root}/state
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/%n.log
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
ReturnToService=2
SlurmdTimeout=20
KillWait=2
BatchStartTimeout=2
InactiveLimit=0
GresTypes=gpu
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=16 RealMemory=8000 Gres=gpu:2
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=16 RealMemory=8000 Gres=gpu:2
PartitionName=batch Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
GRES = "NodeName=n[1-2] Name=gpu File=/dev/null\nNodeName=n[1-2] Name=gpu File=/dev/zero\n"  # any device will do


def skip(why):
    print(f"skipped: {why}")
    sys.exit(77)


def installed():
    return all(shutil.which(p) for p in ("slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel"))


def install():
    """launch/setup brings it where it is missing and can be installed."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    if os.geteuid() != 0:
        skip("not root, and slurmd must be")
    if not installed():
        r = subprocess.run([os.path.join(os.environ["CROCUTA_SOURCE"], "launch", "setup"), "--slurm"], capture_output=True, text=True)
        if r.returncode != 0 or not installed():
            skip((r.stderr.strip() or "no Slurm here").split("\n")[-1])


def free_ports(n):
    sockets = [socket.socket() for _ in range(n)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Cluster:
    def __init__(self):
        self.root = tempfile.mkdtemp(prefix="crocuta-slurm-")
        self.daemons = {}
        self.conf = os.path.join(self.root, "slurm.conf")
        version = subprocess.run(["sinfo", "-V"], capture_output=True, text=True, env=dict(os.environ, SLURM_CONF="/dev/null")).stdout
        for folder in ("state", "tmp"):
            os.mkdir(os.path.join(self.root, folder))
        for n in ("n1", "n2"):
            os.mkdir(os.path.join(self.root, "spool-" + n))
        with open(self.conf, "w") as f:
            f.write(CONF.format(host=socket.gethostname().split(".")[0], root=self.root, ports=free_ports(3)))
        with open(os.path.join(self.root, "gres.conf"), "w") as f:
            f.write(GRES)
        with open(os.path.join(self.root, "mpi.conf"), "w") as f:
            f.write(f"PMIxCliTmpDirBase={self.root}/tmp\n")
        if int((re.findall(r"(\d+)\.", version) or ["22"])[0]) >= 23:  # older ones do not know the line, nor need it
            with open(os.path.join(self.root, "cgroup.conf"), "w") as f:
                f.write("CgroupPlugin=disabled\n")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_", "OMPI_", "PMIX_"))}
        self.env.update(SLURM_CONF=self.conf, TMPDIR=os.path.join(self.root, "tmp"))

    def start(self):
        self.daemon("slurmctld", "slurmctld", "-D", "-f", self.conf)
        for n in ("n1", "n2"):
            self.daemon(n, "slurmd", "-D", "-N", n, "-f", self.conf)
        self.wait("both nodes are idle", lambda: self.ask("sinfo", "-h", "-N", "-o", "%N %t") == "n1 idle\nn2 idle", 40)

    def daemon(self, name, *command):
        out = open(os.path.join(self.root, name + ".out"), "a")
        self.daemons[name] = subprocess.Popen(command, env=self.env, stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd=self.root)

    def ask(self, *command):
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60).stdout.strip()

    def job(self, number):
        """JobState, Restarts, ExitCode and all else that scontrol says."""
        return dict(p.split("=", 1) for p in self.ask("scontrol", "-o", "show", "job", str(number)).split() if "=" in p)

    def wait(self, what, true, limit):
        end = time.time() + limit
        while time.time() < end:
            if true():
                return
            time.sleep(0.3)
        raise RuntimeError(f"not within {limit} s: {what}\n{self.ask('squeue')}\n{self.ask('sinfo', '-N', '-l')}")

    def ended(self, number, limit):
        """Waits for a job's last attempt; what it ended with."""
        self.wait(f"job {number} ends", lambda: self.job(number).get("JobState") not in ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "REQUEUED"), limit)
        j = self.job(number)
        return j["JobState"], j["ExitCode"], int(j["Restarts"])

    def processes(self, more=""):
        """Processes of this cluster, by its private configuration in their environment; with `more` in it, too."""
        found = []
        for path in glob.glob("/proc/[0-9]*/environ"):
            pid = int(path.split("/")[2])
            try:
                with open(path, "rb") as f:
                    environment = f.read().decode(errors="replace").split("\0")
            except OSError:
                continue
            if f"SLURM_CONF={self.conf}" in environment and (not more or more in environment) and pid != os.getpid():
                found.append(pid)
        return found

    def lose(self, node):
        """The node dies: its slurmd and everything below it, at once. Its daemons stand still first: one that sees a job's
        process die before its own turn comes would report a job that was killed, not a node that is gone."""
        self.daemons[node].send_signal(signal.SIGSTOP)
        mine = self.processes(f"SLURMD_NODENAME={node}")
        steps = {parent(p) for p in mine if command_of(parent(p)).startswith("slurmstepd")}
        for pid in steps:
            kill(pid, signal.SIGSTOP)
        for pid in set(mine) | steps:
            kill(pid)
        self.daemons[node].kill()
        self.daemons[node].wait()

    def revive(self, node):
        """Once Slurm has noticed; by itself it does within SlurmdTimeout."""
        self.wait(f"{node} is down", lambda: self.ask("sinfo", "-h", "-n", node, "-o", "%t").startswith("down"), 60)
        self.daemon(node, "slurmd", "-D", "-N", node, "-f", self.conf)

    def said(self):
        """The ends of the daemons' logs."""
        return "\n".join(f"---- {f}\n" + "".join(open(f, errors="replace").readlines()[-12:]) for f in sorted(glob.glob(os.path.join(self.root, "*.log"))) if "/n" in f or "ctld" in f)

    def stop(self):
        if "slurmctld" in self.daemons:
            self.ask("scancel", "-u", "root")
            end = time.time() + 15
            while time.time() < end and self.ask("squeue", "-h"):
                time.sleep(0.3)
        for d in self.daemons.values():
            d.terminate()
        for d in self.daemons.values():
            try:
                d.wait(10)
            except subprocess.TimeoutExpired:
                d.kill()
                d.wait()
        for pid in self.processes():
            kill(pid)
        shutil.rmtree(self.root, ignore_errors=True)


def parent(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return int(f.read().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def command_of(pid):
    try:
        with open(f"/proc/{pid}/cmdline") as f:
            return os.path.basename(f.read())
    except OSError:
        return ""


def kill(pid, number=signal.SIGKILL):
    try:
        if pid > 1:
            os.kill(pid, number)
    except OSError:
        pass


def newest(run):
    """The newest committed step of a run, 0: none."""
    return max([0] + [json.load(open(f)).get("step", 0) for f in glob.glob(os.path.join(run, "checkpoints", "step-*.json"))])
