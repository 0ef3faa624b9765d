"""The view of `status --watch`: what runs, what failed, and how long the rest takes."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

import pandas as pd
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.evaluation.records import METRICS
from reproduce.experiments.cost import load_speeds
from reproduce.results.status import Forecast, forecast, status_frame

# seconds between two looks, and the least and the most that --every takes
EVERY, _LEAST, _MOST = 5.0, 0.2, 86_400.0
# rows of what is not at work
_SHOWN = 5
# columns of a bar
_BAR = 12


def check_every(seconds: float) -> float:
    """Return the seconds between two looks, or refuse them."""
    if not _LEAST <= seconds <= _MOST:
        raise HarnessError(f"--every is {seconds:g}; it takes seconds from {_LEAST:g} to {_MOST:g}")
    return seconds


def watch(
    config: Config,
    names: Sequence[str],
    every: float,
    console: Console | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Show how far experiments are, again and again, until they are finished or Ctrl-C.

    In a terminal each view is drawn over the last one; elsewhere it is printed below it.
    """
    screen = console or Console()
    if not screen.is_terminal:
        screen = Console(file=screen.file, width=max(80, screen.width), color_system=None)
    views = _views(config, names, every, sleep)
    try:
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
    config: Config, names: Sequence[str], every: float, sleep: Callable[[float], None]
) -> Iterator[RenderableType]:
    while True:
        frame = status_frame(config, names)
        yield draw(config, names, frame, time.time())
        if is_over(frame):
            return
        sleep(every)


def is_over(frame: pd.DataFrame) -> bool:
    """Say whether nothing is left that can be done."""
    return bool(frame["state"].isin(["done", "unavailable"]).all())


def draw(config: Config, names: Sequence[str], frame: pd.DataFrame, now: float) -> RenderableType:
    """Return what is shown of a `status_frame`; it needs 80 columns."""
    clock = datetime.fromtimestamp(now).strftime("%H:%M:%S")
    runs = frame[frame["kind"] == "run"]
    saved = runs[runs["state"] == "saved"].sort_values("saved_at", ascending=False)
    title = "Saved, no lock seen: stopped, or at work on another machine"
    return Group(
        Text(f"{clock}  preset {config.preset}: {', '.join(names)}", style="bold"),
        _counts(frame),
        _outlook(config, frame),
        *_runs("Running", runs[runs["state"] == "running"], now),
        *_runs(title, saved[:_SHOWN], now),
        *_more(len(saved)),
        *_faults("Damaged", frame[frame["state"] == "damaged"]),
        *_faults("Failed", frame[frame["state"] == "failed"]),
        *_faults("Cannot be had", frame[frame["state"] == "unavailable"]),
        Text(""),
    )


def _counts(frame: pd.DataFrame) -> Table:
    """Return a bar of what is done, and the numbers in each state."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(width=_BAR)
    grid.add_column(overflow="fold")
    for kind, name in (("run", "Cells"), ("evaluation", "Evaluations")):
        states = frame.loc[frame["kind"] == kind, "state"]
        done, counts = int((states == "done").sum()), states.value_counts()
        text = f"{done} of {len(states)} done"
        for state in ("running", "saved", "failed", "damaged", "waiting", "unavailable"):
            if state in counts:
                shown = "cannot be had" if state == "unavailable" else state
                text += f", {counts[state]} {shown}"
        bar = ProgressBar(total=max(1, len(states)), completed=done, width=_BAR)
        grid.add_row(name, bar, text)
    return grid


def _outlook(config: Config, frame: pd.DataFrame) -> Table:
    """Return the rate of the running runs, what is left, and how that is estimated."""
    rest = forecast(frame)
    running = int(((frame["kind"] == "run") & (frame["state"] == "running")).sum())
    if not running:
        rate = "no training run is at work"
    elif rest.epochs_an_hour is None:
        rate = "not known yet: no running run has saved a finished epoch"
    else:
        digits = 0 if rest.epochs_an_hour >= 100 else 2
        rate = f"{rest.epochs_an_hour:,.{digits}f} epochs an hour, {counted(running, 'run')}"
    left, how = ("nothing", "") if is_over(frame) else _left(config, rest)
    lines = Table.grid(padding=(0, 1))
    lines.add_column(no_wrap=True, width=len("Evaluations"))
    lines.add_column(overflow="fold")
    for name, text in (("Rate", rate), ("Left", left), ("", how)):
        lines.add_row(name, text)
    return lines


def _left(config: Config, rest: Forecast) -> tuple[str, str]:
    left = f"{_hours(rest.hours_left)} of one job"
    if rest.jobs:
        together = _hours(rest.hours_left / rest.jobs)
        left += f", {together} with {counted(rest.jobs, 'job')} at a time as now"
    ratios = (("training", rest.training), ("attacks", rest.attacks))
    measured = [f"{ratio:.3g} for {name}" for name, ratio in ratios if ratio is not None]
    if not measured:
        return left, f"(planned for {load_speeds(config).stated}; nothing is measured yet)"
    return (
        left,
        f"(planned hours times the measured over the planned so far: {', '.join(measured)})",
    )


def _runs(title: str, runs: pd.DataFrame, now: float) -> Iterator[Table]:
    """Return a row a run: where it is, its last metrics and loss, how long ago it was saved."""
    if runs.empty:
        return
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
    for row in runs.to_dict("records"):
        metrics = (row[f"test_{name}"] for name in METRICS)
        loss = f"{row['natural_risk']:.2f}+{row['robust_regularization']:.3f}"
        table.add_row(
            row["name"],
            f"{int(row['epoch']) or '–'}/{int(row['epochs'])}",
            "/".join("–" if math.isnan(value) else f"{value:.1f}" for value in metrics),
            "–" if math.isnan(row["natural_risk"]) else loss,
            "–" if math.isnan(row["saved_at"]) else _age(now - row["saved_at"]),
        )
    yield table


def _faults(title: str, rows: pd.DataFrame) -> Iterator[Text]:
    if rows.empty:
        return
    yield Text(title, style="bold")
    for name, reason in zip(rows["name"][:_SHOWN], rows["reason"], strict=False):
        yield Text(f"  {name}: {str(reason).removeprefix(f'{name}: ')}")
    yield from _more(len(rows))


def _more(number: int) -> Iterator[Text]:
    if number > _SHOWN:
        yield Text(f"  and {number - _SHOWN} more")


def counted(number: int, what: str) -> str:
    """Return a number of things in words."""
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
