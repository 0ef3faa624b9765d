"""One configuration as the rules see it: checked, handed on to jobs, and where it puts files."""

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import reduce, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from snakemake.exceptions import WorkflowError

from reproduce import paths
from reproduce.cells import Cell, parse_cell
from reproduce.config import Checkpoint, Config, merge
from reproduce.errors import HarnessError
from reproduce.experiments import (
    Evaluation,
    Experiment,
    planned_evaluations,
    planned_methods,
    planned_runs,
    table_names,
)
from reproduce.figures import available_figures
from reproduce.outcomes import PublishedAttack
from reproduce.planning import is_evaluated
from reproduce.runs import RunInfo, problem_with, read_run
from reproduce.settings import (
    CONFIG_VARIABLE,
    build_config,
    from_snakefile,
    kept_values,
    read_settings,
)
from reproduce.specs import checkpoints, lemma_digest, training_spec

if TYPE_CHECKING:
    from snakemake.workflow import Workflow

_FILE = "config.yaml"

# a job of a cluster tells the processes that it starts
_JOB_VARIABLE = "REPRODUCE_IN_JOB"

# of a cell's id in a path
CELL = r"[^/]+/[^/]+/[^/]+/lam-[0-9.]+/seed-[0-9]+"

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


@for_rules
def workflow_settings(workflow: "Workflow") -> dict[str, Any]:
    """Read config.yaml, what ``--configfile`` names, and ``--config``, each over those before it.

    Snakemake's own reader of such files takes the last of two values of a key in silence.
    """
    if workflow.remote_exec and from_snakefile():
        return {}  # config.yaml may have changed since, and its job does what was planned
    given = workflow.config_settings
    if not given.replace_workflow_config and (Path(_FILE).exists() or not given.configfiles):
        # for Snakemake's report, and for jobs that get a copy of the sources
        workflow.configfiles.insert(0, _FILE)
    files = [read_settings(Path(file)) for file in workflow.configfiles]
    return reduce(merge, [*files, _typed(given.config)])


def finished_runs(config: Config) -> tuple[dict[Cell, RunInfo], list[Cell]]:
    """Return the planned runs that were imported and are current, and the finished stale ones."""
    imported, stale = {}, []
    for cell in planned_runs(config):
        # of a damaged one training says so
        with suppress(HarnessError):
            run = read_run(paths.cell_folder(config, cell))
            if run is None:
                continue
            if problem_with(config, training_spec(config, cell), run) is not None:
                stale.append(cell)
            elif run.published is not None:
                imported[cell] = run
    return imported, stale


def _all_but(beginnings: Iterable[str]) -> str:
    """Return a pattern of cell ids in paths that do not begin with any of these texts."""
    left_out = "|".join(map(re.escape, beginnings))
    return f"(?!{left_out}){CELL}" if left_out else CELL


class Configured:
    """One configuration, where its results lie, and what it says is to be there.

    Parameters
    ----------
    config : mapping
        What the user sets.
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
            # a cluster that hands on no environment leaves what config.yaml says now
            config = json.loads(os.environ.get(CONFIG_VARIABLE, "null")) or config
        planning = not remote and not from_snakefile()
        # also in the processes in which a job of a cluster runs a group
        self.in_job = _JOB_VARIABLE in os.environ
        self.config = for_rules(build_config)(config)
        kept = kept_values(config, self.config, planned_methods(self.config)) if planning else None
        if kept is not None:
            print(f"{kept}.", file=sys.stderr)
        # Jobs read the configuration as it was planned, whatever happens to config.yaml
        # meanwhile and whatever $VAR is on their machine, and run with the Python of this
        # Snakemake; a conda environment that a job activates comes before it on the path.
        places = self.config.model_dump(mode="json", include={"results", "data"})
        os.environ[CONFIG_VARIABLE] = json.dumps({**config, **places})
        os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        # whatever the locale, their logs are UTF-8
        os.environ["PYTHONIOENCODING"] = "utf-8"
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
        self.imported, stale = for_rules(finished_runs)(self.config)
        if stale and planning:
            # Snakemake goes by its own notes, and has none of what was made without it
            more = f" and {len(stale) - 1} more" if len(stale) > 1 else ""
            print(
                f"{stale[0]}{more}: finished, but not as the settings ask. Snakemake makes again "
                "what it made itself; for what was made without it add: --forcerun train evaluate",
                file=sys.stderr,
            )

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
        """Return every file that is wanted of a run: of an imported one, what was published."""
        folder = self.cells / cell.id
        if cell in self.imported:
            return paths.run_files(folder, self.imported[cell].kept)
        return self.run_files(folder)

    @for_rules
    def weights(self, cell: Cell, checkpoint: Checkpoint) -> Path:
        """Return the weights of a run; of an imported one they may not be there."""
        if not self._has_weights(cell, checkpoint):
            raise HarnessError(
                f"{cell} was imported without the weights of {checkpoint}, and an attack on them "
                f"is asked for; `reproduce train {cell}` trains it here"
            )
        return paths.model_file(self.cells / cell.id, checkpoint)

    def _has_weights(self, cell: Cell, checkpoint: Checkpoint) -> bool:
        return cell not in self.imported or checkpoint in self.imported[cell].kept

    @property
    def trained(self) -> str:
        """Pattern of the cells that jobs train: an imported run is nobody's output."""
        return _all_but(f"{cell}/" for cell in self.imported)

    @property
    def attacked(self) -> str:
        """Pattern of the cells that jobs attack, where the record is not one of an imported run."""
        asked = planned_evaluations(self.config)
        records = (
            path.relative_to(self.cells)
            for cell in self.imported
            for item in asked.get(cell, ())
            if is_evaluated(self.config, item)
            for path in self._records_of(item)
        )
        return _all_but(str(path) for path in records)

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
