"""Nothing finished is lost: what replaces a run or a record moves it aside, whole."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from faulty_work import CELLS, SETS, contents, same
from small_runs import quiet, record_of

from reproduce.cell import Cell, parse_cell
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import read_json
from reproduce.evaluation.evaluate import evaluate_cell
from reproduce.experiments import paths
from reproduce.experiments.runs import read_run
from reproduce.experiments.spec import training_spec
from reproduce.experiments.superseded import (
    count_superseded,
    found_superseded,
    move_run_aside,
    restore,
)
from reproduce.models.load import ModelSource
from reproduce.training import train as training
from reproduce.training.train import train_cell

CELL = parse_cell(CELLS[0])


@pytest.fixture
def config(tiny: Callable[..., Config], attacked: Path, tmp_path: Path) -> Config:
    """A configuration whose four cells are trained and attacked."""
    shutil.copytree(attacked, tmp_path / "results")
    return tiny(*SETS)


@pytest.fixture
def other(tiny: Callable[..., Config]) -> Config:
    """One whose runs lie in the same place, and are others."""
    return tiny(*SETS, "train.epochs=1")


def _aside(config: Config, cell: Cell = CELL) -> Path:
    return paths.superseded_folder(paths.root(config)) / "cells" / cell.id


def _folder(config: Config) -> Path:
    return paths.cell_folder(config, CELL)


def _digest(config: Config) -> str:
    return training_spec(config, CELL).digest


def test_a_run_of_other_settings_is_moved_aside_whole_and_comes_back(
    config: Config, other: Config, run_command: Callable[..., str]
) -> None:
    first = contents(_folder(config))
    out = run_command(other, "train", CELL.id)
    second = contents(_folder(other))
    aside = _aside(config) / _digest(config)
    same(contents(aside), first)
    assert f"the run before lies in {aside}; `reproduce restore {aside}` swaps them" in out
    assert "1 run and 0 records that others replaced" in run_command(other, "status", "table1")
    out = run_command(other, "restore", str(aside))
    same(contents(_folder(config)), first)
    same(contents(_aside(config) / _digest(other)), second)
    assert f"`reproduce restore {_aside(config) / _digest(other)}` swaps them" in out
    assert not aside.exists()


def test_it_stays_in_use_until_the_new_one_is_done(
    config: Config, other: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(_folder(config))
    seen = []

    def look(root: Path, folder: Path) -> Path | None:
        found = contents(folder)
        seen.append({name: found[name] for name in before})
        return move_run_aside(root, folder)

    monkeypatch.setattr(training, "move_run_aside", look)
    train_cell(other, CELL, quiet)
    same(seen[0], before)


@pytest.mark.parametrize("moved", range(8))
def test_a_move_that_was_interrupted_is_finished(
    config: Config, other: Config, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    """Of the run's eight files, so many are moved when the process dies."""
    first, left = contents(_folder(config)), moved
    rename = Path.rename

    def dying(path: Path, target: Path) -> Path:
        nonlocal left
        if "superseded" in str(target):
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", dying)
        train_cell(other, CELL, quiet)
    train_cell(other, CELL, quiet)
    same(contents(_aside(config) / _digest(config)), first)
    assert [path.name for path in _aside(config).iterdir()] == [_digest(config)]
    run = read_run(_folder(config))
    assert run is not None
    assert run.digest == _digest(other)


def test_what_dies_while_the_new_files_are_written_is_written_again(
    config: Config, other: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = contents(_folder(config))

    def dying(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "write_epochs", dying)
        train_cell(other, CELL, quiet)
    assert not paths.run_file(_folder(config)).exists()
    said: list[str] = []
    train_cell(other, CELL, said.append)
    assert "continuing" in said[0]
    same(contents(_aside(config) / _digest(config)), first)


def test_twice_with_the_same_digest(config: Config) -> None:
    for number in (1, 2):
        path = paths.model_file(_folder(config), "last")
        path.write_bytes(path.read_bytes()[:-number])
        train_cell(config, CELL, quiet)
    names = sorted(path.name for path in _aside(config).iterdir())
    assert names == [_digest(config), f"{_digest(config)}-2"]
    assert count_superseded(config).runs == 2


def test_records_of_the_very_weights_stay(config: Config) -> None:
    """A CPU trains the same weights again; what was measured of them is still true."""
    record = _folder(config) / "records" / "pgd20-seed0.npz"
    before = record.read_bytes()
    paths.epochs_file(_folder(config)).write_text("")
    train_cell(config, CELL, quiet)
    assert record.read_bytes() == before
    assert (_aside(config) / _digest(config) / "records" / "pgd20-seed0.npz").is_file()


def test_a_damaged_run_json_is_no_end(config: Config) -> None:
    paths.run_file(_folder(config)).write_text("{")
    said: list[str] = []
    train_cell(config, CELL, said.append)
    assert said[0] == f"{CELL} has a damaged run.json: training it again"
    assert (_aside(config) / "damaged" / "model.safetensors").is_file()


def test_training_and_the_plan_name_a_finished_run_of_their_settings(
    config: Config, other: Config, run_command: Callable[..., str]
) -> None:
    train_cell(other, CELL, quiet)
    aside = _aside(config) / _digest(config)
    assert f" lies in {aside};" in str(found_superseded(config, training_spec(config, CELL)))
    line = f"{CELL}: a finished run of these settings lies in {aside}; "
    line += f"`reproduce restore {aside}` brings it back without training"
    assert line in run_command(config, "plan", "table1")
    said: list[str] = []
    train_cell(config, CELL, said.append)
    assert said[1] == line
    assert "a finished run" not in run_command(config, "plan", "table1")
    # a damaged one is none
    aside = _aside(config) / _digest(other)
    paths.epochs_file(aside).write_text("")
    assert found_superseded(other, training_spec(other, CELL)) is None


def test_a_restore_that_was_interrupted_is_finished(
    config: Config, other: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = contents(_folder(config))
    train_cell(other, CELL, quiet)
    aside = _aside(config) / _digest(config)
    rename, left = Path.rename, len(first) + 1

    def dying(path: Path, target: Path) -> Path:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", dying)
        restore(aside)
    assert paths.run_file(_folder(config)).is_file()
    restore(aside)
    same(contents(_folder(config)), first)


def test_a_record_of_other_settings_is_kept(
    tiny: Callable[..., Config], config: Config, run_command: Callable[..., str]
) -> None:
    evaluate_cell(config, CELL, "cw20", 0, "best-test", quiet)
    record = _folder(config) / "records" / "cw20-seed0.npz"
    first = contents(record.parent)
    digest = read_json(record.with_suffix(".json"))["digest"]
    out = run_command(
        tiny(*SETS, "eval.attacks.cw20={steps: 4}"), "evaluate", CELL.id, "--attack", "cw20"
    )
    second = contents(record.parent)
    aside = _aside(config) / "records" / f"cw20-seed0-{digest}.npz"
    assert f"the record before lies in {aside}; `reproduce restore {aside}` swaps them" in out
    assert count_superseded(config) == (0, 1)
    run_command(config, "restore", str(aside))
    same(contents(record.parent), first)
    assert not aside.exists()
    (kept,) = aside.parent.glob("*.npz")
    restore(kept)
    same(contents(record.parent), second)


def test_a_record_of_a_network_of_any_kind(
    tiny: Callable[..., Config], source: ModelSource
) -> None:
    config = tiny(*SETS)
    record_of(config, source, "pgd20")
    record_of(tiny(*SETS, "eval.epsilon=0.09"), source, "pgd20")
    assert count_superseded(config) == (0, 1)


def test_a_record_of_other_weights_is_kept(config: Config, other: Config) -> None:
    evaluated = evaluate_cell(config, CELL, "pgd20", 0, "best-test", quiet)
    record = _folder(config) / "records" / "pgd20-seed0.npz"
    stale = record.read_bytes(), record.with_suffix(".json").read_bytes()
    train_cell(other, CELL, quiet)
    record.write_bytes(stale[0])
    record.with_suffix(".json").write_bytes(stale[1])
    again = evaluate_cell(other, CELL, "pgd20", 0, "best-test", quiet)
    assert again.info["model_sha256"] != evaluated.info["model_sha256"]
    (kept,) = (_aside(config) / "records").glob("*.npz")
    assert kept.read_bytes() == stale[0]


@pytest.mark.parametrize("name", ["nowhere", "cells", f"cells/{CELL}/0123456789ab", "models"])
def test_what_cannot_be_restored(
    config: Config, run_command: Callable[..., str], name: str
) -> None:
    path = paths.superseded_folder(paths.root(config)) / name
    assert "is no superseded run or record" in run_command(config, "restore", str(path), status=1)


def test_half_a_run_is_not_restored(config: Config, other: Config) -> None:
    train_cell(other, CELL, quiet)
    aside = _aside(config) / _digest(config)
    paths.run_file(aside).unlink()
    before = contents(_folder(config))
    with pytest.raises(HarnessError, match=r"has no run\.json"):
        restore(aside)
    same(contents(_folder(config)), before)


def test_no_reader_counts_it(
    config: Config, other: Config, run_command: Callable[..., str]
) -> None:
    before = run_command(config, "results")
    train_cell(other, CELL, quiet)
    restore(_aside(config) / _digest(config))
    assert count_superseded(config).runs == 1
    assert run_command(config, "results") == before
    out = run_command(config, "verify", str(paths.root(config)), "--sample", "0")
    assert "superseded" not in out
