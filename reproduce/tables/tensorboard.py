"""Traces and epochs of runs as event files, for those who look at them in TensorBoard."""

import math
from collections import Counter
from collections.abc import Sequence
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
    """
    try:
        from tensorboardX import FileWriter
    except ImportError as error:
        raise HarnessError("event files need `pip install tensorboardx`") from error
    cells = dict.fromkeys(cell for name in names for cell in find_experiment(config, name).cells)
    counts: Counter[str] = Counter()
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
    return Written(counts["finished"], counts["unfinished"], counts["absent"], tuple(problems))


def _charts(run: Run, every: int | None, problems: list[str]) -> list[pd.DataFrame]:
    """Return frames of points by step, a column a chart; what is damaged is named."""
    if run.problem is not None:
        problems += [f"{run.spec.cell}: {run.reason}"] if run.damaged else []
        return []
    charts = []
    for read in (run.trace, run.epochs):
        try:
            frame = read()
        except HarnessError as error:
            problems.append(f"{run.spec.cell}: {error}")
            continue
        if frame.empty:
            continue
        if "iteration" in frame:
            step = max(1, math.ceil(len(frame) / MOST)) if every is None else every
            frame = frame.iloc[::step].set_index("iteration").drop(columns="epoch")
            charts.append(frame.add_prefix("trace/"))
        else:
            # test_robust_accuracy is the chart robust_accuracy in the group test
            frame = frame.set_index("epoch")
            charts.append(frame.rename(columns=lambda name: name.replace("_", "/", 1)))
    return charts


def _write(writer: Any, frame: pd.DataFrame, time: float) -> None:
    """Write the points of charts; all have the time of the file that they are from."""
    from tensorboardX.proto.summary_pb2 import Summary

    for step, row in zip(frame.index, frame.to_dict("records"), strict=True):
        values = [
            Summary.Value(tag=tag, simple_value=value)
            for tag, value in row.items()
            if not math.isnan(value)
        ]
        writer.add_summary(Summary(value=values), int(step), walltime=time)
