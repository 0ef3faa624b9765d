"""Commands that hand results on to other programs: results, tensorboard."""

from pathlib import Path
from typing import Annotated

import typer

from reproduce import paths
from reproduce.cli.app import (
    ConfigOption,
    ExperimentsArgument,
    PresetOption,
    SetOption,
    chosen_experiments,
)
from reproduce.cli.app import configure as _configure


def write_results(
    config: ConfigOption = None,
    preset: PresetOption = None,
    sets: SetOption = None,
) -> None:
    """Write every number there is as one tidy table, results.parquet.

    Example: reproduce results --preset demo
    """
    from reproduce.analysis.tidy import write_results as write

    settings = _configure(config, preset, sets)
    tidy = write(settings)
    for line in tidy.left_out:
        print(f"Left out: {line}")
    print(f"{len(tidy.frame)} rows from {tidy.records} records")
    print(f"Written: {paths.results_file(settings)}")


def tensorboard(
    experiments: ExperimentsArgument = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to; tensorboard under the results if none.")
    ] = None,
    every: Annotated[
        int | None,
        typer.Option(min=1, help="Iterations between two points; at most 2,000 a run if none."),
    ] = None,
    config: ConfigOption = None,
    preset: PresetOption = None,
    sets: SetOption = None,
) -> None:
    """Write the traces of runs as TensorBoard event files, a folder a cell.

    Example: reproduce tensorboard table1 --preset demo
    """
    from reproduce.analysis.event_files import write_events

    settings = _configure(config, preset, sets)
    folder = paths.tensorboard_folder(settings) if out is None else out
    names = chosen_experiments(settings, experiments)
    outcome = write_events(settings, names, folder, every)
    for line in outcome.problems:
        print(f"Left out: {line}")
    print(
        f"{outcome.finished} finished and {outcome.unfinished} unfinished runs; "
        f"{outcome.absent} have no trace yet"
    )
    if outcome.finished or outcome.unfinished:
        print(f"Written: {folder}; look at it with: tensorboard --logdir {folder}")
