"""How far one run is: every state told from its files, its log and its lock alone."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_CELL
from small_runs import EPOCHS, STEPS, quiet, stopped

from reproduce.cell import Cell, parse_cell
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import exclusive, is_held, read_json
from reproduce.experiments import paths
from reproduce.experiments.runs import read_rows
from reproduce.results.status import (
    RunStatus,
    failure,
    find_campaign,
    read_status,
    run_work,
    survey,
)
from reproduce.training.train import train_cell

ERROR = f"reproduce: {TINY_CELL}: the loss is NaN\n"
STOP = f"reproduce: {TINY_CELL}: stopped by SIGINT in epoch 2 of 3; everything is saved, "


def _status(config: Config) -> RunStatus:
    return read_status(config, run_work(config, parse_cell(TINY_CELL)))


def _log(config: Config, text: str) -> Path:
    path = paths.log_file(config, "train", TINY_CELL)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_from_waiting_to_done(tiny: Callable[..., Config], cell: Cell) -> None:
    config = tiny()
    lock = paths.training_lock(paths.cell_folder(config, cell))
    assert (_status(config).state, _status(config).text) == ("waiting", "not begun")
    with exclusive(lock, "test"):
        begun = _status(config)
        assert (begun.state, begun.epoch, begun.loss) == ("running", 0, None)
    assert _status(config).state == "waiting"
    # after one step of the second epoch
    saved = stopped(config, cell, STEPS + 3)
    found = _status(config)
    assert (found.state, found.text) == ("saved", "saved in epoch 2 of 3")
    progress, iterations, rows, written = read_rows(saved)
    assert iterations == STEPS + progress["step"]
    assert found.epochs_done == pytest.approx(1 + progress["step"] / STEPS)
    assert found.metrics == progress["epochs"][0]
    assert found.loss == pytest.approx((rows[:, 1].mean(), rows[:, 2].mean()))
    assert found.seconds == pytest.approx(sum(piece["seconds"] for piece in progress["pieces"]))
    assert found.saved_at == written == saved.stat().st_mtime
    with exclusive(lock, "test"):
        assert _status(config) == replace(found, state="running")
    train_cell(config, cell, quiet)
    ended = _status(config)
    assert (ended.state, ended.text, ended.epochs_done) == ("done", "trained", EPOCHS)
    assert ended.seconds == read_json(paths.run_file(lock.parent))["seconds"]
    assert _status(tiny("train.momentum=0.5")).state == "waiting"
    assert _status(tiny("train.momentum=0.5")).text == "was trained with other settings"


def test_a_part_of_the_first_epoch_says_nothing_of_its_length(
    tiny: Callable[..., Config], cell: Cell
) -> None:
    stopped(tiny(), cell, 1)
    found = _status(tiny())
    assert (found.state, found.epoch, found.epochs_done) == ("saved", 1, None)


def test_only_the_last_rows_of_a_trace_are_read(tiny: Callable[..., Config], cell: Cell) -> None:
    saved = stopped(tiny(), cell, STEPS + 3)
    everything, last = read_rows(saved), read_rows(saved, 2)
    assert last.iterations == everything.iterations == len(everything.rows)
    np.testing.assert_array_equal(last.rows, everything.rows[-2:])
    before = read_rows(stopped(tiny(), parse_cell("digits/wrn-10-0.25/at/lam-1/seed-0"), 0))
    assert (before.iterations, before.rows.shape) == (0, (0, 6))


def test_a_failed_run_is_told_from_a_stopped_one(tiny: Callable[..., Config], cell: Cell) -> None:
    config = tiny()
    log = _log(config, f"epoch 1/3\n{ERROR}")
    found = _status(config)
    assert (found.state, found.error) == ("failed", f"{TINY_CELL}: the loss is NaN")
    # somebody is at it again
    with exclusive(paths.training_lock(paths.cell_folder(config, cell)), "test"):
        assert _status(config).state == "running"
    # and got further than the run that failed
    saved = stopped(config, cell, STEPS + 3)
    os.utime(log, (saved.stat().st_mtime - 1,) * 2)
    assert _status(config).state == "saved"
    os.utime(log, (saved.stat().st_mtime + 1,) * 2)
    assert _status(config).state == "failed"
    _log(config, f"epoch 1/3\n{STOP}run the same command again to continue\n")
    assert _status(config).state == "saved"
    train_cell(config, cell, quiet)
    _log(config, ERROR)
    assert _status(config).state == "done"


def test_what_stops_says_so_in_the_words_that_are_looked_for(
    tiny: Callable[..., Config], run_command: Callable[..., str]
) -> None:
    """The log of a stopped job, as the command writes it, is none of a failure."""
    said = run_command(tiny(), "train", TINY_CELL, "--max-minutes", "0.000001", status=75)
    log = _log(tiny(), said)
    assert said.strip().splitlines()[-1].startswith("reproduce: ")
    assert failure(log) is None
    assert _status(tiny()).state == "saved"
    said = run_command(tiny("train.momentum=0.5"), "evaluate", TINY_CELL, status=1)
    assert "is not trained" in failure(_log(tiny(), said))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", None),
        ("epoch 1/3 robust 40\n", None),
        (
            "Traceback (most recent call last):\n  File x\nRuntimeError: CUDA error\n",
            "RuntimeError",
        ),
        ("Traceback\nKeyboardInterrupt\n", "KeyboardInterrupt"),
        ("torch.OutOfMemoryError: CUDA out of memory.\n", "torch.OutOfMemoryError"),
        ("reproduce: the disk is full\n[rank0] ends\n", "the disk is full"),
        ("x" * 20_000 + "\nreproduce: late\n", "late"),
        ("/a/b.py:3: UserWarning: old\n  warn()\n", None),
        ("\xff\xfe", None),
    ],
)
def test_the_end_of_a_log(tmp_path: Path, text: str, found: str | None) -> None:
    log = tmp_path / "a.log"
    assert failure(log) is None
    log.write_bytes(text.encode("latin-1"))
    said = failure(log)
    assert said is found is None or found in said


def test_damaged_files_are_shown_as_such(tiny: Callable[..., Config], cell: Cell) -> None:
    saved = stopped(tiny(), cell, STEPS + 3)
    whole = saved.read_bytes()
    spoilt = (
        b"",
        whole[:1000],
        whole.replace(b'\\"epochs\\": [', b'\\"epochs\\": 7, \\"e\\": [', 1),
    )
    for content in spoilt:
        assert content != whole
        saved.write_bytes(content)
        found = _status(tiny())
        assert found.state == "damaged"
        assert str(saved) in found.error
        assert found.text == "damaged; `reproduce train` says what"
    saved.unlink()
    run = paths.run_file(paths.cell_folder(tiny(), cell))
    for content in ("[]", "{}", "no json"):
        run.write_text(content)
        assert _status(tiny()).state == "damaged"
        assert str(run) in _status(tiny()).error
    seen = survey(find_campaign(tiny(), ["table1"]), time.time())
    assert seen.count_runs() == {"damaged": 1, "waiting": 3}


HOLD = """
import sys, time
from pathlib import Path
from reproduce.files import exclusive
with exclusive(Path(sys.argv[1]), "a test"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_of_another_process_is_seen_until_it_ends(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    assert not is_held(lock)
    assert not lock.exists()
    command = [sys.executable, "-c", HOLD, str(lock)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "held\n"
            assert is_held(lock)
            refused = pytest.raises(HarnessError, match="a test is being worked on")
            with refused, exclusive(lock, "a test"):
                pass
        finally:
            process.kill()
    assert not is_held(lock)
    lock.chmod(0)
    assert not is_held(lock)  # who may not read it cannot tell; root can


def test_looking_never_keeps_a_run_from_its_lock(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    with exclusive(lock, "a run"):
        pass
    ended, wrong = threading.Event(), []

    def look() -> None:
        while not ended.is_set():
            wrong.append(is_held(lock))

    lookers = [threading.Thread(target=look) for _ in range(4)]
    for thread in lookers:
        thread.start()
    try:
        # those who look do not take each other for a run
        time.sleep(0.2)
        assert not any(wrong)
        for _ in range(50):
            with exclusive(lock, "a run"):
                assert is_held(lock)
    finally:
        ended.set()
        for thread in lookers:
            thread.join()
