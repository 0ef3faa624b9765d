"""What a run is trained on: labelled images, alone or mixed with pseudo-labelled ones, or files."""

from typing import Any

import torch

from reproduce import paths
from reproduce.catalogue import DatasetFacts
from reproduce.config import Config, Phase
from reproduce.data import (
    BatchSource,
    FileSplit,
    FolderBatches,
    ImageStore,
    LabelledBatches,
    MixedBatches,
    Split,
    load_extra,
    stratified_subset,
)
from reproduce.distributed import ALONE, Group
from reproduce.specs import TrainingSpec


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
