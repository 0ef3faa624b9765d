"""Made-up images of CIFAR's shape, runs on them, and stand-ins for published checkpoints."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from reproduce.config.load import load_config
from reproduce.config.schema import Config
from reproduce.data.sources import prepare
from reproduce.experiments import paths
from reproduce.registry import EXTRA
from reproduce.zoo.checkpoints import ZooCheckpoint, robustbench

# the lightest network of RobustBench's CIFAR-10 zoo that is small on disk too
LIGHT = "Wong2020Fast"
IMAGES = 24

SETTINGS = [
    "data.train_images=null",
    "data.test_images=null",
    "train.epochs=1",
    "train.batch_size=8",
    "train.holdout=0",
    "train.attack.steps=1",
    "eval.attacks.pgd20={steps: 2, step_size: 0.01}",
    "machine.compile=never",
]


def write_images(path: Path, images: int = IMAGES) -> Path:
    """Write an .npz of noise in which a class has its own mean colour."""
    stream = np.random.default_rng(4)
    arrays = {}
    for split in ("train", "test"):
        labels = np.arange(images) % 10
        noise = stream.integers(0, 60, (images, 32, 32, 3))
        arrays[f"{split}_images"] = (noise + 19 * labels[:, None, None, None]).astype(np.uint8)
        arrays[f"{split}_labels"] = labels.astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return path


def write_extra(folder: Path, images: int = 40, seed: int = 5) -> Path:
    """Write a stand-in for the published file of extra images, where it is looked for."""
    stream = np.random.default_rng(seed)
    labels = np.arange(images) % 10
    noise = stream.integers(0, 60, (images, 32, 32, 3)) + 19 * labels[:, None, None, None]
    content = {"data": noise.astype(np.uint8), "extrapolated_targets": labels}
    path = folder / EXTRA["cifar10-extra"].file
    path.write_bytes(pickle.dumps(content))
    return path


def prepare_extra(config: Config, **given: int) -> None:
    """Make up extra images and prepare them."""
    write_extra(config.data.folder, **given)
    prepare(config.data, "cifar10-extra", paths.prepared_file(config, "cifar10-extra"))


def cifar_config(folder: Path, *sets: str) -> Config:
    """Make a configuration for made-up CIFAR-10 images, prepared in `folder`."""
    source = write_images(folder / "images.npz")
    places = [f"results={folder / 'results'}", f"data.folder={folder}", f"data.cifar10={source}"]
    config = load_config("{}", "mini", [*places, *SETTINGS, *sets])
    prepare(config.data, "cifar10", paths.prepared_file(config, "cifar10"))
    return config


def published_network(name: str = LIGHT) -> nn.Module:
    """Return RobustBench's network for an id, with random weights."""
    enums = robustbench("robustbench.model_zoo.enums")
    models = robustbench("robustbench.model_zoo").model_dicts
    torch.manual_seed(3)
    return models[enums.BenchmarkDataset.cifar_10][enums.ThreatModel.Linf][name]["model"]().eval()


def write_checkpoint(
    folder: Path, wrap: Callable[[dict], object] = lambda state: state, name: str = LIGHT
) -> nn.Module:
    """Put a stand-in for a published checkpoint into a zoo, and return its network."""
    path = ZooCheckpoint(name, "cifar10", folder).path
    path.parent.mkdir(parents=True, exist_ok=True)
    network = published_network(name)
    torch.save(wrap(network.state_dict()), path)
    return network


class Runs:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)
