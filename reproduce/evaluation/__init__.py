"""Attacking checkpoints: predictions, and runs of attacks over all images."""

from reproduce.evaluation.predictions import (
    CleanPredictions,
    Predictions,
    attack_images,
    predict_images,
)

__all__ = ["CleanPredictions", "Predictions", "attack_images", "predict_images"]
