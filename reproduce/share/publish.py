"""The README.md of published results: what they are, on what they ran, what is partial."""

import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import yaml

from reproduce.cell import Cell
from reproduce.claims.statements import judge_claims, write_claims
from reproduce.config.fields import Checkpoint
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
from reproduce.experiments.grids import find_table, planned_evaluations, planned_runs, table_names
from reproduce.experiments.history import read_trace, subsampled, write_trace
from reproduce.experiments.runs import Published, RunInfo, damaged_file, problem_with, read_run
from reproduce.experiments.spec import training_spec
from reproduce.figures import available_figures, make
from reproduce.figures.style import save
from reproduce.results.frames import collect
from reproduce.share.imports import without
from reproduce.tables.diff import build_diff, diff_notes, write_diff
from reproduce.tables.write import write_checkpoints, write_table

# missing runs that are named
_MOST = 40
# the metrics that epochs.csv has of the test images
_TITLES = {
    "robust_accuracy": "robust",
    "natural_accuracy": "natural",
    "perturbation_stability": "stability",
}


@dataclass(frozen=True)
class About:
    """What a publication holds, and what not.

    Attributes
    ----------
    runs : mapping
        The published runs and what their run.json says.
    made : tuple of str
        Tables and figures that were made of them.
    missing : mapping
        Why planned runs are not among them.
    lacking : mapping
        Attacks on published runs of which others have no record, nor weights to make one.
    """

    runs: Mapping[Cell, RunInfo]
    made: tuple[str, ...]
    missing: Mapping[Cell, str] = field(default_factory=dict)
    lacking: Mapping[Cell, list[str]] = field(default_factory=dict)


def describe(config: Config, folder: Path, about: About) -> str:
    """Return the text of README.md.

    Parameters
    ----------
    config : Config
        The configuration; its results are what is published.
    folder : Path
        Where they will lie, without the preset.
    about : About
        What is published.
    """
    root = folder / config.preset
    made = ", ".join(f"`{name}`" for name in about.made)
    parts = [
        f"# Published results: {folder.name}, preset {config.preset}",
        """Of the harness that regenerates *Do Wider Neural Networks Really Help Adversarial
Robustness?* (Wu et al., NeurIPS 2021), written by `reproduce publish`, no number of it by hand.""",
        _facts(config, about.runs.values()),
        f"""`tables/`, `diff/` (beside the paper's numbers) and `figures/` hold {made};
`claims.json` the verdicts on the paper's statements; `cells/` every run: settings and checksums
(run.json), trace, epochs, and the records of all attacks, image by image; `config.yaml` the
settings, without those of a machine.""",
        *_protocol(config, about),
        "## Runs",
        _runs(config, about),
        *_partial(about),
        "## Use",
        f"""From the harness's folder:

```
reproduce verify {root} --config {root}/config.yaml
reproduce import {root} --config {root}/config.yaml
snakemake {_first_table(about)} --cores 1 --configfile {root}/config.yaml
```

The first says of every result here whether it stands (status 3: something could not be checked, as
without prepared images or weights). The second copies these runs and records as they are into
`results/{config.preset}`. The third makes what is missing.""",
    ]
    return "\n\n".join(parts) + "\n"


def _facts(config: Config, runs: Iterable[RunInfo]) -> str:
    """Return a table of what all runs ran on."""
    runs = list(runs)
    pieces = [piece for run in runs for piece in run.sessions]
    versions = [
        ", ".join(f"{name} {number}" for name, number in piece.versions.items()) for piece in pieces
    ]
    dates = sorted(piece.began[:10] for piece in pieces if piece.began)
    data = [
        f"{run.data.source}: {config.data.train_images or run.data.train} of {run.data.train} "
        f"training and {config.data.test_images or run.data.test} of {run.data.test} test images, "
        + ("official by md5" if run.data.official else "not verified by md5")
        + f", SHA-256 of the prepared images {run.data.sha256[:12]}"
        for run in runs
    ]
    rows = {
        "hardware": _each(piece.name for piece in pieces),
        "versions": _each(versions),
        "commit": _each(piece.commit or "no known commit" for piece in pieces),
        "begun": _each([dates[0], dates[-1]] if dates else []),
        "images": _each(data),
    }
    lines = [f"| {name} | {value} |" for name, value in rows.items() if value]
    return "\n".join(["| | |", "|---|---|", *lines])


def _each(values: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(values))


def _protocol(config: Config, about: About) -> list[str]:
    """Say of every table by what it is no reproduction of the paper."""
    lines = []
    for name in about.made:
        if name.startswith("table"):
            chosen = find_table(config, name)
            reasons = diff_notes(config, chosen, collect(config, chosen))
            lines += [f"- `{name}`: {'; '.join(reasons)}"] if reasons else []
    return ["## Not a reproduction of the paper", "\n".join(lines)] if lines else []


def _runs(config: Config, about: About) -> str:
    """Return a table of the runs: how long each took, and what chose its best epoch."""
    rows = [_row(config, cell, run) for cell, run in about.runs.items()]
    table: str = pd.DataFrame(rows).to_markdown(index=False, floatfmt=".2f")
    total = sum(run.hours for run in about.runs.values())
    return (
        f"{table}\n\n{len(rows)} run(s), {total:.2f} device hours of training in all. Robust and "
        "natural accuracy and stability are those, in percent, that chose the best epoch in "
        "training; the tables have those of the records."
    )


def _row(config: Config, cell: Cell, run: RunInfo) -> dict[str, object]:
    folder = paths.cell_folder(config, cell)
    epochs = pd.read_csv(paths.epochs_file(folder))
    best = run.checkpoint_epochs.get("best-test", 0)
    chosen = epochs[epochs["epoch"] == best]
    length = run.checkpoint_epochs["last"]
    records = sorted(folder.glob("records*/*.npz"))
    row: dict[str, object] = {
        "run": cell.id,
        "epochs": length,
        "seconds an epoch": run.seconds / length,
        "device hours": run.hours,
        "best epoch": best,
    }
    for name, title in _TITLES.items():
        if f"test_{name}" in chosen:
            row[title] = float(chosen[f"test_{name}"].iloc[0])
    row["records"] = ", ".join(_record(path) for path in records)
    row["weights"] = ", ".join(run.kept) or "no"
    return row


def _record(path: Path) -> str:
    """Return a record's name, and its checkpoint where that is not best-test."""
    checkpoint = path.parent.name.removeprefix("records").removeprefix("-")
    return f"{checkpoint}: {path.stem}" if checkpoint else path.stem


def _partial(about: About) -> list[str]:
    """Say what is planned and not here, and what is here and not enough."""
    parts = ["Every planned run is here."]
    if about.missing:
        lines = [f"- {cell}" for cell in list(about.missing)[:_MOST]]
        more = len(about.missing) - _MOST
        lines += [f"- and {more} more"] if more > 0 else []
        parts = [f"{len(about.missing)} planned run(s) are not here:", "\n".join(lines)]
    if about.lacking:
        lines = [f"- {cell}: {', '.join(names)}" for cell, names in about.lacking.items()]
        parts += ["These attacks have no record here, nor weights to make one:", "\n".join(lines)]
    return parts


def _first_table(about: About) -> str:
    return next((name for name in about.made if name.startswith("table")), "claims")


# where images lie is of a machine, not of results
_PLACES = ("folder", "cifar10", "cifar100", "cifar10_extra", "imagenet", "zoo")


def publish(
    config: Config,
    folder: Path,
    weights: Collection[Cell],
    every: int,
    say: Callable[[str], None],
) -> About:
    """Write the finished runs of a configuration where others can take them from.

    Into ``<folder>/<preset>`` go run.json, epochs, subsampled trace and records of every run
    that was trained to its end; tables, comparisons, figures and claims, made from what is
    published; the configuration; and a README.md that says of all that what it is.

    Parameters
    ----------
    config : Config
        The configuration.
    folder : Path
        A new folder, such as results/reference/h200; the preset is added.
    weights : collection of Cell
        Runs whose best-test checkpoint is published too.
    every : int
        How many iterations there are to one in a published trace; the last epoch stays whole.
    say : callable
        Told of every run.

    Returns
    -------
    About
        What was published, and what not.

    Raises
    ------
    HarnessError
        If no run is finished, one of `weights` is none of them, the folder holds results of
        this preset, or the disk is full.
    """
    cells = planned_runs(config)
    left_out = {cell: reason for cell in cells if (reason := _unpublishable(config, cell))}
    for cell in weights:
        if cell not in cells or cell in left_out:
            raise HarnessError(f"weights: {left_out.get(cell, f'no run {cell} is planned')}")
    if len(left_out) == len(cells):
        raise HarnessError(f"nothing to publish: {next(iter(left_out.values()), 'no run')}")
    root = folder / config.preset
    if root.is_dir() and any(root.iterdir()):
        raise HarnessError(f"{root} is not empty; publish into a new folder, or remove it first")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # whole or absent, also for those who take from there
        with TemporaryDirectory(prefix=".publishing-", dir=folder) as work:
            there = config.model_copy(update={"results": Path(work)})
            chosen = [cell for cell in cells if cell not in left_out]
            about = _write(config, there, chosen, weights, every, folder.absolute().name)
            lacking = _lacking(config, there, about.runs)
            about = replace(about, missing=left_out, lacking=lacking)
            write_text(paths.root(there) / "README.md", describe(there, folder, about))
            paths.root(there).replace(root)
    except OSError as error:
        raise HarnessError(f"{folder} cannot be written: {error.strerror or error}") from error
    for cell in about.runs:
        say(f"{cell}: published")
    return about


def _write(
    config: Config,
    there: Config,
    cells: list[Cell],
    weights: Collection[Cell],
    every: int,
    name: str,
) -> About:
    """Write runs, and what is made of them."""
    runs = {}
    for cell in cells:
        source, target = paths.cell_folder(config, cell), paths.cell_folder(there, cell)
        kept: list[Checkpoint] = ["best-test"] if cell in weights else []
        runs[cell] = _publish_run(source, target, cell, kept, every, name)
    write_text(paths.root(there) / "config.yaml", _settings(config))
    return About(runs, tuple(_derive(there)))


def _lacking(config: Config, there: Config, runs: Mapping[Cell, RunInfo]) -> dict[Cell, list[str]]:
    """Name the attacks on published runs that others cannot make records of, nor find them."""
    asked = planned_evaluations(config)
    found = {
        cell: without(config, run, paths.cell_folder(there, cell), asked.get(cell, ()))
        for cell, run in runs.items()
    }
    return {cell: names for cell, names in found.items() if names}


def _derive(config: Config) -> Iterator[str]:
    """Make tables, comparisons, figures and claims, and name those there was something for."""
    for name in table_names(config):
        chosen = find_table(config, name)
        results = collect(config, chosen)
        if results.missing < results.planned:
            write_table(config, chosen, results)
            write_diff(config, chosen, build_diff(config, chosen, results))
            yield name
    write_checkpoints(config)
    for name in available_figures(config):
        drawing = make(config, name)
        # of a figure that needs no run nothing was measured here
        if name not in ("figure5", "lemma") and len(drawing.numbers):
            save(config, name, drawing)
            yield name
    write_claims(config, judge_claims(config))


def _settings(config: Config) -> str:
    """Return the configuration as a file that gives the same settings again."""
    tree = resolved(config)
    tree.pop("results")
    for key in _PLACES:
        tree["data"].pop(key)
    head = "# The settings of these results; images come from where data.* says.\n"
    return head + yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def _unpublishable(config: Config, cell: Cell) -> str | None:
    """Say why a run is not published; None if it was trained here, to its end, and is whole."""
    folder = paths.cell_folder(config, cell)
    try:
        run = read_run(folder)
    except HarnessError as error:
        return str(error)
    problem = problem_with(config, training_spec(config, cell), run)
    if run is None or problem is not None:
        return f"{cell} {problem}"
    if run.published is not None:
        return f"{cell} was itself imported from {run.published.name}"
    damaged = damaged_file(folder, run)
    return None if damaged is None else f"{cell} has a damaged {damaged.name}"


def _publish_run(
    source: Path, target: Path, cell: Cell, weights: list[Checkpoint], every: int, name: str
) -> RunInfo:
    """Write a run that `_unpublishable` has nothing against, and its records, into `target`."""
    with exclusive(paths.training_lock(source), f"cell {cell}"):
        told = read_json(paths.run_file(source))
        run = RunInfo.model_validate(told)
        damaged = damaged_file(source, run)
        if damaged is not None:
            raise HarnessError(f"{cell} has a damaged {damaged.name}")
        for checkpoint in weights:
            _copy(paths.model_file(source, checkpoint), paths.model_file(target, checkpoint))
        for record in _records(source, run):
            for file in (record, record.with_suffix(".json")):
                _copy(file, target / file.relative_to(source))
        _copy(paths.epochs_file(source), paths.epochs_file(target))
        trace = paths.trace_file(target)
        if every == 1:
            _copy(paths.trace_file(source), trace)
        else:
            write_trace(trace, subsampled(read_trace(paths.trace_file(source), cell), every))
    told["trace"] = sha256_of_file(trace)
    about = Published(name=name, weights=weights, every=every)
    told["published"] = about.model_dump(mode="json")
    write_json(paths.run_file(target), told)
    return RunInfo.model_validate(told)


def _records(folder: Path, run: RunInfo) -> Iterator[Path]:
    """Yield the whole records of a run's weights, of whatever attack."""
    for checkpoint, sha256 in run.models.items():
        some = paths.record_file(folder, checkpoint, "some", 0)
        for path in sorted(some.parent.glob("*-seed*.npz")):
            with suppress(HarnessError):  # damaged: `table` says so
                if read_record(path).info["model_sha256"] == sha256:
                    yield path


def _copy(source: Path, target: Path) -> None:
    write_atomically(target, partial(shutil.copyfile, source))
