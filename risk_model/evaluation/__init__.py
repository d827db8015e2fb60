"""Models on cohorts they never saw: datasets, metrics, comparators, subgroups."""

from risk_model.evaluation.dataset import TRAINING, Dataset, DatasetSources, dataset_fingerprint, read_training_dataset
from risk_model.evaluation.evaluate import predict_cohort, write_evaluation
from risk_model.evaluation.metrics import measure, subgroup_metrics

__all__ = [
    "TRAINING",
    "Dataset",
    "DatasetSources",
    "dataset_fingerprint",
    "measure",
    "predict_cohort",
    "read_training_dataset",
    "subgroup_metrics",
    "write_evaluation",
]
