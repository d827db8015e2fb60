"""The database connection: SQLite made durable, PostgreSQL by URL, and the schema brought up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text

_LOCK = 0x6D696772
_FIRST = "v0001"


def open_engine(url: str) -> Engine:
    """An engine whose connections are as careful as we need. Raises SQLAlchemy's and the driver's errors."""
    if url.startswith("postgresql://"):
        url = url.replace("postgresql://", "postgresql+psycopg://", 1)
    engine = create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _durable)
        event.listen(engine, "begin", _begin)
    return engine


def _durable(connection: Any, _: Any) -> None:
    # Transactions are begun by `_begin`, not by the driver at the first write.
    connection.isolation_level = None
    # WAL lets readers go on while one writes; FULL keeps what was acknowledged through a power cut.
    cursor = connection.cursor()
    for pragma in ("busy_timeout=5000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    # A reader that turns writer half-way may find its snapshot too old and cannot wait: writers say so at once.
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def upgrade(engine: Engine) -> None:
    """Bring the schema to this version; one process at a time, the others wait."""
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    head = ScriptDirectory.from_config(config).get_current_head()
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        current = MigrationContext.configure(connection).get_current_revision()
        if current == head:
            return
        config.attributes["connection"] = connection
        if current is None and inspect(connection).has_table("cards"):
            # Made before the schema had versions.
            command.stamp(config, _FIRST)
        command.upgrade(config, "head")
