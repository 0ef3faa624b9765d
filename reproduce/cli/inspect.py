"""Commands that look: plan, status."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.table import Table

from reproduce import paths
from reproduce.campaign import read_status, run_work
from reproduce.cells import Cell
from reproduce.cli import watch as live
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
from reproduce.experiments import Evaluation, PublishedEvaluation, find_experiment
from reproduce.planning import Plan, is_evaluated, is_finished, load_speeds, representative_cells
from reproduce.planning import plan as make_plan
from reproduce.specs import training_spec
from reproduce.superseded import count_superseded, found_superseded


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
    for cell in dict.fromkeys(c for n in names for c in find_experiment(settings, n).cells):
        spec = training_spec(settings, cell)
        line = None if is_finished(settings, spec) else found_superseded(settings, spec)
        if line is not None:
            print(line)
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
    from reproduce.specs import training_spec
    from reproduce.training.measure import seconds_per_pass

    found = {}
    with claimed(config.machine) as device:
        for cell in representative_cells(config, names):
            seconds = seconds_per_pass(config.machine, training_spec(config, cell), device)
            found[f"{cell.dataset}/{cell.architecture}"] = seconds
            print(f"{cell.dataset}/{cell.architecture}: {1e6 * seconds:.1f} microseconds a pass")
        hardware = describe(device)["name"]
    write_json(paths.throughput_file(config), {"hardware": hardware, "seconds_per_pass": found})


def status(
    experiments: ExperimentsArgument = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again and again, until all is done or Ctrl-C.")
    ] = False,
    every: Annotated[
        float | None, typer.Option(help="With --watch: seconds between two looks; 5 if not given.")
    ] = None,
    config: ConfigOption = None,
    preset: PresetOption = None,
    sets: SetOption = None,
) -> None:
    """List the cells of experiments and how far each is; or watch a running campaign.

    Example: reproduce status table1 --preset demo

    Example: reproduce status --watch --every 30
    """
    settings = _configure(config, preset, sets)
    names = chosen_experiments(settings, experiments)
    if watch:
        live.watch(settings, names, live.check_every(live.EVERY if every is None else every))
        return
    if every is not None:
        raise HarnessError("--every belongs to --watch")
    table = Table("cell", "training", "evaluations")
    # tables and figures share evaluations
    evaluations: dict[Cell, dict[Evaluation, bool]] = {}
    published: dict[str, dict[PublishedEvaluation, bool]] = {}
    for name in names:
        experiment = find_experiment(settings, name)
        evaluations |= {cell: evaluations.get(cell, {}) for cell in experiment.cells}
        for item in experiment.evaluations:
            evaluations.setdefault(item.cell, {})[item] = is_evaluated(settings, item)
        for theirs in experiment.published:
            published.setdefault(theirs.name, {})[theirs] = is_evaluated(settings, theirs)
    for cell, done in evaluations.items():
        text = read_status(settings, run_work(settings, cell)).text
        table.add_row(cell.id, text, _count(done))
    for name, theirs_done in published.items():
        table.add_row(name, "published", _count(theirs_done))
    console().print(table)
    aside = count_superseded(settings)
    if any(aside):
        where = paths.superseded_folder(paths.root(settings))
        runs, records = live.counted(aside.runs, "run"), live.counted(aside.records, "record")
        print(f"{runs} and {records} that others replaced lie in {where}: `reproduce restore`.")


def _count(done: Mapping[Any, bool]) -> str:
    return f"{sum(done.values())}/{len(done)}"
