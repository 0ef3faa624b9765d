"""Nothing finished is lost: what replaces a run or a record keeps it aside, whole."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from faulty_work import CELLS, SETS, contents, same
from small_runs import quiet, record_of

from reproduce.cell import parse_cell
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import read_json
from reproduce.experiments import paths, superseded
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


def _aside(config: Config) -> Path:
    return paths.superseded_folder(paths.root(config)) / "cells" / CELL.id


def _folder(config: Config) -> Path:
    return paths.cell_folder(config, CELL)


def _digest(config: Config) -> str:
    return training_spec(config, CELL).digest


def test_a_run_of_other_settings_is_moved_aside_whole_and_comes_back(
    config: Config, other: Config, run_command: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    results = run_command(config, "results")
    first, seen = contents(_folder(config)), []

    def look(root: Path, folder: Path) -> Path | None:
        seen.append({name: found for name, found in contents(folder).items() if name in first})
        return move_run_aside(root, folder)

    monkeypatch.setattr(training, "move_run_aside", look)
    out = run_command(other, "train", CELL.id)
    same(seen[0], first)  # in use until the new one is done
    second = contents(_folder(other))
    aside = _aside(config) / _digest(config)
    same(contents(aside), first)
    assert f"the run before lies in {aside}; `reproduce restore {aside}` swaps them" in out
    assert "1 run(s) and 0 record(s) that others replaced" in run_command(other, "status", "table1")
    assert f"`reproduce restore {aside}`" in run_command(config, "plan", "table1")

    out = run_command(other, "restore", str(aside))
    same(contents(_folder(config)), first)
    same(contents(_aside(config) / _digest(other)), second)
    assert f"`reproduce restore {_aside(config) / _digest(other)}` swaps them" in out
    assert not aside.exists()
    # no reader counts what lies aside
    assert run_command(config, "results") == results


def _dying(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, calls: int) -> None:
    """Interrupt the process after so many calls of a function that have to do with a run."""
    function = getattr(owner, name)

    def dying(path: Path, *more: object, **options: object) -> object:
        nonlocal calls
        calls -= str(CELL) in str(path) and not path.name.startswith((".", "state"))
        if calls < 0:
            raise KeyboardInterrupt
        return function(path, *more, **options)

    monkeypatch.setattr(owner, name, dying)


@pytest.mark.parametrize(
    ("owner", "name", "calls"),
    [
        (superseded, "_put", 7),
        (Path, "unlink", 3),
        (training, "write_epochs", 0),
    ],
)
def test_an_interrupted_move_or_restore_is_finished(
    config: Config,
    other: Config,
    monkeypatch: pytest.MonkeyPatch,
    owner: object,
    name: str,
    calls: int,
) -> None:
    """Eight files are put aside, then removed; the process dies after some of that."""
    first = contents(_folder(config))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        _dying(patch, owner, name, calls)
        train_cell(other, CELL, quiet)
    said: list[str] = []
    train_cell(other, CELL, said.append)
    assert "continuing" in "".join(said)
    aside = _aside(config) / _digest(config)
    same(contents(aside), first)
    assert list(_aside(config).iterdir()) == [aside]
    assert read_json(paths.run_file(_folder(config)))["digest"] == _digest(other)
    if owner is training:
        return
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        _dying(patch, owner, name, min(calls, 5))
        restore(aside)
    restore(aside)
    same(contents(_folder(config)), first)
    assert count_superseded(config) == (1, 0)


def test_twice_with_the_same_digest_and_the_same_weights(config: Config) -> None:
    """A CPU trains the same weights again; what was measured of them is still true."""
    record = _folder(config) / "records" / "pgd20-seed0.npz"
    before = record.read_bytes()
    for number in (1, 2):
        path = paths.model_file(_folder(config), "last")
        path.write_bytes(path.read_bytes()[:-number])
        train_cell(config, CELL, quiet)
        assert record.read_bytes() == before
    names = sorted(path.name for path in _aside(config).iterdir())
    assert names == [_digest(config), f"{_digest(config)}-2"]
    assert all((_aside(config) / name / "records" / record.name).is_file() for name in names)
    assert count_superseded(config) == (2, 0)
    # both have damaged weights, so neither is offered
    assert found_superseded(config, training_spec(config, CELL)) is None


def test_a_damaged_run_json_is_no_end(config: Config) -> None:
    paths.run_file(_folder(config)).write_text("{")
    said: list[str] = []
    train_cell(config, CELL, said.append)
    assert "run.json is damaged" in said[0]
    assert (_aside(config) / "damaged" / "model.safetensors").is_file()


def test_a_record_of_other_settings_is_kept(
    tiny: Callable[..., Config], config: Config, run_command: Callable[..., str]
) -> None:
    record = _folder(config) / "records" / "pgd20-seed0.npz"
    first = contents(record.parent)
    digest = read_json(record.with_suffix(".json"))["digest"]
    changed = tiny(*SETS, "eval.attacks.pgd20={steps: 4}")
    out = run_command(changed, "evaluate", CELL.id, "--attack", "pgd20")
    second = contents(record.parent)
    aside = _aside(config) / "records" / f"pgd20-seed0-{digest}"
    assert f"the record before lies in {aside}; `reproduce restore {aside}` swaps them" in out
    assert count_superseded(config) == (0, 1)
    run_command(config, "restore", str(aside))
    same(contents(record.parent), first)
    assert not aside.exists()
    (kept,) = aside.parent.iterdir()
    restore(kept)
    same(contents(record.parent), second)


def test_a_record_of_a_network_of_any_kind(tiny: Callable[..., Config], config: Config) -> None:
    source = ModelSource("digits", CELL.architecture, paths.model_file(_folder(config), "last"))
    record_of(config, source, "pgd20")
    record_of(tiny(*SETS, "eval.epsilon=0.09"), source, "pgd20")
    assert count_superseded(config) == (0, 1)
    (kept,) = paths.superseded_folder(paths.root(config)).rglob("*.npz")
    assert restore(kept.parent)[0].is_file()


@pytest.mark.parametrize("name", ["nowhere", f"cells/{CELL}/half"])
def test_what_cannot_be_restored(config: Config, name: str) -> None:
    before, path = contents(_folder(config)), paths.superseded_folder(paths.root(config)) / name
    (path.parent / "half").mkdir(parents=True)
    (path.parent / "half" / "model.safetensors").touch()
    with pytest.raises(HarnessError, match="is no whole superseded run or record"):
        restore(path)
    same(contents(_folder(config)), before)
