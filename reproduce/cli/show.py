"""Commands that look: plan, status."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from reproduce.cell import Cell
from reproduce.cli.app import (
    ConfigOption,
    DeviceOption,
    ExperimentArgument,
    ExperimentsArgument,
    PresetOption,
    SetOption,
    chosen_experiments,
    console,
)
from reproduce.cli.app import configure as _configure
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.experiments import paths
from reproduce.experiments.grids import Evaluation, PublishedEvaluation, find_experiment, find_table
from reproduce.experiments.spec import training_spec
from reproduce.experiments.superseded import count_superseded, found_superseded
from reproduce.results.plan import (
    Plan,
    is_evaluated,
    is_finished,
    load_speeds,
    representative_cells,
)
from reproduce.results.plan import plan as make_plan
from reproduce.results.status import (
    Campaign,
    RunStatus,
    Survey,
    find_campaign,
    read_status,
    run_work,
    survey,
)


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
    from reproduce.compute.device import claimed, describe
    from reproduce.core.files import write_json
    from reproduce.experiments.spec import training_spec
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
        watch_live(settings, names, check_every(EVERY if every is None else every))
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
        runs, records = counted(aside.runs, "run"), counted(aside.records, "record")
        print(f"{runs} and {records} that others replaced lie in {where}: `reproduce restore`.")


def _count(done: Mapping[Any, bool]) -> str:
    return f"{sum(done.values())}/{len(done)}"


# seconds between two looks; a look takes a fraction of one
EVERY = 5.0
_LEAST, _MOST = 0.2, 86_400.0
# of runs that are not at work, and of faults
_SHOWN = 5
# columns of a bar
_BAR = 12
_THREE = ("robust_accuracy", "natural_accuracy", "perturbation_stability")


def check_every(seconds: float) -> float:
    """Return the seconds between two looks.

    Raises
    ------
    HarnessError
        If they are not between a fifth of a second and a day.
    """
    if not _LEAST <= seconds <= _MOST:
        raise HarnessError(f"--every is {seconds:g}; it takes seconds from {_LEAST:g} to {_MOST:g}")
    return seconds


def watch_live(
    config: Config,
    names: list[str],
    every: float,
    console: Console | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Show how far experiments are, again and again, until they are finished or Ctrl-C.

    In a terminal the view is drawn over the last one; elsewhere each is printed below it.

    Parameters
    ----------
    config : Config
        The configuration.
    names : list of str
        The experiments.
    every : float
        Seconds between two looks.
    console : rich.console.Console, optional
        Where to draw; standard output unless given.
    sleep : callable
        What waits.
    """
    screen = console or Console()
    if not screen.is_terminal:
        screen = Console(file=screen.file, width=max(80, screen.width), color_system=None)
    campaign = find_campaign(config, names)
    try:
        views = _views(campaign, every, sleep)
        if screen.is_terminal:
            with Live(console=screen, auto_refresh=False) as live:
                for view in views:
                    live.update(view, refresh=True)
        else:
            for view in views:
                screen.print(view)
    except KeyboardInterrupt:
        return  # it is how a view is left


def _views(
    campaign: Campaign, every: float, sleep: Callable[[float], None]
) -> Iterator[RenderableType]:
    while True:
        seen = survey(campaign, time.time())
        yield draw(campaign, seen)
        if seen.finished:
            return
        sleep(every)


def draw(campaign: Campaign, seen: Survey) -> RenderableType:
    """Return what is shown of a survey; it needs 80 columns."""
    clock = datetime.fromtimestamp(seen.at).strftime("%H:%M:%S")
    heading = f"{clock}  preset {campaign.config.preset}: {', '.join(campaign.names)}"
    parts: list[RenderableType] = [
        Text(heading, style="bold"),
        _summary(campaign, seen),
    ]
    running = [run for run in seen.runs if run.state == "running"]
    if running:
        parts.append(_table("Running", running, seen.at))
    saved = [run for run in seen.runs if run.state == "saved"]
    saved.sort(key=lambda run: -(run.saved_at or 0.0))
    if saved:
        title = "Saved, no lock seen: stopped, or at work on another machine"
        parts += [_table(title, saved[:_SHOWN], seen.at), *_more(saved)]
    parts += _faults(
        "Damaged", [(r.work.cell.id, r.error) for r in seen.runs if r.state == "damaged"]
    )
    failed = [(r.work.cell.id, r.error) for r in seen.runs if r.state == "failed"]
    failed += [(a.work.name, a.error) for a in seen.attacks if a.state == "failed"]
    parts += _faults("Failed", failed)
    parts += _faults(
        "Cannot be had",
        [(a.work.name, a.error) for a in seen.attacks if a.state == "unavailable"],
    )
    return Group(*parts, Text(""))


def _summary(campaign: Campaign, seen: Survey) -> Group:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(width=_BAR)
    grid.add_column(overflow="fold")
    rows = (
        ("Cells", seen.count_runs(), len(seen.runs)),
        ("Evaluations", seen.count_attacks(), len(seen.attacks)),
    )
    for name, counts, total in rows:
        bar = ProgressBar(total=max(1, total), completed=counts["done"], width=_BAR)
        grid.add_row(name, bar, f"{counts['done']} of {total} done{_rest(counts)}")
    lines = Table.grid(padding=(0, 1))
    lines.add_column(no_wrap=True, width=len("Evaluations"))
    lines.add_column(overflow="fold")
    lines.add_row("Rate", _rate(seen))
    for name, text in zip(("Left", ""), _left(campaign, seen), strict=True):
        lines.add_row(name, text)
    return Group(grid, lines)


def _rest(counts: Mapping[str, int]) -> str:
    """Say how many there are in each state but done, where there are any."""
    names = ("running", "saved", "failed", "damaged", "waiting", "unavailable")
    words = {"unavailable": "cannot be had"}
    return "".join(f", {counts[name]} {words.get(name, name)}" for name in names if counts[name])


def _rate(seen: Survey) -> str:
    running = seen.count_runs()["running"]
    if not running:
        return "no training run is at work"
    if seen.epochs_an_hour is None:
        return "not known yet: no running run has saved a finished epoch"
    rate = seen.epochs_an_hour
    return f"{rate:,.{0 if rate >= 100 else 2}f} epochs an hour, {counted(running, 'run')}"


def _left(campaign: Campaign, seen: Survey) -> tuple[str, str]:
    """Say what is left, and how that is estimated."""
    if seen.finished:
        return "nothing", ""
    text = f"{_hours(seen.hours_left)} of one job"
    if seen.time_left is not None:
        text += f", {_hours(seen.time_left)} with {counted(seen.jobs, 'job')} at a time as now"
    factors = (("training", seen.pace.training), ("attacks", seen.pace.attacks))
    measured = [f"{factor:.3g} for {name}" for name, factor in factors if factor is not None]
    if not measured:
        return text, f"(planned for {campaign.speed}; nothing is measured yet)"
    return (
        text,
        f"(planned hours times the measured over the planned so far: {', '.join(measured)})",
    )


def _table(title: str, runs: Iterable[RunStatus], now: float) -> Table:
    """Return a row a run: where it is, its last metrics and loss, how long ago it was saved."""
    table = Table(
        title=title,
        box=None,
        title_justify="left",
        title_style="bold",
        pad_edge=False,
        collapse_padding=True,
        padding=(0, 1),
    )
    table.add_column("cell", overflow="fold", ratio=1)
    for name in ("epoch", "rob/nat/stab %", "loss", "saved"):
        table.add_column(name, justify="right", no_wrap=True)
    for run in runs:
        table.add_row(
            run.work.cell.id,
            f"{run.epoch or '–'}/{run.work.epochs}",
            _metrics(run),
            "–" if run.loss is None else f"{run.loss[0]:.2f}+{run.loss[1]:.3f}",
            "–" if run.saved_at is None else _age(now - run.saved_at),
        )
    return table


def _metrics(run: RunStatus) -> str:
    """Return the last epoch's metrics on the test images; a dash for what was not measured."""
    values = (run.metrics.get(f"test_{name}", math.nan) for name in _THREE)
    return "/".join("–" if math.isnan(value) else f"{value:.1f}" for value in values)


def _faults(title: str, found: list[tuple[str, str | None]]) -> Iterator[RenderableType]:
    if not found:
        return
    yield Text(title, style="bold")
    for name, reason in found[:_SHOWN]:
        yield Text(f"  {name}: {(reason or '').removeprefix(f'{name}: ')}")
    yield from _more(found)


def _more(found: list[RunStatus] | list[tuple[str, str | None]]) -> Iterator[Text]:
    if len(found) > _SHOWN:
        yield Text(f"  and {len(found) - _SHOWN} more")


def counted(number: int, what: str) -> str:
    """Return a number of things, in words."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _hours(hours: float) -> str:
    """Write a time that may be seconds or months."""
    if hours >= 72:
        return f"{hours / 24:,.1f} days"
    if hours >= 2:
        return f"{hours:.1f} hours"
    minutes = 60 * hours
    return f"{minutes:.0f} minutes" if minutes >= 2 else f"{60 * minutes:.0f} seconds"


def _age(seconds: float) -> str:
    """Write how long ago something was; clocks of two machines may differ."""
    seconds = max(0.0, seconds)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.0f} h"


def table(
    experiment: ExperimentArgument,
    config: ConfigOption = None,
    preset: PresetOption = None,
    sets: SetOption = None,
) -> None:
    """Write a table from whatever records exist, in CSV, Markdown and LaTeX.

    `checkpoints` is the table of all runs at their best-test, last and best-val checkpoints.

    Example: reproduce table table1 --preset demo
    """
    from reproduce.results.frames import collect
    from reproduce.tables.write import write_checkpoints, write_table

    settings = _configure(config, preset, sets)
    if experiment == "checkpoints":
        print(write_checkpoints(settings))
    else:
        chosen = find_table(settings, experiment)
        print(write_table(settings, chosen, collect(settings, chosen)))
    print(f"Written: {paths.table_file(settings, experiment, 'csv')}, .md and .tex")


def diff(
    experiment: ExperimentArgument,
    config: ConfigOption = None,
    preset: PresetOption = None,
    sets: SetOption = None,
) -> None:
    """Put a regenerated table beside the paper's, number by number.

    Example: reproduce diff table1 --preset paper
    """
    from reproduce.results.frames import collect
    from reproduce.tables.diff import build_diff, diff_caveats, diff_notes, write_diff

    settings = _configure(config, preset, sets)
    chosen = find_table(settings, experiment)
    results = collect(settings, chosen)
    frame = build_diff(settings, chosen, results)
    write_diff(settings, chosen, frame)
    notes: dict[str, int] = {}
    heads = ("cell", "method", "λ", "attack", "metric", "paper", "ours", "seeds", "Δ", "verdict")
    shown = Table(*heads)
    for column in shown.columns:
        column.no_wrap = True
    for row in frame.to_dict("records"):
        shown.add_row(
            f"{row['dataset']} {row['architecture']}",
            row["method"],
            "–" if row["lambda"] != row["lambda"] else f"{row['lambda']:g}",
            row["attack"],
            row["metric"].removesuffix("_accuracy").removeprefix("perturbation_"),
            _number(row["paper"], row["paper_std"]),
            _number(row["ours"], row["ours_std"]),
            str(row["seeds"]),
            "" if row["difference"] != row["difference"] else f"{row['difference']:+.2f}",
            row["verdict"] + _reference(row["note"], notes),
        )
    console().print(shown)
    for text, number in notes.items():
        print(f"({number}) {text}")
    reasons = diff_notes(settings, chosen, results)
    if reasons:
        print(f"Not a reproduction of the paper: {'; '.join(reasons)}.")
    for line in [*diff_caveats(results), *results.problems]:
        print(f"Note: {line}")
    print(f"Written: {paths.diff_file(settings, chosen.name)}")


def figure(
    name: Annotated[
        str, typer.Argument(metavar="FIGURE", help="Name of a figure, such as figure3.")
    ],
    config: ConfigOption = None,
    preset: PresetOption = None,
    sets: SetOption = None,
) -> None:
    """Draw a figure from whatever runs are finished: SVG, PNG and the numbers as CSV.

    Example: reproduce figure figure3 --preset demo
    """
    from reproduce.figures import draw

    settings = _configure(config, preset, sets)
    for line in draw(settings, name).missing:
        print(f"Missing or unfinished: {line}")
    print(f"Written: {paths.figure_file(settings, name, 'svg')}, .png and .csv")


def _reference(note: str, notes: dict[str, int]) -> str:
    """Return the number of a note in brackets; a new one gets the next."""
    return f" ({notes.setdefault(note, len(notes) + 1)})" if note else ""


def _number(mean: float, std: float) -> str:
    if mean != mean:
        return "–"
    return f"{mean:.2f}" if std != std else f"{mean:.2f} ± {std:.2f}"


def write_results(
    config: ConfigOption = None,
    preset: PresetOption = None,
    sets: SetOption = None,
) -> None:
    """Write every number there is as one tidy table, results.parquet.

    Example: reproduce results --preset demo
    """
    from reproduce.results.frames import write_results as write

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
    from reproduce.tables.tensorboard import write_events

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


# lines about what is missing; an empty campaign has hundreds
_SHOWN_claims = 10
_COLOURS = {"holds": "green", "fails": "red", "too little data": "yellow"}


def claims(
    config: ConfigOption = None,
    preset: PresetOption = None,
    sets: SetOption = None,
) -> None:
    """Test the paper's claims on whatever results exist: holds, fails, or too little data.

    Example: reproduce claims --preset demo
    """
    from reproduce.claims.statements import context, judge_claims, write_claims

    settings = _configure(config, preset, sets)
    judged_on = context(settings)
    found = judge_claims(settings)
    write_claims(settings, found)
    print(f"Preset {judged_on['preset']}; data: {', '.join(judged_on['datasets'])}.")
    if judged_on["deviations"]:
        print(f"Not the paper's protocol: {'; '.join(judged_on['deviations'])}.")
    table = Table("claim", "verdict", "what was found", show_lines=True)
    for column in table.columns[:2]:
        column.no_wrap = True
    for claim in found:
        colour = _COLOURS[claim.verdict]
        heard = f"{claim.statement} [{claim.source}]"
        table.add_row(
            claim.name, f"[{colour}]{claim.verdict}[/]", f"{escape(heard)}\n{escape(claim.summary)}"
        )
    console().print(table)
    missing = list(dict.fromkeys(line for claim in found for line in claim.missing))
    for line in missing[:_SHOWN_claims]:
        print(f"Missing: {line}")
    if len(missing) > _SHOWN_claims:
        print(f"Missing: {len(missing) - _SHOWN_claims} more, listed in the file.")
    print(f"Written: {paths.claims_file(settings)}")


def report(
    config: ConfigOption = None,
    preset: PresetOption = None,
    sets: SetOption = None,
) -> None:
    """Write report.html, one file with every table, figure and claim from whatever results exist.

    Example: reproduce report --preset demo
    """
    from reproduce.report.build import write_report

    print(f"Written: {write_report(_configure(config, preset, sets))}")
