"""What a job asks a cluster for: minutes and memory, from what it is planned to cost."""

import math
from dataclasses import dataclass

from reproduce.config.schema import Config, Machine
from reproduce.experiments import cost
from reproduce.experiments.cost import Speeds
from reproduce.experiments.schedules import measured_epochs
from reproduce.experiments.spec import AttackSpec, TrainingSpec
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
class Request:
    """What a job is planned to take.

    Attributes
    ----------
    machine : Machine
        What it runs on.
    minutes : float
        How long it takes, with the slack of the plan.
    part : float
        Minutes of the longest part that is finished before the job ends itself, with that slack.
    memory : int
        MB.
    """

    machine: Machine
    minutes: float = _UNPLANNED_MINUTES
    part: float = 0.0
    memory: int = _PROCESS

    def runtime(self, attempt: int) -> int:
        """Return the minutes to ask for, at most those that a job may have.

        `attempt` is 1 for the first job, as Snakemake counts.
        """
        wanted = _START + self.minutes * _growth(attempt)
        return math.ceil(min(wanted, self.machine.job_minutes or math.inf))

    def mem_mb(self, attempt: int) -> int:
        """Return the memory to ask for, in MB."""
        return math.ceil(self.memory * _growth(attempt))

    def limit(self, runtime: int) -> str:
        """Return the option by which a job with some minutes ends itself in time."""
        margin = max(_STOP_MINUTES, self.part)
        stop = runtime - min(margin, _STOP_SHARE * runtime)
        return f"--max-minutes {min(stop, self.machine.max_minutes or math.inf):g}"


def _growth(attempt: int) -> float:
    """Return how much more a job asks for that has to come again, up to twice as much.

    A run that is longer than its jobs comes again for each part of it.
    """
    return min(2.0, 1 + 0.5 * (attempt - 1))


def training_request(config: Config, spec: TrainingSpec, speeds: Speeds, processes: int) -> Request:
    """Return what training takes; a validation is finished before the job ends itself."""
    cell, facts = spec.parsed, dataset_facts(spec.parsed.dataset)
    minutes = _minutes_per_pass(config, speeds, cell.dataset, cell.architecture)
    validation = cost.validation_passes(spec, facts) / max(1, len(measured_epochs(spec.train)))
    memory = _memory(config, cell.dataset, processes)
    passes = cost.training_passes(spec, facts)
    return Request(config.machine, passes * minutes, validation * minutes, memory)


def attack_request(
    config: Config, dataset: str, architecture: str | None, spec: AttackSpec, speeds: Speeds
) -> Request:
    """Return what an attack takes, as if every image held; a shard is finished before the end.

    An architecture of None is one of another family.
    """
    facts = dataset_facts(dataset)
    per_pass = _minutes_per_pass(config, speeds, dataset, architecture or _LARGE[facts.storage])
    minutes = cost.evaluation_passes(spec, facts) * per_pass
    shard = minutes * min(1.0, config.eval.shard / (spec.images or facts.test))
    memory = _memory(config, dataset, config.machine.processes)
    return Request(config.machine, minutes, shard, memory)


def _minutes_per_pass(config: Config, speeds: Speeds, dataset: str, architecture: str) -> float:
    device = config.machine.device.partition(":")[0]
    slack = _SLACK["measured" if speeds.measured else device]
    return slack * speeds.seconds(dataset, architecture) / 60


def _memory(config: Config, dataset: str, processes: int) -> int:
    loaders = config.machine.loaders if dataset_facts(dataset).storage == "folder" else 0
    return processes * (_PROCESS + loaders * _LOADER)
