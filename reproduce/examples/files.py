"""Adversarial examples of a narrow and a wide network: the file, and what it says.

The .npz holds the images and what both networks take them for; the .json beside it says of
which settings, weights and records they are.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from reproduce.cell import Cell
from reproduce.config.fields import Checkpoint
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import read_model, read_npz, sha256_of_file
from reproduce.experiments import paths
from reproduce.experiments.grids import example_evaluations
from reproduce.experiments.runs import read_run
from reproduce.experiments.spec import evaluation_spec
from reproduce.registry import dataset_facts

Holder = Literal["both", "narrow", "wide", "neither"]

# of N images, 2 networks, 3 pictures (x, the perturbation, x'): the first two of shape (N,), images
# and adversarial (N, H, W, C) and (2, N, H, W, C), the last two (2, 3, N)
_ARRAYS = ("index", "label", "images", "adversarial", "prediction", "confidence")
_MEND = "`reproduce examples` makes them again"


@dataclass(frozen=True)
class Prediction:
    """The class that a network takes an image for, its name, and its softmax probability."""

    label: int
    name: str
    confidence: float


@dataclass(frozen=True)
class AttackedImage:
    """One image under the attack of one network, float32 in [0, 1], (height, width, channels).

    `perturbation` is x' - x as a picture: 0.5 is no change, 0 and 1 are epsilon down and up.
    `as_recorded` says whether the predictions on x and x' are those of the record; on a GPU
    rounding may turn one.
    """

    cell: Cell
    checkpoint: Checkpoint
    adversarial: NDArray[np.float32]
    perturbation: NDArray[np.float32]
    on_image: Prediction
    on_perturbation: Prediction
    on_adversarial: Prediction
    as_recorded: bool


@dataclass(frozen=True)
class Example:
    """One test image (uint8, by its place in the official split) and the two networks' attacks.

    `held_by` says which networks are right on x' by their records; both are right on x.
    """

    dataset: str
    attack: str
    epsilon: float
    index: int
    label: int
    name: str
    image: NDArray[np.uint8]
    held_by: Holder
    networks: tuple[AttackedImage, AttackedImage]


def perturbation_picture(
    images: NDArray[np.uint8], adversarial: NDArray[np.float32], epsilon: float
) -> NDArray[np.float32]:
    """Show x' - x magnified to the whole range: 0.5 is no change, 0 and 1 are epsilon away."""
    difference = adversarial - images.astype(np.float32) / 255
    return np.clip(0.5 + difference / (2 * epsilon), 0, 1).astype(np.float32)


class _Info(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class NetworkInfo(_Info):
    """What the description says of one network; `differs` are indices of images."""

    cell: str
    checkpoint: Checkpoint
    digest: str
    model_sha256: str
    record_sha256: str
    differs: list[int]


class ExamplesInfo(_Info):
    """The part of the description that says whether examples can be used."""

    attack: str
    epsilon: float
    data_sha256: str
    held_by: list[Holder]
    networks: list[NetworkInfo]
    examples_sha256: str


def read_files(path: Path) -> tuple[ExamplesInfo, dict[str, NDArray[Any]]]:
    """Read examples and check arrays and description against each other."""
    info = read_model(path.with_suffix(".json"), ExamplesInfo)
    if not path.is_file() or info.examples_sha256 != sha256_of_file(path):
        raise HarnessError(f"examples {path} are missing or damaged; {_MEND}")
    return info, read_npz(path, _ARRAYS)


def read_examples(config: Config) -> list[Example]:
    """Read the adversarial examples of a configuration; none if none are made yet."""
    pair = example_evaluations(config)
    if pair is None:
        return []
    dataset = pair[0].cell.dataset
    path = paths.examples_file(config, dataset)
    if not path.is_file() and not path.with_suffix(".json").is_file():
        return []
    info, arrays = read_files(path)
    for item, made in zip(pair, info.networks, strict=True):
        spec = evaluation_spec(config, item.cell, item.attack, item.seed, item.checkpoint)
        run = read_run(paths.cell_folder(config, item.cell))
        weights = None if run is None else run.models.get(item.checkpoint)
        if (made.cell, made.digest, made.model_sha256) != (item.cell.id, spec.digest, weights):
            raise HarnessError(
                f"examples {path} are of other settings or weights than those of {item.cell}; "
                f"{_MEND}"
            )
    facts = dataset_facts(dataset)

    def attacked(k: int, place: int) -> AttackedImage:
        adversarial, labels = arrays["adversarial"][k, place], arrays["prediction"][k, :, place]
        on_image, on_perturbation, on_adversarial = (
            Prediction(label, facts.class_name(label), float(confidence))
            for label, confidence in zip(
                labels.tolist(), arrays["confidence"][k, :, place], strict=True
            )
        )
        return AttackedImage(
            pair[k].cell,
            pair[k].checkpoint,
            adversarial,
            perturbation_picture(arrays["images"][place], adversarial, info.epsilon),
            on_image,
            on_perturbation,
            on_adversarial,
            int(arrays["index"][place]) not in info.networks[k].differs,
        )

    return [
        Example(
            dataset,
            info.attack,
            info.epsilon,
            int(arrays["index"][place]),
            label,
            facts.class_name(label),
            arrays["images"][place],
            info.held_by[place],
            (attacked(0, place), attacked(1, place)),
        )
        for place, label in enumerate(arrays["label"].tolist())
    ]
