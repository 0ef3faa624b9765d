"""One configuration as the rules see it: where files lie, and what they are made from."""

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cached_property, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reproduce.cell import Cell, parse_cell
from reproduce.config.fields import Checkpoint, merge
from reproduce.config.load import (
    CONFIG_VARIABLE,
    build_config,
    from_snakefile,
    kept_values,
    read_settings,
)
from reproduce.core.errors import HarnessError
from reproduce.core.files import sha256_of_file
from reproduce.experiments import paths
from reproduce.experiments.cost import Speeds, load_speeds
from reproduce.experiments.grids import (
    Evaluation,
    Experiment,
    PublishedEvaluation,
    example_evaluations,
    experiment_names,
    figure_names,
    find_experiment,
    find_table,
    planned_evaluations,
    planned_methods,
    planned_runs,
    repeated_evaluations,
    table_names,
    traced_cells,
)
from reproduce.experiments.runs import RunInfo, problem_with, read_run
from reproduce.experiments.spec import checkpoints, training_spec, zeta_source
from reproduce.figures import FIGURES, available_figures
from reproduce.registry import EXTRA
from reproduce.results.reader import is_evaluated, record_path
from reproduce.workflow.jobs import Job, attack_job, training_job

if TYPE_CHECKING:
    from snakemake.workflow import Workflow

# of a cell's id in a path
CELL = r"[^/]+/[^/]+/[^/]+/lam-[0-9.]+/seed-[0-9]+"
_FILE = "config.yaml"


def workflow_settings(workflow: "Workflow") -> dict[str, Any]:
    """Read config.yaml, what ``--configfile`` names, and ``--config``, each over those before it.

    Snakemake's own reader of such files takes the last of two values of a key without a word.
    A job of a cluster does what was planned; config.yaml may have changed since.
    """
    if workflow.remote_exec and from_snakefile():
        return dict(json.loads(os.environ[CONFIG_VARIABLE]))
    given = workflow.config_settings
    if not given.replace_workflow_config and (Path(_FILE).exists() or not given.configfiles):
        # for Snakemake's report, and for jobs that get a copy of the sources
        workflow.configfiles.insert(0, _FILE)
    files = [read_settings(Path(file)) for file in workflow.configfiles]
    return reduce(merge, [*files, _typed(given.config)])


def _typed(value: Any) -> Any:
    """Turn what ``--config`` leaves as text inside a mapping into numbers, booleans and null."""
    if isinstance(value, Mapping):
        return {key: _typed(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_typed(inner) for inner in value]
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}|true|false|null", value):
        return json.loads(value)
    return value


def _all_but(beginnings: Iterable[str]) -> str:
    """Return a pattern of cell ids in paths that do not begin with any of these texts."""
    left_out = "|".join(map(re.escape, beginnings))
    return f"(?!{left_out}){CELL}" if left_out else CELL


class Harness:
    """What the rules ask of one configuration; `remote` is true in a job that a cluster runs."""

    def __init__(self, settings: Mapping[str, Any], *, remote: bool = False) -> None:
        self.config = config = build_config(settings)
        self.remote = remote
        self.tables, self.figures = table_names(config), available_figures(config)
        self._cells = paths.root(config) / "cells"
        self._jobs: dict[tuple[tuple[str, str], ...], Job] = {}
        # runs that no job trains
        self._imported: dict[Cell, RunInfo] = {}
        stale = self._find_runs()
        if not remote and not from_snakefile():
            if kept := kept_values(settings, config, planned_methods(config)):
                print(f"{kept}.", file=sys.stderr)
            if stale:
                # Snakemake goes by its own notes, and has none of what was made without it
                print(
                    f"{len(stale)} finished run(s) have other settings, such as {stale[0]}. "
                    "Snakemake makes again what it made itself; for the others add: "
                    "--forcerun train evaluate",
                    file=sys.stderr,
                )
        # Jobs read the configuration as it was planned, whatever happens to config.yaml and
        # whatever $VAR is on their machine, and run with the Python of this Snakemake.
        places = config.model_dump(mode="json", include={"results", "data"})
        os.environ[CONFIG_VARIABLE] = json.dumps({**settings, **places})
        os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        # whatever the locale, logs are UTF-8
        os.environ["PYTHONIOENCODING"] = "utf-8"

    def _find_runs(self) -> list[Cell]:
        """Find the planned runs that were imported, and return finished ones of other settings."""
        stale = []
        for cell in planned_runs(self.config):
            with suppress(HarnessError):  # of a damaged one training says so
                run = read_run(self._cells / cell.id)
                if run is None:
                    continue
                if problem_with(self.config, training_spec(self.config, cell), run) is not None:
                    stale.append(cell)
                elif run.published is not None:
                    self._imported[cell] = run
        return stale

    # Jobs

    @cached_property
    def _speeds(self) -> Speeds:
        return load_speeds(self.config)

    def job(self, wildcards: Mapping[str, str]) -> Job:
        """Return what a job of a rule with these wildcards does and asks for."""
        key = tuple(wildcards.items())
        if key not in self._jobs:
            self._jobs[key] = self._job(**wildcards)
        return self._jobs[key]

    def _job(
        self,
        cell: str = "",
        choice: str = "",
        attack: str = "",
        seed: str = "",
        dataset: str = "",
        zoo: str = "",
    ) -> Job:
        config = self.config
        if zoo:
            network = PublishedEvaluation(zoo, dataset, self.attack(attack), int(seed))
            return attack_job(config, network, self._speeds)
        if not cell:  # adversarial examples, the lemma
            gpus = 0 if config.machine.device == "cpu" else 1
            return Job(config.machine, gpus=gpus, threads=config.machine.threads)
        which = parse_cell(cell)
        if not attack:
            return training_job(config, training_spec(config, which), self._speeds)
        checkpoint = paths.checkpoint_of(choice)
        item = Evaluation(which, checkpoint, self.attack(attack), int(seed))
        return attack_job(config, item, self._speeds)

    def limit(self, wildcards: Mapping[str, str], runtime: int) -> str:
        """Return the option by which a job of a cluster ends itself in time; else nothing."""
        return self.job(wildcards).limit(runtime) if self.remote else ""

    def attack(self, label: str) -> str:
        """Return the attack whose records go by a label."""
        names = {self.config.eval.label(name): name for name in self.config.eval.attacks}
        if label not in names:
            known = ", ".join(names)
            raise HarnessError(
                f"unknown attack {label!r}; preset {self.config.preset} has: {known}"
            )
        return names[label]

    # Images, runs, records

    def source(self, name: str) -> str:
        """Return where images come from; another source prepares them again."""
        if name in EXTRA:
            return str(paths.extra_source(self.config.data, name))
        return str(getattr(self.config.data, name, "embedded"))

    def images(self, cell: str) -> list[Path]:
        """Return the prepared images that a cell is trained with, extra images last."""
        extra = training_spec(self.config, parse_cell(cell)).extra
        names = [parse_cell(cell).dataset, *([] if extra is None else [extra.name])]
        return [paths.prepared_file(self.config, name) for name in names]

    def manifests(self, cell: str) -> list[Path]:
        """Return the small files that change exactly when those images do."""
        return [path.with_suffix(".json") for path in self.images(cell)]

    def trained_first(self, cell: str) -> list[Path]:
        """Return the trace of the run that a cell's zeta is measured from, if there is one."""
        first = zeta_source(self.config, parse_cell(cell))
        return [] if first is None else [paths.trace_file(self._cells / first.id)]

    @property
    def trained(self) -> str:
        """The pattern of the cells that jobs train: all but the imported ones."""
        return _all_but(f"{cell}/" for cell in self._imported)

    @property
    def attacked(self) -> str:
        """The pattern of the cells that jobs attack, without imported records."""
        asked = planned_evaluations(self.config)
        return _all_but(
            path.relative_to(self._cells).as_posix()
            for cell in self._imported
            for item in asked.get(cell, ())
            if is_evaluated(self.config, item)
            for path in self._record(item)
        )

    def run_files(self, cells: Iterable[Cell]) -> list[Path]:
        """Return every file of some runs; of imported ones, what was published."""
        files = (paths.run_files(self._cells / cell.id, self._kept(cell)) for cell in cells)
        return [file for each in files for file in each]

    def _kept(self, cell: Cell) -> tuple[Checkpoint, ...]:
        run = self._imported.get(cell)
        return checkpoints(self.config.train) if run is None else run.kept

    def weights(self, cell: str, choice: str) -> Path:
        """Return the weights of a checkpoint, by the suffix that wildcards name it by."""
        checkpoint, run = paths.checkpoint_of(choice), self._imported.get(parse_cell(cell))
        if run is not None and checkpoint not in run.kept:
            raise HarnessError(
                f"{cell} was imported without the weights of {checkpoint}; "
                f"`reproduce train {cell}` trains it here"
            )
        return paths.model_file(self._cells / cell, checkpoint)

    def _record(self, item: Evaluation) -> list[Path]:
        path = record_path(self.config, item)
        return [path, path.with_suffix(".json")]

    def _records(self, experiment: Experiment) -> list[Path]:
        """Return an experiment's records, and what came of attacking published checkpoints."""
        published = (record_path(self.config, item) for item in experiment.published)
        return [
            *(file for item in experiment.evaluations for file in self._record(item)),
            *map(paths.published_outcome, published),
        ]

    # Tables, figures, claims, report

    def records(self, *names: str) -> list[Path]:
        """Return the records that experiments are made from, each once; of all if none is named."""
        chosen = names or experiment_names(self.config)
        experiments = [find_experiment(self.config, name) for name in chosen]
        return list(dict.fromkeys(file for each in experiments for file in self._records(each)))

    def table(self, name: str) -> list[Path]:
        """Return the forms of a table; `name` may be a wildcard."""
        return [paths.table_file(self.config, name, form) for form in ("csv", "md", "tex")]

    def figure(self, name: str) -> list[Path]:
        """Return the forms of a figure; `name` may be a wildcard."""
        return [paths.figure_file(self.config, name, form) for form in ("svg", "png", "csv")]

    def outputs(self, name: str) -> list[Path]:
        """Return every file of a table or figure, so that one that is lost is made again."""
        if name in self.figures:
            lemma = [paths.lemma_file(self.config)] if name == "lemma" else []
            return [*self.figure(name), *lemma]
        if name in FIGURES:
            known = ", ".join(self.figures)
            raise HarnessError(f"{name} is left out by the configuration, which has: {known}")
        table = find_table(self.config, name)
        made = [*self.table(name), paths.diff_file(self.config, name)]
        return [*made, *self._records(table), *self.run_files(table.cells)]

    def drawn_from(self, figure: str) -> list[Path]:
        """Return the files that a figure is drawn from: of runs, records, or the lemma's."""
        if figure == "lemma":
            return [paths.lemma_file(self.config)]
        if figure in figure_names(self.config):
            experiment = find_experiment(self.config, figure)
            return [*self.run_files(experiment.cells), *self._records(experiment)]
        grid = self.config.experiments.table3 if figure == "war" else None
        return [] if grid is None else self.run_files(traced_cells(grid))

    def compared_runs(self, table: str) -> list[str]:
        """Return what changes when there are other runs of Table 1 to judge Table 2 by.

        They are no inputs: Table 2 does not wait for training seeds that only Table 1 needs.
        """
        items = repeated_evaluations(self.config, table)
        summaries = [record_path(self.config, item).with_suffix(".json") for item in items]
        return [sha256_of_file(path) for path in summaries if path.is_file()]

    @cached_property
    def examples(self) -> list[Path]:
        """The adversarial examples and their description; none without the weights for them."""
        pair = example_evaluations(self.config)
        if pair is None or any(item.checkpoint not in self._kept(item.cell) for item in pair):
            return []
        path = paths.examples_file(self.config, pair[0].cell.dataset)
        return [path, path.with_suffix(".json")]

    def attacked_examples(self) -> list[Path]:
        """Return what adversarial examples are made from: two runs and their records."""
        files = []
        for item in example_evaluations(self.config) or ():
            folder = self._cells / item.cell.id
            files += [*self.manifests(item.cell.id), paths.run_file(folder)]
            files += [paths.model_file(folder, item.checkpoint), *self._record(item)]
        return list(dict.fromkeys(files))

    def examples_digest(self) -> list[str]:
        """Return what changes exactly when a setting that touches the examples does."""
        return [item.spec(self.config).digest for item in example_evaluations(self.config) or ()]

    def shown(self) -> list[Path]:
        """Return everything that the report shows."""
        config = self.config
        tables = [[*self.table(name), paths.diff_file(config, name)] for name in self.tables]
        figures = [self.figure(name) for name in self.figures]
        others = [self.table("checkpoints"), self.examples]
        files = [file for group in (*tables, *figures, *others) for file in group]
        return [*files, paths.lemma_file(config), paths.claims_file(config)]
