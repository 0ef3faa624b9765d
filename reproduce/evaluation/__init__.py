"""Attacking checkpoints: predictions, per-example records, metrics."""

from reproduce.evaluation.checks import check_black_box
from reproduce.evaluation.metrics import METRICS, Metrics, compute_metrics, worst_case
from reproduce.evaluation.predictions import Predictions, attack_images
from reproduce.evaluation.records import Record, read_record, write_record

__all__ = [
    "METRICS",
    "Metrics",
    "Predictions",
    "Record",
    "attack_images",
    "check_black_box",
    "compute_metrics",
    "read_record",
    "worst_case",
    "write_record",
]
