"""Labels: task definitions, predicates and timelines; planned and avoidable readmissions."""

from risk_model.labels.task_definitions import find_definition, parse_task, shipped_definitions

__all__ = [
    "find_definition",
    "parse_task",
    "shipped_definitions",
]
