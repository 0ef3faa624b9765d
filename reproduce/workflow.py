"""What the Snakefile asks of the package: files, digests, and how its jobs are started."""

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
from reproduce.catalogue import EXTRA, dataset_facts
from reproduce.cells import parse_cell
from reproduce.errors import HarnessError
from reproduce.experiments import (
    Evaluation,
    Experiment,
    example_evaluations,
    experiment_names,
    figure_names,
    find_experiment,
    find_table,
    planned_runs,
    table_names,
    traced_cells,
)
from reproduce.figures import available_figures
from reproduce.files import digest
from reproduce.outcomes import PublishedAttack
from reproduce.settings import CONFIG_VARIABLE, build_config
from reproduce.specs import (
    checkpoints,
    evaluation_spec,
    lemma_digest,
    protocol_digest,
    thin_cell,
    training_spec,
)

P = ParamSpec("P")
T = TypeVar("T")


def _for_rules(method: Callable[P, T]) -> Callable[P, T]:
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
    if isinstance(value, str) and re.fullmatch(r"-?\d+|true|false|null", value):
        return json.loads(value)
    return value


class Harness:
    """The rules' view of one configuration.

    Parameters
    ----------
    config : mapping
        Snakemake's merged configuration: config.yaml and ``--config``.

    Raises
    ------
    WorkflowError
        If the configuration does not fit; Snakemake shows it without a traceback.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        config = _typed(config)
        self.config = _for_rules(build_config)(config)
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

    def source(self, name: str) -> str:
        """Return where images come from; another source prepares them again."""
        if name in EXTRA:
            return str(paths.extra_source(self.config.data, name))
        return str(getattr(self.config.data, name, "embedded"))

    @_for_rules
    def gpus_of(self, cell: str) -> int:
        """Return how many GPUs train one network; several share batches of image files."""
        several = self._decodes(parse_cell(cell).dataset)
        return self.gpus * (self.config.machine.gpus_per_cell if several else 1)

    @_for_rules
    def launcher(self, cell: str) -> str:
        """Return what starts the training of one network, on as many GPUs as it has."""
        count = self.gpus_of(cell)
        several = f"torch.distributed.run --standalone --nproc-per-node {count} -m "
        return f"python -m {several if count > 1 else ''}reproduce"

    @_for_rules
    def training_threads(self, cell: str) -> int:
        """Return how many threads a training run keeps busy, those that decode files included."""
        machine, processes = self.config.machine, max(1, self.gpus_of(cell))
        decoding = machine.loaders if self._decodes(parse_cell(cell).dataset) else 0
        return processes * (machine.threads + decoding)

    @_for_rules
    def evaluation_threads(self, dataset: str) -> int:
        """Return how many threads an evaluation keeps busy; it decodes files, then attacks."""
        machine = self.config.machine
        decoding = machine.loaders if self._decodes(dataset) else 0
        return machine.processes * max(machine.threads, decoding)

    def _decodes(self, dataset: str) -> bool:
        return dataset_facts(dataset).storage == "folder"

    @_for_rules
    def images(self, cell: str) -> Path:
        """Return the prepared images of a cell's data set."""
        return paths.prepared_file(self.config, parse_cell(cell).dataset)

    @_for_rules
    def trained_first(self, cell: str) -> list[Path]:
        """Return the traces of the runs that a cell's training measures something from."""
        thin = thin_cell(self.config, parse_cell(cell))
        return [] if thin is None else [paths.trace_file(self.cells / thin.id)]

    @_for_rules
    def extra_images(self, cell: str) -> list[Path]:
        """Return the prepared extra images of a cell, if it is trained with some."""
        extra = training_spec(self.config, parse_cell(cell)).extra
        return [] if extra is None else [paths.prepared_file(self.config, extra.name)]

    def extra_manifest(self, cell: str) -> list[Path]:
        """Return the small file that changes exactly when the extra images do."""
        return [path.with_suffix(".json") for path in self.extra_images(cell)]

    @_for_rules
    def manifest(self, cell: str) -> Path:
        """Return the small file that changes exactly when the images do."""
        return self.images(cell).with_suffix(".json")

    def run_files(self, folder: Path) -> list[Path]:
        """Return every file of a training run in `folder`, which may hold a wildcard."""
        return paths.run_files(folder, checkpoints(self.config.train))

    @_for_rules
    def records(self, experiment: str) -> list[Path]:
        """Return the records that an experiment is made from."""
        return self._records(find_experiment(self.config, experiment))

    @_for_rules
    def all_records(self) -> list[Path]:
        """Return the records of all experiments, each once: they share many."""
        experiments = [find_experiment(self.config, name) for name in experiment_names(self.config)]
        records = dict.fromkeys(file for each in experiments for file in self._records(each))
        return list(records)

    def _outcomes(self, experiment: Experiment) -> list[Path]:
        """Return the files that say what came of attacking published checkpoints."""
        return [
            PublishedAttack(self.config, e.dataset, e.name, e.attack, e.seed).outcome
            for e in experiment.published
        ]

    def published_attack(self, dataset: str, zoo: str, attack: str, seed: str) -> PublishedAttack:
        """Return the attack on a published checkpoint that wildcards name."""
        return PublishedAttack(self.config, dataset, zoo, self.attack(attack), int(seed))

    @_for_rules
    def published_digest(self, **wildcards: str) -> str:
        """Return what changes exactly when a setting that touches such an attack does."""
        return self.published_attack(**wildcards).spec.digest

    @_for_rules
    def published_attempt(self, **wildcards: str) -> int:
        """Return what changes when attacking a published checkpoint is worth another try."""
        return self.published_attack(**wildcards).attempt()

    def _records(self, experiment: Experiment) -> list[Path]:
        records = [path for item in experiment.evaluations for path in self._records_of(item)]
        return [*records, *self._outcomes(experiment)]

    def _records_of(self, item: Evaluation) -> list[Path]:
        label = self.config.eval.label(item.attack)
        path = paths.record_file(self.cells / item.cell.id, item.checkpoint, label, item.seed)
        return [path, path.with_suffix(".json")]

    def table(self, experiment: str) -> list[Path]:
        """Return the forms of a table; `experiment` may be a wildcard."""
        forms = ("csv", "md", "tex")
        return [paths.table_file(self.config, experiment, suffix) for suffix in forms]

    def figure(self, name: str) -> list[Path]:
        """Return the forms of a figure."""
        return [paths.figure_file(self.config, name, suffix) for suffix in ("svg", "png", "csv")]

    @_for_rules
    def drawn_from(self, figure: str) -> list[Path]:
        """Return the files that a figure is drawn from: of runs, records, or the lemma's."""
        if figure == "lemma":
            return [self.lemma]
        if figure in figure_names(self.config):
            experiment = find_experiment(self.config, figure)
            cells, records = experiment.cells, self._records(experiment)
        else:
            grid = self.config.experiments.table3 if figure == "war" else None
            cells, records = () if grid is None else tuple(traced_cells(grid)), []
        return [*(file for c in cells for file in self.run_files(self.cells / c.id)), *records]

    @_for_rules
    def judged_from(self) -> list[Path]:
        """Return the files that claims are judged on: of every run, and every record."""
        found = [find_experiment(self.config, name) for name in experiment_names(self.config)]
        cells = {cell: None for experiment in found for cell in experiment.cells}
        files = [file for cell in cells for file in self.run_files(self.cells / cell.id)]
        for experiment in found:
            files += self._records(experiment)
        return list(dict.fromkeys(files))

    @_for_rules
    def claims_digest(self) -> str:
        """Return what changes when a verdict may, runs and records aside."""
        names = experiment_names(self.config)
        return digest([protocol_digest(self.config, name) for name in names])

    @_for_rules
    def picture(self, name: str) -> list[Path]:
        """Return the forms of a figure that the configuration has."""
        if name not in self.figures:
            known = ", ".join(self.figures)
            raise HarnessError(f"{name} is left out by the configuration, which has: {known}")
        return self.figure(name)

    @_for_rules
    def epochs(self) -> list[Path]:
        """Return what the table of checkpoints is made from: every run's epochs and settings."""
        folders = [self.cells / cell.id for cell in planned_runs(self.config)]
        return [file(folder) for folder in folders for file in (paths.epochs_file, paths.run_file)]

    @property
    def examples(self) -> list[Path]:
        """The adversarial examples and what says what they are; none without such a grid."""
        pair = example_evaluations(self.config)
        if pair is None:
            return []
        path = paths.examples_file(self.config, pair[0].cell.dataset)
        return [path, path.with_suffix(".json")]

    @_for_rules
    def attacked_examples(self) -> list[Path]:
        """Return what adversarial examples are made from: two runs and their records."""
        files = []
        for item in example_evaluations(self.config) or ():
            folder = self.cells / item.cell.id
            files += [self.manifest(item.cell.id), paths.run_file(folder)]
            files += [paths.model_file(folder, item.checkpoint), *self._records_of(item)]
        return list(dict.fromkeys(files))

    @_for_rules
    def examples_digest(self) -> list[str]:
        """Return what changes exactly when a setting that touches the examples does."""
        return [
            evaluation_spec(self.config, e.cell, e.attack, e.seed, e.checkpoint).digest
            for e in example_evaluations(self.config) or ()
        ]

    def diff(self, experiment: str) -> Path:
        """Return the comparison of a table with the paper's; `experiment` may be a wildcard."""
        return paths.diff_file(self.config, experiment)

    @_for_rules
    def outputs(self, name: str) -> list[Path]:
        """Return every file of an experiment, so that one that is lost is made again."""
        experiment = find_table(self.config, name)
        runs = [file for cell in experiment.cells for file in self.run_files(self.cells / cell.id)]
        return [*self.table(name), self.diff(name), *self._records(experiment), *runs]

    @_for_rules
    def training_digest(self, cell: str) -> str:
        """Return what changes exactly when a setting that touches this cell does."""
        return training_spec(self.config, parse_cell(cell)).digest

    @_for_rules
    def evaluation_digest(self, cell: str, choice: str, attack: str, seed: str) -> str:
        """Return what changes exactly when a setting that touches this evaluation does."""
        checkpoint, name = paths.checkpoint_of(choice), self.attack(attack)
        return evaluation_spec(self.config, parse_cell(cell), name, int(seed), checkpoint).digest

    @_for_rules
    def attack(self, label: str) -> str:
        """Return the attack whose records go by a label."""
        names = [name for name in self.config.eval.attacks if self.config.eval.label(name) == label]
        if not names:
            known = ", ".join(map(self.config.eval.label, self.config.eval.attacks))
            raise HarnessError(f"unknown attack {label!r}; the configuration has: {known}")
        return names[0]

    @_for_rules
    def table_digest(self, experiment: str) -> str:
        """Return what changes when the text of a table or figure does, its records aside."""
        return protocol_digest(self.config, experiment)

    def report_inputs(self) -> list[Path]:
        """Return what must be there before the report is whole."""
        tables = [[*self.table(name), self.diff(name)] for name in self.tables]
        figures = [self.figure(name) for name in self.figures]
        parts = [
            *tables,
            *figures,
            self.table("checkpoints"),
            self.examples,
            [self.lemma, self.claims],
        ]
        return [file for files in parts for file in files]

    @_for_rules
    def report_digest(self) -> str:
        """Return what changes when the text of the report does, its results aside."""
        names = (*self.tables, *self.figures, "checkpoints")
        return digest([self.claims_digest(), *(self.table_digest(name) for name in names)])
