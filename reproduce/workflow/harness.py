"""One configuration as the rules see it: checked, handed on to jobs, and where it puts files."""

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cached_property, reduce, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from snakemake.exceptions import WorkflowError

from reproduce.cell import Cell, parse_cell
from reproduce.config.fields import Checkpoint, merge
from reproduce.config.load import (
    CONFIG_VARIABLE,
    build_config,
    from_snakefile,
    kept_values,
    read_settings,
    resolved,
)
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import digest, sha256_of_file
from reproduce.experiments import paths
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
    thin_cell,
    training_spec,
)
from reproduce.figures import available_figures
from reproduce.registry import EXTRA, dataset_facts
from reproduce.results.plan import Speeds, is_evaluated, load_speeds, published_architecture
from reproduce.workflow.resources import Work, attack_work, small_work, training_work
from reproduce.zoo.checkpoints import PublishedAttack

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


class Jobs(Configured):
    """Preparing, training, evaluating."""

    def source(self, name: str) -> str:
        """Return where images come from; another source prepares them again."""
        if name in EXTRA:
            return str(paths.extra_source(self.config.data, name))
        return str(getattr(self.config.data, name, "embedded"))

    @for_rules
    def gpus_of(self, cell: str) -> int:
        """Return how many GPUs train one network; several share batches of image files."""
        several = self._decodes(parse_cell(cell).dataset)
        return self.gpus * (self.config.machine.gpus_per_cell if several else 1)

    @for_rules
    def launcher(self, cell: str) -> str:
        """Return what starts the training of one network, on as many GPUs as it has."""
        count = self.gpus_of(cell)
        several = f"torch.distributed.run --standalone --nproc-per-node {count} -m "
        return f"python -m {several if count > 1 else ''}reproduce"

    @for_rules
    def training_threads(self, cell: str) -> int:
        """Return how many threads a training run keeps busy, those that decode files included."""
        machine, processes = self.config.machine, max(1, self.gpus_of(cell))
        decoding = machine.loaders if self._decodes(parse_cell(cell).dataset) else 0
        return processes * (machine.threads + decoding)

    @for_rules
    def evaluation_threads(self, dataset: str) -> int:
        """Return how many threads an evaluation keeps busy; it decodes files, then attacks."""
        machine = self.config.machine
        decoding = machine.loaders if self._decodes(dataset) else 0
        return machine.processes * max(machine.threads, decoding)

    def _decodes(self, dataset: str) -> bool:
        return dataset_facts(dataset).storage == "folder"

    @for_rules
    def trained_first(self, cell: str) -> list[Path]:
        """Return the traces of the runs that a cell's training measures something from."""
        thin = thin_cell(self.config, parse_cell(cell))
        return [] if thin is None else [paths.trace_file(self.cells / thin.id)]

    @for_rules
    def extra_images(self, cell: str) -> list[Path]:
        """Return the prepared extra images of a cell, if it is trained with some."""
        extra = training_spec(self.config, parse_cell(cell)).extra
        return [] if extra is None else [paths.prepared_file(self.config, extra.name)]

    def extra_manifest(self, cell: str) -> list[Path]:
        """Return the small file that changes exactly when the extra images do."""
        return [path.with_suffix(".json") for path in self.extra_images(cell)]

    @for_rules
    def attacked_weights(self, cell: str, choice: str) -> Path:
        """Return the weights of the checkpoint that wildcards name."""
        return self.weights(parse_cell(cell), paths.checkpoint_of(choice))

    def published_attack(self, dataset: str, zoo: str, attack: str, seed: str) -> PublishedAttack:
        """Return the attack on a published checkpoint that wildcards name."""
        return PublishedAttack(self.config, dataset, zoo, self.attack(attack), int(seed))

    @for_rules
    def published_digest(self, **wildcards: str) -> str:
        """Return what changes exactly when a setting that touches such an attack does."""
        return self.published_attack(**wildcards).spec.digest

    @for_rules
    def training_digest(self, cell: str) -> str:
        """Return what changes exactly when a setting that touches this cell does."""
        return training_spec(self.config, parse_cell(cell)).digest

    @for_rules
    def evaluation_digest(self, cell: str, choice: str, attack: str, seed: str) -> str:
        """Return what changes exactly when a setting that touches this evaluation does."""
        return self.evaluation_spec(cell, choice, attack, seed).digest

    def evaluation_spec(self, cell: str, choice: str, attack: str, seed: str) -> EvaluationSpec:
        """Return every setting of the attack on a checkpoint of a cell that wildcards name."""
        checkpoint, name = paths.checkpoint_of(choice), self.attack(attack)
        return evaluation_spec(self.config, parse_cell(cell), name, int(seed), checkpoint)

    @for_rules
    def attack(self, label: str) -> str:
        """Return the attack whose records go by a label."""
        names = [name for name in self.config.eval.attacks if self.config.eval.label(name) == label]
        if not names:
            known = ", ".join(map(self.config.eval.label, self.config.eval.attacks))
            raise HarnessError(f"unknown attack {label!r}; the configuration has: {known}")
        return names[0]


class Cluster(Jobs):
    """What jobs ask a cluster for; a single machine has no use for it."""

    @cached_property
    def _speeds(self) -> Speeds:
        return load_speeds(self.config)

    @for_rules
    def training_work(self, cell: str) -> Work:
        """Return what training a cell takes."""
        spec = training_spec(self.config, parse_cell(cell))
        return training_work(self.config, spec, self._speeds, max(1, self.gpus_of(cell)))

    @for_rules
    def evaluation_work(self, **wildcards: str) -> Work:
        """Return what an attack on a checkpoint of a cell takes."""
        cell, spec = parse_cell(wildcards["cell"]), self.evaluation_spec(**wildcards)
        return attack_work(self.config, cell.dataset, cell.architecture, spec, self._speeds)

    @for_rules
    def published_work(self, **wildcards: str) -> Work:
        """Return what an attack on a published checkpoint takes."""
        attack = self.published_attack(**wildcards)
        architecture = published_architecture(attack.name)
        return attack_work(self.config, attack.dataset, architecture, attack.spec, self._speeds)

    @property
    def small_work(self) -> Work:
        """Return what the jobs take that nobody plans: adversarial examples, the lemma."""
        return small_work(self.config)

    def time_limit(self, work: Work, runtime: int) -> str:
        """Return the words by which a job of a cluster ends itself in time; else there are none.

        Parameters
        ----------
        work : Work
            What the job does.
        runtime : int
            Minutes that it has, whoever decided that.
        """
        return f"--max-minutes {work.stops_after(runtime):g}" if self.in_job else ""

    def attacks_together(self, cell: str, **wildcards: str) -> str | None:
        """Return the name of the group of a short attack, one for each run; None for a long one."""
        short = self.evaluation_work(cell=cell, **wildcards).is_short
        return f"attacks-{cell.replace('/', '-')}" if short else None


class Products(Configured):
    """What each is made from, and what changes it."""

    @for_rules
    def records(self, experiment: str) -> list[Path]:
        """Return the records that an experiment is made from."""
        return self._records(find_experiment(self.config, experiment))

    @for_rules
    def all_records(self) -> list[Path]:
        """Return the records of all experiments, each once: they share many."""
        experiments = [find_experiment(self.config, name) for name in experiment_names(self.config)]
        records = dict.fromkeys(file for each in experiments for file in self._records(each))
        return list(records)

    def table(self, experiment: str) -> list[Path]:
        """Return the forms of a table; `experiment` may be a wildcard."""
        forms = ("csv", "md", "tex")
        return [paths.table_file(self.config, experiment, suffix) for suffix in forms]

    def figure(self, name: str) -> list[Path]:
        """Return the forms of a figure."""
        return [paths.figure_file(self.config, name, suffix) for suffix in ("svg", "png", "csv")]

    @for_rules
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
        return [*(file for cell in cells for file in self.files_of(cell)), *records]

    @for_rules
    def judged_from(self) -> list[Path]:
        """Return the files that claims are judged on: of every run, and every record."""
        found = [find_experiment(self.config, name) for name in experiment_names(self.config)]
        cells = {cell: None for experiment in found for cell in experiment.cells}
        files = [file for cell in cells for file in self.files_of(cell)]
        for experiment in found:
            files += self._records(experiment)
        return list(dict.fromkeys(files))

    @for_rules
    def claims_digest(self) -> str:
        """Return what changes when a verdict may, runs and records aside."""
        names = experiment_names(self.config)
        return digest([protocol_digest(self.config, name) for name in names])

    @for_rules
    def picture(self, name: str) -> list[Path]:
        """Return the forms of a figure that the configuration has."""
        if name not in self.figures:
            known = ", ".join(self.figures)
            raise HarnessError(f"{name} is left out by the configuration, which has: {known}")
        return self.figure(name)

    @for_rules
    def epochs(self) -> list[Path]:
        """Return what the table of checkpoints is made from: every run's epochs and settings."""
        folders = [self.cells / cell.id for cell in planned_runs(self.config)]
        return [file(folder) for folder in folders for file in (paths.epochs_file, paths.run_file)]

    @property
    def examples(self) -> list[Path]:
        """The adversarial examples and what says what they are; none without such a grid.

        None either where a run was imported without the weights that they are made with.
        """
        pair = example_evaluations(self.config)
        if pair is None or not all(self._has_weights(i.cell, i.checkpoint) for i in pair):
            return []
        path = paths.examples_file(self.config, pair[0].cell.dataset)
        return [path, path.with_suffix(".json")]

    @for_rules
    def attacked_examples(self) -> list[Path]:
        """Return what adversarial examples are made from: two runs and their records."""
        files = []
        for item in example_evaluations(self.config) or ():
            folder = self.cells / item.cell.id
            files += [self.manifest(item.cell.id), paths.run_file(folder)]
            files += [self.weights(item.cell, item.checkpoint), *self._records_of(item)]
        return list(dict.fromkeys(files))

    @for_rules
    def examples_digest(self) -> list[str]:
        """Return what changes exactly when a setting that touches the examples does."""
        return [
            evaluation_spec(self.config, e.cell, e.attack, e.seed, e.checkpoint).digest
            for e in example_evaluations(self.config) or ()
        ]

    def diff(self, experiment: str) -> Path:
        """Return the comparison of a table with the paper's; `experiment` may be a wildcard."""
        return paths.diff_file(self.config, experiment)

    @for_rules
    def compared_runs(self, experiment: str) -> list[str]:
        """Return what changes when there are other runs of Table 1 to judge Table 2 by.

        They are no inputs: Table 2 does not wait for training seeds that only Table 1 needs.
        """
        items = repeated_evaluations(self.config, experiment)
        records = [self._records_of(item)[1] for item in items]
        return [sha256_of_file(path) for path in records if path.is_file()]

    @for_rules
    def outputs(self, name: str) -> list[Path]:
        """Return every file of an experiment, so that one that is lost is made again."""
        experiment = find_table(self.config, name)
        runs = [file for cell in experiment.cells for file in self.files_of(cell)]
        return [*self.table(name), self.diff(name), *self._records(experiment), *runs]

    @for_rules
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

    @for_rules
    def report_digest(self) -> str:
        """Return what changes when the text of the report does, its results aside."""
        names = (*self.tables, *self.figures, "checkpoints")
        parts = [self.claims_digest(), *(self.table_digest(name) for name in names)]
        # it is printed whole
        return digest([*parts, resolved(self.config)])


class Harness(Cluster, Products):
    """The rules' view of one configuration."""
