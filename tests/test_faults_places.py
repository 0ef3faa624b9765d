"""Results that two Snakemakes work on, that lie elsewhere now, or that come from the future."""

import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, TINY, TINY_CELL
from faulty_work import contents, same
from workflow_copy import SNAKEMAKE, Workflow, copy

from reproduce.config.load import load_config
from reproduce.core.files import exclusive

GRID = "experiments.table1={architectures: [wrn-10-0.25], methods: {trades: [2]}, seeds: [0]}"
CELL = Path("results/demo/cells") / TINY_CELL


@pytest.fixture(scope="module")
def tree(digits_folder: Path) -> dict:
    """One cell, one evaluation, one table; the images are prepared."""
    config = load_config("{}", "demo", [f"data.folder={digits_folder}", *TINY, GRID])
    return config.model_dump(mode="json", exclude={"results"})


def _workflow(folder: Path, tree: dict, **values: object) -> Workflow:
    folder.mkdir(exist_ok=True)
    workflow = Workflow(copy(folder), {**tree, **values})
    images = Path(tree["data"]["folder"]) / "prepared" / "digits.npz"
    workflow.run("--touch", "--", str(images), check=False)
    return workflow


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tree: dict) -> Workflow:
    workflow = _workflow(tmp_path_factory.mktemp("places"), tree)
    workflow.run("--", "table1")
    return workflow


@pytest.fixture
def done(finished: Workflow) -> Iterator[Workflow]:
    """The finished workflow, put back as it was after the test."""
    saved = (finished.folder / "config.yaml").read_text()
    yield finished
    (finished.folder / "config.yaml").write_text(saved)


# Python imports it when it begins, in Snakemake and in its jobs.  Whoever holds the cell's lock is
# held up at the next file that it opens there, until the test lets go of the gate.
HELD = f"""
import fcntl, os, sys
from pathlib import Path

HOOKS = Path(__file__).parent
locked = False

def hold(event, values):
    global locked
    if event != "open" or not isinstance(values[0], str | os.PathLike):
        return
    path = os.fspath(values[0])
    if {TINY_CELL!r} not in path:
        return
    if path.endswith("/.lock"):
        locked = True
    elif locked:
        locked = False
        (HOOKS / "held").touch()
        with (HOOKS / "gate").open() as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)

sys.addaudithook(hold)
"""


def _started(workflow: Workflow, *words: str, hooks: Path) -> subprocess.Popen[str]:
    places = f"{hooks}{os.pathsep}{ROOT}"
    return subprocess.Popen(
        [SNAKEMAKE, "--cores", "1", *words],
        cwd=workflow.folder,
        env={**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_no_result_names_the_place_where_it_was_made(done: Workflow) -> None:
    """But the page, which shows the configuration, and logs."""
    root = done.folder / "results/demo"
    named = [
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_file() and str(done.folder).encode() in path.read_bytes()
    ]
    assert [name for name in named if not name.startswith("logs/")] == []


def test_a_moved_folder_is_as_good(done: Workflow, tmp_path: Path, tree: dict) -> None:
    """The results alone at another path, and everything on another machine."""
    expected = contents(done.folder / "results")
    shutil.copytree(done.folder / "results", tmp_path / "moved")
    elsewhere = _workflow(tmp_path / "elsewhere", tree, results=str(tmp_path / "moved"))
    assert elsewhere.planned("--", "table1") == {}
    shutil.copytree(done.folder, tmp_path / "machine")
    machine = Workflow(tmp_path / "machine", tree)
    assert machine.planned("--", "table1") == {}
    for workflow in (elsewhere, machine):
        workflow.run("--forcerun", "table", "compare", "--", "table1")
    same(_results(tmp_path / "moved"), _results(done.folder / "results"))
    same(_results(tmp_path / "machine/results"), _results(done.folder / "results"))
    assert _results(done.folder / "results").keys() <= expected.keys()


def _results(folder: Path) -> dict:
    return {name: v for name, v in contents(folder).items() if "/logs/" not in name}


def test_a_job_that_cannot_lock_its_cell_spoils_nothing(done: Workflow) -> None:
    """Snakemake cleans up after a job that failed: what another process made must stay."""
    cell = done.folder / CELL
    before = _results(done.folder / "results")
    with exclusive(cell / ".lock", "the test"):
        failed = done.run("--forcerun", "train", "--", "table1", check=False)
        assert failed.returncode != 0
        same(_results(done.folder / "results"), before)
    log = done.folder / "results/demo/logs/train" / f"{TINY_CELL}.log"
    (line,) = log.read_text().splitlines()
    assert line.startswith(f"reproduce: cell {TINY_CELL} is being worked on by another process")
    done.run("--rerun-incomplete", "--", "table1")
    same(_results(done.folder / "results"), before)
    assert done.planned("--", "table1") == {}


def test_two_snakemakes_on_the_same_results(done: Workflow, tmp_path: Path, tree: dict) -> None:
    """From one folder Snakemake's own lock refuses the second; from two folders ours does."""
    shared = str(tmp_path / "shared")
    first, second = (_workflow(tmp_path / name, tree, results=shared) for name in ("a", "b"))
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(HELD)
    # it is held in the middle of its training, so that the others find it at work
    with (hooks / "gate").open("w") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        process = _started(first, "--", "table1", hooks=hooks)
        deadline = time.monotonic() + 600
        while not (hooks / "held").exists():
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.01)
        refused = first.run("--", "table1", check=False)
        assert refused.returncode != 0
        assert "Directory cannot be locked" in refused.stdout + refused.stderr
        late = second.run("--show-failed-logs", "--", "table1", check=False)
        assert late.returncode != 0
        said = late.stdout + late.stderr
        assert f"reproduce: cell {TINY_CELL} is being worked on by another process" in said
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    same(_results(Path(shared)), _results(done.folder / "results"))
    # whose training failed before: nothing is left of it to be done
    second.run("--rerun-incomplete", "--", "table1")
    same(_results(Path(shared)), _results(done.folder / "results"))


def test_results_from_the_future(done: Workflow) -> None:
    """A clock was set back after a network was trained: nothing is computed again for that."""
    before = _results(done.folder / "results")
    model = done.folder / CELL / "model.safetensors"
    now = time.time()
    os.utime(model, (now + 86400, now + 86400))
    try:
        # as it is with a network of more than a megabyte, whose content it does not compare
        size = ("--max-checksum-file-size", "0")
        done.run(*size, "--", "table1")
        log = done.folder / "results/demo/logs/evaluate" / TINY_CELL / "pgd20-seed0.log"
        assert "already evaluated" in log.read_text()
        same(_results(done.folder / "results"), before)
        assert done.planned(*size, "--", "table1") == {}
    finally:
        for path in (model, *(done.folder / CELL / "records").iterdir()):
            os.utime(path, (now, now))
    done.run("--", "table1")
    assert done.planned("--", "table1") == {}
