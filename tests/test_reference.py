"""Published runs that are taken instead of trained: which are, and what comes of it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TINY_CELL
from faulty_work import CELLS, SETS
from published_runs import EVERY, published_files
from small_runs import EPOCHS, STEPS, quiet, stopped

from reproduce import paths
from reproduce.analysis import collect, write_table
from reproduce.analysis.usable import usable_run
from reproduce.cells import parse_cell
from reproduce.config import Config
from reproduce.errors import HarnessError
from reproduce.evaluation.run import evaluate_cell
from reproduce.evaluation.shards import ARRAYS
from reproduce.experiments import find_table
from reproduce.files import read_json, write_json
from reproduce.planning import plan
from reproduce.records import Record, read_record, write_record
from reproduce.reference import adopt, find_reference
from reproduce.runs import read_run
from reproduce.specs import training_spec
from reproduce.traces import read_trace
from reproduce.training import train_cell


@pytest.fixture
def config(tiny: Callable[..., Config], reference: Path) -> Config:
    """The configuration of those runs, with no results yet."""
    return tiny(*SETS, f"reference={reference}")


def test_what_is_taken_gives_the_same_table(
    tiny: Callable[..., Config], config: Config, attacked: Path
) -> None:
    found = find_reference(config)
    assert [cell.id for cell in found.taken] == CELLS
    assert found.refused == {}
    said: list[str] = []
    adopt(config, found.taken.values(), said.append)
    assert len(said) == len(CELLS)
    table = find_table(config, "table1")
    first = tiny(*SETS, f"results={attacked}")
    ours, theirs = (write_table(c, table, collect(c, table)) for c in (config, first))
    taken = f"- Note: {len(CELLS)} of {len(CELLS)} training runs are those of the publication here"
    assert taken in ours
    lines = [line for line in ours.splitlines() if not line.startswith(taken)]
    assert lines == theirs.splitlines()
    # what is taken stays taken, and is not copied again
    path = paths.run_file(paths.cell_folder(config, parse_cell(CELLS[1])))
    before = path.stat().st_ino
    adopt(config, find_reference(config).taken.values(), quiet)
    assert path.stat().st_ino == before


def test_a_thinned_trace(config: Config, attacked: Path) -> None:
    cell = parse_cell(CELLS[0])
    adopt(config, find_reference(config).taken.values(), quiet)
    folder = paths.cell_folder(config, cell)
    kept = read_trace(paths.trace_file(folder), cell)
    whole = read_trace(paths.trace_file(attacked / "demo" / "cells" / cell.id), cell)
    # of two epochs every other iteration, of the last one all
    first = list(range(1, (EPOCHS - 1) * STEPS + 1, EVERY))
    last = list(range((EPOCHS - 1) * STEPS + 1, EPOCHS * STEPS + 1))
    assert kept["iteration"].tolist() == first + last
    assert kept.equals(whole[whole["iteration"].isin(first + last)].reset_index(drop=True))
    # what is drawn of it is even
    drawn = usable_run(config, cell).trace()
    assert drawn["iteration"].tolist() == list(range(1, EPOCHS * STEPS + 1, EVERY))


def test_the_plan_counts_it_as_done(config: Config) -> None:
    (entry,) = plan(config, ["table1"])
    assert (entry.cells, entry.trained, entry.evaluations, entry.evaluated) == (4, 4, 4, 4)
    assert entry.hours_left == 0 < entry.hours
    (entry,) = plan(config.model_copy(update={"reference": None}), ["table1"])
    assert (entry.trained, entry.evaluated) == (0, 0)


@pytest.mark.parametrize("name", ["run.json", "epochs.csv", "trace.parquet", "model.safetensors"])
def test_what_is_damaged_is_not_taken(config: Config, reference: Path, name: str) -> None:
    path = published_files(reference, CELLS[0]) / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    found = find_reference(config)
    assert [cell.id for cell in found.taken] == CELLS[1:]
    assert path.name in found.refused[parse_cell(CELLS[0])]


def test_a_record_that_is_damaged_or_missing(config: Config, reference: Path) -> None:
    """Where the weights are there it is made again; where not, the run is trained."""
    for name, suffix in zip(CELLS[:2], ("json", "npz"), strict=True):
        record = published_files(reference, name) / "records" / f"pgd20-seed0.{suffix}"
        content = bytearray(record.read_bytes())
        content[-30] ^= 1
        record.write_bytes(content)
    found = find_reference(config)
    with_weights, without = map(parse_cell, CELLS[:2])
    assert found.taken[with_weights].evaluations == {}
    assert "no record of pgd20-seed0" in found.refused[without]
    (entry,) = plan(config, ["table1"])
    assert (entry.trained, entry.evaluated) == (3, 2)
    adopt(config, found.taken.values(), quiet)
    record = evaluate_cell(config, with_weights, "pgd20", 0, "best-test", quiet)
    assert len(record.index) == 40


@pytest.mark.parametrize(
    "change", ["train.epochs=2", "data.train_images=90", "train.validation.attack={steps: 4}"]
)
def test_other_settings_are_other_runs(
    tiny: Callable[..., Config], reference: Path, change: str
) -> None:
    found = find_reference(tiny(*SETS, change, f"reference={reference}"))
    assert (found.taken, found.refused) == ({}, {})


def test_another_attack_needs_the_weights(tiny: Callable[..., Config], reference: Path) -> None:
    sets = [*SETS, f"reference={reference}", "eval.attacks.cw20={steps: 4}"]
    grid = "{architectures: {digits: [wrn-10-0.25]}, method: trades, lambdas: [2], "
    grid += "attacks: [pgd20, cw20], attack_seeds: [0]}"
    found = find_reference(tiny(*sets, f"experiments.table2={grid}"))
    # of the run with the weights one record is left to make
    assert len(found.taken[parse_cell(CELLS[0])].evaluations) == 1
    sets += ["experiments.table2.training_seed=1"]
    found = find_reference(tiny(*sets, f"experiments.table2={grid}"))
    assert "no record of cw20-seed0" in found.refused[parse_cell(CELLS[1])]


def test_other_images_are_not_taken(config: Config, digits_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(digits_folder, folder)
    here = config.model_copy(update={"data": config.data.model_copy(update={"folder": folder})})
    manifest = paths.prepared_file(here, "digits").with_suffix(".json")
    write_json(manifest, read_json(manifest) | {"sha256": "0" * 64}, sealed=False)
    found = find_reference(here)
    assert found.taken == {}
    assert all("trained with other images" in reason for reason in found.refused.values())
    # without prepared images nothing speaks against them
    manifest.unlink()
    assert len(find_reference(here).taken) == len(CELLS)


def test_what_was_begun_or_trained_here_stays(config: Config) -> None:
    begun, trained = map(parse_cell, CELLS[:2])
    stopped(config, begun, STEPS)
    train_cell(config, trained, quiet)
    assert [cell.id for cell in find_reference(config).taken] == CELLS[2:]


def test_without_reference_results_all_is_trained_here(config: Config) -> None:
    cell = parse_cell(CELLS[1])
    adopt(config, find_reference(config).taken.values(), quiet)
    alone = config.model_copy(update={"reference": None})
    assert "reference` is null" in str(usable_run(alone, cell).problem)
    table = find_table(alone, "table1")
    found = collect(alone, table)
    assert len(found.frame) == 0
    assert all("`reference` is null" in problem for problem in found.problems)
    (entry,) = plan(alone, ["table1"])
    assert (entry.trained, entry.evaluated) == (0, 0)


def test_whoever_trains_a_run_that_was_taken_wants_it_trained(config: Config) -> None:
    cell = parse_cell(CELLS[1])
    adopt(config, find_reference(config).taken.values(), quiet)
    said: list[str] = []
    train_cell(config, cell, said.append)
    assert "was taken from the reference results here: training it again" in said[0]
    run = read_run(paths.cell_folder(config, cell))
    assert run is not None
    assert run.published is None
    # and it is one's own run now
    assert cell not in find_reference(config).taken


def test_what_was_taken_stays_when_the_reference_results_go(
    config: Config, reference: Path
) -> None:
    adopt(config, find_reference(config).taken.values(), quiet)
    shutil.rmtree(reference / "here")
    found = find_reference(config).taken
    assert [cell.id for cell in found] == CELLS
    said: list[str] = []
    adopt(config, found.values(), said.append)
    (entry,) = plan(config, ["table1"])
    assert (entry.trained, entry.evaluated) == (4, 4)


def test_a_run_that_is_begun_between_look_and_copy_stays(config: Config) -> None:
    taken = find_reference(config).taken
    trained = parse_cell(CELLS[1])
    train_cell(config, trained, quiet)
    said: list[str] = []
    adopt(config, taken.values(), said.append)
    assert f"{trained}: begun here meanwhile, not taken" in said
    run = read_run(paths.cell_folder(config, trained))
    assert run is not None
    assert run.published is None


def test_only_published_runs_are_taken(config: Config, attacked: Path, tmp_path: Path) -> None:
    """Somebody's results folder is not one."""
    (tmp_path / "homes").mkdir()
    (tmp_path / "homes" / "colleague").symlink_to(attacked)
    here = config.model_copy(update={"reference": tmp_path / "homes"})
    assert find_reference(here).taken == {}


def test_old_weights_go(config: Config) -> None:
    """Of a run with other settings, which run.json knew, nothing is left that it does not know."""
    cell = parse_cell(CELLS[1])
    other = config.model_copy(update={"train": config.train.model_copy(update={"epochs": 2})})
    train_cell(other, cell, quiet)
    taken = find_reference(config).taken
    assert cell in taken
    adopt(config, taken.values(), quiet)
    assert list(paths.cell_folder(config, cell).glob("model*")) == []


def _edited(path: Path, sealed: bool = True, **values: object) -> None:
    write_json(path, read_json(path) | values, sealed=sealed)


@pytest.mark.parametrize(
    "published",
    [
        {"name": "x", "weights": ["best-val"], "every": 0},
        {"name": "x", "weights": [], "every": 10**30},
        {"name": "x", "weights": ["../x"], "every": 1},
        {"name": "x", "weights": ["last", "last"], "every": 1},
        {"name": "x", "weights": 3, "every": 1},
        [],
    ],
)
def test_hostile_words_in_run_json(config: Config, reference: Path, published: object) -> None:
    _edited(published_files(reference, CELLS[0]) / "run.json", published=published)
    reason = find_reference(config).refused[parse_cell(CELLS[0])]
    assert "run.json is damaged" in reason


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"models": {"last": "0" * 64}}, "run.json is damaged"),
        ({"epochs": None}, "older than the checksums"),
        ({"sealed": False}, "older than the checksums"),
        ({"spec": {}}, "otherwise than in their digest"),
    ],
)
def test_a_run_json_that_does_not_agree_with_itself(
    config: Config, reference: Path, changed: dict, words: str
) -> None:
    _edited(published_files(reference, CELLS[0]) / "run.json", **changed)
    found = find_reference(config)
    assert [cell.id for cell in found.taken] == CELLS[1:]
    assert words in found.refused[parse_cell(CELLS[0])]


def test_a_digest_that_was_rewritten(tiny: Callable[..., Config], reference: Path) -> None:
    """A run of three epochs that says it is one of two."""
    other = tiny(*SETS, "train.epochs=2", f"reference={reference}")
    cell = parse_cell(CELLS[0])
    path = published_files(reference, CELLS[0]) / "run.json"
    _edited(path, digest=training_spec(other, cell).digest)
    found = find_reference(other)
    assert found.taken == {}
    assert "otherwise than in their digest" in found.refused[cell]


def test_a_record_of_fewer_images_than_asked_for(config: Config, reference: Path) -> None:
    path = published_files(reference, CELLS[1]) / "records" / "pgd20-seed0.npz"
    record = read_record(path)
    few = {key: getattr(record, key)[:5] for key in ARRAYS}
    write_record(path, Record(**few, info=record.info))
    assert "no record of pgd20-seed0" in find_reference(config).refused[parse_cell(CELLS[1])]


def test_the_commands(config: Config, run_command: Callable[..., str], tmp_path: Path) -> None:
    assert "Of these runs 4 and their records" in run_command(config, "plan", "table1")
    assert "taken from" in run_command(config, "adopt", TINY_CELL)
    out = run_command(config, "adopt")
    assert "has 4 run(s) of reference results" in out
    assert run_command(config, "status", "table1").count("taken from here") == 4
    assert "was taken before" not in out.split(CELLS[0])[0]
    missing = "digits/wrn-10-0.25/trades/lam-2/seed-9"
    assert "no publication has it" in run_command(config, "adopt", missing, status=1)
    # what was taken is not published again
    nothing = run_command(config, "publish", str(tmp_path / "again"), status=1)
    assert "nothing to publish" in nothing
    assert "itself taken" in nothing
    alone = config.model_copy(update={"reference": None})
    assert "`reference` is null" in run_command(alone, "adopt", status=1)
    assert "Of these runs" not in run_command(alone, "plan", "table1")
    words = ("publish", str(tmp_path / "again"), "--weights", missing)
    assert "no run" in run_command(alone, *words, status=1)
    assert "give these a name" in run_command(config, "publish", str(config.reference), status=1)


def test_a_reference_that_is_none(
    config: Config, run_command: Callable[..., str], reference: Path, tmp_path: Path
) -> None:
    """A typing error must not train for weeks what is there."""
    file = tmp_path / "file"
    file.write_text("")
    for place, words in (
        (tmp_path / "nowhere", "is not a folder"),
        (file, "is not a folder"),
        (reference / "here", "is itself a results folder"),
        (reference / "here" / "demo", "is itself a results folder"),
    ):
        wrong = config.model_copy(update={"reference": place})
        for command in ("plan", "adopt"):
            assert words in run_command(wrong, command, status=1)


def test_damaged_reference_results_are_named_by_the_plan(
    config: Config, run_command: Callable[..., str], reference: Path
) -> None:
    (published_files(reference, CELLS[2]) / "epochs.csv").write_text("")
    out = run_command(config, "plan", "table1")
    assert "Of these runs 3 and" in out
    assert f"{CELLS[2]} has a damaged epochs.csv" in out


def test_attacking_a_run_without_its_weights_says_so(config: Config) -> None:
    adopt(config, find_reference(config).taken.values(), quiet)
    with pytest.raises(HarnessError, match="without the weights of best-test"):
        evaluate_cell(config, parse_cell(CELLS[1]), "cw20", 0, "best-test", quiet)
