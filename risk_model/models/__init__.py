"""Served models: estimates with intervals and drivers, and drift."""

from risk_model.models.conformal import age_band, describe_prediction_set
from risk_model.models.drift import (
    FEWEST,
    SHIFTED,
    WATCH,
    Drift,
    compare_distributions,
    compare_sample,
    compare_training_input,
    compare_training_probabilities,
    missingness,
    wilson_interval,
)
from risk_model.models.estimator import shipped_folder

__all__ = [
    "FEWEST",
    "SHIFTED",
    "WATCH",
    "Drift",
    "age_band",
    "compare_distributions",
    "compare_sample",
    "compare_training_input",
    "compare_training_probabilities",
    "describe_prediction_set",
    "missingness",
    "shipped_folder",
    "wilson_interval",
]
