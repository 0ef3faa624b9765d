"""Table 5 on a small folder of images: through the command line, stopped, in low precision."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import ROOT
from image_folder import make_folder
from safetensors.torch import load_file
from small_runs import never, quiet, results, stop_at

from reproduce.cell import parse_cell
from reproduce.config.load import load_config
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError, Stopped
from reproduce.data.sources import prepare
from reproduce.evaluation.evaluate import evaluate_cell
from reproduce.experiments import paths
from reproduce.experiments.spec import attack_spec
from reproduce.training.train import train_cell

CELL = parse_cell("imagenet/wrn-50-0.0625/fast-at/lam-1/seed-0")
# 24 images: 2 steps on 24 pixels, then 3 on 32
SMALL = [
    "data.imagenet_crop=32",
    "machine={device: cpu, loaders: 0, compile: never}",
    "train_for.fast-at.epochs=2",
    "train_for.fast-at.rates=[[0, 0], [1, 0.05], [2, 0.01]]",
    "train_for.fast-at.phases=[{epochs: 1, batch_size: 12, crop: 24, resize: 32}, "
    "{epochs: 1, batch_size: 8, crop: 32}]",
    "eval.attacks.pgd50={steps: 3, restarts: 2}",
    "experiments.table5.architectures=[wrn-50-0.0625, wrn-50-0.125]",
]


def _config(folder: Path, results_in: Path, *sets: str) -> Config:
    places = [
        f"data.folder={folder / 'data'}",
        f"data.imagenet={folder / 'images'}",
        f"results={results_in / 'results'}",
    ]
    return load_config("{}", "paper", [*places, *SMALL, *sets])


def _prepared(root: Path) -> Config:
    """Make a folder with images, and data/ from them."""
    make_folder(root / "images", train=4, val=1)
    config = _config(root, root)
    prepare(config.data, "imagenet", paths.prepared_file(config, "imagenet"), quiet)
    return config


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data, and a run that was trained in one segment."""
    root = tmp_path_factory.mktemp("table5")
    train_cell(_prepared(root), CELL, quiet, never)
    return root


@pytest.fixture
def trained(folder: Path) -> Config:
    return _config(folder, folder)


@pytest.fixture
def small(tmp_path: Path, folder: Path) -> Callable[..., Config]:
    return lambda *sets: _config(folder, tmp_path, *sets)


@pytest.mark.slow
def test_the_whole_table(trained: Config, run_command: Callable[..., str]) -> None:
    wide = CELL.id.replace("0.0625", "0.125")
    run_command(trained, "prepare", "imagenet")
    run_command(trained, "train", wide)
    for cell in (CELL.id, wide):
        run_command(trained, "evaluate", cell, "--attack", "pgd50")
    table = run_command(trained, "table", "table5")
    assert "Natural top-5 w=0.125" in table
    assert "no result yet" not in table
    diff = run_command(trained, "diff", "table5")
    assert "imagenet has 24 training and 6 test images here, officially 1281167 and 50000" in diff
    assert run_command(trained, "status", "table5").count("trained") == 2


def test_what_a_run_leaves(trained: Config) -> None:
    folder = paths.cell_folder(trained, CELL)
    run = json.loads((folder / "run.json").read_text())
    assert run["spec"]["train"]["precision"] == "bf16"
    assert (run["data"]["train"], run["data"]["test"]) == (24, 6)
    trace = pd.read_parquet(paths.trace_file(folder))
    assert (trace["natural_risk"] == 0).all()
    assert (trace["robust_regularization"] > 0).all()
    # the rate at the end of every step, on straight lines
    rates = [0.05 * step / 2 for step in range(1, 3)]
    rates += [0.05 - 0.04 * step / 3 for step in range(1, 4)]
    assert trace["learning_rate"].tolist() == pytest.approx(rates)
    epochs = pd.read_csv(paths.epochs_file(folder))
    best = int(epochs["test_natural_accuracy"].idxmax()) + 1
    assert run["checkpoint_epochs"] == {"best-test": best, "last": 2}
    assert load_file(folder / "model-last.safetensors")["fc.weight"].dtype == torch.float32
    record = evaluate_cell(trained, CELL, "pgd50", 0, "best-test", quiet)
    assert record.top5 is not None
    assert record.metrics.top5_natural_accuracy == pytest.approx(100 * record.top5.mean())
    # what chose the epoch is what the attack finds on clean images
    assert record.metrics.natural_accuracy == pytest.approx(epochs["test_natural_accuracy"].max())
    assert (record.info["spec"]["epsilon"], record.info["spec"]["crop"]) == (4 / 255, 32)


@pytest.mark.parametrize("asked", [4, pytest.param(6, marks=pytest.mark.slow)])
def test_a_stopped_run_continues_exactly(trained: Config, small, asked: int) -> None:
    """Within the second epoch, and in the validation after it."""
    config = small("machine.loaders=1")
    with pytest.raises(Stopped):
        train_cell(config, CELL, quiet, stop_at(asked))
    train_cell(config, CELL, quiet, never)
    assert results(trained, CELL) == results(config, CELL)


@pytest.mark.slow
def test_other_methods_train_on_a_folder(small) -> None:
    """On whole images in one phase, measured under attack from starts of each image's own."""
    config = small("train.epochs=1", "train.batch_size=16", "train.attack.steps=1")
    cell = replace(CELL, method="at")
    train_cell(config, cell, quiet, never)
    epochs = pd.read_csv(paths.epochs_file(paths.cell_folder(config, cell)))
    assert "test_robust_accuracy" in epochs


@pytest.mark.slow
def test_a_signal_to_all_processes_stops_the_run_cleanly(small) -> None:
    """Those that decode are not taken down before the state is saved, and do not stay."""
    phases = "train_for.fast-at.phases=[{epochs: 5000, batch_size: 12, crop: 24}]"
    config = small("train_for.fast-at.epochs=5000", phases, "machine.loaders=2")
    command = ["train", CELL.id, "--config", config.model_dump_json()]
    process = subprocess.Popen(
        [sys.executable, "-m", "reproduce", *command],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        assert process.stderr is not None
        assert "epoch 1/5000" in process.stderr.readline()
        os.killpg(process.pid, signal.SIGTERM)
        said = process.stderr.read()
        assert process.wait(timeout=600) == 75
    assert "stopped by SIGTERM" in said.splitlines()[-1]
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_an_image_lost_after_preparation(tmp_path: Path) -> None:
    config = _prepared(tmp_path)
    (tmp_path / "images" / "train" / "n005" / "n005_2.JPEG").unlink()
    with pytest.raises(HarnessError, match=r"image .*n005_2.JPEG cannot be read: .*No such file"):
        train_cell(config, CELL, quiet, never)


@pytest.mark.parametrize(
    ("cell", "sets", "message"),
    [
        (CELL.id.replace("lam-1/", "lam-2/"), (), "no second term to weigh; its lambda is 1"),
        ("cifar10/wrn-34-1/fast-at/lam-1/seed-0", (), "train.phases are for a folder of images"),
        (CELL.id, ("train_for.fast-at.attack.steps=3",), "fast-at attacks with one step"),
        (CELL.id, ("data.train_images=1000",), "1000 train images are asked for, there are 24"),
    ],
)
def test_what_does_not_fit(
    small, run_command: Callable[..., str], cell: str, sets: tuple[str, ...], message: str
) -> None:
    assert message in run_command(small(*sets), "train", cell, status=1)


def test_another_crop_is_another_run_and_evaluation(trained: Config, folder: Path) -> None:
    other = _config(folder, folder, "data.imagenet_crop=40")
    with pytest.raises(HarnessError, match="was trained with other settings"):
        evaluate_cell(other, CELL, "pgd50", 0, "last", quiet)
    specs = [attack_spec(config, "pgd50", 0, "imagenet") for config in (trained, other)]
    assert [spec.crop for spec in specs] == [32, 40]
    assert specs[0].digest != specs[1].digest
    # data sets of arrays know nothing of it
    plain = [attack_spec(config, "pgd50", 0, "cifar10").digest for config in (trained, other)]
    assert plain[0] == plain[1]
