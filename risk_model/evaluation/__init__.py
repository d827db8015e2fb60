"""Models on cohorts they never saw: datasets, metrics, comparators, subgroups."""

from typing import TYPE_CHECKING

from artifact_store import lazy_exports

if TYPE_CHECKING:
    from risk_model.evaluation.cohorts_seen import dataset_fingerprint
    from risk_model.evaluation.dataset import (
        TRAINING,
        Dataset,
        DatasetSources,
        read_training_dataset,
    )
    from risk_model.evaluation.evaluate import predict_cohort, write_evaluation
    from risk_model.evaluation.metrics import measure, subgroup_metrics
    from risk_model.evaluation.predictions import Prediction, parquet_available, write_predictions

__all__ = [
    "TRAINING",
    "Dataset",
    "DatasetSources",
    "Prediction",
    "dataset_fingerprint",
    "measure",
    "parquet_available",
    "predict_cohort",
    "read_training_dataset",
    "subgroup_metrics",
    "write_evaluation",
    "write_predictions",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "Dataset": "risk_model.evaluation.dataset",
        "DatasetSources": "risk_model.evaluation.dataset",
        "Prediction": "risk_model.evaluation.predictions",
        "TRAINING": "risk_model.evaluation.dataset",
        "dataset_fingerprint": "risk_model.evaluation.cohorts_seen",
        "measure": "risk_model.evaluation.metrics",
        "parquet_available": "risk_model.evaluation.predictions",
        "predict_cohort": "risk_model.evaluation.evaluate",
        "read_training_dataset": "risk_model.evaluation.dataset",
        "subgroup_metrics": "risk_model.evaluation.metrics",
        "write_evaluation": "risk_model.evaluation.evaluate",
        "write_predictions": "risk_model.evaluation.predictions",
    },
)
