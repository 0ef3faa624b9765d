"""Publish finished runs: a copy without weights, what is made from it, and a README.md."""

import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import yaml

from reproduce.cell import Cell
from reproduce.claims.statements import judge_claims, write_claims
from reproduce.config.load import resolved
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import (
    exclusive,
    read_json,
    sha256_of_file,
    write_atomically,
    write_json,
    write_text,
)
from reproduce.evaluation.records import read_record
from reproduce.experiments import paths
from reproduce.experiments.grids import find_table, planned_runs, table_names
from reproduce.experiments.runs import (
    Published,
    RunInfo,
    problem_with,
    read_run,
    subsampled,
    write_trace,
)
from reproduce.experiments.spec import training_spec
from reproduce.figures import available_figures, make
from reproduce.results.frames import collect
from reproduce.share.imports import missing_records
from reproduce.tables.diff import build_diff, diff_notes, write_diff
from reproduce.tables.write import write_checkpoints, write_table

# where images lie is of a machine, not of results
_PLACES = ("folder", "cifar10", "cifar100", "cifar10_extra", "imagenet", "zoo")
# missing runs that the README names
_MOST = 40


@dataclass(frozen=True)
class Publication:
    """The runs that were published; why planned runs were not; attacks that nobody can make again.

    The last are those on a published run that have neither a record nor weights there.
    """

    runs: Mapping[Cell, RunInfo]
    missing: Mapping[Cell, str]
    lacking: Mapping[Cell, list[str]]


def publish(
    config: Config,
    folder: Path,
    weights: Collection[Cell],
    every: int,
    say: Callable[[str], None],
) -> Publication:
    """Write the finished runs of a configuration where others can import them.

    Into ``<folder>/<preset>`` go run.json, epochs, records and one of `every` rows of the trace of
    every run, the best-test checkpoint of the runs in `weights`, and what is made from all that.
    """
    cells = planned_runs(config)
    missing = {cell: reason for cell in cells if (reason := _unpublishable(config, cell))}
    for cell in weights:
        if cell not in cells or cell in missing:
            raise HarnessError(f"weights: {missing.get(cell, f'no run {cell} is planned')}")
    if len(missing) == len(cells):
        raise HarnessError(f"nothing to publish: {next(iter(missing.values()), 'no run')}")
    root = folder / config.preset
    if root.is_dir() and any(root.iterdir()):
        raise HarnessError(f"{root} is not empty; publish into a new folder, or remove it first")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".publishing-", dir=folder) as work:
            there = config.model_copy(update={"results": Path(work)})
            runs, lacking = {}, {}
            for cell in (cell for cell in cells if cell not in missing):
                about = Published(
                    name=folder.absolute().name,
                    weights=["best-test"] if cell in weights else [],
                    every=every,
                )
                runs[cell] = _publish_run(config, there, cell, about)
                if names := missing_records(there, cell, runs[cell]):
                    lacking[cell] = names
            publication = Publication(runs, missing, lacking)
            write_text(paths.root(there) / "config.yaml", _settings(config))
            made = list(_write_derived(there))
            write_text(paths.root(there) / "README.md", _readme(there, folder, publication, made))
            # whole or absent, also for those who import from there
            paths.root(there).replace(root)
    except OSError as error:
        raise HarnessError(f"{folder} cannot be written: {error.strerror or error}") from error
    for cell in runs:
        say(f"{cell}: published")
    return publication


def _unpublishable(config: Config, cell: Cell) -> str | None:
    """Say why a run is not published; None if it was trained here, to its end, and is whole."""
    folder = paths.cell_folder(config, cell)
    try:
        run = read_run(folder)
    except HarnessError as error:
        return str(error)
    problem = problem_with(config, training_spec(config, cell), run, checksums=True)
    if run is None or problem is not None:
        return f"{cell} {problem}"
    imported = run.published
    return None if imported is None else f"{cell} was itself imported from {imported.name}"


def _publish_run(config: Config, there: Config, cell: Cell, about: Published) -> RunInfo:
    """Copy a run and the whole records of its weights, of whatever attack."""
    source, target = paths.cell_folder(config, cell), paths.cell_folder(there, cell)
    with exclusive(paths.training_lock(source), f"cell {cell}"):
        told = read_json(paths.run_file(source))
        files = [paths.model_file(source, checkpoint) for checkpoint in about.weights]
        files.append(paths.epochs_file(source))
        for record in sorted(source.glob("records*/[!.]*.npz")):
            with suppress(HarnessError):  # damaged: `table` says so
                if read_record(record).info["model_sha256"] in told["models"].values():
                    files += [record, record.with_suffix(".json")]
        for file in files:
            copy = target / file.relative_to(source)
            write_atomically(copy, partial(shutil.copyfile, file))
        trace = paths.trace_file(target)
        if about.every == 1:
            write_atomically(trace, partial(shutil.copyfile, paths.trace_file(source)))
        else:
            rows = pd.read_parquet(paths.trace_file(source))
            write_trace(trace, subsampled(rows, about.every))
    told |= {"trace": sha256_of_file(trace), "published": about.model_dump(mode="json")}
    write_json(paths.run_file(target), told)
    return RunInfo.model_validate(told)


def _settings(config: Config) -> str:
    """Return the configuration as a file that gives the same settings again."""
    tree = resolved(config)
    tree.pop("results")
    for key in _PLACES:
        tree["data"].pop(key)
    head = "# The settings of these results; images come from where data.* says.\n"
    return head + yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def _write_derived(config: Config) -> Iterator[str]:
    """Make tables, comparisons, figures and claims; name those there was something for."""
    for name in table_names(config):
        table = find_table(config, name)
        results = collect(config, table)
        if results.missing < results.planned:
            write_table(config, table, results)
            write_diff(config, table, build_diff(config, table, results))
            yield name
    write_checkpoints(config)
    for name in available_figures(config):
        drawing = make(config, name)
        # of a figure that needs no run nothing was measured here
        if name not in ("figure5", "lemma") and len(drawing.numbers):
            drawing.save(config, name)
            yield name
    write_claims(config, judge_claims(config))


def _readme(config: Config, folder: Path, publication: Publication, made: list[str]) -> str:
    """Return README.md: what the results are, what computed them, what is missing."""
    root, runs = folder / config.preset, publication.runs
    tables = [name for name in made if name.startswith("table")]
    hours = sum(run.hours for run in runs.values())
    rows = pd.DataFrame([_row(config, cell, run) for cell, run in runs.items()])
    changed = []
    for name in tables:
        table = find_table(config, name)
        if notes := diff_notes(config, table, collect(config, table)):
            changed.append(f"`{name}`: {'; '.join(notes)}")
    missing = list(publication.missing.values())
    more = [f"and {len(missing) - _MOST} more"] if len(missing) > _MOST else []
    lacking = [f"{cell}: {', '.join(names)}" for cell, names in publication.lacking.items()]
    parts = [
        f"# Published results: {folder.name}, preset {config.preset}",
        """Of the harness that reproduces *Do Wider Neural Networks Really Help Adversarial
Robustness?* (Wu et al., NeurIPS 2021), written by `reproduce publish`, no number of it by hand.""",
        _facts(config, runs.values()),
        f"""`tables/`, `diff/` (against the paper's numbers) and `figures/` hold {", ".join(made)};
`claims.json` the verdicts on the paper's statements; `cells/` every run: settings and checksums
(run.json), trace, epochs, and the records of all attacks, image by image; `config.yaml` the
settings, without those of a machine.""",
        *_listed("## Not a reproduction of the paper", changed),
        "## Runs",
        rows.to_markdown(index=False, floatfmt=".2f"),
        f"""{len(runs)} run(s), {hours:.2f} device hours of training. Accuracies and stability are
those that chose the best epoch, in percent; the tables have those of the records.""",
        *_listed(f"{len(missing)} planned run(s) are not here:", [*missing[:_MOST], *more]),
        *_listed("These attacks have no record here, nor weights to make one:", lacking),
        "## Use",
        f"""From the harness's folder:

```
reproduce verify {root} --config {root}/config.yaml
reproduce import {root} --config {root}/config.yaml
snakemake {tables[0] if tables else "claims"} --cores 1 --configfile {root}/config.yaml
```

The first checks every result (status 3: something could not be checked, as without prepared images
or weights). The second copies runs and records into `results/{config.preset}`. The third makes what
is missing.""",
    ]
    return "\n\n".join(parts) + "\n"


def _listed(head: str, lines: list[str]) -> list[str]:
    """Return a head and a list, or nothing where there is nothing to list."""
    return [head, "\n".join(f"- {line}" for line in lines)] if lines else []


def _facts(config: Config, runs: Collection[RunInfo]) -> str:
    """Return a table of what all runs ran on."""
    parts = [part for run in runs for part in run.segments]
    dates = sorted(part.began[:10] for part in parts if part.began)
    rows: dict[str, Iterable[str]] = {
        "hardware": (part.name for part in parts),
        "versions": (", ".join(f"{k} {v}" for k, v in part.versions.items()) for part in parts),
        "commit": (part.commit or "no known commit" for part in parts),
        "begun": [*dates[:1], *dates[-1:]],
        "images": (
            f"{run.data.source}: {config.data.train_images or run.data.train} of {run.data.train} "
            f"training and {config.data.test_images or run.data.test} of {run.data.test} test "
            f"images, {'official' if run.data.official else 'not verified'} by md5, SHA-256 of the "
            f"prepared images {run.data.sha256[:12]}"
            for run in runs
        ),
    }
    lines = [f"| {name} | {'; '.join(dict.fromkeys(values))} |" for name, values in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines])


def _row(config: Config, cell: Cell, run: RunInfo) -> dict[str, Any]:
    """Say how long a run took, and what chose its best epoch."""
    best = run.checkpoint_epochs.get("best-test", 0)
    epochs = pd.read_csv(paths.epochs_file(paths.cell_folder(config, cell)))
    chosen = epochs[epochs["epoch"] == best]
    names = {"robust": "robust_accuracy", "natural": "natural_accuracy"}
    names |= {"stability": "perturbation_stability"}
    return {
        "run": cell.id,
        "epochs": run.checkpoint_epochs["last"],
        "device hours": run.hours,
        "best epoch": best,
        **{k: chosen[f"test_{v}"].squeeze() for k, v in names.items() if f"test_{v}" in chosen},
        "weights": ", ".join(run.kept) or "no",
    }
