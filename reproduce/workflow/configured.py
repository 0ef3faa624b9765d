"""One configuration as the rules see it: checked, handed on to jobs, and where it puts files."""

import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from snakemake.exceptions import WorkflowError

from reproduce import paths
from reproduce.cells import Cell, parse_cell
from reproduce.config import Checkpoint
from reproduce.errors import HarnessError
from reproduce.experiments import (
    Evaluation,
    Experiment,
    experiment_names,
    find_experiment,
    planned_methods,
    planned_runs,
    table_names,
)
from reproduce.figures import available_figures
from reproduce.files import digest, sha256_of_file
from reproduce.outcomes import PublishedAttack
from reproduce.reference import find_reference
from reproduce.settings import CONFIG_VARIABLE, build_config, from_snakefile, kept_values
from reproduce.specs import (
    checkpoints,
    lemma_digest,
)

# a job of a cluster tells the processes that it starts
_JOB_VARIABLE = "REPRODUCE_IN_JOB"

P = ParamSpec("P")
T = TypeVar("T")


def for_rules(method: Callable[P, T]) -> Callable[P, T]:
    """Let Snakemake show what the user can mend without a traceback."""

    @wraps(method)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(*args, **kwargs)
        except HarnessError as error:
            raise WorkflowError(str(error)) from None

    return wrapped


def _typed(value: Any) -> Any:
    """Turn what Snakemake's ``--config`` leaves as text into numbers, truth values and null.

    It types a value by itself and none inside a mapping; other text stays as it is.
    """
    if isinstance(value, Mapping):
        return {key: _typed(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_typed(inner) for inner in value]
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}|true|false|null", value):
        return json.loads(value)
    return value


class Configured:
    """One configuration, where its results lie, and what it says is to be there.

    Parameters
    ----------
    config : mapping
        Snakemake's merged configuration: config.yaml and ``--config``.
    remote : bool
        Whether this Snakemake is in a job of a cluster, which the one that planned it sent.

    Raises
    ------
    WorkflowError
        If the configuration does not fit; Snakemake shows it without a traceback.
    """

    def __init__(self, config: Mapping[str, Any], *, remote: bool = False) -> None:
        if remote:
            os.environ[_JOB_VARIABLE] = "1"
            # config.yaml may have changed since; a cluster that hands on no environment
            # leaves what it says now
            config = json.loads(os.environ.get(CONFIG_VARIABLE, "null")) or config
        planning = not remote and not from_snakefile()
        # also in the processes in which a job of a cluster runs a group
        self.in_job = _JOB_VARIABLE in os.environ
        config = _typed(config)
        self.config = for_rules(build_config)(config)
        kept = kept_values(config, self.config, planned_methods(self.config)) if planning else None
        if kept is not None:
            print(f"{kept}.", file=sys.stderr)
        # Jobs read the configuration as it was planned, whatever happens to config.yaml
        # meanwhile, and run with the Python of this Snakemake; a conda environment that a
        # job activates comes before it on the path.
        os.environ[CONFIG_VARIABLE] = json.dumps(config)
        os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.root = paths.root(self.config)
        self.cells = self.root / "cells"
        self.models = self.root / "models"
        self.logs = self.root / "logs"
        self.prepared = self.config.data.folder / "prepared"
        self.gpus = 0 if self.config.machine.device == "cpu" else 1
        self.results = paths.results_file(self.config)
        self.report = paths.report_file(self.config)
        self.tables = table_names(self.config)
        self.figures = available_figures(self.config)
        self.lemma = paths.lemma_file(self.config)
        self.lemma_digest = lemma_digest(self.config)
        self.claims = paths.claims_file(self.config)
        self.taken = for_rules(find_reference)(self.config).taken

    @for_rules
    def images(self, cell: str) -> Path:
        """Return the prepared images of a cell's data set."""
        return paths.prepared_file(self.config, parse_cell(cell).dataset)

    @for_rules
    def manifest(self, cell: str) -> Path:
        """Return the small file that changes exactly when the images do."""
        return self.images(cell).with_suffix(".json")

    def run_files(self, folder: Path) -> list[Path]:
        """Return every file of a training run in `folder`, which may hold a wildcard."""
        return paths.run_files(folder, checkpoints(self.config.train))

    def files_of(self, cell: Cell) -> list[Path]:
        """Return every file that is wanted of a run: of one that is taken, what was published."""
        folder = self.cells / cell.id
        if cell in self.taken:
            return paths.run_files(folder, self.taken[cell].run.kept)
        return self.run_files(folder)

    @for_rules
    def weights(self, cell: Cell, checkpoint: Checkpoint) -> Path:
        """Return the weights of a run; of one that is taken they may not be there."""
        if not self._has_weights(cell, checkpoint):
            raise HarnessError(
                f"{cell} is taken from the reference results {self._named(cell)} without the "
                f"weights of {checkpoint}; `reproduce train {cell}` trains it here"
            )
        return paths.model_file(self.cells / cell.id, checkpoint)

    def _has_weights(self, cell: Cell, checkpoint: Checkpoint) -> bool:
        return cell not in self.taken or checkpoint in self.taken[cell].run.kept

    def _named(self, cell: Cell) -> str:
        about = self.taken[cell].run.published
        return "" if about is None else about.name

    @property
    def adopted(self) -> list[Path]:
        """The files of runs, and records, that are taken from the reference results."""
        return [
            self.cells / cell.id / name for cell, run in self.taken.items() for name in run.files
        ]

    @property
    def adopted_digest(self) -> str:
        """What changes when other runs or records are taken."""
        told = [
            (cell.id, str(name), sha256_of_file(run.source / name))
            for cell, run in self.taken.items()
            for name in run.files
            if name.suffix == ".json"
        ]
        return digest(told)

    @property
    def adopted_images(self) -> list[Path]:
        """The manifests of images that are prepared anyway: with others no run is taken."""
        planned = set(planned_runs(self.config))
        needed = {cell.dataset for cell in planned - self.taken.keys()}
        for name in experiment_names(self.config):
            for item in find_experiment(self.config, name).evaluations:
                if item.cell in self.taken and item not in self.taken[item.cell].evaluations:
                    needed.add(item.cell.dataset)
        names = sorted(needed & {cell.dataset for cell in self.taken})
        return [paths.prepared_file(self.config, name).with_suffix(".json") for name in names]

    def _outcomes(self, experiment: Experiment) -> list[Path]:
        """Return the files that say what came of attacking published checkpoints."""
        return [
            PublishedAttack(self.config, e.dataset, e.name, e.attack, e.seed).outcome
            for e in experiment.published
        ]

    def _records(self, experiment: Experiment) -> list[Path]:
        records = [path for item in experiment.evaluations for path in self._records_of(item)]
        return [*records, *self._outcomes(experiment)]

    def _records_of(self, item: Evaluation) -> list[Path]:
        label = self.config.eval.label(item.attack)
        path = paths.record_file(self.cells / item.cell.id, item.checkpoint, label, item.seed)
        return [path, path.with_suffix(".json")]
