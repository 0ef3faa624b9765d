"""Runs that are published and imported: what is written, what is refused, what comes of it."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from conftest import TINY_CELL
from faulty_work import CELLS, EVERY, SETS, contents, same
from small_runs import EPOCHS, STEPS, quiet, stopped
from workflow_copy import Workflow, copy

from reproduce.cell import parse_cell
from reproduce.config.load import load_config
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import read_json, write_json
from reproduce.data.sources import prepare
from reproduce.evaluation.evaluate import evaluate_cell
from reproduce.evaluation.records import read_record, write_record
from reproduce.experiments import paths
from reproduce.experiments.grids import find_table
from reproduce.experiments.runs import load_run, read_run
from reproduce.experiments.spec import training_spec
from reproduce.experiments.superseded import count_superseded
from reproduce.results.frames import collect
from reproduce.results.status import plan
from reproduce.share.imports import Imported, import_runs
from reproduce.share.publish import publish
from reproduce.share.verify import Sample, verify_folder
from reproduce.tables.write import write_table
from reproduce.training.train import train_cell
from reproduce.workflow.harness import Harness

FIRST, SECOND = map(parse_cell, CELLS[:2])
HERE = Path("here", "demo")


@pytest.fixture
def config(tiny: Callable[..., Config]) -> Config:
    """The configuration of the published runs, with no results yet."""
    return tiny(*SETS)


@pytest.fixture
def theirs(tiny: Callable[..., Config], attacked: Path) -> Config:
    """The configuration whose results were published."""
    return tiny(*SETS, f"results={attacked}")


def _imported(config: Config, reference: Path, *cells: str) -> dict[str, Imported]:
    chosen = map(parse_cell, cells)
    return {run.cell: run for run in import_runs(config, reference / HERE, chosen)}


def _outcomes(config: Config, reference: Path) -> dict[str, str]:
    return {cell: run.outcome for cell, run in _imported(config, reference).items()}


def _flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_all_that_is_published_is_ok(config: Config, reference: Path) -> None:
    folder = reference / HERE
    found = {f.path: f for f in verify_folder(config, folder, Sample(1, 8), quiet)}
    assert [str(finding) for finding in found.values() if finding.verdict != "ok"] == []
    assert {f"cells/{cell}" for cell in CELLS} <= found.keys()
    assert {"tables/table1.csv", "diff/table1.csv"} <= found.keys()
    # the one record whose weights are there was attacked again
    assert f"cells/{FIRST}/records/pgd20-seed0.npz (again)" in found
    assert [found[f"cells/{cell}"].reason[:6] for cell in CELLS[:2]] == ["1 of 3", "0 of 3"]
    # the settings are those of the runs, but for places of this machine
    again = load_config(folder / "config.yaml")
    for cell in map(parse_cell, CELLS):
        assert training_spec(again, cell).digest == training_spec(config, cell).digest
    assert str(config.data.folder) not in (folder / "config.yaml").read_text()


def test_the_readme_names_what_is_there_and_what_is_not(
    tiny: Callable[..., Config], attacked: Path, tmp_path: Path
) -> None:
    config = tiny(*SETS, f"results={attacked}", "experiments.table1.seeds=[0, 1, 2]")
    about = publish(config, tmp_path / "more", (), 1, quiet)
    lost = [f"{cell.rpartition('/')[0]}/seed-2" for cell in (CELLS[0], CELLS[2])]
    assert list(about.missing.values()) == [f"{cell} is not trained" for cell in lost]
    text = (tmp_path / "more" / "demo" / "README.md").read_text()
    run = read_json(paths.run_file(attacked / "demo" / "cells" / FIRST.id))
    for part in (
        run["pieces"][0]["name"],
        f"torch {run['pieces'][0]['versions']['torch']}",
        run["pieces"][0]["began"][:10],
        run["data"]["sha256"][:12],
        f"| {FIRST} ",
        "preset is demo",
        f"2 planned run(s) are not here:\n\n- {lost[0]} is not trained\n- {lost[1]}",
        "100 of 1442 training and 40 of 355 test images",
    ):
        assert part in text
    # whole traces are the very files
    name = Path("cells", FIRST.id, "trace.parquet")
    there = tmp_path / "more" / "demo" / name
    assert there.read_bytes() == (attacked / "demo" / name).read_bytes()
    assert list((tmp_path / "more").rglob("*.safetensors")) == []


def test_what_cannot_be_published(
    config: Config, theirs: Config, attacked: Path, published: Path, tmp_path: Path
) -> None:
    with pytest.raises(HarnessError, match=r"nothing to publish: .* is not trained"):
        publish(config, tmp_path / "none", (), 1, quiet)
    unknown = parse_cell("digits/wrn-10-0.25/trades/lam-3/seed-0")
    with pytest.raises(HarnessError, match=f"no run {unknown} is planned"):
        publish(theirs, tmp_path / "none", {unknown}, 1, quiet)
    assert not (tmp_path / "none").exists()
    # least of all over the very runs
    before = contents(attacked)
    for folder in (attacked, published / "here"):
        with pytest.raises(HarnessError, match="is not empty"):
            publish(theirs, folder, (), EVERY, quiet)
    assert contents(attacked) == before


def test_what_is_imported_gives_the_same_table_and_twice_changes_nothing(
    config: Config, theirs: Config, reference: Path
) -> None:
    assert _outcomes(config, reference) == dict.fromkeys(sorted(CELLS), "imported")
    table = find_table(config, "table1")
    ours, first = (write_table(c, table, collect(c, table)) for c in (config, theirs))
    note = f"- Note: {len(CELLS)} of {len(CELLS)} training runs are those of the publication here"
    assert note in ours
    assert [line for line in ours.splitlines() if not line.startswith(note)] == first.splitlines()
    (entry,) = plan(config, ["table1"])
    assert (entry.cells, entry.trained, entry.evaluations, entry.evaluated) == (4, 4, 4, 4)
    assert entry.hours_left == 0 < entry.hours
    before = contents(config.results)
    found = _imported(config, reference)
    assert {run.outcome for run in found.values()} == {"kept"}
    same(contents(config.results), before)
    # only a lost record comes again
    path = paths.cell_folder(config, SECOND) / "records" / "pgd20-seed0.npz"
    path.unlink()
    assert _imported(config, reference)[SECOND.id].reason == (
        "was imported before, now with 1 record(s)"
    )
    assert read_record(path)
    with pytest.raises(HarnessError, match="without the weights of best-test"):
        evaluate_cell(config, SECOND, "cw20", 0, "best-test", quiet)


def test_an_import_that_was_interrupted_is_finished(config: Config, reference: Path) -> None:
    _imported(config, reference, SECOND.id)
    folder = paths.cell_folder(config, SECOND)
    # what is written last
    (folder / "records" / "pgd20-seed0.json").unlink()
    paths.run_file(folder).unlink()
    told = _imported(config, reference, SECOND.id)[SECOND.id].reason
    assert told == "with 1 record(s), without weights"


def test_a_subsampled_trace(config: Config, attacked: Path, reference: Path) -> None:
    _imported(config, reference)
    kept = pd.read_parquet(paths.trace_file(paths.cell_folder(config, FIRST)))
    whole = pd.read_parquet(paths.trace_file(attacked / "demo" / "cells" / FIRST.id))
    # of two epochs every other iteration, of the last one all
    first = list(range(1, (EPOCHS - 1) * STEPS + 1, EVERY))
    last = list(range((EPOCHS - 1) * STEPS + 1, EPOCHS * STEPS + 1))
    assert kept["iteration"].tolist() == first + last
    assert kept.equals(whole[whole["iteration"].isin(first + last)].reset_index(drop=True))
    # what is drawn of it is even
    drawn = load_run(config, FIRST).trace()
    assert drawn["iteration"].tolist() == list(range(1, EPOCHS * STEPS + 1, EVERY))


@pytest.mark.parametrize("name", ["run.json", "epochs.csv", "trace.parquet", "model.safetensors"])
def test_what_is_damaged_is_refused(config: Config, reference: Path, name: str) -> None:
    path = reference / HERE / "cells" / FIRST.id / name
    if name == "run.json":  # no other file has a checksum of it
        path.write_bytes(path.read_bytes()[:-20])
    else:
        _flip(path, path.stat().st_size // 2)
    found = _imported(config, reference)
    assert [cell for cell, run in found.items() if run.outcome == "refused"] == CELLS[:1]
    assert name in found[FIRST.id].reason
    assert not paths.cell_folder(config, FIRST).exists()


def test_records_that_are_damaged_or_of_few_images(config: Config, reference: Path) -> None:
    """Where the weights are there they are made again; where not, the import says so."""
    for name, suffix in zip(CELLS[:2], ("json", "npz"), strict=True):
        _flip(reference / HERE / "cells" / name / "records" / f"pgd20-seed0.{suffix}", -30)
    few = reference / HERE / "cells" / CELLS[2] / "records" / "pgd20-seed0.npz"
    record = read_record(few)
    arrays = ("index", "label", "clean", "adversarial", "broken_by")
    write_record(few, replace(record, **{key: getattr(record, key)[:5] for key in arrays}))
    found = _imported(config, reference)
    assert found[FIRST.id].reason == "with 0 record(s), weights of best-test"
    for cell in CELLS[1:3]:
        assert found[cell].reason == (
            "with 0 record(s), without weights; neither record nor weights for pgd20-seed0"
        )
    (entry,) = plan(config, ["table1"])
    assert (entry.trained, entry.evaluated) == (4, 1)
    assert len(evaluate_cell(config, FIRST, "pgd20", 0, "best-test", quiet).index) == 40


def test_a_record_of_other_attack_settings_is_left(
    tiny: Callable[..., Config], attacked: Path, tmp_path: Path
) -> None:
    shutil.copytree(attacked, tmp_path / "more")
    cw20 = "eval.attacks.cw20={steps: 4}"
    theirs = tiny(*SETS, cw20, f"results={tmp_path / 'more'}")
    evaluate_cell(theirs, FIRST, "cw20", 0, "best-test", quiet)
    publish(theirs, tmp_path / "reference" / "here", (), 1, quiet)
    found = _imported(tiny(*SETS), tmp_path / "reference")
    assert found[FIRST.id].reason == "with 1 record(s), without weights"
    # it comes when the settings are those
    found = _imported(tiny(*SETS, cw20), tmp_path / "reference")
    assert "with 2 record(s)" in found[FIRST.id].reason


def test_runs_of_other_settings_or_images_are_refused(
    tiny: Callable[..., Config],
    config: Config,
    reference: Path,
    attacked: Path,
    digits_folder: Path,
    tmp_path: Path,
) -> None:
    found = _imported(tiny(*SETS, "data.train_images=90"), reference)
    assert {run.reason for run in found.values()} == {"was trained with other settings"}
    shutil.copytree(digits_folder, tmp_path / "other")
    data = config.data.model_copy(update={"folder": tmp_path / "other"})
    here = config.model_copy(update={"data": data})
    manifest = paths.prepared_file(here, "digits").with_suffix(".json")
    manifest.write_text(json.dumps(read_json(manifest) | {"sha256": "0" * 64}))
    found = _imported(here, reference)
    assert all("trained with other images" in run.reason for run in found.values())
    # without prepared images nothing speaks against them
    manifest.unlink()
    assert set(_outcomes(here, reference).values()) == {"imported"}
    # somebody's results folder is no publication
    runs = list(import_runs(config, attacked / "demo"))
    assert {run.outcome for run in runs} == {"refused"}
    assert "was not published" in runs[0].reason


def test_what_was_begun_or_trained_here_stays(config: Config, reference: Path) -> None:
    stopped(config, FIRST, STEPS)
    train_cell(config, SECOND, quiet)
    before = contents(paths.cell_folder(config, SECOND))
    found = _imported(config, reference)
    assert [found[cell].outcome for cell in CELLS] == ["kept", "kept", "imported", "imported"]
    assert "is begun here" in found[FIRST.id].reason
    # the weights are the same, so the record is of them too
    assert found[SECOND.id].reason == "was trained here, now with 1 record(s)"
    after = contents(paths.cell_folder(config, SECOND))
    same({name: after[name] for name in before}, before)


def test_a_run_of_other_settings_is_moved_aside_and_an_imported_one_can_be_trained(
    tiny: Callable[..., Config], config: Config, reference: Path
) -> None:
    other = tiny(*SETS, "train.epochs=2")
    train_cell(other, SECOND, quiet)
    before = contents(paths.cell_folder(other, SECOND))
    assert "`reproduce restore " in _imported(config, reference)[SECOND.id].reason
    (aside,) = (paths.superseded_folder(paths.root(config)) / "cells" / SECOND.id).iterdir()
    assert aside.name == training_spec(other, SECOND).digest
    same(contents(aside), before)
    # nor is a part of it left among the imported files
    assert list(paths.cell_folder(config, SECOND).glob("model*")) == []
    said: list[str] = []
    train_cell(config, SECOND, said.append)
    assert "was imported from here: training it again" in said[0]
    run = read_run(paths.cell_folder(config, SECOND))
    assert run is not None
    assert run.published is None
    assert count_superseded(config).runs == 2


def test_the_commands(
    tiny: Callable[..., Config],
    config: Config,
    reference: Path,
    run_command: Callable[..., str],
    tmp_path: Path,
) -> None:
    folder = str(reference / HERE)
    assert run_command(config, "import", folder, TINY_CELL).splitlines() == [
        f"{TINY_CELL}: imported, with 1 record(s), weights of best-test",
        f"1 imported, 0 kept, 0 refused, in {paths.root(config)}",
    ]
    assert "3 imported, 1 kept, 0 refused" in run_command(config, "import", folder)
    assert run_command(config, "status", "table1").count("imported from here") == 4
    # what was imported is not published again
    nothing = run_command(config, "publish", str(tmp_path / "again"), status=1)
    assert "itself imported" in nothing
    # status 1 where nothing that was asked for comes
    run_command(config, "import", folder, "digits/wrn-10-0.25/trades/lam-2/seed-9", status=1)
    run_command(tiny(*SETS, "train.epochs=2"), "import", folder, status=1)
    for place, words in ((config.results, "your own results"), (tmp_path / "none", "no results")):
        assert words in run_command(config, "import", str(place), status=1)


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


def _workflow(config: Config, reference: Path, folder: Path) -> Workflow:
    """Import the published runs, and lay out the workflow on them."""
    _imported(config, reference)
    return Workflow(copy(folder), json.loads(config.model_dump_json()))


@pytest.mark.slow
def test_the_workflow_makes_only_what_was_not_imported(
    config: Config, reference: Path, tmp_path: Path
) -> None:
    workflow = _workflow(config, reference, tmp_path)
    assert workflow.planned("table1") == {"table": 1, "compare": 1, "table1": 1}
    workflow.run("table1")
    assert workflow.planned("table1") == {}
    # one run that is not there is trained, the others are not
    grids = json.loads(config.model_dump_json())["experiments"]
    grids["table1"] |= {"methods": {"trades": [2]}, "seeds": [0, 1, 2]}
    grids["table2"] = {"architectures": {"digits": ["wrn-10-0.25"]}, "lambdas": [2]}
    grids["table2"] |= {"method": "trades", "training_seed": 1, "attacks": ["cw20"]}
    grids["table2"] |= {"attack_seeds": [0]}
    workflow.set(experiments=grids)
    planned = workflow.planned("table1")
    assert (planned["train"], planned["evaluate"]) == (1, 1)
    # an attack that needs weights that were not published
    asked = workflow.run("-n", "table2", check=False)
    assert asked.returncode != 0
    said = asked.stdout + asked.stderr
    assert f"{SECOND} was imported without the weights of best-test" in said
    assert f"`reproduce train {SECOND}` trains it here" in said


@pytest.mark.slow
def test_the_workflow_does_not_train_what_was_imported_after_it_trained(
    tiny: Callable[..., Config], reference: Path, tmp_path: Path, preloaded: str
) -> None:
    """Snakemake remembers the settings of what it made there last; it must not go by them."""
    other = json.loads(tiny(*SETS, "train.epochs=1").model_dump_json())
    workflow = Workflow(copy(tmp_path), other, preloaded)
    workflow.run("table1")
    config = tiny(*SETS)
    assert set(_outcomes(config, reference).values()) == {"imported"}
    workflow.set(**json.loads(config.model_dump_json()))
    assert workflow.planned("table1") == {"table": 1, "compare": 1, "table1": 1}


@pytest.mark.slow
def test_imported_runs_of_other_images_are_trained(
    tiny: Callable[..., Config], reference: Path, tmp_path: Path
) -> None:
    """Nothing is prepared when they are imported; then it is, and the images are others."""
    for cell in CELLS:
        path = reference / HERE / "cells" / cell / "run.json"
        told = read_json(path)
        write_json(path, told | {"data": told["data"] | {"sha256": "0" * 64}})
    config = tiny(*SETS, f"data.folder={tmp_path / 'images'}")
    workflow = _workflow(config, reference, tmp_path)
    assert "train" not in workflow.planned("table1")
    prepare(config.data, "digits", paths.prepared_file(config, "digits"))
    found = collect(config, find_table(config, "table1"))
    assert len(found.frame) == 0
    assert all("was trained with other images" in problem for problem in found.problems)
    assert workflow.planned("table1")["train"] == len(CELLS)
