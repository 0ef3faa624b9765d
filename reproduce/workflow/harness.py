"""One configuration as the rules see it: where files lie, and what they are made from."""

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from reproduce.cell import Cell, parse_cell
from reproduce.config.fields import Checkpoint
from reproduce.config.load import (
    CONFIG_VARIABLE,
    build_config,
    from_snakefile,
    kept_values,
    resolved,
)
from reproduce.core.errors import HarnessError
from reproduce.core.files import digest, sha256_of_file
from reproduce.experiments import paths
from reproduce.experiments.cost import Speeds, load_speeds
from reproduce.experiments.grids import (
    Evaluation,
    Experiment,
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
from reproduce.experiments.spec import (
    EvaluationSpec,
    checkpoints,
    evaluation_spec,
    lemma_digest,
    protocol_digest,
    training_spec,
    zeta_source,
)
from reproduce.figures import available_figures
from reproduce.paper.published import published_models
from reproduce.registry import EXTRA, dataset_facts
from reproduce.results.reader import is_evaluated
from reproduce.workflow.resources import Request, attack_request, training_request
from reproduce.zoo.checkpoints import PublishedAttack

# of a cell's id in a path
CELL = r"[^/]+/[^/]+/[^/]+/lam-[0-9.]+/seed-[0-9]+"


def _all_but(beginnings: Iterable[str]) -> str:
    """Return a pattern of cell ids in paths that do not begin with any of these texts."""
    left_out = "|".join(map(re.escape, beginnings))
    return f"(?!{left_out}){CELL}" if left_out else CELL


class Harness:
    """What the rules ask of one configuration.

    Parameters
    ----------
    settings : mapping
        What the user sets.
    remote : bool
        Whether this Snakemake is in a job of a cluster, which the one that planned it sent.

    Raises
    ------
    HarnessError
        If the configuration does not fit.
    """

    def __init__(self, settings: Mapping[str, Any], *, remote: bool = False) -> None:
        if remote:
            # a cluster that hands on no environment leaves what config.yaml says now
            settings = json.loads(os.environ.get(CONFIG_VARIABLE, "null")) or settings
        planning, self._remote = not remote and not from_snakefile(), remote
        self.config = config = build_config(settings)
        self._hand_on(settings)
        self.root = paths.root(config)
        self.cells, self.models = self.root / "cells", self.root / "models"
        self.logs, self.prepared = self.root / "logs", config.data.folder / "prepared"
        self.gpus = 0 if config.machine.device == "cpu" else 1
        self.results, self.report = paths.results_file(config), paths.report_file(config)
        self.claims, self.lemma = paths.claims_file(config), paths.lemma_file(config)
        self.tables, self.figures = table_names(config), available_figures(config)
        self.lemma_digest = lemma_digest(config)
        # of jobs that nobody plans: adversarial examples, the lemma
        self.small_request = Request(config.machine)
        self._imported: dict[Cell, RunInfo] = {}
        stale = self._find_runs()
        if planning:
            kept = kept_values(settings, config, planned_methods(config))
            if kept is not None:
                print(f"{kept}.", file=sys.stderr)
            if stale:
                # Snakemake goes by its own notes, and has none of what was made without it
                print(
                    f"{len(stale)} finished run(s) have other settings, such as {stale[0]}. "
                    "Snakemake makes again what it made itself; for what was made without it add: "
                    "--forcerun train evaluate",
                    file=sys.stderr,
                )

    def _hand_on(self, settings: Mapping[str, Any]) -> None:
        """Set what jobs inherit.

        They read the configuration as it was planned, whatever happens to config.yaml meanwhile
        and whatever $VAR is on their machine, and run with the Python of this Snakemake; a conda
        environment that a job activates comes before it on the path.
        """
        places = self.config.model_dump(mode="json", include={"results", "data"})
        os.environ[CONFIG_VARIABLE] = json.dumps({**settings, **places})
        os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        # whatever the locale, logs are UTF-8
        os.environ["PYTHONIOENCODING"] = "utf-8"

    def _find_runs(self) -> list[Cell]:
        """Find the planned runs that were imported, and return finished ones of other settings."""
        stale = []
        for cell in planned_runs(self.config):
            # of a damaged one training says so
            with suppress(HarnessError):
                run = read_run(self.cells / cell.id)
                if run is None:
                    continue
                if problem_with(self.config, training_spec(self.config, cell), run) is not None:
                    stale.append(cell)
                elif run.published is not None:
                    self._imported[cell] = run
        return stale

    # Images and training

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
        return [] if first is None else [paths.trace_file(self.cells / first.id)]

    def run_files(self, cell: str) -> list[Path]:
        """Return every file of a training run; `cell` may be a wildcard."""
        return paths.run_files(self.cells / cell, checkpoints(self.config.train))

    def _wanted_files(self, cells: Iterable[Cell]) -> list[Path]:
        """Return every file of some runs; of imported ones, what was published."""
        return [
            file
            for cell in cells
            for file in (
                paths.run_files(self.cells / cell.id, self._imported[cell].kept)
                if cell in self._imported
                else self.run_files(cell.id)
            )
        ]

    @property
    def trained(self) -> str:
        """The pattern of the cells that jobs train: all but the imported ones."""
        return _all_but(f"{cell}/" for cell in self._imported)

    def training_digest(self, cell: str) -> str:
        """Return what changes exactly when a setting that touches this cell does."""
        return training_spec(self.config, parse_cell(cell)).digest

    def _decodes(self, dataset: str) -> bool:
        return dataset_facts(dataset).storage == "folder"

    def gpus_of(self, cell: str) -> int:
        """Return how many GPUs train one network; several share batches of image files."""
        several = self._decodes(parse_cell(cell).dataset)
        return self.gpus * (self.config.machine.gpus_per_cell if several else 1)

    def launcher(self, cell: str) -> str:
        """Return what starts the training of one network, on as many GPUs as it has."""
        count = self.gpus_of(cell)
        several = f"torch.distributed.run --standalone --nproc-per-node {count} -m "
        return f"python -m {several if count > 1 else ''}reproduce"

    def training_threads(self, cell: str) -> int:
        """Return how many threads a training run keeps busy, those that decode files included."""
        machine = self.config.machine
        decoding = machine.loaders if self._decodes(parse_cell(cell).dataset) else 0
        return max(1, self.gpus_of(cell)) * (machine.threads + decoding)

    # Evaluation

    def attack(self, label: str) -> str:
        """Return the attack whose records go by a label."""
        names = {self.config.eval.label(name): name for name in self.config.eval.attacks}
        if label not in names:
            known = ", ".join(names)
            raise HarnessError(f"unknown attack {label!r}; the configuration has: {known}")
        return names[label]

    def evaluation_spec(self, cell: str, choice: str, attack: str, seed: str) -> EvaluationSpec:
        """Return every setting of the attack on a checkpoint of a cell that wildcards name."""
        checkpoint, name = paths.checkpoint_of(choice), self.attack(attack)
        return evaluation_spec(self.config, parse_cell(cell), name, int(seed), checkpoint)

    def attacked_weights(self, cell: str, choice: str) -> Path:
        """Return the weights of the checkpoint that wildcards name."""
        return self._weights(parse_cell(cell), paths.checkpoint_of(choice))

    def _has_weights(self, cell: Cell, checkpoint: Checkpoint) -> bool:
        return cell not in self._imported or checkpoint in self._imported[cell].kept

    def _weights(self, cell: Cell, checkpoint: Checkpoint) -> Path:
        if not self._has_weights(cell, checkpoint):
            raise HarnessError(
                f"{cell} was imported without the weights of {checkpoint}, and an attack on them "
                f"is asked for; `reproduce train {cell}` trains it here"
            )
        return paths.model_file(self.cells / cell.id, checkpoint)

    @property
    def attacked(self) -> str:
        """The pattern of the cells that jobs attack, without imported records."""
        asked = planned_evaluations(self.config)
        records = [
            path.relative_to(self.cells).as_posix()
            for cell in self._imported
            for item in asked.get(cell, ())
            if is_evaluated(self.config, item)
            for path in self._record(item)
        ]
        return _all_but(records)

    def evaluation_threads(self, dataset: str) -> int:
        """Return how many threads an evaluation keeps busy; it decodes files, then attacks."""
        machine = self.config.machine
        decoding = machine.loaders if self._decodes(dataset) else 0
        return machine.processes * max(machine.threads, decoding)

    def published_attack(self, dataset: str, zoo: str, attack: str, seed: str) -> PublishedAttack:
        """Return the attack on a published checkpoint that wildcards name."""
        return PublishedAttack(self.config, dataset, zoo, self.attack(attack), int(seed))

    def _record(self, item: Evaluation) -> list[Path]:
        label = self.config.eval.label(item.attack)
        path = paths.record_file(self.cells / item.cell.id, item.checkpoint, label, item.seed)
        return [path, path.with_suffix(".json")]

    def _records(self, experiment: Experiment) -> list[Path]:
        """Return an experiment's records, and what came of attacking published checkpoints."""
        outcomes = [
            PublishedAttack(self.config, e.dataset, e.name, e.attack, e.seed).outcome
            for e in experiment.published
        ]
        return [
            *(file for item in experiment.evaluations for file in self._record(item)),
            *outcomes,
        ]

    # What jobs ask a cluster for

    @cached_property
    def _speeds(self) -> Speeds:
        return load_speeds(self.config)

    def training_request(self, cell: str) -> Request:
        """Return what training a cell takes."""
        spec = training_spec(self.config, parse_cell(cell))
        return training_request(self.config, spec, self._speeds, max(1, self.gpus_of(cell)))

    def evaluation_request(self, **wildcards: str) -> Request:
        """Return what an attack on a checkpoint of a cell takes."""
        cell, spec = parse_cell(wildcards["cell"]), self.evaluation_spec(**wildcards)
        return attack_request(self.config, cell.dataset, cell.architecture, spec, self._speeds)

    def published_request(self, **wildcards: str) -> Request:
        """Return what an attack on a published checkpoint takes."""
        attack = self.published_attack(**wildcards)
        card = published_models().get(attack.name)
        network = None if card is None else card.network
        return attack_request(self.config, attack.dataset, network, attack.spec, self._speeds)

    def limit(self, request: Request, runtime: int) -> str:
        """Return the option by which a job of a cluster ends itself in time; else nothing."""
        return request.limit(runtime) if self._remote else ""

    # Tables, figures, claims, report

    def records(self, experiment: str) -> list[Path]:
        """Return the records that an experiment is made from."""
        return self._records(find_experiment(self.config, experiment))

    @property
    def _experiments(self) -> list[Experiment]:
        return [find_experiment(self.config, name) for name in experiment_names(self.config)]

    def all_records(self) -> list[Path]:
        """Return the records of all experiments, each once: they share many."""
        return list(
            dict.fromkeys(file for each in self._experiments for file in self._records(each))
        )

    def judged_from(self) -> list[Path]:
        """Return the files that claims are judged on: of every run, and every record."""
        return [*self._wanted_files(planned_runs(self.config)), *self.all_records()]

    def table(self, experiment: str) -> list[Path]:
        """Return the forms of a table; `experiment` may be a wildcard."""
        return [paths.table_file(self.config, experiment, form) for form in ("csv", "md", "tex")]

    def figure(self, name: str) -> list[Path]:
        """Return the forms of a figure; `name` may be a wildcard."""
        return [paths.figure_file(self.config, name, form) for form in ("svg", "png", "csv")]

    def diff(self, experiment: str) -> Path:
        """Return the comparison of a table with the paper's; `experiment` may be a wildcard."""
        return paths.diff_file(self.config, experiment)

    def picture(self, name: str) -> list[Path]:
        """Return the forms of a figure that the configuration has."""
        if name not in self.figures:
            known = ", ".join(self.figures)
            raise HarnessError(f"{name} is left out by the configuration, which has: {known}")
        return self.figure(name)

    def outputs(self, name: str) -> list[Path]:
        """Return every file of a table, so that one that is lost is made again."""
        table = find_table(self.config, name)
        made = [*self.table(name), self.diff(name)]
        return [*made, *self._records(table), *self._wanted_files(table.cells)]

    def drawn_from(self, figure: str) -> list[Path]:
        """Return the files that a figure is drawn from: of runs, records, or the lemma's."""
        if figure == "lemma":
            return [self.lemma]
        if figure in figure_names(self.config):
            experiment = find_experiment(self.config, figure)
            return [*self._wanted_files(experiment.cells), *self._records(experiment)]
        grid = self.config.experiments.table3 if figure == "war" else None
        return [] if grid is None else self._wanted_files(traced_cells(grid))

    def epochs(self) -> list[Path]:
        """Return what the table of checkpoints is made from: every run's epochs and settings."""
        folders = [self.cells / cell.id for cell in planned_runs(self.config)]
        return [file(folder) for folder in folders for file in (paths.epochs_file, paths.run_file)]

    @property
    def examples(self) -> list[Path]:
        """The adversarial examples and their description; none without the weights for them."""
        pair = example_evaluations(self.config)
        if pair is None or not all(self._has_weights(i.cell, i.checkpoint) for i in pair):
            return []
        path = paths.examples_file(self.config, pair[0].cell.dataset)
        return [path, path.with_suffix(".json")]

    def attacked_examples(self) -> list[Path]:
        """Return what adversarial examples are made from: two runs and their records."""
        files = []
        for item in example_evaluations(self.config) or ():
            files += [*self.manifests(item.cell.id), paths.run_file(self.cells / item.cell.id)]
            files += [self._weights(item.cell, item.checkpoint), *self._record(item)]
        return list(dict.fromkeys(files))

    def examples_digest(self) -> list[str]:
        """Return what changes exactly when a setting that touches the examples does."""
        return [
            evaluation_spec(self.config, e.cell, e.attack, e.seed, e.checkpoint).digest
            for e in example_evaluations(self.config) or ()
        ]

    def compared_runs(self, experiment: str) -> list[str]:
        """Return what changes when there are other runs of Table 1 to judge Table 2 by.

        They are no inputs: Table 2 does not wait for training seeds that only Table 1 needs.
        """
        items = repeated_evaluations(self.config, experiment)
        records = [self._record(item)[1] for item in items]
        return [sha256_of_file(path) for path in records if path.is_file()]

    def claims_digest(self) -> str:
        """Return what changes when a verdict may, runs and records aside."""
        names = experiment_names(self.config)
        return digest([protocol_digest(self.config, name) for name in names])

    def report_inputs(self) -> list[Path]:
        """Return what must be there before the report is whole."""
        tables = [file for name in self.tables for file in (*self.table(name), self.diff(name))]
        figures = [file for name in self.figures for file in self.figure(name)]
        others = [*self.table("checkpoints"), *self.examples, self.lemma, self.claims]
        return [*tables, *figures, *others]

    def report_digest(self) -> str:
        """Return what changes when the text of the report does, its results aside."""
        names = (*self.tables, *self.figures, "checkpoints")
        tables = [protocol_digest(self.config, name) for name in names]
        # it is printed whole
        return digest([self.claims_digest(), *tables, resolved(self.config)])
