"""What a job of the workflow asks for: threads, GPUs, memory, and minutes by its planned cost."""

import math
from dataclasses import dataclass

from reproduce.config.schema import Config, Machine
from reproduce.experiments import cost
from reproduce.experiments.cost import Speeds
from reproduce.experiments.grids import Item
from reproduce.experiments.spec import TrainingSpec
from reproduce.registry import dataset_facts

# minutes to import, to read images and to compile
_START = 10.0
# how far a plan may be off: its speeds are of another machine, a V100 says little about a processor
_SLACK = {"measured": 1.5, "cuda": 1.5, "cpu": 4.0}
# a job ends itself so many minutes before its time is over, at the latest after this share of it
_STOP_MINUTES, _STOP_SHARE = 5.0, 0.95
# of jobs that are not planned: adversarial examples, the lemma
_UNPLANNED_MINUTES = 110.0
# MB of a process with a network and its images, and of one that decodes image files
_PROCESS, _LOADER = 8_000, 1_000
# these stand in for published networks of other families, whose speeds nobody knows
_LARGE = {"arrays": "wrn-70-16", "folder": "wrn-50-2"}


@dataclass(frozen=True)
class Job:
    """What a job is planned to take, and the digest of its settings.

    `minutes` includes the slack of the plan; so does `part`, the longest part that is finished
    before the job ends itself (a validation, a shard).  `memory` is in MB.
    """

    machine: Machine
    digest: str = ""
    minutes: float = _UNPLANNED_MINUTES
    part: float = 0.0
    gpus: int = 0
    threads: int = 1
    memory: int = _PROCESS

    def runtime(self, attempt: int) -> int:
        """Return the minutes to ask for; `attempt` is 1 for the first try, as in Snakemake."""
        wanted = _START + self.minutes * _growth(attempt)
        return math.ceil(min(wanted, self.machine.job_minutes or math.inf))

    def mem_mb(self, attempt: int) -> int:
        """Return the memory to ask for, in MB."""
        return math.ceil(self.memory * _growth(attempt))

    def limit(self, runtime: int) -> str:
        """Return the option by which a job with some minutes ends itself in time."""
        stop = runtime - min(max(_STOP_MINUTES, self.part), _STOP_SHARE * runtime)
        return f"--max-minutes {min(stop, self.machine.max_minutes or math.inf):g}"

    @property
    def launcher(self) -> str:
        """What starts the command on as many GPUs as the job has."""
        several = f"torch.distributed.run --standalone --nproc-per-node {self.gpus} -m "
        return f"python -m {several if self.gpus > 1 else ''}reproduce"


def _growth(attempt: int) -> float:
    """Return how much more a job asks for that has to come again, up to twice as much."""
    return min(2.0, 1 + 0.5 * (attempt - 1))


def training_job(config: Config, spec: TrainingSpec, speeds: Speeds) -> Job:
    """Return the job that trains a cell; image files are decoded, and may be for several GPUs."""
    cell, machine, loaders = spec.parsed, config.machine, _loaders(config, spec.parsed.dataset)
    facts = dataset_facts(cell.dataset)
    several = machine.gpus_per_cell if facts.storage == "folder" else 1
    gpus = 0 if machine.device == "cpu" else several
    processes = max(1, gpus)
    minutes = _minutes_per_pass(config, speeds, cell.dataset, cell.architecture)
    validation = cost.validation_passes(spec, facts)
    return Job(
        machine,
        spec.digest,
        minutes=cost.training_passes(spec, facts) * minutes,
        part=validation * minutes,
        gpus=gpus,
        threads=processes * (machine.threads + loaders),
        memory=processes * (_PROCESS + loaders * _LOADER),
    )


def attack_job(config: Config, item: Item, speeds: Speeds) -> Job:
    """Return the job that attacks a network, as if every image held."""
    spec, facts = item.spec(config), dataset_facts(item.dataset)
    machine, loaders = config.machine, _loaders(config, item.dataset)
    architecture = item.architecture or _LARGE[facts.storage]
    per_pass = _minutes_per_pass(config, speeds, item.dataset, architecture)
    minutes = cost.evaluation_passes(spec, facts) * per_pass
    return Job(
        machine,
        spec.digest,
        minutes,
        part=minutes * min(1.0, config.eval.shard / (spec.images or facts.test)),
        gpus=0 if machine.device == "cpu" else 1,
        # it decodes all its files, then attacks
        threads=machine.processes * max(machine.threads, loaders),
        memory=machine.processes * (_PROCESS + loaders * _LOADER),
    )


def _loaders(config: Config, dataset: str) -> int:
    return config.machine.loaders if dataset_facts(dataset).storage == "folder" else 0


def _minutes_per_pass(config: Config, speeds: Speeds, dataset: str, architecture: str) -> float:
    device = config.machine.device.partition(":")[0]
    slack = _SLACK["measured" if speeds.measured else device]
    return slack * speeds.seconds(dataset, architecture) / 60
