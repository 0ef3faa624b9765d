"""Traces and epochs of runs as event files, for those who look at them in TensorBoard."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from reproduce import paths
from reproduce.cells import Cell
from reproduce.config import Config
from reproduce.errors import HarnessError
from reproduce.experiments import find_experiment
from reproduce.files import write_atomically
from reproduce.runs import problem_with, read_run
from reproduce.saved import TRACE_COLUMNS, read_rows, state_file
from reproduce.specs import training_spec
from reproduce.traces import as_frame, read_epochs, read_trace

# One fixed name: TensorBoard takes every file with "tfevents" in its name, the next call puts
# another in its place, and nothing else in the folder is ever touched.
FILE = "events.out.tfevents.reproduce"
# of the format; every event file begins with it
_VERSION = "brain.Event:2"


class _History(NamedTuple):
    """What is known of one run: rows an iteration, rows an epoch, and when it was written."""

    trace: pd.DataFrame
    epochs: pd.DataFrame
    written: float
    finished: bool


@dataclass(frozen=True)
class Written:
    """What came of writing event files.

    Attributes
    ----------
    finished, unfinished : int
        Runs written whole, and as far as their saved state goes.
    absent : int
        Runs that have no trace yet, or only one of other settings.
    problems : tuple of str
        Runs whose files are damaged, with the reason.
    """

    finished: int
    unfinished: int
    absent: int
    problems: tuple[str, ...]


def write_events(config: Config, names: Sequence[str], out: Path) -> Written:
    """Write the runs of experiments as event files, ``<out>/<cell id>/`` each.

    A file from an earlier call is replaced, and taken away where its run is no longer
    one of the configuration's settings.

    Raises
    ------
    HarnessError
        If the package tensorboardx is not installed, or the folder cannot be written.
    """
    _package()
    cells = dict.fromkeys(cell for name in names for cell in find_experiment(config, name).cells)
    counts = {True: 0, False: 0, None: 0}
    problems = []
    for cell in cells:
        path = out / cell.id / FILE
        try:
            history = _read(config, cell)
        except HarnessError as error:
            problems.append(f"{cell}: {error}")
            history = None
        else:
            counts[None if history is None else history.finished] += 1
        if history is None:
            _remove(path)
        else:
            _write(path, history)
    return Written(counts[True], counts[False], counts[None], tuple(problems))


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


def _read(config: Config, cell: Cell) -> _History | None:
    """Return what there is of a run with the configuration's settings; None for nothing.

    Raises
    ------
    HarnessError
        If it is damaged.
    """
    spec, folder = training_spec(config, cell), paths.cell_folder(config, cell)
    run = read_run(folder)
    if run is not None and problem_with(config, spec, run) is None:
        trace = paths.trace_file(folder)
        epochs = read_epochs(paths.epochs_file(folder), cell, spec.train.epochs)
        return _History(read_trace(trace, cell), epochs, trace.stat().st_mtime, finished=True)
    saved = state_file(folder, spec.digest)
    if not saved.is_file():
        return None
    progress, _, rows = read_rows(saved)
    epochs = pd.DataFrame(progress["epochs"])
    return _History(as_frame(rows), epochs, saved.stat().st_mtime, finished=False)


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
