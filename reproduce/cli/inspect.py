"""Commands that look: plan, status."""

from typing import Annotated

import typer
from rich.table import Table

from reproduce import paths
from reproduce.cells import Cell
from reproduce.cli.app import (
    ConfigOption,
    DeviceOption,
    ExperimentsArgument,
    PresetOption,
    SetOption,
    chosen_experiments,
    console,
)
from reproduce.cli.app import configure as _configure
from reproduce.config import Config
from reproduce.errors import HarnessError
from reproduce.experiments import find_experiment
from reproduce.planning import Plan, is_evaluated, load_speeds, representative_cells
from reproduce.planning import plan as make_plan
from reproduce.runs import problem_with, read_run
from reproduce.saved import read_progress, state_file
from reproduce.specs import training_spec


def plan(
    experiments: ExperimentsArgument = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="First time a training step of every network here.")
    ] = False,
    config: ConfigOption = None,
    preset: PresetOption = None,
    sets: SetOption = None,
    device: DeviceOption = None,
) -> None:
    """Count the cells and evaluations of experiments and estimate hours and disk.

    Example: reproduce plan table1 --preset paper
    """
    settings = _configure(config, preset, sets, device)
    names = chosen_experiments(settings, experiments)
    if measure:
        _measure(settings, names)
    table = Table("experiment", "cells", "trained", "evaluations", "done", "hours", "left", "disk")
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for entry in make_plan(settings, names):
        table.add_row(*_plan_row(entry))
    console().print(table)
    print(f"Preset {settings.preset}; device hours by the speed of {_speed(settings)}.")


def _plan_row(entry: Plan) -> list[str]:
    counts = (entry.cells, entry.trained, entry.evaluations, entry.evaluated)
    hours = (f"{entry.hours:,.2f}", f"{entry.hours_left:,.2f}")
    return [entry.name, *map(str, counts), *hours, f"{entry.size / 1e9:,.2f} GB"]


def _speed(config: Config) -> str:
    stated = load_speeds(config).stated
    if "measured" in stated:
        return stated
    doubt = ", which says little about a processor" if config.machine.device == "cpu" else ""
    return f"{stated}{doubt}; `--measure` takes this machine's"


def _measure(config: Config, names: list[str]) -> None:
    from reproduce.devices import claimed, describe
    from reproduce.files import write_json
    from reproduce.training.measure import seconds_per_pass

    found = {}
    with claimed(config.machine) as device:
        for cell in representative_cells(config, names):
            seconds = seconds_per_pass(config, cell, device)
            found[f"{cell.dataset}/{cell.architecture}"] = seconds
            print(f"{cell.dataset}/{cell.architecture}: {1e6 * seconds:.1f} microseconds a pass")
        hardware = describe(device)["name"]
    write_json(paths.throughput_file(config), {"hardware": hardware, "seconds_per_pass": found})


def status(
    experiments: ExperimentsArgument = None,
    config: ConfigOption = None,
    preset: PresetOption = None,
    sets: SetOption = None,
) -> None:
    """List the cells of experiments and how far each is.

    Example: reproduce status table1 --preset demo
    """
    settings = _configure(config, preset, sets)
    table = Table("cell", "training", "evaluations")
    evaluations: dict[Cell, list[bool]] = {}
    published: dict[str, list[bool]] = {}
    for name in chosen_experiments(settings, experiments):
        experiment = find_experiment(settings, name)
        evaluations |= {cell: evaluations.get(cell, []) for cell in experiment.cells}
        for item in experiment.evaluations:
            evaluations.setdefault(item.cell, []).append(is_evaluated(settings, item))
        for theirs in experiment.published:
            published.setdefault(theirs.name, []).append(is_evaluated(settings, theirs))
    for cell, done in evaluations.items():
        table.add_row(cell.id, _training_status(settings, cell), f"{sum(done)}/{len(done)}")
    for name, done in published.items():
        table.add_row(name, "published", f"{sum(done)}/{len(done)}")
    console().print(table)


def _training_status(config: Config, cell: Cell) -> str:
    """Say how far a run is, from its files alone."""
    spec = training_spec(config, cell)
    folder = paths.cell_folder(config, cell)
    saved = state_file(folder, spec.digest)
    try:
        run = read_run(folder)
        problem = problem_with(config, spec, run)
        if problem is None:
            return "trained"
        if saved.is_file():
            return f"saved in epoch {read_progress(saved)['epoch']} of {spec.train.epochs}"
    except HarnessError:
        return "damaged; `reproduce train` says what"
    return "not begun" if run is None else problem
