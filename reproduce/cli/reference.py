"""Commands for results that go from one to another: publish, adopt."""

from pathlib import Path
from typing import Annotated

import typer

from reproduce import paths
from reproduce.cells import parse_cell
from reproduce.cli.app import ConfigOption, PresetOption, SetOption
from reproduce.cli.app import configure as _configure
from reproduce.errors import HarnessError


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
    """Write finished runs where others can take them: records, traces, tables, no weights.

    Example: reproduce publish results/reference/h200 --preset paper
    """
    from reproduce.publication import publish as write

    settings = _configure(config, preset, sets)
    if settings.reference is not None and folder.resolve() == settings.reference.resolve():
        raise HarnessError(f"{folder} is the folder of all; give these a name: {folder / 'NAME'}")
    chosen = {parse_cell(name) for name in weights or ()}
    about = write(settings, folder, chosen, every, print)
    for line in about.missing.values():
        print(f"Left out: {line}")
    for line in about.refused.values():
        print(f"Others would train this again: {line}")
    print(f"Written: {folder / settings.preset}")


def adopt(
    cells: Annotated[
        list[str] | None,
        typer.Argument(metavar="CELL", help="Runs; all that the reference results hold if none."),
    ] = None,
    config: ConfigOption = None,
    preset: PresetOption = None,
    sets: SetOption = None,
) -> None:
    """Take finished runs and their records from the folder `reference` of the configuration.

    Snakemake does it by itself.

    Example: reproduce adopt --preset paper
    """
    from reproduce.reference import adopt as take
    from reproduce.reference import find_reference, is_ours

    settings = _configure(config, preset, sets)
    if settings.reference is None:
        raise HarnessError("`reference` is null: there is no folder to take runs from")
    found = find_reference(settings)
    chosen = [parse_cell(name) for name in cells] if cells else list(found.taken)
    for cell in chosen:
        if cell not in found.taken:
            why = found.refused.get(cell, "no publication has it with these settings")
            if is_ours(settings, cell):
                why = "it was begun or trained here, and is not replaced"
            raise HarnessError(f"{cell} is not taken from {settings.reference}: {why}")
    take(settings, (found.taken[cell] for cell in chosen), print)
    if not cells:
        for reason in found.refused.values():
            print(f"Not taken: {reason}")
        print(f"{paths.root(settings)} has {len(chosen)} run(s) of reference results")
