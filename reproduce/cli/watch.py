"""The live view of a campaign: what it shows of a survey, and when it looks again."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from reproduce.campaign import Campaign, RunStatus, Survey, find_campaign, survey
from reproduce.config import Config
from reproduce.errors import HarnessError

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


def watch(
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
