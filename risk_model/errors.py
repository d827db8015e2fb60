"""Errors of the model room. Abstaining is not an error: see `values.Abstention`.

RiskModelError
├── ModelArtifactError     a shipped or trained model is missing, altered, or of another schema: it is not opened
├── TrainingError          a cohort that cannot train or evaluate a model (no positives, one class in a fold, ...)
├── CohortError            a source no cohort can be built from, or a cohort folder that cannot be opened
├── TaskDefinitionError    a task file that breaks the schema: the field is named
└── UnknownTaskError       no such task
"""

from __future__ import annotations


class RiskModelError(Exception):
    """Base of every error this package raises on purpose."""


class ModelArtifactError(RiskModelError):
    def __init__(self, message: str, *, path: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path


class TrainingError(RiskModelError, ValueError):
    """The cohort cannot be used; the message says which rule it breaks."""


class CohortError(RiskModelError, ValueError):
    """No cohort can be built, or this folder is none; the message names what is missing and what to do."""


class TaskDefinitionError(RiskModelError, ValueError):
    """A task file breaks the schema. `field` is the path to the culprit, such as `label.concept.below`."""

    def __init__(self, message: str, *, file: str, field: str) -> None:
        super().__init__(f"{file}: {field}: {message}")
        self.file = file
        self.field = field


class UnknownTaskError(RiskModelError, LookupError):
    def __init__(self, task: str, known: tuple[str, ...]) -> None:
        super().__init__(f"unknown task {task!r}; known tasks: {', '.join(known)}")
        self.task = task
        self.known = known
