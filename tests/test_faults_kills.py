"""SIGKILL and SIGTERM at random moments of every kind of work: it ends as if undisturbed.

REPRODUCE_FAULTS=50 sends fifty of each to each; unless set, ten are enough to see that it holds.
"""

import math
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT
from faults import FAULTS, Command, kill_at_random, start
from faulty_work import WORK, Work, contents, leftovers, same
from small_runs import never, quiet, stop_at

from reproduce.cell import Cell
from reproduce.config.schema import Config
from reproduce.core.errors import Stopped
from reproduce.core.files import read_json, remove_abandoned, write_atomically, write_text
from reproduce.experiments import paths
from reproduce.experiments.runs import previous_file
from reproduce.training.train import train_cell

SIGNALS = pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])


@SIGNALS
@pytest.mark.parametrize("name", WORK)
def test_work_is_killed(
    work: Callable[..., Work], tmp_path: Path, name: str, number: signal.Signals
) -> None:
    # also within epochs
    done = work(name, "machine.save_minutes=0.001")
    expected = done.undisturbed(tmp_path / "log")

    def job() -> Callable[[], Command]:
        done.lay_out()
        return lambda: start(done.config, *done.words, log=tmp_path / "log")

    def check() -> None:
        same(contents(paths.root(done.config)), expected)
        assert leftovers(done.config) == []
        for path in paths.root(done.config).rglob("run.json"):
            about = read_json(path)
            seconds = [piece["seconds"] for piece in about["pieces"]]
            assert about["seconds"] == pytest.approx(sum(seconds), abs=1e-3)
            assert min(seconds) >= 0

    count = math.ceil(FAULTS / WORK[name].kinds)
    kills = kill_at_random(job, check, number, count, seed=WORK[name].seed)
    print(f"{name}, {number.name}: {kills}")


@SIGNALS
@pytest.mark.parametrize("module", ["site", "reproduce", "numpy", "reproduce.cli.app"])
def test_a_command_that_has_not_imported_yet_is_killed(
    tiny: Callable[..., Config], cell: Cell, number: signal.Signals, module: str
) -> None:
    """As a person or a scheduler starts it, killed when it has imported `module`."""
    config = tiny()
    # a line for every import; a pipe of one page holds it up some fifty imports further on
    command = [sys.executable, "-X", "importtime", "-m", "reproduce", "train", cell.id, "--config"]
    process = subprocess.Popen(
        [*command, config.model_dump_json()],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        pipesize=4096,
        text=True,
        bufsize=1,
    )
    assert process.stderr is not None
    assert any(line.split("|")[-1].strip() == module for line in process.stderr)
    process.send_signal(number)
    assert process.wait(timeout=600) == -number
    process.stderr.close()
    assert not config.results.exists()


# safetensors writes beside the file it is given
KILLED = """
import os, sys
from pathlib import Path
from reproduce.files import write_atomically

def write(part):
    part.write_text("half")
    (part.parent / ".tmpA1b2C3").touch()
    os.kill(os.getpid(), 9)

write_atomically(Path(sys.argv[1]), write)
"""
SLOW = """
import sys
from pathlib import Path
from reproduce.files import write_atomically

def write(part):
    part.write_text("whole")
    print("ready", flush=True)
    sys.stdin.read()

write_atomically(Path(sys.argv[1]), write)
"""


def _killed_while_it_writes(path: Path) -> None:
    """Leave what a process leaves that is killed in the middle of a write."""
    process = subprocess.run([sys.executable, "-c", KILLED, path], cwd=ROOT, check=False)
    assert process.returncode == -signal.SIGKILL


def test_parts_of_files_go_with_the_next_write(tmp_path: Path) -> None:
    _killed_while_it_writes(tmp_path / "a.json")
    (left,) = tmp_path.iterdir()
    assert left.suffix == ".part"
    # of whichever file in that folder
    write_text(tmp_path / "b.json", "{}")
    assert [path.name for path in tmp_path.iterdir()] == ["b.json"]


def test_what_a_living_process_writes_is_not_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "slow.txt"
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, path],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    remove_abandoned(tmp_path)
    write_atomically(path, lambda part: part.write_text("quick"))
    assert path.read_text() == "quick"
    process.communicate(timeout=600)
    assert process.returncode == 0
    assert path.read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["slow.txt"]


def test_the_next_process_clears_what_a_killed_one_left(
    tiny: Callable[..., Config], cell: Cell
) -> None:
    """Also where nothing is left to be written, and the part is of another file."""
    config = tiny()
    with pytest.raises(Stopped):
        train_cell(config, cell, quiet, stop_at(4))
    (state,) = paths.cell_folder(config, cell).glob("state-*.safetensors")
    saved = state.read_bytes()
    train_cell(config, cell, quiet, never)
    # killed when all was written, before its states were removed; and another one while it saved
    state.write_bytes(saved)
    previous_file(state).write_bytes(saved)
    _killed_while_it_writes(state.with_name("state-0123.safetensors"))
    assert len(leftovers(config)) > 1
    said: list[str] = []
    train_cell(config, cell, said.append, never)
    assert "already trained" in said[-1]
    assert leftovers(config) == []
