"""A Slurm of one node with one pretend GPU, on loopback, for as long as a test needs it."""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

# Commands in a job lose SLURM_CONF: the executor drops most of Slurm's variables, so that its
# srun does not take those of the job for its own.  So the files lie where Slurm looks for them.
SETTINGS = Path("/etc/slurm")
NAMES = ("slurm.conf", "gres.conf", "cgroup.conf")
DAEMONS = ("munged", "slurmctld", "slurmd")
PROGRAMS = (*DAEMONS, "sbatch", "srun", "squeue", "sinfo", "scancel", "scontrol", "setpriv")

# More processors and memory than there may be: jobs wait for the GPU, and for nothing else.
CONFIGURATION = """\
# of tests/slurm_node.py, process {process}
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={state}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
ReturnToService=2
SlurmctldPidFile={state}/slurmctld.pid
SlurmdPidFile={state}/slurmd.pid
SlurmctldPort={controller}
SlurmdPort={daemon}
StateSaveLocation={state}/state
SlurmdSpoolDir={state}/spool
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
GresTypes=gpu
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
MinJobAge=3600
KillWait=10
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=64000 Gres=gpu:1 State=UNKNOWN
PartitionName=gpu Nodes=ALL Default=YES MaxTime=60 DefaultTime=10 State=UP
"""


def missing() -> str | None:
    """Return why no Slurm can be started here, or None."""
    lacking = [name for name in PROGRAMS if shutil.which(name) is None]
    if lacking:
        return f"Slurm is not installed ({', '.join(lacking)}): slurmctld, slurmd, munge of Debian"
    if find_spec("snakemake_executor_plugin_slurm") is None:
        return "snakemake-executor-plugin-slurm is not installed"
    if os.getuid() != 0:
        return "only root can start Slurm's daemons and write to /etc/slurm"
    if any((SETTINGS / name).exists() for name in NAMES) and not _is_left_over():
        return "another Slurm is configured in /etc/slurm"
    return None


def _is_left_over() -> bool:
    """Say whether the files are of a test that was killed, and so could not take them away."""
    path = SETTINGS / NAMES[0]
    text = path.read_text() if path.exists() else ""
    found = re.match(r"# of tests/slurm_node.py, process (\d+)\n", text)
    return found is not None and not Path("/proc", found[1]).exists()


class Node:
    """The running node."""

    def scontrol(self, *words: str) -> str:
        """Run scontrol and return what it says."""
        return _output("scontrol", *words)

    def jobs(self) -> list[dict[str, str]]:
        """Return all jobs that Slurm knows, the oldest first, as `scontrol show job` has them."""
        lines = self.scontrol("show", "jobs", "--oneliner").splitlines()
        parts = [[word.partition("=") for word in line.split(" ")] for line in lines]
        jobs = [{key: value for key, _, value in words} for words in parts]
        return sorted((job for job in jobs if "JobId" in job), key=lambda job: int(job["JobId"]))

    def state(self) -> str:
        """Return the state of the node, such as idle; nothing before it answers."""
        return _output("sinfo", "--noheader", "--format=%T", check=False)

    def cancel(self, job: str) -> None:
        """End a job, as its owner or an administrator would."""
        _output("scancel", job)

    def set_state(self, state: str) -> None:
        """DRAIN lets no further job begin, RESUME does again."""
        self.scontrol("update", f"NodeName={_host()}", f"State={state}", "Reason=test")


def awaited(found: Callable[[], T], what: str, seconds: float = 300) -> T:
    """Ask again and again until something is there, and return it."""
    deadline = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.2)
    return result


@contextmanager
def running(state: Path) -> Iterator[Node]:
    """Start the daemons, wait until the node takes jobs, and stop all of it in the end."""
    node = Node()
    with ExitStack() as held:
        places = {"host": _host(), "state": state, "process": os.getpid()}
        ports = {"controller": _free_port(), "daemon": _free_port()}
        _configure(held, CONFIGURATION.format(**places, **ports))
        _start(held, state, "munged", *_munge(state))
        awaited(lambda: (state / "munge.socket").exists(), "munge", 20)
        _start(held, state, "slurmctld", "-D", "-c")
        _start(held, state, "slurmd", "-D")
        awaited(lambda: node.state() == "idle", f"an idle node; see {state}", 30)
        # whatever a failed test left at work ends before the daemons do
        held.callback(_end_jobs)
        yield node


def _host() -> str:
    return socket.gethostname().partition(".")[0]


def _configure(held: ExitStack, text: str) -> None:
    made = not SETTINGS.exists()
    SETTINGS.mkdir(exist_ok=True)
    if made:
        held.callback(SETTINGS.rmdir)
    texts = (text, "Name=gpu Count=1 File=/dev/null\n", "ConstrainDevices=no\n")
    for name, content in zip(NAMES, texts, strict=True):
        (SETTINGS / name).write_text(content)
        held.callback((SETTINGS / name).unlink)


def _munge(state: Path) -> list[str]:
    """Return the words for an authentication service of our own, whatever else runs here."""
    key = state / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))
    files = {"key": key, "pid": "munge.pid", "seed": "munge.seed", "log": "munge.log"}
    words = [f"--{name}-file={state / file}" for name, file in files.items()]
    # a folder that all may write to, such as /tmp, is above ours
    return ["--foreground", "--force", f"--socket={state / 'munge.socket'}", *words]


def _start(held: ExitStack, state: Path, *command: str) -> None:
    output = held.enter_context((state / f"{command[0]}.output").open("w"))
    # it ends with this process also if that is killed
    words = ["setpriv", "--pdeathsig", "TERM", *command]
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
    )
    held.callback(process.wait, 60)
    held.callback(process.terminate)


def _end_jobs() -> None:
    # the daemon of a drained node ends its jobs too
    _output("scancel", "--user=root", check=False)
    awaited(lambda: not _output("squeue", "--noheader"), "the end of all jobs", 40)


def _output(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=check)
    return done.stdout.strip()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
