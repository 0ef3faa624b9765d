"""The view of `status --watch`: what runs, what failed, and how long the rest takes."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from math import isnan

import pandas as pd
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from reproduce.config.schema import Config
from reproduce.evaluation.records import METRICS
from reproduce.experiments.cost import load_speeds
from reproduce.results.status import forecast, status_frame

# rows of what is not at work, and columns of a bar
_SHOWN, _BAR = 5, 12
_STATES = ("running", "saved", "failed", "damaged", "waiting", "unavailable")


def watch(
    config: Config,
    names: Sequence[str],
    every: float,
    console: Console | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Show how far experiments are, again and again, until they are finished or Ctrl-C."""
    screen = console or Console()
    if not screen.is_terminal:
        screen = Console(file=screen.file, width=max(80, screen.width), color_system=None)
    live = Live(console=screen, auto_refresh=False, transient=not screen.is_terminal)
    with suppress(KeyboardInterrupt), live:
        while True:
            frame = status_frame(config, names)
            view = draw(config, names, frame, time.time())
            if screen.is_terminal:
                live.update(view, refresh=True)
            else:
                screen.print(view)
            if frame["state"].isin(["done", "unavailable"]).all():
                return
            sleep(every)


def draw(config: Config, names: Sequence[str], frame: pd.DataFrame, now: float) -> RenderableType:
    """Return what is shown of a `status_frame`; it needs 80 columns."""
    clock = datetime.fromtimestamp(now).strftime("%H:%M:%S")
    runs = frame[frame["kind"] == "run"]
    saved = runs[runs["state"] == "saved"].sort_values("saved_at", ascending=False)
    faults = {"Damaged": "damaged", "Failed": "failed", "Cannot be had": "unavailable"}
    return Group(
        Text(f"{clock}  preset {config.preset}: {', '.join(names)}", style="bold"),
        _summary(config, frame),
        *_runs("Running", runs[runs["state"] == "running"], now),
        *_runs("Saved, not at work on this machine", saved[:_SHOWN], now),
        *_more(len(saved)),
        *(line for title, s in faults.items() for line in _faults(title, frame[frame.state == s])),
        Text(""),
    )


def _summary(config: Config, frame: pd.DataFrame) -> Table:
    """Return bars of what is done, the rate of the running runs, and how long the rest takes."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for kind, name in (("run", "Cells"), ("evaluation", "Evaluations")):
        states = frame.loc[frame["kind"] == kind, "state"]
        counts = states.value_counts()
        done = int(counts.get("done", 0))
        listed = [f"{counts[state]} {state}" for state in _STATES if state in counts]
        line = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=max(1, len(states)), completed=done, width=_BAR)
        line.add_row(bar, ", ".join([f"{done} of {len(states)} done", *listed]))
        grid.add_row(name, line)
    rest = forecast(frame)
    rate = "unknown" if rest.epochs_an_hour is None else f"{rest.epochs_an_hour:,.1f}"
    grid.add_row("Rate", f"{rate} epochs an hour, all running runs together")
    left = f"{_time(3600 * rest.hours_left)} of one job"
    if rest.jobs > 1:
        left += f", {_time(3600 * rest.hours_left / rest.jobs)} with {rest.jobs} jobs as now"
    measured = {"training": rest.training, "attacks": rest.attacks}
    ratios = [f"{ratio:.3g} for {name}" for name, ratio in measured.items() if ratio is not None]
    how = f"planned for {load_speeds(config).stated}"
    grid.add_row("Left", left)
    grid.add_row("", f"({how}; measured over planned: {', '.join(ratios) or 'nothing yet'})")
    return grid


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
            "/".join("–" if isnan(value) else f"{value:.1f}" for value in metrics),
            "–" if isnan(row["natural_risk"]) else loss,
            # clocks of two machines may differ
            "–" if isnan(row["saved_at"]) else _time(max(0.0, now - row["saved_at"])),
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


def _time(seconds: float) -> str:
    """Write a time that may be seconds or months, to two digits or so."""
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.{int(unit != 'min')}f} {unit}"
    return f"{seconds:.0f} s"
