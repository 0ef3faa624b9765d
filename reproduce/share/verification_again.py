"""A sample of evaluations, done again here and compared image by image."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.experiments import cost as costs
from reproduce.experiments.spec import AttackSpec, EvaluationSpec
from reproduce.registry import dataset_facts
from reproduce.share.verification_comparison import Comparison, compare, directions
from reproduce.share.verification_finding import Finding
from reproduce.share.verification_images import Images
from reproduce.share.verification_records import CheckedRecord

# seconds of a pass, on the low side of what machines do: only to leave out what takes hours
_SPEEDS = {"cpu": costs.Speed(100e-6, 2e10), "cuda": costs.Speed(200e-6, 1e13)}
# networks of the paper have up to 193 million parameters
_MOST_PARAMETERS = 2_000_000_000


@dataclass(frozen=True)
class Sample:
    """How much is done again.

    Attributes
    ----------
    records : int
        Evaluations, each of another checkpoint while there are any.
    images : int
        Images of each; of an attack that draws one stream for a shard, a whole shard.
    minutes : float
        What all of it may take, by a cautious estimate.
    seed : int
        Picks records and images.
    """

    records: int
    images: int
    minutes: float
    seed: int


@dataclass(frozen=True)
class _Part:
    """The images of a record that are attacked again: a block in the order of the test set."""

    size: int
    number: int

    @property
    def rows(self) -> slice:
        return slice(self.number * self.size, (self.number + 1) * self.size)


def repeat(
    config: Config,
    records: Iterable[CheckedRecord],
    images: Images,
    sample: Sample,
    work: Path,
    say: Callable[[str], None],
) -> list[Finding]:
    """Attack a sample of checkpoints again.

    Parameters
    ----------
    config : Config
        Says what to run on.
    records : iterable of CheckedRecord
        Those that may be drawn.
    images : Images
        The prepared images.
    sample : Sample
        How many, and by which seed.
    work : Path
        An empty folder.
    say : callable
        Told what is attacked before it is.
    """
    able = [record for record in records if _weights(record) is not None]
    if not sample.records:
        return []
    if not able:
        reason = "no checkpoint with a record of these settings stands"
        return [Finding("not checked", "re-evaluation", reason)]
    left, done, dear = 60 * sample.minutes, list[Comparison](), list[float]()
    for record in _drawn(able, sample.seed):
        if len(done) == sample.records:
            break
        part = _part(record, sample)
        seconds = _seconds(config, record, part)
        if seconds > left:
            dear.append(seconds)
            continue
        left -= seconds
        say(f"attacking {part.size} images again: {record.file.name}")
        done.append(_again(config, record, part, images, work / str(len(done))))
    findings = [comparison.finding for comparison in done] + directions(done)
    if len(done) < min(sample.records, len(able)):
        reason = (
            f"{len(dear)} of {len(able)} evaluations would take {min(dear) / 60:,.0f} minutes or "
            f"more each, {sample.minutes:g} are given (--max-minutes)"
        )
        findings.append(Finding("not checked", "re-evaluation", reason))
    return findings


def _weights(record: CheckedRecord) -> Path | None:
    """Return the checkpoint that a record is of, if it is here and whole and should be attacked."""
    if not record.ours or record.run is None or not isinstance(record.spec, EvaluationSpec):
        return None
    return record.run.weights.get(record.spec.checkpoint)


def _hash(seed: int, *names: str) -> int:
    return int.from_bytes(hashlib.sha256("/".join([str(seed), *names]).encode()).digest()[:8])


def _drawn(records: Sequence[CheckedRecord], seed: int) -> list[CheckedRecord]:
    """Return records in an order that the seed decides, other checkpoints first."""
    order = sorted(records, key=lambda record: _hash(seed, record.file.name))
    seen: dict[str, int] = {}
    turns = []
    for record in order:
        turns.append(seen.setdefault(record.record.info["model_sha256"], 0))
        seen[record.record.info["model_sha256"]] += 1
    return [record for _, record in sorted(zip(turns, order, strict=True), key=lambda p: p[0])]


def _part(record: CheckedRecord, sample: Sample) -> _Part:
    size = record.spec.shard or min(sample.images, len(record.record.index))
    blocks = -(-len(record.record.index) // size)
    return _Part(size, _hash(sample.seed, record.file.name, "block") % blocks)


def _seconds(config: Config, record: CheckedRecord, part: _Part) -> float:
    """Estimate how long attacking a part takes here at most."""
    facts, run = dataset_facts(record.dataset), record.run
    if run is None or run.cell is None:
        return float("inf")
    name = run.cell.architecture
    if costs.parameters(name, facts) > _MOST_PARAMETERS:
        return float("inf")
    count = len(record.record.index[part.rows]) * costs.attack_passes(
        record.spec.attack, facts.classes
    )
    speed = _SPEEDS["cpu" if config.machine.device == "cpu" else "cuda"]
    return count * speed.seconds(costs.forward_operations(name, facts))


def _again(
    config: Config, record: CheckedRecord, part: _Part, images: Images, work: Path
) -> Comparison:
    """Attack a part of a record's images again and compare."""
    path = f"{record.file.name} (again)"
    try:
        images.labels(record.dataset)
        arrays, piece = _attack(config, record, part, images.file(record.dataset), work)
    except HarnessError as error:
        return Comparison(Finding("not checked", path, str(error)))
    theirs = {key: getattr(record.record, key)[part.rows] for key in arrays}
    return compare(path, arrays, theirs, record.record.info.get("pieces"), piece)


def _attack(
    config: Config, record: CheckedRecord, part: _Part, prepared: Path, work: Path
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    from reproduce.compute.device import claimed
    from reproduce.evaluation.shards import Job, Worker
    from reproduce.models.load import ModelSource

    weights, run = _weights(record), record.run
    if weights is None or run is None or run.cell is None:
        raise HarnessError("its checkpoint is not here")
    sha256 = record.record.info["model_sha256"]
    source = ModelSource(record.dataset, run.cell.architecture, weights)
    data = record.record.info["data"]["sha256"]
    spec: AttackSpec = record.spec
    title = f"verification of {record.file.name}"
    job = Job(title, spec, source, sha256, data, prepared, work, part.size, config.machine)
    with claimed(config.machine) as device:
        shard = Worker(job, device).run(part.number)
    keys = ("index", "label", "clean", "adversarial")
    return {key: shard.arrays[key] for key in keys}, shard.about["piece"]
