"""Whole runs: their files, stopping and continuing to the bit, and everything that can break."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from reproduce import paths
from reproduce.cells import Cell, parse_cell
from reproduce.config import Config
from reproduce.data import load_prepared, stratified_subset
from reproduce.errors import HarnessError, Stopped
from reproduce.files import exclusive, sha256_of_file
from reproduce.specs import training_spec
from reproduce.training import loop, train_cell
from reproduce.training.run import load_stores
from reproduce.training.state import state_file
from reproduce.training.step import StepResult, train_step
from reproduce.training.stopping import stop_requests

EPOCHS, STEPS = 3, 3  # 80 images of the tiny configuration, 32 a batch


def _quiet(_: str) -> None:
    pass


def _never() -> None:
    return None


def _files(config: Config, cell: Cell) -> dict[str, bytes]:
    """Return every result of a run but run.json, which holds times."""
    folder = paths.cell_folder(config, cell)
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.is_file() and path.name not in ("run.json", ".lock")
    }


def _stop_at(iteration: int) -> Callable[[], str | None]:
    """Ask to stop before the step after `iteration` steps of this process."""
    asked = []

    def stop() -> str | None:
        asked.append(None)
        return "stopped by the test" if len(asked) > iteration else None

    return stop


@pytest.mark.parametrize("method", ["trades", "at"])
def test_a_run_leaves_its_files(tiny: Callable[..., Config], method: str) -> None:
    config, cell = tiny(), parse_cell(f"digits/wrn-10-0.25/{method}/lam-1.5/seed-3")
    said: list[str] = []
    train_cell(config, cell, said.append, _never)
    folder = paths.cell_folder(config, cell)
    assert set(_files(config, cell)) == {
        "model.safetensors",
        "model-last.safetensors",
        "model-best-val.safetensors",
        "trace.parquet",
        "epochs.csv",
    }
    trace = pd.read_parquet(folder / "trace.parquet")
    assert trace["iteration"].tolist() == list(range(1, EPOCHS * STEPS + 1))
    assert trace["epoch"].tolist() == sorted([1, 2, 3] * STEPS)
    assert (trace["lambda"] == 1.5).all()
    assert (trace[["natural_risk", "lipschitz", "learning_rate"]] > 0).all(axis=None)
    assert (trace["robust_regularization"] >= 0).all()
    epochs = pd.read_csv(folder / "epochs.csv")
    assert epochs["epoch"].tolist() == [1, 2, 3]
    run = json.loads((folder / "run.json").read_text())
    assert run["digest"] == training_spec(config, cell).digest
    assert run["spec"]["train"]["holdout"] == 20
    assert run["pieces"][0]["threads"] >= 1
    assert run["seconds"] > 0
    assert run["gpu_hours"] == 0
    for choice, checksum in run["models"].items():
        assert sha256_of_file(paths.model_file(folder, choice)) == checksum
    for choice, column in (("best-test", "test"), ("best-val", "val")):
        best = int(epochs[f"{column}_robust_accuracy"].idxmax()) + 1
        assert run["checkpoint_epochs"][choice] == best
    train_cell(config, cell, said.append, _never)
    assert "already trained" in said[-1]


@pytest.mark.parametrize("method", ["trades", "at"])
def test_stopped_anywhere_and_continued_it_ends_with_the_same_bits(
    tiny: Callable[..., Config], tmp_path: Path, method: str
) -> None:
    config, cell = tiny(), parse_cell(f"digits/wrn-10-0.25/{method}/lam-2/seed-0")
    train_cell(config, cell, _quiet, _never)
    expected = _files(config, cell)
    for iteration in range(EPOCHS * STEPS):
        other = tiny(f"results={tmp_path / str(iteration)}")
        with pytest.raises(Stopped, match="everything is saved") as caught:
            train_cell(other, cell, _quiet, _stop_at(iteration))
        assert caught.value.exit_status == 75
        said: list[str] = []
        train_cell(other, cell, said.append, _never)
        assert "continuing in epoch" in said[0]
        assert _files(other, cell) == expected
        run = json.loads((paths.cell_folder(other, cell) / "run.json").read_text())
        assert len(run["pieces"]) == 2


def test_stopped_after_every_step(tiny: Callable[..., Config], cell: Cell, tmp_path: Path) -> None:
    config = tiny()
    train_cell(config, cell, _quiet, _never)
    other = tiny(f"results={tmp_path / 'steps'}")
    stops = 0
    while True:
        try:
            train_cell(other, cell, _quiet, _stop_at(1))
            break
        except Stopped:
            stops += 1
    # after every step but the last of all, and in the validation that follows an epoch's last
    assert stops == EPOCHS * STEPS
    assert _files(other, cell) == _files(config, cell)


def test_max_minutes_stops(tiny: Callable[..., Config], cell: Cell) -> None:
    with pytest.raises(Stopped, match="stopped after 1e-06 minutes in epoch 1 of 3"):
        train_cell(tiny("machine.max_minutes=0.000001"), cell, _quiet)
    config = tiny("machine.max_minutes=60", "machine.save_minutes=0.00001")
    train_cell(config, cell, _quiet)
    assert paths.run_file(paths.cell_folder(config, cell)).exists()


def test_a_signal_stops_and_a_second_kills() -> None:
    with stop_requests(None) as reason:
        assert reason() is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert reason() == "stopped by SIGTERM"
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    with stop_requests(None) as reason, pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        assert reason() == "stopped by SIGINT"
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_killed_and_continued(tiny: Callable[..., Config], cell: Cell, tmp_path: Path) -> None:
    """SIGKILL between two saves loses only what came after the last one."""
    config = tiny()
    train_cell(config, cell, _quiet, _never)
    other = tiny(f"results={tmp_path / 'killed'}")
    pid = os.fork()
    if pid == 0:
        asked = []

        def kill() -> None:
            asked.append(None)
            if len(asked) == STEPS + 4:
                os.kill(os.getpid(), signal.SIGKILL)

        train_cell(other, cell, _quiet, kill)
        os._exit(1)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    said: list[str] = []
    train_cell(other, cell, said.append, _never)
    assert "continuing in epoch 2 after step 0" in said[0]
    assert _files(other, cell) == _files(config, cell)


def test_other_settings_neither_continue_nor_destroy(
    tiny: Callable[..., Config], cell: Cell
) -> None:
    config, changed = tiny(), tiny("train.weight_decay=0.001")
    for each in (config, changed):
        with pytest.raises(Stopped):
            train_cell(each, cell, _quiet, _stop_at(6))
    folder = paths.cell_folder(config, cell)
    assert len(list(folder.glob("state-*.safetensors"))) == 2
    said: list[str] = []
    train_cell(config, cell, said.append, _never)
    assert "continuing in epoch 2" in said[0]


def _spoil(monkeypatch: pytest.MonkeyPatch, iteration: int, value: float) -> None:
    """Make the natural risk of one iteration NaN or infinite."""
    done: list[None] = []

    def spoilt(*args: object) -> StepResult:
        result = train_step(*args)
        done.append(None)
        if len(done) == iteration:
            return result._replace(natural=torch.tensor(value))
        return result

    monkeypatch.setattr(loop, "train_step", spoilt)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_run(
    tiny: Callable[..., Config], cell: Cell, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    config = tiny()
    _spoil(monkeypatch, 5, value)
    with pytest.raises(HarnessError) as caught:
        train_cell(config, cell, _quiet, _never)
    folder = paths.cell_folder(config, cell)
    state = state_file(folder, training_spec(config, cell).digest)
    message = str(caught.value)
    assert "NaN or infinite at iteration 5 (epoch 2)" in message
    assert f"the last good checkpoint is {state}" in message
    assert not paths.run_file(folder).exists()
    monkeypatch.undo()
    said: list[str] = []
    train_cell(config, cell, said.append, _never)
    assert "continuing in epoch 2 after step 0" in said[0]


def test_a_learning_rate_that_explodes(tiny: Callable[..., Config], cell: Cell) -> None:
    config = tiny("train.learning_rate=1e30")
    with pytest.raises(HarnessError, match=r"NaN or infinite.*before the first checkpoint"):
        train_cell(config, cell, _quiet, _never)
    assert list(paths.cell_folder(config, cell).glob("*.safetensors")) == []


def test_spoilt_weights_are_never_saved(
    tiny: Callable[..., Config], cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finite loss whose step ruins the weights, just before a stop."""

    def ruinous(model: torch.nn.Module, *args: object) -> StepResult:
        result = train_step(model, *args)
        with torch.no_grad():
            next(model.parameters()).fill_(float("inf"))
        return result

    monkeypatch.setattr(loop, "train_step", ruinous)
    config = tiny()
    with pytest.raises(HarnessError, match="NaN or infinite at iteration 1"):
        train_cell(config, cell, _quiet, _stop_at(1))
    assert list(paths.cell_folder(config, cell).glob("*.safetensors")) == []


def test_two_runs_of_a_cell_at_once(tiny: Callable[..., Config], cell: Cell) -> None:
    config = tiny()
    with (
        exclusive(paths.cell_folder(config, cell) / ".lock", "the test"),
        pytest.raises(HarnessError, match="is being worked on by another process"),
    ):
        # another thread has no part in this one's lock, as another process has none
        _in_thread(lambda: train_cell(config, cell, _quiet, _never))


def _in_thread(call: Callable[[], None]) -> None:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except HarnessError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def test_no_data(tiny: Callable[..., Config], cell: Cell, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="run `reproduce prepare digits` first"):
        train_cell(tiny(f"data.folder={tmp_path / 'none'}"), cell, _quiet, _never)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_where_there_is_none(tiny: Callable[..., Config], cell: Cell) -> None:
    with pytest.raises(HarnessError, match="finds no GPU here"):
        train_cell(tiny("machine.device=cuda"), cell, _quiet, _never)


def test_a_damaged_state_is_named(tiny: Callable[..., Config], cell: Cell) -> None:
    config = tiny()
    with pytest.raises(Stopped):
        train_cell(config, cell, _quiet, _stop_at(6))
    state = state_file(paths.cell_folder(config, cell), training_spec(config, cell).digest)
    whole = state.read_bytes()
    flipped = bytearray(whole)
    flipped[-1000] ^= 1
    header = {"__metadata__": {"progress": "[]"}}
    foreign = json.dumps(header).encode()
    damaged = [
        whole[: len(whole) // 2],
        whole[:20],
        b"not a state",
        bytes(flipped),
        len(foreign).to_bytes(8, "little") + foreign,
    ]
    for part in damaged:
        state.write_bytes(part)
        with pytest.raises(HarnessError, match="is damaged; delete it"):
            train_cell(config, cell, _quiet, _never)
        assert state.read_bytes() == part


def test_a_state_of_other_images_is_refused(
    tiny: Callable[..., Config], cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny()
    with pytest.raises(Stopped):
        train_cell(config, cell, _quiet, _stop_at(6))
    with monkeypatch.context() as patch:
        original = load_prepared

        def other(path: Path) -> object:
            dataset = original(path)
            object.__setattr__(dataset, "sha256", "f" * 64)
            return dataset

        patch.setattr("reproduce.training.run.load_prepared", other)
        with pytest.raises(HarnessError, match="was made with other images"):
            train_cell(config, cell, _quiet, _never)


def test_a_full_disk(tiny: Callable[..., Config], cell: Cell) -> None:
    """The system refuses to write more: one clear line, and the saved state is whole."""
    config = tiny()
    with pytest.raises(Stopped):
        train_cell(config, cell, _quiet, _stop_at(6))
    folder = paths.cell_folder(config, cell)
    state = state_file(folder, training_spec(config, cell).digest)
    before = state.read_bytes()
    command = [sys.executable, "-m", "reproduce", "train", cell.id, "--config"]
    process = subprocess.run(
        [*command, config.model_dump_json()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192)),
    )
    assert process.returncode == 1
    last = process.stderr.strip().splitlines()[-1]
    assert last.startswith("reproduce: the disk is full:")
    assert "Traceback" not in process.stderr
    assert state.read_bytes() == before
    assert list(folder.glob(".*.part*")) == []
    train_cell(config, cell, _quiet, _never)


@pytest.mark.parametrize("file", ["model.safetensors", "trace.parquet", "run.json"])
def test_a_failure_while_results_are_written(
    tiny: Callable[..., Config], cell: Cell, tmp_path: Path, monkeypatch, file: str
) -> None:
    """The disk fills after the last epoch: the same command finishes the run."""
    config = tiny()
    train_cell(config, cell, _quiet, _never)
    other = tiny(f"results={tmp_path / 'other'}")
    replace = Path.replace

    def full(self: Path, target: Path) -> Path:
        if Path(target).name == file:
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(HarnessError, match=f"the disk is full: .*{file}"):
            train_cell(other, cell, _quiet, _never)
    train_cell(other, cell, _quiet, _never)
    assert _files(other, cell) == _files(config, cell)


def test_stopped_while_validating(tiny: Callable[..., Config], cell: Cell, tmp_path: Path) -> None:
    """A stop between two batches of the attack that chooses checkpoints."""
    config = tiny("machine.eval_batch=10")
    train_cell(config, cell, _quiet, _never)
    other = tiny("machine.eval_batch=10", f"results={tmp_path / 'other'}")
    # asked before each of three steps, then after each batch of 40 test and 20 held-out images
    for asked in (STEPS + 2, 5):
        with pytest.raises(Stopped, match="everything is saved"):
            train_cell(other, cell, _quiet, _stop_at(asked))
    assert not (paths.cell_folder(other, cell) / "epochs.csv").exists()
    train_cell(other, cell, _quiet, _never)
    assert _files(other, cell) == _files(config, cell)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_real_process_stops_on_a_signal(
    tiny: Callable[..., Config], cell: Cell, number: signal.Signals
) -> None:
    config = tiny("train.epochs=100000")
    command = [sys.executable, "-m", "reproduce", "train", cell.id, "--config"]
    with subprocess.Popen(
        [*command, config.model_dump_json()], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert "epoch 1/100000" in process.stderr.readline()
        process.send_signal(number)
        said = process.stderr.read()
        assert process.wait(timeout=60) == 75
    assert f"stopped by {number.name}" in said.splitlines()[-1]
    assert "Traceback" not in said


def test_a_state_from_another_kind_of_device_is_said(
    tiny: Callable[..., Config], cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny()
    with monkeypatch.context() as patch:
        about = {"device": "cuda", "name": "a GPU"}
        patch.setattr("reproduce.training.run.describe", lambda _: about)
        with pytest.raises(Stopped):
            train_cell(config, cell, _quiet, _stop_at(6))
    said: list[str] = []
    train_cell(config, cell, said.append, _never)
    assert "begun on cuda; cpu draws other random numbers" in said[1]


def test_images_of_a_run(tiny: Callable[..., Config], cell: Cell) -> None:
    config = tiny()
    dataset = load_prepared(paths.prepared_file(config, "digits"))
    stores = load_stores(training_spec(config, cell), dataset, torch.device("cpu"))
    assert stores.val is not None
    assert (len(stores.train), len(stores.val), len(stores.test)) == (80, 20, 40)
    subset = stratified_subset(dataset.train, 100, "train")
    together = np.sort(np.concatenate([stores.train.indices, stores.val.indices]))
    assert np.array_equal(together, subset.indices)
    none = load_stores(training_spec(tiny("train.holdout=0"), cell), dataset, torch.device("cpu"))
    assert none.val is None


def test_evaluation_batches_have_no_say(
    tiny: Callable[..., Config], cell: Cell, tmp_path: Path
) -> None:
    """Which epoch is the best, and the metrics of every epoch, whatever the batch size."""
    first, second = (
        tiny(f"machine.eval_batch={size}", f"results={tmp_path / str(size)}") for size in (7, 40)
    )
    for config in (first, second):
        train_cell(config, cell, _quiet, _never)
    assert _files(first, cell)["epochs.csv"] == _files(second, cell)["epochs.csv"]


def test_checkpoints_differ_where_epochs_do(tiny: Callable[..., Config], cell: Cell) -> None:
    config = tiny()
    train_cell(config, cell, _quiet, _never)
    folder = paths.cell_folder(config, cell)
    run = json.loads((folder / "run.json").read_text())
    best = load_file(paths.model_file(folder, "best-test"))
    last = load_file(paths.model_file(folder, "last"))
    same = all(torch.equal(best[key], last[key]) for key in best)
    assert same == (run["checkpoint_epochs"]["best-test"] == EPOCHS)
