"""Errors of the risk_model package. An abstention is not an error: see `values.Abstention`.

RiskModelError
├── ModelArtifactError     a shipped or trained model is missing, altered, or of another schema: it is not opened
├── TrainingError          a cohort that cannot train or evaluate a model (no positives, one class in a fold, ...)
├── CohortError            a source no cohort can be built from, or a cohort folder that cannot be opened
├── TaskDefinitionError    a task file that breaks the schema: the field is named
├── LanguageModelError     no answer from a language model: too slow, unreachable, refused
│   └── AnswerError        an answer of another shape than was asked for
├── MissingExtraError      a package of an extra (`llm`, `report`) is not installed
└── UnknownTaskError       no such task
"""

from __future__ import annotations

from knowledge_index.core import not_installed


class RiskModelError(Exception):
    """Base of every error that this package raises."""


class ModelArtifactError(RiskModelError):
    def __init__(self, message: str, *, path: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path


class TrainingError(RiskModelError, ValueError):
    """The cohort cannot be used; the message names the reason."""


class CohortError(RiskModelError, ValueError):
    """No cohort can be built, or the folder is not a cohort; the message names what is missing and what to do."""


class TaskDefinitionError(RiskModelError, ValueError):
    """A task file violates the schema. `field` is the path of the invalid field, such as `label.concept.below`."""

    def __init__(self, message: str, *, file: str, field: str) -> None:
        super().__init__(f"{file}: {field}: {message}")
        self.file = file
        self.field = field


class UnknownTaskError(RiskModelError, LookupError):
    def __init__(self, task: str, known: tuple[str, ...]) -> None:
        super().__init__(f"unknown task {task!r}; known tasks: {', '.join(known)}")
        self.task = task
        self.known = known


class LanguageModelError(RiskModelError):
    """A language model gave no answer. `reason` is a stable code without patient data."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class AnswerError(LanguageModelError):
    """A language model's answer violates the schema; the answer is not kept."""

    def __init__(self, detail: str = "") -> None:
        super().__init__("not-an-answer", detail)


class MissingExtraError(RiskModelError, ImportError):
    """A package of an extra is not installed; the message says how to install it."""

    def __init__(self, package: str, then: str = "", *, extra: str = "llm") -> None:
        super().__init__(not_installed(package, then, extra=extra))
        self.package = package
