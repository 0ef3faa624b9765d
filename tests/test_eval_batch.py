"""How many images go through a network at once: fewer where they are large, whatever runs it."""

from pathlib import Path

import pytest
import torch
from image_folder import make_folder
from small_runs import never, quiet
from torch import Tensor, nn

from reproduce.cell import parse_cell
from reproduce.compute.device import images_at_once
from reproduce.config.load import load_config
from reproduce.config.schema import Config, Machine
from reproduce.core.files import read_json
from reproduce.data.sources import prepare
from reproduce.evaluation.evaluate import evaluate_cell
from reproduce.experiments import paths
from reproduce.training.train import train_cell

CELL = parse_cell("imagenet/wrn-50-0.125/fast-at/lam-1/seed-0")


def test_small_images_are_no_more_and_one_always_goes() -> None:
    sizes = {8: 10, 32: 10, 33: 9, 64: 5, 320: 1, 3200: 1}
    assert {
        size: images_at_once(Machine(eval_batch=10), torch.device("cpu"), size) for size in sizes
    } == sizes


class _Card:
    def __init__(self, gibibytes: float) -> None:
        self.total_memory = int(gibibytes * 2**30)


@pytest.mark.parametrize(
    ("gibibytes", "most", "of_four"),
    [(8, 128, 46), (16, 256, 93), (24, 500, 128), (139, 1000, 500), (0.01, 1, 1)],
)
def test_half_of_a_cards_memory(
    monkeypatch: pytest.MonkeyPatch, gibibytes: float, most: int, of_four: int
) -> None:
    """Cut to a size that cards share; where none fits, as many as do."""
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: _Card(gibibytes))
    assert images_at_once(Machine(), torch.device("cuda", 0), 32) == most
    # four jobs share the card
    shared = images_at_once(Machine(jobs_per_gpu=4), torch.device("cuda", 0), 32)
    assert shared == of_four
    assert images_at_once(Machine(eval_batch=7), torch.device("cuda", 0), 32) == 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("images"))


def _config(folder: Path, tmp_path: Path, eval_batch: int) -> Config:
    settings = [
        f"data.folder={tmp_path / 'data'}",
        f"data.imagenet={folder}",
        f"results={tmp_path / str(eval_batch)}",
        "data.imagenet_crop=64",
        f"machine={{device: cpu, loaders: 0, eval_batch: {eval_batch}}}",
        "train_for.fast-at.epochs=1",
        "train_for.fast-at.phases=[{epochs: 1, batch_size: 12, crop: 32}]",
        "eval.attacks.pgd50={steps: 2, restarts: 2}",
    ]
    config = load_config("{}", "paper", settings)
    prepare(config.data, "imagenet", paths.prepared_file(config, "imagenet"), quiet)
    return config


@pytest.mark.slow
def test_training_and_attacks_keep_to_it_and_find_the_same(folder: Path, tmp_path: Path) -> None:
    seen: list[int] = []

    def note(module: nn.Module, inputs: tuple[object, ...]) -> None:
        images = inputs[0] if inputs else None
        if isinstance(images, Tensor) and not module.training and images.shape[1:] == (3, 64, 64):
            seen.append(len(images))

    found = {}
    for eval_batch in (8, 100):
        config = _config(folder, tmp_path, eval_batch)
        seen.clear()
        hook = nn.modules.module.register_module_forward_pre_hook(note)
        try:
            train_cell(config, CELL, quiet, never)
            validated = max(seen)
            record = evaluate_cell(config, CELL, "pgd50", 0, "last", quiet)
        finally:
            hook.remove()
        # all 18 in one, or as many as eight images of 32 pixels make of 64
        assert {validated, max(seen)} == {4 if eval_batch == 8 else 18}
        cell = paths.cell_folder(config, CELL)
        attacked = record.clean.tolist(), record.adversarial.tolist()
        found[eval_batch] = (read_json(paths.run_file(cell))["final_metrics"], attacked)
    assert found[8] == found[100]
