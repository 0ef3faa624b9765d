"""What is written when results are published, and whether it stands."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from faulty_work import CELLS, SETS, contents
from published_runs import EVERY, published_files, published_root
from small_runs import quiet
from workflow_copy import Workflow, copy

from reproduce.cell import parse_cell
from reproduce.config.load import load_config
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import read_json, write_json
from reproduce.data.sources import prepare
from reproduce.experiments import paths
from reproduce.experiments.grids import find_table
from reproduce.experiments.spec import training_spec
from reproduce.results.frames import collect
from reproduce.share.imports import import_runs
from reproduce.share.publish import publish
from reproduce.share.verify import Sample, verify_folder
from reproduce.workflow.harness import Harness


def test_all_that_is_published_is_ok(tiny: Callable[..., Config], reference: Path) -> None:
    config, folder = tiny(*SETS), published_root(reference)
    found = {f.path: f for f in verify_folder(config, folder, Sample(1, 8), quiet)}
    assert {finding.verdict for finding in found.values()} == {"ok"}
    assert {f"cells/{cell}" for cell in CELLS} <= found.keys()
    assert {"tables/table1.csv", "diff/table1.csv"} <= found.keys()
    # the one record whose weights are there was attacked again
    assert f"cells/{CELLS[0]}/records/pgd20-seed0.npz (again)" in found
    assert [found[f"cells/{cell}"].reason[:6] for cell in CELLS[:2]] == ["1 of 3", "0 of 3"]


def test_the_settings_are_those_of_the_runs(
    tiny: Callable[..., Config], reference: Path, tmp_path: Path
) -> None:
    config = tiny(*SETS)
    again = load_config(published_root(reference) / "config.yaml")
    for cell in map(parse_cell, CELLS):
        assert training_spec(again, cell).digest == training_spec(config, cell).digest
    text = (published_root(reference) / "config.yaml").read_text()
    assert str(tmp_path) not in text


def test_the_readme_names_what_is_there_and_what_is_not(
    tiny: Callable[..., Config], attacked: Path, tmp_path: Path
) -> None:
    config = tiny(*SETS, f"results={attacked}", "experiments.table1.seeds=[0, 1, 2]")
    about = publish(config, tmp_path / "more", (), 1, quiet)
    lost = [f"{cell.rpartition('/')[0]}/seed-2" for cell in (CELLS[0], CELLS[2])]
    assert list(about.missing.values()) == [f"{cell} is not trained" for cell in lost]
    text = (tmp_path / "more" / "demo" / "README.md").read_text()
    run = read_json(paths.run_file(attacked / "demo" / "cells" / CELLS[0]))
    for words in (
        run["pieces"][0]["name"],
        f"torch {run['pieces'][0]['versions']['torch']}",
        run["pieces"][0]["began"][:10],
        run["data"]["sha256"][:12],
        f"| {CELLS[0]} ",
        "preset is demo",
        f"2 planned run(s) are not here:\n\n- {lost[0]}\n- {lost[1]}\n",
        "100 of 1442 training and 40 of 355 test images",
    ):
        assert words in text
    # whole traces are the very files
    name = Path("cells", CELLS[0], "trace.parquet")
    there = tmp_path / "more" / "demo" / name
    assert there.read_bytes() == (attacked / "demo" / name).read_bytes()
    assert list((tmp_path / "more").rglob("*.safetensors")) == []


def test_what_cannot_be_published(
    tiny: Callable[..., Config], attacked: Path, tmp_path: Path
) -> None:
    with pytest.raises(HarnessError, match=r"nothing to publish: .* is not trained"):
        publish(tiny(*SETS), tmp_path / "none", (), 1, quiet)
    config = tiny(*SETS, f"results={attacked}")
    unknown = parse_cell("digits/wrn-10-0.25/trades/lam-3/seed-0")
    with pytest.raises(HarnessError, match=f"no run {unknown} is planned"):
        publish(config, tmp_path / "none", {unknown}, 1, quiet)
    assert not (tmp_path / "none").exists()
    # least of all over the very runs
    before = contents(attacked)
    for folder in (attacked, tmp_path / "twice"):
        folder.mkdir(exist_ok=True)
        if folder != attacked:
            publish(config, folder, (), 1, quiet)
        with pytest.raises(HarnessError, match="is not empty"):
            publish(config, folder, (), EVERY, quiet)
    assert contents(attacked) == before


def _workflow(config: Config, reference: Path, folder: Path, **values: object) -> Workflow:
    """Import the published runs, and lay out the workflow on them."""
    for _ in import_runs(config, published_root(reference)):
        pass
    return Workflow(copy(folder), json.loads(config.model_dump_json()) | values)


@pytest.mark.slow
def test_the_workflow_makes_only_what_was_not_imported(
    tiny: Callable[..., Config], reference: Path, tmp_path: Path
) -> None:
    config = tiny(*SETS)
    workflow = _workflow(config, reference, tmp_path)
    assert workflow.planned("table1") == {"table": 1, "compare": 1, "table1": 1}
    workflow.run("table1")
    assert "4 of 4 training runs are those of the publication here" in (
        paths.table_file(config, "table1", "md").read_text()
    )
    assert workflow.planned("table1") == {}
    # one run that is not there is trained, the others are not
    grid = {**json.loads(config.model_dump_json())["experiments"]}
    grid["table1"] |= {"methods": {"trades": [2]}, "seeds": [0, 1, 2]}
    workflow.set(experiments=grid)
    planned = workflow.planned("table1")
    assert (planned["train"], planned["evaluate"]) == (1, 1)


@pytest.mark.slow
def test_an_attack_that_needs_weights_that_were_not_published(
    tiny: Callable[..., Config], reference: Path, tmp_path: Path
) -> None:
    config = tiny(
        *SETS,
        "experiments.table2={architectures: {digits: [wrn-10-0.25]}, method: trades, lambdas: [2], "
        "training_seed: 1, attacks: [cw20], attack_seeds: [0]}",
    )
    workflow = _workflow(config, reference, tmp_path)
    asked = workflow.run("-n", "table2", check=False)
    assert asked.returncode != 0
    said = asked.stdout + asked.stderr
    assert f"{CELLS[1]} was imported without the weights of best-test" in said
    assert f"`reproduce train {CELLS[1]}` trains it here" in said


@pytest.mark.slow
def test_the_workflow_does_not_train_what_was_imported_after_it_trained(
    tiny: Callable[..., Config], reference: Path, tmp_path: Path
) -> None:
    """Snakemake remembers the settings of what it made there last; it must not go by them."""
    other = json.loads(tiny(*SETS, "train.epochs=1").model_dump_json())
    workflow = Workflow(copy(tmp_path), other)
    workflow.run("table1")
    config = tiny(*SETS)
    for run in import_runs(config, published_root(reference)):
        assert run.outcome == "imported"
    workflow.set(**json.loads(config.model_dump_json()))
    planned = workflow.planned("table1")
    assert planned == {"table": 1, "compare": 1, "table1": 1}


@pytest.mark.slow
def test_imported_runs_of_other_images_are_trained(
    tiny: Callable[..., Config], reference: Path, tmp_path: Path
) -> None:
    """Nothing is prepared when they are imported; then it is, and the images are others."""
    for cell in CELLS:
        path = published_files(reference, cell) / "run.json"
        told = read_json(path)
        write_json(path, told | {"data": told["data"] | {"sha256": "0" * 64}})
    config = tiny(*SETS, f"data.folder={tmp_path / 'images'}")
    workflow = _workflow(config, reference, tmp_path)
    assert "train" not in workflow.planned("table1")
    prepare(config.data, "digits", paths.prepared_file(config, "digits"))
    table = find_table(config, "table1")
    found = collect(config, table)
    assert len(found.frame) == 0
    assert all("was trained with other images" in problem for problem in found.problems)
    assert workflow.planned("table1")["train"] == len(CELLS)


def test_planning_names_finished_runs_of_other_settings(
    tiny: Callable[..., Config],
    attacked: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setenv("PATH", os.environ["PATH"])
    for epochs, count in ((3, 0), (4, 1)):
        config = tiny(f"results={attacked}", f"train.epochs={epochs}")
        monkeypatch.setenv("REPRODUCE_CONFIG", "")
        Harness(config.model_dump(mode="json"))
        assert capsys.readouterr().err.count("--forcerun train evaluate") == count
