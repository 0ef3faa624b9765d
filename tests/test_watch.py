"""The live view: what it says, that it fits 80 columns, and how it ends."""

import io
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from dataclasses import replace
from fcntl import ioctl
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, TINY_CELL
from made_up import write_made_up, write_run
from rich.console import Console
from small_runs import STEPS, quiet, stop_at

from reproduce.cell import Cell
from reproduce.cli.show import check_every, draw, watch_live
from reproduce.config.load import CONFIG_VARIABLE, load_config
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError, Stopped
from reproduce.core.files import exclusive
from reproduce.experiments import paths
from reproduce.experiments.grids import find_experiment
from reproduce.experiments.spec import checkpoints
from reproduce.results.status import Campaign, Survey, find_campaign, survey
from reproduce.training.train import train_cell

# of two cells, and no prepared images that made-up runs would have to be of
ONE = ["experiments.table1.methods={trades: [2]}", "data.folder=none"]


def _text(campaign: Campaign, seen: Survey, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(draw(campaign, seen))
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= width
    return text


def _log(config: Config, cell: Cell, text: str) -> None:
    path = paths.log_file(config, "train", cell.id)
    path.parent.mkdir(parents=True)
    path.write_text(text)


def _finish(config: Config, count: int | None = None) -> None:
    """Make up runs and records of Table 1."""
    for item in find_experiment(config, "table1").evaluations[:count]:
        write_run(config, item)
        folder = paths.cell_folder(config, item.cell)
        for path in paths.run_files(folder, checkpoints(config.train)):
            path.touch()
        write_made_up(config, item, np.arange(10), np.arange(10) < 5)


def test_what_is_shown(tiny: Callable[..., Config], cell: Cell) -> None:
    config = tiny()
    campaign = find_campaign(config, ["table1"])
    text = _text(campaign, survey(campaign, time.time()))
    assert "preset demo: table1" in text
    assert re.search(r"Cells +━* +0 of 4 done, 4 waiting", text)
    assert re.search(r"Evaluations +━* +0 of 4 done, 4 waiting", text)
    assert "no training run is at work" in text
    assert "nothing is measured yet" in text
    others = [
        replace(cell, seed=1),
        *(Cell("digits", cell.architecture, "at", 1, s) for s in (0, 1)),
    ]
    for one in (cell, others[0]):
        with pytest.raises(Stopped):
            train_cell(config, one, quiet, stop_at(STEPS + 3))
    _log(config, others[1], f"reproduce: {others[1]}: the loss is NaN\n")
    run = paths.run_file(paths.cell_folder(config, others[2]))
    run.parent.mkdir(parents=True)
    run.write_text("no json")
    with exclusive(paths.training_lock(paths.cell_folder(config, cell)), "test"):
        seen = survey(campaign, time.time() + 30)
    text = _text(campaign, seen)
    assert re.search(r"0 of 4 done, 1 running, 1 saved, 1 failed, 1 damaged *\n", text)
    (at_work,) = (run for run in seen.runs if run.state == "running")
    metrics = [at_work.metrics[f"test_{name}"] for name in ("robust_accuracy", "natural_accuracy")]
    row = next(line for line in text.split("Running")[1].splitlines() if TINY_CELL in line)
    shown = re.fullmatch(
        rf"{TINY_CELL} +2/3 +{metrics[0]:.1f}/{metrics[1]:.1f}/[\d.]+ +(\S+)\+(\S+) +3\d s *", row
    )
    assert shown is not None, row
    assert [float(term) for term in shown.groups()] == pytest.approx(at_work.loss, abs=0.006)
    rate = re.search(r"Rate +([\d,.]+) epochs an hour, 1 run", text)
    assert float(rate[1].replace(",", "")) == pytest.approx(seen.epochs_an_hour, rel=0.01)
    assert f"{seen.pace.training:.3g} for training" in " ".join(text.split())
    assert "with 1 job at a time as now" in text
    saved = text.split("Saved, no lock seen")[1].split("Damaged")[0]
    assert others[0].id in saved
    plain = " ".join(text.split())
    assert f"Failed {others[1].id}: the loss is NaN" in plain
    assert f"{run.name} is damaged, it is not JSON" in plain.replace("- ", "")
    assert text.index("Damaged") < text.index("Failed")


def test_the_paper_fits_80_columns_with_its_longest_names(tmp_path: Path) -> None:
    """Two hundred epochs, a name of forty-five letters and many faults."""
    config = load_config("{}", "paper", [f"results={tmp_path}"])
    campaign = find_campaign(config, ["table1", "table2", "table3", "table4", "table6"])
    seen = survey(campaign, 1e9)
    states = ("running", "saved", "failed", "damaged")
    runs = [
        replace(
            run,
            state=states[place % 4],
            epoch=100,
            epochs_done=99.5,
            seconds=1e5,
            saved_at=1e9 - 5000,
            metrics=dict.fromkeys(run.metrics, 100.0) | {"test_robust_accuracy": 100.0},
            loss=(12.3456, 0.123456),
            error="a long reason " * 9,
        )
        for place, run in enumerate(seen.runs)
    ]
    text = _text(
        campaign, replace(seen, runs=tuple(runs), hours_left=4000.0, epochs_an_hour=1234.4)
    )
    # of faults and of what is saved five, and of what is at work all
    counts = [sum(run.state == state for run in runs) for state in states]
    assert len(re.findall(r" 100/[12]00 +100.0/–/– +12.35\+0.123 +83 min", text)) == counts[0] + 5
    assert [int(more) for more in re.findall(r"and (\d+) more", text)] == [
        count - 5 for count in (counts[1], counts[3], counts[2])
    ]
    longest = max((run.work.cell.id for run in runs), key=len)
    assert len(longest) > 40
    plain = " ".join(text.split())
    assert "1,234 epochs an hour, 33 runs" in plain
    assert "166.7 days of one job, 5.1 days with 33 jobs at a time as now" in plain


def test_a_finished_campaign_ends_the_view(tiny: Callable[..., Config]) -> None:
    config = tiny(*ONE)
    _finish(config)
    console = Console(file=io.StringIO(), width=80)
    watch_live(config, ["table1"], 5.0, console, sleep=pytest.fail)
    text = console.file.getvalue()
    assert re.search(r"Cells +━+ +2 of 2 done *\n", text)
    assert "Left        nothing" in text


def test_a_pipe_gets_plain_views_one_below_the_other(tiny: Callable[..., Config]) -> None:
    config = tiny(*ONE)
    _finish(config, 1)
    naps = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        assert len(naps) <= 2
        if len(naps) == 2:
            _finish(config)

    console = Console(file=io.StringIO(), width=80)
    watch_live(config, ["table1"], 5.0, console, sleep)
    assert naps == [5.0, 5.0]
    text = console.file.getvalue()
    assert re.findall(r"Cells .*(\d) of 2 done", text) == ["1", "1", "2"]
    assert "\x1b" not in text


def _watching(config: Config, *words: str) -> dict:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        CONFIG_VARIABLE: config.model_dump_json(),
        "TERM": "xterm",
    }
    command = [sys.executable, "-m", "reproduce", "status", "--watch", "--every", "0.2", *words]
    return {"args": command, "env": environment}


def _read_until(handle: int, wanted: str, seconds: float = 60.0) -> str:
    text, deadline = "", time.monotonic() + seconds
    while wanted not in text:
        assert time.monotonic() < deadline, text
        text += os.read(handle, 4096).decode(errors="replace")
    return text


def test_a_terminal_is_drawn_over_and_left_with_ctrl_c(tiny: Callable[..., Config]) -> None:
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 80, 0, 0))
    process = subprocess.Popen(
        **_watching(tiny(*ONE)), stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    try:
        first = _read_until(ours, "waiting")
        assert "\x1b[?25l" in first  # the cursor is hidden
        # the lines of one view are cleared before the next
        _read_until(ours, "\x1b[1A\x1b[2K")
        _finish(tiny(*ONE), 1)
        _read_until(ours, "1 of 2 done")
        process.send_signal(signal.SIGINT)
        last = _read_until(ours, "\x1b[?25h")  # and shown again
        assert "Traceback" not in last
        assert "Aborted" not in last
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_ctrl_c_in_a_pipe(tiny: Callable[..., Config]) -> None:
    process = subprocess.Popen(
        **_watching(tiny(*ONE), "table1"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        lines = iter(process.stdout.readline, "")
        assert "preset demo: table1" in next(lines)
        assert any("0 of 2 done" in line for line in lines)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=600)
    assert (process.returncode, errors) == (0, "")


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "1e9"])
def test_how_often_is_checked(
    tiny: Callable[..., Config], run_command: Callable[..., str], seconds: str
) -> None:
    said = run_command(tiny(), "status", "--watch", f"--every={seconds}", status=1)
    assert f"--every is {float(seconds):g}; it takes seconds from 0.2 to 86400" in said
    with pytest.raises(HarnessError, match="--every"):
        check_every(float(seconds))
    assert check_every(0.2) == 0.2


def test_bad_input(tiny: Callable[..., Config], run_command: Callable[..., str]) -> None:
    said = run_command(tiny(), "status", "table9", "--watch", status=1)
    assert "unknown experiment 'table9'" in said
    assert "--every belongs to --watch" in run_command(tiny(), "status", "--every=9", status=1)
    paths.throughput_file(tiny()).parent.mkdir(parents=True)
    paths.throughput_file(tiny()).write_text("{}")
    assert "is not a measurement" in run_command(tiny(), "status", "--watch", status=1)
