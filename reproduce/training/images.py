"""The images of a run: which it trains on, and which it is measured on."""

from dataclasses import dataclass, replace
from typing import Any

import torch

from reproduce.compute.distributed import ALONE, Group
from reproduce.config.schema import Config, Phase
from reproduce.data.batches import ImageStore, LabelledBatches, MixedBatches
from reproduce.data.dataset import hold_out, stratified_subset
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
    """Put the images of a run on its device; those of a folder are decoded on demand."""
    dataset = load_prepared(paths.prepared_file(config, spec.parsed.dataset))
    facts, loaders, seed = dataset.facts, config.machine.loaders, spec.parsed.seed
    shown = replace(facts, size=spec.crop or facts.size)
    train = stratified_subset(dataset.train, spec.train_images, "train")
    test = open_store(
        stratified_subset(dataset.test, spec.test_images, "test"), shown, device, loaders
    )
    val, size = None, spec.train.batch_size
    if spec.train.holdout:
        train, held_out = hold_out(train, spec.train.holdout)
        val = open_store(held_out, shown, device, loaders)
    checksum, about = dataset.sha256, dict[str, Any](dataset.about())
    batches: BatchSource
    if train.folder is not None:
        whole = Phase(epochs=spec.train.epochs, batch_size=size, crop=shown.size)
        phases = spec.train.phases or [whole]
        batches = FolderBatches(train, facts, phases, seed, device, loaders, group)
    elif spec.mixed is None or spec.extra is None:
        batches = LabelledBatches(ImageStore(train, facts, device), size, seed)
    else:
        extra, about["extra"] = load_extra(paths.prepared_file(config, spec.extra.name))
        checksum = f"{checksum} {about['extra']['sha256']}"
        split = stratified_subset(extra, spec.extra_images, "extra")
        labelled, more = ImageStore(train, facts, device), ImageStore(split, facts, device)
        batches = MixedBatches(labelled, more, size, seed, spec.mixed.extra_fraction)
    return RunImages(facts, batches, test, val, checksum, about)
