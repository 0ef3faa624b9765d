"""Traces and epochs of runs as event files, for those who look at them in TensorBoard."""

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.progress import ProgressBar
from reproduce.experiments.grids import find_experiment
from reproduce.experiments.runs import Run, load_run

# ends the names of our event files: the next call replaces them, and touches no other file
SUFFIX = ".reproduce"
# iterations that a run's charts show at most, unless asked for more
MOST = 2000


@dataclass(frozen=True)
class Written:
    """How many runs were written, finished or not, how many have no trace; damaged files."""

    finished: int
    unfinished: int
    absent: int
    problems: tuple[str, ...]


def write_events(
    config: Config, names: Sequence[str], out: Path, every: int | None = None
) -> Written:
    """Write the runs of experiments as event files, ``<out>/<cell id>/`` each.

    A file of an earlier call is replaced, or removed if its run has other settings now.  Charts
    show every so many iterations, by default so many that a run has at most `MOST`.

    Raises
    ------
    HarnessError
        If the package tensorboardx is not installed.
    """
    try:
        from tensorboardX import FileWriter
    except ImportError as error:
        raise HarnessError(
            f"event files need the package tensorboardx ({error}); install it with "
            "`pip install tensorboardx`"
        ) from error
    cells = dict.fromkeys(cell for name in names for cell in find_experiment(config, name).cells)
    counts = {"finished": 0, "unfinished": 0, "absent": 0}
    problems: list[str] = []
    with ProgressBar("tensorboard", len(cells), "runs") as bar:
        for cell in cells:
            run, folder = load_run(config, cell), out / cell.id
            for old in folder.glob(f"*{SUFFIX}"):
                old.unlink()
            charts = _charts(run, every, problems)
            if charts:
                counts["unfinished" if run.finished is None else "finished"] += 1
                with closing(FileWriter(str(folder), filename_suffix=SUFFIX)) as writer:
                    for frame in charts:
                        _write(writer, frame, run.written)
            else:
                counts["absent"] += not run.damaged and run.problem is not None
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()
            bar.advance(note=cell.id)
    return Written(**counts, problems=tuple(problems))


def _charts(run: Run, every: int | None, problems: list[str]) -> list[pd.DataFrame]:
    """Return frames of points by step, a column a chart; what is damaged is named."""
    if run.damaged:
        problems.append(f"{run.spec.cell}: {run.reason}")
    if run.problem is not None:
        return []
    trace, epochs = _read(run, run.trace, problems), _read(run, run.epochs, problems)
    step = max(1, math.ceil(len(trace) / MOST)) if every is None else every
    charts = []
    if len(trace):
        rows = trace.iloc[::step].set_index("iteration").drop(columns="epoch")
        charts.append(rows.add_prefix("trace/"))
    if len(epochs):
        # test_robust_accuracy is the chart robust_accuracy in the group test
        charts.append(epochs.set_index("epoch").rename(columns=lambda n: n.replace("_", "/", 1)))
    return charts


def _read(run: Run, read: Callable[[], pd.DataFrame], problems: list[str]) -> pd.DataFrame:
    try:
        return read()
    except HarnessError as error:
        problems.append(f"{run.spec.cell}: {error}")
        return pd.DataFrame()


def _write(writer: Any, frame: pd.DataFrame, time: float) -> None:
    """Write the points of charts; all have the time of the file that they are from."""
    from tensorboardX.proto.summary_pb2 import Summary

    rows = frame.to_numpy("float64").tolist()
    for step, row in zip(frame.index.tolist(), rows, strict=True):
        values = [
            Summary.Value(tag=tag, simple_value=value)
            for tag, value in zip(frame.columns, row, strict=True)
            if not math.isnan(value)
        ]
        writer.add_summary(Summary(value=values), int(step), walltime=time)
