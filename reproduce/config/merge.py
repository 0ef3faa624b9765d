"""Trees of settings: one laid over another, and one by dotted keys."""

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


def flatten(tree: Tree, prefix: str = "") -> dict[str, Any]:
    """Return the settings of a tree by dotted key, in the order of the alphabet."""
    flat: dict[str, Any] = {}
    for key in sorted(tree):
        value = tree[key]
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
