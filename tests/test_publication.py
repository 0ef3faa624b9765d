"""What is written when results are published, and whether it stands."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT
from faulty_work import CELLS, SETS, contents
from published_runs import EVERY, published_files, published_root
from small_runs import quiet
from workflow_copy import Workflow, copy

from reproduce import paths
from reproduce.cells import parse_cell
from reproduce.config import Config
from reproduce.errors import HarnessError
from reproduce.files import read_json, write_json
from reproduce.publication import publish
from reproduce.settings import load_config
from reproduce.specs import training_spec
from reproduce.verification import Sample, Verification, verify_folder


def _verified(config: Config, reference: Path, sample: int = 0) -> Verification:
    again = Sample(records=sample, images=8, minutes=10, seed=0)
    return verify_folder(config, published_root(reference), again, quiet)


def test_all_that_is_published_stands(tiny: Callable[..., Config], reference: Path) -> None:
    found = _verified(tiny(*SETS), reference, sample=1)
    verdicts = {finding.path: finding.verdict for finding in found.findings}
    assert {verdicts[f"cells/{cell}"] for cell in CELLS} == {"stands"}
    assert verdicts["tables/table1.csv"] == verdicts["diff/table1.csv"] == "stands"
    assert set(verdicts.values()) == {"stands"}
    # the one record whose weights are there was attacked again
    assert f"cells/{CELLS[0]}/records/pgd20-seed0.npz (again)" in verdicts
    text = "\n".join(map(str, found.findings))
    assert "published, with 1 of 3 checkpoints" in text
    assert "published, with 0 of 3 checkpoints" in text


def test_a_trace_of_other_rows_does_not_stand(tiny: Callable[..., Config], reference: Path) -> None:
    path = published_files(reference, CELLS[1]) / "run.json"
    told = read_json(path)
    write_json(path, told | {"published": told["published"] | {"every": EVERY + 1}})
    (finding,) = (f for f in _verified(tiny(*SETS), reference).findings if f.verdict == "damaged")
    assert finding.path == f"cells/{CELLS[1]}/trace.parquet"
    assert "iterations that are kept" in finding.reason


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


def test_the_workflow_takes_them_and_makes_only_the_rest(
    tiny: Callable[..., Config], reference: Path, tmp_path: Path
) -> None:
    config = tiny(*SETS, f"reference={reference}", "experiments.table1.seeds=[0, 1]")
    workflow = Workflow(copy(tmp_path), json.loads(config.model_dump_json()))
    made = {"adopt": 1, "table": 1, "compare": 1, "table1": 1}
    assert workflow.planned("table1") == made
    workflow.run("table1")
    assert "4 of 4 training runs are those of the publication here" in (
        paths.table_file(config, "table1", "md").read_text()
    )
    assert workflow.planned("table1") == {}
    # a lost file comes again
    lost = paths.epochs_file(paths.cell_folder(config, parse_cell(CELLS[1])))
    lost.unlink()
    assert workflow.planned("table1")["adopt"] == 1
    workflow.run("table1")
    assert lost.is_file()
    # without its weights a run cannot be attacked again
    folder = paths.cell_folder(config, parse_cell(CELLS[1]))
    asked = workflow.run("-n", str(folder / "records" / "square-seed0.npz"), check=False)
    assert asked.returncode != 0
    assert "results here without the weights of best-test" in asked.stdout + asked.stderr
    # one run that is not there is trained, the others are not
    grid = {**json.loads(config.model_dump_json())["experiments"]}
    grid["table1"] |= {"methods": {"trades": [2]}, "seeds": [0, 1, 2]}
    workflow.set(experiments=grid)
    planned = workflow.planned("table1")
    assert (planned["train"], planned["evaluate"]) == (1, 1)
    # an attack that nobody published, on a run without its weights: that run is trained
    grid["table1"]["seeds"] = [0, 1]
    grid["table2"] = {
        "architectures": {"digits": ["wrn-10-0.25"]},
        "method": "trades",
        "lambdas": [2],
        "training_seed": 1,
        "attacks": ["cw20"],
        "attack_seeds": [0],
    }
    workflow.set(experiments=grid)
    planned = workflow.planned("table1", "table2")
    assert (planned["train"], planned["evaluate"]) == (1, 2)
    workflow.run("table1", "table2")
    assert workflow.planned("table1", "table2") == {}
    text = paths.table_file(config, "table1", "md").read_text()
    assert "1 of 2 training runs are those of the publication here" in text
    # without reference results all are
    workflow.set(reference=None)
    planned = workflow.planned("table1")
    assert "adopt" not in planned
    assert planned["train"] == 1
    workflow.run("table1")
    assert "those of the publication" not in paths.table_file(config, "table1", "md").read_text()


def test_runs_of_other_images_are_in_no_table(
    tiny: Callable[..., Config], reference: Path, tmp_path: Path
) -> None:
    """Nothing is prepared when that is planned; then it is, and the images are others."""
    for cell in CELLS:
        path = published_files(reference, cell) / "run.json"
        told = read_json(path)
        write_json(path, told | {"data": told["data"] | {"sha256": "0" * 64}})
    config = tiny(
        *SETS,
        f"reference={reference}",
        f"data.folder={tmp_path / 'images'}",
        "experiments.table1.methods={trades: [2]}",
        "experiments.table1.seeds=[0, 1, 2]",
    )
    workflow = Workflow(copy(tmp_path), json.loads(config.model_dump_json()))
    planned = workflow.planned("table1")
    assert (planned["adopt"], planned["prepare"], planned["train"]) == (1, 1, 1)
    assert workflow.run("table1", check=False).returncode != 0
    log = (paths.root(config) / "logs" / "adopt.log").read_text()
    assert "was trained with other images" in log
    assert not paths.table_file(config, "table1", "md").exists()
    planned = workflow.planned("table1")
    assert "adopt" not in planned
    assert planned["train"] >= 2


def test_what_is_committed_stands() -> None:
    """Every file of the reference results of this repository, without images."""
    folders = [path.parent for path in (ROOT / "results" / "reference").glob("*/*/config.yaml")]
    assert folders
    for folder in folders:
        config = load_config(folder / "config.yaml", folder.name)
        found = verify_folder(config, folder, Sample(0, 8, 10, 0), quiet)
        assert [f for f in found.findings if f.verdict in ("damaged", "differs")] == []
        assert found.counts["stands"] > 0
