"""The images of a run: which it trains on, and which it is measured on."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from reproduce.compute.distributed import ALONE, Group
from reproduce.config.schema import Config, Phase
from reproduce.data.batches import BatchSource, ImageStore, LabelledBatches, MixedBatches
from reproduce.data.dataset import Dataset, FileSplit, Split, hold_out, stratified_subset
from reproduce.data.extra import load_extra
from reproduce.data.imagenet import EvaluationStore, FolderBatches, open_store
from reproduce.experiments import paths
from reproduce.experiments.spec import TrainingSpec
from reproduce.registry import DatasetFacts


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


def build_batches(
    config: Config,
    spec: TrainingSpec,
    train: Split | FileSplit,
    facts: DatasetFacts,
    device: torch.device,
    group: Group = ALONE,
) -> tuple[BatchSource, dict[str, Any] | None]:
    """Build the batch source of a run; of files each process of a group gets its share.

    Returns
    -------
    batches : BatchSource
    extra : dict or None
        What run.json says of the extra images; None where there are none.

    Raises
    ------
    HarnessError
        If extra images are needed and not prepared, or fewer than the settings ask for,
        or a batch has too few images for the group.
    """
    size, seed = spec.train.batch_size, spec.parsed.seed
    if isinstance(train, FileSplit):
        crop = spec.crop or facts.size
        whole = Phase(epochs=spec.train.epochs, batch_size=size, crop=crop)
        phases, loaders = spec.train.phases or [whole], config.machine.loaders
        return FolderBatches(train, facts, phases, seed, device, loaders, group), None
    labelled = ImageStore(train, facts, device)
    if spec.mixed is None or spec.extra is None:
        return LabelledBatches(labelled, size, seed), None
    extra = load_extra(paths.prepared_file(config, spec.extra.name))
    split = stratified_subset(extra.split, spec.extra_images, "extra")
    store = ImageStore(split, facts, device)
    return MixedBatches(labelled, store, size, seed, spec.mixed.extra_fraction), extra.about()
