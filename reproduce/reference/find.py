"""Which runs of a configuration the reference results hold."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from reproduce import paths
from reproduce.cells import Cell
from reproduce.config import Config
from reproduce.errors import HarnessError
from reproduce.experiments import Evaluation, experiment_names, find_experiment
from reproduce.files import is_sealed, read_json
from reproduce.records import is_current, read_record
from reproduce.runs import RunInfo, damaged_file, problem_with, read_run
from reproduce.saved import state_file
from reproduce.specs import TrainingSpec, evaluation_spec, training_spec


@dataclass(frozen=True)
class Taken:
    """A published run that serves as one of the configuration's.

    Attributes
    ----------
    cell : Cell
        The run.
    source : Path
        Its folder among the reference results.
    run : RunInfo
        What its run.json says.
    evaluations : mapping
        The attacks of the configuration that it has a record of, and that record.
    """

    cell: Cell
    source: Path
    run: RunInfo
    evaluations: Mapping[Evaluation, Path]

    @property
    def files(self) -> list[Path]:
        """Its files, from its folder on; run.json, which says that all are there, comes last."""
        found = []
        for record in self.evaluations.values():
            found += [record, record.with_suffix(".json")]
        found += paths.run_files(self.source, self.run.kept)
        return [path.relative_to(self.source) for path in found]


@dataclass(frozen=True)
class Reference:
    """What the reference results hold of a configuration.

    Attributes
    ----------
    taken : dict
        The runs that serve as the configuration's, by cell.
    refused : dict
        Why a published run of the same settings does not.
    """

    taken: dict[Cell, Taken] = field(default_factory=dict)
    refused: dict[Cell, str] = field(default_factory=dict)


def find_reference(config: Config) -> Reference:
    """Look which runs of a configuration are taken from its reference results.

    A run is taken if its settings and images are those asked for, every file matches its
    checksum, and each attack that the configuration asks of it has a record there or can be
    done with the weights that are there.  What was begun or trained here with these settings
    is not replaced.  What was taken before stays taken when the reference results go.

    Parameters
    ----------
    config : Config
        The configuration; `reference` is where published results lie, a folder of results
        folders: ``<name>/<preset>/cells/...``.

    Raises
    ------
    HarnessError
        If that is no such folder.
    """
    found = Reference()
    if config.reference is None:
        return found
    _check_folder(config.reference, config.preset)
    # those of one's own results were taken before
    roots = [*sorted(config.reference.glob(f"*/{config.preset}")), paths.root(config)]
    for cell, evaluations in _asked_for(config).items():
        sources = [root / "cells" / cell.id for root in roots]
        sources = [source for source in sources if paths.run_file(source).is_file()]
        if not sources or is_ours(config, cell):
            continue
        for source in sources:
            try:
                taken, problem = _look(config, cell, source, evaluations)
            except (HarnessError, OSError) as error:
                taken, problem = None, f"cannot be used: {error}"
            if taken is not None:
                found.taken[cell] = taken
                found.refused.pop(cell, None)
                break
            if problem is not None:
                found.refused[cell] = f"{source} {problem}"
    return found


def _check_folder(reference: Path, preset: str) -> None:
    """Refuse a folder that cannot hold publications; the usual one may be missing."""
    usual = Config.model_fields["reference"].default
    if not reference.is_dir() and (reference.exists() or reference != usual):
        raise HarnessError(f"reference: {reference} is not a folder; null trains everything here")
    for cells in (reference / "cells", reference / preset / "cells"):
        if cells.is_dir():
            raise HarnessError(
                f"reference: {reference} is itself a results folder; give the folder in which "
                "publications lie, each by its name"
            )


def is_ours(config: Config, cell: Cell) -> bool:
    """Say whether a run with these settings was begun or trained in the results folder."""
    folder, digest = paths.cell_folder(config, cell), training_spec(config, cell).digest
    if state_file(folder, digest).exists():
        return True
    try:
        here = read_run(folder)
    except HarnessError:  # `train` says so
        return True
    return here is not None and here.digest == digest and here.published is None


def _asked_for(config: Config) -> dict[Cell, list[Evaluation]]:
    """Return every run of a configuration, with all attacks on it."""
    found: dict[Cell, dict[Evaluation, None]] = {}
    for name in experiment_names(config):
        experiment = find_experiment(config, name)
        for cell in experiment.cells:
            found.setdefault(cell, {})
        for item in experiment.evaluations:
            found.setdefault(item.cell, {})[item] = None
    return {cell: list(items) for cell, items in found.items()}


def _look(
    config: Config, cell: Cell, source: Path, evaluations: Iterable[Evaluation]
) -> tuple[Taken | None, str | None]:
    """Return a published run if it is taken; else why not, None where it is another run."""
    spec = training_spec(config, cell)
    run = read_run(source)
    if run is None or run.digest != spec.digest or run.published is None:
        return None, None
    problem = problem_with(config, spec, run, source) or _doubt(source, run, spec)
    if problem is not None:
        return None, problem
    records = {}
    for item in evaluations:
        label = config.eval.label(item.attack)
        record = paths.record_file(source, item.checkpoint, label, item.seed)
        if _serves(config, item, record, run):
            records[item] = record
        elif item.checkpoint not in run.kept:
            return None, f"has no record of {record.stem} for these settings, and no weights"
    return Taken(cell, source, run, records), None


def _doubt(source: Path, run: RunInfo, spec: TrainingSpec) -> str | None:
    """Say what of a published run is not as it was written; None if nothing."""
    path = paths.run_file(source)
    if run.epochs is None or not is_sealed(path):
        return "is older than the checksums that a published run needs"
    try:
        told = TrainingSpec.model_validate(read_json(path).get("spec"))
    except ValidationError:
        told = None
    if told is None or told.digest != spec.digest:
        return "says in its settings otherwise than in their digest"
    damaged = damaged_file(source, run)
    return None if damaged is None else f"has a damaged {damaged.name}"


def _serves(config: Config, item: Evaluation, path: Path, run: RunInfo) -> bool:
    """Say whether a published record is whole and the one that is asked for."""
    spec = evaluation_spec(config, item.cell, item.attack, item.seed, item.checkpoint)
    try:
        record = read_record(path)
    except HarnessError:
        return False
    weights, images = run.models.get(item.checkpoint), spec.images or run.data.test
    return (
        weights is not None
        and is_current(path, record.info, spec.digest, weights)
        and len(record.index) == images
    )
