"""What attacks did to networks, image by image, and the metrics of it; no torch."""

from reproduce.records.metrics import ALL_METRICS, METRICS, Metrics, compute_metrics, worst_case
from reproduce.records.plausibility import check_accuracy, check_black_box
from reproduce.records.record import Record, is_current, read_record, write_record

__all__ = [
    "ALL_METRICS",
    "METRICS",
    "Metrics",
    "Record",
    "check_accuracy",
    "check_black_box",
    "compute_metrics",
    "is_current",
    "read_record",
    "worst_case",
    "write_record",
]
