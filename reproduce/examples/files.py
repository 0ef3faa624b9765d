"""One image under attack, and what networks make of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from reproduce.cell import Cell
from reproduce.config.fields import Checkpoint
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import read_json, read_npz, sha256_of_file, write_atomically, write_json
from reproduce.experiments import paths
from reproduce.experiments.grids import Evaluation, example_evaluations
from reproduce.experiments.runs import read_run
from reproduce.experiments.spec import evaluation_spec
from reproduce.registry import DatasetFacts, dataset_facts

Holder = Literal["both", "narrow", "wide", "neither"]


@dataclass(frozen=True)
class Prediction:
    """The class that a network takes an image for.

    Attributes
    ----------
    label : int
        The class.
    name : str
        What it is called; its number where it has no name.
    confidence : float
        Its softmax probability.
    """

    label: int
    name: str
    confidence: float


@dataclass(frozen=True)
class AttackedImage:
    """What one network makes of one image, and the attack of it.

    Attributes
    ----------
    cell : Cell
        The network's training run.
    checkpoint : {"best-test", "last", "best-val"}
        Which of its weights.
    model_sha256 : str
        Checksum of those.
    adversarial : ndarray
        x', float32 in [0, 1], shape (height, width, channels).
    perturbation : ndarray
        x' - x as a picture, float32 in [0, 1], same shape: 0.5 is no change, 0 and 1 are
        epsilon down and up.
    on_image, on_perturbation, on_adversarial : Prediction
        What the network takes x, that picture and x' for.
    as_recorded : bool
        Whether the predictions on x and x' are those of the record; on a GPU rounding may
        turn one.
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
    """One test image under attack, for a narrow and for a wide network.

    Attributes
    ----------
    dataset, attack : str
        Data set, and name of the attack in the configuration.
    epsilon : float
        Radius of the l_inf ball, pixels in [0, 1].
    index : int
        Position in the official test split.
    label : int
        True class.
    name : str
        What it is called.
    image : ndarray
        x, uint8, shape (height, width, channels).
    held_by : {"both", "narrow", "wide", "neither"}
        Which networks are right on x' as well, by their records; both are right on x.
    networks : tuple of AttackedImage
        The narrow one and the wide one.
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
    """Show x' - x magnified to the whole range: 0.5 is no change, 0 and 1 are epsilon away.

    Parameters
    ----------
    images, adversarial : ndarray
        x, uint8, and x', float32 in [0, 1], of one shape.
    epsilon : float
        Radius of the ball.

    Returns
    -------
    ndarray
        float32 in [0, 1], of that shape.
    """
    difference = adversarial - images.astype(np.float32) / 255
    picture: NDArray[np.float32] = np.clip(0.5 + difference / (2 * epsilon), 0, 1)
    return picture.astype(np.float32)


_SHAPES = {
    "index": "N",
    "label": "N",
    "images": "NHWC",
    "adversarial": "2NHWC",
    "prediction": "23N",
    "confidence": "23N",
}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class NetworkInfo(_Part):
    """What the description says of one network; `differs` are indices of images."""

    cell: str
    checkpoint: Checkpoint
    digest: str
    model_sha256: str
    record_sha256: str
    differs: list[int]


class ExamplesInfo(_Part):
    """The part of the description that says whether examples can be used."""

    attack: str
    epsilon: float
    data_sha256: str
    held_by: list[Holder]
    networks: list[NetworkInfo]
    examples_sha256: str


def write_examples(path: Path, arrays: dict[str, NDArray[Any]], info: dict[str, Any]) -> None:
    """Write the arrays as `path` (.npz), then the description with their checksum as .json."""

    def write(part: Path) -> None:
        with part.open("wb") as handle:
            np.savez_compressed(handle, allow_pickle=False, **arrays)

    write_atomically(path, write)
    write_json(path.with_suffix(".json"), {**info, "examples_sha256": sha256_of_file(path)})


def read_files(path: Path) -> tuple[ExamplesInfo, dict[str, NDArray[Any]]]:
    """Read examples and check arrays and description against each other.

    Raises
    ------
    HarnessError
        If a file is missing or damaged, or the two do not belong together.
    """
    mend = "`reproduce examples` makes them again"
    about = path.with_suffix(".json")
    if not path.is_file() or not about.is_file():
        lost = about if path.is_file() else path
        raise HarnessError(f"examples {lost} does not exist; {mend}")
    try:
        info = ExamplesInfo.model_validate(read_json(about))
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        raise HarnessError(f"{about} is damaged at {key!r}; {mend}") from error
    if info.examples_sha256 != sha256_of_file(path):
        raise HarnessError(f"examples {path} do not match their checksum; {mend}")
    arrays = read_npz(path, _SHAPES)
    if not _fits(arrays, info):
        raise HarnessError(f"examples {path} hold other arrays than {about.name} says; {mend}")
    return info, arrays


def _fits(arrays: dict[str, NDArray[Any]], info: ExamplesInfo) -> bool:
    """Say whether all arrays are there and of one number of images of one size."""
    if set(arrays) != set(_SHAPES) or arrays["images"].ndim != 4 or len(info.networks) != 2:
        return False
    sizes = dict(zip("NHWC", arrays["images"].shape, strict=True)) | {"2": 2, "3": 3}
    shapes = (arrays[key].shape == tuple(sizes[k] for k in form) for key, form in _SHAPES.items())
    return all(shapes) and len(info.held_by) == sizes["N"]


def read_examples(config: Config) -> list[Example]:
    """Read the adversarial examples of a configuration.

    Returns
    -------
    list of Example
        Those that both networks hold first, then the narrow one alone, the wide one alone,
        neither; none if none are made yet.

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
            raise HarnessError(f"examples {path} {problem}; `reproduce examples` makes them again")
    facts = dataset_facts(pair[0].cell.dataset)
    pictures = perturbation_picture(arrays["images"], arrays["adversarial"], info.epsilon)
    found = []
    for place, held_by in enumerate(info.held_by):
        narrow, wide = (
            _attacked(facts, info.networks[k], item, arrays, pictures, (k, place))
            for k, item in enumerate(pair)
        )
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
    network: NetworkInfo,
    item: Evaluation,
    arrays: dict[str, NDArray[Any]],
    pictures: NDArray[np.float32],
    where: tuple[int, int],
) -> AttackedImage:
    """Return one network's view of one image; `where` is (network, image)."""
    k, place = where
    clean, picture, adversarial = (
        Prediction(int(label), facts.class_name(int(label)), float(confidence))
        for label, confidence in zip(
            arrays["prediction"][k, :, place], arrays["confidence"][k, :, place], strict=True
        )
    )
    return AttackedImage(
        item.cell,
        item.checkpoint,
        network.model_sha256,
        arrays["adversarial"][where],
        pictures[where],
        clean,
        picture,
        adversarial,
        int(arrays["index"][place]) not in network.differs,
    )
