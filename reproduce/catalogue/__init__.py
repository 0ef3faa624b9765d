"""What the harness knows by name: data sets, network architectures, training methods.

Facts only, no torch: the command line and the Snakefile read them in milliseconds.
"""

from reproduce.catalogue.architectures import Architecture, parse_architecture, width_label
from reproduce.catalogue.datasets import DATASETS, DatasetFacts, dataset_facts
from reproduce.catalogue.extra import EXTRA, ExtraFacts, extra_facts, extra_of
from reproduce.catalogue.methods import METHODS, Method, check_lambda, find_method
from reproduce.catalogue.zoo import ZOO_ID, check_zoo_id

__all__ = [
    "DATASETS",
    "EXTRA",
    "METHODS",
    "ZOO_ID",
    "Architecture",
    "DatasetFacts",
    "ExtraFacts",
    "Method",
    "check_lambda",
    "check_zoo_id",
    "dataset_facts",
    "extra_facts",
    "extra_of",
    "find_method",
    "parse_architecture",
    "width_label",
]
