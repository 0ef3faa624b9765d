"""TensorBoard's event files: what is read back is what the runs wrote, however often."""

import struct
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import TINY_CELL
from histories import EPOCHS as EPOCHS_MADE_UP
from histories import made_up_epochs, made_up_trace, write_history
from small_runs import EPOCHS, STEPS, quiet, stop_at
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from reproduce.cell import Cell, parse_cell
from reproduce.config.schema import Config
from reproduce.core.errors import Stopped
from reproduce.core.files import read_json, write_json
from reproduce.experiments import paths
from reproduce.experiments.runs import read_rows, state_file
from reproduce.experiments.spec import training_spec
from reproduce.tables.tensorboard import FILE
from reproduce.training.train import train_cell

Charts = dict[str, dict[int, float]]
SECOND = "digits/wrn-10-0.25/trades/lam-2/seed-1"
SETS = ["experiments.table1.methods={trades: [2]}"]


def _records(path: Path) -> Iterator[bytes]:
    """Read the records of an event file: length, its checksum, content, its checksum."""
    content = path.read_bytes()
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        body = content[12 : 12 + length]
        sums = struct.unpack("<II", content[8:12] + content[12 + length : 16 + length])
        assert sums == (masked_crc32c(content[:8]), masked_crc32c(body))
        yield body
        content = content[16 + length :]


def _charts(path: Path) -> Charts:
    """Return the points of every chart by step; no step twice."""
    events = [Event.FromString(body) for body in _records(path)]
    assert events[0].file_version == "brain.Event:2"
    charts: Charts = defaultdict(dict)
    for event in events[1:]:
        for value in event.summary.value:
            assert event.step not in charts[value.tag]
            charts[value.tag][event.step] = value.simple_value
    return charts


@pytest.fixture
def trained(tiny: Callable[..., Config], cell: Cell) -> Config:
    """A configuration of two cells: one is trained, the other stopped in its second epoch."""
    config = tiny(*SETS)
    train_cell(config, cell, quiet)
    with pytest.raises(Stopped):
        # a step more than an epoch, and what its validation asks for
        train_cell(config, parse_cell(SECOND), quiet, stop_at(STEPS + 3))
    return config


def test_what_was_written_is_read_back(
    trained: Config, cell: Cell, run_command: Callable[..., str]
) -> None:
    out = run_command(trained, "tensorboard")
    assert "1 finished and 1 unfinished runs; 0 have no trace yet" in out
    folder = paths.tensorboard_folder(trained)
    assert f"tensorboard --logdir {folder}" in out
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sorted(files) == [folder / TINY_CELL / FILE, folder / SECOND / FILE]
    charts = _charts(folder / TINY_CELL / FILE)
    results = paths.cell_folder(trained, cell)
    trace = pd.read_parquet(paths.trace_file(results)).set_index("iteration")
    assert len(trace) == EPOCHS * STEPS
    for name in ("natural_risk", "robust_regularization", "lambda", "learning_rate", "lipschitz"):
        points = charts.pop(f"trace/{name}")
        assert list(points) == list(trace.index)
        np.testing.assert_array_equal(np.float32(list(points.values())), trace[name])
    epochs = pd.read_csv(paths.epochs_file(results)).set_index("epoch")
    assert set(charts) == {name.replace("_", "/", 1) for name in epochs}
    assert set(charts) >= {"test/robust_accuracy", "val/perturbation_stability"}
    for name in epochs:
        points = charts[name.replace("_", "/", 1)]
        assert list(points) == [1, 2, 3]
        np.testing.assert_allclose(list(points.values()), epochs[name], rtol=1e-6)


def test_an_unfinished_run_goes_as_far_as_its_state(
    trained: Config, run_command: Callable[..., str]
) -> None:
    run_command(trained, "tensorboard", "table1")
    charts = _charts(paths.tensorboard_folder(trained) / SECOND / FILE)
    unfinished = parse_cell(SECOND)
    digest = training_spec(trained, unfinished).digest
    saved = read_rows(state_file(paths.cell_folder(trained, unfinished), digest))
    assert saved is not None
    progress, count, rows, _ = saved
    assert progress["epoch"] == 2
    assert list(charts["trace/natural_risk"]) == list(range(1, count + 1))
    np.testing.assert_allclose(list(charts["trace/lipschitz"].values()), rows[:, 5], rtol=1e-6)
    assert list(charts["test/robust_accuracy"]) == [1]


def test_twice_is_once_and_nothing_else_is_touched(
    trained: Config, cell: Cell, run_command: Callable[..., str], tmp_path: Path
) -> None:
    out = tmp_path / "events"
    run_command(trained, "tensorboard", "--out", str(out))
    ours, theirs = out / TINY_CELL / FILE, out / TINY_CELL / "events.out.tfevents.1.theirs"
    before = ours.read_bytes()
    theirs.write_text("another writer's")
    run_command(trained, "tensorboard", "--out", str(out))
    assert ours.read_bytes() == before
    # a run of other settings is not shown under the name of the one that is asked for
    path = paths.run_file(paths.cell_folder(trained, cell))
    run = read_json(path)
    write_json(path, run | {"digest": "of others"})
    said = run_command(trained, "tensorboard", "--out", str(out))
    assert "0 finished and 1 unfinished runs; 1 have no trace yet" in said
    assert not ours.exists()
    assert theirs.read_text() == "another writer's"
    theirs.unlink()
    write_json(path, run)
    run_command(trained, "tensorboard", "--out", str(out))
    write_json(path, run | {"digest": "of others"})
    run_command(trained, "tensorboard", "--out", str(out))
    assert not ours.parent.exists()


def test_a_damaged_run_is_named_and_the_others_are_written(
    trained: Config, cell: Cell, run_command: Callable[..., str]
) -> None:
    folder = paths.cell_folder(trained, cell)
    written = paths.tensorboard_folder(trained) / TINY_CELL / FILE
    second = parse_cell(SECOND)
    state = state_file(paths.cell_folder(trained, second), training_spec(trained, second).digest)
    files = (paths.trace_file(folder), paths.epochs_file(folder), paths.run_file(folder), state)
    for path in files:
        content = path.read_bytes()
        path.write_bytes(b'"cut' + content[: len(content) // 2])
        out = run_command(trained, "tensorboard")
        (line,) = (line for line in out.splitlines() if line.startswith("Left out: "))
        assert str(path) in line
        assert "damaged" in line
        charts = set(_charts(written)) if written.exists() else set()
        # one file that is damaged does not cost the others
        whole = {
            "trace": path in (files[1], state),
            "test": path in (files[0], state),
            "val": path in (files[0], state),
        }
        assert {name.partition("/")[0] for name in charts} == {n for n in whole if whole[n]}
        path.write_bytes(content)


def test_long_traces_are_thinned_unless_all_is_asked_for(
    tiny: Callable[..., Config], cell: Cell, run_command: Callable[..., str]
) -> None:
    config = tiny()
    write_history(config, cell, made_up_trace(cell, 900), made_up_epochs(cell)[:EPOCHS])
    steps = EPOCHS_MADE_UP * 900
    path = paths.tensorboard_folder(config) / TINY_CELL / FILE
    run_command(config, "tensorboard")
    charts = _charts(path)
    assert list(charts["trace/natural_risk"]) == list(range(1, steps + 1, 3))
    assert len(charts["test/robust_accuracy"]) == EPOCHS
    thinned = charts["trace/natural_risk"]
    for every in (1, 100):
        run_command(config, "tensorboard", "--every", str(every))
        shown = _charts(path)["trace/natural_risk"]
        assert list(shown) == list(range(1, steps + 1, every))
        assert shown[1] == thinned[1]
        assert all(shown[step] == thinned[step] for step in shown.keys() & thinned.keys())
    assert "--every" in run_command(config, "tensorboard", "--every", "0", status=2)


def test_a_trace_of_other_bytes_is_left_out(
    trained: Config, cell: Cell, run_command: Callable[..., str]
) -> None:
    path = paths.trace_file(paths.cell_folder(trained, cell))
    pd.read_parquet(path).assign(lipschitz=1.0).astype({"lipschitz": "float32"}).to_parquet(path)
    out = run_command(trained, "tensorboard")
    assert f"Left out: {TINY_CELL}: {path} is damaged or not the one of run.json" in out
    assert not any(
        n.startswith("trace/")
        for n in _charts(paths.tensorboard_folder(trained) / TINY_CELL / FILE)
    )


def test_without_the_package(
    tiny: Callable[..., Config], run_command: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    error = run_command(tiny(), "tensorboard", status=1)
    assert "pip install tensorboardx" in error
    assert not paths.root(tiny()).exists()


def test_before_anything_is_trained(
    tiny: Callable[..., Config], run_command: Callable[..., str]
) -> None:
    out = run_command(tiny(*SETS), "tensorboard")
    assert "0 finished and 0 unfinished runs; 2 have no trace yet" in out
    assert "unknown experiment 'table9'" in run_command(tiny(), "tensorboard", "table9", status=1)
