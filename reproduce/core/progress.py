"""Progress for a person: a live bar in a terminal, plain lines in a log."""

from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class ProgressBar:
    """One job's progress, of which `done` units were done earlier; drawn on standard error."""

    def __init__(
        self, title: str, total: int, unit: str, done: int = 0, console: Console | None = None
    ) -> None:
        self._console = console or Console(stderr=True, soft_wrap=True, highlight=False)
        self._live = self._console.is_terminal
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            disable=not self._live,
            # a window over the last units: the first are slow, and a resumed run starts late
            speed_estimate_period=120,
        )
        self._task = self._bar.add_task(title, total=total, completed=done, note="")

    def __enter__(self) -> "ProgressBar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, units: float = 1, note: str | None = None) -> None:
        """Count units as done and show a note after the bar."""
        self._bar.update(self._task, advance=units)
        if note is not None:
            self._bar.update(self._task, note=note)

    def line(self, text: str) -> None:
        """Print a line that stays: above the bar in a terminal, with the time left in a log."""
        if self._live:
            self._bar.console.print(text)
            return
        left = self._bar.tasks[0].time_remaining
        suffix = "" if left is None else f"  ({timedelta(seconds=round(left))} left)"
        self._console.print(text + suffix)
