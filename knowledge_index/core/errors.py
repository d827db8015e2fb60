"""Errors of `knowledge_index`.

KnowledgeIndexError
├── ArticleError           an article record cannot be read; names file and record
├── ArtifactError          an index or model file is missing, altered or of another format: it is not opened
├── EncoderError           the encoder cannot be loaded (names the package or extra to install)
├── RetrievalError         a query that cannot be answered, such as an unknown retriever name
└── SourceError            a remote source of articles cannot be read, or its answer is malformed
"""

from __future__ import annotations

# The extra that brings a package, and the make target that installs it in a checkout.
_TARGETS = {"llm": "llm", "llama": "llm", "report": "dev"}


def not_installed(package: str, then: str = "", *, extra: str = "llm") -> str:
    """The error message for a missing optional package; `then` names a step that the extra does not cover.

    >>> not_installed("torch")
    'torch is not installed: pip install "riskcards[llm]" (in a checkout: make llm)'
    >>> not_installed("matplotlib", extra="report")
    'matplotlib is not installed: pip install "riskcards[report]" (in a checkout: make dev)'
    """
    further = then and f", then {then}"
    return (
        f'{package} is not installed: pip install "riskcards[{extra}]"{further} (in a checkout: make {_TARGETS[extra]})'
    )


class KnowledgeIndexError(Exception):
    """Base class of this package's errors."""


class ArticleError(KnowledgeIndexError, ValueError):
    def __init__(self, message: str, *, file: str, record: str) -> None:
        super().__init__(f"{file}, record {record}: {message}")
        self.file = file
        self.record = record


class ArtifactError(KnowledgeIndexError):
    def __init__(self, message: str, *, path: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path


class EncoderError(KnowledgeIndexError):
    """The encoder cannot be loaded; the message names what to install."""


class RetrievalError(KnowledgeIndexError, ValueError):
    """The query cannot be answered as asked."""


class SourceError(KnowledgeIndexError):
    """A remote source cannot be read. `passing` is true where a retry may succeed."""

    def __init__(self, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing
