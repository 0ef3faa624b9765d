"""What of a run can be used: one rule for all that read runs, also while runs end."""

from collections.abc import Callable

import pytest
from conftest import TINY_CELL
from histories import write_history
from small_runs import EPOCHS, STEPS, quiet, stop_at

from reproduce.cell import Cell
from reproduce.config.schema import Config
from reproduce.core.errors import Stopped
from reproduce.core.files import read_json, write_json
from reproduce.experiments import paths, runs
from reproduce.experiments.runs import RunSession, read_rows, state_file
from reproduce.experiments.spec import training_spec
from reproduce.results.frames import read_histories
from reproduce.results.status import read_status, run_work
from reproduce.tables.checkpoints import read_choices
from reproduce.tables.tensorboard import write_events
from reproduce.training.train import train_cell


def _seen(config: Config, cell: Cell) -> tuple[int, int, int, int]:
    """Return rows of the histories, runs in event files, epochs done, and runs with choices."""
    histories = read_histories(config, [cell])
    out = paths.tensorboard_folder(config)
    written = write_events(config, ["table1"], out)
    assert written.problems == histories.missing == ()
    status = read_status(config, run_work(config, cell))
    return len(histories.traces), written.finished, status.epoch, read_choices(config).found


@pytest.mark.parametrize("reader", range(4))
def test_a_run_that_ends_while_it_is_looked_at(
    tiny: Callable[..., Config], cell: Cell, reader: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at run.json and the one at the state the state goes: the run is done."""
    config = tiny("experiments.table1.methods={trades: [2]}", "experiments.table1.seeds=[0]")
    with pytest.raises(Stopped):
        train_cell(config, cell, quiet, stop_at(STEPS + 3))
    looked = []

    def end(*place: object) -> object:
        if not looked:
            looked.append(place)
            train_cell(config, cell, quiet)
        return state_file(*place)

    monkeypatch.setattr(runs, "state_file", end)
    read: list[Callable[[], object]] = [
        lambda: len(read_histories(config, [cell]).traces) == EPOCHS * STEPS,
        lambda: write_events(config, ["table1"], paths.root(config) / "out").finished == 1,
        lambda: read_status(config, run_work(config, cell)).state == "done",
        lambda: read_choices(config).found == 1,
    ]
    assert read[reader]()
    assert looked
    assert _seen(config, cell) == (EPOCHS * STEPS, 1, EPOCHS, 1)


def test_no_saved_state_is_none_and_a_damaged_one_is_named(
    tiny: Callable[..., Config], cell: Cell
) -> None:
    path = state_file(paths.cell_folder(tiny(), cell), training_spec(tiny(), cell).digest)
    assert read_rows(path) is None
    path.parent.mkdir(parents=True)
    path.write_bytes(b"cut")
    found = runs.find_run(tiny(), training_spec(tiny(), cell))
    assert found.finished is None
    assert found.damage is not None
    assert f"{path} is damaged" in found.damage


def _digest(config: Config, cell: Cell) -> str:
    path = paths.run_file(paths.cell_folder(config, cell))
    write_json(path, read_json(path) | {"digest": "another"})
    return "was trained with other settings"


def _images(config: Config, cell: Cell) -> str:
    path = paths.run_file(paths.cell_folder(config, cell))
    run = read_json(path)
    run["data"]["sha256"] = "another"
    write_json(path, run)
    return "was trained with other images"


def _lost(config: Config, cell: Cell) -> str:
    paths.model_file(paths.cell_folder(config, cell), "last").unlink()
    return "has lost model-last.safetensors"


@pytest.mark.parametrize("spoil", [_digest, _images, _lost])
def test_all_readers_refuse_the_same_runs(
    tiny: Callable[..., Config], cell: Cell, spoil: Callable[[Config, Cell], str]
) -> None:
    config = tiny()
    write_history(config, cell)
    reason = spoil(config, cell)
    (missing,) = read_histories(config, [cell]).missing
    assert missing.startswith(f"{TINY_CELL} {reason}")
    (problem,) = read_choices(config).problems
    assert reason in problem
    written = write_events(config, ["table1"], paths.tensorboard_folder(config))
    assert (written.finished, written.unfinished) == (0, 0)
    assert reason in read_status(config, run_work(config, cell)).text


@pytest.mark.parametrize(
    ("device", "processes", "hours"), [("cuda", 1, 1.0), ("cuda", 4, 4.0), ("cpu", 2, 1.0)]
)
def test_hours_are_those_of_the_devices_held(device: str, processes: int, hours: float) -> None:
    assert RunSession(device=device, processes=processes, seconds=3600.0).hours == hours
