"""The tables. Their history is in `migrations/`; `tests/cds_service/store/test_store.py` checks that both agree."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, DateTime, Float, ForeignKey, Index, Integer, MetaData, String, Table, Text

METADATA = MetaData()
CARDS = Table(
    "cards",
    METADATA,
    Column("uuid", String(36), primary_key=True),
    Column("created", DateTime(timezone=True), nullable=False, index=True),
    Column("service", String(64), nullable=False),
    Column("hook_instance", String(36), nullable=False, index=True),
    Column("patient_hash", String(64), nullable=False, index=True),
    Column("summary_kind", String(16), nullable=False),
    # Client, user and display status: suppression and the alert rate are computed from these.
    Column("scope_hash", String(64), index=True),
    # The stay alone: outcomes are imported by it.
    Column("stay_hash", String(64), index=True),
    Column("client", String(128)),
    Column("tenant", String(128)),
    Column("shown", String(16)),
)
ESTIMATES = Table(
    "estimates",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("card", ForeignKey("cards.uuid"), nullable=False, index=True),
    Column("task", String(64), nullable=False),
    Column("probability", Float),
    Column("abstention", String(64)),
    Column("model", String(128), nullable=False),
    Column("drivers", Text, nullable=False),
)
SUGGESTIONS = Table(
    "suggestions",
    METADATA,
    Column("uuid", String(36), primary_key=True),
    Column("card", ForeignKey("cards.uuid"), nullable=False, index=True),
)
FEEDBACK = Table(
    "feedback",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("fingerprint", String(64), nullable=False, unique=True),
    Column("card", String(36), nullable=False, index=True),
    Column("received", DateTime(timezone=True), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("body", Text, nullable=False),
)
# A check value of the key, which is in a file.
SALT = Table("salt", METADATA, Column("id", Integer, primary_key=True), Column("value", String(64), nullable=False))
# The services that use this database: commands refuse one that none has used lately.
SERVICES = Table(
    "services",
    METADATA,
    Column("name", String(160), primary_key=True),
    Column("started", DateTime(timezone=True), nullable=False),
    Column("seen", DateTime(timezone=True), nullable=False),
    Column("about", Text, nullable=False),
)
SEEN_TOKENS = Table(
    "seen_tokens",
    METADATA,
    # sha256 of issuer and jti: an index of fixed width, and no client name in the database's logs.
    Column("fingerprint", String(64), primary_key=True),
    Column("expires", DateTime(timezone=True), nullable=False, index=True),
)
SEALED = Table(
    "sealed",
    METADATA,
    Column("kind", String(16), primary_key=True),
    # sha256 of the browser's secret: it cannot be recovered from the database.
    Column("fingerprint", String(64), primary_key=True),
    Column("expires", DateTime(timezone=True), nullable=False, index=True),
    Column("body", Text, nullable=False),
)
MODES = Table(
    "modes",
    METADATA,
    Column("service", String(64), primary_key=True),
    Column("tenant", String(128), primary_key=True),
    Column("mode", String(16), nullable=False),
    Column("changed", DateTime(timezone=True), nullable=False),
    Column("reason", Text, nullable=False),
)
# Patients whose data changed, until they are estimated again: `store/refresh_queue.py`.
REFRESH_JOBS = Table(
    "refresh_jobs",
    METADATA,
    # A keyed hash of server and resource: one job for one patient, however often it is asked for.
    Column("place", String(64), primary_key=True),
    Column("server", String(128), nullable=False, index=True),
    # Encrypted by the service: it names the patient.
    Column("body", Text, nullable=False),
    # How often it was asked for: a request that comes while a worker has the job is not lost with it.
    Column("asked", Integer, nullable=False),
    Column("due", DateTime(timezone=True), nullable=False, index=True),
    Column("attempts", Integer, nullable=False),
    Column("taken_until", DateTime(timezone=True)),
)
# How far the changes of a server have been read, by resource type.
REFRESH_POSITIONS = Table(
    "refresh_positions",
    METADATA,
    Column("server", String(128), primary_key=True),
    Column("kind", String(64), primary_key=True),
    Column("body", Text, nullable=False),
    Column("changed", DateTime(timezone=True), nullable=False),
)
OUTCOMES = Table(
    "outcomes",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("card", String(36), nullable=False),
    Column("task", String(64), nullable=False),
    Column("happened", Integer, nullable=False),
    Column("received", DateTime(timezone=True), nullable=False),
    Index("outcomes_once", "card", "task", unique=True),
)
AUDIT = Table(
    "audit",
    METADATA,
    # Numbered by the service under the chain's lock, not by the database: a gap means a missing entry.
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("at", String(40), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("subject", String(64), nullable=False, index=True),
    # Cleared by retention; the hash stays, so the chain still verifies.
    Column("body", Text),
    Column("body_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    # An authentication code with the key outside the database; entries from before version 4 have none.
    Column("seal", String(64)),
)
