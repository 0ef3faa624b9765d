"""Networks, and reading and writing their weights."""

from reproduce.models.build import build_model
from reproduce.models.source import ModelSource
from reproduce.models.weights import load_weights, read_weights, save_weights

__all__ = ["ModelSource", "build_model", "load_weights", "read_weights", "save_weights"]
