"""Used token ids, modes, outcomes, the audit chain, and the client and user of a card."""

import sqlalchemy as sa
from alembic import op

revision = "v0002"
down_revision = "v0001"


def upgrade() -> None:
    for column in ("scope_hash:64", "client:128", "tenant:128", "shown:16"):
        name, _, width = column.partition(":")
        op.add_column("cards", sa.Column(name, sa.String(int(width))))
    op.create_index("ix_cards_created", "cards", ["created"])
    op.create_index("ix_cards_scope_hash", "cards", ["scope_hash"])
    op.create_table(
        "seen_tokens",
        sa.Column("fingerprint", sa.String(64), primary_key=True),
        sa.Column("expires", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_seen_tokens_expires", "seen_tokens", ["expires"])
    op.create_table(
        "modes",
        sa.Column("service", sa.String(64), primary_key=True),
        sa.Column("tenant", sa.String(128), primary_key=True),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("changed", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_table(
        "outcomes",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("card", sa.String(36), nullable=False),
        sa.Column("task", sa.String(64), nullable=False),
        sa.Column("happened", sa.Integer, nullable=False),
        sa.Column("received", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("outcomes_once", "outcomes", ["card", "task"], unique=True)
    op.create_table(
        "audit",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
        sa.Column("at", sa.String(40), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("subject", sa.String(64), nullable=False),
        sa.Column("body", sa.Text),
        sa.Column("body_hash", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    op.create_index("ix_audit_subject", "audit", ["subject"])
