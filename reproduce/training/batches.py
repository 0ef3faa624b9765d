"""What a run is trained on: labelled images, alone or mixed with pseudo-labelled ones."""

from typing import Any

from reproduce import paths
from reproduce.config import Config
from reproduce.data import (
    BatchSource,
    ImageStore,
    LabelledBatches,
    MixedBatches,
    load_extra,
    stratified_subset,
)
from reproduce.specs import TrainingSpec


def build_batches(
    config: Config, spec: TrainingSpec, labelled: ImageStore
) -> tuple[BatchSource, dict[str, Any] | None]:
    """Build the batch source of a run, on the device of its labelled images.

    Returns
    -------
    batches : BatchSource
    extra : dict or None
        What run.json says of the extra images; None where there are none.

    Raises
    ------
    HarnessError
        If extra images are needed and not prepared, or fewer than the settings ask for.
    """
    size, seed = spec.train.batch_size, spec.parsed.seed
    if spec.mixed is None or spec.extra is None:
        return LabelledBatches(labelled, size, seed), None
    extra = load_extra(paths.prepared_file(config, spec.extra.name))
    split = stratified_subset(extra.split, spec.extra_images, "extra")
    store = ImageStore(split, labelled.facts, labelled.device)
    return MixedBatches(labelled, store, size, seed, spec.mixed.extra_fraction), extra.about()
