"""Traces and epochs of runs as event files, for those who look at them in TensorBoard."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import write_atomically
from reproduce.core.progress import ProgressBar
from reproduce.experiments.grids import find_experiment
from reproduce.experiments.runs import TRACE_COLUMNS
from reproduce.results.reader import LoadedRun, load_run

# One fixed name: TensorBoard takes every file with "tfevents" in its name, the next call puts
# another in its place, and nothing else in the folder is ever touched.
FILE = "events.out.tfevents.reproduce"
# iterations that a run's charts show at most, unless asked for more: as many as a screen has
# columns, and an event file of a run of the paper is kilobytes, not megabytes
MOST = 2000
# runs between two lines of a log
_LINE = 20
# of the format; every event file begins with it
_VERSION = "brain.Event:2"


class _History(NamedTuple):
    """What is shown of one run: rows an iteration, rows an epoch, and when it was written."""

    trace: pd.DataFrame
    epochs: pd.DataFrame
    written: float


@dataclass(frozen=True)
class Written:
    """What came of writing event files.

    Attributes
    ----------
    finished, unfinished : int
        Runs written, and such that were as far as their saved state goes.
    absent : int
        Runs that have no trace yet, or only one of other settings.
    problems : tuple of str
        Files of runs that are damaged, with the reason; of the run the rest is written.
    """

    finished: int
    unfinished: int
    absent: int
    problems: tuple[str, ...]


def write_events(
    config: Config, names: Sequence[str], out: Path, every: int | None = None
) -> Written:
    """Write the runs of experiments as event files, ``<out>/<cell id>/`` each.

    A file from an earlier call is replaced, and taken away where its run is no longer
    one of the configuration's settings.

    Parameters
    ----------
    config : Config
        The configuration.
    names : sequence of str
        The experiments.
    out : Path
        The folder.
    every : int, optional
        Show every so many iterations, from the first; so many that a run has at most `MOST`
        unless given.

    Raises
    ------
    HarnessError
        If the package tensorboardx is not installed, or the folder cannot be written.
    """
    _package()
    cells = dict.fromkeys(cell for name in names for cell in find_experiment(config, name).cells)
    finished = unfinished = absent = 0
    problems: list[str] = []
    with ProgressBar("tensorboard", len(cells), "runs") as bar:
        for number, cell in enumerate(cells, start=1):
            run, path = load_run(config, cell), out / cell.id / FILE
            history = _read(run, every, problems)
            if history is None:
                absent += run.found.damage is None and run.problem is not None
                _remove(path)
            else:
                finished += run.finished is not None
                unfinished += run.finished is None
                _write(path, history)
            bar.advance(note=cell.id)
            if number % _LINE == 0:
                bar.line(f"tensorboard: {number} of {len(cells)} runs")
    return Written(finished, unfinished, absent, tuple(problems))


def _package() -> tuple[Any, Any, Any]:
    """Return what writes records, and the messages that go into them.

    Raises
    ------
    HarnessError
        If the package is not installed.
    """
    try:
        from tensorboardX import RecordWriter
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary
    except ImportError as error:
        raise HarnessError(
            f"event files need the package tensorboardx ({error}); install it with "
            "`pip install tensorboardx`"
        ) from error
    return RecordWriter, Event, Summary


def _read(run: LoadedRun, every: int | None, problems: list[str]) -> _History | None:
    """Return what is shown of a run, None for nothing; what is damaged is named."""
    if run.found.damage is not None:
        problems.append(f"{run.cell}: {run.found.damage}")
    if run.problem is not None:
        return None

    def attempt(read: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        try:
            return read()
        except HarnessError as error:
            problems.append(f"{run.cell}: {error}")
            return pd.DataFrame()

    trace, epochs = attempt(run.trace), attempt(run.epochs)
    step = max(1, math.ceil(len(trace) / MOST)) if every is None else every
    if not len(trace) and not len(epochs) and run.finished is not None:
        return None
    return _History(trace.iloc[::step], epochs, run.written)


def _write(path: Path, history: _History) -> None:
    """Write one run: a chart for each column, over iterations or over epochs."""
    writer, event, summary = _package()

    def write(part: Path) -> None:
        # when an iteration was made is not known: all have the time of the file they are from
        time = history.written
        with closing(writer(str(part))) as records:
            records.write(event(wall_time=time, file_version=_VERSION).SerializeToString())
            for step, values in _points(history):
                named = [summary.Value(tag=tag, simple_value=v) for tag, v in values.items()]
                point = event(wall_time=time, step=step, summary=summary(value=named))
                records.write(point.SerializeToString())

    write_atomically(path, write)


def _points(history: _History) -> Iterator[tuple[int, Mapping[str, float]]]:
    """Yield step and values of every point, by the names of their charts.

    test_robust_accuracy is the chart robust_accuracy in the group test, and so on.
    """
    columns = {name: f"trace/{name}" for name in TRACE_COLUMNS if name != "epoch"}
    yield from _steps(history.trace, "iteration", columns)
    parts = {name: str(name).partition("_") for name in history.epochs.columns}
    measured = {str(n): f"{split}/{metric}" for n, (split, _, metric) in parts.items() if metric}
    yield from _steps(history.epochs, "epoch", measured)


def _steps(
    frame: pd.DataFrame, index: str, names: Mapping[str, str]
) -> Iterator[tuple[int, Mapping[str, float]]]:
    if not len(frame):
        return
    tags = list(names.values())
    values: Iterable[Sequence[float]] = frame[list(names)].to_numpy("float64").tolist()
    for step, row in zip(frame[index].tolist(), values, strict=True):
        yield (
            int(step),
            {tag: value for tag, value in zip(tags, row, strict=True) if value == value},
        )


def _remove(path: Path) -> None:
    """Take away what an earlier call wrote, and its folder if nothing else is in it."""
    if path.is_file():
        path.unlink()
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
