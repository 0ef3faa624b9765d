"""The images of a run: which it trains on, and which it is measured on."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from reproduce.compute.distributed import ALONE, Group
from reproduce.config.schema import Config, Phase
from reproduce.data.batches import ImageStore, LabelledBatches, MixedBatches
from reproduce.data.dataset import Dataset, Split, hold_out, stratified_subset
from reproduce.data.imagenet import BatchSource, EvaluationStore, FolderBatches, open_store
from reproduce.data.sources import load_extra, load_prepared
from reproduce.experiments import paths
from reproduce.experiments.spec import TrainingSpec
from reproduce.registry import DatasetFacts


@dataclass(frozen=True)
class RunImages:
    """What a run is trained on (`batches`) and measured on (`test`, `val`), on its device."""

    facts: DatasetFacts
    batches: BatchSource
    test: EvaluationStore
    val: EvaluationStore | None
    """None where no images are held out."""
    checksum: str
    """Of the data set, and after a blank of the extra images."""
    about: dict[str, Any]
    """What run.json says of them."""


def open_images(
    config: Config, spec: TrainingSpec, device: torch.device, group: Group = ALONE
) -> RunImages:
    """Put the images of a run on its device; those of a folder are decoded on demand.

    HarnessError if they are not prepared, damaged, or fewer than the settings ask for.
    """
    dataset = load_prepared(paths.prepared_file(config, spec.parsed.dataset))
    splits, loaders = split_dataset(spec, dataset), config.machine.loaders
    facts = dataset.facts if spec.crop is None else replace(dataset.facts, size=spec.crop)
    test = open_store(splits.test, facts, device, loaders)
    val = None if splits.val is None else open_store(splits.val, facts, device, loaders)
    checksum, about = dataset.sha256, dict[str, Any](dataset.about())
    batches, extra = build_batches(config, spec, splits.train, dataset.facts, device, group)
    if extra is not None:
        checksum, about["extra"] = f"{checksum} {extra['sha256']}", extra
    return RunImages(dataset.facts, batches, test, val, checksum, about)


class Splits(NamedTuple):
    """The images a run uses; `val` only where some are held out."""

    train: Split
    test: Split
    val: Split | None


def split_dataset(spec: TrainingSpec, dataset: Dataset) -> Splits:
    """Choose the images of a run; HarnessError if there are fewer than are asked for."""
    train = stratified_subset(dataset.train, spec.train_images, "train")
    test = stratified_subset(dataset.test, spec.test_images, "test")
    if not spec.train.holdout:
        return Splits(train, test, None)
    train, held_out = hold_out(train, spec.train.holdout)
    return Splits(train, test, held_out)


def build_batches(
    config: Config,
    spec: TrainingSpec,
    train: Split,
    facts: DatasetFacts,
    device: torch.device,
    group: Group = ALONE,
) -> tuple[BatchSource, dict[str, Any] | None]:
    """Return the batches of a run (of files: this process's share), and what its extra images are.

    HarnessError if extra images are not prepared or too few, or a batch is too small for the group.
    """
    size, seed = spec.train.batch_size, spec.parsed.seed
    if train.folder is not None:
        crop = spec.crop or facts.size
        whole = Phase(epochs=spec.train.epochs, batch_size=size, crop=crop)
        phases, loaders = spec.train.phases or [whole], config.machine.loaders
        return FolderBatches(train, facts, phases, seed, device, loaders, group), None
    labelled = ImageStore(train, facts, device)
    if spec.mixed is None or spec.extra is None:
        return LabelledBatches(labelled, size, seed), None
    extra, about = load_extra(paths.prepared_file(config, spec.extra.name))
    split = stratified_subset(extra, spec.extra_images, "extra")
    store = ImageStore(split, facts, device)
    return MixedBatches(labelled, store, size, seed, spec.mixed.extra_fraction), about
