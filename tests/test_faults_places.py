"""Results that two Snakemakes work on, that lie elsewhere now, or that come from the future."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import TINY, TINY_CELL
from faulty_work import contents, same
from workflow_copy import Workflow, copy

from reproduce.config.load import load_config
from reproduce.core.files import exclusive

GRID = "experiments.table1={architectures: [wrn-10-0.25], methods: {trades: [2]}, seeds: [0]}"
CELL = Path("results/demo/cells") / TINY_CELL
pytestmark = pytest.mark.slow


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


def _results(folder: Path) -> dict:
    return {name: v for name, v in contents(folder).items() if "/logs/" not in name}


def test_a_moved_folder_is_as_good(done: Workflow, tmp_path: Path, tree: dict) -> None:
    """No result names the place where it was made, and another folder has nothing to compute."""
    before = _results(done.folder / "results")
    place = str(done.folder).encode()
    assert [name for name, value in before.items() if place in str(value).encode()] == []
    shutil.copytree(done.folder / "results", tmp_path / "moved")
    elsewhere = _workflow(tmp_path / "elsewhere", tree, results=str(tmp_path / "moved"))
    assert elsewhere.planned("--", "table1") == {}
    elsewhere.run("--forcerun", "table", "compare", "--", "table1")
    same(_results(tmp_path / "moved"), before)


def test_a_job_that_cannot_lock_its_cell_spoils_nothing(
    done: Workflow, tmp_path: Path, tree: dict
) -> None:
    """Another Snakemake trains that cell; ours cleans up after a failed job."""
    before = _results(done.folder / "results")
    shared = str(done.folder / "results")
    second = _workflow(tmp_path / "second", tree, results=shared)
    with exclusive(done.folder / CELL / ".lock", "the test"):
        failed = second.run(
            "--show-failed-logs", "--forcerun", "train", "--", "table1", check=False
        )
        assert failed.returncode != 0
        output = failed.stdout + failed.stderr
        assert f"reproduce: cell {TINY_CELL} is being worked on by another process" in output
        same(_results(done.folder / "results"), before)
    second.run("--rerun-incomplete", "--", "table1")
    same(_results(done.folder / "results"), before)
    assert done.planned("--", "table1") == {}


def test_results_from_the_future(done: Workflow) -> None:
    """A clock was set back after a network was trained: nothing is computed again for that."""
    before = _results(done.folder / "results")
    model = done.folder / CELL / "model.safetensors"
    now = time.time()
    os.utime(model, (now + 86400, now + 86400))
    # as it is with a network of more than a megabyte, whose content Snakemake does not compare
    size = ("--max-checksum-file-size", "0")
    try:
        assert done.planned(*size, "--", "table1") == {}
        # a record that was lost comes again; Snakemake says what is wrong with the clock
        (done.folder / CELL / "records" / "pgd20-seed0.npz").unlink()
        failed = done.run(*size, "--", "table1", check=False)
        assert "has older modification time" in failed.stdout + failed.stderr
    finally:
        os.utime(model, (now, now))
    done.run("--", "table1")
    same(_results(done.folder / "results"), before)
    assert done.planned("--", "table1") == {}
