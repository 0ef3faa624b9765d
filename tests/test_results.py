"""The one reader: which records and runs count, what is said of others, and results.parquet."""

import re
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from histories import EPOCHS, STEPS, write_history
from made_up import fill, write_made_up, write_run

from reproduce.cell import Cell, parse_cell
from reproduce.config.load import load_config
from reproduce.config.schema import Config
from reproduce.core.files import read_json, write_json
from reproduce.evaluation.records import Record, write_record
from reproduce.experiments import paths, runs
from reproduce.experiments.grids import Evaluation, find_experiment
from reproduce.experiments.runs import RunSegment, load_run
from reproduce.experiments.spec import attack_spec, training_spec
from reproduce.results.frames import COLUMNS, collect, read_histories, tidy_results, write_results
from reproduce.results.reader import find_record, is_evaluated
from reproduce.results.status import plan, status_frame
from reproduce.tables.checkpoints import read_choices
from reproduce.tables.tensorboard import write_events

PAGE = (ROOT / "docs" / "results.md").read_text()


def _numbers(cell: Cell) -> tuple[float, float]:
    return 40.0 + cell.lam + cell.seed, 80.0 - cell.lam


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Four cells of the paper with three seeds each."""
    grid = "experiments.table1={architectures: [wrn-34-1, wrn-34-5], methods: {trades: [6, 9]}}"
    return load_config("{}", "paper", [f"results={tmp_path / 'results'}", grid])


def _one(config: Config, **about: object) -> Evaluation:
    """Make up one run and its record, of which 30 of 100 images hold."""
    item = find_experiment(config, "table1").evaluations[0]
    index = np.arange(100)
    write_run(config, item)
    write_made_up(config, item, index, index < 30, index < 90, **about)
    return item


def _run_file(config: Config, cell: Cell) -> Path:
    return paths.run_file(paths.cell_folder(config, cell))


def _change(path: Path, **changes: object) -> None:
    write_json(path, read_json(path) | changes)


def test_a_row_for_every_metric_with_every_field(config: Config) -> None:
    piece = {"name": "a card", "commit": "abc"}
    item = _one(config, pieces=[piece, piece, {**piece, "commit": "def"}], seconds=7.5)
    ours = {**piece, "device": "cuda", "processes": 2, "seconds": 4500}
    _change(_run_file(config, item.cell), pieces=[ours], checkpoint_epochs={"best-test": 76})
    tidy = tidy_results(config)
    assert (tidy.left_out, tidy.records) == ((), 1)
    rows = tidy.frame.set_index("metric")
    # 5 of the 10 images that are wrong on x are stable
    assert rows["value"].to_dict() == {
        "robust_accuracy": 30.0,
        "natural_accuracy": 90.0,
        "perturbation_stability": 35.0,
    }
    shared = rows.drop(columns="value").drop_duplicates()
    assert len(shared) == 1
    record = shared.iloc[0].to_dict()
    expected = {
        "model": item.cell.id,
        "origin": "trained",
        "architecture": "wrn-34-1",
        "depth": 34,
        "width": 1.0,
        "objective": "trades",
        "lambda": item.cell.lam,
        "training_seed": item.cell.seed,
        "checkpoint": "best-test",
        "checkpoint_epoch": 76,
        "attack": "pgd20",
        "epsilon": 8 / 255,
        "images": 100,
        "test_images": 10_000,
        "device_hours": 2.5,
        "training_seconds": 3600.0,
        "evaluation_seconds": 7.5,
        "training_precision": None,
        "evaluation_hardware": "a card",
        "evaluation_commit": "abc and def",
        "training_digest": training_spec(config, item.cell).digest,
        "evaluation_digest": item.spec(config).digest,
        "official_data": True,
    }
    assert expected.items() <= record.items()
    assert pd.isna([value for key, value in record.items() if key not in expected]).sum() == 0


def test_records_that_no_experiment_asks_for_count_too(config: Config) -> None:
    item, index = _one(config), np.arange(100)
    models = read_json(_run_file(config, item.cell))["models"]
    _change(_run_file(config, item.cell), models=models | {"last": models["best-test"]})
    beside = Evaluation(item.cell, "last", "square", 7)
    write_made_up(config, beside, index, index < 10, every_image=False)
    elsewhere = Evaluation(parse_cell("cifar10/wrn-16-4/mart/lam-5/seed-9"), "best-test", "fab", 0)
    write_run(config, elsewhere)
    write_made_up(config, elsewhere, index, index < 20)
    frame = tidy_results(config).frame
    robust = frame[frame["metric"] == "robust_accuracy"]
    assert sorted(robust["value"]) == [10.0, 20.0, 30.0]
    # Square leaves alone what is wrong already: it cannot tell stability
    last = frame[frame["checkpoint"] == "last"]
    assert set(last["metric"]) == {"robust_accuracy", "natural_accuracy"}


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda _, path: path.write_bytes(b"no zip"), "does not match its checksum"),
        (lambda _, path: path.with_suffix(".json").write_text("[]"), "it is not JSON"),
        (lambda _, path: _change(path.with_suffix(".json"), digest="0"), "other settings"),
        (lambda run, _: run.unlink(), "has lost its run.json"),
        (lambda run, _: _change(run, models={}), "of other weights"),
        (lambda run, _: _change(run, pieces="?"), "'pieces'"),
        (lambda _, path: path.rename(path.with_stem("pgd7-seed0")), "no attack of the config"),
        (lambda _, path: path.parent.rename(path.parents[1] / "records-best"), "no checkpoint"),
        (lambda _, path: path.parents[1].rename(path.parents[2] / "seed-x"), "unknown cell id"),
    ],
)
def test_what_does_not_count_is_named(config: Config, spoil: Callable, reason: str) -> None:
    item = _one(config)
    assert is_evaluated(config, item)
    record = paths.record_file(paths.cell_folder(config, item.cell), "best-test", "pgd20", 0)
    spoil(_run_file(config, item.cell), record)
    tidy = tidy_results(config)
    assert len(tidy.frame) == tidy.records == 0
    (line,) = tidy.left_out
    assert reason in line
    assert str(config.results) in line
    # what an experiment asks for is refused for the same reason, or not there
    found = find_record(config, item)
    assert found.status == ("unusable" if record.is_file() else "missing")
    assert found.reason in ("", line, line.removeprefix(f"{record}: "))
    results = collect(config, find_experiment(config, "table1"))
    assert results.problems == ((found.reason,) if found.status == "unusable" else ())
    assert results.missing == results.planned
    assert plan(config, ["table1"])[0].evaluated == 0


def test_published_networks_have_no_cell(config: Config) -> None:
    index = np.arange(100)
    info = {
        "digest": attack_spec(config, "autoattack", 0, "cifar10").digest,
        "model_sha256": "0",
        "parts": ["apgd-ce", "apgd-t", "fab-t", "square"],
        "every_image": False,
        "warnings": [],
        "data": {"train": 50_000, "test": 10_000, "official": True},
    }
    origins = {"Carmon2019Unlabeled": "published", "wrn-0123456789ab": "other"}
    for folder in origins:
        model = {"model": folder.removesuffix("-0123456789ab")}
        adversarial = np.where(index < 60, index, index + 1) % 10
        record = Record(index, index % 10, index % 10, adversarial, index * 0 - 1, info | model)
        write_record(paths.published_record(config, "cifar10", folder, "autoattack", 0), record)
    frame = tidy_results(config).frame
    robust = frame[frame["metric"] == "robust_accuracy"].set_index("model")
    assert robust["origin"].to_dict() == origins
    assert robust["value"].tolist() == [60.0, 60.0]
    of_cells = list(COLUMNS)[list(COLUMNS).index("architecture") : list(COLUMNS).index("attack")]
    assert robust[of_cells].isna().all().all()
    assert robust["dataset"].tolist() == ["cifar10", "cifar10"]


def test_the_file_reads_back_with_its_types(config: Config) -> None:
    write_results(config)
    path = paths.results_file(config)
    assert pd.read_parquet(path).astype(str).shape == (0, len(COLUMNS))
    fill(config, _numbers, images=100)
    tidy = write_results(config)
    read = pd.read_parquet(path)
    assert {name: str(kind) for name, kind in read.dtypes.items()} == COLUMNS
    pd.testing.assert_frame_equal(read, tidy.frame)
    assert (len(read), tidy.records) == (3 * 12, 12)
    first = path.read_bytes()
    write_results(config)
    assert path.read_bytes() == first


def test_every_column_is_documented() -> None:
    rows = re.findall(r"^\| (`[^|]+`) \| (\w+) \|", PAGE, re.MULTILINE)
    kinds = {name: kind for names, kind in rows for name in re.findall(r"`(\w+)`", names)}
    plain = {"Int64": "int", "int64": "int", "float64": "float", "boolean": "bool"}
    assert kinds == {name: plain.get(kind, kind) for name, kind in COLUMNS.items()}


def test_the_examples_of_the_page(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are run as they are, and agree with the numbers they were made from."""
    fill(config, _numbers, images=100)
    write_results(config)
    monkeypatch.chdir(config.results.parent)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (query,) = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, pd.DataFrame] = {}
    exec(code.replace("print(", "shown = ("), names)
    shown = names["shown"][["mean", "std", "count"]]
    seeds = config.experiments.table1.seeds
    expected = [46.0 + seed for seed in seeds]
    keys = ("cifar10", "best-test", "pgd20", "trades", 6.0, 5.0)
    assert shown.loc[keys].tolist() == [np.mean(expected), np.std(expected, ddof=1), len(seeds)]
    rows = duckdb.sql(query).df()
    assert list(rows.columns) == [*shown.index.names, "mean", "std", "n"]
    rows = rows.set_index(shown.index.names)
    assert rows.index.equals(shown.index)
    np.testing.assert_allclose(rows, shown)


def test_a_run_that_ends_while_it_is_looked_at(
    tiny: Callable[..., Config], cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at run.json and the one at the state the state goes: the run is done."""
    config, state_file = tiny(), runs.state_file

    def end(*place: object) -> object:
        write_history(config, cell)
        return state_file(*place)

    monkeypatch.setattr(runs, "state_file", end)
    histories = read_histories(config, [cell])
    assert (len(histories.traces), histories.missing) == (EPOCHS * STEPS, ())


def _cut(run: Path, state: Path) -> None:
    run.unlink()
    state.write_bytes(b"cut")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda run, _: _change(run, digest="another"), "was trained with other settings"),
        (
            lambda run, _: _change(run, data=read_json(run)["data"] | {"sha256": "another"}),
            "was trained with other images",
        ),
        (
            lambda run, _: paths.model_file(run.parent, "last").unlink(),
            "has lost model-last.safetensors",
        ),
        (_cut, "is damaged; delete it to start this run again"),
    ],
)
def test_all_readers_refuse_the_same_runs(
    tiny: Callable[..., Config], cell: Cell, spoil: Callable[[Path, Path], None], reason: str
) -> None:
    config = tiny()
    write_history(config, cell)
    assert load_run(config, cell).problem is None
    folder = paths.cell_folder(config, cell)
    spoil(paths.run_file(folder), runs.state_file(folder, training_spec(config, cell).digest))
    assert reason in str(load_run(config, cell).problem)
    for (line,) in (read_histories(config, [cell]).missing, read_choices(config).problems):
        assert reason in line
    written = write_events(config, ["table1"], paths.tensorboard_folder(config))
    assert (written.finished, written.unfinished) == (0, 0)
    row = status_frame(config, ["table1"]).loc[cell]
    assert reason in (row["reason"] if spoil is _cut else row["text"])


def test_processes_on_a_cpu_share_its_hours() -> None:
    assert RunSegment(device="cpu", processes=2, seconds=3600.0).hours == 1


@pytest.mark.parametrize("file", [paths.trace_file, paths.epochs_file])
def test_a_damaged_history_is_named_and_the_rest_is_read(
    tiny: Callable[..., Config], cell: Cell, file: Callable[[Path], Path]
) -> None:
    write_history(tiny(), cell)
    path = file(paths.cell_folder(tiny(), cell))
    path.write_bytes(path.read_bytes()[:-9])
    histories = read_histories(tiny(), [cell])
    (missing,) = histories.missing
    assert f"{path.name} is damaged" in missing
    assert histories.traces.empty is (file is paths.trace_file)
    assert histories.epochs.empty is (file is paths.epochs_file)
