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
from reproduce.experiments import paths
from reproduce.figures import available_figures, make
from reproduce.figures.style import Drawing
from reproduce.registry import dataset_facts, parse_architecture
from reproduce.report.format import Cell, data_uri, label

# a figure of more numbers than this shows them in its csv only
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
            figures.append(_figure(config, name, make(config, name)))
        except HarnessError as error:
            damaged.append(f"{label(name)}: {error}")
    return figures


def _figure(config: Config, name: str, drawing: Drawing) -> dict[str, Any]:
    folder = paths.figure_file(config, name, "svg").parent.name
    forms = [f"{name}.{form}" for form in ("svg", "png", "csv")]
    return {
        "name": name,
        "title": f"{label(name)}. {drawing.title}",
        "source": data_uri("image/svg+xml", drawing.svg().encode()),
        "size": [round(96 * inches) for inches in drawing.figure.get_size_inches()],
        "caption": drawing.caption,
        "missing": drawing.missing,
        "numbers": {
            "name": f"{name}-numbers",
            "caption": f"{label(name)}: the numbers",
            "heads": [str(column).replace("_", " ") for column in drawing.numbers],
            "rows": _rows(drawing.numbers) if len(drawing.numbers) <= _MOST_ROWS else [],
        },
        "links": [(form, f"{folder}/{form}") for form in forms],
    }


def _rows(numbers: pd.DataFrame) -> list[list[Cell]]:
    def cell(value: object) -> Cell:
        if not isinstance(value, float):
            return Cell(str(value))
        return Cell("–", "") if value != value else Cell(f"{value:.6g}", value)

    return [[cell(value) for value in row] for row in numbers.itertuples(index=False)]


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
