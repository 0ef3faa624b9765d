"""The live view: what it says, that it fits 80 columns, and how it ends."""

import io
import re
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import TINY_CELL
from histories import finish
from made_up import write_made_up
from rich.console import Console
from small_runs import STEPS, stopped

from reproduce.cell import Cell
from reproduce.cli.watch import draw, watch
from reproduce.config.schema import Config
from reproduce.core.files import exclusive
from reproduce.experiments import paths
from reproduce.experiments.grids import find_experiment
from reproduce.results.status import forecast, status_frame

# two cells, and no prepared images that made-up runs would have to be of
TWO = ["experiments.table1.methods={trades: [2]}", "data.folder=none"]


def _text(config: Config, names: list[str], frame: pd.DataFrame, now: float) -> str:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(draw(config, names, frame, now))
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    return text


def _finish(config: Config, count: int | None = None) -> None:
    """Make up runs and records of Table 1."""
    for item in find_experiment(config, "table1").evaluations[:count]:
        finish(config, item)
        write_made_up(config, item, np.arange(10), np.arange(10) < 5)


def test_what_is_shown(tiny: Callable[..., Config], cell: Cell) -> None:
    config, names = tiny(), ["table1"]
    text = _text(config, names, status_frame(config, names), time.time())
    assert "preset demo: table1" in text
    assert re.search(r"Cells +━* +0 of 4 done, 4 waiting", text)
    assert re.search(r"Evaluations +━* +0 of 4 done, 4 waiting", text)
    assert "measured over planned: nothing yet" in text
    saved = replace(cell, seed=1)
    failed, damaged = (Cell("digits", cell.architecture, "at", 1, seed) for seed in (0, 1))
    for one in (cell, saved):
        stopped(config, one, STEPS + 3)
    log = paths.log_file(config, "train", failed.id)
    log.parent.mkdir(parents=True)
    log.write_text(f"reproduce: {failed}: the loss is NaN\n")
    run = paths.run_file(paths.cell_folder(config, damaged))
    run.parent.mkdir(parents=True)
    run.write_text("no json")
    with exclusive(paths.training_lock(paths.cell_folder(config, cell)), "test"):
        frame = status_frame(config, names)
    row, rest = frame.set_index("name").loc[TINY_CELL], forecast(frame)
    text = _text(config, names, frame, row["saved_at"] + 30)
    assert re.search(r"0 of 4 done, 1 running, 1 saved, 1 failed, 1 damaged *\n", text)
    metrics = [row[f"test_{name}"] for name in ("robust_accuracy", "natural_accuracy")]
    line = next(line for line in text.split("Running")[1].splitlines() if TINY_CELL in line)
    shown = re.fullmatch(
        rf"{TINY_CELL} +2/3 +{metrics[0]:.1f}/{metrics[1]:.1f}/[\d.]+ +(\S+)\+(\S+) +30 s *", line
    )
    assert shown is not None, line
    loss = row[["natural_risk", "robust_regularization"]].tolist()
    assert [float(term) for term in shown.groups()] == pytest.approx(loss, abs=0.006)
    rate = re.search(r"Rate +([\d,.]+) epochs an hour", text)
    assert float(rate[1].replace(",", "")) == pytest.approx(rest.epochs_an_hour, rel=0.01)
    plain = " ".join(text.split())
    assert f"{rest.training:.3g} for training" in plain
    assert saved.id in text.split("Saved, not at work")[1].split("Damaged")[0]
    assert f"Failed {failed}: the loss is NaN" in plain
    assert text.index("Damaged") < text.index("Failed")


def test_the_paper_fits_80_columns_with_its_longest_names(paper: Callable[..., Config]) -> None:
    """Two hundred epochs, a name of forty-five letters and many faults."""
    names = ["table1", "table3", "table6"]
    frame = status_frame(paper(), names)
    runs = frame["kind"] == "run"
    states = ["running", "saved", "failed", "damaged"]
    frame.loc[runs, "state"] = [states[place % 4] for place in range(runs.sum())]
    values = {"epoch": 100, "epochs_done": 99.5, "seconds": 1e5, "saved_at": 1e9 - 5000}
    values |= {"test_robust_accuracy": 100.0, "natural_risk": 12.3456}
    frame.loc[runs, [*values, "robust_regularization"]] = [*values.values(), 0.123456]
    frame.loc[runs, "hours_done"] = frame["hours"] / 2
    frame["reason"] = "a long reason " * 9
    text = _text(paper(), names, frame, 1e9)
    counts = frame[runs]["state"].value_counts()
    # five of the faults and of what is saved, and all that is at work
    shown = re.findall(r" 100/[12]00 +100.0/–/– +12.35\+0.123 +83 min", text)
    assert len(shown) == counts["running"] + 5
    more = [int(number) for number in re.findall(r"and (\d+) more", text)]
    assert more == [counts[state] - 5 for state in ("saved", "damaged", "failed")]
    assert frame["name"].str.len().max() > 40
    assert re.search(rf"[\d,.]+ days of one job, .* with {counts['running']} jobs as now", text)


def test_a_pipe_gets_plain_views_one_below_the_other(tiny: Callable[..., Config]) -> None:
    config = tiny(*TWO)
    _finish(config, 1)
    console = Console(file=io.StringIO(), width=80)
    # all is done at the second look, which is the last
    watch(config, ["table1"], 5.0, console, lambda _: _finish(config))
    text = console.file.getvalue()
    assert re.findall(r"Cells .*(\d) of 2 done", text) == ["1", "2"]
    assert re.search(r"Left +0 s of one job", text)
    assert "\x1b" not in text


def test_a_terminal_is_drawn_over_and_left_with_ctrl_c(tiny: Callable[..., Config]) -> None:
    config = tiny(*TWO)
    console = Console(file=io.StringIO(), width=80, height=30, force_terminal=True)

    def sleep(_: float) -> None:
        if "1 of 2 done" in console.file.getvalue():
            raise KeyboardInterrupt
        _finish(config, 1)

    watch(config, ["table1"], 5.0, console, sleep)
    text = console.file.getvalue()
    # the cursor is hidden, the lines of the first view are cleared, the cursor is shown again
    parts = ["\x1b[?25l", "0 of 2 done", "\x1b[1A\x1b[2K", "1 of 2 done", "\x1b[?25h"]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
