"""Adversarial examples as pictures: clean image, perturbation, adversarial image."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.examples.files import AttackedImage, Example, read_examples
from reproduce.registry import dataset_facts, parse_architecture
from reproduce.report.exhibits import Example as Shown
from reproduce.report.exhibits import Gallery, Picture, Strip
from reproduce.report.figures import data_uri

_HELD = {
    "both": "both networks hold",
    "narrow": "only the narrow network holds",
    "wide": "only the wide network holds",
    "neither": "neither network holds",
}


def gallery_view(config: Config, damaged: list[str]) -> Gallery | None:
    """Show the adversarial examples; None if there are none yet.

    Parameters
    ----------
    config : Config
        The configuration.
    damaged : list of str
        Takes what is wrong with examples that cannot be used.
    """
    try:
        examples = read_examples(config)
    except HarnessError as error:
        damaged.append(str(error))
        return None
    if not examples:
        return None
    return Gallery(_note(examples), tuple(_shown(example) for example in examples))


def _note(examples: Sequence[Example]) -> str:
    """Say what is attacked how, and what the middle pictures are."""
    first = examples[0]
    cells = ", ".join(f"{one.cell} ({one.checkpoint})" for one in first.networks)
    other = sum(not one.as_recorded for example in examples for one in example.networks)
    note = (
        f"Test images of {dataset_facts(first.dataset).title} under {first.attack} with epsilon "
        f"{first.epsilon:.4g}, that both networks classify rightly before: {cells}. In the middle "
        f"the perturbation magnified {0.5 / first.epsilon:.3g} times: grey is no change, black and "
        "white are epsilon down and up. Below each picture what the network takes it for."
    )
    if other:
        note += f" {other} of these predictions differ from the record's."
    return note


def _shown(example: Example) -> Shown:
    strips = [_strip(example, attacked) for attacked in example.networks]
    title = f"Test image {example.index}, {_class(example.name)}: {_HELD[example.held_by]}"
    return Shown(title, tuple(strips))


def _strip(example: Example, attacked: AttackedImage) -> Strip:
    shape = parse_architecture(attacked.cell.architecture)
    network = f"{shape.title}, width {shape.width:g}"
    true, name = example.label, _class(example.name)
    pictures = (
        ("Clean image of", _pixels(example.image), attacked.on_image, true),
        ("Magnified perturbation of", _bytes(attacked.perturbation), attacked.on_perturbation, -1),
        ("Adversarial image of", _bytes(attacked.adversarial), attacked.on_adversarial, true),
    )
    return Strip(
        network,
        tuple(
            Picture(
                source,
                f"{what} {name}; {network} takes it for {_class(taken.name)}",
                taken.name,
                f"{100 * taken.confidence:.0f} %",
                None if label < 0 else taken.label == label,
            )
            for what, source, taken, label in pictures
        ),
    )


def _class(name: str) -> str:
    """Write the name of a class: a word, or a digit in quotation marks."""
    return f"“{name}”"


def _bytes(image: NDArray[np.float32]) -> str:
    return _pixels(np.round(255 * np.clip(image, 0, 1)).astype(np.uint8))


def _pixels(image: NDArray[np.uint8]) -> str:
    """Return an image as a PNG in a URI, pixel by pixel.

    Parameters
    ----------
    image : ndarray
        uint8, shape (height, width, 1 or 3).
    """
    array = image[:, :, 0] if image.shape[2] == 1 else image
    with io.BytesIO() as buffer:
        Image.fromarray(array).save(buffer, format="png", optimize=True)
        return data_uri("image/png", buffer.getvalue())
