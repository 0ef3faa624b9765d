"""Commands for results that go from one to another: publish, import."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from reproduce import paths
from reproduce.cells import parse_cell
from reproduce.cli.app import ConfigOption, PresetOption, SetOption
from reproduce.cli.app import configure as _configure
from reproduce.config import PRESETS
from reproduce.errors import one_line


def publish(
    folder: Annotated[
        Path, typer.Argument(help="Where to, such as results/reference/h200; the preset is added.")
    ],
    weights: Annotated[
        list[str] | None,
        typer.Option(metavar="CELL", help="Also this run's best-test checkpoint; repeatable."),
    ] = None,
    every: Annotated[
        int,
        typer.Option(
            min=1, max=1000, help="Keep one of so many rows of a trace, and its last epoch."
        ),
    ] = 10,
    config: ConfigOption = None,
    preset: PresetOption = None,
    sets: SetOption = None,
) -> None:
    """Write finished runs where others can import them: records, traces, tables, no weights.

    Example: reproduce publish results/reference/h200 --preset paper
    """
    from reproduce.share import publish as write

    settings = _configure(config, preset, sets)
    chosen = {parse_cell(name) for name in weights or ()}
    about = write(settings, folder, chosen, every, print)
    for line in about.missing.values():
        print(f"Left out: {line}")
    for cell, names in about.lacking.items():
        print(f"{cell}: others have neither record nor weights for {', '.join(names)}")
    print(f"Written: {folder / settings.preset}")


def import_published(
    folder: Annotated[
        Path, typer.Argument(help="Published results, such as results/reference/cpu/mini.")
    ],
    cells: Annotated[
        list[str] | None, typer.Argument(metavar="CELL", help="Runs; all of the folder if none.")
    ] = None,
    config: ConfigOption = None,
    preset: PresetOption = None,
    sets: SetOption = None,
) -> None:
    """Copy runs that somebody published, and their records, into one's own results.

    A run must have the settings of the configuration.  A finished run of other settings in its
    place is moved aside, one with the same settings stays.  Ends with status 1 if a run that was
    named is refused, or all are.

    Example: reproduce import results/reference/cpu/mini
    """
    from reproduce.share import import_runs

    if preset is None and folder.absolute().name in PRESETS:
        preset = folder.absolute().name
    settings = _configure(config, preset, sets)
    outcomes = []
    for run in import_runs(settings, folder, [parse_cell(name) for name in cells or ()]):
        outcomes.append(run.outcome)
        print(one_line(f"{run.cell}: {run.outcome}, {run.reason}"))
    counts = ", ".join(f"{outcomes.count(o)} {o}" for o in ("imported", "kept", "refused"))
    print(f"{counts}, in {paths.root(settings)}")
    sys.exit("refused" in outcomes if cells else outcomes.count("refused") == len(outcomes))
