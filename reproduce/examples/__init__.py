"""Adversarial examples as data: a few images, what two networks make of them, before and after."""

from reproduce.examples.example import AttackedImage, Example, Prediction
from reproduce.examples.files import read_examples

__all__ = [
    "AttackedImage",
    "Example",
    "Prediction",
    "read_examples",
]
