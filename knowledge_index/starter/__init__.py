"""The starter evidence base: real PMIDs with MeSH headings, each finding summarised in one sentence by this project."""

from typing import TYPE_CHECKING

from artifact_store import lazy_exports

if TYPE_CHECKING:
    from knowledge_index.starter.__main__ import starter_articles

__all__ = [
    "starter_articles",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "starter_articles": "knowledge_index.starter.__main__",
    },
)
