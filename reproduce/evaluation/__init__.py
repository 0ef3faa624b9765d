"""Attacking checkpoints: predictions, per-example records, metrics."""

from reproduce.evaluation.checks import check_black_box
from reproduce.evaluation.metrics import ALL_METRICS, METRICS, Metrics, compute_metrics, worst_case
from reproduce.evaluation.predictions import (
    CleanPredictions,
    Predictions,
    attack_images,
    predict_images,
)
from reproduce.evaluation.records import Record, read_record, write_record

__all__ = [
    "ALL_METRICS",
    "METRICS",
    "CleanPredictions",
    "Metrics",
    "Predictions",
    "Record",
    "attack_images",
    "check_black_box",
    "compute_metrics",
    "predict_images",
    "read_record",
    "worst_case",
    "write_record",
]
