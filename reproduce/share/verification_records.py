"""Whether a record is whole, possible, and of the run beside it and the test images here."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from reproduce.config.schema import AttackPackage, Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import read_json, read_npz
from reproduce.evaluation.records import Record, read_record
from reproduce.experiments.paths import checkpoint_of
from reproduce.experiments.runs import ImagesInfo, Piece
from reproduce.experiments.spec import AttackSpec, EvaluationSpec, attack_spec, evaluation_spec
from reproduce.registry import DatasetFacts, dataset_facts
from reproduce.share.verification_finding import OTHER_SETTINGS, UNEXPECTED, Finding, unexpected
from reproduce.share.verification_folder import Copied
from reproduce.share.verification_formats import check_npz
from reproduce.share.verification_images import Images
from reproduce.share.verification_runs import CheckedRun


@dataclass(frozen=True)
class CheckedRecord:
    """A record that is whole, and what it is of.

    Attributes
    ----------
    file : Copied
        Its arrays.
    record : Record
        What it says.
    spec : AttackSpec
        The attack that it says it is of.
    dataset : str
        The data set.
    run : CheckedRun or None
        The run whose checkpoint was attacked; None for a network from elsewhere.
    ours : bool
        Whether the configuration has these settings.
    """

    file: Copied
    record: Record
    spec: AttackSpec
    dataset: str
    run: CheckedRun | None
    ours: bool


class _Summary(BaseModel):
    """What a summary says that tables and the report read."""

    model_config = ConfigDict(extra="ignore", strict=True)

    data: ImagesInfo
    pieces: list[Piece]
    seconds: float


class _DiffersError(Exception):
    """A record is whole, and not of what it says."""


def check_record(
    config: Config, file: Copied, run: CheckedRun | None, images: Images
) -> tuple[Finding, CheckedRecord | None]:
    """Check one record.

    Parameters
    ----------
    config : Config
        The configuration whose results they are said to be.
    file : Copied
        Its arrays; the summary lies beside them.
    run : CheckedRun or None
        The run in whose folder it lies; None for a network from elsewhere.
    images : Images
        The prepared images, where they are.
    """
    try:
        checked = _read(config, file, run)
        _check_arrays(checked)
        _check_run(checked)
        note = _check_images(checked, images)
    except HarnessError as error:
        return Finding("damaged", file.name, str(error)), None
    except UNEXPECTED as error:
        return Finding("damaged", file.name, unexpected(error)), None
    except _DiffersError as error:
        return Finding("differs", file.name, str(error)), None
    doubts = [] if checked.ours else [OTHER_SETTINGS]
    doubts += [] if note is None else [f"its labels: {note}"]
    doubts += [] if run is not None else ["its weights are not here"]
    if doubts:
        return Finding("not checked", file.name, f"whole, but {'; '.join(doubts)}"), checked
    text = str(checked.record.metrics)
    return Finding("stands", file.name, text), checked


def check_shard(file: Copied) -> Finding:
    """Check a block of images of an evaluation that is not finished: its arrays only."""
    try:
        check_npz(file.path)
        arrays = read_npz(file.path, ("index", "label", "clean", "adversarial", "broken_by"))
    except HarnessError as error:
        return Finding("damaged", file.name, str(error))
    if len(arrays) != 5 or len({array.shape for array in arrays.values()}) != 1:
        return Finding("damaged", file.name, "it lacks arrays, or they are of different lengths")
    return Finding("stands", file.name, "a part of an evaluation that is not finished")


def check_outcome(file: Copied, summaries: Mapping[str, dict[str, Any]]) -> Finding:
    """Check the file that says what came of attacking a published checkpoint."""
    try:
        told = read_json(file.path)
    except HarnessError as error:
        return Finding("damaged", file.name, str(error))
    folder, _, name = file.name.rpartition("/")
    summary = summaries.get(f"{folder}/records/{name}")
    if not told.get("evaluated"):
        return Finding("stands", file.name, f"not evaluated: {told.get('reason')}")
    if summary is None:
        return Finding("damaged", file.name, "it says there is a record, which is not there")
    if summary.get("model_sha256") != told.get("model_sha256"):
        return Finding("differs", file.name, "its record is of other weights")
    return Finding("stands", file.name)


def _read(config: Config, file: Copied, run: CheckedRun | None) -> CheckedRecord:
    """Read a record and the settings it says it was made with.

    Raises
    ------
    HarnessError
        If it is damaged, or not what its path says.
    """
    place = file.place.parts
    if run is not None and run.cell is None:
        raise HarnessError("its folder is of no run")
    check_npz(file.path)
    record = read_record(file.path)
    told = record.info.get("spec")
    try:
        kind = AttackSpec if run is None else EvaluationSpec
        spec = kind.model_validate(told)
        _Summary.model_validate(record.info)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise HarnessError(f"its summary is damaged at {key!r}: {first['msg']}") from error
    if record.info["digest"] != spec.digest:
        raise HarnessError(f"its digest is not that of its settings, {spec.digest}")
    if (spec.attack.label(spec.name), str(spec.seed)) != (place["label"], place["seed"]):
        raise HarnessError("its settings are of another attack or seed than its name")
    if spec.package not in (None, *get_args(AttackPackage)):
        raise HarnessError(f"it names {spec.package!r} as the source of its attack")
    if isinstance(spec, EvaluationSpec) and spec.checkpoint != checkpoint_of(place["choice"]):
        raise HarnessError("its settings are of another checkpoint than its folder")
    parts, every = list(spec.attack.parts), spec.attack.parts == ("pgd",)
    if (record.info["parts"], record.info["every_image"]) != (parts, every):
        raise HarnessError("its summary names other parts than its attack has")
    if record.info.get("metrics") != record.metrics.as_dict():
        raise HarnessError("the metrics of its summary are not those of its images")
    name = place["dataset"] if run is None or run.cell is None else run.cell.dataset
    dataset = dataset_facts(name).name
    ours = _asked_for(config, spec, run, dataset) == spec.digest
    return CheckedRecord(file, record, spec, dataset, run, ours)


def _asked_for(
    config: Config, spec: AttackSpec, run: CheckedRun | None, dataset: str
) -> str | None:
    """Return the digest of what the configuration means by an attack; None if it has none such."""
    try:
        if run is not None and run.cell is not None and isinstance(spec, EvaluationSpec):
            return evaluation_spec(config, run.cell, spec.name, spec.seed, spec.checkpoint).digest
        return attack_spec(config, spec.name, spec.seed, dataset).digest
    except HarnessError:
        return None


def _check_arrays(checked: CheckedRecord) -> None:
    """Refuse what no attack can leave.

    Raises
    ------
    HarnessError
        Saying what is impossible.
    """
    facts = dataset_facts(checked.dataset)
    for problem in _impossible(checked.record, facts, checked.spec):
        raise HarnessError(problem)


def _impossible(record: Record, facts: DatasetFacts, spec: AttackSpec) -> Iterator[str]:
    arrays = (record.index, record.label, record.clean, record.adversarial, record.broken_by)
    if not all(array.dtype.kind == "i" for array in arrays):
        yield "its arrays are not of whole numbers"
        return
    index, label, clean, adversarial, broken = (array.astype(np.int64) for array in arrays)
    yield from _impossible_places(index, facts, spec)
    # of a folder of images its index says of how many classes they are
    if facts.storage == "arrays" and any(
        (a < 0).any() or (a >= facts.classes).any() for a in (label, clean, adversarial)
    ):
        yield f"it has a class that {facts.title} has not"
    if (broken < -1).any() or (broken >= len(spec.attack.parts)).any():
        yield "an image was broken by a part that its attack has not"
    if not np.array_equal(broken >= 0, (clean == label) & (adversarial != label)):
        yield "the images that it calls broken are not those whose prediction turned wrong"
    if spec.attack.parts != ("pgd",) and (adversarial != clean)[clean != label].any():
        yield "an image that its attack left alone has another prediction"


def _impossible_places(
    index: NDArray[np.int64], facts: DatasetFacts, spec: AttackSpec
) -> Iterator[str]:
    if not len(index):
        yield "it has no images"
        return
    # compared, not subtracted: differences of large numbers wrap around
    if not (index[1:] > index[:-1]).all() or index.min() < 0:
        yield "its images do not stand in the order of the test set, each once"
    if spec.images is not None and len(index) != spec.images:
        yield f"it has {len(index)} images, its settings {spec.images}"
    # of a folder of images its index says how many there are
    if facts.storage == "arrays" and index.max() >= facts.test:
        yield f"it has image {index.max()}, {facts.title} has {facts.test}"


def _check_run(checked: CheckedRecord) -> None:
    """Hold a record against the run in whose folder it lies.

    Raises
    ------
    _DiffersError
        If it is of another run or other weights.
    """
    run, info, spec = checked.run, checked.record.info, checked.spec
    if run is None or not isinstance(spec, EvaluationSpec):
        return
    if run.run is None:
        raise _DiffersError(f"{run.name} has no run.json that stands")
    if spec.training != run.run.digest:
        raise _DiffersError("it is of a run with other settings than the one beside it")
    if info["model_sha256"] != run.run.models.get(spec.checkpoint):
        raise _DiffersError("it is of other weights than the run's")
    data = info.get("data")
    if not isinstance(data, dict) or data.get("sha256") != run.run.data.sha256:
        raise _DiffersError("it is of other images than its run")


def _check_images(checked: CheckedRecord, images: Images) -> str | None:
    """Hold a record against the test images; why not where there are none.

    Raises
    ------
    _DiffersError
        If its labels are not those of the images, or it has not all of them.
    """
    record = checked.record
    try:
        sha256, labels = images.labels(checked.dataset)
    except HarnessError as error:
        return str(error)
    data = record.info.get("data")
    if not isinstance(data, dict) or data.get("sha256") != sha256:
        raise _DiffersError(f"it is of other images than {checked.dataset} as prepared here")
    index = record.index.astype(np.int64)
    if index.max() >= len(labels) or not np.array_equal(labels[index], record.label):
        raise _DiffersError("its labels are not those of the test images")
    if checked.spec.images is None and len(index) != len(labels):
        raise _DiffersError(f"it has {len(index)} images, the test set {len(labels)}")
    return None
