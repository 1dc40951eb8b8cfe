"""Run by Alembic: migrates on the connection that `amqpjobs.state.store.migrate` hands over."""

from alembic import context

import amqpjobs.state.status.table
import amqpjobs.state.store.tables  # noqa: F401
from amqpjobs.state.store.metadata import VERSIONS, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSIONS,
)
context.run_migrations()
