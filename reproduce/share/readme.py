"""The README.md of published results: what they are, on what they ran, what is partial."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from reproduce import paths
from reproduce.analysis import collect, diff_notes
from reproduce.cells import Cell
from reproduce.config import Config
from reproduce.experiments import find_table
from reproduce.runs import RunInfo

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
    pieces = [piece for run in runs for piece in run.pieces]
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
