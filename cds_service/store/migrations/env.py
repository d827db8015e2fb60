"""Run by alembic inside the transaction that `store/engine.py` opened."""

from alembic import context

from cds_service.store.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
