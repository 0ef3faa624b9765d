"""The README.md of published results: what they are, on what they ran, what is partial."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from reproduce import paths
from reproduce.analysis import collect, diff_notes
from reproduce.cells import Cell
from reproduce.config import Config
from reproduce.experiments import find_table
from reproduce.runs import RunInfo

# the metrics that epochs.csv has of the test images
_TITLES = {
    "robust_accuracy": "robust",
    "natural_accuracy": "natural",
    "perturbation_stability": "stability",
}


@dataclass(frozen=True)
class About:
    """What a published folder holds.

    Attributes
    ----------
    runs : mapping
        The published runs and what their run.json says.
    missing : mapping
        Why planned runs are not among them.
    made : tuple of str
        Tables and figures that were made of them.
    """

    runs: Mapping[Cell, RunInfo]
    missing: Mapping[Cell, str]
    made: tuple[str, ...]


def describe(config: Config, about: About) -> str:
    """Return the text of README.md.

    Parameters
    ----------
    config : Config
        The configuration; its results lie where they are published.
    about : About
        What is published.
    """
    root = paths.root(config)
    parts = [
        f"# Results of the preset {config.preset}",
        "Written by `reproduce publish`. Nothing here was typed by hand.",
        _facts(about.runs.values()),
        *_protocol(config, about),
        "## Runs",
        _runs(config, about),
        *_partial(about),
        "## Use",
        f"""```
reproduce verify {root} --config {root}/config.yaml
snakemake {_first_table(about)} --cores 1 --configfile {root}/config.yaml{_option(config)}
```

The first checks every file here. The second takes these runs and records as they are, and makes
only what is missing.""",
    ]
    return "\n\n".join(parts) + "\n"


def _facts(runs: Iterable[RunInfo]) -> str:
    """Return a table of what all runs ran on."""
    runs = list(runs)
    pieces = [piece for run in runs for piece in run.pieces]
    versions = [
        ", ".join(f"{name} {number}" for name, number in piece.versions.items()) for piece in pieces
    ]
    dates = sorted(piece.began[:10] for piece in pieces if piece.began)
    data = [
        f"{run.data.source}, {run.data.train} training and {run.data.test} test images, "
        + ("official by md5" if run.data.official else "not verified by md5")
        + f", SHA-256 of the prepared images {run.data.sha256[:12]}"
        for run in runs
    ]
    rows = {
        "hardware": _each(piece.name for piece in pieces),
        "versions": _each(versions),
        "commit": _each(piece.commit or "no checkout" for piece in pieces),
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
    return f"{table}\n\n{len(rows)} runs, {total:.2f} device hours in all."


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
        "hours": run.hours,
        "best epoch": best,
    }
    for name, title in _TITLES.items():
        if f"test_{name}" in chosen:
            row[title] = float(chosen[f"test_{name}"].iloc[0])
    row["records"] = ", ".join(record.stem for record in records)
    row["weights"] = ", ".join(run.kept) or "no"
    return row


def _partial(about: About) -> list[str]:
    """Say what is planned and not here."""
    if not about.missing:
        return ["Every planned run is here."]
    groups: dict[str, int] = {}
    for cell in about.missing:
        name = f"{cell.dataset} {cell.architecture} {cell.method}"
        groups[name] = groups.get(name, 0) + 1
    lines = [f"- {name}: {count}" for name, count in groups.items()]
    return ["Planned, and not here, by number of runs:", "\n".join(lines)]


def _option(config: Config) -> str:
    """Return what a command needs to find a publication that lies elsewhere than most."""
    usual = Config.model_fields["reference"].default
    return "" if config.reference == usual else f" --config reference={config.reference}"


def _first_table(about: About) -> str:
    return next((name for name in about.made if name.startswith("table")), "claims")
