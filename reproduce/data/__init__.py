"""Images: sources, one prepared form, subsets, augmentation on the device."""

from reproduce.data.batches import ImageStore
from reproduce.data.extra import ExtraImages, load_extra
from reproduce.data.mixed import MixedBatches
from reproduce.data.prepare import prepare
from reproduce.data.prepared import Dataset, Split, load_prepared
from reproduce.data.sources import BatchSource, LabelledBatches
from reproduce.data.subsets import hold_out, stratified_subset

__all__ = [
    "BatchSource",
    "Dataset",
    "ExtraImages",
    "ImageStore",
    "LabelledBatches",
    "MixedBatches",
    "Split",
    "hold_out",
    "load_extra",
    "load_prepared",
    "prepare",
    "stratified_subset",
]
