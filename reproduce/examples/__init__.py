"""Adversarial examples as data: a few images, what two networks make of them, before and after."""

from reproduce.examples.example import AttackedImage, Example, Prediction
from reproduce.examples.files import read_examples
from reproduce.examples.make import choose_images, make_examples

__all__ = [
    "AttackedImage",
    "Example",
    "Prediction",
    "choose_images",
    "make_examples",
    "read_examples",
]
