"""Labels: task definitions, predicates and timelines; planned and avoidable readmissions."""

from typing import TYPE_CHECKING

from artifact_store import lazy_exports

if TYPE_CHECKING:
    from risk_model.labels.aces_config import AcesTask
    from risk_model.labels.aces_labels import AcesLabels, write_labels
    from risk_model.labels.given_labels import GivenLabels, task_of_labels
    from risk_model.labels.task_definitions import find_definition, parse_task, shipped_definitions

__all__ = [
    "AcesLabels",
    "AcesTask",
    "GivenLabels",
    "find_definition",
    "parse_task",
    "shipped_definitions",
    "task_of_labels",
    "write_labels",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "AcesLabels": "risk_model.labels.aces_labels",
        "AcesTask": "risk_model.labels.aces_config",
        "GivenLabels": "risk_model.labels.given_labels",
        "find_definition": "risk_model.labels.task_definitions",
        "parse_task": "risk_model.labels.task_definitions",
        "shipped_definitions": "risk_model.labels.task_definitions",
        "task_of_labels": "risk_model.labels.given_labels",
        "write_labels": "risk_model.labels.aces_labels",
    },
)
