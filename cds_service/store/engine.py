"""The database connection: SQLite made durable, PostgreSQL by URL, and the schema brought up to date."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text

from cds_service.store.errors import named
from cds_service.store.places import data_folder

_LOCK = 0x6D696772
_FIRST = "v0001"
_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCKED_SECONDS = 5.0
SUPPORTED = ("sqlite", "postgresql")
"""The databases, by the names of SQLAlchemy."""


def database_of(url: str) -> URL:
    """The parsed URL, with the driver we install for PostgreSQL. Raises ArgumentError.

    >>> database_of("postgres://db.example.org/cards").drivername
    'postgresql+psycopg'
    """
    scheme, colon, rest = url.partition("://")
    driver = "postgresql+psycopg" if scheme in {"postgres", "postgresql"} else scheme
    return make_url(f"{driver}{colon}{rest}")


def open_engine(url: str, patience: float | None = None) -> Engine:
    """An engine for this database URL. Raises SQLAlchemy's and the driver's errors.

    `patience` is the timeout, in seconds, of a connection attempt, a lock and a statement.
    """
    waits = {} if patience is None or ":memory:" in url else {"pool_timeout": patience}
    engine = create_engine(database_of(url), pool_pre_ping=not url.startswith("sqlite"), **waits)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _durable(patience or _LOCKED_SECONDS))
        event.listen(engine, "begin", _begin)
    elif patience is not None and engine.dialect.name == "postgresql":
        event.listen(engine, "do_connect", _impatient(patience))
    return engine


@contextmanager
def reading(
    engine: Engine, failure: str = "the database cannot be read", *, at_once: bool = False
) -> Iterator[Connection]:
    """A connection for queries, which takes no lock of SQLite's writers. Raises StoreError with this message.

    `at_once`: all queries see the database as it is at the first, whatever is written meanwhile, as SQLite's do anyway.
    """
    with named(failure), engine.connect() as connection:
        if at_once and engine.dialect.name == "postgresql":
            connection.execution_options(isolation_level="REPEATABLE READ")
        yield connection.execution_options(reading=True)


def aware(moment: datetime) -> datetime:
    """The time with zone: SQLite returns times without it; all stored times are UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def file_of(url: str) -> Path | None:
    """The file of an SQLite database; None for another database, and for one in memory."""
    parsed = database_of(url)
    held = parsed.get_backend_name() != "sqlite" or parsed.database in {None, "", ":memory:"}
    return None if held or str(parsed.database).startswith("file:") else Path(str(parsed.database))


def default_key_file(url: str) -> Path | None:
    """The key file of a database: beside an SQLite file, else in the user's data folder; None for one in memory."""
    parsed, file = database_of(url), file_of(url)
    if file is not None:
        return file.with_name(f"{file.name}.key")
    return None if parsed.get_backend_name() == "sqlite" else data_folder() / f"{parsed.database or 'database'}.key"


def private_file(path: Path) -> None:
    """Makes the file readable by its owner only, and creates it so: SQLite would leave that to the umask.

    A file of another user is left as it is.
    """
    try:
        fresh = not path.exists()
        file = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        if fresh and os.geteuid() == 0:
            # Made by an operator for a service that runs as the owner of the folder.
            owner = path.parent.stat()
            os.fchown(file, owner.st_uid, owner.st_gid)
        os.close(file)
        for each in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
            if each.exists() and each.stat().st_mode & 0o077 and each.stat().st_uid == os.geteuid():
                each.chmod(0o600)
    except OSError:
        return  # the driver's own message says what is wrong


def _durable(seconds: float) -> Callable[[Any, Any], None]:
    def prepare(connection: Any, _: Any) -> None:
        # Transactions are begun by `_begin`, not by the driver at the first write.
        connection.isolation_level = None
        # WAL lets others read during a write; FULL keeps committed data through a power cut.
        cursor = connection.cursor()
        wait = f"busy_timeout={1000 * seconds:.0f}"
        # What is deleted is overwritten: the key of an older version, and what retention removes.
        for pragma in (wait, "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return prepare


def _impatient(seconds: float) -> Callable[..., Any]:
    """Adds a timeout on our side: PostgreSQL's own are kept by the server, which may have stopped answering."""
    import psycopg

    class Impatient(psycopg.Connection[Any]):
        def wait(self, gen: Any, *rest: Any, **more: Any) -> Any:
            return super().wait(self._until(gen, time.monotonic() + seconds), *rest, **more)

        def _until(self, gen: Any, deadline: float) -> Generator[Any, Any, Any]:
            """Runs the driver's wait steps until the deadline, which is checked every 0.1 seconds."""
            try:
                state = next(gen)
                while True:
                    ready = yield state
                    if time.monotonic() > deadline:
                        # An answer that arrives later would be taken for the answer to the next query.
                        self.pgconn.finish()
                        raise psycopg.OperationalError("the server does not answer")
                    state = gen.send(ready)
            except StopIteration as done:
                return done.value

    def connect(_dialect: Any, _record: Any, arguments: Any, parameters: Any) -> Any:
        return Impatient.connect(*arguments, **{"connect_timeout": max(2, round(seconds)), **parameters})

    return connect


def _begin(connection: Connection) -> None:
    # A reader that becomes a writer may find its snapshot outdated and cannot wait: so writers begin as writers.
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def upgrade(engine: Engine) -> None:
    """Migrates the schema to this version; one process at a time, the others wait."""
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        known = inspect(connection)
        versioned = known.has_table("alembic_version")
        if versioned and connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == newest():
            return  # the usual case; alembic is then not imported, which would stay in memory
        _migrate(connection, made_before_versions=not versioned and known.has_table("cards"))


def newest() -> str:
    """The name of the last migration: that of its file, up to the first underscore."""
    return max(path.name.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("v*_*.py"))


def _migrate(connection: Connection, *, made_before_versions: bool) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    if made_before_versions:
        command.stamp(config, _FIRST)
    command.upgrade(config, "head")
