"""Table 5 on a small folder of images: through the command line, stopped, in low precision."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import ROOT
from image_folder import make_folder
from safetensors.torch import load_file
from small_runs import never, quiet, results, stop_at

from reproduce.cell import Cell, parse_cell
from reproduce.cli.app import main
from reproduce.config.load import load_config
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError, Stopped
from reproduce.data.sources import prepare
from reproduce.evaluation.evaluate import evaluate_cell
from reproduce.experiments import paths
from reproduce.experiments.spec import attack_spec
from reproduce.training.train import train_cell

CELL = "imagenet/wrn-50-0.125/fast-at/lam-1/seed-0"
# 48 images: 4 steps on 24 pixels, then 6 on 32
SMALL = [
    "data.imagenet_crop=32",
    "machine={device: cpu, loaders: 0, compile: never}",
    "train_for.fast-at.epochs=2",
    "train_for.fast-at.rates=[[0, 0], [1, 0.05], [2, 0.01]]",
    "train_for.fast-at.phases=[{epochs: 1, batch_size: 12, crop: 24, resize: 32}, "
    "{epochs: 1, batch_size: 8, crop: 32}]",
    "eval.attacks.pgd50={steps: 3, restarts: 2}",
    "experiments.table5.architectures=[wrn-50-0.125, wrn-50-0.25]",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, and data/ prepared from them."""
    root = tmp_path_factory.mktemp("table5")
    make_folder(root / "images")
    config = _config(root, root)
    prepare(config.data, "imagenet", paths.prepared_file(config, "imagenet"), quiet)
    return root


def _config(folder: Path, results_in: Path, *sets: str) -> Config:
    places = [
        f"data.folder={folder / 'data'}",
        f"data.imagenet={folder / 'images'}",
        f"results={results_in / 'results'}",
    ]
    return load_config("{}", "paper", [*places, *SMALL, *sets])


@pytest.fixture
def small(tmp_path: Path, folder: Path) -> Callable[..., Config]:
    return lambda *sets: _config(folder, tmp_path, *sets)


@pytest.fixture(scope="module")
def trained(folder: Path) -> Config:
    """The configuration of a run that was trained in one segment."""
    config = _config(folder, folder)
    train_cell(config, parse_cell(CELL), quiet, never)
    return config


@pytest.fixture
def shell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> Callable[..., tuple[int, str]]:
    def run(config: Config, *words: str) -> tuple[int, str]:
        text = config.model_dump_json()
        monkeypatch.setattr(sys, "argv", ["reproduce", *words, "--config", text])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        return caught.value.code or 0, out + err

    return run


def test_the_whole_table(trained: Config, shell) -> None:
    config, wide = trained, CELL.replace("0.125", "0.25")
    assert shell(config, "prepare", "imagenet")[0] == 0
    assert "epoch 2/2  natural" in shell(config, "train", wide)[1]
    for cell in (CELL, wide):
        code, said = shell(config, "evaluate", cell, "--attack", "pgd50")
        assert code == 0
        assert "pgd50-seed0:  robust" in said
    code, table = shell(config, "table", "table5")
    assert code == 0
    assert "Natural top-5 w=0.25" in table
    assert "2 epochs, checkpoint best-test (of Fast-AT: by natural accuracy), epsilon" in table
    assert "no result yet" not in table
    code, said = shell(config, "diff", "table5")
    assert code == 0
    assert "imagenet has 48 training and 18 test images here, officially 1281167 and 50000" in said
    assert "are not ILSVRC2012 by names and numbers (48 training and 18 test images)" in said
    assert shell(config, "status", "table5")[1].count("trained") == 2


def test_what_a_run_leaves(trained: Config) -> None:
    config, cell = trained, parse_cell(CELL)
    folder = paths.cell_folder(config, cell)
    run = json.loads((folder / "run.json").read_text())
    assert run["spec"]["train"]["precision"] == "bf16"
    assert (run["data"]["train"], run["data"]["test"]) == (48, 18)
    assert run["pieces"][0]["processes"] == 1
    trace = pd.read_parquet(paths.trace_file(folder))
    assert len(trace) == 10
    assert (trace["natural_risk"] == 0).all()
    assert (trace["robust_regularization"] > 0).all()
    # the rate at the end of every step, on straight lines
    rates = [0.05 * step / 4 for step in range(1, 5)]
    rates += [0.05 - 0.04 * step / 6 for step in range(1, 7)]
    assert trace["learning_rate"].tolist() == pytest.approx(rates)
    epochs = pd.read_csv(paths.epochs_file(folder))
    best = int(epochs["test_natural_accuracy"].idxmax()) + 1
    assert run["checkpoint_epochs"] == {"best-test": best, "last": 2}
    assert load_file(folder / "model-last.safetensors")["fc.weight"].dtype == torch.float32
    record = evaluate_cell(config, cell, "pgd50", 0, "best-test", quiet)
    assert record.top5 is not None
    assert record.metrics.top5_natural_accuracy == pytest.approx(100 * record.top5.mean())
    # what chose the epoch is what the attack finds on clean images
    assert record.metrics.natural_accuracy == pytest.approx(epochs["test_natural_accuracy"].max())
    assert record.info["spec"]["epsilon"] == 4 / 255
    assert record.info["spec"]["crop"] == 32


@pytest.mark.parametrize("asked", [2, 11])
def test_a_stopped_run_continues_exactly(trained: Config, small, asked: int) -> None:
    """Within an epoch, and in the validation after the last."""
    cell, config = parse_cell(CELL), small("machine.loaders=1")
    with pytest.raises(Stopped):
        train_cell(config, cell, quiet, stop_at(asked))
    train_cell(config, cell, quiet, never)
    assert results(trained, cell) == results(config, cell)


def test_other_methods_train_on_a_folder(small) -> None:
    """On whole images in one phase, measured under attack from starts of each image's own."""
    config = small("train.epochs=1", "train.batch_size=16", "train.attack.steps=1")
    cell = Cell("imagenet", "wrn-50-0.0625", "at", 1.0, 0)
    train_cell(config, cell, quiet, never)
    epochs = pd.read_csv(paths.epochs_file(paths.cell_folder(config, cell)))
    assert "test_robust_accuracy" in epochs


def test_a_signal_to_all_processes_stops_the_run_cleanly(small) -> None:
    """Those that decode are not taken down before the state is saved, and do not stay."""
    phases = "train_for.fast-at.phases=[{epochs: 5000, batch_size: 12, crop: 24}]"
    config = small("train_for.fast-at.epochs=5000", phases, "machine.loaders=2")
    process = subprocess.Popen(
        [sys.executable, "-m", "reproduce", "train", CELL, "--config", config.model_dump_json()],
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
    assert "Traceback" not in said
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_an_image_lost_after_preparation(tmp_path: Path) -> None:
    make_folder(tmp_path / "images", train=4)
    config = _config(tmp_path, tmp_path)
    prepare(config.data, "imagenet", paths.prepared_file(config, "imagenet"), quiet)
    lost = tmp_path / "images" / "train" / "n005" / "n005_2.JPEG"
    lost.unlink()
    with pytest.raises(HarnessError, match=r"^image .*n005_2.JPEG cannot be read: .*No such file"):
        train_cell(config, parse_cell(CELL), quiet, never)


@pytest.mark.parametrize(
    ("cell", "sets", "message"),
    [
        (
            CELL.replace("lam-1/", "lam-2/"),
            (),
            "no second term to weigh; its lambda is 1",
        ),
        (
            "cifar10/wrn-34-1/fast-at/lam-1/seed-0",
            (),
            "train.phases are for a folder of images; CIFAR-10 has images of one size",
        ),
        (CELL, ("train_for.fast-at.attack.steps=3",), "fast-at attacks with one step"),
        (CELL, ("data.train_images=1000",), "1000 train images are asked for, there are 48"),
    ],
)
def test_what_does_not_fit(small, shell, cell: str, sets: tuple[str, ...], message: str) -> None:
    code, said = shell(small(*sets), "train", cell)
    assert (code, said.count("\n")) == (1, 1)
    assert message in said


def test_another_crop_is_another_run_and_evaluation(trained: Config, folder: Path) -> None:
    other, cell = _config(folder, folder, "data.imagenet_crop=40"), parse_cell(CELL)
    with pytest.raises(HarnessError, match="was trained with other settings"):
        evaluate_cell(other, cell, "pgd50", 0, "last", quiet)
    specs = [attack_spec(config, "pgd50", 0, "imagenet") for config in (trained, other)]
    assert [spec.crop for spec in specs] == [32, 40]
    assert specs[0].digest != specs[1].digest
    # data sets of arrays know nothing of it
    plain = [attack_spec(config, "pgd50", 0, "cifar10").digest for config in (trained, other)]
    assert plain[0] == plain[1]
