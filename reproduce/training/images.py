"""The images of a run: which it trains on, and which it is measured on."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from reproduce.config import Config
from reproduce.data import (
    Dataset,
    EvaluationStore,
    FileSplit,
    Split,
    hold_out,
    open_store,
    stratified_subset,
)
from reproduce.specs import TrainingSpec


class Parts(NamedTuple):
    """The images a run uses; `val` only where some are held out."""

    train: Split | FileSplit
    test: Split | FileSplit
    val: Split | FileSplit | None


@dataclass(frozen=True)
class Stores:
    """The images that a run is measured on, on its device, and the checksum of its data set."""

    test: EvaluationStore
    val: EvaluationStore | None
    checksum: str


def cut(spec: TrainingSpec, dataset: Dataset) -> Parts:
    """Cut a data set into the images of a run.

    Raises
    ------
    HarnessError
        If there are fewer than are asked for.
    """
    train = stratified_subset(dataset.train, spec.train_images, "train")
    test = stratified_subset(dataset.test, spec.test_images, "test")
    if not spec.train.holdout:
        return Parts(train, test, None)
    train, held_out = hold_out(train, spec.train.holdout)
    return Parts(train, test, held_out)


def open_stores(
    config: Config, spec: TrainingSpec, dataset: Dataset, parts: Parts, device: torch.device
) -> Stores:
    """Put the images that a run is measured on on its device; files are decoded on demand."""
    crop, loaders = spec.crop, config.machine.loaders
    facts = dataset.facts if crop is None else replace(dataset.facts, size=crop)
    val = None if parts.val is None else open_store(parts.val, facts, device, loaders)
    return Stores(open_store(parts.test, facts, device, loaders), val, dataset.sha256)
