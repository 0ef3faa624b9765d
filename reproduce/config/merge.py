"""Laying one tree of settings over another."""

from collections.abc import Mapping
from typing import Any

Tree = Mapping[str, Any]

# mappings of a grid that are axes, not settings
_AXES = {"methods", "architectures", "trained"}


def merge(base: Tree, top: Tree) -> dict[str, Any]:
    """Lay `top` over `base`, mapping by mapping; the axes of a grid are replaced whole."""
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        if key not in _AXES and isinstance(value, Mapping) and isinstance(below, Mapping):
            merged[key] = merge(below, value)
        else:
            merged[key] = value
    return merged
