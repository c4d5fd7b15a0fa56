"""How Alembic runs our migrations: on the connection, and in the transaction, of schema.py."""

from alembic import context
from sqlalchemy import Connection

from sitpayd.storage.tables import METADATA

connection = context.config.attributes["connection"]
if not isinstance(connection, Connection):
    raise AssertionError("migrations run through sitpayd migrate, not through the alembic command")
context.configure(connection=connection, target_metadata=METADATA, render_as_batch=True)
context.run_migrations()
