"""Files that are whole and say what harms or cannot be; each names the file that is found out."""

import json
import shutil
from pathlib import Path

import numpy as np

from reproduce.cell import parse_cell
from reproduce.config.schema import Config
from reproduce.core.files import read_json, sha256_of_file, write_json
from reproduce.evaluation.records import read_record
from reproduce.experiments import paths
from reproduce.experiments.spec import TrainingSpec
from reproduce.models.load import read_weights, save_weights

CELL = parse_cell("digits/wrn-10-0.25/trades/lam-2/seed-0")
RECORD = f"cells/{CELL}/records/pgd20-seed0.npz"


def root_of(config: Config) -> Path:
    return paths.root(config)


def run_of(config: Config) -> Path:
    return paths.run_file(paths.cell_folder(config, CELL))


def sealed_by_them(path: Path) -> None:
    """Put the checksum of a record's arrays right, as whoever sends it would."""
    summary = path.with_suffix(".json")
    write_json(summary, read_json(summary) | {"record_sha256": sha256_of_file(path)})


def _an_id_that_lies(config: Config) -> str:
    source = paths.cell_folder(config, CELL)
    shutil.copytree(source, source.with_name("seed-1"))
    return f"cells/{str(CELL).replace('seed-0', 'seed-1')}/run.json"


def _a_cell_of_a_monstrous_network(config: Config) -> str:
    run_of(config).rename(run_of(config).with_name("run.txt"))
    source, name = paths.cell_folder(config, CELL), "wrn-9994-9999"
    target = root_of(config) / "cells" / "digits" / name / "trades" / "lam-2" / "seed-0"
    shutil.copytree(source, target)
    (target / "run.txt").rename(target / "run.json")
    told = read_json(target / "run.json")
    cell = f"digits/{name}/trades/lam-2/seed-0"
    told["cell"] = told["spec"]["cell"] = cell
    told["digest"] = TrainingSpec.model_validate(told["spec"]).digest
    write_json(target / "run.json", told)
    return f"cells/{cell}/model.safetensors"


def _a_cell_of_no_name(config: Config) -> str:
    target = (
        root_of(config) / "cells" / "digits" / "wrn-10-0.25" / "trades" / "lam-2" / "seed-\x1b[2J"
    )
    shutil.copytree(paths.cell_folder(config, CELL), target)
    return str(target.relative_to(root_of(config)))


def _nan(config: Config) -> str:
    told = read_json(run_of(config))
    told["final_metrics"]["test_robust_accuracy"] = float("nan")
    # JSON that write_json refuses
    run_of(config).write_text(json.dumps(told))
    return f"cells/{CELL}/run.json"


def _seconds_beyond_all_numbers(config: Config) -> str:
    told = read_json(run_of(config))
    told["pieces"] = [told["pieces"][0] | {"seconds": 1e308}] * 2
    write_json(run_of(config), told)
    return f"cells/{CELL}/run.json"


def _places_that_wrap_around(config: Config) -> str:
    """Numbers of images whose differences are all positive in 64 bits."""
    path = root_of(config) / RECORD
    record = read_record(path)
    index = np.arange(len(record.index))
    index[1:4] = 2**62, 2**63 - 1, -(2**62)
    arrays = {k: getattr(record, k) for k in ("label", "clean", "adversarial", "broken_by")}
    with path.open("wb") as handle:
        np.savez(handle, index=index, **arrays)
    sealed_by_them(path)
    return RECORD


def _nan_weights(config: Config) -> str:
    path = paths.model_file(paths.cell_folder(config, CELL), "last")
    weights, told = read_weights(path), read_json(run_of(config))
    next(w for w in weights.values() if w.is_floating_point()).fill_(float("nan"))
    about = {"cell": str(CELL), "digest": told["digest"], "checkpoint": "last"}
    save_weights(path, weights, about)
    told["models"]["last"] = sha256_of_file(path)
    write_json(run_of(config), told)
    return f"cells/{CELL}/model-last.safetensors"


def _a_billion_epochs(config: Config) -> str:
    told = read_json(run_of(config))
    told["spec"]["train"]["epochs"] = 10**9
    # no settings have so many, so there is no digest of them either
    told["digest"] = "0" * 12
    write_json(run_of(config), told)
    return f"cells/{CELL}/run.json"


def _a_billion_images(config: Config) -> str:
    told = read_json(run_of(config))
    told["data"]["train"] = 10**15
    told["spec"]["train_images"] = None
    told["digest"] = TrainingSpec.model_validate(told["spec"]).digest
    write_json(run_of(config), told)
    return f"cells/{CELL}/trace.parquet"


def _words_for_the_terminal(config: Config) -> str:
    told = read_json(run_of(config))
    told["spec"]["train"]["schedule"] = "\x1b]0;owned\x07\x1b[31m\u202e{0.__class__}%s%n"
    write_json(run_of(config), told)
    return f"cells/{CELL}/run.json"


CONTENTS = (
    _an_id_that_lies,
    _a_cell_of_a_monstrous_network,
    _a_cell_of_no_name,
    _nan,
    _seconds_beyond_all_numbers,
    _places_that_wrap_around,
    _nan_weights,
    _a_billion_epochs,
    _a_billion_images,
    _words_for_the_terminal,
)
