"""Four small runs, published."""

from pathlib import Path

# how many iterations there are to one in their traces
EVERY = 2


def published_root(reference: Path) -> Path:
    """Return the published results folder."""
    return reference / "here" / "demo"


def published_files(reference: Path, cell: str) -> Path:
    """Return the folder of a published run."""
    return published_root(reference) / "cells" / cell
