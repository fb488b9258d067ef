"""What Alembic runs for every command; `migrate` hands it the connection and owns the transaction."""

from alembic import context

from api.migrations import VERSION_TABLE
from api.records import Record

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Record.metadata, version_table=VERSION_TABLE)
with context.begin_transaction():
    context.run_migrations()
