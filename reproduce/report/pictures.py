"""The page's pictures: figures, and adversarial examples with what networks take them for."""

import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.examples.files import AttackedImage, Example
from reproduce.figures import available_figures, make
from reproduce.registry import dataset_facts, parse_architecture
from reproduce.report.format import data_uri, label

# rows of numbers that are shown below a figure
_MOST_ROWS = 40
HELD_BY = {
    "both": "both networks hold",
    "narrow": "only the narrow network holds",
    "wide": "only the wide network holds",
    "neither": "neither network holds",
}


def draw_figures(config: Config, damaged: list[str]) -> list[dict[str, Any]]:
    """Draw every figure of the configuration; `damaged` takes those that cannot be drawn."""
    figures = []
    for name in available_figures(config):
        try:
            drawing = make(config, name)
        except HarnessError as error:
            damaged.append(f"{label(name)}: {error}")
            continue
        # a figure of many numbers shows them in its csv only
        numbers = drawing.numbers if len(drawing.numbers) <= _MOST_ROWS else pd.DataFrame()
        forms = [f"{name}.{form}" for form in ("svg", "png", "csv")]
        figures.append(
            {
                "name": name,
                "title": f"{label(name)}. {drawing.title}",
                "source": data_uri("image/svg+xml", drawing.svg().encode()),
                "size": [round(96 * inches) for inches in drawing.figure.get_size_inches()],
                "caption": drawing.caption,
                "missing": drawing.missing,
                "numbers": numbers.rename(columns=lambda column: str(column).replace("_", " ")),
                "links": [(form, f"figures/{form}") for form in forms],
            }
        )
    return figures


def examples_note(examples: Sequence[Example]) -> str:
    """Say what is attacked how, and what the pictures in the middle are."""
    first = examples[0]
    cells = ", ".join(f"{one.cell} ({one.checkpoint})" for one in first.networks)
    other = sum(not one.as_recorded for example in examples for one in example.networks)
    note = (
        f"Test images of {dataset_facts(first.dataset).title} under {first.attack} with epsilon "
        f"{first.epsilon:.4g}, that both networks classify rightly before: {cells}. In the middle "
        f"the perturbation magnified {0.5 / first.epsilon:.3g} times: grey is no change, black and "
        "white are epsilon down and up. Below each picture what the network takes it for."
    )
    return note + (f" {other} of these predictions differ from the record's." if other else "")


def network_title(attacked: AttackedImage) -> str:
    """Name the network that looks at a picture."""
    shape = parse_architecture(attacked.cell.architecture)
    return f"{shape.title}, width {shape.width:g}"


def pictures(example: Example, attacked: AttackedImage) -> Iterator[dict[str, Any]]:
    """Give the clean image, the perturbation and the adversarial image, and what they seem.

    `right` is None for the perturbation, which is of no class.
    """
    for what, image, prediction in (
        ("Clean image of", example.image, attacked.on_image),
        ("Magnified perturbation of", attacked.perturbation, attacked.on_perturbation),
        ("Adversarial image of", attacked.adversarial, attacked.on_adversarial),
    ):
        seen = f"{network_title(attacked)} takes it for “{prediction.name}”"
        yield {
            "source": _png(image),
            "alt": f"{what} “{example.name}”; {seen}",
            "prediction": prediction,
            "right": None if what.startswith("Magnified") else prediction.label == example.label,
        }


def _png(image: NDArray[np.uint8] | NDArray[np.float32]) -> str:
    """Return an image, uint8 or in [0, 1], of shape (height, width, 1 or 3), as a PNG in a URI."""
    pixels: NDArray[Any] = (
        image if image.dtype == np.uint8 else np.round(255 * np.clip(image, 0, 1))
    )
    pixels = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    with io.BytesIO() as buffer:
        Image.fromarray(pixels.astype(np.uint8)).save(buffer, "png", optimize=True)
        return data_uri("image/png", buffer.getvalue())
