"""The starter evidence base: real PMIDs with MeSH headings, each finding summarised in one sentence by this project."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from knowledge_index.starter.__main__ import starter_articles

__all__ = [
    "starter_articles",
]

_MODULES = {
    "starter_articles": "knowledge_index.starter.__main__",
}


def __getattr__(name: str) -> Any:
    """Imports a public name's module when the name is first asked for (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
