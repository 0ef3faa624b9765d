"""What a job asks a cluster for, from what it is planned to cost: minutes and memory."""

import math
from dataclasses import dataclass

from reproduce.config.schema import Config, Machine
from reproduce.experiments import cost as costs
from reproduce.experiments.schedules import measured_epochs
from reproduce.experiments.spec import AttackSpec, TrainingSpec
from reproduce.registry import DatasetFacts, dataset_facts
from reproduce.results.plan import Speeds

# Minutes to import, to read images and to compile.
_START = 10.0
# How far a plan may be off: its speeds are of another machine, those of a V100 say little about a
# processor, and a job does more than passes of a network.
_SLACK = {"measured": 1.5, "cuda": 1.5, "cpu": 4.0}
# A job that has to come again asks for more.  A run that is longer than its jobs comes again for
# every piece, so that has an end.
_GROWTH = (1.0, 1.5, 2.0)
# A job ends itself so many minutes before its time is over, or at the latest after this share of
# it: the piece of work that is under way is still finished, and saved.
_STOP_MINUTES, _STOP_SHARE = 5.0, 0.95
# Of the few jobs that are not planned.
_UNPLANNED_MINUTES = 110.0
# Attacks of up to so many planned minutes share a job, this many at most.
_SHORT_MINUTES, _TOGETHER = 10.0, 6

_GIB = 2**30
# Of a process: Python and PyTorch, with a GPU CUDA's context and libraries; of one that decodes.
_PROCESS, _LOADER = {"cpu": 2 * _GIB, "cuda": 6 * _GIB}, 3 * _GIB // 4
# Images as they are read, padded, and under way to the device.
_IMAGE_COPIES = 3
# Weights, gradients, momentum, up to three checkpoints, and all of it again while it is saved.
_WEIGHT_COPIES = 14
# They stand in for published networks of other families, whose speeds nobody knows.
_LARGE = {"arrays": "wrn-70-16", "folder": "wrn-50-2"}


@dataclass(frozen=True)
class Work:
    """What a cluster has to know of a job.

    Attributes
    ----------
    machine : Machine
        What it runs on.
    minutes : float
        How long it is planned to take.
    unbroken : float
        Minutes of the longest part that is finished before the job ends itself.
    slack : float
        How many times longer it may be.
    memory : float
        Bytes it needs, those of GPUs aside.
    """

    machine: Machine
    minutes: float
    unbroken: float
    slack: float
    memory: float

    def runtime(self, attempt: int) -> int:
        """Return the minutes to ask for: what is planned, as far as a job may be as long.

        Parameters
        ----------
        attempt : int
            1 for the first job, as Snakemake counts.
        """
        wanted = _START + self.minutes * self.slack * _growth(attempt)
        longest = self.machine.job_minutes or math.inf
        return math.ceil(min(wanted, longest))

    def megabytes(self, attempt: int) -> int:
        """Return the memory to ask for, in MB."""
        return math.ceil(self.memory * _growth(attempt) / 1e6)

    def stops_after(self, runtime: float) -> float:
        """Return after how many minutes a job of some minutes ends itself."""
        margin = max(_STOP_MINUTES, self.slack * self.unbroken)
        stop = runtime - min(margin, _STOP_SHARE * runtime)
        return min(stop, self.machine.max_minutes or math.inf)

    @property
    def is_short(self) -> bool:
        """Say whether it shares a job with others; so many fit one also if they come again."""
        longest = self.machine.job_minutes or math.inf
        fit = _TOGETHER * self.runtime(len(_GROWTH)) <= longest
        return self.minutes <= _SHORT_MINUTES and fit


def _growth(attempt: int) -> float:
    return _GROWTH[min(attempt, len(_GROWTH)) - 1]


def training_work(config: Config, spec: TrainingSpec, speeds: Speeds, processes: int) -> Work:
    """Return what training a cell takes; an epoch's validation is finished.

    Several processes are not counted on to be faster: their job just ends earlier.
    """
    facts, name = dataset_facts(spec.parsed.dataset), spec.parsed.architecture
    pace = speeds.seconds(facts.name, name) / 60
    validation = costs.validation_passes(spec, facts) / max(1, len(measured_epochs(spec.train)))
    extra = 0 if spec.extra is None else spec.extra_images or spec.extra.images
    images = (spec.train_images or facts.train) + (spec.test_images or facts.test) + extra
    weights = _WEIGHT_COPIES * 4 * costs.parameters(name, facts)
    batch = max(spec.train.batch_size, config.machine.eval_batch or costs.CPU_BATCH)
    each = weights + _kept(config, facts, name, batch)
    memory = _memory(config, facts, images, processes, each)
    minutes = costs.training_passes(spec, facts) * pace
    return Work(config.machine, minutes, validation * pace, _slack(config, speeds), memory)


def attack_work(
    config: Config, dataset: str, architecture: str | None, spec: AttackSpec, speeds: Speeds
) -> Work:
    """Return what an attack on a network takes, as if every image held; a shard is finished.

    An architecture of None is one of another family.
    """
    facts = dataset_facts(dataset)
    name = architecture or _LARGE[facts.storage]
    pace = speeds.seconds(dataset, name) / 60
    images = spec.images or facts.test
    minutes = costs.evaluation_passes(spec, facts) * pace
    # as often as it is read: by every process
    weights = 3 * 4 * costs.parameters(name, facts)
    each = weights + _kept(config, facts, name, config.machine.eval_batch or costs.CPU_BATCH)
    memory = _memory(config, facts, images, config.machine.processes, each)
    shard = minutes * min(1.0, config.eval.shard / images)
    return Work(config.machine, minutes, shard, _slack(config, speeds), memory)


def small_work(config: Config) -> Work:
    """Return what a job takes that is not planned: adversarial examples, the lemma."""
    return Work(config.machine, _UNPLANNED_MINUTES, 0.0, 1.0, _PROCESS[_kind(config)] + 2 * _GIB)


def _slack(config: Config, speeds: Speeds) -> float:
    return _SLACK["measured" if speeds.measured else _kind(config)]


def _kind(config: Config) -> str:
    return config.machine.device.partition(":")[0]


def _kept(config: Config, facts: DatasetFacts, architecture: str, batch: int) -> float:
    """Return the bytes of what a network keeps of a batch, which on a GPU is the GPU's.

    What is kept grows with the width, operations with its square.
    """
    if _kind(config) != "cpu":
        return 0.0
    operations = costs.forward_operations(architecture, facts)
    return batch * costs.KEPT_BYTES * math.sqrt(operations / costs.KEPT_OPERATIONS)


def _memory(config: Config, facts: DatasetFacts, images: int, processes: int, each: float) -> float:
    """Return the bytes of some processes, with what each keeps beside itself, and of images."""
    if facts.storage == "folder":
        decoding = processes * config.machine.loaders * _LOADER
    else:
        decoding = processes * _IMAGE_COPIES * images * facts.channels * facts.size**2
    return processes * (_PROCESS[_kind(config)] + each) + decoding
