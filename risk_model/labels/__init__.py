"""Labels: task definitions, predicates and timelines; planned and avoidable readmissions."""

from typing import TYPE_CHECKING

from artifact_store import lazy_exports

if TYPE_CHECKING:
    from risk_model.labels.task_definitions import find_definition, parse_task, shipped_definitions

__all__ = [
    "find_definition",
    "parse_task",
    "shipped_definitions",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "find_definition": "risk_model.labels.task_definitions",
        "parse_task": "risk_model.labels.task_definitions",
        "shipped_definitions": "risk_model.labels.task_definitions",
    },
)
