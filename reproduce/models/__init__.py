"""Networks, and reading and writing their weights."""

from reproduce.models.build import build_model
from reproduce.models.compilation import compiled, compiling, wants_compiling
from reproduce.models.source import ModelSource
from reproduce.models.weights import load_weights, read_weights, save_weights

__all__ = [
    "ModelSource",
    "build_model",
    "compiled",
    "compiling",
    "load_weights",
    "read_weights",
    "save_weights",
    "wants_compiling",
]
