"""The vectors of an index in a hospital's own PostgreSQL, with the pgvector extension.

Each index has its own table, created here, and one row in `riskcards_indexes` with the fingerprint of its encoder.
Every value is a parameter; table names are validated and quoted by the driver.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from knowledge_index.core.errors import ArtifactError, KnowledgeIndexError, RetrievalError
from knowledge_index.search.vector_stores import Found, Vectors, best_of, stacked

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}\Z")
_MOST_DIMENSIONS = 2000
"""pgvector's limit for an HNSW index over single-precision vectors."""
_EF_SEARCH = 200


class PgVectors:
    """A `VectorStore` in PostgreSQL.

    PgVectors(url, "pubmed").write(parts, fingerprint)      replaces the table in one transaction
    PgVectors(url, "pubmed").search(questions, k=10)        exact, or by HNSW after `build_hnsw`
    KnowledgeIndex.open(folder, vectors=PgVectors(url, "pubmed"))

    `url` is a libpq connection string. Raises `KnowledgeIndexError` without the driver, `ArtifactError` for a database
    that cannot be used, `RetrievalError` when the connection is lost later.
    """

    def __init__(self, url: str, name: str) -> None:
        if not _NAME.match(name):
            raise ArtifactError("a name is a letter, then letters, digits and _, 40 at most, lower case", path=name)
        try:
            import psycopg
            from pgvector.psycopg import register_vector
        except ImportError as error:
            raise KnowledgeIndexError(f"{error.name} is not installed: pip install 'riskcards[scale]'") from error
        self._failure = psycopg.Error
        self._sql = psycopg.sql
        self.name = name
        self._table = psycopg.sql.Identifier(f"riskcards_vectors_{name}")
        try:
            # Autocommit: a search leaves no transaction open; what writes opens its own.
            self._connection: Any = psycopg.connect(url, autocommit=True, connect_timeout=10)
            self._connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS riskcards_indexes (name text PRIMARY KEY, fingerprint text NOT NULL, "
                "dimensions integer NOT NULL)"
            )
            register_vector(self._connection)
        except psycopg.Error as error:
            raise ArtifactError(f"PostgreSQL cannot be used: {_first_line(error)}", path=name) from None

    @property
    def dimensions(self) -> int:
        return int(self._described()[1])

    @property
    def fingerprint(self) -> str:
        """The fingerprint given to `write`."""
        return str(self._described()[0])

    def _described(self) -> tuple[str, int]:
        row = self._ask(
            "SELECT fingerprint, dimensions FROM riskcards_indexes WHERE name = %s", (self.name,)
        ).fetchone()
        if row is None:
            raise ArtifactError("no vectors of that name in this database", path=self.name)
        return row[0], row[1]

    def __len__(self) -> int:
        return int(self._ask(self._in_table("SELECT count(*) FROM {}")).fetchone()[0])

    def close(self) -> None:
        self._connection.close()

    # Reading ---------------------------------------------------------------------------------------------------------

    def search(self, questions: Vectors, k: int) -> Found:
        question = self._in_table(
            "SELECT row, -(embedding <#> %(vector)s) FROM {} ORDER BY embedding <#> %(vector)s LIMIT %(k)s"
        )
        found = []
        for vector in np.asarray(questions, np.float32):
            rows = self._ask(question, {"vector": vector, "k": k}).fetchall()
            scores = np.array([score for _, score in rows], np.float32)
            found.append(best_of(scores, np.array([row for row, _ in rows], np.int64), k))
        return stacked(found)

    # Writing ---------------------------------------------------------------------------------------------------------

    def write(self, parts: Iterable[Vectors], fingerprint: str) -> None:
        """Replaces all vectors in one transaction; searches see the old ones until it commits."""
        with self._writing():
            self._connection.execute(self._in_table("DROP TABLE IF EXISTS {}"))
            first, dimensions = 0, 0
            for part in parts:
                if not dimensions:
                    dimensions = self._create(part.shape[1])
                self._copy(part, first)
                first += len(part)
            if not dimensions:
                raise ArtifactError("no vectors to write", path=self.name)
            self._connection.execute(
                "INSERT INTO riskcards_indexes VALUES (%s, %s, %s) ON CONFLICT (name) DO UPDATE "
                "SET fingerprint = excluded.fingerprint, dimensions = excluded.dimensions",
                (self.name, fingerprint, dimensions),
            )

    def add(self, vectors: Vectors, first: int) -> None:
        """Add rows numbered from `first`."""
        with self._writing():
            self._copy(vectors, first)

    def remove(self, rows: Sequence[int]) -> None:
        """Removes rows; PostgreSQL needs no compaction."""
        with self._writing():
            self._connection.execute(self._in_table("DELETE FROM {} WHERE row = ANY(%s)"), (list(rows),))

    def build_hnsw(self) -> None:
        """Builds an HNSW index; from then on search is approximate. For tables too large to scan."""
        name = self._sql.Identifier(f"riskcards_vectors_{self.name}_hnsw")
        statement = self._sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} USING hnsw (embedding vector_ip_ops)")
        with self._writing():
            self._connection.execute(statement.format(name, self._table))
        self._ask(f"SET hnsw.ef_search = {_EF_SEARCH}")

    def _create(self, dimensions: int) -> int:
        if not 0 < dimensions <= _MOST_DIMENSIONS:
            raise ArtifactError(f"{dimensions} dimensions; pgvector takes up to {_MOST_DIMENSIONS}", path=self.name)
        statement = self._sql.SQL("CREATE TABLE {} (row bigint PRIMARY KEY, embedding vector({}) NOT NULL)")
        self._connection.execute(statement.format(self._table, self._sql.Literal(dimensions)))
        return dimensions

    def _copy(self, vectors: Vectors, first: int) -> None:
        statement = self._in_table("COPY {} (row, embedding) FROM STDIN WITH (FORMAT BINARY)")
        with self._connection.cursor().copy(statement) as copy:
            copy.set_types(["int8", "vector"])
            for number, vector in enumerate(np.asarray(vectors, np.float32), first):
                copy.write_row((number, vector))

    def _writing(self) -> Any:
        return _Writing(self._connection, self._failure, self.name)

    def _in_table(self, statement: str) -> Any:
        return self._sql.SQL(statement).format(self._table)

    def _ask(self, statement: Any, parameters: Any = None) -> Any:
        try:
            return self._connection.execute(statement, parameters)
        except self._failure as error:
            raise RetrievalError(f"PostgreSQL did not answer: {_first_line(error)}") from None


class _Writing:
    """One transaction; a database error rolls it back and becomes an `ArtifactError`."""

    def __init__(self, connection: Any, failure: type[Exception], name: str) -> None:
        self._transaction, self._failure, self._name = connection.transaction(), failure, name

    def __enter__(self) -> None:
        self._transaction.__enter__()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._transaction.__exit__(kind, error, trace)
        if isinstance(error, self._failure):
            raise ArtifactError(f"PostgreSQL refused: {_first_line(error)}", path=self._name) from None


def _first_line(error: Exception) -> str:
    """The server's message without the statement, which may contain parameter values."""
    return (str(error).splitlines() or [error.__class__.__name__])[0]
