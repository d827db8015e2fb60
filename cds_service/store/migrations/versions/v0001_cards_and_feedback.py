"""Cards, their estimates and suggestions, feedback, and the salt of patient hashes."""

import sqlalchemy as sa
from alembic import op

revision = "v0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "cards",
        sa.Column("uuid", sa.String(36), primary_key=True),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("service", sa.String(64), nullable=False),
        sa.Column("hook_instance", sa.String(36), nullable=False),
        sa.Column("patient_hash", sa.String(64), nullable=False),
        sa.Column("summary_kind", sa.String(16), nullable=False),
    )
    op.create_table(
        "estimates",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("card", sa.String(36), sa.ForeignKey("cards.uuid"), nullable=False),
        sa.Column("task", sa.String(64), nullable=False),
        sa.Column("probability", sa.Float),
        sa.Column("abstention", sa.String(64)),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("drivers", sa.Text, nullable=False),
    )
    op.create_index("ix_estimates_card", "estimates", ["card"])
    op.create_table(
        "suggestions",
        sa.Column("uuid", sa.String(36), primary_key=True),
        sa.Column("card", sa.String(36), sa.ForeignKey("cards.uuid"), nullable=False),
    )
    op.create_index("ix_suggestions_card", "suggestions", ["card"])
    op.create_table(
        "feedback",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("fingerprint", sa.String(64), nullable=False, unique=True),
        sa.Column("card", sa.String(36), nullable=False),
        sa.Column("received", sa.DateTime(timezone=True), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_index("ix_feedback_card", "feedback", ["card"])
    op.create_table(
        "salt", sa.Column("id", sa.Integer, primary_key=True), sa.Column("value", sa.String(64), nullable=False)
    )
