"""Patients to estimate again, and how far the changes of a FHIR server have been read."""

import sqlalchemy as sa
from alembic import op

revision = "v0005"
down_revision = "v0004"


def upgrade() -> None:
    op.create_table(
        "refresh_jobs",
        sa.Column("place", sa.String(64), primary_key=True),
        sa.Column("server", sa.String(128), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("asked", sa.Integer, nullable=False),
        sa.Column("due", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("taken_until", sa.DateTime(timezone=True)),
    )
    op.create_index("ix_refresh_jobs_server", "refresh_jobs", ["server"])
    op.create_index("ix_refresh_jobs_due", "refresh_jobs", ["due"])
    op.create_table(
        "refresh_positions",
        sa.Column("server", sa.String(128), primary_key=True),
        sa.Column("kind", sa.String(64), primary_key=True),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("changed", sa.DateTime(timezone=True), nullable=False),
    )
