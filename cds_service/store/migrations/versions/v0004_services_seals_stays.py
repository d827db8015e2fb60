"""The services that use the database, the seals of audit entries, and the stay of a card."""

import sqlalchemy as sa
from alembic import op

revision = "v0004"
down_revision = "v0003"


def upgrade() -> None:
    op.create_table(
        "services",
        sa.Column("name", sa.String(160), primary_key=True),
        sa.Column("started", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen", sa.DateTime(timezone=True), nullable=False),
        sa.Column("about", sa.Text, nullable=False),
    )
    op.add_column("audit", sa.Column("seal", sa.String(64)))
    op.add_column("cards", sa.Column("stay_hash", sa.String(64)))
    op.create_index("ix_cards_stay_hash", "cards", ["stay_hash"])
    op.create_index("ix_cards_hook_instance", "cards", ["hook_instance"])
    op.create_index("ix_cards_patient_hash", "cards", ["patient_hash"])
