"""Publish finished runs: a copy without weights, what is made from it, and a README.md."""

import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
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
from reproduce.evaluation.records import METRICS, read_record
from reproduce.experiments import paths
from reproduce.experiments.grids import find_table, planned_evaluations, planned_runs, table_names
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
    """What a publication holds, and what not."""

    runs: Mapping[Cell, RunInfo]
    made: tuple[str, ...]
    """Tables and figures that were made of the runs."""
    missing: Mapping[Cell, str]
    """Why planned runs are not among them."""
    lacking: Mapping[Cell, list[str]]
    """Attacks on published runs of which others have no record, nor weights to make one."""


def publish(
    config: Config,
    folder: Path,
    weights: Collection[Cell],
    every: int,
    say: Callable[[str], None],
) -> Publication:
    """Write the finished runs of a configuration where others can import them.

    Into ``<folder>/<preset>`` go run.json, epochs, records and one of `every` rows of the trace of
    every run that was trained to its end, and the best-test checkpoint of the runs in `weights`;
    tables, comparisons, figures and claims, made from what is published; the configuration; and a
    README.md that describes all that.  HarnessError if there is nothing to publish or no place.
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
                source, target = paths.cell_folder(config, cell), paths.cell_folder(there, cell)
                kept: list[Checkpoint] = ["best-test"] if cell in weights else []
                published = Published(name=folder.absolute().name, weights=kept, every=every)
                runs[cell] = _publish_run(source, target, cell, published)
                asked = planned_evaluations(there).get(cell, ())
                if names := missing_records(there, runs[cell], target, asked):
                    lacking[cell] = names
            write_text(paths.root(there) / "config.yaml", _settings(config))
            made = tuple(_write_derived(there))
            publication = Publication(runs, made, missing, lacking)
            write_text(paths.root(there) / "README.md", _readme(there, folder, publication))
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


def _publish_run(source: Path, target: Path, cell: Cell, published: Published) -> RunInfo:
    """Write a run and its records into `target`."""
    with exclusive(paths.training_lock(source), f"cell {cell}"):
        told = read_json(paths.run_file(source))
        run = RunInfo.model_validate(told)
        files = [paths.model_file(source, checkpoint) for checkpoint in published.weights]
        files.append(paths.epochs_file(source))
        for record in _records(source, run):
            files += [record, record.with_suffix(".json")]
        for file in files:
            copy = target / file.relative_to(source)
            write_atomically(copy, partial(shutil.copyfile, file))
        trace = paths.trace_file(target)
        if published.every == 1:
            write_atomically(trace, partial(shutil.copyfile, paths.trace_file(source)))
        else:
            rows = pd.read_parquet(paths.trace_file(source))
            write_trace(trace, subsampled(rows, published.every))
    told |= {"trace": sha256_of_file(trace), "published": published.model_dump(mode="json")}
    write_json(paths.run_file(target), told)
    return RunInfo.model_validate(told)


def _records(folder: Path, run: RunInfo) -> Iterator[Path]:
    """Yield the whole records of a run's weights, of whatever attack."""
    for checkpoint, sha256 in run.models.items():
        records = paths.record_file(folder, checkpoint, "any", 0).parent
        for path in sorted(records.glob("*-seed*.npz")):
            with suppress(HarnessError):  # damaged: `table` says so
                if read_record(path).info["model_sha256"] == sha256:
                    yield path


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


def _readme(config: Config, folder: Path, publication: Publication) -> str:
    """Return README.md: what the results are, what computed them, what is missing."""
    root = folder / config.preset
    tables = [name for name in publication.made if name.startswith("table")]
    made = ", ".join(f"`{name}`" for name in publication.made)
    parts = [
        f"# Published results: {folder.name}, preset {config.preset}",
        """Of the harness that reproduces *Do Wider Neural Networks Really Help Adversarial
Robustness?* (Wu et al., NeurIPS 2021), written by `reproduce publish`, no number of it by hand.""",
        _facts(config, publication.runs.values()),
        f"""`tables/`, `diff/` (against the paper's numbers) and `figures/` hold {made};
`claims.json` the verdicts on the paper's statements; `cells/` every run: settings and checksums
(run.json), trace, epochs, and the records of all attacks, image by image; `config.yaml` the
settings, without those of a machine.""",
        *_deviations(config, tables),
        "## Runs",
        _runs(config, publication.runs),
        *_missing(publication),
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


def _facts(config: Config, runs: Collection[RunInfo]) -> str:
    """Return a table of what all runs ran on."""
    parts = [part for run in runs for part in run.segments]
    dates = sorted(part.began[:10] for part in parts if part.began)
    versions = [", ".join(f"{k} {number}" for k, number in part.versions.items()) for part in parts]
    data = [
        f"{run.data.source}: {config.data.train_images or run.data.train} of {run.data.train} "
        f"training and {config.data.test_images or run.data.test} of {run.data.test} test images, "
        + ("official by md5" if run.data.official else "not verified by md5")
        + f", SHA-256 of the prepared images {run.data.sha256[:12]}"
        for run in runs
    ]
    rows: dict[str, Iterable[str]] = {
        "hardware": (part.name for part in parts),
        "versions": versions,
        "commit": (part.commit or "no known commit" for part in parts),
        "begun": [dates[0], dates[-1]] if dates else [],
        "images": data,
    }
    listed = {name: "; ".join(dict.fromkeys(values)) for name, values in rows.items()}
    lines = [f"| {name} | {value} |" for name, value in listed.items() if value]
    return "\n".join(["| | |", "|---|---|", *lines])


def _deviations(config: Config, tables: Iterable[str]) -> Iterator[str]:
    """Say of every table in what it deviates from the paper's protocol."""
    notes = {}
    for name in tables:
        table = find_table(config, name)
        notes[name] = "; ".join(diff_notes(config, table, collect(config, table)))
    lines = [f"- `{name}`: {note}" for name, note in notes.items() if note]
    if lines:
        yield "## Not a reproduction of the paper"
        yield "\n".join(lines)


def _runs(config: Config, runs: Mapping[Cell, RunInfo]) -> str:
    """Return a table of the runs: how long each took, and what chose its best epoch."""
    rows = []
    for cell, run in runs.items():
        best = run.checkpoint_epochs.get("best-test", 0)
        epochs = pd.read_csv(paths.epochs_file(paths.cell_folder(config, cell)))
        chosen = epochs[epochs["epoch"] == best]
        metrics = {
            metric.removesuffix("_accuracy").removeprefix("perturbation_"): chosen[
                f"test_{metric}"
            ].squeeze()
            for metric in METRICS
            if f"test_{metric}" in chosen
        }
        rows.append(
            {
                "run": cell.id,
                "epochs": run.checkpoint_epochs["last"],
                "device hours": run.hours,
                "best epoch": best,
                **metrics,
                "weights": ", ".join(run.kept) or "no",
            }
        )
    table: str = pd.DataFrame(rows).to_markdown(index=False, floatfmt=".2f")
    total = sum(run.hours for run in runs.values())
    return (
        f"{table}\n\n{len(rows)} run(s), {total:.2f} device hours of training. The accuracies "
        "and the stability (%) are those that chose the best epoch; the tables have those of the "
        "records."
    )


def _missing(publication: Publication) -> Iterator[str]:
    """Say what is planned and not here, and what others cannot make records of."""
    if publication.missing:
        lines = [f"- {cell}" for cell in list(publication.missing)[:_MOST]]
        if len(publication.missing) > _MOST:
            lines.append(f"- and {len(publication.missing) - _MOST} more")
        yield f"{len(publication.missing)} planned run(s) are not here:"
        yield "\n".join(lines)
    else:
        yield "Every planned run is here."
    if publication.lacking:
        yield "These attacks have no record here, nor weights to make one:"
        lines = [f"- {cell}: {', '.join(names)}" for cell, names in publication.lacking.items()]
        yield "\n".join(lines)
