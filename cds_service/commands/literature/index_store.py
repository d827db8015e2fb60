"""Index vectors in PostgreSQL: `--store` of `riskcards index build`, `update` and `search`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import click

from knowledge_index import KnowledgeIndex, Manifest
from knowledge_index.encoders import encoder_named
from knowledge_index.search import PgVectors, StoredVectors


def store_option(words: str) -> Callable[[Any], Any]:
    """`--store URL`. Passwords belong in `~/.pgpass` or PGPASSWORD: command lines are visible to other users."""
    return click.option("--store", metavar="postgresql://...", callback=_checked, help=words)


def _checked(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.match(r"postgres(ql)?://", value):
        raise click.BadParameter("expected postgresql://[user@]host[:port]/database")
    return value


def name_of(folder: Path) -> str:
    """Returns the table name for an index folder.

    >>> name_of(Path("/data/PubMed-2026")), name_of(Path("2026"))
    ('pubmed_2026', 'index_2026')
    """
    name = re.sub(r"[^a-z0-9]+", "_", folder.resolve().name.lower()).strip("_")
    return (name if name[:1].isalpha() else f"index_{name}")[:40]


def write_vectors_to(store: str | None, folder: Path, manifest: Manifest) -> None:
    """Replaces the vectors of this index in the store, if one is given."""
    if store is None:
        return
    with closing(PgVectors(store, name_of(folder))) as table:
        table.write(StoredVectors(manifest.inside(folder), manifest.vector_shards), manifest.vectors_fingerprint)
    click.echo(f"vectors written to PostgreSQL as {name_of(folder)!r}", err=True)


@contextmanager
def opened_with(store: str | None, folder: Path, encoder: str | None = None) -> Iterator[KnowledgeIndex]:
    """Yields the index, with vectors from the store if one is given; `encoder` replaces a moved encoder folder."""
    opened = None if encoder is None else encoder_named(encoder)
    if store is None:
        yield KnowledgeIndex.open(folder, opened)
        return
    with closing(PgVectors(store, name_of(folder))) as table:
        yield KnowledgeIndex.open(folder, opened, vectors=table)
