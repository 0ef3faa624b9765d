"""Images: sources, one prepared form, subsets, augmentation on the device."""

from reproduce.data.batches import ImageStore
from reproduce.data.extra import ExtraImages, load_extra
from reproduce.data.load import load_prepared
from reproduce.data.mixed import MixedBatches
from reproduce.data.prepare import prepare
from reproduce.data.sources import BatchSource, LabelledBatches
from reproduce.data.splits import Dataset, FileSplit, Split
from reproduce.data.stores import EvaluationStore, FolderStore, StorePart, open_store
from reproduce.data.stream import FolderBatches, decoder_lost
from reproduce.data.subsets import hold_out, stratified_subset

__all__ = [
    "BatchSource",
    "Dataset",
    "EvaluationStore",
    "ExtraImages",
    "FileSplit",
    "FolderBatches",
    "FolderStore",
    "ImageStore",
    "LabelledBatches",
    "MixedBatches",
    "Split",
    "StorePart",
    "decoder_lost",
    "hold_out",
    "load_extra",
    "load_prepared",
    "open_store",
    "prepare",
    "stratified_subset",
]
