"""Ways in which somebody may change a results folder, checksums put right where it takes that."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from reproduce.cell import parse_cell
from reproduce.config.schema import Config
from reproduce.core.files import read_json, sha256_of_file, write_json
from reproduce.evaluation.records import Record, read_record, write_record
from reproduce.experiments import paths
from reproduce.experiments.history import read_epochs, write_epochs

CELL = parse_cell("digits/wrn-10-0.25/trades/lam-2/seed-0")
WIDE = parse_cell("digits/wrn-10-0.5/trades/lam-2/seed-0")


def folder_of(config: Config) -> Path:
    return paths.cell_folder(config, CELL)


def record_file_of(config: Config) -> Path:
    return paths.record_file(folder_of(config), "best-test", "pgd20", 0)


def _exact(config: Config, name: str, spoil: Callable[[Path], None]) -> str:
    spoil(paths.root(config) / name)
    return name


def _json(config: Config, name: str, change: Callable[[dict], None]) -> str:
    """Change a JSON file and put its own checksum right."""
    path = paths.root(config) / name
    told = read_json(path)
    change(told)
    write_json(path, told)
    return name


def _number_in_table(config: Config) -> str:
    def spoil(path: Path) -> None:
        text = path.read_text()
        assert ",10.0," in text
        path.write_text(text.replace(",10.0,", ",11.0,", 1))

    return _exact(config, "tables/table1.csv", spoil)


def _word_in_markdown(config: Config) -> str:
    def spoil(path: Path) -> None:
        path.write_text(path.read_text().replace("epochs", "epoch", 1))

    return _exact(config, "tables/table1.md", spoil)


def _verdict(config: Config) -> str:
    return _json(config, "claims.json", lambda told: told["claims"][0].update(verdict="holds"))


def _row(config: Config) -> str:
    def spoil(path: Path) -> None:
        frame = pd.read_parquet(path)
        frame.loc[0, "value"] += 0.5
        frame.to_parquet(path, index=False)

    return _exact(config, "results.parquet", spoil)


def _fit(config: Config) -> str:
    return _json(config, "lemma.json", lambda told: told["fits"][0].update(summary="tight"))


def _run(config: Config, change: Callable[[dict], None]) -> str:
    return _json(config, f"cells/{CELL}/run.json", change)


def _other_settings(config: Config) -> str:
    return _run(config, lambda told: told["spec"]["train"].update(learning_rate=0.2))


def _other_cell(config: Config) -> str:
    return _run(config, lambda told: told.update(cell=WIDE.id))


def _seconds(config: Config) -> str:
    return _run(config, lambda told: told.update(seconds=told["seconds"] + 1))


def _lambda(config: Config) -> str:
    _run(config, lambda told: told.update(final_lambda=3.0))
    return f"cells/{CELL}/trace.parquet"


def _final_metrics(config: Config) -> str:
    _run(config, lambda told: told["final_metrics"].update(test_robust_accuracy=50.0))
    return f"cells/{CELL}/epochs.csv"


def _better_epochs(config: Config) -> str:
    """A higher number, with its checksum put right: the chosen epoch is another one then."""
    path = paths.epochs_file(folder_of(config))
    frame = read_epochs(path, CELL, range(1, 4))
    best = read_json(paths.run_file(folder_of(config)))["checkpoint_epochs"]["best-test"]
    frame.loc[frame["epoch"] != best, "test_robust_accuracy"] = 90.0
    write_epochs(path, frame.to_dict("records"))
    _run(config, lambda told: told.update(epochs=sha256_of_file(path)))
    return f"cells/{CELL}/epochs.csv"


def _short_trace(config: Config) -> str:
    path = paths.trace_file(folder_of(config))
    pd.read_parquet(path).iloc[:-1].to_parquet(path, index=False)
    _run(config, lambda told: told.update(trace=sha256_of_file(path)))
    return f"cells/{CELL}/trace.parquet"


def _other_weights(config: Config) -> str:
    """Another run's checkpoint, with its checksum put right."""
    other = paths.model_file(paths.cell_folder(config, WIDE), "last")
    path = paths.model_file(folder_of(config), "last")
    shutil.copy(other, path)
    _run(config, lambda told: told["models"].update(last=sha256_of_file(path)))
    return f"cells/{CELL}/model-last.safetensors"


def _lost_model(config: Config) -> str:
    paths.model_file(folder_of(config), "best-test").unlink()
    return f"cells/{CELL}/model.safetensors"


def _summary(config: Config, **change: object) -> str:
    path = record_file_of(config).with_suffix(".json")
    write_json(path, read_json(path) | change)
    return f"cells/{CELL}/records/pgd20-seed0.npz"


def wrong_metrics(config: Config) -> str:
    told = read_json(record_file_of(config).with_suffix(".json"))["metrics"]
    return _summary(config, metrics=told | {"robust_accuracy": 99.0})


def _other_model(config: Config) -> str:
    return _summary(config, model_sha256="f" * 64)


def _a_package(config: Config) -> str:
    name = f"cells/{CELL}/records-last/square-seed0"
    _json(config, f"{name}.json", lambda told: told["spec"].update(package="antigravity"))
    return f"{name}.npz"


def rewritten(config: Config, change: Callable[[Record], None]) -> str:
    """Change the arrays of a record and put all of its checksums right."""
    path = record_file_of(config)
    record = read_record(path)
    change(record)
    write_record(path, record)
    return f"cells/{CELL}/records/pgd20-seed0.npz"


def _labels(config: Config) -> str:
    def change(record: Record) -> None:
        record.label[:] = np.roll(record.label, 1)
        correct = record.clean == record.label
        record.broken_by[:] = np.where(correct & (record.adversarial != record.label), 0, -1)

    return rewritten(config, change)


def _order(config: Config) -> str:
    return rewritten(config, lambda record: record.index.sort() or np.copyto(record.index, 3))


def _broken(config: Config) -> str:
    return rewritten(config, lambda record: np.copyto(record.broken_by, 0))


def _a_class(config: Config) -> str:
    return rewritten(config, lambda record: np.copyto(record.adversarial, 11))


SPOILT = {
    "differs": (_number_in_table, _word_in_markdown, _verdict, _row, _fit, _other_model, _labels),
    "damaged": (
        _other_settings,
        _other_cell,
        _seconds,
        _lambda,
        _final_metrics,
        _better_epochs,
        _short_trace,
        _other_weights,
        _lost_model,
        wrong_metrics,
        _a_package,
        _order,
        _broken,
        _a_class,
    ),
}
