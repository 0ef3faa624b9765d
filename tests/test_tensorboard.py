"""TensorBoard's event files: what is read back is what the runs wrote, however often."""

import struct
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import TINY_CELL
from histories import EPOCHS as EPOCHS_MADE_UP
from histories import made_up_epochs, made_up_trace, write_history
from small_runs import EPOCHS, STEPS, stopped
from tensorboardX.proto.event_pb2 import Event

from reproduce.cell import Cell, parse_cell
from reproduce.config.schema import Config
from reproduce.core.files import read_json, write_json
from reproduce.experiments import paths
from reproduce.experiments.runs import read_rows

Charts = dict[str, dict[int, float]]
SECOND = "digits/wrn-10-0.25/trades/lam-2/seed-1"
SETS = ["experiments.table1.methods={trades: [2]}"]


def _charts(folder: Path) -> Charts:
    """Return the points of every chart in a folder by step; no step twice."""
    charts: Charts = defaultdict(dict)
    for path in folder.glob("*.reproduce"):
        content = path.read_bytes()
        while content:
            # length, its checksum, the event and its checksum
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            for value in event.summary.value:
                assert event.step not in charts[value.tag]
                charts[value.tag][event.step] = value.simple_value
    return charts


@pytest.fixture
def trained(tiny: Callable[..., Config], cell: Cell) -> Config:
    """A configuration of two cells: one is finished, the other stopped in its second epoch."""
    config = tiny(*SETS)
    write_history(config, cell, made_up_trace(cell)[: EPOCHS * 20], made_up_epochs(cell)[:EPOCHS])
    stopped(config, parse_cell(SECOND), STEPS + 3)
    return config


def test_what_was_written_is_read_back(
    trained: Config, cell: Cell, run_command: Callable[..., str]
) -> None:
    out = run_command(trained, "tensorboard", "table1")
    assert "1 finished and 1 unfinished runs; 0 have no trace yet" in out
    folder = paths.tensorboard_folder(trained)
    assert f"tensorboard --logdir {folder}" in out
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sorted(path.parent for path in files) == [folder / TINY_CELL, folder / SECOND]
    charts = _charts(folder / TINY_CELL)
    results = paths.cell_folder(trained, cell)
    trace = pd.read_parquet(paths.trace_file(results)).set_index("iteration")
    for name in ("natural_risk", "robust_regularization", "lambda", "learning_rate", "lipschitz"):
        points = charts.pop(f"trace/{name}")
        assert list(points) == list(trace.index)
        np.testing.assert_array_equal(np.float32(list(points.values())), trace[name])
    epochs = pd.read_csv(paths.epochs_file(results)).set_index("epoch")
    assert set(charts) == {name.replace("_", "/", 1) for name in epochs}
    for name in epochs:
        points = charts[name.replace("_", "/", 1)]
        assert list(points) == [1, 2, 3]
        np.testing.assert_allclose(list(points.values()), epochs[name], rtol=1e-6)
    # a damaged file does not cost the others
    file = paths.trace_file(results)
    file.write_bytes(file.read_bytes()[:100])
    said = run_command(trained, "tensorboard")
    (line,) = (line for line in said.splitlines() if line.startswith("Left out: "))
    assert str(file) in line
    assert {name.partition("/")[0] for name in _charts(folder / TINY_CELL)} == {"test"}
    # an unfinished run goes as far as its state
    charts = _charts(folder / SECOND)
    (state,) = paths.cell_folder(trained, parse_cell(SECOND)).glob("state-*")
    _, count, rows, _ = read_rows(state)
    assert list(charts["trace/natural_risk"]) == list(range(1, count + 1))
    np.testing.assert_allclose(list(charts["trace/lipschitz"].values()), rows[:, 5], rtol=1e-6)
    assert list(charts["test/robust_accuracy"]) == [1]


def test_twice_is_once_and_nothing_else_is_touched(
    trained: Config, cell: Cell, run_command: Callable[..., str], tmp_path: Path
) -> None:
    out = tmp_path / "events"
    for _ in range(2):
        run_command(trained, "tensorboard", "--out", str(out))
        theirs = out / TINY_CELL / "events.out.tfevents.1.theirs"
        theirs.write_text("another writer's")
        assert len(list(theirs.parent.iterdir())) == 2
    # a run of other settings is not shown under the name of the one that is asked for
    path = paths.run_file(paths.cell_folder(trained, cell))
    write_json(path, read_json(path) | {"digest": "of others"})
    said = run_command(trained, "tensorboard", "--out", str(out))
    assert "0 finished and 1 unfinished runs; 1 have no trace yet" in said
    assert [*theirs.parent.iterdir()] == [theirs]
    theirs.unlink()
    # a folder that is left empty goes; the run is damaged now
    path.write_text("{")
    said = run_command(trained, "tensorboard", "--out", str(out))
    (line,) = (line for line in said.splitlines() if line.startswith("Left out: "))
    assert str(path) in line
    assert not theirs.parent.exists()
    assert (out / SECOND).exists()


def test_long_traces_are_shown_in_part_unless_all_is_asked_for(
    tiny: Callable[..., Config],
    cell: Cell,
    run_command: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tiny()
    write_history(config, cell, made_up_trace(cell, 9), made_up_epochs(cell)[:EPOCHS])
    monkeypatch.setattr("reproduce.tables.tensorboard.MOST", 20)
    for words, every in (((), 3), (("--every", "1"), 1)):
        run_command(config, "tensorboard", *words)
        charts = _charts(paths.tensorboard_folder(config) / TINY_CELL)
        assert list(charts["trace/natural_risk"]) == list(range(1, 9 * EPOCHS_MADE_UP + 1, every))
        assert len(charts["test/robust_accuracy"]) == EPOCHS
    assert "--every" in run_command(config, "tensorboard", "--every", "0", status=2)


def test_without_the_package_and_before_anything_is_trained(
    tiny: Callable[..., Config], run_command: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = run_command(tiny(*SETS), "tensorboard")
    assert "0 finished and 0 unfinished runs; 2 have no trace yet" in out
    assert "unknown experiment 'table9'" in run_command(tiny(), "tensorboard", "table9", status=1)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    assert "pip install tensorboardx" in run_command(tiny(), "tensorboard", status=1)
