"""The one reader: which records and runs count, what is said of others, and results.parquet."""

import re
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from histories import made_up_epochs, write_history
from made_up import fill, write_made_up, write_run
from small_runs import EPOCHS, STEPS, quiet, stop_at

from reproduce.cell import Cell, parse_cell
from reproduce.config.load import load_config
from reproduce.config.schema import Config
from reproduce.core.errors import Stopped
from reproduce.core.files import read_json, write_json
from reproduce.evaluation.records import Record, write_record
from reproduce.experiments import paths, runs
from reproduce.experiments.grids import Evaluation, find_experiment
from reproduce.experiments.runs import RunInfo, load_run
from reproduce.experiments.spec import attack_spec, training_spec
from reproduce.results.frames import COLUMNS, collect, read_histories, tidy_results, write_results
from reproduce.results.reader import find_record, is_evaluated
from reproduce.results.status import plan, status_frame
from reproduce.tables.checkpoints import read_choices
from reproduce.tables.tensorboard import write_events
from reproduce.training.train import train_cell

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


def test_a_row_for_every_metric_with_every_field(config: Config) -> None:
    piece = {"name": "a card", "commit": "abc"}
    item = _one(config, pieces=[piece, piece, {**piece, "commit": "def"}], seconds=7.5)
    path = paths.run_file(paths.cell_folder(config, item.cell))
    ours = {**piece, "device": "cuda", "processes": 2, "seconds": 4500}
    more = {"pieces": [ours], "checkpoint_epochs": {"best-test": 76}}
    write_json(path, read_json(path) | more)
    tidy = tidy_results(config)
    assert tidy.left_out == ()
    assert tidy.records == 1
    rows = tidy.frame.set_index("metric")
    # 5 of the 10 images that are wrong on x are stable
    assert rows["value"].to_dict() == {
        "robust_accuracy": 30.0,
        "natural_accuracy": 90.0,
        "perturbation_stability": 35.0,
    }
    shared = rows.drop(columns="value").drop_duplicates()
    assert len(shared) == 1
    cell, run = item.cell, read_json(path)
    network = cell.architecture.split("-")
    expected = {
        "model": cell.id,
        "origin": "trained",
        "dataset": "cifar10",
        "architecture": cell.architecture,
        "family": "wrn",
        "depth": int(network[1]),
        "width": float(network[2]),
        "method": "trades",
        "objective": "trades",
        "lambda_rule": "constant",
        "weight_perturbation": "none",
        "batches": "labelled",
        "lambda": cell.lam,
        "training_seed": cell.seed,
        "checkpoint": "best-test",
        "checkpoint_epoch": 76,
        "attack": "pgd20",
        "attack_kind": "pgd",
        "epsilon": 8 / 255,
        "attack_seed": 0,
        "images": 100,
        "test_images": 10_000,
        "recovered": 0,
        "final_lambda": cell.lam,
        "device_hours": 2.5,
        "training_seconds": 3600.0,
        "evaluation_seconds": 7.5,
        "training_hardware": "made up",
        "training_precision": None,
        "evaluation_hardware": "a card",
        "training_commit": "abc",
        "evaluation_commit": "abc and def",
        "training_digest": run["digest"],
        "model_sha256": run["models"]["best-test"],
        "official_data": True,
    }
    record = shared.iloc[0].to_dict()
    assert len(record.pop("evaluation_digest")) == 12
    assert record == expected


def test_records_that_no_experiment_asks_for_count_too(config: Config) -> None:
    item = _one(config)
    index = np.arange(100)
    path = paths.run_file(paths.cell_folder(config, item.cell))
    run = read_json(path)
    run["models"]["last"] = run["models"]["best-test"]
    write_json(path, run)
    beside = Evaluation(item.cell, "last", "square", 7)
    write_made_up(config, beside, index, index < 10, every_image=False)
    elsewhere = Evaluation(parse_cell("cifar10/wrn-16-4/mart/lam-5/seed-9"), "best-test", "fab", 0)
    write_run(config, elsewhere)
    write_made_up(config, elsewhere, index, index < 20)
    frame = tidy_results(config).frame
    robust = frame[frame["metric"] == "robust_accuracy"]
    assert sorted(robust["value"]) == [10.0, 20.0, 30.0]
    last = frame[frame["checkpoint"] == "last"]
    # Square leaves alone what is wrong already: it cannot tell stability
    assert set(last["metric"]) == {"robust_accuracy", "natural_accuracy"}
    assert set(last["attack_kind"]) == {"square"}
    assert set(frame.loc[frame["method"] == "mart", "objective"]) == {"mart"}


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda _, path: path.write_bytes(b"no zip"), "does not match its checksum"),
        (lambda _, path: path.with_suffix(".json").write_text("[]"), "holds no JSON object"),
        (lambda run, _: run.unlink(), "has lost its run.json"),
        (lambda run, _: write_json(run, {**read_json(run), "models": {}}), "of other weights"),
        (lambda run, _: write_json(run, {**read_json(run), "pieces": "?"}), "'pieces'"),
        (lambda _, path: path.rename(path.with_stem("pgd7-seed0")), "no attack of the config"),
        (lambda _, path: path.rename(path.with_stem("pgd20-n10-seed0")), "no attack of the config"),
        (lambda _, path: path.parent.rename(path.parents[1] / "records-best"), "no checkpoint"),
        (lambda _, path: path.parents[1].rename(path.parents[2] / "seed-x"), "unknown cell id"),
    ],
)
def test_what_does_not_count_is_named(config: Config, spoil: Callable, reason: str) -> None:
    item = _one(config)
    assert is_evaluated(config, item)
    folder = paths.cell_folder(config, item.cell)
    record = paths.record_file(folder, "best-test", "pgd20", 0)
    spoil(paths.run_file(folder), record)
    tidy = tidy_results(config)
    assert len(tidy.frame) == tidy.records == 0
    (line,) = tidy.left_out
    assert reason in line
    assert str(config.results) in line
    # what an experiment asks for is refused for the same reason, or not there
    experiment = find_experiment(config, "table1")
    results = collect(config, experiment)
    found = find_record(config, item)
    assert results.problems == ((found.reason,) if found.status == "unusable" else ())
    assert found.status == ("unusable" if record.is_file() else "missing")
    assert found.reason in ("", line, line.removeprefix(f"{record}: "))
    assert results.missing == len(experiment.evaluations)
    assert not is_evaluated(config, item)
    assert plan(config, ["table1"])[0].evaluated == 0


def test_other_settings_are_left_out(config: Config, tmp_path: Path) -> None:
    item = _one(config)
    other = load_config("{}", "paper", [f"results={tmp_path / 'results'}", "train.momentum=0.5"])
    tidy = tidy_results(other)
    assert tidy.frame.empty
    assert "was made with other settings" in tidy.left_out[0]
    write_run(other, item)
    assert "was made with other settings" in tidy_results(other).left_out[0]


def _published(config: Config, folder: str, model: str, **data: object) -> None:
    index = np.arange(100)
    info = {
        "model": model,
        "digest": attack_spec(config, "autoattack", 0, "cifar10").digest,
        "model_sha256": "0",
        "parts": ["apgd-ce", "apgd-t", "fab-t", "square"],
        "every_image": False,
        "warnings": [],
        **data,
    }
    adversarial = np.where(index < 60, index, index + 1)
    record = Record(index, index % 10, index % 10, adversarial % 10, index * 0 - 1, info)
    path = paths.published_record(config, "cifar10", folder, "autoattack", 0)
    write_record(path, record)


def test_published_networks_have_no_cell(config: Config) -> None:
    data = {"data": {"train": 50_000, "test": 10_000, "official": True}}
    _published(config, "Carmon2019Unlabeled", "Carmon2019Unlabeled", **data)
    _published(config, "wrn-0123456789ab", "wrn", **data)
    item = find_experiment(config, "table4").published
    assert "Carmon2019Unlabeled" in {one.name for one in item}
    _published(config, "Rice2020Overfitting", "Rice2020Overfitting")
    tidy = tidy_results(config)
    robust = tidy.frame[tidy.frame["metric"] == "robust_accuracy"].set_index("model")
    assert robust["origin"].to_dict() == {
        "Carmon2019Unlabeled": "published",
        "wrn-0123456789ab": "other",
    }
    assert robust["value"].tolist() == [60.0, 60.0]
    of_cells = list(COLUMNS)[list(COLUMNS).index("architecture") : list(COLUMNS).index("attack")]
    assert robust[of_cells].isna().all().all()
    assert robust["dataset"].tolist() == ["cifar10", "cifar10"]
    (line,) = tidy.left_out
    assert "Rice2020Overfitting" in line
    assert "'data'" in line


def test_the_file_reads_back_with_its_types(config: Config) -> None:
    write_results(config)
    path = paths.results_file(config)
    assert pd.read_parquet(path).astype(str).shape == (0, len(COLUMNS))
    fill(config, _numbers, images=100)
    tidy = write_results(config)
    read = pd.read_parquet(path)
    assert {name: str(kind) for name, kind in read.dtypes.items()} == COLUMNS
    pd.testing.assert_frame_equal(read, tidy.frame)
    assert len(read) == 3 * 12
    assert tidy.records == 12
    first = path.read_bytes()
    write_results(config)
    assert path.read_bytes() == first


def test_every_column_is_documented() -> None:
    rows = re.findall(r"^\| (`[^|]+`) \| (\w+) \|", PAGE, re.MULTILINE)
    kinds = {name: kind for names, kind in rows for name in re.findall(r"`(\w+)`", names)}
    plain = {"Int64": "int", "int64": "int", "float64": "float", "boolean": "bool"}
    assert kinds == {name: plain.get(kind, kind) for name, kind in COLUMNS.items()}


def test_the_examples_of_the_page(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Both are run as they stand there, and agree with the numbers they were made from."""
    fill(config, _numbers, images=1000)
    write_results(config)
    monkeypatch.chdir(config.results.parent)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (query,) = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    lines = [line for line in code.splitlines() if line and not line.startswith("import")]
    assert len(lines) == len(query.splitlines()) == 3
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
    exec(code, {})
    assert "cifar10" in capsys.readouterr().out


def test_the_command(config: Config, run_command: Callable[..., str]) -> None:
    item = _one(config)
    beside = paths.cell_folder(config, item.cell) / "records" / "old-seed0.npz"
    beside.write_bytes(b"")
    out = run_command(config, "results")
    assert f"Left out: {beside} is of no attack of the configuration" in out
    assert "3 rows from 1 records" in out
    assert f"Written: {paths.results_file(config)}" in out
    assert len(pd.read_parquet(paths.results_file(config))) == 3
    assert "unknown key 'x'" in run_command(config, "results", "--set", "x=1", status=1)


def test_a_run_that_ends_while_it_is_looked_at(
    tiny: Callable[..., Config], cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at run.json and the one at the state the state goes: the run is done."""
    config = tiny()
    with pytest.raises(Stopped):
        train_cell(config, cell, quiet, stop_at(STEPS + 3))
    state_file, looked = runs.state_file, []

    def end(*place: object) -> object:
        if not looked:
            looked.append(place)
            train_cell(config, cell, quiet)
        return state_file(*place)

    monkeypatch.setattr(runs, "state_file", end)
    histories = read_histories(config, [cell])
    assert (len(looked), len(histories.traces), histories.missing) == (1, EPOCHS * STEPS, ())


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


def _cut(config: Config, cell: Cell) -> str:
    folder = paths.cell_folder(config, cell)
    paths.run_file(folder).unlink()
    state = runs.state_file(folder, training_spec(config, cell).digest)
    state.write_bytes(b"cut")
    return f"the saved state {state} is damaged"


@pytest.mark.parametrize("spoil", [_digest, _images, _lost, _cut])
def test_all_readers_refuse_the_same_runs(
    tiny: Callable[..., Config], cell: Cell, spoil: Callable[[Config, Cell], str]
) -> None:
    config = tiny()
    write_history(config, cell)
    assert load_run(config, cell).problem is None
    reason = spoil(config, cell)
    (missing,) = read_histories(config, [cell]).missing
    assert missing == paths.shortened(config, str(load_run(config, cell).problem))
    assert reason in str(load_run(config, cell).problem)
    (problem,) = read_choices(config).problems
    assert reason in problem
    written = write_events(config, ["table1"], paths.tensorboard_folder(config))
    assert (written.finished, written.unfinished) == (0, 0)
    row = status_frame(config, ["table1"]).set_index("name").loc[cell.id]
    assert reason in (row["reason"] if spoil is _cut else row["text"])


@pytest.mark.parametrize("file", [paths.trace_file, paths.epochs_file])
def test_a_damaged_history_is_named_and_the_rest_is_read(
    tiny: Callable[..., Config], cell: Cell, file: Callable[[Path], Path]
) -> None:
    write_history(tiny(), cell, epochs=made_up_epochs(cell)[:EPOCHS])
    path = file(paths.cell_folder(tiny(), cell))
    path.write_bytes(path.read_bytes()[:-9])
    histories = read_histories(tiny(), [cell])
    (missing,) = histories.missing
    assert path.name in missing
    assert "damaged" in missing
    assert histories.traces.empty is (file is paths.trace_file)
    assert histories.epochs.empty is (file is paths.epochs_file)


@pytest.mark.parametrize(
    ("device", "processes", "hours"), [("cuda", 1, 1.0), ("cuda", 4, 4.0), ("cpu", 2, 1.0)]
)
def test_hours_are_those_of_the_devices_held(
    config: Config, device: str, processes: int, hours: float
) -> None:
    item = _one(config)
    run = read_json(paths.run_file(paths.cell_folder(config, item.cell)))
    segment = {"device": device, "name": "", "processes": processes, "seconds": 3600.0}
    assert RunInfo.model_validate({**run, "pieces": [segment]}).hours == hours
