"""What is made from runs and records: tables, figures, claims, the report."""

from pathlib import Path

from reproduce import paths
from reproduce.errors import HarnessError
from reproduce.experiments import (
    example_evaluations,
    experiment_names,
    figure_names,
    find_experiment,
    find_table,
    planned_runs,
    repeated_evaluations,
    traced_cells,
)
from reproduce.files import digest, sha256_of_file
from reproduce.settings import resolved
from reproduce.specs import (
    evaluation_spec,
    protocol_digest,
)
from reproduce.workflow.configured import Configured, for_rules


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
