"""Adversarial examples of a narrow and a wide network: the file, and what it says.

The .npz holds the images and what both networks take them for; the .json beside it says of
which settings, weights and records they are.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reproduce.cell import Cell
from reproduce.config.fields import Checkpoint
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import read_json, read_npz, sha256_of_file, write_json
from reproduce.evaluation.records import write_arrays
from reproduce.experiments import paths
from reproduce.experiments.grids import Evaluation, example_evaluations
from reproduce.experiments.runs import read_run
from reproduce.experiments.spec import evaluation_spec
from reproduce.registry import DatasetFacts, dataset_facts

Holder = Literal["both", "narrow", "wide", "neither"]

# N images; 2 networks; 3 pictures: x, the perturbation, x'
_SHAPES = {
    "index": "N",
    "label": "N",
    "images": "NHWC",
    "adversarial": "2NHWC",
    "prediction": "23N",
    "confidence": "23N",
}
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
    model_sha256: str
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
    networks: Annotated[list[NetworkInfo], Field(min_length=2, max_length=2)]
    examples_sha256: str


def write_examples(path: Path, arrays: dict[str, NDArray[Any]], info: dict[str, Any]) -> None:
    """Write the arrays as `path` (.npz), then the description with their checksum as .json."""
    write_arrays(path, arrays)
    write_json(path.with_suffix(".json"), {**info, "examples_sha256": sha256_of_file(path)})


def read_files(path: Path) -> tuple[ExamplesInfo, dict[str, NDArray[Any]]]:
    """Read examples and check arrays and description against each other."""
    about = path.with_suffix(".json")
    if not path.is_file() or not about.is_file():
        raise HarnessError(f"examples {about if path.is_file() else path} does not exist; {_MEND}")
    try:
        info = ExamplesInfo.model_validate(read_json(about))
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        raise HarnessError(f"{about} is damaged at {key!r}; {_MEND}") from error
    if info.examples_sha256 != sha256_of_file(path):
        raise HarnessError(f"examples {path} do not match their checksum; {_MEND}")
    arrays = read_npz(path, _SHAPES)
    sizes = {"2": 2, "3": 3, "N": len(info.held_by)}
    if set(arrays) == set(_SHAPES) and arrays["images"].ndim == 4:
        sizes |= dict(zip("HWC", arrays["images"].shape[1:], strict=True))
        if all(arrays[k].shape == tuple(map(sizes.get, form)) for k, form in _SHAPES.items()):
            return info, arrays
    raise HarnessError(f"examples {path} hold other arrays than {about.name} says; {_MEND}")


def read_examples(config: Config) -> list[Example]:
    """Read the adversarial examples of a configuration; none if none are made yet.

    Those that both networks hold come first, then the narrow one alone, the wide one alone,
    neither.

    Raises
    ------
    HarnessError
        If they are damaged, or are of other settings or weights than the configuration's.
    """
    pair = example_evaluations(config)
    if pair is None:
        return []
    path = paths.examples_file(config, pair[0].cell.dataset)
    if not path.is_file() and not path.with_suffix(".json").is_file():
        return []
    info, arrays = read_files(path)
    for item, network in zip(pair, info.networks, strict=True):
        problem = _problem_with(config, item, network)
        if problem is not None:
            raise HarnessError(f"examples {path} {problem}; {_MEND}")
    facts = dataset_facts(pair[0].cell.dataset)
    found = []
    for place, held_by in enumerate(info.held_by):
        narrow, wide = (_attacked(facts, info, arrays, pair, k, place) for k in range(2))
        label = int(arrays["label"][place])
        found.append(
            Example(
                facts.name,
                info.attack,
                info.epsilon,
                int(arrays["index"][place]),
                label,
                facts.class_name(label),
                arrays["images"][place],
                held_by,
                (narrow, wide),
            )
        )
    return found


def _problem_with(config: Config, item: Evaluation, network: NetworkInfo) -> str | None:
    """Say why examples of a network do not count; None if they do."""
    spec = evaluation_spec(config, item.cell, item.attack, item.seed, item.checkpoint)
    if (network.cell, network.digest) != (item.cell.id, spec.digest):
        return "were made with other settings than the configuration's"
    run = read_run(paths.cell_folder(config, item.cell))
    if run is None or run.models.get(item.checkpoint) != network.model_sha256:
        return f"are of other weights than those of {item.cell}"
    return None


def _attacked(
    facts: DatasetFacts,
    info: ExamplesInfo,
    arrays: dict[str, NDArray[Any]],
    pair: tuple[Evaluation, Evaluation],
    k: int,
    place: int,
) -> AttackedImage:
    """Return how network `k` of the two sees the image at `place`."""
    network, adversarial = info.networks[k], arrays["adversarial"][k, place]
    labels, confidences = arrays["prediction"][k, :, place], arrays["confidence"][k, :, place]
    on_image, on_perturbation, on_adversarial = (
        Prediction(int(label), facts.class_name(int(label)), float(confidence))
        for label, confidence in zip(labels, confidences, strict=True)
    )
    return AttackedImage(
        pair[k].cell,
        pair[k].checkpoint,
        network.model_sha256,
        adversarial,
        perturbation_picture(arrays["images"][place], adversarial, info.epsilon),
        on_image,
        on_perturbation,
        on_adversarial,
        int(arrays["index"][place]) not in network.differs,
    )
