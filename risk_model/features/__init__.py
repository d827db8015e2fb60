"""Model inputs: the row of numbers computed from a record, its notes, time series and rubrics."""

from risk_model.features.inputs import MODIFIABLE, concept_of, describe_input
from risk_model.features.rubrics import Rubric, without_code_fence
from risk_model.features.time_series import RATIOS

__all__ = [
    "MODIFIABLE",
    "RATIOS",
    "Rubric",
    "concept_of",
    "describe_input",
    "without_code_fence",
]
