"""Published runs that are imported: which are, and what comes of it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from conftest import TINY_CELL
from faulty_work import CELLS, SETS, contents, same
from published_runs import EVERY, published_files, published_root
from small_runs import EPOCHS, STEPS, quiet, stopped

from reproduce.cell import parse_cell
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import read_json
from reproduce.evaluation.evaluate import evaluate_cell
from reproduce.evaluation.records import Record, read_record, write_record
from reproduce.evaluation.shards import ARRAYS
from reproduce.experiments import paths
from reproduce.experiments.grids import find_table
from reproduce.experiments.runs import load_run, read_run
from reproduce.experiments.spec import training_spec
from reproduce.experiments.superseded import count_superseded
from reproduce.results.frames import collect
from reproduce.results.status import plan
from reproduce.share import imports
from reproduce.share.imports import Imported, import_runs
from reproduce.tables.write import write_table
from reproduce.training.train import train_cell


@pytest.fixture
def config(tiny: Callable[..., Config]) -> Config:
    """The configuration of those runs, with no results yet."""
    return tiny(*SETS)


def _imported(config: Config, reference: Path, *cells: str) -> dict[str, Imported]:
    chosen = map(parse_cell, cells)
    return {run.cell: run for run in import_runs(config, published_root(reference), chosen)}


def _outcomes(config: Config, reference: Path) -> dict[str, str]:
    return {cell: run.outcome for cell, run in _imported(config, reference).items()}


def test_what_is_imported_gives_the_same_table(
    tiny: Callable[..., Config], config: Config, attacked: Path, reference: Path
) -> None:
    assert _outcomes(config, reference) == dict.fromkeys(sorted(CELLS), "imported")
    table = find_table(config, "table1")
    first = tiny(*SETS, f"results={attacked}")
    ours, theirs = (write_table(c, table, collect(c, table)) for c in (config, first))
    note = f"- Note: {len(CELLS)} of {len(CELLS)} training runs are those of the publication here"
    assert note in ours
    lines = [line for line in ours.splitlines() if not line.startswith(note)]
    assert lines == theirs.splitlines()
    (entry,) = plan(config, ["table1"])
    assert (entry.cells, entry.trained, entry.evaluations, entry.evaluated) == (4, 4, 4, 4)
    assert entry.hours_left == 0 < entry.hours


def test_a_second_time_nothing_changes(config: Config, reference: Path) -> None:
    _imported(config, reference)
    before = contents(config.results)
    found = _imported(config, reference)
    assert {run.outcome for run in found.values()} == {"kept"}
    assert found[CELLS[0]].reason == "was imported before, now with 1 record"
    same(contents(config.results), before)


def test_a_lost_record_comes_again(config: Config, reference: Path) -> None:
    _imported(config, reference)
    path = paths.cell_folder(config, parse_cell(CELLS[1])) / "records" / "pgd20-seed0.npz"
    path.unlink()
    assert _imported(config, reference)[CELLS[1]].outcome == "kept"
    assert read_record(path)


def test_an_import_that_was_interrupted_is_finished(
    config: Config, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(source: Path, target: Path) -> None:
        if source.name == "pgd20-seed0.json":
            raise KeyboardInterrupt
        copy(source, target)

    copy = imports._copy
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(imports, "_copy", dying)
        _imported(config, reference, CELLS[1])
    told = _imported(config, reference, CELLS[1])[CELLS[1]].reason
    assert told == "with 1 record, without weights"


def test_a_thinned_trace(config: Config, attacked: Path, reference: Path) -> None:
    cell = parse_cell(CELLS[0])
    _imported(config, reference)
    folder = paths.cell_folder(config, cell)
    kept = pd.read_parquet(paths.trace_file(folder))
    whole = pd.read_parquet(paths.trace_file(attacked / "demo" / "cells" / cell.id))
    # of two epochs every other iteration, of the last one all
    first = list(range(1, (EPOCHS - 1) * STEPS + 1, EVERY))
    last = list(range((EPOCHS - 1) * STEPS + 1, EPOCHS * STEPS + 1))
    assert kept["iteration"].tolist() == first + last
    assert kept.equals(whole[whole["iteration"].isin(first + last)].reset_index(drop=True))
    # what is drawn of it is even
    drawn = load_run(config, cell).trace()
    assert drawn["iteration"].tolist() == list(range(1, EPOCHS * STEPS + 1, EVERY))


@pytest.mark.parametrize("name", ["run.json", "epochs.csv", "trace.parquet", "model.safetensors"])
def test_what_is_damaged_is_refused(config: Config, reference: Path, name: str) -> None:
    path = published_files(reference, CELLS[0]) / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    # no other file has a checksum of run.json
    path.write_bytes(content if name != "run.json" else content[:-20])
    found = _imported(config, reference)
    assert [cell for cell, run in found.items() if run.outcome == "refused"] == CELLS[:1]
    assert name in found[CELLS[0]].reason
    assert not paths.cell_folder(config, parse_cell(CELLS[0])).exists()


def test_a_record_that_is_damaged_or_missing(config: Config, reference: Path) -> None:
    """Where the weights are there it is made again; where not, the import says so."""
    for name, suffix in zip(CELLS[:2], ("json", "npz"), strict=True):
        record = published_files(reference, name) / "records" / f"pgd20-seed0.{suffix}"
        content = bytearray(record.read_bytes())
        content[-30] ^= 1
        record.write_bytes(content)
    found = _imported(config, reference)
    assert found[CELLS[0]].reason == "with 0 records, weights of best-test"
    assert found[CELLS[1]].reason == (
        "with 0 records, without weights; neither record nor weights for pgd20-seed0"
    )
    (entry,) = plan(config, ["table1"])
    assert (entry.trained, entry.evaluated) == (4, 2)
    record = evaluate_cell(config, parse_cell(CELLS[0]), "pgd20", 0, "best-test", quiet)
    assert len(record.index) == 40


def test_a_record_of_other_attack_settings_is_left(
    tiny: Callable[..., Config], attacked: Path, tmp_path: Path
) -> None:
    from reproduce.share.publish import publish

    shutil.copytree(attacked, tmp_path / "more")
    cw20 = "eval.attacks.cw20={steps: 4}"
    theirs = tiny(*SETS, cw20, f"results={tmp_path / 'more'}")
    evaluate_cell(theirs, parse_cell(CELLS[0]), "cw20", 0, "best-test", quiet)
    publish(theirs, tmp_path / "reference" / "here", (), 1, quiet)
    config = tiny(*SETS)
    found = _imported(config, tmp_path / "reference")
    assert found[CELLS[0]].reason == "with 1 record, without weights"
    # it comes when the settings are those
    assert "with 2 records" in _imported(tiny(*SETS, cw20), tmp_path / "reference")[CELLS[0]].reason


def test_other_settings_are_other_runs(tiny: Callable[..., Config], reference: Path) -> None:
    found = _imported(tiny(*SETS, "data.train_images=90"), reference)
    assert {run.reason for run in found.values()} == {"was trained with other settings"}


def test_other_images_are_refused(
    config: Config, reference: Path, digits_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    shutil.copytree(digits_folder, folder)
    here = config.model_copy(update={"data": config.data.model_copy(update={"folder": folder})})
    manifest = paths.prepared_file(here, "digits").with_suffix(".json")
    manifest.write_text(json.dumps(read_json(manifest) | {"sha256": "0" * 64}))
    found = _imported(here, reference)
    assert all("trained with other images" in run.reason for run in found.values())
    # without prepared images nothing speaks against them
    manifest.unlink()
    assert set(_outcomes(here, reference).values()) == {"imported"}


def test_what_was_begun_or_trained_here_stays(config: Config, reference: Path) -> None:
    begun, trained = map(parse_cell, CELLS[:2])
    stopped(config, begun, STEPS)
    train_cell(config, trained, quiet)
    before = contents(paths.cell_folder(config, trained))
    found = _imported(config, reference)
    assert [found[cell].outcome for cell in CELLS] == ["kept", "kept", "imported", "imported"]
    assert "is begun here" in found[CELLS[0]].reason
    # the weights are the same, so the record is of them too
    assert found[CELLS[1]].reason == "was trained here, now with 1 record"
    after = contents(paths.cell_folder(config, trained))
    same({name: after[name] for name in before}, before)


def test_a_run_of_other_settings_is_moved_aside(
    tiny: Callable[..., Config], config: Config, reference: Path
) -> None:
    cell = parse_cell(CELLS[1])
    other = tiny(*SETS, "train.epochs=2")
    train_cell(other, cell, quiet)
    before = contents(paths.cell_folder(other, cell))
    told = _imported(config, reference)[cell.id].reason
    assert "`reproduce restore " in told
    (aside,) = (paths.superseded_folder(paths.root(config)) / "cells" / cell.id).iterdir()
    assert aside.name == training_spec(other, cell).digest
    same(contents(aside), before)
    # nor is a part of it left among the imported files
    assert list(paths.cell_folder(config, cell).glob("model*")) == []


def test_whoever_trains_a_run_that_was_imported_wants_it_trained(
    config: Config, reference: Path
) -> None:
    cell = parse_cell(CELLS[1])
    _imported(config, reference)
    said: list[str] = []
    train_cell(config, cell, said.append)
    assert "was imported from here: training it again" in said[0]
    run = read_run(paths.cell_folder(config, cell))
    assert run is not None
    assert run.published is None
    assert count_superseded(config).runs == 1
    # and it is one's own run now
    assert _imported(config, reference)[cell.id].outcome == "kept"


def test_only_published_runs_are_imported(config: Config, attacked: Path) -> None:
    """Somebody's results folder is not one."""
    found = list(import_runs(config, attacked / "demo"))
    assert {run.outcome for run in found} == {"refused"}
    assert "was not published" in found[0].reason


def test_a_record_of_fewer_images_than_asked_for(config: Config, reference: Path) -> None:
    path = published_files(reference, CELLS[1]) / "records" / "pgd20-seed0.npz"
    record = read_record(path)
    few = {key: getattr(record, key)[:5] for key in ARRAYS}
    write_record(path, Record(**few, info=record.info))
    assert "with 0 records" in _imported(config, reference)[CELLS[1]].reason


def test_the_command(
    config: Config, reference: Path, run_command: Callable[..., str], tmp_path: Path
) -> None:
    folder = str(published_root(reference))
    out = run_command(config, "import", folder, TINY_CELL)
    assert out.splitlines() == [
        f"{TINY_CELL}: imported, with 1 record, weights of best-test",
        f"1 imported, 0 kept, 0 refused, in {paths.root(config)}",
    ]
    assert "3 imported, 1 kept, 0 refused" in run_command(config, "import", folder)
    assert run_command(config, "status", "table1").count("imported from here") == 4
    # what was imported is not published again
    nothing = run_command(config, "publish", str(tmp_path / "again"), status=1)
    assert "nothing to publish" in nothing
    assert "itself imported" in nothing


@pytest.mark.parametrize(
    ("sets", "words"),
    [((), ("digits/wrn-10-0.25/trades/lam-2/seed-9",)), (("train.epochs=2",), ())],
)
def test_the_command_fails_where_nothing_asked_for_comes(
    tiny: Callable[..., Config],
    reference: Path,
    run_command: Callable[..., str],
    sets: tuple[str, ...],
    words: tuple[str, ...],
) -> None:
    run_command(tiny(*SETS, *sets), "import", str(published_root(reference)), *words, status=1)


@pytest.mark.parametrize("place", ["nowhere", "file", "reference", "results"])
def test_a_folder_that_is_none(
    config: Config, reference: Path, run_command: Callable[..., str], tmp_path: Path, place: str
) -> None:
    (tmp_path / "file").write_text("")
    _imported(config, reference)
    words = "your own results" if place == "results" else "holds no results of preset demo"
    assert words in run_command(config, "import", str(tmp_path / place), status=1)


def test_attacking_a_run_without_its_weights_says_so(config: Config, reference: Path) -> None:
    _imported(config, reference)
    with pytest.raises(HarnessError, match="without the weights of best-test"):
        evaluate_cell(config, parse_cell(CELLS[1]), "cw20", 0, "best-test", quiet)
