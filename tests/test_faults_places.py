"""Results that two Snakemakes work on, or that lie elsewhere now."""

import shutil
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


def _workflow(folder: Path, tree: dict, preloaded: str, **values: object) -> Workflow:
    folder.mkdir(exist_ok=True)
    workflow = Workflow(copy(folder), {**tree, **values}, preloaded)
    images = Path(tree["data"]["folder"]) / "prepared" / "digits.npz"
    workflow.run("--touch", "--", str(images), check=False)
    return workflow


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tree: dict, preloaded: str) -> Workflow:
    workflow = _workflow(tmp_path_factory.mktemp("places"), tree, preloaded)
    workflow.run("--", "table1")
    return workflow


def _results(folder: Path) -> dict:
    return {name: v for name, v in contents(folder).items() if "/logs/" not in name}


def test_a_moved_folder_is_as_good(
    finished: Workflow, tmp_path: Path, tree: dict, preloaded: str
) -> None:
    """No result names the place where it was made, and another folder has nothing to compute."""
    before = _results(finished.folder / "results")
    place = str(finished.folder).encode()
    assert [name for name, value in before.items() if place in str(value).encode()] == []
    shutil.copytree(finished.folder / "results", tmp_path / "moved")
    elsewhere = _workflow(tmp_path / "elsewhere", tree, preloaded, results=str(tmp_path / "moved"))
    assert elsewhere.planned("--", "table1") == {}
    elsewhere.run("--forcerun", "table", "compare", "--", "table1")
    same(_results(tmp_path / "moved"), before)


def test_a_job_that_cannot_lock_its_cell_spoils_nothing(
    finished: Workflow, tmp_path: Path, tree: dict, preloaded: str
) -> None:
    """Another Snakemake trains that cell; ours cleans up after a failed job."""
    results = finished.folder / "results"
    before = _results(results)
    second = _workflow(tmp_path / "second", tree, preloaded, results=str(results))
    with exclusive(finished.folder / CELL / ".lock", "the test"):
        failed = second.run(
            "--show-failed-logs", "--forcerun", "train", "--", "table1", check=False
        )
        assert failed.returncode != 0
        output = failed.stdout + failed.stderr
        assert f"reproduce: cell {TINY_CELL} is being worked on by another process" in output
        same(_results(results), before)
    second.run("--rerun-incomplete", "--", "table1")
    same(_results(results), before)
    assert finished.planned("--", "table1") == {}
